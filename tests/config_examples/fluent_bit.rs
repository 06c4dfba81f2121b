//! What the Fluent Bit examples say.
//!
//! In: the classic file with its parsers, and the YAML file. Out: that both are the same pipeline, that its filters call the built
//! module such that the EC2-role detection works, and that no example loses alerts by its configuration. Not here: a Fluent Bit
//! at work.

use std::path::Path;

use firstseen::candidates::{Candidates, fluent_bit as candidates_of_fluent_bit};
use firstseen::guest::Generation;
use serde_json::{Value, json};
use yaml_rust2::{Yaml, YamlLoader};

use super::{alerting_rules, arrival, event, text, with};
use crate::subjects::{BUILTIN_RULE_IDS, Calls, Guest, Subject, annotation, compiled, module};

pub(super) const CLASSIC: &str = "fluent-bit/firstseen.conf";
pub(super) const YAML: &str = "fluent-bit/firstseen.yaml";
pub(super) const PARSERS: &str = "fluent-bit/parsers.conf";

/// What Fluent Bit is told, in either format.
#[derive(Debug, Default, PartialEq)]
struct Configuration {
    service: Section,
    parsers: Vec<Section>,
    inputs: Vec<Section>,
    filters: Vec<Section>,
    outputs: Vec<Section>,
}

/// Keys in lower case and their values; a key may stand several times. Sorted: the order of a section's keys is free.
#[derive(Debug, Default, PartialEq)]
struct Section(Vec<(String, String)>);

impl Section {
    fn add(&mut self, key: &str, value: &str) {
        let pair = (key.to_lowercase(), value.to_owned());
        let at = self.0.partition_point(|other| *other < pair);
        self.0.insert(at, pair);
    }

    /// The values of a key.
    fn all(&self, key: &str) -> Vec<&str> {
        self.0.iter().filter(|(other, _)| other == key).map(|(_, value)| value.as_str()).collect()
    }

    /// The value of a key that stands once.
    fn one(&self, key: &str) -> &str {
        match self.all(key)[..] {
            [value] => value,
            ref values => panic!("{key} stands {} times in {self:?}", values.len()),
        }
    }
}

/// The classic format: `[SECTION]`, then lines of a key, blanks and a value; `#` begins a line that is a comment.
fn read_classic(file: &str) -> Configuration {
    let mut configuration = Configuration::default();
    read_classic_into(&mut configuration, file);
    let parsers: Vec<String> = configuration.service.all("parsers_file").into_iter().map(str::to_owned).collect();
    for parsers in parsers {
        let beside = Path::new(file).with_file_name(parsers);
        read_classic_into(&mut configuration, beside.to_str().expect("a name in UTF-8"));
    }
    configuration.service.0.retain(|(key, _)| key != "parsers_file");
    configuration
}

fn read_classic_into(configuration: &mut Configuration, file: &str) {
    let mut section: Option<&mut Section> = None;
    for (number, line) in (1..).zip(text(file).lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = Some(match name {
                "SERVICE" => &mut configuration.service,
                "PARSER" => pushed(&mut configuration.parsers),
                "INPUT" => pushed(&mut configuration.inputs),
                "FILTER" => pushed(&mut configuration.filters),
                "OUTPUT" => pushed(&mut configuration.outputs),
                _ => panic!("{file}:{number}: [{name}] is no section that the examples need"),
            });
            continue;
        }
        let (key, value) =
            line.split_once(' ').unwrap_or_else(|| panic!("{file}:{number}: a key without a value: {line}"));
        let section = section.as_mut().unwrap_or_else(|| panic!("{file}:{number}: {key} stands in no section"));
        section.add(key, value.trim());
    }
}

fn pushed(sections: &mut Vec<Section>) -> &mut Section {
    sections.push(Section::default());
    sections.last_mut().expect("one was just added")
}

fn read_yaml(file: &str) -> Configuration {
    let documents = YamlLoader::load_from_str(&text(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let [document] = &documents[..] else { panic!("{file}: {} documents", documents.len()) };
    assert_eq!(keys(document), ["service", "parsers", "pipeline"], "{file}");
    assert_eq!(keys(&document["pipeline"]), ["inputs", "filters", "outputs"], "{file}");
    let pipeline = &document["pipeline"];
    Configuration {
        service: section(&document["service"]),
        parsers: sections(&document["parsers"]),
        inputs: sections(&pipeline["inputs"]),
        filters: sections(&pipeline["filters"]),
        outputs: sections(&pipeline["outputs"]),
    }
}

fn keys(yaml: &Yaml) -> Vec<&str> {
    yaml.as_hash().expect("a mapping").keys().map(|key| key.as_str().expect("keys are text")).collect()
}

fn sections(yaml: &Yaml) -> Vec<Section> {
    yaml.as_vec().expect("a list of sections").iter().map(section).collect()
}

fn section(yaml: &Yaml) -> Section {
    let mut section = Section::default();
    for (key, value) in yaml.as_hash().expect("a section is a mapping") {
        let key = key.as_str().expect("keys are text");
        match value {
            Yaml::String(text) => section.add(key, text),
            Yaml::Integer(number) => section.add(key, &number.to_string()),
            Yaml::Boolean(is_so) => section.add(key, &is_so.to_string()),
            _ => panic!("{key} is neither text, a number nor a boolean: {value:?}"),
        }
    }
    section
}

/// What `filter_geoip2` makes of a record: one flat key for each `Record`, behind the record's own, with what `lookup` finds
/// for the text under the lookup key, or null.
fn geoip2(filter: &Section, record: &Value, lookup: impl Fn(&str, &str) -> Option<Value>) -> Value {
    let mut out = record.clone();
    for line in filter.all("record") {
        let [key, lookup_key, value] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("Record takes a key, a lookup key and a value: {line}");
        };
        assert!(filter.all("lookup_key").contains(&lookup_key), "{lookup_key} is no Lookup_Key");
        let field = value.strip_prefix("%{").and_then(|rest| rest.strip_suffix('}')).expect("%{a field}");
        let found = record[lookup_key].as_str().and_then(|address| lookup(address, field));
        out[key] = found.unwrap_or(Value::Null);
    }
    out
}

#[test]
fn classic_and_yaml_are_the_same_pipeline() {
    let classic = read_classic(CLASSIC);
    let yaml = read_yaml(YAML);
    assert_eq!(classic, yaml);

    let names =
        |sections: &[Section]| sections.iter().map(|section| section.one("name").to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&classic.inputs), ["tail"]);
    assert_eq!(names(&classic.filters), ["grep", "parser", "geoip2", "wasm"]);
    assert_eq!(names(&classic.outputs), ["stdout"]);
    assert_eq!(names(&classic.parsers), [classic.filters[1].one("parser")]);
    // A line is text under the key log, of which grep and the parser take it.
    assert!(classic.inputs[0].all("parser").is_empty());
    assert_eq!(classic.filters[0].one("regex"), "log GetCallerIdentity");
    assert_eq!(classic.filters[1].one("key_name"), "log");
    let tag = classic.inputs[0].one("tag");
    for section in classic.filters.iter().chain(&classic.outputs) {
        assert_eq!(section.one("match"), tag, "{section:?}");
    }
}

/// The lines that the examples' `grep` lets through are those of the events that the built-in rules ask for.
#[test]
fn the_first_filter_passes_what_the_builtin_rules_ask_for() {
    let candidates = Candidates::of(&compiled(Some("dialect = \"cloudtrail\""), &[]));
    let printed = candidates_of_fluent_bit::rules(&candidates).expect("they can be printed");
    let name = printed.iter().find(|rule| rule.key == "$eventName").expect("a rule on the name");
    assert_eq!(name.expression, r"\A(?i:GetCallerIdentity)\z", "the examples' grep asks for something else");
}

/// Records stay on disk until outputs have them, and outputs that carry alerts do not give up.
#[test]
fn no_example_loses_alerts_by_its_configuration() {
    for file in [&[CLASSIC, YAML], &super::fluent_bit_pipelines::FILES[..]].concat() {
        let text = text(file).to_lowercase();
        let values = |key: &str| -> Vec<String> {
            let of = |line: &str| Some(line.trim().strip_prefix(key)?.trim_start_matches(':').trim().to_owned());
            text.lines().filter_map(of).collect()
        };
        let sections = |name: &str| text.lines().filter(|line| is_named(line, name)).count();
        assert_eq!(values("storage.path"), ["/var/lib/fluent-bit/storage"], "{file}");
        let tails = sections("tail");
        let inputs = tails + sections("exec") + usize::from(text.contains("listen:"));
        assert_eq!(values("storage.type"), vec!["filesystem"; inputs], "{file}");
        let mut databases = values("db ");
        databases.extend(values("db:"));
        databases.sort();
        databases.dedup();
        assert_eq!(databases.len(), tails, "{file}: one for each tail");
        let outputs = sections("stdout") + usize::from(text.contains("json_date_key"));
        assert_eq!(values("retry_limit"), vec!["no_limits"; outputs], "{file}");
        assert_eq!(values("storage.total_limit_size").len(), outputs, "{file}");
        // Its emitter would lose what it holds when Fluent Bit ends.
        assert_eq!(sections("rewrite_tag"), 0, "{file}");
    }
}

fn is_named(line: &str, name: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().filter(|word| *word != "-").collect();
    words == ["name", name] || words == ["name:", name]
}

/// Of two firstseen filters in a row, the second writes its alerts under `firstseen_2`.
#[test]
fn conditions_on_alerts_find_those_of_a_second_filter() {
    for file in [&[CLASSIC, YAML], &super::fluent_bit_pipelines::FILES[..]].concat() {
        let text = text(file);
        let conditions = |key: &str| text.matches(&format!("regex: ${key}['alerts']")).count();
        assert_eq!(conditions("firstseen"), conditions("firstseen_2"), "{file}");
        assert_eq!(text.matches("$firstseen").count(), text.matches("$firstseen_2").count() * 2, "{file}");
    }
}

#[test]
fn wasm_filter_calls_what_the_module_exports() {
    let configuration = read_classic(CLASSIC);
    let filter = &configuration.filters[3];
    let exports = module().exports();
    assert!(exports.iter().any(|export| export == filter.one("function_name")), "{filter:?}, {exports:?}");
    assert_eq!(filter.one("event_format"), "json");
    // Without it, Fluent Bit's working directory is the configuration directory.
    assert!(Path::new(filter.one("accessible_paths")).is_absolute(), "{filter:?}");
    assert!(filter.one("wasm_path").ends_with(".wasm"), "{filter:?}");
}

#[test]
fn geoip_step_gives_the_ec2_role_rule_its_organization() {
    let configuration = read_classic(CLASSIC);
    let filter = &configuration.filters[2];
    let asn = |address: &str, field: &str| {
        (address == "198.51.100.7" && field == "autonomous_system_organization").then(|| json!("Example Hosting"))
    };
    let found = geoip2(filter, &event("ec2_role"), asn);
    let unknown = with(event("ec2_role"), &[("sourceIPAddress", json!("203.0.113.9")), ("eventID", json!("e-2"))]);
    let unknown = geoip2(filter, &unknown, asn);
    let service = with(event("ec2_role"), &[("sourceIPAddress", json!("AWS Internal")), ("eventID", json!("e-3"))]);
    let service = geoip2(filter, &service, asn);
    assert_eq!(found["source.as.organization.name"], "Example Hosting");
    assert_eq!(unknown.get("source.as.organization.name"), Some(&Value::Null));

    let mut guest = Guest::builtin(Calls::Fluent(Generation::Current));
    let mut rules = |record: &Value| {
        let record = record.to_string().into_bytes();
        let out = guest.process(&record, arrival());
        let (key, annotation) = annotation(&record, &out).expect("a key is appended").expect("an alert");
        assert_eq!(key, "firstseen");
        alerting_rules(&annotation).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let [ec2_role, _, hijacking] = BUILTIN_RULE_IDS;
    // Each is of another group of the third rule, which needs no organisation.
    assert_eq!(rules(&unknown), [hijacking]);
    assert_eq!(rules(&service), [hijacking]);
    assert_eq!(rules(&found), [ec2_role, hijacking]);
}
