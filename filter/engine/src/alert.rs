//! Alerts: what is appended to an event, byte for byte.
//!
//! In: what the rules found in an event. Out: the record with one more top-level key, in the shape that DESIGN.md
//! shows; the rest of the record stays as it came. What is the same in every alert of a rule is rendered once, for its
//! first alert, and what is the same in all its alerts on one event, once for that event. An alert on one of several events in a
//! record names that event. Bounds: a text is shown up to
//! [`MAX_SHOWN`] bytes, and one event carries [`MAX_ALERTS`] alerts of a rule, so that what is written stays small beside a
//! record that is large. Not here: whether to alert.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use crate::decimal::decimal;
use crate::event::address::{Address, is_aws_service};
use crate::event::timestamp::{self, Millis};
use crate::event::{EventView, Events, json};
use crate::new_terms::Reason;
use crate::new_terms::history::entry::{Seconds, millis};
use crate::new_terms::history::{History, OwnerNumber};
use crate::rule::{Entity, FieldRef, NewTerms, Rule, Severity, Suppression, Template, TemplatePart};

/// How much of an event's text an alert shows, in bytes; the event itself carries all of it. No ARN and no user agent that
/// AWS delivers is longer.
const MAX_SHOWN: usize = 2048;

/// How many alerts of one rule an event carries; the last says how many more there would be.
pub(crate) const MAX_ALERTS: usize = 32;

/// How many alerts a record carries at least before events behind those are not examined any more: what is written must fit in
/// the host's memory. A record of one event has no more than its rules make.
pub(crate) const MAX_RECORD_ALERTS: usize = 4096;

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

/// The parts of a rule's alerts that are always the same, as JSON.
#[derive(Debug)]
pub(crate) struct Frame {
    /// What an alert begins with, up to its texts.
    head: Vec<Piece>,
    /// The names of the new-terms fields and the window.
    new_terms: Vec<u8>,
    /// The names of the fields that alerts are grouped by.
    suppression: Vec<u8>,
    entities: Vec<EntityTemplate>,
    details: FieldMembers,
    /// What an alert ends with.
    tail: Vec<u8>,
}

/// A piece of JSON, of which a part stands inside quotes.
#[derive(Debug)]
enum Piece {
    /// The same in every alert.
    Same(Vec<u8>),
    /// What a field's first value is between quotes.
    Field(FieldRef),
}

/// An object of which members are a field's first value each; those without value are left out, and without any so is the
/// object.
#[derive(Debug)]
struct FieldMembers {
    /// The object up to these members; they have a comma before.
    head: Vec<u8>,
    /// Each with its name up to the opening quote of the value.
    members: Vec<(Vec<u8>, FieldRef)>,
}

/// An entity.
#[derive(Debug)]
struct EntityTemplate {
    members: FieldMembers,
    /// Of an `ip` entity, the field of its address: that of the attribute `address`, or else of the first one.
    address: Option<FieldRef>,
}

impl EntityTemplate {
    fn new(entity: &Entity) -> EntityTemplate {
        let Entity { kind, attributes } = entity;
        let mut head = Vec::new();
        Object::begin(&mut head).text("type", kind);
        let address = attributes.iter().find(|(name, _)| name == "address").or(attributes.first());
        let address = address.filter(|_| kind.eq_ignore_ascii_case("ip")).map(|(_, field)| *field);
        EntityTemplate { members: FieldMembers::new(head, attributes), address }
    }

    /// Writes the entity behind `before`, without its closing brace; whether there is one. Where an `ip` entity has no address but
    /// a service of AWS, that is what it is about; with anything else in the address's place, there is no entity.
    fn write(&self, out: &mut Vec<u8>, before: &[u8], event: &EventView<'_>) -> bool {
        let Some(field) = self.address else { return self.members.write(out, before, event) };
        if event.holds_addresses_only(field) {
            let is_there = self.members.members.len() == 1 || event.any(field, &mut |_| true);
            return is_there && self.members.write(out, before, event);
        }
        let text = match event.only_text(field) {
            Some(text) => Cow::Borrowed(text),
            None => Cow::Owned(event.first_text(field).unwrap_or_default()),
        };
        if Address::parse(&text).is_some() {
            return self.members.write(out, before, event);
        }
        let is_service = is_aws_service(&text);
        if is_service {
            out.extend_from_slice(before);
            Object::begin(out).text("type", "service").text("name", &text);
        }
        is_service
    }
}

impl Frame {
    pub(crate) fn new(rule: &Rule, field_names: &[String]) -> Frame {
        let mut head = Vec::new();
        let mut object = Object::begin(&mut head);
        object.member("rule", |out| {
            let mut object = Object::begin(out);
            object.text("id", &rule.id).text("name", &rule.name).number("version", rule.version);
            object.text("type", if rule.new_terms.is_some() { "new_terms" } else { "query" });
            object.end();
        });
        object.text("severity", severity(rule.severity)).number("risk_score", rule.risk_score);
        if rule.building_block {
            object.text("building_block_type", "default");
        }
        let head = Vec::from([Piece::Same(head)]);
        let title = rule.alert.title.clone();
        let title = title.unwrap_or_else(|| Template(Vec::from([TemplatePart::Text(rule.name.clone())])));
        let mut head = with_template(head, ",\"title\":\"", &title);
        if let Some(description) = &rule.alert.description {
            head = with_template(head, ",\"description\":\"", description);
        }

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
        let entities = rule.alert.entities.iter().map(EntityTemplate::new);

        let mut tail = Vec::new();
        if !rule.alert.threat.is_empty() {
            tail.extend([b",\"threat\":", rule.alert.threat.as_bytes()].concat());
        }
        tail.push(b'}');
        Frame {
            head,
            new_terms,
            suppression,
            entities: entities.collect(),
            details: FieldMembers::new(Vec::new(), &rule.alert.details),
            tail,
        }
    }
}

/// The pieces, and behind them a member whose text is a filled template's.
fn with_template(mut pieces: Vec<Piece>, name: &str, template: &Template) -> Vec<Piece> {
    pieces.push(Piece::Same(Vec::from(name)));
    pieces.extend(template.0.iter().map(|part| match part {
        TemplatePart::Field(field) => Piece::Field(*field),
        TemplatePart::Text(text) => {
            let mut same = Vec::new();
            write_between_quotes(&mut same, text);
            Piece::Same(same)
        }
    }));
    pieces.push(Piece::Same(Vec::from("\"")));
    pieces
}

impl FieldMembers {
    #[inline(never)]
    fn new(head: Vec<u8>, named: &[(String, FieldRef)]) -> FieldMembers {
        let members = named.iter().map(|(name, field)| {
            let mut before = Vec::from(b",");
            write_text(&mut before, name);
            before.extend(b":\"");
            (before, *field)
        });
        FieldMembers { head, members: members.collect() }
    }

    /// Writes the object behind `before`, without its closing brace; whether there is one.
    fn write(&self, out: &mut Vec<u8>, before: &[u8], event: &EventView<'_>) -> bool {
        let start = out.len();
        out.extend_from_slice(before);
        out.extend_from_slice(&self.head);
        let mut has_members = false;
        for (before, field) in &self.members {
            if write_first(out, before, *field, event) {
                out.push(b'"');
                has_members = true;
            }
        }
        if !has_members {
            out.truncate(start);
        }
        has_members
    }
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
    /// The number of the event among the record's.
    pub(crate) event: usize,
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
    /// Whether this event was delivered before, and alerted for the same reason.
    pub(crate) again: bool,
}

/// A suppression group.
#[derive(Debug)]
pub(crate) struct Group {
    /// The values of each field, as alerts show them.
    pub(crate) terms: Vec<Vec<String>>,
    pub(crate) start: Millis,
    /// Whether this event was delivered before, and opened the group then.
    pub(crate) again: bool,
}

/// A rule that matched, but whose group has alerted already.
#[derive(Debug)]
pub(crate) struct Suppressed<'r> {
    /// The number of the event among the record's.
    pub(crate) event: usize,
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

/// Writes the record with its alerts to `out`. `record` is a JSON object with at least one member; `examined` is how many of its
/// events were examined.
#[expect(clippy::too_many_arguments, reason = "each is a part of what is written")]
pub(crate) fn annotate(
    out: &mut Vec<u8>,
    record: &[u8],
    key: &str,
    events: &mut Events<'_>,
    examined: usize,
    findings: &[Finding<'_>],
    suppressed: &[Suppressed<'_>],
    history: HistoryState,
) {
    let end = record.iter().rposition(|byte| *byte == b'}').unwrap_or(record.len());
    out.reserve(record.len() + 2048 * (findings.len() + 1));
    out.extend_from_slice(&record[..end]);
    out.push(b',');
    write_text(out, key);
    out.push(b':');
    let mut object = Object::begin(out);
    if !findings.is_empty() {
        object.member("alerts", |out| {
            out.push(b'[');
            for (at, finding) in findings.iter().enumerate() {
                if let Some(event) = events.view(finding.event) {
                    write_alerts(out, at == 0, finding, &event);
                }
            }
            out.push(b']');
        });
    }
    if !suppressed.is_empty() {
        object.member("suppressed", |out| {
            array(out, suppressed, |out, suppressed| {
                if let Some(event) = events.view(suppressed.event) {
                    write_suppressed(out, suppressed, &event);
                }
            });
        });
    }
    if examined < events.len() {
        object.number("unexamined", u32::try_from(events.len() - examined).unwrap_or(u32::MAX));
    }
    if history.since != 0 {
        object.member("history", |out| history.write(out));
    }
    object.end();
    out.extend_from_slice(&record[end..]);
}

fn write_alerts(out: &mut Vec<u8>, mut is_first: bool, finding: &Finding<'_>, event: &EventView<'_>) {
    let Finding { frame, alerts, omitted, opened, .. } = finding;
    let (mut head, mut tail) = (0..0, 0..0);
    for (at, new) in alerts.iter().enumerate() {
        if !core::mem::take(&mut is_first) {
            out.push(b',');
        }
        // What is the same in the event's alerts is written for the first, and copied for the others.
        write_again(out, &mut head, |out| write_pieces(out, &frame.head, event));
        if let Some(NewTuple { values, reason, .. }) = new {
            out.extend_from_slice(b",\"new_terms\":{");
            let mut object = Object::new(out);
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
        }
        if new.as_ref().is_some_and(|new| new.again) || opened.as_ref().is_some_and(|opened| opened.again) {
            out.extend_from_slice(b",\"again\":true");
        }
        write_again(out, &mut tail, |out| write_tail(out, frame, event, opened.as_ref()));
    }
}

/// Writes what stands at `written` once more; where nothing was written yet, this is.
fn write_again(out: &mut Vec<u8>, written: &mut Range<usize>, write: impl FnOnce(&mut Vec<u8>)) {
    if written.end == 0 {
        let start = out.len();
        write(out);
        *written = start..out.len();
    } else {
        out.extend_from_within(written.clone());
    }
}

fn write_pieces(out: &mut Vec<u8>, pieces: &[Piece], event: &EventView<'_>) {
    for piece in pieces {
        match piece {
            Piece::Same(same) => out.extend_from_slice(same),
            Piece::Field(field) => {
                write_first(out, &[], *field, event);
            }
        }
    }
}

/// Whom and what it is about, and the end of the alert.
fn write_tail(out: &mut Vec<u8>, frame: &Frame, event: &EventView<'_>, opened: Option<&Group>) {
    if let Some(number) = event.number() {
        out.extend_from_slice(b",\"event\":");
        write_event(out, number, event);
    }
    if let Some(Group { terms, start, .. }) = opened {
        out.extend_from_slice(b",\"suppression\":{");
        let mut object = Object::new(out);
        let start = timestamp::format(*start);
        object.rendered(&frame.suppression).member("terms", |out| array(out, terms, write_values));
        object.text("start", &start).text("end", &start).number("count", 1u32);
        object.end();
    }
    let mut before: &[u8] = b",\"entities\":[";
    for entity in &frame.entities {
        if entity.write(out, before, event) {
            out.push(b'}');
            before = b",";
        }
    }
    if before == b"," {
        out.push(b']');
    }
    let details = out.len() + DETAILS.len();
    if frame.details.write(out, DETAILS, event) {
        // There is nothing before the first of them that its comma would separate it from.
        out[details] = b'{';
        out.push(b'}');
    }
    out.extend_from_slice(&frame.tail);
}

const DETAILS: &[u8] = b",\"details\":";

/// A field's one value; several as a list, none as null.
fn write_values(out: &mut Vec<u8>, values: &Vec<String>) {
    match &**values {
        [] => out.extend_from_slice(b"null"),
        [value] => write_text(out, value),
        _ => write_list(out, values),
    }
}

/// Which event of its record it is.
fn write_event(out: &mut Vec<u8>, number: usize, event: &EventView<'_>) {
    let mut object = Object::begin(out);
    object.number("index", u32::try_from(number).unwrap_or(u32::MAX));
    if let Some(id) = event.event_id() {
        object.text("id", &shown(&id));
    }
    object.end();
}

fn write_suppressed(out: &mut Vec<u8>, suppressed: &Suppressed<'_>, event: &EventView<'_>) {
    let mut object = Object::begin(out);
    object.text("rule_id", &suppressed.rule.id);
    if let Some(number) = event.number() {
        object.member("event", |out| write_event(out, number, event));
    }
    object.text("start", &timestamp::format(suppressed.start)).text("end", &timestamp::format(suppressed.end));
    object.number("count", suppressed.count);
    object.end();
}

/// Writes `before` and the field's first value, as alerts show it, between quotes; whether it has one.
fn write_first(out: &mut Vec<u8>, before: &[u8], field: FieldRef, event: &EventView<'_>) -> bool {
    if let Some(text) = event.only_text(field) {
        // It stands in the event as JSON without escapes, and so it may here.
        out.extend_from_slice(before);
        out.extend_from_slice(shown(text).as_bytes());
        return true;
    }
    event.any(field, &mut |value| {
        out.extend_from_slice(before);
        write_between_quotes(out, &shown(value.as_text()));
        true
    })
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

    /// `name` is one of ours, which need no escapes.
    fn member(&mut self, name: &'static str, write: impl FnOnce(&mut Vec<u8>)) -> &mut Self {
        self.separate();
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        write(self.out);
        self
    }

    fn number(&mut self, name: &'static str, number: impl Into<u32>) -> &mut Self {
        let number = decimal(u64::from(number.into()));
        self.member(name, |out| out.extend_from_slice(number.as_bytes()))
    }

    fn list<T: AsRef<str>>(&mut self, name: &'static str, texts: &[T]) -> &mut Self {
        self.member(name, |out| write_list(out, texts))
    }

    fn text(&mut self, name: &'static str, text: &str) -> &mut Self {
        self.member(name, |out| write_text(out, text))
    }

    /// Members that were written before; none, if that is empty.
    fn rendered(&mut self, members: &[u8]) -> &mut Self {
        if !members.is_empty() {
            self.separate();
            self.out.extend_from_slice(members);
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

fn write_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    write_between_quotes(out, text);
    out.push(b'"');
}

/// Text that needs no escape, as nearly all does, is written as it is.
fn write_between_quotes(out: &mut Vec<u8>, text: &str) {
    if json::is_plain(text) {
        out.extend_from_slice(text.as_bytes());
    } else if let Some(quoted) = serde_json::to_vec(text).ok().as_deref() {
        // Text always has a JSON form.
        out.extend_from_slice(quoted.get(1..quoted.len() - 1).unwrap_or_default());
    }
}
