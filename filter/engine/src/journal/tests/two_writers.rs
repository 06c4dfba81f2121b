//! Two writers on one file: there are no locks in WASI. One of them says so once and goes on in memory; what both had
//! committed by then stays, and the file stays whole.

use std::string::String;
use std::vec::Vec;

use super::memory::Disk;
use super::script::{Action, BEGIN, Event, Life};
use super::state::{State, notices, opened, recovered};
use crate::new_terms::fingerprint::EventHash;
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
