//! GeoIP databases with one IPv4 network in them, in MaxMind's format.
//!
//! In: a network and its AS organisation, or a city. Out: the bytes of an `.mmdb` file whose other addresses are not found. Not
//! here: how the format is written.

use std::net::Ipv4Addr;

use firstseen::mmdb::{Value, database};

/// The database of the addresses that share their first `prefix_length` bits, 1 to 32, with `network`.
pub(crate) fn of_network(network: Ipv4Addr, prefix_length: u32, organization: &str) -> Vec<u8> {
    let data = Value::Map(vec![
        ("autonomous_system_number", Value::Number(64_496)),
        ("autonomous_system_organization", text(organization)),
    ]);
    database("GeoLite2-ASN", 1, &[((network, prefix_length), data)])
}

/// A database of cities, which has no AS organisation.
pub(crate) fn of_city(network: Ipv4Addr, prefix_length: u32, city: &str) -> Vec<u8> {
    let names = Value::Map(vec![("names", Value::Map(vec![("en", text(city))]))]);
    database("GeoLite2-City", 1, &[((network, prefix_length), Value::Map(vec![("city", names)]))])
}

/// A database as IPinfo makes them.
pub(crate) fn of_ipinfo(network: Ipv4Addr, prefix_length: u32, organization: &str) -> Vec<u8> {
    let data =
        Value::Map(vec![("asn", text("AS64496")), ("as_name", text(organization)), ("as_domain", text("example.com"))]);
    database("ipinfo lite.mmdb", 1, &[((network, prefix_length), data)])
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}
