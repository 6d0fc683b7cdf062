//! Consumers: reserves, all ways in which a lease ends, and what a task that is handed out must be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::model::{Loan, Mine, Side, Sure, Task, Verdict, Violation, ensure};
use super::super::operation::{DELAY_MS_MAX, How};
use super::super::schedule::Keyed;
use super::{Actor, Step};
use crate::delivery::Ask;
use crate::delivery::workers::WorkerId;
use crate::engine::Engine;
use crate::engine::deliver::Handed;
use crate::engine::groups::GroupCell;
use crate::engine::receipt::Receipt;
use crate::engine::settle::Settle;
use crate::error::{Damage, Error};
use crate::types::{LaneId, LaneSet, Now, Seq, Timestamp};

/// Longer than any lease or delay that a schedule asks for.
const LONG_MS: u64 = 2_000 + DELAY_MS_MAX;

impl Actor<'_> {
    pub(super) fn side(&self, group: u8) -> usize {
        usize::from(group) % self.model.sides.len().max(1)
    }

    pub(super) fn cell(&mut self, at: usize) -> Step<Arc<GroupCell>> {
        let Side { name, number, .. } = &self.model.sides[at];
        let cell = self.engine.group(name).map_err(|error| Violation(format!("a group is gone: {error}")))?;
        ensure!(*number == Some(cell.id), "group {name} has number {}, and had {number:?}", cell.id);
        Ok(cell)
    }

    /// Leases that ran out are over for whoever held them.
    pub(super) fn expire(&mut self, at: usize) {
        let side = &mut self.model.sides[at];
        let now = self.now.boot_ms;
        let dead = side.workers.extract_if(.., |_, worker| worker.dead_ms <= now);
        let dead: BTreeSet<u64> = dead.map(|(_, worker)| worker.id.consumer()).collect();
        side.end_loans(|loan| loan.until_ms <= now || dead.contains(&loan.consumer));
    }

    pub(super) fn reserve(
        &mut self,
        at: usize,
        tasks: usize,
        lanes: LaneSet,
        lease_ms: u16,
        consumer: u64,
    ) -> Step<usize> {
        let cell = self.cell(at)?;
        self.expire(at);
        let waited = self.note_waits(at);
        let ask = ask(tasks, lanes, u64::from(lease_ms), consumer);
        let handed = self.call(|actor| actor.engine.reserve(&cell, &ask, *actor.now, |one| one));
        let handed = handed.inspect_err(|_| self.model.sides[at].reserve_failed = true)?;
        self.handed(at, &cell, handed, &ask, &waited)
    }

    /// What a reserve gave is what it may give; `waited` is how long each lane that had a task waited before.
    fn handed(
        &mut self,
        at: usize,
        cell: &GroupCell,
        handed: Vec<Handed>,
        ask: &Ask,
        waited: &BTreeMap<LaneId, u64>,
    ) -> Step<usize> {
        let count = handed.len();
        let served: Vec<LaneId> = handed.iter().map(|one| one.receipt.task.lane).collect();
        // Under a bound on all loans nobody had a chance but who was served.
        let had = if self.setting.loans_max > 0 { count } else { ask.tasks };
        self.in_turn(at, &served, waited, had, ask.lanes)?;
        for lane in &served {
            ensure!(!self.model.is_paused(at, *lane), "lane {lane} is paused, and served");
        }
        for one in handed {
            let until_ms = self.now.boot_ms + ask.lease_ms;
            self.take(at, one, ask.consumer, until_ms)?;
        }
        self.settle_accounts(at, cell)?;
        self.check_keys(at)?;
        self.check_loans()?;
        Ok(count)
    }

    /// A consumer acks what it has and takes the next task, in one step.
    pub(super) fn ack_and_reserve(&mut self, at: usize, pick: usize) -> Step {
        let cell = self.cell(at)?;
        self.expire(at);
        let loans = &self.model.sides[at].loans;
        let Some(from) = pick.checked_rem(loans.len()) else { return Ok(()) };
        if WorkerId::of_consumer(loans[from].consumer).is_some() {
            // Its reserves are heartbeats too, and have a step of their own.
            return self.settle(at, pick, 1, How::Ack);
        }
        let waited = self.note_waits(at);
        let loan = self.model.sides[at].loans.remove(from);
        let (receipt, ask) = (loan.handed.receipt, ask(1, LaneSet::ALL, 500, loan.consumer));
        let outcome = self.call(|actor| {
            let mut handed = Vec::new();
            let give = |one, _| handed.push(one);
            let (acked, taken) = actor.engine.ack_and_reserve_each(&cell, receipt, &ask, *actor.now, give);
            acked.and(taken).map(|()| handed)
        });
        let Ok(handed) = outcome else {
            self.in_doubt(at, &loan, How::Ack);
            self.model.sides[at].reserve_failed = true;
            return outcome.map(drop);
        };
        self.settled(at, loan, How::Ack);
        self.handed(at, &cell, handed, &ask, &waited).map(drop)
    }

    /// A task was handed out: it must be one that the group may have now, as it was accepted.
    fn take(&mut self, at: usize, handed: Handed, consumer: u64, until_ms: u64) -> Verdict {
        let Receipt { task: id, attempt, fence, .. } = handed.receipt;
        let seq = id.seq;
        self.check_owner(at, seq, consumer)?;
        let side = &mut self.model.sides[at];
        ensure!(!side.loans.iter().any(|loan| loan.handed.receipt.task.seq == seq), "two leases of task {seq}");
        let Some(task) = self.model.tasks.get(&seq) else {
            return Err(Violation(format!("task {seq} was never accepted")));
        };
        let Some(mine) = side.mine.get_mut(&seq) else {
            return Err(Violation(format!("task {seq} is not for group {}, or is gone", side.name)));
        };
        ensure!(
            id.lane == task.lane && handed.body.payload() == task.payload.to_vec(),
            "task {seq} is not as it was accepted"
        );
        // Once its transaction is durable, whether what was there before is or not for which that waits as well.
        let is_kept = task.kept == Sure::Power || self.model.with_hits.contains(&task.transaction);
        ensure!(!task.power || is_kept, "task {seq} is handed out before it is durable");
        ensure!(!task.is_expired(self.now.wall.0), "task {seq} expired and is handed out");
        // The clocks may have been further apart when its delay was looked at.
        let latest = self.now.boot_ms.saturating_add_signed(self.model.ahead_most);
        ensure!(task.asks.run_at.is_none_or(|at| at <= latest), "task {seq} is handed out early: {task:?}");
        ensure!(
            mine.acked <= Sure::Maybe && mine.dead <= Sure::Maybe,
            "task {seq} is settled and comes again: {mine:?}"
        );
        let most = mine.attempts_most + u32::from(side.reserve_failed) + 1;
        ensure!((mine.attempts + 1..=most).contains(&attempt), "attempt {attempt} of task {seq}: {mine:?}");
        let in_order = task.asks.run_at.is_none() && !side.redriven.contains(&seq);
        if attempt == 1 && in_order && !side.met.contains(&seq) {
            let before = side.newest_met.insert((task.lane, task.key), seq);
            ensure!(before.is_none_or(|before| before < seq), "task {seq} is handed out after {before:?}");
        }
        side.met.insert(seq);
        ensure!(fence > mine.fence, "a later lease of task {seq} has fence {fence}: {mine:?}");
        *mine = Mine { must: true, attempts: attempt, attempts_most: attempt, fence, ..*mine };
        (mine.acked, mine.dead) = (Sure::No, if mine.revived { Sure::Maybe } else { Sure::No });
        side.loans.push(Loan { handed, consumer, until_ms });
        Ok(())
    }

    pub(super) fn settle(&mut self, at: usize, pick: usize, count: usize, how: How) -> Step {
        let cell = self.cell(at)?;
        self.expire(at);
        let side = &mut self.model.sides[at];
        // Now and then somebody comes too late.
        let stale = if pick.is_multiple_of(5) { side.stale.pop() } else { None };
        let from = if side.loans.is_empty() { 0 } else { pick % side.loans.len() };
        let to = (from + count).min(side.loans.len());
        let loans: Vec<Loan> = side.loans.drain(from..to).collect();
        if loans.is_empty() && stale.is_none() {
            return Ok(());
        }
        let receipts: Vec<Receipt> = loans.iter().map(|loan| loan.handed.receipt).chain(stale).collect();
        let settled = self.call(|actor| actor.engine.settle(&cell, receipts.iter().copied(), how.settle(), *actor.now));
        let settled = match settled {
            Ok(settled) => settled,
            Err(halt) => {
                loans.iter().for_each(|loan| self.in_doubt(at, loan, how));
                return Err(halt);
            }
        };
        if stale.is_some() {
            let last = settled.answers.last();
            ensure!(matches!(last, Some(Err(Error::LeaseLost { .. }))), "a lease that is over was settled: {last:?}");
        }
        for (loan, answer) in loans.into_iter().zip(&settled.answers) {
            let seq = loan.handed.receipt.task.seq;
            ensure!(answer.is_ok(), "the lease on task {seq} holds, and is refused: {answer:?}");
            self.settled(at, loan, how);
        }
        self.settle_accounts(at, &cell)?;
        Ok(())
    }

    pub(super) fn settled(&mut self, at: usize, mut loan: Loan, how: How) {
        let side = &mut self.model.sides[at];
        let mine = side.mine.entry(loan.handed.receipt.task.seq).or_default();
        if !matches!(how, How::Extend { .. }) {
            mine.transaction = 0;
        }
        match how {
            How::Ack => mine.acked = Sure::Process,
            How::Reject | How::Park => mine.die(Sure::Process),
            How::Release => mine.take_back(),
            How::Nack { .. } | How::Backoff => {}
            How::Extend { lease_ms } => {
                loan.until_ms = self.now.boot_ms + u64::from(lease_ms);
                side.loans.push(loan);
            }
        }
    }

    /// The settle failed: it took effect or not.
    pub(super) fn in_doubt(&mut self, at: usize, loan: &Loan, how: How) {
        let mine = self.model.sides[at].mine.entry(loan.handed.receipt.task.seq).or_default();
        match how {
            How::Ack => mine.acked = Sure::Maybe,
            How::Reject | How::Park => mine.die(Sure::Maybe),
            How::Release => mine.perhaps_less(mine.attempts.saturating_sub(1)),
            How::Nack { .. } | How::Backoff | How::Extend { .. } => {}
        }
    }

    pub(super) fn leave(&mut self, at: usize, consumer: u64) -> Step {
        let cell = self.cell(at)?;
        self.expire(at);
        let outcome = self.call(|actor| actor.engine.release_all(&cell, consumer, *actor.now));
        self.gave_back(at, consumer, outcome.is_ok());
        outcome?;
        self.settle_accounts(at, &cell)?;
        Ok(())
    }

    /// A consumer gave back what it has; if that is not sure, the attempts may stay counted.
    pub(super) fn gave_back(&mut self, at: usize, consumer: u64, sure: bool) {
        let side = &mut self.model.sides[at];
        let loans: Vec<Loan> = side.loans.extract_if(.., |loan| loan.consumer == consumer).collect();
        for loan in loans {
            if sure {
                self.model.sides[at].mine.entry(loan.handed.receipt.task.seq).or_default().take_back();
            } else {
                self.in_doubt(at, &loan, How::Release);
            }
        }
    }

    pub(super) fn tick(&mut self) -> Step {
        let outcome = self.call(|actor| actor.engine.tick(*actor.now));
        let sure = if outcome.is_ok() { Sure::Process } else { Sure::Maybe };
        for at in 0..self.model.sides.len() {
            self.expire(at);
            self.let_go(at, sure)?;
        }
        outcome?;
        for at in 0..self.model.sides.len() {
            let cell = self.cell(at)?;
            self.settle_accounts(at, &cell)?;
        }
        Ok(())
    }

    /// Everything that waits for the group is handed out sooner or later.
    pub(super) fn sweep(&mut self, at: usize) -> Step {
        self.call(|actor| actor.engine.sync_all(actor.now.wall))?;
        self.observe();
        // A delay that a recovery found begins when the cursor meets the task: one round for those.
        for _ in 0..2 {
            self.now.boot_ms += LONG_MS;
            self.now.wall.0 += LONG_MS;
            // What others had on loan is over, and leaves room.
            self.tick()?;
            while self.reserve(at, 7, LaneSet::ALL, u16::MAX, 0)? > 0 {}
        }
        self.sweep_keys(at, LONG_MS)?;
        // What has no key may have taken all the room there was for those with one.
        let was_full = self.setting.loans_max > 0 && self.setting.keyed != Keyed::No;
        if was_full || !self.may_lend() {
            return Ok(());
        }
        let side = &self.model.sides[at];
        for (seq, mine) in side.mine.iter().filter(|(_, mine)| mine.must && mine.is_open()) {
            let task = self.model.tasks.get(seq);
            let blocked =
                |task: &Task| self.stalls.iter().any(|stall| stall.lane == task.lane && stall.claim.seq() < *seq);
            // A task at `Power` waits for all of its transaction, and what is behind it in its lane waits for it.
            let waits = |(at, other): (&Seq, &Task)| {
                at <= seq && other.is_undecided() && task.is_some_and(|task| task.lane == other.lane)
            };
            let waits = !self.stalls.is_empty() && self.model.tasks.iter().any(waits);
            let there = side.loans.iter().any(|loan| loan.handed.receipt.task.seq == *seq);
            let unreadable = self.unreadable(*seq);
            let expired = task.is_some_and(|task| task.is_expired(self.now.wall.0));
            // An earlier task of its key may have been handed out and lie in a lane that is paused.
            let lanes = || (0..self.setting.lanes).map(LaneId);
            let any_paused = lanes().any(|lane| self.model.is_paused(at, lane));
            let paused = task.is_some_and(|t| self.model.is_paused(at, t.lane) || (t.key.is_some() && any_paused));
            let may_wait = unreadable || expired || paused || waits || task.is_some_and(blocked);
            ensure!(there || may_wait, "task {seq} is passed over: {mine:?}");
        }
        Ok(())
    }

    /// The queue says that the task can't be read before the next open, and a call of the disk did fail.
    pub(super) fn unreadable(&self, seq: Seq) -> bool {
        let lane = self.model.tasks.get(&seq).map(|task| task.lane);
        let names = |damage: &Damage| damage.lost.is_none_or(|(first, last)| (first..=last).contains(&seq));
        self.disk.faults() > 0 && self.engine.damage().iter().any(|damage| damage.lane == lane && names(damage))
    }

    /// Takes over which tasks used up their attempts.
    pub(super) fn settle_accounts(&mut self, at: usize, cell: &GroupCell) -> Verdict {
        let side = &mut self.model.sides[at];
        let max = self.setting.attempts_max;
        let dead = dead_of(&self.engine, cell);
        for seq in &dead {
            let Some(mine) = side.mine.get_mut(seq) else {
                return Err(Violation(format!("task {seq} is a dead letter of {}, which never saw it", side.name)));
            };
            if mine.dead <= Sure::Maybe {
                let task = self.model.tasks.get(seq);
                let max = task.map_or(max, |task| task.attempts_max(max));
                let worn_out = max > 0 && mine.attempts_most + u32::from(side.reserve_failed) >= max;
                let expired =
                    self.setting.expired_are_dead && task.is_some_and(|task| task.is_expired(self.now.wall.0));
                ensure!(
                    worn_out || expired || (mine.dead == Sure::Maybe && !mine.revived),
                    "task {seq} is dead: {mine:?}"
                );
                // If it used up its attempts in a transaction, that can be undone as long as the transaction can.
                let transaction = mine.transaction;
                mine.die(Sure::Process);
                mine.transaction = transaction;
            }
        }
        let forgotten = side.mine.iter().find(|(seq, mine)| mine.dead >= Sure::Process && !dead.contains(seq));
        ensure!(forgotten.is_none(), "a dead letter of {} is gone: {forgotten:?}", side.name);
        Ok(())
    }
}

impl How {
    pub(super) fn settle(self) -> Settle<'static> {
        match self {
            How::Ack => Settle::Ack,
            How::Nack { delay_ms } => Settle::Nack { delay_ms: Some(u64::from(delay_ms)), reason: "sim" },
            How::Backoff => Settle::Nack { delay_ms: None, reason: "sim" },
            How::Release => Settle::Release,
            How::Reject => Settle::Reject { reason: "sim" },
            How::Park => Settle::Park { reason: "sim" },
            How::Extend { lease_ms } => Settle::Extend { lease_ms: u64::from(lease_ms) },
        }
    }
}

pub(in super::super) fn ask(tasks: usize, lanes: LaneSet, lease_ms: u64, consumer: u64) -> Ask {
    Ask { tasks, bytes: u64::MAX, lanes, lease_ms, consumer }
}

/// The dead letters of a group, and what it has parked.
pub(in super::super) fn dead_of(engine: &Engine, cell: &GroupCell) -> BTreeSet<Seq> {
    engine.dead_letters(cell).iter().chain(&engine.parked(cell)).map(|letter| letter.id.seq()).collect()
}

/// A later moment, at which every lease and delay is over.
pub(in super::super) fn later(now: Now) -> Now {
    Now { boot_ms: now.boot_ms + 1_000_000, wall: Timestamp(now.wall.0 + 1_000_000) }
}
