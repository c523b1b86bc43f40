use std::time::Duration;

use tokio::time::Instant;

use crate::words::{display_words, words};

/// The measurements of one finished call.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Sample {
    /// The time of the inner's `call`.
    pub dispatched: Instant,
    /// The end of the call.
    pub finished: Instant,
    /// The time from admission to dispatch.
    pub wait: Duration,
    /// The number of calls in flight just after the dispatch of this call, this call included.
    pub in_flight_at_dispatch: usize,
    /// The number of calls in flight after this call has ended.
    pub in_flight: usize,
    /// Set if the limit was binding: all slots were taken at the dispatch of this call, or at the
    /// end with other requests waiting.
    pub limit_reached: bool,
    /// The call's verdict on the inner's health.
    pub outcome: Outcome,
}

impl Sample {
    /// Returns a sample to try an [`Algorithm`](super::Algorithm) with. The call did not wait, ran
    /// alone, and did not reach the limit. Set the fields for other samples.
    #[must_use]
    pub fn new(dispatched: Instant, finished: Instant, outcome: Outcome) -> Self {
        Self {
            dispatched,
            finished,
            wait: Duration::ZERO,
            in_flight_at_dispatch: 1,
            in_flight: 0,
            limit_reached: false,
            outcome,
        }
    }

    /// Returns the time from dispatch to the end of the call.
    #[must_use]
    pub fn service_time(&self) -> Duration {
        self.finished.saturating_duration_since(self.dispatched)
    }
}

/// A finished call's verdict on the health of the inner service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The inner did its work.
    Success,
    /// The inner reports or shows overload. If the caller drops a running call at the call's
    /// [deadline](crate::Class::deadline), the call counts as overload, whatever classifies
    /// responses.
    Overload,
    /// The end of the call says nothing about load.
    Ignore,
    /// The caller dropped a running call before the deadline or without a deadline, or the call
    /// panicked. The sample still has the age of the call.
    Cancelled,
}

words!(Outcome, "outcome", {
    Success = "success",
    Overload = "overload",
    Ignore = "ignore",
    Cancelled = "cancelled",
});
display_words!(Outcome);

/// The load of a leveler at a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Load {
    /// The number of calls in flight.
    pub in_flight: usize,
    /// The number of waiting requests.
    pub queued: usize,
}

impl Load {
    /// Returns a load to try an [`Algorithm`](super::Algorithm) with.
    #[must_use]
    pub fn new(in_flight: usize, queued: usize) -> Self {
        Self { in_flight, queued }
    }
}
