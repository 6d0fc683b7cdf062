//! Transactions: any number of enqueues and settles, over lanes and groups, that happen wholly or not at all.
//!
//! # The protocol
//!
//! 1. *check*: with the locks of all groups involved, their ids ascending, every receipt is checked. One that is stale
//!    refuses the whole; nothing was written then.
//! 2. *claim*: an extent in each lane, for one record or for a batch, and then one in the journal, for the decision. Its
//!    place (base, offset) is known from here on. What fails here gives everything up: the claims become padding.
//! 3. *fill*: the records, each with the decision's place among its fields.
//! 4. *settle*: the groups change. The decision is filled: it names every record (lane, life, first sequence, count), and
//!    the settles are entries behind it in the same record of the journal.
//! 5. *decide*: the decision is published.
//! 6. *publish*: the records are, then the groups' locks are given up. So a record that anybody reads has a decision that
//!    is published.
//! 7. *commit*, at `Power`: every lane that has a record, then the journal.
//!
//! What a crash leaves: a kill up to 5 leaves claims that were never published, which are padding; between 5 and 6 a
//! decision that names a record that is not there, so that nothing of the transaction counts; behind 6 all of it. A power
//! loss before the end of 7 leaves any part of it, and it counts only if all of it is there; behind 7 all of it is. How
//! recovery decides is in `recovery/decide.rs`.
//!
//! Nobody sees a part of it meanwhile: the groups are locked from 1 to 6, a task at `Power` is not handed out before all
//! of 7 ([`crate::log::Undecided`]), and a checkpoint holds no transaction of which not everything is durable
//! (`checkpoint.rs`, step 4), nor is any between 2 and 6 while it looks, for all of that is done with *deciding* held.
//!
//! Settles alone need no decision: they are one record of the journal. Tasks for one lane alone are a batch. Tasks whose
//! dedup ids count are left out before 1, by [`crate::engine::dedup`].

mod share;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::delivery::Amount;
use crate::error::{Error, Result};
use crate::format::fields::DECISION_BYTES;
use crate::format::journal::{self, Named};
use crate::format::record::{self, Kind};
use crate::log::{Draft, Ends, Held, Place};
use crate::sabotage::{Bug, on};
use crate::storage::MapFailed;
use crate::sync::MutexGuard;
use crate::types::{Durability, LaneId, LogId, Now, Seq, TaskId, Timestamp};

use super::append::TaskDraft;
use super::groups::{GroupCell, GroupWork};
use super::receipt::Receipt;
use super::redrive::Letter;
use super::settings::room;
use super::settle::Settle;
use super::{Attempt, Engine};
use share::Share;

/// What a transaction does.
pub(crate) struct Plan<'a> {
    pub tasks: &'a [(LaneId, TaskDraft<'a>)],
    pub settles: &'a [(Receipt, Settle<'a>)],
    /// A dead letter that it ends.
    pub letter: Option<Letter<'a>>,
    /// That of all of it, whatever the tasks say.
    pub durability: Durability,
}

/// A transaction that took effect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Decided {
    /// Sequences of the tasks, in their order.
    pub tasks: Vec<Seq>,
    /// What must be durable for it to be: lanes first, then the journal.
    pub ends: Ends,
}

/// A transaction between claim and publish, with everything locked that has to be. Dropped, it never was.
pub(crate) struct Open<'a> {
    engine: &'a Engine,
    groups: Vec<(u32, MutexGuard<'a, GroupWork>)>,
    lanes: Vec<Share<'a>>,
    journal: Option<Held<'a>>,
    /// Most bytes of what the journal's record says.
    journal_bytes: usize,
}

impl Engine {
    /// Makes a transaction true. It is durable when all logs of the answer are, up to the ends it names.
    ///
    /// Errors: `LeaseLost` (of a letter too, if it is none any more), `BadReceipt`, `NoSuchLane`, `TaskTooLarge`, `TransactionTooLarge`, `OverBound`, `Full`, `Poisoned`; nothing
    /// was written then. `Io` where a task lies in a segment whose map failed since it was handed out, likewise. `InDoubt`
    /// if an I/O error hit one of the segments.
    pub(crate) fn transact(&self, plan: &Plan<'_>, now: Now) -> Result<Attempt<Decided>> {
        self.check_poison()?;
        if plan.tasks.is_empty() && plan.settles.is_empty() {
            return Ok(Attempt::Done(Decided { tasks: Vec::new(), ends: Ends::new() }));
        }
        if let (Some((lane, _)), [], None) = (plan.tasks.first(), plan.settles, plan.letter)
            && plan.tasks.iter().all(|(other, _)| other == lane)
        {
            return self.transact_in_lane(*lane, plan, now.wall);
        }
        let cells = self.cells_of(plan);
        let _deciding = self.deciding.read();
        self.within_all_bounds(&amounts(plan), || {
            let Attempt::Done(mut open) = self.begin(plan, &cells, now)? else { return Ok(Attempt::NotReady) };
            open.fill(plan, now);
            open.decide(plan, now).map(Attempt::Done)
        })
    }

    /// Checks a task as the transaction that it is meant for will.
    pub(crate) fn check_part(&self, lane: LaneId, task: &TaskDraft<'_>) -> Result<()> {
        self.writable_lane(lane)?;
        self.check_task(task, DECISION_BYTES)
    }

    /// Tasks of one lane alone: a batch is one unit by itself.
    fn transact_in_lane(&self, lane: LaneId, plan: &Plan<'_>, time: Timestamp) -> Result<Attempt<Decided>> {
        let tasks = plan.tasks.iter().map(|(_, task)| TaskDraft { durability: plan.durability, ..*task });
        let drafts: Vec<TaskDraft<'_>> = tasks.collect();
        let appended = self.append_batch(lane, &drafts, time).map_err(|error| match error {
            Error::BatchTooLarge { bytes, max } => Error::TransactionTooLarge { bytes, max },
            other => other,
        })?;
        Ok(match appended {
            Attempt::Done(appended) => Attempt::Done(Decided {
                tasks: (appended.first.0..).take(drafts.len()).map(Seq).collect(),
                ends: vec![(LogId::from(lane), appended.end)],
            }),
            Attempt::NotReady => Attempt::NotReady,
        })
    }

    /// The groups of the settles, their ids ascending.
    pub(crate) fn cells_of(&self, plan: &Plan<'_>) -> Vec<Arc<GroupCell>> {
        let mut ids: Vec<u32> = plan.settles.iter().map(|(receipt, _)| receipt.group).collect();
        ids.extend(plan.letter.map(|letter| letter.group));
        ids.sort_unstable();
        ids.dedup();
        // One that was removed since, with everything that it had on loan or kept: nobody finds it when receipts are checked.
        ids.into_iter().filter_map(|id| self.group_by_id(id)).collect()
    }

    /// Steps 1 and 2. The caller holds *deciding*.
    pub(crate) fn begin<'a>(
        &'a self,
        plan: &Plan<'_>,
        cells: &'a [Arc<GroupCell>],
        now: Now,
    ) -> Result<Attempt<Open<'a>>> {
        let mut lanes = self.shares(plan)?;
        let journal_bytes = self.decision_bytes(plan, lanes.len())?;
        let mut groups: Vec<(u32, MutexGuard<'a, GroupWork>)> =
            cells.iter().map(|cell| (cell.id, cell.state.lock())).collect();
        for (_, work) in &mut groups {
            let work = &mut **work;
            // A lease that ran out is lost even if nobody looked at the clock since.
            work.group.tick(&self.settings.rules, now, &mut work.changes);
            let written = self.write_changes(work, now.wall);
            // Whatever becomes of the transaction, leases that ran out are over.
            self.wake_if_woken(&mut work.group);
            written.inspect_err(|_| work.changes.clear())?;
        }
        self.check_receipts(plan, &groups)?;
        if on(Bug::LetterLost) {
            self.end_letter(plan, &mut groups, now)?;
        }
        if !self.claim_lanes(&mut lanes, now.wall) {
            return Ok(Attempt::NotReady);
        }
        let bytes = record::extent_bytes(0, journal_bytes).unwrap_or(u32::MAX);
        let journal = self.in_journal(|journal| journal.hold(bytes, 1, Kind::Entry), now.wall)?;
        Ok(Attempt::Done(Open { engine: self, groups, lanes, journal: Some(journal), journal_bytes }))
    }

    /// The deliberate bug: the letter ends before the transaction is true.
    fn end_letter(&self, plan: &Plan<'_>, groups: &mut [(u32, MutexGuard<'_, GroupWork>)], now: Now) -> Result<()> {
        let Some(letter) = plan.letter else { return Ok(()) };
        for (_, work) in groups.iter_mut().filter(|(id, _)| *id == letter.group) {
            let work = &mut **work;
            work.group.drop_dead(letter.spot, &mut work.changes);
            self.write_changes(work, now.wall)?;
        }
        Ok(())
    }

    fn check_receipts(&self, plan: &Plan<'_>, groups: &[(u32, MutexGuard<'_, GroupWork>)]) -> Result<()> {
        for (at, (receipt, _)) in plan.settles.iter().enumerate() {
            let work = groups.iter().find(|(id, _)| *id == receipt.group);
            work.map_or_else(|| Err(self.no_group_of(receipt)), |(_, work)| self.check_held(work, receipt))?;
            if plan.settles.iter().take(at).any(|(other, _)| other == receipt) {
                return Err(Error::BadReceipt { why: "its task is settled twice in one transaction" });
            }
        }
        let Some(Letter { group, spot }) = plan.letter else { return Ok(()) };
        let is_dead = groups.iter().any(|(id, work)| *id == group && work.group.has_dead(spot));
        let task = TaskId { queue: self.queue, lane: spot.lane, seq: spot.seq };
        if is_dead { Ok(()) } else { Err(Error::LeaseLost { task }) }
    }

    /// Most bytes of the decision and the settles, if they fit the smallest segment of the journal.
    fn decision_bytes(&self, plan: &Plan<'_>, lanes: usize) -> Result<usize> {
        let settles = plan.settles.iter().map(|(_, how)| journal::settle_bytes_max(how.reason()));
        let letter = plan.letter.map(|_| journal::settle_bytes_max(""));
        let named = if lanes == 0 { 0 } else { journal::decision_bytes(lanes) };
        let bytes = named + settles.chain(letter).sum::<usize>() + journal::ROOM_BYTES_MIN;
        // Beside a mark, the padding that a commit may need, and what else the segment holds.
        let max = room(self.settings.journal_segment_bytes(None)) / 2;
        if bytes as u64 > max {
            return Err(Error::TransactionTooLarge { bytes: bytes as u64, max });
        }
        Ok(bytes)
    }
}

impl Open<'_> {
    /// Where the decision will stand.
    pub(crate) fn place(&self) -> Place {
        self.journal.as_ref().map_or(Place::default(), Held::place)
    }

    /// Sequences of the tasks, in their order.
    pub(crate) fn tasks(&self, plan: &Plan<'_>) -> Vec<Seq> {
        let mut sequences = vec![Seq(0); plan.tasks.len()];
        for share in &self.lanes {
            let first = share.held.as_ref().map_or(0, |held| held.first().0);
            for (at, seq) in share.tasks.iter().zip(first..) {
                if let Some(slot) = sequences.get_mut(*at) {
                    *slot = Seq(seq);
                }
            }
        }
        sequences
    }

    /// Step 3.
    pub(crate) fn fill(&mut self, plan: &Plan<'_>, now: Now) {
        let decision = self.place();
        self.lanes.iter_mut().for_each(|share| share.fill(plan, decision, now.wall));
    }

    /// Steps 4 to 6.
    fn decide(mut self, plan: &Plan<'_>, now: Now) -> Result<Decided> {
        let decided = self.settle(plan, now)?;
        self.publish_decision()?;
        for share in 0..self.lanes.len() {
            self.publish_lane(share)?;
        }
        drop(self.groups);
        self.engine.arrivals.wake_all();
        Ok(decided)
    }

    /// Step 4. What the decision waits for is noted before anything of it can be seen.
    pub(crate) fn settle(&mut self, plan: &Plan<'_>, now: Now) -> Result<Decided> {
        let mut entries = Vec::with_capacity(self.journal_bytes);
        let named: Vec<Named> = self.lanes.iter().filter_map(Share::named).collect();
        if !named.is_empty() {
            journal::put_decision(&mut entries, &named);
        }
        for (id, work) in &mut self.groups {
            for (receipt, how) in plan.settles.iter().filter(|(receipt, _)| receipt.group == *id) {
                self.engine.settle_held(work, receipt, *how, now);
            }
            if let Some(letter) = plan.letter.filter(|letter| letter.group == *id) {
                let work = &mut **work;
                work.group.drop_dead(letter.spot, &mut work.changes);
            }
            self.engine.take_changes(work, &mut entries);
        }
        journal::put_room(&mut entries, self.journal_bytes);
        if entries.len() != self.journal_bytes {
            // The groups changed and nobody will ever know why: a bug, and nothing may go on from here.
            debug_assert!(false, "{} bytes of settles, for {} set aside", entries.len(), self.journal_bytes);
            let error = std::io::Error::other("a transaction's settles take more room than was set aside");
            return Err(self.engine.poisoned_by(Error::io("the journal", "write a decision", error)));
        }
        let held = |share: &Share<'_>| Some((LogId::from(share.lane), share.held.as_ref()?.end()));
        let mut ends: Ends = self.lanes.iter().filter_map(held).collect();
        ends.extend(self.journal.as_ref().map(|journal| (LogId::JOURNAL, journal.end())));
        if !named.is_empty() {
            self.engine.undecided.note(self.place(), &ends, plan.durability == Durability::Power);
        }
        if let Some(journal) = &mut self.journal {
            journal.fill(&[Draft { kind: Kind::Entry, flags: 0, fields: &[], payload: &entries }], now.wall);
        }
        Ok(Decided { tasks: self.tasks(plan), ends })
    }

    /// Step 5.
    pub(crate) fn publish_decision(&mut self) -> Result<()> {
        let journal = self.journal.take();
        publish(self.engine, LogId::JOURNAL, journal)
    }

    /// Step 6, for one of the lanes.
    pub(crate) fn publish_lane(&mut self, share: usize) -> Result<()> {
        let share = self.lanes.get_mut(share).map(|share| (share.lane, share.held.take()));
        share.map_or(Ok(()), |(lane, held)| publish(self.engine, LogId::from(lane), held))
    }
}

/// What the tasks add to what waits in each lane.
fn amounts(plan: &Plan<'_>) -> BTreeMap<LaneId, Amount> {
    let mut amounts: BTreeMap<LaneId, Amount> = BTreeMap::new();
    for (lane, task) in plan.tasks {
        amounts.entry(*lane).or_default().add(task.payload.len() as u64);
    }
    amounts
}

fn publish(engine: &Engine, log: LogId, held: Option<Held<'_>>) -> Result<()> {
    let Some(held) = held else { return Ok(()) };
    let (first, file) = (held.first(), held.file());
    held.publish().map_err(|MapFailed| engine.map_failed(log, first, file))
}
