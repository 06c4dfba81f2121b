//! Hosts with a wrong clock, and events with a wrong time, in the built module.
//!
//! In: calls by users, with arrival times that are a year off. Out: alerts and windows as with a right clock, and one line on standard
//! error that says how far it is off. Not here: a clock that is off by less than `max_clock_skew`, and each step of the votes
//! (properties against the oracle).

use std::path::Path;
use std::process::Command;

use firstseen::guest::{Answer, Entry, Instance};
use serde_json::Value;

use crate::subjects::{annotation, module};

/// 2026-11-01T00:00:00Z, in seconds.
const BEGIN: u32 = 1_793_491_200;
const DAY: u32 = 86_400;
const YEAR: u32 = 365 * DAY;

fn start(directory: &Path) -> Instance {
    module().instantiate_captured(Some(directory)).expect("the module starts")
}

fn call(user: &str, at: u32) -> String {
    let time = firstseen::state_export::rfc3339(at);
    format!(
        r#"{{"eventSource":"sts.amazonaws.com","eventName":"GetCallerIdentity","eventTime":"{time}","eventID":"{user}-{at}","userIdentity":{{"type":"IAMUser","arn":"arn:aws:iam::111122223333:user/{user}"}}}}"#
    )
}

/// What is appended to a call at `at` that arrives when the host's clock says `clock`.
fn appended(instance: &mut Instance, user: &str, at: u32, clock: u32) -> Value {
    let record = call(user, at);
    match instance.call(Entry::Firstseen, b"tag", clock, 0, record.as_bytes()).expect("an answer") {
        Answer::Untouched => Value::Null,
        Answer::Changed(out) => annotation(record.as_bytes(), &out).expect("an appended key").expect("an alert").1,
        Answer::Dropped => panic!("a record was dropped"),
    }
}

fn reason(value: &Value) -> &str {
    value["alerts"][0]["new_terms"]["reason"].as_str().unwrap_or("none")
}

fn lines(instance: &Instance) -> Vec<String> {
    String::from_utf8_lossy(instance.captured_stderr()).lines().map(str::to_owned).collect()
}

#[test]
fn a_clock_that_falls_a_year_behind_hides_nothing_and_is_reported_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut instance = start(directory.path());
    assert_eq!(reason(&appended(&mut instance, "bob", BEGIN, BEGIN)), "never_seen");
    assert_eq!(reason(&appended(&mut instance, "eve", BEGIN + 60, BEGIN + 60)), "never_seen");
    drop(instance);

    let mut instance = start(directory.path());
    let later = BEGIN + 20 * DAY;
    let value = appended(&mut instance, "bob", later, later - YEAR);
    assert_eq!(
        (reason(&value), value["alerts"][0]["new_terms"]["last_seen"].as_str()),
        ("expired", Some("2026-11-01T00:00:00Z"))
    );
    assert_eq!(value["history"]["state"], "complete");
    assert_eq!(reason(&appended(&mut instance, "bob", later + DAY, later + DAY - YEAR)), "none", "known");
    assert_eq!(reason(&appended(&mut instance, "bob", later + 10 * DAY, later + 10 * DAY - YEAR)), "none", "known");
    let said = lines(&instance);
    assert!(
        said.len() == 1 && said[0].contains("the host's clock says 2025-11-21T00:00:00Z, 365 days before the events"),
        "{said:?}"
    );
    drop(instance);

    // The clock is set, and nothing that was learned meanwhile is new.
    let mut instance = start(directory.path());
    assert_eq!(reason(&appended(&mut instance, "bob", later + 11 * DAY, later + 11 * DAY)), "none");
    assert_eq!(lines(&instance), [""; 0]);
}

#[test]
fn a_history_that_begins_by_a_wrong_clock_is_not_complete_when_the_clock_is_set() {
    for (events, restarts) in [(1, false), (1, true), (9, false), (9, true), (10, true), (40, false), (40, true)] {
        let directory = tempfile::tempdir().expect("a directory");
        let mut instance = start(directory.path());
        for number in 0..events {
            let at = BEGIN + number * 60;
            appended(&mut instance, &format!("user-{number}"), at, at - YEAR);
            if restarts {
                instance = start(directory.path());
            }
        }
        let now = BEGIN + DAY;
        // What was seen by the wrong clock is known by the right one.
        for number in 0..events {
            let value = appended(&mut instance, &format!("user-{number}"), now - 1, now);
            assert_eq!(reason(&value), "none", "user-{number} of {events}, {restarts}");
        }
        let value = appended(&mut instance, "carol", now, now);
        let history = &value["history"];
        assert_eq!(
            (reason(&value), &history["state"]),
            ("never_seen", &Value::from("warming")),
            "{events}, {restarts}"
        );
        assert_eq!(history["since"], "2026-11-01T00:00:00Z", "{events}, {restarts}");
        let value = appended(&mut instance, "dave", BEGIN + 11 * DAY, BEGIN + 11 * DAY);
        assert_eq!(value["history"]["state"], "complete", "{events}, {restarts}");
    }
}

#[test]
fn misdated_events_move_a_right_clock_by_nothing_that_lasts() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut instance = start(directory.path());
    appended(&mut instance, "bob", BEGIN, BEGIN);
    // Nine are bounded, and so is each that follows one which agrees with the clock.
    for number in 1..=30 {
        let (now, far) = (BEGIN + number, BEGIN + 10 * YEAR + number);
        appended(&mut instance, "eve", far, now);
        if number % 9 == 0 {
            assert_eq!(reason(&appended(&mut instance, "bob", now, now)), "none");
        }
    }
    let value = appended(&mut instance, "eve", BEGIN + 11 * DAY, BEGIN + 11 * DAY);
    assert_eq!((reason(&value), &value["history"]["state"]), ("expired", &Value::from("complete")));
    assert_eq!(lines(&instance), [""; 0]);

    // Many in a row are believed, but they expire nothing of others, and ten that agree with the clock outweigh them.
    for number in 0..20 {
        appended(&mut instance, "mallory", BEGIN + 10 * YEAR + number, BEGIN + 12 * DAY);
    }
    assert_eq!(lines(&instance).len(), 1);
    for number in 0..10 {
        let now = BEGIN + 13 * DAY + number;
        assert_eq!(reason(&appended(&mut instance, "eve", now, now)), "none", "{number}");
    }
    drop(instance);
    let mut instance = start(directory.path());
    appended(&mut instance, "trent", BEGIN + 10 * YEAR, BEGIN + 14 * DAY);
    assert_eq!(
        reason(&appended(&mut instance, "trent", BEGIN + 25 * DAY, BEGIN + 25 * DAY)),
        "expired",
        "bounded again"
    );
}

#[test]
fn a_clock_that_was_ahead_leaves_the_window_as_it_was() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut instance = start(directory.path());
    appended(&mut instance, "bob", BEGIN, BEGIN);
    let ahead = BEGIN + 5 * DAY;
    assert_eq!(reason(&appended(&mut instance, "bob", ahead, ahead + YEAR)), "none", "a year ahead expires nothing");
    drop(instance);
    let mut instance = start(directory.path());
    let value = appended(&mut instance, "eve", BEGIN + 12 * DAY, BEGIN + 12 * DAY);
    assert_eq!((reason(&value), &value["history"]["state"]), ("never_seen", &Value::from("complete")));
    assert_eq!(value["history"]["since"], "2026-11-01T00:00:00Z");
}

#[test]
fn a_clock_that_was_ahead_when_the_filter_started_leaves_a_baseline_as_it_was() {
    let directory = tempfile::tempdir().expect("a directory");
    let past = directory.path().join("past.ndjson");
    let days: Vec<String> = (0..=12).map(|day| call("bob", BEGIN - day * DAY)).collect();
    std::fs::write(&past, days.join("\n")).expect("a file");
    let dir = directory.path();
    let taught =
        Command::new(env!("CARGO_BIN_EXE_firstseen")).arg("baseline").arg("--dir").arg(dir).arg(&past).output();
    assert!(taught.expect("the program runs").status.success());
    let mut instance = start(dir);
    // The first record comes by a clock that is a year ahead, the next by one that is right.
    assert_eq!(reason(&appended(&mut instance, "bob", BEGIN + 60, BEGIN + 60 + YEAR)), "none");
    let value = appended(&mut instance, "eve", BEGIN + 120, BEGIN + 120);
    assert_eq!((reason(&value), &value["history"]["state"]), ("never_seen", &Value::from("complete")));
    assert_eq!(value["history"]["since"], "2026-10-20T00:00:00Z");
}
