//! What goes in and what comes out, request by request.

use std::io::Write;
use std::time::Duration;

use firstseen::serve::encoding::{self, Encoding};

use super::parties::{Behaviour, Receiver, Reply, Sender, Sidecar, alert_count, event, named_event};

/// Events of which the second and the fourth are by users that were not seen before.
fn batch() -> Vec<String> {
    let uninteresting = |id: &str| named_event(id, "ann", "DescribeInstances");
    vec![uninteresting("a"), event("b", "ann"), event("c", "ann"), event("d", "ben"), uninteresting("e")]
}

/// The same events, as `firstseen run` would pass them on but for what the history says of itself.
fn has_alerts_in_place(records: &[String], batch: &[String]) {
    assert_eq!(records.len(), batch.len());
    for (number, (record, sent)) in records.iter().zip(batch).enumerate() {
        match number {
            1 | 3 => {
                let (before, behind) = record.split_once(",\"firstseen\":{\"alerts\":[").expect("it has an alert");
                assert_eq!(Some(before), sent.strip_suffix('}'), "{record}");
                assert!(behind.contains("\"reason\":\"never_seen\""), "{record}");
            }
            _ => assert_eq!(record, sent),
        }
    }
}

fn records_of(body: &[u8]) -> Vec<String> {
    let text = str::from_utf8(body).expect("text");
    let records = serde_json::Deserializer::from_str(text).into_iter::<Box<serde_json::value::RawValue>>();
    let texts = records.map(|record| record.expect("JSON").get().to_owned()).collect::<Vec<_>>();
    match texts.as_slice() {
        [array] if array.starts_with('[') => {
            let records: Vec<Box<serde_json::value::RawValue>> = serde_json::from_str(array).expect("an array");
            records.iter().map(|record| record.get().to_owned()).collect()
        }
        _ => texts,
    }
}

#[test]
fn every_framing_and_encoding_goes_on_as_it_came() {
    let receiver = Receiver::start();
    let batch = batch();
    let pretty = batch.iter().map(|record| {
        let value: serde_json::Value = serde_json::from_str(record).expect("JSON");
        serde_json::to_string_pretty(&value).expect("text")
    });
    let pretty: Vec<String> = pretty.collect();
    for (framing, media_type, body) in [
        ("lines", "application/x-ndjson", batch.join("\n") + "\n"),
        ("array", "application/json", format!("[{}]", batch.join(","))),
        ("concatenated", "application/json", batch.concat()),
        ("pretty", "application/json", pretty.join("\n\n")),
    ] {
        for encodings in [vec![], vec![Encoding::Gzip], vec![Encoding::Zstd], vec![Encoding::Snappy]] {
            let name = encodings.first().map_or("identity", |encoding| encoding.name());
            let sidecar = Sidecar::forwarding(None, &receiver, &[]);
            let packed = encoding::packed(body.clone().into_bytes(), &encodings).expect("it is packed");
            let headers = [("Content-Type", media_type), ("Content-Encoding", name), ("X-Source", "trail")];
            let reply = sidecar.post(&headers, &packed);
            assert_eq!((reply.status, reply.body.as_slice()), (200, &b"taken"[..]), "{framing} {name}");
            let [taken] = receiver.taken().try_into().expect("one batch");
            for (header, value) in headers {
                assert_eq!(taken.headers[header.to_ascii_lowercase()], value, "{framing} {name}");
            }
            let text = encoding::unpacked(&taken.body, &encodings, 1 << 20).expect("it is packed as it came");
            assert_eq!(alert_count(&text), 2, "{framing} {name}");
            if framing == "pretty" {
                assert_eq!(records_of(&text).len(), batch.len());
            } else {
                has_alerts_in_place(&records_of(&text), &batch);
            }
            // What raises no alert goes on byte for byte, packed as it was.
            let again = named_event("z", "ann", "DescribeInstances").into_bytes();
            let again = encoding::packed([again, b" \r\n oops".to_vec()].concat(), &encodings).expect("it is packed");
            assert_eq!(sidecar.post(&headers, &again).status, 200);
            assert_eq!(receiver.taken()[0].body, again, "{framing} {name}");
            assert_eq!(sidecar.metric("firstseen_not_json_total"), 1.0, "{framing} {name}");
        }
    }
}

#[test]
fn a_documents_records_are_tagged_where_they_stand() {
    let receiver = Receiver::start();
    let sidecar = Sidecar::forwarding(None, &receiver, &[]);
    let batch = batch();
    let body = format!("{{\"Records\":[{}]}}", batch.join(","));
    assert_eq!(sidecar.post(&[], body.as_bytes()).status, 200);
    let taken = receiver.taken();
    let text = str::from_utf8(&taken[0].body).expect("text");
    let array = text.strip_prefix("{\"Records\":").and_then(|text| text.strip_suffix('}')).expect("the document");
    has_alerts_in_place(&records_of(array.as_bytes()), &batch);
}

#[test]
fn the_receivers_answer_is_the_senders() {
    let receiver = Receiver::start();
    let sidecar = Sidecar::forwarding(None, &receiver, &["--forward-timeout", "0.5"]);
    let body = event("a", "ann").into_bytes();
    let answer = |behaviour| {
        receiver.always(behaviour);
        sidecar.post(&[], &body)
    };
    for status in [200, 201, 202, 204, 400, 401, 404, 413, 429, 500, 501, 503, 504] {
        let reply = answer(Behaviour::Refuse(status));
        assert_eq!((reply.status, reply.header("retry-after")), (status, Some("7")), "{status}");
        if status != 204 {
            assert_eq!(reply.body, b"not taken");
        }
    }
    // What is neither taken nor refused is to be sent again.
    for status in [302, 304] {
        assert_eq!(answer(Behaviour::Refuse(status)).status, 502, "{status}");
    }
    assert_eq!(answer(Behaviour::Close).status, 502);
    assert_eq!(answer(Behaviour::Hang).status, 504);
    assert!(receiver.taken().is_empty());
    // A batch that is sent again carries the same alerts.
    let taken = |reply: Reply| {
        assert_eq!(reply.status, 200);
        receiver.taken().remove(0).body
    };
    let first = taken(answer(Behaviour::Take));
    assert_eq!(alert_count(&first), 1);
    assert_eq!(taken(answer(Behaviour::Take)), first);
    // The line may be written after the answer.
    sidecar.wait_for("takes batches again");
    let log = sidecar.log();
    assert!(log.contains("the receiver does not take a batch"), "{log}");
    // Nobody there at all.
    drop(receiver);
    let reply = sidecar.post(&[], &body);
    assert_eq!(reply.status, 502, "{:?}", String::from_utf8_lossy(&reply.body));
    assert!(sidecar.get("/health").body.starts_with(b"ok, but the receiver has not taken"));
}

#[test]
fn the_answer_waits_for_the_receiver() {
    let receiver = Receiver::deciding(|| Behaviour::TakeSlowly(Duration::from_millis(700)));
    let sidecar = Sidecar::forwarding(None, &receiver, &[]);
    let mut sender = Sender::connect(sidecar.address).with_patience(Duration::from_millis(300));
    let early = sender.request("POST", "/", &[], event("a", "ann").as_bytes());
    assert!(early.is_err(), "{early:?} before the receiver has it");
    let reply = sidecar.post(&[], event("b", "ann").as_bytes());
    assert_eq!((reply.status, reply.body.as_slice()), (200, &b"taken"[..]));
}

#[test]
fn with_respond_the_events_come_back() {
    let sidecar = Sidecar::start(None, &["--respond"]);
    let batch = batch();
    let packed = encoding::packed(batch.join("\n").into_bytes(), &[Encoding::Gzip]).expect("it is packed");
    let reply = sidecar.post(&[("Content-Encoding", "gzip"), ("Content-Type", "application/x-ndjson")], &packed);
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/x-ndjson")));
    assert_eq!(reply.header("content-encoding"), Some("gzip"));
    let text = encoding::unpacked(&reply.body, &[Encoding::Gzip], 1 << 20).expect("it is packed as it came");
    has_alerts_in_place(&records_of(&text), &batch);
    assert_eq!(sidecar.post(&[], b"").body, b"");
}

#[test]
fn alerts_only_passes_on_what_alerts() {
    let receiver = Receiver::start();
    let sidecar = Sidecar::forwarding(None, &receiver, &["--alerts-only"]);
    let batch = batch();
    let array = format!("[{}]", batch.join(",\n"));
    assert_eq!(sidecar.post(&[], array.as_bytes()).status, 200);
    let records = records_of(&receiver.taken()[0].body);
    assert_eq!(records.len(), 2);
    assert!(records.iter().all(|record| alert_count(record.as_bytes()) == 1));
    // Nothing left, nothing sent.
    assert_eq!(sidecar.post(&[], event("q", "ann").as_bytes()).status, 200);
    assert_eq!((receiver.taken().len(), receiver.asked()), (0, 1));
}

#[test]
fn what_cannot_be_taken_is_refused_with_a_reason() {
    let receiver = Receiver::start();
    let arguments = ["--max-body", "1", "--max-unpacked", "2", "--max-record", "1", "--body-timeout", "0.5"];
    let sidecar = Sidecar::forwarding(None, &receiver, &arguments);
    let spaces = |len: usize| vec![b' '; len];
    let packed = |len, encoding| encoding::packed(spaces(len), &[encoding]).expect("it is packed");
    for (encoding, body, status, reason) in [
        ("identity", spaces((1 << 20) + 1), 413, "longer than 1048576 bytes"),
        ("gzip", packed(3 << 20, Encoding::Gzip), 413, "when it is unpacked"),
        ("zstd", packed(3 << 20, Encoding::Zstd), 413, "when it is unpacked"),
        ("snappy", packed(3 << 20, Encoding::Snappy), 413, "when it is unpacked"),
        ("gzip", b"no gzip".to_vec(), 400, "the body is no gzip"),
        ("br", b"x".to_vec(), 415, "send gzip, deflate, zstd, snappy or identity"),
    ] {
        let reply = sidecar.post(&[("Content-Encoding", encoding)], &body);
        let said = String::from_utf8(reply.body).expect("text");
        assert!(reply.status == status && said.contains(reason), "{} {said}, expected {status} {reason}", reply.status);
    }
    // A body whose end does not come.
    let mut sender = Sender::connect(sidecar.address);
    sender.raw().write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabc").expect("it is sent");
    assert_eq!(sender.reply().expect("an answer").status, 408);
    for (method, path, status) in
        [("GET", "/", 405), ("PUT", "/", 405), ("POST", "/other", 404), ("HEAD", "/health", 200)]
    {
        let mut sender = Sender::connect(sidecar.address);
        if method == "HEAD" {
            sender.raw().write_all(b"HEAD /health HTTP/1.1\r\nHost: x\r\n\r\n").expect("it is sent");
            let mut line = [0; 12];
            std::io::Read::read_exact(sender.raw(), &mut line).expect("an answer");
            assert_eq!(&line, b"HTTP/1.1 200");
            continue;
        }
        assert_eq!(sender.request(method, path, &[], b"").expect("an answer").status, status, "{method} {path}");
    }
    assert!(receiver.taken().is_empty());
    // A record that is too long is passed on, and so are those around it.
    let long = event("a", &"x".repeat(2000));
    let body = [event("b", "ann"), long.clone(), event("c", "ben")].join("\n");
    assert_eq!(sidecar.post(&[], body.as_bytes()).status, 200);
    let taken = receiver.taken();
    assert_eq!(alert_count(&taken[0].body), 2);
    assert!(str::from_utf8(&taken[0].body).expect("text").contains(&long));
    assert_eq!(sidecar.metric("firstseen_too_long_total"), 1.0);
}

/// The log's lines that say this, each with its status.
fn lines_with(sidecar: &Sidecar, message: &str) -> Vec<(String, u64)> {
    let lines: Vec<serde_json::Value> =
        sidecar.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let said = lines.iter().filter(|line| line["message"] == message);
    let level = |line: &serde_json::Value| line["level"].as_str().unwrap_or_default().to_owned();
    said.map(|line| (level(line), line["status"].as_u64().expect("a status"))).collect()
}

#[test]
fn each_refused_request_is_in_the_log_at_its_level() {
    let directory = tempfile::tempdir().expect("a directory");
    let token = directory.path().join("token");
    std::fs::write(&token, "0123456789abcdef0123\n").expect("it is written");
    let token = token.to_str().expect("a name");
    for (level, each) in [("debug", true), ("info", false)] {
        let receiver = Receiver::start();
        let limits = ["--max-body", "1", "--max-memory", "3", "--body-timeout", "0.3", "--forward-timeout", "0.3"];
        let arguments = [&limits[..], &["--token-file", token, "--log-level", level]].concat();
        let sidecar = Sidecar::forwarding(None, &receiver, &arguments);
        let known = ("Authorization", "Bearer 0123456789abcdef0123");
        let body = event("a", "ann");
        let mut expected = Vec::new();
        for _ in 0..3 {
            let mut refused = |headers: &[(&str, &str)], body: &[u8], status: u16| {
                assert_eq!(sidecar.post(headers, body).status, status);
                expected.push(u64::from(status));
            };
            refused(&[], body.as_bytes(), 401);
            refused(&[known], &vec![b' '; (1 << 20) + 1], 413);
            refused(&[known, ("Content-Encoding", "br")], b"x", 415);
            refused(&[known, ("Content-Encoding", "gzip")], b"no gzip", 400);
            receiver.always(Behaviour::Close);
            refused(&[known], body.as_bytes(), 502);
            receiver.always(Behaviour::Hang);
            refused(&[known], body.as_bytes(), 504);
            receiver.always(Behaviour::Refuse(429));
            refused(&[known], body.as_bytes(), 429);
            receiver.always(Behaviour::Take);
            let mut sender = Sender::connect(sidecar.address);
            let head = "POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer 0123456789abcdef0123\r\nContent-Length: 5\r\n\r\nabc";
            sender.raw().write_all(head.as_bytes()).expect("it is sent");
            assert_eq!(sender.reply().expect("an answer").status, 408);
            let mut sender = Sender::connect(sidecar.address);
            assert_eq!(sender.request("GET", "/", &[known], b"").expect("an answer").status, 405);
            assert_eq!(sender.request("POST", "/other", &[known], b"").expect("an answer").status, 404);
            expected.extend([408, 405, 404]);
        }
        assert_eq!(sidecar.post(&[known], body.as_bytes()).status, 200);
        // Its log is read by another thread.
        let begun = std::time::Instant::now();
        while lines_with(&sidecar, "requests are refused").len() < 10 && begun.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let a_minute = lines_with(&sidecar, "requests are refused");
        let of_each = lines_with(&sidecar, "a request is refused");
        assert!(a_minute.iter().all(|(level, _)| level == "WARN"), "{a_minute:?}");
        let statuses = |lines: &[(String, u64)]| lines.iter().map(|(_, status)| *status).collect::<Vec<_>>();
        assert_eq!(statuses(&a_minute), expected[..10], "{}", sidecar.log());
        assert!(of_each.iter().all(|(level, _)| level == "DEBUG"), "{of_each:?}");
        assert_eq!(statuses(&of_each), if each { &expected[..] } else { &[] }, "{}", sidecar.log());
    }
}

#[test]
fn a_refused_sender_is_heard_out_and_may_go_on() {
    let receiver = Receiver::start();
    let sidecar = Sidecar::forwarding(None, &receiver, &["--max-body", "1"]);
    let mut sender = Sender::connect(sidecar.address);
    // One that was cut off while it sends would not see why.
    let long = vec![b' '; 1_900_000];
    assert_eq!(sender.request("POST", "/", &[], &long).expect("an answer").status, 413);
    assert_eq!(
        sender.request("POST", "/", &[("Content-Encoding", "br")], &long[..900_000]).expect("an answer").status,
        415
    );
    assert_eq!(sender.request("POST", "/", &[], event("a", "ann").as_bytes()).expect("an answer").status, 200);
    assert_eq!(receiver.taken().len(), 1);
}

#[test]
fn one_too_many_is_told_to_come_again() {
    let receiver = Receiver::deciding(|| Behaviour::TakeSlowly(Duration::from_secs(1)));
    let limits = ["--max-requests", "2", "--max-body", "4", "--max-unpacked", "1", "--max-memory", "8"];
    let sidecar = Sidecar::forwarding(None, &receiver, &limits);
    let statuses = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..6)
            .map(|number| {
                scope.spawn({
                    let sidecar = &sidecar;
                    move || {
                        std::thread::sleep(Duration::from_millis(20 * number));
                        sidecar.post(&[], event("a", "ann").as_bytes())
                    }
                })
            })
            .collect();
        senders.into_iter().map(|sender| sender.join().expect("a reply")).collect::<Vec<_>>()
    });
    assert_eq!(statuses.iter().filter(|reply| reply.status == 200).count(), 2);
    let refused: Vec<&Reply> = statuses.iter().filter(|reply| reply.status == 503).collect();
    assert_eq!(refused.len(), 4);
    assert!(refused.iter().all(|reply| reply.header("retry-after") == Some("1")));
    assert_eq!(sidecar.metric("firstseen_held_bytes"), 0.0);
}

#[test]
fn a_body_for_which_there_is_no_room_now_is_told_from_one_for_which_there_never_is() {
    let receiver = Receiver::start();
    let limits = ["--max-body", "4", "--max-unpacked", "1", "--max-memory", "8"];
    let sidecar = Sidecar::forwarding(None, &receiver, &limits);
    let long = event("a", "ann") + "\n" + &" ".repeat(3 << 20);
    let (most, last) = long.as_bytes().split_at(long.len() - 1);
    let head = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", long.len());
    let mut senders = [(); 2].map(|()| Sender::connect(sidecar.address));
    for sender in &mut senders {
        sender.raw().write_all(&[head.as_bytes(), most].concat()).expect("it is sent");
    }
    let begun = std::time::Instant::now();
    while sidecar.metric("firstseen_held_bytes") < 2.0 * most.len() as f64 {
        assert!(begun.elapsed() < Duration::from_secs(20), "the bodies do not come");
        std::thread::sleep(Duration::from_millis(10));
    }
    let reply = sidecar.post(&[], long.as_bytes());
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")));
    for sender in &mut senders {
        sender.raw().write_all(last).expect("it is sent");
        assert_eq!(sender.reply().expect("an answer").status, 200);
    }
    // Afterwards there is room again, but not for a batch whose alerts take more than all of it.
    assert_eq!(sidecar.metric("firstseen_held_bytes"), 0.0);
    let events: Vec<String> = (0..10_000).map(|number| event(&number.to_string(), &format!("u{number}"))).collect();
    let reply = sidecar.post(&[], events.join("\n").as_bytes());
    let said = String::from_utf8(reply.body).expect("text");
    assert!(reply.status == 413 && said.contains("raise --max-memory"), "{} {said}", reply.status);
    assert_eq!(sidecar.metric("firstseen_held_bytes"), 0.0);
    // In parts it is taken, and nothing is missing.
    receiver.taken();
    for part in events.chunks(1000) {
        assert_eq!(sidecar.post(&[], part.join("\n").as_bytes()).status, 200);
    }
    assert_eq!(receiver.taken().iter().map(|taken| alert_count(&taken.body)).sum::<usize>(), 10_000);
}

#[test]
fn memory_that_is_too_small_for_one_batch_is_refused_at_the_start() {
    for (limits, least) in [
        (&["--max-memory", "2"][..], 3),
        (&["--max-memory", "63", "--max-body", "32", "--max-unpacked", "16"], 64),
        (&["--max-memory", "64", "--max-body", "32", "--max-unpacked", "17"], 66),
        (&["--max-memory", "100", "--max-unpacked", "128"], 257),
    ] {
        let log = Sidecar::try_start(None, &[&["--respond"], limits].concat()).err().expect("it refuses");
        let said = format!("the smallest value that works is {least}");
        assert!(log.contains(&said), "{limits:?}: {log}");
        // It does work.
        let mut limits = limits.to_vec();
        let least = least.to_string();
        limits[1] = &least;
        drop(Sidecar::start(None, &[&["--respond"], &limits[..]].concat()));
    }
    // What is not said follows from the memory.
    drop(Sidecar::start(None, &["--respond", "--max-memory", "3"]));
}

/// A certificate for this machine that signs itself, and its key, below `directory`.
fn certificate(directory: &std::path::Path) -> [String; 2] {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(names).expect("a certificate");
    [("cert.pem", cert.pem()), ("key.pem", signing_key.serialize_pem())].map(|(name, text)| {
        let file = directory.join(name);
        std::fs::write(&file, text).expect("it is written");
        file.to_str().expect("a name").to_owned()
    })
}

#[test]
fn an_open_address_takes_tls_and_a_token_and_nothing_else() {
    let directory = tempfile::tempdir().expect("a directory");
    let [cert, key] = certificate(directory.path());
    let token = directory.path().join("token");
    std::fs::write(&token, "0123456789abcdef0123\n").expect("it is written");
    let token = token.to_str().expect("a name");
    for missing in [&[][..], &["--token-file", token], &["--tls-certificate", &cert, "--tls-key", &key]] {
        let log = Sidecar::try_start(None, &[&["--respond", "--listen", "0.0.0.0:0"], missing].concat());
        let log = log.err().expect("it refuses");
        assert!(log.contains("can be reached from other machines: give --"), "{log}");
    }
    let arguments = ["--respond", "--listen", "0.0.0.0:0", "--token-file", token, "--tls-certificate", &cert];
    let secured = Sidecar::start(None, &[&arguments[..], &["--tls-key", &key]].concat());
    let url = format!("https://localhost:{}/", secured.address.port());

    // A second sidecar speaks to the first as a sender does that knows all it needs, over HTTP/2 and over HTTP/1.1.
    let forward = ["--forward", &url, "--forward-certificates", &cert];
    let body = event("a", "ann");
    let known = Sidecar::start(None, &[&forward[..], &["--forward-token-file", token]].concat());
    let reply = known.post(&[], body.as_bytes());
    let text = String::from_utf8_lossy(&reply.body);
    assert!(reply.status == 200 && alert_count(&reply.body) == 1 && text.contains("\"firstseen_2\":"), "{text}");
    let unknown = Sidecar::start(None, &forward);
    assert_eq!(unknown.post(&[("Authorization", "Bearer 0123456789abcdef0123")], body.as_bytes()).status, 401);
    let distrustful = Sidecar::start(None, &["--forward", &url, "--forward-token-file", token]);
    assert_eq!(distrustful.post(&[], body.as_bytes()).status, 502);
    // Without TLS nothing comes through.
    let mut plain = Sender::connect(std::net::SocketAddr::from(([127, 0, 0, 1], secured.address.port())));
    assert!(plain.request("POST", "/", &[("Authorization", "Bearer 0123456789abcdef0123")], b"").is_err());
}

#[test]
fn a_token_guards_a_loopback_address_too() {
    let directory = tempfile::tempdir().expect("a directory");
    let token = directory.path().join("token");
    std::fs::write(&token, "0123456789abcdef0123").expect("it is written");
    let sidecar = Sidecar::start(None, &["--respond", "--token-file", token.to_str().expect("a name")]);
    let authorized = [("Authorization", "Bearer 0123456789abcdef0123")];
    assert_eq!(sidecar.post(&authorized, b"{}").status, 200);
    let reply = sidecar.post(&[], b"{}");
    assert_eq!((reply.status, reply.header("www-authenticate")), (401, Some("Bearer")));
    assert_eq!((sidecar.get("/metrics").status, sidecar.get("/health").status), (401, 200));
    // Told to, it reads the token anew.
    std::fs::write(&token, "another0another0another0").expect("it is written");
    sidecar.signal("HUP");
    sidecar.wait_for("loaded anew");
    assert_eq!(sidecar.post(&authorized, b"{}").status, 401);
}

#[test]
fn headers_of_the_connection_stay_there() {
    let receiver = Receiver::start();
    let sidecar = Sidecar::forwarding(None, &receiver, &[]);
    let headers = [
        ("Connection", "X-Hop, keep-alive"),
        ("connection", " x-other ,Content-Type,content-encoding"),
        ("X-Hop", "1"),
        ("X-Other", "2"),
        ("X-Kept", "3"),
        ("Keep-Alive", "timeout=5"),
        ("TE", "trailers"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AAMAAABkAAQAAP__"),
        ("Content-Type", "application/json"),
        ("Content-Encoding", "identity"),
    ];
    assert_eq!(sidecar.post(&headers, event("a", "ann").as_bytes()).status, 200);
    let [taken] = receiver.taken().try_into().expect("one batch");
    for (name, expected) in [
        ("connection", None),
        ("x-hop", None),
        ("x-other", None),
        ("keep-alive", None),
        ("te", None),
        ("upgrade", None),
        ("http2-settings", None),
        ("x-kept", Some("3")),
        // They say what the body is.
        ("content-type", Some("application/json")),
        ("content-encoding", Some("identity")),
    ] {
        assert_eq!(taken.headers.get(name).and_then(|value| value.to_str().ok()), expected, "{name}");
    }
}

#[test]
fn nobody_is_told_to_send_what_will_be_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let token = directory.path().join("token");
    std::fs::write(&token, "0123456789abcdef0123").expect("it is written");
    let arguments = ["--respond", "--max-body", "1", "--token-file", token.to_str().expect("a name")];
    let sidecar = Sidecar::start(None, &arguments);
    let known = "Authorization: Bearer 0123456789abcdef0123\r\n";
    for (headers, length, status) in [
        ("", 10, 401),
        (known, (1 << 20) + 1, 413),
        (&format!("{known}Content-Encoding: br\r\n"), 10, 415),
        // A body that is wanted is asked for.
        (known, 10, 100),
    ] {
        let mut sender = Sender::connect(sidecar.address);
        let head =
            format!("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n{headers}Content-Length: {length}\r\n\r\n");
        sender.raw().write_all(head.as_bytes()).expect("it is sent");
        let begun = std::time::Instant::now();
        assert_eq!(sender.reply().expect("an answer").status, status);
        assert!(begun.elapsed() < Duration::from_millis(1500), "{status}: it waits for a body");
    }
}

#[test]
fn web_pages_are_refused_where_there_is_no_token() {
    let directory = tempfile::tempdir().expect("a directory");
    let token = directory.path().join("token");
    std::fs::write(&token, "0123456789abcdef0123").expect("it is written");
    let (open, body) = (Sidecar::start(None, &["--respond"]), event("a", "ann"));
    let reply = open.post(&[("Origin", "http://page.example")], body.as_bytes());
    let said = String::from_utf8(reply.body).expect("text");
    assert!(reply.status == 403 && said.contains("--token-file"), "{} {said}", reply.status);
    assert_eq!(open.post(&[("Sec-Fetch-Site", "cross-site")], body.as_bytes()).status, 403);
    // A name that was made to lead here.
    let mut sender = Sender::connect(open.address);
    sender.raw().write_all(b"GET /metrics HTTP/1.1\r\nHost: rebound.example:8687\r\n\r\n").expect("it is sent");
    assert_eq!(sender.reply().expect("an answer").status, 403);
    assert_eq!(alert_count(&open.post(&[], body.as_bytes()).body), 1, "nothing was learned from what was refused");
    // Whoever knows the token may be a page.
    let guarded = Sidecar::start(None, &["--respond", "--token-file", token.to_str().expect("a name")]);
    let known = [("Authorization", "Bearer 0123456789abcdef0123"), ("Origin", "http://page.example")];
    assert_eq!(guarded.post(&known, body.as_bytes()).status, 200);
}

#[cfg(unix)]
#[test]
fn files_that_others_may_read_are_warned_of_and_pipes_are_not_waited_for() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().expect("a directory");
    let [cert, key] = certificate(directory.path());
    let token = directory.path().join("token");
    std::fs::write(&token, "0123456789abcdef0123").expect("it is written");
    let token = token.to_str().expect("a name");
    let set = |file: &str, mode| {
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).expect("it is set");
    };
    let arguments = ["--respond", "--token-file", token, "--tls-certificate", &cert, "--tls-key", &key];
    for (mode, is_warned_of) in [(0o600, false), (0o644, true)] {
        [token, &key].iter().for_each(|file| set(file, mode));
        set(&cert, 0o644);
        let sidecar = Sidecar::start(None, &arguments);
        for file in [token, &key] {
            let said = format!("other users can read {file} (mode {mode:03o}): run \\\"chmod 600 {file}\\\"");
            assert_eq!(sidecar.log().contains(&said), is_warned_of, "{}", sidecar.log());
        }
        assert!(!sidecar.log().contains(&format!("users can read {cert}")), "a certificate is no secret");
        if is_warned_of {
            // It is said again when they are read again.
            let before = sidecar.log().matches("other users can read").count();
            sidecar.signal("HUP");
            sidecar.wait_for("the token is loaded anew");
            sidecar.wait_for("the certificate is loaded anew");
            assert_eq!(sidecar.log().matches("other users can read").count(), 2 * before);
        }
    }
    let pipe = directory.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("there is a mkfifo").success());
    let large = directory.path().join("large");
    std::fs::write(&large, vec![b'x'; 2 << 20]).expect("it is written");
    for (file, reason) in [(&pipe, "it is no regular file"), (&large, "it is larger than 1 MiB")] {
        let file = file.to_str().expect("a name");
        for place in [2, 4, 6] {
            let mut arguments = arguments;
            arguments[place] = file;
            let log = Sidecar::try_start(None, &arguments).err().expect("it refuses");
            assert!(log.contains(&format!("cannot read {file}")) && log.contains(reason), "{log}");
        }
    }
}

#[test]
fn a_certificate_that_expired_is_said_at_the_start_and_when_it_is_loaded() {
    let directory = tempfile::tempdir().expect("a directory");
    let [cert, key] = certificate(directory.path());
    let arguments = ["--respond", "--tls-certificate", &cert, "--tls-key", &key];
    let sidecar = Sidecar::start(None, &arguments);
    let keys = rcgen::KeyPair::generate().expect("a key");
    let mut parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    parameters.not_before = rcgen::date_time_ymd(2024, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(2025, 1, 1);
    std::fs::write(&cert, parameters.self_signed(&keys).expect("a certificate").pem()).expect("it is written");
    std::fs::write(&key, keys.serialize_pem()).expect("it is written");
    assert!(!sidecar.log().contains("expired"), "{}", sidecar.log());
    sidecar.signal("HUP");
    sidecar.wait_for("expired at 2025-01-01T00:00:00Z");
    Sidecar::start(None, &arguments).wait_for("senders refuse it; renew it and send SIGHUP");
}

#[test]
fn http_2_is_taken_and_spoken_without_tls() {
    let back = Sidecar::start(None, &["--respond"]);
    let url = format!("http://{}/", back.address);
    let front = Sidecar::start(None, &["--forward", &url, "--forward-http2"]);
    let batch = batch();
    // Bodies larger than what may be sent ahead.
    let filler = vec![named_event("f", "ann", "DescribeInstances"); 20_000].join("\n");
    let reply = front.post(&[], format!("{}\n{filler}", batch.join("\n")).as_bytes());
    assert_eq!(reply.status, 200);
    assert_eq!(alert_count(&reply.body), 2, "what comes back is cut, but begins with the alerts");
    assert_eq!(back.metric("firstseen_records_total"), 20_005.0);
}

#[test]
fn alerts_are_counted_when_they_are_delivered() {
    let alerts = "firstseen_alerts_total{rule=\"30fbf4db-c502-4e68-a239-2e99af0f70da\",reason=\"never_seen\"}";
    let count = |sidecar: &Sidecar| {
        let text = String::from_utf8(sidecar.get("/metrics").body).expect("text");
        text.lines().find_map(|line| line.strip_prefix(alerts)?.trim().parse::<f64>().ok()).unwrap_or(0.0)
    };
    let (body, more) = (event("a", "ann"), event("b", "ben"));
    let receiver = Receiver::start();
    let sidecar = Sidecar::forwarding(None, &receiver, &["--forward-timeout", "0.5"]);
    for behaviour in [Behaviour::Refuse(503), Behaviour::Close, Behaviour::Hang, Behaviour::Refuse(400)] {
        receiver.always(behaviour);
        assert_ne!(sidecar.post(&[], body.as_bytes()).status, 200);
        assert_eq!(count(&sidecar), 0.0, "{behaviour:?}");
    }
    receiver.always(Behaviour::Take);
    assert_eq!((sidecar.post(&[], body.as_bytes()).status, count(&sidecar)), (200, 1.0));

    // With answers to the sender, those that it reads.
    let sidecar = Sidecar::start(None, &["--respond", "--body-timeout", "1"]);
    let long = format!("{body}\n{}", format!("{}\n", named_event("f", "ann", "DescribeInstances")).repeat(60_000));
    let mut deaf = Sender::connect(sidecar.address);
    let head = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", long.len());
    deaf.raw().write_all(&[head.as_bytes(), long.as_bytes()].concat()).expect("it is sent");
    let begun = std::time::Instant::now();
    while sidecar.metric("firstseen_records_total") < 60_001.0 || sidecar.metric("firstseen_held_bytes") > 0.0 {
        assert!(begun.elapsed() < Duration::from_secs(20), "an answer that nobody reads is kept");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(count(&sidecar), 0.0);
    assert_eq!((sidecar.post(&[], more.as_bytes()).status, count(&sidecar)), (200, 1.0));
}

#[test]
fn metrics_count_what_went_through() {
    let receiver = Receiver::start();
    let directory = tempfile::tempdir().expect("a directory");
    let sidecar = Sidecar::forwarding(Some(directory.path()), &receiver, &[]);
    let body = batch().join("\n") + "\nnot json\n";
    assert_eq!(sidecar.post(&[], body.as_bytes()).status, 200);
    receiver.always(Behaviour::Refuse(503));
    sidecar.post(&[], event("x", "cid").as_bytes());
    for (name, value) in [
        ("firstseen_records_total", 6.0),
        ("firstseen_candidates_total", 4.0),
        ("firstseen_not_json_total", 1.0),
        ("firstseen_alerts_total{rule=\"30fbf4db-c502-4e68-a239-2e99af0f70da\",reason=\"never_seen\"}", 2.0),
        ("firstseen_requests_total{status=\"503\"}", 1.0),
        ("firstseen_history_entries", 3.0),
        ("firstseen_history_durable", 1.0),
        ("firstseen_journal_errors_total", 0.0),
        ("firstseen_request_seconds_count", 2.0),
        ("firstseen_receiver_seconds_count", 2.0),
        ("firstseen_requests_in_flight", 0.0),
    ] {
        assert_eq!(sidecar.metric(name), value, "{name}");
    }
    // What the history says when its file can be written no more.
    std::fs::remove_dir_all(directory.path()).expect("it is removed");
    sidecar.post(&[], event("y", "dan").as_bytes());
    assert_eq!(sidecar.metric("firstseen_history_durable"), 0.0);
    assert!(sidecar.metric("firstseen_journal_errors_total") >= 1.0);
    sidecar.wait_for("in memory only");
}
