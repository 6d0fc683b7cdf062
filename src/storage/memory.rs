//! Ordinary memory that a region can lie over: what a simulated disk maps.
//!
//! The bytes are shared between a region, whose claims write them raw, and the simulated file, which reads and
//! writes them word by word as relaxed atomics; so both may touch them at once, as a real page cache is touched.
#![expect(unsafe_code, reason = "a region needs a pointer; every block names the fact it rests on")]

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Region;

/// A fixed number of bytes, a multiple of 8.
pub(crate) struct HeapMemory {
    words: Box<[AtomicU64]>,
}

impl HeapMemory {
    /// The bytes given, padded with zeros to a multiple of 8.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let word = |part: &[u8]| {
            let mut word = [0; 8];
            word.iter_mut().zip(part).for_each(|(to, byte)| *to = *byte);
            AtomicU64::new(u64::from_le_bytes(word))
        };
        let (whole, rest) = bytes.as_chunks();
        let whole = whole.iter().map(|bytes| AtomicU64::new(u64::from_le_bytes(*bytes)));
        HeapMemory { words: whole.chain((!rest.is_empty()).then(|| word(rest))).collect() }
    }

    /// A copy of all bytes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.words.len() * 8];
        self.read(0, &mut bytes);
        bytes
    }

    /// Copies bytes from `offset` on out of the memory.
    pub(crate) fn read(&self, offset: usize, buf: &mut [u8]) {
        let from = |at: usize| self.words.get(at / 8).map_or(0, |word| word.load(Ordering::Relaxed)).to_le_bytes();
        let whole = if offset.is_multiple_of(8) { buf.len() & !7 } else { 0 };
        let (words, rest) = buf.split_at_mut(whole);
        for (at, to) in (offset..).step_by(8).zip(words.as_chunks_mut().0) {
            *to = from(at);
        }
        for (at, to) in (offset + whole..).zip(rest) {
            *to = from(at).get(at % 8).copied().unwrap_or(0);
        }
    }

    /// True if the memory holds exactly `bytes` from `offset` on, a multiple of 8; what lies behind its end is zero.
    pub(crate) fn holds(&self, offset: usize, bytes: &[u8]) -> bool {
        let words = self.words.get(offset / 8..).unwrap_or_default().iter().map(|word| word.load(Ordering::Relaxed));
        let expected = bytes.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
        words.chain(std::iter::repeat(0)).zip(expected).all(|(word, expected)| word == expected)
    }

    /// Overwrites bytes from `offset` on, inside the memory.
    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) {
        let whole = if offset.is_multiple_of(8) { bytes.len() & !7 } else { 0 };
        let (words, rest) = bytes.split_at(whole);
        for (at, from) in (offset / 8..).zip(words.as_chunks().0) {
            if let Some(word) = self.words.get(at) {
                word.store(u64::from_le_bytes(*from), Ordering::Relaxed);
            }
        }
        for (at, byte) in (offset + whole..).zip(rest) {
            if let Some(word) = self.words.get(at / 8) {
                let shift = 8 * (at % 8);
                let old = word.load(Ordering::Relaxed);
                word.store(old & !(0xff << shift) | u64::from(*byte) << shift, Ordering::Relaxed);
            }
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
