//! Promise: many threads at once change nothing of the others. Each accepted task is settled once in each group, whoever
//! else enqueues, settles, makes checkpoints and groups, or looks; and a close among all that keeps what was accepted.
//!
//! Bounded by counts. `.ci/tsan` runs it under ThreadSanitizer.
#![expect(clippy::disallowed_methods, reason = "a test's threads need no names, and a watchdog measures real time")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a helper fails the test that called it"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lanelog::{
    Consumer, ConsumerOptions, Delivery, Durability, Error, LaneId, Queue, Reserve, Start, Task, TaskId, inspect,
};
use support::{place, small};

/// Tasks of each producer.
const TASKS: usize = 1000;
/// After which nobody waits any longer.
const PATIENCE: Duration = Duration::from_secs(120);
/// No lease runs out by itself here.
const LEASE: Duration = Duration::from_secs(3600);

/// A lock whose order ThreadSanitizer sees: it does not see the standard library's own, where a thread has to wait.
#[derive(Default)]
struct Ordered<T>(Mutex<T>, AtomicUsize);

impl<T> Ordered<T> {
    fn with<R>(&self, look: impl FnOnce(&mut T) -> R) -> R {
        let mut guard = self.0.lock().unwrap();
        self.1.load(Ordering::Acquire);
        let given = look(&mut guard);
        self.1.fetch_add(1, Ordering::Release);
        given
    }
}

/// What was told of the tasks, by everybody.
#[derive(Default)]
struct Told {
    accepted: Ordered<BTreeMap<TaskId, String>>,
    /// By group: what is on loan, acked, dead.
    groups: [Ordered<Seen>; 2],
    producing: AtomicUsize,
    over: AtomicBool,
}

#[derive(Default)]
struct Seen {
    on_loan: BTreeSet<TaskId>,
    acked: BTreeSet<TaskId>,
    dead: BTreeSet<TaskId>,
}

/// The default group, and one that was made before the first task.
const GROUPS: [&str; 2] = ["default", "audit"];

impl Told {
    fn settled(&self, group: usize) -> usize {
        self.groups[group].with(|seen| seen.acked.len() + seen.dead.len())
    }

    /// True once every task that will ever be accepted is settled.
    fn is_done(&self, group: usize) -> bool {
        self.producing.load(Ordering::SeqCst) == 0
            && self.settled(group) == self.accepted.with(|accepted| accepted.len())
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).max(2)
}

/// Waits for threads as long as there is patience.
fn join<T>(threads: Vec<JoinHandle<T>>) -> Vec<T> {
    let begin = Instant::now();
    while !threads.iter().all(JoinHandle::is_finished) {
        assert!(begin.elapsed() < PATIENCE, "a thread hangs");
        std::thread::park_timeout(Duration::from_millis(5));
    }
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

/// Enqueues in all forms.
fn produce(queue: &Queue, told: &Told, number: usize) {
    let text = |task: usize| format!("{number}-{task}-{}", "x".repeat(task % 97));
    let mut task = 0;
    while task < TASKS {
        let lane = LaneId(u8::try_from(task % 3).unwrap());
        let payload = text(task);
        let ids = match task % 8 {
            0 => vec![queue.enqueue(Task::new(&payload).lane(lane)).unwrap()],
            1 => vec![queue.submit(Task::new(&payload).lane(lane).header("n", &payload)).unwrap().wait().unwrap()],
            2 => {
                let payloads: Vec<String> = (task..task + 4).map(text).collect();
                queue.producer().lane(lane).enqueue_batch(&payloads).unwrap()
            }
            _ => vec![queue.enqueue(Task::new(&payload).lane(lane).durability(Durability::Process)).unwrap()],
        };
        told.accepted.with(|accepted| {
            for (at, id) in (task..).zip(&ids) {
                assert!(accepted.insert(*id, text(at)).is_none(), "{id} was given out twice");
            }
        });
        task += ids.len();
    }
    told.producing.fetch_sub(1, Ordering::SeqCst);
}

/// Takes and settles in all ways, until all is settled.
fn consume(consumer: &Consumer, queue: &Queue, told: &Told, group: usize) {
    let begin = Instant::now();
    let mut turn = 0_usize;
    while !told.is_done(group) {
        assert!(begin.elapsed() < PATIENCE, "{} of {GROUPS:?} stands still", GROUPS[group]);
        turn += 1;
        let ask = Reserve::new().tasks(1 + turn % 7).wait(Duration::from_millis(5));
        let taken = consumer.reserve(ask).unwrap();
        told.groups[group].with(|seen| {
            for delivery in &taken {
                assert!(seen.on_loan.insert(delivery.id()), "{} is on loan twice", delivery.id());
                assert!(!seen.acked.contains(&delivery.id()), "{} was acked", delivery.id());
            }
        });
        taken.into_iter().enumerate().for_each(|(at, delivery)| settle(delivery, queue, told, group, turn + at));
    }
}

fn settle(delivery: Delivery, queue: &Queue, told: &Told, group: usize, turn: usize) {
    let id = delivery.id();
    // It may come again the moment that it is settled, so what is settled for good is noted before.
    let (comes_again, rejected) = (turn.is_multiple_of(13), turn.is_multiple_of(31));
    told.groups[group].with(|seen| {
        assert!(seen.on_loan.remove(&id));
        if !comes_again {
            let for_good = if rejected { &mut seen.dead } else { &mut seen.acked };
            assert!(for_good.insert(id), "{id} is settled twice");
        }
    });
    match turn % 13 {
        0 if turn.is_multiple_of(2) => delivery.nack(Some(Duration::ZERO), "again").unwrap(),
        0 => delivery.release().unwrap(),
        _ if rejected => delivery.reject("no").unwrap(),
        1 => queue.ack(&delivery.detach()).unwrap(),
        2 => delivery.ack().unwrap(),
        _ => drop(delivery.submit_ack().unwrap()),
    }
}

/// Looks in all ways, makes checkpoints and groups, until the others are done.
fn keep_house(queue: &Queue, path: &std::path::Path, told: &Told) {
    let mut turn = 0;
    while !told.over.load(Ordering::SeqCst) {
        queue.checkpoint().unwrap();
        let stats = queue.stats();
        assert!(stats.lanes.iter().all(|lane| lane.durable <= lane.published), "{stats:?}");
        assert_eq!((queue.damage(), queue.pins().held.len() < 1000), (Vec::new(), true));
        assert!(queue.dead_letters("default").unwrap().len() <= queue.groups().len() * TASKS * cores());
        if turn < 4 {
            queue
                .create_group(&format!("late-{turn}"), if turn % 2 == 0 { Start::Oldest } else { Start::Newest })
                .unwrap();
        }
        // Beside the open queue this is of some recent moment, and a file may go while it is read.
        let _some_moment = inspect(path).map(|seen| seen.stats());
        turn += 1;
    }
}

#[test]
fn every_task_is_settled_once_in_each_group_whatever_else_goes_on() {
    let place = place();
    let queue = small().lease(LEASE).open(&place.path).unwrap();
    queue.create_group(GROUPS[1], Start::Oldest).unwrap();
    let told = Arc::new(Told::default());
    told.producing.store(cores(), Ordering::SeqCst);
    let mut threads = Vec::new();
    for number in 0..cores() {
        let (queue, told) = (queue.clone(), Arc::clone(&told));
        threads.push(std::thread::spawn(move || produce(&queue, &told, number)));
    }
    for number in 0..cores() + 1 {
        let (queue, told, group) = (queue.clone(), Arc::clone(&told), usize::from(number == 0));
        let durability = if number % 2 == 0 { Durability::Process } else { Durability::Power };
        let consumer = queue.consumer_of(GROUPS[group], ConsumerOptions::new().durability(durability)).unwrap();
        threads.push(std::thread::spawn(move || consume(&consumer, &queue, &told, group)));
    }
    let house = {
        let (queue, told, path) = (queue.clone(), Arc::clone(&told), place.path.clone());
        std::thread::spawn(move || keep_house(&queue, &path, &told))
    };
    join(threads);
    told.over.store(true, Ordering::SeqCst);
    join(vec![house]);
    check(&queue, &told);
    hold_over_a_close(queue, &place.path);
}

fn check(queue: &Queue, told: &Told) {
    let accepted: BTreeSet<TaskId> = told.accepted.with(|accepted| accepted.keys().copied().collect());
    assert_eq!(accepted.len(), TASKS * cores());
    for (name, seen) in GROUPS.iter().zip(&told.groups) {
        let seen = seen.with(std::mem::take);
        assert!(seen.acked.is_disjoint(&seen.dead) && seen.on_loan.is_empty(), "{name}");
        assert!(seen.acked.union(&seen.dead).eq(&accepted), "{name}: each is settled");
        let dead: BTreeSet<TaskId> = queue.dead_letters(name).unwrap().iter().map(|letter| letter.id).collect();
        assert_eq!(dead, seen.dead, "{name}");
        let stats = queue.stats();
        let group = stats.groups.iter().find(|group| group.name == *name).unwrap();
        assert!(group.lanes.iter().all(|lane| lane.depth == 0 && lane.in_flight == 0), "{group:?}");
    }
}

/// Closes while deliveries are out: they keep their bytes, and come again.
fn hold_over_a_close(queue: Queue, path: &std::path::Path) {
    let ids: BTreeSet<TaskId> = (0..5).map(|n| queue.enqueue(Task::new(&format!("held {n}"))).unwrap()).collect();
    let consumer = queue.consumer();
    let mut held = Vec::new();
    while held.len() < 5 {
        held.extend(consumer.reserve(Reserve::new().tasks(5).wait(PATIENCE)).unwrap());
    }
    let report = queue.clone().close().unwrap();
    assert_eq!(report.in_flight, 5);
    assert!(held.iter().all(|delivery| delivery.payload().starts_with(b"held ")), "a borrowed payload stays");
    assert!(matches!(queue.enqueue(Task::new("late")), Err(Error::Closed)));
    drop((held, consumer, queue));
    let queue = Queue::open(path).unwrap();
    let again = queue.consumer().reserve(Reserve::new().tasks(9)).unwrap();
    assert_eq!(again.iter().map(Delivery::id).collect::<BTreeSet<_>>(), ids, "and nothing else");
    assert!(again.iter().all(|delivery| delivery.attempt() == 2), "the attempts that began are counted");
}

#[test]
fn close_among_producers_keeps_what_was_accepted() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let producers = (0..cores())
        .map(|number| {
            let (queue, accepted) = (queue.clone(), Arc::clone(&accepted));
            std::thread::spawn(move || until_closed(&queue, &accepted, number))
        })
        .collect();
    let begin = Instant::now();
    while accepted.load(Ordering::SeqCst) < 200 {
        assert!(begin.elapsed() < PATIENCE, "nothing is accepted");
        std::thread::yield_now();
    }
    queue.close().unwrap();
    let told: BTreeSet<String> = join(producers).into_iter().flatten().collect();
    let queue = Queue::open(&place.path).unwrap();
    assert_eq!(support::texts(&support::drain(&queue)), told, "what was accepted, and nothing that was refused");
}

/// What one producer was told to be accepted.
fn until_closed(queue: &Queue, accepted: &AtomicUsize, number: usize) -> Vec<String> {
    let mut told = Vec::new();
    loop {
        let payload = format!("{number}-{}", told.len());
        let durability = if told.len() % 2 == 0 { Durability::Power } else { Durability::Process };
        match queue.enqueue(Task::new(&payload).durability(durability)) {
            Ok(_) => told.push(payload),
            Err(Error::Closed) => return told,
            Err(error) => panic!("neither accepted nor refused: {error}"),
        }
        accepted.fetch_add(1, Ordering::SeqCst);
    }
}
