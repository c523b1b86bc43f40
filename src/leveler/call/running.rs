use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
    thread,
};

use pin_project_lite::pin_project;

use super::{
    context::CallContext,
    held_slot::Returned,
    in_flight::{End, InFlight},
};
use crate::leveler::{core::Core, link::task_call::AtEnd, panics::contain};

pin_project! {
    /// The inner's future, with its slot.
    pub(crate) struct Running<F: Future, A> {
        #[pin]
        future: Option<F>,
        // After the future: the slot is given back when the work has really ended, even if dropping
        // the future panics.
        in_flight: InFlight<F::Output, A>,
        context: CallContext,
    }

    impl<F: Future, A> PinnedDrop for Running<F, A> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if this.future.is_none() {
                return;
            }
            let _entered = this.context.enter();
            this.future.set(None);
        }
    }
}

impl<F: Future, A> Running<F, A> {
    /// Begins to run a call just made.
    #[inline(always)]
    pub(crate) fn new(future: F, in_flight: InFlight<F::Output, A>, context: CallContext) -> Self {
        Self { future: Some(future), in_flight, context }
    }

    /// Reports the dispatch. The event may panic: by then the future belongs to its record, and is
    /// dropped before the slot.
    #[inline(always)]
    pub(crate) fn tell_dispatched(&self) {
        self.in_flight.tell_dispatched();
    }

    pub(super) fn core(&self) -> Option<&Core> {
        self.in_flight.judge().map(|judge| judge.core())
    }

    /// Drops the inner's future in place, and ends the call.
    pub(super) fn stop(self: Pin<&mut Self>, end: End) {
        let mut this = self.project();
        contain(|| {
            let _entered = this.context.enter();
            this.future.set(None);
        });
        // A subscriber's panic on entering the span must not leave the work behind its slot.
        contain(|| {
            this.future.set(None);
            this.in_flight.end(end);
        });
    }

    /// Polls like the future itself. If the call hands on, the drain task is not told of the slot
    /// freed by the end, even by a panic: the caller uses the slot. `left` gets what the end leaves
    /// to the caller.
    pub(super) fn poll_call(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        left: Option<&mut AtEnd>,
    ) -> Poll<thread::Result<A>>
    where
        F::Output: 'static,
        A: 'static,
    {
        let mut this = self.project();
        let in_flight = this.in_flight;
        let Some(judge) = in_flight.judge() else { return Poll::Pending };
        let entered = this.context.enter();
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let future = this.future.as_mut().as_pin_mut()?;
            Some(future.poll(cx).map(|output| {
                let judged = judge.judge(&output);
                (output, judged)
            }))
        }));
        let returned = match polled {
            // `None` only after the end, when nobody polls again.
            Ok(None) | Ok(Some(Poll::Pending)) => {
                entered.leave();
                return Poll::Pending;
            }
            Ok(Some(Poll::Ready(returned))) => Ok(returned),
            Err(panic) => Err(panic),
        };
        // Nobody gets the panic of this drop.
        contain(|| this.future.set(None));
        entered.leave();
        let (output, (outcome, ok)) = match returned {
            Ok(returned) => returned,
            Err(panic) => {
                in_flight.end_with(End::Panicked, None, left);
                return Poll::Ready(Err(panic));
            }
        };
        let call = Returned::new(in_flight, ok, outcome);
        let answer = catch_unwind(AssertUnwindSafe(|| judge.hand_on(output, &call)));
        let panicked = answer.is_err();
        // Unless the slot goes with the response.
        let end = if panicked { End::Panicked } else { End::Returned { ok, outcome } };
        in_flight.end_with(end, None, left);
        Poll::Ready(answer)
    }
}

/// Resolves at the end of the call; the slot is free, or goes with the response. `Err` carries the
/// panic of the inner's future, of the response classifier or of the hand-on.
impl<F, A> Future for Running<F, A>
where
    F: Future,
    F::Output: 'static,
    A: 'static,
{
    type Output = thread::Result<A>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_call(cx, None)
    }
}
