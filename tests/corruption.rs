//! Promise: any single flipped bit in durable data is detected, named and contained: the rest is served.
#![expect(clippy::unwrap_used, reason = "a helper fails the test that called it")]

mod support;

use std::os::unix::fs::FileExt;

use lanelog::{DamageKind, OnDamage, Options, Queue, Reserve, Task, inspect};
use support::{drain, place, small, texts};

fn flip(path: &std::path::Path, offset: u64, bit: u8) {
    let file = std::fs::OpenOptions::new();
    let file = open(file, path);
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ (1 << bit)], offset).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "the test plays the failing disk")]
fn open(mut options: std::fs::OpenOptions, path: &std::path::Path) -> std::fs::File {
    options.read(true).write(true).open(path).unwrap()
}

#[test]
fn a_flipped_bit_is_reported_by_verify_and_by_damage_with_lane_and_sequence_and_the_rest_is_delivered() {
    for clean in [true, false] {
        let place = place();
        let queue = small().open(&place.path).unwrap();
        let ids: Vec<_> = (0..100).map(|n| queue.enqueue(Task::new(&format!("task {n}"))).unwrap()).collect();
        queue.sync().unwrap();
        if clean {
            queue.close().unwrap();
        } else {
            drop(queue);
        }
        assert_eq!(inspect(&place.path).unwrap().verify(), []);
        let mut records = Vec::new();
        inspect(&place.path).unwrap().for_each_task(|task| records.push(task));
        assert_eq!(records.iter().map(|record| record.id).collect::<Vec<_>>(), ids);
        let victim = &records[41];
        // In the header, in the payload.
        for offset in [9, 33] {
            let file = place.path.join(&victim.file);
            flip(&file, victim.offset + offset, 3);
            let found = inspect(&place.path).unwrap().verify();
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!((found[0].kind, found[0].lane), (DamageKind::Corrupt, Some(victim.id.lane())));
            assert_eq!(found[0].lost, Some((victim.id.seq(), victim.id.seq())), "clean {clean}: {found:?}");
            flip(&file, victim.offset + offset, 3);
        }
        flip(&place.path.join(&victim.file), victim.offset + 33, 0);
        let queue = Queue::open(&place.path).unwrap();
        let left = texts(&drain(&queue));
        assert_eq!(left.len(), 99);
        assert!(!left.contains("task 41"));
        let damage = queue.damage();
        assert_eq!(damage.len(), 1, "{damage:?}");
        assert_eq!(
            (damage[0].lane, damage[0].lost),
            (Some(victim.id.lane()), Some((victim.id.seq(), victim.id.seq())))
        );
    }
}

/// Every task's text and record, by looking at the directory.
fn records(path: &std::path::Path) -> Vec<lanelog::TaskRecord> {
    let mut records = Vec::new();
    inspect(path).unwrap().for_each_task(|task| records.push(task));
    records
}

#[test]
fn a_flipped_bit_behind_a_long_run_of_zeros_costs_that_task_alone() {
    let place = place();
    let queue = Options::new().open(&place.path).unwrap();
    queue.enqueue(Task::new(&vec![0; 300 << 10])).unwrap();
    let ids: Vec<_> = (0..20).map(|n| queue.enqueue(Task::new(&format!("task {n}"))).unwrap()).collect();
    let dead = support::as_a_death_leaves_it(&place);
    let victim = records(&dead).into_iter().find(|record| record.id == ids[10]).unwrap();
    flip(&dead.join(&victim.file), victim.offset + 9, 3);
    let queue = Queue::open(&dead).unwrap();
    assert_eq!(drain(&queue).len(), 20);
    let damage = queue.damage();
    assert_eq!(damage.len(), 1, "{damage:?}");
    assert_eq!((damage[0].kind, damage[0].lost), (DamageKind::Corrupt, Some((ids[10].seq(), ids[10].seq()))));
}

/// Where the bytes of two copies of a directory differ last: file name and offset.
fn last_difference(before: &std::path::Path, after: &std::path::Path) -> (std::ffi::OsString, u64) {
    let mut last = None;
    for entry in std::fs::read_dir(after).unwrap() {
        let name = entry.unwrap().file_name();
        // A segment that was made ready in between is zeros.
        let (old, new) =
            (std::fs::read(before.join(&name)).unwrap_or_default(), std::fs::read(after.join(&name)).unwrap());
        let byte = |bytes: &[u8], at: usize| bytes.get(at).copied().unwrap_or(0);
        if let Some(at) = (0..new.len()).rev().find(|at| byte(&old, *at) != byte(&new, *at)) {
            assert_eq!(last.replace((name, at as u64)), None, "one file alone was written");
        }
    }
    last.unwrap()
}

#[test]
fn a_journal_entry_that_was_not_yet_durable_is_torn_and_nothing_is_reported_corrupt() {
    let place = place();
    let queue = small().sync_interval(std::time::Duration::from_secs(3600)).open(&place.path).unwrap();
    queue.enqueue(Task::new("once")).unwrap();
    let before = support::copy(&place.path, "before");
    let loan = queue.consumer().reserve(Reserve::new()).unwrap();
    let after = support::copy(&place.path, "after");
    drop((loan, queue));
    // The attempt's entry lost its last sector with the power.
    let (file, offset) = last_difference(&before, &after);
    flip(&after.join(file), offset, 0);
    let queue = Options::new().on_damage(OnDamage::Fail).open(&after).unwrap();
    let damage = queue.damage();
    assert_eq!(damage.iter().map(|found| found.kind).collect::<Vec<_>>(), [DamageKind::Torn], "{damage:?}");
    let again = queue.consumer().reserve(Reserve::new()).unwrap().pop().unwrap();
    assert_eq!(again.attempt(), 1, "the attempt is forgotten, as a power loss may make it");
    again.ack().unwrap();
}

#[test]
fn a_segment_that_was_cut_short_serves_what_is_left_of_it() {
    for clean in [true, false] {
        let place = place();
        let queue = small().open(&place.path).unwrap();
        for number in 0..60 {
            queue.enqueue(Task::new(&format!("task {number:090}"))).unwrap();
        }
        let dead = if clean {
            queue.close().unwrap();
            place.path.clone()
        } else {
            support::as_a_death_leaves_it(&place)
        };
        // In the middle of a record: in a sealed segment, and in the last one.
        for victim in [12, 55] {
            let all = records(&dead);
            let cut = support::copy(&dead, &format!("cut-{victim}"));
            let (file, offset) = (&all[victim].file, all[victim].offset);
            open(std::fs::OpenOptions::new(), &cut.join(file)).set_len(offset + 60).unwrap();
            let lost: Vec<_> =
                all.iter().filter(|r| r.file == *file && r.offset >= offset).map(|r| r.id.seq()).collect();
            let queue = Queue::open(&cut).unwrap();
            let what = format!("clean {clean}, task {victim}");
            assert_eq!(drain(&queue).len(), 60 - lost.len(), "{what}: {:?}", queue.damage());
            let damage = queue.damage();
            let named: Vec<_> = damage.iter().filter_map(|found| found.lost).collect();
            assert!(
                named.iter().all(|(first, last)| lost.contains(first) && lost.contains(last)),
                "{what}: {damage:?}"
            );
            // What lies behind the last mark can't be told from what was being written.
            let torn = !clean && damage.iter().any(|found| found.kind == DamageKind::Torn);
            assert!(torn || named.iter().any(|(first, _)| *first == lost[0]), "{what}: {damage:?}");
        }
    }
}
