//! How long things take that others may wait for: the locks of groups and of dedup ids under a checkpoint, and commits.

use std::time::Duration;

use crate::sync::atomic::{AtomicU64, Ordering};

use super::Engine;

/// Bounds of the histogram's buckets, in microseconds; the last bucket has none.
const BOUNDS_US: [u64; 11] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 10_000];

/// How often something was done, by how long it took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Times {
    /// The longest.
    pub longest: Duration,
    /// Each bucket's bound and how many were longer than the bound before and no longer than this; then the count of those
    /// that were longer than all, with [`Duration::MAX`]. Empty for a queue that is only looked at.
    pub counts: Vec<(Duration, u64)>,
}

/// The counts of an open queue.
#[derive(Default)]
pub(super) struct TimeCounts {
    longest_ns: AtomicU64,
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
}

/// Something is being done that is measured, until this is dropped.
pub(super) struct Timed<'a> {
    counts: &'a TimeCounts,
    nanos: fn() -> u64,
    since_ns: u64,
}

impl Engine {
    /// The engine with a clock of nanoseconds for what it measures of itself; without, everything takes no time.
    pub(crate) fn watched(mut self, nanos: fn() -> u64) -> Self {
        self.nanos = nanos;
        self
    }

    /// Measures from here on how long a lock is held by a checkpoint; dropped before the lock is given up.
    pub(super) fn hold(&self) -> Timed<'_> {
        self.timed(&self.counts.holds)
    }

    /// Measures from here on.
    pub(super) fn timed<'a>(&self, counts: &'a TimeCounts) -> Timed<'a> {
        Timed { counts, nanos: self.nanos, since_ns: (self.nanos)() }
    }
}

impl TimeCounts {
    pub(super) fn times(&self) -> Times {
        let bounds = BOUNDS_US.map(Duration::from_micros).into_iter().chain([Duration::MAX]);
        let counts = bounds.zip(&self.buckets).map(|(bound, count)| (bound, count.load(Ordering::Relaxed)));
        Times { longest: Duration::from_nanos(self.longest_ns.load(Ordering::Relaxed)), counts: counts.collect() }
    }

    fn note(&self, took_ns: u64) {
        self.longest_ns.fetch_max(took_ns, Ordering::Relaxed);
        let bucket = BOUNDS_US.iter().position(|bound| took_ns <= bound * 1000).unwrap_or(BOUNDS_US.len());
        if let Some(count) = self.buckets.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        self.counts.note((self.nanos)().saturating_sub(self.since_ns));
    }
}
