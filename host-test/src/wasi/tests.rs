//! WASI calls as the module makes them, and as a guest that means harm would.

use proptest::prelude::*;

use super::*;

/// Rights to read and write.
const ALL: u64 = u64::MAX;
/// Rights to read.
const READ: u64 = 2;
/// `path_open`'s flag for a file that is written at its end.
const APPEND: u32 = 1;

/// A guest's memory with names and buffers in it, and its WASI.
struct Guest {
    memory: Vec<u8>,
    wasi: Wasi,
    directory: tempfile::TempDir,
}

/// Where the tests put a name, a result, the list of buffers, and the buffer itself.
const NAME: u32 = 0;
const RESULT: u32 = 600;
const VECTORS: u32 = 700;
const BUFFER: u32 = 800;

impl Guest {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let wasi = Wasi::new(Some(directory.path().to_path_buf()), Stderr::Capture(Vec::new()));
        Guest { memory: vec![0; 2048], wasi, directory }
    }

    fn put(&mut self, at: u32, bytes: &[u8]) -> (u32, u32) {
        self.memory[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
        (at, bytes.len() as u32)
    }

    fn result(&self) -> u32 {
        u32::from_le_bytes(*self.memory[RESULT as usize..].first_chunk().unwrap())
    }

    fn open(&mut self, name: &str, open_flags: u32, rights: u64, fd_flags: u32) -> Result<u32, Errno> {
        let name = self.put(NAME, name.as_bytes());
        self.wasi.path_open(&mut self.memory, DIRECTORY, 1, name, open_flags, rights, fd_flags, RESULT)?;
        Ok(self.result())
    }

    /// One buffer in the list of buffers.
    fn vector(&mut self, at: u32, length: u32) {
        let entry = [at.to_le_bytes(), length.to_le_bytes()].concat();
        self.put(VECTORS, &entry);
    }

    fn write(&mut self, fd: u32, bytes: &[u8]) -> Result<u32, Errno> {
        let (at, length) = self.put(BUFFER, bytes);
        self.vector(at, length);
        self.wasi.fd_write(&mut self.memory, fd, VECTORS, 1, RESULT)?;
        Ok(self.result())
    }

    /// Writes several pieces in one call.
    fn write_pieces(&mut self, fd: u32, pieces: &[&[u8]]) -> Result<u32, Errno> {
        let (mut entries, mut at) = (Vec::new(), BUFFER);
        for piece in pieces {
            let (start, length) = self.put(at, piece);
            entries.extend([start, length].map(u32::to_le_bytes).concat());
            at += length;
        }
        self.put(VECTORS, &entries);
        self.wasi.fd_write(&mut self.memory, fd, VECTORS, pieces.len() as u32, RESULT)?;
        Ok(self.result())
    }

    fn rename(&mut self, old: &str, new: &str) -> Outcome {
        let old = self.put(NAME, old.as_bytes());
        let new = self.put(NAME + old.1, new.as_bytes());
        self.wasi.path_rename(&self.memory, DIRECTORY, old, DIRECTORY, new)
    }

    /// The length and the number of links of an open file, and its file type with the padding behind it.
    fn status(&mut self, fd: u32) -> (u64, u64, u64) {
        self.wasi.fd_filestat_get(&mut self.memory, fd, BUFFER).unwrap();
        let field = |at: u32| u64::from_le_bytes(*self.memory[(BUFFER + at) as usize..].first_chunk().unwrap());
        (field(32), field(24), field(16))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn read(&mut self, fd: u32, length: u32) -> Result<Vec<u8>, Errno> {
        self.vector(BUFFER, length);
        self.wasi.fd_read(&mut self.memory, fd, VECTORS, 1, RESULT)?;
        Ok(self.memory[BUFFER as usize..][..self.result() as usize].to_vec())
    }
}

#[test]
fn a_file_is_made_written_and_read() {
    let mut guest = Guest::new();
    assert_eq!(guest.open("file", 0, READ, 0), Err(Errno::NoEntry));
    let fd = guest.open("file", 1, ALL, 0).unwrap();
    assert_eq!(fd, 4);
    assert_eq!(guest.write(fd, b"hello "), Ok(6));
    assert_eq!(guest.write(fd, b"world"), Ok(5));
    assert_eq!(guest.read(fd, 100).unwrap(), b"", "behind what was written");
    assert_eq!(fs::read(guest.directory.path().join("file")).unwrap(), b"hello world");
    assert_eq!(guest.wasi.fd_close(fd), Ok(()));
    assert_eq!(guest.wasi.fd_close(fd), Err(Errno::BadDescriptor));

    let fd = guest.open("file", 0, READ, 0).unwrap();
    assert_eq!(fd, 4, "the number is free again");
    assert_eq!(guest.read(fd, 3).unwrap(), b"hel");
    assert_eq!(guest.read(fd, 100).unwrap(), b"lo world");
    assert_eq!(guest.read(fd, 100).unwrap(), b"");
}

#[test]
fn flags_of_path_open_do_what_they_say() {
    let mut guest = Guest::new();
    let path = guest.directory.path().join("file");
    fs::write(&path, "12345").unwrap();
    assert_eq!(guest.open("file", 1 | 4, ALL, 0), Err(Errno::Exists), "create, exclusive");
    let fd = guest.open("file", 0, ALL, 1).unwrap();
    assert_eq!(guest.write(fd, b"67"), Ok(2), "append");
    assert_eq!(fs::read(&path).unwrap(), b"1234567");
    guest.open("file", 8, ALL, 0).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"", "truncate");
    assert_eq!(guest.open("file", 2, READ, 0), Err(Errno::NotSupported), "directory");
    fs::create_dir(guest.directory.path().join("sub")).unwrap();
    assert_eq!(guest.open("sub", 0, READ, 0), Err(Errno::IsDirectory));
}

#[test]
fn a_file_is_read_from_its_start_and_appended_to_at_once() {
    let mut guest = Guest::new();
    fs::write(guest.path("file"), "one ").unwrap();
    let fd = guest.open("file", 1, ALL, APPEND).unwrap();
    assert_eq!(guest.read(fd, 2).unwrap(), b"on");
    assert_eq!(guest.write(fd, b"two "), Ok(4));
    assert_eq!(guest.read(fd, 100).unwrap(), b"", "the position is behind what was written");
    assert_eq!(fs::read(guest.path("file")).unwrap(), b"one two ");
    let again = guest.open("file", 1, ALL, APPEND).unwrap();
    assert_eq!(guest.read(again, 100).unwrap(), b"one two ");

    // Emptied, and then the same.
    let fd = guest.open("file", 1 | 8, ALL, APPEND).unwrap();
    assert_eq!(fs::read(guest.path("file")).unwrap(), b"");
    assert_eq!(guest.read(fd, 100).unwrap(), b"");
    assert_eq!(guest.write(fd, b"three"), Ok(5));
    assert_eq!(fs::read(guest.path("file")).unwrap(), b"three");
    let made = guest.open("made", 1 | 4 | 8, ALL, APPEND).unwrap();
    assert_eq!(guest.write(made, b"new"), Ok(3));
    assert_eq!(guest.open("made", 1 | 4 | 8, ALL, APPEND), Err(Errno::Exists));
    assert_eq!(fs::read(guest.path("made")).unwrap(), b"new");
}

#[test]
fn two_writers_append_without_overwriting_each_other() {
    const LINES: usize = 500;
    let directory = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for writer in [b'a', b'b'] {
            let wasi = Wasi::new(Some(directory.path().to_path_buf()), Stderr::Capture(Vec::new()));
            scope.spawn(move || {
                let mut guest = Guest { memory: vec![0; 2048], wasi, directory: tempfile::tempdir().unwrap() };
                let fd = guest.open("file", 1, ALL, APPEND).unwrap();
                for _ in 0..LINES {
                    assert_eq!(guest.write(fd, &[[writer; 99].as_slice(), b"\n"].concat()), Ok(100));
                }
            });
        }
    });
    let text = fs::read(directory.path().join("file")).unwrap();
    assert_eq!(text.len(), 2 * LINES * 100);
    let mut lines: Vec<_> = text.chunks(100).collect();
    lines.sort();
    assert_eq!(lines[LINES - 1], [[b'a'; 99].as_slice(), b"\n"].concat());
    assert_eq!(lines[LINES], [[b'b'; 99].as_slice(), b"\n"].concat());
}

#[test]
fn pieces_are_written_in_their_order_or_not_at_all() {
    let mut guest = Guest::new();
    let fd = guest.open("file", 1, ALL, 0).unwrap();
    assert_eq!(guest.write_pieces(fd, &[b"ab", b"", b"cde"]), Ok(5));
    assert_eq!(guest.write_pieces(fd, &[b"f", b"g"]), Ok(2));
    assert_eq!(fs::read(guest.path("file")).unwrap(), b"abcdefg");
    // The second buffer, or the place for the answer, is outside of the memory.
    let (at, length) = guest.put(BUFFER, b"ok");
    let entries = [at, length, 2040, 9].map(u32::to_le_bytes).concat();
    guest.put(VECTORS, &entries);
    assert_eq!(guest.wasi.fd_write(&mut guest.memory, fd, VECTORS, 2, RESULT), Err(Errno::Fault));
    assert_eq!(guest.wasi.fd_write(&mut guest.memory, fd, VECTORS, 1, 2045), Err(Errno::Fault));
    assert_eq!(guest.wasi.fd_write(&mut guest.memory, 2, VECTORS, 1, 2045), Err(Errno::Fault));
    assert_eq!(fs::read(guest.path("file")).unwrap(), b"abcdefg");
}

/// `/dev/full` takes nothing.
#[cfg(target_os = "linux")]
#[test]
fn a_write_that_the_system_refuses_is_an_error_only_if_nothing_was_written() {
    let mut guest = Guest::new();
    std::os::unix::fs::symlink("/dev/full", guest.path("full")).unwrap();
    for fd_flags in [0, APPEND] {
        let fd = guest.open("full", 0, ALL, fd_flags).unwrap();
        assert_eq!(guest.write_pieces(fd, &[b"a", b"b"]), Err(Errno::NoSpace));
        assert_eq!(guest.write_pieces(fd, &[b"", b"b"]), Err(Errno::NoSpace));
    }
}

/// A pipe that nobody reads takes 16 pages, of a small piece what fits into the last one, and then nothing; unless this
/// system's pages are larger.
#[cfg(target_os = "linux")]
#[test]
fn a_write_ends_where_the_system_takes_less() {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::OpenOptionsExt;
    const NONBLOCK: i32 = 0o4000;
    const PAGE: u32 = 4096;
    let mut guest = Guest::new();
    guest.memory.resize(1 << 18, 0);
    for (byte, at) in [(b'a', 1 << 15), (b'b', 1 << 17), (b'c', 3 << 16)] {
        guest.memory[at..at + (1 << 16)].fill(byte);
    }
    for pieces in [[16 * PAGE - 96, 2 * PAGE + 50, 2 * PAGE + 40], [16 * PAGE; 3]] {
        let (mut reader, writer) = io::pipe().unwrap();
        let path = format!("/proc/self/fd/{}", writer.as_raw_fd());
        let file = OpenOptions::new().write(true).custom_flags(NONBLOCK).open(path).unwrap();
        drop(writer);
        guest.wasi.files = vec![Some(OpenFile { file, position: 0, append: true, readable: false, writable: true })];
        let entries = [1 << 15, pieces[0], 1 << 17, pieces[1], 3 << 16, pieces[2]].map(u32::to_le_bytes).concat();
        guest.put(VECTORS, &entries);
        assert_eq!(guest.wasi.fd_write(&mut guest.memory, FIRST_FILE, VECTORS, 3, RESULT), Ok(()));
        let wrote = guest.result();
        guest.wasi.files.clear();
        let mut taken = Vec::new();
        reader.read_to_end(&mut taken).unwrap();
        assert_eq!(taken.len(), wrote as usize);
        let all = wrote == pieces.iter().sum::<u32>();
        assert!(all || !taken.contains(&b'c'), "{wrote}: nothing comes behind what was not taken");
    }
}

#[test]
fn the_status_of_a_file_tells_whether_it_still_has_its_name() {
    const REGULAR: u64 = 4;
    let mut guest = Guest::new();
    let fd = guest.open("file", 1, ALL, APPEND).unwrap();
    assert_eq!(guest.status(fd), (0, 1, REGULAR));
    guest.write(fd, b"12345").unwrap();
    assert_eq!(guest.status(fd), (5, 1, REGULAR));
    assert_eq!(guest.wasi.fd_filestat_get(&mut guest.memory, fd, 2048 - 63), Err(Errno::Fault));
    assert_eq!(guest.wasi.fd_filestat_get(&mut guest.memory, fd, 2048 - 64), Ok(()));
    assert_eq!(guest.wasi.fd_filestat_get(&mut guest.memory, fd + 1, BUFFER), Err(Errno::BadDescriptor));
}

#[cfg(unix)]
#[test]
fn the_status_of_a_removed_and_of_a_replaced_file_is_no_link() {
    let mut guest = Guest::new();
    let removed = guest.open("removed", 1, ALL, APPEND).unwrap();
    let replaced = guest.open("replaced", 1, ALL, APPEND).unwrap();
    let other = guest.open("other", 1, ALL, APPEND).unwrap();
    guest.write(other, b"other").unwrap();
    fs::hard_link(guest.path("removed"), guest.path("second name")).unwrap();
    assert_eq!(guest.status(removed).1, 2);
    fs::remove_file(guest.path("removed")).unwrap();
    fs::remove_file(guest.path("second name")).unwrap();
    fs::rename(guest.path("other"), guest.path("replaced")).unwrap();
    assert_eq!(guest.status(removed).1, 0);
    assert_eq!(guest.status(replaced).1, 0);
    assert_eq!(guest.status(other), (5, 1, 4));
    // What the system has of a file that is gone can still be used.
    assert_eq!(guest.write(removed, b"abc"), Ok(3));
    assert_eq!(guest.status(removed), (3, 0, 4));
    // Times and identity are those that the system tells.
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::metadata(guest.path("replaced")).unwrap();
    guest.status(other);
    let field = |at: usize| u64::from_le_bytes(*guest.memory[BUFFER as usize + at..].first_chunk().unwrap());
    assert_eq!((field(0), field(8)), (metadata.dev(), metadata.ino()));
    let nanoseconds = |seconds: i64, rest: i64| seconds as u64 * 1_000_000_000 + rest as u64;
    assert_eq!(field(40), nanoseconds(metadata.atime(), metadata.atime_nsec()));
    assert_eq!(field(48), nanoseconds(metadata.mtime(), metadata.mtime_nsec()));
    assert_eq!(field(56), nanoseconds(metadata.ctime(), metadata.ctime_nsec()));
}

#[test]
fn a_file_is_renamed_over_another_one_inside_the_directory_only() {
    let mut guest = Guest::new();
    fs::write(guest.path("old"), "old").unwrap();
    fs::write(guest.path("new"), "new").unwrap();
    let fd = guest.open("new", 0, ALL, APPEND).unwrap();
    assert_eq!(guest.rename("new", "old"), Ok(()));
    assert_eq!(fs::read(guest.path("old")).unwrap(), b"new");
    assert!(!guest.path("new").exists());
    assert_eq!(guest.write(fd, b"er"), Ok(2), "it is open under its new name");
    assert_eq!(fs::read(guest.path("old")).unwrap(), b"newer");
    assert_eq!(guest.rename("new", "old"), Err(Errno::NoEntry));
    for name in ["..", "../x", "/x", "a/b"] {
        assert_eq!(guest.rename(name, "x"), Err(Errno::NotCapable), "{name}");
        assert_eq!(guest.rename("old", name), Err(Errno::NotCapable), "{name}");
    }
    fs::create_dir(guest.path("sub")).unwrap();
    assert_eq!(guest.rename("old", "sub"), Err(Errno::IsDirectory));
    let (old, new) = (guest.put(NAME, b"old"), guest.put(NAME + 3, b"x"));
    let mut rename = |a, b, new| guest.wasi.path_rename(&guest.memory, a, old, b, new);
    assert_eq!(rename(fd, DIRECTORY, new), Err(Errno::BadDescriptor));
    assert_eq!(rename(DIRECTORY, fd, new), Err(Errno::BadDescriptor));
    assert_eq!(rename(DIRECTORY, DIRECTORY, (2047, 2)), Err(Errno::Fault));
    assert_eq!(fs::read(guest.path("old")).unwrap(), b"newer");
}

#[test]
fn only_what_may_be_written_is_synced() {
    let mut guest = Guest::new();
    let writer = guest.open("file", 1, ALL, APPEND).unwrap();
    guest.write(writer, b"x").unwrap();
    assert_eq!(guest.wasi.fd_datasync(writer), Ok(()));
    let reader = guest.open("file", 0, READ, 0).unwrap();
    assert_eq!(guest.wasi.fd_datasync(reader), Err(Errno::NotCapable));
    assert_eq!(guest.wasi.fd_datasync(9), Err(Errno::BadDescriptor));
}

#[cfg(unix)]
#[test]
fn a_file_that_the_guest_makes_is_its_owner_s_only() {
    use std::os::unix::fs::PermissionsExt;
    let mut guest = Guest::new();
    guest.open("made", 1, ALL, APPEND).unwrap();
    assert_eq!(fs::metadata(guest.path("made")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[cfg(unix)]
#[test]
fn what_may_not_be_written_is_told() {
    use std::os::unix::fs::PermissionsExt;
    let mut guest = Guest::new();
    fs::write(guest.path("file"), "x").unwrap();
    fs::set_permissions(guest.path("file"), fs::Permissions::from_mode(0o400)).unwrap();
    fs::set_permissions(guest.directory.path(), fs::Permissions::from_mode(0o500)).unwrap();
    // Nobody keeps root from writing.
    let is_root = File::create(guest.path("probe")).is_ok();
    let (opened, made, renamed) =
        (guest.open("file", 0, ALL, APPEND), guest.open("new", 1, ALL, APPEND), guest.rename("file", "other"));
    fs::set_permissions(guest.directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
    if !is_root {
        assert_eq!((opened, made, renamed), (Err(Errno::Access), Err(Errno::Access), Err(Errno::Access)));
    }
}

/// Not even root may make a file there.
#[cfg(target_os = "linux")]
#[test]
fn a_directory_that_takes_no_files_is_told() {
    if !std::path::Path::new("/sys/kernel").exists() {
        return;
    }
    let mut guest = Guest::new();
    guest.wasi = Wasi::new(Some("/sys".into()), Stderr::Capture(Vec::new()));
    let made = guest.open("firstseen", 1, ALL, APPEND);
    assert!(matches!(made, Err(Errno::Access | Errno::ReadOnly)), "{made:?}");
}

#[test]
fn a_directory_that_vanishes_leaves_what_is_open() {
    let mut guest = Guest::new();
    let fd = guest.open("file", 1, ALL, APPEND).unwrap();
    fs::remove_dir_all(guest.directory.path()).unwrap();
    assert_eq!(guest.write(fd, b"x"), Ok(1));
    assert_eq!(guest.open("file", 1, ALL, APPEND), Err(Errno::NoEntry));
    assert_eq!(guest.rename("file", "other"), Err(Errno::NoEntry));
}

#[cfg(target_os = "linux")]
#[test]
fn errors_of_the_system_have_wasi_s_numbers() {
    for (system, errno, number) in [
        (1, Errno::Access, 2),
        (2, Errno::NoEntry, 44),
        (5, Errno::Io, 29),
        (13, Errno::Access, 2),
        (16, Errno::Busy, 10),
        (17, Errno::Exists, 20),
        (20, Errno::NotDirectory, 54),
        (21, Errno::IsDirectory, 31),
        (22, Errno::Invalid, 28),
        (23, Errno::TooManyOpen, 41),
        (24, Errno::TooManyOpen, 41),
        (27, Errno::TooBig, 22),
        (28, Errno::NoSpace, 51),
        (29, Errno::NoPosition, 70),
        (30, Errno::ReadOnly, 69),
        (36, Errno::NameTooLong, 37),
        (116, Errno::Stale, 72),
        (122, Errno::Quota, 19),
    ] {
        let found = Errno::from(io::Error::from_raw_os_error(system));
        assert_eq!((found, found as u32), (errno, number), "{system}");
    }
}

#[test]
fn rights_bind() {
    let mut guest = Guest::new();
    fs::write(guest.directory.path().join("file"), "12345").unwrap();
    let reader = guest.open("file", 0, READ, 0).unwrap();
    assert_eq!(guest.write(reader, b"x"), Err(Errno::NotCapable));
    let writer = guest.open("file", 0, 1 << 6, 0).unwrap();
    assert_eq!(guest.read(writer, 1), Err(Errno::NotCapable));
    assert_eq!(guest.open("new", 1, READ, 0), Err(Errno::Invalid), "nothing is created to be read");
}

#[test]
fn names_do_not_lead_out_of_the_directory() {
    let mut guest = Guest::new();
    for (name, errno) in [
        ("", Errno::NoEntry),
        (".", Errno::NotCapable),
        ("..", Errno::NotCapable),
        ("../x", Errno::NotCapable),
        ("a/b", Errno::NotCapable),
        ("/etc/passwd", Errno::NotCapable),
        ("a\\b", Errno::NotCapable),
        ("C:x", Errno::NotCapable),
        ("a\0b", Errno::Invalid),
        (&"n".repeat(256), Errno::NameTooLong),
    ] {
        assert_eq!(guest.open(name, 1, ALL, 0), Err(errno), "{name:?}");
    }
    guest.memory[0] = 0xff;
    let opened = guest.wasi.path_open(&mut guest.memory, DIRECTORY, 1, (0, 1), 1, ALL, 0, RESULT);
    assert_eq!(opened, Err(Errno::IllegalBytes));
    assert_eq!(fs::read_dir(guest.directory.path()).unwrap().count(), 0);
}

#[cfg(unix)]
#[test]
fn a_link_is_followed_only_on_request() {
    let mut guest = Guest::new();
    let path = guest.directory.path();
    fs::write(path.join("target"), "x").unwrap();
    std::os::unix::fs::symlink(path.join("target"), path.join("link")).unwrap();
    assert_eq!(guest.open("link", 0, READ, 0), Ok(4));
    let name = guest.put(NAME, b"link");
    let opened = guest.wasi.path_open(&mut guest.memory, DIRECTORY, 0, name, 0, READ, 0, RESULT);
    assert_eq!(opened, Err(Errno::Loop));
}

#[test]
fn without_a_directory_there_is_no_preopen() {
    let mut memory = vec![0; 128];
    let mut wasi = Wasi::new(None, Stderr::Capture(Vec::new()));
    assert_eq!(wasi.path_open(&mut memory, 3, 0, (0, 1), 0, READ, 0, 64), Err(Errno::BadDescriptor));
}

#[test]
fn standard_streams_are_an_empty_input_and_a_captured_error() {
    let mut guest = Guest::new();
    assert_eq!(guest.read(0, 10).unwrap(), b"");
    assert_eq!(guest.write(2, b"oh"), Ok(2));
    assert_eq!(guest.write(1, b"!"), Ok(1));
    let Stderr::Capture(captured) = &guest.wasi.stderr else { panic!("it is captured") };
    assert_eq!(captured, b"oh!");
}

#[test]
fn random_bytes_are_random_and_no_more_than_asked_for() {
    let mut guest = Guest::new();
    assert_eq!(guest.wasi.random_get(&mut guest.memory, BUFFER, 32), Ok(()));
    assert_ne!(guest.memory[800..832], [0; 32]);
    assert_eq!(guest.memory[832], 0);
}

#[test]
fn files_that_are_open_are_counted() {
    let mut guest = Guest::new();
    for _ in 0..MAX_OPEN {
        guest.open("file", 1, ALL, 0).unwrap();
    }
    assert_eq!(guest.open("file", 1, ALL, 0), Err(Errno::TooManyOpen));
    assert_eq!(guest.wasi.fd_close(10), Ok(()));
    assert_eq!(guest.open("file", 1, ALL, 0), Ok(10));
}

/// Numbers that are often at an edge.
fn number() -> impl Strategy<Value = u32> {
    prop_oneof![0u32..12, 2040u32..2056, Just(u32::MAX), Just(u32::MAX - 7), any::<u32>()]
}

proptest! {
    #[test]
    fn no_argument_makes_a_call_panic(calls in proptest::collection::vec((0u32..9, prop::array::uniform5(number())), 1..20)) {
        let mut guest = Guest::new();
        guest.put(NAME, b"name");
        for (which, [a, b, c, d, e]) in calls {
            let (memory, wasi) = (&mut guest.memory, &mut guest.wasi);
            let _ = match which {
                0 => wasi.fd_write(memory, a, b, c % 64, d),
                1 => wasi.fd_read(memory, a, b, c % 64, d),
                2 => wasi.fd_close(a),
                3 => wasi.path_open(memory, 3, b, (a, c), d, u64::from(e), d, e),
                4 => wasi.path_open(memory, 3, 1, (NAME, 4), 1, ALL, d, e),
                5 => wasi.fd_filestat_get(memory, a, b),
                6 => wasi.fd_datasync(a),
                7 => wasi.path_rename(memory, 3, (a, b), 3, (c, d)),
                _ => wasi.random_get(memory, a, b),
            };
        }
    }
}
