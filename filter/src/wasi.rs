//! The system as WASI gives it: a file of the configuration directory, random bytes, and stderr.
//!
//! In and out: plain bytes. Errors are WASI's numbers, from `wasi_snapshot_preview1`. Bounds: a file is read whole, up to a
//! limit of the caller's. Not here: what the bytes mean.

use alloc::vec;
use alloc::vec::Vec;

/// The configuration directory: the first that the host opened for the module.
const CONFIGURATION_DIRECTORY: i32 = 3;
const STDERR: i32 = 2;

/// WASI's `rights`: all that reading a file asks for.
const RIGHT_FD_READ: u64 = 1 << 1;

/// How much of a file is read at a time, in bytes.
const CHUNK: usize = 64 << 10;

/// A WASI error number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) u16);

impl Errno {
    /// Bad file descriptor: the host opened no directory.
    pub(crate) const BADF: Errno = Errno(8);
    /// The file is larger than the caller's limit.
    pub(crate) const FBIG: Errno = Errno(22);
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

/// A file of the configuration directory, whole.
pub(crate) fn read(name: &str, max_len: usize) -> Result<Vec<u8>, Errno> {
    let mut fd = 0;
    // SAFETY: C5. The name is readable for its length, and `fd` is a place for the answer.
    Errno::check(unsafe {
        path_open(CONFIGURATION_DIRECTORY, 0, name.as_ptr(), name.len(), 0, RIGHT_FD_READ, 0, 0, &raw mut fd)
    })?;
    let read = read_to_end(fd, max_len);
    // SAFETY: C5. The descriptor is the one just opened, and not used behind this.
    let _ = unsafe { fd_close(fd) };
    read
}

fn read_to_end(fd: i32, max_len: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = Vec::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        let mut read = 0;
        let vec = IoVec { start: chunk.as_mut_ptr(), len: chunk.len() };
        // SAFETY: C5. The chunk is writable for its length, and `read` is a place for the answer.
        Errno::check(unsafe { fd_read(fd, &raw const vec, 1, &raw mut read) })?;
        match chunk.get(..read) {
            Some([]) | None => return Ok(bytes),
            Some(read) => bytes.extend_from_slice(read),
        }
        if bytes.len() > max_len {
            return Err(Errno::FBIG);
        }
    }
}
