//! The oracle: what every record should come back with, worked out the slow and obvious way.
//!
//! In: a pack, and records with their arrival times, one after the other. Out: for each record the object that has to
//! stand under the output key, or nothing if the record has to come back as it came.
//! It shares the compiled rules' types with the engine and not a line of its code: the whole record becomes a tree that
//! keeps repeated keys, the history is a list of the actual strings, and every look-up goes through all of it.
//! Bounds: none; the history never forgets for lack of room. Not here: hostile input (the tree is read by recursion),
//! and records that are not UTF-8, which the caller must not ask about.

use std::net::IpAddr;

use firstseen_engine::rule::{
    AlertTexts, Comparison, Dialect, FieldRef, MissingFields, Pack, Predicate, Rule, Settings, Severity, Template,
    TemplatePart, Test,
};
use serde_json::value::RawValue;
use serde_json::{Map, Value as Output, json};

/// How far an event's time may run ahead of its arrival, in milliseconds: 15 minutes.
pub(crate) const CLOCK_SKEW_MS: i64 = 15 * 60 * 1000;

/// How many envelopes may stand inside each other: `detail` under the configured key.
const DEEPEST_SCOPE: usize = 2;

/// A pack at work: what it has seen so far, as the strings it has seen.
pub(crate) struct Oracle {
    pack: Pack,
    first_arrival: Option<i64>,
    tuples: Vec<KnownTuple>,
    groups: Vec<OpenGroup>,
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
    /// They are raised; with the group that they open, if there is one.
    Alert(Option<Output>),
    /// The group has alerted already.
    Suppressed(Output),
}

impl Oracle {
    pub(crate) fn new(pack: &Pack) -> Oracle {
        Oracle { pack: pack.clone(), first_arrival: None, tuples: Vec::new(), groups: Vec::new() }
    }

    /// The key and the object to be appended to `record`; nothing if it has to stay as it is.
    pub(crate) fn process(&mut self, record: &[u8], arrival: i64) -> Option<(String, Output)> {
        let since = *self.first_arrival.get_or_insert(arrival);
        let root = Json::read(std::str::from_utf8(record).ok()?)?;
        let event = Event::find(&root, &self.pack.settings)?;
        let time = event.time(arrival).min(arrival + CLOCK_SKEW_MS);
        let identity = event.identity(record);

        let mut alerts = Vec::new();
        let mut suppressed = Vec::new();
        let mut longest = 0;
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
            longest = window.chain(duration).fold(longest, u64::max);
            let group = match self.grouped(index, &rule, &event, time, &identity) {
                Grouped::Suppressed(entry) => {
                    suppressed.push(entry);
                    continue;
                }
                Grouped::Alert(group) => group,
            };
            for new_terms in raised {
                alerts.push(self.alert(&rule, &event, new_terms, group.clone()));
            }
        }
        if alerts.is_empty() && suppressed.is_empty() {
            return None;
        }

        let covered = i128::from(time) - i128::from(since) >= i128::from(longest);
        let mut object = Map::new();
        if !alerts.is_empty() {
            object.insert("alerts".into(), Output::Array(alerts));
        }
        if !suppressed.is_empty() {
            object.insert("suppressed".into(), Output::Array(suppressed));
        }
        object.insert(
            "history".into(),
            json!({
                "since": rfc3339(since),
                "state": if covered { "complete" } else { "warming" },
                "durable": false,
            }),
        );
        Some((free_key(&root, &self.pack.settings.output_key), Output::Object(object)))
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
    ) -> Vec<Option<Output>> {
        let Some(terms) = &rule.new_terms else {
            return vec![None];
        };
        let names: Vec<String> = terms.fields.iter().map(|field| self.name(*field)).collect();
        let sets: Vec<Vec<String>> = names.iter().map(|name| event.texts(name)).collect();
        let mut raised = Vec::new();
        for values in cartesian(&sets) {
            if let Some(seen_before) = self.sighting(index, &values, time, terms.window_ms, identity) {
                let mut object = json!({
                    "fields": names,
                    "values": values,
                    "history_window": terms.window,
                    "reason": if seen_before.is_some() { "expired" } else { "never_seen" },
                });
                if let Some(last_seen) = seen_before {
                    object["last_seen"] = json!(rfc3339(last_seen));
                }
                raised.push(Some(object));
            }
        }
        raised
    }

    /// Learns one sighting. Nothing if the tuple was known; otherwise it is new, and the inner option says when it had
    /// been seen before.
    fn sighting(
        &mut self,
        rule: usize,
        values: &[String],
        time: i64,
        window_ms: u64,
        identity: &str,
    ) -> Option<Option<i64>> {
        let Some(known) = self.tuples.iter_mut().find(|tuple| tuple.rule == rule && tuple.values == values) else {
            self.tuples.push(KnownTuple {
                rule,
                values: values.to_vec(),
                last_seen: time,
                introduced_by: identity.to_owned(),
                seen_before: None,
            });
            return Some(None);
        };
        if i128::from(time) - i128::from(known.last_seen) > i128::from(window_ms) {
            known.seen_before = Some(known.last_seen);
            known.introduced_by = identity.to_owned();
            known.last_seen = time;
            return Some(known.seen_before);
        }
        known.last_seen = known.last_seen.max(time);
        (known.introduced_by == identity).then_some(known.seen_before)
    }

    /// What suppression makes of the alerts that a rule would raise on an event.
    fn grouped(&mut self, index: usize, rule: &Rule, event: &Event, time: i64, identity: &str) -> Grouped {
        let Some(suppression) = &rule.suppression else {
            return Grouped::Alert(None);
        };
        let fields = suppression.group_by.iter();
        let terms: Vec<Vec<String>> = fields.map(|field| event.texts(&self.name(*field))).collect();
        if suppression.missing == MissingFields::DoNotSuppress && terms.iter().any(Vec::is_empty) {
            return Grouped::Alert(None);
        }
        let names: Vec<String> = suppression.group_by.iter().map(|field| self.name(*field)).collect();
        let opened_at = |start: i64| {
            Grouped::Alert(Some(json!({
                "fields": names,
                "terms": terms.iter().map(|values| term_json(values)).collect::<Vec<_>>(),
                "start": rfc3339(start),
                "end": rfc3339(start),
                "count": 1,
            })))
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
            return opened_at(time);
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
                    return opened_at(time);
                }
            }
        } else {
            group
        };
        if group.opened_by == identity {
            opened_at(group.start)
        } else if time >= group.start + duration {
            *group = fresh;
            opened_at(time)
        } else {
            group.count += 1;
            group.start = group.start.min(time);
            group.end = group.end.max(time);
            Grouped::Suppressed(json!({
                "rule_id": rule.id,
                "start": rfc3339(group.start),
                "end": rfc3339(group.end),
                "count": group.count,
            }))
        }
    }

    fn alert(&self, rule: &Rule, event: &Event, new_terms: Option<Output>, suppression: Option<Output>) -> Output {
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
        if let Some(template) = description {
            alert["description"] = json!(self.filled(template, event));
        }
        if let Some(new_terms) = new_terms {
            alert["new_terms"] = new_terms;
        }
        if let Some(suppression) = suppression {
            alert["suppression"] = suppression;
        }
        let mut listed = Vec::new();
        for entity in entities {
            let attributes = self.named_values(&entity.attributes, event);
            if !attributes.is_empty() {
                let mut object = Map::new();
                object.insert("type".into(), json!(entity.kind));
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
        let Some(event) = Event::find(&root, &self.pack.settings) else {
            return Vec::new();
        };
        let time = event.time(arrival).min(arrival + CLOCK_SKEW_MS);
        let mut found = Vec::new();
        for (index, rule) in self.pack.rules.iter().enumerate() {
            let Some(terms) = &rule.new_terms else {
                continue;
            };
            if !self.matches(&rule.query, &event) {
                continue;
            }
            let sets: Vec<Vec<String>> = terms.fields.iter().map(|field| event.texts(&self.name(*field))).collect();
            for values in cartesian(&sets) {
                found.push((index, values, time, event.identity(record)));
            }
        }
        found
    }
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

// The event: which part of the record it is, and where each field stands in it.

/// A CloudTrail event inside a record.
struct Event {
    scope: Json,
    /// What is around the scope, nearest first.
    around: Vec<Json>,
    dialect: Dialect,
    as_organization_key: Option<String>,
}

impl Event {
    /// The deepest scope that holds an event: the root, what is in `detail` or the configured key, what is in those again.
    fn find(root: &Json, settings: &Settings) -> Option<Event> {
        if !matches!(root.kind, Kind::Object(_)) {
            return None;
        }
        let mut scopes = vec![root.clone()];
        for depth in 1..=DEEPEST_SCOPE {
            scopes.push(scopes[depth - 1].inside_envelopes(settings.event_root.as_deref()));
        }
        while let Some(scope) = scopes.pop() {
            if let Some(dialect) = dialect_of(&scope, settings.dialect) {
                let around = scopes.into_iter().rev().collect();
                return Some(Event {
                    scope,
                    around,
                    dialect,
                    as_organization_key: settings.as_organization_key.clone(),
                });
            }
        }
        None
    }

    /// When it happened, or when it arrived if it does not say so legibly.
    fn time(&self, arrival: i64) -> i64 {
        let path = match self.dialect {
            Dialect::CloudTrail => "eventTime",
            Dialect::Ecs => "@timestamp",
            Dialect::Sentinel => "TimeGenerated",
        };
        let Some(value) = self.scope.values_at(path).into_iter().next() else {
            return arrival;
        };
        let read = match value.kind {
            ValueKind::Text => read_time(&value.text),
            ValueKind::Number if self.dialect == Dialect::Ecs => value
                .text
                .parse::<f64>()
                .ok()
                .map(|number| if number.abs() >= 1e11 { number as i64 } else { (number * 1000.0) as i64 }),
            _ => None,
        };
        read.unwrap_or(arrival)
    }

    /// What tells this event from any other: its id, or else all its bytes.
    fn identity(&self, record: &[u8]) -> String {
        match self.texts("event.id").first() {
            Some(id) => format!("id {id}"),
            None => format!("bytes {}", String::from_utf8_lossy(record)),
        }
    }

    /// The distinct values of a field as text, in order of appearance.
    fn texts(&self, name: &str) -> Vec<String> {
        let mut texts: Vec<String> = Vec::new();
        for value in self.values(name) {
            if !texts.contains(&value.text) {
                texts.push(value.text);
            }
        }
        texts
    }

    /// The values of an ECS field (or one of the Sentinel detection's derived columns).
    fn values(&self, name: &str) -> Vec<Value> {
        match name {
            "event.dataset" | "data_stream.dataset" => return vec![Value::text("aws.cloudtrail")],
            "event.module" => return vec![Value::text("aws")],
            "source.as.organization.name" => return self.as_organization(),
            "sentinel.account_name" => return one(self.account().0),
            "sentinel.account_upn_suffix" | "sentinel.upn_suffix" => return one(self.account().1),
            "sentinel.user_identity_account_id" => {
                return match self.dialect {
                    Dialect::CloudTrail => self.at("userIdentity.accountId"),
                    Dialect::Sentinel => self.at("UserIdentityAccountId"),
                    Dialect::Ecs => self.at("cloud.account.id"),
                };
            }
            "sentinel.user_identity_user_name" => {
                return match self.dialect {
                    Dialect::CloudTrail => self.at("userIdentity.userName"),
                    Dialect::Sentinel => self.at("UserIdentityUserName"),
                    Dialect::Ecs if self.has_role_name() => Vec::new(),
                    Dialect::Ecs => self.at("user.name"),
                };
            }
            "sentinel.additional_event_data" => {
                return self.json_text(
                    "additionalEventData",
                    "AdditionalEventData",
                    "aws.cloudtrail.additional_eventdata",
                );
            }
            "sentinel.response_elements" => {
                return self.json_text("responseElements", "ResponseElements", "aws.cloudtrail.response_elements");
            }
            _ => {}
        }
        match self.dialect {
            Dialect::Ecs => self.at(name),
            Dialect::CloudTrail => self.cloudtrail(name),
            Dialect::Sentinel => self.sentinel(name),
        }
    }

    fn at(&self, path: &str) -> Vec<Value> {
        self.scope.values_at(path)
    }

    fn first(&self, path: &str) -> String {
        let values = self.at(path);
        values.first().map_or(String::new(), |v| v.text.clone())
    }

    fn cloudtrail(&self, name: &str) -> Vec<Value> {
        let path = match name {
            "event.outcome" => {
                let login = self.at("responseElements.ConsoleLogin");
                return self.outcome("errorCode", "errorMessage", "eventName", login);
            }
            "cloud.account.id" => {
                return self.either("userIdentity.accountId", "recipientAccountId");
            }
            "user.name" => {
                let moved = self.at("additionalEventData.UserName");
                return self.user_name(
                    "userIdentity.userName",
                    "userIdentity.sessionContext.sessionIssuer.userName",
                    "eventName",
                    moved,
                );
            }
            "user.id" => {
                let principal = self.at("userIdentity.principalId");
                if principal.is_empty() && self.first("userIdentity.type") == "IdentityCenterUser" {
                    return self.at("userIdentity.onBehalfOf.userId");
                }
                return principal;
            }
            "source.ip" => return addresses(self.at("sourceIPAddress")),
            "@timestamp" => "eventTime",
            "event.action" => "eventName",
            "event.provider" => "eventSource",
            "event.id" => "eventID",
            "aws.cloudtrail.user_identity.type" => "userIdentity.type",
            "aws.cloudtrail.user_identity.arn" => "userIdentity.arn",
            "aws.cloudtrail.user_identity.access_key_id" => "userIdentity.accessKeyId",
            "aws.cloudtrail.user_identity.invoked_by" => "userIdentity.invokedBy",
            "aws.cloudtrail.user_identity.session_context.mfa_authenticated" => {
                "userIdentity.sessionContext.attributes.mfaAuthenticated"
            }
            "aws.cloudtrail.user_identity.session_context.session_issuer.arn" => {
                "userIdentity.sessionContext.sessionIssuer.arn"
            }
            "user_agent.original" => "userAgent",
            "source.address" => "sourceIPAddress",
            "cloud.region" => "awsRegion",
            "aws.cloudtrail.error_code" => "errorCode",
            "aws.cloudtrail.error_message" => "errorMessage",
            "aws.cloudtrail.recipient_account_id" => "recipientAccountId",
            "aws.cloudtrail.event_type" => "eventType",
            "aws.cloudtrail.event_category" => "eventCategory",
            "aws.cloudtrail.resources.arn" => "resources.ARN",
            "aws.cloudtrail.resources.account_id" => "resources.accountId",
            "aws.cloudtrail.resources.type" => "resources.type",
            "aws.cloudtrail.read_only" => "readOnly",
            other => panic!("the oracle does not know where CloudTrail keeps {other}"),
        };
        self.at(path)
    }

    fn sentinel(&self, name: &str) -> Vec<Value> {
        let path = match name {
            "event.outcome" => {
                let login = self.text_column("ResponseElements", "ConsoleLogin");
                return self.outcome("ErrorCode", "ErrorMessage", "EventName", login);
            }
            "cloud.account.id" => return self.either("UserIdentityAccountId", "RecipientAccountId"),
            "user.name" => {
                let moved = self.text_column("AdditionalEventData", "UserName");
                return self.user_name("UserIdentityUserName", "SessionIssuerUserName", "EventName", moved);
            }
            "user.id" => {
                let principal = self.at("UserIdentityPrincipalid");
                if principal.is_empty() && self.first("UserIdentityType") == "IdentityCenterUser" {
                    return self.at("UserIdentityUserId");
                }
                return principal;
            }
            "source.ip" => return addresses(self.at("SourceIpAddress")),
            "aws.cloudtrail.resources.arn" => return self.text_column("Resources", "ARN"),
            "aws.cloudtrail.resources.account_id" => {
                return self.text_column("Resources", "accountId");
            }
            "aws.cloudtrail.resources.type" => return self.text_column("Resources", "type"),
            "@timestamp" => "TimeGenerated",
            "event.action" => "EventName",
            "event.provider" => "EventSource",
            "event.id" => "AwsEventId",
            "aws.cloudtrail.user_identity.type" => "UserIdentityType",
            "aws.cloudtrail.user_identity.arn" => "UserIdentityArn",
            "aws.cloudtrail.user_identity.access_key_id" => "UserIdentityAccessKeyId",
            "aws.cloudtrail.user_identity.invoked_by" => "UserIdentityInvokedBy",
            "aws.cloudtrail.user_identity.session_context.mfa_authenticated" => "SessionMfaAuthenticated",
            "aws.cloudtrail.user_identity.session_context.session_issuer.arn" => "SessionIssuerArn",
            "user_agent.original" => "UserAgent",
            "source.address" => "SourceIpAddress",
            "cloud.region" => "AWSRegion",
            "aws.cloudtrail.error_code" => "ErrorCode",
            "aws.cloudtrail.error_message" => "ErrorMessage",
            "aws.cloudtrail.recipient_account_id" => "RecipientAccountId",
            "aws.cloudtrail.event_type" => "EventTypeName",
            "aws.cloudtrail.event_category" => "Category",
            "aws.cloudtrail.read_only" => "ReadOnly",
            other => panic!("the oracle does not know where Sentinel keeps {other}"),
        };
        self.at(path)
    }

    /// Values inside a column that holds JSON text.
    fn text_column(&self, column: &str, path: &str) -> Vec<Value> {
        self.at(column).iter().filter_map(|text| Json::read(&text.text)).flat_map(|json| json.values_at(path)).collect()
    }

    fn either(&self, path: &str, otherwise: &str) -> Vec<Value> {
        let values = self.at(path);
        if values.is_empty() { self.at(otherwise) } else { values }
    }

    fn outcome(&self, error_code: &str, error_message: &str, action: &str, console_login: Vec<Value>) -> Vec<Value> {
        if self.first(action) == "ConsoleLogin"
            && let Some(login) = console_login.first()
        {
            return vec![Value::text(&login.text.to_ascii_lowercase())];
        }
        let failed = !self.at(error_code).is_empty() || !self.at(error_message).is_empty();
        vec![Value::text(if failed { "failure" } else { "success" })]
    }

    fn user_name(&self, own: &str, issuer: &str, action: &str, moved: Vec<Value>) -> Vec<Value> {
        let issuer = self.at(issuer);
        if self.has_role_name() && !issuer.is_empty() {
            return issuer;
        }
        let own = self.at(own);
        if own.is_empty() && self.first(action) == "UserAuthentication" {
            return moved;
        }
        own
    }

    /// Whether `user.name` is the session issuer's.
    fn has_role_name(&self) -> bool {
        let path = match self.dialect {
            Dialect::CloudTrail => "userIdentity.type",
            Dialect::Sentinel => "UserIdentityType",
            Dialect::Ecs => "aws.cloudtrail.user_identity.type",
        };
        matches!(self.first(path).as_str(), "AssumedRole" | "FederatedUser")
    }

    /// The AS organisation: upstream's field or the operator's key, beside the event or else in the nearest place around it.
    fn as_organization(&self) -> Vec<Value> {
        for place in std::iter::once(&self.scope).chain(&self.around) {
            let mut values = place.values_at("source.as.organization.name");
            if let Some(key) = &self.as_organization_key {
                values.extend(place.values_at(key));
            }
            if !values.is_empty() {
                return values;
            }
        }
        Vec::new()
    }

    /// The Sentinel detection's AccountName and AccountUPNSuffix, step by step as its query has them.
    fn account(&self) -> (String, String) {
        let (own_arn, first_resource, principal) = match self.dialect {
            Dialect::CloudTrail => (
                self.first("userIdentity.arn"),
                self.first_resource(self.scope.arrays_at("resources")),
                self.first("userIdentity.principalId"),
            ),
            Dialect::Sentinel => {
                let text = self.first("Resources");
                let array = Json::read(&text).and_then(|json| match json.kind {
                    Kind::Array(items) => Some(items),
                    _ => None,
                });
                (self.first("UserIdentityArn"), self.first_resource(array), self.first("UserIdentityPrincipalid"))
            }
            Dialect::Ecs => (
                self.first("aws.cloudtrail.user_identity.arn"),
                self.first("aws.cloudtrail.resources.arn"),
                self.first("user.id"),
            ),
        };
        let arn = if own_arn.is_empty() { first_resource } else { own_arn };
        let last_part = arn.rsplit('/').next().unwrap_or("").to_owned();
        let own_name = self.texts("sentinel.user_identity_user_name").first().cloned().unwrap_or_default();
        let name = if principal == "Anonymous" {
            "Anonymous".to_owned()
        } else if own_name.is_empty() {
            last_part
        } else {
            own_name
        };
        if name.contains('@') {
            let pieces: Vec<&str> = name.split('@').collect();
            (pieces[0].to_owned(), pieces[1].to_owned())
        } else {
            (name, String::new())
        }
    }

    fn first_resource(&self, array: Option<Vec<Json>>) -> String {
        let Some(Some(first)) = array.map(|items| items.into_iter().next()) else {
            return String::new();
        };
        let arns = first.values_at("ARN");
        arns.first().map_or(String::new(), |v| v.text.clone())
    }

    /// The Sentinel columns that hold an object as compact JSON text.
    fn json_text(&self, cloudtrail: &str, sentinel: &str, ecs: &str) -> Vec<Value> {
        let path = match self.dialect {
            Dialect::CloudTrail => cloudtrail,
            Dialect::Sentinel => sentinel,
            Dialect::Ecs => ecs,
        };
        let there = self.scope.at(path);
        let texts = there.iter().filter(|json| !json.is_nothing()).map(|json| match &json.kind {
            Kind::Text(text) => Value::text(text),
            _ => Value::text(&compact(&json.raw)),
        });
        texts.collect()
    }
}

fn one(text: String) -> Vec<Value> {
    if text.is_empty() { Vec::new() } else { vec![Value::text(&text)] }
}

fn addresses(values: Vec<Value>) -> Vec<Value> {
    values.into_iter().filter(|value| value.text.parse::<IpAddr>().is_ok()).collect()
}

fn dialect_of(scope: &Json, only: Option<Dialect>) -> Option<Dialect> {
    let has = |path: &str| !scope.values_at(path).is_empty();
    let is_ecs = || {
        let mut datasets = scope.values_at("event.dataset");
        datasets.extend(scope.values_at("data_stream.dataset"));
        match datasets.is_empty() {
            true => has("event.provider") && has("event.action"),
            false => datasets.iter().any(|value| value.text == "aws.cloudtrail"),
        }
    };
    let found = if has("eventSource") && has("eventName") {
        Dialect::CloudTrail
    } else if has("EventSource") && has("EventName") {
        Dialect::Sentinel
    } else if is_ecs() {
        Dialect::Ecs
    } else {
        return None;
    };
    match only {
        None => Some(found),
        Some(Dialect::CloudTrail) => (has("eventSource") && has("eventName")).then_some(Dialect::CloudTrail),
        Some(Dialect::Sentinel) => (has("EventSource") && has("EventName")).then_some(Dialect::Sentinel),
        Some(Dialect::Ecs) => is_ecs().then_some(Dialect::Ecs),
    }
}

// Values and comparisons.

/// One value of a field.
#[derive(Debug, Clone, PartialEq)]
struct Value {
    kind: ValueKind,
    /// The text itself, or the number or boolean as it was written.
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum ValueKind {
    Text,
    Number,
    Boolean,
}

impl Value {
    fn text(text: &str) -> Value {
        Value { kind: ValueKind::Text, text: text.to_owned() }
    }

    fn passes(&self, comparison: &Comparison) -> bool {
        let fold = |text: &str| {
            if comparison.ignore_case { text.to_ascii_lowercase() } else { text.to_owned() }
        };
        match &comparison.test {
            Test::Exists => true,
            Test::Equals(literal) => match (self.kind, literal.parse::<f64>()) {
                (ValueKind::Number, Ok(literal)) => self.text.parse::<f64>() == Ok(literal),
                _ => fold(&self.text) == fold(literal),
            },
            Test::Wildcard(parts) => {
                let parts: Vec<String> = parts.iter().map(|part| fold(part)).collect();
                fits(&fold(&self.text), &parts)
            }
            Test::Range(op, bound) => {
                let order = match (self.text.parse::<f64>(), bound.parse::<f64>()) {
                    (Ok(value), Ok(bound)) => value.partial_cmp(&bound),
                    _ => match (read_time(&self.text), read_time(bound)) {
                        (Some(value), Some(bound)) => Some(value.cmp(&bound)),
                        _ => Some(self.text.as_bytes().cmp(bound.as_bytes())),
                    },
                };
                order.is_some_and(|order| op.accepts(order))
            }
            Test::Cidr(network) => in_network(&self.text, network),
        }
    }
}

/// Whether the text is the first part, the last part, and the others in between with anything around them.
fn fits(text: &str, parts: &[String]) -> bool {
    let [first, rest @ ..] = parts else {
        return false;
    };
    let Some(text) = text.strip_prefix(first.as_str()) else {
        return false;
    };
    if rest.is_empty() {
        return text.is_empty();
    }
    text.char_indices().map(|(at, _)| at).chain([text.len()]).any(|at| fits(&text[at..], rest))
}

fn in_network(text: &str, network: &str) -> bool {
    let Some((base, bits)) = network.split_once('/') else {
        return false;
    };
    let bits_of = |text: &str| {
        text.parse::<IpAddr>().ok().map(|address| match address {
            IpAddr::V4(v4) => format!("{:032b}", u32::from(v4)),
            IpAddr::V6(v6) => format!("{:0128b}", u128::from(v6)),
        })
    };
    let (Some(address), Some(base), Ok(bits)) = (bits_of(text), bits_of(base), bits.parse::<usize>()) else {
        return false;
    };
    address.len() == base.len() && address.get(..bits) == base.get(..bits)
}

// Times.

const DAY_MS: i64 = 86_400_000;

fn is_leap(year: i64) -> bool {
    (year % 4 == 0 && year % 100 != 0) || year % 400 == 0
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to the first day of a year, counted one year at a time.
fn days_to_year(year: i64) -> i64 {
    let length = |year| if is_leap(year) { 366 } else { 365 };
    if year >= 1970 { (1970..year).map(length).sum() } else { -(year..1970).map(length).sum::<i64>() }
}

/// Milliseconds since 1970 of `2026-10-30T12:00:00.5Z` and its kind.
pub(crate) fn read_time(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let digits = |from: usize, to: usize| -> Option<i64> {
        let part = bytes.get(from..to)?;
        part.iter().all(u8::is_ascii_digit).then(|| text[from..to].parse().ok())?
    };
    let is = |at: usize, among: &[u8]| bytes.get(at).is_some_and(|byte| among.contains(byte));
    if !(is(4, b"-") && is(7, b"-") && is(10, b"T ") && is(13, b":") && is(16, b":")) {
        return None;
    }
    let (year, month, day) = (digits(0, 4)?, digits(5, 7)?, digits(8, 10)?);
    let (hour, minute, second) = (digits(11, 13)?, digits(14, 16)?, digits(17, 19)?);
    if !(1..=12).contains(&month) || !(1..=days_in_month(year, month)).contains(&day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut at = 19;
    let mut millis = 0;
    if is(at, b".") {
        let from = at + 1;
        at = from;
        while bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        if at == from {
            return None;
        }
        let fraction = format!("{}000", &text[from..at]);
        millis = fraction[..3].parse().ok()?;
    }
    let offset_minutes = match &bytes[at..] {
        [] | [b'Z'] => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let minutes = digits(at + 1, at + 3)? * 60 + digits(at + 4, at + 6)?;
            if *sign == b'+' { minutes } else { -minutes }
        }
        [sign @ (b'+' | b'-'), _, _, _, _] => {
            let minutes = digits(at + 1, at + 3)? * 60 + digits(at + 3, at + 5)?;
            if *sign == b'+' { minutes } else { -minutes }
        }
        _ => return None,
    };
    let days = days_to_year(year) + (1..month).map(|m| days_in_month(year, m)).sum::<i64>() + (day - 1);
    Some(days * DAY_MS + ((hour * 60 + minute - offset_minutes) * 60 + second) * 1000 + millis)
}

/// The time as alerts write it: UTC, with milliseconds only if there are some.
pub(crate) fn rfc3339(millis: i64) -> String {
    let mut days = millis.div_euclid(DAY_MS);
    let rest = millis.rem_euclid(DAY_MS);
    let mut year = 1970 + days.div_euclid(366).min(0);
    while days_to_year(year + 1) <= days {
        year += 1;
    }
    days -= days_to_year(year);
    let mut month = 1;
    while days >= days_in_month(year, month) {
        days -= days_in_month(year, month);
        month += 1;
    }
    let (seconds, fraction) = (rest / 1000, rest % 1000);
    let fraction = match fraction {
        0 => String::new(),
        millis => format!(".{millis:03}"),
    };
    format!(
        "{year:04}-{month:02}-{:02}T{:02}:{:02}:{:02}{fraction}Z",
        days + 1,
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
    )
}

// The record as a tree.

/// A JSON value with its text, and with every key as often as it stands there.
#[derive(Debug, Clone, PartialEq)]
struct Json {
    raw: String,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    Null,
    Boolean,
    Number,
    Text(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    fn read(text: &str) -> Option<Json> {
        let raw: Box<RawValue> = serde_json::from_str(text).ok()?;
        Json::from_raw(&raw)
    }

    fn from_raw(raw: &RawValue) -> Option<Json> {
        let text = raw.get();
        let kind = match text.as_bytes().first()? {
            b'n' => Kind::Null,
            b't' | b'f' => Kind::Boolean,
            b'"' => Kind::Text(serde_json::from_str(text).ok()?),
            b'[' => {
                let items: Vec<Box<RawValue>> = serde_json::from_str(text).ok()?;
                Kind::Array(items.iter().map(|item| Json::from_raw(item)).collect::<Option<_>>()?)
            }
            b'{' => {
                let members: Members = serde_json::from_str(text).ok()?;
                Kind::Object(
                    members
                        .0
                        .iter()
                        .map(|(key, value)| Some((key.clone(), Json::from_raw(value)?)))
                        .collect::<Option<_>>()?,
                )
            }
            _ => Kind::Number,
        };
        Some(Json { raw: text.to_owned(), kind })
    }

    fn members(&self) -> &[(String, Json)] {
        match &self.kind {
            Kind::Object(members) => members,
            _ => &[],
        }
    }

    /// null, "", {} and [].
    fn is_nothing(&self) -> bool {
        match &self.kind {
            Kind::Null => true,
            Kind::Text(text) => text.is_empty(),
            Kind::Array(items) => items.is_empty(),
            Kind::Object(members) => members.is_empty(),
            _ => false,
        }
    }

    /// Everything that stands at a dotted path, its levels nested, joined by dots in one key, or a mix.
    fn at(&self, path: &str) -> Vec<Json> {
        if path.is_empty() {
            return vec![self.clone()];
        }
        match &self.kind {
            Kind::Array(items) => items.iter().flat_map(|item| item.at(path)).collect(),
            Kind::Object(members) => members
                .iter()
                .flat_map(|(key, value)| {
                    if key == path {
                        value.at("")
                    } else if let Some(rest) = path.strip_prefix(key.as_str()).and_then(|rest| rest.strip_prefix('.')) {
                        value.at(rest)
                    } else {
                        Vec::new()
                    }
                })
                .collect(),
            _ => Vec::new(),
        }
    }

    /// The scalar values at a dotted path; arrays are sets, and objects are no values.
    fn values_at(&self, path: &str) -> Vec<Value> {
        self.at(path).iter().flat_map(Json::scalars).collect()
    }

    fn scalars(&self) -> Vec<Value> {
        if self.is_nothing() {
            return Vec::new();
        }
        match &self.kind {
            Kind::Text(text) => vec![Value::text(text)],
            Kind::Number => vec![Value { kind: ValueKind::Number, text: self.raw.clone() }],
            Kind::Boolean => vec![Value { kind: ValueKind::Boolean, text: self.raw.clone() }],
            Kind::Array(items) => items.iter().flat_map(Json::scalars).collect(),
            _ => Vec::new(),
        }
    }

    fn arrays_at(&self, path: &str) -> Option<Vec<Json>> {
        self.at(path).into_iter().find_map(|json| match json.kind {
            Kind::Array(items) => Some(items),
            _ => None,
        })
    }

    /// The members of all objects under `detail` and under the configured key, there as JSON text as well.
    fn inside_envelopes(&self, event_root: Option<&str>) -> Json {
        let mut members = Vec::new();
        for inner in self.at("detail") {
            members.extend_from_slice(inner.members());
        }
        for inner in event_root.map_or(Vec::new(), |key| self.at(key)) {
            match &inner.kind {
                Kind::Text(text) => {
                    members.extend(Json::read(text).iter().flat_map(|json| json.members().to_vec()));
                }
                _ => members.extend_from_slice(inner.members()),
            }
        }
        Json { raw: String::new(), kind: Kind::Object(members) }
    }
}

/// JSON text without the white space between its tokens.
fn compact(raw: &str) -> String {
    let mut out = String::new();
    let mut in_text = false;
    let mut escaped = false;
    for character in raw.chars() {
        if in_text {
            in_text = escaped || character != '"';
            escaped = !escaped && character == '\\';
        } else if character == '"' {
            in_text = true;
        } else if character.is_ascii_whitespace() {
            continue;
        }
        out.push(character);
    }
    out
}

/// The members of an object in order, repeated keys included.
pub(crate) struct Members(pub(crate) Vec<(String, Box<RawValue>)>);

impl<'de> serde::Deserialize<'de> for Members {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Members, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}
