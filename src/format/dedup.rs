//! Dedup ids in the checkpoint: a fingerprint for each, in pages that can be read one by one.
//!
//! # A page: 512 bytes
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | CRC-32 of the 508 bytes behind it |
//! | 4 | 4 | n: entries, 1 to 15 |
//! | 8 | 33 each | fingerprint (16, its high half first), sequence (8), end (8), lane (1) |
//! | behind that | | zero |
//!
//! The CRC stands first, for the CRC of bytes with their own CRC behind them is the same for all: a checkpoint would take
//! a slice that changed for one that it has.
//!
//! Valid if and only if the CRC is and n is in its bounds. Fingerprints increase within a page and from page to page of
//! a slice; every page of a slice but the last one has 15.
//!
//! The *end* is the wall time in milliseconds from which on the id is free again; all ones: once the task is settled.
//!
//! A fingerprint is SipHash-2-4 with 128 bits of the id, under a key that is made from the queue's id: so it is the same
//! in every open, and whoever knows the ids of one queue knows nothing of another's. Two of n ids have the same one with
//! a probability of n² / 2^129: for a million ids 1 in 10^27.

use std::hash::Hasher as _;

use siphasher::sip128::{Hasher128 as _, SipHasher24};

use crate::types::{LaneId, QueueId, Seq, Timestamp};

use super::fields::halves;
use super::segment::SEQUENCES_END;
use super::wire::{Reader, Writer};

/// The longest dedup id, in bytes.
pub(crate) const ID_BYTES_MAX: usize = 255;
/// An end that no clock reaches: the task's own end is the id's.
pub(crate) const UNTIL_SETTLED: Timestamp = Timestamp(u64::MAX);
pub(crate) const PAGE_BYTES: usize = 512;
/// Entries of a full page.
pub(crate) const PAGE_ENTRIES: usize = 15;

const ENTRY_BYTES: usize = 33;
const CHECK_BYTES: usize = 4;

/// The task that was accepted with an id, and until when it counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Once {
    pub lane: LaneId,
    pub seq: Seq,
    pub ends: Timestamp,
}

/// An id's fingerprint.
pub(crate) fn fingerprint(queue: QueueId, id: &[u8]) -> u128 {
    let mut hasher = SipHasher24::new_with_keys(queue.0, u64::from_le_bytes(*b"dedup id"));
    hasher.write(id);
    let hash = hasher.finish128();
    u128::from(hash.h2) << 64 | u128::from(hash.h1)
}

/// Pages of entries, whose fingerprints increase.
pub(crate) fn encode_pages(entries: &[(u128, Once)]) -> Vec<u8> {
    let mut pages = Vec::with_capacity(entries.len().div_ceil(PAGE_ENTRIES) * PAGE_BYTES);
    for chunk in entries.chunks(PAGE_ENTRIES) {
        let mut page = Writer::default();
        page.u32(u32::try_from(chunk.len()).unwrap_or(u32::MAX));
        for (fingerprint, once) in chunk {
            let (high, low) = halves(*fingerprint);
            page.u64(high).u64(low).u64(once.seq.0).u64(once.ends.0).u8(once.lane.0);
        }
        let mut page = page.into_bytes();
        page.resize(PAGE_BYTES - CHECK_BYTES, 0);
        pages.extend_from_slice(&crc32fast::hash(&page).to_le_bytes());
        pages.append(&mut page);
    }
    pages
}

/// The entries of one page.
pub(crate) fn decode_page(page: &[u8]) -> Option<Vec<(u128, Once)>> {
    let (check, checked) = page.split_first_chunk::<CHECK_BYTES>()?;
    if page.len() != PAGE_BYTES || crc32fast::hash(checked) != u32::from_le_bytes(*check) {
        return None;
    }
    let mut from = Reader::new(checked);
    let count = usize::try_from(from.u32()?).ok().filter(|count| (1..=PAGE_ENTRIES).contains(count))?;
    (0..count).map(|_| take_entry(&mut from)).collect()
}

fn take_entry(from: &mut Reader<'_>) -> Option<(u128, Once)> {
    let fingerprint = u128::from(from.u64()?) << 64 | u128::from(from.u64()?);
    let (seq, ends) = (Seq(from.u64()?), Timestamp(from.u64()?));
    Some((fingerprint, Once { lane: LaneId(from.u8()?), seq, ends }))
}

/// All entries of a slice; `None` if a page is not valid, or one before the last is not full, or their order is not right.
pub(crate) fn decode_pages(pages: &[u8]) -> Option<Vec<(u128, Once)>> {
    let mut entries = Vec::with_capacity(pages.len() / PAGE_BYTES * PAGE_ENTRIES);
    for page in pages.chunks(PAGE_BYTES) {
        if entries.len() % PAGE_ENTRIES > 0 {
            return None;
        }
        entries.extend(decode_page(page)?);
    }
    entries.is_sorted_by(|(a, _), (b, _)| a < b).then_some(entries)
}

/// The order of the next enqueue with an id.
pub(crate) fn encode_order(order: u64) -> Vec<u8> {
    order.to_le_bytes().to_vec()
}

/// The order that [`encode_order`] wrote.
pub(crate) fn decode_order(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_le_bytes).filter(|order| *order < SEQUENCES_END)
}

const _: () = assert!(CHECK_BYTES + 4 + PAGE_ENTRIES * ENTRY_BYTES <= PAGE_BYTES, "a full page has room for its check");
