//! Batches that come slowly, break off, turn out to be too long, or to be no lines after all.

use std::io::Write;
use std::time::{Duration, Instant};

use super::parties::{PATIENCE, Receiver, Sender, Sidecar, alert_count, event, named_event};

/// Lines of about 300 KB, of which every fortieth is by a user of its own, with how many alerts that makes.
fn long_batch(name: &str) -> (String, usize) {
    let events = (0..1000).map(|number| match number % 40 {
        0 => event(&format!("{name}-{number}"), &format!("{name}-{number}")),
        _ => named_event(&format!("{name}-{number}"), "ann", "DescribeInstances"),
    });
    (events.collect::<Vec<_>>().join("\n") + "\n", 25)
}

/// The batch with the alerts taken out again.
fn without_alerts(body: &[u8]) -> String {
    let lines = str::from_utf8(body).expect("text").lines().map(|line| match line.split_once(",\"firstseen\":") {
        Some((before, _)) => format!("{before}}}\n"),
        None => format!("{line}\n"),
    });
    lines.collect()
}

fn head(length: usize) -> String {
    format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n")
}

/// Waits until so many requests are under way.
fn wait_for_requests(sidecar: &Sidecar, expected: f64) {
    let begun = Instant::now();
    while sidecar.metric("firstseen_requests_in_flight") != expected {
        assert!(begun.elapsed() < PATIENCE, "there are others");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn parts_make_one_batch_that_goes_on_when_it_is_whole() {
    let receiver = Receiver::start();
    let sidecar = Sidecar::forwarding(None, &receiver, &[]);
    let (batch, alerts) = long_batch("a");
    let mut sender = Sender::connect(sidecar.address);
    sender.raw().write_all(head(batch.len()).as_bytes()).expect("it is sent");
    let (most, rest) = batch.as_bytes().split_at(batch.len() - 1000);
    for (number, part) in most.chunks(40_001).enumerate() {
        sender.raw().write_all(part).expect("it is sent");
        // Some of them are read together, others alone.
        std::thread::sleep(Duration::from_millis(if number < 4 { 20 } else { 0 }));
    }
    wait_for_requests(&sidecar, 1.0);
    assert!(receiver.taken().is_empty());
    sender.raw().write_all(rest).expect("it is sent");
    assert_eq!(sender.reply().expect("an answer").status, 200);
    let taken = receiver.taken();
    assert_eq!((taken.len(), alert_count(&taken[0].body)), (1, alerts));
    assert_eq!(without_alerts(&taken[0].body), batch);
    assert_eq!(sidecar.metric("firstseen_records_total"), 1000.0);
}

/// Whether the users of the batch are as new as before, when their events come under other names.
fn are_unknown(sidecar: &Sidecar, receiver: &Receiver, batch: &str, alerts: usize) {
    let others = batch.replace("\"eventID\":\"a-", "\"eventID\":\"b-");
    assert_ne!(others, batch);
    assert_eq!(sidecar.post(&[], others.as_bytes()).status, 200);
    let taken = receiver.taken();
    assert_eq!(taken.iter().map(|taken| alert_count(&taken.body)).collect::<Vec<_>>(), [alerts]);
}

#[test]
fn nothing_is_learned_from_a_batch_that_breaks_off() {
    let receiver = Receiver::start();
    let sidecar = Sidecar::forwarding(None, &receiver, &[]);
    let (batch, alerts) = long_batch("a");
    let mut sender = Sender::connect(sidecar.address);
    sender.raw().write_all(head(batch.len()).as_bytes()).expect("it is sent");
    sender.raw().write_all(&batch.as_bytes()[..batch.len() - 1000]).expect("it is sent");
    wait_for_requests(&sidecar, 1.0);
    drop(sender);
    wait_for_requests(&sidecar, 0.0);
    are_unknown(&sidecar, &receiver, &batch, alerts);
}

#[test]
fn nothing_is_learned_from_a_batch_that_is_too_long() {
    let receiver = Receiver::start();
    let sidecar = Sidecar::forwarding(None, &receiver, &["--max-body", "1"]);
    let (batch, alerts) = long_batch("a");
    let mut sender = Sender::connect(sidecar.address);
    let head = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    sender.raw().write_all(head.as_bytes()).expect("it is sent");
    let chunk = format!("{:x}\r\n{batch}\r\n", batch.len());
    sender.raw().write_all((chunk.repeat(4) + "0\r\n\r\n").as_bytes()).expect("it is sent");
    assert_eq!(sender.reply().expect("an answer").status, 413);
    are_unknown(&sidecar, &receiver, &batch, alerts);
}

/// The events of a body in whatever framing, without their alerts.
fn events_of(body: &[u8]) -> Vec<serde_json::Value> {
    let mut events = serde_json::Deserializer::from_slice(body)
        .into_iter::<serde_json::Value>()
        .collect::<Result<Vec<_>, _>>()
        .expect("JSON");
    for event in &mut events {
        event.as_object_mut().expect("an object").remove("firstseen");
    }
    events
}

#[test]
fn a_batch_may_turn_out_to_be_no_lines() {
    let receiver = Receiver::start();
    let sidecar = Sidecar::forwarding(None, &receiver, &[]);
    let (batch, alerts) = long_batch("a");
    let pretty = |line: String| {
        let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        serde_json::to_string_pretty(&value).expect("text")
    };
    for framing in ["pretty", "two in a line", "over two lines"] {
        // In the first part that is read, in later ones, and at the end.
        for at in [0, 100, 500, 999] {
            let name = format!("{}-{at}", framing.replace(' ', "-"));
            let line = |user: &str| event(&format!("{name}-{user}"), &format!("{name}-{user}"));
            let (odd, odd_ones) = match framing {
                "pretty" => (pretty(line("odd")), 1),
                "two in a line" => (line("left") + &line("right"), 2),
                _ => (line("odd").replacen("},", "}\n,", 1), 1),
            };
            let lines: Vec<String> = batch.replace("a-", &format!("{name}-")).lines().map(str::to_owned).collect();
            let body = [&lines[..at], &[odd], &lines[at..]].concat().join("\n");
            assert_eq!(sidecar.post(&[], body.as_bytes()).status, 200);
            let taken = receiver.taken().pop().expect("a batch");
            assert_eq!(alert_count(&taken.body), alerts + odd_ones, "{name}");
            assert_eq!(events_of(&taken.body), events_of(body.as_bytes()), "{name}");
        }
    }
}
