//! How long a task waits between its attempts.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::error::Error;

use super::number::{millis, mix};

/// The shape of the delays between attempts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) enum Curve {
    /// The same delay every time.
    Fixed,
    /// As many steps as there were attempts.
    Linear,
    /// Doubling.
    #[default]
    Exponential,
}

/// How long a task waits after a failed attempt: fixed, growing by steps, or doubling; with a cap, and with jitter.
///
/// ```
/// use lanelog::Backoff;
/// use std::time::Duration;
///
/// let backoff = Backoff::exponential(Duration::from_secs(1), Duration::from_secs(300)).jitter(20);
/// assert_eq!(backoff, "exponential:1s..5m~20%".parse()?);
/// # Ok::<(), lanelog::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Backoff {
    pub(crate) curve: Curve,
    pub(crate) first_ms: u64,
    pub(crate) max_ms: u64,
    /// At most 100.
    pub(crate) jitter_percent: u8,
}

impl Default for Backoff {
    /// Doubling from 1 s to 5 min, without jitter.
    fn default() -> Self {
        Backoff::exponential(Duration::from_secs(1), Duration::from_secs(300))
    }
}

impl Backoff {
    /// The same delay after every attempt.
    #[must_use]
    pub fn fixed(delay: Duration) -> Self {
        Backoff { curve: Curve::Fixed, first_ms: millis(delay), max_ms: millis(delay), jitter_percent: 0 }
    }

    /// `step` after the first attempt, twice that after the second, and so on, `max` at most.
    #[must_use]
    pub fn linear(step: Duration, max: Duration) -> Self {
        Backoff { curve: Curve::Linear, first_ms: millis(step), max_ms: millis(max), jitter_percent: 0 }
    }

    /// `first` after the first attempt, doubling with each further one, `max` at most.
    #[must_use]
    pub fn exponential(first: Duration, max: Duration) -> Self {
        Backoff { curve: Curve::Exponential, first_ms: millis(first), max_ms: millis(max), jitter_percent: 0 }
    }

    /// Shortens every delay by up to this many percent (100 at most), so that tasks that failed together don't come
    /// again together. By how much follows from the task's sequence and its attempt, so that it is the same in every run.
    #[must_use]
    pub fn jitter(mut self, percent: u8) -> Self {
        self.jitter_percent = percent.min(100);
        self
    }

    /// The delay after failed attempt number `attempts`; `salt` tells tasks apart.
    pub(crate) fn delay_ms(&self, attempts: u32, salt: u64) -> u64 {
        let whole = match self.curve {
            Curve::Fixed => self.first_ms,
            Curve::Linear => self.first_ms.saturating_mul(u64::from(attempts.max(1))),
            Curve::Exponential => self.first_ms.saturating_mul(1 << attempts.saturating_sub(1).min(32)),
        };
        let whole = whole.min(self.max_ms);
        let spread = u128::from(whole) * u128::from(self.jitter_percent.min(100)) / 100;
        let part = u128::from(scatter(salt ^ u64::from(attempts).rotate_left(48)) >> 32);
        whole.saturating_sub(u64::try_from((spread * part) >> 32).unwrap_or(0))
    }
}

/// One step of splitmix64 (Steele, Lea, Flood 2014).
fn scatter(value: u64) -> u64 {
    mix(value.wrapping_add(0x9E37_79B9_7F4A_7C15))
}

impl fmt::Display for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, max) = (Span(self.first_ms), Span(self.max_ms));
        match self.curve {
            Curve::Fixed => write!(f, "fixed:{first}")?,
            Curve::Linear => write!(f, "linear:{first}..{max}")?,
            Curve::Exponential => write!(f, "exponential:{first}..{max}")?,
        }
        if self.jitter_percent > 0 { write!(f, "~{}%", self.jitter_percent) } else { Ok(()) }
    }
}

impl FromStr for Backoff {
    type Err = Error;

    /// `fixed:10s`, `linear:1s..1m` or `exponential:1s..5m`, each with `~20%` behind it for jitter; times as in
    /// `250ms`, `1s`, `5m`, `2h`, `1d`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let parse = || {
            let (curve, rest) = text.split_once(':')?;
            let (delays, jitter) = match rest.split_once('~') {
                Some((delays, jitter)) => (delays, jitter.strip_suffix('%')?.parse::<u8>().ok()?),
                None => (rest, 0),
            };
            let backoff = match (curve, delays.split_once("..")) {
                ("fixed", None) => Backoff::fixed(parse_span(delays)?),
                ("linear", Some((step, max))) => Backoff::linear(parse_span(step)?, parse_span(max)?),
                ("exponential", Some((first, max))) => Backoff::exponential(parse_span(first)?, parse_span(max)?),
                _ => return None,
            };
            (jitter <= 100 && backoff.first_ms <= backoff.max_ms).then(|| backoff.jitter(jitter))
        };
        parse().ok_or_else(|| Error::InvalidOption {
            option: "backoff",
            why: format!(
                "{text:?} is none of fixed:10s, linear:1s..1m and exponential:1s..5m, with ~20% behind it for jitter"
            ),
        })
    }
}

/// A time as users write it: a number and `ms`, `s`, `m`, `h` or `d`.
#[must_use]
pub fn parse_span(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(digits)?;
    let unit_ms = UNITS.iter().find(|(name, _)| *name == unit)?.1;
    Some(Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(unit_ms)?))
}

/// Milliseconds in the largest unit that divides them.
struct Span(u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |unit: &&(&str, u64)| self.0 > 0 && self.0.is_multiple_of(unit.1);
        let (name, unit_ms) = UNITS.iter().rev().find(whole).unwrap_or(&("ms", 1));
        write!(f, "{}{name}", self.0 / unit_ms)
    }
}

const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

#[cfg(test)]
mod tests {
    use super::Backoff;
    use std::time::Duration;

    #[test]
    fn delays_grow_as_the_curve_says_and_never_above_the_cap() {
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        let delays = |backoff: Backoff| (1..=8).map(|n| backoff.delay_ms(n, 7) / 1000).collect::<Vec<_>>();
        assert_eq!(delays(Backoff::fixed(second)), [1; 8]);
        assert_eq!(delays(Backoff::linear(second * 10, minute)), [10, 20, 30, 40, 50, 60, 60, 60]);
        assert_eq!(delays(Backoff::exponential(second, minute)), [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(Backoff::exponential(second, Duration::MAX).delay_ms(u32::MAX, 0), 1000 << 32);
    }

    #[test]
    fn jitter_shortens_by_at_most_its_share_and_tells_tasks_apart() {
        let backoff = Backoff::fixed(Duration::from_secs(1)).jitter(20);
        let delays: Vec<u64> = (0..100).map(|task| backoff.delay_ms(1, task)).collect();
        assert!(delays.iter().all(|delay| (800..=1000).contains(delay)), "{delays:?}");
        let distinct: std::collections::BTreeSet<&u64> = delays.iter().collect();
        assert!(distinct.len() > 50, "{distinct:?}");
        assert_eq!(backoff.delay_ms(1, 42), backoff.delay_ms(1, 42));
    }

    #[test]
    fn the_text_form_comes_back() {
        for text in ["fixed:10s", "linear:1s..1m", "exponential:250ms..2h~20%", "fixed:0ms", "exponential:1d..30d"] {
            let backoff: Backoff = text.parse().expect(text);
            assert_eq!(backoff.to_string(), text);
        }
        for text in ["", "fixed", "fixed:10", "fixed:1s..2s", "linear:1s", "linear:2m..1s", "exponential:1s..5m~101%"] {
            assert!(text.parse::<Backoff>().is_err(), "{text}");
        }
    }
}
