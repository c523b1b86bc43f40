use std::task::Context;

use crate::leveler::admission::Admission;

/// Offers free places to services that wait for one, until one takes it or all have been woken.
#[derive(Debug, Default)]
pub(super) struct Offers {
    /// How many services to wake if the last ones do not take the free place. Zero is for the
    /// service that was woken when the place became free.
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
        cx.waker().wake_by_ref();
    }
}
