//! The sidecar's life: one history for all, other rules, traps, its end.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::parties::{Behaviour, Receiver, Sender, Sidecar, alert_count, event, named_event};

/// How many senders there are at once.
const SENDERS: usize = 8;

#[test]
fn a_tuple_alerts_once_however_many_bring_it_at_the_same_time() {
    let receiver = Receiver::start();
    let sidecar = Sidecar::forwarding(None, &receiver, &[]);
    let users = 300;
    std::thread::scope(|scope| {
        for sender in 0..SENDERS {
            let address = sidecar.address;
            scope.spawn(move || {
                let mut connection = Sender::connect(address);
                for first in (0..users).step_by(10) {
                    // Each sender brings each user in an event of its own, all at about the same time.
                    let events =
                        (first..first + 10).map(|user| event(&format!("{sender}-{user}"), &format!("u{user}")));
                    let body = events.collect::<Vec<_>>().join("\n");
                    assert_eq!(connection.request("POST", "/", &[], body.as_bytes()).expect("an answer").status, 200);
                }
            });
        }
    });
    let taken = receiver.taken();
    assert_eq!(taken.len(), SENDERS * users / 10);
    assert_eq!(taken.iter().map(|batch| alert_count(&batch.body)).sum::<usize>(), users);
}

const OWN_RULE: &str = r#"
[rule]
rule_id = "6d0a2a0e-0000-4000-8000-000000000001"
name = "Any change of a trail"
description = "A trail was stopped."
type = "query"
language = "kuery"
query = "event.action: StopLogging"
severity = "high"
risk_score = 73
"#;

fn compile(directory: &Path) {
    let compiled = std::process::Command::new(env!("CARGO_BIN_EXE_firstseen")).arg("compile").arg(directory).output();
    let compiled = compiled.expect("the program starts");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
}

/// A directory with the pack of the built-in rules, and room for others.
fn directory_with_pack() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(directory.path().join("rules")).expect("it is made");
    compile(directory.path());
    directory
}

#[test]
fn other_rules_are_loaded_without_losing_a_request() {
    let (directory, receiver) = (directory_with_pack(), Receiver::start());
    let sidecar = Sidecar::forwarding(Some(directory.path()), &receiver, &[]);
    let stop = |id: &str| named_event(id, "ann", "StopLogging");
    assert_eq!(sidecar.post(&[], [event("a", "ann"), stop("b")].join("\n").as_bytes()).status, 200);
    assert_eq!(alert_count(&receiver.taken()[0].body), 1);

    let (is_over, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for sender in 0..3 {
            let (is_over, answered, address) = (&is_over, &answered, sidecar.address);
            scope.spawn(move || {
                let mut connection = Sender::connect(address);
                for number in 0.. {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    let body = event(&format!("{sender}-{number}"), "ann");
                    let reply = connection.request("POST", "/", &[], body.as_bytes());
                    assert_eq!(reply.expect("an answer").status, 200);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        std::fs::write(directory.path().join("rules/own.toml"), OWN_RULE).expect("it is written");
        compile(directory.path());
        sidecar.wait_for("loaded anew");
        // A pack that cannot be used is told of once, and changes nothing.
        std::fs::write(directory.path().join("firstseen.pack"), b"no pack").expect("it is written");
        sidecar.wait_for("the rules that ran before go on");
        std::thread::sleep(Duration::from_secs(5));
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(sidecar.log().matches("the rules that ran before go on").count(), 1, "{}", sidecar.log());
    let taken = receiver.taken();
    assert_eq!(taken.len() as u64, answered.load(Ordering::Relaxed));
    assert!(taken.iter().all(|batch| alert_count(&batch.body) == 0), "the history was kept");
    assert_eq!(sidecar.post(&[], [event("c", "ann"), stop("d")].join("\n").as_bytes()).status, 200);
    let body = receiver.taken().remove(0).body;
    assert!(alert_count(&body) == 1 && str::from_utf8(&body).expect("text").contains("Any change of a trail"));
    // The reloads are counted.
    assert_eq!(sidecar.metric("firstseen_reloads_total{result=\"ok\"}"), 1.0);
    assert_eq!(sidecar.metric("firstseen_reloads_total{result=\"failed\"}"), 1.0);
}

#[test]
fn a_pack_that_cannot_be_read_is_said_once_and_counted_and_the_old_rules_go_on() {
    let (directory, receiver) = (directory_with_pack(), Receiver::start());
    std::fs::write(directory.path().join("rules/own.toml"), OWN_RULE).expect("it is written");
    compile(directory.path());
    let sidecar = Sidecar::forwarding(Some(directory.path()), &receiver, &[]);
    assert_eq!(sidecar.metric("firstseen_pack_failures_total"), 0.0);
    let pack = directory.path().join("firstseen.pack");
    let kept = directory.path().join("kept");
    let said = |text: &str| sidecar.log().matches(text).count();
    let looks = |more: f64| {
        let failures = || sidecar.metric("firstseen_pack_failures_total");
        let before = failures();
        let begun = std::time::Instant::now();
        while failures() < before + more {
            assert!(begun.elapsed() < Duration::from_secs(30), "it does not look:\n{}", sidecar.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    let read_again = |times: usize| {
        let begun = std::time::Instant::now();
        while said("firstseen.pack can be read again") < times {
            assert!(begun.elapsed() < Duration::from_secs(30), "it does not say so:\n{}", sidecar.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    std::fs::rename(&pack, &kept).expect("it is moved");
    sidecar.wait_for("firstseen.pack is gone; the rules that ran before go on");
    std::fs::rename(&kept, &pack).expect("it is moved back");
    read_again(1);

    // A directory, and a pipe whose other end nobody opens.
    std::fs::rename(&pack, &kept).expect("it is moved");
    std::fs::create_dir(&pack).expect("it is made");
    looks(3.0);
    assert_eq!(said("firstseen.pack: is a directory; the rules that ran before go on"), 1, "{}", sidecar.log());
    std::fs::remove_dir(&pack).expect("it is removed");
    let pipe = std::process::Command::new("mkfifo").arg(&pack).status();
    assert!(pipe.expect("there is a mkfifo").success());
    looks(2.0);
    sidecar.signal("HUP");
    looks(2.0);
    // Once when it was found, once when it was asked for.
    let of_pipe = "firstseen.pack: it is no regular file; the rules that ran before go on";
    assert_eq!(said(of_pipe), 2, "{}", sidecar.log());
    let body = named_event("a", "ann", "StopLogging");
    assert_eq!(sidecar.post(&[], body.as_bytes()).status, 200);
    assert_eq!(alert_count(&receiver.taken().remove(0).body), 1);

    std::fs::remove_file(&pack).expect("it is removed");
    std::fs::rename(&kept, &pack).expect("it is moved back");
    read_again(2);
    assert!(said("loaded anew") == 0, "it is the pack that runs");
}

#[test]
fn a_pack_that_was_damaged_meanwhile_stops_no_start_where_there_is_a_history() {
    let (directory, receiver) = (directory_with_pack(), Receiver::start());
    std::fs::write(directory.path().join("rules/own.toml"), OWN_RULE).expect("it is written");
    compile(directory.path());
    let sidecar = Sidecar::forwarding(Some(directory.path()), &receiver, &[]);
    assert_eq!(sidecar.post(&[], event("a", "ann").as_bytes()).status, 200);
    drop(sidecar);
    let pack = directory.path().join("firstseen.pack");
    let whole = std::fs::read(&pack).expect("it is there");
    std::fs::write(&pack, &whole[..whole.len() / 2]).expect("it is cut");
    let sidecar = Sidecar::forwarding(Some(directory.path()), &receiver, &[]);
    sidecar.wait_for("the rules of firstseen.pack.last run");
    receiver.taken();
    let body = [named_event("b", "ann", "StopLogging"), event("c", "ann")].join("\n");
    assert_eq!(sidecar.post(&[], body.as_bytes()).status, 200);
    let body = receiver.taken().remove(0).body;
    assert!(alert_count(&body) == 1 && str::from_utf8(&body).expect("text").contains("Any change of a trail"));
    // What is compiled anew is loaded.
    compile(directory.path());
    sidecar.wait_for("loaded anew");
    drop(sidecar);
    std::fs::remove_file(directory.path().join("firstseen.state")).expect("it is there");
    std::fs::write(&pack, &whole[..whole.len() / 2]).expect("it is cut");
    let refused = Sidecar::try_start(Some(directory.path()), &["--forward", &receiver.url()]);
    assert!(refused.is_err(), "nothing is lost where there is no history");
}

#[test]
fn a_batch_that_came_half_before_other_rules_is_read_by_them() {
    let (directory, receiver) = (directory_with_pack(), Receiver::start());
    let sidecar = Sidecar::forwarding(Some(directory.path()), &receiver, &[]);
    let others = (0..1000).map(|number| named_event(&format!("c{number}"), "ann", "DescribeInstances"));
    let lines: Vec<String> =
        [named_event("a", "ann", "StopLogging"), event("b", "ann")].into_iter().chain(others).collect();
    let body = lines.join("\n");
    let (half, rest) = body.as_bytes().split_at(body.len() / 2);
    let mut sender = Sender::connect(sidecar.address);
    let head = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    sender.raw().write_all(&[head.as_bytes(), half].concat()).expect("it is sent");
    std::fs::write(directory.path().join("rules/own.toml"), OWN_RULE).expect("it is written");
    compile(directory.path());
    sidecar.wait_for("loaded anew");
    sender.raw().write_all(rest).expect("it is sent");
    assert_eq!(sender.reply().expect("an answer").status, 200);
    let taken = receiver.taken().remove(0).body;
    assert!(alert_count(&taken) == 2 && str::from_utf8(&taken).expect("text").contains("Any change of a trail"));
}

#[test]
fn a_history_that_was_tended_is_taken_up_when_told_to() {
    let directory = tempfile::tempdir().expect("a directory");
    let receiver = Receiver::start();
    let sidecar = Sidecar::forwarding(Some(directory.path()), &receiver, &[]);
    sidecar.post(&[], event("a", "ann").as_bytes());
    let forget = ["state", "forget", "--rule", "30fbf4db-c502-4e68-a239-2e99af0f70da"];
    let forgotten =
        std::process::Command::new(env!("CARGO_BIN_EXE_firstseen")).args(forget).arg(directory.path()).status();
    assert!(forgotten.expect("the program starts").success());
    sidecar.signal("HUP");
    sidecar.wait_for("loaded anew");
    receiver.taken();
    sidecar.post(&[], event("b", "ann").as_bytes());
    assert_eq!(alert_count(&receiver.taken()[0].body), 1);
}

#[test]
fn a_history_in_memory_outlives_a_reload_that_brings_no_other_rules() {
    let directory = tempfile::tempdir().expect("a directory");
    let token = directory.path().join("token");
    std::fs::write(&token, "0123456789abcdef0123").expect("it is written");
    let arguments = ["--respond", "--token-file", token.to_str().expect("a name")];
    let known = [("Authorization", "Bearer 0123456789abcdef0123")];
    // A history that is in memory since its file can be written no more.
    let unwritable = directory_with_pack();
    for configuration in [None, Some(unwritable.path())] {
        let sidecar = Sidecar::start(configuration, &arguments);
        if let Some(configuration) = configuration {
            std::fs::create_dir(configuration.join("away")).expect("it is made");
            std::fs::rename(configuration.join("firstseen.state"), configuration.join("away/firstseen.state"))
                .expect("it is moved");
            std::fs::create_dir(configuration.join("firstseen.state")).expect("it is made");
        }
        let alerts = |id: &str, user: &str| alert_count(&sidecar.post(&known, event(id, user).as_bytes()).body);
        assert_eq!(alerts("a", "ann"), 1);
        sidecar.signal("HUP");
        sidecar.wait_for("the token is loaded anew");
        sidecar.wait_for("no file would keep its history");
        assert_eq!((alerts("b", "ann"), alerts("c", "ben")), (0, 1), "{}", sidecar.log());
    }
}

#[test]
fn other_rules_for_a_history_in_memory_are_loaded_with_a_word() {
    let directory = directory_with_pack();
    let sidecar = Sidecar::start(Some(directory.path()), &["--respond"]);
    // The next start finds no file that it can use.
    let state = directory.path().join("firstseen.state");
    std::fs::remove_file(&state).expect("it is removed");
    std::fs::create_dir(&state).expect("it is made");
    std::fs::write(directory.path().join("rules/own.toml"), OWN_RULE).expect("it is written");
    compile(directory.path());
    sidecar.wait_for("the rules are loaded anew, and the history, which no file keeps, is lost");
    assert_eq!(alert_count(&sidecar.post(&[], named_event("b", "ann", "StopLogging").as_bytes()).body), 1);
}

#[test]
fn requests_under_way_are_finished_before_it_ends() {
    let receiver = Receiver::deciding(|| Behaviour::TakeSlowly(Duration::from_secs(1)));
    let sidecar = Sidecar::forwarding(None, &receiver, &[]);
    let address = sidecar.address;
    // A connection without a request does not hold the end up.
    let mut idle = Sender::connect(address);
    idle.request("GET", "/health", &[], b"").expect("an answer");
    let reply = std::thread::scope(|scope| {
        let sender = scope.spawn(|| sidecar.post(&[], event("a", "ann").as_bytes()));
        while receiver.asked() == 0 {
            std::thread::sleep(Duration::from_millis(10));
        }
        sidecar.signal("TERM");
        sender.join().expect("a reply")
    });
    assert_eq!((reply.status, receiver.taken().len()), (200, 1));
    assert!(Sender::try_connect(address).is_err() || sidecar.log().contains("ending"));
    assert!(sidecar.ended(), "it ends well");
}

/// A module that traps on records of more than 400 bytes, and passes all others.
const TRAPPING: &str = r#"(module
  (memory (export "memory") 4)
  (global $top (mut i32) (i32.const 1024))
  (func (export "malloc") (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (global.get $top))
    (global.set $top (i32.add (global.get $top) (local.get $size)))
    (local.get $at))
  (func (export "free") (param i32))
  (func $filter (param $tag i32) (param $tag_len i32) (param i32 i32) (param $record i32) (param $len i32) (result i32)
    (if (i32.gt_u (local.get $len) (i32.const 400)) (then unreachable))
    (local.get $record))
  (export "firstseen" (func $filter))
  (export "firstseen_alerts" (func $filter)))"#;

#[test]
fn a_trap_refuses_the_batch_once_and_does_not_stop_the_pipeline() {
    let directory = tempfile::tempdir().expect("a directory");
    let module = directory.path().join("module.wasm");
    std::fs::write(&module, wat::parse_str(TRAPPING).expect("a module")).expect("it is written");
    let receiver = Receiver::start();
    let sidecar = Sidecar::forwarding(None, &receiver, &["--module", module.to_str().expect("a name")]);
    // The module has other rules than this program, so it is given every record.
    let good = named_event("a", "ann", "DescribeInstances");
    let trapping = named_event("b", &"x".repeat(100), "DescribeInstances");
    let body = [good.as_str(), &trapping, &good].join("\n");
    assert_eq!(sidecar.post(&[], good.as_bytes()).status, 200);
    // The first time nothing is passed on; when it comes again, everything is.
    assert_eq!(sidecar.post(&[], body.as_bytes()).status, 503);
    assert_eq!(receiver.asked(), 1);
    assert_eq!(sidecar.post(&[], body.as_bytes()).status, 200);
    assert_eq!(sidecar.post(&[], body.as_bytes()).status, 200);
    let taken = receiver.taken();
    assert_eq!(taken.len(), 3);
    assert!(taken[1..].iter().all(|batch| batch.body == body.as_bytes()), "{taken:?}");
    assert_eq!(sidecar.metric("firstseen_module_failures_total"), 1.0);
    assert_eq!(sidecar.metric("firstseen_passed_after_failure_total"), 2.0);
    assert!(sidecar.log().contains("the module failed"), "{}", sidecar.log());
}
