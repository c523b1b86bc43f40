use std::{
    pin::{Pin, pin},
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tokio::sync::{Notify, futures::Notified};

use super::panics::contain;
use crate::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// Notifies the watchers: tasks waiting for the end of all work, or for more room.
///
/// A notification locks. One count for both keeps the lock off the path of calls while nobody
/// watches.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    watching: AtomicUsize,
    idle: Notify,
    room: Notify,
}

impl Watchers {
    /// Notifies of a free place, and of the end of all work if `is_idle`.
    #[inline]
    pub(crate) fn on_place_free(&self, is_idle: bool) {
        if self.watching.load(SeqCst) > 0 {
            self.notify(is_idle);
        }
    }

    #[cold]
    fn notify(&self, is_idle: bool) {
        // The call that frees a place must not see the panic of a waker.
        contain(|| self.room.notify_waiters());
        if is_idle {
            contain(|| self.idle.notify_waiters());
        }
    }

    /// Waits for `is_idle` to return true. Calls `is_idle` after each notification.
    pub(crate) async fn idle(&self, is_idle: impl Fn() -> bool) {
        let _watching = Watching::begin(&self.watching);
        loop {
            // Registered before the check, so that no notification after the check is missed.
            let mut notified = pin!(self.idle.notified());
            notified.as_mut().enable();
            if is_idle() {
                return;
            }
            notified.await;
        }
    }

    /// Returns a future that resolves at the next notification of room after this call.
    pub(crate) fn room_changed(&self) -> RoomChanged<'_> {
        let _watching = Watching::begin(&self.watching);
        // `Notified` sees all notifications after its making, even before the first poll.
        RoomChanged { notified: self.room.notified(), _watching }
    }
}

/// A count of one watcher. Ends in `Drop`.
#[derive(Debug)]
struct Watching<'a>(&'a AtomicUsize);

impl<'a> Watching<'a> {
    fn begin(watching: &'a AtomicUsize) -> Self {
        watching.fetch_add(1, SeqCst);
        Self(watching)
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

pin_project! {
    /// Resolves at the next notification of room.
    #[derive(Debug)]
    pub(crate) struct RoomChanged<'a> {
        #[pin]
        notified: Notified<'a>,
        _watching: Watching<'a>,
    }
}

impl Future for RoomChanged<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.project().notified.poll(cx)
    }
}
