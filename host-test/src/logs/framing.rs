//! Where one record ends and the next begins.
//!
//! In: bytes in a window that slides over a source, or that holds all of a body. Out: [`Piece`]s: JSON
//! objects, and what is left out with the reason. Records may stand on lines, in arrays, in CloudTrail's
//! documents (an object whose only key is `Records` or `records`), or one behind the other with or without
//! separators (white space, comma, semicolon, pipe, NUL, RS); all of these may be mixed. Nothing is lost:
//! every byte is in a piece, or is a separator, a byte order mark, or a part of the frame of an array or a
//! document. Bounds: a text of more than `max_record` bytes is left out, a part at a time; the window never
//! needs to hold much more than that; each byte is read a few times at most. What comes out does not depend
//! on how the bytes are cut into windows. Not here: where the bytes come from, and what a record means.
//!
//! A text that turns out to be no JSON costs its own lines only: those up to the one where it cannot continue
//! are read again, each by itself. A document or an array whose end is missing, is damaged, or comes after
//! more than `max_record` bytes is opened, and its elements are read one by one.

use std::collections::VecDeque;
use std::ops::Range;

use crate::logs::Reason;
use crate::logs::json_text::{self, Fault, Scan, Scanner};

/// How many bytes on a line are looked at, beside texts, to decide how to read on.
const LEAD: usize = 256;

/// Longer parts of a line that is left out are given out before its end is seen.
const PART: usize = 64 * 1024;

/// How many arrays and documents are open at once; the oldest is forgotten first.
const MOST_FRAMES: usize = 8;

/// How often the bytes so far may be read again because arrays and documents are opened.
const READ_AGAIN: u64 = 4;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Whether a line holds no record but the object that it begins with, whose first key is not that of a document. It
/// may say no of a line that holds no other.
///
/// A brace behind a colon, or behind a bracket behind a colon, begins no text and no element of an array that is opened:
/// no text ends with a colon, which is no separator either, so that what follows it on its line is left out.
pub fn holds_one_object(line: &[u8]) -> bool {
    let Some(rest) = line.get(1..) else { return true };
    memchr::memchr_iter(b'{', rest).all(|at| match &line[..=at] {
        [.., b':'] | [.., b':', b'['] => true,
        before => {
            let before = before.trim_ascii_end();
            before.strip_suffix(b"[").map_or(before, <[u8]>::trim_ascii_end).ends_with(b":")
        }
    })
}

/// A part of the source. Its places are counted in the window that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The text: the record itself, or what is left out.
    pub text: Range<usize>,
    /// The text with everything that stands beside it on its line, where nothing but that does.
    pub line_text: Range<usize>,
    /// The line on which the text begins, from 1.
    pub line: u64,
    /// Why the text is left out; `None` for a record.
    pub left_out: Option<Reason>,
    /// Whether the text begins with this piece, and ends with it. A record always does.
    pub begins: bool,
    /// See [`Piece::begins`].
    pub ends: bool,
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A piece.
    Piece(Piece),
    /// Nothing before there is more in the window.
    More,
    /// Nothing; the source is at its end.
    End,
}

/// Finds pieces.
#[derive(Debug)]
pub struct Framer {
    max_record: usize,
    scanner: Scanner,
    state: State,
    frames: Vec<Frame>,
    /// How many bytes at the window's beginning were read already: separators, and brackets that open frames.
    lead: usize,
    /// How many frames those opened.
    opened: usize,
    /// Of the window's first byte: its line, its place on that line, and whether a record may stand there
    /// alone.
    line: u64,
    column: usize,
    is_fresh: bool,
    /// Where the window's first byte stands in the source.
    position: u64,
    /// Up to here each line is read by itself.
    singly_until: u64,
    /// How far texts were read, and how many bytes were read again.
    seen: u64,
    read_again: u64,
    has_array: bool,
    /// Where the next objects of a document stand in the source, which was read whole already.
    known: VecDeque<Range<u64>>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Between texts.
    Between,
    /// In a text that begins behind the lead and of which so much is read.
    Text { read: usize },
    /// Behind a text of that length that is whole.
    Whole { length: usize },
    /// In a line that is left out.
    Line { reason: Reason, begun: bool, searched: usize },
    /// In a text that is too long. `line_held` if the window begins where a line of it does.
    TooLong { begun: bool, read: usize, line_held: bool },
}

/// An array that is open, or a document.
#[derive(Debug, Clone, Copy)]
struct Frame {
    is_document: bool,
    /// Whether its array is open still.
    is_open: bool,
    /// Whether what is left out of it says already that it is not whole.
    is_damaged: bool,
}

impl Framer {
    /// Reads records of at most so many bytes.
    pub fn new(max_record: usize) -> Framer {
        Framer {
            max_record,
            scanner: Scanner::new(max_record),
            state: State::Between,
            frames: Vec::new(),
            lead: 0,
            opened: 0,
            line: 1,
            column: 0,
            is_fresh: true,
            position: 0,
            singly_until: 0,
            seen: 0,
            read_again: 0,
            has_array: false,
            known: VecDeque::new(),
        }
    }

    /// Whether records stood in an array.
    pub fn has_array(&self) -> bool {
        self.has_array
    }

    /// What comes next in the window from `at` on, which is moved behind what is done. `is_last` if nothing
    /// follows the window.
    ///
    /// The next window must begin with what is left of this one from `at` on.
    pub fn next(&mut self, window: &[u8], at: &mut usize, is_last: bool) -> Step {
        loop {
            let held = window.get(*at..).unwrap_or_default();
            let step = match self.state {
                State::Between => self.between(held, at, is_last),
                State::Text { read } => self.text(held, at, read, is_last),
                State::Whole { length } => self.whole(held, at, length, is_last),
                State::Line { reason, begun, searched } => self.line(held, at, is_last, reason, begun, searched),
                State::TooLong { begun, read, line_held } => self.too_long(held, at, is_last, begun, read, line_held),
            };
            if let Some(step) = step {
                return step;
            }
        }
    }

    /// Passes separators and the brackets of frames, up to where a text begins.
    fn between(&mut self, held: &[u8], at: &mut usize, is_last: bool) -> Option<Step> {
        let mut next = self.lead;
        loop {
            if next > LEAD {
                self.consume(at, held, next);
                return None;
            }
            match held.get(next) {
                Some(b'\n') => {
                    self.consume(at, held, next + 1);
                    return None;
                }
                Some(&byte) if is_separator(byte) => next += 1,
                Some(b']') if self.frames.last().is_some_and(|frame| frame.is_open) => {
                    let frame = self.frames.last_mut()?;
                    match frame.is_document {
                        true => frame.is_open = false,
                        false => self.pop(),
                    }
                    next += 1;
                }
                Some(b'}') if self.frames.last().is_some_and(|frame| !frame.is_open) => {
                    self.pop();
                    next += 1;
                }
                Some(b'\xef') if held[next..].starts_with(BYTE_ORDER_MARK) => {
                    if next == 0 {
                        let is_fresh = self.is_fresh;
                        self.consume(at, held, BYTE_ORDER_MARK.len());
                        self.is_fresh = is_fresh;
                        return None;
                    }
                    next += BYTE_ORDER_MARK.len();
                }
                Some(b'\xef') if !is_last && BYTE_ORDER_MARK.starts_with(&held[next..]) => {
                    self.lead = next;
                    return Some(Step::More);
                }
                Some(_) => break,
                None if is_last => {
                    self.lead = next;
                    return Some(self.end(at, held));
                }
                None => {
                    self.lead = next;
                    return Some(Step::More);
                }
            }
        }
        self.lead = next;
        while self.frames.last().is_some_and(|frame| !frame.is_open) {
            // A document whose brace is missing.
            self.pop();
        }
        if held[next] == b'[' {
            let behind = held[next..].iter().take(LEAD);
            let length = behind.take_while(|&&byte| byte == b'[' || json_text::is_whitespace(byte)).count();
            let brackets = &held[next..next + length];
            match held.get(next + length) {
                None if !is_last && length < LEAD => return Some(Step::More),
                Some(b'{') if length < LEAD => {
                    for &byte in brackets {
                        match byte {
                            b'\n' => break,
                            b'[' => self.open(false),
                            _ => {}
                        }
                        self.lead += 1;
                    }
                    return None;
                }
                Some(b']') if length < LEAD && brackets.iter().filter(|byte| **byte == b'[').count() == 1 => {
                    self.open(false);
                    self.lead += 1;
                    return None;
                }
                _ => {}
            }
        }
        let begin = self.position + next as u64;
        while self.known.front().is_some_and(|known| known.start < begin) {
            self.known.pop_front();
        }
        if let Some(known) = self.known.pop_front_if(|known| known.start == begin) {
            let length = usize::try_from(known.end - known.start).unwrap_or(usize::MAX);
            let text = &held[next..][..length];
            self.scanner.stand_behind_object(memchr::memchr_iter(b'\n', text).count() as u64);
            self.state = State::Whole { length };
            return None;
        }
        self.scanner.restart();
        self.state = State::Text { read: 0 };
        None
    }

    /// Reads a text on.
    fn text(&mut self, held: &[u8], at: &mut usize, read: usize, is_last: bool) -> Option<Step> {
        let text = &held[self.lead..];
        let is_single = self.position + (self.lead as u64) < self.singly_until;
        let (visible, is_whole) = match is_single {
            true => (&text[..line_end(text, 0)], true),
            false => (&text[..text.len().min(self.max_record)], is_last && text.len() <= self.max_record),
        };
        let (read, fault) = match self.scanner.resume(visible, read, is_whole) {
            Scan::Whole(length) => {
                self.state = State::Whole { length };
                return None;
            }
            Scan::Incomplete(read) if !is_whole && text.len() <= self.max_record => {
                self.state = State::Text { read };
                return Some(Step::More);
            }
            Scan::Incomplete(read) => (read, None),
            Scan::Fault(fault) => (fault.column - 1, Some(fault)),
        };
        if self.opens(text, at, held, read, fault.is_some()) {
            return None;
        }
        match fault {
            None if !is_whole => {
                let lead = self.lead;
                self.consume(at, held, lead);
                self.state = State::TooLong { begun: false, read, line_held: false };
            }
            _ if self.scanner.lines() > 0 && !is_single => {
                let begin_of_line = match fault {
                    Some(_) => memchr::memrchr(b'\n', &text[..read]).map_or(0, |end| end + 1),
                    None => text.len(),
                };
                self.singly_until = self.position + (self.lead + begin_of_line) as u64;
                self.scanner.restart();
                self.state = State::Text { read: 0 };
            }
            Some(fault) => self.leave_line(Reason::NotJson(self.on_line(fault))),
            None => self.leave_line(Reason::CutOff),
        }
        None
    }

    /// Opens the array of a text that is not whole, if there is one whose elements can be read by themselves.
    fn opens(&mut self, text: &[u8], at: &mut usize, held: &[u8], read: usize, is_damaged: bool) -> bool {
        let top = self.scanner.top();
        let array = match (top.is_object, top.keys, top.records) {
            (true, 1, Some(array)) if array < read => array,
            // A line of a log may well begin as an array does.
            (false, ..) if top.holds_object && text.first() == Some(&b'[') && !is_damaged => 0,
            _ => return false,
        };
        if !self.may_read_again(read) {
            return false;
        }
        self.open(top.is_object);
        self.pass(at, held, array + 1);
        true
    }

    /// Gives a whole text out, with its line if it stands there alone; or opens it.
    fn whole(&mut self, held: &[u8], at: &mut usize, length: usize, is_last: bool) -> Option<Step> {
        let top = self.scanner.top();
        let start = self.lead;
        let end = start + length;
        let text = &held[start..end];
        match (top.is_object, top.keys, top.records) {
            (true, 1, Some(array)) if array < length && self.may_read_again(length) => {
                let begin = self.position + start as u64;
                let elements = self.scanner.elements().iter();
                self.known = elements.map(|place| begin + place.start as u64..begin + place.end as u64).collect();
                self.open(true);
                self.pass(at, held, array + 1);
                return None;
            }
            (false, ..) if top.holds_object && text.starts_with(b"[") && self.may_read_again(length) => {
                self.open(false);
                self.pass(at, held, 1);
                return None;
            }
            _ => {}
        }
        let is_alone = self.is_fresh && held[..start].iter().all(|&byte| json_text::is_whitespace(byte));
        let (mut line_text, mut left_out) = (start..end, None);
        if is_alone || !top.is_object {
            let behind = held[end..].iter().take(LEAD);
            let behind = behind.take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r')).count();
            let next = held.get(end + behind);
            if next.is_none() && !is_last && behind < LEAD {
                return Some(Step::More);
            }
            let ends_line = matches!(next, None | Some(b'\n')) && behind < LEAD;
            if ends_line && is_alone {
                line_text = 0..end + behind;
            }
            if !top.is_object {
                let is_by_itself = ends_line
                    || match next {
                        Some(b',' | b']') if !self.frames.is_empty() => true,
                        Some(&next) => text.starts_with(b"[") && (is_separator(next) || matches!(next, b'{' | b'[')),
                        None => false,
                    };
                if !is_by_itself {
                    // A line of a log may well begin with a number.
                    let fault = Fault { column: length + behind + 1, expected: "nothing more on this line" };
                    self.leave_line(Reason::NotJson(self.on_line(fault)));
                    return None;
                }
                left_out = Some(Reason::NotAnObject);
            }
        }
        let piece = Piece {
            text: *at + start..*at + end,
            line_text: *at + line_text.start..*at + line_text.end,
            line: self.line,
            left_out,
            begins: true,
            ends: true,
        };
        self.state = State::Between;
        let done = line_text.end.max(end);
        self.consume_with_lines(at, held, done, self.scanner.lines());
        Some(Step::Piece(piece))
    }

    /// Leaves out what is left of the line.
    fn line(
        &mut self,
        held: &[u8],
        at: &mut usize,
        is_last: bool,
        reason: Reason,
        begun: bool,
        searched: usize,
    ) -> Option<Step> {
        let end = memchr::memchr(b'\n', &held[searched..]).map(|end| searched + end);
        if end.is_none() && !is_last && held.len() < PART {
            self.state = State::Line { reason, begun, searched: held.len() };
            return Some(Step::More);
        }
        let ends = end.is_some() || is_last;
        let line_text = 0..end.unwrap_or(held.len());
        let start = if begun { 0 } else { self.lead };
        let text = if begun || !ends { start..line_text.end } else { trimmed(held, start..line_text.end) };
        let piece = Piece {
            text: *at + text.start..*at + text.end,
            line_text: *at..*at + line_text.end,
            line: self.line,
            left_out: Some(reason),
            begins: !begun,
            ends,
        };
        self.state = if ends { State::Between } else { State::Line { reason, begun: true, searched: 0 } };
        self.consume(at, held, end.map_or(held.len(), |end| end + 1));
        Some(Step::Piece(piece))
    }

    /// Leaves out a part of a text that is too long.
    fn too_long(
        &mut self,
        held: &[u8],
        at: &mut usize,
        is_last: bool,
        begun: bool,
        read: usize,
        line_held: bool,
    ) -> Option<Step> {
        let last_line = |end: usize| memchr::memrchr(b'\n', &held[..end]).map(|end| end + 1);
        let (length, ends, next) = match self.scanner.resume(held, read, is_last) {
            Scan::Whole(end) => (end, true, State::Between),
            Scan::Incomplete(_) if is_last => (held.len(), true, State::Between),
            Scan::Incomplete(read) => match last_line(read) {
                Some(begin) => (begin, false, State::TooLong { begun: true, read: read - begin, line_held: true }),
                None if read > self.max_record => {
                    (read, false, State::TooLong { begun: true, read: 0, line_held: false })
                }
                None => {
                    self.state = State::TooLong { begun, read, line_held };
                    return Some(Step::More);
                }
            },
            Scan::Fault(fault) => {
                let fault = fault.column - 1;
                // What follows is read from the beginning of the line on where the text cannot continue, if
                // that is near.
                match last_line(fault).or(line_held.then_some(0)) {
                    Some(begin) if fault - begin <= self.max_record => (begin, true, State::Between),
                    _ => {
                        self.state = State::Line { reason: Reason::TooLong, begun, searched: fault };
                        return None;
                    }
                }
            }
        };
        let piece = Piece {
            text: *at..*at + length,
            line_text: *at..*at + length,
            line: self.line,
            left_out: Some(Reason::TooLong),
            begins: !begun,
            ends,
        };
        self.state = next;
        self.consume(at, held, length);
        Some(Step::Piece(piece))
    }

    /// What is left at the end of the source.
    fn end(&mut self, at: &mut usize, held: &[u8]) -> Step {
        let is_cut = self.frames.iter().any(|frame| !frame.is_damaged);
        self.frames.clear();
        let lead = self.lead;
        self.consume(at, held, lead);
        if !is_cut {
            return Step::End;
        }
        Step::Piece(Piece {
            text: *at..*at,
            line_text: *at..*at,
            line: self.line,
            left_out: Some(Reason::CutOff),
            begins: true,
            ends: true,
        })
    }

    /// From here on, the line is left out. The brackets at its beginning are a part of it, and open nothing.
    fn leave_line(&mut self, reason: Reason) {
        self.frames.truncate(self.frames.len().saturating_sub(self.opened));
        self.opened = 0;
        self.frames.iter_mut().for_each(|frame| frame.is_damaged = true);
        self.state = State::Line { reason, begun: false, searched: self.lead };
    }

    /// The fault with its place on the line, not in the text.
    fn on_line(&self, fault: Fault) -> Fault {
        Fault { column: self.column + self.lead + fault.column, ..fault }
    }

    fn open(&mut self, is_document: bool) {
        if self.frames.len() == MOST_FRAMES {
            self.frames.remove(0);
        }
        self.frames.push(Frame { is_document, is_open: true, is_damaged: false });
        self.opened += 1;
        self.has_array |= !is_document;
    }

    fn pop(&mut self) {
        self.frames.pop();
        self.opened = self.opened.saturating_sub(1);
    }

    /// Whether so many bytes may be read again; an attacker could have everything read again for each
    /// bracket.
    fn may_read_again(&mut self, bytes: usize) -> bool {
        let bytes = bytes as u64;
        self.seen = self.seen.max(self.position + self.lead as u64 + bytes);
        let may = self.read_again + bytes <= READ_AGAIN * self.seen;
        self.read_again += if may { bytes } else { 0 };
        may
    }

    /// Goes to between the texts, behind so many bytes of the text, which open a frame.
    fn pass(&mut self, at: &mut usize, held: &[u8], bytes: usize) {
        let end = self.lead + bytes;
        self.state = State::Between;
        match memchr::memchr(b'\n', &held[..end]) {
            None => self.lead = end,
            Some(_) => self.consume(at, held, end),
        }
    }

    fn consume(&mut self, at: &mut usize, held: &[u8], bytes: usize) {
        let lines = memchr::memchr_iter(b'\n', &held[..bytes]).count();
        self.consume_with_lines(at, held, bytes, lines as u64);
    }

    fn consume_with_lines(&mut self, at: &mut usize, held: &[u8], bytes: usize, lines: u64) {
        *at += bytes;
        self.position += bytes as u64;
        self.line += lines;
        self.column += bytes;
        self.is_fresh &= bytes == 0;
        if lines > 0 {
            let last = memchr::memrchr(b'\n', &held[..bytes]).map_or(0, |end| end + 1);
            self.column = bytes - last;
            self.is_fresh = last == bytes;
        }
        (self.lead, self.opened) = (0, 0);
    }
}

/// What may stand between texts.
fn is_separator(byte: u8) -> bool {
    json_text::is_whitespace(byte) || matches!(byte, b',' | b';' | b'|' | b'\0' | 0x1e)
}

/// Where the line of `at` ends, its line end included.
pub(crate) fn line_end(text: &[u8], at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    memchr::memchr(b'\n', rest).map_or(text.len(), |end| at + end + 1)
}

/// The place without the white space at its beginning and end.
pub(crate) fn trimmed(text: &[u8], place: Range<usize>) -> Range<usize> {
    let is_space = |byte: &&u8| json_text::is_whitespace(**byte);
    let start = place.start + text[place.clone()].iter().take_while(is_space).count();
    let behind = text[start..place.end].iter().rev().take_while(is_space).count();
    start..place.end - behind
}
