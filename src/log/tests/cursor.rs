//! A cursor goes over everything that is published, once and in order, and says what it had to skip.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::super::append::Log;
use super::super::cursor::{Cursor, Step};
use super::super::segment::Segment;
use super::{OneLog, delivered, read, step};
use crate::format::segment::SEEK_STRIDE;
use crate::sim::Loss;
use crate::storage::{File, Region, Storage};
use crate::types::{LogId, Seq};

/// What a cursor says of a damaged log, in few words.
#[derive(PartialEq, Eq, Debug)]
enum Said {
    Whole(u32),
    /// The header verified and the body did not.
    Broken(u32),
    Lost(Option<(u32, u32)>),
    Unreadable(u64),
}

fn said(log: &Log) -> Vec<Said> {
    let (mut cursor, mut said) = (Cursor::from_base(0), Vec::new());
    loop {
        said.push(match cursor.step(log, u64::MAX) {
            Step::Entered => continue,
            Step::Task(header) => match read(&cursor, &header) {
                (_, Some(_)) => Said::Whole(header.index),
                (_, None) => Said::Broken(header.index),
            },
            Step::Damaged { lost, .. } => Said::Lost(lost),
            Step::Unreadable { segment, .. } => Said::Unreadable(segment.base()),
            Step::End => return said,
        });
    }
}

/// A log of one segment with `count` tasks of 8 bytes, and the offset of each.
fn eights(count: u8) -> (OneLog, Vec<usize>) {
    let mut one = OneLog::new(4096);
    let offsets = (0..count).map(|at| {
        let offset = one.log.head().unwrap().1 as usize;
        one.append(&[at + 1; 8]);
        offset
    });
    let offsets = offsets.collect();
    one.commit();
    (one, offsets)
}

/// The log found again after some bytes were changed at rest.
fn harmed(one: &OneLog, bytes: &[usize]) -> Log {
    let disk = one.disk.restart(Loss::Process);
    for byte in bytes {
        disk.flip_bit(&one.active().file_name(), *byte, 5);
    }
    one.found_on(&disk)
}

fn whole(indices: Range<u32>) -> impl Iterator<Item = Said> {
    indices.map(Said::Whole)
}

#[test]
fn cursor_reads_every_task_once_and_in_order_over_rolls_batches_and_marks() {
    let mut one = OneLog::new(4096);
    let mut expected = Vec::new();
    let mut cursor = Cursor::from_base(0);
    let mut along = Vec::new();
    for at in 0..200_usize {
        let payload = vec![u8::try_from(at).unwrap(); at];
        let first = if at % 9 == 0 {
            let first = one.batch(&[&payload, b"inner"]).first;
            expected.push((Seq(first.0 + 1), b"inner".to_vec()));
            first
        } else {
            one.append(&payload).first
        };
        expected.push((first, payload));
        if at % 4 == 0 {
            one.commit();
        }
        loop {
            match cursor.step(&one.log, 0) {
                Step::Entered => {}
                Step::Task(header) => along.push(read(&cursor, &header).0),
                _ => break,
            }
        }
    }
    expected.sort();
    assert!(one.log.segments().len() > 5);
    assert_eq!(delivered(&one.log, 0), expected);
    assert!(along.iter().eq(expected.iter().map(|(seq, _)| seq)), "and a cursor that follows sees the same");
}

#[test]
fn power_task_is_not_delivered_before_it_is_durable_and_nothing_overtakes_it() {
    let mut one = OneLog::new(4096);
    one.append(b"1");
    let power = one.append_power(b"2");
    let last = one.append(b"3");
    let count = |durable| delivered(&one.log, durable).len();
    assert_eq!((count(0), count(power.end - 1), count(power.end)), (1, 1, 3));
    let mut cursor = Cursor::from_base(0);
    assert!(matches!(step(&mut cursor, &one.log, 0), Step::Task(_)));
    assert!(matches!(cursor.step(&one.log, 0), Step::End), "asked again and again");
    assert!(matches!(cursor.step(&one.log, 0), Step::End));
    let durable = one.commit();
    assert!(matches!(cursor.step(&one.log, durable), Step::Task(_)));
    assert!(durable >= last.end);
}

#[test]
fn header_that_does_not_verify_costs_its_record_alone() {
    let (one, offsets) = eights(6);
    for (index, offset) in (0_u32..).zip(&offsets) {
        for byte in [0, 4, 8, 12, 16, 24, 31] {
            let expected: Vec<_> =
                whole(0..index).chain([Said::Lost(Some((index, index)))]).chain(whole(index + 1..6)).collect();
            assert_eq!(said(&harmed(&one, &[offset + byte])), expected, "byte {byte} of record {index}");
        }
    }
}

#[test]
fn body_that_does_not_verify_is_handed_on_for_the_reader_to_check() {
    let (one, offsets) = eights(4);
    for (index, offset) in (0_u32..).zip(&offsets) {
        for byte in 32..40 {
            let expected: Vec<_> = whole(0..index).chain([Said::Broken(index)]).chain(whole(index + 1..4)).collect();
            assert_eq!(said(&harmed(&one, &[offset + byte])), expected);
        }
    }
}

#[test]
fn damage_in_a_row_is_told_once_and_damage_apart_twice() {
    let (one, at) = eights(8);
    let row = said(&harmed(&one, &[at[2], at[3], at[4]]));
    let expected: Vec<_> = whole(0..2).chain([Said::Lost(Some((2, 4)))]).chain(whole(5..8)).collect();
    assert_eq!(row, expected);
    let apart = said(&harmed(&one, &[at[0], at[7]]));
    let expected: Vec<_> =
        [Said::Lost(Some((0, 0)))].into_iter().chain(whole(1..7)).chain([Said::Lost(Some((7, 7)))]).collect();
    assert_eq!(apart, expected, "the seal tells what the last one was");
}

#[test]
fn damaged_batch_header_costs_no_task() {
    let mut one = OneLog::new(4096);
    one.append(b"before");
    let header = one.log.head().unwrap().1 as usize;
    one.batch(&[b"1", b"2"]);
    one.append(b"after");
    one.commit();
    let expected = [Said::Whole(0), Said::Lost(None), Said::Whole(1), Said::Whole(2), Said::Whole(3)];
    assert_eq!(said(&harmed(&one, &[header + 4])), expected);
}

#[test]
fn damage_does_not_reach_the_next_life() {
    let (mut one, at) = eights(2);
    let file = one.active().file_name();
    one.roll();
    one.append(b"next");
    one.commit();
    let disk = one.disk.restart(Loss::Process);
    disk.flip_bit(&file, at[1] + 8, 0);
    let found = said(&one.found_on(&disk));
    assert_eq!(found, [Said::Whole(0), Said::Lost(Some((1, 1))), Said::Whole(0)]);
}

/// A file that can't be mapped.
struct NoMap(Arc<dyn File>);

impl File for NoMap {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, buf)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, bytes)
    }
    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.truncate(len)
    }
    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
    fn sync_range(&self, range: Range<u64>) -> io::Result<()> {
        self.0.sync_range(range)
    }
    fn map(&self) -> io::Result<Region> {
        Err(io::Error::from_raw_os_error(12))
    }
}

#[test]
fn life_that_can_not_be_read_is_named_once_and_the_rest_is_served() {
    let mut one = OneLog::new(4096);
    one.append(b"1");
    one.roll();
    one.append(b"2");
    one.roll();
    one.append(b"3");
    one.commit();
    let disk = one.disk.restart(Loss::Process);
    let whole = one.found_on(&disk).segments();
    let broken = Arc::new(Segment::found(
        *whole[1].header(),
        Arc::new(NoMap(disk.open(&whole[1].file_name()).unwrap())),
        whole[1].position(0),
        4096,
        whole[1].sealed().unwrap(),
        1,
        Vec::new(),
    ));
    let log = Log::new(LogId(0), vec![whole[0].clone(), broken, whole[2].clone()], whole[2].base());
    assert_eq!(said(&log), [Said::Whole(0), Said::Unreadable(whole[1].base()), Said::Whole(0)]);
}

#[test]
fn cursor_stands_where_it_is_put() {
    let mut one = OneLog::new(4096);
    let first = one.append(b"1").first;
    one.roll();
    let second = one.append(b"2").first;
    let bases: Vec<u64> = one.log.segments().iter().map(|segment| segment.base()).collect();
    let cases = [
        (0, Some(first)),
        (bases[0], Some(first)),
        (bases[0] + 1, Some(second)),
        (bases[1], Some(second)),
        (bases[1] + 1, None),
    ];
    for (from, expected) in cases {
        let mut cursor = Cursor::from_base(from);
        assert_eq!((cursor.base(), cursor.source().is_none()), (from, true));
        let entered = matches!(cursor.step(&one.log, 0), Step::Entered);
        assert_eq!(entered, expected.is_some(), "a life is entered before anything of it is seen");
        let Some(expected) = expected else { continue };
        let base = bases[usize::from(expected == second)];
        assert_eq!(cursor.source().map(|source| source.segment.base()), Some(base));
        let Step::Task(header) = cursor.step(&one.log, 0) else { panic!("there is a task") };
        assert_eq!((read(&cursor, &header).0, cursor.base()), (expected, base), "from base {from}");
    }
}

#[test]
fn life_can_be_left_before_its_end() {
    let mut one = OneLog::new(4096);
    one.append(b"1");
    one.append(b"2");
    one.roll();
    let third = one.append(b"3").first;
    let mut cursor = Cursor::from_base(0);
    cursor.skip_life();
    assert_eq!(cursor.base(), 0, "a cursor that stands in no life has none to leave");
    assert!(matches!(step(&mut cursor, &one.log, 0), Step::Task(_)));
    cursor.skip_life();
    let Step::Task(header) = step(&mut cursor, &one.log, 0) else { panic!("the next life's first") };
    assert_eq!(read(&cursor, &header).0, third);
    assert!(matches!(step(&mut cursor, &one.log, 0), Step::End));
}

#[test]
fn skip_goes_forward_by_the_seek_table_and_never_over_its_goal() {
    let mut one = OneLog::new(1 << 20);
    for _ in 0..3 * SEEK_STRIDE {
        one.append(b"task");
    }
    for goal in [0, 1, SEEK_STRIDE - 1, SEEK_STRIDE, 2 * SEEK_STRIDE + 7, u32::MAX] {
        let mut cursor = Cursor::from_base(0);
        let index_after = |cursor: &mut Cursor| match step(cursor, &one.log, 0) {
            Step::Task(header) => header.index,
            _ => panic!("there is a task"),
        };
        cursor.skip_to(goal);
        assert_eq!(index_after(&mut cursor), 0, "a cursor that stands nowhere stays");
        cursor.skip_to(goal);
        let stride = (goal / SEEK_STRIDE).min(2) * SEEK_STRIDE;
        assert_eq!(index_after(&mut cursor), stride.max(1), "goal {goal}");
        cursor.skip_to(0);
        assert_eq!(index_after(&mut cursor), stride.max(1) + 1, "never back");
    }
}

#[test]
fn there_may_be_more_where_there_is_more() {
    let mut one = OneLog::new(4096);
    let mut cursor = Cursor::from_base(0);
    for _ in 0..50 {
        while !matches!(cursor.step(&one.log, 0), Step::End) {}
        assert!(!cursor.may_have_more(&one.log), "all was seen");
        one.append(&[1; 300]);
        assert!(cursor.may_have_more(&one.log));
        assert!(matches!(step(&mut cursor, &one.log, 0), Step::Task(_)));
    }
    assert!(!Cursor::from_base(u64::MAX).may_have_more(&one.log));
}

#[test]
fn who_waits_for_a_task_that_is_not_durable_is_not_told_again_and_again_that_there_may_be_more() {
    let mut one = OneLog::new(4096);
    let mut cursor = Cursor::from_base(0);
    for _ in 0..20 {
        let durable = one.log.durable();
        one.append_power(&[1; 300]);
        assert!(cursor.may_have_more(&one.log), "nobody looked yet");
        while !matches!(cursor.step(&one.log, durable), Step::End) {}
        assert!(!cursor.may_have_more(&one.log), "it waits for a commit");
        one.append(&[1; 8]);
        assert!(!cursor.may_have_more(&one.log), "and so does what is behind it");
        one.commit();
        assert!(cursor.may_have_more(&one.log));
        let durable = one.log.durable();
        assert!(matches!(step(&mut cursor, &one.log, durable), Step::Task(_)));
        assert!(matches!(step(&mut cursor, &one.log, durable), Step::Task(_)));
    }
}
