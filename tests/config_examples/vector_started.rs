//! The Vector examples in a real Vector, which is `vector` on the PATH or what `VECTOR` names, with `firstseen serve` beside it.
//!
//! In: each example with other paths and ports, a database with one network, files of events. Out: that Vector finds nothing wrong
//! with it; that every event comes out, and those that alert with their alerts; that candidates wait for a sidecar that is
//! not there. Without a Vector, or with one that lacks a component, the tests say so on the standard error and pass.
//! Bounds: a run takes at most [`DEADLINE`]. Not here: installing Vector; a bucket and a queue, so that `s3-sqs.yaml` is
//! checked only.

use std::env;
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::vector::{FILE, FILES, ORGANIZATION, S3_SQS, SUPERVISED};
use super::{alerting_rules, asn_database, event, root_console_login, text, with};
use crate::subjects::{BUILTIN_RULE_IDS, new_directory};

const DEADLINE: Duration = Duration::from_secs(90);

/// What the examples are made of; `s3-sqs.yaml` has another source.
const COMPONENTS: [&str; 5] = ["http_server", "mmdb", "remap", "route", "http"];

const FIRSTSEEN: &str = env!("CARGO_BIN_EXE_firstseen");

/// The program, or why there is none to try.
pub(crate) fn vector(components: &[&str]) -> Result<PathBuf, String> {
    let program = match env::var_os("VECTOR") {
        Some(program) => PathBuf::from(program),
        None => {
            let path = env::var_os("PATH").unwrap_or_default();
            let mut programs = env::split_paths(&path).map(|directory| directory.join("vector"));
            programs.find(|program| program.is_file()).ok_or("no vector is on the PATH, and VECTOR names none")?
        }
    };
    let listed = Command::new(&program).arg("list").output();
    let listed = listed.unwrap_or_else(|error| panic!("{} cannot be started: {error}", program.display())).stdout;
    let listed = String::from_utf8_lossy(&listed);
    let has = |component: &str| listed.lines().any(|line| line.trim_start_matches(['-', ' ']) == component);
    match components.iter().chain(&COMPONENTS).find(|component| !has(component)) {
        Some(component) => Err(format!("{} has no {component}", program.display())),
        None => Ok(program),
    }
}

/// Says that an example was not tried. What `eprintln` prints is shown only for tests that fail.
pub(crate) fn say_skipped(example: &str, why: &str) {
    let line = format!("skipped: {example} in a real Vector: {why}\n");
    io::stderr().write_all(line.as_bytes()).expect("standard error");
}

/// A program at work, which is ended with its owner.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// Ends it as an operator does.
    fn stop(mut self) {
        let _ = Command::new("kill").arg("-TERM").arg(self.0.id().to_string()).status();
        let started = Instant::now();
        while started.elapsed() < DEADLINE && self.0.try_wait().expect("the child is ours").is_none() {
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// An example made ready in a directory of its own.
struct Pipeline {
    program: PathBuf,
    directory: PathBuf,
    example: PathBuf,
    listen: u16,
    forward: u16,
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Pipeline {
    /// `None`, with a line on the standard error, if there is no Vector to try.
    fn new(example: &str, components: &[&str]) -> Option<Pipeline> {
        let program = match vector(components) {
            Ok(program) => program,
            Err(why) => {
                say_skipped(example, &why);
                return None;
            }
        };
        let directory = new_directory();
        for name in ["data", "in", "out", "configuration"] {
            fs::create_dir(directory.join(name)).expect("a directory");
        }
        let database = asn_database::of_network(Ipv4Addr::new(198, 51, 100, 0), 24, "Example Hosting");
        fs::write(directory.join("asn.mmdb"), database).expect("the database is written");
        let [listen, forward] = free_ports();
        let mut adapted = text(example);
        for (place, other) in [
            ("/var/lib/vector", directory.join("data")),
            ("/usr/share/GeoIP/GeoLite2-ASN.mmdb", directory.join("asn.mmdb")),
            ("/var/log/cloudtrail", directory.join("in")),
            ("/var/lib/cloudtrail", directory.join("out")),
            ("/var/lib/firstseen/aws.cloudtrail", directory.join("configuration")),
            ("/usr/bin/firstseen", PathBuf::from(FIRSTSEEN)),
            ("8687", PathBuf::from(listen.to_string())),
            ("8688", PathBuf::from(forward.to_string())),
        ] {
            adapted = adapted.replace(place, other.to_str().expect("a path in UTF-8"));
        }
        let path = directory.join(Path::new(example).file_name().expect("a file"));
        fs::write(&path, adapted).expect("the example is written");
        Some(Pipeline { program, directory, example: path, listen, forward })
    }

    /// `None`, with a line on the standard error, if the program cannot be the sidecar.
    fn with_sidecar(example: &str) -> Option<Pipeline> {
        let help = Command::new(FIRSTSEEN).args(["serve", "--help"]).output().expect("it starts");
        if !help.status.success() {
            say_skipped(example, "this firstseen has no command serve");
            return None;
        }
        Pipeline::new(example, &["file", "exec", "filter"])
    }

    fn start_vector(&self) -> Running {
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(&self.example).arg("--graceful-shutdown-limit-secs").arg("10");
        self.start(command, "vector")
    }

    fn start_sidecar(&self) -> Running {
        let mut command = Command::new(FIRSTSEEN);
        command.arg("serve").arg("--dir").arg(self.directory.join("configuration"));
        command.arg("--listen").arg(format!("127.0.0.1:{}", self.listen));
        command.arg("--forward").arg(format!("http://127.0.0.1:{}/", self.forward));
        self.start(command, "sidecar")
    }

    fn start(&self, mut command: Command, name: &str) -> Running {
        let said = File::options().create(true).append(true).open(self.directory.join(name)).expect("a file");
        command.stdin(Stdio::null()).stdout(said.try_clone().expect("a file")).stderr(said);
        Running(command.spawn().expect("it starts"))
    }

    fn said(&self, name: &str) -> String {
        fs::read_to_string(self.directory.join(name)).unwrap_or_default()
    }

    /// A file of events; it is there at once, whole.
    fn put(&self, name: &str, bytes: &[u8]) {
        let unfinished = self.directory.join(name);
        fs::write(&unfinished, bytes).expect("a file");
        fs::rename(unfinished, self.directory.join("in").join(name)).expect("a file");
    }

    /// The events in a file of the output, once there are so many, by their ids.
    fn out(&self, name: &str, count: usize) -> Vec<Value> {
        let started = Instant::now();
        loop {
            let text = self.said(&format!("out/{name}"));
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            let mut events: Vec<Value> = whole.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
            if events.len() >= count {
                assert_eq!(events.len(), count, "{name}: {text}");
                events.sort_by_key(|event| event["eventID"].to_string());
                return events;
            }
            let said = || [self.said("vector"), self.said("sidecar")].concat();
            assert!(started.elapsed() < DEADLINE, "{} of {count} in {name}\n{}", events.len(), said());
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Ports that were free a moment ago.
fn free_ports() -> [u16; 2] {
    let sockets = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    sockets.map(|socket| socket.local_addr().expect("an address").port())
}

/// An event, the organisation that it should get, and the rules that should alert.
struct Expected {
    event: Value,
    organization: Option<Value>,
    rules: Vec<&'static str>,
}

fn expected() -> Vec<Expected> {
    let [ec2_role, first_time, hijacking] = BUILTIN_RULE_IDS;
    let session = |id: &str, address: &str| {
        with(event("ec2_role"), &[("eventID", json!(id)), ("sourceIPAddress", json!(address))])
    };
    let named = |id: &str, event: Value| with(event, &[("eventID", json!(id))]);
    let large = json!({ "text": "x".repeat(256 * 1024), "odd": "\u{1}\n\"\\ é 中 😀" });
    let large = with(named("e-4", root_console_login()), &[("requestParameters", large)]);
    let row = |event, organization: Option<&str>, rules: &[&'static str]| Expected {
        event,
        organization: organization.map(|name| json!(name)),
        rules: rules.to_vec(),
    };
    vec![
        row(session("e-1", "198.51.100.7"), Some("Example Hosting"), &[ec2_role, hijacking]),
        row(session("e-2", "ec2.amazonaws.com"), None, &[hijacking]),
        row(named("e-3", event("iam_user")), Some("Example Hosting"), &[first_time]),
        row(large, None, &[]),
        row(named("e-5", root_console_login()), None, &[]),
    ]
}

fn put_in_three_files(pipeline: &Pipeline, expected: &[Expected]) {
    let events: Vec<&Value> = expected.iter().map(|expected| &expected.event).collect();
    let [first, second, rest @ ..] = &events[..] else { panic!("some events") };
    pipeline.put("a.ndjson", format!("{first}\n").as_bytes());
    pipeline.put("b.json", format!("{}\n", json!({ "Records": [second] })).as_bytes());
    let mut zipped = GzEncoder::new(Vec::new(), Compression::fast());
    zipped.write_all(format!("{}\n", json!({ "Records": rest })).as_bytes()).expect("memory");
    pipeline.put("c.json.gz", &zipped.finish().expect("memory"));
}

/// That the events came out as expected, the order aside.
fn check(pipeline: &Pipeline, example: &str, expected: Vec<Expected>) {
    let events = pipeline.out("events.ndjson", expected.len());
    let alerting: Vec<&Value> = events.iter().filter(|event| !event["firstseen"]["alerts"].is_null()).collect();
    let alerts = pipeline.out("alerts.ndjson", alerting.len());
    assert!(alerts.iter().eq(alerting.iter().copied()), "{example}");
    for (event, expected) in events.iter().zip(expected) {
        let mut event = event.clone();
        let keys = event.as_object_mut().expect("an event is an object");
        let annotation = keys.remove("firstseen").unwrap_or_default();
        let about = format!("{example}: {}", expected.event["eventID"]);
        // The first of candidates that are sent together may teach what the second is alerted for; each is of its own.
        assert_eq!(alerting_rules(&annotation), expected.rules, "{about}");
        let organization = if expected.rules.is_empty() { None } else { keys.remove(ORGANIZATION) };
        assert_eq!(organization, expected.organization, "{about}");
        assert!(event == expected.event, "{about} has changed");
    }
}

#[test]
fn vector_finds_nothing_wrong() {
    for example in FILES {
        let source = if example == S3_SQS { "aws_s3" } else { "file" };
        let Some(pipeline) = Pipeline::new(example, &[source, "exec", "filter", "console"]) else { continue };
        let mut command = Command::new(&pipeline.program);
        command.arg("validate").arg("--skip-healthchecks").arg(&pipeline.example);
        if example == S3_SQS {
            command.arg("--no-environment");
        }
        let output = command.output().expect("it starts");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(output.status.success() && !said.contains("WARN"), "{example}: {}\n{said}", output.status);
    }
}

#[test]
fn every_event_comes_out_and_alerts_apart() {
    let Some(pipeline) = Pipeline::with_sidecar(FILE) else { return };
    put_in_three_files(&pipeline, &expected());
    let sidecar = pipeline.start_sidecar();
    let vector = pipeline.start_vector();
    check(&pipeline, FILE, expected());
    vector.stop();
    sidecar.stop();
}

#[test]
fn candidates_wait_for_the_sidecar_over_a_restart() {
    let Some(pipeline) = Pipeline::with_sidecar(FILE) else { return };
    put_in_three_files(&pipeline, &expected());
    let vector = pipeline.start_vector();
    let others = expected().iter().filter(|expected| expected.rules.is_empty()).count();
    pipeline.out("events.ndjson", others);
    vector.stop();
    let sidecar = pipeline.start_sidecar();
    let vector = pipeline.start_vector();
    check(&pipeline, FILE, expected());
    vector.stop();
    sidecar.stop();
}

#[test]
fn vector_starts_the_sidecar_and_starts_it_again() {
    let Some(pipeline) = Pipeline::with_sidecar(SUPERVISED) else { return };
    let [before, after] = [expected(), expected()];
    put_in_three_files(&pipeline, &before);
    let vector = pipeline.start_vector();
    check(&pipeline, SUPERVISED, before);
    // The sidecar is Vector's child, and ends by itself when it is told to.
    let parent = vector.0.id().to_string();
    let child = Command::new("ps").args(["--ppid", &parent, "-o", "pid="]).output().expect("ps starts");
    let child = String::from_utf8_lossy(&child.stdout).trim().to_owned();
    assert!(Command::new("kill").arg("-TERM").arg(&child).status().is_ok_and(|status| status.success()), "{child:?}");
    let again = with(after[2].event.clone(), &[("eventID", json!("e-6"))]);
    pipeline.put("d.ndjson", format!("{again}\n").as_bytes());
    let events = pipeline.out("events.ndjson", after.len() + 1);
    // Known by now, to a sidecar that was started anew.
    let again = with(again, &[(ORGANIZATION, json!("Example Hosting"))]);
    assert_eq!(events.last(), Some(&again));
    vector.stop();
}
