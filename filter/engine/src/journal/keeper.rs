//! Keeping the state file: append, compact, mend.
//!
//! In: a history with changes. Out: whether they outlive this process; and, for people, a [notice](Keeper::take_notice) when
//! that changes. Bounds: the file stays within twice what the history takes, or [`MIN_LEN`]. Nothing here fails: where the
//! file cannot be kept, the history goes on in memory. Not here: the bytes ([`super`]), reading them ([`super::recovery`]).
//!
//! ```text
//! changes:  the file is as it was left?  no: removed: write it anew; written by somebody else: give it up
//!           append
//!           it is too long?              write a replacement, put it in its place
//! failed:   from then on, every RETRY_SECONDS, write a replacement
//! ```
//!
//! A crash leaves: in an append, its beginning, which recovery drops; before the replacement is in its place, the old file;
//! after that, the new one. Each is what it was before the event or after it. There are no locks in WASI: a second writer is
//! noticed by the file's length, or because the name leads to another file, before each append; what two wrote at the very
//! same moment is whole batches all the same.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use super::recovery::{self, Recovered, Unreadable};
use super::{Batch, NoHeader, header, live_len};
use crate::decimal::decimal;
use crate::enrichment::Hour;
use crate::new_terms::fingerprint::Key;
use crate::new_terms::history::entry::Seconds;
use crate::new_terms::history::{Change, History};
use crate::rule::Sync;
use crate::storage::{DAMAGED_FILE, STATE_FILE, Storage, StorageError};

/// The length up to which a file is never compacted, in bytes.
pub const MIN_LEN: u64 = 256 << 10;

/// How long it takes until a file that could not be written is tried again, in seconds of arrival time.
const RETRY_SECONDS: u32 = 10;

/// After how many events with changes it is tried again, should the arrival time stand still; and after no fewer than a
/// tenth of the entries, all of which are written then.
const RETRY_EVENTS: usize = 1000;

/// Behind how much that is appended all owners are written again, in bytes.
const OWNERS_EVERY: u64 = 64 << 10;

/// How much of a replacement is written at once, in bytes.
const WRITE_LEN: usize = 128 << 10;

/// Keeps one state file.
#[derive(Debug)]
pub struct Keeper {
    storage: Box<dyn Storage>,
    sync: Sync,
    state: State,
    /// How often the file could not be written.
    failures: u64,
    notices: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The file says what the history says.
    Kept {
        /// Its length.
        len: u64,
        /// From which length on it is compacted, whatever its live length, because that was not possible before.
        compact_at: u64,
    },
    /// There is no file yet, or it must be written anew.
    Unwritten,
    /// The file could not be written.
    Failing {
        /// When it is tried again.
        retry_at: Seconds,
        /// After how many more events with changes.
        retry_in: usize,
        /// How long the file may be at most, if nobody else has written to it.
        len: u64,
    },
    /// The file is not this keeper's to write.
    GivenUp,
}

impl Keeper {
    /// Opens the state file, and returns the history in it, or an empty one with a new random key.
    pub fn open(mut storage: Box<dyn Storage>, sync: Sync, capacity: u32, new_key: Key) -> (Keeper, History) {
        let mut notices = Vec::new();
        let empty = || History::new(capacity, new_key);
        let (state, history) = match storage.open() {
            Ok(false) => (State::Unwritten, empty()),
            Err(StorageError::NO_DIRECTORY) => {
                notices.push(in_memory_only(StorageError::NO_DIRECTORY));
                (State::GivenUp, empty())
            }
            Err(StorageError::NOT_FOUND) => (State::Unwritten, empty()),
            Err(error) => {
                notices.push(unreadable(error));
                (State::GivenUp, empty())
            }
            Ok(true) => match recovery::recover(&mut *storage, capacity) {
                Ok(recovered) => mended(recovered, &mut notices),
                Err(Unreadable::Header(NoHeader::Version(version))) => {
                    notices.push(sentence(&[
                        STATE_FILE,
                        " is of version ",
                        &decimal(u64::from(version)),
                        ", and this filter reads version 1: the history is kept in memory only; use the filter that wrote \
                         it, or move it away and restart",
                    ]));
                    (State::GivenUp, empty())
                }
                Err(Unreadable::Header(NoHeader::Damaged)) => match storage.set_aside() {
                    Ok(()) => {
                        notices.push(sentence(&[
                            STATE_FILE,
                            " is damaged from its beginning: it is now ",
                            DAMAGED_FILE,
                            ", and the history starts anew; seed it with `firstseen baseline`",
                        ]));
                        let mut history = empty();
                        history.mended(false);
                        (State::Unwritten, history)
                    }
                    Err(error) => {
                        notices.push(unreadable(error));
                        (State::GivenUp, empty())
                    }
                },
                Err(Unreadable::Storage(error)) => {
                    notices.push(unreadable(error));
                    (State::GivenUp, empty())
                }
            },
        };
        let mut keeper = Keeper { storage, sync, state, failures: 0, notices };
        if keeper.state == State::Unwritten
            && let Err(error) = keeper.write_anew(&history)
        {
            keeper.fail(error, 0, history.len(), u64::MAX);
        }
        (keeper, history)
    }

    /// Whether the history outlives this process.
    pub fn is_durable(&self) -> bool {
        matches!(self.state, State::Kept { .. })
    }

    /// How often the file could not be written.
    pub fn failures(&self) -> u64 {
        self.failures
    }

    /// What people are to be told, once.
    pub fn take_notice(&mut self) -> Option<String> {
        if self.notices.is_empty() { None } else { Some(self.notices.remove(0)) }
    }

    /// Whether there is one.
    #[inline]
    pub fn has_notice(&self) -> bool {
        !self.notices.is_empty()
    }

    /// Writes what has changed in the history, and takes it for written. `arrival` is the second of the event's arrival.
    pub fn commit(&mut self, history: &mut History, arrival: Seconds) {
        if history.changes().is_empty() {
            return;
        }
        let mut longest = u64::MAX;
        let outcome = match &mut self.state {
            State::GivenUp => Ok(()),
            State::Kept { len, compact_at } => {
                let (len, compact_at) = (*len, *compact_at);
                let bytes = changes(history, len);
                longest = len + bytes.len() as u64;
                self.append(history, &bytes, len, compact_at)
            }
            State::Unwritten => self.write_anew(history),
            State::Failing { retry_at, retry_in, len } => {
                *retry_in = retry_in.saturating_sub(1);
                longest = *len;
                if arrival >= *retry_at || *retry_in == 0 { self.write_again(history, longest) } else { Ok(()) }
            }
        };
        history.forget_changes();
        if let Err(error) = outcome {
            self.fail(error, arrival.saturating_add(RETRY_SECONDS), history.len(), longest);
        }
    }

    fn fail(&mut self, error: StorageError, retry_at: Seconds, entries: usize, len: u64) {
        self.failures += 1;
        if !matches!(self.state, State::Failing { .. }) {
            self.notices.push(in_memory_only(error));
        }
        self.state = State::Failing { retry_at, retry_in: RETRY_EVENTS.max(entries / 10), len };
    }

    fn append(&mut self, history: &History, bytes: &[u8], len: u64, compact_at: u64) -> Result<(), StorageError> {
        let status = self.storage.status()?;
        if !status.is_linked {
            // Removed, or replaced by somebody else's file.
            return self.write_again(history, len);
        }
        if status.len != len {
            self.give_up();
            return Ok(());
        }
        self.storage.append(bytes)?;
        // How many events a group has had may be lost with the power; what is known may not.
        let decides = |change: &Change| {
            !matches!(change, Change::Count(..) | Change::Enrichment | Change::Label(_) | Change::UsedOnce(_))
        };
        let decides = history.changes().iter().any(decides);
        if self.sync == Sync::Data && decides {
            self.storage.sync()?;
        }
        let len = len + bytes.len() as u64;
        self.state = State::Kept { len, compact_at };
        if len <= compact_at.max(MIN_LEN) {
            return Ok(());
        }
        let limit = (2 * live_len(history)).max(MIN_LEN);
        if len > limit
            && let Err(error) = self.write_anew(history)
        {
            // For a while, a file that is too long is better than none.
            if len > 2 * limit {
                return Err(error);
            }
            self.state = State::Kept { len, compact_at: len + limit / 4 };
        }
        Ok(())
    }

    /// Writes the file that is no more where it was, or that could not be written. One that is longer than this is somebody
    /// else's.
    fn write_again(&mut self, history: &History, longest: u64) -> Result<(), StorageError> {
        let was_failing = matches!(self.state, State::Failing { .. });
        let is_ours = match self.storage.status() {
            Ok(status) if status.is_linked => status.len <= longest,
            Ok(_) | Err(StorageError::NO_DIRECTORY) => match self.storage.open() {
                Ok(is_there) => !is_there,
                Err(StorageError::NOT_FOUND) => true,
                Err(error) => return Err(error),
            },
            Err(error) => return Err(error),
        };
        if !is_ours {
            self.give_up();
            return Ok(());
        }
        self.write_anew(history)?;
        let what = if was_failing { " can be written" } else { " was removed, and is written anew" };
        self.notices.push(sentence(&[STATE_FILE, what, ": the history is durable again"]));
        Ok(())
    }

    fn give_up(&mut self) {
        self.state = State::GivenUp;
        self.notices.push(sentence(&[
            STATE_FILE,
            " is written by another filter or program as well: the history is kept in memory only; give each filter a \
             directory of its own (accessible_paths), then restart",
        ]));
    }

    /// Writes all that the history knows, in the place of what there was.
    fn write_anew(&mut self, history: &History) -> Result<(), StorageError> {
        // Where the power may fail between the name and what it stands for, all would be lost, not the latest part.
        let len = write(&mut *self.storage, history, self.sync == Sync::Data || !history.is_empty())?;
        self.state = State::Kept { len, compact_at: 0 };
        Ok(())
    }
}

/// Puts a file that holds the history in the state file's place; its length, in bytes.
///
/// # Errors
/// That was not possible; what was in its place still is.
pub fn write(storage: &mut dyn Storage, history: &History, sync: bool) -> Result<u64, StorageError> {
    storage.create()?;
    let written = write_replacement(storage, history);
    if written.is_err() {
        // It takes no more space.
        let _ = storage.create();
    }
    let len = written?;
    storage.replace(sync)?;
    Ok(len)
}

fn write_replacement(storage: &mut dyn Storage, history: &History) -> Result<u64, StorageError> {
    let mut len = 0;
    let mut batch = Batch::behind(header(history.key()), history.key());
    let has_owners = history.owners().any(|(_, owner)| owner.is_in_use());
    for _ in 0..1 + usize::from(has_owners) {
        batch.clock(history.clock());
        batch.repairs(history.repairs());
        if history.enrichment() != Hour::default() {
            batch.enrichment(history.enrichment());
        }
        owners(&mut batch, history);
        batch.split();
    }
    for (number, owner) in history.owners() {
        let mut is_first = true;
        for (print, entry) in owner.entries() {
            if batch.is_full() {
                batch.split();
                is_first = true;
            }
            if batch.bytes.len() >= WRITE_LEN {
                let bytes = batch.take();
                len += bytes.len() as u64;
                storage.append_to_replacement(&bytes)?;
                is_first = true;
            }
            if core::mem::take(&mut is_first) {
                batch.owner(number, owner);
            }
            batch.entry(number, print, &entry);
        }
    }
    for (place, ghost) in history.ghosts() {
        batch.ghost(place, ghost);
    }
    for (place, label) in history.kept_labels() {
        batch.label(place, label);
    }
    let bytes = batch.finish();
    storage.append_to_replacement(&bytes)?;
    Ok(len + bytes.len() as u64)
}

/// The owners that are in use: what nobody uses and nothing belongs to is left out.
fn owners(batch: &mut Batch, history: &History) {
    for (number, owner) in history.owners().filter(|(_, owner)| owner.is_in_use()) {
        batch.owner(number, owner);
    }
}

/// The changes as batches, behind a file of this length.
fn changes(history: &History, len: u64) -> Vec<u8> {
    let mut batch = Batch::behind(Vec::new(), history.key());
    batch.clock(history.clock());
    for change in history.changes() {
        batch.change(*change, history);
    }
    // What an owner's record says counts all that the changes say, so it comes behind them as well.
    for change in history.changes().iter().filter(|change| matches!(change, Change::Owner(_))) {
        batch.change(*change, history);
    }
    if (len + batch.bytes.len() as u64) / OWNERS_EVERY != len / OWNERS_EVERY {
        owners(&mut batch, history);
    }
    batch.finish()
}

/// What a file that could be read makes of the history, and whether it must be written anew.
fn mended(recovered: Recovered, notices: &mut Vec<String>) -> (State, History) {
    let Recovered { mut history, len, damaged, torn } = recovered;
    if damaged == 0 && torn == 0 {
        return (State::Kept { len, compact_at: 0 }, history);
    }
    if damaged > 0 {
        notices.push(sentence(&[
            &decimal(damaged),
            " of the ",
            &decimal(len),
            " bytes of ",
            STATE_FILE,
            " are damaged: what they held is forgotten, and may alert again; seed the history with `firstseen baseline`",
        ]));
    }
    history.mended(damaged > 0);
    (State::Unwritten, history)
}

fn in_memory_only(error: StorageError) -> String {
    sentence(&[
        "the history is kept in memory only, since ",
        STATE_FILE,
        " cannot be written (",
        &error.text(),
        "): a restart forgets what is new from now on",
    ])
}

fn unreadable(error: StorageError) -> String {
    sentence(&[
        STATE_FILE,
        " cannot be read (",
        &error.text(),
        "): the history is kept in memory only; mend that, then restart",
    ])
}

fn sentence(parts: &[&str]) -> String {
    parts.concat()
}
