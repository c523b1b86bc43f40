use std::cell::Cell;

use crate::sync::figure::{
    AtomicU16, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

/// A value for each of several threads to write, summed on reading.
///
/// Counting is on the path of every call. On one cache line for all threads, counting would cost
/// more than the rest of the path (`cargo bench -p measure --bench overhead`). Threads are
/// therefore spread over stripes.
#[derive(Debug, Default)]
pub(super) struct Striped<T>([T; STRIPES]);

/// The number of stripes with one writer each. The writer adds by a load and a store, in a fifth of
/// the time of an atomic addition.
const OWN: usize = 8;

/// The number of stripes shared by the other threads. Four cut the contention of a large machine to
/// a quarter. A histogram used by threads of all stripes takes 50 kB.
const SHARED: usize = 4;

const STRIPES: usize = OWN + SHARED;

/// The number of stripes ever used. No thread has written to a stripe beyond.
static USED: AtomicUsize = AtomicUsize::new(0);

impl<T> Striped<T> {
    /// Returns the value of a stripe.
    #[inline]
    pub(super) fn of(&self, stripe: Stripe) -> &T {
        &self.0[usize::from(stripe.0)]
    }

    /// Returns the values of all threads.
    pub(super) fn all(&self) -> impl Iterator<Item = &T> {
        self.0.iter().take(USED.load(Relaxed))
    }
}

/// The stripe of the calling thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stripe(u8);

impl Stripe {
    /// The mark of a thread that has not asked for a stripe yet.
    const NONE: Self = Self(u8::MAX);

    /// Returns the stripe of this thread.
    #[inline]
    pub(super) fn mine() -> Self {
        match MINE.get() {
            Self::NONE => Self::join(),
            mine => mine,
        }
    }

    /// Adds to a count of this stripe. Returns the count before.
    #[inline]
    pub(super) fn add(self, count: &AtomicU64, more: u64) -> u64 {
        if self.is_own() {
            // No other thread writes.
            let before = count.load(Relaxed);
            count.store(before.wrapping_add(more), Relaxed);
            before
        } else {
            count.fetch_add(more, Relaxed)
        }
    }

    #[inline]
    fn is_own(self) -> bool {
        usize::from(self.0) < OWN
    }

    #[cold]
    fn join() -> Self {
        // A thread that is ending has no lease any more.
        let mine = LEASE.try_with(|lease| lease.0).unwrap_or_else(|_| Self::shared());
        MINE.set(mine);
        mine
    }

    fn shared() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        Self::used(OWN + NEXT.fetch_add(1, Relaxed) % SHARED)
    }

    fn used(stripe: usize) -> Self {
        USED.fetch_max(stripe + 1, Relaxed);
        // The cast is exact: stripes are few.
        Self(stripe as u8)
    }
}

thread_local! {
    /// Without a destructor, so that a thread that is ending can count, too.
    static MINE: Cell<Stripe> = const { Cell::new(Stripe::NONE) };
    static LEASE: Lease = Lease::take();
}

/// The stripes with a writer, as bits.
static TAKEN: AtomicU16 = AtomicU16::new(0);

/// The right to a stripe, for the life of a thread.
#[derive(Debug)]
struct Lease(Stripe);

impl Lease {
    /// Takes a stripe without a writer, or else a shared one.
    fn take() -> Self {
        let mut taken = TAKEN.load(Relaxed);
        loop {
            let free = taken.trailing_ones() as usize;
            if free >= OWN {
                return Self(Stripe::shared());
            }
            // Acquires the counts of the writer before.
            match TAKEN.compare_exchange_weak(taken, taken | 1 << free, Acquire, Relaxed) {
                Ok(_) => return Self(Stripe::used(free)),
                Err(now) => taken = now,
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.0.is_own() {
            // What the thread counts from now on goes to a shared stripe.
            MINE.set(Stripe::shared());
            TAKEN.fetch_and(!(1 << self.0.0), Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::RefCell,
        sync::{
            Barrier,
            mpsc::{self, Sender},
        },
        thread,
    };

    use super::*;

    #[test]
    fn no_count_is_lost_however_many_threads_count_at_once_and_one_after_the_other() {
        const THREADS: usize = 3 * STRIPES;
        let counts = Striped::<AtomicU64>::default();
        for _ in 0..3 {
            let all_there = Barrier::new(THREADS);
            thread::scope(|scope| {
                for _ in 0..THREADS {
                    scope.spawn(|| {
                        Stripe::mine();
                        all_there.wait();
                        for _ in 0..1000 {
                            let mine = Stripe::mine();
                            mine.add(counts.of(mine), 1);
                        }
                    });
                }
            });
        }
        let sum: u64 = counts.all().map(|count| count.load(Relaxed)).sum();
        assert_eq!(sum, 3 * 1000 * THREADS as u64);
    }

    #[test]
    fn a_thread_that_is_ending_has_given_its_own_stripe_up() {
        struct AtEnd(Sender<(bool, bool)>);
        impl Drop for AtEnd {
            fn drop(&mut self) {
                let has_lease = LEASE.try_with(|_| {}).is_ok();
                self.0.send((has_lease, Stripe::mine().is_own())).expect("somebody listens");
            }
        }
        thread_local!(static AT_END: RefCell<Option<AtEnd>> = const { RefCell::new(None) });
        let (sender, receiver) = mpsc::channel();
        let ending = thread::spawn(|| {
            AT_END.set(Some(AtEnd(sender)));
            Stripe::mine();
        });
        ending.join().expect("no panic");
        let (has_lease, is_own) = receiver.recv().expect("sent");
        assert!(has_lease || !is_own, "the next thread may have taken it");
    }
}
