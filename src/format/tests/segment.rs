//! Preludes, footers, and how much of a segment of a given size they leave.

use super::super::record::{HEADER_BYTES, Life};
use super::super::segment::{
    BadPrelude, FOOTER_TRAILER_BYTES, Footer, LifeHeader, PRELUDE_BYTES, SEEK_STRIDE, SEGMENT_BYTES_MAX, block_for,
    file_name, footer_bytes_max, parse_file_name, record_limit,
};
use super::{LIFE, each_flip, each_harm};
use crate::types::{LogId, QueueId, Timestamp};

fn header() -> LifeHeader {
    LifeHeader {
        queue: QueueId(0x1111_2222_3333_4444),
        file: 0x0102_0304,
        size: 64 << 20,
        log: LogId(200),
        base: 0x3555_6666_7777_8888,
        block: 2 << 20,
        salt: 0x9999_AAAA_BBBB_CCCC,
        predecessor: 0xDDDD_EEEE,
        predecessor_end: 0x1234_5678,
        created: Timestamp(0x0BAD_CAFE),
        cold: false,
    }
}

/// A prelude of which `change` edited both copies before they were checked again.
fn prelude_with(change: impl Fn(&mut [u8])) -> [u8; PRELUDE_BYTES] {
    let mut prelude = header().encode();
    for copy in prelude.chunks_exact_mut(256) {
        change(copy);
        let check = crc32fast::hash(&copy[..80]);
        copy[80..84].copy_from_slice(&check.to_le_bytes());
    }
    prelude
}

#[test]
fn life_comes_back_as_it_was_written() {
    let most = LifeHeader {
        queue: QueueId(u64::MAX),
        file: u32::MAX,
        size: SEGMENT_BYTES_MAX,
        log: LogId::JOURNAL,
        base: (1 << 62) - 1,
        block: 1 << 25,
        salt: u64::MAX,
        predecessor: (1 << 62) - 2,
        predecessor_end: u32::MAX,
        created: Timestamp(u64::MAX),
        cold: false,
    };
    let first = LifeHeader { predecessor: 0, predecessor_end: 0, log: LogId(0), ..header() };
    for header in [header(), most, first] {
        assert_eq!(LifeHeader::decode(&header.encode()), Ok(header));
        assert_eq!(header.life(), Life { salt: header.salt, base: header.base });
    }
}

#[test]
fn any_flipped_bit_of_a_prelude_costs_nothing() {
    each_flip(&header().encode(), |bit, prelude| {
        assert_eq!(LifeHeader::decode(prelude), Ok(header()), "bit {bit}");
    });
}

#[test]
fn the_same_flip_in_both_copies_is_noticed() {
    for bit in 0..84 * 8 {
        let mut prelude = header().encode();
        for copy in 0..2 {
            prelude[256 * copy + bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(LifeHeader::decode(&prelude), Err(BadPrelude::Invalid), "bit {bit}");
    }
}

#[test]
fn blank_is_told_from_broken_and_from_another_version() {
    assert_eq!(LifeHeader::decode(&[0; PRELUDE_BYTES]), Err(BadPrelude::Blank));
    assert_eq!(LifeHeader::decode(&[0xEE; PRELUDE_BYTES]), Err(BadPrelude::Invalid));
    let foreign = prelude_with(|copy| copy[0] = b'X');
    assert_eq!(LifeHeader::decode(&foreign), Err(BadPrelude::Invalid), "another magic, rightly checked");
    let later = prelude_with(|copy| copy[8..12].copy_from_slice(&9_u32.to_le_bytes()));
    assert_eq!(LifeHeader::decode(&later), Err(BadPrelude::Version(9)));
    let mut half_later = later;
    half_later[..256].fill(0);
    assert_eq!(LifeHeader::decode(&half_later), Err(BadPrelude::Version(9)), "one copy is enough to be told");
    half_later[..256].copy_from_slice(&header().encode()[..256]);
    assert_eq!(LifeHeader::decode(&half_later), Ok(header()), "and enough to be read");
}

#[test]
fn prelude_that_verifies_and_lies_is_refused() {
    let lies = [
        ("a size above the largest", LifeHeader { size: SEGMENT_BYTES_MAX + 8, block: (1 << 25) + 1, ..header() }),
        ("a block too large for the size", LifeHeader { block: header().block + 1, ..header() }),
        ("a block too small for the size", LifeHeader { block: header().block - 1, ..header() }),
        ("a base that nothing reaches", LifeHeader { base: 1 << 62, ..header() }),
        ("a life before itself", LifeHeader { predecessor: header().base, ..header() }),
        ("a log that there is not", LifeHeader { log: LogId(0x101), ..header() }),
    ];
    for (what, header) in lies {
        assert_eq!(LifeHeader::decode(&header.encode()), Err(BadPrelude::Invalid), "{what}");
    }
}

#[test]
fn prelude_of_any_length_is_survived() {
    let prelude = header().encode();
    for end in 0..=PRELUDE_BYTES {
        let expected = match end {
            0 => Err(BadPrelude::Blank),
            1..256 => Err(BadPrelude::Invalid),
            _ => Ok(header()),
        };
        assert_eq!(LifeHeader::decode(&prelude[..end]), expected, "{end} bytes");
    }
}

fn footer(strides: u32) -> Footer {
    Footer {
        base: LIFE.base,
        records: strides * SEEK_STRIDE,
        tasks: strides * SEEK_STRIDE / 2,
        end: 0x03AB_CDE8,
        has_ids: strides.is_multiple_of(2),
        cold: strides.is_multiple_of(3),
        seek: (0..strides).map(|at| 512 + at * 40_960).collect(),
    }
}

#[test]
fn footer_comes_back_as_it_was_written() {
    for strides in [0, 1, 2, 33, 1024] {
        let footer = footer(strides);
        let bytes = footer.encode(LIFE);
        assert_eq!(bytes.len(), FOOTER_TRAILER_BYTES + 4 * strides as usize);
        let trailer = bytes.last_chunk().unwrap();
        assert_eq!(Footer::index_bytes(trailer), Some(4 * u64::from(strides)));
        assert_eq!(Footer::decode(LIFE, &bytes), Some(footer));
    }
}

#[test]
fn any_flipped_bit_of_a_footer_is_noticed() {
    each_flip(&footer(5).encode(LIFE), |bit, bytes| {
        assert_eq!(Footer::decode(LIFE, bytes), None, "bit {bit}");
    });
}

#[test]
fn footer_of_another_life_is_none() {
    let bytes = footer(3).encode(LIFE);
    for bit in 0..32 {
        assert_eq!(Footer::decode(Life { salt: LIFE.salt ^ (1 << bit), ..LIFE }, &bytes), None, "bit {bit}");
    }
    assert_eq!(Footer::decode(Life { base: LIFE.base + 1, ..LIFE }, &bytes), None);
}

#[test]
fn footer_that_is_cut_or_harmed_is_none_and_survived() {
    let bytes = footer(7).encode(LIFE);
    each_harm(&bytes, |harmed| {
        assert!(harmed == bytes || Footer::decode(LIFE, harmed).is_none());
    });
    for from in 1..bytes.len() {
        assert_eq!(Footer::decode(LIFE, &bytes[from..]), None, "without its first {from} bytes");
    }
}

#[test]
fn footer_that_counts_more_than_fits_is_none() {
    let fits = Footer { records: 100, tasks: 100, end: 3200, ..footer(1) };
    let lies = [Footer { records: 101, ..fits.clone() }, Footer { tasks: 101, ..fits.clone() }];
    assert_eq!(Footer::decode(LIFE, &fits.encode(LIFE)), Some(fits));
    for lie in lies {
        assert_eq!(Footer::decode(LIFE, &lie.encode(LIFE)), None, "{lie:?}");
    }
}

#[test]
fn footer_whose_count_lies_is_none_whatever_it_says() {
    for count in [0, 1, 6, 8, 0x4000_0007, u32::MAX] {
        let mut bytes = footer(7).encode(LIFE);
        let end = bytes.len();
        bytes[end - 20..end - 16].copy_from_slice(&count.to_le_bytes());
        let seed = u32::try_from(LIFE.salt & 0xFFFF_FFFF).unwrap();
        let check = super::naive_crc(seed, &bytes[..end - 4]);
        bytes[end - 4..].copy_from_slice(&check.to_le_bytes());
        let trailer = bytes.last_chunk().unwrap();
        assert_eq!(Footer::index_bytes(trailer), Some(4 * u64::from(count)), "a count is read before it is verified");
        assert_eq!(Footer::decode(LIFE, &bytes), None, "{count} for 7");
    }
    assert_eq!(Footer::index_bytes(&[0; FOOTER_TRAILER_BYTES]), None, "zeros have no footer");
    assert_eq!(Footer::index_bytes(&[0xFF; FOOTER_TRAILER_BYTES]), None);
}

/// 4 KiB to 1 GiB: powers of two, what lies beside them, and sizes without any order.
fn sizes() -> impl Iterator<Item = u64> {
    let beside = [-4097_i64, -4096, -32, -8, -1, 0, 1, 7, 8, 24, 32, 33, 4096, 32_768];
    let powers = (12..=30).flat_map(move |power| beside.map(|by| (1_u64 << power).saturating_add_signed(by)));
    let odd = (0..4000).map(|at| 4096 + at * at * 67 + at % 13);
    powers.chain(odd).filter(|size| (4096..=1 << 30).contains(size))
}

#[test]
fn block_and_footer_have_room_for_every_record_that_fits() {
    for size in sizes() {
        let limit = u64::from(record_limit(size));
        assert!(limit.is_multiple_of(8), "extents end on a word, size {size}");
        assert!(limit > PRELUDE_BYTES as u64 && limit < size, "size {size}");
        let records_max = (limit - PRELUDE_BYTES as u64) / HEADER_BYTES as u64;
        assert!(records_max < u64::from(block_for(size)), "a sequence for every record and one to spare, size {size}");
        let strides = records_max.div_ceil(u64::from(SEEK_STRIDE));
        let needed = FOOTER_TRAILER_BYTES as u64 + 4 * strides;
        assert!(needed <= footer_bytes_max(size), "size {size}");
        assert!(limit + needed <= size, "the footer of a full segment fits behind its records, size {size}");
        assert!(size - limit < 48 + 4 + 8 + size / 8192 + 4, "and takes no more than it may need, size {size}");
    }
}

#[test]
fn larger_segment_has_more_room() {
    let mut sizes: Vec<u64> = sizes().collect();
    sizes.sort_unstable();
    for pair in sizes.windows(2) {
        assert!(record_limit(pair[0]) <= record_limit(pair[1]) && block_for(pair[0]) <= block_for(pair[1]));
    }
}

#[test]
fn size_that_no_segment_has_is_survived() {
    for size in [0, 1, 47, 48, 49, 511, 1 << 32, u64::MAX] {
        let _block = block_for(size);
        assert!(u64::from(record_limit(size)) <= size);
    }
}

#[test]
fn only_the_names_that_are_given_are_read_back() {
    for number in [0, 1, 0x6BCD_EF01, (1 << 31) - 1] {
        assert_eq!(parse_file_name(&file_name(number)), Some(number));
    }
    assert_eq!(file_name(0xA5), "000000a5.seg");
    for name in [
        "",
        ".seg",
        "a5.seg",
        "000000A5.seg",
        "+00000a5.seg",
        "0000000a5.seg",
        "000000a5.SEG",
        "000000a5",
        "é0000a5.seg",
        "80000000.seg",
        "ffffffff.seg",
    ] {
        assert_eq!(parse_file_name(name), None, "{name}");
    }
}
