//! What an uninteresting record is rejected by, before anything of it is parsed or allocated.
//!
//! In: the loaded rules, and then records. Out: for a record, whether any rule can match it: a rejection is a proof, a candidate
//! a guess; and whether it has a key of an event at all. Bounds: no allocation; a few searches over the record by the host's own routines ([`Search`]), and a look at
//! what stands behind each place found, of which there are at most [`MAX_PLACES`] for a needle: a record with more is a
//! candidate. Not here: deciding a match.
//!
//! ```text
//! Nearly every rule asks for one of some event names (or of some providers). So, for each key that a dialect may
//! keep the name under (`eventName`, `EventName`, `event.action`), find the key's ending in the record:
//!   no colon behind its quote              -> it is no key here; go on
//!   a string behind the colon              -> the record is a candidate if one of the tests accepts that string,
//!                                             or might accept it once an escape in it is decoded
//!   anything else (an array, a number)     -> candidate
//! `data` with base64 that may be an object -> candidate, for what base64 spells is not searched
//! No such place anywhere                   -> rejected, unless the record holds an escape that could spell a key or
//!                                             a name otherwise (`\u0047`): such records are candidates
//! ```
//!
//! A record that begins with `eventVersion` holds no event in ECS and no envelope but the operator's ([`crate::event`] says so).
//! It is not searched for ECS's keys and for base64, and without an envelope of the operator's no event in it is JSON text.
//!
//! Why a rejection is a proof: a match needs a value that the tests accept, under one of the keys. Written plainly, the key
//! ends in a quote and is followed by a colon with nothing but white space between. Where the event is JSON text inside
//! the record, the quotes have backslashes before them, and white space may be an escape behind backslashes, more of them the
//! deeper the text is. The only escape that can spell a letter is `\u00` and two hexadecimal digits; in JSON text, where digits of
//! such escapes, quotes, colons and white space may be spelled so too, those make a candidate as well.

use alloc::vec::Vec;

use crate::event::envelope::{BASE64_GZIP, BASE64_OBJECT};
use crate::predicate;
use crate::rule::{Comparison, Dialect, FieldRef, Pack, Predicate, Settings, Test};
use crate::words::{plain_end, position};

#[cfg(feature = "compile")]
pub mod needs;

/// A record's bytes, and how to search them: by the host's routines where there are any.
pub trait Search {
    /// The record.
    fn bytes(&self) -> &[u8];

    /// Where the needle begins at or after `from`; the time that takes grows with the distance only, if the needle has a capital
    /// letter. A record that holds a NUL may be searched up to it only: no JSON text holds one.
    fn find(&self, needle: Needle, from: usize) -> Option<usize>;

    /// Whether the record holds the byte.
    fn contains(&self, byte: u8) -> bool;

    /// The record as text, if it is UTF-8.
    fn text(&self) -> Option<&str> {
        core::str::from_utf8(self.bytes()).ok()
    }
}

/// A text that is searched for.
#[derive(Debug, Clone, Copy)]
pub struct Needle {
    text: &'static [u8],
    terminated: &'static [u8],
    capital: Option<Capital>,
}

/// A needle's first capital letter behind its first letter. Records hold few capitals.
#[derive(Debug, Clone, Copy)]
pub struct Capital {
    /// The letter.
    pub letter: u8,
    /// How many letters come before it; at least one.
    pub before: usize,
    /// The letter right before it.
    pub letter_before: u8,
}

impl Needle {
    /// A text, which is given with a NUL behind it.
    pub const fn new(terminated: &'static [u8]) -> Needle {
        let [text @ .., _nul] = terminated else { return Needle { text: b"", terminated: b"\0", capital: None } };
        let (mut before, mut capital) = (1, None);
        while before < text.len() && capital.is_none() {
            if text[before].is_ascii_uppercase() {
                capital = Some(Capital { letter: text[before], before, letter_before: text[before - 1] });
            }
            before += 1;
        }
        Needle { text, terminated, capital }
    }

    /// The text.
    #[inline]
    pub fn text(&self) -> &'static [u8] {
        self.text
    }

    /// The same with a NUL behind it, as C's functions take it.
    pub fn terminated(&self) -> &'static [u8] {
        self.terminated
    }

    /// See [`Capital`].
    #[inline]
    pub fn capital(&self) -> Option<Capital> {
        self.capital
    }
}

/// Search without a host.
#[derive(Debug, Clone, Copy)]
pub struct PortableSearch<'a>(pub &'a [u8]);

impl Search for PortableSearch<'_> {
    fn bytes(&self) -> &[u8] {
        self.0
    }

    fn find(&self, needle: Needle, mut from: usize) -> Option<usize> {
        let before = needle.capital().map_or(0, |capital| capital.before);
        let needle = needle.text();
        let sought = *needle.get(before)?;
        loop {
            let start = position(self.0, sought, from.checked_add(before)?)? - before;
            if self.0.get(start..)?.starts_with(needle) {
                return Some(start);
            }
            from = start + 1;
        }
    }

    fn contains(&self, byte: u8) -> bool {
        position(self.0, byte, 0).is_some()
    }
}

/// A field that rules single events out by, and the ends of the keys that it may stand under.
struct Anchor {
    field: &'static str,
    keys: [(Needle, &'static [Dialect]); 2],
}

/// The endings leave out the first letter, so that raw CloudTrail's key and Sentinel's are found by one search. A key of
/// the ECS dialect may be flat or nested, so its last level is what is sure to stand there.
const ANCHORS: [Anchor; 2] = [
    Anchor {
        field: "event.action",
        keys: [
            (Needle::new(b"ventName\0"), &[Dialect::CloudTrail, Dialect::Sentinel]),
            (Needle::new(b"action\0"), &[Dialect::Ecs]),
        ],
    },
    Anchor {
        field: "event.provider",
        keys: [
            (Needle::new(b"ventSource\0"), &[Dialect::CloudTrail, Dialect::Sentinel]),
            (Needle::new(b"provider\0"), &[Dialect::Ecs]),
        ],
    },
];

/// Whether the prefilter goes by this field, so that most events which it lets pass have it right.
pub(crate) fn is_anchor(field: &str) -> bool {
    ANCHORS.iter().any(|anchor| anchor.field == field)
}

/// How many places of one needle are looked at: far more than any event has that nobody has stuffed.
const MAX_PLACES: usize = 64;

/// A record of many events has many places. Searching for a needle with a capital letter takes time with the distance only, so
/// where the first places are this many bytes apart on average, and so are the others, all of them are looked at; no event that AWS
/// writes is shorter.
const BYTES_A_PLACE: usize = 256;

/// An escape that may spell a letter.
const UNICODE_ESCAPE: Needle = Needle::new(b"\\u00\0");

/// The keys of envelopes whose texts are base64, each with the quote before it: `additionalEventData` ends alike.
const BASE64_KEYS: [Needle; 2] = [Needle::new(b"\"data\0"), Needle::new(b"\"Data\0")];

/// What a look at a record finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// A rule may match.
    Candidate,
    /// None can, and the record has the key of an event.
    Key,
    /// Nor has it such a key.
    Nothing,
}

/// What rejects records for one set of rules.
#[derive(Debug, Default)]
pub struct Prefilter {
    /// For each anchor, the tests of which a matching event passes one; no tests, no rule relies on it.
    groups: Vec<Group>,
    /// A rule that no anchor can tell anything about: every record is a candidate.
    pass_all: bool,
    /// Whether the operator names an envelope, in which events may be JSON text.
    has_event_root: bool,
    /// Whether a record as CloudTrail writes it holds no event in ECS and no other envelope, which then are not looked for.
    tells_raw: bool,
}

/// What a record as CloudTrail writes it begins with; the version follows.
const RAW_RECORD: [u8; 17] = *b"{\"eventVersion\":\"";

#[derive(Debug)]
struct Group {
    /// Those of the ECS dialect come last.
    keys: Vec<Needle>,
    /// How many are not of the ECS dialect.
    other_keys: usize,
    tests: Vec<Comparison>,
    first_bytes: FirstBytes,
}

/// The bytes that a text which one of the tests accepts may begin with; a bit each.
#[derive(Debug)]
struct FirstBytes([u32; 8]);

impl FirstBytes {
    fn of(tests: &[Comparison]) -> FirstBytes {
        let mut bytes = FirstBytes([0; 8]);
        for Comparison { test, ignore_case, .. } in tests {
            let literal = match test {
                Test::Equals(literal) => literal.as_bytes(),
                Test::Wildcard(parts) => parts.first().map_or(&[][..], |part| part.as_bytes()),
                Test::Exists | Test::Range(..) | Test::Cidr(_) => &[],
            };
            match (literal.first(), ignore_case) {
                (None, _) => bytes.0 = [u32::MAX; 8],
                (Some(first), false) => bytes.add(*first),
                (Some(first), true) => {
                    bytes.add(first.to_ascii_lowercase());
                    bytes.add(first.to_ascii_uppercase());
                }
            }
        }
        bytes
    }

    fn add(&mut self, byte: u8) {
        self.0[usize::from(byte >> 5)] |= 1 << (byte & 31);
    }

    fn has(&self, byte: u8) -> bool {
        self.0[usize::from(byte >> 5)] >> (byte & 31) & 1 == 1
    }
}

impl Prefilter {
    /// The prefilter of a pack: each rule goes by the first anchor that its query needs.
    pub fn new(pack: &Pack) -> Prefilter {
        let Settings { event_root, dialect, .. } = &pack.settings;
        let mut prefilter = Prefilter {
            has_event_root: event_root.is_some(),
            tells_raw: *dialect != Some(Dialect::Ecs),
            ..Prefilter::default()
        };
        let mut groups: Vec<(usize, Vec<Comparison>)> = Vec::new();
        for rule in &pack.rules {
            let needed = ANCHORS.iter().enumerate().find_map(|(at, anchor)| {
                let field = pack.fields.iter().position(|name| name == anchor.field)?;
                Some((at, needed_tests(&rule.query, FieldRef(u16::try_from(field).ok()?))?))
            });
            match needed {
                None => prefilter.pass_all = true,
                Some((at, tests)) => match groups.iter_mut().find(|(known, _)| *known == at) {
                    Some((_, known)) => {
                        known.extend(tests.into_iter().filter(|test| !known.contains(test)).collect::<Vec<_>>())
                    }
                    None => groups.push((at, tests)),
                },
            }
        }
        prefilter.groups = groups
            .into_iter()
            .map(|(at, tests)| {
                let of = |is_ecs: bool| {
                    let keys = ANCHORS[at].keys.iter().filter(move |(_, dialects)| {
                        dialect.is_none_or(|only| dialects.contains(&only))
                            && dialects.contains(&Dialect::Ecs) == is_ecs
                    });
                    keys.map(|(key, _)| *key)
                };
                Group {
                    keys: of(false).chain(of(true)).collect(),
                    other_keys: of(false).count(),
                    first_bytes: FirstBytes::of(&tests),
                    tests,
                }
            })
            .collect();
        prefilter
    }

    /// Whether any rule can match the record, which is one JSON text.
    pub fn is_candidate(&self, record: &impl Search) -> bool {
        self.look(record) == Look::Candidate
    }

    /// Looks at a record, which is one JSON text.
    #[inline]
    pub fn look(&self, record: &impl Search) -> Look {
        if !(self.tells_raw && says_version(record.bytes())) {
            return self.look_among(record);
        }
        let may_match = self.pass_all
            || self.groups.iter().any(|group| group.may_accept_raw(record))
            || (!self.groups.is_empty() && self.hides_a_key(record, self.has_event_root));
        if may_match { Look::Candidate } else { Look::Key }
    }

    /// Looks at a text that may hold several records, whatever the first of them begins with.
    #[inline(never)]
    pub fn look_among(&self, text: &impl Search) -> Look {
        let mut seen = Look::Nothing;
        for group in &self.groups {
            match group.look(text) {
                Look::Candidate => return Look::Candidate,
                Look::Key => seen = Look::Key,
                Look::Nothing => {}
            }
        }
        let is_hidden = !self.groups.is_empty() && (self.hides_a_key(text, true) || holds_base64(text));
        if is_hidden || self.pass_all { Look::Candidate } else { seen }
    }
}

/// Whether the record begins as CloudTrail writes it: with a version, which is not empty.
fn says_version(record: &[u8]) -> bool {
    const SOUGHT: (&[[u8; 8]], &[u8]) = RAW_RECORD.as_chunks();
    let Some(begin) = record.first_chunk::<{ RAW_RECORD.len() + 1 }>() else { return false };
    let ([first, second], [last, version]) = begin.as_chunks() else { return false };
    let word = |word: &[u8; 8]| u64::from_le_bytes(*word);
    word(first) == word(&SOUGHT.0[0]) && word(second) == word(&SOUGHT.0[1]) && *last == SOUGHT.1[0] && *version != b'"'
}

impl Group {
    /// Whether a test may accept the value of one of the keys of a record as CloudTrail writes it.
    #[inline]
    fn may_accept_raw(&self, record: &impl Search) -> bool {
        let mut keys = self.keys.get(..self.other_keys).unwrap_or_default().iter();
        keys.any(|key| {
            let accepts = |rest: &[u8]| !self.begins_otherwise(rest) && self.look_at_value(rest) == Look::Candidate;
            any_behind(record, *key, accepts)
        })
    }

    /// Whether a test may accept the value of one of the keys, or there is such a key at all.
    fn look(&self, record: &impl Search) -> Look {
        let mut seen = Look::Nothing;
        for key in &self.keys {
            let is_accepted = any_behind(record, *key, |rest| {
                let found = if self.begins_otherwise(rest) { Look::Key } else { self.look_at_value(rest) };
                if found == Look::Key {
                    seen = Look::Key;
                }
                found == Look::Candidate
            });
            if is_accepted {
                return Look::Candidate;
            }
        }
        seen
    }

    /// Whether a text follows that begins as none of those that a test accepts. Most records are JSON without white space, and
    /// most names begin with another letter than those looked for.
    #[inline(always)]
    fn begins_otherwise(&self, rest: &[u8]) -> bool {
        matches!(*rest, [b'"', b':', b'"', first, ..] if first != b'\\' && !self.first_bytes.has(first))
    }

    /// `rest` begins behind what may be a key's last letter.
    #[inline(never)]
    fn look_at_value(&self, rest: &[u8]) -> Look {
        let Some(rest) = behind_key(rest) else { return Look::Nothing };
        let (opening, rest) = split_backslashes(rest);
        let Some(rest) = rest.strip_prefix(b"\"") else { return Look::Candidate };
        // No JSON text goes on behind a control character, so what is said of such a record does not matter.
        let end = plain_end(rest, 0);
        // The closing quote has as many backslashes as the opening one; anything else is an escape inside the value.
        let (closing, behind) = split_backslashes(&rest[end..]);
        match core::str::from_utf8(&rest[..end]) {
            Ok(text) if opening == closing && behind.first() == Some(&b'"') => {
                if self.accepts(text) {
                    Look::Candidate
                } else {
                    Look::Key
                }
            }
            _ => Look::Candidate,
        }
    }

    fn accepts(&self, text: &str) -> bool {
        self.tests.iter().any(|test| predicate::text_passes(test, text))
    }
}

/// What stands behind a key's closing quote and colon; `None` if there are no such.
fn behind_key(rest: &[u8]) -> Option<&[u8]> {
    let (_, rest) = split_backslashes(rest);
    Some(skip_white_space(skip_white_space(rest.strip_prefix(b"\"")?).strip_prefix(b":")?))
}

/// White space, as itself or as the escape that stands for it in JSON text, whose backslash is escaped in text in text.
fn skip_white_space(mut rest: &[u8]) -> &[u8] {
    loop {
        rest = match (rest, split_backslashes(rest)) {
            ([b' ' | b'\t' | b'\r' | b'\n', rest @ ..], _) => rest,
            (_, (1.., [b't' | b'r' | b'n', rest @ ..])) => rest,
            _ => return rest,
        }
    }
}

/// Whether the record has a key of base64 that may spell an object, or something compressed. The latter is a candidate so that it
/// is counted: nobody can read it here.
#[inline(never)]
fn holds_base64(record: &impl Search) -> bool {
    let may_be_read = |rest: &[u8]| {
        let Some(rest) = behind_key(rest) else { return false };
        let (_, rest) = split_backslashes(rest);
        match rest.strip_prefix(b"\"") {
            Some([first, ..]) if *first == BASE64_OBJECT => true,
            Some(text) => text.starts_with(BASE64_GZIP) || text.starts_with(b"\\"),
            // An array of texts.
            None => rest.starts_with(b"["),
        }
    };
    BASE64_KEYS.iter().any(|key| any_behind(record, *key, may_be_read))
}

/// How many backslashes come first, and what follows them.
fn split_backslashes(rest: &[u8]) -> (usize, &[u8]) {
    let count = rest.iter().take_while(|byte| **byte == b'\\').count();
    (count, &rest[count..])
}

impl Prefilter {
    /// Whether an escape in the record, or in text in it if that is read as well, may spell a part of a key.
    #[inline(always)]
    fn hides_a_key(&self, record: &impl Search, is_text: bool) -> bool {
        record.contains(b'\\') && self.spells_a_key(record, is_text)
    }

    #[inline(never)]
    fn spells_a_key(&self, record: &impl Search, is_text: bool) -> bool {
        let spells = |rest: &[u8]| match *rest {
            [b'4'..=b'7', ..] => true,
            // White space, the quote, digits and the colon, in either case.
            [b'0', b'9' | b'a' | b'A' | b'd' | b'D', ..] | [b'2', b'0' | b'2', ..] => is_text,
            [b'3', b'0'..=b'9' | b'a' | b'A', ..] => is_text,
            // A digit of the escape is an escape itself.
            [b'0'..=b'3', b'\\', ..] | [b'\\', ..] => is_text,
            _ => false,
        };
        any_behind(record, UNICODE_ESCAPE, spells)
    }
}

/// Whether `decides` says so of what follows one of the places where the record holds the needle. Having seen as many as there
/// may be it is taken to: a host may look at the whole rest of the record for each.
#[inline(always)]
fn any_behind(record: &impl Search, needle: Needle, mut decides: impl FnMut(&[u8]) -> bool) -> bool {
    let (mut from, mut left) = (0, MAX_PLACES);
    while let Some(at) = record.find(needle, from) {
        from = at + needle.text().len();
        if decides(&record.bytes()[from..]) {
            return true;
        }
        left -= 1;
        if left == 0 {
            left = more_places(record, needle, from);
            if left == 0 {
                return true;
            }
        }
    }
    false
}

/// How many more places are looked at in a record that had [`MAX_PLACES`] up to this place, or as many as it had in each stretch of
/// bytes before.
#[cold]
fn more_places(record: &impl Search, needle: Needle, from: usize) -> usize {
    let is_linear = needle.capital().is_some();
    let rest = record.bytes().len().saturating_sub(from);
    // So many that a record of events which are no shorter than this is looked at to its end; one that is stuffed is not.
    if is_linear && from >= MAX_PLACES * BYTES_A_PLACE { rest / BYTES_A_PLACE + 1 } else { 0 }
}

/// Tests of the field of which one must pass for the predicate to hold; `None` if it can hold otherwise.
fn needed_tests(predicate: &Predicate, field: FieldRef) -> Option<Vec<Comparison>> {
    match predicate {
        Predicate::Is(comparison) if comparison.field == field => match comparison.test {
            // These hold for so many values that they single nothing out.
            Test::Exists | Test::Range(..) | Test::Cidr(_) => None,
            Test::Equals(_) | Test::Wildcard(_) => Some(Vec::from([comparison.clone()])),
        },
        Predicate::Is(_) | Predicate::Not(_) => None,
        Predicate::All(all) => all.iter().filter_map(|part| needed_tests(part, field)).min_by_key(Vec::len),
        Predicate::Any(any) => any.iter().try_fold(Vec::new(), |mut tests, part| {
            tests.extend(needed_tests(part, field)?);
            Some(tests)
        }),
    }
}

#[cfg(all(test, feature = "compile"))]
mod tests {
    use super::*;
    use crate::rule::{builtin, compile};
    use alloc::format;
    use alloc::string::String;
    use core::cell::Cell;

    fn prefilter(settings: &str) -> Prefilter {
        let pack = compile::compile(Some(("firstseen.toml", settings)), &builtin::FILES, &[]).unwrap();
        Prefilter::new(&pack)
    }

    fn is_candidate(prefilter: &Prefilter, record: &str) -> bool {
        prefilter.is_candidate(&PortableSearch(record.as_bytes()))
    }

    #[test]
    fn names_are_told_apart_behind_their_keys_only() {
        let prefilter = prefilter("");
        for (record, candidate) in [
            (r#"{"eventName":"GetCallerIdentity"}"#, true),
            (r#"{"eventName":"getcalleridentity"}"#, true),
            (r#"{"eventName" :  "GetCallerIdentity"}"#, true),
            (r#"{"EventName":"GetCallerIdentity"}"#, true),
            (r#"{"event":{"action":"GetCallerIdentity"}}"#, true),
            (r#"{"event.action":"GetCallerIdentity"}"#, true),
            (r#"{"eventName":"GetCaller\u0049dentity"}"#, true),
            (r#"{"event\u004eame":"GetCallerIdentity"}"#, true),
            (r#"{"eventName":["GetCallerIdentity"]}"#, true),
            (r#"{"eventName":"x","eventName":"GetCallerIdentity"}"#, true),
            (r#"{"eventName":"GetObject"}"#, false),
            (r#"{"eventName":"GetCallerIdentity2"}"#, false),
            (r#"{"eventName":"GetObject","userAgent":"GetCallerIdentity"}"#, false),
            (r#"{"eventName":"GetObject","userAgent":"eventName GetCallerIdentity"}"#, false),
            (r#"{"eventName":"GetObject","userAgent":"\u00e9 \u003c \"eventName\""}"#, false),
            (r#"{"name":"GetCallerIdentity"}"#, false),
        ] {
            assert_eq!(is_candidate(&prefilter, record), candidate, "{record}");
        }
    }

    #[test]
    fn records_in_one_text_are_sought_in_all_dialects() {
        let prefilter = prefilter("");
        for (text, first_alone, among) in [
            (r#"{"eventVersion":"1.11","eventName":"GetObject"}{"event":{"action":"GetCallerIdentity"}}"#, false, true),
            (r#"{"eventVersion":"1.11","eventName":"GetObject"},{"event":{"action":"GetObject"}}"#, false, false),
            (r#"{"eventVersion":"1.11","eventName":"GetObject"} {"eventName":"GetCallerIdentity"}"#, true, true),
        ] {
            assert_eq!(is_candidate(&prefilter, text), first_alone, "{text}");
            assert_eq!(prefilter.look_among(&PortableSearch(text.as_bytes())) == Look::Candidate, among, "{text}");
        }
    }

    #[test]
    fn json_text_is_read_through_its_escapes() {
        let prefilter = prefilter("event_root = \"log\"");
        for (record, candidate) in [
            (r#"{"log":"{\"eventName\":\"GetCallerIdentity\"}"}"#, true),
            (r#"{"log":"{\"eventName\"\n\t:\r\"GetCallerIdentity\"}"}"#, true),
            (r#"{"log":"{\u0022eventName\u0022:\u0022GetCallerIdentity\u0022}"}"#, true),
            (r#"{"log":"{\"eventName\":\"GetCaller\\u0049dentity\"}"}"#, true),
            (r#"{"log":"{\"eventName\":\"GetObject\"}"}"#, false),
            (r#"{"log":"{\"eventName\":\"GetObject\",\"a\":\"\\\"GetCallerIdentity\\\"\"}"}"#, false),
        ] {
            assert_eq!(is_candidate(&prefilter, record), candidate, "{record}");
        }
    }

    #[test]
    fn a_dialect_leaves_the_other_keys_alone() {
        let prefilter = prefilter("dialect = \"cloudtrail\"");
        assert!(is_candidate(&prefilter, r#"{"eventName":"GetCallerIdentity"}"#));
        assert!(!is_candidate(&prefilter, r#"{"event.action":"GetCallerIdentity"}"#));
    }

    /// Each search may cost a look at the whole rest of the record, so that many would take time with its square.
    #[test]
    fn a_stuffed_record_is_not_searched_for_ever() {
        struct Counted<'a>(PortableSearch<'a>, Cell<usize>);
        impl Search for Counted<'_> {
            fn bytes(&self) -> &[u8] {
                self.0.bytes()
            }
            fn find(&self, needle: Needle, from: usize) -> Option<usize> {
                self.1.set(self.1.get() + 1);
                self.0.find(needle, from)
            }
            fn contains(&self, byte: u8) -> bool {
                self.0.contains(byte)
            }
        }
        let prefilter = prefilter("");
        for stuffing in ["action", "eventName", "\\u00e9"] {
            let record: String =
                format!("{{\"eventName\":\"GetObject\",\"userAgent\":\"{}\"}}", stuffing.repeat(10_000));
            let search = Counted(PortableSearch(record.as_bytes()), Cell::new(0));
            assert!(prefilter.is_candidate(&search), "{stuffing}");
            assert!(search.1.get() <= 3 * MAX_PLACES, "{} searches for {stuffing}", search.1.get());
        }
    }
}
