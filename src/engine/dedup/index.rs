//! The index itself: a head that changes, slices that don't. It knows no tasks: who asks says which entries are over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::format::dedup::{Once, encode_pages};
use crate::storage::File;
use crate::types::Timestamp;

use super::slice::{BadPage, Slice};

/// Ids of a slice: a head of so many is frozen.
pub(super) const SLICE_IDS: usize = if cfg!(any(test, feature = "sim")) { 3 } else { 64 << 10 };
/// A slice of which fewer than one in so many ids are left becomes part of the head again.
const LEFT_OVER: usize = 4;
/// What an id of the head takes in memory, in a tree that is two thirds full.
const HEAD_ENTRY_BYTES: usize = 64;

/// Every id that is remembered, by its fingerprint.
///
/// - Of two entries of one id the newer counts: the head's, then that of the slice with the greater number.
/// - A slice that is not in `dirty` is in the newest checkpoint as it is here.
pub(crate) struct Index {
    head: BTreeMap<u128, Once>,
    /// The number that the head has as a slice, greater than those of all slices.
    head_number: u32,
    slices: BTreeMap<u32, Slice>,
    slice_ids: usize,
    /// Slices, the head among them, that changed since a checkpoint took them.
    dirty: BTreeSet<u32>,
    /// The order of the next enqueue with an id.
    pub order: u64,
    /// What a look for room found that was in vain: it is as before, as long as no more is settled and no time is over.
    pub full: Option<Full>,
    /// The slice that was tidied last.
    tidied: u32,
}

/// Why there was no room: where the journal ended, and when the next time is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Full {
    pub journal: u64,
    pub ends: Timestamp,
}

/// What a checkpoint has to do with a slice.
pub(crate) enum Keep {
    /// It has it.
    AsItIs(u32),
    Write(u32, Vec<u8>),
}

impl Index {
    pub(super) fn new(slice_ids: usize) -> Self {
        Index {
            head: BTreeMap::new(),
            head_number: 1,
            slices: BTreeMap::new(),
            slice_ids,
            dirty: BTreeSet::new(),
            order: 0,
            full: None,
            tidied: 0,
        }
    }

    /// Takes over a slice that was found in a checkpoint, or what is left of it: then `place` is none. In order of their
    /// numbers.
    pub(super) fn load(&mut self, number: u32, entries: &[(u128, Once)], place: Option<(Arc<dyn File>, u64)>) {
        if !entries.is_empty() {
            if place.is_none() {
                self.dirty.insert(number);
            }
            self.slices.insert(number, place.map_or_else(|| Slice::new(entries), |place| Slice::at(entries, place)));
        }
        self.head_number = self.head_number.max(number.saturating_add(1));
    }

    /// Everything is loaded. The newest slice is gone on with as the head, unless it is nearly full: else each open would
    /// leave a small one behind.
    pub(super) fn loaded(&mut self) {
        let small = self.slices.last_key_value().filter(|(_, slice)| slice.count <= self.slice_ids / 2);
        if let Some((number, entries)) = small.and_then(|(number, slice)| Some((*number, slice.entries().ok()?))) {
            self.slices.remove(&number);
            self.dirty.remove(&number);
            self.head.extend(entries);
            self.dirty.insert(self.head_number);
        }
    }

    /// Remembered ids; one that two slices have counts twice.
    pub(crate) fn count(&self) -> usize {
        self.head.len() + self.slices.values().map(|slice| slice.count).sum::<usize>()
    }

    /// Bytes that it takes in memory, roughly.
    pub(crate) fn bytes(&self) -> usize {
        self.head.len() * HEAD_ENTRY_BYTES + self.slices.values().map(Slice::bytes).sum::<usize>()
    }

    /// What is known of an id. An error where a page can't be used: then nothing is.
    pub(super) fn find(&self, fingerprint: u128) -> Result<Option<Once>, BadPage> {
        if let Some(once) = self.head.get(&fingerprint) {
            return Ok(Some(*once));
        }
        for slice in self.slices.values().rev() {
            if let Some(once) = slice.find(fingerprint)? {
                return Ok(Some(once));
            }
        }
        Ok(None)
    }

    /// Notes an id. True if that filled the head, which is a slice now.
    pub(super) fn insert(&mut self, fingerprint: u128, once: Once) -> bool {
        self.head.insert(fingerprint, once);
        self.full = None;
        self.dirty.insert(self.head_number);
        if self.head.len() < self.slice_ids {
            return false;
        }
        let entries: Vec<(u128, Once)> = std::mem::take(&mut self.head).into_iter().collect();
        self.slices.insert(self.head_number, Slice::new(&entries));
        self.head_number += 1;
        true
    }

    /// Forgets every entry that is over, and gives the earliest end among the others. What can't be read stays.
    pub(super) fn forget(&mut self, now: Timestamp, is_over: impl Fn(&Once) -> bool) -> Timestamp {
        self.tidy_head(&is_over);
        for number in self.slices.keys().copied().collect::<Vec<_>>() {
            self.tidy_slice(number, now, 0, &is_over);
        }
        let heads = self.head.values().map(|once| once.ends).min();
        let slices = self.slices.values().filter_map(|slice| slice.ends).map(|(first, _)| first).min();
        heads.into_iter().chain(slices).min().unwrap_or(Timestamp(u64::MAX))
    }

    /// The same at less cost: the head, slices that are over as a whole, and one more slice, which is left as it is if most
    /// of its ids still count.
    pub(super) fn tidy(&mut self, now: Timestamp, is_over: impl Fn(&Once) -> bool) {
        self.tidy_head(&is_over);
        let is_gone = |slice: &Slice| !slice.until_settled && slice.ends.is_none_or(|(_, last)| last <= now);
        for (number, _) in self.slices.extract_if(.., |_, slice| is_gone(slice)) {
            self.dirty.remove(&number);
        }
        let next = self.slices.range(self.tidied.saturating_add(1)..).next().or_else(|| self.slices.iter().next());
        if let Some(number) = next.map(|(number, _)| *number) {
            self.tidied = number;
            let most = self.slices.get(&number).map_or(0, |slice| slice.count / 2);
            self.tidy_slice(number, now, most, &is_over);
        }
    }

    fn tidy_head(&mut self, is_over: &impl Fn(&Once) -> bool) {
        let before = self.head.len();
        self.head.retain(|_, once| !is_over(once));
        if self.head.len() < before {
            self.dirty.insert(self.head_number);
        }
    }

    /// Forgets what is over in a slice, if that is more than `least` of its ids.
    fn tidy_slice(&mut self, number: u32, now: Timestamp, least: usize, is_over: &impl Fn(&Once) -> bool) {
        let Some(slice) = self.slices.get(&number) else { return };
        if !slice.until_settled && slice.ends.is_some_and(|(first, _)| first > now) {
            return;
        }
        let Ok(mut entries) = slice.entries() else { return };
        entries.retain(|(_, once)| !is_over(once));
        if slice.count - entries.len() <= least {
            return;
        }
        if entries.len() < self.slice_ids / LEFT_OVER || entries.is_empty() {
            self.slices.remove(&number);
            self.dirty.remove(&number);
            for (fingerprint, once) in entries {
                self.head.entry(fingerprint).or_insert(once);
                self.dirty.insert(self.head_number);
            }
        } else {
            self.slices.insert(number, Slice::new(&entries));
            self.dirty.insert(number);
        }
    }

    /// Everything, for a checkpoint. What it has to write counts as written from here on; if it is not, see
    /// [`Index::not_written`].
    pub(super) fn snapshot(&mut self) -> Vec<Keep> {
        let written = std::mem::take(&mut self.dirty);
        let slices = self.slices.iter().map(|(number, slice)| match slice.held() {
            Some(pages) if written.contains(number) => Keep::Write(*number, pages.to_vec()),
            _ => Keep::AsItIs(*number),
        });
        let mut all: Vec<Keep> = slices.collect();
        if written.contains(&self.head_number) && !self.head.is_empty() {
            let entries: Vec<(u128, Once)> =
                self.head.iter().map(|(fingerprint, once)| (*fingerprint, *once)).collect();
            all.push(Keep::Write(self.head_number, encode_pages(&entries)));
        } else if !self.head.is_empty() {
            all.push(Keep::AsItIs(self.head_number));
        }
        all
    }

    /// These slices were not written after all.
    pub(super) fn not_written(&mut self, numbers: impl Iterator<Item = u32>) {
        self.dirty.extend(numbers);
    }

    /// A slice is durable there, unless it changed since.
    pub(super) fn written(&mut self, number: u32, place: (Arc<dyn File>, u64)) {
        if !self.dirty.contains(&number)
            && let Some(slice) = self.slices.get_mut(&number)
        {
            slice.stored(place);
        }
    }
}
