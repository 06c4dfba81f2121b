//! At what time an event counts, given a host whose clock may be wrong and events that may be misdated.
//!
//! In: the events that rules match, in the order of their arrival. Out: the second of each, and since when the history has been
//! learning. Not here: a history that existed before, and hosts whose clock goes back.

use super::whole_second;

/// So many events in a row outweigh the clock, or the latest event.
const VOTES: usize = 10;

const DAY: i64 = 86_400_000;

#[derive(Default)]
pub(super) struct HostClock {
    /// The latest second of an event; nothing before the first.
    latest_event: Option<i64>,
    /// The latest events, as long as each was later than the clock allows, and whether there was none before.
    later: Vec<i64>,
    are_first: bool,
    /// How many of the latest events agreed with a clock that is behind `latest_event`.
    agreeing: usize,
    /// The history began no earlier than this, whatever the clock said.
    begun: Option<i64>,
    newly_begun: Option<i64>,
    /// How far the event that was observed last may move `latest_event`.
    most: i64,
}

impl HostClock {
    /// The second at which an event counts.
    pub(super) fn observe(&mut self, event_time: Option<i64>, arrival: i64, skew: i64) -> i64 {
        let allowed = arrival + skew;
        let is_behind = |latest: Option<i64>| latest.is_some_and(|latest| latest > allowed + DAY);
        match event_time {
            Some(time) if time > allowed && is_behind(self.latest_event) => self.agreeing = 0,
            Some(time) if time > allowed => {
                if self.later.is_empty() {
                    self.are_first = self.latest_event.is_none();
                }
                self.later.push(time);
                if self.later.len() == VOTES {
                    self.latest_event = self.later.iter().min().copied().map(whole_second);
                    self.begin_with_the_later();
                    self.later.clear();
                }
            }
            Some(time) => {
                if self.later.iter().min().is_some_and(|first| whole_second(*first) <= allowed) {
                    self.begin_with_the_later();
                }
                self.later.clear();
                let agrees = time >= arrival - DAY && is_behind(self.latest_event);
                self.agreeing = if agrees { self.agreeing + 1 } else { 0 };
                if self.agreeing == VOTES {
                    self.agreeing = 0;
                    self.latest_event = Some(whole_second(arrival));
                }
            }
            None => {}
        }
        self.most = whole_second(allowed.max(self.latest_event.unwrap_or(0) + skew));
        let is_behind = is_behind(self.latest_event);
        let now = if is_behind { self.latest_event.unwrap_or(arrival) } else { arrival };
        whole_second(match event_time {
            Some(time) if is_behind => time,
            Some(time) => time.min(allowed),
            None => now,
        })
    }

    fn begin_with_the_later(&mut self) {
        if self.are_first {
            self.begun = self.later.iter().min().copied().map(whole_second);
            self.newly_begun = self.begun;
        }
    }

    /// The time before which nothing was learned, whatever the clock said; once.
    pub(super) fn take_newly_begun(&mut self) -> Option<i64> {
        self.newly_begun.take()
    }

    /// The history has learned the event that was observed last, which counts at this second.
    pub(super) fn learned(&mut self, at: i64) {
        self.latest_event = Some(self.latest_event.unwrap_or(0).max(at.min(self.most)));
    }

    /// Since when the history has been learning, if its first record arrived at `arrival`.
    pub(super) fn since(&self, arrival: i64) -> i64 {
        self.begun.map_or(arrival, |begun| begun.max(arrival))
    }
}
