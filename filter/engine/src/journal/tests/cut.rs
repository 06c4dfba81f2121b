//! The process ends at any byte of any write: what was appended stays.
//!
//! An append that was cut short is dropped, and says so by `torn`; all before it is there. A replacement counts from the
//! moment on that it is in its place, and not before. Opening again what was mended finds it whole.

use std::vec::Vec;

use super::memory::{Disk, Step};
use super::script::{Action, BEGIN, Event, Life, Played, play, script};
use super::state::{State, opened, recovered};
use crate::journal::{MAX_RECORDS_LEN, keeper};
use crate::new_terms::fingerprint::EventHash;
use crate::new_terms::history::owner::Purpose;
use crate::rule::Sync;
use crate::storage::REPLACEMENT_FILE;

/// What a process has left on the disk after some steps.
#[derive(Debug, Default, Clone)]
struct Left {
    file: Option<Vec<u8>>,
    replacement: Vec<u8>,
}

impl Left {
    fn after(&mut self, step: &Step) {
        match step {
            Step::Append(bytes) => self.file.as_mut().expect("a file").extend_from_slice(bytes),
            Step::AppendToReplacement(bytes) => self.replacement.extend_from_slice(bytes),
            Step::Create => self.replacement.clear(),
            Step::Replace { .. } => self.file = Some(core::mem::take(&mut self.replacement)),
            Step::Sync => {}
            Step::SetAside => panic!("nothing is damaged"),
        }
    }
}

/// A file that is read is exactly this state, and but for so many bytes at its end is whole.
fn is(bytes: &[u8], capacity: u32, state: &State, torn: usize) {
    let recovered = recovered(bytes, capacity).expect("a state file");
    assert_eq!((recovered.damaged, recovered.torn), (0, torn as u64), "of {} bytes", bytes.len());
    assert!(State::of(&recovered.history) == *state, "another state in {} bytes", bytes.len());
}

/// The same, and opening it for good gives the same; again, and again.
fn is_for_good(left: &Left, capacity: u32, state: &State, torn: usize) {
    let bytes = left.file.as_deref().expect("a file");
    is(bytes, capacity, state, torn);
    let disk = Disk::with_file(bytes);
    disk.put(REPLACEMENT_FILE, &left.replacement);
    let mut recoveries = Vec::new();
    for _ in 0..3 {
        let (keeper, history, notices) = opened(&disk, Sync::None, capacity);
        assert!(keeper.is_durable() && notices.is_empty(), "{notices:?}");
        assert!(State::of(&history) == *state, "another state after mending");
        assert_eq!(history.repairs().damaged_at, 0);
        recoveries.push(history.repairs().recoveries);
        is(&disk.state_file(), capacity, state, 0);
    }
    let once = u32::from(torn > 0);
    assert_eq!(recoveries, [once, once, once]);
}

/// How closely a step is looked at.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
enum Look {
    Away,
    /// At what is there before it.
    Before,
    /// At what is there when it was cut short at any byte.
    AtEveryByte,
    /// The same, and what opening that for good makes of it.
    ForGood,
}

/// Cuts a life short in each step.
fn cut(played: &Played, capacity: u32, look: impl Fn(usize) -> Look) {
    let mut left = Left::default();
    for (number, step) in played.tape.iter().enumerate() {
        // What is committed before the step is there; at its end, so is what the step commits.
        let before = played.committed(number).checked_sub(1).map(|at| &played.commits[at].state);
        let look = look(number);
        let check = |left: &Left, torn| match before {
            Some(state) if look == Look::ForGood => is_for_good(left, capacity, state, torn),
            Some(state) => is(left.file.as_deref().expect("a file"), capacity, state, torn),
            None => assert_eq!(left.file, None, "nothing is committed before there is a file"),
        };
        if look != Look::Away {
            check(&left, 0);
        }
        match step {
            Step::Append(bytes) if look >= Look::AtEveryByte => {
                for len in 1..bytes.len() {
                    let mut cut = left.clone();
                    cut.file.as_mut().expect("a file").extend_from_slice(&bytes[..len]);
                    check(&cut, len);
                }
            }
            Step::AppendToReplacement(bytes) if look == Look::ForGood => {
                for len in 1..bytes.len() {
                    let mut cut = left.clone();
                    cut.replacement.extend_from_slice(&bytes[..len]);
                    check(&cut, 0);
                }
            }
            _ => {}
        }
        left.after(step);
    }
    assert_eq!(left.file.as_ref(), Some(&played.file), "the tape is what was done");
    is(&played.file, capacity, &played.commits.last().expect("a batch").state, 0);
}

#[test]
fn at_every_byte_of_a_short_life() {
    const CAPACITY: u32 = 10;
    let played = play(&script(60, 16), Sync::None, CAPACITY);
    let state = &played.commits.last().expect("a batch").state;
    assert!(!state.ghosts.is_empty() && state.owners.iter().any(|owner| owner.standing.held > 0), "{state:?}");
    let tuples = state.owners.iter().filter(|owner| owner.purpose == Purpose::Tuples);
    assert!(tuples.map(|owner| owner.standing).all(|standing| standing.evictions > 0), "{state:?}");
    assert!(state.owners.iter().any(|owner| owner.standing.expired_until > 0), "{state:?}");
    let beginning = played.commits[1].steps;
    cut(&played, CAPACITY, |step| if step <= beginning || step % 8 == 0 { Look::ForGood } else { Look::AtEveryByte });
}

/// Of few enough terms that all of them are short when they are compacted.
const TERMS: u32 = 14;
/// Never reached.
const ROOM: u32 = 100;

#[test]
fn at_every_byte_around_a_compaction() {
    let played = play(&script(9000, TERMS), Sync::None, ROOM);
    let replaced: Vec<usize> =
        (0..played.tape.len()).filter(|at| matches!(played.tape[*at], Step::Replace { .. })).collect();
    assert!(replaced.len() >= 3, "{replaced:?}, the first at the beginning");
    let near = |step: usize| (replaced[1] - 8..replaced[1] + 8).contains(&step);
    let create = played.tape[..replaced[1]].iter().rposition(|step| *step == Step::Create);
    assert!(near(create.expect("a replacement")), "the whole replacement");
    cut(&played, ROOM, |step| match step {
        _ if near(step) => Look::AtEveryByte,
        _ if step % 100 == 0 || replaced.contains(&step) => Look::Before,
        _ => Look::Away,
    });
}

#[test]
fn at_every_byte_of_every_append_of_a_long_life() {
    // Batches stand for themselves: what is cut off behind a file of thousands of them is cut off behind one that was
    // just compacted to the same state, which takes less time to read.
    let stride = if cfg!(debug_assertions) { 41 } else { 1 };
    let (disk, compacted) = (Disk::default(), Disk::default());
    let mut life = Life::open(&disk, Sync::None, ROOM);
    let (mut at, mut appended, mut replacements) = (0, 0, 0);
    for event in script(9000, TERMS) {
        keeper::write(&mut *compacted.storage(), &life.history, false).expect("the disk is well");
        let mut file = compacted.state_file();
        let before = State::of(&life.history);
        disk.take_tape();
        life.live(&event);
        let tape = disk.take_tape();
        let [Step::Append(bytes)] = &tape[..] else {
            replacements += usize::from(!tape.is_empty());
            continue;
        };
        // The clock of an event that changed nothing is nowhere.
        let before = State { clock: recovered(&file, ROOM).expect("a file").history.clock(), ..before };
        let compacted = file.len();
        file.extend_from_slice(bytes);
        while at < bytes.len() {
            is(&file[..compacted + at], ROOM, &before, at);
            at += stride;
        }
        at -= bytes.len();
        is(&file, ROOM, &State::of(&life.history), 0);
        appended += bytes.len();
    }
    assert!(appended > 512 << 10 && replacements >= 2, "{appended} bytes, {replacements} replacements");
}

#[test]
fn an_event_too_long_for_one_batch_may_be_there_in_part() {
    const TUPLES: u32 = 4000;
    let event = |number| Event {
        at: BEGIN + number,
        hash: EventHash(number),
        actions: (0..TUPLES).map(|term| Action::Long(number * TUPLES + term)).collect(),
    };
    let disk = Disk::default();
    let mut life = Life::open(&disk, Sync::None, 100_000);
    life.live(&event(1));
    let file = disk.state_file();
    let before = State::of(&life.history).entries();
    life.live(&event(2));
    let tape = disk.take_tape();
    let Some(Step::Append(bytes)) = tape.last() else { panic!("{} steps", tape.len()) };
    assert!(bytes.len() > 2 * MAX_RECORDS_LEN);
    // 16 bytes before the records and 5 of the clock; a record takes 35. The batches are all full but for the last.
    let mut expected = 0;
    for len in (1..bytes.len()).step_by(997).chain((1..60).map(|less| bytes.len() - less)) {
        let cut = recovered(&[&file[..], &bytes[..len]].concat(), 100_000).expect("a state file");
        assert_eq!(cut.damaged, 0);
        let there = State::of(&cut.history).entries() - before;
        assert!(there >= expected && there * 35 <= len && there < TUPLES as usize, "{there} tuples in {len} bytes");
        assert!(len < there * 35 + MAX_RECORDS_LEN + 100, "only {there} tuples in {len} bytes");
        expected = there;
        // Delivered again, the event finds all of its tuples new.
        let mut life = Life::of(opened(&Disk::with_file(&file), Sync::None, 100_000).0, cut.history);
        if len % 17 == 0 {
            assert_eq!(life.observe(&event(2)), [true; TUPLES as usize]);
            assert_eq!(State::of(&life.history).entries(), before + TUPLES as usize);
        }
    }
    assert!(expected > 3000, "{expected}");
}

#[test]
fn life_goes_on_after_any_cut_as_if_there_had_been_none() {
    const CAPACITY: u32 = 10;
    let events = script(120, 16);
    let disk = Disk::default();
    let mut uninterrupted = Life::open(&disk, Sync::None, CAPACITY);
    let mut files = Vec::from([disk.state_file()]);
    let mut new = Vec::new();
    for event in &events {
        new.push(uninterrupted.observe(event));
        uninterrupted.commit(event.at);
        files.push(disk.state_file());
    }
    let end = State::of(&uninterrupted.history);
    for (done, file) in files.iter().enumerate() {
        let next = files.get(done + 1).map_or(&file[..], |next| if next.len() < file.len() { file } else { next });
        let written = file.len() + (next.len() - file.len()) * (done % 7) / 7;
        let mut life = Life::open(&Disk::with_file(&next[..written]), Sync::None, CAPACITY);
        if done > 0 && done % 2 == 0 {
            // The event before was written, but nobody got to know.
            let again = life.observe(&events[done - 1]);
            let missing = new[done - 1].iter().zip(&again).filter(|(first, again)| **first && !**again).count();
            assert_eq!(missing, 0, "event {done} is delivered again, and {missing} of its tuples are known");
            continue;
        }
        for (event, new) in events[done..].iter().zip(&new[done..]) {
            assert_eq!(life.observe(event), *new, "after {done} events");
            life.commit(event.at);
        }
        assert_eq!(State::of(&life.history), end, "after {done} events");
    }
}
