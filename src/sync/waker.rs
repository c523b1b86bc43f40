//! The waker of `futures`, with a point at which another thread may go on.

use std::task::Waker;

use super::atomic::{AtomicBool, Ordering::SeqCst};

#[derive(Debug, Default)]
pub(crate) struct AtomicWaker {
    waker: futures::task::AtomicWaker,
    step: AtomicBool,
}

impl AtomicWaker {
    pub(crate) fn register(&self, waker: &Waker) {
        self.step.load(SeqCst);
        self.waker.register(waker);
    }

    pub(crate) fn wake(&self) {
        self.step.load(SeqCst);
        self.waker.wake();
    }
}
