//! How many attempts began of the tasks of one life, in unary: a bitmap of those of which one began, one of those of which two
//! did, and so on. What a process had on loan when it died is handed out again, all of it, so a second attempt must not cost
//! more than a first: a bit.
//!
//! Few tasks are handed out often, and those that are may lie far apart: every bitmap but the first is packed at all times.

use std::collections::BTreeSet;

use roaring::RoaringBitmap;

use crate::format::meta::BEGUN_SHIFT;

use super::record_bits::{CHUNK_BITS, CHUNK_WORDS, Chunked, RecordBits, bytes_of, fill, without_zeros};

/// Attempts that bits tell; of a task with more there is a note. Tests come that far.
pub(super) const TOLD_BY_BITS: u32 = if cfg!(any(test, feature = "sim")) { 3 } else { 8 };
/// What a checkpoint may hold, of whatever build.
const PLANES_MAX: usize = 16;

/// Bitmaps by record index: the `n`-th (from 0) has a bit for a task of which more than `n` attempts began.
#[derive(Default)]
pub(crate) struct Attempts {
    first: RecordBits,
    further: Vec<Plane>,
}

/// Tasks of which a further attempt began, and the chunks that changed.
#[derive(Default)]
struct Plane {
    bits: RoaringBitmap,
    dirty: BTreeSet<u32>,
}

impl Attempts {
    /// How many began.
    #[inline]
    pub(crate) fn of(&self, index: u32) -> u32 {
        if !self.first.contains(index) {
            return 0;
        }
        let further = self.further.iter().take_while(|plane| plane.bits.contains(index));
        1 + further.fold(0, |count, _| count + 1)
    }

    /// Attempt number `attempt` of the tasks from `first` to `last` begins; those before it did.
    pub(super) fn begin(&mut self, attempt: u32, first: u32, last: u32) {
        match attempt.checked_sub(2) {
            None => self.first.set_run(first, last),
            Some(plane) => self.with_plane(plane as usize, |plane| plane.insert(first, last)),
        }
    }

    /// So many attempts of a task began.
    pub(crate) fn set(&mut self, index: u32, attempts: u32) {
        if attempts == 0 {
            self.first.forget(index, index);
        } else {
            self.first.set(index);
            (0..attempts as usize - 1).for_each(|plane| self.with_plane(plane, |plane| plane.insert(index, index)));
        }
        for plane in self.further.iter_mut().skip(attempts.saturating_sub(1) as usize) {
            plane.remove(index, index);
        }
    }

    /// Nothing is known of the tasks from `first` to `last`.
    pub(crate) fn forget(&mut self, first: u32, last: u32) {
        self.first.forget(first, last);
        self.further.iter_mut().for_each(|plane| plane.remove(first, last));
    }

    /// Every task of which an attempt began.
    pub(crate) fn begun(&self) -> impl Iterator<Item = u32> {
        self.first.set_from(0)
    }

    fn with_plane(&mut self, plane: usize, change: impl FnMut(&mut Plane)) {
        if plane >= self.further.len() {
            self.further.resize_with(plane + 1, Plane::default);
        }
        self.further.get_mut(plane).into_iter().for_each(change);
    }
}

impl Chunked for Attempts {
    fn take_dirty(&mut self) -> Vec<u32> {
        let mut dirty = self.first.take_dirty();
        for (plane, further) in (1..).zip(&mut self.further) {
            dirty.extend(std::mem::take(&mut further.dirty).into_iter().map(|chunk| plane << BEGUN_SHIFT | chunk));
        }
        dirty
    }

    fn mark_dirty(&mut self, chunk: u32) {
        match place_of(chunk) {
            (0, chunk) => self.first.mark_dirty(chunk),
            (plane, chunk) => self.with_plane(plane - 1, |plane| plane.dirty.extend([chunk])),
        }
    }

    fn chunk_bytes(&self, chunk: u32) -> Vec<u8> {
        match place_of(chunk) {
            (0, chunk) => self.first.chunk_bytes(chunk),
            (plane, chunk) => self.further.get(plane - 1).map(|plane| plane.chunk_bytes(chunk)).unwrap_or_default(),
        }
    }

    fn load_chunk(&mut self, chunk: u32, bytes: &[u8]) {
        match place_of(chunk) {
            (0, chunk) => self.first.load_chunk(chunk, bytes),
            (plane, chunk) if plane < PLANES_MAX && chunk < u32::MAX / CHUNK_BITS => {
                let bytes = bytes.get(..CHUNK_WORDS * 8).unwrap_or(bytes);
                let bits = RoaringBitmap::from_lsb0_bytes(chunk * CHUNK_BITS, bytes);
                self.with_plane(plane - 1, |plane| plane.bits |= &bits);
            }
            _ => {}
        }
    }

    fn rest(&mut self) -> bool {
        self.first.rest()
    }
}

impl Plane {
    fn insert(&mut self, first: u32, last: u32) {
        let more =
            if first == last { u64::from(self.bits.insert(first)) } else { self.bits.insert_range(first..=last) };
        if more > 0 {
            self.dirty.extend(first / CHUNK_BITS..=last / CHUNK_BITS);
        }
    }

    fn remove(&mut self, first: u32, last: u32) {
        let changed: BTreeSet<u32> = if first == last {
            self.bits.contains(first).then_some(first / CHUNK_BITS).into_iter().collect()
        } else {
            self.bits.range(first..=last).map(|index| index / CHUNK_BITS).collect()
        };
        if !changed.is_empty() {
            self.bits.remove_range(first..=last);
            self.dirty.extend(changed);
        }
    }

    fn chunk_bytes(&self, chunk: u32) -> Vec<u8> {
        let start = chunk.saturating_mul(CHUNK_BITS);
        let mut words = vec![0; CHUNK_WORDS];
        let mut runs = self.bits.range(start..=start.saturating_add(CHUNK_BITS - 1));
        while let Some(run) = runs.next_range() {
            fill(&mut words, run.start() - start, run.end() - start);
        }
        without_zeros(bytes_of(&words))
    }
}

/// Which bitmap a chunk is of, and its number there.
fn place_of(chunk: u32) -> (usize, u32) {
    ((chunk >> BEGUN_SHIFT) as usize, chunk & ((1 << BEGUN_SHIFT) - 1))
}
