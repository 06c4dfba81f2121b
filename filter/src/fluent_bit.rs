//! The exports, in the shape that Fluent Bit's wasm filter calls them.
//!
//! In: numbers. Out: numbers. Here they become slices and a time, and an answer becomes a pointer to NUL-terminated text.
//! Bounds: the output buffer is reused, and as large as the largest answer so far. Not here: what is answered.

use alloc::vec::Vec;
use core::cell::UnsafeCell;

use firstseen_engine::prefilter::PortableSearch;
use firstseen_engine::{Engine, Outcome, status};
use once_cell::unsync::OnceCell;

use crate::memory::InputMemory;
#[cfg(not(feature = "portable"))]
use crate::search::{self, HostSearch};
use crate::{start, wasi};

/// What a host reads as the empty text: the record is dropped.
static EMPTY: [u8; 1] = [0];

/// What the module keeps between calls. No flag says that a call is under way: one that trapped would leave it behind, and
/// the host calls the same instance again.
struct Module {
    input: InputMemory,
    /// The filter; `None` inside, if there is none to start.
    filter: OnceCell<Option<Filter>>,
    /// What the next call of [`firstseen`] does with records that raise no alert.
    others: Others,
}

struct Slot(UnsafeCell<Module>);

// SAFETY: C1. No two threads call the module, so nothing in it is used by two.
unsafe impl Sync for Slot {}

static MODULE: Slot =
    Slot(UnsafeCell::new(Module { input: InputMemory::new(), filter: OnceCell::new(), others: Others::Pass }));

impl Slot {
    /// The module's state, for the length of one call of the host's.
    #[allow(clippy::mut_from_ref)]
    fn get(&self) -> &mut Module {
        // SAFETY: C1. Each export takes this reference once, as the first thing it does, or is done with it before it calls
        // another export, and the imports that it calls do not call exports, so no other lives at the same time.
        unsafe { &mut *self.0.get() }
    }
}

struct Filter {
    engine: Engine,
    output: Vec<u8>,
    /// What the host was told last of how the filter is.
    status: [u64; status::NUMBERS + 1],
    /// Whether it was said that records come as msgpack.
    said_msgpack: bool,
}

impl Filter {
    /// The filter; `None`, after a line on stderr, if there is none to start.
    fn start() -> Option<Filter> {
        #[cfg(not(feature = "portable"))]
        search::call_each_import();
        wasi::call_each_import();
        match start::engine() {
            Ok(engine) => {
                let mut filter =
                    Filter { engine, output: Vec::new(), status: [0; status::NUMBERS + 1], said_msgpack: false };
                filter.pass_on_notices();
                Some(filter)
            }
            Err(why) => {
                wasi::say(&why);
                None
            }
        }
    }

    /// Says what people are to be told of the history.
    #[cold]
    fn pass_on_notices(&mut self) {
        while let Some(notice) = self.engine.take_notice() {
            wasi::say(&notice);
        }
    }
}

/// What the host does with records that raise no alert.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Others {
    Pass,
    Drop,
}

/// Starts the filter. A host that is told to load rules which cannot be loaded must not go on without them: it traps.
#[cfg_attr(target_arch = "wasm32", unsafe(no_mangle))]
extern "C" fn _initialize() {
    if MODULE.get().filter.get_or_init(Filter::start).is_none() {
        #[cfg(target_arch = "wasm32")]
        core::arch::wasm32::unreachable()
    }
}

/// Memory for a tag or a record.
#[cfg_attr(target_arch = "wasm32", unsafe(no_mangle))]
extern "C" fn malloc(len: usize) -> *mut u8 {
    MODULE.get().input.malloc(len)
}

/// Gives it back.
#[cfg_attr(target_arch = "wasm32", unsafe(no_mangle))]
extern "C" fn free(place: *mut u8) {
    MODULE.get().input.free(place);
}

/// The record, with its alerts if it raises any.
#[cfg_attr(target_arch = "wasm32", unsafe(no_mangle))]
extern "C" fn firstseen(_: *const u8, _: usize, sec: u32, nsec: u32, record: *const u8, len: usize) -> *const u8 {
    answer(sec, nsec, record, len)
}

/// The record with its alerts if it raises any, and else nothing.
#[cfg_attr(target_arch = "wasm32", unsafe(no_mangle))]
extern "C" fn firstseen_alerts(
    tag: *const u8,
    tag_len: usize,
    sec: u32,
    nsec: u32,
    record: *const u8,
    len: usize,
) -> *const u8 {
    MODULE.get().others = Others::Drop;
    firstseen(tag, tag_len, sec, nsec, record, len)
}

/// How the filter is: where, until the next call, the numbers of [`status::Status`] stand, behind their count; each has 64 bits.
/// Pointer 0, if there is no filter.
#[cfg_attr(target_arch = "wasm32", unsafe(no_mangle))]
extern "C" fn firstseen_status() -> *const u64 {
    let Some(Some(filter)) = MODULE.get().filter.get_mut() else { return core::ptr::null() };
    let [count, numbers @ ..] = &mut filter.status;
    (*count, *numbers) = (status::NUMBERS as u64, filter.engine.status().to_numbers());
    filter.status.as_ptr()
}

/// A part of [`firstseen`], for a call less in an interpreter.
#[inline(always)]
fn answer(sec: u32, nsec: u32, place: *const u8, len: usize) -> *const u8 {
    let Module { input, filter, others } = MODULE.get();
    // Forgotten at once, so that no call inherits it from one that did not end.
    let others = core::mem::replace(others, Others::Pass);
    input.called();
    let Some((record, nul_follows)) = input.written(place, len) else { return place };
    #[cfg(feature = "portable")]
    let _ = nul_follows;
    if filter.get().is_none() {
        filter.get_or_init(Filter::start);
    }
    let Some(Some(filter)) = filter.get_mut() else { return place };
    let Filter { engine, output, said_msgpack, .. } = filter;
    if !*said_msgpack && is_msgpack_map(record) {
        *said_msgpack = true;
        wasi::say(
            "records come as msgpack, which cannot be evaluated and in which the host loses some: set event_format to json",
        );
    }

    let arrival = i64::from(sec) * 1000 + i64::from(nsec / 1_000_000);
    output.clear();
    #[cfg(not(feature = "portable"))]
    let outcome = match HostSearch::new(record, nul_follows) {
        Some(search) => engine.process_searched(&search, arrival, output),
        None => engine.process_searched(&PortableSearch(record), arrival, output),
    };
    #[cfg(feature = "portable")]
    let outcome = engine.process_searched(&PortableSearch(record), arrival, output);
    if filter.engine.has_notice() {
        filter.pass_on_notices();
    }
    match (outcome, others) {
        (Outcome::Untouched | Outcome::Annotated { alerts: 0 }, Others::Drop) => EMPTY.as_ptr(),
        (Outcome::Untouched, Others::Pass) => place,
        (Outcome::Annotated { .. }, _) => {
            filter.output.push(0);
            filter.output.as_ptr()
        }
    }
}

/// Whether the record is a map in msgpack, as Fluent Bit passes it with `event_format msgpack`. No JSON text begins so.
fn is_msgpack_map(record: &[u8]) -> bool {
    matches!(record.first(), Some(0x80..=0x8f | 0xde | 0xdf))
}
