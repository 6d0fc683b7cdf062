//! A workload over the engine and what it was promised: the oracle.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use crate::delivery::Ask;
use crate::engine::append::TaskDraft;
use crate::engine::deliver::Handed;
use crate::engine::recovery::{self, Given};
use crate::engine::settle::Settle;
use crate::engine::{Attempt, Engine};
use crate::error::{DamageKind, Error};
use crate::format::meta::StoredOptions;
use crate::sim::{Loss, Rng, SimDisk};
use crate::types::{Durability, LaneId, LaneSet, Now, Seq, Timestamp};

type TaskKey = (LaneId, Seq);

/// What the caller was told of a task.
#[derive(Clone, Debug)]
struct Told {
    payload: Vec<u8>,
    /// Acknowledged at `Power`, or kept by a recovery since.
    durable: bool,
    ack: Ack,
    /// Attempts that began and were not taken back.
    attempts: u32,
    /// Attempts taken back by releases that a power loss may undo, like a `Process` ack.
    taken_back: u32,
    batch: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ack {
    None,
    /// Took effect, may be undone by a power loss.
    Process,
    Power,
}

/// The model, the clock and what is on loan.
pub(super) struct World {
    pub rng: Rng,
    told: BTreeMap<TaskKey, Told>,
    /// Tasks that did not survive, or are settled for good: none of them may come back.
    gone: BTreeSet<TaskKey>,
    loans: Vec<Handed>,
    now: Now,
    batches: u64,
    pub delivered: u64,
}

const LANES: u8 = 3;

pub(super) fn options() -> StoredOptions {
    StoredOptions::tiny(u16::from(LANES))
}

pub(super) fn open(disk: &SimDisk, now: Now) -> Result<Engine, Error> {
    let given = Given { resolve: &|_| Ok(options()), fail_on_damage: false };
    let engine = recovery::open(Arc::new(disk.clone()), Path::new("sim"), &given, now)?;
    engine.sweep_strays();
    Ok(engine)
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        World {
            rng: Rng::new(seed),
            told: BTreeMap::new(),
            gone: BTreeSet::new(),
            loans: Vec::new(),
            now: Now { boot_ms: 1_000, wall: Timestamp(1_000_000) },
            batches: 0,
            delivered: 0,
        }
    }

    pub(super) fn now(&self) -> Now {
        self.now
    }

    /// One random step. An error means that the machine stopped, or that a sync failed.
    pub(super) fn step(&mut self, engine: &Engine) -> Result<(), Error> {
        self.now.boot_ms += self.rng.below(50);
        self.now.wall.0 += self.rng.below(50);
        match self.rng.below(16) {
            0..=4 => self.append(engine),
            5 => self.append_batch(engine),
            6 | 7 => self.reserve(engine),
            8..=10 => self.settle(engine),
            11 => engine.checkpoint(self.now, false),
            12 => engine.sync_all(self.now.wall).map(|()| self.all_durable()),
            13 => engine.mark_idle(self.now.wall),
            14 => engine.write_footers(self.now.wall),
            _ => {
                self.now.boot_ms += self.rng.below(2_000);
                engine.tick(self.now).map(|_| self.drop_expired(engine))
            }
        }
    }

    /// Steps on until one is refused.
    pub(super) fn step_until_refused(&mut self, engine: &Engine) -> Option<Error> {
        (0..50).find_map(|_| self.append(engine).err())
    }

    fn append(&mut self, engine: &Engine) -> Result<(), Error> {
        let lane = LaneId(u8::try_from(self.rng.below(u64::from(LANES))).unwrap());
        let power = self.rng.once_in(2);
        let payload = self.payload();
        let durability = if power { Durability::Power } else { Durability::Process };
        let draft = TaskDraft::plain(&payload, durability);
        let appended = ready(engine, || engine.append(lane, &draft, self.now.wall))?;
        self.tell((lane, appended.first), payload, 0);
        if power {
            engine.commit(engine.lanes().log(lane).unwrap(), self.now.wall)?;
            self.told.get_mut(&(lane, appended.first)).unwrap().durable = true;
        }
        Ok(())
    }

    fn append_batch(&mut self, engine: &Engine) -> Result<(), Error> {
        let lane = LaneId(u8::try_from(self.rng.below(u64::from(LANES))).unwrap());
        let payloads: Vec<Vec<u8>> = (0..2 + self.rng.below(4)).map(|_| self.payload()).collect();
        let drafts: Vec<TaskDraft<'_>> =
            payloads.iter().map(|payload| TaskDraft::plain(payload, Durability::Power)).collect();
        let appended = ready(engine, || engine.append_batch(lane, &drafts, self.now.wall))?;
        self.batches += 1;
        let batch = self.batches;
        let keys: Vec<TaskKey> = (appended.first.0..).take(payloads.len()).map(|seq| (lane, Seq(seq))).collect();
        for (key, payload) in keys.iter().zip(payloads) {
            self.tell(*key, payload, batch);
        }
        if self.rng.once_in(2) {
            engine.commit(engine.lanes().log(lane).unwrap(), self.now.wall)?;
            keys.iter().for_each(|key| self.told.get_mut(key).unwrap().durable = true);
        }
        Ok(())
    }

    fn payload(&mut self) -> Vec<u8> {
        let length = if self.rng.once_in(4) { self.rng.below(600) } else { self.rng.below(60) };
        (0..length).map(|_| u8::try_from(self.rng.below(256)).unwrap()).collect()
    }

    fn tell(&mut self, key: TaskKey, payload: Vec<u8>, batch: u64) {
        assert!(!self.gone.contains(&key), "sequence {key:?} was given out before");
        let told = Told { payload, durable: false, ack: Ack::None, attempts: 0, taken_back: 0, batch };
        assert!(self.told.insert(key, told).is_none(), "sequence {key:?} was given out twice");
    }

    fn reserve(&mut self, engine: &Engine) -> Result<(), Error> {
        let tasks = 1 + usize::try_from(self.rng.below(4)).unwrap();
        let handed = engine.reserve(&*engine.group("default")?, &ask(tasks), self.now, |one| one)?;
        self.drop_expired(engine);
        for one in handed {
            let key = (one.receipt.task.lane, one.receipt.task.seq);
            assert!(!self.loans.iter().any(|loan| loan.receipt.task == one.receipt.task), "two leases of {key:?}");
            let told = self.told.get_mut(&key).unwrap_or_else(|| panic!("{key:?} was never accepted"));
            assert_eq!(one.body.payload(), told.payload, "payload of {key:?}");
            assert_eq!(told.ack, Ack::None, "{key:?} was acked and comes again");
            told.attempts += 1;
            assert_eq!(one.receipt.attempt, told.attempts, "attempts of {key:?}");
            self.delivered += 1;
            self.loans.push(one);
        }
        Ok(())
    }

    fn settle(&mut self, engine: &Engine) -> Result<(), Error> {
        if self.loans.is_empty() {
            return Ok(());
        }
        let pick = usize::try_from(self.rng.below(self.loans.len() as u64)).unwrap();
        let loan = self.loans.swap_remove(pick);
        let key = (loan.receipt.task.lane, loan.receipt.task.seq);
        let how = match self.rng.below(8) {
            0 => Settle::Nack { delay_ms: Some(5), reason: "sim" },
            1 => Settle::Release,
            _ => Settle::Ack,
        };
        let cell = engine.group("default")?;
        let settled = engine.settle(&cell, std::iter::once(loan.receipt), how, self.now)?;
        let told = self.told.get_mut(&key).unwrap();
        if settled.answers[0].is_err() {
            // The lease ran out just now; the attempt stays counted.
            return Ok(());
        }
        match how {
            Settle::Ack => told.ack = Ack::Process,
            Settle::Release => {
                told.attempts -= 1;
                told.taken_back += 1;
            }
            _ => {}
        }
        if self.rng.once_in(2) {
            engine.commit(engine.journal(), self.now.wall)?;
            self.journal_durable();
        }
        Ok(())
    }

    /// Receipts whose lease ran out are refused from now on; forget them.
    fn drop_expired(&mut self, engine: &Engine) {
        let cell = engine.group("default").unwrap();
        let work = cell.state.lock();
        self.loans
            .retain(|loan| work.group.holds(loan.receipt.ticket(), loan.receipt.task.lane, loan.receipt.task.seq));
    }

    fn all_durable(&mut self) {
        self.told.values_mut().for_each(|told| told.durable = true);
        self.journal_durable();
    }

    fn journal_durable(&mut self) {
        for told in self.told.values_mut() {
            told.taken_back = 0;
            if told.ack == Ack::Process {
                told.ack = Ack::Power;
            }
        }
    }

    /// Checks a recovered queue against everything that was promised, on a copy of its disk, and takes over what
    /// it shows: what survived is durable from here on, what did not is gone.
    pub(super) fn check(&mut self, disk: &SimDisk, loss: Loss) {
        self.loans.clear();
        let copy = disk.restart(Loss::Process);
        let engine = open(&copy, self.now).expect("a recovered queue opens again");
        let damage: Vec<_> = engine.damage().into_iter().filter(|d| d.kind != DamageKind::Torn).collect();
        assert!(damage.is_empty(), "damage where none was done: {damage:?}");
        let shown = drain(&engine, self.now);
        self.check_order(&shown);
        let mut seen = BTreeSet::new();
        for one in &shown {
            let key = (one.receipt.task.lane, one.receipt.task.seq);
            assert!(seen.insert(key), "{key:?} is delivered twice");
            let told = self.told.get(&key).unwrap_or_else(|| panic!("{key:?} was not accepted, or is gone"));
            assert_eq!(one.body.payload(), told.payload, "payload of {key:?}");
            assert_ne!(told.ack, Ack::Power, "{key:?} was acked at Power");
            assert!(loss == Loss::Power || told.ack == Ack::None, "{key:?} was acked, and the process only died");
            assert!(one.receipt.attempt <= told.attempts + told.taken_back + 1, "attempts of {key:?} are too high");
            assert!(loss == Loss::Power || one.receipt.attempt == told.attempts + 1, "attempts of {key:?} are too low");
        }
        for (key, told) in &self.told {
            let must = told.ack == Ack::None && (told.durable || loss == Loss::Process);
            assert!(!must || seen.contains(key), "{key:?} is lost: {told:?}");
        }
        self.check_batches(&seen);
        for key in self.told.keys().filter(|key| !seen.contains(key)) {
            self.gone.insert(*key);
        }
        self.told.retain(|key, _| seen.contains(key));
        for one in &shown {
            let told = self.told.get_mut(&(one.receipt.task.lane, one.receipt.task.seq)).unwrap();
            (told.durable, told.ack) = (true, Ack::None);
            (told.attempts, told.taken_back) = (one.receipt.attempt - 1, 0);
        }
    }

    /// Right after a reopen nothing is due yet, so each lane comes in the order of its sequences.
    fn check_order(&self, shown: &[Handed]) {
        let mut last: BTreeMap<LaneId, Seq> = BTreeMap::new();
        for one in shown {
            let task = one.receipt.task;
            let before = last.insert(task.lane, task.seq);
            assert!(before.is_none_or(|before| before < task.seq), "order in lane {}", task.lane);
        }
    }

    fn check_batches(&self, seen: &BTreeSet<TaskKey>) {
        let mut batches: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        for (key, told) in self.told.iter().filter(|(_, told)| told.batch > 0 && told.ack == Ack::None) {
            let (there, all) = batches.entry(told.batch).or_default();
            *there += u64::from(seen.contains(key));
            *all += 1;
        }
        for (batch, (there, all)) in batches {
            assert!(there == 0 || there == all, "batch {batch}: {there} of {all} survived");
        }
    }
}

pub(super) fn ask(tasks: usize) -> Ask {
    Ask { tasks, bytes: u64::MAX, lanes: LaneSet::ALL, lease_ms: 500, consumer: 1 }
}

/// Acks what the group is handed, up to `tasks`, and gives how much that was.
pub(super) fn ack_up_to(engine: &Engine, group: &str, tasks: usize, now: Now) -> usize {
    let cell = engine.group(group).unwrap();
    let handed = engine.reserve(&cell, &ask(tasks), now, |one| one).unwrap();
    let settled = engine.settle(&cell, handed.iter().map(|one| one.receipt), Settle::Ack, now).unwrap();
    assert!(settled.answers.iter().all(Result::is_ok));
    handed.len()
}

/// Makes segments ready until the step can be taken.
pub(super) fn ready<T>(engine: &Engine, step: impl Fn() -> Result<Attempt<T>, Error>) -> Result<T, Error> {
    loop {
        match step()? {
            Attempt::Done(value) => return Ok(value),
            Attempt::NotReady => while engine.prepare()? {},
        }
    }
}

/// Everything that the default group still has to deliver, delays over, on loan for ever.
pub(super) fn drain(engine: &Engine, now: Now) -> Vec<Handed> {
    let cell = engine.group("default").unwrap();
    let late = Now { boot_ms: now.boot_ms + 1_000_000, wall: Timestamp(now.wall.0 + 1_000_000) };
    let mut shown = Vec::new();
    loop {
        let handed = engine.reserve(&cell, &Ask { lease_ms: u64::MAX / 2, ..ask(7) }, late, |one| one).unwrap();
        if handed.is_empty() {
            return shown;
        }
        shown.extend(handed);
    }
}
