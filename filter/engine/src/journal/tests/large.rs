//! Many tuples: what they take on the disk, and how long reading them takes.
//!
//! `cargo test --release -p firstseen-engine large -- --ignored --nocapture` prints the numbers.

use std::time::Instant;

use super::memory::Disk;
use super::state::recovered;
use crate::journal::keeper;
use crate::journal::live_len;
use crate::new_terms::fingerprint::{EventHash, Key};
use crate::new_terms::history::History;
use crate::new_terms::history::owner::Purpose;

/// Writes and reads so many tuples; what each takes in the file, and how many milliseconds reading them takes.
fn write_and_read(tuples: u32) -> (f64, f64) {
    let mut history = History::new(tuples, Key([7; 16]));
    let owner = history.load_owner(Purpose::Tuples, "rule", &["user.name"], 864_000).expect("room");
    history.begin(1);
    for number in 0..tuples {
        let print = history.key().print(&[std::format!("{number}")]);
        history.observe(owner, print, 1_790_812_800 + number / 10, EventHash(number + 1));
    }
    let disk = Disk::default();
    let len = keeper::write(&mut *disk.storage(), &history, false).expect("the disk is well");
    assert!(live_len(&history) >= len);
    drop(history);
    let file = disk.state_file();
    let begin = Instant::now();
    let recovered = recovered(&file, tuples).expect("a state file");
    let took = begin.elapsed();
    assert_eq!(recovered.history.len(), tuples as usize);
    assert_eq!((recovered.damaged, recovered.torn), (0, 0));
    (len as f64 / f64::from(tuples), took.as_secs_f64() * 1000.0)
}

#[test]
fn a_tuple_takes_about_35_bytes() {
    let (bytes, _) = write_and_read(20_000);
    assert!((35.0..35.1).contains(&bytes), "{bytes} bytes a tuple");
}

#[test]
#[ignore = "a measurement"]
fn a_million_tuples() {
    for tuples in [10_000, 100_000, 1_000_000] {
        let (bytes, ms) = write_and_read(tuples);
        std::eprintln!("{tuples} tuples: {bytes:.3} bytes each, read within {ms:.1} ms");
    }
}
