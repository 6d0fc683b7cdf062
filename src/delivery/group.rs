//! A group of competing consumers: its cursor over every lane, its leases, what is due again and what is dead.
//!
//! # The states of a task in a group
//!
//! ```text
//!  ahead of the cursor ──reserve──▶ leased ──ack──▶ acked
//!                                   │  ▲  └─reject, or attempts used up──▶ dead
//!            nack, drop: delayed ◀──┤  │
//!                          │        ├──expired, released──▶ due
//!                          └─timer─▶ due ──reserve─▶ leased
//! ```
//!
//! A task that the cursor passed has a slot until it is acked or dead; unless it was passed over, because another task with
//! its key is not settled for good, or its time is far, and then it has a bit ([`super::passed`], [`super::far`]). A lease is
//! a slot and a fence, which no other lease of the queue ever had; nothing opens the slot once the lease ended, so that an
//! old receipt is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::format::fields::Traits;
use crate::format::journal::DeadCause;
use crate::log::Cursor;
use crate::sabotage::{Bug, on};
use crate::types::{Backoff, LaneId, LaneSet, Now, Retention, Seq, Timestamp};

use super::far::{FarRules, Scratch};
use super::fences::Fences;
use super::hand::DeadBounds;
use super::keys::{KeyHash, Keys, Spot};
use super::lane::{GroupLane, GroupLanes};
use super::loans::{Loans, Share};
use super::notes::{Dirty, Notes};
use super::retention::Looks;
use super::scheduler::{Priority, Scheduler};
use super::slab::Slab;
use super::state::{DeadNote, GroupState, TaskKey};
use super::sticky::Sticky;
use super::wheel::Wheel;
use super::workers::Workers;

/// When a group gives up on a task, how long it waits between attempts, and how many are on loan at once.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// 0 is without limit.
    pub max_attempts: u32,
    pub backoff: Backoff,
    /// Expired tasks become dead letters; else they are counted and gone.
    pub expired_are_dead: bool,
    pub dead: DeadBounds,
    /// The most tasks of a group on loan at once; 0 is without limit.
    pub in_flight_max: u64,
    /// The most tasks of these lanes on loan at once in a group.
    pub lanes_in_flight_max: BTreeMap<LaneId, u64>,
    pub far: FarRules,
}

/// What a task asks for itself, instead of the queue's rules or beside them.
#[derive(Clone, Debug, Default)]
pub(super) struct Own {
    pub max_attempts: Option<u32>,
    pub backoff: Option<Backoff>,
    pub expires: Option<Timestamp>,
    pub time_limit_ms: Option<u64>,
    /// While it is on loan: no extension goes beyond that, on the boot clock.
    pub limit_ms: Option<u64>,
    pub key: Option<KeyHash>,
}

impl Own {
    /// What the traits of a task ask for, if anything; `key` is the hash of theirs.
    pub(super) fn of(traits: &Traits<'_>, key: Option<KeyHash>) -> Option<Box<Own>> {
        let Traits { max_attempts, backoff, expires, time_limit_ms, .. } = *traits;
        let own = Own { max_attempts, backoff, expires, time_limit_ms, limit_ms: None, key };
        let asks = max_attempts.is_some() || backoff.is_some() || expires.is_some() || time_limit_ms.is_some();
        (asks || key.is_some()).then(|| Box::new(own))
    }
}

impl Rules {
    /// True if the task gets no further attempt.
    pub(super) fn used_up(&self, task: &Slot, notes: &Notes) -> bool {
        let max = task.own.as_ref().and_then(|own| own.max_attempts).unwrap_or(self.max_attempts);
        max > 0 && notes.attempts(task) >= max
    }

    /// True if what is settled lets others have something.
    pub(crate) fn bound_loans(&self) -> bool {
        self.in_flight_max > 0 || !self.lanes_in_flight_max.is_empty()
    }

    /// Delay after the task's last attempt failed.
    pub(super) fn backoff_ms(&self, task: &Slot, attempts: u32) -> u64 {
        let backoff = task.own.as_ref().and_then(|own| own.backoff).unwrap_or(self.backoff);
        backoff.delay_ms(attempts, task.seq.0)
    }
}

/// A lease's name inside the group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ticket {
    pub slot: u32,
    pub fence: u64,
}

/// A task that the cursor passed and that is neither acked nor dead. There may be millions, so it is small.
pub(super) struct Slot {
    pub seq: Seq,
    /// If it asks for anything.
    pub own: Option<Box<Own>>,
    /// Who has it on loan, or when it is due; see [`Slot::phase`].
    who_or_when: u64,
    /// In its life.
    pub index: u32,
    pub offset: u32,
    /// Bytes of its payload.
    pub bytes: u32,
    pub lane: LaneId,
    /// What of its attempts is known.
    pub tried: Tried,
    waits_for: WaitsFor,
}

/// What a slot knows of attempts of its task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tried {
    /// So many began, as the bits of its life say.
    Times(u8),
    /// It has a note ([`super::notes`]), which says how many.
    Noted,
}

impl Tried {
    /// Of a task without a note.
    pub(super) fn times(attempts: u32) -> Tried {
        Tried::Times(u8::try_from(attempts).unwrap_or(u8::MAX))
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum WaitsFor {
    Settling,
    Taker,
    Time,
}

/// With the wheel's 16 bytes and the fence, 64 bytes for a task on loan.
const _: () = assert!(size_of::<Option<Slot>>() == 40, "README says what a loan takes");

impl Slot {
    /// A task that is due.
    pub(super) fn new(lane: LaneId, spot: Spot, bytes: u32, own: Option<Box<Own>>, tried: Tried) -> Slot {
        let Spot { index, offset, .. } = spot;
        Slot { seq: spot.seq(), own, who_or_when: 0, index, offset, bytes, lane, tried, waits_for: WaitsFor::Taker }
    }

    #[inline]
    pub(super) fn phase(&self) -> Phase {
        match self.waits_for {
            WaitsFor::Settling => Phase::Leased { consumer: self.who_or_when },
            WaitsFor::Taker => Phase::Due,
            WaitsFor::Time => Phase::Delayed { due: Timestamp(self.who_or_when) },
        }
    }

    #[inline]
    pub(super) fn set_phase(&mut self, phase: Phase) {
        (self.waits_for, self.who_or_when) = match phase {
            Phase::Leased { consumer } => (WaitsFor::Settling, consumer),
            Phase::Due => (WaitsFor::Taker, 0),
            Phase::Delayed { due } => (WaitsFor::Time, due.0),
        };
    }

    pub(super) fn spot(&self) -> Spot {
        Spot { base: self.base(), index: self.index, offset: self.offset }
    }

    #[inline]
    pub(super) fn task_key(&self) -> TaskKey {
        (self.lane, self.seq)
    }

    /// That of its life.
    #[inline]
    pub(super) fn base(&self) -> u64 {
        self.seq.0 - u64::from(self.index)
    }

    #[inline]
    pub(super) fn key(&self) -> Option<KeyHash> {
        self.own.as_ref().and_then(|own| own.key)
    }

    /// True if nobody wants the task done any more.
    pub(super) fn is_expired(&self, now: Now) -> bool {
        self.own.as_ref().and_then(|own| own.expires).is_some_and(|expires| expires <= now.wall)
    }
}

/// What a slot's task waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Leased { consumer: u64 },
    Due,
    Delayed { due: Timestamp },
}

/// One group of an open queue.
pub(crate) struct Group {
    pub id: u32,
    pub name: String,
    pub lanes: GroupLanes,
    starts: BTreeMap<LaneId, Seq>,
    pub(super) slots: Slab<Slot>,
    pub fences: Fences,
    pub(super) keys: Keys,
    pub workers: Workers,
    /// In sticky mode.
    pub(super) sticky: Option<Sticky>,
    pub(super) wheel: Wheel,
    /// Lanes with tasks whose time is far, and where those are kept outside of memory.
    pub(super) far_lanes: LaneSet,
    pub(super) scratch: Option<Arc<dyn Scratch>>,
    /// Of what the whole queue may have on loan.
    pub(super) share: Share,
    /// A lease or a delay ended by the way.
    pub(super) ticked: bool,
    pub(super) scheduler: Scheduler,
    pub notes: Notes,
    pub dead: BTreeMap<TaskKey, DeadNote>,
    /// Dead letters are kept for long, so a checkpoint must not pay for all of them.
    pub dead_dirty: Dirty,
    /// Dead letters by when they died, and the bytes of their payloads; those that are parked excepted.
    pub(super) dead_order: BTreeSet<(Timestamp, TaskKey)>,
    pub(super) dead_bytes: u64,
    /// Dead letters that their bounds dropped, since the open.
    pub dead_dropped: u64,
    /// How much it may have left to do, and where it was last looked for more.
    pub retention: Retention,
    pub looks: Looks,
}

impl Group {
    /// The group as it goes on from `state`: cursors stand at the floor, and walk over what is acked.
    pub(crate) fn open(id: u32, state: GroupState, priority: &Priority, now: Now) -> Self {
        let mut group = Group {
            id,
            name: state.name,
            lanes: GroupLanes::default(),
            starts: state.starts,
            slots: Slab::new(),
            fences: Fences::default(),
            keys: Keys::new(0),
            workers: Workers::default(),
            sticky: None,
            wheel: Wheel::new(now.boot_ms),
            far_lanes: LaneSet::EMPTY,
            scratch: None,
            share: Share::default(),
            ticked: false,
            scheduler: Scheduler::new(priority, now.boot_ms),
            notes: Notes::new(state.notes),
            dead_dirty: Dirty::everything(state.dead.keys()),
            dead: BTreeMap::new(),
            dead_order: BTreeSet::new(),
            dead_bytes: 0,
            dead_dropped: 0,
            retention: state.retention,
            looks: Looks::default(),
        };
        for (key, dead) in &state.dead {
            group.count_dead(*key, dead);
        }
        group.dead = state.dead;
        for ((lane, base), acks) in state.acks {
            group.in_lane(lane, |own| own.lives.entry(base).or_default().acks = acks);
        }
        for ((lane, base), attempts) in state.attempts {
            group.in_lane(lane, |own| own.lives.entry(base).or_default().attempts = attempts);
        }
        for (lane, base) in state.done {
            group.in_lane(lane, |own| own.done.insert(base));
        }
        for (lane, acked) in state.acked_gone {
            group.in_lane(lane, |own| own.acked_gone = acked);
        }
        group
    }

    /// What it may have left to do from here on.
    pub(crate) fn retain(&mut self, retention: Retention) {
        self.retention = retention;
        (self.looks.next_ms, self.looks.front_ms) = (0, 0);
    }

    /// The group with a range of fences that begins at `first`.
    pub(crate) fn fenced(mut self, first: u64) -> Self {
        self.fences = Fences::from(first);
        self
    }

    /// The group with a seed for the hashes of keys; `sticky`: a key's tasks go to the worker that its bucket belongs to.
    pub(crate) fn keyed(mut self, seed: u64, sticky: bool) -> Self {
        self.keys = Keys::new(seed);
        self.sticky = sticky.then(Sticky::new);
        self
    }

    /// The group with a place outside of memory for tasks whose time is far.
    pub(crate) fn spilling(mut self, scratch: Arc<dyn Scratch>) -> Self {
        self.scratch = Some(scratch);
        self
    }

    /// The group with a share in what the whole queue may have on loan, if that is bounded.
    pub(crate) fn lending_from(mut self, loans: Option<Arc<Loans>>) -> Self {
        self.share = Share::of(loans);
        self
    }

    /// True if a task became deliverable to somebody else by the way, since the last call: its key became free, it was
    /// passed over for another worker, its lease or its delay ended, or the queue may have one more on loan.
    pub(crate) fn take_woken(&mut self) -> bool {
        let by_bucket = self.sticky.as_mut().is_some_and(Sticky::take_woken);
        let by_room = self.share.take_made_room();
        let by_time = std::mem::take(&mut self.ticked);
        self.keys.take_woken() || by_bucket || by_room || by_time
    }

    /// The task that was in a slot needs its key no more.
    pub(super) fn free_key(&mut self, slot: u32, key: Option<KeyHash>) {
        if let Some(key) = key {
            self.keys.free(key, slot);
        }
    }

    /// First sequences that the group sees.
    pub(crate) fn starts(&self) -> &BTreeMap<LaneId, Seq> {
        &self.starts
    }

    /// The group has nothing to do with what comes before `seq` in the lane.
    pub(super) fn start_at(&mut self, lane: LaneId, seq: Seq) {
        // Never back: behind the end of a lane whose segments were all given back, no more is known than their base.
        let start = self.starts.entry(lane).or_default();
        *start = (*start).max(seq);
        let start = *start;
        self.in_lane(lane, |own| own.start = start);
    }

    /// How many dead letters and how many parked tasks a lane has.
    pub(crate) fn dead_in(&self, lane: LaneId) -> (u64, u64) {
        count_dead_in(&self.dead, lane)
    }

    /// Makes sure that the group has `lane`.
    pub(super) fn meet_lane(&mut self, lane: LaneId) {
        if self.lanes.get(lane).is_none() {
            self.lanes.meet(lane, self.starts.get(&lane).copied().unwrap_or_default());
        }
    }

    /// Changes a lane, which is made if the group has not met it.
    #[inline]
    pub(super) fn in_lane<T: Default>(&mut self, lane: LaneId, change: impl FnOnce(&mut GroupLane) -> T) -> T {
        self.meet_lane(lane);
        self.lanes.get_mut(lane).map(change).unwrap_or_default()
    }

    /// Tasks that have slots.
    #[cfg(test)]
    pub(crate) fn open_slots(&self) -> usize {
        self.slots.len()
    }

    /// How many more tasks may be on loan.
    #[inline]
    pub(crate) fn may_lend(&self, rules: &Rules) -> usize {
        if rules.in_flight_max == 0 {
            return usize::MAX;
        }
        let in_flight: u64 = self.lanes.iter().map(|(_, lane)| lane.in_flight).sum();
        usize::try_from(rules.in_flight_max.saturating_sub(in_flight)).unwrap_or(usize::MAX)
    }

    /// How many more tasks may be on loan in all groups together.
    #[inline]
    pub(crate) fn queue_may_lend(&self) -> usize {
        self.share.left()
    }

    /// The group is gone: what it has on loan is none of the queue's any more.
    pub(crate) fn end_loans(&mut self) {
        let in_flight: u64 = self.lanes.iter().map(|(_, lane)| lane.in_flight).sum();
        (0..in_flight).for_each(|_| self.share.give_back());
    }

    /// How many more tasks of one lane may be on loan.
    #[inline]
    pub(crate) fn may_lend_of(&self, lane: LaneId, rules: &Rules) -> usize {
        let max = rules.lanes_in_flight_max.get(&lane);
        max.map_or(usize::MAX, |max| {
            let in_flight = self.lanes.get(lane).map_or(0, |own| own.in_flight);
            usize::try_from(max.saturating_sub(in_flight)).unwrap_or(usize::MAX)
        })
    }

    /// True if a task is neither settled for good nor before what the group sees.
    pub(crate) fn is_owed(&self, lane: LaneId, base: u64, index: u32) -> bool {
        let seq = Seq(base + u64::from(index));
        let is_acked = |own: &GroupLane| {
            own.done.contains(&base) || own.lives.get(&base).is_some_and(|life| life.acks.contains(index))
        };
        self.starts.get(&lane).is_none_or(|start| seq >= *start)
            && !self.lanes.get(lane).is_some_and(is_acked)
            && !self.dead.contains_key(&(lane, seq))
    }

    /// How many of the tasks of a life the group does not need, at most `tasks`; 0 where its cursor stands in it, for that
    /// reads on where it is.
    pub(crate) fn settled_in(&self, lane: LaneId, base: u64, records: u32, tasks: u32) -> u32 {
        if self.is_done(lane, base, base + u64::from(records)) {
            return tasks;
        }
        let before = self.starts.get(&lane).map_or(0, |start| start.index_in(base));
        let Some(own) = self.lanes.get(lane) else { return before.min(tasks) };
        if own.cursor.stands_in(base) {
            return 0;
        }
        let acked = own.lives.get(&base).map_or(0, |life| life.acks.count());
        acked.saturating_add(before).min(tasks)
    }

    /// Leaves a bit (by record index) only where the group does not need the task. Dead letters it does.
    pub(crate) fn keep_settled(&self, lane: LaneId, base: u64, records: u32, settled: &mut [u64]) {
        if self.is_done(lane, base, base + u64::from(records)) {
            return;
        }
        let before = u64::from(self.starts.get(&lane).map_or(0, |start| start.index_in(base)));
        let acks = self.lanes.get(lane).and_then(|own| own.lives.get(&base)).map(|life| life.acks.words());
        for (at, (first, word)) in (0_u64..).step_by(64).zip(settled).enumerate() {
            let acked = acks.as_ref().and_then(|acks| acks.get(at)).copied().unwrap_or(0);
            let old = before.saturating_sub(first);
            *word &= acked | if old >= 64 { u64::MAX } else { (1 << old) - 1 };
        }
    }

    /// True if the life is one in which the group has nothing left to do.
    pub(crate) fn is_done_with(&self, lane: LaneId, base: u64) -> bool {
        self.lanes.get(lane).is_some_and(|own| own.done.contains(&base))
    }

    /// Where its cursor stands in the lane, if in a life: base, index of the next record, log position.
    pub(crate) fn reached(&self, lane: LaneId) -> Option<(u64, u32, u64)> {
        self.lanes.get(lane)?.cursor.place()
    }

    /// True if everything before a place that the cursor reached is settled. False too where that takes long to find out:
    /// a task that waits for anything but its consumer, or very many on loan.
    pub(crate) fn has_settled_before(&self, lane: LaneId, base: u64, index: u32) -> bool {
        let Some(own) = self.lanes.get(lane) else { return false };
        if own.lives.range(..base).any(|(_, life)| life.open > 0) {
            return false;
        }
        let open = own.lives.get(&base).map_or(0, |life| life.open);
        if open == 0 {
            return true;
        }
        // All that is open in the life must be on loan, and behind the place.
        let end = own.lives.range(base + 1..).next().map_or(u64::MAX, |(next, _)| *next);
        let Some(slots) = self.slots.few(SLOTS_LOOKED_AT) else { return false };
        let in_life = |slot: &&Slot| slot.lane == lane && (base..end).contains(&slot.seq.0);
        let behind = |found: u32, slot: &Slot| (slot.index >= index).then_some(found + 1);
        slots.filter(in_life).try_fold(0, behind) == Some(open)
    }

    /// True if the group has nothing to do in a life that begins at `base` and ends below `end`.
    pub(crate) fn is_done(&self, lane: LaneId, base: u64, end: u64) -> bool {
        self.starts.get(&lane).is_some_and(|start| end <= start.0)
            || self.lanes.get(lane).is_some_and(|own| own.done.contains(&base))
            || (on(Bug::DoneWithoutReader) && self.lanes.get(lane).is_none())
    }
}

/// The most slots that a look at what is settled goes through, for it holds the group meanwhile.
const SLOTS_LOOKED_AT: usize = 4096;

/// How many dead letters and how many parked tasks of a lane there are.
pub(crate) fn count_dead_in(dead: &BTreeMap<TaskKey, DeadNote>, lane: LaneId) -> (u64, u64) {
    let own = dead.range((lane, Seq(0))..=(lane, Seq(u64::MAX)));
    own.fold((0, 0), |(dead, parked), (_, note)| match note.cause {
        DeadCause::Parked => (dead, parked + 1),
        _ => (dead + 1, parked),
    })
}

/// The cursor is the group's alone.
const _: fn() = || {
    fn is_send<T: Send>() {}
    is_send::<Cursor>();
};
