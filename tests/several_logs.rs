//! What is synced of several logs at once is as durable as what is synced alone, whichever way it goes.
#![expect(clippy::unwrap_used, reason = "a test fails on any surprise")]

mod support;

use std::time::Duration;

use lanelog::{Durability, LaneId, Options, Queue, SyncPath, Task};
use support::{as_a_death_leaves_it, drain, place, small};

const LANES: u8 = 4;
const PATHS: [SyncPath; 3] = [SyncPath::Faster, SyncPath::Calls, SyncPath::Ring];

/// Nothing is synced that nobody asks for.
fn unhurried(path: SyncPath) -> Options {
    small().lanes(usize::from(LANES)).sync_interval(Duration::from_secs(3600)).sync_path(path)
}

fn is_durable(queue: &Queue, lane: LaneId) -> bool {
    let marks = queue.watermarks(lane).unwrap();
    marks.durable == marks.published
}

#[test]
fn a_sync_of_the_queue_covers_every_lane() {
    for path in PATHS {
        let place = place();
        let queue = unhurried(path).open(&place.path).unwrap();
        // Enough that both ways are tried, and a choice is made; and several segments of a lane at a time.
        for round in 0..20 {
            for lane in (0..LANES).map(LaneId) {
                for number in 0..10 {
                    let task = Task::new(&[b'x'; 700]).lane(lane).durability(Durability::Process);
                    queue.enqueue(task.header("n", &format!("{round} {number}"))).unwrap();
                }
                assert!(!is_durable(&queue, lane), "nobody asked for it yet");
            }
            let before = queue.stats().commits;
            queue.sync().unwrap();
            assert!((0..LANES).all(|lane| is_durable(&queue, LaneId(lane))), "{path:?}, {round}");
            assert!(queue.stats().commits > before);
        }
        let stats = queue.stats();
        let bytes = 20 * u64::from(LANES) * 10 * 700;
        assert!(stats.commit_bytes > bytes && stats.commit_bytes < 2 * bytes, "{} of {bytes}", stats.commit_bytes);
        assert!(stats.commit_times.counts.iter().map(|(_, count)| count).sum::<u64>() >= 20);
        let choice = stats.sync_choice;
        match path {
            SyncPath::Calls => assert_eq!(choice.path, SyncPath::Calls),
            // Where io_uring can't be had the choice says so.
            SyncPath::Ring => assert!(choice.path == SyncPath::Ring || choice.why.contains("io_uring"), "{choice:?}"),
            _ => assert!(choice.path != SyncPath::Faster && choice.why.contains("ring"), "{choice:?}"),
        }
        drop(queue);
        let queue = Queue::open(&place.path).unwrap();
        assert_eq!(drain(&queue).len(), 20 * usize::from(LANES) * 10);
    }
}

#[test]
fn a_transaction_at_power_is_durable_in_all_its_lanes_when_the_call_returns() {
    for path in PATHS {
        let place = place();
        let queue = unhurried(path).open(&place.path).unwrap();
        for number in 0..12 {
            let mut step = queue.transaction();
            for lane in (0..LANES).map(LaneId) {
                step.enqueue(Task::new(&format!("{number} in {lane}")).lane(lane)).unwrap();
            }
            step.commit().unwrap();
            assert!((0..LANES).all(|lane| is_durable(&queue, LaneId(lane))), "{path:?}, {number}");
        }
        let copy = as_a_death_leaves_it(&place);
        let queue = Queue::open(copy).unwrap();
        assert_eq!(drain(&queue).len(), 12 * usize::from(LANES));
    }
}

#[test]
fn threads_that_sync_everything_beside_producers_lose_and_hold_up_nothing() {
    for path in PATHS {
        let place = place();
        let queue = small().lanes(usize::from(LANES)).sync_path(path).open(&place.path).unwrap();
        std::thread::scope(|scope| {
            for lane in (0..LANES).map(LaneId) {
                let queue = queue.clone();
                scope.spawn(move || {
                    for number in 0..50 {
                        queue.enqueue(Task::new(&format!("{number}")).lane(lane)).unwrap();
                        assert!(queue.watermarks(lane).unwrap().durable > 0);
                    }
                });
            }
            for _ in 0..2 {
                let queue = queue.clone();
                scope.spawn(move || (0..50).for_each(|_| queue.sync().unwrap()));
            }
        });
        assert_eq!(drain(&queue).len(), 50 * usize::from(LANES), "{path:?}");
    }
}
