//! Which units of the file are free: runs in order, first fit.

use std::collections::BTreeMap;

use super::BlobRef;
use crate::format::checkpoint::UNIT_BYTES;

/// Runs of free units, by first unit; neighbours are joined.
#[derive(Clone, Default, Debug)]
pub(crate) struct FreeUnits {
    runs: BTreeMap<u32, u32>,
}

/// Units that a blob of `bytes` bytes takes; an empty one takes one.
pub(crate) fn units_for(bytes: u32) -> u32 {
    u32::try_from(u64::from(bytes).div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).max(1)
}

impl FreeUnits {
    /// Units `0..count` minus what the blobs take; blobs that overlap or reach beyond are the caller's to refuse.
    pub(crate) fn without<'a>(count: u32, taken: impl Iterator<Item = &'a BlobRef>) -> Self {
        let mut taken: Vec<(u32, u32)> =
            taken.map(|blob| (blob.unit, blob.unit.saturating_add(blob.units()))).collect();
        taken.sort_unstable();
        let mut free = FreeUnits::default();
        let mut at = 0;
        for (from, to) in taken {
            if from > at {
                free.runs.insert(at, from - at);
            }
            at = at.max(to);
        }
        if count > at {
            free.runs.insert(at, count - at);
        }
        free
    }

    /// Takes `count` units in a row.
    pub(crate) fn take(&mut self, count: u32) -> Option<u32> {
        let (start, length) = self.runs.iter().find(|(_, length)| **length >= count).map(|(s, l)| (*s, *l))?;
        self.runs.remove(&start);
        if length > count {
            self.runs.insert(start + count, length - count);
        }
        Some(start)
    }

    /// Gives units back.
    pub(crate) fn give(&mut self, start: u32, count: u32) {
        let (mut start, mut count) = (start, count);
        if let Some((before, length)) = self.runs.range(..start).next_back().map(|(s, l)| (*s, *l))
            && before + length == start
        {
            self.runs.remove(&before);
            (start, count) = (before, length + count);
        }
        if let Some(length) = self.runs.remove(&(start + count)) {
            count += length;
        }
        self.runs.insert(start, count);
    }

    pub(crate) fn total(&self) -> u64 {
        self.runs.values().map(|length| u64::from(*length)).sum()
    }
}
