//! The history's life beyond an instance, in the built module.
//!
//! In: directories in all states, and records. Out: alerts that are the same whether or not instances came and went, and the
//! truth about it: `durable`, `damaged`, `capacity`, `held` in the alerts, and one line on standard error. Not here: every
//! cut and every flipped byte of the file (unit tests of the engine), and the end of the process ([`crate::killed`]).

use std::fs;
use std::path::Path;
use std::time::Instant;

use firstseen::guest::{Answer, Entry, Generation, Instance};
use firstseen::history_file::{self, HistoryFile};
use firstseen::sample;
use firstseen_engine::new_terms::fingerprint::EventHash;
use firstseen_engine::new_terms::history::History;
use firstseen_engine::new_terms::history::owner::Purpose;
use firstseen_engine::rule::pack;
use serde_json::Value;

use crate::subjects::{annotation, compiled, module};

/// 2026-11-01T00:00:00Z, in seconds.
const BEGIN: u32 = 1_793_491_200;
const DAY: u32 = 86_400;

const STATE: &str = "firstseen.state";

/// A call by an IAM user, whose first one is new for ten days.
fn call_by(user: &str, at: u32, id: &str) -> String {
    let time = firstseen::state_export::rfc3339(at);
    format!(
        r#"{{"eventSource":"sts.amazonaws.com","eventName":"GetCallerIdentity","eventTime":"{time}","eventID":"{id}","userIdentity":{{"type":"IAMUser","arn":"arn:aws:iam::1:user/{user}"}}}}"#
    )
}

fn process(instance: &mut Instance, record: &str, arrival: u32) -> Vec<u8> {
    match instance.call(Entry::Firstseen, b"tag", arrival, 0, record.as_bytes()).expect("an answer") {
        Answer::Untouched => record.as_bytes().to_vec(),
        Answer::Changed(out) => out,
        Answer::Dropped => panic!("a record was dropped"),
    }
}

/// What was appended to the event, at the time that it happened.
fn appended(instance: &mut Instance, user: &str, at: u32, id: &str) -> Value {
    let record = call_by(user, at, id);
    let out = process(instance, &record, at);
    annotation(record.as_bytes(), &out).expect("an appended key").map_or(Value::Null, |(_, value)| value)
}

/// The reason of its one alert, and its `history`.
fn reason(instance: &mut Instance, user: &str, at: u32, id: &str) -> (String, Value) {
    let value = appended(instance, user, at, id);
    let reason = value["alerts"][0]["new_terms"]["reason"].as_str().unwrap_or("none").to_owned();
    (reason, value["history"].clone())
}

fn said(instance: &Instance) -> Vec<String> {
    String::from_utf8_lossy(instance.captured_stderr()).lines().map(str::to_owned).collect()
}

fn start(directory: &Path) -> Instance {
    module().instantiate_captured(Some(directory)).expect("the module starts")
}

fn settings(directory: &Path, text: &str) {
    fs::write(directory.join("firstseen.pack"), pack::encode(&compiled(Some(text), &[]))).expect("a pack");
}

#[test]
fn an_instance_for_every_hundred_records_is_as_one_for_all() {
    let records = sample::enriched_events(20_000, 3);
    let [one, many] = [tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory")];
    let instance = |directory: &Path| module().instantiate(Some(directory)).expect("the module starts");
    let mut one_instance = instance(one.path());
    let mut many_instances = instance(many.path()).with_generation(Generation::InstancePerChunk(100));
    let mut alerting = 0;
    for (number, record) in (0..).zip(&records) {
        let expected = process(&mut one_instance, record, BEGIN + number / 100);
        let out = process(&mut many_instances, record, BEGIN + number / 100);
        assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&expected), "record {number}");
        alerting += usize::from(out != record.as_bytes());
    }
    assert!(alerting > 10, "{alerting} records alert");
}

#[test]
fn a_restart_forgets_nothing_and_the_same_event_raises_the_same_alert_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut first = start(directory.path());
    let before = appended(&mut first, "bob", BEGIN, "e-1");
    assert_eq!(before["alerts"][0]["new_terms"]["reason"], "never_seen");
    assert_eq!(before["history"]["durable"], true);
    drop(first);

    let mut second = start(directory.path());
    let mut again = appended(&mut second, "bob", BEGIN, "e-1");
    assert_eq!(again["alerts"][0].as_object_mut().and_then(|alert| alert.remove("again")), Some(Value::Bool(true)));
    assert_eq!(again, before, "delivered again");
    assert_eq!(appended(&mut second, "bob", BEGIN + DAY, "e-2"), Value::Null, "another event");
    assert_eq!(reason(&mut second, "eve", BEGIN + DAY, "e-3").0, "never_seen");
    drop(second);

    let mut third = start(directory.path());
    // Seen last a day after the beginning, at midnight, which is a whole number of hundredths of the window.
    let (why, history) = reason(&mut third, "bob", BEGIN + 11 * DAY + 1, "e-4");
    assert_eq!((why.as_str(), &history["state"]), ("expired", &Value::from("complete")));
    assert!(said(&third).is_empty(), "{:?}", said(&third));
}

#[test]
fn an_event_dated_2099_neither_expires_anything_nor_stays_known_until_then() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut instance = start(directory.path());
    reason(&mut instance, "bob", BEGIN, "e-1");
    let future = call_by("eve", 4_070_908_800, "e-2");
    process(&mut instance, &future, BEGIN);
    drop(instance);
    let mut instance = start(directory.path());
    assert_eq!(reason(&mut instance, "bob", BEGIN + DAY, "e-3").0, "none");
    let (why, _) = reason(&mut instance, "eve", BEGIN + 11 * DAY, "e-4");
    assert_eq!(why, "expired");
}

#[test]
fn a_file_that_cannot_be_written_is_said_once_and_in_the_alerts_until_it_can() {
    let directory = tempfile::tempdir().expect("a directory");
    // What no permission overrides: the replacement's place is taken.
    let in_the_way = directory.path().join("firstseen.state.new");
    fs::create_dir(&in_the_way).expect("a directory");
    let mut instance = start(directory.path());
    for number in 0..5 {
        let (why, history) = reason(&mut instance, &format!("user-{number}"), BEGIN + number, &format!("e-{number}"));
        assert_eq!((why.as_str(), &history["durable"]), ("never_seen", &Value::from(false)));
    }
    assert_eq!(reason(&mut instance, "user-0", BEGIN + 5, "again").0, "none", "known in memory");
    let lines = said(&instance);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].contains("the history is kept in memory only, since firstseen.state cannot be written ("),
        "{lines:?}"
    );

    fs::remove_dir(&in_the_way).expect("it is empty");
    let (_, history) = reason(&mut instance, "user-6", BEGIN + 60, "e-6");
    assert_eq!(history["durable"], true);
    let lines = said(&instance);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[1].contains("firstseen.state can be written: the history is durable again"), "{lines:?}");
    drop(instance);
    let mut instance = start(directory.path());
    assert_eq!(reason(&mut instance, "user-3", BEGIN + 70, "e-7").0, "none", "it was written with all the rest");
}

#[test]
fn without_a_directory_it_is_in_memory_and_said() {
    let mut instance = module().instantiate_captured(None).expect("the module starts");
    let (why, history) = reason(&mut instance, "bob", BEGIN, "e-1");
    assert_eq!((why.as_str(), &history["durable"]), ("never_seen", &Value::from(false)));
    assert_eq!(reason(&mut instance, "bob", BEGIN, "e-2").0, "none");
    let lines = said(&instance);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("(the host gives no directory)"), "{lines:?}");
}

#[test]
fn a_directory_that_vanishes_stops_nothing_and_one_that_returns_heals() {
    let parent = tempfile::tempdir().expect("a directory");
    let directory = parent.path().join("state");
    fs::create_dir(&directory).expect("a directory");
    let mut instance = start(&directory);
    assert_eq!(reason(&mut instance, "a", BEGIN, "e-1").1["durable"], true);
    fs::remove_dir_all(&directory).expect("it is removed");
    assert_eq!(reason(&mut instance, "b", BEGIN + 1, "e-2").1["durable"], false);
    assert_eq!(reason(&mut instance, "c", BEGIN + 2, "e-3").1["durable"], false);
    assert_eq!(said(&instance).len(), 1, "{:?}", said(&instance));
    fs::create_dir(&directory).expect("a directory");
    assert_eq!(reason(&mut instance, "d", BEGIN + 60, "e-4").1["durable"], true);
    drop(instance);
    let mut instance = start(&directory);
    for user in ["a", "b", "c", "d"] {
        assert_eq!(reason(&mut instance, user, BEGIN + 61, "e-5").0, "none", "{user}");
    }
}

#[test]
fn a_file_that_is_removed_is_written_anew() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut instance = start(directory.path());
    reason(&mut instance, "a", BEGIN, "e-1");
    fs::remove_file(directory.path().join(STATE)).expect("it is there");
    assert_eq!(reason(&mut instance, "b", BEGIN + 1, "e-2").1["durable"], true);
    assert!(said(&instance)[0].contains("was removed, and is written anew"), "{:?}", said(&instance));
    drop(instance);
    let mut instance = start(directory.path());
    assert_eq!(reason(&mut instance, "a", BEGIN + 2, "e-3").0, "none");
}

#[test]
fn two_writers_are_noticed_and_nothing_of_the_first_is_lost() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut first = start(directory.path());
    reason(&mut first, "a", BEGIN, "e-1");
    let mut second = start(directory.path());
    for number in 0..20_u32 {
        let (why, history) = reason(&mut first, &format!("first-{number}"), BEGIN + number, &format!("f-{number}"));
        assert_eq!((why.as_str(), &history["durable"]), ("never_seen", &Value::from(true)));
        let (why, history) = reason(&mut second, &format!("second-{number}"), BEGIN + number, &format!("s-{number}"));
        assert_eq!((why.as_str(), &history["durable"]), ("never_seen", &Value::from(false)));
    }
    assert!(said(&first).is_empty(), "{:?}", said(&first));
    let lines = said(&second);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("is written by another filter or program as well"), "{lines:?}");
    drop((first, second));
    let mut third = start(directory.path());
    for number in 0..20 {
        assert_eq!(reason(&mut third, &format!("first-{number}"), BEGIN + 30, "e").0, "none", "{number}");
    }
    assert!(said(&third).is_empty(), "{:?}", said(&third));
}

#[test]
fn a_worker_that_overlaps_with_the_one_before_has_all_that_both_have_seen_when_that_one_has_ended() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut old = start(directory.path());
    reason(&mut old, "a", BEGIN, "e-1");
    let mut new = start(directory.path());
    for number in 0..20_u32 {
        reason(&mut old, &format!("old-{number}"), BEGIN + number, &format!("o-{number}"));
        reason(&mut new, &format!("new-{number}"), BEGIN + number, &format!("n-{number}"));
    }
    drop(old);
    let at = BEGIN + 70;
    // The first look finds the file longer than when it was left; the second finds it as it was.
    assert_eq!(reason(&mut new, "b", at, "e-2").1["durable"], false);
    assert_eq!(reason(&mut new, "old-3", at + 1, "e-3").0, "never_seen", "it has not seen what the old one has");
    assert_eq!(reason(&mut new, "c", at + 61, "e-4").1["durable"], true);
    let lines = said(&new);
    assert!(lines.len() == 2 && lines[1].contains("the history is durable again"), "{lines:?}");
    assert_eq!(reason(&mut new, "old-4", at + 62, "e-5").0, "none", "now it has");
    drop(new);
    let mut newest = start(directory.path());
    for number in 0..20 {
        assert_eq!(reason(&mut newest, &format!("old-{number}"), at + 70, "e").0, "none", "old-{number}");
        assert_eq!(reason(&mut newest, &format!("new-{number}"), at + 70, "e").0, "none", "new-{number}");
    }
    assert!(said(&newest).is_empty(), "{:?}", said(&newest));
}

#[test]
fn damage_is_said_once_shown_in_alerts_and_mended() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut instance = start(directory.path());
    for number in 0..50_u32 {
        reason(&mut instance, &format!("user-{number}"), BEGIN + 60 * number, &format!("e-{number}"));
    }
    drop(instance);
    let file = directory.path().join(STATE);
    let mut bytes = fs::read(&file).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&file, bytes).expect("it is written");

    let mut instance = start(directory.path());
    let lines = said(&instance);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("bytes of firstseen.state are damaged"), "{lines:?}");
    let forgotten: Vec<u32> = (0..50)
        .filter(|number| reason(&mut instance, &format!("user-{number}"), BEGIN + DAY, "again").0 != "none")
        .collect();
    assert_eq!(forgotten.len(), 1, "{forgotten:?}");
    let (_, history) = reason(&mut instance, "new", BEGIN + DAY, "e-new");
    assert_eq!(history["damaged"], firstseen::state_export::rfc3339(BEGIN + DAY), "when it was found");
    drop(instance);

    let mut instance = start(directory.path());
    assert!(said(&instance).is_empty(), "{:?}", said(&instance));
    let (_, history) = reason(&mut instance, "newer", BEGIN + 2 * DAY, "e-newer");
    assert!(history["damaged"].is_string(), "{history}");
    let (_, history) = reason(&mut instance, "newest", BEGIN + 12 * DAY, "e-newest");
    assert!(history["damaged"].is_null(), "a window later: {history}");
}

#[test]
fn what_is_no_state_file_is_set_aside_and_one_of_another_version_is_left_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join(STATE);
    for bytes in [&b"garbage"[..], b"", &[0; 4096]] {
        fs::write(&file, bytes).expect("a file");
        let mut instance = start(directory.path());
        let (why, history) = reason(&mut instance, "bob", BEGIN, "e-1");
        assert_eq!((why.as_str(), &history["durable"]), ("never_seen", &Value::from(true)));
        let lines = said(&instance);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("it is now firstseen.state.damaged, and the history starts anew"), "{lines:?}");
        assert_eq!(fs::read(directory.path().join("firstseen.state.damaged")).expect("it is kept"), bytes);
    }
    let mut bytes = fs::read(&file).expect("a file");
    bytes[16] = 2;
    fs::write(&file, &bytes).expect("it is written");
    let mut instance = start(directory.path());
    assert_eq!(reason(&mut instance, "bob", BEGIN, "e-1").1["durable"], false);
    assert!(said(&instance)[0].contains("firstseen.state is of version 2"), "{:?}", said(&instance));
    assert_eq!(fs::read(&file).expect("it is there"), bytes);
}

#[test]
fn hold_learns_until_the_window_is_covered_and_counts_what_it_held() {
    let directory = tempfile::tempdir().expect("a directory");
    settings(directory.path(), "warming = \"hold\"");
    let mut instance = start(directory.path());
    for number in 0..3 {
        assert_eq!(appended(&mut instance, &format!("user-{number}"), BEGIN, &format!("e-{number}")), Value::Null);
    }
    drop(instance);
    let mut instance = start(directory.path());
    assert_eq!(appended(&mut instance, "late", BEGIN + 10 * DAY - 1, "e-4"), Value::Null);
    assert_eq!(appended(&mut instance, "user-1", BEGIN + 10 * DAY, "e-5"), Value::Null, "it was learned");
    let (why, history) = reason(&mut instance, "new", BEGIN + 10 * DAY, "e-6");
    assert_eq!((why.as_str(), &history["held"], &history["state"]), ("never_seen", &4.into(), &"complete".into()));
}

#[test]
fn a_bound_that_is_too_small_is_said_with_the_capacity_that_would_do() {
    let directory = tempfile::tempdir().expect("a directory");
    settings(directory.path(), "capacity = 10");
    let mut instance = start(directory.path());
    for number in 0..20_u32 {
        reason(&mut instance, &format!("user-{number}"), BEGIN + number * 3600, &format!("e-{number}"));
    }
    let (why, history) = reason(&mut instance, "user-5", BEGIN + DAY, "e-20");
    assert_eq!((why.as_str(), &history["capacity"]), ("evicted", &10.into()));
    // One a hour for ten days.
    let needed = history["capacity_needed"].as_u64().expect("a number");
    assert!((170..=250).contains(&needed), "{needed}");
    drop(instance);
    let mut instance = start(directory.path());
    assert_eq!(reason(&mut instance, "user-6", BEGIN + DAY, "e-21").0, "evicted", "ghosts survive as well");
    assert_eq!(reason(&mut instance, "nobody", BEGIN + DAY, "e-22").0, "never_seen");
}

#[test]
fn a_window_that_grows_is_warming_until_it_is_covered_and_other_fields_start_anew() {
    const ID: &str = "30fbf4db-c502-4e68-a239-2e99af0f70da";
    let directory = tempfile::tempdir().expect("a directory");
    let mut instance = start(directory.path());
    reason(&mut instance, "a", BEGIN, "e-1");
    assert_eq!(reason(&mut instance, "b", BEGIN + 11 * DAY, "e-2").1["state"], "complete");
    drop(instance);
    settings(directory.path(), &format!("[rules.\"{ID}\"]\nhistory_window = \"20d\"\n"));
    let mut instance = start(directory.path());
    assert_eq!(reason(&mut instance, "c", BEGIN + 12 * DAY, "e-3").1["state"], "warming");
    assert_eq!(reason(&mut instance, "a", BEGIN + 15 * DAY, "e-4").0, "none", "inside the longer window");
    assert_eq!(reason(&mut instance, "d", BEGIN + 20 * DAY, "e-5").1["state"], "complete");
    drop(instance);

    let other = r#"
[rule]
rule_id = "30fbf4db-c502-4e68-a239-2e99af0f70da"
name = "Other fields"
type = "new_terms"
language = "kuery"
severity = "low"
risk_score = 1
query = 'event.action: GetCallerIdentity'
[rule.new_terms]
field = "new_terms_fields"
value = ["event.action", "aws.cloudtrail.user_identity.arn"]
[[rule.new_terms.history_window_start]]
field = "history_window_start"
value = "now-10d"
"#;
    let mut made = compiled(Some(&format!("[rules.\"{ID}\"]\nenabled = false\n")), &[other.replace(ID, "other")]);
    // Under the same id, which two files cannot have.
    made.rules.iter_mut().filter(|rule| rule.id == "other").for_each(|rule| rule.id = ID.to_owned());
    fs::write(directory.path().join("firstseen.pack"), pack::encode(&made)).expect("a pack");
    let mut instance = start(directory.path());
    let (why, history) = reason(&mut instance, "d", BEGIN + 21 * DAY, "e-6");
    assert_eq!((why.as_str(), &history["state"]), ("never_seen", &"warming".into()));
    assert_eq!(history["since"], firstseen::state_export::rfc3339(BEGIN + 21 * DAY));
}

/// A state file of so many tuples, all inside their window.
fn write_history(directory: &Path, tuples: u32) {
    let mut known = History::new(tuples, history_file::new_key().expect("a key"));
    let owner = known.load_owner(Purpose::Tuples, "rule", &["user.name"], 10 * DAY).expect("room");
    known.begin(BEGIN);
    for number in 0..tuples {
        let tuple = known.key().print(&[number.to_string()]);
        known.observe(owner, tuple, BEGIN + number / 10, EventHash(1));
        known.forget_changes();
    }
    let (mut file, _) = HistoryFile::open(directory).expect("a directory");
    file.write(&mut known).expect("it is written");
}

#[test]
fn opening_a_history_costs_little_time_and_memory() {
    // Milliseconds, of the fastest of some, since others may be at work on the machine.
    for (tuples, limit) in [(10_000_u32, 20.0), (1_000_000, 1000.0)] {
        let directory = tempfile::tempdir().expect("a directory");
        write_history(directory.path(), tuples);
        let mut fastest = f64::MAX;
        let mut memory = 0;
        for _ in 0..20 {
            let begin = Instant::now();
            let instance = start(directory.path());
            fastest = fastest.min(begin.elapsed().as_secs_f64() * 1000.0);
            assert!(said(&instance).is_empty(), "{:?}", said(&instance));
            memory = instance.memory_size();
            if fastest <= limit {
                break;
            }
        }
        assert!(fastest <= limit, "{tuples} tuples: {fastest:.1} ms");
        if tuples == 1_000_000 {
            assert!(memory <= 64 * tuples as usize, "{memory} bytes");
            assert!(memory > 40 * tuples as usize, "they are there: {memory} bytes");
        }
    }
}

#[test]
fn a_million_new_tuples_one_by_one_take_at_most_64_bytes_each() {
    let mut instance = module().instantiate_captured(None).expect("the module starts");
    let record = call_by("user-00000000", BEGIN, "e-00000000").into_bytes();
    let places: Vec<usize> = (0..record.len() - 8).filter(|at| record[*at..].starts_with(b"00000000")).collect();
    assert_eq!(places.len(), 2);
    let mut record = record;
    for number in 0..1_000_000_u32 {
        for place in &places {
            record[*place..place + 8].copy_from_slice(format!("{number:08}").as_bytes());
        }
        let answer = instance.call_lean(Entry::Firstseen, b"tag", BEGIN, 0, &record).expect("an answer");
        assert!(matches!(answer, Answer::Changed(_)), "user {number} is new");
    }
    let memory = instance.memory_size();
    assert!(memory <= 64_000_000, "{memory} bytes");
}
