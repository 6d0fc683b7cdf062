//! Where tasks come from and how they are run: `run`, `enqueue`, `work`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use lanelog::{Backoff, Bound, Options, Priority};

use super::time;

/// Where the queue is and how its lanes are cut.
#[derive(clap::Args)]
pub struct Place {
    /// The queue's directory; made if it is absent
    #[arg(long, value_name = "DIR")]
    pub queue: PathBuf,
    /// Lanes of the queue, 1 to 256, numbered from 0, the most urgent [default: as stored, 1 for a new queue]
    #[arg(long, value_name = "N")]
    pub lanes: Option<usize>,
    /// By which rules tasks go.
    #[command(flatten)]
    pub rules: Rules,
}

/// What a queue stores of how its tasks go; what is not given stays as it was.
#[derive(clap::Args)]
#[command(next_help_heading = "Stored with the queue, and as stored unless given")]
pub struct Rules {
    /// Which lane goes first: strict, weighted:6,3,1 (a share for each lane) or aging:30s (strict, but a lane that waited
    /// so long gets its turn) [default for a new queue: strict]
    #[arg(long, value_name = "POLICY")]
    pub priority: Option<Priority>,
    /// The most tasks that wait to be done; more input waits for room. 0 is without limit, as in a new queue
    #[arg(long, value_name = "N")]
    pub max_waiting: Option<u64>,
    /// The most tasks that are worked on at once, by whoever works. 0 is without limit, as in a new queue
    #[arg(long, value_name = "N")]
    pub max_in_flight: Option<u64>,
    /// What becomes of a task whose time to live is over [default for a new queue: drop]
    #[arg(long, value_enum, value_name = "WHAT")]
    pub expired: Option<Expired>,
}

/// What becomes of expired tasks.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Expired {
    /// Counted and gone
    Drop,
    /// A dead letter
    Dead,
}

impl Rules {
    /// Said to the queue that is opened.
    pub fn apply(&self, mut options: Options) -> Options {
        if let Some(priority) = &self.priority {
            options = options.priority(priority.clone());
        }
        if let Some(tasks) = self.max_waiting {
            options = options.queue_bound(Bound::new().tasks(tasks));
        }
        if let Some(tasks) = self.max_in_flight {
            options = options.in_flight_max(tasks);
        }
        match self.expired {
            Some(what) => options.expired_to_dead_letters(what == Expired::Dead),
            None => options,
        }
    }
}

/// Which tasks standard input makes.
#[derive(clap::Args)]
pub struct Input {
    /// The lane that input goes to
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub lane: u8,
    /// Items of input end with a NUL byte instead of a newline
    #[arg(short = '0', long)]
    pub null: bool,
    /// Not to be run before this long from now on, as in 250ms, 10m, 2h, 30d
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub delay: Option<Duration>,
    /// How long, from now on, somebody wants it done; then it expires
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub ttl: Option<Duration>,
    /// Tasks with the same key are run one at a time, in order
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
}

/// How tasks are run.
#[derive(clap::Args)]
pub struct Running {
    /// Commands that run at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub concurrency: u16,
    /// Attempts after which a task becomes a dead letter; 0 is without limit
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub max_attempts: u32,
    /// How long a failed task waits: fixed:10s, linear:1s..1m or exponential:1s..5m, with ~20% for jitter
    /// [default: as stored, exponential:1s..5m for a new queue]
    #[arg(long, value_name = "BACKOFF")]
    pub retry: Option<Backoff>,
    /// Seconds after which a task whose worker died goes to another one; extended while a command runs
    #[arg(long, value_name = "SECS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub lease: u64,
}

/// Arguments of `run`.
#[derive(clap::Args)]
pub struct Run {
    /// Where.
    #[command(flatten)]
    pub place: Place,
    /// What comes in.
    #[command(flatten)]
    pub input: Input,
    /// What is done with it.
    #[command(flatten)]
    pub running: Running,
    /// The command; {} is replaced by the task, without {} the task is the command's standard input
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// Arguments of `work`.
#[derive(clap::Args)]
pub struct Work {
    /// Where.
    #[command(flatten)]
    pub place: Place,
    /// End when the queue is empty, instead of waiting for more
    #[arg(long)]
    pub until_empty: bool,
    /// Write every task to standard output as a line, instead of running a command for it
    #[arg(long, conflicts_with_all = ["concurrency", "lease"])]
    pub print: bool,
    /// With --print, end each task with a NUL byte instead of a newline
    #[arg(short = '0', long)]
    pub null: bool,
    /// What is done.
    #[command(flatten)]
    pub running: Running,
    /// The command; {} is replaced by the task, without {} the task is the command's standard input
    #[arg(last = true, required_unless_present = "print", conflicts_with = "print", value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// Arguments of `enqueue`.
#[derive(clap::Args)]
pub struct Enqueue {
    /// Where.
    #[command(flatten)]
    pub place: Place,
    /// What comes in.
    #[command(flatten)]
    pub input: Input,
    /// When a task counts as accepted
    #[arg(long, value_enum, default_value_t = Durability::Power)]
    pub durability: Durability,
    /// Of items with the same id one is enqueued: what comes later, in this run or another, adds nothing for as long as the
    /// id counts; {} in it is replaced by the item
    #[arg(long, value_name = "ID")]
    pub dedup_id: Option<String>,
    /// How long the id counts, whatever becomes of the task [default: as stored, 5m for a new queue]
    #[arg(long, value_name = "TIME", value_parser = time, requires = "dedup_id")]
    pub dedup_for: Option<Duration>,
    /// The id counts until the task is settled
    #[arg(long, requires = "dedup_id", conflicts_with = "dedup_for")]
    pub dedup_until_settled: bool,
}

/// The two durabilities.
#[derive(Clone, Copy, ValueEnum)]
pub enum Durability {
    /// On stable storage: survives a power loss
    Power,
    /// In the kernel: survives the death of the process
    Process,
}

impl From<Durability> for lanelog::Durability {
    fn from(given: Durability) -> Self {
        match given {
            Durability::Power => lanelog::Durability::Power,
            Durability::Process => lanelog::Durability::Process,
        }
    }
}
