//! The reader of a body, observed from the side.

use std::{
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
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

    /// Polls for data. While the poll is pending, the reader waits.
    pub(super) fn poll<T>(
        self: &Arc<Self>,
        cx: &Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        *self.unread() = None;
        self.waker.register(cx.waker());
        let waker = Waker::from(Arc::clone(self));
        let polled = poll(&mut Context::from_waker(&waker));
        if polled.is_ready() {
            // The reader has to ask for the next frame.
            self.mark_unread();
        }
        polled
    }

    fn mark_unread(&self) {
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
