//! A page of a run: what a group noted of tasks whose time is far, sorted by time, in the scratch file.
//!
//! | offset | bytes | field |
//! |---:|---:|---|
//! | 0 | 4 | CRC32 over the run's number (8), the page's number in it (4) and the bytes 4 to the end of the entries |
//! | 4 | 4 | count of entries, at least 1 |
//! | 8 | 28 each | entries: key (8), fire (8), sequence (8), offset (4) |
//!
//! Valid if and only if the check matches, for the run and the page that are asked for, and the count is one that fits the
//! page. No recovery ever reads one: a page is of use only to the process that wrote it, and the numbers of runs, which
//! are never used twice in an open, tell it from what lay there before.

use crate::types::Seq;

use super::wire::{Reader, Writer};

/// What is noted of one task.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct FarEntry {
    /// When it is due on the clock that runs are sorted by, in milliseconds.
    pub key: u64,
    /// When it is due at the latest, on the boot clock.
    pub fire_ms: u64,
    pub seq: Seq,
    /// Where its record begins.
    pub offset: u32,
}

/// Bytes before the entries.
const HEAD_BYTES: usize = 8;
/// Bytes of an entry.
const ENTRY_BYTES: usize = 28;

/// Bytes of a page of so many entries.
pub(crate) const fn page_bytes(entries: usize) -> usize {
    HEAD_BYTES + ENTRY_BYTES * entries
}

/// Appends a page that has room for `room` entries.
pub(crate) fn put_page(out: Vec<u8>, run: u64, page: u32, room: usize, entries: &[FarEntry]) -> Vec<u8> {
    let from = out.len();
    let mut writer = Writer::over(out);
    let entries = entries.get(..room).unwrap_or(entries);
    writer.u32(0).u32(u32::try_from(entries.len()).unwrap_or(u32::MAX));
    for entry in entries {
        writer.u64(entry.key).u64(entry.fire_ms).u64(entry.seq.0).u32(entry.offset);
    }
    let mut out = writer.into_bytes();
    let check = check(run, page, out.get(from + 4..).unwrap_or_default());
    if let Some(slot) = out.get_mut(from..from + 4) {
        slot.copy_from_slice(&check.to_le_bytes());
    }
    out.resize(from + page_bytes(room), 0);
    out
}

/// The entries of a page, in their order; `None` if it is not valid.
pub(crate) fn read_page(bytes: &[u8], run: u64, page: u32) -> Option<Vec<FarEntry>> {
    let mut from = Reader::new(bytes);
    let (stored, count) = (from.u32()?, from.u32()? as usize);
    let end = count.checked_mul(ENTRY_BYTES)?.checked_add(HEAD_BYTES)?;
    if count == 0 || stored != check(run, page, bytes.get(4..end)?) {
        return None;
    }
    let entry = |from: &mut Reader<'_>| {
        Some(FarEntry { key: from.u64()?, fire_ms: from.u64()?, seq: Seq(from.u64()?), offset: from.u32()? })
    };
    (0..count).map(|_| entry(&mut from)).collect()
}

fn check(run: u64, page: u32, bytes: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&run.to_le_bytes());
    crc.update(&page.to_le_bytes());
    crc.update(bytes);
    crc.finalize()
}
