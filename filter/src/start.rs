//! Starting: which rules run, and with which history.
//!
//! In: the configuration directory, if the host gives one. Out: an engine, or one sentence on why there is none. Not here:
//! what becomes of that sentence.

use alloc::boxed::Box;
use alloc::string::String;

use firstseen_engine::Engine;
use firstseen_engine::decimal::decimal;
use firstseen_engine::rule::pack;
use firstseen_engine::storage::StorageError;

use crate::state_file::StateFile;
use crate::wasi::{self, Errno};

/// The pack's name in the configuration directory.
const PACK: &str = "firstseen.pack";

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
    let (pack, name) = match wasi::read(PACK, MAX_PACK) {
        Ok(bytes) => (pack::decode(&bytes), PACK),
        Err(Errno::NOENT | Errno::BADF) => match SOURCES.iter().find(|name| is_there(name)) {
            None => (pack::decode_own(BUILT_IN), "the built-in pack"),
            Some(source) => {
                return Err(["there is ", source, ", but no ", PACK, "; make it with `firstseen compile DIR`"].concat());
            }
        },
        Err(Errno::FBIG) => {
            return Err([PACK, " is larger than 16 MB; make it anew with `firstseen compile`"].concat());
        }
        Err(Errno(number)) => {
            return Err([PACK, " cannot be read (", &StorageError(number).text(), "); check its permissions"].concat());
        }
    };
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
