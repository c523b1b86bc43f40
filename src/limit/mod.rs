//! How many calls may run in the inner service at once.
//!
//! A limit is either a number you know ([`Fixed`], set by
//! [`Builder::concurrency`](crate::Builder::concurrency)) or one that an [`Algorithm`] finds from what
//! finished calls tell it ([`Builder::adaptive`](crate::Builder::adaptive), or in short
//! [`Builder::adaptive_concurrency`](crate::Builder::adaptive_concurrency)).
//!
//! | what you know | use |
//! | --- | --- |
//! | how many calls the inner sustains | [`Fixed`] |
//! | nothing: the one to start with | [`Bdp`] |
//! | how long calls to the inner may take; many levelers may share it | [`LatencyTarget`] |
//! | the inner refuses what is too much, and does so in time | [`Aimd`] |
//! | you want what Netflix' Gradient2 does, and overloads do not last | [`Gradient`] |
//! | all calls take the same time within a few percent | [`Vegas`] |
//!
//! None of them learns from [`Outcome::Cancelled`], and from [`Outcome::Ignore`] only [`Bdp`]: many sudden failures
//! lower its limit.

mod aimd;
mod bdp;
mod bounds;
mod fixed;
#[cfg(test)]
mod fleet;
mod gradient;
mod latency_target;
#[cfg(test)]
mod testing;
mod vegas;

use std::time::Duration;

use tokio::time::Instant;

pub use self::{
    aimd::Aimd, bdp::Bdp, fixed::Fixed, gradient::Gradient, latency_target::LatencyTarget,
    vegas::Vegas,
};

/// Decides how many calls may run at once.
///
/// A plain struct: no clock, no lock, no `await`. The layer calls [`on_sample`](Self::on_sample) once for
/// each finished call, and [`on_tick`](Self::on_tick) now and then while there is something to do, one at a
/// time, and reads [`limit`](Self::limit) after it. Rejected calls make no sample, since the inner service
/// never saw them, and neither do those that [go past the queue](crate::Class::bypass).
///
/// Both run under a lock of the leveler, so they must not call its handle's
/// [`set_limit`](crate::Handle::set_limit). A panic in an implementation freezes the limit at its last value; nobody else notices.
///
/// ```
/// use tower_load_leveling::{LoadLevelLayer, limit::{Algorithm, Outcome, Sample}};
///
/// /// Adds a slot per success, halves on overload.
/// #[derive(Debug)]
/// struct Halving(f64);
///
/// impl Algorithm for Halving {
///     fn limit(&self) -> f64 {
///         self.0
///     }
///     fn on_sample(&mut self, sample: &Sample) {
///         match sample.outcome {
///             Outcome::Success if sample.limit_reached => self.0 += 1.0 / self.0,
///             Outcome::Overload => self.0 = (self.0 / 2.0).max(1.0),
///             _ => {}
///         }
///     }
/// }
///
/// let layer = LoadLevelLayer::builder().capacity(256).adaptive(Halving(8.0)).build()?;
/// # drop(layer);
/// # Ok::<(), tower_load_leveling::error::BuildError>(())
/// ```
pub trait Algorithm: Send + 'static {
    /// Returns the limit of this moment.
    ///
    /// The layer takes the whole part. Below 1 one call runs at a time, and dispatches are spaced by the mean
    /// service time divided by the limit, so that on average so much runs.
    fn limit(&self) -> f64;

    /// Takes note of a finished call.
    fn on_sample(&mut self, sample: &Sample);

    /// Takes note of the time while calls run or wait: about every 10 ms, also when none finishes. An idle
    /// leveler does not tick. Default is to do nothing.
    fn on_tick(&mut self, now: Instant, load: &Load) {
        let _ = (now, load);
    }
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
