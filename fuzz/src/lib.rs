//! The fuzzers' measure of memory: no number that stands in a file may decide how much is asked for.
//!
//! Every allocation of a run is counted, the engine's and the door's own. A run that has more in use at once than its
//! input deserves ends as a crash.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a target may have in use at once.
pub struct Bound {
    /// For each byte of the input.
    pub per_byte: usize,
    /// Beside that, in bytes: what a run takes anyway.
    pub beside: usize,
}

/// Lets the door take the input, and fails if it took too much memory for it.
pub fn within(bound: &Bound, input: &[u8], door: fn(&[u8])) {
    let before = IN_USE.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    door(input);
    let most = MOST.load(Ordering::Relaxed).saturating_sub(before);
    let allowed = bound.beside + bound.per_byte * input.len();
    assert!(most <= allowed, "{most} bytes in use for an input of {}, {allowed} allowed", input.len());
}

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

fn took(bytes: usize) {
    let now = IN_USE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    MOST.fetch_max(now, Ordering::Relaxed);
}

// SAFETY: every call goes to the system's allocator as it came; only numbers are kept beside it. Not overridden,
// `realloc` and `alloc_zeroed` come down to these two.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`, which is the system's too.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: `place` came from `alloc` above, so from the system, with this layout.
        unsafe { System.dealloc(place, layout) }
    }
}
