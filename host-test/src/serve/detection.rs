//! The one module instance that all requests share, and what keeps it from being a bottleneck.
//!
//! In: unpacked bodies, from many threads, piece by piece. Out: each body with its alerts. There is one instance, and so one history:
//! the same tuple alerts once, however many requests bring it at the same time. Before the instance's lock, on the request's own
//! thread and while the rest of the body comes, records are found, and the engine's prefilter rejects those that no rule can
//! match, which is what it would do in the module; only the others wait for the instance, one batch at a time, when the batch is
//! whole: the module sees nothing of a batch that is refused. No thread waits for the lock: tasks do, and with a batch that takes the
//! module longer than [`AT_ONCE`] it goes on on a thread of its own. Bounds: the instance's memory is the
//! module's; what its answers take is asked for before it is held; a trap throws the instance away, and the next batch begins with a
//! new one and the history of the state file. Not here: HTTP.
//!
//! The prefilter is the host's own copy of the module's. A module whose built-in rules are others is given every record, where
//! those rules run.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use firstseen_engine::prefilter::{Look, Prefilter, Search};
use firstseen_engine::recognition::Recognition;
use firstseen_engine::rule::{FieldRef, Pack, Sync, pack};
use firstseen_engine::status::{Status, UsedOnce};
use tokio::sync::OwnedMutexGuard;

use crate::asn::{AsLookup, Enriched};
use crate::configuration;
use crate::guest::{Answer, Entry, Error, Instance, Module};
use crate::logs::body::{self, Batch, Extent};
use crate::logs::format::Format;
use crate::logs::framing;
use crate::native_search::NativeSearch;
use crate::serve::assembly::{Assembly, Found};
use crate::serve::memory::{Exhausted, MemoryPermit};
use crate::serve::metrics::UsedOnceLabels;
use crate::serve::pieces::Pieces;
use crate::serve::threads::Threads;

/// How many records that made the module trap are remembered.
const MAX_TRAPS: usize = 1024;

/// How long the module works on a batch where the batch was received; then its own thread takes over what else there is.
const AT_ONCE: Duration = Duration::from_millis(10);

/// After how many records it is looked whether that time is over.
const CALLS_A_LOOK: usize = 16;

/// A record that is longer, in bytes, may take the module longer than that by itself.
const LONG_RECORD: usize = 64 << 10;

/// What the place of a candidate takes, in bytes, in a list that may have doubled.
const CANDIDATE: usize = 2 * size_of::<std::ops::Range<usize>>();

/// For how many of them room is taken at once.
const CANDIDATES: usize = 64;

/// How often the module is given the time when no record is, so that it knows how long it has been learning.
const TICK: Duration = Duration::from_secs(1);

/// The module at work, shared.
#[derive(Debug)]
pub struct Detection {
    module: Module,
    /// The pack that the module holds is the one that this program holds.
    same_built_in: bool,
    directory: Option<PathBuf>,
    /// The database of AS organisations, which is read with the rules.
    asn: Option<PathBuf>,
    entry: Entry,
    tag: Vec<u8>,
    max_record: usize,
    rules: RwLock<Arc<Rules>>,
    instance: Arc<tokio::sync::Mutex<Shared>>,
    /// How many batches wait for the instance.
    waiting: AtomicUsize,
    /// Where the module works when it takes long.
    thread: Threads,
    packs: Mutex<Packs>,
    /// How the filter was when it was asked last.
    status: Mutex<Option<Status>>,
    /// What the records have shown that the module never sees.
    recognition: Mutex<Recognition>,
    hasher: RandomState,
}

/// What is known of the rules that run.
#[derive(Debug)]
struct Rules {
    /// Nothing, if every record is to be given to the module.
    prefilter: Option<Prefilter>,
    /// What the rules are made of.
    pack: Pack,
    /// Which start of the instance they belong to.
    start: u64,
}

impl Rules {
    fn is_candidate(&self, record: NativeSearch<'_>, extent: Extent, keys: &mut Keys) -> bool {
        let Some(prefilter) = &self.prefilter else { return true };
        let look = match extent {
            Extent::Line if !holds_one_raw_record(record.bytes()) => prefilter.look_among(&record),
            Extent::Line | Extent::Object => prefilter.look(&record),
        };
        *keys = keys.and(look);
        look == Look::Candidate
    }

    /// [`Rules::is_candidate`] for a whole text. Each candidate object needs memory for its position; once that is refused, nothing
    /// is a candidate any more. Memory is taken for many positions at once, so the caller frees what was not used.
    fn candidates(
        &self,
        keys: &mut Keys,
        permit: &mut MemoryPermit,
        room: &mut Result<(), Exhausted>,
    ) -> impl FnMut(NativeSearch<'_>, Extent) -> bool {
        let mut taken = 0;
        move |record, extent| {
            let is_candidate = self.is_candidate(record, extent, keys);
            if is_candidate && extent == Extent::Object && room.is_ok() {
                if taken == 0 {
                    taken = CANDIDATES;
                    *room = permit.take(CANDIDATES * CANDIDATE);
                }
                taken -= 1;
            }
            is_candidate && room.is_ok()
        }
    }
}

/// Whether a line is one record as CloudTrail writes it, of which [`Prefilter::look`] finds with fewer searches what it is.
fn holds_one_raw_record(line: &[u8]) -> bool {
    line.starts_with(b"{\"eventVersion\"") && framing::holds_one_object(line)
}

/// Which records of a batch have the key of an event.
#[derive(Debug, Clone, Copy, Default)]
struct Keys {
    /// One has.
    found: bool,
    /// How many have none, and how many of those are behind the last one that has.
    without: u64,
    since: u64,
}

impl Keys {
    fn and(self, look: Look) -> Keys {
        match look {
            Look::Nothing => Keys { without: self.without + 1, since: self.since + 1, ..self },
            Look::Candidate | Look::Key => Keys { found: true, since: 0, ..self },
        }
    }
}

/// What one request at a time has.
#[derive(Debug)]
struct Shared {
    instance: Instance,
    start: u64,
    last_call: Option<Instant>,
    lookup: Option<AsLookup>,
    /// Hashes of the records that made the module trap, oldest first.
    trapped: VecDeque<u64>,
}

/// The packs that are known.
#[derive(Debug, Default)]
struct Packs {
    /// The configuration's, as it was when the instance started.
    loaded: Option<Vec<u8>>,
    /// A later one that could not be used.
    refused: Option<Vec<u8>>,
}

/// What became of a module that was to start anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restarted {
    /// It has, with the history of its file.
    Anew,
    /// It has, and the history is lost: it was in memory only, or its file cannot be used.
    WithoutHistory,
    /// The old one goes on, so that its history is not lost.
    Kept,
}

/// What a look at the directory's pack finds.
#[derive(Debug)]
pub enum PackState {
    /// The one that runs; or there was none and there is none.
    Same,
    /// One that was refused before.
    Refused,
    /// Another one.
    New,
    /// There was one, and it is gone; its rules run on.
    Gone,
    /// It is there and cannot be read.
    Unreadable(anyhow::Error),
}

/// A batch as far as it was read: its pieces, and the records that were found in each.
#[derive(Debug)]
pub struct Reading {
    rules: Arc<Rules>,
    max_record: usize,
    pieces: Vec<Piece>,
    keys: Keys,
    /// How many pieces are done.
    done: usize,
    assembly: Assembly,
    passed_after_trap: u64,
    /// Stands for all that the batch holds.
    pub permit: MemoryPermit,
}

#[derive(Debug)]
struct Piece {
    text: Bytes,
    batch: Batch,
    /// How many candidates the module was given.
    called: usize,
}

impl Piece {
    fn new(text: Bytes, batch: Batch) -> Piece {
        Piece { text, batch, called: 0 }
    }
}

impl Reading {
    /// Reads another piece; nothing is read, and the answer is `false`, if not all its lines begin and end as objects do.
    ///
    /// # Errors
    /// There is no room for the candidates' places.
    pub fn lines(&mut self, text: &Bytes) -> Result<bool, Exhausted> {
        let (keys, held, mut room) = (self.keys, self.permit.bytes(), Ok(()));
        let look = self.rules.candidates(&mut self.keys, &mut self.permit, &mut room);
        let batch = body::read_lines(text, self.max_record, look);
        room?;
        match batch {
            None => {
                // The piece is read again with what comes behind it.
                self.keys = keys;
                self.permit.keep(held);
                Ok(false)
            }
            Some(batch) => {
                self.permit.keep(held + batch.candidates.len() * CANDIDATE);
                self.pieces.extend((!text.is_empty()).then(|| Piece::new(text.clone(), batch)));
                Ok(true)
            }
        }
    }

    /// Reads what is left, in whatever framing.
    ///
    /// # Errors
    /// There is no room for the candidates' places.
    pub fn rest(&mut self, text: Bytes) -> Result<(), Exhausted> {
        let (held, mut room) = (self.permit.bytes(), Ok(()));
        let look = self.rules.candidates(&mut self.keys, &mut self.permit, &mut room);
        let batch = body::read(&text, self.max_record, look);
        room?;
        // It may have been read in two ways.
        self.permit.keep(held + batch.candidates.len() * CANDIDATE);
        self.pieces.push(Piece::new(text, batch));
        Ok(())
    }

    /// What the batch is, if it is not empty and nothing in it is JSON.
    pub fn unreadable(&self) -> Option<Format> {
        if self.sum(|batch| batch.records) > 0 {
            return None;
        }
        let piece = self.pieces.iter().find(|piece| piece.batch.not_json() > 0)?;
        // A number in the middle of a binary format is not JSON either.
        let format = Format::of_beginning(&piece.text);
        format.or_else(|| piece.batch.is_unreadable().then(|| Format::of(&piece.text)))
    }

    /// The same, read by other rules.
    fn again(self, rules: Arc<Rules>) -> Result<Reading, Exhausted> {
        let candidates = self.candidates();
        let mut reading = Reading { rules, pieces: Vec::new(), keys: Keys::default(), ..self };
        reading.permit.free(candidates * CANDIDATE);
        self.pieces.into_iter().try_for_each(|piece| reading.rest(piece.text))?;
        Ok(reading)
    }

    fn candidates(&self) -> usize {
        self.pieces.iter().map(|piece| piece.batch.candidates.len()).sum()
    }

    fn sum(&self, count: impl Fn(&Batch) -> u64) -> u64 {
        self.pieces.iter().map(|piece| count(&piece.batch)).sum()
    }

    /// Whether records stand in an array.
    fn is_array(&self) -> bool {
        self.pieces.first().is_some_and(|piece| piece.batch.is_array)
    }

    /// Whether the module has changed a record.
    pub fn is_changed(&self) -> bool {
        self.assembly.changed > 0
    }

    /// What is to be passed on, once the module has seen the batch.
    ///
    /// # Errors
    /// There is no room for it.
    pub fn tagged(mut self, entry: Entry) -> Result<Tagged, Exhausted> {
        let (is_alone, is_array, is_changed) = (entry == Entry::Alerts, self.is_array(), self.is_changed());
        if is_alone {
            self.assembly.end_alone(is_array);
        } else {
            for piece in &self.pieces[self.done..] {
                self.assembly.end_text(&piece.text, &mut self.permit)?;
            }
        }
        let mut tagged = Tagged {
            body: Pieces::default(),
            is_changed: is_alone || is_changed,
            is_empty: is_alone && !is_changed,
            bytes: self.pieces.iter().map(|piece| piece.text.len() as u64).sum(),
            records: self.sum(|batch| batch.records),
            candidates: self.candidates() as u64,
            not_json: self.sum(Batch::not_json),
            too_long: self.sum(Batch::too_long),
            found: Found::default(),
            without_event: self.keys.without,
            passed_after_trap: self.passed_after_trap,
            permit: self.permit,
        };
        tagged.permit.free(tagged.candidates as usize * CANDIDATE);
        (tagged.body, tagged.found) = self.assembly.into_parts();
        if is_alone {
            tagged.permit.keep(tagged.body.len());
        }
        Ok(tagged)
    }
}

/// What became of a batch.
#[derive(Debug)]
pub struct Tagged {
    /// What to pass on.
    pub body: Pieces,
    /// Whether that is something else than what came.
    pub is_changed: bool,
    /// Whether nothing is left to pass on, since no record has an alert.
    pub is_empty: bool,
    /// How many bytes came, unpacked.
    pub bytes: u64,
    /// See [`Batch::records`].
    pub records: u64,
    /// How many records were given to the module.
    pub candidates: u64,
    /// See [`Batch::not_json`].
    pub not_json: u64,
    /// See [`Batch::too_long`].
    pub too_long: u64,
    /// The alerts.
    pub found: Found,
    /// Records without the key of an event.
    pub without_event: u64,
    /// Records that passed without being looked at, because the module had trapped on them before.
    pub passed_after_trap: u64,
    /// Stands for the body.
    pub permit: MemoryPermit,
}

/// Why nothing of a batch is to be passed on.
#[derive(Debug)]
pub enum Failure {
    /// The module failed on a record, which the message names, or does not start: the batch is to be sent again.
    Module(Error),
    /// There is no room for its answers.
    Exhausted(Exhausted),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Module(error)
    }
}

impl From<Exhausted> for Failure {
    fn from(exhausted: Exhausted) -> Failure {
        Failure::Exhausted(exhausted)
    }
}

/// Counts a batch that waits, until this is dropped: its sender may go away.
struct Waiting<'a>(&'a AtomicUsize);

impl Waiting<'_> {
    fn new(count: &AtomicUsize) -> Waiting<'_> {
        count.fetch_add(1, Ordering::Relaxed);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
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
        asn: Option<&Path>,
        entry: Entry,
        tag: &str,
        max_record: usize,
    ) -> anyhow::Result<(Detection, Said)> {
        let built_in = pack::encode(&configuration::pack(None)?);
        let same_built_in = memchr::memmem::find(bytes, &built_in).is_some();
        let Started { mut shared, rules, pack } = start(&module, same_built_in, directory, asn, 0)?;
        let said = take_said(&mut shared.instance);
        let status = shared.instance.status().ok().flatten();
        let detection = Detection {
            module,
            same_built_in,
            directory: directory.map(Path::to_path_buf),
            asn: asn.map(Path::to_path_buf),
            entry,
            tag: tag.as_bytes().to_vec(),
            max_record,
            rules: RwLock::new(Arc::new(rules)),
            instance: Arc::new(tokio::sync::Mutex::new(shared)),
            waiting: AtomicUsize::new(0),
            thread: Threads::start("module", 1)?,
            packs: Mutex::new(Packs { loaded: pack, refused: None }),
            status: Mutex::new(status),
            recognition: Mutex::default(),
            hasher: RandomState::new(),
        };
        Ok((detection, said))
    }

    /// Starts the module anew with the pack and the history as they are now. If that does not work, the old one goes on, and so it
    /// does if the new one has its history in memory only and the rules are the same. The thread waits until the module is free.
    ///
    /// # Errors
    /// Why it does not start.
    pub fn restart(&self, has_other_rules: bool) -> anyhow::Result<(Restarted, Said)> {
        let mut shared = self.instance.blocking_lock();
        let directory = self.directory.as_deref();
        let was_durable = is_durable(self.note_status(&mut shared));
        if !was_durable && !has_other_rules {
            return Ok((Restarted::Kept, Said::new()));
        }
        let next = shared.start.wrapping_add(1);
        let started = start(&self.module, self.same_built_in, directory, self.asn.as_deref(), next);
        let Started { shared: mut new, rules, pack } = match started {
            Ok(started) => started,
            Err(error) => {
                self.packs().refused = read_pack(directory).ok().flatten();
                return Err(error);
            }
        };
        let mut said = take_said(&mut shared.instance);
        said.append(&mut take_said(&mut new.instance));
        let keeps_history = was_durable && is_durable(new.instance.status().ok().flatten());
        if !keeps_history && !has_other_rules {
            return Ok((Restarted::Kept, said));
        }
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
        *self.packs() = Packs { loaded: pack, refused: None };
        *shared = new;
        self.note_status(&mut shared);
        Ok((if keeps_history { Restarted::Anew } else { Restarted::WithoutHistory }, said))
    }

    /// Reads the database of AS organisations anew, if there is one, for the rules and the history that there are. The thread waits
    /// until the module is free.
    ///
    /// # Errors
    /// It cannot be read; the old one goes on.
    pub fn reread_database(&self) -> anyhow::Result<bool> {
        let Some(file) = &self.asn else { return Ok(false) };
        let rules = self.rules();
        let lookup = open_lookup(file, &rules)?;
        let mut shared = self.instance.blocking_lock();
        if shared.start == rules.start {
            shared.lookup = Some(lookup);
        }
        Ok(true)
    }

    /// Whether there is another pack than the one that runs and one that was refused.
    pub fn pack_state(&self) -> PackState {
        let pack = match read_pack(self.directory.as_deref()) {
            Ok(pack) => pack,
            Err(error) => return PackState::Unreadable(error),
        };
        let packs = self.packs();
        match pack {
            None if packs.loaded.is_some() => PackState::Gone,
            pack if pack == packs.loaded => PackState::Same,
            pack if pack == packs.refused => PackState::Refused,
            _ => PackState::New,
        }
    }

    /// A batch of which nothing was read yet, and what stands for what it holds.
    pub fn reading(&self, permit: MemoryPermit) -> Reading {
        Reading {
            rules: self.rules(),
            max_record: self.max_record,
            pieces: Vec::new(),
            keys: Keys::default(),
            done: 0,
            assembly: Assembly::default(),
            passed_after_trap: 0,
            permit,
        }
    }

    /// Gives the candidates of a batch that has come whole to the module.
    ///
    /// # Errors
    /// Why nothing of it is to be passed on.
    pub async fn examine(self: &Arc<Self>, mut reading: Reading) -> Result<(Reading, Said), Failure> {
        let mut said = if reading.candidates() == 0 {
            self.tell_the_time().await?
        } else {
            let mut shared = self.lock().await;
            while reading.rules.start != shared.start {
                // Other rules came in between.
                drop(shared);
                let rules = self.rules();
                reading = self.thread.run(move || reading.again(rules)).await?;
                shared = self.lock().await;
            }
            let arrival = now();
            // A sync takes as long as it takes, and so does a start.
            let is_slow = reading.rules.pack.settings.sync == Sync::Data || !shared.instance.is_live();
            let mut called = Ok(false);
            if !is_slow {
                called = self.call_each(&mut shared, &mut reading, arrival, Some(Instant::now() + AT_ONCE));
            }
            if matches!(called, Ok(false)) {
                let detection = Arc::clone(self);
                let work = move || {
                    let called = detection.call_each(&mut shared, &mut reading, arrival, None);
                    detection.note_status(&mut shared);
                    (shared, reading, called)
                };
                (shared, reading, called) = self.thread.run(work).await;
            }
            let said = take_said(&mut shared.instance);
            drop(shared);
            if self.waiting.load(Ordering::Relaxed) > 0 {
                // The next batch has the lock now. It would not begin before this thread has done all else with this one.
                tokio::task::yield_now().await;
            }
            called?;
            said
        };
        said.extend(self.note_keys(reading.keys));
        Ok((reading, said))
    }

    /// Which events are passed on.
    pub fn entry(&self) -> Entry {
        self.entry
    }

    /// How the filter is, in numbers, if the module says; how it was when it was asked last, if it is at work. Nobody waits for it.
    pub fn status(&self) -> Option<Status> {
        if let Ok(mut shared) = self.instance.try_lock() {
            return self.note_status(&mut shared);
        }
        *self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_status(&self, shared: &mut Shared) -> Option<Status> {
        let status = shared.instance.status().unwrap_or_else(|error| {
            tracing::error!(%error, "the module does not say how it is");
            None
        });
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
        status
    }

    /// The rules of which the module says that nearly all their groups or tuples are used once.
    pub fn used_once(&self, status: &Status) -> Vec<UsedOnceLabels> {
        let rules = self.rules();
        let name = |UsedOnce { rule, is_of_groups, fields }: UsedOnce| {
            let rule = rules.pack.rules.get(rule)?;
            let (kind, of_rule): (_, &[FieldRef]) = match (&rule.suppression, &rule.new_terms) {
                (Some(suppression), _) if is_of_groups => ("suppression", &suppression.group_by),
                (_, Some(new_terms)) if !is_of_groups => ("new_terms", &new_terms.fields),
                _ => return None,
            };
            let differing = of_rule.iter().enumerate().filter(|(at, _)| *at < 16 && fields >> at & 1 == 1);
            let names = differing.filter_map(|(_, field)| rules.pack.fields.get(usize::from(field.0)));
            let fields = names.map(String::as_str).collect::<Vec<_>>().join(",");
            Some(UsedOnceLabels { rule: rule.id.clone(), kind, fields })
        };
        status.used_once.into_iter().filter_map(UsedOnce::from_number).filter_map(name).collect()
    }

    /// Takes note of records that the module never sees; a line, if none of many had the key of an event.
    fn note_keys(&self, keys: Keys) -> Option<String> {
        let mut recognition = self.recognition.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.found {
            recognition.key_found();
        }
        if keys.since > 0 {
            recognition.no_key(keys.since, now().0);
        }
        recognition.take_notice()
    }

    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    async fn lock(&self) -> OwnedMutexGuard<Shared> {
        let instance = Arc::clone(&self.instance);
        let instance = match instance.try_lock_owned() {
            Ok(shared) => return shared,
            Err(_) => Arc::clone(&self.instance),
        };
        let _waiting = Waiting::new(&self.waiting);
        instance.lock_owned().await
    }

    fn packs(&self) -> MutexGuard<'_, Packs> {
        self.packs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the candidates to the module that it was not given yet, and takes down those that it changes; `false`, if there are
    /// some left when it is time.
    fn call_each(
        &self,
        shared: &mut Shared,
        reading: &mut Reading,
        (sec, nsec): (u32, u32),
        until: Option<Instant>,
    ) -> Result<bool, Failure> {
        let is_array = reading.is_array();
        let Reading { rules, pieces, done, assembly, passed_after_trap, permit, .. } = reading;
        let output_key = &rules.pack.settings.output_key;
        while let Some(Piece { text, batch, called }) = pieces.get_mut(*done) {
            while let Some(place) = batch.candidates.get(*called) {
                let record = &text[place.clone()];
                // To ask for the time takes as long as a part of a record does.
                let is_time = |until| *called % CALLS_A_LOOK == 0 && Instant::now() >= until;
                if until.is_some_and(|until| record.len() > LONG_RECORD || is_time(until)) {
                    return Ok(false);
                }
                *called += 1;
                if !shared.trapped.is_empty() && shared.trapped.contains(&self.hasher.hash_one(record)) {
                    // It is delivered again: to refuse it for ever would stop the pipeline.
                    *passed_after_trap += 1;
                    continue;
                }
                let enriched = shared.lookup.as_ref().and_then(|lookup| lookup.enrich(record));
                let given = enriched.as_ref().map_or(record, Enriched::text);
                match shared.instance.call_lean(self.entry, &self.tag, sec, nsec, given) {
                    Ok(Answer::Untouched | Answer::Dropped) => {}
                    Ok(Answer::Changed(changed)) => {
                        let restored = enriched.map(|enriched| enriched.restored(changed.to_vec()));
                        let changed = restored.as_deref().unwrap_or(changed);
                        assembly.found.note(record, changed, output_key);
                        match self.entry {
                            Entry::Firstseen => assembly.replace(text, place, changed, permit)?,
                            Entry::Alerts => assembly.add(changed, is_array, permit)?,
                        }
                    }
                    Err(error) => {
                        if !matches!(error, Error::Start { .. }) {
                            if shared.trapped.len() == MAX_TRAPS {
                                shared.trapped.pop_front();
                            }
                            shared.trapped.push_back(self.hasher.hash_one(record));
                        }
                        return Err(error.into());
                    }
                }
            }
            if self.entry == Entry::Firstseen {
                assembly.end_text(text, permit)?;
            }
            *done += 1;
        }
        shared.last_call = Some(Instant::now());
        Ok(true)
    }

    /// Gives the module the time, if it has had none for long and is not at work; nobody waits for it.
    async fn tell_the_time(self: &Arc<Self>) -> Result<Said, Error> {
        let Ok(mut shared) = Arc::clone(&self.instance).try_lock_owned() else { return Ok(Said::new()) };
        if shared.last_call.is_none_or(|last| last.elapsed() >= TICK) {
            let detection = Arc::clone(self);
            let tell = move || {
                let (sec, nsec) = now();
                let told = shared.instance.call_lean(Entry::Firstseen, &detection.tag, sec, nsec, b"{}").map(|_| ());
                shared.last_call = Some(Instant::now());
                (shared, told)
            };
            let told;
            (shared, told) = self.thread.run(tell).await;
            told?;
        }
        Ok(take_said(&mut shared.instance))
    }
}

/// Whether a restart keeps what the module has seen.
fn is_durable(status: Option<Status>) -> bool {
    status.is_some_and(|status| status.durable == 1)
}

/// The time as the module takes it: seconds since 1970 in an unsigned 32-bit number, enough until 2106, and nanoseconds.
fn now() -> (u32, u32) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (u32::try_from(now.as_secs()).unwrap_or(u32::MAX), now.subsec_nanos())
}

/// A module that has started.
struct Started {
    shared: Shared,
    rules: Rules,
    /// The configuration's pack.
    pack: Option<Vec<u8>>,
}

/// Starts the module, with the rules that it runs.
fn start(
    module: &Module,
    same_built_in: bool,
    directory: Option<&Path>,
    asn: Option<&Path>,
    start: u64,
) -> anyhow::Result<Started> {
    /// A pack that changes while it is read is read anew.
    const TRIES: usize = 5;
    let mut last = read_pack(directory)?;
    for _ in 0..TRIES {
        let instance = module.instantiate_captured(directory)?;
        let after = read_pack(directory)?;
        if after == last {
            // A filter that runs has better rules than those of a pack that cannot be used.
            let pack =
                if start == 0 { configuration::starting_pack(directory) } else { configuration::pack(directory) }?;
            let prefilter = (last.is_some() || same_built_in).then(|| Prefilter::new(&pack));
            let rules = Rules { prefilter, pack, start };
            let lookup = asn.map(|file| open_lookup(file, &rules)).transpose()?;
            let shared = Shared { instance, start, last_call: None, lookup, trapped: VecDeque::new() };
            return Ok(Started { shared, rules, pack: last });
        }
        last = after;
    }
    anyhow::bail!("{} changes all the time: let whatever writes it come to an end", configuration::PACK)
}

fn open_lookup(file: &Path, rules: &Rules) -> anyhow::Result<AsLookup> {
    let known = rules.prefilter.as_ref().map(|_| &rules.pack);
    AsLookup::open(file, &rules.pack.settings, known)
}

/// The bytes of a directory's pack, if it has one.
fn read_pack(directory: Option<&Path>) -> anyhow::Result<Option<Vec<u8>>> {
    directory.map_or(Ok(None), configuration::read_pack)
}

fn take_said(instance: &mut Instance) -> Said {
    let said = instance.take_stderr();
    let lines = String::from_utf8_lossy(&said);
    lines.lines().map(|line| line.strip_prefix("firstseen: ").unwrap_or(line).to_owned()).collect()
}
