//! The alerts that the module appended to a record.
//!
//! In: a record that the module changed, and the key that alerts stand under. Out: its alerts, as text and as what a person
//! wants to know of them. Bounds: borrows the record. Not here: making alerts, printing them.

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
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
    /// Who and what it is about.
    #[serde(default)]
    pub entities: Vec<serde_json::Map<String, serde_json::Value>>,
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

/// What the module appended to a record: the value of its last key, if that is `key` or, where the record had one
/// already, `key_2` and so on.
pub fn appended<'a>(record: &'a [u8], key: &str) -> Option<Appended<'a>> {
    let record = str::from_utf8(record).ok()?;
    let (last_key, value) = serde_json::from_str::<LastKey<'_>>(record).ok()?.0?;
    let suffix = last_key.strip_prefix(key)?;
    let is_ours = suffix.is_empty()
        || suffix.strip_prefix('_').is_some_and(|number| number.parse::<u32>().is_ok_and(|number| number >= 2));
    if !is_ours {
        return None;
    }
    serde_json::from_str(value.get()).ok()
}

/// The last key of an object and its value.
struct LastKey<'a>(Option<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for LastKey<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = LastKey<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut entries: M) -> Result<LastKey<'de>, M::Error> {
                let mut last = None;
                while let Some(entry) = entries.next_entry::<String, &'de RawValue>()? {
                    last = Some(entry);
                }
                Ok(LastKey(last))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALERT: &str = r#"{"rule":{"id":"r1","name":"A rule","version":1},"severity":"low","entities":[]}"#;

    #[test]
    fn the_last_key_holds_the_alerts_also_when_the_record_had_one() {
        for key in ["firstseen", "firstseen_2", "firstseen_17"] {
            let record = format!(r#"{{"firstseen":{{"alerts":[]}},"a":{{"b":1}},"{key}":{{"alerts":[{ALERT}]}}}}"#);
            let found = appended(record.as_bytes(), "firstseen").expect("it has alerts");
            assert_eq!(found.alerts.len(), 1, "{key}");
            assert_eq!(found.alerts[0].get(), ALERT);
            let alert = Alert::read(found.alerts[0]).expect("it is an alert");
            assert_eq!((alert.headline(), alert.severity.as_str()), ("A rule", "low"));
        }
    }

    #[test]
    fn another_last_key_is_not_ours() {
        for key in ["firstseen_1", "firstseen_x", "other", "firstsee", "firstseen2"] {
            let record = format!(r#"{{"{key}":{{"alerts":[{ALERT}]}}}}"#);
            assert!(appended(record.as_bytes(), "firstseen").is_none(), "{key}");
        }
        assert!(appended(b"{}", "firstseen").is_none());
        assert!(appended(b"not json", "firstseen").is_none());
    }

    #[test]
    fn an_entry_of_suppressed_rules_is_no_alert() {
        let record = br#"{"firstseen":{"suppressed":[{"rule_id":"r1","count":2}]}}"#;
        let found = appended(record, "firstseen").expect("it is ours");
        assert_eq!((found.alerts.len(), found.suppressed.len()), (0, 1));
    }
}
