//! What the history keeps of one tuple or group: four numbers of 32 bits.
//!
//! Times are whole seconds since 1970, as CloudTrail's own are. An event's time is cut to the second, which never makes a
//! tuple expire early: if two times are no more than a whole number of seconds apart, then their seconds are not either.
//! Bounds: until 2106; what is dated before 1970 counts as 1970.

use super::super::Reason;
use super::super::fingerprint::EventHash;
use crate::event::timestamp::Millis;

/// Whole seconds since 1970.
pub type Seconds = u32;

/// The second of a time.
pub fn seconds(time: Millis) -> Seconds {
    u32::try_from(time.div_euclid(1000).max(0)).unwrap_or(u32::MAX)
}

/// The time of a second.
pub fn millis(seconds: Seconds) -> Millis {
    Millis::from(seconds) * 1000
}

/// A span of time in whole seconds, rounded up.
pub fn whole_seconds(ms: u64) -> u32 {
    u32::try_from(ms.div_ceil(1000)).unwrap_or(u32::MAX)
}

/// A tuple or a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// When it was first seen; of a group, its start.
    pub first_seen: Seconds,
    /// When it was last seen, or a little later ([`Entry::refresh`]); of a group, its end so far.
    pub last_seen: Seconds,
    /// Of a tuple, why it was last new ([`Entry::reason`]), for saying so again when that event is delivered again; of a
    /// group, how many events it has had so far, one that is delivered twice counting twice.
    pub detail: u32,
    /// The event that the tuple was last new in, or that opened the group.
    pub introduced_by: EventHash,
}

/// [`Entry::detail`] of a tuple that was never seen before.
const NEVER_SEEN: u32 = 0;
/// [`Entry::detail`] of a tuple that had been forgotten for lack of space. Any larger one is when a tuple that expired had
/// been seen last.
const EVICTED: u32 = 1;

/// Into how many parts a window is divided for [`Entry::refresh`].
const PARTS_OF_WINDOW: u32 = 100;

/// What times of refreshes are rounded up to a multiple of, in seconds.
pub(super) fn step(window: u32) -> u32 {
    (window / PARTS_OF_WINDOW).max(1)
}

impl Entry {
    /// A tuple that is new.
    pub(super) fn tuple(at: Seconds, reason: Reason, event: EventHash) -> Entry {
        let detail = match reason {
            Reason::Evicted => EVICTED,
            _ => NEVER_SEEN,
        };
        Entry { first_seen: at, last_seen: at, detail, introduced_by: event }
    }

    /// A group that an event opens.
    pub(super) fn group(at: Seconds, event: EventHash) -> Entry {
        Entry { first_seen: at, last_seen: at, detail: 1, introduced_by: event }
    }

    /// Why the tuple was last new.
    pub fn reason(&self) -> Reason {
        match self.detail {
            NEVER_SEEN => Reason::NeverSeen,
            EVICTED => Reason::Evicted,
            last_seen => Reason::Expired { last_seen: millis(last_seen) },
        }
    }

    /// Whether the tuple is known at a time: not longer than the window after it was last seen.
    pub fn is_within(&self, at: Seconds, window: u32) -> bool {
        at <= self.last_seen || at - self.last_seen <= window
    }

    /// The tuple expired and is seen again.
    pub(super) fn renew(&mut self, at: Seconds, event: EventHash) {
        self.detail = self.last_seen.max(EVICTED + 1);
        self.introduced_by = event;
        self.last_seen = at;
    }

    /// The tuple is seen inside its window, later than before. Its time is rounded up to a multiple of a hundredth of the
    /// window, so that one that is seen all the time is written a hundred times a window and not each time; it expires late
    /// by less than that hundredth, and never early.
    pub(super) fn refresh(&mut self, at: Seconds, window: u32) {
        let step = step(window);
        self.last_seen = at.div_ceil(step).saturating_mul(step);
    }

    /// What two histories know of one tuple: the earliest first and the latest last sighting. Which event introduced it is
    /// a matter of order; of two, the larger hash is kept, so that merging has no order.
    pub(super) fn merge_tuple(&mut self, other: &Entry) {
        self.first_seen = self.first_seen.min(other.first_seen);
        self.last_seen = self.last_seen.max(other.last_seen);
        (self.introduced_by, self.detail) = (self.introduced_by, self.detail).max((other.introduced_by, other.detail));
    }

    /// What two histories know of one group: the later one, or if it is the same, the most that one of them saw of it.
    pub(super) fn merge_group(&mut self, other: &Entry) {
        match self.first_seen.cmp(&other.first_seen) {
            core::cmp::Ordering::Less => *self = *other,
            core::cmp::Ordering::Greater => {}
            core::cmp::Ordering::Equal => {
                self.last_seen = self.last_seen.max(other.last_seen);
                self.detail = self.detail.max(other.detail);
                self.introduced_by = self.introduced_by.max(other.introduced_by);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refresh_makes_a_tuple_expire_late_by_less_than_a_hundredth_of_its_window_and_never_early() {
        for window in [1, 59, 99, 100, 101, 3600, 86_400, 864_000, u32::MAX] {
            for at in (1..5000).chain([1_790_000_000, 1_790_000_001, 1_799_999_999]) {
                let mut entry = Entry::tuple(0, Reason::NeverSeen, EventHash(1));
                entry.refresh(at, window);
                let late = entry.last_seen.checked_sub(at).expect("not early");
                assert!(u64::from(late) * 100 < u64::from(window), "window {window}, at {at}: {late} s late");
            }
        }
    }

    #[test]
    fn cutting_times_to_seconds_never_expires_early() {
        for (last, at, window) in [(0, 10_000, 10), (999, 10_999, 10), (1, 10_001, 10), (999, 10_000, 10)] {
            let entry = Entry::tuple(seconds(last), Reason::NeverSeen, EventHash(1));
            assert!(at - last <= 10_000 && entry.is_within(seconds(at), window), "{last} to {at}");
        }
        let entry = Entry::tuple(seconds(0), Reason::NeverSeen, EventHash(1));
        assert!(!entry.is_within(seconds(11_000), 10));
        assert_eq!([seconds(-1), seconds(i64::MAX), seconds(1999)], [0, u32::MAX, 1]);
    }
}
