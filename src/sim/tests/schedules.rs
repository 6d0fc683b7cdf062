//! Schedules drawn from seeds keep every promise, and the same seed is the same run.

use crate::sim::run::{Counts, run};
use crate::sim::schedule::Schedule;
use crate::sim::{exhaust, fail_each_call, run_seeds, shrink_seed, workloads};

/// Seeds from `LANELOG_SEED` on, `LANELOG_SEEDS` of them.
fn seeds(default: u64) -> (u64, u64) {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    (number("LANELOG_SEED").unwrap_or(0), number("LANELOG_SEEDS").unwrap_or(default))
}

#[test]
fn schedules_of_many_seeds_keep_every_promise() {
    let (from, count) = seeds(3_000);
    let mut counts = Counts::default();
    if let Err(failure) = run_seeds(from, count, &mut counts) {
        panic!("seed {}: {}\n{}", failure.seed, failure.violation, failure.report);
    }
    // A few seeds have no average.
    let many = count >= 100;
    assert!(!many || (counts.tasks > 5 * count && counts.crashes > count && counts.faults > count / 4), "{counts:?}");
    assert_eq!(counts.schedules, count);
}

#[test]
fn same_seed_is_the_same_run_byte_for_byte() {
    let traced = |seed| {
        let (mut counts, mut trace) = (Counts::default(), Vec::new());
        run(&Schedule::draw(seed), &mut counts, Some(&mut trace)).expect("it keeps its promises");
        (counts, trace)
    };
    for seed in 100..160 {
        assert_eq!(traced(seed), traced(seed), "seed {seed}");
    }
    assert_ne!(traced(100).1, traced(101).1);
    let prints = traced(100).1.into_iter().filter(|line| line.contains("files")).count();
    assert!(prints > 0, "the trace has the files' checksums in it");
}

#[test]
fn schedule_without_a_failure_has_nothing_to_shrink() {
    assert!(shrink_seed(100).is_ok());
}

#[test]
fn every_workload_of_two_operations_keeps_every_promise_whatever_survives() {
    let mut walked = crate::sim::Walked::default();
    let of_two = 1 + 14 + 14 * 14;
    assert!(of_two < workloads());
    for number in 0..of_two {
        if let Err(failure) = exhaust(number, &mut walked) {
            panic!("{}\n{}", failure.violation, failure.report);
        }
    }
    assert_eq!((walked.workloads, walked.cut_short), (of_two, 0));
    assert!(walked.cases > 2 * walked.crashes, "{walked:?}");
}

#[test]
fn every_call_of_the_disk_may_fail() {
    let mut counts = Counts::default();
    for seed in 0..3 {
        if let Err(failure) = fail_each_call(seed, &mut counts) {
            panic!("seed {seed}: {}\n{}", failure.violation, failure.report);
        }
    }
    assert!(counts.faults > 500, "{counts:?}");
}
