//! For N = 1, 2, …: the N-th call of the disk fails, once or from then on, with each error that it can have; in the work
//! of a process, and in the recovery after it. Then everything is held against what was promised.

use super::model::Violation;
use super::operation::{Fault, Op};
use super::run::{Counts, run};
use super::schedule::Schedule;
use super::search::Failure;

/// More errors than any call can have.
const CHOICES: u8 = 4;

/// Lets every call of one small schedule fail in turn. The schedule is that of the seed, without its own faults.
///
/// # Errors
/// The first failure that broke a promise.
pub fn fail_each_call(seed: u64, counts: &mut Counts) -> Result<(), Failure> {
    let mut plain = Schedule::draw(seed);
    plain.stretches.truncate(1);
    plain.hurt = None;
    for stretch in &mut plain.stretches {
        stretch.ops.retain(|op| !matches!(op, Op::FailSync { .. }));
        stretch.ops.truncate(16);
        stretch.fault = None;
        stretch.hindrance = None;
        stretch.crash.at = None;
    }
    for in_recovery in [false, true] {
        for onwards in [false, true] {
            for choice in 0..CHOICES {
                fail_each(seed, &plain, in_recovery, onwards, choice, counts)?;
            }
        }
    }
    Ok(())
}

fn fail_each(
    seed: u64,
    plain: &Schedule,
    in_recovery: bool,
    onwards: bool,
    choice: u8,
    counts: &mut Counts,
) -> Result<(), Failure> {
    for call in 0.. {
        let mut schedule = plain.clone();
        let fault = Some(Fault::Fails { call, choice, onwards });
        for stretch in &mut schedule.stretches {
            match in_recovery {
                true => stretch.hindrance = fault,
                false => stretch.fault = fault,
            }
        }
        let before = counts.faults;
        if let Err(Violation(violation)) = run(&schedule, counts, None) {
            let mut trace = Vec::new();
            let _same = run(&schedule, &mut Counts::default(), Some(&mut trace));
            return Err(Failure { seed, violation, report: format!("{schedule}\n{}", trace.join("\n")) });
        }
        if counts.faults == before {
            // There are not so many calls.
            return Ok(());
        }
    }
    Ok(())
}
