//! The engine: coordinates logs, groups, journal and checkpoints. No threads, no clocks, no waiting.
//!
//! Every step is a call with the time passed in; what can't be done now says so ([`Attempt::NotReady`]) and
//! the caller decides whether to wait. Callable from many threads at once: the locks here are held for
//! nanoseconds on the hot path, and for the length of a sync only in [`Engine::commit`] and
//! [`Engine::checkpoint`], which wait for nobody but themselves.
//!
//! # Locks, in the order they are taken
//!
//! checkpoint → dedup ids → groups → deciding → who joins the bounds → one group, or several with their ids ascending →
//! what is paused, what waits, what groups to come find settled → a log's commit lock → a log's claim lock → a log's lists → pool, blocks, damage, undecided,
//! the places of the scratch file. A
//! settle or a reserve changes its group *and* claims its journal entry under the group's lock; so whoever reads the
//! journal's head first and locks the groups after has every entry below the head in the groups' state. That is what a
//! checkpoint does.
//!
//! A transaction holds *deciding*, shared, while its extents are claimed and not published: whoever takes it exclusively,
//! for an instant, finds every transaction that began before whole, and noted in *undecided*.
//!
//! Absent: threads, clocks, randomness (the storage's is passed through), system calls except through
//! [`crate::storage::Storage`].

pub(crate) mod append;
pub(crate) mod arrivals;
pub(crate) mod bounds;
pub(crate) mod checkpoint;
pub(crate) mod commit;
pub(crate) mod damage;
pub(crate) mod dedup;
pub(crate) mod deliver;
pub(crate) mod evacuate;
pub(crate) mod groups;
pub(crate) mod hand;
pub(crate) mod inspect;
pub(crate) mod lookup;
pub(crate) mod pause;
pub(crate) mod pins;
pub(crate) mod prepare;
pub(crate) mod receipt;
pub(crate) mod reclaim;
pub(crate) mod recovery;
mod redrive;
mod removal;
pub(crate) mod retention;
pub(crate) mod scratch;
pub(crate) mod settings;
pub(crate) mod settle;
pub(crate) mod snapshot;
mod space;
pub(crate) mod stats;
pub(crate) mod task;
pub(crate) mod times;
pub(crate) mod transaction;
pub(crate) mod unsettled;
pub(crate) mod workers;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::delivery::GroupState;
#[cfg(any(test, feature = "sim"))]
use crate::delivery::far::FarRules;
use crate::delivery::loans::Loans;
use crate::error::Error;
use crate::format::meta::{ListedLife, StoredOptions};
use crate::log::{Lanes, Log, Pool, Segment, Undecided};
use crate::storage::Storage;
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::sync::{Line, Mutex, OnceLock, RwLock, WaitWord};
use crate::types::{LogId, Now, QueueId, Seq};

use arrivals::Arrivals;
use bounds::Bounds;
use checkpoint::Checkpoints;
use damage::DamageList;
use dedup::Dedup;
use evacuate::Evacuation;
use groups::GroupCell;
use pause::Pauses;
use recovery::lives::Strays;
use scratch::ScratchFile;
use settings::Settings;
use times::TimeCounts;

/// An open queue without threads.
pub(crate) struct Engine {
    storage: Arc<dyn Storage>,
    queue: QueueId,
    /// Number of this open: durable before anything is served.
    epoch: u64,
    settings: Settings,
    stored: StoredOptions,
    lanes: Lanes,
    /// Highest base of lanes that have no retained life, so that sequences go on increasing.
    last_bases: BTreeMap<u16, u64>,
    journal: Arc<Log>,
    groups: RwLock<BTreeMap<u32, Arc<GroupCell>>>,
    /// What groups that are made later find settled: what was cancelled, as long as its life is there.
    to_come: Mutex<GroupState>,
    /// The number of the next group, which none ever had. Changed with the list of groups held for writing.
    next_group: AtomicU32,
    pauses: Pauses,
    dedup: Dedup,
    /// `None` where no bound on what all groups have on loan is set.
    loans: Option<Arc<Loans>>,
    /// `None` where no bound on what waits is set.
    bounds: Option<Bounds>,
    /// Held by a transaction, shared, from its first claim to its last publish.
    deciding: RwLock<()>,
    undecided: Arc<Undecided>,
    /// Ready segments for lanes, and those set aside for the journal: acks must not starve on a full disk.
    pool: Mutex<Pool>,
    journal_pool: Mutex<Pool>,
    /// Sequences and fences: the next block or range begins here. No block reaches above the ceiling that is durable.
    blocks: Mutex<Blocks>,
    /// Every life that this open attaches begins here or above.
    first_base: Seq,
    /// Size of a segment that an append waits for and that its lane would not get by itself; 0 is none.
    large_wanted: AtomicU64,
    /// A checkpoint is to give back a segment that a lane wants next.
    recycling_wanted: AtomicBool,
    /// Lives that left their log and whose bytes somebody still borrows.
    retired: Mutex<Vec<Arc<Segment>>>,
    /// What was moved, and waits for checkpoints.
    pub(crate) evacuation: Evacuation,
    /// Files that the open found to be no life of any log, not removed yet.
    strays: Mutex<Strays>,
    /// For what of the groups need not be in memory.
    scratch: Arc<ScratchFile>,
    /// Lives that this open could not read: every checkpoint goes on listing them.
    unread: Vec<ListedLife>,
    next_file: AtomicU32,
    checkpoints: Mutex<Checkpoints>,
    poison: OnceLock<Arc<Error>>,
    damage: Mutex<DamageList>,
    counts: Counts,
    /// For what it measures of itself alone.
    nanos: fn() -> u64,
    /// Some group or log changed since the last checkpoint.
    changed: Line<AtomicBool>,
    /// Woken when a task may have become deliverable.
    pub(crate) arrivals: Arrivals,
    /// Woken when a bound on what waits has room again.
    pub(crate) room: WaitWord,
    /// Woken when a segment was taken, so that the next one is made ready.
    pub(crate) housework: WaitWord,
}

/// The queue-wide counter that hands out blocks of sequences.
struct Blocks {
    next: u64,
    ceiling: u64,
}

/// What happened so far in this open.
#[derive(Default)]
pub(crate) struct Counts {
    pub stalls: AtomicU64,
    pub checkpoints: AtomicU64,
    pub commits: AtomicU64,
    pub recycled: AtomicU64,
    pub removed: AtomicU64,
    /// Journal bytes at the last checkpoint, as a log position.
    pub journal_at_checkpoint: AtomicU64,
    /// Durable bytes of all lanes at the last checkpoint, likewise.
    pub lanes_at_checkpoint: AtomicU64,
    /// Boot time of the last checkpoint, in milliseconds.
    pub checkpoint_ms: AtomicU64,
    /// Bytes of its file. Apart from the file, so that nobody who looks waits for a snapshot.
    pub checkpoint_bytes: AtomicU64,
    /// How long checkpoints held locks.
    holds: TimeCounts,
    /// How long commits took.
    commit_times: TimeCounts,
}

impl Counts {
    /// A checkpoint of these log positions is durable.
    fn note_checkpoint(&self, journal: u64, lanes: u64, now: Now) {
        self.journal_at_checkpoint.store(journal, Ordering::Relaxed);
        self.lanes_at_checkpoint.store(lanes, Ordering::Relaxed);
        self.checkpoint_ms.store(now.boot_ms, Ordering::Relaxed);
    }
}

/// The outcome of a step that needs a segment.
pub(crate) enum Attempt<T> {
    Done(T),
    /// No segment is ready: let [`Engine::prepare`] run, then try again.
    NotReady,
}

impl Engine {
    /// The engine with every commit padded to a physical block, or not.
    pub(crate) fn padding_commits(mut self, pad: bool) -> Self {
        self.settings.pad_commits = pad;
        self
    }

    /// The engine with a bound on what may wait for its sync.
    pub(crate) fn holding_back(mut self, unsynced_max: Option<u64>) -> Self {
        self.settings.unsynced_max = unsynced_max.unwrap_or(u64::MAX);
        self
    }

    /// The engine with other bounds on what is far.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn putting_far(mut self, far: FarRules) -> Self {
        self.settings.rules.far = far;
        self
    }

    pub(crate) fn queue(&self) -> QueueId {
        self.queue
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    pub(crate) fn journal(&self) -> &Arc<Log> {
        &self.journal
    }

    /// A lane's log, if the lane was used, or the journal.
    pub(crate) fn log_of(&self, id: LogId) -> Option<&Arc<Log>> {
        id.lane().map_or(Some(&self.journal), |lane| self.lanes.log(lane))
    }

    /// Every lane's that was used, in order, and the journal.
    pub(crate) fn logs(&self) -> impl Iterator<Item = &Log> {
        self.lanes.all().map(|(_, log)| log).chain([&self.journal]).map(AsRef::as_ref)
    }

    pub(crate) fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }
}
