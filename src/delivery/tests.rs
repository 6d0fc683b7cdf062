//! Leaves of the room against naive twins.

mod attempts;
mod keys;
mod record_bits;
mod scheduler;
mod slab;
mod sticky;
mod wheel;
mod workers;

use std::collections::{BTreeMap, BTreeSet};

use super::record_bits::{CHUNK_BITS, Chunked, RecordBits};
use super::slab::Slab;
use super::wheel::Wheel;

/// Splitmix64 (Steele, Lea, Flood 2014): enough randomness for tests, from one seed.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

#[test]
fn wheel_fires_what_a_sorted_map_would() {
    for seed in 0..200 {
        let mut rng = Rng(seed);
        let mut now = rng.below(1 << 40);
        let mut wheel = Wheel::new(now);
        let mut twin: BTreeMap<u32, u64> = BTreeMap::new();
        for _ in 0..400 {
            let slot = u32::try_from(rng.below(40)).unwrap();
            match rng.below(4) {
                0 => {
                    wheel.disarm(slot);
                    twin.remove(&slot);
                }
                1 | 2 => {
                    let reach = 1 << rng.below(50);
                    let due = match rng.below(20) {
                        0 => u64::MAX,
                        1 => now.saturating_sub(rng.below(100)),
                        _ => now + rng.below(reach),
                    };
                    wheel.arm(slot, due);
                    twin.insert(slot, due);
                }
                _ => {
                    let reach = 1 << rng.below(44);
                    now += rng.below(reach);
                    let mut fired = Vec::new();
                    wheel.advance(now, |slot| fired.push(slot));
                    let expected: BTreeSet<u32> =
                        twin.iter().filter(|(_, due)| **due <= now).map(|(slot, _)| *slot).collect();
                    assert_eq!(fired.iter().copied().collect::<BTreeSet<_>>(), expected, "seed {seed}");
                    assert_eq!(fired.len(), expected.len(), "each fires once, seed {seed}");
                    twin.retain(|slot, _| !expected.contains(slot));
                }
            }
            assert_eq!(wheel.len(), twin.len());
            match (wheel.next_due(), twin.values().min()) {
                (Some(next), Some(due)) => {
                    assert!(next <= (*due).max(now), "never later than the earliest, seed {seed}")
                }
                (next, due) => assert!(next.is_none() && due.is_none(), "seed {seed}"),
            }
        }
    }
}

#[test]
fn wheel_fires_in_order_of_due_times() {
    let mut wheel = Wheel::new(0);
    for (slot, due) in [(0, 70_000), (1, 5), (2, 4096), (3, 64), (4, 6)] {
        wheel.arm(slot, due);
    }
    let mut fired = Vec::new();
    wheel.advance(1_000_000, |slot| fired.push(slot));
    assert_eq!(fired, [1, 4, 3, 2, 0]);
}

#[test]
fn acks_are_what_a_set_would_hold() {
    for seed in 0..50 {
        let mut rng = Rng(seed);
        let mut acks = RecordBits::new();
        let mut twin = BTreeSet::new();
        let reach = 1 + rng.below(u64::from(CHUNK_BITS) * 3);
        for _ in 0..2000 {
            let index = u32::try_from(rng.below(reach)).unwrap();
            assert_eq!(acks.set(index), twin.insert(index));
            let from = u32::try_from(rng.below(reach)).unwrap();
            let expected = (from..).find(|index| !twin.contains(index)).unwrap();
            assert_eq!(acks.next_unacked(from), expected);
        }
        assert_eq!(acks.count() as usize, twin.len());
        let mut copy = RecordBits::new();
        for chunk in acks.take_dirty() {
            copy.load_chunk(chunk, &acks.chunk_bytes(chunk));
        }
        assert_eq!(copy.count(), acks.count());
        assert!(twin.iter().all(|index| copy.contains(*index)));
        assert!(acks.take_dirty().is_empty() && copy.take_dirty().is_empty(), "loading is not changing");
    }
}

#[test]
fn old_fence_does_not_open_a_slot() {
    let mut slab = Slab::new();
    let slot = slab.insert('a');
    assert_eq!((slab.get(slot, 0), slab.get(slot, 1)), (None, None), "it is lent to nobody");
    slab.lend(slot, 5);
    slab.lend(slot, 6);
    assert_eq!((slab.get(slot, 5), slab.get(slot, 6)), (None, Some(&'a')));
    assert_eq!(slab.remove(slot, 6), Some('a'));
    assert_eq!(slab.insert('b'), slot, "slots are used again");
    slab.lend(slot, 7);
    assert_eq!((slab.get(slot, 6), slab.get(slot, 7)), (None, Some(&'b')));
    slab.end(slot);
    assert_eq!((slab.get(slot, 7), slab.get(slot, 0), slab.slot(slot)), (None, None, Some(&'b')));
}
