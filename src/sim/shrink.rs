//! The smallest schedule that still shows what a larger one showed.
//!
//! Greedy: everything that can be left out is, as long as the same kind of violation comes; in rounds, until a round finds
//! nothing. What the disk happens to keep depends on everything before, so each candidate is tried with several of its
//! choices.

use super::model::Violation;
use super::run::{Counts, run};
use super::schedule::Schedule;

/// How many of the disk's choices each candidate is tried with.
const DISKS: u64 = 12;
/// Enough for any schedule; a bound, because a violation may come and go.
const ROUNDS_MAX: usize = 40;

/// The smallest schedule that was found, with its violation; what was given if it doesn't fail.
pub(crate) fn shrink(schedule: &Schedule) -> (Schedule, Option<Violation>) {
    let mut counts = Counts::default();
    let Err(mut violation) = run(schedule, &mut counts, None) else { return (schedule.clone(), None) };
    let kind = kind_of(&violation);
    let mut smallest = schedule.clone();
    for _ in 0..ROUNDS_MAX {
        let mut found = false;
        let mut at = 0;
        // What is left out here shifts what comes after, so the candidates are made anew each time.
        loop {
            let Some(candidate) = candidates(&smallest).nth(at) else { break };
            match fails(candidate, &kind, &mut counts) {
                Some((candidate, shown)) => {
                    (smallest, violation, found) = (candidate, shown, true);
                }
                None => at += 1,
            }
        }
        if !found {
            break;
        }
    }
    (smallest, Some(violation))
}

/// The words of a violation without its numbers.
fn kind_of(violation: &Violation) -> String {
    let text = violation.0.rsplit_once(": Mine").map_or(&*violation.0, |(text, _)| text);
    let words = text.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| word.len() > 2);
    // An operation's own words come first, and may change.
    let words: Vec<&str> = words.collect();
    words[words.len().saturating_sub(4)..].join(" ")
}

fn fails(mut candidate: Schedule, kind: &str, counts: &mut Counts) -> Option<(Schedule, Violation)> {
    for seed in 0..DISKS {
        match run(&candidate, counts, None) {
            Err(violation) if kind_of(&violation) == kind => return Some((candidate, violation)),
            _ => candidate.disk_seed = seed,
        }
    }
    None
}

/// Schedules that are smaller by one thing.
fn candidates(schedule: &Schedule) -> impl Iterator<Item = Schedule> + use<'_> {
    let stretches = schedule.stretches.len();
    let without_stretch = (0..stretches).filter(move |_| stretches > 1).map(|at| {
        let mut smaller = schedule.clone();
        smaller.stretches.remove(at);
        smaller
    });
    let without_hurt = schedule.hurt.is_some().then(|| Schedule { hurt: None, ..schedule.clone() });
    let simpler = (0..stretches).flat_map(move |at| simpler_stretch(schedule, at));
    let without_ops = (0..stretches).flat_map(move |at| {
        let count = schedule.stretches[at].ops.len();
        let sizes = [count / 2, count / 4, 1].into_iter().filter(|size| *size > 0);
        sizes.flat_map(move |size| {
            (0..count.div_ceil(size)).map(move |part| without_ops(schedule, at, part * size, size))
        })
    });
    without_stretch.chain(without_hurt).chain(simpler).chain(without_ops)
}

fn simpler_stretch(schedule: &Schedule, at: usize) -> Vec<Schedule> {
    let mut simpler = Vec::new();
    let stretch = &schedule.stretches[at];
    let mut add = |change: &dyn Fn(&mut super::schedule::Stretch)| {
        let mut smaller = schedule.clone();
        change(&mut smaller.stretches[at]);
        if smaller != *schedule {
            simpler.push(smaller);
        }
    };
    add(&|stretch| stretch.fault = None);
    add(&|stretch| stretch.hindrance = None);
    add(&|stretch| stretch.crash.at = None);
    for inner in 0..stretch.recoveries.len() {
        add(&|stretch| {
            stretch.recoveries.remove(inner);
        });
    }
    add(&|stretch| stretch.recoveries.clear());
    simpler
}

fn without_ops(schedule: &Schedule, at: usize, from: usize, count: usize) -> Schedule {
    let mut smaller = schedule.clone();
    let ops = &mut smaller.stretches[at].ops;
    let to = (from + count).min(ops.len());
    drop(ops.drain(from.min(to)..to));
    smaller
}
