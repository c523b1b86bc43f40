//! Slots held beyond the end of a call.

use std::time::Duration;

use tokio::time::Instant;

use super::in_flight::{End, InFlight};
#[cfg(feature = "http")]
use crate::leveler::nesting::LevelerId;
use crate::{
    leveler::panics::contain,
    limit::Outcome,
    respond::{Call, Kept},
};

/// A returned call, while the response is handed on.
pub(super) struct Returned<'a, O, A> {
    in_flight: &'a InFlight<O, A>,
    ok: bool,
    outcome: Outcome,
}

impl<'a, O, A> Returned<'a, O, A> {
    pub(super) fn new(in_flight: &'a InFlight<O, A>, ok: bool, outcome: Outcome) -> Self {
        Self { in_flight, ok, outcome }
    }
}

impl<O: 'static, A: 'static> Call for Returned<'_, O, A> {
    fn waited(&self) -> Duration {
        self.in_flight.waited()
    }

    #[cfg(feature = "http")]
    fn holds_body(&self) -> Option<bool> {
        self.in_flight.holds_body()
    }

    fn keep(&self) -> Box<dyn Kept> {
        let Self { in_flight, ok, outcome } = *self;
        // On a second call, no slot is left to hand over.
        let in_flight = in_flight.hand_over();
        Box::new(HeldSlot {
            in_flight,
            ok,
            outcome,
            is_broken_off: false,
            returned: Instant::now(),
        })
    }
}

/// A slot held beyond the end of its call, and given back in `Drop`. The service time ends with the
/// return of the call.
struct HeldSlot<O, A> {
    in_flight: InFlight<O, A>,
    ok: bool,
    outcome: Outcome,
    is_broken_off: bool,
    returned: Instant,
}

impl<O, A> Kept for HeldSlot<O, A> {
    #[cfg(feature = "http")]
    fn id(&self) -> Option<LevelerId> {
        self.in_flight.judge().map(|judge| judge.core().id())
    }

    #[cfg(feature = "http")]
    fn leveler(&self) -> Option<&str> {
        self.in_flight.judge().map(|judge| &*judge.core().settings.name)
    }

    #[cfg(feature = "http")]
    fn judge_trailers(&mut self, trailers: &http::HeaderMap) {
        let judge = self.in_flight.judge();
        if let Some(outcome) = judge.and_then(|judge| judge.judge_trailers(trailers)) {
            self.outcome = outcome;
        }
    }

    /// The failure says nothing about load. The verdict on the head of the response still counts.
    #[cfg(feature = "http")]
    fn fail(&mut self) {
        self.ok = false;
        if self.outcome == Outcome::Success {
            self.outcome = Outcome::Ignore;
        }
    }

    #[cfg(feature = "http")]
    fn break_off(&mut self) {
        self.is_broken_off = true;
    }
}

impl<O, A> Drop for HeldSlot<O, A> {
    fn drop(&mut self) {
        let Self { ok, outcome, is_broken_off, returned, .. } = *self;
        let end = match is_broken_off {
            true => End::BrokenOff { outcome },
            false => End::Returned { ok, outcome },
        };
        // As in the drop of a record without a body.
        contain(|| self.in_flight.end_at(end, Some(returned)));
    }
}
