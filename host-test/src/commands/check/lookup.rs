//! That the AS organisation comes from somewhere, if a rule asks for it.

use std::collections::HashSet;

use firstseen::fluent_bit::{Configuration, Stage, Step, Tags};
use firstseen_engine::rule::{Pack, Predicate, Rule};

use super::{Check, flow, reach};

/// The field that has no place in CloudTrail: a lookup before the filter writes it.
const ORGANIZATION: &str = "source.as.organization.name";

/// The filters that write keys which stand in their properties; `geoip2`, which names them in `Record`, is apart.
const WRITERS: [&str; 5] = ["modify", "record_modifier", "nest", "content_modifier", "sql"];

impl Check {
    /// Checks that the AS organisation comes from somewhere, if a rule asks for it.
    pub(super) fn check_lookup(&mut self, configuration: &Configuration, at: usize, pack: &Pack) {
        let asking: Vec<&str> =
            pack.rules.iter().filter(|rule| asks_for_organization(pack, rule)).map(|rule| rule.name.as_str()).collect();
        let Some(rule) = asking.first() else {
            return;
        };
        let keys: Vec<&str> =
            [Some(ORGANIZATION), pack.settings.as_organization_key.as_deref()].into_iter().flatten().collect();
        let writers: Vec<usize> =
            (0..configuration.steps.len()).filter(|at| self.may_write(&configuration.steps[*at], &keys)).collect();
        self.check_databases(configuration, at, &keys);
        if is_written(configuration, &writers, at, &mut HashSet::new()) {
            return;
        }
        // One that would write it, if it saw a record.
        let sources = flow::all_tags(configuration);
        let is_unmet = |step: &Step| step.tags != Tags::None && !sources.iter().any(|tags| tags.overlap(&step.tags));
        if let Some(writer) = writers.iter().map(|at| &configuration.steps[*at]).find(|step| is_unmet(step)) {
            let (place, what) = reach::unmet(writer);
            self.find(place, format!("{what}, so nothing is looked up"), reach::to_do(configuration));
            return;
        }
        let rules = match asking.len() - 1 {
            0 => format!("the rule \"{rule}\" asks"),
            1 => format!("the rule \"{rule}\" and 1 more ask"),
            more => format!("the rule \"{rule}\" and {more} more ask"),
        };
        let what = format!("{rules} for {ORGANIZATION}, which nothing writes before this filter");
        let to_do = format!(
            "put a geoip2 filter of the same Match before it, with `Record {} sourceIPAddress %{{autonomous_system_organization}}`",
            keys[keys.len() - 1]
        );
        self.find(&configuration.steps[at].place, what, to_do);
    }

    /// Whether a step writes one of the keys, or may do so.
    fn may_write(&mut self, step: &Step, keys: &[&str]) -> bool {
        match step.plugin.to_lowercase().as_str() {
            "geoip2" => step
                .values("record")
                .any(|record| record.split_whitespace().next().is_some_and(|key| keys.contains(&key))),
            "lua" => true,
            "wasm" => !self.is_ours(step),
            plugin if WRITERS.contains(&plugin) => step.properties.iter().any(|property| {
                let value = property.value.as_str();
                // `nest` makes the key out of its levels.
                let is_level = |key: &&str| key.strip_prefix(value).is_some_and(|rest| rest.starts_with('.'));
                keys.iter().any(|key| value.contains(key)) || (plugin == "nest" && keys.iter().any(is_level))
            }),
            _ => false,
        }
    }
}

/// Whether one of the steps `writers` comes before the step `at`, under its own tags or under those that `rewrite_tag` gave
/// others.
fn is_written(configuration: &Configuration, writers: &[usize], at: usize, seen: &mut HashSet<usize>) -> bool {
    if writers.iter().any(|writer| configuration.comes_before(*writer, at)) {
        return true;
    }
    let step = &configuration.steps[at];
    if matches!(step.stage, Stage::Input(_)) {
        return false;
    }
    // What is sent on under another tag goes through all filters, also those before the one that sent it.
    (0..configuration.steps.len()).any(|rewriter| {
        let from = &configuration.steps[rewriter];
        from.plugin.eq_ignore_ascii_case("rewrite_tag")
            && flow::new_tags(from).any(|tags| tags.overlap(&step.tags))
            && seen.insert(rewriter)
            && is_written(configuration, writers, rewriter, seen)
    })
}

/// Whether a rule names the AS organisation in its query or among its new terms.
pub(super) fn asks_for_organization(pack: &Pack, rule: &Rule) -> bool {
    let named = |field: usize| pack.fields.get(field).is_some_and(|name| name == ORGANIZATION);
    let new_terms = rule.new_terms.iter().flat_map(|new_terms| &new_terms.fields);
    names_field(&rule.query, &named) || new_terms.into_iter().any(|field| named(usize::from(field.0)))
}

fn names_field(predicate: &Predicate, named: &impl Fn(usize) -> bool) -> bool {
    match predicate {
        Predicate::All(parts) | Predicate::Any(parts) => parts.iter().any(|part| names_field(part, named)),
        Predicate::Not(part) => names_field(part, named),
        Predicate::Is(comparison) => named(usize::from(comparison.field.0)),
    }
}
