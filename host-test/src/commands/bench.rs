//! `firstseen bench`: speed and memory of the module, in one table.
//!
//! In: nothing but the module; the records are made here, about 1.5 KB each, the sizes that CloudTrail has. Out: for each
//! kind of record and each way to call, records a second, nanoseconds and fuel a record; the fuel of a start and of the first
//! alert; the module's size; the guest's memory after a million calls; what a history costs in memory, on disk and to open, and
//! how fast a baseline teaches it.
//! Bounds: one thread; state files are in the system's temporary directory. Not here: reading input.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;

use firstseen::guest::{Generation, Module};
use firstseen::history_file::{self, HistoryFile};
use firstseen::measured::{Calls, KINDS, Kind, Records, WAYS, call, fuel_of_start, fuel_per_record, prepared};
use firstseen::module_file;
use firstseen_engine::new_terms::fingerprint::EventHash;
use firstseen_engine::new_terms::history::History;
use firstseen_engine::new_terms::history::owner::Purpose;
use serde::Serialize;

use crate::args;
use crate::commands::baseline::{self, Speed};
use crate::commands::grouped;
use crate::commands::standard_output::StandardOutput;

/// Measured rounds of each line; the median counts.
const ROUNDS: usize = 5;

/// Records between two looks at the clock.
const BATCH: u64 = 256;

/// Calls before the guest's memory is looked at.
const MEMORY_CALLS: u64 = 1_000_000;

/// How many tuples the histories have that are opened.
const TUPLES: [u32; 2] = [10_000, 1_000_000];

/// How much NDJSON a baseline is taught from, in bytes; one record in a hundred matches.
const BASELINE_BYTES: usize = 300_000_000;

/// One line of the table.
#[derive(Debug, Serialize)]
struct Line {
    records: &'static str,
    calls: &'static str,
    records_per_second: f64,
    nanoseconds_per_record: f64,
    fuel_per_record: u64,
}

/// All that was measured.
#[derive(Debug, Serialize)]
struct Report {
    record_bytes: usize,
    lines: Vec<Line>,
    fuel_of_start: u64,
    fuel_of_first_alert: u64,
    module_bytes: usize,
    memory_calls: u64,
    memory_bytes: usize,
    memory_bytes_without_frees: usize,
    histories: Vec<HistoryReport>,
    /// Guest memory a tuple after a million calls that each bring a new one, in bytes.
    memory_per_tuple_learned: f64,
    baseline: Speed,
}

/// What a history of so many tuples costs.
#[derive(Debug, Serialize)]
struct HistoryReport {
    tuples: u32,
    file_bytes_per_tuple: f64,
    memory_per_tuple: f64,
    open_milliseconds: f64,
}

pub(crate) fn run(args: &args::Bench) -> anyhow::Result<ExitCode> {
    let bytes = module_file::read(args.module.as_deref())?;
    let module = module_file::load(args.module.as_deref(), false)?;
    let counting = module_file::load(args.module.as_deref(), true)?;
    let round = Duration::from_secs_f64(args.seconds / (KINDS.len() * WAYS.len() * ROUNDS) as f64);
    let mut lines = Vec::new();
    for kind in KINDS {
        for calls in WAYS {
            let nanoseconds = nanoseconds_per_record(&module, kind, calls, round)?;
            lines.push(Line {
                records: kind.name(),
                calls: calls.name(),
                records_per_second: 1e9 / nanoseconds,
                nanoseconds_per_record: nanoseconds,
                fuel_per_record: fuel_per_record(&counting, kind, calls, tempfile::tempdir()?.path())?,
            });
        }
    }
    let (fuel_of_start, fuel_of_first_alert) = fuel_of_start(&counting, tempfile::tempdir()?.path())?;
    let report = Report {
        record_bytes: Records::new(Kind::Uninteresting).next().len(),
        lines,
        fuel_of_start,
        fuel_of_first_alert,
        module_bytes: bytes.len(),
        memory_calls: MEMORY_CALLS,
        memory_bytes: memory_after_calls(&module, Generation::Current)?,
        memory_bytes_without_frees: memory_after_calls(&module, Generation::Leaking)?,
        histories: TUPLES.into_iter().map(|tuples| history(&module, tuples)).collect::<anyhow::Result<_>>()?,
        memory_per_tuple_learned: memory_per_tuple_learned(&module)?,
        baseline: baseline_speed()?,
    };
    let mut out = StandardOutput::new();
    if args.json {
        serde_json::to_writer(&mut out, &report).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        report.print(&mut out)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// The median of the rounds.
fn nanoseconds_per_record(module: &Module, kind: Kind, calls: Calls, round: Duration) -> anyhow::Result<f64> {
    let directory = tempfile::tempdir()?;
    let (mut instance, mut records) = prepared(module, kind, calls, directory.path())?;
    let mut measured = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let mut count = 0;
        while start.elapsed() < round || count == 0 {
            for _ in 0..BATCH {
                call(&mut instance, calls, records.next())?;
            }
            count += BATCH;
        }
        measured.push(start.elapsed().as_nanos() as f64 / count as f64);
    }
    measured.sort_by(f64::total_cmp);
    Ok(measured[ROUNDS / 2])
}

/// The size of the guest's memory after a million calls, of which every tenth matches and every hundredth is twice as long.
fn memory_after_calls(module: &Module, generation: Generation) -> anyhow::Result<usize> {
    let directory = tempfile::tempdir()?;
    let mut instance = module.instantiate_captured(Some(directory.path()))?.with_generation(generation);
    let mut uninteresting = Records::new(Kind::Uninteresting);
    let mut known = Records::new(Kind::Known);
    let long = uninteresting.next().repeat(2);
    for number in 0..MEMORY_CALLS {
        let record = match number {
            _ if number % 100 == 0 => &long,
            _ if number % 10 == 0 => known.next(),
            _ => uninteresting.next(),
        };
        call(&mut instance, Calls::FluentBit, record)?;
    }
    Ok(instance.memory_size())
}

/// A state file of so many tuples, all inside their window, and what an instance that opens it takes.
fn history(module: &Module, tuples: u32) -> anyhow::Result<HistoryReport> {
    const BEGIN: u32 = 1_793_361_600;
    const WINDOW: u32 = 10 * 24 * 60 * 60;
    let directory = tempfile::tempdir()?;
    let mut known = History::new(tuples, history_file::new_key()?);
    let owner = known.load_owner(Purpose::Tuples, "bench", &["user.name"], WINDOW).context("no room for a rule")?;
    known.begin(BEGIN);
    for number in 0..tuples {
        let tuple = known.key().print(&[number.to_string()]);
        known.observe(
            owner,
            tuple,
            BEGIN + (u64::from(number) * u64::from(WINDOW) / u64::from(tuples)) as u32,
            EventHash(1),
        );
        known.forget_changes();
    }
    let (mut file, _) = HistoryFile::open(directory.path())?;
    let file_bytes = file.write(&mut known)?;
    let empty = module.instantiate_captured(None)?.memory_size();
    let mut measured = Vec::new();
    let mut memory = 0;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let instance = module.instantiate_captured(Some(directory.path()))?;
        measured.push(start.elapsed().as_secs_f64() * 1000.0);
        memory = instance.memory_size();
    }
    measured.sort_by(f64::total_cmp);
    Ok(HistoryReport {
        tuples,
        file_bytes_per_tuple: file_bytes as f64 / f64::from(tuples),
        memory_per_tuple: (memory - empty) as f64 / f64::from(tuples),
        open_milliseconds: measured[ROUNDS / 2],
    })
}

/// The guest's memory a tuple, all that it has counted, after as many new tuples as the history holds by default.
fn memory_per_tuple_learned(module: &Module) -> anyhow::Result<f64> {
    const LEARNED: u32 = 1_000_000;
    let mut instance = module.instantiate_captured(None)?;
    let mut records = Records::new(Kind::Alerting);
    for _ in 0..LEARNED {
        call(&mut instance, Calls::Lean, records.next())?;
    }
    Ok(instance.memory_size() as f64 / f64::from(LEARNED))
}

/// How fast a baseline is taught.
fn baseline_speed() -> anyhow::Result<Speed> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("events.ndjson");
    let mut file = io::BufWriter::new(std::fs::File::create(&path)?);
    let (mut uninteresting, mut matching) = (Records::new(Kind::Uninteresting), Records::new(Kind::Alerting));
    let mut written = 0;
    for number in 0.. {
        let record = if number % 100 == 0 { matching.next() } else { uninteresting.next() };
        file.write_all(record)?;
        file.write_all(b"\n")?;
        written += record.len() + 1;
        if written >= BASELINE_BYTES {
            break;
        }
    }
    file.flush()?;
    baseline::speed(&path)
}

impl Report {
    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(
            out,
            "{:<16}  {:<12}  {:>12}  {:>10}  {:>11}",
            "records", "calls", "records/s", "ns/record", "fuel/record"
        )?;
        for line in &self.lines {
            writeln!(
                out,
                "{:<16}  {:<12}  {:>12.0}  {:>10.0}  {:>11}",
                line.records, line.calls, line.records_per_second, line.nanoseconds_per_record, line.fuel_per_record
            )?;
        }
        writeln!(out, "{:<32}{:>12} bytes", "a record", self.record_bytes)?;
        writeln!(out, "{:<32}{:>12} fuel", "a start", self.fuel_of_start)?;
        writeln!(out, "{:<32}{:>12} fuel", "its first alert", self.fuel_of_first_alert)?;
        writeln!(out, "{:<32}{:>12} bytes", "the module", self.module_bytes)?;
        writeln!(out, "{:<32}{:>12} bytes", "memory after 1,000,000 calls", self.memory_bytes)?;
        writeln!(out, "{:<32}{:>12} bytes", "the same, never freed", self.memory_bytes_without_frees)?;
        for history in &self.histories {
            let HistoryReport { tuples, file_bytes_per_tuple, memory_per_tuple, open_milliseconds } = history;
            writeln!(
                out,
                "{:<32}{open_milliseconds:>12.1} ms to open, {file_bytes_per_tuple:.1} bytes a tuple on disk, \
                 {memory_per_tuple:.1} in memory",
                format!("a history of {} tuples", grouped(*tuples as usize))
            )?;
        }
        writeln!(
            out,
            "{:<32}{:>12.1} bytes a tuple, all memory counted",
            "1,000,000 tuples, one by one", self.memory_per_tuple_learned
        )?;
        let Speed { megabytes_per_second, tuples } = self.baseline;
        writeln!(
            out,
            "{:<32}{megabytes_per_second:>12.0} MB/s of NDJSON, {} tuples",
            "a baseline on one core",
            grouped(tuples)
        )
    }
}
