//! `firstseen compile --print`: what is printed lets every event through that a rule matches.
//!
//! In: random packs of few words, and random records of the same words, in all dialects, envelopes and spellings, with arrays,
//! numbers and other types where text is usual, and with text in JSON escaped at random. Out: that the condition in VRL holds,
//! and that one of Fluent Bit's rules matches, wherever the engine finds a match without its prefilter. Bounds: Fluent Bit's
//! rules are held to records of text alone, for they look into nothing else. Not here: what exactly is printed, which the unit
//! tests beside the printers say.

use firstseen::candidates::{Candidates, fluent_bit, vrl};
use firstseen_engine::event::envelope::TEXT_KEYS;
use firstseen_engine::event::{Events, Schema, Texts};
use firstseen_engine::predicate;
use firstseen_engine::rule::{Pack, compile};
use onig::{Regex, RegexOptions, Syntax};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::vector_language::Condition;

/// What rules ask for.
const ASKED: [&str; 12] = [
    "GetCallerIdentity",
    "getcalleridentity",
    "Get*",
    "*Identity",
    "*Caller*",
    "\"a/b\\\"c'd\"",
    "(GetCallerIdentity or ListUsers)",
    "22",
    "true",
    "été.x",
    "\"two words\"",
    "*2*",
];

/// What events say: all of what is asked for, and some that is not.
const SAID: [&str; 11] = [
    "GetCallerIdentity",
    "GETCALLERIDENTITY",
    "GetCallerIdentity2",
    "ListUsers",
    "a/b\"c'd",
    "22",
    "true",
    "été.x",
    "two words",
    "",
    "Get\nCaller\\Identity",
];

const ROOTS: [Option<&str>; 8] =
    [None, None, Some("log"), Some("log.event"), Some("detail"), Some("a-b.c@.d e"), Some("a.b.c.d"), Some("it\"s{{")];

const DIALECTS: [&str; 5] = ["auto", "auto", "cloudtrail", "ecs", "sentinel"];

fn asked() -> impl Strategy<Value = &'static str> {
    prop_oneof![2 => Just(ASKED[0]), 3 => prop::sample::select(&ASKED[..])]
}

fn query() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        5 => asked().prop_map(|value| format!("event.action: {value}")),
        3 => asked().prop_map(|value| format!("event.provider: {value}")),
        1 => Just("event.action: *".to_owned()),
        1 => Just("event.outcome: success".to_owned()),
        1 => Just("aws.cloudtrail.error_code > 3".to_owned()),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            3 => prop::collection::vec(inner.clone(), 2..4).prop_map(|parts| format!("({})", parts.join(" and "))),
            2 => prop::collection::vec(inner.clone(), 2..4).prop_map(|parts| format!("({})", parts.join(" or "))),
            1 => inner.prop_map(|part| format!("not {part}")),
        ]
    })
}

fn rule() -> impl Strategy<Value = String> {
    let singled_out = (asked(), query()).prop_map(|(action, rest)| format!("event.action: {action} and {rest}"));
    (prop_oneof![1 => query(), 3 => singled_out], any::<[bool; 2]>()).prop_map(|(query, ignores_case)| {
        let fields = ["event.action", "event.provider"].into_iter().zip(ignores_case);
        let ignored: Vec<&str> =
            fields.filter(|(field, ignored)| *ignored && query.contains(field)).map(|(field, _)| field).collect();
        format!(
            "[rule]\nrule_id = \"ID\"\nname = \"Own\"\ntype = \"query\"\nlanguage = \"kuery\"\nseverity = \"low\"\n\
             risk_score = 1\nquery = '''{query}'''\n[firstseen]\nignore_case = {ignored:?}\n"
        )
    })
}

fn settings() -> impl Strategy<Value = String> {
    let root = prop::sample::select(&ROOTS[..]);
    (root, prop::sample::select(&DIALECTS[..])).prop_map(|(root, dialect)| {
        let root = root.map_or(String::new(), |root| format!("event_root = {root:?}\n"));
        format!("{root}dialect = \"{dialect}\"\n")
    })
}

fn pack() -> impl Strategy<Value = Pack> {
    (settings(), prop::collection::vec(rule(), 1..4)).prop_filter_map("refused", |(settings, rules)| {
        let rules: Vec<(String, String)> = rules
            .iter()
            .enumerate()
            .map(|(number, text)| (format!("{number}.toml"), text.replace("\"ID\"", &format!("\"own-{number}\""))))
            .collect();
        let files: Vec<compile::File<'_>> = rules.iter().map(|(label, text)| (label.as_str(), text.as_str())).collect();
        compile::compile(Some(("firstseen.toml", &settings)), &[], &files).ok()
    })
}

/// A value; with `odd` of any type.
fn value(odd: bool) -> BoxedStrategy<Value> {
    let text =
        || prop_oneof![1 => Just(json!(SAID[0])), 1 => prop::sample::select(&SAID[..]).prop_map(|said| json!(said))];
    if !odd {
        return text().boxed();
    }
    let other = prop::sample::select(vec![
        json!(22),
        json!(22.0),
        json!(true),
        json!(null),
        json!({ "a": SAID[0] }),
        json!([22, [SAID[0]]]),
    ]);
    let list = prop::collection::vec(text(), 0..3).prop_map(Value::Array);
    prop_oneof![6 => text(), 1 => other, 1 => list].boxed()
}

/// An event in a dialect: name, provider, and whether it has an error.
fn event(odd: bool) -> impl Strategy<Value = Value> {
    (0..3_usize, value(odd), value(odd), 0..4_usize, any::<bool>()).prop_map(move |(dialect, name, source, way, fails)| {
        let mut event = match dialect {
            0 => json!({ "eventName": name, "eventSource": source }),
            1 => json!({ "EventName": name, "EventSource": source }),
            _ => match way {
                0 => json!({ "event": { "action": name, "provider": source } }),
                1 => json!({ "event.action": name, "event.provider": source }),
                2 => json!({ "event": { "provider": source }, "event.action": name, "event.dataset": "aws.cloudtrail" }),
                _ if odd => json!({ "event": [{ "action": name }, { "provider": source }, 1] }),
                _ => json!({ "event": { "action": name }, "event.provider": source }),
            },
        };
        if fails {
            event[["errorCode", "ErrorCode", "aws.cloudtrail.error_code"][dialect]] = json!("5");
        }
        event
    })
}

/// Where an event stands: the keys around it, the outermost last.
#[derive(Debug, Clone)]
enum Around {
    Nested(String),
    Text(String, u64),
    /// An array of objects of which one has the key, under the first level of a path.
    InArray(String),
}

fn around(root: Option<&'static str>, odd: bool) -> impl Strategy<Value = Vec<Around>> {
    let detail = Just(Around::Nested("detail".to_owned()));
    let one = match root {
        None => detail.boxed(),
        Some(root) => {
            let nested = any::<u64>().prop_map(|joints| Around::Nested(joined(root, joints)));
            let text = any::<(u64, u64)>().prop_map(|(joints, escapes)| Around::Text(joined(root, joints), escapes));
            let array = if odd { 1 } else { 0 };
            let in_array = Just(Around::InArray(root.to_owned()));
            prop_oneof![1 => detail, 2 => nested, 2 => text, array => in_array].boxed()
        }
    };
    // Fluent Bit's rules look into the other envelopes at the record's root only, which a unit test says.
    let texts = (prop::sample::select(&TEXT_KEYS[..]), any::<u64>())
        .prop_map(|(key, escapes)| Around::Text(key.to_owned(), escapes));
    let others = prop_oneof![
        texts,
        prop::sample::select(vec!["event", "message", "kinesis", "Sns\nMessage"])
            .prop_map(|path| Around::Nested(path.to_owned())),
        prop::sample::select(vec!["Records", "records", "logEvents", "Events"])
            .prop_map(|key| Around::InArray(key.to_owned())),
    ];
    let one = if odd { prop_oneof![2 => one, 1 => others].boxed() } else { one };
    prop_oneof![2 => Just(Vec::new()), 3 => prop::collection::vec(one, 1..3)]
}

/// The path with some of its dots, which part levels, written as line ends.
fn joined(path: &str, joints: u64) -> String {
    let mut number = 0;
    path.chars()
        .map(|char| {
            number += u32::from(char == '.');
            if char == '.' && joints >> number & 1 == 1 { '\n' } else { char }
        })
        .collect()
}

fn wrapped(event: Value, around: &[Around]) -> Value {
    around.iter().fold(event, |inner, around| match around {
        Around::Nested(path) => under(path, inner),
        Around::Text(path, escapes) => under(path, Value::String(escaped(&inner.to_string(), *escapes))),
        Around::InArray(path) => match path.split_once('.') {
            Some((first, rest)) => json!({ first: [1, under(rest, inner)] }),
            None => json!({ path.as_str(): [inner] }),
        },
    })
}

fn under(path: &str, inner: Value) -> Value {
    path.rsplit('\n').fold(inner, |inner, level| json!({ level: inner }))
}

/// JSON text with some of its letters, and slashes, written as escapes.
fn escaped(json: &str, style: u64) -> String {
    let mut in_string = false;
    let mut out = String::new();
    let mut characters = json.chars().enumerate();
    while let Some((at, char)) = characters.next() {
        in_string ^= char == '"';
        let escape = style.is_multiple_of(3) && (style >> (at % 60)) & 7 == 0;
        match char {
            '\\' => {
                out.push(char);
                out.extend(characters.next().map(|(_, next)| next));
            }
            '/' if style & 1 == 1 => out.push_str("\\/"),
            _ if in_string && escape && char.is_alphabetic() => out.push_str(&format!("\\u{:04x}", u32::from(char))),
            _ => out.push(char),
        }
    }
    out
}

fn records(root: Option<&'static str>, odd: bool) -> impl Strategy<Value = Vec<Value>> {
    let record = (event(odd), around(root, odd)).prop_map(|(event, around)| wrapped(event, &around));
    prop::collection::vec(record, 30)
}

/// A pack, and records that meet its settings.
fn case(odd: bool) -> impl Strategy<Value = (Pack, Vec<Value>)> {
    pack().prop_flat_map(move |pack| {
        let root = ROOTS.into_iter().flatten().find(|root| pack.settings.event_root.as_deref() == Some(root));
        (Just(pack), records(root, odd))
    })
}

/// Whether a rule matches, by the engine without its prefilter.
fn matches(pack: &Pack, record: &Value) -> bool {
    let schema = Schema::new(&pack.settings, &pack.fields, [0; 16]).expect("the fields are known");
    let (record, texts) = (record.to_string(), Texts::default());
    let Some(mut events) = Events::read(&schema, &record, &texts) else { return false };
    (0..events.len()).any(|number| {
        let event = events.view(number).expect("an event");
        pack.rules.iter().any(|rule| predicate::matches(&rule.query, &event))
    })
}

/// What Fluent Bit's record accessor finds: text at a path, or at its first key if that is no object and no array.
fn accessed<'v>(record: &'v Value, key: &str) -> Option<&'v str> {
    let mut levels = key.strip_prefix('$').expect("an accessor").split(['[', ']']).filter(|level| !level.is_empty());
    let mut found = record.get(levels.next()?)?;
    if found.is_object() || found.is_array() {
        for level in levels {
            found = found.get(level.trim_matches('\''))?;
        }
    }
    found.as_str()
}

struct FluentBitRules(Vec<(String, Regex)>);

impl FluentBitRules {
    fn new(candidates: &Candidates) -> Option<FluentBitRules> {
        let rules = fluent_bit::rules(candidates).ok()?;
        let compiled = rules.into_iter().map(|rule| {
            assert!(!rule.expression.contains(' ') && !rule.key.contains(' '), "{rule:?} is one word each");
            let options = RegexOptions::REGEX_OPTION_NONE;
            let regex = Regex::with_options(&rule.expression, options, Syntax::ruby());
            (rule.key, regex.unwrap_or_else(|error| panic!("{error}: {}", rule.expression)))
        });
        Some(FluentBitRules(compiled.collect()))
    }

    fn match_any(&self, record: &Value) -> bool {
        self.0.iter().any(|(key, regex)| accessed(record, key).is_some_and(|text| regex.find(text).is_some()))
    }
}

/// That the cases are worth something: many match, and many are told from those.
#[test]
fn many_records_match_and_many_are_held_back() {
    let mut runner = TestRunner::deterministic();
    let (mut matching, mut held_back, mut held_back_by_fluent_bit) = (0, 0, 0);
    for _ in 0..80 {
        let (pack, records) = case(false).new_tree(&mut runner).expect("a case").current();
        let candidates = Candidates::of(&pack);
        let condition = Condition::new(&vrl::condition(&candidates));
        let rules = FluentBitRules::new(&candidates);
        for record in records {
            matching += usize::from(matches(&pack, &record));
            held_back += usize::from(!condition.holds(&record));
            held_back_by_fluent_bit += usize::from(rules.as_ref().is_some_and(|rules| !rules.match_any(&record)));
        }
    }
    let counts = (matching, held_back, held_back_by_fluent_bit);
    assert!(matching > 200 && held_back > 400 && held_back_by_fluent_bit > 400, "{counts:?}");
}

/// What random cases rarely come to: a query, and events as JSON text under `log` that it matches, or does not.
#[test]
fn text_that_is_written_otherwise_is_found() {
    for (query, event, is_candidate) in [
        (r#"event.action: "a/b\"c""#, r#"{"eventName":"a\/b\"c","eventSource":"x"}"#, true),
        (r#"event.action: "a/b\"c""#, r#"{"detail":{"eventName":"a/b\"c","eventSource":"x"}}"#, true),
        (r#"event.action: "a/b\"c""#, r#"{"log":"{\"eventName\":\"a\\/b\\\"c\",\"eventSource\":\"x\"}"}"#, true),
        (r#"event.action: "a/b\"c""#, r#"{"eventName":"a/b","eventSource":"x"}"#, false),
        ("event.action: 22", r#"{"eventName":2.2e1,"eventSource":"x"}"#, true),
        ("event.action: true", r#"{"eventName":true,"eventSource":"x"}"#, true),
        ("event.action: a.b", r#"{"eventName":"a.b","eventSource":"x"}"#, true),
        ("event.action: a.b", r#"{"eventName":"acb","eventSource":"x"}"#, false),
        ("event.action: Get*Id", r#"{"eventName":"GetXId","eventSource":"x"}"#, true),
        ("event.action: Get*Id", r#"{"eventName":"GetX","eventSource":"x"}"#, false),
        ("event.action: X and event.provider: x", r#"{"eventName":"X","eventSource":"x"}"#, true),
        ("event.action: X and event.provider: x", r#"{"eventName":"X","eventSource":"y"}"#, false),
    ] {
        let rule = format!(
            "[rule]\nrule_id = \"1\"\nname = \"Own\"\ntype = \"query\"\nlanguage = \"kuery\"\nseverity = \"low\"\n\
             risk_score = 1\nquery = '''{query}'''\n"
        );
        let settings = Some(("firstseen.toml", "event_root = \"log\""));
        let pack = compile::compile(settings, &[], &[("1.toml", &rule)]).expect("it compiles");
        let candidates = Candidates::of(&pack);
        let record = json!({ "log": event });
        assert!(is_candidate || !matches(&pack, &record), "{query}: {record}");
        assert_eq!(Condition::new(&vrl::condition(&candidates)).holds(&record), is_candidate, "{query}: {record}");
        // A rule of Fluent Bit's looks at one field.
        let rules = FluentBitRules::new(&candidates).expect("a key that can be named");
        assert!(rules.match_any(&record) || !is_candidate, "{query}: {record}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_condition_holds_for_all_that_match((pack, records) in case(true)) {
        let source = vrl::condition(&Candidates::of(&pack));
        let condition = Condition::new(&source);
        for record in records {
            prop_assert!(condition.holds(&record) || !matches(&pack, &record), "{record}\n{source}");
        }
    }

    #[test]
    fn fluent_bits_rules_match_all_text_that_matches((pack, records) in case(false)) {
        let candidates = Candidates::of(&pack);
        let Some(rules) = FluentBitRules::new(&candidates) else { return Ok(()) };
        for record in records {
            let says = || fluent_bit::rewrite_tag(&candidates, fluent_bit::Format::Classic).expect("they were printed");
            prop_assert!(rules.match_any(&record) || !matches(&pack, &record), "{record}\n{}", says());
        }
    }
}
