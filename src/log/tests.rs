//! One log on the simulated disk: claims, commits, marks, cursors, and what a scan makes of the bytes.

mod append;
mod commit;
mod concurrent;
mod cursor;
mod find;
mod marks;
#[cfg(loom)]
mod models;
mod pool;
mod scan;
mod undecided;
mod walk;

use std::sync::Arc;

use super::append::{Appended, Birth, Draft, Log, NotAppended};
use super::cursor::{Cursor, Source, Step};
use super::ready::Ready;
use super::segment::{Sealed, Segment};
use crate::format::record::{self, Header, INNER, Kind, Life, Record};
use crate::format::segment::{PRELUDE_BYTES, block_for, file_name};
use crate::sim::SimDisk;
use crate::storage::{Prepare, Storage};
use crate::types::{LogId, QueueId, Seq, Timestamp};

/// Where the first record of a life stands.
const PRELUDE: u32 = 512;
const _: () = assert!(PRELUDE as usize == PRELUDE_BYTES, "behind the prelude");
const NOW: Timestamp = Timestamp(1_000);

/// Makes segments ready, each with a file and a block of its own.
pub(super) struct Maker {
    disk: SimDisk,
    bytes: u64,
    files: u32,
    next_base: u64,
}

impl Maker {
    fn new(disk: &SimDisk, bytes: u64) -> Self {
        Maker { disk: disk.clone(), bytes, files: 0, next_base: 100 }
    }

    pub(super) fn ready(&mut self) -> Ready {
        self.files += 1;
        let file = self.disk.create(&file_name(self.files), self.bytes, Prepare::Small).unwrap();
        let region = file.map().unwrap();
        Ready { number: self.files, bytes: self.bytes, file, region }
    }

    pub(super) fn birth(&mut self) -> Birth {
        let base = self.next_base;
        self.next_base += u64::from(block_for(self.bytes));
        Birth { queue: QueueId(1), base, salt: self.disk.random(), created: NOW }
    }
}

/// A log that rolls to a new segment whenever it needs one.
pub(super) struct OneLog {
    pub(super) log: Log,
    disk: SimDisk,
    pub(super) maker: Maker,
}

impl OneLog {
    pub(super) fn new(segment_bytes: u64) -> Self {
        let disk = SimDisk::new(segment_bytes);
        let maker = Maker::new(&disk, segment_bytes);
        let mut made = OneLog { log: Log::new(LogId(0), Vec::new(), 0), disk, maker };
        made.roll();
        made
    }

    /// Rolls whatever room is left.
    pub(super) fn roll(&mut self) {
        let (ready, birth) = (self.maker.ready(), self.maker.birth());
        assert!(self.log.roll(ready, self.log.last_base(), &birth).is_none(), "nobody else rolls");
    }

    fn rolling(&mut self, append: impl Fn(&Log) -> Result<Appended, NotAppended>) -> Appended {
        match append(&self.log) {
            Ok(appended) => appended,
            Err(NotAppended::NeedsRoll { .. }) => {
                self.roll();
                append(&self.log).expect("fits an empty segment")
            }
            Err(error) => panic!("{error:?}"),
        }
    }

    pub(super) fn append(&mut self, payload: &[u8]) -> Appended {
        self.rolling(|log| log.append(&draft(payload), NOW))
    }

    fn append_power(&mut self, payload: &[u8]) -> Appended {
        self.rolling(|log| log.append(&Draft { flags: record::POWER, ..draft(payload) }, NOW))
    }

    fn batch(&mut self, payloads: &[&[u8]]) -> Appended {
        let drafts: Vec<_> = payloads.iter().map(|payload| draft(payload)).collect();
        self.rolling(|log| log.append_batch(&drafts, NOW))
    }

    pub(super) fn commit(&self) -> u64 {
        self.log.commit(NOW, false).expect("the disk syncs")
    }

    pub(super) fn active(&self) -> Arc<Segment> {
        self.log.segments().pop().expect("there is a segment")
    }

    /// The log as a later open finds it on `disk`, every life sealed where it ends now.
    fn found_on(&self, disk: &SimDisk) -> Log {
        let head = self.log.head().unwrap();
        // A file of which the name did not survive is no life.
        let found = self.log.segments().into_iter().filter_map(|segment| {
            let sealed = segment.sealed().unwrap_or(Sealed { end: head.1, records: head.2 });
            let file = disk.open(&segment.file_name()).ok()?;
            let seek = (0..).step_by(1024).zip(segment.seek_table(sealed.records)).collect();
            let start = segment.position(0);
            let (header, bytes, tasks) = (*segment.header(), self.maker.bytes, segment.tasks());
            Some(Arc::new(Segment::found(header, file, start, bytes, sealed, tasks, seek)))
        });
        Log::new(LogId(0), found.collect(), self.log.last_base())
    }
}

pub(super) fn draft(payload: &[u8]) -> Draft<'_> {
    Draft { kind: Kind::Task, flags: 0, fields: &[], payload }
}

/// Sequences and payloads of everything that a new cursor delivers, when everything below `durable` is durable.
pub(super) fn delivered(log: &Log, durable: u64) -> Vec<(Seq, Vec<u8>)> {
    let (mut cursor, mut tasks) = (Cursor::from_base(0), Vec::new());
    loop {
        match cursor.step(log, durable) {
            Step::Entered => {}
            Step::Task(header) => {
                let (seq, payload) = read(&cursor, &header);
                tasks.push((seq, payload.expect("delivered is whole")));
            }
            Step::End => return tasks,
            Step::Damaged { offset, .. } => panic!("damage at {offset} in a whole log"),
            Step::Unreadable { error, .. } => panic!("{error}"),
        }
    }
}

/// Sequence and payload of a task that the cursor stepped over; no payload if the body does not verify.
fn read(cursor: &Cursor, header: &Header) -> (Seq, Option<Vec<u8>>) {
    let Source { segment, region } = cursor.source().expect("who stepped over a task stands in its life");
    let bytes = region.slice(header.offset as usize..region.readable()).expect("a task is readable");
    let body = record::verify(segment.life(), header, bytes);
    (segment.seq(header.index), body.map(|body| body.payload.to_vec()))
}

/// The next step but entering a life.
fn step(cursor: &mut Cursor, log: &Log, durable: u64) -> Step {
    match cursor.step(log, durable) {
        Step::Entered => cursor.step(log, durable),
        step => step,
    }
}

/// A life's bytes, laid record by record.
struct Laid {
    life: Life,
    bytes: Vec<u8>,
    /// Index of the next record.
    index: u32,
}

impl Laid {
    fn new(life: Life) -> Self {
        Laid { life, bytes: vec![0; PRELUDE_BYTES], index: 0 }
    }

    fn end(&self) -> u32 {
        u32::try_from(self.bytes.len()).unwrap()
    }

    fn record(&mut self, kind: Kind, flags: u8, payload: &[u8]) -> u32 {
        let offset = self.end();
        let record = Record { index: self.index, kind, flags, time: NOW, fields: &[], payload };
        self.bytes.extend(record::seal(self.life, offset, &record).unwrap());
        self.bytes.extend_from_slice(payload);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        self.index += u32::from(kind != Kind::Mark);
        offset
    }

    fn task(&mut self, payload: &[u8]) -> u32 {
        self.record(Kind::Task, 0, payload)
    }

    fn mark(&mut self, base: u64, offset: u32) -> u32 {
        self.record(Kind::Mark, 0, &record::mark_payload(base, offset))
    }

    /// A batch; returns the offsets of its header and its records.
    fn batch(&mut self, payloads: &[&[u8]]) -> Vec<u32> {
        let mut offsets = vec![self.end()];
        let bytes: u32 = payloads.iter().map(|payload| record::extent_bytes(0, payload.len()).unwrap()).sum();
        let count = u32::try_from(payloads.len()).unwrap();
        self.bytes.extend(record::seal_batch(self.life, self.end(), 32 + bytes, self.index, count, NOW));
        offsets.extend(payloads.iter().map(|payload| self.record(Kind::Task, INNER, payload)));
        offsets
    }

    /// A claim for one record that was never published, over whatever lay there.
    fn hole(&mut self, bytes: u32) -> u32 {
        let word = record::claim_word(self.life, self.end(), bytes);
        self.index += 1;
        self.bare(word.0, bytes)
    }

    fn padding(&mut self, bytes: u32) -> u32 {
        let word = record::padding_word(self.life, self.end(), bytes);
        self.index += 1;
        self.bare(word.0, bytes)
    }

    fn bare(&mut self, word: u64, bytes: u32) -> u32 {
        let offset = self.end();
        self.bytes.extend_from_slice(&word.to_le_bytes());
        self.bytes.resize((offset + bytes) as usize, 0x5A);
        offset
    }

    fn zeros(&mut self, count: usize) {
        self.bytes.resize(self.bytes.len() + count, 0);
    }

    fn flip(&mut self, at: u32) {
        self.bytes[at as usize] ^= 1;
    }
}
