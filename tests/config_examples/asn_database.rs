//! A GeoIP database with one IPv4 network in it, in MaxMind's DB format, version 2.0.
//!
//! In: a network and its AS organisation, or a city. Out: the bytes of an `.mmdb` file whose other addresses are not found.
//! Bounds: text below 285 bytes. Not here: IPv6, a prefix of length 0.

use std::net::Ipv4Addr;

/// Between the search tree and the data.
const SEPARATOR: [u8; 16] = [0; 16];

const METADATA_MARKER: &[u8] = b"\xab\xcd\xefMaxMind.com";

/// Types of the format, as their control bytes have them.
const TEXT: u8 = 2;
const UINT16: u8 = 5;
const UINT32: u8 = 6;
const MAP: u8 = 7;
const UINT64: u8 = 9;
const ARRAY: u8 = 11;

/// The first type that takes a second control byte, from which this many are subtracted.
const EXTENDED: u8 = 8;
const EXTENDED_BASE: u8 = 7;

/// A size from here on takes a further byte, which counts from here.
const LONG: usize = 29;

/// The database of the addresses that share their first `prefix_length` bits, 1 to 32, with `network`.
pub(crate) fn of_network(network: Ipv4Addr, prefix_length: u32, organization: &str) -> Vec<u8> {
    let data = map(&[
        ("autonomous_system_number", unsigned(UINT32, 64_496)),
        ("autonomous_system_organization", text(organization)),
    ]);
    of_type("GeoLite2-ASN", network, prefix_length, &data)
}

/// A database of cities, which has no AS organisation.
pub(crate) fn of_city(network: Ipv4Addr, prefix_length: u32, city: &str) -> Vec<u8> {
    let data = map(&[("city", map(&[("names", map(&[("en", text(city))]))]))]);
    of_type("GeoLite2-City", network, prefix_length, &data)
}

/// A database as IPinfo makes them.
pub(crate) fn of_ipinfo(network: Ipv4Addr, prefix_length: u32, organization: &str) -> Vec<u8> {
    let data = map(&[("asn", text("AS64496")), ("as_name", text(organization)), ("as_domain", text("example.com"))]);
    of_type("ipinfo lite.mmdb", network, prefix_length, &data)
}

fn of_type(kind: &str, network: Ipv4Addr, prefix_length: u32, data: &[u8]) -> Vec<u8> {
    let not_found = prefix_length;
    let found = prefix_length + u32::try_from(SEPARATOR.len()).expect("16");
    let mut bytes = Vec::new();
    for depth in 0..prefix_length {
        let next = if depth + 1 == prefix_length { found } else { depth + 1 };
        let is_right = u32::from(network) >> (31 - depth) & 1 == 1;
        let records = if is_right { [not_found, next] } else { [next, not_found] };
        for record in records {
            bytes.extend(&record.to_be_bytes()[1..]);
        }
    }
    bytes.extend(SEPARATOR);
    bytes.extend(data);
    bytes.extend(METADATA_MARKER);
    bytes.extend(map(&[
        ("binary_format_major_version", unsigned(UINT16, 2)),
        ("binary_format_minor_version", unsigned(UINT16, 0)),
        ("build_epoch", unsigned(UINT64, 1)),
        ("database_type", text(kind)),
        ("description", map(&[])),
        ("ip_version", unsigned(UINT16, 4)),
        ("languages", control(ARRAY, 0)),
        ("node_count", unsigned(UINT32, prefix_length)),
        ("record_size", unsigned(UINT16, 24)),
    ]));
    bytes
}

fn control(kind: u8, size: usize) -> Vec<u8> {
    let short = u8::try_from(size.min(LONG)).expect("at most 29");
    let mut bytes = if kind < EXTENDED { vec![kind << 5 | short] } else { vec![short, kind - EXTENDED_BASE] };
    if size >= LONG {
        bytes.push(u8::try_from(size - LONG).expect("text below 285 bytes"));
    }
    bytes
}

fn text(text: &str) -> Vec<u8> {
    [control(TEXT, text.len()), text.as_bytes().to_vec()].concat()
}

/// Without leading zero bytes.
fn unsigned(kind: u8, value: u32) -> Vec<u8> {
    let digits: Vec<u8> = value.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
    [control(kind, digits.len()), digits].concat()
}

fn map(pairs: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = control(MAP, pairs.len());
    for (key, value) in pairs {
        bytes.extend(text(key));
        bytes.extend(value);
    }
    bytes
}

#[test]
fn bytes_are_those_of_the_format() {
    // 160.0.0.0/3 is 101 in bits: right, left, right; every other way ends at 3, the number of nodes.
    let bytes = of_network(Ipv4Addr::new(160, 0, 0, 0), 3, "Example");
    assert_eq!(bytes[..18], [0, 0, 3, 0, 0, 1, 0, 0, 2, 0, 0, 3, 0, 0, 3, 0, 0, 19]);
    assert_eq!(bytes[18..35], [[0; 16].as_slice(), &[0xe2]].concat());
    assert_eq!(bytes[35..60], *b"\x58autonomous_system_number");
    // The key of 30 bytes: 29 in the control byte, and one more.
    assert_eq!(bytes[60..66], [0xc2, 0xfb, 0xf0, 0x5d, 1, b'a']);
    assert!(bytes.ends_with(b"\x4brecord_size\xa1\x18"));
}
