//! The history: which term tuples and suppression groups were seen, and when.
//!
//! In: fingerprints with the time and the identity of an event. Out: a [`Sighting`], or what a group says. Bounds: at
//! most `capacity` entries; the least recently observed goes first, which may make a known tuple new again but never a
//! new one known. Not here: persistence, and what a fingerprint is of.
//!
//! Fingerprints are SipHash-2-4 with 128 bits under a random key: event text is an attacker's to choose, and a
//! collision would hide a new tuple. Each term is length-prefixed, so that no two tuples share their bytes.

use core::hash::{BuildHasher, Hasher};

use lru::LruCache;
use siphasher::sip128::{Hasher128, SipHasher24};

use super::{Reason, Sighting};
use crate::event::timestamp::Millis;

/// What an entry is kept for. Part of every fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A tuple of a new-terms rule.
    NewTerms = 1,
    /// A group of a suppression.
    Suppression = 2,
}

/// The history's key of a tuple or a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 16]);

/// A hash of what identifies an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventHash(u64);

impl core::hash::Hash for Fingerprint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [b0, b1, b2, b3, b4, b5, b6, b7, ..] = self.0;
        state.write_u64(u64::from_le_bytes([b0, b1, b2, b3, b4, b5, b6, b7]));
    }
}

/// Fingerprints are random already: their first 64 bits serve as the table's hash.
#[derive(Debug, Clone, Copy, Default)]
struct FingerprintHasher(u64);

impl Hasher for FingerprintHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct BuildFingerprintHasher;

impl BuildHasher for BuildFingerprintHasher {
    type Hasher = FingerprintHasher;

    fn build_hasher(&self) -> FingerprintHasher {
        FingerprintHasher::default()
    }
}

/// What is kept of a tuple or a group.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// When it was first seen; of a group, its start.
    first_seen: Millis,
    /// When it was last seen; of a group, its end so far.
    last_seen: Millis,
    /// `last_seen` before the tuple was last new, for saying so again when that event is delivered again.
    last_seen_before: Option<Millis>,
    /// The event that the tuple was last new in, or that opened the group.
    introduced_by: EventHash,
    /// How many events a group has so far.
    count: u32,
}

/// What a group says to an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupSighting {
    /// The event opens the group: it alerts.
    Opens {
        /// The group's start: the event's time, or what it was taken for when it came first.
        start: Millis,
    },
    /// The group has alerted already.
    Suppressed {
        /// When the group's first event was.
        start: Millis,
        /// When its latest event was.
        end: Millis,
        /// How many events it has so far, this one among them.
        count: u32,
    },
}

/// The bounded map from fingerprints to sightings.
pub struct History {
    entries: LruCache<Fingerprint, Entry, BuildFingerprintHasher>,
    capacity: usize,
    key: [u8; 16],
}

impl core::fmt::Debug for History {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("History").field("len", &self.entries.len()).field("capacity", &self.capacity).finish()
    }
}

impl History {
    /// An empty history of at most `capacity` entries, with a random key that nobody else knows.
    pub fn new(capacity: u32, key: [u8; 16]) -> History {
        // The cache itself is unbounded, because a bounded one takes its whole table's memory at once.
        let entries = LruCache::unbounded_with_hasher(BuildFingerprintHasher);
        History { entries, capacity: usize::try_from(capacity).unwrap_or(usize::MAX).max(1), key }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The key of a rule's tuple or group: of the purpose, the rule and each term, a missing one being none of the
    /// possible texts.
    pub fn fingerprint<'t>(
        &self,
        purpose: Purpose,
        rule: &str,
        terms: impl IntoIterator<Item = Option<&'t str>>,
    ) -> Fingerprint {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write(&[purpose as u8]);
        let mut write = |term: Option<&str>| match term {
            Some(text) => {
                hasher.write(&(text.len() as u64).to_le_bytes());
                hasher.write(text.as_bytes());
            }
            None => hasher.write(&u64::MAX.to_le_bytes()),
        };
        write(Some(rule));
        terms.into_iter().for_each(write);
        Fingerprint(hasher.finish128().as_bytes())
    }

    /// The hash of an event's id, or of its record if it has none.
    pub fn event_hash(&self, identity: &[u8]) -> EventHash {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write(identity);
        EventHash(hasher.finish128().h1)
    }

    /// Takes note of a tuple in an event at a time, and says whether it is new: known while `at - last_seen <= window`.
    /// The event that introduced it, delivered again, finds it new again, for the same reason. A time before
    /// `last_seen` changes nothing.
    pub fn observe(&mut self, tuple: Fingerprint, at: Millis, window_ms: u64, event: EventHash) -> Sighting {
        let Some(entry) = self.entries.get_mut(&tuple) else {
            self.insert(tuple, at, event);
            return Sighting::New(Reason::NeverSeen);
        };
        let silence = at.saturating_sub(entry.last_seen);
        if silence > 0 && silence.unsigned_abs() > window_ms {
            entry.last_seen_before = Some(entry.last_seen);
            entry.introduced_by = event;
        }
        entry.last_seen = entry.last_seen.max(at);
        if entry.introduced_by != event {
            return Sighting::Known;
        }
        Sighting::New(match entry.last_seen_before {
            None => Reason::NeverSeen,
            Some(last_seen) => Reason::Expired { last_seen },
        })
    }

    /// Takes note of a group's event at a time, and says whether it alerts. A group lasts `duration_ms` from its first
    /// event on. An event from so long before that it belongs to an earlier group alerts and changes nothing.
    pub fn observe_group(
        &mut self,
        group: Fingerprint,
        at: Millis,
        duration_ms: u64,
        event: EventHash,
    ) -> GroupSighting {
        let Some(entry) = self.entries.get_mut(&group) else {
            self.insert(group, at, event);
            return GroupSighting::Opens { start: at };
        };
        if entry.introduced_by == event {
            return GroupSighting::Opens { start: entry.first_seen };
        }
        if at.abs_diff(entry.first_seen) < duration_ms {
            entry.last_seen = entry.last_seen.max(at);
            entry.count = entry.count.saturating_add(1);
            return GroupSighting::Suppressed { start: entry.first_seen, end: entry.last_seen, count: entry.count };
        }
        if at > entry.first_seen {
            *entry = Entry::new(at, event);
        }
        GroupSighting::Opens { start: at }
    }

    fn insert(&mut self, key: Fingerprint, at: Millis, event: EventHash) {
        while self.entries.len() >= self.capacity {
            self.entries.pop_lru();
        }
        self.entries.put(key, Entry::new(at, event));
    }
}

impl Entry {
    fn new(at: Millis, event: EventHash) -> Entry {
        Entry { first_seen: at, last_seen: at, last_seen_before: None, introduced_by: event, count: 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: u64 = 1000;

    fn history(capacity: u32) -> History {
        History::new(capacity, [7; 16])
    }

    fn tuple(history: &History, term: &str) -> Fingerprint {
        history.fingerprint(Purpose::NewTerms, "rule", [Some(term)])
    }

    #[test]
    fn a_tuple_is_known_for_the_window_after_its_last_sighting() {
        let mut history = history(10);
        let a = tuple(&history, "a");
        let mut observe = |at, event: &[u8]| {
            let event = history.event_hash(event);
            history.observe(a, at, WINDOW, event)
        };
        assert_eq!(observe(0, b"1"), Sighting::New(Reason::NeverSeen));
        assert_eq!(observe(1000, b"2"), Sighting::Known);
        assert_eq!(observe(2000, b"3"), Sighting::Known);
        assert_eq!(observe(500, b"late"), Sighting::Known);
        assert_eq!(observe(3001, b"4"), Sighting::New(Reason::Expired { last_seen: 2000 }));
        assert_eq!(observe(3001, b"4"), Sighting::New(Reason::Expired { last_seen: 2000 }));
        assert_eq!(observe(3001, b"5"), Sighting::Known);
        assert_eq!(observe(0, b"1"), Sighting::Known);
    }

    #[test]
    fn a_group_lasts_from_its_first_event_on() {
        let mut history = history(10);
        let group = history.fingerprint(Purpose::Suppression, "rule", [None]);
        let mut observe = |at, event: &[u8]| {
            let event = history.event_hash(event);
            history.observe_group(group, at, WINDOW, event)
        };
        let opens = |start| GroupSighting::Opens { start };
        let suppressed = |start, end, count| GroupSighting::Suppressed { start, end, count };
        assert_eq!(observe(5000, b"1"), opens(5000));
        assert_eq!(observe(5999, b"2"), suppressed(5000, 5999, 2));
        assert_eq!(observe(4500, b"late"), suppressed(5000, 5999, 3));
        assert_eq!(observe(4000, b"of an earlier group"), opens(4000));
        assert_eq!(observe(5000, b"1"), opens(5000));
        assert_eq!(observe(5500, b"3"), suppressed(5000, 5999, 4));
        assert_eq!(observe(6000, b"4"), opens(6000));
        assert_eq!(observe(6001, b"5"), suppressed(6000, 6001, 2));
    }

    #[test]
    fn the_least_recently_observed_goes_first() {
        let mut history = history(2);
        let (a, b, c) = (tuple(&history, "a"), tuple(&history, "b"), tuple(&history, "c"));
        let event = |n: u8| EventHash(u64::from(n));
        history.observe(a, 0, WINDOW, event(1));
        history.observe(b, 1, WINDOW, event(2));
        assert_eq!(history.observe(a, 2, WINDOW, event(3)), Sighting::Known);
        history.observe(c, 3, WINDOW, event(4));
        assert_eq!(history.len(), 2);
        assert_eq!(history.observe(a, 4, WINDOW, event(5)), Sighting::Known);
        assert_eq!(history.observe(b, 5, WINDOW, event(6)), Sighting::New(Reason::NeverSeen));
    }

    #[test]
    fn no_two_tuples_share_a_fingerprint() {
        let history = history(1);
        let print = |purpose, rule, terms: &[Option<&str>]| history.fingerprint(purpose, rule, terms.iter().copied());
        let prints = [
            print(Purpose::NewTerms, "r", &[Some("ab"), Some("c")]),
            print(Purpose::NewTerms, "r", &[Some("a"), Some("bc")]),
            print(Purpose::NewTerms, "r", &[Some("abc")]),
            print(Purpose::NewTerms, "r", &[Some("abc"), None]),
            print(Purpose::NewTerms, "r", &[None, Some("abc")]),
            print(Purpose::NewTerms, "r", &[Some("")]),
            print(Purpose::NewTerms, "r", &[None]),
            print(Purpose::NewTerms, "r", &[]),
            print(Purpose::NewTerms, "ra", &[Some("bc")]),
            print(Purpose::Suppression, "r", &[Some("abc")]),
        ];
        for (at, print) in prints.iter().enumerate() {
            assert!(!prints[..at].contains(print), "fingerprint {at} is not its own");
        }
        assert_ne!(
            print(Purpose::NewTerms, "r", &[]),
            History::new(1, [8; 16]).fingerprint(Purpose::NewTerms, "r", [])
        );
    }
}
