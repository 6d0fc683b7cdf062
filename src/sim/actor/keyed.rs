//! Tasks with keys, and workers: who live, fall silent, come back under their names.

use std::collections::BTreeMap;

use super::super::model::{Verdict, Worker, ensure};
use super::super::operation::How;
use super::super::schedule::Keyed;
use super::{Actor, Step};
use crate::delivery::keys::hash;
use crate::delivery::sticky::bucket_of;
use crate::delivery::workers::{Pulse, WorkerId};
use crate::error::Error;
use crate::format::fields::Traits;
use crate::types::{LaneId, LaneSet, QueueId, Seq};

/// A worker is dead after 200 ms of silence.
pub(in super::super) const PULSE: Pulse = Pulse { interval_ms: 100, missed_max: 2 };
/// The worker that sweeps has a name of its own.
const SWEEPER: u8 = 200;

impl Actor<'_> {
    pub(super) fn enqueue_keyed(&mut self, lane: LaneId, bytes: u16, key: u8, power: bool) -> Step {
        let name = key_name(self.engine.queue(), key);
        let traits = Traits { key: Some(&name), ..Traits::default() };
        self.enqueue_with(lane, bytes, power, &traits, |task| task.key = Some(key))
    }

    pub(super) fn enlist(&mut self, at: usize, name: u8) -> Step {
        let cell = self.cell(at)?;
        self.expire(at);
        let side = &mut self.model.sides[at];
        if let Some(old) = side.workers.remove(&name) {
            side.end_loans(|loan| loan.consumer == old.id.consumer());
        }
        let id = self.call(|actor| actor.engine.enlist(&cell, &format!("worker {name}"), PULSE, *actor.now))?;
        let worker = Worker { id, dead_ms: self.dead_ms() };
        self.model.sides[at].workers.insert(name, worker);
        self.settle_accounts(at, &cell)?;
        Ok(())
    }

    pub(super) fn beat(&mut self, at: usize, name: u8) -> Step {
        let Some(worker) = self.model.sides[at].workers.get(&name).copied() else { return Ok(()) };
        let lives = self.hear_of(at, name);
        let cell = self.cell(at)?;
        let heard = self.call(|actor| said(actor.engine.beat(&cell, worker.id, *actor.now)))?;
        ensure!(heard == lives, "worker {name} lives: {lives}, and was told: {heard}");
        self.settle_accounts(at, &cell)?;
        Ok(())
    }

    pub(super) fn work(&mut self, at: usize, name: u8, tasks: usize, lanes: LaneSet, lease_ms: u16) -> Step {
        let Some(worker) = self.model.sides[at].workers.get(&name).copied() else {
            return self.enlist(at, name);
        };
        if self.hear_of(at, name) {
            return self.reserve(at, tasks, lanes, lease_ms, worker.id.consumer()).map(drop);
        }
        let cell = self.cell(at)?;
        let ask = super::ask(tasks, lanes, u64::from(lease_ms), worker.id.consumer());
        let lives = self.call(|actor| said(actor.engine.reserve(&cell, &ask, *actor.now, drop).map(drop)))?;
        ensure!(!lives, "worker {name} is dead and reserves");
        self.settle_accounts(at, &cell)?;
        Ok(())
    }

    pub(super) fn dismiss(&mut self, at: usize, name: u8) -> Step {
        self.expire(at);
        let Some(worker) = self.model.sides[at].workers.remove(&name) else { return Ok(()) };
        let cell = self.cell(at)?;
        let outcome = self.call(|actor| actor.engine.dismiss(&cell, worker.id, *actor.now));
        self.gave_back(at, worker.id.consumer(), outcome.is_ok());
        outcome?;
        self.settle_accounts(at, &cell)?;
        Ok(())
    }

    /// A worker is heard of now. False if that is too late.
    fn hear_of(&mut self, at: usize, name: u8) -> bool {
        self.expire(at);
        let dead_ms = self.dead_ms();
        let worker = self.model.sides[at].workers.get_mut(&name);
        worker.map(|worker| worker.dead_ms = dead_ms).is_some()
    }

    fn dead_ms(&self) -> u64 {
        self.now.boot_ms + PULSE.interval_ms * u64::from(PULSE.missed_max)
    }

    /// In sticky mode a keyed task goes to a worker, and no other one has a task of its bucket.
    pub(super) fn check_owner(&self, at: usize, seq: Seq, consumer: u64) -> Verdict {
        let key_of = |seq: Seq| self.model.tasks.get(&seq).and_then(|task| task.key);
        let Some(key) = key_of(seq).filter(|_| self.setting.keyed == Keyed::Sticky) else { return Ok(()) };
        ensure!(WorkerId::of_consumer(consumer).is_some(), "task {seq} of key {key} goes to somebody who is no worker");
        let bucket = |key: u8| bucket_of(hash(self.engine.queue().0, &key_name(self.engine.queue(), key)));
        let others = self.model.sides[at].loans.iter().filter(|loan| loan.consumer != consumer);
        let same =
            others.filter_map(|loan| key_of(loan.handed.receipt.task.seq)).find(|other| bucket(*other) == bucket(key));
        ensure!(same.is_none(), "keys {key} and {same:?} are of one bucket and on loan to two workers");
        Ok(())
    }

    /// Of each key at most one task was handed out and is not settled for good.
    pub(super) fn check_keys(&self, at: usize) -> Verdict {
        if self.setting.keyed == Keyed::No {
            return Ok(());
        }
        let side = &self.model.sides[at];
        let mut begun: BTreeMap<u8, Seq> = BTreeMap::new();
        for seq in &side.met {
            let Some(key) = self.model.tasks.get(seq).and_then(|task| task.key) else { continue };
            if !side.mine.get(seq).is_some_and(|mine| mine.is_open()) || self.unreadable(*seq) {
                continue;
            }
            let other = begun.insert(key, *seq);
            ensure!(other.is_none(), "tasks {other:?} and {seq} of key {key} were handed out, and neither is settled");
        }
        Ok(())
    }

    /// Takes what waits for keys, and in sticky mode for a worker, until nothing does.
    pub(super) fn sweep_keys(&mut self, at: usize, long_ms: u64) -> Step {
        if self.setting.keyed == Keyed::No {
            return Ok(());
        }
        let mut idle = 0;
        while idle < 2 {
            // A retry that a recovery found begins its delay when it is met, and that may be behind another one.
            self.now.boot_ms += long_ms;
            self.now.wall.0 += long_ms;
            self.enlist(at, SWEEPER)?;
            idle += 1;
            loop {
                let worker = self.model.sides[at].workers.get(&SWEEPER).map_or(0, |worker| worker.id.consumer());
                self.hear_of(at, SWEEPER);
                let taken = self.reserve(at, 7, LaneSet::ALL, u16::MAX, worker)?;
                let keyless = |seq: Seq| self.model.tasks.get(&seq).is_none_or(|task| task.key.is_none());
                let loans = &mut self.model.sides[at].loans;
                loans.sort_by_key(|loan| keyless(loan.handed.receipt.task.seq));
                let keyed = loans.iter().filter(|loan| !keyless(loan.handed.receipt.task.seq)).count();
                if taken + keyed == 0 {
                    break;
                }
                // What has no key comes back with each new sweeper, and leads nowhere.
                if keyed > 0 {
                    idle = 0;
                    self.settle(at, 0, keyed, How::Ack)?;
                }
            }
        }
        Ok(())
    }
}

/// Whether somebody is a worker still.
fn said(outcome: Result<(), Error>) -> Result<bool, Error> {
    match outcome {
        Ok(()) => Ok(true),
        Err(Error::WorkerLost { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The bytes of a key: 0 and 1 are of one bucket, and so are 2 and 3.
pub(super) fn key_name(queue: QueueId, key: u8) -> Vec<u8> {
    let first = vec![b'k', key / 2];
    if key.is_multiple_of(2) {
        return first;
    }
    let bucket = bucket_of(hash(queue.0, &first));
    let others = (0_u16..).map(|number| [first.as_slice(), &number.to_le_bytes()].concat());
    others.into_iter().find(|other| bucket_of(hash(queue.0, other)) == bucket).unwrap_or(first)
}
