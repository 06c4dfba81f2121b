//! The candidates as a condition in VRL, Vector's language.
//!
//! In: [`Candidates`]. Out: a program whose value says whether firstseen needs to see an event. It cannot fail, and what is not
//! text where text is expected (an array, a number) lets the event through. It is for events of whose fields' types Vector
//! knows nothing, as it is behind a decoder: of a field that is known to be text, Vector refuses to have a failure handled.
//!
//! ```text
//! for each place of an event (the root, each envelope, the key of event_root):
//!   for each dialect, and each way to write the keys' paths:
//!     exists(name) && (match(name, r'…') ?? true)     absent: no; text: the expression decides; anything else: yes
//!   exists(first level[0])                            an array of objects on the way: yes
//! in an envelope, if it is text: match(key, r'"…"|\\u') ?? false
//! an envelope that is an array, is base64, or is in an object in an envelope: yes
//! an event that says eventVersion at the root is in no envelope but event_root
//! ```

use firstseen_engine::event::envelope::{ENVELOPES, EVENT_BRIDGE, Envelope};
use firstseen_engine::prefilter::needs::{self, ACTION, EVENT_VERSION, PROVIDER};
use firstseen_engine::rule::{Comparison, Dialect};

use super::{Alternative, Candidates, Which, expression, in_comment, spellings};

/// With how many levels of the key of event_root all ways to write it are printed; with more, whatever it begins with lets
/// an event through.
const MAX_LEVELS: usize = 3;

/// What a program begins with.
const HEADER: &str = "\
# True for each event that a rule can match, and for few others: only these need to go through firstseen. Made from the rules
# and settings by `firstseen compile DIR --print vrl`; print it anew when they change.
";

/// The program.
pub fn condition(candidates: &Candidates) -> String {
    let alternatives = match &candidates.which {
        Which::Every(rule) => {
            let because = format!(
                "# Any event may match the rule \"{}\", which asks for no action or provider.\n",
                in_comment(rule)
            );
            return format!("{HEADER}{because}true\n");
        }
        Which::Fitting(alternatives) if alternatives.is_empty() => {
            return format!("{HEADER}# No event can match.\nfalse\n");
        }
        Which::Fitting(alternatives) => alternatives,
    };
    let levels: Vec<&str> = candidates.event_root.iter().map(String::as_str).collect();
    if !levels.iter().all(|level| is_printable(level)) {
        let because = "# A level of event_root is empty, or has a character that a path in VRL cannot have.\n";
        return format!("{HEADER}{because}true\n");
    }
    let printer = Printer { alternatives, dialects: &candidates.dialects, event_root: &levels };
    format!("{HEADER}{}\n", printer.record().join(" ||\n"))
}

/// Whether a key can be written in a path.
fn is_printable(level: &str) -> bool {
    !level.is_empty() && !level.contains(['"', '\\', '{', '}'])
}

struct Printer<'c> {
    alternatives: &'c [Alternative],
    dialects: &'c [Dialect],
    event_root: &'c [&'c str],
}

/// A path: levels, each a key's name.
type Path = Vec<String>;

impl Printer<'_> {
    /// What lets a record through; one of these suffices.
    fn record(&self) -> Vec<String> {
        let mut any = self.event(&Path::new());
        if self.event_root.len() > MAX_LEVELS {
            any.extend(self.nested(&Path::new(), self.event_root_begins()));
        } else {
            any.extend(
                spellings(self.event_root).iter().filter(|path| !path.is_empty()).map(|path| self.envelope(path)),
            );
            // An array of objects on the way.
            for levels in 1..self.event_root.len() {
                any.extend(spellings(&self.event_root[..levels]).iter().map(exists_element));
            }
        }
        let envelopes: Vec<String> = self.envelopes().filter_map(|path| self.builtin(path)).collect();
        let mut inside = format!("({})", envelopes.join(" ||\n").replace('\n', "\n  "));
        if !self.dialects.iter().eq([&Dialect::Ecs]) {
            let version = printed(&vec![EVENT_VERSION.to_owned()]);
            inside = format!("((!is_string({version}) || {version} == \"\") && {inside})");
        }
        any.push(inside);
        any
    }

    /// The paths of the envelopes that are tried without a setting; none that the key of event_root leads through, or is.
    fn envelopes(&self) -> impl Iterator<Item = &'static str> {
        let event_root = self.event_root.join(".");
        ENVELOPES.iter().map(|Envelope { path, .. }| *path).filter(move |path| {
            let rest = event_root.strip_prefix(path);
            !rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    }

    /// What lets an envelope through that stands at the root. Of one that is at a deeper level, the first level is enough, and so it is
    /// of those that hold lists or base64; nothing, if another one says that already.
    fn builtin(&self, path: &'static str) -> Option<String> {
        let is_list = ["Records", "records", "logEvents", "Events", "Messages", "kinesis"].contains(&path);
        match path.split_once('.') {
            Some((first, _)) => {
                Some(format!("{} || {}", exists(&vec![first.to_owned()]), exists(&vec![path.to_owned()])))
            }
            None if is_list => Some(exists(&vec![path.to_owned()])),
            None if path.eq_ignore_ascii_case("data") => {
                let path = printed(&vec![path.to_owned()]);
                Some(format!("(exists({path}) && (match({path}, r'^(?:e|H4sI)') ?? true))"))
            }
            // Both are keys of other objects as well: of events in ECS, and of what operators make.
            None if path == EVENT_BRIDGE || path == "event" => Some(self.envelope(&vec![path.to_owned()])),
            None => {
                let path = vec![path.to_owned()];
                Some(format!("({} && {})", exists(&path), self.json_text(&path, true)))
            }
        }
    }

    /// What lets a record through by what stands at this path, which is an envelope.
    fn envelope(&self, path: &Path) -> String {
        let mut inside = vec![self.json_text(path, false), exists_element(path)];
        inside.extend(self.event(path));
        let firsts = self.envelopes().map(|path| path.split('.').next().unwrap_or(path).to_owned());
        let wholes = self.envelopes().filter(|path| path.contains('.')).map(str::to_owned);
        inside.extend(self.nested(path, firsts.chain(wholes).chain(self.event_root_begins())));
        guarded(path, &inside)
    }

    /// What the key of event_root may begin with, in any of its spellings.
    fn event_root_begins(&self) -> impl Iterator<Item = String> {
        (1..=self.event_root.len()).map(|levels| self.event_root[..levels].join("."))
    }

    /// Whether there are such keys at all.
    fn nested(&self, path: &Path, keys: impl Iterator<Item = String>) -> Vec<String> {
        let all: Vec<String> = keys.map(|key| exists(&[path.clone(), vec![key]].concat())).collect();
        if all.len() < 6 || path.is_empty() {
            all
        } else {
            vec![format!("(is_object({}) && ({}))", printed(path), all.join(" || "))]
        }
    }

    /// What lets an event through that stands at this path.
    fn event(&self, root: &Path) -> Vec<String> {
        let mut any = Vec::new();
        for dialect in self.dialects {
            match self.alternatives {
                [Alternative { action: Some(tests), provider: None }] => any.extend(at(root, ACTION, *dialect, tests)),
                [Alternative { action: None, provider: Some(tests) }] => {
                    any.extend(at(root, PROVIDER, *dialect, tests));
                }
                _ => any.push(self.fits(|field, tests| one_of(&at(root, field, *dialect, tests)))),
            }
            let mut firsts: Vec<&str> = Vec::new();
            for field in [ACTION, PROVIDER] {
                if let Some((first, _)) = needs::path(field, *dialect).split_once('.')
                    && !firsts.contains(&first)
                {
                    firsts.push(first);
                }
            }
            let arrays = firsts.iter().map(|first| exists_element(&[root.clone(), vec![(*first).to_owned()]].concat()));
            any.extend(arrays);
        }
        any
    }

    /// What lets a text through that may be an event in JSON; `others` says what it says of anything but text.
    fn json_text(&self, path: &Path, others: bool) -> String {
        let path = printed(path);
        self.fits(|_, tests| match expression::of_json_text(tests) {
            Some(expression) => format!("(match({path}, r'{expression}') ?? {others})"),
            None if others => format!("!is_null({path})"),
            None => format!("is_string({path})"),
        })
    }

    /// That one of the alternatives fits. With several, most events are told apart by their action alone.
    fn fits(&self, passes: impl Fn(&'static str, &[Comparison]) -> String) -> String {
        let fits = |alternative: &Alternative| {
            let fields = [(PROVIDER, &alternative.provider), (ACTION, &alternative.action)];
            let tests = fields.into_iter().filter_map(|(field, tests)| Some(passes(field, tests.as_deref()?)));
            all_of(&tests.collect::<Vec<_>>())
        };
        let [only] = self.alternatives else {
            let one = one_of(&self.alternatives.iter().map(fits).collect::<Vec<_>>());
            let actions: Option<Vec<&[Comparison]>> =
                self.alternatives.iter().map(|alternative| alternative.action.as_deref()).collect();
            return match actions {
                Some(actions) => all_of(&[passes(ACTION, &super::distinct(actions.concat())), one]),
                None => one,
            };
        };
        fits(only)
    }
}

/// What lets a value through at one of the places where the dialect may have it.
fn at(root: &Path, field: &'static str, dialect: Dialect, tests: &[Comparison]) -> Vec<String> {
    let expression = expression::of_value(tests, "^", "$");
    let levels: Vec<&str> = needs::path(field, dialect).split('.').collect();
    let passes = |path: Path| {
        let path = printed(&[root.clone(), path].concat());
        format!("(exists({path}) && (match({path}, r'{expression}') ?? true))")
    };
    spellings(&levels).into_iter().rev().map(passes).collect()
}

/// That something stands there, and one of these holds inside.
fn guarded(path: &Path, inside: &[String]) -> String {
    // VRL takes a new line behind an operator, but not behind a parenthesis.
    format!("({} && ({}))", exists(path), inside.join(" ||\n").replace('\n', "\n  "))
}

fn exists(path: &Path) -> String {
    format!("exists({})", printed(path))
}

fn exists_element(path: &Path) -> String {
    format!("exists({}[0])", printed(path))
}

fn one_of(conditions: &[String]) -> String {
    joined(conditions, " || ")
}

fn all_of(conditions: &[String]) -> String {
    joined(conditions, " && ")
}

fn joined(conditions: &[String], operator: &str) -> String {
    match conditions {
        [only] => only.clone(),
        _ => format!("({})", conditions.join(operator)),
    }
}

fn printed(path: &Path) -> String {
    let level = |name: &String| {
        let is_word = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if is_word { format!(".{name}") } else { format!(".\"{name}\"") }
    };
    path.iter().map(level).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use firstseen_engine::rule::{builtin, compile};

    fn printed(settings: &str) -> String {
        let pack = compile::compile(Some(("firstseen.toml", settings)), &builtin::FILES, &[]).expect("it compiles");
        let condition = condition(&Candidates::of(&pack));
        condition.strip_prefix(HEADER).expect("the header comes first").to_owned()
    }

    #[test]
    fn builtin_rules_ask_for_one_name_in_every_dialect() {
        let of_the_record = "\
(exists(.eventName) && (match(.eventName, r'^(?i:GetCallerIdentity)$') ?? true)) ||
(exists(.EventName) && (match(.EventName, r'^(?i:GetCallerIdentity)$') ?? true)) ||
(exists(.event.action) && (match(.event.action, r'^(?i:GetCallerIdentity)$') ?? true)) ||
(exists(.\"event.action\") && (match(.\"event.action\", r'^(?i:GetCallerIdentity)$') ?? true)) ||
exists(.event[0]) ||
((!is_string(.eventVersion) || .eventVersion == \"\") && (";
        assert!(printed("").starts_with(of_the_record), "{}", printed(""));
    }

    #[test]
    fn each_envelope_is_looked_into_or_let_through() {
        let text = r#"r'(?i:"GetCallerIdentity\\*")|\\u|ata\\*"'"#;
        let printed = printed("dialect = \"cloudtrail\"");
        for list in ["Records", "records", "logEvents", "Events", "Messages", "Sns", "kinesis"] {
            assert!(printed.contains(&format!("exists(.{list}) ||")), "{list} in {printed}");
        }
        for key in ["CloudTrailEvent", "Message", "Body", "body", "message", "log"] {
            assert!(
                printed.contains(&format!("(exists(.{key}) && (match(.{key}, {text}) ?? true))")),
                "{key} in {printed}"
            );
        }
        for key in ["data", "Data"] {
            let let_through = format!("(exists(.{key}) && (match(.{key}, r'^(?:e|H4sI)') ?? true))");
            assert!(printed.contains(&let_through), "{key} in {printed}");
        }
        for key in ["detail", "event"] {
            let inside = format!(
                "(exists(.{key}) && ((match(.{key}, {text}) ?? false) ||\n    exists(.{key}[0]) ||\n    (exists(.{key}.eventName) && "
            );
            assert!(printed.contains(&inside), "{key} in {printed}");
            assert!(printed.contains(&format!("exists(.{key}.Records)")), "{key} in {printed}");
        }
    }

    #[test]
    fn a_dialect_makes_it_short() {
        let (all, one) = (printed(""), printed("dialect = \"cloudtrail\""));
        assert!(one.starts_with(
            "(exists(.eventName) && (match(.eventName, r'^(?i:GetCallerIdentity)$') ?? true)) ||\n((!is_"
        ));
        assert!(!one.contains("EventName") && !one.contains("event.action") && one.len() < all.len());
        assert!(!printed("dialect = \"ecs\"").contains("eventVersion"), "ECS events may say eventVersion");
    }
}
