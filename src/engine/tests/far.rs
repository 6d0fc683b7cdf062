//! Tasks whose time is far: kept outside of memory, loaded in time, whatever the scratch file does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use super::flaky::open_flaky;
use super::world::{ask, open, ready};
use crate::delivery::far::FarRules;
use crate::engine::Engine;
use crate::engine::append::TaskDraft;
use crate::engine::groups::Start;
use crate::engine::scratch::SCRATCH_FILE;
use crate::engine::settle::Settle;
use crate::engine::task::TaskState;
use crate::error::DamageKind;
use crate::format::fields::Traits;
use crate::sim::{Loss, SimDisk};
use crate::storage::{Prepare, Storage};
use crate::types::{Durability, LaneId, Now, TaskId, Timestamp};

const NOW: Now = Now { boot_ms: 1_000, wall: Timestamp(1_000_000) };
const LANE: LaneId = LaneId(0);
/// Far is what is due in a fifth of a second or more, and a run has two pages.
const FAR: FarRules = FarRules { near_ms: 100, run_entries: 6, page_entries: 4, loaded_max: 1_000 };
const HOUR_MS: u64 = 3_600_000;

fn later(ms: u64) -> Now {
    Now { boot_ms: NOW.boot_ms + ms, wall: Timestamp(NOW.wall.0 + ms) }
}

/// Enqueues a task that is due so many milliseconds from the start.
fn enqueue(engine: &Engine, ms: u64) -> TaskId {
    let traits = Traits { run_at: Some(Timestamp(NOW.wall.0 + ms)), ..Traits::default() };
    let mut fields = Vec::new();
    traits.encode(&mut fields);
    let draft = TaskDraft { fields: &fields, special: true, ..TaskDraft::plain(b"later", Durability::Process) };
    let appended = ready(engine, || engine.append(LANE, &draft, NOW.wall)).unwrap();
    TaskId { queue: engine.queue(), lane: LANE, seq: appended.first }
}

/// Tasks due within ten seconds, in no order.
fn enqueue_many(engine: &Engine, count: u64) -> BTreeMap<TaskId, u64> {
    let due = |number: u64| 250 + number.wrapping_mul(0x9E37_79B9_7F4A_7C15) % 10_000;
    (0..count).map(|number| (enqueue(engine, due(number)), due(number))).collect()
}

/// Takes and acks what there is.
fn take(engine: &Engine, now: Now) -> Vec<TaskId> {
    let cell = engine.group("default").unwrap();
    let handed = engine.reserve(&cell, &ask(1_000), now, |one| one.receipt).unwrap();
    engine.settle(&cell, handed.iter().copied(), Settle::Ack, now).unwrap();
    handed.into_iter().map(|receipt| receipt.task).collect()
}

fn delayed(engine: &Engine, now: Now) -> u64 {
    engine.stats(now).groups[0].lanes[0].delayed
}

fn state(engine: &Engine, id: TaskId, now: Now) -> TaskState {
    engine.task(id, now).unwrap().unwrap().states[0].1.clone()
}

/// Goes from one moment at which there is work to the next, as the janitor does, until `until_ms`; each task must come
/// within a millisecond of its time, and once. Gives which did.
fn run(engine: &Engine, due: &BTreeMap<TaskId, u64>, until_ms: u64) -> BTreeSet<TaskId> {
    let mut come = BTreeSet::new();
    let mut ms = 0;
    while ms < until_ms {
        let next = engine.tick(later(ms)).unwrap().map_or(u64::MAX, |at| at.saturating_sub(NOW.boot_ms));
        ms = next.clamp(ms + 1, until_ms);
        for id in take(engine, later(ms)) {
            assert!((due[&id]..=due[&id] + 1).contains(&ms), "{id} is due at {} and comes at {ms}", due[&id]);
            assert!(come.insert(id), "{id} comes twice");
        }
    }
    come
}

#[test]
fn far_tasks_come_at_their_time_whether_the_scratch_file_can_be_written_and_read_or_not() {
    for (writes_fail, reads_fail) in [(false, false), (true, false), (false, true)] {
        let (engine, switches) = open_flaky(&SimDisk::new(1), NOW);
        let engine = engine.putting_far(FAR);
        let due = enqueue_many(&engine, 50);
        switches.scratch_writes.store(writes_fail, Ordering::SeqCst);
        switches.scratch_reads.store(reads_fail, Ordering::SeqCst);
        assert!(take(&engine, NOW).is_empty());
        assert_eq!(delayed(&engine, NOW), 50);
        assert_eq!(engine.stats(NOW).scratch_bytes > 0, !writes_fail);
        assert_eq!(run(&engine, &due, 11_000).len(), 50, "writes fail: {writes_fail}, reads fail: {reads_fail}");
        assert_eq!((delayed(&engine, NOW), engine.stats(NOW).scratch_bytes), (0, 0), "all space is given back");
        assert!(engine.damage().is_empty(), "a scratch file that fails is no damage");
        engine.check_poison().unwrap();
    }
}

#[test]
fn a_disk_without_room_leaves_far_tasks_in_memory_and_room_again_takes_them() {
    let disk = SimDisk::new(2);
    let engine = open(&disk, NOW).unwrap().putting_far(FAR);
    let mut due = enqueue_many(&engine, 20);
    disk.set_space(Some(0));
    assert!(take(&engine, NOW).is_empty());
    assert_eq!(engine.stats(NOW).scratch_bytes, 0);
    disk.set_space(None);
    due.extend(enqueue_many(&engine, 20));
    assert!(take(&engine, NOW).is_empty());
    assert!(engine.stats(NOW).scratch_bytes > 0);
    assert_eq!(run(&engine, &due, 11_000).len(), 40);
}

#[test]
fn the_scratch_file_has_no_name_and_one_that_a_death_left_is_swept() {
    let disk = SimDisk::new(3);
    let engine = open(&disk, NOW).unwrap().putting_far(FAR);
    let due = enqueue_many(&engine, 50);
    assert!(take(&engine, NOW).is_empty());
    assert!(disk.files().iter().all(|(name, _)| name != SCRATCH_FILE));
    let found = disk.restart(Loss::Process);
    found.create(SCRATCH_FILE, 100, Prepare::Rare).unwrap();
    for sweeps in [true, false] {
        // Whoever comes first: the janitor, or the first run that is to be written.
        let disk = found.restart(Loss::Process);
        let engine = open(&disk, NOW).unwrap().putting_far(FAR);
        if sweeps {
            engine.sweep_strays();
        }
        assert!(take(&engine, NOW).is_empty() && engine.stats(NOW).scratch_bytes > 0);
        assert!(disk.files().iter().all(|(name, _)| name != SCRATCH_FILE));
        assert!(engine.damage().is_empty());
        assert_eq!(run(&engine, &due, 11_000).len(), 50, "a death forgets none of them");
    }
}

#[test]
fn a_life_with_far_tasks_alone_is_kept_over_checkpoints_and_reopens() {
    let disk = SimDisk::new(4);
    let engine = open(&disk, NOW).unwrap().putting_far(FAR);
    let mut due = BTreeMap::new();
    for number in 0..60 {
        enqueue(&engine, 0);
        if number % 10 == 0 {
            due.insert(enqueue(&engine, HOUR_MS), HOUR_MS);
        }
    }
    assert_eq!(take(&engine, NOW).len(), 60);
    engine.sync_all(NOW.wall).unwrap();
    for clean in [false, false, true] {
        engine.checkpoint(NOW, clean).unwrap();
    }
    let engine = open(&disk.restart(Loss::Power), NOW).unwrap().putting_far(FAR);
    assert!(take(&engine, NOW).is_empty());
    assert_eq!(delayed(&engine, NOW), 6);
    assert_eq!(run(&engine, &due, HOUR_MS + 10).len(), 6);
}

#[test]
fn far_tasks_are_cancelled_parked_and_purged_by_id_and_shown_with_their_time() {
    let engine = open(&SimDisk::new(5), NOW).unwrap().putting_far(FAR);
    let cell = engine.group("default").unwrap();
    let ids: Vec<TaskId> = (0..20).map(|_| enqueue(&engine, HOUR_MS)).collect();
    assert!(take(&engine, NOW).is_empty());
    let due = Timestamp(NOW.wall.0 + HOUR_MS);
    assert_eq!(state(&engine, ids[0], NOW), TaskState::Delayed { attempts: 0, due });
    let explained = engine.explain(&cell, ids[0], NOW).unwrap().unwrap();
    assert_eq!(explained.reasons, [format!("delayed until {} ms", due.0)]);
    assert_eq!(engine.peek(&cell, LANE, 100, NOW).unwrap().len(), 20);

    assert_eq!(engine.cancel(ids[0], NOW).unwrap().tasks, 1);
    assert_eq!(engine.cancel(ids[0], NOW).unwrap().tasks, 0, "once");
    assert_eq!(engine.park_by_hand(&cell, ids[1], "not yet", NOW).unwrap().tasks, 1);
    assert_eq!(state(&engine, ids[0], NOW), TaskState::Acked);
    assert_eq!(delayed(&engine, NOW), 18);
    let come: BTreeSet<TaskId> = take(&engine, later(HOUR_MS)).into_iter().collect();
    assert_eq!(come, ids[2..].iter().copied().collect());

    let purged = enqueue(&engine, 3 * HOUR_MS);
    assert!(take(&engine, later(HOUR_MS)).is_empty());
    engine.purge(LANE, later(HOUR_MS)).unwrap();
    assert_eq!((delayed(&engine, NOW), state(&engine, purged, NOW)), (0, TaskState::Acked));
    assert!(take(&engine, later(5 * HOUR_MS)).is_empty());
    // Nothing keeps the lives of what is settled; the parked task keeps nothing before the purge either.
    engine.checkpoint(NOW, false).unwrap();
    assert_eq!(engine.stats(NOW).groups[0].lanes[0].depth, 0);
}

#[test]
fn every_group_waits_by_itself() {
    let engine = open(&SimDisk::new(6), NOW).unwrap().putting_far(FAR);
    engine.create_group("other", Start::Oldest, crate::types::Retention::default(), NOW).unwrap();
    let due = enqueue_many(&engine, 30);
    let other = engine.group("other").unwrap();
    assert!(engine.reserve(&other, &ask(9), NOW, drop).unwrap().is_empty());
    assert_eq!(run(&engine, &due, 11_000).len(), 30);
    let handed = engine.reserve(&other, &ask(100), later(11_000), |one| one.receipt.task).unwrap();
    assert_eq!(handed.into_iter().collect::<BTreeSet<_>>(), due.into_keys().collect());
    assert_eq!(engine.stats(NOW).scratch_bytes, 0);
}

#[test]
fn far_tasks_in_a_segment_that_cannot_be_read_are_reported_and_wait_for_a_reopen() {
    let disk = SimDisk::new(7);
    let engine = open(&disk, NOW).unwrap();
    let due = enqueue_many(&engine, 100);
    engine.checkpoint(NOW, true).unwrap();
    drop(engine);
    let (engine, switches) = open_flaky(&disk, NOW);
    let engine = engine.putting_far(FAR);
    assert!(take(&engine, NOW).is_empty());
    // What the cursor left is mapped no more once nobody reads it; here every map of old is made to fail at once.
    switches.maps.store(true, Ordering::SeqCst);
    engine.lanes().log(LANE).unwrap().segments().iter().for_each(|segment| segment.forget_map());
    assert!(take(&engine, later(20_000)).is_empty());
    assert!(engine.damage().iter().all(|damage| damage.kind == DamageKind::Unreadable));
    assert_eq!(engine.damage().iter().filter(|damage| damage.lost.is_some()).count(), 100);
    engine.checkpoint(later(20_000), false).unwrap();
    let engine = open(&disk.restart(Loss::Power), later(20_000)).unwrap();
    assert_eq!(take(&engine, later(20_000)).len(), due.len());
}

#[test]
fn of_many_that_are_due_at_once_few_are_loaded_ahead_and_all_come() {
    let rules = FarRules { loaded_max: 5, ..FAR };
    let engine = open(&SimDisk::new(8), NOW).unwrap().putting_far(rules);
    for _ in 0..100 {
        enqueue(&engine, 5_000);
    }
    assert!(take(&engine, NOW).is_empty());
    engine.tick(later(4_950)).unwrap();
    let cell = engine.group("default").unwrap();
    let slots = || cell.state.lock().group.open_slots();
    assert_eq!(slots(), 5);
    engine.tick(later(6_000)).unwrap();
    assert_eq!(slots(), 10, "those, and as many that are due and that nobody takes");
    assert_eq!(engine.reserve(&cell, &ask(3), later(6_000), drop).unwrap().len(), 3);
    assert_eq!(engine.reserve(&cell, &ask(1_000), later(6_000), drop).unwrap().len(), 97, "as many as are asked for");
}

#[test]
fn a_wall_clock_that_jumps_ahead_makes_far_tasks_due_and_one_that_jumps_back_neither_delays_nor_repeats_them() {
    let engine = open(&SimDisk::new(9), NOW).unwrap().putting_far(FAR);
    let (first, second) = (enqueue(&engine, HOUR_MS), enqueue(&engine, 2 * HOUR_MS));
    assert!(take(&engine, NOW).is_empty());
    let wall = |boot: u64, wall: u64| Now { boot_ms: NOW.boot_ms + boot, wall: Timestamp(NOW.wall.0 + wall) };
    engine.tick(wall(10, HOUR_MS)).unwrap();
    assert_eq!(take(&engine, wall(10, HOUR_MS)), [first], "what is due by the wall clock is due");
    assert!(take(&engine, wall(20, 0)).is_empty(), "nothing comes twice");
    assert!(take(&engine, wall(2 * HOUR_MS - 1, 0)).is_empty());
    assert_eq!(take(&engine, wall(2 * HOUR_MS + 1, 0)), [second], "it waited as long as it was to");
    assert!(take(&engine, wall(3 * HOUR_MS, 9 * HOUR_MS)).is_empty());
}
