//! Independent pieces of work over a few threads, results in order.
//!
//! Tensor operations inside a piece stay on its thread, so the same arithmetic runs in the same
//! order whatever the number of threads.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Who takes the pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// So many threads, each with its pieces to itself.
    Threads(usize),
    /// The calling thread, with all the data parallelism that it has: what a card computes is queued by
    /// one thread, while pictures are prepared on all.
    Caller,
}

impl Workers {
    /// How many pieces are under way at once.
    pub fn count(self) -> usize {
        match self {
            Self::Threads(threads) => threads.max(1),
            Self::Caller => 1,
        }
    }

    /// The same, at most `most` of them.
    #[must_use]
    pub fn at_most(self, most: usize) -> Self {
        match self {
            Self::Threads(threads) => Self::Threads(threads.min(most)),
            Self::Caller => Self::Caller,
        }
    }
}

impl From<usize> for Workers {
    fn from(threads: usize) -> Self {
        Self::Threads(threads)
    }
}

/// Maps `work` over `0..pieces`; the results stand in order.
///
/// After the first error no new piece is started, and the error of the lowest failing piece that
/// ran is returned. What unwinds out of a piece, as a fault of the device does, goes on from here.
///
/// # Errors
/// The first error of `work`.
pub fn in_order<T: Send, E: Send>(
    pieces: usize,
    workers: impl Into<Workers>,
    work: impl Fn(usize) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    let next = AtomicUsize::new(0);
    let results: Vec<Slot<T, E>> = (0..pieces).map(|_| Mutex::new(None)).collect();
    let worker = || {
        loop {
            let piece = next.fetch_add(1, Ordering::Relaxed);
            if piece >= pieces {
                break;
            }
            let result = catch_unwind(AssertUnwindSafe(|| work(piece)));
            if !matches!(result, Ok(Ok(_))) {
                next.store(pieces, Ordering::Relaxed);
            }
            *lock(&results[piece]) = Some(result);
        }
    };
    let workers = match workers.into() {
        Workers::Caller => return (0..pieces).map(work).collect(),
        Workers::Threads(threads) => threads.clamp(1, pieces.max(1)),
    };
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| alone(worker));
        }
    });
    results
        .into_iter()
        .filter_map(|slot| {
            slot.into_inner()
                .unwrap_or_else(|poison| poison.into_inner())
        })
        .map(|result| result.unwrap_or_else(|thrown| resume_unwind(thrown)))
        .collect()
}

/// What became of a piece: its result, or what unwound out of it.
type Slot<T, E> = Mutex<Option<Result<Result<T, E>, Box<dyn Any + Send>>>>;

/// Runs `work` in a pool of this thread only, so that nested data parallelism runs inline.
fn alone(work: impl FnOnce() + Send) {
    match rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .use_current_thread()
        .build()
    {
        Ok(pool) => pool.install(work),
        // Without a pool of its own the work still gives the same results, only less evenly.
        Err(_) => work(),
    }
}

fn lock<T>(slot: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    slot.lock().unwrap_or_else(|poison| poison.into_inner())
}
