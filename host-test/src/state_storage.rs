//! The state file of a configuration directory, through the host's own files.
//!
//! In and out: what [`Storage`] says, with WASI's error numbers. What is made is its owner's only, for a history holds its
//! key. Where two programs make a replacement at the same time, the one that finds its own changed or gone leaves the state
//! file as it is. Not here: what the file holds; waiting for another program, or keeping it out.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use firstseen_engine::storage::{DAMAGED_FILE, REPLACEMENT_FILE, STATE_FILE, Status, Storage, StorageError};

use crate::ownership;
use crate::wasi::{Errno, is_pipe};

/// The open state file and the replacement in the making.
#[derive(Debug)]
pub struct StateStorage {
    directory: PathBuf,
    read_only: bool,
    open: Option<File>,
    replacement: Option<Replacement>,
    /// A replacement was put in its place, but whether that will last is not sure.
    directory_is_unsynced: bool,
}

#[derive(Debug)]
struct Replacement {
    file: File,
    /// How much was written to it from here, in bytes.
    len: u64,
}

impl StateStorage {
    /// In a directory, which need not be there yet when this is made.
    pub fn new(directory: &Path) -> StateStorage {
        StateStorage {
            directory: directory.to_path_buf(),
            read_only: false,
            open: None,
            replacement: None,
            directory_is_unsynced: false,
        }
    }

    /// The same, but whatever would change a file fails as on a file system that is read-only.
    pub fn read_only(directory: &Path) -> StateStorage {
        StateStorage { read_only: true, ..StateStorage::new(directory) }
    }

    fn may_write(&self) -> Result<(), StorageError> {
        if self.read_only { Err(error(Errno::ReadOnly)) } else { Ok(()) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn open_file(&mut self) -> Result<&mut File, StorageError> {
        self.open.as_mut().ok_or(error(Errno::BadDescriptor))
    }

    /// Begins a file that nobody else has open.
    fn begin(&self) -> io::Result<File> {
        let path = self.path(REPLACEMENT_FILE);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        options.read(true).append(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, crate::wasi::OWNER_ONLY);
        let file = options.open(path)?;
        ownership::give_to_owner(&file, &self.path(STATE_FILE), &self.directory)?;
        Ok(file)
    }

    /// Puts the replacement in the state file's place.
    fn put_in_place(&self, replacement: &Replacement, sync: bool) -> Result<(), StorageError> {
        if sync {
            replacement.file.sync_data().map_err(failure)?;
        }
        if !replacement.is_ours().map_err(failure)? {
            return Err(error(Errno::Busy));
        }
        fs::rename(self.path(REPLACEMENT_FILE), self.path(STATE_FILE)).map_err(failure)
    }

    /// Gives the space of a replacement back that cannot be finished. Best effort: the next one begins by removing it.
    fn give_up(&self, replacement: &Replacement) {
        if replacement.is_ours().unwrap_or(false) {
            let _ = fs::remove_file(self.path(REPLACEMENT_FILE));
        }
    }

    /// Gives up the replacement that is in the making, for this reason.
    fn fail_replacement(&mut self, reason: StorageError) -> Result<(), StorageError> {
        if let Some(replacement) = self.replacement.take() {
            self.give_up(&replacement);
        }
        Err(reason)
    }

    /// Waits until the names in the directory are on the medium.
    fn sync_directory(&self) -> io::Result<()> {
        if !cfg!(unix) {
            return Ok(());
        }
        match File::open(&self.directory)?.sync_all() {
            // The file system keeps names in another way.
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
            synced => synced,
        }
    }
}

impl Replacement {
    /// Whether it still has its name, and holds what was written from here and nothing else.
    fn is_ours(&self) -> io::Result<bool> {
        let metadata = self.file.metadata()?;
        Ok(is_linked(&metadata) && metadata.len() == self.len)
    }
}

impl Storage for StateStorage {
    fn open(&mut self) -> Result<bool, StorageError> {
        self.open = None;
        let path = self.path(STATE_FILE);
        if path.is_dir() {
            return Err(error(Errno::IsDirectory));
        }
        if is_pipe(&path) {
            return Err(error(Errno::NoPosition));
        }
        let open = |append| OpenOptions::new().read(true).append(append).open(&path);
        let opened = match open(!self.read_only) {
            // What is known counts also where nothing can be added.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) =>
            {
                open(false)
            }
            opened => opened,
        };
        let file = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            opened => opened.map_err(failure)?,
        };
        self.open = Some(file);
        Ok(true)
    }

    fn read(&mut self, into: &mut [u8]) -> Result<usize, StorageError> {
        let file = self.open_file()?;
        loop {
            match file.read(into) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read.map_err(failure),
            }
        }
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.may_write()?;
        self.open_file()?.write_all(bytes).map_err(failure)
    }

    fn status(&mut self) -> Result<Status, StorageError> {
        let metadata = self.open_file()?.metadata().map_err(failure)?;
        Ok(Status { len: metadata.len(), is_linked: is_linked(&metadata) })
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.open_file()?.sync_data().map_err(failure)?;
        if self.directory_is_unsynced {
            self.sync_directory().map_err(failure)?;
            self.directory_is_unsynced = false;
        }
        Ok(())
    }

    fn create(&mut self) -> Result<(), StorageError> {
        self.may_write()?;
        self.replacement = None;
        self.replacement = Some(Replacement { file: self.begin().map_err(failure)?, len: 0 });
        Ok(())
    }

    fn append_to_replacement(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.may_write()?;
        let replacement = self.replacement.as_mut().ok_or(error(Errno::BadDescriptor))?;
        let mut rest = bytes;
        while !rest.is_empty() {
            match replacement.file.write(rest) {
                Ok(0) => return self.fail_replacement(error(Errno::Io)),
                Ok(wrote) => {
                    replacement.len += wrote as u64;
                    rest = &rest[wrote..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.fail_replacement(failure(error)),
            }
        }
        Ok(())
    }

    fn replace(&mut self, sync: bool) -> Result<(), StorageError> {
        self.may_write()?;
        let replacement = self.replacement.take().ok_or(error(Errno::BadDescriptor))?;
        if let Err(error) = self.put_in_place(&replacement, sync) {
            self.give_up(&replacement);
            return Err(error);
        }
        self.open = Some(replacement.file);
        // The file is in its place; that this is not sure to last is for the next `sync` to mend or to tell.
        self.directory_is_unsynced = sync && self.sync_directory().is_err();
        Ok(())
    }

    fn set_aside(&mut self) -> Result<(), StorageError> {
        self.may_write()?;
        fs::rename(self.path(STATE_FILE), self.path(DAMAGED_FILE)).map_err(failure)?;
        self.open = None;
        Ok(())
    }
}

#[cfg(unix)]
fn is_linked(metadata: &Metadata) -> bool {
    std::os::unix::fs::MetadataExt::nlink(metadata) > 0
}

/// Nobody tells elsewhere.
#[cfg(not(unix))]
fn is_linked(_: &Metadata) -> bool {
    true
}

fn error(errno: Errno) -> StorageError {
    StorageError(errno as u16)
}

fn failure(failed: io::Error) -> StorageError {
    error(failed.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Directory {
        directory: tempfile::TempDir,
        storage: StateStorage,
    }

    impl Directory {
        fn new() -> Directory {
            let directory = tempfile::tempdir().unwrap();
            let storage = StateStorage::new(directory.path());
            Directory { directory, storage }
        }

        /// With a state file, which is open.
        fn with(contents: &str) -> Directory {
            let mut directory = Directory::new();
            directory.write(STATE_FILE, contents);
            assert_eq!(directory.storage.open(), Ok(true));
            directory
        }

        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join(name)
        }

        fn write(&self, name: &str, contents: &str) {
            fs::write(self.path(name), contents).unwrap();
        }

        /// `None` if there is no such file.
        fn contents(&self, name: &str) -> Option<String> {
            fs::read_to_string(self.path(name)).ok()
        }

        /// What is left to read of the open file.
        fn rest(&mut self) -> String {
            let (mut text, mut bytes) = (Vec::new(), [0; 3]);
            loop {
                match self.storage.read(&mut bytes).unwrap() {
                    0 => return String::from_utf8(text).unwrap(),
                    read => text.extend_from_slice(&bytes[..read]),
                }
            }
        }

        fn begin(&mut self, contents: &str) {
            self.storage.create().unwrap();
            self.storage.append_to_replacement(contents.as_bytes()).unwrap();
        }
    }

    const NOT_OPEN: StorageError = StorageError::NO_DIRECTORY;

    #[test]
    fn without_a_state_file_nothing_is_open() {
        let Directory { storage, .. } = &mut Directory::new();
        assert_eq!(storage.open(), Ok(false));
        assert_eq!(storage.read(&mut [0]), Err(NOT_OPEN));
        assert_eq!(storage.append(b"x"), Err(NOT_OPEN));
        assert_eq!(storage.status(), Err(NOT_OPEN));
        assert_eq!(storage.sync(), Err(NOT_OPEN));
        assert_eq!(storage.append_to_replacement(b"x"), Err(NOT_OPEN));
        assert_eq!(storage.replace(false), Err(NOT_OPEN));
        assert_eq!(storage.set_aside(), Err(StorageError::NOT_FOUND));
    }

    #[test]
    fn a_state_file_is_read_from_its_start_and_appended_to() {
        let mut here = Directory::with("one ");
        assert_eq!(here.rest(), "one ");
        here.storage.append(b"two ").unwrap();
        here.storage.sync().unwrap();
        assert_eq!(here.contents(STATE_FILE).unwrap(), "one two ");
        assert_eq!(here.storage.status(), Ok(Status { len: 8, is_linked: true }));
        assert_eq!(here.storage.open(), Ok(true));
        assert_eq!(here.rest(), "one two ");
        // Another writer's bytes stay.
        let mut other = StateStorage::new(here.directory.path());
        assert_eq!(other.open(), Ok(true));
        other.append(b"three ").unwrap();
        here.storage.append(b"four").unwrap();
        assert_eq!(here.contents(STATE_FILE).unwrap(), "one two three four");
        assert_eq!(here.storage.status().unwrap().len, 18);
    }

    #[test]
    fn a_replacement_takes_the_state_file_s_place_and_is_open() {
        for sync in [false, true] {
            for mut here in [Directory::with("old"), Directory::new()] {
                here.begin("ne");
                here.storage.append_to_replacement(b"w").unwrap();
                assert_ne!(here.contents(STATE_FILE).as_deref(), Some("new"), "not yet");
                here.storage.replace(sync).unwrap();
                assert_eq!(here.contents(STATE_FILE).unwrap(), "new");
                assert_eq!(here.contents(REPLACEMENT_FILE), None);
                assert_eq!(here.storage.status(), Ok(Status { len: 3, is_linked: true }));
                here.storage.append(b"er").unwrap();
                here.storage.sync().unwrap();
                assert_eq!(here.contents(STATE_FILE).unwrap(), "newer");
                assert_eq!(here.storage.replace(sync), Err(NOT_OPEN), "it is one no more");
            }
        }
    }

    #[test]
    fn a_replacement_begins_empty_whatever_was_left_behind() {
        let mut here = Directory::new();
        here.write(REPLACEMENT_FILE, "of a process that was killed");
        here.begin("a");
        here.begin("b");
        here.storage.replace(true).unwrap();
        assert_eq!(here.contents(STATE_FILE).unwrap(), "b");
    }

    #[cfg(unix)]
    #[test]
    fn what_is_made_is_its_owner_s_only() {
        use std::os::unix::fs::PermissionsExt;
        let mut here = Directory::new();
        here.write(REPLACEMENT_FILE, "open to all");
        fs::set_permissions(here.path(REPLACEMENT_FILE), fs::Permissions::from_mode(0o666)).unwrap();
        here.begin("x");
        here.storage.replace(false).unwrap();
        assert_eq!(fs::metadata(here.path(STATE_FILE)).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[cfg(unix)]
    #[test]
    fn a_removed_and_a_replaced_file_are_told() {
        let mut here = Directory::with("old");
        fs::remove_file(here.path(STATE_FILE)).unwrap();
        assert_eq!(here.storage.status(), Ok(Status { len: 3, is_linked: false }));
        here.write(STATE_FILE, "again");
        assert!(!here.storage.status().unwrap().is_linked, "the name is another file's");

        let mut here = Directory::with("old");
        let mut other = StateStorage::new(here.directory.path());
        other.create().unwrap();
        other.replace(false).unwrap();
        assert_eq!(here.storage.status(), Ok(Status { len: 3, is_linked: false }));
        assert_eq!(here.storage.open(), Ok(true));
        assert_eq!(here.storage.status(), Ok(Status { len: 0, is_linked: true }));
    }

    #[cfg(unix)]
    #[test]
    fn of_two_replacements_the_later_one_wins_and_the_earlier_changes_nothing() {
        let mut here = Directory::with("old");
        let mut other = StateStorage::new(here.directory.path());
        here.begin("ours");
        other.create().unwrap();
        other.append_to_replacement(b"th").unwrap();
        // Whose file has the name now is in the making.
        assert_eq!(here.storage.replace(true), Err(StorageError(10)));
        assert_eq!(here.contents(STATE_FILE).unwrap(), "old");
        here.storage.append(b"er").unwrap();
        assert_eq!(here.contents(STATE_FILE).unwrap(), "older", "it is open as before");
        other.append_to_replacement(b"eirs").unwrap();
        other.replace(true).unwrap();
        assert_eq!(here.contents(STATE_FILE).unwrap(), "theirs");

        // A filter, which can only empty the file, and then writes into it.
        here.begin("ours");
        here.write(REPLACEMENT_FILE, "oops!");
        assert_eq!(here.storage.replace(false), Err(StorageError(10)));
        assert_eq!(here.contents(REPLACEMENT_FILE).as_deref(), Some("oops!"), "it is not ours to remove");
        assert_eq!(here.contents(STATE_FILE).unwrap(), "theirs");
    }

    #[test]
    fn what_fails_leaves_the_state_file_open_as_it_was() {
        let mut here = Directory::with("old");
        here.begin("new");
        fs::create_dir(here.path("sub")).unwrap();
        fs::rename(here.path(STATE_FILE), here.path("sub/aside")).unwrap();
        fs::create_dir(here.path(STATE_FILE)).unwrap();
        assert_eq!(here.storage.replace(true), Err(StorageError(31)));
        assert_eq!(here.contents(REPLACEMENT_FILE), None, "its space is given back");
        here.storage.append(b"er").unwrap();
        assert_eq!(here.contents("sub/aside").unwrap(), "older");
        assert_eq!(here.storage.open(), Err(StorageError(31)), "a directory");
        assert_eq!(StateStorage::read_only(here.directory.path()).open(), Err(StorageError(31)));
    }

    /// `/dev/full` takes nothing.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_told() {
        let mut here = Directory::new();
        std::os::unix::fs::symlink("/dev/full", here.path(STATE_FILE)).unwrap();
        assert_eq!(here.storage.open(), Ok(true));
        assert_eq!(here.storage.append(b"x"), Err(StorageError::NO_SPACE));
        here.begin("x");
        let full = OpenOptions::new().append(true).open("/dev/full").unwrap();
        here.storage.replacement = Some(Replacement { file: full, len: 0 });
        assert_eq!(here.storage.append_to_replacement(b"x"), Err(StorageError::NO_SPACE));
        assert_eq!(here.contents(REPLACEMENT_FILE), None, "its space is given back");
        assert_eq!(here.storage.replace(false), Err(NOT_OPEN), "half a replacement is none");
    }

    #[test]
    fn a_directory_that_vanishes_is_told_and_may_come_back() {
        let mut here = Directory::with("old");
        let path = here.directory.path().to_path_buf();
        fs::remove_dir_all(&path).unwrap();
        assert_eq!(here.storage.create(), Err(StorageError::NOT_FOUND));
        assert_eq!(here.storage.set_aside(), Err(StorageError::NOT_FOUND));
        assert_eq!(here.storage.open(), Ok(false));
        fs::create_dir(&path).unwrap();
        here.begin("new");
        here.storage.replace(true).unwrap();
        assert_eq!(here.contents(STATE_FILE).unwrap(), "new");
    }

    #[cfg(unix)]
    #[test]
    fn a_directory_that_was_not_synced_is_synced_with_the_file() {
        let mut here = Directory::with("old");
        let path = here.directory.path().to_path_buf();
        here.storage.directory_is_unsynced = true;
        here.storage.sync().unwrap();
        assert!(!here.storage.directory_is_unsynced);
        here.storage.directory_is_unsynced = true;
        fs::remove_dir_all(&path).unwrap();
        assert_eq!(here.storage.sync(), Err(StorageError::NOT_FOUND));
        assert_eq!(here.storage.sync(), Err(StorageError::NOT_FOUND), "still not sure");
        fs::create_dir(&path).unwrap();
        assert_eq!(here.storage.sync(), Ok(()));
    }

    #[test]
    fn a_state_file_that_was_set_aside_is_open_no_more() {
        let mut here = Directory::with("bad");
        here.write(DAMAGED_FILE, "worse");
        here.storage.set_aside().unwrap();
        assert_eq!(here.contents(DAMAGED_FILE).unwrap(), "bad");
        assert_eq!(here.contents(STATE_FILE), None);
        assert_eq!(here.storage.append(b"x"), Err(NOT_OPEN));
        assert_eq!(here.storage.open(), Ok(false));
    }

    #[test]
    fn nothing_is_changed_where_only_reading_was_asked_for() {
        let mut here = Directory::with("old");
        here.write(REPLACEMENT_FILE, "somebody's");
        here.storage = StateStorage::read_only(here.directory.path());
        assert_eq!(here.storage.open(), Ok(true));
        assert_eq!(here.rest(), "old");
        let read_only = Err(StorageError(69));
        assert_eq!(here.storage.append(b"x"), read_only);
        assert_eq!(here.storage.create(), read_only);
        assert_eq!(here.storage.append_to_replacement(b"x"), read_only);
        assert_eq!(here.storage.replace(true), read_only);
        assert_eq!(here.storage.set_aside(), read_only);
        assert_eq!(here.storage.sync(), Ok(()));
        assert_eq!(here.storage.status(), Ok(Status { len: 3, is_linked: true }));
        assert_eq!(here.contents(STATE_FILE).unwrap(), "old");
        assert_eq!(here.contents(REPLACEMENT_FILE).unwrap(), "somebody's");
        assert_eq!(fs::read_dir(here.directory.path()).unwrap().count(), 2);
    }
}
