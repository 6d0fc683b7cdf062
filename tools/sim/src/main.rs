//! `lanelog-sim`: the simulator from the command line. What it does is in the library, under the feature `sim`; here are
//! threads, progress and the last line.

mod args;
mod crew;
mod sabotage;
mod spaces;

use std::process::ExitCode;

use clap::Parser as _;
use lanelog::sim::{Counts, Failure};

use args::Args;
use crew::Crew;

/// A schedule is many small allocations, and that is where an eighth of its time went.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = Args::parse();
    // A panic of the engine is a violation, and reported as one.
    std::panic::set_hook(Box::new(|_| {}));
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("lanelog-sim: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// True if every promise was kept.
fn run(args: &Args) -> anyhow::Result<bool> {
    let crew = Crew::new(args.threads)?;
    match &args.sabotage {
        Some(name) => sabotage::run(name, args, &crew),
        None if args.exhaustive => spaces::exhaust(&crew),
        None if args.errors => spaces::errors(args, &crew),
        None if args.flips => spaces::flips(&crew),
        None => schedules(args, &crew),
    }
}

/// Schedules drawn from seeds.
fn schedules(args: &Args, crew: &Crew) -> anyhow::Result<bool> {
    let seed = args.seed.unwrap_or_else(fresh_seed);
    let (counts, failures) = crew.schedules(seed, args.schedules)?;
    for failure in &failures {
        report(failure);
    }
    if args.shrink
        && let Some(first) = failures.first()
    {
        println!("looking for the smallest schedule that shows what seed {} shows", first.seed);
        if let Err(smallest) = lanelog::sim::shrink_seed(first.seed) {
            report(&smallest);
        }
    }
    last_line(&counts, failures.len(), seed);
    Ok(failures.is_empty())
}

pub(crate) fn report(failure: &Failure) {
    let Failure { seed, violation, report } = failure;
    println!("violation: {violation}\nseed {seed} (again: lanelog-sim --schedules 1 --seed {seed})\n{report}\n");
}

pub(crate) fn last_line(counts: &Counts, violations: usize, seed: u64) {
    let Counts { schedules, crashes, faults, recoveries, tasks } = counts;
    println!(
        "schedules={schedules} crashes={crashes} faults={faults} recoveries={recoveries} tasks={tasks} violations={violations} seed={seed}"
    );
}

/// A seed that nobody tried before.
pub(crate) fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    // The standard library's hasher is keyed by the system's randomness.
    RandomState::new().hash_one(std::process::id())
}
