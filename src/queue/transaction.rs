//! Transactions as callers hold them: buffered here, and nothing happens before the commit.

use std::time::Duration;

use crate::engine::append::TaskDraft;
use crate::engine::receipt::Receipt;
use crate::engine::settle::Settle;
use crate::engine::transaction::Plan;
use crate::error::Result;
use crate::storage::disk::clock;
use crate::types::{Durability, LaneId, TaskId, millis};

use super::task::Fields;
use super::{Delivery, Pending, Queue, Task, once};

/// Enqueues and settles that happen wholly or not at all, over any crash, in any lanes and groups: the step from one task
/// to the next. Buffered, and copied, until [`commit`](Transaction::commit).
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let queue = lanelog::Options::new().lanes(2).open(dir.path().join("queue"))?;
/// use lanelog::{LaneId, Reserve, Task};
///
/// queue.enqueue(Task::new("resize cat.jpg"))?;
/// for delivery in queue.consumer().reserve(Reserve::new())? {
///     let mut step = queue.transaction();
///     step.enqueue(Task::new("publish cat.jpg"))?;
///     step.enqueue(Task::new("tell the owner").lane(LaneId(1)))?;
///     step.ack(delivery);
///     step.commit()?;
/// }
/// # queue.close()?;
/// # Ok::<(), lanelog::Error>(())
/// ```
///
/// Dropped without a commit it is as if it had never been, and its deliveries are as if they had been dropped unsettled.
#[must_use = "nothing happens before `commit`"]
pub struct Transaction {
    queue: Queue,
    tasks: Vec<Buffered>,
    settles: Vec<(Leased, How)>,
    durability: Durability,
    wait: Option<Duration>,
}

/// A task to be enqueued by the commit.
struct Buffered {
    lane: LaneId,
    payload: Vec<u8>,
    fields: Fields,
}

/// A settle as it is kept until the commit.
enum How {
    Ack,
    Nack { delay_ms: Option<u64>, reason: String },
    Release,
    Reject { reason: String },
}

/// What a transaction settles: a [`Delivery`], or the [`Receipt`] of one.
pub struct Leased(Lease);

enum Lease {
    Delivery(Box<Delivery>),
    Receipt(Receipt),
}

impl From<Delivery> for Leased {
    fn from(delivery: Delivery) -> Self {
        Leased(Lease::Delivery(Box::new(delivery)))
    }
}

impl From<Receipt> for Leased {
    fn from(receipt: Receipt) -> Self {
        Leased(Lease::Receipt(receipt))
    }
}

impl From<&Receipt> for Leased {
    fn from(receipt: &Receipt) -> Self {
        Leased(Lease::Receipt(*receipt))
    }
}

impl Transaction {
    pub(super) fn new(queue: Queue) -> Self {
        Transaction { queue, tasks: Vec::new(), settles: Vec::new(), durability: Durability::Power, wait: None }
    }

    /// The same transaction at another durability, which is that of all its tasks and settles whatever they say
    /// themselves. `Power` unless told.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// How long the commit waits for ready segments, and for room under a [`Bound`](crate::Bound), whatever its tasks say
    /// themselves; [`Options::append_wait`](crate::Options::append_wait) unless told, and zero is not at all.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = Some(wait);
        self
    }

    /// A task to be enqueued. Checked now; it has its id, and exists, from the commit on. Times from its enqueue on count
    /// from now.
    ///
    /// Whether its dedup id counts ([`Task::dedup_id`]) is looked up as the commit begins, before any settle of this
    /// transaction: if it does the first task stands in its place, and nothing is added. Of tasks of one transaction with
    /// the same id the first is added. A new id counts if and only if the transaction happens.
    ///
    /// # Errors
    /// [`Error::TaskTooLarge`](crate::Error::TaskTooLarge), [`Error::HeadersTooLarge`](crate::Error::HeadersTooLarge), [`Error::InvalidOption`](crate::Error::InvalidOption) for what the task asks for;
    /// [`Error::NoSuchLane`](crate::Error::NoSuchLane), [`Error::Poisoned`](crate::Error::Poisoned). The transaction is as it was before.
    #[expect(clippy::needless_pass_by_value, reason = "a task is handed over")]
    pub fn enqueue(&mut self, task: Task<'_>) -> Result<()> {
        let fields = task.fields(self.queue.core(), || clock::now().wall)?;
        let draft = fields.draft(task.payload, self.durability);
        self.queue.core().engine.check_part(task.lane, &draft)?;
        self.tasks.push(Buffered { lane: task.lane, payload: task.payload.to_vec(), fields });
        Ok(())
    }

    /// Done for good.
    pub fn ack(&mut self, lease: impl Into<Leased>) {
        self.settles.push((lease.into(), How::Ack));
    }

    /// The attempt failed: comes again after `delay`, or after its backoff.
    pub fn nack(&mut self, lease: impl Into<Leased>, delay: Option<Duration>, reason: &str) {
        let delay_ms = delay.map(millis);
        self.settles.push((lease.into(), How::Nack { delay_ms, reason: reason.to_owned() }));
    }

    /// The attempt never began: due again at once, and not counted.
    pub fn release(&mut self, lease: impl Into<Leased>) {
        self.settles.push((lease.into(), How::Release));
    }

    /// Will never work: a dead letter at once.
    pub fn reject(&mut self, lease: impl Into<Leased>, reason: &str) {
        self.settles.push((lease.into(), How::Reject { reason: reason.to_owned() }));
    }

    /// Makes all of it happen, and waits until it can't be undone: at `Power`, until all logs that it wrote to are on
    /// stable storage, and so is the first task of each dedup id that counted; at `Process` not at all. Gives the ids of the tasks in the order of their enqueues. Where no
    /// segment is ready it first waits for one, as long as [`Options::append_wait`](crate::Options::append_wait) says.
    ///
    /// Settles alone, or tasks for one lane alone, cost one commit of one log; else it is one of each lane and one of the
    /// journal, which other calls that wait share.
    ///
    /// # Errors
    /// Refused, with nothing done: [`Error::LeaseLost`](crate::Error::LeaseLost) if any of the leases is lost, [`Error::BadReceipt`](crate::Error::BadReceipt) for a foreign
    /// one, or a task that is settled twice; [`Error::TransactionTooLarge`](crate::Error::TransactionTooLarge), [`Error::DedupFull`](crate::Error::DedupFull), [`Error::Full`](crate::Error::Full), [`Error::Poisoned`](crate::Error::Poisoned),
    /// [`Error::Closed`](crate::Error::Closed), [`Error::Forked`](crate::Error::Forked), [`Error::NotDurable`](crate::Error::NotDurable); [`Error::Io`](crate::Error::Io) if an I/O error hit the segment of a
    /// leased task. Deliveries of a refused transaction are as if they had been dropped unsettled; settle by receipt, after
    /// [`Delivery::detach`], what should stay on loan. In doubt, wholly: [`Error::InDoubt`](crate::Error::InDoubt) if a sync failed or an I/O
    /// error hit a segment.
    pub fn commit(self) -> Result<Vec<TaskId>> {
        self.submit()?.wait()
    }

    /// Makes all of it happen, and returns without waiting for its durability; [`Pending::wait`] does that.
    ///
    /// # Errors
    /// Those of [`commit`](Transaction::commit), but for a failed sync.
    pub fn submit(self) -> Result<Pending<Vec<TaskId>>> {
        let Transaction { queue, tasks, settles, durability, wait } = self;
        let core = queue.core();
        core.check(durability)?;
        let drafts: Vec<(LaneId, TaskDraft<'_>)> =
            tasks.iter().map(|task| (task.lane, task.fields.draft(&task.payload, durability))).collect();
        let receipts: Vec<(Receipt, Settle<'_>)> =
            settles.iter().map(|(leased, how)| (leased.receipt(), how.settle())).collect();
        let plan = Plan { tasks: &drafts, settles: &receipts, letter: None, durability };
        let accepted = core.append(wait, || core.engine.transact_once(&plan, clock::now()))?;
        settles.into_iter().for_each(|(leased, _)| leased.settled());
        let ids: Vec<TaskId> = once::ids(core, &accepted).collect();
        let first = ids.first().copied();
        Ok(Pending::after(ids, core, durability, &accepted.ends, first))
    }
}

impl How {
    fn settle(&self) -> Settle<'_> {
        match self {
            How::Ack => Settle::Ack,
            How::Nack { delay_ms, reason } => Settle::Nack { delay_ms: *delay_ms, reason },
            How::Release => Settle::Release,
            How::Reject { reason } => Settle::Reject { reason },
        }
    }
}

impl Leased {
    fn receipt(&self) -> Receipt {
        match &self.0 {
            Lease::Delivery(delivery) => delivery.receipt(),
            Lease::Receipt(receipt) => *receipt,
        }
    }

    /// The lease ended: the delivery has nothing left to give back.
    fn settled(self) {
        if let Lease::Delivery(delivery) = self.0 {
            let _over = delivery.detach();
        }
    }
}
