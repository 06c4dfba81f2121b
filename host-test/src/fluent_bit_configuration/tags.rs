//! Which tags a step sees, and whether two steps may see the same.
//!
//! Bounds: [`MAX_CELLS`]. Not here: regular expressions, which may match any tag.

use super::Property;

/// How many pairs of places two patterns may have and still be compared; any longer ones count as overlapping.
const MAX_CELLS: usize = 1 << 20;

/// The tags that a step sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tags {
    /// Those that this pattern matches, in which `*` stands for any text.
    Pattern(String),
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
        }
    }

    /// What `Match` and `Match_Regex` say, if one of them is there.
    pub(super) fn of_match(properties: &[Property]) -> Option<Tags> {
        if properties.iter().any(|property| property.key == "match_regex") {
            return Some(Tags::Any);
        }
        let pattern = properties.iter().rev().find(|property| property.key == "match")?;
        Some(Tags::Pattern(pattern.value.clone()))
    }

    /// The tags that an input gives: its `Tag`, unless other properties make tags of what arrives.
    pub(super) fn of_input(properties: &[Property]) -> Tags {
        let tag = properties.iter().rev().find(|property| property.key == "tag");
        match tag {
            Some(tag) if !properties.iter().any(|property| property.key.starts_with("tag_")) => {
                Tags::Pattern(tag.value.clone())
            }
            _ => Tags::Any,
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
