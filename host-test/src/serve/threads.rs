//! Threads for work that takes long, beside those that serve connections.
//!
//! In: work. Out: what comes of it, to a task that waits for it without a thread. Bounds: as many threads as there are for that work,
//! so that what they allocate is allocated again by the same few: memory that a thread has freed is kept for that thread by glibc.
//! Not here: what the work is, and whether it is long.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// Some threads, which end when this is dropped.
#[derive(Debug)]
pub struct Threads {
    jobs: mpsc::Sender<Job>,
}

impl Threads {
    /// Starts so many threads.
    ///
    /// # Errors
    /// The system gives none.
    pub fn start(name: &str, count: usize) -> io::Result<Threads> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..count {
            let queue = Arc::clone(&queue);
            std::thread::Builder::new().name(name.to_owned()).spawn(move || {
                let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                while let Ok(job) = next() {
                    // Whoever waits for it panics in its place.
                    let _ = catch_unwind(AssertUnwindSafe(job));
                }
            })?;
        }
        Ok(Threads { jobs })
    }

    /// Has work done when one of the threads is free.
    ///
    /// # Panics
    /// The work does.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (give, take) = oneshot::channel();
        let job = move || {
            // Nobody may wait for it any more.
            let _ = give.send(work());
        };
        // Where there is no thread, the job is dropped, and with it the other end.
        let _ = self.jobs.send(Box::new(job));
        take.await.expect("the work is done")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_panics_ends_nothing_else() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let threads = Threads::start("work", 1).expect("a thread");
        let panics = catch_unwind(AssertUnwindSafe(|| runtime.block_on(threads.run(|| panic!("on purpose")))));
        assert!(panics.is_err());
        assert_eq!(runtime.block_on(threads.run(|| 7)), 7);
    }
}
