//! Promise: `Power` is acknowledged after stable storage has it, `Process` when the kernel has it; what was
//! acknowledged survives the death of the process.
//!
//! Killing a process (`kill_9.rs`) proves what it published. That a sync happened before the answer is proven by the
//! crash tests on the simulated disk.
#![expect(clippy::disallowed_methods, reason = "the test waits with a limit")]

mod support;

use std::time::{Duration, Instant};

use lanelog::{Durability, Error, LaneId, Options, Queue, Task};
use support::{drain, place, small};

#[test]
fn watermarks_tell_what_is_published_and_what_is_durable() {
    let place = place();
    let queue = small().sync_interval(Duration::from_secs(3600)).open(&place.path).unwrap();
    queue.enqueue(Task::new("to the kernel").durability(Durability::Process)).unwrap();
    let before = queue.watermarks(LaneId(0)).unwrap();
    assert!(before.published > before.durable, "{before:?}");
    queue.sync().unwrap();
    let after = queue.watermarks(LaneId(0)).unwrap();
    assert!(after.published == after.durable && after.durable >= before.published, "{before:?}, {after:?}");
    let stats = queue.stats().lanes[0].clone();
    assert_eq!((stats.published, stats.durable), (after.published, after.durable));
    assert_eq!(queue.watermarks(LaneId(2)).unwrap().published, 0, "a lane that nobody used");
    assert!(matches!(queue.watermarks(LaneId(3)), Err(Error::NoSuchLane { .. })));
}

#[test]
fn padded_commits_end_at_a_physical_block_and_cost_no_task() {
    let place = place();
    let options = small().segment_bytes(1 << 16).pad_commits(true);
    let queue = options.open(&place.path).unwrap();
    for number in 0..30 {
        queue.enqueue(Task::new(&format!("{number}"))).unwrap();
        // The last block of a segment has a footer to leave room for.
        let durable = queue.watermarks(LaneId(0)).unwrap().durable;
        assert!(durable.is_multiple_of(4096) || durable % (1 << 16) > (1 << 16) - 4096, "{durable}");
    }
    drop(queue);
    let queue = options.open(&place.path).unwrap();
    assert_eq!((drain(&queue).len(), queue.damage()), (30, Vec::new()));
}

#[test]
fn process_data_is_synced_within_the_interval_without_anybody_asking() {
    let place = place();
    let queue = small().sync_interval(Duration::from_millis(10)).open(&place.path).unwrap();
    queue.enqueue(Task::new("soon").durability(Durability::Process)).unwrap();
    let began = Instant::now();
    while queue.stats().lanes[0].durable == 0 {
        assert!(began.elapsed() < Duration::from_secs(20), "never synced");
        std::thread::yield_now();
    }
}

#[test]
fn producers_wait_for_the_disk_where_what_is_unsynced_is_bounded() {
    const MAX: u64 = 16 << 10;
    const SEGMENT: u64 = 4096;
    let place = place();
    let options = small().sync_interval(Duration::from_secs(3600)).unsynced_bytes_max(MAX);
    let queue = options.append_wait(Duration::from_secs(60)).open(&place.path).unwrap();
    let bytes = 500 * 1000;
    for _ in 0..bytes / 500 {
        queue.enqueue(Task::new(&[b'x'; 500]).durability(Durability::Process)).unwrap();
        let now = queue.watermarks(LaneId(0)).unwrap();
        assert!(now.published - now.durable <= MAX + SEGMENT, "{now:?}");
    }
    assert!(queue.watermarks(LaneId(0)).unwrap().durable >= bytes - MAX - SEGMENT, "nobody asked for a sync");
    queue.close().unwrap();
    let queue = Queue::open(&place.path).unwrap();
    assert_eq!(drain(&queue).len() as u64, bytes / 500);
}

#[test]
fn what_a_clean_close_left_is_durable_and_takes_no_room_of_what_may_be_unsynced() {
    let place = place();
    let options = Options::new().lanes(2).segment_bytes(1 << 20);
    let queue = options.open(&place.path).unwrap();
    for _ in 0..200 {
        queue.enqueue(Task::new(&[b'x'; 1000]).durability(Durability::Process)).unwrap();
    }
    queue.close().unwrap();
    let bounded = options.sync_interval(Duration::from_secs(3600)).unsynced_bytes_max(64 << 10);
    let queue = bounded.append_wait(Duration::from_secs(30)).open(&place.path).unwrap();
    // Each has to take a segment, for which there is room.
    queue.enqueue(Task::new(b"other").lane(LaneId(1)).durability(Durability::Process)).unwrap();
    queue.enqueue(Task::new(&[b'x'; 100_000]).durability(Durability::Process)).unwrap();
    assert_eq!(drain(&queue).len(), 202);
}

#[test]
fn submitted_tasks_have_ids_at_once_and_become_durable_together() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    let pending: Vec<_> = (0..50).map(|n| queue.submit(Task::new(&format!("{n}"))).unwrap()).collect();
    let ids: std::collections::BTreeSet<_> = pending.iter().map(|pending| pending.id().to_string()).collect();
    assert_eq!(ids.len(), 50);
    let commits = queue.stats().commits;
    for pending in pending {
        pending.wait().unwrap();
    }
    assert!(queue.stats().commits <= commits + 5, "fifty tasks did not take fifty syncs");
}

#[test]
fn dropping_the_queue_without_a_close_loses_nothing() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    for number in 0..500 {
        queue.enqueue(Task::new(&format!("{number}")).durability(Durability::Process)).unwrap();
    }
    drop(queue);
    let queue = Queue::open(&place.path).unwrap();
    assert_eq!(drain(&queue).len(), 500);
}

#[test]
fn payloads_of_zeros_are_tasks_like_any_other_after_a_death() {
    for (bytes, options) in [(300 << 10, Options::new()), (3 << 20, Options::new()), (700, small())] {
        let place = place();
        let queue = options.open(&place.path).unwrap();
        queue.enqueue(Task::new("first")).unwrap();
        queue.enqueue(Task::new(&vec![0; bytes])).unwrap();
        for number in 0..20 {
            queue.enqueue(Task::new(&format!("{number}"))).unwrap();
        }
        let dead = support::as_a_death_leaves_it(&place);
        let queue = Queue::open(&dead).unwrap();
        assert_eq!((drain(&queue).len(), queue.damage()), (22, Vec::new()), "{bytes} bytes of zeros");
    }
}
