//! The allocator against a bitmap.

use super::disk::Random;
use crate::checkpoint::units::FreeUnits;

#[test]
fn runs_agree_with_a_bitmap_through_takes_and_gives() {
    for seed in 0..50 {
        let mut random = Random(seed);
        let (mut free, mut twin) = (FreeUnits::default(), vec![false; 400]);
        free.give(0, 400);
        twin.fill(true);
        let mut taken = Vec::new();
        for _ in 0..400 {
            if random.below(2) == 0 && !taken.is_empty() {
                let at = usize::try_from(random.below(taken.len() as u64)).unwrap();
                let (start, count) = taken.swap_remove(at);
                free.give(start, count);
                twin[start as usize..(start + count) as usize].fill(true);
            } else {
                let count = u32::try_from(1 + random.below(30)).unwrap();
                let fits = twin.windows(count as usize).position(|run| run.iter().all(|unit| *unit));
                let start = free.take(count);
                assert_eq!(start.map(|start| start as usize), fits, "seed {seed}: first fit");
                if let Some(start) = start {
                    twin[start as usize..(start + count) as usize].fill(false);
                    taken.push((start, count));
                }
            }
            assert_eq!(free.total(), twin.iter().filter(|unit| **unit).count() as u64, "seed {seed}");
        }
    }
}
