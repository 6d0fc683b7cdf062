//! A bit for every record index of one life: what of it a group acked, or handed out, or passed over.
//!
//! Where bits change they lie in an array. A long array that has not changed for a while, and in which the same bit comes many
//! times in a row, is packed: runs take a few bytes each then, so that a life of which all but a few tasks are acked takes
//! next to nothing. The next change unpacks it.

use std::borrow::Cow;

use roaring::RoaringBitmap;

/// Bits per chunk: what a checkpoint copies and writes together, 3,968 bytes.
pub(crate) const CHUNK_BITS: u32 = 31_744;
pub(super) const CHUNK_WORDS: usize = CHUNK_BITS as usize / 64;
/// Shorter arrays are not packed, and those that would not shrink to one in so many bytes. Tests pack everything.
const PACKED_WORDS_MIN: usize = if cfg!(any(test, feature = "sim")) { 1 } else { 512 };
const PACKED_GAIN_MIN: usize = if cfg!(any(test, feature = "sim")) { 0 } else { 4 };

/// What checkpoints take and load in chunks.
pub(crate) trait Chunked {
    /// Chunks that changed since the last call.
    fn take_dirty(&mut self) -> Vec<u32>;

    /// Notes a change of a chunk, also to put back what a failed checkpoint took.
    fn mark_dirty(&mut self, chunk: u32);

    /// A chunk as little-endian words, without the zeros at its end.
    fn chunk_bytes(&self, chunk: u32) -> Vec<u8>;

    /// Takes a chunk as a checkpoint has it. Bytes beyond the chunk are ignored, and so is a chunk that no index
    /// lies in: its number comes from disk and must not decide how much memory is asked for.
    fn load_chunk(&mut self, chunk: u32, bytes: &[u8]);

    /// Packs the bits if they have not changed since a checkpoint took them, and if that pays. True if all of them were
    /// looked at to find out, which is once between two changes.
    fn rest(&mut self) -> bool;
}

/// A bitmap that grows to the highest index that was set, and remembers which chunks changed.
#[derive(Default, Clone, Debug)]
pub(crate) struct RecordBits {
    /// Empty while it is packed.
    words: Vec<u64>,
    packed: Option<Box<RoaringBitmap>>,
    count: u32,
    dirty: Vec<bool>,
    /// Packing was tried in vain since the last change.
    irregular: bool,
}

impl RecordBits {
    #[cfg(test)]
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Sets a bit; true if it was not set.
    pub(crate) fn set(&mut self, index: u32) -> bool {
        if self.packed.as_ref().is_some_and(|packed| packed.contains(index)) {
            return false;
        }
        self.unpack();
        let word = index as usize / 64;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let bit = 1 << (index % 64);
        let Some(slot) = self.words.get_mut(word) else { return false };
        if *slot & bit != 0 {
            return false;
        }
        *slot |= bit;
        self.count += 1;
        self.irregular = false;
        self.mark_dirty(index / CHUNK_BITS);
        true
    }

    /// Sets the bits from `first` to `last`.
    pub(crate) fn set_run(&mut self, first: u32, last: u32) {
        self.unpack();
        self.irregular = false;
        let words = last as usize / 64 + 1;
        if words > self.words.len() {
            self.words.resize(words, 0);
        }
        self.count += fill(&mut self.words, first, last);
        (first / CHUNK_BITS..=last / CHUNK_BITS).for_each(|chunk| self.mark_dirty(chunk));
    }

    /// Clears the bits from `first` to `last`: there is nothing that could be acked.
    pub(crate) fn forget(&mut self, first: u32, last: u32) {
        if self.next_set(first).is_none_or(|index| index > last) {
            return;
        }
        self.unpack();
        self.irregular = false;
        let end = index_of(self.words.len());
        for index in (first..=last).take_while(|index| *index < end) {
            let bit = 1_u64 << (index % 64);
            if let Some(word) = self.words.get_mut(index as usize / 64).filter(|word| **word & bit != 0) {
                *word &= !bit;
                self.count -= 1;
                self.mark_dirty(index / CHUNK_BITS);
            }
        }
    }

    #[inline]
    pub(crate) fn contains(&self, index: u32) -> bool {
        if let Some(packed) = &self.packed {
            return packed.contains(index);
        }
        self.words.get(index as usize / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    /// The bits, 64 in a word; behind the last word none is set.
    pub(crate) fn words(&self) -> Cow<'_, [u64]> {
        self.packed.as_ref().map_or(Cow::Borrowed(&self.words), |packed| Cow::Owned(words_of(packed)))
    }

    /// Bytes that the bitmap takes.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.words.len() * 8 + self.packed.as_ref().map_or(0, |packed| packed.serialized_size())
    }

    /// How many bits are set.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// The first index at or behind `from` that is not set.
    pub(crate) fn next_unacked(&self, from: u32) -> u32 {
        if let Some(packed) = &self.packed {
            return next_gap(packed, from);
        }
        let mut at = from as usize / 64;
        // Bits below `from` count as set.
        let mut below = (1_u64 << (from % 64)) - 1;
        while let Some(word) = self.words.get(at) {
            let clear = !(word | below);
            if clear != 0 {
                return index_of(at) + clear.trailing_zeros();
            }
            below = 0;
            at += 1;
        }
        index_of(at).max(from)
    }

    /// The first index at or behind `from` that is set.
    pub(crate) fn next_set(&self, from: u32) -> Option<u32> {
        if let Some(packed) = &self.packed {
            return packed.range(from..).next();
        }
        let mut at = from as usize / 64;
        let mut mask = u64::MAX << (from % 64);
        while let Some(word) = self.words.get(at) {
            let set = word & mask;
            if set != 0 {
                return Some(index_of(at) + set.trailing_zeros());
            }
            mask = u64::MAX;
            at += 1;
        }
        None
    }

    /// The bits at or behind `first`, in a bitmap of which no checkpoint knows.
    pub(crate) fn copy_from(&self, first: u32) -> RecordBits {
        let mut copy = RecordBits::default();
        for index in self.set_from(first) {
            copy.set(index);
        }
        copy
    }

    /// Every index at or behind `first` that is set.
    pub(crate) fn set_from(&self, first: u32) -> impl Iterator<Item = u32> {
        std::iter::successors(self.next_set(first), |index| self.next_set(index.checked_add(1)?))
    }

    /// What its runs would take, four bytes each: a bit that differs from the one below it begins or ends one.
    fn run_bytes(&self) -> usize {
        let mut below = 0;
        let edges = self.words.iter().map(|word| {
            let differs = word ^ (word << 1 | below);
            below = word >> 63;
            differs.count_ones() as usize
        });
        edges.sum::<usize>() * 2
    }

    fn unpack(&mut self) {
        if let Some(packed) = self.packed.take() {
            self.words = words_of(&packed);
        }
    }
}

impl Chunked for RecordBits {
    fn take_dirty(&mut self) -> Vec<u32> {
        let dirty = (0..).zip(&self.dirty).filter(|(_, dirty)| **dirty).map(|(chunk, _)| chunk).collect();
        self.dirty.clear();
        dirty
    }

    fn mark_dirty(&mut self, chunk: u32) {
        let chunk = chunk as usize;
        if chunk >= self.dirty.len() {
            self.dirty.resize(chunk + 1, false);
        }
        if let Some(dirty) = self.dirty.get_mut(chunk) {
            *dirty = true;
        }
    }

    fn chunk_bytes(&self, chunk: u32) -> Vec<u8> {
        let words = self.words();
        let rest = words.get(chunk as usize * CHUNK_WORDS..).unwrap_or_default();
        without_zeros(bytes_of(rest.get(..CHUNK_WORDS).unwrap_or(rest)))
    }

    fn load_chunk(&mut self, chunk: u32, bytes: &[u8]) {
        if chunk > u32::MAX / CHUNK_BITS {
            return;
        }
        self.unpack();
        let from = chunk as usize * CHUNK_WORDS;
        for (at, part) in bytes.chunks(8).take(CHUNK_WORDS).enumerate() {
            let word = part.try_into().map_or_else(|_| cut_word(part), u64::from_le_bytes);
            if word == 0 {
                continue;
            }
            if from + at >= self.words.len() {
                self.words.resize(from + at + 1, 0);
            }
            if let Some(slot) = self.words.get_mut(from + at) {
                self.count += (word & !*slot).count_ones();
                *slot |= word;
            }
        }
    }

    fn rest(&mut self) -> bool {
        let rests = self.dirty.is_empty() && !self.irregular && self.words.len() >= PACKED_WORDS_MIN;
        if !rests {
            return false;
        }
        self.irregular = self.run_bytes() * PACKED_GAIN_MIN > self.words.len() * 8;
        if self.irregular {
            return true;
        }
        let mut packed = RoaringBitmap::from_lsb0_bytes(0, &bytes_of(&self.words));
        packed.optimize();
        (self.words, self.packed) = (Vec::new(), Some(Box::new(packed)));
        true
    }
}

/// Sets the bits from `first` to `last`, for which there are words. Gives how many were not set.
pub(super) fn fill(words: &mut [u64], first: u32, last: u32) -> u32 {
    let at = first as usize / 64..=last as usize / 64;
    let mut more = 0;
    for (at, word) in at.clone().zip(words.get_mut(at).unwrap_or_default()) {
        let start = index_of(at);
        let low = u64::MAX << (first.max(start) % 64);
        let high = u64::MAX >> (63 - last.min(start + 63) % 64);
        more += (low & high & !*word).count_ones();
        *word |= low & high;
    }
    more
}

fn words_of(packed: &RoaringBitmap) -> Vec<u64> {
    let mut words = vec![0; packed.max().map_or(0, |last| last as usize / 64 + 1)];
    let mut runs = packed.iter();
    while let Some(run) = runs.next_range() {
        fill(&mut words, *run.start(), *run.end());
    }
    words
}

pub(super) fn bytes_of(words: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(words.len() * 8);
    words.iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
    bytes
}

pub(super) fn without_zeros(mut bytes: Vec<u8>) -> Vec<u8> {
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(used);
    bytes
}

/// The first index at or behind `from` that is not in the bitmap.
fn next_gap(packed: &RoaringBitmap, from: u32) -> u32 {
    let (mut at, mut rest) = (from, packed.range(from..));
    while let Some(run) = rest.next_range().filter(|run| *run.start() == at) {
        match run.end().checked_add(1) {
            Some(next) => at = next,
            None => return u32::MAX,
        }
    }
    at
}

/// A word of which the zeros at its end are not there.
fn cut_word(part: &[u8]) -> u64 {
    part.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// The index of a word's first bit. Indices fit 32 bits: a life's block does.
fn index_of(word: usize) -> u32 {
    u32::try_from(word * 64).unwrap_or(u32::MAX)
}
