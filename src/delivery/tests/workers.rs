//! Workers of a group without tasks: who lives when.

use std::collections::BTreeMap;

use super::super::far::FarRules;
use super::super::group::Rules;
use super::super::state::{GroupState, Runs};
use super::super::workers::{Pulse, WorkerId};
use super::super::{DeadBounds, Group, Priority};
use crate::types::{Backoff, Now, Timestamp};

fn at(boot_ms: u64) -> Now {
    Now { boot_ms, wall: Timestamp(boot_ms) }
}

fn tick(group: &mut Group, boot_ms: u64) {
    let rules = Rules {
        max_attempts: 0,
        backoff: Backoff::default(),
        expired_are_dead: false,
        dead: DeadBounds::default(),
        in_flight_max: 0,
        lanes_in_flight_max: BTreeMap::new(),
        far: FarRules::USUAL,
    };
    group.tick(&rules, at(boot_ms), &mut Runs::default());
}

fn names(group: &Group) -> Vec<&str> {
    group.workers.iter().map(|(_, worker)| worker.name.as_str()).collect()
}

#[test]
fn a_worker_is_dead_after_the_heartbeats_that_it_may_miss_and_the_next_tick_is_due_by_then() {
    let mut group = Group::open(0, GroupState::default(), &Priority::Strict, at(0)).fenced(1).keyed(0, true);
    assert_eq!(group.next_due_ms(), None);
    let pulse = |interval_ms| Pulse { interval_ms, missed_max: 2 };
    let (quick, slow) = (group.enlist("quick", pulse(100), at(0)), group.enlist("slow", pulse(1_000), at(0)));
    assert_ne!(quick, slow);
    assert_eq!(group.next_due_ms(), Some(200));
    tick(&mut group, 199);
    assert!(group.beat(quick, at(199)));
    tick(&mut group, 200);
    assert_eq!(names(&group), ["quick", "slow"], "it was heard of");
    assert_eq!(group.next_due_ms(), Some(399));
    tick(&mut group, 399);
    assert_eq!(names(&group), ["slow"]);
    assert!(!group.beat(quick, at(399)), "too late");
    assert_eq!(group.buckets_of(slow), 256);
    // A clock that was read earlier and comes later takes nothing away.
    assert!(group.beat(slow, at(500)) && group.beat(slow, at(450)));
    tick(&mut group, 2_499);
    assert_eq!(names(&group), ["slow"]);
    tick(&mut group, 2_500);
    assert!(names(&group).is_empty());
    assert_eq!(group.next_due_ms(), None);
}

#[test]
fn an_identity_is_never_used_twice_and_is_no_plain_consumers() {
    let mut group = Group::open(0, GroupState::default(), &Priority::Strict, at(0)).fenced(1);
    let pulse = Pulse { interval_ms: u64::MAX, missed_max: 2 };
    let first = group.enlist("w", pulse, at(0));
    group.dismiss(first, &mut Runs::default());
    let second = group.enlist("w", pulse, at(0));
    assert!(second > first);
    group.dismiss(first, &mut Runs::default());
    assert_eq!(names(&group), ["w"], "the one that went can't take its successor along");
    assert_eq!(WorkerId::of_consumer(first.consumer()), Some(first));
    assert_eq!(WorkerId::of_consumer(17), None);
}
