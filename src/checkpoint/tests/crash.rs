//! Crashes between any two steps of a commit.

use super::*;

const SEEDS: u64 = 24;
const CALLS_MAX: u64 = 10_000;

/// A store with a few checkpoints behind it; the last two of them.
fn with_history(random: &mut Random) -> (Arc<Disk>, Store, Twin, Twin) {
    let (disk, mut store) = fresh();
    let (mut before, mut now) = (Twin::default(), Twin::default());
    for _ in 0..2 + random.below(6) {
        let (meta, changes) = some_changes(random, 300, 120);
        let next = now.after(&meta, &changes);
        store.commit(&meta, changes).unwrap();
        (before, now) = (now, next);
    }
    (disk, store, before, now)
}

#[test]
fn power_loss_at_any_step_leaves_the_old_or_the_new_checkpoint_whole() {
    for seed in 0..SEEDS {
        let (mut saw_old, mut saw_new) = (false, false);
        for calls in 0..CALLS_MAX {
            let mut random = Random(seed);
            let (disk, mut store, before, old) = with_history(&mut random);
            let (meta, changes) = some_changes(&mut random, 300, 40);
            let new = old.after(&meta, &changes);
            disk.cut_power_after(calls);
            let done = store.commit(&meta, changes).is_ok();
            let mut random = Random(seed << 32 | calls);
            for _ in 0..4 {
                let disk = disk.after_power_loss(&mut random);
                let (store, found) = newest(&disk);
                assert!(found == new || (!done && found == old), "seed {seed}, {calls} calls: a mix");
                (saw_old, saw_new) = (saw_old | (found == old), saw_new | (found == new));
                if let Some((older, meta)) = load(&disk).unwrap().older {
                    let expected = if found == new { &old } else { &before };
                    assert_eq!(Twin::of(&older, &meta).as_ref(), Some(expected), "seed {seed}, {calls} calls");
                } else {
                    assert!(!done && found == old, "seed {seed}, {calls} calls: the older root is gone");
                }
                drop(store);
            }
            if done {
                break;
            }
        }
        assert!(saw_old && saw_new, "seed {seed} cut nothing");
    }
}

#[test]
fn crash_after_crash_never_loses_a_finished_checkpoint() {
    for seed in 0..SEEDS * 8 {
        let mut random = Random(seed);
        let (mut disk, mut store, _, finished) = with_history(&mut random);
        // What a power loss may bring back: the last finished checkpoint, or one begun since.
        let (mut possible, mut found) = (vec![finished.clone()], finished);
        for round in 0..12 {
            let (meta, changes) = some_changes(&mut random, 300, 30);
            let next = found.after(&meta, &changes);
            disk.cut_power_after(random.below(60));
            match store.commit(&meta, changes) {
                Ok(_) => possible = vec![next],
                Err(_) => possible.push(next),
            }
            let power = random.below(2) == 0;
            disk = if power { disk.after_power_loss(&mut random) } else { disk.after_kill() };
            (store, found) = newest(&disk);
            assert!(possible.contains(&found), "seed {seed}, round {round}");
            if power {
                possible = vec![found.clone()];
            }
        }
    }
}

#[test]
fn restart_after_a_failed_sync_does_not_build_on_what_only_the_page_cache_has() {
    for seed in 0..SEEDS {
        for failing in 0..2 {
            let mut random = Random(seed);
            let (disk, mut store, _, old) = with_history(&mut random);
            let (meta, changes) = some_changes(&mut random, 300, 60);
            let new = old.after(&meta, &changes);
            disk.fail_sync_after(failing);
            store.commit(&meta, changes).unwrap_err();
            let disk = disk.after_kill();
            let (mut store, found) = newest(&disk);
            assert!(found == old || found == new, "seed {seed}");
            let (meta, changes) = some_changes(&mut random, 300, 20);
            let expected = found.after(&meta, &changes);
            store.commit(&meta, changes).unwrap();
            let disk = disk.after_power_loss(&mut random);
            assert_eq!(newest(&disk).1, expected, "seed {seed}, sync {failing}");
            assert_eq!(older(&disk).1, found, "seed {seed}, sync {failing}");
        }
    }
}

#[test]
fn failed_sync_breaks_the_store_and_leaves_what_it_knows_as_it_was() {
    for failing in 0..2 {
        let (disk, mut store, _, old) = with_history(&mut Random(3));
        disk.fail_sync_after(failing);
        store.commit(b"never", put(1, b"never")).unwrap_err();
        assert!(store.is_broken());
        assert_eq!(Twin::of(&store, &old.meta), Some(old));
        store.commit(b"again", Changes::default()).unwrap_err();
    }
}

#[test]
fn failed_write_breaks_the_store() {
    let (disk, mut store, _, old) = with_history(&mut Random(4));
    disk.refuse_writes();
    store.commit(b"never", put(1, b"never")).unwrap_err();
    assert!(store.is_broken());
    assert_eq!(Twin::of(&store, &old.meta), Some(old));
}
