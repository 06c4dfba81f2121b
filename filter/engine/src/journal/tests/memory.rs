//! A disk in memory, and [`Storage`] on it.
//!
//! In: operations. Out: files by name, which every handle shares; each operation that changed something, for playing it
//! again up to any byte. It fails where a test wants it to: at one operation or from one on, half-way through what is
//! written, for lack of space, because it may not be written, or because the directory is gone. One process at a time
//! opens it through each [`Memory`]. Not here: what a crash leaves ([`Tape`] only says what was done).

use std::boxed::Box;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::vec::Vec;

use crate::storage::{DAMAGED_FILE, REPLACEMENT_FILE, STATE_FILE, Status, Storage, StorageError};

/// One operation that changed something, as it was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Append(Vec<u8>),
    Sync,
    Create,
    AppendToReplacement(Vec<u8>),
    Replace { sync: bool },
    SetAside,
}

/// All that was done, in order.
pub(crate) type Tape = Vec<Step>;

/// Which operations fail. Those that open nothing, read or ask count as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Once { at: usize, error: StorageError },
    From { at: usize, error: StorageError },
}

/// A file's place on the disk; handles and names lead to it.
type Inode = usize;

#[derive(Debug, Default)]
struct Platter {
    files: Vec<Vec<u8>>,
    names: BTreeMap<&'static str, Inode>,
    tape: Tape,
    operations: usize,
    fault: Option<Fault>,
    /// How many bytes all files with a name may take.
    space: Option<usize>,
    is_read_only: bool,
    /// Why the directory cannot be reached.
    unreachable: Option<StorageError>,
    /// What somebody else appends to the state file as soon as its status was asked for.
    behind_status: Option<Vec<u8>>,
}

/// A disk with one directory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk(Rc<RefCell<Platter>>);

impl Disk {
    /// One with a state file.
    pub(crate) fn with_file(bytes: &[u8]) -> Disk {
        let disk = Disk::default();
        disk.put(STATE_FILE, bytes);
        disk
    }

    /// One process's storage on it.
    pub(crate) fn storage(&self) -> Box<Memory> {
        Box::new(Memory { disk: self.clone(), open: None, replacement: None })
    }

    /// A new file under a name, which may have been another file's.
    pub(crate) fn put(&self, name: &'static str, bytes: &[u8]) {
        let mut platter = self.0.borrow_mut();
        platter.files.push(bytes.to_vec());
        let inode = platter.files.len() - 1;
        platter.names.insert(name, inode);
    }

    /// What is under a name.
    pub(crate) fn get(&self, name: &str) -> Option<Vec<u8>> {
        let platter = self.0.borrow();
        Some(platter.files[*platter.names.get(name)?].clone())
    }

    pub(crate) fn state_file(&self) -> Vec<u8> {
        self.get(STATE_FILE).expect("a state file")
    }

    pub(crate) fn remove(&self, name: &str) {
        self.0.borrow_mut().names.remove(name).expect("a file of that name");
    }

    /// What was done so far; it is forgotten.
    pub(crate) fn take_tape(&self) -> Tape {
        core::mem::take(&mut self.0.borrow_mut().tape)
    }

    pub(crate) fn operations(&self) -> usize {
        self.0.borrow().operations
    }

    pub(crate) fn set_fault(&self, fault: Option<Fault>) {
        self.0.borrow_mut().fault = fault;
    }

    pub(crate) fn set_space(&self, space: Option<usize>) {
        self.0.borrow_mut().space = space;
    }

    pub(crate) fn set_read_only(&self, is_read_only: bool) {
        self.0.borrow_mut().is_read_only = is_read_only;
    }

    pub(crate) fn set_unreachable(&self, unreachable: Option<StorageError>) {
        self.0.borrow_mut().unreachable = unreachable;
    }

    /// The directory and all that is in it are removed.
    pub(crate) fn remove_directory(&self) {
        self.0.borrow_mut().names.clear();
        self.set_unreachable(Some(StorageError::NOT_FOUND));
    }

    pub(crate) fn append_behind_status(&self, bytes: &[u8]) {
        self.0.borrow_mut().behind_status = Some(bytes.to_vec());
    }
}

impl Platter {
    /// Counts an operation; it fails if it is to.
    fn begin(&mut self) -> Result<(), StorageError> {
        self.operations += 1;
        let now = self.operations - 1;
        match self.fault {
            Some(Fault::Once { at, error }) if at == now => Err(error),
            Some(Fault::From { at, error }) if at <= now => Err(error),
            _ => Ok(()),
        }
    }

    fn reach(&self) -> Result<(), StorageError> {
        self.unreachable.map_or(Ok(()), Err)
    }

    fn reach_to_write(&self) -> Result<(), StorageError> {
        self.reach()?;
        if self.is_read_only { Err(READ_ONLY) } else { Ok(()) }
    }

    /// Writes what there is space for, or half of it if the operation fails.
    fn write(&mut self, inode: Inode, bytes: &[u8], outcome: Result<(), StorageError>) -> Result<usize, StorageError> {
        if let Err(error) = outcome {
            self.files[inode].extend_from_slice(&bytes[..bytes.len() / 2]);
            return Err(error);
        }
        if self.is_read_only {
            return Err(READ_ONLY);
        }
        let taken: usize = self.names.values().map(|inode| self.files[*inode].len()).sum();
        let space = self.space.map_or(usize::MAX, |space| space.saturating_sub(taken));
        let written = bytes.len().min(space);
        self.files[inode].extend_from_slice(&bytes[..written]);
        if written < bytes.len() { Err(StorageError::NO_SPACE) } else { Ok(written) }
    }
}

/// How many bytes are read at once, at most: nobody is to rely on full buffers.
pub(crate) const READ_LEN: usize = 40_961;

const READ_ONLY: StorageError = StorageError(69);
const BUSY: StorageError = StorageError(10);

/// One process's storage: the open state file with how far it was read, and the replacement in the making.
#[derive(Debug)]
pub(crate) struct Memory {
    disk: Disk,
    open: Option<(Inode, usize)>,
    /// The replacement, and how much was written to it from here.
    replacement: Option<(Inode, usize)>,
}

impl Memory {
    fn opened(&self) -> Result<Inode, StorageError> {
        self.open.map(|(inode, _)| inode).ok_or(StorageError::NO_DIRECTORY)
    }
}

impl Storage for Memory {
    fn open(&mut self) -> Result<bool, StorageError> {
        let mut platter = self.disk.0.borrow_mut();
        self.open = None;
        platter.begin()?;
        match platter.reach() {
            Err(StorageError::NOT_FOUND) => return Ok(false),
            outcome => outcome?,
        }
        self.open = platter.names.get(STATE_FILE).map(|inode| (*inode, 0));
        Ok(self.open.is_some())
    }

    fn read(&mut self, into: &mut [u8]) -> Result<usize, StorageError> {
        let mut platter = self.disk.0.borrow_mut();
        platter.begin()?;
        let (inode, position) = self.open.as_mut().ok_or(StorageError::NO_DIRECTORY)?;
        let rest = &platter.files[*inode][*position..];
        let len = rest.len().min(into.len()).min(READ_LEN);
        into[..len].copy_from_slice(&rest[..len]);
        *position += len;
        Ok(len)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        let inode = self.opened()?;
        let mut platter = self.disk.0.borrow_mut();
        let outcome = platter.begin();
        platter.write(inode, bytes, outcome)?;
        platter.tape.push(Step::Append(bytes.to_vec()));
        Ok(())
    }

    fn status(&mut self) -> Result<Status, StorageError> {
        let inode = self.opened()?;
        let mut platter = self.disk.0.borrow_mut();
        platter.begin()?;
        let is_linked = platter.names.values().any(|named| *named == inode);
        let status = Status { len: platter.files[inode].len() as u64, is_linked };
        if let Some(bytes) = platter.behind_status.take() {
            platter.files[inode].extend_from_slice(&bytes);
        }
        Ok(status)
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.opened()?;
        let mut platter = self.disk.0.borrow_mut();
        platter.begin()?;
        platter.tape.push(Step::Sync);
        Ok(())
    }

    fn create(&mut self) -> Result<(), StorageError> {
        let mut platter = self.disk.0.borrow_mut();
        self.replacement = None;
        platter.begin()?;
        platter.reach_to_write()?;
        // As systems do: a file of that name is emptied, whoever is writing it.
        let inode = match platter.names.get(REPLACEMENT_FILE) {
            Some(inode) => *inode,
            None => {
                platter.files.push(Vec::new());
                let inode = platter.files.len() - 1;
                platter.names.insert(REPLACEMENT_FILE, inode);
                inode
            }
        };
        platter.files[inode].clear();
        self.replacement = Some((inode, 0));
        platter.tape.push(Step::Create);
        Ok(())
    }

    fn append_to_replacement(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        let (inode, len) = self.replacement.as_mut().ok_or(StorageError::NO_DIRECTORY)?;
        *len += bytes.len();
        let mut platter = self.disk.0.borrow_mut();
        let outcome = platter.begin();
        platter.write(*inode, bytes, outcome)?;
        platter.tape.push(Step::AppendToReplacement(bytes.to_vec()));
        Ok(())
    }

    fn replace(&mut self, sync: bool) -> Result<(), StorageError> {
        let (inode, len) = self.replacement.ok_or(StorageError::NO_DIRECTORY)?;
        let mut platter = self.disk.0.borrow_mut();
        platter.begin()?;
        platter.reach_to_write()?;
        if platter.files[inode].len() != len || !platter.names.values().any(|named| *named == inode) {
            return Err(BUSY);
        }
        let renamed = platter.names.remove(REPLACEMENT_FILE).ok_or(StorageError::NOT_FOUND)?;
        platter.names.insert(STATE_FILE, renamed);
        platter.tape.push(Step::Replace { sync });
        self.open = Some((inode, 0));
        self.replacement = None;
        Ok(())
    }

    fn set_aside(&mut self) -> Result<(), StorageError> {
        let mut platter = self.disk.0.borrow_mut();
        self.open = None;
        platter.begin()?;
        platter.reach_to_write()?;
        let inode = platter.names.remove(STATE_FILE).ok_or(StorageError::NOT_FOUND)?;
        platter.names.insert(DAMAGED_FILE, inode);
        platter.tape.push(Step::SetAside);
        Ok(())
    }
}
