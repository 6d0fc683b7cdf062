//! The tail of a life that is not known durable: mapped, and faulted in piece by piece, as far as anything was written.

use std::io;

use crate::format::record::{self, HEADER_BYTES};
use crate::format::segment::{PRELUDE_BYTES, record_limit};
use crate::storage::{File, Region};

use super::lives::Candidate;

/// Maps a life and faults in what has to be looked at: from where it is not known durable, extent by extent, to where
/// the row of extents ends; and on behind that, for marks may show that it ended by damage, up to a run of zeros that is
/// longer than any task, behind which nothing was ever written. Mapped rather than read: a large file costs what it
/// holds, and no memory of its own.
pub(super) fn map_tail(candidate: &Candidate, task_bytes_max: u64) -> io::Result<Region> {
    let limit = u64::from(record_limit(candidate.header.size)).min(candidate.file_bytes);
    let limit = usize::try_from(limit).unwrap_or(0);
    let region = candidate.file.map()?.trust(limit);
    let listed = candidate.listed.as_ref().map_or(0, |listed| listed.offset as usize);
    let from = listed.max(PRELUDE_BYTES).min(limit);
    let mut tail = Tail { region: &region, file: &*candidate.file, at: from, ready: from, limit };
    while tail.at < limit {
        let bytes = tail.ahead(HEADER_BYTES)?;
        let offset = u32::try_from(tail.at).unwrap_or(u32::MAX);
        match record::read(candidate.header.life(), offset, bytes).extent_bytes() {
            0 => break,
            extent => tail.at = tail.at.saturating_add(extent as usize).min(limit),
        }
    }
    let mut zeros = 0;
    while tail.at < limit && zeros <= usize::try_from(task_bytes_max).unwrap_or(usize::MAX) {
        let window = tail.ahead(ZEROS_BYTES)?;
        let window = window.get(..ZEROS_BYTES).unwrap_or(window);
        zeros = if window.iter().all(|byte| *byte == 0) { zeros + window.len() } else { 0 };
        tail.at += window.len().max(1);
    }
    let end = tail.at;
    tail.ahead(0)?;
    Ok(region.trust(end))
}

/// How far a life was faulted in.
struct Tail<'a> {
    region: &'a Region,
    file: &'a dyn File,
    at: usize,
    /// Everything from the start up to here is in memory.
    ready: usize,
    limit: usize,
}

impl<'a> Tail<'a> {
    /// The bytes from `at` on that are in memory, at least `bytes` of them unless the life ends before.
    fn ahead(&mut self, bytes: usize) -> io::Result<&'a [u8]> {
        let wanted = self.at.saturating_add(bytes).min(self.limit);
        while self.ready < wanted {
            let next = self.ready.max(wanted - 1).saturating_add(WINDOW_BYTES).min(self.limit);
            self.region.check_readable(self.file, self.ready..next)?;
            self.ready = next;
        }
        Ok(self.region.slice(self.at..self.ready.max(self.at)).unwrap_or_default())
    }
}

/// How much of a life is faulted in at a time, beyond what is asked for.
const WINDOW_BYTES: usize = 256 << 10;
/// How much is compared with zeros at a time.
const ZEROS_BYTES: usize = 64 << 10;
