//! Bytes taken eight at a time: in an interpreter the number of steps is what counts.
//!
//! In: bytes. Out: what a loop over single bytes would say. Bounds: no allocation. Not here: what the bytes mean.

/// The first eight bytes in one number, the first the lowest; with fewer, the rest is 0.
#[inline]
pub(crate) fn first_word(bytes: &[u8]) -> u64 {
    match bytes.first_chunk() {
        Some(word) => u64::from_le_bytes(*word),
        None => bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    }
}

const ONES: u64 = u64::from_le_bytes([1; 8]);
const HIGH: u64 = ONES << 7;

/// Where the byte is, at or after `from`.
pub(crate) fn position(text: &[u8], byte: u8, from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(word) = text.get(at..at.wrapping_add(8)).and_then(<[u8]>::first_chunk) {
        // What is sought becomes 0; the lowest high bit that is set is that of the first such byte.
        let word = u64::from_le_bytes(*word) ^ (ONES * u64::from(byte));
        let found = word.wrapping_sub(ONES) & !word & HIGH;
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    Some(at + text.get(at..)?.iter().position(|other| *other == byte)?)
}

/// Whether both are the same bytes.
pub(crate) fn same(mut a: &[u8], mut b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    while let (Some((first, rest_of_a)), Some((other, rest_of_b))) = (a.split_first_chunk(), b.split_first_chunk()) {
        if u64::from_le_bytes(*first) != u64::from_le_bytes(*other) {
            return false;
        }
        (a, b) = (rest_of_a, rest_of_b);
    }
    a.iter().zip(b).all(|(a, b)| a == b)
}

/// Where, from `at` on, the first quote, backslash or control character is, or the text ends.
#[inline(always)]
pub(crate) fn plain_end(text: &[u8], mut at: usize) -> usize {
    while let Some(word) = text.get(at..at.wrapping_add(8)).and_then(<[u8]>::first_chunk) {
        // Subtracting sets the high bit of a byte that was smaller, if it was not set before. Bytes behind the first such one
        // may be wrong, which does not matter. With bit 1 turned over, the quote (0x22) is the one behind the control
        // characters, and the backslash is 0x5e.
        let word = u64::from_le_bytes(*word) ^ (ONES << 1);
        let quote_or_control = word.wrapping_sub(ONES * 0x21);
        let backslash = (word ^ (ONES * 0x5e)).wrapping_sub(ONES);
        let found = (quote_or_control | backslash) & !word & HIGH;
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    plain_end_of_tail(text, at)
}

/// The same where less than eight bytes are left, which is so at the end of the text only.
#[cold]
fn plain_end_of_tail(text: &[u8], at: usize) -> usize {
    let tail = text.get(at..).unwrap_or_default();
    at + tail.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..0x20)).unwrap_or(tail.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn plain_runs_end_where_they_should(text in "[a-z\"\\\\\\x1f\\x20\\x7f-\\xff]{0,40}") {
            let bytes = text.as_bytes();
            let naive = bytes.iter().take_while(|byte| !matches!(byte, b'"' | b'\\' | ..0x20)).count();
            prop_assert_eq!(plain_end(bytes, 0), naive);
        }

        #[test]
        fn the_same_are_equal(a in "[ab]{0,20}", b in "[ab]{0,20}", at in 0usize..20) {
            prop_assert_eq!(same(a.as_bytes(), b.as_bytes()), a == b);
            prop_assert!(same(a.as_bytes(), a.clone().as_bytes()));
            let mut other: String = a.clone();
            if at < a.len() {
                other.replace_range(at..=at, "c");
                prop_assert!(!same(a.as_bytes(), other.as_bytes()));
            }
        }

        #[test]
        fn bytes_are_found_where_they_are(text in "[ab\\x00\\x7f-\\xff]{0,40}", byte in prop::sample::select(b"abc\x00\x7f\xc3".to_vec()), from in 0usize..45) {
            let bytes = text.as_bytes();
            let naive = (from..bytes.len()).find(|at| bytes[*at] == byte);
            prop_assert_eq!(position(bytes, byte, from), naive);
        }

        #[test]
        fn a_word_is_eight_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            let mut word = [0; 8];
            word.iter_mut().zip(&bytes).for_each(|(place, byte)| *place = *byte);
            prop_assert_eq!(first_word(&bytes), u64::from_le_bytes(word));
        }
    }
}
