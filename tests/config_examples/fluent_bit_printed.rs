//! The branch that `firstseen compile --print fluent-bit` prints, in a real Fluent Bit, in both formats.
//!
//! In: the printed section, pasted into a pipeline as its comment says; events at the record's root, inside an envelope and as text.
//! Out: candidates under the new tag with their alerts, and all other records under their own. Without a Fluent Bit, or with one that
//! lacks a plugin, the tests say so and pass.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::fluent_bit_started::{fluent_bit, say_skipped};
use super::{alerting_rules, event, with};
use crate::subjects::{module_file, new_directory};

const FIRSTSEEN: &str = env!("CARGO_BIN_EXE_firstseen");

fn printed(directory: &Path, format: &str) -> String {
    let output = Command::new(FIRSTSEEN)
        .arg("compile")
        .arg(directory)
        .args(["--print", "fluent-bit", "--format", format])
        .output()
        .expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The pipeline in one of the formats, with the printed section in its place.
fn pipeline(directory: &Path, printed: &str, format: &str) -> String {
    let (shown, module) = (directory.display(), module_file());
    let module = module.display();
    match format {
        "yaml" => format!(
            "service:\n  flush: 1\n  grace: 2\nparsers:\n  - name: json\n    format: json\npipeline:\n  inputs:\n    \
             - name: tail\n      tag: aws.cloudtrail\n      path: {shown}/in.ndjson\n      parser: json\n      \
             read_from_head: true\n      exit_on_eof: true\n{printed}  filters:\n    - name: wasm\n      match: candidates.*\n      \
             wasm_path: {module}\n      function_name: firstseen\n      accessible_paths: {shown}/state\n  outputs:\n    \
             - name: file\n      match: '*'\n      path: {shown}/out\n      format: plain\n"
        ),
        // It reads on until it is stopped: at the end of a file, the emitter may still hold records.
        _ => format!(
            "[SERVICE]\n    flush 1\n    grace 2\n    parsers_file {shown}/parsers.conf\n    storage.path {shown}/storage\n[INPUT]\n    \
             name tail\n    tag aws.cloudtrail\n    path {shown}/in.ndjson\n    parser json\n    read_from_head true\n{printed}\
             [FILTER]\n    name wasm\n    match candidates.*\n    wasm_path {module}\n    function_name firstseen\n    \
             accessible_paths {shown}/state\n[OUTPUT]\n    name file\n    match *\n    path {shown}/out\n    format plain\n"
        ),
    }
}

fn check(format: &str) {
    let program = match fluent_bit(&["tail", "rewrite_tag", "wasm", "file"]) {
        Ok(program) => program,
        Err(why) => return say_skipped(&format!("what is printed for {format}"), &why),
    };
    let directory = new_directory();
    for name in ["out", "state", "rules"] {
        fs::create_dir(directory.join(name)).expect("a directory");
    }
    fs::write(directory.join("parsers.conf"), "[PARSER]\n    name json\n    format json\n").expect("the parser");
    let user = |number: usize| {
        let arn = format!("arn:aws:iam::111122223333:user/user-{number}");
        let mut user = with(event("iam_user"), &[("eventID", json!(number.to_string()))]);
        user["userIdentity"]["arn"] = json!(arn);
        user
    };
    let other = with(user(9), &[("eventName", json!("GetSessionToken"))]);
    let records = [
        user(1),
        json!({ "detail-type": "AWS API Call via CloudTrail", "detail": user(2) }),
        other.clone(),
        json!({ "log": user(3).to_string() }),
        json!({ "log": r#"{"eventName":"GetSessionToken"}"# }),
        json!({ "text": "it's no event" }),
    ];
    let lines: Vec<String> = records.iter().map(|record| format!("{record}\n")).collect();
    fs::write(directory.join("in.ndjson"), lines.concat()).expect("the records");

    let file = directory.join(format!("fluent-bit.{}", if format == "yaml" { "yaml" } else { "conf" }));
    let text = pipeline(&directory, &printed(&directory.join("rules"), format), format);
    fs::write(&file, &text).expect("the configuration");
    let start = |arguments: &[&str]| {
        let mut command = Command::new("timeout");
        command.args(["--signal=TERM", "6"]).arg(&program).arg("--config").arg(&file).args(arguments);
        command.output().expect("it starts")
    };
    let tried = start(&["--dry-run"]);
    assert!(tried.status.success(), "{}\n{text}", String::from_utf8_lossy(&tried.stderr));
    let said = start(&[]).stderr;
    let said = String::from_utf8_lossy(&said);
    let out = |tag: &str| -> Vec<Value> {
        let text = fs::read_to_string(directory.join("out").join(tag)).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    let candidates = out("candidates.aws.cloudtrail");
    assert_eq!(out("aws.cloudtrail"), [&records[2], &records[4], &records[5]].map(Value::clone), "{said}");
    assert_eq!(candidates.len(), 3, "{said}\n{text}");
    assert!(candidates.iter().all(|record| alerting_rules(&record["firstseen"]).len() == 1), "{candidates:?}");
    assert!(!said.contains("[error]"), "{said}");
    let _ = fs::remove_dir_all(directory);
}

#[test]
fn the_classic_branch_takes_candidates() {
    check("classic");
}

#[test]
fn the_yaml_branch_takes_candidates() {
    check("yaml");
}
