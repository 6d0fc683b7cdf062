//! From seeds to failures a reader can follow. What the command `lanelog-sim` calls.

use super::model::Violation;
use super::run::{Counts, run};
use super::schedule::Schedule;
use super::shrink::shrink;

/// A schedule that broke a promise.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed it was drawn from: one schedule from this seed on is the same run again.
    pub seed: u64,
    /// What is wrong.
    pub violation: String,
    /// The schedule in words, and what happened in it, line by line.
    pub report: String,
}

/// Runs the schedules of `count` seeds from `from` on, until one fails.
///
/// # Errors
/// The first failure.
pub fn run_seeds(from: u64, count: u64, counts: &mut Counts) -> Result<(), Failure> {
    for seed in (0..count).map(|at| from.wrapping_add(at)) {
        let schedule = Schedule::draw(seed);
        if let Err(violation) = run(&schedule, counts, None) {
            return Err(failure(seed, &schedule, &violation));
        }
    }
    Ok(())
}

/// The smallest schedule that shows what the one of this seed shows.
///
/// # Errors
/// The failure, if there is one.
pub fn shrink_seed(seed: u64) -> Result<(), Failure> {
    match shrink(&Schedule::draw(seed)) {
        (smallest, Some(violation)) => Err(failure(seed, &smallest, &violation)),
        (_, None) => Ok(()),
    }
}

/// Runs the schedule whose choices are these bytes.
///
/// # Errors
/// What is wrong, the schedule in words, and what happened in it.
pub fn run_tape(bytes: &[u8]) -> Result<(), String> {
    let schedule = Schedule::of_tape(bytes);
    run(&schedule, &mut Counts::default(), None).map_err(|violation| {
        let Failure { violation, report, .. } = failure(0, &schedule, &violation);
        format!("{violation}\n{report}")
    })
}

fn failure(seed: u64, schedule: &Schedule, violation: &Violation) -> Failure {
    let mut trace = Vec::new();
    let _same = run(schedule, &mut Counts::default(), Some(&mut trace));
    let report = format!("{} steps\n{schedule}\nwhat happened:\n{}", schedule.steps(), trace.join("\n"));
    Failure { seed, violation: violation.0.clone(), report }
}
