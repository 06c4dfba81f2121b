//! Where a body that still comes may be cut, so that its beginning can be read while the rest comes.
//!
//! In: a body's bytes as they come. Out: pieces of it that end where a line ends and the next begins with `{`; and what is left at
//! the end. Together they are the body. Bounds: each byte is looked at a few times; the memory is the body's own, and long parts
//! are not copied. Not here: what is in a piece. Its reader says whether all its lines begin and end as objects do
//! ([`body::read_lines`]), and returns it if they do not. Then all that is left stays in one piece.
//!
//! Why such a piece means by itself what it means in the body: a text that a line leaves open cannot go on in a line that begins
//! with `{` behind one that ended with `}`, for no JSON has `{` behind `}`.
//!
//! [`body::read_lines`]: crate::logs::body::read_lines

use axum::body::Bytes;
use bytes::BytesMut;

/// What has come of a body and was not given out yet.
#[derive(Debug, Default)]
pub struct Lines {
    held: BytesMut,
    /// Up to where it is known that it cannot be cut.
    searched: usize,
    /// How many bytes are worth being given out.
    least: usize,
    /// How many bytes are not given out yet, those included that are still to come.
    length: usize,
    /// It is to be left in one.
    is_whole: bool,
}

impl Lines {
    /// Nothing yet of `length` bytes, if that is known; pieces of about `least` bytes or more are given out.
    pub fn new(least: usize, length: usize) -> Lines {
        Lines { least, length, ..Lines::default() }
    }

    /// The same, and no pieces.
    pub fn in_one(length: usize) -> Lines {
        Lines { length, is_whole: true, ..Lines::default() }
    }

    /// Adds what has come. What is given out are two pieces, each of which may be empty.
    pub fn add(&mut self, mut data: Bytes) -> [Bytes; 2] {
        let is_long = data.len() >= self.least && !self.is_whole;
        if let Some(begin) = is_long.then(|| self.first_cut(&data)).flatten() {
            // Only the line that began before is put together.
            self.hold(&data.split_to(begin));
            let first = self.held.split().freeze();
            let second = data.split_to(last_cut(&data).unwrap_or(0));
            self.searched = 0;
            self.length = self.length.saturating_sub(first.len() + second.len());
            self.hold(&data);
            return [first, second];
        }
        self.hold(&data);
        if self.is_whole || self.held.len() < self.least {
            return [Bytes::new(), Bytes::new()];
        }
        let cut = last_cut(&self.held[self.searched..]).map_or(0, |cut| self.searched + cut);
        let piece = self.held.split_to(cut).freeze();
        // Its last byte may be the end of a line of which the next is to come.
        self.searched = self.held.len().saturating_sub(1);
        self.length = self.length.saturating_sub(cut);
        [piece, Bytes::new()]
    }

    /// Takes back pieces that were given out last: they and what comes are left in one.
    pub fn take_back(&mut self, pieces: &[Bytes]) {
        let held = std::mem::take(&mut self.held);
        self.is_whole = true;
        self.length += pieces.iter().map(Bytes::len).sum::<usize>();
        for piece in pieces {
            self.hold(piece);
        }
        self.hold(&held);
    }

    /// What is left of a body that has come whole.
    pub fn rest(self) -> Bytes {
        self.held.freeze()
    }

    fn hold(&mut self, data: &[u8]) {
        if self.is_whole || self.least > self.length {
            // It will be held to the end. Memory is taken only as bytes come.
            self.held.reserve(self.length.saturating_sub(self.held.len()));
        }
        self.held.extend_from_slice(data);
    }

    /// Where the first line begins in what has come, if it begins with `{`.
    fn first_cut(&self, data: &[u8]) -> Option<usize> {
        let begin = if self.held.is_empty() { 0 } else { memchr::memchr(b'\n', data)? + 1 };
        (data.get(begin) == Some(&b'{')).then_some(begin)
    }
}

/// Where the last line begins that begins with `{` and has another before it.
fn last_cut(text: &[u8]) -> Option<usize> {
    let mut begins = memchr::memrchr_iter(b'\n', text).map(|end| end + 1);
    begins.find(|begin| text.get(*begin) == Some(&b'{'))
}

#[cfg(test)]
mod tests {
    use firstseen_engine::prefilter::Search;
    use proptest::prelude::*;

    use super::*;
    use crate::logs::body::{self, Extent};
    use crate::native_search::NativeSearch;

    fn is_candidate(record: NativeSearch<'_>, _: Extent) -> bool {
        record.bytes().contains(&b'x')
    }

    /// The body cut into pieces as it comes in these parts, of which those are given back that are not lines of objects.
    fn pieces(body: &[u8], parts: &[usize], least: usize) -> Vec<Bytes> {
        let (mut lines, mut pieces, mut at) = (Lines::new(least, body.len()), Vec::new(), 0);
        for part in parts.iter().copied().chain([body.len()]) {
            let end = (at + part).min(body.len());
            let given = lines.add(Bytes::copy_from_slice(&body[at..end]));
            let whole = given.iter().take_while(|piece| body::read_lines(piece, 60, is_candidate).is_some()).count();
            if whole < given.len() {
                lines.take_back(&given[whole..]);
            }
            pieces.extend(given.into_iter().take(whole).filter(|piece| !piece.is_empty()));
            at = end;
        }
        pieces.push(lines.rest());
        pieces
    }

    /// The candidates' texts.
    fn candidates(body: &[u8]) -> Vec<&[u8]> {
        let batch = body::read(body, 60, is_candidate);
        batch.candidates.into_iter().map(|place| &body[place]).collect()
    }

    #[test]
    fn lines_are_given_out_as_soon_as_the_next_begins() {
        for (body, expected) in [
            ("{\"a\":1}\n{\"b\":2}\n{", vec!["{\"a\":1}\n{\"b\":2}\n", "{"]),
            ("{\"a\":1}\n{\"b\":2}\n", vec!["{\"a\":1}\n", "{\"b\":2}\n"]),
            ("{\"a\":1}\r\n\r\n{\"b\":2}", vec!["{\"a\":1}\r\n\r\n", "{\"b\":2}"]),
            ("\u{feff}{\"a\":1}\n{}", vec!["\u{feff}{\"a\":1}\n", "{}"]),
            // What may go on is left to the end.
            ("{\"a\":{}\n,\"b\":2}\n{}\n{}\n", vec!["{\"a\":{}\n,\"b\":2}\n{}\n{}\n"]),
            ("{\n}\n{}\n{}", vec!["{\n}\n{}\n{}"]),
            ("[{},\n{},\n{}]", vec!["[{},\n{},\n{}]"]),
            (" {}\n {}\n", vec![" {}\n {}\n"]),
            ("", vec![""]),
        ] {
            let found = pieces(body.as_bytes(), &[body.len()], 1);
            let text = |piece: &Bytes| String::from_utf8(piece.to_vec()).expect("text");
            assert_eq!(found.iter().map(text).collect::<Vec<_>>(), expected, "{body:?}");
        }
    }

    #[test]
    fn a_line_without_end_is_searched_once() {
        let (part, mut lines) = (Bytes::from(vec![b'x'; 1000]), Lines::new(1, 0));
        let begun = std::time::Instant::now();
        for _ in 0..30_000 {
            assert_eq!(lines.add(part.clone()), [Bytes::new(), Bytes::new()]);
        }
        assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
        assert_eq!(lines.rest().len(), 30_000_000);
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
            let found: Vec<&[u8]> = pieces.iter().flat_map(|piece| candidates(piece)).collect();
            prop_assert_eq!(found, candidates(body.as_bytes()), "{}", body);
        }
    }
}
