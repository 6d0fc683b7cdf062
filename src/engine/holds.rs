//! How long checkpoints hold what producers and consumers may wait for: the locks of groups and of dedup ids.

use std::time::Duration;

use crate::sync::atomic::{AtomicU64, Ordering};

use super::Engine;

/// Bounds of the histogram's buckets, in microseconds; the last bucket has none.
const BOUNDS_US: [u64; 11] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 10_000];

/// How often a checkpoint held a lock, by how long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holds {
    /// The longest.
    pub longest: Duration,
    /// Each bucket's bound and how many were longer than the bound before and no longer than this; then the count of those
    /// that were longer than all, with [`Duration::MAX`]. Empty for a queue that is only looked at.
    pub counts: Vec<(Duration, u64)>,
}

/// The counts of an open queue.
#[derive(Default)]
pub(super) struct HoldCounts {
    longest_ns: AtomicU64,
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
}

/// A lock is held; dropped before the lock is given up.
pub(super) struct Hold<'a> {
    engine: &'a Engine,
    since_ns: u64,
}

impl Engine {
    /// The engine with a clock of nanoseconds for what it measures of itself; without, everything takes no time.
    pub(crate) fn watched(mut self, nanos: fn() -> u64) -> Self {
        self.nanos = nanos;
        self
    }

    /// Measures from here on.
    pub(super) fn hold(&self) -> Hold<'_> {
        Hold { engine: self, since_ns: (self.nanos)() }
    }

    pub(super) fn checkpoint_holds(&self) -> Holds {
        let HoldCounts { longest_ns, buckets } = &self.counts.holds;
        let bounds = BOUNDS_US.map(Duration::from_micros).into_iter().chain([Duration::MAX]);
        let counts = bounds.zip(buckets).map(|(bound, count)| (bound, count.load(Ordering::Relaxed)));
        Holds { longest: Duration::from_nanos(longest_ns.load(Ordering::Relaxed)), counts: counts.collect() }
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let took_ns = (self.engine.nanos)().saturating_sub(self.since_ns);
        let holds = &self.engine.counts.holds;
        holds.longest_ns.fetch_max(took_ns, Ordering::Relaxed);
        let bucket = BOUNDS_US.iter().position(|bound| took_ns <= bound * 1000).unwrap_or(BOUNDS_US.len());
        if let Some(count) = holds.buckets.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}
