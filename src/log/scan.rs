//! Reading a life's bytes after a crash: pure, `&[u8]` in, what is there out. Nothing here changes anything.
//!
//! # What a scan keeps
//!
//! From the place up to which the log is known durable the scan goes from extent to extent. Each place holds
//! one of:
//!
//! | found | below the last mark | above it |
//! |---|---|---|
//! | record whose header and body verify | kept | kept |
//! | record whose header verifies and whose body doesn't | damage, skipped by its length | torn, becomes padding |
//! | batch with a record that doesn't verify | only that record is lost | the whole batch becomes padding |
//! | claimed extent (a hole) | damage: a durable extent was published once | becomes padding |
//! | padding | stepped over, and noted | stepped over, and noted |
//! | nothing, or bytes that don't verify | damage: resync at the next header that verifies | the end |
//!
//! Kept extents of transactions are named beside ([`Part`]): whether they count depends on other logs.
//!
//! Above the last mark nothing is found by searching, with one exception that decides where the last mark
//! is: marks, which alone can show that the bytes before them were durable.

use crate::format::fields::{DedupTrait, Traits};
use crate::format::record::{self, Body, Found, HEADER_BYTES, Header, Kind, Life, MARK_BYTES};
use crate::format::segment::SEEK_STRIDE;
use crate::sabotage::{Bug, on};
use crate::types::{ExtentState, ExtentWord};

use super::segment::Place;

/// One thing that recovery or a report has to know of a life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flaw {
    /// Durable bytes that don't verify. `lost` are record indices.
    Corrupt { offset: u32, bytes: u32, lost: Option<(u32, u32)> },
    /// A published record or batch above the last mark that doesn't verify wholly; to become padding.
    Torn { offset: u32, bytes: u32, lost: Option<(u32, u32)> },
    /// A claim that was never published; to become padding.
    Hole { offset: u32, bytes: u32 },
    /// A record of a transaction that is not true, or its decision; to become padding, below the last mark too. No scan
    /// finds it: recovery decides it.
    Void { offset: u32, bytes: u32, lost: Option<(u32, u32)> },
}

/// An extent that is kept as far as this life can tell, and belongs to a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Part {
    pub offset: u32,
    pub bytes: u32,
    /// Its first and its last index.
    pub indices: (u32, u32),
    /// Tasks in it that verify.
    pub tasks: u32,
    /// Where in the journal its decision stands.
    pub decision: Place,
}

impl Flaw {
    /// True if the byte at `at` lies in it.
    pub(crate) fn covers(&self, at: u32) -> bool {
        let (Flaw::Corrupt { offset, bytes, .. }
        | Flaw::Torn { offset, bytes, .. }
        | Flaw::Hole { offset, bytes }
        | Flaw::Void { offset, bytes, .. }) = *self;
        (offset..offset.saturating_add(bytes)).contains(&at)
    }

    /// Record indices that did not survive.
    pub(crate) fn lost(&self) -> Option<(u32, u32)> {
        match *self {
            Flaw::Corrupt { lost, .. } | Flaw::Torn { lost, .. } | Flaw::Void { lost, .. } => lost,
            Flaw::Hole { .. } => None,
        }
    }
}

/// What a life holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Scan {
    /// End of the last extent that is kept.
    pub end: u32,
    /// One above the highest record index seen.
    pub records: u32,
    /// Task records that verify, header and body.
    pub tasks: u32,
    /// Seek table: (index, offset) of every stride's first record.
    pub seek: Vec<(u32, u32)>,
    pub flaws: Vec<Flaw>,
    /// Indices (first, last) that no record has: of claims that were abandoned, or made padding by an earlier recovery.
    pub gaps: Vec<(u32, u32)>,
    /// Extents of transactions among those that are kept.
    pub parts: Vec<Part>,
    /// Padding (offset, bytes). A recovery may have made it of what was void, and then its sync failed, or it crashed before
    /// the rest of it was zeroed.
    pub padding: Vec<(u32, u32)>,
    /// Bytes behind `end` up to and with the next record of this life that stands there, cut as torn.
    pub cut: u32,
    /// Everything below is proven durable by a mark, a footer or a checkpoint.
    pub durable: u32,
    /// Dedup ids of the tasks that are kept, by record index.
    pub ids: Vec<(u32, DedupTrait)>,
    /// Nothing tells whether what is missing was ever durable: see [`Scan::doubt`].
    pub is_doubted: bool,
}

impl Scan {
    /// True if something that was being written stood behind the end; old bytes of a recycled file do not
    /// count, for no header of this life verifies there.
    pub(crate) fn is_torn(&self) -> bool {
        self.cut > 0
    }

    /// Takes back what was taken as durable above `own`, because a checkpoint that can't be read may have given the life up
    /// half synced, all of it settled. What does not verify there is no damage that later opens have to report, but becomes
    /// padding; it was walked over all the same, for it may be damage, and all behind it durable.
    pub(crate) fn doubt(&mut self, own: u32) {
        self.is_doubted = true;
        self.durable = self.durable.min(own);
        for flaw in &mut self.flaws {
            if let Flaw::Corrupt { offset, bytes, lost } = *flaw
                && offset >= own
            {
                *flaw = Flaw::Torn { offset, bytes, lost };
            }
        }
    }
}

/// The last mark in `bytes` (a life from offset 0 on) at or behind `from`, found by searching.
///
/// A mark can't be forged by a payload: its checks are seeded with the life's salt and its own offset.
pub(crate) fn last_mark(life: Life, bytes: &[u8], from: u32) -> Option<Place> {
    let mut found = None;
    let low = ExtentWord::low_of(MARK_BYTES, ExtentState::Published);
    let mut at = from.next_multiple_of(8);
    while let Some(word) = word_at(bytes, at) {
        if ExtentWord(word).low() == low
            && let Some(place) = mark_at(life, bytes, at)
        {
            found = Some(place);
        }
        at += 8;
    }
    found
}

fn mark_at(life: Life, bytes: &[u8], at: u32) -> Option<Place> {
    let rest = bytes.get(at as usize..)?;
    let Found::Record(header) = record::read(life, at, rest) else { return None };
    if header.kind != Kind::Mark {
        return None;
    }
    let body = record::verify(life, &header, rest)?;
    let (base, offset) = record::read_mark(body.payload)?;
    Some(Place { base, offset })
}

/// Where the last extent of a life ends that was written to its end, damaged places stepped over.
pub(crate) fn last_end(life: Life, bytes: &[u8], from: u32) -> u32 {
    let (mut at, mut end) = (from, from);
    while let Some(rest) = bytes.get(at as usize..).filter(|rest| rest.len() >= 8) {
        let extent = record::read(life, at, rest).extent_bytes();
        at = match extent {
            0 => match resync(life, at, rest) {
                Some(header) => header.offset,
                None => break,
            },
            _ => at.saturating_add(extent),
        };
        if extent > 0 {
            end = at.min(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        }
    }
    end
}

/// Indices (first, last) below `records` at which no task's header verifies, in `bytes` (a sealed life from offset 0 on)
/// from record start `from` on.
pub(crate) fn voids(life: Life, bytes: &[u8], from: u32, records: u32) -> Vec<(u32, u32)> {
    let (mut next, mut voids) = (0, Vec::new());
    let mut gap_before = |index: u32, next: u32| voids.extend((next < index).then(|| (next, index - 1)));
    each_header(life, bytes, from, |header, _| {
        if header.kind == Kind::Task {
            gap_before(header.index, next);
            next = header.index.saturating_add(1);
        }
    });
    gap_before(records, next);
    voids
}

/// Dedup ids of the tasks that verify in `bytes` (a sealed life from offset 0 on) from record start `from` on.
pub(crate) fn ids(life: Life, bytes: &[u8], from: u32) -> Vec<(u32, DedupTrait)> {
    let mut ids = Vec::new();
    each_header(life, bytes, from, |header, rest| {
        ids.extend(record::verify(life, header, rest).and_then(|body| id_of(header, &body)));
    });
    ids
}

/// Shows every record header that verifies, with the bytes from it on; of a batch its own and those of its records.
fn each_header(life: Life, bytes: &[u8], from: u32, mut visit: impl FnMut(&Header, &[u8])) {
    let mut at = from;
    while let Some(rest) = bytes.get(at as usize..).filter(|rest| rest.len() >= 8) {
        match record::read(life, at, rest) {
            Found::Record(header) => {
                visit(&header, rest);
                at = at.saturating_add(header.step());
            }
            Found::Padding { bytes } | Found::Hole { bytes } => at = at.saturating_add(bytes),
            Found::Empty | Found::Invalid => match resync(life, at, rest) {
                Some(header) => at = header.offset,
                None => break,
            },
        }
    }
}

/// The next record header that verifies behind `from`; `bytes` begin at `from`.
pub(crate) fn resync(life: Life, from: u32, bytes: &[u8]) -> Option<Header> {
    let mut skip = 8;
    while let Some(rest) = bytes.get(skip as usize..) {
        if rest.len() < HEADER_BYTES {
            return None;
        }
        if let Found::Record(header) = record::read(life, from + skip, rest) {
            return Some(header);
        }
        skip += 8;
    }
    None
}

/// Walks `bytes` (a life from offset 0 on) from record start `from`, whose record index is `index`, to the
/// end. Everything below `durable` is known durable.
pub(crate) fn walk(life: Life, bytes: &[u8], from: u32, index: u32, durable: u32) -> Scan {
    let mut walk = Walk { life, bytes, at: from, scan: Scan { records: index, durable, ..Scan::default() } };
    while walk.step() {}
    let mut scan = walk.scan;
    scan.end = walk.at;
    let behind = bytes.get(scan.end as usize..).unwrap_or_default();
    let near = behind.get(..TORN_SEARCH_BYTES).unwrap_or(behind);
    scan.cut = resync(life, scan.end, near).map_or(scan.cut, |header| header.offset + header.bytes - scan.end);
    scan
}

/// How far behind the end a report of torn bytes looks for a record of this life. A report alone depends on it.
const TORN_SEARCH_BYTES: usize = 1 << 20;

struct Walk<'a> {
    life: Life,
    bytes: &'a [u8],
    at: u32,
    scan: Scan,
}

impl Walk<'_> {
    /// One extent; false at the end.
    fn step(&mut self) -> bool {
        let Some(rest) = self.bytes.get(self.at as usize..).filter(|rest| rest.len() >= 8) else { return false };
        let below = self.at < self.scan.durable;
        match record::read(self.life, self.at, rest) {
            // Of a durable batch only the records are lost that are not there: it is stepped into below.
            Found::Record(header) if below && header.kind == Kind::Batch => self.record(&header, rest),
            found if found.extent_bytes() as usize > rest.len() => return self.cut_off(rest, below),
            Found::Record(header) => self.record(&header, rest),
            Found::Padding { bytes } => {
                self.scan.padding.push((self.at, bytes));
                self.at += bytes;
            }
            Found::Hole { .. } if on(Bug::HoleEndsLog) => return false,
            Found::Hole { bytes } if below => self.corrupt(bytes, None),
            Found::Hole { bytes } => {
                self.scan.flaws.push(Flaw::Hole { offset: self.at, bytes });
                self.at += bytes;
            }
            Found::Empty | Found::Invalid if on(Bug::TruncateAtCorruption) => return false,
            Found::Empty | Found::Invalid if below => self.skip_corrupt(rest),
            Found::Empty | Found::Invalid => return false,
        }
        true
    }

    /// An extent that ends behind the bytes there are: the file was cut. False: it is the last.
    fn cut_off(&mut self, rest: &[u8], below: bool) -> bool {
        if below {
            let bytes = u32::try_from(rest.len()).unwrap_or(u32::MAX) & !7;
            let index = match record::read(self.life, self.at, rest) {
                Found::Record(header) => header.index,
                Found::Empty | Found::Hole { .. } | Found::Padding { .. } | Found::Invalid => self.scan.records,
            };
            self.corrupt(bytes, Some((index, index)));
            self.scan.records = self.scan.records.max(index + 1);
        } else {
            self.scan.cut = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        }
        false
    }

    fn record(&mut self, header: &Header, rest: &[u8]) {
        let below = self.at < self.scan.durable;
        match header.kind {
            Kind::Batch if !below && !on(Bug::BatchInPart) => self.batch(header, rest),
            Kind::Batch => {
                self.gap(header.index);
                self.note_batch(header, rest);
                self.at += header.step();
            }
            Kind::Mark => {
                self.gap(header.index);
                self.scan.records = self.scan.records.max(header.index);
                self.at += header.bytes;
            }
            Kind::Task | Kind::Entry => {
                self.gap(header.index);
                if let Some(body) = record::verify(self.life, header, rest) {
                    self.keep(header, &body);
                    if !header.is_inner()
                        && let Some(decision) = decision_of(header, &body)
                    {
                        self.note_part(header, (header.index, header.index), 1, decision);
                    }
                } else {
                    let (offset, bytes, lost) = (self.at, header.bytes, Some((header.index, header.index)));
                    let corrupt = Flaw::Corrupt { offset, bytes, lost };
                    self.scan.flaws.push(if below { corrupt } else { Flaw::Torn { offset, bytes, lost } });
                }
                self.at += header.bytes;
                self.scan.records = self.scan.records.max(header.index + 1);
            }
        }
    }

    /// Notes a batch below the last mark if it is part of a transaction; of its records some may be damaged.
    fn note_batch(&mut self, batch: &Header, rest: &[u8]) {
        let (mut at, mut tasks, mut decision) = (batch.step(), 0, None);
        while let Some(here) = rest.get(at as usize..batch.bytes as usize) {
            let Found::Record(header) = record::read(self.life, self.at + at, here) else { break };
            if !header.is_special() || !header.is_inner() {
                // All records of a transaction are special, and a batch is in one transaction or in none.
                break;
            }
            if let Some(body) = record::verify(self.life, &header, here) {
                decision = decision.or_else(|| decision_of(&header, &body));
                tasks += 1;
            }
            at += header.bytes;
        }
        if let Some((decision, more)) = decision.zip(batch.payload_bytes.checked_sub(1)) {
            self.note_part(batch, (batch.index, batch.index.saturating_add(more)), tasks, decision);
        }
    }

    fn note_part(&mut self, extent: &Header, indices: (u32, u32), tasks: u32, decision: Place) {
        self.scan.parts.push(Part { offset: extent.offset, bytes: extent.bytes, indices, tasks, decision });
    }

    /// A batch above the last mark: wholly kept or wholly void.
    fn batch(&mut self, batch: &Header, rest: &[u8]) {
        let count = batch.payload_bytes;
        let mut inner = Vec::new();
        let mut at = batch.step();
        while at < batch.bytes {
            let here = rest.get(at as usize..batch.bytes as usize).unwrap_or_default();
            let Found::Record(header) = record::read(self.life, self.at + at, here) else { break };
            let Some(body) = record::verify(self.life, &header, here).filter(|_| header.is_inner()) else { break };
            at += header.bytes;
            inner.push((header, body));
        }
        self.gap(batch.index);
        if at == batch.bytes && inner.len() == count as usize {
            if let Some(decision) = inner.first().and_then(|(header, body)| decision_of(header, body)) {
                self.note_part(batch, (batch.index, batch.index.saturating_add(count - 1)), count, decision);
            }
            for (header, body) in &inner {
                self.keep(header, body);
            }
        } else {
            let lost = count.checked_sub(1).map(|more| (batch.index, batch.index.saturating_add(more)));
            self.scan.flaws.push(Flaw::Torn { offset: self.at, bytes: batch.bytes, lost });
        }
        self.scan.records = self.scan.records.max(batch.index.saturating_add(count));
        self.at += batch.bytes;
    }

    fn keep(&mut self, header: &Header, body: &Body<'_>) {
        self.scan.ids.extend(id_of(header, body));
        self.scan.tasks += u32::from(header.kind == Kind::Task);
        self.scan.records = self.scan.records.max(header.index + 1);
        if header.index.is_multiple_of(SEEK_STRIDE) {
            self.scan.seek.push((header.index, header.offset));
        }
    }

    /// Indices below `index` that no record had: abandoned claims, or lost with the damage noted last.
    fn gap(&mut self, index: u32) {
        let expected = self.scan.records;
        if index <= expected {
            return;
        }
        self.scan.gaps.push((expected, index - 1));
        if let Some(Flaw::Corrupt { offset, bytes, lost: lost @ None }) = self.scan.flaws.last_mut()
            && *offset + *bytes == self.at
        {
            *lost = Some((expected, index - 1));
        }
    }

    fn corrupt(&mut self, bytes: u32, lost: Option<(u32, u32)>) {
        self.scan.flaws.push(Flaw::Corrupt { offset: self.at, bytes, lost });
        self.at += bytes;
    }

    fn skip_corrupt(&mut self, rest: &[u8]) {
        let next = resync(self.life, self.at, rest);
        // Without a further header the damage ends where the known durable bytes end.
        let to = next.map_or(self.scan.durable, |header| header.offset).max(self.at + 8);
        self.corrupt(to - self.at, None);
    }
}

/// Where in the journal the decision of the transaction stands that a record belongs to.
fn decision_of(header: &Header, body: &Body<'_>) -> Option<Place> {
    let (base, offset) = header.is_special().then(|| Traits::decode(body.fields).decision)??;
    Some(Place { base, offset })
}

/// A task's index and its dedup id, if it has one.
fn id_of(header: &Header, body: &Body<'_>) -> Option<(u32, DedupTrait)> {
    let is_task = header.kind == Kind::Task && header.is_special();
    Some((header.index, is_task.then(|| Traits::decode(body.fields).dedup)??))
}

fn word_at(bytes: &[u8], at: u32) -> Option<u64> {
    let at = at as usize;
    let word = bytes.get(at..at.checked_add(8)?)?;
    word.try_into().ok().map(u64::from_le_bytes)
}
