//! Workers: consumers with a name, whose heartbeat says that they live.
//!
//! # What holds
//!
//! - A worker's identity is a number of its own, never its name: one that is registered under the name of another takes its
//!   place, and the other's leases end at once. Whatever the other one still holds or says is refused, for its receipts'
//!   fences open nothing and its identity is nobody's.
//! - A worker is forgotten only together with its leases: they end, as if they had run out or as released, before it goes.
//! - It is dead once it missed so many heartbeats as it said, on the boot clock; that is looked up in every tick.
//!
//! Nothing of this is stored: workers die with the process, and so do their leases.

use std::collections::BTreeMap;

use crate::sabotage::{Bug, on};
use crate::types::Now;

use super::group::{Group, Phase, Rules};
use super::state::Runs;

/// A worker's identity; as the number of a consumer it has the highest bit, which no other consumer's has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct WorkerId(u64);

const WORKER_BIT: u64 = 1 << 63;

impl WorkerId {
    /// The worker that a consumer's number stands for, if it does.
    pub(crate) fn of_consumer(number: u64) -> Option<WorkerId> {
        (number & WORKER_BIT != 0).then_some(WorkerId(number))
    }

    /// Its number as a consumer.
    pub(crate) fn consumer(self) -> u64 {
        self.0
    }
}

/// How a worker shows that it lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pulse {
    pub interval_ms: u64,
    /// So many heartbeats missed, and it is dead.
    pub missed_max: u32,
}

/// A registered worker.
pub(crate) struct Worker {
    pub name: String,
    pulse: Pulse,
    /// When it was last heard of, on the boot clock.
    pub last_ms: u64,
}

impl Worker {
    fn dead_ms(&self) -> u64 {
        let allowed = self.pulse.interval_ms.saturating_mul(u64::from(self.pulse.missed_max));
        self.last_ms.saturating_add(allowed)
    }
}

/// The live workers of a group.
#[derive(Default)]
pub(crate) struct Workers {
    live: BTreeMap<WorkerId, Worker>,
    /// Nobody is dead before, on the boot clock. A heartbeat only moves a death away, so this may be too early by then,
    /// and is found out once for each time that it comes.
    nobody_before_ms: Option<u64>,
}

impl Workers {
    fn add(&mut self, id: WorkerId, name: &str, pulse: Pulse, now: Now) {
        let worker = Worker { name: name.to_owned(), pulse, last_ms: now.boot_ms };
        let dead_ms = worker.dead_ms();
        self.nobody_before_ms = Some(self.nobody_before_ms.map_or(dead_ms, |before| before.min(dead_ms)));
        self.live.insert(id, worker);
    }

    /// Those that missed too many heartbeats.
    fn silent(&mut self, now: Now) -> Vec<WorkerId> {
        if self.nobody_before_ms.is_none_or(|before| before > now.boot_ms) {
            return Vec::new();
        }
        let is_dead = |worker: &Worker| worker.dead_ms() <= now.boot_ms;
        let dead = self.live.iter().filter(|(_, worker)| is_dead(worker)).map(|(id, _)| *id).collect();
        self.nobody_before_ms = self.live.values().filter(|worker| !is_dead(worker)).map(Worker::dead_ms).min();
        dead
    }

    fn named(&self, name: &str) -> Option<WorkerId> {
        self.live.iter().find(|(_, worker)| worker.name == name).map(|(id, _)| *id)
    }

    /// When the next one may be dead, on the boot clock.
    pub(super) fn next_due_ms(&self) -> Option<u64> {
        self.nobody_before_ms
    }

    /// All that live.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (WorkerId, &Worker)> {
        self.live.iter().map(|(id, worker)| (*id, worker))
    }
}

impl Group {
    /// Ends the worker of this name, if there is one: somebody else takes its place.
    pub(crate) fn replace_worker(&mut self, name: &str, rules: &Rules, now: Now, changes: &mut Runs) {
        if let Some(old) = self.workers.named(name) {
            self.lose_worker(old, "another worker took its name", rules, now, changes);
        }
    }

    /// A worker begins, under an identity that nobody had. There is a fence left for that.
    pub(crate) fn enlist(&mut self, name: &str, pulse: Pulse, now: Now) -> WorkerId {
        let id = WorkerId(WORKER_BIT | self.fences.take());
        self.workers.add(id, name, pulse, now);
        self.share_buckets();
        id
    }

    /// A worker lives. False if it is none any more.
    pub(crate) fn beat(&mut self, id: WorkerId, now: Now) -> bool {
        let worker = self.workers.live.get_mut(&id);
        worker.map(|worker| worker.last_ms = worker.last_ms.max(now.boot_ms)).is_some()
    }

    /// A worker goes, and gives back what it holds as if it had never begun with it.
    pub(crate) fn dismiss(&mut self, id: WorkerId, changes: &mut Runs) {
        self.release_all(id.consumer(), changes);
        self.workers.live.remove(&id);
        self.share_buckets();
    }

    /// The live workers, with how many tasks each has on loan.
    pub(crate) fn workers_on_loan(&self) -> impl Iterator<Item = (WorkerId, &Worker, u64)> {
        let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
        if !self.workers.live.is_empty() {
            for (_, task) in self.slots.iter() {
                if let Phase::Leased { consumer } = task.phase() {
                    *counts.entry(consumer).or_default() += 1;
                }
            }
        }
        let count = move |id: WorkerId| counts.get(&id.consumer()).copied().unwrap_or(0);
        self.workers.iter().map(move |(id, worker)| (id, worker, count(id)))
    }

    /// Ends the workers that fell silent.
    pub(super) fn tick_workers(&mut self, rules: &Rules, now: Now, changes: &mut Runs) {
        for id in self.workers.silent(now) {
            self.ticked = true;
            self.lose_worker(id, "its worker fell silent", rules, now, changes);
        }
    }

    /// A worker is no more: its leases end, as if they had run out.
    fn lose_worker(&mut self, id: WorkerId, why: &str, rules: &Rules, now: Now, changes: &mut Runs) {
        let is_held = |phase: Phase| matches!(phase, Phase::Leased { consumer } if consumer == id.consumer());
        let held: Vec<u32> =
            self.slots.iter().filter(|(_, task)| is_held(task.phase())).map(|(slot, _)| slot).collect();
        for slot in held {
            if on(Bug::StaleWorkerAcks) {
                continue;
            }
            self.end_lease(slot);
            self.expire(slot, why, rules, now, changes);
        }
        self.workers.live.remove(&id);
        self.share_buckets();
    }
}
