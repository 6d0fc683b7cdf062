//! What the machine does alone, where no engine takes part: a line each, for there is nothing to hold side by side.

use super::html::escape;
use super::words;
use crate::measurement::{Measurement, has_figures};
use crate::row::Row;
use crate::units;

/// Where links to it go.
pub const ID: &str = "machine";

/// Whether no engine takes part.
pub fn is_alone(measurement: &Measurement<'_>) -> bool {
    measurement.rows.iter().all(|row| row.engine == "limit" && words::is_of_machine(&row.workload))
}

/// The lines, if there are any.
pub fn section(measurements: &[Measurement<'_>]) -> String {
    let alone = measurements.iter().filter(|measurement| is_alone(measurement));
    let lines: String = alone.map(|measurement| line(measurement.of)).collect();
    if lines.is_empty() {
        return lines;
    }
    format!(
        "<section id=\"{ID}\"><h2>the machine alone</h2><p class=\"about\">One thread, no engine, no queue.</p>\
         <dl class=\"machine\">{lines}</dl></section>\n",
    )
}

fn line(row: &Row) -> String {
    let spread = units::spread(row.tasks_per_s_min, row.tasks_per_s, row.tasks_per_s_max);
    let rate = if has_figures(row) { format!("{}B/s", units::number(row.bytes_per_s)) } else { units::NONE.to_owned() };
    format!(
        "<dt>{}</dt><dd class=\"quiet\">{} {} at a time.</dd>\
         <dd class=\"value\"><b>{rate}</b> <span class=\"quiet\">{spread}</span></dd>",
        escape(&row.workload),
        escape(words::find(&row.workload).0),
        units::payload(row.payload),
    )
}
