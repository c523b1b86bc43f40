use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

use super::panics::contain;
use crate::{
    limit::Algorithm,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

/// The limit algorithm, if any.
pub(crate) struct Limiter {
    algorithm: Mutex<Option<Box<dyn Algorithm>>>,
    /// Set while the algorithm decides the limit. Spares a fixed limit the lock.
    is_adaptive: AtomicBool,
    /// Set while the ticker is stopped because the leveler is idle. The next dispatch then wakes
    /// the drain task, which starts the ticker. Never set with a fixed limit.
    wants_ticks: AtomicBool,
}

impl Limiter {
    pub(super) fn new(algorithm: Option<Box<dyn Algorithm>>) -> Self {
        Self {
            is_adaptive: AtomicBool::new(algorithm.is_some()),
            wants_ticks: AtomicBool::new(algorithm.is_some()),
            algorithm: Mutex::new(algorithm),
        }
    }

    /// Returns whether an algorithm decides the limit. False once the algorithm has panicked, or
    /// the limit was set by hand.
    #[inline]
    pub(crate) fn is_adaptive(&self) -> bool {
        self.is_adaptive.load(SeqCst)
    }

    /// Tells the algorithm the news, and applies the new limit. Both happen under one lock, so
    /// limits come into force in the order of the news.
    #[inline]
    pub(super) fn tell(&self, news: impl FnOnce(&mut dyn Algorithm), apply: impl FnOnce(f64)) {
        if self.is_adaptive() {
            self.tell_algorithm(news, apply);
        }
    }

    fn tell_algorithm(&self, news: impl FnOnce(&mut dyn Algorithm), apply: impl FnOnce(f64)) {
        let mut guard = self.algorithm.lock();
        let Some(algorithm) = guard.as_deref_mut().filter(|_| self.is_adaptive()) else { return };
        let asked = catch_unwind(AssertUnwindSafe(|| {
            news(algorithm);
            algorithm.limit()
        }));
        match asked {
            Ok(limit) => apply(limit),
            Err(_) => {
                self.is_adaptive.store(false, SeqCst);
                let algorithm = guard.take();
                drop(guard);
                // Outside of the lock, since it is user code.
                contain(|| drop(algorithm));
                tracing::warn!("limit algorithm panicked, the limit stays what it is");
            }
        }
    }

    /// Listens to the algorithm no more. Waits for an update in progress, so that its limit cannot
    /// overwrite the one set by hand.
    pub(super) fn freeze(&self) {
        self.is_adaptive.store(false, SeqCst);
        drop(self.algorithm.lock());
    }

    /// Listens to the algorithm again, which goes on from `limit`. Returns whether there is one.
    pub(super) fn thaw(&self, limit: usize, apply: impl FnOnce(f64)) -> bool {
        if self.algorithm.lock().is_none() {
            return false;
        }
        if !self.is_adaptive.swap(true, SeqCst) {
            self.wants_ticks.store(true, SeqCst);
            self.tell_algorithm(|algorithm| algorithm.resume_from(limit), apply);
        }
        self.is_adaptive()
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

    /// Takes note that the drain task needs no more waking for the ticker.
    pub(super) fn end_wanting_ticks(&self) {
        if self.wants_ticks.load(SeqCst) {
            self.wants_ticks.store(false, SeqCst);
        }
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter").field("is_adaptive", &self.is_adaptive()).finish_non_exhaustive()
    }
}
