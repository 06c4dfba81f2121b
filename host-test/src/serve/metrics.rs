//! What the sidecar counts, as Prometheus reads it.
//!
//! In: what became of requests and records. Out: text in the OpenMetrics format. Bounds: labels have values of the rules' and
//! this program's, never of events. Not here: where and to whom they are shown.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use firstseen_engine::status::Status;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// The media type of [`Metrics::text`].
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// An alert's labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct AlertLabels {
    /// The rule's id.
    pub rule: String,
    /// Why the tuple is new; empty for a rule that asks for no new terms.
    pub reason: String,
}

/// The labels of a rule whose groups or tuples are used once.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct UsedOnceLabels {
    /// The rule's id.
    pub rule: String,
    /// `suppression` or `new_terms`.
    pub kind: &'static str,
    /// The names of the fields whose values differ each time, with commas between them.
    pub fields: String,
}

/// A request's label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StatusLabel {
    /// The status of the answer.
    pub status: u16,
}

/// A reload's label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResultLabel {
    /// `ok` or `failed`.
    pub result: &'static str,
}

/// All that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    status: Arc<Mutex<Option<Status>>>,
    used_once: Family<UsedOnceLabels, Gauge>,
    /// Records, in bodies of any framing.
    pub records: Counter,
    /// Bytes of bodies, unpacked.
    pub bytes: Counter,
    /// Records that the prefilter did not reject.
    pub candidates: Counter,
    /// Texts that are no JSON object, and passed on untouched.
    pub not_json: Counter,
    /// Records that are too long to be looked at, and passed on untouched.
    pub too_long: Counter,
    /// Records without the key of a CloudTrail event.
    pub without_event: Counter,
    /// Alerts, by rule and reason.
    pub alerts: Family<AlertLabels, Counter>,
    /// Events whose group has alerted already.
    pub suppressed: Counter,
    /// Requests, by the status of their answer.
    pub requests: Family<StatusLabel, Counter>,
    /// Requests that are under way.
    pub in_flight: Gauge,
    /// Bytes of bodies that are held.
    pub held: Gauge,
    /// From a request's first byte to its answer.
    pub request_time: Histogram,
    /// Finding the candidates, waiting for the module, and its work.
    pub detection_time: Histogram,
    /// From the first byte to the receiver to its answer.
    pub receiver_time: Histogram,
    /// How often the module trapped or failed.
    pub module_failures: Counter,
    /// Records that passed untouched because the module had failed on them before.
    pub passed_after_failure: Counter,
    /// Reloads of the pack.
    pub reloads: Family<ResultLabel, Counter>,
    /// How often the pack was there and could not be read.
    pub pack_failures: Counter,
}

/// From 100 us to 100 s.
fn times() -> Histogram {
    Histogram::new([
        0.0001, 0.000_25, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
        100.0,
    ])
}

impl Default for Metrics {
    fn default() -> Metrics {
        let mut registry = Registry::with_prefix("firstseen");
        let status = Arc::<Mutex<Option<Status>>>::default();
        registry.register_collector(Box::new(StatusCollector(Arc::clone(&status))));
        let metrics = Metrics {
            registry,
            status,
            used_once: Family::default(),
            records: Counter::default(),
            bytes: Counter::default(),
            candidates: Counter::default(),
            not_json: Counter::default(),
            too_long: Counter::default(),
            without_event: Counter::default(),
            alerts: Family::default(),
            suppressed: Counter::default(),
            requests: Family::default(),
            in_flight: Gauge::default(),
            held: Gauge::default(),
            request_time: times(),
            detection_time: times(),
            receiver_time: times(),
            module_failures: Counter::default(),
            passed_after_failure: Counter::default(),
            reloads: Family::default(),
            pack_failures: Counter::default(),
        };
        metrics.registered()
    }
}

impl Metrics {
    fn registered(mut self) -> Metrics {
        let registry = &mut self.registry;
        registry.register("records", "Records that came in", self.records.clone());
        registry.register_with_unit("body", "Bodies that came in, unpacked", Unit::Bytes, self.bytes.clone());
        registry.register("candidates", "Records that a rule may match", self.candidates.clone());
        registry.register("not_json", "Texts that are no JSON object and passed untouched", self.not_json.clone());
        let without = "Records without the key of a CloudTrail event";
        registry.register("records_without_event", without, self.without_event.clone());
        registry.register("too_long", "Records too long to be looked at that passed untouched", self.too_long.clone());
        registry.register(
            "alerts",
            "Alerts of delivered batches by rule and by why the terms are new",
            self.alerts.clone(),
        );
        registry.register(
            "suppressed",
            "Events of delivered batches whose group has alerted already",
            self.suppressed.clone(),
        );
        registry.register("requests", "Requests by the status of their answer", self.requests.clone());
        registry.register("requests_in_flight", "Requests under way", self.in_flight.clone());
        registry.register_with_unit("held", "Bodies held in memory", Unit::Bytes, self.held.clone());
        let (request, detection, receiver) = ("request", "detection", "receiver");
        registry.register_with_unit(request, "From request to answer", Unit::Seconds, self.request_time.clone());
        registry.register_with_unit(
            detection,
            "Time of a batch's detection",
            Unit::Seconds,
            self.detection_time.clone(),
        );
        registry.register_with_unit(
            receiver,
            "Time until the receiver's answer",
            Unit::Seconds,
            self.receiver_time.clone(),
        );
        registry.register("module_failures", "Traps and failures of the module", self.module_failures.clone());
        let passed = "Records that passed untouched because the module had failed on them";
        registry.register("passed_after_failure", passed, self.passed_after_failure.clone());
        let used_once = "1 for each rule of which nearly all recent groups or tuples were used once";
        registry.register("used_once", used_once, self.used_once.clone());
        registry.register("reloads", "Reloads of the pack", self.reloads.clone());
        let unreadable = "Looks at the pack, one in two seconds, that found it there and could not read it";
        registry.register("pack_failures", unreadable, self.pack_failures.clone());
        self
    }

    /// Everything as text, with what the module says of itself, and of which rules it says that their groups or tuples are used
    /// once.
    ///
    /// # Errors
    /// The text cannot be made, which nothing is known to cause.
    pub fn text(&self, status: Option<Status>, used_once: Vec<UsedOnceLabels>) -> Result<String, fmt::Error> {
        self.used_once.clear();
        for labels in used_once {
            self.used_once.get_or_create(&labels).set(1);
        }
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
        let mut out = String::new();
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }

    /// Counts a duration.
    pub fn observe(histogram: &Histogram, time: Duration) {
        histogram.observe(time.as_secs_f64());
    }
}

/// What the module says of itself.
#[derive(Debug)]
struct StatusCollector(Arc<Mutex<Option<Status>>>);

impl Collector for StatusCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(status) = *self.0.lock().unwrap_or_else(PoisonError::into_inner) else { return Ok(()) };
        let Status {
            entries,
            capacity,
            evictions,
            durable,
            storage_failures,
            organization_asked,
            organization_lacking,
            candidates_without_event,
            used_once: _,
        } = status;
        let share = if organization_asked == 0 { 0.0 } else { organization_lacking as f64 / organization_asked as f64 };
        for (name, help, gauge) in [
            ("history_entries", "Tuples and groups that the history holds", entries as f64),
            ("history_capacity", "How many it may hold", capacity as f64),
            ("history_durable", "1 if a restart keeps the history", durable as f64),
            (
                "missing_organization_ratio",
                "Share of the events asked for their AS organisation that had none, since the start",
                share,
            ),
        ] {
            let gauge = ConstGauge::new(gauge);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        for (name, help, count) in [
            ("history_evictions", "Tuples forgotten for lack of space inside their window", evictions),
            ("journal_errors", "Failed writes of the state file", storage_failures),
            ("organization_asked", "Events asked for their AS organisation", organization_asked),
            ("organization_missing", "Those of them that had none", organization_lacking),
            ("candidates_without_event", "Candidates that held no CloudTrail event", candidates_without_event),
        ] {
            let counter = ConstCounter::new(count);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_each_number_once() {
        let metrics = Metrics::default();
        metrics.records.inc_by(3);
        metrics.alerts.get_or_create(&AlertLabels { rule: "r1".to_owned(), reason: "never_seen".to_owned() }).inc();
        Metrics::observe(&metrics.request_time, Duration::from_millis(3));
        let status = Status {
            entries: 5,
            capacity: 10,
            durable: 1,
            organization_asked: 4,
            organization_lacking: 1,
            ..Status::default()
        };
        let used_once = UsedOnceLabels { rule: "r2".to_owned(), kind: "suppression", fields: "event.id".to_owned() };
        let text = metrics.text(Some(status), vec![used_once]).expect("there is text");
        for line in [
            "firstseen_records_total 3",
            "firstseen_alerts_total{rule=\"r1\",reason=\"never_seen\"} 1",
            "firstseen_request_seconds_bucket{le=\"0.005\"} 1",
            "firstseen_history_entries 5",
            "firstseen_missing_organization_ratio 0.25",
            "firstseen_journal_errors_total 0",
            "firstseen_body_bytes_total 0",
            "firstseen_used_once{rule=\"r2\",kind=\"suppression\",fields=\"event.id\"} 1",
            "# EOF",
        ] {
            assert_eq!(text.lines().filter(|found| found.starts_with(line)).count(), 1, "{line} in\n{text}");
        }
        let text = metrics.text(None, Vec::new()).expect("there is text");
        assert!(!text.contains("history") && !text.contains("r2"), "{text}");
    }
}
