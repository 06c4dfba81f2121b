//! The oracle: what every record should come back with, worked out the slow and obvious way.
//!
//! In: a pack, and records with their arrival times, one after the other. Out: for each record the object that has to
//! stand under the output key, or nothing if the record has to come back as it came.
//! It shares the compiled rules' types with the engine and not a line of its code: the whole record becomes a tree that
//! keeps repeated keys, the history is a list of the actual strings, and every look-up goes through all of it.
//! Bounds: none; the history never forgets for lack of room. Not here: hostile input (the tree is read by recursion),
//! and records that are not UTF-8, which the caller must not ask about.

mod envelope;
mod event;
mod host_clock;
mod json;
mod per_request;
mod time;
mod value;

use std::net::IpAddr;

use firstseen_engine::rule::{
    AlertTexts, FieldRef, MissingFields, Pack, Predicate, Rule, Severity, Template, TemplatePart,
};
use serde_json::{Map, Value as Output, json};

use self::event::Event;
use self::host_clock::HostClock;
use self::json::Json;
pub(crate) use self::json::Members;
use self::per_request::terms_of;
pub(crate) use self::time::{read_epoch, read_time, rfc3339};

/// Whether AWS names one of its services where an address would be.
fn is_service(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let is_host = lower.len() <= 253 && lower.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-');
    let is_of = |domain: &str| lower.ends_with(domain) && lower.len() > domain.len();
    lower == "aws internal"
        || is_host && [".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu"].into_iter().any(is_of)
}

/// The whole second of a time, in milliseconds; nothing is before 1970.
fn whole_second(time: i64) -> i64 {
    time.max(0) / 1000 * 1000
}

/// When a tuple that is seen again inside its window counts as seen: the time, rounded up to a hundredth of the window.
fn refreshed(time: i64, window_ms: u64) -> i64 {
    let step = i64::try_from(window_ms / 1000 / 100).expect("a window of a test").max(1) * 1000;
    (time + step - 1) / step * step
}

/// A pack at work: what it has seen so far, as the strings it has seen.
pub(crate) struct Oracle {
    pack: Pack,
    first_arrival: Option<i64>,
    tuples: Vec<KnownTuple>,
    groups: Vec<OpenGroup>,
    clock: HostClock,
}

/// A term tuple that a rule has met.
struct KnownTuple {
    rule: usize,
    values: Vec<String>,
    last_seen: i64,
    /// The event that was the first to bring it, since the tuple was last new.
    introduced_by: String,
    /// What `last_seen` was before that event; nothing if the tuple had never been seen.
    seen_before: Option<i64>,
}

/// A suppression group that has alerted.
struct OpenGroup {
    rule: usize,
    terms: Vec<Vec<String>>,
    opened_by: String,
    start: i64,
    end: i64,
    count: u64,
    /// Of a group gone by: which of the durations since 1970 it stands for.
    period: Option<i64>,
}

/// What suppression says to an event's alerts of one rule.
enum Grouped {
    /// They are raised; with the group that they open, if there is one, and whether the same event opened it before.
    Alert(Option<(Output, bool)>),
    /// The group has alerted already.
    Suppressed(Output),
}

impl Oracle {
    pub(crate) fn new(pack: &Pack) -> Oracle {
        Oracle {
            pack: pack.clone(),
            first_arrival: None,
            tuples: Vec::new(),
            groups: Vec::new(),
            clock: HostClock::default(),
        }
    }

    /// The key and the object to be appended to `record`; nothing if it has to stay as it is.
    pub(crate) fn process(&mut self, record: &[u8], arrival: i64) -> Option<(String, Output)> {
        let begun = *self.first_arrival.get_or_insert(whole_second(arrival));
        let root = Json::read(std::str::from_utf8(record).ok()?)?;
        let mut alerts = Vec::new();
        let mut suppressed = Vec::new();
        // Whether the history covers the windows of the rules that are named, at the times of their events.
        let mut covered: Option<bool> = None;
        let mut since = begun;
        for event in envelope::events(&root, &self.pack.settings) {
            if !self.pack.rules.iter().any(|rule| self.matches(&rule.query, &event)) {
                continue;
            }
            let skew = self.skew();
            let time = self.clock.observe(event.time(), arrival, skew);
            if let Some(begun) = self.clock.take_newly_begun() {
                self.tuples.iter_mut().for_each(|tuple| tuple.last_seen = tuple.last_seen.max(begun));
                for group in &mut self.groups {
                    (group.start, group.end) = (group.start.max(begun), group.end.max(begun));
                }
            }
            let identity = event.identity(record);
            for index in 0..self.pack.rules.len() {
                let rule = self.pack.rules[index].clone();
                if !self.matches(&rule.query, &event) {
                    continue;
                }
                let raised = self.new_terms(index, &rule, &event, time, &identity);
                if raised.is_empty() {
                    continue;
                }
                let window = rule.new_terms.iter().map(|terms| terms.window_ms);
                let duration = rule.suppression.iter().map(|group| group.duration_ms);
                if let Some(longest) = window.chain(duration).max() {
                    since = self.clock.since(begun);
                    let covers = i128::from(time) - i128::from(since) >= i128::from(longest);
                    covered = Some(covered.unwrap_or(true) && covers);
                }
                let group = match self.grouped(index, &rule, &event, time, &identity) {
                    Grouped::Suppressed(entry) => {
                        suppressed.push(entry);
                        continue;
                    }
                    Grouped::Alert(group) => group,
                };
                for (new_terms, again) in raised {
                    alerts.push(self.alert(&rule, &event, new_terms, again, group.clone()));
                }
            }
        }
        if alerts.is_empty() && suppressed.is_empty() {
            return None;
        }

        let mut object = Map::new();
        if !alerts.is_empty() {
            object.insert("alerts".into(), Output::Array(alerts));
        }
        if !suppressed.is_empty() {
            object.insert("suppressed".into(), Output::Array(suppressed));
        }
        // A rule without new terms and groups asks nothing of the history.
        if let Some(covered) = covered {
            object.insert(
                "history".into(),
                json!({
                    "since": rfc3339(since),
                    "state": if covered { "complete" } else { "warming" },
                    "durable": true,
                }),
            );
        }
        Some((free_key(&root, &self.pack.settings.output_key), Output::Object(object)))
    }

    fn skew(&self) -> i64 {
        i64::try_from(self.pack.settings.max_clock_skew_ms).expect("a skew of a test")
    }

    /// One entry for each alert that the rule raises before suppression: the alert's `new_terms`, or nothing for a rule
    /// that has none. Learns the tuples.
    fn new_terms(
        &mut self,
        index: usize,
        rule: &Rule,
        event: &Event,
        time: i64,
        identity: &str,
    ) -> Vec<(Option<Output>, bool)> {
        let Some(terms) = &rule.new_terms else {
            return vec![(None, false)];
        };
        let names: Vec<String> = terms.fields.iter().map(|field| self.name(*field)).collect();
        let sets: Vec<Vec<String>> = names.iter().map(|name| terms_of(event, name)).collect();
        let mut raised = Vec::new();
        for values in cartesian(&sets) {
            if let Some((seen_before, again)) = self.sighting(index, &values, time, terms.window_ms, identity) {
                let mut object = json!({
                    "fields": names,
                    "values": values,
                    "history_window": terms.window,
                    "reason": if seen_before.is_some() { "expired" } else { "never_seen" },
                });
                if let Some(last_seen) = seen_before {
                    object["last_seen"] = json!(rfc3339(last_seen));
                }
                raised.push((Some(object), again));
            }
        }
        raised
    }

    /// Learns one sighting. Nothing if the tuple was known; otherwise it is new, and the inner option says when it had
    /// been seen before, and the other part whether the same event said so before.
    fn sighting(
        &mut self,
        rule: usize,
        values: &[String],
        time: i64,
        window_ms: u64,
        identity: &str,
    ) -> Option<(Option<i64>, bool)> {
        self.clock.learned(time);
        let Some(known) = self.tuples.iter_mut().find(|tuple| tuple.rule == rule && tuple.values == values) else {
            self.tuples.push(KnownTuple {
                rule,
                values: values.to_vec(),
                last_seen: time,
                introduced_by: identity.to_owned(),
                seen_before: None,
            });
            return Some((None, false));
        };
        if i128::from(time) - i128::from(known.last_seen) > i128::from(window_ms) {
            known.seen_before = Some(known.last_seen);
            known.introduced_by = identity.to_owned();
            known.last_seen = time;
            return Some((known.seen_before, false));
        }
        if time > known.last_seen {
            known.last_seen = refreshed(time, window_ms);
        }
        (known.introduced_by == identity).then_some((known.seen_before, true))
    }

    /// What suppression makes of the alerts that a rule would raise on an event.
    fn grouped(&mut self, index: usize, rule: &Rule, event: &Event, time: i64, identity: &str) -> Grouped {
        let Some(suppression) = &rule.suppression else {
            return Grouped::Alert(None);
        };
        let fields = suppression.group_by.iter();
        let terms: Vec<Vec<String>> = fields.map(|field| terms_of(event, &self.name(*field))).collect();
        if suppression.missing == MissingFields::DoNotSuppress && terms.iter().any(Vec::is_empty) {
            return Grouped::Alert(None);
        }
        self.clock.learned(time);
        let names: Vec<String> = suppression.group_by.iter().map(|field| self.name(*field)).collect();
        let opened_at = |start: i64, again: bool| {
            let group = json!({
                "fields": names,
                "terms": terms.iter().map(|values| term_json(values)).collect::<Vec<_>>(),
                "start": rfc3339(start),
                "end": rfc3339(start),
                "count": 1,
            });
            Grouped::Alert(Some((group, again)))
        };
        let fresh = OpenGroup {
            rule: index,
            terms: terms.clone(),
            opened_by: identity.to_owned(),
            start: time,
            end: time,
            count: 1,
            period: None,
        };
        let mut groups = self.groups.iter_mut();
        let Some(group) = groups.find(|group| group.rule == index && group.terms == terms && group.period.is_none())
        else {
            self.groups.push(fresh);
            return opened_at(time, false);
        };
        let duration = i64::try_from(suppression.duration_ms).expect("a duration of a test");
        // An event older than the open group belongs to one gone by, of which there is one in each duration since 1970.
        let group = if group.opened_by != identity && time <= group.start - duration {
            let period = Some(time.div_euclid(duration));
            let mut bygone = self.groups.iter_mut();
            match bygone.find(|group| group.rule == index && group.terms == terms && group.period == period) {
                Some(group) => group,
                None => {
                    self.groups.push(OpenGroup { period, ..fresh });
                    return opened_at(time, false);
                }
            }
        } else {
            group
        };
        if group.opened_by == identity {
            opened_at(group.start, true)
        } else if time >= group.start + duration {
            *group = fresh;
            opened_at(time, false)
        } else {
            group.count += 1;
            group.end = group.end.max(time);
            let mut entry = json!({
                "rule_id": rule.id,
                "start": rfc3339(group.start),
                "end": rfc3339(group.end),
                "count": group.count,
            });
            if let Some(named) = event_json(event) {
                entry["event"] = named;
            }
            Grouped::Suppressed(entry)
        }
    }

    fn alert(
        &self,
        rule: &Rule,
        event: &Event,
        new_terms: Option<Output>,
        again: bool,
        group: Option<(Output, bool)>,
    ) -> Output {
        let AlertTexts { title, description, entities, details, threat } = &rule.alert;
        let mut alert = json!({
            "rule": {
                "id": rule.id,
                "name": rule.name,
                "version": rule.version,
                "type": if rule.new_terms.is_some() { "new_terms" } else { "query" },
            },
            "severity": match rule.severity {
                Severity::Low => "low",
                Severity::Medium => "medium",
                Severity::High => "high",
                Severity::Critical => "critical",
            },
            "risk_score": rule.risk_score,
            "title": match title {
                Some(template) => self.filled(template, event),
                None => rule.name.clone(),
            },
        });
        if rule.building_block {
            alert["building_block_type"] = json!("default");
        }
        if let Some(template) = description {
            alert["description"] = json!(self.filled(template, event));
        }
        if let Some(new_terms) = new_terms {
            alert["new_terms"] = new_terms;
        }
        let opened_before = group.as_ref().is_some_and(|(_, again)| *again);
        if again || opened_before {
            alert["again"] = json!(true);
        }
        if let Some(named) = event_json(event) {
            alert["event"] = named;
        }
        if let Some((suppression, _)) = group {
            alert["suppression"] = suppression;
        }
        let mut listed = Vec::new();
        for entity in entities {
            let mut attributes = self.named_values(&entity.attributes, event);
            let mut kind = entity.kind.as_str();
            if kind.eq_ignore_ascii_case("ip") {
                let named = entity.attributes.iter().find(|(name, _)| name == "address");
                let field = named.or(entity.attributes.first()).map(|(_, field)| self.name(*field));
                let text = field.and_then(|field| event.texts(&field).into_iter().next()).unwrap_or_default();
                if is_service(&text) {
                    kind = "service";
                    attributes = Map::from_iter([("name".to_owned(), json!(text))]);
                } else if text.parse::<IpAddr>().is_err() {
                    continue;
                }
            }
            if !attributes.is_empty() {
                let mut object = Map::new();
                object.insert("type".into(), json!(kind));
                object.extend(attributes);
                listed.push(Output::Object(object));
            }
        }
        if !listed.is_empty() {
            alert["entities"] = Output::Array(listed);
        }
        let details = self.named_values(details, event);
        if !details.is_empty() {
            alert["details"] = Output::Object(details);
        }
        if !threat.is_empty() {
            alert["threat"] = serde_json::from_str(threat).expect("the pack has JSON");
        }
        alert
    }

    /// Names of the rule's choice with the first values of their fields; a missing field leaves no name.
    fn named_values(&self, named: &[(String, FieldRef)], event: &Event) -> Map<String, Output> {
        let mut object = Map::new();
        for (name, field) in named {
            if let Some(first) = event.texts(&self.name(*field)).first() {
                object.insert(name.clone(), json!(first));
            }
        }
        object
    }

    fn filled(&self, template: &Template, event: &Event) -> String {
        let mut text = String::new();
        for part in &template.0 {
            match part {
                TemplatePart::Text(piece) => text.push_str(piece),
                TemplatePart::Field(field) => {
                    let texts = event.texts(&self.name(*field));
                    text.push_str(texts.first().map_or("", String::as_str));
                }
            }
        }
        text
    }

    fn name(&self, field: FieldRef) -> String {
        self.pack.fields[usize::from(field.0)].clone()
    }

    fn matches(&self, predicate: &Predicate, event: &Event) -> bool {
        match predicate {
            Predicate::All(parts) => parts.iter().all(|part| self.matches(part, event)),
            Predicate::Any(parts) => parts.iter().any(|part| self.matches(part, event)),
            Predicate::Not(part) => !self.matches(part, event),
            Predicate::Is(comparison) => {
                event.values(&self.name(comparison.field)).iter().any(|value| value.passes(comparison))
            }
        }
    }

    /// The rules that match a record and the term tuples each makes of it, history aside: what the batch definition
    /// searches. The event's time comes with it.
    pub(crate) fn tuples_of(&self, record: &[u8], arrival: i64) -> Vec<(usize, Vec<String>, i64, String)> {
        let Some(root) = std::str::from_utf8(record).ok().and_then(Json::read) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for event in envelope::events(&root, &self.pack.settings) {
            let time = whole_second(event.time().unwrap_or(arrival).min(arrival + self.skew()));
            for (index, rule) in self.pack.rules.iter().enumerate() {
                let Some(terms) = &rule.new_terms else {
                    continue;
                };
                if !self.matches(&rule.query, &event) {
                    continue;
                }
                let sets: Vec<Vec<String>> =
                    terms.fields.iter().map(|field| terms_of(&event, &self.name(*field))).collect();
                for values in cartesian(&sets) {
                    found.push((index, values, time, event.identity(record)));
                }
            }
        }
        found
    }
}

/// Which event of its record it is, if there may be several.
fn event_json(event: &Event) -> Option<Output> {
    let mut object = json!({ "index": event.number? });
    if let Some(id) = event.texts("event.id").first() {
        object["id"] = json!(id);
    }
    Some(object)
}

/// The batch definition of new terms, with all events at hand: a tuple of a rule is new in an event if no matching event
/// of an earlier time inside the window brought it, and no event before it in the list did so at the same time.
/// Out: for each record, the rule ids and values that are new, in the order of alerts. Suppression plays no part.
pub(crate) fn new_terms_in_batch(pack: &Pack, records: &[(Vec<u8>, i64)]) -> Vec<Vec<(String, Vec<String>)>> {
    let reader = Oracle::new(pack);
    let all: Vec<_> = records.iter().map(|(record, arrival)| reader.tuples_of(record, *arrival)).collect();
    let mut answers = Vec::new();
    for (position, tuples) in all.iter().enumerate() {
        let mut new = Vec::new();
        for (rule, values, time, _) in tuples {
            let window = pack.rules[*rule].new_terms.as_ref().expect("a new-terms rule").window_ms;
            let begin = *time - i64::try_from(window).expect("a window of a test");
            let known = all.iter().enumerate().any(|(other, others)| {
                others.iter().any(|(other_rule, other_values, other_time, _)| {
                    other_rule == rule
                        && other_values == values
                        && ((begin..*time).contains(other_time) || (other_time == time && other < position))
                })
            });
            if !known {
                new.push((pack.rules[*rule].id.clone(), values.clone()));
            }
        }
        answers.push(new);
    }
    answers
}

/// A group's term: the field's one value, several as a list, none as null.
fn term_json(values: &[String]) -> Output {
    match values {
        [] => Output::Null,
        [value] => json!(value),
        _ => json!(values),
    }
}

/// Every choice of one value from each set, the last set running fastest.
fn cartesian(sets: &[Vec<String>]) -> Vec<Vec<String>> {
    let mut tuples = vec![Vec::new()];
    for set in sets {
        tuples = tuples
            .iter()
            .flat_map(|tuple: &Vec<String>| {
                set.iter().map(|value| {
                    let mut longer = tuple.clone();
                    longer.push(value.clone());
                    longer
                })
            })
            .collect();
    }
    tuples
}

/// The output key, or the first of its numbered variants that the record's root does not use.
fn free_key(root: &Json, key: &str) -> String {
    let used = |name: &str| root.members().iter().any(|(member, _)| member.as_str() == name);
    if !used(key) {
        return key.to_owned();
    }
    (2..=9).map(|number| format!("{key}_{number}")).find(|name| !used(name)).unwrap_or_else(|| format!("{key}_9"))
}
