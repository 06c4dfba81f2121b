//! Memory that the host writes tags and records to.
//!
//! In: sizes. Out: places in blocks that are kept for the module's life. Bounds: one place is at most [`MAX_LEN`] bytes;
//! the blocks together hold what the host asked for between two calls at its most, rounded up. Not here: the heap of the
//! Rust code.
//!
//! A host writes the tag, writes the record, calls, and frees both, or never does (Fluent Bit 4.1.0 and 4.1.1). So places
//! are cut one behind the other from a block, and all are taken back at once: when each has been freed, or when the host
//! asks for memory after a call (C3 of the contract).

use alloc::vec::Vec;

/// The most one place may hold, in bytes: 256 times CloudTrail's largest record.
pub const MAX_LEN: usize = 64 << 20;

/// The smallest block, in bytes: a tag and nearly any record fit.
const MIN_BLOCK: usize = 64 << 10;

/// Places begin at multiples of this, as C's `malloc` promises for any scalar.
const ALIGN: usize = 8;

/// The blocks, and what of them is given away.
#[derive(Debug, Default)]
pub struct InputMemory {
    /// What new places come from.
    block: Block,
    /// Those before it that had no room left.
    full: Vec<Block>,
    live: usize,
    called: bool,
}

/// Memory of which the first bytes are given away.
#[derive(Debug, Default)]
struct Block {
    bytes: Vec<u8>,
    given: usize,
}

impl InputMemory {
    /// No memory yet.
    pub const fn new() -> InputMemory {
        InputMemory { block: Block { bytes: Vec::new(), given: 0 }, full: Vec::new(), live: 0, called: false }
    }

    /// A place for `len` bytes; null if that is more than [`MAX_LEN`], or than there is.
    pub fn malloc(&mut self, len: usize) -> *mut u8 {
        if len > MAX_LEN {
            return core::ptr::null_mut();
        }
        if self.called {
            self.take_back();
        }
        let size = len.max(1).next_multiple_of(ALIGN);
        if self.block.bytes.len() - self.block.given < size && self.add_block(size).is_none() {
            return core::ptr::null_mut();
        }
        let Some(place) = self.block.bytes.get_mut(self.block.given..) else { return core::ptr::null_mut() };
        self.block.given += size;
        self.live += 1;
        place.as_mut_ptr()
    }

    /// Gives a place back, each once. What is outside of every block is ignored.
    pub fn free(&mut self, place: *const u8) {
        if self.block.offset(place).is_some() || self.full.iter().any(|block| block.offset(place).is_some()) {
            self.live = self.live.saturating_sub(1);
            if self.live == 0 {
                self.take_back();
            }
        }
    }

    /// Takes note that the host has called: what it was given may be taken back.
    pub fn called(&mut self) {
        self.called = true;
    }

    /// What the host wrote: `len` bytes from `place` on, and whether a NUL follows; `None` if that is not all inside one
    /// block.
    pub fn written(&self, place: *const u8, len: usize) -> Option<(&[u8], bool)> {
        self.block.written(place, len).or_else(|| self.full.iter().find_map(|block| block.written(place, len)))
    }

    fn take_back(&mut self) {
        self.live = 0;
        self.called = false;
        if !self.full.is_empty() {
            self.keep_largest();
        }
        self.block.given = 0;
    }

    /// The other blocks were too small for what the host asks for.
    #[cold]
    fn keep_largest(&mut self) {
        for block in core::mem::take(&mut self.full) {
            if block.bytes.len() > self.block.bytes.len() {
                self.block = block;
            }
        }
    }

    /// `None` if there is no memory for it.
    #[cold]
    fn add_block(&mut self, size: usize) -> Option<()> {
        if self.live == 0 {
            (self.block, self.full) = (Block::default(), Vec::new());
        }
        // Room for what else comes between two calls, so that the next round needs one block only.
        let given = self.block.given + self.full.iter().map(|block| block.given).sum::<usize>();
        let len = (size + given + ALIGN).next_power_of_two().max(MIN_BLOCK);
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).ok()?;
        bytes.resize(len, 0);
        let before = core::mem::replace(&mut self.block, Block { bytes, given: 0 });
        if before.given > 0 {
            self.full.push(before);
        }
        Some(())
    }
}

impl Block {
    /// Where in the block a place is.
    fn offset(&self, place: *const u8) -> Option<usize> {
        let offset = (place as usize).checked_sub(self.bytes.as_ptr() as usize)?;
        (offset < self.bytes.len()).then_some(offset)
    }

    /// See [`InputMemory::written`].
    fn written(&self, place: *const u8, len: usize) -> Option<(&[u8], bool)> {
        let from = self.offset(place)?;
        let bytes = self.bytes.get(from..from.checked_add(len)?)?;
        Some((bytes, self.bytes.get(from + len) == Some(&0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a host may rely on: places that are given at one time do not overlap.
    fn assert_apart(places: &[(*mut u8, usize)]) {
        for (at, (a, a_len)) in places.iter().enumerate() {
            for (b, b_len) in &places[at + 1..] {
                let (a, b) = (*a as usize, *b as usize);
                assert!(a + a_len <= b || b + b_len <= a, "{a:#x}+{a_len} and {b:#x}+{b_len} overlap");
            }
        }
    }

    fn held(memory: &InputMemory) -> usize {
        memory.block.bytes.len() + memory.full.iter().map(|block| block.bytes.len()).sum::<usize>()
    }

    #[test]
    fn a_host_that_frees_and_one_that_never_does_use_the_same_memory() {
        for frees in [true, false] {
            let mut memory = InputMemory::new();
            let mut largest = 0;
            for round in 0..10_000_usize {
                let len = (round * 7919) % 100_000;
                let (tag, record) = (memory.malloc(12), memory.malloc(len + 1));
                assert_apart(&[(tag, 12), (record, len + 1)]);
                memory.called();
                if frees {
                    memory.free(tag);
                    memory.free(record);
                }
                largest = largest.max(held(&memory));
            }
            assert!(largest <= 2 * 131_072, "{largest} bytes held, frees: {frees}");
        }
    }

    #[test]
    fn a_record_larger_than_the_block_leaves_the_tag_alone() {
        let mut memory = InputMemory::new();
        let tag = memory.malloc(5);
        let record = memory.malloc(1 << 20);
        assert_apart(&[(tag, 5), (record, 1 << 20)]);
        assert!(memory.written(tag, 5).is_some());
        memory.called();
        let (tag, record) = (memory.malloc(5), memory.malloc(1 << 20));
        assert_apart(&[(tag, 5), (record, 1 << 20)]);
        assert!(memory.full.is_empty());
    }

    #[test]
    fn only_what_was_given_is_read() {
        let mut memory = InputMemory::new();
        assert!(memory.written(core::ptr::null(), 0).is_none());
        let place = memory.malloc(8);
        let (bytes, nul) = memory.written(place, 8).unwrap();
        assert_eq!((bytes.len(), nul), (8, true));
        assert!(memory.written(place, MIN_BLOCK + 1).is_none());
        assert!(memory.written(place, usize::MAX).is_none());
        assert!(memory.written(core::ptr::null(), 8).is_none());
        assert!(memory.written(place.wrapping_add(MIN_BLOCK), 1).is_none());
        assert!(memory.malloc(MAX_LEN + 1).is_null());
        assert!(!memory.malloc(0).is_null());
    }

    #[test]
    fn freeing_what_was_not_given_frees_nothing() {
        let mut memory = InputMemory::new();
        let first = memory.malloc(8);
        memory.free(core::ptr::null());
        memory.free(first.wrapping_add(MIN_BLOCK));
        let second = memory.malloc(8);
        assert_apart(&[(first, 8), (second, 8)]);
    }
}
