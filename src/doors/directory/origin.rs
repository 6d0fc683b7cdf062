//! Small real queues, made by the engine itself: what the mutations damage.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use super::disk::{Files, PlainDisk};
use super::{NOW, all_of, commit_all, open, ready};
use crate::engine::Engine;
use crate::engine::append::TaskDraft;
use crate::engine::groups::Start;
use crate::engine::settle::Settle;
use crate::error::Error;
use crate::format::fields;
use crate::types::{Durability, LaneId, TaskId};

/// A queue's files, and what was enqueued into it.
pub(super) struct Origin {
    pub files: Files,
    pub told: BTreeMap<TaskId, Told>,
}

/// A task's bytes.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub fields: Vec<u8>,
    pub payload: Vec<u8>,
}

impl Told {
    fn draft(&self, durability: Durability) -> TaskDraft<'_> {
        TaskDraft { fields: &self.fields, special: true, payload: &self.payload, durability }
    }
}

/// The same queue at four moments: a journal and no checkpoint of its own, two checkpoints and a journal behind them,
/// sealed segments with footers, a clean close.
pub(super) fn origins() -> &'static [Origin] {
    static ORIGINS: OnceLock<Vec<Origin>> = OnceLock::new();
    // The engine knows its own bounds; a queue that can't be made has no moments, and the seeds' test says so.
    ORIGINS.get_or_init(|| make().unwrap_or_default())
}

/// A queue in the making.
struct Making {
    disk: Arc<PlainDisk>,
    engine: Engine,
    told: BTreeMap<TaskId, Told>,
    moments: Vec<Origin>,
}

fn make() -> Result<Vec<Origin>, Error> {
    let disk = Arc::new(PlainDisk::over(&Files::new()));
    let engine = open(&disk)?;
    let mut making = Making { disk, engine, told: BTreeMap::new(), moments: Vec::new() };
    making.tasks(0..9)?;
    making.batch(100..103)?;
    making.settle_some()?;
    making.moment()?;
    making.engine.create_group("late", Start::Newest, crate::types::Retention::default(), NOW)?;
    making.engine.checkpoint(NOW, false)?;
    making.tasks(10..14)?;
    making.engine.checkpoint(NOW, false)?;
    making.tasks(15..18)?;
    making.settle_some()?;
    making.moment()?;
    // Lane 0 rolls twice.
    (20..32).try_for_each(|number| making.task(LaneId(0), number, 700))?;
    commit_all(&making.engine)?;
    making.engine.write_footers(NOW.wall)?;
    making.settle_some()?;
    making.engine.checkpoint(NOW, false)?;
    making.settle_some()?;
    making.moment()?;
    making.engine.mark_idle(NOW.wall)?;
    making.engine.checkpoint(NOW, true)?;
    making.moment()?;
    Ok(making.moments)
}

impl Making {
    fn moment(&mut self) -> Result<(), Error> {
        commit_all(&self.engine)?;
        self.moments.push(Origin { files: self.disk.files(), told: self.told.clone() });
        Ok(())
    }

    fn tasks(&mut self, mut numbers: std::ops::Range<u8>) -> Result<(), Error> {
        numbers.try_for_each(|number| self.task(LaneId(number % 3), number, usize::from(number) * 5))
    }

    fn task(&mut self, lane: LaneId, number: u8, bytes: usize) -> Result<(), Error> {
        let told = told(number, bytes);
        let durability = if number.is_multiple_of(2) { Durability::Power } else { Durability::Process };
        let appended = ready(&self.engine, || self.engine.append(lane, &told.draft(durability), NOW.wall))?;
        self.told.insert(TaskId { queue: self.engine.queue(), lane, seq: appended.first }, told);
        Ok(())
    }

    fn batch(&mut self, numbers: std::ops::Range<u8>) -> Result<(), Error> {
        let (lane, queue) = (LaneId(1), self.engine.queue());
        let all: Vec<Told> = numbers.map(|number| told(number, 20)).collect();
        let drafts: Vec<TaskDraft<'_>> = all.iter().map(|told| told.draft(Durability::Power)).collect();
        let appended = ready(&self.engine, || self.engine.append_batch(lane, &drafts, NOW.wall))?;
        for (seq, told) in (appended.first.0..).zip(all) {
            self.told.insert(TaskId { queue, lane, seq: crate::types::Seq(seq) }, told);
        }
        commit_all(&self.engine)
    }

    /// Each of the ways in which a task can be settled, and some that stay on loan.
    fn settle_some(&mut self) -> Result<(), Error> {
        commit_all(&self.engine)?;
        let cell = self.engine.group("default")?;
        let ways = [
            Settle::Ack,
            Settle::Nack { delay_ms: Some(50), reason: "again" },
            Settle::Ack,
            Settle::Reject { reason: "no" },
            Settle::Release,
        ];
        let handed = self.engine.reserve(&cell, &all_of(6), NOW, |one| one.receipt)?;
        for (receipt, how) in handed.into_iter().zip(ways) {
            self.engine.settle(&cell, std::iter::once(receipt), how, NOW)?;
        }
        Ok(())
    }
}

fn told(number: u8, bytes: usize) -> Told {
    let mut fields = Vec::new();
    if number.is_multiple_of(3) {
        let _fits = fields::encode_headers(&mut fields, &[("number", [number])]);
    }
    Told { fields, payload: (0..bytes).map(|at| number.wrapping_add(u8::try_from(at % 251).unwrap_or(0))).collect() }
}
