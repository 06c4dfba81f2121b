//! Logs as they come: from bytes to the JSON objects in them, for every command that reads any.
//!
//! In: files, pipes and request bodies. Out: records, and what is left out, with the reason and the place.
//! One framing ([`framing`]) serves both readers: [`records`] for files and pipes, of which little is held in
//! memory, and [`body`] for bodies, which are in memory whole. The same bytes give the same records in both.
//! Bounds: a record's length. Not here: what a record means.

pub mod body;
pub mod format;
pub mod framing;
pub mod json_text;
pub mod packed;
pub mod records;

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use json_text::Fault;

/// The name that stands for standard input.
pub const STDIN: &str = "-";

/// How long a record may be, in bytes, where nothing else is said.
pub const MAX_RECORD: usize = 4 << 20;

/// Why a text is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It is not JSON.
    NotJson(Fault),
    /// It is JSON, but not an object.
    NotAnObject,
    /// It begins a JSON text or an array whose end is missing.
    CutOff,
    /// It is longer than a record may be.
    TooLong,
}

impl Reason {
    /// The reasons in the order in which they are listed, each in words.
    pub const NAMES: [&'static str; 4] =
        ["not JSON", "JSON, but not an object", "JSON that ends too early", "longer than --max-record"];

    /// Which of [`Reason::NAMES`] it is.
    pub fn number(self) -> usize {
        match self {
            Reason::NotJson(_) => 0,
            Reason::NotAnObject => 1,
            Reason::CutOff => 2,
            Reason::TooLong => 3,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NotJson(fault) => write!(f, "not JSON ({fault})"),
            other => f.write_str(Reason::NAMES[other.number()]),
        }
    }
}

/// Opens a file, or standard input for [`STDIN`]; [`records::Records`] reads it.
///
/// # Errors
/// The file cannot be opened, or is a directory.
pub fn open(path: &Path) -> io::Result<Box<dyn Read>> {
    if path.as_os_str() == STDIN {
        return Ok(Box::new(io::stdin()));
    }
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok(Box::new(file))
}

#[cfg(test)]
mod tests;
