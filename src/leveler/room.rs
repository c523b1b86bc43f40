use std::{
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tokio::sync::{Notify, futures::Notified};

/// Tells those who watch when there may be more room, or a higher limit.
///
/// A notification locks. The count keeps it off the path of calls while nobody watches.
#[derive(Debug, Default)]
pub(crate) struct RoomWatch {
    watching: AtomicUsize,
    notify: Notify,
}

impl RoomWatch {
    #[inline]
    pub(crate) fn notify(&self) {
        if self.watching.load(SeqCst) > 0 {
            self.notify.notify_waiters();
        }
    }

    /// Returns a future that resolves at the next notification after this call.
    pub(crate) fn changed(&self) -> RoomChanged<'_> {
        self.watching.fetch_add(1, SeqCst);
        let watching = Watching(&self.watching);
        // It is told of all notifications after its making, whether it has been polled or not.
        RoomChanged { notified: self.notify.notified(), _watching: watching }
    }
}

/// Somebody who watches. Counts out in `Drop`.
#[derive(Debug)]
struct Watching<'a>(&'a AtomicUsize);

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

pin_project! {
    /// Resolves at the next notification.
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
