//! The records of a request's body: where they stand in it, and the body with some of them changed.
//!
//! In: a body as NDJSON, a JSON array, or JSON texts one behind the other, over one line or several; each text may be a CloudTrail
//! document (`{"Records":[...]}`). Out: the records that may raise alerts, a count of all, and the body again, which keeps each
//! byte that is not changed on purpose. Bounds: each byte is looked at a few times at most, whatever the text; memory for the
//! candidates' places. What is no JSON object is counted and left alone; the rest of the body counts nonetheless.
//!
//! Where each line begins and ends as an object does, as it does in nearly all bodies, the lines are the records: a line that no
//! rule can match is not looked into any further. That is exact, for behind such a line that was not whole, none of the next
//! ones could go on with it. Not here: what a record means, and compression.

use std::ops::Range;

use crate::json_text::{self, Scanner};
use crate::native_search::NativeSearch;

/// What a body holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Where the records stand that may raise alerts, in their order.
    pub candidates: Vec<Range<usize>>,
    /// How many records there are; a line of several, or a document, counts as one if no rule can match any of it.
    pub records: u64,
    /// How many texts are no JSON object; a line that no rule can match is only asked how it begins and ends.
    pub not_json: u64,
    /// How many records are longer than is allowed; they are no candidates.
    pub too_long: u64,
    /// Whether the body is one array.
    pub is_array: bool,
}

/// A record's place in the body, and what is to stand there.
pub type Change = (Range<usize>, Vec<u8>);

/// What finds the records of one body.
struct Reader<'a, F> {
    body: &'a [u8],
    max_record: usize,
    is_candidate: F,
    scanner: Scanner,
    batch: Batch,
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Finds the records of a body. Those that `is_candidate` accepts and that are no longer than `max_record` bytes are candidates.
pub fn read(body: &[u8], max_record: usize, is_candidate: impl FnMut(NativeSearch<'_>) -> bool) -> Batch {
    let mut reader = Reader::new(body, max_record, is_candidate);
    let start = skip_whitespace(body, if body.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 });
    if body.get(start) == Some(&b'[') {
        reader.batch.is_array = true;
        reader.elements(start + 1);
    } else if !reader.lines(start) {
        reader.batch = Batch::default();
        reader.texts(start);
    }
    reader.batch
}

/// The same of a text whose lines all begin and end as objects do and, as far as they are looked into, are whole; `None` for any
/// other.
pub fn read_lines(text: &[u8], max_record: usize, is_candidate: impl FnMut(NativeSearch<'_>) -> bool) -> Option<Batch> {
    let mut reader = Reader::new(text, max_record, is_candidate);
    let start = if text.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
    reader.lines(start).then_some(reader.batch)
}

impl<'b, F: FnMut(NativeSearch<'_>) -> bool> Reader<'b, F> {
    fn new(body: &'b [u8], max_record: usize, is_candidate: F) -> Self {
        Reader { body, max_record, is_candidate, scanner: Scanner::default(), batch: Batch::default() }
    }

    /// Takes each line for a record; whether that was right.
    fn lines(&mut self, start: usize) -> bool {
        let mut at = start;
        while at < self.body.len() {
            // One look finds the line's end and whether it holds an escape.
            let (end, is_plain) = match memchr::memchr2(b'\n', b'\\', &self.body[at..]) {
                Some(found) if self.body[at + found] == b'\n' => (at + found + 1, true),
                Some(found) => (line_end(self.body, at + found), false),
                None => (self.body.len(), true),
            };
            let line = trimmed(self.body, at..end);
            at = end;
            let text = &self.body[line.clone()];
            if text.is_empty() {
                continue;
            }
            if !(text.starts_with(b"{") && text.ends_with(b"}")) {
                return false;
            }
            if text.len() > self.max_record {
                // It may be a document, whose records are no longer than is allowed.
                return false;
            }
            let search = if is_plain { NativeSearch::without_backslash(text) } else { NativeSearch::new(text) };
            if !(self.is_candidate)(search) {
                self.batch.records += 1;
                continue;
            }
            match self.scanner.value_end(text) {
                Ok(Some(len)) if len == text.len() => self.object(line),
                _ => return false,
            }
        }
        true
    }

    /// Takes the body for JSON texts one behind the other.
    fn texts(&mut self, start: usize) {
        let mut at = skip_whitespace(self.body, start);
        while at < self.body.len() {
            match self.scanner.value_end(&self.body[at..]) {
                Ok(Some(len)) => {
                    self.value(trimmed(self.body, at..at + len));
                    at += len;
                }
                // The lines up to where it turned out to be none are judged each by itself, and not read again.
                Ok(None) => at = self.single_lines(at, self.body.len()),
                // So are those up to the one where it cannot go on, which may begin another.
                Err(fault) => {
                    let fault = at + fault.column - 1;
                    let line = memchr::memrchr(b'\n', &self.body[at..fault]).map(|end| at + end + 1);
                    at = self.single_lines(at, line.unwrap_or_else(|| line_end(self.body, fault)));
                }
            }
            at = skip_whitespace(self.body, at);
        }
    }

    /// Takes each of these lines for one text or several; where the next line begins.
    fn single_lines(&mut self, start: usize, until: usize) -> usize {
        let mut at = start;
        while at < until {
            let end = line_end(self.body, at);
            at = skip_whitespace(&self.body[..end], at);
            while at < end {
                match self.scanner.value_end(&self.body[at..end]) {
                    Ok(Some(len)) => {
                        self.value(trimmed(self.body, at..at + len));
                        at += len;
                    }
                    _ => {
                        self.batch.not_json += 1;
                        break;
                    }
                }
            }
            at = end;
        }
        at
    }

    /// Takes the elements of the array that the body is; what is left where it is none, or behind it, for JSON texts.
    fn elements(&mut self, start: usize) {
        let mut at = skip_whitespace(self.body, start);
        if self.body.get(at) == Some(&b']') {
            return self.texts(at + 1);
        }
        while let Ok(Some(len)) = self.scanner.value_end(&self.body[at..]) {
            self.value(trimmed(self.body, at..at + len));
            at += len;
            match self.body.get(at) {
                Some(b',') => at = skip_whitespace(self.body, at + 1),
                Some(b']') => return self.texts(at + 1),
                _ => break,
            }
        }
        match self.body.len() - at {
            0 => self.batch.not_json += 1,
            _ => self.texts(at),
        }
    }

    /// Takes a whole value that was just read.
    fn value(&mut self, place: Range<usize>) {
        if self.scanner.top().is_object {
            self.object(place);
        } else {
            self.batch.not_json += 1;
        }
    }

    /// Takes a whole object that was just read: a record, or a document of records.
    fn object(&mut self, place: Range<usize>) {
        let top = self.scanner.top();
        let (1, Some(array)) = (top.keys, top.records) else { return self.record(place) };
        let document = &self.body[place.clone()];
        let mut at = array + 1;
        while let Some(element) = json_text::next_element(document, &mut at) {
            if document[element.range.start] == b'{' {
                self.record(place.start + element.range.start..place.start + element.range.end);
            } else {
                self.batch.not_json += 1;
            }
        }
    }

    fn record(&mut self, place: Range<usize>) {
        self.batch.records += 1;
        if place.len() > self.max_record {
            self.batch.too_long += 1;
        } else if (self.is_candidate)(NativeSearch::new(&self.body[place.clone()])) {
            self.batch.candidates.push(place);
        }
    }
}

/// The body with these records in the place of what stood there, in the body's order.
pub fn replaced(body: &[u8], changes: &[Change]) -> Vec<u8> {
    let grown: usize = changes.iter().map(|(place, change)| change.len().saturating_sub(place.len())).sum();
    let mut out = Vec::with_capacity(body.len() + grown);
    let mut at = 0;
    for (place, change) in changes {
        out.extend_from_slice(&body[at..place.start]);
        out.extend_from_slice(change);
        at = place.end;
    }
    out.extend_from_slice(&body[at..]);
    out
}

/// A body of these records alone: an array, or each on a line.
pub fn of(records: &[Change], is_array: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(records.iter().map(|(_, record)| record.len() + 1).sum::<usize>() + 2);
    let (before, between, behind) = match (is_array, records.is_empty()) {
        (true, _) => ("[", ",", "]"),
        (false, true) => ("", "", ""),
        (false, false) => ("", "\n", "\n"),
    };
    out.extend_from_slice(before.as_bytes());
    for (number, (_, record)) in records.iter().enumerate() {
        if number > 0 {
            out.extend_from_slice(between.as_bytes());
        }
        json_text::compact(record, &mut out);
    }
    out.extend_from_slice(behind.as_bytes());
    out
}

/// Where the line of `at` ends, its line end included.
fn line_end(text: &[u8], at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    memchr::memchr(b'\n', rest).map_or(text.len(), |end| at + end + 1)
}

/// The first place from this one on that is no whitespace.
fn skip_whitespace(text: &[u8], at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    at + rest.iter().take_while(|&&byte| json_text::is_whitespace(byte)).count()
}

/// The place without the whitespace at its beginning and end.
fn trimmed(text: &[u8], place: Range<usize>) -> Range<usize> {
    let start = skip_whitespace(&text[..place.end], place.start);
    let behind = text[start..place.end].iter().rev().take_while(|&&byte| json_text::is_whitespace(byte)).count();
    start..place.end - behind
}

#[cfg(test)]
mod tests {
    use firstseen_engine::prefilter::Search;
    use proptest::prelude::*;

    use super::*;

    /// The candidates' texts and the counts of records and of what is none; a record with an `x` is a candidate.
    fn found(body: &str) -> (Vec<&str>, u64, u64) {
        let batch = read(body.as_bytes(), 100, |record| record.bytes().contains(&b'x'));
        (batch.candidates.iter().map(|place| &body[place.clone()]).collect(), batch.records, batch.not_json)
    }

    #[test]
    fn records_are_found_in_every_framing() {
        for (body, candidates, records, not_json) in [
            ("", &[][..], 0, 0),
            (" \n\r\n", &[], 0, 0),
            ("{\"a\":1}\n{\"x\":2}\r\n\n  {\"x\":3} \n{\"b\":4}", &[r#"{"x":2}"#, r#"{"x":3}"#], 4, 0),
            ("\u{feff}{\"x\":2}\n", &[r#"{"x":2}"#], 1, 0),
            (r#"[{"a":1},{"x":2}, {"x":[3]} ,{}]"#, &[r#"{"x":2}"#, r#"{"x":[3]}"#], 4, 0),
            (" [ ] ", &[], 0, 0),
            ("[\n{\"x\":\n2}\n,\n1]\n", &["{\"x\":\n2}"], 1, 1),
            (r#"{"a":1}{"x":2}{"x":3}"#, &[r#"{"x":2}"#, r#"{"x":3}"#], 3, 0),
            ("{\"a\":1} {\"x\":2}\n{\"x\":3}", &[r#"{"x":2}"#, r#"{"x":3}"#], 3, 0),
            ("{\n \"x\": 1\n}\n{\n \"b\": {}\n}\n{\"x\":\n{}}", &["{\n \"x\": 1\n}", "{\"x\":\n{}}"], 3, 0),
            // Documents, by themselves and among others.
            (r#"{"Records":[{"x":1},{"a":2},{"x":3}]}"#, &[r#"{"x":1}"#, r#"{"x":3}"#], 3, 0),
            ("{\"Records\": [ {\"x\":1},\n7 ]}\n{\"x\":2}", &[r#"{"x":1}"#, r#"{"x":2}"#], 2, 1),
            (r#"[{"Records":[{"x":1}]},{"x":2}]"#, &[r#"{"x":1}"#, r#"{"x":2}"#], 2, 0),
            (r#"{"Records":[{"x":1}],"more":"x"}"#, &[r#"{"Records":[{"x":1}],"more":"x"}"#], 1, 0),
        ] {
            assert_eq!(found(body), (candidates.to_vec(), records, not_json), "{body}");
        }
    }

    #[test]
    fn what_is_no_object_is_counted_and_the_rest_is_found() {
        for (body, candidates, records, not_json) in [
            ("nonsense x", &[][..], 0, 1),
            ("x\n{\"x\":1}\nx\n", &[r#"{"x":1}"#], 1, 2),
            ("{\"a\":\n{\"x\":1}\n{\"x\":2}", &[r#"{"x":1}"#, r#"{"x":2}"#], 2, 1),
            ("{\"x\":1}\n{\"x\":", &[r#"{"x":1}"#], 1, 1),
            ("{\"x\" 1}\n{\"x\":2}\n{\"a\":1}", &[r#"{"x":2}"#], 2, 1),
            ("\"x\"\n{\"x\":1}\n12\nnull", &[r#"{"x":1}"#], 1, 3),
            (r#"[{"x":1},{"x":2"#, &[r#"{"x":1}"#], 1, 1),
            (r#"[{"x":1},"#, &[r#"{"x":1}"#], 1, 1),
            (r#"[{"x":1}"#, &[r#"{"x":1}"#], 1, 1),
            (r#"[{"x":1}]{"x":2}"#, &[r#"{"x":1}"#, r#"{"x":2}"#], 2, 0),
            (r#"[{"x":1} {"x":2}]"#, &[r#"{"x":1}"#, r#"{"x":2}"#], 2, 1),
            (r#"[]{"x":2}"#, &[r#"{"x":2}"#], 1, 0),
            ("[oops\n{\"x\":2}\n", &[r#"{"x":2}"#], 1, 1),
            ("[", &[], 0, 1),
            ("{\"x\":1}{\"x\":oops}\n{\"x\":3}", &[r#"{"x":1}"#, r#"{"x":3}"#], 2, 1),
        ] {
            assert_eq!(found(body), (candidates.to_vec(), records, not_json), "{body}");
        }
    }

    #[test]
    fn records_that_are_too_long_are_counted_and_passed_over() {
        let long = format!("{{\"x\":\"{}\"}}", "y".repeat(100));
        let body = format!("{{\"x\":1}}\n{long}\n{{\"Records\":[{long},{{\"x\":{}2}}]}}", " ".repeat(90));
        let batch = read(body.as_bytes(), 100, |_| true);
        assert_eq!((batch.records, batch.too_long, batch.not_json), (4, 2, 0));
        assert_eq!(batch.candidates.len(), 2);
    }

    #[test]
    fn a_line_is_known_for_its_backslashes() {
        let body = "{\"a\":\"\\u0078\"}\n{\"b\":1}\n{\"c\":\"\\\\\"}\n{\"d\":\"\\\"\"}";
        let mut found = Vec::new();
        read(body.as_bytes(), 100, |record| {
            found.push((record.bytes().contains(&b'\\'), record.contains(b'\\')));
            false
        });
        assert_eq!(found, [(true, true), (false, false), (true, true), (true, true)]);
    }

    #[test]
    fn lines_that_never_end_are_read_a_few_times_only() {
        // Read anew from each line, either would take hours.
        for line in ["{\"a\":\n", "[\n{\n", "{\"x\":[{}\n"] {
            let body = line.repeat(1 << 20);
            let batch = read(body.as_bytes(), 100, |_| true);
            assert!(batch.not_json > 0 && batch.candidates.is_empty(), "{line}");
        }
    }

    #[test]
    fn a_body_is_put_together_again() {
        let body = br#"[{"a":1}, {"b":2},{"c":3}]"#;
        let changes = [(1..8, br#"{"a":1,"f":[]}"#.to_vec()), (18..25, b"{\n\"c\": 3 }".to_vec())];
        assert_eq!(replaced(body, &changes), b"[{\"a\":1,\"f\":[]}, {\"b\":2},{\n\"c\": 3 }]");
        assert_eq!(replaced(body, &[]), body);
        assert_eq!(of(&changes, true), br#"[{"a":1,"f":[]},{"c":3}]"#);
        assert_eq!(of(&changes, false), b"{\"a\":1,\"f\":[]}\n{\"c\":3}\n");
        assert_eq!((of(&[], true), of(&[], false)), (b"[]".to_vec(), Vec::new()));
    }

    fn record() -> impl Strategy<Value = String> {
        let value = "(\"[a-c x{}\\[\\]]{0,5}\"|[0-9]|\\{\\}|\\[\\{\\}\\]|\\{\"x\":1\\})";
        proptest::collection::vec(("[abx]", value), 0..3).prop_map(|pairs| {
            let pairs: Vec<String> = pairs.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
            format!("{{{}}}", pairs.join(","))
        })
    }

    proptest! {
        #[test]
        fn every_framing_holds_the_same_records(records in proptest::collection::vec(record(), 0..6)) {
            let candidates: Vec<&str> = records.iter().map(String::as_str).filter(|record| record.contains('x')).collect();
            let expected = (candidates, records.len() as u64, 0);
            let pretty: Vec<String> = records.iter().map(|record| {
                let value: serde_json::Value = serde_json::from_str(record).unwrap();
                format!("{value:#}")
            }).collect();
            let (lines, array) = (records.join("\n"), format!("[{}]", records.join(" ,\n")));
            let (concatenated, document) = (records.concat(), format!("{{\"Records\":[{}]}}", records.join(",")));
            for body in [&lines, &array] {
                prop_assert_eq!(found(body), expected.clone());
            }
            for body in [&concatenated, &document] {
                prop_assert_eq!(found(body).0, expected.0.clone());
            }
            prop_assert_eq!(found(&pretty.join("\n")).1, expected.1);
        }

        #[test]
        fn a_line_that_is_damaged_costs_no_other_line(
            records in proptest::collection::vec(record(), 1..6), at in any::<prop::sample::Index>(),
            damage in "[a-z{}\\[\\]\",:]{1,6}", cut in any::<prop::sample::Index>(),
        ) {
            // What is damaged may go on in the next lines only if it is JSON together with them.
            let at = at.index(records.len());
            let mut lines = records.clone();
            lines[at].truncate(cut.index(records[at].len()));
            lines[at] += &damage;
            let body = lines.join("\n");
            let (candidates, ..) = found(&body);
            let whole: Vec<&str> = (0..lines.len()).filter(|&line| line != at).map(|line| records[line].as_str()).collect();
            let goes_on = serde_json::from_str::<serde::de::IgnoredAny>(&lines[at]).is_err_and(|error| error.is_eof());
            if !goes_on {
                for record in whole.iter().filter(|record| record.contains('x')) {
                    prop_assert!(candidates.contains(record), "{body}");
                }
            }
        }

        #[test]
        fn garbage_comes_back_as_it_was(body in proptest::collection::vec(
            prop_oneof![Just(b'"'), Just(b'{'), Just(b'}'), Just(b'['), Just(b']'), Just(b','), Just(b':'),
                Just(b'\\'), Just(b'\n'), Just(b'x'), Just(b' '), any::<u8>()], 0..60)) {
            let batch = read(&body, 20, |_| true);
            let same: Vec<_> = batch.candidates.iter().map(|place| (place.clone(), body[place.clone()].to_vec())).collect();
            prop_assert_eq!(replaced(&body, &same), body);
        }
    }
}
