//! The Fluent Bit examples in a real Fluent Bit, which is `fluent-bit` on the PATH or what `FLUENT_BIT` names.
//!
//! In: each example with other paths, a database with one network, a file of records to read to its end. Out: every record that
//! alerts, in order and unchanged but for the organisation and the alerts. Without a Fluent Bit, or with one that lacks a plugin,
//! the tests say so on the standard error and pass.
//! Bounds: a run takes at most [`DEADLINE`]. Not here: installing Fluent Bit.

use std::env;
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::fluent_bit::{CLASSIC, PARSERS, YAML};
use super::{alerting_rules, asn_database, event, root_console_login, text, with};
use crate::subjects::{BUILTIN_RULE_IDS, excerpt, module_file, new_directory};

const DEADLINE: Duration = Duration::from_secs(60);

/// What the examples are made of.
const PLUGINS: [&str; 6] = ["tail", "grep", "parser", "geoip2", "wasm", "stdout"];

/// What `filter_geoip2` writes the organisation under in the examples.
pub(super) const ORGANIZATION: &str = "source.as.organization.name";

/// What the output `stdout` adds to each record.
const DATE: &str = "date";

/// The program, or why there is none to try.
pub(super) fn fluent_bit(plugins: &[&str]) -> Result<PathBuf, String> {
    let program = match env::var_os("FLUENT_BIT") {
        Some(program) => PathBuf::from(program),
        None => {
            let path = env::var_os("PATH").unwrap_or_default();
            let mut programs = env::split_paths(&path).map(|directory| directory.join("fluent-bit"));
            programs
                .find(|program| program.is_file())
                .ok_or("no fluent-bit is on the PATH, and FLUENT_BIT names none")?
        }
    };
    let help = Command::new(&program).arg("--help").output();
    let help = help.unwrap_or_else(|error| panic!("{} cannot be started: {error}", program.display())).stdout;
    let help = String::from_utf8_lossy(&help);
    let has = |plugin: &str| help.lines().any(|line| line.split_whitespace().next() == Some(plugin));
    match plugins.iter().find(|plugin| !has(plugin)) {
        Some(plugin) => Err(format!("{} has no plugin {plugin}", program.display())),
        None => Ok(program),
    }
}

/// Whether a line is what geoip2 says of a host name in the place of an address, where the second message is of an error code that it
/// leaves unset.
pub(super) fn of_a_host_name(line: &str) -> bool {
    line.contains("getaddrinfo failed") || line.contains("lookup failed : Unknown error code")
}

/// Says that an example was not tried. What `eprintln` prints is shown only for tests that fail.
pub(super) fn say_skipped(example: &str, why: &str) {
    let line = format!("skipped: {example} in a real Fluent Bit: {why}\n");
    io::stderr().write_all(line.as_bytes()).expect("standard error");
}

/// An example made ready in a directory of its own.
struct Prepared {
    program: PathBuf,
    directory: PathBuf,
    example: PathBuf,
}

impl Drop for Prepared {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// How Fluent Bit ended, and what it said.
struct Ended {
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

impl Prepared {
    /// `None`, with a line on the standard error, if there is no Fluent Bit to try.
    fn new(example: &str, records: &[Value]) -> Option<Prepared> {
        let program = match fluent_bit(&PLUGINS) {
            Ok(program) => program,
            Err(why) => {
                say_skipped(example, &why);
                return None;
            }
        };
        let directory = new_directory();
        for name in ["input", "configuration", "fluent-bit"] {
            fs::create_dir(directory.join(name)).expect("a directory");
        }
        let lines: Vec<String> = records.iter().map(|record| format!("{record}\n")).collect();
        fs::write(directory.join("input/records.ndjson"), lines.concat()).expect("the records are written");
        let database = asn_database::of_network(Ipv4Addr::new(198, 51, 100, 0), 24, "Example Hosting");
        fs::write(directory.join("asn.mmdb"), database).expect("the database is written");
        fs::write(directory.join("parsers.conf"), text(PARSERS)).expect("the parsers are written");

        let mut adapted = text(example);
        let places = [
            ("/var/log/cloudtrail/", directory.join("input/")),
            ("/usr/share/GeoIP/GeoLite2-ASN.mmdb", directory.join("asn.mmdb")),
            ("/usr/lib/firstseen/firstseen.wasm", module_file()),
            ("/var/lib/firstseen/aws.cloudtrail", directory.join("configuration")),
            ("/var/lib/fluent-bit/", directory.join("fluent-bit/")),
        ];
        for (place, other) in places {
            assert!(adapted.contains(place), "{example}: {place}");
            adapted = adapted.replace(place, other.to_str().expect("a path in UTF-8"));
        }
        let path = directory.join(Path::new(example).file_name().expect("a file"));
        fs::write(&path, ending_with_the_file(&adapted)).expect("the example is written");
        Some(Prepared { program, directory, example: path })
    }

    fn run(&self) -> Ended {
        let [stdout, stderr] = ["stdout", "stderr"].map(|name| self.directory.join(name));
        let mut child = Command::new(&self.program)
            .arg("--config")
            .arg(&self.example)
            .stdin(Stdio::null())
            .stdout(File::create(&stdout).expect("a file"))
            .stderr(File::create(&stderr).expect("a file"))
            .spawn()
            .expect("Fluent Bit starts");
        let started = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().expect("the child is ours") {
                break status;
            }
            if started.elapsed() > DEADLINE {
                child.kill().expect("the child is ours");
                break child.wait().expect("the child is ours");
            }
            thread::sleep(Duration::from_millis(50));
        };
        let [stdout, stderr] = [stdout, stderr].map(|file| fs::read_to_string(file).expect("what it said is UTF-8"));
        Ended { status, stdout, stderr }
    }
}

/// The example with one more property of its input: Fluent Bit ends when the file is read.
fn ending_with_the_file(example: &str) -> String {
    let mut lines = Vec::new();
    for line in example.lines() {
        lines.push(line.to_owned());
        let lower = line.to_lowercase();
        if let Some(at) = lower.find("read_from_head") {
            let colon = if lower.contains(':') { ":" } else { "" };
            lines.push(format!("{}Exit_On_Eof{colon} true", &line[..at]));
        }
    }
    lines.push(String::new());
    lines.join("\n")
}

/// A record, the organisation that it should get, and the rules that should alert.
struct Expected {
    record: Value,
    organization: Value,
    rules: Vec<&'static str>,
}

fn expected() -> Vec<Expected> {
    let [ec2_role, first_time, hijacking] = BUILTIN_RULE_IDS;
    let found = || json!("Example Hosting");
    let session = |id: &str, address: &str| {
        with(event("ec2_role"), &[("eventID", json!(id)), ("sourceIPAddress", json!(address))])
    };
    let large = with(
        session("e-4", "198.51.100.9"),
        &[("userAgent", json!("agent/1.0")), ("requestParameters", json!({ "text": "x".repeat(256 * 1024) }))],
    );
    let odd = json!({
        "text": "\u{0}\n\t\"\\/ \u{e9} \u{4e2d} \u{1f600}",
        "numbers": [0, -1, 1.5, 9_007_199_254_740_993_u64, i64::MIN],
        "nested": { "empty": {}, "none": [], "null": null, "is": [true, false] },
        "": "an empty key"
    });
    let row = |record, organization, rules: &[&'static str]| Expected { record, organization, rules: rules.to_vec() };
    vec![
        row(session("e-1", "203.0.113.9"), Value::Null, &[hijacking]),
        row(session("e-2", "ec2.amazonaws.com"), Value::Null, &[hijacking]),
        row(odd, Value::Null, &[]),
        row(session("e-3", "198.51.100.7"), found(), &[ec2_role, hijacking]),
        // The pair of session and organisation is known; the address makes another group.
        row(large, found(), &[hijacking]),
        row(root_console_login(), found(), &[]),
        row(event("iam_user"), found(), &[first_time]),
    ]
}

/// The records that alert come out of an example as expected, and no others.
fn check(example: &str) {
    let mut expected = expected();
    let records: Vec<Value> = expected.iter().map(|expected| expected.record.clone()).collect();
    expected.retain(|expected| !expected.rules.is_empty());
    let Some(prepared) = Prepared::new(example, &records) else { return };
    let ended = prepared.run();
    assert!(ended.status.success(), "{example}: {}\n{}", ended.status, ended.stderr);
    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(lines.len(), expected.len(), "{example}: records\n{}", ended.stderr);
    for (line, expected) in lines.into_iter().zip(expected) {
        let mut out: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{example}: {error}: {line}"));
        let about = format!("{example}: {}", excerpt(line.as_bytes()));
        let keys = out.as_object_mut().expect("a record is an object");
        assert!(keys.remove(DATE).is_some(), "{about}");
        let annotation = keys.remove("firstseen").unwrap_or_default();
        assert_eq!(alerting_rules(&annotation), expected.rules, "{about}");
        assert_eq!(keys.remove(ORGANIZATION), Some(expected.organization), "{about}");
        assert!(out == expected.record, "{about}\nis not\n{}", excerpt(expected.record.to_string().as_bytes()));
    }
    let errors = |line: &&str| line.contains("[error]") && !of_a_host_name(line);
    assert_eq!(ended.stderr.lines().find(errors), None, "{example}");
}

#[test]
fn classic_gives_every_record_that_alerts() {
    check(CLASSIC);
}

#[test]
fn yaml_gives_every_record_that_alerts() {
    check(YAML);
}

#[test]
fn damaged_pack_stops_it_at_start() {
    let Some(prepared) = Prepared::new(CLASSIC, &[event("iam_user")]) else { return };
    fs::write(prepared.directory.join("configuration/firstseen.pack"), "no pack").expect("a file");
    let ended = prepared.run();
    let said: Vec<&str> = ended.stderr.lines().filter(|line| line.contains("firstseen.pack")).collect();
    for sentence in &said {
        // It says in which directory.
        assert!(sentence.starts_with("firstseen: "), "{sentence}");
        assert!(sentence.contains("/configuration: firstseen.pack cannot be used: "), "{sentence}");
        assert!(sentence.contains("firstseen compile"), "{sentence}");
    }
    if instantiates_at_start(&prepared.program) {
        assert!(!ended.status.success(), "{}", ended.stderr);
        assert_eq!(ended.stdout, "");
        assert_eq!(said.len(), 1, "{}", ended.stderr);
    } else {
        // It has started by the time the module can refuse, and goes on without it.
        assert!(ended.status.success(), "{}\n{}", ended.status, ended.stderr);
        assert!(!said.is_empty(), "{}", ended.stderr);
        let records: Vec<Value> =
            ended.stdout.lines().map(|line| serde_json::from_str(line).expect("a record is JSON")).collect();
        let [record] = &records[..] else { panic!("one record: {records:?}\n{}", ended.stderr) };
        let mut record = record.clone();
        let keys = record.as_object_mut().expect("a record is an object");
        keys.remove(DATE);
        keys.remove(ORGANIZATION);
        assert_eq!(record, event("iam_user"));
    }
}

/// Whether a module is instantiated before records flow, as it is since 4.1, and not for each chunk of them.
fn instantiates_at_start(program: &Path) -> bool {
    let said = Command::new(program).arg("--version").output().expect("Fluent Bit tells its version").stdout;
    let said = String::from_utf8_lossy(&said);
    let (_, version) = said.split_once("Fluent Bit v").unwrap_or_else(|| panic!("no version: {said}"));
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse::<u32>().ok());
    let version = (numbers.next(), numbers.next());
    assert!(version.1.is_some(), "no version: {said}");
    version >= (Some(4), Some(1))
}
