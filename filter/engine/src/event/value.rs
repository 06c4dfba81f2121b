//! One value of an event, and how it is read out of the JSON text it stands in.
//!
//! In: the JSON text of one value, already known to be well-formed. Out: its scalar values, decoded only when they hold
//! escapes. Arrays are sets of their elements; null, the empty string, objects and empty arrays are no values, as in
//! Elastic's mapping. Bounds: arrays inside arrays are followed [`MAX_ARRAY_DEPTH`] deep.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::ControlFlow;

use super::json;

/// How deep arrays inside arrays are followed; deeper values do not exist for rules. CloudTrail nests none.
const MAX_ARRAY_DEPTH: usize = 4;

/// A scalar of an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// A JSON string, decoded.
    Text(Cow<'a, str>),
    /// A JSON number as it is written.
    Number(&'a str),
    /// A JSON boolean.
    Bool(bool),
}

impl Value<'_> {
    /// The value as text: what a tuple, a group or a template takes it for.
    pub fn as_text(&self) -> &str {
        match self {
            Value::Text(text) => text,
            Value::Number(text) => text,
            Value::Bool(true) => "true",
            Value::Bool(false) => "false",
        }
    }
}

/// Calls `visit` with each value in `json` until it breaks.
pub(crate) fn each<'a>(json: &'a str, visit: &mut dyn FnMut(Value<'a>) -> ControlFlow<()>) -> ControlFlow<()> {
    each_at_depth(json, 0, visit)
}

fn each_at_depth<'a>(
    json: &'a str,
    depth: usize,
    visit: &mut dyn FnMut(Value<'a>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    match json.as_bytes().first() {
        Some(b'"') => match json::decode(json) {
            Some(text) if !text.is_empty() => visit(Value::Text(text)),
            _ => ControlFlow::Continue(()),
        },
        Some(b'-' | b'0'..=b'9') => visit(Value::Number(json)),
        Some(b't') => visit(Value::Bool(true)),
        Some(b'f') => visit(Value::Bool(false)),
        Some(b'[') if depth < MAX_ARRAY_DEPTH => {
            elements(json).into_iter().try_for_each(|element| each_at_depth(element, depth + 1, visit))
        }
        _ => ControlFlow::Continue(()),
    }
}

/// The JSON texts of an array's elements; none if `json` is no array.
pub(crate) fn elements(json: &str) -> Vec<&str> {
    let mut elements = Vec::new();
    if json::elements(json, |element| elements.push(element)).is_none() {
        elements.clear();
    }
    elements
}

/// The JSON text of an object's member, the last one of several; `None` if there is none or `json` is no object.
pub(crate) fn member<'a>(json: &'a str, name: &str) -> Option<&'a str> {
    let mut found = None;
    json::members(json, |key, value| {
        if key == name {
            found = Some(value);
        }
    })?;
    found
}

/// JSON text without the white space between its tokens.
pub(crate) fn compact(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut in_string = false;
    let mut escaped = false;
    let mut kept = 0;
    for (at, byte) in json.bytes().enumerate() {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else if byte.is_ascii_whitespace() {
            out.push_str(json.get(kept..at).unwrap_or_default());
            kept = at + 1;
        } else {
            in_string = byte == b'"';
        }
    }
    out.push_str(json.get(kept..).unwrap_or_default());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn values(json: &str) -> Vec<String> {
        let mut seen = Vec::new();
        let _ = each(json, &mut |value| {
            seen.push(value.as_text().to_string());
            ControlFlow::Continue(())
        });
        seen
    }

    #[test]
    fn arrays_are_sets_and_empties_are_no_values() {
        assert_eq!(values(r#"["a",["b",null,"",{}],2.50,true,[]]"#), ["a", "b", "2.50", "true"]);
        for empty in ["null", "\"\"", "{}", "[]", r#"{"a":1}"#] {
            assert_eq!(values(empty), [""; 0], "{empty}");
        }
        assert_eq!(values(r#"[[[["a"]]]]"#), ["a"]);
        assert_eq!(values(r#"[[[[["too deep"]]]],"b"]"#), ["b"]);
    }

    #[test]
    fn members_are_found_by_their_decoded_name() {
        assert_eq!(member(r#"{"a":{"ARN":1},"\u0041RN" : "x"}"#, "ARN"), Some("\"x\""));
        assert_eq!(member(r#"{"a":1}"#, "ARN"), None);
        assert_eq!(member("[]", "ARN"), None);
    }

    #[test]
    fn compacting_keeps_strings_as_they_are() {
        assert_eq!(compact("{ \"a b\\\" \" :\n [1, 2] }"), r#"{"a b\" ":[1,2]}"#);
    }
}
