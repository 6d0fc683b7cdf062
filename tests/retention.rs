//! Promise: what a group has left to do is bounded where somebody says so, the oldest tasks go first, each is counted, and
//! what is on loan stays.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a helper fails the test that called it; the test waits with a limit"
)]

mod support;

use std::time::{Duration, Instant};

use lanelog::{
    Beyond, Consumer, ConsumerOptions, DeadCause, Durability, GroupStats, LaneId, Options, Queue, Reserve, Retention,
    Start, Task,
};
use support::{as_a_death_leaves_it, drain, one, place, small};

fn of(queue: &Queue, group: &str) -> Consumer {
    queue.consumer_of(group, ConsumerOptions::new()).unwrap()
}

fn stats(queue: &Queue, group: &str) -> GroupStats {
    queue.stats().groups.into_iter().find(|one| one.name == group).unwrap()
}

/// Waits until the janitor brought a group to so many tasks.
fn until_left(queue: &Queue, group: &str, tasks: u64) -> GroupStats {
    let began = Instant::now();
    loop {
        let stats = stats(queue, group);
        if stats.left.0 == tasks {
            return stats;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{stats:?}");
        std::thread::yield_now();
    }
}

fn enqueue(queue: &Queue, tasks: u8) {
    for number in 0..tasks {
        queue.enqueue(Task::new(&[number]).durability(Durability::Process)).unwrap();
    }
}

fn numbers(queue: &Queue, group: &str) -> Vec<u8> {
    let taken = of(queue, group).reserve(Reserve::new().tasks(1000)).unwrap();
    taken.iter().flat_map(|delivery| delivery.payload().to_vec()).collect()
}

#[test]
fn the_oldest_beyond_the_bound_are_dropped_for_that_group_alone_and_counted() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    queue.create_group_with("audit", Start::Oldest, Retention::new().tasks(10).beyond(Beyond::Drop)).unwrap();
    enqueue(&queue, 50);
    let stats = until_left(&queue, "audit", 10);
    assert_eq!((stats.let_go, stats.retention.bounds()), (40, (10, 0, 0)));
    assert_eq!(numbers(&queue, "audit"), (40..50).collect::<Vec<_>>());
    assert_eq!(numbers(&queue, "default").len(), 50, "others see all of them");
}

#[test]
fn without_a_word_nothing_is_dropped_and_what_is_left_is_told() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    queue.set_retention("default", Retention::new().tasks(10)).unwrap();
    enqueue(&queue, 50);
    queue.checkpoint().unwrap();
    let stats = stats(&queue, "default");
    assert_eq!((stats.left.0, stats.let_go, stats.retention.policy()), (50, 0, Beyond::Report));
    assert!(stats.left.1 > 50 * 32, "{stats:?}");
    assert_eq!(drain(&queue).len(), 50);
}

#[test]
fn what_goes_becomes_a_dead_letter_if_somebody_says_so() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    queue.set_retention("default", Retention::new().tasks(3).beyond(Beyond::DeadLetter)).unwrap();
    enqueue(&queue, 8);
    let stats = until_left(&queue, "default", 3);
    let dead = queue.dead_letters("default").unwrap();
    assert_eq!((stats.let_go, dead.len()), (5, 5));
    assert!(dead.iter().all(|letter| letter.cause == DeadCause::Retention && letter.attempts == 0), "{dead:?}");
    assert_eq!(numbers(&queue, "default"), [5, 6, 7]);
}

#[test]
fn what_is_on_loan_stays_and_goes_once_it_came_back() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    enqueue(&queue, 6);
    let held = of(&queue, "default").reserve(Reserve::new().tasks(2)).unwrap();
    queue.set_retention("default", Retention::new().tasks(1).beyond(Beyond::Drop)).unwrap();
    assert_eq!(until_left(&queue, "default", 2).let_go, 4, "the loans are left, and count");
    for delivery in held {
        delivery.release().unwrap();
    }
    until_left(&queue, "default", 1);
    assert_eq!(numbers(&queue, "default"), [1]);
}

#[test]
fn a_task_whose_time_has_not_come_stays() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    queue.enqueue(Task::new("far").delay(Duration::from_secs(3600))).unwrap();
    queue.enqueue(Task::new("near").delay(Duration::from_secs(30))).unwrap();
    queue.enqueue(Task::new("now")).unwrap();
    queue.set_retention("default", Retention::new().tasks(1).beyond(Beyond::Drop)).unwrap();
    assert_eq!(until_left(&queue, "default", 2).let_go, 1);
}

#[test]
fn tasks_of_a_key_that_wait_behind_one_another_go_in_order() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    for number in 0..5_u8 {
        queue.enqueue(Task::new(&[number]).key("k")).unwrap();
    }
    let consumer = of(&queue, "default");
    let first = one(&consumer);
    assert!(support::nothing(&consumer), "the rest was passed over");
    queue.set_retention("default", Retention::new().tasks(2).beyond(Beyond::Drop)).unwrap();
    assert_eq!(until_left(&queue, "default", 2).let_go, 3);
    first.ack().unwrap();
    assert_eq!(one(&consumer).payload()[..], [4]);
}

#[test]
fn the_oldest_of_all_lanes_goes_first() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    for number in 0..6_u8 {
        queue.enqueue(Task::new(&[number]).lane(LaneId(number % 3))).unwrap();
        support::wait_over(Duration::from_millis(5));
    }
    queue.set_retention("default", Retention::new().tasks(2).beyond(Beyond::Drop)).unwrap();
    until_left(&queue, "default", 2);
    assert_eq!(numbers(&queue, "default"), [4, 5]);
}

#[test]
fn a_group_that_nobody_reads_keeps_so_many_bytes_and_its_segments_go() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    queue.create_group_with("audit", Start::Oldest, Retention::new().bytes(8 << 10).beyond(Beyond::Drop)).unwrap();
    for round in 0..60_u8 {
        queue.enqueue(Task::new(&[round; 900])).unwrap();
    }
    drain(&queue);
    let began = Instant::now();
    loop {
        queue.checkpoint().unwrap();
        let (segments, left) = (queue.stats().lanes[0].segments, stats(&queue, "audit").left);
        if segments <= 4 && left.1 <= 8 << 10 {
            assert!(left.0 > 4, "no more than that: {left:?}");
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{segments} segments, {left:?}");
        std::thread::yield_now();
    }
}

#[test]
fn what_is_too_old_goes() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    enqueue(&queue, 3);
    let week = Duration::from_secs(7 * 24 * 3600);
    queue.set_retention("default", Retention::new().age(week).beyond(Beyond::Drop)).unwrap();
    support::wait_over(Duration::from_millis(100));
    assert_eq!(stats(&queue, "default").left.0, 3, "none is that old");
    queue.set_retention("default", Retention::new().age(Duration::from_millis(50)).beyond(Beyond::Drop)).unwrap();
    until_left(&queue, "default", 0);
}

#[test]
fn it_is_stored_and_what_went_stays_away() {
    let place = place();
    let retention = Retention::new().tasks(5).bytes(1 << 20).beyond(Beyond::Drop);
    let queue = small().open(&place.path).unwrap();
    queue.set_retention("default", retention).unwrap();
    enqueue(&queue, 20);
    until_left(&queue, "default", 5);
    let killed = Queue::open(as_a_death_leaves_it(&place)).unwrap();
    assert_eq!((killed.retention("default").unwrap(), numbers(&killed, "default").len()), (retention, 5));
    queue.close().unwrap();
    let queue = Options::new().open(&place.path).unwrap();
    assert_eq!(queue.retention("default").unwrap(), retention);
    assert_eq!(numbers(&queue, "default"), [15, 16, 17, 18, 19]);
    queue.set_retention("default", Retention::new()).unwrap();
    enqueue(&queue, 20);
    assert_eq!(stats(&queue, "default").left.0, 25);
}
