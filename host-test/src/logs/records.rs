//! Records out of files and pipes.
//!
//! In: bytes as they come, packed or not. Out: one [`Record`] after another, and what is left out with the
//! reason. Where a source breaks off, the records that came before are given out, and then the error. Bounds:
//! the buffer holds little more than two records of the greatest length. Not here: where one record ends and
//! the next begins ([`crate::logs::framing`]).

use std::fmt;
use std::io::{self, Read};

use crate::logs::Reason;
use crate::logs::format::Format;
use crate::logs::framing::{Framer, Piece, Step};
use crate::logs::packed::Unpacked;

/// How many bytes there is room for when a source is read.
const READ_SIZE: usize = 128 * 1024;

/// One record, or a text that is left out, or a part of such a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// The text, as it came. It may be on several lines.
    pub text: &'a [u8],
    /// What stands before it on its line and belongs to no other text.
    pub before: &'a [u8],
    /// What stands behind it, up to the line's end.
    pub behind: &'a [u8],
    /// The line of the file on which the text begins, from 1.
    pub line: u64,
    /// Why it is left out; `None` for a record.
    pub left_out: Option<Reason>,
    /// Whether the text that is left out begins here, and ends. One that is very long comes in several parts.
    pub begins: bool,
    /// See [`Record::begins`].
    pub ends: bool,
}

/// Why nothing of a source is read: it is not JSON, but this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreadable(pub Format);

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it is {}, not JSON in UTF-8: {}", self.0, self.0.advice_for_file())
    }
}

impl std::error::Error for Unreadable {}

/// The records of one source, in its order.
pub struct Records<R: Read> {
    source: Unpacked<R>,
    framer: Framer,
    buffer: Vec<u8>,
    /// What of the buffer was read and is not done.
    at: usize,
    filled: usize,
    is_at_end: bool,
    /// Why the source broke off; told after the records before that point.
    failed: Option<io::Error>,
}

impl<R: Read> fmt::Debug for Records<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records").finish_non_exhaustive()
    }
}

impl<R: Read> Records<R> {
    /// Reads the records of `source`, of at most `max_record` bytes each.
    ///
    /// # Errors
    /// The first bytes cannot be read, or are of no text: see [`Unreadable`].
    pub fn new(source: R, max_record: usize) -> io::Result<Self> {
        let source = Unpacked::new(source)?;
        match source.format() {
            Some(format) => Err(io::Error::new(io::ErrorKind::InvalidData, Unreadable(format))),
            None => Ok(Records::of(source, max_record)),
        }
    }

    /// Reads the records of a source that is known not to be [`Unreadable`].
    pub fn of(source: Unpacked<R>, max_record: usize) -> Self {
        Records {
            source,
            framer: Framer::new(max_record),
            buffer: vec![0; 2 * READ_SIZE],
            at: 0,
            filled: 0,
            is_at_end: false,
            failed: None,
        }
    }

    /// The next record; `None` at the end.
    ///
    /// # Errors
    /// The source cannot be read or unpacked; records before that point have been given out.
    #[expect(clippy::should_implement_trait, reason = "the record is borrowed from the reader")]
    pub fn next(&mut self) -> io::Result<Option<Record<'_>>> {
        let piece = loop {
            match self.framer.next(&self.buffer[..self.filled], &mut self.at, self.is_at_end) {
                Step::Piece(piece) => break piece,
                Step::More => self.fill(),
                Step::End => return self.failed.take().map_or(Ok(None), Err),
            }
        };
        let Piece { text, line_text, .. } = piece;
        Ok(Some(Record {
            before: &self.buffer[line_text.start..text.start],
            behind: &self.buffer[text.end..line_text.end],
            text: &self.buffer[text],
            line: piece.line,
            left_out: piece.left_out,
            begins: piece.begins,
            ends: piece.ends,
        }))
    }

    /// Reads more into the buffer.
    fn fill(&mut self) {
        if self.buffer.len() - self.filled < READ_SIZE {
            self.buffer.copy_within(self.at..self.filled, 0);
            self.filled -= self.at;
            self.at = 0;
            if self.buffer.len() - self.filled < READ_SIZE {
                self.buffer.resize(2 * self.buffer.len(), 0);
            }
        }
        loop {
            match self.source.read(&mut self.buffer[self.filled..]) {
                Ok(0) => self.is_at_end = true,
                Ok(read) => self.filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => (self.failed, self.is_at_end) = (Some(error), true),
            }
            return;
        }
    }
}
