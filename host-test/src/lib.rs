//! The host program of firstseen, as a library: what its commands and the project's tests share.
//!
//! In: records, a module, a configuration directory. Out: records and alerts. Not here: detection itself, which the module
//! does; the command line, which `main.rs` reads.

pub mod alerts;
pub mod asn;
pub mod candidates;
pub mod compiled_modules;
pub mod configuration;
pub mod fluent_bit;
pub mod guest;
pub mod history_file;
pub mod logs;
pub mod measured;
pub mod mmdb;
pub mod module_file;
pub mod native_search;
pub mod ownership;
pub mod sample;
pub mod search;
pub mod serve;
pub mod state_export;
pub mod state_storage;
pub mod wasi;
