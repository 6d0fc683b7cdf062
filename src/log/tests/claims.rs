//! Between claim and publish: what a claim that is held, given up or lost to a panic does to everything else.
//!
//! A child of the room's `append`, because nobody else can hold an extent that is not published.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::{Extent, Kind, Log};
use crate::format::record::Record;
use crate::log::scan;
use crate::log::tests::{OneLog, delivered};
use crate::types::{Seq, Timestamp};

/// Bytes of a record with a payload of one to eight.
const BYTES: u32 = 40;

fn claim(log: &Log, count: u32) -> Extent<'_> {
    log.claim(BYTES * count, count, count, Kind::Task).expect("there is room")
}

fn fill(extent: Extent<'_>, payload: &[u8]) {
    let index = extent.index;
    let record = Record { index, kind: Kind::Task, flags: 0, time: Timestamp(1), fields: &[], payload };
    extent.fill_one(&record).expect("the map is whole");
}

fn payloads(log: &Log) -> Vec<Vec<u8>> {
    delivered(log, log.durable()).into_iter().map(|(_, payload)| payload).collect()
}

#[test]
fn claim_that_is_held_stops_the_durable_mark_and_no_later_claim() {
    let mut one = OneLog::new(4096);
    let before = one.append(b"before");
    let held = claim(&one.log, 1);
    let (first, end) = (held.seq(), held.end);
    drop(held);
    let held = claim(&one.log, 1);
    assert_eq!(held.seq(), Seq(first.0 + 1), "a claim that was given up keeps its sequence");
    let position = end;
    let one_log = &one.log;
    let behind: Vec<_> = (0..3).map(|_| one_log.append(&crate::log::tests::draft(b"behind"), Timestamp(1))).collect();
    assert!(behind.iter().all(Result::is_ok), "who comes later is not held up");
    for _ in 0..3 {
        assert_eq!((one_log.commit(Timestamp(1), false).unwrap(), one_log.published()), (position, position));
        assert_eq!(payloads(one_log), [b"before"]);
    }
    assert!(before.end < position);
    fill(held, b"held");
    let last = behind.last().unwrap().as_ref().unwrap().end;
    assert!(one.log.published() >= last, "the row is whole again");
    assert!(one.log.durable() < last, "and not durable before a commit says so");
    assert!(one.commit() >= last);
    assert_eq!(payloads(&one.log), [&b"before"[..], b"held", b"behind", b"behind", b"behind"]);
}

#[test]
fn claim_that_is_held_over_a_roll_stops_everything_in_the_next_segment_too() {
    let mut one = OneLog::new(4096);
    let (ready, birth) = (one.maker.ready(), one.maker.birth());
    let log = &one.log;
    let start = log.published();
    let held = claim(log, 1);
    assert!(log.roll(ready, log.last_base(), &birth).is_none());
    let next = log.append(&crate::log::tests::draft(b"next life"), Timestamp(1)).unwrap();
    assert_eq!(log.commit(Timestamp(1), false).unwrap(), start);
    assert!(payloads(log).is_empty(), "nothing overtakes");
    let first = &log.segments()[0];
    assert_eq!(first.sealed().unwrap().end, 512 + BYTES, "the seal counts what was claimed");
    fill(held, b"held");
    assert!(log.commit(Timestamp(1), false).unwrap() >= next.end);
    assert_eq!(payloads(log), [&b"held"[..], b"next life"]);
}

#[test]
fn claim_that_is_given_up_becomes_padding_and_counts_for_nobody() {
    for count in [1, 5] {
        let mut one = OneLog::new(4096);
        one.append(b"before");
        let given_up = claim(&one.log, count);
        let first = given_up.seq();
        let segment = one.active();
        assert_eq!(segment.tasks(), 1 + count, "as long as it may still be filled");
        drop(given_up);
        assert_eq!(segment.tasks(), 1);
        let after = one.append(b"after");
        assert_eq!(after.first, Seq(first.0 + u64::from(count)), "its sequences are used up");
        assert_eq!(one.commit(), after.end);
        assert_eq!(payloads(&one.log), [&b"before"[..], b"after"]);
        let region = segment.region().unwrap();
        let bytes = region.slice(0..region.readable()).unwrap();
        let scan = scan::walk(segment.life(), bytes, 512, 0, 0);
        assert_eq!((scan.end as usize, scan.tasks, scan.flaws.len()), (bytes.len(), 2, 0), "a scan steps over it");
    }
}

#[test]
fn panic_between_claim_and_publish_becomes_padding() {
    let mut one = OneLog::new(4096);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _held = claim(&one.log, 2);
        // Unwinds without the hook's message.
        resume_unwind(Box::new(()));
    }));
    assert!(panicked.is_err());
    let after = one.append(b"after");
    assert_eq!((one.commit(), one.active().tasks()), (after.end, 1));
    assert_eq!(payloads(&one.log), [b"after"]);
}

#[test]
fn entry_that_is_given_up_is_no_void_task() {
    let mut one = OneLog::new(4096);
    one.append(b"a task");
    drop(one.log.claim(BYTES, 1, 0, Kind::Entry).unwrap());
    assert_eq!(one.active().tasks(), 1);
}

#[test]
fn counts_are_known_only_where_nobody_is_between_claim_and_publish() {
    let mut one = OneLog::new(4096);
    one.append(b"a");
    one.commit();
    let (place, counted) = one.log.durable_place();
    assert_eq!((counted.place, counted.records, counted.tasks), (place, 1, 1));
    let log = &one.log;
    let held = claim(log, 1);
    log.commit(Timestamp(1), false).unwrap();
    assert_eq!(log.durable_place().1, counted, "the last place that was at rest");
    drop(held);
    log.commit(Timestamp(1), false).unwrap();
    let (place, counted) = log.durable_place();
    assert_eq!((counted.place, counted.records, counted.tasks), (place, 2, 1), "a void is no task");
}
