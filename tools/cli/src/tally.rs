//! What happened so far: counts, the progress bar, the summary.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Counts of one run.
pub struct Tally {
    pub enqueued: AtomicU64,
    pub acked: AtomicU64,
    pub retried: AtomicU64,
    pub dead: AtomicU64,
    pub lost: AtomicU64,
    began: Instant,
    bar: ProgressBar,
}

impl Tally {
    /// Nothing yet; `left` tasks are in the queue already. Shows a bar if standard error is a terminal.
    pub fn new(left: u64) -> Self {
        let bar = if std::io::stderr().is_terminal() { ProgressBar::new(left) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} tasks, {per_sec}, {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_millis(200));
        Tally {
            enqueued: AtomicU64::new(0),
            acked: AtomicU64::new(0),
            retried: AtomicU64::new(0),
            dead: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            began: now(),
            bar,
        }
    }

    /// Tasks came in.
    pub fn add_enqueued(&self, count: u64) {
        self.enqueued.fetch_add(count, Ordering::Relaxed);
        self.bar.inc_length(count);
    }

    /// A task ended for good.
    pub fn end_one(&self, counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
        self.bar.inc(1);
    }

    /// Runs `write` with the bar out of the way.
    pub fn beside_bar<T>(&self, write: impl FnOnce() -> T) -> T {
        self.bar.suspend(write)
    }

    /// The bar goes, the summary comes.
    pub fn summarize(&self, left: u64) {
        self.bar.finish_and_clear();
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let lost = match get(&self.lost) {
            0 => String::new(),
            lost => format!(", leases lost {lost}"),
        };
        eprintln!(
            "lanelog: enqueued {}, acked {}, retried {}, dead {}, left {left}{lost} in {:.1} s",
            get(&self.enqueued),
            get(&self.acked),
            get(&self.retried),
            get(&self.dead),
            self.began.elapsed().as_secs_f64(),
        );
    }
}

#[expect(clippy::disallowed_methods, reason = "the command tells a person how long it took")]
fn now() -> Instant {
    Instant::now()
}
