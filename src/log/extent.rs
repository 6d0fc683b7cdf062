//! One claimed extent: filled, and published whatever happens in between.

use std::sync::Arc;

use crate::format::record::{self, HEADER_BYTES, Life, Record};
use crate::format::segment::SEEK_STRIDE;
use crate::storage::{Claim, MapFailed};
use crate::types::{Seq, Timestamp};

use super::append::{Draft, Log, offset_of};
use super::segment::Segment;

/// A claimed extent that is published whatever happens: dropped unfilled, it becomes padding.
pub(super) struct Extent<'a> {
    pub log: &'a Log,
    pub claim: Option<Claim>,
    pub life: Life,
    /// Number of the segment's file.
    pub file: u32,
    /// Index of the (first) record.
    pub index: u32,
    /// Log position behind the extent.
    pub end: u64,
    pub void_tasks: u32,
}

impl Extent<'_> {
    #[inline]
    pub(super) fn seq(&self) -> Seq {
        Seq(self.life.base + u64::from(self.index))
    }

    #[inline]
    pub(super) fn offset(&self) -> u32 {
        self.claim.as_ref().map_or(0, |claim| offset_of(claim.start()))
    }

    /// The segment, if the seek table wants to know of this record.
    fn crosses_stride(&self, index: u32) -> Option<Arc<Segment>> {
        (index > self.index && index.is_multiple_of(SEEK_STRIDE)).then(|| self.log.segment_of(self.seq())).flatten()
    }

    /// Errors: `MapFailed` as for [`Claim::publish`].
    #[inline]
    pub(super) fn fill_one(mut self, record: &Record<'_>) -> Result<(), MapFailed> {
        match self.fill(record) {
            Some(header) => self.publish(&header),
            None => Ok(()),
        }
    }

    /// Copies a record, all but its first word, and gives its header.
    #[inline]
    pub(super) fn fill(&mut self, record: &Record<'_>) -> Option<[u8; HEADER_BYTES]> {
        // Lengths were checked when the extent was sized; a record that can't be sealed can't get here.
        let header = record::seal(self.life, self.offset(), record)?;
        // The claim stays in its guard until the copy is done: a panic in between must not leave a hole.
        if let Some(claim) = &mut self.claim {
            copy(claim, 0, &header, record.fields, record.payload);
        }
        Some(header)
    }

    #[inline]
    pub(super) fn publish(&mut self, header: &[u8; HEADER_BYTES]) -> Result<(), MapFailed> {
        self.claim.take().map_or(Ok(()), |claim| claim.publish(record::word_of(header)))
    }

    /// Errors: `MapFailed` as for [`Claim::publish`].
    pub(super) fn fill_batch(
        mut self,
        drafts: &[Draft<'_>],
        first: u32,
        count: u32,
        time: Timestamp,
    ) -> Result<(), MapFailed> {
        match self.fill_records(drafts, first, count, time) {
            Some(header) => self.publish(&header),
            None => Ok(()),
        }
    }

    /// Copies records and the header of their batch, all but its first word, and gives that header.
    pub(super) fn fill_records(
        &mut self,
        drafts: &[Draft<'_>],
        first: u32,
        count: u32,
        time: Timestamp,
    ) -> Option<[u8; HEADER_BYTES]> {
        let offset = self.offset();
        let mut at = offset_of(HEADER_BYTES);
        for (index, draft) in (first..).zip(drafts) {
            let record = Record {
                index,
                kind: draft.kind,
                flags: draft.flags | record::INNER,
                time,
                fields: draft.fields,
                payload: draft.payload,
            };
            let header = record::seal(self.life, offset + at, &record)?;
            if let Some(segment) = self.crosses_stride(index) {
                segment.note_record(index, offset + at);
            }
            if let Some(claim) = &mut self.claim {
                claim.write(at as usize, header.get(..8).unwrap_or_default());
                copy(claim, at as usize, &header, draft.fields, draft.payload);
            }
            at += record::word_of(&header).bytes();
        }
        let header = record::seal_batch(self.life, offset, at, first, count, time);
        if let Some(claim) = &mut self.claim {
            copy(claim, 0, &header, &[], &[]);
        }
        Some(header)
    }
}

impl Drop for Extent<'_> {
    fn drop(&mut self) {
        if let Some(mut claim) = self.claim.take() {
            if let Some(segment) = self.log.segment_of(self.seq()) {
                segment.count_void(self.void_tasks);
            }
            let offset = offset_of(claim.start());
            let bytes = claim.bytes();
            // Records of a batch that were filled already must not be found should the padding be damaged one day.
            let (mut at, zeros) = (8, [0; 512]);
            while at < bytes {
                let take = zeros.len().min(bytes - at);
                claim.write(at, zeros.get(..take).unwrap_or_default());
                at += take;
            }
            // A panic is on its way up: there is nobody to tell, and the next publish or commit finds the same.
            let _failed = claim.publish(record::padding_word(self.life, offset, offset_of(bytes)));
        }
    }
}

/// A claim in the hands of a producer that stands still: not published, and not given up either.
#[cfg(any(test, feature = "sim"))]
pub(crate) struct Stalled {
    claim: Claim,
    life: Life,
    index: u32,
    end: u64,
}

#[cfg(any(test, feature = "sim"))]
impl Stalled {
    /// Claims room for a task, writes half of it if `filled`, and stops there.
    pub(crate) fn in_log(log: &Log, payload: &[u8], filled: bool) -> Result<Self, super::NotAppended> {
        let bytes = record::extent_bytes(0, payload.len()).ok_or(super::NotAppended::TooLarge)?;
        let mut extent = log.claim(bytes, 1, 1, record::Kind::Task)?;
        let (life, index, end) = (extent.life, extent.index, extent.end);
        let claim = extent.claim.take().ok_or(super::NotAppended::TooLarge)?;
        let mut stalled = Stalled { claim, life, index, end };
        if filled {
            let half = payload.get(..payload.len() / 2).unwrap_or_default();
            stalled.claim.write(HEADER_BYTES, half);
        }
        Ok(stalled)
    }

    pub(crate) fn seq(&self) -> Seq {
        Seq(self.life.base + u64::from(self.index))
    }

    /// Goes on: fills the rest and publishes. Gives the log position behind it.
    pub(crate) fn publish(mut self, payload: &[u8], time: Timestamp) -> Result<u64, MapFailed> {
        let (index, offset) = (self.index, offset_of(self.claim.start()));
        let record = Record { index, kind: record::Kind::Task, flags: 0, time, fields: &[], payload };
        if let Some(header) = record::seal(self.life, offset, &record) {
            copy(&mut self.claim, 0, &header, &[], payload);
            self.claim.publish(record::word_of(&header))?;
        }
        Ok(self.end)
    }

    /// Publishes padding, as a producer that panics does.
    pub(crate) fn give_up(self, log: &Log) {
        if let Some(segment) = log.segment_of(self.seq()) {
            segment.count_void(1);
        }
        let word = record::padding_word(self.life, offset_of(self.claim.start()), offset_of(self.claim.bytes()));
        let _failed = self.claim.publish(word);
    }
}

/// Everything of a record but its first word, which is stored last.
#[inline]
fn copy(claim: &mut Claim, at: usize, header: &[u8; HEADER_BYTES], fields: &[u8], payload: &[u8]) {
    claim.write(at + 8, header.get(8..).unwrap_or_default());
    let body = at + HEADER_BYTES;
    if !fields.is_empty() {
        claim.write(body, fields);
    }
    claim.write(body + fields.len(), payload);
    let end = body + fields.len() + payload.len();
    // A recycled segment holds old bytes; the gap is zeroed so that equal records are equal bytes.
    let gap = end.next_multiple_of(8) - end;
    claim.write(end, ZEROS.get(..gap).unwrap_or_default());
}

const ZEROS: [u8; 8] = [0; 8];
