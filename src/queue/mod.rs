//! What callers hold: the queue, producers, consumers, deliveries; and the two threads that keep house.
//!
//! The room adds to the engine what the engine must not have: waiting, clocks, threads. A call here reads the
//! clock, takes a step of the engine, and waits for what the step needs: a ready segment, a commit, a task.
//! Absent: the format, decisions about data; a second way to do anything the engine does.

mod bound;
mod consumer;
mod core;
mod delivery;
mod hand;
mod keeper;
mod once;
mod options;
mod pending;
mod producer;
mod snapshot;
mod task;
mod threads;
mod transaction;
mod turnstile;
mod worker;

pub use bound::Bound;
pub use consumer::{Consumer, ConsumerOptions, Next, Reserve};
pub use delivery::Delivery;
pub use keeper::KeepAlive;
pub use options::{DeadLettersMax, OnDamage, OnVolatile, Options};
pub use pending::Pending;
pub use producer::Producer;
pub use task::Task;
pub use transaction::{Leased, Transaction};
pub use worker::{Worker, WorkerOptions};

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::engine::groups::Start;
use crate::engine::inspect::{Inspection, inspect};
use crate::engine::pause::Pausable;
use crate::engine::pins::Pins;
use crate::engine::receipt::Receipt;
use crate::engine::recovery::{self, DEFAULT_GROUP, Given};
use crate::engine::settle::Settle;
use crate::engine::stats::Stats;
use crate::error::{Damage, Error, Result};
use crate::storage::disk::{DiskStorage, clock};
use crate::storage::{Medium, Storage};
use crate::sync::atomic::Ordering;
use crate::types::{Durability, LaneId, QueueId, Retention, TaskId, millis};

use self::core::Core;

/// An open queue: one directory, held by this process alone.
///
/// Handles are cheap to clone and can be used from any thread. Close the queue with [`Queue::close`]; dropping
/// the last handle without closing loses nothing that was acknowledged, and makes the next open a recovery.
#[derive(Clone)]
pub struct Queue {
    open: Arc<Open>,
}

/// What all handles share: one count to keep for each delivery.
struct Open {
    core: Arc<Core>,
    /// Where the queue lies, without links; it may be moved meanwhile.
    path: PathBuf,
    /// Stops the threads when the last handle is gone.
    _guard: threads::Guard,
}

/// How far a lane is readable and durable: `durable ≤ published`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Watermarks {
    /// Everything below is readable, and survives the death of the process.
    pub published: u64,
    /// Everything below is on stable storage, or was settled by every group and given back. It lags where nobody waits for
    /// `Power` and tasks are settled as they come: their bytes are not written for their own sake.
    pub durable: u64,
}

/// What a close found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct CloseReport {
    /// Tasks that were on loan. They come again at the next open; the attempts that began are counted.
    pub in_flight: u64,
    /// Segments whose bytes somebody still borrows; they stay mapped, and the directory locked, until dropped.
    pub held: usize,
}

impl Queue {
    /// Opens the queue in `path` with its stored options, making it with default ones if there is none.
    ///
    /// # Errors
    /// As for [`Options::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Queue> {
        Options::new().open(path)
    }

    /// Looks at the queue in `path` without opening it: takes no lock and changes nothing, also beside a process that has
    /// it open. The same as [`inspect`](crate::inspect()).
    ///
    /// # Errors
    /// [`Error::NotAQueue`] if there is none, [`Error::Version`], [`Error::Io`].
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Inspection> {
        inspect(path)
    }

    fn open_with(path: &Path, options: &Options) -> Result<Queue> {
        // What is out of bounds whatever is stored is refused before a directory is made.
        options.resolve(None)?;
        if path.is_dir() {
            // Not even a lock file is left in a directory that is somebody else's.
            recovery::refuse_foreign(&DiskStorage::open_read_only(path)?, path)?;
        }
        let disk = DiskStorage::open(path)?.syncing_by(options.sync_path);
        let storage: Arc<dyn Storage> = Arc::new(if options.sigbus_guard { disk.guarded()? } else { disk });
        let fail_on_damage = options.on_damage == OnDamage::Fail;
        let given = Given { resolve: &|stored| options.resolve(stored), fail_on_damage };
        let engine = recovery::open(storage, path, &given, clock::now())?;
        let engine = engine.padding_commits(options.pad_commits).holding_back(options.unsynced_bytes_max);
        let engine = engine.watched(clock::nanos);
        let wait = options.append_wait.unwrap_or(Duration::from_secs(5));
        let spin = options.spin.unwrap_or(Duration::from_micros(20));
        let core = Arc::new(Core::new(engine, wait, spin, options.on_volatile)?);
        let guard = threads::start(&core)?;
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        Ok(Queue { open: Arc::new(Open { core, path, _guard: guard }) })
    }

    #[inline]
    fn core(&self) -> &Arc<Core> {
        &self.open.core
    }

    /// The queue's identity, fixed when it was made.
    #[must_use]
    pub fn id(&self) -> QueueId {
        self.core().engine.queue()
    }

    /// How many lanes the queue has.
    #[must_use]
    pub fn lanes(&self) -> usize {
        self.core().engine.lanes().count()
    }

    /// The most bytes that one task may take as a record: payload, headers and 32 bytes.
    #[must_use]
    pub fn task_bytes_max(&self) -> u64 {
        self.core().engine.settings().task_bytes_max
    }

    /// What the caller should know about the place that the queue lies in. Empty on an ordinary local disk.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        match self.core().engine.storage().medium() {
            Medium::Local | Medium::CopyOnWrite => Vec::new(),
            Medium::Volatile(kind) => {
                vec![format!("the directory is on {kind}, which is memory: nothing survives a power loss")]
            }
            Medium::Foreign(kind) => {
                vec![format!("the directory is on {kind}: whether a sync reaches stable storage there is unknown")]
            }
        }
    }

    // ---- producing ----

    /// A producer for lane 0 at `Power`; see [`Producer`] for changing either.
    #[must_use]
    pub fn producer(&self) -> Producer {
        Producer::new(self.clone())
    }

    /// Enqueues a task and waits until it has the durability it asks for ([`Task::durability`], `Power` unless
    /// told). Where no segment is ready, or a [`Bound`] leaves no room, it first waits as long as [`Options::append_wait`] says.
    ///
    /// # Errors
    /// Refused, with nothing written: [`Error::TaskTooLarge`], [`Error::HeadersTooLarge`], [`Error::InvalidOption`] for
    /// a header's name, [`Error::NoSuchLane`], [`Error::Full`], [`Error::OverBound`], [`Error::Poisoned`], [`Error::Closed`], [`Error::Forked`], [`Error::NotDurable`];
    /// of a task with a dedup id also [`Error::DedupFull`], and [`Error::Io`] or [`Error::Damaged`] where it can't be read
    /// whether the id counts. In doubt: [`Error::InDoubt`] with the task's id, if the sync failed or an I/O error hit the segment.
    #[expect(clippy::needless_pass_by_value, reason = "a task is handed over")]
    pub fn enqueue(&self, task: Task<'_>) -> Result<TaskId> {
        producer::enqueue(self.core(), &task)
    }

    /// Enqueues a task and returns with its id, without waiting for its durability; [`Pending::wait`] does that. So one
    /// thread keeps many tasks in flight, and they share commits. Waits only where no segment is ready, or a [`Bound`] leaves no room.
    ///
    /// # Errors
    /// The refusals of [`Queue::enqueue`].
    #[expect(clippy::needless_pass_by_value, reason = "a task is handed over")]
    pub fn submit(&self, task: Task<'_>) -> Result<Pending<TaskId>> {
        producer::submit(self.core(), &task)
    }

    /// Enqueues several tasks as one atomic unit, over a crash too, and waits for their durability: the
    /// strongest that any of them asks for. All must be for one lane.
    ///
    /// # Errors
    /// As for [`Queue::enqueue`], and [`Error::BatchTooLarge`]; [`Error::InvalidOption`] if lanes differ.
    pub fn enqueue_batch(&self, tasks: &[Task<'_>]) -> Result<Vec<TaskId>> {
        self.submit_batch(tasks)?.wait()
    }

    /// The batch form of [`Queue::submit`].
    ///
    /// # Errors
    /// The refusals of [`Queue::enqueue_batch`].
    pub fn submit_batch(&self, tasks: &[Task<'_>]) -> Result<Pending<Vec<TaskId>>> {
        producer::submit_batch(self.core(), tasks)
    }

    /// A transaction: enqueues and settles, of any lanes and groups, that happen wholly or not at all when it is committed.
    pub fn transaction(&self) -> Transaction {
        Transaction::new(self.clone())
    }

    /// Waits until everything that was accepted so far, in every lane and of every settle, is on stable storage.
    ///
    /// # Errors
    /// [`Error::InDoubt`] if a sync failed, [`Error::Poisoned`] if one failed before; [`Error::Closed`],
    /// [`Error::Forked`], [`Error::NotDurable`].
    pub fn sync(&self) -> Result<()> {
        self.core().check(Durability::Power)?;
        self.core().sync_all()
    }

    // ---- pausing ----

    /// Pauses a lane for all groups: once this returns nothing of it is handed out, over any crash, until
    /// [`Queue::resume_lane`]. Tasks are enqueued into it, and those on loan are settled and their leases run out, as
    /// always. Pausing a paused lane is no error.
    ///
    /// # Errors
    /// [`Error::NoSuchLane`]; [`Error::Full`] if the journal could not grow; [`Error::InDoubt`] if a sync failed;
    /// [`Error::Poisoned`], [`Error::Closed`], [`Error::Forked`], [`Error::NotDurable`].
    pub fn pause_lane(&self, lane: LaneId) -> Result<()> {
        self.pause(Pausable::Lane(lane))
    }

    /// Takes a pause of a lane back, durably. Consumers who wait for tasks of it get them at once.
    ///
    /// # Errors
    /// As for [`Queue::pause_lane`].
    pub fn resume_lane(&self, lane: LaneId) -> Result<()> {
        self.resume(Pausable::Lane(lane))
    }

    /// Pauses a group for all lanes, as [`Queue::pause_lane`] a lane for all groups. Other groups don't notice.
    ///
    /// # Errors
    /// [`Error::NoSuchGroup`], and as for [`Queue::pause_lane`].
    pub fn pause_group(&self, name: &str) -> Result<()> {
        self.pause(Pausable::Group(self.core().engine.group(name)?.id))
    }

    /// Takes a pause of a group back, durably. Its consumers who wait for tasks get them at once.
    ///
    /// # Errors
    /// As for [`Queue::pause_group`].
    pub fn resume_group(&self, name: &str) -> Result<()> {
        self.resume(Pausable::Group(self.core().engine.group(name)?.id))
    }

    fn pause(&self, what: Pausable) -> Result<()> {
        self.core().check(Durability::Power)?;
        let end = self.core().engine.pause(what, clock::coarse_wall())?;
        self.core().wait_durable(self.core().engine.journal(), end)
    }

    fn resume(&self, what: Pausable) -> Result<()> {
        self.core().check(Durability::Power)?;
        let end = self.core().engine.resume(what, clock::coarse_wall())?;
        self.core().wait_durable(self.core().engine.journal(), end)
    }

    // ---- consuming ----

    /// Makes a group. Durable when this returns: it exists, from `start` on, over any crash.
    ///
    /// # Errors
    /// [`Error::GroupExists`]; [`Error::InvalidOption`] for a bad name, for too many groups at once (1,024), or in the queue's
    /// life (2^30); as for settles else.
    pub fn create_group(&self, name: &str, start: Start) -> Result<()> {
        self.create_group_with(name, start, Retention::new())
    }

    /// Makes a group that may have so much left to do, likewise.
    ///
    /// # Errors
    /// As for [`Queue::create_group`].
    pub fn create_group_with(&self, name: &str, start: Start, retention: Retention) -> Result<()> {
        self.core().check(Durability::Power)?;
        let end = self.core().engine.create_group(name, start, retention, clock::now())?;
        self.core().wait_durable(self.core().engine.journal(), end)
    }

    /// Removes a group: its leases end, and what it alone had left to do is nobody's any more, its dead letters and what it
    /// parked included; so the segments that it alone held back are given back by one of the next checkpoints, and what it
    /// alone kept waiting counts towards no bound. Its consumers and workers learn it from their next call
    /// ([`Error::GroupRemoved`]), those that wait for a task at once; its receipts are refused with [`Error::LeaseLost`].
    /// Durable when this returns: over any crash the group is there wholly or not at all.
    ///
    /// A group that is created later under the same name is another one, which begins where its [`Start`] says.
    ///
    /// Any group may be removed, `default` too, as long as there is another one: without a group nothing would count as acked,
    /// so the last one stays.
    ///
    /// # Errors
    /// [`Error::NoSuchGroup`]; [`Error::InvalidOption`] for the last group; [`Error::Full`] if the journal could not grow, and
    /// nothing changed then; [`Error::InDoubt`] if a sync failed; [`Error::Poisoned`], [`Error::Closed`], [`Error::Forked`],
    /// [`Error::NotDurable`].
    pub fn remove_group(&self, name: &str) -> Result<()> {
        self.core().check(Durability::Power)?;
        let end = self.core().engine.remove_group(name, clock::now())?;
        self.core().wait_durable(self.core().engine.journal(), end)
    }

    /// Bounds what a group may have left to do from here on, durably. What is beyond the bounds goes by and by: some
    /// thousand tasks at a time, the oldest of all lanes first, wherever the group's consumers stand; what is on loan, dead or
    /// parked, or waits for its time, is left alone. [`GroupStats::let_go`](crate::GroupStats::let_go) counts them. A power
    /// loss may bring some of the last ones again, and then they go again.
    ///
    /// # Errors
    /// [`Error::NoSuchGroup`], and as for settles else.
    pub fn set_retention(&self, group: &str, retention: Retention) -> Result<()> {
        self.core().check(Durability::Power)?;
        let engine = &self.core().engine;
        let end = engine.set_retention(&*engine.group(group)?, retention, clock::coarse_wall())?;
        self.core().wait_durable(engine.journal(), end)
    }

    /// How much a group may have left to do.
    ///
    /// # Errors
    /// [`Error::NoSuchGroup`].
    pub fn retention(&self, group: &str) -> Result<Retention> {
        let engine = &self.core().engine;
        Ok(engine.retention(&*engine.group(group)?))
    }

    /// The names of all groups, the oldest first.
    #[must_use]
    pub fn groups(&self) -> Vec<String> {
        self.core().engine.groups().iter().map(|cell| cell.name.clone()).collect()
    }

    /// A consumer of the group `default`, with default options. Where that was removed, its calls say so.
    #[must_use]
    pub fn consumer(&self) -> Consumer {
        let cell = self.core().engine.group(DEFAULT_GROUP);
        Consumer::new(self.clone(), cell.ok(), ConsumerOptions::new())
    }

    /// A consumer of a group.
    ///
    /// # Errors
    /// [`Error::NoSuchGroup`].
    pub fn consumer_of(&self, group: &str, options: ConsumerOptions) -> Result<Consumer> {
        let cell = self.core().engine.group(group)?;
        Ok(Consumer::new(self.clone(), Some(cell), options))
    }

    /// Registers a worker of the group `default`, with default options: a heartbeat every 15 s, of which two may be missed.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for a name that is empty or longer than 128 bytes; [`Error::Full`] or [`Error::InDoubt`] if the
    /// journal could not be written; [`Error::Poisoned`], [`Error::Closed`], [`Error::Forked`], [`Error::NotDurable`].
    pub fn worker(&self, name: &str) -> Result<Worker> {
        self.worker_with(name, WorkerOptions::new())
    }

    /// Registers a worker. One that has the name already is replaced: its leases end at once.
    ///
    /// # Errors
    /// Those of [`Queue::worker`]; [`Error::NoSuchGroup`]; [`Error::InvalidOption`] for options out of bounds.
    pub fn worker_with(&self, name: &str, options: WorkerOptions) -> Result<Worker> {
        Worker::register(self, name, options)
    }

    /// Acks by receipt, at `Power`: waits until the ack can't be forgotten.
    ///
    /// # Errors
    /// [`Error::LeaseLost`] for a stale receipt, [`Error::BadReceipt`] for a foreign one, [`Error::InDoubt`] if the
    /// journal could not be written or synced; [`Error::Io`] if an I/O error hit the task's segment while it was out
    /// ([`Options::sigbus_guard`]); [`Error::Poisoned`], [`Error::Closed`], [`Error::Forked`], [`Error::NotDurable`].
    pub fn ack(&self, receipt: &Receipt) -> Result<()> {
        consumer::settle_receipt(self.core(), receipt, Settle::Ack, Durability::Power)?.wait()
    }

    /// Acks several receipts in one journal entry per group and one wait; an answer for each.
    ///
    /// # Errors
    /// [`Error::InDoubt`] if the sync failed: then every answer is in doubt.
    pub fn ack_receipts(&self, receipts: &[Receipt]) -> Result<Vec<Result<()>>> {
        consumer::ack_many(self.core(), receipts, Durability::Power)
    }

    /// The attempt failed, at `Power`: the task comes again after `delay`, or after its backoff; or it is a dead letter, if that
    /// was the last attempt.
    ///
    /// # Errors
    /// As for [`Queue::ack`].
    pub fn nack(&self, receipt: &Receipt, delay: Option<Duration>, reason: &str) -> Result<()> {
        let delay_ms = delay.map(millis);
        consumer::settle_receipt(self.core(), receipt, Settle::Nack { delay_ms, reason }, Durability::Power)?.wait()
    }

    /// The attempt never began: the task is due again at once, and the attempt is not counted. Waits for `Power`.
    ///
    /// # Errors
    /// As for [`Queue::ack`].
    pub fn release(&self, receipt: &Receipt) -> Result<()> {
        consumer::settle_receipt(self.core(), receipt, Settle::Release, Durability::Power)?.wait()
    }

    /// The task will never work: a dead letter at once, with the first 200 bytes of the reason. Waits for `Power`.
    ///
    /// # Errors
    /// As for [`Queue::ack`].
    pub fn reject(&self, receipt: &Receipt, reason: &str) -> Result<()> {
        consumer::settle_receipt(self.core(), receipt, Settle::Reject { reason }, Durability::Power)?.wait()
    }

    /// The lease ends `lease` from now, sooner or later than it would have.
    ///
    /// # Errors
    /// As for [`Queue::ack`]; an extension is not journaled, so it is never in doubt.
    pub fn extend(&self, receipt: &Receipt, lease: Duration) -> Result<()> {
        let lease_ms = millis(lease);
        consumer::settle_receipt(self.core(), receipt, Settle::Extend { lease_ms }, Durability::Process)?.wait()
    }

    // ---- looking ----

    /// Counts of this moment. Works on a poisoned queue too.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.core().engine.stats(clock::now())
    }

    /// What of a lane is readable and what is on stable storage, as positions in its log: bytes since the oldest segment
    /// that was retained at open. Both only grow.
    ///
    /// # Errors
    /// [`Error::NoSuchLane`].
    pub fn watermarks(&self, lane: LaneId) -> Result<Watermarks> {
        let lanes = self.core().engine.lanes();
        if lane.index() >= lanes.count() {
            return Err(Error::NoSuchLane { lane, lanes: lanes.count() });
        }
        // The durable one first: what is durable was published before.
        let log = lanes.log(lane);
        let durable = log.map_or(0, |log| log.durable());
        Ok(Watermarks { durable, published: log.map_or(0, |log| log.published()) })
    }

    /// What was found damaged since the open: by recovery, and by handing out. [`crate::inspect`] reads everything.
    #[must_use]
    pub fn damage(&self) -> Vec<Damage> {
        self.core().engine.damage()
    }

    /// What holds disk space back: segments that can't be given back because somebody holds payloads of them, and for each
    /// group and lane the oldest task that is not settled and what that keeps. Recycles what nobody holds any more. The cost
    /// grows with segments, groups and what is on loan, not with the backlog.
    #[must_use]
    pub fn pins(&self) -> Pins {
        self.core().engine.recycle();
        self.core().engine.pins(clock::now())
    }

    /// Writes a checkpoint now, beside those that are written when they are due. Waits until it is on stable storage;
    /// producers and consumers go on meanwhile.
    ///
    /// # Errors
    /// [`Error::Full`] if the disk has no room for it, [`Error::InDoubt`] if a sync failed; [`Error::Poisoned`],
    /// [`Error::Closed`], [`Error::Forked`], [`Error::NotDurable`].
    pub fn checkpoint(&self) -> Result<()> {
        self.core().check(Durability::Power)?;
        self.core().checkpoint(false)
    }

    /// Syncs everything, writes a checkpoint, and stops the threads. Every other handle refuses from here on. The
    /// directory can be opened again once the last of them, and the last borrowed payload, is dropped.
    ///
    /// # Errors
    /// [`Error::Closed`] if it is closed already, [`Error::Forked`] in a child; [`Error::InDoubt`] or [`Error::Poisoned`] if a sync failed, and
    /// [`Error::Full`] if the checkpoint found no room: then the next open recovers, and nothing is lost.
    pub fn close(self) -> Result<CloseReport> {
        if self.core().is_forked() {
            return Err(Error::Forked);
        }
        if self.core().closed.swap(true, Ordering::SeqCst) {
            return Err(Error::Closed);
        }
        threads::stop(self.core());
        let in_flight = self.core().engine.in_flight();
        self.core().sync_all()?;
        let now = clock::now();
        self.core().engine.mark_idle(now.wall)?;
        self.core().checkpoint(true)?;
        self.core().engine.recycle();
        let held = self.core().engine.held().len();
        Ok(CloseReport { in_flight, held })
    }
}
