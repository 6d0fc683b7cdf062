//! The result as one HTML page, to be looked at on a phone or a desk, by day or by night.
//!
//! It knows rows and how to draw them. Absent: files, clocks, the network. The page has no script and refers to nothing
//! outside of itself, so that it can be kept beside the JSON it was made from and still be read in ten years.

mod bars;
mod chart;
mod curves;
mod figures;
mod html;
mod machine;
mod palette;
mod scale;
#[cfg(test)]
pub mod tests;
mod words;

use crate::measurement::{Measurement, measurements};
use crate::row::Row;
use html::escape;
use palette::Palette;

const STYLE: &str = include_str!("style.css");

/// What a page says of the run it shows.
pub struct Title {
    /// The command that made it.
    pub command: String,
    /// Processor, memory, device, kernel.
    pub machine: String,
    /// The date.
    pub when: String,
}

/// The page.
pub fn page(title: &Title, rows: &[Row]) -> String {
    let palette = Palette::of(rows);
    let measurements = measurements(rows);
    let workloads = workloads(&measurements);
    let sections: String = workloads.iter().map(|workload| section(workload, &measurements, &palette)).collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\
         <meta name=\"color-scheme\" content=\"light dark\"/>\
         <title>lanelog and its peers</title><style>{STYLE}{}</style></head>\n\
         <body>{}{}<main>{}{sections}{}{}</main></body></html>\n",
        palette.css(),
        head(title),
        contents(&workloads, measurements.iter().any(machine::is_alone)),
        preface(rows),
        machine::section(&measurements),
        figures::section(&measurements, &palette),
    )
}

fn head(title: &Title) -> String {
    format!(
        "<header><p class=\"eyebrow\">lanelog-bench</p><h1>lanelog and its peers</h1>\
         <p class=\"lede\">The same work at the same durability, in one run.</p>\
         <dl class=\"run\"><dt>Command</dt><dd><code>{}</code></dd>\
         <dt>Machine</dt><dd>{}</dd><dt>Date</dt><dd>{}</dd></dl></header>\n",
        escape(&title.command),
        escape(&title.machine),
        escape(&title.when),
    )
}

fn contents(workloads: &[&str], has_machine: bool) -> String {
    let own = workloads.iter().map(|workload| (*workload, *workload));
    let machine = has_machine.then_some((machine::ID, "the machine alone"));
    let all = own.chain(machine).chain([(figures::ID, "all figures")]);
    let links = all.map(|(id, name)| format!("<a href=\"#{}\">{}</a>", escape(id), escape(name)));
    format!("<nav aria-label=\"Contents\">{}</nav>\n", links.collect::<String>())
}

fn preface(rows: &[Row]) -> String {
    format!(
        "<details class=\"card\" open=\"\"><summary>How to read it</summary>{}</details>\n\
         <details class=\"card\"><summary>Engines, versions, settings</summary>{}</details>\n",
        words::how_to_read(rows),
        engines(rows),
    )
}

/// Each engine once, with its settings at each durability that it was measured at.
fn engines(rows: &[Row]) -> String {
    let mut listed: Vec<&Row> = Vec::new();
    for row in rows.iter().filter(|row| !row.version.is_empty() || !row.settings.is_empty()) {
        let known = |other: &&Row| other.engine == row.engine && other.durability == row.durability;
        if !listed.iter().any(known) {
            listed.push(row);
        }
    }
    listed.sort_by_key(|row| (row.engine.as_str(), row.durability.name()));
    let line = |row: &&Row| {
        format!(
            "<dt><b>{}</b> {} <span class=\"quiet\">{}</span></dt><dd>{}</dd>",
            escape(&row.engine),
            escape(&row.version),
            row.durability.name(),
            escape(&row.settings),
        )
    };
    format!("<dl class=\"engines\">{}</dl>", listed.iter().map(line).collect::<String>())
}

/// The names of the workloads that engines take part in, in the order they were run in.
fn workloads<'a>(measurements: &[Measurement<'a>]) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for measurement in measurements.iter().filter(|measurement| !machine::is_alone(measurement)) {
        if !names.contains(&measurement.of.workload.as_str()) {
            names.push(&measurement.of.workload);
        }
    }
    names
}

/// A workload: its bars, how it scales, its latencies.
fn section(workload: &str, all: &[Measurement<'_>], palette: &Palette) -> String {
    let own: Vec<&Measurement<'_>> = all.iter().filter(|measurement| measurement.of.workload == workload).collect();
    let bars =
        own.iter().filter(|measurement| !curves::is_enough(measurement)).map(|measurement| bars::group(measurement));
    let curves = own.iter().filter(|measurement| curves::is_due(measurement));
    let blocks = [
        ("bars", bars.collect::<String>()),
        ("charts", scale::figures(&own, palette)),
        ("charts", curves.map(|measurement| curves::figure(measurement, palette)).collect()),
    ];
    let blocks = blocks.iter().filter(|(_, block)| !block.is_empty());
    let blocks: String = blocks.map(|(class, block)| format!("<div class=\"{class}-grid\">{block}</div>")).collect();
    let name = escape(workload);
    format!("<section id=\"{name}\"><h2>{name}</h2>{}{blocks}</section>\n", words::of_workload(workload))
}
