//! What callers were told of dedup ids: for each the enqueues that were accepted with it, and which of them may count.
//!
//! An enqueue with an id says what the engine makes of it, and from there on that is known. What a clock that jumped back
//! leaves open stays open here: an id whose time was over at the latest moment ever seen, and is not over now, may count
//! or not.

use std::collections::BTreeMap;

use super::model::{Model, Side, Verdict, ensure};
use super::schedule::Setting;
use crate::format::dedup::UNTIL_SETTLED;
use crate::types::{LaneId, Seq, Timestamp, mix};

/// How many ids there are.
pub(super) const IDS: u8 = 6;

/// An enqueue that was accepted with an id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Accepted {
    pub lane: LaneId,
    pub seq: Seq,
    pub ends: Timestamp,
    /// The queue knows it. Else it may: its task may not have survived, or the queue said that it may have forgotten ids.
    pub known: bool,
    /// A restart did not find its task: only an older checkpoint can bring both back.
    lost: bool,
    /// At some moment every group had settled it, as far as anybody knows: should a dead letter come back, the id may be
    /// free all the same.
    pub over: bool,
    /// How many groups there ever were: for one that begins later it may be over and not settled.
    groups: u32,
}

/// Every id that was used: what was accepted with it and may count, oldest first.
#[derive(Clone, Default)]
pub(super) struct Ids {
    accepted: BTreeMap<u8, Vec<Accepted>>,
    /// The latest wall time that anybody saw.
    pub wall_most: u64,
    /// Something was damaged on purpose: what an id counts for may be gone.
    hurt: bool,
}

/// What a crash left, as the checks saw it.
pub(super) struct Survival<'a> {
    /// What some group showed.
    pub shown: &'a dyn Fn(Seq) -> bool,
    pub power_lost: bool,
    /// The queue said that it may have forgotten ids.
    pub forgets: bool,
    pub hurt: bool,
}

/// The fingerprint of an id.
pub(super) fn fingerprint(id: u8) -> u128 {
    u128::from(mix(u64::from(id))) << 64 | u128::from(mix(u64::from(id) + 1_000))
}

impl Model {
    /// An enqueue with an id, or a look at it, gave that task, or none. Notes what is known from there on.
    pub(super) fn id_gave(
        &mut self,
        id: u8,
        wall: Timestamp,
        setting: Setting,
        gave: Option<(LaneId, Seq)>,
    ) -> Verdict {
        let candidates = self.ids.accepted.get(&id).cloned().unwrap_or_default();
        for (at, one) in candidates.iter().enumerate().rev().filter(|(_, one)| !one.lost) {
            if gave == Some((one.lane, one.seq)) {
                ensure!(self.may_count(one, wall), "id {id} is over for {one:?} and gives it, at {}", wall.0);
                // Of those whose time was over before the clock jumped back any may count again, and after a restart another.
                let most = self.ids.wall_most;
                let may_come = |one: &Accepted| one.lost || (one.ends != UNTIL_SETTLED && one.ends.0 <= most);
                if let Some(left) = self.ids.accepted.get_mut(&id) {
                    let later = left.split_off(at + 1).into_iter().filter(may_come);
                    left.iter_mut().skip(at).for_each(|one| one.known = true);
                    left.extend(later);
                }
                return Ok(());
            }
            ensure!(!self.must_count(one, setting), "id {id} counts for {one:?} and gives {gave:?}, at {}", wall.0);
        }
        ensure!(gave.is_none(), "id {id} gives {gave:?}, which was never accepted with it, or did not survive");
        // What was in doubt and would count is not there, and may come back with an older checkpoint all the same.
        let is_lost = |one: &Accepted| one.lost || (!one.known && self.would_count(one, setting));
        let left = candidates.into_iter().map(|one| Accepted { lost: is_lost(&one), ..one }).collect();
        self.ids.accepted.insert(id, left);
        Ok(())
    }

    /// A task was accepted with an id.
    pub(super) fn id_taken(&mut self, id: u8, lane: LaneId, seq: Seq, ends: Timestamp) {
        let groups = self.groups;
        let accepted = Accepted { lane, seq, ends, known: true, lost: false, over: false, groups };
        self.ids.accepted.entry(id).or_default().push(accepted);
    }

    /// A task may have been accepted with an id, if it is there after a restart.
    pub(super) fn id_in_doubt(&mut self, id: u8, lane: LaneId, seq: Seq, ends: Timestamp) {
        self.id_taken(id, lane, seq, ends);
        self.ids.accepted.entry(id).and_modify(|all| all.iter_mut().for_each(|one| one.known &= one.seq != seq));
    }

    /// Notes which tasks are settled now.
    pub(super) fn observe_ids(&mut self, setting: Setting) {
        let mut ids = std::mem::take(&mut self.ids.accepted);
        for one in ids.values_mut().flatten().filter(|one| one.ends == UNTIL_SETTLED) {
            one.over |= !self.is_open(one, setting);
        }
        self.ids.accepted = ids;
    }

    /// How many ids count, at least and at most.
    pub(super) fn ids_counting(&self, wall: Timestamp, setting: Setting) -> (usize, usize) {
        let each = || self.ids.accepted.values().map(|all| all.iter().filter(|one| !one.lost));
        let surely =
            each().filter(|all| all.clone().next_back().is_some_and(|one| self.must_count(one, setting))).count();
        (surely, each().flatten().filter(|one| self.may_count(one, wall)).count())
    }

    /// The process died, and what is left was looked at, but not taken over.
    pub(super) fn ids_survive(&mut self, survival: &Survival<'_>) {
        self.ids.hurt |= survival.hurt;
        let mut ids = std::mem::take(&mut self.ids.accepted);
        for one in ids.values_mut().flatten() {
            let shown = (survival.shown)(one.seq);
            let kept = self.tasks.get(&one.seq).is_some_and(|task| task.kept.must_be(survival.power_lost));
            let may_be = shown || kept || survival.hurt || self.may_be_settled(one.seq);
            one.known = !survival.forgets && (shown || kept && one.known && !survival.hurt);
            one.lost = !survival.forgets && (one.lost || !may_be);
        }
        self.ids.accepted = ids;
    }

    /// False if some group would have to show the task, if it were there.
    fn may_be_settled(&self, seq: Seq) -> bool {
        let owed = |side: &Side| side.mine.get(&seq).is_some_and(|mine| mine.must && mine.is_open());
        !self.sides.iter().any(owed)
    }

    fn may_count(&self, one: &Accepted, wall: Timestamp) -> bool {
        let settled =
            |side: &Side| side.mine.get(&one.seq).is_none_or(|mine| mine.acked >= super::model::Sure::Process);
        if one.ends != UNTIL_SETTLED { one.ends > wall } else { self.ids.hurt || !self.sides.iter().all(settled) }
    }

    fn must_count(&self, one: &Accepted, setting: Setting) -> bool {
        one.known && self.would_count(one, setting)
    }

    /// It counts, if the queue knows it.
    fn would_count(&self, one: &Accepted, setting: Setting) -> bool {
        match one.ends {
            UNTIL_SETTLED => !one.over && self.is_open(one, setting),
            ends => ends.0 > self.ids.wall_most,
        }
    }

    /// Some group that was there surely has to do with it.
    fn is_open(&self, one: &Accepted, setting: Setting) -> bool {
        // One that used up its attempts is dead once somebody asks for it.
        let worn = |attempts: u32| setting.attempts_max > 0 && attempts >= setting.attempts_max;
        let open = |side: &Side| {
            if side.ordinal > one.groups {
                return false;
            }
            let mine = side.mine.get(&one.seq);
            let failed = u32::from(side.reserve_failed);
            mine.is_some_and(|mine| mine.must && mine.is_open() && !worn(mine.attempts_most + mine.taken_back + failed))
        };
        self.sides.iter().any(open)
    }
}
