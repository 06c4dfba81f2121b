//! Which events a pack can match, told by what other programs can test before firstseen sees an event.
//!
//! In: a pack. Out: [`Candidates`]: the tests of an event's action and provider that a matching event passes, and the places
//! where a record may keep them; in Vector's language ([`vrl`]) and as Fluent Bit's rules ([`fluent_bit`]). What is printed lets
//! more events through than match, never fewer: whatever a language cannot look into is let through, or refused.
//! Not here: where a rule's needs come from ([`needs`]), the module's own prefilter.

use firstseen_engine::prefilter::needs::{self, Needs};
use firstseen_engine::rule::{Comparison, Dialect, Pack};

mod expression;
pub mod fluent_bit;
pub mod vrl;

/// The events that can match, and where records keep them.
#[derive(Debug, Clone)]
pub struct Candidates {
    /// In the order in which events are taken for them.
    dialects: Vec<Dialect>,
    /// The levels of the key under which events may stand as objects or text; none, if they do not.
    event_root: Vec<String>,
    which: Which,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Which {
    /// Every event, for neither field singles out those of a rule of this name.
    Every(String),
    /// Those that one of these fits; no event, if there is none.
    Fitting(Vec<Alternative>),
}

/// What the events of some rules pass: one of the tests of each field. At least one field has tests.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Alternative {
    action: Option<Vec<Comparison>>,
    provider: Option<Vec<Comparison>>,
}

impl Candidates {
    /// The candidates of a pack.
    pub fn of(pack: &Pack) -> Candidates {
        let event_root = pack.settings.event_root.as_deref();
        Candidates {
            dialects: needs::dialects(&pack.settings),
            event_root: event_root.map_or(Vec::new(), |path| path.split('.').map(str::to_owned).collect()),
            which: Which::of(needs::of(pack)),
        }
    }
}

impl Which {
    fn of(needs: Vec<Needs<'_>>) -> Which {
        let mut fitting: Vec<Alternative> = Vec::new();
        for Needs { rule, action, provider } in needs {
            if action.is_none() && provider.is_none() {
                return Which::Every(rule.name.clone());
            }
            let alternative = Alternative { action: action.map(distinct), provider: provider.map(distinct) };
            if !alternative.is_impossible() && !fitting.iter().any(|other| alternative.implies(other)) {
                fitting.retain(|other| !other.implies(&alternative));
                fitting.push(alternative);
            }
        }
        let of_one_provider = merged(
            fitting,
            |one, other| one.provider == other.provider,
            |one, other| one.action = union(one.action.take(), other.action),
        );
        Which::Fitting(merged(
            of_one_provider,
            |one, other| one.action == other.action,
            |one, other| one.provider = union(one.provider.take(), other.provider),
        ))
    }
}

impl Alternative {
    /// Whether a field has to pass one of no tests.
    fn is_impossible(&self) -> bool {
        [&self.action, &self.provider].into_iter().flatten().any(Vec::is_empty)
    }

    /// Whether each event that fits this one fits the other.
    fn implies(&self, other: &Alternative) -> bool {
        imply(self.action.as_deref(), other.action.as_deref())
            && imply(self.provider.as_deref(), other.provider.as_deref())
    }
}

fn imply(tests: Option<&[Comparison]>, others: Option<&[Comparison]>) -> bool {
    match (tests, others) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(tests), Some(others)) => tests.iter().all(|test| others.iter().any(|other| needs::implies(test, other))),
    }
}

/// The alternatives, with those joined into one that `belong` together.
fn merged(
    alternatives: Vec<Alternative>,
    belong: impl Fn(&Alternative, &Alternative) -> bool,
    join: impl Fn(&mut Alternative, Alternative),
) -> Vec<Alternative> {
    let mut merged: Vec<Alternative> = Vec::new();
    for alternative in alternatives {
        match merged.iter_mut().find(|one| belong(one, &alternative)) {
            Some(one) => join(one, alternative),
            None => merged.push(alternative),
        }
    }
    merged
}

/// The tests of which one is passed if one of either is; `None` if either asks for nothing.
fn union(tests: Option<Vec<Comparison>>, others: Option<Vec<Comparison>>) -> Option<Vec<Comparison>> {
    Some(distinct(tests?.into_iter().chain(others?).collect()))
}

/// The tests without those that another one covers.
fn distinct(tests: Vec<Comparison>) -> Vec<Comparison> {
    let mut kept: Vec<Comparison> = Vec::new();
    for test in tests {
        if !kept.iter().any(|other| needs::implies(&test, other)) {
            kept.retain(|other| !needs::implies(other, &test));
            kept.push(test);
        }
    }
    kept
}

/// The ways to write a path: each level as an object of its own, or as part of a flat key with dots.
fn spellings(levels: &[&str]) -> Vec<Vec<String>> {
    let [first, rest @ ..] = levels else { return vec![Vec::new()] };
    let mut all = Vec::new();
    for spelling in spellings(rest) {
        if let Some(next) = spelling.first() {
            let mut flat = spelling.clone();
            flat[0] = format!("{first}.{next}");
            all.push(flat);
        }
        all.push([vec![(*first).to_owned()], spelling].concat());
    }
    all
}

/// The name of a rule in a comment, whatever is in it.
fn in_comment(name: &str) -> String {
    name.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use firstseen_engine::rule::{builtin, compile};

    fn rule(number: usize, query: &str) -> String {
        format!(
            "[rule]\nrule_id = \"{number}\"\nname = \"Rule {number}\"\ntype = \"query\"\nlanguage = \"kuery\"\n\
             severity = \"low\"\nrisk_score = 1\nquery = '''{query}'''\n"
        )
    }

    fn which(queries: &[&str]) -> Which {
        let texts: Vec<String> = queries.iter().enumerate().map(|(number, query)| rule(number, query)).collect();
        let files: Vec<compile::File<'_>> = texts.iter().map(|text| ("own.toml", text.as_str())).collect();
        Candidates::of(&compile::compile(None, &[], &files).expect("it compiles")).which
    }

    /// How many tests of action and of provider each alternative has.
    fn counts(queries: &[&str]) -> Vec<(usize, usize)> {
        let Which::Fitting(alternatives) = which(queries) else { panic!("some events only") };
        let count = |tests: &Option<Vec<Comparison>>| tests.as_ref().map_or(0, Vec::len);
        alternatives.iter().map(|one| (count(&one.action), count(&one.provider))).collect()
    }

    #[test]
    fn rules_that_others_cover_are_left_out() {
        let pack = compile::builtin(&builtin::FILES).expect("it compiles");
        let Which::Fitting(alternatives) = Candidates::of(&pack).which else { panic!("some events only") };
        let [Alternative { action: Some(action), provider: None }] = &alternatives[..] else {
            panic!("{alternatives:?}");
        };
        assert!(matches!(&action[..], [test] if test.ignore_case), "{action:?}");
        let wider = ["event.provider: a and event.action: Get*", "event.action: GetX and event.provider: (a or b)"];
        assert_eq!(counts(&wider), [(1, 1), (1, 2)]);
        assert_eq!(counts(&["event.provider: a and event.action: GetX", wider[0]]), [(1, 1)]);
    }

    #[test]
    fn rules_of_one_provider_or_action_are_merged() {
        let [a, b, c] = ["a and event.action: X", "b and event.action: X", "a and event.action: Y"];
        let rules = [a, b, c].map(|rest| format!("event.provider: {rest}"));
        assert_eq!(counts(&rules.each_ref().map(String::as_str)), [(2, 1), (1, 1)]);
        assert_eq!(counts(&[&rules[0], &rules[1]]), [(1, 2)]);
    }

    #[test]
    fn a_rule_on_neither_field_lets_every_event_through() {
        assert_eq!(which(&["event.action: X", "event.outcome: failure"]), Which::Every("Rule 1".into()));
        assert_eq!(which(&["not event.action: X"]), Which::Every("Rule 0".into()));
    }

    #[test]
    fn a_path_is_written_in_as_many_ways_as_it_has_joints() {
        let all = spellings(&["a", "b", "c"]);
        let joined: Vec<String> = all.iter().map(|spelling| spelling.join(" ")).collect();
        assert_eq!(joined, ["a.b.c", "a b.c", "a.b c", "a b c"]);
    }
}
