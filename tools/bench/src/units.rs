//! Figures as people read them: three digits and a unit.
//!
//! A figure that is no number is shown as a dash, so that a page never says "NaN".

/// What stands for a figure that there isn't.
pub const NONE: &str = "–";

const DECIMAL: [&str; 5] = ["", "k", "M", "G", "T"];
const BINARY: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
const SECONDS: [&str; 4] = ["ns", "µs", "ms", "s"];

/// "1.23 M"; small ones as they are.
pub fn number(figure: f64) -> String {
    scaled(figure, 1000.0, &DECIMAL)
}

/// "1.23 KiB".
pub fn bytes(figure: f64) -> String {
    scaled(figure, 1024.0, &BINARY)
}

/// "1.23 ms", from nanoseconds; 0 means that none was taken.
pub fn nanoseconds(figure: f64) -> String {
    if figure == 0.0 { NONE.to_owned() } else { scaled(figure, 1000.0, &SECONDS) }
}

/// "1.23×", "0.12×": what is below 1 has two digits.
pub fn ratio(figure: Option<f64>) -> String {
    match figure {
        Some(figure) if (0.0995..0.995).contains(&figure) => format!("{figure:.2}×"),
        Some(figure) if figure.is_finite() => format!("{}×", number(figure)),
        _ => NONE.to_owned(),
    }
}

/// Half of the way from the slowest to the fastest, as a share of the median: "±4%".
pub fn spread(low: f64, middle: f64, high: f64) -> String {
    let half = (high - low) / 2.0 / middle * 100.0;
    match half {
        _ if !half.is_finite() || middle == 0.0 => NONE.to_owned(),
        0.0..0.1 => "±0%".to_owned(),
        0.1..1.0 => format!("±{half:.1}%"),
        _ => format!("±{half:.0}%"),
    }
}

/// The size of a payload: exact, for it names a measurement.
pub fn payload(payload_bytes: usize) -> String {
    match payload_bytes {
        4096.. if payload_bytes.is_multiple_of(1 << 20) => format!("{} MiB", payload_bytes >> 20),
        4096.. if payload_bytes.is_multiple_of(1 << 10) => format!("{} KiB", payload_bytes >> 10),
        _ => format!("{payload_bytes} B"),
    }
}

/// Divides until three digits (four of a binary unit) stand before the point; the last unit takes the rest.
fn scaled(figure: f64, step: f64, units: &[&str]) -> String {
    if !figure.is_finite() {
        return NONE.to_owned();
    }
    let (mut figure, mut at) = (figure, 0);
    while figure.abs() >= step - 0.5 && at + 1 < units.len() {
        figure /= step;
        at += 1;
    }
    let unit = units.get(at).copied().unwrap_or_default();
    let space = if unit.is_empty() { "" } else { "\u{a0}" };
    format!("{}{space}{unit}", three_digits(figure))
}

/// Whole numbers stay whole: "64", not "64.0". What is next to nothing is not said to be nothing.
fn three_digits(figure: f64) -> String {
    match figure.abs() {
        0.0 => "0".to_owned(),
        size if size < 0.000_05 => "~0".to_owned(),
        size if size < 0.009_95 => format!("{figure:.4}"),
        size if size < 0.9995 => format!("{figure:.3}"),
        size if figure.fract() == 0.0 && size < 100.0 => format!("{figure:.0}"),
        size if size < 9.995 => format!("{figure:.2}"),
        size if size < 99.95 => format!("{figure:.1}"),
        _ => format!("{figure:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_and_never_a_thousand() {
        let cases: [(&str, String); 17] = [
            ("0", number(0.0)),
            ("0.016", number(0.015_6)),
            ("0.0024", number(0.002_4)),
            ("~0", number(0.000_01)),
            ("1.00", number(0.999_7)),
            ("64", number(64.0)),
            ("999", number(999.4)),
            ("1.00 k", number(999.6)),
            ("12.3 k", number(12_345.0)),
            ("1.00 M", number(999_600.0)),
            ("850 ns", nanoseconds(850.0)),
            ("1.50 ms", nanoseconds(1.5e6)),
            ("90000 s", nanoseconds(9e13)),
            ("1023 B", bytes(1023.0)),
            ("1.10 KiB", bytes(1126.4)),
            ("±4%", spread(96.0, 100.0, 104.0)),
            ("0.25×", ratio(Some(0.25))),
        ];
        for (expected, shown) in cases {
            assert_eq!(shown.replace('\u{a0}', " "), expected);
        }
    }

    #[test]
    fn what_is_no_number_is_a_dash() {
        for shown in [number(f64::NAN), bytes(f64::INFINITY), nanoseconds(0.0), ratio(None), spread(0.0, 0.0, 0.0)] {
            assert_eq!(shown, NONE);
        }
    }
}
