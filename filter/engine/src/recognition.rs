//! Whether the records hold events at all. Where they do not, every rule is silent, and nothing else shows that.
//!
//! In: for each record, whether the prefilter found the key of an event in it and, of a candidate, whether it held an event.
//! Out: a [sentence](Recognition::take_notice) when none did, once and then once an hour; counts. Bounds: a few numbers, kept for
//! the life of the instance. Not here: how events are found.

use alloc::string::String;

use crate::decimal::decimal;
use crate::new_terms::history::entry::Seconds;

/// How long it takes until something is said again, in seconds of arrival time.
const HOUR: Seconds = 60 * 60;

/// If so many candidates in a row hold no event, that is said at once.
const CANDIDATES: u64 = 10;

/// If so many records in a row hold no event, that is said at once. A route may carry other logs as well.
const RECORDS: u64 = 1_000;

/// If records in a row hold no event for an hour, this many are enough.
const RECORDS_IN_AN_HOUR: u64 = 10;

/// Records in a row without an event.
#[derive(Debug, Default)]
struct Run {
    length: u64,
    /// The arrival of its first record.
    since: Seconds,
    /// Before this, nothing is said of such a run.
    quiet_until: Seconds,
}

impl Run {
    /// So many more; its length, if that is to be said.
    fn add(&mut self, count: u64, now: Seconds, at_once: u64, in_an_hour: u64) -> Option<u64> {
        if self.length == 0 {
            self.since = now;
        }
        self.length += count;
        let is_long = now.saturating_sub(self.since) >= HOUR;
        let is_due = self.length >= if is_long { in_an_hour } else { at_once };
        if !is_due || now < self.quiet_until {
            return None;
        }
        self.quiet_until = now.saturating_add(HOUR);
        Some(self.length)
    }
}

/// What the records have shown.
#[derive(Debug, Default)]
pub struct Recognition {
    records: Run,
    candidates: Run,
    /// Candidates that held no event, since the start.
    pub(crate) candidates_without_event: u64,
    notice: Option<String>,
}

impl Recognition {
    /// A record that is no candidate has the key of an event.
    #[inline(always)]
    pub fn key_found(&mut self) {
        self.records.length = 0;
    }

    /// So many records in a row have no key of an event.
    #[cold]
    pub fn no_key(&mut self, count: u64, now: Seconds) {
        let said = self.records.add(count, now, RECORDS, RECORDS_IN_AN_HOUR);
        // What is said of candidates says more.
        if let Some(length) = said.filter(|_| self.candidates.length == 0) {
            let why = " records: check event_root, and whether this route carries CloudTrail events";
            self.notice = Some(["no event in the last ", &*decimal(length), why].concat());
        }
    }

    /// A candidate held an event.
    #[inline]
    pub(crate) fn event_found(&mut self) {
        (self.records.length, self.candidates.length) = (0, 0);
    }

    /// A candidate held none.
    #[cold]
    pub(crate) fn no_event(&mut self, now: Seconds) {
        self.candidates_without_event += 1;
        if let Some(length) = self.candidates.add(1, now, CANDIDATES, 1) {
            let length = decimal(length);
            let why = " candidates held no event: see event_root in firstseen.toml; compressed payloads inside of records \
                       cannot be read";
            self.notice = Some([&*length, " of the last ", &length, why].concat());
        }
        self.no_key(1, now);
    }

    /// What people are to be told, once.
    pub fn take_notice(&mut self) -> Option<String> {
        self.notice.take()
    }

    /// Whether there is such a thing.
    #[inline]
    pub(crate) fn has_notice(&self) -> bool {
        self.notice.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    const BEGIN: Seconds = 1_800_000_000;

    fn said(recognition: &mut Recognition, mut record: impl FnMut(&mut Recognition, Seconds), times: u32) -> Vec<u32> {
        let mut said = Vec::new();
        for number in 0..times {
            record(recognition, BEGIN + number);
            said.extend(recognition.take_notice().map(|_| number + 1));
        }
        said
    }

    fn no_key(recognition: &mut Recognition, now: Seconds) {
        recognition.no_key(1, now);
    }

    #[test]
    fn candidates_without_an_event_are_said_once_and_then_hourly() {
        let mut recognition = Recognition::default();
        assert_eq!(said(&mut recognition, Recognition::no_event, 7300), [10, 3610, 7210]);
        assert_eq!(recognition.candidates_without_event, 7300);
    }

    #[test]
    fn one_event_among_candidates_keeps_them_quiet() {
        let mut recognition = Recognition::default();
        let mixed = |recognition: &mut Recognition, now| match now % 9 {
            0 => recognition.event_found(),
            _ => recognition.no_event(now),
        };
        assert_eq!(said(&mut recognition, mixed, 5000), [0; 0]);
    }

    #[test]
    fn records_without_an_event_are_said_once_and_then_hourly() {
        let mut recognition = Recognition::default();
        assert_eq!(said(&mut recognition, no_key, 8300), [1000, 4600, 8200]);
        recognition.key_found();
        assert_eq!(said(&mut recognition, no_key, 9), [0; 0]);
    }

    #[test]
    fn few_records_are_enough_in_an_hour() {
        let mut recognition = Recognition::default();
        let rare = |recognition: &mut Recognition, now: Seconds| recognition.no_key(1, BEGIN + (now - BEGIN) * 500);
        assert_eq!(said(&mut recognition, rare, 12), [10]);
    }
}
