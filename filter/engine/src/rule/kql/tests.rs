use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::super::diagnostic::Mismatch;
use super::super::{Comparison, FieldRef, MAX_NESTING, Predicate, RangeOp, Test};
use super::{Error, parse};

/// The fields that the tests know; a [`FieldRef`] is an index into them.
const FIELDS: [&str; 6] = ["a", "b", "c", "source.ip", "user.id", "odd name:(*)"];

fn parsed(text: &str) -> Result<Predicate, Error> {
    parse(text, &mut |name| {
        FIELDS
            .iter()
            .position(|known| *known == name)
            .map(|at| FieldRef(at as u16))
            .ok_or_else(|| Mismatch::new(format!("the unknown field {name:?}"), "a known one"))
    })
}

fn is(field: u16, test: Test) -> Predicate {
    Predicate::Is(Comparison { field: FieldRef(field), test, ignore_case: false })
}

fn equals(field: u16, text: &str) -> Predicate {
    is(field, Test::Equals(text.to_string()))
}

fn wildcard(field: u16, parts: &[&str]) -> Predicate {
    is(field, Test::Wildcard(parts.iter().map(|part| part.to_string()).collect()))
}

fn exists(field: u16) -> Predicate {
    is(field, Test::Exists)
}

fn range(field: u16, operator: RangeOp, bound: &str) -> Predicate {
    is(field, Test::Range(operator, bound.to_string()))
}

fn cidr(field: u16, network: &str) -> Predicate {
    is(field, Test::Cidr(network.to_string()))
}

fn all(parts: Vec<Predicate>) -> Predicate {
    Predicate::All(parts)
}

fn any(parts: Vec<Predicate>) -> Predicate {
    Predicate::Any(parts)
}

fn not(part: Predicate) -> Predicate {
    Predicate::Not(Box::new(part))
}

#[test]
fn queries_compile_to_predicates() {
    let (x, y, z) = (|| equals(0, "x"), || equals(1, "y"), || equals(2, "z"));
    let table = [
        // One comparison, with every spacing.
        ("a: x", x()),
        ("a:x", x()),
        ("a : x", x()),
        (" \t\r\n\u{a0}a\u{a0}:\nx ", x()),
        ("\"a\": \"x\"", x()),
        ("(((a: x)))", x()),
        ("a: ((x))", x()),
        // Values.
        ("a: \"\"", equals(0, "")),
        ("a: MongoDB Atlas", equals(0, "MongoDB Atlas")),
        ("a: two  spaces ", equals(0, "two  spaces")),
        ("a: \"MongoDB, Inc.\"", equals(0, "MongoDB, Inc.")),
        ("a: X", equals(0, "X")),
        ("a: true", equals(0, "true")),
        ("a: -22.50", equals(0, "-22.50")),
        ("a: x?", equals(0, "x?")),
        ("a: ändern", equals(0, "ändern")),
        ("a: orange", equals(0, "orange")),
        ("a: sand and b: y", all(vec![equals(0, "sand"), y()])),
        // Wildcards; in quotes they are none.
        ("a: *", exists(0)),
        ("a: **", exists(0)),
        ("a: \"*\"", equals(0, "*")),
        ("a: i-*", wildcard(0, &["i-", ""])),
        ("a: *a**b*", wildcard(0, &["", "a", "b", ""])),
        ("a: x* *y", wildcard(0, &["x", " ", "y"])),
        ("a: \"i-*\"", equals(0, "i-*")),
        ("a: or*", wildcard(0, &["or", ""])),
        ("user.id: *\\:i-*", wildcard(4, &["", ":i-", ""])),
        // Escapes.
        (r#"a: \\\(\)\:\<\>\"\*\{\}"#, equals(0, "\\():<>\"*{}")),
        (r"a: \ x\ ", equals(0, " x ")),
        (r"a: \and", equals(0, "and")),
        (r"a: \OR\:x", equals(0, "OR:x")),
        (r"a: salt \and pepper", equals(0, "salt and pepper")),
        (r"a: \not", equals(0, "not")),
        (r"a: \nothing", equals(0, "\nothing")),
        (r"a: \t\r\n\u0041\ud83d\uDE00", equals(0, "\t\r\nA😀")),
        (r#"a: "\"\\\n\r\t\u0041\ud83d\uDE00 (or) :""#, equals(0, "\"\\\n\r\tA😀 (or) :")),
        // In quotes, a backslash that escapes nothing is one.
        (r#"a: "x\.\*\(y\u12""#, equals(0, r"x\.\*\(y\u12")),
        (r#"a: "\\\.""#, equals(0, r"\\.")),
        // Quotes and signs of comments inside a word, or in quotes.
        ("a: o'x#y//z", equals(0, "o'x#y//z")),
        ("a: \"'x' # y // z\"", equals(0, "'x' # y // z")),
        ("a: x 'y'", equals(0, "x 'y'")),
        (r"a: \u0023*", wildcard(0, &["#", ""])),
        (r"odd name\:\(\*\): x", equals(5, "x")),
        ("\"odd name:(*)\": x", equals(5, "x")),
        // Keywords: any case, `not` before `and` before `or`.
        ("a: x and b: y", all(vec![x(), y()])),
        ("a: x AND b: y And c: z", all(vec![x(), y(), z()])),
        ("a: x or b: y OR c: z", any(vec![x(), y(), z()])),
        ("a: x or b: y and c: z", any(vec![x(), all(vec![y(), z()])])),
        ("a: x and b: y or c: z", any(vec![all(vec![x(), y()]), z()])),
        ("(a: x or b: y) and c: z", all(vec![any(vec![x(), y()]), z()])),
        ("not a: x and b: y", all(vec![not(x()), y()])),
        ("NOT (a: x and b: y)", not(all(vec![x(), y()]))),
        ("not not a: x", not(not(x()))),
        ("not(a: x)or(b: y)", any(vec![not(x()), y()])),
        // Flat, however it was grouped.
        ("a: x and (b: y and c: z)", all(vec![x(), y(), z()])),
        ("(a: x or b: y) or c: z", any(vec![x(), y(), z()])),
        // Lists.
        ("a: (x or y)", any(vec![x(), equals(0, "y")])),
        ("a:(x and \"y\" and z)", all(vec![x(), equals(0, "y"), equals(0, "z")])),
        ("a: (not x)", not(x())),
        (
            "a:(* and not (AMAZON* or Amazon* or Google* or \"MongoDB, Inc.\"))",
            all(vec![
                exists(0),
                not(any(vec![
                    wildcard(0, &["AMAZON", ""]),
                    wildcard(0, &["Amazon", ""]),
                    wildcard(0, &["Google", ""]),
                    equals(0, "MongoDB, Inc."),
                ])),
            ]),
        ),
        ("a: (x or y) and b: y", all(vec![any(vec![x(), equals(0, "y")]), y()])),
        // Ranges.
        ("a >= 5", range(0, RangeOp::GreaterOrEqual, "5")),
        ("a<=5", range(0, RangeOp::LessOrEqual, "5")),
        ("a < \"2026-01-01\"", range(0, RangeOp::Less, "2026-01-01")),
        ("a > x and a: x", all(vec![range(0, RangeOp::Greater, "x"), x()])),
        // Networks, only in fields of addresses.
        ("source.ip: 10.0.0.0/8", cidr(3, "10.0.0.0/8")),
        ("source.ip: \"10.1.2.3/8\"", cidr(3, "10.0.0.0/8")),
        (r"source.ip: 2001\:db8\:\:/32", cidr(3, "2001:db8::/32")),
        ("source.ip: (192.0.2.1 or \"::1/128\")", any(vec![equals(3, "192.0.2.1"), cidr(3, "::1/128")])),
        ("a: 10.0.0.0/8", equals(0, "10.0.0.0/8")),
        // Addresses in canonical form, only in fields of addresses.
        ("source.ip: \"2001:DB8:0:0::01\"", equals(3, "2001:db8::1")),
        ("source.ip: (\"::0\" or sts.amazonaws.com)", any(vec![equals(3, "::"), equals(3, "sts.amazonaws.com")])),
        ("a: \"2001:DB8::1\"", equals(0, "2001:DB8::1")),
        // Every event.
        ("*", all(vec![])),
        (" * ", all(vec![])),
    ];
    for (text, expected) in table {
        assert_eq!(parsed(text), Ok(expected), "{text}");
    }
}

#[test]
fn errors_point_at_the_column() {
    let table = [
        ("", 1, 1, "an early end"),
        ("x", 1, 1, "the value \"x\" without a field"),
        ("a: x and y", 1, 10, "the value \"y\" without a field"),
        ("a: salt and pepper", 1, 13, "the value \"pepper\" without a field"),
        ("a: x or (b: y", 1, 14, "an early end"),
        ("a: x)", 1, 5, "`)`"),
        ("()", 1, 2, "`)`"),
        ("a: ()", 1, 5, "`)`"),
        ("a: (x", 1, 6, "an early end"),
        ("a:", 1, 3, "an early end"),
        ("a: and b: y", 1, 4, "the keyword `and`"),
        ("a: or", 1, 4, "the keyword `or`"),
        ("a: not x", 1, 4, "the keyword `not`"),
        ("a: x and", 1, 9, "an early end"),
        ("and a: x", 1, 1, "the keyword `and`"),
        ("not", 1, 4, "an early end"),
        ("a: \"x", 1, 4, "a `\"` that is never closed"),
        ("a: x\"y\"", 1, 5, "the value \"y\""),
        ("a: \"x\" y", 1, 8, "the value \"y\""),
        ("a: x\nand ä: y", 2, 5, "the unknown field \"ä\""),
        ("ä: x", 1, 1, "the unknown field \"ä\""),
        ("a: \"ää\" b: x", 1, 9, "the value \"b\""),
        ("a: x b: y", 1, 7, "`:`"),
        ("a*: x", 1, 2, "a wildcard in a field's name"),
        ("*: x", 1, 1, "a wildcard in a field's name"),
        ("b: y and *: x", 1, 10, "a wildcard in a field's name"),
        ("\"\": x", 1, 1, "an empty name"),
        ("a: { b: y }", 1, 4, "`{`"),
        ("a: x }", 1, 6, "`}`"),
        ("a > ", 1, 4, "an early end"),
        ("a > (1 or 2)", 1, 5, "`(`"),
        ("a >= 1*", 1, 7, "a wildcard in a range"),
        ("a > now-1d/d", 1, 5, "the date arithmetic `now-1d/d`"),
        ("a: > 5", 1, 4, "`>`"),
        (r"a: x\q", 1, 5, "the unknown escape `\\q`"),
        (r"a: \", 1, 4, "a backslash at its end"),
        (r#"a: "\ud83dx""#, 1, 5, "a `\\u` that stands for no character"),
        (r#"a: "x\""#, 1, 4, "a `\"` that is never closed"),
        (r"a: \u12", 1, 4, "a `\\u` that stands for no character"),
        (r"a: \ud83dx", 1, 4, "a `\\u` that stands for no character"),
        (r"a: \ud83d\ud83d", 1, 4, "a `\\u` that stands for no character"),
        ("source.ip: 10.0.0.0/33", 1, 12, "the value \"10.0.0.0/33\""),
        ("source.ip: \"10/8\"", 1, 12, "the value \"10/8\""),
        ("source.ip: 10.*/8", 1, 12, "the value \"10.*/8\""),
        ("* and a: x", 1, 3, "the keyword `and`"),
    ];
    for (text, line, column, found) in table {
        let error = parsed(text).expect_err(text);
        assert_eq!((error.line, error.column, error.mismatch.found.as_str()), (line, column, found), "{text}");
    }
    assert_eq!(
        parsed("a: x)").unwrap_err().to_string(),
        "1:5: the query has `)`; expected `and`, `or` or the end of the query"
    );
}

#[test]
fn errors_say_what_to_write_instead() {
    let table = [
        (
            "a: arn:aws:iam",
            "1:7: the query has `:`; expected `and`, `or` or the end of the query; quote a value that contains `:`",
        ),
        (
            "a < 2026-03-05T09:35:01Z",
            "1:18: the query has `:`; expected `and`, `or` or the end of the query; quote a value that contains `:`",
        ),
        ("a: (x or arn:aws)", "1:13: the query has `:`; expected `and`, `or` or `)`; quote a value that contains `:`"),
        ("source.ip: ::1", "1:12: the query has `:`; expected a value; quote a value that contains `:`"),
        (
            "b: y and a = \"x\"",
            "1:10: the query has the value \"a =\" without a field; expected a field and a value, such as \
             `event.action: \"GetCallerIdentity\"`; write `:` in place of `=`",
        ),
        (
            "a!=x",
            "1:1: the query has the value \"a!=x\" without a field; expected a field and a value, such as \
             `event.action: \"GetCallerIdentity\"`; write `not field: value` in place of `!=`",
        ),
        (
            "a = arn:aws",
            "1:1: the query has the unknown field \"a = arn\"; expected a field; write `:` in place of `=`, and \
             quote a value that contains `:`",
        ),
        (
            "x",
            "1:1: the query has the value \"x\" without a field; expected a field and a value, such as \
             `event.action: \"GetCallerIdentity\"`; quote a value that contains `and`, `or` or `not`",
        ),
        ("a: 'x'", "1:4: the query has a `'`, which is no quote in KQL; expected double quotes: write \"...\""),
        (
            "a: ('x y' or z)",
            "1:5: the query has a `'`, which is no quote in KQL; expected double quotes: write \"...\"",
        ),
        (
            "// only the root user\na: x",
            "1:1: the query has a comment (`//`); expected none, as KQL has no comments; quote a value that \
             contains `//`",
        ),
        (
            "a: x # why\nand b: y",
            "1:6: the query has a comment (`#`); expected none, as KQL has no comments; quote a value that \
             contains `#`",
        ),
        (
            "a: \"x\" #why",
            "1:8: the query has a comment (`#`); expected none, as KQL has no comments; quote a value that \
             contains `#`",
        ),
        (
            "source.ip >= \"10.0.0.0\"",
            "1:14: the query has a range of addresses; expected `:` and an IP network, such as \
             `source.ip: \"10.0.0.0/8\"`",
        ),
        (
            "a: x\nand source.ip < 11",
            "2:17: the query has a range of addresses; expected `:` and an IP network, such as \
             `source.ip: \"10.0.0.0/8\"`",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(parsed(text).expect_err(text).to_string(), expected, "{text}");
    }
}

#[test]
fn an_error_repeats_only_the_beginning_of_a_long_value() {
    let error = parsed(&"ü".repeat(10_000)).unwrap_err();
    assert_eq!(error.mismatch.found, format!("the value \"{}\"... without a field", "ü".repeat(60)));
}

#[test]
fn nesting_is_bounded() {
    let grouped = |open: &str, depth| format!("{}a: x{}", open.repeat(depth), ")".repeat(depth));
    assert_eq!(parsed(&grouped("(", MAX_NESTING)), Ok(equals(0, "x")));
    assert_eq!(parsed(&grouped("(", MAX_NESTING + 1)).unwrap_err().column, MAX_NESTING + 1);
    for text in [
        "(".repeat(100_000),
        "not ".repeat(100_000),
        format!("a: {}", "(".repeat(100_000)),
        format!("a: {}", "(not ".repeat(100_000)),
    ] {
        let error = parsed(&text).unwrap_err();
        assert_eq!(error.mismatch.found, "a part that nests more than 12 deep");
    }

    let nots = |depth| format!("{}a: x", "not ".repeat(depth));
    assert_eq!(parsed(&nots(MAX_NESTING)).unwrap().nesting(), MAX_NESTING);
    assert!(parsed(&nots(MAX_NESTING + 1)).is_err());

    // Each group adds two levels to the predicate: the bound is on the predicate as well.
    let mixed = |depth: usize| {
        let mut text = String::from("a: x");
        for _ in 0..depth {
            text = format!("(a: x or b: y and {text})");
        }
        text
    };
    assert_eq!(parsed(&mixed(MAX_NESTING / 2)).unwrap().nesting(), MAX_NESTING);
    assert_eq!(parsed(&mixed(MAX_NESTING / 2 + 1)).unwrap_err().column, 10);
}

/// Writes a predicate as KQL: everything escaped, grouped or quoted that could be.
fn printed(predicate: &Predicate) -> String {
    let joined = |parts: &[Predicate], keyword: &str| {
        let parts: Vec<String> = parts.iter().map(|part| format!("({})", printed(part))).collect();
        parts.join(keyword)
    };
    match predicate {
        Predicate::All(parts) => joined(parts, " and "),
        Predicate::Any(parts) => joined(parts, " OR "),
        Predicate::Not(part) => format!("not ({})", printed(part)),
        Predicate::Is(Comparison { field, test, .. }) => {
            let field = quoted(FIELDS[usize::from(field.0)]);
            match test {
                Test::Exists => format!("{field}: *"),
                Test::Equals(text) if text.is_empty() || text.len() % 2 == 0 => {
                    format!("{field}: {}", quoted(text))
                }
                Test::Equals(text) => format!("{field}: {}", unquoted(text)),
                Test::Wildcard(parts) => {
                    let parts: Vec<String> = parts.iter().map(|part| unquoted(part)).collect();
                    format!("{field}: {}", parts.join("*"))
                }
                Test::Range(operator, bound) => {
                    let operator = match operator {
                        RangeOp::Less => "<",
                        RangeOp::LessOrEqual => "<=",
                        RangeOp::Greater => ">",
                        RangeOp::GreaterOrEqual => ">=",
                    };
                    format!("{field} {operator} {}", quoted(bound))
                }
                Test::Cidr(network) => format!("{field}: {}", quoted(network)),
            }
        }
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn unquoted(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '\t' => escaped.push_str("\\t"),
            '\r' => escaped.push_str("\\r"),
            '\n' => escaped.push_str("\\n"),
            '\u{a0}' => escaped.push_str("\\u00a0"),
            // As numbers, so that no word reads as a keyword or a comment.
            '\'' | '#' | '/' | 'a' | 'A' | 'o' | 'O' | 'n' | 'N' => escaped.push_str(&format!("\\u{:04x}", c as u32)),
            ' ' | '\\' | '(' | ')' | ':' | '<' | '>' | '"' | '*' | '{' | '}' => {
                escaped.push('\\');
                escaped.push(c);
            }
            _ => escaped.push(c),
        }
    }
    escaped
}

fn arbitrary_predicate() -> impl Strategy<Value = Predicate> {
    let text = prop_oneof!["[ -~]{0,12}", "\\PC{0,6}", "[aAnNdDoOrRtT \t\n\r\u{a0}*\\\\():<>\"{}/]{0,10}",];
    let test = prop_oneof![
        Just(Test::Exists),
        text.clone().prop_map(Test::Equals),
        (text.clone(), prop::collection::vec("[ -~]{1,4}", 0..3), text.clone())
            .prop_filter("`*` alone is Exists", |(first, inner, last)| {
                !(first.is_empty() && inner.is_empty() && last.is_empty())
            })
            .prop_map(|(first, mut parts, last)| {
                parts.insert(0, first);
                parts.push(last);
                Test::Wildcard(parts)
            }),
        (
            prop_oneof![
                Just(RangeOp::Less),
                Just(RangeOp::LessOrEqual),
                Just(RangeOp::Greater),
                Just(RangeOp::GreaterOrEqual),
            ],
            text.prop_filter("date arithmetic", |text| !text.starts_with("now")),
        )
            .prop_map(|(operator, bound)| Test::Range(operator, bound)),
    ];
    let leaf = prop_oneof![
        8 => (prop_oneof![0..3u16, 4..6u16], test).prop_map(|(field, test)| is(field, test)),
        1 => (any_u32_network()).prop_map(|network| cidr(3, &network)),
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        let parts = prop::collection::vec(inner.clone(), 2..4);
        prop_oneof![
            parts.clone().prop_map(|parts| all(flat(parts, true))),
            parts.prop_map(|parts| any(flat(parts, false))),
            inner.prop_map(not),
        ]
    })
}

fn any_u32_network() -> impl Strategy<Value = String> {
    (proptest::num::u32::ANY, 0..=32u8).prop_map(|(bits, prefix)| {
        let text = format!("{}/{prefix}", core::net::Ipv4Addr::from_bits(bits));
        super::Network::parse(&text).unwrap().to_string()
    })
}

/// The parts as they stand in one `All` (or `Any`): those that are one themselves give theirs.
fn flat(parts: Vec<Predicate>, of_all: bool) -> Vec<Predicate> {
    let mut flat = Vec::new();
    for part in parts {
        match part {
            Predicate::All(inner) if of_all => flat.extend(inner),
            Predicate::Any(inner) if !of_all => flat.extend(inner),
            part => flat.push(part),
        }
    }
    flat
}

proptest! {
    #[test]
    fn a_printed_predicate_reads_back(predicate in arbitrary_predicate()) {
        let text = printed(&predicate);
        prop_assert_eq!(parsed(&text), Ok(predicate), "{}", text);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,80}") {
        let _ = parsed(&text);
    }

    #[test]
    fn any_text_of_tokens_is_read_or_refused_at_a_place_inside(
        tokens in prop::collection::vec(
            prop::sample::select(vec![
                "a", "b", ":", " ", "(", ")", " and ", " or ", "not ", "\"x\"", "*", "\\", "\\u00e9", "ü", "<=", "{",
                "\"", "\n", "source.ip", "/8", "\\not",
            ]),
            0..30,
        ),
    ) {
        let text = tokens.concat();
        match parsed(&text) {
            Ok(predicate) => prop_assert!(predicate.nesting() <= MAX_NESTING),
            Err(error) => {
                prop_assert!(text.is_char_boundary(error.offset), "{}: {:?}", text, error);
                prop_assert!(error.line <= text.split('\n').count());
            }
        }
    }
}
