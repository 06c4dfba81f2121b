//! The records of a request's body: where they stand in it.
//!
//! In: a body that is in memory whole. Out: the records that may raise alerts, and counts of all and of what is
//! left out. Bounds: those of
//! [`framing`]; memory for the candidates' places. Not here: what a record means, compression, and where one
//! record ends and the next begins ([`framing`]), but for this:
//!
//! Where each line begins and ends as an object does, as it does in nearly all bodies, the lines are the
//! records: a line that no rule can match is not looked into any further. That loses no candidate, for behind
//! such a line that was not whole, none of the next ones could continue it. It may hold several texts,
//! though, so [`Extent::Line`] is asked about.
//!
//! [`framing`]: crate::logs::framing

use std::ops::Range;

use crate::logs::Reason;
use crate::logs::framing::{Framer, Piece, Step, line_end, trimmed};
use crate::logs::json_text::{Scan, Scanner, Top};
use crate::native_search::NativeSearch;

/// What a body holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Where the records stand that may raise alerts, in their order.
    pub candidates: Vec<Range<usize>>,
    /// How many records there are; a line of several, or a document, counts as one if no rule can match any
    /// of it.
    pub records: u64,
    /// How many texts are left out, by the number of the [`Reason`]; a line that no rule can match is only
    /// asked how it begins and ends. Those that are too long are among the records.
    pub left_out: [u64; Reason::NAMES.len()],
    /// Whether records stand in an array.
    pub is_array: bool,
}

impl Batch {
    /// How many texts are not JSON objects.
    pub fn not_json(&self) -> u64 {
        self.left_out.iter().sum::<u64>() - self.too_long()
    }

    /// How many records are longer than is allowed; they are no candidates.
    pub fn too_long(&self) -> u64 {
        self.left_out[Reason::TooLong.number()]
    }

    /// Whether something is there, and none of it is JSON.
    pub fn is_unreadable(&self) -> bool {
        self.records == 0 && self.not_json() > 0 && self.left_out[Reason::NotAnObject.number()] == 0
    }
}

/// What a candidate is sought in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// One JSON object.
    Object,
    /// A line, which may hold several texts.
    Line,
}

/// Finds the records of a body. Those that `is_candidate` accepts and that are no longer than `max_record`
/// bytes are candidates.
pub fn read(body: &[u8], max_record: usize, mut is_candidate: impl FnMut(NativeSearch<'_>, Extent) -> bool) -> Batch {
    read_lines(body, max_record, &mut is_candidate).unwrap_or_else(|| read_texts(body, max_record, is_candidate))
}

/// Finds the records of a text whose lines all begin and end as objects do and, where they may be candidates, are one
/// each; `None` for any other.
pub fn read_lines(
    text: &[u8],
    max_record: usize,
    mut is_candidate: impl FnMut(NativeSearch<'_>, Extent) -> bool,
) -> Option<Batch> {
    let (mut batch, mut scanner) = (Batch::default(), Scanner::new(max_record));
    let mut at = if text.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
    while at < text.len() {
        // One look finds the line's end and whether it holds an escape.
        let (end, is_plain) = match memchr::memchr2(b'\n', b'\\', &text[at..]) {
            Some(found) if text[at + found] == b'\n' => (at + found + 1, true),
            Some(found) => (line_end(text, at + found), false),
            None => (text.len(), true),
        };
        let place = trimmed(text, at..end);
        let line = &text[place.clone()];
        at = end;
        if line.is_empty() {
            continue;
        }
        // A line that is too long may be a document, whose records are not.
        if !(line.starts_with(b"{") && line.ends_with(b"}")) || line.len() > max_record {
            return None;
        }
        batch.records += 1;
        let search = if is_plain { NativeSearch::without_backslash(line) } else { NativeSearch::new(line) };
        if !is_candidate(search, Extent::Line) {
            continue;
        }
        scanner.restart();
        if scanner.resume(line, 0, true) != Scan::Whole(line.len()) || is_document(scanner.top()) {
            return None;
        }
        if is_candidate(search, Extent::Object) {
            batch.candidates.push(place);
        }
    }
    Some(batch)
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

fn is_document(top: Top) -> bool {
    top.keys == 1 && top.records.is_some()
}

/// Finds the records of a body in any framing.
fn read_texts(body: &[u8], max_record: usize, mut is_candidate: impl FnMut(NativeSearch<'_>, Extent) -> bool) -> Batch {
    let mut batch = Batch::default();
    let (mut framer, mut at) = (Framer::new(max_record), 0);
    while let Step::Piece(Piece { text, left_out, begins, .. }) = framer.next(body, &mut at, true) {
        match left_out {
            None => {
                batch.records += 1;
                if is_candidate(NativeSearch::new(&body[text.clone()]), Extent::Object) {
                    batch.candidates.push(text);
                }
            }
            Some(reason) if begins => {
                batch.records += u64::from(reason == Reason::TooLong);
                batch.left_out[reason.number()] += 1;
            }
            Some(_) => {}
        }
    }
    batch.is_array = framer.has_array();
    batch
}

#[cfg(test)]
mod tests {
    use firstseen_engine::prefilter::Search;
    use proptest::prelude::*;

    use super::*;

    /// The candidates' texts and the counts of records and of what is none; a record with an `x` is a
    /// candidate.
    fn found(body: &str) -> (Vec<&str>, u64, u64) {
        let batch = read(body.as_bytes(), 100, |record, _| record.bytes().contains(&b'x'));
        (batch.candidates.iter().map(|place| &body[place.clone()]).collect(), batch.records, batch.not_json())
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
            (r#"[{"x":1} {"x":2},]"#, &[r#"{"x":1}"#, r#"{"x":2}"#], 2, 0),
            ("[{\"x\":1},\n{\"x\":oops},\n{\"x\":2}]", &[r#"{"x":1}"#, r#"{"x":2}"#], 2, 1),
            (r#"[[{"x":1}],[{"x":2},7]]"#, &[r#"{"x":1}"#, r#"{"x":2}"#], 2, 1),
            (r#"[1,{"x":1},null]"#, &[r#"{"x":1}"#], 1, 2),
            ("[1,2]", &[], 0, 1),
            (r#"{"Records":[{"x":1},{"x":2"#, &[r#"{"x":1}"#], 1, 1),
            (r#"{"Records":[{"x":1},{"x":2}"#, &[r#"{"x":1}"#, r#"{"x":2}"#], 2, 1),
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
        let batch = read(body.as_bytes(), 100, |_, _| true);
        assert_eq!((batch.records, batch.too_long(), batch.not_json()), (4, 2, 0));
        assert_eq!(batch.candidates.len(), 2);
    }

    #[test]
    fn a_line_is_known_for_its_backslashes() {
        let body = "{\"a\":\"\\u0078\"}\n{\"b\":1}\n{\"c\":\"\\\\\"}\n{\"d\":\"\\\"\"}";
        let mut found = Vec::new();
        read(body.as_bytes(), 100, |record, _| {
            found.push((record.bytes().contains(&b'\\'), record.contains(b'\\')));
            false
        });
        assert_eq!(found, [(true, true), (false, false), (true, true), (true, true)]);
    }

    #[test]
    fn lines_that_never_end_are_read_a_few_times_only() {
        // Read anew from each line, either would take hours.
        for line in
            ["{\"a\":\n", "[\n{\n", "{\"x\":[{}\n", "[", "{\"Records\":[", "{\"Records\":[\n", "[{", "[1,{\"a\":"]
        {
            let body = line.repeat(1 << 20);
            for max_record in [100, 4 << 20] {
                let batch = read(body.as_bytes(), max_record, |_, _| true);
                assert!(batch.left_out.iter().sum::<u64>() > 0 && batch.candidates.is_empty(), "{line}");
            }
        }
    }

    #[test]
    fn a_body_of_which_nothing_is_json_is_told_from_one_without_objects() {
        for body in ["oops", "\u{1}{\0", "{\"a\"", "oops\n{\"a\""] {
            assert!(read(body.as_bytes(), 100, |_, _| true).is_unreadable(), "{body:?}");
        }
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(200));
        for body in ["", " \n", "[]", "[1,2]", "\"text\"", "null", "oops\n7", "oops\n{}", "{}", &long] {
            assert!(!read(body.as_bytes(), 100, |_, _| true).is_unreadable(), "{body:?}");
        }
    }

    #[test]
    fn a_line_is_asked_about_as_a_line_and_its_texts_as_objects() {
        let mut asked = Vec::new();
        let body = "{\"a\":1}\n{\"x\":1}{\"x\":2}\n";
        read(body.as_bytes(), 100, |text, extent| {
            asked.push((String::from_utf8_lossy(text.bytes()).into_owned(), extent));
            text.bytes().contains(&b'x')
        });
        let asked: Vec<_> = asked.iter().map(|(text, extent)| (text.as_str(), *extent)).collect();
        let expected = [
            ("{\"a\":1}", Extent::Line),
            ("{\"x\":1}{\"x\":2}", Extent::Line),
            ("{\"a\":1}", Extent::Object),
            ("{\"x\":1}", Extent::Object),
            ("{\"x\":2}", Extent::Object),
        ];
        assert_eq!(asked, expected);
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
            for body in [&concatenated, &document, &document.replacen('R', "r", 1)] {
                prop_assert_eq!(found(body).0, expected.0.clone());
            }
            for separator in [",", ";", " | ", "\0", "\x1e", "\n\x1e", ",\r\n", "\u{feff}"] {
                let body = records.join(separator);
                prop_assert_eq!(found(&body).0, expected.0.clone());
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
        fn places_in_garbage_stand_in_its_order(body in proptest::collection::vec(
            prop_oneof![Just(b'"'), Just(b'{'), Just(b'}'), Just(b'['), Just(b']'), Just(b','), Just(b':'),
                Just(b'\\'), Just(b'\n'), Just(b'x'), Just(b' '), any::<u8>()], 0..60)) {
            let mut at = 0;
            for place in read(&body, 20, |_, _| true).candidates {
                prop_assert!(at <= place.start && place.start < place.end && place.end <= body.len());
                at = place.end;
            }
        }
    }
}
