//! Writing the state file anew: a replacement with all that the history knows, put in the file's place when it is whole.
//!
//! Responsible for: the replacement, a part at a time, so that no record waits for all of it. In: the history, which may change between
//! two parts, and its changes. Out: the file's length. Bounds: a part is as many entries as [`PART`] and those of one cache; 128 KB of
//! memory. Not here: when the file is written anew ([`super::keeper`]), and the bytes of a batch ([`super`]).
//!
//! A part says what is known when it is written. What changes afterwards is appended behind it, as it is to the state file, and what is
//! known of whole owners comes once more at the end, so that the last word on everything is the latest.

use super::{Batch, header};
use crate::enrichment::Hour;
use crate::new_terms::history::{History, OwnerNumber};
use crate::storage::{Storage, StorageError};

/// Behind how many entries a part ends, at the end of the cache that holds the last of them.
const PART: usize = 20_000;

/// How much of a replacement is written at once, in bytes.
const WRITE_LEN: usize = 128 << 10;

/// A replacement in the making.
#[derive(Debug)]
pub(super) struct Rewrite {
    /// What is not written yet.
    batch: Batch,
    /// The next cache, and whose record the batch has.
    owner: usize,
    cache: usize,
    of: Option<OwnerNumber>,
    /// How much was written, in bytes.
    len: u64,
    /// Whether the history has changed since the first part.
    has_changed: bool,
}

impl Rewrite {
    /// Begins a replacement.
    pub(super) fn begin(storage: &mut dyn Storage, history: &History) -> Result<Rewrite, StorageError> {
        storage.create()?;
        let mut batch = Batch::behind(header(history.key()), history.key());
        let has_owners = history.owners().any(|(_, owner)| owner.is_in_use());
        for _ in 0..1 + usize::from(has_owners) {
            known_of_all(&mut batch, history);
            batch.split();
        }
        Ok(Rewrite { batch, owner: 0, cache: 0, of: None, len: 0, has_changed: false })
    }

    /// Appends what has changed since the last part.
    pub(super) fn append_changes(&mut self, storage: &mut dyn Storage, bytes: &[u8]) -> Result<(), StorageError> {
        self.has_changed = true;
        self.len += bytes.len() as u64;
        storage.append_to_replacement(bytes)
    }

    /// Writes the next part; whether that was the last one.
    pub(super) fn part(&mut self, storage: &mut dyn Storage, history: &History) -> Result<bool, StorageError> {
        let mut count = 0;
        while let Ok(number) = u16::try_from(self.owner).map(OwnerNumber)
            && let Some(owner) = history.owner(number)
        {
            let Some(entries) = owner.entries_of_cache(self.cache) else {
                (self.owner, self.cache) = (self.owner + 1, 0);
                continue;
            };
            for (print, entry) in entries {
                if self.batch.is_full() {
                    self.batch.split();
                    self.of = None;
                }
                if self.batch.len() >= WRITE_LEN {
                    self.write(storage)?;
                }
                if self.of != Some(number) {
                    self.of = Some(number);
                    self.batch.owner(number, owner);
                }
                self.batch.entry(number, print, &entry);
                count += 1;
            }
            self.cache += 1;
            if count >= PART {
                self.write(storage)?;
                // What is on the medium by now need not be waited for at the end.
                storage.sync_replacement()?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Ends the replacement behind its last part, and puts it in the state file's place; its length, in bytes.
    pub(super) fn finish(
        mut self,
        storage: &mut dyn Storage,
        history: &History,
        sync: bool,
    ) -> Result<u64, StorageError> {
        if self.has_changed {
            known_of_all(&mut self.batch, history);
        }
        for (place, ghost) in history.ghosts() {
            self.batch.ghost(place, ghost);
        }
        for (place, label) in history.kept_labels() {
            self.batch.label(place, label);
        }
        self.write(storage)?;
        storage.replace(sync)?;
        Ok(self.len)
    }

    fn write(&mut self, storage: &mut dyn Storage) -> Result<(), StorageError> {
        let bytes = self.batch.take();
        self.of = None;
        self.len += bytes.len() as u64;
        storage.append_to_replacement(&bytes)
    }
}

/// What is known beside entries, ghosts and labels.
fn known_of_all(batch: &mut Batch, history: &History) {
    batch.clock(history.clock());
    batch.repairs(history.repairs());
    if history.enrichment() != Hour::default() {
        batch.enrichment(history.enrichment());
    }
    owners(batch, history);
}

/// The owners that are in use: what nobody uses and nothing belongs to is left out.
pub(super) fn owners(batch: &mut Batch, history: &History) {
    for (number, owner) in history.owners().filter(|(_, owner)| owner.is_in_use()) {
        batch.owner(number, owner);
    }
}

/// Puts a file that holds the history in the state file's place; its length, in bytes.
///
/// # Errors
/// That was not possible; what was in its place still is.
pub fn write(storage: &mut dyn Storage, history: &History, sync: bool) -> Result<u64, StorageError> {
    let written = Rewrite::begin(storage, history).and_then(|mut rewrite| {
        while !rewrite.part(storage, history)? {}
        rewrite.finish(storage, history, sync)
    });
    if written.is_err() {
        discard(storage);
    }
    written
}

/// Makes a replacement that is not wanted take no more space.
pub(super) fn discard(storage: &mut dyn Storage) {
    let _ = storage.create();
}
