use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::inner::{Inner, Judge};
use crate::{
    class::Priority,
    leveler::{
        admission::{
            Admission, arrival::Arrival, place::Place, prediction::histories::Likeness, slot::Slot,
        },
        budget::Budget,
        core::Core,
        kind::Kind,
        link::task_call::AtEnd,
        max_wait::After,
        panics::contain,
    },
    limit::{Outcome, Sample},
    queue::ChargeId,
    stats::Count,
};

/// The end of a running call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    Returned {
        ok: bool,
        outcome: Outcome,
    },
    /// The call returned a response, but the response was dropped before its end.
    BrokenOff {
        outcome: Outcome,
    },
    /// The caller has gone.
    Cancelled,
    Panicked,
    /// The runtime of the call has ended.
    RuntimeLost,
}

/// The facts about a call at its start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    pub(crate) at: Instant,
    pub(crate) wait: After,
    pub(crate) priority: Priority,
    pub(crate) budget: Budget,
    pub(crate) kind: Kind,
    /// The charge to correct when the call ends, if any.
    pub(crate) charge: Option<ChargeId>,
    /// The class's choice of whether to keep the slot until the end of the response body, if any.
    pub(crate) holds_body: Option<bool>,
}

impl Start {
    /// Returns the start of a call without a wait.
    #[inline]
    pub(crate) fn at_once(arrival: &mut Arrival) -> Self {
        let Arrival { rank, budget, kind, holds_body, .. } = *arrival;
        let (wait, priority) = (After::ZERO, rank.priority);
        Self { at: arrival.now(), wait, priority, budget, kind, charge: None, holds_body }
    }
}

/// The record of a running call, with its slot. The call is counted and the slot given back exactly
/// once: by [`end`](Self::end), or by `Drop` as cancelled.
pub(crate) struct InFlight<O, A> {
    slot: Slot<Arc<dyn Judge<O, A>>>,
    // The parts of a `Start`, unpacked to save space.
    at: Instant,
    wait: After,
    charge: Option<ChargeId>,
    budget: Budget,
    marks: Marks,
}

/// The kind, the priority, whether all slots were taken at dispatch, and until when the class says
/// to keep the slot, in two bytes.
#[derive(Clone, Copy)]
struct Marks(u16);

impl Marks {
    const LIMIT_REACHED: u16 = 1 << 5;
    const HOLDS_BODY: u16 = 1 << 4;
    const HOLDS_NO_BODY: u16 = 1 << 3;
    /// The bits of the priority.
    const PRIORITY: u16 = 0b111;
    /// The place of the lowest bit of the kind.
    const KIND: u32 = 7;

    #[inline]
    fn new(priority: Priority, kind: Kind, holds_body: Option<bool>) -> Self {
        let hold = match holds_body {
            None => 0,
            Some(true) => Self::HOLDS_BODY,
            Some(false) => Self::HOLDS_NO_BODY,
        };
        Self(kind.bits() << Self::KIND | priority.index() as u16 | hold)
    }

    #[inline]
    fn with_limit_reached(self, limit_reached: bool) -> Self {
        let limit_reached = if limit_reached { Self::LIMIT_REACHED } else { 0 };
        Self(self.0 | limit_reached)
    }

    fn priority(self) -> Priority {
        Priority::EACH[usize::from(self.0 & Self::PRIORITY)]
    }

    #[cfg(feature = "http")]
    fn holds_body(self) -> Option<bool> {
        let said = self.0 & (Self::HOLDS_BODY | Self::HOLDS_NO_BODY);
        (said != 0).then_some(said == Self::HOLDS_BODY)
    }

    fn kind(self) -> Kind {
        Kind::from_bits(self.0 >> Self::KIND)
    }

    fn limit_reached(self) -> bool {
        self.0 & Self::LIMIT_REACHED != 0
    }
}

impl<O, A> InFlight<O, A> {
    /// Records a direct call.
    #[inline(always)]
    pub(crate) fn direct(
        slot: Slot<&Admission>,
        inner: Arc<dyn Judge<O, A>>,
        start: Start,
    ) -> Self {
        Self::new(slot.move_to(inner), start)
    }

    /// Records a call from the queue; `None` if the place has no slot.
    #[inline(always)]
    pub(crate) fn queued<S, R>(place: Place<Arc<Inner<S, R>>>, start: Start) -> Option<Self>
    where
        S: Send + 'static,
        R: Send + Sync + 'static,
        Inner<S, R>: Judge<O, A>,
    {
        let slot = place.into_slot(|inner| inner as Arc<dyn Judge<O, A>>)?;
        Some(Self::new(slot, start))
    }

    #[inline(always)]
    fn new(slot: Slot<Arc<dyn Judge<O, A>>>, start: Start) -> Self {
        let Start { at, wait, priority, budget, kind, charge, holds_body } = start;
        let limited = slot.grantor().filter(|_| !slot.is_bypass());
        let limit_reached =
            limited.is_some_and(|judge| slot.in_flight() >= judge.core().admission.limit());
        let marks = Marks::new(priority, kind, holds_body).with_limit_reached(limit_reached);
        Self { slot, at, wait, charge, budget, marks }
    }

    /// Reports the dispatch.
    #[inline(always)]
    pub(super) fn tell_dispatched(&self) {
        if let Some(judge) = self.slot.grantor().filter(|_| !self.slot.is_bypass()) {
            judge.core().on_dispatched(self.wait);
        }
    }

    /// Returns the judge of the call.
    #[inline]
    pub(super) fn judge(&self) -> Option<&Arc<dyn Judge<O, A>>> {
        self.slot.grantor()
    }

    /// Returns the time between admission and dispatch.
    pub(super) fn waited(&self) -> Duration {
        self.wait.get().unwrap_or_default()
    }

    /// Returns whether the call keeps the slot until the end of the response body, if the class
    /// said.
    #[cfg(feature = "http")]
    pub(super) fn holds_body(&self) -> Option<bool> {
        self.marks.holds_body()
    }

    /// Hands the slot over to a record for the time after the call. The present record ends, and
    /// counts nothing.
    pub(super) fn hand_over(&self) -> Self {
        Self { slot: self.slot.hand_over(), ..*self }
    }

    /// Ends the call: counts the end, and gives the slot back.
    #[inline]
    pub(super) fn end(&self, end: End) {
        self.end_with(end, None, None);
    }

    /// Ends a call. `returned` is the time of the return, if the slot was kept since.
    pub(super) fn end_at(&self, end: End, returned: Option<Instant>) {
        self.end_with(end, returned, None);
    }

    /// Ends a call. If the call hands on, the caller uses the free slot, and the drain task is not
    /// told. Then `left` gets what is left to the caller, even if a panic follows.
    pub(super) fn end_with(&self, end: End, returned: Option<Instant>, left: Option<&mut AtEnd>) {
        if !self.slot.is_live() {
            return;
        }
        if let Some(judge) = self.judge().filter(|_| !self.slot.is_bypass()) {
            self.end_limited(judge.core(), end, returned, left);
        } else {
            drop(self.slot.release(left.is_some()));
        }
        let name = || self.judge().map(|judge| &*judge.core().settings.name);
        tracing::trace!(name = name(), ?end, "request finished");
    }

    fn end_limited(
        &self,
        core: &Core,
        end: End,
        returned: Option<Instant>,
        left: Option<&mut AtEnd>,
    ) {
        let hands_on = left.is_some();
        let mut left = left;
        let Self { at, charge, budget, marks, .. } = *self;
        let like = Likeness { kind: marks.kind(), priority: marks.priority(), budget };
        let predictor = &core.admission.predictor;
        let now = Instant::now();
        if let Some(left) = &mut left {
            left.at = Some(now);
        }
        let finished = returned.unwrap_or(now);
        let service_time = finished.saturating_duration_since(at);
        // Count first, then free the slot: anyone woken by the free slot must find the books
        // balanced.
        let outcome = self.count(core, end, service_time);
        if let End::Returned { .. } | End::BrokenOff { .. } = end {
            core.metrics.service_time.record(service_time);
            let held = returned.map(|_| now.saturating_duration_since(at));
            predictor.record(like, service_time, held);
        } else {
            predictor.record_censored(like, service_time);
        }
        if let Some(charge) = charge {
            // The call had the slot until now, even if it returned earlier.
            let had = returned.map_or(service_time, |_| now.saturating_duration_since(at));
            match left {
                Some(left) => left.charge = Some((charge, had)),
                None => core.settle(charge, had),
            }
        }
        // Notifies the listeners when dropped at the end, after the sample has changed the limit.
        let Some(released) = self.slot.release(hands_on) else { return };
        let Some(after) = released.after() else { return };
        if core.limiter.is_adaptive() {
            // Other requests wait for a slot, and not for the pace, an inner or the end of a pause.
            let was_full = after.in_flight() + self.slot.taken() >= core.admission.limit();
            core.on_sample(&Sample {
                dispatched: at,
                finished,
                wait: self.waited(),
                in_flight_at_dispatch: self.slot.in_flight(),
                in_flight: after.in_flight(),
                limit_reached: marks.limit_reached() || after.waiting() > 0 && was_full,
                outcome,
            });
        }
    }

    fn count(&self, core: &Core, end: End, age: Duration) -> Outcome {
        let (counters, priority) = (&core.admission.counters, self.marks.priority());
        match end {
            End::Returned { ok, outcome } => {
                let well = match outcome {
                    Outcome::Success => true,
                    Outcome::Overload => false,
                    Outcome::Ignore | Outcome::Cancelled => ok,
                };
                counters.add(priority, if well { Count::Succeeded } else { Count::Failed });
                if outcome == Outcome::Overload {
                    counters.add(priority, Count::Overloaded);
                }
                outcome
            }
            End::BrokenOff { outcome } => {
                counters.add(priority, Count::Cancelled);
                outcome
            }
            End::Cancelled => {
                counters.add(priority, Count::Cancelled);
                // The caller gave up because the call took too long. If such calls did not count as
                // overload, the limit would be computed from the survivors, the fast calls.
                let is_late = self.budget.is_over(self.waited() + age);
                if is_late { Outcome::Overload } else { Outcome::Cancelled }
            }
            End::Panicked => {
                counters.add(priority, Count::Panicked);
                Outcome::Cancelled
            }
            End::RuntimeLost => {
                counters.add(priority, Count::Failed);
                Outcome::Ignore
            }
        }
    }
}

impl<O, A> Drop for InFlight<O, A> {
    fn drop(&mut self) {
        if self.slot.is_live() {
            // The drop may be part of an unwind, and a second panic would end the process.
            contain(|| self.end(End::Cancelled));
        }
    }
}

const _: () = {
    // A running call is moved several times. Up to this size, a move with a small future needs no
    // call to `memmove`.
    assert!(size_of::<InFlight<(), ()>>() <= 64);
};
