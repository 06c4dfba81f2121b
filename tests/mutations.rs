//! Mutated records and bodies: whatever is done to them, nothing traps, nothing is lost, and nothing is hidden.
//!
//! In: records of every dialect and envelope, one event or several, with bytes changed, removed, repeated and moved; and bodies of such
//! records in every framing. Out: that the engine gives each record back with at most one more key, with its prefilter as without
//! it; that the module does the same as the engine; and that files give the records that bodies do. Bounds:
//! `FIRSTSEEN_MUTATIONS` says how many; a few thousand unless it is set. Not here: what the alerts say (the oracle).

use std::env;

use firstseen::logs::{MAX_RECORD, body, records::Records};
use firstseen::sample::Random;
use firstseen_engine::{Engine, Outcome};

use crate::oracle::read_time;
use crate::subjects::{Calls, Guest, Subject, compiled};

const EVENT: &str = r#"{"eventVersion":"1.11","eventSource":"sts.amazonaws.com","eventName":"GetCallerIdentity","eventTime":"2026-10-30T12:00:00Z","eventID":"e-1","sourceIPAddress":"203.0.113.5","userIdentity":{"type":"AssumedRole","principalId":"AROA:i-0a","arn":"arn:aws:sts::1:assumed-role/web/i-0a"},"additionalEventData":{"ExtendedRequestId":"MTp"},"source":{"as":{"organization":{"name":"Example Hosting"}}}}"#;
const ECS: &str = r#"{"@timestamp":"2026-10-30T12:00:00Z","event":{"provider":"sts.amazonaws.com","action":"GetCallerIdentity","outcome":"success","id":"e-2"},"aws":{"cloudtrail":{"user_identity":{"type":"IAMUser","arn":"arn:aws:iam::1:user/a"}}}}"#;
const SENTINEL: &str = r#"{"TimeGenerated":"2026-10-30T12:00:00Z","EventSource":"sts.amazonaws.com","EventName":"GetCallerIdentity","AwsEventId":"e-3","UserIdentityType":"AssumedRole","UserIdentityArn":"arn:aws:sts::1:assumed-role/web/b","AdditionalEventData":"{\"ExtendedRequestId\":\"MTp\"}"}"#;
const OTHER: &str = r#"{"eventVersion":"1.11","eventSource":"ec2.amazonaws.com","eventName":"DescribeInstances","eventID":"e-4","userAgent":"x \u0026 \"y\""}"#;

/// Bytes that mean something in JSON, and some that do not.
const BYTES: &[u8] = b"{}[]\",:\\ \n\r\t\0u0022nN1e-.\x1e|;\xff\xc3A";

fn text_of(json: &str) -> String {
    serde_json::Value::from(json).to_string()
}

/// Records of every kind.
fn seeds() -> Vec<String> {
    let mut seeds = vec![];
    for event in [EVENT, ECS, SENTINEL, OTHER] {
        seeds.push(event.to_owned());
        seeds.push(format!(r#"{{"bucket":"b","Records":[{OTHER},{event},{EVENT}]}}"#));
        seeds.push(format!(r#"{{"records":[{event},{SENTINEL}]}}"#));
        seeds.push(format!(r#"{{"detail":{event}}}"#));
        let message = text_of(&format!(r#"{{"Records":[{event},{ECS}]}}"#));
        seeds.push(format!(r#"{{"logEvents":[{{"message":{}}},{{"message":{}}}]}}"#, text_of(event), text_of(OTHER)));
        seeds.push(format!(r#"{{"Body":{}}}"#, text_of(&format!(r#"{{"Message":{message}}}"#))));
        seeds.push(format!(r#"{{"event":{},"message":"x"}}"#, text_of(event)));
        seeds.push(event.replace(r#""userIdentity":{"type":"AssumedRole","principalId":"AROA:i-0a","arn":"arn:aws:sts::1:assumed-role/web/i-0a"}"#, r#""userIdentity":"{\"type\":\"IAMUser\",\"arn\":\"arn:aws:iam::1:user/t\"}""#));
    }
    seeds.push(r#"{"records":[{"data":"eyJldmVudFNvdXJjZSI6InN0cy5hbWF6b25hd3MuY29tIiwiZXZlbnROYW1lIjoiR2V0Q2FsbGVySWRlbnRpdHkiLCJ1c2VySWRlbnRpdHkiOnsidHlwZSI6IklBTVVzZXIiLCJhcm4iOiJhcm46YXdzOmlhbTo6MTp1c2VyL2YifX0="}]}"#.to_owned());
    seeds
}

fn below(random: &mut Random, bound: usize) -> usize {
    (random.number() % bound.max(1) as u64) as usize
}

/// A seed with up to four changes.
fn mutated(seeds: &[String], random: &mut Random) -> Vec<u8> {
    let mut record = seeds[below(random, seeds.len())].clone().into_bytes();
    for _ in 0..below(random, 5) {
        let at = below(random, record.len());
        let len = below(random, 12).min(record.len() - at);
        match below(random, 6) {
            0 => record[at] = BYTES[below(random, BYTES.len())],
            1 => record.insert(at, BYTES[below(random, BYTES.len())]),
            2 => drop(record.drain(at..at + len)),
            3 => {
                let copy = record[at..at + len].to_vec();
                let to = below(random, record.len());
                record.splice(to..to, copy);
            }
            4 => {
                let other = &seeds[below(random, seeds.len())];
                record.splice(at..at + len, other.bytes());
            }
            _ => {
                // A letter as an escape.
                if record[at].is_ascii_alphabetic() {
                    let escape = format!("\\u{:04x}", record[at]);
                    record.splice(at..=at, escape.into_bytes());
                }
            }
        }
        if record.is_empty() {
            record.push(b'{');
        }
    }
    record
}

fn count() -> usize {
    env::var("FIRSTSEEN_MUTATIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(20_000)
}

/// The record as it comes out.
fn processed(engine: &mut Engine, record: &[u8], arrival: i64, is_filtered: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let outcome = match is_filtered {
        true => engine.process(record, arrival, &mut out),
        false => engine.process_unfiltered(record, arrival, &mut out),
    };
    if outcome == Outcome::Untouched { record.to_vec() } else { out }
}

#[test]
fn mutated_records_are_given_back_whole_and_the_prefilter_hides_none() {
    let (seeds, mut random) = (seeds(), Random::new(14));
    let arrival = read_time("2026-10-30T12:05:00Z").expect("a time");
    let packs = [compiled(None, &[]), compiled(Some("event_root = \"log.event\""), &[])];
    let mut alerting = 0;
    for pack in &packs {
        let [mut filtered, mut unfiltered] = [(); 2].map(|()| Engine::new(pack.clone(), [7; 16]).expect("a pack"));
        let mut module = Guest::new(pack, Calls::Lean);
        for number in 0..count() / packs.len() {
            let record = mutated(&seeds, &mut random);
            let out = processed(&mut filtered, &record, arrival, true);
            let same = processed(&mut unfiltered, &record, arrival, false);
            let shown = || String::from_utf8_lossy(&record).into_owned();
            assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&same), "{}", shown());
            if out != record {
                alerting += 1;
                let end = record.iter().rposition(|byte| *byte == b'}').expect("an object");
                assert!(out.starts_with(&record[..end]) && out.ends_with(&record[end..]), "{}", shown());
            }
            // The module is slower; what it does not see its history does not know, so it sees every record of some stretches.
            if number % 10_000 < 2_000 && number < 40_000 && !record.contains(&0) {
                module.process(&record, arrival);
            }
        }
    }
    assert!(alerting > count() / 20, "{alerting} records alert");
}

/// The texts of the records that a reader finds.
fn from_file(text: &[u8]) -> Vec<Vec<u8>> {
    let mut records = Records::new(text, MAX_RECORD).expect("it begins");
    let mut found = Vec::new();
    while let Ok(Some(record)) = records.next() {
        if record.left_out.is_none() {
            found.push(record.text.to_vec());
        }
    }
    found
}

fn from_body(text: &[u8]) -> Vec<Vec<u8>> {
    let batch = body::read(text, MAX_RECORD, |_, _| true);
    batch.candidates.into_iter().map(|place| text[place].to_vec()).collect()
}

#[test]
fn files_give_the_records_that_bodies_give() {
    let (seeds, mut random) = (seeds(), Random::new(15));
    let mut found = 0;
    for _ in 0..count() / 4 {
        let separator = ["\n", "", ",", " ", ";", "|", "\0", "\x1e", "\r\n"][below(&mut random, 9)].as_bytes();
        let mut text = Vec::new();
        for number in 0..1 + below(&mut random, 4) {
            if number > 0 {
                text.extend_from_slice(separator);
            }
            text.extend(mutated(&seeds, &mut random));
        }
        if below(&mut random, 4) == 0 {
            text = [b"[".as_slice(), &text, b"]"].concat();
        }
        let [file, body] = [from_file(&text), from_body(&text)];
        found += file.len();
        let shown = |records: &[Vec<u8>]| -> Vec<String> {
            records.iter().map(|record| String::from_utf8_lossy(record).into_owned()).collect()
        };
        assert_eq!(shown(&file), shown(&body), "{}", String::from_utf8_lossy(&text));
    }
    assert!(found > count() / 8, "{found} records were found");
}
