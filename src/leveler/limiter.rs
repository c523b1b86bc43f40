use std::{
    cell::Cell,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use super::panics::{contain, discard};
use crate::{
    limit::{Algorithm, LimitState, View},
    sync::{
        UserMutex, UserMutexGuard,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

/// The limit algorithm, if any.
pub(crate) struct Limiter {
    /// The name of the leveler, for events.
    name: Arc<str>,
    algorithm: UserMutex<Option<Box<dyn Algorithm>>>,
    /// Set while the algorithm decides the limit. Spares a fixed limit the lock.
    is_adaptive: AtomicBool,
    /// Set while the ticker is stopped because the leveler is idle. The next dispatch then wakes
    /// the drain task, which starts the ticker. Never set with a fixed limit.
    wants_ticks: AtomicBool,
}

impl Limiter {
    pub(super) fn new(name: Arc<str>, algorithm: Option<Box<dyn Algorithm>>) -> Self {
        Self {
            name,
            is_adaptive: AtomicBool::new(algorithm.is_some()),
            wants_ticks: AtomicBool::new(algorithm.is_some()),
            algorithm: UserMutex::new(algorithm),
        }
    }

    /// Returns whether an algorithm decides the limit. False once the algorithm has panicked, or
    /// the limit was set by hand.
    #[inline]
    pub(crate) fn is_adaptive(&self) -> bool {
        self.is_adaptive.load(SeqCst)
    }

    /// Tells the algorithm the news, and stores the new limit. Both happen under one lock, so
    /// limits come into force in the order of the news. Afterwards the caller wakes the parties
    /// concerned, without the lock.
    #[inline]
    pub(super) fn tell<T>(
        &self,
        news: impl FnOnce(&mut dyn Algorithm),
        store: impl FnOnce(f64) -> Option<T>,
    ) -> Option<T> {
        if self.is_adaptive() { self.tell_algorithm(news, store) } else { None }
    }

    fn tell_algorithm<T>(
        &self,
        news: impl FnOnce(&mut dyn Algorithm),
        store: impl FnOnce(f64) -> Option<T>,
    ) -> Option<T> {
        let mut guard = self.lock()?;
        let algorithm = guard.as_deref_mut().filter(|_| self.is_adaptive())?;
        let in_algorithm = InAlgorithm::begin();
        let asked = catch_unwind(AssertUnwindSafe(|| {
            news(algorithm);
            algorithm.limit()
        }));
        drop(in_algorithm);
        match asked {
            // Meanwhile the algorithm itself has set the limit by hand, through a handle.
            Ok(_) if !self.is_adaptive() => None,
            Ok(limit) => store(limit),
            Err(panic) => {
                self.is_adaptive.store(false, SeqCst);
                let algorithm = guard.take();
                drop(guard);
                // Outside of the lock, since the drop is user code.
                contain(|| drop(algorithm));
                discard(panic);
                let name = &*self.name;
                let tell = || {
                    tracing::warn!(%name, "limit algorithm panicked, the limit stays what it is");
                };
                contain(tell);
                None
            }
        }
    }

    /// Stops listening to the algorithm. Waits for an update in progress, so that its limit cannot
    /// overwrite the limit set by hand.
    pub(super) fn freeze(&self) {
        self.is_adaptive.store(false, SeqCst);
        drop(self.lock());
    }

    /// Listens to the algorithm again, from `limit` on. Returns whether the limiter has an
    /// algorithm, and the result of `store`, as [`tell`](Self::tell) does.
    pub(super) fn thaw<T>(
        &self,
        limit: usize,
        store: impl FnOnce(f64) -> Option<T>,
    ) -> (bool, Option<T>) {
        if self.lock().is_some_and(|algorithm| algorithm.is_none()) {
            return (false, None);
        }
        let mut stored = None;
        if !self.is_adaptive.swap(true, SeqCst) {
            self.wants_ticks.store(true, SeqCst);
            stored = self.tell_algorithm(|algorithm| algorithm.resume_from(limit), store);
        }
        (self.is_adaptive(), stored)
    }

    /// Returns the state learned by the algorithm. `None` if the algorithm panics; the panic has no
    /// other effect.
    pub(crate) fn state(&self) -> Option<LimitState> {
        self.ask(|algorithm| algorithm.state()).flatten()
    }

    /// Returns a look into the algorithm while it decides the limit. `None` if the algorithm
    /// panics; the panic has no other effect.
    pub(crate) fn view(&self) -> Option<View> {
        if self.is_adaptive() { self.ask(|algorithm| algorithm.view()) } else { None }
    }

    fn ask<T>(&self, question: impl FnOnce(&dyn Algorithm) -> T) -> Option<T> {
        let guard = self.lock()?;
        let algorithm = guard.as_deref()?;
        let _in_algorithm = InAlgorithm::begin();
        contain(|| question(algorithm))
    }

    /// Locks the algorithm. `None` if the thread is inside of an algorithm, and the lock is taken:
    /// the thread itself may hold the lock, and would wait for ever. (An algorithm may own a
    /// handle.)
    #[inline]
    fn lock(&self) -> Option<UserMutexGuard<'_, Option<Box<dyn Algorithm>>>> {
        self.algorithm.try_lock().or_else(|| self.lock_later())
    }

    #[cold]
    fn lock_later(&self) -> Option<UserMutexGuard<'_, Option<Box<dyn Algorithm>>>> {
        if InAlgorithm::is_on() { None } else { Some(self.algorithm.lock()) }
    }

    /// Returns whether the next dispatch has to wake the drain task, for the ticker.
    #[inline]
    pub(super) fn wants_ticks(&self) -> bool {
        self.wants_ticks.load(SeqCst)
    }

    /// Returns whether the ticker is to go on. If not, the next dispatch wakes the drain task.
    pub(super) fn needs_ticks(&self, is_busy: impl Fn() -> bool) -> bool {
        // Check again after setting the flag. A call dispatched between the first check and the
        // store did not see the flag and woke nobody.
        let needed = is_busy() || {
            self.wants_ticks.store(true, SeqCst);
            is_busy()
        };
        if needed {
            self.end_wanting_ticks();
        }
        needed
    }

    /// Records that the drain task no longer needs waking for the ticker.
    pub(super) fn end_wanting_ticks(&self) {
        if self.wants_ticks.load(SeqCst) {
            self.wants_ticks.store(false, SeqCst);
        }
    }
}

thread_local! {
    static IN_ALGORITHM: Cell<bool> = const { Cell::new(false) };
}

/// Marks the thread as being inside of an algorithm, while alive.
struct InAlgorithm {
    before: bool,
}

impl InAlgorithm {
    #[inline]
    fn begin() -> Self {
        Self { before: IN_ALGORITHM.replace(true) }
    }

    fn is_on() -> bool {
        IN_ALGORITHM.get()
    }
}

impl Drop for InAlgorithm {
    #[inline]
    fn drop(&mut self) {
        IN_ALGORITHM.set(self.before);
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter").field("is_adaptive", &self.is_adaptive()).finish_non_exhaustive()
    }
}
