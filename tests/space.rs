//! Promise: disk space follows what is live; an empty queue is small; held deliveries are listed.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a helper fails the test that called it; the test waits with a limit"
)]

mod support;

use std::time::{Duration, Instant};

use lanelog::{ConsumerOptions, Durability, Options, Reserve, Task};
use support::{drain, place, small};

fn disk_bytes(path: &std::path::Path) -> u64 {
    std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

#[test]
fn an_empty_queue_takes_at_most_4_mib() {
    let place = place();
    let queue = Options::new().lanes(8).open(&place.path).unwrap();
    let began = Instant::now();
    while queue.stats().ready_segments < 3 {
        assert!(began.elapsed() < Duration::from_secs(20), "never ready");
        std::thread::yield_now();
    }
    assert!(disk_bytes(&place.path) <= 4 << 20, "{}", disk_bytes(&place.path));
}

#[test]
fn segments_whose_tasks_are_acked_are_given_back() {
    let place = place();
    let queue = small().checkpoint_bytes(4096).open(&place.path).unwrap();
    let consumer = queue.consumer_of("default", ConsumerOptions::new().durability(Durability::Process)).unwrap();
    let payload = [7; 200];
    let mut most = 0;
    for _ in 0..200 {
        for _ in 0..20 {
            queue.enqueue(Task::new(&payload).durability(Durability::Process)).unwrap();
        }
        let taken = consumer.reserve(Reserve::new().tasks(20)).unwrap();
        assert_eq!(taken.len(), 20);
        consumer.ack_batch(taken).unwrap();
        most = most.max(queue.stats().lanes[0].segments);
    }
    queue.checkpoint().unwrap();
    queue.checkpoint().unwrap();
    let left = queue.stats().lanes[0].segments;
    assert!(left <= 2, "{left} segments left, {most} at most");
    assert!(queue.stats().recycled > 0, "segments are used again");
}

#[test]
fn payloads_stay_valid_while_they_are_held_and_their_segments_are_listed() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    queue.enqueue(Task::new("keep me")).unwrap();
    let delivery = support::one(&queue.consumer());
    let kept = delivery.payload().clone();
    delivery.ack().unwrap();
    let pins = queue.pins();
    assert!(matches!(pins.as_slice(), [pin] if pin.held > 0 && !pin.waits), "held, and in use besides: {pins:?}");
    for round in 0..60_u8 {
        queue.enqueue(Task::new(&[round; 900])).unwrap();
    }
    drain(&queue);
    queue.checkpoint().unwrap();
    let pins = queue.pins();
    assert_eq!((pins.len(), kept.as_ref()), (1, b"keep me".as_ref()), "{pins:?}");
    assert!(pins[0].held > 0 && pins[0].bytes > 0 && pins[0].waits);
    drop(kept);
    assert!(queue.pins().is_empty());
}
