//! Enqueueing tasks with dedup ids, alone and in batches.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::append::TaskDraft;
use crate::engine::dedup::Accepted;
use crate::error::Result;
use crate::storage::disk::clock;
use crate::types::{Durability, LaneId, Seq, TaskId};

use super::core::Core;
use super::task::Fields;
use super::{Pending, Task};

/// Submits one task that has a dedup id.
pub(super) fn submit(core: &Arc<Core>, task: &Task<'_>) -> Result<Pending<TaskId>> {
    core.check(task.durability)?;
    let fields = task.fields(core, || clock::now().wall)?;
    let draft = fields.draft(task.payload, task.durability);
    let accepted = append(core, task.lane, &[draft], task.wait)?;
    // As many come out as went in: one.
    let none = TaskId { queue: core.engine.queue(), lane: task.lane, seq: Seq(0) };
    let id = ids(core, &accepted).next().unwrap_or(none);
    Ok(Pending::after(id, core, task.durability, &accepted.ends, Some(id)))
}

/// Submits a batch of which some tasks have dedup ids. All of it has one durability.
pub(super) fn submit_batch(
    core: &Arc<Core>,
    (lane, durability): (LaneId, Durability),
    tasks: &[Task<'_>],
    fields: &[Fields],
) -> Result<Pending<Vec<TaskId>>> {
    let drafts: Vec<TaskDraft<'_>> =
        tasks.iter().zip(fields).map(|(task, fields)| fields.draft(task.payload, durability)).collect();
    let wait = tasks.iter().filter_map(|task| task.wait).max();
    let accepted = append(core, lane, &drafts, wait)?;
    let ids: Vec<TaskId> = ids(core, &accepted).collect();
    let first = ids.first().copied();
    Ok(Pending::after(ids, core, durability, &accepted.ends, first))
}

fn append(core: &Core, lane: LaneId, drafts: &[TaskDraft<'_>], wait: Option<Duration>) -> Result<Accepted> {
    core.append(wait, || core.engine.append_once(lane, drafts, clock::now()))
}

/// The ids of what was accepted, in the order of the tasks.
pub(super) fn ids(core: &Core, accepted: &Accepted) -> impl Iterator<Item = TaskId> {
    let queue = core.engine.queue();
    accepted.tasks.iter().map(move |(lane, seq)| TaskId { queue, lane: *lane, seq: *seq })
}
