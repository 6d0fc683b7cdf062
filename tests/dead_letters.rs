//! Feature: dead letters. What used up its attempts, expired or was rejected is kept with its reason, until it is redriven
//! or dropped; a task can be set aside by hand, and that lifted. Each move is there wholly or not, over any death.

mod support;

use std::time::Duration;

use lanelog::{
    Backoff, Bound, DeadCause, DeadFilter, DeadLettersMax, Error, LaneId, Queue, Reserve, Start, Task, TaskId,
    TaskState,
};
use support::{as_a_death_leaves_it, drain, nothing, one, place, small};

/// Kills a task for each text: rejected with the text as the reason.
#[expect(clippy::unwrap_used, reason = "a helper fails the test that called it")]
fn bury(queue: &Queue, texts: &[&str]) -> Vec<TaskId> {
    let ids = texts.iter().map(|text| queue.enqueue(Task::new(*text)).unwrap()).collect();
    for text in texts {
        one(&queue.consumer()).reject(&format!("because of {text}")).unwrap();
    }
    ids
}

#[test]
fn a_dead_letter_says_what_when_why_and_after_how_many_attempts_and_can_be_looked_at() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    let id = queue.enqueue(Task::new("doomed").lane(LaneId(2)).header("tenant", "acme")).unwrap();
    one(&queue.consumer()).nack(Some(Duration::ZERO), "first").unwrap();
    one(&queue.consumer()).reject("hopeless").unwrap();
    let dead = queue.dead_letters("default").unwrap();
    assert_eq!(dead.len(), 1);
    let letter = &dead[0];
    assert_eq!((letter.id, letter.attempts, letter.cause), (id, 2, DeadCause::Rejected));
    assert_eq!((letter.reason.as_str(), letter.bytes, letter.id.lane()), ("hopeless", 6, LaneId(2)));
    let record = queue.task(id).unwrap().unwrap();
    assert_eq!((record.payload.as_ref(), record.headers[0].0.as_str()), (b"doomed".as_ref(), "tenant"));
    assert!(matches!(&record.states[0].1, TaskState::Dead { attempts: 2, reason, .. } if reason == "hopeless"));
    assert!(record.enqueued <= letter.at);
}

#[test]
fn a_redriven_task_comes_again_before_the_backlog_with_all_its_attempts_before_it() {
    let place = place();
    let queue = small().max_attempts(2).backoff(Backoff::fixed(Duration::ZERO)).open(&place.path).unwrap();
    let id = queue.enqueue(Task::new("again")).unwrap();
    for _ in 0..2 {
        one(&queue.consumer()).nack(None, "no").unwrap();
    }
    queue.enqueue(Task::new("backlog")).unwrap();
    assert!(queue.redrive("default", &DeadFilter::new().ids([id])).unwrap() == 1);
    assert!(queue.dead_letters("default").unwrap().is_empty());
    for attempt in 1..=2 {
        let delivery = one(&queue.consumer());
        assert_eq!((delivery.id(), delivery.attempt()), (id, attempt));
        delivery.nack(None, "still no").unwrap();
    }
    assert_eq!(queue.dead_letters("default").unwrap()[0].reason, "still no");
}

#[test]
fn filters_pick_by_lane_cause_reason_age_id_and_number() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    let ids = bury(&queue, &["a", "b", "c"]);
    queue.enqueue(Task::new("d").lane(LaneId(1)).max_attempts(1)).unwrap();
    one(&queue.consumer()).nack(None, "because of d").unwrap();
    let count = |filter: DeadFilter| queue.dead_letters_that("default", &filter).unwrap().len();
    assert_eq!(count(DeadFilter::new()), 4);
    assert_eq!(count(DeadFilter::new().lane(LaneId(1))), 1);
    assert_eq!(count(DeadFilter::new().cause(DeadCause::Rejected)), 3);
    assert_eq!(count(DeadFilter::new().reason("of b")), 1);
    assert_eq!(count(DeadFilter::new().ids(ids[..2].to_vec())), 2);
    assert_eq!(count(DeadFilter::new().limit(3)), 3);
    assert_eq!(count(DeadFilter::new().died_before(lanelog::Timestamp(1))), 0);
    assert_eq!(queue.redrive("default", &DeadFilter::new().reason("of b")).unwrap(), 1);
    assert_eq!(one(&queue.consumer()).payload(), b"b");
}

#[test]
fn moves_hold_over_reopens_and_their_checkpoints() {
    let place = place();
    let mut queue = small().open(&place.path).unwrap();
    let ids = bury(&queue, &["stays", "comes back", "goes"]);
    for checkpoint in [false, true] {
        if checkpoint {
            queue.checkpoint().unwrap();
        }
        drop(queue);
        queue = Queue::open(&place.path).unwrap();
        assert_eq!(queue.dead_letters("default").unwrap().len(), 3);
    }
    // After a reopen the cursor has not met them yet.
    assert_eq!(queue.redrive("default", &DeadFilter::new().ids([ids[1]])).unwrap(), 1);
    assert_eq!(queue.drop_dead_letters("default", &DeadFilter::new().ids([ids[2]])).unwrap(), 1);
    assert_eq!(queue.redrive("default", &DeadFilter::new().ids([ids[2]])).unwrap(), 0, "it is dead no more");
    for checkpoint in [false, true, true] {
        if checkpoint {
            queue.checkpoint().unwrap();
        }
        drop(queue);
        queue = Queue::open(&place.path).unwrap();
        let left: Vec<TaskId> = queue.dead_letters("default").unwrap().iter().map(|letter| letter.id).collect();
        assert_eq!(left, [ids[0]]);
    }
    assert_eq!(drain(&queue), [b"comes back"]);
}

#[test]
fn dropped_letters_let_go_of_their_segments() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    let text = "x".repeat(600);
    bury(&queue, &[text.as_str(); 30]);
    drain(&queue);
    let held = queue.stats().lanes[0].segments;
    assert!(held > 4, "{held} segments");
    assert_eq!(queue.drop_dead_letters("default", &DeadFilter::new()).unwrap(), 30);
    queue.checkpoint().unwrap();
    assert!(queue.stats().lanes[0].segments <= 2, "{:?}", queue.stats().lanes);
}

#[test]
fn beyond_their_bounds_the_oldest_go_and_are_counted() {
    let place = place();
    let bounds = DeadLettersMax { tasks: Some(2), ..DeadLettersMax::default() };
    let queue = small().dead_letters_max(bounds).open(&place.path).unwrap();
    let ids = bury(&queue, &["a", "b", "c", "d"]);
    let left: Vec<TaskId> = queue.dead_letters("default").unwrap().iter().map(|letter| letter.id).collect();
    assert_eq!(left, ids[2..]);
    assert_eq!(queue.stats().groups[0].dead_dropped, 2);
    drop(queue);
    let queue = small().dead_letters_max(DeadLettersMax { bytes: Some(1), ..bounds }).open(&place.path).unwrap();
    bury(&queue, &["e"]);
    let left: Vec<_> = queue.dead_letters("default").unwrap().iter().map(|letter| letter.reason.clone()).collect();
    assert_eq!(left, ["because of e"]);
}

#[test]
fn letters_that_are_too_old_go_by_themselves() {
    let place = place();
    let bounds = DeadLettersMax { age: Some(Duration::from_millis(50)), ..DeadLettersMax::default() };
    let queue = small().dead_letters_max(bounds).open(&place.path).unwrap();
    bury(&queue, &["a"]);
    while !queue.dead_letters("default").unwrap().is_empty() {
        std::thread::yield_now();
    }
    assert_eq!(queue.stats().groups[0].dead_dropped, 1);
    assert!(nothing(&queue.consumer()));
}

#[test]
fn a_parked_task_is_not_handed_out_until_it_is_kicked_and_keeps_its_attempts() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    let waiting = queue.enqueue(Task::new("waiting")).unwrap();
    let leased = queue.enqueue(Task::new("leased")).unwrap();
    assert!(queue.park("default", waiting, "until monday").unwrap());
    let delivery = one(&queue.consumer());
    assert_eq!(delivery.id(), leased);
    assert!(!queue.park("default", leased, "on loan").unwrap(), "what is on loan is parked by its receipt");
    delivery.park("needs a look").unwrap();
    for _ in 0..2 {
        assert!(nothing(&queue.consumer()));
        let parked = queue.parked("default").unwrap();
        let told: Vec<_> = parked.iter().map(|one| (one.id, one.attempts, one.reason.as_str())).collect();
        assert_eq!(told, [(waiting, 0, "until monday"), (leased, 1, "needs a look")]);
        assert!(queue.dead_letters("default").unwrap().is_empty(), "parked is not dead");
        queue.checkpoint().unwrap();
    }
    assert_eq!(queue.stats().groups[0].lanes[0].parked, 2);
    drop(queue);
    let queue = Queue::open(&place.path).unwrap();
    assert!(nothing(&queue.consumer()));
    assert_eq!(queue.kick("default", &DeadFilter::new()).unwrap(), 2);
    let told: Vec<_> = queue.consumer().reserve(Reserve::new().tasks(9)).unwrap();
    let told: Vec<_> = told.iter().map(|one| (one.id(), one.attempt(), one.last_reason().to_owned())).collect();
    assert_eq!(told, [(waiting, 1, String::new()), (leased, 2, "needs a look".to_owned())]);
}

#[test]
fn a_dead_letter_goes_to_another_lane_as_a_new_task_for_its_group_alone() {
    let place = place();
    let queue = small().max_attempts(2).open(&place.path).unwrap();
    queue.create_group("mailers", Start::Oldest).unwrap();
    let task = Task::new("a").lane(LaneId(1)).key("k").header("tenant", "acme").delay(Duration::from_millis(1));
    let old = queue.enqueue(task).unwrap();
    one(&queue.consumer()).reject("wrong place").unwrap();
    let mailers = queue.consumer_of("mailers", lanelog::ConsumerOptions::new()).unwrap();
    one(&mailers).ack().unwrap();

    let ids = queue.redrive_to("default", &DeadFilter::new(), LaneId(2)).unwrap();
    assert_eq!((ids.len(), ids[0].lane()), (1, LaneId(2)));
    assert!(queue.dead_letters("default").unwrap().is_empty());
    assert!(queue.redrive_to("default", &DeadFilter::new(), LaneId(2)).unwrap().is_empty());
    // Nothing waits for its durability any more: a death changes nothing.
    let queue = small().max_attempts(2).open(as_a_death_leaves_it(&place)).unwrap();
    let record = queue.task(ids[0]).unwrap().unwrap();
    assert_eq!((record.origin, record.key.as_deref(), record.run_at), (Some(old), Some(b"k".as_slice()), None));
    assert_eq!(record.headers, [("tenant".to_owned(), b"acme".to_vec())]);
    assert_eq!(record.states.iter().map(|(group, _)| group.as_str()).collect::<Vec<_>>(), ["default"]);
    let mailers = queue.consumer_of("mailers", lanelog::ConsumerOptions::new()).unwrap();
    assert!(nothing(&mailers), "it is for the group that had given up on it");
    let delivery = one(&queue.consumer());
    assert_eq!((delivery.id(), delivery.attempt(), delivery.payload()), (ids[0], 1, b"a".as_ref()));
    delivery.reject("here too").unwrap();
    let again = queue.redrive_to("default", &DeadFilter::new().lane(LaneId(2)), LaneId(2)).unwrap();
    assert_eq!(queue.task(again[0]).unwrap().unwrap().origin, Some(ids[0]), "in its own lane as well");
    one(&queue.consumer()).ack().unwrap();
    assert!(nothing(&mailers));
    let lanes: Vec<_> = queue.stats().groups.into_iter().flat_map(|group| group.lanes).collect();
    assert!(lanes.iter().all(|lane| lane.depth == 0), "{lanes:?}");
}

#[test]
fn a_dead_letter_that_finds_no_room_or_no_lane_stays_a_dead_letter() {
    let place = place();
    let options = small().append_wait(Duration::from_secs(3)).lane_bound(LaneId(1), Bound::new().tasks(1));
    let queue = options.open(&place.path).unwrap();
    bury(&queue, &["a", "b"]);
    assert!(matches!(queue.redrive_to("default", &DeadFilter::new(), LaneId(9)), Err(Error::NoSuchLane { .. })));
    assert!(matches!(queue.redrive_to("nobody", &DeadFilter::new(), LaneId(1)), Err(Error::NoSuchGroup { .. })));
    assert!(matches!(queue.redrive_to("default", &DeadFilter::new(), LaneId(1)), Err(Error::OverBound { .. })));
    assert_eq!(queue.dead_letters("default").unwrap().len(), 1, "the first had room");
    assert_eq!(one(&queue.consumer()).payload(), b"a");
}

#[test]
fn each_group_has_dead_letters_of_its_own() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    queue.create_group("mailers", Start::Oldest).unwrap();
    bury(&queue, &["a"]);
    assert!(queue.dead_letters("mailers").unwrap().is_empty());
    let mailers = queue.consumer_of("mailers", lanelog::ConsumerOptions::new()).unwrap();
    one(&mailers).ack().unwrap();
    assert_eq!(queue.redrive("mailers", &DeadFilter::new()).unwrap(), 0);
    assert_eq!(queue.redrive("default", &DeadFilter::new()).unwrap(), 1);
    assert!(matches!(queue.redrive("nobody", &DeadFilter::new()), Err(Error::NoSuchGroup { .. })));
}
