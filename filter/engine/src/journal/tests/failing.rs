//! The file cannot be kept: the history goes on in memory, says so once, and is durable again as soon as it can be.
//!
//! Whatever fails, the same is new as if nothing had failed, and where the history calls itself durable, the file tells
//! all that it knows.

use std::format;
use std::string::String;
use std::vec::Vec;

use super::memory::{Disk, Fault, Step};
use super::script::{Action, BEGIN, Event, Life, script};
use super::state::{State, notices, opened, recovered};
use crate::journal::keeper::MIN_LEN;
use crate::new_terms::fingerprint::EventHash;
use crate::rule::Sync;
use crate::storage::{REPLACEMENT_FILE, STATE_FILE, StorageError};

const CAPACITY: u32 = 20;

/// What is new in each event when nothing fails.
fn undisturbed(events: &[Event]) -> Vec<Vec<bool>> {
    let mut life = Life::open(&Disk::default(), Sync::None, CAPACITY);
    let mut observe = |event| {
        let new = life.observe(event);
        life.commit(BEGIN);
        new
    };
    events.iter().map(&mut observe).collect()
}

/// A life that is watched.
struct Watched {
    disk: Disk,
    life: Life,
    /// All that was told so far.
    told: Vec<String>,
    arrival: u32,
}

impl Watched {
    fn open(disk: &Disk, sync: Sync) -> Watched {
        let (keeper, history, told) = opened(disk, sync, CAPACITY);
        let mut watched = Watched { disk: disk.clone(), life: Life::of(keeper, history), told, arrival: BEGIN };
        watched.look();
        watched
    }

    /// One more notice is there exactly where the history ceased to be durable or is so again.
    fn look(&mut self) {
        self.told.extend(notices(&mut self.life.keeper));
        let failing = |told: &String| told.starts_with("the history is kept in memory only, since firstseen.state");
        let healed = |told: &String| told.contains("the history is durable again");
        for (number, told) in self.told.iter().enumerate() {
            assert!(if number.is_multiple_of(2) { failing(told) } else { healed(told) }, "{:?}", self.told);
        }
        assert_eq!(self.is_durable(), self.told.len().is_multiple_of(2), "{:?}", self.told);
    }

    fn is_durable(&self) -> bool {
        self.life.keeper.is_durable()
    }

    /// An event that arrives so many seconds after the one before.
    fn live(&mut self, event: &Event, after: u32) -> Vec<bool> {
        self.arrival += after;
        let new = self.life.observe(event);
        let changed = !self.life.history.changes().is_empty();
        self.life.commit(self.arrival);
        self.look();
        if self.is_durable() && changed {
            self.check_file();
        }
        new
    }

    fn check_file(&self) {
        let recovered = recovered(&self.disk.state_file(), CAPACITY).expect("a state file");
        assert_eq!((recovered.damaged, recovered.torn), (0, 0));
        assert!(State::of(&recovered.history) == State::of(&self.life.history), "the file says something else");
    }
}

/// An event that changes something whatever was before.
fn another(number: u32) -> Event {
    let action = if number.is_multiple_of(2) { Action::Short(10_000 + number) } else { Action::Hold(1) };
    Event { at: BEGIN + 10_000, hash: EventHash(10_000 + number), actions: Vec::from([action]) }
}

#[test]
fn any_one_operation_may_fail() {
    let events = script(40, 16);
    let undisturbed = undisturbed(&events);
    for sync in [Sync::None, Sync::Data] {
        let count = {
            let disk = Disk::default();
            let mut watched = Watched::open(&disk, sync);
            events.iter().for_each(|event| drop(watched.live(event, 3)));
            disk.operations()
        };
        assert!(count > 80);
        let mut failed = 0;
        // Not the first: what cannot be opened is not written.
        for at in 1..count {
            let disk = Disk::default();
            disk.set_fault(Some(Fault::Once { at, error: StorageError::IO }));
            let mut watched = Watched::open(&disk, sync);
            for (event, new) in events.iter().zip(&undisturbed) {
                assert_eq!(watched.live(event, 3), *new, "operation {at} fails");
            }
            (0..5).for_each(|number| drop(watched.live(&another(number), 3)));
            assert!(watched.is_durable(), "operation {at} failed: {:?}", watched.told);
            failed += watched.told.len() / 2;
            let state = State::of(&watched.life.history);
            let (_, history, told) = opened(&disk, sync, CAPACITY);
            assert!(told.is_empty() && State::of(&history) == state, "{told:?}");
            assert_eq!(history.repairs().recoveries, 0);
        }
        // All of them are needed.
        assert_eq!(failed, count - 1);
    }
}

#[test]
fn everything_may_fail_from_any_operation_on() {
    let events = script(40, 16);
    let undisturbed = undisturbed(&events);
    for at in (1..100).step_by(3) {
        let disk = Disk::default();
        disk.set_fault(Some(Fault::From { at, error: StorageError::NO_SPACE }));
        let mut watched = Watched::open(&disk, Sync::None);
        let mut states = Vec::from([State::of(&watched.life.history)]);
        for (event, new) in events.iter().zip(&undisturbed) {
            assert_eq!(watched.live(event, 3), *new, "from operation {at} on");
            states.push(State::of(&watched.life.history));
        }
        if watched.told.is_empty() {
            continue;
        }
        assert!(!watched.is_durable() && watched.told.len() == 1 && watched.told[0].contains("(no space left)"));
        // What is on the disk is what there was at some time.
        if let Some(file) = disk.get(STATE_FILE) {
            let recovered = recovered(&file, CAPACITY).expect("a state file");
            assert_eq!(recovered.damaged, 0);
            let state = State::of(&recovered.history);
            assert!(states.contains(&state) || state.owners.is_empty(), "from operation {at} on");
        }
        disk.set_fault(None);
        watched.live(&another(0), 10);
        assert!(watched.is_durable() && watched.told.len() == 2, "{:?}", watched.told);
        watched.check_file();
    }
}

#[test]
fn a_file_that_cannot_be_opened_or_read_is_left_alone() {
    let disk = Disk::default();
    let mut watched = Watched::open(&disk, Sync::None);
    (0..20).for_each(|number| drop(watched.live(&another(number), 1)));
    let file = disk.state_file();
    // It is opened, and read to its end.
    for at in 0..3 {
        let disk = Disk::with_file(&file);
        disk.set_fault(Some(Fault::Once { at, error: StorageError::IO }));
        let (mut keeper, mut history, told) = opened(&disk, Sync::None, CAPACITY);
        assert!(!keeper.is_durable() && history.is_empty());
        let cannot = format!("{STATE_FILE} cannot be read (input or output error)");
        assert!(told.len() == 1 && told[0].starts_with(&cannot), "{told:?}");
        let mut life = Life::of(keeper, history);
        (0..20).for_each(|number| life.live(&another(number)));
        (keeper, history) = (life.keeper, life.history);
        assert!(!keeper.is_durable() && keeper.take_notice().is_none() && history.len() == 10);
        assert_eq!(disk.state_file(), file);
        assert!(disk.take_tape().is_empty());
    }
}

#[test]
fn it_is_tried_again_after_ten_seconds_or_a_thousand_events() {
    let disk = Disk::default();
    let mut watched = Watched::open(&disk, Sync::None);
    disk.set_read_only(true);
    watched.live(&another(0), 0);
    assert!(!watched.is_durable() && watched.told[0].contains("(read-only file system)"), "{:?}", watched.told);
    for seconds in 1..10 {
        let operations = disk.operations();
        watched.live(&another(seconds), 1);
        assert_eq!(disk.operations(), operations, "after {seconds} s");
    }
    let operations = disk.operations();
    watched.live(&another(10), 1);
    assert!(disk.operations() > operations && watched.told.len() == 1);
    disk.set_read_only(false);
    (0..9).for_each(|number| drop(watched.live(&another(number), 1)));
    assert!(!watched.is_durable());
    watched.live(&another(9), 1);
    assert!(watched.is_durable() && watched.told.len() == 2);

    // The arrival time stands still, or goes back.
    disk.set_read_only(true);
    watched.live(&another(1), 1);
    disk.set_read_only(false);
    watched.arrival -= 5000;
    (2001..3000).for_each(|number| drop(watched.live(&another(number), 0)));
    assert!(!watched.is_durable());
    watched.live(&another(3000), 0);
    assert!(watched.is_durable() && watched.told.len() == 4);
    watched.check_file();
}

#[test]
fn a_full_disk() {
    for spare in [0, 1, 20, 60, 200] {
        let disk = Disk::default();
        let mut watched = Watched::open(&disk, Sync::None);
        disk.set_space(Some(disk.state_file().len() + spare));
        let mut new = 0;
        (0..40).for_each(|number| new += watched.live(&another(number), 1).len());
        assert!(new == 20 && !watched.is_durable() && watched.told.len() == 1);
        assert!(watched.told[0].contains("(no space left)"), "{:?}", watched.told);
        disk.set_space(None);
        (40..51).for_each(|number| drop(watched.live(&another(number), 1)));
        assert!(watched.is_durable() && watched.told.len() == 2);
        watched.check_file();
        assert_eq!(disk.get(REPLACEMENT_FILE), None);
    }
}

#[test]
fn a_directory_that_may_not_be_written() {
    let disk = Disk::default();
    disk.set_read_only(true);
    let mut watched = Watched::open(&disk, Sync::None);
    assert!(watched.told.len() == 1 && !watched.is_durable());
    (0..30).for_each(|number| drop(watched.live(&another(number), 1)));
    disk.set_read_only(false);
    (0..10).for_each(|number| drop(watched.live(&another(number), 1)));
    assert!(watched.told.len() == 2 && watched.is_durable());
}

#[test]
fn no_directory() {
    let disk = Disk::default();
    disk.set_unreachable(Some(StorageError::NO_DIRECTORY));
    let mut watched = Watched::open(&disk, Sync::None);
    let operations = disk.operations();
    (0..2000).for_each(|number| drop(watched.live(&another(number), 1)));
    assert!(watched.told.len() == 1 && watched.told[0].contains("(the host gives no directory)"));
    assert_eq!(disk.operations(), operations, "there will never be one");
}

#[test]
fn a_directory_that_vanishes_and_comes_back() {
    let disk = Disk::default();
    let mut watched = Watched::open(&disk, Sync::None);
    (0..10).for_each(|number| drop(watched.live(&another(number), 1)));
    disk.remove_directory();
    (10..30).for_each(|number| drop(watched.live(&another(number), 1)));
    assert!(watched.told.len() == 1 && !watched.is_durable());
    disk.set_unreachable(None);
    (30..40).for_each(|number| drop(watched.live(&another(number), 1)));
    assert!(watched.told.len() == 2 && watched.is_durable());
    watched.check_file();

    // It is not there yet when the filter starts.
    let disk = Disk::default();
    disk.set_unreachable(Some(StorageError::NOT_FOUND));
    let mut watched = Watched::open(&disk, Sync::None);
    assert!(watched.told.len() == 1 && watched.told[0].contains("(no such directory)"));
    disk.set_unreachable(None);
    (0..10).for_each(|number| drop(watched.live(&another(number), 1)));
    assert!(watched.is_durable());
}

#[test]
fn a_file_that_is_removed_is_written_anew() {
    let disk = Disk::default();
    let mut life = Life::open(&disk, Sync::None, CAPACITY);
    (0..5).for_each(|number| life.live(&another(number)));
    disk.remove(STATE_FILE);
    life.live(&another(5));
    assert!(life.keeper.is_durable());
    let told = notices(&mut life.keeper);
    assert_eq!(told, [format!("{STATE_FILE} was removed, and is written anew: the history is durable again")]);
    life.live(&another(6));
    let recovered = recovered(&disk.state_file(), CAPACITY).expect("a state file");
    assert!(State::of(&recovered.history) == State::of(&life.history) && life.keeper.take_notice().is_none());
}

/// A life whose next event has its file compacted, the file, and that event.
fn before_compaction(disk: &Disk) -> (Watched, Event) {
    let mut watched = Watched::open(disk, Sync::None);
    let mut number = 0;
    let mut next = || {
        number += 1;
        let actions = (0..200).map(|term| Action::Long(number * 200 + term)).collect();
        Event { at: BEGIN + 20_000 + number, hash: EventHash(20_000 + number), actions }
    };
    loop {
        let event = next();
        // Each tuple takes 35 bytes, and another one is evicted for it, in 19.
        if disk.state_file().len() + event.actions.len() * 54 > MIN_LEN as usize {
            return (watched, event);
        }
        watched.life.live(&event);
    }
}

#[test]
fn any_operation_of_a_compaction_may_fail() {
    let operations = {
        let disk = Disk::default();
        let (mut watched, event) = before_compaction(&disk);
        let before = disk.operations();
        disk.take_tape();
        watched.live(&event, 0);
        assert!(matches!(disk.take_tape().last(), Some(Step::Replace { .. })));
        disk.operations() - before
    };
    assert_eq!(operations, 5, "status, append, create, write, replace");
    // What fails before that is no matter of the compaction.
    for failing in 2..operations {
        let disk = Disk::default();
        let (mut watched, event) = before_compaction(&disk);
        let (len, before) = (disk.state_file().len(), disk.operations());
        disk.set_fault(Some(Fault::Once { at: before + failing, error: StorageError::NO_SPACE }));
        watched.live(&event, 0);
        assert!(watched.is_durable() && watched.told.is_empty(), "operation {failing}: {:?}", watched.told);
        assert!(disk.state_file().len() > len, "a file that is too long is better than none");
        // It is tried again when the file has grown by what lives.
        let mut events = 0;
        while disk.state_file().len() > len {
            watched.life.live(&another(events));
            events += 1;
            assert!(events < 3000, "{} bytes", disk.state_file().len());
        }
        watched.look();
        watched.check_file();
        assert!(events > 5 && watched.told.is_empty());
    }
}

#[test]
fn there_is_no_space_for_a_compaction() {
    let disk = Disk::default();
    let (mut watched, event) = before_compaction(&disk);
    // Space for what is appended, but not for a replacement besides.
    let len = disk.state_file().len();
    disk.set_space(Some(len + event.actions.len() * 54 + 400));
    watched.live(&event, 0);
    assert!(watched.is_durable() && watched.told.is_empty(), "{:?}", watched.told);
}
