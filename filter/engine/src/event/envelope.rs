//! What an event may be wrapped in: the table of envelopes, and the encodings of what is in them.
//!
//! In: nothing, or the text of one value. Out: the paths under which events are looked for in every record; decoded text.
//! Each path may hold an object, an array of objects or texts, or JSON text of either, and what is in an envelope may be in
//! another one again. Bounds: [`MAX_DEPTH`] envelopes one in the other. Not here: opening them ([`super::reader`]); compressed
//! payloads, which the module cannot unpack.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

/// How a text in an envelope holds its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// As JSON.
    Json,
    /// As JSON in base64.
    Base64,
}

/// An envelope that is looked for in every record.
#[derive(Debug, Clone, Copy)]
pub struct Envelope {
    /// What writes it.
    pub name: &'static str,
    /// Where the events are: levels with dots between.
    pub path: &'static str,
    pub(super) encoding: Encoding,
    /// Public documentation of the format.
    pub source: &'static str,
}

const fn json(name: &'static str, path: &'static str, source: &'static str) -> Envelope {
    Envelope { name, path, encoding: Encoding::Json, source }
}

const fn base64(name: &'static str, path: &'static str, source: &'static str) -> Envelope {
    Envelope { name, path, encoding: Encoding::Base64, source }
}

/// EventBridge's key for the event.
pub const EVENT_BRIDGE: &str = "detail";

/// The envelopes, which are tried without any setting.
#[rustfmt::skip]
pub const ENVELOPES: &[Envelope] = &[
    json("CloudTrail log file; Lambda's input from SQS, SNS, Kinesis and S3", "Records", "https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-log-file-examples.html"),
    json("Azure Event Hubs; Firehose to an HTTP endpoint", "records", "https://learn.microsoft.com/azure/azure-monitor/essentials/stream-monitoring-data-event-hubs"),
    json("CloudWatch Logs subscription", "logEvents", "https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/SubscriptionFilters.html"),
    json("aws cloudtrail lookup-events", "Events", "https://docs.aws.amazon.com/awscloudtrail/latest/APIReference/API_LookupEvents.html"),
    json("an element of lookup-events", "CloudTrailEvent", "https://docs.aws.amazon.com/awscloudtrail/latest/APIReference/API_Event.html"),
    json("EventBridge", EVENT_BRIDGE, "https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-events-structure.html"),
    json("SNS notification", "Message", "https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html"),
    json("SNS notification in Lambda's input", "Sns.Message", "https://docs.aws.amazon.com/lambda/latest/dg/with-sns.html"),
    json("answer of SQS ReceiveMessage", "Messages", "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html"),
    json("SQS message", "Body", "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_Message.html"),
    json("SQS message in Lambda's input", "body", "https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html"),
    json("Splunk HTTP Event Collector", "event", "https://docs.splunk.com/Documentation/Splunk/latest/Data/FormateventsforHTTPEventCollector"),
    json("Elastic Agent before its ingest pipeline; CloudWatch Logs; syslog", "message", "https://www.elastic.co/guide/en/ecs/current/ecs-base.html"),
    json("Fluent Bit's tail input; Docker's JSON files", "log", "https://docs.fluentbit.io/manual/pipeline/inputs/tail"),
    json("Kinesis in Lambda's input", "kinesis", "https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html"),
    base64("Firehose to an HTTP endpoint; data of Kinesis", "data", "https://docs.aws.amazon.com/firehose/latest/dev/httpdeliveryrequestresponse.html"),
    base64("answer of Kinesis GetRecords", "Data", "https://docs.aws.amazon.com/kinesis/latest/APIReference/API_Record.html"),
];

/// The keys of those whose events are JSON text where programs other than firstseen meet them.
pub const TEXT_KEYS: [&str; 8] =
    [EVENT_BRIDGE, "CloudTrailEvent", "Message", "Body", "body", "event", "message", "log"];

/// Their paths and encodings alone, which are all that the module needs.
pub(super) const PATHS: [(&str, Encoding); ENVELOPES.len()] = {
    let mut paths = [("", Encoding::Json); ENVELOPES.len()];
    let mut at = 0;
    while at < paths.len() {
        paths[at] = (ENVELOPES[at].path, ENVELOPES[at].encoding);
        at += 1;
    }
    paths
};

/// How many envelopes one in the other are opened. The deepest that is known has five: Lambda's input, an SQS message, an SNS
/// notification, a list of records, `detail`.
pub(crate) const MAX_DEPTH: u8 = 6;

/// What base64 of a JSON object begins with, since it begins with a brace.
pub(crate) const BASE64_OBJECT: u8 = b'e';

/// What base64 of gzip begins with.
pub(crate) const BASE64_GZIP: &[u8] = b"H4sI";

/// The bytes that base64 spells, with padding or without; `None` if it is no base64.
pub(super) fn from_base64(text: &str) -> Option<String> {
    let digits = text.trim_end_matches('=').as_bytes();
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 3);
    for group in digits.chunks(4) {
        let mut word = 0u32;
        for digit in group {
            let value = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a' + 26,
                b'0'..=b'9' => digit - b'0' + 52,
                b'+' | b'-' => 62,
                b'/' | b'_' => 63,
                _ => return None,
            };
            word = word << 6 | u32::from(value);
        }
        let [_, a, b, c] = (word << (6 * (4 - group.len()))).to_be_bytes();
        bytes.extend_from_slice([a, b, c].get(..group.len() - 1)?);
    }
    Some(match String::from_utf8_lossy(&bytes) {
        Cow::Owned(text) => text,
        Cow::Borrowed(_) => String::from_utf8(bytes).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn base64_is_read_in_both_alphabets_with_padding_and_without() {
        for (text, spelt) in [
            ("eyJhIjoxfQ==", Some("{\"a\":1}")),
            ("eyJhIjoxfQ", Some("{\"a\":1}")),
            ("eyJhIjoiw78_PiJ9", Some("{\"a\":\"ÿ?>\"}")),
            ("eyJhIjoiw78/PiJ9", Some("{\"a\":\"ÿ?>\"}")),
            ("", Some("")),
            ("e", Some("")),
            ("e30=", Some("{}")),
            ("e30 ", None),
            ("{}", None),
        ] {
            assert_eq!(from_base64(text), spelt.map(ToString::to_string), "{text}");
        }
    }

    /// The prefilter looks for them by their quotes, so that they stand at a level of their own.
    #[test]
    fn base64_stands_under_a_single_key() {
        let base64 = ENVELOPES.iter().filter(|envelope| envelope.encoding == Encoding::Base64);
        assert_eq!(base64.map(|envelope| envelope.path).collect::<alloc::vec::Vec<_>>(), ["data", "Data"]);
    }

    #[test]
    fn each_envelope_has_a_path_of_its_own_and_a_source() {
        for (at, envelope) in ENVELOPES.iter().enumerate() {
            assert!(ENVELOPES[..at].iter().all(|other| other.path != envelope.path), "{}", envelope.path);
            assert!(envelope.source.starts_with("https://") && !envelope.name.is_empty());
        }
    }
}
