//! The one error type. A variant's doc says what the caller can do; `Display` says what happened and where.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::types::{LaneId, Seq, TaskId};

/// Result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call did not do what was asked.
///
/// *Refused* means nothing was written and the call can be made again as it is or corrected. *In doubt*
/// ([`Error::InDoubt`]) means a sync failed or the process lost the answer: the operation may turn out done,
/// wholly, or not at all, after the next open.
#[non_exhaustive]
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Refused. Split the payload, store it elsewhere, or raise `task_bytes_max` (below a segment's size).
    #[error(
        "the task takes {bytes} bytes as a record, more than the queue's maximum of {max}; store large payloads elsewhere or raise task_bytes_max"
    )]
    TaskTooLarge {
        /// Bytes of the record: header, headers and payload.
        bytes: u64,
        /// The queue's maximum for one record.
        max: u64,
    },
    /// Refused. A batch is one atomic unit in one segment: make it smaller or the segments larger.
    #[error(
        "the batch takes {bytes} bytes, more than the {max} that fit one segment; enqueue it in parts or raise segment_bytes"
    )]
    BatchTooLarge {
        /// Bytes of the whole batch on disk.
        bytes: u64,
        /// The most one segment can hold.
        max: u64,
    },
    /// Refused. What a transaction puts into one lane, and what it says in the journal, lies in one segment each: do less
    /// in one transaction, or make the segments larger.
    #[error(
        "the transaction takes {bytes} bytes in one log, more than the {max} that it may; do less in one or raise segment_bytes"
    )]
    TransactionTooLarge {
        /// Bytes that it takes in the log where it takes too many.
        bytes: u64,
        /// The most that it may take there.
        max: u64,
    },
    /// Refused: headers of a task are bounded.
    #[error("the task's headers take {bytes} bytes, more than the maximum of {max}")]
    HeadersTooLarge {
        /// Encoded bytes of all headers.
        bytes: u64,
        /// The bound.
        max: u64,
    },
    /// Refused. Use a lane below the queue's lane count, or reopen the queue with more lanes.
    #[error("there is no lane {lane}: the queue has {lanes} lanes, numbered from 0")]
    NoSuchLane {
        /// The lane asked for.
        lane: LaneId,
        /// How many lanes the queue has.
        lanes: usize,
    },
    /// Refused. Create the group first, or check its name.
    #[error("there is no group {name:?}; create it with create_group")]
    NoSuchGroup {
        /// The name asked for.
        name: String,
    },
    /// Refused: the group was removed since ([`Queue::remove_group`](crate::Queue::remove_group)), and everything that it had on
    /// loan is nobody's any more. A group that was made under its name since is another one: ask for a new consumer of that.
    #[error("the group {name:?} was removed; what it had on loan is over")]
    GroupRemoved {
        /// The name that it had.
        name: String,
    },
    /// Refused. The group exists already.
    #[error("the group {name:?} exists already")]
    GroupExists {
        /// The name asked for.
        name: String,
    },
    /// Refused. The option's message says the bounds.
    #[error("option {option}: {why}")]
    InvalidOption {
        /// The option's name.
        option: &'static str,
        /// What is wrong and what would be right.
        why: String,
    },
    /// Refused: not a task id in text form.
    #[error("{text:?} is not a task id; ids look like 00c0ffee00c0ffee-02-0000000000000007")]
    BadId {
        /// What was given, cut to 64 characters.
        text: String,
    },
    /// Refused: not a receipt of this queue.
    #[error("this is not a receipt of this queue: {why}")]
    BadReceipt {
        /// What does not fit.
        why: &'static str,
    },
    /// Refused: no segment could be made ready in time. Ack and drain, free disk space, then try again.
    #[error("{log} is full: no segment became ready within {waited_ms} ms{}", cause.as_ref().map(|c| format!(" ({c})")).unwrap_or_default())]
    Full {
        /// Which log could not grow.
        log: String,
        /// How long the call waited.
        waited_ms: u64,
        /// What the file system said, if it said anything.
        cause: Option<Arc<io::Error>>,
    },
    /// Refused: more would wait than an option allows ([`Options::queue_bound`](crate::Options::queue_bound),
    /// [`Options::lane_bound`](crate::Options::lane_bound)). Let consumers ack what waits, then try again; if `asked` alone
    /// exceeds `max`, make it smaller or raise the bound.
    #[error(
        "{} is full: {waiting} {what} wait, {asked} more would exceed its bound of {max}, and no room came within {waited_ms} ms; ack what waits, or raise {}",
        lane.map_or_else(|| "the queue".to_owned(), |lane| format!("lane {lane}")),
        if lane.is_some() { "Options::lane_bound" } else { "Options::queue_bound" }
    )]
    OverBound {
        /// The lane whose bound it is; `None` is the whole queue's.
        lane: Option<LaneId>,
        /// What is bounded: `"tasks"`, or their payloads' `"bytes"`.
        what: &'static str,
        /// The bound.
        max: u64,
        /// What waits.
        waiting: u64,
        /// What the call asked for, a batch as a whole.
        asked: u64,
        /// How long the call waited for room.
        waited_ms: u64,
    },
    /// Refused: as many dedup ids count as may ([`Options::dedup_ids_max`](crate::Options::dedup_ids_max)), and none of them
    /// is forgotten before its time. Enqueue without one, or wait until windows are over or tasks are settled; or give ids
    /// less time, or raise the bound.
    #[error(
        "{ids} dedup ids are remembered, and {max} is the most: try again when some are over, or raise Options::dedup_ids_max"
    )]
    DedupFull {
        /// How many count.
        ids: u64,
        /// The bound.
        max: u64,
    },
    /// Refused: the lease ran out, was settled before, its group was removed, or it belongs to an earlier open. The task is or will be
    /// someone else's; drop the result of the work or make it idempotent.
    #[error(
        "the lease on task {task} is lost: it ran out, was settled already, its group was removed, or the queue was reopened since"
    )]
    LeaseLost {
        /// The task that was on loan.
        task: TaskId,
    },
    /// Refused: the worker missed too many heartbeats, or another one was registered under its name. Its leases are over
    /// and its tasks are or will be others'. Drop what it was doing, and register again.
    #[error("worker {name} is lost: it missed its heartbeats or another took its name; register again")]
    WorkerLost {
        /// The worker's name.
        name: String,
    },
    /// The operation may take effect, wholly, or never: reopen the queue and look, or make it again if doing
    /// it twice is harmless.
    #[error("in doubt{}: {cause}", task.map(|t| format!(", task {t}")).unwrap_or_default())]
    InDoubt {
        /// The task that is in doubt, when it is one.
        task: Option<TaskId>,
        /// The error that left it so.
        cause: Arc<Error>,
    },
    /// Refused: an earlier sync failed, so nothing more is accepted or acknowledged. Stop, mend the disk,
    /// reopen; reading goes on.
    #[error("the queue is poisoned since an earlier failure and must be reopened: {cause}")]
    Poisoned {
        /// The failure that poisoned it.
        cause: Arc<Error>,
    },
    /// The operating system refused a call. The message names file and call.
    #[error("{file}: {call} failed: {source}")]
    Io {
        /// The file, relative to the queue's directory.
        file: String,
        /// What was being done.
        call: &'static str,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// Another process has the queue open. Stop it, or use `inspect`, which needs no lock.
    #[error("{} is in use by {}; stop it, or look without the lock (verify, dump, stats)", path.display(), pid.map_or_else(|| "another process".to_owned(), |p| format!("process {p}")))]
    Locked {
        /// The queue's directory.
        path: PathBuf,
        /// The holder, if it could be read.
        pid: Option<u32>,
    },
    /// The path is not a queue, or something foreign lies in it. Nothing was changed.
    #[error("{} is not a lanelog queue: {why}", path.display())]
    NotAQueue {
        /// The path given.
        path: PathBuf,
        /// What is foreign about it.
        why: String,
    },
    /// Refused: a snapshot can't be made there. Nothing was written; name a directory that is not there yet, or an empty one,
    /// outside of the queue.
    #[error("can't make a snapshot in {}: {why}", path.display())]
    SnapshotTarget {
        /// The path given.
        path: PathBuf,
        /// What stands against it, and what would do.
        why: String,
    },
    /// The file comes from another version of lanelog. Nothing was changed; use that version.
    #[error("{file} has format version {found}, this build knows {supported}; open it with the version that wrote it")]
    Version {
        /// The file, relative to the queue's directory.
        file: String,
        /// What the file says.
        found: u32,
        /// What this build reads.
        supported: u32,
    },
    /// The queue is damaged and was opened with `OnDamage::Fail`. Open with `OnDamage::Serve` to get the rest. Of an enqueue
    /// with a dedup id: where it stands whether the id counts is damaged, so it was refused.
    #[error("the queue is damaged: {first}{}", if *count > 1 { format!(" (and {} more places)", count - 1) } else { String::new() })]
    Damaged {
        /// The first damage found.
        first: Box<Damage>,
        /// How many were found.
        count: usize,
    },
    /// Refused: `Power` durability was asked for on a file system that can't give it.
    #[error(
        "the file system ({kind}) can't promise durability over power loss; use Durability::Process or open with OnVolatile::Warn"
    )]
    NotDurable {
        /// What holds the directory.
        kind: &'static str,
    },
    /// Refused: the queue was closed.
    #[error("the queue is closed")]
    Closed,
    /// Refused: this process is a fork of the one that opened the queue. Open it after the fork.
    #[error("the queue was opened before a fork and can't be used in the child")]
    Forked,
}

impl Error {
    pub(crate) fn io(file: impl Into<String>, call: &'static str, source: io::Error) -> Self {
        Error::Io { file: file.into(), call, source: Arc::new(source) }
    }

    /// What it is when the operation may have been done all the same.
    pub(crate) fn in_doubt(self) -> Self {
        match self {
            Error::InDoubt { .. } => self,
            cause => Error::InDoubt { task: None, cause: Arc::new(cause) },
        }
    }

    /// True if nothing was written and nothing changed.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        !matches!(self, Error::InDoubt { .. } | Error::Io { .. } | Error::Damaged { .. })
    }
}

/// What kind of harm a [`Damage`] reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DamageKind {
    /// Bytes that were durable no longer verify: a flipped bit, a lost or misplaced write.
    Corrupt,
    /// The end of a log that was never acknowledged as durable, cut by recovery.
    Torn,
    /// A file that the queue needs is absent or belongs to another life.
    Missing,
    /// A file could not be read.
    Unreadable,
}

/// One damaged place: what, where, and which tasks it cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// What kind of harm.
    pub kind: DamageKind,
    /// The file, relative to the queue's directory.
    pub file: String,
    /// First damaged byte.
    pub offset: u64,
    /// How many bytes are affected.
    pub bytes: u64,
    /// The lane, if the place belongs to one.
    pub lane: Option<LaneId>,
    /// First and last sequence lost with it, if any task was.
    pub lost: Option<(Seq, Seq)>,
    /// What it means, in words.
    pub what: String,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            DamageKind::Corrupt => "corrupt",
            DamageKind::Torn => "torn",
            DamageKind::Missing => "missing",
            DamageKind::Unreadable => "unreadable",
        };
        write!(f, "{kind}: {} at byte {} ({} bytes)", self.file, self.offset, self.bytes)?;
        if let Some(lane) = self.lane {
            write!(f, ", lane {lane}")?;
        }
        match self.lost {
            Some((first, last)) if first == last => write!(f, ", sequence {first}")?,
            Some((first, last)) => write!(f, ", sequences {first} to {last}")?,
            None => {}
        }
        write!(f, ": {}", self.what)
    }
}
