//! The index against a map that forgets nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::index::{Index, Left, PreparedIds, left_of, merge};
use super::slice::Slice;
use crate::format::dedup::{Once, UNTIL_SETTLED, decode_pages};
use crate::sim::{Rng, SimDisk};
use crate::storage::{File, Prepare, Storage};
use crate::types::{LaneId, Seq, Timestamp, mix};

/// Copies a portion of the head ahead of a checkpoint. True if that was the last.
fn copy(index: &mut Index, (prepared, behind): &mut (PreparedIds, Option<u128>)) -> bool {
    let (number, some) = index.copy_of_head(*behind, 2);
    let Some((last, _)) = some.last() else { return true };
    *behind = Some(*last);
    !prepared.add(number, some.into_iter())
}

/// A checkpoint of an index, of whose head a part may be copied: its slices, written to a file one behind the other.
fn save(
    index: &mut Index,
    mut copied: (PreparedIds, Option<u128>),
    file: &Arc<dyn File>,
    saved: &mut BTreeMap<u32, (u64, Vec<u8>)>,
    end: &mut u64,
) {
    while !copy(index, &mut copied) {}
    let mut kept = BTreeMap::new();
    let taken = index.take(copied.0);
    kept.extend(taken.as_they_are.iter().map(|number| (*number, saved[number].clone())));
    for (number, pages) in taken.into_pages().collect::<Vec<_>>() {
        file.write_at(*end, &pages).unwrap();
        let at = std::mem::replace(end, *end + pages.len() as u64);
        index.written(number, (Arc::clone(file), at));
        kept.insert(number, (at, pages));
    }
    *saved = kept;
}

/// Tidies a slice in turn; what is left of it may go to the next one.
fn tidy(
    index: &mut Index,
    slice_ids: usize,
    now: Timestamp,
    merges: bool,
    are_over: impl Fn(&[(u128, Once)]) -> Vec<bool>,
) {
    let Some((number, slice)) = index.next_to_tidy(now) else { return };
    let Some(left) = left_of(&slice, slice_ids, slice.count / 2, are_over) else { return };
    let next = index.slice_behind(number).filter(|_| merges);
    let few = if let Left::Few(few) = &left { Some(few) } else { None };
    let both = few.zip(next.as_ref()).and_then(|(few, (_, next))| merge(few, next, slice_ids));
    match (both, &next) {
        (Some(both), Some((behind, next))) => index.merged((number, &slice), (*behind, next), both),
        _ => index.tidied(number, &slice, left),
    }
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
        // Of the next checkpoint, which is under way at all times.
        let mut copied = (PreparedIds::default(), None);
        for step in 0..400_u64 {
            // Fingerprints that share their high half, which a hash would not.
            let fingerprint = u128::from(rng.below(12)) << 64 | u128::from(rng.below(20));
            let is_over =
                |once: &Once| once.ends.0 <= now || (once.ends == UNTIL_SETTLED && once.seq.0.is_multiple_of(3));
            let are_over = |entries: &[(u128, Once)]| entries.iter().map(|(_, once)| is_over(once)).collect::<Vec<_>>();
            match rng.below(40) {
                0 => save(&mut index, std::mem::take(&mut copied), &file, &mut saved, &mut end),
                1 => {
                    save(&mut index, std::mem::take(&mut copied), &file, &mut saved, &mut end);
                    index = Index::new(slice_ids);
                    for (number, (at, pages)) in &saved {
                        index.load(*number, &decode_pages(pages).unwrap(), Some((Arc::clone(&file), *at)));
                    }
                    index.loaded();
                }
                2 => tidy(&mut index, slice_ids, Timestamp(now), rng.below(2) == 0, are_over),
                3 => {
                    let most = usize::try_from(rng.below(20)).unwrap();
                    let is_full = index.forget(most, Timestamp(now), are_over).is_some();
                    let counts = twin.values().filter(|once| !is_over(once)).count();
                    assert!(index.count() >= counts, "seed {seed}, step {step}");
                    assert_eq!(is_full, index.count() > most, "seed {seed}, step {step}");
                }
                4 => now += rng.below(30),
                5 => {
                    if let Some((number, head)) = index.full_head() {
                        let entries: Vec<(u128, Once)> = head.iter().map(|(id, once)| (*id, *once)).collect();
                        index.put_slice(number, &head, Slice::new(&entries));
                    }
                }
                6 | 7 => _ = copy(&mut index, &mut copied),
                8 => {
                    let (_, head) = index.copy_of_head(Some(0), usize::MAX);
                    let over: Vec<_> = head.into_iter().filter(|(_, once)| is_over(once)).collect();
                    index.drop_from_head(&over);
                }
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
    let (number, head) = index.full_head().unwrap();
    let entries: Vec<(u128, Once)> = head.iter().map(|(id, once)| (*id, *once)).collect();
    index.put_slice(number, &head, Slice::new(&entries));
    save(&mut index, Default::default(), &file, &mut saved, &mut end);
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
