//! Feature: looking and doing by hand. Any task can be looked up by its id and explained; the next ones can be peeked at;
//! tasks are cancelled by id, and lanes purged.

mod support;

use std::time::Duration;

use lanelog::{DeadFilter, Error, LaneId, Queue, Reserve, Start, Task, TaskState};
use support::{drain, nothing, one, place, small};

const LONG: Duration = Duration::from_secs(3600);

#[expect(clippy::unwrap_used, reason = "a helper fails the test that called it")]
fn state(queue: &Queue, id: lanelog::TaskId) -> TaskState {
    let mut states = queue.task(id).unwrap().unwrap().states.into_iter();
    states.next().unwrap().1
}

#[test]
fn a_task_is_found_by_its_id_in_every_state_it_can_have() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    let enqueue = |text: &str| queue.enqueue(Task::new(text)).unwrap();
    let (acked, leased, retried, dead, parked, waiting) = (
        enqueue("acked"),
        enqueue("leased"),
        enqueue("retried"),
        enqueue("dead"),
        enqueue("parked"),
        enqueue("waiting"),
    );
    let delayed = queue.enqueue(Task::new("delayed").delay(LONG).key("k")).unwrap();
    let consumer = queue.consumer();
    one(&consumer).ack().unwrap();
    let _on_loan = one(&consumer);
    one(&consumer).nack(Some(LONG), "later").unwrap();
    one(&consumer).reject("hopeless").unwrap();
    one(&consumer).park("aside").unwrap();
    assert_eq!(state(&queue, acked), TaskState::Acked);
    assert_eq!(state(&queue, leased), TaskState::Leased { attempts: 1 });
    assert!(matches!(state(&queue, retried), TaskState::Delayed { attempts: 1, .. }));
    assert!(matches!(state(&queue, dead), TaskState::Dead { attempts: 1, .. }));
    assert!(matches!(state(&queue, parked), TaskState::Parked { attempts: 1, .. }));
    assert_eq!(state(&queue, waiting), TaskState::Waiting);
    assert!(matches!(state(&queue, delayed), TaskState::Delayed { attempts: 0, .. }));
    let record = queue.task(delayed).unwrap().unwrap();
    assert_eq!((record.payload.as_ref(), record.key.as_deref()), (b"delayed".as_ref(), Some(b"k".as_ref())));
    assert!(record.run_at.is_some());
    let unknown = "ffffffffffffffff";
    let text = acked.to_string();
    let never = format!("{}{unknown}", &text[..text.len() - unknown.len()]);
    assert!(queue.task(never.parse().unwrap()).unwrap().is_none());
    assert!(matches!(queue.task("00c0ffee00c0ffee-00-0000000000000007".parse().unwrap()), Err(Error::BadId { .. })));
}

#[test]
fn explain_says_why_a_task_does_not_run_and_what_goes_before_it() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    let ids: Vec<_> = (0..5).map(|n| queue.enqueue(Task::new(&format!("{n}"))).unwrap()).collect();
    let later = queue.enqueue(Task::new("later").delay(LONG)).unwrap();
    let why = |id| queue.explain("default", id).unwrap().unwrap();
    assert_eq!((why(ids[0]).reasons.len(), why(ids[0]).ahead), (0, 0));
    assert_eq!((why(ids[4]).reasons, why(ids[4]).ahead), (vec!["4 tasks of its lane go before it".to_owned()], 4));
    let consumer = queue.consumer();
    let first = one(&consumer);
    assert_eq!(why(ids[0]).reasons, ["on loan, attempt 1"]);
    assert_eq!(why(ids[4]).ahead, 3);
    first.nack(Some(Duration::ZERO), "again").unwrap();
    assert_eq!(why(ids[4]).ahead, 4, "what is due again goes first");
    assert!(why(later).reasons[0].starts_with("delayed until "), "{:?}", why(later));
    queue.park("default", ids[1], "odd").unwrap();
    assert_eq!(why(ids[1]).reasons, ["parked: odd"]);
}

#[test]
fn explain_names_pauses_limits_keys_and_missing_workers() {
    let place = place();
    let queue = small().in_flight_max(2).open(&place.path).unwrap();
    let first = queue.enqueue(Task::new("first").key("k")).unwrap();
    let behind = queue.enqueue(Task::new("behind").key("k")).unwrap();
    let free = queue.enqueue(Task::new("free").lane(LaneId(1))).unwrap();
    let why = |id| queue.explain("default", id).unwrap().unwrap().reasons;
    let consumer = queue.consumer();
    let held = one(&consumer);
    assert_eq!(held.id(), first);
    assert!(why(behind).contains(&format!("its key is taken by task {first}")), "{:?}", why(behind));
    queue.pause_lane(LaneId(1)).unwrap();
    assert_eq!(why(free), ["its lane is paused"]);
    queue.pause_group("default").unwrap();
    assert_eq!(why(free), ["the group is paused", "its lane is paused"]);
    queue.resume_group("default").unwrap();
    queue.resume_lane(LaneId(1)).unwrap();
    let other = one(&consumer);
    assert!(why(behind).contains(&"the group has as many tasks on loan as it may".to_owned()), "{:?}", why(behind));
    drop((held, other, consumer));
    queue.close().unwrap();
    let queue = small().sticky(true).open(&place.path).unwrap();
    let told = queue.explain("default", behind).unwrap().unwrap().reasons;
    assert!(told.contains(&"no live worker owns its key".to_owned()), "{told:?}");
}

#[test]
fn peek_shows_the_next_tasks_without_a_lease() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    for n in 0..30 {
        queue.enqueue(Task::new(&format!("{n:0200}"))).unwrap();
    }
    let consumer = queue.consumer();
    for delivery in consumer.reserve(Reserve::new().tasks(25)).unwrap() {
        delivery.ack().unwrap();
    }
    let seen = queue.peek("default", LaneId(0), 3).unwrap();
    let seen: Vec<String> = seen.iter().map(|task| String::from_utf8(task.payload.to_vec()).unwrap()).collect();
    assert_eq!(seen, [25, 26, 27].map(|n| format!("{n:0200}")));
    assert_eq!(queue.stats().groups[0].lanes[0].in_flight, 0);
    assert_eq!(drain(&queue).len(), 5);
    assert!(queue.peek("default", LaneId(0), 3).unwrap().is_empty());
    assert!(matches!(queue.peek("default", LaneId(9), 1), Err(Error::NoSuchLane { .. })));
}

#[test]
fn a_cancelled_task_runs_in_no_group_whatever_it_was_and_stays_cancelled() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    queue.create_group("other", Start::Oldest).unwrap();
    let enqueue = |text: &str| queue.enqueue(Task::new(text)).unwrap();
    let (leased, dead, waiting, stays) = (enqueue("leased"), enqueue("dead"), enqueue("waiting"), enqueue("stays"));
    let delayed = queue.enqueue(Task::new("delayed").delay(LONG)).unwrap();
    let consumer = queue.consumer();
    let delivery = one(&consumer);
    one(&consumer).reject("no").unwrap();
    for id in [leased, dead, waiting, delayed] {
        assert!(queue.cancel(id).unwrap());
        assert!(!queue.cancel(id).unwrap(), "once");
    }
    assert!(matches!(delivery.ack(), Err(Error::LeaseLost { .. })), "its lease ended");
    for _ in 0..2 {
        assert!(queue.dead_letters("default").unwrap().is_empty());
        let other = queue.consumer_of("other", lanelog::ConsumerOptions::new()).unwrap();
        for consumer in [queue.consumer(), other] {
            let taken = consumer.reserve(Reserve::new().tasks(9)).unwrap();
            assert_eq!(taken.iter().map(lanelog::Delivery::id).collect::<Vec<_>>(), [stays]);
            taken.into_iter().for_each(|delivery| delivery.release().unwrap());
        }
        queue.checkpoint().unwrap();
    }
    drop(consumer);
    drop(queue);
    let queue = Queue::open(&place.path).unwrap();
    assert_eq!(drain(&queue), [b"stays"]);
}

#[test]
fn a_purged_lane_is_empty_for_every_group_and_takes_new_tasks() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    queue.create_group("other", Start::Oldest).unwrap();
    for n in 0..40 {
        queue.enqueue(Task::new(&format!("{n:0300}")).lane(LaneId(1))).unwrap();
    }
    queue.enqueue(Task::new("elsewhere").lane(LaneId(2))).unwrap();
    let consumer = queue.consumer();
    let on_loan = one(&consumer);
    one(&consumer).reject("dead").unwrap();
    one(&consumer).nack(Some(LONG), "delayed").unwrap();
    queue.purge_lane(LaneId(1)).unwrap();
    assert!(matches!(on_loan.ack(), Err(Error::LeaseLost { .. })));
    assert!(queue.dead_letters("default").unwrap().is_empty());
    queue.enqueue(Task::new("new").lane(LaneId(1))).unwrap();
    let depth = queue.stats().groups.iter().map(|group| group.lanes[0].depth).collect::<Vec<_>>();
    assert_eq!(depth, [1, 1]);
    queue.checkpoint().unwrap();
    assert!(queue.stats().lanes[0].segments <= 2, "{:?}", queue.stats().lanes);
    drop((consumer, queue));
    let queue = Queue::open(&place.path).unwrap();
    assert_eq!(drain(&queue), [b"new".to_vec(), b"elsewhere".to_vec()]);
    let other = queue.consumer_of("other", lanelog::ConsumerOptions::new()).unwrap();
    assert_eq!(other.reserve(Reserve::new().tasks(99)).unwrap().len(), 2);
    assert!(matches!(queue.purge_lane(LaneId(3)), Err(Error::NoSuchLane { .. })));
}

#[test]
fn purging_the_queue_leaves_nothing_and_breaks_nothing() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    for lane in 0..3 {
        queue.enqueue(Task::new("x").lane(LaneId(lane))).unwrap();
    }
    queue.purge().unwrap();
    assert!(nothing(&queue.consumer()));
    assert_eq!(queue.redrive("default", &DeadFilter::new()).unwrap(), 0);
    drop(queue);
    assert!(nothing(&Queue::open(&place.path).unwrap().consumer()));
}

#[test]
fn a_group_that_begins_at_the_oldest_task_sees_nothing_of_what_was_purged_before() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    for lane in [0, 1] {
        queue.enqueue(Task::new("before").lane(LaneId(lane))).unwrap();
    }
    queue.purge_lane(LaneId(0)).unwrap();
    queue.enqueue(Task::new("after")).unwrap();
    let queue = small().open(support::as_a_death_leaves_it(&place)).unwrap();
    queue.create_group("late", Start::Oldest).unwrap();
    let late = queue.consumer_of("late", lanelog::ConsumerOptions::new()).unwrap();
    let seen = late.reserve(Reserve::new().tasks(9)).unwrap();
    let seen: Vec<_> = seen.iter().map(|delivery| (delivery.lane(), delivery.payload())).collect();
    assert_eq!(seen, [(LaneId(0), b"after".as_slice()), (LaneId(1), b"before")]);
}

#[test]
fn a_group_that_begins_at_the_oldest_task_sees_nothing_of_what_was_cancelled_before() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    let ids: Vec<_> = (0..40).map(|n| queue.enqueue(Task::new(&format!("{n:0200}"))).unwrap()).collect();
    let seen_by = |queue: &Queue, group: &str| {
        queue.create_group(group, Start::Oldest).unwrap();
        let consumer = queue.consumer_of(group, lanelog::ConsumerOptions::new()).unwrap();
        let seen = consumer.reserve(Reserve::new().tasks(99)).unwrap();
        seen.iter().map(lanelog::Delivery::id).collect::<Vec<_>>()
    };
    let left = |cancelled: &[usize]| {
        let ids = ids.iter().enumerate().filter(|(at, _)| !cancelled.contains(at));
        ids.map(|(_, id)| *id).collect::<Vec<_>>()
    };
    assert!(queue.cancel(ids[3]).unwrap());
    assert_eq!(seen_by(&queue, "at-once"), left(&[3]));
    let copy = support::as_a_death_leaves_it(&place);
    let queue = small().open(&copy).unwrap();
    assert!(queue.cancel(ids[30]).unwrap());
    assert_eq!(seen_by(&queue, "after-a-death"), left(&[3, 30]));
    queue.checkpoint().unwrap();
    queue.checkpoint().unwrap();
    queue.close().unwrap();
    let queue = small().open(&copy).unwrap();
    assert_eq!(seen_by(&queue, "after-a-checkpoint"), left(&[3, 30]));
    assert!(queue.cancel(ids[0]).unwrap());
    let depth = queue.stats().groups.iter().map(|group| group.lanes[0].depth).collect::<Vec<_>>();
    assert_eq!(depth, [37, 37, 37, 37]);
    queue.create_group("newest", Start::Newest).unwrap();
    let stats = queue.stats();
    let newest = stats.groups.last().unwrap();
    assert_eq!((newest.lanes[0].depth, newest.lanes[0].acked), (0, 0), "it has nothing to do with what came before");
}

#[test]
fn what_was_cancelled_is_forgotten_with_its_segment() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    for n in 0..60 {
        let id = queue.enqueue(Task::new(&format!("{n:0200}"))).unwrap();
        assert!(queue.cancel(id).unwrap());
    }
    assert!(nothing(&queue.consumer()));
    queue.checkpoint().unwrap();
    queue.checkpoint().unwrap();
    assert!(queue.stats().lanes[0].segments <= 2, "{:?}", queue.stats().lanes);
    queue.create_group("late", Start::Oldest).unwrap();
    assert!(nothing(&queue.consumer_of("late", lanelog::ConsumerOptions::new()).unwrap()));
}
