//! The program as a user runs it: output, exit codes, and the sentences on standard error.
//!
//! Small modules stand in for the real one, so that each test sees one thing.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A module whose answer is `body`; its parameters are `$tag $tag_len $sec $nsec $record $record_len`.
fn module(directory: &Path, body: &str) -> PathBuf {
    let text = format!(
        r#"(module
            (memory (export "memory") 8)
            (global $next (mut i32) (i32.const 8192))
            (func (export "malloc") (param $size i32) (result i32) (local $at i32)
                ;; A host that never frees must not run out.
                (if (i32.gt_u (global.get $next) (i32.const 262144)) (then (global.set $next (i32.const 8192))))
                (local.set $at (global.get $next))
                (global.set $next (i32.add (local.get $at) (local.get $size)))
                (local.get $at))
            (func (export "free") (param i32) (global.set $next (i32.const 8192)))
            (data (i32.const 16) "{{\"a\":1,\"firstseen\":{{\"alerts\":[{{\"rule\":{{\"id\":\"r\",\"name\":\"Rule\"}},\"severity\":\"low\"}}]}}}}\00")
            (func (export "firstseen")
                (param $tag i32) (param $tag_len i32) (param $sec i32) (param $nsec i32)
                (param $record i32) (param $record_len i32) (result i32) {body})
            (func (export "firstseen_alerts") (param i32 i32 i32 i32 i32 i32) (result i32) (i32.const 8)))"#
    );
    let path = directory.join("module.wasm");
    std::fs::write(&path, wat::parse_str(text).expect("the module is valid")).unwrap();
    path
}

const PASS_THROUGH: &str = "(local.get $record)";

/// Tags each record with one alert.
const ALERTS: &str = "(i32.const 16)";

fn firstseen(arguments: &[&str], stdin: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_firstseen"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // A program that does not read its input may end before it is written.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

/// Exit code, standard output, standard error.
fn told(output: &Output) -> (Option<i32>, &str, &str) {
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn run_passes_bad_lines_unchanged_with_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    let module = module(directory.path(), PASS_THROUGH);
    let input = directory.path().join("in.ndjson");
    std::fs::write(&input, "{\"a\": 1}\nnot json\n{\"b\":2}\r\n").unwrap();
    let (module, input) = (module.to_str().unwrap(), input.to_str().unwrap());
    let output = firstseen(&["run", "--module", module, input], b"");
    let warning =
        format!("firstseen: warning: {input}:2: not JSON (column 1: expected a value); the line passes unchanged\n");
    assert_eq!(told(&output), (Some(0), "{\"a\": 1}\nnot json\n{\"b\":2}\r\n", warning.as_str()));
}

#[test]
fn run_replaces_changed_records_and_drops_dropped_ones() {
    let directory = tempfile::tempdir().unwrap();
    let module = module(directory.path(), ALERTS);
    let module = module.to_str().unwrap();
    let output = firstseen(&["run", "--module", module, "-"], b"{\"a\":1}");
    let tagged =
        "{\"a\":1,\"firstseen\":{\"alerts\":[{\"rule\":{\"id\":\"r\",\"name\":\"Rule\"},\"severity\":\"low\"}]}}\n";
    assert_eq!(told(&output), (Some(0), tagged, ""));
    let output = firstseen(&["run", "--alerts-only", "--module", module], b"{\"a\":1}\n");
    assert_eq!(told(&output), (Some(0), "", ""));
}

#[test]
fn run_answers_each_line_of_a_pipe_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let module = module(directory.path(), PASS_THROUGH);
    let mut child = Command::new(env!("CARGO_BIN_EXE_firstseen"))
        .args(["run", "--module", module.to_str().unwrap()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    for number in 0..3 {
        let line = format!("{{\"n\":{number}}}\n");
        stdin.write_all(line.as_bytes()).unwrap();
        let mut answer = String::new();
        stdout.read_line(&mut answer).unwrap();
        assert_eq!(answer, line);
    }
    drop(stdin);
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!((child.wait().unwrap().code(), rest.as_str()), (Some(0), ""));
}

#[cfg(unix)]
#[test]
fn a_reader_that_goes_away_ends_the_program_quietly() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_firstseen"))
        .args(["sample", "--events", "20000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(told(&output), (Some(0), "", ""));
}

#[test]
fn a_trap_is_an_error_that_names_the_line() {
    let directory = tempfile::tempdir().unwrap();
    let traps_on_long =
        "(if (i32.gt_u (local.get $record_len) (i32.const 7)) (then (unreachable))) (local.get $record)";
    let module = module(directory.path(), traps_on_long);
    let output = firstseen(&["run", "--module", module.to_str().unwrap()], b"{\"a\":1}\n{\"long\":1}\n{\"b\":2}\n");
    let error = "firstseen: -:2: the module trapped on record 2: wasm trap: wasm `unreachable` instruction executed\n";
    assert_eq!(told(&output), (Some(2), "{\"a\":1}\n", error));
}

#[test]
fn what_is_missing_or_no_module_is_one_sentence_and_exit_code_2() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let good = module(directory.path(), PASS_THROUGH);
    let good = good.to_str().unwrap();
    std::fs::write(path("bad.wasm"), "no module").unwrap();
    for command in ["run", "replay"] {
        let output = firstseen(&[command, "--module", good, &path("missing")], b"");
        let error = format!("firstseen: cannot read {}: No such file or directory (os error 2)\n", path("missing"));
        assert_eq!(told(&output), (Some(2), "", error.as_str()));
        let output = firstseen(&[command, "--module", good, "--dir", &path("missing"), "-"], b"");
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).starts_with("firstseen: cannot read the directory "), "{output:?}");
        let output = firstseen(&[command, "--module", &path("bad.wasm"), "-"], b"");
        let expected = format!("firstseen: cannot load {}: the module cannot be compiled: ", path("bad.wasm"));
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).starts_with(&expected), "{output:?}");
        assert_eq!(text(&output.stderr).lines().count(), 1, "{output:?}");
    }
}

#[test]
fn replay_gives_records_in_the_order_of_their_event_times() {
    let directory = tempfile::tempdir().unwrap();
    // Answers every record: its event time in seconds is its arrival time.
    let module = module(directory.path(), ALERTS);
    let event = |id: &str, time: &str| {
        format!(
            "{{\"eventSource\":\"sts.amazonaws.com\",\"eventName\":\"X\",\"eventTime\":\"{time}\",\"eventID\":\"{id}\",\"userIdentity\":{{\"type\":\"Root\"}}}}\n"
        )
    };
    let input = [
        event("late", "2026-03-02T00:00:09Z"),
        event("no-time", "soon"),
        event("early", "2026-03-02T00:00:01Z"),
        "oops\n".to_owned(),
    ]
    .concat();
    let output = firstseen(&["replay", "--json", "--module", module.to_str().unwrap(), "-"], input.as_bytes());
    let alert = "{\"rule\":{\"id\":\"r\",\"name\":\"Rule\"},\"severity\":\"low\"}";
    let expected = format!(
        "{{\"event_id\":\"early\",\"event_time\":\"2026-03-02T00:00:01Z\",\"alert\":{alert}}}\n\
         {{\"event_id\":\"late\",\"event_time\":\"2026-03-02T00:00:09Z\",\"alert\":{alert}}}\n\
         {{\"event_id\":\"no-time\",\"event_time\":null,\"alert\":{alert}}}\n"
    );
    let warning = "firstseen: warning: -:4: not JSON (column 1: expected a value); the line is left out\n";
    assert_eq!(told(&output), (Some(0), expected.as_str(), warning));

    let output = firstseen(
        &["replay", "--module", module.to_str().unwrap(), "-"],
        event("one", "2026-03-02T00:00:01Z").as_bytes(),
    );
    let shown = text(&output.stdout);
    assert!(
        shown.starts_with("2026-03-02T00:00:01Z  LOW  Rule\n    event     one\n\n1 record, 1 CloudTrail event\n"),
        "{shown}"
    );
    assert!(shown.contains("1 alert on 1 event; suppressed: 0\n       1  low       Rule\n"), "{shown}");
}

const RULE: &str = r#"
[rule]
name = "First console login of a user"
rule_id = "7d8f0b9e-0000-4000-8000-000000000001"
type = "new_terms"
language = "kuery"
query = 'event.action: "ConsoleLogin"'
severity = "high"
risk_score = 70

[rule.new_terms]
field = "new_terms_fields"
value = ["user.name"]

[[rule.new_terms.history_window_start]]
field = "history_window_start"
value = "now-7d"
"#;

#[test]
fn compile_writes_a_pack_or_every_refusal_and_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    std::fs::create_dir(path.join("rules")).unwrap();
    std::fs::write(path.join("rules/login.toml"), RULE).unwrap();
    let dir = path.to_str().unwrap();
    let output = firstseen(&["compile", dir], b"");
    let (code, out, err) = told(&output);
    assert_eq!((code, err), (Some(0), ""));
    assert!(out.starts_with(&format!("{dir}/firstseen.pack: 4 rules\n")), "{out}");
    assert!(out.contains("  new_terms  7d     high      First console login of a user  (7d8f0b9e-"), "{out}");
    let pack = std::fs::read(path.join("firstseen.pack")).unwrap();
    assert!(firstseen_engine::rule::pack::decode(&pack).is_ok_and(|pack| pack.rules.len() == 4));

    std::fs::write(path.join("rules/broken.toml"), RULE.replace("ConsoleLogin\"", "ConsoleLogin")).unwrap();
    let output = firstseen(&["compile", dir], b"");
    let (code, out, err) = told(&output);
    assert_eq!((code, out), (Some(2), ""));
    let broken = format!("{dir}/rules/broken.toml:7:");
    assert!(err.lines().any(|line| line.starts_with(&broken)), "{err}");
    assert!(err.lines().last().unwrap().starts_with("firstseen: "), "{err}");
    assert_eq!(std::fs::read(path.join("firstseen.pack")).unwrap(), pack, "the old pack stays");
    let left: Vec<_> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");

    let output = firstseen(&["rules", "check", &format!("{dir}/rules/login.toml")], b"");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let output = firstseen(&["rules", "check", &format!("{dir}/rules")], b"");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let output = firstseen(&["rules", "check", &format!("{dir}/missing.toml")], b"");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn compiled_settings_reach_the_replay() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    std::fs::write(path.join("firstseen.toml"), "output_key = \"detections\"\n").unwrap();
    let dir = path.to_str().unwrap();
    assert_eq!(firstseen(&["compile", dir], b"").status.code(), Some(0));
    let module = module(path, ALERTS);
    let output = firstseen(&["replay", "--dir", dir, "--module", module.to_str().unwrap(), "-"], b"{}\n");
    let error = "firstseen: the module changed a record but appended no \"detections\" to it\n";
    assert_eq!(told(&output), (Some(2), "", error));
    std::fs::write(path.join("firstseen.pack"), "damaged").unwrap();
    let output = firstseen(&["replay", "--dir", dir, "--module", module.to_str().unwrap(), "-"], b"{}\n");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("firstseen.pack: "), "{output:?}");
}

#[test]
fn bench_measures_any_module() {
    let directory = tempfile::tempdir().unwrap();
    let module = module(directory.path(), PASS_THROUGH);
    let output = firstseen(&["bench", "--seconds", "0.1", "--json", "--module", module.to_str().unwrap()], b"");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["lines"].as_array().unwrap().len(), 6);
    assert_eq!(report["record_bytes"], 1500);
    assert_eq!(report["memory_bytes"], 8 * 65536);
    assert!(report["lines"][0]["fuel_per_record"].as_u64().unwrap() > 0);
}
