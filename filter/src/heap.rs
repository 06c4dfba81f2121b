//! The heap of the Rust code: free lists by size, and the end of linear memory.
//!
//! In: sizes. Out: places, aligned to 8. Bounds: a place takes at most a quarter more than was asked for (under 128 bytes: up
//! to the next 8), with nothing stored beside it, because the history is made of millions of small ones; memory that was
//! given back is used again for the same size only, so the heap holds the sum, over the sizes, of the most that was ever in
//! use of each. Not here: memory that the host writes to ([`crate::memory`]).
//!
//! ```text
//! alloc:  the first free place of the size's class, or else the next bytes at the end of memory
//! free:   the place becomes the first free one of its class; it holds the address of the next
//! ```

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr;

/// What every place is aligned to: the most that any type of the module asks for.
const ALIGN: usize = 8;

/// Up to this size, in bytes, there is a class for each multiple of 8; behind it, four for each power of two.
const LAST_FINE: usize = 128;
const FINE_CLASSES: usize = LAST_FINE / ALIGN;
/// Up to 2 GB.
const CLASSES: usize = FINE_CLASSES + 4 * (31 - LAST_FINE.ilog2() as usize);

/// Where new memory comes from.
pub trait Memory {
    /// Makes at least `len` more bytes and returns where they begin and end; `None` if there are none to be had.
    fn grow(&self, len: usize) -> Option<(usize, usize)>;
}

/// The heap. One thread at a time may use it.
#[derive(Debug)]
pub struct Heap<M> {
    state: UnsafeCell<State>,
    memory: M,
}

// SAFETY: C1. No two threads call the module, so nothing in it is used by two.
unsafe impl<M> Sync for Heap<M> {}

#[derive(Debug)]
struct State {
    /// The first free place of each class.
    free: [*mut Free; CLASSES],
    /// The bytes at the end of memory that belong to no class yet.
    next: usize,
    end: usize,
}

/// What stands in a free place.
struct Free {
    next: *mut Free,
}

impl<M: Memory> Heap<M> {
    /// An empty heap.
    pub const fn new(memory: M) -> Heap<M> {
        Heap { state: UnsafeCell::new(State { free: [ptr::null_mut(); CLASSES], next: 0, end: 0 }), memory }
    }
}

impl State {
    /// The next `len` bytes at the end of memory, aligned; null if there are none.
    fn cut(&mut self, len: usize, align: usize, memory: &impl Memory) -> *mut u8 {
        loop {
            let place = self.next.checked_next_multiple_of(align);
            if let Some(place) = place
                && let Some(end) = place.checked_add(len)
                && end <= self.end
            {
                self.next = end;
                return ptr::with_exposed_provenance_mut(place);
            }
            let Some((start, end)) = len.checked_add(align).and_then(|len| memory.grow(len)) else {
                return ptr::null_mut();
            };
            if start != self.end {
                self.next = start;
            }
            self.end = end;
        }
    }
}

/// The class of a size, and the size of its places.
const fn class(size: usize) -> (usize, usize) {
    if size <= LAST_FINE {
        let class = size.saturating_sub(1) / ALIGN;
        return (class, (class + 1) * ALIGN);
    }
    let last = size - 1;
    let power = last.ilog2() as usize;
    let quarter = (last >> (power - 2)) & 3;
    (FINE_CLASSES + (power - LAST_FINE.ilog2() as usize) * 4 + quarter, (quarter + 5) << (power - 2))
}

// SAFETY: places of one class do not overlap: each was cut from memory once, and is either in use or in the class's list once.
// A place is as large and as aligned as its layout asks for.
unsafe impl<M: Memory> GlobalAlloc for Heap<M> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: C1, and no call of the heap is made while this reference lives.
        let state = unsafe { &mut *self.state.get() };
        // No type of the module is aligned so; what would be is not used again.
        if layout.align() > ALIGN {
            return state.cut(layout.size(), layout.align(), &self.memory);
        }
        let (class, size) = class(layout.size());
        let Some(first) = state.free.get_mut(class) else { return ptr::null_mut() };
        if first.is_null() {
            return state.cut(size, ALIGN, &self.memory);
        }
        let place = *first;
        // SAFETY: what a list holds was written by `dealloc`, and nobody has used it since.
        *first = unsafe { (*place).next };
        place.cast()
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        if layout.align() > ALIGN {
            return;
        }
        // SAFETY: C1, and no call of the heap is made while this reference lives.
        let state = unsafe { &mut *self.state.get() };
        if let Some(first) = state.free.get_mut(class(layout.size()).0) {
            let free = place.cast::<Free>();
            // SAFETY: by GlobalAlloc's contract the place is nobody's any more; every class has room for an address in it,
            // and is aligned for one.
            unsafe { free.write(Free { next: *first }) };
            *first = free;
        }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if layout.align() <= ALIGN && class(layout.size()).0 == class(new_size).0 {
            return place;
        }
        // SAFETY: by GlobalAlloc's contract the new size is not zero and, rounded up, not beyond what a layout may be.
        let new = unsafe { self.alloc(Layout::from_size_align_unchecked(new_size, layout.align())) };
        if !new.is_null() {
            // SAFETY: both places are at least as large as what is copied, and different.
            unsafe { ptr::copy_nonoverlapping(place, new, layout.size().min(new_size)) };
            // SAFETY: the place came from this heap with this layout.
            unsafe { self.dealloc(place, layout) };
        }
        new
    }
}

/// The module's linear memory.
#[cfg(target_arch = "wasm32")]
#[derive(Debug)]
pub struct LinearMemory;

#[cfg(target_arch = "wasm32")]
impl Memory for LinearMemory {
    fn grow(&self, len: usize) -> Option<(usize, usize)> {
        const PAGE: usize = 64 << 10;
        let pages = len.div_ceil(PAGE);
        match core::arch::wasm32::memory_grow::<0>(pages) {
            usize::MAX => None,
            before => Some((before * PAGE, (before + pages) * PAGE)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};

    /// Memory that grows by pages of 64 KB up to a limit, sometimes not at its end.
    struct Pages {
        held: RefCell<Vec<Vec<u64>>>,
        grown: Cell<usize>,
        limit: usize,
    }

    impl Pages {
        fn new(limit: usize) -> Pages {
            Pages { held: RefCell::default(), grown: Cell::new(0), limit }
        }
    }

    impl Memory for Pages {
        fn grow(&self, len: usize) -> Option<(usize, usize)> {
            let len = len.next_multiple_of(64 << 10);
            self.grown.set(self.grown.get() + len);
            if self.grown.get() > self.limit {
                return None;
            }
            let mut page = vec![0u64; len / 8];
            let start = page.as_mut_ptr().expose_provenance();
            self.held.borrow_mut().push(page);
            Some((start, start + len))
        }
    }

    #[test]
    fn classes_hold_their_sizes_and_little_more() {
        let mut before = class(1);
        for size in 1..100_000 {
            let (at, place) = class(size);
            assert!(place >= size && place % 8 == 0, "{size} in {place}");
            assert!(place <= size.next_multiple_of(8).max(size + size / 4), "{size} in {place}");
            assert!((at, place) == before || (at == before.0 + 1 && place > before.1), "{size}");
            before = (at, place);
        }
        assert_eq!(class(i32::MAX as usize).0, CLASSES - 1);
    }

    /// Random use against a plain account of what is in use: nothing overlaps, nothing is forgotten, memory is used again.
    #[test]
    fn places_are_apart_and_used_again() {
        let heap = Heap::new(Pages::new(64 << 20));
        let mut used: Vec<(*mut u8, Layout, u8)> = Vec::new();
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = move |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random >> 33) as usize % below
        };
        let check = |place: *mut u8, len: usize, mark: u8| {
            // SAFETY: the place is in use and that long.
            assert!((0..len).all(|at| unsafe { place.add(at).read() } == mark), "{place:?} was overwritten");
        };
        for round in 0..200_000 {
            let size = if next(50) == 0 { 1 + next(50_000) } else { 1 + next(300) };
            let mark = round as u8;
            match next(3) {
                0 if !used.is_empty() => {
                    let (place, layout, mark) = used.swap_remove(next(used.len()));
                    check(place, layout.size(), mark);
                    // SAFETY: it came from this heap with this layout.
                    unsafe { heap.dealloc(place, layout) };
                }
                1 if !used.is_empty() => {
                    let at = next(used.len());
                    let (place, layout, old) = used[at];
                    // SAFETY: it came from this heap with this layout.
                    let new = unsafe { heap.realloc(place, layout, size) };
                    check(new, layout.size().min(size), old);
                    // SAFETY: the place is in use and that long.
                    unsafe { new.write_bytes(mark, size) };
                    used[at] = (new, Layout::from_size_align(size, layout.align()).unwrap(), mark);
                }
                _ if used.len() < 500 => {
                    let layout = Layout::from_size_align(size, 1 << next(4)).unwrap();
                    // SAFETY: the size is not zero.
                    let place = unsafe { heap.alloc(layout) };
                    assert!(!place.is_null() && (place as usize).is_multiple_of(layout.align()));
                    // SAFETY: the place is in use and that long.
                    unsafe { place.write_bytes(mark, size) };
                    used.push((place, layout, mark));
                }
                _ => {}
            }
        }
        for (place, layout, mark) in used {
            check(place, layout.size(), mark);
        }
        assert!(heap.memory.grown.get() < 8 << 20, "{} bytes", heap.memory.grown.get());
    }

    #[test]
    fn what_cannot_be_had_is_null() {
        let heap = Heap::new(Pages::new(128 << 10));
        let alloc = |size| {
            // SAFETY: the size is not zero.
            unsafe { heap.alloc(Layout::from_size_align(size, 8).unwrap()) }
        };
        assert!(!alloc(40_000).is_null());
        assert!(alloc(1 << 20).is_null());
        assert!(alloc(isize::MAX as usize - 7).is_null());
        assert!(!alloc(100).is_null());
    }
}
