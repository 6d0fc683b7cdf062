//! A whole directory: a real queue's files, mutated, then opened and used.
//!
//! The first byte says which moment of the queue is taken (bits 0 and 1) and whether a forger made the checksums right
//! after the mutations (bit 7); the rest are the [mutations](mutation). Whatever they are, the engine looks at the
//! directory, opens it or refuses it, hands out, settles, appends, commits, makes a checkpoint, and opens it again.
//!
//! Without the forger nothing is handed out that was not enqueued under that id, byte for byte, and what was made durable
//! after the open is there at the next. With it a sequence may stand in the log twice, or before the engine gives it out.
//! In either case a directory that opened opens again.

mod disk;
mod mutation;
mod origin;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use crate::checkpoint::Store;
use crate::delivery::Ask;
use crate::engine::append::TaskDraft;
use crate::engine::deliver::Handed;
use crate::engine::groups::Start;
use crate::engine::recovery::{self, Given};
use crate::engine::settle::Settle;
use crate::engine::{Attempt, Engine, inspect};
use crate::error::{Error, Result};
use crate::format::forge;
use crate::format::meta::StoredOptions;
use crate::types::{Durability, LANES_MAX, LaneId, LaneSet, Now, TaskId, Timestamp};

use disk::PlainDisk;
use mutation::Content;
use origin::Told;

const NOW: Now = Now { boot_ms: 1_000, wall: Timestamp(1_000_000) };
/// When every delay is over.
const LATE: Now = Now { boot_ms: 2_000_000, wall: Timestamp(3_000_000) };
/// A directory may hold more groups than a run has time for.
const GROUPS_MAX: usize = 4;
/// No directory of these sizes holds more tasks.
const TASKS_MAX: usize = 4_096;
/// What is appended to a directory that opened.
const NEW: &[u8] = b"enqueued after the recovery";

/// Mutates a real queue's files as `bytes` say, and uses what is left.
///
/// # Panics
/// If a promise that outlives any damage is broken.
pub fn recover_directory(bytes: &[u8]) {
    let Some((mode, mutations)) = bytes.split_first() else { return };
    let origins = origin::origins();
    let Some(origin) = origins.get(usize::from(mode & 3)) else { return };
    let mut files = origin.files.clone();
    let forged = mode & 0x80 != 0;
    if forged {
        mutation::apply(&mut files, mutations, Content::Chosen);
        for (name, file) in &mut files {
            if name == Store::FILE { forge::checkpoint(file) } else { forge::segment(file) }
        }
    } else {
        mutation::apply(&mut files, mutations, Content::Noise);
    }
    let disk = Arc::new(PlainDisk::over(&files));
    drop(files);
    let told = (!forged).then_some(&origin.told);
    look(&disk, told);
    let Ok(engine) = open(&disk) else { return };
    take_everything(&engine, told);
    let accepted = go_on(&engine);
    drop(engine);
    open_again(&disk, &if forged { BTreeSet::new() } else { accepted });
}

/// Looks without opening: `verify`, `dump` and `stats`.
fn look(disk: &PlainDisk, told: Option<&BTreeMap<TaskId, Told>>) {
    let Ok(inspection) = inspect::look(disk, Path::new("directory"), NOW.wall, false) else { return };
    let _damage = inspection.verify();
    let _stats = inspection.stats();
    inspection.for_each_task(|task| {
        if let Some(known) = told.and_then(|told| told.get(&task.id)) {
            assert!(task.payload == known.payload, "{} is shown with another payload", task.id);
        }
        assert!(told.is_none_or(|told| told.contains_key(&task.id)), "{} is shown and was never enqueued", task.id);
    });
}

/// Takes what every group has to give, and settles it in all ways.
fn take_everything(engine: &Engine, told: Option<&BTreeMap<TaskId, Told>>) {
    for cell in engine.groups().into_iter().take(GROUPS_MAX) {
        let (mut seen, mut count) = (BTreeSet::new(), 0);
        while let Ok(handed) = engine.reserve(&cell, &all_of(7), LATE, |one| one) {
            if handed.is_empty() {
                break;
            }
            for one in &handed {
                let id = one.receipt.task;
                if let Some(told) = told {
                    assert!(seen.insert(id), "{id} is on loan twice");
                    assert!(told.get(&id) == Some(&bytes_of(one)), "{id} is not what was enqueued");
                }
            }
            count += handed.len();
            assert!(count < TASKS_MAX, "so many tasks don't fit the files");
            // The rest stays on loan; a task that was given back would come again at once.
            let ways = [Settle::Ack, Settle::Reject { reason: "no" }, Settle::Extend { lease_ms: 9 }, Settle::Ack];
            for (one, how) in handed.iter().zip(ways) {
                let _refused = engine.settle(&cell, std::iter::once(one.receipt), how, LATE);
            }
        }
    }
    let _next = engine.tick(LATE);
    let _stats = engine.stats(LATE);
    let _pins = engine.pins(LATE);
    let _damage = engine.damage();
}

fn bytes_of(handed: &Handed) -> Told {
    Told { fields: handed.body.fields().to_vec(), payload: handed.body.payload().to_vec() }
}

/// Appends to every lane and keeps house. Gives what is durable now.
fn go_on(engine: &Engine) -> BTreeSet<TaskId> {
    let draft = TaskDraft::plain(NEW, Durability::Power);
    let mut appended = BTreeSet::new();
    for lane in (0..4).map(LaneId) {
        if let Ok(new) = ready(engine, || engine.append(lane, &draft, LATE.wall)) {
            appended.insert(TaskId { queue: engine.queue(), lane, seq: new.first });
        }
    }
    let _refused = engine.create_group("another", Start::Oldest, crate::types::Retention::default(), LATE);
    let accepted = if commit_all(engine).is_ok() { appended } else { BTreeSet::new() };
    engine.sweep_strays();
    let _footers = engine.write_footers(NOW.wall);
    let _checkpoint = engine.checkpoint(LATE, false);
    let _waiting = engine.recycle();
    let _prepared = engine.prepare();
    let _again = engine.checkpoint(LATE, accepted.len() % 2 == 1);
    accepted
}

fn open_again(disk: &Arc<PlainDisk>, accepted: &BTreeSet<TaskId>) {
    let opened = open(disk);
    let refused = opened.as_ref().err();
    let is_known = matches!(refused, None | Some(Error::Full { .. } | Error::Io { .. }));
    assert!(is_known, "what opened does not open again: {refused:?}");
    let Ok(engine) = opened else { return };
    let Ok(cell) = engine.group("default") else { return };
    let mut missing = accepted.clone();
    while let Ok(handed) = engine.reserve(&cell, &all_of(64), LATE, |one| one) {
        if handed.is_empty() {
            break;
        }
        for one in &handed {
            let is_new = missing.remove(&one.receipt.task);
            assert!(!is_new || one.body.payload() == NEW, "{} is not what was enqueued", one.receipt.task);
        }
    }
    assert!(missing.is_empty(), "durable and lost: {missing:?}");
}

/// Opens the directory with the stored options, if they ask for no more memory than a run has.
fn open(disk: &Arc<PlainDisk>) -> Result<Engine> {
    let sane = |stored: &&StoredOptions| {
        (4 << 10..=64 << 10).contains(&stored.segment_bytes) && (1..=LANES_MAX).contains(&usize::from(stored.lanes))
    };
    let resolve = |stored: Option<&StoredOptions>| Ok(stored.filter(sane).cloned().unwrap_or_else(options));
    let given = Given { resolve: &resolve, fail_on_damage: false };
    let storage: Arc<PlainDisk> = Arc::clone(disk);
    recovery::open(storage, Path::new("directory"), &given, NOW)
}

fn options() -> StoredOptions {
    StoredOptions { max_attempts: 3, ..StoredOptions::tiny(3) }
}

/// Asks for tasks, on loan for ever.
fn all_of(tasks: usize) -> Ask {
    Ask { tasks, bytes: u64::MAX, lanes: LaneSet::ALL, lease_ms: u64::MAX / 2, consumer: 1 }
}

fn commit_all(engine: &Engine) -> Result<()> {
    for (_, log) in engine.lanes().all() {
        engine.commit(log, NOW.wall)?;
    }
    engine.commit(engine.journal(), NOW.wall).map(drop)
}

/// Makes segments ready until the step can be taken, or none can be made.
fn ready<T>(engine: &Engine, step: impl Fn() -> Result<Attempt<T>>) -> Result<T> {
    loop {
        match step()? {
            Attempt::Done(value) => return Ok(value),
            Attempt::NotReady => while engine.prepare()? {},
        }
    }
}
