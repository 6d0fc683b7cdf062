//! Workers: consumers with a name and a heartbeat.

use std::sync::Arc;
use std::time::Duration;

use crate::delivery::workers::{Pulse, WorkerId};
use crate::engine::groups::GroupCell;
use crate::engine::recovery::DEFAULT_GROUP;
use crate::error::{Error, Result};
use crate::storage::disk::clock;
use crate::types::{Durability, millis};

use super::consumer::{Consumer, ConsumerOptions, Next, Reserve, follow_up};
use super::keeper::{KeepAlive, Kept, keep};
use super::{Delivery, Pending, Queue};

/// Options of a worker.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    group: String,
    heartbeat: Duration,
    missed_max: u32,
    lease: Option<Duration>,
    durability: Durability,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        WorkerOptions {
            group: DEFAULT_GROUP.to_owned(),
            heartbeat: Duration::from_secs(15),
            missed_max: 2,
            lease: None,
            durability: Durability::default(),
        }
    }
}

impl WorkerOptions {
    /// The group `default`, a heartbeat every 15 s of which two may be missed, the queue's lease, settles at `Power`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The group whose tasks it takes.
    #[must_use]
    pub fn group(mut self, name: &str) -> Self {
        name.clone_into(&mut self.group);
        self
    }

    /// Time between two heartbeats, at least 1 ms; default 15 s. Shorter ones find a dead worker sooner, and take a live one
    /// for dead sooner that could not run for a while.
    #[must_use]
    pub fn heartbeat(mut self, interval: Duration) -> Self {
        self.heartbeat = interval;
        self
    }

    /// After how many missed heartbeats it counts as dead, at least 1; default 2.
    #[must_use]
    pub fn missed_heartbeats(mut self, count: u32) -> Self {
        self.missed_max = count;
        self
    }

    /// How long this worker has for a task; default the queue's lease.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = Some(lease);
        self
    }

    /// When settles of its deliveries count as done.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    fn pulse(&self) -> Result<Pulse> {
        let refuse = |option, why: &str| Err(Error::InvalidOption { option, why: why.to_owned() });
        match (millis(self.heartbeat), self.missed_max) {
            (0, _) => refuse("heartbeat", "two heartbeats are at least 1 ms apart"),
            (_, 0) => refuse("missed_heartbeats", "at least one heartbeat has to be missed"),
            (interval_ms, missed_max) => Ok(Pulse { interval_ms, missed_max }),
        }
    }
}

/// A consumer with a name, whose tasks go to others as soon as it is dead, and not when their leases run out.
///
/// It lives as long as it is heard of: every [`heartbeat`](Worker::heartbeat) and every [`reserve`](Worker::reserve) says
/// so, a reserve that waits does it meanwhile, and [`run`](Worker::run) and [`keep_alive`](Worker::keep_alive) do it while a
/// task is worked on. After as many missed heartbeats as its options say it is dead: its leases end at once, its tasks go to
/// whoever asks (their attempts count, as with a lease that ran out), its receipts are refused with [`Error::LeaseLost`],
/// and its next heartbeat or reserve with [`Error::WorkerLost`]. It may [register again](Worker::register_again).
///
/// A worker that is dropped or closed gives back what it holds at once; those attempts are not counted.
///
/// Its identity is its own and not its name's: a worker that registers under a name in use takes the other one's place,
/// whose leases end at once. Whatever the other one does from there on is refused.
pub struct Worker {
    consumer: Consumer,
    cell: Arc<GroupCell>,
    id: WorkerId,
    name: String,
    options: WorkerOptions,
    gone: bool,
}

impl Worker {
    pub(super) fn register(queue: &Queue, name: &str, options: WorkerOptions) -> Result<Worker> {
        let core = queue.core();
        core.check(options.durability)?;
        let pulse = options.pulse()?;
        let cell = core.engine.group(&options.group)?;
        let id = core.engine.enlist(&cell, name, pulse, clock::now())?;
        let consumer = consumer_of(queue, &cell, id, &options);
        Ok(Worker { consumer, cell, id, name: name.to_owned(), options, gone: false })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Says that it lives.
    ///
    /// # Errors
    /// [`Error::WorkerLost`] if it counts as dead or another one took its name; [`Error::Poisoned`], [`Error::Closed`],
    /// [`Error::Forked`].
    pub fn heartbeat(&self) -> Result<()> {
        let core = self.consumer.queue().core();
        core.check(Durability::Process)?;
        self.named(core.engine.beat(&self.cell, self.id, clock::now()))
    }

    /// As [`Consumer::reserve`], and a heartbeat. In sticky mode ([`Options::sticky`](crate::Options::sticky)) it gives tasks
    /// without a key, and those of the keys that are this worker's.
    ///
    /// # Errors
    /// [`Error::WorkerLost`] if it counts as dead or another one took its name, and those of [`Consumer::reserve`].
    pub fn reserve(&self, ask: Reserve) -> Result<Vec<Delivery>> {
        self.named(self.consumer.reserve(ask))
    }

    /// As [`Consumer::reserve_one`], and a heartbeat.
    ///
    /// # Errors
    /// As for [`Worker::reserve`].
    pub fn reserve_one(&self, ask: Reserve) -> Result<Option<Delivery>> {
        self.named(self.consumer.reserve_one(ask))
    }

    /// As [`Consumer::ack_and_reserve_one`], and a heartbeat.
    #[must_use = "the ack may have been refused, and the next task is on loan"]
    pub fn ack_and_reserve_one(&self, done: Delivery, ask: Reserve) -> Next {
        let next = self.consumer.ack_and_reserve_one(done, ask);
        Next { task: self.named(next.task), ..next }
    }

    /// As [`Consumer::ack_batch`].
    ///
    /// # Errors
    /// As for [`Consumer::ack_batch`].
    pub fn ack_batch(&self, deliveries: Vec<Delivery>) -> Result<Vec<Result<()>>> {
        self.consumer.ack_batch(deliveries)
    }

    /// As [`Consumer::submit_ack_batch`].
    ///
    /// # Errors
    /// As for [`Consumer::submit_ack_batch`].
    pub fn submit_ack_batch(&self, deliveries: Vec<Delivery>) -> Result<(Vec<Result<()>>, Pending<()>)> {
        self.consumer.submit_ack_batch(deliveries)
    }

    /// Keeps the delivery's lease and this worker alive for as long as the guard is held, from a thread of the queue's.
    ///
    /// # Errors
    /// [`Error::LeaseLost`], [`Error::WorkerLost`] if it is too late; [`Error::Poisoned`], [`Error::Closed`],
    /// [`Error::Forked`]; [`Error::Io`] if the thread could not be started.
    pub fn keep_alive(&self, delivery: &Delivery) -> Result<KeepAlive> {
        let core = self.consumer.queue().core();
        let lease_ms = self.options.lease.map_or(core.engine.settings().lease_ms, millis);
        let every_ms = millis(self.options.heartbeat) / 2;
        let kept = Kept::new(Arc::clone(&self.cell), delivery.receipt(), lease_ms, every_ms, Some(self.id));
        self.named(keep(core, kept))
    }

    /// Works on a task: keeps its lease and this worker alive while `handler` runs, then acks it, or nacks it with the reason
    /// that the handler gave. [`KeepAlive::is_lost`] tells the handler when its work is in vain.
    ///
    /// # Errors
    /// Those of [`Worker::keep_alive`], before the handler runs; those of [`Queue::ack`] after it.
    pub fn run(
        &self,
        delivery: Delivery,
        handler: impl FnOnce(&Delivery, &KeepAlive) -> std::result::Result<(), String>,
    ) -> Result<()> {
        let alive = self.keep_alive(&delivery)?;
        let outcome = handler(&delivery, &alive);
        match outcome {
            Ok(()) => delivery.ack(),
            Err(reason) => delivery.nack(None, &reason),
        }
    }

    /// Registers again under its name, as a worker that holds nothing: for one that was found dead. What it held before is
    /// lost to it.
    ///
    /// # Errors
    /// As for [`Queue::worker`].
    pub fn register_again(&mut self) -> Result<()> {
        let core = self.consumer.queue().core();
        core.check(self.options.durability)?;
        self.id = core.engine.enlist(&self.cell, &self.name, self.options.pulse()?, clock::now())?;
        self.consumer = consumer_of(self.consumer.queue(), &self.cell, self.id, &self.options);
        Ok(())
    }

    /// Gives back what it holds, as never started, and is no worker any more.
    ///
    /// # Errors
    /// [`Error::InDoubt`] if the sync failed; [`Error::Full`] if the journal could not grow; [`Error::Poisoned`],
    /// [`Error::Closed`], [`Error::Forked`].
    pub fn close(mut self) -> Result<()> {
        self.gone = true;
        let core = self.consumer.queue().core();
        core.check(self.options.durability)?;
        let end = core.engine.dismiss(&self.cell, self.id, clock::now())?;
        follow_up(core, self.options.durability, end).wait()
    }

    /// The engine knows a worker by its number.
    fn named<T>(&self, outcome: Result<T>) -> Result<T> {
        outcome.map_err(|error| match error {
            Error::WorkerLost { .. } => Error::WorkerLost { name: self.name.clone() },
            other => other,
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let core = self.consumer.queue().core();
        if !self.gone && core.check(Durability::Process).is_ok() {
            // Refused by a poisoned queue, in which nobody gets anything anyway.
            let _refused = core.engine.dismiss(&self.cell, self.id, clock::now());
        }
    }
}

fn consumer_of(queue: &Queue, cell: &Arc<GroupCell>, id: WorkerId, options: &WorkerOptions) -> Consumer {
    let mut own = ConsumerOptions::new().durability(options.durability);
    if let Some(lease) = options.lease {
        own = own.lease(lease);
    }
    Consumer::new(queue.clone(), Some(Arc::clone(cell)), own).for_worker(id.consumer(), options.heartbeat)
}
