//! Promise: the count of attempts survives the death of the process exactly, so that a task that kills its worker
//! reaches the dead letters.

mod support;

use std::time::Duration;

use lanelog::{DeadCause, Queue, Task};
use support::{nothing, one, place, small};

#[test]
fn a_task_that_is_taken_and_never_settled_becomes_a_dead_letter_over_reopens() {
    let place = place();
    let options = small().max_attempts(3);
    options.open(&place.path).unwrap().enqueue(Task::new("kills its worker")).unwrap();
    for attempt in 1..=3 {
        // Dropped without a close: what is in memory is gone, as if the process had died.
        let queue = Queue::open(&place.path).unwrap();
        let delivery = one(&queue.consumer());
        assert_eq!(delivery.attempt(), attempt);
        let _receipt = delivery.detach();
    }
    let queue = Queue::open(&place.path).unwrap();
    assert!(nothing(&queue.consumer()));
    let dead = queue.dead_letters("default").unwrap();
    assert_eq!((dead.len(), dead[0].attempts, dead[0].cause), (1, 3, DeadCause::MaxAttempts));
    queue.close().unwrap();
    let queue = Queue::open(&place.path).unwrap();
    assert_eq!(queue.dead_letters("default").unwrap(), dead, "dead letters are kept");
    assert!(nothing(&queue.consumer()));
}

#[test]
fn a_delay_goes_on_over_a_reopen() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    queue.enqueue(Task::new("later")).unwrap();
    queue.enqueue(Task::new("sooner")).unwrap();
    let consumer = queue.consumer();
    one(&consumer).nack(Some(Duration::from_secs(3600)), "not today").unwrap();
    one(&consumer).nack(Some(Duration::from_millis(100)), "in a moment").unwrap();
    drop((consumer, queue));
    let queue = Queue::open(&place.path).unwrap();
    let consumer = queue.consumer();
    let delivery = one(&consumer);
    assert_eq!((delivery.payload(), delivery.attempt()), (b"sooner".as_ref(), 2));
    delivery.ack().unwrap();
    assert!(nothing(&consumer));
    assert_eq!(queue.stats().groups[0].lanes[0].delayed, 1);
}
