//! What becomes of events before they come to a filter: lines that stay text, and event times that a parser takes out.

use firstseen::fluent_bit::{Configuration, Property, Section};
use firstseen_engine::event::envelope::TEXT_KEYS;
use firstseen_engine::rule::Pack;

use super::{Check, flow, lookup};

/// The keys of an event's time, by dialect.
const TIMES: [&str; 3] = ["eventTime", "@timestamp", "TimeGenerated"];

/// Inputs that give each line or message as text under a key, unless they have a parser.
const TEXT_UNDER: [(&str, &str); 2] = [("tail", "log"), ("exec", "exec")];

/// Filters that may take an event out of a text.
const UNPACKS: [&str; 5] = ["parser", "lua", "wasm", "multiline", "kubernetes"];

impl Check {
    /// Checks the inputs and parsers of the records that come to a filter.
    pub(super) fn check_records(&mut self, configuration: &Configuration, at: usize, pack: &Pack) {
        let upstream = flow::upstream(configuration, at);
        let steps: Vec<&Section> = upstream.steps.iter().map(|step| &*configuration.steps[*step]).collect();
        let is_unpacked = steps.iter().any(|step| UNPACKS.iter().any(|plugin| flow::is(step, plugin)));
        let inputs: Vec<&Section> = upstream.inputs.iter().map(|input| &*configuration.inputs[*input]).collect();
        for input in &inputs {
            if !is_unpacked {
                self.check_text(input, pack);
            }
        }
        let filters = steps.iter().filter(|step| flow::is(step, "parser"));
        for section in inputs.iter().copied().chain(filters.copied()) {
            for parser in section.properties.iter().filter(|property| property.key == "parser") {
                self.check_parser(configuration, parser);
            }
        }
    }

    /// The module finds an event in a text, but no lookup finds its address there.
    fn check_text(&mut self, input: &Section, pack: &Pack) {
        let Some((_, key)) = TEXT_UNDER.iter().find(|(plugin, _)| flow::is(input, plugin)) else { return };
        if ["parser", "multiline.parser", "docker_mode", "multiline"].iter().any(|key| input.property(key).is_some()) {
            return;
        }
        let key = input.value("key").unwrap_or(key);
        let is_read = TEXT_KEYS.contains(&key) || pack.settings.event_root.as_deref() == Some(key);
        let what = if !is_read {
            format!(
                "the input {} has no Parser, so each event is text under {key}, where firstseen does not look for it",
                input.plugin
            )
        } else if pack.rules.iter().any(|rule| lookup::asks_for_organization(pack, rule)) {
            format!(
                "the input {} has no Parser, so each event is text under {key}, where geoip2 finds no address, and rules on the AS \
                 organisation stay silent",
                input.plugin
            )
        } else {
            return;
        };
        self.find(&input.place, what, "set Parser to one of Format json, or put a parser filter behind it");
    }

    fn check_parser(&mut self, configuration: &Configuration, named: &Property) {
        if named.value.contains("${") {
            return;
        }
        let Some(parser) = configuration.parser(&named.value) else {
            // A parsers file may be named on the command line instead.
            if configuration.has_all_parsers && !configuration.parsers.is_empty() {
                let what = format!("no parser {} is defined, so each event stays text", named.value);
                self.find(&named.place, what, "name one of those in Parsers_File, or define it there");
            }
            return;
        };
        let Some(key) = parser.property("time_key").filter(|key| TIMES.contains(&key.value.as_str())) else { return };
        let is_json = parser.value("format").is_some_and(|format| format.eq_ignore_ascii_case("json"));
        if is_json && !parser.is_on("time_keep") {
            let what = format!(
                "Time_Key {0} takes {0} out of the event, so firstseen does not know when it happened",
                key.value
            );
            self.find(&key.place, what, "leave Time_Key and Time_Format out of the parser");
        }
    }
}
