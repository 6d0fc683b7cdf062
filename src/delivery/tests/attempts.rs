//! Attempts as bits tell them: the same as a number for each task would, through checkpoints too.

use std::collections::BTreeMap;

use super::super::attempts::{Attempts, TOLD_BY_BITS};
use super::super::record_bits::{CHUNK_BITS, Chunked};
use super::Rng;

fn assert_same(attempts: &Attempts, twin: &BTreeMap<u32, u32>, at: &str) {
    let edges = [0, 1, CHUNK_BITS - 1, CHUNK_BITS, CHUNK_BITS + 1, 2 * CHUNK_BITS];
    for index in twin.keys().copied().chain(edges) {
        assert_eq!(attempts.of(index), twin.get(&index).copied().unwrap_or(0), "{at}, index {index}");
    }
    assert!(attempts.begun().eq(twin.keys().copied()), "{at}");
}

#[test]
fn attempts_are_what_a_map_would_hold_and_so_are_their_checkpoints() {
    for seed in 0..60 {
        let mut rng = Rng(seed);
        let (mut attempts, mut twin) = (Attempts::default(), BTreeMap::new());
        let mut saved: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
        let reach = 1 + rng.below(3 * u64::from(CHUNK_BITS));
        for _ in 0..40 {
            let first = u32::try_from(rng.below(reach)).unwrap();
            let last = first + u32::try_from(rng.below(200)).unwrap();
            match rng.below(4) {
                0 => {
                    attempts.forget(first, last);
                    twin.retain(|index, _| !(first..=last).contains(index));
                }
                1 => {
                    let count = u32::try_from(rng.below(u64::from(TOLD_BY_BITS) + 1)).unwrap();
                    attempts.set(first, count);
                    twin.insert(first, count);
                    twin.retain(|_, count| *count > 0);
                }
                2 => {
                    // As a reserve does: as far as the tasks of a run had the same before.
                    let before = twin.get(&first).copied().unwrap_or(0);
                    let is_same = |index: &u32| twin.get(index).copied().unwrap_or(0) == before;
                    let Some(last) = (first..=last).take_while(is_same).last().filter(|_| before < TOLD_BY_BITS) else {
                        continue;
                    };
                    attempts.begin(before + 1, first, last);
                    twin.extend((first..=last).map(|index| (index, before + 1)));
                }
                _ => {
                    attempts.rest();
                    let dirty = attempts.take_dirty();
                    saved.extend(dirty.into_iter().map(|chunk| (chunk, attempts.chunk_bytes(chunk))));
                    let mut loaded = Attempts::default();
                    saved.iter().for_each(|(chunk, bytes)| loaded.load_chunk(*chunk, bytes));
                    assert_same(&loaded, &twin, &format!("seed {seed}, loaded"));
                }
            }
            assert_same(&attempts, &twin, &format!("seed {seed}"));
        }
    }
}

#[test]
fn bitmap_that_no_queue_has_is_not_loaded() {
    let mut attempts = Attempts::default();
    for chunk in [u32::MAX, 0xFF00_0000, 16 << 24, 1 << 24 | 0x00FF_FFFF] {
        attempts.load_chunk(chunk, &[1]);
        assert!(attempts.chunk_bytes(chunk).is_empty());
    }
    assert_eq!(attempts.of(0), 0);
    let mut cut = Attempts::default();
    cut.load_chunk(0, &[0xFF]);
    cut.load_chunk(1 << 24, &[0x02]);
    assert_eq!((cut.of(0), cut.of(1), cut.of(8)), (1, 2, 0), "zeros at the end of a chunk are not stored");
}
