//! Optional fields of a task, and the numbers they and everything else are made of.

use std::time::Duration;

use super::super::fields::{
    DECISION_BYTES, DedupTrait, FIELDS_BYTES_MAX, Origin, Traits, encode_headers, headers, put_decision, set_decision,
};
use super::super::wire::{Reader, Writer};
use super::each_harm;
use crate::types::{Backoff, LaneId, Seq, Timestamp};

type Headers<'a> = Vec<(&'a str, &'a [u8])>;

fn encoded(list: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_headers(&mut out, list).expect("headers that fit");
    out
}

fn decoded(fields: &[u8]) -> Headers<'_> {
    headers(fields).collect()
}

#[test]
fn headers_come_back_in_the_order_they_were_given() {
    let longest = "n".repeat(255);
    let lists: [Headers<'_>; 5] = [
        vec![],
        vec![("", b"")],
        vec![("trace", b"\0\xFF"), ("trace", b"again"), ("größe", b"7")],
        vec![(&longest, b"value")],
        vec![("a", &[7; 60_000])],
    ];
    for list in lists {
        assert_eq!(decoded(&encoded(&list)), list);
    }
}

#[test]
fn headers_are_bounded_to_the_byte() {
    let room = FIELDS_BYTES_MAX - 4 - 1;
    let mut out = Vec::new();
    assert_eq!(encode_headers(&mut out, &[("n", vec![1; room])]), Ok(()));
    assert_eq!(out.len(), FIELDS_BYTES_MAX);
    let too_much = encode_headers(&mut Vec::new(), &[("n", vec![1; room + 1])]);
    assert_eq!(too_much, Err(FIELDS_BYTES_MAX + 1), "and the error says how much it would be");
    assert!(encode_headers(&mut Vec::new(), &[("n".repeat(256), b"")]).is_err(), "a name's length is one byte");
    assert!(encode_headers(&mut out, &[("", b"")]).is_err(), "what is there counts");
}

#[test]
fn field_that_is_not_known_is_stepped_over() {
    let first = encoded(&[("a", b"1")]);
    let unknown = [200, 3, 0, 9, 9, 9];
    let last = encoded(&[("b", b"2")]);
    let fields = [&first[..], &unknown, &last].concat();
    assert_eq!(decoded(&fields), [("a", &b"1"[..]), ("b", b"2")]);
}

#[test]
fn malformed_item_ends_the_list_and_harms_nothing_before_it() {
    let good = encoded(&[("a", b"1")]);
    let bad: [&[u8]; 6] = [&[1], &[1, 9, 0], &[1, 0, 0], &[1, 2, 0, 5, b'x'], &[1, 2, 0, 1, 0xFF], &[1, 0xFF, 0xFF, 0]];
    for bad in bad {
        let fields = [&good[..], bad].concat();
        assert_eq!(decoded(&fields), [("a", &b"1"[..])], "{bad:?}");
    }
    each_harm(&encoded(&[("name", b"value"), ("other", b"")]), |harmed| {
        assert!(headers(harmed).map(|(name, value)| name.len() + value.len()).sum::<usize>() <= harmed.len());
    });
}

#[test]
fn numbers_are_little_endian_and_come_back() {
    let mut out = Writer::over(vec![0xAA]);
    out.u8(0x01).u16(0x0203).u32(0x0405_0607).u64(0x0809_0A0B_0C0D_0E0F).raw(b"raw").text("tëxt");
    let bytes = out.into_bytes();
    assert_eq!(&bytes[..8], &[0xAA, 0x01, 0x03, 0x02, 0x07, 0x06, 0x05, 0x04]);
    let mut from = Reader::new(&bytes);
    assert_eq!(from.skip(1), Some(()));
    assert_eq!((from.u8(), from.u16(), from.u32()), (Some(1), Some(0x0203), Some(0x0405_0607)));
    assert_eq!((from.u64(), from.bytes(3)), (Some(0x0809_0A0B_0C0D_0E0F), Some(&b"raw"[..])));
    assert_eq!((from.left(), from.text(), from.left()), (7, Some("tëxt"), 0));
    assert_eq!((from.u8(), from.text(), from.bytes(0)), (None, None, Some(&[][..])));
}

/// Bytes of a value, and whether it could be taken.
type Take = (usize, fn(&mut Reader<'_>) -> bool);

#[test]
fn short_input_ends_a_value_and_takes_nothing() {
    for have in 0..8 {
        let bytes = vec![1; have];
        let needs: [Take; 5] = [
            (1, |from| from.u8().is_some()),
            (2, |from| from.u16().is_some()),
            (4, |from| from.u32().is_some()),
            (8, |from| from.u64().is_some()),
            (9, |from| from.skip(9).is_some()),
        ];
        for (needs, take) in needs {
            let mut from = Reader::new(&bytes);
            assert_eq!(take(&mut from), have >= needs);
            assert_eq!(from.left(), if have >= needs { have - needs } else { have });
        }
    }
    assert_eq!(Reader::new(&[1]).bytes(usize::MAX), None);
}

#[test]
fn text_is_cut_at_a_character_that_fits_its_length() {
    let texts =
        [("x".repeat(65_535), 65_535), ("x".repeat(65_536), 65_535), (format!("x{}", "€".repeat(30_000)), 65_533)];
    for (text, kept) in texts {
        let mut out = Writer::default();
        out.text(&text).u8(9);
        let bytes = out.into_bytes();
        let mut from = Reader::new(&bytes);
        assert_eq!(from.text(), text.get(..kept));
        assert_eq!(from.u8(), Some(9), "what follows stands where it is looked for");
    }
}

fn every_trait() -> Traits<'static> {
    Traits {
        run_at: Some(Timestamp(1)),
        expires: Some(Timestamp(u64::MAX)),
        key: Some(b"account 7"),
        dedup: Some(DedupTrait { fingerprint: 7 << 100 | 9, ends: Timestamp(300_000), order: 5 }),
        max_attempts: Some(0),
        backoff: Some(Backoff::linear(Duration::from_millis(3), Duration::from_secs(4)).jitter(5)),
        time_limit_ms: Some(6),
        origin: Some(Origin { group: 8, lane: LaneId(255), seq: Seq(10) }),
        decision: Some((11, 12)),
    }
}

#[test]
fn traits_come_back_one_by_one_and_all_together_whatever_headers_stand_behind() {
    let all = every_trait();
    let none = Traits::default();
    let singles = [
        Traits { run_at: all.run_at, ..none },
        Traits { expires: all.expires, ..none },
        Traits { key: all.key, ..none },
        Traits { dedup: all.dedup, ..none },
        Traits { max_attempts: all.max_attempts, ..none },
        Traits { backoff: all.backoff, ..none },
        Traits { time_limit_ms: all.time_limit_ms, ..none },
        Traits { origin: all.origin, ..none },
        Traits { decision: all.decision, ..none },
    ];
    for traits in singles.into_iter().chain([all, none]) {
        let mut out = Vec::new();
        traits.encode(&mut out);
        assert_eq!(out.is_empty(), traits.is_plain(), "{traits:?}");
        encode_headers(&mut out, &[("n", b"v")]).expect("room");
        assert_eq!(Traits::decode(&out), traits);
        assert_eq!(decoded(&out), [("n", &b"v"[..])]);
    }
}

#[test]
fn a_malformed_trait_is_as_if_it_were_not_there_and_harms_no_other() {
    let mut whole = Vec::new();
    every_trait().encode(&mut whole);
    for cut in 0..whole.len() {
        // Whatever comes out of a part, it is a part of the whole.
        let part = Traits::decode(&whole[..cut]);
        assert!(part.run_at.is_none_or(|at| at == Timestamp(1)) && part.key.is_none_or(|key| key == b"account 7"));
    }
    each_harm(&whole, |harmed| {
        let _anything = Traits::decode(harmed);
    });
    let short = [2, 3, 0, 1, 2, 3, 6, 4, 0, 9, 0, 0, 0];
    assert_eq!(Traits::decode(&short), Traits { max_attempts: Some(9), ..Traits::default() });
}

#[test]
fn place_of_a_decision_is_stored_in_the_item_that_was_appended_for_it() {
    let mut fields = Vec::new();
    encode_headers(&mut fields, &[("name", "value")]).unwrap();
    let before = fields.len();
    put_decision(&mut fields);
    assert_eq!(fields.len(), before + DECISION_BYTES);
    set_decision(&mut fields, (u64::MAX - 1, 77));
    let traits = Traits { decision: Some((u64::MAX - 1, 77)), ..Traits::default() };
    assert_eq!(Traits::decode(&fields), traits);
    assert_eq!(headers(&fields).collect::<Vec<_>>(), [("name", b"value".as_slice())]);
}
