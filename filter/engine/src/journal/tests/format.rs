//! The bytes stand as the page says, and are read as they were written.
//!
//! The checksums here were computed by another implementation of SipHash.

use std::boxed::Box;
use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::memory::Disk;
use super::state::{State, recovered};
use crate::enrichment::{Hour, Label};
use crate::journal::{Batch, HEADER_LEN, MAX_RECORDS_LEN, NoHeader, Record, Records, header, keeper, key_of, live_len};
use crate::new_terms::fingerprint::{EventHash, Fingerprint, Key};
use crate::new_terms::history::entry::Entry;
use crate::new_terms::history::ghosts::Ghost;
use crate::new_terms::history::owner::{Owner, Purpose, Standing};
use crate::new_terms::history::{Change, History, OwnerNumber, Repairs};

const KEY: Key = Key([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);

/// Sixteen bytes from a number on.
fn print(from: u8) -> Fingerprint {
    Fingerprint(core::array::from_fn(|at| from + at as u8))
}

const HEADER: &[u8; 44] = b"firstseen-state\n\
    \x01\x00\x00\x00\
    \x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\
    \xc6\x81\xe5\x04\xbc\xb4\xa9\x18";

/// A batch of one record of each kind, and two of owners.
const BATCH: &[&[u8]] = &[
    b"\xf1rst\xf2\x00\x00\x00\x45\x8c\xd3\x3e\x40\x11\xf1\x11",
    b"\x01\x80\xd1\xc0\x6a",
    b"\x02\x03\x00\x00\x00\x7f\xd1\xc0\x6a",
    b"\x03\x00\x00 !\"#$%&'()*+,-./\x00\
        \x01\x01\x00\x00\x02\x01\x00\x00\x03\x01\x00\x00\x04\x01\x00\x00\
        \x05\x01\x00\x00\x06\x01\x00\x00\x07\x01\x00\x00\x08\x01\x00\x00\
        \x04\x00rule\x13\x00user.name,source.ip",
    b"\x03\x02\x010123456789:;<=>?\x01\
        \x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\
        \x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\
        \x00\x00\x00\x00",
    b"\x04\x00\x00@ABCDEFGHIJKLMNO\x00\xd1\xc0\x6a\x80\xd1\xc0\x6a\x00\x00\x00\x00\x78\x56\x34\x12",
    b"\x05\x02\x01PQRSTUVWXYZ[\\]^_",
    b"\x06\x00\x00`abcdefghijklmno",
    b"\x07\x00\x00\x07\x00\x00\x00",
    b"\x08\xff\x7f\x00\x00\xef\xbe\xad\xde\xff\xd0\xc0\x6a",
];

const CLOCK: u32 = 0x6ac0_d180;

fn rule() -> Owner {
    let mut owner = Owner::new(print(0x20), Purpose::Tuples, "rule", "user.name,source.ip");
    owner.standing = Standing {
        window: 0x101,
        since: 0x102,
        until: 0x103,
        evictions: 0x104,
        evicted_until: 0x105,
        capacity_needed: 0x106,
        expired_until: 0x107,
        held: 0x108,
    };
    owner
}

const ENTRY: Entry =
    Entry { first_seen: 0x6ac0_d100, last_seen: CLOCK, detail: 0, introduced_by: EventHash(0x1234_5678) };
const GHOST: Ghost = Ghost { mark: 0xdead_beef, last_seen: 0x6ac0_d0ff };

/// What [`BATCH`] says.
fn batch() -> Vec<u8> {
    let mut groups = Owner::new(print(0x30), Purpose::Groups, "", "");
    groups.standing = Standing { since: 1, held: u32::MAX, ..Standing::default() };
    let nothing = History::new(1, KEY);
    let mut batch = Batch::behind(Vec::new(), KEY);
    batch.clock(CLOCK);
    batch.repairs(Repairs { recoveries: 3, damaged_at: 0x6ac0_d17f });
    batch.owner(OwnerNumber(0), &rule());
    batch.owner(OwnerNumber(0x102), &groups);
    batch.entry(OwnerNumber(0), print(0x40), &ENTRY);
    batch.change(Change::Expired(OwnerNumber(0x102), print(0x50)), &nothing);
    batch.change(Change::Evicted(OwnerNumber(0), print(0x60)), &nothing);
    batch.change(Change::Held(OwnerNumber(0), 7), &nothing);
    batch.ghost(0x7fff, GHOST);
    batch.finish()
}

#[test]
fn the_header_stands_where_the_page_says() {
    assert_eq!(header(KEY), HEADER);
    assert_eq!(HEADER.len(), HEADER_LEN);
    assert_eq!(key_of(HEADER), Ok(KEY));
    assert_eq!(key_of(&[&HEADER[..], b"and more"].concat()), Ok(KEY));
}

#[test]
fn a_header_that_is_not_whole_is_none() {
    for at in 0..HEADER_LEN {
        for change in [1, 0x80, 0xff] {
            let mut bytes = *HEADER;
            bytes[at] ^= change;
            let expected = match at {
                // A version is believed without a checksum: that of another version may stand elsewhere.
                16..20 => NoHeader::Version(u32::from_le_bytes([16, 17, 18, 19].map(|at| bytes[at]))),
                _ => NoHeader::Damaged,
            };
            assert_eq!(key_of(&bytes), Err(expected), "byte {at}");
        }
        assert_eq!(key_of(&HEADER[..at]), Err(NoHeader::Damaged), "{at} bytes");
    }
}

#[test]
fn every_kind_of_record_stands_where_the_page_says() {
    assert_eq!(batch(), BATCH.concat());
    let lens: Vec<usize> = BATCH.iter().map(|part| part.len()).collect();
    assert_eq!(lens, [16, 5, 9, 56 + 4 + 19, 56, 35, 19, 19, 7, 13]);
    // A change of a group's count is an entry, and an owner's change is the owner.
    let mut history = History::new(1, KEY);
    history.restore_owner(OwnerNumber(0), rule());
    let mut changed = Batch::behind(Vec::new(), KEY);
    changed.change(Change::Owner(OwnerNumber(0)), &history);
    changed.change(Change::Entry(OwnerNumber(0), print(0x40), ENTRY), &history);
    changed.change(Change::Count(OwnerNumber(0), print(0x40), ENTRY), &history);
    changed.change(Change::Owner(OwnerNumber(1)), &history);
    assert_eq!(changed.finish()[16..], [BATCH[3], BATCH[5], BATCH[5]].concat());
    // Without records there is no batch.
    assert_eq!(Batch::behind(HEADER.to_vec(), KEY).finish(), HEADER);
}

#[test]
fn records_of_enrichment_stand_where_the_page_says() {
    let mut batch = Batch::behind(Vec::new(), KEY);
    let hour = Hour { until: CLOCK, asked: 50, lacking: 40, known_addresses: 3, relabelled: 2 };
    batch.enrichment(hour);
    let label = Label { address: 0xdead_beef, organization: 0x1234_5678 };
    batch.label(0x3ff, label);
    let bytes = batch.finish();
    assert_eq!(bytes[16..37], [&[9][..], &CLOCK.to_le_bytes(), b"\x32\0\0\0\x28\0\0\0\x03\0\0\0\x02\0\0\0"].concat());
    assert_eq!(bytes[37..], *b"\x0a\xff\x03\0\0\xef\xbe\xad\xde\x78\x56\x34\x12");
    let file = [HEADER, &bytes[..]].concat();
    let history = recovered(&file, 10).expect("a header").history;
    assert_eq!((history.enrichment(), history.labels().collect::<Vec<_>>()), (hour, vec![(0x3ff, label)]));
    // Written whole, they are there again.
    let disk = Disk::with_file(&[]);
    let len = keeper::write(&mut *disk.storage(), &history, false).expect("the disk is well");
    assert!(live_len(&history) >= len, "{len} bytes");
    let again = recovered(&disk.state_file(), 10).expect("a header").history;
    assert_eq!((again.enrichment(), again.labels().collect::<Vec<_>>()), (hour, vec![(0x3ff, label)]));
}

#[test]
fn every_kind_of_record_is_read() {
    let bytes = [&BATCH.concat()[..], b"\xf1rst and what comes behind"].concat();
    let (records, len) = Records::of_batch(&bytes, KEY).expect("a batch");
    assert_eq!(len, 16 + 242);
    let records: Vec<Record> = records.map(|record| record.expect("a record")).collect();
    let [
        Record::Clock(CLOCK),
        Record::Repairs(Repairs { recoveries: 3, damaged_at: 0x6ac0_d17f }),
        Record::Owner(OwnerNumber(0), first),
        Record::Owner(OwnerNumber(0x102), second),
        Record::Entry(OwnerNumber(0), entry_print, ENTRY),
        Record::Forgotten { owner: OwnerNumber(0x102), print: expired, is_live: false },
        Record::Forgotten { owner: OwnerNumber(0), print: evicted, is_live: true },
        Record::Held(OwnerNumber(0), 7),
        Record::Ghost(0x7fff, GHOST),
    ] = &records[..]
    else {
        panic!("{records:?}");
    };
    assert_eq!([*entry_print, *expired, *evicted], [print(0x40), print(0x50), print(0x60)]);
    assert_eq!(format!("{first:?}"), format!("{:?}", Box::new(rule())));
    assert_eq!(
        (second.print, second.purpose, &*second.rule_id, &*second.fields),
        (print(0x30), Purpose::Groups, "", "")
    );
    assert_eq!(second.standing, Standing { since: 1, held: u32::MAX, ..Standing::default() });
    // Nothing is a batch but the whole of it, under its own key.
    let whole = &bytes[..len];
    assert!((0..len).all(|len| Records::of_batch(&whole[..len], KEY).is_none()));
    assert!(Records::of_batch(whole, Key([0; 16])).is_none());
    assert!(Records::of_batch(&whole[1..], KEY).is_none());
}

#[test]
fn what_a_file_says_is_what_the_history_knows() {
    let group = Entry { first_seen: 9, last_seen: 12, detail: 4, introduced_by: EventHash(1) };
    let mut more = Batch::behind(Vec::new(), KEY);
    more.clock(CLOCK - 100);
    more.entry(OwnerNumber(0x102), print(0x50), &group);
    more.entry(OwnerNumber(0), print(0x60), &ENTRY);
    more.entry(OwnerNumber(0), print(0x40), &Entry { last_seen: CLOCK - 1, ..ENTRY });
    let more = more.finish();
    let file = [&HEADER[..], &batch(), &more].concat();
    let first = recovered(&file, 10).expect("a header");
    assert_eq!((first.damaged, first.torn, first.history.clock()), (0, 0, CLOCK - 100), "the last word counts");
    assert_eq!(first.history.repairs(), Repairs { recoveries: 3, damaged_at: 0x6ac0_d17f });
    let state = State::of(&first.history);
    assert_eq!(state.owners[0].entries.len() + state.owners[1].entries.len(), 3);
    // Numbers that nobody has are passed over.
    assert_eq!([state.owners[0].number, state.owners[1].number], [OwnerNumber(0), OwnerNumber(0x102)]);
    assert_eq!(state.owners[0].standing, Standing { held: 0x108 + 7, ..rule().standing });
    assert_eq!(state.ghosts, [(0x7fff, GHOST)]);

    // The same batch again: an entry replaces, what was forgotten goes, and what was held adds up.
    let again = recovered(&[&file[..], &batch()].concat(), 10).expect("a header").history;
    let entries = State::of(&again).owners.into_iter().flat_map(|owner| owner.entries);
    assert_eq!(entries.collect::<Vec<_>>(), [(print(0x40), ENTRY)]);
    let standing = again.standing(OwnerNumber(0));
    assert_eq!((standing.held, standing.evictions, standing.evicted_until), (0x108 + 7, 0x105, CLOCK));
    assert_eq!(again.standing(OwnerNumber(0x102)).expired_until, 12);
    // The ghost of what was evicted, and the one that was there.
    assert_eq!(again.ghost_count(), 2);
}

#[test]
fn the_longest_batches_are_read() {
    let long = "é".repeat(2000);
    let mut batch = Batch::behind(HEADER.to_vec(), KEY);
    for number in 0..400 {
        batch.owner(OwnerNumber(number), &Owner::new(print(0x20), Purpose::Groups, &long, &long));
        batch.entry(OwnerNumber(number), print(0x40), &ENTRY);
    }
    let file = batch.finish();
    let (mut at, mut records, mut batches) = (HEADER_LEN, 0, 0);
    while at < file.len() {
        let (batch, len) = Records::of_batch(&file[at..], KEY).expect("a whole batch");
        assert!(len <= 16 + MAX_RECORDS_LEN);
        for record in batch {
            match record.expect("a record") {
                Record::Owner(_, owner) => assert_eq!((owner.rule_id.len(), &*owner.rule_id), (1000, &long[..1000])),
                Record::Entry(..) => {}
                record => panic!("{record:?}"),
            }
            records += 1;
        }
        at += len;
        batches += 1;
    }
    assert_eq!((records, batches), (800, 400 * (56 + 2000 + 35) / (MAX_RECORDS_LEN - 4096) + 1));
}

/// A record with what the encoder needs for it.
#[derive(Debug, Clone)]
enum Drawn {
    Clock(u32),
    Repairs(u32, u32),
    Owner(u16, [u8; 16], bool, [u32; 8], String, String),
    Entry(u16, [u8; 16], [u32; 4]),
    Forgotten(u16, [u8; 16], bool),
    Held(u16, u32),
    Ghost(u32, u32, u32),
    Enrichment([u32; 5]),
    Label(u32, u32, u32),
}

fn drawn() -> impl Strategy<Value = Drawn> {
    prop_oneof![
        any::<u32>().prop_map(Drawn::Clock),
        any::<(u32, u32)>().prop_map(|(recoveries, at)| Drawn::Repairs(recoveries, at)),
        (any::<(u16, [u8; 16], bool, [u32; 8])>(), ".{0,30}", ".{0,30}").prop_map(
            |((number, print, is_group, standing), id, fields)| Drawn::Owner(
                number, print, is_group, standing, id, fields
            )
        ),
        any::<(u16, [u8; 16], [u32; 4])>().prop_map(|(owner, print, entry)| Drawn::Entry(owner, print, entry)),
        any::<(u16, [u8; 16], bool)>().prop_map(|(owner, print, live)| Drawn::Forgotten(owner, print, live)),
        any::<(u16, u32)>().prop_map(|(owner, count)| Drawn::Held(owner, count)),
        any::<(u32, u32, u32)>().prop_map(|(place, mark, at)| Drawn::Ghost(place, mark, at)),
        any::<[u32; 5]>().prop_map(Drawn::Enrichment),
        any::<(u32, u32, u32)>().prop_map(|(place, address, name)| Drawn::Label(place, address, name)),
    ]
}

impl Drawn {
    fn record(&self) -> Record {
        match self.clone() {
            Drawn::Clock(clock) => Record::Clock(clock),
            Drawn::Repairs(recoveries, damaged_at) => Record::Repairs(Repairs { recoveries, damaged_at }),
            Drawn::Owner(number, print, is_group, standing, id, fields) => {
                let purpose = if is_group { Purpose::Groups } else { Purpose::Tuples };
                let mut owner = Owner::new(Fingerprint(print), purpose, &id, &fields);
                owner.standing = Standing::from_numbers(standing);
                Record::Owner(OwnerNumber(number), Box::new(owner))
            }
            Drawn::Entry(owner, print, [first_seen, last_seen, detail, hash]) => {
                let entry = Entry { first_seen, last_seen, detail, introduced_by: EventHash(hash) };
                Record::Entry(OwnerNumber(owner), Fingerprint(print), entry)
            }
            Drawn::Forgotten(owner, print, is_live) => {
                Record::Forgotten { owner: OwnerNumber(owner), print: Fingerprint(print), is_live }
            }
            Drawn::Held(owner, count) => Record::Held(OwnerNumber(owner), count),
            Drawn::Ghost(place, mark, last_seen) => Record::Ghost(place as usize, Ghost { mark, last_seen }),
            Drawn::Enrichment([until, asked, lacking, known_addresses, relabelled]) => {
                Record::Enrichment(Hour { until, asked, lacking, known_addresses, relabelled })
            }
            Drawn::Label(place, address, organization) => {
                Record::Label(place as usize, Label { address, organization })
            }
        }
    }
}

fn write(batch: &mut Batch, record: Record) {
    let nothing = History::new(1, KEY);
    match record {
        Record::Clock(clock) => batch.clock(clock),
        Record::Repairs(repairs) => batch.repairs(repairs),
        Record::Owner(number, owner) => batch.owner(number, &owner),
        Record::Entry(owner, print, entry) => batch.entry(owner, print, &entry),
        Record::Forgotten { owner, print, is_live: true } => batch.change(Change::Evicted(owner, print), &nothing),
        Record::Forgotten { owner, print, is_live: false } => batch.change(Change::Expired(owner, print), &nothing),
        Record::Held(owner, count) => batch.change(Change::Held(owner, count), &nothing),
        Record::Ghost(place, ghost) => batch.ghost(place, ghost),
        Record::Enrichment(hour) => batch.enrichment(hour),
        Record::Label(place, label) => batch.label(place, label),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn what_is_written_is_read(key in any::<[u8; 16]>(), drawn in prop::collection::vec(drawn(), 1..60)) {
        let mut batch = Batch::behind(Vec::new(), Key(key));
        drawn.iter().for_each(|record| write(&mut batch, record.record()));
        let bytes = batch.finish();
        let (records, len) = Records::of_batch(&bytes, Key(key)).expect("a batch");
        prop_assert_eq!(len, bytes.len());
        let read: Vec<String> = records.map(|record| format!("{:?}", record.expect("a record"))).collect();
        let written: Vec<String> = drawn.iter().map(|record| format!("{:?}", record.record())).collect();
        prop_assert_eq!(read, written);
    }

    #[test]
    fn any_bytes_are_records_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut batch = [b"\xf1rst", &(bytes.len() as u32).to_le_bytes()[..], &[0; 8], &bytes].concat();
        let checksum = KEY.checksum(&[&batch[4..8], &bytes]).to_le_bytes();
        batch[8..16].copy_from_slice(&checksum);
        let (records, len) = Records::of_batch(&batch, KEY).expect("a batch");
        prop_assert_eq!(len, batch.len());
        let records: Vec<_> = records.collect();
        let (last, before) = records.split_last().map_or((None, &[][..]), |(last, before)| (Some(last), before));
        prop_assert!(before.iter().all(Result::is_ok), "nothing is read behind what is no record");
        prop_assert!(last.is_some() || bytes.is_empty());
    }
}
