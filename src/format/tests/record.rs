//! Records: framed, sealed for one place, and found nowhere else.

use super::super::record::{
    Body, Found, HEADER_BYTES, INNER, Kind, Life, MARK_BYTES, POWER, Record, extent_bytes, mark_payload, read,
    read_mark, seal, seal_batch, verify, word_of,
};
use super::{LIFE, each_flip, forged, pattern, sealed, task, valid};
use crate::types::Timestamp;

const EXTENT_MAX: usize = 1 << 30;
const TIME_MAX: u64 = (1 << 48) - 1;

#[test]
fn every_kind_and_boundary_length_comes_back_as_it_was_sealed() {
    let bytes = pattern(70_000);
    for kind in [Kind::Task, Kind::Mark, Kind::Entry] {
        for fields in [0, 1, 7, 8, 255, 256, 65_535] {
            for payload in [0, 1, 7, 8, 9, 31, 32, 33, 4095, 4096, 65_535, 65_536] {
                let (fields, payload) = (&bytes[..fields], &bytes[bytes.len() - payload..]);
                for (offset, index, flags, time) in [
                    (512, 0, 0, 0),
                    (520, 16, POWER, 1_700_000_000_000),
                    ((1 << 30) - 8, (1 << 25) - 1, INNER, TIME_MAX),
                ] {
                    let record = Record { index, kind, flags, time: Timestamp(time), fields, payload };
                    let extent = sealed(LIFE, offset, &record);
                    let (header, body) = valid(LIFE, offset, &extent).expect("a sealed record is valid in its place");
                    assert_eq!((header.index, header.kind, header.flags), (index, kind, flags));
                    assert_eq!((header.offset, header.time), (offset, Timestamp(time)));
                    assert_eq!((header.bytes as usize, header.step()), (extent.len(), header.bytes));
                    assert_eq!(body, Body { fields, payload });
                    assert_eq!(header.fields_range().len(), fields.len());
                    assert_eq!(header.fields_range().start, offset as usize + HEADER_BYTES);
                    assert_eq!((header.payload_range().start, header.payload_range().len()), {
                        (header.fields_range().end, payload.len())
                    });
                    assert_eq!((header.is_power(), header.is_inner()), (flags == POWER, flags == INNER));
                }
            }
        }
    }
}

#[test]
fn time_beyond_48_bits_is_cut_and_still_verifies() {
    let record = Record { time: Timestamp(u64::MAX), ..task(3, b"", b"late") };
    let extent = sealed(LIFE, 512, &record);
    assert_eq!(valid(LIFE, 512, &extent).unwrap().0.time, Timestamp(TIME_MAX));
}

#[test]
fn all_zero_is_empty_and_never_a_record() {
    for life in [LIFE, Life { salt: 0, base: 0 }, Life { salt: u64::MAX, base: u64::MAX }] {
        for offset in [0, 8, 512, 1 << 20, u32::MAX - 7] {
            for bytes in 0..200 {
                let expected = if bytes < 8 { Found::Invalid } else { Found::Empty };
                assert_eq!(read(life, offset, &vec![0; bytes]), expected);
            }
        }
    }
}

#[test]
fn any_flipped_bit_of_a_header_makes_it_no_record() {
    let payload = mark_payload(9, 9);
    let records = [
        task(0, b"", b""),
        task(5, b"fields", b"a payload"),
        Record { kind: Kind::Entry, flags: POWER, ..task(128, b"", b"entry") },
        Record { kind: Kind::Mark, ..task(1, b"", &payload) },
    ];
    for record in &records {
        let extent = sealed(LIFE, 4096, record);
        each_flip(&extent[..HEADER_BYTES], |bit, header| {
            let mut changed = extent.clone();
            changed[..HEADER_BYTES].copy_from_slice(header);
            assert_eq!(read(LIFE, 4096, &changed), Found::Invalid, "bit {bit}");
        });
    }
}

#[test]
fn any_flipped_bit_behind_a_header_is_noticed_up_to_the_last_of_its_extent() {
    for (fields, payload) in [(0, 1), (1, 0), (5, 3), (8, 64), (300, 4096), (0, 7), (0, 9)] {
        let bytes = pattern(8192);
        let record = task(7, &bytes[..fields], &bytes[1000..1000 + payload]);
        let extent = sealed(LIFE, 1024, &record);
        each_flip(&extent[HEADER_BYTES..], |bit, body| {
            let changed = [&extent[..HEADER_BYTES], body].concat();
            let Found::Record(header) = read(LIFE, 1024, &changed) else { panic!("the header is whole") };
            assert_eq!(verify(LIFE, &header, &changed), None, "bit {bit} of {fields} + {payload} bytes");
        });
    }
}

#[test]
fn what_follows_an_extent_does_not_matter_to_it() {
    let mut extent = sealed(LIFE, 512, &task(1, b"", b"abc"));
    extent.extend([0xFF; 40]);
    assert_eq!(valid(LIFE, 512, &extent).map(|(_, body)| body.payload), Some(&b"abc"[..]));
}

#[test]
fn body_that_is_cut_does_not_verify() {
    let extent = sealed(LIFE, 512, &task(1, b"fields", b"a payload of some bytes"));
    for end in 0..HEADER_BYTES {
        assert_eq!(read(LIFE, 512, &extent[..end]), Found::Invalid, "cut at {end}");
    }
    let Found::Record(header) = read(LIFE, 512, &extent[..HEADER_BYTES]) else { panic!("a header is enough to read") };
    for end in 0..extent.len() {
        assert_eq!(verify(LIFE, &header, &extent[..end]), None, "cut at {end}");
    }
}

#[test]
fn record_that_is_copied_to_another_offset_is_none() {
    let extent = sealed(LIFE, 512, &task(0, b"f", b"copy me"));
    for offset in (0..1 << 18).step_by(8).filter(|offset| *offset != 512) {
        assert_eq!(read(LIFE, offset, &extent), Found::Invalid, "at {offset}");
    }
    for bit in 3..32 {
        assert_eq!(read(LIFE, 512 ^ (1 << bit), &extent), Found::Invalid, "bit {bit} of the offset");
    }
}

#[test]
fn record_of_another_life_is_none() {
    let extent = sealed(LIFE, 512, &task(3, b"f", b"of an earlier life"));
    for bit in 0..64 {
        let salted = Life { salt: LIFE.salt ^ (1 << bit), ..LIFE };
        assert!(valid(salted, 512, &extent).is_none(), "bit {bit} of the salt");
        let based = Life { base: LIFE.base ^ (1 << bit), ..LIFE };
        assert!(valid(based, 512, &extent).is_none(), "bit {bit} of the base");
    }
    let neighbour = Life { salt: LIFE.salt, base: LIFE.base + 3 };
    let moved = sealed(neighbour, 512, &task(0, b"f", b"of an earlier life"));
    assert_eq!(&moved[20..24], &extent[20..24], "the body check follows the sequence, not the index");
    assert_ne!(&moved[4..8], &extent[4..8], "the head check covers the index");
}

#[test]
fn payload_that_contains_sealed_records_is_just_bytes() {
    let mut bytes = vec![0; 512];
    let mut offsets = Vec::new();
    for index in 0..12 {
        let offset = u32::try_from(bytes.len()).unwrap();
        offsets.push(offset);
        // Everything so far, shifted by less than a word: whatever was sealed before stands again at every alignment.
        let shift = bytes.len().min(512 + index % 8);
        let payload = if index == 0 { b"first".to_vec() } else { bytes[shift..].to_vec() };
        bytes.extend(sealed(LIFE, offset, &task(u32::try_from(index).unwrap(), b"", &payload)));
    }
    assert!(bytes.len() > 100_000, "copies of copies");
    let found = (0..u32::try_from(bytes.len()).unwrap()).step_by(8);
    let found = found.filter(|offset| matches!(read(LIFE, *offset, &bytes[*offset as usize..]), Found::Record(_)));
    assert_eq!(found.collect::<Vec<_>>(), offsets);
}

#[test]
fn lengths_reach_their_fields_bounds_and_no_further() {
    assert_eq!(extent_bytes(0, 0), Some(32));
    assert_eq!(extent_bytes(0, 1), Some(40));
    assert_eq!(extent_bytes(3, 5), Some(40));
    assert_eq!(extent_bytes(65_535, 0), Some(65_568));
    assert_eq!(extent_bytes(65_536, 0), None);
    assert_eq!(extent_bytes(0, EXTENT_MAX - HEADER_BYTES), Some(1 << 30));
    assert_eq!(extent_bytes(0, EXTENT_MAX - HEADER_BYTES + 1), None);
    assert_eq!(extent_bytes(65_535, EXTENT_MAX - HEADER_BYTES - 65_535), Some(1 << 30));
    for (fields, payload) in [(0, usize::MAX), (usize::MAX, 0), (usize::MAX, usize::MAX), (1, usize::MAX - 32)] {
        assert_eq!(extent_bytes(fields, payload), None);
    }
    assert!(seal(LIFE, 512, &task(0, &vec![1; 65_536], b"")).is_none());
    assert!(seal(LIFE, 512, &task(0, &vec![1; 65_535], b"")).is_some());
}

#[test]
fn header_with_a_right_check_and_wrong_lengths_is_none() {
    let header = seal(LIFE, 512, &task(1, b"fields", b"payload")).unwrap();
    assert_eq!(forged(LIFE, 512, header), header, "the forger's tools are right");
    let cases: [(&str, usize, &[u8]); 11] = [
        ("extent longer than the lengths need", 0, &(56_u32 | 2).to_le_bytes()),
        ("extent shorter than the lengths need", 0, &(40_u32 | 2).to_le_bytes()),
        ("extent of nothing", 0, &2_u32.to_le_bytes()),
        ("extent beyond every segment", 0, &(!7_u32 | 2).to_le_bytes()),
        ("more fields", 14, &20_u16.to_le_bytes()),
        ("a payload beyond the extent", 16, &100_u32.to_le_bytes()),
        ("a payload that overflows", 16, &u32::MAX.to_le_bytes()),
        ("an index that no record so far in front can have", 8, &17_u32.to_le_bytes()),
        ("the last index of all", 8, &u32::MAX.to_le_bytes()),
        ("kind zero", 12, &[0]),
        ("a kind that is not known", 12, &[5]),
    ];
    for (what, at, value) in cases {
        let mut changed = header;
        changed[at..at + value.len()].copy_from_slice(value);
        assert_eq!(read(LIFE, 512, &forged(LIFE, 512, changed)), Found::Invalid, "{what}");
    }
    let mut roomy = header;
    roomy[30..].copy_from_slice(&[0xAB, 0xCD]);
    let extent = [&forged(LIFE, 512, roomy)[..], b"fieldspayload\0\0\0"].concat();
    assert!(valid(LIFE, 512, &extent).is_some(), "what a later version puts in the room breaks nothing");
}

#[test]
fn index_is_at_most_what_fits_before_the_record() {
    for offset in [512, 544, 4096, 1 << 20] {
        let most = offset / 32;
        assert!(valid(LIFE, offset, &sealed(LIFE, offset, &task(most, b"", b"x"))).is_some(), "{most} at {offset}");
        assert!(valid(LIFE, offset, &sealed(LIFE, offset, &task(most + 1, b"", b"x"))).is_none());
        let batch = seal_batch(LIFE, offset, 32, most + 1, 0, Timestamp(0));
        assert_eq!(read(LIFE, offset, &batch), Found::Invalid);
    }
}

#[test]
fn state_other_than_published_is_no_record_even_with_a_right_check() {
    let header = seal(LIFE, 512, &task(1, b"", b"")).unwrap();
    for state in [0, 1, 3, 4, 5, 6, 7] {
        let mut changed = header;
        changed[0] = changed[0] & !7 | state;
        assert_eq!(read(LIFE, 512, &forged(LIFE, 512, changed)), Found::Invalid, "state {state}");
    }
}

#[test]
fn batch_header_covers_its_records_and_steps_into_them() {
    for (bytes, count, first) in
        [(32, 0, 0), (96, 2, 9), (104, 2, 9), (1 << 20, (1 << 15) - 1, 20), (1 << 30, (1 << 25) - 1, 0)]
    {
        let header = seal_batch(LIFE, 640, bytes, first, count, Timestamp(5));
        assert_eq!(word_of(&header).bytes(), bytes);
        let Found::Record(found) = read(LIFE, 640, &header) else { panic!("a sealed batch header") };
        assert_eq!((found.kind, found.bytes, found.step()), (Kind::Batch, bytes, 32));
        assert_eq!((found.index, found.payload_bytes, found.fields_bytes), (first, count, 0));
        assert_eq!(verify(LIFE, &found, &header), None, "a batch has no body of its own");
        each_flip(&header, |bit, changed| assert_eq!(read(LIFE, 640, changed), Found::Invalid, "bit {bit}"));
    }
    // One more than there is room for, however small they are.
    for (bytes, count) in [(32, 1), (88, 2), (96, 3), (104, 3), (1 << 20, 1 << 15), (1 << 30, u32::MAX)] {
        let header = seal_batch(LIFE, 640, bytes, 0, count, Timestamp(5));
        assert_eq!(read(LIFE, 640, &header), Found::Invalid, "{count} records in {bytes} bytes");
    }
    let short = seal_batch(LIFE, 640, 24, 0, 0, Timestamp(5));
    assert_eq!(read(LIFE, 640, &short), Found::Invalid, "too short for its own header");
}

#[test]
fn mark_is_48_bytes_and_says_its_place() {
    let payload = mark_payload(0x0123_4567_89AB_CDEF, 0xFEDC_BA98);
    assert_eq!(read_mark(&payload), Some((0x0123_4567_89AB_CDEF, 0xFEDC_BA98)));
    assert_eq!(extent_bytes(0, payload.len()), Some(MARK_BYTES));
    assert_eq!((read_mark(&payload[..15]), read_mark(&[0; 17]), read_mark(&[])), (None, None, None));
}
