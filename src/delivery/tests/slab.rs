//! The slab against a map from every token ever given.

use std::collections::BTreeMap;

use super::super::slab::Slab;
use super::Rng;

#[test]
fn only_the_last_token_of_a_slot_opens_it() {
    for seed in 0..100 {
        let mut rng = Rng(seed);
        let mut slab = Slab::new();
        let mut live: BTreeMap<u32, (u32, u64)> = BTreeMap::new();
        let mut stale: Vec<(u32, u32)> = Vec::new();
        for value in 0..300 {
            let any =
                live.iter().nth(usize::try_from(rng.below(20)).unwrap()).map(|(slot, (token, _))| (*slot, *token));
            match (rng.below(4), any) {
                (0, Some((slot, token))) => {
                    assert_eq!(slab.remove(slot, token), live.remove(&slot).map(|(_, value)| value));
                    assert_eq!(slab.slot(slot), None);
                    stale.push((slot, token));
                }
                (1, Some((slot, token))) => {
                    let fresh = slab.renew(slot);
                    live.get_mut(&slot).unwrap().0 = fresh;
                    stale.push((slot, token));
                }
                (2, Some((slot, token))) => {
                    *slab.get_mut(slot, token).unwrap() = value;
                    live.get_mut(&slot).unwrap().1 = value;
                }
                _ => {
                    let (slot, token) = slab.insert(value);
                    assert!(live.insert(slot, (token, value)).is_none(), "a slot in use is not given again");
                }
            }
            for (slot, token) in &stale {
                assert_eq!(slab.get(*slot, *token), None, "seed {seed}");
                assert_eq!(slab.remove(*slot, *token), None, "seed {seed}");
            }
            for (slot, (token, value)) in &live {
                assert_eq!((slab.get(*slot, *token), slab.token(*slot)), (Some(value), *token));
                assert_ne!(*token, 0);
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
    assert!(slab.get_mut(0, 1).is_none() && slab.slot_mut(0).is_none());
    assert_eq!((slab.remove(0, 0), slab.remove_slot(7), slab.renew(3), slab.token(3)), (None, None, 0, 0));
    assert_eq!(slab.len(), 0);
}
