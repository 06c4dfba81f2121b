//! Search by the host's C library: many times faster than the same search run by an interpreter.
//!
//! In: a record with a NUL behind it. Out: places in it. Not here: what is searched for (the engine's prefilter).

use core::cell::Cell;

use firstseen_engine::prefilter::{Needle, PortableSearch, Search};
use firstseen_engine::words::is_ascii;

#[cfg_attr(target_arch = "wasm32", link(wasm_import_module = "env"))]
unsafe extern "C" {
    /// C's `strstr`.
    fn strstr(haystack: *const u8, needle: *const u8) -> *const u8;
    /// C's `memchr`.
    fn memchr(haystack: *const u8, byte: i32, len: usize) -> *const u8;
}

/// Calls each import once, as [`crate::wasi::call_each_import`] does.
pub(crate) fn call_each_import() {
    let text = b"a\0";
    // SAFETY: C5. The text is NUL-terminated and as long as is said.
    unsafe {
        strstr(text.as_ptr(), text.as_ptr());
        memchr(text.as_ptr(), i32::from(text[0]), text.len());
    }
}

/// A record with a NUL behind it.
pub(crate) struct HostSearch<'a> {
    record: &'a [u8],
    /// How often the whole rest of the record may still be searched for a needle that has a capital letter.
    whole_searches: Cell<u8>,
}

impl<'a> HostSearch<'a> {
    /// The record, if `nul_follows` it.
    pub(crate) fn new(record: &'a [u8], nul_follows: bool) -> Option<HostSearch<'a>> {
        nul_follows.then_some(HostSearch { record, whole_searches: Cell::new(WHOLE_SEARCHES) })
    }
}

impl Search for HostSearch<'_> {
    fn bytes(&self) -> &[u8] {
        self.record
    }

    /// By the needle's capital letter where it has one: WAMR goes through the whole text byte by byte before each `strstr`, but
    /// not before `memchr`, and capital letters are rare in CloudTrail's keys.
    #[inline(always)]
    fn find(&self, needle: Needle, from: usize) -> Option<usize> {
        let Some(capital) = needle.capital() else { return self.find_by_text(needle, from) };
        let mut from = from + capital.before;
        for _ in 0..CAPITALS {
            let at = self.byte(capital.letter, from)?;
            // It is not before `from`, and there are as many letters before that.
            if self.record[at - 1] == capital.letter_before {
                let start = at - capital.before;
                if begins_with(&self.record[start..], needle.text()) {
                    return Some(start);
                }
            }
            from = at + 1;
        }
        self.find_among_capitals(needle, from - capital.before)
    }

    fn contains(&self, byte: u8) -> bool {
        self.byte(byte, 0).is_some()
    }

    fn text(&self) -> Option<&str> {
        utf8(self.record)
    }
}

/// The bytes as text, if they are UTF-8; of ASCII, which nearly every record is, few steps tell that.
fn utf8(bytes: &[u8]) -> Option<&str> {
    if is_ascii(bytes) {
        // SAFETY: ASCII is UTF-8.
        Some(unsafe { core::str::from_utf8_unchecked(bytes) })
    } else {
        core::str::from_utf8(bytes).ok()
    }
}

/// How many capital letters are looked at before the search goes on by the whole needle.
const CAPITALS: usize = 16;

/// How often the host searches the whole rest of a record that has so many capital letters. From then on the search is the
/// module's own, whose time grows with the distance only.
const WHOLE_SEARCHES: u8 = 4;

impl HostSearch<'_> {
    /// Where the byte is, at or after `from`.
    #[inline(always)]
    fn byte(&self, byte: u8, from: usize) -> Option<usize> {
        let rest = self.record.get(from..)?;
        // SAFETY: C5. The length is that of the rest of the record.
        let found = unsafe { memchr(rest.as_ptr(), i32::from(byte), rest.len()) };
        // A null pointer is a place outside of the record, and that is none.
        let at = (found as usize).wrapping_sub(self.record.as_ptr() as usize);
        (at < self.record.len()).then_some(at)
    }

    #[inline(never)]
    fn find_among_capitals(&self, needle: Needle, from: usize) -> Option<usize> {
        match self.whole_searches.get().checked_sub(1) {
            Some(left) => {
                self.whole_searches.set(left);
                self.find_by_text(needle, from)
            }
            None => PortableSearch(self.record).find(needle, from),
        }
    }

    #[inline(never)]
    fn find_by_text(&self, needle: Needle, from: usize) -> Option<usize> {
        let rest = self.record.get(from..)?;
        // SAFETY: C5. Both texts are NUL-terminated: the needle by the trait's word, the record by `new`.
        let found = unsafe { strstr(rest.as_ptr(), needle.terminated().as_ptr()) };
        let at = (found as usize).checked_sub(self.record.as_ptr() as usize)?;
        // A place outside of the record is none.
        (at + needle.text().len() <= self.record.len()).then_some(at)
    }
}

/// Whether `text` begins with the needle; few steps, for a needle of a few letters.
fn begins_with(text: &[u8], needle: &[u8]) -> bool {
    match (text.first_chunk::<8>(), needle.first_chunk::<8>()) {
        (Some(first), Some(sought)) => {
            let (text, needle) = (&text[8..], &needle[8..]);
            u64::from_le_bytes(*first) == u64::from_le_bytes(*sought) && (needle.is_empty() || text.starts_with(needle))
        }
        _ => text.starts_with(needle),
    }
}
