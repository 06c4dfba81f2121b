//! `firstseen replay`: past logs in the order of their event times, to see what the rules would have said.
//!
//! In: files. Out: on standard output the alerts, each as a few lines, and a summary; with `--json` one object per alert.
//! Bounds: all records are held in memory, for they must be sorted. A record without an event time comes right after the
//! one before it. Lines that are no record are left out, with a warning. Not here: the detections.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use firstseen::alerts::{self, Alert};
use firstseen::guest::{Answer, Entry, Options};
use firstseen::{configuration, input, module_file};
use firstseen_engine::event::{Identity, IdentityReader};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::args;
use crate::commands::{counted, grouped};

/// The tag that the module is told.
const TAG: &[u8] = b"replay";

/// How many records pass between two looks at the progress bar.
const PROGRESS_STEP: usize = 1024;

/// One record with what it is sorted by.
struct Record {
    /// The event time or that of the record before, in milliseconds since 1970.
    time: i64,
    /// Absent if the record holds no CloudTrail event.
    identity: Option<Identity>,
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
}

pub(crate) fn run(args: &args::Replay) -> anyhow::Result<ExitCode> {
    if let Some(dir) = &args.dir {
        configuration::check_directory(dir)?;
    }
    let module = module_file::load(args.module.as_deref(), &Options::default())?;
    let mut instance = module.instantiate(args.dir.as_deref())?;
    let settings = configuration::settings(args.dir.as_deref())?;
    let mut records = read(args, &IdentityReader::new(&settings))?;
    records.sort_by_key(|record| record.time);

    let mut summary = Summary::default();
    let mut out = BufWriter::new(io::stdout().lock());
    let progress = progress(records.len());
    let start = Instant::now();
    for (index, record) in records.iter().enumerate() {
        if index % PROGRESS_STEP == 0 {
            progress.set_position(index as u64);
        }
        summary.count(record);
        let (sec, nsec) = arrival(record.time);
        let answer = instance.call(Entry::Firstseen, TAG, sec, nsec, &record.text)?;
        let Answer::Changed(changed) = answer else {
            continue;
        };
        let appended = alerts::appended(&changed, &settings.output_key)
            .with_context(|| format!("the module changed a record but appended no {:?} to it", settings.output_key))?;
        summary.tagged += usize::from(!appended.alerts.is_empty());
        summary.suppressed += appended.suppressed.len();
        for text in appended.alerts {
            let alert = Alert::read(text).with_context(|| format!("an alert has another shape: {}", text.get()))?;
            match args.json {
                true => print_json(&mut out, record, text)?,
                false => progress.suspend(|| print(&mut out, record, &alert))?,
            }
            *summary.alerts.entry((alert.rule.name, alert.severity)).or_default() += 1;
        }
    }
    summary.took = start.elapsed();
    progress.finish_and_clear();
    if !args.json {
        summary.print(&mut out)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// All records of all files, in their order there.
fn read(args: &args::Replay, identities: &IdentityReader) -> anyhow::Result<Vec<Record>> {
    let mut found: Vec<Record> = Vec::new();
    for file in &args.files {
        let name = file.display();
        let cannot = || format!("cannot read {name}");
        let source = input::open(file).with_context(cannot)?;
        let mut records = input::Records::new(source).with_context(cannot)?;
        while let Some(record) = records.next().with_context(cannot)? {
            if let Some(reason) = record.fault {
                tracing::warn!("{name}:{}: {reason}; the line is left out", record.line);
                continue;
            }
            let identity = identities.read(record.text);
            let time = identity.as_ref().and_then(|identity| identity.event_time);
            let time = time.or(found.last().map(|before| before.time)).unwrap_or(i64::MIN);
            found.push(Record { time, identity, text: record.text.to_vec() });
        }
    }
    Ok(found)
}

/// The event time as the module is told it: seconds and nanoseconds since 1970.
fn arrival(time: i64) -> (u32, u32) {
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

fn print_json(out: &mut impl Write, record: &Record, alert: &RawValue) -> io::Result<()> {
    let identity = record.identity.as_ref();
    let line = JsonAlert {
        event_id: identity.and_then(|identity| identity.event_id.as_deref()),
        event_time: identity.and_then(|identity| identity.event_time).and_then(rfc3339),
        alert,
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}

/// One alert as a person reads it.
fn print(out: &mut impl Write, record: &Record, alert: &Alert) -> io::Result<()> {
    let identity = record.identity.as_ref();
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

/// The text without control characters: what an event says must not steer the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect()
}

impl Summary {
    fn count(&mut self, record: &Record) {
        self.records += 1;
        let Some(identity) = &record.identity else {
            return;
        };
        self.events += 1;
        if let Some(time) = identity.event_time {
            self.first = Some(self.first.map_or(time, |first| first.min(time)));
            self.last = Some(self.last.map_or(time, |last| last.max(time)));
        }
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{}, {}", counted(self.records, "record"), counted(self.events, "CloudTrail event"))?;
        if let (Some(first), Some(last)) = (self.first.and_then(rfc3339), self.last.and_then(rfc3339)) {
            writeln!(out, "from {first} to {last}")?;
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
        assert_eq!(arrival(1_500), (1, 500_000_000));
        assert_eq!(arrival(-1), (0, 999_000_000));
        assert_eq!(arrival(i64::MIN).0, 0);
        assert_eq!(arrival(i64::MAX).0, u32::MAX);
    }

    #[test]
    fn times_are_rfc_3339_in_utc() {
        assert_eq!(rfc3339(1_772_500_000_250).as_deref(), Some("2026-03-03T01:06:40.25Z"));
        assert_eq!(rfc3339(i64::MIN), None);
    }

    #[test]
    fn what_an_event_says_does_not_steer_the_terminal() {
        assert_eq!(printable("a\u{1b}[31mb\n"), "a\u{fffd}[31mb\u{fffd}");
    }
}
