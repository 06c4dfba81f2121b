//! The file stays within its bound, by being compacted, and nothing is lost by that.

use std::format;
use std::vec::Vec;

use super::memory::{Disk, Fault, Step};
use super::script::{Action, BEGIN, Dice, Event, Life, script};
use super::state::{State, opened, recovered};
use crate::journal::keeper::{self, MIN_LEN};
use crate::journal::live_len;
use crate::new_terms::fingerprint::{EventHash, Fingerprint, Key};
use crate::new_terms::history::ghosts::Ghost;
use crate::new_terms::history::owner::Purpose;
use crate::new_terms::history::{History, OwnerNumber};
use crate::rule::Sync;
use crate::storage::StorageError;

/// Lives with so much room, so that the file is compacted so many times; the file is within its bound and tells all.
fn live(events: impl Iterator<Item = Event>, capacity: u32, compactions: usize) {
    let disk = Disk::default();
    let mut life = Life::open(&disk, Sync::None, capacity);
    let (mut replaced, mut longest) = (0, 0);
    disk.take_tape();
    for (number, event) in events.enumerate() {
        life.observe(&event);
        if life.history.changes().is_empty() {
            continue;
        }
        life.commit(event.at);
        assert!(life.keeper.is_durable() && life.keeper.take_notice().is_none());
        let (len, live) = (disk.state_file().len() as u64, live_len(&life.history));
        longest = longest.max(len);
        assert!(len <= MIN_LEN.max(2 * live), "{len} bytes for {live} that live");
        let was_replaced = disk.take_tape().iter().any(|step| matches!(step, Step::Replace { .. }));
        replaced += usize::from(was_replaced);
        if was_replaced || number % 997 == 0 {
            let recovered = recovered(&disk.state_file(), capacity).expect("a state file");
            assert_eq!((recovered.damaged, recovered.torn), (0, 0));
            assert!(State::of(&recovered.history) == State::of(&life.history), "after event {number}");
        }
    }
    assert!(replaced >= compactions, "{replaced} compactions");
    assert!(longest > MIN_LEN - 1000, "{longest} bytes: it is not compacted sooner than it must be");
}

#[test]
fn a_small_history_is_compacted_at_its_least_length() {
    live(script(12_000, 14).into_iter(), 100, 3);
    live(script(12_000, 60).into_iter(), 40, 3);
}

#[test]
fn a_large_history_is_compacted_at_twice_its_length() {
    let mut dice = Dice(77);
    let events = (0..1200).map(|number| {
        let actions = (0..50).map(|_| match dice.below(9) {
            0 => Action::Group(dice.below(9000)),
            1..4 => Action::Short(dice.below(9000)),
            _ => Action::Long(dice.below(9000)),
        });
        Event { at: BEGIN + number * 40, hash: EventHash(number + 1), actions: actions.collect() }
    });
    live(events, 8000, 2);
}

/// Tuples and groups of all kinds, many in an event.
fn crowded(number: u32, dice: &mut Dice) -> Event {
    let mut action = |_| match dice.below(40) {
        0 => Action::Hold(1),
        1..10 => Action::Group(dice.below(30_000)),
        10..20 => Action::Short(dice.below(30_000)),
        _ => Action::Long(dice.below(60_000)),
    };
    Event { at: BEGIN + number, hash: EventHash(number + 1), actions: (0..200).map(&mut action).collect() }
}

#[test]
fn a_large_history_is_rewritten_a_part_with_each_event_and_any_of_them_may_be_the_last() {
    const CAPACITY: u32 = 50_000;
    let disk = Disk::default();
    let mut life = Life::open(&disk, Sync::None, CAPACITY);
    let mut dice = Dice(5);
    let (mut parts, mut most, mut rewrites) = (0, 0, 0);
    disk.take_tape();
    for number in 0..1500 {
        life.live(&crowded(number, &mut dice));
        assert!(life.keeper.is_durable() && life.keeper.take_notice().is_none());
        let steps = disk.take_tape();
        let written =
            steps.iter().map(|step| if let Step::AppendToReplacement(bytes) = step { bytes.len() } else { 0 }).sum();
        most = most.max(written);
        if written == 0 {
            continue;
        }
        parts += 1;
        // A crash now leaves the old file, or the new one.
        let recovered = recovered(&disk.state_file(), CAPACITY).expect("a state file");
        assert_eq!((recovered.damaged, recovered.torn), (0, 0));
        assert!(State::of(&recovered.history) == State::of(&life.history), "after event {number}");
        if steps.iter().any(|step| matches!(step, Step::Replace { .. })) {
            rewrites += 1;
            let (len, live) = (disk.state_file().len() as u64, live_len(&life.history));
            assert!(len < live + live / 10, "{len} bytes for {live} that live");
        }
    }
    assert!(rewrites >= 2 && parts >= 3 * rewrites, "{parts} parts of {rewrites} rewrites");
    assert!(most < 30_000 * 40, "{most} bytes with one event");
}

#[test]
fn a_rewrite_that_fails_in_any_part_is_tried_again() {
    const CAPACITY: u32 = 50_000;
    let mut dice = Dice(6);
    let events: Vec<_> = (0..1500).map(|number| crowded(number, &mut dice)).collect();
    for failing in 0..6 {
        let disk = Disk::default();
        let mut life = Life::open(&disk, Sync::None, CAPACITY);
        let (mut writes, mut rewrites) = (0, 0);
        for event in &events {
            disk.take_tape();
            let operations = disk.operations();
            life.observe(event);
            if writes == failing && life.keeper.is_rewriting() {
                disk.set_fault(Some(Fault::Once { at: operations + 3, error: StorageError::NO_SPACE }));
                writes += 1;
            }
            life.commit(event.at);
            assert!(life.keeper.is_durable(), "the old file is still there");
            let steps = disk.take_tape();
            writes += usize::from(life.keeper.is_rewriting());
            rewrites += usize::from(steps.iter().any(|step| matches!(step, Step::Replace { .. })));
        }
        let recovered = recovered(&disk.state_file(), CAPACITY).expect("a state file");
        assert!(State::of(&recovered.history) == State::of(&life.history) && rewrites > 0, "{failing}: {rewrites}");
    }
}

#[test]
fn nothing_is_written_where_nothing_changed() {
    let disk = Disk::default();
    let mut life = Life::open(&disk, Sync::Data, 10);
    let event = Event { at: BEGIN, hash: EventHash(1), actions: Vec::from([Action::Short(1), Action::Long(1)]) };
    life.live(&event);
    disk.take_tape();
    for number in 0..10 {
        // The rule of the longer window notes a sighting once in 1,000 seconds.
        let actions = Vec::from([Action::Long(1)]);
        life.live(&Event { at: BEGIN + 1 + number, hash: EventHash(2 + number), actions });
    }
    assert_eq!(disk.take_tape().len(), 2, "one batch, and it is synced");
    life.live(&Event { at: BEGIN, hash: EventHash(20), actions: Vec::from([Action::Group(1)]) });
    assert_eq!(disk.take_tape().len(), 2);
    life.live(&Event { at: BEGIN, hash: EventHash(21), actions: Vec::from([Action::Group(1)]) });
    let tape = disk.take_tape();
    assert!(matches!(tape[..], [Step::Append(_)]), "how many events a group has had may be lost: {tape:?}");
    let (_, _, notices) = opened(&disk, Sync::Data, 10);
    assert!(notices.is_empty() && disk.take_tape().is_empty(), "a whole file is not written again");
}

#[test]
fn the_live_length_is_not_less_than_what_is_written_nor_much_more() {
    for (owners, entries, capacity) in [
        (0, 0, 10),
        (1, 0, 10),
        (1, 1, 10),
        (3, 100, 1000),
        (40, 40, 1000),
        (2, 3744, 5000),
        (2, 3745, 5000),
        (300, 30_000, 20_000),
        (2, 90_000, 100_000),
        (2, 90_000, 30_000),
    ] {
        let mut history = History::new(capacity, Key([3; 16]));
        let texts = |number: u32| "x".repeat((number * 37 % 1500) as usize);
        let numbers: Vec<_> = (0..owners)
            .map(|number| {
                let purpose = if number % 4 == 3 { Purpose::Groups } else { Purpose::Tuples };
                let id = format!("{number} {}", texts(number));
                history.load_owner(purpose, &id, &[&texts(number + 1)], 1000).expect("room")
            })
            .collect();
        history.begin(BEGIN);
        for number in 0..entries {
            let print = history.key().print(&[format!("{number}")]);
            history.observe(numbers[number % numbers.len()], print, BEGIN, EventHash(1));
        }
        let disk = Disk::default();
        let written = keeper::write(&mut *disk.storage(), &history, false).expect("the disk is well");
        assert_eq!(written, disk.state_file().len() as u64);
        let live = live_len(&history);
        let what = format!("{owners} owners, {entries} entries, {} ghosts", history.ghost_count());
        assert!(live >= written, "{what}: {live} for {written}");
        assert!(live <= written + written / 10 + 100, "{what}: {live} for {written}");
        let again = recovered(&disk.state_file(), capacity).expect("a state file");
        assert!(State::of(&again.history) == State::of(&history), "{what}");
    }
}

/// A file of 4,000 tuples, seen at so many different seconds; where it is, and whose they are.
fn large_file() -> (Disk, OwnerNumber) {
    let disk = Disk::default();
    let (mut keeper, mut history, _) = opened(&disk, Sync::None, 4000);
    let owner = history.load_owner(Purpose::Tuples, "rule", &["user.name"], 864_000).expect("room");
    history.begin(BEGIN);
    keeper.commit(&mut history, BEGIN);
    for second in 0..4000 {
        history.observe(owner, print(second), BEGIN + second, EventHash(1));
        keeper.commit(&mut history, BEGIN);
    }
    (disk, owner)
}

fn print(number: u32) -> Fingerprint {
    Key([9; 16]).print(&[format!("{number}")])
}

#[test]
fn a_smaller_capacity_keeps_what_was_seen_last() {
    let (disk, owner) = large_file();
    for _ in 0..2 {
        let (_, history, notices) = opened(&disk, Sync::None, 400);
        assert!(notices.is_empty() && history.len() == 400, "{notices:?}");
        for number in 0..4000 {
            let is_there = history.owner(owner).is_some_and(|owner| owner.get(print(number)).is_some());
            assert_eq!(is_there, number >= 3600, "{number}");
        }
        // The same from a file that was compacted.
        keeper::write(&mut *disk.storage(), &opened(&disk, Sync::None, 4000).1, false).expect("the disk is well");
    }
    let (_, history, _) = opened(&disk, Sync::None, 5000);
    assert_eq!((history.len(), history.standing(owner).evictions), (4000, 0));
}

#[test]
fn a_smaller_capacity_is_told() {
    let (disk, owner) = large_file();
    for _ in 0..2 {
        let standing = opened(&disk, Sync::None, 400).1.standing(owner);
        assert_eq!(standing.evicted_until, BEGIN + 3599);
        assert!(standing.capacity_needed > 400, "{standing:?}");
        keeper::write(&mut *disk.storage(), &opened(&disk, Sync::None, 4000).1, false).expect("the disk is well");
    }
}

#[test]
fn ghosts_are_counted() {
    let mut history = History::new(10, Key([3; 16]));
    for (place, last_seen, count) in [(5, 9, 1), (5, 10, 1), (6, 1, 2), (5, 0, 1), (5, 9, 2), (1 << 20, 9, 2)] {
        history.restore_ghost(place, Ghost { mark: 1, last_seen });
        assert_eq!((history.ghost_count(), history.ghosts().count()), (count, count), "place {place}, {last_seen}");
    }
}
