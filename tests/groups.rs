//! Promise: a group that is removed is gone wholly and for good, and everything that it alone kept goes with it.
#![expect(clippy::unwrap_used, reason = "a helper fails the test that called it")]

mod support;

use std::time::Duration;

use lanelog::{
    Bound, ConsumerOptions, DeadFilter, Error, LaneId, Options, Queue, Reserve, Start, Task, TaskState, WorkerOptions,
};
use support::{as_a_death_leaves_it, drain, one, place, small};

fn names(queue: &Queue) -> Vec<String> {
    queue.groups()
}

fn of(queue: &Queue, group: &str) -> lanelog::Consumer {
    queue.consumer_of(group, ConsumerOptions::new()).unwrap()
}

#[test]
fn a_removed_group_is_gone_over_a_death_of_the_process_and_a_clean_close() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    queue.create_group("audit", Start::Oldest).unwrap();
    queue.enqueue(Task::new("a")).unwrap();
    queue.remove_group("audit").unwrap();
    assert_eq!(names(&queue), ["default"]);
    assert!(matches!(queue.remove_group("audit"), Err(Error::NoSuchGroup { .. })));
    let copy = as_a_death_leaves_it(&place);
    assert_eq!(names(&Queue::open(&copy).unwrap()), ["default"]);
    queue.close().unwrap();
    assert_eq!(names(&Queue::open(&place.path).unwrap()), ["default"]);
}

#[test]
fn its_consumers_and_workers_learn_that_it_is_gone() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    queue.create_group("audit", Start::Oldest).unwrap();
    queue.enqueue(Task::new("a")).unwrap();
    let consumer = of(&queue, "audit");
    let worker = queue.worker_with("w", WorkerOptions::new().group("audit")).unwrap();
    let delivery = one(&consumer);
    let receipt = delivery.receipt();
    queue.remove_group("audit").unwrap();
    let is_gone = |error: Error| matches!(error, Error::GroupRemoved { name } if name == "audit");
    assert!(is_gone(consumer.reserve(Reserve::new()).err().unwrap()));
    assert!(is_gone(worker.reserve(Reserve::new()).err().unwrap()));
    assert!(is_gone(worker.heartbeat().unwrap_err()));
    assert!(matches!(delivery.ack(), Err(Error::LeaseLost { .. })));
    assert!(matches!(queue.ack(&receipt), Err(Error::LeaseLost { .. })));
    assert!(matches!(queue.ack_receipts(&[receipt]).unwrap().as_slice(), [Err(Error::LeaseLost { .. })]));
    let mut step = queue.transaction();
    step.ack(receipt);
    assert!(matches!(step.commit(), Err(Error::LeaseLost { .. })));
    consumer.close().unwrap();
    worker.close().unwrap();
    queue.close().unwrap();
    let queue = Queue::open(&place.path).unwrap();
    assert!(matches!(queue.ack(&receipt), Err(Error::LeaseLost { .. })), "over a reopen too");
}

#[test]
fn who_waits_for_a_task_of_it_is_woken() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    queue.create_group("audit", Start::Newest).unwrap();
    let consumer = of(&queue, "audit");
    std::thread::scope(|scope| {
        let waits =
            scope.spawn(move || consumer.reserve(Reserve::new().wait(Duration::from_secs(600))).map(|d| d.len()));
        queue.remove_group("audit").unwrap();
        assert!(matches!(waits.join().unwrap(), Err(Error::GroupRemoved { .. })));
    });
}

#[test]
fn a_group_made_again_under_the_name_is_another_one() {
    let place = place();
    let queue = small().lanes(2).open(&place.path).unwrap();
    queue.create_group("audit", Start::Oldest).unwrap();
    for text in ["dead", "parked", "done", "waits"] {
        queue.enqueue(Task::new(text)).unwrap();
    }
    let consumer = of(&queue, "audit");
    one(&consumer).reject("no").unwrap();
    one(&consumer).park("later").unwrap();
    one(&consumer).ack().unwrap();
    let old = one(&consumer).detach();
    queue.pause_group("audit").unwrap();
    // A task for the old group alone.
    queue.redrive_to("audit", &DeadFilter::new(), LaneId(1)).unwrap();
    queue.remove_group("audit").unwrap();
    queue.checkpoint().unwrap();
    drop(consumer);
    queue.close().unwrap();
    let queue = Queue::open(&place.path).unwrap();
    queue.create_group("audit", Start::Oldest).unwrap();
    assert!(matches!(queue.ack(&old), Err(Error::LeaseLost { .. })));
    assert!(queue.dead_letters("audit").unwrap().is_empty() && queue.parked("audit").unwrap().is_empty());
    let taken = of(&queue, "audit").reserve(Reserve::new().tasks(9)).unwrap();
    let texts: Vec<_> = taken.iter().map(|delivery| delivery.share_payload()).collect();
    assert_eq!(texts, ["dead", "parked", "done", "waits"], "nothing is settled, nothing paused, nothing moved");
    assert!(taken.iter().all(|delivery| delivery.attempt() == 1));
}

#[test]
fn what_it_alone_held_back_is_given_back() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    queue.create_group("nobody-reads-it", Start::Oldest).unwrap();
    for round in 0..60_u8 {
        queue.enqueue(Task::new(&[round; 900])).unwrap();
    }
    drain(&queue);
    queue.checkpoint().unwrap();
    let held = queue.stats().lanes[0].segments;
    assert!(held > 10, "{held} segments");
    queue.remove_group("nobody-reads-it").unwrap();
    queue.checkpoint().unwrap();
    let left = queue.stats().lanes[0].segments;
    assert!(left <= 2, "{left} segments left of {held}");
}

#[test]
fn what_it_alone_kept_waiting_counts_towards_no_bound() {
    let place = place();
    let queue = small().queue_bound(Bound::new().tasks(2)).open(&place.path).unwrap();
    queue.create_group("nobody-reads-it", Start::Oldest).unwrap();
    queue.enqueue(Task::new("a")).unwrap();
    queue.enqueue(Task::new("b")).unwrap();
    drain(&queue);
    assert!(matches!(queue.enqueue(Task::new("c").wait(Duration::ZERO)), Err(Error::OverBound { .. })));
    queue.remove_group("nobody-reads-it").unwrap();
    queue.enqueue(Task::new("c").wait(Duration::ZERO)).unwrap();
}

#[test]
fn a_dedup_id_counts_no_longer_for_what_it_alone_had_not_settled() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    queue.create_group("nobody-reads-it", Start::Oldest).unwrap();
    let task = || Task::new("a").dedup_id("x").dedup_until_settled();
    let first = queue.enqueue(task()).unwrap();
    drain(&queue);
    assert_eq!(queue.enqueue(task()).unwrap(), first);
    queue.remove_group("nobody-reads-it").unwrap();
    assert_ne!(queue.enqueue(task()).unwrap(), first);
}

#[test]
fn default_may_go_as_long_as_another_group_stays() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    let refused = queue.remove_group("default");
    assert!(matches!(refused, Err(Error::InvalidOption { option: "group", .. })), "{refused:?}");
    queue.create_group("audit", Start::Oldest).unwrap();
    let id = queue.enqueue(Task::new("a")).unwrap();
    queue.remove_group("default").unwrap();
    assert!(matches!(queue.consumer().reserve(Reserve::new()), Err(Error::NoSuchGroup { .. })));
    assert!(matches!(queue.worker("w"), Err(Error::NoSuchGroup { .. })));
    queue.close().unwrap();
    let queue = Options::new().open(&place.path).unwrap();
    assert_eq!(names(&queue), ["audit"], "an open does not bring it back");
    assert!(matches!(queue.remove_group("audit"), Err(Error::InvalidOption { .. })));
    let states = queue.task(id).unwrap().unwrap().states;
    assert_eq!(states, [("audit".to_owned(), TaskState::Waiting)]);
    queue.create_group("default", Start::Oldest).unwrap();
    assert_eq!(drain(&queue), [b"a"]);
}
