//! The files that users copy: `config-examples/` holds what works.
//!
//! In: every file below `config-examples/`. Out: that each is loaded by a test here and does what its comments say.
//! Not here: what rules and settings mean in general (`cases/`), other pipelines than the examples'.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::oracle::read_time;
use crate::subjects::workspace;

/// A GeoIP database with one network in it, in MaxMind's format.
pub(crate) mod asn_database;

/// What the Fluent Bit examples say: both the same, and what the module needs.
mod fluent_bit;

/// The Fluent Bit examples in a real Fluent Bit.
mod fluent_bit_started;

/// The other Fluent Bit examples in a real Fluent Bit.
mod fluent_bit_pipelines;

/// Many records, a restart and a kill in a real Fluent Bit: none is lost, and no alert.
mod fluent_bit_lossless;

/// An endpoint that is away while a real Fluent Bit is killed: every alert arrives.
mod fluent_bit_outage;

/// The printed branch in a real Fluent Bit.
mod fluent_bit_printed;

/// The way to a first alert, as `README.md` says it.
mod fluent_bit_walk_through;

/// What the Vector examples say, and what their programs do.
mod vector;

/// The Vector examples in a real Vector.
pub(crate) mod vector_started;

/// The example of a configuration directory.
mod rules;

/// The operator's page.
const README: &str = "README.md";

#[test]
fn every_file_is_loaded_by_a_test() {
    let mut files = Vec::new();
    collect_files(&directory(), &mut files);
    files.sort();
    let first = [fluent_bit::CLASSIC, fluent_bit::YAML, fluent_bit::PARSERS, rules::SETTINGS, rules::OWN_RULE, README];
    let mut expected: Vec<PathBuf> =
        first.iter().chain(&fluent_bit_pipelines::FILES).chain(&vector::FILES).map(|file| path_of(file)).collect();
    expected.sort();
    assert_eq!(files, expected);
}

fn collect_files(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory of examples") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect_files(&path, files);
        } else {
            files.push(path);
        }
    }
}

fn directory() -> PathBuf {
    workspace().join("config-examples")
}

fn path_of(file: &str) -> PathBuf {
    directory().join(file)
}

/// The text of an example, named by its path below `config-examples/`.
fn text(file: &str) -> String {
    fs::read_to_string(path_of(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// One of the events that cases start from, without the AS organisation that stands in some.
fn event(base: &str) -> Value {
    let text = fs::read_to_string(workspace().join("tests/cases/bases.toml")).expect("bases.toml is there");
    let bases: BTreeMap<String, String> = toml::from_str(&text).expect("bases.toml is TOML");
    let mut event: Value = serde_json::from_str(&bases[base]).expect("a base is JSON");
    event.as_object_mut().expect("a base is an object").remove("source");
    event
}

/// The event with other values at some of its keys.
fn with(mut event: Value, changes: &[(&str, Value)]) -> Value {
    for (key, value) in changes {
        event[*key] = value.clone();
    }
    event
}

/// The ids of the rules whose alerts an annotation holds, in its order.
fn alerting_rules(annotation: &Value) -> Vec<&str> {
    let alerts = annotation["alerts"].as_array().map_or(&[][..], Vec::as_slice);
    alerts.iter().map(|alert| alert["rule"]["id"].as_str().expect("an alert names its rule")).collect()
}

/// When the events arrive, in milliseconds since 1970: after all of them have happened.
fn arrival() -> i64 {
    read_time("2026-12-31T00:00:00Z").expect("a time")
}

/// A sign-in to the console by the root user.
fn root_console_login() -> Value {
    json!({
        "eventVersion": "1.09",
        "userIdentity": {
            "type": "Root",
            "principalId": "111122223333",
            "arn": "arn:aws:iam::111122223333:root",
            "accountId": "111122223333",
            "accessKeyId": ""
        },
        "eventTime": "2026-10-30T12:00:00Z",
        "eventSource": "signin.amazonaws.com",
        "eventName": "ConsoleLogin",
        "awsRegion": "us-east-1",
        "sourceIPAddress": "198.51.100.7",
        "userAgent": "Mozilla/5.0",
        "requestParameters": null,
        "responseElements": { "ConsoleLogin": "Success" },
        "additionalEventData": { "MobileVersion": "No", "MFAUsed": "Yes" },
        "eventID": "e-1",
        "eventType": "AwsConsoleSignIn",
        "recipientAccountId": "111122223333"
    })
}
