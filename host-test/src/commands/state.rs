//! `firstseen state`: looks into the history of a configuration directory, and tends it.
//!
//! In: a directory. Out: on standard output a summary, an export, or what an event would find; or another state file in the
//! place of the one there was. Not here: what is in a history, and the forms of a state file and an export.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use firstseen::history_file::{self, HistoryFile};
use firstseen::logs::records::Records;
use firstseen::state_export::{self, purpose_name, rfc3339, some_time};
use firstseen::{configuration, logs};
use firstseen_engine::enrichment::Hour;
use firstseen_engine::new_terms::Reason;
use firstseen_engine::new_terms::history::History;
use firstseen_engine::new_terms::history::entry::{Entry, seconds};
use firstseen_engine::new_terms::history::owner::{Owner, Purpose};
use firstseen_engine::new_terms::history::usage::UsedOnce;
use firstseen_engine::storage::STATE_FILE;
use firstseen_engine::{Engine, Explanation};
use serde::Serialize;

use crate::args;
use crate::commands::standard_output::StandardOutput;
use crate::commands::{self, counted, counted_as, grouped, printable};
use crate::warning::LeftOut;

pub(crate) fn run(command: &args::State) -> anyhow::Result<ExitCode> {
    match command {
        args::State::Show(args) => match &args.why {
            None => show(args),
            Some(file) => why(&args.dir, file, commands::bytes(args.max_record)),
        },
        args::State::Export(args) => export(&args.dir),
        args::State::Import(args) => import(args),
        args::State::Forget(args) => forget(args),
    }
}

/// The history of a directory that is to have one.
fn open(directory: &Path) -> anyhow::Result<(HistoryFile, History)> {
    configuration::check_directory(directory)?;
    commands::warn_of_open_directory(directory);
    let (file, history) = HistoryFile::open(directory)?;
    let history =
        history.with_context(|| format!("{} has no {STATE_FILE}: no filter has run there", directory.display()))?;
    commands::warn_of_damage(&file);
    Ok((file, history))
}

/// What `state show` says of the whole.
#[derive(Serialize)]
struct Summary {
    entries: usize,
    capacity: u32,
    /// Bytes.
    file_length: u64,
    /// The latest second of an event.
    clock: Option<String>,
    recoveries: u32,
    damaged: Option<String>,
    damaged_bytes: u64,
    unfinished_bytes: u64,
    enrichment: Option<EnrichmentSummary>,
    rules: Vec<RuleSummary>,
}

/// What the last hour of enrichment has shown that was kept.
#[derive(Serialize)]
struct EnrichmentSummary {
    until: String,
    asked: u32,
    lacking: u32,
    known_addresses: u32,
    relabelled: u32,
}

/// And of one rule's tuples or groups.
#[derive(Serialize)]
struct RuleSummary {
    rule_id: String,
    kind: &'static str,
    fields: String,
    entries: usize,
    window_seconds: u32,
    since: Option<String>,
    taught_until: Option<String>,
    state: &'static str,
    first_seen: Option<String>,
    last_seen: Option<String>,
    evictions: u32,
    capacity_needed: u32,
    held: u32,
    /// How many entries were seen in one event only.
    used_once: usize,
    /// The fields whose values differ for each request, if that was found within the last days; and when it was said.
    differing_fields: Vec<String>,
    differing_since: Option<String>,
    runs: bool,
}

fn show(args: &args::Show) -> anyhow::Result<ExitCode> {
    let (file, history) = open(&args.dir)?;
    let pack = configuration::pack(Some(&args.dir))?;
    let repairs = history.repairs();
    let running: BTreeSet<&str> = pack.rules.iter().map(|rule| rule.id.as_str()).collect();
    let owners = history.owners().map(|(_, owner)| owner).filter(|owner| owner.is_in_use());
    let mut rules: Vec<RuleSummary> =
        owners.map(|owner| summary(owner, history.clock(), running.contains(&*owner.rule_id))).collect();
    rules.sort_by(|a, b| (&a.rule_id, a.kind, &a.fields).cmp(&(&b.rule_id, b.kind, &b.fields)));
    let summary = Summary {
        entries: history.len(),
        capacity: pack.settings.capacity,
        file_length: file.len(),
        clock: some_time(history.clock()),
        recoveries: repairs.recoveries,
        damaged: some_time(repairs.damaged_at),
        damaged_bytes: file.damaged,
        unfinished_bytes: file.torn,
        enrichment: enrichment(history.enrichment()),
        rules,
    };
    let mut out = StandardOutput::new();
    if args.json {
        serde_json::to_writer(&mut out, &summary).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        summary.print(&mut out)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn enrichment(hour: Hour) -> Option<EnrichmentSummary> {
    let Hour { until, asked, lacking, known_addresses, relabelled } = hour;
    let until = some_time(until)?;
    Some(EnrichmentSummary { until, asked, lacking, known_addresses, relabelled })
}

fn summary(owner: &Owner, clock: u32, runs: bool) -> RuleSummary {
    let standing = owner.standing;
    let used_once = if owner.used_once.is_recent(clock) { owner.used_once } else { UsedOnce::default() };
    let differing = used_once.names(&owner.fields);
    RuleSummary {
        rule_id: owner.rule_id.clone(),
        kind: purpose_name(owner.purpose),
        fields: owner.fields.clone(),
        entries: owner.len(),
        window_seconds: standing.window,
        since: some_time(standing.since),
        taught_until: some_time(standing.until),
        state: if standing.is_complete(clock) { "complete" } else { "warming" },
        first_seen: owner.entries().map(|(_, entry)| entry.first_seen).min().map(rfc3339),
        last_seen: owner.entries().map(|(_, entry)| entry.last_seen).max().map(rfc3339),
        evictions: standing.evictions,
        capacity_needed: standing.capacity_needed,
        held: standing.held,
        used_once: owner.count_used_once(),
        differing_fields: differing.map(str::to_owned).collect(),
        differing_since: some_time(used_once.said_at),
        runs,
    }
}

impl Summary {
    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let entries = counted_as(self.entries, "entry", "entries");
        let (capacity, length) = (grouped(self.capacity as usize), grouped(self.file_length as usize));
        writeln!(out, "{entries} of at most {capacity}, in {length} bytes")?;
        writeln!(out, "latest event  {}", self.clock.as_deref().unwrap_or("none"))?;
        writeln!(out, "recoveries    {}", grouped(self.recoveries as usize))?;
        if let Some(damaged) = &self.damaged {
            writeln!(out, "damaged       part of it was found to be lost at {damaged}")?;
        }
        if self.damaged_bytes > 0 {
            writeln!(out, "damaged       {} bytes cannot be read", grouped(self.damaged_bytes as usize))?;
        }
        if self.unfinished_bytes > 0 {
            writeln!(
                out,
                "unfinished    {} bytes, of a write that was cut off",
                grouped(self.unfinished_bytes as usize)
            )?;
        }
        if let Some(EnrichmentSummary { until, asked, lacking, known_addresses, relabelled }) = &self.enrichment {
            let share = u64::from(*lacking) * 100 / u64::from((*asked).max(1));
            let (asked, lacking) = (grouped(*asked as usize), grouped(*lacking as usize));
            writeln!(
                out,
                "enrichment    {lacking} of {asked} events that rules ask for their AS organisation had none ({share}%), in \
                 the hour until {until}"
            )?;
            if *relabelled > 0 {
                let (relabelled, known) = (grouped(*relabelled as usize), grouped(*known_addresses as usize));
                writeln!(
                    out,
                    "              {relabelled} of {known} known addresses had another organisation than before"
                )?;
            }
        }
        for rule in &self.rules {
            writeln!(out, "\n{}  {}", printable(&rule.rule_id), rule.kind)?;
            writeln!(out, "  fields      {}", printable(&rule.fields))?;
            let entries = grouped(rule.entries);
            match (&rule.first_seen, &rule.last_seen) {
                (Some(first), Some(last)) => writeln!(out, "  entries     {entries}, from {first} to {last}")?,
                _ => writeln!(out, "  entries     {entries}")?,
            }
            let since = rule.since.as_deref().unwrap_or("never");
            write!(out, "  since       {since}, {} for a window of {}", rule.state, span(rule.window_seconds))?;
            match &rule.taught_until {
                Some(until) => writeln!(out, "; taught until {until}")?,
                None => writeln!(out)?,
            }
            if rule.evictions > 0 {
                let (evictions, needed) = (grouped(rule.evictions as usize), grouped(rule.capacity_needed as usize));
                match rule.capacity_needed {
                    0 => writeln!(out, "  evicted     {evictions}")?,
                    _ => writeln!(out, "  evicted     {evictions}; a capacity of {needed} would do")?,
                }
            }
            if rule.held > 0 {
                writeln!(out, "  held        {}", commands::counted(rule.held as usize, "alert"))?;
            }
            if let Some(since) = &rule.differing_since {
                writeln!(
                    out,
                    "  used once   {} of {entries}; the values of {} are new for each request, found at {since}: leave that \
                     field out of the rule",
                    grouped(rule.used_once),
                    printable(&rule.differing_fields.join(" and ")),
                )?;
            }
            if !rule.runs {
                writeln!(out, "  the rule does not run any more")?;
            }
        }
        Ok(())
    }
}

/// `10d`, or another whole number of a unit.
fn span(seconds: u32) -> String {
    let units = [(86_400, "d"), (3600, "h"), (60, "m")];
    match units.iter().find(|(length, _)| seconds > 0 && seconds.is_multiple_of(*length)) {
        Some((length, unit)) => format!("{}{unit}", seconds / length),
        None => format!("{seconds}s"),
    }
}

/// What the history knows of the tuples and groups of each event in a file.
fn why(directory: &Path, file: &Path, max_record: usize) -> anyhow::Result<ExitCode> {
    let (_, history) = open(directory)?;
    let engine = Engine::with_history(configuration::pack(Some(directory))?, history)
        .map_err(|unknown| anyhow::anyhow!("the pack asks for the unknown field {}", unknown.0))?;
    let cannot = || format!("cannot read {}", file.display());
    let mut records = Records::new(logs::open(file).with_context(cannot)?, max_record).with_context(cannot)?;
    let mut left_out = LeftOut::default();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    let mut out = StandardOutput::new();
    let mut explained = 0;
    while let Some(record) = records.next().with_context(cannot)? {
        if record.left_out.is_some() {
            left_out.note(file, &record);
            continue;
        }
        for explanation in engine.explain(record.text, now) {
            explained += 1;
            print(&mut out, record.line, &explanation)?;
        }
    }
    if left_out.total() > 0 {
        tracing::warn!("{} left out: {left_out}", counted(left_out.total(), "text"));
    }
    if explained == 0 {
        writeln!(out, "no event in {} matches a rule that asks the history anything", file.display())?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn print(out: &mut impl Write, line: u64, explanation: &Explanation) -> io::Result<()> {
    let Explanation { rule_id, purpose, values, entry, standing, at } = explanation;
    let values: Vec<String> = values.iter().map(|values| printable(&values.join(" | "))).collect();
    writeln!(out, "line {line}, {}  {}", rfc3339(*at), printable(rule_id))?;
    writeln!(out, "    {:<9} {}", if *purpose == Purpose::Tuples { "tuple" } else { "group" }, values.join(", "))?;
    let verdict = match (purpose, entry) {
        (_, None) => "never seen".to_owned(),
        (Purpose::Tuples, Some(entry)) => tuple_verdict(entry, *at, standing.window),
        (Purpose::Groups, Some(Entry { first_seen, last_seen, detail, .. })) => format!(
            "{} from {} to {}{}",
            commands::counted(*detail as usize, "event"),
            rfc3339(*first_seen),
            rfc3339(*last_seen),
            if at.abs_diff(*first_seen) < standing.window { "" } else { "; the event is of another group" }
        ),
    };
    writeln!(out, "    history   {verdict}")?;
    let state = if standing.is_complete(*at) { "complete" } else { "warming" };
    let since = some_time(standing.since).unwrap_or_else(|| "never".to_owned());
    writeln!(out, "    since     {since}, {state} for a window of {}", span(standing.window))
}

fn tuple_verdict(entry: &Entry, at: u32, window: u32) -> String {
    let (first, last) = (rfc3339(entry.first_seen), rfc3339(entry.last_seen));
    let known = if entry.is_within(at, window) { "known" } else { "expired" };
    let was = match entry.reason() {
        Reason::Expired { last_seen } => format!(", after it had expired since {}", rfc3339(seconds(last_seen))),
        Reason::Evicted => ", after it had been evicted".to_owned(),
        Reason::NeverSeen | Reason::TooMany => String::new(),
    };
    format!("{known}: first seen {first}, last seen {last}{was}")
}

fn export(directory: &Path) -> anyhow::Result<ExitCode> {
    let (_, history) = open(directory)?;
    let mut out = StandardOutput::new();
    state_export::export(&history, &mut out)?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn import(args: &args::Import) -> anyhow::Result<ExitCode> {
    configuration::check_directory(&args.dir)?;
    commands::warn_of_open_directory(&args.dir);
    let (mut file, mut history) = HistoryFile::open(&args.dir)?;
    commands::warn_of_damage(&file);
    let before = history.as_ref().map_or(0, History::len);
    for path in &args.files {
        let other = history_file::read_any(path)?;
        match &mut history {
            Some(history) if history.key() == other.key() || !history.is_empty() => {
                if !history.merge(&other) {
                    bail!(
                        "{} was made under another key, and its fingerprints cannot be compared: histories that are to be \
                         merged must come from one, such as a state file that is copied to each directory before its \
                         filter first runs",
                        path.display()
                    );
                }
            }
            // One without entries takes over the first's key.
            _ => history = Some(other),
        }
    }
    let mut history = history.context("name at least one export")?;
    let len = file.write(&mut history)?;
    let mut out = StandardOutput::new();
    writeln!(
        out,
        "the history has {}, {} more than before, in {} bytes",
        counted_as(history.len(), "entry", "entries"),
        grouped(history.len().saturating_sub(before)),
        grouped(len as usize)
    )?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn forget(args: &args::Forget) -> anyhow::Result<ExitCode> {
    let (mut file, mut history) = open(&args.dir)?;
    let known = history.rule_ids();
    let unknown = args.rules.iter().find(|rule| !known.contains(rule));
    if let Some(unknown) = unknown {
        bail!("the history knows nothing of the rule {unknown:?}; it knows {}", known.join(", "));
    }
    let forgotten: usize = args.rules.iter().map(|rule| history.forget_rule(rule)).sum();
    file.write(&mut history)?;
    let mut out = StandardOutput::new();
    let (forgotten, left) = (counted_as(forgotten, "entry", "entries"), counted_as(history.len(), "entry", "entries"));
    writeln!(out, "{forgotten} forgotten, {left} left")?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::span;

    #[test]
    fn spans_are_in_their_largest_whole_unit() {
        let spans = [0, 59, 60, 3600, 5400, 86_400, 864_000, 90_000].map(span);
        assert_eq!(spans, ["0s", "59s", "1m", "1h", "90m", "1d", "10d", "25h"]);
    }
}
