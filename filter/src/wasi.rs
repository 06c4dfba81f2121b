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
    /// To be read.
    Read,
    /// To be read, and to be written at its end.
    ReadAndAppend,
    /// Made, or emptied if it is there, and written at its end.
    Create,
}

impl Open {
    /// WASI's `oflags` (creat 1, trunc 8), `rights`, and `fdflags` (append 1).
    fn flags(self) -> (i32, u64, i32) {
        use rights::{FD_DATASYNC, FD_FILESTAT_GET, FD_READ, FD_WRITE};
        match self {
            Open::Read => (0, FD_READ | FD_FILESTAT_GET, 0),
            Open::ReadAndAppend => (0, FD_READ | FD_WRITE | FD_DATASYNC | FD_FILESTAT_GET, 1),
            Open::Create => (1 | 8, FD_READ | FD_WRITE | FD_DATASYNC | FD_FILESTAT_GET, 1),
        }
    }
}

/// An open file; it is closed when this is dropped.
#[derive(Debug)]
pub(crate) struct File(i32);

/// A file's length in bytes, and how many names it has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FileStatus {
    pub(crate) len: u64,
    pub(crate) links: u64,
}

/// WASI's `filestat`.
#[repr(C)]
#[derive(Default)]
struct FileStat {
    device: u64,
    inode: u64,
    kind: u64,
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

/// Writes a line to stderr. There is nobody to tell if that fails.
pub(crate) fn say(line: &str) {
    let mut written = 0;
    let parts = ["firstseen: ", line, "\n"].map(|part| IoVec { start: part.as_ptr(), len: part.len() });
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
    let mut file = File::open(name, Open::Read)?;
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
    /// Opens a file of the configuration directory.
    pub(crate) fn open(name: &str, how: Open) -> Result<File, Errno> {
        let (open_flags, rights, fd_flags) = how.flags();
        let mut fd = 0;
        // SAFETY: C5. The name is readable for its length, and `fd` is a place for the answer.
        Errno::check(unsafe {
            path_open(
                CONFIGURATION_DIRECTORY,
                0,
                name.as_ptr(),
                name.len(),
                open_flags,
                rights,
                0,
                fd_flags,
                &raw mut fd,
            )
        })?;
        Ok(File(fd))
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

    /// How long the file is, and how many names it has.
    pub(crate) fn status(&self) -> Result<FileStatus, Errno> {
        let mut stat = FileStat::default();
        // SAFETY: C5. `stat` is a place for the answer, in the shape that WASI gives it.
        Errno::check(unsafe { fd_filestat_get(self.0, &raw mut stat) })?;
        Ok(FileStatus { len: stat.len, links: stat.links })
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
