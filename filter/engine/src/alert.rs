//! Alerts: what is appended to an event, byte for byte.
//!
//! In: what the rules found in an event. Out: the record with one more top-level key, in the shape that DESIGN.md
//! shows; the rest of the record stays as it came. What is the same in every alert of a rule is rendered once, when the
//! rule is loaded. Bounds: time and space are those of the output. Not here: whether to alert.

use alloc::string::String;
use alloc::vec::Vec;

use serde::Serialize;

use crate::event::timestamp::{self, Millis};
use crate::event::{EventView, json};
use crate::new_terms::{Reason, TermTuple};
use crate::rule::{FieldRef, NewTerms, Rule, Severity, Template, TemplatePart};

/// The parts of a rule's alerts that are always the same, as JSON without the braces around.
#[derive(Debug)]
pub(crate) struct Frame {
    head: String,
    /// The names of the new-terms fields and the window.
    new_terms: String,
    threat: String,
}

impl Frame {
    pub(crate) fn new(rule: &Rule, field_names: &[String]) -> Frame {
        let mut head = Vec::new();
        let mut object = Object::new(&mut head);
        object.member("rule", |out| {
            let mut object = Object::begin(out);
            object.text("id", &rule.id).text("name", &rule.name).value("version", &rule.version);
            object.text("type", if rule.new_terms.is_some() { "new_terms" } else { "query" });
            object.end();
        });
        object.text("severity", severity(rule.severity)).value("risk_score", &rule.risk_score);

        let mut new_terms = Vec::new();
        if let Some(NewTerms { fields, window, .. }) = &rule.new_terms {
            let names: Vec<&str> = fields.iter().map(|field| &*field_names[usize::from(field.0)]).collect();
            Object::new(&mut new_terms).value("fields", &names).text("history_window", window);
        }

        let mut threat = Vec::new();
        if !rule.alert.threat.is_empty() {
            Object::new(&mut threat).member("threat", |out| out.extend_from_slice(rule.alert.threat.as_bytes()));
        }
        Frame { head: into_text(head), new_terms: into_text(new_terms), threat: into_text(threat) }
    }
}

/// What was written here is JSON, hence UTF-8.
fn into_text(json: Vec<u8>) -> String {
    String::from_utf8(json).unwrap_or_default()
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Low => "low",
        Severity::Medium => "medium",
        Severity::High => "high",
        Severity::Critical => "critical",
    }
}

/// One alert of an event.
#[derive(Debug)]
pub(crate) struct Alert<'r> {
    pub(crate) rule: &'r Rule,
    pub(crate) frame: &'r Frame,
    /// What was new, in a new-terms rule's alert.
    pub(crate) new: Option<(TermTuple, Reason)>,
    /// The group that the event opened: its terms, `None` where the event lacks the field, and its start.
    pub(crate) opened: Option<(Vec<Option<String>>, Millis)>,
}

/// A rule that matched, but whose group has alerted already.
#[derive(Debug)]
pub(crate) struct Suppressed<'r> {
    pub(crate) rule: &'r Rule,
    pub(crate) start: Millis,
    pub(crate) end: Millis,
    pub(crate) count: u32,
}

/// How much the history knows at an event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HistoryState {
    /// Since when it has been learning.
    pub(crate) since: Millis,
    /// Whether that covers the windows of all rules that the event names.
    pub(crate) complete: bool,
    /// Whether it survives a restart.
    pub(crate) durable: bool,
}

/// Writes the record with its alerts to `out`. `record` is a JSON object with at least one member.
pub(crate) fn annotate(
    out: &mut Vec<u8>,
    record: &[u8],
    key: &str,
    event: &EventView<'_>,
    alerts: &[Alert<'_>],
    suppressed: &[Suppressed<'_>],
    history: HistoryState,
) {
    let end = record.iter().rposition(|byte| *byte == b'}').unwrap_or(record.len());
    out.reserve(record.len() + 1024 * (alerts.len() + 1));
    out.extend_from_slice(&record[..end]);
    out.push(b',');
    let mut record_object = Object::new(out);
    record_object.member(key, |out| {
        let mut object = Object::begin(out);
        if !alerts.is_empty() {
            object.member("alerts", |out| array(out, alerts, |out, alert| write_alert(out, alert, event)));
        }
        if !suppressed.is_empty() {
            object.member("suppressed", |out| array(out, suppressed, write_suppressed));
        }
        object.member("history", |out| {
            let mut object = Object::begin(out);
            object.text("since", &timestamp::format(history.since));
            object.text("state", if history.complete { "complete" } else { "warming" });
            object.value("durable", &history.durable);
            object.end();
        });
        object.end();
    });
    out.extend_from_slice(&record[end..]);
}

fn write_alert(out: &mut Vec<u8>, alert: &Alert<'_>, event: &EventView<'_>) {
    let Alert { rule, frame, .. } = alert;
    let texts = &rule.alert;
    let mut object = Object::begin(out);
    object.rendered(&frame.head);
    match &texts.title {
        Some(title) => object.text("title", &fill(title, event)),
        None => object.text("title", &rule.name),
    };
    if let Some(description) = &texts.description {
        object.text("description", &fill(description, event));
    }
    if let Some((tuple, reason)) = &alert.new {
        object.member("new_terms", |out| {
            let mut object = Object::begin(out);
            object.rendered(&frame.new_terms).value("values", &tuple.0);
            match reason {
                Reason::NeverSeen => object.text("reason", "never_seen"),
                Reason::Expired { last_seen } => {
                    object.text("reason", "expired").text("last_seen", &timestamp::format(*last_seen))
                }
            };
            object.end();
        });
    }
    if let Some((terms, start)) = &alert.opened {
        object.member("suppression", |out| {
            let mut object = Object::begin(out);
            let at = timestamp::format(*start);
            object.value("terms", terms).text("start", &at).text("end", &at).value("count", &1);
            object.end();
        });
    }
    let entities: Vec<_> = texts.entities.iter().map(|entity| (entity, present(&entity.attributes, event))).collect();
    let entities: Vec<_> = entities.into_iter().filter(|(_, attributes)| !attributes.is_empty()).collect();
    if !entities.is_empty() {
        object.member("entities", |out| {
            array(out, &entities, |out, (entity, attributes)| {
                let mut object = Object::begin(out);
                object.text("type", &entity.kind).texts(attributes);
                object.end();
            });
        });
    }
    let details = present(&texts.details, event);
    if !details.is_empty() {
        object.member("details", |out| {
            let mut object = Object::begin(out);
            object.texts(&details);
            object.end();
        });
    }
    object.rendered(&frame.threat);
    object.end();
}

fn write_suppressed(out: &mut Vec<u8>, suppressed: &Suppressed<'_>) {
    let mut object = Object::begin(out);
    object.text("rule_id", &suppressed.rule.id);
    object.text("start", &timestamp::format(suppressed.start)).text("end", &timestamp::format(suppressed.end));
    object.value("count", &suppressed.count);
    object.end();
}

/// The first value of each named field that has one.
fn present<'n>(named: &'n [(String, FieldRef)], event: &EventView<'_>) -> Vec<(&'n str, String)> {
    named.iter().filter_map(|(name, field)| Some((name.as_str(), event.first_text(*field)?))).collect()
}

fn fill(template: &Template, event: &EventView<'_>) -> String {
    let mut text = String::new();
    for part in &template.0 {
        match part {
            TemplatePart::Text(part) => text.push_str(part),
            TemplatePart::Field(field) => text.push_str(&event.first_text(*field).unwrap_or_default()),
        }
    }
    text
}

/// A JSON object being written.
struct Object<'o> {
    out: &'o mut Vec<u8>,
    empty: bool,
}

impl<'o> Object<'o> {
    /// Members without braces: the caller's are around.
    fn new(out: &'o mut Vec<u8>) -> Object<'o> {
        Object { out, empty: true }
    }

    fn begin(out: &'o mut Vec<u8>) -> Object<'o> {
        out.push(b'{');
        Object::new(out)
    }

    fn end(self) {
        self.out.push(b'}');
    }

    fn separate(&mut self) {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
    }

    fn member(&mut self, name: &str, write: impl FnOnce(&mut Vec<u8>)) -> &mut Self {
        self.separate();
        write_text(self.out, name);
        self.out.push(b':');
        write(self.out);
        self
    }

    fn value(&mut self, name: &str, value: &(impl Serialize + ?Sized)) -> &mut Self {
        self.member(name, |out| write_json(out, value))
    }

    fn text(&mut self, name: &str, text: &str) -> &mut Self {
        self.member(name, |out| write_text(out, text))
    }

    fn texts(&mut self, members: &[(&str, String)]) -> &mut Self {
        for (name, text) in members {
            self.text(name, text);
        }
        self
    }

    /// Members that were written before; none, if that is empty.
    fn rendered(&mut self, members: &str) -> &mut Self {
        if !members.is_empty() {
            self.separate();
            self.out.extend_from_slice(members.as_bytes());
        }
        self
    }
}

fn array<T>(out: &mut Vec<u8>, items: &[T], mut write: impl FnMut(&mut Vec<u8>, &T)) {
    out.push(b'[');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

fn write_json(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    // Text, numbers and lists of them always have a JSON form.
    out.extend(serde_json::to_vec(value).unwrap_or_default());
}

/// Text that needs no escape, as nearly all does, is written as it is.
fn write_text(out: &mut Vec<u8>, text: &str) {
    if json::plain_len(text.as_bytes()) == text.len() {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        write_json(out, text);
    }
}
