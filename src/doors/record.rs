//! Records and what is in them.

use crate::format::record::{self, Body, Found, Kind, Life, Record};
use crate::format::segment::BLOCK_MAX;
use crate::format::wire::Reader;
use crate::format::{fields, journal};
use crate::types::Timestamp;

/// Reads a record: salt (8 bytes), base (8), offset (4), then what stands there.
pub fn decode_record(bytes: &[u8]) {
    let mut from = Reader::new(bytes);
    let (Some(salt), Some(base), Some(offset)) = (from.u64(), from.u64(), from.u32()) else { return };
    let (life, offset) = (Life { salt, base }, offset & !7);
    let left = from.left();
    let rest = from.bytes(left).unwrap_or_default();
    look_at(life, offset, rest);
    read_body(Body { fields: rest, payload: rest });
    seal_and_read(life, offset, rest);
}

fn look_at(life: Life, offset: u32, bytes: &[u8]) {
    match record::read(life, offset, bytes) {
        Found::Record(header) => {
            assert!(header.bytes >= 32 && header.bytes.is_multiple_of(8), "an extent has a header and whole words");
            if let Some(body) = record::verify(life, &header, bytes) {
                assert!(body.fields.len() + body.payload.len() < bytes.len(), "a body lies in its extent");
                read_body(body);
            }
        }
        Found::Hole { bytes } | Found::Padding { bytes } => {
            assert!(bytes >= 8 && bytes.is_multiple_of(8), "an extent is whole words");
        }
        Found::Empty | Found::Invalid => {}
    }
}

fn read_body(body: Body<'_>) {
    let headers: usize = fields::headers(body.fields).map(|(name, value)| name.len() + value.len()).sum();
    assert!(headers <= body.fields.len(), "headers are parts of the fields");
    let _place = record::read_mark(body.payload);
    assert!(journal::entries(body.payload).count() <= body.payload.len(), "an entry has bytes of its own");
}

/// What is sealed comes back, whatever it is.
fn seal_and_read(life: Life, offset: u32, rest: &[u8]) {
    let Some((shape, rest)) = rest.split_first_chunk::<8>() else { return };
    let [kind, flags, split, time, index @ ..] = *shape;
    let kind = [Kind::Task, Kind::Mark, Kind::Entry].into_iter().cycle().nth(usize::from(kind)).unwrap_or(Kind::Task);
    let (fields, payload) = rest.split_at_checked(usize::from(split)).unwrap_or((&[], rest));
    // No record so far in front has a higher one, and no life has more, wherever it lies.
    let index = u32::from_le_bytes(index) % (offset / 32 + 1).min(BLOCK_MAX);
    let time = Timestamp(u64::from(time) << 40);
    let sealed = Record { index, kind, flags, time, fields, payload };
    let Some(header) = record::seal(life, offset, &sealed) else { return };
    let mut extent = [&header[..], fields, payload].concat();
    extent.resize(extent.len().next_multiple_of(8), 0);
    let found = record::read(life, offset, &extent);
    assert!(matches!(found, Found::Record(_)), "a sealed record");
    let Found::Record(found) = found else { return };
    assert!((found.index, found.kind, found.flags) == (index, kind, flags) && found.time == time, "header");
    assert!(record::verify(life, &found, &extent) == Some(Body { fields, payload }), "body");
}
