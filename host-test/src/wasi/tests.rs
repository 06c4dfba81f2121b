//! WASI calls as the module makes them, and as a guest that means harm would.

use proptest::prelude::*;

use super::*;

/// Rights to read and write.
const ALL: u64 = u64::MAX;
/// Rights to read.
const READ: u64 = 2;

/// A guest's memory with names and buffers in it, and its WASI.
struct Guest {
    memory: Vec<u8>,
    wasi: Wasi,
    directory: tempfile::TempDir,
}

/// Where the tests put a name, a result, the list of buffers, and the buffer itself.
const NAME: u32 = 0;
const OTHER_NAME: u32 = 256;
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

    fn read(&mut self, fd: u32, length: u32) -> Result<Vec<u8>, Errno> {
        self.vector(BUFFER, length);
        self.wasi.fd_read(&mut self.memory, fd, VECTORS, 1, RESULT)?;
        Ok(self.memory[BUFFER as usize..][..self.result() as usize].to_vec())
    }

    fn stat(&mut self, fd: u32) -> Result<(u8, u64), Errno> {
        self.wasi.fd_filestat_get(&mut self.memory, fd, BUFFER)?;
        let stat = &self.memory[BUFFER as usize..][..64];
        Ok((stat[16], u64::from_le_bytes(*stat[32..].first_chunk().unwrap())))
    }
}

#[test]
fn a_file_is_made_written_read_sized_renamed_and_removed() {
    let mut guest = Guest::new();
    assert_eq!(guest.open("state", 0, READ, 0), Err(Errno::NoEntry));
    let fd = guest.open("state", 1, ALL, 0).unwrap();
    assert_eq!(fd, 4);
    assert_eq!(guest.write(fd, b"hello "), Ok(6));
    assert_eq!(guest.write(fd, b"world"), Ok(5));
    assert_eq!(guest.read(fd, 100).unwrap(), b"", "behind what was written");
    assert_eq!(guest.stat(fd), Ok((4, 11)));

    guest.put(BUFFER, b"W");
    guest.vector(BUFFER, 1);
    assert_eq!(guest.wasi.fd_pwrite(&mut guest.memory, fd, VECTORS, 1, 6, RESULT), Ok(()));
    guest.vector(BUFFER, 2);
    assert_eq!(guest.wasi.fd_pread(&mut guest.memory, fd, VECTORS, 1, 6, RESULT), Ok(()));
    assert_eq!((guest.result(), &guest.memory[800..802]), (2, b"Wo".as_slice()));
    assert_eq!(guest.write(fd, b"!"), Ok(1), "the position is where fd_write left it");

    assert_eq!(fs::read(guest.directory.path().join("state")).unwrap(), b"hello World!");

    assert_eq!(guest.wasi.fd_filestat_set_size(fd, 5), Ok(()));
    assert_eq!(guest.wasi.fd_datasync(fd), Ok(()));
    assert_eq!(guest.wasi.fd_datasync(DIRECTORY), Ok(()));
    assert_eq!(guest.wasi.fd_close(fd), Ok(()));
    assert_eq!(guest.wasi.fd_close(fd), Err(Errno::BadDescriptor));

    let old = guest.put(NAME, b"state");
    let new = guest.put(OTHER_NAME, b"state.old");
    assert_eq!(guest.wasi.path_rename(&guest.memory, DIRECTORY, old, DIRECTORY, new), Ok(()));
    assert_eq!(fs::read(guest.directory.path().join("state.old")).unwrap(), b"hello");
    let fd = guest.open("state.old", 0, READ, 0).unwrap();
    assert_eq!(fd, 4, "the number is free again");
    assert_eq!(guest.read(fd, 3).unwrap(), b"hel");
    assert_eq!(guest.read(fd, 100).unwrap(), b"lo");
    assert_eq!(guest.wasi.path_unlink_file(&guest.memory, DIRECTORY, new), Ok(()));
    assert_eq!(guest.wasi.path_unlink_file(&guest.memory, DIRECTORY, new), Err(Errno::NoEntry));
    assert_eq!(fs::read_dir(guest.directory.path()).unwrap().count(), 0);
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
    let fd = guest.open("file", 8, ALL, 0).unwrap();
    assert_eq!(guest.stat(fd), Ok((4, 0)), "truncate");
    assert_eq!(guest.open("file", 2, READ, 0), Err(Errno::NotSupported), "directory");
    fs::create_dir(guest.directory.path().join("sub")).unwrap();
    assert_eq!(guest.open("sub", 0, READ, 0), Err(Errno::IsDirectory));
}

#[test]
fn rights_bind() {
    let mut guest = Guest::new();
    fs::write(guest.directory.path().join("file"), "12345").unwrap();
    let reader = guest.open("file", 0, READ, 0).unwrap();
    assert_eq!(guest.write(reader, b"x"), Err(Errno::NotCapable));
    assert_eq!(guest.wasi.fd_filestat_set_size(reader, 0), Err(Errno::NotCapable));
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
    assert_eq!(wasi.fd_prestat_get(&mut memory, 3, 0), Err(Errno::BadDescriptor));
    assert_eq!(wasi.path_open(&mut memory, 3, 0, (0, 1), 0, READ, 0, 64), Err(Errno::BadDescriptor));
    assert_eq!(wasi.fd_filestat_get(&mut memory, 3, 0), Err(Errno::BadDescriptor));
}

#[test]
fn the_directory_is_preopen_3_under_its_name() {
    let mut guest = Guest::new();
    let name = guest.directory.path().to_str().unwrap().to_owned();
    assert_eq!(guest.wasi.fd_prestat_get(&mut guest.memory, 3, BUFFER), Ok(()));
    let length = name.len() as u32;
    assert_eq!(guest.memory[800..808], [[0; 4], length.to_le_bytes()].concat());
    assert_eq!(guest.wasi.fd_prestat_dir_name(&mut guest.memory, 3, 0, length), Ok(()));
    assert_eq!(guest.memory[..name.len()], *name.as_bytes());
    assert_eq!(guest.wasi.fd_prestat_dir_name(&mut guest.memory, 3, 0, length - 1), Err(Errno::NameTooLong));
    assert_eq!(guest.wasi.fd_prestat_get(&mut guest.memory, 4, BUFFER), Err(Errno::BadDescriptor));
    assert_eq!(guest.stat(3).map(|(kind, _)| kind), Ok(3));
}

#[test]
fn standard_streams_are_an_empty_input_and_a_captured_error() {
    let mut guest = Guest::new();
    assert_eq!(guest.read(0, 10).unwrap(), b"");
    assert_eq!(guest.write(2, b"oh"), Ok(2));
    assert_eq!(guest.write(1, b"!"), Ok(1));
    let Stderr::Capture(captured) = &guest.wasi.stderr else { panic!("it is captured") };
    assert_eq!(captured, b"oh!");
    assert_eq!(guest.stat(2).map(|(kind, _)| kind), Ok(2));
}

#[test]
fn clocks_and_random_bytes() {
    let mut guest = Guest::new();
    let mut time = |clock: u32| {
        guest.wasi.clock_time_get(&mut guest.memory, clock, RESULT)?;
        Ok(u64::from_le_bytes(*guest.memory[RESULT as usize..].first_chunk().unwrap()))
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let told = time(0).unwrap();
    assert!(told >= now && told - now < 60_000_000_000, "{told} is about {now}");
    assert!(time(1).unwrap() < 60_000_000_000, "it begins with the instance");
    assert_eq!(time(9), Err(Errno::Invalid));
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
    fn no_argument_makes_a_call_panic(calls in proptest::collection::vec((0u32..15, prop::array::uniform5(number())), 1..20)) {
        let mut guest = Guest::new();
        guest.put(NAME, b"name");
        for (which, [a, b, c, d, e]) in calls {
            let (memory, wasi) = (&mut guest.memory, &mut guest.wasi);
            // Sizes and offsets stay small: a file of 4 GiB is allowed, but no help here.
            let offset = u64::from(d % 4096);
            let _ = match which {
                0 => wasi.fd_write(memory, a, b, c % 64, d),
                1 => wasi.fd_read(memory, a, b, c % 64, d),
                2 => wasi.fd_pread(memory, a, b, c % 64, u64::MAX - u64::from(d), e),
                3 => wasi.fd_pwrite(memory, a, b, c % 64, offset, e),
                4 => wasi.fd_datasync(a),
                5 => wasi.fd_close(a),
                6 => wasi.fd_filestat_get(memory, a, b),
                7 => wasi.fd_filestat_set_size(a, offset),
                8 => wasi.fd_prestat_get(memory, a, b),
                9 => wasi.fd_prestat_dir_name(memory, a, b, c),
                10 => wasi.path_open(memory, 3, b, (a, c), d, u64::from(e), d, e),
                11 => wasi.path_open(memory, 3, 1, (NAME, 4), 1, ALL, d, e),
                12 => wasi.path_rename(memory, a, (b, c), 3, (d, e)),
                13 => wasi.random_get(memory, a, b),
                _ => wasi.clock_time_get(memory, a, b),
            };
        }
    }
}
