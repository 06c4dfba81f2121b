//! IP addresses as text, and what AWS writes in their place.
//!
//! In: `203.0.113.66`, `2001:db8::1`, `::ffff:203.0.113.66`. Out: the address. Exactly what `core::net` reads, which the tests
//! hold it to; its parser is five times as large. Not here: networks ([`crate::rule::network`]).

use core::net::IpAddr;

/// An address, and how many bytes of it count: 4 or 16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address {
    bytes: [u8; 16],
    len: usize,
}

impl Address {
    /// Reads an address; `None` if the text is none, or has more in it.
    pub(crate) fn parse(text: &str) -> Option<Address> {
        let text = text.as_bytes();
        let mut bytes = [0; 16];
        let len = if text.contains(&b':') { read_ipv6(text, &mut bytes)? } else { read_ipv4(text, &mut bytes)? };
        Some(Address { bytes, len })
    }

    /// Whether databases of AS organisations may have it: it is not private (RFC 1918, `fc00::/7`, or shared by a carrier), nor
    /// of the machine, the link, a group or no host at all. Addresses that are kept for documentation count as public, so that
    /// samples and tests behave as real traffic does.
    pub(crate) fn is_public(&self) -> bool {
        match self.bytes {
            bytes if self.len == 4 => is_public_ipv4(&bytes),
            // IPv4 in IPv6's notation.
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ref ipv4 @ ..] => is_public_ipv4(ipv4),
            // All of what is assigned begins with these three bits.
            [first, ..] => first >> 5 == 0b001,
        }
    }

    /// How many bits it has: 32 or 128.
    pub(crate) fn bits(&self) -> usize {
        self.len * 8
    }

    /// The address with every bit behind the first `prefix` cleared.
    pub(crate) fn cut(mut self, prefix: usize) -> Address {
        for (at, byte) in self.bytes.iter_mut().enumerate() {
            let kept = prefix.saturating_sub(at * 8).min(8);
            *byte &= !(0xff_u16 >> kept) as u8;
        }
        self
    }
}

/// Whether the text is what AWS writes in the place of an address when one of its services calls on somebody's behalf: the service's
/// host name, or `AWS Internal`.
pub(crate) fn is_aws_service(text: &str) -> bool {
    let is_in = |domain: &str| {
        let name = text.len().checked_sub(domain.len()).and_then(|at| text.split_at_checked(at));
        name.is_some_and(|(name, behind)| !name.is_empty() && behind.eq_ignore_ascii_case(domain))
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    text.eq_ignore_ascii_case("AWS Internal")
        || (text.len() <= MAX_NAME && text.bytes().all(is_name) && AWS_DOMAINS.iter().any(|domain| is_in(domain)))
}

/// The domains of services, partition by partition.
const AWS_DOMAINS: [&str; 3] = [".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu"];

/// The longest name that DNS has, in bytes.
const MAX_NAME: usize = 253;

fn is_public_ipv4(address: &[u8]) -> bool {
    !matches!(
        *address,
        [0 | 10 | 127 | 224.., ..]
            | [100, 64..=127, ..]
            | [169, 254, ..]
            | [172, 16..=31, ..]
            | [192, 168, ..]
            | [192, 0, 0, ..]
            | [198, 18 | 19, ..]
    )
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> IpAddr {
        match address {
            Address { bytes: [a, b, c, d, ..], len: 4 } => IpAddr::from([a, b, c, d]),
            Address { bytes, .. } => IpAddr::from(bytes),
        }
    }
}

/// Four numbers up to 255 with points between, none with a zero before it. Writes 4 bytes, and returns how many that are.
fn read_ipv4(text: &[u8], out: &mut [u8]) -> Option<usize> {
    let mut len = 0;
    for part in text.split(|byte| *byte == b'.') {
        if len == 4 || part.len() > 3 || (part.len() > 1 && part.starts_with(b"0")) {
            return None;
        }
        *out.get_mut(len)? = number(part, 10)?.try_into().ok()?;
        len += 1;
    }
    (len == 4).then_some(len)
}

/// Eight groups, of which one `::` may stand for one or more that are zero.
fn read_ipv6(text: &[u8], out: &mut [u8; 16]) -> Option<usize> {
    let Some(gap) = text.windows(2).position(|pair| pair == b"::") else {
        return (read_groups(text, out)? == 16).then_some(16);
    };
    let (head, tail) = (&text[..gap], &text[gap + 2..]);
    let mut behind = [0; 16];
    let tail_len = read_groups(tail, &mut behind)?;
    let head_len = read_groups(head, out)?;
    // An IPv4 address ends the whole, if it stands anywhere.
    if head_len + tail_len > 14 || head.contains(&b'.') {
        return None;
    }
    out[16 - tail_len..].copy_from_slice(&behind[..tail_len]);
    Some(16)
}

/// Groups of 16 bits with colons between, the last two of which may stand as an IPv4 address. Returns how many bytes they are.
fn read_groups(text: &[u8], out: &mut [u8; 16]) -> Option<usize> {
    let mut len = 0;
    if text.is_empty() {
        return Some(len);
    }
    let mut parts = text.split(|byte| *byte == b':').peekable();
    while let Some(part) = parts.next() {
        let out = out.get_mut(len..)?;
        if parts.peek().is_none() && part.contains(&b'.') {
            return Some(len + read_ipv4(part, out)?);
        }
        if part.len() > 4 {
            return None;
        }
        out.get_mut(..2)?.copy_from_slice(&number(part, 16)?.to_be_bytes());
        len += 2;
    }
    Some(len)
}

/// The number that at most four digits spell.
fn number(digits: &[u8], radix: u32) -> Option<u16> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0, |number, digit| Some(number * radix as u16 + char::from(*digit).to_digit(radix)? as u16))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::{String, ToString};
    use core::net::{Ipv4Addr, Ipv6Addr};
    use proptest::prelude::*;

    fn assert_as_core(text: &str) {
        assert_eq!(Address::parse(text).map(IpAddr::from), text.parse().ok(), "{text}");
    }

    #[test]
    fn reads_what_core_reads() {
        for text in [
            "0.0.0.0",
            "255.255.255.255",
            "256.0.0.0",
            "01.2.3.4",
            "0001.2.3.4",
            "1.2.3",
            "1.2.3.4.5",
            "1.2.3.4.",
            "1..3.4",
            "+1.2.3.4",
            "",
            ".",
            ":",
            "::",
            ":::",
            "::1",
            "1::",
            "::1::",
            "1:2:3:4:5:6:7:8",
            "1:2:3:4:5:6:7:8:9",
            "1:2:3:4:5:6:7::",
            "::2:3:4:5:6:7:8",
            "1:2:3:4::5:6:7:8",
            "1:2:3::5:6:7:8",
            "12345::",
            "00001::",
            "fFfF::A",
            "g::",
            "::1.2.3.4",
            "1.2.3.4::",
            "1.2.3.4::1",
            "::1.2.3.4:5",
            "1:2:3:4:5:6:1.2.3.4",
            "1:2:3:4:5:6:7:1.2.3.4",
            "1:2:3:4:5::1.2.3.4",
            "1:2:3:4:5:6::1.2.3.4",
            "1:2:3:4:5:6:7:8::",
            "::ffff:1.2.3.4 ",
            "fe80::1%eth0",
            "10.0.0.0/8",
            "sts.amazonaws.com",
        ] {
            assert_as_core(text);
        }
    }

    #[test]
    fn cutting_clears_the_bits_behind_the_prefix() {
        let cut = |text: &str, prefix| IpAddr::from(Address::parse(text).unwrap().cut(prefix)).to_string();
        assert_eq!(cut("255.255.255.255", 0), "0.0.0.0");
        assert_eq!(cut("255.255.255.255", 9), "255.128.0.0");
        assert_eq!(cut("255.255.255.255", 32), "255.255.255.255");
        assert_eq!(cut("ffff:ffff::1", 17), "ffff:8000::");
        assert_eq!(cut("::1", 128), "::1");
    }

    #[test]
    fn what_no_database_has_is_not_public() {
        let is_public = |text: &str| Address::parse(text).unwrap().is_public();
        for text in [
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.0",
            "169.253.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.167.0.1",
            "192.0.2.1",
            "198.51.100.7",
            "203.0.113.7",
            "223.255.255.255",
            "2001:db8::1",
            "2a00:1450::1",
            "::ffff:203.0.113.7",
        ] {
            assert!(is_public(text), "{text}");
        }
        for text in [
            "0.0.0.0",
            "10.0.3.7",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "192.0.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "ff02::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(!is_public(text), "{text}");
        }
    }

    #[test]
    fn services_are_known_by_their_domain() {
        for text in ["AWS Internal", "ec2.amazonaws.com", "cloudformation.AMAZONAWS.com", "ssm.amazonaws.com.cn"] {
            assert!(is_aws_service(text), "{text}");
        }
        let long = ["a".repeat(240), ".amazonaws.com".to_string()].concat();
        for text in [
            "",
            "198.51.100.7",
            ".amazonaws.com",
            "amazonaws.com",
            "ec2.amazonaws.com.example.com",
            "ec2.example.com",
            "<b>.amazonaws.com",
            "a b.amazonaws.com",
            "é.amazonaws.com",
            "AWS Internal, 198.51.100.7",
            &long,
        ] {
            assert!(!is_aws_service(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_as_core_reads_it(text in "[0-9a-fF:.]{0,24}") {
            assert_as_core(&text);
        }

        #[test]
        fn nearly_addresses_are_read_as_core_reads_them(
            bits: u128,
            zeros in 0..8u32,
            is_ipv4: bool,
            at in 0..40usize,
            with in "[0-9a-f:.]{0,2}",
        ) {
            let groups = bits & (u128::MAX.checked_shl(16 * zeros).unwrap_or(0));
            let text = if is_ipv4 { Ipv4Addr::from(bits as u32).to_string() } else { Ipv6Addr::from(groups).to_string() };
            assert_as_core(&text);
            let mut changed = String::from(&text[..at.min(text.len())]);
            changed.push_str(&with);
            changed.push_str(text.get(at + 1..).unwrap_or_default());
            assert_as_core(&changed);
        }
    }
}
