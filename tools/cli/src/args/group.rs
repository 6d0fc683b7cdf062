//! Groups.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use super::time;

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
