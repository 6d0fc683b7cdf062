//! The choice of the lane.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::scheduler::{Priority, Scheduler, Turn};
use super::Rng;
use crate::types::{LaneId, LaneSet};

fn set(lanes: impl IntoIterator<Item = u8>) -> LaneSet {
    lanes.into_iter().map(LaneId).collect()
}

/// Takes `tasks` tasks at `now_ms` as a reserve does: a lane turns out empty only when it is asked.
fn reserve(scheduler: &mut Scheduler, waiting: &mut BTreeMap<u8, usize>, tasks: usize, now_ms: u64) -> Vec<u8> {
    let mut taken = Vec::new();
    let mut available = set(0..=9);
    while taken.len() < tasks {
        let Some(Turn { lane, tasks_max }) = scheduler.pick(&available, now_ms) else { break };
        let there = waiting.entry(lane.0).or_default();
        let wanted = tasks_max.min(tasks - taken.len());
        let given = wanted.min(*there);
        *there -= given;
        taken.extend(std::iter::repeat_n(lane.0, given));
        scheduler.served(lane, given, now_ms);
        if given < wanted {
            scheduler.found_empty(lane, now_ms);
            available.remove(lane);
        }
    }
    taken
}

#[test]
fn strict_takes_the_most_urgent_lane_however_much_it_gave() {
    let mut scheduler = Scheduler::new(&Priority::Strict, 0);
    let mut available = set([200, 3, 64, 255]);
    let mut order = Vec::new();
    while let Some(Turn { lane, tasks_max }) = scheduler.pick(&available, 0) {
        assert_eq!(tasks_max, usize::MAX);
        scheduler.served(lane, 1_000, 0);
        assert_eq!(scheduler.pick(&available, u64::MAX).unwrap().lane, lane, "nothing but an empty lane makes room");
        scheduler.found_empty(lane, 0);
        available.remove(lane);
        order.push(lane.0);
    }
    assert_eq!(order, [3, 64, 200, 255]);
}

#[test]
fn no_lane_is_picked_from_none() {
    let aging = Priority::Aging { longest_wait: Duration::from_millis(1) };
    for priority in [Priority::Strict, Priority::Weighted(vec![1, 2]), aging] {
        assert_eq!(Scheduler::new(&priority, 0).pick(&LaneSet::EMPTY, 0), None);
    }
}

#[test]
fn of_any_tasks_in_a_row_each_lane_with_work_gets_its_share_whatever_the_batches() {
    for seed in 0..300 {
        let mut rng = Rng(seed);
        let weights: Vec<u16> = (0..4).map(|_| u16::try_from(1 + rng.below(9)).unwrap()).collect();
        let all: usize = weights.iter().map(|weight| usize::from(*weight)).sum::<usize>() + 6;
        let mut scheduler = Scheduler::new(&Priority::Weighted(weights.clone()), 0);
        // Lanes 0 to 2 always have work, lane 3 now and then, the others never: of these each weighs 1.
        let mut waiting: BTreeMap<u8, usize> = (0..3).map(|lane| (lane, 1_000_000)).collect();
        let mut taken = Vec::new();
        while taken.len() < 40 * all {
            if rng.below(5) == 0 {
                waiting.insert(3, usize::try_from(rng.below(20)).unwrap());
            }
            let tasks = usize::try_from(1 + rng.below(25)).unwrap();
            taken.extend(reserve(&mut scheduler, &mut waiting, tasks, 0));
        }
        for lane in 0..3_u8 {
            let weight = usize::from(weights[usize::from(lane)]);
            for window in taken.windows(all) {
                let own = window.iter().filter(|from| **from == lane).count();
                assert!(own >= weight, "lane {lane} of {weights:?} has {own} of {window:?}, seed {seed}");
            }
        }
    }
}

#[test]
fn weighted_lanes_alone_share_exactly_by_their_weights() {
    let mut scheduler = Scheduler::new(&Priority::Weighted(vec![5, 3]), 0);
    let mut waiting = BTreeMap::from([(0, 1_000), (1, 1_000), (2, 1_000)]);
    let taken: Vec<u8> = (0..90).flat_map(|_| reserve(&mut scheduler, &mut waiting, 1, 0)).collect();
    assert_eq!(taken[..9], [0, 0, 0, 0, 0, 1, 1, 1, 2], "a lane without a weight has weight 1");
    assert_eq!([0, 1, 2].map(|lane| taken.iter().filter(|from| **from == lane).count()), [50, 30, 10]);
}

#[test]
fn unused_share_goes_to_others_and_is_not_saved_up() {
    let mut scheduler = Scheduler::new(&Priority::Weighted(vec![2, 2]), 0);
    let mut waiting = BTreeMap::from([(0, 1_000)]);
    assert_eq!(reserve(&mut scheduler, &mut waiting, 50, 0).len(), 50, "nobody else has anything");
    waiting.insert(1, 1_000);
    let taken = reserve(&mut scheduler, &mut waiting, 12, 0);
    assert!(taken.windows(3).all(|three| three.iter().any(|lane| *lane != three[0])), "{taken:?}");
    assert_eq!(taken.iter().filter(|lane| **lane == 1).count(), 6, "{taken:?}");
}

#[test]
fn aging_lane_is_served_within_its_bound_and_everything_else_is_strict() {
    let bound = 100;
    let mut scheduler = Scheduler::new(&Priority::Aging { longest_wait: Duration::from_millis(bound) }, 0);
    let mut waiting = BTreeMap::from([(0, 100_000), (1, 1_000), (2, 1_000)]);
    let mut last = [0; 3];
    let mut early = 0;
    for now in 0..2_000 {
        for lane in reserve(&mut scheduler, &mut waiting, 3, now) {
            early += u32::from(lane > 0);
            last[usize::from(lane)] = now;
        }
        for (lane, at) in last.iter().enumerate() {
            assert!(now - at <= bound + 1, "lane {lane} waits since {at}, and it is {now}");
        }
    }
    assert!(early <= 2 * 20, "{early} tasks went before more urgent ones");
}

#[test]
fn most_overdue_lane_goes_first_with_one_task() {
    let mut scheduler = Scheduler::new(&Priority::Aging { longest_wait: Duration::from_millis(100) }, 0);
    let mut waiting = BTreeMap::from([(0, 10), (1, 10)]);
    assert_eq!(reserve(&mut scheduler, &mut waiting, 1, 0), [0]);
    waiting.insert(2, 10);
    // Lane 1 was served at 50, lane 2 never.
    let only: LaneSet = set([1]);
    assert_eq!(scheduler.pick(&only, 50).unwrap().lane, LaneId(1));
    scheduler.served(LaneId(1), 1, 50);
    assert_eq!(reserve(&mut scheduler, &mut waiting, 5, 500), [0, 2, 1, 0, 0]);
}

#[test]
fn lane_that_was_empty_begins_to_wait_when_it_was_found_so() {
    let mut scheduler = Scheduler::new(&Priority::Aging { longest_wait: Duration::from_millis(100) }, 0);
    let mut waiting = BTreeMap::from([(0, 1)]);
    assert_eq!(reserve(&mut scheduler, &mut waiting, 5, 1_000), [0]);
    waiting = BTreeMap::from([(0, 10), (1, 10)]);
    assert_eq!(reserve(&mut scheduler, &mut waiting, 1, 1_050), [0]);
    assert_eq!(reserve(&mut scheduler, &mut waiting, 2, 1_101), [1, 0]);
}
