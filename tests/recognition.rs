//! What people are told when records hold no event that is recognised, in the module and in the sidecar.
//!
//! In: records without events, and records that may hold some in a form that nothing reads. Out: lines on standard error, once and then
//! hourly, and metrics. Not here: when exactly something is said (`firstseen_engine::recognition`).

use firstseen::guest::Entry;

use crate::serve::parties::{Receiver, Sidecar};
use crate::subjects::module;

const BEGIN: u32 = 1_793_361_600;

/// What a module says to these records, one a second.
fn said(records: impl Iterator<Item = String>) -> Vec<String> {
    let mut instance = module().instantiate_captured(None).expect("it starts");
    for (second, record) in (0..).zip(records) {
        instance.call(Entry::Firstseen, b"aws", BEGIN + second, 0, record.as_bytes()).expect("the module runs");
    }
    let said = String::from_utf8(instance.captured_stderr().to_vec()).expect("text");
    said.lines().filter(|line| line.contains("event in the") || line.contains("no event")).map(str::to_owned).collect()
}

#[test]
fn candidates_without_an_event_are_said_once_and_then_hourly() {
    for unread in [
        r#"{"wrapper":{"eventSource":"sts.amazonaws.com","eventName":"GetCallerIdentity"}}"#,
        r#"{"event":{"dataset":"aws.cloudtrail"},"note":{"eventName":"GetCallerIdentity"}}"#,
        r#"{"records":[{"data":"H4sIAAAAAAAAA6uuBQBDv6ajAgAAAA=="}]}"#,
    ] {
        let lines = said((0..3_700).map(|_| unread.to_owned()));
        assert_eq!(lines.len(), 2, "{unread}: {lines:?}");
        assert!(lines[0].contains("10 of the last 10 candidates held no event: see event_root"), "{lines:?}");
        assert!(lines[1].contains("3610 of the last 3610 candidates"), "{lines:?}");
    }
}

#[test]
fn records_without_an_event_are_said_and_those_of_cloudtrail_are_not() {
    let lines = said((0..1_500).map(|number| format!(r#"{{"level":"info","number":{number}}}"#)));
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("no event in the last 1000 records"), "{lines:?}");
    let others = [
        r#"{"eventVersion":"1.11","eventName":"DescribeInstances","eventSource":"ec2.amazonaws.com"}"#,
        r#"{"awsRegion":"eu-central-1","eventName":"DescribeInstances","eventSource":"ec2.amazonaws.com"}"#,
        r#"{"event":{"action":"DescribeInstances","provider":"ec2.amazonaws.com"}}"#,
        r#"{"message":"{\"eventName\" : \"DescribeInstances\"}"}"#,
        "{}",
    ];
    for other in others {
        assert_eq!(said((0..1_500).map(|_| other.to_owned())), [""; 0], "{other}");
    }
}

#[test]
fn the_sidecar_counts_what_its_module_never_sees() {
    let receiver = Receiver::start();
    let sidecar = Sidecar::forwarding(None, &receiver, &[]);
    let nothing = "{\"level\":\"info\"}\n".repeat(600);
    for _ in 0..2 {
        assert_eq!(sidecar.post(&[], nothing.as_bytes()).status, 200);
    }
    sidecar.wait_for("no event in the last 1200 records");
    assert_eq!(sidecar.metric("firstseen_records_without_event_total") as u64, 1200);
    let unread = "{\"wrapper\":{\"eventSource\":\"s\",\"eventName\":\"GetCallerIdentity\"}}\n".repeat(10);
    assert_eq!(sidecar.post(&[], unread.as_bytes()).status, 200);
    sidecar.wait_for("10 of the last 10 candidates held no event");
    assert_eq!(sidecar.metric("firstseen_candidates_without_event_total") as u64, 10);
}
