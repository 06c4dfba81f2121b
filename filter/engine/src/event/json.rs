//! JSON text, value by value, without building anything.
//!
//! In: text, and places in it. Out: where each value, member and element ends; and whether it is JSON at all (RFC 8259,
//! exactly what `serde_json` accepts, which the tests hold it to). Bounds: no recursion, whatever the text nests; one bit of memory a
//! level. Not here: what a value means ([`super::value`]).
//!
//! Why not `serde_json` for reading: its errors print floating-point numbers, and with that come 60 KB of code, of the 150
//! that the module may take. What it writes, and what the tests compare with, is `serde_json`'s.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::num::NonZeroUsize;

use crate::words::{self, plain_end};

/// The place behind something that was read, so never 0: an `Option` of it is a single number, which a function in
/// WebAssembly returns without going through memory. `None` says that the text is not JSON.
pub(crate) type Behind = NonZeroUsize;

/// What a value is, by its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Object,
    Array,
    Text,
    Other,
}

impl Kind {
    /// What a value is that begins with this byte.
    #[inline]
    pub(crate) fn of(first: u8) -> Kind {
        match first {
            b'{' => Kind::Object,
            b'[' => Kind::Array,
            b'"' => Kind::Text,
            _ => Kind::Other,
        }
    }
}

/// What the value that begins at or after `at` begins as.
#[inline]
pub(crate) fn kind(text: &[u8], at: usize) -> Kind {
    first(text, at).map_or(Kind::Other, |(first, _)| Kind::of(first))
}

/// The first byte, from `at` on, that is no white space, and its place; `None` at the end of the text.
#[inline]
pub(crate) fn first(text: &[u8], at: usize) -> Option<(u8, usize)> {
    match *text.get(at)? {
        ..=b' ' => first_behind_white_space(text, at),
        byte => Some((byte, at)),
    }
}

#[cold]
#[inline(never)]
fn first_behind_white_space(text: &[u8], at: usize) -> Option<(u8, usize)> {
    let at = token(text, at);
    Some((*text.get(at)?, at))
}

/// The next place, from `at` on, where no white space is.
pub(crate) fn token(text: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\r' | b'\n') = text.get(at) {
        at += 1;
    }
    at
}

/// Reads this byte, which white space may precede.
#[inline]
pub(crate) fn expect(text: &[u8], at: usize, byte: u8) -> Option<Behind> {
    // Looked at first, since nearly all JSON in a pipeline is written without white space.
    if text.get(at) == Some(&byte) { Behind::new(at + 1) } else { expect_behind_white_space(text, at, byte) }
}

#[cold]
#[inline(never)]
fn expect_behind_white_space(text: &[u8], at: usize, byte: u8) -> Option<Behind> {
    let at = token(text, at);
    if *text.get(at)? == byte { Behind::new(at + 1) } else { None }
}

/// What follows a member or element.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Next {
    /// Another one, from this place on.
    At(usize),
    /// The closing bracket, and this place behind it.
    End(Behind),
}

/// Reads what follows a member or element of what `closing` closes.
#[inline]
pub(crate) fn next(text: &[u8], at: usize, closing: u8) -> Option<Next> {
    match first(text, at)? {
        (b',', at) => Some(Next::At(at + 1)),
        (byte, at) if byte == closing => Behind::new(at + 1).map(Next::End),
        _ => None,
    }
}

/// Reads any value.
pub(crate) fn skip(text: &[u8], at: usize) -> Option<Behind> {
    match first(text, at)? {
        (b'"', at) => string(text, at + 1).map(StringEnd::behind),
        (b'{' | b'[', at) => skip_nested(text, at),
        (first, at) => literal(text, at, first),
    }
}

/// Reads an object or array, whose opening bracket is at `at`.
fn skip_nested(text: &[u8], mut at: usize) -> Option<Behind> {
    let mut open = Brackets::default();
    loop {
        let first_byte;
        (first_byte, at) = first(text, at)?;
        let mut behind = match first_byte {
            b'"' => string(text, at + 1)?.behind(),
            b'{' => match expect(text, at + 1, b'}') {
                Some(behind) => behind,
                None => {
                    open.push(Bracket::Object);
                    at = key(text, at + 1)?.get();
                    continue;
                }
            },
            b'[' => match expect(text, at + 1, b']') {
                Some(behind) => behind,
                None => {
                    open.push(Bracket::Array);
                    at += 1;
                    continue;
                }
            },
            _ => literal(text, at, first_byte)?,
        };
        // A value has ended; so may have what it stands in.
        at = loop {
            let Some(bracket) = open.last() else { return Some(behind) };
            let closing = if bracket == Bracket::Object { b'}' } else { b']' };
            match next(text, behind.get(), closing)? {
                Next::At(at) if bracket == Bracket::Object => break key(text, at)?.get(),
                Next::At(at) => break at,
                Next::End(end) => {
                    behind = end;
                    open.pop();
                }
            }
        };
    }
}

/// Reads a key with its colon.
fn key(text: &[u8], at: usize) -> Option<Behind> {
    let quote = expect(text, at, b'"')?;
    expect(text, string(text, quote.get())?.behind().get(), b':')
}

/// Reads a number, boolean or null, which begins with `first` at `at`.
fn literal(text: &[u8], at: usize, first: u8) -> Option<Behind> {
    match first {
        b'n' => word(text, at, b"null"),
        b't' => word(text, at, b"true"),
        b'f' => word(text, at, b"false"),
        b'-' => number(text, at + 1),
        _ => number(text, at),
    }
}

#[inline]
fn word<const LEN: usize>(text: &[u8], at: usize, word: &[u8; LEN]) -> Option<Behind> {
    let found: &[u8; LEN] = text.get(at..)?.first_chunk()?;
    if found == word { Behind::new(at + LEN) } else { None }
}

/// Reads a number without its sign.
fn number(text: &[u8], mut at: usize) -> Option<Behind> {
    let digits = |mut at: usize| {
        while text.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        at
    };
    let some_digits = |at: usize| Some(digits(at)).filter(|end| *end > at);
    at = if text.get(at) == Some(&b'0') { at + 1 } else { some_digits(at)? };
    if text.get(at) == Some(&b'.') {
        at = some_digits(at + 1)?;
    }
    if let Some(b'e' | b'E') = text.get(at) {
        let sign = usize::from(matches!(text.get(at + 1), Some(b'+' | b'-')));
        at = some_digits(at + 1 + sign)?;
    }
    Behind::new(at)
}

/// Where a string ends, and whether it holds an escape: twice the place behind its closing quote, and one more for an escape.
/// Texts have less than half of the bytes that there are addresses for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StringEnd(NonZeroUsize);

impl StringEnd {
    fn new(behind: usize, has_escape: bool) -> Option<StringEnd> {
        NonZeroUsize::new(behind << 1 | usize::from(has_escape)).map(StringEnd)
    }

    /// The place behind the closing quote.
    pub(crate) fn behind(self) -> Behind {
        Behind::new(self.0.get() >> 1).unwrap_or(Behind::MIN)
    }

    /// Whether no escape is in it, so that what is between its quotes is what it spells.
    pub(crate) fn is_plain(self) -> bool {
        self.0.get() & 1 == 0
    }
}

/// Reads a string, from behind its opening quote.
pub(crate) fn string(text: &[u8], at: usize) -> Option<StringEnd> {
    let at = plain_end(text, at);
    match *text.get(at)? {
        b'"' => StringEnd::new(at + 1, false),
        b'\\' => string_from_escape(text, at),
        _ => None,
    }
}

/// The rest of a string, from its first backslash on.
#[cold]
fn string_from_escape(text: &[u8], mut at: usize) -> Option<StringEnd> {
    loop {
        at = match *text.get(at)? {
            b'"' => return StringEnd::new(at + 1, true),
            b'\\' => match text.get(at + 1)? {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => at + 2,
                b'u' if text.get(at + 2..at + 6)?.iter().all(u8::is_ascii_hexdigit) => at + 6,
                _ => return None,
            },
            _ => return None,
        };
        at = plain_end(text, at);
    }
}

/// Whether the text needs no escapes between quotes.
pub(crate) fn is_plain(text: &str) -> bool {
    words::is_plain(text.as_bytes())
}

/// Calls `element` with the JSON text of each element of an array, which is the whole of `json`; `None` if it is none.
pub(crate) fn elements<'a>(json: &'a str, mut element: impl FnMut(&'a str)) -> Option<()> {
    let text = json.as_bytes();
    let mut at = expect(text, 0, b'[')?.get();
    if expect(text, at, b']').is_some() {
        return Some(());
    }
    loop {
        let start = token(text, at);
        let behind = skip(text, start)?.get();
        element(json.get(start..behind)?);
        match next(text, behind, b']')? {
            Next::At(next) => at = next,
            Next::End(_) => return Some(()),
        }
    }
}

/// Calls `member` with the name and the JSON text of each member of an object, which is the whole of `json`; `None` if it is
/// none.
pub(crate) fn members<'a>(json: &'a str, mut member: impl FnMut(Cow<'a, str>, &'a str)) -> Option<()> {
    let text = json.as_bytes();
    let mut at = expect(text, 0, b'{')?.get();
    if expect(text, at, b'}').is_some() {
        return Some(());
    }
    loop {
        let quote = token(text, at);
        let value = token(text, key(text, quote)?.get());
        let key_end = string(text, quote + 1)?.behind().get();
        let behind = skip(text, value)?.get();
        member(decode(json.get(quote..key_end)?)?, json.get(value..behind)?);
        match next(text, behind, b'}')? {
            Next::At(next) => at = next,
            Next::End(_) => return Some(()),
        }
    }
}

/// Whether the whole text is one JSON value.
pub(crate) fn is_whole(text: &str) -> bool {
    skip(text.as_bytes(), 0).is_some_and(|behind| token(text.as_bytes(), behind.get()) == text.len())
}

/// Whether the whole text is one JSON array.
pub(crate) fn is_whole_array(text: &str) -> bool {
    kind(text.as_bytes(), 0) == Kind::Array && is_whole(text)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bracket {
    Object,
    Array,
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
    Some(unescaped(json.strip_prefix('"')?.strip_suffix('"')?))
}

/// What the inside of a JSON string spells.
fn unescaped(inner: &str) -> Cow<'_, str> {
    let (plain, mut rest) = split_at_backslash(inner);
    if rest.is_empty() {
        return Cow::Borrowed(inner);
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
    Cow::Owned(text)
}

/// What comes before the first backslash, and the rest with it. Inside a string nothing else ends a plain run.
fn split_at_backslash(text: &str) -> (&str, &str) {
    text.split_at_checked(plain_end(text.as_bytes(), 0)).unwrap_or((text, ""))
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
        is_whole(text)
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
        members(r#" {"a" : [1, "x,]" ,{}], "\u0062":{"c":null}}"#, |name, value| {
            if elements(value, |element| seen.push(element.to_string())).is_none() {
                seen.push(format!("{name}={value}"));
            }
        })
        .unwrap();
        assert_eq!(seen, ["1", "\"x,]\"", "{}", r#"b={"c":null}"#]);
        assert_eq!(members("[]", |_, _| ()), None);
        assert_eq!(elements("{}", |_| ()), None);
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
    }
}
