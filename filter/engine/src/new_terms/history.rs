//! The history: which term tuples and suppression groups were seen, and when.
//!
//! In: fingerprints with the second and the identity of an event. Out: a [`Sighting`], or what a group says, and the list of
//! [`Change`]s that make one state out of the one before. Bounds: at most `capacity` entries; for a new one, first one goes
//! that has expired, and else the one that was seen the longest ago, which may make a known tuple new again but never a
//! new one known. Not here: the state file ([`crate::journal`]), and what a fingerprint is of.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use super::fingerprint::{EventHash, Fingerprint, Key};
use super::{Reason, Sighting};
use crate::enrichment::{Hour, Label, LabelSighting, Labels};

pub mod entry;
pub mod ghosts;
pub mod owner;
pub mod usage;

#[cfg(test)]
mod tests;

#[cfg(test)]
mod model;

use entry::{Entry, Seconds};
use ghosts::{Ghost, Ghosts};
use owner::{Owner, Purpose, Standing};
use usage::{Usage, UsedOnce};

/// How many owners there may be: each has a number of 16 bits.
pub const MAX_OWNERS: usize = 1 << 16;

/// Which owner; its place in [`History::owners`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OwnerNumber(pub u16);

/// What a group says to an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupSighting {
    /// The event opens the group: it alerts.
    Opens {
        /// When the group's first event was.
        start: Seconds,
        /// Whether that is this event, delivered before.
        again: bool,
    },
    /// The group has alerted already.
    Suppressed {
        /// When the group's first event was.
        start: Seconds,
        /// When its latest event was.
        end: Seconds,
        /// How many events it has so far, this one among them.
        count: u32,
    },
}

/// One step from a state of the history to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// There is an owner that was not there, or its standing is another.
    Owner(OwnerNumber),
    /// A tuple or a group is as this entry says.
    Entry(OwnerNumber, Fingerprint, Entry),
    /// A group is, and all that is different is how many events it has and when they were.
    Count(OwnerNumber, Fingerprint, Entry),
    /// An entry was forgotten after it had expired.
    Expired(OwnerNumber, Fingerprint),
    /// An entry was forgotten for lack of space.
    Evicted(OwnerNumber, Fingerprint),
    /// So many alerts were held.
    Held(OwnerNumber, u32),
    /// What became of the state file.
    Repairs,
    /// What an hour of enrichment has shown.
    Enrichment,
    /// The organisation of an address, by its place.
    Label(usize),
    /// An owner's entries were found to be used once.
    UsedOnce(OwnerNumber),
}

/// What became of the state file: how often it was mended, and when something was lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Repairs {
    /// How often a state file was not whole when it was opened.
    pub recoveries: u32,
    /// When part of it was last found to be damaged, by the clock of records; 0 if that never was.
    pub damaged_at: Seconds,
}

/// The bounded map from fingerprints to sightings.
#[derive(Debug)]
pub struct History {
    key: Key,
    capacity: usize,
    len: usize,
    owners: Vec<Owner>,
    ghosts: Ghosts,
    /// The latest second of an event.
    clock: Seconds,
    /// How far one event may move that.
    clock_limit: Seconds,
    /// The beginnings and ends of what owners had learned, before the filter went live and moved them.
    provisional: Vec<(OwnerNumber, Seconds, Seconds)>,
    repairs: Repairs,
    /// What the last hour of enrichment has shown.
    enrichment: Hour,
    /// The AS organisations of addresses.
    labels: Labels,
    /// What the latest events have shown of the host's clock, in the form of a label.
    clock_votes: Label,
    /// Whether part of the file was found to be damaged, and nobody knows yet when that is.
    is_newly_damaged: bool,
    /// Whether an entry was added since that was asked last.
    is_added: bool,
    /// The owners whose entries were found to be used once, and of which nobody was told yet.
    newly_used_once: Vec<OwnerNumber>,
    changes: Vec<Change>,
}

/// From this place on, a label is not an address's, but says of the owner with the number that is left whether its entries
/// were found to be used once. A version that does not know of this ignores such places, as it does all that it has no room
/// for.
const OWNER_LABELS: usize = 1 << 16;

/// The place of [`History::clock_votes`], behind those of owners.
const CLOCK_LABEL: usize = OWNER_LABELS + MAX_OWNERS;

impl History {
    /// An empty history of at most `capacity` entries, with a random key that nobody else knows.
    pub fn new(capacity: u32, key: Key) -> History {
        History {
            key,
            capacity: usize::try_from(capacity).unwrap_or(usize::MAX).max(1),
            len: 0,
            owners: Vec::new(),
            ghosts: Ghosts::default(),
            clock: 0,
            clock_limit: Seconds::MAX,
            provisional: Vec::new(),
            repairs: Repairs::default(),
            enrichment: Hour::default(),
            labels: Labels::default(),
            clock_votes: Label::default(),
            is_newly_damaged: false,
            is_added: false,
            newly_used_once: Vec::new(),
            changes: Vec::new(),
        }
    }

    /// The key of its fingerprints.
    pub fn key(&self) -> Key {
        self.key
    }

    /// How many entries it holds at most.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The latest second of an event.
    pub fn clock(&self) -> Seconds {
        self.clock
    }

    /// From now on, an event moves the clock no further than this.
    pub(crate) fn limit_clock(&mut self, limit: Seconds) {
        self.clock_limit = limit;
    }

    /// The latest second of an event was another.
    pub(crate) fn set_clock(&mut self, clock: Seconds) {
        self.clock = clock;
    }

    fn advance(&mut self, at: Seconds) {
        self.clock = self.clock.max(at.min(self.clock_limit));
    }

    /// How often the state file was mended.
    pub fn repairs(&self) -> Repairs {
        self.repairs
    }

    /// The owners, each with its number.
    pub fn owners(&self) -> impl Iterator<Item = (OwnerNumber, &Owner)> {
        self.owners.iter().enumerate().filter_map(|(at, owner)| Some((OwnerNumber(u16::try_from(at).ok()?), owner)))
    }

    /// An owner.
    pub fn owner(&self, number: OwnerNumber) -> Option<&Owner> {
        self.owners.get(usize::from(number.0))
    }

    /// What has happened since [`History::forget_changes`].
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// The changes are written, or never will be.
    pub fn forget_changes(&mut self) {
        self.changes.clear();
    }

    /// The owner of a running rule's tuples or groups: the one that it had before, or a new one. `None` if there are too many.
    pub fn load_owner(&mut self, purpose: Purpose, rule_id: &str, fields: &[&str], window: u32) -> Option<OwnerNumber> {
        let mut names = Vec::with_capacity(fields.len() + 2);
        names.extend([if purpose == Purpose::Tuples { "new_terms" } else { "suppression" }, rule_id]);
        names.extend(fields);
        let print = self.key.print(&names);
        let at = match self.owners.iter().position(|owner| owner.print == print) {
            Some(at) => at,
            None => self.add_owner(Owner::new(print, purpose, rule_id, &joined(fields)))?,
        };
        let number = OwnerNumber(u16::try_from(at).ok()?);
        let owner = self.owners.get_mut(at)?;
        owner.is_loaded = true;
        let taught = owner.standing.since != 0;
        if owner.standing.set_window(window) && taught {
            self.changes.push(Change::Owner(number));
        }
        Some(number)
    }

    fn add_owner(&mut self, owner: Owner) -> Option<usize> {
        if self.owners.len() >= MAX_OWNERS {
            return None;
        }
        self.owners.push(owner);
        Some(self.owners.len() - 1)
    }

    /// Forgets what rules that run no more had seen longer than their windows ago, and takes note of up to when they ran.
    pub fn age_out_removed_rules(&mut self) {
        for at in 0..self.owners.len() {
            if let Some(owner) = self.owners.get_mut(at)
                && !owner.is_loaded
                && owner.standing.end(self.clock)
                && let Ok(number) = u16::try_from(at)
            {
                self.changes.push(Change::Owner(OwnerNumber(number)));
            }
            while let Some(owner) = self.owners.get_mut(at)
                && !owner.is_loaded
                && let Some((print, last_seen)) = owner.oldest()
                && owner.has_expired(last_seen, self.clock)
                && let Ok(number) = u16::try_from(at)
            {
                self.forget(OwnerNumber(number), print, false);
            }
        }
    }

    /// The filter is live from a second on.
    pub fn begin(&mut self, at: Seconds) {
        self.begin_after_damage(at);
        self.move_beginnings(&mut |standing| standing.begin(at));
    }

    /// All that was learned so far was learned at this second or later: what was before was a wrong clock's.
    pub(crate) fn begin_later(&mut self, at: Seconds) {
        self.move_beginnings(&mut |standing| {
            let is_moved = standing.since != 0 && standing.since < at;
            if is_moved {
                standing.since = at;
            }
            is_moved
        });
        self.provisional.clear();
        for (number, owner) in self.owners.iter_mut().enumerate() {
            let early: Vec<Fingerprint> =
                owner.entries().filter(|(_, entry)| entry.last_seen < at).map(|(print, _)| print).collect();
            for print in early {
                if let (Ok(number), Some(entry)) = (u16::try_from(number), owner.get_mut(print)) {
                    (entry.first_seen, entry.last_seen) = (entry.first_seen.max(at), at);
                    self.changes.push(Change::Entry(OwnerNumber(number), print, *entry));
                }
            }
        }
    }

    /// Moves the beginnings of what the running rules' owners have learned, where `change` does so.
    fn move_beginnings(&mut self, change: &mut dyn FnMut(&mut Standing) -> bool) {
        for (number, owner) in self.owners.iter_mut().enumerate() {
            let Standing { since, until, .. } = owner.standing;
            if owner.is_loaded
                && change(&mut owner.standing)
                && let Ok(number) = u16::try_from(number).map(OwnerNumber)
            {
                if since != 0 && since != owner.standing.since {
                    self.provisional.push((number, since, until));
                }
                self.changes.push(Change::Owner(number));
            }
        }
    }

    /// The clock that the filter went live by was ahead: what [`History::begin`] moved is as it was.
    pub(crate) fn undo_begin(&mut self) {
        // The oldest of one owner comes last.
        while let Some((number, since, until)) = self.provisional.pop() {
            if let Some(owner) = self.owners.get_mut(usize::from(number.0)) {
                (owner.standing.since, owner.standing.until) = (since, until);
                self.changes.push(Change::Owner(number));
            }
        }
    }

    /// Takes note of when damage was found.
    pub fn begin_after_damage(&mut self, at: Seconds) {
        if core::mem::take(&mut self.is_newly_damaged) {
            self.repairs.damaged_at = at.max(1);
            self.changes.push(Change::Repairs);
        }
    }

    /// Takes note of a tuple in an event at a second, and says whether it is new: known while `at - last_seen <= window`.
    /// The event that introduced it, delivered again, finds it new again, for the same reason. A time before
    /// `last_seen` makes it known for no longer.
    pub fn observe(&mut self, number: OwnerNumber, tuple: Fingerprint, at: Seconds, event: EventHash) -> Sighting {
        self.advance(at);
        let Some(owner) = self.owners.get_mut(usize::from(number.0)) else { return Sighting::New(Reason::NeverSeen) };
        let window = owner.standing.window;
        let Some(entry) = owner.get_mut(tuple) else {
            let ghost = self.ghosts.find(tuple).is_some_and(|last_seen| at <= last_seen || at - last_seen <= window);
            let reason = if ghost { Reason::Evicted } else { Reason::NeverSeen };
            self.insert(number, tuple, Entry::tuple(at, reason, event));
            return Sighting::New(reason);
        };
        let before = *entry;
        let is_new = !entry.is_within(at, window);
        if is_new {
            entry.renew(at, event);
        } else if at > entry.last_seen {
            entry.refresh(at, window);
        }
        entry.first_seen = entry.first_seen.min(at);
        let entry = *entry;
        if entry != before {
            if before.first_seen == before.last_seen && entry.last_seen != before.last_seen {
                owner.used_again();
            }
            owner.promote(tuple);
            self.changes.push(Change::Entry(number, tuple, entry));
        }
        match entry.introduced_by == event && event != EventHash::NONE {
            true if is_new => Sighting::New(entry.reason()),
            true => Sighting::Again(entry.reason()),
            false => Sighting::Known,
        }
    }

    /// Takes note of a group's event at a second, and says whether it alerts. A group lasts `window` from the event on that
    /// opened it, in event time; a late event that is less than that older belongs to it, and moves nothing, so that what is
    /// delivered again changes no later alert. A later event opens the group anew. One that is older than that belongs to a group gone by, of which there is one in each
    /// window since 1970; but what is older than a group that a baseline taught, and
    /// not older than the baseline, the baseline taught as well.
    pub fn observe_group(
        &mut self,
        number: OwnerNumber,
        group: Fingerprint,
        at: Seconds,
        event: EventHash,
    ) -> GroupSighting {
        self.advance(at);
        let opens = GroupSighting::Opens { start: at, again: false };
        let Some(owner) = self.owners.get_mut(usize::from(number.0)) else { return opens };
        let Standing { window, since, .. } = owner.standing;
        let duration = window.max(1);
        let Some(entry) = owner.get_mut(group) else {
            self.insert(number, group, Entry::group(at, event));
            return opens;
        };
        if entry.introduced_by == event {
            return GroupSighting::Opens { start: entry.first_seen, again: true };
        }
        if at.abs_diff(entry.first_seen) < duration {
            entry.last_seen = entry.last_seen.max(at);
            entry.detail = entry.detail.saturating_add(1);
            let entry = *entry;
            if entry.detail == 2 {
                owner.used_again();
            }
            owner.promote(group);
            self.changes.push(Change::Count(number, group, entry));
            return GroupSighting::Suppressed { start: entry.first_seen, end: entry.last_seen, count: entry.detail };
        }
        if at > entry.first_seen {
            *entry = Entry::group(at, event);
            let entry = *entry;
            owner.used_again();
            owner.promote(group);
            self.changes.push(Change::Entry(number, group, entry));
            return opens;
        }
        if entry.introduced_by == EventHash::NONE && at >= since {
            // A baseline taught what was before.
            return GroupSighting::Suppressed { start: entry.first_seen, end: entry.last_seen, count: entry.detail };
        }
        let mut place = [0; 16];
        place[..4].copy_from_slice(&(at / duration).to_le_bytes());
        let bygone = self.key.tuple(group, [Fingerprint(place)]);
        // The events of one period are less than its length apart, so this goes no deeper.
        self.observe_group(number, bygone, at, event)
    }

    /// Takes note of a tuple that nobody is to alert on: the earliest and the latest time, whatever the order.
    pub fn learn(&mut self, number: OwnerNumber, tuple: Fingerprint, at: Seconds) {
        self.advance(at);
        let Some(owner) = self.owners.get_mut(usize::from(number.0)) else { return };
        match owner.get_mut(tuple) {
            None => self.insert(number, tuple, Entry::tuple(at, Reason::NeverSeen, EventHash::NONE)),
            Some(entry) => {
                entry.first_seen = entry.first_seen.min(at);
                entry.last_seen = entry.last_seen.max(at);
            }
        }
    }

    /// Takes note of a group's event that nobody is to alert on, in the order of time. Groups gone by are not made up for, so
    /// that learning the same twice is learning it once.
    pub fn learn_group(&mut self, number: OwnerNumber, group: Fingerprint, at: Seconds) {
        self.advance(at);
        let Some(owner) = self.owners.get_mut(usize::from(number.0)) else { return };
        let duration = owner.standing.window.max(1);
        match owner.get_mut(group) {
            None => self.insert(number, group, Entry::group(at, EventHash::NONE)),
            Some(entry) if at < entry.first_seen => {}
            Some(entry) if at - entry.first_seen < duration => entry.last_seen = entry.last_seen.max(at),
            Some(entry) => {
                *entry = Entry::group(at, EventHash::NONE);
                owner.promote(group);
            }
        }
    }

    /// Takes note of how a tuple or group that [`History::observe`] or [`History::observe_group`] has just found new was made:
    /// by which caller, a number other than 0, and of which fields. One that was not added is of a redelivery.
    pub(crate) fn note_new(
        &mut self,
        number: OwnerNumber,
        caller: Option<u32>,
        prints: &mut dyn Iterator<Item = Fingerprint>,
    ) {
        let is_added = core::mem::take(&mut self.is_added);
        let (Some(caller), Some(owner)) = (caller.filter(|_| is_added), self.owners.get_mut(usize::from(number.0)))
        else {
            return;
        };
        let Owner { usage, fields, .. } = owner;
        let usage = usage.get_or_insert_with(|| Box::new(Usage::of(fields)));
        let Some(fields) = usage.opened(caller, prints) else { return };
        if !owner.used_once.is_said(self.clock) {
            owner.used_once = UsedOnce { said_at: self.clock.max(1), fields };
            self.newly_used_once.push(number);
            self.changes.push(Change::UsedOnce(number));
        }
    }

    /// What people are to be told of entries that are used once; there may be more than one such thing.
    pub(crate) fn take_used_once(&mut self) -> Option<String> {
        let number = self.newly_used_once.pop()?;
        let owner = self.owner(number)?;
        let (what, loss, from) = match owner.purpose {
            Purpose::Tuples => ("tuples", "makes every event new", "new-terms fields"),
            Purpose::Groups => ("groups", "suppresses nothing", "group_by"),
        };
        let mut names = String::new();
        for name in owner.used_once.names(&owner.fields) {
            if !names.is_empty() {
                names.push_str(" and ");
            }
            names.push_str(name);
        }
        Some(
            [
                "nearly all recent ",
                what,
                " of rule ",
                &owner.rule_id,
                " were used once, and the same callers' differ only in ",
                &names,
                ": a value that is new for each request ",
                loss,
                "; leave that field out of the rule's ",
                from,
            ]
            .concat(),
        )
    }

    /// What is known of an owner's entries that are used once, in the form of a label, with its place.
    pub(crate) fn used_once_label(&self, number: OwnerNumber) -> (usize, Label) {
        let UsedOnce { said_at, fields } = self.owner(number).map(|owner| owner.used_once).unwrap_or_default();
        (OWNER_LABELS + usize::from(number.0), Label { address: said_at, organization: u32::from(fields) })
    }

    /// What the last hour of enrichment has shown.
    pub fn enrichment(&self) -> Hour {
        self.enrichment
    }

    /// Keeps what an hour of enrichment has shown.
    pub(crate) fn set_enrichment(&mut self, hour: Hour) {
        self.enrichment = hour;
        self.changes.push(Change::Enrichment);
    }

    /// Takes note of an address's AS organisation; where that is kept, and how the address was known.
    pub(crate) fn observe_label(&mut self, address: Fingerprint, organization: Fingerprint) -> (usize, LabelSighting) {
        let (place, sighting) = self.labels.observe(address, organization);
        if sighting != LabelSighting::Same {
            self.changes.push(Change::Label(place));
        }
        (place, sighting)
    }

    /// The AS organisations of addresses, with their places.
    pub fn labels(&self) -> impl Iterator<Item = (usize, Label)> {
        self.labels.iter()
    }

    /// All that the state file keeps in the form of labels.
    pub(crate) fn kept_labels(&self) -> impl Iterator<Item = (usize, Label)> {
        let found = self.owners().filter(|(_, owner)| owner.used_once != UsedOnce::default());
        let found = found.map(|(number, _)| self.used_once_label(number));
        let votes = Some((CLOCK_LABEL, self.clock_votes)).filter(|(_, votes)| *votes != Label::default());
        self.labels.iter().chain(found).chain(votes)
    }

    /// What is kept at a place.
    pub(crate) fn label(&self, place: usize) -> Option<Label> {
        if place == CLOCK_LABEL { Some(self.clock_votes) } else { self.labels.get(place) }
    }

    /// What the latest events have shown of the host's clock.
    pub(crate) fn clock_votes(&self) -> Label {
        self.clock_votes
    }

    /// Keeps what the latest events have shown of the host's clock.
    pub(crate) fn set_clock_votes(&mut self, votes: Label) {
        if votes != self.clock_votes {
            self.clock_votes = votes;
            self.changes.push(Change::Label(CLOCK_LABEL));
        }
    }

    /// Takes note of alerts that are held.
    pub fn hold(&mut self, number: OwnerNumber, count: u32) {
        if let Some(owner) = self.owners.get_mut(usize::from(number.0)) {
            owner.standing.held = owner.standing.held.saturating_add(count);
            self.changes.push(Change::Held(number, count));
        }
    }

    /// All that an owner would have seen between two seconds is learned.
    pub fn cover(&mut self, number: OwnerNumber, from: Seconds, until: Seconds) {
        if let Some(owner) = self.owners.get_mut(usize::from(number.0)) {
            owner.standing.cover(from, until);
        }
    }

    fn insert(&mut self, number: OwnerNumber, print: Fingerprint, entry: Entry) {
        while self.len >= self.capacity && self.evict() {}
        if let Some(owner) = self.owners.get_mut(usize::from(number.0)) {
            self.len += usize::from(owner.put(print, entry));
            self.is_added = true;
            self.changes.push(Change::Entry(number, print, entry));
        }
    }

    /// Forgets one entry: of those that have expired, or else of all, the one that was seen the longest ago. One that came late
    /// counts from when it came.
    fn evict(&mut self) -> bool {
        let clock = self.clock;
        let oldest = self.owners().filter_map(|(number, owner)| {
            let (print, last_seen) = owner.oldest()?;
            Some((!owner.has_expired(last_seen, clock), last_seen, number, print))
        });
        let Some((is_live, _, number, print)) = oldest.min_by_key(|(is_live, last_seen, ..)| (*is_live, *last_seen))
        else {
            return false;
        };
        self.changes.push(if is_live { Change::Evicted(number, print) } else { Change::Expired(number, print) });
        self.forget(number, print, is_live)
    }

    /// Forgets an entry, and takes note of what it was; `false` if there is no such entry.
    fn forget(&mut self, number: OwnerNumber, print: Fingerprint, is_live: bool) -> bool {
        let Some(owner) = self.owners.get_mut(usize::from(number.0)) else { return false };
        let Some(entry) = owner.remove(print) else { return false };
        self.len -= 1;
        let standing = &mut owner.standing;
        if !is_live {
            standing.expired_until = standing.expired_until.max(entry.last_seen);
            return true;
        }
        standing.evictions = standing.evictions.saturating_add(1);
        standing.evicted_until = standing.evicted_until.max(entry.last_seen);
        // Without a bound, as histories are tended, nothing would be needed.
        if self.capacity < u32::MAX as usize {
            // As many as there are for its age, for the whole window. What was last seen is rounded up, so that its age may be
            // nothing.
            let age = u64::from(self.clock.saturating_sub(entry.last_seen).max(entry::step(standing.window)));
            let needed = (self.capacity as u64).saturating_mul(u64::from(standing.window)).div_ceil(age);
            standing.capacity_needed = u32::try_from(needed).unwrap_or(u32::MAX);
        }
        if owner.purpose == Purpose::Tuples {
            self.ghosts.remember(print, entry.last_seen);
        }
        true
    }
}

fn joined(fields: &[&str]) -> String {
    let mut joined = String::new();
    for field in fields {
        if !joined.is_empty() {
            joined.push(',');
        }
        joined.push_str(field);
    }
    joined
}

/// Making a history again out of what was written of one. None of it is a change.
impl History {
    /// The latest second of an event.
    pub fn restore_clock(&mut self, clock: Seconds) {
        self.clock = clock;
    }

    /// How often the state file was mended.
    pub fn restore_repairs(&mut self, repairs: Repairs) {
        self.repairs = repairs;
    }

    /// The state file was not whole when it was opened; something was lost of it, if it was damaged. When that is, the next
    /// record tells; until then it is the latest second of an event.
    pub fn mended(&mut self, is_damaged: bool) {
        self.repairs.recoveries = self.repairs.recoveries.saturating_add(1);
        if is_damaged {
            self.repairs.damaged_at = self.clock.max(1);
            self.is_newly_damaged = true;
        }
    }

    /// An owner by its number, before any entry of it.
    pub fn restore_owner(&mut self, number: OwnerNumber, owner: Owner) {
        let at = usize::from(number.0);
        while self.owners.len() <= at {
            // A number that nobody has any more.
            self.owners.push(Owner::new(Fingerprint([0; 16]), Purpose::Groups, "", ""));
        }
        if let Some(known) = self.owners.get_mut(at) {
            if known.print == owner.print {
                known.standing = owner.standing;
            } else {
                self.len -= known.len();
                *known = owner;
            }
        }
    }

    /// Whether there is an owner of this number.
    pub fn has_owner(&self, number: OwnerNumber) -> bool {
        usize::from(number.0) < self.owners.len()
    }

    /// An entry as it was at last.
    #[inline]
    pub fn restore_entry(&mut self, number: OwnerNumber, print: Fingerprint, entry: Entry) {
        let Some(owner) = self.owners.get_mut(usize::from(number.0)) else { return };
        owner.make_room(print);
        self.len += usize::from(owner.put(print, entry));
        // Of a history that was written with a larger capacity.
        if self.len > self.capacity {
            self.keep_to_capacity();
        }
    }

    /// An entry that was forgotten.
    pub fn restore_forgotten(&mut self, number: OwnerNumber, print: Fingerprint, is_live: bool) {
        self.forget(number, print, is_live);
    }

    /// Alerts that were held.
    pub fn restore_held(&mut self, number: OwnerNumber, count: u32) {
        self.hold(number, count);
        self.changes.clear();
    }

    /// What was evicted.
    pub fn restore_ghost(&mut self, place: usize, ghost: Ghost) {
        self.ghosts.put(place, ghost);
    }

    /// What an hour of enrichment has shown.
    pub fn restore_enrichment(&mut self, hour: Hour) {
        self.enrichment = hour;
    }

    /// An address's AS organisation, or that an owner's entries were found to be used once.
    pub fn restore_label(&mut self, place: usize, label: Label) {
        match place.checked_sub(OWNER_LABELS) {
            None => self.labels.put(place, label),
            Some(MAX_OWNERS) => self.clock_votes = label,
            Some(number) => {
                if let Some(owner) = self.owners.get_mut(number) {
                    // Further bits are a later version's.
                    owner.used_once = UsedOnce { said_at: label.address, fields: label.organization as u16 };
                }
            }
        }
    }

    /// What was evicted, with places.
    pub fn ghosts(&self) -> impl Iterator<Item = (usize, Ghost)> {
        self.ghosts.iter()
    }

    /// How many of those there are.
    pub fn ghost_count(&self) -> usize {
        self.ghosts.len()
    }
}

/// Tending a history.
impl History {
    /// Takes in what another history knows: the earliest first and the latest last sightings. Merging several has no order,
    /// if the capacity holds all. `false`, and nothing is done, if its fingerprints are made under another key.
    #[must_use]
    pub fn merge(&mut self, other: &History) -> bool {
        if self.key != other.key {
            return false;
        }
        self.clock = self.clock.max(other.clock);
        self.merge_repairs(other.repairs);
        for (_, theirs) in other.owners() {
            let Some(number) = self.merge_owner(theirs) else { continue };
            for (print, entry) in theirs.entries() {
                self.merge_entry(number, print, &entry);
            }
        }
        for (place, ghost) in other.ghosts() {
            self.merge_ghost(place, ghost);
        }
        self.merge_enrichment(other.enrichment);
        for (place, label) in other.labels() {
            self.merge_label(place, label);
        }
        self.keep_to_capacity();
        true
    }

    /// Takes in an owner without its entries: it has this number here.
    pub(crate) fn merge_owner(&mut self, theirs: &Owner) -> Option<OwnerNumber> {
        let at = match self.owners.iter().position(|owner| owner.print == theirs.print) {
            Some(at) => at,
            None => self.add_owner(Owner::new(theirs.print, theirs.purpose, &theirs.rule_id, &theirs.fields))?,
        };
        let owner = self.owners.get_mut(at)?;
        owner.standing.merge(&theirs.standing);
        owner.used_once = owner.used_once.max(theirs.used_once);
        u16::try_from(at).ok().map(OwnerNumber)
    }

    /// Takes in an entry, whatever the capacity.
    pub(crate) fn merge_entry(&mut self, number: OwnerNumber, print: Fingerprint, entry: &Entry) {
        let Some(owner) = self.owners.get_mut(usize::from(number.0)) else { return };
        let purpose = owner.purpose;
        match owner.get_mut(print) {
            Some(known) if purpose == Purpose::Tuples => known.merge_tuple(entry),
            Some(known) => known.merge_group(entry),
            None => self.len += usize::from(owner.put(print, *entry)),
        }
    }

    pub(crate) fn merge_repairs(&mut self, other: Repairs) {
        self.repairs.recoveries = self.repairs.recoveries.max(other.recoveries);
        self.repairs.damaged_at = self.repairs.damaged_at.max(other.damaged_at);
    }

    pub(crate) fn merge_ghost(&mut self, place: usize, ghost: Ghost) {
        self.ghosts.merge(place, ghost);
    }

    pub(crate) fn merge_enrichment(&mut self, other: Hour) {
        if other.until > self.enrichment.until {
            self.enrichment = other;
        }
    }

    pub(crate) fn merge_label(&mut self, place: usize, label: Label) {
        if place < OWNER_LABELS && self.label(place).is_none_or(|known| known.organization == 0) {
            self.labels.put(place, label);
        }
    }

    /// Forgets what the capacity has no room for.
    #[cold]
    pub(crate) fn keep_to_capacity(&mut self) {
        while self.len > self.capacity && self.evict() {
            self.changes.clear();
        }
    }

    /// Puts the entries of each owner in the order in which they were seen last: when a smaller history takes them in, the
    /// latest stay.
    pub fn sort(&mut self) {
        for owner in &mut self.owners {
            let mut entries: Vec<_> = owner.entries().collect();
            entries.sort_unstable_by_key(|(print, entry)| (entry.last_seen, *print));
            entries.into_iter().for_each(|(print, _)| owner.promote(print));
        }
    }

    /// Forgets all that belongs to a rule; how many entries that were.
    pub fn forget_rule(&mut self, rule_id: &str) -> usize {
        let before = self.len;
        for owner in self.owners.iter_mut().filter(|owner| owner.rule_id == rule_id) {
            self.len -= owner.len();
            *owner = Owner::new(Fingerprint([0; 16]), owner.purpose, "", "");
        }
        before - self.len
    }

    /// The ids of the rules that something is known of.
    pub fn rule_ids(&self) -> Vec<String> {
        let mut ids: Vec<String> = self.owners.iter().map(|owner| owner.rule_id.clone()).collect();
        ids.retain(|id| !id.is_empty());
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// The standing of an owner.
    pub fn standing(&self, number: OwnerNumber) -> Standing {
        self.owner(number).map(|owner| owner.standing).unwrap_or_default()
    }
}
