//! Slots that outlive their calls.

use std::{cell::Cell, time::Duration};

use tokio::time::Instant;

use crate::leveler::in_flight::{End, InFlight};
use crate::{
    limit::Outcome,
    respond::{Call, Kept},
};

/// A call that has returned, while its response is handed on.
pub(crate) struct Returned<'a, O, A> {
    in_flight: &'a InFlight<O, A>,
    ok: bool,
    outcome: Outcome,
    is_kept: Cell<bool>,
}

impl<'a, O, A> Returned<'a, O, A> {
    pub(crate) fn new(in_flight: &'a InFlight<O, A>, ok: bool, outcome: Outcome) -> Self {
        Self { in_flight, ok, outcome, is_kept: Cell::new(false) }
    }

    /// Whether its slot goes on with the response.
    pub(crate) fn is_kept(&self) -> bool {
        self.is_kept.get()
    }
}

impl<O: 'static, A: 'static> Call for Returned<'_, O, A> {
    fn waited(&self) -> Duration {
        self.in_flight.wait
    }

    fn keep(&self) -> Box<dyn Kept> {
        let Self { in_flight, ok, outcome, ref is_kept } = *self;
        let mut in_flight = in_flight.carried_on();
        // The second time there is no slot left to keep.
        in_flight.ended = is_kept.replace(true);
        let returned = Instant::now();
        Box::new(KeptSlot { in_flight, ok, outcome, is_broken_off: false, returned })
    }
}

/// A slot that outlives its call: it goes home when this is dropped. What the call took is measured up to
/// its return.
struct KeptSlot<O, A> {
    in_flight: InFlight<O, A>,
    ok: bool,
    outcome: Outcome,
    is_broken_off: bool,
    returned: Instant,
}

impl<O, A> Kept for KeptSlot<O, A> {
    #[cfg(feature = "http")]
    fn judge_trailers(&mut self, trailers: &http::HeaderMap) {
        if let Some(outcome) = self.in_flight.judge.judge_trailers(trailers) {
            self.outcome = outcome;
        }
    }

    /// That says nothing about load, but what the head has said still counts.
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

impl<O, A> Drop for KeptSlot<O, A> {
    fn drop(&mut self) {
        let Self { ok, outcome, is_broken_off, returned, .. } = *self;
        let end = match is_broken_off {
            true => End::BrokenOff { outcome },
            false => End::Returned { ok, outcome },
        };
        self.in_flight.end_at(end, Some(returned));
    }
}
