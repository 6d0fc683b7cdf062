//! Settling: ack, nack, release, reject, extend.

use crate::error::{Error, Result};
use crate::log::map_failed;
use crate::sabotage::{Bug, on};
use crate::storage::any_map_failed;
use crate::types::{Now, TaskId};

use super::Engine;
use super::groups::{GroupCell, GroupWork};
use super::receipt::Receipt;

/// What becomes of a leased task.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Settle<'a> {
    /// Done for good.
    Ack,
    /// Again after a delay in milliseconds, or after the backoff.
    Nack { delay_ms: Option<u64>, reason: &'a str },
    /// The attempt never began: due again at once, not counted.
    Release,
    /// A dead letter at once.
    Reject { reason: &'a str },
    /// Set aside until somebody lifts that.
    Park { reason: &'a str },
    /// The lease ends this many milliseconds from now.
    Extend { lease_ms: u64 },
}

impl Settle<'_> {
    /// What is said of the attempt.
    pub(super) fn reason(&self) -> &str {
        match self {
            Settle::Nack { reason, .. } | Settle::Reject { reason } | Settle::Park { reason } => reason,
            Settle::Ack | Settle::Release | Settle::Extend { .. } => "",
        }
    }
}

/// What settling several receipts of one group gave.
pub(crate) struct Settled {
    /// An answer per receipt, in their order.
    pub answers: Vec<Result<()>>,
    /// Position of the journal behind the entry; `None` where nothing was journaled.
    pub end: Option<u64>,
}

impl Engine {
    /// Settles receipts that all belong to `cell`. What is accepted takes effect for other consumers at once
    /// and is durable when the journal's durable mark reaches `end`; many receipts are one entry.
    ///
    /// Errors: `Poisoned`; `InDoubt` if the entry could not be written. An answer is `Io` where the task lies in a segment
    /// whose map failed since it was handed out: nobody knows what its consumer read.
    pub(crate) fn settle(
        &self,
        cell: &GroupCell,
        receipts: impl Iterator<Item = Receipt>,
        how: Settle<'_>,
        now: Now,
    ) -> Result<Settled> {
        let mut answers = Vec::with_capacity(receipts.size_hint().0);
        let end = self.settle_each(cell, receipts, how, now, |answer| answers.push(answer))?;
        Ok(Settled { answers, end })
    }

    /// The same for a single receipt, without a list. Gives the position of the journal behind the entry.
    ///
    /// Errors: as for [`Engine::settle`], and what its answer would be.
    pub(crate) fn settle_lease(
        &self,
        cell: &GroupCell,
        receipt: Receipt,
        how: Settle<'_>,
        now: Now,
    ) -> Result<Option<u64>> {
        let mut answer = Ok(());
        let end = self.settle_each(cell, std::iter::once(receipt), how, now, |given| answer = given)?;
        answer.map(|()| end)
    }

    #[inline]
    fn settle_each(
        &self,
        cell: &GroupCell,
        receipts: impl Iterator<Item = Receipt>,
        how: Settle<'_>,
        now: Now,
        mut answer: impl FnMut(Result<()>),
    ) -> Result<Option<u64>> {
        self.check_poison()?;
        let mut work = cell.state.lock();
        let work = &mut *work;
        self.end_overdue(work, now);
        for receipt in receipts {
            answer(self.settle_one(work, &receipt, how, now));
        }
        let end = self.write_changes(work, now.wall);
        if end.is_err() {
            work.changes.clear();
        }
        let woken = work.group.take_woken();
        // Under a bound on what is on loan an ack too lets others have something.
        let makes_room = self.settings.rules.bound_loans();
        if woken || makes_room || !matches!(how, Settle::Ack | Settle::Extend { .. }) {
            self.arrivals.wake_all();
        }
        end.map_err(Error::in_doubt)
    }

    /// A lease that ran out is lost even if nobody looked at the clock since.
    fn end_overdue(&self, work: &mut GroupWork, now: Now) {
        if !on(Bug::LeaseAfterExpiry) {
            work.group.tick(&self.settings.rules, now, &mut work.changes);
        }
    }

    /// Acks a receipt for who goes on in the group; what changed is his to write.
    pub(super) fn ack_in(&self, work: &mut GroupWork, receipt: &Receipt, now: Now) -> Result<()> {
        self.end_overdue(work, now);
        self.settle_one(work, receipt, Settle::Ack, now)
    }

    fn settle_one(&self, work: &mut GroupWork, receipt: &Receipt, how: Settle<'_>, now: Now) -> Result<()> {
        self.check_held(work, receipt)?;
        self.settle_held(work, receipt, how, now);
        Ok(())
    }

    /// Refuses a receipt whose lease does not hold.
    pub(super) fn check_held(&self, work: &GroupWork, receipt: &Receipt) -> Result<()> {
        self.check_receipt(receipt)?;
        if receipt.group != work.group.id {
            return Err(Error::BadReceipt { why: "it belongs to another group" });
        }
        let task = receipt.task;
        if !work.group.holds(receipt.ticket(), task.lane, task.seq) {
            return Err(Error::LeaseLost { task });
        }
        self.check_source(task)
    }

    /// Ends, or extends, a lease that holds.
    pub(super) fn settle_held(&self, work: &mut GroupWork, receipt: &Receipt, how: Settle<'_>, now: Now) {
        let (task, ticket) = (receipt.task, receipt.ticket());
        let rules = &self.settings.rules;
        match how {
            Settle::Ack => {
                work.changes.acked(task.lane, task.seq);
                work.group.ack(ticket);
            }
            Settle::Nack { delay_ms, reason } => {
                work.group.nack(ticket, delay_ms, reason, rules, now, &mut work.changes);
            }
            Settle::Release => work.group.release(ticket, &mut work.changes),
            Settle::Reject { reason } => work.group.reject(ticket, reason, now, &mut work.changes),
            Settle::Park { reason } => work.group.set_aside(ticket, reason, now, &mut work.changes),
            Settle::Extend { lease_ms } => work.group.extend(ticket, now.boot_ms.saturating_add(lease_ms)),
        }
    }

    /// Releases everything that a consumer holds. Returns the journal position behind the entry.
    pub(crate) fn release_all(&self, cell: &GroupCell, consumer: u64, now: Now) -> Result<Option<u64>> {
        self.check_poison()?;
        let mut work = cell.state.lock();
        let work = &mut *work;
        // A lease that ran out is lost even if nobody looked at the clock since: its attempt counts.
        work.group.tick(&self.settings.rules, now, &mut work.changes);
        work.group.release_all(consumer, &mut work.changes);
        let end = self.write_changes(work, now.wall)?;
        self.arrivals.wake_all();
        Ok(end)
    }

    /// Refuses to settle a task whose bytes may have turned to zeros while its consumer read them. The lease goes on.
    #[inline]
    fn check_source(&self, task: TaskId) -> Result<()> {
        if !any_map_failed() {
            return Ok(());
        }
        let segment = self.lanes.log(task.lane).and_then(|log| log.segment_of(task.seq));
        match segment.filter(|segment| segment.has_failed()) {
            Some(segment) => Err(Error::io(segment.file_name(), "read through the map", map_failed())),
            None => Ok(()),
        }
    }

    fn check_receipt(&self, receipt: &Receipt) -> Result<()> {
        if receipt.task.queue != self.queue {
            return Err(Error::BadReceipt { why: "it belongs to another queue" });
        }
        Ok(())
    }
}
