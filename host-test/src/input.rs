//! Records out of files and standard input.
//!
//! In: bytes of NDJSON, of CloudTrail files (`{"Records":[...]}`), or of JSON that was printed over several lines, each also
//! gzipped. Out: one [`Record`] after another, as one line without its line end, and the lines that are no JSON object
//! with the reason. Blank lines and a byte order mark are left out; nothing else is lost. Where a source breaks off, the
//! records that came before are given out, also those of a CloudTrail file that is cut, and then the error.
//! Bounds: one line, or one JSON text over several lines, is held in memory. Not here: what a record means; an EventBridge
//! envelope is one record.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::ops::Range;
use std::path::Path;

use flate2::read::MultiGzDecoder;

use crate::json_text::{self, Fault, Scanner};

/// The name that stands for standard input.
pub const STDIN: &str = "-";

/// How many bytes are read at once.
const READ_SIZE: usize = 128 * 1024;

/// The first bytes of every gzip member.
const GZIP: [u8; 2] = [0x1f, 0x8b];

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// One record, or one line that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// One line, without its line end.
    pub text: &'a [u8],
    /// The line of the file that it stands on or, out of a text over several lines, that the text begins on; from 1.
    pub line: u64,
    /// Why the text is no JSON object; `None` for a record.
    pub fault: Option<NotARecord>,
}

/// Why a line is no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotARecord {
    /// It is no JSON.
    NotJson(Fault),
    /// It is JSON, but no object.
    NotAnObject,
    /// It begins a JSON text that is not whole when the line ends, and the next lines do not continue it.
    CutOff,
}

impl std::fmt::Display for NotARecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NotARecord::NotJson(fault) => write!(f, "not JSON ({fault})"),
            NotARecord::NotAnObject => f.write_str("JSON, but not an object"),
            NotARecord::CutOff => f.write_str("JSON that ends too early"),
        }
    }
}

/// Opens a file, or standard input for [`STDIN`]; [`Records::new`] reads it.
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

/// The records of one source, in its order.
pub struct Records<R: Read> {
    lines: BufReader<Decoded<R>>,
    scanner: Scanner,
    /// The line that was read last, with its line end.
    line: Vec<u8>,
    /// Its number, from 1.
    number: u64,
    /// Whether the line was read ahead and is still to be judged.
    held: bool,
    /// Lines that began a JSON text and did not make one: each is judged by itself, from `unjudged` on.
    text: Vec<u8>,
    unjudged: usize,
    /// The number of the line at `unjudged`.
    text_number: u64,
    /// A `Records` document whose records are given out, from `element` on; empty if there is none.
    document: Vec<u8>,
    element: usize,
    document_number: u64,
    /// Up to where the document is JSON, if the source broke off inside it.
    document_cut: Option<usize>,
    compacted: Vec<u8>,
    /// Why the source broke off; told after the records before that point.
    failed: Option<io::Error>,
    has_failed: bool,
}

impl<R: Read> std::fmt::Debug for Records<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records").field("line", &self.number).finish_non_exhaustive()
    }
}

/// Which of the buffers holds a record.
enum Place {
    Line,
    Text(Range<usize>),
    Document(Range<usize>),
    Compacted,
}

/// What a line is by itself.
enum Judged {
    Blank,
    Record,
    /// An array of records begins at `array`; where the source broke off inside it, the text is JSON up to `cut`.
    Document {
        array: usize,
        cut: Option<usize>,
    },
    /// The beginning of an object.
    Beginning,
    NotARecord(NotARecord),
}

impl<R: Read> Records<R> {
    /// Reads the records of `source`, which is unpacked if it is gzipped.
    ///
    /// # Errors
    /// The first bytes cannot be read.
    pub fn new(mut source: R) -> io::Result<Self> {
        let mut head = [0; GZIP.len()];
        let mut filled = 0;
        while filled < head.len() {
            match source.read(&mut head[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let gzipped = head == GZIP;
        let source = Cursor::new(head[..filled].to_vec()).chain(source);
        let decoded = match gzipped {
            true => Decoded::Gzip(Box::new(MultiGzDecoder::new(source))),
            false => Decoded::Plain(source),
        };
        Ok(Records {
            lines: BufReader::with_capacity(READ_SIZE, decoded),
            scanner: Scanner::default(),
            line: Vec::new(),
            number: 0,
            held: false,
            text: Vec::new(),
            unjudged: 0,
            text_number: 0,
            document: Vec::new(),
            element: 0,
            document_number: 0,
            document_cut: None,
            compacted: Vec::new(),
            failed: None,
            has_failed: false,
        })
    }

    /// The next record; `None` at the end.
    ///
    /// # Errors
    /// The source cannot be read or unpacked; records before that point have been given out.
    #[expect(clippy::should_implement_trait, reason = "the record is borrowed from the reader")]
    pub fn next(&mut self) -> io::Result<Option<Record<'_>>> {
        let Some((place, line, fault)) = self.find()? else {
            return Ok(None);
        };
        let text = match place {
            Place::Line => &self.line,
            Place::Text(range) => &self.text[range],
            Place::Document(range) => &self.document[range],
            Place::Compacted => self.compacted.as_slice(),
        };
        // A carriage return stays: it is part of what came.
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        Ok(Some(Record { text, line, fault }))
    }

    /// Where the next record is, its line number, and whether it is one.
    fn find(&mut self) -> io::Result<Option<(Place, u64, Option<NotARecord>)>> {
        loop {
            let document = &self.document[..self.document_cut.unwrap_or(self.document.len())];
            if let Some(element) = json_text::next_element(document, &mut self.element) {
                let text = &self.document[element.range.clone()];
                let fault = (text.first() != Some(&b'{')).then_some(NotARecord::NotAnObject);
                if element.is_compact {
                    return Ok(Some((Place::Document(element.range), self.document_number, fault)));
                }
                self.compacted.clear();
                json_text::compact(text, &mut self.compacted);
                return Ok(Some((Place::Compacted, self.document_number, fault)));
            }
            let rest = match self.document_cut.take() {
                Some(_) => self.document[self.element..].trim_ascii_start(),
                None => &[],
            };
            let rest = rest.strip_prefix(b",").unwrap_or(rest).trim_ascii_start();
            self.compacted.clear();
            self.compacted.extend_from_slice(rest);
            self.document.clear();
            if !self.compacted.is_empty() {
                return Ok(Some((Place::Compacted, self.document_number, Some(NotARecord::CutOff))));
            }
            let (place, number) = if self.unjudged < self.text.len() {
                let range = self.unjudged..line_end(&self.text, self.unjudged);
                let number = self.text_number;
                self.unjudged = range.end;
                self.text_number += 1;
                (Place::Text(range), number)
            } else if std::mem::take(&mut self.held) || self.read_line() {
                (Place::Line, self.number)
            } else {
                return self.failed.take().map_or(Ok(None), Err);
            };
            let line = match &place {
                Place::Text(range) => &self.text[range.clone()],
                _ => &self.line,
            };
            let reads_on = matches!(place, Place::Line);
            match judge(&mut self.scanner, line, reads_on && self.has_failed) {
                Judged::Blank => {}
                Judged::Record => return Ok(Some((place, number, None))),
                Judged::Document { array, cut } => {
                    match place {
                        Place::Text(range) => self.document.extend_from_slice(&self.text[range]),
                        _ => std::mem::swap(&mut self.document, &mut self.line),
                    }
                    self.begin_document(array, number, cut);
                }
                Judged::Beginning if reads_on => {
                    if self.read_text() {
                        return Ok(Some((Place::Compacted, number, None)));
                    }
                }
                Judged::Beginning => return Ok(Some((place, number, Some(NotARecord::CutOff)))),
                Judged::NotARecord(reason) => return Ok(Some((place, number, Some(reason)))),
            }
        }
    }

    /// Reads on after a line that only begins an object. True: the text is one record, in `compacted`. False: it is a
    /// `Records` document, or its lines are to be judged one by one; what breaks the text off is held.
    fn read_text(&mut self) -> bool {
        let number = self.number;
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        text.append(&mut self.line);
        let mut fault = None;
        while self.read_line() {
            fault = self.scanner.line(&self.line).err();
            if fault.is_some() {
                self.held = true;
                break;
            }
            text.extend_from_slice(&self.line);
            if self.scanner.is_whole() {
                let top = self.scanner.top();
                if let (1, Some(array)) = (top.keys, top.records) {
                    self.document = text;
                    self.begin_document(array, number, None);
                    return false;
                }
                self.compacted.clear();
                json_text::compact(&text, &mut self.compacted);
                return true;
            }
        }
        let end = text.len() + fault.map_or(0, |fault| fault.column - 1);
        if let Some(array) = cut_document(&self.scanner, end).filter(|_| self.has_failed) {
            if std::mem::take(&mut self.held) {
                text.extend_from_slice(&self.line);
            }
            self.document = text;
            self.begin_document(array, number, Some(end));
            return false;
        }
        self.text = text;
        self.unjudged = 0;
        self.text_number = number;
        false
    }

    /// From here on, the records of `document` are given out.
    fn begin_document(&mut self, array: usize, number: u64, cut: Option<usize>) {
        self.element = array + 1;
        self.document_number = number;
        self.document_cut = cut;
    }

    /// Reads the next line into `line`; false at the end. Where the source breaks off, what came of the line is the last
    /// one.
    fn read_line(&mut self) -> bool {
        self.line.clear();
        if self.has_failed {
            return false;
        }
        if let Err(error) = self.lines.read_until(b'\n', &mut self.line) {
            self.failed = Some(error);
            self.has_failed = true;
        }
        if self.line.is_empty() {
            return false;
        }
        if self.number == 0 && self.line.starts_with(BYTE_ORDER_MARK) {
            self.line.drain(..BYTE_ORDER_MARK.len());
        }
        self.number += 1;
        true
    }
}

/// Judges a line by itself; `is_cut` if the source broke off in it.
fn judge(scanner: &mut Scanner, line: &[u8], is_cut: bool) -> Judged {
    if line.iter().all(|&byte| json_text::is_whitespace(byte)) {
        return Judged::Blank;
    }
    scanner.restart();
    let fault = scanner.line(line).err();
    let end = fault.map_or(line.len(), |fault| fault.column - 1);
    if is_cut && let Some(array) = cut_document(scanner, end) {
        return Judged::Document { array, cut: Some(end) };
    }
    if let Some(fault) = fault {
        return Judged::NotARecord(NotARecord::NotJson(fault));
    }
    let top = scanner.top();
    match (scanner.is_whole(), top.is_object) {
        (true, true) => match (top.keys, top.records) {
            (1, Some(array)) => Judged::Document { array, cut: None },
            _ => Judged::Record,
        },
        (false, true) => Judged::Beginning,
        (true, false) => Judged::NotARecord(NotARecord::NotAnObject),
        (false, false) => Judged::NotARecord(NotARecord::CutOff),
    }
}

/// Where the array of a `Records` document begins that is no whole text, but JSON up to `end`.
fn cut_document(scanner: &Scanner, end: usize) -> Option<usize> {
    let top = scanner.top();
    top.records.filter(|&array| !scanner.is_whole() && top.keys == 1 && array < end)
}

/// Where the line that begins at `start` ends, its line end included.
fn line_end(text: &[u8], start: usize) -> usize {
    memchr::memchr(b'\n', &text[start..]).map_or(text.len(), |at| start + at + 1)
}

/// A source from its first byte on, whose head has been looked at.
type Source<R> = io::Chain<Cursor<Vec<u8>>, R>;

/// A source, unpacked if need be.
enum Decoded<R: Read> {
    Plain(Source<R>),
    Gzip(Box<MultiGzDecoder<Source<R>>>),
}

impl<R: Read> Read for Decoded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Decoded::Plain(source) => source.read(buffer),
            Decoded::Gzip(source) => source.read(buffer),
        }
    }
}

#[cfg(test)]
mod tests;
