//! The choice of the lane.

use super::super::scheduler::{Policy, Scheduler};
use crate::types::{LaneId, LaneSet};

#[test]
fn strict_takes_the_most_urgent_lane_however_much_it_gave() {
    let mut scheduler = Scheduler::new(Policy::Strict);
    let mut available: LaneSet = [LaneId(200), LaneId(3), LaneId(64), LaneId(255)].into_iter().collect();
    let mut order = Vec::new();
    while let Some(lane) = scheduler.pick(&available) {
        scheduler.served(lane, 1_000);
        assert_eq!(scheduler.pick(&available), Some(lane), "nothing but an empty lane makes room for the next");
        available.remove(lane);
        order.push(lane.0);
    }
    assert_eq!(order, [3, 64, 200, 255]);
}

#[test]
fn no_lane_is_picked_from_none() {
    assert_eq!(Scheduler::new(Policy::Strict).pick(&LaneSet::EMPTY), None);
}
