//! Suppression through the sidecar, and what `/metrics` says of groups that are used once.

use super::parties::{Receiver, Sidecar};
use crate::subjects::BUILTIN_RULE_IDS;
use crate::suppression::{DIALECTS, counts, thirty_calls, unknown_value};

#[test]
fn calls_that_differ_in_the_request_id_only_alert_once_in_each_dialect() {
    for dialect in DIALECTS {
        let receiver = Receiver::start();
        let sidecar = Sidecar::forwarding(None, &receiver, &[]);
        for batch in thirty_calls(dialect).chunks(7) {
            assert_eq!(sidecar.post(&[], batch.join("\n").as_bytes()).status, 200);
        }
        let taken = receiver.taken();
        let bodies: Vec<&str> = taken.iter().map(|batch| str::from_utf8(&batch.body).expect("text")).collect();
        assert_eq!(counts(bodies.iter().flat_map(|body| body.lines())), (1, 29), "{dialect}");
    }
}

#[test]
fn a_value_of_the_kind_that_nobody_knows_is_named_in_the_log_and_the_metrics() {
    let receiver = Receiver::start();
    let sidecar = Sidecar::forwarding(None, &receiver, &[]);
    let metrics = || String::from_utf8(sidecar.get("/metrics").body).expect("text");
    assert!(!metrics().contains("firstseen_used_once{"), "{}", metrics());
    let calls: Vec<String> = unknown_value("cloudtrail", 3, 300, 0).into_iter().map(|(_, call)| call).collect();
    assert_eq!(sidecar.post(&[], calls.join("\n").as_bytes()).status, 200);
    sidecar.wait_for("differ only in sentinel.additional_event_data");
    let name = format!(
        "firstseen_used_once{{rule=\"{}\",kind=\"suppression\",fields=\"sentinel.additional_event_data\"}}",
        BUILTIN_RULE_IDS[2]
    );
    assert!(sidecar.metric(&name) == 1.0);
}
