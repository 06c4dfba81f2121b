//! What is said on standard error: `firstseen: warning: FILE:LINE: ...` and `firstseen: ERROR`, one line each.
//!
//! Bounds: [`MAX_LINES`] warnings of the lines of a file. Where standard error cannot be written, nothing is said and all
//! goes on.

use std::fmt::{self, Display};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

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
