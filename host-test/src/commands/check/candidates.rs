//! That filters before firstseen let through the events that its rules ask for: `grep`, and the branches of `rewrite_tag`.
//!
//! Bounds: only the names of events are looked at, as CloudTrail writes them, and expressions that Rust's library understands. Nothing
//! is found where a filter goes by other keys.

use firstseen::fluent_bit::{Configuration, Property, Section, Stage};
use firstseen_engine::event::envelope::TEXT_KEYS;
use firstseen_engine::prefilter::needs;
use firstseen_engine::rule::{Pack, Test};
use regex::Regex;

use super::{Check, flow};

/// The keys under which a line may stand as text.
const TEXTS: [&str; 2] = ["log", "message"];

impl Check {
    /// Checks the filters of the records that come to the step.
    pub(super) fn check_candidates(&mut self, configuration: &Configuration, at: usize, pack: &Pack) {
        let upstream = flow::upstream(configuration, at);
        let own = &configuration.steps[at].tags;
        let comes_directly = matches!(configuration.steps[at].stage, Stage::Input(_))
            || configuration.inputs.iter().any(|input| input.tags.overlap(own));
        for before in upstream.steps {
            let step = &configuration.steps[before];
            let tests = match () {
                () if flow::is(step, "grep") => Tests::of_grep(step),
                () if flow::is(step, "rewrite_tag") && !comes_directly => Tests::of_rewrite_tag(step),
                () => None,
            };
            let Some(tests) = tests else { continue };
            if let Some((rule, name)) = asked_for(pack).find(|(_, name)| !tests.pass(name)) {
                let what = format!(
                    "the rule \"{rule}\" asks for the event {name}, which {} does not let through",
                    step.plugin
                );
                let to_do = match flow::is(step, "grep") {
                    true => "add a Regex for it, and Logical_Op or".to_owned(),
                    false => "print the rules anew with `firstseen compile DIR --print fluent-bit`".to_owned(),
                };
                self.find(&tests.at.place, what, to_do);
            }
        }
    }
}

/// The rules' names with an event that each asks for.
fn asked_for(pack: &Pack) -> impl Iterator<Item = (&str, String)> {
    needs::of(pack).into_iter().flat_map(|needs| {
        let name = needs.rule.name.as_str();
        let of = |test: &Test| match test {
            Test::Equals(literal) => Some(literal.clone()),
            Test::Wildcard(parts) => Some(parts.join("Any")),
            Test::Exists | Test::Range(..) | Test::Cidr(_) => None,
        };
        let events = needs.action.unwrap_or_default();
        events.into_iter().filter_map(move |event| Some((name, of(&event.test)?))).collect::<Vec<_>>()
    })
}

/// Expressions on the name of an event, or on a text that it is in.
struct Tests<'a> {
    /// The last of them.
    at: &'a Property,
    expressions: Vec<(bool, Regex)>,
    /// Whether one is enough.
    any: bool,
}

impl<'a> Tests<'a> {
    fn of_grep(step: &'a Section) -> Option<Tests<'a>> {
        let any = step.value("logical_op").is_some_and(|operator| operator.eq_ignore_ascii_case("or"));
        Tests::of(step, "regex", any)
    }

    fn of_rewrite_tag(step: &'a Section) -> Option<Tests<'a>> {
        Tests::of(step, "rule", true)
    }

    /// None, if there are no expressions on names, or others that might let an event through.
    fn of(step: &'a Section, key: &str, any: bool) -> Option<Tests<'a>> {
        let mut tests = Tests { at: step.property(key)?, expressions: Vec::new(), any };
        for property in step.properties.iter().filter(|property| property.key == key) {
            let mut words = property.value.splitn(2, char::is_whitespace);
            let (of, rest) = (words.next()?.trim_start_matches('$'), words.next()?.trim());
            // A rule of rewrite_tag goes on with the tag.
            let expression = if key == "rule" { rest.split_whitespace().next()? } else { rest };
            // With blanks or options in it.
            if expression.starts_with('/') || key == "rule" && expression.starts_with('"') {
                return None;
            }
            let is_text = TEXTS.contains(&of) && names_events_only(expression);
            if is_text || of == "eventName" {
                tests.at = property;
                tests.expressions.push((is_text, Regex::new(expression.trim_matches('"')).ok()?));
            } else if any && (key == "regex" || !is_elsewhere(of)) {
                // It may let the event through.
                return None;
            }
        }
        (!tests.expressions.is_empty()).then_some(tests)
    }

    fn pass(&self, name: &str) -> bool {
        let texts = [format!("{{\"eventName\":\"{name}\"}}"), format!("{{\"eventName\": \"{name}\"}}")];
        let passes = |(is_text, expression): &(bool, Regex)| match is_text {
            true => texts.iter().any(|text| expression.is_match(text)),
            false => expression.is_match(name),
        };
        let mut passes = self.expressions.iter().map(passes);
        if self.any { passes.any(|passes| passes) } else { passes.all(|passes| passes) }
    }
}

/// Whether this key holds the name of an event of another dialect or in an envelope, or a text: what is printed has rules for those.
fn is_elsewhere(key: &str) -> bool {
    ["eventName", "EventName", "action"].iter().any(|name| key.contains(name)) || TEXT_KEYS.contains(&key)
}

/// Whether the words of an expression are names of events, so that it does not go by an account, a service or whatever else a text
/// holds: a verb and a noun, each with a capital letter.
fn names_events_only(expression: &str) -> bool {
    const VERBS: [&str; 30] = [
        "Accept",
        "Add",
        "Assume",
        "Attach",
        "Authorize",
        "Batch",
        "Console",
        "Copy",
        "Create",
        "Delete",
        "Describe",
        "Detach",
        "Disable",
        "Enable",
        "Get",
        "Head",
        "Invoke",
        "List",
        "Lookup",
        "Modify",
        "Put",
        "Remove",
        "Run",
        "Send",
        "Set",
        "Start",
        "Stop",
        "Tag",
        "Terminate",
        "Update",
    ];
    let is_name = |word: &str| {
        VERBS
            .iter()
            .any(|verb| word.strip_prefix(verb).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase())))
    };
    let words =
        expression.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| word.len() > 2 && *word != "eventName");
    let words: Vec<&str> = words.collect();
    !words.is_empty() && words.into_iter().all(is_name)
}
