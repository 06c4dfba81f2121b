//! A real Fluent Bit with the module in it loses no record and no alert.
//!
//! In: records of 100 bytes to 256 KB, events and other JSON, of known and new identities, read by `tail`. Out: each of them,
//! in order and as it was but for the alerts that it ought to have; over a restart no second alert for an identity, and after
//! a kill none missing. Without a Fluent Bit, or with one that lacks a plugin, the tests say so and pass, like those of
//! [`super::fluent_bit_started`].
//! Bounds: 20,000 records, so that the tests stay short, or as many as `FIRSTSEEN_LOSSLESS_RECORDS` says; they are made again
//! to be compared, one at a time, and never held. A run takes at most [`DEADLINE`]. Not here: what alerts say; outputs that
//! retry; records that Fluent Bit itself holds back or refuses.

use std::collections::BTreeSet;
use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use firstseen::sample::Random;
use serde_json::{Value, json};

use super::fluent_bit_started::{fluent_bit, say_skipped};
use super::{alerting_rules, event};
use crate::subjects::{BUILTIN_RULE_IDS, excerpt, module_file, new_directory};

const DEADLINE: Duration = Duration::from_secs(300);

/// How many records go through unless the environment says otherwise.
const RECORDS: usize = 20_000;

/// The largest record, in bytes.
const LARGEST: usize = 256 * 1024;

/// One record in so many is as large as [`LARGEST`].
const LARGEST_STEP: usize = 5_000;

/// One record in so many is of any size up to [`LARGEST`]; the others end at [`SMALL`].
const LARGE_STEP: u64 = 500;

/// What most records stay below, in bytes.
const SMALL: usize = 4 * 1024;

/// The last key of each record, for a number. Where a record ends in a long string with characters beyond ASCII, Fluent Bit
/// 4.0 may write bytes from behind it, with a module that does nothing too (fluent/fluent-bit#12275, mended by #12285).
const LAST_KEY: &str = "zzz";

/// How many identities come back.
const KNOWN: u64 = 50;

/// How many identities are there before and after Fluent Bit is stopped.
const RESTARTED: usize = 1_000;

const PLUGINS: [&str; 3] = ["tail", "wasm", "file"];

/// Makes the same records each time, and says which rules alert on each.
struct Made {
    random: Random,
    seen: BTreeSet<String>,
    iam_user: Value,
    ec2_role: Value,
    number: usize,
}

impl Made {
    fn new() -> Made {
        Made {
            random: Random::new(1),
            seen: BTreeSet::new(),
            iam_user: event("iam_user"),
            ec2_role: event("ec2_role"),
            number: 0,
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random.number() % bound
    }

    /// The next record, and the rules that alert on it.
    fn next(&mut self) -> (Value, Vec<&'static str>) {
        let number = self.number;
        self.number += 1;
        let (mut record, rules) = match self.below(10) {
            0 => self.user(format!("new-{number}")),
            1 | 2 => {
                let known = self.below(KNOWN);
                self.user(format!("known-{known}"))
            }
            3 => self.session(number as u64),
            4 => {
                let known = self.below(KNOWN);
                self.session(known)
            }
            5 | 6 => {
                let (mut record, _) = self.event_of(&self.iam_user, "bob");
                record["eventSource"] = json!("ec2.amazonaws.com");
                record["eventName"] = json!("DescribeInstances");
                (record, Vec::new())
            }
            7 => (self.mention(), Vec::new()),
            _ => (self.other(), Vec::new()),
        };
        self.fill_up(&mut record);
        (record, rules)
    }

    fn event_of(&self, base: &Value, name: &str) -> (Value, String) {
        let mut record = base.clone();
        record["eventID"] = json!(format!("event-{}", self.number));
        let arn = record["userIdentity"]["arn"].as_str().expect("an ARN");
        let arn = arn.rsplit_once('/').expect("a name").0.to_owned() + "/" + name;
        record["userIdentity"]["arn"] = json!(arn);
        (record, arn)
    }

    /// GetCallerIdentity by a user.
    fn user(&mut self, name: String) -> (Value, Vec<&'static str>) {
        let [_, first_time, _] = BUILTIN_RULE_IDS;
        let (mut record, arn) = self.event_of(&self.iam_user, &name);
        record["userIdentity"]["userName"] = json!(name);
        (record, if self.seen.insert(arn) { vec![first_time] } else { Vec::new() })
    }

    /// GetCallerIdentity by an instance.
    fn session(&mut self, number: u64) -> (Value, Vec<&'static str>) {
        let [ec2_role, _, hijacking] = BUILTIN_RULE_IDS;
        let name = format!("i-{number:017x}");
        let (mut record, arn) = self.event_of(&self.ec2_role, &name);
        record["userIdentity"]["principalId"] = json!(format!("AROAEXAMPLE:{name}"));
        record["source.as.organization.name"] = json!("Example Hosting");
        (record, if self.seen.insert(arn) { vec![ec2_role, hijacking] } else { Vec::new() })
    }

    /// No event, though it reads like one.
    fn mention(&mut self) -> Value {
        let (event, _) = self.event_of(&self.iam_user, "mentioned");
        json!({ "level": "info", "text": event.to_string(), "eventName": ["GetCallerIdentity"] })
    }

    /// JSON that is no event at all.
    fn other(&mut self) -> Value {
        let number = self.random.number();
        match number % 4 {
            0 => json!({ "n": number >> 2, "signed": i64::MIN, "fraction": -1.5, "none": null, "is": [true, false] }),
            1 => json!({ "": { "": {} }, "list": [[], [[]], {}], "text": "\u{1}\n\t\"\\/ \u{e9} \u{4e2d} \u{1f600}" }),
            2 => json!({ "log": format!("GET /{number} 200"), "kubernetes": { "labels": { "app": "shop" } } }),
            _ => json!({ "firstseen.alerts": number, "message": "GetCallerIdentity sts.amazonaws.com AssumedRole" }),
        }
    }

    /// Adds text to a record up to a size of its own, before, amid or behind what it has.
    fn fill_up(&mut self, record: &mut Value) {
        const TEXT: &str = "every 'record' has text, and some of it is \"quoted\": \\ \u{fc}\u{20ac} ";
        let number = self.number - 1;
        let is_largest = number.is_multiple_of(LARGEST_STEP);
        let largest = if self.below(LARGE_STEP) == 0 { LARGEST } else { SMALL };
        // As many records of 100 to 200 bytes as of 1,000 to 2,000.
        let halvings = self.below(u64::from((largest / 100).ilog2()) + 1);
        let below = largest >> halvings;
        let size = if is_largest { LARGEST } else { below / 2 + self.below(below as u64 / 2) as usize };
        let key = ["a filler", "requestParameters", "zz filler"][number % 3];
        record[key] = json!("");
        record[LAST_KEY] = json!(number);
        let missing = size.saturating_sub(record.to_string().len());
        let escaped = TEXT.len() + TEXT.matches(['"', '\\']).count();
        let mut text = TEXT.repeat(missing / escaped);
        text.push_str(&"x".repeat(missing % escaped));
        record[key] = json!(text);
    }
}

/// A Fluent Bit that reads a file, and a directory for its history, which stays from run to run.
struct Pipeline {
    program: PathBuf,
    directory: PathBuf,
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Pipeline {
    /// `None`, with a line on the standard error, if there is no Fluent Bit to try.
    fn new(what: &str) -> Option<Pipeline> {
        let program = match fluent_bit(&PLUGINS) {
            Ok(program) => program,
            Err(why) => {
                say_skipped(what, &why);
                return None;
            }
        };
        let directory = new_directory();
        fs::create_dir(directory.join("state")).expect("a directory");
        fs::write(directory.join("parsers.conf"), "[PARSER]\n    name json\n    format json\n").expect("the parser");
        Some(Pipeline { program, directory })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Starts Fluent Bit on one file, with another for its output; it ends at the end of the file, or never.
    fn start(&self, input: &str, output: &str, ends: bool) -> Child {
        let directory = self.directory.display();
        let module = module_file();
        let configuration = format!(
            "[SERVICE]\n    flush 1\n    grace 5\n    log_level warn\n    parsers_file {directory}/parsers.conf\n\
             [INPUT]\n    name tail\n    path {directory}/{input}\n    tag aws.cloudtrail\n    parser json\n    \
             read_from_head true\n    exit_on_eof {ends}\n    buffer_chunk_size 512k\n    buffer_max_size 2M\n\
             [FILTER]\n    name wasm\n    match *\n    wasm_path {}\n    function_name firstseen\n    \
             event_format json\n    accessible_paths {directory}/state\n\
             [OUTPUT]\n    name file\n    match *\n    path {directory}\n    file {output}\n    format plain\n",
            module.display()
        );
        let file = self.path("fluent-bit.conf");
        fs::write(&file, configuration).expect("the configuration is written");
        Command::new(&self.program)
            .arg("--config")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(self.path("stderr")).expect("a file"))
            .spawn()
            .expect("Fluent Bit starts")
    }

    /// Waits until Fluent Bit has ended, well and without an error.
    fn wait(&self, child: &mut Child) {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().expect("the child is ours") {
                break status;
            }
            if started.elapsed() > DEADLINE {
                child.kill().expect("the child is ours");
            }
            thread::sleep(Duration::from_millis(50));
        };
        let said = self.said();
        assert!(status.success(), "{status}\n{said}");
        let error = said.lines().find(|line| line.contains("[error]") && !line.contains("getaddrinfo failed"));
        assert_eq!(error, None);
    }

    fn run(&self, input: &str, output: &str) {
        self.wait(&mut self.start(input, output, true));
    }

    fn said(&self) -> String {
        fs::read_to_string(self.path("stderr")).unwrap_or_default()
    }

    fn write(&self, input: &str, records: impl Iterator<Item = Value>) {
        let mut out = BufWriter::new(File::create(self.path(input)).expect("a file"));
        for record in records {
            writeln!(out, "{record}").expect("a record is written");
        }
        out.flush().expect("the records are written");
    }

    /// The ARNs that the records in a file have alerts for.
    fn alerted(&self, output: &str) -> Vec<String> {
        let lines = BufReader::new(File::open(self.path(output)).expect("records came out")).lines();
        lines
            .map(|line| serde_json::from_str(&line.expect("a line")).expect("a record is JSON"))
            .filter(|record: &Value| !alerting_rules(&record["firstseen"]).is_empty())
            .map(|record| record["userIdentity"]["arn"].as_str().expect("an ARN").to_owned())
            .collect()
    }
}

/// GetCallerIdentity by each of some users, in events that are told apart by the round.
fn users(names: std::ops::Range<usize>, round: &str) -> impl Iterator<Item = Value> {
    let base = event("iam_user");
    names.map(move |number| {
        let mut record = base.clone();
        record["eventID"] = json!(format!("{round}-{number}"));
        record["userIdentity"]["arn"] = json!(arn(number));
        record
    })
}

fn arn(number: usize) -> String {
    format!("arn:aws:iam::111122223333:user/user-{number}")
}

fn arns(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(arn).collect()
}

#[test]
fn every_record_comes_out_as_it_was_with_its_alerts() {
    let count = match env::var("FIRSTSEEN_LOSSLESS_RECORDS") {
        Ok(count) => count.parse().expect("FIRSTSEEN_LOSSLESS_RECORDS is a number"),
        Err(_) => RECORDS,
    };
    let Some(pipeline) = Pipeline::new("many records") else { return };
    let mut made = Made::new();
    pipeline.write("in.ndjson", (0..count).map(|_| made.next().0));
    pipeline.run("in.ndjson", "out.ndjson");

    let mut lines = BufReader::new(File::open(pipeline.path("out.ndjson")).expect("records came out"));
    let mut made = Made::new();
    let mut line = Vec::new();
    let mut alerting = 0;
    for number in 0..count {
        let (expected, rules) = made.next();
        let about = |line: &[u8]| format!("record {number}: {}", excerpt(line));
        line.clear();
        assert!(lines.read_until(b'\n', &mut line).expect("a line") > 0, "record {number} is missing");
        let mut out: Value = serde_json::from_slice(&line).unwrap_or_else(|error| panic!("{error}: {}", about(&line)));
        let annotation = out.as_object_mut().and_then(|keys| keys.remove("firstseen")).unwrap_or_default();
        assert!(out == expected, "{}\nis not\n{}", about(&line), excerpt(expected.to_string().as_bytes()));
        assert_eq!(alerting_rules(&annotation), rules, "{}", about(&line));
        alerting += usize::from(!rules.is_empty());
    }
    line.clear();
    assert_eq!(lines.read_until(b'\n', &mut line).expect("a line"), 0, "one too many: {}", excerpt(&line));
    assert!(count < 100 || alerting > count / 10, "{alerting} of {count} records alert");
}

#[test]
fn no_identity_alerts_twice_over_a_restart() {
    let Some(pipeline) = Pipeline::new("a restart") else { return };
    pipeline.write("first.ndjson", users(0..RESTARTED, "first"));
    // One more, so that there is something to find.
    pipeline.write("second.ndjson", users(0..RESTARTED + 1, "second"));

    let mut child = pipeline.start("first.ndjson", "first-out.ndjson", false);
    let started = Instant::now();
    let came_out = || fs::read(pipeline.path("first-out.ndjson")).map_or(0, |out| out.split(|b| *b == b'\n').count());
    while came_out() <= RESTARTED && started.elapsed() < DEADLINE {
        thread::sleep(Duration::from_millis(50));
    }
    // As an operator stops it.
    Command::new("kill").arg("-TERM").arg(child.id().to_string()).status().expect("there is a kill");
    pipeline.wait(&mut child);
    assert_eq!(pipeline.alerted("first-out.ndjson"), arns(0..RESTARTED));

    pipeline.run("second.ndjson", "second-out.ndjson");
    assert_eq!(pipeline.alerted("second-out.ndjson"), arns(RESTARTED..RESTARTED + 1));
}

#[test]
fn killed_amid_its_work_it_loses_no_alert() {
    let Some(pipeline) = Pipeline::new("a kill") else { return };
    let count = 20 * RESTARTED;
    pipeline.write("in.ndjson", users(0..count, "only"));
    let mut child = pipeline.start("in.ndjson", "killed-out.ndjson", false);
    let started = Instant::now();
    let history = pipeline.path("state/firstseen.state");
    let learned = || fs::metadata(&history).map_or(0, |file| file.len());
    // A tuple takes 35 bytes there.
    while learned() < 35 * RESTARTED as u64 && started.elapsed() < DEADLINE {
        thread::sleep(Duration::from_millis(1));
    }
    child.kill().expect("the child is ours");
    child.wait().expect("the child is ours");
    assert!(learned() >= 35 * RESTARTED as u64, "{}", pipeline.said());

    // Nothing has told the input that its records went out: it delivers them again.
    pipeline.run("in.ndjson", "again-out.ndjson");
    assert_eq!(pipeline.alerted("again-out.ndjson"), arns(0..count));
}
