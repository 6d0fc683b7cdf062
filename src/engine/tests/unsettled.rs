//! Which lanes the committer has synced when its interval is over, and which it leaves because all in them is settled.

use super::world::{ack_up_to, ask, open, ready};
use crate::engine::Engine;
use crate::engine::append::TaskDraft;
use crate::engine::groups::Start;
use crate::engine::settle::Settle;
use crate::engine::unsettled::Looks;
use crate::sim::SimDisk;
use crate::types::{Durability, LaneId, Now, Retention, Timestamp};

const NOW: Now = Now { boot_ms: 1_000, wall: Timestamp(1_000_000) };
const LANE: LaneId = LaneId(0);

struct Scene {
    engine: Engine,
    looks: Looks,
}

impl Scene {
    fn new() -> Self {
        Scene { engine: open(&SimDisk::new(1), NOW).unwrap(), looks: Looks::default() }
    }

    fn append(&self, tasks: usize) {
        for _ in 0..tasks {
            let task = TaskDraft::plain(&[7; 100], Durability::Process);
            ready(&self.engine, || self.engine.append(LANE, &task, NOW.wall)).unwrap();
        }
    }

    /// So many tasks come and are acked. A consumer's look tells the next one how far it came.
    fn flow(&mut self, tasks: usize) {
        self.append(tasks);
        assert_eq!(ack_up_to(&self.engine, "default", tasks, NOW), tasks);
    }

    /// An interval is over.
    fn is_due(&mut self) -> bool {
        let log = self.engine.lanes().log(LANE).unwrap();
        self.engine.look_at(&mut self.looks, LANE, log);
        self.engine.is_sync_due(&mut self.looks, LANE, log)
    }

    fn sync(&self) {
        self.engine.sync_all(NOW.wall).unwrap();
    }

    /// Settles one task in some way, behind which others come and are acked.
    fn settle_one(&mut self, how: Settle<'_>) {
        self.append(1);
        let cell = self.engine.group("default").unwrap();
        let handed = self.engine.reserve(&cell, &ask(1), NOW, |one| one.receipt).unwrap();
        let settled = self.engine.settle(&cell, handed.into_iter(), how, NOW).unwrap();
        assert!(settled.answers.iter().all(Result::is_ok));
        self.is_due();
        self.flow(3);
    }
}

#[test]
fn what_is_settled_as_fast_as_it_comes_is_not_synced() {
    let mut scene = Scene::new();
    scene.flow(3);
    scene.is_due();
    for _ in 0..5 {
        scene.flow(3);
        assert!(!scene.is_due(), "all that was there an interval ago is settled");
    }
    let log = scene.engine.lanes().log(LANE).unwrap();
    assert!(log.has_unsynced() && log.durable() < log.published(), "and nothing said that it is durable");
    assert!(scene.is_due(), "nothing came since: a lane at rest is synced");
    scene.sync();
    assert!(!scene.engine.lanes().log(LANE).unwrap().has_unsynced());
}

#[test]
fn task_that_waits_an_interval_is_synced() {
    let mut scene = Scene::new();
    scene.flow(3);
    scene.is_due();
    scene.append(1);
    assert!(!scene.is_due(), "it is younger than the interval");
    scene.append(1);
    assert!(scene.is_due(), "nobody took it");
    scene.sync();
    scene.append(1);
    assert!(!scene.is_due(), "what was there before is durable");
}

#[test]
fn what_waits_for_more_than_its_consumer_is_synced() {
    let ways = [
        Settle::Nack { delay_ms: Some(60_000), reason: "later" },
        Settle::Reject { reason: "never" },
        Settle::Park { reason: "not now" },
        Settle::Extend { lease_ms: 1_000 },
    ];
    for how in ways {
        let mut scene = Scene::new();
        scene.flow(3);
        scene.is_due();
        scene.settle_one(how);
        assert!(scene.is_due(), "{how:?}");
    }
}

#[test]
fn tasks_on_loan_that_are_younger_do_not_count() {
    let mut scene = Scene::new();
    scene.flow(3);
    scene.is_due();
    scene.flow(3);
    let cell = scene.engine.group("default").unwrap();
    scene.append(5);
    let young = scene.engine.reserve(&cell, &ask(5), NOW, |one| one.receipt).unwrap();
    assert_eq!((young.len(), scene.is_due()), (5, false));
    scene.flow(3);
    assert!(scene.is_due(), "they are still on loan when the next interval is over");
    scene.engine.settle(&cell, young.into_iter(), Settle::Ack, NOW).unwrap();
    scene.flow(3);
    scene.is_due();
    scene.flow(3);
    assert!(!scene.is_due());
}

#[test]
fn group_that_nobody_reads_has_everything_synced() {
    let mut scene = Scene::new();
    scene.engine.create_group("other", Start::Oldest, Retention::default(), NOW).unwrap();
    scene.flow(3);
    scene.is_due();
    scene.flow(3);
    assert!(scene.is_due());
    scene.engine.remove_group("other", NOW).unwrap();
    for _ in 0..3 {
        scene.flow(3);
        scene.is_due();
    }
    scene.flow(3);
    assert!(!scene.is_due(), "it holds nothing up once it is gone");
}

#[test]
fn more_than_a_few_segments_are_synced_whatever_is_settled() {
    let mut scene = Scene::new();
    scene.flow(3);
    scene.is_due();
    let mut flows = 0;
    loop {
        scene.flow(3);
        if scene.is_due() {
            break;
        }
        flows += 1;
        assert!(flows < 10_000, "what waits for its sync is bounded");
    }
    let log = scene.engine.lanes().log(LANE).unwrap();
    assert!(log.published() - log.durable() > scene.engine.settled_unsynced_max());
}
