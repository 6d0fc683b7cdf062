//! Proves lanelog's crash safety with real processes, real file systems and a block device that forgets, through the
//! public API alone.
//!
//! | mode | what ends | what is checked |
//! |---|---|---|
//! | `kill` | the process, by SIGKILL | everything that was answered holds, exactly |
//! | `power` | the power, at any write of a recorded block device under ext4 | what was promised for ever holds |
//! | `shutdown` | the power, by ext4's own shutdown call, under a worker that goes on | the same |
//! | `failed-sync` | a sync, then the process, then the power | what the reopen served from a lying page cache holds |
//!
//! What is known, promised and in doubt at each instant is told in [`report`] and [`ledger`]. A harness that can't fail
//! proves nothing: `--syncs-off` turns the worker's syncs into nothing, and then losses must be seen.
#![expect(clippy::disallowed_methods, reason = "the real world has clocks, threads and files")]

mod block;
mod child;
mod failed_sync;
mod kernel;
mod kill;
mod ledger;
mod outcome;
mod payload;
mod power;
mod recording;
mod report;
mod rng;
mod shutdown;
mod worker;

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use clap::{Parser, Subcommand};

use child::Stop;
use outcome::{Outcome, Skipped};

/// Crashes lanelog for real, and checks that it kept its promises.
#[derive(Parser)]
#[command(name = "lanelog-crash", version)]
struct Cli {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Subcommand)]
enum Mode {
    /// Kills workers with SIGKILL at random moments.
    Kill(kill::KillArgs),
    /// Makes images of a recorded block device, as power losses leave it, and recovers each.
    Power(power::PowerArgs),
    /// Cuts a file system off its device under a busy worker, and recovers.
    Shutdown(shutdown::ShutdownArgs),
    /// Fails a sync, restarts on the page cache that lies, then loses the power.
    FailedSync(failed_sync::FailedSyncArgs),
    /// The process that the other modes end.
    #[command(hide = true)]
    Worker(worker::WorkerArgs),
}

fn main() -> ExitCode {
    let run = || -> Result<Outcome> {
        let mode = Cli::parse().mode;
        if let Mode::Worker(args) = &mode {
            worker::run(args)?;
            std::process::exit(0);
        }
        let stop = Stop::on_signals()?;
        match mode {
            Mode::Kill(args) => kill::run(&args, seed(args.seed), &stop),
            Mode::Power(args) => power::run(&args, seed(args.seed), &stop),
            Mode::Shutdown(args) => shutdown::run(&args, seed(args.seed), &stop),
            Mode::FailedSync(args) => failed_sync::run(&args, seed(args.seed), &stop),
            Mode::Worker(_) => Ok(Outcome::default()),
        }
    };
    match run() {
        Ok(outcome) => {
            let (line, succeeded) = outcome.close();
            println!("{line}");
            ExitCode::from(u8::from(!succeeded))
        }
        Err(error) => match error.downcast_ref::<Skipped>() {
            Some(skipped) => {
                println!("{skipped}");
                ExitCode::SUCCESS
            }
            None => {
                eprintln!("lanelog-crash: {error:#}");
                ExitCode::from(2)
            }
        },
    }
}

/// The seed that was given, or one that nobody tried.
fn seed(given: Option<u64>) -> u64 {
    let fresh =
        || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| u64::from(now.subsec_nanos()) ^ now.as_secs());
    let seed = given.unwrap_or_else(fresh);
    println!("seed {seed}");
    seed
}
