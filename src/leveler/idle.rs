use std::{
    pin::pin,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};

use tokio::sync::Notify;

/// Tells those who ask for it when nothing is left to do.
///
/// A notification locks. The count keeps it off the path of calls while nobody asks.
#[derive(Debug, Default)]
pub(crate) struct Idle {
    asking: AtomicUsize,
    notify: Notify,
}

impl Idle {
    #[inline]
    pub(crate) fn notify(&self) {
        if self.asking.load(SeqCst) > 0 {
            self.notify.notify_waiters();
        }
    }

    /// Waits until `is_idle` returns true, asking it at each notification.
    pub(crate) async fn wait_until(&self, is_idle: impl Fn() -> bool) {
        self.asking.fetch_add(1, SeqCst);
        let _asking = Asking(&self.asking);
        loop {
            // Registered before the look, so that no notification after the look is lost.
            let mut notified = pin!(self.notify.notified());
            notified.as_mut().enable();
            if is_idle() {
                return;
            }
            notified.await;
        }
    }
}

/// Somebody who asks. Counts out in `Drop`.
struct Asking<'a>(&'a AtomicUsize);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}
