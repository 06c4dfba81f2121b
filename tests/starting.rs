//! How the module starts, and what it tells its operator on stderr.
//!
//! In: a configuration directory, as an operator may leave it. Out: that the module runs the right rules, or refuses with one
//! sentence. Not here: what a pack's bytes mean (unit tests of the engine).

use std::fs;
use std::path::Path;

use firstseen::guest::{Answer, Entry, Error};
use firstseen_engine::rule::pack;

use crate::subjects::{compiled, module};

const RECORD: &[u8] = br#"{"eventSource":"sts.amazonaws.com","eventName":"GetCallerIdentity","userIdentity":{"type":"IAMUser","arn":"a"}}"#;

/// The rule ids of the alerts that the record raises.
fn alerting(directory: Option<&Path>) -> Vec<String> {
    let mut instance = module().instantiate(directory).expect("the module starts");
    match instance.call(Entry::Firstseen, b"tag", 1_793_361_600, 0, RECORD).expect("an answer") {
        Answer::Changed(out) => {
            let out: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
            let alerts = out["firstseen"]["alerts"].as_array().expect("alerts");
            alerts.iter().map(|alert| alert["rule"]["id"].as_str().expect("an id").to_owned()).collect()
        }
        Answer::Untouched | Answer::Dropped => Vec::new(),
    }
}

/// What the module says when it refuses to start.
fn refusal(directory: &Path) -> String {
    match module().instantiate(Some(directory)) {
        Err(error @ Error::Start { .. }) => error.to_string(),
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("the module started"),
    }
}

#[test]
fn without_a_pack_the_built_in_rules_run() {
    let empty = tempfile::tempdir().expect("a directory");
    for directory in [None, Some(empty.path())] {
        assert_eq!(alerting(directory), ["30fbf4db-c502-4e68-a239-2e99af0f70da"]);
    }
    let files = fs::read_dir(empty.path()).expect("the directory").map(|entry| entry.expect("a file").file_name());
    assert_eq!(files.collect::<Vec<_>>(), ["firstseen.state"]);
}

#[test]
fn the_pack_of_the_directory_runs() {
    let directory = tempfile::tempdir().expect("a directory");
    let settings = "[rules.\"30fbf4db-c502-4e68-a239-2e99af0f70da\"]\nenabled = false\n";
    let pack = pack::encode(&compiled(Some(settings), &[]));
    fs::write(directory.path().join("firstseen.pack"), pack).expect("a pack");
    assert_eq!(alerting(Some(directory.path())), [""; 0]);
}

#[test]
fn a_pack_that_cannot_be_used_stops_the_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("firstseen.pack");
    let good = pack::encode(&compiled(None, &[]));
    let mut flipped = good.clone();
    *flipped.last_mut().expect("bytes") ^= 1;
    let other_version = [&good[..16], &[1], &good[17..]].concat();
    for (bytes, what) in [
        (&b""[..], "label of the pack: expected firstseen-pack, found nothing"),
        (b"garbage", "label of the pack: expected firstseen-pack, found something else"),
        (&other_version, "format version of the pack: expected 3, found 1"),
        (&good[..good.len() - 1], "length of the pack"),
        (&flipped, "checksum of the pack"),
    ] {
        fs::write(&file, bytes).expect("a pack");
        let said = refusal(directory.path());
        assert!(said.contains("firstseen.pack cannot be used: "), "{said}");
        assert!(said.contains(what) && said.contains("make the pack anew with `firstseen compile`"), "{said}");
    }
    fs::remove_file(&file).expect("the pack");
    fs::create_dir(&file).expect("a directory in its place");
    assert!(refusal(directory.path()).contains("firstseen.pack cannot be read ("));
}

#[test]
fn settings_or_rules_without_a_pack_stop_the_start() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::create_dir(directory.path().join("rules")).expect("a directory");
    assert!(
        refusal(directory.path())
            .contains("there is rules, but no firstseen.pack; make it with `firstseen compile DIR`")
    );
    fs::write(directory.path().join("firstseen.toml"), "").expect("a file");
    assert!(refusal(directory.path()).contains("there is firstseen.toml, but no firstseen.pack"));
    fs::write(directory.path().join("firstseen.pack"), pack::encode(&compiled(None, &[]))).expect("a pack");
    assert_eq!(alerting(Some(directory.path())), ["30fbf4db-c502-4e68-a239-2e99af0f70da"]);
}

#[test]
fn msgpack_is_handed_back_and_said_once() {
    let mut instance = module().instantiate_captured(None).expect("the module starts");
    for first in [0x81, 0xde, 0xdf, 0x8f] {
        let record = [first, 0xa1, b'a', 0x01];
        let answer = instance.call(Entry::Firstseen, b"tag", 1_793_361_600, 0, &record).expect("an answer");
        assert!(matches!(answer, Answer::Untouched), "{first:#x}: {answer:?}");
    }
    let said = String::from_utf8_lossy(instance.captured_stderr()).into_owned();
    assert_eq!(said.matches("set event_format to json").count(), 1, "{said}");
}
