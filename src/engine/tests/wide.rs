//! A wider workload and its oracle: several groups, made at any time; batches of acks; rejected and worn-out tasks;
//! clean closes. Driven through several crashes in a row by `many`.

use std::collections::{BTreeMap, BTreeSet};

use super::world::{self, ask, ready};
use crate::delivery::Ask;
use crate::engine::Engine;
use crate::engine::append::TaskDraft;
use crate::engine::deliver::Handed;
use crate::engine::groups::Start;
use crate::engine::settle::Settle;
use crate::error::{DamageKind, Error};
use crate::format::meta::StoredOptions;
use crate::sim::{Loss, Rng, SimDisk};
use crate::types::{Durability, LaneId, Now, Seq, Timestamp};

pub(super) type TaskKey = (LaneId, Seq);

const LANES: u8 = 2;
const ATTEMPTS_MAX: u32 = 4;
const SIDES_MAX: usize = 3;

/// How sure something is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) enum Sure {
    #[default]
    No,
    /// It took effect; a power loss may undo it.
    Process,
    Power,
}

/// A task as it was accepted. Kept for good, so that no sequence is given out twice.
struct Told {
    payload: Vec<u8>,
    durable: bool,
    batch: u64,
}

/// What a group was told of a task that it may see.
#[derive(Clone, Default, Debug)]
pub(super) struct Mine {
    /// It has to see it; else it may.
    must: bool,
    acked: Sure,
    dead: Sure,
    attempts: u32,
    /// Attempts taken back that a power loss may bring again.
    taken_back: u32,
}

/// One group as its callers know it.
struct Side {
    name: String,
    born: Sure,
    mine: BTreeMap<TaskKey, Mine>,
    loans: Vec<Handed>,
}

pub(super) struct Wide {
    pub rng: Rng,
    pub now: Now,
    told: BTreeMap<TaskKey, Told>,
    sides: Vec<Side>,
    batches: u64,
    /// Several acks in one entry.
    pub ack_runs: bool,
    pub seen: u64,
    pub buried: u64,
    pub closes: u64,
}

/// What a step asks its driver to do.
pub(super) enum Next {
    Step,
    /// The queue was closed cleanly: open it again.
    Reopen,
}

pub(super) fn options() -> StoredOptions {
    StoredOptions { lanes: u16::from(LANES), max_attempts: ATTEMPTS_MAX, ..world::options() }
}

impl Wide {
    pub(super) fn new(seed: u64) -> Self {
        let default = Side { name: "default".to_owned(), born: Sure::Power, mine: BTreeMap::new(), loans: Vec::new() };
        Wide {
            rng: Rng::new(seed),
            now: Now { boot_ms: 1_000, wall: Timestamp(1_000_000) },
            told: BTreeMap::new(),
            sides: vec![default],
            batches: 0,
            ack_runs: false,
            seen: 0,
            buried: 0,
            closes: 0,
        }
    }

    pub(super) fn step(&mut self, engine: &Engine) -> Result<Next, Error> {
        self.now.boot_ms += self.rng.below(50);
        self.now.wall.0 += self.rng.below(50);
        match self.rng.below(32) {
            0..=7 => self.append(engine)?,
            8 | 9 => self.append_batch(engine)?,
            10..=14 => self.reserve(engine)?,
            15..=22 => self.settle(engine)?,
            23 | 24 => engine.checkpoint(self.now, false)?,
            25 => engine.sync_all(self.now.wall).map(|()| self.all_durable())?,
            26 => engine.mark_idle(self.now.wall)?,
            27 => engine.write_footers()?,
            28 => self.create_group(engine)?,
            29 => return self.close(engine),
            30 => drop(engine.recycle()),
            _ => {
                self.now.boot_ms += self.rng.below(2_000);
                engine.tick(self.now)?;
            }
        }
        self.settle_accounts(engine);
        Ok(Next::Step)
    }

    fn append(&mut self, engine: &Engine) -> Result<(), Error> {
        let lane = LaneId(u8::try_from(self.rng.below(u64::from(LANES))).unwrap());
        let power = self.rng.once_in(2);
        let payload = self.payload();
        let durability = if power { Durability::Power } else { Durability::Process };
        let draft = TaskDraft { fields: &[], payload: &payload, durability };
        let appended = ready(engine, || engine.append(lane, &draft, self.now.wall))?;
        self.tell((lane, appended.first), payload, 0);
        if power {
            self.commit_lane(engine, lane)?;
        }
        Ok(())
    }

    fn append_batch(&mut self, engine: &Engine) -> Result<(), Error> {
        let lane = LaneId(u8::try_from(self.rng.below(u64::from(LANES))).unwrap());
        let payloads: Vec<Vec<u8>> = (0..2 + self.rng.below(6)).map(|_| self.payload()).collect();
        let durability = if self.rng.once_in(2) { Durability::Power } else { Durability::Process };
        let drafts: Vec<TaskDraft<'_>> =
            payloads.iter().map(|payload| TaskDraft { fields: &[], payload, durability }).collect();
        let appended = ready(engine, || engine.append_batch(lane, &drafts, self.now.wall))?;
        self.batches += 1;
        for (seq, payload) in (appended.first.0..).zip(payloads) {
            self.tell((lane, Seq(seq)), payload, self.batches);
        }
        if self.rng.once_in(2) {
            self.commit_lane(engine, lane)?;
        }
        Ok(())
    }

    fn payload(&mut self) -> Vec<u8> {
        let length = if self.rng.once_in(3) { self.rng.below(500) } else { self.rng.below(60) };
        (0..length).map(|_| u8::try_from(self.rng.below(256)).unwrap()).collect()
    }

    fn tell(&mut self, key: TaskKey, payload: Vec<u8>, batch: u64) {
        let told = Told { payload, durable: false, batch };
        assert!(self.told.insert(key, told).is_none(), "sequence {key:?} was given out twice");
        for side in &mut self.sides {
            side.mine.insert(key, Mine { must: true, ..Mine::default() });
        }
    }

    fn commit_lane(&mut self, engine: &Engine, lane: LaneId) -> Result<(), Error> {
        engine.commit(engine.lanes().log(lane).unwrap(), self.now.wall)?;
        self.told.iter_mut().filter(|((l, _), _)| *l == lane).for_each(|(_, told)| told.durable = true);
        Ok(())
    }

    fn pick(&mut self) -> usize {
        usize::try_from(self.rng.below(self.sides.len() as u64)).unwrap()
    }

    fn reserve(&mut self, engine: &Engine) -> Result<(), Error> {
        let tasks = 1 + usize::try_from(self.rng.below(6)).unwrap();
        let at = self.pick();
        let cell = engine.group(&self.sides[at].name)?;
        let handed = engine.reserve(&cell, &ask(tasks), self.now, |one| one)?;
        self.settle_accounts(engine);
        let side = &mut self.sides[at];
        for one in handed {
            let key = (one.receipt.task.lane, one.receipt.task.seq);
            assert!(!side.loans.iter().any(|loan| loan.receipt.task == one.receipt.task), "two leases of {key:?}");
            let mine = side.mine.get_mut(&key).unwrap_or_else(|| panic!("{key:?} is not for {}", side.name));
            assert_eq!(one.payload, self.told[&key].payload, "payload of {key:?}");
            assert_eq!((mine.acked, mine.dead), (Sure::No, Sure::No), "{key:?} is settled and comes again");
            mine.must = true;
            mine.attempts += 1;
            assert_eq!(one.receipt.attempt, mine.attempts, "attempts of {key:?}");
            self.seen += 1;
            side.loans.push(one);
        }
        Ok(())
    }

    fn settle(&mut self, engine: &Engine) -> Result<(), Error> {
        let at = self.pick();
        let cell = engine.group(&self.sides[at].name)?;
        let count = if self.ack_runs && self.rng.once_in(2) { 1 + self.rng.below(6) } else { 1 };
        let side = &mut self.sides[at];
        let count = usize::try_from(count).unwrap().min(side.loans.len());
        if count == 0 {
            return Ok(());
        }
        let from = usize::try_from(self.rng.below((side.loans.len() - count + 1) as u64)).unwrap();
        let loans: Vec<Handed> = side.loans.drain(from..from + count).collect();
        let how = match self.rng.below(10) {
            _ if count > 1 => Settle::Ack,
            0 | 1 => Settle::Nack { delay_ms: Some(5), reason: "wide" },
            2 => Settle::Release,
            3 => Settle::Reject { reason: "wide" },
            _ => Settle::Ack,
        };
        let settled = engine.settle(&cell, loans.iter().map(|loan| loan.receipt), how, self.now)?;
        for (loan, answer) in loans.iter().zip(&settled.answers) {
            let mine = side.mine.get_mut(&(loan.receipt.task.lane, loan.receipt.task.seq)).unwrap();
            match (how, answer) {
                (_, Err(_)) => {}
                (Settle::Ack, Ok(())) => mine.acked = Sure::Process,
                (Settle::Reject { .. }, Ok(())) => mine.dead = Sure::Process,
                (Settle::Release, Ok(())) => {
                    mine.attempts -= 1;
                    mine.taken_back += 1;
                }
                (Settle::Nack { .. } | Settle::Extend { .. }, Ok(())) => {}
            }
        }
        self.settle_accounts(engine);
        if self.rng.once_in(2) {
            engine.commit(engine.journal(), self.now.wall)?;
            self.journal_durable();
        }
        Ok(())
    }

    fn create_group(&mut self, engine: &Engine) -> Result<(), Error> {
        if self.sides.len() >= SIDES_MAX {
            return Ok(());
        }
        // A lane without an active segment does not know its newest task.
        let rest = engine.lanes().all().any(|(_, log)| log.head().is_none());
        let start = if rest || self.rng.once_in(2) { Start::Oldest } else { Start::Newest };
        let name = format!("group-{}", self.rng.next());
        engine.create_group(&name, start, self.now)?;
        let mut mine = BTreeMap::new();
        if start == Start::Oldest {
            for key in self.told.keys() {
                let kept = |side: &Side| side.mine.get(key).is_some_and(|mine| mine.must && mine.acked == Sure::No);
                mine.insert(*key, Mine { must: self.sides.iter().any(kept), ..Mine::default() });
            }
        }
        self.sides.push(Side { name, born: Sure::Process, mine, loans: Vec::new() });
        if self.rng.once_in(2) {
            engine.commit(engine.journal(), self.now.wall)?;
            self.journal_durable();
        }
        Ok(())
    }

    fn close(&mut self, engine: &Engine) -> Result<Next, Error> {
        engine.sync_all(self.now.wall)?;
        engine.mark_idle(self.now.wall)?;
        self.all_durable();
        engine.checkpoint(self.now, true)?;
        self.sides.iter_mut().for_each(|side| side.loans.clear());
        self.closes += 1;
        Ok(Next::Reopen)
    }

    /// Forgets loans that ran out, and takes over which tasks used up their attempts.
    fn settle_accounts(&mut self, engine: &Engine) {
        for side in &mut self.sides {
            let Ok(cell) = engine.group(&side.name) else { continue };
            {
                let group = &cell.state.lock().group;
                let holds =
                    |one: &Handed| group.holds(one.receipt.ticket(), one.receipt.task.lane, one.receipt.task.seq);
                side.loans.retain(holds);
            }
            let dead = dead_of(engine, &side.name);
            for key in &dead {
                let mine = side.mine.get_mut(key).unwrap_or_else(|| panic!("{key:?} is dead for {}", side.name));
                if mine.dead == Sure::No {
                    assert!(mine.attempts >= ATTEMPTS_MAX, "{key:?} is dead after {} attempts", mine.attempts);
                    mine.dead = Sure::Process;
                    self.buried += 1;
                }
            }
            let forgotten = side.mine.iter().find(|(key, mine)| mine.dead != Sure::No && !dead.contains(key));
            assert!(forgotten.is_none(), "{forgotten:?} was a dead letter of {}", side.name);
        }
    }

    fn all_durable(&mut self) {
        self.told.values_mut().for_each(|told| told.durable = true);
        self.journal_durable();
    }

    fn journal_durable(&mut self) {
        let raise = |sure: &mut Sure| *sure = if *sure == Sure::No { Sure::No } else { Sure::Power };
        for side in &mut self.sides {
            raise(&mut side.born);
            for mine in side.mine.values_mut() {
                mine.taken_back = 0;
                raise(&mut mine.acked);
                raise(&mut mine.dead);
            }
        }
    }

    // ---- the oracle ----

    /// Checks a recovered queue on a copy of its disk, and takes over what it shows.
    pub(super) fn check(&mut self, disk: &SimDisk, loss: Loss) {
        let engine = super::many::open(&disk.restart(Loss::Process), self.now).expect("a recovered queue opens again");
        let damage: Vec<_> = engine.damage().into_iter().filter(|d| d.kind != DamageKind::Torn).collect();
        assert!(damage.is_empty(), "damage where none was done: {damage:?}");
        self.sides.retain(|side| {
            let there = engine.group(&side.name).is_ok();
            assert!(there || (side.born == Sure::Process && loss == Loss::Power), "{} is gone", side.name);
            there
        });
        let mut survivors = BTreeSet::new();
        let mut lost = BTreeSet::new();
        for side in &mut self.sides {
            side.born = Sure::Power;
            side.loans.clear();
            let buried = dead_of(&engine, &side.name);
            let shown = drain(&engine, &side.name, self.now);
            let dead = dead_of(&engine, &side.name);
            check_order(&shown);
            check_side(side, &self.told, &shown, &dead, loss);
            check_batches(side, &self.told, &shown, &dead);
            for key in &dead {
                let log = engine.lanes().log(key.0).expect("a dead letter's lane");
                assert!(log.segment_of(key.1).is_some(), "the record of dead letter {key:?} is gone");
            }
            take_over(side, &shown, (&buried, &dead), &mut lost);
            survivors.extend(shown.iter().map(|one| (one.receipt.task.lane, one.receipt.task.seq)));
            survivors.extend(dead);
        }
        for (key, told) in &mut self.told {
            told.durable |= survivors.contains(key);
        }
        for key in lost.difference(&survivors) {
            // One that did not survive never comes back, for nobody.
            for side in &mut self.sides {
                side.mine.remove(key);
            }
        }
    }
}

fn check_side(side: &Side, all: &BTreeMap<TaskKey, Told>, shown: &[Handed], dead: &BTreeSet<TaskKey>, loss: Loss) {
    let power = loss == Loss::Power;
    let mut seen = BTreeSet::new();
    for one in shown {
        let key = (one.receipt.task.lane, one.receipt.task.seq);
        assert!(seen.insert(key), "{key:?} is delivered twice to {}", side.name);
        let mine = side.mine.get(&key).unwrap_or_else(|| panic!("{key:?} is not for {}, or is gone", side.name));
        assert_eq!(one.payload, all[&key].payload, "payload of {key:?}");
        for settled in [mine.acked, mine.dead] {
            assert!(settled == Sure::No || (settled == Sure::Process && power), "{key:?} is settled: {mine:?}");
        }
        assert!(one.receipt.attempt <= mine.attempts + mine.taken_back + 1, "attempts of {key:?} are too high");
        assert!(power || one.receipt.attempt == mine.attempts + 1, "attempts of {key:?} are too low");
    }
    for (key, mine) in &side.mine {
        let survives = all[key].durable || !power;
        let there = seen.contains(key) || dead.contains(key);
        assert!(
            !mine.must || mine.acked != Sure::No || !survives || there,
            "{key:?} is lost for {}: {mine:?}",
            side.name
        );
        let stays = mine.dead == Sure::Power || (mine.dead == Sure::Process && !power);
        assert!(!stays || !survives || dead.contains(key), "dead letter {key:?} of {} is lost", side.name);
    }
    for key in dead {
        let mine = side.mine.get(key).unwrap_or_else(|| panic!("{key:?} is dead for {} and was not for it", side.name));
        let worn_out = mine.attempts + mine.taken_back >= ATTEMPTS_MAX;
        assert!(mine.dead != Sure::No || worn_out, "{key:?} is dead for {}: {mine:?}", side.name);
        let undone = mine.acked == Sure::Process && power;
        assert!(mine.acked == Sure::No || undone, "{key:?} was acked and is dead for {}", side.name);
    }
}

fn check_order(shown: &[Handed]) {
    let mut last: BTreeMap<LaneId, Seq> = BTreeMap::new();
    for one in shown {
        let task = one.receipt.task;
        let before = last.insert(task.lane, task.seq);
        assert!(before.is_none_or(|before| before < task.seq), "order in lane {}", task.lane);
    }
}

fn check_batches(side: &Side, all: &BTreeMap<TaskKey, Told>, shown: &[Handed], dead: &BTreeSet<TaskKey>) {
    let seen: BTreeSet<TaskKey> = shown.iter().map(|one| (one.receipt.task.lane, one.receipt.task.seq)).collect();
    let mut batches: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for (key, _) in side.mine.iter().filter(|(_, mine)| mine.must && mine.acked == Sure::No) {
        let (there, count) = batches.entry(all[key].batch).or_default();
        *there += u64::from(seen.contains(key) || dead.contains(key));
        *count += 1;
    }
    for (batch, (there, count)) in batches.into_iter().filter(|(batch, _)| *batch > 0) {
        assert!(there == 0 || there == count, "batch {batch}: {there} of {count} survived for {}", side.name);
    }
}

/// What a side shows after a crash is what it was told from here on.
/// `dead` are the letters before and after the drain, which gives up on what is worn out.
fn take_over(
    side: &mut Side,
    shown: &[Handed],
    dead: (&BTreeSet<TaskKey>, &BTreeSet<TaskKey>),
    lost: &mut BTreeSet<TaskKey>,
) {
    let attempts: BTreeMap<TaskKey, u32> =
        shown.iter().map(|one| ((one.receipt.task.lane, one.receipt.task.seq), one.receipt.attempt - 1)).collect();
    for (key, mine) in &mut side.mine {
        mine.taken_back = 0;
        if let Some(attempts) = attempts.get(key) {
            *mine = Mine { must: true, attempts: *attempts, ..Mine::default() };
        } else if dead.0.contains(key) {
            *mine = Mine { must: true, dead: Sure::Power, attempts: mine.attempts, ..Mine::default() };
        } else if dead.1.contains(key) {
            // In the queue itself that happens at the next reserve.
            *mine = Mine { must: true, attempts: ATTEMPTS_MAX, ..Mine::default() };
        } else {
            if mine.must && mine.acked == Sure::No {
                lost.insert(*key);
            }
            mine.acked = Sure::Power;
        }
    }
}

fn dead_of(engine: &Engine, group: &str) -> BTreeSet<TaskKey> {
    let cell = engine.group(group).unwrap();
    let dead = engine.dead_letters(&cell);
    dead.iter().map(|letter| (letter.id.lane(), letter.id.seq())).collect()
}

/// Everything that a group still has to deliver, delays over, on loan for ever.
fn drain(engine: &Engine, group: &str, now: Now) -> Vec<Handed> {
    let cell = engine.group(group).unwrap();
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
