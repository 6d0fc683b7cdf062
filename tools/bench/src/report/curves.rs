//! Latency by percentile: how bad it gets for the unlucky.

use super::bars::cants;
use super::chart::{Line, Log, Plot, layer, legend};
use super::html::heading;
use super::palette::Palette;
use crate::engine::Durability;
use crate::job::Workload;
use crate::measurement::Measurement;
use crate::row::{Row, count};
use crate::units;

/// Where the percentiles end; right of it there is only the worst.
const RIGHT: f64 = 0.83;
const FROM: f64 = 50.0;
const TO: f64 = 99.99;
const LABELS: [(f64, &str); 5] = [(50.0, "50"), (90.0, "90"), (99.0, "99"), (99.9, "99.9"), (99.99, "99.99")];

/// Whether a measurement is shown as curves: where latency is the point, and for appends that wait for the device.
pub fn is_due(measurement: &Measurement<'_>) -> bool {
    let of = measurement.of;
    let is_sync = of.workload == Workload::Append.name() && of.durability == Durability::Power;
    (is_sync || !of.is_rate()) && measurement.shown().into_iter().any(has_curve)
}

/// Whether the curves say it all, so that no bars are needed.
pub fn is_enough(measurement: &Measurement<'_>) -> bool {
    !measurement.of.is_rate() && is_due(measurement)
}

/// One measurement, with a legend that has the figures.
pub fn figure(measurement: &Measurement<'_>, palette: &Palette) -> String {
    let mut rows: Vec<&Row> = measurement.shown().into_iter().filter(|row| row.p50_ns > 0).collect();
    let figures = rows.iter().flat_map(|row| points(row).map(|(_, ns)| ns).chain([count(row.max_ns)]));
    let Some(scale) = Log::around(figures) else { return String::new() };
    let beside = scale.ticks().into_iter().map(|tick| (scale.share(tick), tick_label(tick)));
    let mut below: Vec<(f64, String)> = LABELS.iter().map(|&(at, label)| (across(at), label.to_owned())).collect();
    below.push((1.0, "max".to_owned()));
    rows.sort_by_key(|row| layer(&row.engine));
    let plot = Plot {
        label: format!("Latency by percentile: {}", measurement.heading()),
        axes: ("percentile", "latency"),
        below,
        beside: beside.collect(),
        lines: rows.iter().map(|row| curve(row, &scale, palette)).collect(),
    };
    rows.sort_by_key(|row| row.p50_ns);
    let cants = if is_enough(measurement) { cants(&measurement.cants()) } else { String::new() };
    format!(
        "<figure class=\"chart\"><figcaption><h3>{}</h3></figcaption>{}{}{cants}</figure>",
        heading(&format!("latency · {}", measurement.setting())),
        plot.html(),
        figures_of(&rows, palette),
    )
}

fn curve(row: &Row, scale: &Log, palette: &Palette) -> Line {
    let hint = format!("{}: the worst was {}", row.engine, units::nanoseconds(count(row.max_ns)));
    let worst = (1.0, scale.share(count(row.max_ns)));
    let points: Vec<(f64, f64)> = points(row).map(|(percentile, ns)| (across(percentile), scale.share(ns))).collect();
    Line {
        class: palette.class(&row.engine),
        // Nothing is known between the last percentile and the worst: a faint line only says which dot is whose.
        faint: points.last().map(|&last| vec![last, worst]).unwrap_or_default(),
        points,
        dots: vec![(worst.0, worst.1, hint)],
    }
}

/// The part of the curve that is drawn, never at 0, which has no place on a logarithmic scale.
fn points(row: &Row) -> impl Iterator<Item = (f64, f64)> {
    let drawn = row.curve.iter().filter(|(percentile, _)| (FROM..=TO).contains(percentile));
    drawn.map(|&(percentile, ns)| (percentile, count(ns.max(1))))
}

/// A single latency, as of an opened store, has the same value at each percentile: that is no curve.
fn has_curve(row: &Row) -> bool {
    let (first, last) = (points(row).next(), points(row).last());
    first.zip(last).is_some_and(|((_, first), (_, last))| first < last)
}

/// Where a percentile stands: by how few are beyond it, each tenth of them a step.
fn across(percentile: f64) -> f64 {
    let beyond = |percentile: f64| -(1.0 - percentile / 100.0).log10();
    (beyond(percentile) - beyond(FROM)) / (beyond(TO) - beyond(FROM)) * RIGHT
}

/// Ticks are round: "10 µs" says more than "10.0 µs".
fn tick_label(ns: f64) -> String {
    units::nanoseconds(ns.round())
}

fn figures_of(rows: &[&Row], palette: &Palette) -> String {
    let cells = |row: &Row| {
        let mut cells: Vec<String> =
            [row.p50_ns, row.p99_ns, row.p999_ns, row.max_ns].iter().map(|&ns| units::nanoseconds(count(ns))).collect();
        if !row.is_rate() {
            cells.push(units::ratio(row.to_lanelog));
        }
        cells
    };
    let engines: Vec<_> =
        rows.iter().map(|row| (palette.class(&row.engine), row.engine.as_str(), cells(row))).collect();
    let is_rate = rows.iter().any(|row| row.is_rate());
    let heads: &[&str] =
        if is_rate { &["p50", "p99", "p99.9", "max"] } else { &["p50", "p99", "p99.9", "max", "×lanelog"] };
    legend(heads, &engines)
}
