//! A TOML file whose every value knows its place, and the reading of its tables key by key.
//!
//! In: a label and the text. Out: typed values ([`Text`] keeps its place), and a [`Diagnostic`] for whatever is missing,
//! of the wrong type or unknown; reading goes on after each, so that one run names them all.
//! Bounds: `toml`'s own (nesting of 80). Not here: which keys there are and what they mean.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::RefCell;
use core::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{Diagnostic, Mismatch, line_and_column, listed, nearest};

/// One file, and what has been refused and warned of in it so far.
pub(crate) struct Source<'a> {
    label: &'a str,
    text: &'a str,
    refused: RefCell<Vec<Diagnostic>>,
    warned: RefCell<Vec<Diagnostic>>,
}

/// A string value and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) value: String,
    /// Bytes of the file, the quotes included.
    pub(crate) span: Range<usize>,
}

impl<'a> Source<'a> {
    pub(crate) fn new(label: &'a str, text: &'a str) -> Source<'a> {
        Source { label, text, refused: RefCell::default(), warned: RefCell::default() }
    }

    pub(crate) fn label(&self) -> &'a str {
        self.label
    }

    /// The file's table; `None` if the file is no TOML, which is then refused already: once, at the first place, as
    /// what follows is mostly its consequence.
    pub(crate) fn parse(&self) -> Option<DeTable<'a>> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        let place = |error: &toml::de::Error| error.span().map_or(0, |span| span.start);
        let Some(first) = errors.iter().min_by_key(|error| place(error)) else { return Some(table.into_inner()) };
        let offset = place(first);
        let message: Vec<&str> = first.message().lines().collect();
        // The error of a lone CR stands right behind it.
        let (before, behind) = self.text.as_bytes().split_at(offset.min(self.text.len()));
        let is_lone_return = before.ends_with(b"\r") && !behind.starts_with(b"\n");
        self.refuse(
            offset,
            format!("this is not TOML: {}", message.join(", ")),
            if is_lone_return { "end lines with LF or CR LF" } else { "correct the syntax here" },
        );
        None
    }

    /// Notes a refusal at the byte `offset`.
    pub(crate) fn refuse(&self, offset: usize, wrong: impl Into<String>, right: impl Into<String>) {
        self.refused.borrow_mut().push(self.diagnostic(offset, wrong.into(), right.into()));
    }

    /// Notes at the byte `offset` what compiles but is probably not meant.
    pub(crate) fn warn(&self, offset: usize, wrong: impl Into<String>, right: impl Into<String>) {
        self.warned.borrow_mut().push(self.diagnostic(offset, wrong.into(), right.into()));
    }

    fn diagnostic(&self, offset: usize, wrong: String, right: String) -> Diagnostic {
        let (line, column) = line_and_column(self.text, offset);
        Diagnostic { file: self.label.to_owned(), line, column, wrong, right }
    }

    /// Notes that `what` has something else than it should have.
    pub(crate) fn refuse_mismatch(&self, offset: usize, what: &str, mismatch: Mismatch) {
        let Mismatch { found, expected } = mismatch;
        self.refuse(offset, format!("{what} has {found}"), format!("expected {expected}"));
    }

    /// How many refusals are noted.
    pub(crate) fn refused(&self) -> usize {
        self.refused.borrow().len()
    }

    /// The refusals and the warnings, each in the order of their places.
    pub(crate) fn into_diagnostics(self) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
        let in_order = |mut diagnostics: Vec<Diagnostic>| {
            diagnostics.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
            diagnostics
        };
        (in_order(self.refused.into_inner()), in_order(self.warned.into_inner()))
    }

    /// Where in the file the byte `offset` of a string's value was written.
    pub(crate) fn inside(&self, text: &Text, offset: usize) -> usize {
        let raw = &self.text[text.span.clone()];
        let (quotes, escapes) = match raw.as_bytes() {
            [b'\'', b'\'', b'\'', ..] => (3, false),
            [b'"', b'"', b'"', ..] => (3, true),
            [b'\'', ..] => (1, false),
            _ => (1, true),
        };
        let mut at = quotes;
        if quotes == 3 {
            // A line break right behind the opening quotes is no part of the value.
            at += match &raw.as_bytes()[3..] {
                [b'\r', b'\n', ..] => 2,
                [b'\n', ..] => 1,
                _ => 0,
            };
        }
        let mut value_bytes = 0;
        while value_bytes <= offset && at < raw.len() {
            let (written, meant) = string_step(&raw[at..], escapes);
            if value_bytes + meant > offset {
                break;
            }
            at += written;
            value_bytes += meant;
        }
        text.span.start + at.min(raw.len())
    }
}

/// How many bytes the next piece of a string takes in the file, and how many its value has.
fn string_step(raw: &str, escapes: bool) -> (usize, usize) {
    let mut chars = raw.chars();
    let first = chars.next().map_or(1, char::len_utf8);
    if !escapes || !raw.starts_with('\\') {
        return (first, first);
    }
    let digits = match chars.next() {
        Some('x') => 2,
        Some('u') => 4,
        Some('U') => 8,
        // A line that goes on: the backslash and all space up to the next text.
        Some(' ' | '\t' | '\r' | '\n') => return (raw.len() - raw[1..].trim_start().len(), 0),
        _ => return (2, 1),
    };
    let meant = raw
        .get(2..2 + digits)
        .and_then(|digits| u32::from_str_radix(digits, 16).ok())
        .and_then(char::from_u32)
        .map_or(1, char::len_utf8);
    (2 + digits, meant)
}

/// One table of a file.
#[derive(Clone)]
pub(crate) struct Section<'a> {
    source: &'a Source<'a>,
    table: &'a DeTable<'a>,
    /// How refusals call it: `[rule.new_terms]`.
    name: String,
    /// The byte it begins at.
    pub(crate) offset: usize,
}

impl<'a> Section<'a> {
    /// The whole file as a section.
    pub(crate) fn root(source: &'a Source<'a>, table: &'a DeTable<'a>) -> Section<'a> {
        Section { source, table, name: "the file".to_owned(), offset: 0 }
    }

    /// A table inside this one.
    pub(crate) fn section(&self, key: &str) -> Option<Section<'a>> {
        let (offset, value) = self.find(key)?;
        let Some(table) = value.get_ref().as_table() else {
            self.wrong_type(key, value, "a table");
            return None;
        };
        Some(self.below(key, offset, table))
    }

    /// The tables of an array inside this one.
    pub(crate) fn sections(&self, key: &str) -> Vec<Section<'a>> {
        let Some((_, value)) = self.find(key) else {
            return Vec::new();
        };
        let Some(items) = value.get_ref().as_array() else {
            self.wrong_type(key, value, "an array of tables");
            return Vec::new();
        };
        let mut sections = Vec::new();
        for item in items.iter() {
            match item.get_ref().as_table() {
                Some(table) => sections.push(self.below(key, item.span().start, table)),
                None => self.wrong_type(key, item, "an array of tables"),
            }
        }
        sections
    }

    fn below(&self, key: &str, offset: usize, table: &'a DeTable<'a>) -> Section<'a> {
        let name = match self.name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
            Some(name) => format!("[{name}.{key}]"),
            None => format!("[{key}]"),
        };
        Section { source: self.source, table, name, offset }
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// The keys with their places, in the file's order.
    pub(crate) fn keys(&self) -> Vec<(usize, &'a str)> {
        let mut keys: Vec<(usize, &str)> =
            self.table.keys().map(|key| (key.span().start, key.get_ref().as_ref())).collect();
        keys.sort_unstable();
        keys
    }

    /// A key's place and value.
    fn find(&self, key: &str) -> Option<(usize, &'a Spanned<DeValue<'a>>)> {
        let (key, value) = self.table.get_key_value(key)?;
        Some((key.span().start, value))
    }

    /// Where the key stands, or the section if it has none.
    pub(crate) fn offset_of(&self, key: &str) -> usize {
        self.find(key).map_or(self.offset, |(offset, _)| offset)
    }

    /// Whether the key is missing or holds nothing: `""`, `[]`, `{}`.
    pub(crate) fn is_empty(&self, key: &str) -> bool {
        self.find(key).is_none_or(|(_, value)| match value.get_ref() {
            DeValue::String(text) => text.is_empty(),
            DeValue::Array(items) => items.is_empty(),
            DeValue::Table(table) => table.is_empty(),
            _ => false,
        })
    }

    pub(crate) fn text(&self, key: &str) -> Option<Text> {
        let (_, value) = self.find(key)?;
        let text = text_of(value);
        if text.is_none() {
            self.wrong_type(key, value, "a string");
        }
        text
    }

    /// A string that must be there and not empty.
    pub(crate) fn required_text(&self, key: &str, example: &str) -> Option<Text> {
        if !self.has(key) {
            self.missing(key, example);
        }
        let text = self.text(key)?;
        if text.value.trim().is_empty() {
            self.refuse(key, format!("{key} is empty"), format!("write {key} = {example}"));
            return None;
        }
        Some(text)
    }

    pub(crate) fn missing(&self, key: &str, example: &str) {
        self.source.refuse(self.offset, format!("{} has no {key}", self.name), format!("add {key} = {example}"));
    }

    pub(crate) fn boolean(&self, key: &str) -> Option<bool> {
        let (_, value) = self.find(key)?;
        let boolean = value.get_ref().as_bool();
        if boolean.is_none() {
            self.wrong_type(key, value, "true or false");
        }
        boolean
    }

    pub(crate) fn integer(&self, key: &str, allowed: core::ops::RangeInclusive<u64>) -> Option<u64> {
        let (_, value) = self.find(key)?;
        let wanted = format!("a whole number from {} to {}", allowed.start(), allowed.end());
        let Some(integer) = value.get_ref().as_integer() else {
            self.wrong_type(key, value, &wanted);
            return None;
        };
        match u64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) if allowed.contains(&number) => Some(number),
            _ => {
                self.source.refuse(value.span().start, format!("{key} is {integer}"), format!("expected {wanted}"));
                None
            }
        }
    }

    /// An array of strings; `None` if the key is missing or its value is no array.
    pub(crate) fn texts(&self, key: &str) -> Option<Vec<Text>> {
        let (_, value) = self.find(key)?;
        let Some(items) = value.get_ref().as_array() else {
            self.wrong_type(key, value, "an array of strings");
            return None;
        };
        let mut texts = Vec::new();
        for item in items.iter() {
            match text_of(item) {
                Some(text) => texts.push(text),
                None => self.wrong_type(key, item, "an array of strings"),
            }
        }
        Some(texts)
    }

    /// A string that must be one of these.
    pub(crate) fn one_of<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        let chosen = choices.iter().find(|(name, _)| *name == text.value);
        if chosen.is_none() {
            self.source.refuse(
                text.span.start,
                format!("{key} is {:?}", text.value),
                format!("expected {}", listed(choices.iter().map(|(name, _)| *name))),
            );
        }
        chosen.map(|(_, value)| *value)
    }

    /// Refuses every key that is not `known`.
    pub(crate) fn refuse_unknown(&self, known: &[&str]) {
        for (offset, key) in self.keys() {
            if known.contains(&key) {
                continue;
            }
            let right = match nearest(key, known.iter().copied()) {
                Some(nearest) => format!("the nearest known key is {nearest:?}"),
                None if known.len() <= 12 => {
                    format!("expected {}", listed(known.iter().copied()))
                }
                None => "remove it".to_string(),
            };
            self.source.refuse(offset, format!("{} has the unknown key {key:?}", self.name), right);
        }
    }

    /// Refuses something about a key of this section.
    pub(crate) fn refuse(&self, key: &str, wrong: impl Into<String>, right: impl Into<String>) {
        self.source.refuse(self.offset_of(key), wrong, right);
    }

    /// Warns of a key of this section.
    pub(crate) fn warn(&self, key: &str, wrong: impl Into<String>, right: impl Into<String>) {
        self.source.warn(self.offset_of(key), wrong, right);
    }

    fn wrong_type(&self, key: &str, value: &Spanned<DeValue<'_>>, expected: &str) {
        self.source.refuse(
            value.span().start,
            format!("{key} has a value of type {}", value.get_ref().type_str()),
            format!("expected {expected}"),
        );
    }
}

fn text_of(value: &Spanned<DeValue<'_>>) -> Option<Text> {
    Some(Text { value: value.get_ref().as_str()?.to_owned(), span: value.span() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The place of `needle` in the file, found through the value of `key`.
    fn found_through_value(file: &str, needle: &str) -> usize {
        let source = Source::new("t", file);
        let table = source.parse().unwrap();
        let text = Section::root(&source, &table).text("key").unwrap();
        source.inside(&text, text.value.find(needle).unwrap())
    }

    #[test]
    fn a_place_in_a_value_is_found_in_the_file() {
        for file in [
            "key = 'one: needle'",
            "key = \"one: needle\"",
            "a = 1\nkey = '''one\ntwo\n  needle'''",
            "key = '''\none\nneedle\n'''",
            "key = '''\r\none\r\ntwo needle\r\n'''",
            "key = \"\"\"\none \\\n    two needle\"\"\"",
            "key = \"\"\"one \\  \n\n  needle\"\"\"",
            "key = \"\\\"\\\\\\t\\n needle\"",
            "key = \"\\u00e9\\U0001F600 ä needle\"",
            "key = \"\"\"\r\n\\\"x\\\" needle\"\"\"",
            "key = \"\\x41 needle \\e\"",
        ] {
            assert_eq!(found_through_value(file, "needle"), file.find("needle").unwrap(), "{file}");
        }
        // The end of a value is where its closing quotes are.
        let source = Source::new("t", "key = 'ab'");
        let text = Text { value: "ab".to_owned(), span: 6..10 };
        assert_eq!(source.inside(&text, 2), 9);
    }
}
