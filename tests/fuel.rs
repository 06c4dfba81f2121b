//! The fuel a record takes, against what `fuel.toml` has.
//!
//! In: the built module, and the baseline. Out: that no kind of record takes more than 5% above it, and none so much less that the
//! baseline says nothing. Not here: time, which no test can hold anything to.

use std::collections::BTreeMap;

use firstseen::guest::{Module, Options};
use firstseen::measured::{Calls, Kind, fuel_per_record};

use crate::subjects::{module_file, new_directory, workspace};

/// How much more than the baseline is let pass.
const MORE: f64 = 1.05;

/// How much less is: beyond, the baseline is to be set anew, or growth would go unnoticed.
const LESS: f64 = 0.85;

#[test]
fn no_record_takes_more_than_the_baseline() {
    let text = std::fs::read_to_string(workspace().join("tests/fuel.toml")).expect("the baseline is there");
    let baseline: BTreeMap<String, u64> = toml::from_str(&text).expect("the baseline is TOML");
    let bytes = std::fs::read(module_file()).expect("the module is built");
    let counting = Module::compile(&bytes, &Options { fuel: true }).expect("the module compiles");
    let kinds = [("uninteresting", Kind::Uninteresting), ("known", Kind::Known), ("alerting", Kind::Alerting)];
    assert_eq!(baseline.len(), kinds.len(), "{baseline:?}");
    let mut wrong = Vec::new();
    for (name, kind) in kinds {
        let directory = new_directory();
        let measured = fuel_per_record(&counting, kind, Calls::FluentBit, &directory).expect("the module runs");
        let _ = std::fs::remove_dir_all(&directory);
        let ratio = measured as f64 / baseline[name] as f64;
        if !(LESS..=MORE).contains(&ratio) {
            wrong.push(format!("{name}: {measured} a record, the baseline is {}", baseline[name]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("; "));
}
