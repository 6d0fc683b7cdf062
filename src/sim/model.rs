//! The model queue: what callers were told, for each task and each group, and nothing of how the engine keeps it.
//!
//! Of every effect it says how sure it is ([`Sure`]), because a crash may undo what was not yet promised. A call that ended
//! in an error without a promise leaves its effect *maybe*: it may be there after a restart or not, but wholly.

use std::collections::{BTreeMap, BTreeSet};

use crate::delivery::workers::WorkerId;
use crate::engine::deliver::Handed;
use crate::engine::receipt::Receipt;
use crate::types::{LaneId, Seq};

/// What is wrong, in words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation(pub String);

pub(super) type Verdict<T = ()> = Result<T, Violation>;

/// Ends in a violation unless the condition holds.
macro_rules! ensure {
    ($holds:expr, $($text:tt)*) => {
        if !$holds {
            Err(crate::sim::model::Violation(format!($($text)*)))?;
        }
    };
}
pub(super) use ensure;

/// How sure an effect is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) enum Sure {
    /// It did not happen.
    #[default]
    No,
    /// The call failed: it may have happened.
    Maybe,
    /// It happened and survives the death of the process; a power loss may undo it.
    Process,
    /// It is there for good.
    Power,
}

impl Sure {
    /// After the log it was written to became durable.
    fn synced(self) -> Sure {
        if self >= Sure::Process { Sure::Power } else { self }
    }

    /// It may be there after a restart.
    pub(super) fn may_be(self) -> bool {
        self > Sure::No
    }

    /// It must be there after a restart with or without a power loss.
    pub(super) fn must_be(self, power_lost: bool) -> bool {
        if power_lost { self == Sure::Power } else { self >= Sure::Process }
    }
}

/// A payload that its number and length determine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Payload {
    pub number: u32,
    pub bytes: u16,
}

impl Payload {
    pub(super) fn to_vec(self) -> Vec<u8> {
        let mut word = u64::from(self.number).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut bytes = Vec::with_capacity(usize::from(self.bytes) + 8);
        while bytes.len() < usize::from(self.bytes) {
            bytes.extend(word.to_le_bytes());
            word = word.wrapping_mul(0xD134_2543_DE82_EF95).wrapping_add(0x1405_7B7E_F767_814F);
        }
        bytes.truncate(usize::from(self.bytes));
        bytes
    }
}

/// A task that was accepted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Task {
    pub lane: LaneId,
    pub payload: Payload,
    pub kept: Sure,
    /// 0 is none.
    pub batch: u32,
    /// Asked for at `Power`: not to be handed out before it is durable.
    pub power: bool,
    pub key: Option<u8>,
}

/// What a group was told of a task that it may see.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Mine {
    /// It has to see it; else it may.
    pub must: bool,
    pub acked: Sure,
    pub dead: Sure,
    /// Attempts that began, at least and at most.
    pub attempts: u32,
    pub attempts_most: u32,
    /// Attempts taken back that a power loss may bring again.
    pub taken_back: u32,
    /// Of its last lease.
    pub fence: u64,
}

impl Mine {
    /// An attempt never began.
    pub(super) fn take_back(&mut self) {
        self.attempts = self.attempts.saturating_sub(1);
        self.attempts_most = self.attempts_most.saturating_sub(1);
        self.taken_back += 1;
    }

    /// Neither acked nor dead, as far as the caller can know.
    pub(super) fn is_open(&self) -> bool {
        self.acked == Sure::No && self.dead == Sure::No
    }
}

/// A task on loan.
pub(super) struct Loan {
    pub handed: Handed,
    pub consumer: u64,
    /// On the boot clock.
    pub until_ms: u64,
}

/// A worker as it knows itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Worker {
    pub id: WorkerId,
    /// When it is dead, unless it is heard of before.
    pub dead_ms: u64,
}

/// One group as its callers know it.
pub(super) struct Side {
    pub name: String,
    pub born: Sure,
    /// Its number among all groups, if it began behind the newest task.
    pub newest_of: Option<u32>,
    pub mine: BTreeMap<Seq, Mine>,
    pub loans: Vec<Loan>,
    /// Receipts of leases that are over.
    pub stale: Vec<Receipt>,
    /// The last task that this open handed out for the first time, by lane and key; and all that it handed out.
    pub newest: BTreeMap<(LaneId, Option<u8>), Seq>,
    pub met: BTreeSet<Seq>,
    /// Live workers by name.
    pub workers: BTreeMap<u8, Worker>,
    /// A reserve failed: attempts may be one higher than told.
    pub reserve_failed: bool,
}

impl Side {
    pub(super) fn new(name: String, born: Sure) -> Self {
        Side {
            name,
            born,
            newest_of: None,
            mine: BTreeMap::new(),
            loans: Vec::new(),
            stale: Vec::new(),
            newest: BTreeMap::new(),
            met: BTreeSet::new(),
            workers: BTreeMap::new(),
            reserve_failed: false,
        }
    }

    /// The loans that `is_over` are over: who comes with their receipts comes too late.
    pub(super) fn end_loans(&mut self, is_over: impl Fn(&Loan) -> bool) {
        let over = self.loans.extract_if(.., |loan| is_over(loan));
        self.stale.extend(over.map(|loan| loan.handed.receipt));
        let surplus = self.stale.len().saturating_sub(4);
        self.stale.drain(..surplus);
    }

    /// The process died: loans end, cursors start again.
    pub(super) fn restart(&mut self) {
        self.stale.extend(self.loans.drain(..).map(|loan| loan.handed.receipt).take(2));
        self.newest.clear();
        self.met.clear();
        self.workers.clear();
    }
}

/// Everything that was promised so far.
#[derive(Default)]
pub(super) struct Model {
    /// Sequences are never used twice in a queue, so they name tasks. Kept for good.
    pub tasks: BTreeMap<Seq, Task>,
    pub sides: Vec<Side>,
    pub batches: u32,
    pub payloads: u32,
    pub groups: u32,
}

impl Model {
    pub(super) fn new() -> Self {
        let sides = vec![Side::new("default".to_owned(), Sure::Power)];
        Model { sides, ..Model::default() }
    }

    pub(super) fn payload(&mut self, bytes: u16) -> Payload {
        self.payloads += 1;
        Payload { number: self.payloads, bytes }
    }

    /// A task was accepted.
    pub(super) fn accept(&mut self, seq: Seq, lane: LaneId, payload: Payload, batch: u32, power: bool) -> Verdict {
        let task = Task { lane, payload, kept: Sure::Process, batch, power, key: None };
        ensure!(self.tasks.insert(seq, task).is_none(), "sequence {seq} was given out twice");
        for side in &mut self.sides {
            side.mine.insert(seq, Mine { must: true, ..Mine::default() });
        }
        Ok(())
    }

    /// A commit of the journal succeeded.
    pub(super) fn journal_durable(&mut self) {
        for side in &mut self.sides {
            side.born = side.born.synced();
            for mine in side.mine.values_mut() {
                mine.taken_back = 0;
                mine.acked = mine.acked.synced();
                mine.dead = mine.dead.synced();
            }
        }
    }

    /// A group was created, for tasks from the oldest or from the newest on.
    pub(super) fn add_side(&mut self, name: String, newest: bool, born: Sure) {
        let mut side = Side::new(name, born);
        side.newest_of = newest.then_some(self.groups);
        if !newest {
            for seq in self.tasks.keys() {
                // What all others settled may be gone already.
                let kept = |side: &Side| side.mine.get(seq).is_some_and(|mine| mine.must && mine.acked == Sure::No);
                side.mine.insert(*seq, Mine { must: self.sides.iter().any(kept), ..Mine::default() });
            }
        }
        self.sides.push(side);
    }
}
