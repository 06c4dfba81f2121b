//! The one module instance that all requests share, and what keeps it from being a bottleneck.
//!
//! In: unpacked bodies, from many threads, piece by piece. Out: each body with its alerts. There is one instance, and so one history:
//! the same tuple alerts once, however many requests bring it at the same time. Before the instance's lock, on the request's own
//! thread and while the rest of the body comes, records are found, and the engine's prefilter rejects those that no rule can
//! match, which is what it would do in the module; only the others wait for the instance, one batch at a time, when the batch is
//! whole: the module sees nothing of a batch that is refused. Bounds: the instance's memory is the module's; a trap throws
//! it away, and the next batch begins with a new one and the history of the state file. Not here: HTTP.
//!
//! The prefilter is the host's own copy of the module's. A module whose built-in rules are others is given every record, where
//! those rules run.

use std::cell::Cell;
use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, TryLockError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use firstseen_engine::prefilter::{Look, Prefilter};
use firstseen_engine::recognition::Recognition;
use firstseen_engine::rule::{FieldRef, Pack, pack};
use firstseen_engine::status::{Status, UsedOnce};

use crate::alerts::{self, Alert};
use crate::asn::{AsLookup, Enriched};
use crate::configuration;
use crate::guest::{Answer, Entry, Error, Instance, Module};
use crate::logs::body::{self, Batch, Change, Extent};
use crate::logs::format::Format;
use crate::native_search::NativeSearch;
use crate::serve::metrics::UsedOnceLabels;

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
    /// The database of AS organisations, which is read with the rules.
    asn: Option<PathBuf>,
    entry: Entry,
    tag: Vec<u8>,
    max_record: usize,
    rules: RwLock<Arc<Rules>>,
    instance: Mutex<Shared>,
    /// What the records have shown that the module never sees.
    recognition: Mutex<Recognition>,
    hasher: RandomState,
}

/// What is known of the rules that run.
#[derive(Debug)]
struct Rules {
    /// Nothing, if every record is to be given to the module.
    prefilter: Option<Prefilter>,
    lookup: Option<AsLookup>,
    output_key: String,
    /// What the rules are made of, for naming them.
    pack: Pack,
    /// Which start of the instance they belong to.
    start: u64,
}

impl Rules {
    fn is_candidate(&self, record: NativeSearch<'_>, extent: Extent, keys: &Cell<Keys>) -> bool {
        let Some(prefilter) = &self.prefilter else { return true };
        let look = match extent {
            Extent::Object => prefilter.look(&record),
            Extent::Line => prefilter.look_among(&record),
        };
        keys.set(keys.get().and(look));
        look == Look::Candidate
    }
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
    /// Hashes of the records that made the module trap, oldest first.
    trapped: VecDeque<u64>,
    /// The configuration's pack, as it was when the instance started.
    pack: Option<Vec<u8>>,
    /// A later pack that could not be used.
    refused: Option<Vec<u8>>,
}

/// What a look at the directory's pack finds.
#[derive(Debug)]
pub enum PackState {
    /// The one that runs, or one that was refused before; or there was none and there is none.
    Same,
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
    keys: Cell<Keys>,
}

#[derive(Debug)]
struct Piece {
    text: Bytes,
    batch: Batch,
    /// The records that the module has changed.
    changes: Vec<Change>,
}

impl Reading {
    /// Reads another piece; nothing is read, and the answer is `false`, if not all its lines begin and end as objects do.
    pub fn lines(&mut self, text: &Bytes) -> bool {
        let before = self.keys.get();
        let look = |record: NativeSearch<'_>, extent| self.rules.is_candidate(record, extent, &self.keys);
        let batch = body::read_lines(text, self.max_record, look);
        if batch.is_none() {
            // The piece is read again with what comes behind it.
            self.keys.set(before);
        }
        let is_read = batch.is_some();
        let batch = batch.filter(|_| !text.is_empty());
        self.pieces.extend(batch.map(|batch| Piece { text: text.clone(), batch, changes: Vec::new() }));
        is_read
    }

    /// Reads what is left, in whatever framing.
    pub fn rest(&mut self, text: Bytes) {
        let look = |record: NativeSearch<'_>, extent| self.rules.is_candidate(record, extent, &self.keys);
        let batch = body::read(&text, self.max_record, look);
        self.pieces.push(Piece { text, batch, changes: Vec::new() });
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
    fn again(self, rules: Arc<Rules>) -> Reading {
        let mut reading = Reading { rules, max_record: self.max_record, pieces: Vec::new(), keys: Cell::default() };
        self.pieces.into_iter().for_each(|piece| reading.rest(piece.text));
        reading
    }

    fn sum(&self, count: impl Fn(&Batch) -> u64) -> u64 {
        self.pieces.iter().map(|piece| count(&piece.batch)).sum()
    }
}

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Tagged {
    /// What to pass on, piece by piece.
    pub body: Vec<Bytes>,
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
    /// The rule and the reason of each alert; no reason for a rule that asks for no new terms.
    pub alerts: Vec<(String, String)>,
    /// Events in a group that has alerted already, by rule.
    pub suppressed: u64,
    /// Records without the key of an event.
    pub without_event: u64,
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
        asn: Option<&Path>,
        entry: Entry,
        tag: &str,
        max_record: usize,
    ) -> anyhow::Result<(Detection, Said)> {
        let built_in = pack::encode(&configuration::pack(None)?);
        let same_built_in = memchr::memmem::find(bytes, &built_in).is_some();
        let (mut shared, rules) = start(&module, same_built_in, directory, asn, 0)?;
        let said = take_said(&mut shared.instance);
        let detection = Detection {
            module,
            same_built_in,
            directory: directory.map(Path::to_path_buf),
            asn: asn.map(Path::to_path_buf),
            entry,
            tag: tag.as_bytes().to_vec(),
            max_record,
            rules: RwLock::new(Arc::new(rules)),
            instance: Mutex::new(shared),
            recognition: Mutex::default(),
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
        let (asn, next) = (self.asn.as_deref(), shared.start.wrapping_add(1));
        let started = start(&self.module, self.same_built_in, directory, asn, next);
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

    /// Whether there is another pack than the one that runs and one that was refused.
    pub fn pack_state(&self) -> PackState {
        let pack = match read_pack(self.directory.as_deref()) {
            Ok(pack) => pack,
            Err(error) => return PackState::Unreadable(error),
        };
        let shared = self.lock();
        match pack {
            None if shared.pack.is_some() => PackState::Gone,
            None => PackState::Same,
            pack if [&shared.pack, &shared.refused].contains(&&pack) => PackState::Same,
            Some(_) => PackState::New,
        }
    }

    /// A batch of which nothing was read yet.
    pub fn reading(&self) -> Reading {
        Reading { rules: self.rules(), max_record: self.max_record, pieces: Vec::new(), keys: Cell::default() }
    }

    /// Tags the records of a batch that has come whole.
    ///
    /// # Errors
    /// The module failed on a record, which the message names, or does not start. Nothing of the batch is to be passed on: it is
    /// to be sent again.
    pub fn tag(&self, mut reading: Reading) -> Result<(Tagged, Said), Error> {
        let mut tagged = Tagged::default();
        let mut said = if reading.sum(|batch| batch.candidates.len() as u64) == 0 {
            self.tell_the_time()?
        } else {
            let mut shared = self.lock();
            while reading.rules.start != shared.start {
                // Other rules came in between.
                drop(shared);
                reading = reading.again(self.rules());
                shared = self.lock();
            }
            let called = self.call_each(&mut shared, &mut reading, &mut tagged);
            let said = take_said(&mut shared.instance);
            drop(shared);
            called?;
            said
        };
        said.extend(self.note_keys(reading.keys.get()));
        tagged.without_event = reading.keys.get().without;
        tagged.bytes = reading.pieces.iter().map(|piece| piece.text.len() as u64).sum();
        tagged.records = reading.sum(|batch| batch.records);
        tagged.candidates = reading.sum(|batch| batch.candidates.len() as u64);
        tagged.not_json = reading.sum(Batch::not_json);
        tagged.too_long = reading.sum(Batch::too_long);
        for Piece { text, changes, .. } in &reading.pieces {
            tagged.is_changed |= !changes.is_empty();
            for (place, change) in changes {
                let appended = alerts::appended(&text[place.clone()], change, &reading.rules.output_key);
                let Some(appended) = appended else { continue };
                let found = appended.alerts.iter().filter_map(|alert| Alert::read(alert));
                tagged.alerts.extend(found.map(|alert| {
                    let reason = alert.new_terms.and_then(|new_terms| new_terms.reason).unwrap_or_default();
                    (alert.rule.id, reason)
                }));
                tagged.suppressed += appended.suppressed.len() as u64;
            }
        }
        let pieces = reading.pieces.into_iter();
        if self.entry == Entry::Alerts {
            let is_array = pieces.as_slice().first().is_some_and(|piece| piece.batch.is_array);
            let alone: Vec<Change> = pieces.flat_map(|piece| piece.changes).collect();
            (tagged.is_empty, tagged.is_changed) = (alone.is_empty(), true);
            tagged.body = vec![Bytes::from(body::of(&alone, is_array))];
        } else {
            let tagged_piece = |Piece { text, changes, .. }: Piece| match changes.is_empty() {
                true => text,
                false => Bytes::from(body::replaced(&text, &changes)),
            };
            tagged.body = pieces.map(tagged_piece).collect();
        }
        Ok((tagged, said))
    }

    /// How the filter is, in numbers, if the module says.
    ///
    /// # Errors
    /// The module failed.
    pub fn status(&self) -> Result<Option<Status>, Error> {
        self.lock().instance.status()
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

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // What a panic leaves behind is an instance between two records.
        self.instance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the candidates to the module, and takes down those that it changes.
    fn call_each(&self, shared: &mut Shared, reading: &mut Reading, tagged: &mut Tagged) -> Result<(), Error> {
        let (sec, nsec) = now();
        let lookup = reading.rules.lookup.as_ref();
        for Piece { text, batch, changes } in &mut reading.pieces {
            for place in &batch.candidates {
                let record = &text[place.clone()];
                if !shared.trapped.is_empty() && shared.trapped.contains(&self.hasher.hash_one(record)) {
                    // It is delivered again: to refuse it for ever would stop the pipeline.
                    tagged.passed_after_trap += 1;
                    continue;
                }
                let enriched = lookup.and_then(|lookup| lookup.enrich(record));
                let given = enriched.as_ref().map_or(record, Enriched::text);
                match shared.instance.call_lean(self.entry, &self.tag, sec, nsec, given) {
                    Ok(Answer::Untouched | Answer::Dropped) => {}
                    Ok(Answer::Changed(changed)) => {
                        let changed = changed.to_vec();
                        changes.push((
                            place.clone(),
                            match &enriched {
                                Some(enriched) => enriched.restored(changed),
                                None => changed,
                            },
                        ));
                    }
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
        }
        shared.last_call = Some(Instant::now());
        Ok(())
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
    asn: Option<&Path>,
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
            let known = prefilter.as_ref().map(|_| &pack);
            let lookup = asn.map(|file| AsLookup::open(file, &pack.settings, known)).transpose()?;
            let rules = Rules { prefilter, lookup, output_key: pack.settings.output_key.clone(), pack, start };
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
    directory.map_or(Ok(None), configuration::read_pack)
}

fn take_said(instance: &mut Instance) -> Said {
    let said = instance.take_stderr();
    let lines = String::from_utf8_lossy(&said);
    lines.lines().map(|line| line.strip_prefix("firstseen: ").unwrap_or(line).to_owned()).collect()
}
