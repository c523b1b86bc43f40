use std::task::Waker;

use super::Granted;

/// The membership of a service in the [`Waitlist`](super::waitlist::Waitlist). Ends in `Drop`.
#[derive(Debug)]
pub(crate) struct Waiter<G: Granted> {
    granted: G,
    id: u64,
}

impl<G: Granted> Waiter<G> {
    /// Joins the list, as the last.
    pub(crate) fn join(granted: G, waker: &Waker) -> Self {
        let id = granted.admission().listeners.waitlist.join(waker.clone());
        Self { granted, id }
    }

    /// Renews the waker, and waits on at the same position.
    pub(crate) fn renew(&self, waker: &Waker) {
        self.granted.admission().listeners.waitlist.renew(self.id, waker.clone());
    }
}

impl<G: Granted> Drop for Waiter<G> {
    fn drop(&mut self) {
        self.granted.admission().listeners.waitlist.leave(self.id);
    }
}
