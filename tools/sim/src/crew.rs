//! Threads that share the work, and the bar that shows how far they are.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use lanelog::sim::{Counts, Failure};

/// How many schedules a thread takes at a time.
const SHARE: u64 = 500;
/// After so many failures the rest is left: they are one bug, or the first one is enough.
const FAILURES_MAX: usize = 5;

/// The threads.
pub struct Crew {
    threads: usize,
}

impl Crew {
    pub fn new(threads: Option<usize>) -> anyhow::Result<Self> {
        let cores = || std::thread::available_parallelism().map(std::num::NonZero::get);
        let threads = match threads {
            Some(threads) => threads.max(1),
            None => cores().context("the number of cores is not known; say --threads")?,
        };
        Ok(Crew { threads })
    }

    /// Runs schedules, each of a seed of its own, and counts.
    pub fn schedules(&self, seed: u64, count: u64) -> anyhow::Result<(Counts, Vec<Failure>)> {
        self.in_shares(seed, count, SHARE, FAILURES_MAX)
    }

    /// Runs schedules until one fails.
    #[cfg(feature = "sabotage")]
    pub fn until_caught(&self, seed: u64, count: u64) -> anyhow::Result<(Counts, Vec<Failure>)> {
        self.in_shares(seed, count, 10, 1)
    }

    fn in_shares(
        &self,
        seed: u64,
        count: u64,
        share: u64,
        failures_max: usize,
    ) -> anyhow::Result<(Counts, Vec<Failure>)> {
        self.share(count.div_ceil(share), count, failures_max, |part, counts| {
            let from = part * share;
            lanelog::sim::run_seeds(seed.wrapping_add(from), share.min(count - from), counts)
        })
    }

    /// Gives each part of the work to whichever thread is free.
    pub fn share(
        &self,
        parts: u64,
        total: u64,
        failures_max: usize,
        work: impl Fn(u64, &mut Counts) -> Result<(), Failure> + Sync,
    ) -> anyhow::Result<(Counts, Vec<Failure>)> {
        let next = AtomicU64::new(0);
        let done = Mutex::new((Counts::default(), Vec::new()));
        let bar = bar(total);
        std::thread::scope(|scope| {
            for number in 0..self.threads {
                let worker = || {
                    loop {
                        let part = next.fetch_add(1, Ordering::Relaxed);
                        if part >= parts {
                            return;
                        }
                        let mut counts = Counts::default();
                        let outcome = work(part, &mut counts);
                        bar.inc(counts.schedules);
                        let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                        done.0.add(&counts);
                        done.1.extend(outcome.err());
                        if done.1.len() >= failures_max {
                            next.store(parts, Ordering::Relaxed);
                        }
                    }
                };
                let named = std::thread::Builder::new().name(format!("sim-{number}"));
                named.spawn_scoped(scope, worker).context("a thread could not be started")?;
            }
            anyhow::Ok(())
        })?;
        bar.finish_and_clear();
        Ok(done.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Shown on a terminal alone.
fn bar(total: u64) -> ProgressBar {
    let template = "{wide_bar} {pos}/{len} {per_sec} {eta}";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total).with_style(style)
}
