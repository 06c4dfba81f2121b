//! Compressed bodies, as `Content-Encoding` names them.
//!
//! In: bytes, and the encodings that the header lists. Out: the bytes unpacked, or packed again in the same encodings. Bounds:
//! what is unpacked is at most as long as it may be, whatever the packed text says of itself; a zstd window of 8 MB, which is
//! what its own specification asks everyone to support. Not here: what is in the bytes.
//!
//! `snappy` is the raw format, without frames: that is what Vector's `http` sink sends (its `sinks/util/snappy.rs`) and its
//! `http_server` source takes. `deflate` is zlib's format, as in HTTP.

use std::borrow::Cow;
use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};

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

    fn unpack(self, packed: &[u8], most: usize) -> Result<Vec<u8>, Error> {
        let damaged = |error| Error::Damaged(self, error);
        match self {
            Encoding::Gzip => self.read(MultiGzDecoder::new(packed), most),
            Encoding::Deflate => self.read(ZlibDecoder::new(packed), most),
            Encoding::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(packed).map_err(damaged)?;
                decoder.window_log_max(MAX_WINDOW_LOG).map_err(damaged)?;
                self.read(decoder, most)
            }
            Encoding::Snappy => {
                let snappy = |error| damaged(io::Error::other(error));
                if snap::raw::decompress_len(packed).map_err(snappy)? > most {
                    return Err(Error::TooLong(most));
                }
                snap::raw::Decoder::new().decompress_vec(packed).map_err(snappy)
            }
        }
    }

    fn read(self, source: impl Read, most: usize) -> Result<Vec<u8>, Error> {
        let mut text = Vec::new();
        let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
        source.take(limit).read_to_end(&mut text).map_err(|error| Error::Damaged(self, error))?;
        if text.len() > most {
            return Err(Error::TooLong(most));
        }
        Ok(text)
    }

    fn pack(self, text: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Encoding::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(text)?;
                encoder.finish()
            }
            Encoding::Deflate => {
                let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(text)?;
                encoder.finish()
            }
            Encoding::Zstd => zstd::stream::encode_all(text, 1),
            Encoding::Snappy => snap::raw::Encoder::new().compress_vec(text).map_err(io::Error::other),
        }
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

/// The body without its encodings, of at most so many bytes.
///
/// # Errors
/// [`Error::TooLong`] or [`Error::Damaged`].
pub fn unpacked<'a>(body: &'a [u8], encodings: &[Encoding], most: usize) -> Result<Cow<'a, [u8]>, Error> {
    let mut text = Cow::Borrowed(body);
    for encoding in encodings.iter().rev() {
        text = Cow::Owned(encoding.unpack(&text, most)?);
    }
    if text.len() > most { Err(Error::TooLong(most)) } else { Ok(text) }
}

/// The text in these encodings.
///
/// # Errors
/// An encoder fails, which it does for texts of 4 GB only.
pub fn packed(text: Vec<u8>, encodings: &[Encoding]) -> io::Result<Vec<u8>> {
    encodings.iter().try_fold(text, |text, encoding| encoding.pack(&text))
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
