//! Standard output, whose errors say that they are its.
//!
//! In and out: bytes. Bounds: a buffer of [`BUFFER_SIZE`]. Not here: what is written, and the reader that goes away, which
//! is for the command to judge by [`failure`].

use std::io::{self, BufWriter, ErrorKind, Stdout, Write};
use std::{error, fmt};

/// How many bytes are written at once, where nothing waits for them earlier.
const BUFFER_SIZE: usize = 128 * 1024;

/// Standard output behind a buffer.
#[derive(Debug)]
pub(crate) struct StandardOutput(BufWriter<Stdout>);

impl StandardOutput {
    pub(crate) fn new() -> StandardOutput {
        StandardOutput(BufWriter::with_capacity(BUFFER_SIZE, io::stdout()))
    }
}

impl Write for StandardOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(CannotWrite::wrap)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(CannotWrite::wrap)
    }
}

/// The kind of the error of standard output that is behind `error`, if one is.
pub(crate) fn failure(error: &anyhow::Error) -> Option<ErrorKind> {
    let error = error.root_cause().downcast_ref::<io::Error>()?;
    error.get_ref()?.is::<CannotWrite>().then(|| error.kind())
}

/// What an error of standard output is wrapped in; its kind stays.
#[derive(Debug)]
struct CannotWrite(io::Error);

impl CannotWrite {
    fn wrap(error: io::Error) -> io::Error {
        match error.kind() {
            // `write_all` tries again.
            ErrorKind::Interrupted => error,
            kind => io::Error::new(kind, CannotWrite(error)),
        }
    }
}

impl fmt::Display for CannotWrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot write to standard output: {}", self.0)
    }
}

impl error::Error for CannotWrite {}
