//! The result for a terminal: a block of aligned columns for each measurement.

use crate::measurement::{COLUMNS, Column, LEGEND, Measurement, has_figures, measurements, reason};
use crate::row::Row;

/// What a terminal is taken to hold; columns move closer where they would not fit.
const WIDTH_MAX: usize = 120;

/// All rows, by measurement.
pub fn table(rows: &[Row]) -> String {
    let blocks: String = measurements(rows).iter().map(block).collect();
    if blocks.is_empty() { blocks } else { blocks + &wrapped(LEGEND) }
}

/// The heading, the engines with figures in columns, and the others in words.
fn block(measurement: &Measurement<'_>) -> String {
    let mut text = format!("{}\n", measurement.heading());
    let shown = measurement.shown();
    if !shown.is_empty() {
        let mut lines = vec![heads()];
        lines.extend(shown.into_iter().map(cells));
        text += &aligned(&lines);
    }
    for row in measurement.rows.iter().filter(|row| !has_figures(row)) {
        text += &format!("{}  {}\n", row.engine, reason(row));
    }
    text + "\n"
}

fn heads() -> Vec<String> {
    let heads = columns().map(|column| column.head.to_owned());
    std::iter::once("engine".to_owned()).chain(heads).collect()
}

/// A terminal has no room for a space before the unit, which would look like one between columns.
fn cells(row: &Row) -> Vec<String> {
    let figures = columns().map(|column| (column.of)(row).replace('\u{a0}', ""));
    std::iter::once(row.engine.clone()).chain(figures).collect()
}

fn columns() -> impl Iterator<Item = &'static Column> {
    COLUMNS.iter().filter(|column| !column.is_extra)
}

/// The first column to the left, the others to the right.
fn aligned(lines: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for line in lines {
        widths.resize(widths.len().max(line.len()), 0);
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    let apart = if widths.iter().sum::<usize>() + 2 * widths.len() <= WIDTH_MAX + 2 { 2 } else { 1 };
    let mut text = String::new();
    for line in lines {
        for (at, (cell, &width)) in line.iter().zip(&widths).enumerate() {
            text += &if at == 0 { format!("{cell:<width$}") } else { format!("{:apart$}{cell:>width$}", "") };
        }
        text.push('\n');
    }
    text
}

fn wrapped(text: &str) -> String {
    let (mut wrapped, mut used) = (String::new(), 0);
    for word in text.split_whitespace() {
        let wide = word.chars().count() + 1;
        let breaks = used + wide > WIDTH_MAX;
        wrapped += match (used, breaks) {
            (0, _) => "",
            (_, true) => "\n",
            (_, false) => " ",
        };
        wrapped += word;
        used = if breaks { wide } else { used + wide };
    }
    wrapped + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{cant, row};

    #[test]
    fn engines_of_a_measurement_stand_in_aligned_columns_under_its_heading() {
        let mut other = row("append", "lanelog", 900.0);
        other.producers = 64;
        let rows = [row("append", "lanelog", 1_234_567.0), other, row("append", "raft-engine", 123.4)];
        let text = table(&rows);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "append · power · 1024 B · 1 producer · batch 1");
        assert!(lines[1].starts_with("engine") && lines[1].ends_with("×limit"));
        assert!(lines[2].contains("1.23M") && lines[3].contains("raft-engine"));
        assert_eq!(lines[5], "append · power · 1024 B · 64 producers · batch 1");
        let widths: Vec<usize> = lines[1..4].iter().map(|line| line.chars().count()).collect();
        assert!(widths.iter().all(|&width| width == widths[0] && width <= WIDTH_MAX), "{widths:?}\n{text}");
    }

    #[test]
    fn engine_that_cant_is_a_line_of_words() {
        let text = table(&[row("append", "lanelog", 900.0), cant("append", "yaque", "never syncs")]);
        assert!(text.lines().any(|line| line == "yaque  can't: never syncs"), "{text}");
    }

    #[test]
    fn nothing_is_shown_of_nothing() {
        assert_eq!(table(&[]), "");
    }
}
