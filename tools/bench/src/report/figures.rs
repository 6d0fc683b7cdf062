//! All figures, for who wants to know exactly.

use super::bars::cants;
use super::html::{escape, heading};
use super::palette::Palette;
use crate::measurement::{COLUMNS, LEGEND, Measurement};
use crate::row::Row;

/// Where links to it go.
pub const ID: &str = "all-figures";

/// What the heads of the columns that a terminal has no room for leave unsaid.
const MORE: &str = " Disk: the store's directory in the end; faults: page faults of each task.";

/// The table, in a box that scrolls by itself, so that the page needn't.
pub fn section(measurements: &[Measurement<'_>], palette: &Palette) -> String {
    let heads: String = COLUMNS.iter().map(|column| format!("<th scope=\"col\">{}</th>", column.head)).collect();
    let blocks: String = measurements.iter().map(|measurement| block(measurement, palette)).collect();
    format!(
        "<section id=\"{ID}\"><h2>all figures</h2><p class=\"about\">{LEGEND}{MORE}</p>\
         <div class=\"scroll\" tabindex=\"0\"><table class=\"figures\">\
         <thead><tr><th scope=\"col\">engine</th>{heads}</tr></thead>\
         {blocks}</table></div></section>\n",
    )
}

fn block(measurement: &Measurement<'_>, palette: &Palette) -> String {
    let wide = COLUMNS.len() + 1;
    let words = cants(&measurement.cants());
    let words = if words.is_empty() {
        words
    } else {
        format!("<tr><td class=\"words\" colspan=\"{wide}\"><div>{words}</div></td></tr>")
    };
    format!(
        "<tbody><tr><th class=\"group\" colspan=\"{wide}\" scope=\"rowgroup\"><span>{}</span></th></tr>{}{words}</tbody>",
        heading(&measurement.heading()),
        measurement.shown().into_iter().map(|row| line(row, palette)).collect::<String>(),
    )
}

fn line(row: &Row, palette: &Palette) -> String {
    let cells: String = COLUMNS.iter().map(|column| format!("<td>{}</td>", (column.of)(row))).collect();
    format!("<tr class=\"{}\"><th scope=\"row\">{}</th>{cells}</tr>", palette.class(&row.engine), escape(&row.engine))
}
