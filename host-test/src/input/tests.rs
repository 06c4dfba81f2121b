//! Records out of every shape of input, and out of input that has none.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;

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

/// All records: text, line, and the fault in words.
fn read_pieces(bytes: &[u8], lengths: Vec<usize>) -> io::Result<Vec<(String, u64, String)>> {
    let mut records = Records::new(Pieces { bytes, lengths, next: 0 })?;
    let mut found = Vec::new();
    while let Some(record) = records.next()? {
        found.push((
            String::from_utf8_lossy(record.text).into_owned(),
            record.line,
            record.fault.map(|fault| fault.to_string()).unwrap_or_default(),
        ));
    }
    Ok(found)
}

fn read(text: &str) -> Vec<(String, u64, String)> {
    read_pieces(text.as_bytes(), Vec::new()).unwrap()
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
fn lines_are_records_byte_for_byte_and_blank_lines_are_left_out() {
    let text = "{\"a\": 1}\n\n  {\"b\":\"é\\n\"} \r\n \t\r\n{\"c\":{}}";
    assert_eq!(read(text), good(&[("{\"a\": 1}", 1), ("  {\"b\":\"é\\n\"} \r", 3), ("{\"c\":{}}", 5)]));
    assert_eq!(read(""), []);
    assert_eq!(read("{"), [("{".into(), 1, "JSON that ends too early".into())]);
    assert_eq!(read("\u{feff}{}\n{}\n"), good(&[("{}", 1), ("{}", 2)]));
}

#[test]
fn a_cloudtrail_file_gives_its_records_compacted() {
    let one_line = r#"{"Records":[{"a": "x y"},{"b":[1, {}]}]}"#;
    let expected = [(r#"{"a":"x y"}"#, 1), (r#"{"b":[1,{}]}"#, 1)];
    assert_eq!(read(one_line), good(&expected));
    let pretty = "{\n  \"Records\": [\n    {\n      \"a\": \"x y\"\n    },\n    {\"b\": [1,\n {}]}\n  ]\n}\n";
    assert_eq!(read(pretty), good(&expected));
    assert_eq!(read(r#"{"Records":[]}"#), []);
    assert_eq!(
        read(&format!("{one_line}\n{pretty}{{}}")),
        good(&[expected[0], expected[1], (expected[0].0, 2), (expected[1].0, 2), ("{}", 11)])
    );
    assert_eq!(
        read(r#"{"Records":[{}, 7]}"#),
        [("{}".into(), 1, String::new()), ("7".into(), 1, "JSON, but not an object".into())]
    );
}

#[test]
fn an_object_with_records_and_more_is_one_record() {
    for text in [r#"{"Records":[{}],"more":1}"#, r#"{"more":1,"Records":[{}]}"#] {
        assert_eq!(read(text), good(&[(text, 1)]));
        // The same over two lines.
        assert_eq!(read(&text.replacen(',', ",\n", 1)), good(&[(text, 1)]));
    }
    let envelope = r#"{"version":"0","detail":{"Records":[{}]}}"#;
    assert_eq!(read(envelope), good(&[(envelope, 1)]));
}

#[test]
fn an_object_over_several_lines_is_one_compact_record() {
    assert_eq!(read("{\n \"a\" : [ 1,\n2 ] }\r\n{\"b\": 2}\n"), good(&[(r#"{"a":[1,2]}"#, 1), (r#"{"b": 2}"#, 4)]));
}

#[test]
fn lines_that_are_no_object_come_with_the_reason() {
    let found = read("oops\n{\"a\":1}\n[1]\n{\"a\":\"cut\n{\"b\":2}\n[\n{\"c\" 3}\n{} {}\n");
    let expected = [
        ("oops", 1, "not JSON (column 1: expected a value)"),
        ("{\"a\":1}", 2, ""),
        ("[1]", 3, "JSON, but not an object"),
        ("{\"a\":\"cut", 4, "not JSON (column 10: expected the string's closing quote)"),
        ("{\"b\":2}", 5, ""),
        ("[", 6, "JSON that ends too early"),
        ("{\"c\" 3}", 7, "not JSON (column 6: expected ':')"),
        ("{} {}", 8, "not JSON (column 4: expected nothing more on this line)"),
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
    let mut records = Records::new(Broken(text.as_bytes())).unwrap();
    let mut found = Vec::new();
    let error = loop {
        match records.next() {
            Ok(Some(Record { text, line, fault })) => {
                let fault = fault.map(|fault| fault.to_string()).unwrap_or_default();
                found.push((String::from_utf8_lossy(text).into_owned(), line, fault));
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
        (r#"{"Records":[{"a":1}, "#, vec![(r#"{"a":1}"#, 1)], None),
        (r#"{"Records":[{"a":1},{"b":tru"#, vec![(r#"{"a":1}"#, 1)], Some((r#"{"b":tru"#, 1))),
        (r#"{"Records":[{"a":1}]}"#, vec![(r#"{"a":1}"#, 1)], None),
        ("{\"Records\": [\n{ \"a\":1},\n {\"b\":\n", vec![("{\"a\":1}", 1)], Some(("{\"b\":", 1))),
        ("{\"Records\": [\n{ \"a\":1},\n {\"b\":\"x", vec![("{\"a\":1}", 1)], Some(("{\"b\":\"x", 1))),
        (r#"{"Records":[{"a" 1},{"b":2}"#, vec![], Some((r#"{"a" 1},{"b":2}"#, 1))),
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
    let mut reader = Records::new(&packed[..packed.len() / 2]).unwrap();
    let (mut found, mut cut) = (0, 0);
    let error = loop {
        match reader.next() {
            Ok(Some(Record { text, fault: None, .. })) => {
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

/// Bytes that are often nearly JSON.
fn nearly_json() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"{\"a\":1}\n".to_vec()),
        Just(b"{\"Records\":[{\"a\":1},".to_vec()),
        Just(b"{\"b\":2}]}\n".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"{\n".to_vec()),
        Just(b"\"c\":[\n".to_vec()),
        Just(b"]}".to_vec()),
        Just(b"\x1f\x8b".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..6),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_split_of_the_reads_gives_the_same_records(
        bytes in nearly_json(), lengths in proptest::collection::vec(1usize..9, 0..40), packed in any::<bool>(),
    ) {
        let bytes = if packed { gzip(&bytes) } else { bytes };
        let whole = read_pieces(&bytes, Vec::new());
        let pieces = read_pieces(&bytes, lengths);
        match (whole, pieces) {
            (Ok(whole), Ok(pieces)) => prop_assert_eq!(whole, pieces),
            (Err(whole), Err(pieces)) => prop_assert_eq!(whole.kind(), pieces.kind()),
            (whole, pieces) => prop_assert!(false, "{:?} and {:?}", whole, pieces),
        }
    }

    #[test]
    fn nothing_but_whitespace_and_the_frame_of_a_document_is_lost(bytes in nearly_json()) {
        prop_assume!(!bytes.starts_with(&GZIP));
        let solid = |text: &[u8]| -> Vec<u8> {
            // The frame of a document and the commas between its records.
            let text = String::from_utf8_lossy(text).replace("\"Records\":", "");
            text.bytes().filter(|byte| !b" \t\r\n{}[],".contains(byte)).collect()
        };
        let found = read_pieces(&bytes, Vec::new()).unwrap();
        let texts: String = found.iter().map(|(text, ..)| text.as_str()).collect();
        prop_assert_eq!(solid(texts.as_bytes()), solid(&bytes));
    }

    #[test]
    fn records_on_lines_come_back_byte_for_byte(values in proptest::collection::vec("[ -~é]{0,12}", 1..8)) {
        let lines: Vec<String> = values.iter().map(|value| serde_json::json!({ "v": value }).to_string()).collect();
        let text = lines.join("\n");
        let expected: Vec<_> = lines.iter().enumerate().map(|(at, line)| (line.as_str(), at as u64 + 1)).collect();
        prop_assert_eq!(read(&text), good(&expected));
        // The same as a CloudTrail file, packed.
        let document = format!("{{\"Records\":[{}]}}", lines.join(","));
        let expected: Vec<_> = lines.iter().map(|line| (line.as_str(), 1)).collect();
        prop_assert_eq!(read_pieces(&gzip(document.as_bytes()), vec![3]).unwrap(), good(&expected));
    }
}
