//! `make bench-serve`: what goes through one sidecar, and how long it holds a batch up.
//!
//! In: the program; batches of 1,000 events of 1.5 KB made here, from senders on this machine to a receiver on this machine that
//! reads and forgets. Out: one table: MB of NDJSON a second, straight from the senders to the receiver and through the sidecar,
//! with 1% of the events candidates, all of them, and none; the sidecar's own CPU time; its memory; and how much later an answer
//! comes than without it, batch by batch, beside two relays that do nothing but pass batches on: one on bare sockets, and one on the
//! HTTP server and client that the sidecar has. Bounds: `BENCH_SECONDS` (5) a row. With `BENCH_BEFORE`, the program of another
//! build, both are measured in turn, `BENCH_ROUNDS` (5) times, and the medians are printed. Not here: Vector.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use firstseen::measured::{Kind, Records};
use firstseen::serve::listener::READ_AHEAD;
use firstseen::serve::pieces::Pieces;
use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;

/// Events in a batch.
const BATCH: usize = 1000;

/// Connections that send at once.
const SENDERS: usize = 4;

/// Batches one by one, for the delay.
const SINGLE: usize = 500;

/// How long it is quiet between two of them.
const PAUSE: Duration = Duration::from_millis(10);

/// A batch of which one event in `step` is a candidate; none, if that is 0.
fn batch(step: usize) -> Vec<u8> {
    let (mut known, mut uninteresting) = (Records::new(Kind::Known), Records::new(Kind::Uninteresting));
    let mut body = Vec::new();
    for number in 0..BATCH {
        let is_candidate = step > 0 && number % step == 0;
        body.extend_from_slice(if is_candidate { known.next() } else { uninteresting.next() });
        body.push(b'\n');
    }
    body
}

/// Reads a message up to the end of its body; `None` at the end of the connection.
fn read_message(stream: &mut BufReader<TcpStream>, mut take: impl FnMut(&[u8])) -> anyhow::Result<Option<String>> {
    let mut first = String::new();
    if stream.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let (mut line, mut left) = (String::new(), 0usize);
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            left = value.trim().parse()?;
        }
    }
    while left > 0 {
        let data = stream.fill_buf()?;
        let read = data.len().min(left);
        ensure!(read > 0, "a message breaks off");
        take(&data[..read]);
        stream.consume(read);
        left -= read;
    }
    Ok(Some(first))
}

/// Takes connections, each on a thread of its own; the address.
fn listen(
    talk: impl Fn(BufReader<TcpStream>) -> anyhow::Result<()> + Copy + Send + 'static,
) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                stream.set_nodelay(true)?;
                talk(BufReader::with_capacity(1 << 18, stream))
            });
        }
    });
    Ok(address)
}

const TAKEN: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// A receiver that takes everything; its address.
fn receiver() -> anyhow::Result<SocketAddr> {
    listen(|mut stream| {
        while read_message(&mut stream, |_| ())?.is_some() {
            stream.get_mut().write_all(TAKEN)?;
        }
        Ok(())
    })
}

/// Passes batches on as they are, when they have come whole: what any sidecar costs here, whoever wrote it. Its address.
fn relay(receiver: SocketAddr) -> anyhow::Result<SocketAddr> {
    listen(move |mut stream| {
        let mut sender = Sender::connect(receiver)?;
        let mut body = Vec::new();
        while read_message(&mut stream, |data| body.extend_from_slice(data))?.is_some() {
            sender.send(&body)?;
            body.clear();
            stream.get_mut().write_all(TAKEN)?;
        }
        Ok(())
    })
}

/// The same with the sidecar's HTTP server and client, and their settings. Its address.
fn http_relay(receiver: SocketAddr) -> anyhow::Result<SocketAddr> {
    let runtime = tokio::runtime::Runtime::new()?;
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))?;
    let address = listener.local_addr()?;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Client<_, Pieces> = Client::builder(TokioExecutor::new()).build(connector);
    thread::spawn(move || {
        runtime.block_on(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let client = client.clone();
                let relayed = service_fn(move |request: Request<Incoming>| {
                    let client = client.clone();
                    async move {
                        let (mut body, mut pieces) = (request.into_body(), Pieces::default());
                        while let Some(frame) = body.frame().await {
                            frame?.into_data().into_iter().for_each(|data| pieces.push(data));
                        }
                        anyhow::Ok(client.request(Request::post(format!("http://{receiver}/")).body(pieces)?).await?)
                    }
                });
                tokio::spawn(async move {
                    stream.set_nodelay(true)?;
                    let mut builder = Builder::new(TokioExecutor::new());
                    builder.http1().max_buf_size(READ_AHEAD);
                    let served = builder.serve_connection(TokioIo::new(stream), relayed).await;
                    served.map_err(|error| anyhow::anyhow!("{error}"))
                });
            }
        });
    });
    Ok(address)
}

struct Sender {
    stream: BufReader<TcpStream>,
}

impl Sender {
    fn connect(address: SocketAddr) -> anyhow::Result<Sender> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Sender { stream: BufReader::new(stream) })
    }

    fn send(&mut self, body: &[u8]) -> anyhow::Result<()> {
        let head = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
        self.stream.get_mut().write_all(head.as_bytes())?;
        self.stream.get_mut().write_all(body)?;
        let answer = read_message(&mut self.stream, |_| ())?;
        ensure!(answer.as_ref().is_some_and(|line| line.contains(" 200 ")), "the answer is {answer:?}");
        Ok(())
    }
}

/// `firstseen serve` in a directory of its own.
struct Sidecar {
    child: Child,
    address: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Sidecar {
    fn start(program: &str, receiver: SocketAddr) -> anyhow::Result<Sidecar> {
        let directory = tempfile::tempdir()?;
        let mut child = Command::new(program)
            .args(["serve", "--log-format", "json", "--listen", "127.0.0.1:0", "--forward"])
            .arg(format!("http://{receiver}/"))
            .arg("--dir")
            .arg(directory.path())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(child.stderr.take().context("a pipe")?).lines();
        let line = lines.next().context("it ended")??;
        let said: serde_json::Value = serde_json::from_str(&line).with_context(|| line.clone())?;
        let address = said["address"].as_str().with_context(|| line.clone())?.parse()?;
        Ok(Sidecar { child, address, _directory: directory })
    }

    /// CPU time so far, user and system.
    fn cpu(&self) -> anyhow::Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields = stat.rsplit(')').next().context("its fields")?;
        let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
        // Linux counts hundredths of a second for programs.
        Ok(Duration::from_millis(ticks * 10))
    }

    /// Memory now, in MB.
    fn resident(&self) -> anyhow::Result<usize> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("its memory")?;
        Ok(line.trim().trim_end_matches(" kB").trim().parse::<usize>()? / 1024)
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends the batch as often as it can be from several connections; how many bytes were taken a second, and events.
fn throughput(address: SocketAddr, body: &[u8], time: Duration) -> anyhow::Result<(f64, u64)> {
    let (batches, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let begun = Instant::now();
    thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|_| {
                scope.spawn(|| -> anyhow::Result<()> {
                    let mut sender = Sender::connect(address)?;
                    while !is_over.load(Ordering::Relaxed) {
                        sender.send(body)?;
                        batches.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        thread::sleep(time);
        is_over.store(true, Ordering::Relaxed);
        senders.into_iter().try_for_each(|sender| sender.join().expect("a sender"))
    })?;
    let batches = batches.load(Ordering::Relaxed);
    Ok(((batches as usize * body.len()) as f64 / begun.elapsed().as_secs_f64(), batches * BATCH as u64))
}

/// The `share` of the times that is not exceeded.
fn percentile(times: &mut [Duration], share: f64) -> Duration {
    times.sort_unstable();
    times[((times.len() - 1) as f64 * share).round() as usize]
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_firstseen");

/// The rows of the table by themselves: which events are candidates.
const ROWS: [(&str, usize); 3] = [("no candidates", 0), ("1% candidates, known", 100), ("all candidates, known", 1)];

/// How long batches take, one at a time and in turn, to each of these addresses.
fn one_by_one<const N: usize>(addresses: [SocketAddr; N], body: &[u8]) -> anyhow::Result<[Vec<Duration>; N]> {
    let mut times = addresses.map(|address| (address, Vec::new()));
    let mut senders = times.each_ref().map(|(address, _)| Sender::connect(*address));
    for _ in 0..SINGLE {
        for (sender, (_, times)) in senders.iter_mut().zip(&mut times) {
            let Ok(sender) = sender else { bail!("no connection") };
            thread::sleep(PAUSE);
            let begun = Instant::now();
            sender.send(body)?;
            times.push(begun.elapsed());
        }
    }
    Ok(times.map(|(_, times)| times))
}

fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_unstable_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// This program beside another build of it, in turn.
fn compare(before: &str, time: Duration) -> anyhow::Result<()> {
    let rounds: usize = env::var("BENCH_ROUNDS").map_or(Ok(5), |rounds| rounds.parse())?;
    let (receiver, programs) = (receiver()?, [before, PROGRAM]);
    println!("medians of {rounds} rounds in turn: before, now, and now by before");
    let show = |name: &str, mut found: [Vec<f64>; 2]| {
        let [before, now] = found.each_mut().map(|numbers| median(numbers));
        println!("{name:<44}{before:>10.3}{now:>10.3}{:>8.3}", now / before);
    };
    for (name, step) in ROWS {
        let body = batch(step);
        let (mut rates, mut costs) = ([vec![], vec![]], [vec![], vec![]]);
        for round in 0..rounds {
            for turn in 0..2 {
                let which = (round + turn) % 2;
                let sidecar = Sidecar::start(programs[which], receiver)?;
                throughput(sidecar.address, &body, time / 5)?;
                let cpu = sidecar.cpu()?;
                let (bytes, events) = throughput(sidecar.address, &body, time)?;
                rates[which].push(bytes / 1e6);
                costs[which].push((sidecar.cpu()? - cpu).as_secs_f64() * 1e6 / events as f64);
            }
        }
        show(&format!("{name}: MB/s"), rates);
        show(&format!("{name}: us CPU an event"), costs);
    }
    let body = batch(100);
    let mut added = [const { [const { Vec::new() }; 2] }; 3];
    for _ in 0..rounds {
        let sidecars = [Sidecar::start(before, receiver)?, Sidecar::start(PROGRAM, receiver)?];
        let addresses = [receiver, sidecars[0].address, sidecars[1].address];
        let mut times = one_by_one(addresses, &body)?;
        for (added, share) in added.iter_mut().zip([0.5, 0.9, 0.99]) {
            let [straight, before, now] = times.each_mut().map(|times| percentile(times, share).as_secs_f64() * 1e3);
            added[0].push(before - straight);
            added[1].push(now - straight);
        }
    }
    for (added, name) in added.into_iter().zip(["median", "90th percentile", "99th percentile"]) {
        show(&format!("added to one batch, {name}: ms"), added);
    }
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let seconds = env::var("BENCH_SECONDS").map_or(Ok(5.0), |seconds| seconds.parse())?;
    let time = Duration::from_secs_f64(seconds);
    if let Ok(before) = env::var("BENCH_BEFORE") {
        return compare(&before, time);
    }
    let receiver = receiver()?;
    let mixed = batch(100);
    println!("batches of {BATCH} events, {:.2} MB of NDJSON, {SENDERS} senders, HTTP/1.1", mixed.len() as f64 / 1e6);
    println!("{:<40}{:>8}{:>14}{:>12}", "", "MB/s", "events/s", "us CPU");
    let (direct, _) = throughput(receiver, &mixed, time)?;
    println!("{:<40}{:>8.0}{:>14}", "straight to the receiver", direct / 1e6, "");
    for (name, step) in ROWS {
        let sidecar = Sidecar::start(PROGRAM, receiver)?;
        let body = batch(step);
        throughput(sidecar.address, &body, time / 5)?;
        let (before, cpu) = (sidecar.resident()?, sidecar.cpu()?);
        let (bytes, events) = throughput(sidecar.address, &body, time)?;
        let cpu = (sidecar.cpu()? - cpu).as_secs_f64() * 1e6 / events as f64;
        let rate = bytes / (body.len() as f64 / BATCH as f64);
        println!(
            "{:<40}{:>8.0}{rate:>14.0}{cpu:>12.2}   resident {before} MB, then {} MB",
            format!("through the sidecar, {name}"),
            bytes / 1e6,
            sidecar.resident()?
        );
    }
    let sidecar = Sidecar::start(PROGRAM, receiver)?;
    let mut times = one_by_one([receiver, relay(receiver)?, http_relay(receiver)?, sidecar.address], &mixed)?;
    println!("one batch at a time, {SINGLE} in turn; in brackets what is added");
    println!("{:<18}{:>9}{:>18}{:>18}{:>18}", "", "straight", "bare relay", "HTTP relay", "firstseen");
    for (name, share) in [("median", 0.5), ("90th percentile", 0.9), ("99th percentile", 0.99)] {
        let [straight, others @ ..] = times.each_mut().map(|times| percentile(times, share).as_secs_f64() * 1e3);
        print!("{name:<18}{straight:>6.2} ms");
        others.iter().for_each(|other| print!("{other:>8.2} ms ({:.2})", other - straight));
        println!();
    }
    Ok(())
}
