//! The reading side of one log: a place that moves forward over published records.
//!
//! A cursor never waits and never changes anything. It steps over padding, marks and batch headers, stops
//! where nothing is published yet, and reports damage with the range it had to skip.

use std::io;
use std::sync::Arc;

use crate::format::fields::Traits;
use crate::format::record::{self, Found, HEADER_BYTES, Header, Kind};
use crate::sabotage::{Bug, on};
use crate::storage::Region;

use super::append::Log;
use super::scan;
use super::segment::{Place, Segment, map_failed};

/// A position of a reader in a log.
pub(crate) struct Cursor {
    at: Option<At>,
    /// Lives below this base are behind the cursor.
    from_base: u64,
}

/// A life and its map, as whoever reads it holds them.
#[derive(Clone)]
pub(crate) struct Source {
    pub segment: Arc<Segment>,
    pub region: Arc<Region>,
}

struct At {
    source: Source,
    offset: u32,
    /// Index that the next record has, unless claims were abandoned before it.
    index: u32,
    /// Readable end as last seen.
    readable: u32,
    /// Bytes below were checked a moment ago: reading them raises no signal.
    checked: u32,
    /// What the record at that offset was seen to wait for.
    waits: Option<(u32, Waits)>,
}

/// What has to become durable before a task is handed out.
enum Waits {
    /// The log, up to that position.
    Log(u64),
    /// The decision at that place, with all that it names.
    Decision(Place),
}

/// What a step found.
pub(crate) enum Step {
    /// The next task, in the cursor's source; its header verified, its body not yet.
    Task(Header),
    /// The cursor stands before the first record of another life.
    Entered,
    /// Nothing more for now: all that is published was seen, or the next task is not durable yet.
    End,
    /// Bytes that don't verify were skipped. `lost` are the record indices that were among them.
    Damaged { segment: Arc<Segment>, offset: u32, bytes: u32, lost: Option<(u32, u32)> },
    /// The bytes could not be read; the whole rest of the life is skipped. `lost` are the record indices there.
    Unreadable { segment: Arc<Segment>, offset: u32, lost: Option<(u32, u32)>, error: io::Error },
}

impl Cursor {
    /// A cursor before the first record of the first life with a base of at least `base`.
    pub(crate) fn from_base(base: u64) -> Self {
        Cursor { at: None, from_base: base }
    }

    /// The base of the life the cursor stands in, or before.
    pub(crate) fn base(&self) -> u64 {
        self.at.as_ref().map_or(self.from_base, |at| at.source.segment.base())
    }

    /// Where the cursor stands, if it is in a life: base, index of the next record, log position.
    pub(crate) fn place(&self) -> Option<(u64, u32, u64)> {
        let at = self.at.as_ref()?;
        Some((at.source.segment.base(), at.index, at.source.segment.position(at.offset)))
    }

    /// True if the cursor is in the middle of the life that begins at `base`.
    pub(crate) fn stands_in(&self, base: u64) -> bool {
        self.at.as_ref().is_some_and(|at| at.source.segment.base() == base)
    }

    /// True if the cursor moved over that record.
    pub(crate) fn has_passed(&self, base: u64, index: u32) -> bool {
        base < self.base() || self.at.as_ref().is_some_and(|at| at.source.segment.base() == base && index < at.index)
    }

    /// The life the cursor stands in.
    #[inline]
    pub(crate) fn source(&self) -> Option<&Source> {
        self.at.as_ref().map(|at| &at.source)
    }

    /// True if a step might find something: cheap, and true once too often rather than once too seldom.
    pub(crate) fn may_have_more(&self, log: &Log) -> bool {
        match &self.at {
            None => log.segment_from(self.from_base).is_some(),
            Some(at) if at.is_held_up(log) => false,
            Some(at) => {
                at.offset < at.readable
                    || at.source.segment.sealed().is_some()
                    || at.offset < offset_of(at.source.region.advance())
            }
        }
    }

    /// Jumps forward inside the current life to a record at or before `index`, by the seek table.
    pub(crate) fn skip_to(&mut self, index: u32) {
        let Some(at) = &mut self.at else { return };
        if let Some((known, offset)) = at.source.segment.seek(index)
            && known > at.index
            && offset < at.readable
        {
            at.index = known;
            at.offset = offset;
        }
    }

    /// Goes to a record's place in the life that begins at `base`: the record at `offset` has at least this index; offset 0
    /// is the life's first record. Stays where it is if that is nearer. In a cold life places are others than they were, so
    /// there it begins at the first record. Gives `Entered`, or why it can't be.
    pub(crate) fn go_to(&mut self, log: &Log, base: u64, index: u32, offset: u32) -> Step {
        let is_there = |at: &At| at.source.segment.base() == base && !at.source.segment.is_superseded();
        if !self.at.as_ref().is_some_and(is_there) {
            *self = Cursor::from_base(base);
            match self.enter(log) {
                Step::Entered if self.base() == base => {}
                other => return other,
            }
        }
        if let Some(at) = &mut self.at {
            let first = offset_of(crate::format::segment::PRELUDE_BYTES);
            at.readable = offset_of(at.source.region.advance());
            let is_behind = at.index > index;
            let to = match at.source.segment.is_cold() {
                true => is_behind.then_some((0, first)),
                false => (is_behind || (at.index < index && at.offset < offset)).then_some((index, offset.max(first))),
            };
            if let Some((index, offset)) = to {
                at.checked = if offset < at.offset { 0 } else { at.checked };
                (at.index, at.offset) = (index, offset);
            }
        }
        Step::Entered
    }

    /// Checks again before the next step that what it reads can be read: what was checked long ago may be evicted.
    pub(crate) fn distrust(&mut self) {
        if let Some(at) = &mut self.at {
            at.checked = 0;
        }
    }

    /// Leaves the current life, or skips the next one, whatever it still holds.
    pub(crate) fn skip_life(&mut self) {
        if let Some(at) = self.at.take() {
            self.from_base = at.source.segment.base() + 1;
        }
    }

    /// Enters the next life, if there is one.
    fn enter(&mut self, log: &Log) -> Step {
        let Some(segment) = log.segment_from(self.from_base) else { return Step::End };
        match segment.region() {
            Ok(region) => {
                let offset = offset_of(crate::format::segment::PRELUDE_BYTES);
                self.at = Some(At {
                    source: Source { segment, region },
                    offset,
                    index: 0,
                    readable: 0,
                    checked: 0,
                    waits: None,
                });
                Step::Entered
            }
            Err(error) => {
                self.from_base = segment.base() + 1;
                let lost = rest_of(&segment, 0);
                Step::Unreadable { segment, offset: 0, lost, error }
            }
        }
    }

    /// Moves over the next task that is deliverable when everything below log position `durable` is durable.
    pub(crate) fn step(&mut self, log: &Log, durable: u64) -> Step {
        loop {
            let Some(at) = &mut self.at else { return self.enter(log) };
            if at.offset >= at.readable {
                at.readable = offset_of(at.source.region.advance());
                if at.offset >= at.readable {
                    match at.source.segment.sealed() {
                        Some(sealed) if at.offset >= sealed.end => {
                            self.skip_life();
                            continue;
                        }
                        Some(sealed) if at.source.region.bytes() < sealed.end as usize => {
                            let step = at.ends_early();
                            self.skip_life();
                            return step;
                        }
                        _ => return Step::End,
                    }
                }
            }
            if let Some(step) = at.step(log, durable) {
                if matches!(step, Step::Unreadable { .. }) {
                    self.skip_life();
                }
                return step;
            }
        }
    }
}

impl At {
    /// One record: `None` if it was nothing to deliver.
    fn step(&mut self, log: &Log, durable: u64) -> Option<Step> {
        if let Err(error) = self.check(HEADER_BYTES_U32) {
            return Some(self.unreadable(error));
        }
        let Source { segment, region } = &self.source;
        let bytes = region.slice(self.offset as usize..self.readable as usize).unwrap_or_default();
        match record::read(segment.life(), self.offset, bytes) {
            Found::Record(header) if header.kind == Kind::Task => {
                let end = segment.position(self.offset + header.bytes);
                if header.is_power() && end > durable && !on(Bug::DeliveredBeforeDurable) {
                    self.waits = Some((self.offset, Waits::Log(end)));
                    return Some(Step::End);
                }
                if header.bytes > self.readable - self.offset {
                    return Some(self.ends_early());
                }
                // Its body is verified in a moment.
                if let Err(error) = self.check(header.bytes) {
                    return Some(self.unreadable(error));
                }
                if header.is_power()
                    && header.is_special()
                    && let Some(decision) = self.undecided(log, &header)
                {
                    self.waits = Some((self.offset, Waits::Decision(decision)));
                    return Some(Step::End);
                }
                self.offset += header.bytes;
                self.index = header.index + 1;
                Some(Step::Task(header))
            }
            Found::Record(header) => {
                self.offset += header.step();
                if header.kind == Kind::Entry {
                    self.index = header.index + 1;
                }
                None
            }
            Found::Padding { bytes } | Found::Hole { bytes } => {
                self.offset += bytes;
                None
            }
            Found::Empty | Found::Invalid => Some(self.skip_damage()),
        }
    }

    /// The decision of the transaction that the task belongs to, if that is not durable yet. What does not verify is found
    /// damaged when it is handed out, whatever its fields say.
    fn undecided(&self, log: &Log, header: &Header) -> Option<Place> {
        let fields = self.source.region.slice(header.fields_range()).unwrap_or_default();
        let (base, offset) = Traits::decode(fields).decision?;
        let place = Place { base, offset };
        (log.undecided.contains(place) && !on(Bug::DeliveredUndecided)).then_some(place)
    }

    /// True if the next record is a task that waits still for what it was seen to wait for.
    fn is_held_up(&self, log: &Log) -> bool {
        match &self.waits {
            Some((offset, waits)) if *offset == self.offset => match waits {
                Waits::Log(end) => log.durable() < *end,
                Waits::Decision(place) => log.undecided.contains(*place),
            },
            _ => false,
        }
    }

    /// Makes sure that `bytes` bytes from here on, as far as they are readable, can be read without a signal.
    #[inline]
    fn check(&mut self, bytes: u32) -> io::Result<()> {
        let Source { segment, region } = &self.source;
        let to = self.offset.saturating_add(bytes).min(self.readable);
        if to > self.checked || region.has_failed() {
            self.checked = segment.check_readable(region, self.offset, to)?;
        }
        Ok(())
    }

    #[cold]
    fn unreadable(&self, error: io::Error) -> Step {
        self.nothing_from(self.offset, error)
    }

    /// The file was cut: it ends before its records do.
    #[cold]
    fn ends_early(&self) -> Step {
        let error = io::Error::new(io::ErrorKind::UnexpectedEof, "the file ends before its records do");
        self.nothing_from(self.readable, error)
    }

    fn nothing_from(&self, offset: u32, error: io::Error) -> Step {
        let segment = Arc::clone(&self.source.segment);
        let lost = rest_of(&segment, self.index);
        Step::Unreadable { segment, offset, lost, error }
    }

    /// Goes on at the next header that verifies, and says what lies between.
    fn skip_damage(&mut self) -> Step {
        if let Err(error) = self.check(self.readable - self.offset) {
            return self.unreadable(error);
        }
        let Source { segment, region } = &self.source;
        let bytes = region.slice(self.offset as usize..self.readable as usize).unwrap_or_default();
        let from = self.offset;
        let next = scan::resync(segment.life(), from, bytes);
        // Asked after the look: zeros in a failed map are no damage of the file's.
        if region.has_failed() {
            return self.unreadable(map_failed());
        }
        let resumed = next.as_ref().map_or(self.readable, |header| header.offset);
        let expected = self.index;
        let until = match &next {
            Some(header) => header.index,
            None => segment.known_records(),
        };
        let segment = Arc::clone(segment);
        self.offset = resumed;
        self.index = self.index.max(until);
        let lost = (until > expected).then(|| (expected, until - 1));
        Step::Damaged { segment, offset: from, bytes: resumed - from, lost }
    }
}

/// The record indices of a sealed life from `index` on.
fn rest_of(segment: &Segment, index: u32) -> Option<(u32, u32)> {
    let last = segment.sealed()?.records.checked_sub(1)?;
    (index <= last).then_some((index, last))
}

const HEADER_BYTES_U32: u32 = 32;
const _: () = assert!(HEADER_BYTES_U32 as usize == HEADER_BYTES, "one header");

/// Offsets in a segment fit 32 bits: a segment is at most 1 GiB.
fn offset_of(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
