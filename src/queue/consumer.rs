//! Reserving and settling.

use std::sync::Arc;
use std::time::Duration;

use crate::delivery::Ask;
use crate::engine::groups::GroupCell;
use crate::engine::receipt::Receipt;
use crate::engine::settle::Settle;
use crate::error::{Error, Result};
use crate::storage::disk::clock;
use crate::sync::atomic::Ordering;
use crate::types::{Durability, LaneSet, millis, nanos};

use super::core::Core;
use super::{Delivery, Pending, Queue};

/// One of the competing consumers of a group.
pub struct Consumer {
    queue: Queue,
    cell: Option<Arc<GroupCell>>,
    number: u64,
    options: ConsumerOptions,
    /// A worker: a reserve that waits is heard of so often.
    heartbeat: Option<Duration>,
}

/// Options of a consumer.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConsumerOptions {
    lease: Option<Duration>,
    durability: Durability,
}

impl ConsumerOptions {
    /// The queue's lease, and settles at `Power`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How long this consumer has for a task.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = Some(lease);
        self
    }

    /// When settles of this consumer's deliveries count as done. A `Process` ack can be undone by a power loss, and
    /// then the task comes again.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }
}

/// What a reserve asks for.
///
/// ```
/// use lanelog::{LaneId, LaneSet, Reserve};
/// use std::time::Duration;
///
/// let urgent: LaneSet = [LaneId(0), LaneId(1)].into_iter().collect();
/// let ask = Reserve::new().tasks(64).bytes(1 << 20).lanes(urgent).wait(Duration::from_secs(1));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Reserve {
    tasks: usize,
    bytes: u64,
    lanes: LaneSet,
    lease: Option<Duration>,
    wait: Duration,
}

impl Default for Reserve {
    fn default() -> Self {
        Reserve { tasks: 1, bytes: u64::MAX, lanes: LaneSet::ALL, lease: None, wait: Duration::ZERO }
    }
}

impl Reserve {
    /// One task of any lane, without waiting.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// At most this many tasks.
    #[must_use]
    pub fn tasks(mut self, tasks: usize) -> Self {
        self.tasks = tasks;
        self
    }

    /// At most this many payload bytes; a first task that is larger comes alone.
    #[must_use]
    pub fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }

    /// Only from these lanes.
    #[must_use]
    pub fn lanes(mut self, lanes: LaneSet) -> Self {
        self.lanes = lanes;
        self
    }

    /// How long these tasks are on loan, instead of the consumer's lease.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = Some(lease);
        self
    }

    /// How long to wait for a first task.
    #[must_use]
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }
}

impl Consumer {
    pub(super) fn new(queue: Queue, cell: Option<Arc<GroupCell>>, options: ConsumerOptions) -> Self {
        let number = queue.core().consumers.fetch_add(1, Ordering::Relaxed);
        Consumer { queue, cell, number, options, heartbeat: None }
    }

    /// The consumer of a worker with that number.
    pub(super) fn for_worker(self, number: u64, heartbeat: Duration) -> Self {
        Consumer { number, heartbeat: Some(heartbeat), ..self }
    }

    pub(super) fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Takes tasks on loan: those due again first, then new ones, the most urgent lane first. Waits for a first
    /// one as long as the ask says, spinning briefly and then parked; the list is empty if none came. Blocks for
    /// nothing else; the attempts are journaled in memory that survives the process. Within a lane nothing is handed out
    /// before what another thread is just appending in front of it, so without a wait a list may be empty for that moment.
    ///
    /// # Errors
    /// [`Error::NoSuchGroup`] for the group `default` where it was removed before, [`Error::GroupRemoved`] if the consumer's group
    /// was since; [`Error::Poisoned`], [`Error::Closed`], [`Error::Forked`]; [`Error::Full`] if not even the journal could grow,
    /// [`Error::InDoubt`] if an I/O error hit it. Nothing is on loan then.
    pub fn reserve(&self, ask: Reserve) -> Result<Vec<Delivery>> {
        let core = self.queue.core();
        let cell = self.cell()?;
        let lease = ask.lease.or(self.options.lease);
        let engine_ask = Ask {
            tasks: ask.tasks,
            bytes: ask.bytes,
            lanes: ask.lanes,
            lease_ms: lease.map_or(core.engine.settings().lease_ms, millis),
            consumer: self.number,
        };
        let mut until = None;
        loop {
            core.check(Durability::Process)?;
            let now = clock::now();
            let durability = self.options.durability;
            let make = |handed| Delivery::new(self.queue.clone(), handed, durability);
            let taken = core.engine.reserve(cell, &engine_ask, now, make);
            let may_wait = taken.as_ref().is_ok_and(Vec::is_empty) && ask.tasks > 0 && !ask.wait.is_zero();
            if !may_wait {
                // What woke this one may have been more than it took.
                core.engine.arrivals.pass_on(|| core.engine.may_reserve(cell, &LaneSet::ALL, self.number));
                return taken;
            }
            let until = *until.get_or_insert_with(|| clock::nanos().saturating_add(nanos(ask.wait)));
            if clock::nanos() >= until {
                return Ok(Vec::new());
            }
            let beat = self.heartbeat.map_or(u64::MAX, |beat| clock::nanos().saturating_add(nanos(beat)));
            self.wait_for_task(cell, &ask.lanes, until.min(beat));
        }
    }

    /// Acks deliveries of this consumer's group: one journal entry, one wait, an answer for each in their order.
    ///
    /// # Errors
    /// [`Error::InDoubt`] if the sync failed: then every answer is in doubt. [`Error::Poisoned`], [`Error::Closed`].
    pub fn ack_batch(&self, deliveries: Vec<Delivery>) -> Result<Vec<Result<()>>> {
        let (answers, pending) = self.submit_ack_batch(deliveries)?;
        pending.wait()?;
        Ok(answers)
    }

    /// Acks deliveries at once for other consumers; the pending waits until the acks can't be forgotten.
    ///
    /// # Errors
    /// As for [`Consumer::ack_batch`].
    pub fn submit_ack_batch(&self, deliveries: Vec<Delivery>) -> Result<(Vec<Result<()>>, Pending<()>)> {
        let core = self.queue.core();
        core.check(self.options.durability)?;
        let receipts: Vec<Receipt> = deliveries.into_iter().map(Delivery::detach).collect();
        let cell = self.cell()?;
        let settled = core.engine.settle(cell, receipts.iter().copied(), Settle::Ack, clock::now())?;
        Ok((settled.answers, follow_up(core, self.options.durability, settled.end)))
    }

    /// Releases every delivery that this consumer still has on loan: they count as never started, and their
    /// handles are refused from here on. Call it when the work has stopped.
    ///
    /// # Errors
    /// [`Error::InDoubt`] if the sync failed; [`Error::Poisoned`], [`Error::Closed`].
    pub fn close(self) -> Result<()> {
        let core = self.queue.core();
        core.check(self.options.durability)?;
        let end = core.engine.release_all(self.cell()?, self.number, clock::now())?;
        follow_up(core, self.options.durability, end).wait()
    }

    fn cell(&self) -> Result<&GroupCell> {
        self.cell.as_deref().ok_or_else(|| Error::NoSuchGroup { name: "default".to_owned() })
    }

    /// Returns when there may be a task, at `until` (nanoseconds since boot) at the latest.
    fn wait_for_task(&self, cell: &GroupCell, lanes: &LaneSet, until: u64) {
        let core = self.queue.core();
        if core.spin(until, || core.engine.may_reserve(cell, lanes, self.number)) {
            return;
        }
        let enrolled = core.engine.arrivals.enrol(self.heartbeat.is_none() && *lanes == LaneSet::ALL);
        if core.engine.may_reserve(cell, lanes, self.number) || core.closed.load(Ordering::SeqCst) {
            return;
        }
        let now = clock::nanos();
        let timer = core.engine.next_due(cell).map_or(u64::MAX, |due_ms| due_ms.saturating_mul(1_000_000));
        let limit = until.min(timer).saturating_sub(now);
        if limit > 0 {
            enrolled.sleep(Some(Duration::from_nanos(limit)));
        }
    }
}

/// Settles one receipt.
pub(super) fn settle_one(
    core: &Arc<Core>,
    receipt: &Receipt,
    how: Settle<'_>,
    durability: Durability,
) -> Result<Pending<()>> {
    core.check(durability)?;
    let cell = core.engine.group_by_id(receipt.group).ok_or_else(|| core.engine.no_group_of(receipt))?;
    let end = core.engine.settle_lease(&cell, *receipt, how, clock::now())?;
    Ok(follow_up(core, durability, end))
}

/// Acks receipts of any groups.
pub(super) fn ack_many(core: &Arc<Core>, receipts: &[Receipt], durability: Durability) -> Result<Vec<Result<()>>> {
    core.check(durability)?;
    let mut answers: Vec<Result<()>> = receipts.iter().map(|r| Err(Error::LeaseLost { task: r.task })).collect();
    let mut groups: Vec<u32> = receipts.iter().map(|receipt| receipt.group).collect();
    groups.sort_unstable();
    groups.dedup();
    let mut end = None;
    for group in groups {
        let Some(cell) = core.engine.group_by_id(group) else { continue };
        let own = || receipts.iter().filter(|receipt| receipt.group == group).copied();
        let settled = core.engine.settle(&cell, own(), Settle::Ack, clock::now())?;
        end = end.max(settled.end);
        let slots = answers.iter_mut().zip(receipts).filter(|(_, receipt)| receipt.group == group);
        for ((slot, _), answer) in slots.zip(settled.answers) {
            *slot = answer;
        }
    }
    follow_up(core, durability, end).wait()?;
    Ok(answers)
}

pub(super) fn follow_up(core: &Arc<Core>, durability: Durability, end: Option<u64>) -> Pending<()> {
    match (durability, end) {
        (Durability::Power, Some(end)) => Pending::until((), core, core.engine.journal(), end, None),
        _ => Pending::done(()),
    }
}
