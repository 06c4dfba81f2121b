//! All that a history knows, to be compared: whom it knows, their entries in the order in which they will be forgotten,
//! their standing, the ghosts, and the clock. What became of the file is not part of it.

use std::boxed::Box;
use std::string::String;
use std::vec::Vec;

use crate::journal::keeper::Keeper;
use crate::journal::recovery::{Recovered, Unreadable, recover};
use crate::new_terms::fingerprint::{Fingerprint, Key};
use crate::new_terms::history::entry::{Entry, Seconds};
use crate::new_terms::history::ghosts::Ghost;
use crate::new_terms::history::owner::{Purpose, Standing};
use crate::new_terms::history::{History, OwnerNumber};
use crate::rule::Sync;

use super::memory::Disk;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) clock: Seconds,
    pub(crate) owners: Vec<OwnerState>,
    pub(crate) ghosts: Vec<(usize, Ghost)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnerState {
    pub(crate) number: OwnerNumber,
    pub(crate) print: Fingerprint,
    pub(crate) purpose: Purpose,
    pub(crate) rule_id: String,
    pub(crate) fields: String,
    pub(crate) standing: Standing,
    pub(crate) entries: Vec<(Fingerprint, Entry)>,
}

impl State {
    /// What a history knows. Owners of which nothing is known yet are left out: the file may leave them out as well.
    pub(crate) fn of(history: &History) -> State {
        let held: usize = history.owners().map(|(_, owner)| owner.entries().count()).sum();
        assert_eq!(history.len(), held, "the length is not that of the entries");
        let owners = history.owners().filter(|(_, owner)| !owner.is_empty() || owner.standing != Standing::default());
        let owners = owners.map(|(number, owner)| OwnerState {
            number,
            print: owner.print,
            purpose: owner.purpose,
            rule_id: owner.rule_id.clone(),
            fields: owner.fields.clone(),
            standing: owner.standing,
            entries: owner.entries().collect(),
        });
        let ghosts: Vec<_> = if history.ghost_count() == 0 { Vec::new() } else { history.ghosts().collect() };
        assert_eq!(history.ghost_count(), ghosts.len(), "the count is not that of the ghosts");
        State { clock: history.clock(), owners: owners.collect(), ghosts }
    }

    /// The same whatever the numbers of the owners and the order of entries.
    pub(crate) fn in_no_order(mut self) -> State {
        for owner in &mut self.owners {
            owner.number = OwnerNumber(0);
            owner.entries.sort_by_key(|(print, _)| *print);
        }
        self.owners.sort_by_key(|owner| owner.print);
        self
    }

    pub(crate) fn entries(&self) -> usize {
        self.owners.iter().map(|owner| owner.entries.len()).sum()
    }
}

/// Reads a file as recovery does.
pub(crate) fn recovered(bytes: &[u8], capacity: u32) -> Result<Recovered, Unreadable> {
    let mut storage: Box<_> = Disk::with_file(bytes).storage();
    assert_eq!(crate::storage::Storage::open(&mut *storage), Ok(true));
    let recovered = recover(&mut *storage, capacity)?;
    assert_eq!(recovered.len, bytes.len() as u64);
    assert_eq!(recovered.history.changes(), [], "what is read is no change");
    assert!(recovered.history.len() <= capacity as usize, "more than the capacity");
    Ok(recovered)
}

/// Opens a disk's state file as a filter does; with all notices.
pub(crate) fn opened(disk: &Disk, sync: Sync, capacity: u32) -> (Keeper, History, Vec<String>) {
    let (mut keeper, history) = Keeper::open(disk.storage(), sync, capacity, Key([9; 16]));
    let notices = notices(&mut keeper);
    (keeper, history, notices)
}

pub(crate) fn notices(keeper: &mut Keeper) -> Vec<String> {
    core::iter::from_fn(|| keeper.take_notice()).collect()
}
