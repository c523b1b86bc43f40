use std::{
    cell::Cell,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

/// What each of several threads writes for itself, to be added up by whoever wants to know.
///
/// Counting is on the path of every call. On one cache line for all threads it would cost more than the
/// rest of that path (`cargo bench -p overhead`); so threads are dealt out to stripes that are apart by 128
/// bytes, since processors fetch lines of 64 in pairs.
#[derive(Debug, Default)]
pub(super) struct Striped<T>([Stripe<T>; STRIPES]);

/// With more threads than this, some share a stripe. Four cut the contention of a large machine to a
/// quarter, and the histograms of a layer still fit into 36 KiB.
const STRIPES: usize = 4;

#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe<T>(T);

impl<T> Striped<T> {
    pub(super) fn new(make: impl Fn() -> T) -> Self {
        Self(std::array::from_fn(|_| Stripe(make())))
    }

    /// The stripe of this thread.
    #[inline]
    pub(super) fn mine(&self) -> &T {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static MINE: Cell<Option<usize>> = const { Cell::new(None) };
        }
        // A thread that is just ending has no locals any more; any stripe will do.
        let mine = MINE.try_with(|mine| {
            mine.get().unwrap_or_else(|| {
                let next = NEXT.fetch_add(1, Relaxed) % STRIPES;
                mine.set(Some(next));
                next
            })
        });
        &self.0[mine.unwrap_or(0)].0
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|stripe| &stripe.0)
    }
}
