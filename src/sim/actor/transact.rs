//! Transactions, and those who stand still in the middle of one.

use std::cell::RefCell;
use std::sync::Arc;

use super::super::disk::SimDisk;
use super::super::model::{Asks, Loan, Payload, Sure, Task, Transaction, Violation, ensure};
use super::super::operation::{How, Op, Stands};
use super::{Actor, Flow, Halt, Step};
use crate::engine::append::TaskDraft;
use crate::engine::groups::GroupCell;
use crate::engine::receipt::Receipt;
use crate::engine::settle::Settle;
use crate::engine::transaction::{Decided, Plan};
use crate::engine::{Attempt, Engine};
use crate::error::Error;
use crate::log::Ends;
use crate::types::{Durability, LaneId, LogId, Now, Seq};

/// A transaction that took effect, and what it waits for.
pub(super) struct Waiting {
    number: u32,
    ends: Ends,
}

/// What one transaction is made of.
struct Parts {
    at: usize,
    tasks: Vec<(LaneId, Payload)>,
    loans: Vec<(Loan, How)>,
    power: bool,
}

impl Actor<'_> {
    pub(super) fn transaction(&mut self, op: Op) -> Step {
        let Op::Transaction { lane, tasks, bytes, group, pick, settles, how, power, stands } = op else {
            return Ok(());
        };
        if self.setting.room.is_bounded() {
            // Who is refused for want of room is looked at task by task.
            return Ok(());
        }
        let at = self.side(group);
        let cell = self.cell(at)?;
        self.expire(at);
        let lanes = self.setting.lanes;
        let tasks = (0..tasks).map(|task| (LaneId((lane + task) % lanes), self.model.payload(bytes / 2))).collect();
        let side = &mut self.model.sides[at];
        // Now and then somebody comes too late.
        let stale = if pick.is_multiple_of(5) { side.stale.pop() } else { None };
        let from = if side.loans.is_empty() { 0 } else { usize::from(pick) % side.loans.len() };
        let to = (from + usize::from(settles)).min(side.loans.len());
        let how = if matches!(how, How::Extend { .. }) { How::Ack } else { how };
        let loans = side.loans.drain(from..to).enumerate();
        let loans = loans.map(|(number, loan)| (loan, if number == 0 { How::Ack } else { how })).collect();
        let parts = Parts { at, tasks, loans, power };
        match stands {
            Some(stands) => self.stand_still(&cell, parts, stands),
            None if stale.is_some() => self.come_too_late(parts, stale),
            None => self.transact(&cell, parts),
        }
    }

    /// One lease that is over refuses the whole.
    fn come_too_late(&mut self, parts: Parts, stale: Option<Receipt>) -> Step {
        let bodies: Vec<Vec<u8>> = parts.tasks.iter().map(|(_, payload)| payload.to_vec()).collect();
        let outcome = parts.with_plan(&bodies, stale, |plan| self.engine.transact(plan, *self.now).map(drop));
        self.model.sides[parts.at].loans.extend(parts.loans.into_iter().map(|(loan, _)| loan));
        match outcome {
            _ if self.disk.has_crashed() => Err(Halt::Flow(Flow::Stop)),
            Err(Error::LeaseLost { .. }) => Ok(()),
            Err(error) => Err(self.failed(&error)),
            Ok(()) => Err(Violation("a transaction with a lease that is over was accepted".to_owned()).into()),
        }
    }

    fn transact(&mut self, cell: &Arc<GroupCell>, parts: Parts) -> Step {
        let bodies: Vec<Vec<u8>> = parts.tasks.iter().map(|(_, payload)| payload.to_vec()).collect();
        let outcome = parts.with_plan(&bodies, None, |plan| self.ready(|engine, now| engine.transact(plan, now)));
        let Decided { tasks, ends } = match outcome {
            Ok(decided) => decided,
            Err(halt) => {
                // Refused, with nothing written.
                self.model.sides[parts.at].loans.extend(parts.loans.into_iter().map(|(loan, _)| loan));
                return Err(halt);
            }
        };
        let (at, power) = (parts.at, parts.power);
        let number = self.note(parts, &tasks, Sure::Process)?;
        self.took_effect(at, cell, number, &ends, power)
    }

    /// What follows a transaction: attempts that it used up are seen, and at `Power` it is waited for.
    fn took_effect(&mut self, at: usize, cell: &GroupCell, number: u32, ends: &Ends, power: bool) -> Step {
        self.waiting.push(Waiting { number, ends: ends.clone() });
        self.settle_accounts(at, cell)?;
        ends.iter().filter(|_| power).try_for_each(|(log, _)| self.commit(log.lane()))
    }

    /// Goes as far as one of the protocol's steps, lets others commit, and never goes on.
    fn stand_still(&mut self, cell: &Arc<GroupCell>, parts: Parts, stands: Stands) -> Step {
        let bodies: Vec<Vec<u8>> = parts.tasks.iter().map(|(_, payload)| payload.to_vec()).collect();
        let cells = if parts.loans.is_empty() { Vec::new() } else { vec![Arc::clone(cell)] };
        let decided = RefCell::new(None);
        let outcome = parts.with_plan(&bodies, None, |plan| {
            self.ready(|engine, now| stand_still(engine, plan, &cells, now, stands, &decided, self.disk))
        });
        if let Some(tasks) = decided.into_inner() {
            self.note(parts, &tasks, Sure::Maybe)?;
        } else {
            let loans = parts.loans.into_iter().map(|(loan, _)| loan);
            self.model.sides[parts.at].loans.extend(loans);
        }
        outcome?;
        Err(Halt::Flow(Flow::Stop))
    }

    /// A transaction took effect, or may have.
    fn note(&mut self, parts: Parts, sequences: &[Seq], sure: Sure) -> Step<u32> {
        let Parts { at, tasks, loans, power } = parts;
        ensure!(tasks.len() == sequences.len(), "{} tasks have {} sequences", tasks.len(), sequences.len());
        self.model.transactions_begun += 1;
        let number = self.model.transactions_begun;
        for (seq, (lane, payload)) in sequences.iter().zip(tasks) {
            self.model.accept(*seq, lane, payload, 0, power)?;
            if let Some(task) = self.model.tasks.get_mut(seq) {
                (task.transaction, task.kept) = (number, sure);
            }
        }
        let mut settled = Vec::new();
        for (loan, how) in loans {
            let seq = loan.handed.receipt.task.seq;
            if sure == Sure::Process {
                self.settled(at, loan, how);
            } else {
                self.in_doubt(at, &loan, how);
            }
            self.model.sides[at].mine.entry(seq).or_default().transaction = number;
            settled.push((seq, how));
        }
        let side = self.model.sides[at].ordinal;
        self.model.transactions.push(Transaction { number, tasks: sequences.to_vec(), side, settled });
        Ok(number)
    }

    /// A dead letter becomes a task of another lane, which is a transaction.
    pub(super) fn move_letter(&mut self, at: usize, pick: u8, lane: LaneId, power: bool) -> Step {
        if self.setting.room.is_bounded() {
            return Ok(());
        }
        let Some(dead) = self.picked(at, usize::from(pick), |mine| mine.dead >= Sure::Process) else { return Ok(()) };
        let Some(id) = self.id_of(dead) else { return Ok(()) };
        let cell = self.cell(at)?;
        let disk = self.disk;
        let moved = self.ready(|engine, now| match engine.redrive_to(&cell, id, lane, now) {
            // Its record can't be read now.
            Err(Error::Io { .. }) if disk.faults() > 0 && engine.check_poison().is_ok() => Ok(Attempt::Done(None)),
            outcome => outcome,
        })?;
        let Some(Decided { tasks, ends }) = moved else {
            ensure!(disk.faults() > 0, "dead letter {dead} was not moved");
            return Ok(());
        };
        ensure!(tasks.len() == 1, "a dead letter became {tasks:?}");
        self.model.transactions_begun += 1;
        let number = self.model.transactions_begun;
        let (old, wall_ms) = (self.model.tasks[&dead], self.now.wall.0);
        for seq in &tasks {
            self.model.accept(*seq, lane, old.payload, 0, true)?;
            let asks = Asks { run_at: None, expires: old.asks.expires.filter(|end| *end > wall_ms), ..old.asks };
            let new = Task { lane, transaction: number, of_one: true, kept: Sure::Process, batch: 0, asks, ..old };
            self.model.tasks.insert(*seq, Task { power: true, ..new });
            let others = self.model.sides.iter_mut().enumerate().filter(|(other, _)| *other != at);
            let others = others.map(|(_, side)| side).chain(&mut self.model.gone);
            others.for_each(|side| _ = side.mine.remove(seq));
        }
        let side = &mut self.model.sides[at];
        let mine = side.mine.entry(dead).or_default();
        mine.settle(Sure::Process);
        mine.transaction = number;
        let settled = vec![(dead, How::Ack)];
        self.model.transactions.push(Transaction { number, tasks, side: side.ordinal, settled });
        self.took_effect(at, &cell, number, &ends, power)
    }

    /// Takes over which transactions became durable.
    pub(super) fn observe_transactions(&mut self) {
        let engine = &self.engine;
        let durable = |log: LogId| engine.log_of(log).map_or(0, |log| log.durable());
        let is_durable = |waiting: &mut Waiting| waiting.ends.iter().all(|(log, end)| durable(*log) >= *end);
        let over: Vec<Waiting> = self.waiting.extract_if(.., is_durable).collect();
        over.iter().for_each(|waiting| self.model.transaction_durable(waiting.number));
    }
}

impl Parts {
    fn with_plan<T>(&self, bodies: &[Vec<u8>], stale: Option<Receipt>, run: impl FnOnce(&Plan<'_>) -> T) -> T {
        let durability = if self.power { Durability::Power } else { Durability::Process };
        let lanes = self.tasks.iter().map(|(lane, _)| *lane);
        let tasks: Vec<_> = lanes.zip(bodies.iter().map(|body| TaskDraft::plain(body, durability))).collect();
        let settles = self.loans.iter().map(|(loan, how)| (loan.handed.receipt, how.settle()));
        let settles: Vec<_> = settles.chain(stale.map(|receipt| (receipt, Settle::Ack))).collect();
        run(&Plan { tasks: &tasks, settles: &settles, letter: None, durability })
    }
}

/// Takes a transaction as far as a step, commits some logs, and leaves it there for good. `decided` gets its tasks once
/// somebody may find it whole.
fn stand_still(
    engine: &Engine,
    plan: &Plan<'_>,
    cells: &[Arc<GroupCell>],
    now: Now,
    stands: Stands,
    decided: &RefCell<Option<Vec<Seq>>>,
    disk: &SimDisk,
) -> Result<Attempt<()>, Error> {
    let Attempt::Done(mut open) = engine.begin(plan, cells, now)? else { return Ok(Attempt::NotReady) };
    if stands.step > 0 {
        open.fill(plan, now);
    }
    if stands.step > 1 {
        open.settle(plan, now)?;
    }
    if stands.step > 2 {
        *decided.borrow_mut() = Some(open.tasks(plan));
        open.publish_decision()?;
    }
    for lane in 3..stands.step {
        open.publish_lane(usize::from(lane - 3))?;
    }
    // A failed sync is for whoever waits for it; here nobody asks any more.
    if stands.commits & 1 != 0 {
        let _failed = engine.commit(engine.journal(), now.wall);
    }
    for (lane, log) in engine.lanes().all() {
        if stands.commits >> (lane.0 + 1) & 1 != 0 {
            let _failed = engine.commit(log, now.wall);
        }
    }
    // The process dies here: what is given up from now on is not seen by any disk.
    disk.crash();
    drop(open);
    Ok(Attempt::Done(()))
}
