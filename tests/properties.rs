//! Properties over random streams of records.
//!
//! In: streams of few identities, organisations and times, so that they meet again, in all dialects and envelopes, written
//! with odd spacing, escapes, shuffled, repeated and irrelevant keys. Out: agreement of the engine with the oracle, of the
//! oracle with the batch definition, of the engine with itself without its prefilter, and of the module with the engine.
//! Bounds: a redelivered record arrives at the time of its first delivery, because one whose own time cannot be read would
//! otherwise be another event. Not here: hostile bytes.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use firstseen::guest::Generation;
use firstseen_engine::rule::Pack;
use proptest::prelude::*;
use serde_json::Value;

use crate::oracle::{Oracle, new_terms_in_batch, rfc3339};
use crate::subjects::{Calls, Guest, Native, Subject, annotation, compiled};

/// 2026-10-01T00:00:00Z.
const BEGIN: i64 = 1_790_812_800_000;
const MINUTE: i64 = 60_000;

const SETTINGS: &str = r#"
event_root = "log.event"
as_organization_key = "geoip.as_org"
[rules."30fbf4db-c502-4e68-a239-2e99af0f70da"]
history_window = "3d"
exceptions = ['user_agent.original: *monitor*']
"#;

const OWN_NEW_TERMS: &str = r#"
[rule]
rule_id = "own-new-terms"
name = "Three fields"
type = "new_terms"
language = "kuery"
severity = "high"
risk_score = 73
query = 'event.action: (Get* or ListUsers) and not aws.cloudtrail.user_identity.type: Root'
[rule.new_terms]
field = "new_terms_fields"
value = ["cloud.account.id", "cloud.region", "aws.cloudtrail.resources.arn"]
[[rule.new_terms.history_window_start]]
field = "history_window_start"
value = "now-36h"
[firstseen]
details = { outcome = "event.outcome", agent = "user_agent.original" }
"#;

const OWN_QUERY: &str = r#"
[rule]
rule_id = "own-query"
name = "Grouped"
type = "query"
language = "kuery"
severity = "low"
risk_score = 1
query = 'source.ip: "198.51.100.0/24" and event.outcome: failure or aws.cloudtrail.read_only: true and aws.cloudtrail.error_code > 400'
[rule.alert_suppression]
group_by = ["cloud.region", "event.action"]
duration = { value = 6, unit = "h" }
missing_fields_strategy = "doNotSuppress"
"#;

/// The packs that streams run through: the built-in rules alone, and with settings and own rules.
fn packs() -> &'static [Pack; 2] {
    static PACKS: OnceLock<[Pack; 2]> = OnceLock::new();
    PACKS.get_or_init(|| {
        let own = [OWN_NEW_TERMS.to_owned(), OWN_QUERY.to_owned()];
        [compiled(None, &[]), compiled(Some(SETTINGS), &own)]
    })
}

/// What a random event says; small numbers are indices into short lists, so that events meet.
#[derive(Debug, Clone)]
struct Sketch {
    dialect: usize,
    envelope: usize,
    action: usize,
    provider: usize,
    identity_type: usize,
    identity: usize,
    organization: usize,
    principal: usize,
    region: usize,
    agent: usize,
    address: usize,
    error: usize,
    resources: usize,
    /// Minutes after [`BEGIN`]; nothing if the event does not say when.
    time: Option<i64>,
    /// Whether the event has an id of its own, none, or one that others share.
    id: usize,
    /// How it is written; 0 is plain and compact.
    style: u64,
}

/// An index below `n`, most often 0.
fn mostly_first(n: usize) -> impl Strategy<Value = usize> {
    prop_oneof![3 => Just(0), 2 => 0..n]
}

fn sketch() -> impl Strategy<Value = Sketch> {
    let first = mostly_first;
    let says_what = (0..3_usize, first(10), first(6), first(4), first(5), 0..5_usize);
    let says_where = (0..6_usize, first(4), first(4), first(4), first(4), first(4), first(5));
    // Around the ends of windows and durations, so that some expire and some do not.
    let days = prop::sample::select(vec![0_i64, 0, 1, 2, 4, 10, 11, 25]);
    let in_days = (days, 0..30_i64).prop_map(|(days, hours)| Some((days * 24 + hours) * 60));
    let time = prop_oneof![9 => in_days, 1 => (0..60_000_i64).prop_map(Some), 1 => Just(None)];
    let style = prop_oneof![2 => Just(0_u64), 3 => any::<u64>()];
    (says_what, says_where, time, 0..8_usize, style).prop_map(|(what, place, time, id, style)| Sketch {
        dialect: what.0,
        envelope: what.1,
        action: what.2,
        provider: what.3,
        identity_type: what.4,
        identity: what.5,
        organization: place.0,
        principal: place.1,
        region: place.2,
        agent: place.3,
        address: place.4,
        error: place.5,
        resources: place.6,
        time,
        id,
        style,
    })
}

/// A record as it comes in.
#[derive(Clone)]
struct Delivered {
    record: Vec<u8>,
    /// Milliseconds since 1970.
    arrival: i64,
}

impl std::fmt::Debug for Delivered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "at {}: {}", rfc3339(self.arrival), String::from_utf8_lossy(&self.record))
    }
}

/// One delivery: a new event, several in one record in one of the [`FORMS`], or an earlier one again.
#[derive(Debug, Clone)]
enum Delivery {
    New(Sketch),
    Many(Vec<Sketch>, usize),
    Again(prop::sample::Index),
}

fn stream(longest: usize) -> impl Strategy<Value = Vec<Delivered>> {
    let delivery = prop_oneof![
        8 => sketch().prop_map(Delivery::New),
        2 => (prop::collection::vec(sketch(), 1..4), 0..FORMS).prop_map(|(sketches, form)| Delivery::Many(sketches, form)),
        1 => any::<prop::sample::Index>().prop_map(Delivery::Again),
    ];
    (prop::collection::vec(delivery, 1..longest), 0..45_i64 * 1440).prop_map(|(deliveries, late)| {
        let mut records: Vec<Delivered> = Vec::new();
        for (number, delivery) in deliveries.into_iter().enumerate() {
            let record = match delivery {
                Delivery::New(sketch) => sketch.delivered(number, late),
                Delivery::Many(sketches, form) => many(&sketches, form, number, late),
                Delivery::Again(_) if records.is_empty() => continue,
                Delivery::Again(which) => which.get(&records).clone(),
            };
            records.push(record);
        }
        records
    })
}

/// Events with ids of their own and legible times, in the order of their times, each delivered once.
fn stream_in_order(longest: usize) -> impl Strategy<Value = Vec<Delivered>> {
    prop::collection::vec(sketch(), 1..longest).prop_map(|mut sketches| {
        for sketch in &mut sketches {
            sketch.time = sketch.time.or(Some(0));
            sketch.id = 7;
        }
        sketches.sort_by_key(|sketch| sketch.time);
        let numbered = sketches.iter().enumerate();
        numbered.map(|(number, sketch)| sketch.delivered(number, 50 * 1440)).collect()
    })
}

const ACTIONS: [&str; 6] = [
    "GetCallerIdentity",
    "GetCallerIdentity",
    "GetCallerIdentity",
    "getcalleridentity",
    "ListUsers",
    "GetCallerIdentityX",
];
const PROVIDERS: [&str; 4] = ["sts.amazonaws.com", "sts.amazonaws.com", "sts.amazonaws.com", "iam.amazonaws.com"];
const TYPES: [&str; 5] = ["AssumedRole", "AssumedRole", "IAMUser", "assumedrole", "FederatedUser"];
const ARNS: [&str; 5] = [
    "arn:aws:sts::1:assumed-role/web/i-0a",
    "arn:aws:sts::1:assumed-role/web/i-0b",
    "arn:aws:iam::1:user/bob@example.com",
    "",
    "arn:aws:iam::1:user/ä\"\\/😀",
];
const ORGANIZATIONS: [&str; 6] =
    ["", "Example Hosting", "Example Hosting", "Other \"Net\"", "AMAZON-02", "MongoDB, Inc."];
const PRINCIPALS: [&str; 4] = ["AROA:i-0a", "AROA:i-0b", "AROA:alice", "Anonymous"];
const REGIONS: [&str; 4] = ["eu-central-1", "eu-central-1", "us-east-1", ""];
const AGENTS: [&str; 4] = ["aws-cli/2", "curl", "a monitor", ""];
const ADDRESSES: [&str; 4] = ["198.51.100.7", "198.51.100.8", "AWS Internal", "2001:db8::1"];

impl Sketch {
    /// The event, as one of its dialect.
    fn event(&self, number: usize, dice: &mut Dice) -> Node {
        let mut event = match self.dialect {
            0 => self.cloudtrail(number),
            1 => self.ecs(number),
            _ => self.sentinel(number),
        };
        if self.style != 0 {
            event.disturb(dice);
            if dice.one_in(4) {
                event.text_inside(dice);
            }
        }
        event
    }

    /// The record of the event, `late` minutes after [`BEGIN`] and in the order of its number.
    fn delivered(&self, number: usize, late: i64) -> Delivered {
        let mut dice = Dice(self.style);
        let event = self.event(number, &mut dice);
        let organization = self.organization();
        let mut record = event;
        // Where enrichment writes is independent of where the event stands.
        let enriched_before = self.style.is_multiple_of(2);
        if enriched_before {
            record.add(organization.clone());
        }
        record = match self.envelope {
            0..=2 => record,
            3 => Node::Object(vec![("detail".into(), record), ("source".into(), text("aws.sts"))]),
            4 => nested("log.event", record),
            5 => nested("log.event", Node::Text(record.written(&mut dice, self.style != 0))),
            6 => Node::Object(vec![("event".into(), record), ("sourcetype".into(), text("aws:cloudtrail"))]),
            7 => nested("message", Node::Text(record.written(&mut dice, self.style != 0))),
            8 => {
                let inner = Node::Object(vec![("detail".into(), record)]).written(&mut dice, self.style != 0);
                let notification = nested("Message", Node::Text(inner)).written(&mut dice, self.style != 0);
                nested("Body", Node::Text(notification))
            }
            _ => {
                let inner = Node::Text(record.written(&mut dice, self.style != 0));
                nested("log.event", Node::Text(inner.written(&mut dice, self.style != 0)))
            }
        };
        if !enriched_before {
            record.add(organization);
        }
        if self.style != 0 {
            record.shuffle(&mut dice);
        }
        let written = record.written(&mut dice, self.style != 0);
        Delivered { record: written.into_bytes(), arrival: BEGIN + late * MINUTE + number as i64 * 1500 }
    }

    fn time(&self) -> Option<String> {
        self.time.map(|minutes| rfc3339(BEGIN + minutes * MINUTE))
    }

    fn id(&self, number: usize) -> String {
        match self.id {
            0 => String::new(),
            1 => "shared".to_owned(),
            _ => format!("e-{number}"),
        }
    }

    fn organization(&self) -> Vec<(String, Node)> {
        let name = ORGANIZATIONS[self.organization];
        let member = |key: &str, node: Node| vec![(key.to_owned(), node)];
        match (name, self.style % 5) {
            ("", _) => Vec::new(),
            (_, 0) => member("source.as.organization.name", text(name)),
            (_, 1) => member("source", nested("as.organization.name", text(name))),
            (_, 2) => member("geoip.as_org", text(name)),
            (_, 3) => {
                member("source.as", nested("organization.name", Node::Array(vec![text(name), text("Example Hosting")])))
            }
            _ => member("source", Node::Object(vec![("as.organization.name".into(), text(name))])),
        }
    }

    /// An error as its code and message.
    fn error(&self) -> (Node, Node) {
        match self.error {
            0 | 1 => (Node::Raw("null".into()), text("")),
            2 => (Node::Raw("403".into()), text("no")),
            _ => (text("AccessDenied"), Node::Raw("[]".into())),
        }
    }

    fn resource_arns(&self) -> Vec<&'static str> {
        match self.resources {
            0 | 1 => vec![],
            2 => vec!["arn:r/one"],
            3 => vec!["arn:r/one", "arn:r/two"],
            _ => vec!["arn:r/two", "arn:r/two", "arn:r/three"],
        }
    }

    fn cloudtrail(&self, number: usize) -> Node {
        let (code, message) = self.error();
        let resources = self.resource_arns().into_iter().map(|arn| Node::Object(vec![("ARN".into(), text(arn))]));
        let issuer = nested("sessionIssuer.userName", text("web"));
        let mut identity = vec![
            ("type".to_owned(), text(TYPES[self.identity_type])),
            ("principalId".to_owned(), text(PRINCIPALS[self.principal])),
            ("arn".to_owned(), text(ARNS[self.identity])),
            ("accountId".to_owned(), text(if self.region == 3 { "" } else { "111122223333" })),
            ("sessionContext".to_owned(), issuer),
        ];
        if self.agent == 1 {
            identity.push(("userName".to_owned(), text("carol@example.com")));
        }
        Node::Object(
            [
                ("eventSource", text(PROVIDERS[self.provider])),
                ("eventName", text(ACTIONS[self.action])),
                ("eventTime", self.time().map_or(text("unknown"), |time| text(&time))),
                ("eventID", text(&self.id(number))),
                ("awsRegion", text(REGIONS[self.region])),
                ("userAgent", text(AGENTS[self.agent])),
                ("sourceIPAddress", text(ADDRESSES[self.address])),
                ("errorCode", code),
                ("errorMessage", message),
                ("readOnly", Node::Raw("true".into())),
                ("recipientAccountId", text("444455556666")),
                ("resources", Node::Array(resources.collect())),
                ("responseElements", Node::Raw(["null", "{}", "{\"a\":[1,2]}", "{\"b\":\"c d\"}"][self.error].into())),
                ("userIdentity", Node::Object(identity)),
            ]
            .map(|(key, node)| (key.to_owned(), node))
            .to_vec(),
        )
    }

    fn ecs(&self, number: usize) -> Node {
        let (code, _) = self.error();
        let resources = self.resource_arns().into_iter().map(text).collect();
        let mut event = Node::Object(Vec::new());
        let members = [
            ("event.provider", text(PROVIDERS[self.provider])),
            ("event.action", text(ACTIONS[self.action])),
            ("@timestamp", self.ecs_time()),
            ("event.id", text(&self.id(number))),
            ("event.outcome", text(if self.error < 2 { "success" } else { "failure" })),
            ("cloud.region", text(REGIONS[self.region])),
            ("cloud.account.id", text("111122223333")),
            ("user_agent.original", text(AGENTS[self.agent])),
            ("source.address", text(ADDRESSES[self.address])),
            ("source.ip", text(ADDRESSES[self.address])),
            ("user.id", text(PRINCIPALS[self.principal])),
            ("user.name", text("web")),
            ("aws.cloudtrail.error_code", code),
            ("aws.cloudtrail.read_only", text("true")),
            ("aws.cloudtrail.resources.arn", Node::Array(resources)),
            ("aws.cloudtrail.recipient_account_id", text("444455556666")),
            ("aws.cloudtrail.user_identity.type", text(TYPES[self.identity_type])),
            ("aws.cloudtrail.user_identity.arn", text(ARNS[self.identity])),
        ];
        for (at, (path, node)) in members.into_iter().enumerate() {
            // Dotted, nested, or dotted up to some level.
            let flat = self.style != 0 && (self.style >> at) & 1 == 1;
            event.add(vec![if flat { (path.to_owned(), node) } else { split_first(path, node) }]);
        }
        event
    }

    fn ecs_time(&self) -> Node {
        match self.time {
            None => text("unknown"),
            Some(minutes) if self.style % 7 == 3 => Node::Raw((BEGIN + minutes * MINUTE).to_string()),
            Some(minutes) if self.style % 7 == 4 => Node::Raw(((BEGIN + minutes * MINUTE) / 1000).to_string()),
            Some(_) => text(&self.time().expect("a time")),
        }
    }

    fn sentinel(&self, number: usize) -> Node {
        let error = ["", "", "403", "AccessDenied"][self.error];
        let arns = self.resource_arns().into_iter().map(|arn| format!("{{\"ARN\":\"{arn}\"}}"));
        let resources = match self.resources {
            0 => String::new(),
            _ => format!("[{}]", arns.collect::<Vec<_>>().join(",")),
        };
        Node::Object(
            [
                ("EventSource", text(PROVIDERS[self.provider])),
                ("EventName", text(ACTIONS[self.action])),
                ("TimeGenerated", self.time().map_or(text("01/02/2026"), |time| text(&time))),
                ("AwsEventId", text(&self.id(number))),
                ("AWSRegion", text(REGIONS[self.region])),
                ("UserAgent", text(AGENTS[self.agent])),
                ("SourceIpAddress", text(ADDRESSES[self.address])),
                ("ErrorCode", text(error)),
                ("ReadOnly", Node::Raw("true".into())),
                ("RecipientAccountId", text("444455556666")),
                ("UserIdentityAccountId", text("111122223333")),
                ("Resources", text(&resources)),
                ("ResponseElements", text(["", "", "{\"a\":[1,2]}", "{\"b\":\"c d\"}"][self.error])),
                ("UserIdentityType", text(TYPES[self.identity_type])),
                ("UserIdentityPrincipalid", text(PRINCIPALS[self.principal])),
                ("UserIdentityArn", text(ARNS[self.identity])),
            ]
            .map(|(key, node)| (key.to_owned(), node))
            .to_vec(),
        )
    }
}

/// How many ways there are to put several events into one record.
const FORMS: usize = 9;

/// One record of several events, each with what enrichment knows of it.
fn many(sketches: &[Sketch], form: usize, number: usize, late: i64) -> Delivered {
    let style = sketches[0].style;
    let is_odd = style != 0;
    let mut dice = Dice(style);
    let mut events = Vec::new();
    for (at, sketch) in sketches.iter().enumerate() {
        let mut event = sketch.event(number * 10 + at, &mut dice);
        event.add(sketch.organization());
        events.push(event);
    }
    let object = |members: Vec<(&str, Node)>| {
        Node::Object(members.into_iter().map(|(key, node)| (key.to_owned(), node)).collect())
    };
    let written: Vec<String> = events.iter().map(|event| event.written(&mut dice, is_odd)).collect();
    let texts = || written.iter().map(|event| text(event));
    let list =
        |key: &str, of: &dyn Fn(Node) -> Node| Node::Array(texts().map(|text| object(vec![(key, of(text))])).collect());
    let mut record = match form {
        0 => object(vec![("bucket", text("b")), ("Records", Node::Array(events)), ("timestamp", text("2026-10-01"))]),
        1 => object(vec![("records", Node::Array(events))]),
        2 => object(vec![("messageType", text("DATA_MESSAGE")), ("logEvents", list("message", &|text| text))]),
        3 => object(vec![(
            "records",
            list("data", &|node| match node {
                Node::Text(event) => text(&base64(&event)),
                other => other,
            }),
        )]),
        4 => object(vec![("Events", list("CloudTrailEvent", &|text| text))]),
        5 => {
            let file = object(vec![("Records", Node::Array(events))]).written(&mut dice, is_odd);
            object(vec![("Type", text("Notification")), ("Message", text(&file))])
        }
        6 => object(vec![("message", text(&written.join("\n")))]),
        7 => {
            let of = |text: Node| Node::Object(vec![("Message".to_owned(), text)]);
            let bodies =
                texts().map(|event| object(vec![("body", text(&of(event).written(&mut Dice(style), is_odd)))]));
            object(vec![("Records", Node::Array(bodies.collect()))])
        }
        _ => nested("log.event", Node::Array(events)),
    };
    if is_odd {
        record.shuffle(&mut dice);
    }
    let written = record.written(&mut dice, is_odd);
    Delivered { record: written.into_bytes(), arrival: BEGIN + late * MINUTE + number as i64 * 1500 }
}

fn base64(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in text.as_bytes().chunks(3) {
        let word = (0..3).fold(0, |word, at| word << 8 | u32::from(group.get(at).copied().unwrap_or(0)));
        for digit in 0..4 {
            let value = (word >> (18 - 6 * digit) & 63) as usize;
            out.push(if digit <= group.len() { char::from(DIGITS[value]) } else { '=' });
        }
    }
    out
}

/// JSON to be written in one of many ways.
#[derive(Debug, Clone)]
enum Node {
    Object(Vec<(String, Node)>),
    Array(Vec<Node>),
    Text(String),
    /// As it stands.
    Raw(String),
}

fn text(text: &str) -> Node {
    Node::Text(text.to_owned())
}

/// The first level of a dotted path with the rest nested below it.
fn split_first(path: &str, node: Node) -> (String, Node) {
    match path.split_once('.') {
        None => (path.to_owned(), node),
        Some((first, rest)) => (first.to_owned(), nested(rest, node)),
    }
}

fn nested(path: &str, node: Node) -> Node {
    Node::Object(vec![split_first(path, node)])
}

impl Node {
    /// Adds members; objects under the same key become one.
    fn add(&mut self, members: Vec<(String, Node)>) {
        let Node::Object(mine) = self else { return };
        for (key, node) in members {
            let same =
                mine.iter_mut().find(|(known, known_node)| *known == key && matches!(known_node, Node::Object(_)));
            match (same, node) {
                (Some((_, known)), Node::Object(inner)) => known.add(inner),
                (_, node) => mine.push((key, node)),
            }
        }
    }

    /// Writes one of the objects inside as JSON text.
    fn text_inside(&mut self, dice: &mut Dice) {
        let Node::Object(members) = self else { return };
        let objects = members.iter_mut().filter(|(_, node)| matches!(node, Node::Object(_)));
        let mut objects: Vec<&mut Node> = objects.map(|(_, node)| node).collect();
        if objects.is_empty() {
            return;
        }
        let which = dice.below(objects.len() as u64) as usize;
        if dice.one_in(3) {
            objects[which].text_inside(dice);
        }
        let written = objects[which].written(dice, true);
        *objects[which] = Node::Text(written);
    }

    /// Repeats keys, with the same or another value, divides objects in two, and adds keys that mean nothing.
    fn disturb(&mut self, dice: &mut Dice) {
        let Node::Object(members) = self else { return };
        for (_, node) in members.iter_mut() {
            node.disturb(dice);
        }
        if dice.one_in(3) {
            let at = dice.below(members.len() as u64) as usize;
            let (key, node) = members[at].clone();
            let twin = match node {
                Node::Object(mut inner) if dice.one_in(2) && !inner.is_empty() => {
                    let rest = inner.split_off(inner.len() / 2);
                    members[at].1 = Node::Object(inner);
                    Node::Object(rest)
                }
                Node::Text(_) if dice.one_in(2) => match key.as_str() {
                    "eventName" | "EventName" | "event.action" | "action" => text("GetCallerIdentity"),
                    "arn" | "UserIdentityArn" => text("arn:aws:iam::1:user/twin"),
                    _ => text(""),
                },
                same => same,
            };
            members.push((key, twin));
        }
        if dice.one_in(3) {
            let noise = ["note", "eventname", "Detail", "user", "source.as", "x"][dice.below(6) as usize];
            let node = match dice.below(4) {
                0 => Node::Raw("-1.5e3".into()),
                1 => nested("eventName", text("GetCallerIdentity")),
                2 => text("\"eventName\":\"GetCallerIdentity\""),
                _ => Node::Array(vec![Node::Raw("{}".into()), Node::Raw("[[]]".into())]),
            };
            members.push((noise.to_owned(), node));
        }
    }

    fn shuffle(&mut self, dice: &mut Dice) {
        if let Node::Object(members) = self {
            for at in (1..members.len()).rev() {
                members.swap(at, dice.below(at as u64 + 1) as usize);
            }
            for (_, node) in members {
                node.shuffle(dice);
            }
        }
    }

    fn written(&self, dice: &mut Dice, oddly: bool) -> String {
        let mut out = String::new();
        let odd = if oddly { dice.below(4) } else { 0 };
        self.write(&mut out, dice, odd);
        out
    }

    /// Writes compactly (0), with white space (1), with escapes (2), or with both (3).
    fn write(&self, out: &mut String, dice: &mut Dice, odd: u64) {
        let space = |out: &mut String, dice: &mut Dice| {
            if odd & 1 == 1 && dice.one_in(4) {
                out.push_str([" ", "\n", "\t", "\r\n  "][dice.below(4) as usize]);
            }
        };
        match self {
            Node::Raw(raw) => out.push_str(raw),
            Node::Text(text) => write_text(out, text, dice, odd & 2 == 2),
            Node::Array(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    space(out, dice);
                    item.write(out, dice, odd);
                }
                space(out, dice);
                out.push(']');
            }
            Node::Object(members) => {
                out.push('{');
                for (at, (key, node)) in members.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    space(out, dice);
                    write_text(out, key, dice, odd & 2 == 2);
                    space(out, dice);
                    out.push(':');
                    space(out, dice);
                    node.write(out, dice, odd);
                    space(out, dice);
                }
                out.push('}');
            }
        }
    }
}

fn write_text(out: &mut String, text: &str, dice: &mut Dice, escape: bool) {
    out.push('"');
    for character in text.chars() {
        let must = matches!(character, '"' | '\\') || character < ' ';
        if must && !(escape && dice.one_in(2)) {
            out.push('\\');
            out.push(match character {
                '\n' => 'n',
                '\r' => 'r',
                '\t' => 't',
                quoted => quoted,
            });
        } else if must || (escape && dice.one_in(6)) {
            if character == '/' {
                out.push_str("\\/");
                continue;
            }
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                let hex = format!("{unit:04x}");
                out.push_str("\\u");
                out.push_str(&if dice.one_in(2) { hex.to_uppercase() } else { hex });
            }
        } else {
            out.push(character);
        }
    }
    out.push('"');
}

/// A small random generator (xorshift64*), seeded by the sketch's style, so that a failing case can be run again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.max(1);
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

/// The annotation of a record that came back.
fn found(record: &[u8], out: &[u8]) -> Result<Option<(String, Value)>, TestCaseError> {
    annotation(record, out).map_err(TestCaseError::fail)
}

/// Rule and new terms of each alert of an annotation, and the rules that suppression speaks for.
fn raised(annotation: &Option<(String, Value)>) -> (BTreeSet<(String, String)>, BTreeSet<String>) {
    let mut new_terms = BTreeSet::new();
    let mut grouped = BTreeSet::new();
    let Some((_, object)) = annotation else {
        return (new_terms, grouped);
    };
    for alert in object["alerts"].as_array().into_iter().flatten() {
        let rule = alert["rule"]["id"].as_str().unwrap_or_default().to_owned();
        if alert["new_terms"].is_null() {
            grouped.insert(rule);
        } else {
            new_terms.insert((rule, alert["new_terms"]["values"].to_string()));
        }
    }
    for entry in object["suppressed"].as_array().into_iter().flatten() {
        grouped.insert(entry["rule_id"].as_str().unwrap_or_default().to_owned());
    }
    (new_terms, grouped)
}

/// What the batch definition finds, in the same form.
fn as_raised(found: Vec<(String, Vec<String>)>) -> BTreeSet<(String, String)> {
    found.into_iter().map(|(rule, values)| (rule, serde_json::json!(values).to_string())).collect()
}

fn with_windows_longer_by_a_hundredth(pack: &Pack) -> Pack {
    let mut longer = pack.clone();
    for terms in longer.rules.iter_mut().filter_map(|rule| rule.new_terms.as_mut()) {
        terms.window_ms += terms.window_ms / 100;
    }
    longer
}

#[test]
fn streams_raise_alerts_of_every_kind() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let [_, pack] = packs();
    let mut runner = TestRunner::deterministic();
    let mut seen = BTreeSet::new();
    let mut untouched = 0;
    for _ in 0..40 {
        let records = stream(40).new_tree(&mut runner).expect("a stream").current();
        let mut oracle = Oracle::new(pack);
        for Delivered { record, arrival } in records {
            assert!(serde_json::from_slice::<Value>(&record).is_ok(), "{}", String::from_utf8_lossy(&record));
            let Some((_, object)) = oracle.process(&record, arrival) else {
                untouched += 1;
                continue;
            };
            for alert in object["alerts"].as_array().into_iter().flatten() {
                seen.insert(format!("{} {}", alert["rule"]["id"], alert["new_terms"]["reason"]));
            }
            for entry in object["suppressed"].as_array().into_iter().flatten() {
                seen.insert(format!("{} suppressed", entry["rule_id"]));
            }
        }
    }
    let expected = [
        "\"30fbf4db-c502-4e68-a239-2e99af0f70da\" \"expired\"",
        "\"30fbf4db-c502-4e68-a239-2e99af0f70da\" \"never_seen\"",
        "\"32555639-b639-4c2b-afda-c0ae0abefa55\" null",
        "\"32555639-b639-4c2b-afda-c0ae0abefa55\" suppressed",
        "\"b2f8c4e1-6a73-4f1e-9c2d-8e5b0a1d3f7c\" \"expired\"",
        "\"b2f8c4e1-6a73-4f1e-9c2d-8e5b0a1d3f7c\" \"never_seen\"",
        "\"own-new-terms\" \"expired\"",
        "\"own-new-terms\" \"never_seen\"",
        "\"own-query\" null",
        "\"own-query\" suppressed",
    ];
    assert_eq!(seen.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    assert!(untouched > 70, "{untouched} records stay as they are");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_equals_the_oracle(records in stream(40), which in 0..2_usize) {
        let pack = &packs()[which];
        let mut oracle = Oracle::new(pack);
        let mut native = Native::new(pack);
        for Delivered { record, arrival } in records {
            let expected = oracle.process(&record, arrival);
            let out = native.process(&record, arrival);
            prop_assert_eq!(found(&record, &out)?, expected, "{}", String::from_utf8_lossy(&record));
        }
    }

    #[test]
    fn the_prefilter_loses_nothing(records in stream(40), which in 0..2_usize) {
        let pack = &packs()[which];
        let mut with = Native::new(pack);
        let mut without = Native::without_prefilter(pack);
        for Delivered { record, arrival } in records {
            let expected = without.process(&record, arrival);
            let out = with.process(&record, arrival);
            prop_assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&expected));
        }
    }

    // A refresh is rounded up to a hundredth of the window, so a tuple may expire that much later than by definition, never
    // earlier.
    #[test]
    fn the_oracle_equals_the_batch_definition_up_to_a_hundredth_of_the_window(
        records in stream_in_order(40), which in 0..2_usize,
    ) {
        let pack = &packs()[which];
        let records: Vec<_> = records.into_iter().map(|Delivered { record, arrival }| (record, arrival)).collect();
        let by_definition = new_terms_in_batch(pack, &records);
        let of_longer_windows = new_terms_in_batch(&with_windows_longer_by_a_hundredth(pack), &records);
        let mut oracle = Oracle::new(pack);
        for (((record, arrival), may), must) in records.iter().zip(by_definition).zip(of_longer_windows) {
            let (alerts, _) = raised(&oracle.process(record, *arrival));
            let (may, must) = (as_raised(may), as_raised(must));
            prop_assert!(alerts.is_superset(&must), "{:?} lacks some of {:?}", alerts, must);
            prop_assert!(alerts.is_subset(&may), "{:?} has more than {:?}", alerts, may);
        }
    }

    #[test]
    fn too_small_a_history_alerts_more_and_never_less(
        records in stream_in_order(60), which in 0..2_usize, capacity in 1..8_u32,
    ) {
        let pack = &packs()[which];
        let mut small = pack.clone();
        small.settings.capacity = capacity;
        let mut oracle = Oracle::new(pack);
        let mut native = Native::new(&small);
        for Delivered { record, arrival } in records {
            let (expected, expected_groups) = raised(&oracle.process(&record, arrival));
            let out = native.process(&record, arrival);
            let (alerts, groups) = raised(&found(&record, &out)?);
            prop_assert!(alerts.is_superset(&expected), "{:?} lacks some of {:?}", alerts, expected);
            // An evicted group opens anew, so that its alerts come at other times; each event still has one or the other.
            prop_assert_eq!(groups, expected_groups);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_module_equals_the_engine(records in stream(40), which in 0..2_usize, how in 0..4_usize) {
        let pack = &packs()[which];
        let calls = [
            Calls::Fluent(Generation::Current),
            Calls::Fluent(Generation::Leaking),
            Calls::Fluent(Generation::InstancePerChunk(3)),
            Calls::Lean,
        ][how];
        let mut native = Native::new(pack);
        let mut guest = Guest::new(pack, calls);
        for Delivered { record, arrival } in records {
            let expected = native.process(&record, arrival);
            let out = guest.process(&record, arrival);
            prop_assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&expected));
        }
    }
}
