//! A colour for each engine, the same in every chart.
//!
//! Four hues keep apart under the common colour blindnesses, by day and by night; more don't. Engines beyond the fourth
//! get the hues again with a dashed, then a dotted line. lanelog's colour is nobody else's; the limit is grey.

use crate::row::Row;

/// How many hues `style.css` has: `--hue0` and so on.
const HUES: usize = 4;
/// Of lines: solid, dashed, dotted, mixed.
const DASHES: [&str; 4] = ["none", "7 4", "2 3", "9 3 2 3"];

/// The engines, each of which has a class.
pub struct Palette {
    others: Vec<String>,
}

impl Palette {
    /// Colours go by the order of names.
    pub fn of(rows: &[Row]) -> Palette {
        let names = rows.iter().map(|row| &row.engine).filter(|name| *name != "lanelog" && *name != "limit");
        let mut others: Vec<String> = names.cloned().collect();
        others.sort();
        others.dedup();
        Palette { others }
    }

    /// The class of an engine's marks.
    pub fn class(&self, engine: &str) -> String {
        match self.others.binary_search_by(|other| other.as_str().cmp(engine)) {
            Ok(at) => format!("e{at}"),
            Err(_) => own(engine).to_owned(),
        }
    }

    /// What the classes look like, and that pointing at an engine in a legend makes the other lines faint.
    pub fn css(&self) -> String {
        let mut css = String::new();
        for at in 0..self.others.len() {
            let dash = DASHES.get(at / HUES % DASHES.len()).copied().unwrap_or("none");
            css += &format!(".e{at}{{--mark:var(--hue{});--dash:{dash}}}", at % HUES);
        }
        let classes = (0..self.others.len()).map(|at| format!("e{at}")).chain(["self", "limit"].map(str::to_owned));
        for class in classes {
            css += &format!(
                ".chart:has(tr.{class}:hover) .mark:not(.{class}){{opacity:.13}}\
                 .chart:has(tr.{class}:hover) polyline.{class}:not(.faint){{stroke-width:3.2}}"
            );
        }
        css
    }
}

/// The class that doesn't depend on who else is there.
pub fn own(engine: &str) -> &'static str {
    match engine {
        "lanelog" => "self",
        "limit" => "limit",
        _ => "other",
    }
}
