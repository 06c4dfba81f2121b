//! A life of a history, event by event.
//!
//! In: how long it is, and how many terms there are in it. Out: tuples of two rules, groups, refreshes, late events, alerts
//! that are held, windows that change, silences after which things expire, and, where the capacity is small, evictions;
//! what a storage was told to do meanwhile; and what the history knew after each batch. The same seed is the same life.

use std::format;
use std::vec::Vec;

use crate::journal::keeper::Keeper;
use crate::new_terms::Sighting;
use crate::new_terms::fingerprint::{EventHash, Fingerprint, Key};
use crate::new_terms::history::entry::Seconds;
use crate::new_terms::history::owner::Purpose;
use crate::new_terms::history::{Change, History, OwnerNumber};
use crate::rule::Sync;

use super::memory::{Disk, Step, Tape};
use super::state::{State, opened};

pub(super) const BEGIN: Seconds = 1_790_812_800;

/// Windows of the rules, in seconds: of 10 seconds' granularity, of 1,000, and of the groups.
const SHORT: u32 = 1000;
const LONG: u32 = 100_000;
const DURATION: u32 = 500;

#[derive(Debug, Clone, Copy)]
pub(super) enum Action {
    Short(u32),
    Long(u32),
    Group(u32),
    Hold(u32),
    Window(u32),
}

#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) at: Seconds,
    pub(super) hash: EventHash,
    pub(super) actions: Vec<Action>,
}

/// Numbers that look random; the same seed gives the same ones.
#[derive(Debug)]
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from((self.0 >> 16) % u64::from(bound)).expect("below a number of 32 bits")
    }
}

/// So many events, of so many terms.
pub(super) fn script(events: usize, terms: u32) -> Vec<Event> {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut clock = BEGIN;
    let mut event = |number: usize| {
        clock += match dice.below(40) {
            0 => 3 * SHORT,
            1..10 => 0,
            _ => dice.below(40),
        };
        let late = if dice.below(8) == 0 { dice.below(2 * SHORT) } else { 0 };
        let action = |dice: &mut Dice| match dice.below(30) {
            0 => Action::Hold(1 + dice.below(5)),
            1..8 => Action::Group(dice.below(terms)),
            8..16 => Action::Long(dice.below(terms)),
            _ => Action::Short(dice.below(terms)),
        };
        let actions = match dice.below(50) {
            0 => Vec::from([Action::Window(SHORT + dice.below(3))]),
            _ => (0..1 + dice.below(4)).map(|_| action(&mut dice)).collect(),
        };
        Event { at: clock - late, hash: EventHash(1 + u32::try_from(number).expect("a short script")), actions }
    };
    (0..events).map(&mut event).collect()
}

/// A filter at work: its history, and who keeps it.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) keeper: Keeper,
    pub(super) history: History,
    owners: [OwnerNumber; 3],
}

impl Life {
    pub(super) fn open(disk: &Disk, sync: Sync, capacity: u32) -> Life {
        let (keeper, history, notices) = opened(disk, sync, capacity);
        assert!(notices.is_empty(), "{notices:?}");
        Life::of(keeper, history)
    }

    /// Its rules are loaded.
    pub(super) fn of(keeper: Keeper, mut history: History) -> Life {
        // The window that the script set last stays.
        let short =
            history.owners().find(|(_, owner)| owner.rule_id == "short").map(|(_, owner)| owner.standing.window);
        let mut load = |purpose, id, fields: &[&str], window| {
            history.load_owner(purpose, id, fields, window).expect("room for a rule")
        };
        let owners = [
            load(Purpose::Tuples, "short", &["user.name"], short.unwrap_or(SHORT)),
            load(Purpose::Tuples, "long", &["user.name", "source.ip"], LONG),
            load(Purpose::Groups, "long", &["cloud.region"], DURATION),
        ];
        history.forget_changes();
        let mut life = Life { keeper, history, owners };
        life.history.begin(BEGIN);
        life.keeper.commit(&mut life.history, BEGIN);
        life
    }

    pub(super) fn print(&self, term: u32) -> Fingerprint {
        self.history.key().print(&[format!("term {term}")])
    }

    /// What an event makes of the history; it is not written yet. What was new comes back.
    pub(super) fn observe(&mut self, event: &Event) -> Vec<bool> {
        let [short, long, groups] = self.owners;
        let Event { at, hash, actions } = event;
        let mut new = Vec::new();
        for action in actions {
            let history = &mut self.history;
            let print = |term: u32| Key::print(&history.key(), &[format!("term {term}")]);
            match *action {
                Action::Short(term) => {
                    let print = print(term);
                    new.push(history.observe(short, print, *at, *hash) != Sighting::Known);
                }
                Action::Long(term) => {
                    let print = print(term);
                    new.push(history.observe(long, print, *at, *hash) != Sighting::Known);
                }
                Action::Group(term) => {
                    let print = print(term);
                    let _ = history.observe_group(groups, print, *at, *hash);
                }
                Action::Hold(count) => history.hold(long, count),
                Action::Window(window) => {
                    history.load_owner(Purpose::Tuples, "short", &["user.name"], window).expect("it is there");
                }
            }
        }
        new
    }

    pub(super) fn commit(&mut self, arrival: Seconds) {
        self.keeper.commit(&mut self.history, arrival);
    }

    pub(super) fn live(&mut self, event: &Event) {
        self.observe(event);
        self.commit(event.at);
    }
}

/// A batch that was committed.
#[derive(Debug)]
pub(super) struct Committed {
    /// How many steps of the tape were done by then.
    pub(super) steps: usize,
    /// Whether it says of anything that it is known.
    pub(super) decides: bool,
    pub(super) state: State,
}

/// A life from an empty disk on.
#[derive(Debug)]
pub(super) struct Played {
    pub(super) tape: Tape,
    /// The empty file first.
    pub(super) commits: Vec<Committed>,
    pub(super) file: Vec<u8>,
}

impl Played {
    /// How many batches were committed when so many steps were done.
    pub(super) fn committed(&self, steps: usize) -> usize {
        self.commits.partition_point(|commit| commit.steps <= steps)
    }
}

/// Plays the events.
pub(super) fn play(events: &[Event], sync: Sync, capacity: u32) -> Played {
    let disk = Disk::default();
    let (keeper, history, _) = opened(&disk, sync, capacity);
    let mut tape = disk.take_tape();
    let first = Committed { steps: tape.len(), decides: true, state: State::of(&history) };
    let mut life = Life::of(keeper, history);
    tape.extend(disk.take_tape());
    let begun = Committed { steps: tape.len(), decides: true, state: State::of(&life.history) };
    let mut commits = Vec::from([first, begun]);
    for event in events {
        life.observe(event);
        let decides = life.history.changes().iter().any(|change| !matches!(change, Change::Count(..)));
        let changed = !life.history.changes().is_empty();
        life.commit(event.at);
        assert!(life.keeper.is_durable());
        let steps = disk.take_tape();
        // What is appended is committed before it is compacted.
        let compaction = steps.iter().position(|step| *step == Step::Create).filter(|at| *at > 0);
        if changed {
            let steps = tape.len() + compaction.unwrap_or(steps.len());
            commits.push(Committed { steps, decides, state: State::of(&life.history) });
        }
        tape.extend(steps);
    }
    Played { tape, commits, file: disk.state_file() }
}
