//! Event times in the forms that exports write: the engine reads what `jiff` reads, and what the oracle reads.
//!
//! In: times, written in many forms; and any text. Out: what becomes of an event with that time. Not here: what a time does to windows.

use firstseen_engine::event::{IdentityReader, timestamp};
use firstseen_engine::rule::Settings;
use jiff::Timestamp;
use jiff::fmt::strtime;
use jiff::tz::{Offset, TimeZone};
use proptest::prelude::*;

use crate::oracle::{read_epoch, read_time};

/// The time that the engine reads out of an event with this value, as JSON, at its time's place.
fn event_time(json: &str) -> Option<i64> {
    let record = format!(r#"{{"EventSource":"s","EventName":"n","TimeGenerated":{json}}}"#);
    let identities = IdentityReader::new(&Settings::default()).read(record.as_bytes());
    let [identity] = &identities[..] else { panic!("it is an event, whatever its time is") };
    identity.event_time
}

#[test]
fn exports_of_six_kinds() {
    let expected = Some(1_790_848_800_000);
    for (json, millis) in [
        (r#""2026/10/01 10:00:00.403""#, Some(1_790_848_800_403)),
        (r#""2026-10-01 10:00:00.000 UTC""#, expected),
        (r#""2026-10-01 10:00:00+00""#, expected),
        ("1790848800", expected),
        ("1790848800000", expected),
        ("1790848800000000", expected),
        ("1790848800000000000", expected),
        (r#""1790848800.403""#, Some(1_790_848_800_403)),
        (r#""1790848800000""#, expected),
        ("1.7908488e9", expected),
        (r#""10/1/2026, 10:00:00.000 AM""#, None),
        (r#""01/10/2026 10:00:00""#, None),
        (r#""01.10.26 10:00:00""#, None),
        ("20261001", None),
        ("46296.41", None),
        ("true", None),
    ] {
        assert_eq!(event_time(json), millis, "{json}");
    }
}

/// Each way to write a time that has every part down to the second, as `strftime` has it.
const FORMS: [&str; 16] = [
    "%Y-%m-%dT%H:%M:%S%:z",
    "%Y-%m-%d %H:%M:%S%z",
    "%Y-%m-%d %H:%M:%S %z",
    "%Y/%m/%d %H:%M:%S%:z",
    "%Y/%-m/%-d %-H:%M:%S %:z",
    "%Y%m%dT%H%M%S%z",
    "%d/%b/%Y:%H:%M:%S %z",
    "%-d %B %Y %H:%M:%S %z",
    "%d-%b-%Y %H:%M:%S %z",
    "%a, %d %b %Y %H:%M:%S %z",
    "%A, %d %B %Y %H:%M:%S %:z",
    "%b %-d, %Y %H:%M:%S %z",
    "%B %-d, %Y, %-I:%M:%S %p %z",
    "%Y-%m-%d %I:%M:%S %p %:z",
    "%a %b %-d %Y %H:%M:%S GMT%z",
    "%Y-%m-%d, %H:%M:%S UTC%:z",
];

proptest! {
    #[test]
    fn every_form_is_read_as_jiff_wrote_it(seconds in -60_000_000_000i64..250_000_000_000, form in 0..FORMS.len(), quarters in -92i32..=92) {
        let offset = Offset::from_seconds(quarters * 15 * 60).expect("within a day");
        let time = Timestamp::from_second(seconds).expect("a time").to_zoned(TimeZone::fixed(offset));
        prop_assume!((1..=9999).contains(&time.year()));
        let text = strtime::format(FORMS[form], &time).expect("a form");
        prop_assert_eq!(timestamp::parse(&text), Some(seconds * 1000), "{}", text);
        prop_assert_eq!(read_time(&text), Some(seconds * 1000), "{}", text);
    }

    #[test]
    fn epochs_are_read_in_every_unit(millis in 1_000_000_000_000i64..9_999_999_999_999, rest in 0..1_000_000i64) {
        let (seconds, part) = (millis / 1000, millis % 1000);
        let texts = [
            format!("{seconds}.{part:03}"),
            format!("{millis}"),
            format!("{millis}.{rest}"),
            format!("{}", millis * 1000 + rest / 1000),
            format!("{millis}{rest:06}"),
            format!("0.{millis}e10"),
        ];
        for text in texts {
            prop_assert_eq!(event_time(&text), Some(millis), "{}", &text);
            prop_assert_eq!(event_time(&format!("{text:?}")), Some(millis), "{}", &text);
            prop_assert_eq!(read_epoch(&text), Some(millis), "{}", &text);
        }
    }

    #[test]
    fn engine_and_oracle_agree_on_any_text(
        text in prop_oneof![
            "[0-9A-Za-z:/., +-]{0,40}",
            "(Thu|Friday|)[ ,]{0,2}[0-9]{0,8}[-/ ~]?([0-9]{1,2}|Oct|october)[-/ ,]{0,2}[0-9]{1,4}[T :,]{0,2}[0-9]{1,2}:[0-9]{2}(:[0-9]{2})?([.,][0-9]{0,4})?( ?[AaPp][Mm])? ?(Z|utc|GMT|x|)([+-][0-9]{1,2}:?[0-9]{0,2})?( ?\\(?UTC\\)?)?",
            "20[0-9]{6}T?[0-9]{6}Z?",
        ]
    ) {
        prop_assert_eq!(timestamp::parse(&text), read_time(&text), "{}", text);
        let expected = read_time(&text).or_else(|| read_epoch(&text));
        prop_assert_eq!(event_time(&serde_json::to_string(&text).expect("text")), expected, "{}", text);
    }

    #[test]
    fn engine_and_oracle_agree_on_any_number(text in "-?(0|[1-9][0-9]{0,20})([.][0-9]{1,8})?([eE][+-]?[0-9]{1,2})?") {
        prop_assert_eq!(event_time(&text), read_epoch(&text), "{}", text);
    }
}
