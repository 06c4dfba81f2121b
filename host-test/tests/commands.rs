//! The program as a user runs it: output, exit codes, and the sentences on standard error.
//!
//! Small modules stand in for the real one, so that each test sees one thing.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// `firstseen check`: what it finds in Fluent Bit configurations, and what it leaves alone.
#[path = "commands/check.rs"]
mod check;

/// `firstseen compile` and `firstseen rules check`: which files are read, and what is said of the others.
#[path = "commands/rules.rs"]
mod rules;

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
            (data (i32.const 16) ",\"firstseen\":{{\"alerts\":[{{\"rule\":{{\"id\":\"r\",\"name\":\"Rule\"}},\"severity\":\"low\"}}]}}}}\00")
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

/// Appends one alert to each record, before its last byte.
const ALERTS: &str = "
    (memory.copy (i32.const 300000) (local.get $record) (i32.sub (local.get $record_len) (i32.const 1)))
    (memory.copy (i32.add (i32.const 299999) (local.get $record_len)) (i32.const 16) (i32.const 200))
    (i32.const 300000)";

/// Traps on records of more than 7 bytes.
const TRAPS_ON_LONG: &str =
    "(if (i32.gt_u (local.get $record_len) (i32.const 7)) (then (unreachable))) (local.get $record)";

/// What `run` says of records without a CloudTrail event.
const NO_EVENT: &str = "firstseen: warning: no CloudTrail event was found: see event_root in firstseen.toml\n";

const EVENT: &str = r#"{"eventSource":"sts.amazonaws.com","eventName":"X","eventTime":"2026-03-02T00:00:01Z","userIdentity":{"type":"Root"}}"#;

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
    let warning = format!(
        "firstseen: warning: {input}:2: not JSON (column 1: expected a value); the line passes unchanged\n\
         firstseen: warning: 1 text passed unchanged and not examined: 1 not JSON (first at {input}:2)\n{NO_EVENT}"
    );
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
    assert_eq!(told(&output), (Some(0), tagged, NO_EVENT));
    let output = firstseen(&["run", "--alerts-only", "--module", module], format!("{EVENT}\n").as_bytes());
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

/// What the program says and its exit code, if nobody reads its standard output.
fn unread(arguments: &[&str]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_firstseen"))
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    child.wait_with_output().unwrap()
}

#[cfg(unix)]
#[test]
fn a_reader_that_goes_away_ends_the_program_quietly() {
    let directory = tempfile::tempdir().unwrap();
    let module = module(directory.path(), PASS_THROUGH);
    let input = directory.path().join("in.ndjson");
    // Many reads, whose ends are inside of lines.
    std::fs::write(&input, format!("{EVENT}\n").repeat(5_000)).unwrap();
    let (module, input) = (module.to_str().unwrap(), input.to_str().unwrap());
    assert_eq!(told(&unread(&["sample", "--events", "20000"])), (Some(0), "", ""));
    assert_eq!(told(&unread(&["run", "--module", module, input])), (Some(0), "", ""));
    assert_eq!(told(&unread(&["replay", "--module", module, input])), (Some(0), "", ""));
    let missing = format!("{input}.missing");
    let output = unread(&["run", "--module", module, &missing, input]);
    assert_eq!(output.status.code(), Some(2), "the file is missing all the same: {output:?}");
}

#[test]
fn a_trap_loses_no_record_and_is_an_error_in_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let module = module(directory.path(), TRAPS_ON_LONG);
    let module = module.to_str().unwrap();
    let input = "{\"a\":1}\n{\"long\":1}\n{\"b\":2}\n";
    let output = firstseen(&["run", "--module", module], input.as_bytes());
    let trap = "-:2: the module trapped on record 2: wasm trap: wasm `unreachable` instruction executed";
    let warning = format!(
        "firstseen: warning: {trap}; the record passes unchanged, and the module starts anew with the history of its state file\n{NO_EVENT}"
    );
    assert_eq!(told(&output), (Some(2), input, warning.as_str()));

    let output = firstseen(&["replay", "--module", module, "-"], input.as_bytes());
    let (code, out, err) = told(&output);
    let warning = format!("firstseen: warning: {trap}; the module starts anew with the history of its state file\n");
    assert_eq!((code, err), (Some(2), warning.as_str()));
    let summary = "3 records, 0 CloudTrail events\nno CloudTrail event was found: see event_root in firstseen.toml\n";
    assert!(out.starts_with(summary), "{out}");
}

#[test]
fn a_file_that_cannot_be_read_keeps_no_other_from_it() {
    let directory = tempfile::tempdir().unwrap();
    let module = module(directory.path(), ALERTS);
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (missing, good, cut) = (path("missing"), path("good.ndjson"), path("cut.json.gz"));
    std::fs::write(&good, format!("{EVENT}\n")).unwrap();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(format!("{{\"Records\":[{EVENT},{EVENT}]}}").as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    std::fs::write(&cut, &packed[..packed.len() - 8]).unwrap();
    let errors = format!(
        "firstseen: cannot read {missing}: No such file or directory (os error 2)\n\
         firstseen: cannot read {cut}: unexpected end of file\n"
    );
    let module = module.to_str().unwrap();
    let output = firstseen(&["run", "--module", module, &missing, &cut, &good], b"");
    let (code, out, err) = told(&output);
    assert_eq!((code, err), (Some(2), errors.as_str()));
    assert_eq!(out.lines().filter(|line| line.contains("\"firstseen\":{")).count(), 3, "{out}");
    let output = firstseen(&["replay", "--module", module, &missing, &cut, &good], b"");
    let (code, out, err) = told(&output);
    assert_eq!((code, err), (Some(2), errors.as_str()));
    assert!(out.contains("\n3 records, 3 CloudTrail events\n"), "{out}");
}

#[test]
fn replay_reads_the_alerts_of_records_that_are_not_utf_8() {
    let directory = tempfile::tempdir().unwrap();
    let module = module(directory.path(), ALERTS);
    let event = EVENT.strip_suffix('}').unwrap().as_bytes();
    let input =
        [event, b",\"userAgent\":\"\xff\xfe\"}\n", event, b",\"requestParameters\":{\"\\ud800\":1}}\n"].concat();
    let output = firstseen(&["replay", "--module", module.to_str().unwrap(), "-"], &input);
    let (code, out, err) = told(&output);
    assert_eq!((code, err), (Some(0), ""));
    assert!(out.contains("\n2 alerts on 2 events; suppressed: 0\n"), "{out}");
}

#[test]
fn warnings_of_bad_lines_end_at_20_and_the_rest_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let module = module(directory.path(), PASS_THROUGH);
    for (lines, rest) in [(20, ""), (21, "firstseen: warning: -: the same of 1 more line\n")] {
        let output = firstseen(&["run", "--module", module.to_str().unwrap()], "x\n".repeat(lines).as_bytes());
        let (code, out, err) = told(&output);
        assert_eq!((code, out), (Some(0), "x\n".repeat(lines).as_str()));
        let summary = format!(
            "firstseen: warning: {lines} texts passed unchanged and not examined: {lines} not JSON (first at -:1)\n"
        );
        assert_eq!(err.lines().count(), 21 + rest.lines().count(), "{err}");
        let end = format!("{rest}{summary}");
        assert!(err.contains("warning: -:20: ") && !err.contains("warning: -:21: ") && err.ends_with(&end), "{err}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn what_cannot_be_written_is_told_where_that_is_possible_and_stops_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let module = module(directory.path(), PASS_THROUGH);
    let input = directory.path().join("in.ndjson");
    let lines = format!("{EVENT}\nx\n").repeat(2_000);
    std::fs::write(&input, &lines).unwrap();
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let run = |command: &str| {
        let mut run = Command::new(env!("CARGO_BIN_EXE_firstseen"));
        run.arg(command).arg("--module").arg(&module).arg(&input);
        run
    };
    let output = run("run").stderr(full()).output().unwrap();
    assert_eq!(told(&output), (Some(0), lines.as_str(), ""));
    let sentence = "firstseen: cannot write to standard output: No space left on device (os error 28)\n";
    for command in ["run", "replay"] {
        let output = run(command).stdout(full()).output().unwrap();
        let (code, _, err) = told(&output);
        assert_eq!(code, Some(2), "{err}");
        assert_eq!(err.lines().last().map(|line| format!("{line}\n")).as_deref(), Some(sentence), "{err}");
        assert!(!err.contains("ends too early"), "{err}");
    }
    let output = Command::new(env!("CARGO_BIN_EXE_firstseen")).args(["sample"]).stdout(full()).output().unwrap();
    assert_eq!(told(&output), (Some(2), "", sentence));
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
    let warnings = "firstseen: warning: -:4: not JSON (column 1: expected a value); the line is left out\n\
                    firstseen: warning: 1 text left out: 1 not JSON (first at -:4)\n\
                    firstseen: warning: 1 event without an event time that can be read (first at -:2: \"soon\")\n";
    assert_eq!(told(&output), (Some(1), expected.as_str(), warnings));

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

/// As CloudTrail writes them, events have no AS organisation: a lookup finds it in the sample's own database.
#[test]
fn sample_leaves_the_organization_to_a_lookup_unless_told_otherwise() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let organizations = |output: &Output| text(&output.stdout).matches("source.as.organization.name").count();
    let plain = firstseen(&["sample", "--events", "200", "--asn-database", &path("asn.mmdb")], b"");
    assert_eq!((plain.status.code(), text(&plain.stdout).lines().count(), organizations(&plain)), (Some(0), 200, 0));
    let enriched = firstseen(&["sample", "--events", "200", "--enriched"], b"");
    assert!(organizations(&enriched) > 100, "{}", organizations(&enriched));
    std::fs::write(path("plain.ndjson"), &plain.stdout).unwrap();
    std::fs::write(path("enriched.ndjson"), &enriched.stdout).unwrap();
    let alerts = |arguments: &[&str]| -> Vec<serde_json::Value> {
        let output = firstseen(&[&["replay", "--json"], arguments].concat(), b"");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let rules = |arguments: &[&str]| {
        alerts(arguments).iter().map(|alert| alert["alert"]["rule"]["id"].to_string()).collect::<Vec<_>>()
    };
    let looked_up = rules(&["--asn", &path("asn.mmdb"), &path("plain.ndjson")]);
    assert_eq!(looked_up, rules(&[&path("enriched.ndjson")]));
    let ec2_role = "\"b2f8c4e1-6a73-4f1e-9c2d-8e5b0a1d3f7c\"";
    assert_eq!(looked_up.iter().filter(|rule| *rule == ec2_role).count(), 2);
    assert!(!rules(&[&path("plain.ndjson")]).contains(&ec2_role.to_owned()));

    let output = firstseen(&["sample", "--asn-database", &path("none/asn.mmdb")], b"");
    let (code, out, err) = told(&output);
    assert_eq!((code, out), (Some(2), ""));
    assert!(err.starts_with(&format!("firstseen: cannot write {}: ", path("none/asn.mmdb"))), "{err}");
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
fn compile_prints_what_tells_candidates_and_writes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let dir = path.to_str().unwrap();
    let settings = |text: &str| std::fs::write(path.join("firstseen.toml"), text).unwrap();
    settings("dialect = \"cloudtrail\"");
    let print = |language: &str| firstseen(&["compile", dir, "--print", language], b"");
    for (language, line) in [
        ("vrl", "(exists(.eventName) && (match(.eventName, r'^(?i:GetCallerIdentity)$') ?? true)) ||"),
        ("fluent-bit", "    Rule                 $eventName \\A(?i:GetCallerIdentity)\\z candidates.$TAG false"),
    ] {
        let output = print(language);
        let (code, out, err) = told(&output);
        assert_eq!((code, err), (Some(0), ""));
        assert!(out.lines().any(|printed| printed == line), "{out}");
    }

    let formatted =
        |language: &str, format: &str| firstseen(&["compile", dir, "--print", language, "--format", format], b"");
    assert_eq!(formatted("fluent-bit", "classic").stdout, print("fluent-bit").stdout);
    let output = formatted("fluent-bit", "yaml");
    let line = "            rule: '$eventName \\A(?i:GetCallerIdentity)\\z candidates.$TAG false'";
    assert!(text(&output.stdout).lines().any(|printed| printed == line), "{output:?}");
    let output = formatted("vrl", "yaml");
    let (code, out, err) = told(&output);
    assert_eq!((code, out, err), (Some(2), "", "firstseen: --format is for --print fluent-bit: leave it out\n"));

    settings("event_root = \"a key\"");
    let output = print("fluent-bit");
    let (code, out, err) = told(&output);
    assert_eq!((code, out), (Some(2), ""));
    assert!(err.starts_with("firstseen: Fluent Bit's record accessor cannot name the key \"a key\""), "{err}");

    settings("no such setting");
    let output = print("vrl");
    let (code, out, err) = told(&output);
    assert_eq!((code, out, err.lines().last()), (Some(2), "", Some("firstseen: nothing printed: 1 refusal")), "{err}");
    let left: Vec<_> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["firstseen.toml"]);
}

#[test]
fn rules_check_goes_on_after_what_it_cannot_read_and_keeps_its_exit_code() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("good.TOML"), RULE).unwrap();
    std::fs::write(path("bad.toml"), RULE.replace("ConsoleLogin\"", "ConsoleLogin")).unwrap();
    let output = firstseen(&["rules", "check", &path("missing.toml"), &path("bad.toml"), &path("good.TOML")], b"");
    let (code, out, err) = told(&output);
    assert_eq!(code, Some(2));
    assert!(out.starts_with(&format!("{}: 1 rule, none refused\n", path("good.TOML"))), "{out}");
    assert!(err.starts_with("firstseen: cannot read ") && err.contains("bad.toml:7:"), "{err}");

    let output = unread(&["rules", "check", &path("good.TOML"), &path("bad.toml"), &path("good.TOML")]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");

    // A directory of rules, also one whose name is in capitals, is read whole.
    let output = firstseen(&["rules", "check", directory.path().to_str().unwrap()], b"");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    std::fs::remove_file(path("bad.toml")).unwrap();
    let output = firstseen(&["rules", "check", directory.path().to_str().unwrap()], b"");
    assert!(text(&output.stdout).contains(": 1 rule, none refused\n"), "{output:?}");
}

#[test]
fn rules_check_reads_settings_with_the_rules_beside_them() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    std::fs::create_dir(path.join("rules")).unwrap();
    std::fs::write(path.join("rules/login.toml"), RULE).unwrap();
    let settings = "[rules.\"7d8f0b9e-0000-4000-8000-000000000001\"]\nhistory_window = \"9d\"\n";
    std::fs::write(path.join("firstseen.toml"), settings).unwrap();
    let file = path.join("firstseen.toml");
    let output = firstseen(&["rules", "check", file.to_str().unwrap()], b"");
    let (code, out, err) = told(&output);
    assert_eq!((code, err), (Some(0), ""));
    assert!(out.contains(": 4 rules, none refused\n") && out.contains("  new_terms  9d "), "{out}");
    let output = Command::new(env!("CARGO_BIN_EXE_firstseen"))
        .args(["rules", "check", "firstseen.toml"])
        .current_dir(path)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[cfg(unix)]
#[test]
fn what_would_silently_not_be_read_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let dir = path.to_str().unwrap();
    for stray in ["login.toml", "firstseen.TOML"] {
        std::fs::write(path.join(stray), RULE).unwrap();
        let output = firstseen(&["compile", dir], b"");
        let error = format!(
            "firstseen: {dir}/{stray} would not be read: move it to {dir}/rules if it is a rule; settings stand in {dir}/firstseen.toml\n"
        );
        assert_eq!(told(&output), (Some(2), "", error.as_str()));
        std::fs::remove_file(path.join(stray)).unwrap();
    }
    for link in ["firstseen.toml", "rules"] {
        std::os::unix::fs::symlink("nowhere", path.join(link)).unwrap();
        for command in [&["compile", dir][..], &["rules", "check", dir]] {
            let output = firstseen(command, b"");
            let error = format!("firstseen: {dir}/{link} is a link to nothing: mend it or remove it\n");
            assert_eq!(told(&output), (Some(2), "", error.as_str()));
        }
        std::fs::remove_file(path.join(link)).unwrap();
    }
}

#[test]
fn a_directory_that_was_never_compiled_is_an_error_and_one_out_of_date_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    let module = module(directory.path(), PASS_THROUGH);
    let path = directory.path().join("conf");
    std::fs::create_dir_all(path.join("rules")).unwrap();
    let (dir, module) = (path.to_str().unwrap(), module.to_str().unwrap());
    let input = format!("{EVENT}\n");
    let told_by = |command: &[&str]| {
        let output = firstseen(&[command, &["--dir", dir, "--module", module, "-"]].concat(), input.as_bytes());
        (output.status.code(), text(&output.stderr).to_owned())
    };
    assert_eq!(told_by(&["run"]), (Some(0), String::new()), "no settings and no rules");
    let error =
        format!("firstseen: {dir} has settings or rules but no firstseen.pack; run `firstseen compile {dir}` first\n");
    for source in ["firstseen.toml", "rules/login.toml"] {
        let text = if source == "firstseen.toml" { "output_key = \"detections\"\n" } else { RULE };
        std::fs::write(path.join(source), text).unwrap();
        for command in ["run", "replay"] {
            assert_eq!(told_by(&[command]), (Some(2), error.clone()));
        }
        assert_eq!(firstseen(&["compile", dir], b"").status.code(), Some(0));
        assert_eq!(told_by(&["replay", "--json"]), (Some(0), String::new()));
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
        std::fs::File::options().append(true).open(path.join(source)).unwrap().set_modified(later).unwrap();
        let warning = format!(
            "firstseen: warning: {dir}/firstseen.pack is older than {dir}/{source}; run `firstseen compile {dir}` to have the changes\n"
        );
        for command in ["run", "replay"] {
            assert_eq!(told_by(&[command]), (Some(0), warning.clone()));
        }
        std::fs::remove_file(path.join(source)).unwrap();
        std::fs::remove_file(path.join("firstseen.pack")).unwrap();
    }
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
    let error =
        "firstseen: warning: -:1: the module changed the record but appended no \"detections\" that can be read\n";
    let (code, out, err) = told(&output);
    assert_eq!((code, err), (Some(2), error));
    assert!(out.starts_with("1 record, 0 CloudTrail events\n"), "{out}");
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
