//! Writes small databases in MaxMind's DB format, version 2.0, as GeoIP filters read them.
//!
//! In: IPv4 networks and what is known of each. Out: the bytes of an `.mmdb` file that finds nothing for all other addresses,
//! IPv6 ones included. Bounds: text below 285 bytes, and networks that do not overlap; of two for one address the later one counts.
//! Not here: reading databases, values of other types than text, numbers below 2^32 and maps, IPv6 networks. No maintained crate
//! writes this format.

use std::net::Ipv4Addr;

/// Between the search tree and the data.
const SEPARATOR: [u8; 16] = [0; 16];

const METADATA_MARKER: &[u8] = b"\xab\xcd\xefMaxMind.com";

/// IPv4 addresses are those of `::/96`, as in MaxMind's own databases.
const IPV4_DEPTH: u32 = 96;

/// Bits of a record of the tree.
const RECORD_SIZE: u32 = 24;

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

/// A value of a network.
#[derive(Debug, Clone)]
pub enum Value {
    /// A text.
    Text(String),
    /// A number.
    Number(u32),
    /// Keys and values.
    Map(Vec<(&'static str, Value)>),
}

/// The addresses that share their first bits, up to 32, with an address.
pub type Network = (Ipv4Addr, u32);

/// A database of this type.
pub fn database(kind: &str, built: u32, networks: &[(Network, Value)]) -> Vec<u8> {
    let mut tree = Tree { nodes: vec![[None; 2]] };
    let mut data = Vec::new();
    for (network, value) in networks {
        tree.insert(*network, data.len());
        encode(value, &mut data);
    }
    let mut bytes = tree.bytes();
    bytes.extend(SEPARATOR);
    bytes.extend(data);
    bytes.extend(METADATA_MARKER);
    let count = u32::try_from(tree.nodes.len()).unwrap_or(u32::MAX);
    for part in [
        control(MAP, 9),
        [text("binary_format_major_version"), unsigned(UINT16, 2)].concat(),
        [text("binary_format_minor_version"), unsigned(UINT16, 0)].concat(),
        [text("build_epoch"), unsigned(UINT64, built)].concat(),
        [text("database_type"), text(kind)].concat(),
        [text("description"), control(MAP, 0)].concat(),
        [text("ip_version"), unsigned(UINT16, 6)].concat(),
        [text("languages"), control(ARRAY, 0)].concat(),
        [text("node_count"), unsigned(UINT32, count)].concat(),
        [text("record_size"), unsigned(UINT16, RECORD_SIZE)].concat(),
    ] {
        bytes.extend(part);
    }
    bytes
}

/// Where a bit of an address leads.
#[derive(Debug, Clone, Copy)]
enum Next {
    Node(usize),
    /// An offset in the data.
    Data(usize),
}

/// The search tree, one bit of an address a level.
#[derive(Debug)]
struct Tree {
    nodes: Vec<[Option<Next>; 2]>,
}

impl Tree {
    fn insert(&mut self, (address, prefix_length): Network, data: usize) {
        let last = IPV4_DEPTH + prefix_length.min(32) - 1;
        let mut at = 0;
        for depth in 0..=last {
            let bit = match depth.checked_sub(IPV4_DEPTH) {
                Some(depth) => (u32::from(address) >> (31 - depth) & 1) as usize,
                None => 0,
            };
            if depth == last {
                self.nodes[at][bit] = Some(Next::Data(data));
                return;
            }
            at = match self.nodes[at][bit] {
                Some(Next::Node(next)) => next,
                _ => {
                    let next = self.nodes.len();
                    self.nodes.push([None; 2]);
                    self.nodes[at][bit] = Some(Next::Node(next));
                    next
                }
            };
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let count = self.nodes.len();
        let record = |next: &Option<Next>| match next {
            // Not found.
            None => count,
            Some(Next::Node(node)) => *node,
            Some(Next::Data(offset)) => count + SEPARATOR.len() + offset,
        };
        self.nodes.iter().flatten().flat_map(|next| (record(next) as u32).to_be_bytes().into_iter().skip(1)).collect()
    }
}

fn encode(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Text(value) => out.extend(text(value)),
        Value::Number(number) => out.extend(unsigned(UINT32, *number)),
        Value::Map(pairs) => {
            out.extend(control(MAP, pairs.len()));
            for (key, value) in pairs {
                out.extend(text(key));
                encode(value, out);
            }
        }
    }
}

fn control(kind: u8, size: usize) -> Vec<u8> {
    let short = size.min(LONG) as u8;
    let mut bytes = if kind < EXTENDED { vec![kind << 5 | short] } else { vec![short, kind - EXTENDED_BASE] };
    if size >= LONG {
        bytes.push((size - LONG) as u8);
    }
    bytes
}

/// Up to the longest that the module's bounds allow.
fn text(text: &str) -> Vec<u8> {
    let mut end = text.len().min(LONG + usize::from(u8::MAX));
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    [control(TEXT, end), text.as_bytes()[..end].to_vec()].concat()
}

/// Without leading zero bytes.
fn unsigned(kind: u8, value: u32) -> Vec<u8> {
    let digits: Vec<u8> = value.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
    [control(kind, digits.len()), digits].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_finds_the_networks_and_nothing_else() {
        let known = |name: &str, number| {
            let long = "x".repeat(280);
            Value::Map(vec![
                ("autonomous_system_number", Value::Number(number)),
                ("autonomous_system_organization", Value::Text(name.to_owned())),
                ("traits", Value::Map(vec![("long", Value::Text(long))])),
            ])
        };
        let networks = [
            ((Ipv4Addr::new(192, 0, 2, 10), 32), known("One", 64_496)),
            ((Ipv4Addr::new(198, 51, 100, 0), 24), known("Two", 65_536)),
            ((Ipv4Addr::new(160, 0, 0, 0), 3), known("Three", 0)),
        ];
        let reader = maxminddb::Reader::from_source(database("GeoLite2-ASN", 1, &networks)).expect("a database");
        assert_eq!(reader.metadata().database_type, "GeoLite2-ASN");
        let found = |address: &str| -> Option<(u32, String)> {
            let row = reader.lookup(address.parse().unwrap()).unwrap().decode::<serde_json::Value>().unwrap()?;
            assert_eq!(row["traits"]["long"].as_str().map(str::len), Some(280));
            let number = row["autonomous_system_number"].as_u64()? as u32;
            Some((number, row["autonomous_system_organization"].as_str()?.to_owned()))
        };
        for (address, expected) in [
            ("192.0.2.10", Some((64_496, "One"))),
            ("192.0.2.11", None),
            ("198.51.100.0", Some((65_536, "Two"))),
            ("198.51.100.255", Some((65_536, "Two"))),
            ("198.51.101.0", None),
            ("191.255.255.255", Some((0, "Three"))),
            ("159.255.255.255", None),
            ("2001:db8::1", None),
        ] {
            assert_eq!(found(address), expected.map(|(number, name)| (number, name.to_owned())), "{address}");
        }
    }
}
