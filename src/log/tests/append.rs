//! Claims in a row, batches, rolls, seals and the seek table.

use super::super::append::{Draft, Log, NotAppended};
use super::super::scan;
use super::{Maker, NOW, OneLog, PRELUDE, delivered, draft};
use crate::format::record::{self, Found, Kind, MARK_BYTES};
use crate::format::segment::{LifeHeader, SEEK_STRIDE};
use crate::sim::SimDisk;
use crate::storage::Storage;
use crate::types::{LogId, Seq};

#[test]
fn records_take_sequences_and_room_in_a_row() {
    let mut one = OneLog::new(4096);
    let base = one.active().base();
    let mut end = one.active().position(PRELUDE);
    for (at, payload) in [&b""[..], b"1", b"12345678", b"123456789"].into_iter().enumerate() {
        let appended = one.append(payload);
        end += u64::from(record::extent_bytes(0, payload.len()).unwrap());
        assert_eq!((appended.first, appended.end), (Seq(base + at as u64), end));
        assert_eq!((one.log.published(), one.log.next_seq()), (end, Seq(base + at as u64 + 1)));
    }
    assert_eq!(one.log.head().unwrap().2, 4);
    let payloads: Vec<_> = delivered(&one.log, 0).into_iter().map(|(_, payload)| payload.len()).collect();
    assert_eq!(payloads, [0, 1, 8, 9], "an empty payload is a task like any other");
}

#[test]
fn log_without_a_segment_asks_for_one_and_what_no_segment_holds_is_refused() {
    let log = Log::new(LogId(0), Vec::new(), 77);
    assert_eq!(log.append(&draft(b"x"), NOW).unwrap_err(), NotAppended::NeedsRoll { bytes: 40, seen_base: 77 });
    let too_many = vec![0; 65_536];
    let too_large = Draft { fields: &too_many, ..draft(b"") };
    assert_eq!(log.append(&too_large, NOW).unwrap_err(), NotAppended::TooLarge);
    assert_eq!(log.append_batch(&[draft(b""), too_large], NOW).unwrap_err(), NotAppended::TooLarge);
}

#[test]
fn segment_is_filled_to_its_limit_and_a_refused_append_writes_nothing() {
    let one = OneLog::new(4096);
    let limit = one.active().limit();
    let room = limit - PRELUDE;
    let too_much = vec![1; room as usize - 31];
    let refused = one.log.append(&draft(&too_much), NOW).unwrap_err();
    assert_eq!(refused, NotAppended::NeedsRoll { bytes: room + 8, seen_base: one.active().base() });
    assert_eq!(one.log.head().unwrap().1, PRELUDE, "nothing was claimed");
    let appended = one.log.append(&draft(&too_much[..room as usize - 32]), NOW).unwrap();
    assert_eq!(appended.end, one.active().position(limit));
    assert!(one.log.append(&draft(b""), NOW).is_err());
}

#[test]
fn batch_is_one_extent_with_sequences_in_a_row() {
    let mut one = OneLog::new(4096);
    one.append(b"before");
    let payloads: [&[u8]; 4] = [b"a", b"", b"a longer one", b"12345678"];
    let start = one.log.head().unwrap().1;
    let batch = one.batch(&payloads);
    let after = one.append(b"after");
    assert_eq!(after.first, Seq(batch.first.0 + 4));
    let segment = one.active();
    let region = segment.region().unwrap();
    region.advance();
    let bytes = region.slice(start as usize..region.readable()).unwrap();
    let Found::Record(header) = record::read(segment.life(), start, bytes) else { panic!("a batch header") };
    let drafts: Vec<_> = payloads.iter().map(|payload| draft(payload)).collect();
    assert_eq!((header.kind, Some(u64::from(header.bytes))), (Kind::Batch, Log::batch_bytes(&drafts)));
    assert_eq!(batch.end, segment.position(start + header.bytes), "durable as a whole");
    let delivered: Vec<_> = delivered(&one.log, 0).into_iter().collect();
    let expected = [&b"before"[..], b"a", b"", b"a longer one", b"12345678", b"after"];
    assert!(delivered.iter().map(|(_, payload)| &payload[..]).eq(expected));
    assert!(delivered.windows(2).all(|pair| pair[1].0.0 == pair[0].0.0 + 1));
}

#[test]
fn batch_of_nothing_uses_no_sequence() {
    let mut one = OneLog::new(4096);
    let empty = one.batch(&[]);
    let next = one.append(b"next");
    assert_eq!((empty.first, one.active().tasks()), (next.first, 1));
}

#[test]
fn roll_seals_the_life_before_and_chains_to_it() {
    let mut one = OneLog::new(4096);
    one.append(b"1");
    one.append(b"2");
    let old = one.active();
    let end = one.log.head().unwrap().1;
    assert!(old.sealed().is_none());
    one.roll();
    let new = one.active();
    let sealed = old.sealed().unwrap();
    assert_eq!((sealed.end, sealed.records), (end, 2));
    assert_eq!((new.header().predecessor, new.header().predecessor_end), (old.base(), end));
    assert_eq!(new.position(0), old.next_start(), "log positions go on behind the file");
    assert!(new.base() > old.base() + u64::from(old.header().block) - 1, "blocks never touch");
    let third = one.append(b"3");
    assert_eq!(third.first, Seq(new.base()));
    assert_eq!(one.log.head(), Some((new.base(), PRELUDE + 40, 1)));
    let mut prelude = vec![0; PRELUDE as usize];
    one.disk.open(&new.file_name()).unwrap().read_at(0, &mut prelude).unwrap();
    assert_eq!(LifeHeader::decode(&prelude), Ok(*new.header()), "the prelude is in the file");
}

#[test]
fn roll_that_comes_second_gives_its_segment_back() {
    let mut one = OneLog::new(4096);
    let seen = one.log.last_base();
    one.roll();
    let (ready, birth) = (one.maker.ready(), one.maker.birth());
    let number = ready.number;
    let back = one.log.roll(ready, seen, &birth).expect("somebody rolled since");
    assert_eq!((back.number, one.log.segments().len()), (number, 2));
}

#[test]
fn segments_are_found_by_sequence_and_go_when_they_are_detached() {
    let mut one = OneLog::new(4096);
    one.append(b"1");
    one.roll();
    one.append(b"2");
    let bases: Vec<u64> = one.log.segments().iter().map(|segment| segment.base()).collect();
    let block = u64::from(one.active().header().block);
    let base_of = |seq| one.log.segment_of(Seq(seq)).map(|segment| segment.base());
    for base in &bases {
        assert_eq!((base_of(*base), base_of(base + block - 1)), (Some(*base), Some(*base)));
    }
    assert_eq!((base_of(bases[0] - 1), base_of(bases[1] + block)), (None, None));
    let from = |base| one.log.segment_from(base).map(|segment| segment.base());
    assert_eq!((from(0), from(bases[0] + 1), from(bases[1] + 1)), (Some(bases[0]), Some(bases[1]), None));
    assert_eq!(one.log.detach(bases[0]).map(|segment| segment.base()), Some(bases[0]));
    assert!(one.log.detach(bases[0]).is_none());
    assert_eq!((base_of(bases[0]), from(0)), (None, Some(bases[1])));
    let last = one.append(b"3").end;
    assert_eq!(one.commit(), last, "a commit goes on without it");
}

#[test]
fn seek_table_leads_to_a_record_at_or_before_every_index() {
    let mut one = OneLog::new(1 << 20);
    let (mut count, mut step) = (0, 0);
    while count < 5 * SEEK_STRIDE {
        step += 1;
        let batch = vec![&b"in a batch"[..]; step % 700];
        one.append(b"alone");
        one.batch(&batch);
        count += 1 + u32::try_from(batch.len()).unwrap();
    }
    let segment = one.active();
    let region = segment.region().unwrap();
    let bytes = region.slice(0..region.advance()).unwrap();
    for index in (0..count).step_by(97).chain([SEEK_STRIDE - 1, SEEK_STRIDE, 4 * SEEK_STRIDE]) {
        let (known, offset) = segment.seek(index).unwrap();
        assert_eq!(known, index / SEEK_STRIDE * SEEK_STRIDE, "the nearest stride before {index}");
        let Found::Record(header) = record::read(segment.life(), offset, &bytes[offset as usize..]) else {
            panic!("nothing at {offset}")
        };
        assert_eq!(header.index, known);
    }
    let table = segment.seek_table(count);
    assert_eq!(table.len(), count.div_ceil(SEEK_STRIDE) as usize);
    let scan = scan::walk(segment.life(), bytes, PRELUDE, 0, 0);
    let tabled = (0..).step_by(SEEK_STRIDE as usize).zip(table);
    for ((index, offset), (scanned, at)) in tabled.zip(&scan.seek) {
        // A batch's first record: the table has its header, a scan of a batch its record.
        assert!(index == *scanned && (offset == *at || offset + 32 == *at), "scan and table agree on {index}");
    }
    assert_eq!(scan.seek.len(), count.div_ceil(SEEK_STRIDE) as usize);
}

#[test]
fn recycled_segment_shows_nothing_of_its_earlier_life() {
    let disk = SimDisk::new(1);
    let mut maker = Maker::new(&disk, 4096);
    let mut ready = maker.ready();
    ready.file.write_at(0, &[0xEE; 4096]).unwrap();
    ready.region = ready.file.map().unwrap();
    let log = Log::new(LogId(0), Vec::new(), 0);
    assert!(log.roll(ready, 0, &maker.birth()).is_none());
    assert!(delivered(&log, 0).is_empty());
    log.append(&draft(b"abc"), NOW).unwrap();
    log.append_batch(&[draft(b"d"), draft(b"ef")], NOW).unwrap();
    let region = log.segments()[0].region().unwrap();
    let bytes = region.slice(0..region.advance()).unwrap();
    for gap in [512 + 35..552, 552 + 32 + 33..624, 624 + 34..664] {
        assert!(bytes[gap].iter().all(|byte| *byte == 0), "gaps are zeroed, so equal records are equal bytes");
    }
    assert_eq!(bytes.len(), 664);
    assert_eq!(delivered(&log, 0).len(), 3);
}

#[test]
fn append_into_a_map_that_failed_is_in_doubt_and_names_what_it_would_be() {
    let mut one = OneLog::new(4096);
    let before = one.append(b"before");
    let (segment, head) = (one.active(), one.log.head().unwrap());
    segment.region().unwrap().mark_failed();
    let failed = |ahead| NotAppended::Failed { first: Seq(before.first.0 + ahead), file: segment.header().file };
    assert_eq!(one.log.append(&draft(b"in doubt"), NOW).unwrap_err(), failed(1));
    assert_eq!(one.log.append_batch(&[draft(b"1"), draft(b"2")], NOW).unwrap_err(), failed(2));
    assert_eq!(one.log.append(&draft(b"in doubt"), NOW).unwrap_err(), failed(4));
    assert_eq!(one.log.head().unwrap().2, head.2 + 4, "their sequences are used up");
}

#[test]
fn marks_use_no_sequence_and_no_task() {
    let mut one = OneLog::new(4096);
    one.append(b"1");
    one.commit();
    let second = one.append(b"2");
    let before = one.log.head().unwrap();
    one.commit();
    let after = one.log.head().unwrap();
    assert_eq!((after.1, after.2), (before.1 + MARK_BYTES, before.2));
    assert_eq!((one.append(b"3").first.0, one.active().tasks()), (second.first.0 + 1, 3));
}
