//! Keeping the state file: append, compact, mend.
//!
//! In: a history with changes. Out: whether they outlive this process; and, for people, a [notice](Keeper::take_notice) when
//! that changes. Bounds: the file stays within twice what the history takes, or [`MIN_LEN`]. Nothing here fails: where the
//! file cannot be kept, the history goes on in memory. Not here: the bytes ([`super`]), reading them ([`super::recovery`]).
//!
//! ```text
//! changes:  the file is as it was left?  no: removed: write it anew; written by somebody else: give it up
//!           append
//!           it is too long?              write a replacement, a part with each event, and put it in its place
//! failed:   from then on, every RETRY_SECONDS, write a replacement
//! yielded:  another writes it: once it has stayed as it is for QUIET_SECONDS, take in what it says, and write a replacement
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
use super::rewrite::{self, Rewrite, owners};
use super::{Batch, NoHeader, live_len};
use crate::decimal::decimal;
use crate::new_terms::fingerprint::{Key, seed_tables};
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

/// How long the file must stay as it is, in seconds of arrival time, until another writer is taken for gone; twice as long each time
/// that one comes again, up to an hour.
const QUIET_SECONDS: u32 = 60;
const MAX_QUIET_SECONDS: u32 = 60 * 60;

pub use super::rewrite::write;

/// Keeps one state file.
#[derive(Debug)]
pub struct Keeper {
    storage: Box<dyn Storage>,
    sync: Sync,
    state: State,
    /// The replacement in the making, and what is said when it is in its place.
    rewrite: Option<(Rewrite, &'static str)>,
    /// See [`QUIET_SECONDS`].
    quiet: u32,
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
    /// Another filter or program writes the file.
    Yielded {
        /// When it is looked whether the other is gone, or after how many more events with changes where nobody knows the time.
        look_at: Seconds,
        look_in: usize,
        /// The file's length when that was looked at last.
        seen: u64,
    },
    /// The file is not this keeper's to write.
    GivenUp,
}

impl Keeper {
    /// Opens the state file, and returns the history in it, or an empty one with a new random key.
    pub fn open(mut storage: Box<dyn Storage>, sync: Sync, capacity: u32, new_key: Key) -> (Keeper, History) {
        seed_tables(new_key.0);
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
        let mut keeper = Keeper { storage, sync, state, rewrite: None, quiet: QUIET_SECONDS, failures: 0, notices };
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

    /// Whether a replacement is in the making.
    #[cfg(test)]
    pub(super) fn is_rewriting(&self) -> bool {
        self.rewrite.is_some()
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
        let is_rewriting = self.rewrite.is_some();
        let mut longest = u64::MAX;
        let mut outcome = match &mut self.state {
            State::GivenUp => Ok(()),
            State::Kept { len, compact_at } => {
                let (len, compact_at) = (*len, *compact_at);
                let bytes = changes(history, len);
                longest = len + bytes.len() as u64;
                self.append(history, &bytes, len, compact_at, arrival)
            }
            State::Unwritten if is_rewriting => Ok(()),
            State::Unwritten => self.begin_rewriting(history, ""),
            State::Failing { retry_at, retry_in, len } => {
                *retry_in = retry_in.saturating_sub(1);
                longest = *len;
                let is_due = arrival >= *retry_at || *retry_in == 0;
                if is_due && !is_rewriting { self.write_again(history, longest, arrival) } else { Ok(()) }
            }
            State::Yielded { look_at, look_in, seen } => {
                *look_in = look_in.saturating_sub(1);
                longest = *seen;
                let is_due = if arrival == 0 { *look_in == 0 } else { arrival >= *look_at };
                if is_due { self.look_at_yielded(history, arrival) } else { Ok(()) }
            }
        };
        if self.rewrite.is_some() && outcome.is_ok() {
            outcome = self.go_on_rewriting(history, is_rewriting);
        }
        history.forget_changes();
        if let Err(error) = outcome {
            self.fail(error, arrival.saturating_add(RETRY_SECONDS), history.len(), longest);
        }
    }

    fn fail(&mut self, error: StorageError, retry_at: Seconds, entries: usize, len: u64) {
        self.failures += 1;
        self.rewrite = None;
        if !matches!(self.state, State::Failing { .. }) {
            self.notices.push(in_memory_only(error));
        }
        self.state = State::Failing { retry_at, retry_in: RETRY_EVENTS.max(entries / 10), len };
    }

    fn append(
        &mut self,
        history: &History,
        bytes: &[u8],
        len: u64,
        compact_at: u64,
        arrival: Seconds,
    ) -> Result<(), StorageError> {
        let status = self.storage.status()?;
        if !status.is_linked {
            // Removed, or replaced by somebody else's file.
            return self.write_again(history, len, arrival);
        }
        if status.len != len {
            self.yield_file(arrival, status.len);
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
        if len > compact_at.max(MIN_LEN) && self.rewrite.is_none() && len > longest_len(history) {
            self.begin_rewriting(history, "")?;
        }
        Ok(())
    }

    /// Writes the file that is no more where it was, or that could not be written. One that is longer than this is somebody
    /// else's.
    fn write_again(&mut self, history: &History, longest: u64, arrival: Seconds) -> Result<(), StorageError> {
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
            self.yield_file(arrival, u64::MAX);
            return Ok(());
        }
        let what = if was_failing { " can be written" } else { " was removed, and is written anew" };
        if !was_failing {
            self.state = State::Unwritten;
        }
        self.begin_rewriting(history, what)
    }

    /// Leaves the file to another writer.
    fn yield_file(&mut self, arrival: Seconds, seen: u64) {
        if self.rewrite.take().is_some() {
            rewrite::discard(&mut *self.storage);
        }
        self.state = self.yielded(arrival, seen);
        self.notices.push(sentence(&[
            STATE_FILE,
            " is written by another filter or program as well: the history is kept in memory only until the other has \
             ended; give each filter a directory of its own (accessible_paths)",
        ]));
    }

    fn yielded(&self, arrival: Seconds, seen: u64) -> State {
        State::Yielded { look_at: arrival.saturating_add(self.quiet), look_in: RETRY_EVENTS, seen }
    }

    /// Takes the file up again, with what the other writer has seen, if it has stayed as it was for a while.
    fn look_at_yielded(&mut self, history: &mut History, arrival: Seconds) -> Result<(), StorageError> {
        let State::Yielded { seen, .. } = self.state else { return Ok(()) };
        let found = match self.storage.open() {
            Ok(true) => self.storage.status().map(|status| Some(status.len)),
            Ok(false) | Err(StorageError::NOT_FOUND) => Ok(None),
            Err(error) => Err(error),
        };
        // What cannot be read may be the other's.
        let Ok(found) = found else {
            self.state = self.yielded(arrival, seen);
            return Ok(());
        };
        if let Some(len) = found {
            if len != seen {
                self.state = self.yielded(arrival, len);
                return Ok(());
            }
            if recovery::merge(&mut *self.storage, history).is_err() {
                self.state = State::GivenUp;
                self.notices.push(sentence(&[
                    STATE_FILE,
                    " is another filter's or program's, and its fingerprints cannot be compared: the history is kept in memory \
                     only until a restart",
                ]));
                return Ok(());
            }
        }
        self.quiet = self.quiet.saturating_mul(2).min(MAX_QUIET_SECONDS);
        self.state = State::Failing { retry_at: 0, retry_in: 0, len: seen };
        self.begin_rewriting(history, " is written by nobody else any more")
    }

    /// Begins a replacement with the whole history. `what` completes the notice that is given when it is in place.
    fn begin_rewriting(&mut self, history: &History, what: &'static str) -> Result<(), StorageError> {
        match Rewrite::begin(&mut *self.storage, history) {
            Ok(rewrite) => self.rewrite = Some((rewrite, what)),
            Err(error) => self.cannot_rewrite(history, error)?,
        }
        Ok(())
    }

    /// Writes another part of the replacement, if there is one in the making; `is_behind` says whether the history has changed
    /// since the last part.
    #[cold]
    fn go_on_rewriting(&mut self, history: &History, is_behind: bool) -> Result<(), StorageError> {
        let Some((mut rewrite, what)) = self.rewrite.take() else { return Ok(()) };
        let storage = &mut *self.storage;
        let mut part = || {
            if is_behind {
                rewrite.append_changes(storage, &changes(history, 0))?;
            }
            rewrite.part(storage, history)
        };
        let sync = self.sync == Sync::Data || !history.is_empty();
        let written = match part() {
            Ok(false) => {
                self.rewrite = Some((rewrite, what));
                return Ok(());
            }
            // Where the power may fail between the name and what it stands for, all would be lost, not the latest part.
            Ok(true) => rewrite.finish(&mut *self.storage, history, sync),
            Err(error) => Err(error),
        };
        match written {
            Ok(len) => {
                self.state = State::Kept { len, compact_at: 0 };
                if !what.is_empty() {
                    self.notices.push(sentence(&[STATE_FILE, what, ": the history is durable again"]));
                }
                Ok(())
            }
            Err(error) => self.cannot_rewrite(history, error),
        }
    }

    /// The replacement cannot be written. For a while, a file that is too long is better than none.
    fn cannot_rewrite(&mut self, history: &History, error: StorageError) -> Result<(), StorageError> {
        rewrite::discard(&mut *self.storage);
        let limit = longest_len(history);
        match self.state {
            State::Kept { len, .. } if len <= 2 * limit => {
                self.state = State::Kept { len, compact_at: len + limit / 4 };
                Ok(())
            }
            _ => Err(error),
        }
    }

    /// Replaces the file with the whole history, in one step.
    fn write_anew(&mut self, history: &History) -> Result<(), StorageError> {
        let len = write(&mut *self.storage, history, self.sync == Sync::Data || !history.is_empty())?;
        self.state = State::Kept { len, compact_at: 0 };
        Ok(())
    }
}

/// How long the file of a history may be until it is compacted, in bytes.
fn longest_len(history: &History) -> u64 {
    (2 * live_len(history)).max(MIN_LEN)
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
