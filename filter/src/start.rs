//! Starting: which rules run, and with which history.
//!
//! In: the configuration directory, if the host gives one. Out: an engine, or one sentence on why there is none. Bounds: a pack of
//! [`MAX_PACK`]. Not here: what becomes of that sentence.
//!
//! A host that has run before must not stop for a pack that was damaged meanwhile, as by a disk that was full when it was copied. So the
//! pack that starts is kept beside itself, and runs in place of one that does not, if there is a history.

use alloc::boxed::Box;
use alloc::string::String;

use firstseen_engine::Engine;
use firstseen_engine::decimal::decimal;
use firstseen_engine::rule::pack;
use firstseen_engine::storage::{STATE_FILE, StorageError};

use crate::state_file::StateFile;
use crate::wasi::{self, Errno, File, Open};

/// The pack's name in the configuration directory.
const PACK: &str = "firstseen.pack";

/// The pack that started last, and its name while it is being written.
const LAST_PACK: &str = "firstseen.pack.last";
const NEW_LAST_PACK: &str = "firstseen.pack.last.new";

/// The most a pack may hold, in bytes; a thousand rules take about one million.
const MAX_PACK: usize = 16 << 20;

/// What a pack is made of: where one of these stands, rules other than the built-in ones are meant to run.
const SOURCES: [&str; 2] = ["firstseen.toml", "rules"];

/// The rules that run without a pack, compiled when the module was built.
const BUILT_IN: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/builtin.pack"));

/// Whether the configuration directory has a file or a directory of this name, readable or not.
fn is_there(name: &str) -> bool {
    !matches!(wasi::read(name, 0), Err(Errno::NOENT | Errno::BADF))
}

/// The engine of the operator's pack, or of the built-in rules if there is none.
pub(crate) fn engine() -> Result<Engine, String> {
    let why = match of_pack(PACK) {
        Ok(Some(engine)) => return Ok(engine),
        Ok(None) => match SOURCES.iter().find(|name| is_there(name)) {
            None => return of_bytes(BUILT_IN, "the built-in pack"),
            Some(source) => ["there is ", source, ", but no ", PACK, "; make it with `firstseen compile DIR`"].concat(),
        },
        Err(why) => why,
    };
    if is_there(STATE_FILE)
        && let Ok(Some(engine)) = of_pack(LAST_PACK)
    {
        wasi::say(&[&*why, "; until then, the rules of ", LAST_PACK, " run, which ran before"].concat());
        return Ok(engine);
    }
    Err(why)
}

/// The engine of a pack in the configuration directory; nothing if there is no such file.
fn of_pack(name: &str) -> Result<Option<Engine>, String> {
    let bytes = match wasi::read(name, MAX_PACK) {
        Ok(bytes) => bytes,
        Err(Errno::NOENT | Errno::BADF) => return Ok(None),
        Err(Errno::FBIG) => return Err([name, " is larger than 16 MB; make it anew with `firstseen compile`"].concat()),
        Err(Errno(number)) => {
            return Err([name, " cannot be read (", &StorageError(number).text(), "); check its permissions"].concat());
        }
    };
    let engine = of_bytes(&bytes, name)?;
    if name == PACK && !is_kept() {
        // A directory that cannot be written says so for the history.
        let _ = keep(&bytes);
    }
    Ok(Some(engine))
}

fn of_bytes(bytes: &[u8], name: &str) -> Result<Engine, String> {
    let pack = if name == PACK || name == LAST_PACK { pack::decode(bytes) } else { pack::decode_own(bytes) };
    let pack = pack.map_err(|error| [name, " cannot be used: ", &error.text()].concat())?;
    let mut key = [0; 16];
    wasi::random(&mut key).map_err(|Errno(number)| {
        let number = decimal(u64::from(number));
        ["the host gives no random bytes (WASI error ", &number, "), which keep the history from being guessed"]
            .concat()
    })?;
    Engine::open(pack, Box::new(StateFile::default()), key).map_err(|unknown| {
        [
            name,
            " asks for the field ",
            &unknown.0,
            ", which this version does not know; make the pack anew with `firstseen compile`",
        ]
        .concat()
    })
}

/// Whether the pack was kept after it had changed last.
fn is_kept() -> bool {
    let status = |name, how| File::open(name, how).and_then(|file| file.status());
    match (status(PACK, Open::ReadLink), status(LAST_PACK, Open::Read)) {
        (Ok(pack), Ok(last)) => pack.len == last.len && pack.changed < last.changed,
        _ => false,
    }
}

fn keep(pack: &[u8]) -> Result<(), Errno> {
    File::open(NEW_LAST_PACK, Open::Create)?.append(pack)?;
    wasi::rename(NEW_LAST_PACK, LAST_PACK)
}
