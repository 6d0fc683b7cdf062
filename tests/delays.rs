//! Feature: delays. A task may carry a delay, or a time to run at, up to years: it has its id at once, is not handed out
//! before its time, holds up nobody meanwhile, and comes by itself when its time is there, over reopens too.

mod support;

use std::time::Duration;

use lanelog::{DeadFilter, Options, Queue, Reserve, Task, TaskState, Timestamp};
use support::{drain, nothing, one, place, small, wall};

/// Long enough for a disk of which a sync takes a tenth of a second to accept what must be there before that.
const SOON: Duration = Duration::from_secs(2);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

#[test]
fn a_delayed_task_comes_not_before_its_time_and_by_itself_when_it_is_there() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    let before = wall();
    let id = queue.enqueue(Task::new("later").delay(SOON)).unwrap();
    let consumer = queue.consumer();
    assert!(nothing(&consumer));
    let delivery = one(&consumer);
    assert!(wall() >= before + 2_000, "it came early");
    assert_eq!((delivery.id(), delivery.attempt()), (id, 1), "the id that the enqueue gave, and its first attempt");
}

#[test]
fn a_delayed_task_holds_up_nobody_and_tasks_come_as_their_times_do() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    queue.enqueue(Task::new("third").delay(SOON * 2)).unwrap();
    queue.enqueue(Task::new("second").delay(SOON)).unwrap();
    queue.enqueue(Task::new("first")).unwrap();
    let consumer = queue.consumer();
    for text in ["first", "second", "third"] {
        let delivery = one(&consumer);
        assert_eq!(delivery.payload(), text.as_bytes());
        delivery.ack().unwrap();
    }
}

#[test]
fn a_time_to_run_at_may_be_years_away_and_one_that_is_over_is_no_delay() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    let far = queue.enqueue(Task::new("far").delay(10 * YEAR)).unwrap();
    queue.enqueue(Task::new("at once").run_at(Timestamp(1))).unwrap();
    assert_eq!(drain(&queue), [b"at once"]);
    assert_eq!(queue.stats().groups[0].lanes[0].delayed, 1);
    let due = queue.task(far).unwrap().unwrap().run_at.unwrap().0;
    assert!(due > wall() + 9 * 365 * 24 * 3_600_000);
}

#[test]
fn a_delay_holds_over_reopens_and_checkpoints() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    let far = queue.enqueue(Task::new("far").delay(YEAR)).unwrap();
    let soon = queue.enqueue(Task::new("soon").delay(SOON)).unwrap();
    assert!(nothing(&queue.consumer()));
    queue.checkpoint().unwrap();
    drop(queue);
    let queue = Queue::open(&place.path).unwrap();
    assert_eq!(one(&queue.consumer()).id(), soon);
    for _ in 0..2 {
        assert!(nothing(&queue.consumer()));
        assert!(matches!(queue.task(far).unwrap().unwrap().states[0].1, TaskState::Delayed { attempts: 0, .. }));
    }
}

#[test]
fn a_delayed_task_can_be_cancelled_or_parked_by_its_id_before_its_time() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    let cancelled = queue.enqueue(Task::new("cancelled").delay(SOON)).unwrap();
    let parked = queue.enqueue(Task::new("parked").delay(SOON)).unwrap();
    queue.enqueue(Task::new("stays").delay(SOON)).unwrap();
    assert!(nothing(&queue.consumer()), "they are met now, and wait");
    assert!(queue.cancel(cancelled).unwrap() && queue.park("default", parked, "not yet").unwrap());
    assert_eq!(one(&queue.consumer()).payload(), b"stays");
    assert!(nothing(&queue.consumer()));
    assert_eq!(queue.kick("default", &DeadFilter::new()).unwrap(), 1);
    assert_eq!(one(&queue.consumer()).id(), parked);
}

#[test]
fn a_batch_may_mix_delays() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    let ids = queue.enqueue_batch(&[Task::new("later").delay(SOON), Task::new("now")]).unwrap();
    let consumer = queue.consumer();
    let first = consumer.reserve(Reserve::new().tasks(2)).unwrap();
    assert_eq!(first.iter().map(lanelog::Delivery::id).collect::<Vec<_>>(), ids[1..]);
    assert_eq!(one(&consumer).id(), ids[0]);
}

#[test]
fn a_task_that_is_years_away_is_shown_counted_and_cancelled_by_the_id_that_its_enqueue_gave() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    let ids: Vec<_> = (0..50).map(|_| queue.enqueue(Task::new("in years").delay(3 * YEAR)).unwrap()).collect();
    assert!(nothing(&queue.consumer()), "they are met now");
    let due = queue.task(ids[7]).unwrap().unwrap().run_at.unwrap();
    let state = |id| queue.task(id).unwrap().unwrap().states[0].1.clone();
    assert_eq!(state(ids[7]), TaskState::Delayed { attempts: 0, due });
    let explained = queue.explain("default", ids[7]).unwrap().unwrap();
    assert_eq!(explained.reasons, [format!("delayed until {} ms", due.0)]);
    assert!(queue.cancel(ids[7]).unwrap() && !queue.cancel(ids[7]).unwrap());
    assert_eq!(state(ids[7]), TaskState::Acked);
    assert_eq!(queue.stats().groups[0].lanes[0].delayed, 49);
    queue.close().unwrap();
    let queue = Queue::open(&place.path).unwrap();
    assert!(nothing(&queue.consumer()));
    let lane = &queue.stats().groups[0].lanes[0];
    assert_eq!((lane.delayed, lane.depth), (49, 49), "cancelled for good, and the others are not forgotten");
    queue.purge_lane(lanelog::LaneId(0)).unwrap();
    assert_eq!(queue.stats().groups[0].lanes[0].delayed, 0);
}

#[test]
fn many_tasks_that_are_far_leave_no_file_behind_and_none_that_is_near_waits_for_them() {
    let place = place();
    let queue = Options::new().open(&place.path).unwrap();
    let far: Vec<_> = (0..1_000).map(|_| Task::new("far").delay(YEAR)).collect();
    for _ in 0..70 {
        queue.enqueue_batch(&far).unwrap();
    }
    let near = queue.enqueue(Task::new("near").delay(SOON)).unwrap();
    let consumer = queue.consumer();
    let delivery = one(&consumer);
    assert_eq!(delivery.id(), near);
    delivery.ack().unwrap();
    let stats = queue.stats();
    assert_eq!(stats.groups[0].lanes[0].delayed, 70_000);
    assert!(stats.scratch_bytes > 1 << 20, "a run of them is not in memory");
    let names = || std::fs::read_dir(&place.path).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names().all(|name| name != "scratch"), "what they take has no name");
    drop((consumer, queue));
    // As a process leaves it that dies in the moment between making the file and taking its name away.
    std::fs::write(place.path.join("scratch"), [0; 4096]).unwrap();
    assert!(lanelog::inspect(&place.path).unwrap().verify().is_empty(), "it is no damage");
    let queue = Queue::open(&place.path).unwrap();
    assert!(queue.damage().is_empty());
    assert!(nothing(&queue.consumer()), "they are met again, and put away again");
    assert!(names().all(|name| name != "scratch"));
    assert_eq!(queue.stats().groups[0].lanes[0].delayed, 70_000);
}
