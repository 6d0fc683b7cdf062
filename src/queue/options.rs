//! How a queue is opened. Each option is checked once; after that only valid values exist.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::delivery::Priority;
use crate::delivery::scheduler::WEIGHT_MAX;
use crate::engine::settings::{SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, room, store_priority};
use crate::error::{Error, Result};
use crate::format::meta::{StoredOptions, option};
use crate::storage::SyncPath;
use crate::types::{Backoff, LANES_MAX, LaneId, millis};

use super::{Bound, Queue};

/// What to do when the queue turns out damaged at open. A log's torn end after a crash is not damage.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnDamage {
    /// Report it ([`Queue::damage`]) and serve the rest.
    #[default]
    Serve,
    /// Refuse with [`Error::Damaged`], before anything is written.
    Fail,
}

/// What to do on a file system that can't promise `Power` durability: memory, network, overlay.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnVolatile {
    /// Open, and say so in [`Queue::warnings`].
    #[default]
    Warn,
    /// Refuse every operation at `Power` with [`Error::NotDurable`].
    Refuse,
}

/// Bounds of a group's dead letters; `None` is without bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DeadLettersMax {
    /// How many.
    pub tasks: Option<u64>,
    /// Bytes of their payloads together.
    pub bytes: Option<u64>,
    /// How long they are kept.
    pub age: Option<Duration>,
}

/// Options of a queue. What is not given keeps its stored value, or the default for a new queue.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("queue");
/// use std::time::Duration;
///
/// let queue = lanelog::Options::new()
///     .lanes(3)
///     .lease(Duration::from_secs(60))
///     .max_attempts(5)
///     .open(&path)?;
/// # queue.close()?;
/// # Ok::<(), lanelog::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Options {
    lanes: Option<usize>,
    segment_bytes: Option<u64>,
    task_bytes_max: Option<u64>,
    lease: Option<Duration>,
    max_attempts: Option<u32>,
    backoff: Option<Backoff>,
    expired_to_dead_letters: Option<bool>,
    dead_letters_max: Option<DeadLettersMax>,
    priority: Option<Priority>,
    queue_bound: Option<Bound>,
    lane_bounds: BTreeMap<LaneId, Bound>,
    in_flight_max: Option<u64>,
    queue_in_flight_max: Option<u64>,
    lanes_in_flight_max: BTreeMap<LaneId, u64>,
    sticky: Option<bool>,
    dedup_window: Option<Duration>,
    dedup_ids_max: Option<u64>,
    evacuation_percent: Option<u32>,
    sync_interval: Option<Duration>,
    recovery_budget: Option<Duration>,
    pub(super) unsynced_bytes_max: Option<u64>,
    checkpoint_bytes: Option<u64>,
    checkpoint_interval: Option<Duration>,
    pub(super) append_wait: Option<Duration>,
    pub(super) spin: Option<Duration>,
    pub(super) pad_commits: bool,
    pub(super) on_damage: OnDamage,
    pub(super) on_volatile: OnVolatile,
    pub(super) sigbus_guard: bool,
    pub(super) sync_path: SyncPath,
}

impl Options {
    /// Nothing given: every option as stored, or its default.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of lanes, 1 to 256; default 1. Lanes that are not used cost nothing. Opening with fewer lanes than
    /// hold tasks is refused.
    #[must_use]
    pub fn lanes(mut self, count: usize) -> Self {
        self.lanes = Some(count);
        self
    }

    /// Bytes of a segment file, 4 KiB to 1 GiB; default 64 MiB. A lane's first segments are 1 MiB and double up to
    /// this. Larger ones roll less often; smaller ones give space back sooner. Applies to new segments.
    #[must_use]
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = Some(bytes);
        self
    }

    /// The most bytes that one task may take as a record (payload, headers and 32 bytes); default 16 MiB, or what
    /// fits a segment if that is less.
    #[must_use]
    pub fn task_bytes_max(mut self, bytes: u64) -> Self {
        self.task_bytes_max = Some(bytes);
        self
    }

    /// How long a consumer has for a task before it goes to the next one; at least 1 ms, default 30 s. Longer
    /// leases mean that a dead consumer is noticed later.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = Some(lease);
        self
    }

    /// Attempts after which a task becomes a dead letter; 0, the default, is without limit.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = Some(attempts);
        self
    }

    /// Delay after a failed attempt, unless the task has a backoff of its own ([`Task::backoff`](crate::Task::backoff)).
    /// Default: doubling from 1 s to 5 min.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = Some(backoff);
        self
    }

    /// Whether tasks that expired ([`Task::ttl`](crate::Task::ttl)) become dead letters; default: they are counted and
    /// gone.
    #[must_use]
    pub fn expired_to_dead_letters(mut self, keep: bool) -> Self {
        self.expired_to_dead_letters = Some(keep);
        self
    }

    /// What each group keeps of dead letters at most; default: all of them. Beyond that the oldest go, for good, and are
    /// counted in [`GroupStats::dead_dropped`](crate::GroupStats::dead_dropped). Parked tasks don't count and don't go.
    #[must_use]
    pub fn dead_letters_max(mut self, max: DeadLettersMax) -> Self {
        self.dead_letters_max = Some(max);
        self
    }

    /// How the next lane is chosen; default [`Priority::Strict`]. Weights are at most as many as there are lanes, and 1 to
    /// 1000; a longest wait is 1 ms to 10 years. [`Priority`] says what each policy guarantees.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = Some(priority);
        self
    }

    /// How much may wait in the whole queue; default: any amount. [`Bound`] says what counts. Where this or a lane's bound
    /// is set, an open reads the headers of all that waits.
    #[must_use]
    pub fn queue_bound(mut self, bound: Bound) -> Self {
        self.queue_bound = Some(bound);
        self
    }

    /// How much may wait in a lane; default: any amount.
    #[must_use]
    pub fn lane_bound(mut self, lane: LaneId, bound: Bound) -> Self {
        self.lane_bounds.insert(lane, bound);
        self
    }

    /// The most tasks that are on loan at once in each group; 0, the default, is any number. A reserve hands out no more
    /// than that leaves, and waits for what is settled or runs out.
    #[must_use]
    pub fn in_flight_max(mut self, tasks: u64) -> Self {
        self.in_flight_max = Some(tasks);
        self
    }

    /// The most tasks that are on loan at once in all groups together, which take from it as they come; 0, the default, is any
    /// number. Holds beside [`Options::in_flight_max`], which keeps one group from taking all of it.
    #[must_use]
    pub fn queue_in_flight_max(mut self, tasks: u64) -> Self {
        self.queue_in_flight_max = Some(tasks);
        self
    }

    /// The most tasks of this lane that are on loan at once in each group; 0, the default, is any number. Holds beside
    /// [`Options::in_flight_max`]; other lanes are handed out meanwhile, so that slow work of one lane does not take all
    /// consumers.
    #[must_use]
    pub fn lane_in_flight_max(mut self, lane: LaneId, tasks: u64) -> Self {
        self.lanes_in_flight_max.insert(lane, tasks);
        self
    }

    /// Sticky mode, off by default: the tasks of a key go to one [`Worker`](crate::Worker) for as long as that one lives, so
    /// that it may keep what it knows of the key. Keys are shared out among a group's live workers, and when one joins or
    /// leaves only its share moves, once the tasks of it that are on loan are settled or their leases are over. A consumer
    /// that is no worker gets tasks without a key alone; and if there is no worker, tasks with a key wait.
    #[must_use]
    pub fn sticky(mut self, on: bool) -> Self {
        self.sticky = Some(on);
        self
    }

    /// How long a dedup id counts ([`Task::dedup_id`](crate::Task::dedup_id)) unless its task says otherwise; at least 1 ms,
    /// default 5 minutes. Applies to later enqueues.
    #[must_use]
    pub fn dedup_window(mut self, window: Duration) -> Self {
        self.dedup_window = Some(window);
        self
    }

    /// The most dedup ids that count at once; at least 1, default 1,000,000. One more is refused
    /// ([`Error::DedupFull`]): none is forgotten before its time. The newest 65,536 take about 64 bytes of memory each, all
    /// others about 2, and 35 bytes in the checkpoint file, which may hold them twice.
    #[must_use]
    pub fn dedup_ids_max(mut self, ids: u64) -> Self {
        self.dedup_ids_max = Some(ids);
        self
    }

    /// How many bytes of tasks that still live may be moved out of segments of which less than half lives, for each 100 that
    /// are appended or acked; default 100. More are moved where the disk has no room. 0: nothing is ever moved, and one task
    /// keeps its whole segment on disk.
    #[must_use]
    pub fn evacuation_percent(mut self, percent: u32) -> Self {
        self.evacuation_percent = Some(percent);
        self
    }

    /// How long `Process` data waits for its sync at most, 1 ms to 1 h; default 100 ms. Tasks that every group has settled by
    /// then need none: a lane whose tasks are acked as fast as they come is synced when it comes to rest.
    #[must_use]
    pub fn sync_interval(mut self, interval: Duration) -> Self {
        self.sync_interval = Some(interval);
        self
    }

    /// How long an open may take after the process was killed under full load; 1 ms to 1 h, default 200 ms. It follows from
    /// what was written since the last checkpoint, and since the last sync, which is written once more. So this is what
    /// [`Options::checkpoint_bytes`] and [`Options::sync_interval`] follow from where they are not set: 40 KiB of journal for
    /// each millisecond, and half the time, but never more than 100 ms. A shorter one costs more writing. It is a goal for
    /// the disk at hand, not a promise: a slow one takes longer for as much, and producers that write faster than the disk
    /// leave the more to be written again, unless [`Options::unsynced_bytes_max`] holds them back.
    #[must_use]
    pub fn recovery_budget(mut self, budget: Duration) -> Self {
        self.recovery_budget = Some(budget);
        self
    }

    /// How many bytes of `Process` data may wait for their sync; default any number. Producers that are faster than the disk
    /// wait for it then, as for a segment: at most [`Options::append_wait`], then [`Error::Full`]. It is looked at when
    /// a further segment is needed, so up to a segment's bytes more may wait. This bounds what a power loss takes of `Process`
    /// data, and how long an open takes after the process was killed under full load. Not stored.
    #[must_use]
    pub fn unsynced_bytes_max(mut self, bytes: u64) -> Self {
        self.unsynced_bytes_max = Some(bytes);
        self
    }

    /// Journal bytes after which a checkpoint is due, or twice as many of tasks; at least 4 KiB, default 8.2 MB. Smaller
    /// ones make a restart after a crash shorter and cost more writing. See [`Options::recovery_budget`].
    #[must_use]
    pub fn checkpoint_bytes(mut self, bytes: u64) -> Self {
        self.checkpoint_bytes = Some(bytes);
        self
    }

    /// Time after which a checkpoint is due if anything changed; at least 10 ms, default 10 s.
    #[must_use]
    pub fn checkpoint_interval(mut self, interval: Duration) -> Self {
        self.checkpoint_interval = Some(interval);
        self
    }

    /// How long an append waits for a segment to be made ready before [`Error::Full`], and for room under a bound before
    /// [`Error::OverBound`]; default 5 s. Not stored.
    #[must_use]
    pub fn append_wait(mut self, wait: Duration) -> Self {
        self.append_wait = Some(wait);
        self
    }

    /// How long a waiting consumer looks for tasks before it sleeps; default 20 µs. Spinning takes a core for that long, and
    /// saves the 15 µs of a wake-up; so at any moment fewer consumers spin than there are cores. Not stored.
    #[must_use]
    pub fn spin(mut self, spin: Duration) -> Self {
        self.spin = Some(spin);
        self
    }

    /// Ends every commit at a physical block of 4 KiB; default off. Costs up to 4 KiB of log for each commit, and is for
    /// devices that may harm the rest of a block while they write a part of it: everything else here assumes only that
    /// writing one sector of 512 bytes is atomic. Not stored.
    #[must_use]
    pub fn pad_commits(mut self, pad: bool) -> Self {
        self.pad_commits = pad;
        self
    }

    /// How several files are synced at once: by [`Queue::sync`], by transactions over several lanes at
    /// [`Durability::Power`](crate::Durability::Power), and every [`Options::sync_interval`]. By default whatever turns out
    /// faster here; [`Stats::sync_choice`](crate::Stats::sync_choice) says which and why. A sync of one file is the same
    /// either way. Not stored.
    #[must_use]
    pub fn sync_path(mut self, path: SyncPath) -> Self {
        self.sync_path = path;
        self
    }

    /// What to do with damage found at open. Not stored.
    #[must_use]
    pub fn on_damage(mut self, what: OnDamage) -> Self {
        self.on_damage = what;
        self
    }

    /// What to do on a file system that forgets. Not stored.
    #[must_use]
    pub fn on_volatile(mut self, what: OnVolatile) -> Self {
        self.on_volatile = what;
        self
    }

    /// Whether an I/O error under a mapped segment fails that segment instead of ending the process; off by default. Not
    /// stored.
    ///
    /// Segments are memory-mapped. They are allocated and faulted in before they are used, and cold ones are checked just
    /// before they are read, so that most failures of a device come out as errors in any case. What is left (a page
    /// that was evicted and can't be read back, a file that somebody cut) raises SIGBUS, whose default is to end the
    /// process. With the guard a handler marks the segment as failed and puts a page of zeros there. From then on
    ///
    /// - an enqueue or a settle that wrote into it is in doubt ([`Error::InDoubt`], at `Process` too), a commit of it fails,
    ///   and the queue is poisoned: reopen it, and recovery finds what the disk still has;
    /// - nothing of it is handed out any more; it is reported by [`Queue::damage`], and its tasks wait for a reopen;
    /// - a delivery of it that is out can't be settled ([`Error::Io`] with the segment's file): its payload may have
    ///   turned to zeros while it was being read. The task comes again after a reopen.
    ///
    /// The handler is the process's: the first open that asks for it installs it, and it stays for the life of the
    /// process. It knows the ranges of queues that were opened with the guard; any other SIGBUS goes to the handler that
    /// was there before, or to the default. Install your own handler before, or chain to this one.
    ///
    /// What it can't do: help a thread that blocks SIGBUS, or a system call that is given a payload's bytes (that
    /// fails with EFAULT); or bring the page back.
    #[must_use]
    pub fn sigbus_guard(mut self, on: bool) -> Self {
        self.sigbus_guard = on;
        self
    }

    /// Opens the queue in `path`, making directory and queue if they are absent, and recovers whatever a crash
    /// left.
    ///
    /// # Errors
    /// [`Error::Locked`] if another process has it, [`Error::NotAQueue`], [`Error::Version`], [`Error::InvalidOption`],
    /// [`Error::Damaged`] with [`OnDamage::Fail`], [`Error::Io`] and [`Error::Full`] where the disk refuses.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Queue> {
        Queue::open_with(path.as_ref(), self)
    }

    /// These options laid over the stored ones, checked.
    pub(super) fn resolve(&self, stored: Option<&StoredOptions>) -> Result<StoredOptions> {
        let base = stored.cloned().unwrap_or_else(defaults);
        let lanes = self.lanes.unwrap_or(usize::from(base.lanes));
        let segment_bytes = self.segment_bytes.unwrap_or(base.segment_bytes) & !7;
        within("segment_bytes", segment_bytes, SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX)?;
        within("lanes", lanes as u64, 1, LANES_MAX as u64)?;
        let fits = room(segment_bytes);
        let task_bytes_max = match self.task_bytes_max {
            Some(bytes) => within("task_bytes_max", bytes, 32, fits)?,
            None => base.task_bytes_max,
        };
        let backoff = self.backoff.unwrap_or(base.backoff);
        within("backoff (first)", backoff.first_ms, 0, backoff.max_ms)?;
        let mut further = base.further;
        let mut set = |tag: u16, value: Option<u64>| further.extend(value.map(|value| (tag, value)));
        set(option::IN_FLIGHT_MAX, self.in_flight_max);
        set(option::QUEUE_IN_FLIGHT_MAX, self.queue_in_flight_max);
        set(option::QUEUE_TASKS_MAX, self.queue_bound.map(|bound| bound.tasks_max));
        set(option::QUEUE_BYTES_MAX, self.queue_bound.map(|bound| bound.bytes_max));
        for (lane, bound) in &self.lane_bounds {
            within("lane_bound (lane)", u64::from(lane.0), 0, lanes as u64 - 1)?;
            set(option::LANE_TASKS_MAX + u16::from(lane.0), Some(bound.tasks_max));
            set(option::LANE_BYTES_MAX + u16::from(lane.0), Some(bound.bytes_max));
        }
        for (lane, tasks) in &self.lanes_in_flight_max {
            within("lane_in_flight_max (lane)", u64::from(lane.0), 0, lanes as u64 - 1)?;
            set(option::LANE_IN_FLIGHT_MAX + u16::from(lane.0), Some(*tasks));
        }
        let window_ms = self.dedup_window.map(millis);
        set(option::DEDUP_WINDOW_MS, window_ms.map(|ms| within("dedup_window (ms)", ms, 1, u64::MAX)).transpose()?);
        let ids_max = self.dedup_ids_max;
        set(option::DEDUP_IDS_MAX, ids_max.map(|ids| within("dedup_ids_max", ids, 1, u64::MAX)).transpose()?);
        set(option::EVACUATION_PERCENT, self.evacuation_percent.map(u64::from));
        set(option::STICKY, self.sticky.map(u64::from));
        set(option::EXPIRED_ARE_DEAD, self.expired_to_dead_letters.map(u64::from));
        if let Some(DeadLettersMax { tasks, bytes, age }) = self.dead_letters_max {
            set(option::DEAD_TASKS_MAX, Some(tasks.unwrap_or(0)));
            set(option::DEAD_BYTES_MAX, Some(bytes.unwrap_or(0)));
            set(option::DEAD_AGE_MAX_MS, Some(age.map_or(0, |age| millis(age).max(1))));
        }
        if let Some(priority) = &self.priority {
            check_priority(priority, lanes)?;
            store_priority(priority, &mut further);
        }
        let lease_ms = self.lease.map_or(base.lease_ms, millis);
        let budget_ms = self.recovery_budget.map(|budget| within("recovery_budget (ms)", millis(budget), 1, 3_600_000));
        let budget_ms = budget_ms.transpose()?;
        let sync_of = |budget_ms: u64| (budget_ms / 2).clamp(1, SYNC_INTERVAL_MS);
        let sync_interval_ms = self.sync_interval.map(millis).or(budget_ms.map(sync_of));
        let sync_interval_ms = sync_interval_ms.unwrap_or(base.sync_interval_ms);
        let checkpoint_interval_ms = self.checkpoint_interval.map_or(base.checkpoint_interval_ms, millis);
        let bytes_of = |budget_ms: u64| budget_ms * REPLAYED_BYTES_PER_MS;
        let checkpoint_bytes = self.checkpoint_bytes.or(budget_ms.map(bytes_of)).unwrap_or(base.checkpoint_bytes);
        Ok(StoredOptions {
            lanes: u16::try_from(lanes).unwrap_or(u16::MAX),
            segment_bytes,
            task_bytes_max,
            max_attempts: self.max_attempts.unwrap_or(base.max_attempts),
            lease_ms: within("lease (ms)", lease_ms, 1, u64::MAX)?,
            backoff,
            checkpoint_bytes: within("checkpoint_bytes", checkpoint_bytes, 4 << 10, u64::MAX)?,
            checkpoint_interval_ms: within("checkpoint_interval (ms)", checkpoint_interval_ms, 10, u64::MAX)?,
            sync_interval_ms: within("sync_interval (ms)", sync_interval_ms, 1, 3_600_000)?,
            further,
        })
    }
}

fn check_priority(priority: &Priority, lanes: usize) -> Result<()> {
    match priority {
        Priority::Strict => Ok(()),
        Priority::Weighted(weights) => {
            within("priority (weights)", weights.len() as u64, 0, lanes as u64)?;
            let mut weights = weights.iter().map(|weight| u64::from(*weight));
            weights.try_for_each(|weight| within("priority (weight)", weight, 1, u64::from(WEIGHT_MAX)).map(drop))
        }
        Priority::Aging { longest_wait } => {
            within("priority (longest wait, ms)", millis(*longest_wait), 1, TEN_YEARS_MS).map(drop)
        }
    }
}

const RECOVERY_BUDGET_MS: u64 = 200;
const SYNC_INTERVAL_MS: u64 = 100;
/// Journal bytes that an open is reckoned to replay in a millisecond, beside twice as many of tasks that it writes again.
const REPLAYED_BYTES_PER_MS: u64 = 40 << 10;
const TEN_YEARS_MS: u64 = 10 * 366 * 24 * 3_600_000;

fn defaults() -> StoredOptions {
    StoredOptions {
        lanes: 1,
        max_attempts: 0,
        segment_bytes: 64 << 20,
        task_bytes_max: 16 << 20,
        lease_ms: 30_000,
        backoff: Backoff::default(),
        checkpoint_bytes: RECOVERY_BUDGET_MS * REPLAYED_BYTES_PER_MS,
        checkpoint_interval_ms: 10_000,
        sync_interval_ms: SYNC_INTERVAL_MS,
        further: BTreeMap::new(),
    }
}

fn within(option: &'static str, value: u64, least: u64, most: u64) -> Result<u64> {
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    let most = if most == u64::MAX { String::new() } else { format!(" and at most {most}") };
    Err(Error::InvalidOption { option, why: format!("{value} is out of bounds: at least {least}{most}") })
}
