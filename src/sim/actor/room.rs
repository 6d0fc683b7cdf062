//! Bounds on what waits: who is refused, and who is not; and on what is on loan.

use super::super::model::{Mine, Side, Sure, Task, Verdict, WORN_OUT, Worker, ensure};
use super::{Actor, Step};
use crate::delivery::Amount;
use crate::delivery::workers::WorkerId;
use crate::engine::Attempt;
use crate::error::{Error, Result};
use crate::log::Appended;
use crate::types::LaneId;

/// An append as it is told to a producer: a bound that leaves no room is an answer.
pub(super) fn told(outcome: Result<Attempt<Appended>>) -> Result<Attempt<Result<Appended>>> {
    match outcome {
        Ok(Attempt::Done(appended)) => Ok(Attempt::Done(Ok(appended))),
        Ok(Attempt::NotReady) => Ok(Attempt::NotReady),
        Err(full @ Error::OverBound { .. }) => Ok(Attempt::Done(Err(full))),
        Err(other) => Err(other),
    }
}

impl Actor<'_> {
    /// What was accepted, unless a bound left no room for `asked`; and that the bounds speak the truth.
    pub(super) fn within_room(&self, lane: LaneId, asked: Amount, told: Result<Appended>) -> Step<Option<Appended>> {
        let room = self.setting.room;
        if !room.is_bounded() || self.disk.faults() > 0 {
            // What could not be read was not counted either.
            return Ok(told.ok());
        }
        let most = |lane| self.waiting(lane, |_| true, |mine| mine.acked <= Sure::Maybe && mine.dead <= Sure::Maybe);
        // One that used up its attempts is dead once somebody asked for it, as a check may have done.
        // One that may expire may have been found expired.
        let stays = |task: &Task| task.asks.expires.is_none();
        let surely = |mine: &Mine| mine.must && mine.is_open() && mine.attempts_most < WORN_OUT;
        let least = |lane| self.waiting(lane, stays, surely);
        let all =
            |of: &dyn Fn(LaneId) -> Amount| (0..self.setting.lanes).map(|lane| of(LaneId(lane)).bytes).sum::<u64>();
        let over = |tasks: u64, bytes: u64| {
            let tasks = room.lane_tasks > 0 && tasks + asked.tasks > room.lane_tasks;
            tasks || room.queue_bytes > 0 && bytes + asked.bytes > room.queue_bytes
        };
        match told {
            Ok(appended) => {
                let (tasks, bytes) = (least(lane).tasks, all(&least));
                ensure!(!over(tasks, bytes), "{tasks} tasks and {bytes} bytes wait, {asked:?} was accepted: {room:?}");
                Ok(Some(appended))
            }
            Err(full) => {
                let (tasks, bytes) = (most(lane).tasks, all(&most));
                ensure!(over(tasks, bytes), "{tasks} tasks and {bytes} bytes wait for {room:?}: {full}");
                Ok(None)
            }
        }
    }

    /// No more is on loan in all groups together than may be.
    pub(super) fn check_loans(&self) -> Verdict {
        let (lent, most) = (self.lent(), self.setting.loans_max);
        ensure!(most == 0 || lent <= most, "{lent} tasks are on loan, of {most} that may be");
        Ok(())
    }

    /// True if there is room for one more on loan.
    pub(super) fn may_lend(&self) -> bool {
        self.setting.loans_max == 0 || self.lent() < self.setting.loans_max
    }

    /// How many tasks are surely on loan.
    fn lent(&self) -> u64 {
        let now = self.now.boot_ms;
        let of_side = |side: &Side| {
            let lives = |consumer| {
                let is_it = |worker: &&Worker| worker.id.consumer() == consumer;
                WorkerId::of_consumer(consumer).is_none()
                    || side.workers.values().any(|one| is_it(&one) && one.dead_ms > now)
            };
            side.loans.iter().filter(|loan| loan.until_ms > now && lives(loan.consumer)).count() as u64
        };
        self.model.sides.iter().map(of_side).sum()
    }

    /// What waits in a lane for the group that has most of it, of what `counts`.
    fn waiting(&self, lane: LaneId, wanted: impl Fn(&Task) -> bool, counts: impl Fn(&Mine) -> bool) -> Amount {
        let of_side = |side: &Side| {
            let mut amount = Amount::default();
            let own = side.mine.iter().filter(|(_, mine)| counts(mine));
            let tasks = own.filter_map(|(seq, _)| self.model.tasks.get(seq));
            tasks
                .filter(|task| task.lane == lane && wanted(task))
                .for_each(|task| amount.add(u64::from(task.payload.bytes)));
            amount
        };
        let sides = || self.model.sides.iter().map(of_side);
        let tasks = sides().map(|amount| amount.tasks).max().unwrap_or(0);
        Amount { tasks, bytes: sides().map(|amount| amount.bytes).max().unwrap_or(0) }
    }
}
