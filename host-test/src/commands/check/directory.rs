//! The configuration directory of a filter, what stands in it, and the other paths that the module is given.

use std::fs;
use std::path::Path;

use firstseen::configuration;
use firstseen::fluent_bit::{Place, Step};
use firstseen_engine::rule::Pack;
use firstseen_engine::storage::STATE_FILE;

use super::access::Want;
use super::{Check, Finding};
use crate::commands::compile;

impl Check {
    /// Checks the configuration directory and what stands in it; the pack that the module will run, if it can.
    pub(super) fn check_directory(&mut self, step: &Step) -> Option<Pack> {
        let paths = step.property("accessible_paths");
        let place = paths.map_or(&step.place, |paths| &paths.place);
        let mut all = step.values("accessible_paths").flat_map(|value| value.split(',')).map(str::trim);
        let first = all.find(|path| !path.is_empty());
        let directory = Path::new(first.unwrap_or("."));
        let shown = match first {
            Some(first) => format!("the directory {first}"),
            None => "Fluent Bit's working directory, which is the filter's without Accessible_Paths,".to_owned(),
        };
        let real = match fs::canonicalize(directory) {
            Ok(real) if real.is_dir() => real,
            Ok(_) => {
                self.find(
                    place,
                    format!("{} is no directory", directory.display()),
                    "name a directory for this filter",
                );
                return None;
            }
            Err(error) => {
                self.find(place, format!("{shown} cannot be read ({error})"), "make it, for this filter alone");
                return None;
            }
        };
        match self.directories.get(&real) {
            Some(other) => {
                let what = format!("{shown} is also that of the filter at {other}, and both would write one history");
                self.find(place, what, "give each filter a directory of its own in Accessible_Paths");
            }
            None => {
                self.directories.insert(real, place.clone());
            }
        }
        self.check_further_paths(step);
        // A directory that cannot be read looks as if it had everything.
        if let Err(error) = fs::read_dir(directory).and_then(|_| fs::metadata(directory.join("."))) {
            let what = format!("{shown} cannot be read by this user ({error})");
            self.find(place, what, "run this as the user that runs Fluent Bit, or as root with --user NAME");
            return None;
        }
        self.check_files(place, directory);
        self.check_pack(place, directory)
    }

    /// Each further path must be there as well: Fluent Bit opens all of them before it starts the module.
    fn check_further_paths(&mut self, step: &Step) {
        let Some(paths) = step.property("accessible_paths") else { return };
        // In YAML each may be an entry of a list.
        let all = step.values("accessible_paths").flat_map(|value| value.split(','));
        for path in all.map(str::trim).filter(|path| !path.is_empty()).skip(1) {
            let what = match fs::metadata(path) {
                Ok(found) if found.is_dir() => {
                    self.check_access(&paths.place, "the directory", Path::new(path), Want::ENTER);
                    continue;
                }
                Ok(_) => format!("Accessible_Paths names {path}, which is no directory"),
                Err(error) => format!("Accessible_Paths names {path}, which cannot be read ({error})"),
            };
            let what = format!("{what}, and the filter would not start");
            self.find(&paths.place, what, "make it, or leave it out");
        }
    }

    /// The user must be able to change the history, and to read the pack.
    fn check_files(&mut self, place: &Place, directory: &Path) {
        if !self.check_access(place, "the directory", directory, Want::CHANGE) {
            return;
        }
        for (name, want) in [
            (configuration::PACK, Want::READ),
            (configuration::LAST_PACK, Want::READ),
            (STATE_FILE, Want::READ_AND_WRITE),
        ] {
            let file = directory.join(name);
            if fs::symlink_metadata(&file).is_ok() {
                self.check_access(place, "the file", &file, want);
            }
        }
    }

    fn check_pack(&mut self, place: &Place, directory: &Path) -> Option<Pack> {
        let file = directory.join(configuration::PACK);
        if let Ok(unread) = configuration::unread(directory) {
            compile::warn_of_unread(&unread);
        }
        match configuration::is_configuration(directory) {
            // The module asks for the names alone: a directory of rules without a rule is one, too.
            Ok(true) if fs::symlink_metadata(&file).is_err() => {
                let shown = directory.display();
                let what = format!(
                    "{shown} has settings or rules but no {}, and the filter would not start",
                    configuration::PACK
                );
                self.find(place, what, format!("run `firstseen compile {shown}`"));
                return None;
            }
            Ok(_) => {}
            Err(error) => {
                self.findings.push(Finding::of_error(place, &error));
                return None;
            }
        }
        match configuration::pack(Some(directory)) {
            Ok(pack) => {
                // Not wrong by itself: files that were copied are newer as well.
                if let Ok(Some(newer)) = configuration::newer_than_pack(directory) {
                    let (file, newer, directory) = (file.display(), newer.display(), directory.display());
                    tracing::warn!(
                        "{file} is older than {newer}; run `firstseen compile {directory}` to have the changes"
                    );
                }
                Some(pack)
            }
            Err(error) => {
                self.findings.push(Finding::of_error(place, &error));
                None
            }
        }
    }
}
