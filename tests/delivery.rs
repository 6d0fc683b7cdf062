//! Promise: at least once, to exactly one consumer of a group at a time; a lease that ran out can't be settled.

mod support;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use lanelog::{Backoff, ConsumerOptions, Durability, Error, Queue, Receipt, Reserve, Start, Task};
use support::{nothing, one, place, small};

#[test]
fn every_task_goes_to_exactly_one_of_many_consumers() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    let seen = Mutex::new(BTreeSet::new());
    std::thread::scope(|scope| {
        for producer in 0..3 {
            let queue = &queue;
            scope.spawn(move || {
                for number in 0..400 {
                    let text = format!("{producer}/{number}");
                    queue.enqueue(Task::new(&text).durability(Durability::Process)).unwrap();
                }
            });
        }
        for _ in 0..4 {
            scope.spawn(|| {
                let options = ConsumerOptions::new().durability(Durability::Process);
                let consumer = queue.consumer_of("default", options).unwrap();
                while seen.lock().unwrap().len() < 1200 {
                    for delivery in consumer.reserve(Reserve::new().tasks(7).wait(Duration::from_millis(20))).unwrap() {
                        let text = String::from_utf8(delivery.payload().to_vec()).unwrap();
                        assert!(seen.lock().unwrap().insert(text), "delivered twice");
                        delivery.ack().unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(seen.lock().unwrap().len(), 1200);
}

#[test]
fn a_task_on_loan_is_not_delivered_and_after_its_deadline_goes_to_the_next_with_its_attempt_raised() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    queue.enqueue(Task::new("work")).unwrap();
    let first = queue.consumer().reserve(Reserve::new().lease(Duration::from_millis(30))).unwrap().pop().unwrap();
    assert_eq!(first.attempt(), 1);
    let second = one(&queue.consumer());
    assert_eq!((second.id(), second.attempt()), (first.id(), 2));
    assert!(matches!(first.ack(), Err(Error::LeaseLost { .. })), "the old lease is refused");
    second.ack().unwrap();
    assert!(nothing(&queue.consumer()));
}

#[test]
fn a_later_lease_of_a_task_has_a_greater_fence_over_reopens_too() {
    let place = place();
    let mut last = 0;
    small().open(&place.path).unwrap().enqueue(Task::new("work")).unwrap();
    for closes in [true, false, true, false] {
        let queue = Queue::open(&place.path).unwrap();
        let consumer = queue.consumer();
        for _ in 0..3 {
            let delivery = one(&consumer);
            assert!(delivery.fence() > last, "{} after {last}", delivery.fence());
            assert_eq!(delivery.receipt().fence(), delivery.fence());
            last = delivery.fence();
            delivery.release().unwrap();
        }
        drop(consumer);
        // Dropped without a close: what is in memory is gone, as if the process had died.
        if closes {
            queue.close().unwrap();
        }
    }
}

#[test]
fn an_extended_lease_holds() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    queue.enqueue(Task::new("long work")).unwrap();
    let held = queue.consumer().reserve(Reserve::new().lease(Duration::from_millis(200))).unwrap().pop().unwrap();
    held.extend(Duration::from_secs(3600)).unwrap();
    let wait = Reserve::new().wait(Duration::from_millis(400));
    assert!(queue.consumer().reserve(wait).unwrap().is_empty());
    held.ack().unwrap();
}

#[test]
fn a_receipt_works_once_and_only_in_its_queue_and_open() {
    let (place, other) = (place(), place());
    let queue = small().open(&place.path).unwrap();
    queue.enqueue(Task::new("a")).unwrap();
    queue.enqueue(Task::new("b")).unwrap();
    let receipt = one(&queue.consumer()).detach();
    let parsed: Receipt = receipt.to_string().parse().unwrap();
    assert_eq!(parsed, receipt);
    let stranger = small().open(&other.path).unwrap();
    assert!(matches!(stranger.ack(&receipt), Err(Error::BadReceipt { .. })));
    queue.ack(&receipt).unwrap();
    assert!(matches!(queue.ack(&receipt), Err(Error::LeaseLost { .. })));
    let old = one(&queue.consumer()).detach();
    queue.close().unwrap();
    let queue = Queue::open(&place.path).unwrap();
    assert!(matches!(queue.ack(&old), Err(Error::LeaseLost { .. })));
    assert_eq!(one(&queue.consumer()).attempt(), 2, "the attempt that began before the close counts");
}

#[test]
fn ack_batch_answers_for_each() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    for text in ["a", "b", "c"] {
        queue.enqueue(Task::new(text)).unwrap();
    }
    let consumer = queue.consumer();
    let taken = consumer.reserve(Reserve::new().tasks(3)).unwrap();
    queue.ack(&taken[1].receipt()).unwrap();
    let answers = consumer.ack_batch(taken).unwrap();
    let lost: Vec<bool> = answers.iter().map(Result::is_err).collect();
    assert_eq!(lost, [false, true, false]);
}

#[test]
fn nack_delays_release_does_not_count_reject_ends_and_a_drop_backs_off() {
    let place = place();
    let queue = small()
        .backoff(Backoff::exponential(Duration::from_millis(40), Duration::from_secs(1)))
        .open(&place.path)
        .unwrap();
    let consumer = queue.consumer();
    queue.enqueue(Task::new("work")).unwrap();
    one(&consumer).release().unwrap();
    let again = consumer.reserve(Reserve::new()).unwrap().pop().expect("released: due at once");
    assert_eq!(again.attempt(), 1, "released: not counted");
    again.nack(Some(Duration::from_millis(60)), "try later").unwrap();
    assert!(nothing(&consumer), "nacked: delayed");
    let again = one(&consumer);
    assert_eq!(again.attempt(), 2);
    drop(again);
    assert!(nothing(&consumer), "dropped: backs off");
    let again = one(&consumer);
    assert_eq!(again.attempt(), 3, "dropped: counted");
    again.reject("will never work").unwrap();
    assert!(nothing(&consumer));
    let dead = queue.dead_letters("default").unwrap();
    assert_eq!((dead.len(), dead[0].attempts, dead[0].reason.as_str()), (1, 3, "will never work"));
}

#[test]
fn settles_can_be_submitted_and_take_effect_before_they_are_waited_for() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    let consumer = queue.consumer();
    queue.enqueue(Task::new("work")).unwrap();
    let released = one(&consumer).submit_release().unwrap();
    let again = consumer.reserve(Reserve::new()).unwrap().pop().expect("due at once");
    let nacked = again.submit_nack(Some(Duration::ZERO), "once more").unwrap();
    let again = consumer.reserve(Reserve::new()).unwrap().pop().expect("due at once");
    assert_eq!(again.attempt(), 2);
    let rejected = again.submit_reject("never").unwrap();
    assert_eq!(queue.dead_letters("default").unwrap().len(), 1);
    queue.enqueue(Task::new("other")).unwrap();
    let acked = one(&consumer).submit_ack().unwrap();
    assert!(nothing(&consumer));
    for pending in [released, nacked, rejected, acked] {
        pending.wait().unwrap();
    }
}

#[test]
fn closing_a_consumer_releases_what_it_holds() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    queue.enqueue_batch(&[Task::new("a"), Task::new("b")]).unwrap();
    let consumer = queue.consumer();
    let taken = consumer.reserve(Reserve::new().tasks(2)).unwrap();
    consumer.close().unwrap();
    let other = queue.consumer();
    assert_eq!(other.reserve(Reserve::new().tasks(2)).unwrap().iter().map(|d| d.attempt()).collect::<Vec<_>>(), [1, 1]);
    for delivery in taken {
        assert!(matches!(delivery.ack(), Err(Error::LeaseLost { .. })));
    }
}

#[test]
fn a_waiting_consumer_is_woken_by_either_durability() {
    let place = place();
    let queue = small().spin(Duration::ZERO).open(&place.path).unwrap();
    for durability in [Durability::Power, Durability::Process] {
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| one(&queue.consumer()).ack());
            queue.enqueue(Task::new("wake up").durability(durability)).unwrap();
            waiting.join().unwrap().unwrap();
        });
    }
}

#[test]
fn groups_see_every_task_each_and_begin_where_they_were_told() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    queue.enqueue(Task::new("old")).unwrap();
    queue.create_group("all", Start::Oldest).unwrap();
    queue.create_group("new", Start::Newest).unwrap();
    assert!(matches!(queue.create_group("all", Start::Oldest), Err(Error::GroupExists { .. })));
    queue.enqueue(Task::new("fresh")).unwrap();
    queue.close().unwrap();
    let queue = Queue::open(&place.path).unwrap();
    assert_eq!(queue.groups(), ["default", "all", "new"]);
    let texts = |group: &str| -> Vec<String> {
        let consumer = queue.consumer_of(group, ConsumerOptions::new()).unwrap();
        let taken = consumer.reserve(Reserve::new().tasks(9)).unwrap();
        taken.iter().map(|delivery| String::from_utf8(delivery.payload().to_vec()).unwrap()).collect()
    };
    assert_eq!(texts("default"), ["old", "fresh"]);
    assert_eq!(texts("all"), ["old", "fresh"]);
    assert_eq!(texts("new"), ["fresh"]);
    assert!(matches!(queue.consumer_of("none", ConsumerOptions::new()), Err(Error::NoSuchGroup { .. })));
}

#[test]
fn a_group_that_begins_at_the_newest_sees_nothing_older_after_a_reopen_either() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    for text in ["a", "b", "c"] {
        queue.enqueue(Task::new(text)).unwrap();
    }
    drop(queue);
    let queue = Queue::open(&place.path).unwrap();
    queue.create_group("new", Start::Newest).unwrap();
    let consumer = queue.consumer_of("new", ConsumerOptions::new()).unwrap();
    assert!(nothing(&consumer));
    queue.enqueue(Task::new("d")).unwrap();
    assert_eq!(one(&consumer).payload(), b"d");
}

#[test]
fn a_delivery_of_another_group_is_refused_and_stays_on_loan() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    queue.create_group("other", Start::Oldest).unwrap();
    queue.enqueue(Task::new("shared")).unwrap();
    let (own, other) = (queue.consumer(), queue.consumer_of("other", ConsumerOptions::new()).unwrap());
    let (held, foreign) = (one(&own), one(&other));
    let receipt = foreign.receipt();
    let answers = own.ack_batch(vec![foreign]).unwrap();
    assert!(matches!(answers.as_slice(), [Err(Error::BadReceipt { .. })]), "{answers:?}");
    held.ack().unwrap();
    queue.ack(&receipt).unwrap();
}
