//! Producers that append at once, while one commits and one reads.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::append::{Appended, Log, NotAppended};
use super::super::cursor::{Cursor, Step};
use super::super::scan;
use super::{Maker, NOW, PRELUDE, delivered, draft, read};
use crate::sim::{Rng, SimDisk};
use crate::sync::Mutex;
use crate::types::{LogId, Seq};

const THREADS: u8 = 4;
const EACH: u32 = 1500;
const SEGMENT_BYTES: u64 = 16 << 10;

/// Who wrote it, which of theirs it is, and bytes that follow from both.
fn payload(thread: u8, number: u32) -> Vec<u8> {
    let mut rng = Rng::new(u64::from(thread) << 32 | u64::from(number));
    let mut payload = vec![thread];
    payload.extend(number.to_le_bytes());
    let more = rng.below(120);
    payload.extend((0..more).map(|_| rng.next().to_le_bytes()[0]));
    payload
}

/// Appends, and rolls if it must; several may try to roll and one does.
fn append(log: &Log, maker: &Mutex<Maker>, append: impl Fn() -> Result<Appended, NotAppended>) -> Appended {
    loop {
        match append() {
            Ok(appended) => return appended,
            Err(NotAppended::NeedsRoll { seen_base, .. }) => {
                let mut maker = maker.lock();
                let (ready, birth) = (maker.ready(), maker.birth());
                let _back = log.roll(ready, seen_base, &birth);
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// One thread's tasks, alone and in batches of three, with the sequences it was told.
fn produce(log: &Log, maker: &Mutex<Maker>, thread: u8) -> BTreeMap<Seq, Vec<u8>> {
    let mut told = BTreeMap::new();
    let mut number = 0;
    let mut last = 0;
    while number < EACH {
        let count = if number % 5 == 0 { 3 } else { 1 };
        let payloads: Vec<_> = (number..number + count).map(|number| payload(thread, number)).collect();
        let drafts: Vec<_> = payloads.iter().map(|payload| draft(payload)).collect();
        let appended = match &drafts[..] {
            [one] => append(log, maker, || log.append(one, NOW)),
            batch => append(log, maker, || log.append_batch(batch, NOW)),
        };
        assert!(appended.end > last, "what one thread appends later lies behind");
        last = appended.end;
        told.extend((appended.first.0..).map(Seq).zip(payloads));
        number += count;
    }
    told
}

/// Reads to the end again and again until nobody appends any more: what it saw, in its order.
fn read_along(log: &Log, done: &AtomicBool) -> Vec<Seq> {
    let (mut cursor, mut seen) = (Cursor::from_base(0), Vec::new());
    loop {
        // Taken first: what is published before it is set is found after.
        let last = done.load(Ordering::Acquire);
        loop {
            match cursor.step(log, log.durable()) {
                Step::Entered => {}
                Step::Task(header) => {
                    let (seq, payload) = read(&cursor, &header);
                    assert!(payload.is_some(), "published is whole");
                    seen.push(seq);
                }
                Step::End => break,
                Step::Damaged { .. } | Step::Unreadable { .. } => panic!("nothing is damaged"),
            }
        }
        if last {
            return seen;
        }
        std::thread::yield_now();
    }
}

fn run() -> (Log, BTreeMap<Seq, Vec<u8>>, Vec<Seq>) {
    let disk = SimDisk::new(9);
    let maker = Mutex::new(Maker::new(&disk, SEGMENT_BYTES));
    let log = Log::new(LogId(0), Vec::new(), 0);
    let done = AtomicBool::new(false);
    let (told, seen) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| read_along(&log, &done));
        let committer = scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                let before = log.published();
                let durable = log.commit(NOW, false).unwrap();
                assert!(durable >= before, "a commit covers what was published before it began");
                std::thread::yield_now();
            }
        });
        let (log, maker) = (&log, &maker);
        let producers: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || produce(log, maker, thread))).collect();
        let told: Vec<_> = producers.into_iter().map(|producer| producer.join().unwrap()).collect();
        done.store(true, Ordering::Release);
        committer.join().unwrap();
        (told, reader.join().unwrap())
    });
    let count: usize = told.iter().map(BTreeMap::len).sum();
    let told: BTreeMap<Seq, Vec<u8>> = told.into_iter().flatten().collect();
    assert_eq!(told.len(), count, "no sequence was given to two");
    (log, told, seen)
}

#[test]
fn concurrent_appends_are_disjoint_gapless_and_read_as_they_were_written() {
    let (log, told, seen) = run();
    let found = delivered(&log, log.durable());
    assert!(found.iter().map(|(seq, _)| seq).eq(&seen), "who reads along sees the same in the same order");
    assert!(seen.is_sorted_by(|a, b| a < b), "claim order is sequence order");
    assert_eq!(found.into_iter().collect::<BTreeMap<_, _>>(), told);
    let segments = log.segments();
    assert!(segments.len() > 10, "segments rolled under them");
    let head = log.head().unwrap();
    for segment in &segments {
        let end = segment.sealed().map_or(head.1, |sealed| sealed.end);
        let records = segment.sealed().map_or(head.2, |sealed| sealed.records);
        let region = segment.region().unwrap();
        assert_eq!(region.advance(), end as usize, "every extent follows the one before");
        let scan = scan::walk(segment.life(), region.slice(0..end as usize).unwrap(), PRELUDE, 0, 0);
        assert_eq!((scan.end, scan.records, scan.tasks), (end, records, segment.tasks()));
        assert!(scan.flaws.is_empty());
    }
}

#[test]
fn tasks_of_one_thread_stay_in_the_order_it_appended_them() {
    let (_, told, _) = run();
    let mut next = [0; THREADS as usize];
    for payload in told.values() {
        let number = u32::from_le_bytes(payload[1..5].try_into().unwrap());
        let next = &mut next[usize::from(payload[0])];
        assert_eq!(number, *next);
        *next += 1;
    }
}
