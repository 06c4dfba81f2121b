//! Whether upstream enrichment brings the AS organisation. Where it does not, the rules that ask for one are silent, and
//! nothing else shows that.
//!
//! In: each event that a rule would match if its AS organisation were the right one, and that comes from a public address or has an
//! organisation: databases have no other addresses. Out: once
//! an hour a [sentence](Enrichment::take_notice), and the [`Hour`] behind it, which the state file keeps for people to look at.
//! The same where many known addresses get another organisation's name at once, as by a new GeoIP database. Bounds:
//! [`PLACES`] addresses, 9 bytes each, made when the first is needed; a later address takes the place of an earlier one. An hour
//! ends with the first record after it. Not here: what is alerted on.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::decimal::decimal;
use crate::event::fields::{AS_NUMBER, AS_ORGANIZATION};
use crate::new_terms::fingerprint::Fingerprint;
use crate::new_terms::history::entry::Seconds;
use crate::predicate;
use crate::rule::{FieldRef, Rule};

/// How many addresses are remembered at most.
pub const PLACES: usize = 1 << 10;

/// How long it takes until something is said again, in seconds of arrival time.
const HOUR: Seconds = 60 * 60;

/// If so many events in a row lack the organisation, that is said before the hour is over.
const LACKING_AT_ONCE: u32 = 10;

/// Fewer addresses than this with another organisation are taken for moved ones.
const RELABELLED_AT_ONCE: u32 = 5;

/// The fields of the AS that rules ask for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AsFields {
    organization: Option<FieldRef>,
    number: Option<FieldRef>,
}

impl AsFields {
    pub(crate) fn of(names: &[String]) -> AsFields {
        let of = |name| {
            let at = names.iter().position(|known| known == name)?;
            u16::try_from(at).ok().map(FieldRef)
        };
        AsFields { organization: of(AS_ORGANIZATION), number: of(AS_NUMBER) }
    }

    /// Whether the field is one of them.
    #[inline]
    pub(crate) fn has(&self, field: FieldRef) -> bool {
        self.organization == Some(field) || self.number == Some(field)
    }

    /// Whether a rule's query or new terms name one of them.
    pub(crate) fn are_asked_for(&self, rule: &Rule) -> bool {
        let is_asked_for = |field| {
            predicate::names(&rule.query, field)
                || rule.new_terms.as_ref().is_some_and(|terms| terms.fields.contains(&field))
        };
        [self.organization, self.number].into_iter().flatten().any(is_asked_for)
    }
}

/// What an hour has shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hour {
    /// When it ended, by the arrival of records; 0 if none has.
    pub until: Seconds,
    /// Events that a rule would match with the right organisation.
    pub asked: u32,
    /// Those of them that had none.
    pub lacking: u32,
    /// Addresses of such events that were known from before.
    pub known_addresses: u32,
    /// Those of them whose organisation had another name than before.
    pub relabelled: u32,
}

/// The organisation that an address had last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Label {
    /// Which address it is: bits of its fingerprint.
    pub address: u32,
    /// Bits of the organisation's fingerprint; 0 in an empty place.
    pub organization: u32,
}

/// The labels, by the first bits of their addresses' fingerprints.
#[derive(Debug, Default)]
pub(crate) struct Labels {
    /// All of them, or none yet.
    places: Vec<Label>,
}

/// How an address is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LabelSighting {
    New,
    Same,
    Other,
}

impl Labels {
    /// Takes note of an address's organisation; where that is, and what was there.
    pub(crate) fn observe(&mut self, address: Fingerprint, organization: Fingerprint) -> (usize, LabelSighting) {
        let [a, b, c, d, e, f, g, h, ..] = address.0;
        let place = u32::from_le_bytes([a, b, c, d]) as usize % PLACES;
        let [i, j, k, l, ..] = organization.0;
        let label =
            Label { address: u32::from_le_bytes([e, f, g, h]), organization: u32::from_le_bytes([i, j, k, l]).max(1) };
        let known = self.places.get(place).copied().unwrap_or_default();
        let sighting = match known {
            Label { organization: 0, .. } => LabelSighting::New,
            known if known.address != label.address => LabelSighting::New,
            known if known == label => LabelSighting::Same,
            _ => LabelSighting::Other,
        };
        if sighting != LabelSighting::Same {
            self.put(place, label);
        }
        (place, sighting)
    }

    /// Puts a label where it was; a place that is none is ignored.
    pub(crate) fn put(&mut self, place: usize, label: Label) {
        if self.places.is_empty() {
            self.places = vec![Label::default(); PLACES];
        }
        if let Some(taken) = self.places.get_mut(place) {
            *taken = label;
        }
    }

    /// Each with its place.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, Label)> {
        self.places.iter().copied().enumerate().filter(|(_, label)| label.organization != 0)
    }

    /// What is at a place.
    pub(crate) fn get(&self, place: usize) -> Option<Label> {
        self.places.get(place).copied()
    }
}

/// The hour that is going on.
#[derive(Debug, Default)]
pub(crate) struct Enrichment {
    /// When it began: with its first event; 0 before that.
    begun: Seconds,
    current: Hour,
    /// The places of the addresses that it has had.
    had: Vec<bool>,
    /// Before this, no outage and no renaming is said at once.
    outage_quiet_until: Seconds,
    renaming_quiet_until: Seconds,
    /// All events since the start, and those that lacked it.
    pub(crate) asked: u64,
    pub(crate) lacking: u64,
    notices: Vec<String>,
}

impl Enrichment {
    /// Goes on behind the hour that was kept last.
    pub(crate) fn after(last: Hour) -> Enrichment {
        let quiet_until = |was_said: bool| if was_said { last.until.saturating_add(HOUR) } else { 0 };
        Enrichment {
            outage_quiet_until: quiet_until(last.lacking > 0),
            renaming_quiet_until: quiet_until(last.relabelled > 0),
            ..Enrichment::default()
        }
    }

    /// When the hour is over, if one has begun.
    pub(crate) fn ends_at(&self) -> Option<Seconds> {
        (self.begun != 0).then(|| self.begun.saturating_add(HOUR))
    }

    /// Ends the hour if it is over; what it has shown.
    pub(crate) fn end(&mut self, now: Seconds) -> Option<Hour> {
        if self.ends_at().is_none_or(|end| now < end) {
            return None;
        }
        let hour = Hour { until: now, ..self.current };
        if hour.lacking > 0 {
            self.say_lacking(hour);
        }
        (self.begun, self.current, self.had) = (0, Hour::default(), Vec::new());
        Some(hour)
    }

    /// Takes note of an event that a rule would match with the right organisation; what the hour has shown so far, if that
    /// is to be known at once.
    pub(crate) fn note(&mut self, now: Seconds, label: Option<(usize, LabelSighting)>) -> Option<Hour> {
        if self.begun == 0 {
            self.begun = now;
        }
        self.asked += 1;
        self.lacking += u64::from(label.is_none());
        let current = &mut self.current;
        current.asked = current.asked.saturating_add(1);
        match label {
            None => current.lacking = current.lacking.saturating_add(1),
            Some((place, sighting)) => {
                if self.had.is_empty() {
                    self.had = vec![false; PLACES];
                }
                let had = self.had.get_mut(place).is_some_and(|had| core::mem::replace(had, true));
                let is_known = sighting != LabelSighting::New;
                current.known_addresses += u32::from(!had && is_known);
                current.relabelled += u32::from(!had && sighting == LabelSighting::Other);
            }
        }
        let hour = Hour { until: now, ..*current };
        let is_renaming = hour.relabelled >= RELABELLED_AT_ONCE && hour.relabelled >= hour.known_addresses / 2;
        if is_renaming && now >= self.renaming_quiet_until {
            self.renaming_quiet_until = now.saturating_add(HOUR);
            self.say_relabelled(hour);
            return Some(hour);
        }
        let is_outage = hour.lacking >= LACKING_AT_ONCE && hour.lacking == hour.asked;
        if is_outage && now >= self.outage_quiet_until {
            self.say_lacking(hour);
            return Some(hour);
        }
        None
    }

    /// What people are to be told, once.
    pub(crate) fn take_notice(&mut self) -> Option<String> {
        if self.notices.is_empty() { None } else { Some(self.notices.remove(0)) }
    }

    /// Whether there is one.
    #[inline]
    pub(crate) fn has_notice(&self) -> bool {
        !self.notices.is_empty()
    }

    /// Passes on what else people are to be told: one list is cheaper to look at for each record than two.
    pub(crate) fn say(&mut self, notice: String) {
        self.notices.push(notice);
    }

    fn say_lacking(&mut self, hour: Hour) {
        self.outage_quiet_until = hour.until.saturating_add(HOUR);
        let [lacking, asked] = [hour.lacking, hour.asked].map(|number| decimal(u64::from(number)));
        let share = decimal(u64::from(hour.lacking) * 100 / u64::from(hour.asked.max(1)));
        self.notices.push(
            [
                &*lacking,
                " of the last ",
                &asked,
                " events that rules ask for their AS organisation had none (",
                &share,
                "%), and raise no alert for that: check the GeoIP step before this filter, and its database",
            ]
            .concat(),
        );
    }

    fn say_relabelled(&mut self, hour: Hour) {
        let [relabelled, known] = [hour.relabelled, hour.known_addresses].map(|number| decimal(u64::from(number)));
        self.notices.push(
            [
                &*relabelled,
                " of ",
                &known,
                " known addresses have an AS organisation of another name than before: a GeoIP database that renames \
                 organisations makes what is known by their names new once",
            ]
            .concat(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(number: u64) -> Fingerprint {
        let mut bytes = [0; 16];
        // Places and marks differ.
        bytes[..4].copy_from_slice(&(number as u32).to_le_bytes());
        bytes[4..8].copy_from_slice(&(number as u32 + 1).to_le_bytes());
        Fingerprint(bytes)
    }

    fn notices(enrichment: &mut Enrichment) -> Vec<String> {
        core::iter::from_fn(|| enrichment.take_notice()).collect()
    }

    const BEGIN: Seconds = 1_800_000_000;

    #[test]
    fn a_share_is_said_once_an_hour() {
        let mut enrichment = Enrichment::default();
        for number in 0..50 {
            let label = (number % 5 == 0).then_some((number, LabelSighting::New));
            assert_eq!(enrichment.note(BEGIN + number as u32, label), None);
            assert_eq!(enrichment.end(BEGIN + number as u32), None);
        }
        assert_eq!(notices(&mut enrichment), [""; 0]);
        let hour = enrichment.end(BEGIN + HOUR).expect("the hour is over");
        assert_eq!(hour, Hour { until: BEGIN + HOUR, asked: 50, lacking: 40, known_addresses: 0, relabelled: 0 });
        let said = notices(&mut enrichment);
        assert!(
            said.len() == 1 && said[0].starts_with("40 of the last 50 events") && said[0].contains("(80%)"),
            "{said:?}"
        );
        // An hour without such events says nothing, and ends nothing.
        assert_eq!(enrichment.end(BEGIN + 2 * HOUR), None);
        assert_eq!(notices(&mut enrichment), [""; 0]);
    }

    #[test]
    fn an_outage_from_the_first_event_on_is_said_at_once_and_then_hourly() {
        let mut enrichment = Enrichment::default();
        let said: Vec<bool> = (0..100).map(|number| enrichment.note(BEGIN + number, None).is_some()).collect();
        assert_eq!(said.iter().filter(|said| **said).count(), 1);
        assert!(said[9]);
        assert_eq!(notices(&mut enrichment).len(), 1);
        assert_eq!(enrichment.end(BEGIN + HOUR).map(|hour| hour.lacking), Some(100));
        assert_eq!(notices(&mut enrichment).len(), 1);
    }

    #[test]
    fn a_new_instance_does_not_say_what_the_last_one_has_said_within_the_hour() {
        let mut enrichment = Enrichment::default();
        let said = (0..10).find_map(|number| enrichment.note(BEGIN + number, None)).expect("it is said");
        for chunk in 1..50 {
            let mut enrichment = Enrichment::after(said);
            let now = said.until + chunk * 60;
            let ended = enrichment.end(now);
            let noted = (0..30).filter_map(|_| enrichment.note(now, None)).count();
            assert!(ended.is_none() && (noted > 0) == (now >= said.until + HOUR), "{chunk}");
        }
    }

    #[test]
    fn many_addresses_with_other_names_at_once_are_said() {
        let mut labels = Labels::default();
        let mut enrichment = Enrichment::default();
        let mut pass = |at: Seconds, addresses: core::ops::Range<u64>, organization: u64| {
            let mut said = 0;
            for address in addresses {
                let label = labels.observe(print(address), print(organization));
                said += usize::from(enrichment.note(at, Some(label)).is_some());
            }
            let ended = enrichment.end(at + HOUR);
            (said, notices(&mut enrichment), ended)
        };
        assert_eq!(pass(BEGIN, 0..100, 1).0, 0, "new addresses");
        assert_eq!(pass(BEGIN + 2 * HOUR, 0..100, 1).2.map(|hour| hour.known_addresses), Some(100));
        let (said, notices, ended) = pass(BEGIN + 4 * HOUR, 0..100, 2);
        assert_eq!((said, notices.len()), (1, 1));
        assert!(notices[0].starts_with("5 of 5 known addresses"), "{notices:?}");
        assert_eq!(ended.map(|hour| hour.relabelled), Some(100));
        // Four that moved are no renaming.
        let (said, notices, _) = pass(BEGIN + 6 * HOUR, 0..4, 3);
        assert_eq!((said, notices.len()), (0, 0));
    }
}
