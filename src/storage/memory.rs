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
        HeapMemory { words: bytes.chunks(8).map(word).collect() }
    }

    /// A copy of all bytes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.words.len() * 8);
        for word in &self.words {
            bytes.extend_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
        }
        bytes
    }

    /// Fills `buf` from `offset` on, as far as the memory reaches.
    pub(crate) fn read(&self, offset: usize, buf: &mut [u8]) {
        let words = self.words.iter().skip(offset / 8).flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes());
        buf.iter_mut().zip(words.skip(offset % 8)).for_each(|(to, byte)| *to = byte);
    }

    /// Overwrites bytes from `offset` on, inside the memory.
    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) {
        for (at, byte) in (offset..).zip(bytes) {
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
