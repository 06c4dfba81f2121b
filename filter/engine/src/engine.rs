//! The whole path of a record.
//!
//! In: a record's bytes and when it arrived. Out: [`Outcome::Untouched`], or the record with its alerts. Bounds: all
//! that is allocated for a record is freed with it, but for what the history keeps, and is a few times the record's own
//! size; no input makes it fail. Not here: where records come from and go to.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::OnceCell;
use core::ops::Range;

use crate::alert::{self, Finding, Frame, Group, HistoryState, MAX_ALERTS, MAX_RECORD_ALERTS, NewTuple, Suppressed};
use crate::enrichment::{AsFields, Enrichment};
use crate::event::timestamp::Millis;
use crate::event::{EventView, Events, Schema, Texts, UnknownField, output_key};
use crate::host_clock::HostClock;
use crate::journal::keeper::Keeper;
use crate::learning::{Learned, Learning};
use crate::new_terms::fingerprint::{EventHash, Fingerprint, Key};
use crate::new_terms::history::entry::{Entry, Seconds, millis, seconds, whole_seconds};
use crate::new_terms::history::owner::{Purpose, Standing};
use crate::new_terms::history::{GroupSighting, History, OwnerNumber};
use crate::new_terms::{Reason, Sighting, TermTuples};
use crate::predicate;
use crate::prefilter::{self, Look, PortableSearch, Prefilter, Search};
use crate::recognition::Recognition;
use crate::rule::{FieldRef, MissingFields, NewTerms, Pack, Rule, Settings, Suppression, Warming};
use crate::status::{MAX_USED_ONCE, Status, UsedOnce};
use crate::storage::Storage;

const EMPTY_OBJECT: &[u8] = b"{}";

/// Runs a pack of rules over records.
#[derive(Debug)]
pub struct Engine {
    settings: Settings,
    /// The names of the fields that rules refer to.
    fields: Vec<String>,
    /// Made for the first candidate, as the rules' frames are for the first alert: a Fluent Bit that starts a module for each
    /// chunk pays for each start, and most chunks hold no candidate.
    schema: OnceCell<Option<Schema>>,
    prefilter: Prefilter,
    rules: Vec<LoadedRule>,
    history: History,
    /// Who keeps the history's file, if there is one.
    keeper: Option<Keeper>,
    /// The second of the first record whose arrival is known, or 0: since then the history has been learning.
    begun_at: Seconds,
    /// Arrivals at which the history does not begin earlier and no hour of enrichment ends.
    settled: Range<Millis>,
    /// The fields of the AS, if a rule asks for one of them.
    organization: Option<AsFields>,
    enrichment: Enrichment,
    recognition: Recognition,
    /// What past events taught each rule, made for the first of them.
    learning: Option<Learning>,
    /// The groups of events that were learned from, to be learned in the order of time.
    learned_groups: Vec<(Seconds, OwnerNumber, Fingerprint)>,
    clock: HostClock,
}

/// A rule, and what is made of it once.
#[derive(Debug)]
struct LoadedRule {
    rule: Rule,
    frame: OnceCell<Frame>,
    tuples: Option<Owned>,
    groups: Option<Owned>,
    /// Whether it asks for the AS organisation.
    asks_organization: bool,
}

/// What of the history belongs to a rule.
#[derive(Debug, Clone, Copy)]
struct Owned {
    number: OwnerNumber,
    /// What its fingerprints are made with.
    print: Fingerprint,
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

/// What the rules have to say about the events of one record.
#[derive(Default)]
struct Findings<'r> {
    alerting: Vec<Finding<'r>>,
    suppressed: Vec<Suppressed<'r>>,
    /// How many alerts those are.
    alerts: usize,
    history: HistoryState,
}

/// An event, and how the history knows it.
struct Occurrence<'e> {
    event: &'e EventView<'e>,
    /// Its number among the record's events.
    number: usize,
    /// The second of the event, as far as its arrival lets it be believed.
    at: Seconds,
    hash: EventHash,
}

/// What the history knows of a tuple or group of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The rule's id.
    pub rule_id: String,
    /// Whether it is a tuple or a group.
    pub purpose: Purpose,
    /// The values of each field.
    pub values: Vec<Vec<String>>,
    /// What is known, if anything is.
    pub entry: Option<Entry>,
    /// The same of the rule.
    pub standing: Standing,
    /// The event's time, as the history sees it.
    pub at: Seconds,
}

impl Engine {
    /// Runs the pack's rules with an empty history that is kept in memory only; `key` is random, and known to nobody who
    /// writes events.
    ///
    /// # Errors
    /// The pack names a field that this engine does not know.
    pub fn new(pack: Pack, key: [u8; 16]) -> Result<Engine, UnknownField> {
        let history = History::new(pack.settings.capacity, Key(key));
        Engine::with(pack, history, None)
    }

    /// Runs the pack's rules with the history of a state file; `new_key` is that of the history if there is no file yet.
    ///
    /// # Errors
    /// Those of [`Engine::new`]. A state file that cannot be read or written is no error: [`Engine::take_notice`] tells.
    pub fn open(pack: Pack, storage: Box<dyn Storage>, new_key: [u8; 16]) -> Result<Engine, UnknownField> {
        let Settings { sync, capacity, .. } = pack.settings;
        let (keeper, history) = Keeper::open(storage, sync, capacity, Key(new_key));
        Engine::with(pack, history, Some(keeper))
    }

    /// Runs the pack's rules with this history, which is kept in memory only.
    ///
    /// # Errors
    /// Those of [`Engine::new`].
    pub fn with_history(pack: Pack, history: History) -> Result<Engine, UnknownField> {
        Engine::with(pack, history, None)
    }

    fn with(pack: Pack, mut history: History, keeper: Option<Keeper>) -> Result<Engine, UnknownField> {
        let in_one_place = Schema::in_one_place(&pack.settings, &pack.fields)?;
        let prefilter = Prefilter::new(&pack);
        let Pack { settings, fields, rules } = pack;
        let organization = AsFields::of(&fields);
        let mut loaded = Vec::with_capacity(rules.len());
        // What the prefilter has seen to is looked at last, and what costs more steps than a comparison before that.
        let late = |field: FieldRef| match fields.get(usize::from(field.0)) {
            Some(name) if prefilter::is_anchor(name) => 2,
            _ => u8::from(in_one_place.get(usize::from(field.0)) != Some(&true)),
        };
        for mut rule in rules {
            predicate::order(&mut rule.query, &late);
            let mut owned = |purpose, refs: &[FieldRef], span_ms| {
                let names: Vec<&str> = refs.iter().map(|field| &*fields[usize::from(field.0)]).collect();
                let number = history.load_owner(purpose, &rule.id, &names, whole_seconds(span_ms))?;
                Some(Owned { number, print: history.owner(number)?.print })
            };
            let tuples = rule.new_terms.as_ref();
            let tuples = tuples.and_then(|terms| owned(Purpose::Tuples, &terms.fields, terms.window_ms));
            let groups = rule.suppression.as_ref();
            let groups = groups.and_then(|groups| owned(Purpose::Groups, &groups.group_by, groups.duration_ms));
            let asks_organization = organization.are_asked_for(&rule);
            loaded.push(LoadedRule { rule, frame: OnceCell::new(), tuples, groups, asks_organization });
        }
        history.age_out_removed_rules();
        let enrichment = Enrichment::after(history.enrichment());
        let loaded_asks = loaded.iter().any(|loaded| loaded.asks_organization);
        let clock = HostClock::new(settings.max_clock_skew_ms);
        Ok(Engine {
            settings,
            fields,
            schema: OnceCell::new(),
            prefilter,
            rules: loaded,
            history,
            keeper,
            begun_at: 0,
            settled: 0..0,
            organization: loaded_asks.then_some(organization),
            enrichment,
            recognition: Recognition::default(),
            learning: None,
            learned_groups: Vec::new(),
            clock,
        })
    }

    /// What the history knows.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// The numbers that tell how it is.
    pub fn status(&self) -> Status {
        Status {
            entries: self.history.len() as u64,
            capacity: self.history.capacity() as u64,
            evictions: self.history.owners().map(|(_, owner)| u64::from(owner.standing.evictions)).sum(),
            durable: u64::from(self.keeper.as_ref().is_some_and(Keeper::is_durable)),
            storage_failures: self.keeper.as_ref().map_or(0, Keeper::failures),
            organization_asked: self.enrichment.asked,
            organization_lacking: self.enrichment.lacking,
            candidates_without_event: self.recognition.candidates_without_event,
            used_once: self.used_once(),
        }
    }

    /// The running rules of which nearly all recent groups or tuples were used once.
    fn used_once(&self) -> [u64; MAX_USED_ONCE] {
        let found = self.rules.iter().enumerate().flat_map(|(rule, loaded)| {
            [(false, loaded.tuples), (true, loaded.groups)].into_iter().filter_map(move |(is_of_groups, owned)| {
                let used_once = self.history.owner(owned?.number)?.used_once;
                let is_recent = used_once.is_recent(self.history.clock());
                is_recent.then(|| UsedOnce { rule, is_of_groups, fields: used_once.fields }.to_number())
            })
        });
        let mut numbers = [0; MAX_USED_ONCE];
        for (place, number) in numbers.iter_mut().zip(found) {
            *place = number;
        }
        numbers
    }

    /// What people are to be told of the history's file, of enrichment or of records without events, once; there may be more
    /// than one such thing.
    pub fn take_notice(&mut self) -> Option<String> {
        let notice = self.keeper.as_mut().and_then(Keeper::take_notice).or_else(|| self.enrichment.take_notice());
        notice.or_else(|| self.recognition.take_notice())
    }

    /// Whether there is something that [`Engine::take_notice`] gives.
    #[inline]
    pub fn has_notice(&self) -> bool {
        self.keeper.as_ref().is_some_and(Keeper::has_notice)
            || self.enrichment.has_notice()
            || self.recognition.has_notice()
    }

    /// Takes a record that arrived at a time, or at 0 if nobody knows; writes it with its alerts to `out`, if it raises any.
    pub fn process(&mut self, record: &[u8], arrival: Millis, out: &mut Vec<u8>) -> Outcome {
        self.process_searched(&PortableSearch(record), arrival, out)
    }

    /// The same, with the host's way of searching the record.
    pub fn process_searched(&mut self, record: &impl Search, arrival: Millis, out: &mut Vec<u8>) -> Outcome {
        self.begin(arrival);
        match self.prefilter.look(record) {
            Look::Candidate => return self.process_candidate(record.bytes(), &readable(record), arrival, out),
            Look::Key => self.recognition.key_found(),
            // A host that only tells the time gives an empty object.
            Look::Nothing if record.bytes().len() <= EMPTY_OBJECT.len() => {}
            Look::Nothing => self.recognition.no_key(1, seconds(arrival)),
        }
        Outcome::Untouched
    }

    /// The same for a record that the prefilter is not asked about.
    pub fn process_unfiltered(&mut self, record: &[u8], arrival: Millis, out: &mut Vec<u8>) -> Outcome {
        self.begin(arrival);
        self.process_candidate(record, &readable(&PortableSearch(record)), arrival, out)
    }

    /// `readable` is what the record is read as.
    fn process_candidate(&mut self, record: &[u8], readable: &str, arrival: Millis, out: &mut Vec<u8>) -> Outcome {
        let texts = Texts::default();
        let schema = schema(&self.schema, &self.settings, &self.fields, &self.history);
        let Some(mut events) = schema.and_then(|schema| Events::read(schema, readable, &texts)) else {
            self.recognition.no_event(seconds(arrival));
            return Outcome::Untouched;
        };
        self.recognition.event_found();
        let mut findings = Findings::default();
        let mut is_matched = false;
        let mut examined = 0;
        while examined < events.len() && findings.alerts < MAX_RECORD_ALERTS {
            let Some(event) = events.view(examined) else { break };
            let Matching { rules: matching, asks_organization } = matching(&self.rules, self.organization, &event);
            if asks_organization {
                note_enrichment(&mut self.enrichment, &mut self.history, &event, arrival);
                // An hour may have begun.
                self.settled = 0..0;
            }
            is_matched |= asks_organization || !matching.is_empty();
            if !matching.is_empty() {
                let at = self.clock.observe(event.event_time(), arrival, &mut self.history);
                let occurrence = occurrence(&event, examined, record, at, &self.history);
                if self.begun_at == 0 {
                    self.history.begin(occurrence.at.max(self.history.clock()));
                }
                for loaded in matching {
                    findings.add(&mut self.history, loaded, &occurrence, self.settings.warming, &self.fields);
                }
            }
            examined += 1;
        }
        if is_matched {
            commit(&mut self.keeper, &mut self.history, arrival);
            if let Some(notice) = self.clock.take_notice() {
                self.enrichment.say(notice);
            }
        }
        let Findings { alerting, suppressed, alerts, history: mut state } = findings;
        if alerting.is_empty() && suppressed.is_empty() {
            return Outcome::Untouched;
        }
        while let Some(notice) = self.history.take_used_once() {
            self.enrichment.say(notice);
        }
        state.durable = self.keeper.as_ref().is_some_and(Keeper::is_durable);
        let key = output_key(&self.settings.output_key, events.output_keys_taken() + 1);
        alert::annotate(out, record, &key, &mut events, examined, &alerting, &suppressed, state);
        Outcome::Annotated { alerts }
    }

    /// The history begins with the first record whose arrival is known, or an earlier one, should the first one's have been in
    /// the future.
    #[inline]
    fn begin(&mut self, arrival: Millis) {
        if arrival != 0 && !self.settled.contains(&arrival) {
            self.settle(arrival);
        }
    }

    fn settle(&mut self, arrival: Millis) {
        let at = seconds(arrival).max(1);
        if let Some(hour) = self.enrichment.end(at) {
            self.history.set_enrichment(hour);
            commit(&mut self.keeper, &mut self.history, arrival);
        }
        if self.begun_at == 0 || at < self.begun_at {
            if self.begun_at != 0 && millis(self.begun_at) > self.clock.latest(arrival) {
                self.history.undo_begin();
            }
            self.begun_at = at;
            self.history.begin(self.clock.now(arrival, &self.history).max(1));
            commit(&mut self.keeper, &mut self.history, arrival);
        }
        self.settled = millis(self.begun_at)..self.enrichment.ends_at().map_or(Millis::MAX, millis);
    }

    /// Learns from a record of the past without alerting: what a live filter would have known after it. `now` is the time of
    /// learning; an event that does not say when it was, or is dated later than that by more than the permitted skew,
    /// teaches nothing. Learning the same records again, in any order, changes nothing.
    pub fn learn(&mut self, record: &impl Search, now: Millis) {
        if !self.prefilter.is_candidate(record) {
            return;
        }
        let readable = readable(record);
        let texts = Texts::default();
        let schema = schema(&self.schema, &self.settings, &self.fields, &self.history);
        let Some(mut events) = schema.and_then(|schema| Events::read(schema, &readable, &texts)) else { return };
        let learning = self.learning.get_or_insert_with(|| Learning::of(rules(&self.rules), &self.fields));
        let latest = self.clock.latest(now);
        let key = self.history.key();
        for number in 0..events.len() {
            let Some(event) = events.view(number) else { break };
            learning.note(rules(&self.rules), &event);
            let matching = matching(&self.rules, None, &event).rules;
            if matching.is_empty() || event.event_time().is_none_or(|time| time > latest) {
                continue;
            }
            let at = seconds(event.event_time().unwrap_or(now));
            for LoadedRule { rule, tuples, groups, .. } in matching {
                if let (Some(new_terms), Some(owned)) = (&rule.new_terms, tuples) {
                    for tuple in TermTuples::of(&new_terms.fields, &event, key).each() {
                        let print = key.tuple(owned.print, tuple.iter().map(|term| term.print));
                        self.history.learn(owned.number, print, at);
                    }
                }
                if let (Some(suppression), Some(owned)) = (&rule.suppression, groups)
                    && let Some(terms) = group_terms(suppression, &event)
                {
                    self.learned_groups.push((at, owned.number, group_print(key, *owned, &terms)));
                }
            }
        }
        self.history.forget_changes();
    }

    /// What past events taught each rule that asks the history something, in the order of the rules.
    pub fn learned(&self) -> Vec<Learned> {
        let learning = self.learning.as_ref();
        let learned = self.rules.iter().enumerate().filter(|(_, loaded)| loaded.tuples.or(loaded.groups).is_some());
        learned.map(|(at, LoadedRule { rule, .. })| Learned::of(rule, learning, at, &self.fields)).collect()
    }

    /// What was learned is all that there was between two times, for the rules that could learn from it.
    pub fn cover(&mut self, from: Millis, until: Millis) {
        for (at, LoadedRule { rule, tuples, groups, .. }) in self.rules.iter().enumerate() {
            if Learned::of(rule, self.learning.as_ref(), at, &self.fields).covers() {
                for owned in [tuples, groups].into_iter().flatten() {
                    self.history.cover(owned.number, seconds(from), seconds(until));
                }
            }
        }
    }

    /// What was learned.
    pub fn into_history(mut self) -> History {
        self.learned_groups.sort_unstable();
        for (at, number, group) in self.learned_groups {
            self.history.learn_group(number, group, at);
        }
        self.history.forget_changes();
        self.history
    }

    /// What the history knows of the tuples and groups of a record, rule by rule; nothing changes.
    pub fn explain(&self, record: &[u8], arrival: Millis) -> Vec<Explanation> {
        let texts = Texts::default();
        let searched = PortableSearch(record);
        let readable = readable(&searched);
        let schema = schema(&self.schema, &self.settings, &self.fields, &self.history);
        let events = schema.and_then(|schema| Events::read(schema, &readable, &texts));
        let Some(mut events) = events else { return Vec::new() };
        let mut explanations = Vec::new();
        for number in 0..events.len() {
            let Some(event) = events.view(number) else { break };
            let at = self.clock.peek(event.event_time(), arrival, &self.history);
            let occurrence = occurrence(&event, number, record, at, &self.history);
            self.explain_event(&occurrence, &mut explanations);
        }
        explanations
    }

    fn explain_event(&self, occurrence: &Occurrence<'_>, explanations: &mut Vec<Explanation>) {
        let event = occurrence.event;
        for LoadedRule { rule, tuples, groups, .. } in matching(&self.rules, None, event).rules {
            let explain = |owned: &Owned, purpose, values, print| {
                let owner = self.history.owner(owned.number);
                Explanation {
                    rule_id: rule.id.clone(),
                    purpose,
                    values,
                    entry: owner.and_then(|owner| owner.get(print)).copied(),
                    standing: self.history.standing(owned.number),
                    at: occurrence.at,
                }
            };
            if let (Some(new_terms), Some(owned)) = (&rule.new_terms, tuples) {
                for tuple in TermTuples::of(&new_terms.fields, event, self.history.key()).each() {
                    let print = self.history.key().tuple(owned.print, tuple.iter().map(|term| term.print));
                    let values = tuple.iter().map(|term| Vec::from([term.text.clone()])).collect();
                    explanations.push(explain(owned, Purpose::Tuples, values, print));
                }
            }
            if let (Some(suppression), Some(owned)) = (&rule.suppression, groups)
                && let Some(terms) = group_terms(suppression, event)
            {
                let print = group_print(self.history.key(), *owned, &terms);
                explanations.push(explain(owned, Purpose::Groups, terms, print));
            }
        }
    }
}

/// Writes what has changed in the history, if it is kept.
fn commit(keeper: &mut Option<Keeper>, history: &mut History, arrival: Millis) {
    match keeper {
        Some(keeper) => keeper.commit(history, seconds(arrival)),
        None => history.forget_changes(),
    }
}

/// The schema, which is made when it is asked for first. There is one: [`Schema::in_one_place`] found a source for each field.
fn schema<'s>(
    made: &'s OnceCell<Option<Schema>>,
    settings: &Settings,
    fields: &[String],
    history: &History,
) -> Option<&'s Schema> {
    made.get_or_init(|| Schema::new(settings, fields, history.key().0).ok()).as_ref()
}

/// Bytes that are not UTF-8 are read as U+FFFD; what is written keeps them.
fn readable(record: &impl Search) -> Cow<'_, str> {
    record.text().map_or_else(|| String::from_utf8_lossy(record.bytes()), Cow::Borrowed)
}

fn rules(loaded: &[LoadedRule]) -> impl Iterator<Item = &Rule> {
    loaded.iter().map(|loaded| &loaded.rule)
}

/// Takes note of an event that a rule would match if its AS organisation were the right one. Nobody can have looked up an address
/// that is not public, nor a service's name: such an event lacks nothing.
fn note_enrichment(enrichment: &mut Enrichment, history: &mut History, event: &EventView<'_>, arrival: Millis) {
    if arrival == 0 {
        return;
    }
    let key = history.key();
    let label = event.first_as_organization().map(|organization| {
        let address = event.source_address().unwrap_or_default();
        history.observe_label(key.print(&[address]), key.print(&[organization]))
    });
    if label.is_none() && !event.has_public_address() {
        return;
    }
    if let Some(hour) = enrichment.note(seconds(arrival).max(1), label) {
        history.set_enrichment(hour);
    }
}

/// What the rules make of an event.
struct Matching<'r> {
    rules: Vec<&'r LoadedRule>,
    /// Whether a rule would match with the right AS organisation, or does.
    asks_organization: bool,
}

fn matching<'r>(rules: &'r [LoadedRule], organization: Option<AsFields>, event: &EventView<'_>) -> Matching<'r> {
    let mut matching = Matching { rules: Vec::with_capacity(4), asks_organization: false };
    for loaded in rules {
        let query = &loaded.rule.query;
        if let Some(fields) = organization.filter(|_| loaded.asks_organization) {
            if !predicate::may_match(query, event, &|field| fields.has(field)) {
                continue;
            }
            matching.asks_organization = true;
        }
        if predicate::matches(query, event) {
            matching.rules.push(loaded);
        }
    }
    matching
}

fn occurrence<'e>(
    event: &'e EventView<'e>,
    number: usize,
    record: &[u8],
    at: Seconds,
    history: &History,
) -> Occurrence<'e> {
    let identity = event.event_id();
    let text = event.own_text().map_or(record, str::as_bytes);
    let hash = history.key().event(identity.as_deref().map_or(text, str::as_bytes));
    Occurrence { event, number, at, hash }
}

impl<'r> Findings<'r> {
    /// Adds what the event would alert on, or that its group has alerted already.
    fn add(
        &mut self,
        history: &mut History,
        loaded: &'r LoadedRule,
        occurrence: &Occurrence<'_>,
        warming: Warming,
        field_names: &[String],
    ) {
        let LoadedRule { rule, frame, tuples, groups, .. } = loaded;
        let (alerts, omitted) = match (&rule.new_terms, tuples) {
            (Some(new_terms), Some(owned)) => new_tuples(history, *owned, new_terms, occurrence),
            _ => (Vec::from([None]), 0),
        };
        if alerts.is_empty() {
            return;
        }
        if let Some(owned) = tuples {
            if warming == Warming::Hold && !history.standing(owned.number).is_complete(occurrence.at) {
                history.hold(owned.number, u32::try_from(alerts.len() + omitted).unwrap_or(u32::MAX));
                return;
            }
            self.history.name(history, owned.number, occurrence.at);
        }
        if let Some(owned) = groups {
            self.history.name(history, owned.number, occurrence.at);
        }

        let terms = rule.suppression.as_ref().and_then(|suppression| group_terms(suppression, occurrence.event));
        let opened = match (terms, groups) {
            (Some(terms), Some(owned)) => {
                let prints = field_prints(history.key(), &terms);
                let group = history.key().tuple(owned.print, prints.iter().copied());
                match history.observe_group(owned.number, group, occurrence.at, occurrence.hash) {
                    GroupSighting::Opens { start, again } => {
                        if !again {
                            history.note_new(owned.number, occurrence.event.caller(), &mut prints.into_iter());
                        }
                        let terms = terms.iter().map(|values| all_shown(values)).collect();
                        Some(Group { terms, start: millis(start), again })
                    }
                    GroupSighting::Suppressed { start, end, count } => {
                        let (start, end) = (millis(start), millis(end));
                        self.suppressed.push(Suppressed { event: occurrence.number, rule, start, end, count });
                        return;
                    }
                }
            }
            _ => None,
        };
        let frame = frame.get_or_init(|| Frame::new(rule, field_names));
        self.alerts += alerts.len();
        self.alerting.push(Finding { event: occurrence.number, frame, alerts, omitted, opened });
    }
}

/// The event's tuples that are new, as many as alerts are written for, and how many more there are.
fn new_tuples(
    history: &mut History,
    owned: Owned,
    new_terms: &NewTerms,
    occurrence: &Occurrence<'_>,
) -> (Vec<Option<NewTuple>>, usize) {
    let Occurrence { event, at, hash, .. } = occurrence;
    let (mut new, mut omitted) = (Vec::new(), 0);
    let tuples = TermTuples::of(&new_terms.fields, event, history.key());
    if tuples.are_too_many() {
        new.push(Some(NewTuple { values: Vec::new(), reason: Reason::TooMany, again: false }));
    }
    for tuple in tuples.each() {
        let print = history.key().tuple(owned.print, tuple.iter().map(|term| term.print));
        let (reason, again) = match history.observe(owned.number, print, *at, *hash) {
            Sighting::Known => continue,
            Sighting::New(reason) => (reason, false),
            Sighting::Again(reason) => (reason, true),
        };
        if new.is_empty() && !again {
            // One of the event: an array's values differ by nature.
            history.note_new(owned.number, event.caller(), &mut tuple.iter().map(|term| term.print));
        }
        if new.len() < MAX_ALERTS {
            let values = tuple.iter().map(|term| alert::shown(&term.text).to_string()).collect();
            new.push(Some(NewTuple { values, reason, again }));
        } else {
            omitted += 1;
        }
    }
    (new, omitted)
}

fn group_print(key: Key, owned: Owned, terms: &[Vec<String>]) -> Fingerprint {
    key.tuple(owned.print, field_prints(key, terms))
}

/// A fingerprint of each field's values.
fn field_prints(key: Key, terms: &[Vec<String>]) -> Vec<Fingerprint> {
    terms.iter().map(|values| key.print(values)).collect()
}

/// The values of each field that the event's group is made of; no group at all, if the rule does not suppress events that
/// lack a field.
fn group_terms(suppression: &Suppression, event: &EventView<'_>) -> Option<Vec<Vec<String>>> {
    let terms: Vec<_> = suppression.group_by.iter().map(|field| event.terms(*field)).collect();
    let lacking = terms.iter().any(Vec::is_empty);
    if lacking && suppression.missing == MissingFields::DoNotSuppress { None } else { Some(terms) }
}

fn all_shown(values: &[String]) -> Vec<String> {
    values.iter().take(MAX_ALERTS).map(|value| alert::shown(value).to_string()).collect()
}
