//! Refused requests in the log: each at the level `debug`, and at `warn` one line a minute for each status.
//!
//! In: every answer that the sidecar gives. Out: log lines. Bounds: a sender that is refused again and again fills no log, unless
//! `debug` is asked for; a reason is written up to [`MAX_REASON`] characters; there are as many counts as statuses. Not here: why a
//! request is refused, and the counts by status in the metrics.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use axum::response::Response;

/// How often there is a line for a status.
const PERIOD: Duration = Duration::from_secs(60);

/// How many characters of a reason are written: parts of it may be the sender's.
const MAX_REASON: usize = 200;

/// Why a request was refused; it is with the answer.
#[derive(Debug, Clone)]
pub struct Refused(pub Cow<'static, str>);

/// The refusals of a status since there was a line for it.
#[derive(Debug)]
struct Count {
    line: Instant,
    since: u64,
}

/// What was refused lately.
#[derive(Debug, Default)]
pub struct Refusals {
    counts: Mutex<BTreeMap<u16, Count>>,
}

impl Refusals {
    /// Takes down an answer, if it refuses a request.
    pub fn note(&self, response: &Response) {
        let status = response.status();
        let Some(reason) = reason(response) else { return };
        let reason: String =
            reason.chars().take(MAX_REASON).map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect();
        let status = status.as_u16();
        tracing::debug!(status, reason, "a request is refused");
        if let Some(more) = self.count(status, Instant::now()) {
            tracing::warn!(status, reason, more, "requests are refused");
        }
    }

    /// Counts a refusal. If it is time for a line: how many there were since the last one, this one aside.
    fn count(&self, status: u16, now: Instant) -> Option<u64> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.get_mut(&status) {
            Some(count) if now.saturating_duration_since(count.line) < PERIOD => {
                count.since += 1;
                None
            }
            Some(count) => Some(std::mem::replace(count, Count { line: now, since: 0 }).since),
            None => {
                counts.insert(status, Count { line: now, since: 0 });
                Some(0)
            }
        }
    }

    /// Writes a line for each status that had refusals after its last line, if that was a minute ago.
    pub fn report_counts(&self) {
        for (status, more) in self.due(Instant::now()) {
            tracing::warn!(status, more, "requests were refused in the last minute");
        }
    }

    fn due(&self, now: Instant) -> Vec<(u16, u64)> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut due = Vec::new();
        for (status, count) in &mut *counts {
            if count.since > 0 && now.saturating_duration_since(count.line) >= PERIOD {
                due.push((*status, std::mem::take(&mut count.since)));
                count.line = now;
            }
        }
        due
    }
}

/// Why the answer refuses a request, if it does.
fn reason(response: &Response) -> Option<&str> {
    if let Some(Refused(reason)) = response.extensions().get() {
        return Some(reason);
    }
    // Answers that are not made where requests are read.
    match response.status() {
        StatusCode::NOT_FOUND => Some("there is no such path: POST / takes events"),
        StatusCode::METHOD_NOT_ALLOWED => Some("the path does not take this method: POST / takes events"),
        StatusCode::INTERNAL_SERVER_ERROR => Some("the request could not be answered"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_has_a_line_a_minute_and_no_refusal_is_lost() {
        let refusals = Refusals::default();
        let begun = Instant::now();
        let at = |seconds: f64| begun + Duration::from_secs_f64(seconds);
        assert_eq!(refusals.count(401, at(0.0)), Some(0));
        for number in 1..=1000 {
            assert_eq!(refusals.count(401, at(f64::from(number) * 0.01)), None);
        }
        assert_eq!(refusals.count(413, at(5.0)), Some(0), "another status has its own line");
        assert!(refusals.due(at(59.0)).is_empty());
        assert_eq!(refusals.due(at(60.0)), [(401, 1000)]);
        assert!(refusals.due(at(60.1)).is_empty());
        // The line of the counts is one, too.
        assert_eq!(refusals.count(401, at(61.0)), None);
        assert_eq!(refusals.count(401, at(121.0)), Some(1));
        assert_eq!(refusals.due(at(999.0)), []);
    }
}
