//! A history as NDJSON: what `state export` writes and `state import` reads.
//!
//! In and out: a [`History`]. One object a line, which says by its first key what it is: `firstseen_state` (format version,
//! key, clock), `owner` (a rule's tuples or groups), `entry`, `ghost`; an owner comes before its entries. Owners are in the
//! order of their rules' ids, entries in that of their fingerprints, so that equal histories make equal files. Times are
//! RFC 3339 in UTC. The key makes fingerprints comparable, and whoever has it can find out by trial what they are of: keep
//! the export as private as the logs. Not here: the state file's own format.

use std::collections::HashMap;
use std::io::{self, BufRead, Write};

use anyhow::{Context, bail, ensure};
use firstseen_engine::event::timestamp;
use firstseen_engine::new_terms::fingerprint::{EventHash, Fingerprint, Key};
use firstseen_engine::new_terms::history::entry::{Entry, Seconds, millis, seconds};
use firstseen_engine::new_terms::history::ghosts::Ghost;
use firstseen_engine::new_terms::history::owner::{Owner, Purpose, Standing};
use firstseen_engine::new_terms::history::{History, OwnerNumber, Repairs};
use serde::{Deserialize, Serialize};

/// The version of this format.
const VERSION: u32 = 1;

/// One line.
#[derive(Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Line {
    State { firstseen_state: u32, key: String, clock: String, recoveries: u32, damaged: Option<String> },
    Owner(OwnerLine),
    Entry { entry: String, owner: u16, first_seen: String, last_seen: String, detail: u32, introduced_by: u32 },
    Ghost { ghost: usize, mark: u32, last_seen: String },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnerLine {
    owner: u16,
    rule_id: String,
    purpose: String,
    fields: String,
    fingerprint: String,
    window_seconds: u32,
    since: Option<String>,
    until: Option<String>,
    evictions: u32,
    evicted_until: Option<String>,
    capacity_needed: u32,
    expired_until: Option<String>,
    held: u32,
}

/// What a purpose is called.
pub fn purpose_name(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Tuples => "new_terms",
        Purpose::Groups => "suppression",
    }
}

/// A second as RFC 3339.
pub fn rfc3339(time: Seconds) -> String {
    timestamp::format(millis(time))
}

/// The same; `None` for 0, which stands for no time.
pub fn some_time(time: Seconds) -> Option<String> {
    (time != 0).then(|| rfc3339(time))
}

fn time(text: &str) -> anyhow::Result<Seconds> {
    let millis = timestamp::parse(text).with_context(|| format!("{text:?} is no time in RFC 3339"))?;
    Ok(seconds(millis))
}

fn optional_time(text: Option<&str>) -> anyhow::Result<Seconds> {
    text.map_or(Ok(0), time)
}

fn hex(bytes: &[u8; 16]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> anyhow::Result<[u8; 16]> {
    let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = digits.then(|| u128::from_str_radix(text, 16).ok()).flatten();
    Ok(number.with_context(|| format!("{text:?} is not 32 hexadecimal digits"))?.to_be_bytes())
}

/// Writes the history.
///
/// # Errors
/// It cannot be written.
pub fn export(history: &History, out: &mut impl Write) -> io::Result<()> {
    let Repairs { recoveries, damaged_at } = history.repairs();
    let mut line = |line: Line| -> io::Result<()> {
        serde_json::to_writer(&mut *out, &line)?;
        out.write_all(b"\n")
    };
    line(Line::State {
        firstseen_state: VERSION,
        key: hex(&history.key().0),
        clock: rfc3339(history.clock()),
        recoveries,
        damaged: some_time(damaged_at),
    })?;
    let mut owners: Vec<&Owner> = history.owners().map(|(_, owner)| owner).filter(|owner| owner.is_in_use()).collect();
    owners.sort_by_key(|owner| (&owner.rule_id, owner.purpose, &owner.fields));
    for (number, owner) in (0..).zip(owners) {
        let Standing { window, since, until, evictions, evicted_until, capacity_needed, expired_until, held } =
            owner.standing;
        line(Line::Owner(OwnerLine {
            owner: number,
            rule_id: owner.rule_id.clone(),
            purpose: purpose_name(owner.purpose).to_owned(),
            fields: owner.fields.clone(),
            fingerprint: hex(&owner.print.0),
            window_seconds: window,
            since: some_time(since),
            until: some_time(until),
            evictions,
            evicted_until: some_time(evicted_until),
            capacity_needed,
            expired_until: some_time(expired_until),
            held,
        }))?;
        let mut entries: Vec<_> = owner.entries().collect();
        entries.sort_by_key(|(print, _)| *print);
        for (print, Entry { first_seen, last_seen, detail, introduced_by }) in entries {
            line(Line::Entry {
                entry: hex(&print.0),
                owner: number,
                first_seen: rfc3339(first_seen),
                last_seen: rfc3339(last_seen),
                detail,
                introduced_by: introduced_by.0,
            })?;
        }
    }
    for (place, Ghost { mark, last_seen }) in history.ghosts() {
        line(Line::Ghost { ghost: place, mark, last_seen: rfc3339(last_seen) })?;
    }
    Ok(())
}

/// Reads an export.
///
/// # Errors
/// A line that is none of an export, with its number.
pub fn import(source: impl BufRead) -> anyhow::Result<History> {
    let mut history: Option<History> = None;
    let mut owners = HashMap::new();
    for (number, text) in (1..).zip(source.lines()) {
        let text = text?;
        if text.trim().is_empty() {
            continue;
        }
        let at = || format!("line {number}");
        let line: Line = serde_json::from_str(&text)
            .map_err(|_| anyhow::anyhow!("it is no line that `firstseen state export` writes"))
            .with_context(at)?;
        read(line, &mut history, &mut owners).with_context(at)?;
    }
    history.context("it is empty, and no export")
}

fn read(line: Line, history: &mut Option<History>, owners: &mut HashMap<u16, OwnerNumber>) -> anyhow::Result<()> {
    if let Line::State { firstseen_state, key, clock, recoveries, damaged } = line {
        ensure!(firstseen_state == VERSION, "the export is of version {firstseen_state}, expected {VERSION}");
        ensure!(history.is_none(), "a second export begins: import each by itself");
        let mut begun = History::new(u32::MAX, Key(from_hex(&key)?));
        begun.restore_clock(time(&clock)?);
        begun.restore_repairs(Repairs { recoveries, damaged_at: optional_time(damaged.as_deref())? });
        *history = Some(begun);
        return Ok(());
    }
    let Some(history) = history else {
        bail!("expected the line with firstseen_state first, as `firstseen state export` writes it")
    };
    match line {
        Line::State { .. } => {}
        Line::Owner(line) => {
            let purpose = match &*line.purpose {
                "new_terms" => Purpose::Tuples,
                "suppression" => Purpose::Groups,
                other => bail!("purpose is {other:?}, expected \"new_terms\" or \"suppression\""),
            };
            let mut owner = Owner::new(Fingerprint(from_hex(&line.fingerprint)?), purpose, &line.rule_id, &line.fields);
            owner.standing = Standing {
                window: line.window_seconds,
                since: optional_time(line.since.as_deref())?,
                until: optional_time(line.until.as_deref())?,
                evictions: line.evictions,
                evicted_until: optional_time(line.evicted_until.as_deref())?,
                capacity_needed: line.capacity_needed,
                expired_until: optional_time(line.expired_until.as_deref())?,
                held: line.held,
            };
            let number = OwnerNumber(u16::try_from(owners.len()).context("it has more than 65,536 owners")?);
            owners.insert(line.owner, number);
            history.restore_owner(number, owner);
        }
        Line::Entry { entry, owner, first_seen, last_seen, detail, introduced_by } => {
            let owner = *owners.get(&owner).with_context(|| format!("owner {owner} was not defined before"))?;
            let numbers = Entry {
                first_seen: time(&first_seen)?,
                last_seen: time(&last_seen)?,
                detail,
                introduced_by: EventHash(introduced_by),
            };
            history.restore_entry(owner, Fingerprint(from_hex(&entry)?), numbers);
        }
        Line::Ghost { ghost, mark, last_seen } => {
            history.restore_ghost(ghost, Ghost { mark, last_seen: time(&last_seen)? });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history() -> History {
        let mut history = History::new(3, Key(*b"0123456789abcdef"));
        let tuples = history.load_owner(Purpose::Tuples, "rule-1", &["user.name", "cloud.region"], 864_000).unwrap();
        let groups = history.load_owner(Purpose::Groups, "rule-1", &["user.name"], 86_400).unwrap();
        history.begin(1_790_000_000);
        for number in 0..6_u32 {
            let print = history.key().print(&[number.to_string()]);
            history.observe(tuples, print, 1_790_000_000 + number * 50_000, EventHash(number + 1));
            history.observe_group(groups, print, 1_790_000_000 + number * 1000, EventHash(number + 1));
        }
        history.hold(tuples, 2);
        history
    }

    #[test]
    fn what_is_exported_is_imported_and_exported_again_byte_for_byte() {
        let mut first = Vec::new();
        export(&history(), &mut first).unwrap();
        let imported = import(&first[..]).unwrap();
        assert_eq!(imported.len(), 3);
        let mut second = Vec::new();
        export(&imported, &mut second).unwrap();
        assert_eq!(String::from_utf8(second).unwrap(), String::from_utf8(first.clone()).unwrap());
        let text = String::from_utf8(first).unwrap();
        assert!(
            text.starts_with(r#"{"firstseen_state":1,"key":"30313233343536373839616263646566","clock":"#),
            "{text}"
        );
        for kind in [r#"{"owner":0,"rule_id":"rule-1""#, r#"{"entry":""#, r#"{"ghost":"#, r#""held":2"#] {
            assert!(text.contains(kind), "{kind}: {text}");
        }
    }

    #[test]
    fn what_is_no_export_is_refused_with_its_line() {
        let good = {
            let mut text = Vec::new();
            export(&history(), &mut text).unwrap();
            String::from_utf8(text).unwrap()
        };
        let refused = |text: &str| format!("{:#}", import(text.as_bytes()).unwrap_err());
        assert_eq!(refused(""), "it is empty, and no export");
        assert_eq!(refused("{}"), "line 1: it is no line that `firstseen state export` writes");
        let (first, rest) = good.split_once('\n').unwrap();
        assert!(refused(rest).starts_with("line 1: expected the line with firstseen_state first"));
        assert!(
            refused(&good.replace("\"firstseen_state\":1", "\"firstseen_state\":2")).contains("version 2, expected 1")
        );
        assert!(refused(&format!("{good}{first}")).contains("a second export"));
        assert!(refused(&good.replace("\"new_terms\"", "\"x\"")).contains("line 2: purpose is \"x\""));
        let without_owners: Vec<&str> = good.lines().filter(|line| !line.starts_with("{\"owner\"")).collect();
        assert!(refused(&without_owners.join("\n")).contains("line 2: owner 0 was not defined before"));
    }
}
