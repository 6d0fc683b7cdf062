//! An operation that took effect and waits for its durability.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::log::{Ends, Log};
use crate::types::{Durability, LogId, TaskId};

use super::core::Core;

/// A submitted operation: its answer is known now, its durability comes with [`Pending::wait`].
///
/// Dropping it gives up the wait, not the operation.
#[must_use = "the operation is not durable before `wait` says so"]
pub struct Pending<T> {
    value: T,
    /// What to wait for; `None` if the operation is done at the durability it asked for.
    goal: Option<Goal>,
}

struct Goal {
    core: Arc<Core>,
    log: Arc<Log>,
    end: u64,
    task: Option<TaskId>,
    /// Other logs that it waits for first, of an operation that wrote to several.
    before: Vec<(Arc<Log>, u64)>,
}

impl<T> Pending<T> {
    /// Done already.
    pub(super) fn done(value: T) -> Self {
        Pending { value, goal: None }
    }

    /// Done when `log` is durable up to `end`.
    pub(super) fn until(value: T, core: &Arc<Core>, log: &Arc<Log>, end: u64, task: Option<TaskId>) -> Self {
        let goal = Goal { core: Arc::clone(core), log: Arc::clone(log), end, task, before: Vec::new() };
        Pending { value, goal: Some(goal) }
    }

    /// What is left to do once records of several logs are published: done at `Process`, and at `Power` when all these logs
    /// are durable up to there. Named after a task should it end in doubt.
    pub(super) fn after(value: T, core: &Arc<Core>, durability: Durability, ends: &Ends, task: Option<TaskId>) -> Self {
        if durability == Durability::Process {
            core.engine.arrivals.wake_all();
            return Pending::done(value);
        }
        let logs = ends.iter().filter_map(|(id, end)| Some((Arc::clone(core.engine.log_of(*id)?), *end)));
        let mut before: Vec<(Arc<Log>, u64)> = logs.collect();
        for (log, _) in &before {
            log.note_power();
        }
        let goal = before.pop().map(|(log, end)| Goal { core: Arc::clone(core), log, end, task, before });
        Pending { value, goal }
    }

    /// The operation's answer, whose durability is not known yet.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// True if the operation has the durability it asked for, without waiting.
    pub fn is_durable(&self) -> bool {
        let is_reached =
            |goal: &Goal| goal.log.durable() >= goal.end && goal.before.iter().all(|(log, end)| log.durable() >= *end);
        self.goal.as_ref().is_none_or(is_reached)
    }

    /// Waits for the durability that was asked for: at `Power` for a sync, at `Process` not at all.
    ///
    /// # Errors
    /// [`Error::InDoubt`] if the sync failed: the operation may turn out done, wholly, or not at all.
    pub fn wait(self) -> Result<T> {
        let Some(goal) = self.goal else { return Ok(self.value) };
        let waited = if goal.before.is_empty() {
            goal.core.wait_durable(&goal.log, goal.end)
        } else {
            let ends = goal.before.iter().map(|(log, end)| (log.id(), *end));
            let ends: Vec<(LogId, u64)> = ends.chain([(goal.log.id(), goal.end)]).collect();
            goal.core.wait_for_all(&ends)
        };
        match waited {
            Ok(()) => Ok(self.value),
            Err(Error::InDoubt { task: None, cause }) => Err(Error::InDoubt { task: goal.task, cause }),
            Err(other) => Err(other),
        }
    }
}

impl Pending<TaskId> {
    /// The task's id.
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.value
    }
}
