//! What people are told when upstream enrichment brings no AS organisation, or other ones than before.
//!
//! In: the module with a directory, and EC2 role sessions with and without an organisation. Out: what it writes to its standard error, and
//! what `firstseen state show` says. Not here: how hours are counted (`firstseen_engine::enrichment`).

use std::path::Path;
use std::process::Command;

use firstseen::guest::{Entry, Instance};
use serde_json::{Value, json};

use crate::subjects::{module, new_directory};

const BEGIN: u32 = 1_793_361_600;
const HOUR: u32 = 60 * 60;

/// A call by an EC2 role's session from an address.
fn session(number: u32, organization: Option<&str>) -> Vec<u8> {
    let mut event = json!({
        "eventVersion": "1.11", "eventSource": "sts.amazonaws.com", "eventName": "GetCallerIdentity",
        "eventID": format!("e-{number}"), "sourceIPAddress": format!("198.51.100.{}", number % 200),
        "userIdentity": {
            "type": "AssumedRole", "principalId": "AROAEXAMPLE:i-0123456789abcdef0",
            "arn": "arn:aws:sts::111122223333:assumed-role/web/i-0123456789abcdef0"
        }
    });
    if let Some(organization) = organization {
        event["source.as.organization.name"] = json!(organization);
    }
    event.to_string().into_bytes()
}

fn call(instance: &mut Instance, sec: u32, record: &[u8]) {
    instance.call(Entry::Firstseen, b"aws", sec, 0, record).expect("the module runs");
}

fn said(instance: &Instance) -> Vec<String> {
    let said = String::from_utf8(instance.captured_stderr().to_vec()).expect("text");
    said.lines().map(str::to_owned).collect()
}

fn shown(directory: &Path) -> Value {
    let out = Command::new(env!("CARGO_BIN_EXE_firstseen")).args(["state", "show", "--json"]).arg(directory).output();
    let out = out.expect("the program runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice::<Value>(&out.stdout).expect("JSON")["enrichment"].clone()
}

#[test]
fn events_without_an_organization_are_said_once_an_hour_with_their_share() {
    let directory = new_directory();
    let mut instance = module().instantiate_captured(Some(&directory)).expect("the module starts");
    for number in 0..50 {
        call(&mut instance, BEGIN + number, &session(number, (number % 5 == 0).then_some("Example Hosting")));
    }
    // Neither asks anything: another call, and a call by a user.
    let other = String::from_utf8(session(51, None)).expect("text");
    call(&mut instance, BEGIN + 51, other.replace("GetCallerIdentity", "GetSessionToken").as_bytes());
    call(&mut instance, BEGIN + 52, other.replace("AssumedRole", "IAMUser").as_bytes());
    assert_eq!(said(&instance), [""; 0]);
    assert_eq!(shown(&directory), Value::Null);
    // The next record of any kind, an hour later.
    call(&mut instance, BEGIN + HOUR, b"{}");
    call(&mut instance, BEGIN + HOUR + 1, b"{}");
    let lines = said(&instance);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0]
            .starts_with("firstseen: 40 of the last 50 events that rules ask for their AS organisation had none (80%)"),
        "{lines:?}"
    );
    let shown = shown(&directory);
    assert_eq!((&shown["asked"], &shown["lacking"]), (&json!(50), &json!(40)), "{shown}");
    let _ = std::fs::remove_dir_all(directory);
}

#[test]
fn an_outage_is_said_at_once_and_not_again_by_the_next_instance() {
    let directory = new_directory();
    let mut lines = Vec::new();
    for chunk in 0..5 {
        let mut instance = module().instantiate_captured(Some(&directory)).expect("the module starts");
        for number in 0..30 {
            call(&mut instance, BEGIN + chunk * 60 + number, &session(chunk * 100 + number, None));
        }
        lines.extend(said(&instance));
    }
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("10 of the last 10 events"), "{lines:?}");
    assert_eq!(shown(&directory)["lacking"], 10);
    let _ = std::fs::remove_dir_all(directory);
}

#[test]
fn a_database_that_renames_organizations_is_said_across_a_restart() {
    let directory = new_directory();
    let run = |at: u32, organization: &str| {
        let mut instance = module().instantiate_captured(Some(&directory)).expect("the module starts");
        for number in 0..30 {
            call(&mut instance, at + number, &session(number, Some(organization)));
        }
        said(&instance)
    };
    assert_eq!(run(BEGIN, "Example Hosting"), [""; 0]);
    assert_eq!(run(BEGIN + 2 * HOUR, "Example Hosting"), [""; 0]);
    let lines = run(BEGIN + 4 * HOUR, "Example Hosting B.V.");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].starts_with("firstseen: 5 of 5 known addresses have an AS organisation of another name"),
        "{lines:?}"
    );
    assert_eq!(shown(&directory)["relabelled"], 5);
    let _ = std::fs::remove_dir_all(directory);
}
