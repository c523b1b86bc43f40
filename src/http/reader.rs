//! The reader of a body, observed from the side.

use std::{
    sync::Arc,
    task::{Wake, Waker},
};

use futures::task::AtomicWaker;
use tokio::time::Instant;

use crate::sync::{Mutex, MutexGuard};

/// Stands between a body and the waker of its reader, to know since when data lies unread.
pub(super) struct Reader {
    unread: Mutex<Option<Instant>>,
    waker: AtomicWaker,
}

impl Reader {
    /// Returns a reader that has not asked for anything yet.
    pub(super) fn unread_from(start: Instant) -> Self {
        Self { unread: Mutex::new(Some(start)), waker: AtomicWaker::new() }
    }

    /// Returns the time since which data lies unread; `None` while the reader waits for data.
    pub(super) fn unread_since(&self) -> Option<Instant> {
        *self.unread()
    }

    fn unread(&self) -> MutexGuard<'_, Option<Instant>> {
        self.unread.lock()
    }

    /// Takes note that the reader waits for data. Returns the waker to poll the body with, which
    /// wakes `waker`.
    pub(super) fn waker(self: &Arc<Self>, waker: &Waker) -> Waker {
        *self.unread() = None;
        self.waker.register(waker);
        Waker::from(Arc::clone(self))
    }

    /// Takes note of data that the reader has to ask for.
    pub(super) fn mark_unread(&self) {
        self.unread().get_or_insert_with(Instant::now);
    }
}

impl Wake for Reader {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.mark_unread();
        self.waker.wake();
    }
}
