//! The system as WASI gives it: files of the configuration directory, random bytes, and stderr.
//!
//! In and out: plain bytes. Errors are WASI's numbers, from `wasi_snapshot_preview1`. Bounds: a file that is read whole is,
//! up to a limit of the caller's. Not here: what the bytes mean.

use alloc::vec;
use alloc::vec::Vec;

/// The configuration directory: the first that the host opened for the module.
const CONFIGURATION_DIRECTORY: i32 = 3;
const STDERR: i32 = 2;

/// WASI's `rights` of a file descriptor.
mod rights {
    pub(super) const FD_DATASYNC: u64 = 1;
    pub(super) const FD_READ: u64 = 1 << 1;
    pub(super) const FD_WRITE: u64 = 1 << 6;
    pub(super) const FD_FILESTAT_GET: u64 = 1 << 21;
}

/// How a file is opened.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Open {
    /// To be read; a symbolic link is followed, as which Kubernetes mounts files.
    ReadLink,
    /// To be read.
    Read,
    /// To be read, and to be written at its end.
    ReadAndAppend,
    /// Made, or emptied if it is there, and written at its end.
    Create,
}

impl Open {
    /// WASI's `oflags` (creat 1, trunc 8), `rights`, and `fdflags` (append 1, nonblock 4: a pipe is not waited for).
    fn flags(self) -> (i32, u64, i32) {
        use rights::{FD_DATASYNC, FD_FILESTAT_GET, FD_READ, FD_WRITE};
        match self {
            Open::ReadLink | Open::Read => (0, FD_READ | FD_FILESTAT_GET, 4),
            Open::ReadAndAppend => (0, FD_READ | FD_WRITE | FD_DATASYNC | FD_FILESTAT_GET, 1 | 4),
            Open::Create => (1 | 8, FD_READ | FD_WRITE | FD_DATASYNC | FD_FILESTAT_GET, 1 | 4),
        }
    }
}

/// An open file; it is closed when this is dropped.
#[derive(Debug)]
pub(crate) struct File(i32);

/// A file's length in bytes, how many names it has, and when one of these or its contents last changed, in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FileStatus {
    pub(crate) len: u64,
    pub(crate) links: u64,
    pub(crate) changed: u64,
}

/// WASI's file types of a directory and of a regular file, the only kind that is read and written.
const DIRECTORY: u8 = 3;
const REGULAR_FILE: u8 = 4;

/// WASI's `filestat`.
#[repr(C)]
#[derive(Default)]
struct FileStat {
    device: u64,
    inode: u64,
    kind: u8,
    links: u64,
    len: u64,
    times: [u64; 3],
}

/// How much of a file is read at a time, in bytes.
const CHUNK: usize = 64 << 10;

/// A WASI error number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) u16);

impl Errno {
    /// Permission denied.
    pub(crate) const ACCES: Errno = Errno(2);
    /// Somebody else is at it.
    pub(crate) const BUSY: Errno = Errno(10);
    /// Operation not permitted.
    pub(crate) const PERM: Errno = Errno(63);
    /// The file system is read-only.
    pub(crate) const ROFS: Errno = Errno(69);
    /// Bad file descriptor: the host opened no directory.
    pub(crate) const BADF: Errno = Errno(8);
    /// The file is larger than the caller's limit.
    pub(crate) const FBIG: Errno = Errno(22);
    /// It is a directory.
    pub(crate) const ISDIR: Errno = Errno(31);
    /// It has no positions: a pipe, a socket, a device.
    pub(crate) const SPIPE: Errno = Errno(70);
    /// Input or output failed.
    pub(crate) const IO: Errno = Errno(29);
    /// No such file.
    pub(crate) const NOENT: Errno = Errno(44);

    fn check(number: i32) -> Result<(), Errno> {
        match u16::try_from(number) {
            Ok(0) => Ok(()),
            Ok(number) => Err(Errno(number)),
            Err(_) => Err(Errno(u16::MAX)),
        }
    }
}

/// WASI's `iovec` and `ciovec`.
#[repr(C)]
struct IoVec {
    start: *const u8,
    len: usize,
}

#[cfg_attr(target_arch = "wasm32", link(wasm_import_module = "wasi_snapshot_preview1"))]
unsafe extern "C" {
    fn fd_write(fd: i32, vecs: *const IoVec, count: usize, written: *mut usize) -> i32;
    fn fd_read(fd: i32, vecs: *const IoVec, count: usize, read: *mut usize) -> i32;
    fn fd_close(fd: i32) -> i32;
    fn fd_filestat_get(fd: i32, stat: *mut FileStat) -> i32;
    fn fd_datasync(fd: i32) -> i32;
    fn fd_prestat_dir_name(fd: i32, path: *mut u8, path_len: usize) -> i32;
    fn path_rename(
        old_directory: i32,
        old_path: *const u8,
        old_path_len: usize,
        new_directory: i32,
        new_path: *const u8,
        new_path_len: usize,
    ) -> i32;
    fn random_get(start: *mut u8, len: usize) -> i32;
    #[allow(clippy::too_many_arguments)]
    fn path_open(
        directory: i32,
        lookup_flags: i32,
        path: *const u8,
        path_len: usize,
        open_flags: i32,
        rights: u64,
        inheriting_rights: u64,
        fd_flags: i32,
        opened: *mut i32,
    ) -> i32;
}

/// Calls each import once, to no effect. A host that lacks one must not start; without this it would go on until it is needed,
/// and lose the record that needs it.
pub(crate) fn call_each_import() {
    const NO_FILE: i32 = -1;
    let mut number = 0;
    let mut fd = 0;
    let mut stat = FileStat::default();
    let mut byte = 0u8;
    let vec = IoVec { start: &raw const byte, len: 0 };
    let name = "-";
    // SAFETY: C5. No file has this number, so that nothing is done; all that is pointed at is readable and writable for its
    // length all the same.
    unsafe {
        fd_write(NO_FILE, &raw const vec, 1, &raw mut number);
        fd_read(NO_FILE, &raw const vec, 1, &raw mut number);
        fd_close(NO_FILE);
        fd_filestat_get(NO_FILE, &raw mut stat);
        fd_datasync(NO_FILE);
        fd_prestat_dir_name(NO_FILE, &raw mut byte, 1);
        path_rename(NO_FILE, name.as_ptr(), name.len(), NO_FILE, name.as_ptr(), name.len());
        path_open(NO_FILE, 0, name.as_ptr(), name.len(), 0, rights::FD_READ, 0, 0, &raw mut fd);
        random_get(&raw mut byte, 1);
    }
}

/// Fills the bytes at random, as only the system can.
pub(crate) fn random(bytes: &mut [u8]) -> Result<(), Errno> {
    // SAFETY: C5. The bytes are writable for their whole length.
    Errno::check(unsafe { random_get(bytes.as_mut_ptr(), bytes.len()) })
}

/// Writes a line to stderr: the program's name, the configuration directory where the host tells it, and the text. There is nobody to
/// tell if that fails.
pub(crate) fn say(line: &str) {
    let mut written = 0;
    let mut name = [0; 512];
    // SAFETY: C5. The name is writable for its whole length.
    let outcome = unsafe { fd_prestat_dir_name(CONFIGURATION_DIRECTORY, name.as_mut_ptr(), name.len()) };
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    let directory = name.get(..end).filter(|name| outcome == 0 && !name.is_empty()).unwrap_or_default();
    let separator = if directory.is_empty() { "" } else { ": " };
    let parts: [&[u8]; 5] = [b"firstseen: ", directory, separator.as_bytes(), line.as_bytes(), b"\n"];
    let parts = parts.map(|part| IoVec { start: part.as_ptr(), len: part.len() });
    // SAFETY: C5. Each part is readable for its length, and `written` is a place for the answer.
    let _ = unsafe { fd_write(STDERR, parts.as_ptr(), parts.len(), &raw mut written) };
}

/// Gives a file of the configuration directory another name, which may be another file's until now.
pub(crate) fn rename(old: &str, new: &str) -> Result<(), Errno> {
    let directory = CONFIGURATION_DIRECTORY;
    // SAFETY: C5. Both names are readable for their lengths.
    Errno::check(unsafe { path_rename(directory, old.as_ptr(), old.len(), directory, new.as_ptr(), new.len()) })
}

/// A file of the configuration directory, whole.
pub(crate) fn read(name: &str, max_len: usize) -> Result<Vec<u8>, Errno> {
    let mut file = File::open(name, Open::ReadLink)?;
    let mut bytes = Vec::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = file.read(&mut chunk)?;
        match chunk.get(..read) {
            Some([]) | None => return Ok(bytes),
            Some(read) => bytes.extend_from_slice(read),
        }
        if bytes.len() > max_len {
            return Err(Errno::FBIG);
        }
    }
}

impl File {
    /// Opens a regular file of the configuration directory.
    pub(crate) fn open(name: &str, how: Open) -> Result<File, Errno> {
        /// Follow a symbolic link.
        const SYMLINK_FOLLOW: i32 = 1;
        let (open_flags, rights, fd_flags) = how.flags();
        let lookup_flags = if matches!(how, Open::ReadLink) { SYMLINK_FOLLOW } else { 0 };
        let mut fd = 0;
        // SAFETY: C5. The name is readable for its length, and `fd` is a place for the answer.
        Errno::check(unsafe {
            path_open(
                CONFIGURATION_DIRECTORY,
                lookup_flags,
                name.as_ptr(),
                name.len(),
                open_flags,
                rights,
                0,
                fd_flags,
                &raw mut fd,
            )
        })?;
        let file = File(fd);
        match file.stat()?.kind {
            REGULAR_FILE => Ok(file),
            DIRECTORY => Err(Errno::ISDIR),
            _ => Err(Errno::SPIPE),
        }
    }

    /// Reads on; how many bytes came, 0 at the end.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> Result<usize, Errno> {
        let mut read = 0;
        let vec = IoVec { start: into.as_mut_ptr(), len: into.len() };
        // SAFETY: C5. The bytes are writable for their length, and `read` is a place for the answer.
        Errno::check(unsafe { fd_read(self.0, &raw const vec, 1, &raw mut read) })?;
        Ok(read)
    }

    /// Writes all of the bytes at the end of the file, at once where the system can.
    pub(crate) fn append(&mut self, mut bytes: &[u8]) -> Result<(), Errno> {
        while !bytes.is_empty() {
            let mut written = 0;
            let vec = IoVec { start: bytes.as_ptr(), len: bytes.len() };
            // SAFETY: C5. The bytes are readable for their length, and `written` is a place for the answer.
            Errno::check(unsafe { fd_write(self.0, &raw const vec, 1, &raw mut written) })?;
            match bytes.get(written..) {
                Some(rest) if written > 0 => bytes = rest,
                _ => return Err(Errno::IO),
            }
        }
        Ok(())
    }

    /// What has become of the file.
    pub(crate) fn status(&self) -> Result<FileStatus, Errno> {
        let FileStat { len, links, times: [_, _, changed], .. } = self.stat()?;
        Ok(FileStatus { len, links, changed })
    }

    fn stat(&self) -> Result<FileStat, Errno> {
        let mut stat = FileStat::default();
        // SAFETY: C5. `stat` is a place for the answer, in the shape that WASI gives it.
        Errno::check(unsafe { fd_filestat_get(self.0, &raw mut stat) })?;
        Ok(stat)
    }

    /// Waits until what was written is on the medium.
    pub(crate) fn sync(&self) -> Result<(), Errno> {
        // SAFETY: C5. The descriptor is open.
        Errno::check(unsafe { fd_datasync(self.0) })
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: C5. The descriptor is open, and nobody's behind this.
        let _ = unsafe { fd_close(self.0) };
    }
}
