use std::{
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    task::Waker,
};

use futures::task::AtomicWaker;

/// Wakes the drain task, once however often it is asked for.
///
/// Every call that ends wakes it while others wait. All but the first find the flag set: the drain
/// task has been woken and has not run yet.
#[derive(Debug, Default)]
pub(crate) struct Wakeup {
    waker: AtomicWaker,
    is_on: AtomicBool,
}

impl Wakeup {
    /// Wakes the drain task; to be called after the change that it is to see.
    #[inline]
    pub(crate) fn wake(&self) {
        // All these operations are `SeqCst`. If this load sees the flag set, the drain task has not
        // cleared it yet. It clears the flag before it reads any state, so it will see the caller's
        // change.
        if !self.is_on.load(SeqCst) {
            self.is_on.store(true, SeqCst);
            self.waker.wake();
        }
    }

    /// Registers the drain task, which is about to look at everything. Later changes wake it again.
    pub(crate) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
        self.is_on.store(false, SeqCst);
    }
}
