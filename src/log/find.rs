//! Finding one record by its sequence: for whoever asks for a task by its id, or met it in another place than it has now.

use std::io;

use crate::format::record::{self, Found, HEADER_BYTES, Header, Kind};
use crate::format::segment::PRELUDE_BYTES;
use crate::storage::Region;
use crate::types::Seq;

use super::append::{Log, offset_of};
use super::cursor::Source;
use super::scan;
use super::segment::Segment;

impl Log {
    /// The task of that sequence, if it is published and its header verifies.
    ///
    /// Errors: the segment can't be read.
    pub(crate) fn find(&self, seq: Seq) -> io::Result<Option<(Source, Header)>> {
        let Some(segment) = self.segment_of(seq) else { return Ok(None) };
        let Some(index) = segment.index(seq) else { return Ok(None) };
        let region = segment.region()?;
        let found = segment.find(&region, index)?;
        Ok(found.map(|header| (Source { segment, region }, header)))
    }
}

impl Segment {
    /// The task of that index, if it is published and its header verifies; all of its record can be read then. Found by the
    /// seek table and a walk over at most a stride of records.
    pub(crate) fn find(&self, region: &Region, index: u32) -> io::Result<Option<Header>> {
        let (life, readable) = (self.life(), offset_of(region.advance()));
        let mut at = self.seek(index).map_or(offset_of(PRELUDE_BYTES), |(_, offset)| offset);
        // The kernel is asked once for a window of records, not for each.
        let mut checked = at;
        while at < readable {
            let header_end = at.saturating_add(offset_of(HEADER_BYTES)).min(readable);
            if header_end > checked {
                checked = self.check_readable(region, at, header_end)?;
            }
            match record::read(life, at, region.slice(at as usize..readable as usize).unwrap_or_default()) {
                Found::Record(header) if header.kind == Kind::Task && header.index == index => {
                    self.read_again(region, at)?;
                    return Ok(Some(header));
                }
                Found::Record(header) if header.kind == Kind::Task && header.index > index => return Ok(None),
                Found::Record(header) => at += header.step(),
                Found::Padding { bytes } | Found::Hole { bytes } => at += bytes,
                Found::Empty | Found::Invalid => {
                    self.check_readable(region, at, readable)?;
                    let rest = region.slice(at as usize..readable as usize).unwrap_or_default();
                    let Some(header) = scan::resync(life, at, rest) else { return Ok(None) };
                    at = header.offset;
                }
            }
        }
        Ok(None)
    }
}

/// Optional fields and payload of a record that was found, if its body verifies.
pub(crate) fn body_of(source: &Source, header: &Header) -> Option<(Vec<u8>, Vec<u8>)> {
    let start = header.offset as usize;
    let extent = source.region.slice(start..start + header.bytes as usize)?;
    let body = record::verify(source.segment.life(), header, extent)?;
    Some((body.fields.to_vec(), body.payload.to_vec()))
}
