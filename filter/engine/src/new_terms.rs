//! Term tuples: what a new-terms rule asks 'is this the first time?' about.
//!
//! In: an event and the fields of a rule. Out: its tuples, each with a fingerprint, and after the history has looked,
//! a [`Sighting`]. Bounds: at most [`MAX_TUPLES`] tuples an event. Not here: the history itself ([`history`]).

use alloc::string::String;
use alloc::vec::Vec;

use crate::event::EventView;
use crate::event::timestamp::Millis;
use crate::rule::FieldRef;

pub mod history;

/// How many tuples one event may make for one rule; those of longer arrays are the first so many of the cartesian
/// product. CloudTrail's longest arrays hold some hundred resources.
pub const MAX_TUPLES: usize = 4096;

/// The values of a rule's new-terms fields in one event, in the fields' order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TermTuple(pub Vec<String>);

impl TermTuple {
    /// The event's tuples: the cartesian product of the fields' values; none if a field has none.
    pub fn each(fields: &[FieldRef], event: &EventView<'_>) -> Vec<TermTuple> {
        let mut tuples = Vec::from([TermTuple(Vec::new())]);
        for field in fields {
            let values = event.texts(*field);
            let longer = tuples.iter().flat_map(|tuple| {
                values.iter().map(|value| {
                    let mut terms = tuple.0.clone();
                    terms.push(value.clone());
                    TermTuple(terms)
                })
            });
            tuples = longer.take(MAX_TUPLES).collect();
        }
        tuples
    }
}

/// The outcome of observing a tuple.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sighting {
    /// It was seen inside the window.
    Known,
    /// It was not.
    New(Reason),
}

/// Why a tuple is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The history does not have it.
    NeverSeen,
    /// It was last seen longer ago than the window is.
    Expired {
        /// When that was.
        last_seen: Millis,
    },
}
