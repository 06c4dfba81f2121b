//! The history of a configuration directory, outside of a running filter.
//!
//! In: a directory, or a file that `state export` wrote. Out: its history whole, whatever its capacity; and back again. The
//! module does not know that it is being tended: one that runs notices that the file was replaced, and goes on in memory
//! until it is restarted; a file that changes while it is tended is not replaced. Not here: what histories are.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use firstseen_engine::journal::NoHeader;
use firstseen_engine::journal::keeper;
use firstseen_engine::journal::recovery::{Recovered, Unreadable, recover};
use firstseen_engine::new_terms::fingerprint::{Key, seed_tables};
use firstseen_engine::new_terms::history::History;
use firstseen_engine::new_terms::history::entry::seconds;
use firstseen_engine::storage::{STATE_FILE, Status, Storage, StorageError};
use jiff::Timestamp;

use crate::state_export;
use crate::state_storage::StateStorage;

/// An open history.
#[derive(Debug)]
pub struct HistoryFile {
    storage: StateStorage,
    /// What became of the file when it was read; nothing, if there was none.
    status: Option<Status>,
    /// How much of it was damaged, in bytes; what was lost is counted in the history that comes with this.
    pub damaged: u64,
    /// How much at its end was of an append that was not finished, in bytes.
    pub torn: u64,
}

impl HistoryFile {
    /// Reads the history of a directory; `None` in its place if there is no state file.
    ///
    /// # Errors
    /// There is one, but it cannot be read.
    pub fn open(directory: &Path) -> anyhow::Result<(HistoryFile, Option<History>)> {
        seed_tables(new_key()?.0);
        let path = directory.join(STATE_FILE);
        let path = path.display();
        let cannot = |error: StorageError| anyhow!("cannot read {path}: {error}");
        let mut storage = StateStorage::new(directory);
        if !storage.open().map_err(cannot)? {
            return Ok((HistoryFile { storage, status: None, damaged: 0, torn: 0 }, None));
        }
        let Recovered { mut history, damaged, torn, .. } =
            recover(&mut storage, u32::MAX).map_err(|error| match error {
                Unreadable::Storage(error) => cannot(error),
                Unreadable::Header(NoHeader::Version(version)) => {
                    anyhow!("{path} is of version {version}, expected 1: use the program of the filter that wrote it")
                }
                Unreadable::Header(NoHeader::Damaged) => {
                    anyhow!("{path} is no state file, or damaged from its beginning: move it away")
                }
            })?;
        let status = Some(storage.status().map_err(cannot)?);
        if damaged > 0 || torn > 0 {
            let now = Timestamp::now().as_millisecond();
            history.mended(damaged > 0);
            history.begin_after_damage(seconds(now));
        }
        Ok((HistoryFile { storage, status, damaged, torn }, Some(history)))
    }

    /// The file's length, in bytes.
    pub fn len(&self) -> u64 {
        self.status.map_or(0, |status| status.len)
    }

    /// Whether there is no file.
    pub fn is_empty(&self) -> bool {
        self.status.is_none()
    }

    /// Writes the history in the file's place.
    ///
    /// # Errors
    /// It cannot be written, or somebody else has changed the file since it was read.
    pub fn write(&mut self, history: &mut History) -> anyhow::Result<u64> {
        let is_as_it_was = match self.status {
            Some(status) => self.storage.status() == Ok(status),
            None => self.storage.open() == Ok(false),
        };
        if !is_as_it_was {
            bail!("{STATE_FILE} has changed in the meantime: stop the filter that writes it first");
        }
        history.sort();
        keeper::write(&mut self.storage, history, true).map_err(|error| anyhow!("cannot write {STATE_FILE}: {error}"))
    }
}

/// A key that nobody knows.
///
/// # Errors
/// The system has no random bytes.
pub fn new_key() -> anyhow::Result<Key> {
    let mut key = [0; 16];
    getrandom::fill(&mut key).map_err(|error| anyhow!("the system gives no random bytes: {error}"))?;
    Ok(Key(key))
}

/// The history of a directory, of a state file, or of an export.
///
/// # Errors
/// It is none of these, or cannot be read.
pub fn read_any(path: &Path) -> anyhow::Result<History> {
    let cannot = || format!("cannot read {}", path.display());
    if path.is_dir() {
        let (_, history) = HistoryFile::open(path)?;
        return history.with_context(|| format!("{} has no {STATE_FILE}", path.display()));
    }
    let mut file = File::open(path).with_context(cannot)?;
    let mut head = [0; 16];
    let read = file.read(&mut head).with_context(cannot)?;
    if head[..read] == b"firstseen-state\n"[..read] && read == head.len() {
        let name = path.file_name();
        match (path.parent(), name == Some(STATE_FILE.as_ref())) {
            (Some(directory), true) => {
                let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
                return read_any(directory);
            }
            _ => bail!("{} is a state file of another name: name the directory that it stands in", path.display()),
        }
    }
    file.rewind().with_context(cannot)?;
    state_export::import(BufReader::new(file)).with_context(cannot)
}
