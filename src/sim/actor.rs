//! Takes one step after the other on the engine that ships, and notes what came of it in the model.
//!
//! What a caller may believe is taken from what the engine *says*: a return value, or a watermark. So a watermark that
//! moves too early is as much a lie as a call that returns too early.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::disk::SimDisk;
use super::model::{Loan, Model, Payload, Side, Sure, Verdict, Violation, ensure};
use super::operation::{How, Op};
use super::schedule::Setting;
use crate::delivery::Ask;
use crate::engine::append::TaskDraft;
use crate::engine::deliver::Handed;
use crate::engine::groups::{GroupCell, Start};
use crate::engine::receipt::Receipt;
use crate::engine::recovery::{self, Given};
use crate::engine::settle::Settle;
use crate::engine::{Attempt, Engine};
use crate::error::{Damage, Error};
use crate::log::{Log, Stalled};
use crate::types::{Durability, LaneId, LaneSet, Now, Seq, Timestamp};

/// Most groups of a queue here, the default one included.
const SIDES_MAX: usize = 3;
/// Longer than any lease or delay that a schedule asks for.
const LONG_MS: u64 = 2_000;

/// One open queue and its callers.
pub(super) struct Actor<'a> {
    pub engine: Engine,
    pub disk: &'a SimDisk,
    pub model: &'a mut Model,
    pub now: &'a mut Now,
    setting: Setting,
    /// Tasks accepted in this open, by lane: where each ends in its log.
    ends: BTreeMap<LaneId, BTreeMap<u64, Seq>>,
    stalls: Vec<Stall>,
}

/// A producer that stands still between claim and publish.
struct Stall {
    lane: LaneId,
    claim: Stalled,
    /// What it will publish, if it goes on.
    payload: Option<Payload>,
    /// How many groups there ever were as it claimed.
    groups: u32,
}

/// What comes after a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Flow {
    Go,
    /// The machine stopped, or the engine refuses everything until it is opened again.
    Stop,
    Reopen,
}

/// Why a step did not go to its end.
enum Halt {
    Flow(Flow),
    Wrong(Violation),
}

impl From<Violation> for Halt {
    fn from(violation: Violation) -> Self {
        Halt::Wrong(violation)
    }
}

type Step<T = ()> = Result<T, Halt>;

/// Opens the queue on `disk`.
pub(super) fn open(disk: &SimDisk, setting: Setting, now: Now) -> Result<Engine, Error> {
    let given = Given { resolve: &|_| Ok(setting.options()), fail_on_damage: false };
    let engine = recovery::open(Arc::new(disk.clone()), Path::new("sim"), &given, now)?;
    engine.sweep_strays();
    Ok(engine.padding_commits(setting.pad_commits))
}

impl<'a> Actor<'a> {
    pub(super) fn new(
        engine: Engine,
        setting: Setting,
        disk: &'a SimDisk,
        model: &'a mut Model,
        now: &'a mut Now,
    ) -> Self {
        Actor { engine, disk, model, now, setting, ends: BTreeMap::new(), stalls: Vec::new() }
    }

    /// One step.
    pub(super) fn step(&mut self, op: Op) -> Verdict<Flow> {
        self.now.boot_ms += 1;
        self.now.wall.0 += 1;
        match self.act(op) {
            Ok(()) => {
                self.observe();
                Ok(if op == Op::Reopen { Flow::Reopen } else { Flow::Go })
            }
            Err(Halt::Flow(flow)) => Ok(flow),
            Err(Halt::Wrong(Violation(text))) => Err(Violation(format!("{op}: {text}"))),
        }
    }

    fn act(&mut self, op: Op) -> Step {
        match op {
            Op::Enqueue { lane, bytes, power } => self.enqueue(LaneId(lane), bytes, power),
            Op::Batch { lane, tasks, bytes, power, wait } => self.batch(LaneId(lane), tasks, bytes, power, wait),
            Op::Stall { lane, bytes, filled } => self.stall(LaneId(lane), bytes, filled),
            Op::GoOn => self.go_on(),
            Op::Reserve { group, tasks, lane, lease_ms, consumer } => {
                let lanes = lane.map_or(LaneSet::ALL, |lane| LaneSet::from_iter([LaneId(lane)]));
                self.reserve(self.side(group), usize::from(tasks), lanes, lease_ms, consumer).map(drop)
            }
            Op::Settle { group, pick, count, how, power } => {
                self.settle(self.side(group), usize::from(pick), usize::from(count), how)?;
                if power { self.commit(None) } else { Ok(()) }
            }
            Op::Leave { group, consumer } => self.leave(self.side(group), u64::from(consumer)),
            Op::Sweep { group } => self.sweep(self.side(group)),
            Op::CreateGroup { newest, power } => self.create_group(newest, power),
            Op::Commit { lane } => self.commit(lane.map(LaneId)),
            Op::SyncAll => self.call(|actor| actor.engine.sync_all(actor.now.wall)),
            Op::MarkIdle => self.call(|actor| actor.engine.mark_idle(actor.now.wall)),
            Op::Footers => self.call(|actor| actor.engine.write_footers()),
            Op::Checkpoint => self.call(|actor| actor.engine.checkpoint(*actor.now, false)),
            Op::Recycle => {
                self.engine.sweep_strays();
                self.engine.recycle();
                self.call(|_| Ok(()))
            }
            Op::Prepare => self.call(|actor| actor.engine.prepare().map(drop)),
            Op::Clock { boot_ms, wall_ms } => {
                self.now.boot_ms += u64::from(boot_ms);
                self.now.wall.0 = self.now.wall.0.saturating_add_signed(i64::from(wall_ms));
                Ok(())
            }
            Op::Tick => self.tick(),
            Op::WriteBack => {
                self.disk.write_back();
                Ok(())
            }
            Op::Reopen => self.close(),
        }
    }

    // ---- calls and what their errors mean ----

    /// A call of the engine. What it did after the machine stopped is nobody's.
    fn call<T>(&mut self, call: impl FnOnce(&mut Self) -> Result<T, Error>) -> Step<T> {
        let outcome = call(self);
        if self.disk.has_crashed() {
            return Err(Halt::Flow(Flow::Stop));
        }
        outcome.map_err(|error| self.failed(&error))
    }

    /// The machine goes on and a call failed: that needs a fault, and a typed answer.
    fn failed(&mut self, error: &Error) -> Halt {
        if self.disk.faults() == 0 {
            return Halt::Wrong(Violation(format!("failed where nothing was wrong: {error}")));
        }
        match error {
            _ if self.engine.check_poison().is_err() => match self.check_poisoned(error) {
                Ok(()) => Halt::Flow(Flow::Stop),
                Err(violation) => Halt::Wrong(violation),
            },
            Error::Full { .. } => Halt::Flow(Flow::Go),
            Error::InDoubt { cause, .. } if matches!(**cause, Error::Full { .. }) => Halt::Flow(Flow::Go),
            other => Halt::Wrong(Violation(format!("this is no answer to a failing disk: {other:?}"))),
        }
    }

    /// Everything but looking is refused, with the cause.
    fn check_poisoned(&self, error: &Error) -> Verdict {
        ensure!(
            matches!(error, Error::InDoubt { .. } | Error::Poisoned { .. }),
            "the queue is poisoned, and the call that met it says {error:?}"
        );
        let refused = |what: &str, refused: bool| match refused {
            true => Ok(()),
            false => Err(Violation(format!("{what} goes on in a poisoned queue"))),
        };
        let draft = TaskDraft { fields: &[], payload: b"refused", durability: Durability::Process };
        let appended = self.engine.append(LaneId(0), &draft, self.now.wall);
        refused("append", matches!(appended, Err(Error::Poisoned { .. })))?;
        let cell = self.engine.group("default").map_err(|error| Violation(error.to_string()))?;
        let reserved = self.engine.reserve(&cell, &ask(1, LaneSet::ALL, 1, 0), *self.now, drop);
        refused("reserve", matches!(reserved, Err(Error::Poisoned { .. })))?;
        let settled = self.engine.settle(&cell, std::iter::empty(), Settle::Ack, *self.now);
        refused("settle", matches!(settled, Err(Error::Poisoned { .. })))?;
        ensure!(!self.engine.stats(*self.now).groups.is_empty(), "looking goes on in a poisoned queue");
        Ok(())
    }

    /// Takes over what the watermarks say.
    fn observe(&mut self) {
        for (lane, log) in self.engine.lanes().all() {
            let durable = log.durable();
            let Some(ends) = self.ends.get_mut(&lane) else { continue };
            while let Some(first) = ends.first_entry().filter(|first| *first.key() <= durable) {
                if let Some(task) = self.model.tasks.get_mut(&first.remove()) {
                    task.kept = Sure::Power;
                }
            }
        }
        let journal = self.engine.journal();
        if journal.durable() >= journal.filled() {
            self.model.journal_durable();
        }
    }

    fn lane_log(&self, lane: LaneId) -> Option<&Log> {
        self.engine.lanes().log(lane).map(AsRef::as_ref)
    }

    /// A commit of a lane's log or of the journal.
    fn commit(&mut self, lane: Option<LaneId>) -> Step {
        self.call(|actor| match lane {
            Some(lane) => match actor.lane_log(lane) {
                Some(log) => actor.engine.commit(log, actor.now.wall).map(drop),
                None => Ok(()),
            },
            None => actor.engine.commit(actor.engine.journal(), actor.now.wall).map(drop),
        })
    }

    /// Makes segments ready until the step can be taken.
    fn ready<T>(&mut self, step: impl Fn(&Engine, Now) -> Result<Attempt<T>, Error>) -> Step<T> {
        loop {
            let attempt = self.call(|actor| step(&actor.engine, *actor.now))?;
            match attempt {
                Attempt::Done(value) => return Ok(value),
                Attempt::NotReady => while self.call(|actor| actor.engine.prepare())? {},
            }
        }
    }

    // ---- producers ----

    fn enqueue(&mut self, lane: LaneId, bytes: u16, power: bool) -> Step {
        let payload = self.model.payload(bytes);
        let body = payload.to_vec();
        let durability = durability(power);
        let appended = self.ready(|engine, now| {
            engine.append(lane, &TaskDraft { fields: &[], payload: &body, durability }, now.wall)
        })?;
        self.model.accept(appended.first, lane, payload, 0, power)?;
        self.ends.entry(lane).or_default().insert(appended.end, appended.first);
        if power { self.commit(Some(lane)) } else { Ok(()) }
    }

    fn batch(&mut self, lane: LaneId, tasks: u8, bytes: u16, power: bool, wait: bool) -> Step {
        let payloads: Vec<_> = (0..u16::from(tasks)).map(|task| self.model.payload(bytes / (task + 1))).collect();
        let bodies: Vec<Vec<u8>> = payloads.iter().map(|payload| payload.to_vec()).collect();
        let durability = durability(power);
        let drafts: Vec<_> = bodies.iter().map(|payload| TaskDraft { fields: &[], payload, durability }).collect();
        let appended = self.ready(|engine, now| engine.append_batch(lane, &drafts, now.wall))?;
        self.model.batches += 1;
        let ends = self.ends.entry(lane).or_default();
        for (at, (seq, payload)) in (0..).zip((appended.first.0..).map(Seq).zip(payloads)) {
            self.model.accept(seq, lane, payload, self.model.batches, power)?;
            // All of them are durable with the end of the extent; a log position per task keeps them apart.
            ends.insert(appended.end - u64::from(tasks) + 1 + at, seq);
        }
        if wait { self.commit(Some(lane)) } else { Ok(()) }
    }

    fn stall(&mut self, lane: LaneId, bytes: u16, filled: bool) -> Step {
        let payload = self.model.payload(bytes);
        let Some(log) = self.lane_log(lane) else { return Ok(()) };
        // Without room it stands still a little earlier, which nobody can tell.
        if let Ok(claim) = Stalled::in_log(log, &payload.to_vec(), filled) {
            let groups = self.model.groups;
            self.stalls.push(Stall { lane, claim, payload: filled.then_some(payload), groups });
        }
        Ok(())
    }

    fn go_on(&mut self) -> Step {
        for Stall { lane, claim, payload, groups } in std::mem::take(&mut self.stalls) {
            let Some(log) = self.engine.lanes().log(lane) else { continue };
            match payload {
                Some(payload) => {
                    let seq = claim.seq();
                    let published = claim.publish(&payload.to_vec(), self.now.wall);
                    let end = published.map_err(|_| Violation("a map failed by itself".to_owned()))?;
                    self.model.accept(seq, lane, payload, 0, false)?;
                    // A group that began meanwhile, behind the newest task, begins behind this one.
                    let later = |side: &&mut Side| side.newest_of.is_some_and(|number| number > groups);
                    self.model.sides.iter_mut().filter(later).for_each(|side| {
                        side.mine.remove(&seq);
                    });
                    self.ends.entry(lane).or_default().insert(end, seq);
                }
                None => claim.give_up(log),
            }
        }
        Ok(())
    }

    // ---- consumers ----

    fn side(&self, group: u8) -> usize {
        usize::from(group) % self.model.sides.len().max(1)
    }

    fn cell(&mut self, at: usize) -> Step<Arc<GroupCell>> {
        let name = self.model.sides[at].name.clone();
        let cell = self.engine.group(&name).map_err(|error| Violation(format!("a group is gone: {error}")))?;
        Ok(cell)
    }

    /// Leases that ran out are over for whoever held them.
    fn expire(&mut self, at: usize) {
        let side = &mut self.model.sides[at];
        let now = self.now.boot_ms;
        let over = side.loans.extract_if(.., |loan| loan.until_ms <= now);
        side.stale.extend(over.map(|loan| loan.handed.receipt));
        let surplus = side.stale.len().saturating_sub(4);
        side.stale.drain(..surplus);
    }

    fn reserve(&mut self, at: usize, tasks: usize, lanes: LaneSet, lease_ms: u16, consumer: u8) -> Step<usize> {
        let cell = self.cell(at)?;
        self.expire(at);
        let ask = ask(tasks, lanes, u64::from(lease_ms), u64::from(consumer));
        let handed = self.call(|actor| actor.engine.reserve(&cell, &ask, *actor.now, |one| one));
        let handed = handed.inspect_err(|_| self.model.sides[at].reserve_failed = true)?;
        let count = handed.len();
        let mut lane = LaneId(0);
        for one in handed {
            let from = one.receipt.task.lane;
            ensure!(from >= lane, "lane {from} was served after lane {lane}");
            lane = from;
            let until_ms = self.now.boot_ms + u64::from(lease_ms);
            self.take(at, one, u64::from(consumer), until_ms)?;
        }
        self.settle_accounts(at, &cell)?;
        Ok(count)
    }

    /// A task was handed out: it must be one that the group may have now, as it was accepted.
    fn take(&mut self, at: usize, handed: Handed, consumer: u64, until_ms: u64) -> Verdict {
        let Receipt { task: id, attempt, .. } = handed.receipt;
        let seq = id.seq;
        let side = &mut self.model.sides[at];
        ensure!(!side.loans.iter().any(|loan| loan.handed.receipt.task.seq == seq), "two leases of task {seq}");
        let Some(task) = self.model.tasks.get(&seq) else {
            return Err(Violation(format!("task {seq} was never accepted")));
        };
        let Some(mine) = side.mine.get_mut(&seq) else {
            return Err(Violation(format!("task {seq} is not for group {}, or is gone", side.name)));
        };
        ensure!(
            id.lane == task.lane && handed.payload == task.payload.to_vec(),
            "task {seq} is not as it was accepted"
        );
        ensure!(!task.power || task.kept == Sure::Power, "task {seq} is handed out before it is durable");
        ensure!(
            mine.acked <= Sure::Maybe && mine.dead <= Sure::Maybe,
            "task {seq} is settled and comes again: {mine:?}"
        );
        let most = mine.attempts_most + u32::from(side.reserve_failed) + 1;
        ensure!((mine.attempts + 1..=most).contains(&attempt), "attempt {attempt} of task {seq}: {mine:?}");
        if attempt == 1 && !side.met.contains(&seq) {
            let before = side.newest.insert(task.lane, seq);
            ensure!(before.is_none_or(|before| before < seq), "task {seq} is handed out after {before:?}");
        }
        side.met.insert(seq);
        *mine = super::model::Mine { must: true, attempts: attempt, attempts_most: attempt, ..*mine };
        (mine.acked, mine.dead) = (Sure::No, Sure::No);
        side.loans.push(Loan { handed, consumer, until_ms });
        Ok(())
    }

    fn settle(&mut self, at: usize, pick: usize, count: usize, how: How) -> Step {
        let cell = self.cell(at)?;
        self.expire(at);
        let side = &mut self.model.sides[at];
        // Now and then somebody comes too late.
        let stale = if pick.is_multiple_of(5) { side.stale.pop() } else { None };
        let from = if side.loans.is_empty() { 0 } else { pick % side.loans.len() };
        let to = (from + count).min(side.loans.len());
        let loans: Vec<Loan> = side.loans.drain(from..to).collect();
        if loans.is_empty() && stale.is_none() {
            return Ok(());
        }
        let receipts: Vec<Receipt> = loans.iter().map(|loan| loan.handed.receipt).chain(stale).collect();
        let settled = self.call(|actor| actor.engine.settle(&cell, receipts.iter().copied(), how.settle(), *actor.now));
        let settled = match settled {
            Ok(settled) => settled,
            Err(halt) => {
                loans.iter().for_each(|loan| self.in_doubt(at, loan, how));
                return Err(halt);
            }
        };
        if stale.is_some() {
            let last = settled.answers.last();
            ensure!(matches!(last, Some(Err(Error::LeaseLost { .. }))), "a lease that is over was settled: {last:?}");
        }
        for (loan, answer) in loans.into_iter().zip(&settled.answers) {
            let seq = loan.handed.receipt.task.seq;
            ensure!(answer.is_ok(), "the lease on task {seq} holds, and is refused: {answer:?}");
            self.settled(at, loan, how);
        }
        self.settle_accounts(at, &cell)?;
        Ok(())
    }

    fn settled(&mut self, at: usize, mut loan: Loan, how: How) {
        let side = &mut self.model.sides[at];
        let mine = side.mine.entry(loan.handed.receipt.task.seq).or_default();
        match how {
            How::Ack => mine.acked = Sure::Process,
            How::Reject => mine.dead = Sure::Process,
            How::Release => mine.take_back(),
            How::Nack { .. } | How::Backoff => {}
            How::Extend { lease_ms } => {
                loan.until_ms = self.now.boot_ms + u64::from(lease_ms);
                side.loans.push(loan);
            }
        }
    }

    /// The settle failed: it took effect or not.
    fn in_doubt(&mut self, at: usize, loan: &Loan, how: How) {
        let mine = self.model.sides[at].mine.entry(loan.handed.receipt.task.seq).or_default();
        match how {
            How::Ack => mine.acked = Sure::Maybe,
            How::Reject => mine.dead = Sure::Maybe,
            How::Release => mine.attempts = mine.attempts.saturating_sub(1),
            How::Nack { .. } | How::Backoff | How::Extend { .. } => {}
        }
    }

    fn leave(&mut self, at: usize, consumer: u64) -> Step {
        let cell = self.cell(at)?;
        self.expire(at);
        let outcome = self.call(|actor| actor.engine.release_all(&cell, consumer, *actor.now));
        let side = &mut self.model.sides[at];
        let loans: Vec<Loan> = side.loans.extract_if(.., |loan| loan.consumer == consumer).collect();
        match outcome {
            Ok(_) => {
                for loan in loans {
                    side.mine.entry(loan.handed.receipt.task.seq).or_default().take_back();
                }
                self.settle_accounts(at, &cell)?;
                Ok(())
            }
            Err(halt) => {
                loans.iter().for_each(|loan| self.in_doubt(at, loan, How::Release));
                Err(halt)
            }
        }
    }

    fn tick(&mut self) -> Step {
        self.call(|actor| actor.engine.tick(*actor.now))?;
        for at in 0..self.model.sides.len() {
            self.expire(at);
            let cell = self.cell(at)?;
            self.settle_accounts(at, &cell)?;
        }
        Ok(())
    }

    /// Everything that waits for the group is handed out sooner or later.
    fn sweep(&mut self, at: usize) -> Step {
        self.call(|actor| actor.engine.sync_all(actor.now.wall))?;
        self.observe();
        // A delay that a recovery found begins when the cursor meets the task: one round for those.
        for _ in 0..2 {
            self.now.boot_ms += LONG_MS;
            self.now.wall.0 += LONG_MS;
            while self.reserve(at, 7, LaneSet::ALL, u16::MAX, 0)? > 0 {}
        }
        let side = &self.model.sides[at];
        for (seq, mine) in side.mine.iter().filter(|(_, mine)| mine.must && mine.is_open()) {
            let task = self.model.tasks.get(seq);
            let blocked = |task: &super::model::Task| {
                self.stalls.iter().any(|stall| stall.lane == task.lane && stall.claim.seq() < *seq)
            };
            let there = side.loans.iter().any(|loan| loan.handed.receipt.task.seq == *seq);
            let unreadable = self.unreadable(*seq);
            ensure!(there || unreadable || task.is_some_and(blocked), "task {seq} is passed over: {mine:?}");
        }
        Ok(())
    }

    /// The queue says that the task can't be read before the next open, and a call of the disk did fail.
    fn unreadable(&self, seq: Seq) -> bool {
        let lane = self.model.tasks.get(&seq).map(|task| task.lane);
        let names = |damage: &Damage| damage.lost.is_none_or(|(first, last)| (first..=last).contains(&seq));
        self.disk.faults() > 0 && self.engine.damage().iter().any(|damage| damage.lane == lane && names(damage))
    }

    /// Takes over which tasks used up their attempts.
    fn settle_accounts(&mut self, at: usize, cell: &GroupCell) -> Verdict {
        let side = &mut self.model.sides[at];
        let max = self.setting.attempts_max;
        let dead = dead_of(&self.engine, cell);
        for seq in &dead {
            let Some(mine) = side.mine.get_mut(seq) else {
                return Err(Violation(format!("task {seq} is a dead letter of {}, which never saw it", side.name)));
            };
            if mine.dead <= Sure::Maybe {
                let worn_out = max > 0 && mine.attempts_most + u32::from(side.reserve_failed) >= max;
                ensure!(worn_out || mine.dead == Sure::Maybe, "task {seq} is dead: {mine:?}");
                mine.dead = Sure::Process;
            }
        }
        let forgotten = side.mine.iter().find(|(seq, mine)| mine.dead >= Sure::Process && !dead.contains(seq));
        ensure!(forgotten.is_none(), "a dead letter of {} is gone: {forgotten:?}", side.name);
        Ok(())
    }

    // ---- the queue ----

    fn create_group(&mut self, newest: bool, power: bool) -> Step {
        if self.model.sides.len() >= SIDES_MAX {
            return Ok(());
        }
        self.model.groups += 1;
        let name = format!("group-{}", self.model.groups);
        let start = if newest { Start::Newest } else { Start::Oldest };
        let created = self.call(|actor| actor.engine.create_group(&name, start, *actor.now).map(drop));
        match created {
            Ok(()) => self.model.add_side(name, newest, Sure::Process),
            Err(Halt::Flow(Flow::Stop)) => {
                self.model.add_side(name, newest, Sure::Maybe);
                return Err(Halt::Flow(Flow::Stop));
            }
            Err(halt) => return Err(halt),
        }
        if power { self.commit(None) } else { Ok(()) }
    }

    fn close(&mut self) -> Step {
        self.go_on()?;
        self.call(|actor| actor.engine.sync_all(actor.now.wall))?;
        self.observe();
        self.call(|actor| actor.engine.mark_idle(actor.now.wall))?;
        self.call(|actor| actor.engine.checkpoint(*actor.now, true))
    }
}

impl How {
    fn settle(self) -> Settle<'static> {
        match self {
            How::Ack => Settle::Ack,
            How::Nack { delay_ms } => Settle::Nack { delay_ms: Some(u64::from(delay_ms)), reason: "sim" },
            How::Backoff => Settle::Nack { delay_ms: None, reason: "sim" },
            How::Release => Settle::Release,
            How::Reject => Settle::Reject { reason: "sim" },
            How::Extend { lease_ms } => Settle::Extend { lease_ms: u64::from(lease_ms) },
        }
    }
}

fn durability(power: bool) -> Durability {
    if power { Durability::Power } else { Durability::Process }
}

pub(super) fn ask(tasks: usize, lanes: LaneSet, lease_ms: u64, consumer: u64) -> Ask {
    Ask { tasks, bytes: u64::MAX, lanes, lease_ms, consumer }
}

/// The dead letters of a group.
pub(super) fn dead_of(engine: &Engine, cell: &GroupCell) -> std::collections::BTreeSet<Seq> {
    engine.dead_letters(cell).iter().map(|letter| letter.id.seq()).collect()
}

/// A later moment, at which every lease and delay is over.
pub(super) fn later(now: Now) -> Now {
    Now { boot_ms: now.boot_ms + 1_000_000, wall: Timestamp(now.wall.0 + 1_000_000) }
}
