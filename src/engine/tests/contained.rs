//! Trouble with one file or one record stays there: nothing else is lost, comes again, or stands still.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::flaky::{Flaky, open_flaky};
use super::world::{ack_up_to, ask, drain, open, options, ready};
use crate::checkpoint::Store;
use crate::engine::Engine;
use crate::engine::append::TaskDraft;
use crate::engine::groups::Start;
use crate::engine::recovery::{self, Given};
use crate::engine::settle::Settle;
use crate::error::{DamageKind, Error};
use crate::format::checkpoint::{COPY_BYTES, SLOT_BYTES};
use crate::format::meta::StoredOptions;
use crate::format::segment::PRELUDE_BYTES;
use crate::sim::{Loss, SimDisk};
use crate::storage::Storage;
use crate::types::{Durability, LaneId, Now, Timestamp};

const NOW: Now = Now { boot_ms: 1_000, wall: Timestamp(1_000_000) };
const LANE: LaneId = LaneId(0);

fn payload(number: usize) -> Vec<u8> {
    format!("task number {number:04}").into_bytes()
}

fn append_as(engine: &Engine, lane: LaneId, payload: &[u8], durability: Durability) {
    let task = TaskDraft::plain(payload, durability);
    ready(engine, || engine.append(lane, &task, NOW.wall)).unwrap();
}

fn append(engine: &Engine, numbers: impl Iterator<Item = usize>) {
    numbers.for_each(|number| append_as(engine, LANE, &payload(number), Durability::Power));
}

fn numbers(engine: &Engine) -> BTreeSet<Vec<u8>> {
    drain(engine, NOW).iter().map(|one| one.body.payload().to_vec()).collect()
}

fn all(count: usize) -> BTreeSet<Vec<u8>> {
    (0..count).map(payload).collect()
}

fn open_as(disk: &SimDisk, stored: &StoredOptions, fail_on_damage: bool) -> Result<Engine, Error> {
    let given = Given { resolve: &|_| Ok(stored.clone()), fail_on_damage };
    recovery::open(Arc::new(disk.clone()), Path::new("sim"), &given, NOW)
}

/// Where `needle` lies on the disk: file and byte.
fn find(disk: &SimDisk, needle: &[u8]) -> (String, usize) {
    for (name, bytes) in disk.files() {
        let mut whole = vec![0; bytes];
        disk.open(&name).unwrap().read_at(0, &mut whole).unwrap();
        if let Some(at) = whole.windows(needle.len()).position(|window| window == needle) {
            return (name, at);
        }
    }
    panic!("{needle:?} is not on the disk");
}

fn ack_everything(engine: &Engine, tasks: usize) {
    assert_eq!(ack_up_to(engine, "default", tasks, NOW), tasks);
}

#[test]
fn one_damaged_record_forgets_no_ack_of_its_neighbours() {
    let disk = SimDisk::new(1);
    let engine = open(&disk, NOW).unwrap();
    append(&engine, 0..6);
    engine.sync_all(NOW.wall).unwrap();
    engine.mark_idle(NOW.wall).unwrap();
    ack_everything(&engine, 6);
    engine.sync_all(NOW.wall).unwrap();
    for damaged in 0..6 {
        let disk = disk.restart(Loss::Process);
        let (name, at) = find(&disk, &payload(damaged));
        disk.flip_bit(&name, at, 0);
        let engine = open(&disk, NOW).unwrap();
        assert_eq!(numbers(&engine), BTreeSet::new(), "all were acked at Power; damaged: {damaged}");
    }
}

#[test]
fn power_loss_that_takes_one_record_of_a_run_forgets_no_ack_of_the_others() {
    for seed in 0..200 {
        let disk = SimDisk::new(seed);
        let engine = open(&disk, NOW).unwrap();
        // Large enough that a body is lost and the headers around it survive.
        let payloads: Vec<Vec<u8>> = (0..5).map(|number: u8| vec![number + 1; 700]).collect();
        payloads.iter().for_each(|payload| append_as(&engine, LANE, payload, Durability::Process));
        ack_everything(&engine, 4);
        // The acks are durable, their records are not.
        engine.commit(engine.journal(), NOW.wall).unwrap();
        let engine = open(&disk.restart(Loss::Power), NOW).unwrap();
        let got = numbers(&engine);
        assert!(got.iter().all(|payload| *payload == payloads[4]), "seed {seed}: acked at Power, and comes again");
    }
}

#[test]
fn segment_that_could_not_be_mapped_for_a_moment_keeps_its_tasks() {
    let disk = SimDisk::new(2);
    let engine = open(&disk, NOW).unwrap();
    append(&engine, 0..200);
    engine.sync_all(NOW.wall).unwrap();
    let disk = disk.restart(Loss::Process);
    let (engine, switches) = open_flaky(&disk, NOW);
    switches.maps.store(true, Ordering::SeqCst);
    assert_eq!(numbers(&engine), BTreeSet::new(), "nothing can be read");
    switches.maps.store(false, Ordering::SeqCst);
    engine.checkpoint(NOW, false).unwrap();
    let engine = open(&disk.restart(Loss::Process), NOW).unwrap();
    assert_eq!(numbers(&engine).len(), 200, "no task was delivered, so none may go");
}

#[test]
fn truncated_sealed_segment_is_reported_and_the_next_ones_are_served() {
    let disk = SimDisk::new(3);
    let engine = open(&disk, NOW).unwrap();
    append(&engine, 0..300);
    engine.sync_all(NOW.wall).unwrap();
    engine.checkpoint(NOW, true).unwrap();
    let segments = engine.lanes().log(LANE).unwrap().segments();
    let (cut, last) = (&segments[1], segments.last().unwrap());
    assert!(segments.len() > 3, "the workload rolls");
    let disk = disk.restart(Loss::Process);
    disk.open(&cut.file_name()).unwrap().truncate(u64::from(cut.sealed().unwrap().end / 2)).unwrap();
    let engine = open(&disk, NOW).unwrap();
    let got = drain(&engine, NOW);
    assert!(got.iter().any(|one| one.receipt.task.seq.0 >= last.base()), "{} of 300 tasks came", got.len());
    assert!(engine.damage().iter().any(|damage| damage.file == cut.file_name()));
}

#[test]
fn truncated_open_segment_is_reported_after_a_clean_close_too() {
    for clean in [false, true] {
        let disk = SimDisk::new(3);
        let engine = open(&disk, NOW).unwrap();
        append(&engine, 0..10);
        engine.sync_all(NOW.wall).unwrap();
        engine.checkpoint(NOW, clean).unwrap();
        let name = engine.lanes().log(LANE).unwrap().segments()[0].file_name();
        let disk = disk.restart(Loss::Process);
        disk.open(&name).unwrap().truncate(600).unwrap();
        let engine = open(&disk, NOW).unwrap();
        let got = numbers(&engine);
        assert!(got.len() < 10 && got.is_subset(&all(10)), "clean: {clean}");
        assert!(engine.damage().iter().any(|damage| damage.file == name), "clean: {clean}");
    }
}

#[test]
fn segment_cut_inside_its_first_sector_is_reported_and_the_queue_opens() {
    for left in [0, 1, 8, 255, 256, 300, 511] {
        let disk = SimDisk::new(3);
        let engine = open(&disk, NOW).unwrap();
        append(&engine, 0..10);
        engine.sync_all(NOW.wall).unwrap();
        let name = engine.lanes().log(LANE).unwrap().segments()[0].file_name();
        let disk = disk.restart(Loss::Process);
        disk.cut_file(&name, left);
        let engine = open(&disk, NOW).unwrap_or_else(|error| panic!("{left} bytes are left: {error}"));
        assert_eq!(numbers(&engine), BTreeSet::new());
        // Without a copy of the prelude a file is no life of anybody's; with one it is known that there was a life.
        let reported = engine.damage().iter().any(|damage| damage.file == name);
        assert_eq!(reported, left >= 255, "{left} bytes are left");
    }
}

#[test]
fn root_torn_by_a_power_loss_is_no_damage() {
    let stored = StoredOptions { lanes: 100, ..options() };
    let mut torn = 0;
    for seed in 0..40 {
        let disk = SimDisk::new(seed);
        let engine = open_as(&disk, &stored, true).unwrap();
        // Many lanes make a root of several sectors.
        (0..100).for_each(|lane| append_as(&engine, LaneId(lane), b"task", Durability::Power));
        engine.sync_all(NOW.wall).unwrap();
        engine.checkpoint(NOW, false).unwrap();
        append_as(&engine, LANE, b"more", Durability::Power);
        let before = disk.operations();
        for operation in before..before + 40 {
            let disk = SimDisk::new(seed);
            let engine = open_as(&disk, &stored, true).unwrap();
            (0..100).for_each(|lane| append_as(&engine, LaneId(lane), b"task", Durability::Power));
            engine.sync_all(NOW.wall).unwrap();
            engine.checkpoint(NOW, false).unwrap();
            append_as(&engine, LANE, b"more", Durability::Power);
            disk.crash_at(operation);
            if engine.checkpoint(NOW, false).is_ok() {
                break;
            }
            let disk = disk.restart(Loss::Power);
            let opened = open_as(&disk, &stored, true);
            torn += u32::from(matches!(opened, Err(Error::Damaged { .. })));
            assert!(opened.is_ok(), "seed {seed}, operation {operation}: {}", opened.err().unwrap());
        }
    }
    assert_eq!(torn, 0);
}

#[test]
fn segment_that_a_checkpoint_lists_empty_proves_nothing_of_the_one_before() {
    for seed in 0..100 {
        let disk = SimDisk::new(seed);
        let engine = open(&disk, NOW).unwrap();
        let payload = [9; 600];
        let batch = [TaskDraft::plain(&payload, Durability::Process); 4];
        // The second batch rolls: the first one's segment is sealed, and nothing is durable.
        for _ in 0..2 {
            ready(&engine, || engine.append_batch(LANE, &batch, NOW.wall)).unwrap();
        }
        assert_eq!(engine.lanes().log(LANE).unwrap().segments().len(), 2);
        engine.checkpoint(NOW, false).unwrap();
        let engine = open_as(&disk.restart(Loss::Power), &options(), true).expect("a torn end is no damage");
        let count = drain(&engine, NOW).len();
        assert!(count.is_multiple_of(4), "seed {seed}: {count} tasks of two batches of four");
    }
}

#[test]
fn new_group_begins_behind_the_newest_task_after_a_recovery_too() {
    let disk = SimDisk::new(4);
    let engine = open(&disk, NOW).unwrap();
    append(&engine, 0..5);
    engine.sync_all(NOW.wall).unwrap();
    let engine = open(&disk.restart(Loss::Process), NOW).unwrap();
    engine.create_group("late", Start::Newest, crate::types::Retention::default(), NOW).unwrap();
    append(&engine, 5..6);
    engine.sync_all(NOW.wall).unwrap();
    let handed = engine.reserve(&engine.group("late").unwrap(), &ask(10), NOW, |one| one).unwrap();
    let got: Vec<Vec<u8>> = handed.iter().map(|one| one.body.payload().to_vec()).collect();
    assert_eq!(got, [payload(5)]);
}

#[test]
fn damaged_record_that_was_acked_takes_no_other_task_along_however_often_the_queue_is_opened() {
    for damaged in 0..8 {
        let disk = SimDisk::new(5);
        let engine = open(&disk, NOW).unwrap();
        append(&engine, 0..8);
        // The next one needs another segment, so that this one is sealed.
        (0..4).for_each(|_| append_as(&engine, LANE, &[b'x'; 900], Durability::Power));
        engine.sync_all(NOW.wall).unwrap();
        let cell = engine.group("default").unwrap();
        let taken = engine.reserve(&cell, &ask(12), NOW, |one| (one.body.payload().to_vec(), one.receipt)).unwrap();
        assert_eq!(taken.len(), 12);
        let acked = taken.into_iter().filter(|(text, _)| *text != payload(7)).map(|(_, receipt)| receipt);
        engine.settle(&cell, acked, Settle::Ack, NOW).unwrap();
        engine.sync_all(NOW.wall).unwrap();
        engine.checkpoint(NOW, false).unwrap();
        let mut disk = disk.restart(Loss::Process);
        let (name, at) = find(&disk, &payload(damaged));
        // In the record's header.
        disk.flip_bit(&name, at - 20, 0);
        for opens in 0..4 {
            let engine = open(&disk, NOW).unwrap();
            let got = numbers(&engine);
            assert_eq!(got.contains(&payload(7)), damaged != 7, "damaged {damaged}, opened {opens} times before");
            engine.checkpoint(NOW, false).unwrap();
            disk = disk.restart(Loss::Process);
        }
    }
}

/// Makes both copies of a root unusable.
fn spoil_root(disk: &SimDisk, slot: u64) {
    let file = disk.open(Store::FILE).unwrap();
    let slot_bytes = SLOT_BYTES as u64;
    for copy in [0, COPY_BYTES as u64] {
        file.write_at(slot * slot_bytes + copy, &[0xFF; 64]).unwrap();
    }
    file.sync().unwrap();
}

#[test]
fn two_opens_that_each_lost_a_root_give_out_no_sequence_twice() {
    for (first_lost, then_lost) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let disk = SimDisk::new(9);
        let engine = open(&disk, NOW).unwrap();
        append(&engine, 0..3);
        engine.sync_all(NOW.wall).unwrap();
        (0..2).for_each(|_| engine.checkpoint(NOW, false).unwrap());
        let mut disk = disk.restart(Loss::Process);
        let mut given = BTreeSet::new();
        for lost in [first_lost, then_lost] {
            spoil_root(&disk, lost);
            let engine = open(&disk, NOW).unwrap();
            let task = TaskDraft::plain(b"new", Durability::Process);
            let seq = ready(&engine, || engine.append(LANE, &task, NOW.wall)).unwrap().first;
            assert!(given.insert(seq), "{seq} twice, roots lost: {first_lost}, {then_lost}");
            assert!(numbers(&engine).is_superset(&all(3)), "nothing is lost");
            // Nothing of the new task survives.
            disk = disk.restart_keeping(&mut || false);
        }
    }
}

#[test]
fn damage_met_in_two_opens_is_counted_once() {
    let disk = SimDisk::new(5);
    let engine = open(&disk, NOW).unwrap();
    append(&engine, 0..1);
    engine.sync_all(NOW.wall).unwrap();
    engine.mark_idle(NOW.wall).unwrap();
    let mut disk = disk.restart(Loss::Process);
    let (name, at) = find(&disk, &payload(0));
    disk.flip_bit(&name, at, 0);
    for _ in 0..3 {
        let engine = open(&disk, NOW).unwrap();
        assert_eq!(numbers(&engine).len(), 0);
        assert!(engine.stats(NOW).lanes.iter().all(|lane| lane.tasks <= 1));
        disk = disk.restart(Loss::Process);
    }
}

#[test]
fn payload_of_zeros_hides_no_mark() {
    const MIB: u64 = 1 << 20;
    let stored = StoredOptions { lanes: 1, segment_bytes: MIB, task_bytes_max: MIB / 2, ..options() };
    let disk = SimDisk::new(6);
    let engine = open_as(&disk, &stored, false).unwrap();
    append_as(&engine, LANE, &vec![0; 400 << 10], Durability::Power);
    append(&engine, 0..6);
    engine.sync_all(NOW.wall).unwrap();
    engine.mark_idle(NOW.wall).unwrap();
    let disk = disk.restart(Loss::Process);
    let (name, at) = find(&disk, &payload(2));
    // The first byte of the record's header.
    disk.flip_bit(&name, at - 32, 3);
    let engine = open_as(&disk, &stored, false).unwrap();
    let damage: Vec<DamageKind> = engine.damage().iter().map(|damage| damage.kind).collect();
    assert_eq!(damage, [DamageKind::Corrupt], "durable bytes, marked");
    assert_eq!(drain(&engine, NOW).len(), 6, "one record of seven is lost");
}

#[test]
fn missing_segment_behind_the_checkpoint_is_reported_and_the_next_one_is_served() {
    let disk = SimDisk::new(7);
    let engine = open(&disk, NOW).unwrap();
    append(&engine, 0..100);
    // Everything so far is durable and marked; the newest segment has what one commit covered.
    engine.sync_all(NOW.wall).unwrap();
    let log = engine.lanes().log(LANE).unwrap();
    let before = log.segments().len();
    let mut count = 100;
    while log.segments().len() == before {
        append(&engine, count..count + 1);
        count += 1;
        engine.sync_all(NOW.wall).unwrap();
    }
    // One commit reached the newest segment, so no mark in it speaks of itself.
    let segments = log.segments();
    let [.., lost, newest] = &segments[..] else { panic!("two segments at least") };
    let newest_tasks = newest.tasks() as usize;
    let disk = disk.restart(Loss::Process);
    disk.lose_file(&lost.file_name());
    let engine = open(&disk, NOW).unwrap();
    assert!(engine.damage().iter().any(|damage| damage.kind == DamageKind::Missing), "{:?}", engine.damage());
    let got = drain(&engine, NOW);
    let of_newest = got.iter().filter(|one| one.receipt.task.seq.0 >= newest.base()).count();
    assert_eq!(of_newest, newest_tasks, "acknowledged at Power, and its file is there");
}

#[test]
fn stray_that_can_not_be_removed_costs_no_later_task() {
    let (mut strays, mut seed) = (0, 0);
    while strays < 3 {
        seed += 1;
        assert!(seed < 5_000, "the scenario occurs");
        let disk = SimDisk::new(seed);
        let engine = open(&disk, NOW).unwrap();
        // Two segments that nothing made durable: the older may go and the newer stay.
        let big = vec![7; 900];
        (0..8).for_each(|_| append_as(&engine, LANE, &big, Durability::Process));
        let disk = disk.restart(Loss::Power);
        let (flaky, switches) = Flaky::over(&disk);
        switches.removes.store(true, Ordering::SeqCst);
        let given = Given { resolve: &|_| Ok(options()), fail_on_damage: false };
        let engine = recovery::open(Arc::new(flaky), Path::new("sim"), &given, NOW).unwrap();
        let broken = engine.damage().iter().any(|damage| damage.what.starts_with("a segment before this one did not"));
        if !broken {
            continue;
        }
        strays += 1;
        let kept = numbers(&engine).len();
        drop(engine);
        let disk = disk.restart(Loss::Process);
        let engine = open_flaky_without_removes(&disk);
        append(&engine, 0..3);
        engine.sync_all(NOW.wall).unwrap();
        let engine = open(&disk.restart(Loss::Process), NOW).unwrap();
        let got = drain(&engine, NOW).len();
        assert!(got >= 3, "seed {seed}: acknowledged at Power, {got} came, {kept} before");
    }
}

fn open_flaky_without_removes(disk: &SimDisk) -> Engine {
    let (flaky, switches) = Flaky::over(disk);
    switches.removes.store(true, Ordering::SeqCst);
    let given = Given { resolve: &|_| Ok(options()), fail_on_damage: false };
    recovery::open(Arc::new(flaky), Path::new("sim"), &given, NOW).unwrap()
}

#[test]
fn flipped_bit_costs_one_record_where_the_next_segment_is_gone() {
    let disk = SimDisk::new(8);
    let engine = open(&disk, NOW).unwrap();
    let cell = engine.group("default").unwrap();
    // Three segments, none of them durable; of the first one task stays open, the second is acked and goes.
    let log = || engine.lanes().log(LANE).map_or(0, |log| log.segments().len());
    let mut count = 0;
    while log() < 3 {
        append_as(&engine, LANE, &payload(count), Durability::Process);
        count += 1;
    }
    let first = engine.lanes().log(LANE).unwrap().segments()[0].clone();
    let end = first.base() + u64::from(first.sealed().unwrap().records);
    let handed = engine.reserve(&cell, &ask(1000), NOW, |one| one).unwrap();
    let of_later = handed.iter().filter(|one| one.receipt.task.seq.0 >= end).map(|one| one.receipt);
    engine.settle(&cell, of_later, Settle::Ack, NOW).unwrap();
    engine.checkpoint(NOW, false).unwrap();
    engine.sync_all(NOW.wall).unwrap();
    engine.mark_idle(NOW.wall).unwrap();
    assert_eq!(log(), 2, "the second went");
    let disk = disk.restart(Loss::Process);
    let (name, at) = find(&disk, &payload(5));
    assert_eq!(name, first.file_name());
    assert!(at > PRELUDE_BYTES);
    disk.flip_bit(&name, at - 32, 3);
    let engine = open(&disk, NOW).unwrap();
    let got = drain(&engine, NOW).iter().filter(|one| one.receipt.task.seq.0 < end).count();
    assert_eq!(got, first.tasks() as usize - 1, "{:?}", engine.damage());
}

#[test]
fn all_tasks_are_there_without_trouble() {
    let disk = SimDisk::new(9);
    let engine = open(&disk, NOW).unwrap();
    append(&engine, 0..50);
    engine.sync_all(NOW.wall).unwrap();
    assert_eq!(numbers(&open(&disk.restart(Loss::Power), NOW).unwrap()), all(50));
}
