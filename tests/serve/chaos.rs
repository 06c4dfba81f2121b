//! End to end with a receiver that fails, hangs and breaks off, and the program killed with `kill -9` all the while.
//!
//! In: events from several senders, each of which sends a batch until it is taken. Out: every event arrives at least once; every
//! alert that an undisturbed run raises is there, on the same event and on every copy of it; no other event alerts. Bounds: 60,000
//! events, or what `FIRSTSEEN_CHAOS_EVENTS` says.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use firstseen::sample::Random;

use super::parties::{Behaviour, Receiver, Sender, Sidecar, event, named_event};

/// How many senders there are. Each has users of its own, whose events it sends in their order.
const SENDERS: usize = 4;

/// How many events a batch has.
const BATCH: usize = 50;

/// The last event of each kind of failure may take so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A sender's events: a fifth of them by users, of whom some are new.
fn events(sender: usize, count: usize) -> Vec<String> {
    let mut random = Random::new(sender as u64);
    let events = (0..count).map(|number| {
        let id = format!("{sender}-{number}");
        match random.number() % 10 {
            0 => event(&id, &format!("{sender}-new-{number}")),
            1 => event(&id, &format!("{sender}-known-{}", random.number() % 50)),
            _ => named_event(&id, "ann", "DescribeInstances"),
        }
    });
    events.collect()
}

/// The alerts of each event that arrived, copy by copy; none, for a copy without.
type Arrived = BTreeMap<String, Vec<Option<serde_json::Value>>>;

fn arrived(receiver: &Receiver, arrived: &mut Arrived) {
    for batch in receiver.taken() {
        for line in batch.body.split(|byte| *byte == b'\n') {
            let id = memchr::memmem::rfind(line, b"\"eventID\":\"").expect("an id") + "\"eventID\":\"".len();
            let id = line[id..].split(|byte| *byte == b'"').next().expect("its end");
            let alerts = memchr::memmem::find(line, b"\"firstseen\":").map(|_| {
                let record: serde_json::Value = serde_json::from_slice(line).expect("a record");
                record["firstseen"]["alerts"].clone()
            });
            arrived.entry(String::from_utf8_lossy(id).into_owned()).or_default().push(alerts);
        }
    }
}

/// Sends all events of all senders, each batch until it is taken; how often one was sent again.
fn send_all(events: &[Vec<String>], address: std::net::SocketAddr) -> u64 {
    let again = Mutex::new(0);
    std::thread::scope(|scope| {
        for events in events {
            let again = &again;
            scope.spawn(move || {
                let mut connection: Option<Sender> = None;
                for batch in events.chunks(BATCH) {
                    let body = batch.join("\n");
                    let begun = Instant::now();
                    loop {
                        if connection.is_none() {
                            connection = Sender::try_connect(address).ok().map(|sender| sender.with_patience(PATIENCE));
                        }
                        let reply = connection.as_mut().map(|sender| sender.request("POST", "/", &[], body.as_bytes()));
                        match reply {
                            Some(Ok(reply)) if reply.status == 200 => break,
                            Some(Ok(_)) => {}
                            // The program was killed.
                            Some(Err(_)) | None => {
                                connection = None;
                                std::thread::sleep(Duration::from_millis(5));
                            }
                        }
                        *again.lock().expect("a count") += 1;
                        assert!(begun.elapsed() < 3 * PATIENCE, "a batch is never taken");
                    }
                }
            });
        }
    });
    again.into_inner().expect("a count")
}

#[test]
fn nothing_is_lost_and_no_alert_is_missing() {
    let count = std::env::var("FIRSTSEEN_CHAOS_EVENTS").map_or(60_000, |count| count.parse().expect("a number"));
    let events: Vec<_> = (0..SENDERS).map(|sender| events(sender, count / SENDERS)).collect();

    let receiver = Receiver::start();
    let directory = tempfile::tempdir().expect("a directory");
    let sidecar = Sidecar::forwarding(Some(directory.path()), &receiver, &[]);
    assert_eq!(send_all(&events, sidecar.address), 0);
    let mut expected = Arrived::new();
    arrived(&receiver, &mut expected);
    drop((sidecar, receiver));
    let alerting = expected.values().filter(|copies| copies[0].is_some()).count();
    assert!(alerting > count / 15, "{alerting} events alert");

    let mut random = Random::new(5);
    let receiver = Receiver::deciding(move || match random.number() % 1000 {
        0..50 => Behaviour::Refuse(503),
        50..70 => Behaviour::Refuse(429),
        70..85 => Behaviour::Close,
        85..100 => Behaviour::TakeAndClose,
        100..102 => Behaviour::Hang,
        _ => Behaviour::Take,
    });
    let directory = tempfile::tempdir().expect("a directory");
    let start = |listen: &str| {
        let arguments = ["--listen", listen, "--forward-timeout", "1"];
        Sidecar::forwarding(Some(directory.path()), &receiver, &arguments)
    };
    let first = start("127.0.0.1:0");
    let address = first.address;
    let is_over = AtomicBool::new(false);
    let mut found = Arrived::new();
    let (kills, again) = std::thread::scope(|scope| {
        let killer = scope.spawn(|| {
            let (mut random, mut kills, mut running) = (Random::new(3), 0, first);
            while !is_over.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(50 + random.number() % 400));
                running.signal("KILL");
                drop(running);
                kills += 1;
                running = start(&address.to_string());
            }
            kills
        });
        let again = send_all(&events, address);
        is_over.store(true, Ordering::Relaxed);
        (killer.join().expect("the killer"), again)
    });
    arrived(&receiver, &mut found);
    let copies: usize = found.values().map(Vec::len).sum();
    println!(
        "{count} events, {alerting} of them alerting; killed {kills} times, {again} batches sent again, {copies} arrived"
    );
    assert!(kills >= 3 && again > 0, "too little went wrong: {kills} kills, {again} batches sent again");
    let missing: Vec<&String> = expected.keys().filter(|id| !found.contains_key(*id)).collect();
    assert!(missing.is_empty() && found.len() == expected.len(), "missing: {missing:?}");
    for (id, copies) in &found {
        let alerts = &expected[id][0];
        assert!(copies.iter().all(|copy| copy == alerts), "{id}: {copies:?}, expected {alerts:?}");
    }
}
