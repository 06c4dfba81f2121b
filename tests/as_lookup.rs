//! `--asn`: the AS organisation out of a database, for events that come without one; and what a baseline is worth that learned from
//! events without one.
//!
//! In: the program with databases of one network, and sessions of EC2 instances. Out: what it writes and says, and what a filter makes
//! of the history afterwards. Not here: layouts of databases (`firstseen::asn`), when an event teaches a rule nothing
//! (`firstseen_engine::Learned`).

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use firstseen::guest::{Answer, Entry, Instance};
use serde_json::{Value, json};

use crate::config_examples::asn_database;
use crate::serve::parties::Sidecar;
use crate::subjects::{annotation, module, module_file};

const EC2_RULE: &str = "b2f8c4e1-6a73-4f1e-9c2d-8e5b0a1d3f7c";
const FIRST_CALL: &str = "30fbf4db-c502-4e68-a239-2e99af0f70da";

/// 2026-01-13T00:00:00Z, the first moment after the logs that baselines learn from here.
const LIVE: u32 = 1_768_262_400;

fn firstseen(arguments: &[&str], files: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_firstseen")).args(arguments).args(files).output().expect("the program runs")
}

/// Standard output of a command that ends with this exit code.
fn ended(code: i32, arguments: &[&str], files: &[&Path]) -> String {
    let output = firstseen(arguments, files);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// A call by an instance's session.
fn session(instance: u32, time: &str, address: &str) -> Value {
    json!({
        "eventVersion": "1.11", "eventSource": "sts.amazonaws.com", "eventName": "GetCallerIdentity", "eventTime": time,
        "eventID": format!("e-{instance}-{time}-{address}"), "sourceIPAddress": address,
        "userIdentity": {
            "type": "AssumedRole", "principalId": format!("AROAEXAMPLE:i-{instance:017x}"),
            "arn": format!("arn:aws:sts::111122223333:assumed-role/web/i-{instance:017x}")
        }
    })
}

fn enriched(mut event: Value, organization: &str) -> Value {
    event["source.as.organization.name"] = json!(organization);
    event
}

fn user(name: &str, time: &str) -> Value {
    json!({
        "eventVersion": "1.11", "eventSource": "sts.amazonaws.com", "eventName": "GetCallerIdentity", "eventTime": time,
        "eventID": format!("e-{name}-{time}"), "sourceIPAddress": "198.51.100.7",
        "userIdentity": { "type": "IAMUser", "arn": format!("arn:aws:iam::111122223333:user/{name}") }
    })
}

/// Twelve days of calls by some instances and a user, up to [`LIVE`].
fn past(instances: u32, address: &str) -> Vec<Value> {
    let mut events = Vec::new();
    for day in 1..=12 {
        events
            .extend((0..instances).map(|instance| session(instance, &format!("2026-01-{day:02}T23:30:00Z"), address)));
        events.push(user("ann", &format!("2026-01-{day:02}T23:59:00Z")));
    }
    events
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        let place = Place(tempfile::tempdir().expect("a directory"));
        fs::create_dir(place.state()).expect("a directory");
        place
    }

    fn state(&self) -> PathBuf {
        self.0.path().join("state")
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).expect("it is written");
        path
    }

    fn events(&self, name: &str, events: &[Value]) -> PathBuf {
        self.write(name, events.iter().map(|event| format!("{event}\n")).collect::<String>())
    }

    /// A database in which 198.51.100.0/24 is the organisation's.
    fn database(&self, organization: &str) -> PathBuf {
        self.write("asn.mmdb", asn_database::of_network(Ipv4Addr::new(198, 51, 100, 0), 24, organization))
    }

    fn hold(&self) {
        fs::write(self.state().join("firstseen.toml"), "warming = \"hold\"\n").expect("it is written");
        ended(0, &["compile", text(&self.state())], &[]);
    }

    fn instance(&self) -> Instance {
        module().instantiate_captured(Some(&self.state())).expect("the module starts")
    }
}

/// What the module appends to an event that arrives a while after [`LIVE`].
fn appended(instance: &mut Instance, after: u32, event: &Value) -> Option<Value> {
    let record = event.to_string().into_bytes();
    match instance.call(Entry::Firstseen, b"aws", LIVE + after, 0, &record).expect("the module runs") {
        Answer::Changed(out) => annotation(&record, &out).expect("one key more").map(|(_, object)| object),
        Answer::Untouched | Answer::Dropped => None,
    }
}

fn rules_and_state(appended: Option<Value>) -> (Vec<String>, String) {
    let object = appended.unwrap_or_default();
    let alerts = object["alerts"].as_array().cloned().unwrap_or_default();
    let ids = alerts.iter().map(|alert| alert["rule"]["id"].as_str().unwrap_or_default().to_owned());
    (ids.collect(), object["history"]["state"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn a_baseline_without_organizations_covers_nothing_of_the_rule_that_asks_for_them() {
    for holds in [false, true] {
        let place = Place::new();
        if holds {
            place.hold();
        }
        let past = place.write("past.json", json!({ "Records": past(20, "198.51.100.7") }).to_string());
        let told = ended(0, &["baseline", "--dir", text(&place.state())], &[&past]);
        let expected = format!(
            "\n240 events lacked source.as.organization.name and taught rule {EC2_RULE} nothing: nothing of this counts as \
             covered for it, so it stays warming unless it was covered before; give the AS organisations with --asn FILE\n"
        );
        assert!(told.contains(&expected), "{told}");
        let mut instance = place.instance();
        // The same instances, live and behind a look-up; the user whom the baseline taught; and a new one.
        for number in 0..20 {
            let event = enriched(session(number, "2026-01-13T00:10:00Z", "198.51.100.7"), "Example Hosting");
            let found = rules_and_state(appended(&mut instance, 600, &event));
            let ec2_alerts = found.0.iter().filter(|id| *id == EC2_RULE).count();
            assert_eq!(ec2_alerts, usize::from(!holds), "{found:?}");
            assert!(holds || found.1 == "warming", "{found:?}");
        }
        assert_eq!(appended(&mut instance, 660, &user("ann", "2026-01-13T00:11:00Z")), None);
        let found = rules_and_state(appended(&mut instance, 720, &user("eve", "2026-01-13T00:12:00Z")));
        assert_eq!(found, (vec![FIRST_CALL.to_owned()], "complete".to_owned()));
    }
}

#[test]
fn a_baseline_with_a_database_teaches_the_rule() {
    let place = Place::new();
    place.hold();
    let (past, database) = (place.events("past.ndjson", &past(20, "198.51.100.7")), place.database("Example Hosting"));
    let told = ended(0, &["baseline", "--dir", text(&place.state()), "--asn", text(&database)], &[&past]);
    assert!(!told.contains("lacked"), "{told}");
    let mut instance = place.instance();
    for number in 0..20 {
        let event = enriched(session(number, "2026-01-13T00:10:00Z", "198.51.100.7"), "Example Hosting");
        let found = rules_and_state(appended(&mut instance, 600, &event));
        assert!(!found.0.contains(&EC2_RULE.to_owned()), "{found:?}");
    }
    let event = enriched(session(7, "2026-01-13T00:20:00Z", "203.0.113.9"), "Another Network");
    let (rules, state) = rules_and_state(appended(&mut instance, 1200, &event));
    assert!(rules.contains(&EC2_RULE.to_owned()) && state == "complete", "{rules:?} {state}");
}

#[test]
fn a_few_addresses_that_no_database_has_do_not_matter() {
    for (unknown, is_covered) in [(12, true), (13, false)] {
        let place = Place::new();
        let mut events: Vec<Value> =
            past(100, "198.51.100.7").into_iter().map(|event| enriched(event, "Example Hosting")).collect();
        // One in a hundred and less: 1,200 events have an organisation.
        events.extend((0..unknown).map(|number| session(number, "2026-01-12T10:00:00Z", "203.0.113.9")));
        let past = place.events("past.ndjson", &events);
        let told = ended(0, &["baseline", "--dir", text(&place.state())], &[&past]);
        let lacked =
            format!("\n{unknown} events lacked source.as.organization.name and taught rule {EC2_RULE} nothing");
        assert!(told.contains(&lacked), "{told}");
        let event = enriched(session(7, "2026-01-13T00:20:00Z", "203.0.113.9"), "Another Network");
        let (rules, state) = rules_and_state(appended(&mut place.instance(), 1200, &event));
        assert!(rules.contains(&EC2_RULE.to_owned()), "{rules:?}");
        assert_eq!(state == "complete", is_covered, "{unknown}");
    }
}

#[test]
fn a_field_that_some_events_never_have_matters_only_if_none_has_it() {
    for (with_arn, is_covered) in [(true, true), (false, false)] {
        let place = Place::new();
        let mut events = Vec::new();
        for day in 1..=12 {
            let mut anonymous = user("ann", &format!("2026-01-{day:02}T23:59:00Z"));
            let removed = anonymous["userIdentity"].as_object_mut().expect("an object").remove("arn");
            assert!(removed.is_some());
            events.push(anonymous);
        }
        events.extend(with_arn.then(|| user("bob", "2026-01-02T10:00:00Z")));
        let told = ended(0, &["baseline", "--dir", text(&place.state())], &[&place.events("past.ndjson", &events)]);
        let lacked =
            format!("\n12 events lacked aws.cloudtrail.user_identity.arn and taught rule {FIRST_CALL} nothing");
        assert!(told.contains(&lacked), "{told}");
        let found = rules_and_state(appended(&mut place.instance(), 720, &user("eve", "2026-01-13T00:12:00Z")));
        let state = if is_covered { "complete" } else { "warming" };
        assert_eq!(found, (vec![FIRST_CALL.to_owned()], state.to_owned()), "{told}");
    }
}

#[test]
fn what_was_not_read_is_not_covered() {
    let good: String = past(1, "10.0.3.7").iter().map(|event| format!("{event}\n")).collect();
    let unreadable = user("bob", "10/1/2026, 10:00:00.000 AM").to_string();
    for (name, extra, reason) in [
        ("nothing", "", None),
        ("a line", "{\"eventSource\":\n", Some("1 text was left out")),
        ("a time", &*unreadable, Some("1 event has a time that cannot be read")),
    ] {
        let place = Place::new();
        let past = place.write("past.ndjson", format!("{good}{extra}"));
        let output = firstseen(&["baseline", "--dir", text(&place.state())], &[&past]);
        let told = String::from_utf8(output.stdout).expect("text");
        let said = reason.map(|reason| format!("nothing of this counts as covered, because {reason}: rules that "));
        assert_eq!(told.contains("nothing of this counts"), said.is_some(), "{name}: {told}");
        assert!(told.contains(said.as_deref().unwrap_or_default()), "{name}: {told}");
        let found = rules_and_state(appended(&mut place.instance(), 720, &user("eve", "2026-01-13T00:12:00Z")));
        let state = if reason.is_none() { "complete" } else { "warming" };
        assert_eq!(found, (vec![FIRST_CALL.to_owned()], state.to_owned()), "{name}");
    }
}

#[test]
fn calls_from_addresses_that_no_database_has_lack_nothing() {
    let place = Place::new();
    let addresses = ["10.0.3.7", "AWS Internal", "ec2.amazonaws.com", "fd00:ec2::254", "100.64.0.1", "169.254.1.1"];
    let events: Vec<Value> = addresses.iter().flat_map(|address| past(3, address)).collect();
    let past = place.events("past.ndjson", &events);
    let told = ended(0, &["baseline", "--dir", text(&place.state())], &[&past]);
    assert!(!told.contains("lacked"), "{told}");
    let mut instance = place.instance();
    for (number, event) in events.iter().enumerate() {
        appended(&mut instance, number as u32 * 300, event);
    }
    let said = String::from_utf8_lossy(instance.captured_stderr()).into_owned();
    assert!(!said.contains("AS organisation"), "{said}");
    let status = instance.status().expect("the module answers").expect("it has a status");
    assert_eq!((status.organization_asked, status.organization_lacking), (0, 0));
    // A public address without an organisation is one that the look-up missed.
    for number in 0..10 {
        appended(&mut instance, 100_000, &session(number, "2026-01-14T03:46:40Z", "203.0.113.9"));
    }
    let said = String::from_utf8_lossy(instance.captured_stderr()).into_owned();
    assert!(said.contains("10 of the last 10 events"), "{said}");
}

#[test]
fn run_looks_up_what_upstream_did_not_and_writes_the_records_as_they_came() {
    let place = Place::new();
    let database = place.database("Looked Up");
    let address = "198.51.100.7";
    let events = [
        session(1, "2026-01-13T00:10:00Z", address),
        enriched(session(1, "2026-01-13T00:11:00Z", address), "Upstream"),
        session(1, "2026-01-13T00:12:00Z", address),
        session(1, "2026-01-13T00:13:00Z", "203.0.113.9"),
        session(1, "2026-01-13T00:14:00Z", "10.0.3.7"),
        user("ann", "2026-01-13T00:15:00Z"),
        json!({ "detail": session(2, "2026-01-13T00:16:00Z", address) }),
    ];
    let input = place.events("in.ndjson", &events);
    let (module, state) = (module_file(), place.state());
    let arguments = ["run", "--module", text(&module), "--dir", text(&state), "--asn", text(&database)];
    let out = ended(0, &arguments, &[&input]);
    let found: Vec<Vec<Value>> = out
        .lines()
        .zip(&events)
        .map(|(line, event)| {
            let (record, line) = (event.to_string(), line.as_bytes());
            assert!(!String::from_utf8_lossy(line).contains("firstseen:as"));
            let appended = annotation(record.as_bytes(), line).expect("one key more");
            let alerts = appended.map(|(_, object)| object["alerts"].as_array().cloned().unwrap_or_default());
            let is_ec2 = |alert: &Value| alert["rule"]["id"] == EC2_RULE;
            let alerts = alerts.unwrap_or_default().into_iter().filter(is_ec2);
            alerts.map(|alert| alert["new_terms"]["values"][1].clone()).collect()
        })
        .collect();
    let [looked_up, upstream] = ["Looked Up", "Upstream"].map(|name| vec![json!(name)]);
    assert_eq!(found, [looked_up.clone(), upstream, vec![], vec![], vec![], vec![], looked_up]);
    // Without the database only what upstream enriched alerts.
    let other = Place::new();
    let state = other.state();
    let arguments = ["run", "--module", text(&module), "--dir", text(&state)];
    let out = ended(0, &arguments, &[&input]);
    assert!(!out.contains("Looked Up") && out.contains("Upstream"), "{out}");
}

#[test]
fn replay_and_the_sidecar_look_up_too() {
    let place = Place::new();
    let database = place.write("ipinfo.mmdb", asn_database::of_ipinfo(Ipv4Addr::new(198, 51, 100, 0), 24, "Looked Up"));
    let events = [session(1, "2026-01-13T00:10:00Z", "198.51.100.7"), session(1, "2026-01-13T00:11:00Z", "10.0.3.7")];
    let input = place.events("in.ndjson", &events);
    let module = module_file();
    let out = ended(0, &["replay", "--json", "--module", text(&module), "--asn", text(&database)], &[&input]);
    assert_eq!(out.matches("\"Looked Up\"]").count(), 1, "{out}");

    let sidecar = Sidecar::start(Some(&place.state()), &["--respond", "--asn", text(&database)]);
    let reply = sidecar.post(&[], &fs::read(&input).expect("the file"));
    assert_eq!(reply.status, 200);
    let forwarded = String::from_utf8(reply.body).expect("text");
    assert_eq!(forwarded.matches("\"Looked Up\"]").count(), 1, "{forwarded}");
    assert!(!forwarded.contains("firstseen:as"), "{forwarded}");
    for (line, event) in forwarded.lines().zip(&events) {
        annotation(event.to_string().as_bytes(), line.as_bytes()).expect("one key more at most");
    }
}

#[test]
fn a_record_that_has_the_key_is_given_to_the_module_as_it_is() {
    let place = Place::new();
    let database = place.database("Looked Up");
    let mut event = session(1, "2026-01-13T00:10:00Z", "198.51.100.7");
    event["firstseen:as"] = json!({ "198.51.100.7": { "organization": "Its Own" } });
    let input = place.events("in.ndjson", &[event.clone()]);
    let module = module_file();
    let out = ended(0, &["run", "--module", text(&module), "--asn", text(&database)], &[&input]);
    let (_, object) =
        annotation(event.to_string().as_bytes(), out.trim_end().as_bytes()).expect("one key").expect("alerts");
    assert_eq!(object["alerts"][0]["new_terms"]["values"][1], "Its Own");
}

#[test]
fn a_file_that_is_no_database_of_organizations_stops_the_start() {
    let place = Place::new();
    let input = place.events("in.ndjson", &[user("ann", "2026-01-13T00:15:00Z")]);
    let network = Ipv4Addr::new(198, 51, 100, 0);
    let (other, city) = (
        place.write("other.mmdb", "not a database"),
        place.write("city.mmdb", asn_database::of_city(network, 24, "Example City")),
    );
    let missing = place.0.path().join("missing.mmdb");
    let (state, module) = (place.state(), module_file());
    for (file, expected) in [
        (&missing, "missing.mmdb: No such file or directory"),
        (&other, "other.mmdb is not a MaxMind DB"),
        (&city, "city.mmdb is of the type \"GeoLite2-City\" and has no AS organisations"),
        (&state, "it is not a file"),
    ] {
        for command in ["run", "replay", "baseline", "serve"] {
            let mut arguments = vec![command, "--asn", text(file), "--dir", text(&state)];
            match command {
                "serve" => arguments.extend(["--module", text(&module), "--respond", "--listen", "127.0.0.1:0"]),
                "baseline" => arguments.push(text(&input)),
                _ => arguments.extend(["--module", text(&module), text(&input)]),
            }
            let output = firstseen(&arguments, &[]);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(2), "{command}: {said}");
            assert!(said.contains(expected), "{command}: {said}");
            assert!(output.stdout.is_empty(), "{command}");
        }
    }
}
