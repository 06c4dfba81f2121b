//! Points in time: what CloudTrail and the exports of it write, to and from milliseconds since 1970 UTC.
//!
//! In: a year first (`2026-10-30T08:15:00Z`, `2026/10/30 08:15:00.403 UTC`, `20261030T081500Z`), or a month by its name
//! (`30/Oct/2026:08:15:00 +0000`, `Fri, 30 Oct 2026 08:15:00 GMT`, `Oct 30, 2026 8:15:00 AM`), with a fraction of any length, an
//! offset, or no zone at all (UTC, as Sentinel's exports have it); or seconds, milliseconds, microseconds or nanoseconds since 1970.
//! Out: milliseconds. Bounds: years 1 to 9999; numbers from 2001 to 2286. Not read: what can mean two times, such as days
//! in local order (`01/10/2026`) and years of two digits.

use alloc::string::String;

use super::number::Decimal;
use super::value::Value;

/// Milliseconds since 1970-01-01T00:00:00Z.
pub type Millis = i64;

/// The first and last year that [`parse`] reads and [`format()`] writes.
const YEARS: core::ops::RangeInclusive<i64> = 1..=9999;

/// What a value of a time field says.
pub(crate) fn from_value(value: &Value<'_>) -> Option<Millis> {
    match value {
        Value::Text(text) => parse(text).or_else(|| from_number(text.trim_ascii())),
        Value::Number(text) => from_number(text),
        Value::Bool(_) => None,
    }
}

/// The number of digits before the point tells the unit: between 2001 and 2286 seconds have ten, and each smaller unit three
/// more. Any other number is likely to be something else, such as the day `20261030` or a spreadsheet's count of days.
fn from_number(text: &str) -> Option<Millis> {
    let number = Decimal::parse(text)?;
    if !matches!(number.whole_digits()?, 10 | 13 | 16 | 19) {
        return None;
    }
    Some((0..MILLIS_DIGITS).fold(0, |millis, at| millis * 10 + i64::from(number.digit(at) - b'0')))
}

/// How many digits milliseconds since 1970 have between 2001 and 2286.
const MILLIS_DIGITS: usize = 13;

const DAY: i64 = 86_400_000;

/// Reads a point in time in words; `None` if it is not one that this module reads.
pub fn parse(text: &str) -> Option<Millis> {
    parse_usual(text.as_bytes()).or_else(|| Scanner(text.as_bytes().trim_ascii()).date_time())
}

/// As CloudTrail and most exports write it: the same as what the scanner reads, in fewer steps.
fn parse_usual(bytes: &[u8]) -> Option<Millis> {
    let (date_time, rest) = bytes.split_first_chunk::<19>()?;
    let &[c1, c2, y1, y2, b'-', m1, m2, b'-', d1, d2, b'T' | b' ', h1, h2, b':', n1, n2, b':', s1, s2] = date_time
    else {
        return None;
    };
    let year = two_digits(c1, c2) * 100 + two_digits(y1, y2);
    let days = days_of_date(year, two_digits(m1, m2), two_digits(d1, d2))?;
    let clock = millis_of_clock(two_digits(h1, h2), two_digits(n1, n2), two_digits(s1, s2))?;
    let time = days * DAY + clock;
    if let [b'Z'] = rest {
        return Some(time);
    }
    let mut rest = Scanner(rest);
    Some(time + rest.fraction()? - rest.offset()?)
}

/// What is left of a text that is read from left to right.
struct Scanner<'a>(&'a [u8]);

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// The days of the week, from that of 1970-01-01 on.
const WEEKDAYS: [&str; 7] = ["thursday", "friday", "saturday", "sunday", "monday", "tuesday", "wednesday"];

/// Which of the names a word is: the whole name, or its first three letters.
#[inline(never)]
fn named(names: &[&str], word: &[u8]) -> Option<i64> {
    let is = |name: &&str| word.eq_ignore_ascii_case(name.as_bytes());
    let is_short = |name: &&str| name.get(..3).is_some_and(|short| word.eq_ignore_ascii_case(short.as_bytes()));
    names.iter().position(|name| is(name) || is_short(name)).map(|at| at as i64)
}

/// None of these is inlined: a module is to be small, and such times are rare.
impl<'a> Scanner<'a> {
    /// Takes the bytes ahead that belong to a set.
    #[inline(never)]
    fn take(&mut self, belongs: &dyn Fn(&u8) -> bool) -> &'a [u8] {
        let end = self.0.iter().position(|byte| !belongs(byte)).unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at(end);
        self.0 = rest;
        taken
    }

    #[inline(never)]
    fn skip(&mut self, among: &[u8]) -> bool {
        !self.take(&|byte| among.contains(byte)).is_empty()
    }

    /// Takes the byte ahead, if it is one of these.
    #[inline(never)]
    fn one(&mut self, among: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        among.contains(first).then(|| {
            self.0 = rest;
            *first
        })
    }

    fn word(&mut self) -> &'a [u8] {
        self.take(&u8::is_ascii_alphabetic)
    }

    /// The number ahead, which has as many digits as this at least and at most.
    #[inline(never)]
    fn number(&mut self, least: usize, most: usize) -> Option<i64> {
        let found = self.take(&u8::is_ascii_digit);
        if (least..=most).contains(&found.len()) { digits(found) } else { None }
    }

    fn date_time(mut self) -> Option<Millis> {
        let mut word = self.word();
        let weekday = named(&WEEKDAYS, word);
        if weekday.is_some() {
            self.skip(b" ,");
            word = self.word();
        }
        let days = if word.is_empty() { self.date_of_digits()? } else { self.date_of_month(named(&MONTHS, word)?)? };
        if weekday.is_some_and(|weekday| weekday != days.rem_euclid(7)) {
            return None;
        }
        let has_gap = self.one(b"Tt").is_some() || self.skip(b" ,:");
        let clock = match self.0 {
            // Two digits each.
            [h1, h2, n1, n2, s1, s2, rest @ ..] if n1.is_ascii_digit() && h2.is_ascii_digit() => {
                self.0 = rest;
                millis_of_clock(two_digits(*h1, *h2), two_digits(*n1, *n2), two_digits(*s1, *s2))?
            }
            _ if has_gap => self.clock()?,
            _ => return None,
        };
        Some(days * DAY + clock + self.fraction()? + self.half_day(clock)? - self.offset()?)
    }

    /// `October 30, 2026`, behind the month.
    fn date_of_month(&mut self, month: i64) -> Option<i64> {
        self.skip(b" ");
        let day = self.number(1, 2)?;
        self.skip(b" ,");
        days_of_date(self.number(4, 4)?, month + 1, day)
    }

    /// A date that begins with a number: of the year, of the year with month and day, or of a day with the month's name behind it.
    fn date_of_digits(&mut self) -> Option<i64> {
        let all = self.0;
        let first = self.take(&u8::is_ascii_digit);
        match *first {
            [c1, c2, y1, y2] => {
                let separator = self.one(b"-/")?;
                let month = self.number(1, 2)?;
                self.one(&[separator])?;
                days_of_date(two_digits(c1, c2) * 100 + two_digits(y1, y2), month, self.number(1, 2)?)
            }
            [c1, c2, y1, y2, m1, m2, d1, d2, ..] if matches!(first.len(), 8 | 14) => {
                self.0 = all.get(8..)?;
                let year = two_digits(c1, c2) * 100 + two_digits(y1, y2);
                days_of_date(year, two_digits(m1, m2), two_digits(d1, d2))
            }
            [_] | [_, _] => {
                self.skip(b" -/");
                let month = named(&MONTHS, self.word())?;
                self.skip(b" -/");
                days_of_date(self.number(4, 4)?, month + 1, digits(first)?)
            }
            _ => None,
        }
    }

    /// `8:15`, `08:15:00`.
    fn clock(&mut self) -> Option<Millis> {
        let hour = self.number(1, 2)?;
        self.one(b":")?;
        let minute = self.number(2, 2)?;
        let second = if self.one(b":").is_some() { self.number(2, 2)? } else { 0 };
        millis_of_clock(hour, minute, second)
    }

    fn fraction(&mut self) -> Option<Millis> {
        if self.one(b".,").is_none() {
            return Some(0);
        }
        let given = self.take(&u8::is_ascii_digit);
        let digit = |at: usize| given.get(at).map_or(0, |byte| i64::from(byte - b'0'));
        (!given.is_empty()).then(|| digit(0) * 100 + digit(1) * 10 + digit(2))
    }

    /// What `AM` or `PM` ahead adds to a time of the day.
    fn half_day(&mut self, clock: Millis) -> Option<Millis> {
        let (before, hour) = (self.0, clock / 3_600_000);
        self.skip(b" ");
        let word = self.word();
        let is_afternoon = word.eq_ignore_ascii_case(b"pm");
        if !is_afternoon && !word.eq_ignore_ascii_case(b"am") {
            self.0 = before;
            return Some(0);
        }
        let hours = match (hour, is_afternoon) {
            (12, false) => -12,
            (1..=11, true) => 12,
            (1..=12, _) => 0,
            _ => return None,
        };
        Some(hours * 3_600_000)
    }

    /// The offset from UTC, with which the text ends: none, `Z`, `UTC`, `+02`, `-0530`, `GMT+02:00`, `+0200 (CEST)`.
    fn offset(mut self) -> Option<Millis> {
        self.skip(b" ");
        let zone = self.word();
        if ![&b""[..], b"z", b"utc", b"gmt", b"ut"].iter().any(|utc| zone.eq_ignore_ascii_case(utc)) {
            return None;
        }
        self.skip(b" ");
        let Some(sign) = self.one(b"+-") else { return self.0.is_empty().then_some(0) };
        let number = self.take(&u8::is_ascii_digit);
        let (hours, minutes) = match *number {
            [h1, h2] if self.one(b":").is_some() => (two_digits(h1, h2), self.number(2, 2)?),
            [h1, h2] => (two_digits(h1, h2), 0),
            [h1, h2, m1, m2] => (two_digits(h1, h2), two_digits(m1, m2)),
            _ => return None,
        };
        // The name that may follow says nothing more.
        self.skip(b" (");
        self.word();
        self.one(b")");
        if hours > 23 || minutes > 59 || !self.0.is_empty() {
            return None;
        }
        let offset = (hours * 60 + minutes) * 60_000;
        Some(if sign == b'-' { -offset } else { offset })
    }
}

/// Days since 1970 of a date, if there is such a date.
#[inline(never)]
fn days_of_date(year: i64, month: i64, day: i64) -> Option<i64> {
    let is_date = YEARS.contains(&year) && day >= 1 && day <= days_in_month(year, month)?;
    is_date.then(|| days_from_civil(year, month, day))
}

/// A leap second is the last one of its minute.
fn millis_of_clock(hour: i64, minute: i64, second: i64) -> Option<Millis> {
    let second = if second == 60 { 59 } else { second };
    (hour <= 23 && minute <= 59 && second <= 59).then_some((hour * 3600 + minute * 60 + second) * 1000)
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
            ("2023-07-10T11:54:38 UTC", 1_688_990_078_000),
            ("2023-07-10 11:54:38+00", 1_688_990_078_000),
            ("2023-07-10 11:54:38.403 UTC", 1_688_990_078_403),
            ("2023-07-10 11:54:38.403 +0000 UTC", 1_688_990_078_403),
            ("2023/07/10 11:54:38.403", 1_688_990_078_403),
            ("2023/7/10 11:54:38gmt", 1_688_990_078_000),
            ("2023-07-10, 11:54:38 AM", 1_688_990_078_000),
            ("2023-07-11 12:54:38 AM", 1_689_036_878_000),
            ("2023-07-10T11:54Z", 1_688_990_040_000),
            ("20230710T115438Z", 1_688_990_078_000),
            ("20230710115438", 1_688_990_078_000),
            ("10/Jul/2023:11:54:38 +0000", 1_688_990_078_000),
            ("Mon, 10 Jul 2023 13:54:38 +0200 (CEST)", 1_688_990_078_000),
            ("Monday, 10-Jul-2023 11:54:38 GMT", 1_688_990_078_000),
            ("July 10, 2023 11:54:38.403", 1_688_990_078_403),
            ("Jul 10, 2023, 11:54:38 PM", 1_689_033_278_000),
            (" 2023-07-10T11:54:38Z ", 1_688_990_078_000),
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
            "01/10/2023 11:54:38",
            "10/1/2026, 10:00:00.000 AM",
            "10.07.2023 11:54:38",
            "10/Jul/23:11:54:38 +0000",
            "23-07-10 11:54:38",
            "2023-07-10 13:54:38 PM",
            "2023-07-10 00:54:38 AM",
            "2023-07-10 11:54:38 CEST",
            "2023-07-10 11:54:38 UTC+2",
            "2023-07/10 11:54:38",
            "Tue, 10 Jul 2023 11:54:38 GMT",
            "10 Julember 2023 11:54:38 GMT",
            "2023-07-10 11:54:38.",
            "2023-07-1011:54:38",
            "202307101154",
            "1688990078",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_are_in_the_unit_that_their_length_tells() {
        for (text, millis) in [
            ("1688990078", 1_688_990_078_000),
            ("1688990078.25", 1_688_990_078_250),
            ("1688990078000", 1_688_990_078_000),
            ("1688990078250.75", 1_688_990_078_250),
            ("1688990078250123", 1_688_990_078_250),
            ("1688990078250123456", 1_688_990_078_250),
            ("1.68899007825e+09", 1_688_990_078_250),
            ("168899007825E4", 1_688_990_078_250),
        ] {
            assert_eq!(from_value(&Value::Number(text)), Some(millis), "{text}");
            assert_eq!(from_value(&Value::Text(text.into())), Some(millis), "{text}");
        }
        // Negative, too early, too late; a day, a minute and a spreadsheet's number of days.
        for text in
            ["-1688990078", "0", "1e3", "99999999999999999999", "20261001", "202610011000", "46296.41", "1e", ""]
        {
            assert_eq!(from_value(&Value::Number(text)), None, "{text}");
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
