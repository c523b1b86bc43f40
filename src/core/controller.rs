use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use super::{lock, places::MAX};
use crate::limit::Algorithm;

/// The algorithm that finds the limit, if there is one.
pub(super) struct Controller {
    algorithm: Mutex<Option<Box<dyn Algorithm>>>,
    /// So that a fixed limit costs no lock.
    adaptive: AtomicBool,
}

impl Controller {
    pub(super) fn new(algorithm: Option<Box<dyn Algorithm>>) -> Self {
        Self { adaptive: AtomicBool::new(algorithm.is_some()), algorithm: Mutex::new(algorithm) }
    }

    #[inline]
    pub(super) fn is_adaptive(&self) -> bool {
        self.adaptive.load(SeqCst)
    }

    /// Tells the algorithm something and applies the limit it then asks for, under one lock: the limits are
    /// applied in the order in which they were found.
    pub(super) fn tell(&self, news: impl FnOnce(&mut dyn Algorithm), apply: impl FnOnce(f64)) {
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
    pub(super) fn dismiss(&self) {
        self.adaptive.store(false, SeqCst);
        let algorithm = lock(&self.algorithm).take();
        // Outside of the lock, since it is user code.
        drop(algorithm);
    }
}

/// The number of slots that a limit means.
pub(super) fn whole_limit(limit: f64) -> usize {
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
