use std::time::Duration;

use tokio::time::Instant;

/// What is known of one finished call.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Sample {
    /// When the inner's `call` was made.
    pub dispatched: Instant,
    /// When the call ended.
    pub finished: Instant,
    /// How long the request had waited, from admission to dispatch.
    pub wait: Duration,
    /// How many calls were in flight just after this one was dispatched, itself included.
    pub in_flight_at_dispatch: usize,
    /// How many calls are in flight now, this one no longer included.
    pub in_flight: usize,
    /// Whether the limit was binding: every slot was taken at the dispatch of this call, or until now with
    /// others waiting.
    pub limit_reached: bool,
    /// What the call says about the inner's health.
    pub outcome: Outcome,
}

impl Sample {
    /// Returns the sample of a call that did not wait and ran alone, without a limit in its way, to try an
    /// [`Algorithm`] with. The fields can be set.
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

    /// Returns how long the call ran.
    #[must_use]
    pub fn service_time(&self) -> Duration {
        self.finished.saturating_duration_since(self.dispatched)
    }
}

/// What a finished call says about the health of the inner service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The inner did its work.
    Success,
    /// The inner says, or shows, that it has too much to do. So does a running call that its caller drops when
    /// its [deadline](crate::Class::deadline) has come, whatever classifies responses.
    Overload,
    /// An end that says nothing about load.
    Ignore,
    /// The caller gave up on a running call before its deadline, or without one; or it panicked. Its age is
    /// still known.
    Cancelled,
}

/// How busy a leveler is at a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Load {
    /// How many calls are in flight.
    pub in_flight: usize,
    /// How many requests wait.
    pub queued: usize,
}

impl Load {
    /// Returns the load of so many calls in flight and so many requests that wait, to try an
    /// [`Algorithm`] with.
    #[must_use]
    pub fn new(in_flight: usize, queued: usize) -> Self {
        Self { in_flight, queued }
    }
}
