//! Promise, in sticky mode: a key's tasks go to one worker for as long as it lives; only what has to moves, and never while
//! it is on loan.
#![expect(clippy::unwrap_used, reason = "a helper fails the test that called it")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lanelog::{Delivery, Options, Queue, Reserve, Task, Worker, WorkerOptions};
use support::{nothing, one, place, small};

const KEYS: usize = 60;

fn sticky() -> Options {
    small().sticky(true).lease(Duration::from_secs(3600))
}

fn slow(queue: &Queue, name: &str) -> Worker {
    queue.worker_with(name, WorkerOptions::new().heartbeat(Duration::from_secs(3600))).unwrap()
}

fn enqueue_round(queue: &Queue) {
    for key in 0..KEYS {
        queue.enqueue(Task::new("keyed").key(&format!("key {key}"))).unwrap();
    }
}

fn key(delivery: &Delivery) -> String {
    String::from_utf8(delivery.key().unwrap().to_vec()).unwrap()
}

fn all(worker: &Worker) -> Vec<Delivery> {
    let mut all = Vec::new();
    loop {
        let taken = worker.reserve(Reserve::new().tasks(7)).unwrap();
        if taken.is_empty() {
            return all;
        }
        all.extend(taken);
    }
}

/// Takes and acks what each worker may have: which keys go to whom.
fn shares(workers: &[&Worker]) -> BTreeMap<String, String> {
    let mut shares = BTreeMap::new();
    for worker in workers {
        for delivery in all(worker) {
            assert!(shares.insert(key(&delivery), worker.name().to_owned()).is_none(), "one task of each key");
            delivery.ack().unwrap();
        }
    }
    assert_eq!(shares.len(), KEYS, "every key has an owner");
    shares
}

#[test]
fn a_key_stays_with_its_worker_and_a_join_or_a_leave_moves_its_share_alone() {
    let place = place();
    let queue = sticky().open(&place.path).unwrap();
    let (a, b) = (slow(&queue, "a"), slow(&queue, "b"));
    let mut rounds = Vec::new();
    for _ in 0..3 {
        enqueue_round(&queue);
        rounds.push(shares(&[&a, &b]));
    }
    assert!(rounds.windows(2).all(|pair| pair[0] == pair[1]), "nothing moves while nobody comes or goes");
    assert_eq!(rounds[0].values().collect::<BTreeSet<_>>().len(), 2, "both have work");
    let c = slow(&queue, "c");
    enqueue_round(&queue);
    let three = shares(&[&c, &b, &a]);
    let moved: Vec<_> = three.iter().filter(|(key, owner)| rounds[0][*key] != **owner).collect();
    assert!(
        !moved.is_empty() && moved.iter().all(|(_, owner)| *owner == "c"),
        "only to the one that joined: {moved:?}"
    );
    let buckets: Vec<usize> = queue.stats().groups[0].workers.iter().map(|worker| worker.buckets).collect();
    assert_eq!(buckets.iter().sum::<usize>(), 256);
    assert!(buckets.iter().all(|count| (40..=130).contains(count)), "{buckets:?}");
    c.close().unwrap();
    enqueue_round(&queue);
    assert_eq!(shares(&[&a, &b]), rounds[0], "what the one that left had goes back, and nothing else moves");
}

#[test]
fn a_consumer_that_is_no_worker_gets_tasks_without_a_key_alone() {
    let place = place();
    let queue = sticky().open(&place.path).unwrap();
    queue.enqueue(Task::new("keyed").key("k")).unwrap();
    queue.enqueue(Task::new("free")).unwrap();
    let consumer = queue.consumer();
    let free = one(&consumer);
    assert!(free.key().is_none() && nothing(&consumer), "with no worker, tasks with a key wait");
    free.ack().unwrap();
    let worker = slow(&queue, "w");
    let keyed = all(&worker).pop().unwrap();
    assert_eq!(key(&keyed), "k");
    keyed.nack(Some(Duration::ZERO), "again").unwrap();
    assert!(nothing(&consumer), "a retry is the worker's too");
    assert_eq!(all(&worker).pop().unwrap().detach().attempt(), 2);
    drop((worker, consumer));
    queue.close().unwrap();
    // The option is stored.
    let queue = Queue::open(&place.path).unwrap();
    assert!(nothing(&queue.consumer()));
    assert_eq!(all(&slow(&queue, "w")).len(), 1);
}

#[test]
fn a_moving_key_is_handed_to_nobody_before_what_is_on_loan_of_it_is_settled() {
    let place = place();
    let queue = sticky().open(&place.path).unwrap();
    let old = slow(&queue, "old");
    enqueue_round(&queue);
    let mut held = all(&old);
    assert_eq!(held.len(), KEYS);
    enqueue_round(&queue);
    let new = slow(&queue, "new");
    assert!(all(&old).is_empty() && all(&new).is_empty(), "every key is on loan to the old one");
    let mut moved = 0;
    while let Some(delivery) = held.pop() {
        let freed = key(&delivery);
        delivery.ack().unwrap();
        let (stays, goes) = (all(&old), all(&new));
        // Other keys of its bucket may be on loan still: then it is nobody's.
        assert!(stays.len() + goes.len() <= KEYS);
        for delivery in goes {
            assert!(held.iter().all(|held| key(held) != key(&delivery)), "{freed}: two workers had one key");
            moved += 1;
            delivery.ack().unwrap();
        }
        stays.into_iter().for_each(|delivery| delivery.ack().unwrap());
    }
    let left = all(&old).len() + all(&new).len();
    assert_eq!(left, 0);
    assert!(moved > 0, "some keys moved");
    assert_eq!(queue.stats().groups[0].lanes[0].depth, 0, "and every task was handed to somebody");
}

#[test]
fn a_dead_workers_keys_go_to_the_survivors_in_their_order() {
    let place = place();
    let queue = sticky().open(&place.path).unwrap();
    for number in 0..5 {
        for key in 0..KEYS {
            queue.enqueue(Task::new(&number.to_string()).key(&format!("key {key}"))).unwrap();
        }
    }
    let pulse = WorkerOptions::new().heartbeat(Duration::from_millis(300));
    let silent = queue.worker_with("silent", pulse).unwrap();
    let held = all(&silent).into_iter().map(Delivery::detach).collect::<Vec<_>>();
    assert_eq!(held.len(), KEYS);
    let survivor = slow(&queue, "survivor");
    let mut orders: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut count = 0;
    while count < 5 * KEYS {
        for delivery in survivor.reserve(Reserve::new().tasks(20).wait(Duration::from_secs(20))).unwrap() {
            let text = String::from_utf8(delivery.payload().to_vec()).unwrap();
            orders.entry(key(&delivery)).or_default().push(text);
            delivery.ack().unwrap();
            count += 1;
        }
    }
    assert!(orders.values().all(|order| *order == ["0", "1", "2", "3", "4"]));
}

#[test]
fn tasks_that_others_passed_over_wake_their_worker() {
    let place = place();
    let queue = sticky().open(&place.path).unwrap();
    let (a, b) = (slow(&queue, "a"), slow(&queue, "b"));
    enqueue_round(&queue);
    let of_a: BTreeSet<String> =
        shares(&[&a, &b]).into_iter().filter(|(_, own)| own == "a").map(|(key, _)| key).collect();
    let first = of_a.first().unwrap().clone();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let taken = a.reserve(Reserve::new().wait(Duration::from_secs(20))).unwrap();
            taken.into_iter().map(|delivery| key(&delivery)).collect::<Vec<_>>()
        });
        queue.enqueue(Task::new("for a").key(&first)).unwrap();
        // Whoever of the two comes first: b only passes it over.
        assert!(all(&b).is_empty());
        assert_eq!(waiting.join().unwrap(), std::slice::from_ref(&first));
    });
}
