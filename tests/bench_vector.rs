//! `make bench-vector`: what firstseen costs beside a real Vector, against what an operator would write in Vector itself.
//!
//! In: the Vector that `VECTOR` names, or `vector` on the PATH; the program; 100,000 events of 1.5 KB made here, 1% of them
//! candidates. Out: one table of user CPU time, Vector's and the sidecar's together, from standard input to `blackhole`: without a
//! filter; the three rules as conditions in VRL with `dedupe` behind them; the condition that `firstseen compile --print vrl`
//! prints, and candidates through the sidecar and back; every event through the sidecar and back. Each runs over a hundred events as
//! well, which is what it costs to start both programs; what is more for more events is the cost of an event. All take turns,
//! `BENCH_ROUNDS` times (5), and medians count. Without a Vector it says so and ends well. Bounds: a run takes at most [`DEADLINE`].
//! Not here: time in the kernel; what `dedupe` finds, which has no window and does not survive a restart.

use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use firstseen::measured::{Kind, Records};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

const DEADLINE: Duration = Duration::from_secs(120);

/// Events of a run.
const EVENTS: usize = 100_000;

/// Events of a run that is all start.
const FEW: usize = STEP;

/// How often the sidecar is asked how far it is, which takes time that is counted as its own.
const ASK: Duration = Duration::from_millis(250);

/// One event in so many is a candidate, of a known identity.
const STEP: usize = 100;

/// Standard input to `in`, and what may come back to `tagged`.
const SOURCES: &str = r#"
data_dir: DATA
sources:
  in: { type: stdin, max_length: 1048576, decoding: { codec: json } }
"#;

const NOTHING: &str = r#"
sinks:
  out: { type: blackhole, print_interval_secs: 0, inputs: [in] }
"#;

/// The built-in rules, as one would write them: the fields that tell events apart, and no state but `dedupe`'s.
const VRL_AND_DEDUPE: &str = r#"
transforms:
  rules:
    type: route
    inputs: [in]
    route:
      ec2_role: >-
        .eventSource == "sts.amazonaws.com" && .eventName == "GetCallerIdentity" &&
        .userIdentity.type == "AssumedRole" && (match(.userIdentity.arn, r':assumed-role/.*/i-[^/]*$') ?? false) &&
        !includes(["Amazon.com, Inc.", "Google LLC", "MongoDB, Inc."], ."source.as.organization.name")
      identity: >-
        .eventSource == "sts.amazonaws.com" && .eventName == "GetCallerIdentity" && .userIdentity.type != "AssumedRole"
      role: >-
        .eventName == "GetCallerIdentity" && .userIdentity.type == "AssumedRole"
  new_ec2_role:
    type: dedupe
    inputs: [rules.ec2_role]
    fields: { match: [userIdentity.arn, '"source.as.organization.name"'] }
  new_identity: { type: dedupe, inputs: [rules.identity], fields: { match: [userIdentity.arn] } }
  new_role: { type: dedupe, inputs: [rules.role], fields: { match: [userIdentity.arn, sourceIPAddress, userAgent] } }
sinks:
  out: { type: blackhole, print_interval_secs: 0, inputs: [rules._unmatched, new_ec2_role, new_identity, new_role] }
"#;

/// `CONDITION` decides what goes through the sidecar at `SIDECAR` and comes back to `RECEIVER`.
const THROUGH_FIRSTSEEN: &str = r#"
  tagged: { type: http_server, address: RECEIVER, framing: { method: newline_delimited }, decoding: { codec: json } }
transforms:
  records: { type: route, inputs: [in], route: { candidates: { type: vrl, source: CONDITION } } }
sinks:
  firstseen:
    type: http
    inputs: [records.candidates]
    uri: http://SIDECAR/
    framing: { method: newline_delimited }
    encoding: { codec: json }
    batch: { max_events: 1000, max_bytes: 8388608, timeout_secs: 1 }
  out: { type: blackhole, print_interval_secs: 0, inputs: [records._unmatched, tagged] }
"#;

fn vector() -> Option<PathBuf> {
    match env::var_os("VECTOR") {
        Some(named) => Some(named.into()),
        None => env::split_paths(&env::var_os("PATH")?)
            .map(|directory| directory.join("vector"))
            .find(|file| file.is_file()),
    }
}

/// Writes so many events; their file.
fn events(directory: &Path, count: usize) -> anyhow::Result<PathBuf> {
    let path = directory.join(format!("{count}.ndjson"));
    let mut out = BufWriter::new(File::create(&path)?);
    let (mut known, mut uninteresting) = (Records::new(Kind::Known), Records::new(Kind::Uninteresting));
    for number in 0..count {
        out.write_all(if number % STEP == 0 { known.next() } else { uninteresting.next() })?;
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(path)
}

/// User CPU time of the children that have ended, in microseconds.
fn children() -> anyhow::Result<i64> {
    Ok(getrusage(UsageWho::RUSAGE_CHILDREN)?.user_time().num_microseconds())
}

/// A program that ends with this, and the line that it says when it is ready.
struct Sidecar {
    child: Child,
    address: SocketAddr,
}

impl Sidecar {
    fn start(receiver: SocketAddr, directory: &Path) -> anyhow::Result<Sidecar> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_firstseen"))
            .args(["serve", "--log-format", "json", "--listen", "127.0.0.1:0", "--forward"])
            .arg(format!("http://{receiver}/"))
            .arg("--dir")
            .arg(directory)
            .stderr(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(child.stderr.take().context("a pipe")?).lines();
        let line = lines.next().context("it ended")??;
        thread::spawn(move || lines.map_while(Result::ok).for_each(|line| eprintln!("{line}")));
        let said: serde_json::Value = serde_json::from_str(&line).with_context(|| line.clone())?;
        let address = said["address"].as_str().with_context(|| line.clone())?.parse()?;
        Ok(Sidecar { child, address })
    }

    /// Records so far, and requests that were taken.
    fn metrics(&self) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }

    fn metric(&self, name: &str) -> anyhow::Result<u64> {
        let text = self.metrics()?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap_or("0");
        Ok(value.parse()?)
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs Vector over the events, of which there are so many; user CPU time of all that ran, in microseconds.
fn run(vector: &Path, (events, count): (&Path, usize), rest: &str, condition: Option<&str>) -> anyhow::Result<i64> {
    let directory = tempfile::tempdir()?;
    let receiver = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let state = directory.path().join("state");
    fs::create_dir(&state)?;
    let before = children()?;
    let sidecar = condition.map(|_| Sidecar::start(receiver, &state)).transpose()?;
    let mut text = format!("{SOURCES}{rest}").replace("DATA", &directory.path().display().to_string());
    text = text.replace("RECEIVER", &receiver.to_string());
    if let (Some(sidecar), Some(condition)) = (&sidecar, condition) {
        text = text.replace("SIDECAR", &sidecar.address.to_string());
        text = text.replace("CONDITION", &serde_json::to_string(condition)?);
    }
    let config = directory.path().join("vector.yaml");
    fs::write(&config, text)?;
    let mut child = Command::new(vector)
        .args(["--quiet", "--config"])
        .arg(&config)
        .stdin(File::open(events)?)
        .stdout(Stdio::null())
        .spawn()?;
    let expected = condition.map(|condition| if condition == "true" { count } else { count / STEP } as u64);
    let begun = Instant::now();
    let mut told = false;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if begun.elapsed() > DEADLINE {
            child.kill()?;
            child.wait()?;
            bail!("a run takes more than {DEADLINE:?}");
        }
        // Vector goes on as long as something may come back.
        if let (Some(sidecar), Some(expected), false) = (&sidecar, expected, told)
            && sidecar.metric("firstseen_records_total")? >= expected
            && sidecar.metric("firstseen_requests_in_flight")? == 0
        {
            Command::new("kill").args(["-TERM", &child.id().to_string()]).status()?;
            told = true;
        }
        thread::sleep(ASK);
    };
    ensure!(status.success(), "Vector ended with {status}");
    if let (Some(sidecar), Some(expected)) = (&sidecar, expected) {
        let records = sidecar.metric("firstseen_records_total")?;
        ensure!(records == expected, "{records} events went through firstseen, expected {expected}");
    }
    drop(sidecar);
    Ok(children()? - before)
}

fn main() -> anyhow::Result<()> {
    let Some(vector) = vector() else {
        println!("not measured: there is no vector on the PATH, and VECTOR names none");
        return Ok(());
    };
    let rounds: usize = env::var("BENCH_ROUNDS").map_or(Ok(5), |rounds| rounds.parse())?;
    let directory = tempfile::tempdir()?;
    let (few, many) = (events(directory.path(), FEW)?, events(directory.path(), EVENTS)?);
    let settings = directory.path().join("settings");
    fs::create_dir(&settings)?;
    let print = |directory: &Path| -> anyhow::Result<String> {
        let printed = Command::new(env!("CARGO_BIN_EXE_firstseen"))
            .args(["compile", "--print", "vrl"])
            .arg(directory)
            .output()?;
        ensure!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
        Ok(String::from_utf8(printed.stdout)?)
    };
    let condition = print(&settings)?;
    fs::write(settings.join("firstseen.toml"), "dialect = \"cloudtrail\"\n")?;
    let short = print(&settings)?;
    let variants: [(&str, &str, Option<&str>); 5] = [
        ("no filter", NOTHING, None),
        ("conditions in VRL, and dedupe", VRL_AND_DEDUPE, None),
        ("printed condition, candidates to firstseen", THROUGH_FIRSTSEEN, Some(&condition)),
        ("the same with dialect = \"cloudtrail\"", THROUGH_FIRSTSEEN, Some(&short)),
        ("every event to firstseen", THROUGH_FIRSTSEEN, Some("true")),
    ];
    let mut times = vec![(Vec::new(), Vec::new()); variants.len()];
    for _ in 0..rounds {
        for ((name, rest, condition), (of_few, of_many)) in variants.iter().zip(&mut times) {
            for (events, count, times) in [(&few, FEW, of_few), (&many, EVENTS, of_many)] {
                times.push(run(&vector, (events, count), rest, *condition).with_context(|| (*name).to_owned())?);
            }
        }
    }
    let median = |times: &mut Vec<i64>| {
        times.sort_unstable();
        times[times.len() / 2] as f64
    };
    let medians: Vec<(f64, f64)> = times.iter_mut().map(|(few, many)| (median(few), median(many))).collect();
    println!("user CPU time of Vector and the sidecar, an event's share of it with their start and without");
    println!("{:<44}{:>9}{:>30}{:>30}", "", "", "with the start", "without");
    let (share, over, ratio) = ("us/event", "over none", "to VRL");
    println!("{:<44}{:>9}{share:>12}{over:>10}{ratio:>8}{share:>12}{over:>10}{ratio:>8}", "", "start ms");
    let with = |(_, many): (f64, f64)| many / EVENTS as f64;
    let without = |(few, many): (f64, f64)| (many - few) / (EVENTS - FEW) as f64;
    for ((name, ..), median) in variants.iter().zip(&medians) {
        print!("{name:<44}{:>9.0}", median.0 / 1e3);
        for share in [&with as &dyn Fn((f64, f64)) -> f64, &without] {
            let over = share(*median) - share(medians[0]);
            print!("{:>12.1}{over:>10.1}{:>8.2}", share(*median), over / (share(medians[1]) - share(medians[0])));
        }
        println!();
    }
    let version = Command::new(&vector).arg("--version").output()?.stdout;
    print!("{}", String::from_utf8_lossy(&version));
    Ok(())
}
