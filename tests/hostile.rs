//! What no host sends, and an attacker might: the module answers all of it, loses no record, and keeps its memory.
//!
//! In: bytes of every bad kind, and calls that break the contract. Out: for each record the same answer as the native
//! engine's, which is the record as it came, or with an alert at its end; an alert wherever a matching event carries hostile
//! content in fields that nothing asks for. A trap, an endless loop or a dropped record fails the test that meets it.
//! Not here: what alerts say.

use std::time::{Duration, Instant};

use firstseen::guest::{Answer, Entry, Generation};
use firstseen_engine::event::fields::MAX_LEVELS;
use proptest::prelude::*;
use serde_json::Value;

use crate::subjects::{Calls, Guest, Native, Subject, annotation, compiled, excerpt, module};

/// 2026-10-30T12:00:00Z.
const ARRIVAL: i64 = 1_793_361_600_000;

/// A matching event up to where further members can stand; [`event_with`] ends it.
const EVENT: &str = r#"{"eventSource":"sts.amazonaws.com","eventName":"GetCallerIdentity","eventTime":"2026-10-30T11:00:00Z","userIdentity":{"type":"IAMUser","arn":"arn:aws:iam::111122223333:user/bob","accountId":"111122223333","userName":"bob"},"sourceIPAddress":"198.51.100.7""#;

/// How deep hostile records nest.
const DEEP: usize = 10_000;

/// The longest that one record may take, in wasmtime on a busy machine: far from an endless loop.
const PATIENCE: Duration = Duration::from_secs(10);

fn event_with(member: &str) -> Vec<u8> {
    format!("{EVENT},{member}}}").into_bytes()
}

/// The engine and the module side by side, the latter in Fluent Bit's order and in the host's own.
struct Pair {
    native: Native,
    guests: [Guest; 2],
}

impl Pair {
    fn new(settings: Option<&str>) -> Pair {
        let pack = compiled(settings, &[]);
        Pair {
            native: Native::new(&pack),
            guests: [Guest::new(&pack, Calls::Fluent(Generation::Current)), Guest::new(&pack, Calls::Lean)],
        }
    }

    /// The annotation that all of them give the record.
    fn annotation(&mut self, record: &[u8]) -> Option<(String, Value)> {
        let begun = Instant::now();
        let expected = self.native.process(record, ARRIVAL);
        for guest in &mut self.guests {
            let out = guest.process(record, ARRIVAL);
            assert!(out == expected, "the {} and the native engine differ on {}", guest.name(), excerpt(record));
        }
        assert!(begun.elapsed() < PATIENCE, "{:?} for {}", begun.elapsed(), excerpt(record));
        annotation(record, &expected).unwrap_or_else(|wrong| panic!("{wrong}\nof {}", excerpt(record)))
    }

    #[track_caller]
    fn assert_untouched(&mut self, record: &[u8]) {
        let found = self.annotation(record);
        assert!(found.is_none(), "{found:?} on {}", excerpt(record));
    }

    /// The values of the one alert, of the first-call rule.
    #[track_caller]
    fn assert_alert(&mut self, record: &[u8]) -> Value {
        let found = self.annotation(record);
        let Some((_, object)) = found else {
            panic!("no alert on {}", excerpt(record));
        };
        let alerts = object["alerts"].as_array().expect("alerts");
        assert_eq!(alerts.len(), 1, "{object} on {}", excerpt(record));
        assert_eq!(alerts[0]["rule"]["id"], "30fbf4db-c502-4e68-a239-2e99af0f70da");
        alerts[0]["new_terms"]["values"].clone()
    }
}

#[test]
fn the_event_of_these_tests_alerts() {
    let values = Pair::new(None).assert_alert(&event_with(r#""x":1"#));
    assert_eq!(values, serde_json::json!(["arn:aws:iam::111122223333:user/bob"]));
}

#[test]
fn every_truncation_comes_back() {
    let mut pair = Pair::new(None);
    let whole = event_with(r#""responseElements":{"a":["\u00e4",1.5e-3,true,null]},"eventID":"e-1""#);
    for end in 0..whole.len() {
        pair.assert_untouched(&whole[..end]);
    }
    for begin in 1..whole.len() {
        pair.assert_untouched(&whole[begin..]);
    }
    pair.assert_alert(&whole);
}

#[test]
fn every_byte_damaged_comes_back() {
    let mut pair = Pair::new(None);
    let whole = event_with(r#""eventID":"e-1""#);
    for at in 0..whole.len() {
        for byte in [0, b'"', b'\\', b'{', b'}', b'[', b':', 0x80, 0xff] {
            let mut damaged = whole.clone();
            damaged[at] = byte;
            // It may still be an event: the answer's form is checked, not whether there is an alert.
            pair.annotation(&damaged);
        }
    }
}

#[test]
fn deep_nesting_comes_back() {
    let mut pair = Pair::new(Some("event_root = \"log\""));
    let nests = [
        ("[".repeat(DEEP), "]".repeat(DEEP)),
        (r#"{"a":"#.repeat(DEEP), "}".repeat(DEEP)),
        (r#"[{"a":"#.repeat(DEEP / 2), "}]".repeat(DEEP / 2)),
        (r#"{"detail":"#.repeat(DEEP), "}".repeat(DEEP)),
        (r#"{"log":"#.repeat(DEEP), "}".repeat(DEEP)),
        (r#"{"userIdentity":"#.repeat(DEEP), "}".repeat(DEEP)),
        (r#"{"eventName":"#.repeat(DEEP), "}".repeat(DEEP)),
    ];
    for (number, (open, close)) in nests.iter().enumerate() {
        for inner in ["1", r#""GetCallerIdentity""#, &format!("{EVENT}}}")] {
            let nest = format!("{open}{inner}{close}");
            pair.annotation(nest.as_bytes());
            pair.annotation(format!("{open}{inner}").as_bytes());
            // In a field that nothing asks for, in ones that rules read, and as JSON text.
            for field in
                ["requestParameters", "eventName", "userIdentity", "resources", "detail", "responseElements", "log"]
            {
                pair.annotation(&event_with(&format!("\"{field}\":{nest}")));
            }
            let in_text = serde_json::to_string(&nest).expect("text");
            pair.annotation(format!(r#"{{"log":{in_text}}}"#).as_bytes());
            pair.annotation(&event_with(&format!("\"log\":{in_text}")));
        }
        let arn = format!(r#"{EVENT},"requestParameters":{open}1{close}}}"#).replace("bob", &format!("deep-{number}"));
        pair.assert_alert(arn.as_bytes());
    }
}

#[test]
fn deep_json_text_still_alerts() {
    let mut pair = Pair::new(Some("event_root = \"log\""));
    let nest = format!("{}1{}", "[".repeat(DEEP), "]".repeat(DEEP));
    let inner = format!(r#"{EVENT},"requestParameters":{nest}}}"#);
    let record = format!(r#"{{"log":{}}}"#, serde_json::to_string(&inner).expect("text"));
    pair.assert_alert(record.as_bytes());
}

#[test]
fn hostile_content_elsewhere_hides_no_alert() {
    let long_key = "k".repeat(300_000);
    let dots = "a.".repeat(50_000);
    let members: Vec<Vec<u8>> = [
        // Text that is not Unicode, or not even UTF-8.
        br#""userAgent":"\ud800""#.to_vec(),
        br#""userAgent":"\udc00\ud800 x""#.to_vec(),
        br#""\ud800":1"#.to_vec(),
        b"\"userAgent\":\"\xff\xfe\x80\"".to_vec(),
        b"\"\xc3\x28\":\"\xf0\x28\x8c\xbc\"".to_vec(),
        b"\"requestParameters\":{\"a\":\"\xe2\x82\"}".to_vec(),
        br#""userAgent":"\u0000""#.to_vec(),
        // Numbers.
        br#""requestParameters":{"n":1e999999}"#.to_vec(),
        br#""n":-1e-999999,"m":-0,"o":-0.0,"p":123456789012345678901234567890123456789012345678901234567890"#.to_vec(),
        br#""errorCode":1e999999"#.to_vec(),
        br#""readOnly":-0"#.to_vec(),
        // Keys.
        format!("\"{long_key}\":1").into_bytes(),
        format!("\"{dots}\":1").into_bytes(),
        format!("\"userIdentity.{dots}arn\":\"x\"").into_bytes(),
        br#""":1,".":2,"..":3,".userIdentity":{},"userIdentity.":{"arn":"y"}"#.to_vec(),
        br#""detail":{},"detail":[],"detail":"","detail":null,"detail":{"eventName":1}"#.to_vec(),
        // Names of other dialects without their events.
        br#""event":{"action":"GetCallerIdentity"},"EventName":{},"EventSource":[]"#.to_vec(),
        // Structures where text is expected.
        br#""eventID":{"a":1},"sourceIPAddress":{"b":[]},"resources":"[[[{\"ARN\":","awsRegion":[[],{}]"#.to_vec(),
        br#""resources":[1,null,"x",{"ARN":{}},{"ARN":[["z"]]}]"#.to_vec(),
    ]
    .to_vec();
    for (number, member) in members.iter().enumerate() {
        let mut pair = Pair::new(None);
        let mut record = format!("{EVENT},\"eventID\":\"e-{number}\",").into_bytes();
        record.extend_from_slice(member);
        record.push(b'}');
        pair.assert_alert(&record);
    }
}

#[test]
fn hostile_content_in_a_term_still_alerts() {
    let record = |arn: &[u8]| {
        let mut record =
            br#"{"eventSource":"sts.amazonaws.com","eventName":"GetCallerIdentity","userIdentity":{"arn":""#.to_vec();
        record.extend_from_slice(arn);
        record.extend_from_slice(br#""}}"#);
        record
    };
    for arn in [&br"\ud800"[..], br"a\udfffb", b"\xff", b"a\xe2\x82", br"\u0000", br#"\"}}"#, br"\u007d"] {
        // Two of them may well be one term: what is not Unicode becomes replacement characters.
        Pair::new(None).assert_alert(&record(arn));
    }
    let values = Pair::new(None).assert_alert(&record(b"before \xff after"));
    assert_eq!(values, serde_json::json!(["before \u{fffd} after"]));
}

#[test]
fn bytes_that_json_does_not_allow_leave_the_record_alone() {
    let mut pair = Pair::new(None);
    let whole = event_with(r#""x":1"#);
    for at in [0, 1, 20, whole.len() - 1, whole.len()] {
        let mut with_nul = whole.clone();
        with_nul.insert(at, 0);
        pair.assert_untouched(&with_nul);
    }
    pair.assert_untouched(&event_with("\"userAgent\":\"a\nb\""));
    pair.assert_untouched(&event_with("\"a\":NaN"));
    pair.assert_untouched(&event_with("\"a\":01"));
    pair.assert_untouched(&event_with("a:1"));
    pair.assert_untouched(&event_with(""));
    pair.assert_untouched(format!("{EVENT}}}{EVENT}}}").as_bytes());
    pair.assert_untouched(format!("\u{feff}{EVENT}}}").as_bytes());
    pair.assert_untouched(b"");
    pair.assert_untouched(b"\0");
    pair.assert_untouched(b"}");
    pair.assert_untouched(b"\x81\xa9eventName\xb1GetCallerIdentity");
}

#[test]
fn a_megabyte_comes_back() {
    let mut pair = Pair::new(None);
    let filler = "GetCallerIdentit ".repeat(60_000);
    let record = format!(
        r#"{{"eventSource":"s3.amazonaws.com","eventName":"GetObject","requestParameters":{{"a":"{filler}"}}}}"#
    );
    assert!(record.len() > 1_000_000);
    pair.assert_untouched(record.as_bytes());
    pair.assert_alert(&event_with(&format!(r#""userAgent":"{filler}""#)));
    let long_arn = event_with(r#""x":1"#);
    let long_arn = String::from_utf8(long_arn).expect("text").replace("user/bob", &filler);
    pair.assert_alert(long_arn.as_bytes());
    // Nothing but the beginnings of escapes, quotes and braces.
    for unit in ["\\\\", "\\\"", "\\u0047", "{", "}", "[", ",", ":", "eventName"] {
        pair.annotation(&event_with(&format!(r#""userAgent":"{}""#, unit.repeat(1_000_000 / unit.len()))));
        pair.annotation(unit.repeat(1_000_000 / unit.len()).as_bytes());
    }
    // An almost matching name at every place.
    let names = r#""eventName":"GetCallerIdentit","#.repeat(30_000);
    pair.assert_untouched(format!(r#"{{{names}"eventSource":"sts.amazonaws.com"}}"#).as_bytes());
}

#[test]
fn repeated_keys_come_back() {
    let mut pair = Pair::new(None);
    let repeated = |member: &str| member.repeat(100_000);
    for member in [
        r#""eventName":"GetCallerIdentity","#,
        r#""userIdentity":{"type":"IAMUser"},"#,
        r#""eventTime":"x","#,
        r#""userIdentity":{},"#,
        r#""source":{"as":{"organization":{"name":"x"}}},"#,
        r#""x":1,"#,
    ] {
        let mut pair = Pair::new(None);
        pair.assert_alert(format!(r#"{EVENT},{}"x":1}}"#, repeated(member)).as_bytes());
    }
    // As many different terms: the alerts are bounded, and there are some.
    let arns: String = (0..100_000).map(|number| format!(r#""userIdentity":{{"arn":"a{number}"}},"#)).collect();
    let (_, object) = pair.annotation(format!(r#"{EVENT},{arns}"x":1}}"#).as_bytes()).expect("alerts");
    let alerts = object["alerts"].as_array().expect("alerts").len();
    assert!((1..=10_000).contains(&alerts), "{alerts} alerts");
}

#[test]
fn calls_that_break_the_contract_get_their_pointer_back() {
    let pack = compiled(None, &[]);
    let mut guest = Guest::new(&pack, Calls::Fluent(Generation::Current));
    let instance = &mut guest.instance;
    let record = event_with(r#""x":1"#);
    let length = record.len() as u32;
    let pointer = instance.malloc_raw(length + 1).expect("malloc");
    let at = pointer as usize;
    instance.memory_mut()[at..at + record.len()].copy_from_slice(&record);
    instance.memory_mut()[at + record.len()] = 0;
    let end = instance.memory_size() as u32;
    for (place, length) in [
        (0, 0),
        (0, length),
        (0, u32::MAX),
        (pointer, 0),
        (pointer, u32::MAX),
        (pointer, end),
        (pointer, u32::MAX - pointer),
        (end - 1, 1),
        (end - 1, 2),
        (end, 0),
        (end, length),
        (u32::MAX, 1),
        (u32::MAX, u32::MAX),
        (0x8000_0000, 0x8000_0000),
        (8, 8),
    ] {
        for tag in [(0, 0), (0, u32::MAX), (u32::MAX, u32::MAX)] {
            let arguments = [tag.0, tag.1, u32::MAX, u32::MAX, place, length];
            let answer = instance.call_raw(Entry::Firstseen, arguments).expect("no trap");
            assert_eq!(answer, place, "record {place:#x}, {length:#x} bytes");
            instance.call_raw(Entry::Alerts, arguments).expect("no trap");
        }
    }
    instance.free_raw(0).expect("no trap");
    instance.free_raw(u32::MAX).expect("no trap");
    instance.free_raw(pointer + 1).expect("no trap");
    assert_eq!(instance.malloc_raw(u32::MAX).expect("no trap"), 0);
    // The instance is as good as before.
    let out = guest.process(&record, ARRIVAL);
    assert!(annotation(&record, &out).expect("an annotation").is_some());
}

#[test]
fn a_missing_nul_changes_no_answer() {
    let pack = compiled(None, &[]);
    let record = event_with(r#""x":1"#);
    let other = String::from_utf8(record.clone()).expect("text").replace("GetCallerIdentity", "ListBuckets------");
    for (bytes, alerts) in [(record.as_slice(), true), (other.as_bytes(), false)] {
        let mut guest = Guest::new(&pack, Calls::Fluent(Generation::Current));
        let instance = &mut guest.instance;
        // Behind the record stands a whole matching event instead of a NUL.
        let length = bytes.len();
        let pointer = instance.malloc_raw(2 * length as u32 + 64).expect("malloc");
        let at = pointer as usize;
        let memory = instance.memory_mut();
        memory[at..at + length].copy_from_slice(bytes);
        memory[at + length..at + 2 * length].copy_from_slice(&record);
        memory[at + 2 * length..at + 2 * length + 64].fill(b'x');
        let arguments = [0, 0, (ARRIVAL / 1000) as u32, 0, pointer, length as u32];
        let answer = instance.call_raw(Entry::Firstseen, arguments).expect("no trap");
        if !alerts {
            assert_eq!(answer, pointer);
            continue;
        }
        assert_ne!(answer, pointer);
        let text = &instance.memory()[answer as usize..];
        let end = text.iter().position(|byte| *byte == 0).expect("a NUL behind the answer");
        assert!(annotation(bytes, &text[..end]).expect("an annotation").is_some());
    }
}

/// 10^6 calls, one in a hundred with an alert or a suppressed entry.
fn memory_does_not_grow(generation: Generation) {
    let pack = compiled(None, &[]);
    let mut guest = Guest::new(&pack, Calls::Fluent(generation));
    let session = String::from_utf8(event_with(r#""x":1"#)).expect("text").replace("IAMUser", "AssumedRole");
    let quiet =
        format!(r#"{{"eventSource":"s3.amazonaws.com","eventName":"GetObject","userAgent":"{}"}}"#, "x".repeat(1400));
    let round = |guest: &mut Guest, number: u32| {
        let record = if number.is_multiple_of(100) { session.as_bytes() } else { quiet.as_bytes() };
        let out = guest.process(record, ARRIVAL);
        assert_eq!(out.len() > record.len(), number.is_multiple_of(100));
    };
    for number in 0..10_000 {
        round(&mut guest, number);
    }
    let size = guest.instance.memory_size();
    for number in 10_000..1_000_000 {
        round(&mut guest, number);
    }
    assert_eq!(guest.instance.memory_size(), size, "the memory's size after 10,000 and after 1,000,000 calls");
}

#[test]
fn a_million_calls_keep_the_memory_when_the_host_frees() {
    memory_does_not_grow(Generation::Current);
}

#[test]
fn a_million_calls_keep_the_memory_when_the_host_never_frees() {
    memory_does_not_grow(Generation::Leaking);
}

#[test]
fn ever_new_terms_keep_the_memory_once_the_history_is_full() {
    let pack = compiled(Some("capacity = 1000"), &[]);
    let mut guest = Guest::new(&pack, Calls::Lean);
    let event = String::from_utf8(event_with(r#""x":1"#)).expect("text");
    let mut size = 0;
    for number in 0..200_000 {
        let record = event.replace("bob", &format!("user-{number:08}"));
        assert!(guest.process(record.as_bytes(), ARRIVAL).len() > record.len());
        if number == 100_000 {
            size = guest.instance.memory_size();
        }
    }
    assert_eq!(guest.instance.memory_size(), size, "the memory's size after 100,000 and after 200,000 terms");
    assert!(size <= 4 << 20, "{size} bytes");
}

/// Pieces that JSON and the rules are made of, so that random bytes get past the first checks.
fn fragments() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\"",
            "\\",
            "\\u0047",
            "\\ud800",
            "null",
            "true",
            "1e999999",
            "-0",
            "\"detail\":{",
            "\"eventName\":",
            "\"GetCallerIdentity\"",
            "\"eventSource\":\"sts.amazonaws.com\",",
            "\"userIdentity\":{",
            "\"arn\":\"a\"",
            "\"log\":\"{",
            "\"type\":\"AssumedRole\"",
            "\"event\":{\"action\":",
            "\"EventName\":",
            " ",
            "\n",
        ])
        .prop_map(|piece| piece.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..6),
        Just(event_with("\"x\":1")),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

#[test]
fn arbitrary_bytes_come_back() {
    let pair = std::cell::RefCell::new(Pair::new(Some("event_root = \"log\"")));
    let config = ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    runner
        .run(&fragments(), |record| {
            pair.borrow_mut().annotation(&record);
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}

/// The reader's recursion is as deep as the longest path, whose levels are bounded; here every bound is reached at once.
#[test]
fn the_longest_paths_fit_the_stack() {
    let levels = |level: &str| [level; MAX_LEVELS].join(".");
    let settings = format!("event_root = \"{}\"\ndialect = \"ecs\"", levels("r"));
    let rule = format!(
        "[rule]\nrule_id = \"deep\"\nname = \"deep\"\ntype = \"query\"\nlanguage = \"kuery\"\nseverity = \"low\"\nrisk_score = 21\n\
         query = '{}: \"found\"'\n",
        levels("f")
    );
    let pack = compiled(Some(&settings), &[rule]);
    let nest =
        |level: &str, inner: String| (0..MAX_LEVELS).fold(inner, |inner, _| format!("[{{\"{level}\":{inner}}}]"));
    let event = |value: &str| {
        let deep = nest("f", format!("\"{value}\""));
        let deep = deep.strip_prefix("[{").and_then(|deep| deep.strip_suffix("}]")).expect("an array of one object");
        format!("{{\"event.dataset\":\"aws.cloudtrail\",\"event.action\":\"x\",{deep}}}")
    };
    let in_envelopes = |event: String| {
        let root = (0..MAX_LEVELS).fold(format!("{{\"detail\":{event}}}"), |inner, _| format!("{{\"r\":{inner}}}"));
        root.into_bytes()
    };
    for (value, alerts) in [("found", true), ("other", false)] {
        let record = in_envelopes(event(value));
        let native = Native::new(&pack).process(&record, ARRIVAL);
        let guest = Guest::new(&pack, Calls::Lean).process(&record, ARRIVAL);
        assert!(native == guest, "the module and the engine differ on {}", excerpt(&record));
        assert_eq!(annotation(&record, &guest).expect("a record").is_some(), alerts, "{value}");
    }
}

/// An event of the EC2 role rule with these AS organisations and this ARN.
fn role_event(arn: &str, organizations: &[String]) -> Vec<u8> {
    let organizations = serde_json::to_string(organizations).expect("texts");
    format!(
        r#"{{"eventSource":"sts.amazonaws.com","eventName":"GetCallerIdentity","eventTime":"2026-10-30T11:00:00Z","userIdentity":{{"type":"AssumedRole","principalId":"AROA:i-1","arn":"{arn}"}},"source.as.organization.name":{organizations}}}"#
    )
    .into_bytes()
}

fn named(count: usize) -> Vec<String> {
    (0..count).map(|at| format!("Organisation {at}")).collect()
}

/// The `new_terms` of the EC2 role rule's alerts.
fn role_alerts(pair: &mut Pair, record: &[u8]) -> Vec<Value> {
    let Some((_, object)) = pair.annotation(record) else { return Vec::new() };
    let alerts = object["alerts"].as_array().cloned().unwrap_or_default();
    alerts.into_iter().map(|alert| alert["new_terms"].clone()).filter(|new| !new.is_null()).collect()
}

/// Many values times one long one: what is hashed, kept and written must not be their product.
#[test]
fn a_product_of_terms_stays_small() {
    let mut pair = Pair::new(None);
    let record = role_event(&"a".repeat(900_000), &named(4096));
    let out = Native::new(&compiled(None, &[])).process(&record, ARRIVAL);
    assert!(out.len() < record.len() + 300_000, "{} bytes of a record of {}", out.len(), record.len());
    let alerts = role_alerts(&mut pair, &record);
    assert_eq!(alerts.len(), 32);
    assert_eq!(alerts[0]["values"][1], "Organisation 0");
    let shown = alerts[0]["values"][0].as_str().expect("text");
    assert!(shown.starts_with("aaa") && shown.ends_with("a…") && shown.len() < 2100, "{} bytes", shown.len());
    assert_eq!(alerts[31]["omitted"], 4096 - 32);
    assert!(alerts[30].get("omitted").is_none());
}

/// A new value must not hide behind so many known ones that it is not looked at, nor behind repeated ones.
#[test]
fn a_new_term_does_not_hide_in_a_crowd() {
    let mut pair = Pair::new(None);
    let mut crowd = named(4096);
    assert_eq!(role_alerts(&mut pair, &role_event("a", &crowd)).len(), 32);
    let again = |id: &str, organizations: &[String]| {
        let record = String::from_utf8(role_event("a", organizations)).expect("text");
        record.replacen('{', &format!("{{\"eventID\":\"{id}\","), 1).into_bytes()
    };
    assert_eq!(role_alerts(&mut pair, &again("e-1", &crowd)), [Value::Null; 0]);
    crowd.push("Evil".to_owned());
    let alerts = role_alerts(&mut pair, &again("e-2", &crowd));
    assert_eq!(alerts.len(), 1);
    assert_eq!((&alerts[0]["reason"], &alerts[0]["values"]), (&"too_many".into(), &serde_json::json!([])));

    let mut repeated = vec!["Organisation 0".to_owned(); 5000];
    repeated.push("Evil".to_owned());
    let alerts = role_alerts(&mut pair, &again("e-3", &repeated));
    assert_eq!(alerts.len(), 1);
    assert_eq!(alerts[0]["values"], serde_json::json!(["a", "Evil"]));
}

#[test]
fn neither_export_changes_what_the_other_answers() {
    let mut instance = module().instantiate_captured(None).expect("it starts");
    let mut call = |entry, record: &[u8]| instance.call(entry, b"tag", 1_793_361_600, 0, record).expect("no trap");
    let event = event_with(r#""eventID":"1""#);
    for _ in 0..2 {
        assert_eq!(call(Entry::Alerts, b"{}"), Answer::Dropped);
        assert_eq!(call(Entry::Firstseen, b"{}"), Answer::Untouched);
        assert!(matches!(call(Entry::Firstseen, &event), Answer::Changed(_)));
        assert!(matches!(call(Entry::Alerts, &event), Answer::Changed(_)), "it is the same event again");
        assert_eq!(call(Entry::Firstseen, b"{}"), Answer::Untouched);
    }
}
