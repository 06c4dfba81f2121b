//! The alerts that the module appended to a record.
//!
//! In: a record, what the module made of it, and the key that alerts stand under. Out: its alerts, as text and as what a
//! person wants to know of them. Bounds: borrows the record. Not here: making alerts, printing them.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

/// What stands under the alerts' key.
#[derive(Debug, Deserialize)]
pub struct Appended<'a> {
    /// The alerts, each as its JSON text.
    #[serde(borrow, default)]
    pub alerts: Vec<&'a RawValue>,
    /// The rules that matched but whose group has alerted already.
    #[serde(default)]
    pub suppressed: Vec<IgnoredAny>,
}

/// The parts of an alert that a person looks at first.
#[derive(Debug, Deserialize)]
pub struct Alert {
    /// The rule that raised it.
    pub rule: Rule,
    /// `low` to `critical`.
    pub severity: String,
    /// What happened, if the rule says it of each event.
    pub title: Option<String>,
    /// What was new, in a new-terms rule.
    pub new_terms: Option<NewTerms>,
    /// Which event of its record it is on, if that may hold several.
    pub event: Option<Event>,
    /// Who and what it is about.
    #[serde(default)]
    pub entities: Vec<serde_json::Map<String, serde_json::Value>>,
}

/// An event among those of its record.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Event {
    /// Its number, from 0.
    pub index: usize,
}

/// The rule of an alert.
#[derive(Debug, Deserialize)]
pub struct Rule {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// What was new.
#[derive(Debug, Deserialize)]
pub struct NewTerms {
    /// The fields.
    pub fields: Vec<String>,
    /// Their values.
    pub values: Vec<String>,
    /// How long a tuple stays known, as the rule has it.
    pub history_window: Option<String>,
    /// Why it is new.
    pub reason: Option<String>,
}

impl Alert {
    /// Reads an alert; `None` if it has another shape.
    pub fn read(text: &RawValue) -> Option<Alert> {
        serde_json::from_str(text.get()).ok()
    }

    /// The alert's title, or its rule's name.
    pub fn headline(&self) -> &str {
        self.title.as_deref().unwrap_or(&self.rule.name)
    }
}

/// What the module appended to `record`: the value of `key` or, where the record had that already, `key_2` and so on, which
/// stands before the record's last brace in `changed`. `None` if anything else was changed.
///
/// Only what was appended is read: the rest of the record may be no JSON that serde_json accepts, such as text that is not
/// UTF-8.
pub fn appended<'a>(record: &[u8], changed: &'a [u8], key: &str) -> Option<Appended<'a>> {
    let (before, behind) = record.split_at(record.iter().rposition(|&byte| byte == b'}')?);
    let member = changed.strip_prefix(before)?.strip_suffix(behind)?.strip_prefix(b",")?;
    let mut names = serde_json::Deserializer::from_slice(member).into_iter::<String>();
    let name = names.next()?.ok()?;
    let value = member.get(names.byte_offset()..)?.strip_prefix(b":")?;
    let suffix = name.strip_prefix(key)?;
    let is_ours = suffix.is_empty()
        || suffix.strip_prefix('_').is_some_and(|number| number.parse::<u32>().is_ok_and(|number| number >= 2));
    if !is_ours {
        return None;
    }
    serde_json::from_slice(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALERT: &str = r#"{"rule":{"id":"r1","name":"A rule","version":1},"severity":"low","entities":[]}"#;

    /// The record with a member before its last brace, as the module appends it.
    fn with(record: &[u8], member: &str) -> Vec<u8> {
        let (before, behind) = record.split_at(record.iter().rposition(|&byte| byte == b'}').unwrap());
        [before, b",", member.as_bytes(), behind].concat()
    }

    #[test]
    fn the_appended_key_holds_the_alerts_whatever_the_record_holds() {
        let records = [
            br#"{"firstseen":{"alerts":[]},"a":{"b":1}}"#.as_slice(),
            b"{\"a\":\"\xff\xfe\"} \r",
            br#"{"\ud800":1}"#,
            b"{\"a\":01e999}",
        ];
        for record in records {
            for key in ["firstseen", "firstseen_2", "firstseen_17"] {
                let changed = with(record, &format!(r#""{key}":{{"alerts":[{ALERT}]}}"#));
                let found = appended(record, &changed, "firstseen").expect("it has alerts");
                assert_eq!(found.alerts.len(), 1, "{key}");
                assert_eq!(found.alerts[0].get(), ALERT);
                let alert = Alert::read(found.alerts[0]).expect("it is an alert");
                assert_eq!((alert.headline(), alert.severity.as_str()), ("A rule", "low"));
            }
        }
    }

    #[test]
    fn another_key_or_another_change_is_not_ours() {
        let record = br#"{"a":1}"#;
        for key in ["firstseen_1", "firstseen_x", "other", "firstsee", "firstseen2"] {
            let changed = with(record, &format!(r#""{key}":{{"alerts":[{ALERT}]}}"#));
            assert!(appended(record, &changed, "firstseen").is_none(), "{key}");
        }
        let ours = format!(r#""firstseen":{{"alerts":[{ALERT}]}}"#);
        assert!(appended(record, &with(record, &ours), "firstseen").is_some());
        assert!(appended(record, &with(br#"{"b":1}"#, &ours), "firstseen").is_none(), "another record");
        assert!(appended(record, &with(record, &format!("{ours},\"b\":1")), "firstseen").is_none(), "one more key");
        for changed in [&record[..], b"{}", b"", b"not json", b"{\"a\":1,\"firstseen\"}", b"{\"a\":1,\"firstseen\":[}"]
        {
            assert!(appended(record, changed, "firstseen").is_none(), "{changed:?}");
            assert!(appended(changed, record, "firstseen").is_none(), "{changed:?}");
        }
    }

    #[test]
    fn an_entry_of_suppressed_rules_is_no_alert() {
        let changed = with(br#"{"a":1}"#, r#""firstseen":{"suppressed":[{"rule_id":"r1","count":2}]}"#);
        let found = appended(br#"{"a":1}"#, &changed, "firstseen").expect("it is ours");
        assert_eq!((found.alerts.len(), found.suppressed.len()), (0, 1));
    }
}
