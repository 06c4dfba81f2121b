//! Whether what a rule groups by, or takes tuples of, comes back: the defence against a value that is new for each
//! request and that nobody knows of yet ([`crate::event`] leaves out those that are known).
//!
//! In: for each group or tuple that is new, who called, and a fingerprint of each field; and that one was used again. Out:
//! the fields that differ, when nearly all new ones were used once and the same caller brought new ones that differ from
//! its last one in these fields only, time and again. That is what a per-request value does, and what is naturally seen
//! once does not: a new instance, user or session is another caller. Bounds: [`CALLERS`] callers are watched at a time,
//! some 500 bytes in all; nothing is allocated before a rule's first new group or tuple. It is kept in memory, and forgotten
//! with the process. Not here: what is said, and when.

use super::super::fingerprint::Fingerprint;
use super::entry::Seconds;

/// How many callers are watched.
const CALLERS: usize = 8;

/// How many fields are told apart; later ones are not looked at.
const FIELDS: usize = 16;

/// After how many new ones of other callers a caller's place is given away.
const PATIENCE: u8 = 16;

/// How often a caller must have brought another value in the same fields. There are fewer Regions than this, so that a tool
/// which asks once in each is not taken for one.
const ENOUGH: u16 = 24;

/// How often it must be if two fields differ: tools that ask in each Region make other values in several fields.
const ENOUGH_OF_TWO: u16 = 48;

/// After how many comparisons all counts are halved.
const PERIOD: u16 = 256;

/// Bits that values are remembered in: after a period, a new value is taken for a known one with a chance of one in nine.
const VALUE_BITS: usize = 2048;

/// What was seen of how a rule's groups or tuples are used.
#[derive(Debug)]
pub(super) struct Usage {
    /// How many were new.
    opened: u16,
    /// How many of them, or of earlier ones, were used again.
    again: u16,
    callers: [Caller; CALLERS],
    /// The fields that are not compared, one bit each.
    ignored: u16,
    /// How often a new one was compared with the last one of its caller.
    compared: u16,
    /// The fields that differed, one bit each, by majority; and by how much that is one.
    fields: u16,
    votes: u16,
    /// Which values of the fields that differed were there before.
    values: [u32; VALUE_BITS / 32],
}

#[derive(Debug, Clone, Copy, Default)]
struct Caller {
    /// A hash of who it is; 0 if the place is free.
    hash: u32,
    /// How many new ones others have brought since.
    others: u8,
    /// Bits of the fingerprint of each field of the last new one.
    terms: [u16; FIELDS],
}

/// What is known of a rule's groups or tuples beside their entries, and said at most once a day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct UsedOnce {
    /// When it was said last that nearly all were used once; 0 if it never was.
    pub said_at: Seconds,
    /// Which fields' values differ each time, one bit for each of the first sixteen.
    pub fields: u16,
}

/// How long it takes until it is said again, and until it counts as over, in seconds of event time.
const DAY: Seconds = 24 * 60 * 60;

impl UsedOnce {
    /// Whether it was said within the last day or is to be said again.
    pub fn is_recent(&self, clock: Seconds) -> bool {
        self.said_at != 0 && clock < self.said_at.saturating_add(2 * DAY)
    }

    /// Whether it was said within the last day.
    pub(super) fn is_said(&self, clock: Seconds) -> bool {
        self.said_at != 0 && clock < self.said_at.saturating_add(DAY)
    }

    /// The names of the fields, of an owner's.
    pub fn names<'n>(&self, fields: &'n str) -> impl Iterator<Item = &'n str> {
        let bits = self.fields;
        fields.split(',').take(FIELDS).enumerate().filter(move |(at, _)| bits >> at & 1 == 1).map(|(_, name)| name)
    }
}

impl Usage {
    /// That of groups or tuples of these fields, with commas between their names, before any is new. Addresses and what
    /// they belong to are not compared: they change by nature, since a network has many ways out, and so has a thief.
    pub(super) fn of(fields: &str) -> Usage {
        let bits = fields.split(',').take(FIELDS).enumerate();
        let ignored = bits.fold(0, |bits, (at, name)| bits | u16::from(name.starts_with("source.")) << at);
        Usage {
            ignored,
            opened: 0,
            again: 0,
            callers: [Caller::default(); CALLERS],
            compared: 0,
            fields: 0,
            votes: 0,
            values: [0; VALUE_BITS / 32],
        }
    }

    /// One that was known was used again, or came back.
    pub(super) fn used_again(&mut self) {
        self.again = self.again.saturating_add(1);
    }

    /// One is new; the fields that differ, if that has become clear.
    pub(super) fn opened(&mut self, caller: u32, prints: &mut dyn Iterator<Item = Fingerprint>) -> Option<u16> {
        self.opened = self.opened.saturating_add(1);
        if self.opened == u16::MAX {
            (self.opened, self.again) = (self.opened / 2, self.again / 2);
        }
        let known = self.callers.get_mut(caller as usize % CALLERS)?;
        if known.hash != caller && known.hash != 0 && known.others < PATIENCE {
            known.others += 1;
            return None;
        }
        let (mut differing, mut value) = (0_u16, 0_u32);
        for ((at, term), Fingerprint([a, b, c, d, ..])) in known.terms.iter_mut().enumerate().zip(prints) {
            let bits = u16::from_le_bytes([a, b]);
            if core::mem::replace(term, bits) != bits && self.ignored >> at & 1 == 0 {
                differing |= 1 << at;
                value = value.rotate_left(5) ^ u32::from_le_bytes([a, b, c, d]);
            }
        }
        let is_compared = known.hash == caller && differing != 0;
        (known.hash, known.others) = (caller, 0);
        if !is_compared {
            return None;
        }
        self.compare(differing, value);
        let enough = if self.fields.count_ones() == 1 { ENOUGH } else { ENOUGH_OF_TWO };
        let is_so = self.votes >= enough && self.votes >= self.compared / 2 && self.again <= self.opened / 20;
        is_so.then_some(self.fields)
    }

    /// A caller's new one differs from its last one in these fields.
    fn compare(&mut self, differing: u16, value: u32) {
        if self.compared >= PERIOD {
            self.compared /= 2;
            self.votes /= 2;
            self.opened /= 2;
            self.again /= 2;
            self.values = [0; VALUE_BITS / 32];
        }
        self.compared += 1;
        let bit = value as usize % VALUE_BITS;
        let Some(word) = self.values.get_mut(bit / 32) else { return };
        let is_new = *word >> (bit % 32) & 1 == 0;
        *word |= 1 << (bit % 32);
        if !is_new || differing.count_ones() > 2 {
            self.votes = self.votes.saturating_sub(1);
        } else if differing == self.fields {
            self.votes += 1;
        } else if self.votes > 0 {
            self.votes -= 1;
        } else {
            (self.fields, self.votes) = (differing, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::new_terms::fingerprint::Key;
    use std::format;
    use std::string::String;

    /// Opens one with these terms; the names of the fields, if it is said.
    fn opened(usage: &mut Usage, caller: u32, terms: &[String]) -> Option<u16> {
        let key = Key([7; 16]);
        usage.opened(caller, &mut terms.iter().map(|term| key.print(core::slice::from_ref(term))))
    }

    fn terms(number: u32, differing: &[usize]) -> [String; 4] {
        core::array::from_fn(|at| if differing.contains(&at) { format!("{at}: {number}") } else { format!("{at}") })
    }

    #[test]
    fn one_value_that_is_new_for_each_request_is_found_among_several_callers() {
        for callers in [1, 2, 5, 40] {
            let mut usage = Usage::of("a,b,c,d");
            let said = (0..20_000).find_map(|number| {
                let caller = number * 7919 % callers + 1;
                let mut terms = terms(number, &[2]);
                terms[0] = format!("caller {caller}");
                Some((number, opened(&mut usage, caller, &terms)?))
            });
            let (number, fields) = said.expect("it is said");
            assert_eq!(fields, 1 << 2, "{callers} callers");
            assert!(number >= u32::from(ENOUGH) && number < 40 * callers.max(2), "{callers} callers: {number}");
        }
    }

    #[test]
    fn two_such_values_are_found_later_and_three_are_not() {
        let said = |differing: &[usize]| {
            let mut usage = Usage::of("a,b,c,d");
            (0..1000).find_map(|number| Some((number, opened(&mut usage, 1, &terms(number, differing))?)))
        };
        assert_eq!(said(&[1]), Some((u32::from(ENOUGH), 1 << 1)));
        let (number, fields) = said(&[1, 3]).expect("it is said");
        // Some values are taken for known ones.
        assert!((ENOUGH_OF_TWO..ENOUGH_OF_TWO + 10).contains(&(number as u16)), "{number}");
        assert_eq!(fields, 1 << 1 | 1 << 3);
        assert_eq!(said(&[0, 1, 3]), None);
    }

    #[test]
    fn what_is_naturally_seen_once_is_not_said() {
        // Every one is another caller's: new instances, new users.
        let mut usage = Usage::of("a,b,c,d");
        assert!((1..5000).all(|number| opened(&mut usage, number * 7919, &terms(number, &[0])).is_none()));
        // A caller that asks once a day in each Region, in one field or two.
        for differing in [&[1][..], &[1, 2]] {
            let mut usage = Usage::of("a,b,c,d");
            assert!((0..5000).all(|number| opened(&mut usage, 1, &terms(number % 22, differing)).is_none()));
        }
        // One caller whose address changes; beside another value, that does not hide it.
        let mut usage = Usage::of("a,source.address,c,d");
        assert!((0..5000).all(|number| opened(&mut usage, 1, &terms(number, &[1])).is_none()));
        let said = (0..100).find_map(|number| opened(&mut usage, 1, &terms(number, &[1, 2])));
        assert_eq!(said, Some(1 << 2));
        // One caller whose groups are used again, one in ten.
        let mut usage = Usage::of("a,b,c,d");
        for number in 0..5000 {
            assert_eq!(opened(&mut usage, 1, &terms(number, &[1])), None);
            if number % 10 == 0 {
                usage.used_again();
            }
        }
    }

    #[test]
    fn it_is_small() {
        assert!(size_of::<Usage>() <= 600, "{}", size_of::<Usage>());
    }
}
