//! What happened so far: counts, the progress bar, the summary.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::output;
use crate::queue::Counts;

/// Counts of one run.
pub struct Tally {
    pub enqueued: AtomicU64,
    pub acked: AtomicU64,
    pub retried: AtomicU64,
    pub lost: AtomicU64,
    began: Instant,
    bar: ProgressBar,
}

impl Tally {
    /// Nothing yet; `left` tasks are in the queue already. Shows a bar if standard error is a terminal.
    pub fn new(left: u64) -> Self {
        let bar = if std::io::stderr().is_terminal() { progress(left) } else { ProgressBar::hidden() };
        let none = || AtomicU64::new(0);
        Tally { enqueued: none(), acked: none(), retried: none(), lost: none(), began: now(), bar }
    }

    /// Tasks came in.
    pub fn add_enqueued(&self, count: u64) {
        self.enqueued.fetch_add(count, Ordering::Relaxed);
        self.bar.inc_length(count);
    }

    /// Tasks are done.
    pub fn add_acked(&self, count: u64) {
        self.acked.fetch_add(count, Ordering::Relaxed);
        self.bar.inc(count);
    }

    /// A task will never be done.
    pub fn add_dead(&self) {
        self.bar.inc(1);
    }

    /// Runs `write` with the bar out of the way.
    pub fn beside_bar<T>(&self, write: impl FnOnce() -> T) -> T {
        self.bar.suspend(write)
    }

    /// The bar goes, and what `enqueue` did comes; `hits` of the items were there before.
    pub fn say_enqueued(&self, hits: u64) {
        self.bar.finish_and_clear();
        let enqueued = self.enqueued.load(Ordering::Relaxed).saturating_sub(hits);
        let before = if hits > 0 { format!(", {hits} were there before") } else { String::new() };
        output::tell(&format!("enqueued {enqueued}{before} in {:.1} s", self.began.elapsed().as_secs_f64()));
    }

    /// The bar goes, the summary comes: what is left in the queue, and how many died in this run.
    pub fn summarize(&self, Counts { left, dead, .. }: Counts) {
        self.bar.finish_and_clear();
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (enqueued, acked, retried) = (of(&self.enqueued), of(&self.acked), of(&self.retried));
        let lost = Some(of(&self.lost)).filter(|lost| *lost > 0);
        let lost = lost.map(|lost| format!(", leases lost {lost}")).unwrap_or_default();
        let hint = if dead > 0 { " (lanelog dump shows why)" } else { "" };
        let seconds = self.began.elapsed().as_secs_f64();
        output::tell(&format!(
            "enqueued {enqueued}, acked {acked}, retried {retried}, dead {dead}{hint}, left {left}{lost} in {seconds:.1} s"
        ));
    }
}

fn progress(left: u64) -> ProgressBar {
    let bar = ProgressBar::new(left);
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} tasks, {per_sec}, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

#[expect(clippy::disallowed_methods, reason = "the command tells a person how long it took")]
fn now() -> Instant {
    Instant::now()
}
