//! Files as they are, unpacked if they are packed.
//!
//! In: bytes, plain or of gzip members and zstd frames one behind the other. Out: the bytes that they hold.
//! What was packed twice, as CloudWatch Logs' data is that Firehose packs again, is unpacked twice. Bounds:
//! nothing is held but one decoder and what it needs: a zstd window of 128 MB at most. Not here: request
//! bodies, whose header says how they are packed.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::GzDecoder;
use zstd::stream::read::Decoder as ZstdDecoder;

use crate::logs::format::{Format, HEAD};

/// How many bytes are read at once.
const READ_SIZE: usize = 128 * 1024;

const GZIP: &[u8] = b"\x1f\x8b";
const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd";

/// The bytes of a source, and what they look like.
pub struct Unpacked<R: Read> {
    source: Members<Members<R>>,
    head: Head,
}

impl<R: Read> std::fmt::Debug for Unpacked<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unpacked").finish_non_exhaustive()
    }
}

impl<R: Read> Unpacked<R> {
    /// Reads a source from its beginning.
    ///
    /// # Errors
    /// The first bytes cannot be read.
    pub fn new(source: R) -> io::Result<Self> {
        let mut source = Members::new(Members::new(source)?)?;
        let head = Head::of(&mut source, Format::is_decided)?;
        Ok(Unpacked { source, head })
    }

    /// What the bytes are, if they cannot be JSON.
    pub fn format(&self) -> Option<Format> {
        Format::of_beginning(self.head.rest())
    }
}

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.head.take(buffer) {
            0 => self.source.read(buffer),
            taken => Ok(taken),
        }
    }
}

/// Bytes that were looked at and not given out yet.
#[derive(Debug, Default)]
struct Head {
    bytes: [u8; HEAD],
    from: usize,
    until: usize,
}

impl Head {
    /// The first bytes of a source: as many as decide, or all.
    fn of(source: &mut impl Read, is_decided: impl Fn(&[u8]) -> bool) -> io::Result<Head> {
        let mut head = Head::default();
        while head.until < HEAD && !is_decided(head.rest()) {
            match source.read(&mut head.bytes[head.until..]) {
                Ok(0) => break,
                Ok(n) => head.until += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(head)
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.from..self.until]
    }

    fn take(&mut self, buffer: &mut [u8]) -> usize {
        let length = self.rest().len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.rest()[..length]);
        self.from += length;
        length
    }
}

/// A source from its first byte on, of which some bytes were looked at.
struct Begun<R> {
    head: Head,
    source: R,
}

impl<R: Read> Read for Begun<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.head.take(buffer) {
            0 => self.source.read(buffer),
            taken => Ok(taken),
        }
    }
}

type Buffered<R> = BufReader<Begun<R>>;

/// A source, unpacked member by member.
enum Members<R: Read> {
    Plain(Begun<R>),
    Gzip(Box<GzDecoder<Buffered<R>>>),
    Zstd(Box<ZstdDecoder<'static, Buffered<R>>>),
    /// Behind a member.
    Between(Buffered<R>),
    /// What is behind a member and is none.
    Rest(Buffered<R>),
    /// An error was told.
    Ended,
}

impl<R: Read> Members<R> {
    fn new(mut source: R) -> io::Result<Self> {
        let is_decided = |head: &[u8]| {
            let begins = |magic: &[u8]| head.len() < magic.len() && magic.starts_with(head);
            !begins(GZIP) && !begins(ZSTD)
        };
        let head = Head::of(&mut source, is_decided)?;
        let is_packed = head.rest().starts_with(GZIP) || head.rest().starts_with(ZSTD);
        let source = Begun { head, source };
        Ok(match is_packed {
            true => Members::Between(BufReader::with_capacity(READ_SIZE, source)),
            false => Members::Plain(source),
        })
    }

    /// The decoder of the next member.
    fn next(mut source: Buffered<R>) -> io::Result<Self> {
        // What is behind a member may come late, and a byte at a time.
        let begins = loop {
            let ahead = source.fill_buf()?;
            let begins = |magic: &[u8]| ahead.starts_with(magic);
            let may_begin = |magic: &[u8]| ahead.len() < magic.len() && magic.starts_with(ahead);
            match ahead {
                [] => return Ok(Members::Ended),
                // Tapes and block devices pad with them.
                [0, ..] => {
                    let zeros = ahead.iter().take_while(|byte| **byte == 0).count();
                    source.consume(zeros);
                }
                _ if begins(GZIP) || may_begin(GZIP) => break GZIP,
                _ if begins(ZSTD) || may_begin(ZSTD) => break ZSTD,
                _ => return Ok(Members::Rest(source)),
            }
        };
        if begins == GZIP {
            return Ok(Members::Gzip(Box::new(GzDecoder::new(source))));
        }
        Ok(Members::Zstd(Box::new(ZstdDecoder::with_buffer(source)?.single_frame())))
    }
}

impl<R: Read> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let read = match self {
                Members::Plain(source) => return source.read(buffer),
                Members::Rest(source) => return source.read(buffer),
                Members::Gzip(decoder) => decoder.read(buffer),
                Members::Zstd(decoder) => decoder.read(buffer),
                Members::Between(_) => Ok(0),
                Members::Ended => return Ok(0),
            };
            match read {
                Ok(0) => {}
                Ok(read) => return Ok(read),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
                Err(error) => {
                    *self = Members::Ended;
                    return Err(error);
                }
            }
            let source = match std::mem::replace(self, Members::Ended) {
                Members::Gzip(decoder) => decoder.into_inner(),
                Members::Zstd(decoder) => decoder.finish(),
                Members::Between(source) => source,
                Members::Plain(_) | Members::Rest(_) | Members::Ended => return Ok(0),
            };
            *self = Members::next(source)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::stream::encode_all(bytes, 1).unwrap()
    }

    /// Gives out one byte at a time.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = buffer.len().min(1);
            self.0.read(&mut buffer[..length])
        }
    }

    fn unpacked(bytes: &[u8]) -> io::Result<String> {
        let (mut text, mut slowly) = (String::new(), String::new());
        let read = Unpacked::new(bytes)?.read_to_string(&mut text);
        let read_slowly = Unpacked::new(Slow(bytes))?.read_to_string(&mut slowly);
        assert_eq!((text.as_str(), read.is_ok()), (slowly.as_str(), read_slowly.is_ok()));
        read.map(|_| text)
    }

    #[test]
    fn members_and_frames_one_behind_the_other_are_one_text() {
        let (a, b) = (b"{\"a\":1}\n", b"{\"b\":2}\n");
        for (packed, text) in [
            ([gzip(a), gzip(b)].concat(), "{\"a\":1}\n{\"b\":2}\n"),
            ([zstd(a), zstd(b)].concat(), "{\"a\":1}\n{\"b\":2}\n"),
            ([gzip(a), zstd(b), gzip(b"")].concat(), "{\"a\":1}\n{\"b\":2}\n"),
            ([gzip(a), vec![0; 600], gzip(b)].concat(), "{\"a\":1}\n{\"b\":2}\n"),
            ([gzip(a), vec![0; 600]].concat(), "{\"a\":1}\n"),
            ([gzip(a), b.to_vec()].concat(), "{\"a\":1}\n{\"b\":2}\n"),
            (gzip(&[gzip(a), gzip(b)].concat()), "{\"a\":1}\n{\"b\":2}\n"),
            (zstd(&gzip(a)), "{\"a\":1}\n"),
            (gzip(b""), ""),
            (a.to_vec(), "{\"a\":1}\n"),
            (vec![], ""),
            (b"{".to_vec(), "{"),
        ] {
            assert_eq!(unpacked(&packed).unwrap(), text);
        }
    }

    #[test]
    fn what_is_damaged_or_cut_is_an_error() {
        for packed in [gzip(b"{\"a\":1}\n"), zstd(b"{\"a\":1}\n")] {
            for cut in 5..packed.len() {
                assert!(unpacked(&packed[..cut]).is_err(), "cut at {cut} of {}", packed.len());
            }
        }
    }
}
