use std::task::Context;

use crate::{
    leveler::admission::Admission,
    sync::fault::{Fault, is_planted},
};

/// Offers free places to waiting services, until no place is free or all services have been woken.
#[derive(Debug, Default)]
pub(super) struct Offers {
    /// The number of services to wake if a place is still free. Starts at zero, since the freeing
    /// of the place has woken a service.
    next: usize,
}

impl Offers {
    pub(super) fn make(&mut self, admission: &Admission, cx: &mut Context<'_>) {
        let waitlist = &admission.listeners.waitlist;
        let is_free = || admission.counts().held() < admission.total();
        if waitlist.is_empty() || !is_free() {
            self.next = 0;
            return;
        }
        waitlist.wake_some(self.next);
        self.next = self.next.saturating_mul(2).max(1);
        if !is_planted(Fault::OfferedOnce) {
            cx.waker().wake_by_ref();
        }
    }
}

#[cfg(all(test, shuttle))]
mod models;
