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
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let is_same = |(a, b): (&[u8; 8], &[u8; 8])| u64::from_le_bytes(*a) == u64::from_le_bytes(*b);
    let (Some((first_a, rest_of_a)), Some((first_b, rest_of_b))) = (a.split_first_chunk(), b.split_first_chunk())
    else {
        return a.iter().zip(b).all(|(a, b)| a == b);
    };
    // The last eight bytes may have some that are compared before as well.
    is_same((first_a, first_b))
        && a.last_chunk().zip(b.last_chunk()).is_some_and(is_same)
        && (rest_of_a.len() <= 8 || rest_of_a.as_chunks().0.iter().zip(rest_of_b.as_chunks().0).all(is_same))
}

/// Whether all bytes are ASCII.
pub fn is_ascii(text: &[u8]) -> bool {
    let (words, rest) = text.as_chunks::<8>();
    let (blocks, words) = words.as_chunks::<16>();
    let is_high = |block: &[[u8; 8]; 16]| {
        // Spelled out, since a loop would take as many steps again.
        let word = |at: usize| u64::from_le_bytes(block[at]);
        let first = word(0) | word(1) | word(2) | word(3) | word(4) | word(5) | word(6) | word(7);
        let last = word(8) | word(9) | word(10) | word(11) | word(12) | word(13) | word(14) | word(15);
        (first | last) & HIGH != 0
    };
    !blocks.iter().any(is_high) && words.iter().all(|word| u64::from_le_bytes(*word) & HIGH == 0) && rest.is_ascii()
}

/// Where, from `at` on, the first quote, backslash or control character is, or the text ends.
#[inline(always)]
pub(crate) fn plain_end(text: &[u8], at: usize) -> usize {
    let Some(mut ahead) = text.get(at..) else { return at };
    while let Some((word, behind)) = ahead.split_first_chunk() {
        let found = may_end(u64::from_le_bytes(*word));
        // Which bytes had the bit set before is asked only here, for few texts hold such bytes.
        if found != 0 {
            let found = found & !u64::from_le_bytes(*word);
            if found != 0 {
                return text.len() - ahead.len() + found.trailing_zeros() as usize / 8;
            }
        }
        ahead = behind;
    }
    plain_end_of_tail(text, text.len() - ahead.len())
}

/// The highest bit of each byte that is a quote, a backslash or a control character. Those of bytes that had it set before may
/// be so as well, and those behind the first that is right may be wrong.
#[inline(always)]
fn may_end(word: u64) -> u64 {
    // Subtracting sets the high bit of a byte that was smaller. With bit 1 turned over, the quote (0x22) is the one behind the
    // control characters, and the backslash is 0x5e.
    let word = word ^ (ONES << 1);
    let quote_or_control = word.wrapping_sub(ONES * 0x21);
    let backslash = (word ^ (ONES * 0x5e)).wrapping_sub(ONES);
    (quote_or_control | backslash) & HIGH
}

/// Whether the whole text holds no quote, backslash or control character.
pub(crate) fn is_plain(text: &[u8]) -> bool {
    let Some(last) = text.last_chunk() else { return plain_end_of_tail(text, 0) == text.len() };
    // The last eight bytes may be looked at once more.
    let is_plain = |word: &[u8; 8]| {
        let word = u64::from_le_bytes(*word);
        may_end(word) & !word == 0
    };
    is_plain(last) && text.as_chunks().0.iter().all(is_plain)
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
    use alloc::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn plain_runs_end_where_they_should(text in "[a-z\"\\\\\\x1f\\x20\\x7f-\\xff]{0,40}") {
            let bytes = text.as_bytes();
            let naive = bytes.iter().take_while(|byte| !matches!(byte, b'"' | b'\\' | ..0x20)).count();
            prop_assert_eq!(plain_end(bytes, 0), naive);
            prop_assert_eq!(is_plain(bytes), naive == bytes.len());
        }

        #[test]
        fn one_byte_that_is_not_ascii_is_noticed(len in 0usize..300, at in 0usize..300, high in 0x80u8..) {
            let mut bytes = vec![b'a'; len];
            prop_assert!(is_ascii(&bytes));
            if let Some(byte) = bytes.get_mut(at) {
                *byte = high;
                prop_assert!(!is_ascii(&bytes));
            }
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
