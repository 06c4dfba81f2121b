//! `firstseen replay`: past logs in the order of their event times, to see what the rules would have said.
//!
//! In: files. Out: on standard output the alerts, each as a few lines, and a summary; with `--json` one
//! object per alert. Bounds: all records are held in memory, for they must be sorted; `--max-memory` bounds
//! them. A record without an event time comes right after the one before it. Texts that are not JSON objects
//! are left out and event times that cannot be read are counted, with a warning, and make the exit code 1.
//! What cannot be read or replayed is told, does not keep the rest from it, and makes the exit code 2; so
//! does a replay without a record. Not here: the detections.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use firstseen::alerts::{self, Alert};
use firstseen::asn::{self, AsLookup};
use firstseen::guest::{Answer, Entry, Instance};
use firstseen::logs::records::Records;
use firstseen::{configuration, logs, module_file};
use firstseen_engine::event::{Identity, IdentityReader};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::args;
use crate::commands::standard_output::StandardOutput;
use crate::commands::{self, NO_EVENT, counted, grouped, printable};
use crate::warning::{self, LeftOut, LineWarnings, UnreadableTimes};

/// The tag that the module is told.
const TAG: &[u8] = b"replay";

/// How many records pass between two looks at the progress bar.
const PROGRESS_STEP: usize = 1024;

/// One record with what it is sorted by.
struct Record {
    /// The time of its latest event or that of the record before, in milliseconds since 1970.
    time: i64,
    /// Those of its events; none if the record holds no CloudTrail event.
    identities: Vec<Identity>,
    /// Which of the files it is of, from 0, and on which line.
    file: usize,
    line: u64,
    text: Vec<u8>,
}

/// One line of `--json`.
#[derive(Serialize)]
struct JsonAlert<'a> {
    event_id: Option<&'a str>,
    event_time: Option<String>,
    alert: &'a RawValue,
}

/// What the summary counts.
#[derive(Default)]
struct Summary {
    records: usize,
    events: usize,
    first: Option<i64>,
    last: Option<i64>,
    tagged: usize,
    suppressed: usize,
    /// Rule name and severity, with the number of alerts.
    alerts: BTreeMap<(String, String), usize>,
    took: Duration,
    left_out: LeftOut,
    times: UnreadableTimes,
}

pub(crate) fn run(args: &args::Replay) -> anyhow::Result<ExitCode> {
    commands::check_configuration(args.dir.as_deref())?;
    let module = module_file::load(args.module.as_deref(), false)?;
    // Without --keep-history the directory stays as it is: the module gets another one, with the same pack.
    let scratch = tempfile::tempdir().context("cannot make a temporary directory")?;
    let directory = match &args.dir {
        Some(directory) if args.keep_history => directory,
        directory => {
            if let Some(directory) = directory {
                configuration::copy_pack(directory, scratch.path())?;
            }
            scratch.path()
        }
    };
    let instance = module.instantiate(Some(directory))?;
    let settings = configuration::settings(args.dir.as_deref())?;
    let identities = IdentityReader::new(&settings);
    let lookup = commands::as_lookup(args.asn.as_deref(), args.dir.as_deref(), args.module.is_none())?;
    let mut reading = Reading {
        max_record: commands::bytes(args.max_record),
        room: args.max_memory as usize * 1024 * 1024,
        identities,
        records: Vec::new(),
        left_out: LeftOut::default(),
        times: UnreadableTimes::default(),
    };
    let mut failed = false;
    for (index, file) in args.files.iter().enumerate() {
        if let Err(error) = reading.read(file, index) {
            warning::tell(&error);
            if reading.room == 0 {
                return Ok(ExitCode::from(2));
            }
            failed = true;
        }
    }
    let Reading { mut records, left_out, times, .. } = reading;
    if failed && records.is_empty() {
        return Ok(ExitCode::from(2));
    }
    if records.is_empty() {
        tracing::warn!("no record was read");
    }
    // Whatever else happens, what was not read is said.
    let code = if records.is_empty() { 2 } else { u8::from(left_out.total() + times.total() > 0) };
    records.sort_by_key(|record| record.time);

    let warnings = args.files.iter().map(|file| LineWarnings::new(file)).collect();
    let out = StandardOutput::new();
    let summary = Summary { left_out, times, ..Summary::default() };
    let mut replay = Replay { args, output_key: settings.output_key, instance, lookup, out, warnings, summary, failed };
    let written = replay.run(&records);
    commands::exit_code(if replay.failed { 2 } else { code }, written)
}

/// What a record takes beside its text.
const RECORD_COST: usize = size_of::<Record>() + 64;

/// The records of the files that have been read.
struct Reading {
    max_record: usize,
    /// How many bytes of memory are left for records; none, if a record found none.
    room: usize,
    identities: IdentityReader,
    records: Vec<Record>,
    left_out: LeftOut,
    times: UnreadableTimes,
}

impl Reading {
    /// Appends all records of a file, in their order there; those before an error, too.
    fn read(&mut self, file: &Path, index: usize) -> anyhow::Result<()> {
        let cannot = || format!("cannot read {}", file.display());
        let source = logs::open(file).with_context(cannot)?;
        let mut records = Records::new(source, self.max_record).with_context(cannot)?;
        let mut bad_lines = LineWarnings::new(file);
        while let Some(record) = records.next().with_context(cannot)? {
            if let Some(reason) = record.left_out {
                if self.left_out.note(file, &record) {
                    bad_lines.tell(record.line, format_args!("{reason}; the line is left out"));
                }
                continue;
            }
            let identities = self.identities.read(record.text);
            for identity in &identities {
                self.times.note(file, record.line, identity);
            }
            let time = identities.iter().filter_map(|identity| identity.event_time).max();
            let time = time.or(self.records.last().map(|before| before.time)).unwrap_or(i64::MIN);
            // A vector that grows has room for twice as many.
            let needed = record.text.len() + 2 * RECORD_COST;
            self.room = self.room.saturating_sub(needed);
            if self.room == 0 {
                bail!(
                    "{}:{}: the records before this one fill --max-memory, and all must be held to put them in order: raise it, \
                     or replay fewer files at once with --keep-history",
                    file.display(),
                    record.line
                );
            }
            self.records.push(Record { time, identities, file: index, line: record.line, text: record.text.to_vec() });
        }
        Ok(())
    }
}

/// A replay on its way.
struct Replay<'a> {
    args: &'a args::Replay,
    output_key: String,
    instance: Instance,
    lookup: Option<AsLookup>,
    out: StandardOutput,
    /// Of the records of each file that the module failed on, or whose alerts cannot be shown.
    warnings: Vec<LineWarnings>,
    summary: Summary,
    /// Whether a file could not be read or a record not be replayed.
    failed: bool,
}

impl Replay<'_> {
    /// Replays the records, which are in the order of time; an error is one of standard output.
    fn run(&mut self, records: &[Record]) -> anyhow::Result<()> {
        let progress = progress(records.len());
        let start = Instant::now();
        let now = Timestamp::now().as_millisecond();
        for (index, record) in records.iter().enumerate() {
            if index % PROGRESS_STEP == 0 {
                progress.set_position(index as u64);
            }
            self.summary.count(record);
            let (lookup, arrival) = (self.lookup.as_ref(), arrival(record.time, now));
            match asn::call(lookup, &mut self.instance, Entry::Firstseen, TAG, arrival, &record.text) {
                Ok(Answer::Changed(changed)) => progress.suspend(|| self.show(record, &changed))?,
                Ok(Answer::Untouched | Answer::Dropped) => {}
                Err(error) => progress.suspend(|| {
                    self.warn(
                        record,
                        format_args!("{error}; the module starts anew with the history of its state file"),
                    );
                }),
            }
        }
        self.summary.took = start.elapsed();
        progress.finish_and_clear();
        if !self.args.json {
            self.summary.print(&mut self.out)?;
        } else {
            self.summary.warn();
        }
        Ok(self.out.flush()?)
    }

    /// Prints the alerts that the module appended to a record.
    fn show(&mut self, record: &Record, changed: &[u8]) -> io::Result<()> {
        let Some(appended) = alerts::appended(&record.text, changed, &self.output_key) else {
            let key = self.output_key.clone();
            self.warn(record, format_args!("the module changed the record but appended no {key:?} that can be read"));
            return Ok(());
        };
        self.summary.suppressed += appended.suppressed.len();
        let mut events = BTreeSet::new();
        for text in appended.alerts {
            let Some(alert) = Alert::read(text) else {
                self.warn(record, format_args!("an alert has another shape: {}", text.get()));
                continue;
            };
            let number = alert.event.map_or(0, |event| event.index);
            let identity = record.identities.get(number);
            match self.args.json {
                true => print_json(&mut self.out, identity, text)?,
                false => print(&mut self.out, identity, &alert)?,
            }
            events.insert(number);
            *self.summary.alerts.entry((alert.rule.name, alert.severity)).or_default() += 1;
        }
        self.summary.tagged += events.len();
        Ok(())
    }

    fn warn(&mut self, record: &Record, what: impl Display) {
        self.failed = true;
        self.warnings[record.file].tell(record.line, what);
    }
}

/// The event time, but no time to come, as the module is told it: seconds and nanoseconds since 1970.
fn arrival(time: i64, now: i64) -> (u32, u32) {
    let time = time.min(now);
    let seconds = time.div_euclid(1000).clamp(0, i64::from(u32::MAX)) as u32;
    (seconds, time.rem_euclid(1000) as u32 * 1_000_000)
}

/// RFC 3339 in UTC; `None` for a time beyond the calendar.
fn rfc3339(time: i64) -> Option<String> {
    Timestamp::from_millisecond(time).ok().map(|time| time.to_string())
}

fn progress(records: usize) -> ProgressBar {
    // Hidden where standard error is no terminal.
    let bar = ProgressBar::with_draw_target(Some(records as u64), ProgressDrawTarget::stderr());
    match ProgressStyle::with_template("{wide_bar} {human_pos} of {human_len} records, {eta} left") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn print_json(out: &mut impl Write, identity: Option<&Identity>, alert: &RawValue) -> io::Result<()> {
    let line = JsonAlert {
        event_id: identity.and_then(|identity| identity.event_id.as_deref()),
        event_time: identity.and_then(|identity| identity.event_time).and_then(rfc3339),
        alert,
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}

/// One alert as a person reads it.
fn print(out: &mut impl Write, identity: Option<&Identity>, alert: &Alert) -> io::Result<()> {
    let time = identity.and_then(|identity| identity.event_time).and_then(rfc3339);
    let time = time.unwrap_or_else(|| "(no event time)".to_owned());
    writeln!(out, "{time}  {}  {}", alert.severity.to_uppercase(), printable(alert.headline()))?;
    if alert.headline() != alert.rule.name {
        writeln!(out, "    rule      {}", printable(&alert.rule.name))?;
    }
    if let Some(new) = &alert.new_terms {
        for (field, value) in new.fields.iter().zip(&new.values) {
            writeln!(out, "    new term  {field}: {}", printable(value))?;
        }
        let reason = new.reason.as_deref().unwrap_or("new").replace('_', " ");
        match &new.history_window {
            Some(window) => writeln!(out, "    reason    {reason}, in a window of {window}")?,
            None => writeln!(out, "    reason    {reason}")?,
        }
    }
    let entities: Vec<String> = alert.entities.iter().map(entity).collect();
    if !entities.is_empty() {
        writeln!(out, "    entities  {}", entities.join("; "))?;
    }
    if let Some(id) = identity.and_then(|identity| identity.event_id.as_deref()) {
        writeln!(out, "    event     {}", printable(id))?;
    }
    writeln!(out)
}

/// `account alice, 111122223333`: type, name or address, then what else there is.
fn entity(entity: &serde_json::Map<String, serde_json::Value>) -> String {
    let kind = entity.get("type").and_then(serde_json::Value::as_str).unwrap_or("entity");
    let mut attributes: Vec<_> = entity.iter().filter(|(name, _)| *name != "type").collect();
    attributes.sort_by_key(|(name, _)| !matches!(name.as_str(), "name" | "address"));
    let attributes: Vec<String> =
        attributes.into_iter().map(|(_, value)| printable(value.as_str().unwrap_or(&value.to_string()))).collect();
    format!("{kind} {}", attributes.join(", "))
}

impl Summary {
    fn count(&mut self, record: &Record) {
        self.records += 1;
        self.events += record.identities.len();
        for time in record.identities.iter().filter_map(|identity| identity.event_time) {
            self.first = Some(self.first.map_or(time, |first| first.min(time)));
            self.last = Some(self.last.map_or(time, |last| last.max(time)));
        }
    }

    /// What else the summary would say that is wrong.
    fn warn(&self) {
        if self.records > 0 && self.events == 0 {
            tracing::warn!("{NO_EVENT}");
        }
        if self.left_out.total() > 0 {
            tracing::warn!("{} left out: {}", counted(self.left_out.total(), "text"), self.left_out);
        }
        if self.times.total() > 0 {
            tracing::warn!("{}", self.times);
        }
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{}, {}", counted(self.records, "record"), counted(self.events, "CloudTrail event"))?;
        if let (Some(first), Some(last)) = (self.first.and_then(rfc3339), self.last.and_then(rfc3339)) {
            writeln!(out, "from {first} to {last}")?;
        }
        if self.records > 0 && self.events == 0 {
            writeln!(out, "{NO_EVENT}")?;
        }
        if self.left_out.total() > 0 {
            writeln!(out, "{} left out: {}", counted(self.left_out.total(), "text"), self.left_out)?;
        }
        if self.times.total() > 0 {
            writeln!(out, "{}", self.times)?;
        }
        let alerts: usize = self.alerts.values().sum();
        writeln!(
            out,
            "{} on {}; suppressed: {}",
            counted(alerts, "alert"),
            counted(self.tagged, "event"),
            grouped(self.suppressed)
        )?;
        let mut by_rule: Vec<_> = self.alerts.iter().collect();
        by_rule.sort_by_key(|((_, severity), _)| std::cmp::Reverse(rank(severity)));
        for ((rule, severity), count) in by_rule {
            writeln!(out, "  {:>6}  {severity:<8}  {}", grouped(*count), printable(rule))?;
        }
        let seconds = self.took.as_secs_f64();
        let speed = self.records as f64 / seconds.max(f64::EPSILON);
        writeln!(out, "{:.1} ms in the module, {} records a second", seconds * 1000.0, grouped(speed as usize))
    }
}

fn rank(severity: &str) -> usize {
    ["low", "medium", "high", "critical"].iter().position(|known| *known == severity).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrival_is_the_event_time_in_seconds_and_nanoseconds() {
        assert_eq!(arrival(1_500, i64::MAX), (1, 500_000_000));
        assert_eq!(arrival(-1, i64::MAX), (0, 999_000_000));
        assert_eq!(arrival(i64::MIN, i64::MAX).0, 0);
        assert_eq!(arrival(i64::MAX, i64::MAX).0, u32::MAX);
        assert_eq!(arrival(i64::MAX, 2_000), (2, 0));
    }

    #[test]
    fn times_are_rfc_3339_in_utc() {
        assert_eq!(rfc3339(1_772_500_000_250).as_deref(), Some("2026-03-03T01:06:40.25Z"));
        assert_eq!(rfc3339(i64::MIN), None);
    }
}
