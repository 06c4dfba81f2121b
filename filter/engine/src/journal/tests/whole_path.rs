//! What an engine with a state file says of an event, and says again after a crash.

use std::format;
use std::string::String;
use std::vec::Vec;

use super::memory::Disk;
use super::state::{State, recovered};
use crate::rule::{Pack, Warming, builtin, compile};
use crate::{Engine, Outcome};

/// 2026-10-01T00:00:00Z, in milliseconds.
const BEGIN: i64 = 1_790_812_800_000;
const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;

fn pack() -> Pack {
    compile::builtin(&builtin::FILES).expect("the built-in rules compile")
}

fn open(pack: &Pack, disk: &Disk) -> Engine {
    Engine::open(pack.clone(), disk.storage(), [5; 16]).expect("the fields are known")
}

/// What comes back of a record; nothing, if it came back as it was.
fn process(engine: &mut Engine, record: &str, arrival: i64) -> Option<String> {
    let mut out = Vec::new();
    match engine.process(record.as_bytes(), arrival, &mut out) {
        Outcome::Untouched => None,
        Outcome::Annotated { .. } => Some(String::from_utf8(out).expect("what is appended is text")),
    }
}

/// A call by a user, which alerts when it is the user's first in ten days. Without an id the event has none.
fn by_user(user: &str, time: &str, id: &str) -> String {
    let id = if id.is_empty() { String::new() } else { format!(r#","eventID":"{id}""#) };
    format!(
        r#"{{"eventSource":"sts.amazonaws.com","eventName":"GetCallerIdentity","eventTime":"{time}","awsRegion":"eu-central-1","sourceIPAddress":"203.0.113.66","userIdentity":{{"type":"IAMUser","arn":"arn:aws:iam::111122223333:user/{user}","accountId":"111122223333","userName":"{user}"}}{id}}}"#
    )
}

/// A call by a session of an EC2 role: a tuple and a group.
fn by_role(organization: &str, time: &str, id: &str) -> String {
    format!(
        r#"{{"eventSource":"sts.amazonaws.com","eventName":"GetCallerIdentity","eventTime":"{time}","awsRegion":"eu-central-1","sourceIPAddress":"203.0.113.66","eventID":"{id}","userIdentity":{{"type":"AssumedRole","principalId":"AROA:i-0123456789","arn":"arn:aws:sts::111122223333:assumed-role/web/i-0123456789","accountId":"111122223333"}},"source":{{"as":{{"organization":{{"name":"{organization}"}}}}}}}}"#
    )
}

#[test]
fn an_event_dated_far_ahead_neither_expires_others_nor_stays_known() {
    let disk = Disk::default();
    let mut pack = pack();
    pack.settings.capacity = 3;
    let mut engine = open(&pack, &disk);
    let mut at = |user, time: &str, id, arrival| process(&mut engine, &by_user(user, time, id), arrival);
    assert!(at("known", "2026-10-01T00:00:00Z", "1", BEGIN).is_some());
    let ahead = "2099-01-01T00:00:00Z";
    assert!(at("ahead", ahead, "2", BEGIN).is_some_and(|out| out.contains(r#""reason":"never_seen""#)));
    assert_eq!(at("known", "2026-10-01T00:01:00Z", "3", BEGIN + MINUTE), None);
    // One that is 15 minutes ahead is believed, and one that is more counts as that.
    assert_eq!(at("ahead", "2026-10-11T00:15:00Z", "4", BEGIN + 10 * DAY + 15 * MINUTE), None);
    assert!(at("far ahead", ahead, "5", BEGIN + 11 * DAY).is_some());
    let out = at("far ahead", "2026-10-22T00:15:01Z", "6", BEGIN + 21 * DAY + 15 * MINUTE).expect("an alert");
    assert!(out.contains(r#""reason":"expired","last_seen":"2026-10-12T00:15:00Z""#), "{out}");
    // Nothing was evicted as if it had expired.
    for (number, user) in ["b", "c", "d", "e"].into_iter().enumerate() {
        assert!(at(user, ahead, user, BEGIN + 21 * DAY + number as i64).is_some());
    }
    assert_eq!(i64::from(engine.history().clock()) * 1000, BEGIN + 21 * DAY + 15 * MINUTE + 1000);
    // After a crash the clock is where it was.
    let engine = open(&pack, &disk);
    assert_eq!(i64::from(engine.history().clock()) * 1000, BEGIN + 21 * DAY + 15 * MINUTE + 1000);
    let standing = engine.history().owners().find(|(_, owner)| !owner.is_empty()).map(|(_, owner)| owner.standing);
    let standing = standing.expect("a rule with tuples");
    // Two had expired, and for the other two there was no space.
    assert_eq!((standing.expired_until > 0, standing.evictions), (true, 2));
}

#[test]
fn the_same_event_again_gives_the_same_alert_and_another_event_none() {
    let redelivered = [
        by_user("ahead", "2099-01-01T00:00:00Z", "id of ahead"),
        by_user("now", "2026-10-01T00:00:00Z", "id of now"),
        by_user("nobody's id", "2026-10-01T00:00:00Z", ""),
        by_role("ISP", "2026-10-01T00:00:01Z", "id of role"),
    ];
    let others = [
        by_user("ahead", "2099-01-01T00:00:00Z", "another id"),
        by_user("now", "2026-10-01T00:00:02Z", "another id"),
        by_user("nobody's id", "2026-10-01T00:00:03Z", ""),
    ];
    let pack = pack();
    let disk = Disk::default();
    let mut engine = open(&pack, &disk);
    let first: Vec<_> = redelivered.iter().map(|record| process(&mut engine, record, BEGIN)).collect();
    assert!(first.iter().all(|out| out.as_ref().is_some_and(|out| out.contains(r#""durable":true"#))), "{first:?}");
    assert!(first[3].as_ref().is_some_and(|out| out.contains(r#""suppression""#) && out.contains(r#""new_terms""#)));
    for crash in [false, true, true] {
        if crash {
            engine = open(&pack, &disk);
        }
        let again: Vec<_> = redelivered.iter().map(|record| process(&mut engine, record, BEGIN)).collect();
        let says_so = |out: &Option<String>| out.as_ref().is_some_and(|out| out.contains(AGAIN));
        assert!(again.iter().all(says_so) && !first.iter().any(says_so), "after a crash: {crash}");
        let again: Vec<_> = again.into_iter().map(without_again).collect();
        assert_eq!(again, first, "after a crash: {crash}");
        for other in &others {
            assert_eq!(process(&mut engine, other, BEGIN + MINUTE), None, "after a crash: {crash}");
        }
    }
    let out = process(&mut engine, &by_role("ISP", "2026-10-01T00:00:05Z", "another id"), BEGIN).expect("a group");
    assert!(
        !out.contains(r#""alerts""#) && out.contains(r#""suppressed":[{"rule_id""#) && out.contains(r#""count":2"#)
    );
}

/// What an alert says on an event that was delivered before.
const AGAIN: &str = r#","again":true"#;

fn without_again(out: Option<String>) -> Option<String> {
    out.map(|out| out.replace(AGAIN, ""))
}

#[test]
fn an_event_that_is_cut_off_at_any_byte_gives_the_same_alert_again() {
    let pack = pack();
    let disk = Disk::default();
    let mut engine = open(&pack, &disk);
    assert!(process(&mut engine, &by_user("before", "2026-10-01T00:00:00Z", "1"), BEGIN).is_some());
    for record in [by_user("a", "2026-10-01T00:01:00Z", "2"), by_role("ISP", "2026-10-01T00:01:00Z", "3")] {
        let before = disk.state_file().len();
        let expected = process(&mut engine, &record, BEGIN + MINUTE);
        assert!(expected.is_some());
        let file = disk.state_file();
        assert!(file.len() > before);
        for len in before..=file.len() {
            let disk = Disk::with_file(&file[..len]);
            let mut engine = open(&pack, &disk);
            assert_eq!(engine.take_notice(), None);
            let out = process(&mut engine, &record, BEGIN + MINUTE);
            let is_known = out.as_ref().is_some_and(|out| out.contains(AGAIN));
            assert!(!(len == before && is_known) && (len < file.len() || is_known), "cut off at {len}");
            assert_eq!(without_again(out), expected, "cut off at {len}");
            assert_eq!(process(&mut engine, &by_user("before", "2026-10-01T00:02:00Z", "4"), BEGIN + MINUTE), None);
        }
    }
}

#[test]
fn alerts_say_whether_they_outlive_the_process() {
    let pack = pack();
    let disk = Disk::default();
    let mut engine = open(&pack, &disk);
    let alert = |engine: &mut Engine, number: i64| {
        let record = by_user(&format!("user {number}"), "2026-10-01T00:00:00Z", &format!("id {number}"));
        let out = process(engine, &record, BEGIN + number * 1000).expect("an alert");
        out.contains(r#""durable":true"#)
    };
    assert!(alert(&mut engine, 1) && engine.take_notice().is_none());
    disk.set_read_only(true);
    assert!(!alert(&mut engine, 2));
    assert!(engine.take_notice().is_some_and(|told| told.contains("read-only")) && engine.take_notice().is_none());
    assert!(!alert(&mut engine, 3));
    disk.set_read_only(false);
    assert!(!alert(&mut engine, 4));
    assert!(alert(&mut engine, 20));
    assert!(engine.take_notice().is_some_and(|told| told.contains("durable again")) && engine.take_notice().is_none());
    let engine = open(&pack, &disk);
    assert_eq!(engine.history().len(), 5);
}

#[test]
fn alerts_say_that_part_of_the_file_was_lost() {
    let pack = pack();
    let disk = Disk::default();
    let mut engine = open(&pack, &disk);
    for user in ["a", "b", "c"] {
        assert!(process(&mut engine, &by_user(user, "2026-10-01T00:00:00Z", user), BEGIN).is_some());
    }
    let mut file = disk.state_file();
    // A batch of a clock and a tuple takes 56 bytes: that of b is damaged.
    let at = file.len() - 2 * 56 + 40;
    file[at] ^= 1;
    let disk = Disk::with_file(&file);
    let mut engine = open(&pack, &disk);
    assert!(engine.take_notice().is_some_and(|told| told.starts_with("56 of the ")) && engine.take_notice().is_none());
    let mut again = |user: &str, time: &str, arrival| process(&mut engine, &by_user(user, time, "again"), arrival);
    let time = "2026-10-01T00:01:00Z";
    assert_eq!([again("a", time, BEGIN + MINUTE), again("c", time, BEGIN + MINUTE)], [None, None]);
    let out = again("b", time, BEGIN + MINUTE).expect("it may alert again");
    assert!(out.contains(r#""durable":true,"damaged":"2026-10-01T00:01:00"#), "{out}");
    engine = open(&pack, &disk);
    let mut again = |user: &str, time: &str, arrival| process(&mut engine, &by_user(user, time, "again"), arrival);
    let out = again("c2", "2026-10-11T00:01:00Z", BEGIN + 10 * DAY + MINUTE).expect("an alert");
    assert!(out.contains(r#""durable":true,"damaged":"2026-10-01T00:01:00"#), "after a restart: {out}");
    let out = again("d", "2026-10-11T00:01:01Z", BEGIN + 10 * DAY + MINUTE + 1000).expect("an alert");
    assert!(!out.contains("damaged"), "all that was lost has expired: {out}");
}

#[test]
fn what_is_held_is_counted_whatever_happens() {
    let mut pack = pack();
    pack.settings.warming = Warming::Hold;
    let disk = Disk::default();
    for crash in 0..3 {
        let mut engine = open(&pack, &disk);
        for user in ["a", "b"] {
            let record = by_user(&format!("{user}{crash}"), "2026-10-01T00:00:00Z", &format!("{user}{crash}"));
            assert_eq!(process(&mut engine, &record, BEGIN), None);
        }
    }
    let mut engine = open(&pack, &disk);
    let known = by_user("a0", "2026-10-10T00:00:00Z", "known");
    assert_eq!(process(&mut engine, &known, BEGIN + 9 * DAY), None);
    let out = process(&mut engine, &by_user("z", "2026-10-11T00:00:00Z", "z"), BEGIN + 10 * DAY).expect("an alert");
    assert!(out.contains(r#""since":"2026-10-01T00:00:00"#) && out.contains(r#""state":"complete""#), "{out}");
    assert!(out.contains(r#""held":6"#), "{out}");
}

#[test]
fn an_instance_for_every_record_says_what_one_instance_says() {
    let mut pack = pack();
    for capacity in [4, 1000] {
        pack.settings.capacity = capacity;
        let (disk, disk_of_many) = (Disk::default(), Disk::default());
        let mut engine = open(&pack, &disk);
        for number in 0..300_u32 {
            let user = number * 7919 % 9;
            let (days, hours) = (1 + number / 12, number * 5 % 24);
            let time = format!("2026-10-{days:02}T{hours:02}:00:00Z");
            let arrival = BEGIN + i64::from(number / 12) * DAY + i64::from(number % 12) * 2 * 60 * MINUTE;
            let record = match number % 3 {
                0 => by_role(&format!("ISP {user}"), &time, &format!("{number}")),
                _ => by_user(&format!("user {user}"), &time, &format!("{number}")),
            };
            let mut one_of_many = open(&pack, &disk_of_many);
            let (one, many) = (process(&mut engine, &record, arrival), process(&mut one_of_many, &record, arrival));
            assert_eq!(one, many, "record {number}, capacity {capacity}");
            assert_eq!((engine.take_notice(), one_of_many.take_notice()), (None, None));
        }
    }
}

#[test]
fn what_is_forgotten_in_the_batch_in_which_a_rule_begins_is_counted_once() {
    let mut pack = pack();
    pack.settings.capacity = 1;
    let disk = Disk::default();
    let mut engine = open(&pack, &disk);
    // Nobody knows when it arrived: the history begins with the event itself. It makes a tuple and a group.
    assert!(process(&mut engine, &by_role("ISP", "2026-10-01T00:00:00Z", "1"), 0).is_some());
    let recovered = recovered(&disk.state_file(), 1).expect("a state file");
    assert_eq!(State::of(&recovered.history), State::of(engine.history()));
}

#[test]
fn a_rule_that_did_not_run_is_warming_when_it_runs_again() {
    let (with, mut without) = (pack(), pack());
    without.rules.remove(1);
    let disk = Disk::default();
    assert!(process(&mut open(&with, &disk), &by_user("a", "2026-10-01T00:00:00Z", "1"), BEGIN).is_some());
    let mut engine = open(&without, &disk);
    for day in 1..12 {
        let record = by_user("b", &format!("2026-10-{:02}T00:00:00Z", 1 + day), "2");
        assert_eq!(process(&mut engine, &record, BEGIN + day * DAY), None);
    }
    let mut engine = open(&with, &disk);
    let out = process(&mut engine, &by_user("b", "2026-10-13T00:00:00Z", "3"), BEGIN + 12 * DAY).expect("an alert");
    assert!(out.contains(r#""state":"warming""#), "{out}");
}

#[test]
fn a_time_long_ago_does_not_make_the_history_reach_back() {
    // What arrived long ago, or says that it happened then where nobody knows when it arrived, is one wrong clock's.
    for (first, long_ago) in [(BEGIN, 1000), (0, 0)] {
        let mut engine = open(&pack(), &Disk::default());
        assert!(process(&mut engine, &by_user("a", "2026-10-01T00:00:00Z", "1"), first).is_some());
        assert!(process(&mut engine, &by_user("b", "1970-01-02T00:00:00Z", "2"), long_ago).is_some());
        let now = if first == 0 { 0 } else { first + 1000 };
        let out = process(&mut engine, &by_user("c", "2026-10-01T00:00:01Z", "3"), now).expect("an alert");
        assert!(out.contains(r#""state":"warming""#) && out.contains(r#""since":"2026-10-01"#), "{out}");
    }
}

#[test]
fn an_engine_without_a_directory_detects_all_the_same() {
    let disk = Disk::default();
    disk.set_unreachable(Some(crate::storage::StorageError::NO_DIRECTORY));
    let mut engine = open(&pack(), &disk);
    assert!(engine.take_notice().is_some() && engine.take_notice().is_none());
    let out = process(&mut engine, &by_user("a", "2026-10-01T00:00:00Z", "1"), BEGIN).expect("an alert");
    assert!(out.contains(r#""durable":false"#), "{out}");
    assert_eq!(process(&mut engine, &by_user("a", "2026-10-01T00:00:00Z", "2"), BEGIN), None);
    assert_eq!(engine.take_notice(), None);
}
