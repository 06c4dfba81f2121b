//! The part of WASI (`wasi_snapshot_preview1`) that the module imports.
//!
//! In: the guest's memory and the arguments of its call. Out: bytes in that memory and WASI's error number. The guest sees
//! its three standard streams and, where it was given one, the configuration directory as preopen [`DIRECTORY`]; in it,
//! files with plain names. A file that the guest makes is for its owner's eyes only: a history holds its key.
//! Bounds: every pointer is checked against the memory, of a write before anything is written; at most [`MAX_OPEN`] files
//! are open; nothing panics. Not here: sub-directories, links that the guest did not ask to follow, and whatever else WASI
//! has.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The file descriptor of the configuration directory.
pub const DIRECTORY: u32 = 3;

/// The first file descriptor that an opened file gets.
const FIRST_FILE: u32 = 4;

/// How many files the guest may hold open: the module needs one.
const MAX_OPEN: usize = 64;

/// The longest file name, in bytes; that of Linux.
const MAX_NAME: usize = 255;

/// The mode of files that are made.
#[cfg(unix)]
pub(crate) const OWNER_ONLY: u32 = 0o600;

/// What a WASI call returns: 0 or an error number of `wasi_snapshot_preview1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Errno {
    /// It worked.
    Success = 0,
    /// Permission denied.
    Access = 2,
    /// No such file descriptor.
    BadDescriptor = 8,
    /// Busy.
    Busy = 10,
    /// The quota is exceeded.
    Quota = 19,
    /// The file exists.
    Exists = 20,
    /// A pointer outside the memory.
    Fault = 21,
    /// The file is too large.
    TooBig = 22,
    /// Bytes that are not UTF-8.
    IllegalBytes = 25,
    /// An argument that makes no sense.
    Invalid = 28,
    /// Reading or writing failed.
    Io = 29,
    /// A directory where a file was expected.
    IsDirectory = 31,
    /// A symbolic link that was not to be followed.
    Loop = 32,
    /// Too many open files.
    TooManyOpen = 41,
    /// The name is too long.
    NameTooLong = 37,
    /// No such file.
    NoEntry = 44,
    /// No space left.
    NoSpace = 51,
    /// A file where a directory was expected.
    NotDirectory = 54,
    /// Not supported.
    NotSupported = 58,
    /// A file system that is read-only.
    ReadOnly = 69,
    /// Seeking in what has no position.
    NoPosition = 70,
    /// A file that its server does not know any more.
    Stale = 72,
    /// A file descriptor without the right to do this, or a name that leads out of the directory.
    NotCapable = 76,
}

impl From<io::Error> for Errno {
    fn from(error: io::Error) -> Self {
        // EMFILE and ENFILE, for which `ErrorKind` has no name.
        #[cfg(unix)]
        if let Some(23 | 24) = error.raw_os_error() {
            return Errno::TooManyOpen;
        }
        match error.kind() {
            io::ErrorKind::NotFound => Errno::NoEntry,
            io::ErrorKind::PermissionDenied => Errno::Access,
            io::ErrorKind::AlreadyExists => Errno::Exists,
            io::ErrorKind::InvalidInput => Errno::Invalid,
            io::ErrorKind::IsADirectory => Errno::IsDirectory,
            io::ErrorKind::NotADirectory => Errno::NotDirectory,
            io::ErrorKind::InvalidFilename => Errno::NameTooLong,
            io::ErrorKind::StorageFull => Errno::NoSpace,
            io::ErrorKind::QuotaExceeded => Errno::Quota,
            io::ErrorKind::ReadOnlyFilesystem => Errno::ReadOnly,
            io::ErrorKind::StaleNetworkFileHandle => Errno::Stale,
            io::ErrorKind::FileTooLarge => Errno::TooBig,
            io::ErrorKind::ResourceBusy => Errno::Busy,
            io::ErrorKind::NotSeekable => Errno::NoPosition,
            io::ErrorKind::Unsupported => Errno::NotSupported,
            _ => Errno::Io,
        }
    }
}

/// How a WASI call ends.
pub type Outcome = Result<(), Errno>;

/// Rights of `path_open` and of the descriptor that it makes.
mod rights {
    pub(super) const FD_DATASYNC: u64 = 1;
    pub(super) const FD_READ: u64 = 1 << 1;
    pub(super) const FD_WRITE: u64 = 1 << 6;
    pub(super) const FD_ALLOCATE: u64 = 1 << 8;
    pub(super) const FD_READDIR: u64 = 1 << 14;
    pub(super) const FD_FILESTAT_SET_SIZE: u64 = 1 << 22;
    pub(super) const READS: u64 = FD_READ | FD_READDIR;
    pub(super) const WRITES: u64 = FD_DATASYNC | FD_WRITE | FD_ALLOCATE | FD_FILESTAT_SET_SIZE;
}

/// Flags of `path_open`.
mod flags {
    pub(super) const LOOKUP_SYMLINK_FOLLOW: u32 = 1;
    pub(super) const OPEN_CREATE: u32 = 1;
    pub(super) const OPEN_DIRECTORY: u32 = 2;
    pub(super) const OPEN_EXCLUSIVE: u32 = 4;
    pub(super) const OPEN_TRUNCATE: u32 = 8;
    pub(super) const FD_APPEND: u32 = 1;
}

/// Where the guest's standard output and standard error go.
#[derive(Debug)]
pub enum Stderr {
    /// To the host's standard error, as it comes.
    Inherit,
    /// Kept.
    Capture(Vec<u8>),
}

/// One guest's files and streams.
#[derive(Debug)]
pub struct Wasi {
    directory: Option<PathBuf>,
    files: Vec<Option<OpenFile>>,
    /// Where the guest's fd 1 and fd 2 go.
    pub stderr: Stderr,
    /// Whether the guest is told its directory's path, as Fluent Bit does. This program names it itself.
    pub names_directory: bool,
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    position: u64,
    /// Whether the system itself puts what is written at the end.
    append: bool,
    readable: bool,
    writable: bool,
}

impl Wasi {
    /// Files in `directory`, or none at all.
    pub fn new(directory: Option<PathBuf>, stderr: Stderr) -> Self {
        Wasi { directory, files: Vec::new(), stderr, names_directory: false }
    }

    /// `fd_write`: writes the buffers one after another, each to a file as one piece, and stores how many bytes that were.
    /// It ends early where the system takes less; an error is one only if nothing was written before it.
    pub fn fd_write(&mut self, memory: &mut [u8], fd: u32, vectors: u32, count: u32, written: u32) -> Outcome {
        memory.get(range(written, 4)).ok_or(Errno::Fault)?;
        let mut asked = 0u32;
        for index in 0..count {
            let buffer = vector(memory, vectors, index)?;
            let bytes = memory.get(buffer).ok_or(Errno::Fault)?;
            asked = u32::try_from(bytes.len()).ok().and_then(|len| asked.checked_add(len)).ok_or(Errno::Invalid)?;
        }
        let mut total = 0u32;
        for index in 0..count {
            let bytes = &memory[vector(memory, vectors, index)?];
            let wrote = match fd {
                1 | 2 => match &mut self.stderr {
                    Stderr::Inherit => io::stderr().write_all(bytes).map(|()| bytes.len()),
                    Stderr::Capture(captured) => {
                        captured.extend_from_slice(bytes);
                        Ok(bytes.len())
                    }
                },
                _ => self.writable(fd)?.write(bytes),
            };
            match wrote {
                Ok(wrote) => {
                    total += wrote as u32;
                    if wrote < bytes.len() {
                        break;
                    }
                }
                Err(error) if total == 0 => return Err(error.into()),
                Err(_) => break,
            }
        }
        store(memory, written, &total.to_le_bytes())
    }

    /// `fd_read`: fills the buffers one after another and stores how many bytes came. Standard input is empty.
    pub fn fd_read(&mut self, memory: &mut [u8], fd: u32, vectors: u32, count: u32, read: u32) -> Outcome {
        if fd == 0 {
            return store(memory, read, &0u32.to_le_bytes());
        }
        let open = self.readable(fd)?;
        let total = open.read_at(memory, vectors, count, open.position)?;
        open.position += u64::from(total);
        store(memory, read, &total.to_le_bytes())
    }

    /// `fd_close`.
    pub fn fd_close(&mut self, fd: u32) -> Outcome {
        self.file(fd)?;
        self.files[(fd - FIRST_FILE) as usize] = None;
        Ok(())
    }

    /// `fd_datasync`: waits until what was written to a file is on the medium.
    pub fn fd_datasync(&mut self, fd: u32) -> Outcome {
        Ok(self.writable(fd)?.file.sync_data()?)
    }

    /// `fd_filestat_get`: stores what the system knows of an open file.
    pub fn fd_filestat_get(&mut self, memory: &mut [u8], fd: u32, status: u32) -> Outcome {
        let metadata = self.file(fd)?.file.metadata()?;
        store(memory, status, &filestat(&metadata))
    }

    /// `fd_prestat_dir_name`: stores the directory's path, where the guest is to name it in what it writes to its standard error.
    pub fn fd_prestat_dir_name(&self, memory: &mut [u8], fd: u32, name: u32, length: u32) -> Outcome {
        let directory = self.directory(fd)?.as_os_str().as_encoded_bytes();
        if !self.names_directory {
            return Err(Errno::NotSupported);
        }
        match u32::try_from(directory.len()) {
            Ok(needed) if needed <= length => store(memory, name, directory),
            _ => Err(Errno::NameTooLong),
        }
    }

    /// `path_rename`: gives a file of the configuration directory another name there, which it takes over from the file
    /// that has it.
    pub fn path_rename(
        &mut self,
        memory: &[u8],
        old_directory: u32,
        old: (u32, u32),
        new_directory: u32,
        new: (u32, u32),
    ) -> Outcome {
        let old = self.path(memory, old_directory, old)?;
        let new = self.path(memory, new_directory, new)?;
        Ok(fs::rename(old, new)?)
    }

    /// `path_open`: opens a file of the configuration directory and stores its descriptor.
    #[expect(clippy::too_many_arguments, reason = "WASI decides what its call takes")]
    pub fn path_open(
        &mut self,
        memory: &mut [u8],
        directory: u32,
        lookup_flags: u32,
        name: (u32, u32),
        open_flags: u32,
        rights: u64,
        fd_flags: u32,
        opened: u32,
    ) -> Outcome {
        let path = self.path(memory, directory, name)?;
        if open_flags & flags::OPEN_DIRECTORY != 0 {
            return Err(Errno::NotSupported);
        }
        if lookup_flags & flags::LOOKUP_SYMLINK_FOLLOW == 0
            && fs::symlink_metadata(&path).is_ok_and(|found| found.is_symlink())
        {
            return Err(Errno::Loop);
        }
        let writable = rights & rights::WRITES != 0;
        let readable = rights & rights::READS != 0 || !writable;
        let create = open_flags & flags::OPEN_CREATE != 0;
        let exclusive = create && open_flags & flags::OPEN_EXCLUSIVE != 0;
        let truncate = open_flags & flags::OPEN_TRUNCATE != 0;
        if (create || truncate) && !writable {
            return Err(Errno::Invalid);
        }
        if is_pipe(&path) {
            return Err(Errno::NoPosition);
        }
        let free = self.files.iter().position(Option::is_none);
        let slot = match free {
            Some(slot) => slot,
            None if self.files.len() < MAX_OPEN => {
                self.files.push(None);
                self.files.len() - 1
            }
            None => return Err(Errno::TooManyOpen),
        };
        let append = writable && fd_flags & flags::FD_APPEND != 0;
        let mut options = OpenOptions::new();
        options.read(readable).write(writable).append(append).create(create).create_new(exclusive);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, OWNER_ONLY);
        let file = options.truncate(truncate && !append).open(&path)?;
        if file.metadata()?.is_dir() {
            return Err(Errno::IsDirectory);
        }
        // Which `OpenOptions` does not do for a file that is appended to.
        if truncate && append {
            file.set_len(0)?;
        }
        let fd = FIRST_FILE + slot as u32;
        store(memory, opened, &fd.to_le_bytes())?;
        self.files[slot] = Some(OpenFile { file, position: 0, append, readable, writable });
        Ok(())
    }

    /// `random_get`: bytes of the operating system's random source.
    pub fn random_get(&mut self, memory: &mut [u8], buffer: u32, length: u32) -> Outcome {
        let range = range(buffer, length);
        let bytes = memory.get_mut(range).ok_or(Errno::Fault)?;
        getrandom::fill(bytes).map_err(|_| Errno::Io)
    }

    fn directory(&self, fd: u32) -> Result<&PathBuf, Errno> {
        match &self.directory {
            Some(directory) if fd == DIRECTORY => Ok(directory),
            _ => Err(Errno::BadDescriptor),
        }
    }

    fn file(&mut self, fd: u32) -> Result<&mut OpenFile, Errno> {
        fd.checked_sub(FIRST_FILE)
            .and_then(|slot| self.files.get_mut(slot as usize))
            .and_then(Option::as_mut)
            .ok_or(Errno::BadDescriptor)
    }

    fn readable(&mut self, fd: u32) -> Result<&mut OpenFile, Errno> {
        let open = self.file(fd)?;
        match open.readable {
            true => Ok(open),
            false => Err(Errno::NotCapable),
        }
    }

    fn writable(&mut self, fd: u32) -> Result<&mut OpenFile, Errno> {
        let open = self.file(fd)?;
        match open.writable {
            true => Ok(open),
            false => Err(Errno::NotCapable),
        }
    }

    /// The file that a name of the guest means: one of the configuration directory itself.
    fn path(&self, memory: &[u8], directory: u32, (pointer, length): (u32, u32)) -> Result<PathBuf, Errno> {
        let directory = self.directory(directory)?;
        let name = memory.get(range(pointer, length)).ok_or(Errno::Fault)?;
        let name = str::from_utf8(name).map_err(|_| Errno::IllegalBytes)?;
        match name {
            "" => Err(Errno::NoEntry),
            "." | ".." => Err(Errno::NotCapable),
            _ if name.len() > MAX_NAME => Err(Errno::NameTooLong),
            // A colon names a drive or a stream on Windows.
            _ if name.contains(['/', '\\', ':']) => Err(Errno::NotCapable),
            _ if name.contains('\0') => Err(Errno::Invalid),
            _ => Ok(directory.join(name)),
        }
    }
}

impl OpenFile {
    /// Writes what the system takes of the bytes in one call, and goes behind it.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.append {
            self.file.seek(SeekFrom::Start(self.position))?;
        }
        let wrote = loop {
            match self.file.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                wrote => break wrote?,
            }
        };
        let behind = self.position + wrote as u64;
        self.position = if self.append { self.file.stream_position().unwrap_or(behind) } else { behind };
        Ok(wrote)
    }

    /// Fills the guest's buffers from `offset` on until the file ends; how many bytes came.
    fn read_at(&mut self, memory: &mut [u8], vectors: u32, count: u32, offset: u64) -> Result<u32, Errno> {
        self.file.seek(SeekFrom::Start(offset))?;
        let mut total = 0u32;
        for index in 0..count {
            let buffer = vector(memory, vectors, index)?;
            let mut rest = memory.get_mut(buffer).ok_or(Errno::Fault)?;
            while !rest.is_empty() {
                match self.file.read(rest) {
                    Ok(0) => return Ok(total),
                    Ok(n) => {
                        total = total.wrapping_add(n as u32);
                        rest = &mut rest[n..];
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(total)
    }
}

/// Whether a file is a pipe: to open one would wait for somebody at its other end.
#[cfg(unix)]
pub(crate) fn is_pipe(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| std::os::unix::fs::FileTypeExt::is_fifo(&found.file_type()))
}

/// There are none in directories elsewhere.
#[cfg(not(unix))]
pub(crate) fn is_pipe(_path: &Path) -> bool {
    false
}

/// What WASI calls a regular file, and anything else.
const REGULAR_FILE: u64 = 4;
const UNKNOWN: u64 = 0;

/// The 64 bytes of WASI's `filestat`; its file type has seven bytes behind it that are 0.
fn filestat(metadata: &Metadata) -> [u8; 64] {
    let (device, inode, links, changed) = identity(metadata);
    let filetype = if metadata.is_file() { REGULAR_FILE } else { UNKNOWN };
    let [accessed, modified] = [metadata.accessed(), metadata.modified()].map(nanoseconds);
    let fields = [device, inode, filetype, links, metadata.len(), accessed, modified, changed];
    let mut bytes = [0; 64];
    for (to, field) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(fields) {
        *to = field.to_le_bytes();
    }
    bytes
}

/// The device, the number on it, how many names there are, and when one of these or the contents last changed.
#[cfg(unix)]
fn identity(metadata: &Metadata) -> (u64, u64, u64, u64) {
    use std::os::unix::fs::MetadataExt;
    let seconds = u64::try_from(metadata.ctime()).unwrap_or(0);
    let nanoseconds = u64::try_from(metadata.ctime_nsec()).unwrap_or(0);
    let changed = seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds);
    (metadata.dev(), metadata.ino(), metadata.nlink(), changed)
}

/// The same where the standard library does not tell: one name.
#[cfg(not(unix))]
fn identity(metadata: &Metadata) -> (u64, u64, u64, u64) {
    (0, 0, 1, nanoseconds(metadata.modified()))
}

/// Nanoseconds since 1970; 0 for a time that is not known or before it.
fn nanoseconds(time: io::Result<SystemTime>) -> u64 {
    let since = time.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.and_then(|since| u64::try_from(since.as_nanos()).ok()).unwrap_or(0)
}

/// The range of the memory that a pointer and a length mean; `get` of a slice does the checking.
fn range(pointer: u32, length: u32) -> std::ops::Range<usize> {
    let start = pointer as usize;
    start..start.saturating_add(length as usize)
}

/// The buffer that entry `index` of a list of (pointer, length) pairs means.
fn vector(memory: &[u8], vectors: u32, index: u32) -> Result<std::ops::Range<usize>, Errno> {
    let at = u64::from(vectors) + 8 * u64::from(index);
    let at = usize::try_from(at).map_err(|_| Errno::Fault)?;
    let entry =
        at.checked_add(8).and_then(|end| memory.get(at..end)).and_then(<[u8]>::as_array::<8>).ok_or(Errno::Fault)?;
    let [a, b, c, d, e, f, g, h] = *entry;
    Ok(range(u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])))
}

fn store(memory: &mut [u8], pointer: u32, bytes: &[u8]) -> Outcome {
    let start = pointer as usize;
    start
        .checked_add(bytes.len())
        .and_then(|end| memory.get_mut(start..end))
        .ok_or(Errno::Fault)?
        .copy_from_slice(bytes);
    Ok(())
}

#[cfg(test)]
mod tests;
