//! A task on loan.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::engine::deliver::Handed;
use crate::engine::groups::GroupCell;
use crate::engine::receipt::Receipt;
use crate::engine::settle::Settle;
use crate::error::Result;
use crate::format::fields;
use crate::types::{Durability, LaneId, TaskId, Timestamp, millis};

use super::consumer::settle_one;
use super::keeper::{KeepAlive, Kept, keep};
use super::{Pending, Queue};

/// A task on loan, with its bytes: they are borrowed from the log, not copied.
///
/// Settle it with [`ack`](Delivery::ack), [`nack`](Delivery::nack), [`release`](Delivery::release) or
/// [`reject`](Delivery::reject). One that is dropped unsettled counts as a failed attempt and comes again after
/// its backoff. Its segment's space is not given back while it is held, or what
/// [`share_payload`](Delivery::share_payload) gave ([`Queue::pins`]); these bytes stay valid whatever becomes of the task.
pub struct Delivery {
    lender: Arc<Lender>,
    handed: Handed,
    settled: bool,
}

/// What the deliveries of one consumer share. One count for each consumer: on the queue's own, consumers in several threads
/// would wait for each other.
pub(super) struct Lender {
    pub queue: Queue,
    pub cell: Arc<GroupCell>,
    /// When its settles count as done.
    pub durability: Durability,
}

impl Delivery {
    pub(super) fn new(lender: &Arc<Lender>, handed: Handed) -> Self {
        Delivery { lender: Arc::clone(lender), handed, settled: false }
    }

    /// The payload, verified: the log's own bytes.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.handed.body.payload()
    }

    /// The payload as bytes that may be kept for longer than the delivery. They are not copied but the log's own, whose
    /// segment is not given back while they are held ([`Queue::pins`]); [`to_owned_payload`](Self::to_owned_payload) copies.
    #[must_use]
    pub fn share_payload(&self) -> Bytes {
        self.handed.body.share_payload()
    }

    /// The task's id.
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.handed.receipt.task
    }

    /// The lane it was enqueued in.
    #[must_use]
    pub fn lane(&self) -> LaneId {
        self.handed.receipt.task.lane
    }

    /// Which attempt this is; the first is 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.handed.receipt.attempt
    }

    /// What was said of the attempt before; empty for the first, or if nothing was said.
    #[must_use]
    pub fn last_reason(&self) -> &str {
        &self.handed.reason
    }

    /// Its key, if it has one.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        fields::Traits::decode(self.handed.body.fields()).key
    }

    /// When it was enqueued.
    #[must_use]
    pub fn enqueued_at(&self) -> Timestamp {
        self.handed.enqueued
    }

    /// Its headers, in the order they were given.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        fields::headers(self.handed.body.fields())
    }

    /// The proof of this lease.
    #[must_use]
    pub fn receipt(&self) -> Receipt {
        self.handed.receipt
    }

    /// The lease's fencing token: pass it to whatever the work changes elsewhere. See [`Receipt::fence`].
    #[must_use]
    pub fn fence(&self) -> u64 {
        self.handed.receipt.fence
    }

    /// The payload as a copy that pins nothing.
    #[must_use]
    pub fn to_owned_payload(&self) -> Vec<u8> {
        self.payload().to_vec()
    }

    /// Done for good. Waits for the durability of the consumer's settles.
    ///
    /// # Errors
    /// As for [`Queue::ack`].
    pub fn ack(self) -> Result<()> {
        self.submit_ack()?.wait()
    }

    /// Done for good, at once for other consumers; [`Pending::wait`] waits until it can't be forgotten.
    ///
    /// # Errors
    /// As for [`Queue::ack`].
    pub fn submit_ack(self) -> Result<Pending<()>> {
        self.settle(Settle::Ack)
    }

    /// Failed: comes again after `delay`, or after the queue's backoff.
    ///
    /// # Errors
    /// As for [`Queue::ack`].
    pub fn nack(self, delay: Option<Duration>, reason: &str) -> Result<()> {
        self.submit_nack(delay, reason)?.wait()
    }

    /// The form of [`nack`](Delivery::nack) that does not wait.
    ///
    /// # Errors
    /// As for [`Queue::ack`].
    pub fn submit_nack(self, delay: Option<Duration>, reason: &str) -> Result<Pending<()>> {
        let delay_ms = delay.map(millis);
        self.settle(Settle::Nack { delay_ms, reason })
    }

    /// The form of [`release`](Delivery::release) that does not wait.
    ///
    /// # Errors
    /// As for [`Queue::ack`].
    pub fn submit_release(self) -> Result<Pending<()>> {
        self.settle(Settle::Release)
    }

    /// The form of [`reject`](Delivery::reject) that does not wait.
    ///
    /// # Errors
    /// As for [`Queue::ack`].
    pub fn submit_reject(self, reason: &str) -> Result<Pending<()>> {
        self.settle(Settle::Reject { reason })
    }

    /// Never started: due again at once, and the attempt is not counted.
    ///
    /// # Errors
    /// As for [`Queue::ack`].
    pub fn release(self) -> Result<()> {
        self.submit_release()?.wait()
    }

    /// Will never work: a dead letter at once.
    ///
    /// # Errors
    /// As for [`Queue::ack`].
    pub fn reject(self, reason: &str) -> Result<()> {
        self.submit_reject(reason)?.wait()
    }

    /// Set aside until [`Queue::kick`] lifts that; the attempt counts.
    ///
    /// # Errors
    /// As for [`Queue::ack`].
    pub fn park(self, reason: &str) -> Result<()> {
        self.settle(Settle::Park { reason })?.wait()
    }

    /// The lease ends `lease` from now.
    ///
    /// # Errors
    /// As for [`Queue::extend`].
    pub fn extend(&self, lease: Duration) -> Result<()> {
        self.lender.queue.extend(&self.handed.receipt, lease)
    }

    /// Keeps the lease alive for as long as the guard is held, `lease` at a time, from a thread of the queue's. For a
    /// [`Worker`](crate::Worker) its own [`keep_alive`](crate::Worker::keep_alive) keeps the worker alive too.
    ///
    /// # Errors
    /// [`Error::LeaseLost`](crate::Error::LeaseLost) if it is too late; those of [`Queue::extend`]; [`Error::Io`](crate::Error::Io) if the
    /// thread could not be started.
    pub fn keep_alive(&self, lease: Duration) -> Result<KeepAlive> {
        let Lender { queue, cell, .. } = &*self.lender;
        keep(queue.core(), Kept::new(Arc::clone(cell), self.handed.receipt, millis(lease), u64::MAX, None))
    }

    /// Keeps the lease and gives up the handle: whoever holds the receipt settles the task.
    #[must_use]
    pub fn detach(mut self) -> Receipt {
        self.settled = true;
        self.handed.receipt
    }

    fn settle(mut self, how: Settle<'_>) -> Result<Pending<()>> {
        self.settled = true;
        let lender = &*self.lender;
        settle_one(lender.queue.core(), &lender.cell, &self.handed.receipt, how, lender.durability)
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if !self.settled {
            let how = Settle::Nack { delay_ms: None, reason: "dropped unsettled" };
            // Refused if the lease is gone or the queue closed; then the task comes again anyway.
            let Lender { queue, cell, .. } = &*self.lender;
            let _refused = settle_one(queue.core(), cell, &self.handed.receipt, how, Durability::Process);
        }
    }
}
