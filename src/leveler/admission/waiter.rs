use std::{
    task::{Context, Waker},
    time::Duration,
};

use tokio::time::Instant;

use super::Grantor;
use crate::leveler::{runtime::Runtime, timer::Timer};

/// The membership of a service in the [`Waitlist`](super::waitlist::Waitlist), with the timer of
/// its wait. Ends in `Drop`.
#[derive(Debug)]
pub(crate) struct Waiter<G: Grantor> {
    grantor: G,
    id: u64,
    since: Instant,
    /// The end of the allowed wait, by the wait limit at the beginning.
    late: Option<Instant>,
    /// Made at the first poll without a free place. On the runtime of the poll, so the wait ends in
    /// time whatever becomes of the drain task.
    timer: Option<Timer>,
}

impl<G: Grantor> Waiter<G> {
    /// Joins the list, as the last.
    pub(crate) fn join(grantor: G, waker: &Waker) -> Self {
        let (admission, since) = (grantor.admission(), Instant::now());
        let late = admission.max_wait.get().of(since);
        let id = admission.listeners.waitlist.join(waker.clone(), since);
        Self { grantor, id, since, late, timer: None }
    }

    /// Renews the waker, and waits on at the same position.
    pub(crate) fn renew(&self, waker: &Waker) {
        self.grantor.admission().listeners.waitlist.renew(self.id, waker.clone());
    }

    /// Returns the time since the wait began.
    pub(crate) fn waited(&self) -> Duration {
        self.since.elapsed()
    }

    /// Returns whether the allowed wait is over. If not, wakes the task at the end of the wait.
    ///
    /// A thread without a runtime has no timers, so the wait is over at once.
    pub(crate) fn poll_late(&mut self, runtime: &Runtime, cx: &mut Context<'_>) -> bool {
        let Some(late) = self.late else { return false };
        if Instant::now() >= late {
            return true;
        }
        if self.timer.is_none() {
            self.timer = runtime.sleep_until(late).map(Timer::new);
        }
        self.timer.as_mut().is_none_or(|timer| timer.poll(cx).is_ready())
    }
}

impl<G: Grantor> Drop for Waiter<G> {
    fn drop(&mut self) {
        let admission = self.grantor.admission();
        let was_woken = admission.listeners.waitlist.leave(self.id);
        // The service may have been woken for a place, and leaves the place to others.
        if was_woken && admission.room() > 0 {
            admission.listeners.waitlist.wake_one();
            admission.listeners.drain.wake();
        }
    }
}
