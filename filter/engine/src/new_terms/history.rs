//! The history: which term tuples and suppression groups were seen, and when.
//!
//! In: fingerprints with the time and the identity of an event. Out: a [`Sighting`], or what a group says. Bounds: at
//! most `capacity` entries; the least recently observed goes first, which may make a known tuple new again but never a
//! new one known. Not here: persistence, and what a fingerprint is of.
//!
//! Fingerprints are SipHash-2-4 with 128 bits under a random key: event text is an attacker's to choose, and a
//! collision would hide a new tuple. A list of texts is hashed with the length of each, so that no two lists share their
//! bytes; a key is hashed from fingerprints, which are all of one width.

use core::hash::{BuildHasher, Hasher};

use lru::LruCache;
use siphasher::sip128::{Hasher128, SipHasher24};

use super::{Reason, Sighting};
use crate::event::timestamp::Millis;

/// The hash of a text, of several, or of the tuple or group that they make.
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
    /// Why the tuple was last new, for saying so again when that event is delivered again.
    reason: Reason,
    /// The event that the tuple was last new in, or that opened the group.
    introduced_by: EventHash,
    /// How many events a group has had so far, one that is delivered twice counting twice.
    count: u32,
}

/// What a group says to an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupSighting {
    /// The event opens the group: it alerts.
    Opens {
        /// When the group's first event was.
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
    /// The latest `last_seen` of an entry that was forgotten for lack of space.
    evicted: Option<Millis>,
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
        History { entries, capacity: usize::try_from(capacity).unwrap_or(usize::MAX).max(1), key, evicted: None }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The fingerprint of a list of texts.
    pub fn print<T: AsRef<str>>(&self, texts: &[T]) -> Fingerprint {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        for text in texts {
            hasher.write(&(text.as_ref().len() as u64).to_le_bytes());
            hasher.write(text.as_ref().as_bytes());
        }
        Fingerprint(hasher.finish128().as_bytes())
    }

    /// The key of a tuple or a group: of what it belongs to, and of each of its terms.
    pub fn key(&self, owner: Fingerprint, terms: impl IntoIterator<Item = Fingerprint>) -> Fingerprint {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write(&owner.0);
        terms.into_iter().for_each(|term| hasher.write(&term.0));
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
        let is_within = |last_seen: Millis| at <= last_seen || at.abs_diff(last_seen) <= window_ms;
        let Some(entry) = self.entries.get_mut(&tuple) else {
            let reason = if self.evicted.is_some_and(is_within) { Reason::Evicted } else { Reason::NeverSeen };
            self.insert(tuple, Entry::new(at, reason, event));
            return Sighting::New(reason);
        };
        if !is_within(entry.last_seen) {
            entry.reason = Reason::Expired { last_seen: entry.last_seen };
            entry.introduced_by = event;
        }
        entry.last_seen = entry.last_seen.max(at);
        if entry.introduced_by == event { Sighting::New(entry.reason) } else { Sighting::Known }
    }

    /// Takes note of a group's event at a time, and says whether it alerts. A group lasts `duration_ms` from its first
    /// event on, in event time: a late event that is less than that older than the first becomes the first. A later event
    /// opens the group anew. One that is older than that belongs to a group gone by, of which there is one in each
    /// `duration_ms` since 1970.
    pub fn observe_group(
        &mut self,
        group: Fingerprint,
        at: Millis,
        duration_ms: u64,
        event: EventHash,
    ) -> GroupSighting {
        let Some(entry) = self.entries.get_mut(&group) else {
            self.insert(group, Entry::new(at, Reason::NeverSeen, event));
            return GroupSighting::Opens { start: at };
        };
        if entry.introduced_by == event {
            return GroupSighting::Opens { start: entry.first_seen };
        }
        if at.abs_diff(entry.first_seen) < duration_ms {
            entry.first_seen = entry.first_seen.min(at);
            entry.last_seen = entry.last_seen.max(at);
            entry.count = entry.count.saturating_add(1);
            return GroupSighting::Suppressed { start: entry.first_seen, end: entry.last_seen, count: entry.count };
        }
        if at > entry.first_seen {
            *entry = Entry::new(at, Reason::NeverSeen, event);
            return GroupSighting::Opens { start: at };
        }
        let period = at.div_euclid(i64::try_from(duration_ms).unwrap_or(i64::MAX).max(1));
        let mut place = [0; 16];
        place[..8].copy_from_slice(&period.to_le_bytes());
        let bygone = self.key(group, [Fingerprint(place)]);
        // The events of one period are less than its length apart, so this goes no deeper.
        self.observe_group(bygone, at, duration_ms, event)
    }

    fn insert(&mut self, key: Fingerprint, entry: Entry) {
        while self.entries.len() >= self.capacity {
            let forgotten = self.entries.pop_lru().map(|(_, entry)| entry.last_seen);
            self.evicted = self.evicted.max(forgotten);
        }
        self.entries.put(key, entry);
    }
}

impl Entry {
    fn new(at: Millis, reason: Reason, event: EventHash) -> Entry {
        Entry { first_seen: at, last_seen: at, reason, introduced_by: event, count: 1 }
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
        history.print(&[term])
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
        let group = history.print(&["group"]);
        let mut observe = |at, event: &[u8]| {
            let event = history.event_hash(event);
            history.observe_group(group, at, WINDOW, event)
        };
        let opens = |start| GroupSighting::Opens { start };
        let suppressed = |start, end, count| GroupSighting::Suppressed { start, end, count };
        assert_eq!(observe(5000, b"1"), opens(5000));
        assert_eq!(observe(5999, b"2"), suppressed(5000, 5999, 2));
        assert_eq!(observe(4500, b"late"), suppressed(4500, 5999, 3));
        assert_eq!(observe(5000, b"1"), opens(4500));
        assert_eq!(observe(5499, b"3"), suppressed(4500, 5999, 4));
        assert_eq!(observe(5500, b"4"), opens(5500));
        assert_eq!(observe(5501, b"5"), suppressed(5500, 5501, 2));
        assert_eq!(observe(2100, b"of a group gone by"), opens(2100));
        assert_eq!(observe(2900, b"of the same"), suppressed(2100, 2900, 2));
        assert_eq!(observe(2000, b"of the same, first"), suppressed(2000, 2900, 3));
        assert_eq!(observe(1999, b"of one before"), opens(1999));
        assert_eq!(observe(5502, b"6"), suppressed(5500, 5502, 3));
    }

    #[test]
    fn the_least_recently_observed_goes_first() {
        let mut history = history(2);
        let (a, b, c) = (tuple(&history, "a"), tuple(&history, "b"), tuple(&history, "c"));
        let event = |n: u64| EventHash(n);
        history.observe(a, 0, WINDOW, event(1));
        history.observe(b, 1, WINDOW, event(2));
        assert_eq!(history.observe(a, 2, WINDOW, event(3)), Sighting::Known);
        history.observe(c, 3, WINDOW, event(4));
        assert_eq!(history.len(), 2);
        assert_eq!(history.observe(a, 4, WINDOW, event(5)), Sighting::Known);
        assert_eq!(history.observe(b, 5, WINDOW, event(6)), Sighting::New(Reason::Evicted));
        assert_eq!(history.observe(b, 5, WINDOW, event(6)), Sighting::New(Reason::Evicted));
        let d = tuple(&history, "d");
        assert_eq!(history.observe(d, 3 + 1000, WINDOW, event(7)), Sighting::New(Reason::Evicted));
        let e = tuple(&history, "e");
        assert_eq!(history.observe(e, 5 + 1001, WINDOW, event(8)), Sighting::New(Reason::NeverSeen));
    }

    #[test]
    fn no_two_lists_share_a_fingerprint() {
        let history = history(1);
        let lists: [&[&str]; 7] = [&["ab", "c"], &["a", "bc"], &["abc"], &["abc", ""], &["", "abc"], &[""], &[]];
        let prints = lists.map(|list| history.print(list));
        for (at, print) in prints.iter().enumerate() {
            assert!(!prints[..at].contains(print), "fingerprint {at} is not its own");
        }
        assert_ne!(history.print(&["abc"]), History::new(1, [8; 16]).print(&["abc"]));
        let keys =
            [history.key(prints[0], [prints[1]]), history.key(prints[1], [prints[0]]), history.key(prints[0], [])];
        assert!(keys[0] != keys[1] && keys[0] != keys[2] && keys[1] != keys[2]);
    }
}
