//! Alerts: what is appended to an event, byte for byte.
//!
//! In: what the rules found in an event. Out: the record with one more top-level key, in the shape that DESIGN.md
//! shows; the rest of the record stays as it came. What is the same in every alert of a rule is rendered once, when the
//! rule is loaded, and what is the same in all its alerts on one event, once for that event. Bounds: a text is shown up to
//! [`MAX_SHOWN`] bytes, and one event carries [`MAX_ALERTS`] alerts of a rule, so that what is written stays small beside a
//! record that is large. Not here: whether to alert.

use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::decimal::decimal;
use crate::event::timestamp::{self, Millis};
use crate::event::{EventView, json};
use crate::new_terms::Reason;
use crate::new_terms::history::entry::{Seconds, millis};
use crate::new_terms::history::{History, OwnerNumber};
use crate::rule::{FieldRef, NewTerms, Rule, Severity, Suppression, Template, TemplatePart};

/// How much of an event's text an alert shows, in bytes; the event itself carries all of it. No ARN and no user agent that
/// AWS delivers is longer.
const MAX_SHOWN: usize = 2048;

/// How many alerts of one rule an event carries; the last says how many more there would be.
pub(crate) const MAX_ALERTS: usize = 32;

/// What an alert shows of a text.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    if text.len() <= MAX_SHOWN {
        return Cow::Borrowed(text);
    }
    let end = (0..=MAX_SHOWN).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    let mut shown = String::from(text.get(..end).unwrap_or_default());
    shown.push('…');
    Cow::Owned(shown)
}

/// The parts of a rule's alerts that are always the same, as JSON without the braces around.
#[derive(Debug)]
pub(crate) struct Frame {
    head: String,
    /// The names of the new-terms fields and the window.
    new_terms: String,
    /// The names of the fields that alerts are grouped by.
    suppression: String,
    threat: String,
}

impl Frame {
    pub(crate) fn new(rule: &Rule, field_names: &[String]) -> Frame {
        let mut head = Vec::new();
        let mut object = Object::new(&mut head);
        object.member("rule", |out| {
            let mut object = Object::begin(out);
            object.text("id", &rule.id).text("name", &rule.name).number("version", rule.version);
            object.text("type", if rule.new_terms.is_some() { "new_terms" } else { "query" });
            object.end();
        });
        object.text("severity", severity(rule.severity)).number("risk_score", rule.risk_score);

        let names = |fields: &[FieldRef]| -> Vec<&str> {
            fields.iter().map(|field| &*field_names[usize::from(field.0)]).collect()
        };
        let mut new_terms = Vec::new();
        if let Some(NewTerms { fields, window, .. }) = &rule.new_terms {
            Object::new(&mut new_terms).list("fields", &names(fields)).text("history_window", window);
        }
        let mut suppression = Vec::new();
        if let Some(Suppression { group_by, .. }) = &rule.suppression {
            Object::new(&mut suppression).list("fields", &names(group_by));
        }

        let mut threat = Vec::new();
        if !rule.alert.threat.is_empty() {
            Object::new(&mut threat).member("threat", |out| out.extend_from_slice(rule.alert.threat.as_bytes()));
        }
        Frame {
            head: into_text(head),
            new_terms: into_text(new_terms),
            suppression: into_text(suppression),
            threat: into_text(threat),
        }
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

/// A rule's alerts on one event.
#[derive(Debug)]
pub(crate) struct Finding<'r> {
    pub(crate) rule: &'r Rule,
    pub(crate) frame: &'r Frame,
    /// One for each alert; of a rule without new terms, one that says nothing.
    pub(crate) alerts: Vec<Option<NewTuple>>,
    /// How many more alerts there would be.
    pub(crate) omitted: usize,
    /// The group that the event opened.
    pub(crate) opened: Option<Group>,
}

/// A tuple that is new.
#[derive(Debug)]
pub(crate) struct NewTuple {
    /// Its terms, as alerts show them.
    pub(crate) values: Vec<String>,
    pub(crate) reason: Reason,
}

/// A suppression group.
#[derive(Debug)]
pub(crate) struct Group {
    /// The values of each field, as alerts show them.
    pub(crate) terms: Vec<Vec<String>>,
    pub(crate) start: Millis,
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
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct HistoryState {
    /// Since when it has been learning; of the rules that the event names, the one that it knows the least of. 0 if none of
    /// them asks it anything.
    since: Seconds,
    /// Whether that does not cover the window of one of them.
    warming: bool,
    /// When part of its file was lost, if that is inside a window; else 0.
    damaged_at: Seconds,
    /// The capacity that it has, and the one that it would need, if it forgot something inside a window; else 0.
    capacity: usize,
    capacity_needed: u32,
    /// How many alerts of these rules were held while it was warming.
    held: u32,
    /// Whether it survives a restart.
    pub(crate) durable: bool,
}

impl HistoryState {
    /// The event names a rule that this owner is of.
    pub(crate) fn name(&mut self, history: &History, owner: OwnerNumber, at: Seconds) {
        let standing = history.standing(owner);
        let is_inside = |time: Seconds| time != 0 && (at <= time || at - time <= standing.window);
        self.since = self.since.max(standing.since);
        self.warming |= !standing.is_complete(at);
        if is_inside(history.repairs().damaged_at) {
            self.damaged_at = history.repairs().damaged_at;
        }
        if is_inside(standing.evicted_until) {
            self.capacity = history.capacity();
            self.capacity_needed = self.capacity_needed.max(standing.capacity_needed);
        }
        self.held = self.held.saturating_add(standing.held);
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut object = Object::begin(out);
        object.text("since", &timestamp::format(millis(self.since)));
        object.text("state", if self.warming { "warming" } else { "complete" });
        object.member("durable", |out| out.extend_from_slice(if self.durable { b"true" } else { b"false" }));
        if self.damaged_at != 0 {
            object.text("damaged", &timestamp::format(millis(self.damaged_at)));
        }
        if self.capacity_needed != 0 {
            object.number("capacity", u32::try_from(self.capacity).unwrap_or(u32::MAX));
            object.number("capacity_needed", self.capacity_needed);
        }
        if self.held != 0 {
            object.number("held", self.held);
        }
        object.end();
    }
}

/// Writes the record with its alerts to `out`. `record` is a JSON object with at least one member.
pub(crate) fn annotate(
    out: &mut Vec<u8>,
    record: &[u8],
    key: &str,
    event: &EventView<'_>,
    findings: &[Finding<'_>],
    suppressed: &[Suppressed<'_>],
    history: HistoryState,
) {
    let end = record.iter().rposition(|byte| *byte == b'}').unwrap_or(record.len());
    out.reserve(record.len() + 2048 * (findings.len() + 1));
    out.extend_from_slice(&record[..end]);
    out.push(b',');
    let mut record_object = Object::new(out);
    record_object.member(key, |out| {
        let mut object = Object::begin(out);
        if !findings.is_empty() {
            object.member("alerts", |out| {
                out.push(b'[');
                for (at, finding) in findings.iter().enumerate() {
                    write_alerts(out, at == 0, finding, event);
                }
                out.push(b']');
            });
        }
        if !suppressed.is_empty() {
            object.member("suppressed", |out| array(out, suppressed, write_suppressed));
        }
        if history.since != 0 {
            object.member("history", |out| history.write(out));
        }
        object.end();
    });
    out.extend_from_slice(&record[end..]);
}

fn write_alerts(out: &mut Vec<u8>, mut is_first: bool, finding: &Finding<'_>, event: &EventView<'_>) {
    let Finding { rule, frame, alerts, omitted, opened } = finding;
    let (mut before, mut behind) = (Vec::new(), Vec::new());
    write_texts(&mut before, rule, event);
    write_subject(&mut behind, rule, event, opened.as_ref().map(|group| (group, &*frame.suppression)));
    let (before, behind) = (into_text(before), into_text(behind));
    for (at, new) in alerts.iter().enumerate() {
        if !core::mem::take(&mut is_first) {
            out.push(b',');
        }
        let mut object = Object::begin(out);
        object.rendered(&frame.head).rendered(&before);
        if let Some(NewTuple { values, reason }) = new {
            object.member("new_terms", |out| {
                let mut object = Object::begin(out);
                object.rendered(&frame.new_terms).list("values", values);
                match reason {
                    Reason::NeverSeen => object.text("reason", "never_seen"),
                    Reason::Expired { last_seen } => {
                        object.text("reason", "expired").text("last_seen", &timestamp::format(*last_seen))
                    }
                    Reason::Evicted => object.text("reason", "evicted"),
                    Reason::TooMany => object.text("reason", "too_many"),
                };
                if *omitted > 0 && at + 1 == alerts.len() {
                    object.number("omitted", u32::try_from(*omitted).unwrap_or(u32::MAX));
                }
                object.end();
            });
        }
        object.rendered(&behind).rendered(&frame.threat);
        object.end();
    }
}

/// What happened, in words.
fn write_texts(out: &mut Vec<u8>, rule: &Rule, event: &EventView<'_>) {
    let mut object = Object::new(out);
    match &rule.alert.title {
        Some(title) => object.text("title", &fill(title, event)),
        None => object.text("title", &rule.name),
    };
    if let Some(description) = &rule.alert.description {
        object.text("description", &fill(description, event));
    }
}

/// Whom and what it is about.
fn write_subject(out: &mut Vec<u8>, rule: &Rule, event: &EventView<'_>, opened: Option<(&Group, &str)>) {
    let mut object = Object::new(out);
    if let Some((Group { terms, start }, fields)) = opened {
        object.member("suppression", |out| {
            let mut object = Object::begin(out);
            let start = timestamp::format(*start);
            object.rendered(fields).member("terms", |out| array(out, terms, write_values));
            object.text("start", &start).text("end", &start).number("count", 1u32);
            object.end();
        });
    }
    let entities = rule.alert.entities.iter().map(|entity| (entity, present(&entity.attributes, event)));
    let entities: Vec<_> = entities.filter(|(_, attributes)| !attributes.is_empty()).collect();
    if !entities.is_empty() {
        object.member("entities", |out| {
            array(out, &entities, |out, (entity, attributes)| {
                let mut object = Object::begin(out);
                object.text("type", &entity.kind).texts(attributes);
                object.end();
            });
        });
    }
    let details = present(&rule.alert.details, event);
    if !details.is_empty() {
        object.member("details", |out| {
            let mut object = Object::begin(out);
            object.texts(&details);
            object.end();
        });
    }
}

/// A field's one value; several as a list, none as null.
fn write_values(out: &mut Vec<u8>, values: &Vec<String>) {
    match &**values {
        [] => out.extend_from_slice(b"null"),
        [value] => write_text(out, value),
        _ => write_list(out, values),
    }
}

fn write_suppressed(out: &mut Vec<u8>, suppressed: &Suppressed<'_>) {
    let mut object = Object::begin(out);
    object.text("rule_id", &suppressed.rule.id);
    object.text("start", &timestamp::format(suppressed.start)).text("end", &timestamp::format(suppressed.end));
    object.number("count", suppressed.count);
    object.end();
}

/// The first value of each named field that has one.
fn present<'n>(named: &'n [(String, FieldRef)], event: &EventView<'_>) -> Vec<(&'n str, String)> {
    named.iter().filter_map(|(name, field)| Some((name.as_str(), first_shown(*field, event)?))).collect()
}

/// The field's first value, as alerts show it.
fn first_shown(field: FieldRef, event: &EventView<'_>) -> Option<String> {
    let mut first = None;
    event.any(field, &mut |value| {
        first = Some(shown(value.as_text()).to_string());
        true
    });
    first
}

fn fill(template: &Template, event: &EventView<'_>) -> String {
    let mut text = String::new();
    for part in &template.0 {
        match part {
            TemplatePart::Text(part) => text.push_str(part),
            TemplatePart::Field(field) => text.push_str(&first_shown(*field, event).unwrap_or_default()),
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

    fn number(&mut self, name: &str, number: impl Into<u32>) -> &mut Self {
        let number = decimal(u64::from(number.into()));
        self.member(name, |out| out.extend_from_slice(number.as_bytes()))
    }

    fn list<T: AsRef<str>>(&mut self, name: &str, texts: &[T]) -> &mut Self {
        self.member(name, |out| write_list(out, texts))
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

fn write_list<T: AsRef<str>>(out: &mut Vec<u8>, texts: &[T]) {
    array(out, texts, |out, text| write_text(out, text.as_ref()));
}

/// Text that needs no escape, as nearly all does, is written as it is.
fn write_text(out: &mut Vec<u8>, text: &str) {
    if json::is_plain(text) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        // Text always has a JSON form.
        out.extend(serde_json::to_vec(text).unwrap_or_default());
    }
}
