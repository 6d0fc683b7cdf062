//! Feature: expiry. A task that nobody wants done any more is not handed out: it is counted and gone, or a dead letter.

mod support;

use std::time::Duration;

use lanelog::{DeadCause, Error, Queue, Task};
use support::{drain, nothing, one, place, small, wait_over};

const SHORT: Duration = Duration::from_millis(30);
/// Time enough to be handed out before, on a slow disk too.
const ENOUGH: Duration = Duration::from_secs(2);
const LONG: Duration = Duration::from_secs(3600);

#[test]
fn an_expired_task_is_skipped_and_counted_and_its_space_comes_back() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    for n in 0..20 {
        queue.enqueue(Task::new(&format!("{n:0300}")).ttl(SHORT)).unwrap();
    }
    queue.enqueue(Task::new("fresh").ttl(LONG)).unwrap();
    queue.enqueue(Task::new("plain")).unwrap();
    wait_over(SHORT);
    assert_eq!(drain(&queue), [b"fresh", b"plain"]);
    let lane = &queue.stats().groups[0].lanes[0];
    assert_eq!((lane.expired, lane.depth, lane.dead), (20, 0, 0));
    queue.checkpoint().unwrap();
    assert!(queue.stats().lanes[0].segments <= 2);
    drop(queue);
    assert!(nothing(&Queue::open(&place.path).unwrap().consumer()), "expired once, gone for good");
}

#[test]
fn where_it_is_asked_for_an_expired_task_becomes_a_dead_letter() {
    let place = place();
    drop(small().expired_to_dead_letters(true).open(&place.path).unwrap());
    let queue = Queue::open(&place.path).unwrap();
    let id = queue.enqueue(Task::new("late").ttl(SHORT)).unwrap();
    wait_over(SHORT);
    assert!(nothing(&queue.consumer()));
    let dead = queue.dead_letters("default").unwrap();
    assert_eq!((dead[0].id, dead[0].cause, dead[0].attempts), (id, DeadCause::Expired, 0));
}

#[test]
fn what_is_on_loan_when_it_expires_may_be_finished_and_what_fails_then_is_not_tried_again() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    queue.enqueue(Task::new("finished").ttl(ENOUGH)).unwrap();
    queue.enqueue(Task::new("failed").ttl(ENOUGH)).unwrap();
    let consumer = queue.consumer();
    let (finished, failed) = (one(&consumer), one(&consumer));
    wait_over(ENOUGH);
    finished.ack().unwrap();
    failed.nack(Some(Duration::ZERO), "too late").unwrap();
    assert!(nothing(&consumer));
    assert_eq!(queue.stats().groups[0].lanes[0].expired, 1);
}

#[test]
fn a_time_to_live_that_ends_before_the_task_may_run_is_refused() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    let refused = queue.enqueue(Task::new("never").delay(LONG).ttl(SHORT)).unwrap_err();
    assert!(matches!(refused, Error::InvalidOption { option: "ttl", .. }), "{refused}");
    let refused = queue.enqueue(Task::new("never").ttl(Duration::ZERO)).unwrap_err();
    assert!(matches!(refused, Error::InvalidOption { option: "ttl", .. }), "{refused}");
}
