//! Recovery: a history out of a state file, whatever has become of the file.
//!
//! In: the open file, read once from its start. Out: the history that its whole batches make, and what was not whole.
//! Bounds: a buffer of two batches, and the history within its capacity. Not here: mending the file ([`super::keeper`]).
//!
//! ```text
//! loop:  fill the buffer
//!        a whole batch here, and each of its records is one, of an owner that is known?
//!          then its records count; go on behind it
//!        else go on at the next mark, and what is passed by is damage,
//!          unless the file ends without another whole batch, and what is left begins as one that is longer:
//!          then it is what a crash left of the last append
//! ```

use alloc::vec::Vec;

use super::{BATCH_HEADER_LEN, HEADER_LEN, MARK, MAX_RECORDS_LEN, NoHeader, Record, Records, key_of};
use crate::new_terms::fingerprint::Key;
use crate::new_terms::history::History;
use crate::storage::{Storage, StorageError};

/// The longest batch, in bytes.
const MAX_BATCH_LEN: usize = BATCH_HEADER_LEN + MAX_RECORDS_LEN;

/// How much is read at once, in bytes.
const READ_LEN: usize = 64 << 10;

/// What was found in a file.
#[derive(Debug)]
pub struct Recovered {
    /// What its whole batches say.
    pub history: History,
    /// How long the file is, in bytes.
    pub len: u64,
    /// How many bytes of it are damaged.
    pub damaged: u64,
    /// How many bytes at its end are of an append that was not finished.
    pub torn: u64,
}

/// Why a file makes no history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// It does not begin as a state file.
    Header(NoHeader),
    /// It could not be read.
    Storage(StorageError),
}

/// Reads the open state file.
///
/// # Errors
/// Its header is not one, or it cannot be read at all.
pub fn recover(storage: &mut dyn Storage, capacity: u32) -> Result<Recovered, Unreadable> {
    let (mut file, key) = Buffered::open(storage)?;
    let mut history = History::new(capacity, key);
    let (damaged, torn) = file.batches(key, &mut |records| restore_batch(records, &mut history))?;
    Ok(Recovered { len: file.read, history, damaged, torn })
}

/// Takes in what the open state file says, beside what the history knows already.
///
/// # Errors
/// Its header is not one, it cannot be read, or its fingerprints are made under another key.
pub(super) fn merge(storage: &mut dyn Storage, history: &mut History) -> Result<(), Unreadable> {
    let (mut file, key) = Buffered::open(storage)?;
    if key != history.key() {
        return Err(Unreadable::Header(NoHeader::Damaged));
    }
    // Owners have other numbers in the file.
    let mut owners = Vec::new();
    file.batches(key, &mut |records| {
        for record in records {
            record.ok()?.merge(history, &mut owners);
        }
        history.keep_to_capacity();
        Some(())
    })?;
    Ok(())
}

/// Whether the bytes are the beginning of a batch that is longer than they are.
fn is_beginning(bytes: &[u8]) -> bool {
    let mark = bytes.get(..MARK.len()).unwrap_or(bytes);
    let len = bytes.get(MARK.len()..).and_then(<[u8]>::first_chunk).map(|len| u32::from_le_bytes(*len) as usize);
    let is_longer = len.is_none_or(|len| len <= MAX_RECORDS_LEN && BATCH_HEADER_LEN + len > bytes.len());
    MARK.starts_with(mark) && is_longer
}

/// Takes in a batch; `None`, and nothing is done, if it is none.
fn restore_batch(mut records: Records<'_>, history: &mut History) -> Option<()> {
    // The batch counts whole or not at all.
    let mut defined = Vec::new();
    let mut checked = records.clone();
    while !checked.is_empty() {
        let owner = match checked.take_entry() {
            Some((owner, ..)) => owner,
            None => match checked.next()?.ok()? {
                Record::Owner(number, _) => {
                    defined.push(number);
                    continue;
                }
                Record::Forgotten { owner, .. } | Record::Held(owner, _) => owner,
                _ => continue,
            },
        };
        if !history.has_owner(owner) && !defined.contains(&owner) {
            return None;
        }
        checked.skip_entries(owner);
    }
    while !records.is_empty() {
        match records.take_entry() {
            Some((owner, print, entry)) => history.restore_entry(owner, print, entry),
            None => records.next()?.ok()?.restore(history),
        }
    }
    Some(())
}

/// A file being read, with what was read ahead.
struct Buffered<'s> {
    storage: &'s mut dyn Storage,
    bytes: Vec<u8>,
    /// Where in the bytes the rest begins.
    start: usize,
    ended: bool,
    /// How many bytes were read in all.
    read: u64,
}

impl<'s> Buffered<'s> {
    /// The file behind its header, and the key in that.
    fn open(storage: &'s mut dyn Storage) -> Result<(Buffered<'s>, Key), Unreadable> {
        let mut file = Buffered { storage, bytes: Vec::new(), start: 0, ended: false, read: 0 };
        file.fill(HEADER_LEN).map_err(Unreadable::Storage)?;
        let key = key_of(file.rest()).map_err(Unreadable::Header)?;
        file.start += HEADER_LEN;
        Ok((file, key))
    }

    /// Gives out each batch that is whole, to somebody who says whether its records are some; how many bytes are damaged, and how
    /// many are torn.
    fn batches(&mut self, key: Key, take: &mut dyn FnMut(Records<'_>) -> Option<()>) -> Result<(u64, u64), Unreadable> {
        let (mut damaged, mut torn) = (0, 0);
        // Bytes since the last whole batch, and whether they begin as one that the file is too short for.
        let (mut passed, mut is_torn) = (0, false);
        loop {
            self.fill(MAX_BATCH_LEN).map_err(Unreadable::Storage)?;
            if self.rest().is_empty() {
                break;
            }
            let batch = Records::of_batch(self.rest(), key);
            if let Some(len) = batch.and_then(|(records, len)| take(records).map(|()| len)) {
                self.start += len;
                damaged += core::mem::take(&mut passed);
                continue;
            }
            if passed == 0 {
                is_torn = self.ended && is_beginning(self.rest());
            }
            let next = self.rest().windows(MARK.len()).skip(1).position(|bytes| bytes == MARK).map(|at| at + 1);
            // A mark may stand across the end of what is read.
            let rest = self.rest().len();
            let step = next.unwrap_or(if self.ended { rest } else { rest - (MARK.len() - 1) });
            self.start += step;
            passed += step as u64;
        }
        *(if is_torn { &mut torn } else { &mut damaged }) += passed;
        Ok((damaged, torn))
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// Reads until there are so many bytes, or the file ends.
    fn fill(&mut self, len: usize) -> Result<(), StorageError> {
        if self.ended || self.rest().len() >= len {
            return Ok(());
        }
        self.bytes.drain(..self.start.min(self.bytes.len()));
        self.start = 0;
        let mut filled = self.bytes.len();
        let wanted = len.max(READ_LEN);
        self.bytes.resize(wanted + READ_LEN, 0);
        while filled < wanted {
            let read = self.storage.read(self.bytes.get_mut(filled..).unwrap_or_default());
            match read {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(read) => {
                    filled = (filled + read).min(self.bytes.len());
                    self.read += read as u64;
                }
                Err(error) => {
                    self.bytes.truncate(filled);
                    return Err(error);
                }
            }
        }
        self.bytes.truncate(filled);
        Ok(())
    }
}
