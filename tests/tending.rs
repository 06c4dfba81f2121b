//! Seeding and tending a history with the program.
//!
//! In: logs and directories. Out: what the commands say, and what a filter alerts on afterwards. Not here: what merging two
//! histories means (unit tests of the engine), nor how fast it is (`firstseen bench`).

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

use crate::subjects::module_file;

fn firstseen(arguments: &[&str], files: &[&Path]) -> Output {
    let program = env!("CARGO_BIN_EXE_firstseen");
    Command::new(program).args(arguments).args(files).output().expect("the program runs")
}

/// Standard output of a command that goes well and has nothing to warn of.
fn well(arguments: &[&str], files: &[&Path]) -> String {
    let output = firstseen(arguments, files);
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && err.is_empty(), "{arguments:?}: {err}");
    String::from_utf8(output.stdout).expect("text")
}

fn refused(arguments: &[&str], files: &[&Path]) -> String {
    let output = firstseen(arguments, files);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    String::from_utf8(output.stderr).expect("text")
}

fn call_by(user: &str, time: &str, id: &str) -> String {
    format!(
        r#"{{"eventSource":"sts.amazonaws.com","eventName":"GetCallerIdentity","eventTime":"{time}","eventID":"{id}","userIdentity":{{"type":"IAMUser","arn":"arn:aws:iam::1:user/{user}"}}}}"#
    )
}

/// An event at noon of each of these days, which no rule asks for: logs without a gap.
fn every_day(month: &str, days: std::ops::RangeInclusive<u32>) -> Vec<String> {
    let other =
        |day| call_by("x", &format!("{month}-{day:02}T12:00:00Z"), "e-0").replace("GetCallerIdentity", "ListUsers");
    days.map(other).collect()
}

/// The ids of the events that alert, by a filter that runs over a file.
fn alerting(directory: &Path, file: &Path) -> Vec<String> {
    let module = module_file();
    let arguments = ["run", "--alerts-only", "--module", text(&module), "--dir", text(directory)];
    let ids = well(&arguments, &[file]);
    let id = |line: &str| serde_json::from_str::<Value>(line).expect("a record")["eventID"].as_str().map(str::to_owned);
    ids.lines().map(|line| id(line).expect("an id")).collect()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

fn write(directory: &Path, name: &str, content: &[u8]) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, content).expect("it is written");
    path
}

fn gzipped(content: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content.as_bytes()).expect("memory");
    encoder.finish().expect("memory")
}

fn export(directory: &Path) -> String {
    well(&["state", "export"], &[directory])
}

struct Place {
    logs: tempfile::TempDir,
    state: tempfile::TempDir,
}

fn place() -> Place {
    let directory = || tempfile::tempdir().expect("a directory");
    Place { logs: directory(), state: directory() }
}

#[test]
fn after_a_baseline_a_filter_alerts_only_on_what_is_new_since() {
    let Place { logs, state } = place();
    let (logs, state) = (logs.path(), state.path());
    // An export of S3, gzipped; NDJSON; out of order, and overlapping.
    let [a, b, c] = [
        call_by("ann", "2026-11-01T08:00:00Z", "e-1"),
        call_by("bob", "2026-11-09T08:00:00Z", "e-2"),
        call_by("ann", "2026-11-05T08:00:00Z", "e-3"),
    ];
    let s3 = write(logs, "s3.json.gz", &gzipped(&format!("{{\"Records\":[{b},{a}]}}")));
    let other = call_by("x", "2026-10-25T00:00:00Z", "e-0").replace("GetCallerIdentity", "ListUsers");
    let quiet = [every_day("2026-10", 25..=31), every_day("2026-11", 1..=8)].concat().join("\n");
    let ndjson = write(logs, "events.ndjson", format!("{c}\n{other}\n{quiet}\n{a}\n").as_bytes());

    let told = well(&["baseline", "--dir", text(state)], &[&s3, &ndjson]);
    assert!(told.contains("20 records of "), "{told}");
    assert!(told.contains("from 2026-10-25T00:00:00Z to 2026-11-09T08:00:00Z"), "{told}");
    assert!(told.contains("the history has 2 entries, 2 of them new"), "{told}");
    let once = export(state);
    let told = well(&["baseline", "--dir", text(state)], &[&ndjson, &s3]);
    assert!(told.contains("the history has 2 entries, 0 of them new"), "{told}");
    assert_eq!(export(state), once, "twice is once");

    let live = [
        b,
        call_by("ann", "2026-11-09T09:00:00Z", "e-4"),
        call_by("eve", "2026-11-09T10:00:00Z", "e-5"),
        call_by("ann", "2026-11-20T10:00:00Z", "e-6"),
    ];
    let live = write(logs, "live.ndjson", live.join("\n").as_bytes());
    assert_eq!(alerting(state, &live), ["e-5", "e-6"]);

    // What the live filter saw may be taught as well.
    let output = firstseen(&["baseline", "--dir", text(state)], &[&live]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && told.contains("0 of them new"), "{told}");
    let shown = well(&["state", "show"], &[state]);
    assert!(shown.contains("3 entries of at most 1,000,000"), "{shown}");
}

#[test]
fn a_baseline_says_what_it_covers_and_a_gap_before_the_filter_starts_does_not_count() {
    let Place { logs, state } = place();
    let (logs, state) = (logs.path(), state.path());
    let past = [call_by("ann", "2026-01-01T00:00:00Z", "e-1"), call_by("bob", "2026-01-20T00:00:00Z", "e-2")];
    let past = write(logs, "past.ndjson", past.join("\n").as_bytes());
    let output = firstseen(&["baseline", "--dir", text(state)], &[&past]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("a whole day or more before 2026-01-20T00:00:00Z"), "{said}");
    let quiet = write(logs, "quiet.ndjson", every_day("2026-01", 1..=19).join("\n").as_bytes());
    well(&["baseline", "--dir", text(state)], &[&past, &quiet]);
    let shown: Value = serde_json::from_str(&well(&["state", "show", "--json"], &[state])).expect("JSON");
    let rule = |shown: &Value| {
        let rules = shown["rules"].as_array().expect("rules");
        rules.iter().find(|rule| rule["rule_id"] == "30fbf4db-c502-4e68-a239-2e99af0f70da").cloned().expect("the rule")
    };
    let of_rule = rule(&shown);
    assert_eq!(of_rule["since"], "2026-01-01T00:00:00Z");
    assert_eq!(of_rule["taught_until"], "2026-01-20T00:00:00Z");
    assert_eq!((&of_rule["state"], &of_rule["entries"]), (&"complete".into(), &2.into()));
    // The filter starts now, long after: it has not seen what was in between.
    let live = write(logs, "live.ndjson", call_by("eve", "2026-01-20T00:00:01Z", "e-3").as_bytes());
    alerting(state, &live);
    let shown: Value = serde_json::from_str(&well(&["state", "show", "--json"], &[state])).expect("JSON");
    assert_eq!(rule(&shown)["state"], "warming");
    assert!(rule(&shown)["since"].as_str() > Some("2026-01-21"), "{}", rule(&shown));
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_and_the_others_are_learned() {
    let Place { logs, state } = place();
    let good = write(logs.path(), "good.ndjson", call_by("ann", "2026-01-01T00:00:00Z", "e-1").as_bytes());
    let missing = logs.path().join("missing.ndjson");
    let output = firstseen(&["baseline", "--dir", text(state.path())], &[&missing, &good]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot read "), "{output:?}");
    let shown = well(&["state", "show"], &[state.path()]);
    assert!(shown.starts_with("1 entry of at most"), "{shown}");
    assert!(shown.contains("since       never"), "what could not be read is not covered: {shown}");
}

#[test]
fn histories_of_one_key_merge_in_any_order() {
    let Place { logs, state } = place();
    let seed = state.path();
    let event = |name: &str, events: &[String]| write(logs.path(), name, events.join("\n").as_bytes());
    let first = event("first", &[call_by("ann", "2026-01-01T00:00:00Z", "e-1")]);
    well(&["baseline", "--dir", text(seed)], &[&first]);
    // Two directories that began as copies of one.
    let [a, b] = [tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory")];
    for directory in [&a, &b] {
        fs::copy(seed.join("firstseen.state"), directory.path().join("firstseen.state")).expect("a copy");
    }
    let more = [call_by("ann", "2026-01-03T00:00:00Z", "e-2"), call_by("bob", "2026-01-04T00:00:00Z", "e-3")];
    well(&["baseline", "--dir", text(a.path())], &[&event("more", &more)]);
    let others = [call_by("bob", "2026-01-02T00:00:00Z", "e-4"), call_by("eve", "2026-01-05T00:00:00Z", "e-5")];
    let others = [&others[..], &every_day("2026-01", 3..=4)].concat();
    well(&["baseline", "--dir", text(b.path())], &[&event("others", &others)]);
    let exports = [a.path(), b.path()].map(|directory| {
        let path = directory.join("export.ndjson");
        fs::write(&path, export(directory)).expect("it is written");
        path
    });

    let [both, reversed] = [tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory")];
    let told = well(&["state", "import", text(both.path())], &[&exports[0], &exports[1]]);
    assert!(told.contains("the history has 3 entries, 3 more than before"), "{told}");
    well(&["state", "import", text(reversed.path())], &[b.path()]);
    well(&["state", "import", text(reversed.path())], &[&exports[0], &exports[1], a.path()]);
    assert_eq!(export(both.path()), export(reversed.path()));
    let merged = export(both.path());
    let bob = r#""first_seen":"2026-01-02T00:00:00Z","last_seen":"2026-01-04T00:00:00Z""#;
    assert!(merged.contains(bob), "{merged}");

    let stranger = tempfile::tempdir().expect("a directory");
    well(&["baseline", "--dir", text(stranger.path())], &[&first]);
    let said = refused(&["state", "import", text(both.path())], &[stranger.path()]);
    assert!(said.contains("was made under another key") && said.lines().count() == 1, "{said}");
    assert_eq!(export(both.path()), merged, "nothing has changed");
}

#[test]
fn why_says_what_is_known_of_an_event_and_forget_makes_it_new() {
    const RULE: &str = "30fbf4db-c502-4e68-a239-2e99af0f70da";
    let Place { logs, state } = place();
    let (logs, state) = (logs.path(), state.path());
    let past = [call_by("ann", "2026-01-01T00:00:00Z", "e-1"), call_by("ann", "2026-01-02T00:00:00Z", "e-2")];
    well(&["baseline", "--dir", text(state)], &[&write(logs, "past", past.join("\n").as_bytes())]);
    let asked = [
        call_by("ann", "2026-01-03T00:00:00Z", "e-3"),
        call_by("ann", "2026-01-30T00:00:00Z", "e-4"),
        call_by("eve", "2026-01-03T00:00:00Z", "e-5"),
        "{\"a\":1}".to_owned(),
    ];
    let asked = write(logs, "asked", asked.join("\n").as_bytes());
    let before = export(state);
    let why = |state: &Path| well(&["state", "show", "--why", text(&asked)], &[state]);
    let said = why(state);
    let seen = "first seen 2026-01-01T00:00:00Z, last seen 2026-01-02T00:00:00Z";
    for part in [
        format!(
            "line 1, 2026-01-03T00:00:00Z  {RULE}\n    tuple     arn:aws:iam::1:user/ann\n    history   known: {seen}\n"
        ),
        format!(
            "line 2, 2026-01-30T00:00:00Z  {RULE}\n    tuple     arn:aws:iam::1:user/ann\n    history   expired: {seen}\n"
        ),
        "    tuple     arn:aws:iam::1:user/eve\n    history   never seen\n".to_owned(),
    ] {
        assert!(said.contains(&part), "{part}\nin\n{said}");
    }
    assert_eq!(export(state), before, "asking changes nothing");

    let said = refused(&["state", "forget", text(state), "--rule", "x"], &[]);
    assert!(said.contains("knows nothing of the rule \"x\"; it knows 30fbf4db"), "{said}");
    assert_eq!(well(&["state", "forget", text(state), "--rule", RULE], &[]), "1 entry forgotten, 0 entries left\n");
    assert!(why(state).contains("user/ann\n    history   never seen\n"));
}

#[test]
fn a_directory_without_a_history_and_a_file_that_is_none_are_told_apart() {
    let Place { logs, state } = place();
    let said = refused(&["state", "show"], &[state.path()]);
    assert!(said.contains("has no firstseen.state: no filter has run there"), "{said}");
    write(state.path(), "firstseen.state", b"garbage");
    let said = refused(&["state", "show"], &[state.path()]);
    assert!(said.contains("is no state file, or damaged from its beginning: move it away"), "{said}");
    let past = write(logs.path(), "past", call_by("ann", "2026-01-01T00:00:00Z", "e-1").as_bytes());
    let said = refused(&["baseline", "--dir", text(state.path())], &[&past]);
    assert!(said.contains("is no state file"), "{said}");
    assert_eq!(fs::read(state.path().join("firstseen.state")).expect("it is there"), b"garbage");
}

#[test]
fn a_replay_leaves_the_directory_alone_unless_told_to_keep_what_it_learns() {
    let Place { logs, state } = place();
    let file = write(logs.path(), "events", call_by("ann", "2026-01-01T00:00:00Z", "e-1").as_bytes());
    let module = module_file();
    let replay = |more: &[&str]| {
        let arguments = [&["replay", "--json", "--module", text(&module), "--dir", text(state.path())], more].concat();
        well(&arguments, &[&file]).lines().count()
    };
    assert_eq!(replay(&[]), 1);
    assert_eq!(fs::read_dir(state.path()).expect("the directory").count(), 0);
    assert_eq!(replay(&["--keep-history"]), 1);
    assert!(state.path().join("firstseen.state").exists());
}

#[cfg(unix)]
#[test]
fn files_that_root_makes_belong_to_whom_they_belonged_or_to_the_directorys_owner() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

    let Place { logs, state } = place();
    let directory = state.path();
    let owner = |name: &str| {
        let found = fs::metadata(directory.join(name)).expect("it is there");
        (found.uid(), found.gid())
    };
    let own = owner(".");
    let is_root = own.0 == 0;
    let (of_directory, of_file) = if is_root { ((12_345, 12_346), (23_456, 23_457)) } else { (own, own) };
    chown(directory, Some(of_directory.0), Some(of_directory.1)).expect("root may");
    let past = write(logs.path(), "past.ndjson", call_by("bob", "2026-10-01T00:00:00Z", "e-1").as_bytes());
    let dir = text(directory);
    firstseen(&["baseline", "--dir", dir], &[&past]);
    well(&["compile", dir], &[]);
    assert_eq!((owner("firstseen.state"), owner("firstseen.pack")), (of_directory, of_directory));

    for name in ["firstseen.state", "firstseen.pack"] {
        chown(directory.join(name), Some(of_file.0), Some(of_file.1)).expect("root may");
    }
    firstseen(&["baseline", "--dir", dir], &[&past]);
    well(&["state", "forget", "--rule", "30fbf4db-c502-4e68-a239-2e99af0f70da"], &[directory]);
    well(&["compile", dir], &[]);
    assert_eq!((owner("firstseen.state"), owner("firstseen.pack")), (of_file, of_file));
    assert_eq!(
        fs::metadata(directory.join("firstseen.state")).expect("it is there").permissions().mode() & 0o777,
        0o600
    );
}

#[cfg(unix)]
#[test]
fn a_directory_that_everybody_may_write_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;

    let Place { logs, state } = place();
    let past = write(logs.path(), "past.ndjson", call_by("bob", "2026-10-01T00:00:00Z", "e-1").as_bytes());
    let module = module_file();
    let dir = text(state.path());
    let commands: [&[&str]; 5] = [
        &["compile", dir],
        &["baseline", "--dir", dir, text(&past)],
        &["run", "--module", text(&module), "--dir", dir, text(&past)],
        &["replay", "--module", text(&module), "--dir", dir, text(&past)],
        &["state", "show", dir],
    ];
    for (mode, is_open) in [(0o755, false), (0o777, true), (0o1777, true), (0o702, true)] {
        fs::set_permissions(state.path(), fs::Permissions::from_mode(mode)).expect("it is ours");
        for command in commands {
            let output = firstseen(command, &[]);
            let said = String::from_utf8_lossy(&output.stderr).matches("writable by every user").count();
            assert_eq!(said, usize::from(is_open), "{mode:o} {command:?}: {output:?}");
        }
    }
}
