//! Step 2: the file of a cold life.

use std::io;
use std::sync::Arc;

use crate::format::record::{self, INNER, Kind, MOVED, Record};
use crate::format::segment::{FOOTER_TRAILER_BYTES, LifeHeader, PRELUDE_BYTES, SEEK_STRIDE, file_name};
use crate::log::{Met, Sealed, Segment};
use crate::sabotage::{Bug, on};
use crate::storage::{File, Prepare, Storage};

use super::Plan;

/// What became of a copy.
pub(super) enum Copied {
    Whole(Box<Segment>),
    /// There is no room, or something that is to be moved does not verify: the life stays where it is.
    Not,
    SyncFailed(io::Error),
}

/// How much is written in one call.
const CHUNK_BYTES: usize = 1 << 20;

/// What of a life is left behind, and what its cold life takes.
pub(super) struct Measured {
    /// Record indices of tasks that are not moved.
    pub gone: Vec<u32>,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Measures what lives of a life. `None` if nothing does, or something of it is damaged or can't be read.
pub(super) fn measure(segment: &Segment, sealed: Sealed, settled: &[u64]) -> Option<Measured> {
    let (mut bytes, mut live, mut gone) = (PRELUDE_BYTES as u64, 0, Vec::new());
    each_task(segment, settled, |header, _, lives| {
        if lives {
            bytes += u64::from(header.bytes);
            live += 1;
        } else {
            gone.push(header.index);
        }
        Some(())
    })?;
    bytes += FOOTER_TRAILER_BYTES as u64 + 4 * u64::from(strides(sealed.records, live));
    // Of which nothing lives goes by itself.
    (live > 0).then_some(Measured { gone, bytes })
}

/// Entries of the seek table: none where a walk over all records is short.
fn strides(records: u32, live: u32) -> u32 {
    if live > SEEK_STRIDE { records.div_ceil(SEEK_STRIDE) } else { 0 }
}

/// Shows every task, and whether some group needs it. `None` if one that is needed can't be had, or `visit` says so.
fn each_task(
    segment: &Segment,
    settled: &[u64],
    mut visit: impl FnMut(&record::Header, &[u8], bool) -> Option<()>,
) -> Option<()> {
    let is_settled = |index: u32| settled.get(index as usize / 64).is_none_or(|word| word >> (index % 64) & 1 == 1);
    let mut all = Some(());
    let walked = segment.region().and_then(|region| {
        segment.each_task(&region, |met| {
            all = match met {
                Met::Task(header, extent) => visit(header, extent, !is_settled(header.index)),
                Met::Lost(first, last) => (first..=last).all(is_settled).then_some(()),
            };
            all.is_some()
        })
    });
    walked.ok().and(all)
}

/// Writes a cold life, wholly and durably.
pub(super) fn copy(storage: &dyn Storage, header: LifeHeader, plan: &Plan) -> Copied {
    let Ok(file) = storage.create(&file_name(header.file), header.size, Prepare::Rare) else { return Copied::Not };
    let mut writer = Writer { file: &*file, header, buffer: header.encode().to_vec(), written: 0, seek: Vec::new() };
    let done = each_task(&plan.segment, &plan.settled, |record, extent, lives| {
        if !lives {
            return Some(());
        }
        let body = record::verify(plan.segment.life(), record, extent)?;
        let flags = (record.flags & !INNER) | MOVED;
        let (index, time) = (record.index, record.time);
        let moved = Record { index, kind: Kind::Task, flags, time, fields: body.fields, payload: body.payload };
        writer.put(&moved)
    });
    let Some(end) = done.and(writer.at()).filter(|_| writer.flush().is_some()) else { return Copied::Not };
    let seek = std::mem::take(&mut writer.seek);
    finish(&file, header, plan, end, seek)
}

/// The footer, behind everything that it speaks for.
fn finish(file: &Arc<dyn File>, header: LifeHeader, plan: &Plan, end: u32, seek: Vec<(u32, u32)>) -> Copied {
    let (old, sealed) = (&plan.segment, Sealed { end, ..plan.sealed });
    let has_table = header.size > u64::from(end) + FOOTER_TRAILER_BYTES as u64;
    let seek = if has_table { seek } else { Vec::new() };
    let cold = Segment::found(header, Arc::clone(file), old.start(), header.size, sealed, old.tasks(), seek);
    cold.note_ids(old.has_ids());
    let bytes = cold.footer(sealed).encode(header.life());
    let at = header.size.saturating_sub(bytes.len() as u64);
    let sync = || if on(Bug::MovedNotSynced) { Ok(()) } else { file.sync() };
    if let Err(error) = sync() {
        return Copied::SyncFailed(error);
    }
    if file.write_at(at, &bytes).is_err() {
        return Copied::Not;
    }
    match sync() {
        Ok(()) => Copied::Whole(Box::new(cold)),
        Err(error) => Copied::SyncFailed(error),
    }
}

/// Fills the file from its beginning on.
struct Writer<'a> {
    file: &'a dyn File,
    header: LifeHeader,
    buffer: Vec<u8>,
    /// Bytes that are in the file already.
    written: u64,
    /// The first record of each stride: (the stride's first index, offset).
    seek: Vec<(u32, u32)>,
}

impl Writer<'_> {
    fn at(&self) -> Option<u32> {
        u32::try_from(self.written + self.buffer.len() as u64).ok()
    }

    fn put(&mut self, record: &Record<'_>) -> Option<()> {
        let at = self.at()?;
        let header = record::seal(self.header.life(), at, record)?;
        let stride = record.index / SEEK_STRIDE * SEEK_STRIDE;
        if self.seek.last().is_none_or(|(last, _)| *last < stride) {
            self.seek.push((stride, at));
        }
        self.buffer.extend_from_slice(&header);
        self.buffer.extend_from_slice(record.fields);
        self.buffer.extend_from_slice(record.payload);
        // Every extent before it is whole words.
        self.buffer.resize(self.buffer.len().next_multiple_of(8), 0);
        if self.buffer.len() >= CHUNK_BYTES { self.flush() } else { Some(()) }
    }

    fn flush(&mut self) -> Option<()> {
        self.file.write_at(self.written, &self.buffer).ok()?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Some(())
    }
}
