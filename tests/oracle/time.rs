//! Points in time, read and written by counting days.
//!
//! In: text, or milliseconds since 1970. Out: the other. Not here: which field holds a time.

pub(crate) const DAY_MS: i64 = 86_400_000;

pub(crate) fn is_leap(year: i64) -> bool {
    (year % 4 == 0 && year % 100 != 0) || year % 400 == 0
}

pub(crate) fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to the first day of a year, counted one year at a time.
pub(crate) fn days_to_year(year: i64) -> i64 {
    let length = |year| if is_leap(year) { 366 } else { 365 };
    if year >= 1970 { (1970..year).map(length).sum() } else { -(year..1970).map(length).sum::<i64>() }
}

/// Milliseconds since 1970 of `2026-10-30T12:00:00.5Z` and its kind.
pub(crate) fn read_time(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let digits = |from: usize, to: usize| -> Option<i64> {
        let part = bytes.get(from..to)?;
        part.iter().all(u8::is_ascii_digit).then(|| text[from..to].parse().ok())?
    };
    let is = |at: usize, among: &[u8]| bytes.get(at).is_some_and(|byte| among.contains(byte));
    if !(is(4, b"-") && is(7, b"-") && is(10, b"T ") && is(13, b":") && is(16, b":")) {
        return None;
    }
    let (year, month, day) = (digits(0, 4)?, digits(5, 7)?, digits(8, 10)?);
    let (hour, minute, second) = (digits(11, 13)?, digits(14, 16)?, digits(17, 19)?);
    if !(1..=12).contains(&month) || !(1..=days_in_month(year, month)).contains(&day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut at = 19;
    let mut millis = 0;
    if is(at, b".") {
        let from = at + 1;
        at = from;
        while bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        if at == from {
            return None;
        }
        let fraction = format!("{}000", &text[from..at]);
        millis = fraction[..3].parse().ok()?;
    }
    let offset_minutes = match &bytes[at..] {
        [] | [b'Z'] => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let minutes = digits(at + 1, at + 3)? * 60 + digits(at + 4, at + 6)?;
            if *sign == b'+' { minutes } else { -minutes }
        }
        [sign @ (b'+' | b'-'), _, _, _, _] => {
            let minutes = digits(at + 1, at + 3)? * 60 + digits(at + 3, at + 5)?;
            if *sign == b'+' { minutes } else { -minutes }
        }
        _ => return None,
    };
    let days = days_to_year(year) + (1..month).map(|m| days_in_month(year, m)).sum::<i64>() + (day - 1);
    Some(days * DAY_MS + ((hour * 60 + minute - offset_minutes) * 60 + second) * 1000 + millis)
}

/// The time as alerts write it: UTC, with milliseconds only if there are some.
pub(crate) fn rfc3339(millis: i64) -> String {
    let mut days = millis.div_euclid(DAY_MS);
    let rest = millis.rem_euclid(DAY_MS);
    let mut year = 1970 + days.div_euclid(366).min(0);
    while days_to_year(year + 1) <= days {
        year += 1;
    }
    days -= days_to_year(year);
    let mut month = 1;
    while days >= days_in_month(year, month) {
        days -= days_in_month(year, month);
        month += 1;
    }
    let (seconds, fraction) = (rest / 1000, rest % 1000);
    let fraction = match fraction {
        0 => String::new(),
        millis => format!(".{millis:03}"),
    };
    format!(
        "{year:04}-{month:02}-{:02}T{:02}:{:02}:{:02}{fraction}Z",
        days + 1,
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
    )
}
