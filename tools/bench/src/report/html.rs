//! Text as HTML.

/// Text as it may stand in an element or between double quotes.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            _ => escaped.push(letter),
        }
    }
    escaped
}

/// A heading of parts, which may break between them and nowhere else.
pub fn heading(text: &str) -> String {
    let parts: Vec<String> = text.split(" · ").map(|part| part.replace(' ', "\u{a0}")).collect();
    escape(&parts.join("\u{a0}· "))
}

/// A share of 1 as CSS has it: "43.21%". What is no number is nothing.
pub fn percent(share: f64) -> String {
    let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
    format!("{:.2}%", share * 100.0)
}
