//! Promise: to ack a task and take the next one is one step, whose halves keep what each promises alone.

#![expect(clippy::unwrap_used, reason = "a helper fails the test that called it")]

mod support;

use std::time::Duration;

use lanelog::{ConsumerOptions, Durability, Error, Options, Queue, Reserve, Task};
use support::{Place, nothing, one, place, small};

/// A queue with so many tasks, numbered from 0.
fn filled(options: &Options, place: &Place, tasks: u32) -> Queue {
    let queue = options.open(&place.path).unwrap();
    for number in 0..tasks {
        queue.enqueue(Task::new(&number.to_string())).unwrap();
    }
    queue
}

#[test]
fn all_tasks_come_once_and_in_order_and_none_again_after_a_death_of_the_process() {
    for durability in [Durability::Process, Durability::Power] {
        let place = place();
        let queue = filled(&small(), &place, 40);
        let consumer = queue.consumer_of("default", ConsumerOptions::new().durability(durability)).unwrap();
        let mut task = consumer.reserve_one(Reserve::new()).unwrap();
        for number in 0..40 {
            let done = task.unwrap();
            assert_eq!((done.payload(), done.attempt()), (number.to_string().as_bytes(), 1));
            let next = consumer.ack_and_reserve_one(done, Reserve::new());
            next.acked.unwrap();
            task = next.task.unwrap();
        }
        assert!(task.is_none());
        assert_eq!(queue.stats().groups[0].lanes[0].acked, 40);
        // Not closed: the next open finds what a dead process leaves.
        drop((consumer, queue));
        assert!(nothing(&Queue::open(&place.path).unwrap().consumer()));
    }
}

#[test]
fn an_ack_that_is_too_late_is_refused_and_the_next_task_comes_all_the_same() {
    let place = place();
    let queue = filled(&small(), &place, 1);
    let consumer = queue.consumer();
    let late = consumer.reserve_one(Reserve::new().lease(Duration::from_millis(5))).unwrap().unwrap();
    let again = one(&queue.consumer());
    assert_eq!((again.id(), again.attempt()), (late.id(), 2));
    queue.enqueue(Task::new("1")).unwrap();
    let next = consumer.ack_and_reserve_one(late, Reserve::new());
    assert!(matches!(next.acked, Err(Error::LeaseLost { .. })));
    assert_eq!(next.task.unwrap().unwrap().payload(), b"1");
    again.ack().unwrap();
}

#[test]
fn a_delivery_of_another_group_or_of_one_that_is_gone_is_refused() {
    let place = place();
    let queue = filled(&small(), &place, 2);
    queue.create_group("audit", lanelog::Start::Oldest).unwrap();
    let audit = queue.consumer_of("audit", ConsumerOptions::new()).unwrap();
    let foreign = one(&queue.consumer());
    let next = audit.ack_and_reserve_one(foreign, Reserve::new());
    assert!(matches!(next.acked, Err(Error::BadReceipt { .. })));
    let own = next.task.unwrap().unwrap();
    assert_eq!(own.payload(), b"0");
    queue.remove_group("audit").unwrap();
    let next = audit.ack_and_reserve_one(own, Reserve::new());
    assert!(matches!(next.acked, Err(Error::LeaseLost { .. })));
    assert!(matches!(next.task, Err(Error::GroupRemoved { .. })));
}

#[test]
fn where_only_one_may_be_on_loan_the_ack_makes_room_for_the_next() {
    let place = place();
    let queue = filled(&small().in_flight_max(1), &place, 3);
    let consumer = queue.consumer();
    let first = consumer.reserve_one(Reserve::new()).unwrap().unwrap();
    assert!(nothing(&consumer));
    let next = consumer.ack_and_reserve_one(first, Reserve::new());
    next.acked.unwrap();
    assert_eq!(next.task.unwrap().unwrap().payload(), b"1");
}

#[test]
fn the_ack_does_not_wait_for_the_next_task() {
    let place = place();
    let queue = filled(&small(), &place, 1);
    let done = one(&queue.consumer());
    std::thread::scope(|scope| {
        let waits =
            scope.spawn(|| queue.consumer().ack_and_reserve_one(done, Reserve::new().wait(Duration::from_secs(20))));
        // What ends the wait comes after the ack is seen; if that waited too, it would end without a task.
        while queue.stats().groups[0].lanes[0].acked == 0 && !waits.is_finished() {
            std::thread::yield_now();
        }
        queue.enqueue(Task::new("next")).unwrap();
        let next = waits.join().unwrap();
        next.acked.unwrap();
        assert_eq!(next.task.unwrap().unwrap().payload(), b"next");
    });
}

#[test]
fn a_worker_that_is_dead_is_told_by_both_halves() {
    let place = place();
    let queue = filled(&small(), &place, 2);
    let worker = queue.worker("w").unwrap();
    let done = worker.reserve_one(Reserve::new()).unwrap().unwrap();
    let _in_its_place = queue.worker("w").unwrap();
    let next = worker.ack_and_reserve_one(done, Reserve::new());
    assert!(matches!(next.acked, Err(Error::LeaseLost { .. })));
    assert!(matches!(next.task, Err(Error::WorkerLost { name }) if name == "w"));
}

#[test]
fn a_closed_queue_refuses_the_ack_and_hands_nothing_out() {
    let place = place();
    let queue = filled(&small(), &place, 2);
    let consumer = queue.consumer();
    let done = consumer.reserve_one(Reserve::new()).unwrap().unwrap();
    queue.close().unwrap();
    let next = consumer.ack_and_reserve_one(done, Reserve::new());
    assert!(matches!(next.acked, Err(Error::Closed)));
    assert!(next.task.unwrap().is_none());
}
