//! The AS organisations of addresses, out of a MaxMind DB file, for events that nothing upstream looked up.
//!
//! In: the file of `--asn`, and records. Out: for a record with events that have a public source address and no AS organisation, the
//! record with what the database has for those addresses, under a key that the engine reads ([`as_lookup`]); and what the module made
//! of that, without the key again. A record that upstream enriched stays as it is: the database never overrides upstream. Bounds:
//! the file is held in memory. Layouts: GeoLite2-ASN and GeoIP2-ISP (`autonomous_system_organization`), the same inside `traits`
//! (GeoIP2-Enterprise, DB-IP), and IPinfo (`as_name` and `asn`, or `name` and `asn`). Not here: which events are looked up, which
//! is the engine's.

use std::fs;
use std::net::IpAddr;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, bail};
use firstseen_engine::event::as_lookup::{self, AddressReader, Found};
use firstseen_engine::prefilter::Prefilter;
use firstseen_engine::rule::{Pack, Settings};
use maxminddb::Reader;
use serde::Deserialize;

use crate::guest::{Answer, Entry, Error, Instance};
use crate::native_search::NativeSearch;

/// How many networks of a database are looked at to tell whether it has AS organisations at all.
const LOOKED_AT: usize = 1000;

/// A database of AS organisations.
#[derive(Debug)]
pub struct Database(Reader<Vec<u8>>);

/// What databases have of a network, in their several layouts.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Row {
    autonomous_system_number: Option<u32>,
    autonomous_system_organization: Option<String>,
    traits: Option<Traits>,
    asn: Option<Asn>,
    as_name: Option<String>,
    name: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Traits {
    autonomous_system_number: Option<u32>,
    autonomous_system_organization: Option<String>,
}

/// `64500`, or `AS64500`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Asn {
    Number(u32),
    Text(String),
    Other(serde::de::IgnoredAny),
}

impl Row {
    fn found(self) -> Option<Found> {
        let traits = self.traits.unwrap_or_default();
        let asn = self.asn.and_then(|asn| match asn {
            Asn::Number(number) => Some(number),
            Asn::Text(text) => text.trim_start_matches(['A', 'S', 'a', 's']).parse().ok(),
            Asn::Other(_) => None,
        });
        // Other databases than those of AS organisations have a `name` as well.
        let name = self.as_name.or(self.name.filter(|_| asn.is_some()));
        let organization = self.autonomous_system_organization.or(traits.autonomous_system_organization).or(name);
        let organization = organization.filter(|organization| !organization.is_empty());
        let number = self.autonomous_system_number.or(traits.autonomous_system_number).or(asn);
        (organization.is_some() || number.is_some()).then_some(Found { organization, number })
    }
}

impl Database {
    /// Opens a file.
    ///
    /// # Errors
    /// It cannot be read, is not a MaxMind DB, or has no AS organisations.
    pub fn open(file: &Path) -> anyhow::Result<Database> {
        let shown = file.display();
        let metadata = fs::metadata(file).with_context(|| format!("cannot read {shown}"))?;
        if !metadata.is_file() {
            bail!("cannot read {shown}: it is not a file");
        }
        let bytes = fs::read(file).with_context(|| format!("cannot read {shown}"))?;
        let reader = Reader::from_source(bytes)
            .with_context(|| format!("{shown} is not a MaxMind DB (.mmdb): download GeoLite2-ASN.mmdb, for example"))?;
        let mut networks = reader.networks(Default::default()).with_context(|| format!("{shown} is damaged"))?;
        let has_some = networks.by_ref().take(LOOKED_AT).any(|network| {
            network.is_ok_and(|network| network.decode::<Row>().is_ok_and(|row| row.and_then(Row::found).is_some()))
        });
        if !has_some {
            let kind = &reader.metadata().database_type;
            bail!("{shown} is of the type {kind:?} and has no AS organisations: use GeoLite2-ASN or GeoIP2-ISP");
        }
        Ok(Database(reader))
    }

    /// What it has for an address.
    pub fn look_up(&self, address: IpAddr) -> Option<Found> {
        self.0.lookup(address).ok()?.decode::<Row>().ok()??.found()
    }
}

/// Looks up the addresses of records.
#[derive(Debug)]
pub struct AsLookup {
    database: Database,
    addresses: AddressReader,
    /// Rejects records that no rule can match; nothing, if it is not known which rules run.
    prefilter: Option<Prefilter>,
    /// Whether a rule may ask for what is looked up.
    is_asked_for: bool,
}

/// A record with what was looked up for it.
#[derive(Debug)]
pub struct Enriched {
    text: Vec<u8>,
    /// Where that stands.
    member: Range<usize>,
}

impl AsLookup {
    /// Opens a database for records that are read by these settings; the pack is that of the rules that run, if it is known.
    ///
    /// # Errors
    /// Those of [`Database::open`].
    pub fn open(file: &Path, settings: &Settings, pack: Option<&Pack>) -> anyhow::Result<AsLookup> {
        let is_asked_for = pack.is_none_or(as_lookup::is_asked_for);
        if !is_asked_for {
            tracing::warn!("no rule asks for the AS organisation: {} is not used", file.display());
        }
        let (database, addresses) = (Database::open(file)?, AddressReader::new(settings));
        Ok(AsLookup { database, addresses, prefilter: pack.map(Prefilter::new), is_asked_for })
    }

    /// The record with what the database has for its addresses; nothing, if there is nothing to add.
    pub fn enrich(&self, record: &[u8]) -> Option<Enriched> {
        if !self.is_asked_for
            || self.prefilter.as_ref().is_some_and(|rules| !rules.is_candidate(&NativeSearch::new(record)))
        {
            return None;
        }
        let addresses = self.addresses.read(record).into_iter();
        let found = addresses.filter_map(|address| {
            let found = self.database.look_up(address.parse().ok()?)?;
            Some((address, found))
        });
        let found: Vec<(String, Found)> = found.collect();
        let end = record.iter().rposition(|byte| *byte == b'}').filter(|_| !found.is_empty())?;
        let member = as_lookup::member(&found);
        let text = [&record[..end], member.as_bytes(), &record[end..]].concat();
        Some(Enriched { text, member: end..end + member.len() })
    }
}

impl Enriched {
    /// The record to give to the module.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// What the module made of it, without what was looked up.
    pub fn restored(&self, mut changed: Vec<u8>) -> Vec<u8> {
        let before = &self.text[..self.member.end];
        if changed.starts_with(before) {
            changed.drain(self.member.clone());
        } else if let Some(at) = memchr::memmem::find(&changed, &self.text[self.member.clone()]) {
            changed.drain(at..at + self.member.len());
        }
        changed
    }
}

/// [`Instance::call`] with the record as it is looked up, if there is a database; the answer is that to the record as it came.
///
/// # Errors
/// Those of [`Instance::call`].
pub fn call(
    lookup: Option<&AsLookup>,
    instance: &mut Instance,
    entry: Entry,
    tag: &[u8],
    (sec, nsec): (u32, u32),
    record: &[u8],
) -> Result<Answer, Error> {
    let Some(enriched) = lookup.and_then(|lookup| lookup.enrich(record)) else {
        return instance.call(entry, tag, sec, nsec, record);
    };
    Ok(match instance.call(entry, tag, sec, nsec, enriched.text())? {
        Answer::Changed(changed) => Answer::Changed(enriched.restored(changed)),
        answer => answer,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(json: &str) -> Option<Found> {
        serde_json::from_str::<Row>(json).expect("a row").found()
    }

    #[test]
    fn layouts_of_several_makers_are_read() {
        let found = |organization: &str, number| {
            Some(Found { organization: Some(organization.to_owned()), number: Some(number) })
        };
        for json in [
            r#"{"autonomous_system_number":64500,"autonomous_system_organization":"Example"}"#,
            r#"{"autonomous_system_number":64500,"autonomous_system_organization":"Example","isp":"Other","organization":"Another"}"#,
            r#"{"traits":{"autonomous_system_number":64500,"autonomous_system_organization":"Example"},"city":{"names":{}}}"#,
            r#"{"asn":"AS64500","as_name":"Example","as_domain":"example.com"}"#,
            r#"{"asn":"AS64500","name":"Example","domain":"example.com"}"#,
            r#"{"asn":64500,"name":"Example"}"#,
        ] {
            assert_eq!(row(json), found("Example", 64500), "{json}");
        }
        assert_eq!(
            row(r#"{"autonomous_system_number":64500}"#),
            Some(Found { organization: None, number: Some(64500) })
        );
        for json in ["{}", r#"{"city":{"names":{"en":"Example"}}}"#, r#"{"name":"Example"}"#, r#"{"as_name":""}"#] {
            assert_eq!(row(json), None, "{json}");
        }
    }

    #[test]
    fn what_was_looked_up_is_taken_out_again() {
        let enriched = Enriched { text: br#"{"a":1,"firstseen:as":{}}"#.to_vec(), member: 6..24 };
        assert_eq!(enriched.restored(br#"{"a":1,"firstseen:as":{},"x":2}"#.to_vec()), br#"{"a":1,"x":2}"#);
        assert_eq!(enriched.restored(br#"{"x":2,"a":1,"firstseen:as":{}}"#.to_vec()), br#"{"x":2,"a":1}"#);
        assert_eq!(enriched.restored(br#"{"x":2}"#.to_vec()), br#"{"x":2}"#);
    }
}
