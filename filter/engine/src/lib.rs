//! The detection engine of firstseen.
//!
//! Responsible for: a record's bytes in, the same bytes with alerts appended (or the word that nothing changes) out.
//! Bounds: no I/O but through [`storage::Storage`], no clock, no threads, no unsafe code; `no_std` with `alloc`, so that the same code runs natively and
//! in the WASM module. Not here: pointers and memory of the host (crate `firstseen-filter`), files, processes.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(any(feature = "compile", test))]
extern crate std;

mod alert;
pub mod decimal;
mod engine;
pub mod enrichment;
pub mod event;
mod host_clock;
pub mod journal;
mod learning;
pub mod new_terms;
pub mod predicate;
pub mod prefilter;
pub mod recognition;
pub mod rule;
pub mod status;
pub mod storage;
pub mod words;

pub use engine::{Engine, Explanation, Outcome};
pub use learning::Learned;
