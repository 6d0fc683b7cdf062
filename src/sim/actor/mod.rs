//! Takes one step after the other on the engine that ships, and notes what came of it in the model.
//!
//! What a caller may believe is taken from what the engine *says*: a return value, or a watermark. So a watermark that
//! moves too early is as much a lie as a call that returns too early.

mod consume;
mod groups;
mod hand;
mod keyed;
mod later;
mod once;
mod order;
mod pause;
mod produce;
mod room;
mod snapshot;
mod thin;
mod transact;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

pub(super) use consume::{ask, dead_of, later};
pub(super) use keyed::PULSE;
use produce::Stall;
use transact::Waiting;

use super::disk::{Call, Failing, SimDisk, Which};
use super::model::{Model, Sure, Verdict, Violation, ensure};
use super::operation::Op;
use super::rng::Rng;
use super::schedule::Setting;
use crate::delivery::far::FarRules;
use crate::engine::append::TaskDraft;
use crate::engine::recovery::{self, Given};
use crate::engine::settle::Settle;
use crate::engine::{Attempt, Engine};
use crate::error::Error;
use crate::log::Log;
use crate::types::{Durability, LaneId, LaneSet, Now, Seq};

/// Most tasks with a delay are far here, runs have several pages, and few tasks are loaded at once.
const FAR: FarRules = FarRules { near_ms: 250, run_entries: 3, page_entries: 2, loaded_max: 3 };

/// One open queue and its callers.
pub(super) struct Actor<'a> {
    pub engine: Arc<Engine>,
    pub disk: &'a SimDisk,
    pub model: &'a mut Model,
    pub now: &'a mut Now,
    setting: Setting,
    /// Tasks accepted in this open, by lane: where each ends in its log.
    ends: BTreeMap<LaneId, BTreeMap<u64, Seq>>,
    stalls: Vec<Stall>,
    /// Transactions of this open that are not durable yet.
    waiting: Vec<Waiting>,
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
    Ok(engine.padding_commits(setting.pad_commits).putting_far(FAR))
}

impl<'a> Actor<'a> {
    pub(super) fn new(
        engine: Engine,
        setting: Setting,
        disk: &'a SimDisk,
        model: &'a mut Model,
        now: &'a mut Now,
    ) -> Self {
        let engine = Arc::new(engine);
        Actor { engine, disk, model, now, setting, ends: BTreeMap::new(), stalls: Vec::new(), waiting: Vec::new() }
    }

    /// One step.
    pub(super) fn step(&mut self, op: Op) -> Verdict<Flow> {
        self.pass_time();
        match self.act(op) {
            Ok(()) => {
                self.observe();
                Ok(if op == Op::Reopen { Flow::Reopen } else { Flow::Go })
            }
            Err(Halt::Flow(Flow::Go)) => {
                // It failed, but something may be durable that it needed for what it did not reach.
                self.observe();
                Ok(Flow::Go)
            }
            Err(Halt::Flow(flow)) => Ok(flow),
            Err(Halt::Wrong(Violation(text))) => Err(Violation(format!("{op}: {text}"))),
        }
    }

    fn pass_time(&mut self) {
        self.now.boot_ms += 1;
        self.now.wall.0 += 1;
        self.model.ids.wall_most = self.model.ids.wall_most.max(self.now.wall.0);
        let ahead = self.now.wall.0.cast_signed() - self.now.boot_ms.cast_signed();
        self.model.ahead_most = self.model.ahead_most.max(ahead);
    }

    fn act(&mut self, op: Op) -> Step {
        match op {
            Op::Enqueue { lane, bytes, power } => self.enqueue(LaneId(lane), bytes, power),
            Op::Batch { lane, tasks, bytes, power, wait } => self.batch(LaneId(lane), tasks, bytes, power, wait),
            Op::Special { .. } => self.special(op),
            Op::Later { .. } => self.later(op),
            Op::Park { group, pick } => self.park(self.side(group), usize::from(pick)),
            Op::Shelf { group, pick, how, power } => {
                self.shelf(self.side(group), usize::from(pick), how)?;
                if power { self.commit(None) } else { Ok(()) }
            }
            Op::Cancel { pick, power } => {
                self.cancel(usize::from(pick))?;
                if power { self.commit(None) } else { Ok(()) }
            }
            Op::Purge { lane, power } => {
                self.purge(LaneId(lane))?;
                if power { self.commit(None) } else { Ok(()) }
            }
            Op::Stall { lane, bytes, filled } => self.stall(LaneId(lane), bytes, filled),
            Op::GoOn => self.go_on(),
            Op::Reserve { group, tasks, lane, lease_ms, consumer } => {
                let lanes = lane.map_or(LaneSet::ALL, |lane| LaneSet::from_iter([LaneId(lane)]));
                self.reserve(self.side(group), usize::from(tasks), lanes, lease_ms, u64::from(consumer)).map(drop)
            }
            Op::Settle { group, pick, count, how, power } => {
                self.settle(self.side(group), usize::from(pick), usize::from(count), how)?;
                if power { self.commit(None) } else { Ok(()) }
            }
            Op::AckAndReserve { group, pick, power } => {
                self.ack_and_reserve(self.side(group), usize::from(pick))?;
                if power { self.commit(None) } else { Ok(()) }
            }
            Op::Keyed { lane, bytes, key, power } => self.enqueue_keyed(LaneId(lane), bytes, key, power),
            Op::Once { .. } => self.once(op),
            Op::Enlist { group, name } => self.enlist(self.side(group), name),
            Op::Beat { group, name } => self.beat(self.side(group), name),
            Op::Work { group, name, tasks, lane, lease_ms } => {
                let lanes = lane.map_or(LaneSet::ALL, |lane| LaneSet::from_iter([LaneId(lane)]));
                self.work(self.side(group), name, usize::from(tasks), lanes, lease_ms)
            }
            Op::Dismiss { group, name } => self.dismiss(self.side(group), name),
            Op::Transaction { .. } => self.transaction(op),
            Op::Move { group, pick, lane, power } => self.move_letter(self.side(group), pick, LaneId(lane), power),
            Op::Thin { lane, group, how, power } => self.thin(LaneId(lane), self.side(group), how, power),
            Op::Leave { group, consumer } => self.leave(self.side(group), u64::from(consumer)),
            Op::Sweep { group } => self.sweep(self.side(group)),
            Op::CreateGroup { newest, power } => self.create_group(newest, power),
            Op::Retain { .. } => self.retain(op),
            Op::RemoveGroup { group, power } => self.remove_group(self.side(group), power),
            Op::Snapshot { .. } => self.snapshot(op),
            Op::Pause { lane, group, resume, power } => {
                self.pause(lane.map(LaneId), self.side(group), resume)?;
                if power { self.commit(None) } else { Ok(()) }
            }
            other => self.keep_house(other),
        }
    }

    /// What the queue's own threads do, and what happens to the machine.
    fn keep_house(&mut self, op: Op) -> Step {
        match op {
            Op::Commit { lane } => self.commit(lane.map(LaneId)),
            Op::SyncAll => self.call(|actor| actor.engine.sync_all(actor.now.wall)),
            Op::MarkIdle => self.call(|actor| actor.engine.mark_idle(actor.now.wall)),
            Op::Footers => self.call(|actor| actor.engine.write_footers(actor.now.wall)),
            Op::Checkpoint => self.call(|actor| actor.engine.checkpoint(*actor.now, false)),
            Op::Portions { seed, meanwhile } => self.portions(seed, meanwhile),
            Op::Recycle => {
                self.engine.sweep_strays();
                self.engine.recycle();
                self.call(|_| Ok(()))
            }
            Op::Evacuate => {
                self.call(|actor| actor.engine.write_footers(actor.now.wall))?;
                self.call(|actor| actor.engine.evacuate(*actor.now).map(drop))
            }
            Op::Prepare => self.call(|actor| actor.engine.prepare().map(drop)),
            Op::Clock { boot_ms, wall_ms } => {
                self.now.boot_ms += u64::from(boot_ms);
                self.now.wall.0 = self.now.wall.0.saturating_add_signed(i64::from(wall_ms));
                Ok(())
            }
            Op::FailSync { skipped } => {
                let (at, which) = (self.disk.calls(), Which::Next { call: Call::Sync, skipped, times: 1 });
                self.disk.set_failing(Some(Failing { at, choice: 0, which }));
                Ok(())
            }
            Op::Tick => self.tick(),
            Op::WriteBack => {
                self.disk.write_back();
                Ok(())
            }
            Op::Reopen => self.close(),
            other => Err(Violation(format!("nobody takes the step: {other}")).into()),
        }
    }

    /// A checkpoint, between whose portions others take steps.
    fn portions(&mut self, seed: u32, meanwhile: u8) -> Step {
        let (engine, began) = (Arc::clone(&self.engine), *self.now);
        let (mut rng, mut steps, mut halt) = (Rng::new(u64::from(seed)), 0, None);
        let outcome = engine.checkpoint_between(began, false, &mut || {
            let most = if rng.once_in(3) { 12 } else { 4 };
            let more = rng.below(most).min(u64::from(meanwhile) - steps);
            for _ in 0..more {
                if halt.is_some() {
                    return;
                }
                steps += 1;
                self.pass_time();
                match self.act(Op::draw_between(&mut rng, self.setting)) {
                    Ok(()) | Err(Halt::Flow(Flow::Go)) => self.observe(),
                    Err(other) => halt = Some(other),
                }
            }
        });
        match halt {
            Some(halt) => Err(halt),
            None => self.call(|_| outcome.map(drop)),
        }
    }

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
        let draft = TaskDraft::plain(b"refused", Durability::Process);
        let appended = self.engine.append(LaneId(0), &draft, self.now.wall);
        refused("append", matches!(appended, Err(Error::Poisoned { .. })))?;
        let cells = self.engine.groups();
        let cell = cells.first().ok_or_else(|| Violation("a queue without a group".to_owned()))?;
        let reserved = self.engine.reserve(cell, &ask(1, LaneSet::ALL, 1, 0), *self.now, drop);
        refused("reserve", matches!(reserved, Err(Error::Poisoned { .. })))?;
        let settled = self.engine.settle(cell, std::iter::empty(), Settle::Ack, *self.now);
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
        self.observe_transactions();
        self.model.observe_ids(self.setting);
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

    fn close(&mut self) -> Step {
        self.go_on()?;
        self.call(|actor| actor.engine.sync_all(actor.now.wall))?;
        self.observe();
        self.call(|actor| actor.engine.mark_idle(actor.now.wall))?;
        self.call(|actor| actor.engine.checkpoint(*actor.now, true))
    }
}
