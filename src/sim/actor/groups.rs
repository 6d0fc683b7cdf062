//! Groups that come and go.

use super::super::model::{Side, Sure, Violation, ensure};
use super::super::operation::Op;
use super::{Actor, Flow, Halt, Step, ask};
use crate::engine::groups::{GroupCell, Start};
use crate::engine::receipt::Receipt;
use crate::engine::settle::Settle;
use crate::error::Error;
use crate::types::{Beyond, LaneSet, Retention, Seq};

/// Names of groups, so that one that was removed has a successor under its name soon.
const NAMES: [&str; 3] = ["default", "group-1", "group-2"];

impl Actor<'_> {
    pub(super) fn create_group(&mut self, newest: bool, power: bool) -> Step {
        let is_free = |name: &&str| self.model.sides.iter().all(|side| side.name != **name);
        // The first name is that of the group that the queue was born with.
        let Some(name) = NAMES.into_iter().find(is_free) else { return Ok(()) };
        // Where every group begins behind a claim, so does the next one.
        for stall in &mut self.stalls {
            let sees = |side: &Side| side.ordinal <= stall.groups || !side.newest && !stall.nobodys;
            stall.nobodys = !self.model.sides.iter().any(sees);
        }
        self.model.groups += 1;
        let start = if newest { Start::Newest } else { Start::Oldest };
        match self.call(|actor| actor.engine.create_group(name, start, Retention::default(), *actor.now).map(drop)) {
            Ok(()) => {
                let number = self.engine.group(name).ok().map(|cell| cell.id);
                let others = self.model.sides.iter().chain(&self.model.gone).filter_map(|side| side.number);
                let is_used = others.chain(self.model.numbers_gone.iter().copied()).any(|used| Some(used) == number);
                ensure!(number.is_some() && !is_used, "group {name} got the number {number:?}, which another one had");
                self.model.add_side(name.to_owned(), number, newest, Sure::Process);
            }
            Err(Halt::Flow(Flow::Stop)) => {
                self.model.add_side(name.to_owned(), None, newest, Sure::Maybe);
                return Err(Halt::Flow(Flow::Stop));
            }
            Err(halt) => return Err(halt),
        }
        if power { self.commit(None) } else { Ok(()) }
    }

    pub(super) fn remove_group(&mut self, at: usize, power: bool) -> Step {
        let cell = self.cell(at)?;
        let name = self.model.sides[at].name.clone();
        if self.model.sides.len() == 1 {
            let outcome = self.engine.remove_group(&name, *self.now);
            let refused = matches!(outcome, Err(Error::InvalidOption { .. }));
            ensure!(refused || self.engine.check_poison().is_err(), "the last group was removed: {outcome:?}");
            return Ok(());
        }
        match self.call(|actor| actor.engine.remove_group(&name, *actor.now).map(drop)) {
            Ok(()) => {
                let side = self.model.sides.remove(at);
                self.nobody_finds(&cell, &side)?;
                self.model.gone.push(Side { gone: Sure::Process, ..side });
            }
            Err(Halt::Flow(Flow::Stop)) => {
                self.model.sides[at].gone = Sure::Maybe;
                return Err(Halt::Flow(Flow::Stop));
            }
            Err(halt) => return Err(halt),
        }
        if power { self.commit(None) } else { Ok(()) }
    }

    pub(super) fn retain(&mut self, op: Op) -> Step {
        let Op::Retain { group, tasks, bytes, age_ms, policy, power } = op else { return Ok(()) };
        let at = self.side(group);
        let cell = self.cell(at)?;
        let (tasks, bytes) = (u64::from(tasks), u64::from(bytes));
        let retention = Retention { tasks, bytes, age_ms: u64::from(age_ms), beyond: policy };
        let outcome = self.call(|actor| actor.engine.set_retention(&cell, retention, actor.now.wall).map(drop));
        let side = &mut self.model.sides[at];
        if outcome.is_ok() {
            side.retains.clear();
        }
        side.retains.push(retention);
        side.retains_powerless.push(retention);
        outcome?;
        // The janitor is woken.
        self.tick()?;
        if power { self.commit(None) } else { Ok(()) }
    }

    /// What a tick let go of: it was beyond what the group may have left to do, and waited.
    pub(super) fn let_go(&mut self, at: usize, sure: Sure) -> Step {
        let Ok(cell) = self.cell(at) else { return Ok(()) };
        let gone: Vec<Seq> = std::mem::take(&mut cell.state.lock().group.looks.log);
        let retention = self.engine.retention(&cell);
        let side = &self.model.sides[at];
        if !gone.is_empty() {
            ensure!(retention.lets_go(), "{gone:?} went, and the group may have everything: {retention:?}");
        }
        // A task that is another group's alone counts until its segment goes, and so does a claim.
        let may_be_left = |(seq, task): (&Seq, &super::super::model::Task)| match side.mine.get(seq) {
            Some(mine) => mine.acked <= Sure::Maybe && mine.dead <= Sure::Maybe,
            None => task.of_one,
        };
        let left = self.model.tasks.iter().filter(|one| may_be_left(*one)).count() + self.stalls.len();
        let beyond = (left as u64).saturating_sub(retention.tasks);
        let by_tasks_alone = retention.bytes == 0 && retention.age_ms == 0;
        let is_beyond = !by_tasks_alone || gone.len() as u64 <= beyond || self.disk.faults() > 0;
        ensure!(is_beyond, "{gone:?} went of {left}: {retention:?}");
        for seq in gone {
            let side = &mut self.model.sides[at];
            let on_loan = side.loans.iter().any(|loan| loan.handed.receipt.task.seq == seq);
            ensure!(!on_loan, "task {seq} is on loan, and the group let go of it");
            let task = self.model.tasks.get(&seq).copied();
            let early = task.and_then(|task| task.asks.run_at).is_some_and(|at| at > self.now.wall.0);
            ensure!(!early, "the time of task {seq} has not come, and the group let go of it");
            let mine = side.mine.get_mut(&seq).ok_or_else(|| Violation(format!("task {seq} was not the group's")))?;
            ensure!(mine.acked <= Sure::Maybe && mine.dead <= Sure::Maybe, "task {seq} was settled: {mine:?}");
            match retention.beyond {
                Beyond::DeadLetter => mine.die(sure),
                _ => mine.settle(sure),
            }
        }
        Ok(())
    }

    /// Who had something to do with a group that is gone learns it.
    fn nobody_finds(&mut self, cell: &GroupCell, side: &Side) -> Step {
        let there = self.engine.group(&side.name);
        ensure!(
            there.is_err() && self.engine.group_by_id(cell.id).is_none(),
            "group {} is removed, and there",
            side.name
        );
        let receipts: Vec<Receipt> = side.loans.iter().map(|loan| loan.handed.receipt).collect();
        let settled =
            self.call(|actor| actor.engine.settle(cell, receipts.iter().copied(), Settle::Ack, *actor.now))?;
        let lost = |answer: &crate::error::Result<()>| matches!(answer, Err(Error::LeaseLost { .. }));
        ensure!(settled.answers.iter().all(lost), "a lease of a group that is gone was settled");
        let reserved = self.engine.reserve(cell, &ask(1, LaneSet::ALL, 1, 0), *self.now, drop);
        ensure!(matches!(reserved, Err(Error::GroupRemoved { .. })), "a group that is gone hands out");
        Ok(())
    }
}
