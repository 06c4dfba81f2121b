//! Where the state file is: the few operations on files that keeping a history takes.
//!
//! In and out: bytes. The module does these through WASI, the host program through its own files, and tests through one
//! that fails where they want it to. One file, the state file, is open at most; beside it a replacement may be in the
//! making. What an implementation must hold to: after [`Storage::append`] returned, the bytes are the system's, and the
//! end of this process does not lose them; [`Storage::replace`] takes place whole or not at all. Not here: what the
//! bytes mean ([`crate::journal`]).

use alloc::string::String;
use core::fmt;

use crate::decimal::decimal;

/// The state file's name in the configuration directory.
pub const STATE_FILE: &str = "firstseen.state";

/// The name of the replacement while it is in the making.
pub const REPLACEMENT_FILE: &str = "firstseen.state.new";

/// What a state file is renamed to that cannot be read.
pub const DAMAGED_FILE: &str = "firstseen.state.damaged";

/// Operations on the state file and its replacement.
pub trait Storage: fmt::Debug {
    /// Opens the state file, to read it from its start and to append to it; `false` if there is none. One that may be read only
    /// is opened all the same.
    ///
    /// # Errors
    /// There may be one, but it cannot be opened.
    fn open(&mut self) -> Result<bool, StorageError>;

    /// Reads on in the open state file; 0 at its end.
    ///
    /// # Errors
    /// It cannot be read.
    fn read(&mut self, into: &mut [u8]) -> Result<usize, StorageError>;

    /// Writes at the end of the open state file, wherever that is by now, as one piece where the system can.
    ///
    /// # Errors
    /// Not all could be written; some may be.
    fn append(&mut self, bytes: &[u8]) -> Result<(), StorageError>;

    /// What has become of the open state file.
    ///
    /// # Errors
    /// Nobody knows.
    fn status(&mut self) -> Result<Status, StorageError>;

    /// Waits until what was appended to the open state file is on the medium.
    ///
    /// # Errors
    /// That is not sure.
    fn sync(&mut self) -> Result<(), StorageError>;

    /// Begins an empty replacement, in place of one that was begun before.
    ///
    /// # Errors
    /// It cannot be made.
    fn create(&mut self) -> Result<(), StorageError>;

    /// Writes at the end of the replacement.
    ///
    /// # Errors
    /// Not all could be written.
    fn append_to_replacement(&mut self, bytes: &[u8]) -> Result<(), StorageError>;

    /// Waits until what was written to the replacement is on the medium; a storage may leave that to [`Storage::replace`].
    ///
    /// # Errors
    /// That is not sure.
    fn sync_replacement(&mut self) -> Result<(), StorageError> {
        Ok(())
    }

    /// Waits, if asked to, until the replacement is on the medium, and puts it in the state file's place; from now on it is
    /// the open state file. After an error the state file is open as it was before. A replacement that somebody else has
    /// written to, or begun anew, is an error.
    ///
    /// # Errors
    /// It could not be done; the old file is still in its place.
    fn replace(&mut self, sync: bool) -> Result<(), StorageError>;

    /// Renames the state file, for people to look at; it is not open any more.
    ///
    /// # Errors
    /// It cannot be renamed.
    fn set_aside(&mut self) -> Result<(), StorageError>;
}

/// What has become of an open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Its length, in bytes.
    pub len: u64,
    /// Whether a name still leads to it: neither removed nor replaced.
    pub is_linked: bool,
}

/// Why storage failed: an error number of `wasi_snapshot_preview1`, whatever the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StorageError(pub u16);

impl StorageError {
    /// The host opened no directory (`EBADF`).
    pub const NO_DIRECTORY: StorageError = StorageError(8);
    /// `EIO`.
    pub const IO: StorageError = StorageError(29);
    /// `ENOENT`.
    pub const NOT_FOUND: StorageError = StorageError(44);
    /// `ENOSPC`.
    pub const NO_SPACE: StorageError = StorageError(51);
}

impl StorageError {
    /// What went wrong, in words.
    pub fn text(self) -> String {
        let words = match self.0 {
            2 => "permission denied",
            63 => "operation not permitted",
            6 => "resource temporarily unavailable",
            8 => "the host gives no directory",
            10 => "another filter or program writes it",
            19 => "quota exceeded",
            22 => "the file would be too large",
            29 => "input or output error",
            31 => "it is a directory",
            32 => "it is a symbolic link",
            33 | 41 => "too many open files",
            44 => "no such directory",
            51 => "no space left",
            54 => "part of its path is not a directory",
            58 => "not supported by the host",
            70 => "it is not a regular file",
            72 => "stale file handle of a network file system",
            69 => "read-only file system",
            76 => "not permitted by the host",
            number => return ["WASI error ", &decimal(u64::from(number))].concat(),
        };
        String::from(words)
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}
