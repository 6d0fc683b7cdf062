//! What the line charts share: logarithmic scales, the plot, the legend.
//!
//! Lines are SVG that is stretched to the plot's box with strokes of constant width; text and dots are boxes placed by
//! percentages. So a chart fills any width, and its letters are as large on a phone as on a desk.

use super::html::{escape, percent};

/// The SVG's own units for both of its sides.
const SIDE: f64 = 1000.0;
/// More labels than this would touch one another.
const TICKS_MAX: usize = 9;
/// A legend with more columns leaves one out on a phone.
const COLUMNS_MAX: usize = 4;

/// A logarithmic scale between two round numbers.
pub struct Log {
    low: f64,
    high: f64,
}

impl Log {
    /// The scale that holds all these; none without a positive number.
    pub fn around(figures: impl Iterator<Item = f64>) -> Option<Log> {
        let figures = figures.filter(|figure| figure.is_finite() && *figure > 0.0);
        let (low, high) = figures.fold((f64::INFINITY, 0.0), |(low, high), figure| (figure.min(low), figure.max(high)));
        if high == 0.0 {
            return None;
        }
        let below = rounds(low).rev().find(|round| *round <= low * 1.0001).unwrap_or(low);
        let above = rounds(high).find(|round| *round >= high * 0.9999 && *round > below).unwrap_or(high);
        Some(Log { low: below, high: above })
    }

    /// Where a figure stands, from 0 for the lowest to 1 for the highest.
    pub fn share(&self, figure: f64) -> f64 {
        ((figure.max(self.low) / self.low).ln() / (self.high / self.low).ln()).clamp(0.0, 1.0)
    }

    /// Round numbers to be labelled: 1, 2 and 5 of each decade, or only its 1 where that would be too many.
    pub fn ticks(&self) -> Vec<f64> {
        let within = |round: &f64| (self.low * 0.9999..=self.high * 1.0001).contains(round);
        let mut ticks: Vec<f64> = (-3..15).flat_map(decade_of).filter(within).collect();
        if ticks.len() > TICKS_MAX {
            ticks.retain(|tick| (tick.log10() - tick.log10().round()).abs() < 1e-6);
        }
        ticks
    }
}

/// Round numbers in the decades around a figure.
fn rounds(figure: f64) -> impl DoubleEndedIterator<Item = f64> {
    #[expect(clippy::cast_possible_truncation, reason = "the logarithm of a finite number is below 309")]
    let decade = figure.log10().floor() as i32;
    (decade - 1..=decade + 1).flat_map(decade_of)
}

fn decade_of(decade: i32) -> [f64; 3] {
    [1.0, 2.0, 5.0].map(|round| round * 10f64.powi(decade))
}

/// An engine's line in shares of the plot, from the lower left.
pub struct Line {
    /// The engine's, of the palette.
    pub class: String,
    /// What the line joins.
    pub points: Vec<(f64, f64)>,
    /// Likewise, but not measured in between.
    pub faint: Vec<(f64, f64)>,
    /// Points that are marked, with what is said to who points at them.
    pub dots: Vec<(f64, f64, String)>,
}

/// What is drawn.
pub struct Plot {
    /// For who can't see it.
    pub label: String,
    /// What the axes show.
    pub axes: (&'static str, &'static str),
    /// Where labels stand below.
    pub below: Vec<(f64, String)>,
    /// And at the left.
    pub beside: Vec<(f64, String)>,
    /// The last is on top.
    pub lines: Vec<Line>,
}

impl Plot {
    /// As HTML.
    pub fn html(&self) -> String {
        let below = self
            .below
            .iter()
            .map(|(x, text)| format!("<span class=\"x\" style=\"left:{}\">{text}</span>", percent(*x)));
        let beside = self
            .beside
            .iter()
            .map(|(y, text)| format!("<span class=\"y\" style=\"top:{}\">{text}</span>", percent(1.0 - y)));
        format!(
            "<p class=\"axis\">{}</p><div class=\"plot\"><svg viewBox=\"0 0 {SIDE} {SIDE}\" preserveAspectRatio=\"none\" \
             role=\"img\" aria-label=\"{}\">{}{}</svg>{}{}{}</div><p class=\"axis under\">{}</p>",
            self.axes.1,
            escape(&self.label),
            self.grid(),
            self.lines.iter().map(line).collect::<String>(),
            below.collect::<String>(),
            beside.collect::<String>(),
            self.lines.iter().map(dots).collect::<String>(),
            self.axes.0,
        )
    }

    fn grid(&self) -> String {
        let down = self.below.iter().map(|(x, _)| format!("M{0:.1} 0V{SIDE}", x * SIDE));
        let across = self.beside.iter().map(|(y, _)| format!("M0 {0:.1}H{SIDE}", (1.0 - y) * SIDE));
        format!("<path class=\"grid\" d=\"{}\"/>", down.chain(across).collect::<String>())
    }
}

fn line(line: &Line) -> String {
    stroke(&line.class, &line.points) + &stroke(&format!("faint {}", line.class), &line.faint)
}

fn stroke(class: &str, points: &[(f64, f64)]) -> String {
    if points.is_empty() {
        return String::new();
    }
    let points: Vec<String> = points.iter().map(|(x, y)| format!("{:.1},{:.1}", x * SIDE, (1.0 - y) * SIDE)).collect();
    format!("<polyline class=\"mark {class}\" points=\"{}\"/>", points.join(" "))
}

fn dots(line: &Line) -> String {
    let dot = |(x, y, hint): &(f64, f64, String)| {
        let (left, top) = (percent(*x), percent(1.0 - y));
        format!("<i class=\"mark dot {}\" style=\"left:{left};top:{top}\" title=\"{}\"></i>", line.class, escape(hint))
    };
    line.dots.iter().map(dot).collect()
}

/// A legend that also has the figures: heads, and for each engine its class, its name and its cells.
pub fn legend(heads: &[&str], engines: &[(String, &str, Vec<String>)]) -> String {
    let cell = |text: &String| format!("<td>{text}</td>");
    let row = |(class, name, cells): &(String, &str, Vec<String>)| {
        format!(
            "<tr class=\"{class}\"><th scope=\"row\"><svg class=\"key\" viewBox=\"0 0 22 8\" aria-hidden=\"true\">\
             <polyline class=\"{class}\" points=\"0,4 22,4\"/></svg>{}</th>{}</tr>",
            escape(name),
            cells.iter().map(cell).collect::<String>(),
        )
    };
    let class = if heads.len() > COLUMNS_MAX { "legend crowded" } else { "legend" };
    let heads: String = heads.iter().map(|head| format!("<th scope=\"col\">{head}</th>")).collect();
    let rows: String = engines.iter().map(row).collect();
    format!(
        "<table class=\"{class}\"><thead><tr><th scope=\"col\">engine</th>{heads}</tr></thead><tbody>{rows}</tbody></table>"
    )
}

/// The limit is drawn first, lanelog last: on top.
pub fn layer(engine: &str) -> u8 {
    match engine {
        "limit" => 0,
        "lanelog" => 2,
        _ => 1,
    }
}
