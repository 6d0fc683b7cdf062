//! The byte tables in the docs, read from the sources and held against what the encoders write.

use super::super::checkpoint::{BLOBS_AT, COPY_BYTES, ENTRY_BYTES, Root, SLOT_BYTES, UNIT_BYTES, encode_entries};
use super::super::journal::{self, DeadCause, Named, Of, Run};
use super::super::record::{self, HEADER_BYTES, Kind, Life, MARK_BYTES, POWER, Record};
use super::super::segment::{FOOTER_TRAILER_BYTES, Footer, LifeHeader, PRELUDE_BYTES};
use super::super::{FORMAT_VERSION, record::mark_payload};
use super::{LIFE, naive_crc};
use crate::checkpoint::{BlobRef, Key};
use crate::types::{Beyond, LaneId, LogId, QueueId, Retention, Seq, Timestamp};

/// A row of a byte table: where a field stands, how many bytes it has, and what the docs call it.
struct Row {
    at: usize,
    bytes: usize,
    field: &'static str,
}

/// The rows with a fixed place of the `number`th byte table in a file's docs.
fn table(source: &'static str, number: usize) -> Vec<Row> {
    let docs = source.lines().map(|line| line.trim_start_matches("//!").trim());
    let tables = docs.skip_while(|line| !line.starts_with("| offset"));
    let mut tables: Vec<Vec<Row>> = tables.fold(Vec::new(), |mut tables, line| {
        if line.starts_with("| offset") {
            tables.push(Vec::new());
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let [_, at, bytes, field, _] = cells[..]
            && let (Ok(at), Ok(bytes), Some(table)) = (at.parse(), bytes.parse(), tables.last_mut())
        {
            table.push(Row { at, bytes, field });
        }
        tables
    });
    tables.swap_remove(number)
}

/// Holds every row against what `expected` says of its field, and against the bytes there.
fn hold(rows: &[Row], expected: &[(&str, Vec<u8>)], bytes_at: impl Fn(&Row) -> Vec<u8>) {
    assert_eq!(rows.len(), expected.len(), "every row is looked at");
    for (row, (field, value)) in rows.iter().zip(expected) {
        assert!(row.field.starts_with(field), "{} where {field} was expected", row.field);
        assert_eq!(row.bytes, value.len(), "{field}");
        assert_eq!(bytes_at(row), *value, "{field} at {}", row.at);
    }
}

fn le<const N: usize>(value: u64) -> Vec<u8> {
    value.to_le_bytes()[..N].to_vec()
}

#[test]
fn record_header_is_as_its_table_says() {
    let payload = [0x77; 9];
    let record = Record {
        index: 0x0102_0304,
        kind: Kind::Entry,
        flags: POWER,
        time: Timestamp(0x0605_0403_0201),
        fields: b"fie",
        payload: &payload,
    };
    let header = record::seal(LIFE, 0x1000, &record).unwrap();
    let seed = |half: u64| u32::try_from(half & 0xFFFF_FFFF).unwrap() ^ 0x1000_u32.wrapping_mul(0x9E37_79B1);
    let head = naive_crc(seed(LIFE.salt >> 32), &[&header[..4], &[0; 4], &header[8..]].concat());
    let expected = [
        ("extent bytes", le::<4>((32 + 3 + 9 + 4) | 2)),
        ("head check", le::<4>(head.into())),
        ("index", le::<4>(0x0102_0304)),
        ("kind", vec![4]),
        ("flags", vec![1]),
        ("bytes of optional fields", le::<2>(3)),
        ("bytes of payload", le::<4>(9)),
        ("body check", header[20..24].to_vec()),
        ("enqueue time", le::<6>(0x0605_0403_0201)),
        ("room", vec![0, 0]),
    ];
    let rows = table(include_str!("../record.rs"), 0);
    hold(&rows, &expected, |row| header[row.at..row.at + row.bytes].to_vec());
    assert_eq!(rows.iter().map(|row| row.bytes).sum::<usize>(), HEADER_BYTES);
}

#[test]
fn body_check_is_the_crc_of_fields_and_payload_from_the_life_the_place_and_the_header() {
    let seal = |life, offset, change: fn(&mut Record<'_>)| {
        let mut record = Record {
            index: 5,
            kind: Kind::Task,
            flags: 0,
            time: Timestamp(1 << 40),
            fields: b"abc",
            payload: b"defghijk",
        };
        change(&mut record);
        let header = record::seal(life, offset, &record).unwrap();
        u32::from_le_bytes(header[20..24].try_into().unwrap())
    };
    let mut checks = vec![
        seal(LIFE, 512, |_| {}),
        seal(LIFE, 520, |_| {}),
        seal(Life { salt: LIFE.salt ^ 1, ..LIFE }, 512, |_| {}),
        seal(Life { base: LIFE.base + 2, ..LIFE }, 512, |_| {}),
        seal(LIFE, 512, |record| record.index = 6),
        seal(LIFE, 512, |record| record.kind = Kind::Entry),
        seal(LIFE, 512, |record| record.flags = POWER),
        seal(LIFE, 512, |record| record.time = Timestamp(1 << 41)),
        seal(LIFE, 512, |record| (record.fields, record.payload) = (b"abcd", b"efghijk")),
        seal(LIFE, 512, |record| record.payload = b"defghijl"),
    ];
    let count = checks.len();
    checks.sort_unstable();
    checks.dedup();
    assert_eq!(checks.len(), count, "each of them changes the check");
}

#[test]
fn batch_and_mark_are_as_the_docs_say() {
    let batch = record::seal_batch(LIFE, 512, 96, 7, 2, Timestamp(1));
    assert_eq!((batch[12], &batch[16..20], &batch[20..24]), (3, &[2, 0, 0, 0][..], &[0; 4][..]));
    assert_eq!(u32::from_le_bytes(batch[..4].try_into().unwrap()), 96 | 2);
    let payload = mark_payload(0x1122, 0x3344);
    assert_eq!(payload, [0x22, 0x11, 0, 0, 0, 0, 0, 0, 0x44, 0x33, 0, 0, 0, 0, 0, 0]);
    assert_eq!(MARK_BYTES as usize, HEADER_BYTES + payload.len());
    let codes = [Kind::Task, Kind::Mark, Kind::Entry].map(|kind| {
        let record = Record { index: 0, kind, flags: 0, time: Timestamp(0), fields: b"", payload: b"" };
        record::seal(LIFE, 512, &record).unwrap()[12]
    });
    assert_eq!(codes, [1, 2, 4]);
}

#[test]
fn prelude_is_as_its_table_says_in_both_copies() {
    let header = LifeHeader {
        queue: QueueId(0x1111),
        file: 0x2222,
        size: 0x3333,
        log: LogId(0x0100),
        base: 0x4444,
        block: 0x5555,
        salt: 0x6666,
        predecessor: 0x7777,
        predecessor_end: 0x8888,
        created: Timestamp(0x9999),
        cold: true,
    };
    let prelude = header.encode();
    let expected = [
        ("magic `LANESEG1`", b"LANESEG1".to_vec()),
        ("format version", le::<4>(FORMAT_VERSION.into())),
        ("file number", le::<4>(0x2222)),
        ("queue id", le::<8>(0x1111)),
        ("bytes of the file", le::<8>(0x3333)),
        ("log", le::<2>(0x0100)),
        ("zero", le::<2>(0)),
        ("block", le::<4>(0x5555)),
        ("base", le::<8>(0x4444)),
        ("salt", le::<8>(0x6666)),
        ("base of the life before", le::<8>(0x7777)),
        ("where that one ended", le::<4>(0x8888)),
        ("1 if the life is cold", le::<4>(1)),
        ("time of attachment", le::<8>(0x9999)),
        ("CRC-32 of bytes 0–80", le::<4>(naive_crc(0, &prelude[..80]).into())),
    ];
    for copy in [0, 256] {
        let rows = table(include_str!("../segment.rs"), 0);
        hold(&rows, &expected, |row| prelude[copy + row.at..copy + row.at + row.bytes].to_vec());
    }
    assert_eq!(PRELUDE_BYTES, 512);
}

#[test]
fn footer_is_as_its_table_says_counted_from_the_end() {
    let (records, tasks, seek) = (0x2222, 0x3333, vec![0xAAAA, 0xBBBB]);
    let footer = Footer { base: LIFE.base, records, tasks, end: 0x4444, has_ids: true, cold: true, seek };
    let bytes = footer.encode(LIFE);
    let checked = &bytes[..bytes.len() - 4];
    let check = naive_crc(u32::try_from(LIFE.salt & 0xFFFF_FFFF).unwrap(), checked);
    let expected = [
        ("magic `LANEFOOT`", b"LANEFOOT".to_vec()),
        ("base", le::<8>(LIFE.base)),
        ("record indices used", le::<4>(0x2222)),
        ("task records", le::<4>(0x3333)),
        ("end of the last extent", le::<4>(0x4444)),
        ("n", le::<4>(2)),
        ("bit 0: a record may have a dedup id", le::<4>(3)),
        ("zero", vec![0; 8]),
        ("CRC-32", le::<4>(check.into())),
    ];
    let rows = table(include_str!("../segment.rs"), 1);
    hold(&rows, &expected, |row| bytes[bytes.len() - row.at..][..row.bytes].to_vec());
    assert_eq!(rows[0].at, FOOTER_TRAILER_BYTES);
    assert_eq!(bytes[..8], [0xAA, 0xAA, 0, 0, 0xBB, 0xBB, 0, 0]);
}

#[test]
fn checkpoint_file_and_root_are_as_their_tables_say() {
    let source = include_str!("../checkpoint.rs");
    let slots: Vec<(usize, usize)> = {
        let docs = source.replace(',', "");
        let rows = docs.lines().filter_map(|line| line.strip_prefix("//! | ")?.split_once(" | "));
        rows.take(4).filter_map(|(at, rest)| Some((at.parse().ok()?, rest.split(' ').next()?.parse().ok()?))).collect()
    };
    assert_eq!(slots, [(0, SLOT_BYTES), (SLOT_BYTES, SLOT_BYTES)]);
    assert_eq!((BLOBS_AT, UNIT_BYTES), (1_048_576, 512));
    assert!(source.contains("holds its root twice, at 0 and at 262,144"));
    assert_eq!((COPY_BYTES, SLOT_BYTES), (262_144, 2 * 262_144));
    let key = Key { kind: 0x01, a: 0x0203, b: 0x0405, c: 0x0607 };
    let blob = BlobRef { unit: 0x0809, copies: 2, bytes: 0x0A0B, check: 0x0C0D };
    let root = Root { queue: QueueId(0x1111), generation: 0x2222, meta: vec![9; 5], chunks: vec![(key, blob)] };
    let bytes = root.encode().unwrap();
    let expected = [
        ("magic `LANEROOT`", b"LANEROOT".to_vec()),
        ("format version", le::<4>(FORMAT_VERSION.into())),
        ("bytes of the whole root", le::<4>(40 + 5 + 32 + 4)),
        ("queue id", le::<8>(0x1111)),
        ("generation", le::<8>(0x2222)),
        ("m", le::<4>(5)),
        ("n", le::<4>(1)),
    ];
    hold(&table(source, 1), &expected, |row| bytes[row.at..row.at + row.bytes].to_vec());
    let entry = encode_entries([(key, blob)].into_iter());
    assert_eq!((entry.len(), &bytes[40..45], &bytes[45..77]), (ENTRY_BYTES, &[9; 5][..], &entry[..]));
    assert_eq!(entry[..4], [0x01, 2, 0, 0], "kind 1, copies 1, zero 2");
    assert_eq!(entry[4..20], [le::<4>(0x0203), le::<8>(0x0405), le::<4>(0x0607)].concat());
    assert_eq!(entry[20..], [le::<4>(0x0809), le::<4>(0x0A0B), le::<4>(0x0C0D)].concat());
    assert_eq!(bytes[77..], naive_crc(0, &bytes[..77]).to_le_bytes());
}

#[test]
fn meta_bytes_are_as_their_table_says() {
    let meta = super::meta::meta();
    let bytes = meta.encode();
    let mut options = le::<2>(256);
    options.extend([le::<2>(0), le::<4>(0x0606)].concat());
    for option in 0x07..=0x0E {
        options.extend(le::<8>(option * 0x0101));
    }
    let expected = [
        ("open epoch", le::<8>(0x0101)),
        ("next sequence block", le::<8>(0x0202)),
        ("ceiling", le::<8>(0x0303)),
        ("journal place: base", le::<8>(0x0404)),
        ("journal place: offset", le::<4>(0x0505)),
        ("1 after a clean close", vec![1]),
        ("1 if a newer checkpoint may have given up lives that this one lists", vec![1]),
        ("zero", vec![0; 2]),
        ("options", options),
        ("count of logs", le::<2>(3)),
    ];
    hold(&table(include_str!("../meta.rs"), 0), &expected, |row| bytes[row.at..row.at + row.bytes].to_vec());
    let logs = [le::<2>(0), le::<8>(1), le::<2>(255), le::<8>(super::meta::LAST), le::<2>(256), le::<8>(3)];
    assert_eq!(bytes[114..144], logs.concat());
    let curve_and_jitter = [le::<2>(1), le::<8>(1), le::<2>(2), le::<8>(7)];
    let others = [le::<2>(1000), le::<8>(1), le::<2>(0xFFFF), le::<8>(u64::MAX)];
    assert_eq!(bytes[144..], [le::<2>(4), curve_and_jitter.concat(), others.concat()].concat());
}

#[test]
fn journal_entries_are_as_their_tables_say() {
    let run = Run { lane: LaneId(1), first: Seq(2), count: 3 };
    let of = Of { group: 4, lane: LaneId(5), seq: Seq(6), attempts: 7 };
    let runs = [vec![1], le::<8>(2), le::<4>(3)].concat();
    let about = [le::<4>(4), vec![5], le::<8>(6), le::<4>(7)].concat();
    let text = [le::<2>(3), b"why".to_vec()].concat();
    let mut out = [(); 7].map(|()| Vec::new());
    journal::put_reserved(&mut out[0], 4, 9, &[run]);
    journal::put_acked(&mut out[1], 4, &[run, run]);
    journal::put_released(&mut out[2], 4, 9, &[run]);
    journal::put_retry(&mut out[3], of, Timestamp(8), 9, "why");
    journal::put_dead(&mut out[4], of, DeadCause::Rejected, Timestamp(8), 10, "why");
    journal::put_group_created(&mut out[5], 4, "why", &[(LaneId(1), Seq(2))]);
    journal::put_started(&mut out[6], 4, LaneId(1), Seq(2));
    let bodies = [
        [le::<4>(4), le::<4>(9), runs.clone()].concat(),
        [le::<4>(4), runs.clone(), runs.clone()].concat(),
        [le::<4>(4), le::<4>(9), runs.clone()].concat(),
        [about.clone(), le::<8>(8), le::<8>(9), text.clone()].concat(),
        [about, vec![2], le::<8>(8), le::<4>(10), text.clone()].concat(),
        [le::<4>(4), text, vec![1], le::<8>(2)].concat(),
        [le::<4>(4), vec![1], le::<8>(2)].concat(),
    ];
    for ((tag, out), body) in (1..).zip(&out).zip(bodies) {
        let expected = [vec![tag], le::<4>(body.len() as u64), body].concat();
        assert_eq!(*out, expected, "tag {tag}");
    }
    let mut out = Vec::new();
    journal::put_group_removed(&mut out, 4);
    assert_eq!(out, [vec![20], le::<4>(4), le::<4>(4)].concat());
    let mut out = Vec::new();
    let retention = Retention { tasks: 5, bytes: 6, age_ms: 7, beyond: Beyond::DeadLetter };
    journal::put_group_retains(&mut out, 4, &retention);
    let body = [le::<4>(4), vec![2], le::<8>(5), le::<8>(6), le::<8>(7)].concat();
    assert_eq!(out, [vec![21], le::<4>(29), body].concat());
    let mut out = Vec::new();
    journal::put_decision(&mut out, &[Named { lane: LaneId(1), base: 2, first: Seq(3), count: 4 }]);
    journal::put_room(&mut out, 26 + 8);
    let named = [vec![1], le::<8>(2), le::<8>(3), le::<4>(4)].concat();
    assert_eq!(out, [vec![16], le::<4>(21), named, vec![17], le::<4>(3), vec![0; 3]].concat());
    let mut out = Vec::new();
    journal::put_cancelled(&mut out, &[run]);
    assert_eq!(out, [vec![22], le::<4>(13), runs].concat());
}
