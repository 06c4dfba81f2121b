//! Records out of every shape of input, and out of input that has none; by both readers.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;

use super::body::{self, Batch};
use super::framing;
use super::records::{Record, Records};
use super::*;

/// Gives out its bytes in pieces of these lengths, the last one again and again.
struct Pieces<'a> {
    bytes: &'a [u8],
    lengths: Vec<usize>,
    next: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.lengths.get(self.next).copied().unwrap_or(usize::MAX);
        self.next += 1;
        let length = length.max(1).min(buffer.len()).min(self.bytes.len());
        buffer[..length].copy_from_slice(&self.bytes[..length]);
        self.bytes = &self.bytes[length..];
        Ok(length)
    }
}

/// All records and what is left out: text, line, and the reason in words. The text of one that is left out is
/// its whole line's.
fn read_pieces_up_to(max_record: usize, bytes: &[u8], lengths: Vec<usize>) -> io::Result<Vec<(String, u64, String)>> {
    let mut records = Records::new(Pieces { bytes, lengths, next: 0 }, max_record)?;
    let mut found: Vec<(String, u64, String)> = Vec::new();
    let mut is_whole = true;
    while let Some(record) = records.next()? {
        let text = match record.left_out {
            None => record.text.to_vec(),
            Some(_) => [record.before, record.text, record.behind].concat(),
        };
        // Bytes that are not UTF-8 may be parted.
        let text: String = text.into_iter().map(char::from).collect();
        assert_eq!(record.begins, is_whole);
        match record.begins {
            true => {
                let reason = record.left_out.map(|reason| reason.to_string()).unwrap_or_default();
                found.push((text, record.line, reason));
            }
            false => found.last_mut().expect("it has begun").0 += &text,
        }
        is_whole = record.ends;
    }
    assert!(is_whole);
    Ok(found)
}

fn read_pieces(bytes: &[u8], lengths: Vec<usize>) -> io::Result<Vec<(String, u64, String)>> {
    read_pieces_up_to(MAX_RECORD, bytes, lengths)
}

fn read(text: &str) -> Vec<(String, u64, String)> {
    let latin = |(text, line, reason): (String, u64, String)| {
        let bytes: Vec<u8> = text.chars().map(|char| char as u8).collect();
        (String::from_utf8(bytes).expect("UTF-8"), line, reason)
    };
    read_pieces(text.as_bytes(), Vec::new()).unwrap().into_iter().map(latin).collect()
}

/// Records without faults.
fn good(expected: &[(&str, u64)]) -> Vec<(String, u64, String)> {
    let with_no_fault = |&(text, line): &(&str, u64)| (text.to_owned(), line, String::new());
    expected.iter().map(with_no_fault).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn lines_are_records_and_blank_lines_are_left_out() {
    let text = "{\"a\": 1}\n\n  {\"b\":\"é\\n\"} \r\n \t\r\n{\"c\":{}}";
    assert_eq!(read(text), good(&[("{\"a\": 1}", 1), ("{\"b\":\"é\\n\"}", 3), ("{\"c\":{}}", 5)]));
    assert_eq!(read(""), []);
    assert_eq!(read("{"), [("{".into(), 1, "JSON that ends too early".into())]);
    assert_eq!(read("\u{feff}{}\n{}\n"), good(&[("{}", 1), ("{}", 2)]));
}

#[test]
fn what_stands_beside_a_record_on_its_line_comes_with_it() {
    let source = "  {\"a\":1} \r\n{\"b\":2}{\"c\":3}\r\n\u{feff}{\"d\":4}\r\n[{\"e\":5}\r\n]";
    let mut records = Records::new(source.as_bytes(), MAX_RECORD).unwrap();
    let mut found = Vec::new();
    while let Some(Record { before, text, behind, .. }) = records.next().unwrap() {
        found.push([before, text, behind].map(|text| String::from_utf8_lossy(text).into_owned()));
    }
    let expected = [
        ["  ", "{\"a\":1}", " \r"],
        ["", "{\"b\":2}", ""],
        ["", "{\"c\":3}", ""],
        ["", "{\"d\":4}", "\r"],
        ["", "{\"e\":5}", ""],
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_cloudtrail_file_gives_its_records() {
    let one_line = r#"{"Records":[{"a": "x y"},{"b":[1, {}]}]}"#;
    let expected = [(r#"{"a": "x y"}"#, 1), (r#"{"b":[1, {}]}"#, 1)];
    assert_eq!(read(one_line), good(&expected));
    assert_eq!(read(&one_line.replacen('R', "r", 1)), good(&expected), "Azure Event Hub's name");
    let pretty = "{\n  \"Records\": [\n    {\n      \"a\": \"x y\"\n    },\n    {\"b\": [1,\n {}]}\n  ]\n}\n";
    let pretty_expected = [("{\n      \"a\": \"x y\"\n    }", 3), ("{\"b\": [1,\n {}]}", 6)];
    assert_eq!(read(pretty), good(&pretty_expected));
    assert_eq!(read(r#"{"Records":[]}"#), []);
    let behind = pretty_expected.map(|(text, line)| (text, line + 1));
    let all = [&expected[..], &behind, &[("{}", 11)]].concat();
    assert_eq!(read(&format!("{one_line}\n{pretty}{{}}")), good(&all));
    // Two behind each other, as `zcat a b` has them.
    let all = [expected, expected].concat();
    assert_eq!(read(&one_line.repeat(2)), good(&all));
    assert_eq!(
        read(r#"{"Records":[{}, 7]}"#),
        [("{}".into(), 1, String::new()), ("7".into(), 1, "JSON, but not an object".into())]
    );
}

#[test]
fn an_object_with_records_and_more_is_one_record() {
    for text in [r#"{"Records":[{}],"more":1}"#, r#"{"more":1,"Records":[{}]}"#] {
        assert_eq!(read(text), good(&[(text, 1)]));
        let over_two_lines = text.replacen(',', ",\n", 1);
        assert_eq!(read(&over_two_lines), good(&[(&over_two_lines, 1)]));
    }
    let envelope = r#"{"version":"0","detail":{"Records":[{}]}}"#;
    assert_eq!(read(envelope), good(&[(envelope, 1)]));
}

#[test]
fn an_array_gives_its_objects_however_it_stands() {
    let expected = [r#"{"a":1}"#, r#"{"b":[2]}"#, r#"{"c":3}"#];
    for array in [
        "[{\"a\":1},{\"b\":[2]},{\"c\":3}]",
        "[\n{\"a\":1},\n{\"b\":[2]},\n{\"c\":3}\n]\n",
        "\u{feff} [ {\"a\":1}\n, {\"b\":[2]}\n, {\"c\":3} ]",
        "[{\"a\":1}][{\"b\":[2]}]\n[]{\"c\":3}[\n]",
        "[[{\"a\":1},{\"b\":[2]}],[{\"c\":3}]]",
        "[{\"Records\":[{\"a\":1},{\"b\":[2]}]},{\"c\":3}]",
    ] {
        let found = read(array);
        assert!(found.iter().all(|(.., reason)| reason.is_empty()), "{array}: {found:?}");
        assert_eq!(found.iter().map(|(text, ..)| text.as_str()).collect::<Vec<_>>(), expected, "{array}");
    }
    let pretty = "[\n  {\n    \"a\": 1\n  },\n  {\n    \"b\": 2\n  }\n]\n";
    assert_eq!(read(pretty), good(&[("{\n    \"a\": 1\n  }", 2), ("{\n    \"b\": 2\n  }", 5)]));
}

#[test]
fn an_object_over_several_lines_is_one_record() {
    let expected = [("{\n \"a\" : [ 1,\n2 ] }", 1), (r#"{"b": 2}"#, 4)];
    assert_eq!(read("{\n \"a\" : [ 1,\n2 ] }\r\n{\"b\": 2}\n"), good(&expected));
}

#[test]
fn lines_that_are_not_objects_come_with_the_reason() {
    let found = read(
        "oops\n{\"a\":1}\n[1]\n{\"a\":\"cut\n{\"b\":2}\n2026-10-01 [x]\n{\"c\" 3}\n{} {}oops {}\n[{main}] {}\n\
         [[x]\n \"s\" \r\n[\n",
    );
    let expected = [
        ("oops", 1, "not JSON (column 1: expected a value)"),
        ("{\"a\":1}", 2, ""),
        ("[1]", 3, "JSON, but not an object"),
        ("{\"a\":\"cut", 4, "not JSON (column 10: expected the string's closing quote)"),
        ("{\"b\":2}", 5, ""),
        ("2026-10-01 [x]", 6, "not JSON (column 5: expected nothing more on this line)"),
        ("{\"c\" 3}", 7, "not JSON (column 6: expected ':')"),
        ("{}", 8, ""),
        ("{}", 8, ""),
        ("oops {}", 8, "not JSON (column 6: expected a value)"),
        ("[{main}] {}", 9, "not JSON (column 3: expected a key in quotes)"),
        ("[[x]", 10, "not JSON (column 3: expected a value)"),
        (" \"s\" \r", 11, "JSON, but not an object"),
        ("[", 12, "JSON that ends too early"),
    ];
    let expected = expected.map(|(text, line, fault)| (text.to_owned(), line, fault.to_owned()));
    assert_eq!(found, expected);
}

#[test]
fn a_line_cut_off_costs_no_other_line() {
    let cut_off = "JSON that ends too early";
    for cut in ["{\"a\":1", "{\"a\":1,", "{\"a\":", "{\"a\":[", "{", "{\"a\":{\"b\":[1"] {
        let found = read(&format!("{cut}\n{{\"b\":2}}\n{{\"Records\":[{{\"c\":3}}]}}\n{{\"d\":4}}\n"));
        let expected = [(cut, 1, cut_off), ("{\"b\":2}", 2, ""), ("{\"c\":3}", 3, ""), ("{\"d\":4}", 4, "")];
        let expected = expected.map(|(text, line, fault)| (text.to_owned(), line, fault.to_owned()));
        assert_eq!(found, expected, "{cut}");
    }
    // The same where the input ends inside the text.
    let found = read("{\"a\":[\n{\"Records\":[{\"c\":3}]}\n\n");
    assert_eq!(found, [("{\"a\":[".into(), 1, cut_off.into()), ("{\"c\":3}".into(), 2, String::new())]);
    // Documents that are cut, line by line: as many as there may be frames, and more.
    let found = read(&"{\"Records\":[{\"a\":1},{\"b\":\n".repeat(50));
    assert_eq!(found.iter().filter(|(text, _, reason)| text == "{\"a\":1}" && reason.is_empty()).count(), 50);
    assert_eq!(found.iter().filter(|(text, _, reason)| text == ",{\"b\":" && reason == cut_off).count(), 50);
}

#[test]
fn a_record_that_is_too_long_costs_no_other() {
    let long = format!("{{\"long\":[{}1]}}", "1,\n ".repeat(400));
    let too_long = "longer than --max-record";
    let element = |text: &str, line| (text.to_owned(), line, String::new());
    for (before, between, behind) in [("", "\n", "\n"), ("", "", ""), ("[", ",", "]"), ("{\"Records\":[", ", ", "]}")] {
        let text = format!("{before}{{\"a\":1}}{between}{long}{between}{{\"b\":2}}{behind}");
        for lengths in [vec![], vec![1; 5000], vec![700, 3, 90, 2000]] {
            let found = read_pieces_up_to(1000, text.as_bytes(), lengths).unwrap();
            let line = 1 + between.matches('\n').count() as u64;
            let expected = [
                element("{\"a\":1}", 1),
                (long.clone(), line, too_long.into()),
                element("{\"b\":2}", 401 + 2 * (line - 1)),
            ];
            assert_eq!(found, expected, "{before}");
        }
    }
    // One that never ends costs the lines up to the one where it cannot continue.
    let cut = format!("{{\"a\":[{}\n{{\"b\":2}}\n{{\"c\":3}}\n", "1,".repeat(600));
    let found = read_pieces_up_to(1000, cut.as_bytes(), vec![]).unwrap();
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!((found[0].2.as_str(), &found[1]), (too_long, &element("{\"c\":3}", 3)));
    // A document that is longer is opened; what is beside its records is left out.
    let more = format!("{{\"Records\":[{}{{\"a\":1}}],\"more\":1}}\n{{\"b\":2}}", "{\"a\":0},".repeat(200));
    let found = read_pieces_up_to(1000, more.as_bytes(), vec![]).unwrap();
    assert_eq!(found.iter().filter(|(.., reason)| reason.is_empty()).count(), 202, "{found:?}");
    assert_eq!(found.len(), 203);
}

#[test]
fn what_is_not_json_at_all_is_named() {
    let utf16: Vec<u8> = "\u{feff}{\"a\":1}\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (bytes, name) in [
        (utf16.clone(), "UTF-16LE"),
        (gzip(&utf16), "UTF-16LE"),
        (b"\xdd\0\0\0\x01\x80".to_vec(), "MessagePack"),
        (b"BZh91AY&SY".to_vec(), "compressed data (bzip2)"),
        (gzip(&gzip(&gzip(b"{}"))), "compressed data (gzip)"),
    ] {
        let error = read_pieces(&bytes, vec![1; 99]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("it is {name}, not JSON in UTF-8: ")), "{error}");
    }
}

#[test]
fn gzip_is_known_by_its_bytes_and_may_have_several_members() {
    let mut packed = gzip(b"{\"a\":1}\n{\"b\"");
    packed.extend(gzip(b":2}\n"));
    let found = read_pieces(&packed, vec![1]).unwrap();
    assert_eq!(found, good(&[("{\"a\":1}", 1), ("{\"b\":2}", 2)]));
    packed.truncate(packed.len() - 9);
    let error = read_pieces(&packed, Vec::new()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

/// Gives out its bytes, and then an error.
struct Broken<'a>(&'a [u8]);

impl Read for Broken<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::ErrorKind::ConnectionReset.into()),
            n => Ok(n),
        }
    }
}

/// What is given out before the error, and that nothing is behind it.
fn read_broken(text: &str) -> Vec<(String, u64, String)> {
    let mut records = Records::new(Broken(text.as_bytes()), MAX_RECORD).unwrap();
    let mut found = Vec::new();
    let error = loop {
        match records.next() {
            Ok(Some(Record { text, line, left_out, .. })) => {
                let reason = left_out.map(|reason| reason.to_string()).unwrap_or_default();
                found.push((String::from_utf8_lossy(text).into_owned(), line, reason));
            }
            Ok(None) => panic!("the error is missing after {found:?}"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert!(matches!(records.next(), Ok(None)));
    found
}

#[test]
fn what_was_read_before_a_source_breaks_off_is_given_out() {
    let cut_off = "JSON that ends too early".to_owned();
    for (text, whole, rest) in [
        ("{\"a\":1}\n{\"b\":2}\n", vec![("{\"a\":1}", 1), ("{\"b\":2}", 2)], None),
        ("{\"a\":1}\n{\"b\":2}", vec![("{\"a\":1}", 1), ("{\"b\":2}", 2)], None),
        ("{\"a\":1}\n{\"b\":", vec![("{\"a\":1}", 1)], Some(("{\"b\":", 2))),
        ("{\"a\":1}\n{\n\"b\":", vec![("{\"a\":1}", 1)], Some(("{", 2))),
        (
            r#"{"Records":[{"a":1}, {"b":[2]},{"c":"x"#,
            vec![(r#"{"a":1}"#, 1), (r#"{"b":[2]}"#, 1)],
            Some((r#"{"c":"x"#, 1)),
        ),
        (r#"{"Records":[{"a":1}, "#, vec![(r#"{"a":1}"#, 1)], Some(("", 1))),
        (r#"{"Records":[{"a":1},{"b":tru"#, vec![(r#"{"a":1}"#, 1)], None),
        (r#"{"Records":[{"a":1}]}"#, vec![(r#"{"a":1}"#, 1)], None),
        ("{\"Records\": [\n{ \"a\":1},\n {\"b\":\n", vec![("{ \"a\":1}", 2)], Some(("{\"b\":", 3))),
        ("{\"Records\": [\n{ \"a\":1},\n {\"b\":\"x", vec![("{ \"a\":1}", 2)], Some(("{\"b\":\"x", 3))),
    ] {
        let mut expected = good(&whole);
        expected.extend(rest.map(|(text, line)| (text.to_owned(), line, cut_off.clone())));
        let mut found = read_broken(text);
        // A text over several lines that is no document is judged line by line.
        found.truncate(expected.len());
        assert_eq!(found, expected, "{text}");
    }
    assert_eq!(read_broken("{\"a\":1"), [("{\"a\":1".to_owned(), 1, cut_off)]);
}

#[test]
fn a_gzipped_cloudtrail_file_that_is_cut_gives_its_whole_records() {
    let records: Vec<String> = (0..2000).map(|id| format!(r#"{{"eventID":"{id}","padding":{}}}"#, id * 7919)).collect();
    let packed = gzip(format!(r#"{{"Records":[{}]}}"#, records.join(",")).as_bytes());
    let mut reader = Records::new(&packed[..packed.len() / 2], MAX_RECORD).unwrap();
    let (mut found, mut cut) = (0, 0);
    let error = loop {
        match reader.next() {
            Ok(Some(Record { text, left_out: None, .. })) => {
                assert_eq!(str::from_utf8(text).unwrap(), records[found]);
                found += 1;
            }
            Ok(Some(_)) => cut += 1,
            Ok(None) => panic!("it is cut"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    assert!(found > 100 && found < 2000 && cut <= 1, "{found} records, {cut} cut");
}

#[test]
fn a_deeply_nested_line_is_a_record() {
    let text = format!("{{\"a\":{}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
    assert_eq!(read(&text), good(&[(&text, 1)]));
}

/// Bytes that are often nearly JSON, in every framing.
fn nearly_json() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => "\\{\"[ab]\":[0-9]{1,9}\\}".prop_map(String::into_bytes),
        2 => prop::sample::select(vec!["\n", "\r\n", ",", ", ", ";", "|", "\0", "\x1e", " ", "\n\n", "\u{feff}"]).prop_map(|text| text.as_bytes().to_vec()),
        4 => prop::sample::select(vec![
            "{\"Records\":[{\"a\":1},", "{\"Records\":[", "{\"records\": [\n", "{\"b\":2}]}\n", "]}", "]", "}", "[", "[{\"a\":[1]}", "{\n", "\"c\":[\n",
            "{\n  \"d\": {\n  }\n}", "{\"e\":\"a long text, and more of it, and more\"}", "{\"f\":[1,[2,{\"g\":3}],\"]}\"]}", "[1,{\"a\":2},\"x\"]", "[1, 2]",
            "\"text\"", "12", "-1.5e3", "true", "oops", "2026-10-01 [x] y", "{\"a\":\"\\u00", "{\"Records\":[{\"a\":1}],\"more\":2}", "{\"a\":", "[[", "[]", "\\",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..6),
    ];
    proptest::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

/// How many texts are left out for each reason, and the records' texts.
fn sum(found: &[(String, u64, String)]) -> ([u64; 4], Vec<String>) {
    let mut left_out = [0; 4];
    for (.., reason) in found.iter().filter(|(.., reason)| !reason.is_empty()) {
        let name = Reason::NAMES
            .iter()
            .rposition(|name| reason.starts_with(name) && (!name.starts_with("not JSON") || reason.contains('(')));
        left_out[name.expect("a reason")] += 1;
    }
    let records = found.iter().filter(|(.., reason)| reason.is_empty());
    (left_out, records.map(|(text, ..)| text.clone()).collect())
}

#[test]
fn one_object_on_a_line_is_told_from_several() {
    for line in [r#"{"a":1}"#, r#"{"a":{"b":[{"c":{}}]}}"#, r#"{"a" : { "b" : [ { "c": 1 } ] }}"#, "", "{"] {
        assert!(framing::holds_one_object(line.as_bytes()), "{line}");
    }
    for line in [
        r#"{"a":1}{"b":2}"#,
        r#"{"a":1} {"b":2}"#,
        r#"{"a":1},{"b":2}"#,
        r#"{"a":1}[{"b":2}]"#,
        r#"{"a":1}7{"b":2}"#,
        // What may be one.
        r#"{"a":[{"b":1},{"b":2}]}"#,
        r#"{"a":"{"}"#,
    ] {
        assert!(!framing::holds_one_object(line.as_bytes()), "{line}");
    }
}

/// Everything but separators and the frames of arrays and documents.
fn solid(text: &str) -> String {
    let text = text.replace("\u{ef}\u{bb}\u{bf}", "");
    let text = ["\"Records\":", "\"records\":"].iter().fold(text, |text, name| text.replace(name, ""));
    text.chars().filter(|char| !" \t\r\n{}[],;|\0\x1e".contains(*char)).collect()
}

fn latin(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn any_split_of_the_reads_gives_the_same_records(
        bytes in nearly_json(), lengths in proptest::collection::vec(1usize..9, 0..80), packed in any::<bool>(),
        max_record in prop_oneof![Just(MAX_RECORD), 1usize..60],
    ) {
        let bytes = if packed { gzip(&bytes) } else { bytes };
        let whole = read_pieces_up_to(max_record, &bytes, Vec::new());
        let pieces = read_pieces_up_to(max_record, &bytes, lengths);
        match (whole, pieces) {
            (Ok(whole), Ok(pieces)) => prop_assert_eq!(whole, pieces),
            (Err(whole), Err(pieces)) => prop_assert_eq!(whole.kind(), pieces.kind()),
            (whole, pieces) => prop_assert!(false, "{:?} and {:?}", whole, pieces),
        }
    }

    #[test]
    fn a_file_and_a_body_give_the_same(
        bytes in nearly_json(), lengths in proptest::collection::vec(1usize..9, 0..80),
        max_record in prop_oneof![Just(MAX_RECORD), 1usize..60],
    ) {
        let Ok(found) = read_pieces_up_to(max_record, &bytes, lengths) else { return Ok(()) };
        let (left_out, records) = sum(&found);
        let texts = |batch: &Batch| batch.candidates.iter().map(|place| latin(&bytes[place.clone()])).collect::<Vec<_>>();
        let batch = body::read(&bytes, max_record, |_, _| true);
        prop_assert_eq!((batch.left_out, texts(&batch)), (left_out, records.clone()));
        prop_assert_eq!(batch.records, records.len() as u64 + batch.too_long());
        // Lines that cannot match are not looked into, but no candidate is missed.
        use firstseen_engine::prefilter::Search;
        let batch = body::read(&bytes, max_record, |text, _| text.bytes().contains(&b'7'));
        let candidates: Vec<String> = records.into_iter().filter(|record| record.contains('7')).collect();
        prop_assert_eq!(texts(&batch), candidates);
    }

    #[test]
    fn a_line_that_seems_to_hold_one_object_holds_no_other(
        rest in nearly_json(), more in "([:,\"\\[{} 7]|:\\[|\\{\"x\":7\\}){0,8}", ends in any::<bool>(),
    ) {
        let mut line = [&b"{\"eventVersion\":\"1\""[..], if ends { &b"}"[..] } else { b"," }, more.as_bytes(), &rest].concat();
        line.retain(|byte| *byte != b'\n');
        let is_one = framing::holds_one_object(&line);
        let (mut framer, mut at, mut others) = (framing::Framer::new(MAX_RECORD), 0, 0);
        while let framing::Step::Piece(piece) = framer.next(&line, &mut at, true) {
            others += u64::from(piece.left_out.is_none() && piece.text.start > 0);
        }
        prop_assert!(!is_one || others == 0, "{}", latin(&line));
    }

    #[test]
    fn nothing_but_separators_and_frames_is_lost(bytes in nearly_json(), max_record in prop_oneof![Just(MAX_RECORD), 1usize..60]) {
        let Ok(found) = read_pieces_up_to(max_record, &bytes, Vec::new()) else { return Ok(()) };
        let texts: String = found.iter().map(|(text, ..)| text.as_str()).collect();
        prop_assert_eq!(solid(&texts), solid(&latin(&bytes)));
    }

    #[test]
    fn records_come_back_byte_for_byte(values in proptest::collection::vec("[ -~é]{0,12}", 1..8), lengths in proptest::collection::vec(1usize..9, 0..80)) {
        let lines: Vec<String> = values.iter().map(|value| serde_json::json!({ "v": value }).to_string()).collect();
        let expected: Vec<_> = lines.iter().enumerate().map(|(at, line)| (line.as_str(), at as u64 + 1)).collect();
        prop_assert_eq!(read(&lines.join("\n")), good(&expected));
        let expected: Vec<_> = lines.iter().map(|line| (latin(line.as_bytes()), 1, String::new())).collect();
        for text in [
            lines.concat(), lines.join(","), lines.join("\0"), format!("[{}]", lines.join(", ")),
            format!("{{\"Records\":[{}]}}", lines.join(",")), format!("{{\"Records\":[{}]}}", lines.join("]}{\"Records\":[")),
        ] {
            prop_assert_eq!(read_pieces(&gzip(text.as_bytes()), lengths.clone()).unwrap(), expected.clone());
        }
    }
}

/// How many inputs each property is tried with: `READER_CASES`, or some.
fn cases() -> u32 {
    std::env::var("READER_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(3000)
}
