//! `kill -9` in a loop.
//!
//! In: a stream of events of which many alert, delivered at least once: whatever was not seen to come out is sent again, and a
//! few that did come out as well. Out: every alert that an uninterrupted run raises, on the same event and with the same
//! content, at least once; and no alert on any other event. Not here: every single byte at which a write may be cut off
//! (unit tests of the engine).

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use firstseen::sample::Random;

use crate::subjects::module_file;

/// How often the program is killed.
const ROUNDS: usize = 120;

/// How many of the events that did come out are sent again.
const AGAIN: usize = 20;

/// Events in the order of their times, a minute apart; a third of them by identities that are new.
fn events(count: usize) -> Vec<String> {
    let mut random = Random::new(7);
    (0..count)
        .map(|number| {
            let user = match random.number() % 3 {
                0 => format!("new-{number}"),
                _ => format!("known-{}", random.number() % 200),
            };
            let time = firstseen::state_export::rfc3339(1_790_000_000 + 60 * number as u32);
            let kind = ["IAMUser", "AssumedRole"][(random.number() % 2) as usize];
            format!(
                r#"{{"eventVersion":"1.08","userIdentity":{{"type":"{kind}","arn":"arn:aws:iam::111122223333:user/{user}"}},"eventTime":"{time}","eventSource":"sts.amazonaws.com","eventName":"GetCallerIdentity","eventID":"e-{number}"}}"#
            )
        })
        .collect()
}

/// The alerts on each event that has some, by its id. What the history says of itself is left out: `since` is when the test
/// ran.
type Alerts = BTreeMap<String, serde_json::Value>;

fn alerts(lines: &[String], found: &mut Alerts) {
    for line in lines {
        let record: serde_json::Value = serde_json::from_str(line).expect("a record");
        let mut alerts = record["firstseen"]["alerts"].clone();
        let Some(listed) = alerts.as_array_mut() else { continue };
        // That it was delivered before is the only difference.
        listed.iter_mut().filter_map(serde_json::Value::as_object_mut).for_each(|alert| drop(alert.remove("again")));
        let id = record["eventID"].as_str().expect("an id").to_owned();
        if let Some(before) = found.get(&id) {
            assert_eq!(&alerts, before, "the same event raised another alert: {id}");
        }
        found.insert(id, alerts);
    }
}

/// Sends events to the program until it has given out so many, kills it, and returns the whole lines that came out.
fn run(directory: &Path, events: &[String], kill_after: Option<usize>) -> Vec<String> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_firstseen"))
        .args(["run", "--dir"])
        .arg(directory)
        .arg("--module")
        .arg(module_file())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    thread::scope(|scope| {
        scope.spawn(move || {
            for event in events {
                // The program may have been killed.
                if stdin.write_all(event.as_bytes()).and_then(|()| stdin.write_all(b"\n")).is_err() {
                    return;
                }
            }
        });
        let mut lines = Vec::new();
        let mut line = String::new();
        while let Ok(1..) = stdout.read_line(&mut line) {
            if line.ends_with('\n') {
                lines.push(line.trim_end().to_owned());
            }
            line.clear();
            if Some(lines.len()) == kill_after {
                child.kill().expect("it is killed");
            }
        }
        child.wait().expect("it ends");
        lines
    })
}

#[test]
fn no_alert_is_missing_and_none_is_on_another_event() {
    let events = events(60_000);
    let undisturbed = tempfile::tempdir().expect("a directory");
    let mut expected = Alerts::new();
    alerts(&run(undisturbed.path(), &events, None), &mut expected);
    assert!(expected.len() > 20_000, "{} events alert", expected.len());

    let directory = tempfile::tempdir().expect("a directory");
    let mut random = Random::new(11);
    let mut found = Alerts::new();
    let (mut next, mut kills, mut repeated) = (0_usize, 0, 0);
    while next < events.len() {
        let from = next.saturating_sub(AGAIN);
        let kill_after = (kills < ROUNDS).then(|| 1 + (random.number() % 700) as usize);
        let lines = run(directory.path(), &events[from..], kill_after);
        kills += usize::from(kill_after.is_some());
        let before = found.len();
        alerts(&lines, &mut found);
        let alerting = lines.iter().filter(|line| line.contains("\"alerts\":")).count();
        repeated += alerting - (found.len() - before);
        next = next.max(from + lines.len());
    }
    println!("killed {kills} times; {} events alert, {repeated} of them again", found.len());
    assert_eq!(kills, ROUNDS, "the events were too few");
    let missing: Vec<&String> = expected.keys().filter(|id| !found.contains_key(*id)).collect();
    assert!(missing.is_empty(), "missing: {missing:?}");
    let surplus: Vec<&String> = found.keys().filter(|id| !expected.contains_key(*id)).collect();
    assert!(surplus.is_empty(), "on other events: {surplus:?}");
    for (id, alerts) in &expected {
        assert_eq!(&found[id], alerts, "{id}");
    }
    assert!(repeated > 0, "nothing was delivered again");
}
