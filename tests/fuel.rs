//! The fuel that a record takes, a start, and the first alert, against what `fuel.toml` has.
//!
//! In: the built module, and the baseline. Out: that none of these takes more than 5% above it, and none so
//! much less that the baseline says nothing. Not here: time, which no test can hold anything to.

use std::collections::BTreeMap;

use firstseen::guest::{Module, Options};
use firstseen::measured::{Calls, Kind, fuel_of_start, fuel_per_record};

use crate::subjects::{module_file, new_directory, workspace};

/// How much more than the baseline is let pass.
const MORE: f64 = 1.05;

/// How much less is: beyond, the baseline is to be set anew, or growth would go unnoticed.
const LESS: f64 = 0.85;

#[test]
fn neither_a_start_nor_a_record_takes_more_than_the_baseline() {
    let text = std::fs::read_to_string(workspace().join("tests/fuel.toml")).expect("the baseline is there");
    let baseline: BTreeMap<String, u64> = toml::from_str(&text).expect("the baseline is TOML");
    let bytes = std::fs::read(module_file()).expect("the module is built");
    let counting = Module::compile(&bytes, &Options { fuel: true, ..Options::default() }).expect("the module compiles");
    let kinds = [("uninteresting", Kind::Uninteresting), ("known", Kind::Known), ("alerting", Kind::Alerting)];
    assert_eq!(baseline.len(), kinds.len() + 2, "{baseline:?}");
    let directory = new_directory();
    let (start, first_alert) = fuel_of_start(&counting, &directory).expect("the module starts");
    let _ = std::fs::remove_dir_all(&directory);
    let mut measured = vec![("start", start), ("first_alert", first_alert)];
    for (name, kind) in kinds {
        let directory = new_directory();
        measured.push((name, fuel_per_record(&counting, kind, Calls::FluentBit, &directory).expect("the module runs")));
        let _ = std::fs::remove_dir_all(&directory);
    }
    let is_wrong = |(name, fuel): &&(&str, u64)| !(LESS..=MORE).contains(&(*fuel as f64 / baseline[*name] as f64));
    let says = |(name, fuel): &(&str, u64)| format!("{name}: {fuel}, the baseline is {}", baseline[*name]);
    let wrong: Vec<String> = measured.iter().filter(is_wrong).map(says).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("; "));
}
