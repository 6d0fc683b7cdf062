//! Rows put together: those of one measurement side by side, and what each of their figures is called.
//!
//! The table of the terminal and the page both show these; neither decides what is comparable with what.

use crate::row::{Row, count};
use crate::units;

/// What several engines did, all else equal.
pub struct Measurement<'a> {
    /// One of the rows, which says what was done: all say the same.
    pub of: &'a Row,
    /// All rows, in the order they were measured in.
    pub rows: Vec<&'a Row>,
}

/// The measurements, in the order of their first rows.
pub fn measurements(rows: &[Row]) -> Vec<Measurement<'_>> {
    let mut found: Vec<Measurement<'_>> = Vec::new();
    for row in rows {
        match found.iter_mut().find(|measurement| measurement.of.is_comparable(row)) {
            Some(measurement) => measurement.rows.push(row),
            None => found.push(Measurement { of: row, rows: vec![row] }),
        }
    }
    found
}

impl<'a> Measurement<'a> {
    /// "append · power · 1024 B · 64 producers · batch 1".
    pub fn heading(&self) -> String {
        format!("{} · {}", self.of.workload, self.setting())
    }

    /// The heading without the workload. What takes no part, or waits for each call as usual, is not said.
    pub fn setting(&self) -> String {
        let of = self.of;
        let mut parts = vec![of.durability.name().to_owned(), units::payload(of.payload)];
        parts.extend(several(of.producers, "producer"));
        parts.extend(several(of.consumers, "consumer"));
        parts.push(format!("batch {}", of.batch));
        if of.outstanding > 1 {
            parts.push(format!("{} outstanding", of.outstanding));
        }
        parts.join(" · ")
    }

    /// The rows that have figures.
    pub fn shown(&self) -> Vec<&'a Row> {
        self.rows.iter().copied().filter(|row| has_figures(row)).collect()
    }

    /// The others: each reason with the engines that have it, "void: …" or "can't: …".
    pub fn cants(&self) -> Vec<(String, Vec<&'a str>)> {
        let mut found: Vec<(String, Vec<&str>)> = Vec::new();
        for row in self.rows.iter().copied().filter(|row| !has_figures(row)) {
            let why = reason(row);
            match found.iter_mut().find(|(other, _)| *other == why) {
                Some((_, engines)) => engines.push(&row.engine),
                None => found.push((why, vec![&row.engine])),
            }
        }
        found
    }
}

/// Why a row has no figures, as it follows the engine's name.
pub fn reason(row: &Row) -> String {
    match row.cant.as_deref() {
        Some(void) if void.starts_with("void") => void.to_owned(),
        Some(reason) => format!("can't: {reason}"),
        None => "void: no round gave a figure".to_owned(),
    }
}

/// Whether there is anything to draw.
pub fn has_figures(row: &Row) -> bool {
    let figure = if row.is_rate() { row.tasks_per_s } else { count(row.p50_ns) };
    row.cant.is_none() && figure.is_finite() && figure > 0.0
}

fn several(count: usize, what: &str) -> Option<String> {
    (count > 0).then(|| format!("{count} {what}{}", if count == 1 { "" } else { "s" }))
}

/// A figure of a row, under its name.
pub struct Column {
    /// What it is called, as short as a column's head must be.
    pub head: &'static str,
    /// The figure in words.
    pub of: fn(&Row) -> String,
    /// Whether it's left out where 120 characters must do.
    pub is_extra: bool,
}

/// All figures of a row.
pub const COLUMNS: [Column; 17] = [
    column("tasks/s", |row| units::number(row.tasks_per_s)),
    column("spread", |row| units::spread(row.tasks_per_s_min, row.tasks_per_s, row.tasks_per_s_max)),
    column("MB/s", |row| units::number(row.bytes_per_s / 1e6)),
    column("p50", |row| units::nanoseconds(count(row.p50_ns))),
    column("p99", |row| units::nanoseconds(count(row.p99_ns))),
    column("p99.9", |row| units::nanoseconds(count(row.p999_ns))),
    extra("p99.99", |row| units::nanoseconds(count(row.p9999_ns))),
    column("max", |row| units::nanoseconds(count(row.max_ns))),
    column("CPU", |row| units::nanoseconds(row.cpu_ns_per_task)),
    column("anon", |row| units::bytes(count(row.peak_anon_bytes))),
    column("device", |row| units::bytes(row.device_bytes_per_task)),
    column("syncs", |row| units::number(row.syncs_per_task)),
    extra("disk", |row| units::bytes(count(row.disk_bytes))),
    extra("faults", |row| units::number(row.faults_per_task)),
    column("×lanelog", |row| units::ratio(row.to_lanelog)),
    column("×limit", |row| units::ratio(row.to_limit)),
    extra("rounds", |row| row.rounds.to_string()),
];

/// What the heads of the columns leave unsaid.
pub const LEGEND: &str = "Medians of the rounds; spread: half of the way from the slowest to the fastest round; max: of \
     all rounds; CPU, device and syncs: of each task; anon: peak of anonymous memory; ×: more than 1 is better than that.";

const fn column(head: &'static str, of: fn(&Row) -> String) -> Column {
    Column { head, of, is_extra: false }
}

const fn extra(head: &'static str, of: fn(&Row) -> String) -> Column {
    Column { head, of, is_extra: true }
}
