//! The state file in the configuration directory, through WASI.
//!
//! In and out: what [`Storage`] says. Not here: what the file holds.

use firstseen_engine::storage::{DAMAGED_FILE, REPLACEMENT_FILE, STATE_FILE, Status, Storage, StorageError};

use crate::wasi::{self, Errno, File, Open};

/// The open state file and the replacement in the making.
#[derive(Default)]
pub(crate) struct StateFile {
    open: Option<File>,
    /// Why the open file may be read only.
    read_only: Option<Errno>,
    replacement: Option<File>,
    /// How much was written to the replacement from here, in bytes.
    replacement_len: u64,
}

/// By name only: nobody prints it, and what prints numbers and structures would be in the module for it.
impl core::fmt::Debug for StateFile {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("StateFile")
    }
}

fn failure(Errno(number): Errno) -> StorageError {
    StorageError(number)
}

fn file(open: &mut Option<File>) -> Result<&mut File, StorageError> {
    open.as_mut().ok_or(failure(Errno::BADF))
}

impl Storage for StateFile {
    fn open(&mut self) -> Result<bool, StorageError> {
        (self.open, self.read_only) = (None, None);
        let opened = match File::open(STATE_FILE, Open::ReadAndAppend) {
            // What is known counts also where nothing can be added.
            Err(error @ (Errno::ACCES | Errno::PERM | Errno::ROFS)) => {
                self.read_only = Some(error);
                File::open(STATE_FILE, Open::Read)
            }
            opened => opened,
        };
        match opened {
            Ok(file) => {
                self.open = Some(file);
                Ok(true)
            }
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(failure(error)),
        }
    }

    fn read(&mut self, into: &mut [u8]) -> Result<usize, StorageError> {
        file(&mut self.open)?.read(into).map_err(failure)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        if let Some(error) = self.read_only {
            return Err(failure(error));
        }
        file(&mut self.open)?.append(bytes).map_err(failure)
    }

    fn status(&mut self) -> Result<Status, StorageError> {
        let status = file(&mut self.open)?.status().map_err(failure)?;
        Ok(Status { len: status.len, is_linked: status.links > 0 })
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        file(&mut self.open)?.sync().map_err(failure)
    }

    fn create(&mut self) -> Result<(), StorageError> {
        self.replacement = None;
        self.replacement = Some(File::open(REPLACEMENT_FILE, Open::Create).map_err(failure)?);
        self.replacement_len = 0;
        Ok(())
    }

    fn append_to_replacement(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.replacement_len += bytes.len() as u64;
        file(&mut self.replacement)?.append(bytes).map_err(failure)
    }

    fn sync_replacement(&mut self) -> Result<(), StorageError> {
        file(&mut self.replacement)?.sync().map_err(failure)
    }

    fn replace(&mut self, sync: bool) -> Result<(), StorageError> {
        let replacement = file(&mut self.replacement)?;
        if sync {
            replacement.sync().map_err(failure)?;
        }
        // Another writer may have begun one of its own in its place.
        let status = replacement.status().map_err(failure)?;
        if status.len != self.replacement_len || status.links == 0 {
            return Err(failure(Errno::BUSY));
        }
        wasi::rename(REPLACEMENT_FILE, STATE_FILE).map_err(failure)?;
        (self.open, self.read_only) = (self.replacement.take(), None);
        Ok(())
    }

    fn set_aside(&mut self) -> Result<(), StorageError> {
        self.open = None;
        wasi::rename(STATE_FILE, DAMAGED_FILE).map_err(failure)
    }
}
