//! Optional fields of a task, between its header and its payload.
//!
//! A sequence of items: tag (1 byte), length (2 bytes), that many bytes. A reader skips tags it does not know, so that
//! later fields need no new version. Covered by the record's body check; valid if and only if the items end exactly
//! where the fields end.
//!
//! | tag | bytes | item |
//! |---|---|---|
//! | 1 | 1 + n + m | a header of the task: length of the name, name in UTF-8, value |
//! | 2 | 8 | not to be delivered before this wall time (ms) |
//! | 3 | 8 | not to be delivered from this wall time (ms) on |
//! | 4 | 1 to 255 | its key |
//! | 5 | 32 | dedup: fingerprint of its id 16, its high half first; wall time (ms) at which the id is free again 8, all ones: once the task is settled; number among all enqueues with an id 8, of two with one id the greater counts |
//! | 6 | 4 | most attempts, instead of the queue's |
//! | 7 | 18 | backoff, instead of the queue's: curve 1 (0 fixed, 1 linear, 2 exponential), jitter percent 1, first ms 8, most ms 8 |
//! | 8 | 8 | longest time of one attempt in ms, extensions included |
//! | 9 | 13 | it was a dead letter of another lane: group 4, lane 1, sequence 8; it is for that group alone |
//! | 10 | 12 | part of a transaction: place of the decision in the journal, base 8, offset 4 |
//!
//! Of each tag but 1 the first item counts. Whatever has one of the tags 2 to 10 has the record's flag *special*: who
//! hands out tasks looks at the fields of those alone.

use crate::types::{Backoff, Curve, LaneId, Seq, Timestamp};

use super::segment::SEQUENCES_END;
use super::wire::{Reader, Writer};

/// Most bytes that a task's fields can take.
pub(crate) const FIELDS_BYTES_MAX: usize = 65_535;
/// The longest key, in bytes.
pub(crate) const KEY_BYTES_MAX: usize = 255;

const TAG_HEADER: u8 = 1;
const TAG_RUN_AT: u8 = 2;
const TAG_EXPIRES: u8 = 3;
const TAG_KEY: u8 = 4;
const TAG_DEDUP: u8 = 5;
const TAG_MAX_ATTEMPTS: u8 = 6;
const TAG_BACKOFF: u8 = 7;
const TAG_TIME_LIMIT: u8 = 8;
const TAG_ORIGIN: u8 = 9;
const TAG_DECISION: u8 = 10;

/// What delivery has to know of a task beside its payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Traits<'a> {
    pub run_at: Option<Timestamp>,
    pub expires: Option<Timestamp>,
    pub key: Option<&'a [u8]>,
    pub dedup: Option<DedupTrait>,
    pub max_attempts: Option<u32>,
    pub backoff: Option<Backoff>,
    pub time_limit_ms: Option<u64>,
    pub origin: Option<Origin>,
    pub decision: Option<(u64, u32)>,
}

/// A task's dedup id as its record has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct DedupTrait {
    /// See [`super::dedup::fingerprint`].
    pub fingerprint: u128,
    /// From this wall time on the id is free again; [`UNTIL_SETTLED`](super::dedup::UNTIL_SETTLED): once the task is settled.
    pub ends: Timestamp,
    /// Its number among all enqueues with an id: of two that have the same id, the later one has the greater.
    pub order: u64,
}

/// The dead letter that a task was made from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Origin {
    /// The group that it is for.
    pub group: u32,
    pub lane: LaneId,
    pub seq: Seq,
}

impl<'a> Traits<'a> {
    /// True if there is nothing that delivery has to know.
    pub(crate) fn is_plain(&self) -> bool {
        *self == Traits::default()
    }

    /// Appends the items to `out`.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let mut put = |tag: u8, fill: &dyn Fn(&mut Writer)| {
            let mut item = Writer::default();
            fill(&mut item);
            let item = item.into_bytes();
            out.push(tag);
            out.extend_from_slice(&u16::try_from(item.len()).unwrap_or(u16::MAX).to_le_bytes());
            out.extend_from_slice(&item);
        };
        let number = |value: u64| {
            move |item: &mut Writer| {
                item.u64(value);
            }
        };
        if let Some(at) = self.run_at {
            put(TAG_RUN_AT, &number(at.0));
        }
        if let Some(at) = self.expires {
            put(TAG_EXPIRES, &number(at.0));
        }
        if let Some(key) = self.key {
            put(TAG_KEY, &|item| {
                item.raw(key);
            });
        }
        if let Some(dedup) = self.dedup {
            let (high, low) = halves(dedup.fingerprint);
            put(TAG_DEDUP, &|item| {
                item.u64(high).u64(low).u64(dedup.ends.0).u64(dedup.order);
            });
        }
        if let Some(attempts) = self.max_attempts {
            put(TAG_MAX_ATTEMPTS, &|item| {
                item.u32(attempts);
            });
        }
        if let Some(backoff) = self.backoff {
            put(TAG_BACKOFF, &|item| {
                item.u8(curve_code(backoff.curve)).u8(backoff.jitter_percent).u64(backoff.first_ms).u64(backoff.max_ms);
            });
        }
        if let Some(limit) = self.time_limit_ms {
            put(TAG_TIME_LIMIT, &number(limit));
        }
        if let Some(origin) = self.origin {
            put(TAG_ORIGIN, &|item| {
                item.u32(origin.group).u8(origin.lane.0).u64(origin.seq.0);
            });
        }
        if let Some((base, offset)) = self.decision {
            put(TAG_DECISION, &|item| {
                item.u64(base).u32(offset);
            });
        }
    }

    /// The traits among the items. An item that is malformed is as if it were not there.
    pub(crate) fn decode(fields: &'a [u8]) -> Self {
        let mut traits = Traits::default();
        for (tag, item) in items(fields) {
            let mut from = Reader::new(item);
            match tag {
                TAG_RUN_AT => traits.run_at = traits.run_at.or(from.u64().map(Timestamp)),
                TAG_EXPIRES => traits.expires = traits.expires.or(from.u64().map(Timestamp)),
                TAG_KEY => traits.key = traits.key.or(Some(item)).filter(|key| !key.is_empty()),
                TAG_DEDUP => traits.dedup = traits.dedup.or_else(|| DedupTrait::take(&mut from)),
                TAG_MAX_ATTEMPTS => traits.max_attempts = traits.max_attempts.or(from.u32()),
                TAG_BACKOFF => traits.backoff = traits.backoff.or_else(|| take_backoff(&mut from)),
                TAG_TIME_LIMIT => traits.time_limit_ms = traits.time_limit_ms.or(from.u64()),
                TAG_ORIGIN => traits.origin = traits.origin.or_else(|| Origin::take(&mut from)),
                TAG_DECISION => {
                    traits.decision = traits.decision.or_else(|| Some((from.u64()?, from.u32()?)));
                }
                _ => {}
            }
        }
        traits
    }
}

/// Bytes of the item that [`put_decision`] appends.
pub(crate) const DECISION_BYTES: usize = 3 + 12;

/// Appends the item that names a decision, whose place is stored later by [`set_decision`].
pub(crate) fn put_decision(out: &mut Vec<u8>) {
    Traits { decision: Some((0, 0)), ..Traits::default() }.encode(out);
}

/// Stores the place of the decision in the item that [`put_decision`] appended last.
pub(crate) fn set_decision(fields: &mut [u8], (base, offset): (u64, u32)) {
    if let Some(item) = fields.last_chunk_mut::<12>() {
        let (head, tail) = item.split_at_mut(8);
        head.copy_from_slice(&base.to_le_bytes());
        tail.copy_from_slice(&offset.to_le_bytes());
    }
}

/// Stores the order in the first dedup item, which [`Traits::encode`] wrote before it was known.
pub(crate) fn set_dedup_order(fields: &mut [u8], order: u64) {
    let mut rest = fields;
    while let Some(([tag, length @ ..], behind)) = rest.split_first_chunk_mut::<3>() {
        let (tag, length) = (*tag, usize::from(u16::from_le_bytes(*length)));
        let Some((item, next)) = behind.split_at_mut_checked(length) else { return };
        if tag == TAG_DEDUP {
            if let Some(place) = item.last_chunk_mut::<8>() {
                *place = order.to_le_bytes();
            }
            return;
        }
        rest = next;
    }
}

impl DedupTrait {
    fn take(from: &mut Reader<'_>) -> Option<Self> {
        let (high, low, ends, order) = (from.u64()?, from.u64()?, from.u64()?, from.u64()?);
        let fingerprint = u128::from(high) << 64 | u128::from(low);
        (order < SEQUENCES_END).then_some(DedupTrait { fingerprint, ends: Timestamp(ends), order })
    }
}

impl Origin {
    fn take(from: &mut Reader<'_>) -> Option<Self> {
        Some(Origin { group: from.u32()?, lane: LaneId(from.u8()?), seq: Seq(from.u64()?) })
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
pub(crate) fn halves(value: u128) -> (u64, u64) {
    ((value >> 64) as u64, value as u64)
}

/// A curve as a number, on disk and among the options.
pub(crate) fn curve_code(curve: Curve) -> u8 {
    match curve {
        Curve::Fixed => 0,
        Curve::Linear => 1,
        Curve::Exponential => 2,
    }
}

/// The curve of a number.
pub(crate) fn curve_of(code: u8) -> Option<Curve> {
    match code {
        0 => Some(Curve::Fixed),
        1 => Some(Curve::Linear),
        2 => Some(Curve::Exponential),
        _ => None,
    }
}

fn take_backoff(from: &mut Reader<'_>) -> Option<Backoff> {
    let (curve, jitter_percent) = (curve_of(from.u8()?)?, from.u8()?.min(100));
    Some(Backoff { curve, jitter_percent, first_ms: from.u64()?, max_ms: from.u64()? })
}

/// Appends headers to `out`. Fails with the bytes that would be needed if a name or the whole does not fit.
pub(crate) fn encode_headers(out: &mut Vec<u8>, headers: &[(impl AsRef<str>, impl AsRef<[u8]>)]) -> Result<(), usize> {
    let needed: usize = headers.iter().map(|(name, value)| 4 + name.as_ref().len() + value.as_ref().len()).sum();
    if needed + out.len() > FIELDS_BYTES_MAX {
        return Err(needed + out.len());
    }
    for (name, value) in headers {
        let (name, value) = (name.as_ref(), value.as_ref());
        let Ok(name_bytes) = u8::try_from(name.len()) else { return Err(FIELDS_BYTES_MAX + name.len()) };
        // Fits: checked against the whole above.
        let length = u16::try_from(1 + name.len() + value.len()).map_err(|_| needed)?;
        out.push(TAG_HEADER);
        out.extend_from_slice(&length.to_le_bytes());
        out.push(name_bytes);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(value);
    }
    Ok(())
}

/// A task's headers, in the order they were given. What is malformed ends the list.
pub(crate) fn headers(fields: &[u8]) -> impl Iterator<Item = (&str, &[u8])> {
    items(fields).filter(|(tag, _)| *tag == TAG_HEADER).map_while(|(_, item)| {
        let mut from = Reader::new(item);
        let name_bytes = from.u8()?;
        let name = std::str::from_utf8(from.bytes(usize::from(name_bytes))?).ok()?;
        let left = from.left();
        Some((name, from.bytes(left)?))
    })
}

fn items(fields: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut from = Reader::new(fields);
    std::iter::from_fn(move || {
        let (tag, length) = (from.u8()?, from.u16()?);
        Some((tag, from.bytes(usize::from(length))?))
    })
}
