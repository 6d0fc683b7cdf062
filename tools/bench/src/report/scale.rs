//! Rates by the number of producers: who gains from company, and who is held up by it.

use super::chart::{Line, Log, Plot, layer, legend};
use super::html::heading;
use super::palette::Palette;
use crate::measurement::{Measurement, has_figures};
use crate::row::Row;
use crate::units;

/// Measurements that differ in the number of producers, and in that of consumers where it goes along.
type Family<'a> = Vec<&'a Measurement<'a>>;

/// A figure for each family of measurements that has several numbers of producers.
pub fn figures(measurements: &[&Measurement<'_>], palette: &Palette) -> String {
    let rates: Vec<&Measurement<'_>> =
        measurements.iter().copied().filter(|measurement| measurement.of.is_rate()).collect();
    let mut drawn = String::new();
    for family in families(&rates, |row| (row.durability, row.payload, row.batch, row.outstanding)) {
        if has_twins(&family) {
            let split = families(&family, |row| row.consumers);
            drawn.extend(split.iter().map(|family| figure(family, palette)));
        } else {
            drawn += &figure(&family, palette);
        }
    }
    drawn
}

/// Measurements apart by a key, each family by the number of producers.
fn families<'a, K: PartialEq>(measurements: &[&'a Measurement<'a>], key: impl Fn(&Row) -> K) -> Vec<Family<'a>> {
    let mut found: Vec<(K, Family<'a>)> = Vec::new();
    for &measurement in measurements {
        let key = key(measurement.of);
        match found.iter_mut().find(|(other, _)| *other == key) {
            Some((_, family)) => family.push(measurement),
            None => found.push((key, vec![measurement])),
        }
    }
    let sorted = found.into_iter().map(|(_, mut family)| {
        family.sort_by_key(|measurement| measurement.of.producers);
        family
    });
    sorted.collect()
}

/// Whether a number of producers was measured with several numbers of consumers: no line can go through both.
fn has_twins(family: &Family<'_>) -> bool {
    family.iter().zip(family.iter().skip(1)).any(|(one, next)| one.of.producers == next.of.producers)
}

fn figure(family: &Family<'_>, palette: &Palette) -> String {
    let (Some(first), Some(last)) = (family.first(), family.last()) else { return String::new() };
    let mut engines = engines(family);
    engines.sort_by_key(|(name, _)| layer(name));
    let rates = engines.iter().flat_map(|(_, rows)| rows).map(|row| row.tasks_per_s);
    let Some(scale) = Log::around(rates) else { return String::new() };
    let across = |producers: usize| share(producers, first.of.producers, last.of.producers);
    let is_paired = family.iter().all(|at| at.of.consumers == at.of.producers);
    let plot = Plot {
        label: format!("Tasks a second by producers: {}", first.heading()),
        axes: (if is_paired { "producers, with as many consumers" } else { "producers" }, "tasks/s"),
        below: family.iter().map(|at| (across(at.of.producers), at.of.producers.to_string())).collect(),
        beside: scale.ticks().into_iter().map(|tick| (scale.share(tick), units::number(tick.round()))).collect(),
        lines: engines.iter().map(|(name, rows)| line(palette.class(name), rows, &scale, across)).collect(),
    };
    format!(
        "<figure class=\"chart\"><figcaption><h3>{}</h3></figcaption>{}{}</figure>",
        heading(&caption(first.of, last.of)),
        plot.html(),
        gains(engines, (first.of.producers, last.of.producers), palette),
    )
}

/// What the family has in common, of which the fewest and the most producers are given.
fn caption(of: &Row, last: &Row) -> String {
    let mut parts = vec!["by producers".to_owned(), of.durability.name().to_owned(), units::payload(of.payload)];
    if of.consumers == last.consumers && of.consumers > 0 {
        parts.push(format!("{} consumer{}", of.consumers, if of.consumers == 1 { "" } else { "s" }));
    }
    parts.push(format!("batch {}", of.batch));
    if of.outstanding > 1 {
        parts.push(format!("{} outstanding", of.outstanding));
    }
    parts.join(" · ")
}

/// Where a number of producers stands: each doubling a step.
fn share(producers: usize, fewest: usize, most: usize) -> f64 {
    let doublings = |producers: usize| (producers.max(1) as f64).log2();
    (doublings(producers) - doublings(fewest)) / (doublings(most) - doublings(fewest)).max(f64::MIN_POSITIVE)
}

/// The engines with their rows, by the number of producers. A single one makes no line: the limit's is one thread's.
fn engines<'a>(family: &Family<'a>) -> Vec<(&'a str, Vec<&'a Row>)> {
    let mut found: Vec<(&str, Vec<&Row>)> = Vec::new();
    for row in family.iter().flat_map(|measurement| &measurement.rows).copied().filter(|row| has_figures(row)) {
        match found.iter_mut().find(|(name, _)| *name == row.engine) {
            Some((_, rows)) => rows.push(row),
            None => found.push((&row.engine, vec![row])),
        }
    }
    found.retain(|(_, rows)| rows.len() > 1);
    found
}

fn line(class: String, rows: &[&Row], scale: &Log, across: impl Fn(usize) -> f64) -> Line {
    let place = |row: &Row| (across(row.producers), scale.share(row.tasks_per_s));
    let dot = |row: &Row| {
        let (x, y) = place(row);
        (x, y, format!("{} with {}: {} tasks/s", row.engine, row.producers, units::number(row.tasks_per_s)))
    };
    let points = rows.iter().map(|row| place(row)).collect();
    Line { class, points, faint: Vec::new(), dots: rows.iter().map(|row| dot(row)).collect() }
}

/// The legend: the rates of the fewest and of the most producers, and their ratio.
fn gains(mut engines: Vec<(&str, Vec<&Row>)>, (fewest, most): (usize, usize), palette: &Palette) -> String {
    let with = |rows: &[&Row], producers| rows.iter().find(|row| row.producers == producers).map(|row| row.tasks_per_s);
    engines.sort_by(|(_, a), (_, b)| with(b, most).unwrap_or(0.0).total_cmp(&with(a, most).unwrap_or(0.0)));
    let cells = |rows: &[&Row]| {
        let (one, many) = (with(rows, fewest), with(rows, most));
        let rate = |rate: Option<f64>| rate.map_or(units::NONE.to_owned(), units::number);
        vec![rate(one), rate(many), units::ratio(one.zip(many).map(|(one, many)| many / one))]
    };
    let lines: Vec<_> = engines.iter().map(|(name, rows)| (palette.class(name), *name, cells(rows))).collect();
    legend(&[&format!("with {fewest}"), &format!("with {most}"), "gain"], &lines)
}
