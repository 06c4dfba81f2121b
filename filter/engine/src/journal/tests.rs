//! The tests of the state file. Each file is one idea:
//!
//! - `memory`: a disk in memory that fails where a test wants it to, and remembers all that was written to it;
//! - `state`: all that a history knows, to be compared;
//! - `script`: a life of a history, event by event, with the state after each batch;
//! - `format`: the bytes stand as the page says;
//! - `fixture`: a file of version 1 is read for ever;
//! - `cut`: a process that ends at any byte leaves a prefix of its batches;
//! - `power`: so does a loss of power, of what was not synced;
//! - `damage`: what is damaged is noticed, and the rest counts;
//! - `keeping`: the file is bounded, and nothing is lost by that;
//! - `failing`: where the file cannot be kept, the history goes on in memory, and says so once;
//! - `two_writers`: neither of two writers harms the file;
//! - `whole_path`: what an engine with a state file says of an event, and says again after a crash;
//! - `large`: a million tuples.

pub(crate) mod memory;
pub(crate) mod state;

mod cut;
mod damage;
mod failing;
mod fixture;
mod format;
mod keeping;
mod large;
mod power;
mod script;
mod two_writers;
#[cfg(feature = "compile")]
mod whole_path;
