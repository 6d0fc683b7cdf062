//! Segments made ready before they are needed, shared by all logs.

use std::sync::Arc;

use crate::storage::{File, Region};

/// A file that is allocated, mapped and resident, and belongs to no log yet.
pub(crate) struct Ready {
    /// File number.
    pub number: u32,
    /// Length of the file.
    pub bytes: u64,
    pub file: Arc<dyn File>,
    /// Nobody else holds it: a life can begin.
    pub region: Region,
}

/// Ready segments by size. Pure state; the janitor fills it.
#[derive(Default)]
pub(crate) struct Pool {
    ready: Vec<Ready>,
}

impl Pool {
    pub(crate) fn put(&mut self, ready: Ready) {
        self.ready.push(ready);
    }

    /// The best segment for a log that wants `wanted` bytes and needs room for `needed`: one of the wanted
    /// size, else the next larger, else the largest smaller one that still fits.
    pub(crate) fn take(&mut self, wanted: u64, needed: u64) -> Option<Ready> {
        let fitting = || self.ready.iter().enumerate().filter(|(_, ready)| ready.bytes >= needed);
        let larger = fitting().filter(|(_, ready)| ready.bytes >= wanted).min_by_key(|(_, ready)| ready.bytes);
        let smaller = || fitting().max_by_key(|(_, ready)| ready.bytes);
        let at = larger.or_else(smaller).map(|(at, _)| at)?;
        Some(self.ready.remove(at))
    }

    /// Size of the smallest.
    pub(crate) fn smallest(&self) -> Option<u64> {
        self.ready.iter().map(|ready| ready.bytes).min()
    }

    /// The smallest one, if there are more than `kept`.
    pub(crate) fn take_smallest_beyond(&mut self, kept: usize) -> Option<Ready> {
        let (at, _) = self.ready.iter().enumerate().min_by_key(|(_, ready)| ready.bytes)?;
        (self.ready.len() > kept).then(|| self.ready.remove(at))
    }

    /// How many segments of exactly `bytes` are ready.
    pub(crate) fn count(&self, bytes: u64) -> usize {
        self.ready.iter().filter(|ready| ready.bytes == bytes).count()
    }

    /// True if a segment of `bytes` or more is ready.
    pub(crate) fn has_at_least(&self, bytes: u64) -> bool {
        self.ready.iter().any(|ready| ready.bytes >= bytes)
    }

    /// How many segments are ready.
    pub(crate) fn len(&self) -> usize {
        self.ready.len()
    }

    /// Bytes of all ready segments.
    pub(crate) fn bytes(&self) -> u64 {
        self.ready.iter().map(|ready| ready.bytes).sum()
    }
}
