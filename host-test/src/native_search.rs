//! The search that the engine uses when it runs in the host program itself: that of the `memchr` crate.
//!
//! In: a record. Out: what [`Search`] says. Bounds: what a needle's search is prepared with is kept for each thread, of which
//! there are a few, and for each needle, of which the engine has a few. Not here: the searches that the guest borrows ([`crate::search`]).

use std::cell::RefCell;

use firstseen_engine::prefilter::{Needle, Search};
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

#[cfg(test)]
mod tests {
    use firstseen_engine::prefilter::PortableSearch;
    use proptest::prelude::*;

    use super::*;

    proptest! {
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
