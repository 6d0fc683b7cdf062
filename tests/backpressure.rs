//! Promise: what waits, and what is on loan, is bounded where an option says so, over any crash; a full queue refuses, drops
//! nothing, and can always be drained. Lanes and groups can be paused, over any crash, until they are resumed.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper fails the test that called it")]
#![expect(clippy::disallowed_methods, reason = "producers and consumers that wait are threads")]

mod support;

use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use lanelog::{
    Bound, Consumer, ConsumerOptions, Delivery, Durability, Error, LaneId, Options, Queue, Reserve, Start, Task,
    inspect,
};
use support::{as_a_death_leaves_it, drain, nothing, one, place, small};

const LONG: Duration = Duration::from_secs(20);

/// Refuses at once what has no room.
fn hasty() -> Options {
    small().append_wait(Duration::ZERO)
}

fn put(queue: &Queue, lane: u8, bytes: usize) -> Result<lanelog::TaskId, Error> {
    loop {
        // A segment that is not ready yet is another matter.
        match queue.enqueue(Task::new(&vec![b'x'; bytes]).lane(LaneId(lane)).durability(Durability::Process)) {
            Err(Error::Full { .. }) => thread::yield_now(),
            outcome => return outcome,
        }
    }
}

/// Enqueues into a lane until it is refused; gives how many were taken and the refusal.
fn fill(queue: &Queue, lane: u8, bytes: usize) -> (usize, Error) {
    for taken in 0..10_000 {
        if let Err(error) = put(queue, lane, bytes) {
            return (taken, error);
        }
    }
    panic!("never full");
}

fn take(queue: &Queue, group: &str, tasks: usize) -> Vec<Delivery> {
    let consumer = queue.consumer_of(group, ConsumerOptions::new()).unwrap();
    let taken = consumer.reserve(Reserve::new().tasks(tasks)).unwrap();
    assert_eq!(taken.len(), tasks);
    taken
}

fn ack(queue: &Queue, group: &str, tasks: usize) {
    take(queue, group, tasks).into_iter().for_each(|delivery| delivery.ack().unwrap());
}

fn waiting(queue: &Queue, lane: usize) -> (u64, u64) {
    queue.stats().lanes.get(lane).and_then(|lane| lane.waiting).unwrap()
}

// ---- bounds on what waits ----

#[test]
fn a_lane_takes_as_many_tasks_as_its_bound_and_others_are_not_concerned() {
    let place = place();
    let queue = hasty().lane_bound(LaneId(1), Bound::new().tasks(10)).open(&place.path).unwrap();
    let (taken, error) = fill(&queue, 1, 5);
    assert_eq!((taken, waiting(&queue, 0)), (10, (10, 50)), "the one lane there is");
    assert!(matches!(
        error,
        Error::OverBound { lane: Some(LaneId(1)), what: "tasks", max: 10, waiting: 10, asked: 1, .. }
    ));
    assert!(error.is_refusal());
    let told = error.to_string();
    for part in ["lane 1", "10 tasks wait", "bound of 10", "ack what waits", "Options::lane_bound"] {
        assert!(told.contains(part), "{told:?} does not say {part:?}");
    }
    put(&queue, 0, 5).unwrap();
    put(&queue, 2, 5).unwrap();
}

#[test]
fn the_bound_of_the_queue_counts_all_lanes_and_their_payload_bytes() {
    let place = place();
    let queue = hasty().queue_bound(Bound::new().bytes(1000)).open(&place.path).unwrap();
    for lane in [0, 1, 2] {
        put(&queue, lane, 300).unwrap();
    }
    let error = put(&queue, 0, 101).unwrap_err();
    assert!(matches!(error, Error::OverBound { lane: None, what: "bytes", max: 1000, waiting: 900, asked: 101, .. }));
    put(&queue, 0, 100).unwrap();
    put(&queue, 0, 0).unwrap();
    assert_eq!(drain(&queue).len(), 5, "what was accepted is there");
    put(&queue, 2, 900).unwrap();
}

#[test]
fn a_batch_counts_as_a_whole_and_one_that_never_fits_is_refused_at_once() {
    let place = place();
    let queue = small().append_wait(LONG).lane_bound(LaneId(0), Bound::new().tasks(4)).open(&place.path).unwrap();
    let batch = |tasks: usize| vec![Task::new("x").durability(Durability::Process); tasks];
    let refused = queue.enqueue_batch(&batch(5)).unwrap_err();
    assert!(matches!(refused, Error::OverBound { asked: 5, max: 4, waited_ms: 0, .. }), "{refused}");
    queue.enqueue_batch(&batch(3)).unwrap();
    queue.close().unwrap();
    let queue = hasty().open(&place.path).unwrap();
    assert!(matches!(queue.enqueue_batch(&batch(2)).unwrap_err(), Error::OverBound { waiting: 3, asked: 2, .. }));
    put(&queue, 0, 1).unwrap();
    assert_eq!(drain(&queue).len(), 4, "of what was refused nothing is there");
}

#[test]
fn what_is_on_loan_or_delayed_waits_and_what_is_acked_or_dead_does_not() {
    let place = place();
    let queue = hasty().lane_bound(LaneId(0), Bound::new().tasks(4)).open(&place.path).unwrap();
    fill(&queue, 0, 1);
    let mut taken = take(&queue, "default", 4);
    assert!(put(&queue, 0, 1).is_err(), "on loan");
    taken.remove(0).release().unwrap();
    taken.remove(0).nack(Some(Duration::from_secs(3600)), "later").unwrap();
    assert!(put(&queue, 0, 1).is_err(), "due again, and delayed");
    taken.remove(0).reject("never").unwrap();
    put(&queue, 0, 1).unwrap();
    assert!(put(&queue, 0, 1).is_err());
    taken.remove(0).ack().unwrap();
    put(&queue, 0, 1).unwrap();
    assert_eq!(queue.dead_letters("default").unwrap().len(), 1);
}

#[test]
fn a_task_waits_for_the_slowest_group() {
    let place = place();
    let queue = hasty().queue_bound(Bound::new().tasks(6)).open(&place.path).unwrap();
    fill(&queue, 0, 1);
    queue.create_group("second", Start::Oldest).unwrap();
    queue.create_group("fresh", Start::Newest).unwrap();
    ack(&queue, "default", 6);
    assert!(put(&queue, 0, 1).is_err(), "the second group has all of it left");
    ack(&queue, "second", 2);
    assert_eq!(fill(&queue, 0, 1).0, 2);
    ack(&queue, "fresh", 2);
    assert!(put(&queue, 0, 1).is_err());
    queue.create_group("third", Start::Oldest).unwrap();
    ack(&queue, "second", 6);
    ack(&queue, "default", 2);
    let left = waiting(&queue, 0).0;
    assert!((6..=8).contains(&left), "{left} of what is kept are left to the third group");
    assert!(put(&queue, 0, 1).is_err());
}

#[test]
fn an_enqueue_waits_for_room_and_takes_it_when_somebody_acks() {
    let place = place();
    let queue = small().append_wait(LONG).lane_bound(LaneId(0), Bound::new().tasks(2)).open(&place.path).unwrap();
    put(&queue, 0, 1).unwrap();
    put(&queue, 0, 1).unwrap();
    let taken = take(&queue, "default", 2);
    let (said, hear) = mpsc::channel();
    let producer = {
        let queue = queue.clone();
        thread::spawn(move || said.send(put(&queue, 0, 1)).unwrap())
    };
    assert!(hear.recv_timeout(Duration::from_millis(100)).is_err(), "there is no room yet");
    taken.into_iter().for_each(|delivery| delivery.ack().unwrap());
    hear.recv_timeout(LONG).unwrap().unwrap();
    producer.join().unwrap();
}

#[test]
fn an_enqueue_that_finds_no_room_is_refused_after_its_wait() {
    let place = place();
    let wait = Duration::from_millis(60);
    let queue = small().append_wait(wait).queue_bound(Bound::new().tasks(1)).open(&place.path).unwrap();
    put(&queue, 0, 1).unwrap();
    let refused = put(&queue, 0, 1).unwrap_err();
    assert!(matches!(refused, Error::OverBound { waited_ms: 60.., .. }), "{refused}");
}

#[test]
fn close_ends_the_wait_for_room() {
    let place = place();
    let queue = small().append_wait(LONG).queue_bound(Bound::new().tasks(1)).open(&place.path).unwrap();
    put(&queue, 0, 1).unwrap();
    let (said, hear) = mpsc::channel();
    let other = queue.clone();
    let producer = thread::spawn(move || said.send(put(&other, 0, 1)).unwrap());
    assert!(hear.recv_timeout(Duration::from_millis(50)).is_err());
    queue.close().unwrap();
    assert!(matches!(hear.recv_timeout(LONG).unwrap(), Err(Error::Closed)));
    producer.join().unwrap();
}

#[test]
fn many_producers_at_once_never_exceed_a_bound() {
    let place = place();
    let queue = hasty().queue_bound(Bound::new().tasks(100)).open(&place.path).unwrap();
    let taken: usize = thread::scope(|scope| {
        let producers: Vec<_> = (0..4)
            .map(|lane| {
                scope.spawn({
                    let queue = &queue;
                    move || fill(queue, lane % 3, 1).0
                })
            })
            .collect();
        producers.into_iter().map(|producer| producer.join().unwrap()).sum()
    });
    assert!((97..=100).contains(&taken), "{taken}");
    assert_eq!(taken + fill(&queue, 0, 1).0, 100);
}

/// Fills a bounded queue, settles some, and gives it back with what it says of itself.
fn used(path: &Path) -> (Queue, (u64, u64)) {
    let bound = Bound::new().tasks(50).bytes(5_000);
    let queue = hasty().lane_bound(LaneId(0), bound).open(path).unwrap();
    assert_eq!(fill(&queue, 0, 100).0, 50);
    let mut taken = take(&queue, "default", 30);
    taken.drain(..20).for_each(|delivery| delivery.ack().unwrap());
    taken.drain(..5).for_each(|delivery| delivery.reject("never").unwrap());
    assert_eq!(waiting(&queue, 0), (25, 2_500));
    taken.into_iter().for_each(|delivery| _ = delivery.detach());
    let waits = waiting(&queue, 0);
    (queue, waits)
}

#[test]
fn counts_are_right_after_a_clean_close() {
    let place = place();
    let (queue, waits) = used(&place.path);
    queue.close().unwrap();
    let queue = hasty().open(&place.path).unwrap();
    assert_eq!(waiting(&queue, 0), waits);
    assert_eq!(fill(&queue, 0, 100).0, 25, "the bound is kept with the queue");
}

#[test]
fn counts_are_right_after_the_death_of_the_process() {
    let place = place();
    let (queue, waits) = used(&place.path);
    let copy = as_a_death_leaves_it(&place);
    drop(queue);
    let queue = hasty().open(&copy).unwrap();
    assert_eq!(waiting(&queue, 0), waits);
    assert_eq!(fill(&queue, 0, 100).0, 25);
    assert_eq!(drain(&queue).len(), 50);
    assert_eq!(waiting(&queue, 0), (0, 0));
}

#[test]
fn a_bound_below_what_waits_takes_nothing_away_and_one_of_zero_is_none() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    (0..20).for_each(|_| _ = put(&queue, 0, 1).unwrap());
    assert_eq!(queue.stats().lanes[0].waiting, None, "nothing is counted where nothing is bounded");
    queue.close().unwrap();
    let queue = hasty().queue_bound(Bound::new().tasks(5)).open(&place.path).unwrap();
    assert!(put(&queue, 0, 1).is_err());
    ack(&queue, "default", 15);
    assert!(put(&queue, 0, 1).is_err());
    ack(&queue, "default", 1);
    put(&queue, 0, 1).unwrap();
    queue.close().unwrap();
    let queue = hasty().queue_bound(Bound::new()).open(&place.path).unwrap();
    (0..20).for_each(|_| _ = put(&queue, 0, 1).unwrap());
    assert_eq!(drain(&queue).len(), 25);
}

#[test]
fn bounds_of_lanes_that_are_not_there_are_refused() {
    let place = place();
    let opened = small().lane_bound(LaneId(3), Bound::new().tasks(1)).open(&place.path);
    assert!(matches!(opened, Err(Error::InvalidOption { .. })));
}

#[test]
fn each_enqueue_may_say_how_long_it_waits_for_room() {
    let place = place();
    let queue = small().append_wait(LONG).queue_bound(Bound::new().tasks(2)).open(&place.path).unwrap();
    put(&queue, 0, 1).unwrap();
    put(&queue, 0, 1).unwrap();
    let none = || Task::new("no").wait(Duration::ZERO);
    let refused = |outcome: Option<Error>| assert!(matches!(outcome, Some(Error::OverBound { waited_ms: 0, .. })));
    refused(queue.enqueue(none()).err());
    refused(queue.enqueue_batch(&[none(), none()]).err());
    refused(queue.producer().wait(Duration::ZERO).enqueue("no").err());
    let mut step = queue.transaction().wait(Duration::ZERO);
    step.enqueue(Task::new("no")).unwrap();
    refused(step.commit().err());
    let a_little = Task::new("no").wait(Duration::from_millis(20));
    assert!(matches!(queue.enqueue(a_little), Err(Error::OverBound { waited_ms: 20.., .. })));
    let other = queue.clone();
    let waiter = thread::spawn(move || other.enqueue(Task::new("yes").wait(LONG)).map(drop));
    ack(&queue, "default", 1);
    waiter.join().unwrap().unwrap();
    assert_eq!(drain(&queue).len(), 2);
}

// ---- bounds on what is on loan ----

#[test]
fn a_group_has_no_more_on_loan_than_its_bound_and_every_end_of_a_lease_makes_room() {
    let place = place();
    let queue = small().in_flight_max(3).open(&place.path).unwrap();
    queue.create_group("second", Start::Oldest).unwrap();
    for lane in [0, 1, 1, 2, 2, 2, 2, 2, 2, 2] {
        put(&queue, lane, 1).unwrap();
    }
    let consumer = queue.consumer();
    let mut taken = consumer.reserve(Reserve::new().tasks(100)).unwrap();
    assert_eq!(taken.len(), 3, "over all lanes");
    assert!(nothing(&consumer));
    assert_eq!(take(&queue, "second", 3).len(), 3, "each group for itself");
    taken.remove(0).ack().unwrap();
    assert_eq!(consumer.reserve(Reserve::new().tasks(100)).unwrap().len(), 1);
    taken.remove(0).nack(None, "later").unwrap();
    let short = Reserve::new().tasks(100).lease(Duration::from_millis(20));
    let lost = consumer.reserve(short).unwrap();
    lost.into_iter().for_each(|delivery| _ = delivery.detach());
    assert_eq!(one(&consumer).lane(), LaneId(2), "a lease that ran out makes room");
}

#[test]
fn a_consumer_that_waits_for_room_on_loan_gets_a_task_when_another_is_acked() {
    let place = place();
    let queue = small().in_flight_max(1).open(&place.path).unwrap();
    put(&queue, 0, 1).unwrap();
    put(&queue, 0, 1).unwrap();
    let first = one(&queue.consumer());
    let other = queue.clone();
    let waiter = thread::spawn(move || one(&other.consumer()).ack().unwrap());
    first.ack().unwrap();
    waiter.join().unwrap();
}

#[test]
fn a_lane_has_no_more_on_loan_than_its_bound_while_others_are_handed_out() {
    let place = place();
    let queue = small().lane_in_flight_max(LaneId(0), 2).open(&place.path).unwrap();
    let ids: Vec<_> = [0, 0, 0, 1, 1, 1].into_iter().map(|lane| put(&queue, lane, 1).unwrap()).collect();
    let consumer = queue.consumer();
    let mut taken = consumer.reserve(Reserve::new().tasks(4)).unwrap();
    let lanes: Vec<u8> = taken.iter().map(|delivery| delivery.lane().0).collect();
    assert_eq!(lanes, [0, 0, 1, 1]);
    let told = queue.explain("default", ids[2]).unwrap().unwrap();
    assert!(told.reasons.iter().any(|reason| reason.contains("its lane has as many")), "{told:?}");
    taken.remove(0).ack().unwrap();
    taken.push(one(&consumer));
    assert_eq!(taken[3].lane(), LaneId(0), "an ack makes room in the lane");
    taken.into_iter().for_each(|delivery| delivery.release().unwrap());
    drop(consumer);
    queue.close().unwrap();
    let queue = small().open(&place.path).unwrap();
    let again = queue.consumer().reserve(Reserve::new().tasks(9)).unwrap();
    assert_eq!(again.iter().filter(|delivery| delivery.lane() == LaneId(0)).count(), 2, "the bound is stored");
    drop(again);
    queue.close().unwrap();
    assert!(matches!(
        small().lane_in_flight_max(LaneId(9), 2).open(&place.path),
        Err(Error::InvalidOption { option: "lane_in_flight_max (lane)", .. })
    ));
}

#[test]
fn all_groups_together_have_no_more_on_loan_than_the_queues_bound() {
    let place = place();
    let queue = small().queue_in_flight_max(3).open(&place.path).unwrap();
    queue.create_group("second", Start::Oldest).unwrap();
    let ids: Vec<_> = (0..9).map(|n| put(&queue, n % 3, 1).unwrap()).collect();
    let (first, second) = (queue.consumer(), queue.consumer_of("second", ConsumerOptions::new()).unwrap());
    let two = first.reserve(Reserve::new().tasks(2)).unwrap();
    let mut last = second.reserve(Reserve::new().tasks(100)).unwrap();
    assert_eq!((two.len(), last.len()), (2, 1), "a reserve takes what is left");
    assert!(nothing(&first) && nothing(&second));
    let told = queue.explain("second", ids[8]).unwrap().unwrap();
    assert!(told.reasons.iter().any(|reason| reason.contains("the queue has as many")), "{told:?}");
    two.into_iter().for_each(|delivery| delivery.ack().unwrap());
    last.extend(second.reserve(Reserve::new().tasks(100)).unwrap());
    assert_eq!(last.len(), 3, "what one group settled is room for another");
    assert!(nothing(&first));
    last.into_iter().for_each(|delivery| delivery.release().unwrap());
    drop((first, second));
    queue.close().unwrap();
    let queue = small().open(&place.path).unwrap();
    let taken = take(&queue, "second", 3);
    assert!(has_nothing(&queue, "default"), "the bound is stored");
    taken.into_iter().for_each(|delivery| delivery.release().unwrap());
    queue.close().unwrap();
    let queue = small().queue_in_flight_max(0).open(&place.path).unwrap();
    assert_eq!(take(&queue, "second", 9).len(), 9);
}

#[test]
fn every_end_of_a_lease_leaves_room_to_every_group_and_wakes_who_waits_for_it() {
    let place = place();
    let queue = small().queue_in_flight_max(1).lease(LONG).open(&place.path).unwrap();
    queue.create_group("second", Start::Oldest).unwrap();
    let ids: Vec<_> = (0..20).map(|_| put(&queue, 0, 1).unwrap()).collect();
    put(&queue, 1, 1).unwrap();
    type End = fn(&Queue, Delivery);
    let ends: [(&str, End); 9] = [
        ("ack", |_, delivery| delivery.ack().unwrap()),
        ("nack", |_, delivery| delivery.nack(None, "later").unwrap()),
        ("release", |_, delivery| delivery.release().unwrap()),
        ("reject", |_, delivery| delivery.reject("never").unwrap()),
        ("drop", |_, delivery| drop(delivery)),
        ("cancel", |queue, delivery| {
            assert!(queue.cancel(delivery.id()).unwrap());
            let _receipt = delivery.detach();
        }),
        ("transaction", |queue, delivery| {
            let mut step = queue.transaction();
            step.ack(delivery);
            step.commit().unwrap();
        }),
        ("running out", |_, delivery| delivery.extend(Duration::from_millis(1)).unwrap()),
        ("purge", |queue, delivery| {
            queue.purge_lane(LaneId(0)).unwrap();
            let _receipt = delivery.detach();
        }),
    ];
    for (how, end) in ends {
        let held = one(&queue.consumer());
        let other = queue.clone();
        let waiter = thread::spawn(move || {
            let second = other.consumer_of("second", ConsumerOptions::new()).unwrap();
            let mut taken = second.reserve(Reserve::new().wait(LONG)).unwrap();
            taken.pop().map(|delivery| delivery.ack().unwrap()).is_some()
        });
        end(&queue, held);
        assert!(waiter.join().unwrap(), "{how} leaves no room");
    }
    drop(ids);
}

#[test]
fn a_worker_that_goes_or_is_replaced_and_a_consumer_that_closes_leave_room_to_every_group() {
    let place = place();
    let queue = small().queue_in_flight_max(1).lease(LONG).open(&place.path).unwrap();
    queue.create_group("second", Start::Oldest).unwrap();
    (0..9).for_each(|_| _ = put(&queue, 0, 1).unwrap());
    let worker = queue.worker("one").unwrap();
    let held = worker.reserve(Reserve::new()).unwrap();
    assert!(has_nothing(&queue, "second"));
    let worker = queue.worker("one").unwrap();
    ack(&queue, "second", 1);
    let held_again = worker.reserve(Reserve::new()).unwrap();
    assert!(has_nothing(&queue, "second"));
    drop(worker);
    ack(&queue, "second", 1);
    let consumer = queue.consumer();
    let held_last = consumer.reserve(Reserve::new()).unwrap();
    assert!(has_nothing(&queue, "second"));
    consumer.close().unwrap();
    ack(&queue, "second", 1);
    drop((held, held_again, held_last));
}

// ---- pausing ----

fn has_nothing(queue: &Queue, group: &str) -> bool {
    nothing(&queue.consumer_of(group, ConsumerOptions::new()).unwrap())
}

#[test]
fn of_a_paused_lane_nothing_is_handed_out_to_any_group_until_it_is_resumed() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    queue.create_group("second", Start::Oldest).unwrap();
    put(&queue, 0, 1).unwrap();
    put(&queue, 1, 1).unwrap();
    queue.pause_lane(LaneId(0)).unwrap();
    queue.pause_lane(LaneId(0)).unwrap();
    for group in ["default", "second"] {
        let taken = take(&queue, group, 1);
        assert_eq!(taken[0].lane(), LaneId(1));
        taken.into_iter().for_each(|delivery| delivery.ack().unwrap());
        assert!(has_nothing(&queue, group));
    }
    assert_eq!(queue.stats().paused_lanes, [LaneId(0)]);
    put(&queue, 0, 1).unwrap();
    queue.resume_lane(LaneId(0)).unwrap();
    assert!(queue.stats().paused_lanes.is_empty());
    ack(&queue, "default", 2);
    ack(&queue, "second", 2);
}

#[test]
fn a_paused_group_gets_nothing_and_others_do_not_notice() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    queue.create_group("second", Start::Oldest).unwrap();
    put(&queue, 2, 1).unwrap();
    queue.pause_group("second").unwrap();
    assert!(has_nothing(&queue, "second"));
    ack(&queue, "default", 1);
    let paused = |queue: &Queue| queue.stats().groups.iter().map(|group| group.paused).collect::<Vec<_>>();
    assert_eq!(paused(&queue), [false, true]);
    queue.resume_group("second").unwrap();
    ack(&queue, "second", 1);
    assert_eq!(paused(&queue), [false, false]);
}

#[test]
fn what_is_on_loan_is_settled_while_its_lane_and_group_are_paused() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    (0..4).for_each(|_| _ = put(&queue, 0, 1).unwrap());
    let mut taken = take(&queue, "default", 4);
    queue.pause_lane(LaneId(0)).unwrap();
    queue.pause_group("default").unwrap();
    taken.remove(0).ack().unwrap();
    taken.remove(0).nack(Some(Duration::ZERO), "again").unwrap();
    taken.remove(0).release().unwrap();
    taken.remove(0).reject("never").unwrap();
    assert!(has_nothing(&queue, "default"));
    queue.resume_group("default").unwrap();
    assert!(has_nothing(&queue, "default"), "the lane is paused still");
    queue.resume_lane(LaneId(0)).unwrap();
    ack(&queue, "default", 2);
}

#[test]
fn a_pause_outlives_the_process_and_a_clean_close() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    queue.create_group("second", Start::Oldest).unwrap();
    put(&queue, 0, 1).unwrap();
    put(&queue, 1, 1).unwrap();
    queue.pause_lane(LaneId(1)).unwrap();
    queue.pause_group("second").unwrap();
    let copy = as_a_death_leaves_it(&place);
    queue.close().unwrap();
    for path in [&copy, &place.path] {
        let looked = inspect(path).unwrap().stats();
        assert_eq!((looked.paused_lanes, looked.groups[1].paused), (vec![LaneId(1)], true));
        for _ in 0..3 {
            let queue = Queue::open(path).unwrap();
            assert_eq!(queue.stats().paused_lanes, [LaneId(1)]);
            assert!(has_nothing(&queue, "second"));
            let taken = take(&queue, "default", 1);
            assert_eq!(taken[0].lane(), LaneId(0));
            taken.into_iter().for_each(|delivery| delivery.release().unwrap());
            assert!(
                queue.consumer().reserve(Reserve::new().lanes([LaneId(1)].into_iter().collect())).unwrap().is_empty()
            );
            queue.close().unwrap();
        }
        let queue = Queue::open(path).unwrap();
        queue.resume_lane(LaneId(1)).unwrap();
        queue.resume_group("second").unwrap();
        drop(queue);
        let queue = Queue::open(path).unwrap();
        ack(&queue, "second", 2);
        ack(&queue, "default", 2);
    }
}

#[test]
fn a_consumer_that_waits_wakes_up_at_resume() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    put(&queue, 0, 1).unwrap();
    queue.pause_group("default").unwrap();
    let other = queue.clone();
    let (said, hear) = mpsc::channel();
    let waiter = thread::spawn(move || {
        let consumer: Consumer = other.consumer();
        said.send(one(&consumer).ack()).unwrap();
    });
    assert!(hear.recv_timeout(Duration::from_millis(100)).is_err(), "paused");
    queue.resume_group("default").unwrap();
    hear.recv_timeout(LONG).unwrap().unwrap();
    waiter.join().unwrap();
}

#[test]
fn what_is_not_there_can_not_be_paused() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    assert!(matches!(queue.pause_lane(LaneId(3)), Err(Error::NoSuchLane { .. })));
    assert!(matches!(queue.resume_lane(LaneId(3)), Err(Error::NoSuchLane { .. })));
    assert!(matches!(queue.pause_group("nobody"), Err(Error::NoSuchGroup { .. })));
    assert!(matches!(queue.resume_group("nobody"), Err(Error::NoSuchGroup { .. })));
}

#[test]
fn a_paused_lane_fills_up_to_its_bound() {
    let place = place();
    let queue = hasty().lane_bound(LaneId(0), Bound::new().tasks(3)).open(&place.path).unwrap();
    queue.pause_lane(LaneId(0)).unwrap();
    assert_eq!(fill(&queue, 0, 1).0, 3);
    queue.resume_lane(LaneId(0)).unwrap();
    assert_eq!(drain(&queue).len(), 3);
    assert_eq!(fill(&queue, 0, 1).0, 3);
}
