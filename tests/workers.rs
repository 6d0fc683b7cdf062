//! Promise: a dead worker's tasks move on at once, nothing of what it says afterwards counts, and no task is lost with it.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper fails the test that called it")]

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::time::Duration;

use lanelog::{Delivery, Durability, Error, Options, Queue, Reserve, Task, Worker, WorkerOptions};
use support::{drain, nothing, one, place, small};

/// A lease that no test outlives, so that it is never the lease that ends.
fn long() -> Options {
    small().lease(Duration::from_secs(3600))
}

fn quick() -> WorkerOptions {
    WorkerOptions::new().heartbeat(Duration::from_millis(25)).missed_heartbeats(2)
}

fn slow() -> WorkerOptions {
    WorkerOptions::new().heartbeat(Duration::from_secs(3600))
}

fn next(worker: &Worker) -> Delivery {
    worker.reserve(Reserve::new().wait(Duration::from_secs(20))).unwrap().pop().expect("a task within 20 s")
}

/// A worker that takes so many tasks and is not heard of from there on. Where the machine is slow it may be dead before it
/// takes any, and registers again.
fn falls_silent(queue: &Queue, name: &str, tasks: usize) -> (Worker, Vec<Delivery>) {
    loop {
        let worker = queue.worker_with(name, quick().durability(Durability::Process)).unwrap();
        match worker.reserve(Reserve::new().tasks(tasks)) {
            Ok(held) if held.len() == tasks => return (worker, held),
            Ok(held) => panic!("{} of {tasks} tasks", held.len()),
            Err(error) => assert!(matches!(error, Error::WorkerLost { .. }), "{error}"),
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "a settle's outcome is handed over")]
fn is_lost(outcome: lanelog::Result<()>) -> bool {
    matches!(outcome, Err(Error::LeaseLost { .. }))
}

#[test]
fn a_silent_workers_task_goes_to_a_survivor_and_its_late_settles_are_refused() {
    let place = place();
    let queue = long().open(&place.path).unwrap();
    queue.enqueue(Task::new("work")).unwrap();
    let (mut silent, mut held) = falls_silent(&queue, "silent", 1);
    let held = held.pop().unwrap();
    // The survivor is no worker and waits; it is woken at the time of the death, long before the lease runs out.
    let again = one(&queue.consumer());
    assert_eq!((again.id(), again.attempt()), (held.id(), 2));
    assert!(again.fence() > held.fence());
    let receipt = held.receipt();
    assert!(is_lost(held.extend(Duration::from_secs(1))));
    assert!(is_lost(held.ack()));
    assert!(is_lost(queue.nack(&receipt, None, "late")));
    assert!(is_lost(queue.release(&receipt)));
    assert!(is_lost(queue.reject(&receipt, "late")));
    assert!(matches!(silent.heartbeat(), Err(Error::WorkerLost { name }) if name == "silent"));
    assert!(matches!(silent.reserve(Reserve::new()), Err(Error::WorkerLost { .. })));
    silent.register_again().unwrap();
    assert_eq!(queue.stats().groups[0].workers.iter().map(|worker| worker.in_flight).sum::<u64>(), 0);
    again.ack().unwrap();
    assert!(nothing(&queue.consumer()));
}

#[test]
fn a_worker_that_reuses_a_name_takes_the_old_ones_place_and_the_old_one_can_do_nothing() {
    let place = place();
    let queue = long().open(&place.path).unwrap();
    queue.enqueue(Task::new("work")).unwrap();
    let abandoned = queue.worker_with("pod-7", slow()).unwrap();
    let old = next(&abandoned).detach();
    let replacement = queue.worker_with("pod-7", slow()).unwrap();
    let new = next(&replacement);
    assert_eq!((new.id(), new.attempt()), (old.task(), 2), "the old one's leases end at once");
    // Renew, release, overwrite: by receipt and as a worker.
    assert!(is_lost(queue.extend(&old, Duration::from_secs(3600))));
    assert!(is_lost(queue.release(&old)));
    assert!(is_lost(queue.ack(&old)));
    assert!(matches!(abandoned.heartbeat(), Err(Error::WorkerLost { .. })));
    assert!(matches!(abandoned.reserve(Reserve::new()), Err(Error::WorkerLost { .. })));
    assert!(abandoned.close().is_ok(), "it has nothing to give back");
    replacement.heartbeat().unwrap();
    assert_eq!(queue.stats().groups[0].workers[0].in_flight, 1, "the new one's lease stands");
    new.ack().unwrap();
    assert!(nothing(&queue.consumer()));
}

#[test]
fn a_worker_that_goes_gives_back_what_it_holds_uncounted() {
    let place = place();
    let queue = long().open(&place.path).unwrap();
    for _ in 0..4 {
        queue.enqueue(Task::new("work")).unwrap();
    }
    for closes in [true, false] {
        let worker = queue.worker("short-lived").unwrap();
        let held = worker.reserve(Reserve::new().tasks(10)).unwrap();
        assert_eq!(held.len(), 4);
        if closes {
            worker.close().unwrap();
        } else {
            drop(worker);
        }
        assert!(held.into_iter().all(|delivery| delivery.attempt() == 1 && is_lost(delivery.ack())));
    }
    let taken = queue.consumer().reserve(Reserve::new().tasks(10)).unwrap();
    assert_eq!(taken.iter().map(Delivery::attempt).collect::<Vec<_>>(), [1; 4]);
    assert!(queue.stats().groups[0].workers.is_empty());
}

#[test]
fn a_dead_workers_attempts_count_so_that_a_task_that_kills_workers_is_a_dead_letter() {
    let place = place();
    let queue = long().max_attempts(2).open(&place.path).unwrap();
    queue.enqueue(Task::new("deadly")).unwrap();
    for attempt in 1..=2 {
        let victim = queue.worker_with("victim", slow()).unwrap();
        assert_eq!(next(&victim).detach().attempt(), attempt);
        std::mem::forget(victim);
    }
    let _another = queue.worker_with("victim", slow()).unwrap();
    let dead = queue.dead_letters("default").unwrap();
    assert_eq!((dead.len(), dead[0].attempts), (1, 2));
    assert!(dead[0].reason.contains("worker"), "{:?}", dead[0].reason);
}

#[test]
fn stats_name_the_workers_with_their_leases_and_heartbeats() {
    let place = place();
    let queue = long().open(&place.path).unwrap();
    for _ in 0..3 {
        queue.enqueue(Task::new("work")).unwrap();
    }
    let (busy, _idle) = (queue.worker("busy").unwrap(), queue.worker("idle").unwrap());
    let _held = busy.reserve(Reserve::new().tasks(2)).unwrap();
    let stats = queue.stats().groups.remove(0);
    let workers: Vec<_> = stats.workers.iter().map(|worker| (worker.name.as_str(), worker.in_flight)).collect();
    assert_eq!(workers, [("busy", 2), ("idle", 0)]);
    assert!(stats.workers.iter().all(|worker| worker.last_heartbeat_ms < 20_000));
}

#[test]
fn bad_options_are_refused() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    let refused = |name: &str, options: WorkerOptions| {
        assert!(matches!(queue.worker_with(name, options), Err(Error::InvalidOption { .. })), "{name:?}");
    };
    refused("", quick());
    refused(&"x".repeat(129), quick());
    refused("w", quick().heartbeat(Duration::ZERO));
    refused("w", quick().missed_heartbeats(0));
    assert!(matches!(queue.worker_with("w", quick().group("nobody")), Err(Error::NoSuchGroup { .. })));
}

#[test]
fn a_long_handler_keeps_its_lease_and_its_worker_and_is_told_when_the_lease_is_lost() {
    let place = place();
    let queue = small().lease(Duration::from_secs(1)).open(&place.path).unwrap();
    queue.enqueue(Task::new("long")).unwrap();
    let worker = queue.worker_with("steady", quick().heartbeat(Duration::from_secs(1))).unwrap();
    let survivor = queue.consumer();
    let handler = |delivery: &Delivery, alive: &lanelog::KeepAlive| {
        // Several leases long, and nobody else gets it.
        let wait = Reserve::new().wait(Duration::from_millis(2500));
        assert!(survivor.reserve(wait).unwrap().is_empty());
        assert!(!alive.is_lost() && delivery.attempt() == 1);
        Ok(())
    };
    worker.run(next(&worker), handler).unwrap();
    assert!(nothing(&survivor));

    queue.enqueue(Task::new("limited").time_limit(Duration::from_millis(150))).unwrap();
    let outcome = worker.run(next(&worker), |_, alive| {
        while !alive.is_lost() {
            std::thread::yield_now();
        }
        Err("found out".to_owned())
    });
    assert!(is_lost(outcome), "no extension goes beyond the task's own limit");
    let again = one(&survivor);
    assert_eq!(again.attempt(), 2);
    let alive = again.keep_alive(Duration::from_secs(1)).unwrap();
    assert!(!alive.is_lost());
    drop(alive);
    again.ack().unwrap();
    drop((worker, survivor));
    queue.close().unwrap();
}

/// What every attempt did, in a store outside of the queue that takes only what has the greatest fence it saw.
#[derive(Default)]
struct Effects {
    /// By task number: fences of the attempts that were written down, in order.
    done: Mutex<BTreeMap<usize, Vec<u64>>>,
    refused: AtomicUsize,
}

impl Effects {
    fn write(&self, task: usize, fence: u64) {
        let mut done = self.done.lock().unwrap();
        let fences = done.entry(task).or_default();
        match fences.last() {
            Some(last) if *last > fence => {
                self.refused.fetch_add(1, Ordering::SeqCst);
            }
            _ => fences.push(fence),
        }
    }
}

fn number(delivery: &Delivery) -> usize {
    std::str::from_utf8(delivery.payload()).unwrap().parse().unwrap()
}

/// A worker that is stopped (its machine paused, its process swapped out) for longer than its heartbeats allow, in the middle
/// of 10,000 tasks, and then goes on as if nothing had been.
#[test]
fn a_worker_that_stood_still_loses_nothing_and_can_settle_nothing_when_it_goes_on() {
    const TASKS: usize = 10_000;
    const HELD: usize = 50;
    let place = place();
    let queue = Options::new().lease(Duration::from_secs(3600)).open(&place.path).unwrap();
    let producer = queue.producer().durability(Durability::Process);
    for number in 0..TASKS {
        producer.enqueue(&number.to_string()).unwrap();
    }
    let effects = Effects::default();
    let acked: Vec<AtomicUsize> = (0..TASKS).map(|_| AtomicUsize::new(0)).collect();
    let (stands_still, goes_on) = (Barrier::new(3), AtomicBool::new(false));
    let all_acked = || acked.iter().all(|count| count.load(Ordering::SeqCst) > 0);
    let late = std::thread::scope(|scope| {
        let stopped = scope.spawn(|| {
            let worker = queue.worker_with("stopped", slow().durability(Durability::Process)).unwrap();
            for delivery in worker.reserve(Reserve::new().tasks(1000)).unwrap() {
                let task = number(&delivery);
                effects.write(task, delivery.fence());
                delivery.ack().unwrap();
                acked[task].fetch_add(1, Ordering::SeqCst);
            }
            let (worker, held) = falls_silent(&queue, "stopped", HELD);
            // Half of them had their effect already, and nobody was told.
            for delivery in held.iter().take(HELD / 2) {
                effects.write(number(delivery), delivery.fence());
            }
            stands_still.wait();
            while !goes_on.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            // It doesn't know that it was still, and finishes.
            let mut late = Vec::new();
            for delivery in held {
                effects.write(number(&delivery), delivery.fence());
                late.push(number(&delivery));
                assert!(is_lost(delivery.ack()), "a late ack is refused");
            }
            assert!(matches!(worker.heartbeat(), Err(Error::WorkerLost { .. })));
            late
        });
        for name in ["first survivor", "second survivor"] {
            let (queue, effects, acked, stands_still, all_acked) =
                (&queue, &effects, &acked, &stands_still, &all_acked);
            scope.spawn(move || {
                stands_still.wait();
                let worker = queue.worker_with(name, slow().durability(Durability::Process)).unwrap();
                while !all_acked() {
                    for delivery in worker.reserve(Reserve::new().tasks(40).wait(Duration::from_millis(20))).unwrap() {
                        let task = number(&delivery);
                        effects.write(task, delivery.fence());
                        delivery.ack().unwrap();
                        acked[task].fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
        while !all_acked() {
            std::thread::yield_now();
        }
        goes_on.store(true, Ordering::SeqCst);
        stopped.join().unwrap()
    });
    assert_eq!(late.len(), HELD);
    assert!(acked.iter().all(|count| count.load(Ordering::SeqCst) == 1), "each task was acked once");
    let done = effects.done.into_inner().unwrap();
    assert_eq!(done.len(), TASKS, "none was lost");
    let twice: Vec<usize> = done.iter().filter(|(_, fences)| fences.len() > 1).map(|(task, _)| *task).collect();
    assert_eq!(twice, late[..HELD / 2], "the record shows which ran twice");
    assert_eq!(effects.refused.into_inner(), HELD, "the store refused every write of the one that came too late");
    assert!(drain(&queue).is_empty());
    assert_eq!(queue.stats().groups[0].lanes[0].acked, TASKS as u64);
}

#[test]
fn workers_die_with_the_process_and_their_receipts_with_them() {
    let place = place();
    let queue = long().open(&place.path).unwrap();
    queue.enqueue(Task::new("work")).unwrap();
    let worker = queue.worker("w").unwrap();
    let receipt = next(&worker).detach();
    // As a death would: nothing is given back.
    std::mem::forget(worker);
    let copy = support::as_a_death_leaves_it(&place);
    let reopened = Queue::open(&copy).unwrap();
    assert!(reopened.stats().groups[0].workers.is_empty());
    let again = one(&reopened.consumer());
    assert_eq!(again.attempt(), 2);
    assert!(is_lost(reopened.ack(&receipt)));
    again.ack().unwrap();
}
