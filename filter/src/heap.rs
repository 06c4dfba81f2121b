//! The heap of the Rust code: free lists by size, and the end of linear memory.
//!
//! In: sizes. Out: places, aligned to 8. Bounds: a place takes at most a quarter more than was asked for (under 128 bytes: up
//! to the next 8), with nothing stored beside it, because the history is made of millions of small ones. Memory that was
//! given back is used again for the same size, and from 4 KB on for small ones as well, so that the smaller tables that a
//! growing hash table leaves behind are not lost; so the heap holds no more than the sum, over the sizes, of the most that
//! was ever in use of each. Not here: memory that the host writes to ([`crate::memory`]).
//!
//! ```text
//! alloc:  the first free place of the size's class,
//!         or, if small, the next bytes of the region that small places are cut from,
//!         or the next bytes at the end of memory,
//!         or, if small, of the largest free place of 4 KB or more, which becomes that region,
//!         or of memory that is made for it, at the end
//! free:   the place becomes the first free one of its class; it holds the address of the next
//! ```
//!
//! What is left of a region when the next one takes its place is smaller than a small place, so it is one itself.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr;

/// What every place is aligned to: the most that any type of the module asks for.
const ALIGN: usize = 8;

/// Up to this size, in bytes, a place is small, and there is a class for each multiple of 8; behind it, four for each power
/// of two.
const LAST_FINE: usize = 128;
const FINE_CLASSES: usize = LAST_FINE / ALIGN;
/// Up to 2 GB.
const CLASSES: usize = FINE_CLASSES + 4 * (31 - LAST_FINE.ilog2() as usize);

/// The first class whose free places are cut into small ones: that of 4 KB.
const FIRST_CUT: usize = class(4 << 10);

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
    end: Region,
    /// What is left of a large free place.
    reused: Region,
}

/// What stands in a free place.
struct Free {
    next: *mut Free,
}

/// Bytes that places are cut from.
#[derive(Debug)]
struct Region {
    next: usize,
    end: usize,
}

impl<M: Memory> Heap<M> {
    /// An empty heap.
    pub const fn new(memory: M) -> Heap<M> {
        let (end, reused) = (Region { next: 0, end: 0 }, Region { next: 0, end: 0 });
        let state = State { free: [ptr::null_mut(); CLASSES], end, reused };
        Heap { state: UnsafeCell::new(state), memory }
    }
}

impl Region {
    /// The next `len` bytes, aligned; null if there are none.
    fn cut(&mut self, len: usize, align: usize) -> *mut u8 {
        let place = self.next.checked_next_multiple_of(align);
        if let Some(place) = place
            && let Some(end) = place.checked_add(len)
            && end <= self.end
        {
            self.next = end;
            return ptr::with_exposed_provenance_mut(place);
        }
        ptr::null_mut()
    }
}

impl State {
    /// `len` bytes that were in no place before, aligned; null if there are none.
    fn cut(&mut self, len: usize, align: usize, memory: &impl Memory) -> *mut u8 {
        loop {
            let place = self.end.cut(len, align);
            if !place.is_null() {
                return place;
            }
            let Some((start, end)) = len.checked_add(align).and_then(|len| memory.grow(len)) else {
                return place;
            };
            if start != self.end.end {
                self.end.next = start;
            }
            self.end.end = end;
        }
    }

    /// `len` bytes that are in no small place, without making memory; null if there are none.
    fn cut_small(&mut self, len: usize) -> *mut u8 {
        loop {
            for region in [&mut self.reused, &mut self.end] {
                let place = region.cut(len, ALIGN);
                if !place.is_null() {
                    return place;
                }
            }
            let Some(largest) = (FIRST_CUT..CLASSES).rev().find(|class| !self.free[*class].is_null()) else {
                return ptr::null_mut();
            };
            let Region { next, end } = self.reused;
            if next < end {
                self.put(class(end - next), ptr::with_exposed_provenance_mut(next));
            }
            let start = self.take(largest).expose_provenance();
            self.reused = Region { next: start, end: start + size_of(largest) };
        }
    }

    /// A free place of the class; null if there is none.
    fn take(&mut self, class: usize) -> *mut u8 {
        let Some(first) = self.free.get_mut(class) else { return ptr::null_mut() };
        let place = *first;
        if !place.is_null() {
            // SAFETY: what a list holds was written by `put`, and nobody has used it since.
            *first = unsafe { (*place).next };
        }
        place.cast()
    }

    /// Puts a place that is nobody's into its class's list.
    fn put(&mut self, class: usize, place: *mut u8) {
        if let Some(first) = self.free.get_mut(class) {
            let free = place.cast::<Free>();
            // SAFETY: the place is nobody's; every class has room for an address in it, and is aligned for one.
            unsafe { free.write(Free { next: *first }) };
            *first = free;
        }
    }
}

/// The class of a size.
const fn class(size: usize) -> usize {
    let last = size.saturating_sub(1);
    if last < LAST_FINE {
        return last / ALIGN;
    }
    let power = last.ilog2() as usize;
    let quarter = (last >> (power - 2)) & 3;
    FINE_CLASSES + (power - LAST_FINE.ilog2() as usize) * 4 + quarter
}

/// The size of a class's places.
const fn size_of(class: usize) -> usize {
    if class < FINE_CLASSES {
        return (class + 1) * ALIGN;
    }
    let (power, quarter) = ((class - FINE_CLASSES) / 4 + LAST_FINE.ilog2() as usize, class % 4);
    (quarter + 5) << (power - 2)
}
const _: () = assert!(FINE_CLASSES.is_multiple_of(4), "a quarter is what a class leaves when divided by 4");

// SAFETY: places do not overlap: each was cut from a region that moved past it, and regions are new memory or a free place
// that was taken out of its list. A place is either in use or in its class's list once, and as large and as aligned as its
// layout asks for.
unsafe impl<M: Memory> GlobalAlloc for Heap<M> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: C1, and no call of the heap is made while this reference lives.
        let state = unsafe { &mut *self.state.get() };
        // No type of the module is aligned so; what would be is not used again.
        if layout.align() > ALIGN {
            return state.cut(layout.size(), layout.align(), &self.memory);
        }
        let class = class(layout.size());
        let mut place = state.take(class);
        if place.is_null() && class < FINE_CLASSES {
            place = state.cut_small(size_of(class));
        }
        if place.is_null() && class < CLASSES {
            place = state.cut(size_of(class), ALIGN, &self.memory);
        }
        place
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        if layout.align() > ALIGN {
            return;
        }
        // SAFETY: C1, and no call of the heap is made while this reference lives. By GlobalAlloc's contract the place is
        // nobody's any more.
        let state = unsafe { &mut *self.state.get() };
        state.put(class(layout.size()), place);
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if layout.align() <= ALIGN && class(layout.size()) == class(new_size) {
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
        match grow_memory(pages) {
            usize::MAX => None,
            before => Some((before * PAGE, (before + pages) * PAGE)),
        }
    }
}

/// One function with these features turns them on for the whole module when its instructions are chosen; until then all
/// code, that of `core` too, has the same ones, and is optimised together.
#[cfg(target_arch = "wasm32")]
#[target_feature(enable = "bulk-memory,sign-ext")]
fn grow_memory(pages: usize) -> usize {
    core::arch::wasm32::memory_grow::<0>(pages)
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
            let at = class(size);
            let place = size_of(at);
            assert!(place >= size && place.is_multiple_of(8), "{size} in {place}");
            assert!(place <= size.next_multiple_of(8).max(size + size / 4), "{size} in {place}");
            assert!(at == before || (at == before + 1 && place > size_of(before)), "{size}");
            before = at;
        }
        assert_eq!(class(0), 0);
        assert_eq!((class(i32::MAX as usize), size_of(CLASSES - 1)), (CLASSES - 1, 1 << 31));
        assert_eq!((size_of(FIRST_CUT), size_of(FIRST_CUT - 1)), (4096, 3584));
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

    /// Small places of all sizes, each filled with a mark of its own, as many as take at most `len` bytes.
    fn fill(heap: &Heap<Pages>, len: usize) -> Vec<(*mut u8, usize)> {
        let mut places = Vec::new();
        let mut taken = 0;
        for size in (0..).map(|at| 1 + at * 37 % LAST_FINE) {
            taken += size.next_multiple_of(ALIGN);
            if taken > len {
                break;
            }
            // SAFETY: the size is not zero, and the place that long.
            unsafe {
                let place = heap.alloc(Layout::from_size_align(size, ALIGN).unwrap());
                place.write_bytes(places.len() as u8, size);
                places.push((place, size));
            }
        }
        places
    }

    fn assert_untouched(places: &[(*mut u8, usize)]) {
        for (at, (place, size)) in places.iter().enumerate() {
            // SAFETY: the place is in use and that long.
            assert!((0..*size).all(|byte| unsafe { place.add(byte).read() } == at as u8), "{place:?} was overwritten");
        }
    }

    /// As a hash table grows: each is twice as large as the one before, which is given back.
    #[test]
    fn small_places_are_cut_from_what_a_growing_table_leaves_behind() {
        let heap = Heap::new(Pages::new(64 << 20));
        let layout = |size| Layout::from_size_align(size, ALIGN).unwrap();
        let (first, last) = (4 << 10, 1 << 20);
        // SAFETY: the sizes are not zero, and each table comes from this heap with its layout.
        let table = unsafe {
            let mut table = heap.alloc(layout(first));
            let mut size = first;
            while size < last {
                let larger = heap.alloc(layout(size * 2));
                heap.dealloc(table, layout(size));
                (table, size) = (larger, size * 2);
            }
            table.write_bytes(0xa5, last);
            table
        };
        let grown = heap.memory.grown.get();
        // Of each table, less than a small place may be left over that has no taker.
        let left_behind = last - first;
        let places = fill(&heap, left_behind - 9 * LAST_FINE);
        assert_eq!(heap.memory.grown.get(), grown, "memory grew while {left_behind} bytes of it were free");
        assert_untouched(&places);
        // SAFETY: the table is in use and that long.
        assert!((0..last).all(|at| unsafe { table.add(at).read() } == 0xa5), "the table was overwritten");
    }

    #[test]
    fn what_is_left_at_the_end_of_memory_stays_there_while_a_free_place_is_cut() {
        /// Memory in one piece, which grows at its end.
        struct Piece(Vec<u64>, Cell<usize>);
        impl Memory for Piece {
            fn grow(&self, len: usize) -> Option<(usize, usize)> {
                let start = self.0.as_ptr().expose_provenance() + self.1.get();
                let len = len.next_multiple_of(64 << 10);
                self.1.set(self.1.get() + len);
                Some((start, start + len))
            }
        }
        let heap = Heap::new(Piece(vec![0; (128 << 10) / 8], Cell::new(0)));
        let layout = |size| Layout::from_size_align(size, ALIGN).unwrap();
        // SAFETY: no size is zero.
        let alloc = |size| unsafe { heap.alloc(layout(size)) };
        let large = alloc(4 << 10);
        let last = [56 << 10, 3584, 448].map(alloc)[2];
        assert_eq!(heap.memory.1.get(), 64 << 10);
        // SAFETY: it came from this heap with this layout.
        unsafe { heap.dealloc(large, layout(4 << 10)) };
        assert_eq!([alloc(128), alloc(100)], [large, large.wrapping_add(128)]);
        assert_eq!(alloc(1 << 10), last.wrapping_add(448), "64 bytes at the end of memory are lost");
        assert_eq!(alloc(8), large.wrapping_add(128 + 104));
        assert_eq!(heap.memory.1.get(), 128 << 10);
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
