//! A segment file: its first sector, which says whose life it is, and its footer.
//!
//! # The prelude: the first 512 bytes, one sector
//!
//! The life header stands twice, at 0 and at 256, so that one flipped bit costs nothing.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `LANESEG1` |
//! | 8 | 4 | format version |
//! | 12 | 4 | file number |
//! | 16 | 8 | queue id |
//! | 24 | 8 | bytes of the file when it was made |
//! | 32 | 2 | log: 0–255 a lane, 256 the journal |
//! | 34 | 2 | zero |
//! | 36 | 4 | block: sequences that this life may use |
//! | 40 | 8 | base: the first of them |
//! | 48 | 8 | salt |
//! | 56 | 8 | base of the life before in the same log, 0 for none |
//! | 64 | 4 | where that one ended |
//! | 68 | 4 | 1 if the life is cold, else 0 |
//! | 72 | 8 | time of attachment |
//! | 80 | 4 | CRC-32 of bytes 0–80 |
//!
//! Valid if and only if one copy has the magic, a known version and its CRC, the log is known, the size is at most
//! 1 GiB, the block is what such a size needs, and the base is below 2^62. Of a cold life the block is what some size up to
//! 1 GiB needs.
//!
//! A *cold* life holds what still lived of an earlier life with the same base and block: records with the indices that they
//! had, in their order and with gaps between them. It is whole from the start, and sealed.
//!
//! # The footer: the last bytes of the file, once the life is sealed and durable
//!
//! | offset from the end | bytes | field |
//! |---|---|---|
//! | 48 + 4n | 4n | seek table: offset of every 1,024th record (of a cold life: of the first from there on), 0 where unknown |
//! | 48 | 8 | magic `LANEFOOT` |
//! | 40 | 8 | base |
//! | 32 | 4 | record indices used |
//! | 28 | 4 | task records |
//! | 24 | 4 | end of the last extent |
//! | 20 | 4 | n |
//! | 16 | 4 | bit 0: a record may have a dedup id, else nobody looks for any; bit 1: the life is cold |
//! | 12 | 8 | zero: room |
//! | 4 | 4 | CRC-32 of the table and the 44 bytes before, from a state made of the salt |
//!
//! Valid if and only if magic, CRC and base are right, the end lies before the table, and there are at most end / 32
//! indices (of a cold life: as many as the largest segment has) and as many tasks as that at most. It is written only after everything before it is durable, so it also proves
//! that.

use crate::sabotage::{Bug, on};
use crate::types::{LogId, QueueId, Timestamp};

use super::FORMAT_VERSION;
use super::record::{HEADER_BYTES, Life};
use super::wire::{Reader, Writer};

/// Bytes before the first record.
pub(crate) const PRELUDE_BYTES: usize = 512;
/// Every how many records the seek table has an entry.
pub(crate) const SEEK_STRIDE: u32 = 1024;
/// The largest segment: offsets fit 32 bits with room to spare.
pub(crate) const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// Sequences that a life may use at most.
pub(crate) const BLOCK_MAX: u32 = 1 << 25;
/// No sequence reaches this: far above what a queue can hand out, and counting on from there never overflows.
pub(crate) const SEQUENCES_END: u64 = 1 << 62;
/// No file number reaches this, likewise.
const FILES_END: u32 = 1 << 31;
/// Bytes of the footer without its seek table.
pub(crate) const FOOTER_TRAILER_BYTES: usize = 48;

/// A header is the smallest record.
const RECORD_BYTES_MIN: u32 = 32;
const PRELUDE_MAGIC: u64 = u64::from_le_bytes(*b"LANESEG1");
const FOOTER_MAGIC: u64 = u64::from_le_bytes(*b"LANEFOOT");
const COPY_BYTES: usize = 256;
const CHECKED_BYTES: usize = 80;

/// One life of a segment file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LifeHeader {
    pub queue: QueueId,
    pub file: u32,
    pub size: u64,
    pub log: LogId,
    pub base: u64,
    pub block: u32,
    pub salt: u64,
    pub predecessor: u64,
    pub predecessor_end: u32,
    pub created: Timestamp,
    /// What lived of an earlier life with this base.
    pub cold: bool,
}

/// Why a prelude is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BadPrelude {
    /// All zero: the file never had a life.
    Blank,
    /// Written by another version.
    Version(u32),
    Invalid,
}

impl LifeHeader {
    pub(crate) fn encode(&self) -> [u8; PRELUDE_BYTES] {
        let mut out = Writer::default();
        out.u64(PRELUDE_MAGIC).u32(FORMAT_VERSION).u32(self.file).u64(self.queue.0).u64(self.size);
        out.u16(self.log.0).u16(0).u32(self.block).u64(self.base).u64(self.salt);
        out.u64(self.predecessor).u32(self.predecessor_end).u32(u32::from(self.cold)).u64(self.created.0);
        let mut copy = out.into_bytes();
        let check = crc32fast::hash(&copy);
        copy.extend_from_slice(&check.to_le_bytes());
        copy.resize(COPY_BYTES, 0);
        let mut prelude = [0; PRELUDE_BYTES];
        for half in prelude.chunks_exact_mut(COPY_BYTES) {
            half.copy_from_slice(&copy);
        }
        prelude
    }

    pub(crate) fn decode(prelude: &[u8]) -> Result<LifeHeader, BadPrelude> {
        if prelude.iter().all(|byte| *byte == 0) {
            return Err(BadPrelude::Blank);
        }
        let mut version = None;
        for copy in prelude.chunks_exact(COPY_BYTES).take(2) {
            match Self::decode_copy(copy) {
                Some(Ok(header)) => return Ok(header),
                Some(Err(found)) => version = Some(found),
                None => {}
            }
        }
        Err(version.map_or(BadPrelude::Invalid, BadPrelude::Version))
    }

    /// One copy: `None` if it does not verify, `Some(Err)` if another version wrote it.
    fn decode_copy(copy: &[u8]) -> Option<Result<LifeHeader, u32>> {
        let checked = copy.get(..CHECKED_BYTES)?;
        let check: [u8; 4] = copy.get(CHECKED_BYTES..CHECKED_BYTES + 4)?.try_into().ok()?;
        let mut from = Reader::new(checked);
        if from.u64()? != PRELUDE_MAGIC || crc32fast::hash(checked) != u32::from_le_bytes(check) {
            return None;
        }
        let version = from.u32()?;
        if version != FORMAT_VERSION {
            return Some(Err(version));
        }
        let (file, queue, size) = (from.u32()?, QueueId(from.u64()?), from.u64()?);
        let log = LogId(from.u16()?);
        from.skip(2)?;
        let (block, base, salt) = (from.u32()?, from.u64()?, from.u64()?);
        let (predecessor, predecessor_end) = (from.u64()?, from.u32()?);
        let cold = from.u32()? == 1;
        let created = Timestamp(from.u64()?);
        let header =
            LifeHeader { queue, file, size, log, base, block, salt, predecessor, predecessor_end, created, cold };
        let block_fits = if cold { block <= BLOCK_MAX && log.lane().is_some() } else { block == block_for(size) };
        let fits = size <= SEGMENT_BYTES_MAX && block_fits && base < SEQUENCES_END && predecessor < base;
        (fits && log.0 <= LogId::JOURNAL.0).then_some(Ok(header))
    }

    pub(crate) fn life(&self) -> Life {
        if on(Bug::NoSalt) {
            return Life { salt: 0, base: self.base };
        }
        Life { salt: self.salt, base: self.base }
    }
}

/// Writes the checks of both copies of a prelude, whatever they say. For the fuzzers.
#[cfg(any(test, feature = "sim"))]
pub(super) fn forge_prelude(prelude: &mut [u8]) {
    for copy in prelude.chunks_exact_mut(COPY_BYTES) {
        if let Some((checked, check)) = copy.split_at_mut_checked(CHECKED_BYTES)
            && checked.starts_with(&PRELUDE_MAGIC.to_le_bytes())
            && let Some(check) = check.first_chunk_mut()
        {
            *check = crc32fast::hash(checked).to_le_bytes();
        }
    }
}

/// Writes the check of a footer, whatever it says. For the fuzzers.
#[cfg(any(test, feature = "sim"))]
pub(super) fn forge_footer(life: Life, footer: &mut [u8]) {
    if let Some((checked, check)) = footer.split_last_chunk_mut::<4>() {
        *check = footer_crc(life, checked).to_le_bytes();
    }
}

/// Room that a footer can need at the end of a segment of `size` bytes.
pub(crate) fn footer_bytes_max(size: u64) -> u64 {
    let records_max = size / HEADER_BYTES as u64;
    FOOTER_TRAILER_BYTES as u64 + 4 * records_max.div_ceil(u64::from(SEEK_STRIDE))
}

/// Offset where records of a segment of `size` bytes must end.
pub(crate) fn record_limit(size: u64) -> u32 {
    let limit = size.saturating_sub(footer_bytes_max(size)) & !7;
    u32::try_from(limit).unwrap_or(u32::MAX - 7)
}

/// Sequences that a life in a segment of `size` bytes may use: one for the smallest record each, so more than fit
/// behind the prelude, and the last of one life and the first of the next never touch.
pub(crate) fn block_for(size: u64) -> u32 {
    u32::try_from(size / HEADER_BYTES as u64).unwrap_or(u32::MAX)
}

/// A seek table from (index, offset) pairs: one offset for each stride of so many records, 0 where none is known, up to the
/// last that is.
pub(crate) fn seek_table(known: &[(u32, u32)], records: u32) -> Vec<u32> {
    let mut table = vec![0; records.div_ceil(SEEK_STRIDE) as usize];
    for (index, offset) in known {
        if let Some(slot) = table.get_mut((index / SEEK_STRIDE) as usize) {
            *slot = *offset;
        }
    }
    table.truncate(table.iter().rposition(|offset| *offset > 0).map_or(0, |last| last + 1));
    table
}

/// What a seek table says, as (index, offset) pairs.
pub(crate) fn seek_pairs(table: &[u32]) -> Vec<(u32, u32)> {
    let pairs = (0..).step_by(SEEK_STRIDE as usize).zip(table);
    pairs.filter(|(_, offset)| **offset > 0).map(|(index, offset)| (index, *offset)).collect()
}

/// What a sealed life holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Footer {
    pub base: u64,
    pub records: u32,
    pub tasks: u32,
    pub end: u32,
    /// A record may have a dedup id.
    pub has_ids: bool,
    pub cold: bool,
    pub seek: Vec<u32>,
}

impl Footer {
    /// Seek table and trailer; they are written so that they end where the file ends.
    pub(crate) fn encode(&self, life: Life) -> Vec<u8> {
        let mut out = Writer::default();
        for offset in &self.seek {
            out.u32(*offset);
        }
        out.u64(FOOTER_MAGIC).u64(self.base).u32(self.records).u32(self.tasks).u32(self.end);
        out.u32(u32::try_from(self.seek.len()).unwrap_or(u32::MAX))
            .u32(u32::from(self.has_ids) | u32::from(self.cold) << 1)
            .u64(0);
        let mut bytes = out.into_bytes();
        let check = footer_crc(life, &bytes);
        bytes.extend_from_slice(&check.to_le_bytes());
        bytes
    }

    /// Bytes of the seek table that stand before a trailer. Not verified yet.
    pub(crate) fn index_bytes(trailer: &[u8; FOOTER_TRAILER_BYTES]) -> Option<u64> {
        let mut from = Reader::new(trailer);
        if from.u64()? != FOOTER_MAGIC {
            return None;
        }
        from.skip(20)?;
        Some(4 * u64::from(from.u32()?))
    }

    /// Decodes seek table and trailer.
    pub(crate) fn decode(life: Life, bytes: &[u8]) -> Option<Footer> {
        let (checked, check) = bytes.split_last_chunk::<4>()?;
        if footer_crc(life, checked) != u32::from_le_bytes(*check) {
            return None;
        }
        let table_bytes = bytes.len().checked_sub(FOOTER_TRAILER_BYTES)?;
        let (table, trailer) = checked.split_at_checked(table_bytes)?;
        let mut from = Reader::new(trailer);
        if from.u64()? != FOOTER_MAGIC {
            return None;
        }
        let (base, records, tasks, end) = (from.u64()?, from.u32()?, from.u32()?, from.u32()?);
        let fits_table = u64::from(from.u32()?) * 4 == table.len() as u64;
        let flags = from.u32()?;
        let (has_ids, cold) = (flags & 1 != 0, flags & 2 != 0);
        let records_max = if cold { BLOCK_MAX } else { end / RECORD_BYTES_MIN };
        if !fits_table || base != life.base || records > records_max || tasks > records {
            return None;
        }
        let mut from = Reader::new(table);
        let seek = std::iter::from_fn(|| from.u32()).collect();
        Some(Footer { base, records, tasks, end, has_ids, cold, seek })
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low half of the salt is meant")]
fn footer_crc(life: Life, bytes: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new_with_initial(life.salt as u32);
    crc.update(bytes);
    crc.finalize()
}

/// A segment file's name.
pub(crate) fn file_name(number: u32) -> String {
    format!("{number:08x}.seg")
}

/// The number in a segment file's name; `None` if it is no name of ours.
pub(crate) fn parse_file_name(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".seg").filter(|digits| digits.len() == 8)?;
    let canonical = digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let number = canonical.then(|| u32::from_str_radix(digits, 16).ok()).flatten();
    number.filter(|number| *number < FILES_END)
}

const _: () = assert!(CHECKED_BYTES + 4 <= COPY_BYTES && 2 * COPY_BYTES == PRELUDE_BYTES, "two copies in a sector");
const _: () = assert!(RECORD_BYTES_MIN as usize == HEADER_BYTES, "the smallest record is a header");
const _: () = assert!(BLOCK_MAX as u64 == SEGMENT_BYTES_MAX / HEADER_BYTES as u64, "what the largest segment needs");
