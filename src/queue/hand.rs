//! By hand: dead letters, parked tasks, cancelling, purging; and looking at tasks one by one.

use crate::engine::groups::GroupCell;
use crate::engine::hand::{DeadFilter, Move, Moved, Shelf};
use crate::engine::lookup::Explanation;
use crate::engine::receipt::Receipt;
use crate::engine::settle::Settle;
use crate::engine::stats::DeadLetter;
use crate::engine::task::TaskRecord;
use crate::error::{Error, Result};
use crate::storage::disk::clock;
use crate::types::{Durability, LaneId, TaskId};

use super::Queue;
use super::consumer::settle_receipt;

impl Queue {
    /// The dead letters of a group, in the order of lanes and sequences.
    ///
    /// # Errors
    /// [`Error::NoSuchGroup`].
    pub fn dead_letters(&self, group: &str) -> Result<Vec<DeadLetter>> {
        self.dead_letters_that(group, &DeadFilter::new())
    }

    /// The dead letters of a group that fit the filter, likewise.
    ///
    /// # Errors
    /// [`Error::NoSuchGroup`].
    pub fn dead_letters_that(&self, group: &str, filter: &DeadFilter) -> Result<Vec<DeadLetter>> {
        let engine = &self.core().engine;
        Ok(engine.dead_that_fit(&*engine.group(group)?, filter, Shelf::Dead))
    }

    /// Dead letters that fit the filter are due again in their lane, before what was never handed out, with all their
    /// attempts before them. Says how many; durable when this returns. Each is wholly moved or not, over a crash too.
    ///
    /// # Errors
    /// [`Error::NoSuchGroup`]; [`Error::Io`] if a segment can't be read; [`Error::InDoubt`] if the journal could not be
    /// written or synced; [`Error::Poisoned`], [`Error::Closed`], [`Error::Forked`], [`Error::NotDurable`].
    pub fn redrive(&self, group: &str, filter: &DeadFilter) -> Result<u64> {
        self.move_shelf(group, filter, Shelf::Dead, Move::Redrive)
    }

    /// Dead letters that fit the filter become new tasks at the end of that lane, for this group alone: what they ask for
    /// and their headers go along, all attempts are before them, a delay or a time to live that is over is gone. Gives the
    /// new ids, in the order of the letters; [`TaskRecord::origin`] says where each came from. Durable when this returns.
    /// Over a crash, for each of them there is either the letter or the task. One that can't be read stays a letter.
    ///
    /// # Errors
    /// As for [`Queue::redrive`]; [`Error::NoSuchLane`]; [`Error::Full`] and [`Error::OverBound`] if the lane has no room,
    /// [`Error::TaskTooLarge`] and [`Error::HeadersTooLarge`] for a task that was as large as can be: the new record takes up
    /// to 34 bytes more. What was moved before that stays moved.
    ///
    /// [`TaskRecord::origin`]: crate::TaskRecord::origin
    pub fn redrive_to(&self, group: &str, filter: &DeadFilter, lane: LaneId) -> Result<Vec<TaskId>> {
        let core = self.core();
        core.check(Durability::Power)?;
        let lanes = self.lanes();
        if lane.index() >= lanes {
            return Err(Error::NoSuchLane { lane, lanes });
        }
        let engine = &core.engine;
        let cell = engine.group(group)?;
        let mut moved = Vec::new();
        let mut ends = Vec::new();
        let outcome = engine.dead_that_fit(&cell, filter, Shelf::Dead).iter().try_for_each(|letter| {
            if let Some(decided) = core.append(None, || engine.redrive_to(&cell, letter.id, lane, clock::now()))? {
                moved.extend(decided.tasks.iter().map(|seq| TaskId { queue: engine.queue(), lane, seq: *seq }));
                ends = decided.ends;
            }
            Ok(())
        });
        // The ends of the last are behind those of all before it.
        core.wait_for_all(&ends)?;
        outcome.map(|()| moved)
    }

    /// Dead letters that fit the filter go for good. Says how many; durable when this returns.
    ///
    /// # Errors
    /// As for [`Queue::redrive`].
    pub fn drop_dead_letters(&self, group: &str, filter: &DeadFilter) -> Result<u64> {
        self.move_shelf(group, filter, Shelf::Dead, Move::Drop)
    }

    /// Sets a task aside in a group that is not on loan there: it is not handed out until [`Queue::kick`] lifts that. False
    /// if it is on loan, settled, dead, not durable yet, or not there. Durable when this returns. What is on loan is parked with
    /// [`Queue::park_leased`] or [`Delivery::park`](crate::Delivery::park).
    ///
    /// # Errors
    /// As for [`Queue::redrive`], and [`Error::BadId`] for another queue's task.
    pub fn park(&self, group: &str, id: TaskId, reason: &str) -> Result<bool> {
        let cell = self.core().engine.group(group)?;
        let moved = self.by_hand(|| self.core().engine.park_by_hand(&cell, id, reason, clock::now()))?;
        Ok(moved > 0)
    }

    /// Sets a task on loan aside, by receipt; the attempt counts.
    ///
    /// # Errors
    /// As for [`Queue::ack`].
    pub fn park_leased(&self, receipt: &Receipt, reason: &str) -> Result<()> {
        settle_receipt(self.core(), receipt, Settle::Park { reason }, Durability::Power)?.wait()
    }

    /// What a group has parked, in the order of lanes and sequences.
    ///
    /// # Errors
    /// [`Error::NoSuchGroup`].
    pub fn parked(&self, group: &str) -> Result<Vec<DeadLetter>> {
        let engine = &self.core().engine;
        Ok(engine.dead_that_fit(&*engine.group(group)?, &DeadFilter::new(), Shelf::Parked))
    }

    /// Parked tasks that fit the filter are due again, with the attempts that they had. Says how many; durable when this
    /// returns.
    ///
    /// # Errors
    /// As for [`Queue::redrive`].
    pub fn kick(&self, group: &str, filter: &DeadFilter) -> Result<u64> {
        self.move_shelf(group, filter, Shelf::Parked, Move::Kick)
    }

    /// The task is not done any more, in any group, nor in one that is made later: delayed, waiting, dead or parked, it goes; a lease on it ends, and its
    /// receipt is refused. False if it was settled everywhere, or is not there. Durable when this returns, for all groups
    /// or none.
    ///
    /// # Errors
    /// As for [`Queue::redrive`], and [`Error::BadId`] for another queue's task.
    pub fn cancel(&self, id: TaskId) -> Result<bool> {
        let moved = self.by_hand(|| self.core().engine.cancel(id, clock::now()))?;
        Ok(moved > 0)
    }

    /// Settles everything that a lane holds now, for every group: waiting, delayed, on loan, dead and parked. Durable when
    /// this returns, for all groups or none. What is enqueued meanwhile may go or stay.
    ///
    /// # Errors
    /// [`Error::NoSuchLane`]; as for [`Queue::redrive`].
    pub fn purge_lane(&self, lane: LaneId) -> Result<()> {
        let lanes = self.lanes();
        if lane.index() >= lanes {
            return Err(Error::NoSuchLane { lane, lanes });
        }
        self.by_hand(|| self.core().engine.purge(lane, clock::now())).map(drop)
    }

    /// Purges lane after lane. Each is purged for all groups or none.
    ///
    /// # Errors
    /// As for [`Queue::purge_lane`].
    pub fn purge(&self) -> Result<()> {
        let lanes: Vec<LaneId> = self.core().engine.lanes().started().iter().collect();
        lanes.into_iter().try_for_each(|lane| self.purge_lane(lane))
    }

    /// A task and what every group makes of it. `None` if its record is not there: it never was, or every group settled it
    /// and its segment was given back.
    ///
    /// # Errors
    /// [`Error::BadId`] for another queue's task; [`Error::Io`] if its segment can't be read.
    pub fn task(&self, id: TaskId) -> Result<Option<TaskRecord>> {
        self.core().engine.task(id, clock::now())
    }

    /// The first tasks of a lane that a group has not settled, at most so many, in the order of the lane. Nothing is put on
    /// loan. What is damaged is left out.
    ///
    /// # Errors
    /// [`Error::NoSuchGroup`], [`Error::NoSuchLane`], [`Error::Io`].
    pub fn peek(&self, group: &str, lane: LaneId, tasks: usize) -> Result<Vec<TaskRecord>> {
        let lanes = self.lanes();
        if lane.index() >= lanes {
            return Err(Error::NoSuchLane { lane, lanes });
        }
        let engine = &self.core().engine;
        engine.peek(&*engine.group(group)?, lane, tasks, clock::now())
    }

    /// Why a task does not run now in a group. `None` as for [`Queue::task`].
    ///
    /// # Errors
    /// [`Error::NoSuchGroup`]; as for [`Queue::task`].
    pub fn explain(&self, group: &str, id: TaskId) -> Result<Option<Explanation>> {
        let engine = &self.core().engine;
        engine.explain(&*engine.group(group)?, id, clock::now())
    }

    fn move_shelf(&self, group: &str, filter: &DeadFilter, shelf: Shelf, how: Move) -> Result<u64> {
        let engine = &self.core().engine;
        let cell: &GroupCell = &*engine.group(group)?;
        let ids: Vec<TaskId> = engine.dead_that_fit(cell, filter, shelf).iter().map(|letter| letter.id).collect();
        self.by_hand(|| engine.move_dead(cell, &ids, how, clock::now()))
    }

    /// Takes a step and waits until it can't be forgotten.
    fn by_hand(&self, step: impl FnOnce() -> Result<Moved>) -> Result<u64> {
        let core = self.core();
        core.check(Durability::Power)?;
        let Moved { tasks, end } = step()?;
        if let Some(end) = end {
            core.wait_durable(core.engine.journal(), end)?;
        }
        Ok(tasks)
    }
}
