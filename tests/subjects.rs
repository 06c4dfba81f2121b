//! What is under test, behind one trait: the native engine, and the module as each generation of Fluent Bit calls it.
//!
//! In: a pack, then records with their arrival times. Out: the records that come back. The only place that knows the
//! engine's and the host's interfaces, where the built-in rules and the module's file are, and how an annotation stands
//! in a record. Not here: what the annotation ought to be.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use firstseen::guest::{Answer, Entry, Generation, Instance, Module, Options};
use firstseen_engine::rule::{Pack, builtin, compile, pack};
use firstseen_engine::storage::{Status, Storage, StorageError};
use firstseen_engine::{Engine, Outcome};

use crate::oracle::Members;

/// The built-in rules' ids, in the order of the pack.
pub(crate) const BUILTIN_RULE_IDS: [&str; 3] = [
    "b2f8c4e1-6a73-4f1e-9c2d-8e5b0a1d3f7c",
    "30fbf4db-c502-4e68-a239-2e99af0f70da",
    "32555639-b639-4c2b-afda-c0ae0abefa55",
];

const SEED: [u8; 16] = *b"a seed for tests";

const TAG: &[u8] = b"aws.cloudtrail";

/// Something that takes records and gives them back.
pub(crate) trait Subject {
    fn name(&self) -> String;

    /// The record as it comes back; `arrival` in milliseconds since 1970.
    fn process(&mut self, record: &[u8], arrival: i64) -> Vec<u8>;
}

/// The engine without the module around it.
pub(crate) struct Native {
    engine: Engine,
    prefilter: bool,
}

impl Native {
    pub(crate) fn new(pack: &Pack) -> Native {
        let storage = Box::new(StorageInMemory::default());
        let engine = Engine::open(pack.clone(), storage, SEED).expect("the engine takes the compiled pack");
        Native { engine, prefilter: true }
    }

    pub(crate) fn without_prefilter(pack: &Pack) -> Native {
        Native { prefilter: false, ..Native::new(pack) }
    }
}

impl Subject for Native {
    fn name(&self) -> String {
        let prefilter = if self.prefilter { "" } else { " without prefilter" };
        format!("native engine{prefilter}")
    }

    fn process(&mut self, record: &[u8], arrival: i64) -> Vec<u8> {
        let mut out = Vec::new();
        let outcome = if self.prefilter {
            self.engine.process(record, arrival, &mut out)
        } else {
            self.engine.process_unfiltered(record, arrival, &mut out)
        };
        match outcome {
            Outcome::Untouched => record.to_vec(),
            Outcome::Annotated { .. } => out,
        }
    }
}

/// A state file and its replacement in memory.
#[derive(Debug, Default)]
struct StorageInMemory {
    file: Option<Vec<u8>>,
    replacement: Vec<u8>,
    position: usize,
}

impl Storage for StorageInMemory {
    fn open(&mut self) -> Result<bool, StorageError> {
        self.position = 0;
        Ok(self.file.is_some())
    }

    fn read(&mut self, into: &mut [u8]) -> Result<usize, StorageError> {
        let rest = &self.file.as_ref().ok_or(StorageError::IO)?[self.position..];
        let len = rest.len().min(into.len());
        into[..len].copy_from_slice(&rest[..len]);
        self.position += len;
        Ok(len)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.file.as_mut().ok_or(StorageError::IO)?.extend_from_slice(bytes);
        Ok(())
    }

    fn status(&mut self) -> Result<Status, StorageError> {
        let len = self.file.as_ref().ok_or(StorageError::IO)?.len();
        Ok(Status { len: len as u64, is_linked: true })
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
        self.file = Some(std::mem::take(&mut self.replacement));
        Ok(())
    }

    fn set_aside(&mut self) -> Result<(), StorageError> {
        self.file = None;
        Ok(())
    }
}

/// How the module is called.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Calls {
    Fluent(Generation),
    Lean,
}

/// The module, with its pack in a directory of its own.
pub(crate) struct Guest {
    pub(crate) instance: Instance,
    calls: Calls,
    directory: PathBuf,
}

impl Guest {
    pub(crate) fn new(pack: &Pack, calls: Calls) -> Guest {
        let directory = new_directory();
        std::fs::write(directory.join("firstseen.pack"), pack::encode(pack)).expect("the pack is written");
        Guest::start(directory, calls)
    }

    /// With no pack: the rules that are built into the module.
    pub(crate) fn builtin(calls: Calls) -> Guest {
        Guest::start(new_directory(), calls)
    }

    /// The build that imports nothing but WASI.
    pub(crate) fn portable(pack: &Pack) -> Guest {
        let directory = new_directory();
        std::fs::write(directory.join("firstseen.pack"), pack::encode(pack)).expect("the pack is written");
        let instance = portable_module().instantiate(Some(&directory)).expect("the module starts");
        Guest { instance, calls: Calls::Fluent(Generation::Current), directory }
    }

    fn start(directory: PathBuf, calls: Calls) -> Guest {
        let instance = module().instantiate(Some(&directory)).expect("the module starts");
        let instance = match calls {
            Calls::Fluent(generation) => instance.with_generation(generation),
            Calls::Lean => instance,
        };
        Guest { instance, calls, directory }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

impl Subject for Guest {
    fn name(&self) -> String {
        format!("module, {:?}", self.calls)
    }

    fn process(&mut self, record: &[u8], arrival: i64) -> Vec<u8> {
        let sec = u32::try_from(arrival.div_euclid(1000)).expect("seconds that Fluent Bit can pass");
        let nsec = u32::try_from(arrival.rem_euclid(1000) * 1_000_000).expect("below a second");
        let entry = Entry::Firstseen;
        let answer = match self.calls {
            Calls::Fluent(_) => self.instance.call(entry, TAG, sec, nsec, record),
            Calls::Lean => self.instance.call_lean(entry, TAG, sec, nsec, record).map(owned),
        };
        match answer {
            Ok(Answer::Untouched) => record.to_vec(),
            Ok(Answer::Changed(bytes)) => bytes,
            Ok(Answer::Dropped) => panic!("the module dropped a record: {}", excerpt(record)),
            Err(error) => panic!("{error}: {}", excerpt(record)),
        }
    }
}

fn owned(answer: Answer<&[u8]>) -> Answer {
    match answer {
        Answer::Untouched => Answer::Untouched,
        Answer::Changed(bytes) => Answer::Changed(bytes.to_vec()),
        Answer::Dropped => Answer::Dropped,
    }
}

/// The module's file: what the environment names, or what the build made.
pub(crate) fn module_file() -> PathBuf {
    match std::env::var_os("FIRSTSEEN_MODULE") {
        Some(file) => PathBuf::from(file),
        None => workspace().join("target/firstseen.wasm"),
    }
}

/// The file of the build that imports nothing but WASI, which stands beside the other.
pub(crate) fn portable_module_file() -> PathBuf {
    module_file().with_file_name("firstseen-portable.wasm")
}

/// The compiled module, the same for all tests.
pub(crate) fn module() -> &'static Module {
    static MODULE: OnceLock<Module> = OnceLock::new();
    MODULE.get_or_init(|| compiled_module(&module_file()))
}

fn portable_module() -> &'static Module {
    static MODULE: OnceLock<Module> = OnceLock::new();
    MODULE.get_or_init(|| compiled_module(&portable_module_file()))
}

fn compiled_module(file: &Path) -> Module {
    let bytes = std::fs::read(file).unwrap_or_else(|error| {
        panic!(
            "{} cannot be read ({error}): run make module, or name the module in FIRSTSEEN_MODULE, with \
             firstseen-portable.wasm beside it",
            file.display()
        )
    });
    Module::compile(&bytes, &Options::default()).expect("the module compiles")
}

/// The built-in rules with the operator's settings and rules.
pub(crate) fn compiled(settings: Option<&str>, own: &[String]) -> Pack {
    let labels: Vec<String> = (1..=own.len()).map(|number| format!("own-{number}.toml")).collect();
    let own: Vec<(&str, &str)> = labels.iter().zip(own).map(|(label, text)| (&**label, &**text)).collect();
    let settings = settings.map(|text| ("firstseen.toml", text));
    compile::compile(settings, &builtin::FILES, &own).unwrap_or_else(|refused| {
        let lines: Vec<String> = refused.iter().map(ToString::to_string).collect();
        panic!("{}", lines.join("\n"))
    })
}

pub(crate) fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// An empty directory that no other test uses.
pub(crate) fn new_directory() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let directory = std::env::temp_dir().join(format!("firstseen-test-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a temporary directory");
    directory
}

/// What was appended to a record: the key and its object; nothing if the record came back as it was.
/// Anything else than the record with one more key at its end is an error.
pub(crate) fn annotation(record: &[u8], out: &[u8]) -> Result<Option<(String, serde_json::Value)>, String> {
    if out == record {
        return Ok(None);
    }
    let Some(end) = record.iter().rposition(|byte| *byte == b'}') else {
        return Err(format!("a record without an end came back changed: {}", excerpt(out)));
    };
    let appended = out
        .strip_prefix(&record[..end])
        .and_then(|rest| rest.strip_suffix(&record[end..]))
        .and_then(|rest| rest.strip_prefix(b","));
    let Some(appended) = appended else {
        return Err(format!("more than an appended key has changed: {}", excerpt(out)));
    };
    let text = std::str::from_utf8(appended).map_err(|error| format!("what is appended is no text: {error}"))?;
    let members: Members = serde_json::from_str(&format!("{{{text}}}"))
        .map_err(|error| format!("what is appended is no JSON: {error}: {text}"))?;
    let [(key, value)] = &members.0[..] else {
        return Err(format!("{} keys are appended: {text}", members.0.len()));
    };
    let value = serde_json::from_str(value.get()).map_err(|error| format!("{error}: {text}"))?;
    Ok(Some((key.clone(), value)))
}

/// The record for a message, cut where it gets long.
pub(crate) fn excerpt(record: &[u8]) -> String {
    let text = String::from_utf8_lossy(record);
    match text.char_indices().nth(600) {
        Some((at, _)) => format!("{}... ({} bytes)", &text[..at], record.len()),
        None => text.into_owned(),
    }
}
