//! Extents of several logs that are claimed and filled before the first of them is published.

use crate::format::record::{HEADER_BYTES, Kind, Record};
use crate::storage::MapFailed;
use crate::types::{Seq, Timestamp};

use super::append::{Draft, Log, NotAppended};
use super::extent::Extent;
use super::segment::Place;

/// Room for one record, or for several as a batch, that is claimed and not published. Dropped before it is, it becomes
/// padding.
pub(crate) struct Held<'a> {
    extent: Extent<'a>,
    /// The sealed header of what fills it: all but its first word is in place.
    filled: Option<[u8; HEADER_BYTES]>,
    records: u32,
}

impl Log {
    /// Claims room for `records` records, as many of them tasks as `kind` says, in an extent of `bytes`.
    pub(crate) fn hold(&self, bytes: u32, records: u32, kind: Kind) -> Result<Held<'_>, NotAppended> {
        let tasks = if kind == Kind::Task { records } else { 0 };
        let extent = self.claim(bytes, records, tasks, kind)?;
        Ok(Held { extent, filled: None, records })
    }

    /// Whether the active life has room for an extent of `bytes`; if not, what to roll from.
    pub(crate) fn has_room(&self, bytes: u32) -> Result<(), NotAppended> {
        let claiming = self.claiming.lock();
        let fits = claiming.active.as_ref().is_some_and(|active| {
            let end = active.frontier.end().checked_add(bytes as usize);
            end.is_some_and(|end| end <= active.segment.limit() as usize)
        });
        if fits { Ok(()) } else { Err(NotAppended::NeedsRoll { bytes, seen_base: claiming.last_base }) }
    }
}

impl Held<'_> {
    /// Where it lies in its log.
    pub(crate) fn place(&self) -> Place {
        Place { base: self.extent.life.base, offset: self.extent.offset() }
    }

    /// Sequence of its first record.
    pub(crate) fn first(&self) -> Seq {
        self.extent.seq()
    }

    pub(crate) fn records(&self) -> u32 {
        self.records
    }

    /// Log position behind it.
    pub(crate) fn end(&self) -> u64 {
        self.extent.end
    }

    /// Number of the segment's file.
    pub(crate) fn file(&self) -> u32 {
        self.extent.file
    }

    /// Copies what it was claimed for; lengths and count are those of the claim. One record stands by itself, several
    /// are a batch.
    pub(crate) fn fill(&mut self, drafts: &[Draft<'_>], time: Timestamp) {
        self.filled = match drafts {
            [Draft { kind, flags, fields, payload }] => {
                let (index, kind, flags) = (self.extent.index, *kind, *flags);
                self.extent.fill(&Record { index, kind, flags, time, fields, payload })
            }
            drafts => self.extent.fill_records(drafts, self.extent.index, self.records, time),
        };
    }

    /// Publishes what was filled; what was not becomes padding. Errors: `MapFailed` as for a claim.
    pub(crate) fn publish(mut self) -> Result<(), MapFailed> {
        match self.filled {
            Some(header) => self.extent.publish(&header),
            None => Ok(()),
        }
    }
}
