//! Snapshots on simulated disks: ended in the middle, on a full disk, stopped at every operation; producers that stand
//! still, and lives that can't be read.

use std::collections::BTreeSet;
use std::path::Path;

use super::world::{ack_up_to, drain, open, ready};
use crate::engine::Engine;
use crate::engine::append::TaskDraft;
use crate::engine::recovery::read::read;
use crate::engine::snapshot::Stage;
use crate::error::{DamageKind, Error, Result};
use crate::log::Stalled;
use crate::sim::{Loss, SimDisk};
use crate::storage::{Storage, UNFINISHED};
use crate::types::{Durability, LaneId, Now, Timestamp};

const NOW: Now = Now { boot_ms: 1_000, wall: Timestamp(1_000_000) };
const ACKED: usize = 30;
const TASKS: usize = 90;

fn append(engine: &Engine, number: usize) {
    let (text, lane) = (format!("task {number}"), LaneId(u8::try_from(number % 2).unwrap()));
    let task = TaskDraft::plain(text.as_bytes(), Durability::Process);
    ready(engine, || engine.append(lane, &task, NOW.wall)).unwrap();
}

/// A queue of which some is acked.
fn filled(disk: &SimDisk) -> Engine {
    let engine = open(disk, NOW).unwrap();
    (0..TASKS).for_each(|number| append(&engine, number));
    assert_eq!(ack_up_to(&engine, "default", ACKED, NOW), ACKED);
    engine
}

fn snapshot(engine: &Engine, target: &SimDisk, go_on: &mut dyn FnMut(Stage) -> Result<()>) -> Result<()> {
    engine.snapshot(target, Path::new("copy"), NOW, go_on)
}

fn left(disk: &SimDisk) -> BTreeSet<Vec<u8>> {
    let engine = open(disk, NOW).unwrap();
    assert_eq!(engine.damage(), []);
    drain(&engine, NOW).iter().map(|one| one.body.payload().to_vec()).collect()
}

/// What a snapshot that failed leaves: nothing, as long as its disk works.
fn is_swept(target: &SimDisk) -> bool {
    target.list().unwrap().is_empty()
}

#[test]
fn ended_at_any_piece_nothing_is_left_and_the_queue_goes_on() {
    let disk = SimDisk::new(1);
    let engine = filled(&disk);
    for pieces in 0.. {
        let (target, mut done) = (SimDisk::new(2), 0);
        let outcome = snapshot(&engine, &target, &mut |_| {
            done += 1;
            if done > pieces { Err(Error::Closed) } else { Ok(()) }
        });
        append(&engine, TASKS + pieces);
        match outcome {
            Err(error) => assert!(matches!(error, Error::Closed) && is_swept(&target), "{error}"),
            Ok(()) => {
                assert_eq!(left(&target.restart(Loss::Power)).len(), TASKS - ACKED + pieces);
                assert!(pieces >= 4, "a checkpoint, a journal, two lanes: {pieces}");
                break;
            }
        }
    }
}

#[test]
fn full_disk_is_told_as_such_and_harms_nobody() {
    let disk = SimDisk::new(1);
    let engine = filled(&disk);
    let mut space = 0;
    loop {
        let target = SimDisk::new(2);
        target.set_space(Some(space));
        match snapshot(&engine, &target, &mut |_| Ok(())) {
            Ok(()) => break,
            Err(error) => {
                assert!(matches!(&error, Error::Full { log, .. } if log.contains("copy/")), "{error}");
                assert!(is_swept(&target) && engine.check_poison().is_ok());
            }
        }
        space += 3_000;
    }
    assert!(space > 10_000);
    append(&engine, TASKS);
    assert_eq!(drain(&engine, NOW).len(), TASKS - ACKED + 1);
}

#[test]
fn stopped_before_any_operation_it_is_refused_or_whole() {
    let disk = SimDisk::new(1);
    let engine = filled(&disk);
    let mut whole = 0;
    for operation in 0.. {
        let target = SimDisk::new(operation);
        target.crash_at(operation);
        let outcome = snapshot(&engine, &target, &mut |_| Ok(()));
        for loss in [Loss::Process, Loss::Power] {
            let found = target.restart(loss);
            match read(&found, Path::new("copy")) {
                Ok(None) => assert!(outcome.is_err() && operation < 3, "nothing of it is there, at {operation}"),
                Err(Error::NotAQueue { why, .. }) => assert!(outcome.is_err() && why.contains(UNFINISHED), "{why}"),
                Err(other) => panic!("{other}"),
                Ok(Some(_)) => {
                    assert_eq!(left(&found).len(), TASKS - ACKED);
                    whole += 1;
                }
            }
        }
        if outcome.is_ok() {
            assert!(operation > 15 && whole >= 2, "{operation} operations, {whole} times whole");
            return;
        }
    }
}

#[test]
fn producer_that_stands_still_is_waited_for() {
    let disk = SimDisk::new(1);
    let engine = filled(&disk);
    let log = engine.lanes().log(LaneId(0)).unwrap();
    let mut stalled = Some(Stalled::in_log(log, b"slow", true).unwrap());
    // Somebody else was told that this one is there.
    append(&engine, TASKS);
    let target = SimDisk::new(2);
    let refused = snapshot(&engine, &target, &mut |_| Err(Error::Closed));
    assert!(refused.is_err() && is_swept(&target));
    let mut waited = 0;
    let outcome = snapshot(&engine, &target, &mut |stage| {
        waited += u32::from(stage == Stage::Waiting);
        if waited == 3
            && let Some(stalled) = stalled.take()
        {
            assert!(stalled.publish(b"slow", NOW.wall).is_ok());
        }
        Ok(())
    });
    assert!(outcome.is_ok() && waited == 3);
    let left = left(&target.restart(Loss::Power));
    assert!(left.contains(b"slow".as_slice()) && left.contains(format!("task {TASKS}").as_bytes()));
}

#[test]
fn life_that_can_not_be_read_is_missing_in_the_copy_and_nothing_else_is() {
    let disk = SimDisk::new(1);
    let engine = filled(&disk);
    engine.sync_all(NOW.wall).unwrap();
    engine.checkpoint(NOW, false).unwrap();
    let lost = engine.lanes().log(LaneId(1)).unwrap().segments().pop().unwrap();
    drop(engine);
    let disk = disk.restart(Loss::Process);
    disk.make_unreadable(&lost.file_name());
    let engine = open(&disk, NOW).unwrap();
    assert_eq!(engine.damage().len(), 1);
    let target = SimDisk::new(2);
    snapshot(&engine, &target, &mut |_| Ok(())).unwrap();
    let copy = open(&target.restart(Loss::Power), NOW).unwrap();
    let damage = copy.damage();
    assert!(damage.iter().all(|one| one.file == lost.file_name() && one.kind == DamageKind::Missing), "{damage:?}");
    assert_eq!((damage.len(), drain(&copy, NOW).len()), (1, drain(&engine, NOW).len()));
}
