//! What another thread may do between two steps of a call, with the steps held still where it matters.

use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use super::flaky::open_flaky;
use super::world::{ack_up_to, ask, open, ready};
use crate::checkpoint::Store;
use crate::delivery::Ask;
use crate::engine::append::TaskDraft;
use crate::engine::groups::Start;
use crate::engine::settle::Settle;
use crate::sim::{Loss, SimDisk};
use crate::types::{Durability, LaneId, Now, Timestamp};

const NOW: Now = Now { boot_ms: 1_000, wall: Timestamp(1_000_000) };
const LANE: LaneId = LaneId(0);
/// Only a test that would stand still for ever waits so long.
const WATCHDOG: Duration = Duration::from_secs(60);

/// Group `default` is through with the first life, and a checkpoint knows it. Group `other` gets through with it in the
/// next open, and a checkpoint lets the life go before the cursor of `default` came so far.
#[test]
#[expect(clippy::disallowed_methods, reason = "the watchdog's clock")]
fn life_that_goes_is_not_met_again_by_a_group_that_was_done_with_it_before_the_open() {
    let disk = SimDisk::new(1);
    let engine = open(&disk, NOW).unwrap();
    engine.create_group("other", Start::Oldest, crate::types::Retention::default(), NOW).unwrap();
    let mut tasks = 0;
    while engine.lanes().log(LANE).is_none_or(|log| log.segments().len() < 2) {
        let task = TaskDraft::plain(&[7; 100], Durability::Process);
        ready(&engine, || engine.append(LANE, &task, NOW.wall)).unwrap();
        tasks += 1;
    }
    assert_eq!(ack_up_to(&engine, "default", 1_000, NOW), tasks);
    engine.checkpoint(NOW, false).unwrap();
    drop(engine);

    let (engine, switches) = open_flaky(&disk.restart(Loss::Process), NOW);
    assert_eq!(ack_up_to(&engine, "other", 1_000, NOW), tasks);
    let first = engine.lanes().log(LANE).unwrap().segments()[0].base();
    let (default, other) = (engine.group("default").unwrap(), engine.group("other").unwrap());
    let knows = || default.state.lock().group.lanes.get(LANE).is_some_and(|own| own.done.contains(&first));
    assert!(knows(), "the checkpoint said so");

    let (at_sync, reached) = channel();
    let (go_on, may_go_on) = channel::<()>();
    switches.on_sync(Store::FILE, move || {
        // The receivers are gone once the test has seen enough.
        let _late = at_sync.send(());
        let _late = may_go_on.recv();
    });
    thread::scope(|scope| {
        let checkpoint = scope.spawn(|| engine.checkpoint(NOW, false));
        reached.recv_timeout(WATCHDOG).unwrap();
        // Behind its look at the groups, and before they forget: it gets past `default`, and stops before `other`.
        let held = other.state.lock();
        drop(go_on);
        let began = Instant::now();
        while knows() {
            assert!(began.elapsed() < WATCHDOG, "the checkpoint lets the life go");
            thread::yield_now();
        }
        let met = engine.reserve(&default, &ask(1_000), NOW, |one| one.receipt.task).unwrap();
        drop(held);
        assert_eq!(met, [], "everything is acked");
        checkpoint.join().unwrap().unwrap();
    });
    assert_eq!(engine.lanes().log(LANE).unwrap().segments().len(), 1, "the life is gone");
}

/// Whoever acks looks at the clock by the way, and ends somebody else's lease that ran out: who sleeps learns of it, for the
/// janitor finds nothing to end any more.
#[test]
fn lease_that_ends_by_the_way_of_an_ack_wakes_who_waits_for_the_task() {
    let disk = SimDisk::new(1);
    let engine = open(&disk, NOW).unwrap();
    for _ in 0..2 {
        let task = TaskDraft::plain(b"task", Durability::Process);
        ready(&engine, || engine.append(LANE, &task, NOW.wall)).unwrap();
    }
    let cell = engine.group("default").unwrap();
    let take = |lease_ms| engine.reserve(&cell, &Ask { lease_ms, ..ask(1) }, NOW, |one| one.receipt).unwrap();
    let (short, long) = (take(10), take(10_000));
    assert_eq!((short.len(), long.len()), (1, 1));
    let (awake, is_awake) = channel();
    thread::scope(|scope| {
        // Before the ack, in this thread: the other one may be slow.
        let enrolled = engine.arrivals.enrol(true);
        scope.spawn(move || {
            enrolled.sleep(Some(2 * WATCHDOG));
            awake.send(()).unwrap();
        });
        let late = Now { boot_ms: NOW.boot_ms + 20, ..NOW };
        let settled = engine.settle(&cell, long.into_iter(), Settle::Ack, late).unwrap();
        assert!(settled.answers.iter().all(Result::is_ok));
        let woken = is_awake.recv_timeout(WATCHDOG);
        engine.arrivals.wake_all();
        woken.unwrap();
    });
    assert_eq!(engine.tick(NOW).unwrap(), None, "there is nothing left to end");
}
