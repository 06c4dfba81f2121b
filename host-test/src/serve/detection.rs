//! The one module instance that all requests share, and what keeps it from being a bottleneck.
//!
//! In: unpacked bodies, from many threads. Out: each body with its alerts. There is one instance, and so one history: the same
//! tuple alerts once, however many requests bring it at the same time. Before the instance's lock, on the request's own
//! thread, records are found, and the engine's prefilter rejects those that no rule can match, which is what it would do in the
//! module; only the others wait for the instance, one batch at a time. Bounds: the instance's memory is the module's; a trap throws
//! it away, and the next batch begins with a new one and the history of the state file. Not here: HTTP.
//!
//! The prefilter is the host's own copy of the module's. A module whose built-in rules are others is given every record, where
//! those rules run.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, TryLockError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use firstseen_engine::prefilter::Prefilter;
use firstseen_engine::rule::pack;
use firstseen_engine::status::Status;

use crate::alerts::{self, Alert};
use crate::configuration;
use crate::guest::{Answer, Entry, Error, Instance, Module};
use crate::native_search::NativeSearch;
use crate::serve::batch::{self, Batch, Change};

/// How many records that made the module trap are remembered.
const MAX_TRAPS: usize = 1024;

/// How often the module is given the time when no record is, so that it knows how long it has been learning.
const TICK: Duration = Duration::from_secs(1);

/// The module at work, shared.
#[derive(Debug)]
pub struct Detection {
    module: Module,
    /// The pack that the module holds is the one that this program holds.
    same_built_in: bool,
    directory: Option<PathBuf>,
    entry: Entry,
    tag: Vec<u8>,
    max_record: usize,
    rules: RwLock<Arc<Rules>>,
    instance: Mutex<Shared>,
    hasher: RandomState,
}

/// What is known of the rules that run.
#[derive(Debug)]
struct Rules {
    /// Nothing, if every record is to be given to the module.
    prefilter: Option<Prefilter>,
    output_key: String,
    /// Which start of the instance they belong to.
    start: u64,
}

/// What one request at a time has.
#[derive(Debug)]
struct Shared {
    instance: Instance,
    start: u64,
    last_call: Option<Instant>,
    /// Hashes of the records that made the module trap, oldest first.
    trapped: VecDeque<u64>,
    /// The configuration's pack, as it was when the instance started.
    pack: Option<Vec<u8>>,
    /// A later pack that could not be used.
    refused: Option<Vec<u8>>,
}

/// What became of a body.
#[derive(Debug, Default)]
pub struct Tagged {
    /// The body to pass on instead; `None` if it is to pass as it came.
    pub body: Option<Vec<u8>>,
    /// Whether nothing of it is left to pass on, since no record has an alert.
    pub is_empty: bool,
    /// What was found in it.
    pub batch: Batch,
    /// The rule and the reason of each alert; no reason for a rule that asks for no new terms.
    pub alerts: Vec<(String, String)>,
    /// Events in a group that has alerted already, by rule.
    pub suppressed: u64,
    /// Records that passed without being looked at, because the module had trapped on them before.
    pub passed_after_trap: u64,
}

/// What the module said, line by line, since it was asked last.
pub type Said = Vec<String>;

impl Detection {
    /// Starts the module with the history and the pack of a directory, if one is given.
    ///
    /// # Errors
    /// The module does not start, or its pack cannot be read.
    pub fn start(
        module: Module,
        bytes: &[u8],
        directory: Option<&Path>,
        entry: Entry,
        tag: &str,
        max_record: usize,
    ) -> anyhow::Result<(Detection, Said)> {
        let built_in = pack::encode(&configuration::pack(None)?);
        let same_built_in = memchr::memmem::find(bytes, &built_in).is_some();
        let (mut shared, rules) = start(&module, same_built_in, directory, 0)?;
        let said = take_said(&mut shared.instance);
        let detection = Detection {
            module,
            same_built_in,
            directory: directory.map(Path::to_path_buf),
            entry,
            tag: tag.as_bytes().to_vec(),
            max_record,
            rules: RwLock::new(Arc::new(rules)),
            instance: Mutex::new(shared),
            hasher: RandomState::new(),
        };
        Ok((detection, said))
    }

    /// Starts the module anew with the pack and the history as they are now. If that does not work, the old one goes on.
    ///
    /// # Errors
    /// Why it does not start.
    pub fn reload(&self) -> anyhow::Result<Said> {
        let mut shared = self.lock();
        let directory = self.directory.as_deref();
        let started = start(&self.module, self.same_built_in, directory, shared.start.wrapping_add(1));
        let (mut new, rules) = match started {
            Ok(started) => started,
            Err(error) => {
                shared.refused = read_pack(directory).ok().flatten();
                return Err(error);
            }
        };
        let mut said = take_said(&mut shared.instance);
        said.append(&mut take_said(&mut new.instance));
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
        *shared = new;
        Ok(said)
    }

    /// Whether there is another pack than the one that runs and one that was refused; one that is gone is none.
    pub fn has_new_pack(&self) -> bool {
        let Ok(Some(pack)) = read_pack(self.directory.as_deref()) else { return false };
        let shared = self.lock();
        ![&shared.pack, &shared.refused].contains(&&Some(pack))
    }

    /// Tags the records of a body.
    ///
    /// # Errors
    /// The module failed on a record, which the message names, or does not start. Nothing of the batch is to be passed on: it is
    /// to be sent again.
    pub fn tag(&self, body: &[u8]) -> Result<(Tagged, Said), Error> {
        let mut rules = self.rules();
        let mut batch = self.read(body, &rules);
        let mut tagged = Tagged::default();
        let (changes, said) = if batch.candidates.is_empty() {
            (Vec::new(), if batch.records > 0 { self.tell_the_time()? } else { Said::new() })
        } else {
            let mut shared = self.lock();
            while rules.start != shared.start {
                // Other rules came in between.
                drop(shared);
                rules = self.rules();
                batch = self.read(body, &rules);
                shared = self.lock();
            }
            let changes = self.call_each(&mut shared, body, &batch, &mut tagged);
            let said = take_said(&mut shared.instance);
            drop(shared);
            (changes?, said)
        };
        for (place, change) in &changes {
            if let Some(appended) = alerts::appended(&body[place.clone()], change, &rules.output_key) {
                let found = appended.alerts.iter().filter_map(|alert| Alert::read(alert));
                tagged.alerts.extend(found.map(|alert| {
                    let reason = alert.new_terms.and_then(|new_terms| new_terms.reason).unwrap_or_default();
                    (alert.rule.id, reason)
                }));
                tagged.suppressed += appended.suppressed.len() as u64;
            }
        }
        tagged.body = match self.entry {
            Entry::Alerts => Some(batch::of(&changes, batch.is_array)),
            Entry::Firstseen if changes.is_empty() => None,
            Entry::Firstseen => Some(batch::replaced(body, &changes)),
        };
        tagged.is_empty = self.entry == Entry::Alerts && changes.is_empty();
        tagged.batch = batch;
        Ok((tagged, said))
    }

    /// Whether a body may be tagged piece by piece: each piece passes with its alerts. Of alerts alone, a body is made as a whole.
    pub fn works_in_pieces(&self) -> bool {
        self.entry == Entry::Firstseen
    }

    /// How the filter is, in numbers, if the module says.
    ///
    /// # Errors
    /// The module failed.
    pub fn status(&self) -> Result<Option<Status>, Error> {
        self.lock().instance.status()
    }

    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // What a panic leaves behind is an instance between two records.
        self.instance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, body: &[u8], rules: &Rules) -> Batch {
        batch::read(body, self.max_record, |record| match &rules.prefilter {
            Some(prefilter) => prefilter.is_candidate(&NativeSearch(record)),
            None => true,
        })
    }

    /// Gives the candidates to the module; those that it changed.
    fn call_each(
        &self,
        shared: &mut Shared,
        body: &[u8],
        batch: &Batch,
        tagged: &mut Tagged,
    ) -> Result<Vec<Change>, Error> {
        let (sec, nsec) = now();
        let mut changes = Vec::new();
        for place in &batch.candidates {
            let record = &body[place.clone()];
            if !shared.trapped.is_empty() && shared.trapped.contains(&self.hasher.hash_one(record)) {
                // It is delivered again: to refuse it for ever would stop the pipeline.
                tagged.passed_after_trap += 1;
                continue;
            }
            match shared.instance.call_lean(self.entry, &self.tag, sec, nsec, record) {
                Ok(Answer::Untouched | Answer::Dropped) => {}
                Ok(Answer::Changed(changed)) => changes.push((place.clone(), changed.to_vec())),
                Err(error) => {
                    if !matches!(error, Error::Start { .. }) {
                        if shared.trapped.len() == MAX_TRAPS {
                            shared.trapped.pop_front();
                        }
                        shared.trapped.push_back(self.hasher.hash_one(record));
                    }
                    return Err(error);
                }
            }
        }
        shared.last_call = Some(Instant::now());
        Ok(changes)
    }

    /// Gives the module the time, if it has had none for long and is not at work; nobody waits for it.
    fn tell_the_time(&self) -> Result<Said, Error> {
        let mut shared = match self.instance.try_lock() {
            Ok(shared) => shared,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(Said::new()),
        };
        if shared.last_call.is_none_or(|last| last.elapsed() >= TICK) {
            let (sec, nsec) = now();
            shared.instance.call_lean(Entry::Firstseen, &self.tag, sec, nsec, b"{}")?;
            shared.last_call = Some(Instant::now());
        }
        Ok(take_said(&mut shared.instance))
    }
}

/// The time as the module takes it: seconds since 1970 in an unsigned 32-bit number, enough until 2106, and nanoseconds.
fn now() -> (u32, u32) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (u32::try_from(now.as_secs()).unwrap_or(u32::MAX), now.subsec_nanos())
}

/// Starts the module, with the rules that it runs.
fn start(
    module: &Module,
    same_built_in: bool,
    directory: Option<&Path>,
    start: u64,
) -> anyhow::Result<(Shared, Rules)> {
    /// A pack that changes while it is read is read anew.
    const TRIES: usize = 5;
    let mut last = read_pack(directory)?;
    for _ in 0..TRIES {
        let instance = module.instantiate_captured(directory)?;
        let after = read_pack(directory)?;
        if after == last {
            let pack = configuration::pack(directory)?;
            let prefilter = (last.is_some() || same_built_in).then(|| Prefilter::new(&pack));
            let rules = Rules { prefilter, output_key: pack.settings.output_key, start };
            let shared =
                Shared { instance, start, last_call: None, trapped: VecDeque::new(), pack: last, refused: None };
            return Ok((shared, rules));
        }
        last = after;
    }
    anyhow::bail!("{} changes all the time: let whatever writes it come to an end", configuration::PACK)
}

/// The bytes of a directory's pack, if it has one.
fn read_pack(directory: Option<&Path>) -> anyhow::Result<Option<Vec<u8>>> {
    let Some(directory) = directory else { return Ok(None) };
    let path = directory.join(configuration::PACK);
    match std::fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn take_said(instance: &mut Instance) -> Said {
    let said = instance.take_stderr();
    let lines = String::from_utf8_lossy(&said);
    lines.lines().map(|line| line.strip_prefix("firstseen: ").unwrap_or(line).to_owned()).collect()
}
