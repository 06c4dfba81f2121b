//! The bytes of a [`Pack`].
//!
//! A header, and the pack in the order and widths of `wire.rs` behind it. Numbers are little-endian:
//!
//! ```text
//! at   bytes
//!  0   16     the label: `firstseen-pack` and two NULs
//! 16    4     the version of this format
//! 20    4     the payload's length
//! 24   16     the payload's checksum: SipHash 2-4 with 128 bits and the key 0
//! 40          the payload
//! ```
//!
//! The checksum finds damage; it does not keep anybody from writing a pack. [`decode`] checks, in this order: the parts
//! of the header as they stand, the payload, then the bounds that [`crate::rule`] states: those of the settings, of the
//! fields, of the number of rules, and of each rule. What it returns is a pack that the
//! engine can run without a check of its own, but for the fields' names, which the event reader binds.
//! Bounds: no bytes make it panic, or take more memory than they do themselves, times a constant. Not here: files.

#[cfg(test)]
mod tests;

use alloc::string::{String, ToString};
#[cfg(any(feature = "compile", test))]
use alloc::vec::Vec;
use core::fmt;
use core::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher24};

use super::network::Network;
use super::wire;
use super::{
    FieldRef, MAX_CAPACITY, MAX_FIELDS, MAX_GROUP_BY, MAX_NEW_TERMS_FIELDS, MAX_RULES, MAX_SPAN_MS, Pack, Predicate,
    Rule, Settings, Template, TemplatePart, Test,
};
use crate::event::{fields, json};

/// What a pack begins with.
const LABEL: &[u8; 16] = b"firstseen-pack\0\0";

/// The version of the format that this code writes, and the only one that it reads.
const VERSION: u32 = 3;

/// The length of the header, in bytes.
const HEADER: usize = 40;

/// What of a pack was being read when something was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What a pack begins with.
    Label,
    /// The version of the format.
    Version,
    /// The length of the payload.
    Length,
    /// The checksum of the payload.
    Checksum,
    /// The payload.
    Payload,
    /// The settings.
    Settings,
    /// The list of fields.
    Fields,
    /// The list of rules.
    Rules,
    /// One rule, by its place in the list, from 0 on.
    Rule(usize),
}

/// Why bytes are no pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackError {
    /// What was being read.
    pub part: Part,
    /// What was expected of it.
    pub expected: Expected,
    /// What was found.
    pub found: Found,
}

/// What was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// In words.
    Words(&'static str),
    /// A number from the first to the second, of what the words say.
    Number(u64, u64, &'static str),
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// In words.
    Words(&'static str),
    /// A number.
    Number(u64),
    /// Text of the pack.
    Text(String),
    /// Other bytes, from a place in the payload on.
    OtherBytesAt(usize),
}

impl Part {
    fn text(self) -> String {
        String::from(match self {
            Part::Label => "label",
            Part::Version => "format version",
            Part::Length => "length",
            Part::Checksum => "checksum",
            Part::Payload => "payload",
            Part::Settings => "settings",
            Part::Fields => "fields",
            Part::Rules => "rules",
            Part::Rule(at) => return ["rule ", &(at as u64).to_string()].concat(),
        })
    }
}

impl Expected {
    fn text(self) -> String {
        match self {
            Expected::Words(words) => String::from(words),
            Expected::Number(least, most, of) if least == most => [&*most.to_string(), of].concat(),
            Expected::Number(least, most, of) => [&*least.to_string(), " to ", &most.to_string(), of].concat(),
        }
    }
}

impl Found {
    fn text(&self) -> String {
        match self {
            Found::Words(words) => String::from(*words),
            Found::Number(number) => number.to_string(),
            Found::Text(text) => ["\"", text, "\""].concat(),
            Found::OtherBytesAt(offset) => ["something else at byte ", &(*offset as u64).to_string()].concat(),
        }
    }
}

impl PackError {
    /// One sentence, made without `core::fmt`, of which the module has no need otherwise.
    pub fn text(&self) -> String {
        let PackError { part, expected, found } = self;
        let (part, expected, found) = (part.text(), expected.text(), found.text());
        let what_to_do = "; make the pack anew with `firstseen compile`";
        [&*part, " of the pack: expected ", &expected, ", found ", &found, what_to_do].concat()
    }
}

impl fmt::Display for PackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl core::error::Error for PackError {}

/// Writes a pack.
#[cfg(any(feature = "compile", test))]
pub fn encode(pack: &Pack) -> Vec<u8> {
    with_header(&wire::to_bytes(pack))
}

/// Puts a header before a payload, be it one or not.
#[cfg(any(feature = "compile", test))]
pub fn with_header(payload: &[u8]) -> Vec<u8> {
    // The compiler's bounds keep every length far below 32 bits.
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    [LABEL, &VERSION.to_le_bytes()[..], &length.to_le_bytes(), &checksum(payload), payload].concat()
}

/// Reads a pack.
///
/// # Errors
/// The first thing that is wrong, in the order that the module's page states.
pub fn decode(bytes: &[u8]) -> Result<Pack, PackError> {
    decode_checked(bytes, true)
}

/// Reads a pack that is part of the program itself, and is damaged only if the program is: its checksum is not made again.
///
/// # Errors
/// Those of [`decode`].
pub fn decode_own(bytes: &[u8]) -> Result<Pack, PackError> {
    decode_checked(bytes, false)
}

fn decode_checked(bytes: &[u8], ask_checksum: bool) -> Result<Pack, PackError> {
    let Some(mut rest) = bytes.strip_prefix(LABEL) else {
        let found = if bytes.is_empty() { "nothing" } else { "something else" };
        return Err(wrong(Part::Label, Expected::Words("firstseen-pack"), Found::Words(found)));
    };
    let version = take_number(Part::Version, &mut rest)?;
    check_number(Part::Version, version, u64::from(VERSION), u64::from(VERSION), "")?;
    let length = take_number(Part::Length, &mut rest)?;
    check_number(Part::Length, bytes.len().saturating_sub(HEADER) as u64, length, length, " bytes")?;
    let payload = match rest.split_first_chunk() {
        Some((stated, payload)) if !ask_checksum || *stated == checksum(payload) => payload,
        _ => return Err(wrong(Part::Checksum, Expected::Words("that of the payload"), Found::Words("another"))),
    };
    let pack: Pack = wire::from_bytes(payload).map_err(|wire::Mismatch { offset, expected }| {
        wrong(Part::Payload, Expected::Words(expected), Found::OtherBytesAt(offset))
    })?;
    check(&pack)?;
    Ok(pack)
}

/// A number of the header.
fn take_number(part: Part, rest: &mut &[u8]) -> Result<u64, PackError> {
    let Some((number, behind)) = rest.split_first_chunk() else {
        return Err(wrong(part, Expected::Words("a number"), Found::Words("the end")));
    };
    *rest = behind;
    Ok(u64::from(u32::from_le_bytes(*number)))
}

fn wrong(part: Part, expected: Expected, found: Found) -> PackError {
    PackError { part, expected, found }
}

fn checksum(payload: &[u8]) -> [u8; 16] {
    let mut hasher = SipHasher24::new();
    hasher.write(payload);
    hasher.finish128().as_bytes()
}

/// Checks what the types of a pack leave open.
fn check(pack: &Pack) -> Result<(), PackError> {
    check_settings(&pack.settings)?;
    check_number(Part::Fields, pack.fields.len() as u64, 0, MAX_FIELDS as u64, " fields")?;
    for name in &pack.fields {
        check_levels(Part::Fields, name)?;
    }
    check_number(Part::Rules, pack.rules.len() as u64, 0, MAX_RULES as u64, " rules")?;
    for (at, rule) in pack.rules.iter().enumerate() {
        let part = Part::Rule(at);
        check_rule(part, rule, pack.fields.len())?;
        if pack.rules[..at].iter().any(|before| before.id == rule.id) {
            return Err(wrong(part, Expected::Words("an id of its own"), Found::Text(rule.id.clone())));
        }
    }
    Ok(())
}

fn check_settings(settings: &Settings) -> Result<(), PackError> {
    let Settings { event_root, as_organization_key, output_key, capacity, max_clock_skew_ms, .. } = settings;
    for key in [Some(output_key), event_root.as_ref(), as_organization_key.as_ref()].into_iter().flatten() {
        if key.contains(char::is_control) {
            let expected = Expected::Words("a key without control characters");
            return Err(wrong(Part::Settings, expected, Found::Text(key.clone())));
        }
        check_levels(Part::Settings, key)?;
    }
    check_number(Part::Settings, u64::from(*capacity), 1, u64::from(MAX_CAPACITY), " as the capacity")?;
    check_span(Part::Settings, *max_clock_skew_ms)
}

fn check_rule(part: Part, rule: &Rule, fields: usize) -> Result<(), PackError> {
    if rule.id.is_empty() {
        return Err(wrong(part, Expected::Words("an id"), Found::Words("an empty one")));
    }
    check_number(part, u64::from(rule.risk_score), 0, 100, " as the risk score")?;
    check_predicate(part, &rule.query, fields)?;
    if let Some(new_terms) = &rule.new_terms {
        check_number(part, new_terms.fields.len() as u64, 1, MAX_NEW_TERMS_FIELDS as u64, " new-terms fields")?;
        check_fields(part, &new_terms.fields, fields)?;
        check_span(part, new_terms.window_ms)?;
    }
    if let Some(suppression) = &rule.suppression {
        check_number(part, suppression.group_by.len() as u64, 1, MAX_GROUP_BY as u64, " fields to group by")?;
        check_fields(part, &suppression.group_by, fields)?;
        check_span(part, suppression.duration_ms)?;
    }
    if !rule.alert.threat.is_empty() && !json::is_whole_array(&rule.alert.threat) {
        return Err(wrong(part, Expected::Words("a list of threats in JSON"), Found::Words("other text")));
    }
    for Template(pieces) in [&rule.alert.title, &rule.alert.description].into_iter().flatten() {
        for piece in pieces {
            if let TemplatePart::Field(field) = piece {
                check_fields(part, &[*field], fields)?;
            }
        }
    }
    let attributes = rule.alert.entities.iter().flat_map(|entity| &entity.attributes);
    for (_, field) in rule.alert.details.iter().chain(attributes) {
        check_fields(part, &[*field], fields)?;
    }
    Ok(())
}

fn check_predicate(part: Part, predicate: &Predicate, fields: usize) -> Result<(), PackError> {
    let comparison = match predicate {
        Predicate::All(inner) | Predicate::Any(inner) => {
            return inner.iter().try_for_each(|inner| check_predicate(part, inner, fields));
        }
        Predicate::Not(inner) => return check_predicate(part, inner, fields),
        Predicate::Is(comparison) => comparison,
    };
    check_fields(part, &[comparison.field], fields)?;
    match &comparison.test {
        Test::Wildcard(parts) if parts.len() < 2 => {
            let expected = Expected::Words("a wildcard of at least 2 parts");
            Err(wrong(part, expected, Found::Number(parts.len() as u64)))
        }
        Test::Cidr(network) if Network::parse(network).is_none() => {
            Err(wrong(part, Expected::Words("an IP network"), Found::Text(network.clone())))
        }
        _ => Ok(()),
    }
}

fn check_fields(part: Part, list: &[FieldRef], fields: usize) -> Result<(), PackError> {
    for field in list {
        if usize::from(field.0) >= fields {
            return Err(wrong(part, Expected::Words("a field of the list"), Found::Number(u64::from(field.0))));
        }
    }
    Ok(())
}

fn check_levels(part: Part, path: &str) -> Result<(), PackError> {
    if path.is_empty() {
        return Err(wrong(part, Expected::Words("a name"), Found::Words("an empty one")));
    }
    check_number(part, fields::levels(path) as u64, 1, fields::MAX_LEVELS as u64, " levels of a name")
}

fn check_span(part: Part, ms: u64) -> Result<(), PackError> {
    check_number(part, ms, 1, MAX_SPAN_MS, " ms as a time span")
}

fn check_number(part: Part, number: u64, least: u64, most: u64, of: &'static str) -> Result<(), PackError> {
    if (least..=most).contains(&number) {
        return Ok(());
    }
    Err(wrong(part, Expected::Number(least, most, of), Found::Number(number)))
}
