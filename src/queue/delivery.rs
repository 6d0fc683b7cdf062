//! A task on loan.

use std::time::Duration;

use bytes::Bytes;

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
/// its backoff. The payload stays valid for as long as a clone of it is held, whatever becomes of the task; its
/// segment's space is not given back meanwhile ([`Queue::pins`]).
pub struct Delivery {
    queue: Queue,
    receipt: Receipt,
    last_reason: String,
    payload: Bytes,
    fields: Bytes,
    enqueued: Timestamp,
    durability: Durability,
    settled: bool,
}

impl Delivery {
    pub(super) fn new(queue: Queue, handed: crate::engine::deliver::Handed, durability: Durability) -> Self {
        let crate::engine::deliver::Handed { receipt, reason: last_reason, payload, fields, enqueued } = handed;
        Delivery { queue, receipt, last_reason, payload, fields, enqueued, durability, settled: false }
    }

    /// The payload, verified.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// The task's id.
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.receipt.task
    }

    /// The lane it was enqueued in.
    #[must_use]
    pub fn lane(&self) -> LaneId {
        self.receipt.task.lane
    }

    /// Which attempt this is; the first is 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.receipt.attempt
    }

    /// What was said of the attempt before; empty for the first, or if nothing was said.
    #[must_use]
    pub fn last_reason(&self) -> &str {
        &self.last_reason
    }

    /// Its key, if it has one.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        fields::Traits::decode(&self.fields).key
    }

    /// When it was enqueued.
    #[must_use]
    pub fn enqueued_at(&self) -> Timestamp {
        self.enqueued
    }

    /// Its headers, in the order they were given.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        fields::headers(&self.fields)
    }

    /// The proof of this lease.
    #[must_use]
    pub fn receipt(&self) -> Receipt {
        self.receipt
    }

    /// The lease's fencing token: pass it to whatever the work changes elsewhere. See [`Receipt::fence`].
    #[must_use]
    pub fn fence(&self) -> u64 {
        self.receipt.fence
    }

    /// The payload as a copy that pins nothing.
    #[must_use]
    pub fn to_owned_payload(&self) -> Vec<u8> {
        self.payload.to_vec()
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
        self.queue.extend(&self.receipt, lease)
    }

    /// Keeps the lease alive for as long as the guard is held, `lease` at a time, from a thread of the queue's. For a
    /// [`Worker`](crate::Worker) its own [`keep_alive`](crate::Worker::keep_alive) keeps the worker alive too.
    ///
    /// # Errors
    /// [`Error::LeaseLost`](crate::Error::LeaseLost) if it is too late; those of [`Queue::extend`]; [`Error::Io`](crate::Error::Io) if the
    /// thread could not be started.
    pub fn keep_alive(&self, lease: Duration) -> Result<KeepAlive> {
        let core = self.queue.core();
        let cell = core.engine.group_by_id(self.receipt.group);
        let cell = cell.ok_or_else(|| core.engine.no_group_of(&self.receipt))?;
        keep(core, Kept::new(cell, self.receipt, millis(lease), u64::MAX, None))
    }

    /// Keeps the lease and gives up the handle: whoever holds the receipt settles the task.
    #[must_use]
    pub fn detach(mut self) -> Receipt {
        self.settled = true;
        self.receipt
    }

    fn settle(mut self, how: Settle<'_>) -> Result<Pending<()>> {
        self.settled = true;
        settle_one(self.queue.core(), &self.receipt, how, self.durability)
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if !self.settled {
            let how = Settle::Nack { delay_ms: None, reason: "dropped unsettled" };
            // Refused if the lease is gone or the queue closed; then the task comes again anyway.
            let _refused = settle_one(self.queue.core(), &self.receipt, how, Durability::Process);
        }
    }
}
