//! Keys and what they pass over, against a naive twin; and what a million of them cost.

use std::collections::{BTreeMap, BTreeSet};

use super::super::keys::{KeyHash, Keys, Spot, hash};
use super::super::passed::Whose;
use super::super::state::GroupState;
use super::super::{Group, Priority};
use super::Rng;
use crate::types::{LaneId, Now};

fn spot(number: u64) -> Spot {
    // Lives of 1000 records each.
    let index = u32::try_from(number % 1000).unwrap();
    Spot { base: 1 + number / 1000 * 2000, index, offset: 64 + index * 64 }
}

/// A key of the twin: its holder, and the spots that wait for it, by lane.
type Twin = BTreeMap<u64, (Option<u32>, BTreeSet<(u8, Spot)>)>;

#[test]
fn keys_are_held_freed_and_waited_for_as_a_naive_twin_says() {
    for seed in 0..200 {
        let mut rng = Rng(seed);
        let mut keys = Keys::new(7);
        let mut twin = Twin::new();
        for step in 0..200 {
            let (key, lane) = (rng.below(4), u8::try_from(rng.below(2)).unwrap());
            let (holder, waiting) = twin.entry(key).or_default();
            let first = waiting.iter().find(|(own, _)| *own == lane).copied();
            let here = spot(step * 7);
            match rng.below(3) {
                0 => {
                    // A task of the key at the cursor.
                    let is_free = holder.is_none() && first.is_none();
                    assert_eq!(keys.is_free(KeyHash(key), LaneId(lane), here), is_free, "seed {seed}");
                    if is_free {
                        let slot = u32::try_from(step).unwrap();
                        keys.hold(KeyHash(key), slot);
                        *holder = Some(slot);
                    } else {
                        keys.wait(KeyHash(key), LaneId(lane), here);
                        waiting.insert((lane, here));
                    }
                }
                1 => {
                    if let Some(slot) = holder.take() {
                        keys.free(KeyHash(key), slot + 1);
                        assert!(keys.is_held_by(KeyHash(key), slot), "nobody else frees it");
                        // What waited for a free key in another lane woke somebody already.
                        keys.take_woken();
                        keys.free(KeyHash(key), slot);
                        assert_eq!(keys.take_woken(), !waiting.is_empty());
                    }
                }
                _ => {
                    let ready = keys.next_ready(LaneId(lane), |_| true);
                    let expected = twin
                        .iter()
                        .filter(|(_, (holder, _))| holder.is_none())
                        .filter_map(|(key, (_, waiting))| Some((waiting.iter().find(|(own, _)| *own == lane)?.1, *key)))
                        .min();
                    assert_eq!(ready.is_some(), expected.is_some(), "seed {seed}");
                    let (Some((found, from)), Some(_)) = (ready, expected) else { continue };
                    let (holder, waiting) = twin.get_mut(&found.0).unwrap();
                    let first = *waiting.iter().find(|(own, _)| *own == lane).unwrap();
                    assert!(from <= first.1, "no waiting task lies before the place of its key");
                    let rest = Spot { index: first.1.index + 1, offset: first.1.offset + 64, ..first.1 };
                    keys.found(found, LaneId(lane), rest);
                    waiting.remove(&first);
                    let slot = u32::try_from(step).unwrap();
                    keys.hold(found, slot);
                    *holder = Some(slot);
                }
            }
        }
        for (key, (holder, waiting)) in twin {
            if let Some(slot) = holder {
                keys.free(KeyHash(key), slot);
            }
            for lane in waiting.iter().map(|(lane, _)| *lane).collect::<BTreeSet<_>>() {
                keys.found_none(KeyHash(key), LaneId(lane));
            }
        }
        assert!(keys.is_empty(), "a key that is free and not waited for is not known");
    }
}

#[test]
fn a_million_tasks_behind_one_blocked_key_take_less_than_a_mebibyte() {
    let now = Now { boot_ms: 0, wall: crate::types::Timestamp(0) };
    let mut group = Group::open(0, GroupState::default(), &Priority::Strict, now).fenced(1).keyed(7, false);
    let key = hash(7, b"the one");
    group.keys.hold(key, 0);
    // In 64 MiB of 100-byte tasks there are some 500,000.
    for number in 0..1_000_000_u64 {
        let (life, index) = (number / 500_000, u32::try_from(number % 500_000).unwrap());
        let spot = Spot { base: 1 + life * 2_000_000, index, offset: index * 136 };
        group.pass_over(key, LaneId(0), spot, Whose::Own);
    }
    let bits = group.lanes.get(LaneId(0)).unwrap().passed.bytes();
    let bytes = bits + group.keys.bytes();
    assert!(bytes <= 1 << 20, "{bytes} bytes");
    assert!(bytes <= 300 << 10, "it is a bit each, with room to grow: {bytes} bytes");
    assert_eq!(group.slots.len(), 0, "and no entry");
}

#[test]
fn the_hash_depends_on_the_seed() {
    assert_eq!(hash(1, b"key"), hash(1, b"key"));
    assert_ne!(hash(1, b"key"), hash(2, b"key"));
    assert_ne!(hash(1, b"key"), hash(1, b"kez"));
}
