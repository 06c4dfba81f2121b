//! The compiled form of rules and settings: plain data, made by the compiler (feature `compile`), read by the engine.
//!
//! In: nothing; these types hold no behaviour beyond small accessors. Out: what [`pack`] writes and reads, and what
//! [`crate::Engine`] runs.
//! Bounds: a predicate nests at most [`MAX_NESTING`] deep, a pack holds at most [`MAX_RULES`] rules; both are checked
//! when a pack is read. Not here: the KQL grammar, TOML, and the meaning of a field in each dialect.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

#[cfg(feature = "compile")]
pub mod builtin;
#[cfg(feature = "compile")]
pub mod compile;
#[cfg(feature = "compile")]
pub mod diagnostic;
#[cfg(feature = "compile")]
pub mod kql;
pub mod network;
pub mod pack;
#[cfg(feature = "compile")]
mod rule_file;
#[cfg(feature = "compile")]
mod settings_file;
#[cfg(feature = "compile")]
pub mod threat;
#[cfg(feature = "compile")]
mod time_span;
#[cfg(feature = "compile")]
mod toml_source;
#[cfg(feature = "compile")]
mod warnings;
mod wire;

/// How deep a predicate may nest. Elastic's deepest AWS query nests 6 deep. Reading and evaluating recurse as deep, and in Fluent
/// Bit, whose interpreter has a stack of 8 KB unless told otherwise, 21 were found to fit.
pub const MAX_NESTING: usize = 12;

/// How many fields all rules together may name.
pub const MAX_FIELDS: usize = 1024;

/// How many rules a pack may hold.
pub const MAX_RULES: usize = 4096;

/// How many fields a new-terms rule may name (Elastic's limit).
pub const MAX_NEW_TERMS_FIELDS: usize = 3;

/// How many fields a suppression may group by: the Sentinel detection needs sixteen (Elastic's own limit is lower).
pub const MAX_GROUP_BY: usize = 16;

/// How many tuples and groups a history may be asked to hold: what fits into a 32-bit memory with room to spare.
pub const MAX_CAPACITY: u32 = 16_000_000;

/// The longest window or duration, in milliseconds: 36,500 days, so that sums with a time of day never overflow.
pub const MAX_SPAN_MS: u64 = 36_500 * 24 * 60 * 60 * 1000;

/// Everything the engine runs by: settings, the fields that rules name, and the rules in the order of their alerts.
#[derive(Debug, Clone, PartialEq)]
pub struct Pack {
    /// The operator's settings.
    pub settings: Settings,
    /// The ECS names that [`FieldRef`]s point at.
    pub fields: Vec<String>,
    /// The rules that are on; their order is the order of an event's alerts.
    pub rules: Vec<Rule>,
}

/// Index into [`Pack::fields`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FieldRef(pub u16);

/// What an operator sets once for all rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// A key under which the event stands, as an object or as JSON text. The record's root and `detail` are looked at
    /// in any case. Dots separate levels, and a flat key with dots serves as well.
    pub event_root: Option<String>,
    /// The one dialect that events come in; `None` tells them apart event by event.
    pub dialect: Option<Dialect>,
    /// A key of the record that holds the AS organisation, beside `source.as.organization.name`.
    pub as_organization_key: Option<String>,
    /// The key that alerts are appended under.
    pub output_key: String,
    /// How many term tuples and suppression groups the history holds, all rules together.
    pub capacity: u32,
    /// What becomes of new terms while the history does not cover a rule's window yet.
    pub warming: Warming,
    /// What the state file is safe from.
    pub sync: Sync,
    /// How far an event's time may run ahead of its arrival, in milliseconds: one dated further ahead counts as having
    /// happened then, so that a wrong clock neither expires the history nor keeps a tuple known for years.
    pub max_clock_skew_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            event_root: None,
            dialect: None,
            as_organization_key: None,
            output_key: String::from("firstseen"),
            capacity: 1_000_000,
            warming: Warming::Mark,
            sync: Sync::None,
            max_clock_skew_ms: 15 * 60 * 1000,
        }
    }
}

/// What becomes of a new tuple while the history does not cover its rule's window yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warming {
    /// It alerts, and the alert says that the history is warming.
    Mark,
    /// It is learned and counted, and does not alert.
    Hold,
}

/// When the state file is written through to the medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// When the system does it: safe from the end of the process, not from a loss of power.
    None,
    /// Before an event is answered that made something known: safe from a loss of power as well.
    Data,
}

/// The spellings of a CloudTrail event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// As AWS delivers it: `eventSource`, `userIdentity.arn`.
    CloudTrail,
    /// As Elastic's AWS integration writes it: `event.provider`, `aws.cloudtrail.user_identity.arn`.
    Ecs,
    /// The columns of Sentinel's table: `EventSource`, `UserIdentityArn`.
    Sentinel,
}

/// One detection.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// The rule's id, a UUID in Elastic's and Sentinel's rules.
    pub id: String,
    /// The rule's name; also the title of its alerts unless [`AlertTexts::title`] is set.
    pub name: String,
    /// The rule's version, 1 if its file says none.
    pub version: u32,
    /// Severity of its alerts.
    pub severity: Severity,
    /// Risk score of its alerts, 0 to 100.
    pub risk_score: u8,
    /// What an event must satisfy. The operator's exceptions are already part of it.
    pub query: Predicate,
    /// Present in a new-terms rule: alert only on tuples not seen inside the window.
    pub new_terms: Option<NewTerms>,
    /// Present if alerts are grouped.
    pub suppression: Option<Suppression>,
    /// What its alerts say.
    pub alert: AlertTexts,
    /// Whether its alerts are building blocks: material for other detections, not to be shown by themselves.
    pub building_block: bool,
}

/// Elastic's and Sentinel's four severities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Informational to low.
    Low,
    /// Medium.
    Medium,
    /// High.
    High,
    /// Critical.
    Critical,
}

/// What makes an event of a new-terms rule new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTerms {
    /// 1 to [`MAX_NEW_TERMS_FIELDS`] fields whose values make the tuple.
    pub fields: Vec<FieldRef>,
    /// How long a tuple stays known, in milliseconds: known while `event time - last_seen <= window`.
    pub window_ms: u64,
    /// The same as the rule wrote it, for the alert: `10d`.
    pub window: String,
}

/// One alert per group and duration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suppression {
    /// 1 to [`MAX_GROUP_BY`] fields whose values make the group.
    pub group_by: Vec<FieldRef>,
    /// How long a group lasts from the event on that opened it, in milliseconds: an event belongs to it while it is less than
    /// that away from it, before or behind.
    pub duration_ms: u64,
    /// What to do with an event that lacks one of the fields.
    pub missing: MissingFields,
}

/// Elastic's `missing_fields_strategy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingFields {
    /// `suppress`: a missing field is a value of its own.
    Suppress,
    /// `doNotSuppress`: such an event always alerts.
    DoNotSuppress,
}

/// What a rule's alerts say beyond its id, severity and new terms.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertTexts {
    /// Title; the rule's name if absent.
    pub title: Option<Template>,
    /// One sentence on what happened; absent if the rule has none.
    pub description: Option<Template>,
    /// Entities by type, each with its attributes.
    pub entities: Vec<Entity>,
    /// Further fields under names of the rule's choice.
    pub details: Vec<(String, FieldRef)>,
    /// MITRE ATT&CK: the JSON text of a list of threats (`threat.rs`), as alerts carry it; empty if there is none.
    pub threat: String,
}

/// Text with fields in it. A missing field leaves nothing in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(pub Vec<TemplatePart>);

/// A piece of a [`Template`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplatePart {
    /// As it stands.
    Text(String),
    /// The field's first value.
    Field(FieldRef),
}

/// Something an alert is about, such as an account or an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entity {
    /// `account`, `ip`, ...
    pub kind: String,
    /// Attribute name and the field it is taken from; an attribute whose field is missing is left out.
    pub attributes: Vec<(String, FieldRef)>,
}

/// A query, compiled. Two-valued: a comparison with a missing field is false, and its negation true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Predicate {
    /// True if every one is; true if there is none.
    All(Vec<Predicate>),
    /// True if one is; false if there is none.
    Any(Vec<Predicate>),
    /// True if the other is not.
    Not(Box<Predicate>),
    /// True if one of the field's values passes the test.
    Is(Comparison),
}

impl Predicate {
    /// How many `All`, `Any` and `Not` stand above the deepest comparison.
    pub fn nesting(&self) -> usize {
        match self {
            Predicate::All(parts) | Predicate::Any(parts) => {
                1 + parts.iter().map(Predicate::nesting).max().unwrap_or(0)
            }
            Predicate::Not(part) => 1 + part.nesting(),
            Predicate::Is(_) => 0,
        }
    }
}

/// One field against one value. A field with several values (an array) passes if one of them does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// Which field.
    pub field: FieldRef,
    /// Which test.
    pub test: Test,
    /// Whether ASCII letters compare without case (KQL compares keyword fields with case).
    pub ignore_case: bool,
}

/// What a value is tested for.
///
/// Values of events are text, numbers or booleans; the literal is text as the rule wrote it. Text compares as text; a
/// number equals a literal that is the same number (`22` and `22.0`); `true` and `false` equal their text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// The field has a value at all (`field: *`).
    Exists,
    /// The value is this.
    Equals(String),
    /// The value is made of these parts in this order with anything between two neighbours; the first part begins it
    /// and the last one ends it. At least two parts, of which any may be empty: `i-*` is `["i-", ""]`.
    Wildcard(Vec<String>),
    /// The value compares so with the bound: as numbers if both are, else as times if both are, else as text, byte by
    /// byte.
    Range(RangeOp, String),
    /// The value is an IP address inside this network, in CIDR notation (`source.ip: "10.0.0.0/8"`).
    Cidr(String),
}

/// The four comparisons of a KQL range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeOp {
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl RangeOp {
    /// Whether a value that orders so against the bound satisfies the comparison.
    pub fn accepts(self, order: core::cmp::Ordering) -> bool {
        match self {
            RangeOp::Less => order.is_lt(),
            RangeOp::LessOrEqual => order.is_le(),
            RangeOp::Greater => order.is_gt(),
            RangeOp::GreaterOrEqual => order.is_ge(),
        }
    }
}
