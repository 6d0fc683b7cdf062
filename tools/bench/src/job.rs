//! One measurement: what is asked of one engine in one round, and what came out. Both go through a child process as JSON.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::engine::{Durability, Need};

/// What is done. The latency of each is said here, for it differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    /// Producers enqueue as fast as they can. Latency: of a call that enqueues.
    Append,
    /// Producers enqueue and consumers take and ack at once, as fast as they can. Latency: of a call that enqueues.
    Flow,
    /// The same over eight lanes.
    Lanes,
    /// The same over one lane of eight.
    IdleLanes,
    /// One task at a time, with pauses in which the consumer goes to sleep. Latency: from the enqueue to the consumer.
    Handoff,
    /// One task at a time, the next when the one before is done. Latency: likewise.
    PingPong,
    /// Tasks at a fixed rate, taken and acked at once. Latency: from when a task was due to the end of its enqueue, so
    /// that a stall counts for every task that it held up.
    OpenLoop,
    /// Enqueues a backlog, which nobody takes meanwhile.
    BacklogBuild,
    /// Takes and acks a backlog.
    BacklogDrain,
    /// Like `Flow`, but every hundredth task is never acked.
    Stragglers,
    /// Opens a store whose process was killed with a backlog in it. Latency: to the first task.
    Reopen,
    /// Of the machine alone: copies and checksums payloads into memory that is mapped and resident.
    CopyCrc,
    /// Of the machine alone: copies memory that no cache holds.
    MemoryCopy,
    /// Of the machine alone: writes to the page cache, 1 MiB at a time.
    PageCacheWrite,
}

impl Workload {
    /// As the command's options and its output have it.
    pub fn name(self) -> &'static str {
        match self {
            Workload::Append => "append",
            Workload::Flow => "flow",
            Workload::Lanes => "lanes",
            Workload::IdleLanes => "idle-lanes",
            Workload::Handoff => "handoff",
            Workload::PingPong => "ping-pong",
            Workload::OpenLoop => "open-loop",
            Workload::BacklogBuild => "backlog-build",
            Workload::BacklogDrain => "backlog-drain",
            Workload::Stragglers => "stragglers",
            Workload::Reopen => "reopen",
            Workload::CopyCrc => "copy-crc",
            Workload::MemoryCopy => "memory-copy",
            Workload::PageCacheWrite => "page-cache-write",
        }
    }
}

/// One measurement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// What is done.
    pub workload: Workload,
    /// By whom.
    pub engine: String,
    /// What each enqueue and ack must have reached.
    pub durability: Durability,
    /// Bytes of each payload.
    pub payload_bytes: usize,
    /// Threads that send.
    pub producers: usize,
    /// Threads that take; 0 where nobody does.
    pub consumers: usize,
    /// Tasks of a call.
    pub batch: usize,
    /// Tasks of a producer that may be accepted and not yet durable; 1: it waits for each call.
    pub outstanding: usize,
    /// How long producers go on.
    pub seconds: f64,
    /// The most payload that they enqueue, in bytes.
    pub bytes_max: u64,
    /// Tasks a second, for [`Workload::OpenLoop`].
    pub rate: f64,
    /// An empty directory.
    pub dir: PathBuf,
}

/// What must be equal for two measurements to be held side by side: workload, durability, bytes, threads that send and
/// that take, tasks of a call, outstanding ones.
pub type Key<'a> = (&'a str, Durability, usize, [usize; 2], usize, usize);

impl Job {
    /// What is measured, whoever does it.
    pub fn key(&self) -> Key<'_> {
        let threads = [self.producers, self.consumers];
        (self.workload.name(), self.durability, self.payload_bytes, threads, self.batch, self.outstanding)
    }

    /// What the engine must be able to.
    pub fn needs(&self) -> Vec<Need> {
        let mut needs = Vec::new();
        let mut add = |is: bool, need| {
            if is {
                needs.push(need)
            }
        };
        add(matches!(self.workload, Workload::Lanes | Workload::IdleLanes), Need::Lanes);
        add(self.workload == Workload::Stragglers, Need::Keep);
        add(self.workload == Workload::Reopen, Need::Reopen);
        add(self.outstanding > 1, Need::Outstanding);
        add(self.producers > 1, Need::Producers);
        add(self.consumers > 1, Need::Consumers);
        needs
    }

    /// The priorities of the store.
    pub fn lanes(&self) -> u16 {
        if matches!(self.workload, Workload::Lanes | Workload::IdleLanes) { 8 } else { 1 }
    }
}

/// What came out of one round.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Tasks that were done: enqueued where nobody takes, else acked.
    pub tasks: u64,
    /// From the first call to the last one's return.
    pub seconds: f64,
    /// Of the latencies: (percentile, nanoseconds), ascending, from p0 to p100. Empty where none were taken.
    pub curve: Vec<(f64, u64)>,
    /// CPU time of all processes that took part, in seconds.
    pub cpu_s: f64,
    /// Page faults of this process, major and minor.
    pub faults: u64,
    /// The most anonymous memory that they had at once, less what the harness had before, in bytes.
    pub peak_anon_bytes: u64,
    /// Tasks that `device_bytes` and `syncs` are for: also those before and behind what was timed.
    pub device_tasks: u64,
    /// Written to the block device until all was on it, in bytes.
    pub device_bytes: u64,
    /// Flushes of the block device's cache.
    pub syncs: u64,
    /// What the store's directory took on disk in the end, in bytes.
    pub disk_bytes: u64,
    /// Every acknowledged task came, once, with its content.
    pub verified: bool,
    /// Why not.
    pub fault: Option<String>,
}

impl Outcome {
    /// The same, with what the audit of its tasks gave.
    pub fn audited(self, audit: Result<(), String>) -> Outcome {
        let fault = audit.err();
        Outcome { verified: fault.is_none(), fault, ..self }
    }
}
