//! The WASM module: what a log shipper loads.
//!
//! Responsible for: the contract with the host (below), one engine for the module's life, and loading the pack when it
//! starts. Everything else is `firstseen-engine`'s.
//!
//! # The contract
//! Exports, besides `memory`:
//!
//! | name | does |
//! |---|---|
//! | `_initialize()` | calls each import once, so that a host which lacks one does not start; loads `firstseen.pack` from the directory that is file descriptor 3, or else the built-in rules, and the history of `firstseen.state`; traps, after a line on stderr, if the pack cannot be used, or if there are settings or rules but no pack |
//! | `malloc(len) -> ptr` | memory for a tag or a record; 0 if it is too large, or there is none |
//! | `free(ptr)` | gives it back; once |
//! | `firstseen(tag, tag_len, sec, nsec, record, record_len) -> ptr` | the record, with its alerts if it raises any |
//! | `firstseen_alerts(...) -> ptr` | the same for records that raise an alert; for others the empty text, which drops them |
//! | `firstseen_status() -> ptr` | until the next call, a 64-bit count and as many 64-bit numbers, little-endian: those of `firstseen_engine::status`; 0 if the filter has not started |
//!
//! - C1: calls come one at a time, from one thread, and an import does not call back.
//! - C2: a record stands in memory that `malloc` gave, whole, as one JSON object with a NUL behind it. One that does not is
//!   handed back, or searched without relying on the NUL.
//! - C3: `malloc` after a call of `firstseen` may give away what was given before that call, freed or not: a host that never
//!   frees does not make memory grow. What is given between two calls stays apart.
//! - C4: the answer is NUL-terminated. It is the record's own pointer, or stands in memory of the module's own until the
//!   next call.
//! - C5: the imports of `search` and [`wasi`] do what their C and WASI namesakes do, and touch no other memory than those
//!   would.
//!
//! With the feature `portable` the module imports WASI only, and searches by itself: for hosts without C's `strstr` and
//! `memchr`.
//!
//! After `_initialize`, nothing traps but the exhaustion of memory, and of a host's stack that is smaller than Fluent Bit's
//! default of 8 KB; a record that cannot be read is handed back. After a trap the next call is served as if there had been
//! none, until the module's own stack, of which each trap keeps some, is used up.
#![cfg_attr(target_arch = "wasm32", no_std)]
// The one crate that speaks to a host in pointers.
#![allow(unsafe_code)]
// Natively the exports are only there to be checked: nothing calls them.
#![cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]

extern crate alloc;

pub mod heap;
pub mod memory;

// The rest stands on imports that only a host of the module provides.
#[cfg(any(target_arch = "wasm32", clippy, doc))]
mod fluent_bit;
#[cfg(all(any(target_arch = "wasm32", clippy, doc), not(feature = "portable")))]
mod search;
#[cfg(any(target_arch = "wasm32", clippy, doc))]
mod start;
#[cfg(any(target_arch = "wasm32", clippy, doc))]
mod state_file;
#[cfg(any(target_arch = "wasm32", clippy, doc))]
mod wasi;

#[cfg(target_arch = "wasm32")]
#[global_allocator]
static HEAP: heap::Heap<heap::LinearMemory> = heap::Heap::new(heap::LinearMemory);

#[cfg(target_arch = "wasm32")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}
