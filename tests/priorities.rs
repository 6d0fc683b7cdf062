//! Promise: how lanes are chosen is an option of the queue, with bounds that can be told in numbers: strictly by urgency, by
//! shares, or by urgency with a longest wait. It is stored, and holds for every group.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a helper fails the test that called it; the test measures a wait"
)]

mod support;

use std::time::{Duration, Instant};

use lanelog::{Consumer, Durability, Error, LaneId, LaneSet, Options, Priority, Queue, Reserve, Start, Task};
use support::{place, small};

fn fill(queue: &Queue, lane: u8, tasks: usize) {
    for _ in 0..tasks {
        queue.enqueue(Task::new("work").lane(LaneId(lane)).durability(Durability::Process)).unwrap();
    }
}

/// Takes `tasks` tasks in batches of `batch`, acks them, and gives their lanes in order.
fn take(consumer: &Consumer, tasks: usize, batch: usize) -> Vec<u8> {
    let mut lanes = Vec::new();
    while lanes.len() < tasks {
        let taken = consumer.reserve(Reserve::new().tasks(batch.min(tasks - lanes.len()))).unwrap();
        if taken.is_empty() {
            break;
        }
        lanes.extend(taken.iter().map(|delivery| delivery.lane().0));
        for answer in consumer.ack_batch(taken).unwrap() {
            answer.unwrap();
        }
    }
    lanes
}

fn count(lanes: &[u8], lane: u8) -> usize {
    lanes.iter().filter(|from| **from == lane).count()
}

fn shares() -> Options {
    small().priority(Priority::Weighted(vec![6, 3, 1]))
}

fn aging(longest_wait: Duration) -> Options {
    small().priority(Priority::Aging { longest_wait })
}

#[test]
fn a_weighted_lane_with_work_gets_its_share_of_any_tasks_in_a_row_whatever_the_batches() {
    for batch in [1, 7, 100] {
        let place = place();
        let queue = shares().open(&place.path).unwrap();
        for lane in 0..3 {
            fill(&queue, lane, 300);
        }
        let lanes = take(&queue.consumer(), 300, batch);
        assert_eq!([0, 1, 2].map(|lane| count(&lanes, lane)), [180, 90, 30], "in batches of {batch}");
        for window in lanes.windows(10) {
            assert_eq!([0, 1, 2].map(|lane| count(window, lane)), [6, 3, 1], "{window:?} in batches of {batch}");
        }
    }
}

#[test]
fn a_share_that_its_lane_has_no_work_for_goes_to_the_others_at_once() {
    let place = place();
    let queue = shares().open(&place.path).unwrap();
    fill(&queue, 1, 30);
    fill(&queue, 2, 100);
    let lanes = take(&queue.consumer(), 130, 50);
    assert_eq!(count(&lanes[..40], 1), 30, "three of four, as lane 0 has nothing");
    assert_eq!(count(&lanes[40..], 2), 90, "and then all");
}

#[test]
fn a_weighted_lane_that_comes_late_saved_nothing_up() {
    let place = place();
    let queue = shares().open(&place.path).unwrap();
    let consumer = queue.consumer();
    fill(&queue, 2, 200);
    take(&consumer, 100, 10);
    fill(&queue, 0, 200);
    let lanes = take(&consumer, 70, 10);
    assert_eq!(count(&lanes, 0), 60, "{lanes:?}");
}

#[test]
fn aging_is_strict_until_a_lane_waited_too_long_and_then_lets_one_task_of_it_pass() {
    let place = place();
    let longest_wait = Duration::from_millis(200);
    let began = Instant::now();
    let queue = aging(longest_wait).open(&place.path).unwrap();
    // A lane's wait began after the first of these and before the second; the queue's clock counts milliseconds.
    let mut served = [(began, Instant::now() + Duration::from_millis(2)); 3];
    let consumer = queue.consumer();
    for lane in 0..3 {
        fill(&queue, lane, 200);
    }
    let mut patient = 0;
    while patient < 10 {
        let before = Instant::now();
        let overdue = served.map(|(_, since)| before.saturating_duration_since(since) > longest_wait);
        let lanes = take(&consumer, 3, 3);
        let after = Instant::now();
        for lane in 1..3 {
            let count = count(&lanes, lane);
            let (since, _) = served[usize::from(lane)];
            let may_be_due = after.duration_since(since) > longest_wait;
            assert!(count == 0 || may_be_due, "{lanes:?}: lane {lane} passes before its wait is over");
            assert!(count > 0 || !overdue[usize::from(lane)], "{lanes:?}: of three tasks none of lane {lane}, overdue");
            assert!(count <= 1 || after.duration_since(before) > longest_wait, "{lanes:?}: one task for each wait");
            patient += count;
        }
        for lane in lanes {
            served[usize::from(lane)] = (before, after + Duration::from_millis(2));
        }
        fill(&queue, 0, 3);
    }
}

#[test]
fn aging_serves_a_batch_of_a_fresh_queue_strictly() {
    let place = place();
    let queue = aging(Duration::from_secs(3600)).open(&place.path).unwrap();
    for lane in [2, 0, 1] {
        fill(&queue, lane, 5);
    }
    assert_eq!(take(&queue.consumer(), 15, 15), [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2]);
}

#[test]
fn the_choice_of_lanes_is_kept_over_a_reopen_until_another_is_given() {
    let place = place();
    drop(shares().open(&place.path).unwrap());
    let queue = Queue::open(&place.path).unwrap();
    for lane in 0..3 {
        fill(&queue, lane, 100);
    }
    let lanes = take(&queue.consumer(), 20, 4);
    assert_eq!([0, 1, 2].map(|lane| count(&lanes, lane)), [12, 6, 2]);
    queue.close().unwrap();
    let queue = Options::new().priority(Priority::Strict).open(&place.path).unwrap();
    let lanes = take(&queue.consumer(), 20, 4);
    assert_eq!(count(&lanes, 0), 20);
}

#[test]
fn every_group_has_its_own_turns_also_one_that_was_created_later() {
    let place = place();
    let queue = shares().open(&place.path).unwrap();
    for lane in 0..3 {
        fill(&queue, lane, 60);
    }
    take(&queue.consumer(), 13, 13);
    queue.create_group("second", Start::Oldest).unwrap();
    let second = queue.consumer_of("second", lanelog::ConsumerOptions::new()).unwrap();
    assert_eq!(take(&second, 10, 1), [0, 0, 0, 0, 0, 0, 1, 1, 1, 2]);
}

#[test]
fn a_reserve_that_names_lanes_takes_turns_among_those() {
    let place = place();
    let queue = shares().open(&place.path).unwrap();
    for lane in 0..3 {
        fill(&queue, lane, 60);
    }
    let patient: LaneSet = [LaneId(1), LaneId(2)].into_iter().collect();
    let taken = queue.consumer().reserve(Reserve::new().tasks(40).lanes(patient)).unwrap();
    let lanes: Vec<u8> = taken.iter().map(|delivery| delivery.lane().0).collect();
    assert_eq!((count(&lanes, 1), count(&lanes, 2)), (30, 10));
}

#[test]
fn weights_and_waits_out_of_bounds_are_refused() {
    let place = place();
    let refused = |priority: Priority| {
        let opened = small().priority(priority.clone()).open(&place.path);
        assert!(matches!(opened, Err(Error::InvalidOption { .. })), "{priority:?}");
    };
    refused(Priority::Weighted(vec![1, 0]));
    refused(Priority::Weighted(vec![1001]));
    refused(Priority::Weighted(vec![1; 4]));
    refused(Priority::Aging { longest_wait: Duration::ZERO });
    assert!(small().priority(Priority::Weighted(vec![1000])).open(&place.path).is_ok());
}
