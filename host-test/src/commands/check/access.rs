//! What the user who runs Fluent Bit may read and write, by owners, groups and modes.
//!
//! In: `--user`, and paths. Out: the first thing on the way to a path that is denied. Not here: access lists, capabilities, what is
//! mounted read-only; users whose groups come from elsewhere than this machine.

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, bail};
use firstseen::fluent_bit::Place;
use nix::unistd::getgrouplist;

use super::Check;

/// A user of this machine.
#[derive(Debug)]
pub(super) struct User {
    name: String,
    id: u32,
    groups: Vec<u32>,
}

/// What is to be done with a file or directory, as bits of its mode.
#[derive(Debug, Clone, Copy)]
pub(super) struct Want {
    bits: u32,
    verb: &'static str,
}

impl Want {
    pub(super) const READ: Want = Want { bits: 4, verb: "read" };
    pub(super) const READ_AND_WRITE: Want = Want { bits: 6, verb: "read and write" };
    pub(super) const ENTER: Want = Want { bits: 1, verb: "enter" };
    /// A directory, in which files are read, made and replaced.
    pub(super) const CHANGE: Want = Want { bits: 7, verb: "read and write" };
}

impl User {
    /// # Errors
    /// There is no such user.
    pub(super) fn of_name(name: &str) -> anyhow::Result<User> {
        let found = nix::unistd::User::from_name(name).with_context(|| format!("cannot look up the user {name}"))?;
        let Some(user) = found else { bail!("there is no user {name} here: name the user that runs Fluent Bit") };
        let groups = getgrouplist(&CString::new(name)?, user.gid)
            .with_context(|| format!("cannot look up the groups of the user {name}"))?;
        Ok(User {
            name: name.to_owned(),
            id: user.uid.as_raw(),
            groups: groups.iter().map(|group| group.as_raw()).collect(),
        })
    }

    fn may(&self, metadata: &fs::Metadata, want: Want) -> bool {
        let shift = match () {
            () if self.id == 0 => return true,
            () if metadata.uid() == self.id => 6,
            () if self.groups.contains(&metadata.gid()) => 3,
            () => 0,
        };
        metadata.mode() >> shift & want.bits == want.bits
    }

    /// What on the way to a path, or the path itself, this user cannot use, and how. What is not there is not denied.
    fn denied(&self, path: &Path, want: Want) -> Option<(String, &'static str)> {
        let path = fs::canonicalize(path).ok()?;
        let mut way: Vec<&Path> = path.ancestors().skip(1).collect();
        way.reverse();
        let steps = way.into_iter().map(|directory| (directory, Want::ENTER)).chain([(path.as_path(), want)]);
        for (step, want) in steps {
            if !self.may(&fs::metadata(step).ok()?, want) {
                return Some((step.display().to_string(), want.verb));
            }
        }
        None
    }
}

impl Check {
    /// Whether the user may do this with a path; if not, that is found, once a path.
    pub(super) fn check_access(&mut self, place: &Place, what: &str, path: &Path, want: Want) -> bool {
        let Some(user) = &self.user else { return true };
        let Some((denied, verb)) = user.denied(path, want) else { return true };
        let name = user.name.clone();
        if self.denied.insert(denied.clone()) {
            let shown = path.display();
            let whole = if Path::new(&denied) == path || want.bits == Want::ENTER.bits {
                format!("the user {name} cannot {verb} {what} {shown}")
            } else {
                format!("the user {name} cannot {verb} {denied}, on the way to {what} {shown}")
            };
            let to_do = format!("change its owner or mode, for instance `chown {name} {denied}`");
            self.find(place, whole, to_do);
        }
        false
    }
}
