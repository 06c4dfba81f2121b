//! AS organisations that the host program looked up, for events that nothing upstream looked up.
//!
//! Responsible for: the one key that says so, and which addresses are worth a look-up. In: a record. Out: the addresses of its events
//! that have no AS organisation; and the member that the host program puts before the record's last brace:
//!
//! ```json
//! "firstseen:as":{"203.0.113.5":{"organization":"Example Hosting","number":64500}}
//! ```
//!
//! An event that has no AS organisation of its own takes that of its source address from there. The host program takes the member
//! out of the answer again, so that the record stays as it came but for its alerts. Only the member at the record's root counts, and
//! a record that has the key already is given to the module as it is. Whoever can write that key can write
//! `source.as.organization.name` beside it, so the key gives nobody a new power. Bounds: a few addresses a record, each as long as an
//! address may be. Not here: databases, which are the host program's.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::{EventView, Events, Schema, Texts};
use crate::decimal::decimal;
use crate::rule::{Pack, Settings};

/// The key at the record's root.
pub const KEY: &str = "firstseen:as";

pub(crate) const ORGANIZATION: &str = "organization";
pub(crate) const NUMBER: &str = "number";

/// Whether a rule of the pack asks for what is looked up.
pub fn is_asked_for(pack: &Pack) -> bool {
    pack.fields.iter().any(|name| name == super::fields::AS_ORGANIZATION || name == super::fields::AS_NUMBER)
}

/// An AS number without the `AS` that some write before it.
pub(crate) fn without_prefix(text: &str) -> &str {
    match text.split_at_checked(2) {
        Some((prefix, digits))
            if prefix.eq_ignore_ascii_case("AS")
                && !digits.is_empty()
                && digits.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            digits
        }
        _ => text,
    }
}

/// What a database has for an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The organisation's name.
    pub organization: Option<String>,
    /// The number of the AS.
    pub number: Option<u32>,
}

/// The member for a record, with a comma before it; `found` has each address once.
pub fn member(found: &[(String, Found)]) -> String {
    let quoted = |text: &str| serde_json::to_string(text).unwrap_or_default();
    let mut member = [",", &quoted(KEY), ":{"].concat();
    for (at, (address, Found { organization, number })) in found.iter().enumerate() {
        member.push_str(if at == 0 { "" } else { "," });
        member.push_str(&quoted(address));
        member.push_str(":{");
        if let Some(organization) = organization {
            member.push_str(&[&quoted(ORGANIZATION), ":", &quoted(organization)].concat());
        }
        if let Some(number) = number {
            member.push_str(if organization.is_some() { "," } else { "" });
            member.push_str(&[&quoted(NUMBER), ":", &decimal(u64::from(*number))].concat());
        }
        member.push('}');
    }
    member.push('}');
    member
}

/// Reads the addresses that are to be looked up.
#[derive(Debug)]
pub struct AddressReader(Schema);

impl AddressReader {
    /// Reads events as the settings say where they stand.
    pub fn new(settings: &Settings) -> AddressReader {
        AddressReader(Schema::without_fields(settings))
    }

    /// The public addresses of the record's events that have no AS organisation, each once; none, if the record has the key already.
    pub fn read(&self, record: &[u8]) -> Vec<String> {
        let record = String::from_utf8_lossy(record);
        let texts = Texts::default();
        let Some(mut events) = Events::read(&self.0, &record, &texts) else { return Vec::new() };
        let mut addresses = Vec::with_capacity(events.len());
        for number in 0..events.len() {
            addresses.extend(events.view(number).and_then(|event| event.address_to_look_up()));
        }
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }
}

impl EventView<'_> {
    fn address_to_look_up(&self) -> Option<String> {
        let is_known = self.nearest(self.as_organization_slots()).is_some();
        let has_key = self.scopes.at(0, self.schema.as_lookup).next().is_some();
        if is_known || has_key || !self.has_public_address() {
            return None;
        }
        Some(self.source_address()?.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_without_an_organization_are_looked_up() {
        let reader =
            AddressReader::new(&Settings { as_organization_key: Some("as_org".into()), ..Settings::default() });
        let event = |members: &str| {
            let record = [r#"{"eventSource":"s","eventName":"n","sourceIPAddress":"#, members, "}"].concat();
            reader.read(record.as_bytes())
        };
        assert_eq!(event(r#""203.0.113.5""#), ["203.0.113.5"]);
        assert_eq!(event(r#""203.0.113.5","source.as.organization.name":"","as_org":null"#), ["203.0.113.5"]);
        for members in [
            r#""203.0.113.5","source.as.organization.name":"Example Hosting""#,
            r#""203.0.113.5","source":{"as":{"organization":{"name":["Example Hosting"]}}}"#,
            r#""203.0.113.5","as_org":"Example Hosting""#,
            r#""203.0.113.5","firstseen:as":{}"#,
            r#""10.0.3.7""#,
            r#""AWS Internal""#,
            r#""sts.amazonaws.com""#,
            r#""203.0.113.5, 203.0.113.6""#,
            "null",
        ] {
            assert_eq!(event(members), [""; 0], "{members}");
        }
        assert_eq!(reader.read(br#"{"sourceIPAddress":"203.0.113.5"}"#), [""; 0]);
        assert_eq!(reader.read(b"{"), [""; 0]);
    }

    #[test]
    fn the_member_is_json_whatever_an_organization_is_called() {
        let found = [
            (
                "203.0.113.5".to_string(),
                Found { organization: Some("A \"quoted\" \n name".into()), number: Some(64_500) },
            ),
            ("2001:db8::1".to_string(), Found { organization: None, number: Some(u32::MAX) }),
        ];
        assert_eq!(
            member(&found),
            r#","firstseen:as":{"203.0.113.5":{"organization":"A \"quoted\" \n name","number":64500},"2001:db8::1":{"number":4294967295}}"#
        );
    }

    #[test]
    fn an_as_number_is_its_digits() {
        for (text, digits) in [
            ("AS64500", "64500"),
            ("as64500", "64500"),
            ("64500", "64500"),
            ("AS", "AS"),
            ("AS 1", "AS 1"),
            ("é1", "é1"),
        ] {
            assert_eq!(without_prefix(text), digits);
        }
    }
}
