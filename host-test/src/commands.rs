//! One file a command. Each takes its arguments and returns the program's exit code. Here: what several of them do.

use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;

use firstseen::asn::AsLookup;
use firstseen::configuration;
use firstseen::history_file::HistoryFile;
use firstseen::ownership;
use firstseen_engine::storage::STATE_FILE;

pub(crate) mod baseline;
pub(crate) mod bench;
pub(crate) mod check;
pub(crate) mod compile;
pub(crate) mod replay;
pub(crate) mod run;
pub(crate) mod sample;
pub(crate) mod serve;
pub(crate) mod standard_output;
pub(crate) mod state;

/// What is said of input without a single CloudTrail event.
pub(crate) const NO_EVENT: &str = "no CloudTrail event was found: see event_root in firstseen.toml";

/// The database of `--asn`, if one is named, for the rules of the directory, or of the built-in module without one.
pub(crate) fn as_lookup(
    file: Option<&Path>,
    directory: Option<&Path>,
    is_built_in: bool,
) -> anyhow::Result<Option<AsLookup>> {
    let Some(file) = file else { return Ok(None) };
    let pack = configuration::starting_pack(directory)?;
    // Another module may have other built-in rules.
    let is_known = is_built_in || directory.is_some_and(|directory| directory.join(configuration::PACK).exists());
    AsLookup::open(file, &pack.settings, is_known.then_some(&pack)).map(Some)
}

/// That the module will run the rules and settings of the directory; a warning if its pack is out of date.
pub(crate) fn check_configuration(directory: Option<&Path>) -> anyhow::Result<()> {
    let Some(directory) = directory else {
        return Ok(());
    };
    warn_of_open_directory(directory);
    if let Some(newer) = configuration::newer_than_pack(directory)? {
        let pack = directory.join(configuration::PACK);
        let (pack, newer, directory) = (pack.display(), newer.display(), directory.display());
        tracing::warn!("{pack} is older than {newer}; run `firstseen compile {directory}` to have the changes");
    }
    Ok(())
}

/// A warning, if every user of the machine may change what is in a configuration directory.
pub(crate) fn warn_of_open_directory(directory: &Path) {
    if ownership::is_writable_by_all(directory) {
        let directory = directory.display();
        tracing::warn!(
            "{directory} is writable by every user of this machine, who may replace its rules and its history; run `chmod o-w {directory}`"
        );
    }
}

/// A warning, if part of the history was lost.
pub(crate) fn warn_of_damage(file: &HistoryFile) {
    if file.damaged > 0 {
        let bytes = grouped(usize::try_from(file.damaged).unwrap_or(usize::MAX));
        tracing::warn!("{bytes} bytes of {STATE_FILE} are damaged, and what they held is forgotten");
    }
}

/// The exit code of a command that has come to `code` and wrote to standard output with this outcome; a reader that went away
/// changes nothing.
pub(crate) fn exit_code(code: u8, written: anyhow::Result<()>) -> anyhow::Result<ExitCode> {
    match written {
        Err(error) if standard_output::failure(&error) != Some(ErrorKind::BrokenPipe) => Err(error),
        _ => Ok(ExitCode::from(code)),
    }
}

/// The bytes of so many KiB.
pub(crate) fn bytes(kib: u32) -> usize {
    kib as usize * 1024
}

/// `1 rule`, `20,000 records`.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    counted_as(count, noun, &format!("{noun}s"))
}

/// `1 entry`, `20,000 entries`.
pub(crate) fn counted_as(count: usize, one: &str, many: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        _ => format!("{} {many}", grouped(count)),
    }
}

/// The text without control characters: what an event or a rule says must not steer the terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect()
}

/// `20000` as `20,000`.
pub(crate) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_in_threes() {
        assert_eq!([0, 999, 1000, 123_456, 1_234_567].map(grouped), ["0", "999", "1,000", "123,456", "1,234,567"]);
        assert_eq!([0, 1, 2000].map(|count| counted(count, "rule")), ["0 rules", "1 rule", "2,000 rules"]);
        assert_eq!([1, 2].map(|count| counted_as(count, "entry", "entries")), ["1 entry", "2 entries"]);
    }

    #[test]
    fn what_an_event_says_does_not_steer_the_terminal() {
        assert_eq!(printable("a\u{1b}[31mb\n"), "a\u{fffd}[31mb\u{fffd}");
    }
}
