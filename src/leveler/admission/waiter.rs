use std::task::Waker;

use super::Grantor;

/// The membership of a service in the [`Waitlist`](super::waitlist::Waitlist). Ends in `Drop`.
#[derive(Debug)]
pub(crate) struct Waiter<G: Grantor> {
    grantor: G,
    id: u64,
}

impl<G: Grantor> Waiter<G> {
    /// Joins the list, as the last.
    pub(crate) fn join(grantor: G, waker: &Waker) -> Self {
        let id = grantor.admission().listeners.waitlist.join(waker.clone());
        Self { grantor, id }
    }

    /// Renews the waker, and waits on at the same position.
    pub(crate) fn renew(&self, waker: &Waker) {
        self.grantor.admission().listeners.waitlist.renew(self.id, waker.clone());
    }
}

impl<G: Grantor> Drop for Waiter<G> {
    fn drop(&mut self) {
        self.grantor.admission().listeners.waitlist.leave(self.id);
    }
}
