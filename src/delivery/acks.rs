//! The acks of one life for one group: a bit for every record index.

/// Bits per chunk: what a checkpoint copies and writes together, 3,968 bytes.
pub(crate) const CHUNK_BITS: u32 = 31_744;
const CHUNK_WORDS: usize = CHUNK_BITS as usize / 64;

/// A bitmap that grows to the highest index that was set, and remembers which chunks changed.
#[derive(Default, Clone, Debug)]
pub(crate) struct SegmentAcks {
    words: Vec<u64>,
    count: u32,
    dirty: Vec<bool>,
}

impl SegmentAcks {
    #[cfg(test)]
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Sets a bit; true if it was not set.
    pub(crate) fn set(&mut self, index: u32) -> bool {
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
        self.mark_dirty(index / CHUNK_BITS);
        true
    }

    /// Clears the bits from `first` to `last`: there is nothing that could be acked.
    pub(crate) fn forget(&mut self, first: u32, last: u32) {
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
        self.words.get(index as usize / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    /// The 64 bits from `first` on, a multiple of 64.
    pub(crate) fn word(&self, first: u64) -> u64 {
        usize::try_from(first / 64).ok().and_then(|word| self.words.get(word)).copied().unwrap_or(0)
    }

    /// Bytes that the bitmap takes.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.words.len() * 8
    }

    /// How many bits are set.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// The first index at or behind `from` that is not set.
    pub(crate) fn next_unacked(&self, from: u32) -> u32 {
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
    pub(crate) fn copy_from(&self, first: u32) -> SegmentAcks {
        let mut copy = SegmentAcks::default();
        let mut next = self.next_set(first);
        while let Some(index) = next {
            copy.set(index);
            next = index.checked_add(1).and_then(|after| self.next_set(after));
        }
        copy
    }

    /// Chunks that changed since the last call.
    pub(crate) fn take_dirty(&mut self) -> Vec<u32> {
        let dirty = (0..).zip(&self.dirty).filter(|(_, dirty)| **dirty).map(|(chunk, _)| chunk).collect();
        self.dirty.clear();
        dirty
    }

    /// Notes a change of a chunk, also to put back what a failed checkpoint took.
    pub(crate) fn mark_dirty(&mut self, chunk: u32) {
        let chunk = chunk as usize;
        if chunk >= self.dirty.len() {
            self.dirty.resize(chunk + 1, false);
        }
        if let Some(dirty) = self.dirty.get_mut(chunk) {
            *dirty = true;
        }
    }

    /// A chunk as little-endian words, without the zeros at its end.
    pub(crate) fn chunk_bytes(&self, chunk: u32) -> Vec<u8> {
        let from = chunk as usize * CHUNK_WORDS;
        let words = self.words.iter().skip(from).take(CHUNK_WORDS);
        let mut bytes: Vec<u8> = words.flat_map(|word| word.to_le_bytes()).collect();
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        bytes.truncate(used);
        bytes
    }

    /// Takes a chunk as a checkpoint has it. Bytes beyond the chunk are ignored, and so is a chunk that no index
    /// lies in: its number comes from disk and must not decide how much memory is asked for.
    pub(crate) fn load_chunk(&mut self, chunk: u32, bytes: &[u8]) {
        if chunk > u32::MAX / CHUNK_BITS {
            return;
        }
        let from = chunk as usize * CHUNK_WORDS;
        for (at, part) in bytes.chunks(8).take(CHUNK_WORDS).enumerate() {
            let mut word = [0; 8];
            word.iter_mut().zip(part).for_each(|(to, byte)| *to = *byte);
            let word = u64::from_le_bytes(word);
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
}

/// The index of a word's first bit. Indices fit 32 bits: a life's block does.
fn index_of(word: usize) -> u32 {
    u32::try_from(word * 64).unwrap_or(u32::MAX)
}
