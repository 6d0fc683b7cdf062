//! All records of a sealed life, in order: for whoever moves them or counts what they take.

use std::io;

use crate::format::record::{self, Found, HEADER_BYTES, Header, Kind};
use crate::format::segment::PRELUDE_BYTES;
use crate::storage::Region;

use super::append::offset_of;
use super::scan;
use super::segment::{Segment, map_failed};

/// What a walk comes by.
pub(crate) enum Met<'a> {
    /// A task whose header verifies, and its extent, which may be read.
    Task(&'a Header, &'a [u8]),
    /// Records of these indices (first, last) may have been among bytes that don't verify.
    Lost(u32, u32),
}

impl Segment {
    /// Shows every task of a sealed life until `visit` says that it is enough.
    ///
    /// Errors: the segment can't be read. What was shown of it then may be no record of it.
    pub(crate) fn each_task(&self, region: &Region, mut visit: impl FnMut(Met<'_>) -> bool) -> io::Result<()> {
        let Some(sealed) = self.sealed() else { return Ok(()) };
        if region.advance() < sealed.end as usize {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (life, end) = (self.life(), sealed.end);
        let (mut at, mut index, mut skipped) = (offset_of(PRELUDE_BYTES), 0, false);
        let mut checked = at;
        let mut check = |from: u32, to: u32| {
            if to > checked {
                checked = self.check_readable(region, from, to)?;
            }
            Ok::<_, io::Error>(())
        };
        while at < end {
            check(at, at.saturating_add(offset_of(HEADER_BYTES)).min(end))?;
            let rest = region.slice(at as usize..end as usize).unwrap_or_default();
            match record::read(life, at, rest) {
                Found::Record(header) if header.step() > end - at => break,
                Found::Record(header) => {
                    if header.kind == Kind::Task {
                        check(at, at + header.bytes)?;
                        let lost = (skipped && header.index > index).then(|| Met::Lost(index, header.index - 1));
                        let extent = rest.get(..header.bytes as usize).unwrap_or_default();
                        if !lost.is_none_or(&mut visit) || !visit(Met::Task(&header, extent)) {
                            return Ok(());
                        }
                        (index, skipped) = (header.index.saturating_add(1), false);
                    }
                    at += header.step();
                }
                Found::Padding { bytes } | Found::Hole { bytes } => at = at.saturating_add(bytes),
                Found::Empty | Found::Invalid => {
                    check(at, end)?;
                    skipped = true;
                    at = scan::resync(life, at, rest).map_or(end, |header| header.offset);
                }
            }
        }
        if region.has_failed() {
            return Err(map_failed());
        }
        if (skipped || at < end) && sealed.records > index {
            visit(Met::Lost(index, sealed.records - 1));
        }
        Ok(())
    }
}
