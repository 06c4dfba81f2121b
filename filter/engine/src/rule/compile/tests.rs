use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use alloc::{format, slice};

use super::super::builtin::FILES as BUILTIN;
use super::super::{MissingFields, Severity, pack};
use super::*;

const IDS: [&str; 3] = [
    "b2f8c4e1-6a73-4f1e-9c2d-8e5b0a1d3f7c",
    "30fbf4db-c502-4e68-a239-2e99af0f70da",
    "32555639-b639-4c2b-afda-c0ae0abefa55",
];

/// A rule that is right, with the id `own`. Its query stands in line 9.
const RULE: &str = r#"[rule]
rule_id = "own"
name = "Own"
type = "new_terms"
severity = "high"
risk_score = 73
language = "kuery"
query = '''
event.action: "DeleteTrail"
'''
[rule.new_terms]
field = "new_terms_fields"
value = ["user.name", "cloud.account.id"]
[[rule.new_terms.history_window_start]]
field = "history_window_start"
value = "now-7d"
"#;

/// The refusals as they reach people.
fn refusals(settings: &str, builtin: &[File<'_>], own: &[File<'_>]) -> Vec<String> {
    match compile(Some(("firstseen.toml", settings)), builtin, own) {
        Ok(pack) => panic!("compiled to {pack:?}"),
        Err(refused) => refused.iter().map(ToString::to_string).collect(),
    }
}

fn refusals_of_rule(text: &str) -> Vec<String> {
    refusals("", &[], &[("own.toml", text)])
}

fn compiled(settings: &str, own: &[File<'_>]) -> Pack {
    compile(Some(("firstseen.toml", settings)), &BUILTIN, own).unwrap()
}

/// The names of fields.
fn names<'p>(pack: &'p Pack, fields: &[FieldRef]) -> Vec<&'p str> {
    fields.iter().map(|field| pack.fields[usize::from(field.0)].as_str()).collect()
}

/// A predicate in a short form: `&` and `|` in front of their operands, `~` for comparisons without case.
fn shown(pack: &Pack, predicate: &Predicate) -> String {
    let list = |sign: &str, parts: &[Predicate]| {
        let parts: Vec<String> = parts.iter().map(|part| shown(pack, part)).collect();
        format!("{sign}({})", parts.join(", "))
    };
    match predicate {
        Predicate::All(parts) => list("&", parts),
        Predicate::Any(parts) => list("|", parts),
        Predicate::Not(part) => format!("!{}", shown(pack, part)),
        Predicate::Is(Comparison { field, test, ignore_case }) => {
            let field = names(pack, slice::from_ref(field))[0];
            let test = match test {
                Test::Exists => "exists".to_string(),
                Test::Equals(text) => format!("= {text}"),
                Test::Wildcard(parts) => format!("= {}", parts.join("<*>")),
                other => format!("{other:?}"),
            };
            format!("{field} {}{test}", if *ignore_case { "~" } else { "" })
        }
    }
}

/// A template as text.
fn written(pack: &Pack, template: Option<&Template>) -> String {
    let Some(Template(parts)) = template else { return String::from("none") };
    parts
        .iter()
        .map(|part| match part {
            TemplatePart::Text(text) => text.clone(),
            TemplatePart::Field(field) => format!("<{}>", names(pack, &[*field])[0]),
        })
        .collect()
}

fn named<'p>(pack: &'p Pack, pairs: &'p [(String, FieldRef)]) -> Vec<(&'p str, &'p str)> {
    pairs.iter().map(|(name, field)| (name.as_str(), names(pack, &[*field])[0])).collect()
}

#[test]
fn the_built_in_rules_are_the_three_detections() {
    let pack = builtin(&BUILTIN).unwrap();
    let ids: Vec<&str> = pack.rules.iter().map(|rule| rule.id.as_str()).collect();
    assert_eq!(ids, IDS);
    assert_eq!(pack.settings, super::super::Settings::default());
    let [ec2_role, first_time, hijacking] = &pack.rules[..] else { panic!() };

    assert_eq!(
        shown(&pack, &ec2_role.query),
        "&(event.dataset = aws.cloudtrail, event.provider = sts.amazonaws.com, event.action = GetCallerIdentity, \
         event.outcome = success, aws.cloudtrail.user_identity.type = AssumedRole, user.id = <*>:i-<*>, \
         source.as.organization.name exists, \
         !|(source.as.organization.name = AMAZON<*>, source.as.organization.name = Amazon<*>, \
         source.as.organization.name = Google<*>, source.as.organization.name = MongoDB, Inc.))"
    );
    assert_eq!(
        shown(&pack, &first_time.query),
        "&(event.dataset = aws.cloudtrail, event.provider = sts.amazonaws.com, event.action = GetCallerIdentity, \
         !aws.cloudtrail.user_identity.type = AssumedRole)"
    );
    assert_eq!(
        shown(&pack, &hijacking.query),
        "&(event.action ~= GetCallerIdentity, aws.cloudtrail.user_identity.type ~= AssumedRole)"
    );

    let terms: Vec<_> = [ec2_role, first_time].map(|rule| rule.new_terms.as_ref().unwrap()).into();
    assert_eq!(names(&pack, &terms[0].fields), ["aws.cloudtrail.user_identity.arn", "source.as.organization.name"]);
    assert_eq!(names(&pack, &terms[1].fields), ["aws.cloudtrail.user_identity.arn"]);
    assert_eq!(
        terms.iter().map(|terms| (terms.window_ms, terms.window.as_str())).collect::<Vec<_>>(),
        [(864_000_000, "10d"), (864_000_000, "10d")]
    );
    assert_eq!((&ec2_role.suppression, &first_time.suppression, &hijacking.new_terms), (&None, &None, &None));

    let suppression = hijacking.suppression.as_ref().unwrap();
    assert_eq!(
        names(&pack, &suppression.group_by),
        [
            "source.address",
            "event.action",
            "aws.cloudtrail.event_type",
            "aws.cloudtrail.user_identity.type",
            "aws.cloudtrail.recipient_account_id",
            "sentinel.account_name",
            "sentinel.account_upn_suffix",
            "sentinel.user_identity_account_id",
            "user.id",
            "user_agent.original",
            "sentinel.user_identity_user_name",
            "aws.cloudtrail.user_identity.session_context.mfa_authenticated",
            "cloud.region",
            "event.provider",
            "sentinel.additional_event_data",
            "sentinel.response_elements",
        ]
    );
    assert_eq!((suppression.duration_ms, suppression.missing), (86_400_000, MissingFields::Suppress));

    let scores: Vec<_> = pack.rules.iter().map(|rule| (rule.version, rule.severity, rule.risk_score)).collect();
    assert_eq!(scores, [(1, Severity::Medium, 47), (1, Severity::Medium, 47), (1, Severity::Low, 21)]);

    let alert = &hijacking.alert;
    assert_eq!(written(&pack, alert.title.as_ref()), "AWS credential hijack indicator from <sentinel.account_name>");
    assert_eq!(
        written(&pack, alert.description.as_ref()),
        "GetCallerIdentity invoked by <sentinel.account_name> from <source.address> in <cloud.region>."
    );
    assert_eq!(alert.entities[0].kind, "account");
    assert_eq!(
        named(&pack, &alert.entities[0].attributes),
        [
            ("name", "sentinel.account_name"),
            ("upn_suffix", "sentinel.account_upn_suffix"),
            ("cloud_app_account_id", "aws.cloudtrail.recipient_account_id"),
        ]
    );
    assert_eq!(alert.entities[1].kind, "ip");
    assert_eq!(named(&pack, &alert.entities[1].attributes), [("address", "source.address")]);
    assert_eq!(
        named(&pack, &alert.details),
        [
            ("AWSRegion", "cloud.region"),
            ("EventName", "event.action"),
            ("EventSource", "event.provider"),
            ("EventType", "aws.cloudtrail.event_type"),
        ]
    );

    for (rule, technique, sub) in
        [(ec2_role, "T1087", Some("T1087.004")), (first_time, "T1087", Some("T1087.004")), (hijacking, "T1580", None)]
    {
        let threats: serde_json::Value = serde_json::from_str(&rule.alert.threat).unwrap();
        assert_eq!(threats.as_array().map(Vec::len), Some(1));
        let threat = &threats[0];
        assert_eq!((&threat["framework"], &threat["tactic"]["id"]), (&"MITRE ATT&CK".into(), &"TA0007".into()));
        assert_eq!(threat["technique"][0]["id"], technique);
        assert_eq!(threat["technique"][0]["subtechnique"][0]["id"].as_str(), sub);
    }
}

#[test]
fn a_compiled_pack_can_be_read() {
    let pack = compiled("", &[("own.toml", RULE)]);
    assert_eq!(pack::decode(&pack::encode(&pack)), Ok(pack));
}

#[test]
fn a_rule_with_every_key_of_elastics_schema_compiles() {
    let text = r#"
[metadata]
creation_date = "2026/01/01"
integration = ["aws"]
maturity = "production"
min_stack_version = "9.0.0"
[transform]
[[transform.osquery]]
label = "x"
query = "select 1"
[rule]
author = ["x"]
description = "x"
false_positives = ["x"]
from = "now-60m"
index = ["filebeat-*"]
interval = "10m"
license = "x"
name = "X"
note = "x"
references = ["https://example.org/"]
risk_score = 0
rule_id = "x"
setup = "x"
severity = "critical"
tags = ["x"]
timestamp_override = "event.ingested"
type = "query"
max_signals = 5
related_integrations = []
filters = []
exceptions_list = []
building_block_type = "default"
timeline_id = "x"
timeline_title = "x"
query = "event.action: x"
enabled = true
[rule.investigation_fields]
field_names = ["@timestamp"]
[rule.alert_suppression]
group_by = ["user.name"]
duration = { value = 5, unit = "h" }
[[rule.threat]]
framework = "MITRE ATT&CK"
[rule.threat.tactic]
id = "TA0001"
name = "Initial Access"
"#;
    let pack = compile(None, &[], &[("x.toml", text)]).unwrap();
    let rule = &pack.rules[0];
    assert_eq!((rule.version, rule.risk_score, rule.severity), (1, 0, Severity::Critical));
    assert_eq!(
        rule.suppression,
        Some(Suppression { group_by: vec![FieldRef(1)], duration_ms: 18_000_000, missing: MissingFields::Suppress })
    );
    let strict = text.replace("unit = \"h\" }", "unit = \"h\" }\nmissing_fields_strategy = \"doNotSuppress\"");
    let strict = compile(None, &[], &[("x.toml", &strict)]).unwrap();
    assert_eq!(strict.rules[0].suppression.as_ref().unwrap().missing, MissingFields::DoNotSuppress);
    assert!(rule.alert.threat.ends_with("\"name\":\"Initial Access\"}}]"), "{}", rule.alert.threat);
    assert_eq!(pack.fields, ["event.action", "user.name"]);
}

#[test]
fn refusals_name_the_place_and_what_would_be_right() {
    let suppressed = format!("{RULE}[rule.alert_suppression]\ngroup_by = [\"user.name\"]\n");
    // Each: a rule that is right, what is replaced by what, and the refusal.
    let table = [
        (
            RULE,
            "event.action: \"DeleteTrail\"",
            "event.action: DeleteTrail\nand (user.name: x",
            "own.toml:10:18: the query has an early end; expected `and`, `or` or `)`",
        ),
        (
            RULE,
            "event.action",
            "\n  not event.acton",
            "own.toml:10:7: the query has the unknown field \"event.acton\"; expected \"event.action\", the nearest \
             known field (with dialect = \"ecs\" in firstseen.toml, any dotted field)",
        ),
        (
            RULE,
            "'''\nevent.action: \"DeleteTrail\"\n'''",
            "\"\"\"a.b: \\\"\\\" or \\\n  event.action: x and and\"\"\"",
            "own.toml:8:12: the query has the unknown field \"a.b\"; expected the ECS name of a CloudTrail field, such \
             as \"event.action\" (with dialect = \"ecs\" in firstseen.toml, any dotted field)",
        ),
        (
            RULE,
            "'''\nevent.action: \"DeleteTrail\"\n'''",
            "\"\"\"event.action: \\\"\\\" or \\\n  event.action: x and and\"\"\"",
            "own.toml:9:23: the query has the keyword `and`; expected a field or `(`",
        ),
        (
            RULE,
            "event.action: \"DeleteTrail\"",
            "userIdentity.arn: x",
            "own.toml:9:1: the query has the unknown field \"userIdentity.arn\"; expected the ECS name of a CloudTrail \
             field, such as \"event.action\"",
        ),
        (
            RULE,
            "\"cloud.account.id\"",
            "\"cloud.acount.id\"",
            "own.toml:13:23: new_terms has the unknown field \"cloud.acount.id\"; expected \"cloud.account.id\", the \
             nearest known field (with dialect = \"ecs\" in firstseen.toml, any dotted field)",
        ),
        (
            RULE,
            "\"cloud.account.id\"",
            "\"user.name\"",
            "own.toml:13:23: value names \"user.name\" twice; name each field once",
        ),
        (
            RULE,
            "[\"user.name\", \"cloud.account.id\"]",
            "[\"user.name\", \"user.id\", \"source.ip\", \"event.id\"]",
            "own.toml:13:1: value names 4 fields; expected 1 to 3",
        ),
        (RULE, "[\"user.name\", \"cloud.account.id\"]", "[]", "own.toml:13:1: value names 0 fields; expected 1 to 3"),
        (
            RULE,
            "[\"user.name\", \"cloud.account.id\"]",
            "\"user.name\"",
            "own.toml:13:9: value has a value of type string; expected an array of strings",
        ),
        (
            RULE,
            "now-7d",
            "now-1M",
            "own.toml:16:9: history_window_start has the time unit \"M\"; expected days, as months differ in length: 30d",
        ),
        (
            RULE,
            "[[rule.new_terms.history_window_start]]\nfield = \"history_window_start\"\nvalue = \"now-7d\"\n",
            "",
            "own.toml:11:7: [rule.new_terms] has 0 history windows; add one [[rule.new_terms.history_window_start]] \
             with value = \"now-10d\"",
        ),
        (
            RULE,
            "[[rule.new_terms.history_window_start]]",
            "[[rule.new_terms.history_window_start]]\nvalue = \"now-1d\"\n[[rule.new_terms.history_window_start]]",
            "own.toml:14:18: [rule.new_terms] has 2 history windows; add one [[rule.new_terms.history_window_start]] \
             with value = \"now-10d\"",
        ),
        (
            RULE,
            "type = \"new_terms\"",
            "type = \"query\"",
            "own.toml:11:7: a rule of type query has new_terms; write type = \"new_terms\"",
        ),
        (
            RULE,
            "type = \"new_terms\"",
            "type = \"eql\"",
            "own.toml:4:1: type \"eql\" is not supported; write type = \"query\" or \"new_terms\" and the query in KQL",
        ),
        (
            RULE,
            "language = \"kuery\"",
            "language = \"lucene\"",
            "own.toml:7:1: language \"lucene\" is not supported; write language = \"kuery\" and the query in KQL",
        ),
        (
            RULE,
            "severity = \"high\"",
            "severty = \"high\"",
            "own.toml:1:2: [rule] has no severity; add severity = \"low\", \"medium\", \"high\" or \"critical\"",
        ),
        (
            RULE,
            "severity = \"high\"",
            "severity = \"High\"",
            "own.toml:5:12: severity is \"High\"; expected \"low\", \"medium\", \"high\" or \"critical\"",
        ),
        (
            RULE,
            "risk_score = 73",
            "risk_score = 101",
            "own.toml:6:14: risk_score is 101; expected a whole number from 0 to 100",
        ),
        (
            RULE,
            "risk_score = 73",
            "risk_score = \"73\"",
            "own.toml:6:14: risk_score has a value of type string; expected a whole number from 0 to 100",
        ),
        (
            RULE,
            "risk_score = 73",
            "risk_score = -1",
            "own.toml:6:14: risk_score is -1; expected a whole number from 0 to 100",
        ),
        (RULE, "rule_id = \"own\"\n", "", "own.toml:1:2: [rule] has no rule_id; add rule_id = \"a UUID\""),
        (RULE, "\"Own\"", "\" \"", "own.toml:3:1: name is empty; write name = \"what the rule detects\""),
        (
            RULE,
            "language = \"kuery\"",
            "lanuage = \"kuery\"",
            "own.toml:7:1: [rule] has the unknown key \"lanuage\"; the nearest known key is \"language\"",
        ),
        (
            RULE,
            "language = \"kuery\"",
            "filters = [{ a = 1 }]",
            "own.toml:7:1: filters is not supported; write the conditions into the query",
        ),
        (
            RULE,
            "language = \"kuery\"",
            "enabled = false",
            "own.toml:7:1: enabled is false; remove it, and write enabled = false under the rule's id in firstseen.toml",
        ),
        (
            RULE,
            "language = \"kuery\"",
            "language = kuery",
            "own.toml:7:12: this is not TOML: string values must be quoted, expected literal string; correct the syntax here",
        ),
        (
            RULE,
            "[rule]",
            "x = 1\n[rule]",
            "own.toml:1:1: the file has the unknown key \"x\"; expected \"metadata\", \"rule\", \"transform\" or \"firstseen\"",
        ),
        (
            &suppressed,
            "group_by = [\"user.name\"]",
            "group_by = [\"user.name\"]",
            "own.toml:17:7: alert_suppression has no duration, which would mean one alert a search, and a stream has no \
             searches; add duration = { value = 1, unit = \"d\" }",
        ),
        (
            &suppressed,
            "group_by = [\"user.name\"]",
            "group_by = [\"user.name\"]\nduration = { value = 1, unit = \"y\" }",
            "own.toml:19:32: duration has the time unit \"y\"; expected days, as years differ in length: 365d",
        ),
        (
            &suppressed,
            "group_by = [\"user.name\"]",
            "group_by = [\"user.name\"]\nduration = { value = 1, unit = \"d\" }\nmissing_fields_strategy = \"supress\"",
            "own.toml:20:27: missing_fields_strategy is \"supress\"; expected \"suppress\" or \"doNotSuppress\"",
        ),
        (
            RULE,
            "[rule]",
            "[firstseen]\ntitle = \"by {{user.nam}}\"\n[rule]",
            "own.toml:2:13: the template has the unknown field \"user.nam\"; expected \"user.name\", the nearest known \
             field (with dialect = \"ecs\" in firstseen.toml, any dotted field)",
        ),
        (
            RULE,
            "[rule]",
            "[firstseen]\ndescription = '''\nä {{user.name}} {{user'''\n[rule]",
            "own.toml:3:17: a `{{` is never closed; write {{field}}",
        ),
        (
            RULE,
            "[rule]",
            "[firstseen]\nignore_case = [\"user.name\"]\n[rule]",
            "own.toml:2:16: ignore_case names \"user.name\", which the query compares with no text; name fields of the query",
        ),
        (
            RULE,
            "[rule]",
            "[[firstseen.entities]]\ntype = \"ip\"\n[rule]",
            "own.toml:1:1: [firstseen.entities] has no attribute; add attribute = a field, such as name = \"user.name\"",
        ),
        (
            RULE,
            "[rule]",
            "[firstseen.details]\nName = 5\n[rule]",
            "own.toml:2:8: Name has a value of type integer; expected a string",
        ),
        (
            RULE,
            "[rule]",
            "[[rule.threat]]\nframework = \"MITRE ATT&CK\"\n[rule.threat.tactic]\nid = \"TA0007\"\n[rule]",
            "own.toml:3:14: [rule.threat.tactic] has no name; add name = its MITRE ATT&CK name",
        ),
    ];
    for (rule, from, to, expected) in table {
        assert!(rule.contains(from), "{from}");
        let told = refusals_of_rule(&rule.replacen(from, to, 1));
        assert!(told.iter().any(|told| told == expected), "{to}\nexpected: {expected}\n    told: {told:#?}");
    }
    assert_eq!(
        refusals_of_rule("[metadata]\n"),
        ["own.toml:1:1: the file has no table [rule]; add [rule] with rule_id, name, type and query"]
    );
}

#[test]
fn a_rule_of_another_type_is_refused_for_its_type_alone() {
    let text = RULE
        .replace("\"new_terms\"\n", "\"eql\"\nevent_category_override = \"x\"\n")
        .replace("kuery", "eql")
        .replace("event.action:", "any where event.action ==");
    assert_eq!(
        refusals_of_rule(&text),
        ["own.toml:4:1: type \"eql\" is not supported; write type = \"query\" or \"new_terms\" and the query in KQL"]
    );
}

#[test]
fn a_query_in_another_language_is_refused_for_its_language_alone() {
    let text = RULE.replace("kuery", "lucene").replace("event.action:", "event.action:[1 TO 2]");
    assert_eq!(
        refusals_of_rule(&text),
        ["own.toml:7:1: language \"lucene\" is not supported; write language = \"kuery\" and the query in KQL"]
    );
}

#[test]
fn all_refusals_are_told_at_once_in_the_files_order() {
    let bad = RULE.replace("event.action:", "event.action ").replace("high", "x").replace("user.name", "user.nam");
    assert_eq!(
        refusals("capacity = 0\nx = 1", &[], &[("b.toml", &bad), ("a.toml", "[rule")])
            .iter()
            .map(|told| told.split(": ").next().unwrap())
            .collect::<Vec<_>>(),
        ["firstseen.toml:1:12", "firstseen.toml:2:1", "a.toml:1:6", "b.toml:5:12", "b.toml:9:1", "b.toml:13:10"]
    );
}

#[test]
fn settings_are_read() {
    let text = r#"
event_root = "log"
dialect = "sentinel"
as_organization_key = "asn.org"
output_key = "alerts"
capacity = 16_000_000
warming = "hold"
sync = "data"
max_clock_skew = "90m"
"#;
    assert_eq!(
        compiled(text, &[]).settings,
        super::super::Settings {
            event_root: Some("log".into()),
            dialect: Some(super::super::Dialect::Sentinel),
            as_organization_key: Some("asn.org".into()),
            output_key: "alerts".into(),
            capacity: 16_000_000,
            warming: super::super::Warming::Hold,
            sync: super::super::Sync::Data,
            max_clock_skew_ms: 90 * 60 * 1000,
        }
    );
    assert_eq!(compiled("dialect = \"auto\"", &[]).settings, super::super::Settings::default());
}

#[test]
fn wrong_settings_are_refused() {
    let table = [
        ("dialect = \"raw\"", "1:11: dialect is \"raw\"; expected \"auto\", \"cloudtrail\", \"ecs\" or \"sentinel\""),
        ("capacity = 16_000_001", "1:12: capacity is 16000001; expected a whole number from 1 to 16000000"),
        ("capacity = 1.5", "1:12: capacity has a value of type float; expected a whole number from 1 to 16000000"),
        ("warming = \"drop\"", "1:11: warming is \"drop\"; expected \"mark\" or \"hold\""),
        ("sync = true", "1:8: sync has a value of type boolean; expected a string"),
        (
            "max_clock_skew = \"15\"",
            "1:18: max_clock_skew has \"15\"; expected a number and one of the units s, m, h, d, w, such as \"10d\"",
        ),
        ("capcity = 1", "1:1: the file has the unknown key \"capcity\"; the nearest known key is \"capacity\""),
        ("output_key = \"\"", "1:1: output_key is empty; write output_key = \"firstseen\""),
        (
            "output_key = \"event\"",
            "1:1: output_key is \"event\", which is a key of the events themselves; write a key that no event has, such \
             as \"firstseen\"",
        ),
        (
            "output_key = \"eventName\"",
            "1:1: output_key is \"eventName\", which is a key of the events themselves; write a key that no event has, \
             such as \"firstseen\"",
        ),
        (
            "event_root = \"x\"\noutput_key = \"x\"",
            "2:1: output_key is \"x\", which is event_root as well; write a key that no event has, such as \"firstseen\"",
        ),
        (
            "event_root = \"a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a\"",
            "1:1: event_root has more than 12 levels; write a key such as \"message\"",
        ),
        ("output_key = \"a\\tb\"", "1:1: output_key has a control character; write a key such as \"firstseen\""),
        (
            "[rules.\"30fbf4db-c502-4e68-a239-2e99af0f70db\"]\nenabled = false",
            "1:8: no rule has the id \"30fbf4db-c502-4e68-a239-2e99af0f70db\"; the nearest id is \
             \"30fbf4db-c502-4e68-a239-2e99af0f70da\"",
        ),
        (
            "[rules.x]",
            "1:8: no rule has the id \"x\"; expected \"b2f8c4e1-6a73-4f1e-9c2d-8e5b0a1d3f7c\", \
             \"30fbf4db-c502-4e68-a239-2e99af0f70da\" or \"32555639-b639-4c2b-afda-c0ae0abefa55\"",
        ),
        (
            "[rules.\"30fbf4db-c502-4e68-a239-2e99af0f70da\"]\nenable = false",
            "2:1: [rules.30fbf4db-c502-4e68-a239-2e99af0f70da] has the unknown key \"enable\"; the nearest known key is \
             \"enabled\"",
        ),
        (
            "[rules.\"30fbf4db-c502-4e68-a239-2e99af0f70da\"]\nhistory_window = \"now-14d\"",
            "2:18: history_window has \"now-14d\"; expected a number and one of the units s, m, h, d, w, such as \"10d\"",
        ),
        (
            "[rules.\"32555639-b639-4c2b-afda-c0ae0abefa55\"]\nhistory_window = \"14d\"",
            "2:18: history_window is set for the rule \"32555639-b639-4c2b-afda-c0ae0abefa55\", which is not of type \
             new_terms; remove it",
        ),
        (
            "[rules.\"32555639-b639-4c2b-afda-c0ae0abefa55\"]\nexceptions = [\n  'user.name: a',\n  'user.nam: b',\n]",
            "4:4: the exception has the unknown field \"user.nam\"; expected \"user.name\", the nearest known field \
             (with dialect = \"ecs\" in firstseen.toml, any dotted field)",
        ),
        (
            "[rules.\"32555639-b639-4c2b-afda-c0ae0abefa55\"]\nexceptions = ['*']",
            "2:15: the exception matches every event; write enabled = false to switch the rule off",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(refusals(text, &BUILTIN, &[]), [format!("firstseen.toml:{expected}")]);
    }
}

#[test]
fn a_dialect_decides_which_fields_are_known() {
    let rule = RULE.replace("event.action:", "dns.question.name:");
    assert_eq!(refusals_of_rule(&rule).len(), 1);
    let pack = compile(Some(("s", "dialect = \"ecs\"")), &[], &[("own.toml", &rule)]).unwrap();
    assert_eq!(pack.fields[0], "dns.question.name");
    // In ECS a field is a path all the same.
    let bad = RULE
        .replace("event.action:", "an action:")
        .replace("user.name", "a b.c")
        .replace("[rule]\n", "[firstseen]\ntitle = \"{{}} {{ a b }}\"\ndescription = \"x {{ user.name }}\"\n[rule]\n");
    assert_eq!(
        refusals("dialect = \"ecs\"", &[], &[("own.toml", &bad)]),
        [
            "own.toml:2:10: the template has the unknown field \"\"; expected the ECS name of a CloudTrail field, such \
             as \"event.action\"",
            "own.toml:12:1: the query has the unknown field \"an action\"; expected the ECS name of a CloudTrail \
             field, such as \"event.action\"",
            "own.toml:16:10: new_terms has the unknown field \"a b.c\"; expected the ECS name of a CloudTrail field, \
             such as \"event.action\"",
        ]
    );
    // One refusal for a dialect that is none, and none for the fields.
    assert_eq!(refusals("dialect = \"x\"", &[], &[("own.toml", &rule)]).len(), 1);
}

#[test]
fn a_template_may_have_blanks_around_a_field() {
    let rule = RULE.replace("[rule]\n", "[firstseen]\ntitle = \"by {{ user.name\t}}!\"\n[rule]\n");
    let pack = compile(None, &[], &[("own.toml", &rule)]).unwrap();
    assert_eq!(written(&pack, pack.rules[0].alert.title.as_ref()), "by <user.name>!");
}

#[test]
fn a_file_that_is_no_toml_is_refused_once() {
    let own = RULE.replace("\"own\"", &format!("{:?}", IDS[1])).replace("event.action:", "dns.question.name:");
    for (text, expected) in [
        (
            RULE.replace('=', "= = ["),
            "own.toml:2:11: this is not TOML: extra `=`, expected nothing; correct the syntax here",
        ),
        (
            RULE.replace('\n', "\r"),
            "own.toml:1:8: this is not TOML: carriage return must be followed by newline, expected newline; end lines \
             with LF or CR LF",
        ),
    ] {
        assert_eq!(refusals_of_rule(&text), [expected]);
        // What the settings would have said of other files is not known.
        assert_eq!(refusals(&text, &BUILTIN, &[("own.toml", &own)]).len(), 1);
    }
}

#[test]
fn settings_of_a_rule_change_it() {
    let text = r#"
[rules."b2f8c4e1-6a73-4f1e-9c2d-8e5b0a1d3f7c"]
enabled = false
[rules."30fbf4db-c502-4e68-a239-2e99af0f70da"]
history_window = "2w"
exceptions = ['user.name: ci', 'source.ip: 10.0.0.0/8 and event.action: *']
[rules."32555639-b639-4c2b-afda-c0ae0abefa55"]
exceptions = ['event.action: x', 'event.action: * and event.action > y']
[rules.own]
exceptions = ['user.id: x']
"#;
    let pack = compiled(text, &[("own.toml", RULE)]);
    let ids: Vec<&str> = pack.rules.iter().map(|rule| rule.id.as_str()).collect();
    assert_eq!(ids, [IDS[1], IDS[2], "own"]);
    let terms = pack.rules[0].new_terms.as_ref().unwrap();
    assert_eq!((terms.window_ms, terms.window.as_str()), (1_209_600_000, "2w"));
    let queries: Vec<String> = pack.rules.iter().map(|rule| shown(&pack, &rule.query)).collect();
    assert_eq!(
        queries,
        [
            "&(event.dataset = aws.cloudtrail, event.provider = sts.amazonaws.com, event.action = GetCallerIdentity, \
         !aws.cloudtrail.user_identity.type = AssumedRole, !user.name = ci, \
         !&(source.ip Cidr(\"10.0.0.0/8\"), event.action exists))",
            "&(event.action ~= GetCallerIdentity, aws.cloudtrail.user_identity.type ~= AssumedRole, !event.action ~= x, \
         !&(event.action exists, event.action Range(Greater, \"y\")))",
            "&(event.action = DeleteTrail, !user.id = x)",
        ]
    );
    // A rule that is off leaves no field behind.
    assert!(!pack.fields.iter().any(|field| field == "source.as.organization.name"));
}

#[test]
fn exceptions_nest_no_deeper_than_a_pack_may() {
    let nested = |depth: usize| format!("{}user.name: x", "not ".repeat(depth));
    let settings = |depth| format!("[rules.own]\nexceptions = ['{}']", nested(depth));
    let own = [("own.toml", RULE)];
    let pack = compile(Some(("s", &settings(10))), &[], &own).unwrap();
    assert_eq!(pack.rules[0].query.nesting(), 12);
    assert_eq!(
        refusals(&settings(11), &[], &own),
        ["firstseen.toml:2:15: the exception nests 11 deep; expected at most 10"]
    );
    let deep = RULE.replace("event.action: \"DeleteTrail\"", &nested(12));
    assert_eq!(compile(None, &[], &[("own.toml", &deep)]).unwrap().rules[0].query.nesting(), 12);
    assert_eq!(
        refusals(&settings(1), &[], &[("own.toml", &deep)]),
        ["firstseen.toml:1:8: the rule's query nests 12 deep, which leaves no room for exceptions; remove the \
          exceptions, or write them into a rule of your own"]
    );
}

#[test]
fn own_rules_follow_the_built_in_ones_by_the_files_names() {
    let rule = |id: &str| RULE.replace("\"own\"", &format!("{id:?}"));
    let (x, y) = (rule("x"), rule("y"));
    let ids = |pack: Pack| pack.rules.into_iter().map(|rule| rule.id).collect::<Vec<_>>();
    assert_eq!(ids(compiled("", &[("b.toml", &x), ("a.toml", &y)])), [IDS[0], IDS[1], IDS[2], "y", "x"]);
}

#[test]
fn an_id_belongs_to_one_rule() {
    assert_eq!(
        refusals("", &[], &[("b.toml", RULE), ("a.toml", RULE)]),
        ["b.toml:2:11: rule_id \"own\" is that of a.toml as well; give each rule an id of its own"]
    );
    let own = RULE.replace("\"own\"", &format!("{:?}", IDS[2]));
    assert_eq!(
        refusals("", &BUILTIN, &[("a.toml", &own), ("b.toml", &own)]),
        [format!("b.toml:2:11: rule_id {:?} is that of a.toml as well; give each rule an id of its own", IDS[2])]
    );
}

#[test]
fn an_own_rule_takes_the_place_of_the_built_in_one_of_its_id() {
    let own = RULE.replace("\"own\"", &format!("{:?}", IDS[1]));
    let own = [("own.toml", own.as_str())];
    let taken = |settings: &str| compile_with_warnings(Some(("firstseen.toml", settings)), &BUILTIN, &own).unwrap();
    let compiled = taken("");
    let ids: Vec<&str> = compiled.pack.rules.iter().map(|rule| rule.id.as_str()).collect();
    assert_eq!((ids, compiled.pack.rules[2].name.as_str()), (vec![IDS[0], IDS[2], IDS[1]], "Own"));
    assert_eq!(
        compiled.replaced,
        [Replaced {
            id: IDS[1].into(),
            builtin_name: "First GetCallerIdentity by an identity that is not an assumed role".into(),
            own_file: "own.toml".into()
        }]
    );
    assert_eq!(compiled.warnings, []);

    // Exceptions and window are the own rule's.
    let changed = format!("[rules.{:?}]\nhistory_window = \"3d\"\nexceptions = ['user.name: x']", IDS[1]);
    let pack = taken(&changed).pack;
    assert_eq!(shown(&pack, &pack.rules[2].query), "&(event.action = DeleteTrail, !user.name = x)");
    assert_eq!(pack.rules[2].new_terms.as_ref().unwrap().window, "3d");

    // What is switched off is the built-in rule, which does not run anyway; that the own one stays on is said.
    let off = taken(&format!("[rules.{:?}]\nenabled = false", IDS[1]));
    assert_eq!(off.pack.rules[2].name, "Own");
    let said: Vec<String> = off.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [format!(
            "firstseen.toml:1:8: enabled = false switches off the built-in rule {:?}, whose place own.toml takes, and that \
             one stays on; remove enabled = false, or own.toml if no rule of this id is to run",
            IDS[1]
        )]
    );

    // The window is meant for the own rule, though the built-in one has none.
    let own = RULE.replace("\"own\"", &format!("{:?}", IDS[2]));
    let settings = format!("[rules.{:?}]\nhistory_window = \"3d\"", IDS[2]);
    assert_eq!(super::tests::compiled(&settings, &[("own.toml", &own)]).rules[2].name, "Own");
}

/// The warnings as they reach people.
fn warnings(settings: &str, own: &[File<'_>]) -> Vec<String> {
    let compiled = compile_with_warnings(Some(("firstseen.toml", settings)), &BUILTIN, own).unwrap();
    compiled.warnings.iter().map(ToString::to_string).collect()
}

const BETTER: &str = "; bind it to an identity and a network, such as `aws.cloudtrail.user_identity.arn: \
                      \"arn:aws:iam::111122223333:user/ci\" and source.ip: \"192.0.2.0/24\"`";

#[test]
fn an_exception_that_a_thief_can_meet_is_warned_of_with_its_place() {
    const WHO: &str = "so whoever has stolen credentials can stay silent";
    assert_eq!(warnings("", &[]), [""; 0], "the built-in rules");
    let settings = "[rules.own]\nexceptions = [\n  'user.name: ci and source.ip: \"192.0.2.0/24\"',\n  \
                    'cloud.account.id: \"111122223333\" and user_agent.original: *terraform*',\n]";
    assert_eq!(
        warnings(settings, &[("own.toml", RULE)]),
        [format!(
            "firstseen.toml:4:41: the exception rests on user_agent.original: the caller's program writes it, {WHO}{BETTER}"
        )]
    );
    let query = "event.action: \"DeleteTrail\"\n  and not tls.client.server_name: (\"a\" or \"b\")";
    let rule = RULE.replace("event.action: \"DeleteTrail\"", query);
    assert_eq!(
        warnings("", &[("own.toml", &rule)]),
        [format!(
            "own.toml:10:11: the query's `not` rests on tls.client.server_name: the caller's program chooses it, {WHO}{BETTER}"
        )]
    );
    // A rule that does not run is not warned of.
    assert_eq!(warnings(&format!("{settings}\nenabled = false"), &[("own.toml", &rule)]), [""; 0]);
}

#[test]
fn a_field_that_is_another_in_each_event_is_warned_of_with_its_place() {
    let rule = RULE.replace("\"cloud.account.id\"", "\"event.id\"")
        + "[rule.alert_suppression]\ngroup_by = [\"user.name\", \"aws.cloudtrail.request_id\", \"@timestamp\"]\n\
           duration = { value = 1, unit = \"d\" }\n";
    let to_do = "leave it out, and name it under [firstseen.details] if alerts are to show it";
    let makes = "which makes nearly every event new";
    assert_eq!(
        warnings("", &[("own.toml", &rule)]),
        [
            format!(
                "own.toml:13:23: new_terms names event.id, {makes}: AWS gives each event an id of its own; {to_do}"
            ),
            format!(
                "own.toml:18:26: group_by names aws.cloudtrail.request_id, {makes}: AWS gives each request an id of its \
                 own; {to_do}"
            ),
            format!("own.toml:18:55: group_by names @timestamp, {makes}: it is the time of the event; {to_do}"),
        ]
    );
}

#[test]
fn keys_that_a_stream_does_not_obey_are_warned_of() {
    let with = |line: &str| {
        let rule = RULE.replacen("[rule]\n", &format!("[rule]\n{line}\n"), 1);
        warnings("", &[("own.toml", &rule)])
    };
    for (line, expected) in [
        ("actions = [{ id = \"x\" }]", "actions is not applied; send alerts on"),
        ("response_actions = [{ id = \"x\" }]", "response_actions is not applied; react"),
        ("data_view_id = \"x\"", "data_view_id is not applied; every CloudTrail event"),
        ("max_signals = 10", "max_signals is not applied; every event that matches"),
        ("timestamp_override = \"event.start\"", "timestamp_override = \"event.start\" is not applied; windows"),
        ("index = [\"logs-okta*\", \"winlogbeat-*\"]", "index names no index that CloudTrail events are kept in"),
        ("index = [\"-logs-aws.cloudtrail-*\"]", "index names no index"),
    ] {
        let warnings = with(line);
        assert!(warnings.len() == 1 && warnings[0].starts_with(&format!("own.toml:2:1: {expected}")), "{warnings:?}");
    }
    for line in [
        "actions = []",
        "data_view_id = \"\"",
        "max_signals = 100",
        "timestamp_override = \"event.ingested\"",
        "index = []",
        "index = [\"filebeat-*\", \"logs-aws.cloudtrail-*\"]",
        "index = [\"logs-*\"]",
        "index = [\"logs-okta*\", \"cloudtrail-of-us\"]",
        "index = [\"west:logs-aws*\"]",
        "index = [\"*\"]",
    ] {
        assert_eq!(with(line), [""; 0], "{line}");
    }
}

#[test]
fn a_building_block_stays_one() {
    let block = RULE.replacen("[rule]\n", "[rule]\nbuilding_block_type = \"default\"\n", 1);
    let pack = compiled("", &[("own.toml", &block)]);
    let blocks: Vec<bool> = pack.rules.iter().map(|rule| rule.building_block).collect();
    assert_eq!(blocks, [false, false, false, true]);
    assert_eq!(pack::decode(&pack::encode(&pack)), Ok(pack));
    let other = block.replace("\"default\"", "\"other\"");
    assert_eq!(
        refusals_of_rule(&other),
        ["own.toml:2:23: building_block_type is \"other\"; expected \"default\" or \"\""]
    );
}

#[test]
fn a_rule_whose_own_window_is_wrong_is_still_of_type_new_terms() {
    let bad = RULE.replace("now-7d", "7d");
    assert_eq!(
        refusals("[rules.own]\nhistory_window = \"3d\"", &[], &[("own.toml", &bad)]),
        ["own.toml:16:9: history_window_start has \"7d\"; expected a time before now without rounding, such as \
             \"now-10d\""]
    );
}

#[test]
fn a_rule_that_is_off_is_checked_all_the_same() {
    let bad = RULE.replace("event.action", "event.acton");
    assert_eq!(refusals("[rules.own]\nenabled = false", &[], &[("own.toml", &bad)]).len(), 1);
}
