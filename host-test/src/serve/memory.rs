//! How many bytes of bodies may be held at once, by all requests together.
//!
//! In: bytes as they come. Out: whether there is room; a request that finds none is refused at once, and sent again by its
//! sender, so no two requests can wait for each other's room. Not here: a body's own bounds.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What all requests share.
#[derive(Debug)]
pub struct Memory {
    held: AtomicUsize,
    most: usize,
}

/// What one request holds; given back when this is dropped.
#[derive(Debug)]
pub struct Share {
    memory: Arc<Memory>,
    bytes: usize,
}

/// There is no room for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl Memory {
    /// Room for so many bytes.
    pub fn new(most: usize) -> Arc<Memory> {
        Arc::new(Memory { held: AtomicUsize::new(0), most })
    }

    /// How many bytes are held now.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// A share of nothing so far.
    pub fn share(self: &Arc<Self>) -> Share {
        Share { memory: Arc::clone(self), bytes: 0 }
    }
}

impl Share {
    /// Takes room for more bytes.
    ///
    /// # Errors
    /// [`Full`]; nothing is taken then.
    pub fn take(&mut self, bytes: usize) -> Result<(), Full> {
        let Memory { held, most } = &*self.memory;
        let enough = |held: usize| held.checked_add(bytes).filter(|held| held <= most);
        held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, enough).map_err(|_| Full)?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.memory.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_taken_refused_and_given_back() {
        let memory = Memory::new(100);
        let (mut first, mut second) = (memory.share(), memory.share());
        assert_eq!((first.take(60), second.take(50), second.take(40)), (Ok(()), Err(Full), Ok(())));
        assert_eq!(first.take(usize::MAX), Err(Full));
        assert_eq!(memory.held(), 100);
        drop(first);
        assert_eq!((memory.held(), second.take(60)), (40, Ok(())));
        drop(second);
        assert_eq!(memory.held(), 0);
    }
}
