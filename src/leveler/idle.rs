use std::{
    pin::pin,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};

use tokio::sync::Notify;

/// Notifies waiting tasks when nothing is left to do.
///
/// A notification locks. The count keeps the lock off the path of calls while nobody waits.
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

    /// Waits until `is_idle` returns true, with a check at each notification.
    pub(crate) async fn wait_until(&self, is_idle: impl Fn() -> bool) {
        self.asking.fetch_add(1, SeqCst);
        let _asking = Asking(&self.asking);
        loop {
            // Registered before the check, so no later notification is lost.
            let mut notified = pin!(self.notify.notified());
            notified.as_mut().enable();
            if is_idle() {
                return;
            }
            notified.await;
        }
    }
}

/// A waiting task, counted out in `Drop`.
struct Asking<'a>(&'a AtomicUsize);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}
