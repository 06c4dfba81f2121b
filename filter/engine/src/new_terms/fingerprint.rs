//! Fingerprints: what the history knows texts by.
//!
//! In: texts, under a key. Out: SipHash-2-4 of them. Event text is an attacker's to choose, and a collision would hide a
//! new tuple, so tuples get 128 bits, and the key is random and known to nobody who writes events. A list of texts is
//! hashed with the length of each, so that no two lists share their bytes; a tuple is hashed from fingerprints, which are
//! all of one width. Not here: where the key comes from ([`crate::journal`]).

use core::hash::{BuildHasher, Hasher};
use core::sync::atomic::{AtomicU64, Ordering};

use siphasher::sip128::{Hasher128, SipHasher24};

/// The hash of a text, of several, or of the tuple or group that they make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fingerprint(pub [u8; 16]);

/// A hash of what identifies an event; 0 is no event's. Another event has the same with a chance of 1 in 2^32, and then
/// repeats an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventHash(pub u32);

impl EventHash {
    /// No event: what was learned from past logs was alerted on by nobody.
    pub const NONE: EventHash = EventHash(0);
}

/// The key that fingerprints are made under. Fingerprints of different keys cannot be compared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key(pub [u8; 16]);

impl core::fmt::Debug for Key {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    /// The fingerprint of a list of texts.
    pub fn print<T: AsRef<str>>(&self, texts: &[T]) -> Fingerprint {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        for text in texts {
            hasher.write(&(text.as_ref().len() as u64).to_le_bytes());
            hasher.write(text.as_ref().as_bytes());
        }
        Fingerprint(hasher.finish128().as_bytes())
    }

    /// The fingerprint of a tuple or a group: of what it belongs to, and of each of its terms.
    pub fn tuple(&self, owner: Fingerprint, terms: impl IntoIterator<Item = Fingerprint>) -> Fingerprint {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        hasher.write(&owner.0);
        terms.into_iter().for_each(|term| hasher.write(&term.0));
        Fingerprint(hasher.finish128().as_bytes())
    }

    /// The hash of an event's id, or of its record if it has none.
    pub fn event(&self, identity: &[u8]) -> EventHash {
        EventHash((self.checksum(&[identity]) as u32).max(1))
    }

    /// A checksum of bytes that stand in several pieces.
    pub fn checksum(&self, pieces: &[&[u8]]) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        pieces.iter().for_each(|piece| hasher.write(piece));
        hasher.finish128().h1
    }
}

impl core::hash::Hash for Fingerprint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for half in self.0.as_chunks::<8>().0 {
            state.write_u64(u64::from_le_bytes(*half));
        }
    }
}

/// The factor of tables that are made from now on; see [`seed_tables`].
static FACTOR: AtomicU64 = AtomicU64::new(0x9e37_79b9_7f4a_7c15);

/// Makes the places of fingerprints in tables unknown to whoever writes a state file, given random bytes: fingerprints that were chosen
/// to share one place would make opening it take hours.
pub fn seed_tables(random: [u8; 16]) {
    let [a, b, c, d, e, f, g, h, ..] = random;
    FACTOR.store(u64::from_le_bytes([a, b, c, d, e, f, g, h]) | 1, Ordering::Relaxed);
}

/// Fingerprints are random unless somebody has made them up, so a few steps do.
#[derive(Debug, Clone, Copy)]
pub(super) struct FingerprintHasher {
    factor: u64,
    hash: u64,
}

impl Hasher for FingerprintHasher {
    /// A low bit of a product depends on low bits of its factors alone, and tables go by the low ones: so the others are folded in.
    fn finish(&self) -> u64 {
        self.hash ^ (self.hash >> 32) ^ (self.hash >> 47)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.hash = (self.hash ^ number).wrapping_mul(self.factor);
    }
}

/// Makes [`FingerprintHasher`]s.
#[derive(Debug, Clone, Copy)]
pub(super) struct BuildFingerprintHasher {
    factor: u64,
}

impl BuildFingerprintHasher {
    pub(super) fn new() -> BuildFingerprintHasher {
        BuildFingerprintHasher { factor: FACTOR.load(Ordering::Relaxed) }
    }
}

impl BuildHasher for BuildFingerprintHasher {
    type Hasher = FingerprintHasher;

    fn build_hasher(&self) -> FingerprintHasher {
        FingerprintHasher { factor: self.factor, hash: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_lists_share_a_fingerprint() {
        let key = Key([7; 16]);
        let lists: [&[&str]; 7] = [&["ab", "c"], &["a", "bc"], &["abc"], &["abc", ""], &["", "abc"], &[""], &[]];
        let prints = lists.map(|list| key.print(list));
        for (at, print) in prints.iter().enumerate() {
            assert!(!prints[..at].contains(print), "fingerprint {at} is not its own");
        }
        assert_ne!(key.print(&["abc"]), Key([8; 16]).print(&["abc"]));
        let tuples = [key.tuple(prints[0], [prints[1]]), key.tuple(prints[1], [prints[0]]), key.tuple(prints[0], [])];
        assert!(tuples[0] != tuples[1] && tuples[0] != tuples[2] && tuples[1] != tuples[2]);
    }

    #[test]
    fn no_event_has_the_hash_of_none() {
        let key = Key([7; 16]);
        assert_ne!(key.event(b""), EventHash::NONE);
        assert_ne!(key.event(b"a"), key.event(b"b"));
    }
}
