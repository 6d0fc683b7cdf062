//! Feature: deduplication. An enqueue with a dedup id that counts gives the first task's id and adds nothing; exactly, over
//! crash and reopen too.
#![expect(clippy::unwrap_used, reason = "a helper fails the test that called it")]

mod support;

use std::time::Duration;

use lanelog::{Consumer, Durability, Error, LaneId, Options, Queue, Start, Task, TaskId};
use support::{as_a_death_leaves_it, drain, one, place, small, wait_over};

const SHORT: Duration = Duration::from_millis(30);
const LONG: Duration = Duration::from_secs(3600);

fn tasks(queue: &Queue) -> u64 {
    queue.stats().lanes.iter().map(|lane| lane.tasks).sum()
}

fn until_settled(queue: &Queue, id: &str) -> TaskId {
    queue.enqueue(Task::new("job").dedup_id(id).dedup_until_settled()).unwrap()
}

fn rejected(consumer: &Consumer) {
    one(consumer).reject("no").unwrap();
}

#[test]
fn an_enqueue_with_an_id_that_counts_gives_the_first_task_and_adds_nothing() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    let first = queue.enqueue(Task::new("first").dedup_id("order 17")).unwrap();
    let again = queue.enqueue(Task::new("second").dedup_id("order 17").lane(LaneId(2))).unwrap();
    let other = queue.enqueue(Task::new("third").dedup_id("order 18").lane(LaneId(2))).unwrap();
    assert_eq!(again, first, "in whatever lane");
    assert_ne!(other, first);
    assert_eq!(queue.submit(Task::new("fourth").dedup_id("order 17")).unwrap().wait().unwrap(), first);
    assert_eq!(drain(&queue), [b"first", b"third"]);
    let stats = queue.stats();
    assert_eq!((stats.dedup_ids, stats.dedup_hits), (2, 2));
}

#[test]
fn a_window_outlives_the_task_and_then_the_id_is_free() {
    let place = place();
    let queue = small().dedup_window(LONG).open(&place.path).unwrap();
    let long = queue.enqueue(Task::new("long").dedup_id("long")).unwrap();
    let short = queue.enqueue(Task::new("short").dedup_id("short").dedup_for(SHORT)).unwrap();
    drain(&queue);
    wait_over(SHORT);
    assert_eq!(queue.enqueue(Task::new("long").dedup_id("long")).unwrap(), long);
    assert_ne!(queue.enqueue(Task::new("short").dedup_id("short").dedup_for(SHORT)).unwrap(), short);
    assert_eq!(drain(&queue), [b"short"]);
}

#[test]
fn the_queues_window_is_stored_and_applies_to_later_enqueues() {
    let place = place();
    drop(small().dedup_window(SHORT).open(&place.path).unwrap());
    let queue = Queue::open(&place.path).unwrap();
    let first = queue.enqueue(Task::new("job").dedup_id("a")).unwrap();
    wait_over(SHORT);
    assert_ne!(queue.enqueue(Task::new("job").dedup_id("a")).unwrap(), first);
}

#[test]
fn until_settled_an_id_counts_until_every_group_is_done_with_the_task() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    queue.create_group("audit", Start::Oldest).unwrap();
    let (jobs, audit) = (queue.consumer(), queue.consumer_of("audit", Default::default()).unwrap());
    let first = until_settled(&queue, "a");
    one(&jobs).ack().unwrap();
    assert_eq!(until_settled(&queue, "a"), first, "acked by one group of two");
    rejected(&audit);
    assert_ne!(until_settled(&queue, "a"), first, "acked by one, a dead letter of the other");
}

#[test]
fn a_cancelled_a_purged_and_an_expired_task_are_settled_and_a_parked_one_is_not() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    let first = until_settled(&queue, "a");
    queue.park("default", first, "later").unwrap();
    assert_eq!(until_settled(&queue, "a"), first, "parked");
    queue.cancel(first).unwrap();
    let second = until_settled(&queue, "a");
    assert_ne!(second, first, "cancelled");
    queue.purge_lane(LaneId(0)).unwrap();
    let third = Task::new("job").dedup_id("a").dedup_until_settled().ttl(SHORT);
    let third = queue.enqueue(third).unwrap();
    assert_ne!(third, second, "purged");
    wait_over(SHORT);
    assert_ne!(until_settled(&queue, "a"), third, "expired, though nobody asked for it");
}

#[test]
fn ids_survive_the_death_of_the_process_a_clean_close_and_the_end_of_their_segments() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    let enqueue = |queue: &Queue, n: u32| queue.enqueue(Task::new(&[7; 300]).dedup_id(&n.to_le_bytes())).unwrap();
    let first: Vec<TaskId> = (0..100).map(|n| enqueue(&queue, n)).collect();
    let dead = Queue::open(as_a_death_leaves_it(&place)).unwrap();
    assert_eq!((0..100).map(|n| enqueue(&dead, n)).collect::<Vec<_>>(), first, "after a kill");
    drain(&queue);
    queue.checkpoint().unwrap();
    assert!(tasks(&queue) < 100, "their segments are gone");
    queue.close().unwrap();
    let queue = Queue::open(&place.path).unwrap();
    assert_eq!((0..100).map(|n| enqueue(&queue, n)).collect::<Vec<_>>(), first, "after a close");
    assert_eq!(queue.damage(), []);
}

#[test]
fn of_many_threads_with_one_id_exactly_one_is_the_first() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    for round in 0..20_u32 {
        let enqueue = || {
            let id = round.to_le_bytes();
            queue.enqueue(Task::new("job").dedup_id(&id).durability(Durability::Process)).unwrap()
        };
        let ids: Vec<TaskId> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(enqueue)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    }
    assert_eq!(tasks(&queue), 20);
}

#[test]
fn a_batch_leaves_out_what_was_there_and_gives_all_ids_in_their_order() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    let there = queue.enqueue(Task::new("there").dedup_id("a").lane(LaneId(1))).unwrap();
    let batch = [
        Task::new("one").dedup_id("b"),
        Task::new("two").dedup_id("a"),
        Task::new("three"),
        Task::new("four").dedup_id("b"),
    ];
    let ids = queue.enqueue_batch(&batch).unwrap();
    assert_eq!((ids[1], ids[3]), (there, ids[0]), "the second of two in one batch is the first");
    assert_eq!(drain(&queue), [b"one".as_slice(), b"three", b"there"]);
    assert_eq!(queue.enqueue_batch(&batch[..2]).unwrap(), [ids[0], there], "nothing is left of it");
}

#[test]
fn a_hit_at_power_waits_until_the_first_task_is_durable() {
    let place = place();
    let queue = small().sync_interval(LONG).open(&place.path).unwrap();
    let task = || Task::new("job").dedup_id("a");
    let first = queue.enqueue(task().durability(Durability::Process)).unwrap();
    let hit = queue.submit(task()).unwrap();
    assert_eq!((hit.id(), hit.is_durable()), (first, false));
    assert_eq!(hit.wait().unwrap(), first);
    let marks = queue.watermarks(LaneId(0)).unwrap();
    assert_eq!(marks.durable, marks.published);
}

#[test]
fn a_hit_on_a_task_of_a_transaction_waits_until_all_of_that_is_durable() {
    let place = place();
    let queue = small().sync_interval(LONG).open(&place.path).unwrap();
    let mut step = queue.transaction().durability(Durability::Process);
    step.enqueue(Task::new("job").dedup_id("a")).unwrap();
    step.enqueue(Task::new("next").lane(LaneId(1))).unwrap();
    let first = step.commit().unwrap()[0];
    let hit = queue.submit(Task::new("job").dedup_id("a")).unwrap();
    assert_eq!((hit.id(), hit.is_durable()), (first, false));
    assert_eq!(hit.wait().unwrap(), first);
    for lane in [LaneId(0), LaneId(1)] {
        let marks = queue.watermarks(lane).unwrap();
        assert_eq!(marks.durable, marks.published, "{lane:?}");
    }
    let again = queue.submit(Task::new("job").dedup_id("a")).unwrap();
    assert!(again.is_durable(), "its decision too");
}

#[test]
fn a_refused_transaction_leaves_no_id_and_one_beyond_the_bound_changes_nothing() {
    let place = place();
    let queue = small().dedup_ids_max(2).open(&place.path).unwrap();
    let (kept, lost) = (queue.enqueue(Task::new("kept")).unwrap(), queue.enqueue(Task::new("lost")).unwrap());
    let consumer = queue.consumer();
    let receipts: Vec<_> = (0..2).map(|_| one(&consumer).detach()).collect();
    queue.release(&receipts[1]).unwrap();
    let mut stale = queue.transaction();
    stale.enqueue(Task::new("job").dedup_id("a")).unwrap();
    stale.ack(receipts[1]);
    assert!(matches!(stale.commit(), Err(Error::LeaseLost { task }) if task == lost));
    let mut over = queue.transaction();
    for id in ["a", "b", "c"] {
        over.enqueue(Task::new("job").dedup_id(id).lane(LaneId(1))).unwrap();
    }
    over.ack(receipts[0]);
    assert!(matches!(over.commit(), Err(Error::DedupFull { max: 2, .. })));
    assert_eq!((queue.stats().dedup_ids, queue.stats().dedup_hits, tasks(&queue)), (0, 0, 2));
    let mut fits = queue.transaction();
    for id in ["a", "b", "a"] {
        fits.enqueue(Task::new("job").dedup_id(id).lane(LaneId(1))).unwrap();
    }
    fits.ack(receipts[0]);
    let ids = fits.commit().expect("two are new");
    assert_eq!((ids[0], queue.stats().dedup_ids, queue.stats().dedup_hits, tasks(&queue)), (ids[2], 2, 1, 4));
    assert!(matches!(queue.ack(&receipts[0]), Err(Error::LeaseLost { task }) if task == kept));
}

#[test]
fn beyond_the_bound_an_enqueue_is_refused_and_nothing_is_forgotten_early() {
    let place = place();
    let queue = small().dedup_ids_max(3).open(&place.path).unwrap();
    let enqueue = |id: &str, time| queue.enqueue(Task::new("job").dedup_id(id).dedup_for(time));
    let first = enqueue("a", LONG).unwrap();
    enqueue("b", LONG).unwrap();
    enqueue("c", SHORT).unwrap();
    wait_over(SHORT);
    enqueue("d", LONG).expect("what is over goes first");
    assert!(matches!(enqueue("e", LONG), Err(Error::DedupFull { ids: 3, max: 3 })));
    assert_eq!(enqueue("a", LONG).unwrap(), first, "a hit needs no room");
    queue.enqueue(Task::new("plain")).expect("nor does a task without an id");
    assert_eq!(tasks(&queue), 5);
}

#[test]
fn bad_ids_are_refused_with_the_reason() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    let why = |task: Task<'_>| match queue.enqueue(task) {
        Err(Error::InvalidOption { why, .. }) => why,
        other => panic!("{other:?}"),
    };
    assert!(why(Task::new("job").dedup_id("")).contains("1 to 255 bytes"));
    assert!(why(Task::new("job").dedup_id(&[1; 256])).contains("256"));
    assert!(why(Task::new("job").dedup_id("a").dedup_for(Duration::ZERO)).contains("1 ms"));
    assert!(why(Task::new("job").dedup_until_settled()).contains("has none"));
    let refused = queue.transaction().enqueue(Task::new("job").dedup_id(""));
    assert!(matches!(refused, Err(Error::InvalidOption { .. })), "{refused:?}");
    assert!(matches!(Options::new().dedup_ids_max(0).open(&place.path), Err(Error::InvalidOption { .. })));
    assert_eq!(tasks(&queue), 0);
}

#[test]
fn enqueues_with_ids_new_groups_and_checkpoints_do_not_wait_for_one_another_for_ever() {
    let place = place();
    let queue = small().append_wait(LONG).open(&place.path).unwrap();
    let rounds = 0..60;
    std::thread::scope(|scope| {
        scope.spawn(|| rounds.clone().for_each(|_| queue.checkpoint().unwrap()));
        scope.spawn(|| rounds.clone().for_each(|n| _ = queue.create_group(&format!("g{n}"), Start::Oldest)));
        for thread in 0..2 {
            let (queue, rounds) = (&queue, rounds.clone());
            scope.spawn(move || rounds.for_each(|n| _ = until_settled(queue, &format!("{thread} {}", n / 2))));
        }
    });
    assert_eq!(tasks(&queue), 60);
}
