//! A rule's file: TOML in the schema of Elastic's rule files, and our table `[firstseen]`.
//!
//! In: one file. Out: a [`RuleFile`], in which queries, templates and fields are still text with their places; or the
//! refusals. Types `query` and `new_terms`, language `kuery`.
//! Each key of Elastic's schema is in one of four lists: read, not kept because it only documents a rule or schedules a
//! search, warned of because a search would obey it and a stream cannot, or refused because ignoring it would change what
//! the rule detects. Every other key is refused as unknown. Not here: the meaning of a field's name, KQL, the settings.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::diagnostic::Mismatch;
use super::threat::{Technique, Threat, ThreatItem};
use super::time_span::TimeSpan;
use super::toml_source::{Section, Source, Text};
use super::{MAX_GROUP_BY, MAX_NEW_TERMS_FIELDS, MissingFields, Severity};

/// A rule as its file has it.
#[derive(Debug, Clone)]
pub(crate) struct RuleFile {
    pub(crate) id: Text,
    pub(crate) name: String,
    pub(crate) version: u32,
    pub(crate) severity: Severity,
    pub(crate) risk_score: u8,
    pub(crate) query: Text,
    pub(crate) new_terms: Option<NewTermsTable>,
    pub(crate) suppression: Option<SuppressionTable>,
    pub(crate) threat: Vec<Threat>,
    /// Fields whose comparisons ignore case.
    pub(crate) ignore_case: Vec<Text>,
    pub(crate) title: Option<Text>,
    pub(crate) description: Option<Text>,
    /// Name and field.
    pub(crate) details: Vec<(String, Text)>,
    /// Type and attributes, each with its field.
    pub(crate) entities: Vec<(String, Vec<(String, Text)>)>,
    /// Whether the file says `building_block_type = "default"`.
    pub(crate) building_block: bool,
}

/// `[rule.new_terms]`.
#[derive(Debug, Clone)]
pub(crate) struct NewTermsTable {
    pub(crate) fields: Vec<Text>,
    pub(crate) window: TimeSpan,
}

/// `[rule.alert_suppression]`.
#[derive(Debug, Clone)]
pub(crate) struct SuppressionTable {
    pub(crate) group_by: Vec<Text>,
    pub(crate) duration: TimeSpan,
    pub(crate) missing: MissingFields,
}

/// The keys of `[rule]` that are read.
const READ: [&str; 13] = [
    "building_block_type",
    "rule_id",
    "name",
    "version",
    "type",
    "language",
    "query",
    "severity",
    "risk_score",
    "threat",
    "new_terms",
    "alert_suppression",
    "enabled",
];

/// The keys of `[rule]` that document the rule, say where Elastic keeps it and its alerts, or say when a search runs and
/// which times it covers: a stream evaluates every event once, when it comes.
const NOT_KEPT: [&str; 25] = [
    "author",
    "description",
    "false_positives",
    "from",
    "immutable",
    "interval",
    "investigation_fields",
    "license",
    "meta",
    "namespace",
    "note",
    "output_index",
    "references",
    "related_integrations",
    "required_fields",
    "revision",
    "setup",
    "tags",
    "throttle",
    "timeline_id",
    "timeline_title",
    "timestamp_field",
    "timestamp_override_fallback_disabled",
    "tiebreaker_field",
    "to",
];

/// The keys of `[rule]` that are accepted and not applied, although a search would obey them: what to know of each. They
/// are warned of unless they are empty. Those of [`NOT_APPLIED_IF`] have conditions of their own.
const NOT_APPLIED: [(&str, &str); 3] = [
    ("actions", "send alerts on with the log pipeline, and remove the key"),
    (
        "data_view_id",
        "every CloudTrail event of the pipeline is evaluated: write what else narrows them into the query",
    ),
    ("response_actions", "react to alerts behind the log pipeline, and remove the key"),
];

/// Like [`NOT_APPLIED`], but warned of only where a search with the value would find something else.
const NOT_APPLIED_IF: [&str; 3] = ["index", "max_signals", "timestamp_override"];

/// `max_signals` of a rule that does not set it.
const DEFAULT_MAX_SIGNALS: u64 = 100;

/// The keys of `[rule]` that would change its alerts, and what to write instead. Refused unless they are empty.
const NOT_SUPPORTED: [(&str, &str); 5] = [
    ("filters", "write the conditions into the query"),
    ("exceptions_list", "write exceptions = [\"KQL\"] under the rule's id in firstseen.toml"),
    ("severity_mapping", "write one severity"),
    ("risk_score_mapping", "write one risk_score"),
    ("rule_name_override", "write title = \"... {{field}}\" under [firstseen]"),
];

/// What a file gave: its id if it has one, and its rule if it has an id and a query. What else could not be read is
/// refused and left empty, so that the rest of the rule can be checked all the same.
pub(crate) struct Reading {
    pub(crate) id: Option<Text>,
    pub(crate) rule: Option<RuleFile>,
}

/// Reads one file. What is refused is noted in the source.
pub(crate) fn read(source: &Source<'_>) -> Reading {
    let nothing = Reading { id: None, rule: None };
    let Some(table) = source.parse() else { return nothing };
    let file = Section::root(source, &table);
    file.refuse_unknown(&["metadata", "rule", "transform", "firstseen"]);
    let Some(rule) = file.section("rule") else {
        if !file.has("rule") {
            source.refuse(0, "the file has no table [rule]", "add [rule] with rule_id, name, type and query");
        }
        return nothing;
    };
    let id = rule.required_text("rule_id", "\"a UUID\"").filter(|id| {
        let is_plain = !id.value.contains(char::is_control);
        if !is_plain {
            rule.refuse("rule_id", "rule_id has a control character", "write a UUID");
        }
        is_plain
    });
    let rule = RuleReader { source, rule }.read(id.clone(), file.section("firstseen"));
    Reading { id, rule }
}

struct RuleReader<'a> {
    source: &'a Source<'a>,
    rule: Section<'a>,
}

impl RuleReader<'_> {
    fn read(&self, id: Option<Text>, own: Option<Section<'_>>) -> Option<RuleFile> {
        let rule = &self.rule;
        let kind = self.kind();
        // A rule of another type has that type's keys and language; its type alone is refused.
        if kind.is_none() && rule.has("type") {
            return None;
        }
        self.refuse_other_keys();
        let is_kql = self.is_kql();
        let name = rule.required_text("name", "\"what the rule detects\"");
        let query = rule.required_text("query", "'''KQL'''");
        let severity = self.severity();
        if !rule.has("risk_score") {
            rule.missing("risk_score", "a number from 0 to 100");
        }
        let risk_score = rule.integer("risk_score", 0..=100);
        let version = rule.integer("version", 1..=u64::from(u32::MAX)).unwrap_or(1);
        let new_terms = self.new_terms(kind);
        let suppression = rule.section("alert_suppression").and_then(|section| self.suppression(&section));
        let threat = rule.sections("threat").iter().filter_map(threat).collect();
        let building_block = rule.one_of("building_block_type", &[("default", true), ("", false)]).unwrap_or(false);
        self.warn_of_keys_not_applied();
        let firstseen = own.map(|own| self.firstseen(&own)).unwrap_or_default();
        Some(RuleFile {
            id: id?,
            name: name.map(|name| name.value).unwrap_or_default(),
            version: u32::try_from(version).unwrap_or(1),
            severity: severity.unwrap_or(Severity::Low),
            risk_score: risk_score.and_then(|score| u8::try_from(score).ok()).unwrap_or(0),
            query: query.filter(|_| is_kql)?,
            new_terms,
            suppression,
            threat,
            ignore_case: firstseen.ignore_case,
            title: firstseen.title,
            description: firstseen.description,
            details: firstseen.details,
            entities: firstseen.entities,
            building_block,
        })
    }

    /// Warns of keys that a search would obey and a stream does not.
    fn warn_of_keys_not_applied(&self) {
        let rule = &self.rule;
        for (key, to_know) in NOT_APPLIED {
            if !rule.is_empty(key) {
                rule.warn(key, format!("{key} is not applied"), to_know);
            }
        }
        if rule.integer("max_signals", 1..=u64::from(u32::MAX)).is_some_and(|most| most != DEFAULT_MAX_SIGNALS) {
            rule.warn(
                "max_signals",
                "max_signals is not applied",
                "every event that matches alerts: group alerts with [rule.alert_suppression] if there are too many",
            );
        }
        if let Some(time) = rule.text("timestamp_override")
            && !["", "@timestamp", "event.ingested"].contains(&time.value.as_str())
        {
            rule.warn(
                "timestamp_override",
                format!("timestamp_override = {:?} is not applied", time.value),
                "windows and durations are measured in event time (@timestamp); remove the key",
            );
        }
        let index = rule.texts("index").unwrap_or_default();
        if !index.is_empty() && !index.iter().any(|pattern| may_hold_cloudtrail(&pattern.value)) {
            rule.warn(
                "index",
                "index names no index that CloudTrail events are kept in, so a search with this rule would find none",
                "every CloudTrail event of the pipeline is evaluated all the same: name event.provider or event.action in \
                 the query, or remove the rule",
            );
        }
    }

    /// Refuses keys that are unknown, and those whose meaning a rule here cannot have.
    fn refuse_other_keys(&self) {
        let rule = &self.rule;
        let not_supported = NOT_SUPPORTED.iter().map(|(key, _)| *key);
        let not_applied = NOT_APPLIED.iter().map(|(key, _)| *key).chain(NOT_APPLIED_IF);
        let known = READ.iter().chain(&NOT_KEPT).copied().chain(not_supported).chain(not_applied);
        rule.refuse_unknown(&known.collect::<Vec<_>>());
        for (key, instead) in NOT_SUPPORTED {
            if !rule.is_empty(key) {
                rule.refuse(key, format!("{key} is not supported"), instead);
            }
        }
        if rule.boolean("enabled") == Some(false) {
            rule.refuse(
                "enabled",
                "enabled is false",
                "remove it, and write enabled = false under the rule's id in firstseen.toml",
            );
        }
    }

    fn is_kql(&self) -> bool {
        let Some(language) = self.rule.text("language").filter(|language| language.value != "kuery") else {
            return true;
        };
        self.rule.refuse(
            "language",
            format!("language {:?} is not supported", language.value),
            "write language = \"kuery\" and the query in KQL",
        );
        false
    }

    fn kind(&self) -> Option<Kind> {
        let text = self.rule.required_text("type", "\"query\" or \"new_terms\"")?;
        let kind = Kind::of(&text.value);
        if kind.is_none() {
            self.rule.refuse(
                "type",
                format!("type {:?} is not supported", text.value),
                "write type = \"query\" or \"new_terms\" and the query in KQL",
            );
        }
        kind
    }

    fn severity(&self) -> Option<Severity> {
        if !self.rule.has("severity") {
            self.rule.missing("severity", "\"low\", \"medium\", \"high\" or \"critical\"");
        }
        self.rule.one_of(
            "severity",
            &[
                ("low", Severity::Low),
                ("medium", Severity::Medium),
                ("high", Severity::High),
                ("critical", Severity::Critical),
            ],
        )
    }

    fn new_terms(&self, kind: Option<Kind>) -> Option<NewTermsTable> {
        let rule = &self.rule;
        match (kind?, rule.has("new_terms")) {
            (Kind::Query, false) => return None,
            (Kind::Query, true) => {
                rule.refuse("new_terms", "a rule of type query has new_terms", "write type = \"new_terms\"");
                return None;
            }
            (Kind::NewTerms, false) => {
                rule.missing("new_terms", "a table [rule.new_terms] with field, value and history_window_start");
                return None;
            }
            (Kind::NewTerms, true) => {}
        }
        let table = rule.section("new_terms")?;
        table.refuse_unknown(&["field", "value", "history_window_start"]);
        table.one_of("field", &[("new_terms_fields", ())]);
        if !table.has("value") {
            table.missing("value", "[\"the fields whose values make a term\"]");
        }
        let fields = self.fields(&table, "value", MAX_NEW_TERMS_FIELDS);
        let windows = table.sections("history_window_start");
        let [window] = &windows[..] else {
            if windows.len() > 1 || !table.has("history_window_start") {
                table.refuse(
                    "history_window_start",
                    format!("[rule.new_terms] has {} history windows", windows.len()),
                    "add one [[rule.new_terms.history_window_start]] with value = \"now-10d\"",
                );
            }
            return None;
        };
        window.refuse_unknown(&["field", "value"]);
        window.one_of("field", &[("history_window_start", ())]);
        let text = window.required_text("value", "\"now-10d\"")?;
        let window = self.span(&text, "history_window_start", TimeSpan::parse_before_now(&text.value))?;
        Some(NewTermsTable { fields: fields?, window })
    }

    fn suppression(&self, table: &Section<'_>) -> Option<SuppressionTable> {
        table.refuse_unknown(&["group_by", "duration", "missing_fields_strategy"]);
        if !table.has("group_by") {
            table.missing("group_by", "[\"the fields whose values make a group\"]");
        }
        let group_by = self.fields(table, "group_by", MAX_GROUP_BY);
        let missing = if table.has("missing_fields_strategy") {
            table.one_of(
                "missing_fields_strategy",
                &[("suppress", MissingFields::Suppress), ("doNotSuppress", MissingFields::DoNotSuppress)],
            )
        } else {
            Some(MissingFields::Suppress)
        };
        let Some(duration) = table.section("duration") else {
            if !table.has("duration") {
                table.refuse(
                    "duration",
                    "alert_suppression has no duration, which would mean one alert a search, and a stream has no searches",
                    "add duration = { value = 1, unit = \"d\" }",
                );
            }
            return None;
        };
        duration.refuse_unknown(&["value", "unit"]);
        for (key, example) in [("value", "1"), ("unit", "\"d\"")] {
            if !duration.has(key) {
                duration.missing(key, example);
            }
        }
        let count = duration.integer("value", 1..=u64::from(u32::MAX));
        let unit = duration.text("unit")?;
        let duration = self.span(&unit, "duration", TimeSpan::new(count?, &unit.value))?;
        Some(SuppressionTable { group_by: group_by?, duration, missing: missing? })
    }

    /// One to `most` different fields.
    fn fields(&self, table: &Section<'_>, key: &str, most: usize) -> Option<Vec<Text>> {
        let fields = table.texts(key)?;
        if fields.is_empty() || fields.len() > most {
            table.refuse(key, format!("{key} names {} fields", fields.len()), format!("expected 1 to {most}"));
            return None;
        }
        for (at, field) in fields.iter().enumerate() {
            if fields[..at].iter().any(|before| before.value == field.value) {
                self.source.refuse(
                    field.span.start,
                    format!("{key} names {:?} twice", field.value),
                    "name each field once",
                );
            }
        }
        Some(fields)
    }

    fn span(&self, text: &Text, what: &str, span: Result<TimeSpan, Mismatch>) -> Option<TimeSpan> {
        span.map_err(|mismatch| self.source.refuse_mismatch(text.span.start, what, mismatch)).ok()
    }

    fn firstseen(&self, own: &Section<'_>) -> FirstseenTable {
        own.refuse_unknown(&["ignore_case", "title", "description", "details", "entities"]);
        let mut entities = Vec::new();
        for entity in own.sections("entities") {
            let kind = entity.required_text("type", "\"account\", \"ip\" or another type");
            let attributes = named_fields(&entity, &["type"]);
            if attributes.is_empty() {
                entity.missing("attribute", "a field, such as name = \"user.name\"");
            }
            entities.extend(kind.map(|kind| (kind.value, attributes)));
        }
        FirstseenTable {
            ignore_case: own.texts("ignore_case").unwrap_or_default(),
            title: template(own, "title"),
            description: template(own, "description"),
            details: own.section("details").map(|details| named_fields(&details, &[])).unwrap_or_default(),
            entities,
        }
    }
}

#[derive(Default)]
struct FirstseenTable {
    ignore_case: Vec<Text>,
    title: Option<Text>,
    description: Option<Text>,
    details: Vec<(String, Text)>,
    entities: Vec<(String, Vec<(String, Text)>)>,
}

#[derive(Clone, Copy)]
enum Kind {
    Query,
    NewTerms,
}

impl Kind {
    fn of(text: &str) -> Option<Kind> {
        match text {
            "query" => Some(Kind::Query),
            "new_terms" => Some(Kind::NewTerms),
            _ => None,
        }
    }
}

/// Whether an index of this pattern may hold CloudTrail events. The names of data streams (`logs-DATASET-NAMESPACE`) and of
/// Beats say what they hold; of any other name, only its owner knows.
fn may_hold_cloudtrail(pattern: &str) -> bool {
    const STREAM: &str = "logs-aws.cloudtrail-";
    // A leading `-` leaves indices out; a leading `.` is that of Elastic's own.
    const OTHERS: [&str; 9] =
        ["-", ".", "logs-", "metrics-", "apm-", "endgame-", "auditbeat-", "packetbeat-", "winlogbeat-"];
    // In front of a colon stands the name of another cluster.
    let pattern = pattern.rsplit(':').next().unwrap_or(pattern);
    let fixed = pattern.split('*').next().unwrap_or(pattern);
    STREAM.starts_with(fixed) || fixed.starts_with(STREAM) || !OTHERS.iter().any(|other| fixed.starts_with(other))
}

/// A template's text; there must be some if the key is there.
fn template(own: &Section<'_>, key: &str) -> Option<Text> {
    if !own.has(key) {
        return None;
    }
    own.required_text(key, "\"text with {{user.name}}\"")
}

/// The section's `name = "field"` pairs in the file's order.
fn named_fields(section: &Section<'_>, except: &[&str]) -> Vec<(String, Text)> {
    let mut named = Vec::new();
    for (_, name) in section.keys() {
        if !except.contains(&name)
            && let Some(field) = section.text(name)
        {
            named.push((name.to_string(), field));
        }
    }
    named
}

fn threat(section: &Section<'_>) -> Option<Threat> {
    section.refuse_unknown(&["framework", "tactic", "technique"]);
    let framework = section.required_text("framework", "\"MITRE ATT&CK\"");
    let tactic = section.section("tactic");
    if !section.has("tactic") {
        section.missing("tactic", "a table [rule.threat.tactic] with id and name");
    }
    let technique = section.sections("technique").iter().map(technique).collect::<Vec<_>>();
    Some(Threat {
        framework: framework?.value,
        tactic: threat_item(&tactic?, &[])?,
        technique: technique.into_iter().collect::<Option<Vec<_>>>()?,
    })
}

fn technique(section: &Section<'_>) -> Option<Technique> {
    let item = threat_item(section, &["subtechnique"]);
    let subtechnique = section.sections("subtechnique").iter().map(|sub| threat_item(sub, &[])).collect::<Vec<_>>();
    let ThreatItem { id, name, reference } = item?;
    Some(Technique { id, name, reference, subtechnique: subtechnique.into_iter().collect::<Option<Vec<_>>>()? })
}

/// `id`, `name` and `reference`; the section may have the keys in `more` as well.
fn threat_item(section: &Section<'_>, more: &[&str]) -> Option<ThreatItem> {
    section.refuse_unknown(&[&["id", "name", "reference"], more].concat());
    let id = section.required_text("id", "its MITRE ATT&CK id");
    let name = section.required_text("name", "its MITRE ATT&CK name");
    let reference = section.text("reference").map(|reference| reference.value);
    Some(ThreatItem { id: id?.value, name: name?.value, reference })
}
