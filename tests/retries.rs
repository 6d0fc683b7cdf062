//! Feature: retries. A failed attempt comes again after its backoff, in its lane, before what was never handed out; the
//! attempt and what was said of the one before are in the delivery; attempts have a maximum, of the queue or of the task.

mod support;

use std::time::Duration;

use lanelog::{Backoff, DeadCause, LaneId, Queue, Reserve, Task, Timestamp};
use support::{nothing, one, place, small, wall};

const LONG: Duration = Duration::from_secs(3600);

#[expect(clippy::unwrap_used, clippy::panic, reason = "a helper fails the test that called it")]
fn due_of(queue: &Queue, id: lanelog::TaskId) -> Timestamp {
    match queue.task(id).unwrap().unwrap().states.first().map(|(_, state)| state) {
        Some(lanelog::TaskState::Delayed { due, .. }) => *due,
        other => panic!("not delayed: {other:?}"),
    }
}

#[test]
fn the_attempt_and_the_last_reason_are_in_the_delivery_over_a_reopen_too() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    queue.enqueue(Task::new("fragile")).unwrap();
    let first = one(&queue.consumer());
    assert_eq!((first.attempt(), first.last_reason()), (1, ""));
    first.nack(Some(Duration::ZERO), "the disk was full").unwrap();
    let second = one(&queue.consumer());
    assert_eq!((second.attempt(), second.last_reason()), (2, "the disk was full"));
    second.nack(Some(Duration::ZERO), "the net was down").unwrap();
    queue.close().unwrap();
    let queue = Queue::open(&place.path).unwrap();
    let third = one(&queue.consumer());
    assert_eq!((third.attempt(), third.last_reason()), (3, "the net was down"));
}

#[test]
fn a_retried_task_goes_before_first_deliveries_of_its_lane_and_keeps_its_lane() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    for text in ["a", "b", "c"] {
        queue.enqueue(Task::new(text).lane(LaneId(1))).unwrap();
    }
    let consumer = queue.consumer();
    one(&consumer).nack(Some(Duration::ZERO), "again").unwrap();
    queue.enqueue(Task::new("less urgent").lane(LaneId(2))).unwrap();
    let order: Vec<String> = (0..4)
        .map(|_| {
            let delivery = one(&consumer);
            let text = String::from_utf8(delivery.payload().to_vec()).unwrap();
            delivery.ack().unwrap();
            text
        })
        .collect();
    assert_eq!(order, ["a", "b", "c", "less urgent"]);
}

#[test]
fn the_queues_backoff_decides_the_delay_and_the_tasks_own_comes_before_it() {
    let place = place();
    let queue = small().backoff(Backoff::linear(LONG, 10 * LONG)).open(&place.path).unwrap();
    let plain = queue.enqueue(Task::new("plain")).unwrap();
    let own = queue.enqueue(Task::new("own").backoff(Backoff::fixed(24 * LONG))).unwrap();
    let before = wall();
    for delivery in queue.consumer().reserve(Reserve::new().tasks(2)).unwrap() {
        delivery.nack(None, "no").unwrap();
    }
    let after = wall();
    let hour = 3_600_000;
    assert!((before + hour..=after + hour).contains(&due_of(&queue, plain).0));
    assert!((before + 24 * hour..=after + 24 * hour).contains(&due_of(&queue, own).0));
}

#[test]
fn jitter_spreads_tasks_that_failed_together() {
    let place = place();
    let queue = small().backoff(Backoff::fixed(LONG).jitter(50)).open(&place.path).unwrap();
    let ids: Vec<_> = (0..20).map(|n| queue.enqueue(Task::new(&format!("{n}"))).unwrap()).collect();
    let before = wall();
    for delivery in queue.consumer().reserve(Reserve::new().tasks(20)).unwrap() {
        delivery.nack(None, "no").unwrap();
    }
    let minutes: std::collections::BTreeSet<u64> =
        ids.iter().map(|id| due_of(&queue, *id).0.saturating_sub(before) / 60_000).collect();
    assert!(minutes.len() > 5 && minutes.iter().all(|minute| (29..=60).contains(minute)), "{minutes:?}");
}

#[test]
fn a_nack_with_a_delay_of_its_own_comes_before_any_backoff() {
    let place = place();
    let queue = small().backoff(Backoff::fixed(Duration::ZERO)).open(&place.path).unwrap();
    let id = queue.enqueue(Task::new("slow")).unwrap();
    let before = wall();
    one(&queue.consumer()).nack(Some(2 * LONG), "in two hours").unwrap();
    assert!((before + 7_200_000..=wall() + 7_200_000).contains(&due_of(&queue, id).0));
    assert!(nothing(&queue.consumer()));
}

#[test]
fn the_tasks_own_maximum_of_attempts_comes_before_the_queues() {
    let place = place();
    let queue = small().max_attempts(1).backoff(Backoff::fixed(Duration::ZERO)).open(&place.path).unwrap();
    queue.enqueue(Task::new("one try")).unwrap();
    queue.enqueue(Task::new("two tries").max_attempts(2)).unwrap();
    queue.enqueue(Task::new("any number").max_attempts(0)).unwrap();
    for round in 0..4 {
        for delivery in queue.consumer().reserve(Reserve::new().tasks(3)).unwrap() {
            delivery.nack(None, &format!("round {round}")).unwrap();
        }
    }
    let dead = queue.dead_letters("default").unwrap();
    let told: Vec<_> = dead.iter().map(|letter| (letter.attempts, letter.cause, letter.reason.as_str())).collect();
    assert_eq!(told, [(1, DeadCause::MaxAttempts, "round 0"), (2, DeadCause::MaxAttempts, "round 1")]);
    let last = one(&queue.consumer());
    assert_eq!((last.payload(), last.attempt()), (b"any number".as_ref(), 5));
}

#[test]
fn what_a_task_asks_for_holds_over_a_reopen_with_attempts_begun() {
    let place = place();
    let queue = small().backoff(Backoff::fixed(Duration::ZERO)).open(&place.path).unwrap();
    queue.enqueue(Task::new("two tries").max_attempts(2)).unwrap();
    one(&queue.consumer()).nack(None, "first").unwrap();
    drop(queue);
    let queue = Queue::open(&place.path).unwrap();
    one(&queue.consumer()).nack(None, "second").unwrap();
    assert_eq!(queue.dead_letters("default").unwrap()[0].attempts, 2);
}

#[test]
fn the_backoff_is_stored_with_the_queue() {
    let place = place();
    let backoff = Backoff::linear(LONG, 2 * LONG).jitter(0);
    drop(small().backoff(backoff).open(&place.path).unwrap());
    let queue = Queue::open(&place.path).unwrap();
    let id = queue.enqueue(Task::new("x")).unwrap();
    let before = wall();
    one(&queue.consumer()).nack(None, "no").unwrap();
    assert!((before + 3_600_000..=wall() + 3_600_000).contains(&due_of(&queue, id).0));
}

#[test]
fn one_attempt_takes_no_longer_than_the_task_allows_whatever_extends_it() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    queue.enqueue(Task::new("bounded").time_limit(Duration::from_millis(30))).unwrap();
    let consumer = queue.consumer();
    let delivery = one(&consumer);
    delivery.extend(LONG).unwrap();
    let again = one(&consumer);
    assert_eq!(again.attempt(), 2);
    assert!(matches!(delivery.ack(), Err(lanelog::Error::LeaseLost { .. })));
}
