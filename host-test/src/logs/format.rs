//! What bytes that are not JSON look like, so that a message can name it.
//!
//! In: the first bytes of a source. Out: a [`Format`], with what to do about it. Bounds: [`HEAD`] bytes are
//! looked at. Not here: JSON that is damaged, which the framing tells line by line.

use std::fmt;

/// How many bytes decide. So few that a pipe need not be waited for.
pub const HEAD: usize = 4;

/// A form that logs come in and that is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// UTF-16, with the name of its byte order.
    Utf16(&'static str),
    /// UTF-32, with the name of its byte order.
    Utf32(&'static str),
    /// Compressed, in a way that nothing unpacks here, or that the sender did not name.
    Compressed(&'static str),
    /// MessagePack.
    MessagePack,
    /// Another binary format.
    Binary(&'static str),
    /// Text, but not JSON.
    Text,
}

/// How formats begin. Those that no JSON text can begin like.
const BEGINNINGS: [(&[u8], Format); 19] = [
    (b"\xff\xfe\0\0", Format::Utf32("LE")),
    (b"\0\0\xfe\xff", Format::Utf32("BE")),
    (b"\xff\xfe", Format::Utf16("LE")),
    (b"\xfe\xff", Format::Utf16("BE")),
    (b"\x1f\x8b", Format::Compressed("gzip")),
    (b"\x28\xb5\x2f\xfd", Format::Compressed("zstd")),
    (b"BZh", Format::Compressed("bzip2")),
    (b"\xfd7zX", Format::Compressed("xz")),
    (b"\x04\x22\x4d\x18", Format::Compressed("lz4")),
    (b"\xff\x06\0\0", Format::Compressed("snappy (framed)")),
    (b"PK\x03\x04", Format::Compressed("zip")),
    (b"7z\xbc\xaf", Format::Compressed("7z")),
    (b"PAR1", Format::Binary("Parquet")),
    (b"Obj\x01", Format::Binary("Avro")),
    (b"ORC", Format::Binary("ORC")),
    (b"SQLi", Format::Binary("SQLite")),
    (b"\x7fELF", Format::Binary("ELF")),
    (b"%PDF", Format::Binary("PDF")),
    (b"\xd9\xd9\xf7", Format::Binary("CBOR")),
];

impl Format {
    /// What no JSON begins like, by the first [`HEAD`] bytes; `None` for anything that may be JSON or lines
    /// of text.
    pub fn of_beginning(head: &[u8]) -> Option<Format> {
        let head = &head[..head.len().min(HEAD)];
        if let Some((_, format)) = BEGINNINGS.iter().find(|(beginning, _)| head.starts_with(beginning)) {
            return Some(*format);
        }
        let is_character = |byte: u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
        match *head {
            [first, 0, 0, 0] if is_character(first) => Some(Format::Utf32("LE")),
            [0, 0, 0, last] if is_character(last) => Some(Format::Utf32("BE")),
            [first, 0, second, 0] if is_character(first) && is_character(second) => Some(Format::Utf16("LE")),
            [0, first, 0, second] if is_character(first) && is_character(second) => Some(Format::Utf16("BE")),
            // Maps and arrays: no text in UTF-8 begins so.
            [0x80..=0x9f, ..] => Some(Format::MessagePack),
            [0xdc..=0xdf, second, ..] if !(0x80..=0xbf).contains(&second) => Some(Format::MessagePack),
            _ => None,
        }
    }

    /// Whether these bytes are enough for [`Format::of_beginning`].
    pub fn is_decided(head: &[u8]) -> bool {
        let is_text = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
        let may_begin = |beginning: &[u8]| beginning.len() > head.len() && beginning.starts_with(head);
        let is_open = BEGINNINGS.iter().any(|(beginning, _)| may_begin(beginning));
        head.len() >= HEAD || (head.len() >= 2 && head.iter().all(is_text) && !is_open)
    }

    /// What bytes are of which nothing is JSON.
    pub fn of(bytes: &[u8]) -> Format {
        let is_control = |byte: &u8| *byte < 0x20 && !byte.is_ascii_whitespace() && *byte != 0x1b;
        let head = &bytes[..bytes.len().min(1024)];
        Format::of_beginning(bytes).unwrap_or_else(|| match head.iter().any(is_control) {
            true => Format::Binary("unknown, perhaps protobuf"),
            false => Format::Text,
        })
    }

    /// What the sender of a body is to do.
    pub fn advice_to_sender(self) -> &'static str {
        match self {
            Format::Utf16(_) | Format::Utf32(_) => "send it in UTF-8",
            Format::Compressed("gzip") => "send the header Content-Encoding: gzip with it",
            Format::Compressed("zstd") => "send the header Content-Encoding: zstd with it",
            Format::Compressed(_) => {
                "compress it with gzip, zstd, deflate or raw snappy, and name that in Content-Encoding"
            }
            Format::MessagePack => "set the sender's format to JSON, such as json_lines",
            Format::Binary(_) | Format::Text => "set the sender's format to JSON or NDJSON",
        }
    }

    /// What to do about a file.
    pub fn advice_for_file(self) -> &'static str {
        match self {
            Format::Utf16(_) => "convert it with: iconv -f UTF-16 -t UTF-8",
            Format::Utf32(_) => "convert it with: iconv -f UTF-32 -t UTF-8",
            Format::Compressed(_) => "unpack it first: only gzip and zstd are unpacked here",
            Format::MessagePack | Format::Binary(_) | Format::Text => "convert it to NDJSON",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Format::Utf16(order) => write!(f, "UTF-16{order}"),
            Format::Utf32(order) => write!(f, "UTF-32{order}"),
            Format::Compressed(name) => write!(f, "compressed data ({name})"),
            Format::MessagePack => f.write_str("MessagePack"),
            Format::Binary(name) => write!(f, "binary data ({name})"),
            Format::Text => f.write_str("text that is not JSON"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_their_first_bytes() {
        let utf16 = |text: &str, bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
        let utf32 = |text: &str, bytes: fn(u32) -> [u8; 4]| {
            text.chars().flat_map(|char| bytes(u32::from(char))).collect::<Vec<u8>>()
        };
        for text in ["{\"a\":1}", "[{\"a\":1}]", "\u{feff}{\"a\":1}", " \r\n{}", "oops"] {
            assert_eq!(Format::of_beginning(&utf16(text, u16::to_le_bytes)), Some(Format::Utf16("LE")), "{text:?}");
            assert_eq!(Format::of_beginning(&utf16(text, u16::to_be_bytes)), Some(Format::Utf16("BE")), "{text:?}");
            assert_eq!(Format::of_beginning(&utf32(text, u32::to_le_bytes)), Some(Format::Utf32("LE")), "{text:?}");
            assert_eq!(Format::of_beginning(&utf32(text, u32::to_be_bytes)), Some(Format::Utf32("BE")), "{text:?}");
            assert_eq!(Format::of_beginning(text.as_bytes()), None, "{text:?}");
        }
        for map in [&b"\x81\xa1a\x01"[..], b"\x92\xcb\0\0", b"\xdd\0\0\0\x01", b"\xde\0\x01\xa1a", b"\xdf\0\0\0\x01"] {
            assert_eq!(Format::of(map), Format::MessagePack, "{map:x?}");
        }
        assert_eq!(Format::of(b"\x0a\x13\x0a\x05hello\x12\x02\x08\x01"), Format::Binary("unknown, perhaps protobuf"));
        assert_eq!(Format::of("Übung\n".as_bytes()), Format::Text);
        assert_eq!(Format::of_beginning("߷".as_bytes()), None, "a letter in UTF-8");
        assert_eq!(Format::of(b"\x1f\x8b\x08\0"), Format::Compressed("gzip"));
    }

    #[test]
    fn a_beginning_is_decided_as_soon_as_it_can_be() {
        for text in ["{}", "{\n", "[1", "oo"] {
            assert!(Format::is_decided(text.as_bytes()), "{text:?}");
        }
        for (beginning, format) in BEGINNINGS {
            for end in 0..beginning.len().min(HEAD) {
                let is_told = Format::of_beginning(&beginning[..end]) == Some(format);
                assert!(is_told || !Format::is_decided(&beginning[..end]), "{beginning:x?} at {end}");
            }
        }
    }
}
