//! A call that runs: its slot and its future.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    thread,
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::Instant;
use tracing::Span;

use crate::leveler::{
    Core, contain, held_slot::Returned, inner::Judge, places::Slots, prediction::Budget,
};
use crate::{
    class::Priority,
    limit::{Outcome, Sample},
    queue::ChargeId,
};

/// How a running call ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    Returned {
        ok: bool,
        outcome: Outcome,
    },
    /// It returned a response, which was dropped before its end.
    BrokenOff {
        outcome: Outcome,
    },
    /// Its caller has gone.
    Cancelled,
    Panicked,
    /// Its runtime has ended.
    RuntimeLost,
}

/// How a call came to run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    pub(crate) at: Instant,
    pub(crate) wait: Duration,
    pub(crate) priority: Priority,
    pub(crate) budget: Budget,
    /// None of them for a call that goes past the queue, on a budget of its own: it is counted by nothing else.
    pub(crate) slots: Slots,
    /// What it was charged, if that is to be put right.
    pub(crate) bill: Option<ChargeId>,
}

impl Start {
    /// Of a call that need not wait; but for its slots.
    pub(crate) fn at(at: Instant, priority: Priority, budget: Budget) -> Self {
        Self { at, wait: Duration::ZERO, priority, budget, slots: Slots::default(), bill: None }
    }

    pub(crate) fn is_bypass(&self) -> bool {
        self.slots.is_none()
    }
}

/// The slot of a running call. It goes home, and the call is counted, exactly once: by [`end`](Self::end)
/// or, for a call that is dropped, by `Drop`.
pub(crate) struct InFlight<O, A> {
    pub(crate) judge: Arc<dyn Judge<O, A>>,
    // Those of its start, side by side with the rest to be small.
    at: Instant,
    pub(crate) wait: Duration,
    slots: Slots,
    bill: Option<ChargeId>,
    budget: Budget,
    marks: Marks,
    pub(crate) ended: bool,
}

/// Its priority, and whether all slots were taken when it was dispatched: one byte for both.
#[derive(Clone, Copy)]
struct Marks(u8);

impl Marks {
    const LIMIT_REACHED: u8 = 1 << 7;

    fn new(priority: Priority, limit_reached: bool) -> Self {
        let limit_reached = if limit_reached { Self::LIMIT_REACHED } else { 0 };
        Self(priority.index() as u8 | limit_reached)
    }

    fn priority(self) -> Priority {
        Priority::ALL[usize::from(self.0 & !Self::LIMIT_REACHED)]
    }

    fn limit_reached(self) -> bool {
        self.0 & Self::LIMIT_REACHED != 0
    }
}

impl<O, A> InFlight<O, A> {
    /// Takes over the slots of a call that was just made.
    pub(crate) fn new(judge: Arc<dyn Judge<O, A>>, start: Start) -> Self {
        let Start { at, wait, priority, budget, slots, bill } = start;
        let limit_reached = slots.in_flight as usize >= judge.core().places.limit();
        let marks = Marks::new(priority, limit_reached && !start.is_bypass());
        let this = Self { judge, at, wait, slots, bill, budget, marks, ended: false };
        // From now on its drop gives back what it has.
        if !start.is_bypass() {
            let core = this.judge.core();
            core.count_surplus(slots.taken, true);
            core.on_dispatched(wait);
        }
        this
    }

    /// What goes on with the slot when the call has ended.
    pub(crate) fn carried_on(&self) -> Self {
        Self { judge: Arc::clone(&self.judge), ..*self }
    }

    /// The call has ended: gives back what it had, and counts it.
    fn end(&mut self, end: End) {
        self.end_at(end, None);
    }

    /// The same for one that has ended, and kept its slot since.
    pub(crate) fn end_at(&mut self, end: End, at: Option<Instant>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        tracing::trace!(?end, "request finished");
        if self.slots.is_none() {
            self.judge.core().end_bypass();
        } else {
            self.end_limited(end, at);
        }
    }

    fn end_limited(&self, end: End, finished: Option<Instant>) {
        let Self { at, wait, slots, bill, budget, marks, .. } = *self;
        let priority = marks.priority();
        let now = Instant::now();
        let finished = finished.unwrap_or(now);
        let service_time = finished.saturating_duration_since(at);
        let core = self.judge.core();
        // Counted before the place is free, so that the books balance for whom that wakes.
        let outcome = self.count(end, service_time);
        if let End::Returned { .. } | End::BrokenOff { .. } = end {
            core.service_time.record(service_time);
            core.estimates.record(priority, budget, service_time);
        } else {
            core.estimates.record_censored(priority, budget, service_time);
        }
        if let Some(bill) = bill {
            // It had the slot until now.
            core.settle(bill, now.saturating_duration_since(at));
        }
        core.count_surplus(slots.taken, false);
        let after = core.places.release_running(slots.taken);
        if after.in_flight() == 0 {
            core.estimates.on_idle(budget, now);
        }
        if core.is_adaptive() {
            // Others wait for a slot, and not for the pace, their inner or the end of a pause.
            let was_full = after.in_flight() + slots.taken as usize >= core.places.limit();
            core.on_sample(&Sample {
                dispatched: at,
                finished,
                wait,
                in_flight_at_dispatch: slots.in_flight as usize,
                in_flight: after.in_flight(),
                limit_reached: marks.limit_reached() || after.waiting() > 0 && was_full,
                outcome,
            });
        }
        core.on_released(after);
    }

    fn count(&self, end: End, age: Duration) -> Outcome {
        let counters = &self.judge.core().counters;
        match end {
            End::Returned { ok, outcome } => {
                let well = match outcome {
                    Outcome::Success => true,
                    Outcome::Overload => false,
                    Outcome::Ignore | Outcome::Cancelled => ok,
                };
                if well { &counters.succeeded } else { &counters.failed }.add();
                if outcome == Outcome::Overload {
                    counters.overloaded.add();
                }
                outcome
            }
            End::BrokenOff { outcome } => {
                counters.cancelled.add();
                outcome
            }
            End::Cancelled => {
                counters.cancelled.add();
                // Its caller has given up because it took too long: were that no sign of overload, a limit would
                // be found by those that are left, which looked well.
                let is_late = self.budget.is_over(self.wait + age);
                if is_late { Outcome::Overload } else { Outcome::Cancelled }
            }
            End::Panicked => {
                counters.panicked.add();
                Outcome::Cancelled
            }
            End::RuntimeLost => {
                counters.failed.add();
                Outcome::Ignore
            }
        }
    }
}

impl<O, A> Drop for InFlight<O, A> {
    fn drop(&mut self) {
        self.end(End::Cancelled);
    }
}

pin_project! {
    /// The inner's future with its slot.
    pub(crate) struct Running<F: Future, A> {
        #[pin]
        future: Option<F>,
        // After the future: the slot goes home when the work has really ended, also when dropping the
        // future panics.
        in_flight: InFlight<F::Output, A>,
        span: Span,
    }

    impl<F: Future, A> PinnedDrop for Running<F, A> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if this.future.is_none() {
                return;
            }
            let _entered = this.span.enter();
            this.future.set(None);
        }
    }
}

impl<F: Future, A> Running<F, A> {
    pub(crate) fn new(future: F, in_flight: InFlight<F::Output, A>, span: Span) -> Self {
        Self { future: Some(future), in_flight, span }
    }

    pub(crate) fn core(&self) -> &Core {
        self.in_flight.judge.core()
    }

    /// Drops the inner's future where it is.
    pub(crate) fn stop(self: Pin<&mut Self>, end: End) {
        let mut this = self.project();
        contain(|| this.span.in_scope(|| this.future.set(None)));
        this.in_flight.end(end);
    }
}

/// Resolves when the call has ended; its slot is free, or goes with the response. `Err` carries the panic of
/// the inner's future, or that of the response classifier.
impl<F, A> Future for Running<F, A>
where
    F: Future,
    F::Output: IsOk + 'static,
    A: 'static,
{
    type Output = thread::Result<A>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let entered = this.span.enter();
        let judge = &this.in_flight.judge;
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let future = this.future.as_mut().as_pin_mut()?;
            Some(future.poll(cx).map(|output| {
                let outcome = judge.judge(&output);
                (output, outcome)
            }))
        }));
        let returned = match polled {
            // Only after the end, which is not polled again.
            Ok(None) | Ok(Some(Poll::Pending)) => return Poll::Pending,
            Ok(Some(Poll::Ready(returned))) => Ok(returned),
            Err(panic) => Err(panic),
        };
        contain(|| this.future.set(None));
        drop(entered);
        let in_flight = this.in_flight;
        let (result, end) = match returned {
            Ok((output, outcome)) => {
                let ok = output.is_ok();
                let call = Returned::new(in_flight, ok, outcome);
                let hand_on = || in_flight.judge.hand_on(output, &call);
                let answer = catch_unwind(AssertUnwindSafe(hand_on));
                // Then it ends with what has its slot now.
                in_flight.ended = call.is_kept();
                let panicked = answer.is_err();
                (answer, if panicked { End::Panicked } else { End::Returned { ok, outcome } })
            }
            Err(panic) => (Err(panic), End::Panicked),
        };
        in_flight.end(end);
        Poll::Ready(result)
    }
}

/// Whether a call returned a response.
pub(crate) trait IsOk {
    fn is_ok(&self) -> bool;
}

impl<T, E> IsOk for Result<T, E> {
    fn is_ok(&self) -> bool {
        self.is_ok()
    }
}

const _: () = {
    // A running call is moved several times on its way: this keeps it and a small future within what is moved
    // without a call to `memmove`.
    assert!(size_of::<InFlight<(), ()>>() <= 64);
};
