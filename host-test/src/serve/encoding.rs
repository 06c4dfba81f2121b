//! Compressed bodies, as `Content-Encoding` names them.
//!
//! In: bytes, and the encodings that the header lists. Out: the bytes unpacked, or packed again in the same encodings. Bounds:
//! what is unpacked is at most as long as it may be, whatever the packed text says of itself, and memory is asked for while it
//! grows, as it is for what is packed; a zstd window of 8 MB, which is what its own specification asks everyone to support. Not
//! here: what is in the bytes.
//!
//! `snappy` is the raw format, without frames: that is what Vector's `http` sink sends (its `sinks/util/snappy.rs`) and its
//! `http_server` source takes. `deflate` is zlib's format, as in HTTP.

use std::io::{self, Read, Write};

use axum::body::Bytes;
use flate2::Compression;
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};

use crate::serve::memory::{Exhausted, Memory, MemoryPermit};

/// One encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// gzip, of one member or several.
    Gzip,
    /// zlib's.
    Deflate,
    /// zstd, of one frame or several.
    Zstd,
    /// Snappy's raw format.
    Snappy,
}

/// Why a body cannot be unpacked.
#[derive(Debug)]
pub enum Error {
    /// The header names an encoding that is none of these.
    Unknown(String),
    /// The text is longer than it may be, in bytes.
    TooLong(usize),
    /// The bytes are not of that encoding.
    Damaged(Encoding, io::Error),
    /// There is no room for what comes of them.
    Exhausted(Exhausted),
    /// The encoder fails.
    Packing(io::Error),
}

impl From<Exhausted> for Error {
    fn from(exhausted: Exhausted) -> Error {
        Error::Exhausted(exhausted)
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Unknown(name) => {
                write!(f, "the content encoding {name:?} is not known: send gzip, deflate, zstd, snappy or identity")
            }
            Error::TooLong(most) => {
                write!(f, "the body is longer than {most} bytes when it is unpacked: send smaller batches")
            }
            Error::Damaged(encoding, error) => write!(f, "the body is no {}: {error}", encoding.name()),
            Error::Exhausted(exhausted) => exhausted.fmt(f),
            Error::Packing(error) => write!(f, "the batch cannot be packed: {error}"),
        }
    }
}

impl std::error::Error for Error {}

/// The most encodings that a body may be packed in, one in the other.
const MAX_ENCODINGS: usize = 2;

/// The window of zstd, as a power of two.
const MAX_WINDOW_LOG: u32 = 23;

impl Encoding {
    /// Its name in the header.
    pub fn name(self) -> &'static str {
        match self {
            Encoding::Gzip => "gzip",
            Encoding::Deflate => "deflate",
            Encoding::Zstd => "zstd",
            Encoding::Snappy => "snappy",
        }
    }

    fn unpack(self, packed: &[u8], most: usize, permit: &mut MemoryPermit) -> Result<Vec<u8>, Error> {
        let damaged = |error| Error::Damaged(self, error);
        match self {
            Encoding::Gzip => self.read(MultiGzDecoder::new(packed), most, permit),
            Encoding::Deflate => self.read(ZlibDecoder::new(packed), most, permit),
            Encoding::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(packed).map_err(damaged)?;
                decoder.window_log_max(MAX_WINDOW_LOG).map_err(damaged)?;
                self.read(decoder, most, permit)
            }
            Encoding::Snappy => {
                let snappy = |error| damaged(io::Error::other(error));
                let length = snap::raw::decompress_len(packed).map_err(snappy)?;
                if length > most {
                    return Err(Error::TooLong(most));
                }
                permit.take(length)?;
                snap::raw::Decoder::new().decompress_vec(packed).map_err(snappy)
            }
        }
    }

    fn read(self, mut source: impl Read, most: usize, permit: &mut MemoryPermit) -> Result<Vec<u8>, Error> {
        let mut text = Vec::new();
        loop {
            // One byte more than there may be tells that there are more.
            let step = (text.len() / 8).max(STEP).min(most.saturating_add(1) - text.len());
            permit.take(step)?;
            text.reserve_exact(step);
            let limit = u64::try_from(step).unwrap_or(u64::MAX);
            let read = source.by_ref().take(limit).read_to_end(&mut text);
            let read = read.map_err(|error| Error::Damaged(self, error))?;
            if text.len() > most {
                return Err(Error::TooLong(most));
            }
            if read < step {
                text.shrink_to_fit();
                permit.free(step - read);
                return Ok(text);
            }
        }
    }

    fn pack(self, pieces: &[Bytes], permit: &mut MemoryPermit) -> io::Result<Vec<Bytes>> {
        let sink = Sink { chunks: Vec::new(), open: Vec::new(), permit };
        match self {
            Encoding::Gzip => {
                let mut encoder = GzEncoder::new(sink, Compression::fast());
                pieces.iter().try_for_each(|piece| encoder.write_all(piece))?;
                Ok(encoder.finish()?.finish())
            }
            Encoding::Deflate => {
                let mut encoder = ZlibEncoder::new(sink, Compression::fast());
                pieces.iter().try_for_each(|piece| encoder.write_all(piece))?;
                Ok(encoder.finish()?.finish())
            }
            Encoding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(sink, 1)?;
                pieces.iter().try_for_each(|piece| encoder.write_all(piece))?;
                Ok(encoder.finish()?.finish())
            }
            Encoding::Snappy => {
                // Its raw format has no streams.
                let Sink { permit, .. } = sink;
                let length: usize = pieces.iter().map(Bytes::len).sum();
                let longest = snap::raw::max_compress_len(length);
                permit.take(length + longest).map_err(io::Error::other)?;
                let packed = snap::raw::Encoder::new().compress_vec(&pieces.concat()).map_err(io::Error::other)?;
                permit.free(length + longest - packed.len());
                Ok(vec![Bytes::from(packed)])
            }
        }
    }
}

/// By how many bytes an unpacked text grows at least.
const STEP: usize = 64 << 10;

/// How many bytes of a packed text stand in one piece.
const CHUNK: usize = 64 << 10;

/// Where a packed text goes, piece by piece.
struct Sink<'a> {
    chunks: Vec<Bytes>,
    open: Vec<u8>,
    permit: &'a mut MemoryPermit,
}

impl Sink<'_> {
    fn finish(mut self) -> Vec<Bytes> {
        let spare = self.open.capacity() - self.open.len();
        self.open.shrink_to_fit();
        self.permit.free(spare);
        self.chunks.push(Bytes::from(self.open));
        self.chunks
    }
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.open.len() == self.open.capacity() {
            self.permit.take(CHUNK).map_err(io::Error::other)?;
            let full = std::mem::replace(&mut self.open, Vec::with_capacity(CHUNK));
            self.chunks.extend((!full.is_empty()).then(|| Bytes::from(full)));
        }
        let length = bytes.len().min(self.open.capacity() - self.open.len());
        self.open.extend_from_slice(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The encodings that the header lists, in the order in which they were applied.
///
/// # Errors
/// [`Error::Unknown`], also if there are more than [`MAX_ENCODINGS`].
pub fn listed(header: &str) -> Result<Vec<Encoding>, Error> {
    let mut encodings = Vec::new();
    for name in header.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let encoding = match name.to_ascii_lowercase().as_str() {
            "identity" => continue,
            "gzip" | "x-gzip" => Encoding::Gzip,
            "deflate" => Encoding::Deflate,
            "zstd" => Encoding::Zstd,
            "snappy" => Encoding::Snappy,
            _ => return Err(Error::Unknown(name.to_owned())),
        };
        if encodings.len() == MAX_ENCODINGS {
            return Err(Error::Unknown(header.to_owned()));
        }
        encodings.push(encoding);
    }
    Ok(encodings)
}

/// The body without its encodings, of at most so many bytes. The permit stands for them as well then.
///
/// # Errors
/// [`Error::TooLong`], [`Error::Damaged`] or [`Error::Exhausted`].
pub fn unpack(body: &[u8], encodings: &[Encoding], most: usize, permit: &mut MemoryPermit) -> Result<Vec<u8>, Error> {
    let mut encodings = encodings.iter().rev();
    let Some(last) = encodings.next() else { return Ok(body.to_vec()) };
    let mut text = last.unpack(body, most, permit)?;
    for encoding in encodings {
        let packed = std::mem::take(&mut text);
        text = encoding.unpack(&packed, most, permit)?;
        permit.free(packed.len());
    }
    Ok(text)
}

/// The text in these encodings. The permit stands for it as well then.
///
/// # Errors
/// [`Error::Exhausted`], or [`Error::Packing`] for texts of 4 GB.
pub fn pack(text: Vec<Bytes>, encodings: &[Encoding], permit: &mut MemoryPermit) -> Result<Vec<Bytes>, Error> {
    let failed = |error: io::Error| match error.get_ref().and_then(|error| error.downcast_ref()) {
        Some(exhausted) => Error::Exhausted(*exhausted),
        None => Error::Packing(error),
    };
    let (mut text, mut packed_before) = (text, 0);
    for encoding in encodings {
        text = encoding.pack(&text, permit).map_err(failed)?;
        permit.free(packed_before);
        packed_before = text.iter().map(Bytes::len).sum();
    }
    Ok(text)
}

/// [`unpack`] for whoever has memory enough.
///
/// # Errors
/// [`Error::TooLong`] or [`Error::Damaged`].
pub fn unpacked(body: &[u8], encodings: &[Encoding], most: usize) -> Result<Vec<u8>, Error> {
    if encodings.is_empty() && body.len() > most {
        return Err(Error::TooLong(most));
    }
    unpack(body, encodings, most, &mut Memory::new(usize::MAX).permit())
}

/// [`pack`] for whoever has memory enough.
///
/// # Errors
/// An encoder fails, which it does for texts of 4 GB only.
pub fn packed(text: Vec<u8>, encodings: &[Encoding]) -> Result<Vec<u8>, Error> {
    let packed = pack(vec![Bytes::from(text)], encodings, &mut Memory::new(usize::MAX).permit())?;
    Ok(packed.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Encoding; 4] = [Encoding::Gzip, Encoding::Deflate, Encoding::Zstd, Encoding::Snappy];

    #[test]
    fn each_encoding_and_two_of_them_come_back_as_they_were() {
        let text = b"{\"eventName\":\"GetCallerIdentity\"}\n".repeat(1000);
        for first in ALL {
            for encodings in [vec![], vec![first], vec![first, Encoding::Gzip]] {
                let body = packed(text.clone(), &encodings).expect("it is packed");
                assert_eq!(unpacked(&body, &encodings, text.len()).expect("it is unpacked"), text, "{encodings:?}");
            }
        }
        // Several members in a row are one text.
        for encoding in [Encoding::Gzip, Encoding::Zstd] {
            let twice = packed(text.clone(), &[encoding]).expect("it is packed").repeat(2);
            assert_eq!(unpacked(&twice, &[encoding], 2 * text.len()).expect("it is unpacked"), text.repeat(2));
        }
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let text = vec![b' '; 64 << 20];
        for encoding in ALL {
            let body = packed(text.clone(), &[encoding]).expect("it is packed");
            let refused = unpacked(&body, &[encoding], 1 << 20);
            assert!(matches!(refused, Err(Error::TooLong(most)) if most == 1 << 20), "{encoding:?}");
        }
        assert!(matches!(unpacked(&text, &[], 1 << 20), Err(Error::TooLong(_))));
        // A length that is only claimed.
        assert!(matches!(unpacked(b"\xff\xff\xff\xff\x0f\0", &[Encoding::Snappy], 1 << 20), Err(Error::TooLong(_))));
    }

    #[test]
    fn memory_is_asked_for_while_a_text_grows() {
        let text = b"{\"eventName\":\"GetCallerIdentity\"}\n".repeat(20_000);
        for encodings in ALL.into_iter().flat_map(|encoding| [vec![encoding], vec![encoding, Encoding::Zstd]]) {
            let body = packed(text.clone(), &encodings).expect("it is packed");
            // At the end the permit stands for what is there, and for no more.
            let memory = Memory::new(4 * text.len());
            let mut permit = memory.permit();
            let found = unpack(&body, &encodings, text.len(), &mut permit).expect("there is room");
            assert_eq!((found.len(), memory.held()), (text.len(), text.len()), "{encodings:?}");
            let again = pack(vec![Bytes::from(found)], &encodings, &mut permit).expect("there is room");
            let length: usize = again.iter().map(Bytes::len).sum();
            assert_eq!(memory.held(), text.len() + length, "{encodings:?}");
            // Never more than there is.
            let mut permit = Memory::new(text.len() / 2).permit();
            let refused = unpack(&body, &encodings, text.len(), &mut permit);
            assert!(matches!(refused, Err(Error::Exhausted(Exhausted::Ever))), "{encodings:?}: {refused:?}");
            let noise: Vec<u8> =
                (0..200_000u32).flat_map(|number| number.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
            let mut permit = Memory::new(noise.len() / 2).permit();
            let refused = pack(vec![Bytes::from(noise)], &encodings, &mut permit);
            assert!(matches!(refused, Err(Error::Exhausted(Exhausted::Ever))), "{encodings:?}");
        }
    }

    #[test]
    fn damage_is_an_error_wherever_it_is() {
        let text: Vec<u8> = (0..2000u32).flat_map(u32::to_le_bytes).collect();
        for encoding in ALL {
            let body = packed(text.clone(), &[encoding]).expect("it is packed");
            for end in 0..body.len() {
                if let Ok(cut) = unpacked(&body[..end], &[encoding], 1 << 20) {
                    // zstd takes nothing at all for no frames.
                    assert!(end == 0 && cut.is_empty(), "{encoding:?} cut at {end} of {}", body.len());
                }
            }
            for at in 0..body.len() {
                let mut damaged = body.clone();
                damaged[at] ^= 0x55;
                // It may come out as another text where there is no checksum, but it comes to an end.
                let _ = unpacked(&damaged, &[encoding], 1 << 20);
            }
        }
    }

    #[test]
    fn the_header_is_read_as_http_has_it() {
        assert_eq!(listed("").expect("none"), []);
        assert_eq!(listed("identity").expect("none"), []);
        assert_eq!(listed("GZIP , zstd").expect("two"), [Encoding::Gzip, Encoding::Zstd]);
        let error = listed("br").expect_err("unknown");
        assert_eq!(
            error.to_string(),
            "the content encoding \"br\" is not known: send gzip, deflate, zstd, snappy or identity"
        );
        assert!(listed("gzip,gzip,gzip").is_err());
    }
}
