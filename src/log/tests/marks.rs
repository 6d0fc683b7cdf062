//! Marks: written at the head of the next commit, found again by searching, and not to be mistaken.

use super::super::scan::last_mark;
use super::super::segment::Place;
use super::{Laid, OneLog, PRELUDE};
use crate::format::record::{self, Found, Kind, Life, MARK_BYTES, Record};

const LIFE: Life = Life { salt: 0x1234_5678_9ABC_DEF0, base: 500 };

/// Every mark in the log's newest segment: where it stands and what it says.
fn marks(one: &OneLog) -> Vec<(u32, Place)> {
    let segment = one.active();
    let region = segment.region().unwrap();
    let bytes = region.slice(0..region.advance()).unwrap();
    let mut found = Vec::new();
    for at in (PRELUDE..u32::try_from(bytes.len()).unwrap()).step_by(8) {
        let rest = &bytes[at as usize..];
        if let Found::Record(header) = record::read(segment.life(), at, rest)
            && header.kind == Kind::Mark
        {
            let body = record::verify(segment.life(), &header, rest).unwrap();
            let (base, offset) = record::read_mark(body.payload).unwrap();
            found.push((at, Place { base, offset }));
        }
    }
    found
}

fn found(one: &OneLog) -> Option<Place> {
    let segment = one.active();
    let region = segment.region().unwrap();
    last_mark(segment.life(), region.slice(0..region.advance()).unwrap(), PRELUDE)
}

#[test]
fn mark_stands_at_the_head_of_the_next_commit_and_names_the_one_before() {
    let mut one = OneLog::new(4096);
    one.append(b"1");
    one.commit();
    assert_eq!((marks(&one), found(&one)), (vec![], None), "nothing was durable before the first");
    let first = one.log.durable_place().0;
    one.append(b"2");
    let at = one.log.head().unwrap().1;
    one.commit();
    assert_eq!(marks(&one), [(at, first)]);
    let second = one.log.durable_place().0;
    assert_eq!(second.offset, at + MARK_BYTES, "the mark is durable with the commit");
    one.append(b"3");
    one.commit();
    assert_eq!(found(&one), Some(second));
}

#[test]
fn idle_log_gets_one_last_mark_and_then_no_more() {
    let mut one = OneLog::new(4096);
    assert!(!one.log.wants_mark());
    one.append(b"1");
    assert!(!one.log.wants_mark(), "nothing is durable yet");
    one.commit();
    assert!(one.log.wants_mark(), "a crash now could not tell corrupt from torn");
    let place = one.log.durable_place().0;
    one.commit();
    assert_eq!(found(&one), Some(place));
    assert!(!one.log.wants_mark());
    let (head, operations) = (one.log.head(), one.disk.operations());
    for _ in 0..3 {
        one.commit();
    }
    assert_eq!((one.log.head(), one.disk.operations()), (head, operations), "marks don't follow marks");
    one.append(b"2");
    one.commit();
    assert!(one.log.wants_mark());
}

#[test]
fn mark_that_has_no_room_is_written_in_the_next_segment() {
    let mut one = OneLog::new(4096);
    let room = one.active().limit() - PRELUDE;
    one.append(&vec![1; room as usize - 32]);
    one.commit();
    let place = one.log.durable_place().0;
    assert_eq!(place.offset, one.active().limit());
    one.commit();
    assert_eq!(marks(&one), [], "the segment is full");
    one.append(b"next");
    assert_eq!(one.log.segments().len(), 2);
    one.commit();
    let at = PRELUDE + 40;
    assert_eq!((marks(&one), found(&one)), (vec![(at, place)], Some(place)), "a mark speaks of its log, not its life");
}

#[test]
fn failed_commit_does_not_let_a_mark_claim_more_than_is_durable() {
    let mut one = OneLog::new(4096);
    one.append(b"1");
    one.commit();
    let durable = one.log.durable_place().0;
    one.append(b"2");
    one.disk.fail_at(one.disk.operations(), 5);
    one.log.commit(super::NOW, false).unwrap_err();
    assert_eq!(found(&one), Some(durable));
}

#[test]
fn last_mark_is_the_last_one_wherever_the_search_begins() {
    let mut laid = Laid::new(LIFE);
    let mut marks = Vec::new();
    for at in 0..20 {
        laid.task(&[at; 61]);
        if at % 3 == 0 {
            marks.push((
                laid.mark(LIFE.base, 512 + u32::from(at)),
                Place { base: LIFE.base, offset: 512 + u32::from(at) },
            ));
        }
    }
    let last = marks.last().unwrap();
    for from in (0..last.0 + 1).step_by(8) {
        assert_eq!(last_mark(LIFE, &laid.bytes, from), Some(last.1), "from {from}");
    }
    assert_eq!(last_mark(LIFE, &laid.bytes, last.0 + 1), None, "behind it");
    for (at, place) in &marks {
        let end = *at as usize + MARK_BYTES as usize;
        assert_eq!(last_mark(LIFE, &laid.bytes[..end], 0), Some(*place));
        assert_ne!(last_mark(LIFE, &laid.bytes[..end - 1], 0), Some(*place), "one that is cut is none");
    }
    assert_eq!(last_mark(LIFE, &[], 0), None);
}

#[test]
fn mark_behind_damage_is_found_and_a_damaged_one_is_not() {
    let mut laid = Laid::new(LIFE);
    let task = laid.task(b"damaged");
    laid.mark(LIFE.base, 1);
    let second = laid.mark(LIFE.base, 2);
    laid.flip(task);
    assert_eq!(last_mark(LIFE, &laid.bytes, PRELUDE), Some(Place { base: LIFE.base, offset: 2 }));
    for byte in 0..MARK_BYTES {
        laid.flip(second + byte);
        assert_eq!(last_mark(LIFE, &laid.bytes, PRELUDE), Some(Place { base: LIFE.base, offset: 1 }), "byte {byte}");
        laid.flip(second + byte);
    }
}

#[test]
fn marks_of_an_earlier_life_and_marks_in_payloads_are_not_found() {
    let old = Life { salt: 0xDEAD_BEEF_0BAD_CAFE, base: 100 };
    let mut recycled = Laid::new(old);
    while recycled.end() < 3000 {
        recycled.task(b"of the earlier life");
        recycled.mark(old.base, recycled.end());
    }
    assert!(last_mark(old, &recycled.bytes, PRELUDE).is_some());
    let mut laid = Laid::new(LIFE);
    let mark = laid.mark(LIFE.base, 777);
    let sealed = laid.bytes[mark as usize..].to_vec();
    // The same life's own mark, as a payload at every alignment.
    for shift in 0..8 {
        let payload = [&vec![0; shift][..], &sealed, &sealed].concat();
        laid.task(&payload);
    }
    recycled.bytes[..laid.bytes.len()].copy_from_slice(&laid.bytes);
    assert_eq!(last_mark(LIFE, &recycled.bytes, PRELUDE), Some(Place { base: LIFE.base, offset: 777 }));
}

#[test]
fn record_as_long_as_a_mark_is_none() {
    let mut laid = Laid::new(LIFE);
    laid.task(&record::mark_payload(LIFE.base, 512));
    laid.record(Kind::Entry, 0, &record::mark_payload(LIFE.base, 512));
    let odd = Record { index: 2, kind: Kind::Mark, flags: 0, time: super::NOW, fields: &[], payload: &[1; 15] };
    let offset = laid.end();
    laid.bytes.extend(record::seal(LIFE, offset, &odd).unwrap());
    laid.bytes.extend([1; 15]);
    laid.zeros(1);
    assert_eq!(last_mark(LIFE, &laid.bytes, PRELUDE), None);
}

#[test]
fn mark_behind_zeros_of_any_length_is_found() {
    for zeros in [8, 4096, 64 << 10, 200 << 10, 3 << 20] {
        let mut laid = Laid::new(LIFE);
        laid.task(b"task");
        laid.zeros(zeros);
        laid.mark(LIFE.base, 9);
        assert_eq!(last_mark(LIFE, &laid.bytes, PRELUDE), Some(Place { base: LIFE.base, offset: 9 }), "{zeros} zeros");
    }
}
