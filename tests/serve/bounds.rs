//! What it holds and how soon it answers, whatever senders and the module do.
//!
//! Out: memory within `--max-memory`, a tenth of it, and [`BASE`]; `/health` while the module is busy; room for senders that may
//! send beside any number of connections that say nothing. Not here: what the answers are.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use firstseen::serve::encoding::{self, Encoding};
use firstseen::serve::listener::MAX_CONNECTIONS;

use super::parties::{PATIENCE, Receiver, Sender, Sidecar, alert_count, event};

/// What the program takes beside bodies: itself, the module with its history and its largest answer, and connections.
const BASE: usize = 48 << 20;

const MEMORY: usize = 64 << 20;

/// Events of 300 bytes, of which each alerts 32 times, in about a hundred times as many bytes.
fn amplified(events: usize) -> String {
    let event = |number: usize| {
        let values: Vec<String> = (0..32).map(|value| format!("\"{:x}\"", number * 32 + value)).collect();
        let arn = values.join(",");
        format!(
            "{{\"eventSource\":\"sts.amazonaws.com\",\"eventName\":\"GetCallerIdentity\",\"userIdentity\":{{\"arn\":[{arn}]}}}}\n"
        )
    };
    (0..events).map(event).collect()
}

fn post(headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST / HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn is_within(sidecar: &Sidecar) {
    let resident = sidecar.resident();
    assert!(resident <= MEMORY / 10 * 11 + BASE, "{} MB", resident >> 20);
}

#[test]
fn answers_that_nobody_reads_are_within_the_bound_and_do_not_stay() {
    let plain = amplified(1000);
    let packed = encoding::packed(plain.clone().into_bytes(), &[Encoding::Gzip]).expect("it is packed");
    for (arguments, headers, body) in [
        (&["--respond"][..], "", plain.as_bytes()),
        (&["--respond"], "Content-Encoding: gzip\r\n", &packed),
        (&["--respond", "--alerts-only"], "", plain.as_bytes()),
    ] {
        let limits = ["--max-memory", "64", "--body-timeout", "4"];
        let sidecar = Sidecar::start(None, &[arguments, &limits].concat());
        let mut deaf: Vec<Sender> = (0..40).map(|_| Sender::connect(sidecar.address)).collect();
        for sender in &mut deaf {
            sender.raw().write_all(&post(headers, body)).expect("it is sent");
            is_within(&sidecar);
        }
        // All are answered one way or the other.
        let statuses: Vec<String> = deaf
            .iter_mut()
            .map(|sender| {
                let mut begin = [0; 12];
                sender.raw().read_exact(&mut begin).expect("an answer");
                is_within(&sidecar);
                String::from_utf8_lossy(&begin[9..]).into_owned()
            })
            .collect();
        assert!(statuses.iter().all(|status| status == "200" || status == "503"), "{statuses:?}");
        assert!(statuses.iter().any(|status| status == "200"), "{statuses:?}");
        // Those that are not read are given up.
        let begun = Instant::now();
        while sidecar.metric("firstseen_held_bytes") > 0.0 {
            assert!(begun.elapsed() < Duration::from_secs(20), "they are held for ever");
            is_within(&sidecar);
            std::thread::sleep(Duration::from_millis(100));
        }
        let reply = sidecar.post(&[], plain.as_bytes());
        assert_eq!((reply.status, alert_count(&reply.body)), (200, 1000));
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a length").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A request of HTTP/2 on a stream of its own.
fn post_http_2(stream: u32, body: &[u8]) -> Vec<u8> {
    let length = body.len().to_string();
    // POST, http, and / from the table; the authority x and the length as literals.
    let mut head = vec![0x83, 0x86, 0x84, 0x01, 0x01, b'x', 0x0f, 0x0d, u8::try_from(length.len()).expect("a length")];
    head.extend_from_slice(length.as_bytes());
    let mut out = frame(1, 4, stream, &head);
    let mut parts = body.chunks(16 << 10).peekable();
    while let Some(part) = parts.next() {
        out.extend(frame(0, u8::from(parts.peek().is_none()), stream, part));
    }
    out
}

#[test]
fn answers_over_http_2_that_nobody_reads_are_within_the_bound_too() {
    let sidecar = Sidecar::start(None, &["--respond", "--max-memory", "64", "--body-timeout", "4"]);
    // Windows as large as there are, so that only the connection itself is full.
    let settings =
        [PREFACE.strip_suffix(b"\0\0\0\x04\0\0\0\0\0").expect("settings"), &frame(4, 0, 0, b"\0\x04\x7f\xff\xff\xff")];
    let settings = [settings.concat(), frame(8, 0, 0, &(0x7fff_ffff - 0xffff_u32).to_be_bytes())].concat();
    let body = amplified(300);
    let mut deaf: Vec<Sender> = (0..10)
        .map(|_| {
            let mut sender = Sender::connect(sidecar.address);
            sender.raw().write_all(&settings).expect("it is sent");
            // The sidecar's own windows count from the answer to its settings on.
            std::thread::sleep(Duration::from_millis(50));
            sender.raw().write_all(&frame(4, 1, 0, b"")).expect("it is sent");
            for stream in (1..20).step_by(2) {
                sender.raw().write_all(&post_http_2(stream, body.as_bytes())).expect("it is sent");
                is_within(&sidecar);
            }
            sender
        })
        .collect();
    let answered = || {
        let text = String::from_utf8(sidecar.get("/metrics").body).expect("text");
        ["200", "503"].map(|status| text.contains(&format!("firstseen_requests_total{{status=\"{status}\"}}")))
    };
    let begun = Instant::now();
    while answered() != [true, true] {
        assert!(begun.elapsed() < PATIENCE, "some are answered, and some find no room");
        is_within(&sidecar);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(sidecar.metric("firstseen_held_bytes") > 10e6, "they wait to be read");
    let begun = Instant::now();
    while sidecar.metric("firstseen_held_bytes") > 0.0 {
        assert!(begun.elapsed() < Duration::from_secs(20), "they are held for ever");
        is_within(&sidecar);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(deaf.iter_mut().any(|sender| sender.is_closed_within(Duration::from_secs(2))));
}

#[test]
fn a_request_is_under_way_until_its_answer_is_read() {
    let sidecar = Sidecar::start(None, &["--respond", "--max-requests", "2"]);
    let body = amplified(500);
    let mut deaf: Vec<Sender> = (0..2).map(|_| Sender::connect(sidecar.address)).collect();
    for sender in &mut deaf {
        sender.raw().write_all(&post("", body.as_bytes())).expect("it is sent");
        sender.raw().read_exact(&mut [0; 12]).expect("an answer");
    }
    assert_eq!(sidecar.post(&[], b"{}").status, 503);
    drop(deaf);
    let begun = Instant::now();
    while sidecar.post(&[], b"{}").status != 200 {
        assert!(begun.elapsed() < PATIENCE, "it is under way for ever");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_answer_that_is_read_slowly_arrives_whole() {
    let sidecar = Sidecar::start(None, &["--respond"]);
    let body = amplified(500);
    let mut sender = Sender::connect(sidecar.address);
    sender.raw().write_all(&post("", body.as_bytes())).expect("it is sent");
    std::thread::sleep(Duration::from_secs(2));
    let reply = sender.reply().expect("an answer");
    assert_eq!((reply.status, alert_count(&reply.body)), (200, 500));
}

/// How a connection of HTTP/2 begins: the preface, and settings that are all as they are.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0firstsee";

#[test]
fn connections_without_a_request_keep_nobody_out_and_are_closed() {
    let directory = tempfile::tempdir().expect("a directory");
    let token = directory.path().join("token");
    std::fs::write(&token, "0123456789abcdef0123").expect("it is written");
    let sidecar = Sidecar::start(None, &["--respond", "--token-file", token.to_str().expect("a name")]);
    let known = [("Authorization", "Bearer 0123456789abcdef0123")];
    let mut kept = Sender::connect(sidecar.address);
    assert_eq!(kept.request("POST", "/", &known, b"{}").expect("an answer").status, 200);
    let begun = Instant::now();
    let mut idle: Vec<Sender> = (0..MAX_CONNECTIONS + 100)
        .map(|number| {
            let mut sender = Sender::connect(sidecar.address);
            let said: &[u8] = match number % 5 {
                0 => PREFACE,
                1 => b"",
                2 => b"PRI * HTTP/2.0\r\n",
                3 => b"POST / HTTP/1.1\r\nX-",
                // Its request may not send, and does not come to an end.
                _ => b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
            };
            // One that was closed for another already is fine.
            let _ = sender.raw().write_all(said);
            sender
        })
        .collect();
    // Whoever may send is served at once, on a connection that there is and on new ones.
    let asked = Instant::now();
    assert_eq!(kept.request("POST", "/", &known, b"{}").expect("an answer").status, 200);
    for _ in 0..5 {
        assert_eq!(sidecar.post(&known, b"{}").status, 200);
    }
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    // The others are gone after ten seconds, whatever they send but for a request.
    let mut pinging = Sender::connect(sidecar.address);
    pinging.raw().write_all(PREFACE).expect("it is sent");
    let pinged = Instant::now();
    while pinging.raw().write_all(PING).is_ok() && !pinging.is_closed_within(Duration::from_millis(300)) {
        assert!(pinged.elapsed() < Duration::from_secs(20), "a PING is no request");
    }
    assert!(pinged.elapsed() > Duration::from_secs(5), "{:?}", pinged.elapsed());
    for sender in &mut idle {
        assert!(sender.is_closed_within(Duration::from_secs(20).saturating_sub(begun.elapsed())), "one stays");
    }
}

/// Asks until it is told that it is over; the longest time that an answer took.
fn longest(address: SocketAddr, path: &str, is_over: &AtomicBool) -> (Duration, u64) {
    let (mut longest, mut asked) = (Duration::ZERO, 0);
    while !is_over.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let reply = Sender::connect(address).request("GET", path, &[], b"").expect("an answer");
        assert_eq!(reply.status, 200);
        (longest, asked) = (longest.max(begun.elapsed()), asked + 1);
        std::thread::sleep(Duration::from_millis(5));
    }
    (longest, asked)
}

#[test]
fn it_says_how_it_is_while_the_module_is_busy() {
    let receiver = Receiver::start();
    let sidecar = Sidecar::forwarding(None, &receiver, &["--health-listen", "127.0.0.1:0"]);
    let probes = sidecar.health_address();
    let body: Vec<String> = (0..100_000).map(|number| event(&format!("e{number}"), &format!("u{number}"))).collect();
    let body = body.join("\n");
    let is_over = AtomicBool::new(false);
    let (took, waits) = std::thread::scope(|scope| {
        let places = [(sidecar.address, "/health"), (sidecar.address, "/metrics"), (probes, "/health")];
        let waits = places.map(|(address, path)| {
            let is_over = &is_over;
            scope.spawn(move || longest(address, path, is_over))
        });
        let begun = Instant::now();
        let busy = scope.spawn(|| sidecar.post(&[], body.as_bytes()).status);
        // Others that wait for the module, more than there are threads.
        while sidecar.metric("firstseen_requests_in_flight") < 1.0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        let others: Vec<_> = (0..6)
            .map(|number| {
                let sidecar = &sidecar;
                scope.spawn(move || sidecar.post(&[], event(&format!("o{number}"), "ann").as_bytes()).status)
            })
            .collect();
        assert_eq!(busy.join().expect("an answer"), 200);
        let took = begun.elapsed();
        is_over.store(true, Ordering::Relaxed);
        assert!(others.into_iter().all(|other| other.join().expect("an answer") == 200));
        (took, waits.map(|wait| wait.join().expect("how long it took")))
    });
    println!("the batch took {took:?}; the longest answers and their number: {waits:?}");
    for (longest, asked) in waits {
        // On a machine that does other things as well.
        assert!(
            longest < (took / 3).max(Duration::from_millis(250)) && asked > 5,
            "{longest:?} of {took:?}, {asked} asked"
        );
    }
}

#[test]
fn probes_need_neither_a_token_nor_tls_and_are_told_no_more_than_they_ask() {
    let directory = tempfile::tempdir().expect("a directory");
    let token = directory.path().join("token");
    std::fs::write(&token, "0123456789abcdef0123").expect("it is written");
    let arguments = ["--forward", "http://127.0.0.1:9/", "--health-listen", "127.0.0.1:0"];
    let token = ["--token-file", token.to_str().expect("a name")];
    let sidecar = Sidecar::start(None, &[&arguments[..], &token].concat());
    let address = sidecar.health_address();
    let known = [("Authorization", "Bearer 0123456789abcdef0123")];
    assert_eq!(sidecar.post(&known, event("a", "ann").as_bytes()).status, 502);
    // Many that say nothing keep none out.
    let idle: Vec<Sender> = (0..200).map(|_| Sender::connect(address)).collect();
    let ask = |method: &str, path: &str| Sender::connect(address).request(method, path, &[], b"").expect("an answer");
    let reply = ask("GET", "/health");
    assert_eq!((reply.status, reply.body.as_slice()), (200, &b"ok\n"[..]));
    for (method, path, status) in [("POST", "/", 404), ("GET", "/metrics", 404), ("POST", "/health", 405)] {
        assert_eq!(ask(method, path).status, status, "{method} {path}");
    }
    drop(idle);
    // While it ends it says so.
    let mut under_way = Sender::connect(sidecar.address);
    let head = "POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer 0123456789abcdef0123\r\nContent-Length: 10\r\n\r\n";
    under_way.raw().write_all(head.as_bytes()).expect("it is sent");
    std::thread::sleep(Duration::from_millis(200));
    sidecar.signal("TERM");
    sidecar.wait_for("ending");
    let reply = ask("GET", "/health");
    assert_eq!((reply.status, reply.body.as_slice()), (503, &b"ending\n"[..]));
}
