//! What each rule needs of the fields that the prefilter goes by, for conditions in other programs' languages.
//!
//! In: a pack. Out: for each rule the tests of which a matching event passes one, field by field, and where events keep those
//! fields. A condition made of them is right if it lets every record through in which some value passes a test, whatever the
//! place. Not here: other programs' languages; the module, which has its own way ([`super::Prefilter`]).

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::cmp::Ordering;

use super::{ANCHORS, needed_tests};
use crate::event::fields::{self, Source};
use crate::event::value::Value;
use crate::event::{DIALECTS, number};
use crate::predicate;
use crate::rule::{Comparison, Dialect, FieldRef, Pack, Rule, Settings, Test};

/// The field of the event's name.
pub const ACTION: &str = ANCHORS[0].field;

/// The field of the service that the event is of.
pub const PROVIDER: &str = ANCHORS[1].field;

/// The key that says that a record is as CloudTrail writes it: then it is in no envelope but the operator's.
pub const EVENT_VERSION: &str = fields::EVENT_VERSION;

/// What a rule's query needs; neither field, if any event may match.
#[derive(Debug, Clone)]
pub struct Needs<'p> {
    /// The rule.
    pub rule: &'p Rule,
    /// Of [`ACTION`].
    pub action: Option<Vec<Comparison>>,
    /// Of [`PROVIDER`].
    pub provider: Option<Vec<Comparison>>,
}

/// The needs of a pack's rules, in their order. A need without a test is one that nothing meets.
pub fn of(pack: &Pack) -> Vec<Needs<'_>> {
    let tests = |rule: &Rule, field: &str| {
        let at = pack.fields.iter().position(|name| name == field)?;
        needed_tests(&rule.query, FieldRef(u16::try_from(at).ok()?))
    };
    let needs = |rule| Needs { rule, action: tests(rule, ACTION), provider: tests(rule, PROVIDER) };
    pack.rules.iter().map(needs).collect()
}

/// The dialects that events may come in.
pub fn dialects(settings: &Settings) -> Vec<Dialect> {
    DIALECTS.into_iter().filter(|dialect| settings.dialect.is_none_or(|only| only == *dialect)).collect()
}

/// Where a dialect keeps one of the two fields: levels with dots between, each of which may be an object of its own or part of
/// a flat key. Objects on the way may be those of an array.
pub fn path(field: &'static str, dialect: Dialect) -> &'static str {
    match fields::source(field, dialect) {
        Some(Source::At(path)) => path,
        _ => field,
    }
}

/// Places at one of which every event of the dialect has a value.
pub fn markers(dialect: Dialect) -> impl Iterator<Item = &'static str> {
    let [_, name] = fields::markers(dialect);
    core::iter::once(name).chain(fields::datasets(dialect).iter().copied())
}

/// Whether every value that passes the first comparison passes the second.
pub fn implies(first: &Comparison, second: &Comparison) -> bool {
    let covers_case = second.ignore_case || !first.ignore_case;
    match &first.test {
        Test::Equals(literal) if !may_equal_without_quotes(literal) => {
            covers_case && predicate::passes(second, &Value::Text(Cow::Borrowed(literal.as_str())))
        }
        test => covers_case && *test == second.test,
    }
}

/// Whether something that JSON does not write as text may equal the literal: a number, in whatever spelling, or a boolean.
pub fn may_equal_without_quotes(literal: &str) -> bool {
    matches!(literal, "true" | "false") || number::compare(literal, literal) == Some(Ordering::Equal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::{builtin, compile};
    use alloc::string::ToString;

    fn equals(literal: &str, ignore_case: bool) -> Comparison {
        Comparison { field: FieldRef(0), test: Test::Equals(literal.to_string()), ignore_case }
    }

    fn wildcard(parts: &[&str], ignore_case: bool) -> Comparison {
        let parts = parts.iter().map(ToString::to_string).collect();
        Comparison { field: FieldRef(0), test: Test::Wildcard(parts), ignore_case }
    }

    #[test]
    fn builtin_rules_need_their_action_and_two_the_provider() {
        let pack = compile::builtin(&builtin::FILES).unwrap();
        let needed: Vec<_> = of(&pack).iter().map(|needs| (needs.action.is_some(), needs.provider.is_some())).collect();
        assert_eq!(needed, [(true, true), (true, true), (true, false)]);
        let sentinel = [path(ACTION, Dialect::Sentinel), path(PROVIDER, Dialect::Sentinel)];
        assert_eq!(sentinel, ["EventName", "EventSource"]);
    }

    #[test]
    fn one_comparison_implies_another_by_its_values() {
        for (first, second, implied) in [
            (equals("a", false), equals("a", false), true),
            (equals("A", false), equals("a", true), true),
            (equals("a", true), equals("a", false), false),
            (equals("ab", false), wildcard(&["a", ""], false), true),
            (equals("ab", true), wildcard(&["a", ""], false), false),
            (equals("AB", true), wildcard(&["a", ""], true), true),
            (wildcard(&["a", ""], false), wildcard(&["a", ""], true), true),
            (wildcard(&["ab", ""], false), wildcard(&["a", ""], false), false),
            (wildcard(&["a", ""], false), equals("a", false), false),
            // The number 220e-1 equals 22 and does not fit the wildcard.
            (equals("22", false), wildcard(&["", "2"], false), false),
            (equals("22", false), equals("22", false), true),
        ] {
            assert_eq!(implies(&first, &second), implied, "{first:?} {second:?}");
        }
    }

    #[test]
    fn numbers_and_booleans_are_written_without_quotes() {
        for (literal, may) in [("22", true), ("-1e3", true), ("true", true), ("GetObject", false), ("2x", false)] {
            assert_eq!(may_equal_without_quotes(literal), may, "{literal}");
        }
    }
}
