//! What compiles but is probably not meant: fields that make every event the first of its kind, and exceptions that anybody
//! can meet.
//!
//! In: the names of fields, and compiled queries with the places of their comparisons. Out: warnings in the file's
//! [`Source`]; nothing here refuses a rule. Bounds: time proportional to the query times its comparisons. Not here: what
//! cannot be compiled.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::toml_source::{Source, Text};
use super::{Comparison, Predicate, Test};

/// Fields whose values differ in every event or every session by definition, each with the reason. As a new-terms field or
/// in `group_by`, one of them makes nearly every event the first of its kind.
const PER_REQUEST: [(&str, &str); 20] = [
    ("@timestamp", "it is the time of the event"),
    ("event.created", "it is the time at which the event was collected"),
    ("event.end", "it is a time of the event"),
    ("event.hash", "it is made of the whole event"),
    ("event.id", "AWS gives each event an id of its own"),
    ("event.ingested", "it is the time at which the event was stored"),
    ("event.original", "it is the text of the whole event"),
    ("event.sequence", "it is another number in each event"),
    ("event.start", "it is a time of the event"),
    ("aws.cloudtrail.additional_eventdata", "STS writes an id of each request into it"),
    ("aws.cloudtrail.request_id", "AWS gives each request an id of its own"),
    (
        "aws.cloudtrail.shared_event_id",
        "AWS gives each event an id of its own, which only its copies in other accounts share",
    ),
    (
        "aws.cloudtrail.user_identity.session_context.creation_date",
        "each session has its own, and a session is made for nearly every task",
    ),
    ("client.port", "each connection has its own"),
    ("log.offset", "each line of a log has its own"),
    ("message", "it is the text of the whole event"),
    ("source.port", "each connection has its own"),
    ("span.id", "each request has its own"),
    ("trace.id", "each request has its own"),
    ("transaction.id", "each request has its own"),
];

/// Warns of fields whose values differ in every event. `key` is what they are of: `new_terms` or `group_by`.
pub(super) fn warn_of_per_request_fields(source: &Source<'_>, key: &str, fields: &[Text]) {
    for field in fields {
        let Some((name, reason)) = PER_REQUEST.iter().find(|(name, _)| *name == field.value) else { continue };
        source.warn(
            field.span.start,
            format!("{key} names {name}, which makes nearly every event new: {reason}"),
            "leave it out, and name it under [firstseen.details] if alerts are to show it",
        );
    }
}

/// Who decides on a field's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Author {
    /// Whoever makes the call, freely; with the reason.
    Caller(&'static str),
    /// Nobody that makes the call: it says who calls, or from which network.
    Bound,
    /// Neither: it says what is called, or is the same for many callers.
    Neutral,
}

/// Fields, or beginnings of names if they end in a dot, whose values the caller writes.
const CALLER: [(&str, &str); 12] = [
    ("user_agent.", "the caller's program writes it"),
    ("tls.", "the caller's program chooses it"),
    ("aws.cloudtrail.request_parameters", "the caller writes the request"),
    ("aws.cloudtrail.request_parameters.", "the caller writes the request"),
    ("aws.cloudtrail.flattened.request_parameters.", "the caller writes the request"),
    ("user.target.", "the caller writes the request"),
    ("user.changes.", "the caller writes the request"),
    ("http.request.", "the caller writes the request"),
    ("url.", "the caller writes the request"),
    ("event.original", "it has the user agent and the request in it, which the caller writes"),
    ("message", "it has the user agent and the request in it, which the caller writes"),
    ("sentinel.account_name", "for an assumed role it is the session's name, which the caller chooses"),
];

/// Fields, or beginnings of names if they end in a dot, that say who calls or from which network.
const BOUND: [&str; 9] = [
    "user.",
    "source.",
    "client.",
    "aws.cloudtrail.user_identity.arn",
    "aws.cloudtrail.user_identity.access_key_id",
    "aws.cloudtrail.user_identity.invoked_by",
    "aws.cloudtrail.user_identity.session_context.session_issuer.",
    "aws.cloudtrail.vpc_endpoint_id",
    "sentinel.user_identity_user_name",
];

const SESSION_NAME: &str = "the wildcard leaves only the session's name to compare, which the caller chooses";

impl Author {
    fn of(name: &str, test: &Test) -> Author {
        let is = |known: &str| name == known || (known.ends_with('.') && name.starts_with(known));
        if let Some((_, reason)) = CALLER.iter().find(|(known, _)| is(known)) {
            return Author::Caller(reason);
        }
        if !BOUND.iter().any(|known| is(known)) {
            return Author::Neutral;
        }
        match (name, test) {
            (_, Test::Exists) => Author::Neutral,
            ("aws.cloudtrail.user_identity.arn", Test::Wildcard(parts)) => Author::of_arn(parts),
            // `AROA…:SESSION`: a role's id stands before the session's name.
            ("user.id", Test::Wildcard(parts)) if parts.first().is_some_and(String::is_empty) => {
                Author::Caller(SESSION_NAME)
            }
            _ => Author::Bound,
        }
    }

    /// Of an ARN with wildcards. A session's name has neither `:` nor `/` in it, so that a part with one of these and a name
    /// behind it is not the caller's.
    fn of_arn(parts: &[String]) -> Author {
        const BEFORE_NAMES: [&str; 4] = [":assumed-role/", ":user/", ":role/", ":federated-user/"];
        let names_somebody = |part: &String| {
            part.contains(":root")
                || BEFORE_NAMES.iter().any(|before| part.find(before).is_some_and(|at| part.len() > at + before.len()))
        };
        if parts.iter().any(names_somebody) {
            Author::Bound
        } else if parts.iter().skip(1).any(|part| !part.is_empty()) {
            Author::Caller(SESSION_NAME)
        } else {
            Author::Neutral
        }
    }
}

/// The ways in which a part of a predicate can be given a value, as somebody sees it who holds stolen credentials.
#[derive(Debug, Default)]
struct Ways {
    /// One is by itself, without anything that the caller writes and nothing that binds the caller.
    is_neutral: bool,
    /// Those that rest on a comparison with what the caller writes: its place among the predicate's comparisons, the name of
    /// the field, and the reason.
    forged: Vec<(usize, String, &'static str)>,
}

impl Ways {
    /// Either is enough.
    fn or(mut self, other: Ways) -> Ways {
        self.forged.extend(other.forged);
        Ways { is_neutral: self.is_neutral || other.is_neutral, ..self }
    }

    /// Both are needed.
    fn and(self, other: Ways) -> Ways {
        let forged = match (&self.forged[..], &other.forged[..]) {
            ([_, ..], [_, ..]) => self.forged,
            ([_, ..], []) if other.is_neutral => self.forged,
            ([], [_, ..]) if self.is_neutral => other.forged,
            _ => Vec::new(),
        };
        Ways { is_neutral: self.is_neutral && other.is_neutral, forged }
    }
}

/// The ways in which the predicate becomes `wanted`. `next` counts its comparisons.
fn ways(predicate: &Predicate, wanted: bool, names: &[String], next: &mut usize) -> Ways {
    match predicate {
        Predicate::Not(part) => ways(part, !wanted, names, next),
        Predicate::All(parts) | Predicate::Any(parts) => {
            let all_needed = matches!(predicate, Predicate::All(_)) == wanted;
            let mut together = Ways { is_neutral: all_needed, forged: Vec::new() };
            for part in parts {
                let part = ways(part, wanted, names, next);
                together = if all_needed { together.and(part) } else { together.or(part) };
            }
            together
        }
        Predicate::Is(Comparison { field, test, .. }) => {
            let at = *next;
            *next += 1;
            let name = names.get(usize::from(field.0)).map_or("", String::as_str);
            match Author::of(name, test) {
                // To be another than somebody is no tie to anybody.
                _ if !wanted => Ways { is_neutral: true, forged: Vec::new() },
                Author::Caller(reason) => Ways { is_neutral: false, forged: Vec::from([(at, name.into(), reason)]) },
                Author::Bound => Ways::default(),
                Author::Neutral => Ways { is_neutral: true, forged: Vec::new() },
            }
        }
    }
}

/// A query or an exception, compiled.
pub(super) struct Query<'a> {
    pub(super) text: &'a Text,
    pub(super) predicate: &'a Predicate,
    /// The byte of each comparison in the text.
    pub(super) offsets: &'a [usize],
    /// The names that the predicate's references point at.
    pub(super) names: &'a [String],
}

/// Warns of an exception that rests on what the caller writes alone.
pub(super) fn warn_of_forgeable_exception(source: &Source<'_>, exception: &Query<'_>) {
    let ways = ways(exception.predicate, true, exception.names, &mut 0);
    // One is enough to make the exception worthless; the others come to light when that one is put right.
    warn(source, "the exception", exception, ways.forged.into_iter().take(1));
}

/// Warns of each `not` of a rule's query that rests on what the caller writes alone.
pub(super) fn warn_of_forgeable_nots(source: &Source<'_>, query: &Query<'_>) {
    let ways = ways(query.predicate, false, query.names, &mut 0);
    warn(source, "the query's `not`", query, ways.forged.into_iter());
}

fn warn(
    source: &Source<'_>,
    what: &str,
    query: &Query<'_>,
    forged: impl Iterator<Item = (usize, String, &'static str)>,
) {
    let mut last = None;
    for (at, name, reason) in forged {
        let offset = query.offsets.get(at).copied().unwrap_or(0);
        // The values of a list stand behind one name.
        if last.replace(offset) == Some(offset) {
            continue;
        }
        source.warn(
            source.inside(query.text, offset),
            format!("{what} rests on {name}: {reason}, so whoever has stolen credentials can stay silent"),
            "bind it to an identity and a network, such as `aws.cloudtrail.user_identity.arn: \
             \"arn:aws:iam::111122223333:user/ci\" and source.ip: \"192.0.2.0/24\"`",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FieldRef, kql};
    use super::*;
    use crate::event::fields;
    use crate::rule::Dialect;

    /// The fields that a text is warned of, as an exception and as a rule's query, each with the text from its place on.
    fn warned(text: &str, as_exception: bool) -> Vec<(String, String)> {
        let mut names: Vec<String> = Vec::new();
        let (predicate, offsets) = kql::parse_with_offsets(text, &mut |name| {
            assert!(fields::is_known(name, Some(Dialect::Ecs)), "{name}");
            names.push(name.into());
            Ok(FieldRef(u16::try_from(names.len() - 1).unwrap()))
        })
        .unwrap();
        let ways = ways(&predicate, as_exception, &names, &mut 0);
        let place = |at: usize| text[offsets[at]..].chars().take(24).collect();
        ways.forged.into_iter().map(|(at, name, _)| (name, place(at))).collect()
    }

    #[test]
    fn exception_that_anybody_can_meet_is_told_from_one_that_binds() {
        let identity = "aws.cloudtrail.user_identity.arn";
        for (exception, expected) in [
            // On what the caller writes alone.
            ("user_agent.original: *terraform*", Some("user_agent.original")),
            ("user_agent.original: *terraform* and cloud.account.id: \"111122223333\"", Some("user_agent.original")),
            ("event.action: GetCallerIdentity and user_agent.original: x", Some("user_agent.original")),
            ("tls.client.server_name: \"sts.amazonaws.com\"", Some("tls.client.server_name")),
            ("aws.cloudtrail.request_parameters: *ci*", Some("aws.cloudtrail.request_parameters")),
            (
                "aws.cloudtrail.flattened.request_parameters.name: ci",
                Some("aws.cloudtrail.flattened.request_parameters.name"),
            ),
            ("user.name: ci or user_agent.original: x", Some("user_agent.original")),
            ("user_agent.original: x and (user.name: ci or cloud.region: y)", Some("user_agent.original")),
            ("user_agent.original: x and not source.ip: \"192.0.2.0/24\"", Some("user_agent.original")),
            ("user_agent.original: x and source.ip: *", Some("user_agent.original")),
            ("not (not user_agent.original: x or not cloud.account.id: y)", Some("user_agent.original")),
            ("message: *terraform*", Some("message")),
            // On the session's name alone.
            ("aws.cloudtrail.user_identity.arn: *terraform*", Some(identity)),
            ("aws.cloudtrail.user_identity.arn: arn\\:aws\\:sts\\:\\:111122223333\\:assumed-role/*/ci", Some(identity)),
            ("user.id: *\\:ci", Some("user.id")),
            ("sentinel.account_name: ci", Some("sentinel.account_name")),
            // Bound to somebody or to a network.
            ("aws.cloudtrail.user_identity.arn: arn\\:aws\\:sts\\:\\:111122223333\\:assumed-role/ci/*", None),
            ("aws.cloudtrail.user_identity.arn: *\\:assumed-role/ci/*", None),
            ("aws.cloudtrail.user_identity.arn: \"arn:aws:iam::111122223333:user/ci\"", None),
            ("user.id: AROAEXAMPLE\\:*", None),
            ("user_agent.original: *terraform* and user.name: ci", None),
            ("user_agent.original: *terraform* and source.ip: \"192.0.2.0/24\"", None),
            ("user_agent.original: x and (user.name: ci or source.ip: \"192.0.2.0/24\")", None),
            ("not (not user_agent.original: x or not user.name: y)", None),
            // Without anything that the caller writes.
            ("cloud.account.id: \"111122223333\"", None),
            ("aws.cloudtrail.user_identity.arn: arn\\:aws\\:sts\\:\\:111122223333\\:*", None),
            ("event.action: x and cloud.region: y", None),
            ("*", None),
        ] {
            let fields: Vec<String> = warned(exception, true).into_iter().map(|(name, _)| name).collect();
            assert_eq!(fields.first().map(String::as_str), expected, "{exception}");
        }
    }

    #[test]
    fn nots_of_a_query_are_exceptions_and_what_it_looks_for_is_not() {
        for (query, expected) in [
            ("event.action: x and user_agent.original: *kali*", &[][..]),
            ("event.action: x and not user_agent.original: *terraform*", &["user_agent.original: *te"]),
            ("user_agent.original: a and not user_agent.original: b", &["user_agent.original: b"]),
            ("event.action: x and not (user_agent.original: b and user.name: ci)", &[]),
            ("event.action: x and not (user.name: ci or user_agent.original: b)", &["user_agent.original: b)"]),
            ("event.action: x and not user.name: ci and not source.ip: \"192.0.2.0/24\"", &[]),
            ("event.action: x and not tls.cipher: a and not url.path: b", &["tls.cipher: a and not ur", "url.path: b"]),
            ("event.action: x and user_agent.original: (not b)", &["user_agent.original: (no"]),
            // Not to be silent takes both here.
            ("not user_agent.original: a or not user.name: ci", &[]),
            ("not user_agent.original: a or not cloud.account.id: b", &["user_agent.original: a o"]),
        ] {
            let places: Vec<String> = warned(query, false).into_iter().map(|(_, place)| place).collect();
            assert_eq!(places, expected, "{query}");
        }
    }

    #[test]
    fn tables_name_fields_that_rules_can_name() {
        for name in PER_REQUEST.iter().map(|(name, _)| *name) {
            assert!(fields::is_known(name, Some(Dialect::Ecs)), "{name}");
        }
        for name in CALLER.iter().map(|(name, _)| *name).chain(BOUND) {
            let whole = if name.ends_with('.') { format!("{name}x") } else { String::from(name) };
            assert!(fields::is_known(&whole, Some(Dialect::Ecs)), "{name}");
        }
    }
}
