//! The index against a map that forgets nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::index::{Index, Keep};
use crate::format::dedup::{Once, UNTIL_SETTLED, decode_pages};
use crate::sim::{Rng, SimDisk};
use crate::storage::{File, Prepare, Storage};
use crate::types::{LaneId, Seq, Timestamp, mix};

/// A checkpoint of an index: its slices, written to a file one behind the other.
fn save(index: &mut Index, file: &Arc<dyn File>, saved: &mut BTreeMap<u32, (u64, Vec<u8>)>, end: &mut u64) {
    let mut kept = BTreeMap::new();
    for keep in index.snapshot() {
        match keep {
            Keep::AsItIs(number) => kept.insert(number, saved[&number].clone()),
            Keep::Write(number, pages) => {
                file.write_at(*end, &pages).unwrap();
                let at = std::mem::replace(end, *end + pages.len() as u64);
                index.written(number, (Arc::clone(file), at));
                kept.insert(number, (at, pages))
            }
        };
    }
    *saved = kept;
}

#[test]
fn an_index_knows_what_a_map_knows_over_checkpoints_and_opens() {
    for seed in 0..40 {
        let mut rng = Rng::new(seed);
        let slice_ids = [1, 3, 16, 40][usize::try_from(rng.below(4)).unwrap()];
        let disk = SimDisk::new(seed);
        let file = disk.create("slices", 1 << 20, Prepare::Small).unwrap();
        let (mut index, mut twin) = (Index::new(slice_ids), BTreeMap::new());
        let (mut saved, mut end, mut now) = (BTreeMap::new(), 0, 0);
        for step in 0..400_u64 {
            // Fingerprints that share their high half, which a hash would not.
            let fingerprint = u128::from(rng.below(12)) << 64 | u128::from(rng.below(20));
            let is_over =
                |once: &Once| once.ends.0 <= now || (once.ends == UNTIL_SETTLED && once.seq.0.is_multiple_of(3));
            match rng.below(40) {
                0 => save(&mut index, &file, &mut saved, &mut end),
                1 => {
                    save(&mut index, &file, &mut saved, &mut end);
                    index = Index::new(slice_ids);
                    for (number, (at, pages)) in &saved {
                        index.load(*number, &decode_pages(pages).unwrap(), Some((Arc::clone(&file), *at)));
                    }
                    index.loaded();
                }
                2 => index.tidy(Timestamp(now), is_over),
                3 => {
                    index.forget(Timestamp(now), is_over);
                    let counts = twin.values().filter(|once| !is_over(once)).count();
                    assert!(index.count() >= counts, "seed {seed}, step {step}");
                }
                4 => now += rng.below(30),
                _ => {
                    let known = index.find(fingerprint).unwrap().filter(|once| !is_over(once));
                    let told = twin.get(&fingerprint).copied().filter(|once| !is_over(once));
                    assert_eq!(known, told, "seed {seed}, step {step}");
                    if known.is_none() {
                        let ends = if rng.below(3) == 0 { UNTIL_SETTLED } else { Timestamp(now + 1 + rng.below(50)) };
                        let once = Once { lane: LaneId(0), seq: Seq(step), ends };
                        twin.insert(fingerprint, once);
                        index.insert(fingerprint, once);
                    }
                }
            }
        }
    }
}

#[test]
fn a_page_that_does_not_verify_is_an_error_and_only_for_what_it_may_hold() {
    let disk = SimDisk::new(1);
    let file = disk.create("slices", 1 << 20, Prepare::Small).unwrap();
    let mut index = Index::new(64);
    let id = |n: u64| u128::from(mix(n)) << 64 | u128::from(mix(n + 1_000));
    for n in 0..64 {
        index.insert(id(n), Once { lane: LaneId(0), seq: Seq(n), ends: UNTIL_SETTLED });
    }
    let (mut saved, mut end) = (BTreeMap::new(), 0);
    save(&mut index, &file, &mut saved, &mut end);
    assert!(index.bytes() < 64 * 8, "filter and fences");
    let mut byte = [0];
    file.read_at(100, &mut byte).unwrap();
    file.write_at(100, &[byte[0] ^ 8]).unwrap();
    let bad = (0..64).filter(|n| index.find(id(*n)).is_err()).count();
    assert!(
        (15..=16).contains(&bad),
        "{bad}: those of one page, and perhaps the first of the next, which may begin in it"
    );
    assert!((100..200).filter(|n| matches!(index.find(id(*n)), Ok(None))).count() > 95);
}
