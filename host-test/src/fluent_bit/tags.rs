//! Which tags a step sees, and whether two steps may see the same.
//!
//! Bounds: [`MAX_CELLS`]. Not here: what two regular expressions have in common.

use super::{Property, Section};

/// Inputs that give each record the tag that they are told, or their own name and a number. Others, such as `http` and `forward`,
/// may take it from what arrives.
const TAGGED_AS_TOLD: [&str; 22] = [
    "cpu",
    "disk",
    "docker",
    "docker_events",
    "dummy",
    "event_test",
    "exec",
    "exec_wasi",
    "head",
    "kafka",
    "kmsg",
    "mem",
    "mqtt",
    "netif",
    "proc",
    "random",
    "serial",
    "stdin",
    "syslog",
    "systemd",
    "tail",
    "tcp",
];

/// How many pairs of places two patterns may have and still be compared; any longer ones count as overlapping.
const MAX_CELLS: usize = 1 << 20;

/// The tags that a step sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tags {
    /// Those that this pattern matches, in which `*` stands for any text.
    Pattern(String),
    /// Those that begin with a match of this regular expression.
    Expression(String),
    /// Nobody can tell.
    Any,
    /// None: a filter that matches nothing.
    None,
}

impl Tags {
    /// Whether one tag may be among both.
    pub fn overlap(&self, other: &Tags) -> bool {
        match (self, other) {
            (Tags::None, _) | (_, Tags::None) => false,
            (Tags::Any, _) | (_, Tags::Any) => true,
            (Tags::Pattern(one), Tags::Pattern(other)) => overlap(one.as_bytes(), other.as_bytes()),
            (Tags::Expression(_), Tags::Expression(_)) => true,
            (Tags::Expression(expression), Tags::Pattern(tag)) | (Tags::Pattern(tag), Tags::Expression(expression)) => {
                tag.contains('*') || begins_with_match(expression, tag)
            }
        }
    }

    /// What `Match` and `Match_Regex` say, if one of them is there.
    pub(super) fn of_match(properties: &[Property]) -> Option<Tags> {
        let last = |key: &str| properties.iter().rev().find(|property| property.key == key);
        let is_unknown = |property: Option<&Property>| property.is_some_and(|property| property.value.contains("${"));
        match (last("match_regex"), last("match")) {
            (expression, pattern) if is_unknown(expression) || is_unknown(pattern) => Some(Tags::Any),
            // Either of them is enough.
            (Some(_), Some(_)) => Some(Tags::Any),
            (Some(expression), None) => Some(Tags::Expression(expression.value.clone())),
            (None, pattern) => Some(Tags::Pattern(pattern?.value.clone())),
        }
    }

    /// The tags that an input gives.
    pub(super) fn of_input(input: &Section) -> Tags {
        let plugin = input.plugin.to_lowercase();
        if !TAGGED_AS_TOLD.contains(&plugin.as_str())
            || input.properties.iter().any(|property| property.key.starts_with("tag_"))
            || input.is_unknown("tag")
        {
            return Tags::Any;
        }
        match input.value("tag") {
            // `tail` and `systemd` put a name in the place of a star.
            Some(tag) => Tags::Pattern(tag.to_owned()),
            None => Tags::Pattern(format!("{plugin}.*")),
        }
    }

    /// The tags that `rewrite_tag` makes by this text: what stands behind the first `$` may be anything.
    pub fn of_template(template: &str) -> Tags {
        match template.split_once('$') {
            Some((before, _)) => Tags::Pattern(format!("{before}*")),
            None => Tags::Pattern(template.to_owned()),
        }
    }
}

/// Whether a tag begins with a match of an expression, which is how Fluent Bit applies `Match_Regex`. An expression that only Fluent
/// Bit's own library understands may match.
fn begins_with_match(expression: &str, tag: &str) -> bool {
    match regex::Regex::new(&format!("^(?:{expression})")) {
        // Between slashes, with options behind them.
        _ if expression.starts_with('/') => true,
        Ok(expression) => expression.is_match(tag),
        Err(_) => true,
    }
}

/// Whether two patterns match one same text.
fn overlap(one: &[u8], other: &[u8]) -> bool {
    if (one.len() + 1).saturating_mul(other.len() + 1) > MAX_CELLS {
        return true;
    }
    // `below[column]`: whether the rests of both behind the row and the column overlap. Rows go from the end of `one` up.
    let mut below: Vec<bool> = Vec::new();
    for row in (0..=one.len()).rev() {
        let mut cells = vec![false; other.len() + 1];
        for column in (0..=other.len()).rev() {
            let down = |cells: &[bool]| cells.get(column).copied().unwrap_or(false);
            let right = cells.get(column + 1).copied().unwrap_or(false);
            cells[column] = match (one.get(row), other.get(column)) {
                (None, None) => true,
                // A star ends here, or takes in one more of the other.
                (Some(b'*'), _) | (_, Some(b'*')) => {
                    let star_ends = if one.get(row) == Some(&b'*') { down(&below) } else { right };
                    let star_goes_on = if one.get(row) == Some(&b'*') { right } else { down(&below) };
                    star_ends || star_goes_on
                }
                (Some(byte), Some(same)) => byte == same && below.get(column + 1).copied().unwrap_or(false),
                _ => false,
            };
        }
        below = cells;
    }
    below.first().copied().unwrap_or(false)
}

/// Whether a file's name matches a pattern, in which `*` stands for any text and `?` for one character.
pub(super) fn name_matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut in_name) = (0, 0);
    // Where the last star stands, and where in the name it ends for now.
    let mut star: Option<(usize, usize)> = None;
    while in_name < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, in_name));
                at += 1;
            }
            Some(char) if *char == '?' || *char == name[in_name] => {
                at += 1;
                in_name += 1;
            }
            _ => match &mut star {
                Some((star_at, end)) => {
                    *end += 1;
                    (at, in_name) = (*star_at + 1, *end);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|char| *char == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_overlap_if_one_tag_satisfies_both() {
        for (one, other, expected) in [
            ("aws.cloudtrail", "aws.cloudtrail", true),
            ("aws.cloudtrail", "aws.cloudtrai", false),
            ("aws.*", "aws.cloudtrail", true),
            ("*", "aws.cloudtrail", true),
            ("aws.*", "gcp.*", false),
            ("aws.*", "*.cloudtrail", true),
            ("a*c", "ab*d", false),
            ("a**c", "*bc", true),
            ("a*", "a", true),
            ("*", "*", true),
            ("", "a", false),
        ] {
            let [one, other] = [one, other].map(|pattern| Tags::Pattern(pattern.to_owned()));
            assert_eq!(one.overlap(&other), expected, "{one:?} {other:?}");
            assert_eq!(other.overlap(&one), expected, "{other:?} {one:?}");
            assert!(one.overlap(&Tags::Any) && !one.overlap(&Tags::None));
        }
        let expression = |expression: &str| Tags::Expression(expression.to_owned());
        let tag = |tag: &str| Tags::Pattern(tag.to_owned());
        assert!(expression("aws|gcp").overlap(&tag("aws.cloudtrail")) && expression("^aws").overlap(&tag("aws.x")));
        assert!(!expression("cloudtrail").overlap(&tag("aws.cloudtrail")), "it must match from the beginning");
        assert!(expression("aws").overlap(&tag("*")) && expression("(?<a>").overlap(&tag("x")));
        assert_eq!(Tags::of_template("alerts.$TAG[1].x"), Tags::Pattern("alerts.*".to_owned()));
    }

    #[test]
    fn names_match_as_in_a_shell() {
        for (pattern, name, expected) in [
            ("*.conf", "a.conf", true),
            ("*.conf", "a.conf.bak", false),
            ("a*b*c", "axbxbc", true),
            ("a*b*c", "axc", false),
            ("?-x", "1-x", true),
            ("?-x", "12-x", false),
            ("*", "", true),
        ] {
            assert_eq!(name_matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
