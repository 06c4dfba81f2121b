//! JSON text, value by value, without building anything.
//!
//! In: text. Out: the text of each value, member and element, borrowed; and whether it is JSON at all (RFC 8259, exactly what
//! `serde_json` accepts, which the tests hold it to). Bounds: no recursion, whatever the text nests; one bit of memory a
//! level. Not here: what a value means ([`super::value`]).
//!
//! Why not `serde_json` for reading: its errors print floating-point numbers, and with that come 60 KB of code, of the 150
//! that the module may take. What it writes, and what the tests compare with, is `serde_json`'s.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

/// The text is not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotJson;

/// A place in JSON text.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

/// What a value is, by its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Object,
    Array,
    Text,
    Other,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(text: &'a str) -> Cursor<'a> {
        Cursor { text, at: 0 }
    }

    /// What the value ahead begins as.
    pub(crate) fn kind(&mut self) -> Kind {
        match self.peek() {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            Some(b'"') => Kind::Text,
            _ => Kind::Other,
        }
    }

    /// Goes past the value ahead, and gives its text.
    pub(crate) fn value(&mut self) -> Result<&'a str, NotJson> {
        self.peek();
        let start = self.at;
        let mut open = Brackets::default();
        loop {
            match self.next()? {
                b'{' => {
                    if self.peek() != Some(b'}') {
                        open.push(Bracket::Object);
                        self.key()?;
                        continue;
                    }
                    self.at += 1;
                }
                b'[' => {
                    if self.peek() != Some(b']') {
                        open.push(Bracket::Array);
                        continue;
                    }
                    self.at += 1;
                }
                first => self.scalar(first)?,
            }
            // A value has ended; so may have what it stands in.
            loop {
                let Some(bracket) = open.last() else { return Ok(self.since(start)) };
                match (self.next()?, bracket) {
                    (b',', Bracket::Object) => {
                        self.key()?;
                        break;
                    }
                    (b',', Bracket::Array) => break,
                    (b'}', Bracket::Object) | (b']', Bracket::Array) => open.pop(),
                    _ => return Err(NotJson),
                }
            }
        }
    }

    /// Nothing but white space may follow.
    pub(crate) fn end(&mut self) -> Result<(), NotJson> {
        if self.peek().is_none() { Ok(()) } else { Err(NotJson) }
    }

    /// Goes through the object ahead: `member` gets each key's JSON text, and must go past the value.
    pub(crate) fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, &'a str) -> Result<(), NotJson>,
    ) -> Result<(), NotJson> {
        self.expect(b'{')?;
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            let key = self.key()?;
            member(self, key)?;
            match self.next()? {
                b',' => {}
                b'}' => return Ok(()),
                _ => return Err(NotJson),
            }
        }
    }

    /// Goes through the array ahead: `element` must go past one value.
    pub(crate) fn array(&mut self, mut element: impl FnMut(&mut Self) -> Result<(), NotJson>) -> Result<(), NotJson> {
        self.expect(b'[')?;
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            element(self)?;
            match self.next()? {
                b',' => {}
                b']' => return Ok(()),
                _ => return Err(NotJson),
            }
        }
    }

    /// The text from `start` on. Both ends stand beside ASCII, so there is no character that they could cut.
    fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    /// Skips white space, and says what follows it.
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        loop {
            match bytes.get(self.at) {
                Some(b' ' | b'\t' | b'\r' | b'\n') => self.at += 1,
                other => return other.copied(),
            }
        }
    }

    fn next(&mut self) -> Result<u8, NotJson> {
        let byte = self.peek().ok_or(NotJson)?;
        self.at += 1;
        Ok(byte)
    }

    fn expect(&mut self, byte: u8) -> Result<(), NotJson> {
        if self.next()? == byte { Ok(()) } else { Err(NotJson) }
    }

    /// A key with its colon; the key's JSON text.
    fn key(&mut self) -> Result<&'a str, NotJson> {
        self.expect(b'"')?;
        let start = self.at - 1;
        self.string()?;
        let key = self.since(start);
        self.expect(b':')?;
        Ok(key)
    }

    /// A value without brackets, whose first byte is behind the cursor.
    fn scalar(&mut self, first: u8) -> Result<(), NotJson> {
        match first {
            b'"' => self.string(),
            b't' => self.rest(b"rue"),
            b'f' => self.rest(b"alse"),
            b'n' => self.rest(b"ull"),
            b'-' => {
                let first = self.byte()?;
                self.number(first)
            }
            first => self.number(first),
        }
    }

    fn rest(&mut self, rest: &[u8]) -> Result<(), NotJson> {
        if !self.text.as_bytes()[self.at..].starts_with(rest) {
            return Err(NotJson);
        }
        self.at += rest.len();
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, NotJson> {
        let byte = *self.text.as_bytes().get(self.at).ok_or(NotJson)?;
        self.at += 1;
        Ok(byte)
    }

    /// A number without sign, whose first byte is behind the cursor.
    fn number(&mut self, first: u8) -> Result<(), NotJson> {
        match first {
            b'0' => {}
            b'1'..=b'9' => self.digits(),
            _ => return Err(NotJson),
        }
        if self.text.as_bytes().get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digit()?;
            self.digits();
        }
        if let Some(b'e' | b'E') = self.text.as_bytes().get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.text.as_bytes().get(self.at) {
                self.at += 1;
            }
            self.digit()?;
            self.digits();
        }
        Ok(())
    }

    fn digit(&mut self) -> Result<(), NotJson> {
        if self.byte()?.is_ascii_digit() { Ok(()) } else { Err(NotJson) }
    }

    fn digits(&mut self) {
        while self.text.as_bytes().get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
    }

    /// A string, whose opening quote is behind the cursor.
    fn string(&mut self) -> Result<(), NotJson> {
        loop {
            self.at += plain_len(&self.text.as_bytes()[self.at..]);
            match self.byte()? {
                b'"' => return Ok(()),
                b'\\' => match self.byte()? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                    b'u' => {
                        for _ in 0..4 {
                            if !self.byte()?.is_ascii_hexdigit() {
                                return Err(NotJson);
                            }
                        }
                    }
                    _ => return Err(NotJson),
                },
                _ => return Err(NotJson),
            }
        }
    }
}

/// How many bytes come before the first quote, backslash or control character. Eight at a time: in an interpreter the
/// number of steps is what counts.
pub(crate) fn plain_len(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    // Sets the high bit of each byte that is zero; bytes behind the first such one may be wrong, which does not matter.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let mut at = 0;
    while let Some(Ok(word)) = bytes.get(at..at + 8).map(<[u8; 8]>::try_from) {
        let word = u64::from_le_bytes(word);
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        let found = zeros(word ^ (ONES * u64::from(b'"'))) | zeros(word ^ (ONES * u64::from(b'\\'))) | control;
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = &bytes[at..];
    at + rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..0x20)).unwrap_or(rest.len())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bracket {
    Object,
    Array,
}

/// Whether the whole text is one JSON array.
pub(crate) fn is_whole_array(text: &str) -> bool {
    let mut cursor = Cursor::new(text);
    cursor.kind() == Kind::Array && cursor.value().is_ok() && cursor.end().is_ok()
}

/// The brackets that are open, one bit each.
#[derive(Debug, Default)]
struct Brackets {
    /// Those above the first 32.
    outer: Vec<u32>,
    /// The innermost, the last in the lowest bit.
    inner: u32,
    depth: usize,
}

impl Brackets {
    fn push(&mut self, bracket: Bracket) {
        if self.depth > 0 && self.depth.is_multiple_of(32) {
            self.outer.push(self.inner);
        }
        self.inner = self.inner << 1 | u32::from(bracket == Bracket::Object);
        self.depth += 1;
    }

    fn pop(&mut self) {
        self.depth -= 1;
        self.inner >>= 1;
        if self.depth > 0 && self.depth.is_multiple_of(32) {
            self.inner = self.outer.pop().unwrap_or_default();
        }
    }

    fn last(&self) -> Option<Bracket> {
        if self.depth == 0 {
            return None;
        }
        Some(if self.inner & 1 == 1 { Bracket::Object } else { Bracket::Array })
    }
}

/// The text that a JSON string spells; `None` if `json` is not one. A lone surrogate becomes U+FFFD: it must not make an
/// event unreadable, for truncation upstream may leave one behind. `json` has been read as a value before.
pub(crate) fn decode(json: &str) -> Option<Cow<'_, str>> {
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    let (plain, mut rest) = split_at_backslash(inner);
    if rest.is_empty() {
        return Some(Cow::Borrowed(inner));
    }
    let mut text = String::with_capacity(inner.len());
    text.push_str(plain);
    while let [b'\\', escape, ..] = *rest.as_bytes() {
        let mut behind = 2;
        text.push(match escape {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let (char, len) = code_point(rest.as_bytes());
                behind = len;
                char
            }
            same => char::from(same),
        });
        let plain;
        (plain, rest) = split_at_backslash(rest.get(behind..).unwrap_or_default());
        text.push_str(plain);
    }
    Some(Cow::Owned(text))
}

/// What comes before the first backslash, and the rest with it. Inside a string nothing else ends a plain run.
fn split_at_backslash(text: &str) -> (&str, &str) {
    text.split_at_checked(plain_len(text.as_bytes())).unwrap_or((text, ""))
}

/// The character that `escape` begins with in the form `\uXXXX`, of a surrogate pair in two such, and the length of that.
fn code_point(escape: &[u8]) -> (char, usize) {
    let first = unit(escape);
    let code = match (first, unit(escape.get(6..).unwrap_or_default())) {
        (Some(high @ 0xd800..0xdc00), Some(low @ 0xdc00..0xe000)) => {
            return (char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)).unwrap_or_default(), 12);
        }
        (first, _) => first.and_then(char::from_u32),
    };
    (code.unwrap_or(char::REPLACEMENT_CHARACTER), 6)
}

/// The number behind `\u`.
fn unit(escape: &[u8]) -> Option<u32> {
    let [b'\\', b'u', digits @ ..] = escape else { return None };
    digits.get(..4)?.iter().try_fold(0, |code, digit| Some(code << 4 | char::from(*digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::{format, vec};
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    fn is_json(text: &str) -> bool {
        let mut cursor = Cursor::new(text);
        cursor.value().is_ok() && cursor.end().is_ok()
    }

    fn accepted_by_serde_json(text: &str) -> bool {
        serde_json::from_str::<IgnoredAny>(text).is_ok()
    }

    #[test]
    fn accepts_what_serde_json_accepts() {
        for text in [
            "{}",
            "[]",
            " { \"a\" : [ 1 , -0.5e+3 , true , false , null , \"\\u00e9\\n\" ] } ",
            "\"\"",
            "0",
            "-1",
            "1e9",
            "[[[[]]],{}]",
            "",
            " ",
            "{",
            "}",
            "[",
            "]",
            "[1,]",
            "[,1]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "{\"a\":1 \"b\":2}",
            "[1 2]",
            "[1}",
            "{\"a\":1]",
            "01",
            "-",
            "-a",
            "1.",
            ".5",
            "1e",
            "1e+",
            "1.e1",
            "+1",
            "tru",
            "truex",
            "nul",
            "NaN",
            "\"",
            "\"\\\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\\u123\"",
            "\"\t\"",
            "\"\u{7f}\"",
            "1 1",
            "{}{}",
            "[]]",
            "\"a\"b",
            "\u{feff}{}",
            "\"\u{1f}\"",
            "\"é\u{1f600}\"",
        ] {
            assert_eq!(is_json(text), accepted_by_serde_json(text), "{text:?}");
        }
    }

    #[test]
    fn any_depth_is_read() {
        for depth in [1, 31, 32, 33, 63, 64, 65, 1000, 100_000] {
            let text = format!("{}1{}", "[{\"a\":".repeat(depth), "}]".repeat(depth));
            assert!(is_json(&text), "{depth}");
            assert!(!is_json(&text[..text.len() - 1]), "{depth}");
            assert!(!is_json(&text.replacen("}]", "]}", 1)), "{depth}");
        }
    }

    #[test]
    fn members_and_elements_come_in_order() {
        let mut seen = vec![];
        let mut cursor = Cursor::new(r#" {"a" : [1, "x,]" ,{}], "\u0062":{"c":null}} "#);
        cursor
            .object(|cursor, key| {
                if cursor.kind() == Kind::Array {
                    return cursor.array(|cursor| {
                        seen.push(cursor.value()?.to_string());
                        Ok(())
                    });
                }
                seen.push(format!("{key}={}", cursor.value()?));
                Ok(())
            })
            .unwrap();
        assert_eq!(seen, ["1", "\"x,]\"", "{}", r#""\u0062"={"c":null}"#]);
        assert_eq!(cursor.end(), Ok(()));
    }

    #[test]
    fn lone_surrogates_are_replaced() {
        for (json, text) in [
            (r#""\ud83d\ude00""#, "\u{1f600}"),
            (r#""a\ud83d""#, "a\u{fffd}"),
            (r#""\ud83dz""#, "\u{fffd}z"),
            (r#""\ud83d\n""#, "\u{fffd}\n"),
            (r#""\ud83d\u0041""#, "\u{fffd}A"),
            (r#""\ude00\ud83d""#, "\u{fffd}\u{fffd}"),
            (r#""\/\\\"\b\f\r\t""#, "/\\\"\u{8}\u{c}\r\t"),
        ] {
            assert_eq!(decode(json).as_deref(), Some(text), "{json}");
        }
        assert_eq!(decode("12"), None);
        assert!(matches!(decode("\"plain é\""), Some(Cow::Borrowed("plain é"))));
    }

    /// Text that is often nearly JSON.
    fn near_json() -> impl Strategy<Value = String> {
        let token = prop::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\"a\"",
            "\"\\u0041\"",
            "\"",
            "\\",
            "1",
            "-",
            "0",
            ".",
            "e",
            "true",
            "null",
            " ",
            "\n",
            "\u{1}",
            "é",
        ]);
        prop::collection::vec(token, 0..12).prop_map(|tokens| tokens.concat())
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json_on_nearly_json(text in near_json()) {
            prop_assert_eq!(is_json(&text), accepted_by_serde_json(&text));
        }

        #[test]
        fn agrees_with_serde_json_on_anything(text in "\\PC{0,30}|[\\x00-\\x7f]{0,30}") {
            prop_assert_eq!(is_json(&text), accepted_by_serde_json(&text));
            let quoted = format!("\"{text}\"");
            prop_assert_eq!(is_json(&quoted), accepted_by_serde_json(&quoted));
        }

        #[test]
        fn decodes_as_serde_json_does(text in any::<String>()) {
            let json = serde_json::to_string(&text).unwrap();
            prop_assert!(is_json(&json));
            prop_assert_eq!(decode(&json).unwrap(), text.as_str());
            let escaped: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
            let json = format!("\"{escaped}\"");
            prop_assert_eq!(decode(&json).unwrap(), serde_json::from_str::<String>(&json).unwrap());
        }

        #[test]
        fn plain_runs_end_where_they_should(text in "[a-z\"\\\\\\x1f\\x20\\x7f-\\xff]{0,40}") {
            let bytes = text.as_bytes();
            let naive = bytes.iter().take_while(|byte| !matches!(byte, b'"' | b'\\' | ..0x20)).count();
            prop_assert_eq!(plain_len(bytes), naive);
        }
    }
}
