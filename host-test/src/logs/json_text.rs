//! JSON as text: where a text ends, what stands at its top, and the text without whitespace. Nothing is
//! decoded.
//!
//! In: bytes, as they come. Out: whether they are JSON so far, and where the text ends. Bounds: one byte of
//! memory for each level of nesting, which is bounded; text need not be UTF-8. Not here: values, escapes
//! (beyond their ends), which record is which.

use std::fmt;
use std::ops::Range;

/// Reads one JSON text as it comes, and says where it ends.
#[derive(Debug, Clone)]
pub struct Scanner {
    /// The brackets that are open, outermost first.
    open: Vec<u8>,
    expect: Expect,
    /// How deep brackets may nest.
    most_open: usize,
    top: Top,
    lines: u64,
    /// Where the object in the array under `Records` begins that was begun last.
    element: usize,
    elements: Vec<Range<usize>>,
}

/// How many objects in the array under `Records` are remembered, so that they need not be read again.
const MOST_ELEMENTS: usize = 1 << 16;

/// What stands at the top of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Top {
    /// Whether it is an object.
    pub is_object: bool,
    /// How many keys the object has.
    pub keys: usize,
    /// Where the `[` of the array under the last key stands, if that key is `Records` or `records`.
    pub records: Option<usize>,
    /// Whether it is an array with an object among its elements.
    pub holds_object: bool,
}

/// How far a text was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan {
    /// It is whole, and ends before this byte.
    Whole(usize),
    /// It is not whole yet: reading continues at this byte once there is more.
    Incomplete(usize),
    /// It is no JSON.
    Fault(Fault),
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
    /// The rest of a string; of a key, with where that begins.
    RestOfString,
    RestOfKey(usize),
    /// The text is whole.
    Nothing,
}

/// Why a text is not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The byte of the text or of its line, counted from 1.
    pub column: usize,
    /// What was expected there.
    pub expected: &'static str,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}: expected {}", self.column, self.expected)
    }
}

/// The longest number that is read, so that one that never ends is not read again and again.
const LONGEST_NUMBER: usize = 1 << 16;

impl Scanner {
    /// A scanner of texts whose brackets nest at most so deep.
    pub fn new(most_open: usize) -> Scanner {
        Scanner {
            open: Vec::new(),
            expect: Expect::Value,
            most_open,
            top: Top::default(),
            lines: 0,
            element: 0,
            elements: Vec::new(),
        }
    }

    /// Starts a new text, with the memory of the last.
    pub fn restart(&mut self) {
        self.open.clear();
        self.expect = Expect::Value;
        self.top = Top::default();
        self.lines = 0;
        self.elements.clear();
    }

    /// Stands behind a text that is known to be a whole object, with its lines; nothing is known of its keys.
    pub fn stand_behind_object(&mut self, lines: u64) {
        self.restart();
        self.expect = Expect::Nothing;
        self.top.is_object = true;
        self.lines = lines;
    }

    /// Where objects stand in the array under the only key so far, if that is `Records` or `records`; the
    /// first ones, if they are many.
    pub fn elements(&self) -> &[Range<usize>] {
        &self.elements
    }

    /// Reads on from the byte that [`Scan::Incomplete`] named, or from 0 at first. `is_last` says that
    /// nothing follows.
    pub fn resume(&mut self, text: &[u8], from: usize, is_last: bool) -> Scan {
        match self.read(text, from, is_last) {
            Ok(scan) => scan,
            Err(fault) => Scan::Fault(fault),
        }
    }

    /// How many lines ended inside the text so far.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// What stands at the top of the part that was read.
    pub fn top(&self) -> Top {
        self.top
    }

    fn read(&mut self, text: &[u8], from: usize, is_last: bool) -> Result<Scan, Fault> {
        let mut at = from;
        loop {
            if self.expect == Expect::Nothing {
                return Ok(Scan::Whole(at));
            }
            if let Expect::RestOfString | Expect::RestOfKey(_) = self.expect {
                let (end, is_whole) = string_rest(text, at)?;
                at = end;
                if !is_whole {
                    return Ok(Scan::Incomplete(at));
                }
                match self.expect {
                    Expect::RestOfKey(start) => self.after_key(text.get(start..at).unwrap_or_default()),
                    _ => self.after_value(),
                }
                continue;
            }
            let Some(&byte) = text.get(at) else { return Ok(Scan::Incomplete(at)) };
            if is_whitespace(byte) {
                self.lines += u64::from(byte == b'\n');
                at += 1;
                continue;
            }
            match self.expect {
                Expect::ValueOrEnd if byte == b']' => at = self.close(at),
                Expect::Value | Expect::ValueOrEnd => match self.begin_value(text, at, is_last)? {
                    Some(end) => at = end,
                    None => return Ok(Scan::Incomplete(at)),
                },
                Expect::KeyOrEnd if byte == b'}' => at = self.close(at),
                Expect::Key | Expect::KeyOrEnd => {
                    if byte != b'"' {
                        return Err(fault(at, "a key in quotes"));
                    }
                    self.expect = Expect::RestOfKey(at);
                    at += 1;
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
                Expect::RestOfString | Expect::RestOfKey(_) | Expect::Nothing => {}
            }
        }
    }

    /// Reads the value that begins at `at`, or its opening bracket or quote; where reading continues, or
    /// `None` if more must come first.
    fn begin_value(&mut self, text: &[u8], at: usize, is_last: bool) -> Result<Option<usize>, Fault> {
        let byte = text[at];
        if self.open.len() == 1 {
            if self.top.records == Some(usize::MAX) {
                self.top.records = (byte == b'[').then_some(at);
            }
            self.top.holds_object |= byte == b'{' && !self.top.is_object;
        }
        match byte {
            b'{' | b'[' => {
                if self.open.len() >= self.most_open {
                    return Err(fault(at, "brackets that are not nested deeper than a record may be long"));
                }
                self.top.is_object |= byte == b'{' && self.open.is_empty();
                if self.open.len() == 2 {
                    self.element = at;
                }
                self.open.push(byte);
                self.expect = if byte == b'{' { Expect::KeyOrEnd } else { Expect::ValueOrEnd };
                return Ok(Some(at + 1));
            }
            b'"' => {
                self.expect = Expect::RestOfString;
                return Ok(Some(at + 1));
            }
            b'-' | b'0'..=b'9' => {
                let length = text[at..].iter().take_while(|byte| is_of_number(**byte)).count();
                if length > LONGEST_NUMBER {
                    return Err(fault(at, "a number of at most 65,536 bytes"));
                }
                if at + length == text.len() && !is_last {
                    return Ok(None);
                }
                let end = number_end(text, at)?;
                self.after_value();
                return Ok(Some(end));
            }
            _ => {}
        }
        let rest = &text[at..];
        for literal in [b"true".as_slice(), b"false", b"null"] {
            if rest.starts_with(literal) {
                self.after_value();
                return Ok(Some(at + literal.len()));
            }
            if literal.starts_with(rest) && !is_last {
                return Ok(None);
            }
        }
        Err(fault(at, "a value"))
    }

    fn after_key(&mut self, key: &[u8]) {
        if self.open.len() == 1 {
            self.top.keys += 1;
            // Where its array begins is known when its value comes.
            self.top.records = matches!(key, b"\"Records\"" | b"\"records\"").then_some(usize::MAX);
        }
        self.expect = Expect::Colon;
    }

    fn close(&mut self, at: usize) -> usize {
        let closed = self.open.pop();
        let is_element = self.open.len() == 2 && closed == Some(b'{') && self.top.records.is_some();
        if is_element && self.top.keys == 1 && self.elements.len() < MOST_ELEMENTS {
            self.elements.push(self.element..at + 1);
        }
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

fn is_of_number(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')
}

/// How many bytes come before the first that reading a string has to stop at: its end, an escape, and control
/// characters, which JSON forbids there. Eight at a time, for strings are most of what is read.
fn plain_len(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    // Sets the high bit of each byte below `limit`; bytes behind the first such one may be wrong, which does
    // not matter.
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

/// Reads a string on from a byte behind its opening quote: where it ends, or how far it was read if it is not
/// whole.
fn string_rest(text: &[u8], from: usize) -> Result<(usize, bool), Fault> {
    let mut at = from;
    loop {
        at += plain_len(&text[at..]);
        match text.get(at) {
            None => return Ok((at, false)),
            Some(b'"') => return Ok((at + 1, true)),
            Some(b'\\') => match text.get(at + 1) {
                Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => at += 2,
                Some(b'u') => {
                    let digits = text[at + 2..].iter().take(4).take_while(|digit| digit.is_ascii_hexdigit()).count();
                    match text.get(at + 2 + digits) {
                        _ if digits == 4 => at += 6,
                        None => return Ok((at, false)),
                        Some(_) => return Err(fault(at, "an escape that JSON knows")),
                    }
                }
                None => return Ok((at, false)),
                Some(_) => return Err(fault(at, "an escape that JSON knows")),
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
            b'"' => at = string_rest(text, at + 1).map_or(text.len(), |(end, _)| end),
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Whether the text is whole, with nothing but white space behind it.
    fn scan(text: &[u8]) -> Result<bool, Fault> {
        match Scanner::new(usize::MAX).resume(text, 0, true) {
            Scan::Whole(end) => Ok(text[end..].iter().all(|byte| is_whitespace(*byte))),
            Scan::Incomplete(_) => Ok(false),
            Scan::Fault(fault) => Err(fault),
        }
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
        for text in ["", "{", r#"{"a""#, r#"{"a":"#, r#"{"a":1,"#, "[[]", "[\"a", "[\"a\\", "[\"a\\u00", "{} {}"] {
            assert_eq!(scan(text.as_bytes()), Ok(false), "{text}");
        }
        for (text, column, expected) in [
            ("x", 1, "a value"),
            ("{a:1}", 2, "a key in quotes"),
            ("{\"a\",1}", 5, "':'"),
            ("{\"a\":1]", 7, "',' or '}'"),
            ("[1}", 3, "',' or ']'"),
            ("[1,]", 4, "a value"),
            ("[01]", 3, "',' or ']'"),
            ("[1.]", 4, "a digit"),
            ("[\"a\n\"]", 4, "the string's closing quote"),
            ("[\"a\tb\"]", 4, "no control character inside a string"),
            ("[[[[", 4, "brackets that are not nested deeper than a record may be long"),
            ("[\"\\x\"]", 3, "an escape that JSON knows"),
            ("[\"\\u12\"]", 3, "an escape that JSON knows"),
            ("truf", 1, "a value"),
        ] {
            let found = Scanner::new(3).resume(text.as_bytes(), 0, true);
            assert_eq!(found, Scan::Fault(Fault { column, expected }), "{text}");
        }
    }

    #[test]
    fn the_top_tells_a_records_document() {
        let top = |text: &str| {
            let mut scanner = Scanner::new(9);
            assert_eq!(scanner.resume(text.as_bytes(), 0, true), Scan::Whole(text.len()));
            scanner.top()
        };
        let found = top(r#"{ "Records" : [{"Records":1}]}"#);
        assert_eq!((found.keys, found.records), (1, Some(14)));
        assert!(found.is_object);
        assert_eq!(top(r#"{"Records":{}}"#).records, None);
        assert_eq!(top(r#"{"a":{"Records":[]}}"#).records, None);
        assert_eq!(top(r#"{"Records":[],"a":1}"#).keys, 2);
        assert_eq!(top(r#"{"records":[]}"#).records, Some(11));
        let mut scanner = Scanner::new(9);
        scanner.resume(br#"{"Records":[{}, 1,[{}], {"a":[{}]}],"more":[{}]}"#, 0, true);
        assert_eq!(scanner.elements(), [12..14, 24..34]);
        assert!(!top("[{}]").is_object && top("[1,{}]").holds_object && !top("[1,[{}]]").holds_object);
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
        }

        #[test]
        fn a_text_that_comes_in_parts_is_read_as_if_it_came_at_once(
            value in json(), pretty in any::<bool>(), change in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
            parts in proptest::collection::vec(1usize..9, 0..200),
        ) {
            let mut text = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.unwrap();
            if let Some((at, byte)) = change {
                let at = at.index(text.len());
                text[at] = byte;
            }
            let mut whole = Scanner::new(usize::MAX);
            let at_once = whole.resume(&text, 0, true);
            let (mut scanner, mut end, mut from) = (Scanner::new(usize::MAX), 0, 0);
            let mut in_parts = Scan::Incomplete(0);
            for part in parts.into_iter().chain([text.len()]) {
                end = (end + part).min(text.len());
                in_parts = scanner.resume(&text[..end], from, end == text.len());
                let Scan::Incomplete(at) = in_parts else { break };
                from = at;
            }
            prop_assert_eq!(in_parts, at_once);
            prop_assert_eq!((scanner.top(), scanner.lines()), (whole.top(), whole.lines()));
        }
    }
}
