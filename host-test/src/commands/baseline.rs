//! `firstseen baseline`: teaches the history from past logs, without alerting.
//!
//! In: files, in any order, of any time, also of what the live filter saw. Out: the directory's state file,
//! replaced once all is learned; on standard output what was learned. Teaching the same again changes
//! nothing. Bounds: the history is in memory whole, the files are not. A file that cannot be read is told,
//! does not keep the others from being learned, and makes the exit code 2, and so do files without an event
//! that can be learned from. Texts that are not JSON objects are left out and event times that cannot be read
//! are counted, which makes it 1; then nothing counts as covered. Not here: what an event teaches, which is
//! the engine's.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow};
use firstseen::asn::{AsLookup, Enriched};
use firstseen::history_file::{self, HistoryFile};
use firstseen::logs::records::Records;
use firstseen::native_search::NativeSearch;
use firstseen::state_export::rfc3339;
use firstseen::{configuration, logs};
use firstseen_engine::Engine;
use firstseen_engine::event::{Identity, IdentityReader, timestamp};
use firstseen_engine::new_terms::history::History;
use firstseen_engine::new_terms::history::entry::seconds;
use firstseen_engine::rule::Pack;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use memchr::memmem::Finder;
use serde::Serialize;

use crate::args;
use crate::commands::standard_output::StandardOutput;
use crate::commands::{self, NO_EVENT, counted, counted_as, grouped};
use crate::warning::{self, LeftOut, LineWarnings, UnreadableTimes};

mod coverage;

pub(crate) fn run(args: &args::Baseline) -> anyhow::Result<ExitCode> {
    commands::check_configuration(Some(&args.dir))?;
    let pack = configuration::pack(Some(&args.dir))?;
    let capacity = pack.settings.capacity as usize;
    let (mut file, history) = HistoryFile::open(&args.dir)?;
    commands::warn_of_damage(&file);
    let before = history.as_ref().map_or(0, History::len);
    let lookup = commands::as_lookup(args.asn.as_deref(), Some(&args.dir), true)?;
    let max_record = commands::bytes(args.max_record);
    let mut baseline = Baseline::new(pack, history, lookup, progress(&args.files), max_record)?;
    let start = Instant::now();
    let mut failed = false;
    for path in &args.files {
        if let Err(error) = baseline.learn(path) {
            baseline.progress.suspend(|| warning::tell(&error));
            failed = true;
        }
    }
    baseline.progress.finish_and_clear();
    let took = start.elapsed().as_secs_f64();

    let times = baseline.times();
    let covered = baseline.covered();
    let Baseline { mut engine, records, bytes, has_event, left_out, unreadable_times, .. } = baseline;
    let uncovered = coverage::reason_against(failed, left_out.total(), unreadable_times.total());
    let is_whole = uncovered.is_none();
    if let (Some((from, until)), None) = (covered, &uncovered) {
        engine.cover(from, until);
    }
    let learned = engine.learned();
    let mut history = engine.into_history();
    let len = file.write(&mut history)?;
    let mut out = StandardOutput::new();
    let (megabytes, entries) = (bytes as f64 / 1e6, history.len());
    let speed = megabytes / took.max(f64::EPSILON);
    writeln!(out, "{} of {megabytes:.1} MB, {speed:.0} MB/s", counted(records, "record"))?;
    match times {
        Some((from, until)) => writeln!(out, "from {} to {}", rfc3339(seconds(from)), rfc3339(seconds(until)))?,
        None if records == 0 => writeln!(out, "no record was read")?,
        None if has_event => writeln!(out, "nothing was learned: no event has a time that can be read and is past")?,
        None => writeln!(out, "{NO_EVENT}")?,
    }
    if left_out.total() > 0 {
        writeln!(out, "{} left out: {left_out}", counted(left_out.total(), "text"))?;
    }
    if unreadable_times.total() > 0 {
        writeln!(out, "{unreadable_times}")?;
    }
    writeln!(
        out,
        "the history has {}, {} of them new, in {} bytes",
        counted_as(entries, "entry", "entries"),
        grouped(entries.saturating_sub(before)),
        grouped(len as usize)
    )?;
    coverage::report(&mut out, &learned, uncovered.as_deref(), args.asn.as_deref())?;
    out.flush()?;
    if let (Some((from, _)), Some((after, _))) = (times, covered)
        && from < after
        && is_whole
    {
        let after = rfc3339(seconds(after));
        tracing::warn!(
            "there is no event on a whole day or more before {after}: only what is since then counts as covered"
        );
    }
    if entries > capacity {
        let (capacity, entries) = (grouped(capacity), grouped(entries));
        tracing::warn!("the filter holds {capacity} of these entries only: set capacity to {entries} or more");
    }
    let nothing_learned = times.is_none();
    Ok(ExitCode::from(if failed || nothing_learned { 2 } else { u8::from(!is_whole) }))
}

/// How fast a baseline was taught.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Speed {
    pub(crate) megabytes_per_second: f64,
    pub(crate) tuples: usize,
}

/// Teaches an empty history of the built-in rules from a file.
pub(crate) fn speed(file: &Path) -> anyhow::Result<Speed> {
    let mut baseline = Baseline::new(configuration::pack(None)?, None, None, ProgressBar::hidden(), logs::MAX_RECORD)?;
    let start = Instant::now();
    baseline.learn(file)?;
    let took = start.elapsed().as_secs_f64();
    Ok(Speed {
        megabytes_per_second: baseline.bytes as f64 / 1e6 / took.max(f64::EPSILON),
        tuples: baseline.engine.history().len(),
    })
}

struct Baseline {
    engine: Engine,
    identities: IdentityReader,
    /// Looks for the key of an event's time, as CloudTrail writes it.
    time_key: Finder<'static>,
    /// Milliseconds since 1970.
    now: i64,
    progress: ProgressBar,
    lookup: Option<AsLookup>,
    records: usize,
    /// Of the records, as text.
    bytes: u64,
    max_record: usize,
    /// Whether a record held a CloudTrail event.
    has_event: bool,
    left_out: LeftOut,
    unreadable_times: UnreadableTimes,
    /// The earliest and the latest event time of each day since 1970 that has events.
    days: BTreeMap<i64, (i64, i64)>,
}

impl Baseline {
    /// Goes on with a history, or begins one.
    fn new(
        pack: Pack,
        history: Option<History>,
        lookup: Option<AsLookup>,
        progress: ProgressBar,
        max_record: usize,
    ) -> anyhow::Result<Baseline> {
        let history = match history {
            Some(history) => history,
            None => History::new(u32::MAX, history_file::new_key()?),
        };
        let identities = IdentityReader::new(&pack.settings);
        let engine = Engine::with_history(pack, history)
            .map_err(|unknown| anyhow!("the pack asks for the unknown field {}", unknown.0))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        let time_key = Finder::new(b"\"eventTime\":\"");
        Ok(Baseline {
            engine,
            identities,
            time_key,
            now,
            progress,
            lookup,
            records: 0,
            bytes: 0,
            max_record,
            has_event: false,
            left_out: LeftOut::default(),
            unreadable_times: UnreadableTimes::default(),
            days: BTreeMap::new(),
        })
    }

    /// Learns from one file; from what comes before an error, too.
    fn learn(&mut self, path: &Path) -> anyhow::Result<()> {
        let cannot = || format!("cannot read {}", path.display());
        let source = Counted { source: logs::open(path).with_context(cannot)?, progress: self.progress.clone() };
        let mut records = Records::new(source, self.max_record).with_context(cannot)?;
        let mut bad_lines = LineWarnings::new(path);
        while let Some(record) = records.next().with_context(cannot)? {
            if let Some(reason) = record.left_out {
                if self.left_out.note(path, &record) {
                    self.progress.suspend(|| {
                        bad_lines.tell(record.line, format_args!("{reason}; the line is left out"));
                    });
                }
                continue;
            }
            self.records += 1;
            self.bytes += record.text.len() as u64 + 1;
            for identity in self.note_time(record.text) {
                self.unreadable_times.note(path, record.line, &identity);
            }
            let enriched = self.lookup.as_ref().and_then(|lookup| lookup.enrich(record.text));
            let record = enriched.as_ref().map_or(record.text, Enriched::text);
            self.engine.learn(&NativeSearch::new(record), self.now);
        }
        Ok(())
    }

    /// Takes note of when the record's events were. Reading them takes longer than all the rest, so that is only
    /// done where a look at the text does not show that nothing would come of it. The events, if they were read.
    fn note_time(&mut self, record: &[u8]) -> Vec<Identity> {
        if let Some(time) = self.time_at_a_glance(record)
            && let Some((from, until)) = self.days.get(&day(time))
            && (from - SLACK..=until + SLACK).contains(&time)
        {
            return Vec::new();
        }
        let identities = self.identities.read(record);
        self.has_event |= !identities.is_empty();
        for identity in &identities {
            // An event dated in the future is not part of the time that is covered.
            if let Some(time) = identity.event_time.filter(|time| *time <= self.now) {
                let (from, until) = self.days.entry(day(time)).or_insert((time, time));
                (*from, *until) = ((*from).min(time), (*until).max(time));
            }
        }
        identities
    }

    /// The earliest and the latest event time.
    fn times(&self) -> Option<(i64, i64)> {
        Some((self.days.first_key_value()?.1.0, self.days.last_key_value()?.1.1))
    }

    /// The same of the latest days between which there is never more than one without events.
    fn covered(&self) -> Option<(i64, i64)> {
        let mut days = self.days.iter().rev().map(|(day, times)| (*day, *times));
        let (mut first, (mut from, until)) = days.next()?;
        for (day, (earliest, _)) in days {
            if first - day > 2 {
                break;
            }
            (first, from) = (day, earliest);
        }
        Some((from, until))
    }

    /// What stands behind the first key that may be the event's time.
    fn time_at_a_glance(&self, record: &[u8]) -> Option<i64> {
        let from = self.time_key.find(record)? + self.time_key.needle().len();
        let len = memchr::memchr(b'"', record.get(from..)?)?;
        timestamp::parse(str::from_utf8(record.get(from..from + len)?).ok()?)
    }
}

/// The day of a time, counted from 1970 on.
fn day(time: i64) -> i64 {
    time.div_euclid(24 * 60 * 60 * 1000)
}

/// By how much, in milliseconds, less than all may count as covered, at the ends of a day's events.
const SLACK: i64 = 60 * 1000;

/// A source whose bytes move the progress bar.
struct Counted {
    source: Box<dyn Read>,
    progress: ProgressBar,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.progress.inc(read as u64);
        Ok(read)
    }
}

/// A bar over the bytes of the files; without an end, if one of them has no length.
fn progress(files: &[PathBuf]) -> ProgressBar {
    let lengths = files.iter().map(|file| std::fs::metadata(file).ok().map(|metadata| metadata.len()));
    let total: Option<u64> = lengths.sum();
    // Hidden where standard error is no terminal.
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
    match ProgressStyle::with_template("{wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
