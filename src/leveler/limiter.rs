use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use tokio::time::Instant;

use crate::leveler::{Core, lock, places::MAX};
use crate::limit::{Algorithm, Load, Sample};

/// The algorithm that finds the limit, if there is one.
pub(crate) struct Limiter {
    algorithm: Mutex<Option<Box<dyn Algorithm>>>,
    /// So that a fixed limit costs no lock.
    adaptive: AtomicBool,
}

impl Limiter {
    pub(crate) fn new(algorithm: Option<Box<dyn Algorithm>>) -> Self {
        Self { adaptive: AtomicBool::new(algorithm.is_some()), algorithm: Mutex::new(algorithm) }
    }

    #[inline]
    pub(crate) fn is_adaptive(&self) -> bool {
        self.adaptive.load(SeqCst)
    }

    /// Tells the algorithm something and applies the limit it then asks for, under one lock: the limits are
    /// applied in the order in which they were found.
    pub(crate) fn tell(&self, news: impl FnOnce(&mut dyn Algorithm), apply: impl FnOnce(f64)) {
        if !self.is_adaptive() {
            return;
        }
        let mut controller = lock(&self.algorithm);
        let Some(algorithm) = controller.as_deref_mut().filter(|_| self.is_adaptive()) else {
            return;
        };
        let asked = catch_unwind(AssertUnwindSafe(|| {
            news(algorithm);
            algorithm.limit()
        }));
        match asked {
            Ok(limit) => apply(limit),
            Err(_) => {
                tracing::warn!("limit algorithm panicked, the limit stays what it is");
                self.adaptive.store(false, SeqCst);
            }
        }
    }

    /// Lets the algorithm have no more say. News under way are waited for, so that the limit it leads to
    /// does not come after the one that is set by hand.
    pub(crate) fn freeze(&self) {
        self.adaptive.store(false, SeqCst);
        let algorithm = lock(&self.algorithm).take();
        // Outside of the lock, since it is user code.
        drop(algorithm);
    }
}

impl Core {
    /// Feeds a finished call to the algorithm, and takes over its limit.
    #[inline]
    pub(crate) fn on_sample(&self, sample: &Sample) {
        self.tell(|algorithm| algorithm.on_sample(sample));
    }

    /// The same for the time.
    pub(crate) fn on_tick(&self, now: Instant) {
        let load = Load::new(self.in_flight(), self.queued());
        self.tell(|algorithm| algorithm.on_tick(now, &load));
    }

    #[inline]
    fn tell(&self, news: impl FnOnce(&mut dyn Algorithm)) {
        self.controller.tell(news, |limit| self.apply_limit(limit));
    }

    /// Whether anything runs or waits. If not, the drain task may sleep, and is woken by the next dispatch.
    pub(crate) fn needs_ticks(&self) -> bool {
        let is_busy = || self.places.counts().in_flight() > 0 || self.queued() > 0;
        // Looked at once more when it is known that ticks are wanted: who was dispatched in between wakes
        // nobody.
        let needed = is_busy() || {
            self.wants_ticks.store(true, SeqCst);
            is_busy()
        };
        if needed {
            self.end_wanting_ticks();
        }
        needed
    }

    /// The drain task needs no more waking for ticks.
    pub(crate) fn end_wanting_ticks(&self) {
        if self.wants_ticks.load(SeqCst) {
            self.wants_ticks.store(false, SeqCst);
        }
    }

    /// Sets the limit by hand; an algorithm has no more say after it.
    pub(crate) fn set_limit(&self, limit: usize) {
        self.controller.freeze();
        self.apply_limit(limit as f64);
    }

    /// Whether the limit was found by an algorithm, and not set by hand since.
    pub(crate) fn is_adaptive(&self) -> bool {
        self.controller.is_adaptive()
    }

    fn apply_limit(&self, limit: f64) {
        let exactly = f64::from_bits(self.limit.swap(limit.to_bits(), SeqCst));
        if exactly != limit && exactly.min(limit) < 1.0 {
            // Dispatches are spaced otherwise now.
            self.wake();
        }
        let (before, limit) = (self.places.limit(), whole_limit(limit));
        if before != limit {
            self.places.set_limit(limit);
            tracing::trace!(name = %self.settings.name, before, limit, "limit changed");
            self.on_bounds_changed();
        }
    }

    /// The limit as it was asked for: the places have its whole part, and 1 at least.
    #[inline]
    pub(crate) fn exact_limit(&self) -> f64 {
        f64::from_bits(self.limit.load(SeqCst))
    }

    /// Whether dispatches are spaced, which only the drain task can do.
    #[inline]
    pub(crate) fn is_paced(&self) -> bool {
        self.settings.rate.is_some() || self.exact_limit() < 1.0
    }
}

/// The number of slots that a limit means.
pub(crate) fn whole_limit(limit: f64) -> usize {
    // A float is cut to the range of the integer by `as`; NaN becomes 0.
    (limit as usize).clamp(1, MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_float_is_a_possible_limit() {
        for (limit, slots) in [(0.4, 1), (7.9, 7), (-3.0, 1), (f64::NAN, 1), (f64::INFINITY, MAX)] {
            assert_eq!(whole_limit(limit), slots, "{limit}");
        }
    }
}
