//! Points in time, read and written by counting days.
//!
//! In: text, or milliseconds since 1970. Out: the other. Text is followed along patterns, one after the other. Not here: which field holds a time.

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

/// What a time is made of, as far as a pattern names it.
#[derive(Default)]
struct Parts {
    year: i64,
    month: i64,
    day: i64,
    weekday: Option<i64>,
    hour: i64,
    minute: i64,
    second: i64,
    millis: i64,
    half: Option<bool>,
    offset_minutes: i64,
}

/// How dates and clocks are written, each with every other. `Y`, `m`, `d`, `H`, `M` and `S` have as many digits as there are letters;
/// a single `m`, `d` or `H` has one or two. `b` is a month's name, `a` a weekday's. `_` is any number of blanks, `,` of blanks and commas,
/// `~` of blanks, dashes and slashes.
const DATES: [&str; 7] = ["YYYY-m-d", "YYYY/m/d", "YYYYmmdd", "d~b~YYYY", "a,d~b~YYYY", "b_d,YYYY", "a,b_d,YYYY"];
const CLOCKS: [&str; 3] = ["H:MM:SS", "H:MM", "HHMMSS"];

/// Milliseconds since 1970 of `2026-10-30T12:00:00.5Z` and its kind.
pub(crate) fn read_time(text: &str) -> Option<i64> {
    let text = text.trim_matches(|character: char| character.is_ascii_whitespace());
    DATES.iter().find_map(|date| CLOCKS.iter().find_map(|clock| follow_both(date, clock, text)))
}

fn follow_both(date: &str, clock: &str, text: &str) -> Option<i64> {
    let mut parts = Parts::default();
    let behind_date = parts.follow(date, text)?;
    let behind_gap = match behind_date.strip_prefix(['T', 't']) {
        Some(behind) => behind,
        None => behind_date.trim_start_matches([' ', ',', ':']),
    };
    // A compact date may have a compact clock right behind it.
    if behind_gap.len() == behind_date.len() && (date, clock) != ("YYYYmmdd", "HHMMSS") {
        return None;
    }
    let rest = parts.follow(clock, behind_gap)?;
    let rest = parts.fraction(rest)?;
    let rest = behind_half(rest, &mut parts.half).unwrap_or(rest);
    parts.offset_minutes = zone(rest)?;
    parts.millis()
}

/// What is left behind `AM` or `PM`, which is none of the zones.
fn behind_half<'t>(text: &'t str, half: &mut Option<bool>) -> Option<&'t str> {
    let text = text.trim_start_matches(' ');
    let (word, rest) = text.split_at(text.chars().take_while(char::is_ascii_alphabetic).count());
    *half = match word.to_ascii_lowercase().as_str() {
        "am" => Some(false),
        "pm" => Some(true),
        _ => return None,
    };
    Some(rest)
}

/// Milliseconds of seconds, milliseconds, microseconds or nanoseconds since 1970, of which each has its own length.
pub(crate) fn read_epoch(text: &str) -> Option<i64> {
    let number = plain_decimal(text.trim())?;
    let (whole, fraction) = number.split_once('.')?;
    let whole = whole.trim_start_matches('0');
    let digits = format!("{whole}{fraction}000");
    match whole.len() {
        10 | 13 | 16 | 19 => digits[..13].parse().ok(),
        _ => None,
    }
}

/// A JSON number that is not negative, without an exponent and with a point.
fn plain_decimal(text: &str) -> Option<String> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((_, exponent)) if exponent.starts_with("+-") => return None,
        Some((mantissa, exponent)) => (mantissa, exponent.strip_prefix('+').unwrap_or(exponent).parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let is_number = |digits: &str| !digits.is_empty() && digits.chars().all(|digit| digit.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) || exponent.abs() > 40 {
        return None;
    }
    let padding = "0".repeat(40);
    let digits: Vec<char> = format!("{padding}{whole}{fraction}{padding}").chars().collect();
    let point = usize::try_from(40 + i32::try_from(whole.len()).ok()? + exponent).ok()?;
    let text = |digits: &[char]| digits.iter().collect::<String>();
    Some(format!("{}.{}", text(digits.get(..point)?), text(digits.get(point..)?)))
}

/// The minutes of the zone that ends the text.
fn zone(text: &str) -> Option<i64> {
    let text = text.trim_start_matches(' ');
    let lower = text.to_ascii_lowercase();
    let name = ["utc", "gmt", "ut", "z", ""].into_iter().find(|name| lower.starts_with(name))?;
    let text = text[name.len()..].trim_start_matches(' ');
    if text.is_empty() {
        return Some(0);
    }
    let sign = if text.starts_with('+') {
        1
    } else if text.starts_with('-') {
        -1
    } else {
        return None;
    };
    let text = &text[1..];
    let length = text.chars().take_while(|c| c.is_ascii_digit() || *c == ':').count();
    let (number, comment) = text.split_at(length);
    let digits = match (number.len(), number.find(':')) {
        (2, None) => format!("{number}00"),
        (4, None) => number.to_owned(),
        (5, Some(2)) => number.replace(':', ""),
        _ => return None,
    };
    if digits.len() != 4 {
        return None;
    }
    let comment = comment.trim_start_matches([' ', '(']);
    let comment = comment.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    if !matches!(comment, "" | ")") {
        return None;
    }
    let (hours, minutes): (i64, i64) = (digits[..2].parse().ok()?, digits[2..].parse().ok()?);
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 60 + minutes))
}

impl Parts {
    /// Reads what a pattern says; what is left behind it.
    fn follow<'t>(&mut self, pattern: &str, text: &'t str) -> Option<&'t str> {
        const MONTHS: [&str; 12] = [
            "January",
            "February",
            "March",
            "April",
            "May",
            "June",
            "July",
            "August",
            "September",
            "October",
            "November",
            "December",
        ];
        const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
        let mut text = text;
        let mut letters = pattern.chars().peekable();
        while let Some(letter) = letters.next() {
            match letter {
                '_' => text = text.trim_start_matches(' '),
                ',' => text = text.trim_start_matches([' ', ',']),
                '~' => text = text.trim_start_matches([' ', '-', '/']),
                '-' | '/' | ':' => text = text.strip_prefix(letter)?,
                _ => {}
            }
            if !letter.is_ascii_alphabetic() {
                continue;
            }
            if matches!(letter, 'a' | 'b') {
                let (word, rest) = text.split_at(text.chars().take_while(char::is_ascii_alphabetic).count());
                let names: &[&str] = if letter == 'a' { &DAYS } else { &MONTHS };
                let place = names
                    .iter()
                    .position(|name| word.eq_ignore_ascii_case(name) || word.eq_ignore_ascii_case(&name[..3]))?;
                match letter {
                    'a' => self.weekday = Some(i64::try_from(place).ok()?),
                    _ => self.month = i64::try_from(place).ok()? + 1,
                }
                text = rest;
                continue;
            }
            let mut count = 1;
            while letters.next_if_eq(&letter).is_some() {
                count += 1;
            }
            let there = text.chars().take_while(char::is_ascii_digit).count();
            // Numbers that touch each other are cut by their lengths, others are whole.
            let is_compact = pattern == "YYYYmmdd" || pattern == "HHMMSS";
            let length = match (count, is_compact) {
                (_, true) if there >= count => count,
                (1, false) if there == 1 || there == 2 => there,
                (_, false) if there == count => count,
                _ => return None,
            };
            let number = text[..length].parse().ok()?;
            match letter {
                'Y' => self.year = number,
                'm' => self.month = number,
                'd' => self.day = number,
                'H' => self.hour = number,
                'M' => self.minute = number,
                _ => self.second = number,
            }
            text = &text[length..];
        }
        Some(text)
    }

    fn fraction<'t>(&mut self, text: &'t str) -> Option<&'t str> {
        let Some(behind) = text.strip_prefix(['.', ',']) else { return Some(text) };
        let length = behind.chars().take_while(char::is_ascii_digit).count();
        if length == 0 {
            return None;
        }
        self.millis = format!("{}000", &behind[..length])[..3].parse().ok()?;
        Some(&behind[length..])
    }

    fn millis(&self) -> Option<i64> {
        let Parts { year, month, day, minute, millis, offset_minutes, .. } = *self;
        if year < 1 || !(1..=12).contains(&month) || !(1..=days_in_month(year, month)).contains(&day) {
            return None;
        }
        let hour = match self.half {
            None => self.hour,
            Some(_) if !(1..=12).contains(&self.hour) => return None,
            Some(is_afternoon) => self.hour % 12 + if is_afternoon { 12 } else { 0 },
        };
        let second = if self.second == 60 { 59 } else { self.second };
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let days = days_to_year(year) + (1..month).map(|m| days_in_month(year, m)).sum::<i64>() + (day - 1);
        // The first day of 1970 was a Thursday.
        if self.weekday.is_some_and(|weekday| (days + 4).rem_euclid(7) != weekday) {
            return None;
        }
        Some(days * DAY_MS + ((hour * 60 + minute - offset_minutes) * 60 + second) * 1000 + millis)
    }
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
