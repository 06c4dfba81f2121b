//! The history against a naive model, over random lives.
//!
//! The model keeps plain lists of who was seen when, looks through all of them each time, and never forgets. It shares no
//! code with the history. With room, the history says exactly what the model says, whatever is lost, compacted or merged
//! in between; with too little room it may say more often that something is new, and never less often. Not here: what is
//! in the file ([`crate::journal`]'s own tests).

use std::boxed::Box;
use std::collections::{BTreeMap, BTreeSet};
use std::format;
use std::string::String;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::journal::keeper::{self, Keeper};
use crate::journal::tests::memory::Disk;
use crate::journal::tests::state::{State, opened};
use crate::journal::{Batch, HEADER_LEN};
use crate::new_terms::history::entry::millis;
use crate::rule::Sync;

const KEY: Key = Key([9; 16]);
const BEGIN: u32 = 1_000_000;

/// The windows of two rules with tuples, and the duration of groups, in seconds.
const WINDOWS: [u32; 3] = [1000, 40_000, 700];
const GROUPS: usize = 2;

/// Something that was seen.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// A rule with tuples, or the groups.
    owner: usize,
    term: u8,
    at: u32,
    /// Which event; 0 if it was learned.
    event: u32,
}

#[derive(Debug, Clone)]
enum Step {
    See(Seen),
    /// Something that was seen before is delivered again.
    SeeAgain(prop::sample::Index),
    /// The process ends, so many bytes into another append.
    Crash(u8),
    Compact,
    Merge(Vec<Seen>),
}

/// What the model knows of a tuple.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tuple {
    owner: usize,
    text: String,
    first: u32,
    last: u32,
    introduced_by: u32,
    /// When it had been seen last before it was introduced, if it had been.
    before: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    text: String,
    /// Of a group gone by: which of the durations since 1970 it stands for.
    period: Option<u32>,
    start: u32,
    end: u32,
    count: u32,
    opened_by: u32,
}

#[derive(Debug, Clone, Default)]
struct Model {
    tuples: Vec<Tuple>,
    groups: Vec<Group>,
}

/// What the history or the model says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    Tuple(Sighting),
    Group(GroupSighting),
}

impl Says {
    fn is_new(self) -> bool {
        matches!(self, Says::Tuple(Sighting::New(_) | Sighting::Again(_)) | Says::Group(GroupSighting::Opens { .. }))
    }
}

fn text(term: u8) -> String {
    format!("term {term}")
}

impl Model {
    fn see(&mut self, seen: Seen) -> Says {
        if seen.owner == GROUPS { Says::Group(self.see_group(seen)) } else { Says::Tuple(self.see_tuple(seen)) }
    }

    fn see_tuple(&mut self, Seen { owner, term, at, event }: Seen) -> Sighting {
        let window = WINDOWS[owner];
        let Some(known) = self.tuples.iter_mut().find(|tuple| tuple.owner == owner && tuple.text == text(term)) else {
            let tuple = Tuple { owner, text: text(term), first: at, last: at, introduced_by: event, before: None };
            self.tuples.push(tuple);
            return Sighting::New(Reason::NeverSeen);
        };
        known.first = known.first.min(at);
        let is_expired = i64::from(at) - i64::from(known.last) > i64::from(window);
        if is_expired {
            known.before = Some(known.last);
            known.introduced_by = event;
            known.last = at;
        } else if at > known.last {
            let step = if window < 200 { 1 } else { window / 100 };
            known.last = at + (step - at % step) % step;
        }
        let reason = match known.before {
            _ if event == 0 || known.introduced_by != event => return Sighting::Known,
            None => Reason::NeverSeen,
            Some(last) => Reason::Expired { last_seen: millis(last) },
        };
        if is_expired { Sighting::New(reason) } else { Sighting::Again(reason) }
    }

    fn see_group(&mut self, seen: Seen) -> GroupSighting {
        let Seen { term, at, event, .. } = seen;
        let duration = WINDOWS[GROUPS];
        for period in [None, Some(at / duration)] {
            let new = Group { text: text(term), period, start: at, end: at, count: 1, opened_by: event };
            let known = self.groups.iter_mut().find(|group| group.text == new.text && group.period == period);
            let Some(known) = known else {
                self.groups.push(new);
                return GroupSighting::Opens { start: at, again: false };
            };
            if known.opened_by == event {
                return GroupSighting::Opens { start: known.start, again: true };
            }
            if at.max(known.start) - at.min(known.start) < duration {
                known.end = known.end.max(at);
                known.count += 1;
                return GroupSighting::Suppressed { start: known.start, end: known.end, count: known.count };
            }
            if at > known.start {
                *known = new;
                return GroupSighting::Opens { start: at, again: false };
            }
        }
        unreachable!("the events of one period are less than its length apart");
    }

    fn merge(&mut self, other: &Model) {
        for theirs in &other.tuples {
            let ours = self.tuples.iter_mut().find(|ours| ours.owner == theirs.owner && ours.text == theirs.text);
            let Some(ours) = ours else {
                self.tuples.push(theirs.clone());
                continue;
            };
            ours.first = ours.first.min(theirs.first);
            ours.last = ours.last.max(theirs.last);
            let introduced = |tuple: &Tuple| (tuple.introduced_by, tuple.before);
            if introduced(theirs) > introduced(ours) {
                (ours.introduced_by, ours.before) = introduced(theirs);
            }
        }
        for theirs in &other.groups {
            let ours = self.groups.iter_mut().find(|ours| ours.text == theirs.text && ours.period == theirs.period);
            match ours {
                None => self.groups.push(theirs.clone()),
                Some(ours) if ours.start < theirs.start => *ours = theirs.clone(),
                Some(ours) if ours.start == theirs.start => {
                    ours.end = ours.end.max(theirs.end);
                    ours.count = ours.count.max(theirs.count);
                    ours.opened_by = ours.opened_by.max(theirs.opened_by);
                }
                Some(_) => {}
            }
        }
    }

    /// All that is known, as the history would keep it.
    fn entries(&self) -> BTreeMap<(usize, Fingerprint), Entry> {
        let tuples = self.tuples.iter().map(|tuple| {
            let Tuple { owner, ref text, first, last, introduced_by, before } = *tuple;
            let detail = before.unwrap_or(0);
            let introduced_by = EventHash(introduced_by);
            ((owner, KEY.print(&[text])), Entry { first_seen: first, last_seen: last, detail, introduced_by })
        });
        let groups = self.groups.iter().map(|group| {
            let mut print = KEY.print(&[&group.text]);
            if let Some(period) = group.period {
                let [a, b, c, d] = period.to_le_bytes();
                print = KEY.tuple(print, [Fingerprint([a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])]);
            }
            let Group { start, end, count, opened_by, .. } = *group;
            let introduced_by = EventHash(opened_by);
            ((GROUPS, print), Entry { first_seen: start, last_seen: end, detail: count, introduced_by })
        });
        tuples.chain(groups).collect()
    }
}

fn load(history: &mut History) -> [OwnerNumber; 3] {
    let mut load = |purpose, id, window| history.load_owner(purpose, id, &["user.name"], window).expect("room");
    let [first, second, groups] = WINDOWS;
    let numbers = [
        load(Purpose::Tuples, "first", first),
        load(Purpose::Tuples, "second", second),
        load(Purpose::Groups, "groups", groups),
    ];
    history.begin(BEGIN);
    numbers
}

fn see(history: &mut History, numbers: [OwnerNumber; 3], seen: Seen) -> Says {
    let Seen { owner, term, at, event } = seen;
    let (number, print, event) = (numbers[owner], KEY.print(&[text(term)]), EventHash(event));
    if owner == GROUPS {
        Says::Group(history.observe_group(number, print, at, event))
    } else {
        Says::Tuple(history.observe(number, print, at, event))
    }
}

fn entries(history: &History, numbers: [OwnerNumber; 3]) -> BTreeMap<(usize, Fingerprint), Entry> {
    let of = |(owner, number): (usize, OwnerNumber)| {
        let entries = history.owner(number).into_iter().flat_map(|owner| owner.entries());
        entries.map(move |(print, entry)| ((owner, print), entry))
    };
    numbers.into_iter().enumerate().flat_map(of).collect()
}

/// A history that only ever saw this.
fn history_of(seen: &[Seen], capacity: u32) -> History {
    let mut history = History::new(capacity, KEY);
    let numbers = load(&mut history);
    seen.iter().for_each(|seen| drop(Box::new(see(&mut history, numbers, *seen))));
    history.forget_changes();
    history
}

/// A history with a file, which is lost and recovered; and one in memory, which never is.
struct Kept {
    disk: Disk,
    keeper: Keeper,
    history: History,
    numbers: [OwnerNumber; 3],
    twin: History,
    capacity: u32,
}

impl Kept {
    fn new(capacity: u32) -> Kept {
        let disk = Disk::default();
        let (keeper, history, _) = opened(&disk, Sync::None, capacity);
        let mut twin = History::new(capacity, KEY);
        let numbers = load(&mut twin);
        let mut kept = Kept { disk, keeper, history, numbers, twin, capacity };
        kept.start();
        kept
    }

    fn start(&mut self) {
        assert_eq!(load(&mut self.history), self.numbers);
        self.commit();
        self.twin.forget_changes();
    }

    fn commit(&mut self) {
        self.keeper.commit(&mut self.history, BEGIN);
        self.twin.forget_changes();
        assert!(self.keeper.is_durable() && self.keeper.take_notice().is_none());
    }

    fn open(&mut self) {
        let (keeper, history, notices) = opened(&self.disk, Sync::None, self.capacity);
        assert!(notices.is_empty(), "{notices:?}");
        (self.keeper, self.history) = (keeper, history);
        self.start();
    }

    fn see(&mut self, seen: Seen) -> Says {
        let says = see(&mut self.history, self.numbers, seen);
        assert_eq!(says, see(&mut self.twin, self.numbers, seen), "one that was recovered says something else");
        self.commit();
        says
    }

    /// The process ends in the middle of the next append.
    fn crash(&mut self, len: u8) {
        let mut batch = Batch::behind(Vec::new(), KEY);
        batch.clock(u32::MAX);
        batch.repairs(Repairs { recoveries: 99, damaged_at: 99 });
        let mut bytes = self.disk.state_file();
        let batch = batch.finish();
        bytes.extend_from_slice(&batch[..usize::from(len) % batch.len()]);
        self.disk.put(crate::storage::STATE_FILE, &bytes);
        self.open();
    }

    /// All is written, as a compaction or a program that tends the file does.
    fn write(&mut self) {
        keeper::write(&mut *self.disk.storage(), &self.history, false).expect("the disk is well");
        self.open();
    }

    fn merge(&mut self, other: &History) {
        assert!(self.history.merge(other) && self.twin.merge(other));
        self.write();
    }
}

fn seen() -> impl Strategy<Value = Seen> {
    // Mostly forward, often late, and now and then after a long silence.
    let offset = prop_oneof![
        6 => 0..500_u32,
        2 => 500..3000_u32,
        1 => 3000..100_000_u32,
    ];
    (0..3_usize, 0..7_u8, offset, 0..4000_u32).prop_map(|(owner, term, ahead, late)| Seen {
        owner,
        term,
        at: ahead,
        event: late,
    })
}

/// Times follow each other, and every event is another.
fn in_time(sketches: Vec<Seen>, clock: &mut u32, events: &mut u32) -> Vec<Seen> {
    let place = |sketch: Seen| {
        *clock += sketch.at;
        *events += 1;
        // The sketch's event says how late it is: every fourth one is.
        let late = sketch.event.saturating_sub(3000) * 3;
        Seen { at: *clock - late, event: *events, ..sketch }
    };
    sketches.into_iter().map(place).collect()
}

fn steps(len: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        30 => seen().prop_map(Step::See),
        5 => any::<prop::sample::Index>().prop_map(Step::SeeAgain),
        2 => any::<u8>().prop_map(Step::Crash),
        1 => Just(Step::Compact),
        1 => prop::collection::vec(seen(), 1..8).prop_map(Step::Merge),
    ];
    prop::collection::vec(step, 1..len).prop_map(|steps| {
        let (mut clock, mut events) = (BEGIN, 0);
        let place = |step| match step {
            Step::See(sketch) => Step::See(in_time(Vec::from([sketch]), &mut clock, &mut events)[0]),
            // What another history saw was at the same time.
            Step::Merge(sketches) => Step::Merge(in_time(sketches, &mut clock.clone(), &mut events)),
            step => step,
        };
        steps.into_iter().map(place).collect()
    })
}

/// Lives the steps, and shows each thing that is seen and what is said of it.
fn live(kept: &mut Kept, model: &mut Model, steps: Vec<Step>, mut check: impl FnMut(Seen, bool, Says, Says, &Kept)) {
    let mut all = Vec::new();
    for step in steps {
        let (seen, is_new) = match step {
            Step::See(seen) => {
                all.push(seen);
                (seen, true)
            }
            Step::SeeAgain(_) if all.is_empty() => continue,
            Step::SeeAgain(at) => (all[at.index(all.len())], false),
            Step::Crash(len) => {
                kept.crash(len);
                continue;
            }
            Step::Compact => {
                kept.write();
                continue;
            }
            Step::Merge(others) => {
                kept.merge(&history_of(&others, 1000));
                let mut other = Model::default();
                others.iter().for_each(|seen| drop(Box::new(other.see(*seen))));
                model.merge(&other);
                continue;
            }
        };
        let says = kept.see(seen);
        let expected = model.see(seen);
        check(seen, is_new, says, expected, kept);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn with_room_it_says_what_the_model_says(steps in steps(120)) {
        let (mut kept, mut model) = (Kept::new(1000), Model::default());
        live(&mut kept, &mut model, steps, |seen, _, says, expected, _| assert_eq!(says, expected, "{seen:?}"));
        prop_assert_eq!(entries(&kept.history, kept.numbers), model.entries());
        prop_assert_eq!(kept.history.len(), model.entries().len());
        let (kept, twin) = (State::of(&kept.history), State::of(&kept.twin));
        prop_assert_eq!(State { clock: 0, ..kept }, State { clock: 0, ..twin });
    }

    #[test]
    fn with_too_little_room_it_says_new_more_often_and_never_less(steps in steps(120), capacity in 1..16_u32) {
        let steps = steps.into_iter().filter(|step| !matches!(step, Step::Merge(_))).collect();
        let (mut kept, mut model) = (Kept::new(capacity), Model::default());
        let mut opened = BTreeSet::new();
        live(&mut kept, &mut model, steps, |seen, is_first, says, expected, kept| {
            assert!(kept.history.len() <= capacity as usize);
            // What introduced a tuple may be forgotten, and then another event introduces it again.
            let must_be_new = is_first && seen.owner != GROUPS && expected.is_new();
            assert!(says.is_new() || !must_be_new, "{seen:?} is known, and was not seen");
            match says {
                Says::Tuple(Sighting::Known) => {}
                Says::Tuple(Sighting::New(reason) | Sighting::Again(reason)) => match reason {
                    Reason::NeverSeen | Reason::Evicted => {}
                    // A tuple of which less is known expires sooner.
                    Reason::Expired { last_seen } => {
                        assert!(last_seen < millis(seen.at), "{seen:?} was last seen at {last_seen}");
                    }
                    Reason::TooMany => panic!("{seen:?} is one tuple"),
                },
                Says::Group(GroupSighting::Opens { .. }) => drop(opened.insert(seen.term)),
                Says::Group(GroupSighting::Suppressed { start, end, count }) => {
                    assert!(opened.contains(&seen.term), "{seen:?} is suppressed, and nothing alerted");
                    assert!(seen.at <= end && seen.at.abs_diff(start) < WINDOWS[GROUPS] && count >= 2);
                }
            }
        });
        let (kept, twin) = (State::of(&kept.history), State::of(&kept.twin));
        prop_assert_eq!(State { clock: 0, ..kept }, State { clock: 0, ..twin });
    }

    #[test]
    fn merging_has_no_order(
        sketches in prop::array::uniform3((prop::collection::vec(seen(), 0..40), 2..30_u32, any::<bool>(), 0..9_u32))
    ) {
        let mut events = 0;
        let histories = sketches.map(|(sketches, capacity, is_baseline, days)| {
            let seen = in_time(sketches, &mut BEGIN.clone(), &mut events);
            let mut history = History::new(capacity, KEY);
            // Other rules run elsewhere, and have other numbers.
            if is_baseline {
                history.load_owner(Purpose::Tuples, "another", &["user.id"], 10).expect("room");
            }
            let numbers = load_unbegun(&mut history);
            seen.iter().for_each(|seen| drop(Box::new(see(&mut history, numbers, *seen))));
            let begin = BEGIN + days * 86_400;
            if is_baseline {
                let covered: Vec<_> = history.owners().map(|(number, _)| number).collect();
                covered.into_iter().for_each(|number| history.cover(number, begin, begin + 200_000));
            } else {
                history.begin(begin);
            }
            history.restore_repairs(Repairs { recoveries: days, damaged_at: days * 7 });
            history.hold(numbers[0], days);
            history
        });
        let merged = |order: &[usize]| {
            let mut merged = History::new(1000, KEY);
            order.iter().for_each(|at| assert!(merged.merge(&histories[*at])));
            (State::of(&merged).in_no_order(), merged.repairs())
        };
        let grouped = |first: usize, rest: [usize; 2]| {
            let mut inner = History::new(1000, KEY);
            rest.iter().for_each(|at| assert!(inner.merge(&histories[*at])));
            let mut outer = History::new(1000, KEY);
            assert!(outer.merge(&histories[first]) && outer.merge(&inner));
            (State::of(&outer).in_no_order(), outer.repairs())
        };
        let expected = merged(&[0, 1, 2]);
        for order in [[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            prop_assert_eq!(&merged(&order), &expected);
        }
        prop_assert_eq!(&merged(&[0, 1, 2, 1, 0, 2, 2]), &expected, "the same again changes nothing");
        prop_assert_eq!(&grouped(0, [1, 2]), &expected);
        prop_assert_eq!(&grouped(2, [0, 1]), &expected);
        let alone = (State::of(&histories[0]).in_no_order(), histories[0].repairs());
        prop_assert_eq!(merged(&[0]), alone);
    }

    #[test]
    fn late_events_alert_on_the_same_episodes_as_the_batch_definition(
        lateness in 1..90_u32,
        tuples in prop::collection::vec(
            prop::collection::vec((any::<bool>(), 0..1000_u32, 0..1000_u32), 1..30),
            1..5
        )
    ) {
        let window = WINDOWS[0];
        // When each tuple is seen: silences are not longer than the window less the lateness, or longer than the window
        // with its hundredth and the lateness. An event is delivered at most so much later than it happened.
        let mut deliveries = Vec::new();
        for (term, sightings) in tuples.iter().enumerate() {
            let (mut at, mut episode) = (BEGIN + sightings[0].1, 0);
            for (is_silent, silence, delay) in sightings {
                if *is_silent {
                    at += window + window / 100 + lateness + 1 + silence;
                    episode += 1;
                } else {
                    at += silence % (window - lateness + 1);
                }
                deliveries.push((at + delay % (lateness + 1), at, term, episode));
            }
        }
        deliveries.sort_by_key(|(delivered, ..)| *delivered);
        let mut history = History::new(1000, KEY);
        let numbers = load(&mut history);
        let mut alerted = Vec::new();
        for (event, (_, at, term, episode)) in deliveries.iter().enumerate() {
            let seen = Seen { owner: 0, term: *term as u8, at: *at, event: 1 + event as u32 };
            if see(&mut history, numbers, seen).is_new() {
                alerted.push((*term, *episode));
            }
        }
        alerted.sort_unstable();
        // In the batch definition, each episode alerts once: on its first event in the order of time.
        let mut expected: Vec<_> = deliveries.iter().map(|(_, _, term, episode)| (*term, *episode)).collect();
        expected.sort_unstable();
        expected.dedup();
        prop_assert_eq!(alerted, expected);
    }
}

fn load_unbegun(history: &mut History) -> [OwnerNumber; 3] {
    let mut load = |purpose, id, window| history.load_owner(purpose, id, &["user.name"], window).expect("room");
    let [first, second, groups] = WINDOWS;
    [
        load(Purpose::Groups, "groups", groups),
        load(Purpose::Tuples, "second", second),
        load(Purpose::Tuples, "first", first),
    ]
    .into_iter()
    .rev()
    .collect::<Vec<_>>()
    .try_into()
    .expect("three")
}

#[test]
fn histories_under_other_keys_are_not_merged() {
    let seen = [Seen { owner: 0, term: 1, at: BEGIN, event: 1 }, Seen { owner: GROUPS, term: 1, at: BEGIN, event: 1 }];
    let other = history_of(&seen, 10);
    let mut history = History::new(10, Key([8; 16]));
    load(&mut history);
    let before = State::of(&history);
    assert!(!history.merge(&other));
    assert_eq!(State::of(&history), before);
}

#[test]
fn merging_keeps_to_the_capacity() {
    let seen = |terms: core::ops::Range<u8>| -> Vec<Seen> {
        terms.map(|term| Seen { owner: 0, term, at: BEGIN + u32::from(term), event: 1 }).collect()
    };
    let (mut history, other) = (history_of(&seen(0..8), 10), history_of(&seen(4..20), 20));
    assert!(history.merge(&other));
    assert!(history.len() <= 10, "{} entries", history.len());
}

#[test]
fn a_torn_batch_is_not_what_the_model_is_told() {
    let mut kept = Kept::new(10);
    kept.see(Seen { owner: 0, term: 1, at: BEGIN, event: 1 });
    let len = kept.disk.state_file().len();
    kept.crash(20);
    assert!(len > HEADER_LEN && kept.history.clock() == BEGIN && kept.history.repairs().recoveries == 1);
}
