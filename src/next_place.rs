//! The wait of `poll_ready` for a place, under `Overflow::Wait`.

use std::{
    mem,
    sync::Arc,
    task::{Context, Poll},
};

use crate::{
    enqueue::may_not_wait_for_a_place,
    leveler::{
        admission::{reservation::Reserved, waiter::Waiter},
        core::Core,
        drain::{spawn::ensure_drained, standby::ensure_standby},
    },
    sync::atomic::{Ordering::SeqCst, fence},
};

/// The place for the next call of a service. A single value, since every service has a next place
/// and few use it: making, cloning and dropping a service looks at one value.
#[derive(Debug, Default)]
pub(crate) enum NextPlace {
    #[default]
    Unasked,
    /// Waited for, as an entry in the wait list. In an `Arc` of one owner: the drop of an `Arc` is
    /// out of line, and every drop of a service includes the drop of this value.
    Awaited(Arc<Waiter<Arc<Core>>>),
    /// Taken by `poll_ready`.
    Reserved(Reserved<Arc<Core>>),
}

impl NextPlace {
    /// Returns whether a place is held.
    pub(crate) fn is_held(&self) -> bool {
        matches!(self, Self::Reserved(reserved) if reserved.is_place())
    }

    /// Takes the answer of `poll_ready`, for a call.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<Reserved<Arc<Core>>> {
        match self {
            Self::Reserved(_) => self.take_reserved(),
            Self::Unasked | Self::Awaited(_) => None,
        }
    }

    #[cold]
    fn take_reserved(&mut self) -> Option<Reserved<Arc<Core>>> {
        match mem::take(self) {
            Self::Reserved(reserved) => Some(reserved),
            Self::Unasked | Self::Awaited(_) => None,
        }
    }

    /// Waits for a place. `dead` returns the error of a dead inner. Cancel safe.
    pub(crate) fn poll<E>(
        &mut self,
        core: &Arc<Core>,
        dead: impl FnOnce() -> Option<E>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), E>> {
        let reserve = || Reserved::take(&core.admission, || Arc::clone(core));
        if let Self::Reserved(reserved) = self {
            if let Reserved::TimedOut(_) = reserved {
                // A place may have become free since the wait was over.
                if let Some(place) = reserve() {
                    *reserved = place;
                }
            }
            return Poll::Ready(Ok(()));
        }
        let mut reserved = reserve();
        if reserved.is_none() && may_not_wait_for_a_place(core) {
            // The call finds no place either, and is refused.
            *self = Self::Unasked;
            return Poll::Ready(Ok(()));
        }
        if reserved.is_none() {
            match self {
                Self::Awaited(waiter) => waiter.renew(cx.waker()),
                _ => *self = Self::Awaited(Arc::new(Waiter::join(Arc::clone(core), cx.waker()))),
            }
            // Try again, since a place may have been freed before the waiter was in the list.
            reserved = reserve();
        }
        let reserved = match reserved {
            Some(reserved) => reserved,
            None => {
                // While a place stays free, the drain task wakes more services, in case the woken
                // service sleeps. Without a runtime no drain task exists, and no service sleeps.
                let _ = ensure_drained(core);
                ensure_standby(core, None);
                if core.metrics.refusing.begin() {
                    // The drain task looks whether anything ends.
                    core.wake();
                }
                // The inner may have died before the waiter was in the list.
                fence(SeqCst);
                if let Some(error) = dead() {
                    *self = Self::Unasked;
                    return Poll::Ready(Err(error));
                }
                let Self::Awaited(waiter) = self else { return Poll::Pending };
                let Some(waiter) = Arc::get_mut(waiter) else { return Poll::Pending };
                if !waiter.poll_late(&core.runtime, cx) {
                    return Poll::Pending;
                }
                Reserved::TimedOut(waiter.waited())
            }
        };
        if let Self::Awaited(waiter) = mem::replace(self, Self::Reserved(reserved)) {
            core.metrics.on_place_wait(waiter.waited());
        }
        // Between the two steps of the reservation, a drain may have counted the place as a
        // request.
        core.admission.listeners.watchers.on_place_free(true);
        Poll::Ready(Ok(()))
    }
}
