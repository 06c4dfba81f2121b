use std::vec::Vec;

use super::*;

const WINDOW: u32 = 1000;

/// A history with one owner of tuples and one of groups, both of [`WINDOW`] seconds.
fn history(capacity: u32) -> (History, OwnerNumber, OwnerNumber) {
    let mut history = History::new(capacity, Key([7; 16]));
    let tuples = history.load_owner(Purpose::Tuples, "rule", &["user.name"], WINDOW).expect("room");
    let groups = history.load_owner(Purpose::Groups, "rule", &["user.name"], WINDOW).expect("room");
    (history, tuples, groups)
}

fn print(history: &History, term: &str) -> Fingerprint {
    history.key().print(&[term])
}

fn event(name: &str) -> EventHash {
    Key([7; 16]).event(name.as_bytes())
}

#[test]
fn a_tuple_is_known_for_the_window_after_its_last_sighting() {
    let (mut history, tuples, _) = history(10);
    let a = print(&history, "a");
    let mut observe = |at, name: &str| history.observe(tuples, a, at, event(name));
    assert_eq!(observe(5, "1"), Sighting::New(Reason::NeverSeen));
    assert_eq!(observe(1005, "2"), Sighting::Known);
    // Rounded up to 1010.
    assert_eq!(observe(2010, "3"), Sighting::Known);
    assert_eq!(observe(500, "late"), Sighting::Known);
    assert_eq!(observe(3011, "4"), Sighting::New(Reason::Expired { last_seen: 2_010_000 }));
    assert_eq!(observe(3011, "4"), Sighting::Again(Reason::Expired { last_seen: 2_010_000 }));
    assert_eq!(observe(3011, "5"), Sighting::Known);
    assert_eq!(observe(5, "1"), Sighting::Known);
    let entry = history.owner(tuples).and_then(|owner| owner.get(a)).copied().expect("an entry");
    assert_eq!((entry.first_seen, entry.last_seen), (5, 3011));
}

#[test]
fn a_group_lasts_from_the_event_on_that_opened_it() {
    let (mut history, _, groups) = history(10);
    let group = print(&history, "group");
    let mut observe = |at, name: &str| history.observe_group(groups, group, at, event(name));
    let opens = |start| GroupSighting::Opens { start, again: false };
    let again = |start| GroupSighting::Opens { start, again: true };
    let suppressed = |start, end, count| GroupSighting::Suppressed { start, end, count };
    assert_eq!(observe(5000, "1"), opens(5000));
    assert_eq!(observe(5800, "2"), suppressed(5000, 5800, 2));
    assert_eq!(observe(4500, "late"), suppressed(5000, 5800, 3));
    assert_eq!(observe(5000, "1"), again(5000));
    assert_eq!(observe(5999, "3"), suppressed(5000, 5999, 4));
    assert_eq!(observe(6000, "4"), opens(6000));
    // Delivered again, now inside the group that another event has opened since: that group stays as it is.
    assert_eq!(observe(5800, "2"), suppressed(6000, 6000, 2));
    assert_eq!(observe(6000, "4"), again(6000));
    assert_eq!(observe(6999, "5"), suppressed(6000, 6999, 3));
    assert_eq!(observe(2100, "of a group gone by"), opens(2100));
    assert_eq!(observe(2900, "of the same"), suppressed(2100, 2900, 2));
    assert_eq!(observe(2000, "of the same, earlier"), suppressed(2100, 2900, 3));
    assert_eq!(observe(1999, "of one before"), opens(1999));
    assert_eq!(observe(6502, "6"), suppressed(6000, 6999, 4));
}

#[test]
fn the_one_seen_the_longest_ago_goes_first_and_is_told_as_evicted_inside_its_window() {
    let (mut history, tuples, _) = history(2);
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|term| print(&history, term));
    history.observe(tuples, a, 1, event("1"));
    history.observe(tuples, b, 2, event("2"));
    assert_eq!(history.observe(tuples, a, 3, event("3")), Sighting::Known);
    history.observe(tuples, c, 4, event("4"));
    assert_eq!(history.len(), 2);
    assert_eq!(history.observe(tuples, a, 5, event("5")), Sighting::Known);
    assert_eq!(history.observe(tuples, b, 6, event("6")), Sighting::New(Reason::Evicted));
    assert_eq!(history.observe(tuples, b, 6, event("6")), Sighting::Again(Reason::Evicted));
    assert_eq!(history.observe(tuples, d, 7, event("7")), Sighting::New(Reason::NeverSeen));
    let standing = history.standing(tuples);
    assert_eq!((standing.evictions, standing.evicted_until), (3, 6));
    // The last one had to go at an age of less than ten seconds, which times are rounded to, where a thousand are wanted.
    assert_eq!(standing.capacity_needed, 2 * WINDOW / 10);
    assert_eq!(history.observe(tuples, c, 4 + WINDOW + 1, event("8")), Sighting::New(Reason::NeverSeen));
}

#[test]
fn what_has_expired_goes_before_what_was_seen_longer_ago() {
    let mut history = History::new(2, Key([7; 16]));
    let long = history.load_owner(Purpose::Tuples, "long", &["user.name"], 10_000).expect("room");
    let short = history.load_owner(Purpose::Tuples, "short", &["user.name"], 10).expect("room");
    let [a, b, c] = ["a", "b", "c"].map(|term| print(&history, term));
    history.observe(long, a, 1, event("1"));
    history.observe(short, b, 2, event("2"));
    history.observe(long, c, 100, event("3"));
    assert_eq!(history.observe(long, a, 101, event("4")), Sighting::Known);
    assert_eq!((history.standing(short).evictions, history.standing(short).expired_until), (0, 2));
    assert_eq!(history.standing(long).evictions, 0);
}

#[test]
fn the_capacity_is_a_bound_whatever_comes() {
    let (mut history, tuples, groups) = history(25);
    for number in 0..5000_u32 {
        let print = history.key().print(&[std::format!("{}", number * 7919 % 400)]);
        match number % 3 {
            0 => drop(history.observe_group(groups, print, number * 31 % 5000, EventHash(number))),
            _ => drop(history.observe(tuples, print, number * 17 % 5000, EventHash(number))),
        }
        let held: usize = history.owners().map(|(_, owner)| owner.len()).sum();
        assert!(history.len() == held && held <= 25, "{held} entries");
    }
}

#[test]
fn a_rule_whose_fields_change_starts_anew_and_one_that_is_gone_ages_out() {
    let (mut history, tuples, _) = history(10);
    let a = print(&history, "a");
    history.begin(1);
    history.observe(tuples, a, 5000, event("1"));
    let other = history.load_owner(Purpose::Tuples, "rule", &["user.id"], WINDOW).expect("room");
    assert_ne!(other, tuples);
    assert_eq!((history.standing(other).since, history.standing(tuples).since), (0, 1));

    let mut later = History::new(10, history.key());
    assert!(later.merge(&history));
    let running = later.load_owner(Purpose::Tuples, "rule", &["user.id"], WINDOW).expect("room");
    later.age_out_removed_rules();
    assert_eq!(later.len(), 1, "inside its window");
    later.observe(running, a, 6001, event("2"));
    later.age_out_removed_rules();
    assert_eq!(later.len(), 1, "only that of the rule that runs");
}

#[test]
fn learning_the_same_again_changes_nothing_whatever_the_order() {
    let times: Vec<u32> = (0..200).map(|number: u32| number * 6151 % 9000).collect();
    let (mut history, tuples, groups) = history(1000);
    let learn = |history: &mut History| {
        for (number, at) in times.iter().enumerate() {
            let print = history.key().print(&[std::format!("{}", number % 7)]);
            history.observe(tuples, print, *at, EventHash::NONE);
            history.learn_group(groups, print, *at);
        }
        let entries = history.owners().flat_map(|(number, owner)| owner.entries().map(move |entry| (number, entry)));
        let mut entries: Vec<_> = entries.collect();
        entries.sort_by_key(|(number, (print, _))| (*number, *print));
        entries
    };
    let once = learn(&mut history);
    assert_eq!(once.len(), 14);
    assert_eq!(learn(&mut history), once);
    // What was learned is known, and raises no alert when it is delivered again.
    let print = history.key().print(&["3"]);
    let last = once.iter().find(|(_, (known, _))| *known == print).map(|(_, (_, entry))| entry.last_seen);
    assert_eq!(history.observe(tuples, print, last.expect("an entry"), event("again")), Sighting::Known);
    assert!(matches!(history.observe_group(groups, print, 1, event("again")), GroupSighting::Suppressed { .. }));
}
