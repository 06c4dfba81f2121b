//! The examples beyond the first, each in a real Fluent Bit: routes, processors, a branch for alerts, and the ways in which
//! CloudTrail arrives.
//!
//! In: an example with other paths and ports, and events where it looks for them. Out: every event, and each alert where the
//! example says that it goes. Without a Fluent Bit, or with one that lacks a plugin, the tests say so and pass, like those of
//! [`super::fluent_bit_started`]. Bounds: a run takes at most [`DEADLINE`]. Not here: what alerts say.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use firstseen_engine::rule::pack;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::fluent_bit_started::{self, ORGANIZATION};
use super::{alerting_rules, asn_database, event, text, with};
use crate::subjects::{BUILTIN_RULE_IDS, compiled, module_file, new_directory};

const DEADLINE: Duration = Duration::from_secs(60);

/// The examples that are tried here.
pub(super) const FILES: [&str; 9] = [
    "fluent-bit/routes.conf",
    "fluent-bit/routes.yaml",
    "fluent-bit/processors.yaml",
    "fluent-bit/alerts-apart.conf",
    "fluent-bit/alerts-apart.yaml",
    "fluent-bit/event-bridge.yaml",
    "fluent-bit/records.yaml",
    "fluent-bit/inside-text.yaml",
    "fluent-bit/metrics.yaml",
];

/// An example, made ready in a directory of its own, and Fluent Bit once it runs.
pub(super) struct Pipeline {
    program: PathBuf,
    pub(super) directory: PathBuf,
    pub(super) example: PathBuf,
    /// What stands in for the port that the example names, if it names one.
    pub(super) port: u16,
    child: Option<Child>,
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Pipeline {
    /// `None`, with a line on the standard error, if there is nothing to try it with.
    pub(super) fn new(example: &str, plugins: &[&str]) -> Option<Pipeline> {
        let program = match fluent_bit_started::fluent_bit(plugins) {
            Ok(program) => program,
            Err(why) => {
                fluent_bit_started::say_skipped(example, &why);
                return None;
            }
        };
        let directory = new_directory();
        for name in [
            "input/production",
            "input/sandbox",
            "out",
            "state/aws.cloudtrail",
            "state/production",
            "state/sandbox",
            "fluent-bit",
        ] {
            fs::create_dir_all(directory.join(name)).expect("a directory");
        }
        let database = asn_database::of_network(Ipv4Addr::new(198, 51, 100, 0), 24, "Example Hosting");
        fs::write(directory.join("asn.mmdb"), database).expect("the database is written");
        fs::write(directory.join("parsers.conf"), text("fluent-bit/parsers.conf")).expect("the parsers are written");
        // A port that was free a moment ago.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
        let mut adapted = text(example);
        for (place, other) in [
            ("/var/log/cloudtrail", directory.join("input")),
            ("/usr/share/GeoIP/GeoLite2-ASN.mmdb", directory.join("asn.mmdb")),
            ("/usr/lib/firstseen/firstseen.wasm", module_file()),
            ("/var/lib/firstseen", directory.join("state")),
            ("/var/lib/cloudtrail", directory.join("out")),
            ("/var/lib/fluent-bit", directory.join("fluent-bit")),
            ("8080", PathBuf::from(port.to_string())),
            ("9880", PathBuf::from(port.to_string())),
            ("2021", PathBuf::from(port.to_string())),
            ("interval_sec: 60", PathBuf::from("interval_sec: 1")),
        ] {
            adapted = adapted.replace(place, other.to_str().expect("a path in UTF-8"));
        }
        let path = directory.join(Path::new(example).file_name().expect("a file"));
        fs::write(&path, adapted).expect("the example is written");
        Some(Pipeline { program, directory, example: path, port, child: None })
    }

    fn put(&self, name: &str, records: &[Value]) {
        let lines: Vec<String> = records.iter().map(|record| format!("{record}\n")).collect();
        fs::write(self.directory.join("input").join(name), lines.concat()).expect("the records are written");
    }

    /// A file as CloudTrail writes it to S3; it is there at once, whole.
    fn put_records(&self, name: &str, events: &[Value]) {
        let unfinished = self.directory.join(name);
        let mut file = GzEncoder::new(File::create(&unfinished).expect("a file"), Compression::fast());
        file.write_all(json!({ "Records": events }).to_string().as_bytes()).expect("a file");
        file.finish().expect("a file");
        fs::rename(unfinished, self.directory.join("input").join(name)).expect("a file");
    }

    pub(super) fn start(&mut self) {
        let file = |name: &str| File::create(self.directory.join(name)).expect("a file");
        let child = Command::new(&self.program)
            .arg("--config")
            .arg(&self.example)
            .stdin(Stdio::null())
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .spawn();
        self.child = Some(child.expect("Fluent Bit starts"));
    }

    pub(super) fn said(&self, name: &str) -> String {
        fs::read_to_string(self.directory.join(name)).unwrap_or_default()
    }

    /// What `look` sees, once it sees something.
    fn wait_for<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            if let Some(seen) = look() {
                return seen;
            }
            assert!(started.elapsed() < DEADLINE, "no {what}\n{}\n{}", self.said("stdout"), self.said("stderr"));
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The records on the standard output, once there are so many.
    fn records(&self, count: usize) -> Vec<Value> {
        let records = self.wait_for("records", || {
            let out = self.said("stdout");
            let whole = out.rsplit_once('\n').map_or("", |(whole, _)| whole);
            let records: Vec<Value> = whole.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            (records.len() >= count).then_some(records)
        });
        assert_eq!(records.len(), count, "{records:?}");
        records
    }

    /// Ends Fluent Bit as a loss of its host does.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("the child is ours");
            child.wait().expect("the child is ours");
        }
    }

    /// Ends Fluent Bit as an operator does; everything that it took must have come out by then.
    pub(super) fn stop(mut self) {
        let Some(mut child) = self.child.take() else { return };
        let _ = Command::new("kill").arg("-TERM").arg(child.id().to_string()).status();
        let started = Instant::now();
        while child.try_wait().expect("the child is ours").is_none() {
            if started.elapsed() > DEADLINE {
                let _ = child.kill();
            }
            thread::sleep(Duration::from_millis(50));
        }
        let errors = |line: &&str| line.contains("[error]") && !fluent_bit_started::of_a_host_name(line);
        let said = self.said("stderr");
        assert_eq!(said.lines().find(errors), None, "{}", self.example.display());
    }

    fn connect(&self) -> TcpStream {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        let stream = self.wait_for("connection", || TcpStream::connect(address).ok());
        stream.set_read_timeout(Some(Duration::from_secs(2))).expect("a time-out");
        stream
    }
}

/// The rules that a record's alerts under this key name.
fn rules(record: &Value, key: &str) -> Vec<String> {
    alerting_rules(&record[key]).into_iter().map(str::to_owned).collect()
}

/// An EC2 role's session from the network in the database, which two rules alert on; and a call that none does.
fn events() -> [Value; 2] {
    let session = with(event("ec2_role"), &[("eventID", json!("e-1")), ("sourceIPAddress", json!("198.51.100.7"))]);
    let other = with(session.clone(), &[("eventID", json!("e-2")), ("eventName", json!("GetSessionToken"))]);
    [session, other]
}

fn both_rules() -> Vec<String> {
    let [ec2_role, _, hijacking] = BUILTIN_RULE_IDS;
    vec![ec2_role.to_owned(), hijacking.to_owned()]
}

const TAIL: [&str; 4] = ["tail", "geoip2", "wasm", "stdout"];

fn routes(example: &str) {
    let Some(mut pipeline) = Pipeline::new(example, &TAIL) else { return };
    let settings = compiled(Some("output_key = \"detections\""), &[]);
    fs::write(pipeline.directory.join("state/production/firstseen.pack"), pack::encode(&settings)).expect("the pack");
    let [session, other] = events();
    pipeline.put("production/a.ndjson", &[session.clone(), other.clone()]);
    pipeline.put("sandbox/a.ndjson", &[session, other]);
    pipeline.start();
    let records = pipeline.records(4);
    let alerting = |key: &str| {
        records.iter().map(|record| rules(record, key)).filter(|rules| !rules.is_empty()).collect::<Vec<_>>()
    };
    // Each route has its own rules and its own history: the same session is new on both.
    assert_eq!(alerting("detections"), [both_rules()], "{example}");
    assert_eq!(alerting("firstseen"), [both_rules()], "{example}");
    for route in ["production", "sandbox"] {
        assert!(pipeline.directory.join("state").join(route).join("firstseen.state").exists(), "{example}: {route}");
    }
    pipeline.stop();
}

#[test]
fn routes_have_rules_and_a_history_each() {
    routes("fluent-bit/routes.conf");
    routes("fluent-bit/routes.yaml");
}

/// Events come out of the standard output in order, each with the organisation, and the first with its alerts.
fn check(example: &str, pipeline: Pipeline) {
    let records = pipeline.records(2);
    assert_eq!(
        records.iter().map(|record| rules(record, "firstseen")).collect::<Vec<_>>(),
        [both_rules(), vec![]],
        "{example}"
    );
    assert!(records.iter().all(|record| record[ORGANIZATION] == "Example Hosting"), "{example}");
    pipeline.stop();
}

#[test]
fn a_processor_tags_what_its_input_reads() {
    let Some(mut pipeline) = Pipeline::new("fluent-bit/processors.yaml", &TAIL) else { return };
    pipeline.put("a.ndjson", &events());
    pipeline.start();
    check("processors", pipeline);
}

/// Fluent Bit reads its configuration anew on SIGHUP, and with it makes new instances of the module.
#[test]
fn a_hot_reload_keeps_the_history() {
    let Some(mut pipeline) = Pipeline::new("fluent-bit/firstseen.yaml", &[&TAIL[..], &["grep", "parser"]].concat())
    else {
        return;
    };
    let example = fs::read_to_string(&pipeline.example).expect("the example");
    let reloading = example.replacen("service:\n", "service:\n  hot_reload: on\n", 1);
    assert_ne!(example, reloading);
    // What does not alert comes out, too.
    let reloading = reloading.replace("firstseen_alerts", "firstseen");
    fs::write(&pipeline.example, reloading).expect("the example is written");
    let [session, _] = events();
    pipeline.put("a.ndjson", std::slice::from_ref(&session));
    pipeline.start();
    assert_eq!(rules(&pipeline.records(1)[0], "firstseen"), both_rules());
    // The first file is gone: read again, it would teach a module that has forgotten.
    fs::remove_file(pipeline.directory.join("input/a.ndjson")).expect("the file is there");
    pipeline.put("b.ndjson", &[with(session, &[("eventID", json!("e-2"))])]);
    let child = pipeline.child.as_ref().expect("it runs");
    let _ = Command::new("kill").arg("-HUP").arg(child.id().to_string()).status();
    let records = pipeline.records(2);
    assert_eq!(records[1]["eventID"], "e-2");
    assert_eq!(rules(&records[1], "firstseen"), [""; 0], "what was known is new");
    pipeline.stop();
}

#[test]
fn text_inside_a_record_is_unpacked() {
    let Some(mut pipeline) = Pipeline::new("fluent-bit/inside-text.yaml", &[&TAIL[..], &["parser"]].concat()) else {
        return;
    };
    let records = events().map(|event| json!({ "log": event.to_string(), "stream": "stdout" }));
    pipeline.put("a.ndjson", &records);
    pipeline.start();
    assert!(pipeline.records(2).iter().all(|record| record["stream"] == "stdout" && record.get("log").is_none()));
    check("inside-text", pipeline);
}

#[test]
fn files_of_records_are_split() {
    let example = "fluent-bit/records.yaml";
    if Command::new("jq").arg("--version").stdout(Stdio::null()).status().is_err() {
        return fluent_bit_started::say_skipped(example, "there is no jq");
    }
    let Some(mut pipeline) = Pipeline::new(example, &["exec", "geoip2", "wasm", "stdout"]) else { return };
    let [session, other] = events();
    pipeline.put_records("a.json.gz", &[session.clone(), other]);
    pipeline.start();
    pipeline.records(2);
    // A file that comes later is read, and the first one is not read again.
    pipeline.put_records("b.json.gz", &[with(session, &[("eventID", json!("e-3"))])]);
    let records = pipeline.records(3);
    let rules: Vec<_> = records.iter().map(|record| rules(record, "firstseen")).collect();
    assert_eq!(rules, [both_rules(), vec![], vec![]], "the third is of a session and a group that are known");
    assert_eq!(records[2]["eventID"], "e-3");
    pipeline.stop();
}

/// Takes HTTP requests on the port and answers 200; their bodies come out of the receiver.
pub(super) fn receiver(port: u16) -> Receiver<String> {
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
    let (bodies, received) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let bodies = bodies.clone();
            thread::spawn(move || {
                let mut reader = BufReader::new(stream);
                while let Some(body) = read_request(&mut reader) {
                    let _ = bodies.send(body);
                    let _ = reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                }
            });
        }
    });
    received
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim().to_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(number) = line.strip_prefix("content-length:") {
            length = number.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    String::from_utf8(body).ok()
}

fn alerts_apart(example: &str) {
    let plugins = ["tail", "grep", "parser", "geoip2", "wasm", "http", "file"];
    let Some(mut pipeline) = Pipeline::new(example, &plugins) else { return };
    let received = receiver(pipeline.port);
    let [session, other] = events();
    // Known by then: it goes to the branch, raises nothing, and is dropped there.
    let again = with(session.clone(), &[("eventID", json!("e-3"))]);
    let [first, last] = [session, with(event("iam_user"), &[("eventID", json!("e-4"))])];
    pipeline.put("a.ndjson", &[first.clone(), other, again, last]);
    pipeline.start();
    let all = pipeline.wait_for("events in the file", || {
        let file = fs::read_to_string(pipeline.directory.join("out/events.ndjson")).ok()?;
        (file.ends_with('\n') && file.lines().count() == 4).then_some(file)
    });
    let ids: Vec<Value> =
        all.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")["eventID"].clone()).collect();
    assert_eq!(ids[..3], ["e-1", "e-2", "e-3"], "{example}");
    assert!(!all.contains("firstseen"), "{example}: {all}");
    let mut alerts: Vec<Value> = Vec::new();
    while alerts.len() < 2 {
        let body = received.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("{example}: {alerts:?}"));
        alerts.extend(body.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")));
    }
    let [_, first_time, _] = BUILTIN_RULE_IDS;
    assert_eq!(
        alerts.iter().map(|alert| rules(alert, "firstseen")).collect::<Vec<_>>(),
        [both_rules(), vec![first_time.to_owned()]]
    );
    assert_eq!(alerts[0]["eventID"], "e-1");
    pipeline.stop();
    assert!(received.try_recv().is_err(), "{example}: more than the alerts came");
}

#[test]
fn alerts_go_one_way_and_all_events_another() {
    alerts_apart("fluent-bit/alerts-apart.conf");
    alerts_apart("fluent-bit/alerts-apart.yaml");
}

#[test]
fn event_bridge_posts_events_inside_envelopes() {
    let Some(mut pipeline) =
        Pipeline::new("fluent-bit/event-bridge.yaml", &["http", "modify", "nest", "geoip2", "wasm", "stdout"])
    else {
        return;
    };
    pipeline.start();
    for event in events() {
        let body = json!({ "version": "0", "detail-type": "AWS API Call via CloudTrail", "source": "aws.sts", "detail": event }).to_string();
        let mut stream = pipeline.connect();
        let head = format!(
            "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("a connection");
        stream.write_all(body.as_bytes()).expect("a connection");
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert!(pipeline.records(2).iter().all(|record| record["eventSource"] == "sts.amazonaws.com"));
    check("event-bridge", pipeline);
}

#[test]
fn alerts_are_counted_by_rule() {
    let plugins = ["tail", "geoip2", "wasm", "log_to_metrics", "prometheus_exporter", "stdout"];
    let Some(mut pipeline) = Pipeline::new("fluent-bit/metrics.yaml", &plugins) else { return };
    let [session, other] = events();
    pipeline.put("a.ndjson", &[session, other, event("iam_user")]);
    pipeline.start();
    let counted = |rule: &str| format!("firstseen_alerts_total{{rule=\"{rule}\"}} 1");
    let [ec2_role, first_time] = [0, 1].map(|at| counted(&compiled(None, &[]).rules[at].name));
    pipeline.wait_for("metrics", || {
        let mut stream = pipeline.connect();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
        // Older versions leave the connection open.
        let mut metrics = Vec::new();
        let _ = stream.read_to_end(&mut metrics);
        let metrics = String::from_utf8(metrics).ok()?;
        (metrics.contains(&ec2_role) && metrics.contains(&first_time)).then_some(())
    });
    pipeline.stop();
}
