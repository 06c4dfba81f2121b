//! Members that AWS writes anew for each request, which groups and tuples leave out: with them every event would be the
//! first of its kind, and nothing would ever be suppressed or known.
//!
//! In: what stands in `additionalEventData` or `responseElements`: JSON, text that is JSON, or text in the form in which
//! Elastic's integration writes an object (`{name=value, other={name=value}}`). Out: the same without these members,
//! however deep they stand. Bounds: time and memory are linear in the text; there is no recursion over what it nests.
//! Not here: alerts' own texts and queries, which see everything.
//!
//! Only these two fields are read so, because AWS writes both: a caller chooses no member's name there. The caller does
//! choose some values (`userName`, `LoginTo`), and what such a value looks like changes nothing: JSON tells a name from a
//! value, and in Elastic's form, which does not, a name that occurs twice is left in. Fields that the caller writes, such
//! as `requestParameters` and the user agent, are compared whole.

use alloc::borrow::Cow;
use alloc::string::{String, ToString};

use super::json;

/// The members, in any case of letters. A member that is not here is compared: above all the ids of what a request has
/// made (an instance, a key, an object's version), for each of those is another outcome; and a client token, which the
/// caller chooses.
const ANYWHERE: [&str; 9] = [
    // STS, since autumn 2025. Public sample: "Apps can now impersonate human access to AWS via IAM Identity Center",
    // awsteele.com, July 2026.
    "ExtendedRequestId",
    // The sign-in sequence that an event is of.
    // https://docs.aws.amazon.com/singlesignon/latest/userguide/understanding-sign-in-events.html
    "AuthWorkflowID",
    // "The value that identifies the request. The service being called generates this value":
    // https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html
    // EC2 repeats it in its responses: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/Query-Requests.html
    "requestId",
    // https://docs.aws.amazon.com/AmazonS3/latest/API/RESTCommonResponseHeaders.html
    "x-amz-request-id",
    "x-amz-id-2",
    // https://docs.aws.amazon.com/AmazonS3/latest/userguide/s3-tables-log-files.html
    "xAmzId2",
    // The same header of other services:
    // https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.LowLevelAPI.html
    "x-amzn-RequestId",
    // How long one request and one response were:
    // https://docs.aws.amazon.com/AmazonS3/latest/userguide/cloudtrail-logging-understanding-s3-entries.html
    "bytesTransferredIn",
    "bytesTransferredOut",
];

/// The object in which STS and services like it return temporary credentials, and its members: each request gets others.
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/cloudtrail-integration.html>
const CREDENTIALS: &str = "credentials";
const OF_CREDENTIALS: [&str; 3] = ["accessKeyId", "sessionToken", "expiration"];

/// How many texts inside each other are opened: text that is JSON, in text that is JSON.
const MAX_TEXTS: usize = 3;

/// The place of a member in the two lists, one behind the other.
fn place(name: &str, is_of_credentials: bool) -> Option<usize> {
    let is = |known: &str| known.eq_ignore_ascii_case(name);
    match ANYWHERE.iter().position(|known| is(known)) {
        None if is_of_credentials => Some(ANYWHERE.len() + OF_CREDENTIALS.iter().position(|known| is(known))?),
        place => place,
    }
}

/// Follows how deep a text nests, and whether the members at hand are those of issued credentials.
#[derive(Default)]
struct Depth {
    depth: usize,
    /// How deep the members of the credentials stand; 0 outside of them.
    credentials: usize,
}

impl Depth {
    fn open(&mut self) {
        self.depth += 1;
    }

    fn close(&mut self) {
        if self.credentials == self.depth {
            self.credentials = 0;
        }
        self.depth = self.depth.saturating_sub(1);
    }

    /// A member's name was read, and an object is ahead.
    fn name(&mut self, name: &str) {
        if self.credentials == 0 && name.eq_ignore_ascii_case(CREDENTIALS) {
            self.credentials = self.depth + 1;
        }
    }

    fn is_in_credentials(&self) -> bool {
        self.credentials != 0 && self.credentials == self.depth
    }
}

/// JSON without the members and without the white space between its tokens, and whether there were any of these members.
/// The text is well-formed.
pub(crate) fn without(json: &str) -> (String, bool) {
    without_in(json, MAX_TEXTS)
}

/// JSON without per-request members, whose texts are opened so many levels deep; and whether that differs.
fn without_in(json: &str, texts: usize) -> (String, bool) {
    let mut out = String::with_capacity(json.len());
    let mut is_changed = false;
    let mut depth = Depth::default();
    let bytes = json.as_bytes();
    let mut at = 0;
    while let Some((byte, start)) = json::first(bytes, at) {
        at = start + 1;
        if byte != b'"' {
            match byte {
                b'{' | b'[' => depth.open(),
                b'}' | b']' => depth.close(),
                _ => {}
            }
            out.push(char::from(byte));
            continue;
        }
        let Some(end) = json::string(bytes, at) else { break };
        let behind = end.behind().get();
        let text = json.get(start..behind).unwrap_or_default();
        let Some(value) = json::expect(bytes, behind, b':') else {
            // A value.
            at = behind;
            match opened(text, texts) {
                Some(other) => {
                    is_changed = true;
                    out.push_str(&other);
                }
                None => out.push_str(text),
            }
            continue;
        };
        let name = json::decode(text).unwrap_or_default();
        if place(&name, depth.is_in_credentials()).is_none() {
            if json::expect(bytes, value.get(), b'{').is_some() {
                depth.name(&name);
            }
            out.push_str(text);
            out.push(':');
            at = value.get();
            continue;
        }
        let Some(behind) = json::skip(bytes, value.get()) else { break };
        is_changed = true;
        // One separator goes with it: the one behind, or of the last member the one before.
        at = match json::expect(bytes, behind.get(), b',') {
            Some(next) => next.get(),
            None => {
                if out.ends_with(',') {
                    out.pop();
                }
                behind.get()
            }
        };
    }
    (out, is_changed)
}

/// A JSON string of which the text is JSON itself, without the members; `None` if there are none of them in it.
fn opened(string: &str, texts: usize) -> Option<String> {
    // What begins with neither a bracket nor an escape is not looked into.
    let (b'{' | b'[' | b'\\' | b' ') = *string.as_bytes().get(1)? else { return None };
    let other = text_in(&json::decode(string)?, texts.checked_sub(1)?)?;
    serde_json::to_string(&other).ok()
}

/// Text that holds an object, without the members; `None` if there are none of them in it.
pub(crate) fn of_text(text: &str) -> Option<String> {
    text_in(text, MAX_TEXTS)
}

fn text_in(text: &str, texts: usize) -> Option<String> {
    let mut inner = Cow::Borrowed(text.trim_ascii());
    for _ in 0..texts {
        if !inner.starts_with('"') || !json::is_whole(&inner) {
            break;
        }
        let decoded = json::decode(&inner).map(|decoded| decoded.trim_ascii().to_string());
        inner = Cow::Owned(decoded?);
    }
    if !inner.starts_with(['{', '[']) {
        return None;
    }
    let (other, is_changed) = if json::is_whole(&inner) { without_in(&inner, texts) } else { of_pairs(&inner) };
    is_changed.then_some(other)
}

/// Reads Elastic's form, whose members are `name=value` with `, ` between them.
fn of_pairs(text: &str) -> (String, bool) {
    let mut out = String::new();
    let mut depth = Depth::default();
    let bytes = text.as_bytes();
    // Up to where the text is in `out` or left out; and whether a member may begin here.
    let (mut written, mut at, mut begins) = (0, 0, false);
    // Which members were counted, and which of them occur once.
    let (mut counted, mut single) = (0_u32, 0_u32);
    while let Some(byte) = bytes.get(at) {
        let had_begun = core::mem::take(&mut begins);
        match byte {
            b'{' | b'[' => {
                depth.open();
                begins = true;
            }
            b'}' | b']' => depth.close(),
            b',' if bytes.get(at + 1) == Some(&b' ') => {
                at += 1;
                begins = true;
            }
            _ if had_begun => {
                let name = name_ahead(text, at);
                let value = at + name.len() + 1;
                if bytes.get(value - 1) != Some(&b'=') {
                    at = value - 1 + usize::from(name.is_empty());
                    continue;
                }
                let is_nested = matches!(bytes.get(value), Some(b'{' | b'['));
                let place = place(name, depth.is_in_credentials()).filter(|_| !is_nested);
                if let Some(bit) = place.map(|place| 1_u32 << place) {
                    if counted & bit == 0 {
                        counted |= bit;
                        single |= if is_single(bytes, name) { bit } else { 0 };
                    }
                    if single & bit != 0 {
                        out.push_str(text.get(written..at).unwrap_or_default());
                        at = value_end(text, value);
                        if bytes.get(at) == Some(&b',') {
                            at += 2;
                            begins = true;
                        } else if let Some(rest) = out.strip_suffix(", ") {
                            out.truncate(rest.len());
                        }
                        written = at;
                        continue;
                    }
                } else if is_nested {
                    depth.name(name);
                }
                at = value;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    if written == 0 {
        return (out, false);
    }
    out.push_str(text.get(written..).unwrap_or_default());
    (out, true)
}

/// The name that stands ahead, if one does.
fn name_ahead(text: &str, at: usize) -> &str {
    let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
    let rest = text.get(at..).unwrap_or_default();
    let len = rest.bytes().take_while(is_of_name).count();
    rest.get(..len).unwrap_or_default()
}

/// Where a value ends: before a closing bracket, or before `, ` with another name and `=` behind it.
fn value_end(text: &str, mut at: usize) -> usize {
    let bytes = text.as_bytes();
    loop {
        match bytes.get(at) {
            None | Some(b'}' | b']') => return at,
            Some(b',') if bytes.get(at + 1) == Some(&b' ') => {
                let name = name_ahead(text, at + 2).len();
                if name > 0 && bytes.get(at + 2 + name) == Some(&b'=') {
                    return at;
                }
                at += 2 + name;
            }
            Some(_) => at += 1,
        }
    }
}

/// Whether a member of this name, or what looks like one, occurs only once.
fn is_single(text: &[u8], name: &str) -> bool {
    let is_here = |here: &&[u8]| match here {
        [b'{' | b'[' | b' ', name_here @ .., b'='] => name_here.eq_ignore_ascii_case(name.as_bytes()),
        _ => false,
    };
    text.windows(name.len() + 2).filter(is_here).take(2).count() == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use proptest::prelude::*;

    #[test]
    fn each_member_is_left_out_of_json_wherever_it_stands() {
        for name in ANYWHERE {
            for (json, rest) in [
                (r#"{"N":"1"}"#, "{}"),
                (r#"{"N":"1","a":2}"#, r#"{"a":2}"#),
                (r#"{"a":2,"N":{"b":[1]}}"#, r#"{"a":2}"#),
                (r#" { "a" : 2 , "N" : [ 1 ] , "c" : 3 } "#, r#"{"a":2,"c":3}"#),
                (r#"{"N":1,"N":2,"a":[{"N":null,"N":"x"}]}"#, r#"{"a":[{}]}"#),
                (
                    r#"{"a":{"N":"1","b":{"N":"2","c":[{"d":1,"N":"3"},{"N":true}]}}}"#,
                    r#"{"a":{"b":{"c":[{"d":1},{}]}}}"#,
                ),
            ] {
                let json = json.replace('N', name);
                assert_eq!(without(&json), (rest.to_string(), true), "{json}");
                let shouted = json.replace(name, &name.to_ascii_uppercase());
                assert_eq!(without(&shouted), (rest.to_string(), true), "{shouted}");
                let text = serde_json::to_string(&json).unwrap();
                assert_eq!(of_text(&json).as_deref(), Some(rest), "text: {json}");
                assert_eq!(of_text(&text).as_deref(), Some(rest), "text in text: {text}");
                let member = format!(r#"{{"k":{text}}}"#);
                let expected = format!(r#"{{"k":{}}}"#, serde_json::to_string(rest).unwrap());
                assert_eq!(without(&member), (expected, true), "{member}");
            }
        }
        assert_eq!(without(r#"{"\u0045xtendedRequestId":1,"a":2}"#).0, r#"{"a":2}"#);
    }

    #[test]
    fn credentials_lose_what_each_request_gets_anew_and_nothing_else_loses_it() {
        let issued = r#"{"credentials":{"accessKeyId":"ASIAEXAMPLE","sessionToken":"t","expiration":"Mar 5, 2026, 3:20:00 PM","kind":"x"},"accessKey":{"accessKeyId":"AKIAEXAMPLE","expiration":1},"sessionToken":"s"}"#;
        let rest = r#"{"credentials":{"kind":"x"},"accessKey":{"accessKeyId":"AKIAEXAMPLE","expiration":1},"sessionToken":"s"}"#;
        assert_eq!(without(issued), (rest.to_string(), true));
        let pairs = "{credentials={accessKeyId=ASIAEXAMPLE, sessionToken=t+/==, expiration=Mar 5, 2026, 3:20:00 PM}, accessKey={createDate=1}}";
        assert_eq!(of_text(pairs).as_deref(), Some("{credentials={}, accessKey={createDate=1}}"));
        for kept in [
            r#"{"credentials":"accessKeyId"}"#,
            r#"{"credentials":[{"accessKeyId":"AKIAEXAMPLE"}]}"#,
            r#"{"credentials":{"a":{"accessKeyId":"AKIAEXAMPLE"}},"accessKeyId":"AKIAEXAMPLE"}"#,
        ] {
            assert_eq!(without(kept), (kept.to_string(), false), "{kept}");
        }
    }

    #[test]
    fn elastics_form_loses_them_too() {
        for (text, rest) in [
            (
                "{ExtendedRequestId=MTo=, RequestDetails={endpointType=regional}}",
                "{RequestDetails={endpointType=regional}}",
            ),
            (
                "{RequestDetails={endpointType=regional}, ExtendedRequestId=MTo==}",
                "{RequestDetails={endpointType=regional}}",
            ),
            ("{ExtendedRequestId=MTo=}", "{}"),
            (
                "{requestId=1, ExtendedRequestId=2, x-amzn-RequestId=3, x-amz-request-id=4, a=requestId}",
                "{a=requestId}",
            ),
            ("{a=1, x-amz-id-2=a/b+c=, bytesTransferredIn=0, b=2, bytesTransferredOut=1.5E7}", "{a=1, b=2}"),
            ("{a=[{requestId=1, b=2}, {b=3}]}", "{a=[{b=2}, {b=3}]}"),
            ("{a={b={requestID=1}}, c=d, e}", "{a={b={}}, c=d, e}"),
        ] {
            assert_eq!(of_text(text).as_deref(), Some(rest), "{text}");
        }
    }

    #[test]
    fn what_is_no_such_member_stays_as_it_is() {
        for text in [
            "",
            "ExtendedRequestId",
            "{",
            "{}",
            "[]",
            "{ExtendedRequestId}",
            "{=}",
            "{a=ExtendedRequestId=1}",
            "{a=b ExtendedRequestId=1}",
            "{a=b,ExtendedRequestId=1}",
            "{ExtendedRequestIds=1, anExtendedRequestId=2}",
            "{ExtendedRequestId={a=1}}",
            "a, ExtendedRequestId=1",
            // A value that looks like one beside the one that is.
            "{UserName=alice, ExtendedRequestId=x, ExtendedRequestId=1}",
            "{UserName=alice, extendedrequestid=x, ExtendedRequestId=1}",
            r#"{"a":"ExtendedRequestId"}"#,
            r#"{"a":"\"ExtendedRequestId\":1"}"#,
            r#"{"a": "requestId", "b" : ["requestId"]}"#,
            r#"{"ExtendedRequestId":1"#,
            "\u{e9}{ExtendedRequestId=1}",
        ] {
            assert_eq!(of_text(text), None, "{text}");
        }
    }

    #[test]
    fn a_long_text_takes_time_in_proportion_to_its_length() {
        // Each would take hours if its cost grew with the square of its length.
        let len = 2_000_000;
        let nested = format!("{}{}", "{\"a\":".repeat(len / 5), "}".repeat(len / 5));
        let _ = of_text(&nested);
        let deep = format!("{}1{}", "[".repeat(len), "]".repeat(len));
        assert_eq!(without(&deep), (deep.clone(), false));
        let _ = of_text(&"{requestId=".repeat(len / 11));
        let _ = of_text(&format!("{{{}", "requestId=1, ".repeat(len / 13)));
        let _ = of_text(&format!("{{{}requestId=", "a=b, ".repeat(len / 5)));
        let members = format!("{{{}\"a\":1}}", "\"requestId\":[{}], ".repeat(len / 18));
        assert_eq!(of_text(&members).as_deref(), Some("{\"a\":1}"));
        let quotes = format!("[{}\"\"]", "\"\\\"\",".repeat(len / 5));
        assert_eq!(of_text(&quotes), None);
    }

    proptest! {
        #[test]
        fn without_the_members_json_is_compacted(json in near_members()) {
            if let Ok(value) = serde_json::from_str::<serde_json::Value>(&json) {
                let (other, is_changed) = without(&json);
                let left: serde_json::Value = serde_json::from_str(&other).expect("still JSON");
                prop_assert!(is_changed || left == value);
                prop_assert_eq!(&without(&other), &(other.clone(), false), "nothing is left to leave out");
                if !is_changed {
                    prop_assert_eq!(other, super::super::value::compact(&json));
                }
            }
        }

        #[test]
        fn any_text_is_read(text in "[{}\\[\\], =\":a]{0,40}|\\PC{0,40}") {
            if let Some(other) = of_text(&text) {
                prop_assert!(other.len() < text.len());
            }
        }
    }

    /// Objects with many of the members.
    fn near_members() -> impl Strategy<Value = String> {
        let name =
            prop::sample::select(alloc::vec!["a", "requestId", "credentials", "accessKeyId", "x-amz-id-2", "\\u0061"]);
        let leaf =
            prop::sample::select(alloc::vec!["1", "null", "\"x\"", "\"{\\\"requestId\\\":1}\"", "[]", "{}", " true"]);
        let leaf = leaf.prop_map(String::from);
        leaf.prop_recursive(4, 24, 4, move |inner| {
            let members = prop::collection::vec((name.clone(), inner.clone()), 0..4);
            prop_oneof![
                members.prop_map(|members| {
                    let members: alloc::vec::Vec<String> =
                        members.iter().map(|(name, value)| format!("\"{name}\" : {value}")).collect();
                    format!("{{{}}}", members.join(" ,"))
                }),
                prop::collection::vec(inner, 0..3).prop_map(|items| format!("[{}]", items.join(","))),
            ]
        })
    }
}
