//! Promise: disk space follows what is live; an empty queue is small; held deliveries are listed.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a helper fails the test that called it; the test waits with a limit"
)]

mod support;

use std::time::{Duration, Instant};

use lanelog::{
    ConsumerOptions, Durability, GroupPin, LaneId, Options, Queue, Reserve, Start, Stats, Task, TaskState, inspect,
};
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
        // The queue's own marks are appends too, and may hold up a task for a moment.
        let mut taken = Vec::new();
        while taken.len() < 20 {
            taken.extend(consumer.reserve(Reserve::new().tasks(20).wait(Duration::from_secs(20))).unwrap());
        }
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
fn what_lives_is_the_same_to_who_has_the_queue_open_and_who_looks() {
    let place = place();
    // Without syncs of the queue's own no mark is written, which would count as live.
    let queue = small().sync_interval(Duration::from_secs(3_600)).open(&place.path).unwrap();
    let consumer = queue.consumer();
    for _ in 0..40 {
        queue.enqueue(Task::new(&[7; 100]).durability(Durability::Process)).unwrap();
    }
    consumer.ack_batch(consumer.reserve(Reserve::new().tasks(10)).unwrap()).unwrap();
    queue.sync().unwrap();
    let (open, looked) = (queue.stats(), inspect(&place.path).unwrap().stats());
    let written = |stats: &Stats| (stats.lanes[0].live_bytes, stats.lanes[0].dead_bytes);
    assert_eq!(written(&open), written(&looked));
    let (live, dead) = written(&open);
    assert!(live >= 30 * 100 && live <= 3 * dead + 30, "{open:?}");
}

#[test]
fn a_shorter_recovery_budget_writes_checkpoints_more_often() {
    let open = |place: &support::Place, budget| {
        let options = Options::new().recovery_budget(budget).checkpoint_interval(Duration::from_secs(3_600));
        options.open(&place.path).unwrap()
    };
    let work = |queue: &Queue| {
        let consumer = queue.consumer_of("default", ConsumerOptions::new().durability(Durability::Process)).unwrap();
        for _ in 0..1_500 {
            queue.enqueue(Task::new("work").durability(Durability::Process)).unwrap();
            support::one(&consumer).ack().unwrap();
        }
    };
    let (short, long) = (place(), place());
    let (frequent, rare) = (open(&short, Duration::from_millis(1)), open(&long, Duration::from_secs(3_600)));
    for _ in 0..4 {
        let before = frequent.stats().checkpoints;
        work(&frequent);
        work(&rare);
        let began = Instant::now();
        while frequent.stats().checkpoints == before {
            assert!(began.elapsed() < Duration::from_secs(20), "{:?}", frequent.stats());
            std::thread::yield_now();
        }
    }
    assert_eq!(rare.stats().checkpoints, 1, "that of the open");
    let stats = frequent.stats();
    let counted: u64 = stats.checkpoint_holds.counts.iter().map(|(_, count)| count).sum();
    assert!(counted >= stats.checkpoints && stats.checkpoint_holds.longest > Duration::ZERO, "{stats:?}");
    let refused = Options::new().recovery_budget(Duration::ZERO).open(place().path.join("none"));
    let text = refused.map(drop).unwrap_err().to_string();
    assert!(text.contains("recovery_budget"), "{text}");
}

#[test]
fn payloads_stay_valid_while_they_are_held_and_their_segments_are_listed() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    queue.enqueue(Task::new("keep me")).unwrap();
    let delivery = support::one(&queue.consumer());
    let kept = delivery.share_payload();
    delivery.ack().unwrap();
    let pins = queue.pins().held;
    assert!(matches!(pins.as_slice(), [pin] if pin.held > 0 && !pin.waits), "held, and in use besides: {pins:?}");
    for round in 0..60_u8 {
        queue.enqueue(Task::new(&[round; 900])).unwrap();
    }
    assert_eq!(drain(&queue).len(), 60);
    queue.checkpoint().unwrap();
    let pins = queue.pins().held;
    assert_eq!((pins.len(), kept.as_ref()), (1, b"keep me".as_ref()), "{pins:?}");
    assert!(pins[0].held > 0 && pins[0].bytes > 0 && pins[0].waits);
    drop(kept);
    assert!(queue.pins().held.is_empty());
}

/// What a group holds back in lane 0.
fn pin(queue: &Queue, group: &str) -> Option<GroupPin> {
    queue.pins().groups.into_iter().find(|pin| pin.group == group && pin.lane == LaneId(0))
}

#[test]
fn what_holds_space_back_is_named_for_each_group() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    queue.create_group("slow", Start::Oldest).unwrap();
    let ids: Vec<_> = (0..60_u8).map(|round| queue.enqueue(Task::new(&[round; 900])).unwrap()).collect();
    let both = (pin(&queue, "default").unwrap(), pin(&queue, "slow").unwrap());
    assert_eq!((both.0.segments, both.0.bytes, both.0.alone_bytes), (both.1.segments, both.1.bytes, 0));
    assert!(both.0.segments > 10 && both.0.bytes >= 60 * 900, "{both:?}");
    drain(&queue);
    assert_eq!(pin(&queue, "default"), None, "it settled everything");
    let slow = pin(&queue, "slow").unwrap();
    assert_eq!((slow.bytes, slow.alone_bytes), (both.1.bytes, both.1.bytes), "it is alone now");
    let oldest = slow.oldest.unwrap();
    assert_eq!((oldest.id, oldest.state), (ids[0], TaskState::Waiting));
    queue.checkpoint().unwrap();
    // One dead letter and one loan in front of what is acked.
    let consumer = queue.consumer_of("slow", ConsumerOptions::new()).unwrap();
    support::one(&consumer).reject("no").unwrap();
    let held = support::one(&consumer);
    let taken = consumer.reserve(Reserve::new().tasks(40)).unwrap();
    consumer.ack_batch(taken).unwrap();
    let state = |queue: &Queue| pin(queue, "slow").unwrap().oldest.map(|oldest| (oldest.id, oldest.state)).unwrap();
    assert!(matches!(state(&queue), (id, TaskState::Dead { .. }) if id == ids[0]));
    queue.drop_dead_letters("slow", &lanelog::DeadFilter::new()).unwrap();
    assert_eq!(state(&queue), (ids[1], TaskState::Leased { attempts: 1 }));
    let looked = Queue::open_read_only(&place.path).unwrap().group_pins();
    let looked = looked.into_iter().find(|pin| pin.group == "slow").unwrap();
    let live = pin(&queue, "slow").unwrap();
    assert_eq!((looked.segments, looked.bytes, looked.alone_bytes), (live.segments, live.bytes, live.alone_bytes));
    let oldest = looked.oldest.unwrap();
    assert_eq!((oldest.id, oldest.state), (ids[1], TaskState::Attempted { attempts: 1 }));
    held.ack().unwrap();
    assert_eq!(state(&queue).0, ids[42], "what is acked between is skipped");
}
