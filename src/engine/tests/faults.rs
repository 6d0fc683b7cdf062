//! Damage at rest and a full disk.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::world::{ack_up_to, drain, open, ready};
use crate::engine::Engine;
use crate::engine::append::TaskDraft;
use crate::engine::recovery::{self, Given};
use crate::engine::settle::Settle;
use crate::error::{DamageKind, Error};
use crate::format::checkpoint::{BLOBS_AT, COPY_BYTES};
use crate::format::meta::StoredOptions;
use crate::format::segment::{PRELUDE_BYTES, parse_file_name};
use crate::sim::{Loss, SimDisk};
use crate::types::{Durability, LaneId, Now, Timestamp};

const NOW: Now = Now { boot_ms: 1_000, wall: Timestamp(1_000_000) };

fn payload(number: usize) -> Vec<u8> {
    format!("task number {number}").into_bytes()
}

fn append(engine: &Engine, number: usize) -> Result<(), Error> {
    let payload = payload(number);
    let task = TaskDraft::plain(&payload, Durability::Power);
    ready(engine, || engine.append(LaneId(0), &task, NOW.wall)).map(drop)
}

/// A queue with tasks at rest, marked; closed cleanly or not.
fn queue_at_rest(tasks: usize, clean: bool) -> SimDisk {
    let disk = SimDisk::new(11);
    let engine = open(&disk, NOW).unwrap();
    for number in 0..tasks {
        append(&engine, number).unwrap();
    }
    engine.sync_all(NOW.wall).unwrap();
    engine.mark_idle(NOW.wall).unwrap();
    engine.checkpoint(NOW, clean).unwrap();
    disk.restart(Loss::Process)
}

fn payloads(engine: &Engine) -> Vec<Vec<u8>> {
    drain(engine, NOW).iter().map(|one| one.body.payload().to_vec()).collect()
}

#[test]
fn one_flipped_bit_in_a_durable_record_costs_that_record_alone_and_is_reported() {
    const TASKS: usize = 6;
    for clean in [true, false] {
        let disk = queue_at_rest(TASKS, clean);
        let all: BTreeSet<Vec<u8>> = (0..TASKS).map(payload).collect();
        let segments = disk.files().into_iter().filter(|(name, _)| parse_file_name(name).is_some());
        for (name, _) in segments {
            // Of the prelude every seventh bit: it stands twice. Of the records every bit.
            for bit in (0..(PRELUDE_BYTES + 420) * 8).filter(|bit| *bit >= PRELUDE_BYTES * 8 || bit % 7 == 0) {
                let disk = disk.restart(Loss::Process);
                disk.flip_bit(&name, bit / 8, u8::try_from(bit % 8).unwrap());
                let at = format!("clean {clean}, {name}, bit {bit}");
                let engine = open(&disk, NOW).unwrap_or_else(|error| panic!("{at}: {error}"));
                let got = payloads(&engine);
                let known: BTreeSet<Vec<u8>> = got.iter().cloned().collect();
                assert_eq!(known.len(), got.len(), "{at}: delivered once");
                assert!(known.is_subset(&all), "{at}: nothing damaged is handed out");
                let lost = all.len() - known.len();
                assert!(lost <= 1, "{at}: {lost} tasks lost to one bit");
                let reported = engine.damage().iter().any(|d| d.lane == Some(LaneId(0)) && d.lost.is_some());
                assert_eq!(reported, lost == 1, "{at}: {:?}", engine.damage());
            }
        }
    }
}

#[test]
fn one_flipped_bit_in_the_checkpoint_costs_no_task() {
    let disk = queue_at_rest(3, false);
    let (name, bytes) = disk.files().into_iter().find(|(name, _)| name == "checkpoint").unwrap();
    // Of both copies of both roots and the first blobs every third bit, of the rest one in twenty thousand.
    let blobs = usize::try_from(BLOBS_AT).unwrap();
    let near = |bit: usize| bit / 8 % COPY_BYTES < 300 || (blobs * 8..(blobs + 2048) * 8).contains(&bit);
    for bit in (0..bytes * 8).filter(|bit| if near(*bit) { bit % 3 == 0 } else { bit % 19_997 == 0 }) {
        let disk = disk.restart(Loss::Process);
        disk.flip_bit(&name, bit / 8, u8::try_from(bit % 8).unwrap());
        let engine = open(&disk, NOW).unwrap_or_else(|error| panic!("bit {bit}: {error}"));
        assert_eq!(payloads(&engine).len(), 3, "bit {bit}");
    }
}

#[test]
fn missing_segment_is_reported_with_its_sequences_and_the_rest_is_served() {
    let disk = queue_at_rest(400, true);
    let engine = open(&disk.restart(Loss::Process), NOW).unwrap();
    let segments = engine.lanes().log(LaneId(0)).unwrap().segments();
    assert!(segments.len() > 3, "the workload rolls");
    for segment in &segments {
        let disk = disk.restart(Loss::Process);
        disk.lose_file(&segment.file_name());
        let engine = open(&disk, NOW).unwrap();
        let missing: Vec<_> = engine.damage().into_iter().filter(|d| d.kind == DamageKind::Missing).collect();
        assert_eq!(missing.len(), 1, "{missing:?}");
        let (first, last) = missing[0].lost.expect("its sequences");
        assert_eq!((first.0, last.0 - first.0 + 1), (segment.base(), u64::from(segment.tasks())));
        assert_eq!(payloads(&engine).len(), 400 - segment.tasks() as usize);
    }
}

#[test]
fn segment_that_cannot_be_read_is_reported_left_alone_and_served_once_it_can() {
    let disk = queue_at_rest(400, true);
    let engine = open(&disk.restart(Loss::Process), NOW).unwrap();
    for segment in engine.lanes().log(LaneId(0)).unwrap().segments() {
        let disk = disk.restart(Loss::Process);
        disk.make_unreadable(&segment.file_name());
        let engine = open(&disk, NOW).unwrap();
        let tasks = segment.tasks() as usize;
        assert_eq!(payloads(&engine).len(), 400 - tasks, "the rest is served");
        let damage = engine.damage();
        assert_eq!(damage.len(), 1, "{damage:?}");
        assert_eq!((damage[0].kind, &damage[0].file), (DamageKind::Unreadable, &segment.file_name()));
        engine.checkpoint(NOW, false).unwrap();
        engine.recycle();
        // The medium is well again, and nothing of the segment was changed or forgotten.
        let disk = disk.restart(Loss::Process);
        let engine = open(&disk, NOW).unwrap();
        assert_eq!((payloads(&engine).len(), engine.damage().len()), (400, 0), "{}", segment.file_name());
    }
}

#[test]
fn damage_is_refused_before_anything_is_written_if_asked_to() {
    let disk = queue_at_rest(200, true);
    let lost = disk.files().into_iter().map(|(name, _)| name).find(|name| parse_file_name(name).is_some()).unwrap();
    // The first segment file may be the journal's; lose lane files until one counts.
    let engine = open(&disk.restart(Loss::Process), NOW).unwrap();
    let lane_file = engine.lanes().log(LaneId(0)).unwrap().segments()[0].file_name();
    assert_ne!(lane_file, "", "{lost}");
    disk.lose_file(&lane_file);
    let before = disk.operations();
    let given = Given { resolve: &|_| Ok(super::world::options()), fail_on_damage: true };
    let refused = recovery::open(Arc::new(disk.clone()), Path::new("sim"), &given, NOW);
    assert!(matches!(refused, Err(Error::Damaged { .. })));
    assert_eq!(disk.operations(), before, "nothing was written");
}

#[test]
fn full_disk_refuses_tasks_and_lets_the_queue_drain() {
    let disk = SimDisk::new(3);
    let engine = open(&disk, NOW).unwrap();
    disk.set_space(Some(30_000));
    let mut accepted = 0;
    let refused = loop {
        match append(&engine, accepted) {
            Ok(()) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::Full { .. }), "{refused}");
    assert!(accepted > 100, "{accepted} accepted");
    engine.sync_all(NOW.wall).unwrap();
    disk.set_space(Some(0));
    let cell = engine.group("default").unwrap();
    let mut acked = 0;
    loop {
        let handed = engine.reserve(&cell, &super::world::ask(3), NOW, |one| one).expect("a full disk hands out");
        if handed.is_empty() {
            break;
        }
        let receipts = handed.iter().map(|one| one.receipt);
        let settled = engine.settle(&cell, receipts, Settle::Ack, NOW).expect("a full disk takes acks");
        assert!(settled.answers.iter().all(Result::is_ok));
        acked += handed.len();
        if engine.wants_checkpoint(NOW) {
            engine.checkpoint(NOW, false).expect("a full disk takes checkpoints");
        }
    }
    assert_eq!(acked, accepted);
    engine.checkpoint(NOW, false).unwrap();
    append(&engine, 0).expect("space that came back is used");
}

#[test]
fn a_journal_that_awaits_its_next_segment_asks_for_no_checkpoint_but_one_that_can_have_none_does() {
    let disk = SimDisk::new(12);
    // No checkpoint for the journal's length, nor for what is done in the lanes.
    let rare = StoredOptions { checkpoint_bytes: 1 << 30, ..super::world::options() };
    let given = Given { resolve: &|_| Ok(rare.clone()), fail_on_damage: false };
    let engine = recovery::open(Arc::new(disk.clone()), Path::new("sim"), &given, NOW).unwrap();
    for number in 0..400 {
        append(&engine, number).unwrap();
    }
    engine.sync_all(NOW.wall).unwrap();
    engine.checkpoint(NOW, false).unwrap();
    while engine.journal_pool.lock().len() > 0 {
        assert_eq!(ack_up_to(&engine, "default", 1, NOW), 1, "entries enough for every segment that is ready");
    }
    assert!(!engine.wants_checkpoint(NOW));
    disk.set_space(Some(0));
    assert!(matches!(engine.prepare(), Err(Error::Full { .. })));
    assert!(engine.wants_checkpoint(NOW));
    disk.set_space(None);
    while engine.prepare().unwrap() {}
    assert!(!engine.wants_checkpoint(NOW));
}

#[test]
fn failed_segment_acknowledges_nothing() {
    let disk = SimDisk::new(4);
    let engine = open(&disk, NOW).unwrap();
    append(&engine, 0).unwrap();
    let log = engine.lanes().log(LaneId(0)).unwrap();
    log.segments()[0].region().unwrap().mark_failed();
    assert!(matches!(engine.commit(log, NOW.wall), Err(Error::InDoubt { .. })));
    assert!(matches!(append(&engine, 1), Err(Error::Poisoned { .. })));
    assert!(!engine.stats(NOW).lanes.is_empty(), "looking goes on");
}

#[test]
fn publish_into_a_failed_segment_is_in_doubt_at_either_durability() {
    for durability in [Durability::Power, Durability::Process] {
        let disk = SimDisk::new(5);
        let engine = open(&disk, NOW).unwrap();
        append(&engine, 0).unwrap();
        engine.lanes().log(LaneId(0)).unwrap().segments()[0].region().unwrap().mark_failed();
        let payload = payload(1);
        let task = TaskDraft::plain(&payload, durability);
        let refused = ready(&engine, || engine.append(LaneId(0), &task, NOW.wall)).unwrap_err();
        assert!(matches!(&refused, Error::InDoubt { task: Some(_), .. }), "{refused}");
        assert!(matches!(append(&engine, 2), Err(Error::Poisoned { .. })), "{durability:?}");
        let cell = engine.group("default").unwrap();
        assert!(engine.reserve(&cell, &super::world::ask(9), NOW, |one| one).is_err(), "nothing is handed out");
    }
}

#[test]
fn settle_whose_journal_failed_is_in_doubt() {
    let disk = SimDisk::new(6);
    let engine = open(&disk, NOW).unwrap();
    append(&engine, 0).unwrap();
    engine.sync_all(NOW.wall).unwrap();
    let cell = engine.group("default").unwrap();
    let one = engine.reserve(&cell, &super::world::ask(1), NOW, |one| one).unwrap().pop().unwrap();
    engine.journal().segments().last().unwrap().region().unwrap().mark_failed();
    let outcome = engine.settle(&cell, std::iter::once(one.receipt), Settle::Ack, NOW);
    assert!(matches!(outcome, Err(Error::InDoubt { task: None, .. })));
    assert!(matches!(engine.check_poison(), Err(Error::Poisoned { .. })));
}

#[test]
fn failed_segment_is_reported_once_and_costs_nothing_for_good() {
    const TASKS: usize = 200;
    let disk = queue_at_rest(TASKS, true);
    let engine = open(&disk, NOW).unwrap();
    let cell = engine.group("default").unwrap();
    let reserve = |tasks| engine.reserve(&cell, &super::world::ask(tasks), NOW, |one| one).unwrap();
    let loan = reserve(1).pop().unwrap();
    let segments = engine.lanes().log(LaneId(0)).unwrap().segments();
    assert!(segments.len() > 2, "the workload rolls");
    // The one that the loan is from fails, with the cursor in it, and one that nobody read yet.
    let failed = [&segments[0], &segments[1]];
    failed.iter().for_each(|segment| segment.region().unwrap().mark_failed());
    let settled = engine.settle(&cell, std::iter::once(loan.receipt), Settle::Ack, NOW).unwrap();
    assert!(matches!(settled.answers[..], [Err(Error::Io { .. })]) && settled.end.is_none(), "nothing is journaled");
    let lost: usize = failed.iter().map(|segment| segment.tasks() as usize).sum();
    let rest = drain(&engine, NOW);
    assert_eq!(rest.len(), TASKS - lost);
    let acked = engine.settle(&cell, rest.iter().map(|one| one.receipt), Settle::Ack, NOW).unwrap();
    assert!(acked.answers.iter().all(Result::is_ok));
    let damage = engine.damage();
    let known: Vec<_> = damage.iter().map(|d| (d.kind, d.file.clone(), d.lane)).collect();
    let expected = failed.map(|segment| (DamageKind::Unreadable, segment.file_name(), Some(LaneId(0))));
    assert_eq!(known, expected);
    engine.check_poison().expect("what only reads fails alone");
    // Everybody else is done, twice; the failed segments are neither given back nor recycled.
    engine.checkpoint(NOW, false).unwrap();
    engine.checkpoint(NOW, true).unwrap();
    let engine = open(&disk.restart(Loss::Process), NOW).unwrap();
    let again: BTreeSet<Vec<u8>> = payloads(&engine).into_iter().collect();
    assert_eq!(again.len(), lost);
    assert!(rest.iter().all(|one| !again.contains(one.body.payload())), "what was acked stays acked");
    assert_eq!(engine.damage(), []);
}

#[test]
fn failed_sync_is_final_for_whoever_commits_next() {
    const EIO: i32 = 5;
    let disk = SimDisk::new(4);
    let engine = open(&disk, NOW).unwrap();
    append(&engine, 0).unwrap();
    let log = engine.lanes().log(LaneId(0)).unwrap();
    // Two committers pass the check for poison, the janitor's mark and a producer; the first one's sync fails, and
    // the second has waited for the commit lock meanwhile. The kernel tells it that all is well now.
    disk.fail_at(disk.operations(), EIO);
    let before = log.durable();
    assert!(log.commit(NOW.wall, false).is_err());
    assert!(log.commit(NOW.wall, false).is_err(), "the bytes are marked clean and gone");
    assert_eq!(log.durable(), before);
}
