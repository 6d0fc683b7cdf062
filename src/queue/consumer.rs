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
use super::delivery::Lender;
use super::{Delivery, Pending, Queue};

/// One of the competing consumers of a group.
pub struct Consumer {
    queue: Queue,
    /// `None` for a group that is not there.
    lender: Option<Arc<Lender>>,
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

/// What [`Consumer::ack_and_reserve_one`] did.
#[must_use = "the ack may have been refused, and the next task is on loan"]
pub struct Next {
    /// The ack: errors are those of [`Queue::ack`], and [`Error::NoSuchGroup`] of a consumer without a group.
    pub acked: Result<()>,
    /// The next task, if there was one: errors are those of [`Consumer::reserve`].
    pub task: Result<Option<Delivery>>,
}

impl Consumer {
    pub(super) fn new(queue: Queue, cell: Option<Arc<GroupCell>>, options: ConsumerOptions) -> Self {
        let number = queue.core().consumers.fetch_add(1, Ordering::Relaxed);
        let durability = options.durability;
        let lender = cell.map(|cell| Arc::new(Lender { queue: queue.clone(), cell, durability }));
        Consumer { queue, lender, number, options, heartbeat: None }
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
        let mut list = Vec::new();
        self.reserve_each(ask, |delivery, left| {
            if list.is_empty() {
                list.reserve_exact(left);
            }
            list.push(delivery);
        })?;
        Ok(list)
    }

    /// As [`Consumer::reserve`] for one task, whatever number the ask names, without a list: the cheapest way to a single
    /// one.
    ///
    /// # Errors
    /// As for [`Consumer::reserve`].
    pub fn reserve_one(&self, ask: Reserve) -> Result<Option<Delivery>> {
        let mut one = None;
        self.reserve_each(ask.tasks(1), |delivery, _| one = Some(delivery))?;
        Ok(one)
    }

    /// Acks a delivery and takes the next task, in one step: what a worker does all day, for two thirds of the price of
    /// [`Delivery::ack`] and [`Consumer::reserve_one`]. The ack waits for its durability, as that of the consumer's settles
    /// says, and not for the next task: if none is there, it is done before the wait begins. The next lease begins with the
    /// call, so at `Power` a part of it has gone by with the ack's sync.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let queue = lanelog::Options::new().open(dir.path().join("queue"))?;
    /// # queue.producer().enqueue("one")?;
    /// # queue.producer().enqueue("two")?;
    /// use lanelog::Reserve;
    ///
    /// let consumer = queue.consumer();
    /// let mut task = consumer.reserve_one(Reserve::new())?;
    /// while let Some(done) = task {
    ///     println!("{:?}", done.payload());
    ///     let next = consumer.ack_and_reserve_one(done, Reserve::new());
    ///     next.acked?;
    ///     task = next.task?;
    /// }
    /// # queue.close()?;
    /// # Ok::<(), lanelog::Error>(())
    /// ```
    #[must_use = "the ack may have been refused, and the next task is on loan"]
    pub fn ack_and_reserve_one(&self, done: Delivery, ask: Reserve) -> Next {
        let (mut next, durability) = (None, self.options.durability);
        let receipt = done.detach();
        let begun = self.queue.core().check(durability).and_then(|()| self.lender());
        let lender = match begun {
            Ok(lender) => lender,
            Err(refused) => return Next { acked: Err(refused), task: Ok(None) },
        };
        let (core, ask) = (self.queue.core(), ask.tasks(1));
        let give = |handed, _| next = Some(Delivery::new(lender, handed));
        let (end, taken) = core.engine.ack_and_reserve_each(&lender.cell, receipt, &self.ask(&ask), clock::now(), give);
        let acked = end.and_then(|end| follow_up(core, durability, end).wait());
        let task = match taken {
            Ok(()) if next.is_none() && acked.is_ok() && !ask.wait.is_zero() => self.reserve_one(ask),
            Ok(()) => {
                self.pass_on(&lender.cell);
                Ok(next)
            }
            Err(refused) => Err(refused),
        };
        Next { acked, task }
    }

    /// The ask as the engine takes it.
    fn ask(&self, ask: &Reserve) -> Ask {
        let lease = ask.lease.or(self.options.lease);
        Ask {
            tasks: ask.tasks,
            bytes: ask.bytes,
            lanes: ask.lanes,
            lease_ms: lease.map_or(self.queue.core().engine.settings().lease_ms, millis),
            consumer: self.number,
        }
    }

    /// What woke this one may have been more than it took.
    fn pass_on(&self, cell: &GroupCell) {
        let engine = &self.queue.core().engine;
        engine.arrivals.pass_on(|| engine.may_reserve(cell, &LaneSet::ALL, self.number));
    }

    /// Gives each task that it takes, with how many there may be from it on.
    fn reserve_each(&self, ask: Reserve, mut give: impl FnMut(Delivery, usize)) -> Result<()> {
        let core = self.queue.core();
        let lender = self.lender()?;
        let cell = &*lender.cell;
        let engine_ask = self.ask(&ask);
        let mut until = None;
        loop {
            core.check(Durability::Process)?;
            let mut came = false;
            let taken = core.engine.reserve_each(cell, &engine_ask, clock::now(), |handed, left| {
                came = true;
                give(Delivery::new(lender, handed), left);
            });
            let may_wait = taken.is_ok() && !came && ask.tasks > 0 && !ask.wait.is_zero();
            if !may_wait {
                self.pass_on(cell);
                return taken;
            }
            let until = *until.get_or_insert_with(|| clock::nanos().saturating_add(nanos(ask.wait)));
            if clock::nanos() >= until {
                return Ok(());
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
        let settled = core.engine.settle(cell, receipts.iter().copied(), Settle::Ack, clock::now_to_ack())?;
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

    fn lender(&self) -> Result<&Arc<Lender>> {
        self.lender.as_ref().ok_or_else(|| Error::NoSuchGroup { name: "default".to_owned() })
    }

    fn cell(&self) -> Result<&GroupCell> {
        Ok(&self.lender()?.cell)
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

/// Settles one receipt, of whatever group.
pub(super) fn settle_receipt(
    core: &Arc<Core>,
    receipt: &Receipt,
    how: Settle<'_>,
    durability: Durability,
) -> Result<Pending<()>> {
    core.check(durability)?;
    let cell = core.engine.group_by_id(receipt.group).ok_or_else(|| core.engine.no_group_of(receipt))?;
    settle_one(core, &cell, receipt, how, durability)
}

/// Settles one receipt of the group.
pub(super) fn settle_one(
    core: &Arc<Core>,
    cell: &GroupCell,
    receipt: &Receipt,
    how: Settle<'_>,
    durability: Durability,
) -> Result<Pending<()>> {
    core.check(durability)?;
    let now = if matches!(how, Settle::Ack) { clock::now_to_ack() } else { clock::now() };
    let end = core.engine.settle_lease(cell, *receipt, how, now)?;
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
        let settled = core.engine.settle(&cell, own(), Settle::Ack, clock::now_to_ack())?;
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
        (Durability::Power, Some(end)) => {
            core.engine.journal().note_power();
            Pending::until((), core, core.engine.journal(), end, None)
        }
        _ => Pending::done(()),
    }
}
