//! Promise: tasks with the same key are delivered one at a time, in the order they were enqueued, and the next only after
//! the one before is settled for good. Nobody else waits for them.
#![expect(clippy::unwrap_used, reason = "a helper fails the test that called it")]

mod support;

use std::time::Duration;

use lanelog::{Backoff, Consumer, Delivery, LaneId, Queue, Reserve, Task};
use support::{drain, nothing, one, place, small};

fn text(delivery: &Delivery) -> String {
    String::from_utf8(delivery.payload().to_vec()).unwrap()
}

/// Everything that can be had now, on loan.
fn all(consumer: &Consumer) -> Vec<Delivery> {
    let mut all = Vec::new();
    loop {
        let taken = consumer.reserve(Reserve::new().tasks(3)).unwrap();
        if taken.is_empty() {
            return all;
        }
        all.extend(taken);
    }
}

fn all_texts(consumer: &Consumer) -> Vec<String> {
    all(consumer)
        .into_iter()
        .map(|delivery| {
            let text = text(&delivery);
            let _on_loan = delivery.detach();
            text
        })
        .collect()
}

fn enqueue(queue: &Queue, key: &str, text: &str) {
    queue.enqueue(Task::new(text).key(key)).unwrap();
}

#[test]
fn tasks_of_a_key_come_one_at_a_time_and_others_pass_by() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    for number in 0..40 {
        enqueue(&queue, "a", &format!("a{number}"));
        enqueue(&queue, "b", &format!("b{number}"));
        queue.enqueue(Task::new(&format!("free{number}"))).unwrap();
    }
    let consumer = queue.consumer();
    let mut taken = all(&consumer);
    let texts: Vec<String> = taken.iter().map(text).collect();
    assert_eq!(texts.iter().filter(|text| text.starts_with("free")).count(), 40, "keyless tasks are not held up");
    assert_eq!(texts.iter().filter(|text| !text.starts_with("free")).collect::<Vec<_>>(), ["a0", "b0"]);
    taken.retain(|delivery| delivery.key().is_some());
    let mut seen = Vec::new();
    while let Some(delivery) = taken.pop() {
        let own = text(&delivery);
        delivery.ack().unwrap();
        let next = all(&consumer);
        assert!(next.len() <= 1 && next.iter().all(|next| text(next)[..1] == own[..1]), "only the key that was freed");
        seen.push(own);
        taken.extend(next);
    }
    let of = |key: &str| seen.iter().filter(|text| text.starts_with(key)).cloned().collect::<Vec<_>>();
    assert_eq!(of("a"), (0..40).map(|number| format!("a{number}")).collect::<Vec<_>>());
    assert_eq!(of("b"), (0..40).map(|number| format!("b{number}")).collect::<Vec<_>>());
    assert_eq!(queue.stats().groups[0].lanes[0].in_flight, 0);
}

#[test]
fn a_task_that_waits_for_its_retry_blocks_its_key() {
    let place = place();
    let queue = small().backoff(Backoff::fixed(Duration::from_secs(3600))).open(&place.path).unwrap();
    enqueue(&queue, "account 7", "first");
    enqueue(&queue, "account 7", "second");
    let consumer = queue.consumer();
    one(&consumer).nack(None, "not now").unwrap();
    assert!(nothing(&consumer));
    drop((consumer, queue));
    // The retry goes on over a reopen, and so does what it blocks.
    let queue = Queue::open(&place.path).unwrap();
    assert!(nothing(&queue.consumer()));
}

#[test]
fn a_released_or_expired_lease_gives_the_same_task_again_and_not_the_next() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    enqueue(&queue, "k", "first");
    enqueue(&queue, "k", "second");
    let consumer = queue.consumer();
    one(&consumer).release().unwrap();
    let short = Reserve::new().lease(Duration::from_millis(20));
    assert_eq!(text(&consumer.reserve(short).unwrap()[0]), "first");
    let again = one(&consumer);
    assert_eq!((text(&again).as_str(), again.attempt()), ("first", 2));
    again.ack().unwrap();
    assert_eq!(text(&one(&consumer)), "second");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a task's time to live has to pass")]
fn a_dead_or_rejected_or_expired_task_frees_its_key() {
    let place = place();
    let queue = small().max_attempts(1).open(&place.path).unwrap();
    enqueue(&queue, "k", "rejected");
    enqueue(&queue, "k", "used up");
    queue.enqueue(Task::new("too late").key("k").ttl(Duration::from_millis(1))).unwrap();
    enqueue(&queue, "k", "last");
    let consumer = queue.consumer();
    one(&consumer).reject("never").unwrap();
    one(&consumer).nack(None, "once was enough").unwrap();
    std::thread::sleep(Duration::from_millis(2));
    let last = one(&consumer);
    assert_eq!(text(&last), "last");
    last.ack().unwrap();
    assert_eq!(queue.dead_letters("default").unwrap().len(), 2);
}

#[test]
fn a_delayed_task_does_not_hold_its_key_before_its_time() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    queue.enqueue(Task::new("tomorrow").key("k").delay(Duration::from_secs(86_400))).unwrap();
    queue.enqueue(Task::new("soon").key("k").delay(Duration::from_millis(50))).unwrap();
    enqueue(&queue, "k", "now");
    enqueue(&queue, "k", "then");
    let consumer = queue.consumer();
    let now = one(&consumer);
    assert_eq!(text(&now), "now");
    // Its time comes while the key is held: it waits for the key, and goes before what was enqueued after it.
    assert!(consumer.reserve(Reserve::new().wait(Duration::from_millis(200))).unwrap().is_empty());
    now.ack().unwrap();
    for expected in ["soon", "then"] {
        let delivery = one(&consumer);
        assert_eq!(text(&delivery), expected);
        delivery.ack().unwrap();
    }
    assert!(nothing(&consumer));
}

#[test]
fn groups_hold_keys_each_for_itself_and_lanes_keep_their_order() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    queue.create_group("other", lanelog::Start::Oldest).unwrap();
    for number in 0..3 {
        queue.enqueue(Task::new(&format!("slow{number}")).key("k").lane(LaneId(1))).unwrap();
        enqueue(&queue, "k", &format!("fast{number}"));
    }
    for group in ["default", "other"] {
        let consumer = queue.consumer_of(group, lanelog::ConsumerOptions::new()).unwrap();
        for expected in ["fast0", "fast1", "fast2", "slow0", "slow1", "slow2"] {
            let delivery = one(&consumer);
            assert_eq!(text(&delivery), expected);
            assert!(nothing(&consumer), "one at a time over all lanes");
            delivery.ack().unwrap();
        }
    }
}

#[test]
fn what_was_passed_over_is_met_again_after_a_reopen_with_its_attempts() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    for number in 0..100 {
        enqueue(&queue, "k", &format!("{number}"));
    }
    let consumer = queue.consumer();
    for number in 0..30 {
        let delivery = one(&consumer);
        assert_eq!(text(&delivery), number.to_string());
        delivery.ack().unwrap();
    }
    assert_eq!(all_texts(&consumer), ["30"]);
    queue.checkpoint().unwrap();
    drop((consumer, queue));
    let queue = Queue::open(&place.path).unwrap();
    let first = one(&queue.consumer());
    assert_eq!((text(&first).as_str(), first.attempt()), ("30", 2));
    first.ack().unwrap();
    for number in 31..100 {
        let delivery = one(&queue.consumer());
        assert_eq!((text(&delivery), delivery.attempt()), (number.to_string(), 1));
        delivery.ack().unwrap();
    }
    assert!(nothing(&queue.consumer()));
    assert_eq!(queue.stats().groups[0].lanes[0].depth, 0);
}

#[test]
fn an_ack_wakes_the_consumer_that_waits_for_the_key() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    enqueue(&queue, "k", "first");
    enqueue(&queue, "k", "second");
    let first = one(&queue.consumer());
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| text(&one(&queue.consumer())));
        first.ack().unwrap();
        assert_eq!(waiting.join().unwrap(), "second");
    });
}

#[test]
fn segments_with_passed_over_tasks_stay_and_go_once_these_are_settled() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    let body = "x".repeat(300);
    for _ in 0..60 {
        enqueue(&queue, "k", &body);
    }
    let held = one(&queue.consumer());
    assert!(nothing(&queue.consumer()));
    let segments = |queue: &Queue| {
        queue.checkpoint().unwrap();
        queue.checkpoint().unwrap();
        queue.stats().lanes[0].segments
    };
    assert!(segments(&queue) > 3);
    held.ack().unwrap();
    let mut count = 1;
    while count < 60 {
        one(&queue.consumer()).ack().unwrap();
        count += 1;
    }
    assert!(drain(&queue).is_empty());
    assert!(segments(&queue) <= 2, "{:?}", queue.stats().lanes);
}
