//! Suppression on CloudTrail as STS writes it today, as the program's user sees it: calls that differ in a per-request value
//! only are one group, and a value of that kind that nobody knows of yet is named.
//!
//! In: calls of one role session in raw CloudTrail, in Sentinel's columns and in ECS. Out: what `run`, `replay`, `serve`, and
//! `baseline` with `run` behind it, alert on; and what is said of groups that are used once. Not here: which members are left
//! out (cases, and the engine's unit tests), nor how it is found that groups are used once (the engine's).

use std::path::{Path, PathBuf};
use std::process::Command;

use firstseen::guest::Entry;
use firstseen::sample;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::oracle::Oracle;
use crate::subjects::{BUILTIN_RULE_IDS, Native, Subject, annotation, compiled, module, module_file, new_directory};

/// The dialects that [`call`] knows.
pub(crate) const DIALECTS: [&str; 3] = ["cloudtrail", "sentinel", "ecs"];

/// 2026-10-01T10:00:00Z.
pub(crate) const BEGIN: u32 = 1_790_848_800;

const MINUTE: u32 = 60;

/// A call by a session, so many seconds after [`BEGIN`], in which AWS has written a value of its own under this name.
pub(crate) fn call(dialect: &str, session: &str, seconds: u32, name: &str, value: &str) -> String {
    let time = firstseen_engine::event::timestamp::format(i64::from(BEGIN + seconds) * 1000);
    let id = format!("{session}-{seconds}-{value}");
    let additional =
        json!({ name: value, "RequestDetails": { "endpointType": "regional", "awsServingRegion": "us-east-1" } });
    let arn = format!("arn:aws:sts::111122223333:assumed-role/web/{session}");
    let principal = format!("AROAEXAMPLE0000000001:{session}");
    let key = format!("ASIAEXAMPLE{session}");
    let event = match dialect {
        "cloudtrail" => json!({
            "eventVersion": "1.11", "eventTime": time, "eventSource": "sts.amazonaws.com", "eventName": "GetCallerIdentity",
            "awsRegion": "us-east-1", "sourceIPAddress": "192.0.2.10", "userAgent": "aws-cli/2.15", "eventID": id,
            "userIdentity": { "type": "AssumedRole", "principalId": principal, "arn": arn, "accessKeyId": key },
            "responseElements": null, "additionalEventData": additional
        }),
        "sentinel" => json!({
            "TimeGenerated": time, "EventSource": "sts.amazonaws.com", "EventName": "GetCallerIdentity", "AwsEventId": id,
            "AWSRegion": "us-east-1", "SourceIpAddress": "192.0.2.10", "UserAgent": "aws-cli/2.15",
            "UserIdentityType": "AssumedRole", "UserIdentityPrincipalid": principal, "UserIdentityArn": arn,
            "UserIdentityAccessKeyId": key, "ResponseElements": "", "AdditionalEventData": additional.to_string()
        }),
        _ => json!({
            "@timestamp": time, "event": { "provider": "sts.amazonaws.com", "action": "GetCallerIdentity", "id": id },
            "cloud": { "region": "us-east-1" }, "source": { "address": "192.0.2.10" }, "user": { "id": principal },
            "user_agent": { "original": "aws-cli/2.15" },
            "aws": { "cloudtrail": {
                "user_identity": { "type": "AssumedRole", "arn": arn, "access_key_id": key },
                // As Elastic's integration writes an object.
                "additional_eventdata":
                    format!("{{{name}={value}, RequestDetails={{endpointType=regional, awsServingRegion=us-east-1}}}}")
            } }
        }),
    };
    event.to_string()
}

/// Thirty calls of one session in half an hour.
pub(crate) fn thirty_calls(dialect: &str) -> Vec<String> {
    (0..30)
        .map(|minute| call(dialect, "deploy", minute * MINUTE, "ExtendedRequestId", &format!("MTp{minute:04}=")))
        .collect()
}

/// How many alerts of the third rule, and how many suppressed events, these records carry.
pub(crate) fn counts<'r>(records: impl IntoIterator<Item = &'r str>) -> (usize, usize) {
    let count = |record: &Value, list: &str, is: &dyn Fn(&Value) -> bool| {
        record["firstseen"][list].as_array().map_or(0, |list| list.iter().filter(|item| is(item)).count())
    };
    let mut counts = (0, 0);
    for record in records {
        let record: Value = serde_json::from_str(record).expect("a record");
        counts.0 += count(&record, "alerts", &|alert| alert["rule"]["id"] == BUILTIN_RULE_IDS[2]);
        counts.1 += count(&record, "suppressed", &|suppressed| suppressed["rule_id"] == BUILTIN_RULE_IDS[2]);
    }
    counts
}

fn firstseen(arguments: &[&str], paths: &[&Path]) -> (String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_firstseen")).args(arguments).args(paths).output();
    let output = output.expect("the program runs");
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("text"));
    assert!(output.status.success(), "{arguments:?}: {err}");
    (out, err)
}

fn with_module<'a>(arguments: &[&'a str], module: &'a Path) -> Vec<&'a str> {
    let mut all = arguments.to_vec();
    all.extend(["--module", module.to_str().expect("a path in UTF-8")]);
    all
}

fn file(directory: &Path, records: &[String]) -> PathBuf {
    let path = directory.join("events.ndjson");
    std::fs::write(&path, records.join("\n") + "\n").expect("it is written");
    path
}

#[test]
fn calls_that_differ_in_the_request_id_only_alert_once_in_each_dialect_and_command() {
    let module = module_file();
    for dialect in DIALECTS {
        let logs = tempfile::tempdir().expect("a directory");
        let events = file(logs.path(), &thirty_calls(dialect));
        let (out, _) = firstseen(&with_module(&["run"], &module), &[&events]);
        assert_eq!(counts(out.lines()), (1, 29), "{dialect}: run");
        let (out, _) = firstseen(&with_module(&["replay", "--json"], &module), &[&events]);
        let alerts = out.lines().filter(|line| line.contains(BUILTIN_RULE_IDS[2])).count();
        assert_eq!(alerts, 1, "{dialect}: replay: {out}");

        let state = tempfile::tempdir().expect("a directory");
        let directory = state.path().to_str().expect("a path in UTF-8");
        let taught = file(state.path(), &thirty_calls(dialect)[..20]);
        firstseen(&["baseline", "--dir", directory], &[&taught]);
        let (shown, _) = firstseen(&["state", "show", "--json"], &[state.path()]);
        let shown: Value = serde_json::from_str(&shown).expect("JSON");
        assert_eq!(shown["entries"], 1, "{dialect}: {shown}");
        let late = file(logs.path(), &thirty_calls(dialect)[20..]);
        let (out, _) = firstseen(&with_module(&["run", "--dir", directory], &module), &[&late]);
        assert_eq!(counts(out.lines()), (0, 10), "{dialect}: baseline and run");
    }
}

/// What an instance says when it is given these records, each at its own time.
fn said(directory: &Path, records: &[(u32, String)]) -> Vec<String> {
    let mut instance = module().instantiate_captured(Some(directory)).expect("the module starts");
    for (seconds, record) in records {
        instance.call(Entry::Firstseen, b"aws", BEGIN + seconds, 0, record.as_bytes()).expect("the module runs");
    }
    let said = String::from_utf8(instance.captured_stderr().to_vec()).expect("text");
    said.lines().filter(|line| line.contains("used once")).map(str::to_owned).collect()
}

/// Calls by sessions in turn, of which each has a value of its own under a name that nobody knows of yet.
pub(crate) fn unknown_value(dialect: &str, sessions: u32, count: u32, from: u32) -> Vec<(u32, String)> {
    let one = |number: u32| {
        let seconds = from + number * 17;
        let session = format!("deploy{}", number % sessions);
        (seconds, call(dialect, &session, seconds, "NextRequestToken", &format!("token-{seconds}")))
    };
    (0..count).map(one).collect()
}

fn rule_shown(directory: &Path) -> Value {
    let (shown, _) = firstseen(&["state", "show", "--json"], &[directory]);
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    let rules = shown["rules"].as_array().cloned().unwrap_or_default();
    rules.into_iter().find(|rule| rule["rule_id"] == BUILTIN_RULE_IDS[2]).expect("the rule is known")
}

#[test]
fn the_next_value_of_the_kind_is_named_once_a_day_across_restarts() {
    for (dialect, sessions) in DIALECTS.into_iter().zip([1, 5, 5]) {
        let directory = new_directory();
        let lines = said(&directory, &unknown_value(dialect, sessions, 300, 0));
        assert_eq!(lines.len(), 1, "{dialect}: {lines:?}");
        let expected = format!(
            "firstseen: nearly all recent groups of rule {} were used once, and the same callers' differ only in \
             sentinel.additional_event_data: ",
            BUILTIN_RULE_IDS[2]
        );
        assert!(lines[0].starts_with(&expected), "{dialect}: {lines:?}");
        let shown = rule_shown(&directory);
        assert_eq!(shown["used_once"], 300, "{dialect}: {shown}");
        assert_eq!(shown["differing_fields"], json!(["sentinel.additional_event_data"]), "{dialect}: {shown}");
        let (text, _) = firstseen(&["state", "show"], &[&directory]);
        assert!(
            text.contains("used once   300 of 300; the values of sentinel.additional_event_data are new"),
            "{text}"
        );
        // The next instance does not say it again on the same day, and does on the next.
        let again = said(&directory, &unknown_value(dialect, sessions, 300, 6 * 60 * MINUTE));
        assert_eq!(again, [""; 0], "{dialect}");
        let tomorrow = said(&directory, &unknown_value(dialect, sessions, 300, 26 * 60 * MINUTE));
        assert_eq!(tomorrow.len(), 1, "{dialect}: {tomorrow:?}");
        let _ = std::fs::remove_dir_all(directory);
    }
}

#[test]
fn a_new_terms_rule_with_such_a_field_is_named_too() {
    let directory = new_directory();
    let rule = r#"
[rule]
rule_id = "own"
name = "Own"
type = "new_terms"
language = "kuery"
severity = "low"
risk_score = 1
query = 'event.action: GetCallerIdentity'
[rule.new_terms]
field = "new_terms_fields"
value = ["aws.cloudtrail.user_identity.arn", "event.id"]
[[rule.new_terms.history_window_start]]
field = "history_window_start"
value = "now-10d"
"#;
    std::fs::create_dir(directory.join("rules")).expect("it is made");
    std::fs::write(directory.join("rules/own.toml"), rule).expect("it is written");
    firstseen(&["compile"], &[&directory]);
    let calls: Vec<_> = thirty_calls("cloudtrail").into_iter().zip(0..).map(|(call, at)| (at * MINUTE, call)).collect();
    let lines = said(&directory, &calls);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].contains("tuples of rule own were used once") && lines[0].contains("only in event.id:"),
        "{lines:?}"
    );
    let _ = std::fs::remove_dir_all(directory);
}

#[test]
fn what_is_naturally_seen_once_is_not_named() {
    // A young history, and one of two weeks; every session is another caller.
    let day = 24 * 60 * MINUTE;
    let sessions = |count: u32, every: u32| -> Vec<(u32, String)> {
        let one = |number| (number * every, call("cloudtrail", &format!("s{number}"), number * every, "k", "v"));
        (0..count).map(one).collect()
    };
    // One session that asks once a day in each of seventeen Regions, with the Region in two columns and in one.
    let regions = |is_in_both: bool| -> Vec<(u32, String)> {
        let one = |number: u32| {
            let (seconds, region) = (number / 17 * (day + 1) + number % 17 * 7, format!("region-{}", number % 17));
            let value = if is_in_both { &*region } else { "one" };
            let call = call("cloudtrail", "scanner", seconds, "where", value);
            (seconds, call.replace(r#""awsRegion":"us-east-1""#, &format!(r#""awsRegion":"{region}""#)))
        };
        (0..17 * 10).map(one).collect()
    };
    let sampled: Vec<(u32, String)> =
        sample::enriched_events(20_000, 1).into_iter().map(|record| (0, record)).collect();
    for records in [sessions(300, 1), sessions(300, day / 20), regions(true), regions(false), sampled] {
        let directory = new_directory();
        assert_eq!(said(&directory, &records), [""; 0], "{}", records[1].1);
        assert_eq!(rule_shown(&directory)["differing_fields"], json!([]));
        let _ = std::fs::remove_dir_all(directory);
    }
}

/// An object of few members, some of them per-request ones; as JSON, and as Elastic's integration writes it.
fn additional() -> impl Strategy<Value = (Value, String)> {
    let names =
        ["k", "note", "requestId", "x-amz-id-2", "X-AMZ-REQUEST-ID", "ExtendedRequestId", "credentials", "expiration"];
    let name = prop::sample::select(names.to_vec());
    let leaf = prop::sample::select(vec!["a", "b", "requestId", "ExtendedRequestId=1", "MTo="]);
    let leaf = leaf.prop_map(|text| (json!(text), text.to_owned()));
    let object = |value: BoxedStrategy<(Value, String)>| {
        prop::collection::btree_map(name.clone(), value, 0..4).prop_map(|members| {
            let pairs: Vec<String> = members.iter().map(|(name, (_, text))| format!("{name}={text}")).collect();
            let json: serde_json::Map<_, _> =
                members.into_iter().map(|(name, (value, _))| (name.to_owned(), value)).collect();
            (Value::Object(json), format!("{{{}}}", pairs.join(", ")))
        })
    };
    let inner = object(leaf.clone().boxed());
    let list = prop::collection::vec(inner.clone(), 1..3).prop_map(|items| {
        let (values, texts): (Vec<Value>, Vec<String>) = items.into_iter().unzip();
        (json!(values), format!("[{}]", texts.join(", ")))
    });
    object(prop_oneof![4 => leaf, 2 => inner, 1 => list].boxed())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn groups_and_tuples_are_the_oracles(
        calls in prop::collection::vec((additional(), 0..7_usize, any::<bool>()), 1..7)
    ) {
        let pack = compiled(None, &[]);
        let (mut native, mut oracle) = (Native::new(&pack), Oracle::new(&pack));
        for (number, ((value, pairs), form, is_response)) in calls.into_iter().enumerate() {
            let text = value.to_string();
            let mut event: Value = serde_json::from_str(&call(DIALECTS[form % 3], "deploy", number as u32, "k", "v")).unwrap();
            let written = match form {
                0 => value,
                1 | 2 => json!(text),
                3 => json!(format!(" {text} ")),
                4 => json!(json!(text).to_string()),
                5 => json!(pairs),
                _ => json!({ "inner": text, "k": [value] }),
            };
            let place = match (form % 3, is_response) {
                (0, false) => &mut event["additionalEventData"],
                (0, true) => &mut event["responseElements"],
                (1, false) => &mut event["AdditionalEventData"],
                (1, true) => &mut event["ResponseElements"],
                (_, false) => &mut event["aws"]["cloudtrail"]["additional_eventdata"],
                (_, true) => &mut event["aws"]["cloudtrail"]["response_elements"],
            };
            *place = written;
            let record = event.to_string().into_bytes();
            let arrival = i64::from(BEGIN) * 1000 + 60_000;
            let found = annotation(&record, &native.process(&record, arrival)).unwrap();
            prop_assert_eq!(found, oracle.process(&record, arrival), "{}", String::from_utf8_lossy(&record));
        }
    }
}
