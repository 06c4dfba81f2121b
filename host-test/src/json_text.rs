//! JSON as text: is it whole, where do its parts stand, and the same without whitespace. Nothing is decoded.
//!
//! In: bytes, a line at a time. Out: whether they are JSON so far, and what stands at the top. Bounds: one byte of memory
//! for each level of nesting; text need not be UTF-8. Not here: values, escapes (beyond their ends), which record is which.

use std::fmt;
use std::ops::Range;

/// Reads one JSON text line by line and says when it is whole. A string, number or literal stands on one line.
#[derive(Debug, Clone)]
pub struct Scanner {
    /// The brackets that are open, outermost first.
    open: Vec<u8>,
    expect: Expect,
    /// Bytes of the lines before this one.
    before: usize,
    top: Top,
}

/// What stands at the top of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Top {
    /// Whether it is an object.
    pub is_object: bool,
    /// How many keys the object has.
    pub keys: usize,
    /// Where the `[` of the array under the key `Records` stands, counted from the first byte of the first line.
    pub records: Option<usize>,
}

/// What may come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    Value,
    /// After `[`.
    ValueOrEnd,
    /// After a comma in an object.
    Key,
    /// After `{`.
    KeyOrEnd,
    Colon,
    CommaOrEnd,
    /// The text is whole.
    Nothing,
}

/// Why a line is not JSON, or not the continuation of the lines before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The byte of the line, counted from 1.
    pub column: usize,
    /// What was expected there.
    pub expected: &'static str,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}: expected {}", self.column, self.expected)
    }
}

impl Default for Scanner {
    fn default() -> Self {
        Scanner { open: Vec::new(), expect: Expect::Value, before: 0, top: Top::default() }
    }
}

impl Scanner {
    /// Starts a new text, with the memory of the last.
    pub fn restart(&mut self) {
        self.open.clear();
        self.expect = Expect::Value;
        self.before = 0;
        self.top = Top::default();
    }

    /// Reads the next line of the text, with or without its line end.
    ///
    /// # Errors
    /// The [`Fault`] that makes the line no JSON; the scanner is of no use until [`Scanner::restart`].
    pub fn line(&mut self, line: &[u8]) -> Result<(), Fault> {
        let end = self.read(line)?;
        if end < line.len() {
            return Err(fault(end, "nothing more on this line"));
        }
        self.before += line.len();
        Ok(())
    }

    /// Reads the value that the text begins with, over several lines if need be, and forgets what was read before; where it
    /// ends, or `None` if the text ends first.
    ///
    /// # Errors
    /// The [`Fault`] that makes it no JSON, with the text for the line.
    pub fn value_end(&mut self, text: &[u8]) -> Result<Option<usize>, Fault> {
        self.restart();
        let end = self.read(text)?;
        Ok(self.is_whole().then_some(end))
    }

    /// Reads on up to the end of the line, or to what comes behind the whole text; whitespace behind it is read too.
    fn read(&mut self, line: &[u8]) -> Result<usize, Fault> {
        let mut at = 0;
        while let Some(&byte) = line.get(at) {
            if is_whitespace(byte) {
                at += 1;
                continue;
            }
            match self.expect {
                Expect::Value => at = self.begin_value(line, at)?,
                Expect::ValueOrEnd if byte == b']' => at = self.close(at),
                Expect::ValueOrEnd => at = self.begin_value(line, at)?,
                Expect::KeyOrEnd if byte == b'}' => at = self.close(at),
                Expect::Key | Expect::KeyOrEnd => {
                    if byte != b'"' {
                        return Err(fault(at, "a key in quotes"));
                    }
                    let end = string_end(line, at)?;
                    if self.open.len() == 1 {
                        self.top.keys += 1;
                        self.top.records = None;
                        if &line[at..end] == b"\"Records\"" {
                            // Where its array begins is known when its value comes.
                            self.top.records = Some(usize::MAX);
                        }
                    }
                    self.expect = Expect::Colon;
                    at = end;
                }
                Expect::Colon => {
                    if byte != b':' {
                        return Err(fault(at, "':'"));
                    }
                    self.expect = Expect::Value;
                    at += 1;
                }
                Expect::CommaOrEnd => match (self.open.last(), byte) {
                    (Some(b'['), b',') => {
                        self.expect = Expect::Value;
                        at += 1;
                    }
                    (Some(_), b',') => {
                        self.expect = Expect::Key;
                        at += 1;
                    }
                    (Some(b'['), b']') | (Some(b'{'), b'}') => at = self.close(at),
                    (Some(b'['), _) => return Err(fault(at, "',' or ']'")),
                    _ => return Err(fault(at, "',' or '}'")),
                },
                Expect::Nothing => return Ok(at),
            }
        }
        Ok(at)
    }

    /// Whether the text is whole.
    pub fn is_whole(&self) -> bool {
        self.expect == Expect::Nothing
    }

    /// What stands at the top of the text, once it is whole.
    pub fn top(&self) -> Top {
        self.top
    }

    /// Reads the value that begins at `at`, or its opening bracket; where it ends.
    fn begin_value(&mut self, line: &[u8], at: usize) -> Result<usize, Fault> {
        let byte = line[at];
        if self.open.len() == 1 && self.top.records == Some(usize::MAX) {
            self.top.records = (byte == b'[').then_some(self.before + at);
        }
        match byte {
            b'{' => {
                self.top.is_object |= self.open.is_empty();
                self.open.push(byte);
                self.expect = Expect::KeyOrEnd;
                return Ok(at + 1);
            }
            b'[' => {
                self.open.push(byte);
                self.expect = Expect::ValueOrEnd;
                return Ok(at + 1);
            }
            _ => {}
        }
        let end = match byte {
            b'"' => string_end(line, at)?,
            b'-' | b'0'..=b'9' => number_end(line, at)?,
            _ => {
                let literal =
                    [b"true".as_slice(), b"false", b"null"].into_iter().find(|literal| line[at..].starts_with(literal));
                at + literal.ok_or_else(|| fault(at, "a value"))?.len()
            }
        };
        self.after_value();
        Ok(end)
    }

    fn close(&mut self, at: usize) -> usize {
        self.open.pop();
        self.after_value();
        at + 1
    }

    fn after_value(&mut self) {
        self.expect = match self.open.is_empty() {
            true => Expect::Nothing,
            false => Expect::CommaOrEnd,
        };
    }
}

fn fault(at: usize, expected: &'static str) -> Fault {
    Fault { column: at + 1, expected }
}

/// JSON's four whitespace bytes.
pub fn is_whitespace(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// How many bytes come before the first that reading a string has to stop at: its end, an escape, and control characters,
/// which JSON forbids there. Eight at a time, for strings are most of what is read.
fn plain_len(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    // Sets the high bit of each byte below `limit`; bytes behind the first such one may be wrong, which does not matter.
    let below = |word: u64, limit: u8| word.wrapping_sub(ONES * u64::from(limit)) & !word & HIGH;
    let is = |word: u64, byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    let (words, rest) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let stops = below(word, 0x20) | is(word, b'"') | is(word, b'\\');
        if stops != 0 {
            return 8 * at + stops.trailing_zeros() as usize / 8;
        }
    }
    let plain = rest.iter().take_while(|&&byte| byte >= 0x20 && byte != b'"' && byte != b'\\').count();
    bytes.len() - rest.len() + plain
}

/// Where the string that begins at `start` ends, its closing quote included.
fn string_end(line: &[u8], start: usize) -> Result<usize, Fault> {
    let mut at = start + 1;
    loop {
        at += plain_len(&line[at..]);
        match line.get(at) {
            None => return Err(fault(at, "the string's closing quote")),
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => match line.get(at + 1) {
                Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => at += 2,
                Some(b'u')
                    if line.get(at + 2..at + 6).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) =>
                {
                    at += 6;
                }
                _ => return Err(fault(at, "an escape that JSON knows")),
            },
            Some(b'\n' | b'\r') => return Err(fault(at, "the string's closing quote")),
            Some(_) => return Err(fault(at, "no control character inside a string")),
        }
    }
}

/// Where the number that begins at `start` ends.
fn number_end(line: &[u8], start: usize) -> Result<usize, Fault> {
    let digits = |from: usize| {
        let rest = line.get(from..).unwrap_or_default();
        rest.iter().take_while(|byte| byte.is_ascii_digit()).count()
    };
    let mut at = start;
    if line[at] == b'-' {
        at += 1;
    }
    at += match (line.get(at), digits(at)) {
        (_, 0) => return Err(fault(at, "a digit")),
        (Some(b'0'), _) => 1,
        (_, count) => count,
    };
    if line.get(at) == Some(&b'.') {
        match digits(at + 1) {
            0 => return Err(fault(at + 1, "a digit")),
            count => at += 1 + count,
        }
    }
    if let Some(b'e' | b'E') = line.get(at) {
        at += 1;
        if let Some(b'+' | b'-') = line.get(at) {
            at += 1;
        }
        match digits(at) {
            0 => return Err(fault(at, "a digit")),
            count => at += count,
        }
    }
    Ok(at)
}

/// Appends the text without the whitespace between its tokens. The text must be whole JSON.
pub fn compact(text: &[u8], out: &mut Vec<u8>) {
    // What is copied next begins at `from`.
    let (mut from, mut at) = (0, 0);
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' => at = string_end(text, at).unwrap_or(text.len()),
            _ if is_whitespace(byte) => {
                out.extend_from_slice(&text[from..at]);
                at += text[at..].iter().take_while(|&&byte| is_whitespace(byte)).count();
                from = at;
            }
            _ => at += 1,
        }
    }
    out.extend_from_slice(&text[from..]);
}

/// One element of an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// Where it stands.
    pub range: Range<usize>,
    /// Whether there is no whitespace between its tokens: [`compact`] would change nothing.
    pub is_compact: bool,
}

/// The next element of an array of whole JSON. `at` stands behind the array's `[` at first, and behind the element after.
pub fn next_element(text: &[u8], at: &mut usize) -> Option<Element> {
    let skipped = text.get(*at..)?.iter();
    let start = *at + skipped.take_while(|&&byte| is_whitespace(byte) || byte == b',').count();
    let mut end = start;
    let mut depth = 0usize;
    let mut is_compact = true;
    loop {
        match *text.get(end)? {
            b'"' => end = string_end(text, end).ok()?,
            b'{' | b'[' => {
                depth += 1;
                end += 1;
            }
            b'}' | b']' if depth == 0 => break,
            b'}' | b']' => {
                depth -= 1;
                end += 1;
            }
            byte if depth == 0 && (byte == b',' || is_whitespace(byte)) => break,
            byte => {
                is_compact &= !is_whitespace(byte);
                end += 1;
            }
        }
    }
    *at = end;
    (end > start).then_some(Element { range: start..end, is_compact })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scan(text: &[u8]) -> Result<bool, Fault> {
        let mut scanner = Scanner::default();
        for line in text.split_inclusive(|&byte| byte == b'\n') {
            scanner.line(line)?;
        }
        Ok(scanner.is_whole())
    }

    #[test]
    fn whole_incomplete_and_faulty_texts_are_told_apart() {
        for text in [
            r#"{"a":1}"#,
            " [ ] ",
            "\"x\"",
            "-0.5e+10",
            "{\n\"a\":\n[1,\n2]\n}",
            r#"{"a":{"b":[{},[],"\u00e9\"",true,false,null]}}"#,
        ] {
            assert_eq!(scan(text.as_bytes()), Ok(true), "{text}");
        }
        for text in ["", "{", r#"{"a""#, r#"{"a":"#, r#"{"a":1,"#, "[[]"] {
            assert_eq!(scan(text.as_bytes()), Ok(false), "{text}");
        }
        for (text, column, expected) in [
            ("x", 1, "a value"),
            ("{a:1}", 2, "a key in quotes"),
            ("{\"a\",1}", 5, "':'"),
            ("{\"a\":1]", 7, "',' or '}'"),
            ("[1}", 3, "',' or ']'"),
            ("[1,]", 4, "a value"),
            ("{} {}", 4, "nothing more on this line"),
            ("[01]", 3, "',' or ']'"),
            ("[1.]", 4, "a digit"),
            ("[\"a", 4, "the string's closing quote"),
            ("[\"a\tb\"]", 4, "no control character inside a string"),
            ("[\"\\x\"]", 3, "an escape that JSON knows"),
            ("[\"\\u12\"]", 3, "an escape that JSON knows"),
            ("truf", 1, "a value"),
        ] {
            assert_eq!(scan(text.as_bytes()), Err(Fault { column, expected }), "{text}");
        }
    }

    #[test]
    fn the_top_tells_a_records_document() {
        let top = |text: &str| {
            let mut scanner = Scanner::default();
            scanner.line(text.as_bytes()).unwrap();
            scanner.top()
        };
        let found = top(r#"{ "Records" : [{"Records":1}]}"#);
        assert_eq!((found.keys, found.records), (1, Some(14)));
        assert!(found.is_object);
        assert_eq!(top(r#"{"Records":{}}"#).records, None);
        assert_eq!(top(r#"{"a":{"Records":[]}}"#).records, None);
        assert_eq!(top(r#"{"Records":[],"a":1}"#).keys, 2);
        assert!(!top("[{}]").is_object);
    }

    #[test]
    fn elements_of_an_array_are_found_whatever_they_are() {
        let text = br#" [ {"a":"]}"} ,[1,2], "x,y" ,3,true ] "#;
        let mut at = 2;
        let mut found = Vec::new();
        while let Some(element) = next_element(text, &mut at) {
            assert!(element.is_compact);
            found.push(str::from_utf8(&text[element.range]).unwrap());
        }
        assert_eq!(found, [r#"{"a":"]}"}"#, "[1,2]", r#""x,y""#, "3", "true"]);
    }

    #[test]
    fn an_element_is_compact_if_nothing_stands_between_its_tokens() {
        for (text, is_compact) in
            [("{\"a b\":\"c\"}\n", true), ("{\"a\": 1}", false), ("{\n\"a\":1}", false), ("{\"a\":1\t}", false)]
        {
            let element = next_element(format!("{text},").as_bytes(), &mut 0);
            let whole = text.trim_end().len();
            assert_eq!(element, Some(Element { range: 0..whole, is_compact }), "{text}");
        }
    }

    #[test]
    fn a_string_ends_where_it_ends_wherever_that_is() {
        // Every byte at every place of a word, with and without what looks like a stop behind it.
        for len in 0..20 {
            for byte in 0..=u8::MAX {
                for behind in [b"\"\"\"\"\"\"\"\"\"".as_slice(), b"\x1f\x1f\x1f\x1f\x1f\x1f\x1f\x1f", b"aaaaaaaa", b""]
                {
                    let text = [b"\xe9 ~".repeat(7)[..len].to_vec(), vec![byte], behind.to_vec()].concat();
                    let is_stop = |byte: &u8| *byte < 0x20 || matches!(*byte, b'"' | b'\\');
                    let first = text.iter().position(is_stop).unwrap_or(text.len());
                    assert_eq!(plain_len(&text), first, "{text:x?}");
                }
            }
        }
    }

    /// Any JSON value, small.
    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i32>().prop_map(Into::into),
            any::<f32>().prop_map(|number| serde_json::json!(number)),
            "[ -~\\n\\té]{0,8}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                proptest::collection::vec(("[a-c ]{0,2}", inner), 0..4)
                    .prop_map(|pairs| serde_json::Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn pretty_json_is_whole_and_compacts_to_compact_json(value in json()) {
            let pretty = serde_json::to_vec_pretty(&value).unwrap();
            prop_assert_eq!(scan(&pretty), Ok(true));
            let mut compacted = Vec::new();
            compact(&pretty, &mut compacted);
            prop_assert_eq!(compacted, serde_json::to_vec(&value).unwrap());
        }

        #[test]
        fn a_cut_or_changed_text_is_judged_as_serde_json_judges_it(
            value in json(), cut in any::<prop::sample::Index>(), byte in any::<u8>(), replace in any::<bool>(),
        ) {
            let mut text = serde_json::to_vec(&value).unwrap();
            let at = cut.index(text.len());
            if replace { text[at] = byte } else { text.truncate(at) }
            // Only UTF-8 text can be compared; the scanner accepts other bytes in strings.
            if str::from_utf8(&text).is_ok() && !text.contains(&b'\n') {
                let whole = serde_json::from_slice::<serde::de::IgnoredAny>(&text).is_ok();
                prop_assert_eq!(scan(&text) == Ok(true), whole, "{}", String::from_utf8_lossy(&text));
            }
        }

        #[test]
        fn garbage_never_panics(text in proptest::collection::vec(
            prop_oneof![Just(b'"'), Just(b'{'), Just(b'}'), Just(b'['), Just(b']'), Just(b','), Just(b':'),
                Just(b'\\'), Just(b'\n'), Just(b'1'), Just(b'-'), Just(b'.'), any::<u8>()], 0..40)) {
            let _ = scan(&text);
            compact(&text, &mut Vec::new());
            let mut at = 0;
            while next_element(&text, &mut at).is_some() {}
        }
    }
}
