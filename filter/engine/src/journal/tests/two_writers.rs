//! Two writers on one file: there are no locks in WASI. One of them says so once and goes on in memory; what both had
//! committed by then stays, and the file stays whole. When the other has ended, the file has what both have seen.

use std::string::String;
use std::vec::Vec;

use super::memory::Disk;
use super::script::{Action, BEGIN, Event, Life};
use super::state::{State, notices, opened, recovered};
use crate::journal::keeper::Keeper;
use crate::new_terms::fingerprint::{EventHash, Key};
use crate::rule::Sync;
use crate::storage::STATE_FILE;

const CAPACITY: u32 = 1000;

fn event(number: u32) -> Event {
    Event { at: BEGIN + number, hash: EventHash(1 + number), actions: Vec::from([Action::Short(number)]) }
}

/// How many tuples a whole file knows, of the first so many.
fn known(disk: &Disk, life: &Life, tuples: u32) -> usize {
    let recovered = recovered(&disk.state_file(), CAPACITY).expect("a state file");
    assert_eq!((recovered.damaged, recovered.torn), (0, 0));
    let known = |number: &u32| recovered.history.owners().any(|(_, owner)| owner.get(life.print(*number)).is_some());
    (0..tuples).filter(known).count()
}

fn told(life: &mut Life) -> Vec<String> {
    let told = notices(&mut life.keeper);
    assert!(told.iter().all(|told| told.contains("is written by another filter or program as well")), "{told:?}");
    assert!(told.iter().all(|told| told.contains("accessible_paths")), "{told:?}");
    told
}

#[test]
fn the_second_to_write_gives_up() {
    let disk = Disk::default();
    let mut first = Life::open(&disk, Sync::None, CAPACITY);
    (0..5).for_each(|number| first.live(&event(number)));
    let mut second = Life::open(&disk, Sync::None, CAPACITY);
    assert_eq!(second.history.len(), 5);
    for number in (5..50).step_by(2) {
        first.live(&event(number));
        second.live(&event(number + 1));
    }
    assert!(first.keeper.is_durable() && told(&mut first).is_empty());
    assert!(!second.keeper.is_durable());
    assert_eq!(told(&mut second).len(), 1);
    assert_eq!(known(&disk, &first, 5), 5);
    let kept = recovered(&disk.state_file(), CAPACITY).expect("a state file").history;
    assert!(State::of(&kept) == State::of(&first.history));
    // It detects all the same.
    assert_eq!(second.history.len(), 5 + 23);
}

#[test]
fn what_each_committed_before_stays() {
    let disk = Disk::default();
    let mut first = Life::open(&disk, Sync::None, CAPACITY);
    (0..5).for_each(|number| first.live(&event(number)));
    let mut second = Life::open(&disk, Sync::None, CAPACITY);
    (5..10).for_each(|number| second.live(&event(number)));
    assert!(first.keeper.is_durable() && second.keeper.is_durable(), "the first has not looked since");
    (10..30).for_each(|number| first.live(&event(number)));
    (30..50).for_each(|number| second.live(&event(number)));
    assert_eq!((told(&mut first).len(), first.keeper.is_durable()), (1, false));
    assert_eq!((told(&mut second).len(), second.keeper.is_durable()), (0, true));
    assert_eq!(known(&disk, &first, 10), 10);
    assert_eq!(known(&disk, &first, 50), 5 + 5 + 20);
}

#[test]
fn both_wrote_at_the_very_same_moment() {
    let disk = Disk::default();
    let mut first = Life::open(&disk, Sync::None, CAPACITY);
    let mut second = Life::open(&disk, Sync::None, CAPACITY);
    // What the second is about to append, seen on a disk of its own.
    let batch = {
        let (disk, len) = (Disk::with_file(&disk.state_file()), disk.state_file().len());
        let mut twin = Life::open(&disk, Sync::None, CAPACITY);
        twin.live(&event(1));
        disk.state_file().split_off(len)
    };
    disk.append_behind_status(&batch);
    first.live(&event(0));
    assert_eq!(known(&disk, &first, 2), 2, "whole batches all the same");
    (2..20).for_each(|number| first.live(&event(number)));
    (20..40).for_each(|number| second.live(&event(number)));
    assert_eq!([told(&mut first).len(), told(&mut second).len()], [1, 1], "neither can tell who was first");
    assert_eq!(known(&disk, &first, 40), 2);
}

#[test]
fn a_file_that_is_replaced_is_somebody_elses() {
    let disk = Disk::default();
    let mut life = Life::open(&disk, Sync::None, CAPACITY);
    (0..5).for_each(|number| life.live(&event(number)));
    let others = Disk::default();
    Life::open(&others, Sync::None, CAPACITY).live(&event(40));
    disk.put(STATE_FILE, &others.state_file());
    (5..30).for_each(|number| life.live(&event(number)));
    assert_eq!((told(&mut life).len(), life.keeper.is_durable()), (1, false));
    assert_eq!(disk.state_file(), others.state_file());
    assert_eq!(life.history.len(), 30);
}

#[test]
fn one_that_cannot_write_does_not_take_the_file_of_one_that_can() {
    let disk = Disk::default();
    disk.set_read_only(true);
    let (keeper, history, notices) = opened(&disk, Sync::None, CAPACITY);
    assert_eq!(notices.len(), 1);
    let mut first = Life::of(keeper, history);
    disk.set_read_only(false);
    let mut second = Life::open(&disk, Sync::None, CAPACITY);
    (0..5).for_each(|number| second.live(&event(number)));
    (5..30).for_each(|number| first.live(&event(number)));
    assert_eq!((told(&mut first).len(), first.keeper.is_durable()), (1, false));
    second.live(&event(30));
    assert!(told(&mut second).is_empty() && second.keeper.is_durable());
    assert_eq!(known(&disk, &second, 31), 6);
}

#[test]
fn one_that_could_not_append_does_not_take_what_another_appended_meanwhile() {
    let disk = Disk::default();
    let mut first = Life::open(&disk, Sync::None, CAPACITY);
    (0..5).for_each(|number| first.live(&event(number)));
    disk.set_read_only(true);
    first.live(&event(5));
    disk.set_read_only(false);
    assert_eq!(notices(&mut first.keeper).len(), 1);
    let mut second = Life::open(&disk, Sync::None, CAPACITY);
    (10..15).for_each(|number| second.live(&event(number)));
    (15..40).for_each(|number| first.live(&event(number)));
    second.live(&event(40));
    assert_eq!(told(&mut first).len() + told(&mut second).len(), 1);
    assert_eq!(known(&disk, &first, 5), 5);
    let meanwhile = known(&disk, &first, 15) - 5 - usize::from(known(&disk, &first, 6) == 6);
    assert_eq!(meanwhile, 5, "what the second committed");
}

/// So many seconds later than [`event`] says.
fn later(number: u32, seconds: u32) -> Event {
    let Event { at, hash, actions } = event(number);
    Event { at: at + seconds, hash, actions }
}

#[test]
fn one_that_yielded_takes_the_file_up_again_with_what_the_other_has_seen() {
    let disk = Disk::default();
    let mut old = Life::open(&disk, Sync::None, CAPACITY);
    (0..5).for_each(|number| old.live(&event(number)));
    let mut new = Life::open(&disk, Sync::None, CAPACITY);
    // They overlap, as an old and a new worker do.
    for number in (5..45).step_by(2) {
        old.live(&event(number));
        new.live(&event(number + 1));
    }
    assert_eq!((told(&mut new).len(), new.keeper.is_durable()), (1, false));
    drop(old);
    // As long as it may be that the old one is only silent, the file is left to it.
    new.live(&later(45, 50));
    assert!(!new.keeper.is_durable());
    for number in 46..50 {
        new.live(&later(number, 200));
    }
    let told = notices(&mut new.keeper);
    assert!(
        told.len() == 1 && told[0].contains("is written by nobody else any more: the history is durable again"),
        "{told:?}"
    );
    assert!(new.keeper.is_durable());
    assert_eq!(known(&disk, &new, 50), 50, "of both");
    assert!(State::of(&recovered(&disk.state_file(), CAPACITY).expect("a file").history) == State::of(&new.history));
    drop(new);
    let newest = Life::open(&disk, Sync::None, CAPACITY);
    assert_eq!(newest.history.len(), 50);
}

#[test]
fn one_whose_file_was_taken_leaves_it_and_has_it_again_after_the_other() {
    let disk = Disk::default();
    let mut quiet = Life::open(&disk, Sync::None, CAPACITY);
    quiet.live(&event(0));
    let mut busy = Life::open(&disk, Sync::None, CAPACITY);
    quiet.live(&event(1));
    (2..200).for_each(|number| busy.live(&event(number)));
    assert!(busy.keeper.is_durable(), "the quiet one was taken for gone");
    quiet.live(&event(200));
    assert_eq!((told(&mut quiet).len(), quiet.keeper.is_durable()), (1, false));
    busy.live(&event(201));
    assert!(busy.keeper.is_durable());
    drop(busy);
    (202..400).for_each(|number| quiet.live(&event(number)));
    assert!(quiet.keeper.is_durable());
    assert_eq!(known(&disk, &quiet, 400), 400);
}

#[test]
fn the_more_often_another_writes_the_longer_it_is_waited_for() {
    let disk = Disk::default();
    let mut life = Life::open(&disk, Sync::None, CAPACITY);
    let mut number = 0;
    let mut waits = Vec::new();
    for _ in 0..9 {
        let event_of_a_group =
            Event { at: BEGIN + number, hash: EventHash(9000 + number), actions: Vec::from([Action::Group(1)]) };
        Life::open(&disk, Sync::None, CAPACITY).live(&event_of_a_group);
        let begin = number;
        while !life.keeper.is_durable() || number == begin {
            number += 1;
            let Event { hash, actions, .. } = event(number % 900);
            life.live(&Event { at: BEGIN + number, hash, actions });
        }
        waits.push(number - begin);
    }
    let expected = [61, 121, 241, 481, 961, 1921, 3601, 3601, 3601];
    assert!(waits.iter().zip(expected).all(|(wait, expected)| wait.abs_diff(expected) <= 1), "{waits:?}");
}

#[test]
fn one_whose_file_was_begun_anew_by_another_stays_in_memory() {
    let disk = Disk::default();
    let mut life = Life::open(&disk, Sync::None, CAPACITY);
    life.live(&event(0));
    let others = {
        let disk = Disk::default();
        let (keeper, history) = Keeper::open(disk.storage(), Sync::None, CAPACITY, Key([10; 16]));
        Life::of(keeper, history).live(&event(40));
        disk.state_file()
    };
    disk.put(STATE_FILE, &others);
    (1..30).for_each(|number| life.live(&later(number, number * 100)));
    let told = notices(&mut life.keeper);
    assert!(told.len() == 2 && told[1].contains("cannot be compared"), "{told:?}");
    assert!(!life.keeper.is_durable() && disk.state_file() == others && life.history.len() == 30);
}
