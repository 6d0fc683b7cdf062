//! Transactions, and those who stand still in the middle of one.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::disk::SimDisk;
use super::super::model::{Asks, Loan, Payload, Sure, Task, Transaction, Violation, ensure};
use super::super::once::{IDS, fingerprint};
use super::super::operation::{How, Op, Stands};
use super::once::fields_of;
use super::{Actor, Flow, Halt, Step};
use crate::engine::append::TaskDraft;
use crate::engine::dedup::Accepted;
use crate::engine::groups::GroupCell;
use crate::engine::receipt::Receipt;
use crate::engine::settle::Settle;
use crate::engine::transaction::{Decided, Plan};
use crate::engine::{Attempt, Engine};
use crate::error::Error;
use crate::format::dedup::UNTIL_SETTLED;
use crate::format::fields::set_dedup_order;
use crate::log::Ends;
use crate::types::{Durability, LaneId, LogId, Now, Seq, Timestamp};

/// A transaction that took effect, and what it waits for.
pub(super) struct Waiting {
    number: u32,
    ends: Ends,
}

/// What one transaction is made of.
struct Parts {
    at: usize,
    tasks: Vec<Part>,
    loans: Vec<(Loan, How)>,
    power: bool,
}

/// What the record of a dead letter that was moved takes beside its payload, at most.
const MOVED_BYTES_MOST: u64 = 160;

/// A task of one.
#[derive(Clone, Copy)]
struct Part {
    lane: LaneId,
    payload: Payload,
    id: Option<u8>,
}

impl Actor<'_> {
    pub(super) fn transaction(&mut self, op: Op) -> Step {
        let Op::Transaction { lane, tasks, bytes, id, group, pick, settles, how, power, stands } = op else {
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
        let mut part = |task: u8| Part {
            lane: LaneId((lane + task) % lanes),
            payload: self.model.payload(bytes / 2),
            id: id.filter(|_| task % 3 != 1).map(|id| (id + task / 3) % IDS),
        };
        let tasks = (0..tasks).map(&mut part).collect();
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
        let outcome =
            parts.with_plan(self.now.wall, 0, stale, |plan| self.engine.transact_once(plan, *self.now).map(drop));
        let has_ids = parts.tasks.iter().any(|part| part.id.is_some());
        self.model.sides[parts.at].loans.extend(parts.loans.into_iter().map(|(loan, _)| loan));
        match outcome {
            _ if self.disk.has_crashed() => Err(Halt::Flow(Flow::Stop)),
            Err(Error::LeaseLost { .. }) => Ok(()),
            Err(Error::DedupFull { .. }) if has_ids => Ok(()),
            Err(Error::Io { .. }) if has_ids && self.disk.faults() > 0 => Ok(()),
            Err(error) => Err(self.failed(&error)),
            Ok(()) => Err(Violation("a transaction with a lease that is over was accepted".to_owned()).into()),
        }
    }

    fn transact(&mut self, cell: &Arc<GroupCell>, parts: Parts) -> Step {
        let (wall, disk) = (self.now.wall, self.disk);
        let outcome = parts.with_plan(wall, 0, None, |plan| {
            self.ready(|engine, now| match engine.transact_once(plan, now) {
                Ok(Attempt::Done(accepted)) => Ok(Attempt::Done(Ok(accepted))),
                Ok(Attempt::NotReady) => Ok(Attempt::NotReady),
                Err(full @ Error::DedupFull { .. }) => Ok(Attempt::Done(Err(full))),
                // Whether an id counts can't be read now.
                Err(unread @ Error::Io { .. }) if disk.faults() > 0 && engine.check_poison().is_ok() => {
                    Ok(Attempt::Done(Err(unread)))
                }
                Err(other) => Err(other),
            })
        });
        let (least, most) = self.model.ids_counting(wall, self.setting);
        let max = usize::try_from(self.engine.settings().dedup_ids_max).unwrap_or(usize::MAX);
        match outcome {
            Ok(Ok(accepted)) => {
                let fresh = self.note_accepted(cell, parts, &accepted)?;
                ensure!(fresh == 0 || least + fresh <= max, "{least} ids count, {fresh} more were accepted");
                Ok(())
            }
            Ok(Err(refused)) => {
                let asked = parts.tasks.iter().filter(|part| part.id.is_some()).count();
                self.model.sides[parts.at].loans.extend(parts.loans.into_iter().map(|(loan, _)| loan));
                let is_full = most + asked > max || self.disk.faults() > 0;
                ensure!(is_full, "at most {most} ids count, {asked} are new: {refused}");
                Ok(())
            }
            Err(halt) => {
                // Refused, with nothing written.
                self.model.sides[parts.at].loans.extend(parts.loans.into_iter().map(|(loan, _)| loan));
                Err(halt)
            }
        }
    }

    /// Notes what each task became: whether its id counts was looked up before anything was settled. Gives the number of ids
    /// that are new, and waits for all of it at `Power`.
    fn note_accepted(&mut self, cell: &Arc<GroupCell>, parts: Parts, accepted: &Accepted) -> Step<usize> {
        let (at, power, ends) = (parts.at, parts.power, ends_of(self.now.wall));
        ensure!(accepted.tasks.len() == parts.tasks.len(), "{} tasks became {accepted:?}", parts.tasks.len());
        let (mut new, mut again) = (BTreeMap::new(), Vec::new());
        for (part, (lane, seq)) in parts.tasks.iter().zip(&accepted.tasks) {
            let is_hit = self.model.tasks.contains_key(seq);
            ensure!(is_hit || *lane == part.lane, "a task for lane {} is in lane {lane}", part.lane);
            ensure!(!is_hit || part.id.is_some(), "a task without an id is one that was there: {seq}");
            match part.id {
                Some(id) if new.contains_key(seq) => again.push((id, (*lane, *seq))),
                id => {
                    let gave = is_hit.then_some((*lane, *seq));
                    id.map_or(Ok(()), |id| self.model.id_gave(id, self.now.wall, self.setting, gave))?;
                    new.extend((!is_hit).then_some((*seq, *part)));
                }
            }
        }
        let (sequences, tasks): (Vec<Seq>, Vec<Part>) = new.into_iter().unzip();
        let taken: Vec<_> =
            sequences.iter().zip(&tasks).filter_map(|(seq, part)| Some((part.id?, part.lane, *seq))).collect();
        let number = self.note(Parts { tasks, ..parts }, &sequences, Sure::Process)?;
        if accepted.hits > 0 {
            self.model.with_hits.insert(number);
        }
        taken.iter().for_each(|(id, lane, seq)| self.model.id_taken(*id, *lane, *seq, ends));
        for (id, gave) in again {
            self.model.id_gave(id, self.now.wall, self.setting, Some(gave))?;
        }
        self.waiting.push(Waiting { number, ends: accepted.ends.clone() });
        self.settle_accounts(at, cell)?;
        self.wait_for(accepted, power)?;
        Ok(taken.len())
    }

    /// What follows a transaction: attempts that it used up are seen, and at `Power` it is waited for.
    fn took_effect(&mut self, at: usize, cell: &GroupCell, number: u32, ends: &Ends, power: bool) -> Step {
        self.waiting.push(Waiting { number, ends: ends.clone() });
        self.settle_accounts(at, cell)?;
        ends.iter().filter(|_| power).try_for_each(|(log, _)| self.commit(log.lane()))
    }

    /// Goes as far as one of the protocol's steps, lets others commit, and never goes on.
    fn stand_still(&mut self, cell: &Arc<GroupCell>, mut parts: Parts, stands: Stands) -> Step {
        // An id that counts, or comes twice, is left out, as the engine leaves out its task.
        let (mut seen, now) = (Vec::new(), *self.now);
        for part in &mut parts.tasks {
            let is_new =
                |id: &u8| matches!(self.engine.first_of(fingerprint(*id), now), Ok(None)) && !seen.contains(id);
            part.id = part.id.filter(is_new);
            seen.extend(part.id);
        }
        let order = self.engine.take_orders(parts.tasks.len());
        let cells = if parts.loans.is_empty() { Vec::new() } else { vec![Arc::clone(cell)] };
        let decided = RefCell::new(None);
        let outcome = parts.with_plan(now.wall, order, None, |plan| {
            self.ready(|engine, now| stand_still(engine, plan, &cells, now, stands, &decided, self.disk))
        });
        if let Some(tasks) = decided.into_inner() {
            let ids: Vec<_> = parts.tasks.iter().map(|part| (part.id, part.lane)).collect();
            self.note(parts, &tasks, Sure::Maybe)?;
            for ((id, lane), seq) in ids.into_iter().zip(&tasks) {
                id.into_iter().for_each(|id| self.model.id_in_doubt(id, lane, *seq, ends_of(now.wall)));
            }
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
        for (seq, Part { lane, payload, .. }) in sequences.iter().zip(tasks) {
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
        // Where it came from makes the record a little larger: the largest tasks can't be moved.
        let bytes = self.model.tasks.get(&dead).map_or(0, |task| u64::from(task.payload.bytes));
        let may_be_too_large = bytes + MOVED_BYTES_MOST > self.engine.settings().task_bytes_max;
        let moved = self.ready(|engine, now| match engine.redrive_to(&cell, id, lane, now) {
            Err(Error::TaskTooLarge { .. }) if may_be_too_large => Ok(Attempt::Done(None)),
            // Its record can't be read now.
            Err(Error::Io { .. }) if disk.faults() > 0 && engine.check_poison().is_ok() => Ok(Attempt::Done(None)),
            outcome => outcome,
        })?;
        let Some(Decided { tasks, ends }) = moved else {
            ensure!(disk.faults() > 0 || may_be_too_large, "dead letter {dead} was not moved");
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
    /// `order`: of the first task, for who looks up no ids.
    fn with_plan<T>(&self, wall: Timestamp, order: u64, stale: Option<Receipt>, run: impl FnOnce(&Plan<'_>) -> T) -> T {
        let durability = if self.power { Durability::Power } else { Durability::Process };
        let bodies: Vec<Vec<u8>> = self.tasks.iter().map(|part| part.payload.to_vec()).collect();
        let mut fields: Vec<Vec<u8>> = self.tasks.iter().map(|part| fields_of(part.id, ends_of(wall))).collect();
        (order..).zip(&mut fields).for_each(|(order, fields)| set_dedup_order(fields, order));
        let drafts = bodies.iter().zip(&fields).map(|(body, fields)| {
            let plain = TaskDraft::plain(body, durability);
            TaskDraft { fields, special: !fields.is_empty(), ..plain }
        });
        let tasks: Vec<_> = self.tasks.iter().map(|part| part.lane).zip(drafts).collect();
        let settles = self.loans.iter().map(|(loan, how)| (loan.handed.receipt, how.settle()));
        let settles: Vec<_> = settles.chain(stale.map(|receipt| (receipt, Settle::Ack))).collect();
        run(&Plan { tasks: &tasks, settles: &settles, letter: None, durability })
    }
}

/// How long the ids of a transaction count: now until their tasks are settled, now for a while.
fn ends_of(wall: Timestamp) -> Timestamp {
    if wall.0.is_multiple_of(2) { UNTIL_SETTLED } else { Timestamp(wall.0 + 1_500) }
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
