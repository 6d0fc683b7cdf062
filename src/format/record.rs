//! One record of a segment: what is framed, checksummed and found again.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | extent bytes, a multiple of 8, and the state in the low 3 bits ([`ExtentWord`]) |
//! | 4 | 4 | head check |
//! | 8 | 4 | index of the record in its life; its sequence is base + index |
//! | 12 | 1 | kind: 1 task, 2 mark, 3 batch, 4 journal entry |
//! | 13 | 1 | flags: 1 deliverable only when durable, 2 inside a batch, 4 delivery must know of a field, 8 moved |
//! | 14 | 2 | bytes of optional fields |
//! | 16 | 4 | bytes of payload; for a batch, the count of its records |
//! | 20 | 4 | body check; 0 for a batch |
//! | 24 | 6 | enqueue time, milliseconds since the epoch |
//! | 30 | 2 | room for a fine priority, 0 now |
//! | 32 | | optional fields, then payload, then zeros up to a multiple of 8 |
//!
//! Valid if and only if the head check is the CRC-32 of bytes 0–32, with zeros for 4–8, under the head seed, the kind is
//! known, the state is *published*, the extent's length is exactly what the lengths need (for a batch: at least
//! the header and 32 bytes for each of its records), the index is at most the record's offset / 32 (no record is smaller; of a record that was moved it is below 2^25), the body check is the CRC-32 of fields and payload under the body seed, and what
//! follows them up to the extent's end is zero.
//!
//! # Seeds
//!
//! Both checks start from a state made of the life's random salt and the record's own offset; the body's also of
//! the record's sequence, kind, flags, lengths and time. CRC-32 is linear
//! and invertible in its initial state: the same bytes under two different states of the same length never
//! have the same CRC. So a record that is copied to another offset of its life can't validate there, one of
//! another life does so only if half a salt repeats (2^-32), and a payload that contains a sealed record is
//! just bytes: whatever offset it was sealed for, it stands at another.
//!
//! # A batch
//!
//! A batch is one extent: a batch header whose first word covers header and records, then the records, each
//! sealed for its own offset. Whoever walks extents steps over it whole; whoever reads records steps over the
//! header's 32 bytes and then from record to record.
//!
//! # Words of unfinished extents
//!
//! A claimed extent that is not published, and padding, consist of their first word: length, state, and a
//! check mixed from salt, offset and the low half. It costs a claim two multiplications; a word is in doubt for
//! as long as its extent is being filled, and what it guards is a length inside the segment.

use std::ops::Range;

use crc32fast::Hasher;

use crate::sabotage::{Bug, on};
use crate::types::{ExtentState, ExtentWord, Timestamp, mix};

use super::segment::BLOCK_MAX;

/// What seals and verifies the records of one segment life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Life {
    /// Random bits of this life.
    pub salt: u64,
    /// Sequence of record index 0.
    pub base: u64,
}

/// Bytes of a record's header.
pub(crate) const HEADER_BYTES: usize = 32;
/// Bytes of a mark record.
pub(crate) const MARK_BYTES: u32 = 48;
/// Flag: the task is deliverable only when it is durable.
pub(crate) const POWER: u8 = 1;
/// Flag: the record lies inside a batch's extent.
pub(crate) const INNER: u8 = 2;

/// Flag: among the fields is something that delivery must know, see `fields`.
pub(crate) const SPECIAL: u8 = 4;

/// Flag: the record was moved to a cold life, so its index says nothing of its place.
pub(crate) const MOVED: u8 = 8;

/// The largest extent: what the word's length field and 32-bit offsets allow, with room to spare.
const EXTENT_BYTES_MAX: usize = 1 << 30;
/// An odd multiplier spreads offsets over 32 bits, one to one.
const OFFSET_SPREAD: u32 = 0x9E37_79B1;
const TIME_MASK: u64 = (1 << 48) - 1;

/// What a record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Task,
    /// Notes up to where the log was durable when the commit began that wrote it.
    Mark,
    Batch,
    /// Journal entries.
    Entry,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Kind::Task => 1,
            Kind::Mark => 2,
            Kind::Batch => 3,
            Kind::Entry => 4,
        }
    }

    fn from_code(code: u8) -> Option<Kind> {
        match code {
            1 => Some(Kind::Task),
            2 => Some(Kind::Mark),
            3 => Some(Kind::Batch),
            4 => Some(Kind::Entry),
            _ => None,
        }
    }
}

/// A record to be sealed.
pub(crate) struct Record<'a> {
    pub index: u32,
    pub kind: Kind,
    pub flags: u8,
    pub time: Timestamp,
    pub fields: &'a [u8],
    pub payload: &'a [u8],
}

/// A header that verified. Its body is not verified by that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    /// Where it stands in its segment.
    pub offset: u32,
    /// Bytes of the extent that begins here.
    pub bytes: u32,
    pub index: u32,
    pub kind: Kind,
    pub flags: u8,
    pub fields_bytes: u16,
    pub payload_bytes: u32,
    body_check: u32,
    pub time: Timestamp,
}

/// What stands at an offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    /// The first word is zero: nothing was ever claimed here in this life, or it did not survive.
    Empty,
    /// Claimed and never published.
    Hole {
        bytes: u32,
    },
    Padding {
        bytes: u32,
    },
    Record(Header),
    /// Nothing that verifies.
    Invalid,
}

/// Optional fields and payload of a record whose body verified.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Body<'a> {
    pub fields: &'a [u8],
    pub payload: &'a [u8],
}

/// Bytes of the extent of a record, or `None` if its lengths don't fit their fields.
#[inline]
pub(crate) fn extent_bytes(fields: usize, payload: usize) -> Option<u32> {
    let bytes = HEADER_BYTES.checked_add(fields)?.checked_add(payload)?.checked_next_multiple_of(8)?;
    if fields > usize::from(u16::MAX) || bytes > EXTENT_BYTES_MAX {
        return None;
    }
    u32::try_from(bytes).ok()
}

/// The first word of an extent that is being filled.
#[inline]
pub(crate) fn claim_word(life: Life, offset: u32, bytes: u32) -> ExtentWord {
    bare_word(life, offset, bytes, ExtentState::Claimed)
}

/// The first word, and all, of an extent that holds nothing.
pub(crate) fn padding_word(life: Life, offset: u32, bytes: u32) -> ExtentWord {
    bare_word(life, offset, bytes, ExtentState::Padding)
}

#[inline]
fn bare_word(life: Life, offset: u32, bytes: u32, state: ExtentState) -> ExtentWord {
    let low = ExtentWord::low_of(bytes, state);
    let check = fold(mix(life.salt ^ (u64::from(offset) << 32) ^ u64::from(low)));
    ExtentWord::new(bytes, state, check)
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "both halves go in")]
fn fold(value: u64) -> u32 {
    (value >> 32) as u32 ^ value as u32
}

/// Seals a record for its place. Bytes 0–8 of the result are the final word, which is published last. `None` if
/// a length does not fit its field.
#[inline]
pub(crate) fn seal(life: Life, offset: u32, record: &Record<'_>) -> Option<[u8; HEADER_BYTES]> {
    let bytes = extent_bytes(record.fields.len(), record.payload.len())?;
    let fields_bytes = u16::try_from(record.fields.len()).ok()?;
    let payload_bytes = u32::try_from(record.payload.len()).ok()?;
    let header = Header {
        offset,
        bytes,
        index: record.index,
        kind: record.kind,
        flags: record.flags,
        fields_bytes,
        payload_bytes,
        body_check: 0,
        time: Timestamp(record.time.0 & TIME_MASK),
    };
    let body_check = body_crc(life, &header, record.fields, record.payload);
    Some(encode(life, &Header { body_check, ..header }))
}

/// Seals the header of a batch extent of `bytes` bytes.
pub(crate) fn seal_batch(
    life: Life,
    offset: u32,
    bytes: u32,
    first_index: u32,
    count: u32,
    time: Timestamp,
) -> [u8; HEADER_BYTES] {
    let header = Header {
        offset,
        bytes,
        index: first_index,
        kind: Kind::Batch,
        flags: 0,
        fields_bytes: 0,
        payload_bytes: count,
        body_check: 0,
        time: Timestamp(time.0 & TIME_MASK),
    };
    encode(life, &header)
}

/// The final word of a sealed header.
#[inline]
pub(crate) fn word_of(header: &[u8; HEADER_BYTES]) -> ExtentWord {
    ExtentWord(u64::from_le_bytes(field::<0, 8>(header)))
}

/// What stands at `offset`; `bytes` begin there and may end anywhere.
#[inline]
pub(crate) fn read(life: Life, offset: u32, bytes: &[u8]) -> Found {
    let Some(word) = bytes.first_chunk::<8>() else { return Found::Invalid };
    let word = ExtentWord(u64::from_le_bytes(*word));
    if word.0 == 0 {
        return Found::Empty;
    }
    if word.bytes() < 8 || word.bytes() as usize > EXTENT_BYTES_MAX {
        return Found::Invalid;
    }
    match word.state() {
        ExtentState::Claimed if word == claim_word(life, offset, word.bytes()) => Found::Hole { bytes: word.bytes() },
        ExtentState::Padding if word == padding_word(life, offset, word.bytes()) => {
            Found::Padding { bytes: word.bytes() }
        }
        ExtentState::Published => match bytes.first_chunk().and_then(|header| decode(life, offset, header)) {
            Some(header) => Found::Record(header),
            None => Found::Invalid,
        },
        _ => Found::Invalid,
    }
}

/// Fields and payload of the record at the front of `extent`, if its body verifies.
#[inline]
pub(crate) fn verify<'a>(life: Life, header: &Header, extent: &'a [u8]) -> Option<Body<'a>> {
    if header.kind == Kind::Batch {
        return None;
    }
    let body = extent.get(HEADER_BYTES..header.bytes as usize)?;
    let (fields, rest) = body.split_at_checked(usize::from(header.fields_bytes))?;
    let (payload, gap) = rest.split_at_checked(header.payload_bytes as usize)?;
    let whole = body_crc(life, header, fields, payload) == header.body_check && gap.iter().all(|byte| *byte == 0);
    whole.then_some(Body { fields, payload })
}

impl Found {
    /// Bytes of the extent that begins there; 0 where none is known.
    #[inline]
    pub(crate) fn extent_bytes(&self) -> u32 {
        match self {
            Found::Record(header) => header.bytes,
            Found::Hole { bytes } | Found::Padding { bytes } => *bytes,
            Found::Empty | Found::Invalid => 0,
        }
    }
}

impl Header {
    /// Bytes to the next record for whoever reads records in order.
    #[inline]
    pub(crate) fn step(&self) -> u32 {
        match self.kind {
            Kind::Batch => BATCH_STEP,
            Kind::Task | Kind::Mark | Kind::Entry => self.bytes,
        }
    }

    pub(crate) fn is_power(&self) -> bool {
        self.flags & POWER != 0
    }

    #[inline]
    pub(crate) fn is_special(&self) -> bool {
        self.flags & SPECIAL != 0
    }

    pub(crate) fn is_inner(&self) -> bool {
        self.flags & INNER != 0
    }

    /// Where the optional fields lie in the segment.
    pub(crate) fn fields_range(&self) -> Range<usize> {
        let start = self.offset as usize + HEADER_BYTES;
        start..start + usize::from(self.fields_bytes)
    }

    /// Where the payload lies in the segment.
    pub(crate) fn payload_range(&self) -> Range<usize> {
        let start = self.fields_range().end;
        start..start + self.payload_bytes as usize
    }
}

/// Payload of a mark: the life's base, the offset up to which everything was durable, four zero bytes.
pub(crate) fn mark_payload(base: u64, offset: u32) -> [u8; 16] {
    let mut payload = [0; 16];
    let (head, tail) = payload.split_at_mut(8);
    head.copy_from_slice(&base.to_le_bytes());
    if let Some(place) = tail.first_chunk_mut() {
        *place = offset.to_le_bytes();
    }
    payload
}

/// Base and offset that a mark speaks of.
pub(crate) fn read_mark(payload: &[u8]) -> Option<(u64, u32)> {
    let payload: &[u8; 16] = payload.try_into().ok()?;
    Some((u64::from_le_bytes(field::<0, 8>(payload)), u32::from_le_bytes(field::<8, 4>(payload))))
}

#[inline]
fn encode(life: Life, header: &Header) -> [u8; HEADER_BYTES] {
    let low = ExtentWord::low_of(header.bytes, ExtentState::Published);
    let kind_flags = [header.kind.code(), header.flags];
    let mut out = [0; HEADER_BYTES];
    put::<0, 4>(&mut out, low.to_le_bytes());
    put::<8, 4>(&mut out, header.index.to_le_bytes());
    put::<12, 2>(&mut out, kind_flags);
    put::<14, 2>(&mut out, header.fields_bytes.to_le_bytes());
    put::<16, 4>(&mut out, header.payload_bytes.to_le_bytes());
    put::<20, 4>(&mut out, header.body_check.to_le_bytes());
    put::<24, 8>(&mut out, header.time.0.to_le_bytes());
    let check = head_crc(life, header.offset, &out);
    put::<4, 4>(&mut out, check.to_le_bytes());
    out
}

#[inline]
fn decode(life: Life, offset: u32, bytes: &[u8; HEADER_BYTES]) -> Option<Header> {
    let kind = Kind::from_code(bytes[12])?;
    let word = word_of(bytes);
    let fields_bytes = u16::from_le_bytes(field::<14, 2>(bytes));
    let payload_bytes = u32::from_le_bytes(field::<16, 4>(bytes));
    let consistent = match kind {
        Kind::Batch => {
            word.bytes() >= BATCH_STEP && payload_bytes <= (word.bytes() - BATCH_STEP) / BATCH_STEP && fields_bytes == 0
        }
        Kind::Task | Kind::Mark | Kind::Entry => {
            extent_bytes(usize::from(fields_bytes), payload_bytes as usize) == Some(word.bytes())
        }
    };
    let index = u32::from_le_bytes(field::<8, 4>(bytes));
    let index_max = if bytes[13] & MOVED != 0 { BLOCK_MAX - 1 } else { offset / BATCH_STEP };
    let fits = index <= index_max;
    if !consistent || !fits || head_crc(life, offset, bytes) != word.check() {
        return None;
    }
    Some(Header {
        offset,
        bytes: word.bytes(),
        index,
        kind,
        flags: bytes[13],
        fields_bytes,
        payload_bytes,
        body_check: u32::from_le_bytes(field::<20, 4>(bytes)),
        time: Timestamp(u64::from_le_bytes(field::<24, 8>(bytes)) & TIME_MASK),
    })
}

/// Writes the checks of the record at the front of `extent`, whatever it says. True if it is a batch, `None` if it is
/// nothing known. For the fuzzers.
#[cfg(any(test, feature = "sim"))]
pub(super) fn forge(life: Life, offset: u32, extent: &mut [u8]) -> Option<bool> {
    let (header, body) = extent.split_first_chunk_mut::<HEADER_BYTES>()?;
    let kind = Kind::from_code(header[12])?;
    let made = Header {
        offset,
        bytes: word_of(header).bytes(),
        index: u32::from_le_bytes(field::<8, 4>(header)),
        kind,
        flags: header[13],
        fields_bytes: u16::from_le_bytes(field::<14, 2>(header)),
        payload_bytes: u32::from_le_bytes(field::<16, 4>(header)),
        body_check: 0,
        time: Timestamp(u64::from_le_bytes(field::<24, 8>(header)) & TIME_MASK),
    };
    if let Some((fields, rest)) = body.split_at_checked(usize::from(made.fields_bytes))
        && let Some(payload) = rest.get(..made.payload_bytes as usize).filter(|_| kind != Kind::Batch)
    {
        put::<20, 4>(header, body_crc(life, &made, fields, payload).to_le_bytes());
    }
    let check = head_crc(life, offset, header);
    put::<4, 4>(header, check.to_le_bytes());
    Some(kind == Kind::Batch)
}

/// CRC of the header with zeros in place of the check itself: 32 bytes in a row, which a CRC by tables takes in two
/// steps.
#[inline]
fn head_crc(life: Life, offset: u32, header: &[u8; HEADER_BYTES]) -> u32 {
    let mut input = *header;
    put::<4, 4>(&mut input, [0; 4]);
    let mut crc = Hasher::new_with_initial(head_seed(life, offset));
    crc.update(&input);
    crc.finalize()
}

#[inline]
fn body_crc(life: Life, header: &Header, fields: &[u8], payload: &[u8]) -> u32 {
    // What the head check covers as well goes in by the initial state: sequence, kind, flags, lengths, time.
    let base = if on(Bug::NoSalt) { 0 } else { life.base };
    let seq = base.wrapping_add(u64::from(header.index));
    let lengths = u64::from(header.payload_bytes) << 16 | u64::from(header.fields_bytes);
    let kind = u64::from(header.kind.code()) << 8 | u64::from(header.flags);
    let about = mix(seq ^ mix(lengths << 16 | kind) ^ header.time.0.rotate_left(40));
    let mut crc = Hasher::new_with_initial(body_seed(life, header.offset) ^ fold(about));
    if !fields.is_empty() {
        crc.update(fields);
    }
    crc.update(payload);
    crc.finalize()
}

#[inline]
fn head_seed(life: Life, offset: u32) -> u32 {
    (life.salt >> 32) as u32 ^ offset.wrapping_mul(OFFSET_SPREAD)
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the low half of the salt is meant")]
fn body_seed(life: Life, offset: u32) -> u32 {
    life.salt as u32 ^ offset.wrapping_mul(OFFSET_SPREAD)
}

/// `N` bytes at `AT`. Callers pass arrays, so the bounds are constants and the check folds away.
#[inline(always)]
fn field<const AT: usize, const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.get(AT..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

/// Stores `value` at `AT`, likewise.
#[inline(always)]
fn put<const AT: usize, const N: usize>(out: &mut [u8], value: [u8; N]) {
    if let Some(slot) = out.get_mut(AT..).and_then(|rest| rest.first_chunk_mut()) {
        *slot = value;
    }
}

/// A batch header's own bytes.
const BATCH_STEP: u32 = 32;

const _: () = assert!(BATCH_STEP as usize == HEADER_BYTES, "a batch header is a header");
const _: () = assert!(MARK_BYTES as usize == HEADER_BYTES + 16, "a mark is a header and its payload");
