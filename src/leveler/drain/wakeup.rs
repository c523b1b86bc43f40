use std::{
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    task::Waker,
};

use futures::task::AtomicWaker;

/// Wakes the drain task, once however often it is asked for.
///
/// Every call that ends wakes it while others wait; the second to the last of them find here that it has been woken
/// and has not come to it.
#[derive(Debug, Default)]
pub(crate) struct Wakeup {
    waker: AtomicWaker,
    is_on: AtomicBool,
}

impl Wakeup {
    /// To be called after the change that the drain task is to see.
    #[inline]
    pub(crate) fn wake(&self) {
        // In the one order of all these operations the change comes before this look, and this look, if it finds
        // the signal on, before it is taken back; the drain task looks at the state only after that.
        if !self.is_on.load(SeqCst) {
            self.is_on.store(true, SeqCst);
            self.waker.wake();
        }
    }

    /// The drain task is about to look at everything: what changes from now on wakes it.
    pub(crate) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
        self.is_on.store(false, SeqCst);
    }
}
