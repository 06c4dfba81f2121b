//! The way from nothing to a first alert in Fluent Bit, as a newcomer takes it from `README.md`.
//!
//! In: the first block of commands there, with other paths; the built program and module. Out: that each command succeeds, that
//! `check` finds nothing, and that the events that alert come out, among them the one of the stolen credentials. Without a Fluent Bit,
//! or with one that lacks a plugin, the test says so and passes.

use std::fs;
use std::process::Command;

use serde_json::Value;

use super::fluent_bit_started::{fluent_bit, say_skipped};
use super::{README, alerting_rules, text};
use crate::subjects::{BUILTIN_RULE_IDS, module_file, new_directory, workspace};

/// How many events of the sample alert.
const ALERTING: usize = 18;

/// The commands of the walk-through: the block behind its heading.
fn commands() -> String {
    let text = text(README);
    let (_, section) = text.split_once("## From nothing to a first alert in Fluent Bit").expect("a heading");
    let (_, block) = section.split_once("```sh\n").expect("a block of commands");
    block.split_once("```").expect("its end").0.to_owned()
}

#[test]
fn the_walk_through_ends_with_alerts() {
    let program = match fluent_bit(&["tail", "grep", "parser", "geoip2", "wasm", "stdout"]) {
        Ok(program) => program,
        Err(why) => return say_skipped("the walk-through", &why),
    };
    let root = new_directory();
    for name in ["bin", "usr/bin"] {
        fs::create_dir_all(root.join(name)).expect("a directory");
    }
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_firstseen"), root.join("bin/firstseen")).expect("a link");
    let commands = commands();
    assert_eq!(commands.matches("make build").count(), 1, "{commands}");
    let mut adapted = commands.replace("make build", "true");
    for (place, other) in [
        ("target/firstseen.wasm", module_file()),
        ("target/release/firstseen", env!("CARGO_BIN_EXE_firstseen").into()),
        ("/usr/", root.join("usr/")),
        ("/var/", root.join("var/")),
    ] {
        assert!(adapted.contains(place), "{place}");
        adapted = adapted.replace(place, other.to_str().expect("a path in UTF-8"));
    }
    // The examples' own paths: `sed` of the walk-through puts the sample's database into them.
    let examples = root.join("config-examples/fluent-bit");
    fs::create_dir_all(&examples).expect("a directory");
    for name in ["firstseen.yaml", "firstseen.conf", "parsers.conf"] {
        let example =
            fs::read_to_string(workspace().join("config-examples/fluent-bit").join(name)).expect("an example");
        let example = example
            .replace("/usr/", root.join("usr/").to_str().expect("UTF-8"))
            .replace("/var/", root.join("var/").to_str().expect("UTF-8"));
        fs::write(examples.join(name), example).expect("the example");
    }
    // It runs until it is stopped.
    let last = "fluent-bit -c try.yaml";
    assert!(adapted.trim_end().ends_with(last), "{adapted}");
    let run = format!("timeout --signal=TERM 6 {} -c try.yaml > out 2> err || true; cat out", program.display());
    let script = format!("set -eu\nPATH={}:$PATH\n{}", root.join("bin").display(), adapted.replace(last, &run));
    let output = Command::new("sh").arg("-c").arg(&script).current_dir(&root).output().expect("a shell");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && stderr.is_empty(), "{script}\n{stdout}\n{stderr}");
    let alerts: Vec<Value> = stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no word from check: {line}\n{script}")))
        .collect();
    let said = fs::read_to_string(root.join("err")).unwrap_or_default();
    assert_eq!(alerts.len(), ALERTING, "{said}");
    let [ec2_role, ..] = BUILTIN_RULE_IDS;
    let stolen = alerts.iter().find(|event| event["sourceIPAddress"] == "203.0.113.66").expect("the thief");
    assert!(alerting_rules(&stolen["firstseen"]).contains(&ec2_role), "{stolen}");
    assert!(!said.contains("firstseen: "), "{said}");
    let _ = fs::remove_dir_all(root);
}
