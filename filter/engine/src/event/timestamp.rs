//! Points in time: RFC 3339 as the dialects write it, to and from milliseconds since 1970 UTC.
//!
//! In: `2026-10-30T08:15:00Z`, with a space for the `T`, a fraction of any length, an offset, or no zone at all (UTC, as
//! Sentinel's exports have it). Out: milliseconds. Bounds: years 1 to 9999. Not read: days in local order
//! (`30/10/2026`), which say two things.

use alloc::string::String;

use super::value::Value;

/// Milliseconds since 1970-01-01T00:00:00Z.
pub type Millis = i64;

/// The number from which on a JSON number is taken for milliseconds, and below it for seconds: seconds reach it in the
/// year 5138, milliseconds left it behind in 1973.
const FIRST_MILLIS: i64 = 100_000_000_000;

/// The first and last year that [`parse`] reads and [`format()`] writes.
const YEARS: core::ops::RangeInclusive<i64> = 1..=9999;

/// What a value of a time field says.
pub(crate) fn from_value(value: &Value<'_>) -> Option<Millis> {
    match value {
        Value::Text(text) => parse(text),
        Value::Number(text) => from_number(text),
        Value::Bool(_) => None,
    }
}

fn from_number(text: &str) -> Option<Millis> {
    let text = text.as_bytes();
    let point = text.iter().position(|byte| *byte == b'.').unwrap_or(text.len());
    let (whole, fraction) = (&text[..point], text.get(point + 1..).unwrap_or_default());
    let whole = match whole {
        // JSON's other way to write zero.
        b"-0" => 0,
        // No time in range is as long; behind 18 digits a number may not fit.
        [_, ..] if whole.len() <= 18 => digits(whole)?,
        _ => return None,
    };
    let millis =
        if whole >= FIRST_MILLIS { whole } else { whole.checked_mul(1000)?.checked_add(thousandths(fraction)?)? };
    (0..=days_from_civil(10_000, 1, 1) * DAY - 1).contains(&millis).then_some(millis)
}

const DAY: i64 = 86_400_000;

/// Reads a point in time; `None` if it is none that this module reads.
pub fn parse(text: &str) -> Option<Millis> {
    let (date_time, rest) = text.as_bytes().split_first_chunk::<19>()?;
    let &[c1, c2, y1, y2, b'-', m1, m2, b'-', d1, d2, b'T' | b't' | b' ', h1, h2, b':', n1, n2, b':', s1, s2] =
        date_time
    else {
        return None;
    };
    let year = two_digits(c1, c2) * 100 + two_digits(y1, y2);
    let (month, day, hour) = (two_digits(m1, m2), two_digits(d1, d2), two_digits(h1, h2));
    let (minute, second) = (two_digits(n1, n2), two_digits(s1, s2));
    // A leap second is the last one of its minute.
    let second = if second == 60 { 59 } else { second };
    if !YEARS.contains(&year) || day < 1 || day > days_in_month(year, month)? || hour > 23 || minute > 59 || second > 59
    {
        return None;
    }
    let (fraction, zone) = match rest {
        [b'.' | b',', rest @ ..] => rest.split_at(rest.iter().take_while(|byte| byte.is_ascii_digit()).count()),
        _ => (&[][..], rest),
    };
    let millis = thousandths(fraction)?;
    let offset = offset_minutes(zone)?;
    let days = days_from_civil(year, month, day);
    Some(days * DAY + (hour * 3600 + (minute - offset) * 60 + second) * 1000 + millis)
}

/// Writes a point in time in UTC, with milliseconds if there are any: `2026-10-30T08:15:00Z`. A time outside of
/// years 1 to 9999 is written as the nearest one inside.
pub fn format(millis: Millis) -> String {
    let first = days_from_civil(*YEARS.start(), 1, 1) * DAY;
    let last = days_from_civil(*YEARS.end() + 1, 1, 1) * DAY - 1;
    let millis = millis.clamp(first, last);
    let (year, month, day) = civil_from_days(millis.div_euclid(DAY));
    let of_day = millis.rem_euclid(DAY);
    let (hour, minute, second) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1000 % 60);
    let mut text = *b"0000-00-00T00:00:00.000Z";
    let numbers = [year, month, day, hour, minute, second, of_day % 1000];
    for (mut number, end) in numbers.into_iter().zip([4, 7, 10, 13, 16, 19, 23]) {
        for digit in text[..end].iter_mut().rev() {
            if number == 0 {
                break;
            }
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
    }
    let mut len = text.len();
    if of_day % 1000 == 0 {
        len = "0000-00-00T00:00:00Z".len();
        text[len - 1] = b'Z';
    }
    core::str::from_utf8(&text[..len]).map(String::from).unwrap_or_default()
}

/// The number that two digits spell; if one of them is none, more than any part of a time may be.
fn two_digits(tens: u8, ones: u8) -> i64 {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    if tens > 9 || ones > 9 { *YEARS.end() + 1 } else { i64::from(tens * 10 + ones) }
}

/// The number that a few digits spell.
fn digits(bytes: &[u8]) -> Option<i64> {
    bytes.iter().try_fold(0, |number, byte| byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0')))
}

/// The first three digits of a decimal fraction.
fn thousandths(given: &[u8]) -> Option<i64> {
    if !given.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |at: usize| given.get(at).map_or(0, |byte| i64::from(byte - b'0'));
    Some(digit(0) * 100 + digit(1) * 10 + digit(2))
}

fn offset_minutes(zone: &[u8]) -> Option<i64> {
    let (sign, hours, minutes) = match zone {
        [] | [b'Z' | b'z'] => return Some(0),
        [sign, h1, h2, b':', m1, m2] | [sign, h1, h2, m1, m2] => (sign, [*h1, *h2], [*m1, *m2]),
        _ => return None,
    };
    let (hours, minutes) = (digits(&hours)?, digits(&minutes)?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    match sign {
        b'+' => Some(hours * 60 + minutes),
        b'-' => Some(-(hours * 60 + minutes)),
        _ => None,
    }
}

fn days_in_month(year: i64, month: i64) -> Option<i64> {
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 => Some(if leap { 29 } else { 28 }),
        _ => None,
    }
}

/// Days since 1970-01-01 of a day of the proleptic Gregorian calendar. Years are counted from March, so that the leap
/// day ends them.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The inverse of [`days_from_civil`]: year, month, day.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_the_dialects_write() {
        for (text, millis) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2023-07-10T11:54:38Z", 1_688_990_078_000),
            ("2023-07-10T11:54:38.000Z", 1_688_990_078_000),
            ("2023-07-10T11:54:38.1234567Z", 1_688_990_078_123),
            ("2023-07-10 11:54:38.5", 1_688_990_078_500),
            ("2023-07-10T11:54:38.99999999999999999999999999999999999999Z", 1_688_990_078_999),
            ("2023-07-10T13:54:38+02:00", 1_688_990_078_000),
            ("2023-07-10T06:24:38-0530", 1_688_990_078_000),
            ("2024-02-29T00:00:00Z", 1_709_164_800_000),
            ("2016-12-31T23:59:60Z", 1_483_228_799_000),
            ("1969-12-31T23:59:59Z", -1_000),
        ] {
            assert_eq!(parse(text), Some(millis), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_point_in_time() {
        for text in [
            "",
            "2023",
            "2023-07-10",
            "30/10/2026 11:54:38",
            "2023-13-10T11:54:38Z",
            "2023-02-29T00:00:00Z",
            "2023-07-10T24:00:00Z",
            "2023-07-10T11:54:38X",
            "2023-07-10T11:54:38+2",
            "2023-07-10T11:54:38.1a",
            "0000-01-01T00:00:00Z",
            "2023-07-10T11:54:3é",
            "20230710T115438Z0000",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_are_milliseconds_or_seconds() {
        let of = |text| from_value(&Value::Number(text));
        assert_eq!(of("1688990078000"), Some(1_688_990_078_000));
        assert_eq!(of("1688990078"), Some(1_688_990_078_000));
        assert_eq!(of("1688990078.25"), Some(1_688_990_078_250));
        for text in ["-5", "1e3", "99999999999999999999", "9223372036854775807", "1.5e3"] {
            assert_eq!(of(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn writing_and_reading_agree(millis in -62_135_596_800_000i64..253_402_300_800_000) {
            prop_assert_eq!(parse(&format(millis)), Some(millis));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,40}") {
            let _ = parse(&text);
            let _ = from_value(&Value::Number(&text));
        }
    }
}
