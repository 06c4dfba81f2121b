//! How many bytes all requests together may hold: bodies as they came, unpacked, with their alerts, and packed again.
//!
//! In: a request's bytes, before they are held. Out: whether there is room. A request that finds none is refused at once, and its
//! sender sends it again, so no two requests wait for each other. A permit lives as long as the bytes that it stands for: it goes
//! with an answer until that is sent or given up ([`pieces`]). Not here: a body's own bounds, what the module itself holds, and
//! what connections read ahead.
//!
//! [`pieces`]: super::pieces

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What all requests share.
#[derive(Debug)]
pub struct Memory {
    held: AtomicUsize,
    most: usize,
}

/// What one request holds; freed when this is dropped.
#[derive(Debug)]
pub struct MemoryPermit {
    memory: Arc<Memory>,
    bytes: usize,
}

/// Why there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exhausted {
    /// Other requests hold what this one needs.
    Now,
    /// This request alone needs more than there is.
    Ever,
}

impl std::fmt::Display for Exhausted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Exhausted::Now => "too many bytes are under way: try again",
            Exhausted::Ever => {
                "the batch and its answer need more than all of --max-memory: send smaller batches, or raise --max-memory"
            }
        })
    }
}

impl std::error::Error for Exhausted {}

impl Memory {
    /// Room for so many bytes.
    pub fn new(most: usize) -> Arc<Memory> {
        Arc::new(Memory { held: AtomicUsize::new(0), most })
    }

    /// How many bytes are held now.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// A permit for nothing so far.
    pub fn permit(self: &Arc<Self>) -> MemoryPermit {
        MemoryPermit { memory: Arc::clone(self), bytes: 0 }
    }
}

impl MemoryPermit {
    /// How many bytes it stands for.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes room for more bytes.
    ///
    /// # Errors
    /// [`Exhausted`]; nothing is taken then.
    pub fn take(&mut self, bytes: usize) -> Result<(), Exhausted> {
        let Memory { held, most } = &*self.memory;
        let own = self.bytes.checked_add(bytes).filter(|own| own <= most).ok_or(Exhausted::Ever)?;
        let enough = |held: usize| held.checked_add(bytes).filter(|held| held <= most);
        held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, enough).map_err(|_| Exhausted::Now)?;
        self.bytes = own;
        Ok(())
    }

    /// Frees all but so many bytes.
    pub fn keep(&mut self, bytes: usize) {
        self.free(self.bytes.saturating_sub(bytes));
    }

    /// Frees bytes.
    pub fn free(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.memory.held.fetch_sub(bytes, Ordering::Relaxed);
        self.bytes -= bytes;
    }
}

impl Drop for MemoryPermit {
    fn drop(&mut self) {
        self.keep(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_taken_refused_and_freed() {
        let memory = Memory::new(100);
        let (mut first, mut second) = (memory.permit(), memory.permit());
        assert_eq!((first.take(60), second.take(50), second.take(40)), (Ok(()), Err(Exhausted::Now), Ok(())));
        // What does not fit alone is told from what does not fit now.
        assert_eq!((first.take(41), first.take(usize::MAX)), (Err(Exhausted::Ever), Err(Exhausted::Ever)));
        assert_eq!((memory.held(), first.take(40)), (100, Err(Exhausted::Now)));
        second.keep(10);
        second.keep(20);
        assert_eq!((memory.held(), second.bytes()), (70, 10));
        drop(first);
        assert_eq!((memory.held(), second.take(90)), (10, Ok(())));
        second.free(usize::MAX);
        assert_eq!((memory.held(), second.bytes()), (0, 0));
    }
}
