//! The power is lost at any moment: what was synced stays, and of the rest any beginning.
//!
//! With `sync = "data"` whatever the history said to be known or new is still known then; how many events a group has had
//! may be lost. With `sync = "none"` more may be lost, but always the end of what there was, and a file of which more than
//! that is missing is told as damaged. A replacement that was synced is in its place for good; one that was not may be in
//! its place without its end, or the file before it may be there again.

use std::vec::Vec;

use super::memory::{Disk, Step};
use super::script::{Action, BEGIN, Event, Life, Played, play, script};
use super::state::{State, recovered};
use crate::journal::recovery::Unreadable;
use crate::journal::{HEADER_LEN, NoHeader};
use crate::new_terms::fingerprint::EventHash;
use crate::rule::Sync;

/// A file, and how much of it is on the medium for sure.
#[derive(Debug, Default, Clone)]
struct Medium {
    file: Option<(Vec<u8>, usize)>,
    replacement: Vec<u8>,
    /// What may be in the file's place again.
    before: Option<(Vec<u8>, usize)>,
    /// Whether the directory is synced only with the next sync of the file in it.
    has_slow_directory: bool,
}

impl Medium {
    fn after(&mut self, step: &Step) {
        match step {
            Step::Append(bytes) => self.file.as_mut().expect("a file").0.extend_from_slice(bytes),
            Step::AppendToReplacement(bytes) => self.replacement.extend_from_slice(bytes),
            Step::Create => self.replacement.clear(),
            Step::Sync => {
                let (file, synced) = self.file.as_mut().expect("a file");
                *synced = file.len();
                self.before = None;
            }
            Step::Replace { sync } => {
                let file = core::mem::take(&mut self.replacement);
                let synced = if *sync { file.len() } else { 0 };
                let before = self.file.replace((file, synced));
                self.before = if *sync && !self.has_slow_directory { None } else { before };
            }
            Step::SetAside => panic!("nothing is damaged"),
        }
    }

    /// Each file that may be there when the power comes back; the ends of what is not sure are cut off in steps.
    fn possible(&self, stride: usize) -> impl Iterator<Item = &[u8]> {
        let files = self.file.iter().chain(&self.before);
        files.flat_map(move |(file, synced)| {
            (*synced..file.len()).step_by(stride).chain([file.len()]).map(|len| &file[..len])
        })
    }
}

const CAPACITY: u32 = 60;

/// Plays a life whose file is compacted, and loses the power around that.
fn compact_and_lose(medium: Medium) {
    let played = play(&script(5000, 14), Sync::Data, CAPACITY);
    let is_replaced = |at: &usize| matches!(played.tape[*at], Step::Replace { .. });
    // The first is that of the empty file.
    let replaced = (0..played.tape.len()).filter(is_replaced).nth(1).expect("a compaction");
    let near = |step: usize| step.abs_diff(replaced) < 6;
    lose(&played, medium, 11, near, |committed, latest, _| check_synced(&played, committed, latest));
}

fn check_synced(played: &Played, committed: usize, latest: Option<usize>) {
    let latest = latest.expect("nothing is damaged");
    let lost = played.commits[..committed].get(latest + 1..).unwrap_or_default();
    assert!(lost.iter().all(|commit| !commit.decides), "batches {latest} to {committed}");
}

/// Loses the power after each of the steps that are looked at, and shows each batch that may be the latest then.
fn lose(
    played: &Played,
    mut medium: Medium,
    stride: usize,
    look: impl Fn(usize) -> bool,
    mut check: impl FnMut(usize, Option<usize>, &[u8]),
) {
    for (number, step) in played.tape.iter().enumerate() {
        medium.after(step);
        let committed = played.committed(number + 1);
        for file in medium.possible(stride).filter(|_| look(number)) {
            let latest = match recovered(file, CAPACITY) {
                Ok(recovered) if recovered.damaged == 0 => {
                    let state = State::of(&recovered.history);
                    // What was written last, but not yet committed, may be there as well.
                    let latest = played.commits[..played.commits.len().min(committed + 1)]
                        .iter()
                        .rposition(|commit| commit.state == state);
                    let told = std::format!("{} of {} bytes", file.len(), played.file.len());
                    Some(latest.unwrap_or_else(|| panic!("after step {number}: a state that never was, in {told}")))
                }
                Ok(_) | Err(Unreadable::Header(NoHeader::Damaged)) => None,
                Err(error) => panic!("{error:?}"),
            };
            check(committed, latest, file);
        }
    }
}

#[test]
fn what_was_synced_is_known() {
    let played = play(&script(100, 14), Sync::Data, CAPACITY);
    assert!(played.commits.iter().any(|commit| !commit.decides));
    let stride = if cfg!(debug_assertions) { 7 } else { 1 };
    let check = |committed, latest, _: &[u8]| check_synced(&played, committed, latest);
    lose(&played, Medium::default(), stride, |_| true, check);
}

#[test]
fn what_was_synced_is_known_after_a_compaction_as_well() {
    compact_and_lose(Medium::default());
}

#[test]
fn what_was_synced_is_known_wherever_the_new_name_is() {
    compact_and_lose(Medium { has_slow_directory: true, ..Medium::default() });
}

#[test]
fn what_was_not_synced_is_lost_from_its_end_on() {
    let played = play(&script(60, 14), Sync::None, CAPACITY);
    let check = |_, latest: Option<usize>, file: &[u8]| {
        assert!(latest.is_some() || file.len() < HEADER_LEN, "damage in the middle");
    };
    lose(&played, Medium::default(), 1, |step| step % 10 == 0, check);
}

#[test]
fn a_compacted_file_that_lost_its_end_is_told_as_damaged() {
    let disk = Disk::default();
    let mut life = Life::open(&disk, Sync::None, 10_000);
    let mut tape = disk.take_tape();
    let mut known = 0;
    for number in 0..600 {
        let actions = (0..60).map(|term| Action::Long(number * 7 % 40 * 60 + term)).collect();
        life.live(&Event { at: BEGIN + number * 3000, hash: EventHash(number + 1), actions });
        let written = disk.take_tape();
        if written.contains(&Step::Create) {
            known = life.history.len();
        }
        tape.extend(written);
        if known > 0 {
            break;
        }
    }
    assert!(known > 1000, "compacted with {known} tuples");
    let mut medium = Medium::default();
    tape.iter().for_each(|step| medium.after(step));
    for file in medium.possible(997) {
        match recovered(file, 10_000) {
            Err(Unreadable::Header(NoHeader::Damaged)) => {}
            Err(error) => panic!("{error:?}"),
            Ok(recovered) => {
                // What is missing was known long ago.
                let there = recovered.history.len();
                assert!(
                    there + 60 >= known || recovered.damaged > 0,
                    "{there} of {known} tuples, and nothing is damaged"
                );
            }
        }
    }
}
