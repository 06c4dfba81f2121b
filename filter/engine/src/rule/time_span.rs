//! Spans of time as rules and settings write them: `10d`, `now-10d`, `{ value = 1, unit = "d" }`.
//!
//! Bounds: whole numbers of seconds, minutes, hours, days or weeks; more than nothing and at most [`MAX_SPAN_MS`].
//! Not here: months and years, which have no fixed length; where in the file the text stood.

use alloc::format;
use alloc::string::{String, ToString};

use super::MAX_SPAN_MS;
use super::diagnostic::Mismatch;

/// A span in milliseconds, and as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TimeSpan {
    pub(crate) ms: u64,
    /// `10d`.
    pub(crate) text: String,
}

/// The units and their lengths in milliseconds.
const UNITS: [(&str, u64); 5] =
    [("s", 1000), ("m", 60 * 1000), ("h", 60 * 60 * 1000), ("d", 24 * 60 * 60 * 1000), ("w", 7 * 24 * 60 * 60 * 1000)];

impl TimeSpan {
    /// `count` times `unit`.
    pub(crate) fn new(count: u64, unit: &str) -> Result<TimeSpan, Mismatch> {
        let Some((unit, length)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            let expected = match unit {
                "M" => format!("days, as months differ in length: {}d", count.saturating_mul(30)),
                "y" => format!("days, as years differ in length: {}d", count.saturating_mul(365)),
                "H" => "the unit \"h\"".to_string(),
                _ => "one of the units s, m, h, d, w".to_string(),
            };
            return Err(Mismatch::new(format!("the time unit {unit:?}"), expected));
        };
        match count.checked_mul(*length) {
            Some(ms @ 1..=MAX_SPAN_MS) => Ok(TimeSpan { ms, text: format!("{count}{unit}") }),
            _ => Err(Mismatch::new(
                format!("the time span {count}{unit}"),
                format!("more than nothing and at most {}d", MAX_SPAN_MS / UNITS[3].1),
            )),
        }
    }

    /// Reads `10d`.
    pub(crate) fn parse(text: &str) -> Result<TimeSpan, Mismatch> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (count, unit) = text.split_at(digits);
        match count.parse() {
            Ok(count) if !unit.is_empty() && unit.bytes().all(|b| b.is_ascii_alphabetic()) => {
                TimeSpan::new(count, unit)
            }
            _ => {
                Err(Mismatch::new(format!("{text:?}"), "a number and one of the units s, m, h, d, w, such as \"10d\""))
            }
        }
    }

    /// Reads `now-10d`.
    pub(crate) fn parse_before_now(text: &str) -> Result<TimeSpan, Mismatch> {
        match text.strip_prefix("now-") {
            Some(span) if !span.contains('/') => TimeSpan::parse(span),
            _ => Err(Mismatch::new(format!("{text:?}"), "a time before now without rounding, such as \"now-10d\"")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_unit() {
        for (text, ms) in [
            ("1s", 1_000),
            ("5m", 300_000),
            ("2h", 7_200_000),
            ("10d", 864_000_000),
            ("2w", 1_209_600_000),
            ("36500d", MAX_SPAN_MS),
        ] {
            let span = TimeSpan::parse(text).unwrap();
            assert_eq!((span.ms, span.text.as_str()), (ms, text));
        }
        assert_eq!(TimeSpan::parse_before_now("now-10d").unwrap().text, "10d");
        assert_eq!(TimeSpan::parse("007d").unwrap().text, "7d");
    }

    #[test]
    fn refuses_the_rest_and_says_what_would_be_right() {
        for (text, expected) in [
            ("3M", "days, as months differ in length: 90d"),
            ("1y", "days, as years differ in length: 365d"),
            ("4H", "the unit \"h\""),
            ("4days", "one of the units s, m, h, d, w"),
            ("0d", "more than nothing and at most 36500d"),
            ("36501d", "more than nothing and at most 36500d"),
            ("18446744073709551615w", "more than nothing and at most 36500d"),
            ("", "a number and one of the units s, m, h, d, w, such as \"10d\""),
            ("10", "a number and one of the units s, m, h, d, w, such as \"10d\""),
            ("-1d", "a number and one of the units s, m, h, d, w, such as \"10d\""),
        ] {
            assert_eq!(TimeSpan::parse(text).unwrap_err().expected, expected, "{text}");
        }
        for text in ["10d", "now", "now+10d", "now-10d/d"] {
            assert_eq!(
                TimeSpan::parse_before_now(text).unwrap_err().expected,
                "a time before now without rounding, such as \"now-10d\""
            );
        }
    }
}
