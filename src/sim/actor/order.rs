//! In which order lanes are served, and how long one may wait.

use std::collections::BTreeMap;

use super::super::model::{Task, Verdict, ensure};
use super::super::schedule::{LONGEST_WAIT_MS, Order, WEIGHTS};
use super::Actor;
use crate::types::{LaneId, LaneSet, Seq};

impl Actor<'_> {
    /// Notes before a reserve which lanes surely have a task for the group. Gives how long each of them waited.
    pub(super) fn note_waits(&mut self, at: usize) -> BTreeMap<LaneId, u64> {
        let now = self.now.boot_ms;
        let lanes = (0..self.setting.lanes).map(LaneId);
        let ready: Vec<LaneId> = lanes.filter(|lane| self.surely_has_a_task(at, *lane)).collect();
        let waits = &mut self.model.sides[at].waits;
        waits.retain(|lane, _| ready.contains(lane));
        ready.into_iter().map(|lane| (lane, now - *waits.entry(lane).or_insert(now))).collect()
    }

    /// The next task of the lane for the group was never handed out and can be had now.
    fn surely_has_a_task(&self, at: usize, lane: LaneId) -> bool {
        let side = &self.model.sides[at];
        // One that waits for its time, its key or its transaction, or may have expired, is none that can surely be had.
        let waits = |task: &Task| task.asks.run_at.is_some() || task.key.is_some() || task.transaction > 0;
        let is_plain = |task: &Task| !waits(task) && task.asks.expires.is_none();
        let in_lane = |seq: &Seq| self.model.tasks.get(seq).is_some_and(|task| task.lane == lane && is_plain(task));
        let mut fresh =
            side.mine.iter().filter(|(seq, mine)| mine.is_open() && !side.met.contains(seq) && in_lane(seq));
        let Some((seq, mine)) = fresh.next() else { return false };
        // A producer that stands still, or a task that is not durable yet, holds up what is behind it.
        let is_power = |seq: &Seq| self.model.tasks.get(seq).is_some_and(|task| task.power);
        let mut undurable = self.ends.get(&lane).into_iter().flat_map(BTreeMap::values).filter(|seq| is_power(seq));
        let is_held_up = undurable.any(|other| other <= seq)
            || self.stalls.iter().any(|stall| stall.lane == lane && stall.claim.seq() < *seq)
            || self.model.tasks.range(..*seq).any(|(_, task)| task.lane == lane && task.is_undecided());
        mine.must && mine.attempts_most == 0 && !is_held_up && !self.model.is_paused(at, lane)
    }

    /// Lanes were served as the policy says; `waited` is how long each that had a task waited before.
    pub(super) fn in_turn(
        &mut self,
        at: usize,
        served: &[LaneId],
        waited: &BTreeMap<LaneId, u64>,
        tasks: usize,
        lanes: LaneSet,
    ) -> Verdict {
        for lane in served {
            self.model.sides[at].waits.remove(lane);
        }
        if self.disk.faults() > 0 {
            // What can't be read is passed over.
            return Ok(());
        }
        let is_strict = |served: &[LaneId]| served.windows(2).all(|pair| pair[0] <= pair[1]);
        match self.setting.order {
            Order::Strict => ensure!(is_strict(served), "lanes were served in the order {served:?}"),
            Order::Weighted => {
                // Whose turn goes on from the reserve before has less than its weight left.
                let mut turns = served.chunk_by(|one, next| one == next).peekable();
                while let Some(turn) = turns.next() {
                    let most = turn.first().map_or(0, |lane| usize::from(WEIGHTS[lane.index()]));
                    ensure!(turns.peek().is_none() || turn.len() <= most, "a turn is too long: {served:?}");
                }
            }
            Order::Aging => {
                let late = served.get(usize::from(self.setting.lanes)..).unwrap_or_default();
                ensure!(is_strict(late), "lanes were served in the order {served:?}");
                let overdue = waited.iter().find(|(lane, ms)| **ms > LONGEST_WAIT_MS && !served.contains(lane));
                let had_its_chance = lanes == LaneSet::ALL && tasks >= usize::from(self.setting.lanes);
                ensure!(!had_its_chance || overdue.is_none(), "a lane waits too long: {overdue:?}, served {served:?}");
            }
        }
        Ok(())
    }
}
