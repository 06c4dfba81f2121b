//! What groups and tuples compare: a field's values without what AWS writes anew for each request.
//!
//! In: an event and a field. Out: its values as text. Written from CloudTrail's pages anew: the object becomes a tree, the
//! members are taken out of the tree, and the rest is written down again. Not here: which values a field has otherwise.

use firstseen_engine::rule::Dialect;

use super::event::Event;
use super::json::{Json, Kind, compact};

const ALWAYS: &str = " extendedrequestid authworkflowid requestid x-amz-request-id x-amz-id-2 xamzid2 x-amzn-requestid \
                      bytestransferredin bytestransferredout ";
const IN_CREDENTIALS: &str = " accesskeyid sessiontoken expiration ";

fn is_per_request(name: &str, parent: &str) -> bool {
    let name = format!(" {} ", name.to_lowercase());
    ALWAYS.contains(&name) || parent.to_lowercase() == "credentials" && IN_CREDENTIALS.contains(&name)
}

/// The distinct values of a field as groups and tuples compare them.
pub(super) fn terms_of(event: &Event, name: &str) -> Vec<String> {
    let (raw, sentinel, ecs) = match name {
        "sentinel.additional_event_data" => {
            ("additionalEventData", "AdditionalEventData", "aws.cloudtrail.additional_eventdata")
        }
        "sentinel.response_elements" => ("responseElements", "ResponseElements", "aws.cloudtrail.response_elements"),
        "aws.cloudtrail.additional_eventdata" | "aws.cloudtrail.response_elements" => ("", "", name),
        _ => return event.texts(name),
    };
    let values = match event.dialect {
        _ if !name.starts_with("sentinel.") => {
            event.values(name).iter().filter_map(|value| lasting(&value.text)).collect()
        }
        Dialect::CloudTrail => column(event, raw),
        Dialect::Sentinel => column(event, sentinel),
        Dialect::Ecs => column(event, ecs),
    };
    let mut distinct: Vec<String> = Vec::new();
    for value in values {
        if !distinct.contains(&value) {
            distinct.push(value);
        }
    }
    distinct
}

fn column(event: &Event, path: &str) -> Vec<String> {
    let there = event.scope.at(path);
    let values = there.iter().filter(|json| !json.is_nothing()).filter_map(|json| match &json.kind {
        Kind::Text(text) => lasting(text),
        _ => has_something(stripped(json, "").unwrap_or_else(|| compact(&json.raw))),
    });
    values.collect()
}

fn has_something(text: String) -> Option<String> {
    (!["{}", "[]", "null"].contains(&text.as_str())).then_some(text)
}

/// Text, without per-request members if it holds an object that has some; nothing if nothing is left.
fn lasting(text: &str) -> Option<String> {
    match stripped_text(text) {
        Some(stripped) => has_something(stripped),
        None => Some(text.to_owned()),
    }
}

fn stripped_text(text: &str) -> Option<String> {
    match Json::read(text) {
        Some(json) => match &json.kind {
            Kind::Text(inner) => stripped_text(inner),
            _ => stripped(&json, ""),
        },
        None => stripped_pairs(text),
    }
}

/// The compact text of what has per-request members in it, without them; nothing if there are none.
fn stripped(json: &Json, parent: &str) -> Option<String> {
    let mut found = false;
    let mut inner = |json: &Json, name: &str| {
        let inner = stripped(json, name);
        found |= inner.is_some();
        inner.unwrap_or_else(|| compact(&json.raw))
    };
    let text = match &json.kind {
        Kind::Object(members) => {
            let kept = members.iter().filter(|(name, _)| !is_per_request(name, parent));
            // A name is written as it stood; in tests it needs no escapes.
            let kept: Vec<String> = kept.map(|(name, json)| format!("\"{name}\":{}", inner(json, name))).collect();
            found |= kept.len() < members.len();
            format!("{{{}}}", kept.join(","))
        }
        Kind::Array(items) => {
            format!("[{}]", items.iter().map(|item| inner(item, "")).collect::<Vec<_>>().join(","))
        }
        Kind::Text(text) => {
            found = matches!(Json::read(text).map(|json| json.kind), Some(Kind::Object(_) | Kind::Array(_)));
            let stripped = if found { stripped_text(text) } else { None };
            found = stripped.is_some();
            serde_json::to_string(&stripped.unwrap_or_default()).expect("text has a JSON form")
        }
        _ => return None,
    };
    found.then_some(text)
}

/// The same of what Elastic's integration writes: `{name=value, other={name=value}}`. A name that occurs twice is left in.
fn stripped_pairs(text: &str) -> Option<String> {
    if !text.starts_with(['{', '[']) {
        return None;
    }
    let mut rest = text.to_owned();
    for name in ALWAYS.split_whitespace().chain(IN_CREDENTIALS.split_whitespace()) {
        let lower = rest.to_ascii_lowercase();
        let places = |before: &str| -> Vec<usize> {
            lower.match_indices(&format!("{before}{name}=")).map(|(at, _)| at + before.len()).collect()
        };
        let [start] = [places("{"), places("["), places(" ")].concat()[..] else { continue };
        let is_member = lower[..start].ends_with(['{', '[']) || lower[..start].ends_with(", ");
        let value = start + name.len() + 1;
        let is_issued = !IN_CREDENTIALS.contains(name) || is_in_credentials(&lower[..start]);
        if !is_member || !is_issued || rest[value..].starts_with(['{', '[']) {
            continue;
        }
        let end = value + rest[value..].find([',', '}', ']']).unwrap_or(rest.len() - value);
        rest = if rest[end..].starts_with(", ") {
            format!("{}{}", &rest[..start], &rest[end + 2..])
        } else {
            format!("{}{}", rest[..start].trim_end_matches(", "), &rest[end..])
        };
    }
    (rest != text).then_some(rest)
}

/// Whether the object that is open at the end of this text is that of the credentials.
fn is_in_credentials(before: &str) -> bool {
    let mut open = Vec::new();
    for (at, character) in before.char_indices() {
        match character {
            '{' | '[' => open.push(at),
            '}' | ']' => drop(open.pop()),
            _ => {}
        }
    }
    open.last().is_some_and(|at| before[*at..].starts_with('{') && before[..*at].ends_with("credentials="))
}
