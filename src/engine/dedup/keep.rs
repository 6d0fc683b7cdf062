//! Which ids are over, and what a checkpoint copies of the others, without anybody waiting for more than a portion of it.
//!
//! An id that is over may be forgotten, even if a dead letter comes back meanwhile; so it may be found over while nobody
//! holds the index, and forgotten behind that. Slices don't change, so one is read and made anew beside the index and takes
//! its place if that is still the same one's. The head does: it is copied a portion at a time, and what is inserted meanwhile
//! is noted and comes on top at the instant that the checkpoint is of ([`Index::take`]). Entries that went meanwhile were
//! over; that the checkpoint has them does no harm.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::format::dedup::{Once, UNTIL_SETTLED};
use crate::format::journal::DeadCause;
use crate::sabotage::{Bug, on};
use crate::sync::atomic::Ordering;
use crate::types::{Now, Timestamp};

use super::super::Engine;
use super::super::checkpoint::Between;
use super::super::groups::GroupCell;
use super::index::{Index, Left, PreparedIds, SLICE_IDS, left_of, merge};
use super::slice::Slice;

/// Entries of the head that are looked at while the index is held once.
const HEAD_AT_ONCE: usize = if cfg!(any(test, feature = "sim")) { 2 } else { 2048 };
/// Ids that a group is asked for while it is locked once.
const IDS_AT_ONCE: usize = 256;

impl Engine {
    /// What a checkpoint keeps of the head, as far as that can be copied before its instant. What is over goes before, as far
    /// as that costs little: of the head, and of one slice in turn, which is left as it is if most of its ids still count.
    pub(in crate::engine) fn prepare_ids(&self, now: Now, between: Between<'_>) -> PreparedIds {
        self.dedup.grown.store(false, Ordering::Relaxed);
        let cells = self.groups();
        while let Some((number, head)) = self.with_ids(between, |index| index.full_head()) {
            let entries: Vec<(u128, Once)> = head.iter().map(|(fingerprint, once)| (*fingerprint, *once)).collect();
            let slice = Slice::new(&entries);
            self.with_ids(between, |index| index.put_slice(number, &head, slice));
        }
        if let Some((number, slice)) = self.with_ids(between, |index| index.next_to_tidy(now.wall)) {
            let are_over = |entries: &[(u128, Once)]| self.are_over(&cells, entries, now.wall);
            if let Some(left) = left_of(&slice, SLICE_IDS, slice.count / 2, are_over) {
                self.put_left(number, &slice, left, between);
            }
        }
        let (mut prepared, mut behind) = (PreparedIds::default(), None);
        loop {
            let (number, some) = self.with_ids(between, |index| index.copy_of_head(behind, HEAD_AT_ONCE));
            let Some((last, _)) = some.last() else { return prepared };
            behind = Some(*last);
            let over = self.are_over(&cells, &some, now.wall);
            let (over, some): (Vec<_>, Vec<_>) = some.into_iter().zip(over).partition(|(_, is_over)| *is_over);
            if !over.is_empty() {
                let over: Vec<_> = over.into_iter().map(|(entry, _)| entry).collect();
                self.with_ids(between, |index| index.drop_from_head(&over));
            }
            if !prepared.add(number, some.into_iter().map(|(entry, _)| entry)) {
                return prepared;
            }
        }
    }

    /// A slice is tidied. Few ids that are left go to the next slice: to put them back into the head takes long.
    fn put_left(&self, number: u32, slice: &Arc<Slice>, left: Left, between: Between<'_>) {
        if let Left::Few(few) = &left
            && let Some((next_number, next)) = self.with_ids(between, |index| index.slice_behind(number))
            && let Some(both) = merge(few, &next, SLICE_IDS)
        {
            self.with_ids(between, |index| index.merged((number, slice), (next_number, &next), both));
            return;
        }
        self.with_ids(between, |index| index.tidied(number, slice, left));
    }

    /// Holds the index for a portion, and lets those have it who wait for it.
    fn with_ids<T>(&self, between: Between<'_>, look: impl FnOnce(&mut Index) -> T) -> T {
        let looked = {
            let mut index = self.dedup.index.lock();
            let _held = self.hold();
            look(&mut index)
        };
        between();
        looked
    }

    /// Which ids are free again, without a look at their tasks: what expired and no group has met yet is not found over.
    pub(super) fn are_over(&self, cells: &[Arc<GroupCell>], entries: &[(u128, Once)], now: Timestamp) -> Vec<bool> {
        entries.chunks(IDS_AT_ONCE).flat_map(|some| self.some_are_over(cells, some, now)).collect()
    }

    fn some_are_over(&self, cells: &[Arc<GroupCell>], some: &[(u128, Once)], now: Timestamp) -> Vec<bool> {
        // Where the tasks are that an id waits for; and whether the others are over.
        let mut bases: BTreeMap<usize, u64> = BTreeMap::new();
        let mut over = Vec::with_capacity(some.len());
        for (at, (_, once)) in some.iter().enumerate() {
            let base = (once.ends == UNTIL_SETTLED).then(|| self.base_of(once.lane, once.seq));
            bases.extend(base.flatten().map(|base| (at, base)));
            over.push(match base {
                None => once.ends <= now,
                Some(None) => !self.is_unread(once),
                Some(Some(_)) => !on(Bug::IdFreedEarly) || cells.is_empty(),
            });
        }
        if bases.is_empty() {
            return over;
        }
        for cell in cells {
            let group = &cell.state.lock().group;
            for (at, base) in &bases {
                let Some(((_, once), over)) = some.get(*at).zip(over.get_mut(*at)) else { continue };
                let dead = group.dead.get(&(once.lane, once.seq));
                let is_owed = || group.is_owed(once.lane, *base, once.seq.index_in(*base));
                let is_settled = dead.map_or_else(|| !is_owed(), |dead| dead.cause != DeadCause::Parked);
                *over = if on(Bug::IdFreedEarly) { *over || is_settled } else { *over && is_settled };
            }
        }
        over
    }
}
