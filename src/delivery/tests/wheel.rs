//! The wheel against a sorted map: not only what fires, but in which order, and what it says of the next time.

use std::collections::BTreeMap;

use super::super::wheel::Wheel;
use super::Rng;

/// Timers by slot, searched in full on every question.
#[derive(Default)]
struct Twin(BTreeMap<u32, u64>);

impl Twin {
    fn advance(&mut self, now: u64) -> BTreeMap<u32, u64> {
        let (due, rest) = self.0.iter().partition(|(_, due)| **due <= now);
        self.0 = rest;
        due
    }

    fn earliest(&self) -> Option<u64> {
        self.0.values().min().copied()
    }
}

/// Due times at every distance from `now`, edges of levels and the end of time among them.
fn due_time(rng: &mut Rng, now: u64) -> u64 {
    let edge = 1_u64 << rng.below(64);
    match rng.below(8) {
        0 => now.saturating_sub(rng.below(100)),
        1 => now.saturating_add(edge),
        2 => now.saturating_add(edge - 1),
        3 => u64::MAX - rng.below(3),
        4 => (now | (edge - 1)).saturating_add(rng.below(2)),
        _ => now.saturating_add(rng.below(edge)),
    }
}

fn advance_both(wheel: &mut Wheel, twin: &mut Twin, before: u64, now: u64, seed: u64) {
    let mut fired = Vec::new();
    wheel.advance(now, |slot| fired.push(slot));
    let expected = twin.advance(now);
    // What was overdue when it was armed counts as due at the moment it was armed, which is at most `before`.
    let order: Vec<u64> = fired.iter().map(|slot| expected[slot].max(before)).collect();
    assert!(order.is_sorted(), "fires in the order of due times, seed {seed}");
    assert_eq!(fired.len(), expected.len(), "each that is due fires, and once, seed {seed}");
}

#[test]
fn timers_fire_in_order_over_every_distance() {
    for seed in 0..400 {
        let mut rng = Rng(seed);
        let reach = 1 << rng.below(64);
        let mut now = rng.below(reach);
        let (mut wheel, mut twin) = (Wheel::new(now), Twin::default());
        for _ in 0..300 {
            let slot = u32::try_from(rng.below(60)).unwrap();
            match rng.below(8) {
                0 | 1 => {
                    wheel.disarm(slot);
                    twin.0.remove(&slot);
                }
                2..=5 => {
                    let due = due_time(&mut rng, now);
                    wheel.arm(slot, due);
                    twin.0.insert(slot, due);
                }
                6 => {
                    let later = due_time(&mut rng, now).max(now);
                    advance_both(&mut wheel, &mut twin, now, later, seed);
                    now = later;
                }
                _ => {
                    let next = wheel.next_due().unwrap_or(now);
                    advance_both(&mut wheel, &mut twin, now, next, seed);
                    now = next;
                }
            }
            assert_eq!(wheel.len(), twin.0.len());
            let bound = twin.earliest().map(|due| due.max(now));
            assert_eq!(wheel.next_due().is_some(), bound.is_some(), "seed {seed}");
            assert!(wheel.next_due() <= bound, "never later than the earliest timer, seed {seed}");
            assert!(wheel.next_due().is_none_or(|next| next >= now), "never in the past, seed {seed}");
            if bound.is_some_and(|due| due / 64 == now / 64) {
                assert_eq!(wheel.next_due(), bound, "exact for what is near, seed {seed}");
            }
        }
    }
}

#[test]
fn waiting_from_next_due_to_next_due_takes_few_steps() {
    for due in [1, 63, 64, 4_095, 4_096, 86_400_000, 1 << 40, u64::MAX - 1, u64::MAX] {
        let mut wheel = Wheel::new(0);
        wheel.arm(0, due);
        let mut steps = 0;
        while let Some(next) = wheel.next_due() {
            wheel.advance(next, |_| assert_eq!(next, due, "fires at its time, not before"));
            steps += 1;
        }
        assert!(steps <= 11, "a timer moves down once a level at most, took {steps} for {due}");
    }
}

#[test]
fn present_that_goes_back_fires_nothing_and_loses_nothing() {
    let mut wheel = Wheel::new(1_000);
    wheel.arm(0, 500);
    wheel.arm(1, 2_000);
    for past in [999, 3, 0] {
        wheel.advance(past, |slot| panic!("{slot} fired in the past"));
    }
    assert_eq!((wheel.len(), wheel.next_due()), (2, Some(1_000)), "what is overdue has work at once");
    let mut fired = Vec::new();
    wheel.advance(2_000, |slot| fired.push(slot));
    assert_eq!(fired, [0, 1]);
}

#[test]
fn rearmed_timer_fires_at_its_last_due_time_only() {
    let mut wheel = Wheel::new(0);
    for due in [10, 100_000, 20] {
        wheel.arm(7, due);
    }
    assert_eq!(wheel.len(), 1);
    wheel.advance(19, |_| panic!("the first due time was replaced"));
    let mut fired = 0;
    wheel.advance(u64::MAX, |_| fired += 1);
    assert_eq!((fired, wheel.len(), wheel.next_due()), (1, 0, None));
}

#[test]
fn disarming_what_is_not_armed_changes_nothing() {
    let mut wheel = Wheel::new(0);
    wheel.disarm(3);
    wheel.arm(1, 5);
    wheel.disarm(0);
    wheel.disarm(9);
    assert_eq!((wheel.len(), wheel.next_due()), (1, Some(5)));
    wheel.advance(5, |_| {});
    wheel.disarm(1);
    assert_eq!((wheel.len(), wheel.next_due()), (0, None), "what fired is disarmed already");
}
