//! What belongs to one rule: its tuples or its groups, and what the history can say of them.
//!
//! In: entries by fingerprint. Out: the same, in the order in which they changed last. An owner is known by the fingerprint of
//! its rule's id and the names of its fields, so that a rule whose fields change starts a history of its own. Bounds: none
//! of its own; the history evicts. Not here: what a sighting does to an entry.
//!
//! Entries are spread over [`SHARDS`] caches: a table that doubles holds twice its size for a moment, and is up to half
//! empty from then on; ten small ones that double one after the other cost a tenth of that moment. A cache that has lost half
//! of its entries gets a smaller table, so that one rule's memory becomes another's.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::num::NonZeroUsize;

use lru::LruCache;

use super::super::fingerprint::{BuildFingerprintHasher, Fingerprint};
use super::entry::{Entry, Seconds};
use super::usage::{Usage, UsedOnce};

/// Into how many caches an owner's entries are divided: 100,000 each, of the default capacity, which is what 2^17 places
/// hold well.
const SHARDS: usize = 10;

/// Up to this many entries a cache's table stays as it is.
const SMALL_TABLE: usize = 64;

/// From this many entries on, it matters how often a table grows.
const LARGE_TABLE: usize = 4096;

/// How long the time between the end of a baseline, or of a rule's running, and the first record of the live filter may be,
/// in seconds, for the history to count as one: a day.
const GAP: u32 = 24 * 60 * 60;

/// The longest text of an owner that is kept, in bytes.
const MAX_TEXT: usize = 1000;

/// What an owner's entries are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// Term tuples of a new-terms rule.
    Tuples,
    /// Suppression groups.
    Groups,
}

/// What an owner's standing consists of, 32 bits each.
pub const STANDING_NUMBERS: usize = 8;

/// What is known of an owner beside its entries. Times are seconds since 1970, and 0 where there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// The window or duration of its rule, in seconds.
    pub window: u32,
    /// Since when it has been learning.
    pub since: Seconds,
    /// Up to when a baseline taught it, or its rule ran; 0 while a live filter teaches it.
    pub until: Seconds,
    /// How many entries were forgotten for lack of space inside their window.
    pub evictions: u32,
    /// The latest time at which one of those was seen.
    pub evicted_until: Seconds,
    /// The capacity that would have held the one that was evicted last.
    pub capacity_needed: u32,
    /// The latest time at which an entry was seen that was forgotten when it had expired.
    pub expired_until: Seconds,
    /// How many alerts were held because the history was warming.
    pub held: u32,
}

impl Standing {
    /// The numbers in the order of the fields.
    pub fn to_numbers(self) -> [u32; STANDING_NUMBERS] {
        let Standing { window, since, until, evictions, evicted_until, capacity_needed, expired_until, held } = self;
        [window, since, until, evictions, evicted_until, capacity_needed, expired_until, held]
    }

    /// The standing of these numbers.
    pub fn from_numbers(numbers: [u32; STANDING_NUMBERS]) -> Standing {
        let [window, since, until, evictions, evicted_until, capacity_needed, expired_until, held] = numbers;
        Standing { window, since, until, evictions, evicted_until, capacity_needed, expired_until, held }
    }

    /// Whether all of the window before a time was learned from.
    pub fn is_complete(&self, at: Seconds) -> bool {
        self.since != 0 && at >= self.since && at - self.since >= self.window
    }

    /// A live filter learns from a time on; `false` if it has been doing so. A beginning in the future was a wrong clock's.
    pub(super) fn begin(&mut self, at: Seconds) -> bool {
        let at = at.max(1);
        let is_future = self.since > at.saturating_add(GAP);
        if self.since == 0 || is_future || (self.until != 0 && at > self.until.saturating_add(GAP)) {
            self.since = at;
        } else if self.until == 0 {
            return false;
        }
        self.until = 0;
        true
    }

    /// The rule runs no more, and saw what was up to a time; `false` if that was known.
    pub(super) fn end(&mut self, clock: Seconds) -> bool {
        let ran = self.since != 0 && self.until == 0;
        if ran {
            self.until = clock.max(1);
        }
        ran
    }

    /// A baseline taught all that was between two times. What does not touch what was learned before counts only if it is
    /// the later one.
    pub(super) fn cover(&mut self, from: Seconds, until: Seconds) {
        let (from, until) = (from.max(1), until.max(1));
        let known_until = if self.until == 0 { Seconds::MAX } else { self.until };
        if self.since == 0 || from > known_until.saturating_add(GAP) {
            (self.since, self.until) = (from, until);
        } else if until.saturating_add(GAP) >= self.since {
            self.since = self.since.min(from);
            self.until = if self.until == 0 { 0 } else { self.until.max(until) };
        }
    }

    /// The rule's window is now this; `false` if it was. What had been forgotten under a shorter one does not cover a longer
    /// one.
    pub(super) fn set_window(&mut self, window: u32) -> bool {
        if window > self.window && self.since != 0 {
            self.since = self.since.max(self.expired_until);
        }
        core::mem::replace(&mut self.window, window) != window
    }

    /// What two histories know, whatever their order.
    pub(super) fn merge(&mut self, other: &Standing) {
        let earliest = |a: Seconds, b: Seconds| if a == 0 || b == 0 { a.max(b) } else { a.min(b) };
        let both_taught = self.since != 0 && other.since != 0;
        *self = Standing {
            window: self.window.max(other.window),
            since: earliest(self.since, other.since),
            // A live one goes before a baseline.
            until: if both_taught && (self.until == 0 || other.until == 0) { 0 } else { self.until.max(other.until) },
            evictions: self.evictions.max(other.evictions),
            evicted_until: self.evicted_until.max(other.evicted_until),
            capacity_needed: self.capacity_needed.max(other.capacity_needed),
            expired_until: self.expired_until.max(other.expired_until),
            held: self.held.max(other.held),
        };
    }
}

type Cache = LruCache<Fingerprint, Entry, BuildFingerprintHasher>;

/// One rule's tuples or groups.
#[derive(Debug)]
pub struct Owner {
    /// What it is known by.
    pub print: Fingerprint,
    /// What its entries are.
    pub purpose: Purpose,
    /// Its rule's id.
    pub rule_id: String,
    /// The names of its fields, with commas between them.
    pub fields: String,
    /// What is known of it beside its entries.
    pub standing: Standing,
    /// Whether its entries were found to be used once, and since when.
    pub used_once: UsedOnce,
    /// How its entries are used, since the first that was new.
    pub(super) usage: Option<Box<Usage>>,
    /// Whether its rule is one of those that run.
    pub(super) is_loaded: bool,
    /// [`SHARDS`] caches from the first entry on.
    shards: Vec<Shard>,
}

/// One of an owner's caches.
#[derive(Debug)]
struct Shard {
    cache: Cache,
    /// The most entries that it had since its table was made to fit.
    peak: usize,
}

/// As much of a text as is kept.
fn cut(text: &str) -> String {
    let end = (0..=text.len().min(MAX_TEXT)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.get(..end).unwrap_or_default().to_string()
}

impl Owner {
    /// One that has nothing yet.
    pub fn new(print: Fingerprint, purpose: Purpose, rule_id: &str, fields: &str) -> Owner {
        let (rule_id, fields) = (cut(rule_id), cut(fields));
        Owner {
            print,
            purpose,
            rule_id,
            fields,
            standing: Standing::default(),
            used_once: UsedOnce::default(),
            usage: None,
            is_loaded: false,
            shards: Vec::new(),
        }
    }

    /// Whether its rule runs, or anything belongs to it.
    pub fn is_in_use(&self) -> bool {
        self.is_loaded || !self.is_empty() || self.standing != Standing::default()
    }

    /// An entry was used again.
    pub(super) fn used_again(&mut self) {
        if let Some(usage) = &mut self.usage {
            usage.used_again();
        }
    }

    /// How many entries were used once: of tuples, those that were not seen at a second time.
    pub fn count_used_once(&self) -> usize {
        let is_once = |(_, entry): &(Fingerprint, Entry)| {
            entry.first_seen == entry.last_seen && (self.purpose == Purpose::Tuples || entry.detail == 1)
        };
        self.entries().filter(is_once).count()
    }

    /// How many entries it has.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.cache.len()).sum()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| shard.cache.is_empty())
    }

    /// An entry, if there is one.
    pub fn get(&self, print: Fingerprint) -> Option<&Entry> {
        self.shards.get(shard_of(print))?.cache.peek(&print)
    }

    pub(super) fn get_mut(&mut self, print: Fingerprint) -> Option<&mut Entry> {
        self.shards.get_mut(shard_of(print))?.cache.peek_mut(&print)
    }

    /// The entries of each cache, in the order in which they changed last.
    pub fn entries(&self) -> impl Iterator<Item = (Fingerprint, Entry)> {
        self.shards.iter().flat_map(|shard| shard.cache.iter().rev().map(|(print, entry)| (*print, *entry)))
    }

    /// The entries of one cache, in the order in which they changed last; `None` behind the last cache.
    pub(crate) fn entries_of_cache(&self, cache: usize) -> Option<impl Iterator<Item = (Fingerprint, Entry)>> {
        self.shards.get(cache).map(|shard| shard.cache.iter().rev().map(|(print, entry)| (*print, *entry)))
    }

    /// Adds or replaces an entry; `true` if it is one more.
    pub(super) fn put(&mut self, print: Fingerprint, entry: Entry) -> bool {
        let Some(shard) = self.shards.get_mut(shard_of(print)) else { return self.put_first(print, entry) };
        if shard.cache.len() == shard.cache.cap().get() {
            shard.cache.resize(NonZeroUsize::MAX);
        }
        let is_more = shard.cache.put(print, entry).is_none();
        shard.peak = shard.peak.max(shard.cache.len());
        is_more
    }

    /// Makes the caches, which take a kilobyte: many owners never have an entry.
    #[cold]
    fn put_first(&mut self, print: Fingerprint, entry: Entry) -> bool {
        // Each cache is unbounded, because one with a bound takes its whole table's memory at once.
        let shard = |_| Shard { cache: LruCache::unbounded_with_hasher(BuildFingerprintHasher::new()), peak: 0 };
        self.shards = (0..SHARDS).map(shard).collect();
        self.put(print, entry)
    }

    /// Prepares for an entry that is read from a file. There, one cache comes behind the other, and they are of one size: a table that has
    /// room from the start need not grow.
    #[inline]
    pub(super) fn make_room(&mut self, print: Fingerprint) {
        let at = shard_of(print);
        if self.shards.get(at).is_some_and(|shard| shard.peak == 0) {
            self.begin_shard(at);
        }
    }

    #[cold]
    fn begin_shard(&mut self, at: usize) {
        let largest = self.shards.iter().map(|shard| shard.cache.len()).max().unwrap_or(0);
        if largest > LARGE_TABLE
            && let (Some(shard), Some(room)) = (self.shards.get_mut(at), NonZeroUsize::new(largest + largest / 16))
        {
            shard.cache = LruCache::with_hasher(room, BuildFingerprintHasher::new());
        }
    }

    /// Takes note that an entry has changed.
    pub(super) fn promote(&mut self, print: Fingerprint) {
        if let Some(shard) = self.shards.get_mut(shard_of(print)) {
            shard.cache.promote(&print);
        }
    }

    pub(super) fn remove(&mut self, print: Fingerprint) -> Option<Entry> {
        let shard = self.shards.get_mut(shard_of(print))?;
        let removed = shard.cache.pop(&print)?;
        if shard.peak > SMALL_TABLE && shard.cache.len() < shard.peak / 2 {
            shard.peak = shard.cache.len();
            // A cache makes its table fit when its capacity changes; neither of these is ever reached.
            let is_larger = shard.cache.cap() == NonZeroUsize::MAX;
            let other = if is_larger { NonZeroUsize::MAX.get() - 1 } else { NonZeroUsize::MAX.get() };
            if let Some(other) = NonZeroUsize::new(other) {
                shard.cache.resize(other);
            }
        }
        Some(removed)
    }

    /// Of the entries that changed the longest ago, one of each cache, the one that was seen first.
    pub(super) fn oldest(&self) -> Option<(Fingerprint, Seconds)> {
        let oldest = self.shards.iter().filter_map(|shard| shard.cache.peek_lru());
        oldest.map(|(print, entry)| (*print, entry.last_seen)).min_by_key(|(_, last_seen)| *last_seen)
    }

    /// Whether what was last seen at a time has expired by the clock.
    pub(super) fn has_expired(&self, last_seen: Seconds, clock: Seconds) -> bool {
        clock > last_seen && clock - last_seen > self.standing.window
    }
}

fn shard_of(print: Fingerprint) -> usize {
    let [.., a, b] = print.0;
    usize::from(u16::from_le_bytes([a, b])) % SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u32 = 24 * 60 * 60;

    fn taught(since: Seconds, until: Seconds) -> Standing {
        Standing { since, until, window: 10 * DAY, ..Standing::default() }
    }

    #[test]
    fn a_baseline_counts_if_it_touches_what_comes_after() {
        let mut standing = taught(0, 0);
        standing.cover(100 * DAY, 120 * DAY);
        assert_eq!(standing, taught(100 * DAY, 120 * DAY));
        standing.cover(100 * DAY, 120 * DAY);
        assert_eq!(standing, taught(100 * DAY, 120 * DAY));
        standing.cover(90 * DAY, 99 * DAY);
        assert_eq!(standing, taught(90 * DAY, 120 * DAY));
        standing.cover(50 * DAY, 60 * DAY);
        assert_eq!(standing, taught(90 * DAY, 120 * DAY), "a gap");
        let (mut soon, mut late) = (standing, standing);
        assert!(soon.begin(121 * DAY) && !soon.begin(122 * DAY));
        assert_eq!(soon, taught(90 * DAY, 0));
        assert!(late.begin(121 * DAY + 1));
        assert_eq!(late, taught(121 * DAY + 1, 0));
        late.cover(80 * DAY, 122 * DAY);
        assert_eq!(late, taught(80 * DAY, 0));
        standing.cover(130 * DAY, 140 * DAY);
        assert_eq!(standing, taught(130 * DAY, 140 * DAY), "the later one");
    }

    #[test]
    fn a_longer_window_is_covered_as_far_as_nothing_was_forgotten() {
        let mut standing = Standing { expired_until: 95 * DAY, ..taught(50 * DAY, 0) };
        assert!(standing.is_complete(100 * DAY));
        assert!(standing.set_window(5 * DAY) && standing.is_complete(100 * DAY));
        assert!(standing.set_window(20 * DAY) && !standing.set_window(20 * DAY));
        assert!(!standing.is_complete(100 * DAY) && standing.is_complete(115 * DAY));
        let mut standing = taught(50 * DAY, 0);
        standing.set_window(20 * DAY);
        assert!(standing.is_complete(100 * DAY));
    }
}
