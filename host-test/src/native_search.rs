//! The search that the engine uses when it runs in the host program itself: that of the `memchr` crate.
//!
//! In: a record. Out: what [`Search`] says. Bounds: what a needle's search is prepared with is kept for each thread, of which
//! there are a few, and for each needle, of which the engine has a few. Not here: the searches that the guest borrows ([`crate::search`]).

use std::cell::RefCell;

use aho_corasick::packed::{Config, Searcher};
use firstseen_engine::prefilter::{Look, Needle, Prefilter, Search};
use memchr::memmem::Finder;

thread_local! {
    static FINDERS: RefCell<Vec<(&'static [u8], Finder<'static>)>> = const { RefCell::new(Vec::new()) };
}

/// A record, searched with the processor's vector instructions.
#[derive(Debug, Clone, Copy)]
pub struct NativeSearch<'a> {
    record: &'a [u8],
    has_no_backslash: bool,
}

impl<'a> NativeSearch<'a> {
    /// A record.
    pub fn new(record: &'a [u8]) -> Self {
        NativeSearch { record, has_no_backslash: false }
    }

    /// A record of which is known already that it holds no backslash, so that none is looked for.
    pub fn without_backslash(record: &'a [u8]) -> Self {
        NativeSearch { record, has_no_backslash: true }
    }
}

impl Search for NativeSearch<'_> {
    fn bytes(&self) -> &[u8] {
        self.record
    }

    fn find(&self, needle: Needle, from: usize) -> Option<usize> {
        let (rest, text) = (self.record.get(from..)?, needle.text());
        FINDERS.with_borrow_mut(|finders| {
            // A needle is the same text at the same place.
            let at = finders.iter().position(|(known, _)| std::ptr::eq(*known, text)).unwrap_or_else(|| {
                finders.push((text, Finder::new(text)));
                finders.len() - 1
            });
            Some(from + finders[at].1.find(rest)?)
        })
    }

    fn contains(&self, byte: u8) -> bool {
        let is_absent = byte == b'\\' && self.has_no_backslash;
        !is_absent && memchr::memchr(byte, self.record).is_some()
    }
}

/// Looks at lines, each of which may hold several records. Nearly all begin as CloudTrail writes a record and hold nothing that
/// belongs to another kind: one search for all of that saves a search for each.
#[derive(Debug)]
pub struct LineLook {
    /// Nothing on a processor without the instructions for it.
    others: Option<Searcher>,
}

impl LineLook {
    /// For the rules of a prefilter.
    pub fn new(prefilter: &Prefilter) -> LineLook {
        let others = prefilter.others();
        let patterns = others.iter().map(Needle::text);
        LineLook { others: Config::new().builder().extend(patterns).build() }
    }

    /// [`Prefilter::look_among`] of the same prefilter.
    pub fn look(&self, prefilter: &Prefilter, line: NativeSearch<'_>) -> Look {
        let is_raw_alone = prefilter.begins_raw(line.bytes())
            && self.others.as_ref().is_some_and(|others| others.find(line.bytes()).is_none());
        if is_raw_alone { prefilter.look(&line) } else { prefilter.look_among(&line) }
    }
}

#[cfg(test)]
mod tests {
    use firstseen_engine::prefilter::PortableSearch;
    use proptest::prelude::*;

    use super::*;

    fn part() -> impl Strategy<Value = String> {
        let name = "(GetCallerIdentity|GetObject|GetCaller\\\\u0049dentity)";
        prop_oneof![
            3 => name.prop_map(|name| format!("{{\"eventVersion\":\"1.11\",\"eventName\":\"{name}\",\"x\":\"a \\\"b\"}}")),
            name.prop_map(|name| format!("{{\"event\":{{\"action\":\"{name}\"}}}}")),
            name.prop_map(|name| format!("{{\"event.provider\":\"{name}\"}}")),
            Just("{\"data\":\"eyJldmVudE5hbWUiOiJHZXRDYWxsZXJJZGVudGl0eSJ9\"}".to_owned()),
            Just("{\"Data\":[\"H4sI\"]}".to_owned()),
            Just("{\"log\":\"{\\\\u0022eventName\\\\u0022:\\\\u0022GetCallerIdentity\\\\u0022}\"}".to_owned()),
            "[ ,{}]{1,2}",
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn a_line_is_looked_at_as_several_records_are(
            parts in proptest::collection::vec(part(), 1..4), settings in prop::sample::select(vec![
                "", "dialect = \"ecs\"", "dialect = \"cloudtrail\"", "event_root = \"log\"",
            ]),
        ) {
            use firstseen_engine::rule::{builtin, compile};

            let pack = compile::compile(Some(("firstseen.toml", settings)), &builtin::FILES, &[]).expect("rules");
            let (prefilter, line) = (Prefilter::new(&pack), parts.concat());
            let line = NativeSearch::new(line.as_bytes());
            let (found, among) = (LineLook::new(&prefilter).look(&prefilter, line), prefilter.look_among(&line));
            // That a record has the key of an event is believed of one that says its version.
            let same = found == among || (found, among) == (Look::Key, Look::Nothing);
            prop_assert!(same, "{parts:?}: {found:?}, expected {among:?}");
        }

        #[test]
        fn it_finds_what_the_engine_s_own_search_finds(
            record in "[ab\\\\]{0,40}", from in 0usize..50, needle in prop::sample::select(vec![&b"ab\0"[..], b"a\0", b"bba\0"]).prop_map(Needle::new),
        ) {
            let (native, portable) = (NativeSearch::new(record.as_bytes()), PortableSearch(record.as_bytes()));
            prop_assert_eq!(native.bytes(), portable.bytes());
            prop_assert_eq!(native.find(needle, from), portable.find(needle, from));
            prop_assert_eq!(native.contains(b'\\'), portable.contains(b'\\'));
            if !record.contains('\\') {
                let known = NativeSearch::without_backslash(record.as_bytes());
                for byte in [b'\\', b'a'] {
                    prop_assert_eq!(known.contains(byte), portable.contains(byte));
                }
            }
        }
    }
}
