//! What the command takes.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

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
    #[command(after_help = "Example:\n  lanelog stats --queue jobs --json | jq .groups")]
    Stats(Look),
    /// Read everything, change nothing, report damage: exit status 0 is clean, 2 is damaged
    #[command(after_help = "Example:\n  lanelog verify --queue jobs && echo clean")]
    Verify(Look),
    /// Print every task record with its state; needs no lock
    #[command(after_help = "Example:\n  lanelog dump --queue jobs --lane 0 --json | jq .state")]
    Dump(Dump),
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

Example:
  find /usr/share -type f | lanelog run --queue jobs --concurrency 4 -- sha256sum {}";

const WORK_HELP: &str = "\
Tasks are run as `lanelog run` runs them; see its help. With --print no command runs: every task is written to
standard output as a line, and acked once it is written.

Exit status: 0 all acked, 1 something became a dead letter, 2 an error or a damaged queue, 128 + n stopped by
signal n.

Examples:
  lanelog work --queue jobs --until-empty --concurrency 4 -- ./resize {}
  lanelog work --queue jobs --until-empty --print > tasks.txt";

const ENQUEUE_HELP: &str = "\
Every line is a task, an empty one too. Whatever ends the input early, the items before that are in the queue, and
an item that was read only in part is not.

Exit status: 0 all enqueued, 2 an error, 128 + n stopped by signal n.

Example:
  ls *.jpg | lanelog enqueue --queue jobs --lanes 3 --lane 1";

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

/// Arguments of `stats` and `verify`.
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
