//! The databases of `geoip2` filters before firstseen, and what the filters look up in them.
//!
//! Bounds: [`LOOKED_AT`] networks of a database are looked at.

use std::fs;
use std::path::Path;

use firstseen::fluent_bit::{Configuration, Property, Step};
use maxminddb::Reader;
use serde_json::Value;

use super::access::Want;
use super::{Check, flow};

/// How many networks tell whether a database has a variable. MaxMind's are in the order of addresses, and not all have each.
const LOOKED_AT: usize = 5000;

/// The variable of GeoLite2-ASN and GeoIP2-ISP.
const VARIABLE: &str = "%{autonomous_system_organization}";

/// The keys that hold an event's address at a record's root, by dialect.
const ADDRESSES: [&str; 5] = ["sourceIPAddress", "source.ip", "source.address", "SourceIpAddress", "sourceIpAddress"];

/// Filters that write no key that a lookup might be for.
const WRITES_NO_ADDRESS: [&str; 6] = ["grep", "geoip2", "rewrite_tag", "throttle", "log_to_metrics", "parser"];

/// Filters whose new keys stand in their properties.
const NAMES_ITS_KEYS: [&str; 4] = ["modify", "record_modifier", "nest", "content_modifier"];

type Database = Reader<Vec<u8>>;

impl Check {
    /// Checks each `geoip2` that records go through before the step, and that writes one of these keys.
    pub(super) fn check_databases(&mut self, configuration: &Configuration, at: usize, keys: &[&str]) {
        for before in flow::upstream(configuration, at).steps {
            let step = &configuration.steps[before];
            if !flow::is(step, "geoip2") {
                continue;
            }
            let database = self.check_database(step);
            for record in step.properties.iter().filter(|property| property.key == "record") {
                let words: Vec<&str> = record.value.split_whitespace().collect();
                if words.first().is_some_and(|key| keys.contains(key)) {
                    self.check_record(configuration, before, record, &words, database.as_ref());
                }
            }
        }
    }

    fn check_database(&mut self, step: &Step) -> Option<Database> {
        const TO_DO: &str = "name an ASN database such as GeoLite2-ASN.mmdb";
        let Some(property) = step.property("database") else {
            self.find(&step.place, "geoip2 has no Database, and Fluent Bit would not start", TO_DO);
            return None;
        };
        let file = Path::new(&property.value);
        let shown = &property.value;
        let opened = match fs::metadata(file) {
            Ok(found) if !found.is_file() => Err("it is not a file".to_owned()),
            Ok(_) => fs::read(file).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let bytes = match opened {
            Ok(bytes) => bytes,
            Err(reason) => {
                let what = format!("the database {shown} cannot be read ({reason}), and Fluent Bit would not start");
                self.find(&property.place, what, TO_DO);
                return None;
            }
        };
        self.check_access(&property.place, "the database", file, Want::READ);
        match Reader::from_source(bytes) {
            Ok(reader) => Some(reader),
            Err(_) => {
                let what = format!("{shown} is no MaxMind database (.mmdb), and Fluent Bit would not start");
                self.find(&property.place, what, TO_DO);
                None
            }
        }
    }

    /// Checks a `Record KEY LOOKUP_KEY VARIABLE` that writes the organisation.
    fn check_record(
        &mut self,
        configuration: &Configuration,
        at: usize,
        record: &Property,
        words: &[&str],
        database: Option<&Database>,
    ) {
        let step = &configuration.steps[at];
        let [key, lookup_key, variable, ..] = words else {
            let what = format!("Record {} has {} words, and Fluent Bit would not start", record.value, words.len());
            self.find(&record.place, what, "write three: a key, a lookup key and a variable");
            return;
        };
        let path = variable.strip_prefix("%{").and_then(|rest| rest.split_once('}'));
        let Some((path, _)) = path else {
            let what = format!("{variable} is no variable of geoip2");
            self.find(&record.place, what, format!("write {VARIABLE}"));
            return;
        };
        if !step.values("lookup_key").any(|other| other == *lookup_key) {
            let what = format!("{lookup_key} is no Lookup_Key of this filter, so geoip2 writes null under {key}");
            self.find(&record.place, what, format!("write Lookup_Key {lookup_key}, with the same letters"));
            return;
        }
        if !is_address(lookup_key) && !self.may_be_written(configuration, at, lookup_key) {
            let what = format!("{lookup_key} is no key at the root of an event, so geoip2 writes null under {key}");
            let place = step.properties.iter().rev().find(|property| property.value == *lookup_key);
            let place = place.map_or(&record.place, |property| &property.place);
            self.find(place, what, "write sourceIPAddress, or source.ip for ECS");
            return;
        }
        let Some(database) = database else { return };
        let kind = &database.metadata().database_type;
        let what = match found(database, path) {
            Found::Text => return,
            Found::Number if ["asn", "isp"].iter().any(|part| kind.to_lowercase().contains(part)) => {
                format!("%{{{path}}} is a number in this database")
            }
            _ => {
                let file = step.value("database").unwrap_or_default();
                let has_others = matches!(found(database, "autonomous_system_organization"), Found::Text);
                let place = if has_others { &record.place } else { step.place_of("database") };
                let to_do = match has_others {
                    true => format!("write {VARIABLE}"),
                    false => "name an ASN database such as GeoLite2-ASN.mmdb".to_owned(),
                };
                let what = format!("{file}, of the type {kind}, has no {path}, so geoip2 writes null under {key}");
                self.find(place, what, to_do);
                return;
            }
        };
        self.find(&record.place, what, format!("write {VARIABLE}"));
    }

    /// Whether a filter before this one may write such a key, or make it of another one.
    fn may_be_written(&self, configuration: &Configuration, at: usize, key: &str) -> bool {
        flow::upstream(configuration, at).steps.into_iter().any(|before| {
            let step = &configuration.steps[before];
            let plugin = step.plugin.to_lowercase();
            if plugin == "parser" {
                return step.values("parser").any(|name| {
                    configuration.parser(name).is_none_or(|parser| !parser.value("format").is_some_and(is_json))
                });
            }
            if NAMES_ITS_KEYS.contains(&plugin.as_str()) {
                let named = |property: &Property| {
                    !property.value.is_empty() && (key.contains(&property.value) || property.value.contains(key))
                };
                return step.properties.iter().filter(|property| !property.key.starts_with("match")).any(named);
            }
            !WRITES_NO_ADDRESS.contains(&plugin.as_str())
        })
    }
}

fn is_json(format: &str) -> bool {
    format.eq_ignore_ascii_case("json")
}

/// Whether geoip2 finds an address under this key: it compares beginnings, and no case.
fn is_address(key: &str) -> bool {
    ADDRESSES.iter().any(|address| {
        address.get(..key.len()).is_some_and(|beginning| !key.is_empty() && beginning.eq_ignore_ascii_case(key))
    })
}

/// What a database has under a path.
enum Found {
    Text,
    Number,
    Nothing,
}

fn found(database: &Database, path: &str) -> Found {
    let Ok(networks) = database.networks(Default::default()) else { return Found::Text };
    for network in networks.take(LOOKED_AT) {
        let Ok(Some(row)) = network.and_then(|network| network.decode::<Value>()) else { continue };
        let value = path.split('.').try_fold(&row, |value, level| match value {
            Value::Object(keys) => keys.get(level),
            Value::Array(items) => items.get(level.parse::<usize>().ok()?),
            _ => None,
        });
        match value {
            Some(Value::String(_)) => return Found::Text,
            Some(Value::Number(_) | Value::Bool(_)) => return Found::Number,
            _ => {}
        }
    }
    Found::Nothing
}
