//! What a commit promises while nothing crashes.

use std::ops::Range;

use super::*;
use crate::checkpoint::index::{ENTRIES_JOIN, ENTRIES_MAX};
use crate::format::checkpoint::{BLOBS_AT, COPY_BYTES, ENTRY_BYTES};

#[test]
fn both_checkpoints_hold_what_a_plain_map_holds_through_commits_and_reloads() {
    for seed in 0..20 {
        let mut random = Random(seed);
        let (disk, mut store) = fresh();
        let (mut before, mut now) = (Twin::default(), Twin::default());
        for round in 0..40 {
            let (meta, changes) = some_changes(&mut random, 900, 200);
            let next = now.after(&meta, &changes);
            store.commit(&meta, changes).unwrap();
            (before, now) = (now, next);
            assert_eq!(Twin::of(&store, &now.meta).as_ref(), Some(&now), "seed {seed}, round {round}");
            if round > 0 {
                assert_eq!(older(&disk).1, before, "seed {seed}, round {round}");
            }
            if random.below(3) == 0 {
                let found;
                (store, found) = newest(&disk);
                assert_eq!(found, now, "seed {seed}, round {round}");
            }
        }
        assert_eq!(store.queue(), QUEUE);
        assert_eq!(store.generation, 40);
        assert!(before != now);
    }
}

#[test]
fn fresh_file_holds_no_checkpoint_and_no_damage() {
    let (disk, store) = fresh();
    let loaded = load(&disk).unwrap();
    assert!(loaded.newest.is_none() && loaded.older.is_none());
    assert!(loaded.damage.is_empty() && loaded.version.is_none());
    assert_eq!(store.keys().count(), 0);
    assert!(matches!(store.get(key(1)), Err(BlobError::Absent)));
}

#[test]
fn empty_values_and_an_empty_checkpoint_are_kept() {
    let (disk, mut store) = fresh();
    store.commit(b"", put(1, b"")).unwrap();
    assert_eq!(newest(&disk).0.get(key(1)).unwrap().bytes, b"");
    assert!(store.keys().any(|found| found == key(1)));
    store.commit(b"", Changes { puts: Vec::new(), deletes: vec![key(1), key(2)] }).unwrap();
    assert!(!store.keys().any(|found| found == key(1)));
    assert_eq!(newest(&disk).1, Twin::default());
}

#[test]
fn put_wins_over_a_delete_and_the_last_put_over_earlier_ones() {
    let (disk, mut store) = fresh();
    let changes =
        Changes { puts: vec![(key(1), b"first".to_vec()), (key(1), b"last".to_vec())], deletes: vec![key(1)] };
    store.commit(b"", changes).unwrap();
    assert_eq!(newest(&disk).0.get(key(1)).unwrap().bytes, b"last");
}

#[test]
fn commit_costs_what_changed_and_not_what_is_there() {
    let (_, mut store) = fresh();
    let puts = (0..8000).map(|b| (key(b), vec![1; 600])).collect();
    store.commit(b"", Changes { puts, deletes: Vec::new() }).unwrap();
    let stats = store.commit(b"", put(4000, b"changed")).unwrap();
    assert_eq!(stats.syncs, 2);
    // A blob and one index chunk, two copies of each, and the root with a line for each chunk.
    let root = 8000 / (ENTRIES_JOIN as u64 / 2) * ENTRY_BYTES as u64 + 512;
    let chunk = 2 * ((ENTRIES_MAX * ENTRY_BYTES) as u64 + 512);
    assert!(stats.bytes_written <= 1024 + chunk + root, "{} bytes", stats.bytes_written);
}

#[test]
fn file_stops_growing_under_a_steady_load() {
    let mut random = Random(9);
    let (_, mut store) = fresh();
    let mut load = |store: &mut Store| {
        for _ in 0..200 {
            let (meta, changes) = some_changes(&mut random, 400, 60);
            store.commit(&meta, changes).unwrap();
        }
        store.file_bytes()
    };
    let first = load(&mut store);
    assert_eq!(load(&mut store), first);
}

#[test]
fn index_chunks_stay_filled_when_keys_go_in_order() {
    let (_, mut store) = fresh();
    let puts = (0..12_000).map(|b| (Key { kind: 1, a: 0, b, c: 0 }, Vec::new())).collect();
    store.commit(b"", Changes { puts, deletes: Vec::new() }).unwrap();
    for from in (0..12_000).step_by(100) {
        // Of each hundred one key stays for ever, as a straggler's would.
        let deletes = (from + 1..from + 100).map(|b| Key { kind: 1, a: 0, b, c: 0 }).collect();
        store.commit(b"", Changes { puts: Vec::new(), deletes }).unwrap();
        for pair in store.chunk_lengths().windows(2) {
            assert!(pair[0] + pair[1] > ENTRIES_JOIN, "neighbours of {} and {} entries", pair[0], pair[1]);
        }
    }
    assert_eq!(store.keys().count(), 120);
    assert!(store.chunk_lengths().len() <= 3);
}

#[test]
fn full_disk_refuses_a_commit_and_changes_nothing() {
    let (disk, mut store) = fresh();
    store.commit(b"old", put(1, b"old")).unwrap();
    let old = newest(&disk).1;
    disk.limit(Some(store.file_bytes()));
    let large = || put(2, &vec![5; 2 << 20]);
    let error = store.commit(b"new", large()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    assert!(!store.is_broken());
    assert_eq!(newest(&disk).1, old);
    store.commit(b"small", put(3, b"small")).expect("what is free is enough");
    disk.limit(None);
    store.commit(b"new", large()).unwrap();
    assert_eq!(newest(&disk).0.get(key(2)).unwrap().bytes.len(), 2 << 20);
    assert_eq!(newest(&disk).0.get(key(3)).unwrap().bytes, b"small");
}

#[test]
fn refused_commits_give_back_the_room_they_had_found() {
    let (disk, mut store) = fresh();
    disk.limit(Some(store.file_bytes()));
    let small = || (0..100).map(|b| (key(b), vec![5; 1000]));
    for _ in 0..20 {
        let large = (key(200), vec![5; 2 << 20]);
        store.commit(b"", Changes { puts: small().chain([large]).collect(), deletes: Vec::new() }).unwrap_err();
    }
    store.commit(b"", Changes { puts: small().collect(), deletes: Vec::new() }).unwrap();
    assert_eq!(newest(&disk).1.blobs.len(), 100);
}

#[test]
fn full_disk_still_takes_the_next_checkpoint_of_the_same_size() {
    let (disk, mut store) = fresh();
    let changes = |fill| Changes { puts: (0..50).map(|b| (key(b), vec![fill; 20_000])).collect(), deletes: Vec::new() };
    store.commit(b"", changes(1)).unwrap();
    disk.limit(Some(store.file_bytes()));
    store.commit(b"", changes(2)).expect("room was made ahead, and failing to make more is no error");
    assert_eq!(newest(&disk).0.get(key(7)).unwrap().bytes, vec![2; 20_000]);
}

#[test]
fn root_that_outgrows_its_slot_is_refused_and_changes_nothing() {
    let (disk, mut store) = fresh();
    store.commit(b"old", put(1, b"old")).unwrap();
    let old = newest(&disk).1;
    store.commit(&vec![1; COPY_BYTES], put(1, b"new")).unwrap_err();
    assert!(!store.is_broken());
    assert_eq!(newest(&disk).1, old);
    store.commit(b"next", put(1, b"next")).unwrap();
}

#[test]
fn commit_never_writes_where_either_root_looks() {
    let mut random = Random(17);
    let (disk, mut store) = fresh();
    for _ in 0..60 {
        let (meta, changes) = some_changes(&mut random, 300, 80);
        disk.take_writes();
        let needed = match load(&disk).unwrap() {
            loaded if loaded.newest.is_some() => {
                [loaded.newest, loaded.older].into_iter().flatten().flat_map(|(store, _)| store.extents()).collect()
            }
            _ => Vec::new(),
        };
        // A store that was just loaded must know the older root's places as well as one that dropped them itself;
        // what it writes again at its first commit is there already.
        let proven = match random.below(2) {
            0 if !needed.is_empty() => {
                let before = disk.live();
                store = newest(&disk).0;
                Some(before)
            }
            _ => None,
        };
        store.commit(&meta, changes).unwrap();
        let blobs: Vec<_> = disk.take_writes().into_iter().filter(|(offset, _)| *offset >= BLOBS_AT).collect();
        for (offset, bytes) in blobs {
            let end = offset + bytes as u64;
            let is_needed = needed.iter().any(|extent: &Range<u64>| offset < extent.end && extent.start < end);
            let range = usize::try_from(offset).unwrap()..usize::try_from(end).unwrap();
            let is_same = || proven.as_ref().is_some_and(|before| before[range.clone()] == disk.live()[range]);
            assert!(!is_needed || is_same(), "seed 17: bytes {offset}..{end} were still needed");
        }
    }
}
