//! Term tuples: what a new-terms rule asks 'is this the first time?' about.
//!
//! In: an event and the fields of a rule. Out: its tuples, each with a fingerprint, and after the history has looked,
//! a [`Sighting`]. Bounds: at most [`MAX_TUPLES`] tuples an event and rule; each value is hashed once, however many
//! tuples it is in. Not here: the history itself ([`history`]).

use alloc::string::String;
use alloc::vec::Vec;

use crate::event::timestamp::Millis;
use crate::event::{EventView, MAX_VALUES};
use crate::rule::FieldRef;

pub mod fingerprint;
pub mod history;

use fingerprint::{Fingerprint, Key};

/// How many tuples one event may make for one rule. CloudTrail's longest arrays hold some hundred resources. An event with
/// more alerts for that alone, since what is not looked at may be new.
pub const MAX_TUPLES: usize = MAX_VALUES - 1;

/// A rule's term tuples in one event: the cartesian product of its fields' values.
#[derive(Debug)]
pub struct TermTuples {
    /// The values of each field, in the rule's order.
    fields: Vec<Vec<Term>>,
}

/// One value of a field.
#[derive(Debug)]
pub struct Term {
    /// The value.
    pub text: String,
    /// Its own fingerprint.
    pub print: Fingerprint,
}

impl TermTuples {
    /// The event's tuples; none if a field has no value.
    pub fn of(fields: &[FieldRef], event: &EventView<'_>, key: Key) -> TermTuples {
        let term = |text: String| Term { print: key.print(core::slice::from_ref(&text)), text };
        let terms = |field: &FieldRef| match event.only_text(*field) {
            Some(text) => Vec::from([term(String::from(text))]),
            None => event.terms(*field).into_iter().map(term).collect(),
        };
        TermTuples { fields: fields.iter().map(terms).collect() }
    }

    /// How many tuples there are.
    fn count(&self) -> usize {
        self.fields.iter().fold(1, |count: usize, terms| count.saturating_mul(terms.len()))
    }

    /// Whether there are more than [`MAX_TUPLES`].
    pub fn are_too_many(&self) -> bool {
        self.count() > MAX_TUPLES
    }

    /// The tuples, at most [`MAX_TUPLES`]; the last field's value changes first.
    pub fn each(&self) -> impl Iterator<Item = Vec<&Term>> {
        (0..self.count().min(MAX_TUPLES)).map(|mut at| {
            let mut tuple = Vec::with_capacity(self.fields.len());
            for terms in self.fields.iter().rev() {
                tuple.extend(terms.get(at % terms.len()));
                at /= terms.len();
            }
            tuple.reverse();
            tuple
        })
    }
}

/// The outcome of observing a tuple.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sighting {
    /// It was seen inside the window.
    Known,
    /// It was not, or nobody can tell.
    New(Reason),
    /// It was new to this event when that was delivered before.
    Again(Reason),
}

/// Why a tuple is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The history has never had it.
    NeverSeen,
    /// It was last seen longer ago than the window is.
    Expired {
        /// When that was.
        last_seen: Millis,
    },
    /// It was seen inside the window, but had to be forgotten for lack of space.
    Evicted,
    /// The event has more tuples than are looked at: there is no telling.
    TooMany,
}
