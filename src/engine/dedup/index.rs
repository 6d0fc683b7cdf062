//! The index itself: a head that changes, slices that don't. It knows no tasks: who asks says which entries are over.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use crate::format::dedup::{Once, encode_pages};
use crate::storage::File;
use crate::types::Timestamp;

use super::slice::{BadPage, Slice};

/// Ids of a slice: a head of so many is frozen.
pub(super) const SLICE_IDS: usize = if cfg!(any(test, feature = "sim")) { 3 } else { 64 << 10 };
/// A slice of which fewer than one in so many ids are left becomes part of the next one, or of the head.
const LEFT_OVER: usize = 4;
/// Who looks for room makes some ahead, one in so many ids: a look takes long.
const ROOM_AHEAD: usize = 16;
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
    slices: BTreeMap<u32, Arc<Slice>>,
    /// Heads that were full, until a checkpoint makes slices of them: that takes longer than an enqueue should wait.
    full_heads: BTreeMap<u32, Arc<BTreeMap<u128, Once>>>,
    /// What was put into the head since a checkpoint began to copy it, or since it began, if that is less.
    since: Vec<(u128, Once)>,
    /// A checkpoint copies it.
    is_copied: bool,
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

/// What a checkpoint copied of the head before the instant that it is of.
#[derive(Default)]
pub(crate) struct PreparedIds {
    /// The number that the head had; 0 where there was none to copy.
    number: u32,
    entries: BTreeMap<u128, Once>,
}

/// The ids of one instant, as a checkpoint keeps them.
#[derive(Default)]
pub(crate) struct TakenIds {
    pub order: u64,
    /// Slices that the newest checkpoint has as they are.
    pub as_they_are: Vec<u32>,
    slices: Vec<(u32, Arc<Slice>)>,
    full_heads: Vec<(u32, Arc<BTreeMap<u128, Once>>)>,
    /// If it changed.
    head: Option<CopiedHead>,
}

/// What was copied of the head, and what came on top.
struct CopiedHead {
    number: u32,
    entries: BTreeMap<u128, Once>,
    since: Vec<(u128, Once)>,
}

impl TakenIds {
    /// What there is to write: slices, the heads among them, by their numbers.
    pub(crate) fn into_pages(self) -> impl Iterator<Item = (u32, Vec<u8>)> {
        let slices = self.slices.into_iter().filter_map(|(number, slice)| Some((number, slice.held()?.to_vec())));
        let full = self.full_heads.into_iter().map(|(number, head)| (number, encode_pages(&entries_of(&head))));
        let head = self.head.into_iter().map(|CopiedHead { number, mut entries, since }| {
            entries.extend(since);
            (number, encode_pages(&entries_of(&entries)))
        });
        slices.chain(full).chain(head)
    }
}

/// What is left of a slice of which some ids are over.
pub(super) enum Left {
    /// So few that they become part of others.
    Few(Vec<(u128, Once)>),
    Slice(Slice),
}

impl Index {
    pub(super) fn new(slice_ids: usize) -> Self {
        Index {
            head: BTreeMap::new(),
            head_number: 1,
            slices: BTreeMap::new(),
            full_heads: BTreeMap::new(),
            since: Vec::new(),
            is_copied: false,
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
            let slice = place.map_or_else(|| Slice::new(entries), |place| Slice::at(entries, place));
            self.slices.insert(number, Arc::new(slice));
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
        let full = self.full_heads.values().map(|head| head.len()).sum::<usize>();
        self.head.len() + full + self.slices.values().map(|slice| slice.count).sum::<usize>()
    }

    /// Bytes that it takes in memory, roughly.
    pub(crate) fn bytes(&self) -> usize {
        let heads = self.head.len() + self.full_heads.values().map(|head| head.len()).sum::<usize>();
        heads * HEAD_ENTRY_BYTES + self.slices.values().map(|slice| slice.bytes()).sum::<usize>()
    }

    /// What is known of an id. An error where a page can't be used: then nothing is.
    pub(super) fn find(&self, fingerprint: u128) -> Result<Option<Once>, BadPage> {
        let mut heads = std::iter::once(&self.head).chain(self.full_heads.values().rev().map(|head| &**head));
        if let Some(once) = heads.find_map(|head| head.get(&fingerprint)) {
            return Ok(Some(*once));
        }
        for slice in self.slices.values().rev() {
            if let Some(once) = slice.find(fingerprint)? {
                return Ok(Some(once));
            }
        }
        Ok(None)
    }

    /// Notes an id. True if that filled the head, which changes no more from here on.
    pub(super) fn insert(&mut self, fingerprint: u128, once: Once) -> bool {
        self.put_in_head(fingerprint, once);
        self.full = None;
        if self.head.len() < self.slice_ids {
            return false;
        }
        self.full_heads.insert(self.head_number, Arc::new(std::mem::take(&mut self.head)));
        self.head_number += 1;
        self.since.clear();
        true
    }

    fn put_in_head(&mut self, fingerprint: u128, once: Once) {
        self.head.insert(fingerprint, once);
        self.dirty.insert(self.head_number);
        if self.is_copied {
            self.since.push((fingerprint, once));
        }
    }

    /// Forgets entries that are over, oldest first, until clearly less than `most` are left. If there are more in the end, gives
    /// the earliest end among them. What can't be read stays.
    pub(super) fn forget(
        &mut self,
        most: usize,
        now: Timestamp,
        are_over: impl Fn(&[(u128, Once)]) -> Vec<bool>,
    ) -> Option<Timestamp> {
        while let Some((number, head)) = self.full_head() {
            self.put_slice(number, &head, Slice::new(&entries_of(&head)));
        }
        for number in self.slices.keys().copied().collect::<Vec<_>>() {
            if self.count() <= most - most / ROOM_AHEAD {
                return None;
            }
            if let Some(slice) = self.slices.get(&number).filter(|slice| slice.may_be_over(now)).map(Arc::clone)
                && let Some(left) = left_of(&slice, self.slice_ids, 0, &are_over)
            {
                self.tidied(number, &slice, left);
            }
        }
        let head = entries_of(&self.head);
        let over = head.iter().zip(are_over(&head)).filter(|(_, is_over)| *is_over).map(|(entry, _)| *entry);
        self.drop_from_head(&over.collect::<Vec<_>>());
        let heads = self.head.values().map(|once| once.ends).min();
        let slices = self.slices.values().filter_map(|slice| slice.ends).map(|(first, _)| first).min();
        let first = heads.into_iter().chain(slices).min().unwrap_or(Timestamp(u64::MAX));
        (self.count() > most).then_some(first)
    }

    /// The oldest head that was full and is no slice yet.
    pub(super) fn full_head(&self) -> Option<(u32, Arc<BTreeMap<u128, Once>>)> {
        self.full_heads.first_key_value().map(|(number, head)| (*number, Arc::clone(head)))
    }

    /// A slice takes the place of the head that it is made of.
    pub(super) fn put_slice(&mut self, number: u32, head: &Arc<BTreeMap<u128, Once>>, slice: Slice) {
        if self.full_heads.get(&number).is_some_and(|there| Arc::ptr_eq(there, head)) {
            self.full_heads.remove(&number);
            self.slices.insert(number, Arc::new(slice));
            // Its pages are held until a checkpoint wrote them from here.
            self.dirty.insert(number);
        }
    }

    /// Forgets slices that are over as a whole, and gives one in turn of which something may be.
    pub(super) fn next_to_tidy(&mut self, now: Timestamp) -> Option<(u32, Arc<Slice>)> {
        let is_gone = |slice: &Slice| !slice.until_settled && slice.ends.is_none_or(|(_, last)| last <= now);
        for (number, _) in self.slices.extract_if(.., |_, slice| is_gone(slice)) {
            self.dirty.remove(&number);
        }
        let next = self.slices.range(self.tidied.saturating_add(1)..).next().or_else(|| self.slices.iter().next());
        let (number, slice) = next.map(|(number, slice)| (*number, Arc::clone(slice)))?;
        self.tidied = number;
        slice.may_be_over(now).then_some((number, slice))
    }

    /// That is left of a slice, unless it is another one by now.
    pub(super) fn tidied(&mut self, number: u32, slice: &Arc<Slice>, left: Left) {
        if !self.slices.get(&number).is_some_and(|there| Arc::ptr_eq(there, slice)) {
            return;
        }
        match left {
            Left::Few(entries) => {
                self.slices.remove(&number);
                self.dirty.remove(&number);
                for (fingerprint, once) in entries {
                    let has = |head: &BTreeMap<u128, Once>| head.contains_key(&fingerprint);
                    if !has(&self.head) && !self.full_heads.values().any(|head| has(head)) {
                        self.put_in_head(fingerprint, once);
                    }
                }
            }
            Left::Slice(rest) => {
                self.slices.insert(number, Arc::new(rest));
                self.dirty.insert(number);
            }
        }
    }

    /// The next slice behind one.
    pub(super) fn slice_behind(&self, number: u32) -> Option<(u32, Arc<Slice>)> {
        let next = self.slices.range(number.saturating_add(1)..).next();
        next.map(|(number, slice)| (*number, Arc::clone(slice)))
    }

    /// What was left of a slice became part of the next one, unless either is another one by now.
    pub(super) fn merged(&mut self, few: (u32, &Arc<Slice>), next: (u32, &Arc<Slice>), both: Slice) {
        let is_there = |(number, slice): (u32, &Arc<Slice>)| {
            self.slices.get(&number).is_some_and(|there| Arc::ptr_eq(there, slice))
        };
        if is_there(few) && is_there(next) {
            self.slices.remove(&few.0);
            self.dirty.remove(&few.0);
            self.slices.insert(next.0, Arc::new(both));
            self.dirty.insert(next.0);
        }
    }

    /// Up to `most` entries of the head behind one; with `None` the first. From then on what is inserted is noted.
    pub(super) fn copy_of_head(&mut self, behind: Option<u128>, most: usize) -> (u32, Vec<(u128, Once)>) {
        if behind.is_none() {
            self.is_copied = true;
            self.since.clear();
        }
        let from = behind.map_or(Bound::Unbounded, Bound::Excluded);
        let some = self.head.range((from, Bound::Unbounded)).take(most).map(|(id, once)| (*id, *once));
        (self.head_number, some.collect())
    }

    /// Forgets entries of the head, unless they are other ones by now.
    pub(super) fn drop_from_head(&mut self, over: &[(u128, Once)]) {
        for (fingerprint, once) in over {
            if self.head.get(fingerprint) == Some(once) {
                self.head.remove(fingerprint);
                self.dirty.insert(self.head_number);
            }
        }
    }

    /// Everything, for a checkpoint. What it has to write counts as written from here on; if it is not, see
    /// [`Index::not_written`].
    pub(crate) fn take(&mut self, prepared: PreparedIds) -> TakenIds {
        let written = std::mem::take(&mut self.dirty);
        let mut taken = TakenIds { order: self.order, ..TakenIds::default() };
        for (number, slice) in &self.slices {
            if slice.held().is_some() && written.contains(number) {
                taken.slices.push((*number, Arc::clone(slice)));
            } else {
                taken.as_they_are.push(*number);
            }
        }
        taken.full_heads.extend(self.full_heads.iter().map(|(number, head)| (*number, Arc::clone(head))));
        let since = std::mem::take(&mut self.since);
        let was_copied = std::mem::take(&mut self.is_copied);
        if !self.head.is_empty() && !written.contains(&self.head_number) {
            taken.as_they_are.push(self.head_number);
        } else if !self.head.is_empty() {
            let is_it = prepared.number == self.head_number;
            let entries = if is_it { prepared.entries } else { BTreeMap::new() };
            debug_assert!(was_copied, "a head that nobody began to copy is not known");
            taken.head = Some(CopiedHead { number: self.head_number, entries, since });
        }
        taken
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
            Arc::make_mut(slice).stored(place);
        }
    }
}

impl PreparedIds {
    /// Adds what was copied of the head with that number. False if it is another one by now.
    pub(super) fn add(&mut self, number: u32, some: impl Iterator<Item = (u128, Once)>) -> bool {
        if self.number == 0 {
            self.number = number;
        }
        self.entries.extend(some);
        self.number == number
    }
}

/// What is left of a slice, if more than `least` of its ids are over; `are_over` says which.
pub(super) fn left_of(
    slice: &Slice,
    slice_ids: usize,
    least: usize,
    are_over: impl FnOnce(&[(u128, Once)]) -> Vec<bool>,
) -> Option<Left> {
    let mut entries = slice.entries().ok()?;
    let mut over = are_over(&entries).into_iter();
    entries.retain(|_| !over.next().unwrap_or(false));
    if slice.count - entries.len() <= least {
        return None;
    }
    let are_few = entries.len() < slice_ids / LEFT_OVER || entries.is_empty();
    Some(if are_few { Left::Few(entries) } else { Left::Slice(Slice::new(&entries)) })
}

/// What was left of a slice with what is in the next one, if that is not too much, or unreadable.
pub(super) fn merge(few: &[(u128, Once)], next: &Slice, slice_ids: usize) -> Option<Slice> {
    if few.len() + next.count > 2 * slice_ids {
        return None;
    }
    let mut both: BTreeMap<u128, Once> = few.iter().copied().collect();
    both.extend(next.entries().ok()?);
    Some(Slice::new(&entries_of(&both)))
}

fn entries_of(head: &BTreeMap<u128, Once>) -> Vec<(u128, Once)> {
    head.iter().map(|(fingerprint, once)| (*fingerprint, *once)).collect()
}
