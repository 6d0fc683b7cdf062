//! The model queue: what callers were told, for each task and each group, and nothing of how the engine keeps it.
//!
//! Of every effect it says how sure it is ([`Sure`]), because a crash may undo what was not yet promised. A call that ended
//! in an error without a promise leaves its effect *maybe*: it may be there after a restart or not, but wholly.

use std::collections::{BTreeMap, BTreeSet};

use super::files::Files;
use super::lost::Lost;
use super::once::Ids;
use super::operation::How;
use crate::delivery::workers::WorkerId;
use crate::engine::deliver::Handed;
use crate::engine::receipt::Receipt;
use crate::types::{LaneId, Retention, Seq};

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

/// Whether something is paused, as far as its callers were told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Held {
    pub now: bool,
    /// What it may be after the death of the process, and after a power loss: (running, paused).
    killed: Reach,
    powerless: Reach,
}

/// Which of two states may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Reach {
    running: bool,
    paused: bool,
}

impl Default for Reach {
    fn default() -> Self {
        Reach::only(false)
    }
}

impl Reach {
    fn only(paused: bool) -> Reach {
        Reach { running: !paused, paused }
    }

    fn add(&mut self, paused: bool) {
        self.paused |= paused;
        self.running |= !paused;
    }
}

impl Held {
    /// It is so for good.
    pub(super) fn surely(paused: bool) -> Held {
        Held { now: paused, killed: Reach::only(paused), powerless: Reach::only(paused) }
    }

    /// The call succeeded; a power loss may undo it.
    pub(super) fn set(&mut self, paused: bool) {
        self.now = paused;
        self.killed = Reach::only(paused);
        self.powerless.add(paused);
    }

    /// The call failed: it is so or not.
    pub(super) fn maybe(&mut self, paused: bool) {
        self.killed.add(paused);
        self.powerless.add(paused);
    }

    fn synced(&mut self) {
        self.powerless = self.killed;
    }

    /// It may be so after a restart with or without a power loss.
    pub(super) fn may_be(&self, paused: bool, power_lost: bool) -> bool {
        let reach = if power_lost { self.powerless } else { self.killed };
        if paused { reach.paused } else { reach.running }
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
    pub asks: Asks,
    /// The transaction that it came with; 0 is none.
    pub transaction: u32,
    /// It was a dead letter of one group, and is for that one alone.
    pub of_one: bool,
    /// It was cancelled, for groups to come too.
    pub cancelled: Sure,
}

/// A transaction of which not everything is durable.
#[derive(Clone)]
pub(super) struct Transaction {
    pub number: u32,
    pub tasks: Vec<Seq>,
    /// What it settled: of which group, by its ordinal, which tasks, and how.
    pub side: u32,
    pub settled: Vec<(Seq, How)>,
}

/// What a task asks for; times are on the wall clock.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Asks {
    pub run_at: Option<u64>,
    pub expires: Option<u64>,
    pub attempts_max: Option<u32>,
}

impl Task {
    /// Attempts after which it is given up on, in a queue whose own maximum is `max`; 0 is never.
    pub(super) fn attempts_max(&self, max: u32) -> u32 {
        self.asks.attempts_max.unwrap_or(max)
    }

    /// It waits for the rest of its transaction.
    pub(super) fn is_undecided(&self) -> bool {
        self.transaction > 0 && self.power && self.kept < Sure::Power
    }

    /// Nobody wants it done any more at `wall_ms`.
    pub(super) fn is_expired(&self, wall_ms: u64) -> bool {
        self.asks.expires.is_some_and(|expires| expires <= wall_ms)
    }
}

/// More attempts than any task has: how many a task began that used up all of them is not known.
pub(super) const WORN_OUT: u32 = u32::MAX / 2;

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
    /// Attempts that began, at least, whatever survives.
    pub attempts_kept: u32,
    /// Attempts taken back that a power loss may bring again.
    pub taken_back: u32,
    /// It was dead and came back; a power loss may undo that.
    pub revived: bool,
    /// It was dead at `Power`, and what was done to it since leaves it settled, one way or the other.
    pub over: bool,
    /// Of its last lease.
    pub fence: u64,
    /// The transaction, not durable yet, that settled it last; 0 is none.
    pub transaction: u32,
    /// Its lane was purged in this open: no group that begins later sees it.
    pub purged: bool,
}

impl Mine {
    /// Perhaps no more than so many attempts began.
    pub(super) fn perhaps_less(&mut self, attempts: u32) {
        self.attempts = self.attempts.min(attempts);
        self.attempts_kept = self.attempts_kept.min(attempts);
    }

    /// An attempt never began.
    pub(super) fn take_back(&mut self) {
        self.perhaps_less(self.attempts.saturating_sub(1));
        self.attempts_most = self.attempts_most.saturating_sub(1);
        self.taken_back += 1;
    }

    /// What was last said of it is durable.
    fn settle_for_good(&mut self) {
        self.taken_back = 0;
        self.transaction = 0;
        if std::mem::take(&mut self.revived) {
            self.dead = Sure::No;
        }
        self.acked = self.acked.synced();
        self.dead = self.dead.synced();
    }

    /// It was dead and comes back, with so many attempts.
    pub(super) fn revive(&mut self, attempts: u32) {
        (self.dead, self.revived, self.transaction) = (Sure::Maybe, true, 0);
        self.over = false;
        let most = attempts.min(self.attempts_most);
        self.taken_back = self.taken_back.saturating_add(self.attempts_most - most);
        self.attempts_most = most;
        self.perhaps_less(attempts);
    }

    /// It is dead, or set aside.
    pub(super) fn die(&mut self, sure: Sure) {
        (self.dead, self.revived, self.transaction) = (sure, false, 0);
    }

    /// Somebody settled it for good by hand.
    pub(super) fn settle(&mut self, sure: Sure) {
        // Whatever becomes of a transaction that settled it before, it tells nothing of that any more.
        self.transaction = 0;
        if self.acked <= Sure::Maybe {
            self.acked = sure;
        }
        self.over |= self.dead >= Sure::Power;
        self.dead = self.dead.min(Sure::Maybe);
    }

    /// Neither acked nor dead, as far as the caller can know.
    pub(super) fn is_open(&self) -> bool {
        self.acked == Sure::No && self.dead == Sure::No
    }
}

/// A task on loan.
#[derive(Clone)]
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
#[derive(Clone)]
pub(super) struct Side {
    pub name: String,
    /// Which of all groups there ever were it is; the first is 0.
    pub ordinal: u32,
    /// Its number in the engine, if it is known.
    pub number: Option<u32>,
    pub born: Sure,
    /// It was removed.
    pub gone: Sure,
    pub held: Held,
    /// What it may have left to do, after the death of the process and after a power loss: one of these, the last one now.
    pub retains: Vec<Retention>,
    pub retains_powerless: Vec<Retention>,
    /// It began behind the newest task.
    pub newest: bool,
    pub mine: BTreeMap<Seq, Mine>,
    pub lost: Lost,
    pub loans: Vec<Loan>,
    /// Receipts of leases that are over.
    pub stale: Vec<Receipt>,
    /// The last task that this open handed out for the first time, by lane and key; and all that it handed out.
    pub newest_met: BTreeMap<(LaneId, Option<u8>), Seq>,
    pub met: BTreeSet<Seq>,
    /// Those that came back from the dead, and so out of order.
    pub redriven: BTreeSet<Seq>,
    /// Since when each lane that surely has a task waits, on the boot clock.
    pub waits: BTreeMap<LaneId, u64>,
    /// Live workers by name.
    pub workers: BTreeMap<u8, Worker>,
    /// A reserve failed: attempts may be one higher than told.
    pub reserve_failed: bool,
}

impl Side {
    pub(super) fn new(name: String, ordinal: u32, number: Option<u32>, born: Sure) -> Self {
        Side {
            name,
            ordinal,
            number,
            born,
            gone: Sure::No,
            held: Held::default(),
            retains: vec![Retention::default()],
            retains_powerless: vec![Retention::default()],
            newest: false,
            mine: BTreeMap::new(),
            lost: Lost::default(),
            loans: Vec::new(),
            stale: Vec::new(),
            newest_met: BTreeMap::new(),
            met: BTreeSet::new(),
            redriven: BTreeSet::new(),
            waits: BTreeMap::new(),
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
        self.newest_met.clear();
        self.met.clear();
        self.redriven.clear();
        self.waits.clear();
        self.workers.clear();
    }
}

/// Everything that was promised so far.
#[derive(Clone, Default)]
pub(super) struct Model {
    /// Sequences are never used twice in a queue, so they name tasks. Kept for good.
    pub tasks: BTreeMap<Seq, Task>,
    pub sides: Vec<Side>,
    /// Groups that were removed and may be back after a power loss, and the numbers of all those that are gone for good.
    pub gone: Vec<Side>,
    pub numbers_gone: BTreeSet<u32>,
    pub lanes_held: BTreeMap<LaneId, Held>,
    pub batches: u32,
    /// Those that a power loss may undo, and how many there ever were.
    pub transactions: Vec<Transaction>,
    pub transactions_begun: u32,
    /// Those in which an id gave a task that was there before.
    pub with_hits: BTreeSet<u32>,
    pub ids: Ids,
    pub files: Files,
    pub payloads: u32,
    pub groups: u32,
    /// How far the wall clock was ahead of the boot clock at most.
    pub ahead_most: i64,
}

impl Model {
    pub(super) fn new() -> Self {
        let sides = vec![Side::new("default".to_owned(), 0, Some(0), Sure::Power)];
        Model { sides, ..Model::default() }
    }

    /// All that was told, without the payloads that are held.
    pub(super) fn without_loans(&self) -> Self {
        let mut model = self.clone();
        model.sides.iter_mut().chain(&mut model.gone).for_each(|side| side.loans.clear());
        model
    }

    pub(super) fn payload(&mut self, bytes: u16) -> Payload {
        self.payloads += 1;
        Payload { number: self.payloads, bytes }
    }

    /// A task was accepted.
    pub(super) fn accept(&mut self, seq: Seq, lane: LaneId, payload: Payload, batch: u32, power: bool) -> Verdict {
        let asks = Asks::default();
        let kept = Sure::Process;
        let cancelled = Sure::No;
        let task =
            Task { lane, payload, kept, batch, power, key: None, asks, transaction: 0, of_one: false, cancelled };
        ensure!(self.tasks.insert(seq, task).is_none(), "sequence {seq} was given out twice");
        for side in self.sides.iter_mut().chain(&mut self.gone) {
            side.mine.insert(seq, Mine { must: true, ..Mine::default() });
        }
        Ok(())
    }

    /// True if nothing of the lane may be handed out to that side.
    pub(super) fn is_paused(&self, at: usize, lane: LaneId) -> bool {
        self.sides[at].held.now || self.lanes_held.get(&lane).is_some_and(|held| held.now)
    }

    /// A commit of the journal succeeded.
    pub(super) fn journal_durable(&mut self) {
        let over = self.gone.extract_if(.., |side| side.gone >= Sure::Process);
        self.numbers_gone.extend(over.filter_map(|side| side.number));
        self.lanes_held.values_mut().for_each(Held::synced);
        self.tasks.values_mut().for_each(|task| task.cancelled = task.cancelled.synced());
        for side in &mut self.sides {
            side.born = side.born.synced();
            side.held.synced();
            side.retains_powerless.clone_from(&side.retains);
            for mine in side.mine.values_mut().filter(|mine| mine.transaction == 0) {
                mine.settle_for_good();
                mine.attempts_kept = mine.attempts;
            }
        }
    }

    /// All logs that a transaction wrote to are durable.
    pub(super) fn transaction_durable(&mut self, number: u32) {
        for side in self.sides.iter_mut().chain(&mut self.gone) {
            side.mine.values_mut().filter(|mine| mine.transaction == number).for_each(Mine::settle_for_good);
        }
        let over: Vec<_> = self.transactions.extract_if(.., |one| one.number == number).collect();
        for tasks in over.into_iter().map(|one| one.tasks) {
            for seq in tasks {
                if let Some(task) = self.tasks.get_mut(&seq) {
                    task.kept = Sure::Power;
                }
            }
        }
    }

    /// A group was created, for tasks from the oldest or from the newest on.
    pub(super) fn add_side(&mut self, name: String, number: Option<u32>, newest: bool, born: Sure) {
        let mut side = Side::new(name, self.groups, number, born);
        side.newest = newest;
        if !newest {
            let purged = |seq: &Seq| self.sides.iter().any(|side| side.mine.get(seq).is_some_and(|mine| mine.purged));
            let shown = self.tasks.iter().filter(|(seq, task)| !task.of_one && !purged(seq));
            for (seq, task) in shown {
                if task.cancelled >= Sure::Process {
                    // Where the group is, what was said before it is too.
                    side.mine.insert(*seq, Mine { acked: Sure::Power, ..Mine::default() });
                    continue;
                }
                // What all others settled may be gone already.
                let kept = |side: &Side| side.mine.get(seq).is_some_and(|mine| mine.must && mine.acked == Sure::No);
                side.mine.insert(
                    *seq,
                    Mine { must: task.cancelled == Sure::No && self.sides.iter().any(kept), ..Mine::default() },
                );
            }
        }
        self.sides.push(side);
    }
}
