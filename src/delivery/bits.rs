//! A bit for each of a lane's records that is special to a group, life by life.

use std::collections::BTreeMap;

use crate::types::Seq;

use super::acks::SegmentAcks;

/// Bits by base of the life, then by record index. A life without any is not here.
#[derive(Default)]
pub(super) struct Bits(BTreeMap<u64, SegmentAcks>);

impl Bits {
    /// Sets a bit; true if it was not set.
    pub(super) fn set(&mut self, base: u64, index: u32) -> bool {
        self.0.entry(base).or_default().set(index)
    }

    /// Clears a bit; true if it was set.
    pub(super) fn clear(&mut self, base: u64, index: u32) -> bool {
        let Some(bits) = self.0.get_mut(&base).filter(|bits| bits.contains(index)) else { return false };
        bits.forget(index, index);
        if bits.count() == 0 {
            self.0.remove(&base);
        }
        true
    }

    pub(super) fn contains(&self, base: u64, index: u32) -> bool {
        self.0.get(&base).is_some_and(|bits| bits.contains(index))
    }

    /// The first one at or behind (base, index).
    pub(super) fn next(&self, base: u64, index: u32) -> Option<(u64, u32)> {
        self.0.range(base..).find_map(|(own, bits)| {
            let from = if *own == base { index } else { 0 };
            Some((*own, bits.next_set(from)?))
        })
    }

    /// The lives that begin before `seq` and have any.
    pub(super) fn lives_before(&self, seq: Seq) -> Vec<u64> {
        self.0.range(..seq.0).map(|(base, _)| *base).collect()
    }

    /// Bytes that it takes.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let node = 2 * size_of::<(u64, SegmentAcks)>();
        self.0.values().map(|bits| bits.bytes() + node).sum()
    }
}
