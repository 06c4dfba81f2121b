//! The host's clock, checked against the times of events.
//!
//! Responsible for: the second at which an event counts. In: a record's arrival by the host's clock, an event's own time, and the latest
//! event that the history has had. Out: that second, and a [notice](HostClock::take_notice) of how far the clock is behind. Bounds: two
//! numbers, which the state file keeps, so that a restart changes nothing. Not here: what a time does to windows
//! ([`crate::new_terms::history`]).
//!
//! Neither side can be trusted alone: whoever writes an event may date it, and a host may start with a clock that is a year off.
//!
//! 1. An event counts at its own time, but at most `max_clock_skew` after its arrival. One without a time counts at its arrival.
//! 2. A clock that is a day more than that behind the latest event of the history is wrong: events count at their own times, and each
//!    moves the latest event by no more than `max_clock_skew`. Records that are less late are no proof.
//! 3. [`VOTES`] events in a row that are later than rule 1 allows show that the clock is behind, although the history is not later.
//! 4. [`VOTES`] events in a row that agree with a clock which is behind the history show that the history was misled.
//!
//! A history whose first events were later than rule 1 allows begins with the earliest of them, and knows them since then, once rule 3 or
//! a later arrival has confirmed their times. Until then it began when the wrong clock said.

use alloc::string::String;

use crate::decimal::decimal;
use crate::enrichment::Label;
use crate::event::timestamp::{Millis, format};
use crate::new_terms::history::History;
use crate::new_terms::history::entry::{Seconds, millis, seconds};

/// How many events in a row outweigh the clock, or the history.
const VOTES: u8 = 10;

/// Records are not out of order by more than this, in milliseconds, and events not older than this when they arrive.
const DAY: Millis = 24 * 60 * 60 * 1000;

/// Bounds the times of events.
#[derive(Debug)]
pub(crate) struct HostClock {
    max_skew: Millis,
    notice: Option<String>,
}

/// What the latest events have shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Votes {
    /// Events in a row that are later than the clock allows.
    later: u8,
    /// Events in a row that agree with a clock that is behind the history.
    agreeing: u8,
    /// Whether the history had no event before those that are later.
    are_first: bool,
    is_reported: bool,
    /// The earliest of the events that are later.
    earliest: Seconds,
}

impl Votes {
    fn of(history: &History) -> Votes {
        let Label { address, organization } = history.clock_votes();
        let [later, agreeing, are_first, is_reported] = organization.to_le_bytes();
        Votes { later, agreeing, are_first: are_first != 0, is_reported: is_reported != 0, earliest: address }
    }

    fn keep(self, history: &mut History) {
        let Votes { later, agreeing, are_first, is_reported, earliest } = self;
        let organization = u32::from_le_bytes([later, agreeing, u8::from(are_first), u8::from(is_reported)]);
        history.set_clock_votes(Label { address: earliest, organization });
    }
}

impl HostClock {
    pub(crate) fn new(max_clock_skew_ms: u64) -> HostClock {
        HostClock { max_skew: Millis::try_from(max_clock_skew_ms).unwrap_or(Millis::MAX), notice: None }
    }

    /// The latest time that an event may have when it arrives.
    pub(crate) fn latest(&self, arrival: Millis) -> Millis {
        arrival.saturating_add(self.max_skew)
    }

    /// Whether the clock is behind the history. A host that does not know the time passes 0.
    fn is_behind(&self, arrival: Millis, history: &History) -> bool {
        arrival != 0 && millis(history.clock()) > self.latest(arrival).saturating_add(DAY)
    }

    /// The current second: of the latest event in the history if the clock is behind that, else of the arrival.
    pub(crate) fn now(&self, arrival: Millis, history: &History) -> Seconds {
        if self.is_behind(arrival, history) { history.clock() } else { seconds(arrival) }
    }

    /// The second at which an event counts; nothing is noted.
    pub(crate) fn peek(&self, event_time: Option<Millis>, arrival: Millis, history: &History) -> Seconds {
        let Some(time) = event_time else { return self.now(arrival, history) };
        let is_bound = arrival != 0 && !self.is_behind(arrival, history);
        seconds(if is_bound { time.min(self.latest(arrival)) } else { time })
    }

    /// The second at which an event counts, which is noted.
    #[inline]
    pub(crate) fn observe(&mut self, event_time: Option<Millis>, arrival: Millis, history: &mut History) -> Seconds {
        let latest = self.latest(arrival);
        match event_time {
            Some(time)
                if time <= latest && millis(history.clock()) <= latest && history.clock_votes() == Label::default() =>
            {
                history.limit_clock(Seconds::MAX);
                seconds(time)
            }
            _ => self.observe_unsure(event_time, arrival, history),
        }
    }

    #[cold]
    #[inline(never)]
    fn observe_unsure(&mut self, event_time: Option<Millis>, arrival: Millis, history: &mut History) -> Seconds {
        let mut limit = Seconds::MAX;
        if arrival != 0 {
            if let Some(time) = event_time {
                self.vote(time, arrival, history);
            }
            limit = seconds(self.latest(arrival.max(millis(history.clock()))));
        }
        history.limit_clock(limit);
        self.peek(event_time, arrival, history)
    }

    fn vote(&mut self, time: Millis, arrival: Millis, history: &mut History) {
        let mut votes = Votes::of(history);
        let is_behind = self.is_behind(arrival, history);
        if time <= self.latest(arrival) {
            // Either the clock was set by now, or the later events were misdated.
            if votes.later != 0 && votes.are_first && self.latest(arrival) >= millis(votes.earliest) {
                history.begin_later(votes.earliest);
            }
            votes.later = 0;
            votes.agreeing = if is_behind && time >= arrival.saturating_sub(DAY) { votes.agreeing + 1 } else { 0 };
            votes.is_reported &= is_behind;
            if votes.agreeing == VOTES {
                votes = Votes::default();
                history.set_clock(seconds(arrival));
            }
        } else if is_behind {
            votes.agreeing = 0;
        } else {
            votes.are_first = if votes.later == 0 { history.clock() == 0 } else { votes.are_first };
            votes.earliest = if votes.later == 0 { seconds(time) } else { votes.earliest.min(seconds(time)) };
            votes.later += 1;
            if votes.later == VOTES {
                votes.later = 0;
                history.set_clock(votes.earliest);
                if votes.are_first {
                    history.begin_later(votes.earliest);
                }
            }
        }
        if votes.later == 0 {
            (votes.are_first, votes.earliest) = (false, 0);
        }
        if time > self.latest(arrival) && self.is_behind(arrival, history) && !votes.is_reported {
            votes.is_reported = true;
            self.notice = Some(behind(arrival, time));
        }
        votes.keep(history);
    }

    /// That the clock is behind, once until it is right.
    pub(crate) fn take_notice(&mut self) -> Option<String> {
        self.notice.take()
    }
}

fn behind(arrival: Millis, time: Millis) -> String {
    let minutes = arrival.abs_diff(time) / 60_000;
    let (count, unit) = match minutes {
        0..120 => (minutes, " minutes"),
        120..2880 => (minutes / 60, " hours"),
        _ => (minutes / 1440, " days"),
    };
    let (now, count) = (format(arrival), decimal(count));
    [
        "the host's clock says ",
        &now,
        ", ",
        &count,
        unit,
        " before the events: they count at their own times; set the clock",
    ]
    .concat()
}
