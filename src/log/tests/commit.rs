//! A commit makes durable what was published before it, and says so only after the sync.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::append::Log;
use super::super::cursor::{Cursor, Step};
use super::{NOW, OneLog, PRELUDE, delivered, read};
use crate::sim::{Loss, SimDisk};
use crate::storage::{Prepare, Storage};
use crate::types::Seq;

const EIO: i32 = 5;

/// The sequences of everything that verifies in the files of a log.
fn surviving(one: &OneLog, disk: &SimDisk) -> BTreeSet<Seq> {
    let log = one.found_on(disk);
    let (mut cursor, mut found) = (Cursor::from_base(0), BTreeSet::new());
    loop {
        match cursor.step(&log, u64::MAX) {
            Step::Task(header) => {
                if let (seq, Some(_)) = read(&cursor, &header) {
                    found.insert(seq);
                }
            }
            Step::Entered | Step::Damaged { .. } => {}
            Step::End => return found,
            Step::Unreadable { error, .. } => panic!("{error}"),
        }
    }
}

#[test]
fn commit_moves_the_mark_to_what_is_published_and_tells_it() {
    let mut one = OneLog::new(4096);
    assert_eq!(one.log.durable(), 0);
    let first = one.append(b"1");
    assert!(one.log.has_unsynced() && one.log.durable() < first.end);
    assert_eq!((one.commit(), one.log.durable()), (first.end, first.end));
    assert_eq!(one.log.syncing(), first.end, "a waiter could know which commit would cover it");
    assert!(!one.log.has_unsynced());
    let (place, counted) = one.log.durable_place();
    assert_eq!((place.base, place.offset), (one.active().base(), PRELUDE + 40));
    assert_eq!((counted.place, counted.records, counted.tasks), (place, 1, 1));
}

#[test]
fn commit_with_nothing_new_asks_nothing_of_the_disk() {
    let mut one = OneLog::new(4096);
    one.commit();
    one.append(b"1");
    one.commit();
    // Idle: the last mark.
    one.commit();
    let (durable, operations) = (one.log.durable(), one.disk.operations());
    for _ in 0..3 {
        assert_eq!(one.commit(), durable);
    }
    assert_eq!(one.disk.operations(), operations);
}

#[test]
fn failing_sync_moves_the_mark_to_what_was_synced_before_and_names_the_file() {
    for rolls in 0..3 {
        for failing in 0..=rolls {
            let mut one = OneLog::new(4096);
            let mut ends = vec![one.append(b"durable").end];
            one.commit();
            for _ in 0..rolls {
                ends.push(one.append(b"doubtful").end);
                one.roll();
            }
            one.append(b"doubtful");
            one.disk.fail_at(one.disk.operations() + failing, EIO);
            let (file, error) = one.log.commit(NOW, false).unwrap_err();
            let failed = &one.log.segments()[usize::try_from(failing).unwrap()];
            assert_eq!((file, error.raw_os_error()), (failed.file_name(), Some(EIO)));
            assert_eq!(one.log.durable(), ends[usize::try_from(failing).unwrap()]);
            let place = one.log.durable_place().0;
            let segments = one.log.segments();
            let last = segments.iter().find(|segment| segment.base() == place.base).unwrap();
            assert_eq!(last.position(place.offset), one.log.durable());
            assert!(one.log.has_unsynced(), "{rolls} rolls, sync {failing} fails");
        }
    }
}

#[test]
fn error_under_the_map_fails_the_commit_before_it_syncs() {
    let mut one = OneLog::new(4096);
    one.append(b"1");
    one.active().region().unwrap().mark_failed();
    let operations = one.disk.operations();
    let (file, _) = one.log.commit(NOW, false).unwrap_err();
    assert_eq!((file, one.log.durable()), (one.active().file_name(), 0));
    assert_eq!(one.disk.operations(), operations);
}

#[test]
fn commit_covers_every_segment_since_the_last_and_each_once() {
    let mut one = OneLog::new(4096);
    one.append(b"1");
    for _ in 0..3 {
        one.roll();
        one.append(b"more");
    }
    let last = one.append(b"last").end;
    let before = one.disk.operations();
    assert_eq!(one.commit(), last);
    assert_eq!(one.disk.operations() - before, 4, "a sync for each segment");
    let again = one.append(b"again").end;
    let before = one.disk.operations();
    assert!(one.commit() >= again);
    assert_eq!(one.disk.operations() - before, 1, "sealed and durable ones are forgotten");
}

#[test]
fn what_a_commit_covered_survives_a_power_loss_whatever_came_after() {
    for seed in 0..60 {
        let mut one = OneLog::new(4096);
        one.disk.sync_dir().unwrap();
        // Draws from the disk's stream, so that each run loses other sectors.
        for _ in 0..seed {
            one.disk.random();
        }
        let (mut appended, mut covered) = (BTreeSet::new(), BTreeSet::new());
        for at in 0..60_u8 {
            appended.insert(one.append(&vec![at; usize::from(at) * 3]).first);
            if at % 7 == 0 {
                one.disk.sync_dir().unwrap();
                one.commit();
                covered.clone_from(&appended);
            }
        }
        let surviving = surviving(&one, &one.disk.restart(Loss::Power));
        assert!(surviving.is_superset(&covered) && surviving.is_subset(&appended), "seed {seed}");
    }
}

#[test]
fn power_loss_may_take_what_no_commit_covered() {
    let kept = (0..20).map(|seed| {
        let mut one = OneLog::new(4096);
        one.disk.sync_dir().unwrap();
        for _ in 0..seed {
            one.disk.random();
        }
        one.append(&[7; 600]);
        surviving(&one, &one.disk.restart(Loss::Power)).len()
    });
    assert!(kept.sum::<usize>() < 20, "else the test above proves nothing");
}

#[test]
fn log_over_found_lives_begins_with_all_of_them_durable() {
    let mut one = OneLog::new(4096);
    for at in 0..100_u8 {
        one.append(&[at; 40]);
    }
    one.commit();
    let found = one.found_on(&one.disk.restart(Loss::Process));
    assert!(found.head().is_none() && !found.has_unsynced() && !found.wants_mark());
    let last = found.segments().pop().unwrap();
    assert_eq!((found.durable(), found.durable_place().0.base), (last.next_start(), last.base()));
    assert_eq!(delivered(&found, found.durable()), delivered(&one.log, one.log.durable()));
    assert!(found.newest_bytes() == Some(4096) && found.last_base() == last.base());
    assert_eq!(found.commit(NOW, false).unwrap(), found.durable(), "and nothing to commit");
}

#[test]
fn log_that_goes_on_in_an_open_life_appends_behind_its_end() {
    let mut one = OneLog::new(4096);
    one.append(b"1");
    one.append(b"2");
    one.commit();
    let (base, offset, index) = one.log.head().unwrap();
    let disk = one.disk.restart(Loss::Process);
    let file = disk.open(&one.active().file_name()).unwrap();
    let frontier = file.map().unwrap().resume(offset as usize);
    let region = Arc::clone(frontier.region());
    let segment = super::Segment::active(*one.active().header(), file, region, 9_000);
    segment.set_tasks(2);
    let segment = Arc::new(segment);
    let log = Log::new(super::LogId(0), Vec::new(), 0);
    log.resume(&segment, frontier, index);
    assert_eq!((log.head(), log.durable()), (Some((base, offset, index)), segment.position(offset)));
    let third = log.append(&super::draft(b"3"), NOW).unwrap();
    assert_eq!((third.first.0, third.end), (base + 2, segment.position(offset + 40)));
    assert_eq!(log.commit(NOW, false).unwrap(), third.end);
    let payloads: Vec<_> = delivered(&log, third.end).into_iter().map(|(_, payload)| payload).collect();
    assert_eq!(payloads, [b"1", b"2", b"3"]);
    assert_eq!(log.durable_place().1.tasks, 3);
}

#[test]
fn the_next_segment_is_made_as_commits_were() {
    let mut one = OneLog::new(1 << 20);
    assert_eq!(one.log.suited_by(), Prepare::Small, "nothing is known yet");
    let mut life = |bytes: usize, commits: u32, power: bool| {
        for _ in 0..commits {
            one.append(&vec![1; bytes]);
            if power {
                one.log.note_power();
            }
            one.commit();
        }
        one.roll();
        one.log.suited_by()
    };
    assert_eq!(life(1000, 10, true), Prepare::Small);
    assert_eq!(life(200_000, 4, true), Prepare::Large);
    assert_eq!(life(100_000, 4, true), Prepare::Small);
    assert_eq!(life(1000, 3, false), Prepare::Rare, "nobody waited for Power");
    assert_eq!(life(200_000, 0, true), Prepare::Rare, "nor now");
    one.log.note_power();
    assert_eq!(one.log.suited_by(), Prepare::Small, "somebody does");
}
