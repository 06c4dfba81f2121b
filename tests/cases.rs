//! Cases written by hand (`cases/*.toml`): the oracle, the native engine and the module, however it is called, each give
//! every record back as the case says, and all of them the same bytes.
//!
//! A case is a stream of events from an empty history. An event is `json`, or a `base` of `cases/bases.toml` with changes:
//! `set`, `null` and `remove` at paths (levels divided by `/`, so that a key may hold dots), then `under` an object's key
//! or `text_under` one as JSON text, then `set_root`. `alerts` lists the alerts in their order, each as the rule's name or
//! as a table with parts of the alert; `"absent"` says that a part is not there. An event without `alerts` and `suppressed`
//! comes back as it was. `about` narrows what a case says to some rules. Events arrive at the end of 2026 unless the case or
//! the event says otherwise.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use firstseen::guest::Generation;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::oracle::{Oracle, read_time};
use crate::subjects::{BUILTIN_RULE_IDS, Calls, Guest, Native, Subject, annotation, compiled, excerpt, workspace};

/// When events arrive that do not say so: after all of them have happened.
const ARRIVAL: &str = "2026-12-31T00:00:00Z";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseFile {
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    settings: Option<String>,
    #[serde(default)]
    rules: Vec<String>,
    about: Option<Vec<String>>,
    arrival: Option<String>,
    event: Vec<Event>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Event {
    json: Option<String>,
    base: Option<String>,
    #[serde(default)]
    set: toml::Table,
    #[serde(default)]
    null: Vec<String>,
    #[serde(default)]
    remove: Vec<String>,
    under: Option<String>,
    text_under: Option<String>,
    #[serde(default)]
    set_root: toml::Table,
    arrival: Option<String>,
    #[serde(default)]
    alerts: Vec<ExpectedAlert>,
    #[serde(default)]
    suppressed: Vec<ExpectedSuppressed>,
    key: Option<String>,
    history: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ExpectedAlert {
    Rule(String),
    Parts(Box<AlertParts>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AlertParts {
    rule: String,
    title: Option<String>,
    description: Option<String>,
    reason: Option<String>,
    values: Option<Vec<String>>,
    history_window: Option<String>,
    last_seen: Option<String>,
    start: Option<String>,
    end: Option<String>,
    count: Option<u64>,
    /// The group's terms as JSON.
    terms: Option<String>,
    entities: Option<String>,
    details: Option<String>,
    event: Option<String>,
    again: Option<bool>,
    whole: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedSuppressed {
    rule: String,
    start: Option<String>,
    end: Option<String>,
    count: Option<u64>,
    event: Option<String>,
}

#[test]
fn dialects() {
    run("dialects");
}

#[test]
fn as_organization() {
    run("as_organization");
}

#[test]
fn conditions() {
    run("conditions");
}

#[test]
fn new_terms() {
    run("new_terms");
}

#[test]
fn suppression() {
    run("suppression");
}

#[test]
fn account_name() {
    run("account_name");
}

#[test]
fn fields() {
    run("fields");
}

#[test]
fn settings() {
    run("settings");
}

#[test]
fn alerts() {
    run("alerts");
}

#[test]
fn envelopes() {
    run("envelopes");
}

#[test]
fn every_file_is_run() {
    let mut files: Vec<String> = fs::read_dir(directory())
        .expect("tests/cases is there")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        // Configurations, which the tests of `firstseen check` read.
        .filter(|name| name != "fluent-bit")
        .collect();
    files.sort();
    let expected = [
        "account_name.toml",
        "alerts.toml",
        "as_organization.toml",
        "bases.toml",
        "conditions.toml",
        "dialects.toml",
        "envelopes.toml",
        "fields.toml",
        "new_terms.toml",
        "settings.toml",
        "suppression.toml",
    ];
    assert_eq!(files, expected);
}

#[test]
fn without_a_pack_the_module_runs_the_built_in_rules() {
    let bases = bases();
    let pack = compiled(None, &[]);
    let mut native = Native::new(&pack);
    let mut guest = Guest::builtin(Calls::Fluent(Generation::Current));
    let arrival = read_time(ARRIVAL).expect("a time");
    for (name, record) in &bases {
        let record = record.as_bytes();
        let out = guest.process(record, arrival);
        assert_ne!(out, record, "{name} raises an alert");
        assert_eq!(excerpt(&out), excerpt(&native.process(record, arrival)), "{name}");
    }
}

fn directory() -> PathBuf {
    workspace().join("tests/cases")
}

fn bases() -> BTreeMap<String, String> {
    let text = fs::read_to_string(directory().join("bases.toml")).expect("bases.toml is there");
    toml::from_str(&text).unwrap_or_else(|error| panic!("bases.toml: {error}"))
}

/// Runs all cases of a file and fails with everything that did not hold.
fn run(file: &str) {
    let path = directory().join(format!("{file}.toml"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let cases: CaseFile = toml::from_str(&text).unwrap_or_else(|error| panic!("{file}.toml: {error}"));
    let bases = bases();
    let mut failures = Vec::new();
    for case in &cases.case {
        for failure in case.failures(&bases) {
            failures.push(format!("{}: {failure}", case.name));
        }
    }
    assert!(failures.is_empty(), "{file}.toml:\n{}", failures.join("\n"));
}

impl Case {
    fn failures(&self, bases: &BTreeMap<String, String>) -> Vec<String> {
        let pack = compiled(self.settings.as_deref(), &self.rules);
        let mut oracle = Oracle::new(&pack);
        let mut native = Native::new(&pack);
        let mut others: Vec<Box<dyn Subject>> = vec![
            Box::new(Native::without_prefilter(&pack)),
            Box::new(Guest::new(&pack, Calls::Fluent(Generation::Current))),
            Box::new(Guest::new(&pack, Calls::Fluent(Generation::Leaking))),
            Box::new(Guest::new(&pack, Calls::Fluent(Generation::InstancePerChunk(1)))),
            Box::new(Guest::new(&pack, Calls::Lean)),
            Box::new(Guest::portable(&pack)),
        ];
        let mut failures = Vec::new();
        for (number, event) in (1..).zip(&self.event) {
            let record = event.record(bases).into_bytes();
            let arrival = event.arrival.as_deref().or(self.arrival.as_deref()).unwrap_or(ARRIVAL);
            let arrival = read_time(arrival).unwrap_or_else(|| panic!("{arrival} is no time"));
            let expected = oracle.process(&record, arrival);
            if let Err(wrong) = event.check(&expected, self.about.as_deref()) {
                failures.push(format!("event {number}: oracle: {wrong}"));
            }
            let out = native.process(&record, arrival);
            match annotation(&record, &out) {
                Err(wrong) => failures.push(format!("event {number}: native engine: {wrong}")),
                Ok(found) => {
                    if let Err(wrong) = event.check(&found, self.about.as_deref()) {
                        failures.push(format!("event {number}: native engine: {wrong}"));
                    } else if found != expected {
                        failures.push(format!(
                            "event {number}: the oracle and the native engine differ:\n  {expected:?}\n  {found:?}"
                        ));
                    }
                }
            }
            for other in &mut others {
                let other_out = other.process(&record, arrival);
                if other_out != out {
                    failures.push(format!(
                        "event {number}: the native engine and the {} differ:\n  {}\n  {}",
                        other.name(),
                        String::from_utf8_lossy(&out),
                        String::from_utf8_lossy(&other_out),
                    ));
                }
            }
        }
        failures
    }
}

impl Event {
    /// The record as text.
    fn record(&self, bases: &BTreeMap<String, String>) -> String {
        let mut text = match (&self.json, &self.base) {
            (Some(json), None) => json.clone(),
            (None, Some(base)) => bases.get(base).unwrap_or_else(|| panic!("no base {base}")).clone(),
            _ => panic!("an event has either json or base"),
        };
        if !(self.set.is_empty() && self.null.is_empty() && self.remove.is_empty()) {
            text = edited(&text, |event| {
                for path in &self.remove {
                    remove(event, path);
                }
                for (path, value) in &self.set {
                    put(event, path, json_of(value));
                }
                for path in &self.null {
                    put(event, path, Value::Null);
                }
            });
        }
        if let Some(path) = &self.under {
            text = wrapped(path, serde_json::from_str(&text).expect("JSON"));
        }
        if let Some(path) = &self.text_under {
            text = wrapped(path, Value::String(text));
        }
        if !self.set_root.is_empty() {
            text = edited(&text, |record| {
                for (path, value) in &self.set_root {
                    put(record, path, json_of(value));
                }
            });
        }
        text
    }

    /// Whether an annotation is what the case says of this event.
    fn check(&self, found: &Option<(String, Value)>, about: Option<&[String]>) -> Result<(), String> {
        let is_about = |rule: &str| about.is_none_or(|names| names.iter().any(|name| name == rule));
        let listed = |list: &str| -> Vec<Value> {
            let object = found.as_ref().map_or(&Value::Null, |(_, object)| object);
            object[list].as_array().cloned().unwrap_or_default()
        };
        let mut alerts = listed("alerts");
        alerts.retain(|alert| is_about(short_name(&alert["rule"]["id"])));
        let mut suppressed = listed("suppressed");
        suppressed.retain(|entry| is_about(short_name(&entry["rule_id"])));

        let names: Vec<&str> = alerts.iter().map(|alert| short_name(&alert["rule"]["id"])).collect();
        let expected: Vec<&str> = self.alerts.iter().map(ExpectedAlert::rule).collect();
        same("alerts", &names, &expected)?;
        let names: Vec<&str> = suppressed.iter().map(|entry| short_name(&entry["rule_id"])).collect();
        let expected: Vec<&str> = self.suppressed.iter().map(|entry| &*entry.rule).collect();
        same("suppressed", &names, &expected)?;
        if about.is_none() && expected.is_empty() && self.alerts.is_empty() && found.is_some() {
            return Err(format!("annotated: {found:?}"));
        }

        for (expected, alert) in self.alerts.iter().zip(&alerts) {
            if let ExpectedAlert::Parts(parts) = expected {
                parts.check(alert)?;
            }
        }
        for (expected, entry) in self.suppressed.iter().zip(&suppressed) {
            same_text("start", &entry["start"], expected.start.as_deref())?;
            same_text("end", &entry["end"], expected.end.as_deref())?;
            same_count(&entry["count"], expected.count)?;
            same_json("event", &entry["event"], expected.event.as_deref())?;
        }
        if let Some(expected) = &self.key {
            same("key", found.as_ref().map_or("", |(key, _)| key), expected)?;
        }
        if let (Some(expected), Some((_, object))) = (&self.history, found) {
            same_json("history", &object["history"], Some(expected))?;
        }
        Ok(())
    }
}

impl ExpectedAlert {
    fn rule(&self) -> &str {
        match self {
            ExpectedAlert::Rule(rule) => rule,
            ExpectedAlert::Parts(parts) => &parts.rule,
        }
    }
}

impl AlertParts {
    fn check(&self, alert: &Value) -> Result<(), String> {
        let (new_terms, group) = (&alert["new_terms"], &alert["suppression"]);
        same_text("title", &alert["title"], self.title.as_deref())?;
        same_text("description", &alert["description"], self.description.as_deref())?;
        same_text("reason", &new_terms["reason"], self.reason.as_deref())?;
        same_text("last_seen", &new_terms["last_seen"], self.last_seen.as_deref())?;
        same_text("history_window", &new_terms["history_window"], self.history_window.as_deref())?;
        if let Some(values) = &self.values {
            same("values", &new_terms["values"], &json!(values))?;
        }
        same_text("start", &group["start"], self.start.as_deref())?;
        same_text("end", &group["end"], self.end.as_deref())?;
        same_count(&group["count"], self.count)?;
        same_json("terms", &group["terms"], self.terms.as_deref())?;
        same_json("entities", &alert["entities"], self.entities.as_deref())?;
        same_json("details", &alert["details"], self.details.as_deref())?;
        same_json("event", &alert["event"], self.event.as_deref())?;
        if let Some(again) = self.again {
            same("again", &alert["again"], &if again { Value::Bool(true) } else { Value::Null })?;
        }
        same_json("alert", alert, self.whole.as_deref())
    }
}

/// The name that cases use for a rule: a built-in one's own, else its id.
fn short_name(id: &Value) -> &str {
    let id = id.as_str().unwrap_or("no id");
    match BUILTIN_RULE_IDS.iter().position(|builtin| *builtin == id) {
        Some(place) => ["ec2_role", "first_call", "credential_abuse"][place],
        None => id,
    }
}

fn same<T: PartialEq + std::fmt::Debug + ?Sized>(what: &str, found: &T, expected: &T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: found {found:?}, expected {expected:?}")) }
}

/// Text, or `absent`.
fn same_text(what: &str, found: &Value, expected: Option<&str>) -> Result<(), String> {
    match expected {
        None => Ok(()),
        Some("absent") => same(what, found, &Value::Null),
        Some(text) => same(what, found, &json!(text)),
    }
}

/// JSON as text, or `absent`.
fn same_json(what: &str, found: &Value, expected: Option<&str>) -> Result<(), String> {
    match expected {
        None => Ok(()),
        Some("absent") => same(what, found, &Value::Null),
        Some(text) => same(what, found, &serde_json::from_str(text).expect("a case's JSON")),
    }
}

fn same_count(found: &Value, expected: Option<u64>) -> Result<(), String> {
    match expected {
        None => Ok(()),
        Some(count) => same("count", found, &json!(count)),
    }
}

fn edited(text: &str, edit: impl FnOnce(&mut Value)) -> String {
    let mut value: Value = serde_json::from_str(text).expect("a base is JSON");
    edit(&mut value);
    value.to_string()
}

fn put(value: &mut Value, path: &str, new: Value) {
    let mut place = value;
    for level in path.split('/') {
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        place = &mut place[level];
    }
    *place = new;
}

fn remove(value: &mut Value, path: &str) {
    let (levels, last) = path.rsplit_once('/').unwrap_or(("", path));
    let mut place = value;
    for level in levels.split('/').filter(|level| !level.is_empty()) {
        place = place.get_mut(level).unwrap_or_else(|| panic!("nothing stands at {path}"));
    }
    let object = place.as_object_mut().unwrap_or_else(|| panic!("nothing stands at {path}"));
    assert!(object.remove(last).is_some(), "nothing stands at {path}");
}

fn wrapped(path: &str, inner: Value) -> String {
    let mut record = json!({});
    put(&mut record, path, inner);
    record.to_string()
}

fn json_of(value: &toml::Value) -> Value {
    serde_json::to_value(value).expect("TOML without times is JSON")
}
