//! Small spaces, walked whole.

use std::sync::{Mutex, PoisonError};

use lanelog::sim::{Counts, Flipped, Reference, Walked};

use crate::args::Args;
use crate::crew::Crew;

/// Failures after which the rest is left.
const FAILURES_MAX: usize = 1;
/// Schedules whose every call fails in turn.
const ERROR_SCHEDULES: u64 = 40;

/// Every workload of up to three operations, every crash, every set of survivors.
pub fn exhaust(crew: &Crew) -> anyhow::Result<bool> {
    let total = Mutex::new(Walked::default());
    let workloads = lanelog::sim::workloads();
    let (_, failures) = crew.share(workloads, workloads, FAILURES_MAX, |number, counts| {
        let mut walked = Walked::default();
        let outcome = lanelog::sim::exhaust(number, &mut walked);
        counts.schedules += 1;
        let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
        total.workloads += walked.workloads;
        total.crashes += walked.crashes;
        total.cases += walked.cases;
        total.cut_short += walked.cut_short;
        outcome
    })?;
    failures.iter().for_each(crate::report);
    let Walked { workloads, crashes, cases, cut_short } = *total.lock().unwrap_or_else(PoisonError::into_inner);
    let violations = failures.len();
    println!("workloads={workloads} crashes={crashes} cases={cases} cut_short={cut_short} violations={violations}");
    Ok(failures.is_empty())
}

/// Each call of the disk fails in turn.
pub fn errors(args: &Args, crew: &Crew) -> anyhow::Result<bool> {
    let seed = args.seed.unwrap_or_else(crate::fresh_seed);
    let (counts, failures) = crew.share(ERROR_SCHEDULES, ERROR_SCHEDULES, FAILURES_MAX, |number, counts| {
        lanelog::sim::fail_each_call(seed.wrapping_add(number), counts)
    })?;
    failures.iter().for_each(crate::report);
    crate::last_line(&counts, failures.len(), seed);
    Ok(failures.is_empty())
}

/// Every bit of every file of a small queue, killed and closed.
pub fn flips(crew: &Crew) -> anyhow::Result<bool> {
    let total = Mutex::new(Flipped::default());
    let mut violations = 0;
    for clean in [false, true] {
        let reference = match Reference::new(clean) {
            Ok(reference) => reference,
            Err(failure) => {
                crate::report(&failure);
                violations += 1;
                continue;
            }
        };
        let sectors = reference.sectors();
        let (_, failures) =
            crew.share(sectors as u64, sectors as u64, FAILURES_MAX, |number, counts: &mut Counts| {
                let mut flipped = Flipped::default();
                let outcome = reference.flip_sector(usize::try_from(number).unwrap_or(usize::MAX), &mut flipped);
                counts.schedules += 1;
                let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
                total.bits += flipped.bits;
                total.reported += flipped.reported;
                total.lost += flipped.lost;
                outcome
            })?;
        total.lock().unwrap_or_else(PoisonError::into_inner).unread += reference.unread_bits();
        failures.iter().for_each(crate::report);
        violations += failures.len();
    }
    let Flipped { bits, reported, lost, unread } = *total.lock().unwrap_or_else(PoisonError::into_inner);
    let harmless = bits - reported;
    println!(
        "bits={bits} reported={reported} harmless={harmless} lost={lost} never_read={unread} violations={violations}"
    );
    Ok(violations == 0)
}
