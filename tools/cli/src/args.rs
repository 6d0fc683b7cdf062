//! What the command takes.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use lanelog::{Backoff, TaskId};

/// Durable work from the shell: tasks survive kill -9 and power loss.
#[derive(Parser)]
#[command(name = "lanelog", version, about)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Subcommand)]
pub enum Command {
    /// Enqueue every line of standard input and run CMD once for each: a crash-safe, parallel xargs
    #[command(after_help = RUN_HELP)]
    Run(Run),
    /// Run CMD for the tasks that are in the queue
    #[command(after_help = WORK_HELP)]
    Work(Work),
    /// Enqueue every line of standard input
    #[command(after_help = ENQUEUE_HELP)]
    Enqueue(Enqueue),
    /// Print counts per lane and group; needs no lock
    #[command(
        after_help = "Examples:\n  lanelog stats --queue jobs --json | jq .groups\n  lanelog stats --queue jobs --pins"
    )]
    Stats(Stats),
    /// Read everything, change nothing, report damage: exit status 0 is clean, 2 is damaged
    #[command(after_help = "Example:\n  lanelog verify --queue jobs && echo clean")]
    Verify(Look),
    /// Print every task record with its state; needs no lock
    #[command(after_help = "Example:\n  lanelog dump --queue jobs --lane 0 --json | jq .state")]
    Dump(Dump),
    /// Print the next tasks of a lane without taking them; needs no lock
    #[command(after_help = "Example:\n  lanelog peek --queue jobs --lane 0 --tasks 3")]
    Peek(Peek),
    /// Hand out nothing of a lane, or of the whole queue, until it is resumed
    #[command(
        after_help = "Settles go on. Durable: it holds over any crash.\n\nExample:\n  lanelog pause --queue jobs --lane 2"
    )]
    Pause(OfLane),
    /// Hand out again what was paused
    #[command(after_help = "Example:\n  lanelog resume --queue jobs --lane 2")]
    Resume(OfLane),
    /// Settle everything that a lane, or the whole queue, holds: for good, dead letters too
    #[command(after_help = "Example:\n  lanelog purge --queue jobs --lane 2")]
    Purge(OfLane),
    /// List, redrive or drop dead letters
    #[command(after_help = DEAD_HELP)]
    Dead(Dead),
    /// List, create, bound or remove groups: readers with acks of their own
    #[command(after_help = GROUP_HELP)]
    Group(Group),
    /// Copy the queue, as it is, into a directory of its own: a backup
    #[command(after_help = SNAPSHOT_HELP)]
    Snapshot(Snapshot),
    /// Settle one task for good, whatever it is now
    #[command(
        after_help = "Exit status: 0 cancelled, 1 it was settled or is not there.\n\nExample:\n  lanelog cancel --queue jobs 00c0ffee00c0ffee-02-0000000000000007"
    )]
    Cancel(OfTask),
    /// Say why a task does not run
    #[command(after_help = "Example:\n  lanelog explain --queue jobs 00c0ffee00c0ffee-02-0000000000000007")]
    Explain(OfTask),
}

const RUN_HELP: &str = "\
Exit status 0 of CMD acks the task. Anything else is retried with backoff, up to --max-attempts, and then
becomes a dead letter, which `lanelog dump` shows. What CMD prints is kept together and written before the ack.

Killed at any moment and started again, with no input or with new input, it finishes what is left. A task that ran
when lanelog was killed runs again, so CMD must bear running twice; what CMD itself started may still be running
then, for kill -9 of lanelog does not reach it. SIGINT and SIGTERM let running commands finish and leave the rest in
the queue; a second SIGINT does not wait for them.

Every line is a task, an empty one too. A task with a NUL byte, or one too long for an argument, becomes a dead
letter if {} is used.

Exit status: 0 all acked, 1 something became a dead letter, 2 an error or a damaged queue, 128 + n stopped by
signal n.

Examples:
  find /usr/share -type f | lanelog run --queue jobs --concurrency 4 -- sha256sum {}
  cat urls | lanelog run --queue jobs --retry exponential:1s..5m --max-attempts 8 -- curl -fsSO {}";

const WORK_HELP: &str = "\
Tasks are run as `lanelog run` runs them; see its help. With --print no command runs: every task is written to
standard output as a line, and acked once it is written.

Exit status: 0 all acked, 1 something became a dead letter, 2 an error or a damaged queue, 128 + n stopped by
signal n.

Examples:
  lanelog work --queue jobs --until-empty --concurrency 4 -- ./resize {}
  lanelog work --queue jobs --until-empty --print > tasks.txt";

const DEAD_HELP: &str = "\
Without a filter all of them are meant. A redriven task comes again before what was never handed out, with all its
attempts before it; with --to-lane it becomes a new task, with a new id, at the end of that lane. `redrive` and `drop`
need the queue for themselves; `list` needs no lock.

Examples:
  lanelog dead list --queue jobs
  lanelog dead redrive --queue jobs --lane 0 --reason timeout --limit 100
  lanelog dead redrive --queue jobs --reason timeout --to-lane 2
  lanelog dead drop --queue jobs --id 00c0ffee00c0ffee-02-0000000000000007";

const GROUP_HELP: &str = "\
Every group gets every task. One that nobody reads keeps every segment on disk: remove it, or bound what it may have
left to do. What a group alone had left to do goes with it, its dead letters too; a group that is made later under its
name is another one. The last group of a queue stays.

Bounds hold as long as a process has the queue open: beyond them the oldest tasks are dropped for that group, or become
its dead letters; what is on loan, or waits for its time, stays. `list` needs no lock, all else the queue for itself.

Examples:
  lanelog group list --queue jobs
  lanelog group create --queue jobs audit --start newest --keep-for 7d --beyond drop
  lanelog group retain --queue jobs default --keep-tasks 1000000 --keep-bytes 1000000000 --beyond dead
  lanelog group remove --queue jobs audit";

const SNAPSHOT_HELP: &str = "\
The copy is a queue like any other, with the same id: `lanelog verify --queue` it, or work from it. The directory is
made, or is there and empty. One that was not finished is refused by every command; remove it and take another.

It needs the queue for itself. A process that has it open takes snapshots of it without stopping, by the library's
Queue::snapshot.

Example:
  lanelog snapshot --queue jobs --to backup/jobs-1 && lanelog verify --queue backup/jobs-1";

const ENQUEUE_HELP: &str = "\
Every line is a task, an empty one too. Whatever ends the input early, the items before that are in the queue, and
an item that was read only in part is not.

Exit status: 0 all enqueued, 2 an error, 128 + n stopped by signal n.

Examples:
  ls *.jpg | lanelog enqueue --queue jobs --lanes 3 --lane 1
  echo remind | lanelog enqueue --queue jobs --delay 10m --ttl 1h
  cat orders | lanelog enqueue --queue jobs --key customer-7
  echo nightly | lanelog enqueue --queue jobs --dedup-id \"report $(date +%F)\" --dedup-for 1d
  ls *.jpg | lanelog enqueue --queue jobs --dedup-id {} --dedup-until-settled";

/// Where the queue is and how its lanes are cut.
#[derive(clap::Args)]
pub struct Place {
    /// The queue's directory; made if it is absent
    #[arg(long, value_name = "DIR")]
    pub queue: PathBuf,
    /// Lanes of the queue, 1 to 256, numbered from 0, the most urgent [default: as stored, 1 for a new queue]
    #[arg(long, value_name = "N")]
    pub lanes: Option<usize>,
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

/// A time as users write it.
fn time(text: &str) -> Result<Duration, String> {
    lanelog::parse_span(text).ok_or_else(|| "a time is a number and ms, s, m, h or d, as in 10m".to_owned())
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

/// Arguments of `stats`.
#[derive(clap::Args)]
pub struct Stats {
    /// Where, and how it is printed.
    #[command(flatten)]
    pub look: Look,
    /// For each group and lane, also the oldest task that is not settled, and the bytes on disk that the group keeps
    #[arg(long)]
    pub pins: bool,
}

/// Arguments of `verify`.
#[derive(clap::Args)]
pub struct Look {
    /// The queue's directory
    #[arg(long, value_name = "DIR")]
    pub queue: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `dump`.
#[derive(clap::Args)]
pub struct Dump {
    /// Where, and how it is printed.
    #[command(flatten)]
    pub look: Look,
    /// Only this lane
    #[arg(long, value_name = "N")]
    pub lane: Option<u8>,
}

/// Arguments of `peek`.
#[derive(clap::Args)]
pub struct Peek {
    /// Where, and how it is printed.
    #[command(flatten)]
    pub look: Look,
    /// The lane
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub lane: u8,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub tasks: usize,
}

/// Arguments of what is done to a lane, or to the whole queue.
#[derive(clap::Args)]
pub struct OfLane {
    /// The queue's directory
    #[arg(long, value_name = "DIR")]
    pub queue: PathBuf,
    /// This lane alone [default: all of them]
    #[arg(long, value_name = "N")]
    pub lane: Option<u8>,
}

/// Arguments of `snapshot`.
#[derive(clap::Args)]
pub struct Snapshot {
    /// The queue's directory
    #[arg(long, value_name = "DIR")]
    pub queue: PathBuf,
    /// The copy's directory: one that is not there yet, or an empty one
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
}

/// Arguments of what is done to one task.
#[derive(clap::Args)]
pub struct OfTask {
    /// The queue's directory
    #[arg(long, value_name = "DIR")]
    pub queue: PathBuf,
    /// The task, as `dump` shows it
    #[arg(value_name = "ID")]
    pub id: TaskId,
}

/// Arguments of `dead`.
#[derive(clap::Args)]
pub struct Dead {
    /// What to do with them
    #[arg(value_enum)]
    pub what: DeadMove,
    /// Which.
    #[command(flatten)]
    pub letters: Letters,
    /// With redrive: to the end of this lane, instead of where they were
    #[arg(long, value_name = "N")]
    pub to_lane: Option<u8>,
}

/// What is done to dead letters.
#[derive(Clone, Copy, ValueEnum)]
pub enum DeadMove {
    /// Print them; needs no lock
    List,
    /// Make them due again
    Redrive,
    /// Let them go for good
    Drop,
}

/// Which dead letters.
#[derive(clap::Args)]
pub struct Letters {
    /// The queue's directory
    #[arg(long, value_name = "DIR")]
    pub queue: PathBuf,
    /// Only of this lane
    #[arg(long, value_name = "N")]
    pub lane: Option<u8>,
    /// Only those whose reason contains this
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Only this one; may be given several times
    #[arg(long, value_name = "ID")]
    pub id: Vec<TaskId>,
    /// At most so many
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
}

/// Arguments of `group`.
#[derive(clap::Args)]
pub struct Group {
    /// What to do
    #[arg(value_enum)]
    pub what: GroupMove,
    /// The group's name
    #[arg(value_name = "NAME", required_if_eq_any([("what", "create"), ("what", "remove"), ("what", "retain")]))]
    pub name: Option<String>,
    /// The queue's directory
    #[arg(long, value_name = "DIR")]
    pub queue: PathBuf,
    /// With create: where it begins [default: oldest]
    #[arg(long, value_enum)]
    pub start: Option<Start>,
    /// What it may have left to do.
    #[command(flatten)]
    pub keeps: Keeps,
}

/// What a group may have left to do.
#[derive(clap::Args)]
pub struct Keeps {
    /// With create and retain: the most tasks that it may have left to do
    #[arg(long, value_name = "N")]
    pub keep_tasks: Option<u64>,
    /// Likewise: the most bytes that these may take on disk
    #[arg(long, value_name = "N")]
    pub keep_bytes: Option<u64>,
    /// Likewise: how long ago they may have been enqueued
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub keep_for: Option<Duration>,
    /// Likewise: what becomes of the oldest ones beyond that [default: report]
    #[arg(long, value_enum)]
    pub beyond: Option<Beyond>,
}

/// What becomes of what is beyond the bounds.
#[derive(Clone, Copy, ValueEnum)]
pub enum Beyond {
    /// Nothing; `lanelog stats` tells how much there is
    Report,
    /// They are settled for the group
    Drop,
    /// They become dead letters of the group
    Dead,
}

impl Keeps {
    /// True if anything is said.
    pub fn is_given(&self) -> bool {
        self.keep_tasks.is_some() || self.keep_bytes.is_some() || self.keep_for.is_some() || self.beyond.is_some()
    }

    /// As the library takes it.
    pub fn retention(&self) -> lanelog::Retention {
        let retention = lanelog::Retention::new()
            .tasks(self.keep_tasks.unwrap_or(0))
            .bytes(self.keep_bytes.unwrap_or(0))
            .beyond(match self.beyond {
                None | Some(Beyond::Report) => lanelog::Beyond::Report,
                Some(Beyond::Drop) => lanelog::Beyond::Drop,
                Some(Beyond::Dead) => lanelog::Beyond::DeadLetter,
            });
        match self.keep_for {
            Some(age) => retention.age(age),
            None => retention,
        }
    }
}

/// What is done to groups.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GroupMove {
    /// Print the names of all groups, the oldest first; needs no lock
    List,
    /// Make a group
    Create,
    /// Remove a group, and what it alone had left to do
    Remove,
    /// Bound what a group may have left to do, instead of what was said before
    Retain,
}

/// Where a group begins.
#[derive(Clone, Copy, ValueEnum)]
pub enum Start {
    /// At the oldest task that the queue still holds
    Oldest,
    /// Behind the newest task
    Newest,
}

impl From<Start> for lanelog::Start {
    fn from(given: Start) -> Self {
        match given {
            Start::Oldest => lanelog::Start::Oldest,
            Start::Newest => lanelog::Start::Newest,
        }
    }
}
