//! What the Vector examples say, and what their programs in VRL do.
//!
//! In: the YAML files. Out: that they differ in where events come from alone; that files of CloudTrail come apart into its events, as
//! they were; that the AS organisation is looked up where firstseen reads it; that only candidates go to firstseen, by the
//! condition that the host program prints; and what becomes of events that come back. Not here: a Vector at work.

use std::fs;
use std::process::Command;

use firstseen::sample;
use serde_json::{Value, json};
use yaml_rust2::{Yaml, YamlLoader};

use super::{alerting_rules, arrival, event, text, with};
use crate::subjects::{BUILTIN_RULE_IDS, Native, Subject, compiled, new_directory};
use crate::vector_language::{Condition, Remap};

pub(super) const FILE: &str = "vector/file.yaml";
pub(super) const S3_SQS: &str = "vector/s3-sqs.yaml";
pub(super) const SUPERVISED: &str = "vector/supervised.yaml";

pub(super) const FILES: [&str; 3] = [FILE, S3_SQS, SUPERVISED];

/// What the examples write the organisation under.
pub(super) const ORGANIZATION: &str = "source.as.organization.name";

/// An example, as YAML has it.
fn read(file: &str) -> Yaml {
    let mut documents = YamlLoader::load_from_str(&text(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    assert_eq!(documents.len(), 1, "{file}");
    documents.remove(0)
}

/// The text at a path of keys.
fn at<'y>(yaml: &'y Yaml, path: &[&str]) -> &'y str {
    let found = path.iter().fold(yaml, |yaml, key| &yaml[*key]);
    found.as_str().unwrap_or_else(|| panic!("no text at {path:?}: {found:?}"))
}

/// The pipeline of an example, step by step.
struct Steps {
    document: Remap,
    is_candidate: Condition,
    organization: Remap,
    came_back: Remap,
    is_alerting: Condition,
}

impl Steps {
    fn of(file: &str) -> Steps {
        let yaml = read(file);
        let remap = |name: &str| Remap::new(at(&yaml, &["transforms", name, "source"]));
        Steps {
            document: remap("document"),
            is_candidate: Condition::new(candidate_condition(&yaml)),
            organization: remap("organization"),
            came_back: remap("came_back"),
            is_alerting: Condition::new(at(&yaml, &["transforms", "alerting", "condition"])),
        }
    }
}

fn candidate_condition(yaml: &Yaml) -> &str {
    let condition = &yaml["transforms"]["records"]["route"]["candidates"];
    assert_eq!(at(condition, &["type"]), "vrl");
    at(condition, &["source"])
}

/// A line as Vector's source `file` has it.
fn line(text: &str) -> Value {
    json!({
        "file": "/var/log/cloudtrail/a.json",
        "host": "collector",
        "message": text,
        "source_type": "file",
        "timestamp": "2026-10-30T12:01:00.123456789Z"
    })
}

#[test]
fn examples_differ_in_where_events_come_from() {
    let file = read(FILE);
    for other in [S3_SQS, SUPERVISED] {
        let yaml = read(other);
        let transforms = |yaml: &Yaml| {
            let mut transforms = yaml["transforms"].as_hash().expect("transforms").clone();
            let document = transforms.remove(&Yaml::String("document".into())).expect("it is there");
            (transforms, at(&document, &["source"]).to_owned())
        };
        assert_eq!(transforms(&yaml), transforms(&file), "{other}");
        for sink in ["firstseen", "alerts", "events"] {
            assert_eq!(yaml["sinks"][sink], file["sinks"][sink], "{other}: {sink}");
        }
        assert_eq!(yaml["sources"]["tagged"], file["sources"]["tagged"], "{other}");
        assert_eq!(yaml["enrichment_tables"], file["enrichment_tables"], "{other}");
    }
}

#[test]
fn the_sidecar_listens_where_the_sink_sends_and_forwards_where_the_source_listens() {
    let yaml = read(SUPERVISED);
    let command: Vec<&str> = yaml["sources"]["sidecar"]["command"]
        .as_vec()
        .expect("a list")
        .iter()
        .map(|word| word.as_str().expect("a word"))
        .collect();
    let [_, "serve", "--dir", _, "--listen", listen, "--forward", forward] = command[..] else {
        panic!("{command:?}");
    };
    assert_eq!(at(&yaml, &["sinks", "firstseen", "uri"]), format!("http://{listen}/"));
    assert_eq!(format!("http://{}/", at(&yaml, &["sources", "tagged", "address"])), forward);
    for file in [FILE, S3_SQS] {
        let text = text(file);
        assert!(text.contains(&format!("--listen {listen} --forward {forward}\n")), "{file}");
    }
}

#[test]
fn documents_come_apart_into_their_events_as_they_were() {
    for file in FILES {
        let Steps { document, .. } = Steps::of(file);
        let (first, second) = (event("ec2_role"), event("iam_user"));
        assert_eq!(document.run(&line(&first.to_string())), std::slice::from_ref(&first), "{file}");
        let records = json!({ "Records": [first, second] });
        assert_eq!(document.run(&line(&records.to_string())), [first, second], "{file}");
        assert!(document.run(&line("{\"Records\":[]}")).is_empty(), "{file}");
        let digest = json!({ "awsAccountId": "111122223333", "digestS3Bucket": "b" });
        assert_eq!(document.run(&line(&digest.to_string())), [digest], "{file}");
        for no_json in ["", "no JSON", "{\"Records\":["] {
            assert_eq!(document.run(&line(no_json)), [line(no_json)], "{file}");
        }
    }
}

#[test]
fn the_condition_is_what_the_host_program_prints() {
    let directory = new_directory();
    let output = Command::new(env!("CARGO_BIN_EXE_firstseen"))
        .arg("compile")
        .arg(&directory)
        .args(["--print", "vrl"])
        .output()
        .expect("it starts");
    fs::remove_dir(&directory).expect("nothing was written there");
    let printed = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]));
    for file in FILES {
        assert_eq!(candidate_condition(&read(file)), printed, "{file}");
    }
}

#[test]
fn the_organization_stands_where_firstseen_reads_it() {
    let [ec2_role, _, hijacking] = BUILTIN_RULE_IDS;
    for file in FILES {
        let Steps { organization, .. } = Steps::of(file);
        let mut native = Native::new(&compiled(None, &[]));
        let mut rules = |address: Value, id: &str| {
            let session = with(event("ec2_role"), &[("eventID", json!(id)), ("sourceIPAddress", address)]);
            let [looked_up] = &organization.run(&session)[..] else { panic!("one event") };
            let organization = looked_up.get(ORGANIZATION).cloned();
            let mut rest = looked_up.clone();
            rest.as_object_mut().expect("an object").remove(ORGANIZATION);
            assert_eq!(rest, session, "{file}");
            let out = native.process(looked_up.to_string().as_bytes(), arrival());
            let out: Value = serde_json::from_slice(&out).expect("JSON");
            let rules: Vec<String> = alerting_rules(&out["firstseen"]).into_iter().map(str::to_owned).collect();
            (organization, rules)
        };
        assert_eq!(rules(json!("203.0.113.9"), "e-1"), (None, vec![hijacking.to_owned()]), "{file}");
        assert_eq!(rules(json!("ec2.amazonaws.com"), "e-2"), (None, vec![hijacking.to_owned()]), "{file}");
        assert_eq!(rules(Value::Null, "e-3"), (None, vec![hijacking.to_owned()]), "{file}");
        let found = (Some(json!("Example Hosting")), vec![ec2_role.to_owned(), hijacking.to_owned()]);
        assert_eq!(rules(json!("198.51.100.7"), "e-4"), found, "{file}");
    }
}

#[test]
fn alerts_of_a_second_stage_are_found_too() {
    let engine = || Native::new(&compiled(None, &[]));
    let tagged = |engine: &mut Native, event: &Value| -> Value {
        serde_json::from_slice(&engine.process(event.to_string().as_bytes(), arrival())).expect("JSON")
    };
    for file in FILES {
        let Steps { is_alerting, .. } = Steps::of(file);
        let mut first = engine();
        let known = tagged(&mut first, &event("iam_user"));
        // The first stage knows the user; the second does not.
        let again = tagged(&mut first, &with(event("iam_user"), &[("eventID", json!("e-2"))]));
        assert!(is_alerting.holds(&known) && !is_alerting.holds(&again), "{file}: {again}");
        let twice = tagged(&mut engine(), &known);
        assert!(twice["firstseen"]["alerts"].is_array() && twice["firstseen_2"]["alerts"].is_array(), "{twice}");
        for number in 2..=9 {
            let key = format!("firstseen_{number}");
            let event = |value: Value| with(event("iam_user"), &[("firstseen", json!("text")), (key.as_str(), value)]);
            assert!(is_alerting.holds(&event(twice["firstseen_2"].clone())), "{file}: {key}");
            assert!(!is_alerting.holds(&event(json!({ "suppressed": [] }))), "{file}: {key}");
        }
    }
}

/// A made-up week goes through the steps, with the engine in the sidecar's place.
#[test]
fn all_events_come_out_and_only_candidates_went_to_firstseen() {
    let events = sample::enriched_events(2_000, 1);
    let records: Vec<Value> = events.iter().map(|event| serde_json::from_str(event).expect("JSON")).collect();
    let mut alone = Native::without_prefilter(&compiled(None, &[]));
    let expected: Vec<Value> = records
        .iter()
        .map(|record| serde_json::from_slice(&alone.process(record.to_string().as_bytes(), arrival())).expect("JSON"))
        .collect();
    let Steps { document, is_candidate, came_back, is_alerting, .. } = Steps::of(FILE);
    let mut sidecar = Native::new(&compiled(None, &[]));
    let (mut out, mut candidates, mut alerts) = (Vec::new(), 0, 0);
    for (number, chunk) in records.chunks(500).enumerate() {
        // Each other file is one document, the others are NDJSON.
        let lines: Vec<Value> = match number % 2 {
            0 => vec![line(&json!({ "Records": chunk }).to_string())],
            _ => chunk.iter().map(|record| line(&record.to_string())).collect(),
        };
        for event in lines.iter().flat_map(|line| document.run(line)) {
            if !is_candidate.holds(&event) {
                out.push(event);
                continue;
            }
            candidates += 1;
            let answer = sidecar.process(event.to_string().as_bytes(), arrival());
            let mut answer: Value = serde_json::from_slice(&answer).expect("JSON");
            answer["source_type"] = json!("http_server");
            answer["timestamp"] = json!("2026-12-31T00:00:00Z");
            let came = came_back.run(&answer);
            alerts += came.iter().filter(|event| is_alerting.holds(event)).count();
            out.extend(came);
        }
    }
    assert_eq!(out, expected);
    assert!(candidates > 0 && candidates < records.len() / 10, "{candidates} of {}", records.len());
    let alerting = expected.iter().filter(|event| !event["firstseen"]["alerts"].is_null()).count();
    assert!(alerts == alerting && alerts > 0, "{alerts} of {alerting}");
    let suppressed = expected.iter().filter(|event| !event["firstseen"].is_null()).count();
    assert!(alerts < suppressed, "some events only belong to a group");
}
