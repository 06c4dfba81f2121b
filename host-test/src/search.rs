//! The native searches that the host lends to its guest: `strstr` and `memchr` of the C library.
//!
//! In: the guest's memory and the pointers that it passed. Out: a pointer into that memory, or 0. Bounds: nothing
//! outside the memory is read; a text without a NUL ends where the memory ends. Not here: who calls them.

use memchr::memmem::Finder;

/// How many needles are kept prepared. The module has a handful, all in its static data.
const KEPT_NEEDLES: usize = 16;

/// A needle longer than this many bytes is searched for without being kept.
const LONGEST_KEPT: usize = 256;

/// Needles that were searched for before, prepared for the next search.
#[derive(Debug, Default)]
pub struct Needles {
    kept: Vec<Needle>,
    replace_next: usize,
}

/// A needle, where the guest holds it, and its prepared search.
#[derive(Debug)]
struct Needle {
    pointer: u32,
    /// The needle's bytes and the NUL behind them, to compare with the guest's memory in one go.
    terminated: Vec<u8>,
    finder: Finder<'static>,
}

impl Needles {
    /// `strstr(haystack, needle)`: a pointer to the first occurrence, or 0. An empty needle is found at once.
    pub fn strstr(&mut self, memory: &[u8], haystack: u32, needle: u32) -> u32 {
        let Some(text) = c_string(memory, haystack) else {
            return 0;
        };
        let found = match self.kept(memory, needle) {
            Some(kept) => self.kept[kept].finder.find(text),
            None => match c_string(memory, needle) {
                Some(bytes) => memchr::memmem::find(text, bytes),
                None => None,
            },
        };
        // The offset is inside a 32-bit memory.
        found.map_or(0, |offset| haystack.wrapping_add(offset as u32))
    }

    /// Where the needle is kept; it is taken in if it is new. `None` for one that is not kept.
    fn kept(&mut self, memory: &[u8], pointer: u32) -> Option<usize> {
        let slot = self.kept.iter().position(|kept| kept.pointer == pointer);
        if let Some(slot) = slot
            && memory.get(pointer as usize..).is_some_and(|at| at.starts_with(&self.kept[slot].terminated))
        {
            return Some(slot);
        }
        let bytes = c_string(memory, pointer).filter(|bytes| bytes.len() <= LONGEST_KEPT)?;
        let mut terminated = bytes.to_vec();
        terminated.push(0);
        let needle = Needle { pointer, terminated, finder: Finder::new(bytes).into_owned() };
        let slot = match slot {
            Some(slot) => slot,
            None if self.kept.len() < KEPT_NEEDLES => {
                self.kept.push(needle);
                return Some(self.kept.len() - 1);
            }
            None => {
                self.replace_next = (self.replace_next + 1) % KEPT_NEEDLES;
                self.replace_next
            }
        };
        self.kept[slot] = needle;
        Some(slot)
    }
}

/// `memchr(pointer, byte, n)`: a pointer to the first such byte among the `n`, or 0. Only the low eight bits of `byte`
/// count. An `n` that reaches past the memory's end stops there.
pub fn memchr(memory: &[u8], pointer: u32, byte: u32, n: u32) -> u32 {
    let start = pointer as usize;
    let end = start.saturating_add(n as usize).min(memory.len());
    match memory.get(start..end) {
        Some(text) => memchr::memchr(byte as u8, text).map_or(0, |offset| pointer.wrapping_add(offset as u32)),
        None => 0,
    }
}

/// The text at `pointer` without its NUL; `None` if the pointer is outside the memory.
pub fn c_string(memory: &[u8], pointer: u32) -> Option<&[u8]> {
    let text = memory.get(pointer as usize..)?;
    Some(memchr::memchr(0, text).map_or(text, |end| &text[..end]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn strstr_has_the_c_library_s_semantics() {
        let memory = b"\0one two two\0two\0\0three\0";
        let mut needles = Needles::default();
        assert_eq!(needles.strstr(memory, 1, 13), 5, "the first occurrence");
        assert_eq!(needles.strstr(memory, 6, 13), 9, "from inside the text");
        assert_eq!(needles.strstr(memory, 1, 17), 1, "an empty needle");
        assert_eq!(needles.strstr(memory, 1, 18), 0, "behind the haystack's NUL");
        assert_eq!(needles.strstr(memory, 1, 13), 5, "again, with the needle kept");
        assert_eq!(needles.strstr(memory, 900, 13), 0, "a haystack outside the memory");
        assert_eq!(needles.strstr(memory, 1, 900), 0, "a needle outside the memory");
    }

    #[test]
    fn a_needle_that_changed_in_place_is_searched_for_anew() {
        let mut memory = *b"abc abd\0abc\0";
        let mut needles = Needles::default();
        assert_eq!(needles.strstr(&memory, 1, 8), 0);
        assert_eq!(needles.strstr(&memory, 0, 8), 0);
        memory[10] = b'd';
        assert_eq!(needles.strstr(&memory, 0, 8), 4);
        memory[10] = 0;
        assert_eq!(needles.strstr(&memory, 1, 8), 4, "a kept needle that became shorter");
    }

    #[test]
    fn memchr_stops_at_n_and_at_the_memory_s_end() {
        let memory = b"abcabc";
        assert_eq!(memchr(memory, 1, u32::from(b'a'), 5), 3);
        assert_eq!(memchr(memory, 1, u32::from(b'a'), 2), 0);
        assert_eq!(memchr(memory, 1, u32::from(b'c') | 0x4500, 5), 2);
        assert_eq!(memchr(memory, 4, u32::from(b'x'), u32::MAX), 0);
        assert_eq!(memchr(memory, 7, u32::from(b'a'), 1), 0);
    }

    proptest! {
        #[test]
        fn strstr_finds_what_a_naive_search_finds(
            memory in proptest::collection::vec(prop_oneof![Just(0u8), Just(b'a'), Just(b'b')], 0..64),
            calls in proptest::collection::vec((0u32..70, 0u32..70), 0..80),
        ) {
            let mut needles = Needles::default();
            for (haystack, needle) in calls {
                let naive = match (c_string(&memory, haystack), c_string(&memory, needle)) {
                    (Some(text), Some(needle)) => (0..=text.len())
                        .find(|&at| text[at..].starts_with(needle))
                        .map_or(0, |at| haystack + at as u32),
                    _ => 0,
                };
                prop_assert_eq!(needles.strstr(&memory, haystack, needle), naive);
            }
        }
    }
}
