//! What a child process does: one measurement of one engine, in an empty directory, and its outcome.

mod backlog;
mod closed;
mod latency;
mod limits;
mod meter;

use std::collections::BTreeMap;

use anyhow::Context;

use crate::engine::{Engine, Setup};
use crate::job::{Job, Outcome, Workload};

pub use backlog::hold_a_backlog;

/// Does it. What goes wrong makes the outcome void, with the reason.
pub fn run(engine: &dyn Engine, job: &Job) -> Outcome {
    let outcome = match job.workload {
        Workload::Append | Workload::Flow | Workload::Lanes | Workload::IdleLanes | Workload::Stragglers => {
            closed::run(engine, job)
        }
        Workload::Handoff | Workload::PingPong => latency::handoff(engine, job),
        Workload::OpenLoop => latency::open_loop(engine, job),
        Workload::BacklogBuild | Workload::BacklogDrain => backlog::run(engine, job),
        Workload::Reopen => backlog::reopen(engine, job),
        Workload::CopyCrc => limits::copy_crc(job),
        Workload::MemoryCopy => limits::memory_copy(job),
        Workload::PageCacheWrite => limits::page_cache_write(job),
    };
    outcome.unwrap_or_else(|error| Outcome { fault: Some(format!("{error:#}")), ..Outcome::default() })
}

/// How a store of this job is opened.
fn setup(job: &Job) -> anyhow::Result<Setup> {
    std::fs::create_dir_all(&job.dir).with_context(|| job.dir.display().to_string())?;
    Ok(Setup {
        dir: job.dir.clone(),
        durability: job.durability,
        lanes: job.lanes(),
        payload_bytes: job.payload_bytes,
        producers: job.producers,
        consumers: job.consumers,
    })
}

/// Latencies up to an hour, three digits of each.
type Histogram = hdrhistogram::Histogram<u64>;

fn histogram() -> anyhow::Result<Histogram> {
    Ok(Histogram::new_with_bounds(1, 3_600_000_000_000, 3)?)
}

/// The percentiles that are reported and drawn.
fn curve(histogram: &Histogram) -> Vec<(f64, u64)> {
    if histogram.is_empty() {
        return Vec::new();
    }
    let mut points = BTreeMap::new();
    let mut add = |millionths: u32| {
        let percentile = f64::from(millionths) / 10_000.0;
        points.insert(millionths, (percentile, histogram.value_at_percentile(percentile)));
    };
    (0..10).for_each(|tenth| add(tenth * 100_000));
    // Ten points of each further decade: 90, 91, … 99, 99.1, …
    for (from, step) in [(900_000, 10_000), (990_000, 1_000), (999_000, 100), (999_900, 10)] {
        (0..=10).for_each(|index| add(from + index * step));
    }
    points.into_values().collect()
}
