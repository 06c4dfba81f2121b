//! The module in wasmtime: compiled once, instantiated, called for each record.
//!
//! In: a module's bytes, and records. Out: for each record the module's [`Answer`]. [`Instance::call`] makes the calls
//! that Fluent Bit makes, in Fluent Bit's order; [`Instance::call_lean`] makes one call a record.
//! Bounds: the guest's memory is WebAssembly's own 4 GiB at most; time is not bounded. An instance that trapped is
//! thrown away, and the next call gets a new one. Not here: reading records, and what answers mean.

use std::fmt;
use std::path::{Path, PathBuf};

use wasmtime::{
    Cache, CacheConfig, Caller, Config, Engine, InstancePre, Linker, Memory, OptLevel, Store, Trap, TypedFunc,
};

use firstseen_engine::status::{self, Status};

use crate::search::{self, Needles};
use crate::wasi::{Outcome, Stderr, Wasi};

/// How a module is compiled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Whether the guest's steps are counted ([`Instance::fuel_consumed`]); it costs speed.
    pub fuel: bool,
    /// Where compiled modules are kept and found again ([`crate::compiled_modules`]); nowhere, unless it is given.
    pub cache: Option<PathBuf>,
    /// Whether the lines that the guest writes to its standard error name its directory, as in Fluent Bit, where several filters share
    /// one.
    pub names_directory: bool,
}

/// Which of the module's two filters is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// `firstseen`: all records come back, those that raise alerts with them.
    Firstseen,
    /// `firstseen_alerts`: only records that raise alerts come back.
    Alerts,
}

/// How the generations of Fluent Bit treat an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Generation {
    /// 4.1.2 and later: one instance, and both buffers are freed after each call.
    #[default]
    Current,
    /// 4.1.0 and 4.1.1: one instance, and nothing is ever freed.
    Leaking,
    /// Up to 4.0: a new instance after this many records, the length of a chunk.
    InstancePerChunk(u64),
}

/// What the module made of a record. `B` is how changed bytes are held: owned, or borrowed from the guest's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer<B = Vec<u8>> {
    /// The record is as it came.
    Untouched,
    /// The record to pass on instead.
    Changed(B),
    /// The record is dropped on purpose.
    Dropped,
}

/// Why a module or an instance does not do what it should.
#[derive(Debug)]
pub enum Error {
    /// The bytes are no WebAssembly module that this host can run.
    Compile(String),
    /// The module asks for or offers something else than the ABI says.
    Contract(String),
    /// The module ended in its start, `_initialize`: why, and what it said on its standard error.
    Start {
        /// Its configuration directory.
        directory: Option<PathBuf>,
        /// The trap, in a few words.
        reason: String,
        /// What the module wrote to its standard error, without its name before each line.
        said: String,
    },
    /// The module trapped on a record; the first record that the instance got is record 1.
    Trap {
        /// Which record.
        record: u64,
        /// The trap.
        trap: Trap,
    },
    /// The answer to a record is no text inside the module's memory.
    Answer {
        /// Which record.
        record: u64,
        /// The pointer that was returned.
        pointer: u32,
    },
    /// Something else went wrong on a record.
    Call {
        /// Which record.
        record: u64,
        /// What went wrong.
        reason: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Compile(reason) => write!(f, "the module cannot be compiled: {reason}"),
            Error::Contract(reason) => {
                write!(f, "the module is not one of firstseen's: {reason}")
            }
            Error::Start { directory, reason, said } => {
                f.write_str("the module refused to start")?;
                if let Some(directory) = directory {
                    write!(f, " in {}", directory.display())?;
                }
                write!(f, ": {}", if said.is_empty() { reason } else { said })
            }
            Error::Trap { record, trap } => {
                write!(f, "the module trapped on record {record}: {trap}")
            }
            Error::Answer { record, pointer } => {
                write!(f, "the module's answer to record {record} is no text in its memory: pointer {pointer:#x}")
            }
            Error::Call { record, reason } => {
                write!(f, "the module failed on record {record}: {reason}")
            }
        }
    }
}

impl std::error::Error for Error {}

/// What a store of the guest holds for the host's functions.
struct Host {
    /// Set once the instance exists; a start function runs without.
    memory: Option<Memory>,
    needles: Needles,
    wasi: Wasi,
}

/// A compiled module with its imports resolved: instantiating it is cheap.
#[derive(Clone)]
pub struct Module {
    pre: InstancePre<Host>,
    fuel: bool,
    names_directory: bool,
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module").field("fuel", &self.fuel).finish_non_exhaustive()
    }
}

impl Module {
    /// Compiles a module and resolves its imports.
    ///
    /// # Errors
    /// [`Error::Compile`] for bytes that are no valid module, [`Error::Contract`] for an import that the host has not.
    pub fn compile(bytes: &[u8], options: &Options) -> Result<Self, Error> {
        let mut config = Config::new();
        config
            .cranelift_opt_level(OptLevel::Speed)
            .consume_fuel(options.fuel)
            // The whole 32-bit space is reserved, so that no access needs a bounds check and the memory never moves.
            .memory_reservation(1 << 32)
            .memory_may_move(false)
            .signals_based_traps(true)
            .wasm_backtrace_max_frames(None)
            .generate_address_map(false)
            .concurrency_support(false);
        if let Some(directory) = &options.cache {
            let mut kept = CacheConfig::new();
            kept.with_directory(directory);
            // A module that cannot be kept is compiled at each start.
            config.cache(Cache::new(kept).ok());
        }
        let compile = |error: wasmtime::Error| Error::Compile(one_line(&error));
        let engine = Engine::new(&config).map_err(compile)?;
        let module = wasmtime::Module::new(&engine, bytes).map_err(compile)?;
        let contract = |error: wasmtime::Error| Error::Contract(one_line(&error));
        let pre = linker(&engine).map_err(contract)?.instantiate_pre(&module).map_err(contract)?;
        Ok(Module { pre, fuel: options.fuel, names_directory: options.names_directory })
    }

    /// The names of the module's imports, as `module.name`, in its order.
    pub fn imports(&self) -> Vec<String> {
        let imports = self.pre.module().imports();
        imports.map(|import| format!("{}.{}", import.module(), import.name())).collect()
    }

    /// The names of the module's exports, in its order.
    pub fn exports(&self) -> Vec<String> {
        let exports = self.pre.module().exports();
        exports.map(|export| export.name().to_owned()).collect()
    }

    /// An instance that reads and keeps its files in `directory`, or has none; what it writes to its standard error goes
    /// to the host's.
    ///
    /// # Errors
    /// [`Error::Contract`] for a missing export, [`Error::Start`] for a module that refuses to start.
    pub fn instantiate(&self, directory: Option<&Path>) -> Result<Instance, Error> {
        Instance::new(self.clone(), directory, false)
    }

    /// The same, but what the instance writes to its standard error is kept for [`Instance::captured_stderr`].
    ///
    /// # Errors
    /// Those of [`Module::instantiate`].
    pub fn instantiate_captured(&self, directory: Option<&Path>) -> Result<Instance, Error> {
        Instance::new(self.clone(), directory, true)
    }
}

/// The module at work. What it remembers lives as long as this does.
pub struct Instance {
    module: Module,
    directory: Option<PathBuf>,
    capture: bool,
    generation: Generation,
    /// Records given to this instance, across the guests that came and went.
    records: u64,
    /// Records given to the guest that is live now.
    records_of_guest: u64,
    /// Empty after a trap, until the next call.
    live: Option<Live>,
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance")
            .field("directory", &self.directory)
            .field("generation", &self.generation)
            .field("records", &self.records)
            .finish_non_exhaustive()
    }
}

/// `firstseen` and `firstseen_alerts`: tag, tag's length, seconds, nanoseconds, record, record's length; the answer.
type Filter = TypedFunc<(u32, u32, u32, u32, u32, u32), u32>;

/// A store with a guest in it and the guest's functions, looked up once.
struct Live {
    store: Store<Host>,
    memory: Memory,
    malloc: TypedFunc<u32, u32>,
    free: TypedFunc<u32, ()>,
    firstseen: Filter,
    alerts: Filter,
    /// Modules of earlier versions have none.
    status: Option<TypedFunc<(), u32>>,
    lean: LeanBuffers,
}

/// The buffers that [`Instance::call_lean`] keeps in the guest.
#[derive(Default)]
struct LeanBuffers {
    tag: Vec<u8>,
    tag_pointer: u32,
    record_pointer: u32,
    /// Bytes at `record_pointer`, the NUL's included; 0 while there are no buffers.
    capacity: usize,
}

/// The smallest buffer that [`Instance::call_lean`] asks for, in bytes: most CloudTrail records fit.
const LEAN_CAPACITY: usize = 16 * 1024;

impl Instance {
    fn new(module: Module, directory: Option<&Path>, capture: bool) -> Result<Self, Error> {
        let mut instance = Instance {
            module,
            directory: directory.map(Path::to_path_buf),
            capture,
            generation: Generation::Current,
            records: 0,
            records_of_guest: 0,
            live: None,
        };
        instance.live()?;
        Ok(instance)
    }

    /// Chooses the generation of Fluent Bit whose calls [`Instance::call`] makes.
    #[must_use]
    pub fn with_generation(mut self, generation: Generation) -> Self {
        self.generation = generation;
        self
    }

    /// Gives the module one record as Fluent Bit does: `malloc` for the tag and for the record, the call, the answer copied
    /// out, both freed. `sec` and `nsec` are the record's arrival time.
    ///
    /// A `malloc` that is refused gives the module pointer 0 with the real length, as Fluent Bit does.
    ///
    /// # Errors
    /// [`Error::Trap`], [`Error::Answer`] or [`Error::Call`]; the next call gets a new instance.
    pub fn call(&mut self, entry: Entry, tag: &[u8], sec: u32, nsec: u32, record: &[u8]) -> Result<Answer, Error> {
        if let Generation::InstancePerChunk(records) = self.generation
            && self.records_of_guest >= records.max(1)
        {
            self.live = None;
        }
        let frees = self.generation != Generation::Leaking;
        let number = self.next_record();
        let answer =
            self.live()?.call(frees, entry, tag, (sec, nsec), record).map_err(|failure| failure.on_record(number));
        if answer.is_err() {
            self.live = None;
        }
        answer
    }

    /// Gives the module one record in a buffer that is kept in the guest: one guest call, and the answer is borrowed.
    ///
    /// # Errors
    /// Those of [`Instance::call`].
    pub fn call_lean(
        &mut self,
        entry: Entry,
        tag: &[u8],
        sec: u32,
        nsec: u32,
        record: &[u8],
    ) -> Result<Answer<&[u8]>, Error> {
        let number = self.next_record();
        match self.live()?.call_lean(entry, tag, (sec, nsec), record).map_err(|failure| failure.on_record(number)) {
            Ok(Answer::Untouched) => Ok(Answer::Untouched),
            Ok(Answer::Dropped) => Ok(Answer::Dropped),
            Ok(Answer::Changed(text)) => {
                let live = self.live()?;
                Ok(Answer::Changed(&live.memory.data(&live.store)[text]))
            }
            Err(error) => {
                self.live = None;
                Err(error)
            }
        }
    }

    /// Calls a filter with these six arguments as they are, whatever they point at; its result as it is.
    ///
    /// # Errors
    /// [`Error::Trap`] or [`Error::Call`].
    pub fn call_raw(&mut self, entry: Entry, arguments: [u32; 6]) -> Result<u32, Error> {
        let number = self.next_record();
        let [tag, tag_length, sec, nsec, record, length] = arguments;
        let live = self.live()?;
        let result = live
            .filter(entry)
            .call(&mut live.store, (tag, tag_length, sec, nsec, record, length))
            .map_err(|error| Failure::from(error).on_record(number));
        if result.is_err() {
            self.live = None;
        }
        result
    }

    /// Calls the guest's `malloc`: a pointer, or 0 if it refuses.
    ///
    /// # Errors
    /// [`Error::Trap`] or [`Error::Call`].
    pub fn malloc_raw(&mut self, size: u32) -> Result<u32, Error> {
        let number = self.records;
        let live = self.live()?;
        let result = live.malloc.call(&mut live.store, size);
        result.map_err(|error| self.throw_away(error, number))
    }

    /// Calls the guest's `free`.
    ///
    /// # Errors
    /// [`Error::Trap`] or [`Error::Call`].
    pub fn free_raw(&mut self, pointer: u32) -> Result<(), Error> {
        let number = self.records;
        let live = self.live()?;
        let result = live.free.call(&mut live.store, pointer);
        result.map_err(|error| self.throw_away(error, number))
    }

    /// Whether the next call goes to a guest that has started; after a trap it waits for one that starts.
    pub fn is_live(&self) -> bool {
        self.live.is_some()
    }

    /// The guest's memory; empty after a trap.
    pub fn memory(&self) -> &[u8] {
        match &self.live {
            Some(live) => live.memory.data(&live.store),
            None => &[],
        }
    }

    /// The guest's memory, to write into; empty after a trap.
    pub fn memory_mut(&mut self) -> &mut [u8] {
        match &mut self.live {
            Some(live) => live.memory.data_mut(&mut live.store),
            None => &mut [],
        }
    }

    /// The size of the guest's memory in bytes; 0 after a trap.
    pub fn memory_size(&self) -> usize {
        self.memory().len()
    }

    /// Steps that the guest has taken since it was made; `None` unless the module was compiled with [`Options::fuel`].
    pub fn fuel_consumed(&self) -> Option<u64> {
        let live = self.live.as_ref()?;
        live.store.get_fuel().ok().map(|left| u64::MAX - left)
    }

    /// What the guest wrote to its standard error, its start included, if the instance was made by
    /// [`Module::instantiate_captured`].
    pub fn captured_stderr(&self) -> &[u8] {
        match &self.live {
            Some(live) => match &live.store.data().wasi.stderr {
                Stderr::Capture(captured) => captured,
                Stderr::Inherit => &[],
            },
            None => &[],
        }
    }

    /// The same, and forgets it.
    pub fn take_stderr(&mut self) -> Vec<u8> {
        match self.live.as_mut().map(|live| &mut live.store.data_mut().wasi.stderr) {
            Some(Stderr::Capture(captured)) => std::mem::take(captured),
            _ => Vec::new(),
        }
    }

    /// How the filter is, in numbers; `None` from a module that does not say, and after a trap.
    ///
    /// # Errors
    /// [`Error::Trap`], [`Error::Answer`] or [`Error::Call`].
    pub fn status(&mut self) -> Result<Option<Status>, Error> {
        let number = self.records;
        let Some(live) = &mut self.live else { return Ok(None) };
        let Some(status) = &live.status else { return Ok(None) };
        let pointer = match status.call(&mut live.store, ()) {
            Ok(0) => return Ok(None),
            Ok(pointer) => pointer,
            Err(error) => return Err(self.throw_away(error, number)),
        };
        let numbers = live.memory.data(&live.store).get(pointer as usize..).unwrap_or_default();
        let mut numbers = numbers.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
        let count = numbers.next().ok_or(Error::Answer { record: number, pointer })?;
        if count < status::NUMBERS as u64 {
            return Ok(None);
        }
        let mut known = [0; status::NUMBERS];
        for place in &mut known {
            *place = numbers.next().ok_or(Error::Answer { record: number, pointer })?;
        }
        Ok(Some(Status::from_numbers(known)))
    }

    fn next_record(&mut self) -> u64 {
        self.records += 1;
        self.records_of_guest += 1;
        self.records
    }

    fn throw_away(&mut self, error: wasmtime::Error, record: u64) -> Error {
        self.live = None;
        Failure::from(error).on_record(record)
    }

    /// The live guest; a new one if there is none.
    fn live(&mut self) -> Result<&mut Live, Error> {
        match self.live {
            Some(ref mut live) => Ok(live),
            None => {
                self.records_of_guest = self.records.min(1);
                let live = Live::new(&self.module, self.directory.clone(), self.capture)?;
                Ok(self.live.insert(live))
            }
        }
    }
}

/// What went wrong in a call, before the record's number is known.
enum Failure {
    Trap(Trap),
    Answer(u32),
    Other(String),
}

impl Failure {
    fn on_record(self, record: u64) -> Error {
        match self {
            Failure::Trap(trap) => Error::Trap { record, trap },
            Failure::Answer(pointer) => Error::Answer { record, pointer },
            Failure::Other(reason) => Error::Call { record, reason },
        }
    }
}

impl From<wasmtime::Error> for Failure {
    fn from(error: wasmtime::Error) -> Self {
        match error.downcast_ref::<Trap>() {
            Some(trap) => Failure::Trap(*trap),
            None => Failure::Other(one_line(&error)),
        }
    }
}

impl Live {
    fn new(module: &Module, directory: Option<PathBuf>, capture: bool) -> Result<Self, Error> {
        let contract = |error: wasmtime::Error| Error::Contract(one_line(&error));
        let engine = module.pre.module().engine();
        // What the module says while it starts is kept: it is the reason if it refuses.
        let mut wasi = Wasi::new(directory.clone(), Stderr::Capture(Vec::new()));
        wasi.names_directory = module.names_directory;
        let host = Host { memory: None, needles: Needles::default(), wasi };
        let mut store = Store::new(engine, host);
        if module.fuel {
            store.set_fuel(u64::MAX).map_err(contract)?;
        }
        let start = |error: wasmtime::Error, store: &mut Store<Host>| Error::Start {
            directory: directory.clone(),
            reason: one_line(&error),
            said: said(store),
        };
        let instance = match module.pre.instantiate(&mut store) {
            Ok(instance) => instance,
            Err(error) => return Err(start(error, &mut store)),
        };
        let memory = instance
            .get_memory(&mut store, "memory")
            .ok_or_else(|| Error::Contract("it exports no memory".to_owned()))?;
        store.data_mut().memory = Some(memory);
        let mut live = Live {
            malloc: instance.get_typed_func(&mut store, "malloc").map_err(contract)?,
            free: instance.get_typed_func(&mut store, "free").map_err(contract)?,
            firstseen: instance.get_typed_func(&mut store, "firstseen").map_err(contract)?,
            alerts: instance.get_typed_func(&mut store, "firstseen_alerts").map_err(contract)?,
            status: instance.get_typed_func(&mut store, "firstseen_status").ok(),
            memory,
            store,
            lean: LeanBuffers::default(),
        };
        if let Some(initialize) = instance.get_func(&mut live.store, "_initialize") {
            let initialize = initialize.typed::<(), ()>(&live.store).map_err(contract)?;
            if let Err(error) = initialize.call(&mut live.store, ()) {
                return Err(start(error, &mut live.store));
            }
        }
        if !capture {
            let stderr = &mut live.store.data_mut().wasi.stderr;
            if let Stderr::Capture(said) = std::mem::replace(stderr, Stderr::Inherit) {
                use std::io::Write;
                // Nowhere to say it if standard error is closed.
                let _ = std::io::stderr().write_all(&said);
            }
        }
        Ok(live)
    }

    fn filter(&self, entry: Entry) -> Filter {
        match entry {
            Entry::Firstseen => self.firstseen.clone(),
            Entry::Alerts => self.alerts.clone(),
        }
    }

    fn call(
        &mut self,
        frees: bool,
        entry: Entry,
        tag: &[u8],
        (sec, nsec): (u32, u32),
        record: &[u8],
    ) -> Result<Answer, Failure> {
        let tag_pointer = self.copy_in(tag)?;
        let pointer = self.copy_in(record)?;
        let arguments = (tag_pointer, length(tag)?, sec, nsec, pointer, length(record)?);
        let filter = match entry {
            Entry::Firstseen => &self.firstseen,
            Entry::Alerts => &self.alerts,
        };
        let answer = filter.call(&mut self.store, arguments)?;
        let memory = self.memory.data(&self.store);
        let answer = match answer {
            0 if pointer == 0 => Answer::Untouched,
            // The host copies what stands there now: a guest that wrote into the record has changed it.
            same if same == pointer
                && memory[pointer as usize..].starts_with(record)
                && memory.get(pointer as usize + record.len()) == Some(&0) =>
            {
                Answer::Untouched
            }
            text => match text_at(memory, text)? {
                range if range.is_empty() => Answer::Dropped,
                range => Answer::Changed(memory[range].to_vec()),
            },
        };
        if frees {
            for pointer in [tag_pointer, pointer] {
                if pointer != 0 {
                    self.free.call(&mut self.store, pointer)?;
                }
            }
        }
        Ok(answer)
    }

    /// `malloc`, and a copy with its NUL; pointer 0 if `malloc` refuses.
    fn copy_in(&mut self, bytes: &[u8]) -> Result<u32, Failure> {
        let size = length(bytes)?.checked_add(1).ok_or_else(too_large)?;
        let pointer = self.malloc.call(&mut self.store, size)?;
        if pointer != 0 {
            self.write(pointer, bytes)?;
        }
        Ok(pointer)
    }

    /// Writes bytes and a NUL behind them.
    fn write(&mut self, pointer: u32, bytes: &[u8]) -> Result<(), Failure> {
        let start = pointer as usize;
        let memory = self.memory.data_mut(&mut self.store);
        let Some(to) = memory.get_mut(start..start + bytes.len() + 1) else {
            let reason = format!("malloc returned {pointer:#x}, outside its memory");
            return Err(Failure::Other(reason));
        };
        let (text, end) = to.split_at_mut(bytes.len());
        text.copy_from_slice(bytes);
        end[0] = 0;
        Ok(())
    }

    /// The answer; a changed one as its range in the guest's memory.
    fn call_lean(
        &mut self,
        entry: Entry,
        tag: &[u8],
        (sec, nsec): (u32, u32),
        record: &[u8],
    ) -> Result<Answer<std::ops::Range<usize>>, Failure> {
        if record.len() >= self.lean.capacity || tag != self.lean.tag {
            self.make_lean_buffers(tag, record)?;
        }
        let pointer = self.lean.record_pointer;
        if pointer != 0 {
            self.write(pointer, record)?;
        }
        let arguments = (self.lean.tag_pointer, length(tag)?, sec, nsec, pointer, length(record)?);
        let filter = match entry {
            Entry::Firstseen => &self.firstseen,
            Entry::Alerts => &self.alerts,
        };
        let answer = filter.call(&mut self.store, arguments)?;
        if answer == pointer {
            return Ok(Answer::Untouched);
        }
        match text_at(self.memory.data(&self.store), answer)? {
            range if range.is_empty() => Ok(Answer::Dropped),
            range => Ok(Answer::Changed(range)),
        }
    }

    /// Frees the buffers and allocates both anew, in Fluent Bit's order, which the module's allocator knows.
    fn make_lean_buffers(&mut self, tag: &[u8], record: &[u8]) -> Result<(), Failure> {
        let old = std::mem::take(&mut self.lean);
        for pointer in [old.tag_pointer, old.record_pointer] {
            if pointer != 0 {
                self.free.call(&mut self.store, pointer)?;
            }
        }
        let tag_pointer = self.copy_in(tag)?;
        length(record)?;
        let capacity = (record.len() + 1).next_power_of_two().max(LEAN_CAPACITY);
        let size = u32::try_from(capacity).map_err(|_| too_large())?;
        let record_pointer = self.malloc.call(&mut self.store, size)?;
        self.lean = LeanBuffers {
            tag: tag.to_vec(),
            tag_pointer,
            record_pointer,
            // Without a buffer, the next record asks again.
            capacity: if record_pointer == 0 { 0 } else { capacity },
        };
        Ok(())
    }
}

/// Where the NUL-terminated text at `pointer` stands.
fn text_at(memory: &[u8], pointer: u32) -> Result<std::ops::Range<usize>, Failure> {
    let start = pointer as usize;
    let length = memory.get(start..).and_then(|text| memchr::memchr(0, text)).ok_or(Failure::Answer(pointer))?;
    Ok(start..start + length)
}

fn length(bytes: &[u8]) -> Result<u32, Failure> {
    u32::try_from(bytes.len()).map_err(|_| too_large())
}

fn too_large() -> Failure {
    Failure::Other("the record is larger than the module's address space".to_owned())
}

/// What the guest has written to its standard error, in one line.
fn said(store: &Store<Host>) -> String {
    match &store.data().wasi.stderr {
        Stderr::Capture(captured) => {
            let text = String::from_utf8_lossy(captured);
            let lines = text.lines().map(|line| line.strip_prefix("firstseen: ").unwrap_or(line));
            lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
        }
        Stderr::Inherit => String::new(),
    }
}

/// An error of wasmtime in one line, its cause last.
fn one_line(error: &wasmtime::Error) -> String {
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    let text = causes.join(": ");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The guest's memory and what the host's functions work on.
fn parts<'a>(caller: &'a mut Caller<'_, Host>) -> Result<(&'a mut [u8], &'a mut Host), Trap> {
    // Only a start function runs before the memory is known; it has nothing to search or to write.
    let memory = caller.data().memory.ok_or(Trap::MemoryOutOfBounds)?;
    Ok(memory.data_and_store_mut(caller))
}

/// Runs one WASI call and returns its error number.
fn wasi(caller: &mut Caller<'_, Host>, call: impl FnOnce(&mut [u8], &mut Wasi) -> Outcome) -> wasmtime::Result<u32> {
    let (memory, host) = parts(caller)?;
    Ok(match call(memory, &mut host.wasi) {
        Ok(()) => 0,
        Err(errno) => errno as u32,
    })
}

/// Everything a guest may import.
fn linker(engine: &Engine) -> wasmtime::Result<Linker<Host>> {
    const WASI: &str = "wasi_snapshot_preview1";
    type Guest<'a> = Caller<'a, Host>;
    let mut linker = Linker::new(engine);
    linker
        .func_wrap("env", "strstr", |mut guest: Guest<'_>, haystack: u32, needle: u32| -> wasmtime::Result<u32> {
            let (memory, host) = parts(&mut guest)?;
            Ok(host.needles.strstr(memory, haystack, needle))
        })?
        .func_wrap("env", "memchr", |mut guest: Guest<'_>, pointer: u32, byte: u32, n: u32| -> wasmtime::Result<u32> {
            let (memory, _) = parts(&mut guest)?;
            Ok(search::memchr(memory, pointer, byte, n))
        })?
        .func_wrap(WASI, "fd_write", |mut guest: Guest<'_>, fd, vectors, count, written| {
            wasi(&mut guest, |memory, wasi| wasi.fd_write(memory, fd, vectors, count, written))
        })?
        .func_wrap(WASI, "fd_read", |mut guest: Guest<'_>, fd, vectors, count, read| {
            wasi(&mut guest, |memory, wasi| wasi.fd_read(memory, fd, vectors, count, read))
        })?
        .func_wrap(WASI, "fd_close", |mut guest: Guest<'_>, fd| wasi(&mut guest, |_, wasi| wasi.fd_close(fd)))?
        .func_wrap(WASI, "fd_datasync", |mut guest: Guest<'_>, fd| wasi(&mut guest, |_, wasi| wasi.fd_datasync(fd)))?
        .func_wrap(WASI, "fd_prestat_dir_name", |mut guest: Guest<'_>, fd, name, length| {
            wasi(&mut guest, |memory, wasi| wasi.fd_prestat_dir_name(memory, fd, name, length))
        })?
        .func_wrap(WASI, "fd_filestat_get", |mut guest: Guest<'_>, fd, status| {
            wasi(&mut guest, |memory, wasi| wasi.fd_filestat_get(memory, fd, status))
        })?
        .func_wrap(
            WASI,
            "path_open",
            |mut guest: Guest<'_>,
             directory,
             lookup_flags,
             name,
             name_length,
             open_flags,
             rights: u64,
             _inherited_rights: u64,
             fd_flags,
             opened| {
                wasi(&mut guest, |memory, wasi| {
                    let name = (name, name_length);
                    wasi.path_open(memory, directory, lookup_flags, name, open_flags, rights, fd_flags, opened)
                })
            },
        )?
        .func_wrap(
            WASI,
            "path_rename",
            |mut guest: Guest<'_>, old_directory, old, old_length, new_directory, new, new_length| {
                wasi(&mut guest, |memory, wasi| {
                    wasi.path_rename(memory, old_directory, (old, old_length), new_directory, (new, new_length))
                })
            },
        )?
        .func_wrap(WASI, "random_get", |mut guest: Guest<'_>, buffer, length| {
            wasi(&mut guest, |memory, wasi| wasi.random_get(memory, buffer, length))
        })?;
    Ok(linker)
}

#[cfg(test)]
mod tests;
