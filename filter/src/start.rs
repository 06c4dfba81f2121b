//! Starting: which rules run.
//!
//! In: the configuration directory, if the host gives one. Out: an engine, or one sentence on why there is none. Not here:
//! what becomes of that sentence.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;

use firstseen_engine::Engine;
use firstseen_engine::rule::pack;

use crate::wasi::{self, Errno};

/// The pack's name in the configuration directory.
const PACK: &str = "firstseen.pack";

/// The most a pack may hold, in bytes; a thousand rules take about one million.
const MAX_PACK: usize = 16 << 20;

/// The rules that run without a pack, compiled when the module was built.
const BUILT_IN: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/builtin.pack"));

/// The engine of the operator's pack, or of the built-in rules if there is none.
pub(crate) fn engine() -> Result<Engine, String> {
    let (bytes, name) = match wasi::read(PACK, MAX_PACK) {
        Ok(bytes) => (Cow::Owned(bytes), PACK),
        Err(Errno::NOENT | Errno::BADF) => (Cow::Borrowed(BUILT_IN), "the built-in pack"),
        Err(Errno::FBIG) => {
            return Err(format!("{PACK} is larger than {MAX_PACK} bytes; make it anew with `firstseen compile`"));
        }
        Err(Errno(number)) => {
            return Err(format!("{PACK} cannot be read (WASI error {number}); check its permissions"));
        }
    };
    let pack = pack::decode(&bytes).map_err(|error| format!("{name} cannot be used: {error}"))?;
    let mut key = [0; 16];
    wasi::random(&mut key).map_err(|Errno(number)| {
        format!("the host gives no random bytes (WASI error {number}), which keep the history from being guessed")
    })?;
    Engine::new(pack, key).map_err(|unknown| {
        format!("{name} asks for the field {}, which this version does not know; make the pack anew with `firstseen compile`", unknown.0)
    })
}
