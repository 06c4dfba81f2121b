//! Comparisons as regular expressions.
//!
//! In: the tests of which a value passes one. Out: an expression that finds every text which does, in what the regular
//! expressions of Rust and of Ruby (Onigmo) have in common. It may find others: a character's case is folded as Unicode
//! does, where the rule folds ASCII alone. Not here: anything but text.

use firstseen_engine::prefilter::needs;
use firstseen_engine::rule::{Comparison, Test};

/// Anything, line ends included; the dot would leave them out.
const ANYTHING: &str = r"[\s\S]*";

/// What stands for a character in JSON text that may be written with a backslash, or several if the text is inside a text.
const ESCAPED: &str = r"\\+.";

/// Finds the texts that pass one of the tests; `begin` and `end` are the language's anchors for those of a text.
pub(super) fn of_value(tests: &[Comparison], begin: &str, end: &str) -> String {
    let whole = |test: &Test| match test {
        Test::Equals(literal) => plain(literal),
        Test::Wildcard(parts) => parts.iter().map(|part| plain(part)).collect::<Vec<_>>().join(ANYTHING),
        // None of these is needed by a rule.
        Test::Exists | Test::Range(..) | Test::Cidr(_) => ANYTHING.to_owned(),
    };
    let choices = choices(tests, whole);
    let is_one_group = tests.len() == 1 || tests.iter().all(|test| test.ignore_case);
    if is_one_group { format!("{begin}{choices}{end}") } else { format!("{begin}(?:{choices}){end}") }
}

/// Finds the texts that hold an event in JSON with a value which passes one of the tests; `None` if such a value may be
/// written in too many ways. A text with an escape of the kind `\u0047`, which may spell anything, is found as well, and one with a
/// key of base64.
pub(super) fn of_json_text(tests: &[Comparison]) -> Option<String> {
    let may_be_anything = |test: &Comparison| match &test.test {
        Test::Equals(literal) => needs::may_equal_without_quotes(literal),
        Test::Wildcard(parts) => parts.iter().all(String::is_empty),
        Test::Exists | Test::Range(..) | Test::Cidr(_) => true,
    };
    if tests.iter().any(may_be_anything) {
        return None;
    }
    let inside = |test: &Test| match test {
        Test::Equals(literal) => format!("\"{}\\\\*\"", in_json(literal)),
        Test::Wildcard(parts) => {
            let parts: Vec<String> = parts.iter().filter(|part| !part.is_empty()).map(|part| in_json(part)).collect();
            parts.join(ANYTHING)
        }
        Test::Exists | Test::Range(..) | Test::Cidr(_) => String::new(),
    };
    Some(format!(r#"{}|\\u|ata\\*""#, choices(tests, inside)))
}

/// The tests' expressions with `|` between, those without case in a group of their own.
fn choices(tests: &[Comparison], expression: impl Fn(&Test) -> String) -> String {
    let of = |ignore_case: bool| -> Vec<String> {
        let tests = tests.iter().filter(|test| test.ignore_case == ignore_case);
        tests.map(|test| expression(&test.test)).collect()
    };
    let without_case = of(true).join("|");
    let mut all = of(false);
    if !without_case.is_empty() {
        all.insert(0, format!("(?i:{without_case})"));
    }
    all.join("|")
}

fn plain(text: &str) -> String {
    text.chars().map(character).collect()
}

fn in_json(text: &str) -> String {
    let written = |char: char| match char {
        '"' | '\\' | '/' | '\u{8}' | '\u{c}' | '\n' | '\r' | '\t' => format!("(?:{}|{ESCAPED})", character(char)),
        _ => character(char),
    };
    text.chars().map(written).collect()
}

/// The character itself, or an escape that means it to either kind of expression and nothing to a configuration file.
fn character(char: char) -> String {
    match char {
        '.' => r"\.".to_owned(),
        '_' | '-' | ':' | '/' | '@' | ',' => char.to_string(),
        _ if char.is_ascii_alphanumeric() || !char.is_ascii() => char.to_string(),
        _ => format!("\\x{:02x}", u32::from(char)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firstseen_engine::rule::FieldRef;

    fn equals(literal: &str, ignore_case: bool) -> Comparison {
        Comparison { field: FieldRef(0), test: Test::Equals(literal.to_owned()), ignore_case }
    }

    fn wildcard(parts: &[&str]) -> Comparison {
        let parts = parts.iter().map(|part| (*part).to_owned()).collect();
        Comparison { field: FieldRef(0), test: Test::Wildcard(parts), ignore_case: false }
    }

    #[test]
    fn expressions_are_bound_to_both_ends() {
        let of = |tests: &[Comparison]| of_value(tests, "^", "$");
        assert_eq!(of(&[equals("sts.amazonaws.com", false)]), r"^sts\.amazonaws\.com$");
        assert_eq!(of(&[equals("Get", true)]), "^(?i:Get)$");
        assert_eq!(of(&[equals("A", false), equals("B", false)]), "^(?:A|B)$");
        assert_eq!(of(&[equals("A", true), equals("B", true)]), "^(?i:A|B)$");
        assert_eq!(of(&[equals("A", true), equals("B", false)]), "^(?:(?i:A)|B)$");
        assert_eq!(of(&[wildcard(&["Get", "x", ""])]), r"^Get[\s\S]*x[\s\S]*$");
    }

    #[test]
    fn nothing_in_a_literal_means_anything() {
        let of = |literal: &str| of_value(&[equals(literal, false)], "^", "$");
        assert_eq!(of("a'b\"c\\d e$f{}"), r"^a\x27b\x22c\x5cd\x20e\x24f\x7b\x7d$");
        assert_eq!(of("é\n#"), r"^é\x0a\x23$");
    }

    #[test]
    fn json_text_may_spell_what_it_holds_in_several_ways() {
        assert_eq!(of_json_text(&[equals("Get", true)]).as_deref(), Some(r#"(?i:"Get\\*")|\\u|ata\\*""#));
        assert_eq!(of_json_text(&[equals("a/b", false)]).as_deref(), Some(r#""a(?:/|\\+.)b\\*"|\\u|ata\\*""#));
        assert_eq!(of_json_text(&[wildcard(&["", "a", "b"])]).as_deref(), Some(r#"a[\s\S]*b|\\u|ata\\*""#));
        assert_eq!(of_json_text(&[equals("a", false), equals("22", false)]), None);
        assert_eq!(of_json_text(&[equals("true", false)]), None);
        assert_eq!(of_json_text(&[wildcard(&["", "", ""])]), None);
    }
}
