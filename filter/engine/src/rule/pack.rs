//! The bytes of a [`Pack`].
//!
//! One header line, and the pack in the order and widths of `wire.rs` behind it:
//!
//! ```text
//! firstseen-pack 1 0123456789abcdef0123456789abcdef 4711\n...
//! |              | |                                |      the payload, of exactly that many bytes
//! |              | |                                the payload's length in decimal, at most 10 digits
//! |              | the payload's checksum: SipHash 2-4 with 128 bits and the key 0, in lower-case hexadecimal
//! |              the version of this format, in decimal
//! the label
//! ```
//!
//! The checksum finds damage; it does not keep anybody from writing a pack. [`decode`] checks, in this order: the words
//! of the header from left to right, the length, the checksum, the payload, then the bounds that [`crate::rule`] states:
//! those of the settings, of the fields, of the number of rules, and of each rule. What it returns is a pack that the
//! engine can run without a check of its own, but for the fields' names, which the event reader binds.
//! Bounds: no bytes make it panic, or take more memory than they do themselves, times a constant. Not here: files.

#[cfg(test)]
mod tests;

use alloc::format;
use alloc::string::String;
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
const LABEL: &str = "firstseen-pack";

/// The version of the format that this code writes, and the only one that it reads.
const VERSION: &str = "1";

/// Hexadecimal digits of the checksum.
const CHECKSUM_DIGITS: usize = 32;

/// The longest version and length that are read: 4 GB take ten digits.
const NUMBER_DIGITS: usize = 10;

/// What of a pack was being read when something was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The word that a pack begins with.
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
    pub expected: String,
    /// What was found.
    pub found: String,
}

impl fmt::Display for PackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = match self.part {
            Part::Label => "label",
            Part::Version => "format version",
            Part::Length => "length",
            Part::Checksum => "checksum",
            Part::Payload => "payload",
            Part::Settings => "settings",
            Part::Fields => "fields",
            Part::Rules => "rules",
            Part::Rule(at) => {
                f.write_str("rule ")?;
                fmt::Display::fmt(&at, f)?;
                ""
            }
        };
        f.write_str(part)?;
        f.write_str(" of the pack: expected ")?;
        f.write_str(&self.expected)?;
        f.write_str(", found ")?;
        f.write_str(&self.found)?;
        f.write_str("; make the pack anew with `firstseen compile`")
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
    let mut bytes = format!("{LABEL} {VERSION} {} {}\n", hex(checksum(payload)), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

/// Reads a pack.
///
/// # Errors
/// The first thing that is wrong, in the order that the module's page states.
pub fn decode(bytes: &[u8]) -> Result<Pack, PackError> {
    let mut rest = bytes;
    let label = word(&mut rest, LABEL.len(), b' ');
    if label != Ok(LABEL.as_bytes()) {
        return Err(wrong(Part::Label, LABEL, shown(label)));
    }
    let version = word(&mut rest, NUMBER_DIGITS, b' ');
    if version != Ok(VERSION.as_bytes()) {
        return Err(wrong(Part::Version, VERSION, shown(version)));
    }
    let stated_checksum = word(&mut rest, CHECKSUM_DIGITS, b' ');
    let Some(stated_checksum) = stated_checksum.ok().and_then(hexadecimal) else {
        return Err(wrong(Part::Checksum, "32 hexadecimal digits", shown(stated_checksum)));
    };
    let length = word(&mut rest, NUMBER_DIGITS, b'\n');
    let Some(length) = length.ok().and_then(decimal) else {
        return Err(wrong(Part::Length, "decimal digits and a line break", shown(length)));
    };
    let payload = rest;
    if payload.len() as u64 != length {
        return Err(wrong(Part::Length, format!("{length} bytes"), format!("{}", payload.len())));
    }
    let found = checksum(payload);
    if found != stated_checksum {
        return Err(wrong(Part::Checksum, hex(stated_checksum), hex(found)));
    }
    let pack: Pack = wire::from_bytes(payload).map_err(|wire::Mismatch { offset, expected }| {
        wrong(Part::Payload, expected, format!("something else at byte {offset}"))
    })?;
    check(&pack)?;
    Ok(pack)
}

fn wrong(part: Part, expected: impl Into<String>, found: impl Into<String>) -> PackError {
    PackError { part, expected: expected.into(), found: found.into() }
}

/// Takes a word of at most `longest` bytes and the byte that ends it; `Err` holds what stands there instead.
fn word<'b>(rest: &mut &'b [u8], longest: usize, end: u8) -> Result<&'b [u8], &'b [u8]> {
    let start = &rest[..rest.len().min(longest + 1)];
    let length = start.iter().position(|&byte| byte == end).ok_or(start)?;
    let word = &rest[..length];
    *rest = &rest[length + 1..];
    Ok(word)
}

fn shown(word: Result<&[u8], &[u8]>) -> String {
    let (Ok(bytes) | Err(bytes)) = word;
    if bytes.is_empty() {
        return String::from("nothing");
    }
    format!("\"{}\"", bytes.escape_ascii())
}

fn decimal(digits: &[u8]) -> Option<u64> {
    number(digits, 10).and_then(|number| u64::try_from(number).ok())
}

fn hexadecimal(digits: &[u8]) -> Option<u128> {
    if digits.len() == CHECKSUM_DIGITS { number(digits, 16) } else { None }
}

/// Digits only: no sign, no capital letters.
fn number(digits: &[u8], radix: u32) -> Option<u128> {
    let is_digit = |byte: &u8| !byte.is_ascii_uppercase() && char::from(*byte).is_digit(radix);
    if digits.is_empty() || !digits.iter().all(is_digit) {
        return None;
    }
    digits.iter().try_fold(0u128, |number, &byte| {
        let digit = char::from(byte).to_digit(radix)?;
        number.checked_mul(u128::from(radix))?.checked_add(u128::from(digit))
    })
}

fn hex(checksum: u128) -> String {
    (0..CHECKSUM_DIGITS)
        .rev()
        .map(|at| char::from_digit((checksum >> (4 * at)) as u32 & 0xf, 16).unwrap_or('0'))
        .collect()
}

fn checksum(payload: &[u8]) -> u128 {
    let mut hasher = SipHasher24::new();
    hasher.write(payload);
    hasher.finish128().as_u128()
}

/// Checks what the types of a pack leave open.
fn check(pack: &Pack) -> Result<(), PackError> {
    check_settings(&pack.settings)?;
    at_most(Part::Fields, "fields", pack.fields.len(), MAX_FIELDS)?;
    if pack.fields.iter().any(String::is_empty) {
        return Err(wrong(Part::Fields, "names", "an empty one"));
    }
    for name in &pack.fields {
        at_most(Part::Fields, "levels of a field", fields::levels(name), fields::MAX_LEVELS)?;
    }
    at_most(Part::Rules, "rules", pack.rules.len(), MAX_RULES)?;
    for (at, rule) in pack.rules.iter().enumerate() {
        let part = Part::Rule(at);
        check_rule(part, rule, pack.fields.len())?;
        if pack.rules[..at].iter().any(|before| before.id == rule.id) {
            return Err(wrong(part, "an id of its own", format!("\"{}\" again", rule.id)));
        }
    }
    Ok(())
}

fn check_settings(settings: &Settings) -> Result<(), PackError> {
    let Settings { event_root, dialect: _, as_organization_key, output_key, capacity } = settings;
    for key in [Some(output_key), event_root.as_ref(), as_organization_key.as_ref()].into_iter().flatten() {
        if key.is_empty() || key.contains(char::is_control) {
            return Err(wrong(Part::Settings, "a key without control characters", format!("\"{key}\"")));
        }
        at_most(Part::Settings, "levels of a key", fields::levels(key), fields::MAX_LEVELS)?;
    }
    if !(1..=MAX_CAPACITY).contains(capacity) {
        return Err(wrong(Part::Settings, format!("a capacity from 1 to {MAX_CAPACITY}"), format!("{capacity}")));
    }
    Ok(())
}

fn check_rule(part: Part, rule: &Rule, fields: usize) -> Result<(), PackError> {
    if rule.id.is_empty() {
        return Err(wrong(part, "an id", "an empty one"));
    }
    at_most(part, "as its risk score", usize::from(rule.risk_score), 100)?;
    check_predicate(part, &rule.query, fields)?;
    if let Some(new_terms) = &rule.new_terms {
        check_list(part, "new-terms fields", &new_terms.fields, MAX_NEW_TERMS_FIELDS, fields)?;
        check_span(part, new_terms.window_ms)?;
    }
    if let Some(suppression) = &rule.suppression {
        check_list(part, "fields to group by", &suppression.group_by, MAX_GROUP_BY, fields)?;
        check_span(part, suppression.duration_ms)?;
    }
    if !rule.alert.threat.is_empty() && !json::is_whole_array(&rule.alert.threat) {
        return Err(wrong(part, "a list of threats in JSON", "other text"));
    }
    for Template(pieces) in [&rule.alert.title, &rule.alert.description].into_iter().flatten() {
        for piece in pieces {
            if let TemplatePart::Field(field) = piece {
                check_field(part, *field, fields)?;
            }
        }
    }
    let attributes = rule.alert.entities.iter().flat_map(|entity| &entity.attributes);
    for (_, field) in rule.alert.details.iter().chain(attributes) {
        check_field(part, *field, fields)?;
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
    check_field(part, comparison.field, fields)?;
    match &comparison.test {
        Test::Wildcard(parts) if parts.len() < 2 => {
            Err(wrong(part, "a wildcard of at least 2 parts", format!("{}", parts.len())))
        }
        Test::Cidr(network) if Network::parse(network).is_none() => {
            Err(wrong(part, "an IP network", format!("\"{network}\"")))
        }
        _ => Ok(()),
    }
}

fn check_list(part: Part, what: &str, list: &[FieldRef], most: usize, fields: usize) -> Result<(), PackError> {
    if list.is_empty() {
        return Err(wrong(part, format!("1 to {most} {what}"), "none"));
    }
    at_most(part, what, list.len(), most)?;
    list.iter().try_for_each(|field| check_field(part, *field, fields))
}

fn check_field(part: Part, field: FieldRef, fields: usize) -> Result<(), PackError> {
    if usize::from(field.0) < fields {
        return Ok(());
    }
    Err(wrong(part, format!("a field below {fields}"), format!("{}", field.0)))
}

fn check_span(part: Part, ms: u64) -> Result<(), PackError> {
    if (1..=MAX_SPAN_MS).contains(&ms) {
        return Ok(());
    }
    Err(wrong(part, format!("a time span from 1 to {MAX_SPAN_MS} ms"), format!("{ms}")))
}

fn at_most(part: Part, what: &str, count: usize, most: usize) -> Result<(), PackError> {
    if count <= most {
        return Ok(());
    }
    Err(wrong(part, format!("at most {most} {what}"), format!("{count}")))
}
