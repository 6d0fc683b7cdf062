//! What a run came to: the last line, and the exit status.

use std::fmt::Write;
use std::path::Path;
use std::thread;

use anyhow::{Result, anyhow};

use crate::ledger::Counts;
use crate::rng::Rng;

/// Why a run is not possible on this machine. No failure: it says so and succeeds.
#[derive(Debug)]
pub struct Skipped(pub String);

impl std::fmt::Display for Skipped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "skipped: {}", self.0)
    }
}

impl std::error::Error for Skipped {}

/// Counts of a run, and every promise that was found broken.
#[derive(Default)]
pub struct Outcome {
    counts: Vec<(&'static str, u64)>,
    pub ledger: Counts,
    pub violations: Vec<String>,
    pub seed: u64,
    /// A negative control: losses are what it is for.
    pub losses_expected: bool,
}

impl Outcome {
    pub fn new(seed: u64) -> Self {
        Outcome { seed, ..Outcome::default() }
    }

    /// Counts one more of something.
    pub fn count(&mut self, what: &'static str, more: u64) {
        match self.counts.iter_mut().find(|(name, _)| *name == what) {
            Some((_, count)) => *count += more,
            None => self.counts.push((what, more)),
        }
    }

    pub fn of(&self, what: &str) -> u64 {
        self.counts.iter().find(|(name, _)| *name == what).map_or(0, |(_, count)| *count)
    }

    pub fn add(&mut self, counts: &Counts) {
        let all = &mut self.ledger;
        all.tasks += counts.tasks;
        all.acked += counts.acked;
        all.deliveries += counts.deliveries;
        all.recoveries += counts.recoveries;
        all.checkpoints += counts.checkpoints;
        all.syncs_failed += counts.syncs_failed;
    }

    fn merge(&mut self, other: Outcome) {
        for (name, count) in other.counts {
            self.count(name, count);
        }
        self.add(&other.ledger);
        self.violations.extend(other.violations);
        self.losses_expected |= other.losses_expected;
    }

    /// Notes broken promises; `kept` is where the evidence lies.
    pub fn broken(&mut self, what: Vec<String>, context: &str, kept: Option<&Path>) {
        if what.is_empty() {
            return;
        }
        if !self.losses_expected {
            let kept = kept.map_or(String::new(), |path| format!(" (kept in {})", path.display()));
            eprintln!("BROKEN, {context}{kept}:");
            for line in what.iter().take(12) {
                eprintln!("  {line}");
            }
            if what.len() > 12 {
                eprintln!("  … and {} more", what.len() - 12);
            }
        }
        self.violations.extend(what);
    }

    /// The last line, and whether the run succeeded.
    pub fn close(&self) -> (String, bool) {
        let mut line = String::new();
        for (name, count) in &self.counts {
            let _infallible = write!(line, "{name}={count} ");
        }
        let Counts { tasks, acked, deliveries, recoveries, checkpoints, syncs_failed } = self.ledger;
        let _infallible = write!(
            line,
            "recoveries={recoveries} tasks={tasks} acked={acked} deliveries={deliveries} checkpoints={checkpoints} \
             syncs_failed={syncs_failed} "
        );
        let seen = self.violations.len();
        if self.losses_expected {
            let lost = self.violations.iter().filter(|what| what.contains("LOST")).count();
            let verdict = if lost > 0 { "as it must" } else { "so the harness proves nothing" };
            let _infallible = write!(line, "expected losses, saw {lost}, {verdict}; seed={}", self.seed);
            return (line, lost > 0);
        }
        let _infallible = write!(line, "violations={seen} seed={}", self.seed);
        (line, seen == 0)
    }
}

/// Shares `amount` out over so many tracks beside one another, for most of the time is spent waiting for syncs. Each
/// has a seed that follows from `seed` and its number.
pub fn side_by_side(
    tracks: u64,
    seed: u64,
    amount: u64,
    run: impl Fn(u64, u64) -> Result<Outcome> + Sync,
) -> Result<Outcome> {
    let tracks = tracks.clamp(1, 64);
    let mut seeds = Rng::new(seed);
    let run = &run;
    let outcomes: Vec<Result<Outcome>> = thread::scope(|scope| {
        let start = |track: u64| {
            let share = amount / tracks + u64::from(track < amount % tracks);
            // Alone, a track can be run again by the seed that it names in its complaints.
            let own = if tracks == 1 { seed } else { seeds.next() };
            scope.spawn(move || run(own, share))
        };
        let running: Vec<_> = (0..tracks).map(start).collect();
        running.into_iter().map(|track| track.join().unwrap_or_else(|_| Err(anyhow!("a track panicked")))).collect()
    });
    let mut all = Outcome::new(seed);
    for outcome in outcomes {
        all.merge(outcome?);
    }
    Ok(all)
}
