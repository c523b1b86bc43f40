//! Who reads a body.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker},
};

use futures::task::AtomicWaker;
use tokio::time::Instant;

/// Is woken in the stead of who reads a body, to know since when that has not come.
pub(super) struct Reader {
    unread: Mutex<Option<Instant>>,
    waker: AtomicWaker,
}

impl Reader {
    /// Returns one that has not asked for anything yet.
    pub(super) fn gone_since(start: Instant) -> Self {
        Self { unread: Mutex::new(Some(start)), waker: AtomicWaker::new() }
    }

    /// Since when there has been something to read that nobody has asked for.
    pub(super) fn unread_since(&self) -> Option<Instant> {
        *self.unread()
    }

    fn unread(&self) -> MutexGuard<'_, Option<Instant>> {
        self.unread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Polls for something to read. Until there is, somebody waits for it.
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
            // The next is for it to ask for.
            self.is_told();
        }
        polled
    }

    fn is_told(&self) {
        self.unread().get_or_insert_with(Instant::now);
    }
}

impl Wake for Reader {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_told();
        self.waker.wake();
    }
}
