//! Bytes that changed, are missing, or are there twice: noticed, told once, and what is whole elsewhere counts.
//!
//! What is whole is found here by looking for the bytes that were written, wherever they are now. A whole number of
//! batches that is missing or there twice leaves a file like any other, and is noticed by nobody.

use std::collections::BTreeMap;
use std::format;
use std::vec::Vec;

use proptest::prelude::*;

use super::memory::{Disk, READ_LEN};
use super::script::{Action, BEGIN, Event, Life, script};
use super::state::{State, opened, recovered};
use crate::journal::recovery::Unreadable;
use crate::journal::{Batch, HEADER_LEN, NoHeader, Record, Records, header, keeper};
use crate::new_terms::fingerprint::{EventHash, Fingerprint, Key};
use crate::new_terms::history::entry::Entry;
use crate::new_terms::history::owner::{Owner, Purpose};
use crate::new_terms::history::{History, OwnerNumber};
use crate::rule::Sync;
use crate::storage::{DAMAGED_FILE, STATE_FILE};

const CAPACITY: u32 = 1000;

/// A whole file, and where each of its batches ends.
struct Whole {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Whole {
    /// A life of so many events.
    fn of(events: usize) -> Whole {
        let disk = Disk::default();
        let mut life = Life::open(&disk, Sync::None, CAPACITY);
        let mut ends = Vec::from([disk.state_file().len()]);
        for event in script(events, 12) {
            life.live(&event);
            ends.push(disk.state_file().len());
        }
        ends.dedup();
        let bytes = disk.state_file();
        // The first ends after the file that was written at first, and the rules' standings: two batches.
        let first =
            HEADER_LEN + 16 + usize::try_from(u32::from_le_bytes([48, 49, 50, 51].map(|at| bytes[at]))).unwrap();
        ends.insert(0, first);
        Whole { bytes, ends }
    }

    fn batches(&self) -> impl Iterator<Item = &[u8]> {
        let starts = [HEADER_LEN].into_iter().chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }

    /// The batches that are whole in other bytes, behind a header; and how many bytes of those are in none.
    fn whole_in(&self, bytes: &[u8]) -> (Vec<u8>, usize) {
        let mut found = self.bytes[..HEADER_LEN].to_vec();
        let batches: BTreeMap<&[u8], &[u8]> = self.batches().map(|batch| (&batch[..16], batch)).collect();
        let (mut at, mut passed) = (HEADER_LEN, 0);
        while at < bytes.len() {
            let batch = bytes[at..].get(..16).and_then(|head| batches.get(head));
            match batch.filter(|batch| bytes[at..].starts_with(batch)) {
                Some(batch) => {
                    found.extend_from_slice(batch);
                    at += batch.len();
                }
                None => {
                    passed += 1;
                    at += 1;
                }
            }
        }
        (found, passed)
    }

    /// Recovery finds of the bytes what is whole, and notices the rest; opening them mends them.
    fn check(&self, bytes: &[u8], what: &str) {
        if bytes.get(..HEADER_LEN) != Some(&self.bytes[..HEADER_LEN]) {
            self.check_without_header(bytes, what);
            return;
        }
        let (found, passed) = self.whole_in(bytes);
        let expected = recovered(&found, CAPACITY).expect("a header");
        // Batches of a rule that is not known any more are lost with it.
        let lost = passed as u64 + expected.damaged;
        let got = recovered(bytes, CAPACITY).unwrap_or_else(|error| panic!("{what}: {error:?}"));
        assert_eq!(got.damaged + got.torn, lost, "{what}: bytes lost");
        assert!(got.damaged == 0 || got.torn == 0 || got.torn < lost, "{what}");
        let state = State::of(&expected.history);
        assert!(State::of(&got.history) == state, "{what}: another state");

        let disk = Disk::with_file(bytes);
        let (keeper, history, notices) = opened(&disk, Sync::None, CAPACITY);
        assert!(keeper.is_durable() && State::of(&history) == state, "{what}");
        let told = format!("{} of the {} bytes of {STATE_FILE} are damaged", got.damaged, bytes.len());
        match got.damaged {
            0 => assert!(notices.is_empty(), "{what}: {notices:?}"),
            _ => assert!(notices.len() == 1 && notices[0].starts_with(&told), "{what}: {notices:?}"),
        }
        let repairs = history.repairs();
        assert_eq!(repairs.recoveries, u32::from(lost > 0), "{what}");
        assert_eq!(repairs.damaged_at, if got.damaged > 0 { state.clock.max(1) } else { 0 }, "{what}");
        // It is whole from now on, and nothing more is said of it.
        let (_, history, notices) = opened(&disk, Sync::None, CAPACITY);
        assert!(notices.is_empty() && State::of(&history) == state && history.repairs() == repairs, "{what}");
        let again = recovered(&disk.state_file(), CAPACITY).expect("a header");
        assert_eq!((again.damaged, again.torn), (0, 0), "{what}");
    }

    fn check_without_header(&self, bytes: &[u8], what: &str) {
        let error = recovered(bytes, CAPACITY).expect_err(what);
        let disk = Disk::with_file(bytes);
        let (keeper, history, notices) = opened(&disk, Sync::None, CAPACITY);
        assert_eq!(State::of(&history).entries(), 0);
        assert_eq!(notices.len(), 1, "{what}: {notices:?}");
        if let Unreadable::Header(NoHeader::Version(version)) = error {
            // Another filter can read it: it stays.
            assert!(!keeper.is_durable() && notices[0].contains(&format!("version {version},")), "{notices:?}");
            assert_eq!(disk.state_file(), bytes);
            return;
        }
        assert_eq!(error, Unreadable::Header(NoHeader::Damaged), "{what}");
        assert!(keeper.is_durable() && notices[0].contains("damaged from its beginning"), "{notices:?}");
        assert_eq!(disk.get(DAMAGED_FILE).as_deref(), Some(bytes), "it is kept for people to look at");
        let (_, history, notices) = opened(&disk, Sync::None, CAPACITY);
        assert!(notices.is_empty() && history.repairs().recoveries == 1);
    }
}

#[test]
fn the_parts_of_the_file_are_found() {
    let whole = Whole::of(12);
    assert!(whole.ends.len() > 8 && *whole.ends.last().expect("an end") == whole.bytes.len());
    assert!(whole.batches().all(|batch| batch.starts_with(b"\xf1rst") && batch.len() > 20));
    assert_eq!(whole.whole_in(&whole.bytes), (whole.bytes.clone(), 0));
    whole.check(&whole.bytes, "as it was written");
}

#[test]
fn a_changed_byte() {
    let whole = Whole::of(12);
    for at in 0..whole.bytes.len() {
        for change in [|byte: u8| byte ^ 1, |byte: u8| byte ^ 0x80, |_: u8| 0, |_: u8| 0xff] {
            let mut bytes = whole.bytes.clone();
            bytes[at] = change(bytes[at]);
            whole.check(&bytes, &format!("byte {at} is {:#04x} instead of {:#04x}", bytes[at], whole.bytes[at]));
        }
    }
}

#[test]
fn missing_and_repeated_bytes() {
    let whole = Whole::of(12);
    for at in 0..whole.bytes.len() {
        for len in [1, 2, 3, 15, 16, 17, 60, 200] {
            let end = (at + len).min(whole.bytes.len());
            let without = [&whole.bytes[..at], &whole.bytes[end..]].concat();
            whole.check(&without, &format!("bytes {at} to {end} are missing"));
            let twice = [&whole.bytes[..end], &whole.bytes[at..]].concat();
            whole.check(&twice, &format!("bytes {at} to {end} are there twice"));
        }
    }
}

#[test]
fn bytes_that_are_zero() {
    let whole = Whole::of(12);
    for at in 0..whole.bytes.len() {
        for len in [4, 16, 64, 512] {
            let mut bytes = whole.bytes.clone();
            let end = (at + len).min(bytes.len());
            bytes[at..end].fill(0);
            whole.check(&bytes, &format!("bytes {at} to {end} are zero"));
        }
    }
}

#[test]
fn a_tail_of_zeros_or_of_anything() {
    let whole = Whole::of(5);
    for len in (1..100).chain([511, 512, 4096, 65_535, 65_536, 65_551, 65_552, 65_553, 131_088, 200_000]) {
        let zeros = [&whole.bytes[..], &std::vec![0; len]].concat();
        whole.check(&zeros, &format!("{len} zeros"));
        assert_eq!(recovered(&zeros, CAPACITY).expect("a header").torn, 0, "zeros are no beginning of a batch");
        let marks: Vec<u8> = b"\xf1rst".iter().copied().cycle().take(len.min(5000)).collect();
        whole.check(&[&whole.bytes[..], &marks].concat(), &format!("{len} bytes of marks"));
    }
}

#[test]
fn damage_across_the_ends_of_what_is_read_at_once() {
    // The reader's buffer begins anew about every 64 KB.
    let whole = Whole::of(2500);
    assert!(whole.bytes.len() > 150_000, "{}", whole.bytes.len());
    let places = [40_961, 65_536, 65_552, 65_596, 81_922, 131_072, 131_088, 131_132];
    let near = places.into_iter().flat_map(|place| (place - 40..place + 40).step_by(7));
    for at in near {
        for len in [1, 4, 900] {
            let mut bytes = whole.bytes.clone();
            bytes[at..at + len].fill(0xf1);
            let (found, passed) = whole.whole_in(&bytes);
            let got = recovered(&bytes, CAPACITY).expect("a header");
            assert_eq!((got.damaged, got.torn), (passed as u64, 0), "{len} bytes at {at}");
            let expected = recovered(&found, CAPACITY).expect("a header");
            assert!(State::of(&got.history) == State::of(&expected.history), "{len} bytes at {at}");
        }
        let cut = &whole.bytes[..at];
        let (found, passed) = whole.whole_in(cut);
        let got = recovered(cut, CAPACITY).expect("a header");
        assert_eq!((got.damaged, got.torn), (0, passed as u64), "cut at {at}");
        assert!(State::of(&got.history) == State::of(&recovered(&found, CAPACITY).expect("a header").history));
    }
}

#[test]
fn batches_behind_damage_are_found_wherever_what_is_read_at_once_ends() {
    let whole = Whole::of(5);
    let (head, batches) = whole.bytes.split_at(HEADER_LEN);
    // Two reads make a buffer, and from then on each read goes on behind the last three bytes.
    for end in [2 * READ_LEN, 4 * READ_LEN, 6 * READ_LEN] {
        for zeros in end - HEADER_LEN - 8..end - HEADER_LEN + 4 {
            let got = recovered(&[head, &std::vec![0; zeros], batches].concat(), CAPACITY).expect("a header");
            assert_eq!((got.damaged, got.torn), (zeros as u64, 0));
            let expected = recovered(&whole.bytes, CAPACITY).expect("a header").history;
            assert!(State::of(&got.history) == State::of(&expected), "behind {zeros} zeros");
        }
    }
}

#[test]
fn damage_before_an_append_that_was_not_finished_is_told() {
    let whole = Whole::of(12);
    let [.., begin, middle, end] = whole.ends[..] else { panic!("{} batches", whole.ends.len()) };
    for torn in middle + 1..end {
        let mut bytes = whole.bytes[..torn].to_vec();
        bytes[begin + 20] ^= 1;
        whole.check(&bytes, "damaged and torn");
        let got = recovered(&bytes, CAPACITY).expect("a header");
        assert_eq!((got.damaged, got.torn), ((torn - begin) as u64, 0), "{} bytes are torn", torn - middle);
    }
}

#[test]
fn the_loss_of_one_batch_is_that_of_no_other() {
    let disk = Disk::default();
    let mut life = Life::open(&disk, Sync::None, 10_000);
    for number in 0..100 {
        let actions = (0..60).map(|term| Action::Long(number * 60 + term)).chain([Action::Group(number)]).collect();
        life.live(&Event { at: BEGIN + number, hash: EventHash(number + 1), actions });
    }
    keeper::write(&mut *disk.storage(), &life.history, false).expect("the disk is well");
    life = Life::of(opened(&disk, Sync::None, 10_000).0, opened(&disk, Sync::None, 10_000).1);
    for number in 100..200 {
        let actions = (0..30).map(|term| Action::Short(number * 60 + term)).collect();
        life.live(&Event { at: BEGIN + number, hash: EventHash(number + 1), actions });
    }
    let (file, key, known) = (disk.state_file(), life.history.key(), life.history.len());
    let (mut at, mut batches) = (HEADER_LEN, 0);
    while at < file.len() {
        let (records, len) = Records::of_batch(&file[at..], key).expect("a whole batch");
        let entries = records.filter(|record| matches!(record, Ok(Record::Entry(..)))).count();
        let mut bytes = file.clone();
        bytes[at + 16] ^= 1;
        let got = recovered(&bytes, 10_000).expect("a header");
        assert_eq!((got.damaged, got.history.len()), (len as u64, known - entries), "batch {batches}");
        at += len;
        batches += 1;
    }
    assert!(batches > 100 && known > 9000, "{batches} batches, {known} entries");
}

#[test]
fn a_rule_that_is_lost_takes_its_entries_along_and_no_others() {
    let disk = Disk::default();
    let (mut keeper, mut history, _) = opened(&disk, Sync::None, CAPACITY);
    let load = |history: &mut History, id| history.load_owner(Purpose::Tuples, id, &["user.name"], 1000).expect("room");
    let print = |history: &History, term: &str| history.key().print(&[term]);
    let kept = load(&mut history, "kept");
    history.begin(BEGIN);
    keeper.commit(&mut history, BEGIN);
    let before = disk.state_file().len();
    let lost = load(&mut history, "lost");
    history.begin(BEGIN + 1);
    keeper.commit(&mut history, BEGIN);
    let after = disk.state_file().len();
    for (number, term) in ["a", "b", "c"].into_iter().enumerate() {
        let hash = EventHash(7 + number as u32);
        history.observe(kept, print(&history, term), BEGIN + 2, hash);
        keeper.commit(&mut history, BEGIN);
        history.observe(lost, print(&history, term), BEGIN + 2, hash);
        keeper.commit(&mut history, BEGIN);
    }
    let mut bytes = disk.state_file();
    bytes[before + 20] ^= 1;
    let disk = Disk::with_file(&bytes);
    let (mut keeper, mut history, notices) = opened(&disk, Sync::None, CAPACITY);
    // Its three batches are of 16 bytes, a clock of 5 and an entry of 35.
    let damaged = after - before + 3 * 56;
    assert!(notices.len() == 1 && notices[0].starts_with(&format!("{damaged} of ")), "{notices:?}");
    let (kept, lost) = (load(&mut history, "kept"), load(&mut history, "lost"));
    history.begin(BEGIN + 10);
    keeper.commit(&mut history, BEGIN + 10);
    let len = |history: &History, number| history.owner(number).map_or(0, Owner::len);
    assert_eq!((len(&history, kept), len(&history, lost)), (3, 0));
    assert_eq!((history.standing(kept).since, history.standing(lost).since), (BEGIN, BEGIN + 10));
    history.observe(lost, print(&history, "a"), BEGIN + 11, EventHash(20));
    keeper.commit(&mut history, BEGIN + 11);
    let (_, again, notices) = opened(&disk, Sync::None, CAPACITY);
    assert!(notices.is_empty() && State::of(&again) == State::of(&history), "{notices:?}");
}

#[test]
fn a_batch_that_says_what_cannot_be_counts_for_nothing() {
    let disk = Disk::default();
    let mut life = Life::open(&disk, Sync::None, CAPACITY);
    life.live(&Event { at: BEGIN, hash: EventHash(1), actions: Vec::from([Action::Short(1)]) });
    let (key, file, state) = (life.history.key(), disk.state_file(), State::of(&life.history));
    let entry = state.owners[0].entries[0];
    // The last of two records is no record, or of a rule that nobody knows: the first does not count either.
    let beginnings: [&dyn Fn(&mut Batch); 2] =
        [&|batch| batch.clock(BEGIN + 9), &|batch| batch.entry(OwnerNumber(0), life.print(8), &entry.1)];
    for begin in beginnings {
        let mut unknown = Batch::behind(Vec::new(), key);
        begin(&mut unknown);
        unknown.entry(OwnerNumber(900), entry.0, &entry.1);
        let mut unknown = unknown.finish();
        let mut whole = Batch::behind(Vec::new(), key);
        begin(&mut whole);
        let whole = whole.finish();
        let mut no_kind = whole.clone();
        no_kind.push(99);
        let len = u32::try_from(no_kind.len() - 16).expect("a short batch").to_le_bytes();
        no_kind[4..8].copy_from_slice(&len);
        let checksum = key.checksum(&[&len, &no_kind[16..]]).to_le_bytes();
        no_kind[8..16].copy_from_slice(&checksum);
        assert_eq!(recovered(&[&file[..], &whole].concat(), CAPACITY).expect("a header").damaged, 0);
        for batch in [&mut unknown, &mut no_kind] {
            // Behind it comes one that is right.
            let len = batch.len() as u64;
            batch.extend_from_slice(&file[HEADER_LEN..]);
            let got = recovered(&[&file[..], batch].concat(), CAPACITY).expect("a header");
            assert_eq!((got.damaged, got.torn), (len, 0));
            assert!(State::of(&got.history) == state);
        }
    }
    // A checksum is of the length as well, and is under the file's key.
    assert_eq!(header(key)[..], file[..HEADER_LEN]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn damage_in_several_places(
        damages in prop::collection::vec((any::<prop::sample::Index>(), 0..4_u8, 1..120_usize, any::<u8>()), 1..6)
    ) {
        let whole = Whole::of(20);
        let mut bytes = whole.bytes.clone();
        for (at, kind, len, byte) in damages {
            let at = at.index(bytes.len());
            let end = (at + len).min(bytes.len());
            match kind {
                0 => bytes[at..end].fill(byte),
                1 => drop(bytes.drain(at..end)),
                2 => {
                    let twice = bytes[at..end].to_vec();
                    drop(bytes.splice(at..at, twice));
                }
                _ => bytes[at] ^= byte,
            }
            if bytes.is_empty() {
                break;
            }
        }
        whole.check(&bytes, "damaged");
    }
}

/// A file of so many entries under one rule, whose fingerprints share their first or their last half, or both their ends.
fn file_of_alike(entries: u32, alike: usize) -> Vec<u8> {
    let key = Key([9; 16]);
    let mut history = History::new(1, key);
    let number = history.load_owner(Purpose::Tuples, "rule", &["user.name"], 1000).expect("room");
    let mut batch = Batch::behind(header(key), key);
    batch.owner(number, history.owner(number).expect("it is there"));
    for entry in 0..entries {
        let mut print = [7; 16];
        let at = [8, 0, 4][alike];
        print[at..at + 4].copy_from_slice(&entry.to_le_bytes());
        batch.entry(
            number,
            Fingerprint(print),
            &Entry { first_seen: 1, last_seen: 1, detail: 0, introduced_by: EventHash(1) },
        );
    }
    batch.finish()
}

#[test]
fn fingerprints_that_were_made_up_to_share_a_place_open_as_fast_as_others() {
    for alike in 0..3 {
        let file = file_of_alike(60_000, alike);
        let begun = std::time::Instant::now();
        let (_, history, notices) = opened(&Disk::with_file(&file), Sync::None, 100_000);
        assert_eq!((history.len(), notices.len()), (60_000, 0));
        // One behind the other they take half a minute.
        assert!(begun.elapsed().as_secs() < 5, "{alike}: {:?}", begun.elapsed());
    }
}
