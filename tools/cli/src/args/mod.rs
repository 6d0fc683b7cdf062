//! What the command takes.

use std::time::Duration;

use clap::{Parser, Subcommand};

mod group;
mod hand;
mod help;
mod look;
mod tasks;

pub use group::{Group, GroupMove, Start};
pub use hand::{Dead, DeadMove, Letters, OfLane, OfTask, Park, Snapshot};
use help::{DEAD_HELP, ENQUEUE_HELP, GROUP_HELP, KICK_HELP, PARK_HELP, RUN_HELP, SNAPSHOT_HELP, WORK_HELP};
pub use look::{Dump, Look, Peek, Stats};
pub use tasks::{Enqueue, Input, Place, Run, Running, Work};

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
    /// Set a task aside: nobody gets it until it is kicked
    #[command(after_help = PARK_HELP)]
    Park(Park),
    /// Hand out again what was parked
    #[command(after_help = KICK_HELP)]
    Kick(Letters),
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

/// A time as users write it.
fn time(text: &str) -> Result<Duration, String> {
    lanelog::parse_span(text).ok_or_else(|| "a time is a number and ms, s, m, h or d, as in 10m".to_owned())
}
