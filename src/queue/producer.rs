//! Enqueueing.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::append::TaskDraft;
use crate::error::{Error, Result};
use crate::log::Appended;
use crate::storage::disk::clock;
use crate::types::{Durability, LaneId, Seq, TaskId};

use super::core::Core;
use super::task::Fields;
use super::{Pending, Queue, Task, once};

/// Enqueues with a lane and a durability that are chosen once.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let queue = lanelog::Options::new().lanes(2).open(dir.path().join("queue"))?;
/// use lanelog::{Durability, LaneId};
///
/// let background = queue.producer().lane(LaneId(1)).durability(Durability::Process);
/// background.enqueue("recount the stars")?;
/// # queue.close()?;
/// # Ok::<(), lanelog::Error>(())
/// ```
#[derive(Clone)]
pub struct Producer {
    queue: Queue,
    lane: LaneId,
    durability: Durability,
    wait: Option<Duration>,
}

impl Producer {
    pub(super) fn new(queue: Queue) -> Self {
        Producer { queue, lane: LaneId(0), durability: Durability::Power, wait: None }
    }

    /// The same producer for another lane.
    #[must_use]
    pub fn lane(mut self, lane: LaneId) -> Self {
        self.lane = lane;
        self
    }

    /// The same producer at another durability.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// The same producer with another patience: how long an enqueue waits for room, as [`Task::wait`] says.
    #[must_use]
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = Some(wait);
        self
    }

    /// Enqueues a payload and waits for its durability.
    ///
    /// # Errors
    /// As for [`Queue::enqueue`].
    pub fn enqueue<P: AsRef<[u8]> + ?Sized>(&self, payload: &P) -> Result<TaskId> {
        self.queue.enqueue(self.task(payload))
    }

    /// Enqueues a payload and returns at once.
    ///
    /// # Errors
    /// As for [`Queue::submit`].
    pub fn submit<P: AsRef<[u8]> + ?Sized>(&self, payload: &P) -> Result<Pending<TaskId>> {
        self.queue.submit(self.task(payload))
    }

    /// Enqueues several payloads as one atomic unit and waits for their durability.
    ///
    /// # Errors
    /// As for [`Queue::enqueue_batch`].
    pub fn enqueue_batch<P: AsRef<[u8]>>(&self, payloads: &[P]) -> Result<Vec<TaskId>> {
        self.submit_batch(payloads)?.wait()
    }

    /// Enqueues several payloads as one atomic unit and returns at once.
    ///
    /// # Errors
    /// As for [`Queue::submit_batch`].
    pub fn submit_batch<P: AsRef<[u8]>>(&self, payloads: &[P]) -> Result<Pending<Vec<TaskId>>> {
        let tasks: Vec<Task<'_>> = payloads.iter().map(|payload| self.task(payload)).collect();
        self.queue.submit_batch(&tasks)
    }

    fn task<'a, P: AsRef<[u8]> + ?Sized>(&self, payload: &'a P) -> Task<'a> {
        let mut task = Task::new(payload).lane(self.lane).durability(self.durability);
        task.wait = self.wait;
        task
    }
}

/// Publishes a task and waits for its durability.
#[inline]
pub(super) fn enqueue(core: &Arc<Core>, task: &Task<'_>) -> Result<TaskId> {
    if task.has_dedup_id() {
        return once::submit(core, task)?.wait();
    }
    let (id, appended) = publish(core, task)?;
    if task.durability == Durability::Process {
        core.engine.arrivals.wake_one();
        return Ok(id);
    }
    follow_up(core, task.lane, task.durability, &appended, id, Some(id)).wait()
}

/// Publishes a task; its durability is the pending's.
pub(super) fn submit(core: &Arc<Core>, task: &Task<'_>) -> Result<Pending<TaskId>> {
    if task.has_dedup_id() {
        return once::submit(core, task);
    }
    let (id, appended) = publish(core, task)?;
    Ok(follow_up(core, task.lane, task.durability, &appended, id, Some(id)))
}

#[inline]
fn publish(core: &Core, task: &Task<'_>) -> Result<(TaskId, Appended)> {
    core.check(task.durability)?;
    let time = clock::coarse_wall();
    let fields = task.fields(core, || clock::now().wall)?;
    let draft = fields.draft(task.payload, task.durability);
    let appended = core.append(task.wait, || core.engine.append(task.lane, &draft, time))?;
    Ok((id_of(core, task.lane, appended.first), appended))
}

pub(super) fn submit_batch(core: &Arc<Core>, tasks: &[Task<'_>]) -> Result<Pending<Vec<TaskId>>> {
    let Some(first) = tasks.first() else { return Ok(Pending::done(Vec::new())) };
    let lane = first.lane;
    if tasks.iter().any(|task| task.lane != lane) {
        let why = "all tasks of a batch go to one lane; enqueue one batch per lane".to_owned();
        return Err(Error::InvalidOption { option: "lane", why });
    }
    let powered = tasks.iter().any(|task| task.durability == Durability::Power);
    let durability = if powered { Durability::Power } else { Durability::Process };
    core.check(durability)?;
    let time = clock::coarse_wall();
    let fields: Vec<Fields> =
        tasks.iter().map(|task| task.fields(core, || clock::now().wall)).collect::<Result<_>>()?;
    if tasks.iter().any(Task::has_dedup_id) {
        return once::submit_batch(core, (lane, durability), tasks, &fields);
    }
    let drafts: Vec<TaskDraft<'_>> =
        tasks.iter().zip(&fields).map(|(task, fields)| fields.draft(task.payload, durability)).collect();
    let wait = tasks.iter().filter_map(|task| task.wait).max();
    let appended = core.append(wait, || core.engine.append_batch(lane, &drafts, time))?;
    let ids = (appended.first.0..).take(tasks.len()).map(|seq| id_of(core, lane, Seq(seq))).collect();
    let first = id_of(core, lane, appended.first);
    Ok(follow_up(core, lane, durability, &appended, ids, Some(first)))
}

#[inline]
fn id_of(core: &Core, lane: LaneId, seq: Seq) -> TaskId {
    TaskId { queue: core.engine.queue(), lane, seq }
}

/// What is left to do once the records are published.
fn follow_up<T>(
    core: &Arc<Core>,
    lane: LaneId,
    durability: Durability,
    appended: &Appended,
    value: T,
    task: Option<TaskId>,
) -> Pending<T> {
    match (durability, core.engine.lanes().log(lane)) {
        (Durability::Power, Some(log)) => {
            log.note_power();
            Pending::until(value, core, log, appended.end, task)
        }
        _ => {
            core.engine.arrivals.wake_one();
            Pending::done(value)
        }
    }
}
