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
    fn no_argument_makes_a_call_panic(calls in proptest::collection::vec((0u32..6, prop::array::uniform5(number())), 1..20)) {
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
                _ => wasi.random_get(memory, a, b),
            };
        }
    }
}
