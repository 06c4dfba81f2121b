//! The reading of logs by the whole program: files, pipes and request bodies.
//!
//! In: the same bytes for `run`, `replay`, `baseline`, `state show --why` and the sidecar. Out: that all of
//! them find the same events, count what they leave out, say so in their exit codes, refuse what is not JSON,
//! and hold little in memory. Not here: the framing by itself (unit tests of `logs`).

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

use crate::serve::parties::{PATIENCE, Receiver, Sidecar, alert_count, event, named_event};
use crate::subjects::module_file;

/// Runs a command with bytes on its standard input.
fn firstseen(arguments: &[&str], stdin: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_firstseen"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let mut pipe = child.stdin.take().expect("a pipe");
    std::thread::scope(|scope| {
        // A program that does not read all of it may end before.
        scope.spawn(move || pipe.write_all(stdin));
        child.wait_with_output().expect("it ends")
    })
}

/// Exit code, standard output, standard error.
fn told(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 1).expect("memory")
}

/// An event as Sentinel's table has it, which the built-in rules match.
fn sentinel_event(user: &str) -> String {
    format!(
        r#"{{"TimeGenerated":"2026-11-01T12:00:00Z","AwsEventId":"{user}","EventName":"GetCallerIdentity","EventSource":"sts.amazonaws.com","UserIdentityType":"IAMUser","UserIdentityArn":"arn:aws:iam::111122223333:user/{user}","Type":"AWSCloudTrail"}}"#
    )
}

/// An event in ECS, which the built-in rules match.
fn ecs_event(user: &str) -> String {
    format!(
        r#"{{"@timestamp":"2026-11-01T12:00:00Z","event":{{"dataset":"aws.cloudtrail","provider":"sts.amazonaws.com","action":"GetCallerIdentity","id":"{user}"}},"aws":{{"cloudtrail":{{"user_identity":{{"type":"IAMUser","arn":"arn:aws:iam::111122223333:user/{user}"}}}}}}}}"#
    )
}

fn pretty(events: &[String]) -> String {
    let values: Vec<Value> = events.iter().map(|event| serde_json::from_str(event).expect("JSON")).collect();
    serde_json::to_string_pretty(&values).expect("JSON")
}

/// Three events by new users in each framing.
fn framings() -> Vec<(&'static str, String)> {
    let events = ["ann", "ben", "cid"].map(|user| event(user, user));
    let document = |name: &str, events: &[String]| format!("{{\"{name}\":[{}]}}", events.join(","));
    let sentinel = ["ann", "ben", "cid"].map(sentinel_event);
    let raw = named_event("x", "dan", "GetObject");
    let array = |separator: &str| format!("[{}]", events.join(separator));
    let pretty = pretty(&events);
    let one = |at: usize| document("Records", &events[at..=at]);
    vec![
        ("lines", events.join("\n") + "\n"),
        ("lines of CR LF with a byte order mark and blank lines", format!("\u{feff}{}\r\n", events.join("\r\n \r\n"))),
        ("nothing in between", events.concat()),
        ("spaces", events.join("  ")),
        ("commas", events.join(",")),
        ("commas and line ends", events.join(",\n")),
        ("semicolons", events.join(";")),
        ("pipes", events.join(" | ")),
        ("NUL", events.join("\0")),
        ("RS before each, RFC 7464", events.iter().map(|event| format!("\x1e{event}\n")).collect()),
        ("an array on one line", array(",")),
        ("an array, a line each", array(",\n")),
        ("a pretty array", pretty.clone()),
        ("arrays behind each other", format!("{}[{}]\n[{}]", "[]", events[..2].join(","), events[2])),
        ("pretty objects", pretty.trim_matches(['[', ']']).replace("},\n  {", "}\n{")),
        ("a document", document("Records", &events)),
        ("documents behind each other", one(0) + &one(1) + &one(2)),
        ("documents on lines", [one(0), one(1), one(2)].join("\n")),
        ("documents, two on a line", format!("{} {}\n{}", one(0), one(1), one(2))),
        ("a pretty document", format!("{{\n  \"Records\": {pretty}\n}}\n")),
        ("Event Hub's document", document("records", &sentinel)),
        (
            "Event Hub's documents behind each other",
            document("records", &sentinel[..1]) + &document("records", &sentinel[1..]),
        ),
        ("a document in an array", format!("[{},{},{}]", one(0), one(1), one(2))),
        ("raw CloudTrail before ECS on a line", [raw, ecs_event("ann"), ecs_event("ben"), ecs_event("cid")].concat()),
    ]
}

#[test]
fn files_pipes_and_bodies_give_the_same_events() {
    let directory = tempfile::tempdir().expect("a directory");
    let module = module_file();
    let module = text(&module);
    for (name, body) in framings() {
        let events = if name.starts_with("raw") { 4 } else { 3 };
        let file = directory.path().join("logs");
        let mut outputs = Vec::new();
        for packed in [body.clone().into_bytes(), gzip(body.as_bytes()), zstd(body.as_bytes())] {
            fs::write(&file, &packed).expect("it is written");
            for (source, stdin) in [(text(&file), &[][..]), ("-", packed.as_slice())] {
                let state = tempfile::tempdir().expect("a directory");
                let run = ["run", "--module", module, "--dir", text(state.path()), source];
                let (code, out, err) = told(&firstseen(&run, stdin));
                assert_eq!((code, err.as_str()), (Some(0), ""), "{name}");
                assert_eq!((out.lines().count(), alert_count(out.as_bytes())), (events, 3), "{name}: {out}");
                outputs.push(out);
                let (code, out, err) = told(&firstseen(&["replay", "--module", module, source], stdin));
                assert_eq!((code, err.as_str()), (Some(0), ""), "{name}");
                assert!(out.contains(&format!("\n{events} records, {events} CloudTrail events\n")), "{name}: {out}");
                assert!(out.contains("\n3 alerts on 3 events;"), "{name}: {out}");
                let state = tempfile::tempdir().expect("a directory");
                let (code, out, err) = told(&firstseen(&["baseline", "--dir", text(state.path()), source], stdin));
                assert_eq!((code, err.as_str()), (Some(0), ""), "{name}");
                assert!(out.starts_with(&format!("{events} records of ")), "{name}: {out}");
                assert!(out.contains("the history has 3 entries, 3 of them new"), "{name}: {out}");
                let (code, out, err) = told(&firstseen(&["state", "show", text(state.path()), "--why", source], stdin));
                assert_eq!((code, err.as_str()), (Some(0), ""), "{name}");
                assert_eq!(out.matches("history   known").count(), 3, "{name}: {out}");
            }
        }
        let events_of = |output: &str| {
            let before_alert =
                |line: &str| line.split_once(",\"firstseen\":").map_or(line, |(event, _)| event).to_owned();
            output.lines().map(before_alert).collect::<Vec<_>>()
        };
        assert!(outputs.iter().all(|output| events_of(output) == events_of(&outputs[0])), "{name}");

        let receiver = Receiver::start();
        for (encoding, packed) in [("identity", body.clone().into_bytes()), ("gzip", gzip(body.as_bytes()))] {
            let sidecar = Sidecar::forwarding(None, &receiver, &[]);
            assert_eq!(sidecar.post(&[("Content-Encoding", encoding)], &packed).status, 200, "{name}");
            let taken = receiver.taken().pop().expect("a batch").body.to_vec();
            let mut unpacked = Vec::new();
            match encoding {
                "gzip" => drop(std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&*taken), &mut unpacked)),
                _ => unpacked = taken,
            }
            assert_eq!(alert_count(&unpacked), 3, "{name}");
            assert_eq!(sidecar.metric("firstseen_not_json_total"), 0.0, "{name}");
        }
    }
}

#[test]
fn what_is_left_out_is_counted_by_reason_and_told_in_the_exit_code() {
    let directory = tempfile::tempdir().expect("a directory");
    let module = module_file();
    let module = text(&module);
    let file = directory.path().join("logs");
    let long = named_event("l", &"x".repeat(2000), "GetObject");
    let content = format!("{}\noops\n[1]\n{long}\noops again\n{{\"a\":", event("a", "ann"));
    fs::write(&file, &content).expect("it is written");
    let name = text(&file);
    let summary = format!(
        "2 not JSON (first at {name}:2), 1 JSON, but not an object (first at {name}:3), 1 JSON that ends too early (first at \
         {name}:6), 1 longer than --max-record (first at {name}:4)"
    );
    for arguments in [&["replay", "--module", module][..], &["replay", "--json", "--module", module]] {
        let (code, out, err) = told(&firstseen(&[arguments, &["--max-record", "1", name]].concat(), b""));
        assert_eq!(code, Some(1), "{err}");
        let is_json = arguments.contains(&"--json");
        assert!(if is_json { &err } else { &out }.contains(&format!("5 texts left out: {summary}\n")), "{out}{err}");
    }
    let state = tempfile::tempdir().expect("a directory");
    let baseline = |file: &str, more: &[&str]| {
        told(&firstseen(&[&["baseline", "--dir", text(state.path()), file], more].concat(), b""))
    };
    let (code, out, _) = baseline(name, &["--max-record", "1"]);
    assert_eq!(code, Some(1));
    assert!(out.contains(&format!("5 texts left out: {summary}\n")), "{out}");
    assert!(out.contains("nothing of this counts as covered, because 5 texts were left out"), "{out}");
    let (_, shown, _) = told(&firstseen(&["state", "show", text(state.path())], b""));
    assert!(shown.contains("since       never"), "what is not read is not covered: {shown}");
    // All that is not read passes, and is said in one line.
    let (code, out, err) = told(&firstseen(&["run", "--module", module, "--max-record", "1", name], b""));
    assert_eq!(code, Some(0));
    let without_alert = out.replace(
        out.split_once(",\"firstseen\":").map_or("", |(_, rest)| rest.split_once('\n').map_or("", |(alert, _)| alert)),
        "",
    );
    assert_eq!(without_alert.replacen(",\"firstseen\":", "}", 1), content.clone() + "\n");
    assert_eq!(err.matches(&format!("5 texts passed unchanged and not examined: {summary}\n")).count(), 1, "{err}");
    let (code, out, err) = told(&firstseen(&["run", "--module", module, "--alerts-only", name], b""));
    assert_eq!((code, out.lines().count()), (Some(0), 1));
    assert!(err.contains("4 texts left out: "), "{err}");

    // Nothing at all.
    for content in ["", "\n\n", "oops\n", "[]", "[1,2]"] {
        fs::write(&file, content).expect("it is written");
        let (code, out, _) = baseline(name, &[]);
        assert_eq!(code, Some(2), "{content:?}");
        assert!(out.contains("no record was read"), "{out}");
        let (code, _, err) = told(&firstseen(&["replay", "--module", module, name], b""));
        assert_eq!(code, Some(2), "{content:?}");
        assert!(err.contains("no record was read"), "{err}");
    }
}

#[test]
fn times_that_cannot_be_read_are_counted_and_shown() {
    let directory = tempfile::tempdir().expect("a directory");
    let module = module_file();
    let module = text(&module);
    let file = directory.path().join("logs");
    let name = text(&file);
    let unreadable = |user: &str| event(user, user).replace("2026-11-01T12:00:00Z", "half past nine");
    let example = format!("{name}:1: \"half past nine\")");
    let baseline = || {
        let state = tempfile::tempdir().expect("a directory");
        told(&firstseen(&["baseline", "--dir", text(state.path()), name], b""))
    };
    fs::write(&file, [unreadable("ann"), unreadable("ben")].join("\n")).expect("it is written");
    let (code, out, _) = baseline();
    assert_eq!(code, Some(2));
    assert!(out.contains("nothing was learned: no event has a time that can be read and is past\n"), "{out}");
    assert!(out.contains(&format!("2 events without an event time that can be read (first at {example}")), "{out}");
    assert!(!out.contains("no CloudTrail event was found"), "{out}");
    let (code, out, _) = told(&firstseen(&["replay", "--module", module, name], b""));
    assert_eq!(code, Some(1));
    assert!(out.contains("2 events without an event time"), "{out}");

    fs::write(&file, [unreadable("ann"), event("b", "ben")].join("\n")).expect("it is written");
    let (code, out, _) = baseline();
    assert_eq!(code, Some(1));
    assert!(out.contains(&format!("1 event without an event time that can be read (first at {example}")), "{out}");
    assert!(out.contains("the history has 1 entry, 1 of them new"), "{out}");

    fs::write(&file, "{\"message\":\"hello\"}\n").expect("it is written");
    let (code, out, _) = baseline();
    assert_eq!(code, Some(2));
    assert!(out.contains("no CloudTrail event was found: see event_root in firstseen.toml\n"), "{out}");
    assert!(!out.contains("event time"), "{out}");
}

/// Bodies and files of which nothing can be examined, and what they are called.
fn unreadable() -> Vec<(Vec<u8>, &'static str)> {
    let event = event("a", "ann");
    let utf16 = |bytes: fn(u16) -> [u8; 2], mark: &str| {
        format!("{mark}{event}\n").encode_utf16().flat_map(bytes).collect::<Vec<u8>>()
    };
    let utf32 = |bytes: fn(u32) -> [u8; 4]| event.chars().flat_map(|char| bytes(u32::from(char))).collect::<Vec<u8>>();
    let msgpack =
        [b"\xdd\0\0\0\x01\xdf\0\0\0\x01\xa9eventName\xb1GetCallerIdentity".to_vec(), vec![b'\n', 0xc0]].concat();
    vec![
        (msgpack, "MessagePack"),
        (b"\x92\xd7\0hn$c\0\0\0\0\x81\xa3log\xa2hi".to_vec(), "MessagePack"),
        (utf16(u16::to_le_bytes, "\u{feff}"), "UTF-16LE"),
        (utf16(u16::to_be_bytes, "\u{feff}"), "UTF-16BE"),
        (utf16(u16::to_le_bytes, ""), "UTF-16LE"),
        (utf16(u16::to_be_bytes, ""), "UTF-16BE"),
        (utf32(u32::to_le_bytes), "UTF-32LE"),
        (utf32(u32::to_be_bytes), "UTF-32BE"),
        (b"BZh91AY&SY\0\0".to_vec(), "compressed data (bzip2)"),
    ]
}

#[test]
fn a_body_of_which_nothing_can_be_examined_is_refused_with_one_log_line() {
    let json = event("a", "ann").into_bytes();
    let only_bodies = [
        (gzip(&json), "compressed data (gzip)"),
        (zstd(&json), "compressed data (zstd)"),
        (b"\x0a\x13\x0a\x05hello\x12\x02\x08\x01".to_vec(), "binary data (unknown, perhaps protobuf)"),
        (b"<event>1</event>\n<event>2</event>\n".to_vec(), "text that is not JSON"),
        (b"{\"eventName\":\"GetCallerIdentity\"".to_vec(), "text that is not JSON"),
    ];
    for arguments in [&[][..], &["--alerts-only"]] {
        let receiver = Receiver::start();
        let sidecar = Sidecar::forwarding(None, &receiver, arguments);
        for (number, (body, format)) in unreadable().into_iter().chain(only_bodies.clone()).enumerate() {
            let reply = sidecar.post(&[], &body);
            let said = String::from_utf8(reply.body).expect("text");
            assert_eq!(reply.status, 415, "{format}: {said}");
            assert!(said.contains(&format!("nothing in the body is JSON: it looks like {format}: ")), "{said}");
            let begun = Instant::now();
            while sidecar.log().matches("a body is refused").count() <= number && begun.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(5));
            }
            let log = sidecar.log();
            assert_eq!(log.matches("a body is refused").count(), number + 1, "{log}");
            assert!(
                log.lines().last().is_some_and(|line| line.contains(&format!("it looks like {format}: "))),
                "{log}"
            );
        }
        // Packed, and named: what is in it counts.
        assert_eq!(sidecar.post(&[("Content-Encoding", "gzip")], &gzip(&unreadable()[0].0)).status, 415);
        assert!(receiver.taken().is_empty());
        // What is JSON without an object, some rubbish beside objects, and nothing at all are taken.
        for body in [&b""[..], b"[]", b"[1,2]", b"null", b"oops\n{\"a\":1}\n", b"\xff\xfe{\n{\"a\":1}\n"] {
            assert_eq!(sidecar.post(&[], body).status, 200, "{:?}", String::from_utf8_lossy(body));
        }
    }
}

#[test]
fn a_file_of_which_nothing_can_be_examined_is_an_error_that_names_its_format() {
    let directory = tempfile::tempdir().expect("a directory");
    let module = module_file();
    let module = text(&module);
    let file = directory.path().join("logs");
    let name = text(&file);
    let state = tempfile::tempdir().expect("a directory");
    for (content, format) in unreadable() {
        fs::write(&file, &content).expect("it is written");
        let error = format!(": it is {format}, not JSON in UTF-8: ");
        for arguments in [&["baseline", "--dir", text(state.path())][..], &["replay", "--module", module]] {
            let (code, _, err) = told(&firstseen(&[arguments, &[name]].concat(), b""));
            assert_eq!(code, Some(2), "{err}");
            assert!(err.contains(&error), "{err}");
        }
        // It passes as it is, whatever it is.
        let output = firstseen(&["run", "--module", module, name], b"");
        assert_eq!((output.status.code(), &output.stdout), (Some(2), &content), "{format}");
        assert!(told(&output).2.contains(&error), "{output:?}");
        let output = firstseen(&["run", "--alerts-only", "--module", module, "-"], &content);
        assert_eq!((output.status.code(), output.stdout), (Some(2), vec![]), "{format}");
    }
}

/// How much a bomb unpacks to, in MiB.
const BOMB: usize = 128;

/// What a command may take for it, in bytes: the module's compiled code, two buffers, and room to spare.
const MOST_MEMORY: usize = 80 << 20;

/// Runs a command and watches its memory: exit code and the most that was resident.
#[cfg(target_os = "linux")]
fn watched(arguments: &[&str]) -> (Option<i32>, usize) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_firstseen"));
    let mut child =
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program starts");
    let begun = Instant::now();
    let mut most = 0;
    loop {
        // Until the program is in its place, the process has the memory of this one.
        let is_program =
            fs::read_link(format!("/proc/{}/exe", child.id())).is_ok_and(|program| program.ends_with("firstseen"));
        let status = match is_program {
            true => fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default(),
            false => String::new(),
        };
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|peak| peak.trim().trim_end_matches(" kB").trim().parse::<usize>().ok());
        most = most.max(peak.unwrap_or(0) * 1024);
        if let Some(status) = child.try_wait().expect("its status") {
            return (status.code(), most);
        }
        assert!(begun.elapsed() < Duration::from_secs(300), "{arguments:?} does not end");
        assert!(most < 4 * MOST_MEMORY, "{arguments:?} takes {most} bytes");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_bomb_does_not_take_the_memory() {
    let directory = tempfile::tempdir().expect("a directory");
    let (file, state) = (directory.path().join("bomb.gz"), directory.path().join("state"));
    fs::create_dir(&state).expect("a directory");
    let module = module_file();
    let (file, module, state) = (text(&file), text(&module), text(&state));
    fs::write(directory.path().join("one"), event("a", "ann")).expect("it is written");
    let one = directory.path().join("one");
    assert_eq!(firstseen(&["baseline", "--dir", state, text(&one)], b"").status.code(), Some(0));
    let object = format!("{{\"a\":\"{}\"}},", "x".repeat(1000));
    for (name, begin, part) in [
        ("zeros", "", "\0"),
        ("a line of text", "", "x"),
        ("a text", "{\"a\":\"", "x"),
        ("a number", "", "1"),
        ("brackets", "", "["),
        ("nested objects", "", "{\"a\":"),
        ("nested documents", "", "{\"Records\":["),
        ("an array of numbers", "[", "1,"),
        ("numbers in an object", "{\"a\":[", "1,\n"),
        ("an array of objects", "[", &object),
        ("a document of objects", "{\"Records\":[", &object),
    ] {
        let member = gzip(part.repeat((1 << 20) / part.len()).as_bytes());
        let members = member.repeat(BOMB);
        let members = if begin.is_empty() { members } else { [gzip(begin.as_bytes()), members].concat() };
        fs::write(file, members).expect("it is written");
        for arguments in [
            &["baseline", "--dir", state, file][..],
            &["run", "--module", module, file],
            &["replay", "--module", module, "--max-memory", "16", file],
            &["state", "show", state, "--why", file],
        ] {
            let (code, most) = watched(arguments);
            assert!(code.is_some() && most < MOST_MEMORY, "{name}: {arguments:?} took {most} bytes, exit {code:?}");
        }
    }
}
