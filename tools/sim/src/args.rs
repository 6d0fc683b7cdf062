//! The command line.

use clap::Parser;

/// Runs crash schedules against lanelog's engine on a simulated disk, and holds every restart against what was promised.
///
/// The last line of a run says what was done: `schedules=N crashes=N faults=N recoveries=N tasks=N violations=N seed=S`.
/// The exit code is 1 if a promise was broken.
#[derive(Parser)]
#[command(name = "lanelog-sim", version)]
pub struct Args {
    /// How many schedules to run
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    pub schedules: u64,
    /// The first schedule's seed; the others' follow. A fresh one if not given
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// Threads; one for each core if not given
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Look for the smallest schedule that shows a violation
    #[arg(long)]
    pub shrink: bool,
    /// Turn a deliberate bug on and look how soon it is caught; `all` for each in turn, `list` for their names
    #[arg(long, value_name = "NAME")]
    pub sabotage: Option<String>,
    /// Run every workload of up to 3 operations, with every crash and every set of sectors that may survive it
    #[arg(long, conflicts_with_all = ["sabotage", "errors", "flips"])]
    pub exhaustive: bool,
    /// Let each call of the disk fail in turn, once and from then on, with each error that it can have
    #[arg(long, conflicts_with_all = ["sabotage", "flips"])]
    pub errors: bool,
    /// Flip every bit of every file of a small queue, one at a time
    #[arg(long, conflicts_with = "sabotage")]
    pub flips: bool,
}
