//! Ghosts: what was forgotten for lack of space while it was still known.
//!
//! In: fingerprints with when they were last seen. Out: whether a tuple is among them. Bounds: one ghost for each place, of
//! which there are [`PLACES`], 8 bytes each, made when the first is needed; a later ghost takes the place of an earlier one.
//! So an evicted tuple may be told as never seen, but one that was never seen is told as evicted with a chance of 1 in 2^32
//! only. Not here: counting evictions.

use alloc::vec;
use alloc::vec::Vec;

use super::super::fingerprint::Fingerprint;
use super::entry::Seconds;

/// How many ghosts there are at most.
const PLACES: usize = 1 << 15;

/// The ghosts, by the first bits of their fingerprints.
#[derive(Debug, Default)]
pub(super) struct Ghosts {
    /// All of them, or none yet.
    places: Vec<Ghost>,
    taken: usize,
}

/// One place and what is in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ghost {
    /// Which tuple it is: further bits of its fingerprint.
    pub mark: u32,
    /// When that was last seen; 0 in an empty place.
    pub last_seen: Seconds,
}

fn place_and_mark(tuple: Fingerprint) -> (usize, u32) {
    let [a, b, c, d, e, f, g, h, ..] = tuple.0;
    (u32::from_le_bytes([a, b, c, d]) as usize % PLACES, u32::from_le_bytes([e, f, g, h]))
}

impl Ghosts {
    /// Remembers a tuple that is being forgotten.
    pub(super) fn remember(&mut self, tuple: Fingerprint, last_seen: Seconds) {
        let (place, mark) = place_and_mark(tuple);
        self.put(place, Ghost { mark, last_seen });
    }

    /// Puts a ghost where it was; a place that is none is ignored. What was seen last in 1970's first second is no ghost.
    pub(super) fn put(&mut self, place: usize, ghost: Ghost) {
        if self.places.is_empty() {
            self.places = vec![Ghost::default(); PLACES];
        }
        if let Some(taken) = self.places.get_mut(place) {
            self.taken -= usize::from(taken.last_seen != 0);
            self.taken += usize::from(ghost.last_seen != 0);
            *taken = ghost;
        }
    }

    /// Puts a ghost where it was, unless a later one is there.
    pub(super) fn merge(&mut self, place: usize, ghost: Ghost) {
        let known = self.places.get(place).copied().unwrap_or_default();
        if (ghost.last_seen, ghost.mark) > (known.last_seen, known.mark) {
            self.put(place, ghost);
        }
    }

    /// When the tuple was last seen, if it is among them.
    pub(super) fn find(&self, tuple: Fingerprint) -> Option<Seconds> {
        let (place, mark) = place_and_mark(tuple);
        self.places.get(place).filter(|ghost| ghost.last_seen != 0 && ghost.mark == mark).map(|ghost| ghost.last_seen)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.taken
    }

    /// Each with its place.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, Ghost)> {
        self.places.iter().copied().enumerate().filter(|(_, ghost)| ghost.last_seen != 0)
    }
}
