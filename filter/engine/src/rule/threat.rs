//! MITRE ATT&CK, in the shape that Elastic's rule files have it and alerts carry it.
//!
//! In: what a rule file says. Out: JSON text, made once when the rule is compiled. Not here: whether the ids exist.

use alloc::string::String;
use alloc::vec::Vec;

use serde::Serialize;

/// The list's JSON text; none of an empty list.
pub fn to_json(threats: &[Threat]) -> String {
    // Structures of text always have a JSON form.
    if threats.is_empty() { String::new() } else { serde_json::to_string(threats).unwrap_or_default() }
}

/// One tactic with its techniques, in the shape alerts carry it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Threat {
    /// `MITRE ATT&CK`.
    pub framework: String,
    /// The tactic.
    pub tactic: ThreatItem,
    /// Techniques under the tactic, each with its sub-techniques.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub technique: Vec<Technique>,
}

/// Id, name and address of a MITRE ATT&CK entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ThreatItem {
    /// `TA0007`, `T1087.004`.
    pub id: String,
    /// `Discovery`.
    pub name: String,
    /// Its page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}

/// A technique and its sub-techniques.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Technique {
    /// `T1087`.
    pub id: String,
    /// `Account Discovery`.
    pub name: String,
    /// Its page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Its sub-techniques.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subtechnique: Vec<ThreatItem>,
}
