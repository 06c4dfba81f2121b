//! Whether an event satisfies a query.
//!
//! In: a compiled [`Predicate`] and an event. Out: a bool; nothing here can fail. Two-valued, as KQL is: a field without
//! values makes every comparison false, and its negation true. Bounds: recursion as deep as the predicate nests
//! ([`crate::rule::MAX_NESTING`]); time is the predicate's size times the values compared.

use core::cmp::Ordering;

use crate::event::EventView;
use crate::event::number;
use crate::event::timestamp;
use crate::event::value::Value;
use crate::rule::network::Network;
use crate::rule::{Comparison, FieldRef, Predicate, RangeOp, Test};
use crate::words::same;

/// Whether the event satisfies the predicate.
pub fn matches(predicate: &Predicate, event: &EventView<'_>) -> bool {
    match predicate {
        Predicate::All(all) => all.iter().all(|predicate| matches(predicate, event)),
        Predicate::Any(any) => any.iter().any(|predicate| matches(predicate, event)),
        Predicate::Not(inner) => !matches(inner, event),
        Predicate::Is(comparison) => match event.only_text(comparison.field) {
            Some(text) => text_passes(comparison, text),
            None => event.any(comparison.field, &mut |value| passes(comparison, value)),
        },
    }
}

/// Puts what rules events out the soonest first: `late` tells of a field how late it is to be looked at. What the predicate
/// says stays the same.
pub fn order(predicate: &mut Predicate, late: &impl Fn(FieldRef) -> u8) {
    let lateness = |part: &Predicate| match part {
        Predicate::Is(comparison) => late(comparison.field),
        Predicate::Not(inner) => match &**inner {
            Predicate::Is(comparison) => late(comparison.field),
            _ => u8::MAX,
        },
        Predicate::All(_) | Predicate::Any(_) => u8::MAX,
    };
    match predicate {
        Predicate::All(parts) => {
            parts.iter_mut().for_each(|part| order(part, late));
            // There are few.
            for end in (1..parts.len()).rev() {
                for at in 0..end {
                    if lateness(&parts[at]) > lateness(&parts[at + 1]) {
                        parts.swap(at, at + 1);
                    }
                }
            }
        }
        Predicate::Any(parts) => parts.iter_mut().for_each(|part| order(part, late)),
        Predicate::Not(inner) => order(inner, late),
        Predicate::Is(_) => {}
    }
}

/// Whether the event could satisfy the predicate if the values of the fields that are `open` were others.
pub fn may_match(predicate: &Predicate, event: &EventView<'_>, open: &impl Fn(FieldRef) -> bool) -> bool {
    outcomes(predicate, event, open).0
}

/// Whether the predicate can hold, and whether it can fail, for some values of the open fields.
fn outcomes(predicate: &Predicate, event: &EventView<'_>, open: &impl Fn(FieldRef) -> bool) -> (bool, bool) {
    match predicate {
        Predicate::Is(comparison) if open(comparison.field) => (true, true),
        Predicate::Is(_) => {
            let holds = matches(predicate, event);
            (holds, !holds)
        }
        Predicate::Not(inner) => {
            let (can_hold, can_fail) = outcomes(inner, event, open);
            (can_fail, can_hold)
        }
        Predicate::All(all) => {
            let mut can_fail = false;
            for part in all {
                let part = outcomes(part, event, open);
                if !part.0 {
                    return (false, true);
                }
                can_fail |= part.1;
            }
            (true, can_fail)
        }
        Predicate::Any(any) => {
            let mut can_hold = false;
            for part in any {
                let part = outcomes(part, event, open);
                if !part.1 {
                    return (true, false);
                }
                can_hold |= part.0;
            }
            (can_hold, true)
        }
    }
}

/// Whether the predicate names the field.
pub fn names(predicate: &Predicate, field: FieldRef) -> bool {
    match predicate {
        Predicate::All(parts) | Predicate::Any(parts) => parts.iter().any(|part| names(part, field)),
        Predicate::Not(inner) => names(inner, field),
        Predicate::Is(comparison) => comparison.field == field,
    }
}

/// Whether one value passes the comparison's test.
pub(crate) fn passes(comparison: &Comparison, value: &Value<'_>) -> bool {
    text_passes(comparison, value.as_text())
        || matches!(&comparison.test, Test::Equals(literal) if is_same_number(value, literal))
}

/// Whether a value that is text passes the comparison's test.
pub(crate) fn text_passes(comparison: &Comparison, text: &str) -> bool {
    let Comparison { test, ignore_case, .. } = comparison;
    match test {
        Test::Exists => true,
        Test::Equals(literal) => equal_text(text, literal, *ignore_case),
        Test::Wildcard(parts) => fits(text.as_bytes(), parts, *ignore_case),
        Test::Range(op, bound) => is_in_range(*op, text, bound),
        Test::Cidr(network) => Network::parse(network).is_some_and(|network| network.contains(text)),
    }
}

fn equal_text(text: &str, literal: &str, ignore_case: bool) -> bool {
    same(text.as_bytes(), literal.as_bytes()) || (ignore_case && text.eq_ignore_ascii_case(literal))
}

/// Whether a JSON number and a literal are the same number in different spellings, such as `22` and `22.0`.
fn is_same_number(value: &Value<'_>, literal: &str) -> bool {
    let Value::Number(text) = value else { return false };
    number::compare(text, literal) == Some(Ordering::Equal)
}

fn is_in_range(op: RangeOp, text: &str, bound: &str) -> bool {
    let order = number::compare(text, bound)
        .or_else(|| Some(timestamp::parse(text)?.cmp(&timestamp::parse(bound)?)))
        .unwrap_or_else(|| text.cmp(bound));
    op.accepts(order)
}

/// Whether `text` is the parts in their order with anything between them. Each inner part is taken where it first fits,
/// which is as good as any other place, so the time is that of one search a part.
pub(crate) fn fits(text: &[u8], parts: &[alloc::string::String], ignore_case: bool) -> bool {
    let [first, inner @ .., last] = parts else { return false };
    let same = |a: &[u8], b: &[u8]| if ignore_case { a.eq_ignore_ascii_case(b) } else { a == b };
    let Some((head, mut rest)) = text.split_at_checked(first.len()) else { return false };
    if !same(head, first.as_bytes()) {
        return false;
    }
    for part in inner.iter().filter(|part| !part.is_empty()) {
        let Some(at) = rest.windows(part.len()).position(|window| same(window, part.as_bytes())) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.len().checked_sub(last.len()).is_some_and(|at| same(&rest[at..], last.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::borrow::Cow;
    use alloc::string::{String, ToString};
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn pass(test: Test, ignore_case: bool, value: &Value<'_>) -> bool {
        passes(&Comparison { field: FieldRef(0), test, ignore_case }, value)
    }

    fn text(text: &str) -> Value<'_> {
        Value::Text(Cow::Borrowed(text))
    }

    fn equals(literal: &str, value: Value<'_>) -> bool {
        pass(Test::Equals(literal.to_string()), false, &value)
    }

    #[test]
    fn numbers_and_booleans_equal_their_text() {
        assert!(equals("22", Value::Number("22")));
        assert!(equals("22.0", Value::Number("22")));
        assert!(equals("220e-1", Value::Number("22")));
        assert!(equals("22", text("22")));
        assert!(!equals("22.0", text("22")));
        assert!(!equals("23", Value::Number("22")));
        assert!(equals(
            "170141183460469231731687303715884105727",
            Value::Number("170141183460469231731687303715884105727")
        ));
        assert!(!equals("9007199254740993", Value::Number("9007199254740992")));
        assert!(equals("true", Value::Bool(true)));
        assert!(!equals("True", Value::Bool(true)));
        assert!(equals("true", text("true")));
        assert!(!equals("inf", Value::Number("1e999999")));
    }

    #[test]
    fn case_matters_unless_told_otherwise() {
        assert!(!equals("AssumedRole", text("assumedrole")));
        assert!(pass(Test::Equals("AssumedRole".to_string()), true, &text("assumedROLE")));
        assert!(!pass(Test::Equals("É".to_string()), true, &text("é")));
    }

    #[test]
    fn wildcards_fit_from_end_to_end() {
        for (pattern, text, fit) in [
            ("*:i-*", "AROA:i-0abc", true),
            ("*:i-*", "AROA:session", false),
            ("a*b*c", "abc", true),
            ("a*b*c", "aXbXbXc", true),
            ("a*b*c", "ac", false),
            ("ab*b", "ab", false),
            ("ab*b", "abb", true),
            ("*a", "ba", true),
            ("*a", "ab", false),
            ("a**a", "aa", true),
            ("a**a", "a", false),
        ] {
            let parts: Vec<String> = pattern.split('*').map(String::from).collect();
            assert_eq!(fits(text.as_bytes(), &parts, false), fit, "{pattern} on {text}");
        }
        assert!(fits(b"AMAZON-02", &["amazon".to_string(), String::new()], true));
    }

    #[test]
    fn ranges_compare_numbers_then_times_then_text() {
        let range = |op, bound: &str, value: &str| pass(Test::Range(op, bound.to_string()), false, &text(value));
        assert!(range(RangeOp::Greater, "9", "10"));
        assert!(!range(RangeOp::Greater, "9", "9"));
        assert!(range(RangeOp::GreaterOrEqual, "9", "9.0"));
        assert!(range(RangeOp::Less, "2026-01-01T00:00:00Z", "2026-01-01T00:30:00+01:00"));
        assert!(range(RangeOp::LessOrEqual, "b", "a"));
        assert!(!range(RangeOp::Less, "a", "b"));
    }

    #[test]
    fn only_addresses_are_in_networks() {
        let cidr = |address: &str| pass(Test::Cidr("10.0.0.0/8".to_string()), false, &text(address));
        assert!(cidr("10.255.0.1"));
        assert!(!cidr("11.0.0.1"));
        assert!(!cidr("sts.amazonaws.com"));
    }

    proptest! {
        /// Against the definition: some split of the text satisfies the pattern.
        #[test]
        fn wildcards_equal_the_naive_definition(text in "[ab]{0,8}", pattern in "[ab*]{0,6}\\*[ab*]{0,3}") {
            fn naive(text: &[u8], pattern: &[u8]) -> bool {
                match pattern.split_first() {
                    None => text.is_empty(),
                    Some((b'*', rest)) => (0..=text.len()).any(|at| naive(&text[at..], rest)),
                    Some((byte, rest)) => text.first() == Some(byte) && naive(&text[1..], rest),
                }
            }
            let parts: Vec<String> = pattern.split('*').map(String::from).collect();
            prop_assert_eq!(fits(text.as_bytes(), &parts, false), naive(text.as_bytes(), pattern.as_bytes()));
        }
    }
}
