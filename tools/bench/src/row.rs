//! A row of the result: an engine's rounds of one measurement, as medians with their spread.

use serde::{Deserialize, Serialize};

use crate::engine::Durability;
use crate::job::{Job, Key, Outcome, Workload};

/// One line of `--json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// What was done: a [`Workload`]'s name.
    pub workload: String,
    /// By whom; `limit` for what the machine itself does.
    pub engine: String,
    /// Its version.
    pub version: String,
    /// Its settings, in words.
    pub settings: String,
    /// What each enqueue and ack had reached.
    pub durability: Durability,
    /// Bytes of each payload.
    pub payload: usize,
    /// Threads that sent.
    pub producers: usize,
    /// Threads that took.
    pub consumers: usize,
    /// Tasks of a call.
    pub batch: usize,
    /// Tasks of a producer that could be accepted and not yet durable.
    pub outstanding: usize,
    /// Rounds that count.
    pub rounds: usize,
    /// Why there are no figures: the engine can't, or a round was void.
    pub cant: Option<String>,
    /// The median over the rounds, as are all that follow but the spread.
    pub tasks_per_s: f64,
    /// The slowest round's.
    pub tasks_per_s_min: f64,
    /// The fastest round's.
    pub tasks_per_s_max: f64,
    /// Payload.
    pub bytes_per_s: f64,
    /// Latency, as the workload defines it; 0 where none was taken.
    pub p50_ns: u64,
    /// Likewise.
    pub p99_ns: u64,
    /// Likewise.
    pub p999_ns: u64,
    /// Likewise.
    pub p9999_ns: u64,
    /// The worst of all rounds.
    pub max_ns: u64,
    /// (percentile, nanoseconds), ascending: the medians over the rounds of each percentile.
    pub curve: Vec<(f64, u64)>,
    /// CPU time of all processes that took part.
    pub cpu_s: f64,
    /// The same for each task, in nanoseconds.
    pub cpu_ns_per_task: f64,
    /// The most anonymous memory at once.
    pub peak_anon_bytes: u64,
    /// Written to the block device.
    pub device_bytes_per_task: f64,
    /// Flushes of the block device's cache.
    pub syncs_per_task: f64,
    /// What the store's directory took on disk in the end, the most of all rounds.
    pub disk_bytes: u64,
    /// Page faults.
    pub faults_per_task: f64,
    /// Every acknowledged task came, once, with its content, in every round.
    pub verified: bool,
    /// Against lanelog's median in the same run.
    pub to_lanelog: Option<f64>,
    /// Against the limit's in the same run.
    pub to_limit: Option<f64>,
}

/// What the rounds of one job gave, or why there are none.
pub struct Rounds<'a> {
    /// What was asked.
    pub job: &'a Job,
    /// The engine's version and settings.
    pub version: String,
    /// In words.
    pub settings: String,
    /// One for each round.
    pub outcomes: Vec<Outcome>,
    /// Why there are none.
    pub cant: Option<String>,
}

impl Row {
    /// The medians. A round that was not verified makes the row void.
    pub fn of(rounds: &Rounds<'_>) -> Row {
        let job = rounds.job;
        let outcomes = &rounds.outcomes;
        let void = outcomes.iter().find(|outcome| !outcome.verified).map(|outcome| {
            format!("void: {}", outcome.fault.as_deref().unwrap_or("not all that was acknowledged came"))
        });
        let cant = rounds.cant.clone().or(void);
        let outcomes: &[Outcome] = if cant.is_some() { &[] } else { outcomes };
        let middle = |of: &dyn Fn(&Outcome) -> f64| median(outcomes.iter().map(of).collect());
        let per_task = |of: &dyn Fn(&Outcome) -> f64| middle(&|outcome| of(outcome) / count(outcome.tasks).max(1.0));
        let rate = |outcome: &Outcome| count(outcome.tasks) / outcome.seconds.max(1e-9);
        let curve = curve(outcomes);
        Row {
            workload: job.workload.name().to_owned(),
            engine: job.engine.clone(),
            version: rounds.version.clone(),
            settings: rounds.settings.clone(),
            durability: job.durability,
            payload: job.payload_bytes,
            producers: job.producers,
            consumers: job.consumers,
            batch: job.batch,
            outstanding: job.outstanding,
            rounds: outcomes.len(),
            tasks_per_s: middle(&rate),
            tasks_per_s_min: outcomes.iter().map(rate).reduce(f64::min).unwrap_or(0.0),
            tasks_per_s_max: outcomes.iter().map(rate).reduce(f64::max).unwrap_or(0.0),
            bytes_per_s: middle(&|outcome| rate(outcome) * count(job.payload_bytes as u64)),
            p50_ns: at(&curve, 50.0),
            p99_ns: at(&curve, 99.0),
            p999_ns: at(&curve, 99.9),
            p9999_ns: at(&curve, 99.99),
            max_ns: outcomes.iter().filter_map(|outcome| outcome.curve.last()).map(|&(_, ns)| ns).max().unwrap_or(0),
            curve,
            cpu_s: middle(&|outcome| outcome.cpu_s),
            cpu_ns_per_task: per_task(&|outcome| outcome.cpu_s * 1e9),
            peak_anon_bytes: outcomes.iter().map(|outcome| outcome.peak_anon_bytes).max().unwrap_or(0),
            device_bytes_per_task: middle(&|outcome| count(outcome.device_bytes) / count(outcome.device_tasks.max(1))),
            syncs_per_task: middle(&|outcome| count(outcome.syncs) / count(outcome.device_tasks.max(1))),
            disk_bytes: outcomes.iter().map(|outcome| outcome.disk_bytes).max().unwrap_or(0),
            faults_per_task: per_task(&|outcome| count(outcome.faults)),
            verified: cant.is_none() && !outcomes.is_empty(),
            cant,
            to_lanelog: None,
            to_limit: None,
        }
    }

    /// Whether it is what this job gave.
    pub fn is_of(&self, job: &Job) -> bool {
        self.engine == job.engine && self.key() == job.key()
    }

    /// Whether another row measures the same, by another engine.
    pub fn is_comparable(&self, other: &Row) -> bool {
        self.key() == other.key()
    }

    fn key(&self) -> Key<'_> {
        let threads = [self.producers, self.consumers];
        (&self.workload, self.durability, self.payload, threads, self.batch, self.outstanding)
    }

    /// Whether this is the bare sync that an append at `Power` is held against: its payload matters little.
    fn is_bare_sync_for(&self, other: &Row) -> bool {
        let is_append = |row: &Row| row.workload == Workload::Append.name() && row.durability == Durability::Power;
        is_append(self) && is_append(other) && self.producers == 1 && self.payload <= 4096
    }

    /// Whether the rate is what matters: elsewhere it is the latency.
    pub fn is_rate(&self) -> bool {
        let latency = [Workload::Handoff, Workload::PingPong, Workload::OpenLoop, Workload::Reopen];
        !latency.iter().any(|workload| workload.name() == self.workload)
    }
}

/// Fills in the ratios: of rates, or of median latencies, where more than 1 is better than what it is held against.
pub fn compare(rows: &mut [Row]) {
    let ratio = |row: &Row, with: &Row| {
        let ratio =
            if row.is_rate() { row.tasks_per_s / with.tasks_per_s } else { count(with.p50_ns) / count(row.p50_ns) };
        Some(ratio).filter(|ratio| ratio.is_finite() && row.verified && with.verified)
    };
    let others = rows.to_vec();
    for row in rows {
        let with = |name: &str| others.iter().find(|other| other.engine == name && other.is_comparable(row));
        // A bare fdatasync is one thread's, whatever is held against it: each engine's producers share theirs.
        let bare = || others.iter().find(|other| other.engine == "limit" && other.is_bare_sync_for(row));
        let to_lanelog = with("lanelog").and_then(|other| ratio(row, other));
        let to_limit = with("limit").or_else(bare).and_then(|other| ratio(row, other));
        (row.to_lanelog, row.to_limit) = (to_lanelog, to_limit);
    }
}

/// The middle one, or the mean of the two in the middle; 0 of nothing.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match (figures.get(middle), middle.checked_sub(1).and_then(|below| figures.get(below))) {
        (Some(&upper), Some(&lower)) if figures.len().is_multiple_of(2) => f64::midpoint(lower, upper),
        (Some(&middle), _) => middle,
        (None, _) => 0.0,
    }
}

/// For each percentile the median over the rounds.
fn curve(outcomes: &[Outcome]) -> Vec<(f64, u64)> {
    let Some(first) = outcomes.first() else { return Vec::new() };
    let points = first.curve.iter().map(|&(percentile, _)| {
        let of_rounds = outcomes.iter().map(|outcome| count(at(&outcome.curve, percentile))).collect();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a latency, far below 2^53 ns")]
        let ns = median(of_rounds) as u64;
        (percentile, ns)
    });
    points.collect()
}

fn at(curve: &[(f64, u64)], percentile: f64) -> u64 {
    curve.iter().find(|&&(other, _)| other >= percentile).map_or(0, |&(_, ns)| ns)
}

/// Counts as figures: exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^53")]
pub fn count(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(engine: &str) -> Job {
        Job {
            workload: Workload::Append,
            engine: engine.to_owned(),
            durability: Durability::Process,
            payload_bytes: 100,
            producers: 1,
            consumers: 0,
            batch: 1,
            outstanding: 1,
            seconds: 1.0,
            bytes_max: 1,
            rate: 0.0,
            dir: "nowhere".into(),
        }
    }

    fn row(engine: &str, tasks: &[u64]) -> Row {
        let outcome = |&tasks| Outcome {
            tasks,
            seconds: 2.0,
            curve: vec![(0.0, 1), (50.0, tasks), (100.0, 10 * tasks)],
            verified: tasks > 0,
            ..Outcome::default()
        };
        let outcomes = tasks.iter().map(outcome).collect();
        let (version, settings) = (String::new(), String::new());
        Row::of(&Rounds { job: &job(engine), version, settings, outcomes, cant: None })
    }

    #[test]
    fn row_has_the_medians_of_its_rounds_and_the_worst_maximum() {
        let row = row("a", &[300, 100, 200]);
        assert_eq!((row.tasks_per_s, row.tasks_per_s_min, row.tasks_per_s_max), (100.0, 50.0, 150.0));
        assert_eq!((row.p50_ns, row.max_ns, row.verified), (200, 3000, true));
    }

    #[test]
    fn one_round_that_was_not_verified_makes_the_row_void() {
        let row = row("a", &[300, 0, 200]);
        assert_eq!((row.verified, row.tasks_per_s, row.rounds), (false, 0.0, 0));
        assert!(row.cant.unwrap().starts_with("void"));
    }

    #[test]
    fn ratios_are_against_the_same_measurement() {
        let mut rows = [row("lanelog", &[400]), row("limit", &[800]), row("b", &[100])];
        compare(&mut rows);
        assert_eq!((rows[0].to_limit, rows[2].to_lanelog), (Some(0.5), Some(0.25)));
        rows[2].batch = 64;
        compare(&mut rows);
        assert_eq!(rows[2].to_lanelog, None);
    }
}
