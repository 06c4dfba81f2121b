//! What a baseline covers: the time of which a rule has learned all that there was.
//!
//! In: what was left out, and what the engine learned, rule by rule. Out: why nothing is covered, if that is so; and the lines of the
//! summary that say which rules learned nothing from which events. Not here: the rule that decides ([`Learned::covers`]).

use std::io::{self, Write};
use std::path::Path;

use firstseen_engine::Learned;

use crate::commands::{counted, grouped, printable};

const NOT_COVERED: &str =
    ": nothing of this counts as covered for it, so it stays warming unless it was covered before";

/// Why nothing of a baseline counts as covered, if that is so: what was not read may have been of any time and for any rule.
pub(crate) fn reason_against(failed: bool, left_out: usize, unreadable_times: usize) -> Option<String> {
    let mut reasons = Vec::new();
    if failed {
        reasons.push("a file could not be read".to_owned());
    }
    if left_out > 0 {
        let were = if left_out == 1 { "was" } else { "were" };
        reasons.push(format!("{} {were} left out", counted(left_out, "text")));
    }
    if unreadable_times > 0 {
        let events = if unreadable_times == 1 { "event has" } else { "events have" };
        reasons.push(format!("{} {events} a time that cannot be read", grouped(unreadable_times)));
    }
    (!reasons.is_empty()).then(|| reasons.join(", and "))
}

/// Says which events taught a rule nothing, and what does not count as covered.
pub(crate) fn report(
    out: &mut impl Write,
    learned: &[Learned],
    uncovered: Option<&str>,
    asn: Option<&Path>,
) -> io::Result<()> {
    for learned in learned {
        let rule = printable(&learned.rule_id);
        for (field, count) in &learned.lacking {
            let count = usize::try_from(*count).unwrap_or(usize::MAX);
            write!(out, "{} lacked {} and taught rule {rule} nothing", counted(count, "event"), printable(field))?;
            match (learned.covers(), asn) {
                (true, _) => writeln!(out, ", which few enough of them did for the rule to be covered")?,
                (false, None) if field.starts_with("source.as.") => {
                    writeln!(out, "{NOT_COVERED}; give the AS organisations with --asn FILE")?;
                }
                (false, _) => writeln!(out, "{NOT_COVERED}")?,
            }
        }
    }
    if let Some(reason) = uncovered {
        writeln!(
            out,
            "nothing of this counts as covered, because {reason}: rules that were not covered before stay warming"
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(lacking: &[(&str, u64)], asked: u64, asn: bool) -> String {
        let lacking = lacking.iter().map(|(field, count)| ((*field).to_owned(), *count)).collect();
        let learned = Learned { rule_id: "r1".to_owned(), asked, lacking };
        let mut out = Vec::new();
        report(&mut out, &[learned], None, asn.then_some(Path::new("asn.mmdb"))).expect("memory");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn what_a_rule_did_not_learn_is_said() {
        let organization = "source.as.organization.name";
        assert_eq!(said(&[], 7, false), "");
        assert_eq!(
            said(&[(organization, 240)], 240, false),
            "240 events lacked source.as.organization.name and taught rule r1 nothing: nothing of this counts as covered for \
             it, so it stays warming unless it was covered before; give the AS organisations with --asn FILE\n"
        );
        assert!(said(&[(organization, 11)], 1000, true).ends_with("unless it was covered before\n"));
        assert!(
            said(&[(organization, 10)], 1000, true).ends_with("few enough of them did for the rule to be covered\n")
        );
        assert!(said(&[("user.id", 999)], 1000, true).ends_with("few enough of them did for the rule to be covered\n"));
        assert!(said(&[("user.id", 1000)], 1000, true).ends_with("unless it was covered before\n"));
    }

    #[test]
    fn what_was_not_read_is_not_covered() {
        assert_eq!(reason_against(false, 0, 0), None);
        assert_eq!(reason_against(false, 1, 0).as_deref(), Some("1 text was left out"));
        assert_eq!(
            reason_against(true, 2000, 1).as_deref(),
            Some("a file could not be read, and 2,000 texts were left out, and 1 event has a time that cannot be read")
        );
    }
}
