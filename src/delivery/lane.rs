//! One lane as one group sees it: where its cursor stands, what is acked, what is due again.

use std::collections::{BTreeMap, BTreeSet};

use crate::log::Cursor;
use crate::types::Seq;

use super::acks::SegmentAcks;

/// What a group knows of one life.
#[derive(Default)]
pub(crate) struct LifeAcks {
    pub acks: SegmentAcks,
    /// Tasks that the cursor passed and that are not acked: leased, due, delayed or dead.
    pub open: u32,
    /// The cursor left the life: `open` is all there is left.
    pub passed: bool,
}

/// A group's view of a lane. Invariant: `floor ≤ cursor`: everything below the first life that is not done
/// is acked.
pub(crate) struct GroupLane {
    pub cursor: Cursor,
    /// First sequence that the group sees.
    pub start: Seq,
    pub lives: BTreeMap<u64, LifeAcks>,
    /// Lives with nothing left to do, not yet reclaimed.
    pub done: BTreeSet<u64>,
    /// Changes of `done` since the last checkpoint.
    pub done_dirty: bool,
    /// Slots of tasks that are due again, by sequence: they go before the cursor.
    pub due: BTreeMap<Seq, u32>,
    pub in_flight: u64,
    pub delayed: u64,
    /// Tasks acked in lives that are gone.
    pub acked_gone: u64,
    /// The life acked last, to spare the look-up in `lives`.
    hint: u64,
}

impl GroupLane {
    pub(crate) fn new(start: Seq) -> Self {
        GroupLane {
            cursor: Cursor::from_base(0),
            start,
            lives: BTreeMap::new(),
            done: BTreeSet::new(),
            done_dirty: false,
            due: BTreeMap::new(),
            in_flight: 0,
            delayed: 0,
            acked_gone: 0,
            hint: 0,
        }
    }

    pub(crate) fn is_acked(&self, base: u64, index: u32) -> bool {
        self.lives.get(&base).is_some_and(|life| life.acks.contains(index))
    }

    /// A task was passed by the cursor and waits for its settle.
    pub(crate) fn open(&mut self, base: u64) {
        self.lives.entry(base).or_default().open += 1;
    }

    /// A task is settled for good (`acked`) or turned out damaged. True if the life is done with it.
    pub(crate) fn close(&mut self, base: u64, acked: Option<u32>) -> bool {
        self.hint = base;
        let life = self.lives.entry(base).or_default();
        if let Some(index) = acked {
            life.acks.set(index);
        }
        debug_assert!(life.open > 0, "only a task that was opened is closed");
        life.open = life.open.saturating_sub(1);
        let done = life.open == 0 && life.passed;
        if done {
            self.finish(base);
        }
        done
    }

    /// The cursor left a life.
    pub(crate) fn pass(&mut self, base: u64) {
        let life = self.lives.entry(base).or_default();
        life.passed = true;
        if life.open == 0 {
            self.finish(base);
        }
    }

    fn finish(&mut self, base: u64) {
        if self.done.insert(base) {
            self.done_dirty = true;
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
