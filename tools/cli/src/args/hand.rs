//! By hand: lanes, single tasks, dead letters, snapshots.

use std::path::PathBuf;

use clap::ValueEnum;
use lanelog::TaskId;

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

/// Arguments of `park`.
#[derive(clap::Args)]
pub struct Park {
    /// Which.
    #[command(flatten)]
    pub task: OfTask,
    /// Why; `dump` shows it
    #[arg(long, value_name = "TEXT", default_value = "parked by hand")]
    pub reason: String,
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

/// Which dead letters, or parked tasks.
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
