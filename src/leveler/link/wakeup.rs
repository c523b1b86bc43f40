use std::task::Waker;

use crate::sync::{
    AtomicWaker,
    atomic::{AtomicBool, Ordering::SeqCst},
    fault::{Fault, is_planted},
};

/// Wakes the drain task, at most once between two polls.
///
/// Every finished call wakes the task while others wait. All but the first find the flag set: the
/// drain task has been woken and has not run yet.
#[derive(Debug, Default)]
pub(crate) struct Wakeup {
    waker: AtomicWaker,
    is_on: AtomicBool,
}

impl Wakeup {
    /// Wakes the drain task. Call after the change to be seen.
    #[inline]
    pub(crate) fn wake(&self) {
        // All these operations are `SeqCst`. If this load sees the flag set, the drain task has not
        // cleared the flag yet. The task clears the flag before any read of the state, and will see
        // the caller's change.
        if !self.is_on.load(SeqCst) {
            if is_planted(Fault::FlagSetLate) {
                self.waker.wake();
                self.is_on.store(true, SeqCst);
                return;
            }
            self.is_on.store(true, SeqCst);
            self.waker.wake();
        }
    }

    /// Registers the drain task, before any read of the state. Later changes wake the task again.
    pub(crate) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
        self.is_on.store(false, SeqCst);
    }
}

#[cfg(all(test, shuttle))]
mod models;
