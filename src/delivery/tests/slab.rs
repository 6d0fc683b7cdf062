//! The slab against a map from every fence ever given.

use std::collections::BTreeMap;

use super::super::fences::{FENCES_PER_RANGE, Fences};
use super::super::slab::Slab;
use super::Rng;

#[test]
fn only_the_fence_of_the_lease_that_holds_opens_a_slot() {
    for seed in 0..100 {
        let mut rng = Rng(seed);
        let mut slab = Slab::new();
        let mut fences = Fences::from(1);
        let mut live: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        let mut stale: Vec<(u32, u64)> = Vec::new();
        for value in 0..300 {
            let any =
                live.iter().nth(usize::try_from(rng.below(20)).unwrap()).map(|(slot, (fence, _))| (*slot, *fence));
            match (rng.below(5), any) {
                (0, Some((slot, fence))) => {
                    let removed = if fence == 0 { slab.remove_slot(slot) } else { slab.remove(slot, fence) };
                    assert_eq!(removed, live.remove(&slot).map(|(_, value)| value));
                    assert_eq!(slab.slot(slot), None);
                    stale.push((slot, fence));
                }
                (1, Some((slot, fence))) => {
                    live.get_mut(&slot).unwrap().0 = slab.lend(slot, fences.take());
                    stale.push((slot, fence));
                }
                (2, Some((slot, fence))) if fence != 0 => {
                    assert!(slab.get(slot, fence).is_some());
                    *slab.slot_mut(slot).unwrap() = value;
                    live.get_mut(&slot).unwrap().1 = value;
                }
                (3, Some((slot, fence))) => {
                    slab.end(slot);
                    live.get_mut(&slot).unwrap().0 = 0;
                    stale.push((slot, fence));
                }
                _ => {
                    let slot = slab.insert(value);
                    assert!(live.insert(slot, (0, value)).is_none(), "a slot in use is not given again");
                }
            }
            for (slot, fence) in &stale {
                assert_eq!(slab.get(*slot, *fence), None, "seed {seed}");
                assert_eq!(slab.remove(*slot, *fence), None, "seed {seed}");
            }
            for (slot, (fence, value)) in &live {
                let opened = (*fence != 0).then_some(value);
                assert_eq!((slab.get(*slot, *fence), slab.fence(*slot)), (opened, *fence));
            }
            let listed: BTreeMap<u32, u64> = slab.iter().map(|(slot, value)| (slot, *value)).collect();
            assert!(listed.iter().eq(live.iter().map(|(slot, (_, value))| (slot, value))));
            assert_eq!(slab.len(), live.len());
        }
    }
}

#[test]
fn slot_that_never_was_is_refused() {
    let mut slab = Slab::<u8>::new();
    assert_eq!((slab.get(0, 0), slab.get(u32::MAX, 1), slab.slot(0)), (None, None, None));
    assert!(slab.get(0, 1).is_none() && slab.slot_mut(0).is_none());
    assert_eq!((slab.remove(0, 0), slab.remove_slot(7), slab.lend(3, 9), slab.fence(3)), (None, None, 0, 0));
    slab.end(3);
    assert_eq!(slab.len(), 0);
}

#[test]
fn a_range_of_fences_only_grows_and_says_when_it_runs_low() {
    let mut fences = Fences::from(70);
    assert_eq!((fences.take(), fences.take(), fences.run_low()), (70, 71, false));
    assert_eq!(fences.left() as u64, FENCES_PER_RANGE - 2);
    assert!(Fences::default().run_low() && Fences::default().left() == 0, "a group without a range asks for one");
}
