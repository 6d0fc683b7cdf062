//! A snapshot is a queue of its own, and neither it nor the queue that it was taken of does the other any harm.
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use lanelog::{
    ConsumerOptions, DamageKind, Durability, Error, LaneId, Options, Queue, Reserve, Retention, Start, Task, inspect,
};
use support::{drain, one, place, small, texts};

/// What does not verify, torn ends aside.
fn damage(path: &Path) -> Vec<lanelog::Damage> {
    let found = inspect(path).unwrap().verify();
    found.into_iter().filter(|damage| damage.kind != DamageKind::Torn).collect()
}

fn enqueue(queue: &Queue, lane: u8, text: &str, durability: Durability) {
    queue.enqueue(Task::new(text.as_bytes()).lane(LaneId(lane)).durability(durability)).unwrap();
}

#[test]
fn everything_that_was_told_before_is_in_a_snapshot_as_it_was() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    queue.create_group("audit", Start::Oldest).unwrap();
    for number in 0..200 {
        enqueue(&queue, number % 3, &format!("task {number}"), Durability::Process);
    }
    let consumer = queue.consumer_of("default", ConsumerOptions::new().durability(Durability::Process)).unwrap();
    let mut acked = BTreeSet::new();
    for _ in 0..90 {
        let delivery = one(&consumer);
        acked.insert(String::from_utf8(delivery.payload().to_vec()).unwrap());
        delivery.ack().unwrap();
    }
    let dead = one(&consumer);
    let letter = dead.id();
    dead.reject("no good").unwrap();
    let on_loan = one(&consumer);
    let first = queue.enqueue(Task::new(b"once").dedup_id("id")).unwrap();
    queue.enqueue(Task::new(b"later").delay(Duration::from_secs(3600))).unwrap();
    queue.set_retention("audit", Retention::new().tasks(1_000)).unwrap();
    queue.pause_lane(LaneId(2)).unwrap();

    let to = place.path.with_extension("copy");
    queue.snapshot(&to).unwrap();

    assert_eq!(damage(&to), []);
    let copy = Queue::open(&to).unwrap();
    assert!(copy.damage().is_empty(), "{:?}", copy.damage());
    assert_eq!((copy.id(), copy.groups()), (queue.id(), queue.groups()));
    assert_eq!(copy.enqueue(Task::new(b"twice").dedup_id("id")).unwrap(), first);
    assert_eq!(copy.stats().paused_lanes, [LaneId(2)]);
    assert_eq!(copy.retention("audit").unwrap(), Retention::new().tasks(1_000));
    let letters = copy.dead_letters("default").unwrap();
    assert_eq!(letters.iter().map(|one| (one.id, one.reason.as_str())).collect::<Vec<_>>(), [(letter, "no good")]);
    copy.resume_lane(LaneId(2)).unwrap();
    let comes = texts(&drain(&copy));
    let text = |payload: &[u8]| String::from_utf8(payload.to_vec()).unwrap();
    assert!(comes.contains(&text(on_loan.payload())), "what is on loan comes again");
    assert!(!comes.contains("later"));
    assert_eq!(comes.intersection(&acked).count(), 0);
    assert_eq!(comes.len() + acked.len(), 200 - 1 + 1);
}

/// What callers were told.
#[derive(Default)]
struct Told {
    accepted: Mutex<BTreeSet<u32>>,
    acked: Mutex<BTreeSet<u32>>,
    /// Acks whose calls did not return yet: they took effect or not.
    acking: Mutex<BTreeSet<u32>>,
    next: AtomicU32,
    stop: AtomicBool,
}

impl Told {
    fn produce(&self, queue: &Queue, lane: u8, durability: Durability) {
        while !self.stop.load(Ordering::SeqCst) {
            let number = self.next.fetch_add(2, Ordering::SeqCst);
            if number.is_multiple_of(8) {
                let mut both = queue.transaction().durability(durability);
                both.enqueue(Task::new(&payload(number)).lane(LaneId(lane))).unwrap();
                both.enqueue(Task::new(&payload(number + 1)).lane(LaneId((lane + 1) % 3))).unwrap();
                both.commit().unwrap();
                self.accepted.lock().unwrap().extend([number, number + 1]);
            } else {
                let task = payload(number);
                queue.enqueue(Task::new(&task).lane(LaneId(lane)).durability(durability)).unwrap();
                self.accepted.lock().unwrap().insert(number);
            }
        }
    }

    fn consume(&self, queue: &Queue, durability: Durability) {
        let consumer = queue.consumer_of("default", ConsumerOptions::new().durability(durability)).unwrap();
        while !self.stop.load(Ordering::SeqCst) {
            for delivery in consumer.reserve(Reserve::new().tasks(3).wait(Duration::from_millis(5))).unwrap() {
                let number = number_of(delivery.payload());
                self.acking.lock().unwrap().insert(number);
                delivery.ack().unwrap();
                self.acked.lock().unwrap().insert(number);
            }
        }
    }
}

fn payload(number: u32) -> Vec<u8> {
    let mut payload = number.to_le_bytes().to_vec();
    payload.resize(40 + (number % 300) as usize, u8::try_from(number % 251).unwrap());
    payload
}

fn number_of(bytes: &[u8]) -> u32 {
    let number = u32::from_le_bytes(bytes.get(..4).unwrap().try_into().unwrap());
    assert_eq!(bytes, payload(number), "a task comes as it was accepted");
    number
}

/// What comes of a copy that was made while others worked. `before`: what was accepted and acked before it began.
fn account(comes: &[u32], before: (&BTreeSet<u32>, &BTreeSet<u32>), told: &Told) {
    let twice: BTreeSet<u32> = comes.iter().copied().collect();
    assert_eq!(twice.len(), comes.len(), "a task comes twice");
    let acking = told.acking.lock().unwrap();
    let began = told.next.load(Ordering::SeqCst);
    for number in &twice {
        assert!(*number < began + 2, "task {number} was never enqueued");
        assert!(!before.1.contains(number), "task {number} was acked before, and comes");
    }
    for number in before.0.difference(&acking) {
        assert!(twice.contains(number), "task {number} was accepted before and is lost");
    }
    for number in twice.iter().filter(|number| number.is_multiple_of(8)) {
        let other = number + 1;
        assert!(twice.contains(&other) || acking.contains(&other), "half of a transaction: {number} and not {other}");
    }
}

/// Runs `copy` a few times on a busy queue; it makes a copy and gives what comes of it.
fn while_others_work(rounds: u32, copy: impl Fn(&Queue, &Path, u32) -> Option<Vec<u32>>) {
    let place = place();
    let queue = small().checkpoint_interval(Duration::from_millis(20)).open(&place.path).unwrap();
    let told = Told::default();
    std::thread::scope(|scope| {
        for (lane, durability) in [(0, Durability::Process), (1, Durability::Power), (2, Durability::Process)] {
            let (told, queue) = (&told, &queue);
            scope.spawn(move || told.produce(queue, lane, durability));
            scope.spawn(move || told.consume(queue, durability));
        }
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..rounds {
                support::wait_over(Duration::from_millis(60));
                let accepted = told.accepted.lock().unwrap().clone();
                let acked = told.acked.lock().unwrap().clone();
                if let Some(comes) = copy(&queue, &place.path, round) {
                    account(&comes, (&accepted, &acked), &told);
                }
            }
        }));
        told.stop.store(true, Ordering::SeqCst);
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    assert_eq!(damage(&place.path), []);
}

fn numbers(payloads: &[Vec<u8>]) -> Vec<u32> {
    payloads.iter().map(|payload| number_of(payload)).collect()
}

#[test]
fn producers_and_consumers_go_on_and_every_task_is_accounted_for() {
    while_others_work(12, |queue, path, round| {
        let to = path.with_extension(round.to_string());
        queue.snapshot(&to).unwrap();
        assert_eq!(inspect(&to).unwrap().verify(), [], "a snapshot has not even torn ends");
        let copy = Queue::open(&to).unwrap();
        assert!(copy.damage().is_empty(), "{:?}", copy.damage());
        Some(numbers(&drain(&copy)))
    });
}

#[test]
fn a_raw_copy_of_a_live_directory_opens_or_says_what_is_wrong() {
    let (opened, sound) = (AtomicU32::new(0), AtomicU32::new(0));
    while_others_work(20, |_, path, round| {
        let to = path.with_extension(round.to_string());
        std::fs::create_dir(&to).unwrap();
        for entry in std::fs::read_dir(path).unwrap() {
            // What goes away between the look and the copy is as a copy tool finds it.
            let name = entry.unwrap().file_name();
            let _gone = std::fs::copy(path.join(&name), to.join(&name));
            // Long enough that checkpoints come between, and files go and come again.
            support::wait_over(Duration::from_micros(u64::from(round % 4) * 700));
        }
        let copy = match Queue::open(&to) {
            Ok(copy) => copy,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                return None;
            }
        };
        opened.fetch_add(1, Ordering::SeqCst);
        let comes = numbers(&drain(&copy));
        let is_sound = copy.damage().iter().all(|damage| damage.kind == DamageKind::Torn && damage.lost.is_none());
        sound.fetch_add(u32::from(is_sound), Ordering::SeqCst);
        is_sound.then_some(comes)
    });
    let [opened, sound] = [opened, sound].map(AtomicU32::into_inner);
    assert!(opened > 0, "none of the copies opened");
    eprintln!("{opened} of 20 copies opened, {sound} of them without damage");
}

#[test]
fn the_queue_and_its_snapshot_live_on_apart() {
    let place = place();
    let queue = small().checkpoint_interval(Duration::from_millis(20)).open(&place.path).unwrap();
    let fill = |queue: &Queue, from: u32, to: u32| {
        for number in from..to {
            queue.enqueue(Task::new(&payload(number)).lane(LaneId(0)).durability(Durability::Process)).unwrap();
        }
    };
    fill(&queue, 0, 200);
    let to = place.path.with_extension("copy");
    queue.snapshot(&to).unwrap();
    let copy = Queue::open(&to).unwrap();
    for round in 1..=5 {
        // Everything goes, so that segments are recycled on both sides; the other one is looked at between.
        for (one, other) in [(&queue, &to), (&copy, &place.path)] {
            let comes = numbers(&drain(one));
            let expected: Vec<u32> =
                if round == 1 { (0..200).collect() } else { (1_000 * round..1_000 * round + 150).collect() };
            assert_eq!(comes, expected);
            one.checkpoint().unwrap();
            one.checkpoint().unwrap();
            fill(one, 1_000 * (round + 1), 1_000 * (round + 1) + 150);
            one.sync().unwrap();
            assert_eq!(damage(other), []);
        }
    }
    assert!(queue.stats().recycled + queue.stats().removed > 10 && copy.stats().recycled + copy.stats().removed > 10);
    queue.close().unwrap();
    copy.close().unwrap();
    let (queue, copy) = (Queue::open(&place.path).unwrap(), Queue::open(&to).unwrap());
    assert!(queue.damage().is_empty() && copy.damage().is_empty());
    assert_eq!(drain(&queue), drain(&copy));
}

#[test]
fn a_place_that_will_not_do_is_refused_before_anything_is_written() {
    let place = place();
    let queue = Options::new().open(&place.path).unwrap();
    enqueue(&queue, 0, "kept", Durability::Power);
    let beside = place.path.with_extension("other");
    let refused = |to: &Path, why: &str| match queue.snapshot(to).unwrap_err() {
        Error::SnapshotTarget { why: said, .. } => assert!(said.contains(why), "{said}"),
        other => panic!("{other:?}"),
    };
    refused(&place.path, "own directory");
    refused(&place.path.join("inside"), "own directory");
    refused(&place.path.join("..").join("queue").join("deep").join("inside"), "own directory");
    std::os::unix::fs::symlink(&place.path, &beside).unwrap();
    refused(&beside.join("inside"), "own directory");
    std::fs::remove_file(&beside).unwrap();
    std::fs::write(&beside, "text").unwrap();
    refused(&beside, "no directory");
    std::fs::remove_file(&beside).unwrap();
    std::fs::create_dir(&beside).unwrap();
    std::fs::write(beside.join("letter"), "text").unwrap();
    refused(&beside, "letter");
    assert_eq!(std::fs::read_dir(&beside).unwrap().count(), 1);
    std::fs::remove_file(beside.join("letter")).unwrap();
    queue.snapshot(&beside).unwrap();
    refused(&beside, "name a directory that is not there yet");
    assert!(!place.path.join("inside").exists());
    enqueue(&queue, 0, "goes on", Durability::Power);
    assert_eq!(drain(&queue).len(), 2);
}

#[test]
fn a_queue_that_is_closed_or_can_only_be_looked_at_gives_no_snapshot() {
    let place = place();
    let to = place.path.with_extension("copy");
    let queue = Options::new().open(&place.path).unwrap();
    let other = queue.clone();
    // Somebody who may only look has no queue to take it of, and opening one is refused while this one is open.
    let refused = Queue::open(&place.path).map(drop).unwrap_err();
    assert!(matches!(refused, Error::Locked { .. }), "{refused}");
    queue.close().unwrap();
    assert!(matches!(other.snapshot(&to), Err(Error::Closed)));
    assert!(!to.exists());
}

#[test]
fn a_snapshot_that_was_not_finished_is_no_queue() {
    let place = place();
    let queue = Options::new().open(&place.path).unwrap();
    enqueue(&queue, 0, "task", Durability::Power);
    let to = place.path.with_extension("copy");
    queue.snapshot(&to).unwrap();
    std::fs::write(to.join("UNFINISHED-SNAPSHOT"), "").unwrap();
    for refused in [Queue::open(&to).map(drop), inspect(&to).map(drop)] {
        let error = refused.unwrap_err();
        assert!(matches!(&error, Error::NotAQueue { why, .. } if why.contains("never finished")), "{error}");
    }
    std::fs::remove_file(to.join("UNFINISHED-SNAPSHOT")).unwrap();
    assert_eq!(drain(&Queue::open(&to).unwrap()), [b"task"]);
}
