//! The bytes behind a region, by the two ways in which they are touched: shared words as atomics, everything else raw.
//!
//! A model checker sees only its own atomics and cells. Under one, each word has a shadow of either kind, and the raw
//! bytes follow: so the region's own code is what is explored, and a raw access that no order protects is a finding.

#![expect(unsafe_code, reason = "mapped memory is this room's business; every block names the fact it rests on")]

use std::ops::Range;
use std::ptr::NonNull;

use crate::sync::atomic::Ordering;

/// A range of mapped memory. Whoever holds it keeps the region's contract.
pub(super) struct Words {
    start: NonNull<u8>,
    bytes: usize,
    #[cfg(all(test, loom))]
    shadow: shadow::Shadow,
}

impl Words {
    /// # Safety
    /// As for `Region::new`: readable, writable and 8-aligned for as long as the value lives.
    pub(super) unsafe fn new(start: NonNull<u8>, bytes: usize) -> Self {
        assert_eq!(start.as_ptr() as usize % 8, 0, "a region is 8-aligned");
        Words {
            start,
            bytes,
            #[cfg(all(test, loom))]
            shadow: shadow::Shadow::new(bytes),
        }
    }

    #[inline]
    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }

    #[inline]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The shared word at `at`.
    #[inline]
    #[cfg(not(all(test, loom)))]
    fn word(&self, at: usize) -> &std::sync::atomic::AtomicU64 {
        assert!(at.is_multiple_of(8) && at + 8 <= self.bytes, "a word lies inside the region");
        // SAFETY: in bounds and 8-aligned (asserted; the base is aligned by `new`). Words at extent starts are
        // written as atomics only: by `store`.
        unsafe { std::sync::atomic::AtomicU64::from_ptr(self.start.as_ptr().add(at).cast()) }
    }

    #[inline]
    pub(super) fn load(&self, at: usize, order: Ordering) -> u64 {
        self.word(at).load(order)
    }

    #[inline]
    pub(super) fn store(&self, at: usize, value: u64, order: Ordering) {
        self.word(at).store(value, order);
        #[cfg(all(test, loom))]
        // SAFETY: in bounds and aligned (asserted by `word`); a model runs one thread at a time.
        unsafe {
            self.start.as_ptr().add(at).cast::<u64>().write(value);
        }
    }

    /// Copies `bytes` to `at`.
    ///
    /// # Safety
    /// The range is inside, and the caller alone may touch it.
    #[inline]
    pub(super) unsafe fn fill(&self, at: usize, bytes: &[u8]) {
        #[cfg(all(test, loom))]
        self.shadow.write(at..at + bytes.len());
        // SAFETY: inside and exclusive, as the caller promises.
        unsafe { self.start.as_ptr().add(at).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }

    /// The bytes of a range.
    ///
    /// # Safety
    /// The range is inside, and nobody writes it any more.
    #[inline]
    pub(super) unsafe fn slice(&self, range: Range<usize>) -> &[u8] {
        #[cfg(all(test, loom))]
        self.shadow.read(range.clone());
        // SAFETY: inside, initialised and final, as the caller promises.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(range.start), range.len()) }
    }
}

#[cfg(all(test, loom))]
#[expect(clippy::indexing_slicing, reason = "a model fails where it leaves its memory")]
mod shadow {
    use std::ops::Range;

    use loom::cell::UnsafeCell;
    use loom::sync::atomic::AtomicU64;

    /// What the checker sees in place of the memory.
    pub(super) struct Shadow {
        words: Vec<AtomicU64>,
        cells: Vec<UnsafeCell<()>>,
    }

    impl Shadow {
        /// Over memory that nobody used yet.
        pub(super) fn new(bytes: usize) -> Self {
            let words = (0..bytes / 8).map(|_| AtomicU64::new(0)).collect();
            Shadow { words, cells: (0..bytes / 8).map(|_| UnsafeCell::new(())).collect() }
        }

        pub(super) fn word(&self, at: usize) -> &AtomicU64 {
            assert!(at.is_multiple_of(8), "a word is aligned");
            &self.words[at / 8]
        }

        pub(super) fn read(&self, range: Range<usize>) {
            self.cells_of(range).for_each(|cell| cell.with(|_| ()));
        }

        pub(super) fn write(&self, range: Range<usize>) {
            self.cells_of(range).for_each(|cell| cell.with_mut(|_| ()));
        }

        fn cells_of(&self, range: Range<usize>) -> impl Iterator<Item = &UnsafeCell<()>> {
            self.cells[range.start / 8..range.end.div_ceil(8)].iter()
        }
    }

    impl super::Words {
        pub(super) fn word(&self, at: usize) -> &AtomicU64 {
            self.shadow.word(at)
        }
    }
}
