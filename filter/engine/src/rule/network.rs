//! An IP network in CIDR notation.
//!
//! In: the text of a [`crate::rule::Test::Cidr`]. Out: whether an address is inside. Not here: which fields hold
//! addresses.

use core::fmt;
use core::net::IpAddr;

use crate::event::address::Address;

/// All addresses that share their first `prefix` bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    first: Address,
    prefix: usize,
}

impl Network {
    /// Reads `10.0.0.0/8` or `2001:db8::/32`. Bits behind the prefix are cleared, so that `10.1.2.3/8` is the same
    /// network. `None` if it is not an address, a slash and 0 to 32 (IPv4) or 128 (IPv6).
    pub fn parse(text: &str) -> Option<Network> {
        let slash = text.bytes().position(|byte| byte == b'/')?;
        let address = Address::parse(text.get(..slash)?)?;
        let digits = text.as_bytes().get(slash + 1..)?;
        if digits.is_empty() || digits.len() > 3 || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let prefix = digits.iter().fold(0, |prefix, digit| prefix * 10 + usize::from(digit - b'0'));
        (prefix <= address.bits()).then(|| Network { first: address.cut(prefix), prefix })
    }

    /// Whether the text is an address in the network. An IPv4 address is in no IPv6 network.
    pub fn contains(&self, address: &str) -> bool {
        Address::parse(address).is_some_and(|address| address.cut(self.prefix) == self.first)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", IpAddr::from(self.first), self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn holds(network: &str, address: &str) -> bool {
        Network::parse(network).unwrap().contains(address)
    }

    #[test]
    fn contains_what_shares_the_prefix() {
        assert!(holds("10.0.0.0/8", "10.255.0.1"));
        assert!(!holds("10.0.0.0/8", "11.0.0.0"));
        assert!(holds("0.0.0.0/0", "203.0.113.9"));
        assert!(!holds("0.0.0.0/0", "::1"));
        assert!(holds("192.0.2.7/32", "192.0.2.7"));
        assert!(!holds("192.0.2.7/32", "192.0.2.6"));
        assert!(holds("2001:db8::/33", "2001:db8:7fff::1"));
        assert!(!holds("2001:db8::/33", "2001:db8:8000::1"));
        assert!(holds("::/0", "2001:db8::1"));
        assert!(!holds("2001:db8::/64", "10.0.0.1"));
    }

    #[test]
    fn clears_the_bits_behind_the_prefix() {
        let text = |network: &str| Network::parse(network).unwrap().to_string();
        assert_eq!(text("10.1.2.3/8"), "10.0.0.0/8");
        assert_eq!(text("2001:DB8:0::1/32"), "2001:db8::/32");
    }

    #[test]
    fn refuses_what_is_no_network() {
        for text in [
            "",
            "/",
            "10.0.0.0",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0/8",
            "10.0.0.0/+8",
            "10.0.0.0/8/8",
            "::/129",
            "::/0x1",
            "a/8",
        ] {
            assert_eq!(Network::parse(text), None, "{text}");
        }
    }
}
