//! What the compiler of rules and settings says when it refuses something.
//!
//! Every refusal is one sentence on one line: `file:line:column: what is wrong; what would be right`.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// One refusal, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file, as the caller labelled it.
    pub file: String,
    /// Line, from 1 on.
    pub line: usize,
    /// Column in characters, from 1 on.
    pub column: usize,
    /// What is wrong.
    pub wrong: String,
    /// What would be right.
    pub right: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Diagnostic { file, line, column, wrong, right } = self;
        write!(f, "{file}:{line}:{column}: {wrong}; {right}")
    }
}

impl core::error::Error for Diagnostic {}

/// What was found where something else was expected; both are noun phrases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// What stands there.
    pub found: String,
    /// What would be right there.
    pub expected: String,
}

impl Mismatch {
    /// From both phrases.
    pub fn new(found: impl Into<String>, expected: impl Into<String>) -> Mismatch {
        Mismatch { found: found.into(), expected: expected.into() }
    }
}

/// Line and column, both from 1 on, of the byte `offset` of `text`; columns count characters.
pub(crate) fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(offset)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (1 + before.bytes().filter(|&b| b == b'\n').count(), 1 + before[line_start..].chars().count())
}

/// The candidate that `name` most likely stands for: the one with the fewest letters to change, if they are few.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name: Vec<char> = name.to_lowercase().chars().take(256).collect();
    let tolerated = (name.len() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (letters_to_change(&name, candidate), candidate))
        .filter(|(distance, _)| *distance <= tolerated)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance, without case.
fn letters_to_change(a: &[char], b: &str) -> usize {
    let b = b.to_lowercase();
    let mut row: Vec<usize> = (0..=a.len()).collect();
    for (i, b) in b.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, a) in a.iter().enumerate() {
            let replaced = diagonal + usize::from(*a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[a.len()]
}

/// `"a", "b" or "c"`.
pub(crate) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names: Vec<String> = names.into_iter().map(|name| alloc::format!("{name:?}")).collect();
    let last = names.pop();
    match (names.is_empty(), last) {
        (_, None) => "nothing".to_owned(),
        (true, Some(last)) => last,
        (false, Some(last)) => alloc::format!("{} or {last}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_the_one_with_the_fewest_changes() {
        let names = ["event.action", "event.provider", "event.outcome"];
        assert_eq!(nearest("event.acton", names), Some("event.action"));
        assert_eq!(nearest("Event.Provider", names), Some("event.provider"));
        assert_eq!(nearest("kubernetes.pod", names), None);
        assert_eq!(nearest("", names), None);
    }

    #[test]
    fn distances_are_levenshteins() {
        let distance = |a: &str, b: &str| letters_to_change(&a.chars().collect::<Vec<_>>(), b);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("abc", "ABC"), 0);
    }

    #[test]
    fn columns_count_characters() {
        assert_eq!(line_and_column("", 0), (1, 1));
        assert_eq!(line_and_column("ab\ncd", 4), (2, 2));
        assert_eq!(line_and_column("äö\nü=x", 5), (2, 1));
        assert_eq!(line_and_column("äö\nü=x", 7), (2, 2));
        assert_eq!(line_and_column("ab", 99), (1, 3));
    }

    #[test]
    fn lists_read_as_sentences() {
        assert_eq!(listed([]), "nothing");
        assert_eq!(listed(["a"]), "\"a\"");
        assert_eq!(listed(["a", "b", "c"]), "\"a\", \"b\" or \"c\"");
    }
}
