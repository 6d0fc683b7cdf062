//! Ordinary memory that a region can lie over: what a simulated disk maps.
//!
//! The bytes are shared between a region, whose claims write them raw, and the simulated file, which reads and
//! writes them word by word as relaxed atomics; so both may touch them at once, as a real page cache is touched.
#![expect(unsafe_code, reason = "a region needs a pointer; every block names the fact it rests on")]

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Region;

/// Words that are read in one go.
const BLOCK_WORDS: usize = 16;

/// A fixed number of bytes, a multiple of 8.
pub(crate) struct HeapMemory {
    words: Box<[AtomicU64]>,
}

impl HeapMemory {
    /// The bytes given, padded with zeros to a multiple of 8.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let (whole, rest) = bytes.as_chunks::<8>();
        let mut last = [0; 8];
        last.iter_mut().zip(rest).for_each(|(to, byte)| *to = *byte);
        let last = (!rest.is_empty()).then_some(&last);
        let word = |word: &[u8; 8]| AtomicU64::new(u64::from_le_bytes(*word));
        HeapMemory { words: whole.iter().chain(last).map(word).collect() }
    }

    /// A copy of all bytes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.words.len() * 8];
        self.read(0, &mut bytes);
        bytes
    }

    /// Fills `buf` from `offset` on, as far as the memory reaches. Whole blocks at once: fuzzers read much of it, and
    /// pay for each turn of a loop.
    pub(crate) fn read(&self, offset: usize, buf: &mut [u8]) {
        let mut at = offset;
        let mut left = buf;
        while let (Some(words), false) = (self.words.get(at / 8..).filter(|words| !words.is_empty()), left.is_empty()) {
            let taken = match (words.first_chunk::<BLOCK_WORDS>(), left.first_chunk_mut::<{ 8 * BLOCK_WORDS }>()) {
                (Some(block), Some(to)) if at.is_multiple_of(8) => {
                    let bytes = block.each_ref().map(|word| word.load(Ordering::Relaxed).to_le_bytes());
                    to.copy_from_slice(bytes.as_flattened());
                    to.len()
                }
                _ => {
                    let word = words.first().map_or([0; 8], |word| word.load(Ordering::Relaxed).to_le_bytes());
                    let bytes = word.iter().skip(at % 8);
                    left.iter_mut().zip(bytes).map(|(to, byte)| *to = *byte).count()
                }
            };
            at += taken;
            left = left.split_at_mut(taken).1;
        }
    }

    /// Overwrites bytes from `offset` on, inside the memory.
    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) {
        let mut at = offset;
        let mut left = bytes;
        while let (Some(word), false) = (self.words.get(at / 8), left.is_empty()) {
            let (now, later) = left.split_at(left.len().min(8 - at % 8));
            let mut held = word.load(Ordering::Relaxed).to_le_bytes();
            held.iter_mut().skip(at % 8).zip(now).for_each(|(to, byte)| *to = *byte);
            word.store(u64::from_le_bytes(held), Ordering::Relaxed);
            (at, left) = (at + now.len(), later);
        }
    }

    /// A region over the memory.
    pub(crate) fn region(self: &Arc<Self>) -> Region {
        let bytes = self.words.len() * 8;
        let start = NonNull::from(&*self.words).cast::<u8>();
        // SAFETY: the words are 8-aligned, interior-mutable and live in the box that the Arc below keeps. The
        // length never changes. A file writes below a region's mark only in recovery, before it maps the file.
        unsafe { Region::new(start, bytes, Arc::default(), Box::new(Arc::clone(self))) }
    }
}
