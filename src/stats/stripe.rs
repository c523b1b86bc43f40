use std::cell::Cell;

use crate::sync::figure::{AtomicUsize, Ordering::Relaxed};

/// A value for each of several threads to write, summed on reading.
///
/// Counting is on the path of every call. On one cache line for all threads, counting would cost
/// more than the rest of the path (`cargo bench -p measure --bench overhead`). Threads are
/// therefore spread over stripes 128 bytes apart, since processors prefetch cache lines of 64 bytes
/// in pairs.
#[derive(Debug, Default)]
pub(super) struct Striped<T>([Stripe<T>; STRIPES]);

/// The number of stripes; with more threads, some share a stripe. Four cut the contention of a
/// large machine to a quarter. A histogram used by threads of all stripes takes 17 kB.
const STRIPES: usize = 4;

#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe<T>(T);

impl<T> Striped<T> {
    /// Returns the stripe of this thread.
    #[inline]
    pub(super) fn mine(&self) -> &T {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static MINE: Cell<Option<usize>> = const { Cell::new(None) };
        }
        // A thread that is ending has no locals any more. Any stripe will do.
        let mine = MINE.try_with(|mine| {
            mine.get().unwrap_or_else(|| {
                let next = NEXT.fetch_add(1, Relaxed) % STRIPES;
                mine.set(Some(next));
                next
            })
        });
        &self.0[mine.unwrap_or(0)].0
    }

    /// Returns the values of all threads.
    pub(super) fn all(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|stripe| &stripe.0)
    }
}
