//! What is said on standard error: `firstseen: warning: FILE:LINE: ...` and `firstseen: ERROR`, one line each.
//!
//! Bounds: [`MAX_LINES`] warnings of the lines of a file. Where standard error cannot be written, nothing is said and all
//! goes on.

use std::fmt::{self, Display};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use firstseen::logs::Reason;
use firstseen::logs::records::Record;
use firstseen_engine::event::Identity;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

use crate::commands::{counted, grouped};

/// The program's name, the level in words, the message.
#[derive(Debug)]
struct Plain;

impl<S, N> FormatEvent<S, N> for Plain
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let level = match *event.metadata().level() {
            Level::ERROR => "error: ",
            Level::WARN => "warning: ",
            _ => "",
        };
        write!(writer, "firstseen: {level}")?;
        context.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// Sends warnings to standard error.
pub(crate) fn init() {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_max_level(Level::INFO)
        // They would be told on standard error, by a macro that panics where that is what failed.
        .log_internal_errors(false)
        .event_format(Plain)
        .init();
}

/// Tells an error, its cause last.
pub(crate) fn tell(error: &anyhow::Error) {
    // Nowhere to say it if standard error is closed.
    let _ = writeln!(io::stderr(), "firstseen: {error:#}");
}

/// What was left out of some files, by reason, each with the place where it was first.
#[derive(Debug, Default)]
pub(crate) struct LeftOut {
    counts: [usize; Reason::NAMES.len()],
    first: [Option<String>; Reason::NAMES.len()],
}

impl LeftOut {
    /// Counts a text of which this is a part; true for its first part.
    pub(crate) fn note(&mut self, file: &Path, record: &Record<'_>) -> bool {
        let Some(reason) = record.left_out.filter(|_| record.begins) else { return false };
        let number = reason.number();
        self.counts[number] += 1;
        self.first[number].get_or_insert_with(|| format!("{}:{}", file.display(), record.line));
        true
    }

    pub(crate) fn total(&self) -> usize {
        self.counts.iter().sum()
    }
}

impl Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reasons = self.counts.iter().zip(&self.first).zip(Reason::NAMES);
        let mut separator = "";
        for ((count, first), name) in reasons {
            let Some(first) = first else { continue };
            write!(f, "{separator}{} {name} (first at {first})", grouped(*count))?;
            separator = ", ";
        }
        Ok(())
    }
}

/// Events whose time cannot be read, with the first of them.
#[derive(Debug, Default)]
pub(crate) struct UnreadableTimes {
    count: usize,
    first: String,
}

impl UnreadableTimes {
    /// Counts an event, if its time cannot be read.
    pub(crate) fn note(&mut self, file: &Path, line: u64, identity: &Identity) {
        if identity.event_time.is_some() {
            return;
        }
        self.count += 1;
        if self.count == 1 {
            let text = identity.unreadable_time.as_deref();
            let text = text.map(|text| format!("{:?}", text.chars().take(MAX_EXAMPLE).collect::<String>()));
            let text = text.unwrap_or_else(|| "none".to_owned());
            self.first = format!("{}:{line}: {text}", file.display());
        }
    }

    pub(crate) fn total(&self) -> usize {
        self.count
    }
}

impl Display for UnreadableTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let events = counted(self.count, "event");
        write!(f, "{events} without an event time that can be read (first at {})", self.first)
    }
}

/// How many characters of an event time that cannot be read are shown.
const MAX_EXAMPLE: usize = 60;

/// How many lines of a file are warned of one by one.
const MAX_LINES: u64 = 20;

/// Warnings of one kind about the lines of a file: the first ones, and in the end how many more there were.
#[derive(Debug)]
pub(crate) struct LineWarnings {
    file: PathBuf,
    count: u64,
}

impl LineWarnings {
    pub(crate) fn new(file: &Path) -> LineWarnings {
        LineWarnings { file: file.to_path_buf(), count: 0 }
    }

    /// Warns of a line.
    pub(crate) fn tell(&mut self, line: u64, what: impl Display) {
        self.count += 1;
        if self.count <= MAX_LINES {
            tracing::warn!("{}:{line}: {what}", self.file.display());
        }
    }
}

impl Drop for LineWarnings {
    fn drop(&mut self) {
        if let Some(more @ 1..) = self.count.checked_sub(MAX_LINES) {
            let lines = if more == 1 { "line" } else { "lines" };
            tracing::warn!("{}: the same of {more} more {lines}", self.file.display());
        }
    }
}
