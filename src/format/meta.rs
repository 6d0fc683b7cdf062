//! What the checkpoint's blobs and its root's meta bytes hold: options, lives, groups, notes.
//!
//! Values are read after their checksum verified, so what is malformed here was written by another version
//! or is hostile; either way it is refused, never guessed at.
//!
//! # The root's meta bytes
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | open epoch |
//! | 8 | 8 | next sequence block: lives born after this checkpoint have at least this base |
//! | 16 | 8 | ceiling: no sequence at or above it was ever handed out |
//! | 24 | 8 | journal place: base |
//! | 32 | 4 | journal place: offset |
//! | 36 | 1 | 1 after a clean close, else 0 |
//! | 37 | 1 | 1 if a newer checkpoint may have given up lives that this one lists, else 0 |
//! | 38 | 2 | zero |
//! | 40 | 72 | options, in the order of [`StoredOptions`] with the lane count first |
//! | 112 | 2 | count of logs |
//! | 114 | 10 each | log id (2), highest base of the log (8) |
//! | behind that | 2 | count of further options |
//! | | 10 each | tag (2), value (8), as [`option`] says; one that is unknown is kept and means nothing |
//!
//! Valid if and only if the root is, the counts fit the length, every number of a sequence or an epoch is below 2^62, and
//! every option is in its bounds.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::{Backoff, Curve, LaneId, LogId, Retention, Seq, Timestamp};

use super::fields::{curve_code, curve_of};
use super::journal::{Pausable, put_retention, take_retention};
use super::segment::{BLOCK_MAX, LifeHeader, SEGMENT_BYTES_MAX, SEQUENCES_END};
use super::wire::{Reader, Writer};

/// Kinds of checkpoint keys.
pub(crate) mod kind {
    /// A life: `a` = file number.
    pub(crate) const LIFE: u8 = 1;
    /// A group: `a` = group id.
    pub(crate) const GROUP: u8 = 2;
    /// Acks: `a` = group, `b` = base of the life, `c` = chunk.
    pub(crate) const ACKS: u8 = 3;
    /// Lives a group is done with: `a` = group.
    pub(crate) const DONE: u8 = 4;
    /// Tasks handed out and unsettled of which more is to be said than [`BEGUN`]: `a` = group, `b` = sequence /
    /// [`super::NOTES_PER_BLOB`].
    pub(crate) const NOTES: u8 = 5;
    /// Dead letters: `a` = group, `b` as for notes.
    pub(crate) const DEAD: u8 = 6;
    /// What is paused; absent if nothing is.
    pub(crate) const PAUSED: u8 = 7;
    /// The number of the next group, 4 bytes; absent if it follows from those that there are.
    pub(crate) const NEXT_GROUP: u8 = 8;
    /// Tasks that are settled for groups to come too: `b` = base of the life, `c` = chunk.
    pub(crate) const CANCELLED: u8 = 10;
    /// Attempts that began: `a` = group, `b` = base of the life, `c` = chunk, with how many began before above
    /// [`super::BEGUN_SHIFT`].
    pub(crate) const BEGUN: u8 = 11;
    /// A slice of dedup ids: `a` = its number.
    pub(crate) const IDS: u8 = 16;
    /// Order of the next enqueue with a dedup id; absent if there was none.
    pub(crate) const IDS_ORDER: u8 = 17;
}

/// The bits of a chunk's number, where attempts lie in several bitmaps.
pub(crate) const BEGUN_SHIFT: u32 = 24;
/// No group's number reaches this; none is used twice.
pub(crate) const GROUP_IDS_END: u32 = 1 << 30;
/// How many sequences share one blob of notes: at 230 bytes each at most, a blob stays below 8 KiB.
pub(crate) const NOTES_PER_BLOB: u64 = 32;

/// The queue's options as they are stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct StoredOptions {
    pub lanes: u16,
    pub max_attempts: u32,
    pub segment_bytes: u64,
    pub task_bytes_max: u64,
    pub lease_ms: u64,
    pub backoff: Backoff,
    pub checkpoint_bytes: u64,
    pub checkpoint_interval_ms: u64,
    pub sync_interval_ms: u64,
    /// Those that are not at their default, by tag.
    pub further: BTreeMap<u16, u64>,
}

/// Tags of further options.
pub(crate) mod option {
    /// The curve of the backoff, as a task's fields have it; exponential if absent.
    pub(crate) const BACKOFF_CURVE: u16 = 1;
    /// Jitter of the backoff in percent.
    pub(crate) const BACKOFF_JITTER: u16 = 2;
    /// 1: expired tasks become dead letters.
    pub(crate) const EXPIRED_ARE_DEAD: u16 = 3;
    /// Bounds of a group's dead letters: how many, their payload bytes, their age. 0 is none.
    pub(crate) const DEAD_TASKS_MAX: u16 = 4;
    pub(crate) const DEAD_BYTES_MAX: u16 = 5;
    pub(crate) const DEAD_AGE_MAX_MS: u16 = 6;
    /// How lanes are chosen: 1 by weights, 2 by urgency with a longest wait; strictly by urgency if absent.
    pub(crate) const PRIORITY: u16 = 20;
    /// The longest wait of a lane in milliseconds.
    pub(crate) const LONGEST_WAIT_MS: u16 = 21;
    /// The most tasks, and payload bytes, that wait in the queue.
    pub(crate) const QUEUE_TASKS_MAX: u16 = 22;
    pub(crate) const QUEUE_BYTES_MAX: u16 = 23;
    /// The most tasks of a group that are on loan.
    pub(crate) const IN_FLIGHT_MAX: u16 = 24;
    /// The most tasks of all groups together that are on loan.
    pub(crate) const QUEUE_IN_FLIGHT_MAX: u16 = 25;
    /// The most tasks, and payload bytes, that wait in a lane: these and the lane's number.
    pub(crate) const LANE_TASKS_MAX: u16 = 0x200;
    pub(crate) const LANE_BYTES_MAX: u16 = 0x300;
    /// The most tasks of a lane that are on loan in each group: this and the lane's number.
    pub(crate) const LANE_IN_FLIGHT_MAX: u16 = 0x400;
    /// Weight of a lane: this and the lane's number.
    pub(crate) const WEIGHT: u16 = 0x100;
    /// 1: the tasks of a key go to the worker that its bucket belongs to.
    pub(crate) const STICKY: u16 = 40;
    /// How long a dedup id is remembered, in milliseconds, unless its task says otherwise.
    pub(crate) const DEDUP_WINDOW_MS: u16 = 50;
    /// The most dedup ids.
    pub(crate) const DEDUP_IDS_MAX: u16 = 51;
    /// Bytes that may be moved out of sparse segments, for each 100 appended or acked.
    pub(crate) const EVACUATION_PERCENT: u16 = 60;
}

impl StoredOptions {
    /// A further option.
    pub(crate) fn further(&self, tag: u16) -> Option<u64> {
        self.further.get(&tag).copied()
    }
}

#[cfg(any(test, feature = "sim"))]
impl StoredOptions {
    /// Everything as small as it gets, so that a few tasks roll segments and make checkpoints due. For tests and the
    /// simulator.
    pub(crate) fn tiny(lanes: u16) -> Self {
        StoredOptions {
            lanes,
            max_attempts: 0,
            segment_bytes: 4096,
            task_bytes_max: 1024,
            lease_ms: 1_000,
            backoff: Backoff { curve: Curve::Exponential, first_ms: 10, max_ms: 100, jitter_percent: 0 },
            checkpoint_bytes: 4096,
            checkpoint_interval_ms: 1_000,
            sync_interval_ms: 100,
            further: BTreeMap::new(),
        }
    }
}

/// The root's meta bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Meta {
    pub epoch: u64,
    pub next_base: u64,
    pub ceiling: u64,
    pub journal_base: u64,
    pub journal_offset: u32,
    pub clean: bool,
    /// It is an older checkpoint that took the place of one that could not be used.
    pub is_older: bool,
    pub options: StoredOptions,
    /// Highest base of every log that ever had a life.
    pub last_bases: Vec<(LogId, u64)>,
}

impl Meta {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.u64(self.epoch).u64(self.next_base).u64(self.ceiling).u64(self.journal_base).u32(self.journal_offset);
        out.u8(u8::from(self.clean)).u8(u8::from(self.is_older)).u16(0);
        let options = &self.options;
        out.u16(options.lanes).u16(0).u32(options.max_attempts).u64(options.segment_bytes).u64(options.task_bytes_max);
        out.u64(options.lease_ms).u64(options.backoff.first_ms).u64(options.backoff.max_ms);
        out.u64(options.checkpoint_bytes).u64(options.checkpoint_interval_ms).u64(options.sync_interval_ms);
        out.u16(u16::try_from(self.last_bases.len()).unwrap_or(u16::MAX));
        for (log, base) in &self.last_bases {
            out.u16(log.0).u64(*base);
        }
        let mut further = options.further.clone();
        let (curve, jitter) = (options.backoff.curve, options.backoff.jitter_percent);
        further.extend((curve != Curve::Exponential).then(|| (option::BACKOFF_CURVE, u64::from(curve_code(curve)))));
        further.extend((jitter > 0).then(|| (option::BACKOFF_JITTER, u64::from(jitter))));
        out.u16(u16::try_from(further.len()).unwrap_or(u16::MAX));
        for (tag, value) in further {
            out.u16(tag).u64(value);
        }
        out.into_bytes()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Meta> {
        let mut from = Reader::new(bytes);
        let (epoch, next_base, ceiling, journal_base) = (from.u64()?, from.u64()?, from.u64()?, from.u64()?);
        let journal_offset = from.u32()?;
        let (clean, is_older) = (from.u8()? == 1, from.u8()? == 1);
        from.skip(2)?;
        let lanes = from.u16()?;
        from.skip(2)?;
        let mut options = StoredOptions {
            lanes,
            max_attempts: from.u32()?,
            segment_bytes: from.u64()?,
            task_bytes_max: from.u64()?,
            lease_ms: from.u64()?,
            backoff: Backoff {
                curve: Curve::Exponential,
                first_ms: from.u64()?,
                max_ms: from.u64()?,
                jitter_percent: 0,
            },
            checkpoint_bytes: from.u64()?,
            checkpoint_interval_ms: from.u64()?,
            sync_interval_ms: from.u64()?,
            further: BTreeMap::new(),
        };
        let count = from.u16()?;
        let last_bases: Vec<(LogId, u64)> =
            (0..count).map(|_| Some((LogId(from.u16()?), from.u64()?))).collect::<Option<_>>()?;
        let count = from.u16()?;
        options.further = (0..count).map(|_| Some((from.u16()?, from.u64()?))).collect::<Option<_>>()?;
        if let Some(code) = options.further.remove(&option::BACKOFF_CURVE) {
            options.backoff.curve = curve_of(u8::try_from(code).ok()?)?;
        }
        if let Some(jitter) = options.further.remove(&option::BACKOFF_JITTER) {
            options.backoff.jitter_percent = u8::try_from(jitter).ok()?.min(100);
        }
        let highest = last_bases.iter().map(|(_, base): &(LogId, u64)| *base).max().unwrap_or(0);
        let fits = [epoch, next_base, ceiling, journal_base, highest].iter().all(|number| *number < SEQUENCES_END);
        fits.then_some(Meta {
            epoch,
            next_base,
            ceiling,
            journal_base,
            journal_offset,
            clean,
            is_older,
            options,
            last_bases,
        })
    }
}

/// A life as a checkpoint lists it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ListedLife {
    pub file: u32,
    pub log: LogId,
    pub base: u64,
    /// Sequences that it may use, from its base on.
    pub block: u32,
    pub salt: u64,
    /// Sealed: the end of the last extent. Else: everything below is durable, and an extent begins here.
    pub offset: u32,
    /// Record index of the next record at `offset`.
    pub records: u32,
    /// Task records below `offset`.
    pub tasks: u32,
    pub sealed: bool,
    /// A record may have a dedup id.
    pub has_ids: bool,
    /// It holds what lived of an earlier life with this base.
    pub cold: bool,
    /// Not known wholly durable, and left for the next life: the end of its last extent, else 0.
    pub left_at: u32,
    /// Offset of every stride's record, 0 where unknown; for sealed lives.
    pub seek: Vec<u32>,
}

impl ListedLife {
    /// A life of which nothing is known durable, not even its prelude: that is what offset 0 says.
    pub(crate) fn unproven(header: &LifeHeader) -> Self {
        let (offset, records, tasks, sealed, seek) = (0, 0, 0, false, Vec::new());
        let LifeHeader { file, log, base, block, salt, cold, .. } = *header;
        let left_at = 0;
        ListedLife { file, log, base, block, salt, offset, records, tasks, sealed, has_ids: false, cold, left_at, seek }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.u32(self.file)
            .u16(self.log.0)
            .u8(u8::from(self.sealed))
            .u8(u8::from(self.has_ids) | u8::from(self.cold) << 1);
        out.u64(self.base).u64(self.salt).u32(self.block);
        out.u32(self.offset).u32(self.records).u32(self.tasks).u32(self.left_at);
        out.u32(u32::try_from(self.seek.len()).unwrap_or(u32::MAX));
        for offset in &self.seek {
            out.u32(*offset);
        }
        out.into_bytes()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader::new(bytes);
        let (file, log, sealed) = (from.u32()?, LogId(from.u16()?), from.u8()? == 1);
        let flags = from.u8()?;
        let (has_ids, cold) = (flags & 1 != 0, flags & 2 != 0);
        let (base, salt, block) = (from.u64()?, from.u64()?, from.u32()?);
        let (offset, records, tasks, left_at) = (from.u32()?, from.u32()?, from.u32()?, from.u32()?);
        let count = from.u32()? as usize;
        if from.left() < count.checked_mul(4)? {
            return None;
        }
        let seek = (0..count).map(|_| from.u32()).collect::<Option<_>>()?;
        let fits = base < SEQUENCES_END
            && u64::from(offset) <= SEGMENT_BYTES_MAX
            && block <= BLOCK_MAX
            && records <= if cold { BLOCK_MAX } else { offset / 32 }
            && tasks <= records;
        fits.then_some(ListedLife {
            file,
            log,
            base,
            block,
            salt,
            offset,
            records,
            tasks,
            sealed,
            has_ids,
            cold,
            left_at,
            seek,
        })
    }
}

/// A group's name, starts and counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ListedGroup {
    pub name: String,
    pub starts: Vec<(LaneId, Seq)>,
    pub acked_gone: Vec<(LaneId, u64)>,
    /// As the journal has it; absent if there is none.
    pub retention: Retention,
}

impl ListedGroup {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.text(&self.name).u16(u16::try_from(self.starts.len()).unwrap_or(u16::MAX));
        for (lane, seq) in &self.starts {
            out.u8(lane.0).u64(seq.0);
        }
        out.u16(u16::try_from(self.acked_gone.len()).unwrap_or(u16::MAX));
        for (lane, count) in &self.acked_gone {
            out.u8(lane.0).u64(*count);
        }
        if self.retention != Retention::default() {
            put_retention(&mut out, &self.retention);
        }
        out.into_bytes()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader::new(bytes);
        let name = from.text()?.to_owned();
        let starts = from.u16()?;
        let starts = (0..starts).map(|_| Some((LaneId(from.u8()?), Seq(from.u64()?)))).collect::<Option<_>>()?;
        let gone = from.u16()?;
        let acked_gone = (0..gone).map(|_| Some((LaneId(from.u8()?), from.u64()?))).collect::<Option<_>>()?;
        let retention = if from.left() == 0 { Retention::default() } else { take_retention(&mut from)? };
        (from.left() == 0).then_some(ListedGroup { name, starts, acked_gone, retention })
    }
}

/// The number of the next group.
pub(crate) fn encode_next_group(number: u32) -> Vec<u8> {
    let mut out = Writer::default();
    out.u32(number);
    out.into_bytes()
}

pub(crate) fn decode_next_group(bytes: &[u8]) -> Option<u32> {
    let mut from = Reader::new(bytes);
    let number = from.u32()?;
    (from.left() == 0 && number <= GROUP_IDS_END).then_some(number)
}

/// What is paused: lanes for all groups, groups for all lanes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Paused {
    pub lanes: BTreeSet<LaneId>,
    pub groups: BTreeSet<u32>,
}

impl Paused {
    pub(crate) fn pause(&mut self, what: Pausable) {
        match what {
            Pausable::Lane(lane) => self.lanes.insert(lane),
            Pausable::Group(group) => self.groups.insert(group),
        };
    }

    pub(crate) fn resume(&mut self, what: Pausable) {
        match what {
            Pausable::Lane(lane) => self.lanes.remove(&lane),
            Pausable::Group(group) => self.groups.remove(&group),
        };
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lanes.is_empty() && self.groups.is_empty()
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.u16(u16::try_from(self.lanes.len()).unwrap_or(u16::MAX));
        for lane in &self.lanes {
            out.u8(lane.0);
        }
        for group in &self.groups {
            out.u32(*group);
        }
        out.into_bytes()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader::new(bytes);
        let count = from.u16()?;
        let lanes = (0..count).map(|_| from.u8().map(LaneId)).collect::<Option<_>>()?;
        let mut groups = BTreeSet::new();
        while from.left() > 0 {
            groups.insert(from.u32()?);
        }
        Some(Paused { lanes, groups })
    }
}

/// One task's note, or dead letter, in a blob.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ListedNote {
    pub lane: LaneId,
    pub seq: Seq,
    pub attempts: u32,
    /// Notes: when it is due, if delayed. Dead letters: when it died.
    pub time: Option<Timestamp>,
    /// Notes: how long the delay was. Dead letters: bits 0 to 7 the cause, 8 to 39 the bytes of the payload.
    pub detail: u64,
    pub reason: String,
}

/// Encodes the notes of one blob.
pub(crate) fn encode_notes<'a>(notes: impl Iterator<Item = &'a ListedNote>) -> Vec<u8> {
    let mut out = Writer::default();
    for note in notes {
        out.u8(note.lane.0).u64(note.seq.0).u32(note.attempts).u8(u8::from(note.time.is_some()));
        out.u64(note.time.unwrap_or_default().0).u64(note.detail).text(&note.reason);
    }
    out.into_bytes()
}

/// Decodes the notes of one blob.
pub(crate) fn decode_notes(bytes: &[u8]) -> Option<Vec<ListedNote>> {
    let mut from = Reader::new(bytes);
    let mut notes = Vec::new();
    while from.left() > 0 {
        let (lane, seq, attempts, timed) = (LaneId(from.u8()?), Seq(from.u64()?), from.u32()?, from.u8()? == 1);
        let (time, detail) = (Timestamp(from.u64()?), from.u64()?);
        let reason = from.text()?.to_owned();
        notes.push(ListedNote { lane, seq, attempts, time: timed.then_some(time), detail, reason });
    }
    Some(notes)
}

/// Encodes the lives a group is done with: lane and base each.
pub(crate) fn encode_done(done: impl Iterator<Item = (LaneId, u64)>) -> Vec<u8> {
    let mut out = Writer::default();
    for (lane, base) in done {
        out.u8(lane.0).u64(base);
    }
    out.into_bytes()
}

/// Decodes the lives a group is done with.
pub(crate) fn decode_done(bytes: &[u8]) -> Option<Vec<(LaneId, u64)>> {
    let mut from = Reader::new(bytes);
    let mut done = Vec::new();
    while from.left() > 0 {
        done.push((LaneId(from.u8()?), from.u64()?));
    }
    Some(done)
}
