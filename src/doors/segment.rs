//! Lives: prelude, records in a row, footer.

use crate::format::record::{self, HEADER_BYTES, Kind, Life, Record};
use crate::format::segment::{FOOTER_TRAILER_BYTES, Footer, LifeHeader, PRELUDE_BYTES};
use crate::format::wire::Reader;
use crate::log::scan;
use crate::types::Timestamp;

/// The salt of lives that have no prelude of their own.
const FORGED: Life = Life { salt: 0x5EED_5EED_F00D_F00D, base: 1 << 20 };

/// Reads a segment file, and a life that a forger makes of the bytes.
pub fn decode_segment(bytes: &[u8]) {
    let prelude = bytes.get(..PRELUDE_BYTES).unwrap_or(bytes);
    let header = LifeHeader::decode(prelude);
    if let Ok(header) = header {
        assert!(LifeHeader::decode(&header.encode()) == Ok(header), "a prelude comes back");
    }
    let life = header.map_or(FORGED, |header| header.life());
    scan_all(life, bytes);
    read_footer(life, bytes);
    let forged = forge(bytes);
    scan_all(FORGED, &forged);
}

/// Scans a life's bytes as recovery would, from every kind of place up to which they may be known durable.
fn scan_all(life: Life, bytes: &[u8]) {
    let start = u32::try_from(PRELUDE_BYTES).unwrap_or(u32::MAX);
    let end = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let mark = scan::last_mark(life, bytes, start);
    let marked = mark.filter(|place| place.base == life.base).map_or(0, |place| place.offset);
    for durable in [0, start, end / 2, end, marked, u32::MAX >> 2] {
        let scan = scan::walk(life, bytes, start, 0, durable);
        assert!(scan.end >= start, "a scan goes forward");
        assert!(scan.end <= end.max(durable).max(start), "and ends inside its bytes");
        assert!(scan.flaws.len() * 8 <= bytes.len() + 8, "a flaw has bytes of its own");
        assert!(scan.seek.len() * HEADER_BYTES <= bytes.len(), "and so has what the seek table names");
    }
    for from in (start..end).step_by(64.max(bytes.len() / 64 * 8)) {
        let rest = bytes.get(from as usize..).unwrap_or_default();
        assert!(scan::resync(life, from, rest).is_none_or(|header| header.offset > from), "forward");
    }
}

fn read_footer(life: Life, bytes: &[u8]) {
    let Some(trailer) = bytes.last_chunk::<FOOTER_TRAILER_BYTES>() else { return };
    let _index_bytes = Footer::index_bytes(trailer);
    for from in [0, PRELUDE_BYTES, bytes.len() - FOOTER_TRAILER_BYTES] {
        if let Some(footer) = Footer::decode(life, bytes.get(from..).unwrap_or_default()) {
            assert!(Footer::decode(life, &footer.encode(life)) == Some(footer), "a footer comes back");
        }
    }
}

/// A life whose checks are right and whose lengths, counts and places are whatever the bytes say.
fn forge(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0; PRELUDE_BYTES];
    let mut from = Reader::new(bytes);
    while let Some(made) = forge_one(&mut from, u32::try_from(out.len()).unwrap_or(0)) {
        out.extend(made);
        out.resize(out.len().next_multiple_of(8), 0);
    }
    out
}

fn forge_one(from: &mut Reader<'_>, offset: u32) -> Option<Vec<u8>> {
    let (what, count, number) = (from.u8()?, usize::from(from.u8()?), from.u32()?);
    let payload = from.bytes(count.min(from.left()))?;
    let time = Timestamp(u64::from(number));
    // Mostly one that a record there can have, now and then one too many.
    let index = number % (offset / 32 + 2);
    let record = |kind, flags, payload| {
        let record = Record { index, kind, flags, time, fields: &[], payload };
        let header = record::seal(FORGED, offset, &record)?;
        Some([&header[..], payload].concat())
    };
    match what % 8 {
        0 => record(Kind::Task, what >> 6, payload),
        1 => record(Kind::Entry, what >> 6, payload),
        2 => record(Kind::Mark, 0, &record::mark_payload(FORGED.base, number)),
        // A batch may say any length and any count.
        3 => Some(record::seal_batch(FORGED, offset, number & !7, index, number >> 8, time).to_vec()),
        4 => {
            let bytes = u32::try_from(HEADER_BYTES + 8 * count).ok()?;
            Some(record::seal_batch(FORGED, offset, bytes, index, u32::from(what >> 3), time).to_vec())
        }
        5 => Some(record::claim_word(FORGED, offset, number & !7).0.to_le_bytes().to_vec()),
        6 => Some(record::padding_word(FORGED, offset, number >> (what >> 3) & !7).0.to_le_bytes().to_vec()),
        _ => Some(payload.to_vec()),
    }
}
