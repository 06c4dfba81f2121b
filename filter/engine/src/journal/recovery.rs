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

use alloc::vec;
use alloc::vec::Vec;

use super::{BATCH_HEADER_LEN, HEADER_LEN, MARK, MAX_RECORDS_LEN, NoHeader, Record, Records, key_of};
use crate::new_terms::fingerprint::Key;
use crate::new_terms::history::{History, OwnerNumber};
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
    let mut file = Buffered { storage, bytes: Vec::new(), start: 0, ended: false, read: 0 };
    file.fill(HEADER_LEN).map_err(Unreadable::Storage)?;
    let key = key_of(file.rest()).map_err(Unreadable::Header)?;
    file.start += HEADER_LEN;
    let mut recovered = Recovered { history: History::new(capacity, key), len: 0, damaged: 0, torn: 0 };
    // Bytes since the last whole batch, and whether they begin as one that the file is too short for.
    let (mut passed, mut is_torn) = (0, false);
    loop {
        file.fill(MAX_BATCH_LEN).map_err(Unreadable::Storage)?;
        if file.rest().is_empty() {
            break;
        }
        if let Some(len) = restore_batch(file.rest(), key, &mut recovered.history) {
            file.start += len;
            recovered.damaged += core::mem::take(&mut passed);
            continue;
        }
        if passed == 0 {
            is_torn = file.ended && is_beginning(file.rest());
        }
        let next = file.rest().windows(MARK.len()).skip(1).position(|bytes| bytes == MARK).map(|at| at + 1);
        // A mark may stand across the end of what is read.
        let rest = file.rest().len();
        let step = next.unwrap_or(if file.ended { rest } else { rest - (MARK.len() - 1) });
        file.start += step;
        passed += step as u64;
    }
    *(if is_torn { &mut recovered.torn } else { &mut recovered.damaged }) += passed;
    recovered.len = file.read;
    Ok(recovered)
}

/// Whether the bytes are the beginning of a batch that is longer than they are.
fn is_beginning(bytes: &[u8]) -> bool {
    let mark = bytes.get(..MARK.len()).unwrap_or(bytes);
    let len = bytes.get(MARK.len()..).and_then(<[u8]>::first_chunk).map(|len| u32::from_le_bytes(*len) as usize);
    let is_longer = len.is_none_or(|len| len <= MAX_RECORDS_LEN && BATCH_HEADER_LEN + len > bytes.len());
    MARK.starts_with(mark) && is_longer
}

/// Takes in the batch that the bytes begin with, and returns its length; `None` if they begin with none.
fn restore_batch(bytes: &[u8], key: Key, history: &mut History) -> Option<usize> {
    let (records, len) = Records::of_batch(bytes, key)?;
    // The batch counts whole or not at all.
    let mut defined = Vec::new();
    let is_known =
        |number: OwnerNumber, defined: &[OwnerNumber]| history.has_owner(number) || defined.contains(&number);
    for record in records.clone() {
        match record.ok()? {
            Record::Owner(number, _) => defined.push(number),
            Record::Entry(owner, ..) | Record::Forgotten { owner, .. } | Record::Held(owner, _)
                if !is_known(owner, &defined) =>
            {
                return None;
            }
            _ => {}
        }
    }
    for record in records.flatten() {
        record.restore(history);
    }
    Some(len)
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

impl Buffered<'_> {
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
        let mut chunk = vec![0; READ_LEN];
        while self.bytes.len() < len.max(READ_LEN) {
            let read = self.storage.read(&mut chunk)?;
            let read = chunk.get(..read).unwrap_or_default();
            if read.is_empty() {
                self.ended = true;
                break;
            }
            self.bytes.extend_from_slice(read);
            self.read += read.len() as u64;
        }
        Ok(())
    }
}
