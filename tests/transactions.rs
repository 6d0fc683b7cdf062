//! Promise: what a transaction does, enqueues and settles over lanes and groups, happens wholly or not at all, over the
//! death of the process too.
#![expect(clippy::unwrap_used, reason = "a helper fails the test that called it")]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lanelog::{ConsumerOptions, Durability, Error, LaneId, LaneSet, Queue, Reserve, Start, Task};
use support::{as_a_death_leaves_it, drain, nothing, one, place, small, texts};

const CHILD: &str = "LANELOG_TEST_CHILD";

/// Everything that waits, as texts in the order of lanes.
fn all(queue: &Queue) -> Vec<String> {
    drain(queue).into_iter().map(|payload| String::from_utf8(payload).unwrap()).collect()
}

#[test]
fn ack_and_next_steps_happen_together_and_survive_a_death() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    queue.enqueue(Task::new("first")).unwrap();
    let consumer = queue.consumer();
    let mut step = queue.transaction();
    step.enqueue(Task::new("second").header("from", "first")).unwrap();
    step.enqueue(Task::new("third").lane(LaneId(2))).unwrap();
    step.enqueue(Task::new("fourth")).unwrap();
    step.ack(one(&consumer));
    let ids = step.commit().unwrap();
    let lanes: Vec<LaneId> = ids.iter().map(|id| id.lane()).collect();
    assert_eq!(lanes, [LaneId(0), LaneId(2), LaneId(0)], "ids come in the order of the enqueues");
    let dead = Queue::open(as_a_death_leaves_it(&place)).unwrap();
    assert_eq!(all(&dead), ["second", "fourth", "third"]);
    assert_eq!(dead.damage(), []);
    let taken = consumer.reserve(Reserve::new().tasks(9)).unwrap();
    assert_eq!(taken.iter().map(|delivery| delivery.id()).collect::<Vec<_>>(), [ids[0], ids[2], ids[1]]);
    assert_eq!(taken[0].headers().collect::<Vec<_>>(), [("from", b"first".as_slice())]);
}

#[test]
fn tasks_whose_dedup_ids_count_are_left_out_and_new_ids_count_with_the_transaction() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    let until_settled = |text: &'static str, id: &'static str| Task::new(text).dedup_id(id).dedup_until_settled();
    let first = queue.enqueue(until_settled("first", "a")).unwrap();
    let consumer = queue.consumer();
    let mut step = queue.transaction();
    step.enqueue(until_settled("again", "a").lane(LaneId(1))).unwrap();
    step.enqueue(until_settled("second", "b").lane(LaneId(1))).unwrap();
    step.enqueue(Task::new("plain")).unwrap();
    step.enqueue(until_settled("second again", "b").lane(LaneId(2))).unwrap();
    step.ack(one(&consumer));
    let ids = step.commit().unwrap();
    assert_eq!((ids[0], ids[3]), (first, ids[1]), "an id counts although this transaction settles its task");
    assert_eq!((queue.stats().dedup_ids, queue.stats().dedup_hits), (2, 2));
    let mut nothing_new = queue.transaction();
    nothing_new.enqueue(until_settled("third", "b")).unwrap();
    assert_eq!(nothing_new.commit().unwrap(), [ids[1]]);
    let dead = Queue::open(as_a_death_leaves_it(&place)).unwrap();
    for queue in [&queue, &dead] {
        assert_eq!(queue.enqueue(until_settled("fourth", "b")).unwrap(), ids[1]);
        let freed = queue.enqueue(until_settled("fifth", "a")).unwrap();
        assert_ne!(freed, first, "its task is settled now");
        assert_eq!(all(queue), ["plain", "fifth", "second"]);
    }
}

#[test]
fn nothing_happens_before_the_commit_nor_without_it() {
    let place = place();
    let queue = small().max_attempts(1).open(&place.path).unwrap();
    queue.enqueue(Task::new("stays")).unwrap();
    let consumer = queue.consumer();
    let receipt = one(&consumer).detach();
    let mut step = queue.transaction();
    step.enqueue(Task::new("never").lane(LaneId(1))).unwrap();
    step.ack(receipt);
    assert!(nothing(&consumer), "what is not committed is not there");
    drop(step);
    assert!(nothing(&consumer));
    queue.ack(&receipt).expect("the lease went on");
    assert!(queue.dead_letters("default").unwrap().is_empty());
}

#[test]
fn delivery_of_a_transaction_that_is_dropped_counts_as_dropped_unsettled() {
    let place = place();
    let queue = small().max_attempts(1).open(&place.path).unwrap();
    queue.enqueue(Task::new("once")).unwrap();
    let mut step = queue.transaction();
    step.ack(one(&queue.consumer()));
    drop(step);
    let dead = queue.dead_letters("default").unwrap();
    assert_eq!(dead.iter().map(|letter| letter.reason.as_str()).collect::<Vec<_>>(), ["dropped unsettled"]);
}

#[test]
fn one_lease_that_is_over_refuses_the_whole() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    for text in ["settled", "on loan"] {
        queue.enqueue(Task::new(text)).unwrap();
    }
    let consumer = queue.consumer();
    let (over, held) = (one(&consumer).detach(), one(&consumer).detach());
    queue.ack(&over).unwrap();
    for late in [false, true] {
        let mut step = queue.transaction();
        step.enqueue(Task::new("never").lane(LaneId(1))).unwrap();
        step.enqueue(Task::new("never").lane(LaneId(2))).unwrap();
        step.ack(if late { held } else { over });
        step.ack(if late { over } else { held });
        let refused = step.commit();
        assert!(matches!(refused, Err(Error::LeaseLost { task }) if task == over.task()), "{refused:?}");
    }
    assert!(nothing(&consumer), "nothing was enqueued");
    queue.ack(&held).expect("nothing was acked");
}

#[test]
fn task_settled_twice_in_one_transaction_is_refused() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    queue.enqueue(Task::new("task")).unwrap();
    let receipt = one(&queue.consumer()).detach();
    let mut step = queue.transaction();
    step.ack(receipt);
    step.nack(receipt, None, "both");
    assert!(matches!(step.commit(), Err(Error::BadReceipt { .. })));
    queue.ack(&receipt).unwrap();
}

#[test]
fn what_can_not_be_is_refused_when_it_is_asked_for() {
    let place = place();
    let queue = small().task_bytes_max(500).open(&place.path).unwrap();
    let mut step = queue.transaction();
    assert!(matches!(step.enqueue(Task::new("x").lane(LaneId(3))), Err(Error::NoSuchLane { .. })));
    assert!(matches!(step.enqueue(Task::new(&[0; 600])), Err(Error::TaskTooLarge { .. })));
    step.enqueue(Task::new("good").lane(LaneId(1))).unwrap();
    step.enqueue(Task::new("good")).unwrap();
    assert_eq!(step.commit().unwrap().len(), 2, "what was refused is as if it had not been asked for");
    assert_eq!(all(&queue), ["good", "good"]);
    assert!(queue.transaction().commit().unwrap().is_empty(), "nothing at all is a transaction too");
}

#[test]
fn transaction_too_large_for_a_segment_is_refused_whole() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    for only_one_lane in [true, false] {
        let mut step = queue.transaction();
        if !only_one_lane {
            step.enqueue(Task::new("small").lane(LaneId(2))).unwrap();
        }
        for _ in 0..5 {
            step.enqueue(Task::new(&[7; 900])).unwrap();
        }
        let refused = step.commit().unwrap_err();
        assert!(matches!(refused, Error::TransactionTooLarge { bytes, max } if bytes > max), "{refused:?}");
        assert!(refused.is_refusal());
    }
    let ids: Vec<_> = (0..200).map(|_| queue.enqueue(Task::new("settle me")).unwrap()).collect();
    let taken = queue.consumer().reserve(Reserve::new().tasks(ids.len())).unwrap();
    let mut step = queue.transaction();
    taken.into_iter().for_each(|delivery| step.ack(delivery));
    assert!(
        matches!(step.commit(), Err(Error::TransactionTooLarge { .. })),
        "so many settles do not fit the journal's"
    );
}

#[test]
fn every_settle_and_several_groups_in_one_transaction() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    queue.create_group("audit", Start::Oldest).unwrap();
    for text in ["ack", "nack", "release", "reject"] {
        queue.enqueue(Task::new(text)).unwrap();
    }
    let consumer = queue.consumer();
    let audit = queue.consumer_of("audit", ConsumerOptions::new()).unwrap();
    let mut taken = consumer.reserve(Reserve::new().tasks(4)).unwrap().into_iter();
    let mut step = queue.transaction();
    step.ack(taken.next().unwrap());
    step.nack(taken.next().unwrap(), Some(Duration::ZERO), "not today");
    step.release(taken.next().unwrap());
    step.reject(taken.next().unwrap(), "never");
    audit.reserve(Reserve::new().tasks(3)).unwrap().into_iter().for_each(|delivery| step.ack(delivery));
    step.enqueue(Task::new("next").lane(LaneId(1))).unwrap();
    step.commit().unwrap();
    let check = |queue: &Queue| {
        let taken = queue.consumer().reserve(Reserve::new().tasks(9)).unwrap();
        let seen: Vec<_> =
            taken.iter().map(|d| (d.payload().to_vec(), d.attempt(), d.last_reason().to_owned())).collect();
        let expected = [("nack", 2, "not today"), ("release", 1, ""), ("next", 1, "")];
        assert_eq!(seen, expected.map(|(text, attempt, why)| (text.as_bytes().to_vec(), attempt, why.to_owned())));
        let dead = queue.dead_letters("default").unwrap();
        assert_eq!(dead.iter().map(|letter| letter.reason.as_str()).collect::<Vec<_>>(), ["never"]);
        let audit = queue.consumer_of("audit", ConsumerOptions::new()).unwrap();
        let left = audit.reserve(Reserve::new().tasks(9)).unwrap();
        assert_eq!(
            left.iter().map(|d| d.payload().to_vec()).collect::<Vec<_>>(),
            [b"reject".to_vec(), b"next".to_vec()]
        );
    };
    check(&Queue::open(as_a_death_leaves_it(&place)).unwrap());
    check(&queue);
}

#[test]
fn task_at_power_is_handed_out_only_once_its_whole_transaction_is_durable() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    for round in 0..50 {
        let mut step = queue.transaction();
        for lane in 0..3 {
            step.enqueue(Task::new("task").lane(LaneId(lane))).unwrap();
        }
        let pending = step.submit().unwrap();
        // The committer may be faster than this thread; then there is nothing to see.
        queue.enqueue(Task::new("other").lane(LaneId(1)).durability(Durability::Process)).unwrap();
        let taken = queue.consumer().reserve(Reserve::new().tasks(9)).unwrap();
        let mine = taken.iter().filter(|delivery| delivery.payload() == b"task").count();
        assert!(mine == 0 || pending.is_durable(), "round {round}: {mine} tasks came too early");
        assert_eq!(pending.wait().unwrap().len(), 3);
        let rest = queue.consumer().reserve(Reserve::new().tasks(9)).unwrap();
        assert_eq!(taken.len() + rest.len(), 4, "round {round}");
        for delivery in taken.into_iter().chain(rest) {
            delivery.ack().unwrap();
        }
    }
}

#[test]
fn consumer_that_waits_is_woken_by_a_transaction() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    for durability in [Durability::Power, Durability::Process] {
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| one(&queue.consumer()).ack());
            let mut step = queue.transaction().durability(durability);
            step.enqueue(Task::new("wake up").lane(LaneId(1))).unwrap();
            step.enqueue(Task::new("wake up").lane(LaneId(2))).unwrap();
            step.commit().unwrap();
            waits.join().unwrap().unwrap();
        });
        assert_eq!(drain(&queue).len(), 1);
    }
}

#[test]
fn checkpoints_and_a_close_keep_transactions_whole() {
    let place = place();
    let mut hops = 0;
    small().open(&place.path).unwrap().enqueue(Task::new("0")).unwrap();
    for round in 0..4 {
        let queue = small().checkpoint_bytes(4096).open(&place.path).unwrap();
        for number in 0..40 {
            let durability = if number % 3 == 0 { Durability::Power } else { Durability::Process };
            hops = hop(&queue, durability) + 1;
            if number % 7 == 0 {
                queue.checkpoint().unwrap();
            }
        }
        if round % 2 == 0 {
            queue.close().unwrap();
        }
    }
    let queue = Queue::open(&place.path).unwrap();
    assert_eq!(queue.damage(), []);
    assert_eq!(all(&queue), [hops.to_string(), format!("trace {hops}")], "one token, and the trace of its last hop");
}

/// Moves the one token on, and takes the trace of the hop before away. Gives how far it was.
fn hop(queue: &Queue, durability: Durability) -> u64 {
    let consumer = queue.consumer();
    let traces = LaneSet::from_iter([LaneId(2)]);
    let old = consumer.reserve(Reserve::new().lanes(traces).tasks(9)).unwrap();
    let token = consumer.reserve(Reserve::new().wait(Duration::from_secs(20))).unwrap().pop().unwrap();
    let hops: u64 = std::str::from_utf8(token.payload()).unwrap().parse().unwrap();
    assert!(old.len() == usize::from(hops > 0), "one trace for the last hop");
    let mut step = queue.transaction().durability(durability);
    let next = LaneId(u8::try_from((hops + 1) % 2).unwrap());
    step.enqueue(Task::new(&(hops + 1).to_string()).lane(next)).unwrap();
    step.enqueue(Task::new(&format!("trace {}", hops + 1)).lane(LaneId(2))).unwrap();
    step.ack(token);
    old.into_iter().for_each(|trace| step.ack(trace));
    step.commit().unwrap();
    hops
}

#[test]
fn tokens_moved_by_many_threads_stay_as_many() {
    const TOKENS: usize = 24;
    let place = place();
    let queue = small().checkpoint_bytes(4096).open(&place.path).unwrap();
    for token in 0..TOKENS {
        queue.enqueue(Task::new(&format!("token {token}")).lane(LaneId(u8::try_from(token % 3).unwrap()))).unwrap();
    }
    let moves = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            let (queue, moves) = (&queue, &moves);
            scope.spawn(move || {
                let consumer = queue.consumer();
                while moves.fetch_add(1, Ordering::Relaxed) < 600 {
                    let durability = if thread % 2 == 0 { Durability::Power } else { Durability::Process };
                    let mut step = queue.transaction().durability(durability);
                    for delivery in consumer.reserve(Reserve::new().tasks(3)).unwrap() {
                        let lane = LaneId((delivery.lane().0 + 1 + thread) % 3);
                        step.enqueue(Task::new(delivery.payload()).lane(lane)).unwrap();
                        step.ack(delivery);
                    }
                    step.commit().unwrap();
                }
            });
        }
    });
    for queue in [Queue::open(as_a_death_leaves_it(&place)).unwrap(), queue] {
        let left = drain(&queue);
        assert_eq!((left.len(), texts(&left).len()), (TOKENS, TOKENS));
        assert_eq!(queue.damage(), []);
    }
}

/// Not a test by itself: the process that the other kills. Hops, says so, and goes on until it dies.
#[test]
fn child_process_to_be_killed() {
    let Ok(spec) = std::env::var(CHILD) else { return };
    let (what, path) = spec.split_once(':').unwrap();
    let queue = small().checkpoint_bytes(4096).open(path).unwrap();
    let durability = if what == "power" { Durability::Power } else { Durability::Process };
    loop {
        println!("\nhopped {}", hop(&queue, durability) + 1);
    }
}

/// Kills the child after it said so many hops. Gives the last one it spoke of.
fn kill_after(what: &str, path: &Path, hops: usize) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_process_to_be_killed", "--nocapture"])
        .env(CHILD, format!("{what}:{}", path.display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut last, mut said) = (0, 0);
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let Some(hop) = line.unwrap().strip_prefix("hopped ").and_then(|hop| hop.parse().ok()) else { continue };
        (last, said) = (hop, said + 1);
        if said == hops {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    last
}

#[test]
fn transactions_are_whole_after_kill_9() {
    for (what, kills) in [("power", [3, 40, 7, 25]), ("process", [1, 300, 90, 500])] {
        let place = place();
        small().open(&place.path).unwrap().enqueue(Task::new("0")).unwrap();
        for hops in kills {
            let said = kill_after(what, &place.path, hops);
            let queue = Queue::open(&place.path).expect("a killed holder blocks nobody");
            assert_eq!(queue.damage(), [], "{what}");
            let mut found = BTreeMap::new();
            for delivery in queue.consumer().reserve(Reserve::new().tasks(9)).unwrap() {
                found.insert(String::from_utf8(delivery.payload().to_vec()).unwrap(), delivery);
            }
            let texts: Vec<&str> = found.keys().map(String::as_str).collect();
            let [token, trace] = texts[..] else { panic!("{what}: a token and its trace, not {texts:?}") };
            assert_eq!(trace, format!("trace {token}"), "{what}");
            assert!(token.parse::<u64>().unwrap() >= said, "{what}: hop {said} was acknowledged, and {token} is left");
            found.into_values().for_each(|delivery| delivery.release().unwrap());
        }
    }
}
