//! A file of version 1, `tests/fixtures/state-version-1.bin`, is read for ever, whatever is written by then.
//!
//! What it holds is said here twice: in the calls that made it, which may go when there is another version, and in numbers.

use std::string::String;
use std::vec::Vec;

use super::memory::Disk;
use super::state::{State, opened, recovered};
use crate::journal::{Batch, header};
use crate::new_terms::fingerprint::{EventHash, Fingerprint, Key};
use crate::new_terms::history::entry::Entry;
use crate::new_terms::history::ghosts::Ghost;
use crate::new_terms::history::owner::{Owner, Purpose, Standing};
use crate::new_terms::history::{Change, History, OwnerNumber, Repairs};
use crate::rule::Sync;

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/state-version-1.bin");
const KEY: Key = Key(*b"key of a fixture");
/// 2026-10-01T00:00:00Z.
const BEGIN: u32 = 1_790_812_800;

fn print(owner: u8, number: u32) -> Fingerprint {
    let [a, b, ..] = number.to_le_bytes();
    Fingerprint([a, b, owner, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, b, a])
}

/// The tuples with these numbers; every third expired once, every third was evicted, and every tenth was learned.
fn tuple(number: u32) -> Entry {
    Entry {
        first_seen: BEGIN + number,
        last_seen: BEGIN + 100 * number,
        detail: [0, 1, BEGIN - 864_000][number as usize % 3],
        introduced_by: EventHash(if number.is_multiple_of(10) { 0 } else { 0xabcd_0000 + number }),
    }
}

fn group(number: u32) -> Entry {
    let first_seen = BEGIN + 1000 * number;
    Entry { first_seen, last_seen: first_seen + 86_399, detail: number + 1, introduced_by: EventHash(77) }
}

const STANDING: Standing = Standing {
    window: 864_000,
    since: BEGIN - 1,
    until: 0,
    evictions: 5,
    evicted_until: BEGIN - 9,
    capacity_needed: 1_234_567,
    expired_until: BEGIN - 864_001,
    held: 17,
};

fn owners() -> [(u16, Owner); 3] {
    let owner = |print, purpose, id, fields, standing| {
        let mut owner = Owner::new(print, purpose, id, fields);
        owner.standing = standing;
        owner
    };
    let live = Standing { window: 86_400, since: BEGIN, ..Standing::default() };
    let baseline = Standing { window: 1, since: 1, until: BEGIN, ..Standing::default() };
    [
        (0, owner(print(100, 0), Purpose::Tuples, "first rule", "user.name,source.ip", STANDING)),
        (1, owner(print(101, 0), Purpose::Groups, "first rule", "cloud.region", live)),
        // Nobody has number 2.
        (3, owner(print(103, 0), Purpose::Tuples, "zweite Regel: größer", "user.name", baseline)),
    ]
}

/// The file as version 1 wrote it.
fn version_1() -> Vec<u8> {
    let nothing = History::new(1, KEY);
    let mut file = header(KEY);
    let mut batch = |write: &dyn Fn(&mut Batch)| {
        let mut batch = Batch::behind(core::mem::take(&mut file), KEY);
        write(&mut batch);
        file = batch.finish();
    };
    batch(&|batch| {
        batch.clock(BEGIN);
        batch.repairs(Repairs { recoveries: 2, damaged_at: BEGIN - 5 });
        owners().iter().for_each(|(number, owner)| batch.owner(OwnerNumber(*number), owner));
    });
    for fifty in 0..6 {
        batch(&|batch| {
            for number in fifty * 50..(fifty + 1) * 50 {
                batch.entry(OwnerNumber(0), print(0, number), &tuple(number));
                batch.entry(OwnerNumber(3), print(3, number), &tuple(number + 1));
            }
        });
    }
    batch(&|batch| (0..40).for_each(|number| batch.entry(OwnerNumber(1), print(1, number), &group(number))));
    batch(&|batch| {
        batch.ghost(7, Ghost { mark: 0xfeed_beef, last_seen: BEGIN - 3 });
        batch.ghost(32_767, Ghost { mark: 0, last_seen: 1 });
    });
    batch(&|batch| {
        batch.clock(BEGIN + 60_000);
        batch.change(Change::Expired(OwnerNumber(0), print(0, 0)), &nothing);
        batch.change(Change::Evicted(OwnerNumber(0), print(0, 1)), &nothing);
        batch.change(Change::Evicted(OwnerNumber(1), print(1, 0)), &nothing);
        batch.entry(OwnerNumber(3), print(3, 299), &Entry { last_seen: BEGIN + 60_000, ..tuple(300) });
    });
    batch(&|batch| batch.change(Change::Held(OwnerNumber(0), 3), &nothing));
    file
}

fn fixture() -> Vec<u8> {
    std::fs::read(FIXTURE).expect("the fixture is there")
}

#[test]
#[ignore = "it was done once, and is never done again: makes the fixture"]
fn make_the_fixture() {
    assert!(!std::path::Path::new(FIXTURE).exists(), "{FIXTURE} stays as it is");
    std::fs::write(FIXTURE, version_1()).expect("it can be written");
}

#[test]
fn version_1_is_what_is_written() {
    assert!(version_1() == fixture(), "another format needs another version");
}

#[test]
fn version_1_is_read() {
    let bytes = fixture();
    assert_eq!((bytes.len(), &bytes[..20]), (23_014, &b"firstseen-state\n\x01\0\0\0"[..]));
    let recovered = recovered(&bytes, 1000).expect("a state file");
    assert_eq!((recovered.damaged, recovered.torn), (0, 0));
    let history = recovered.history;
    assert_eq!(history.key(), KEY);
    assert_eq!(history.clock(), 1_790_872_800);
    assert_eq!(history.repairs(), Repairs { recoveries: 2, damaged_at: 1_790_812_795 });
    assert_eq!(history.len(), 298 + 300 + 39);
    let known: Vec<(u16, &str, &str, Purpose, usize)> = history
        .owners()
        .filter(|(_, owner)| !owner.is_empty())
        .map(|(number, owner)| (number.0, &*owner.rule_id, &*owner.fields, owner.purpose, owner.len()))
        .collect();
    assert_eq!(
        known,
        [
            (0, "first rule", "user.name,source.ip", Purpose::Tuples, 298),
            (1, "first rule", "cloud.region", Purpose::Groups, 39),
            (3, "zweite Regel: größer", "user.name", Purpose::Tuples, 300),
        ]
    );
    let get = |owner: u8, number| {
        history.owner(OwnerNumber(owner.into())).and_then(|rule| rule.get(print(owner, number))).copied()
    };
    for number in 0..300 {
        assert_eq!(get(0, number), (number > 1).then(|| tuple(number)));
        let latest = if number == 299 { BEGIN + 60_000 } else { BEGIN + 100 * (number + 1) };
        assert_eq!(get(3, number), Some(Entry { last_seen: latest, ..tuple(number + 1) }));
    }
    for number in 0..40 {
        assert_eq!(get(1, number), (number > 0).then(|| group(number)));
    }
    let sample = Entry {
        first_seen: 1_790_812_823,
        last_seen: 1_790_815_100,
        detail: 1_789_948_800,
        introduced_by: EventHash(0xabcd_0017),
    };
    assert_eq!(get(0, 23), Some(sample));
    // The standings as they were written, and then what was forgotten and held.
    let first = Standing {
        window: 864_000,
        since: 1_790_812_799,
        until: 0,
        evictions: 6,
        evicted_until: 1_790_812_900,
        // All 1000 of the capacity for 59,900 seconds of 864,000.
        capacity_needed: 14_425,
        expired_until: 1_790_812_800,
        held: 20,
    };
    assert_eq!(history.standing(OwnerNumber(0)), first);
    let groups = Standing {
        window: 86_400,
        since: 1_790_812_800,
        evictions: 1,
        evicted_until: 1_790_899_199,
        capacity_needed: 100_000,
        ..Standing::default()
    };
    assert_eq!(history.standing(OwnerNumber(1)), groups);
    let baseline = Standing { window: 1, since: 1, until: 1_790_812_800, ..Standing::default() };
    assert_eq!(history.standing(OwnerNumber(3)), baseline);
    let ghosts: Vec<(usize, Ghost)> = history.ghosts().collect();
    // The first four bytes of its fingerprint are its place, of which there are 32,768, and the next four its mark.
    let evicted = Ghost { mark: 0x0706_0504, last_seen: 1_790_812_900 };
    assert_eq!(
        ghosts,
        [
            (1, evicted),
            (7, Ghost { mark: 0xfeed_beef, last_seen: 1_790_812_797 }),
            (32_767, Ghost { mark: 0, last_seen: 1 }),
        ]
    );
}

#[test]
fn version_1_is_kept_as_it_is() {
    let disk = Disk::with_file(&fixture());
    let (mut keeper, mut history, notices) = opened(&disk, Sync::None, 1000);
    assert!(keeper.is_durable() && notices.is_empty(), "{notices:?}");
    assert!(disk.take_tape().is_empty(), "it is whole");
    history.observe(OwnerNumber(0), print(0, 900), BEGIN + 60_001, EventHash(1));
    keeper.commit(&mut history, BEGIN);
    let after = disk.state_file();
    assert!(after.starts_with(&fixture()) && after.len() == fixture().len() + 16 + 5 + 35);
    let state = State::of(&recovered(&after, 1000).expect("a state file").history);
    assert!(state == State::of(&history));
    let ids: [String; 2] = ["first rule", "zweite Regel: größer"].map(String::from);
    assert_eq!(history.rule_ids(), ids);
}
