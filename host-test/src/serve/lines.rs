//! What of a body can be worked on while the rest still comes.
//!
//! In: a body's bytes as they come. Out: pieces of it, whole lines, that mean by themselves what they mean in the body; and what is
//! left at the end. Together they are the body. Bounds: each byte is looked at once; the memory is the body's own. Only a body
//! whose lines begin and end as objects do is cut; of any other, all is left to the end from the first line on that does not. Not
//! here: what is in the lines ([`batch`](super::batch)).
//!
//! Why that is exact: a text that a line leaves open cannot go on in a line that begins with `{`, for no JSON has `{` behind `}`.
//! So where a line begins with `{` and the one before ended with `}`, whatever came before has come to its end.

use axum::body::Bytes;
use bytes::BytesMut;

use crate::serve::batch::{skip_whitespace, trimmed};

/// What has come of a body and was not given back yet.
#[derive(Debug, Default)]
pub struct Lines {
    held: BytesMut,
    seen: Seen,
    /// How many bytes are worth being given back.
    least: usize,
    /// How many bytes will have come at the end.
    length: usize,
}

/// What is known of the beginning of a text.
#[derive(Debug, Default)]
struct Seen {
    /// Where the first line begins that was not seen to its end.
    line: usize,
    /// Up to where its end was looked for.
    searched: usize,
    /// A line was no object's.
    are_others: bool,
}

impl Lines {
    /// Nothing yet of `length` bytes, if that is known; pieces of about `least` bytes or more are given back.
    pub fn new(least: usize, length: usize) -> Lines {
        Lines { least, length, ..Lines::default() }
    }

    /// Adds what has come. What is given back is lines that nothing that comes later can belong to; a long part is not copied.
    pub fn add(&mut self, mut data: Bytes) -> [Option<Bytes>; 2] {
        let is_long = data.len() >= self.least && !self.seen.are_others;
        let Some(begin) = is_long.then(|| self.next_object(&data)).flatten() else {
            self.hold(&data);
            let is_worth_it = self.held.len() >= self.least && !self.seen.are_others;
            return [is_worth_it.then(|| self.take()).flatten(), None];
        };
        self.hold(&data.split_to(begin));
        self.seen.look(&self.held);
        if self.seen.are_others {
            self.hold(&data);
            return [None, None];
        }
        let first = self.held.split().freeze();
        self.length = self.length.saturating_sub(first.len());
        self.seen = Seen::default();
        let cut = self.seen.look(&data);
        let second = data.split_to(cut);
        self.forget(cut);
        self.hold(&data);
        [first, second].map(|piece| Some(piece).filter(|piece| !piece.is_empty()))
    }

    /// What is left of a body that has come whole.
    pub fn rest(self) -> Bytes {
        self.held.freeze()
    }

    /// Where the first line begins in what has come, if it begins as an object does.
    fn next_object(&self, data: &[u8]) -> Option<usize> {
        let begin = if self.held.is_empty() { 0 } else { memchr::memchr(b'\n', data)? + 1 };
        (data.get(begin) == Some(&b'{')).then_some(begin)
    }

    fn take(&mut self) -> Option<Bytes> {
        let cut = self.seen.look(&self.held);
        self.forget(cut);
        (cut > 0).then(|| self.held.split_to(cut).freeze())
    }

    fn hold(&mut self, data: &[u8]) {
        if self.seen.are_others || self.least > self.length {
            // It will be held whole. Memory is taken only as bytes come.
            self.held.reserve(self.length.saturating_sub(self.held.len()));
        }
        self.held.extend_from_slice(data);
    }

    /// So many bytes are given back.
    fn forget(&mut self, bytes: usize) {
        self.length = self.length.saturating_sub(bytes);
        self.seen.line = self.seen.line.saturating_sub(bytes);
        self.seen.searched = self.seen.searched.saturating_sub(bytes);
    }
}

impl Seen {
    /// Looks at lines until one is not whole or no object's; where the last of them begins that begins as an object does.
    fn look(&mut self, text: &[u8]) -> usize {
        let mut last = 0;
        loop {
            let begin = skip_whitespace(text, self.line);
            match text.get(begin) {
                Some(b'{') => last = begin,
                Some(_) => self.are_others = true,
                None => self.line = begin,
            }
            if text.get(begin) != Some(&b'{') {
                return last;
            }
            let from = self.searched.max(begin);
            let Some(end) = memchr::memchr(b'\n', &text[from..]) else {
                (self.line, self.searched) = (begin, text.len());
                return last;
            };
            if !text[trimmed(text, begin..from + end)].ends_with(b"}") {
                self.are_others = true;
                return last;
            }
            self.line = from + end + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::serve::batch::{self, Batch};

    /// The body cut into pieces as it comes in these parts.
    fn pieces(body: &[u8], parts: &[usize], least: usize) -> Vec<Bytes> {
        let (mut lines, mut pieces, mut at) = (Lines::new(least, body.len()), Vec::new(), 0);
        for part in parts.iter().copied().chain([body.len()]) {
            let end = (at + part).min(body.len());
            pieces.extend(lines.add(Bytes::copy_from_slice(&body[at..end])).into_iter().flatten());
            at = end;
        }
        pieces.push(lines.rest());
        pieces
    }

    /// The candidates' texts, and how many records there are.
    fn read(body: &[u8]) -> (Vec<Vec<u8>>, Batch) {
        let batch = batch::read(body, 60, |record| memchr::memchr(b'x', record).is_some());
        (batch.candidates.iter().map(|place| body[place.clone()].to_vec()).collect(), batch)
    }

    #[test]
    fn lines_are_given_back_as_soon_as_the_next_begins() {
        for (body, expected) in [
            ("{\"a\":1}\n{\"b\":2}\n{", vec!["{\"a\":1}\n{\"b\":2}\n", "{"]),
            ("{\"a\":1}\n{\"b\":2}\n", vec!["{\"a\":1}\n", "{\"b\":2}\n"]),
            (" {\"a\":1} \r\n\r\n {\"b\":2}", vec![" {\"a\":1} \r\n\r\n ", "{\"b\":2}"]),
            // Its mark comes from few; nothing is gained from them.
            ("\u{feff}{\"a\":1}\n{}", vec!["\u{feff}{\"a\":1}\n{}"]),
            // What may go on is left to the end.
            ("{\"a\":{}\n,\"b\":2}\n{}\n{}\n", vec!["{\"a\":{}\n,\"b\":2}\n{}\n{}\n"]),
            ("{}\n{\"a\":{}\n,\"b\":2}\n{}\n{}\n", vec!["{}\n", "{\"a\":{}\n,\"b\":2}\n{}\n{}\n"]),
            ("{}\n{\n}\n{}\n{}", vec!["{}\n", "{\n}\n{}\n{}"]),
            ("[{},\n{},\n{}]", vec!["[{},\n{},\n{}]"]),
            ("", vec![""]),
        ] {
            let found = pieces(body.as_bytes(), &[body.len()], 1);
            let text = |piece: &Bytes| String::from_utf8(piece.to_vec()).expect("text");
            let found: Vec<String> = found.iter().map(text).collect();
            assert_eq!(found, expected, "{body:?}");
        }
    }

    fn part() -> impl Strategy<Value = String> {
        prop_oneof![
            4 => "(\\{\"[ax]\":[0-9]\\}\n){1,3}",
            1 => "[ \r\n]{1,3}",
            1 => Just("{\"Records\":[{\"x\":1}\n,{\"x\":2}]}\n".to_owned()),
            1 => Just("{\"Records\":[{\"a\":1},\n{\"x\":2}\n]}\n".to_owned()),
            1 => Just("{\"a\":{\"x\":1}\n".to_owned()),
            1 => Just("{\n  \"x\": {\n  }\n}\n".to_owned()),
            1 => Just("{\"x\":\n{\"a\":2}\n}\n".to_owned()),
            1 => Just("{\"x\":1}{\"x\":2}".to_owned()),
            1 => Just(format!("{{\"x\":\"{}\"}}\n", "y".repeat(60))),
            1 => "[{}\\[\\]\",:x\\\\\n]{1,8}",
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn pieces_hold_what_the_body_holds(
            parts in proptest::collection::vec(part(), 0..12),
            cuts in proptest::collection::vec(1usize..80, 0..60), least in 1usize..40,
        ) {
            let body = parts.concat();
            let pieces = pieces(body.as_bytes(), &cuts, least);
            prop_assert_eq!(pieces.concat(), body.as_bytes());
            let found: Vec<Vec<u8>> = pieces.iter().flat_map(|piece| read(piece).0).collect();
            prop_assert_eq!(found, read(body.as_bytes()).0, "{}", body);
        }
    }
}
