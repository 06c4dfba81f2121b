//! The whole path of a record.
//!
//! In: a record's bytes and when it arrived. Out: [`Outcome::Untouched`], or the record with its alerts. Bounds: all
//! that is allocated for a record is freed with it, but for what the history keeps; no input makes it fail. Not here:
//! where records come from and go to.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::OnceCell;

use crate::alert::{self, Alert, Frame, HistoryState, Suppressed};
use crate::event::timestamp::Millis;
use crate::event::{EventView, Schema, UnknownField, output_key};
use crate::new_terms::history::{EventHash, GroupSighting, History, Purpose};
use crate::new_terms::{Reason, Sighting, TermTuple};
use crate::predicate;
use crate::prefilter::{PortableSearch, Prefilter, Search};
use crate::rule::{FieldRef, MissingFields, NewTerms, Pack, Rule, Suppression};

/// How far event time may run ahead of arrival time, in milliseconds: 15 minutes. An event dated further ahead counts
/// as having happened then, so that a wrong clock neither expires the history nor keeps a tuple known for years.
pub const MAX_CLOCK_SKEW: Millis = 15 * 60 * 1000;

/// Runs a pack of rules over records.
#[derive(Debug)]
pub struct Engine {
    schema: Schema,
    prefilter: Prefilter,
    rules: Vec<(Rule, Frame, HistoryId)>,
    history: History,
    output_key: String,
    /// When the first record arrived: since then the history has been learning.
    since: Option<Millis>,
}

/// What a new-terms rule's tuples are kept under: the rule and the names of its fields, so that a rule whose fields
/// change starts anew.
#[derive(Debug)]
struct HistoryId(String);

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is to be said of it: the record stays as it came.
    Untouched,
    /// The output holds the record with this many alerts; none, if it only belongs to groups that alerted already.
    Annotated {
        /// How many alerts the record carries.
        alerts: usize,
    },
}

/// What the rules have to say about one event.
#[derive(Default)]
struct Findings<'r> {
    alerts: Vec<Alert<'r>>,
    suppressed: Vec<Suppressed<'r>>,
    /// The longest window or duration of the rules that are named.
    longest_window: u64,
}

impl Engine {
    /// Runs the pack's rules with an empty history; `key` is random, and known to nobody who writes events.
    ///
    /// # Errors
    /// The pack names a field that this engine does not know.
    pub fn new(pack: Pack, key: [u8; 16]) -> Result<Engine, UnknownField> {
        let schema = Schema::new(&pack.settings, &pack.fields)?;
        let prefilter = Prefilter::new(&pack);
        let Pack { settings, fields, rules } = pack;
        let mut loaded = Vec::with_capacity(rules.len());
        for rule in rules {
            let frame = Frame::new(&rule, &fields);
            let history_id = HistoryId::new(&rule, &fields);
            loaded.push((rule, frame, history_id));
        }
        Ok(Engine {
            schema,
            prefilter,
            rules: loaded,
            history: History::new(settings.capacity, key),
            output_key: settings.output_key,
            since: None,
        })
    }

    /// Takes a record that arrived at a time, or at 0 if nobody knows; writes it with its alerts to `out`, if it raises any.
    pub fn process(&mut self, record: &[u8], arrival: Millis, out: &mut Vec<u8>) -> Outcome {
        self.process_searched(&PortableSearch(record), arrival, out)
    }

    /// The same, with the host's way of searching the record.
    pub fn process_searched(&mut self, record: &impl Search, arrival: Millis, out: &mut Vec<u8>) -> Outcome {
        self.since.get_or_insert(arrival);
        if !self.prefilter.is_candidate(record) {
            return Outcome::Untouched;
        }
        self.process_unfiltered(record.bytes(), arrival, out)
    }

    /// The same for a record that the prefilter is not asked about.
    pub fn process_unfiltered(&mut self, record: &[u8], arrival: Millis, out: &mut Vec<u8>) -> Outcome {
        let since = *self.since.get_or_insert(arrival);
        let text = OnceCell::new();
        // Bytes that are not UTF-8 are read as U+FFFD; what is written keeps them.
        let readable = match core::str::from_utf8(record) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => String::from_utf8_lossy(record),
        };
        let Some(event) = EventView::read(&self.schema, &readable, &text) else { return Outcome::Untouched };

        let matching: Vec<_> = self.rules.iter().filter(|(rule, ..)| predicate::matches(&rule.query, &event)).collect();
        if matching.is_empty() {
            return Outcome::Untouched;
        }
        // A host that does not know the time passes 0; then there is nothing to hold event time against.
        let latest = if arrival == 0 { Millis::MAX } else { arrival.saturating_add(MAX_CLOCK_SKEW) };
        let at = event.event_time().unwrap_or(arrival).min(latest);
        let identity = event.event_id();
        let event_hash = self.history.event_hash(identity.as_deref().map_or(record, str::as_bytes));

        let mut findings = Findings::default();
        for (rule, frame, history_id) in matching {
            let new = match &rule.new_terms {
                None => Vec::from([None]),
                Some(new_terms) => observe(&mut self.history, history_id, new_terms, &event, at, event_hash),
            };
            if !new.is_empty() {
                findings.add(&mut self.history, rule, frame, new, &event, at, event_hash);
            }
        }
        if findings.alerts.is_empty() && findings.suppressed.is_empty() {
            return Outcome::Untouched;
        }
        let covered = at.saturating_sub(since);
        let complete = covered >= 0 && covered.unsigned_abs() >= findings.longest_window;
        let history = HistoryState { since, complete, durable: false };
        let key = output_key(&self.output_key, event.output_keys_taken() + 1);
        alert::annotate(out, record, &key, &event, &findings.alerts, &findings.suppressed, history);
        Outcome::Annotated { alerts: findings.alerts.len() }
    }

    /// How many tuples and groups the history holds.
    pub fn history_len(&self) -> usize {
        self.history.len()
    }
}

/// The event's tuples that are new.
fn observe(
    history: &mut History,
    id: &HistoryId,
    new_terms: &NewTerms,
    event: &EventView<'_>,
    at: Millis,
    event_hash: EventHash,
) -> Vec<Option<(TermTuple, Reason)>> {
    let mut new = Vec::new();
    for tuple in TermTuple::each(&new_terms.fields, event) {
        let print = history.fingerprint(Purpose::NewTerms, &id.0, tuple.0.iter().map(|term| Some(&**term)));
        if let Sighting::New(reason) = history.observe(print, at, new_terms.window_ms, event_hash) {
            new.push(Some((tuple, reason)));
        }
    }
    new
}

impl<'r> Findings<'r> {
    /// Adds what the event would alert on, or that its group has alerted already.
    #[allow(clippy::too_many_arguments)]
    fn add(
        &mut self,
        history: &mut History,
        rule: &'r Rule,
        frame: &'r Frame,
        new: Vec<Option<(TermTuple, Reason)>>,
        event: &EventView<'_>,
        at: Millis,
        event_hash: EventHash,
    ) {
        let window = rule.new_terms.as_ref().map_or(0, |new_terms| new_terms.window_ms);
        let duration = rule.suppression.as_ref().map_or(0, |suppression| suppression.duration_ms);
        self.longest_window = self.longest_window.max(window).max(duration);

        let terms = rule.suppression.as_ref().and_then(|suppression| group_terms(suppression, event));
        let group = terms.map(|terms| {
            let print = history.fingerprint(Purpose::Suppression, &rule.id, terms.iter().map(Option::as_deref));
            (terms, history.observe_group(print, at, duration, event_hash))
        });
        let opened = match group {
            None => None,
            Some((terms, GroupSighting::Opens { start })) => Some((terms, start)),
            Some((_, GroupSighting::Suppressed { start, end, count })) => {
                self.suppressed.push(Suppressed { rule, start, end, count });
                return;
            }
        };
        self.alerts.extend(new.into_iter().map(|new| Alert { rule, frame, new, opened: opened.clone() }));
    }
}

/// The terms of the event's group: each field's values, `None` where it has none; no group at all, if the rule does not
/// suppress events that lack a field.
fn group_terms(suppression: &Suppression, event: &EventView<'_>) -> Option<Vec<Option<String>>> {
    let terms: Vec<_> = suppression.group_by.iter().map(|field| joined(*field, event)).collect();
    let lacking = terms.iter().any(Option::is_none);
    if lacking && suppression.missing == MissingFields::DoNotSuppress { None } else { Some(terms) }
}

/// The field's one value; several as a JSON array, which no single value of CloudTrail's looks like.
fn joined(field: FieldRef, event: &EventView<'_>) -> Option<String> {
    let mut values = event.texts(field);
    match values.len() {
        0 => None,
        1 => values.pop(),
        _ => serde_json::to_string(&values).ok(),
    }
}

impl HistoryId {
    fn new(rule: &Rule, field_names: &[String]) -> HistoryId {
        let mut id = rule.id.clone();
        for field in rule.new_terms.iter().flat_map(|new_terms| &new_terms.fields) {
            id.push('\n');
            id.push_str(&field_names[usize::from(field.0)]);
        }
        HistoryId(id)
    }
}
