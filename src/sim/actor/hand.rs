//! What is done by hand: parking, redriving, kicking, dropping, cancelling, purging.

use super::super::model::{Loan, Mine, Sure, ensure};
use super::{Actor, Step};
use crate::engine::Engine;
use crate::engine::hand::{Move, Moved};
use crate::error::Error;
use crate::types::{LaneId, Now, Seq, TaskId};

impl Actor<'_> {
    pub(super) fn id_of(&self, seq: Seq) -> Option<TaskId> {
        let lane = self.model.tasks.get(&seq)?.lane;
        Some(TaskId { queue: self.engine.queue(), lane, seq })
    }

    /// A call by hand. A record that can't be read is no violation where the disk fails.
    fn by_hand(&mut self, call: impl FnOnce(&Engine, Now) -> Result<Moved, Error>) -> Step<Moved> {
        self.call(|actor| match call(&actor.engine, *actor.now) {
            Err(Error::Io { .. }) if actor.disk.faults() > 0 && actor.engine.check_poison().is_ok() => {
                Ok(Moved::default())
            }
            outcome => outcome,
        })
    }

    /// The task of the side that `pick` says, of those that are wanted.
    pub(super) fn picked(&self, at: usize, pick: usize, wanted: impl Fn(&Mine) -> bool) -> Option<Seq> {
        let of: Vec<Seq> =
            self.model.sides[at].mine.iter().filter(|(_, mine)| wanted(mine)).map(|(seq, _)| *seq).collect();
        of.get(pick % of.len().max(1)).copied()
    }

    pub(super) fn park(&mut self, at: usize, pick: usize) -> Step {
        let Some(seq) = self.picked(at, pick, |mine| mine.must && mine.is_open()) else { return Ok(()) };
        let Some(id) = self.id_of(seq) else { return Ok(()) };
        let cell = self.cell(at)?;
        let outcome = self.by_hand(|engine, now| engine.park_by_hand(&cell, id, "sim", now));
        self.expire(at);
        let side = &mut self.model.sides[at];
        let on_loan = side.loans.iter().any(|loan| loan.handed.receipt.task.seq == seq);
        let mine = side.mine.entry(seq).or_default();
        match outcome {
            Ok(Moved { tasks, .. }) => {
                ensure!(!(on_loan && tasks > 0), "task {seq} is on loan and was parked by its id");
                if tasks > 0 {
                    mine.die(Sure::Process);
                }
            }
            Err(halt) => {
                mine.die(Sure::Maybe);
                return Err(halt);
            }
        }
        self.settle_accounts(at, &cell)?;
        Ok(())
    }

    pub(super) fn shelf(&mut self, at: usize, pick: usize, how: Move) -> Step {
        let Some(seq) = self.picked(at, pick, |mine| mine.dead >= Sure::Process) else { return Ok(()) };
        let Some(id) = self.id_of(seq) else { return Ok(()) };
        let cell = self.cell(at)?;
        let outcome = self.by_hand(|engine, now| engine.move_dead(&cell, &[id], how, now));
        let (faults, attempts) = (self.disk.faults(), if how == Move::Kick { u32::MAX } else { 0 });
        let side = &mut self.model.sides[at];
        // It comes out of the order of first deliveries.
        side.redriven.insert(seq);
        side.met.remove(&seq);
        let mine = side.mine.entry(seq).or_default();
        match outcome {
            Ok(Moved { tasks, .. }) => {
                ensure!(tasks == 1 || faults > 0, "{how:?} did not find dead letter {seq}");
                match how {
                    _ if tasks == 0 => {}
                    Move::Redrive | Move::Kick => mine.revive(attempts),
                    Move::Drop => mine.settle(Sure::Process),
                }
            }
            Err(halt) => {
                mine.die(Sure::Maybe);
                match how {
                    Move::Drop => mine.acked = Sure::Maybe,
                    Move::Redrive | Move::Kick => mine.perhaps_less(attempts),
                }
                return Err(halt);
            }
        }
        self.settle_accounts(at, &cell)?;
        Ok(())
    }

    pub(super) fn cancel(&mut self, pick: usize) -> Step {
        let wanted = |mine: &Mine| mine.must && mine.acked == Sure::No;
        let Some(seq) = self.picked(0, pick, wanted) else { return Ok(()) };
        let Some(id) = self.id_of(seq) else { return Ok(()) };
        let outcome = self.by_hand(|engine, now| engine.cancel(id, now));
        let (sure, halt) = match outcome {
            Ok(Moved { tasks, .. }) => {
                let task = self.model.tasks.get(&seq);
                let blocked = self.stalls.iter().any(|stall| task.is_some_and(|task| task.lane == stall.lane));
                // It may have expired as somebody looked.
                let may_be_gone = blocked || self.disk.faults() > 0 || task.is_none_or(|t| t.asks.expires.is_some());
                ensure!(tasks > 0 || may_be_gone, "task {seq} is open and can't be cancelled");
                (if tasks > 0 { Sure::Process } else { Sure::No }, None)
            }
            Err(halt) => (Sure::Maybe, Some(halt)),
        };
        if sure > Sure::No {
            self.settle_everywhere(|other| other == seq, sure);
            self.model.tasks.entry(seq).and_modify(|task| task.cancelled = task.cancelled.max(sure));
        }
        halt.map_or(Ok(()), Err)
    }

    pub(super) fn purge(&mut self, lane: LaneId) -> Step {
        let outcome = self.by_hand(|engine, now| engine.purge(lane, now));
        let started = self.lane_log(lane).is_some();
        let of_lane: Vec<Seq> =
            self.model.tasks.iter().filter(|(_, task)| task.lane == lane).map(|(seq, _)| *seq).collect();
        let (sure, halt) = match outcome {
            Ok(Moved { end, .. }) => (if started && end.is_some() { Sure::Process } else { Sure::No }, None),
            Err(halt) => (Sure::Maybe, Some(halt)),
        };
        if sure > Sure::No {
            let is_of_lane = |seq: &Seq| of_lane.binary_search(seq).is_ok();
            self.settle_everywhere(|seq| is_of_lane(&seq), sure);
            for side in &mut self.model.sides {
                side.mine.iter_mut().filter(|(seq, _)| is_of_lane(seq)).for_each(|(_, mine)| mine.purged = true);
            }
            self.stalls.iter_mut().filter(|stall| stall.lane == lane).for_each(|stall| stall.purged = true);
        }
        halt.map_or(Ok(()), Err)
    }

    /// Tasks are settled in every group, and leases on them end.
    fn settle_everywhere(&mut self, wanted: impl Fn(Seq) -> bool, sure: Sure) {
        for side in &mut self.model.sides {
            side.mine.iter_mut().filter(|(seq, _)| wanted(**seq)).for_each(|(_, mine)| mine.settle(sure));
            let over: Vec<Loan> = side.loans.extract_if(.., |loan| wanted(loan.handed.receipt.task.seq)).collect();
            if sure > Sure::Maybe {
                side.stale.extend(over.iter().map(|loan| loan.handed.receipt));
            }
        }
    }
}
