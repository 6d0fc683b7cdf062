//! A bit for each of a lane's records that is special to a group, life by life.

use std::collections::BTreeMap;

use crate::types::Seq;

use super::record_bits::RecordBits;

/// Bits by base of the life, then by record index. A life without any is not here.
#[derive(Default)]
pub(super) struct Bits(BTreeMap<u64, RecordBits>);

impl Bits {
    /// Sets a bit; true if it was not set.
    pub(super) fn set(&mut self, base: u64, index: u32) -> bool {
        self.0.entry(base).or_default().set(index)
    }

    /// Clears a bit; true if it was set.
    pub(super) fn clear(&mut self, base: u64, index: u32) -> bool {
        self.take_out(base, index, index) > 0
    }

    /// Clears the bits of a life from `first` to `last`. Gives how many were set.
    pub(super) fn take_out(&mut self, base: u64, first: u32, last: u32) -> u32 {
        let Some(bits) = self.0.get_mut(&base) else { return 0 };
        let before = bits.count();
        bits.forget(first, last);
        let left = bits.count();
        if left == 0 {
            self.0.remove(&base);
        }
        before - left
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

    /// The lives that begin before `seq` and have any, each with the last index that is before it.
    pub(super) fn lives_before(&self, seq: Seq) -> Vec<(u64, u32)> {
        let last = |base: u64| u32::try_from(seq.0 - 1 - base).unwrap_or(u32::MAX);
        self.0.range(..seq.0).map(|(base, _)| (*base, last(*base))).collect()
    }

    /// Bytes that it takes.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let node = 2 * size_of::<(u64, RecordBits)>();
        self.0.values().map(|bits| bits.bytes() + node).sum()
    }
}
