//! One lane as one group sees it: where its cursor stands, what is acked, what is due again; and all of them.

use std::collections::{BTreeMap, BTreeSet};

use crate::log::Cursor;
use crate::types::{LaneId, Seq};

use super::attempts::Attempts;
use super::far::Far;
use super::passed::Passed;
use super::record_bits::RecordBits;

/// Tasks and their payload bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Amount {
    pub tasks: u64,
    pub bytes: u64,
}

impl Amount {
    /// One more task.
    #[inline]
    pub(crate) fn add(&mut self, bytes: u64) {
        self.tasks = self.tasks.wrapping_add(1);
        self.bytes = self.bytes.wrapping_add(bytes);
    }

    /// That much more.
    pub(crate) fn add_all(&mut self, more: Amount) {
        self.tasks = self.tasks.wrapping_add(more.tasks);
        self.bytes = self.bytes.wrapping_add(more.bytes);
    }

    /// One task less. A difference may pass below 0: whoever adds it up wraps too.
    pub(crate) fn take_back(&mut self, bytes: u64) {
        self.tasks = self.tasks.wrapping_sub(1);
        self.bytes = self.bytes.wrapping_sub(bytes);
    }
}

/// What a group knows of one life.
#[derive(Default)]
pub(crate) struct GroupLife {
    pub acks: RecordBits,
    /// How many attempts began, of tasks without a note ([`super::notes`]).
    pub attempts: Attempts,
    /// Tasks that the cursor passed and that are not acked: leased, due, delayed, far, passed over or dead.
    pub open: u32,
    /// The cursor left the life: `open` is all there is left.
    pub passed: bool,
    /// The cursor left it at this index, for the rest can't be read in this open.
    pub held_from: Option<u32>,
}

/// A group's view of a lane. Invariant: `floor ≤ cursor`: everything below the first life that is not done
/// is acked.
pub(crate) struct GroupLane {
    pub cursor: Cursor,
    /// When it was last checked that what lies ahead of the cursor can be read, on the boot clock.
    pub read_ms: u64,
    /// First sequence that the group sees.
    pub start: Seq,
    pub lives: BTreeMap<u64, GroupLife>,
    /// Lives with nothing left to do, not yet reclaimed.
    pub done: BTreeSet<u64>,
    /// Slots of tasks that are due again, by sequence: they go before the cursor.
    pub due: BTreeMap<Seq, u32>,
    /// Tasks that were passed over because their keys were not free.
    pub passed: Passed,
    /// Tasks whose time is far, if there are any.
    pub far: Option<Box<Far>>,
    pub in_flight: u64,
    /// Acked, dead, or found not to be for this group or damaged, since the open.
    pub settled: Amount,
    pub delayed: u64,
    /// Tasks that expired and are gone, since the open.
    pub expired: u64,
    /// Tasks acked in lives that are gone.
    pub acked_gone: u64,
}

impl GroupLane {
    pub(crate) fn new(start: Seq) -> Self {
        GroupLane {
            cursor: Cursor::from_base(0),
            read_ms: 0,
            start,
            lives: BTreeMap::new(),
            done: BTreeSet::new(),
            due: BTreeMap::new(),
            passed: Passed::default(),
            far: None,
            in_flight: 0,
            settled: Amount::default(),
            delayed: 0,
            expired: 0,
            acked_gone: 0,
        }
    }

    /// The cursor passed a task. If it is not acked it is open from here on, until it is settled; then this says how
    /// many attempts of it began, unless there is a note.
    pub(crate) fn open(&mut self, base: u64, index: u32) -> Option<u32> {
        let life = self.lives.entry(base).or_default();
        if life.acks.contains(index) {
            return None;
        }
        life.open += 1;
        Some(life.attempts.of(index))
    }

    /// That attempt of tasks of a life begins.
    pub(super) fn begin(&mut self, attempt: u32, first: Seq, count: u32) {
        // They were met, so their life is among these.
        let Some((base, life)) = self.lives.range_mut(..=first.0).next_back() else { return };
        let index = first.index_in(*base);
        life.attempts.begin(attempt, index, index.saturating_add(count - 1));
    }

    /// So many attempts of a task without a note began.
    pub(super) fn set_attempts(&mut self, base: u64, index: u32, attempts: u32) {
        self.lives.entry(base).or_default().attempts.set(index, attempts);
    }

    #[inline]
    pub(super) fn attempts(&self, base: u64, index: u32) -> u32 {
        self.lives.get(&base).map_or(0, |life| life.attempts.of(index))
    }

    /// The life can't be read from `index` on in this open: it is not done before a reopen, so it is not given back.
    pub(crate) fn hold(&mut self, base: u64, index: u32) {
        let life = self.lives.entry(base).or_default();
        life.open += 1;
        life.held_from = Some(index);
    }

    /// The first index of the life at or behind `index` that is not acked.
    pub(crate) fn next_unacked(&self, base: u64, index: u32) -> u32 {
        self.lives.get(&base).map_or(index, |life| life.acks.next_unacked(index))
    }

    /// A task is settled for good (`acked`) or turned out damaged.
    pub(crate) fn close(&mut self, base: u64, acked: Option<u32>) {
        let life = self.lives.entry(base).or_default();
        if let Some(index) = acked {
            life.acks.set(index);
        }
        debug_assert!(life.open > 0, "only a task that was opened is closed");
        life.open = life.open.saturating_sub(1);
        if life.open == 0 && life.passed {
            self.done.insert(base);
            self.passed.leave(base);
        }
    }

    /// True if the cursor moved over the record, so that its life counts it as open until it is settled.
    pub(crate) fn has_met(&self, base: u64, index: u32) -> bool {
        let held = self.lives.get(&base).and_then(|life| life.held_from).is_some_and(|from| index >= from);
        self.cursor.has_passed(base, index) && !held
    }

    /// A task is settled for good that was on loan to nobody.
    pub(crate) fn settle(&mut self, base: u64, index: u32) {
        if self.has_met(base, index) {
            self.close(base, Some(index));
        } else {
            self.lives.entry(base).or_default().acks.set(index);
        }
    }

    /// A task that has no slot, because it was passed over or is far, is settled or set aside by hand.
    pub(super) fn call_off(&mut self, base: u64, index: u32) {
        self.unpass(base, index);
        self.unfar(base, index);
    }

    /// The cursor left a life.
    pub(crate) fn pass(&mut self, base: u64) {
        let life = self.lives.entry(base).or_default();
        life.passed = true;
        if life.open == 0 {
            self.done.insert(base);
            self.passed.leave(base);
        }
    }

    /// Forgets a life that is gone, keeping its count.
    pub(crate) fn forget(&mut self, base: u64) {
        if let Some(life) = self.lives.remove(&base) {
            self.acked_gone += u64::from(life.acks.count());
        }
        self.done.remove(&base);
    }

    /// Acked tasks, those of lives that are gone included.
    pub(crate) fn acked(&self) -> u64 {
        self.acked_gone + self.lives.values().map(|life| u64::from(life.acks.count())).sum::<u64>()
    }
}

/// A group's lanes by their number: looked up several times on the way of every task.
#[derive(Default)]
pub(crate) struct GroupLanes(Vec<Option<Box<GroupLane>>>);

impl GroupLanes {
    #[inline]
    pub(crate) fn get(&self, lane: LaneId) -> Option<&GroupLane> {
        self.0.get(lane.index())?.as_deref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, lane: LaneId) -> Option<&mut GroupLane> {
        self.0.get_mut(lane.index())?.as_deref_mut()
    }

    /// Makes the lane if the group has not met it yet; it sees the lane from `start` on.
    pub(crate) fn meet(&mut self, lane: LaneId, start: Seq) {
        if lane.index() >= self.0.len() {
            self.0.resize_with(lane.index() + 1, || None);
        }
        if let Some(slot) = self.0.get_mut(lane.index()) {
            slot.get_or_insert_with(|| Box::new(GroupLane::new(start)));
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (LaneId, &GroupLane)> {
        (0..=u8::MAX).map(LaneId).zip(&self.0).filter_map(|(lane, own)| Some((lane, own.as_deref()?)))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (LaneId, &mut GroupLane)> {
        (0..=u8::MAX).map(LaneId).zip(&mut self.0).filter_map(|(lane, own)| Some((lane, own.as_deref_mut()?)))
    }
}
