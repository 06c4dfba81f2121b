//! The whole path of a record.
//!
//! In: a record's bytes and when it arrived. Out: [`Outcome::Untouched`], or the record with its alerts. Bounds: all
//! that is allocated for a record is freed with it, but for what the history keeps, and is a few times the record's own
//! size; no input makes it fail. Not here: where records come from and go to.

use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::alert::{self, Finding, Frame, Group, HistoryState, MAX_ALERTS, NewTuple, Suppressed};
use crate::event::timestamp::Millis;
use crate::event::{EventView, Schema, Texts, UnknownField, output_key};
use crate::new_terms::history::{EventHash, Fingerprint, GroupSighting, History};
use crate::new_terms::{Reason, Sighting, TermTuples};
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
    rules: Vec<LoadedRule>,
    history: History,
    output_key: String,
    /// When the first record arrived, or happened if nobody knows: since then the history has been learning.
    since: Option<Millis>,
}

/// A rule, and what is made of it once.
#[derive(Debug)]
struct LoadedRule {
    rule: Rule,
    frame: Frame,
    /// What its tuples belong to in the history: the rule and the names of their fields, so that a rule whose fields
    /// change starts anew.
    tuples: Fingerprint,
    /// What its suppression groups belong to, likewise.
    groups: Fingerprint,
}

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
    alerting: Vec<Finding<'r>>,
    suppressed: Vec<Suppressed<'r>>,
    /// The longest window or duration of the rules that are named.
    longest_window: u64,
}

/// An event, and how the history knows it.
struct Occurrence<'e> {
    event: &'e EventView<'e>,
    /// The event's time, as far as its arrival lets it be believed.
    at: Millis,
    hash: EventHash,
}

impl Engine {
    /// Runs the pack's rules with an empty history; `key` is random, and known to nobody who writes events.
    ///
    /// # Errors
    /// The pack names a field that this engine does not know.
    pub fn new(pack: Pack, key: [u8; 16]) -> Result<Engine, UnknownField> {
        let schema = Schema::new(&pack.settings, &pack.fields, key)?;
        let prefilter = Prefilter::new(&pack);
        let Pack { settings, fields, rules } = pack;
        let history = History::new(settings.capacity, key);
        let mut loaded = Vec::with_capacity(rules.len());
        for rule in rules {
            let frame = Frame::new(&rule, &fields);
            let owner = |purpose: &str, refs: &[FieldRef]| {
                let mut owner = Vec::from([purpose, &*rule.id]);
                owner.extend(refs.iter().map(|field| &*fields[usize::from(field.0)]));
                history.print(&owner)
            };
            let tuples = owner("new_terms", rule.new_terms.as_ref().map_or(&[][..], |new_terms| &new_terms.fields));
            let groups = owner("suppression", rule.suppression.as_ref().map_or(&[][..], |groups| &groups.group_by));
            loaded.push(LoadedRule { rule, frame, tuples, groups });
        }
        Ok(Engine { schema, prefilter, rules: loaded, history, output_key: settings.output_key, since: None })
    }

    /// Takes a record that arrived at a time, or at 0 if nobody knows; writes it with its alerts to `out`, if it raises any.
    pub fn process(&mut self, record: &[u8], arrival: Millis, out: &mut Vec<u8>) -> Outcome {
        self.process_searched(&PortableSearch(record), arrival, out)
    }

    /// The same, with the host's way of searching the record.
    pub fn process_searched(&mut self, record: &impl Search, arrival: Millis, out: &mut Vec<u8>) -> Outcome {
        self.begin(arrival);
        if !self.prefilter.is_candidate(record) {
            return Outcome::Untouched;
        }
        self.process_unfiltered(record.bytes(), arrival, out)
    }

    /// The same for a record that the prefilter is not asked about.
    pub fn process_unfiltered(&mut self, record: &[u8], arrival: Millis, out: &mut Vec<u8>) -> Outcome {
        self.begin(arrival);
        let texts = Texts::default();
        // Bytes that are not UTF-8 are read as U+FFFD; what is written keeps them.
        let readable = match core::str::from_utf8(record) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => String::from_utf8_lossy(record),
        };
        let Some(event) = EventView::read(&self.schema, &readable, &texts) else { return Outcome::Untouched };

        let matching: Vec<_> =
            self.rules.iter().filter(|loaded| predicate::matches(&loaded.rule.query, &event)).collect();
        if matching.is_empty() {
            return Outcome::Untouched;
        }
        // A host that does not know the time passes 0; then there is nothing to hold event time against.
        let latest = if arrival == 0 { Millis::MAX } else { arrival.saturating_add(MAX_CLOCK_SKEW) };
        let at = event.event_time().unwrap_or(arrival).min(latest);
        let since = *self.since.get_or_insert(at);
        let identity = event.event_id();
        let hash = self.history.event_hash(identity.as_deref().map_or(record, str::as_bytes));

        let occurrence = Occurrence { event: &event, at, hash };
        let mut findings = Findings::default();
        for loaded in matching {
            findings.add(&mut self.history, loaded, &occurrence);
        }
        let Findings { alerting, suppressed, longest_window } = findings;
        if alerting.is_empty() && suppressed.is_empty() {
            return Outcome::Untouched;
        }
        let complete = at >= since && at.abs_diff(since) >= longest_window;
        let history = HistoryState { since, complete, durable: false };
        let key = output_key(&self.output_key, event.output_keys_taken() + 1);
        alert::annotate(out, record, &key, &event, &alerting, &suppressed, history);
        Outcome::Annotated { alerts: alerting.iter().map(|finding| finding.alerts.len()).sum() }
    }

    /// The history begins with the first record whose arrival is known.
    fn begin(&mut self, arrival: Millis) {
        if arrival != 0 {
            self.since.get_or_insert(arrival);
        }
    }
}

impl<'r> Findings<'r> {
    /// Adds what the event would alert on, or that its group has alerted already.
    fn add(&mut self, history: &mut History, loaded: &'r LoadedRule, occurrence: &Occurrence<'_>) {
        let LoadedRule { rule, frame, tuples, groups } = loaded;
        let (alerts, omitted) = match &rule.new_terms {
            None => (Vec::from([None]), 0),
            Some(new_terms) => new_tuples(history, *tuples, new_terms, occurrence),
        };
        if alerts.is_empty() {
            return;
        }
        let window = rule.new_terms.as_ref().map_or(0, |new_terms| new_terms.window_ms);
        let duration = rule.suppression.as_ref().map_or(0, |suppression| suppression.duration_ms);
        self.longest_window = self.longest_window.max(window).max(duration);

        let terms = rule.suppression.as_ref().and_then(|suppression| group_terms(suppression, occurrence.event));
        let opened = match terms {
            None => None,
            Some(terms) => {
                let prints: Vec<_> = terms.iter().map(|values| history.print(values)).collect();
                let group = history.key(*groups, prints);
                match history.observe_group(group, occurrence.at, duration, occurrence.hash) {
                    GroupSighting::Opens { start } => {
                        Some(Group { terms: terms.iter().map(|values| all_shown(values)).collect(), start })
                    }
                    GroupSighting::Suppressed { start, end, count } => {
                        self.suppressed.push(Suppressed { rule, start, end, count });
                        return;
                    }
                }
            }
        };
        self.alerting.push(Finding { rule, frame, alerts, omitted, opened });
    }
}

/// The event's tuples that are new, as many as alerts are written for, and how many more there are.
fn new_tuples(
    history: &mut History,
    owner: Fingerprint,
    new_terms: &NewTerms,
    occurrence: &Occurrence<'_>,
) -> (Vec<Option<NewTuple>>, usize) {
    let Occurrence { event, at, hash } = occurrence;
    let (mut new, mut omitted) = (Vec::new(), 0);
    let tuples = TermTuples::of(&new_terms.fields, event, history);
    if tuples.are_too_many() {
        new.push(Some(NewTuple { values: Vec::new(), reason: Reason::TooMany }));
    }
    for tuple in tuples.each() {
        let key = history.key(owner, tuple.iter().map(|term| term.print));
        if let Sighting::New(reason) = history.observe(key, *at, new_terms.window_ms, *hash) {
            if new.len() < MAX_ALERTS {
                let values = tuple.iter().map(|term| alert::shown(&term.text).to_string()).collect();
                new.push(Some(NewTuple { values, reason }));
            } else {
                omitted += 1;
            }
        }
    }
    (new, omitted)
}

/// The values of each field that the event's group is made of; no group at all, if the rule does not suppress events that
/// lack a field.
fn group_terms(suppression: &Suppression, event: &EventView<'_>) -> Option<Vec<Vec<String>>> {
    let terms: Vec<_> = suppression.group_by.iter().map(|field| event.texts(*field)).collect();
    let lacking = terms.iter().any(Vec::is_empty);
    if lacking && suppression.missing == MissingFields::DoNotSuppress { None } else { Some(terms) }
}

fn all_shown(values: &[String]) -> Vec<String> {
    values.iter().take(MAX_ALERTS).map(|value| alert::shown(value).to_string()).collect()
}
