//! The state file: the history, as it survives a restart.
//!
//! In and out: bytes. This page is the format's only description, beside its encoder ([`header`], [`Batch`]) and its decoder
//! ([`key_of`], [`Records`]). Numbers are little-endian and of fixed width; times are seconds since 1970. Not here: where
//! the bytes come from ([`recovery`]) and when they are written ([`keeper`]).
//!
//! ```text
//! file    header, then batches, one behind the other
//! header  16  the label "firstseen-state\n"
//!          4  the version of this format, 1
//!         16  the key of the fingerprints, random
//!          8  checksum of the 36 bytes before
//! batch    4  the mark "\xf1rst"
//!          4  length of the records, at most 65536
//!          8  checksum of the length and the records
//!          …  records
//! record   1  kind, and then by kind:
//!   1      4  clock: the latest second of an event
//!   2      4  recoveries: how often a file was not whole when it was opened
//!          4  when something was found to be lost, or 0
//!   3      2  owner's number
//!         16  fingerprint of its rule's id and fields
//!          1  0 tuples, 1 groups
//!         32  its standing: window, since, until, evictions, evicted until, capacity needed, expired until, held, 4 each
//!          2  length of the rule's id, and the id
//!          2  length of the fields' names, and the names with commas between them
//!   4      2  owner's number
//!         16  fingerprint of a tuple or group
//!          4  first seen        4  last seen
//!          4  why it was new: 0 never seen, 1 evicted, else when it had been seen last; of a group, how many events
//!          4  hash of the event that introduced it, or 0
//!   5      2  owner's number   16  fingerprint of an entry that was forgotten when it had expired
//!   6      2  owner's number   16  fingerprint of an entry that was evicted
//!   7      2  owner's number    4  how many alerts were held
//!   8      4  place of a ghost  4  its mark         4  when it was last seen
//!   9      4  when an hour of enrichment ended        4  events that were asked for their AS organisation
//!          4  those without one  4  known addresses   4  those with another organisation than before
//!  10      4  place of a label   4  its address       4  its organisation
//!             or 65,536 and an owner's number            4  when its entries were found to be used once
//!                                                        2  which fields differ, one bit each   2  zero
//!             or 131,072: what events show of the clock  4  the earliest of those that are later than it allows
//!                                                        1  how many are later   1  how many agree
//!                                                        1  1: the later ones are the first   1  1: it was reported
//! ```
//!
//! A checksum is 64 bits of SipHash-2-4 under the file's key. A record says what is so from then on, and replaces what an
//! earlier one said of the same; but 5 and 6 take an entry away, and 7 adds. An owner comes before its entries. A batch is one
//! event's changes, unless they are too long for one; it counts whole or not at all. Owners are repeated, so that the loss of
//! one batch is not that of what comes behind it: a file begins with all of them twice, each batch of a whole history has
//! its own, and what is appended has all of them every 64 KB. What is at the end of the file and no
//! whole batch is what a crash left of the last one. What is elsewhere and no whole batch is damage.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::enrichment::{Hour, Label};
use crate::new_terms::fingerprint::{EventHash, Fingerprint, Key};
use crate::new_terms::history::entry::{Entry, Seconds};
use crate::new_terms::history::ghosts::Ghost;
use crate::new_terms::history::owner::{Owner, Purpose, STANDING_NUMBERS, Standing};
use crate::new_terms::history::{Change, History, OwnerNumber, Repairs};

pub mod keeper;
pub mod recovery;
mod rewrite;

#[cfg(test)]
pub(crate) mod tests;

/// What a state file begins with.
const LABEL: &[u8; 16] = b"firstseen-state\n";

/// The version of the format that this code writes, and the only one that it reads.
const VERSION: u32 = 1;

/// Length of the header, in bytes.
pub const HEADER_LEN: usize = 44;

/// What of the header its checksum is of.
const CHECKED_LEN: usize = 36;

/// What a batch begins with, for finding the next one behind damage.
const MARK: [u8; 4] = *b"\xf1rst";

/// Length of what stands before a batch's records, in bytes.
const BATCH_HEADER_LEN: usize = 16;

/// The most that the records of one batch take, in bytes.
pub const MAX_RECORDS_LEN: usize = 1 << 16;

/// From this length on, in bytes, a batch gets no more records. A record is shorter than the rest.
const FULL_LEN: usize = MAX_RECORDS_LEN - (4 << 10);

/// Length of a record of kind 4, the most frequent, in bytes.
const ENTRY_LEN: usize = 35;

/// Length of a record of kind 8, in bytes.
const GHOST_LEN: usize = 13;

/// Lengths of records of kinds 9 and 10, in bytes.
const ENRICHMENT_LEN: usize = 21;
const LABEL_LEN: usize = 13;

const CLOCK: u8 = 1;
const REPAIRS: u8 = 2;
const OWNER: u8 = 3;
const ENTRY: u8 = 4;
const EXPIRED: u8 = 5;
const EVICTED: u8 = 6;
const HELD: u8 = 7;
const GHOST: u8 = 8;
const ENRICHMENT: u8 = 9;
const LABEL_OF_ADDRESS: u8 = 10;

/// The header of a file with this key.
pub fn header(key: Key) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_LEN);
    bytes.extend_from_slice(LABEL);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&key.0);
    let checksum = key.checksum(&[&bytes]);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Why a file's first bytes are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoHeader {
    /// They are of another version.
    Version(u32),
    /// They are damaged, or never were one.
    Damaged,
}

/// The key in a file's first bytes.
///
/// # Errors
/// They are not all there, or not as they were written.
pub fn key_of(bytes: &[u8]) -> Result<Key, NoHeader> {
    let mut reader = Reader(bytes);
    if reader.array::<16>() != Some(*LABEL) {
        return Err(NoHeader::Damaged);
    }
    match reader.u32() {
        Some(VERSION) => {}
        Some(version) => return Err(NoHeader::Version(version)),
        None => return Err(NoHeader::Damaged),
    }
    let key = reader.array().map(Key).ok_or(NoHeader::Damaged)?;
    let checked = bytes.get(..CHECKED_LEN).ok_or(NoHeader::Damaged)?;
    let checksum = reader.array().map(u64::from_le_bytes);
    if checksum == Some(key.checksum(&[checked])) { Ok(key) } else { Err(NoHeader::Damaged) }
}

/// Batches being written, one behind the other.
#[derive(Debug)]
pub struct Batch {
    key: Key,
    bytes: Vec<u8>,
    /// Where the last batch begins.
    start: usize,
}

impl Batch {
    /// Goes on behind bytes that are there already.
    pub fn behind(bytes: Vec<u8>, key: Key) -> Batch {
        let start = bytes.len();
        let mut batch = Batch { key, bytes, start };
        batch.begin();
        batch
    }

    fn begin(&mut self) {
        self.start = self.bytes.len();
        self.bytes.extend_from_slice(&MARK);
        self.bytes.extend_from_slice(&[0; BATCH_HEADER_LEN - MARK.len()]);
    }

    /// Ends the last batch; a batch without records is none.
    fn end(&mut self) {
        let records = self.start + BATCH_HEADER_LEN;
        if self.bytes.len() == records {
            self.bytes.truncate(self.start);
            return;
        }
        let Some((before, records)) = self.bytes.split_at_mut_checked(records) else { return };
        let len = u32::try_from(records.len()).unwrap_or(u32::MAX).to_le_bytes();
        let checksum = self.key.checksum(&[&len, records]).to_le_bytes();
        if let Some(head) = before.get_mut(self.start + MARK.len()..) {
            head[..4].copy_from_slice(&len);
            head[4..].copy_from_slice(&checksum);
        }
    }

    /// The bytes, the last batch being whole.
    pub fn finish(mut self) -> Vec<u8> {
        self.end();
        self.bytes
    }

    /// How many bytes there are so far.
    fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether the next record begins another batch.
    fn is_full(&self) -> bool {
        self.bytes.len() - self.start >= FULL_LEN
    }

    /// Ends the last batch, and begins another.
    fn split(&mut self) {
        self.end();
        self.begin();
    }

    /// What there is so far, the last batch being whole; more may come.
    fn take(&mut self) -> Vec<u8> {
        self.end();
        let bytes = core::mem::take(&mut self.bytes);
        self.begin();
        bytes
    }

    fn record(&mut self, kind: u8, fields: &[&[u8]]) {
        if self.is_full() {
            self.split();
        }
        self.bytes.push(kind);
        fields.iter().for_each(|field| self.bytes.extend_from_slice(field));
    }

    /// The latest second of an event.
    pub fn clock(&mut self, clock: Seconds) {
        self.record(CLOCK, &[&clock.to_le_bytes()]);
    }

    /// How often the file was mended.
    pub fn repairs(&mut self, Repairs { recoveries, damaged_at }: Repairs) {
        self.record(REPAIRS, &[&recoveries.to_le_bytes(), &damaged_at.to_le_bytes()]);
    }

    /// An owner and its standing.
    pub fn owner(&mut self, number: OwnerNumber, owner: &Owner) {
        let mut standing = [0; 4 * STANDING_NUMBERS];
        for (place, number) in standing.chunks_exact_mut(4).zip(owner.standing.to_numbers()) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        let len = |text: &str| u16::try_from(text.len()).unwrap_or(u16::MAX).to_le_bytes();
        let (id, fields) = (&*owner.rule_id, &*owner.fields);
        self.record(
            OWNER,
            &[
                &number.0.to_le_bytes(),
                &owner.print.0,
                &[u8::from(owner.purpose == Purpose::Groups)],
                &standing,
                &len(id),
                id.as_bytes(),
                &len(fields),
                fields.as_bytes(),
            ],
        );
    }

    /// A tuple or a group.
    pub fn entry(&mut self, number: OwnerNumber, print: Fingerprint, entry: &Entry) {
        let Entry { first_seen, last_seen, detail, introduced_by } = *entry;
        let mut numbers = [0; 16];
        for (place, number) in numbers.chunks_exact_mut(4).zip([first_seen, last_seen, detail, introduced_by.0]) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        self.record(ENTRY, &[&number.0.to_le_bytes(), &print.0, &numbers]);
    }

    /// What was evicted.
    pub fn ghost(&mut self, place: usize, ghost: Ghost) {
        let place = u32::try_from(place).unwrap_or(u32::MAX);
        self.record(GHOST, &[&place.to_le_bytes(), &ghost.mark.to_le_bytes(), &ghost.last_seen.to_le_bytes()]);
    }

    /// What an hour of enrichment has shown.
    pub fn enrichment(&mut self, hour: Hour) {
        let Hour { until, asked, lacking, known_addresses, relabelled } = hour;
        let numbers = [until, asked, lacking, known_addresses, relabelled].map(u32::to_le_bytes);
        self.record(ENRICHMENT, &[numbers.as_flattened()]);
    }

    /// An address's AS organisation.
    pub fn label(&mut self, place: usize, label: Label) {
        let place = u32::try_from(place).unwrap_or(u32::MAX);
        let numbers = [place, label.address, label.organization].map(u32::to_le_bytes);
        self.record(LABEL_OF_ADDRESS, &[numbers.as_flattened()]);
    }

    /// One change of the history; nothing, if it is of an owner that is not there.
    pub fn change(&mut self, change: Change, history: &History) {
        let forgotten = |batch: &mut Batch, kind, number: OwnerNumber, print: Fingerprint| {
            batch.record(kind, &[&number.0.to_le_bytes(), &print.0]);
        };
        match change {
            Change::Owner(number) => {
                if let Some(owner) = history.owner(number) {
                    self.owner(number, owner);
                }
            }
            Change::Entry(number, print, entry) | Change::Count(number, print, entry) => {
                self.entry(number, print, &entry);
            }
            Change::Expired(number, print) => forgotten(self, EXPIRED, number, print),
            Change::Evicted(number, print) => forgotten(self, EVICTED, number, print),
            Change::Repairs => self.repairs(history.repairs()),
            Change::Enrichment => self.enrichment(history.enrichment()),
            Change::Label(place) => self.label(place, history.label(place).unwrap_or_default()),
            Change::UsedOnce(number) => {
                let (place, label) = history.used_once_label(number);
                self.label(place, label);
            }
            Change::Held(number, count) => self.record(HELD, &[&number.0.to_le_bytes(), &count.to_le_bytes()]),
        }
    }
}

/// How long the file of a history is that holds nothing but it, in bytes, at most.
pub fn live_len(history: &History) -> u64 {
    let owner_lens = || {
        let in_use = history.owners().filter(|(_, owner)| owner.is_in_use());
        in_use.map(|(_, owner)| 57 + owner.rule_id.len() + owner.fields.len())
    };
    let owners: usize = owner_lens().sum();
    // What the file begins with, twice.
    let mut len = HEADER_LEN + 2 * (BATCH_HEADER_LEN + 14 + owners);
    let entries = history.len() * ENTRY_LEN + history.ghost_count() * GHOST_LEN;
    if history.enrichment() != Hour::default() {
        len += 2 * ENRICHMENT_LEN;
    }
    let labels = history.kept_labels().count();
    if labels > 0 {
        len += labels * LABEL_LEN + BATCH_HEADER_LEN;
    }
    if entries > 0 {
        // Each owner's come behind itself, and so do those of each batch, of which some end early, because they are written.
        let batches = entries / (FULL_LEN / 3 * 2) + 1;
        len += owners + entries + batches * (BATCH_HEADER_LEN + owner_lens().max().unwrap_or(0));
    }
    len as u64
}

/// One record.
#[derive(Debug)]
pub enum Record {
    /// Kind 1.
    Clock(Seconds),
    /// Kind 2.
    Repairs(Repairs),
    /// Kind 3.
    Owner(OwnerNumber, Box<Owner>),
    /// Kind 4.
    Entry(OwnerNumber, Fingerprint, Entry),
    /// Kinds 5 and 6.
    Forgotten {
        /// Whose.
        owner: OwnerNumber,
        /// Which entry.
        print: Fingerprint,
        /// Whether it had not expired.
        is_live: bool,
    },
    /// Kind 7.
    Held(OwnerNumber, u32),
    /// Kind 8.
    Ghost(usize, Ghost),
    /// Kind 9.
    Enrichment(Hour),
    /// Kind 10.
    Label(usize, Label),
}

impl Record {
    /// Makes the history as the record says.
    fn restore(self, history: &mut History) {
        match self {
            Record::Clock(clock) => history.restore_clock(clock),
            Record::Repairs(repairs) => history.restore_repairs(repairs),
            Record::Owner(number, owner) => history.restore_owner(number, *owner),
            Record::Entry(number, print, entry) => history.restore_entry(number, print, entry),
            Record::Forgotten { owner, print, is_live } => history.restore_forgotten(owner, print, is_live),
            Record::Held(number, count) => history.restore_held(number, count),
            Record::Ghost(place, ghost) => history.restore_ghost(place, ghost),
            Record::Enrichment(hour) => history.restore_enrichment(hour),
            Record::Label(place, label) => history.restore_label(place, label),
        }
    }
}

impl Record {
    /// Takes in what the record says, beside what the history knows; `owners` are the history's by their numbers in the file. That
    /// something was forgotten is no reason to forget it.
    fn merge(self, history: &mut History, owners: &mut Vec<Option<OwnerNumber>>) {
        match self {
            Record::Clock(clock) => history.restore_clock(clock.max(history.clock())),
            Record::Repairs(repairs) => history.merge_repairs(repairs),
            Record::Owner(number, owner) => {
                let at = usize::from(number.0);
                owners.resize(owners.len().max(at + 1), None);
                if let Some(known) = owners.get_mut(at) {
                    *known = history.merge_owner(&owner);
                }
            }
            Record::Entry(number, print, entry) => {
                if let Some(Some(number)) = owners.get(usize::from(number.0)) {
                    history.merge_entry(*number, print, &entry);
                }
            }
            Record::Forgotten { .. } | Record::Held(..) => {}
            Record::Ghost(place, ghost) => history.merge_ghost(place, ghost),
            Record::Enrichment(hour) => history.merge_enrichment(hour),
            Record::Label(place, label) => history.merge_label(place, label),
        }
    }
}

/// The records of a batch; `Err` where the bytes are none.
#[derive(Debug, Clone)]
pub struct Records<'b>(Reader<'b>);

/// Bytes with a right checksum that are no records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotARecord;

impl<'b> Records<'b> {
    /// The first whole batch's records, and its length; `None` if the bytes begin with none.
    pub fn of_batch(bytes: &'b [u8], key: Key) -> Option<(Records<'b>, usize)> {
        let mut reader = Reader(bytes);
        if reader.array() != Some(MARK) {
            return None;
        }
        let len = reader.array::<4>()?;
        let checksum = u64::from_le_bytes(reader.array()?);
        let records = usize::try_from(u32::from_le_bytes(len)).ok().filter(|len| *len <= MAX_RECORDS_LEN)?;
        let records = reader.take(records)?;
        (checksum == key.checksum(&[&len, records]))
            .then(|| (Records(Reader(records)), BATCH_HEADER_LEN + records.len()))
    }

    /// Passes by the entries ahead that are of this owner.
    fn skip_entries(&mut self, owner: OwnerNumber) {
        let Records(Reader(bytes)) = self;
        let [a, b] = owner.0.to_le_bytes();
        while let Some((&[ENTRY, of_a, of_b, ..], behind)) = bytes.split_first_chunk::<ENTRY_LEN>()
            && [of_a, of_b] == [a, b]
        {
            *bytes = behind;
        }
    }

    /// Whether there are no more.
    pub fn is_empty(&self) -> bool {
        self.0.0.is_empty()
    }

    /// Takes the record ahead if it is an entry: nearly all are, and this is a few steps in an interpreter.
    pub fn take_entry(&mut self) -> Option<(OwnerNumber, Fingerprint, Entry)> {
        let Records(Reader(bytes)) = self;
        let (&[kind, a, b, ref rest @ ..], behind) = bytes.split_first_chunk::<ENTRY_LEN>()?;
        if kind != ENTRY {
            return None;
        }
        let (print, numbers) = rest.split_first_chunk::<16>()?;
        let [first_seen, last_seen, detail, introduced_by] = *numbers.as_chunks().0.first_chunk::<4>()?;
        *bytes = behind;
        let entry = Entry {
            first_seen: u32::from_le_bytes(first_seen),
            last_seen: u32::from_le_bytes(last_seen),
            detail: u32::from_le_bytes(detail),
            introduced_by: EventHash(u32::from_le_bytes(introduced_by)),
        };
        Some((OwnerNumber(u16::from_le_bytes([a, b])), Fingerprint(*print), entry))
    }

    fn record(&mut self) -> Option<Record> {
        if let Some((owner, print, entry)) = self.take_entry() {
            return Some(Record::Entry(owner, print, entry));
        }
        let Records(reader) = self;
        let kind = reader.array::<1>()?;
        Some(match kind[0] {
            CLOCK => Record::Clock(reader.u32()?),
            REPAIRS => Record::Repairs(Repairs { recoveries: reader.u32()?, damaged_at: reader.u32()? }),
            OWNER => {
                let number = reader.owner()?;
                let print = reader.print()?;
                let purpose = match reader.array()? {
                    [0] => Purpose::Tuples,
                    [1] => Purpose::Groups,
                    _ => return None,
                };
                let mut standing = [0; STANDING_NUMBERS];
                for number in &mut standing {
                    *number = reader.u32()?;
                }
                let (rule_id, fields) = (reader.text()?, reader.text()?);
                let mut owner = Owner::new(print, purpose, rule_id, fields);
                owner.standing = Standing::from_numbers(standing);
                Record::Owner(number, Box::new(owner))
            }
            kind @ (EXPIRED | EVICTED) => {
                Record::Forgotten { owner: reader.owner()?, print: reader.print()?, is_live: kind == EVICTED }
            }
            HELD => Record::Held(reader.owner()?, reader.u32()?),
            GHOST => Record::Ghost(
                usize::try_from(reader.u32()?).ok()?,
                Ghost { mark: reader.u32()?, last_seen: reader.u32()? },
            ),
            ENRICHMENT => Record::Enrichment(Hour {
                until: reader.u32()?,
                asked: reader.u32()?,
                lacking: reader.u32()?,
                known_addresses: reader.u32()?,
                relabelled: reader.u32()?,
            }),
            LABEL_OF_ADDRESS => Record::Label(
                usize::try_from(reader.u32()?).ok()?,
                Label { address: reader.u32()?, organization: reader.u32()? },
            ),
            _ => return None,
        })
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, NotARecord>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.0.is_empty() {
            return None;
        }
        let record = self.record().ok_or(NotARecord);
        if record.is_err() {
            self.0 = Reader(&[]);
        }
        Some(record)
    }
}

/// Bytes that are still to be read.
#[derive(Debug, Clone)]
struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn take(&mut self, len: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn owner(&mut self) -> Option<OwnerNumber> {
        self.array().map(|bytes| OwnerNumber(u16::from_le_bytes(bytes)))
    }

    fn print(&mut self) -> Option<Fingerprint> {
        self.array().map(Fingerprint)
    }

    fn text(&mut self) -> Option<&'b str> {
        let len = self.array().map(u16::from_le_bytes)?;
        core::str::from_utf8(self.take(usize::from(len))?).ok()
    }
}
