//! A few old tasks don't pin the disk: what lives of sparse segments moves, and nothing else about it changes.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails panics")]
#![expect(clippy::disallowed_methods, reason = "what the queue does by itself is waited for")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use lanelog::{ConsumerOptions, Delivery, Durability, Options, Queue, Reserve, Stats, Task, TaskId, TaskState};

const SEGMENT: u64 = 1 << 20;

fn options() -> Options {
    Options::new()
        .segment_bytes(SEGMENT)
        .checkpoint_interval(Duration::from_millis(50))
        .lease(Duration::from_secs(3600))
}

/// Enqueues so many tasks of about 100 bytes, numbered, and acks all but every `keeps`-th.
fn work(queue: &Queue, tasks: u32, keeps: u32) -> Vec<Delivery> {
    let producer = queue.producer().durability(Durability::Process);
    let consumer = queue.consumer_of("default", ConsumerOptions::new().durability(Durability::Process)).unwrap();
    let mut kept = Vec::new();
    let mut taken = 0;
    for number in 0..tasks {
        producer.enqueue(&payload(number)).unwrap();
        if number % 1000 == 999 || number + 1 == tasks {
            while taken <= number {
                let mut batch = consumer.reserve(Reserve::new().tasks(1000)).unwrap();
                assert!(!batch.is_empty(), "all of it was accepted");
                taken += u32::try_from(batch.len()).unwrap();
                let stays = |delivery: &mut Delivery| number_of(delivery.payload()).is_multiple_of(keeps);
                kept.extend(batch.extract_if(.., stays));
                consumer.ack_batch(batch).unwrap();
            }
        }
    }
    kept
}

fn payload(number: u32) -> Vec<u8> {
    let mut payload = vec![7; 100];
    payload[..4].copy_from_slice(&number.to_le_bytes());
    payload
}

fn number_of(payload: &[u8]) -> u32 {
    u32::from_le_bytes(payload[..4].try_into().unwrap())
}

/// Waits until the queue's counts are so.
fn wait_until(queue: &Queue, what: &str, is_so: impl Fn(&Stats) -> bool) -> Stats {
    let until = Instant::now() + Duration::from_secs(120);
    loop {
        let stats = queue.stats();
        if is_so(&stats) {
            return stats;
        }
        assert!(Instant::now() < until, "{what}: {stats:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn disk_follows_what_lives_and_not_what_passed() {
    let dir = tempfile::tempdir().unwrap();
    let queue = options().open(dir.path().join("queue")).unwrap();
    let kept = work(&queue, 200_000, 1000);
    let live: u64 = kept.iter().map(|delivery| delivery.payload().len() as u64 + 32).sum();
    let ids: Vec<TaskId> = kept.iter().map(Delivery::id).collect();
    // A payload that is held keeps the file that it was read from.
    let receipts: Vec<_> = kept.into_iter().map(Delivery::detach).collect();
    // Twice what lives, a prelude and a footer for each, and the two segments at the lane's end.
    let is_small = |stats: &Stats| {
        let lane = &stats.lanes[0];
        lane.disk_bytes <= 2 * live + lane.segments as u64 * 1200 + 2 * SEGMENT
            && stats.superseded_bytes + stats.pinned_bytes == 0
    };
    let stats = wait_until(&queue, "space comes back", is_small);
    assert!(stats.evacuated_segments >= 10 && stats.groups[0].lanes[0].in_flight == 200, "{stats:?}");
    let lane = &stats.lanes[0];
    assert!((live * 4 / 5..=live * 6 / 5).contains(&lane.live_bytes), "{live} live: {lane:?}");
    assert!(lane.live_bytes + lane.dead_bytes <= lane.disk_bytes, "{lane:?}");

    // By id it is what it was, and a receipt settles it.
    for id in &ids {
        let record = queue.task(*id).unwrap().unwrap();
        assert!(matches!(record.states[0].1, TaskState::Leased { attempts: 1 }), "{record:?}");
    }
    for receipt in receipts {
        queue.ack(&receipt).unwrap();
    }
    wait_until(&queue, "all of it is gone", |stats| stats.lanes[0].disk_bytes <= 2 * SEGMENT);
    assert_eq!(queue.stats().lanes[0].live_bytes, 0);
}

#[test]
fn moved_tasks_come_again_after_a_reopen_with_their_ids_and_contents() {
    let dir = tempfile::tempdir().unwrap();
    let queue = options().open(dir.path().join("queue")).unwrap();
    let headed = Task::new(b"headed").header("tenant", "acme").durability(Durability::Process);
    let headed = queue.enqueue(headed).unwrap();
    let first = queue.consumer().reserve(Reserve::new()).unwrap();
    let kept = work(&queue, 30_000, 500);
    let expected: BTreeSet<(TaskId, Vec<u8>)> =
        first.iter().chain(&kept).map(|delivery| (delivery.id(), delivery.payload().to_vec())).collect();
    assert!(expected.len() == 61 && first[0].id() == headed);
    wait_until(&queue, "segments are moved", |stats| stats.evacuated_segments >= 2);
    for delivery in first.into_iter().chain(kept) {
        delivery.release().unwrap();
    }
    drop(queue);
    for _ in 0..3 {
        let queue = options().open(dir.path().join("queue")).unwrap();
        let again = queue.consumer().reserve(Reserve::new().tasks(100)).unwrap();
        let found: BTreeSet<_> = again.iter().map(|delivery| (delivery.id(), delivery.payload().to_vec())).collect();
        assert_eq!(found, expected);
        let record = queue.task(headed).unwrap().unwrap();
        assert_eq!(record.headers, [("tenant".to_owned(), b"acme".to_vec())]);
        for delivery in again {
            delivery.release().unwrap();
        }
        assert_eq!(queue.damage(), []);
        queue.close().unwrap();
    }
}

#[test]
fn nothing_is_moved_where_that_is_turned_off() {
    let dir = tempfile::tempdir().unwrap();
    let queue = options().evacuation_percent(0).open(dir.path().join("queue")).unwrap();
    let kept = work(&queue, 30_000, 1000);
    for _ in 0..3 {
        // Longer than the mover rests, if there were one.
        std::thread::sleep(Duration::from_millis(300));
        queue.checkpoint().unwrap();
    }
    let stats = queue.stats();
    assert!(stats.evacuated_segments == 0 && stats.lanes[0].segments >= 3 && kept.len() == 30, "{stats:?}");
}
