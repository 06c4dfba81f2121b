//! The examples with alerts apart, in a real Fluent Bit whose receiver is away while it is killed twice: every alert arrives.
//!
//! In: events written to a file at a steady pace, of new and known identities and of calls that no rule asks for; no receiver for
//! some seconds, and `kill -9` after a quarter and after half of them. Out: when the receiver is back, the alerts of each new
//! identity, and none of another event. An event may arrive twice. Without a Fluent Bit, or with one that lacks a plugin, the
//! tests say so and pass. Bounds: [`SECONDS`], so that the tests stay short, or as many as `FIRSTSEEN_OUTAGE_SECONDS` says. Not here: what
//! alerts say; a loss of power.

use std::collections::BTreeSet;
use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::fluent_bit_pipelines::{Pipeline, receiver};
use super::{alerting_rules, event};

/// How long the receiver is away, unless the environment says otherwise.
const SECONDS: u64 = 8;

/// Events a second.
const PACE: usize = 340;

/// One event in so many is of a new identity; as many are of the one before it.
const NEW_STEP: usize = 5;

/// After the receiver is back.
const DEADLINE: Duration = Duration::from_secs(120);

/// The event with this number, and whether it alerts.
fn numbered(base: &Value, number: usize) -> (Value, bool) {
    let mut record = base.clone();
    record["eventID"] = json!(format!("event-{number}"));
    record["userIdentity"]["arn"] = json!(format!("arn:aws:iam::111122223333:user/user-{}", number / NEW_STEP));
    if number % NEW_STEP > 1 {
        record["eventSource"] = json!("ec2.amazonaws.com");
        record["eventName"] = json!("DescribeInstances");
    }
    (record, number.is_multiple_of(NEW_STEP))
}

/// Writes so many events to a file, at [`PACE`]; the identifiers of those that alert.
fn write_slowly(file: &Path, count: usize) -> BTreeSet<String> {
    let base = event("iam_user");
    let mut out = File::create(file).expect("a file");
    let started = Instant::now();
    let mut alerting = BTreeSet::new();
    for number in 0..count {
        let (record, alerts) = numbered(&base, number);
        writeln!(out, "{record}").expect("an event is written");
        if alerts {
            alerting.insert(format!("event-{number}"));
        }
        let due = Duration::from_secs_f64(number as f64 / PACE as f64);
        thread::sleep(due.saturating_sub(started.elapsed()));
    }
    alerting
}

fn outage(example: &str) {
    let plugins = ["tail", "grep", "parser", "geoip2", "wasm", "http", "file"];
    let Some(mut pipeline) = Pipeline::new(example, &plugins) else { return };
    let seconds = match env::var("FIRSTSEEN_OUTAGE_SECONDS") {
        Ok(seconds) => seconds.parse().expect("FIRSTSEEN_OUTAGE_SECONDS is a number"),
        Err(_) => SECONDS,
    };
    // It tries again soon, so that the test ends soon.
    let text = fs::read_to_string(&pipeline.example).expect("the example");
    let (colon, indentation) = if example.ends_with(".conf") { ("", "    ") } else { (":", "  ") };
    let line = text.lines().find(|line| line.trim().to_lowercase().starts_with("flush")).expect("a service");
    let schedule = format!("{line}\n{indentation}scheduler.base{colon} 1\n{indentation}scheduler.cap{colon} 3");
    fs::write(&pipeline.example, text.replacen(line, &schedule, 1)).expect("the example is written");

    let (file, count) = (pipeline.directory.join("input/a.ndjson"), seconds as usize * PACE);
    let writer = thread::spawn(move || write_slowly(&file, count));
    for _ in 0..2 {
        pipeline.start();
        thread::sleep(Duration::from_secs(seconds) / 4);
        pipeline.kill();
    }
    pipeline.start();
    let expected = writer.join().expect("the events are written");

    let received = receiver(pipeline.port);
    let back = Instant::now();
    let mut alerted = BTreeSet::new();
    let mut deliveries = 0;
    while alerted.len() < expected.len() && back.elapsed() < DEADLINE {
        let Ok(body) = received.recv_timeout(Duration::from_secs(1)) else { continue };
        for line in body.lines() {
            let record: Value = serde_json::from_str(line).expect("JSON");
            assert!(!alerting_rules(&record["firstseen"]).is_empty(), "{example}: {record}");
            alerted.insert(record["eventID"].as_str().expect("an identifier").to_owned());
            deliveries += 1;
        }
    }
    let missing: Vec<_> = expected.difference(&alerted).collect();
    let wrong: Vec<_> = alerted.difference(&expected).collect();
    let said = pipeline.said("stderr");
    assert!(
        missing.is_empty() && wrong.is_empty(),
        "{example}: {} of {} alerts are missing, {} should not be: {missing:.5?} {wrong:.5?}\n{said}",
        missing.len(),
        expected.len(),
        wrong.len()
    );
    // Shown with --nocapture.
    println!(
        "{example}: {count} events, {} alerts in {deliveries} deliveries, {:?} after",
        expected.len(),
        back.elapsed()
    );
}

#[test]
fn every_alert_of_the_yaml_example_arrives() {
    outage("fluent-bit/alerts-apart.yaml");
}

#[test]
fn every_alert_of_the_classic_example_arrives() {
    outage("fluent-bit/alerts-apart.conf");
}
