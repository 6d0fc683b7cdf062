//! What every engine must keep before a number of it counts. `LANELOG_BENCH_ENGINE` names one alone.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::engine::{Durability, Engine, Need, Settle, Setup, Store};

const WAIT: Duration = Duration::from_secs(5);

fn engines() -> Vec<&'static dyn Engine> {
    let only = std::env::var("LANELOG_BENCH_ENGINE").ok();
    super::all().into_iter().filter(|engine| only.as_deref().is_none_or(|name| name == engine.name())).collect()
}

/// Each engine at each durability that it can, with a directory.
fn each(needs: &[Need], check: impl Fn(&dyn Engine, &Setup)) {
    for engine in engines() {
        for durability in [Durability::Process, Durability::Power] {
            let what = format!("{} {} at {}", engine.name(), engine.version(), durability.name());
            if let Err(reason) = engine.can(durability, needs) {
                println!("{what}: can't: {reason}");
                continue;
            }
            println!("{what}: {}", engine.settings(durability));
            let dir = tempfile::tempdir().unwrap();
            let lanes = if needs.contains(&Need::Lanes) { 3 } else { 1 };
            let (dir, payload_bytes) = (dir.path().join("store"), 200);
            std::fs::create_dir(&dir).unwrap();
            check(engine, &Setup { dir, durability, lanes, payload_bytes, producers: 2, consumers: 2 });
        }
    }
}

fn payload(producer: usize, number: usize) -> Vec<u8> {
    let mut payload = format!("{producer} {number:06} ").into_bytes();
    payload.resize(200, b'a' + u8::try_from(number % 26).unwrap());
    payload
}

/// Sends so many of the first producer's, each by itself.
fn send_each(store: &dyn Store, count: usize) {
    let mut producer = store.producer().unwrap();
    for number in 0..count {
        producer.send(0, &[&payload(0, number)]).unwrap();
    }
}

/// Takes until so many came, or nothing more does.
fn take_all(store: &dyn Store, count: usize, batch: usize) -> Vec<Vec<u8>> {
    let mut consumer = store.consumer().unwrap();
    let mut taken = Vec::new();
    while taken.len() < count {
        let came = consumer.take(batch, WAIT, &mut |payload| {
            taken.push(payload.to_vec());
            Settle::Ack
        });
        if came.unwrap() == 0 {
            break;
        }
    }
    taken
}

#[test]
fn tasks_come_once_whole_and_in_order() {
    each(&[], |engine, setup| {
        let store = engine.open(setup).unwrap();
        let mut producer = store.producer().unwrap();
        let payloads: Vec<_> = (0..300).map(|number| payload(0, number)).collect();
        for one in &payloads[..100] {
            producer.send(0, &[one]).unwrap();
        }
        for batch in payloads[100..].chunks(50) {
            producer.send(0, &batch.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
        }
        drop(producer);
        let mut taken = take_all(store.as_ref(), 20, 1);
        taken.extend(take_all(store.as_ref(), 280, 7));
        assert!(taken == payloads, "{}: {} tasks came, or not in order", engine.name(), taken.len());
        let nothing = store.consumer().unwrap().take(1, Duration::from_millis(50), &mut |_| Settle::Ack).unwrap();
        assert_eq!(nothing, 0);
        store.close().unwrap();
    });
}

#[test]
fn consumer_that_waits_gets_what_comes() {
    each(&[], |engine, setup| {
        let store = engine.open(setup).unwrap();
        let sent = payload(0, 7);
        std::thread::scope(|scope| {
            let taker = scope.spawn(|| take_all(store.as_ref(), 1, 1));
            store.producer().unwrap().send(0, &[&sent]).unwrap();
            assert_eq!(taker.join().unwrap(), std::slice::from_ref(&sent), "{}", engine.name());
        });
        store.close().unwrap();
    });
}

#[test]
fn several_producers_and_consumers_lose_and_double_nothing() {
    each(&[Need::Producers, Need::Consumers], |engine, setup| {
        let store = engine.open(setup).unwrap();
        let taken = std::thread::scope(|scope| {
            for thread in 0..2 {
                let mut producer = store.producer().unwrap();
                scope.spawn(move || {
                    for number in 0..200 {
                        producer.send(0, &[&payload(thread, number)]).unwrap();
                    }
                });
            }
            let takers: Vec<_> = (0..2).map(|_| scope.spawn(|| take_all(store.as_ref(), 200, 3))).collect();
            takers.into_iter().flat_map(|taker| taker.join().unwrap()).collect::<Vec<_>>()
        });
        // Those of one taker's last batch may be more than its share.
        let left = take_all(store.as_ref(), 400 - taken.len().min(400), 3);
        let all: Vec<_> = taken.into_iter().chain(left).collect();
        let distinct: BTreeSet<_> = all.iter().cloned().collect();
        assert_eq!((all.len(), distinct.len()), (400, 400), "{}", engine.name());
        store.close().unwrap();
    });
}

#[test]
fn what_is_submitted_comes() {
    each(&[Need::Outstanding], |engine, setup| {
        let store = engine.open(setup).unwrap();
        let mut producer = store.producer().unwrap();
        for number in 0..100 {
            producer.submit(0, &payload(0, number)).unwrap();
            producer.confirm(16).unwrap();
        }
        producer.confirm(0).unwrap();
        drop(producer);
        assert_eq!(take_all(store.as_ref(), 100, 10).len(), 100);
        store.close().unwrap();
    });
}

#[test]
fn what_is_kept_does_not_come_again_and_urgent_lanes_go_first() {
    each(&[Need::Keep], |engine, setup| {
        let store = engine.open(setup).unwrap();
        send_each(store.as_ref(), 60);
        let mut consumer = store.consumer().unwrap();
        let mut seen = 0;
        while seen < 60 {
            let mut index = seen;
            let count = consumer.take(8, WAIT, &mut |_| {
                index += 1;
                if index % 10 == 0 { Settle::Keep } else { Settle::Ack }
            });
            seen += count.unwrap();
        }
        let again = consumer.take(8, Duration::from_millis(50), &mut |_| Settle::Ack).unwrap();
        assert_eq!((seen, again), (60, 0), "{}", engine.name());
        drop(consumer);
        store.close().unwrap();
    });
    each(&[Need::Lanes], |engine, setup| {
        let store = engine.open(setup).unwrap();
        let mut producer = store.producer().unwrap();
        for lane in [2, 1, 0] {
            producer.send(lane, &[&payload(usize::from(lane), 1)]).unwrap();
        }
        drop(producer);
        let lanes: Vec<_> = take_all(store.as_ref(), 3, 1).iter().map(|payload| payload[0] - b'0').collect();
        assert_eq!(lanes, [0, 1, 2], "{}", engine.name());
        store.close().unwrap();
    });
}

#[test]
fn store_that_is_opened_again_has_what_was_not_acked() {
    each(&[Need::Reopen], |engine, setup| {
        let store = engine.open(setup).unwrap();
        send_each(store.as_ref(), 50);
        assert_eq!(take_all(store.as_ref(), 20, 1).len(), 20);
        store.close().unwrap();
        let store = engine.open(setup).unwrap();
        store.producer().unwrap().send(0, &[&payload(0, 50)]).unwrap();
        let numbers: Vec<_> = take_all(store.as_ref(), 31, 8).iter().map(|payload| payload[2..8].to_vec()).collect();
        let expected: Vec<_> = (20..51).map(|number| format!("{number:06}").into_bytes()).collect();
        assert!(numbers == expected, "{}: {} came", engine.name(), numbers.len());
        store.close().unwrap();
    });
}
