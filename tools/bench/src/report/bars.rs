//! Bars: the engines of one measurement, the best on top. Made of boxes, which fit any width; text never shrinks.

use super::html::{escape, heading, percent};
use super::palette::own;
use crate::measurement::Measurement;
use crate::row::{Row, count};
use crate::units;

/// How far the limit may be beyond the best engine before its bar is cut: else the engines could not be told apart.
const LIMIT_BEYOND_MAX: f64 = 1.6;

/// What a bar shows of a row: a rate, or the latency of the median and the worst.
struct Bar<'a> {
    row: &'a Row,
    value: f64,
    low: f64,
    high: f64,
    text: String,
}

/// One measurement: its heading, bars, and who can't.
pub fn group(measurement: &Measurement<'_>) -> String {
    let of = measurement.of;
    let mut bars: Vec<Bar<'_>> = measurement.shown().into_iter().map(Bar::of).collect();
    bars.sort_by(|a, b| if of.is_rate() { b.value.total_cmp(&a.value) } else { a.value.total_cmp(&b.value) });
    let full = full(&bars);
    let unit = if of.is_rate() { "tasks/s" } else { "p50 and the worst, shorter is better" };
    let list = if bars.is_empty() {
        String::new()
    } else {
        let items: String = bars.iter().map(|bar| bar.item(full)).collect();
        format!("<p class=\"unit\"><span>{unit}</span><span>×lanelog</span></p><ol>{items}</ol>")
    };
    format!(
        "<div class=\"bars\"><h3>{}</h3>{list}{}</div>",
        heading(&measurement.setting()),
        cants(&measurement.cants()),
    )
}

/// Those without a figure, in words, engines of the same reason together.
pub fn cants(cants: &[(String, Vec<&str>)]) -> String {
    let line = |(reason, engines): &(String, Vec<&str>)| {
        format!("<li><b>{}</b> {}</li>", escape(&engines.join(", ")), escape(reason))
    };
    if cants.is_empty() {
        return String::new();
    }
    format!("<ul class=\"cants\">{}</ul>", cants.iter().map(line).collect::<String>())
}

impl<'a> Bar<'a> {
    fn of(row: &'a Row) -> Bar<'a> {
        if row.is_rate() {
            let text = units::number(row.tasks_per_s);
            return Bar { row, value: row.tasks_per_s, low: row.tasks_per_s_min, high: row.tasks_per_s_max, text };
        }
        let (value, high) = (count(row.p50_ns), count(row.max_ns));
        Bar { row, value, low: value, high, text: units::nanoseconds(value) }
    }

    fn item(&self, full: f64) -> String {
        let class = own(&self.row.engine);
        let cut = if self.value > full { " cut" } else { "" };
        let whisker = if cut.is_empty() && self.high > self.low {
            let left = percent(self.low / full);
            let width = percent((self.high.min(full) - self.low) / full);
            format!("<i class=\"whisker\" style=\"left:{left};width:{width}\"></i>")
        } else {
            String::new()
        };
        format!(
            "<li class=\"{class}{cut}\" title=\"{}\"><span class=\"name\">{}</span><span class=\"track\">\
             <i class=\"fill\" style=\"width:{}\"></i>{whisker}</span>\
             <span class=\"value\">{}</span><span class=\"ratio\">{}</span></li>",
            escape(&self.hint()),
            escape(&self.row.engine),
            percent(self.value / full),
            self.text,
            units::ratio(self.row.to_lanelog),
        )
    }

    /// For who points at it.
    fn hint(&self) -> String {
        let row = self.row;
        let show = |figure| if row.is_rate() { units::number(figure) } else { units::nanoseconds(figure) };
        format!(
            "{}: {} (from {} to {} in {} rounds), {} CPU and {} to the device for each task",
            row.engine,
            self.text,
            show(self.low),
            show(self.high),
            row.rounds,
            units::nanoseconds(row.cpu_ns_per_task),
            units::bytes(row.device_bytes_per_task),
        )
    }
}

/// What a bar of full length stands for.
fn full(bars: &[Bar<'_>]) -> f64 {
    let most = |of_limit: bool| {
        let bars = bars.iter().filter(|bar| (own(&bar.row.engine) == "limit") == of_limit);
        bars.map(|bar| bar.high.max(bar.value)).filter(|high| high.is_finite()).fold(0.0, f64::max)
    };
    let (engines, limit) = (most(false), most(true));
    match engines {
        0.0 => limit,
        _ if limit > engines * LIMIT_BEYOND_MAX => engines * 1.15,
        _ => engines.max(limit),
    }
}
