//! The reader of a body, observed from the side.

use std::{
    sync::Arc,
    task::{Wake, Waker},
};

use tokio::time::Instant;

use super::body_limits::Progress;
use crate::sync::{AtomicWaker, Mutex};

/// Stands between a body and the waker of its reader, to know since when data lies unread.
pub(super) struct Reader {
    progress: Mutex<Progress>,
    waker: AtomicWaker,
}

impl Reader {
    /// Returns a reader that has not asked for anything yet.
    pub(super) fn new(now: Instant) -> Self {
        Self { progress: Mutex::new(Progress::new(now)), waker: AtomicWaker::new() }
    }

    pub(super) fn progress(&self) -> Progress {
        *self.progress.lock()
    }

    /// Takes note that the reader waits for data. Returns the waker to poll the body with, which
    /// wakes `waker`.
    pub(super) fn waker(self: &Arc<Self>, waker: &Waker) -> Waker {
        let now = Instant::now();
        self.progress.lock().on_asked(now);
        self.waker.register(waker);
        Waker::from(Arc::clone(self))
    }

    /// Takes note of data that the reader has to ask for, and of `bytes` that the reader got.
    pub(super) fn mark_unread(&self, bytes: u64) {
        let now = Instant::now();
        self.progress.lock().on_data(bytes, now);
    }
}

impl Wake for Reader {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.mark_unread(0);
        self.waker.wake();
    }
}
