//! The limit as the product of the inner's throughput and the time that a call may take.
//!
//! [`Bdp`] is the public face, and turns instants into seconds. [`trials::Trials`] tries one limit
//! after the other. A [`meter::Meter`] counts the calls of a trial and ends as an
//! [`interval::Interval`]. [`search::Search`] keeps the known facts about the inner (a
//! [`model::Model`], and the [`calls::Calls`]), learns from each interval, and returns the next
//! [`phase::Trial`]. [`alarm::Alarm`] and [`failures::Failures`] watch for trouble.

mod alarm;
mod calls;
mod ceiling;
mod cut;
mod failures;
mod interval;
mod limits;
mod meter;
mod model;
mod phase;
mod schedule;
mod search;
mod startup;
mod statistics;
#[cfg(test)]
mod tests;
mod trials;

use tokio::time::Instant;

use self::trials::Trials;
use super::{
    algorithm::Algorithm,
    bounds::{Bounds, whole},
    sample::{Load, Sample},
    state::LimitState,
    view::View,
};

/// Finds the limit, and follows changes, if nothing is known of the inner service. Start with this
/// algorithm.
///
/// The limit is a *bandwidth-delay product*: the throughput of the inner, in calls a second, times
/// the allowed latency of calls in the inner. Throughput is measured again and again while the
/// limit is in the way, and moves the limit within a few hundred calls of a change. The latency is
/// learned slowly: the algorithm tries a little more and a little less, and looks whether
/// throughput follows.
/// [limits.md](https://github.com/tower-load-leveling/tower-load-leveling/blob/main/docs/limits.md)
/// has the law, the reasons, the unknowable, and the results of simulations.
///
/// - While the limit is not in the way, the limit stays and nothing is learned. If the limit is in
///   the way now and then, and calls take no longer, the limit grows a little.
/// - If the start is far too low or too high, the algorithm notices within some hundred calls.
/// - Each large cut is an experiment: if throughput follows, the inner had become slow and not less
///   able, and the cut is taken back.
/// - Times without any end of a call, as when a garbage collector runs, are left out.
/// - Failures ([`Outcome::Ignore`](super::Outcome::Ignore)) count for neither throughput nor
///   latency. If suddenly many calls fail at once, the limit goes down for a while. The limit also
///   goes down after many overloads ([`Outcome::Overload`](super::Outcome::Overload)).
///   [`Outcome::Cancelled`](super::Outcome::Cancelled) counts for nothing.
///
/// The algorithm assumes that the inner serves this leveler alone. If several processes share an
/// inner, each sees throughput follow its own limit, at the cost of the rest, and all limits grow:
/// use [`LatencyTarget`](super::LatencyTarget) instead.
///
/// A sample costs some tens of nanoseconds and no allocation.
///
/// ```
/// use tower_load_leveling::{LoadLevelLayer, limit::Bdp};
///
/// let layer = LoadLevelLayer::builder().capacity(1024).adaptive(Bdp::new().max(500)).build()?;
/// # drop(layer);
/// # Ok::<(), tower_load_leveling::error::BuildError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Bdp {
    /// The first instant of a sample or tick. Inside, time is in seconds from here.
    origin: Option<Instant>,
    trials: Trials,
    /// The state to start from. Kept for bounds set later.
    resumed: Option<LimitState>,
}

/// The default start. Less than most services sustain. The limit doubles until calls take longer.
const INITIAL: f64 = 4.0;

impl Default for Bdp {
    fn default() -> Self {
        Self::new()
    }
}

impl Bdp {
    /// Returns an algorithm with a limit of 4 at the start, and always 1 or above.
    #[must_use]
    pub fn new() -> Self {
        Self::within(Bounds { min: 1.0, max: f64::from(u32::MAX), initial: INITIAL })
    }

    /// Starts from the state [learned](crate::Handle::limit_state) before a restart: from the
    /// former limit, without a search.
    ///
    /// Nothing is trusted blindly. The throughput is measured first, before anything else is tried.
    /// If the inner has changed, the limit follows as after any change. An impossible state (a
    /// figure not finite, or not above 0) is ignored.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_load_leveling::limit::{Algorithm, Bdp, LimitState};
    ///
    /// let state = LimitState::new(76.0, 3200.0, Duration::from_millis(20));
    /// assert_eq!(Bdp::new().max(500).resume(state).limit(), 76.0);
    /// ```
    #[must_use]
    pub fn resume(self, state: LimitState) -> Self {
        Self::starting(self.bounds(), Some(state).filter(LimitState::is_possible))
    }

    /// Sets the lowest limit, in calls at once.
    ///
    /// Zero counts as 1. A minimum above the maximum prevails. Default is 1.
    #[must_use]
    pub fn min(self, min: usize) -> Self {
        Self::starting(Bounds { min: whole(min), ..self.bounds() }, self.resumed)
    }

    /// Sets the highest limit: the most calls you would ever want at once.
    ///
    /// Zero counts as 1. Unbounded by default.
    #[must_use]
    pub fn max(self, max: usize) -> Self {
        Self::starting(Bounds { max: whole(max), ..self.bounds() }, self.resumed)
    }

    /// Sets the limit to start with. A good guess saves the search of a second or so.
    ///
    /// Default is 4.
    #[must_use]
    pub fn initial(self, initial: usize) -> Self {
        Self::starting(Bounds { initial: whole(initial), ..self.bounds() }, self.resumed)
    }

    pub(crate) fn within(bounds: Bounds) -> Self {
        Self::starting(bounds, None)
    }

    fn starting(bounds: Bounds, resumed: Option<LimitState>) -> Self {
        let trials = match &resumed {
            Some(state) => Trials::resume(bounds, state),
            None => Trials::new(bounds),
        };
        Self { origin: None, trials, resumed }
    }

    pub(crate) fn bounds(&self) -> Bounds {
        self.trials.search.limits.bounds
    }

    /// Returns the seconds from the first instant to `at`.
    fn seconds(&mut self, at: Instant) -> f64 {
        let origin = *self.origin.get_or_insert(at);
        at.saturating_duration_since(origin).as_secs_f64()
    }
}

impl Algorithm for Bdp {
    fn limit(&self) -> f64 {
        self.trials.limit()
    }

    /// Searches anew from this limit: the model is older than the limit set by hand.
    fn resume_from(&mut self, limit: usize) {
        *self = Self::within(Bounds { initial: whole(limit), ..self.bounds() });
    }

    fn on_sample(&mut self, sample: &Sample) {
        let now = self.seconds(sample.finished);
        self.trials.on_sample(now, sample);
    }

    fn on_tick(&mut self, now: Instant, load: &Load) {
        let now = self.seconds(now);
        self.trials.on_tick(now, load);
    }

    fn state(&self) -> Option<LimitState> {
        let search = &self.trials.search;
        search.model.state(search.limits.believed())
    }

    fn view(&self) -> View {
        self.trials.search.model.view().phase(self.trials.phase.name())
    }
}
