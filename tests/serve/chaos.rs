//! End to end with a receiver that fails, hangs and breaks off, and the program killed with `kill -9` all the while.
//!
//! In: events from several senders, each of which sends a batch until it is taken. Out: every event arrives at least once; every
//! alert that an undisturbed run raises is there, on the same event and on every copy of it; no other event alerts. The same from a
//! real Vector, where there is one. Bounds: 150,000 events (10,000 from Vector), or what `FIRSTSEEN_CHAOS_EVENTS` says. Run by hand:
//! ten minutes of it, or `FIRSTSEEN_SOAK_SECONDS`, beside SIGHUP, large bodies and senders that break off, with an eye on memory.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use firstseen::sample::Random;
use firstseen::serve::encoding::{self, Encoding};

use crate::config_examples::vector_started;

use super::parties::{Behaviour, Receiver, Sender, Sidecar, event, named_event};

/// How many senders there are. Each has users of its own, whose events it sends in their order.
const SENDERS: usize = 4;

/// How many events a batch has.
const BATCH: usize = 50;

/// The last event of each kind of failure may take so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// The header of batches that are sent once, whatever becomes of them.
const NOISE: &str = "x-noise";

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
        if batch.headers.contains_key(NOISE) {
            continue;
        }
        for line in batch.body.split(|byte| *byte == b'\n') {
            let id = memchr::memmem::rfind(line, b"\"eventID\":\"").expect("an id") + "\"eventID\":\"".len();
            let id = line[id..].split(|byte| *byte == b'"').next().expect("its end");
            let alerts = memchr::memmem::find(line, b"\"firstseen\":").map(|_| {
                let record: serde_json::Value = serde_json::from_slice(line).expect("a record");
                let mut alerts = record["firstseen"]["alerts"].clone();
                // That it was delivered before is the only difference.
                let listed = alerts.as_array_mut().into_iter().flatten();
                listed.filter_map(serde_json::Value::as_object_mut).for_each(|alert| drop(alert.remove("again")));
                alerts
            });
            arrived.entry(String::from_utf8_lossy(id).into_owned()).or_default().push(alerts);
        }
    }
}

/// Sends all events of all senders, each batch until it is taken; how often one was sent again.
fn send_all(events: &[Vec<String>], address: SocketAddr) -> u64 {
    send_in(Duration::ZERO, events, address)
}

/// The same in this time at least.
fn send_in(time: Duration, events: &[Vec<String>], address: SocketAddr) -> u64 {
    let begun = Instant::now();
    let again = Mutex::new(0);
    std::thread::scope(|scope| {
        for events in events {
            let again = &again;
            scope.spawn(move || {
                let mut connection: Option<Sender> = None;
                for (number, batch) in events.chunks(BATCH).enumerate() {
                    let due = time.mul_f64((number * BATCH) as f64 / events.len() as f64);
                    std::thread::sleep(due.saturating_sub(begun.elapsed()));
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

/// What the events alert on in a run that nothing disturbs.
fn undisturbed(events: &[Vec<String>]) -> Arrived {
    let receiver = Receiver::start();
    let directory = tempfile::tempdir().expect("a directory");
    let sidecar = Sidecar::forwarding(Some(directory.path()), &receiver, &[]);
    assert_eq!(send_all(events, sidecar.address), 0);
    let mut expected = Arrived::new();
    arrived(&receiver, &mut expected);
    expected
}

/// A receiver that does not take one batch in ten, in several ways.
fn unreliable_receiver() -> Receiver {
    let mut random = Random::new(5);
    Receiver::deciding(move || match random.number() % 1000 {
        0..50 => Behaviour::Refuse(503),
        50..70 => Behaviour::Refuse(429),
        70..85 => Behaviour::Close,
        85..100 => Behaviour::TakeAndClose,
        100..102 => Behaviour::Hang,
        _ => Behaviour::Take,
    })
}

/// Lets `work` happen with a sidecar whose address it is given, and which is killed again and again; how often.
fn killing<T>(receiver: &Receiver, work: impl FnOnce(SocketAddr) -> T) -> (u64, T) {
    let directory = tempfile::tempdir().expect("a directory");
    let start = |listen: &str| {
        let arguments = ["--listen", listen, "--forward-timeout", "1"];
        Sidecar::try_start(Some(directory.path()), &[&arguments[..], &["--forward", &receiver.url()]].concat())
    };
    let first = Sidecar::forwarding(Some(directory.path()), receiver, &["--forward-timeout", "1"]);
    let address = first.address;
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let killer = scope.spawn(|| {
            let (mut random, mut kills, mut running) = (Random::new(3), 0, first);
            while !is_over.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(50 + random.number() % 400));
                running.signal("KILL");
                drop(running);
                kills += 1;
                running = start(&address.to_string()).unwrap_or_else(|log| panic!("it does not start again: {log}"));
            }
            kills
        });
        let worked = work(address);
        is_over.store(true, Ordering::Relaxed);
        (killer.join().expect("the killer"), worked)
    })
}

/// That every event arrived, and that each copy of each has the alerts that it had undisturbed.
fn compare(expected: &Arrived, found: &Arrived) {
    let missing: Vec<&String> = expected.keys().filter(|id| !found.contains_key(*id)).collect();
    assert!(missing.is_empty() && found.len() == expected.len(), "missing: {missing:?}");
    for (id, copies) in found {
        let alerts = &expected[id][0];
        assert!(copies.iter().all(|copy| copy == alerts), "{id}: {copies:?}, expected {alerts:?}");
    }
}

/// How many events there are, unless a number is asked for.
fn event_count(usual: usize) -> usize {
    std::env::var("FIRSTSEEN_CHAOS_EVENTS").map_or(usual, |count| count.parse().expect("a number"))
}

#[test]
fn nothing_is_lost_and_no_alert_is_missing() {
    let count = event_count(150_000);
    let events: Vec<_> = (0..SENDERS).map(|sender| events(sender, count / SENDERS)).collect();
    let expected = undisturbed(&events);
    let alerting = expected.values().filter(|copies| copies[0].is_some()).count();
    assert!(alerting > count / 15, "{alerting} events alert");

    let receiver = unreliable_receiver();
    let (kills, again) = killing(&receiver, |address| send_all(&events, address));
    let mut found = Arrived::new();
    arrived(&receiver, &mut found);
    let copies: usize = found.values().map(Vec::len).sum();
    println!("{count} events, {alerting} alerting; killed {kills} times, {again} batches sent again, {copies} arrived");
    assert!(kills >= 2 && again > 0, "too little went wrong: {kills} kills, {again} batches sent again");
    compare(&expected, &found);
}

/// What others send meanwhile: large bodies, bodies that break off, connections of HTTP/2 that say nothing.
fn make_noise(address: SocketAddr, is_over: &AtomicBool) {
    let lines = format!("{}\n", named_event("n", "ann", "DescribeInstances")).repeat(20_000);
    let packed = encoding::packed(lines.clone().into_bytes(), &[Encoding::Gzip]).expect("it is packed");
    let mut idle = std::collections::VecDeque::new();
    while !is_over.load(Ordering::Relaxed) {
        let send = |headers: &[(&str, &str)], body: &[u8]| {
            let sender = Sender::try_connect(address).ok().map(|sender| sender.with_patience(PATIENCE));
            sender.and_then(|mut sender| sender.request("POST", "/", headers, body).ok())
        };
        send(&[(NOISE, "1")], lines.as_bytes());
        send(&[(NOISE, "1"), ("Content-Encoding", "gzip")], &packed);
        send(&[(NOISE, "1")], b"neither JSON nor anything else");
        if let Ok(mut sender) = Sender::try_connect(address) {
            let head = format!("POST / HTTP/1.1\r\nHost: x\r\n{NOISE}: 1\r\nContent-Length: {}\r\n\r\n", lines.len());
            let _ = sender.raw().write_all(&[head.as_bytes(), &lines.as_bytes()[..lines.len() / 2]].concat());
        }
        if let Ok(mut sender) = Sender::try_connect(address) {
            let _ = sender.raw().write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
            idle.push_back(sender);
        }
        if idle.len() > 600 {
            idle.pop_front();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
#[ignore = "takes ten minutes: run it by hand"]
fn ten_minutes_of_everything_lose_nothing_and_take_no_more_memory() {
    let seconds = std::env::var("FIRSTSEEN_SOAK_SECONDS").map_or(600, |seconds| seconds.parse().expect("a number"));
    let time = Duration::from_secs(seconds);
    let events: Vec<_> = (0..SENDERS).map(|sender| events(sender, event_count(400_000) / SENDERS)).collect();
    let expected = undisturbed(&events);
    let (receiver, directory) = (unreliable_receiver(), tempfile::tempdir().expect("a directory"));
    let url = receiver.url();
    let start = |listen: &str| {
        let arguments = ["--listen", listen, "--forward-timeout", "1", "--forward", &url];
        Sidecar::try_start(Some(directory.path()), &arguments).unwrap_or_else(|log| panic!("it does not start: {log}"))
    };
    let (first, is_over, begun) = (start("127.0.0.1:0"), AtomicBool::new(false), Instant::now());
    let (address, mut found) = (first.address, Arrived::new());
    let (kills, hang_ups, memory, again) = std::thread::scope(|scope| {
        let faults = scope.spawn(|| {
            let (mut random, mut running, mut kills, mut hang_ups) = (Random::new(3), first, 0, 0);
            let (mut memory, mut kill) = (Vec::new(), Duration::from_secs(20));
            while !is_over.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(500 + random.number() % 1000));
                memory.push((begun.elapsed(), running.resident()));
                if begun.elapsed() > kill {
                    running.signal("KILL");
                    drop(running);
                    kills += 1;
                    running = start(&address.to_string());
                    kill = begun.elapsed() + Duration::from_secs(20 + random.number() % 20);
                } else {
                    running.signal("HUP");
                    hang_ups += 1;
                }
            }
            (kills, hang_ups, memory)
        });
        let noise = scope.spawn(|| make_noise(address, &is_over));
        let sending = scope.spawn(|| send_in(time, &events, address));
        while !sending.is_finished() {
            // What has arrived is taken now and then, lest it fill the memory.
            std::thread::sleep(Duration::from_secs(1));
            arrived(&receiver, &mut found);
        }
        is_over.store(true, Ordering::Relaxed);
        noise.join().expect("the noise");
        let (kills, hang_ups, memory) = faults.join().expect("the faults");
        (kills, hang_ups, memory, sending.join().expect("the senders"))
    });
    arrived(&receiver, &mut found);
    let most = |from: f64, to: f64| {
        let part = memory.iter().filter(|(at, _)| (from..to).contains(&(at.as_secs_f64() / seconds as f64)));
        part.map(|(_, bytes)| bytes >> 20).max().unwrap_or(0)
    };
    let thirds = [most(0.0, 0.34), most(0.34, 0.67), most(0.67, 2.0)];
    println!(
        "{} events in {:?}; killed {kills} times, {hang_ups} SIGHUP, {again} batches sent again; at most {thirds:?} MB in each third",
        expected.len(),
        begun.elapsed()
    );
    compare(&expected, &found);
    assert!(thirds[2] <= thirds[0] + thirds[0] / 4 + 10, "{thirds:?} MB");
}

/// Files of events to the sidecar, batch by batch, each until it is taken.
const VECTOR: &str = r#"
data_dir: DIRECTORY
sources:
  in: { type: file, include: [DIRECTORY/events.ndjson], read_from: beginning, ignore_checkpoints: true }
transforms:
  events: { type: remap, inputs: [in], source: ". = parse_json!(.message)" }
sinks:
  out:
    type: http
    inputs: [events]
    uri: http://ADDRESS/
    framing: { method: newline_delimited }
    encoding: { codec: json }
    batch: { max_events: 500, timeout_secs: 1 }
    request: { concurrency: 1, retry_initial_backoff_secs: 1, retry_max_duration_secs: 1 }
    acknowledgements: { enabled: true }
"#;

#[test]
fn nothing_is_lost_on_the_way_from_a_real_vector() {
    let vector = match vector_started::vector(&["file"]) {
        Ok(vector) => vector,
        Err(why) => return vector_started::say_skipped("kill -9", &why),
    };
    let events = [events(0, event_count(10_000))];
    let expected = undisturbed(&events);
    let receiver = unreliable_receiver();
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("events.ndjson"), events[0].join("\n") + "\n").expect("it is written");
    let (kills, found) = killing(&receiver, |address| {
        let config = directory.path().join("vector.yaml");
        let name = directory.path().to_str().expect("a name");
        let text = VECTOR.replace("DIRECTORY", name).replace("ADDRESS", &address.to_string());
        std::fs::write(&config, text).expect("it is written");
        let mut child =
            Command::new(&vector).arg("--quiet").arg("--config").arg(&config).spawn().expect("Vector starts");
        let (mut found, mut last) = (Arrived::new(), Instant::now());
        while found.len() < expected.len() && last.elapsed() < 3 * PATIENCE {
            std::thread::sleep(Duration::from_millis(100));
            let before = found.len();
            arrived(&receiver, &mut found);
            if found.len() > before {
                last = Instant::now();
            }
        }
        let _ = child.kill();
        let _ = child.wait();
        found
    });
    arrived(&receiver, &mut Arrived::new());
    println!("{} events; killed {kills} times, {} batches asked for", expected.len(), receiver.asked());
    compare(&expected, &found);
}
