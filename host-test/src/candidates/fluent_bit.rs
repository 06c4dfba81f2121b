//! The candidates as a `rewrite_tag` of Fluent Bit: a filter in its classic format, a processor of an input in YAML.
//!
//! In: [`Candidates`]. Out: a section that gives them a tag of their own. One rule looks at one key, so each of the pack's rules
//! goes by the event's action, or by its provider if it asks for no action. Bounds: Fluent Bit's record accessor sees text
//! only, and no objects inside arrays. An event whose action is a number or an array keeps its tag: CloudTrail, Elastic's
//! integration and Sentinel write none such. Not here: a key that the accessor cannot name, which is refused.

use anyhow::bail;
use firstseen_engine::event::envelope::{EVENT_BRIDGE, TEXT_KEYS};
use firstseen_engine::prefilter::needs::{self, ACTION, PROVIDER};
use firstseen_engine::rule::Comparison;

use super::{Candidates, Which, expression, in_comment, spellings};

/// With how many levels of the key of event_root all ways to write it are printed.
const MAX_LEVELS: usize = 3;

/// How many of the envelopes that rules look into may stand inside each other.
const MAX_ENVELOPES: usize = 2;

/// The formats of Fluent Bit's configurations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Sections and indented keys.
    Classic,
    /// The newer one, which has processors.
    Yaml,
}

/// What a section begins with.
const HEADER: &str = "\
# Gives each event that a rule can match, and few others, the tag candidates.TAG in place of TAG; the others keep theirs. Made
# from the rules and settings by `firstseen compile DIR --print fluent-bitFORMAT`; print it anew when they change.
#
PLACE
# Write `Match candidates.*` in the filter that looks up the AS organisation and in firstseen's, and have the outputs match both tags. A
# candidate may come out later than events that were read after it. A key that is not text, or is inside an array, is not looked
# into: events of CloudTrail, of Elastic's integration and of Sentinel have no such keys, but records that hold a list of events do
# (Records, records, logEvents): send those through firstseen without this.
";

/// Where the classic section goes.
const FILTER: &str = "\
# Put it before those filters. It holds candidates in memory for up to 25 ms, and loses those if Fluent Bit ends just then. A processor
# does not: `--format yaml` prints one.";

/// Where the processor goes.
const PROCESSOR: &str = "\
# Put it into the input of the events, below `pipeline: inputs:`. The key `rule` is repeated, since Fluent Bit takes no more than ten
# items in a list there.";

/// The tag that candidates get.
const TAG: &str = "candidates.$TAG";

/// Lets everything through.
const ANY: &str = "^";

/// The section.
///
/// # Errors
/// Events may stand under a key that Fluent Bit's record accessor cannot name.
pub fn rewrite_tag(candidates: &Candidates, format: Format) -> anyhow::Result<String> {
    let (option, place) = match format {
        Format::Classic => ("", FILTER),
        Format::Yaml => (" --format yaml", PROCESSOR),
    };
    let mut section = HEADER.replace("FORMAT", option).replace("PLACE", place);
    if let Which::Every(rule) = &candidates.which {
        let rule = in_comment(rule);
        section += &format!("# Any event may match the rule \"{rule}\", which asks for no action or provider.\n");
    }
    let rules =
        rules(candidates)?.into_iter().map(|Rule { key, expression }| format!("{key} {expression} {TAG} false"));
    match format {
        Format::Classic => {
            section += "[FILTER]\n";
            section += &line("Name", "rewrite_tag");
            section += &line("Match", "aws.cloudtrail");
            for rule in rules {
                section += &line("Rule", &rule);
            }
            section += &line("Emitter_Name", "firstseen_candidates");
            section += "    # Needs storage.path in [SERVICE]. In memory, what is over the emitter's limit would be dropped.\n";
            section += &line("Emitter_Storage.type", "filesystem");
        }
        Format::Yaml => {
            section +=
                "      processors:\n        logs:\n          - name: rewrite_tag\n            match: aws.cloudtrail\n";
            for rule in rules {
                section += &format!("            rule: '{}'\n", rule.replace('\'', "''"));
            }
        }
    }
    Ok(section)
}

fn line(key: &str, value: &str) -> String {
    format!("    {key:<20} {value}\n")
}

/// A key, as the record accessor names it, and the expression that finds candidates in its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// `$detail['eventName']`
    pub key: String,
    /// What an event's value, or the text that holds an event, has to match.
    pub expression: String,
}

/// The rules, of which the first that matches gives a record its tag.
///
/// # Errors
/// Those of [`rewrite_tag`].
pub fn rules(candidates: &Candidates) -> anyhow::Result<Vec<Rule>> {
    let (actions, providers) = match &candidates.which {
        Which::Every(_) => (Vec::new(), Vec::new()),
        Which::Fitting(alternatives) => {
            let mut tests = (Vec::new(), Vec::new());
            for alternative in alternatives {
                match (&alternative.action, &alternative.provider) {
                    (Some(action), _) => tests.0.extend(action.iter().cloned()),
                    (None, Some(provider)) => tests.1.extend(provider.iter().cloned()),
                    (None, None) => {}
                }
            }
            (super::distinct(tests.0), super::distinct(tests.1))
        }
    };
    let asked: Vec<(&'static str, Vec<Comparison>)> =
        [(ACTION, actions), (PROVIDER, providers)].into_iter().filter(|(_, tests)| !tests.is_empty()).collect();
    let mut rules = Vec::new();
    for (place, may_be_text) in places(candidates)? {
        if may_be_text {
            let key = accessor(&place)?;
            match candidates.which {
                Which::Every(_) => rules.push(Rule { key, expression: ANY.to_owned() }),
                Which::Fitting(_) => rules.extend(asked.iter().map(|(_, tests)| Rule {
                    key: key.clone(),
                    expression: expression::of_json_text(tests).unwrap_or_else(|| ANY.to_owned()),
                })),
            }
        }
        for dialect in &candidates.dialects {
            let paths: Vec<(&str, String)> = match candidates.which {
                Which::Every(_) => needs::markers(*dialect).map(|path| (path, ANY.to_owned())).collect(),
                Which::Fitting(_) => {
                    let of = |(field, tests): &(&'static str, Vec<Comparison>)| {
                        (needs::path(field, *dialect), expression::of_value(tests, r"\A", r"\z"))
                    };
                    asked.iter().map(of).collect()
                }
            };
            for (path, expression) in paths {
                for spelling in spellings(&path.split('.').collect::<Vec<_>>()).into_iter().rev() {
                    let key = accessor(&[&place[..], &spelling].concat())?;
                    rules.push(Rule { key, expression: expression.clone() });
                }
            }
        }
    }
    Ok(rules)
}

/// A path at which an event may stand, and whether it may stand there as text.
type Place = (Vec<String>, bool);

/// The places of events, the record's root first.
fn places(candidates: &Candidates) -> anyhow::Result<Vec<Place>> {
    let root: Vec<&str> = candidates.event_root.iter().map(String::as_str).collect();
    if root.len() > MAX_LEVELS {
        bail!(
            "event_root has more than {MAX_LEVELS} levels, which can be written in too many ways for rules of Fluent Bit: \
             send all events through firstseen"
        );
    }
    let mut envelopes: Vec<Place> = Vec::new();
    if root != [EVENT_BRIDGE] {
        envelopes.push((vec![EVENT_BRIDGE.to_owned()], false));
    }
    if !root.is_empty() {
        envelopes.extend(spellings(&root).into_iter().rev().map(|spelling| (spelling, true)));
    }
    let root: Place = (Vec::new(), false);
    let mut places = vec![root.clone()];
    let mut last = vec![root];
    for _ in 0..MAX_ENVELOPES {
        let inside = |(outer, _): &Place| {
            let outer = outer.clone();
            envelopes.iter().map(move |(inner, may_be_text)| ([&outer[..], inner].concat(), *may_be_text))
        };
        last = last.iter().flat_map(inside).collect();
        places.extend(last.iter().cloned());
    }
    let texts = TEXT_KEYS.iter().map(|key| (vec![(*key).to_owned()], true));
    places.extend(texts.filter(|(path, _)| !places.iter().any(|(other, _)| other == path)).collect::<Vec<_>>());
    Ok(places)
}

/// The path as the record accessor takes it: `$first['second']`.
fn accessor(path: &[String]) -> anyhow::Result<String> {
    let [first, rest @ ..] = path else { return Ok(String::from("$")) };
    let is_word = |name: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/'))
    };
    let begins_well = first.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !begins_well || !path.iter().all(|name| is_word(name)) {
        bail!(
            "Fluent Bit's record accessor cannot name the key {:?} of event_root: send all events through firstseen",
            path.join(".")
        );
    }
    Ok(rest.iter().fold(format!("${first}"), |key, level| format!("{key}['{level}']")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use firstseen_engine::rule::{builtin, compile};

    fn candidates(settings: &str) -> Candidates {
        let pack = compile::compile(Some(("firstseen.toml", settings)), &builtin::FILES, &[]).expect("it compiles");
        Candidates::of(&pack)
    }

    #[test]
    fn builtin_rules_make_one_rule_a_key() {
        let section = rewrite_tag(&candidates("dialect = \"cloudtrail\""), Format::Classic).expect("it can be printed");
        let expected = "\
[FILTER]
    Name                 rewrite_tag
    Match                aws.cloudtrail
    Rule                 $eventName \\A(?i:GetCallerIdentity)\\z candidates.$TAG false
    Rule                 $detail['eventName'] \\A(?i:GetCallerIdentity)\\z candidates.$TAG false
    Rule                 $detail['detail']['eventName'] \\A(?i:GetCallerIdentity)\\z candidates.$TAG false
TEXTS    Emitter_Name         firstseen_candidates
    # Needs storage.path in [SERVICE]. In memory, what is over the emitter's limit would be dropped.
    Emitter_Storage.type filesystem
";
        let text = |key: &&str| {
            format!(
                "    Rule                 ${key} (?i:\"GetCallerIdentity\\\\*\")|\\\\u|ata\\\\*\" candidates.$TAG false\n"
            ) + &format!(
                "    Rule                 ${key}['eventName'] \\A(?i:GetCallerIdentity)\\z candidates.$TAG false\n"
            )
        };
        let texts: String = TEXT_KEYS.iter().filter(|key| **key != EVENT_BRIDGE).map(text).collect();
        let header = HEADER.replace("FORMAT", "").replace("PLACE", FILTER);
        assert_eq!(section.strip_prefix(&header), Some(&*expected.replace("TEXTS", &texts)));
    }

    #[test]
    fn both_formats_have_the_same_rules() {
        for settings in ["", "event_root = \"log.it's\"", "dialect = \"ecs\""] {
            let candidates = candidates(settings);
            let Ok(classic) = rewrite_tag(&candidates, Format::Classic) else { continue };
            let yaml = rewrite_tag(&candidates, Format::Yaml).expect("it can be printed");
            let of = |text: &str, key: &str| -> Vec<String> {
                text.lines().filter_map(|line| Some(line.trim().strip_prefix(key)?.trim().to_owned())).collect()
            };
            let unquoted: Vec<String> = of(&yaml, "rule:")
                .iter()
                .map(|rule| rule.trim_start_matches('\'').trim_end_matches('\'').replace("''", "'"))
                .collect();
            assert_eq!(of(&classic, "Rule"), unquoted, "{settings}");
            assert!(!unquoted.is_empty());
        }
    }

    #[test]
    fn every_dialect_has_its_keys() {
        let rules = rules(&candidates("")).expect("they can be printed");
        let keys: Vec<&str> = rules.iter().map(|rule| rule.key.as_str()).take(5).collect();
        assert_eq!(keys, ["$eventName", "$EventName", "$event['action']", "$event.action", "$detail['eventName']"]);
    }

    #[test]
    fn text_under_the_key_is_searched() {
        let rules = rules(&candidates("event_root = \"log.event\"")).expect("they can be printed");
        for key in ["$log['event']", "$log.event", "$detail['log']['event']", "$log.event['log.event']"] {
            let rule = rules.iter().find(|rule| rule.key == key).expect(key);
            assert_eq!(rule.expression, r#"(?i:"GetCallerIdentity\\*")|\\u|ata\\*""#);
        }
    }

    #[test]
    fn a_key_that_cannot_be_named_is_refused() {
        for (root, says) in [("a b", "cannot name the key \"a b\""), ("a.b.c.d", "more than 3 levels")] {
            let error =
                rewrite_tag(&candidates(&format!("event_root = {root:?}")), Format::Yaml).expect_err(root).to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
