//! Any bytes as a state file: read, used, written, and read again.
//!
//! In: any bytes; once as they are, and once behind a header and with the checksums of what looks like batches, so that
//! records are reached. Out: nothing, or a panic: what recovery makes of them is bounded, can be used, and is the same
//! after it was written. Not here: what a damaged file ought to say, which the engine's own tests know.

use std::cell::RefCell;
use std::rc::Rc;

use firstseen_engine::journal::keeper::{self, Keeper};
use firstseen_engine::journal::recovery::{Recovered, Unreadable, recover};
use firstseen_engine::journal::{MAX_RECORDS_LEN, header, live_len};
use firstseen_engine::new_terms::fingerprint::{EventHash, Fingerprint, Key};
use firstseen_engine::new_terms::history::entry::Entry;
use firstseen_engine::new_terms::history::ghosts::Ghost;
use firstseen_engine::new_terms::history::owner::{Purpose, Standing};
use firstseen_engine::new_terms::history::{History, Repairs};
use firstseen_engine::rule::Sync;
use firstseen_engine::storage::{Status, Storage, StorageError};

const KEY: Key = Key([7; 16]);
const CAPACITY: u32 = 64;
/// Of how many owners a history is looked at further.
const MAX_OWNERS: usize = 300;

/// Files by what they are for: the state file and its replacement.
#[derive(Debug, Default, Clone)]
struct Memory {
    file: Rc<RefCell<Option<Vec<u8>>>>,
    replacement: Vec<u8>,
    position: usize,
}

impl Memory {
    fn with(bytes: &[u8]) -> Memory {
        Memory { file: Rc::new(RefCell::new(Some(bytes.to_vec()))), ..Memory::default() }
    }
}

impl Storage for Memory {
    fn open(&mut self) -> Result<bool, StorageError> {
        self.position = 0;
        Ok(self.file.borrow().is_some())
    }

    fn read(&mut self, into: &mut [u8]) -> Result<usize, StorageError> {
        let file = self.file.borrow();
        let rest = &file.as_ref().ok_or(StorageError::IO)?[self.position..];
        let len = rest.len().min(into.len());
        into[..len].copy_from_slice(&rest[..len]);
        self.position += len;
        Ok(len)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.file.borrow_mut().as_mut().ok_or(StorageError::IO)?.extend_from_slice(bytes);
        Ok(())
    }

    fn status(&mut self) -> Result<Status, StorageError> {
        let len = self.file.borrow().as_ref().ok_or(StorageError::IO)?.len() as u64;
        Ok(Status { len, is_linked: true })
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        Ok(())
    }

    fn create(&mut self) -> Result<(), StorageError> {
        self.replacement.clear();
        Ok(())
    }

    fn append_to_replacement(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.replacement.extend_from_slice(bytes);
        Ok(())
    }

    fn replace(&mut self, _: bool) -> Result<(), StorageError> {
        *self.file.borrow_mut() = Some(std::mem::take(&mut self.replacement));
        Ok(())
    }

    fn set_aside(&mut self) -> Result<(), StorageError> {
        *self.file.borrow_mut() = None;
        Ok(())
    }
}

/// All that a history knows of a rule.
type Known = (u16, Fingerprint, Purpose, String, String, Standing, Vec<(Fingerprint, Entry)>);

/// All that a history knows.
#[derive(Debug, PartialEq)]
struct State {
    clock: u32,
    repairs: Repairs,
    rules: Vec<Known>,
    ghosts: Vec<(usize, Ghost)>,
}

impl State {
    fn of(history: &History) -> State {
        let rules: Vec<Known> = history
            .owners()
            .filter(|(_, owner)| !owner.is_empty() || owner.standing != Standing::default())
            .map(|(number, owner)| {
                let (id, fields) = (owner.rule_id.clone(), owner.fields.clone());
                (number.0, owner.print, owner.purpose, id, fields, owner.standing, owner.entries().collect())
            })
            .collect();
        let entries: usize = rules.iter().map(|rule| rule.6.len()).sum();
        assert_eq!(history.len(), entries, "the length is not that of the entries");
        assert!(entries <= CAPACITY as usize, "{entries} entries");
        let ghosts: Vec<_> = history.ghosts().collect();
        assert_eq!(history.ghost_count(), ghosts.len(), "the count is not that of the ghosts");
        State { clock: history.clock(), repairs: history.repairs(), rules, ghosts }
    }
}

fn recovered(memory: &Memory) -> Result<Recovered, Unreadable> {
    let mut storage = memory.clone();
    assert_eq!(storage.open(), Ok(true));
    recover(&mut storage, CAPACITY)
}

/// Puts right the checksum of whatever looks like a batch.
fn with_checksums(mut bytes: Vec<u8>) -> Vec<u8> {
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let len = match rest.get(4..8).filter(|_| rest.starts_with(b"\xf1rst")) {
            Some(len) => u32::from_le_bytes([len[0], len[1], len[2], len[3]]) as usize,
            None => usize::MAX,
        };
        match rest.get(16..).and_then(|records| records.get(..len)).filter(|_| len <= MAX_RECORDS_LEN) {
            Some(records) => {
                let checksum = KEY.checksum(&[&rest[4..8], records]).to_le_bytes();
                bytes[at + 8..at + 16].copy_from_slice(&checksum);
                at += 16 + len;
            }
            None => at += 1,
        }
    }
    bytes
}

/// Uses a history as rules do; each time something changes.
fn live(history: &mut History, keeper: &mut Keeper) {
    let key = history.key();
    let tuples = history.load_owner(Purpose::Tuples, "rule", &["user.name"], 1000);
    let groups = history.load_owner(Purpose::Groups, "rule", &["user.name"], 500);
    history.begin(5);
    keeper.commit(history, 5);
    let (Some(tuples), Some(groups)) = (tuples, groups) else { return };
    let clock = history.clock();
    let times = [0, 1, clock.saturating_sub(1000), clock, clock.saturating_add(1001), u32::MAX];
    for (number, at) in (1..).zip(times) {
        for term in ["a", "b"] {
            let print = key.print(&[term]);
            let _ = history.observe(tuples, print, at, EventHash(number));
            let _ = history.observe_group(groups, print, at, EventHash(number));
        }
        // What the file knows already, as far as it is a rule's that runs.
        for owner in [tuples, groups] {
            let known = history.owner(owner).and_then(|owner| owner.entries().next());
            if let Some((print, _)) = known {
                let _ = history.observe(owner, print, at, EventHash(number));
                let _ = history.observe_group(owner, print, at, EventHash(number));
            }
        }
        history.hold(tuples, 1);
        keeper.commit(history, 5);
    }
}

fn check(file: &[u8]) {
    let memory = Memory::with(file);
    let found = recovered(&memory).ok();
    if let Some(Recovered { history, len, damaged, torn }) = &found {
        assert!(*len == file.len() as u64 && damaged + torn <= *len, "{damaged} and {torn} of {len}");
        // Each number of an owner takes memory for all below it: the rest is the same with few of them, only slower.
        if history.owners().count() > MAX_OWNERS {
            return;
        }
    }
    let (mut keeper, mut history) = Keeper::open(Box::new(memory.clone()), Sync::None, CAPACITY, KEY);
    let told: Vec<String> = std::iter::from_fn(|| keeper.take_notice()).collect();
    assert!(told.len() <= 1, "{told:?}");
    if let Some(found) = &found {
        assert_eq!(told.is_empty(), found.damaged == 0, "{told:?}");
        let state = State { repairs: history.repairs(), ..State::of(&found.history) };
        assert_eq!(State::of(&history), state, "opening is recovering");
    }
    live(&mut history, &mut keeper);
    assert_eq!(keeper.take_notice(), None);
    if keeper.is_durable() {
        let again = recovered(&memory).expect("a file that was just written");
        assert_eq!((again.damaged, again.torn), (0, 0));
        assert_eq!(State::of(&again.history), State::of(&history), "what was appended");
    }
    let written = keeper::write(&mut memory.clone(), &history, true).expect("nothing fails here");
    assert!(live_len(&history) >= written, "{} for {written}", live_len(&history));
    let again = recovered(&memory).expect("a file that was just written");
    assert_eq!(State::of(&again.history), State::of(&history), "what was written");
    let mut merged = History::new(CAPACITY, history.key());
    assert!(merged.merge(&history));
    history.age_out_removed_rules();
}

/// Any bytes are a state file that can be used, or are refused.
pub fn state_file(data: &[u8]) {
    check(data);
    check(&[header(KEY), with_checksums(data.to_vec())].concat());
}
