//! Batches whose beginning is worked on while the rest still comes.

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

/// Waits until the module has been given an event.
fn wait_for_candidates(sidecar: &Sidecar) {
    let begun = Instant::now();
    while sidecar.metric("firstseen_candidates_total") == 0.0 {
        assert!(begun.elapsed() < PATIENCE, "nothing was looked at");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_beginning_is_tagged_while_the_rest_comes_and_nothing_goes_on_before_the_end() {
    let receiver = Receiver::start();
    let sidecar = Sidecar::forwarding(None, &receiver, &[]);
    let (batch, alerts) = long_batch("a");
    let mut sender = Sender::connect(sidecar.address);
    sender.raw().write_all(head(batch.len()).as_bytes()).expect("it is sent");
    let (most, rest) = batch.as_bytes().split_at(batch.len() - 1000);
    for part in most.chunks(40_001) {
        sender.raw().write_all(part).expect("it is sent");
    }
    wait_for_candidates(&sidecar);
    assert!(receiver.taken().is_empty());
    sender.raw().write_all(rest).expect("it is sent");
    assert_eq!(sender.reply().expect("an answer").status, 200);
    let taken = receiver.taken();
    assert_eq!((taken.len(), alert_count(&taken[0].body)), (1, alerts));
    assert_eq!(without_alerts(&taken[0].body), batch);
    assert_eq!(sidecar.metric("firstseen_records_total"), 1000.0);
}

#[test]
fn a_batch_that_breaks_off_has_all_its_alerts_when_it_is_sent_again() {
    let receiver = Receiver::start();
    let sidecar = Sidecar::forwarding(None, &receiver, &[]);
    let (batch, alerts) = long_batch("a");
    let mut sender = Sender::connect(sidecar.address);
    sender.raw().write_all(head(batch.len()).as_bytes()).expect("it is sent");
    sender.raw().write_all(&batch.as_bytes()[..200_000]).expect("it is sent");
    wait_for_candidates(&sidecar);
    drop(sender);
    assert_eq!(sidecar.post(&[], batch.as_bytes()).status, 200);
    // The users are known now, but to their own events.
    let again = batch.replace("\"eventID\":\"a-", "\"eventID\":\"b-");
    assert_eq!(sidecar.post(&[], again.as_bytes()).status, 200);
    let taken = receiver.taken();
    assert_eq!(taken.iter().map(|taken| alert_count(&taken.body)).collect::<Vec<_>>(), [alerts, 0]);
}

#[test]
fn nothing_is_learned_from_a_batch_that_may_be_refused_for_ever() {
    let receiver = Receiver::start();
    let sidecar = Sidecar::forwarding(None, &receiver, &["--max-body", "1"]);
    let (batch, alerts) = long_batch("a");
    let mut sender = Sender::connect(sidecar.address);
    let head = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    sender.raw().write_all(head.as_bytes()).expect("it is sent");
    for _ in 0..5 {
        let chunk = format!("{:x}\r\n{batch}\r\n", batch.len());
        // It may be answered before all is sent.
        if sender.raw().write_all(chunk.as_bytes()).is_err() {
            break;
        }
    }
    assert_eq!(sender.reply().expect("an answer").status, 413);
    assert_eq!(sidecar.metric("firstseen_candidates_total"), 0.0);
    let again = batch.replace("\"eventID\":\"a-", "\"eventID\":\"b-");
    assert_eq!(sidecar.post(&[], again.as_bytes()).status, 200);
    assert_eq!(alert_count(&receiver.taken()[0].body), alerts);
}
