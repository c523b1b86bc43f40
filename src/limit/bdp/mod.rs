//! The limit as the product of what the inner can do and how long calls may take there.

mod alarm;
mod calls;
mod failures;
mod interval;
mod meter;
mod model;
mod phase;
mod schedule;
mod search;
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
};

/// Finds the limit, and follows it, when nothing is known of the inner service: the one to start with.
///
/// The limit is a *bandwidth-delay product*: what the inner can do, in calls a second, times how long a call may
/// take there. The first is measured again and again while the limit is in the way, and moves the limit within a
/// few hundred calls of a change. The second is learned slowly, from trying a little more and a little less and
/// looking whether throughput follows. The page [limits.md](https://github.com/tower-load-leveling/tower-load-leveling/blob/main/docs/limits.md) has the law,
/// why it works, what it cannot know, and what came out in simulations.
///
/// - As long as the limit is not in the way nothing is learned from that, and the limit stays; it grows a little if
///   it is in the way now and then and calls take no longer for that.
/// - A limit that is far too low or too high at the start is found out within some hundred calls.
/// - Each large cut is an experiment: if throughput follows it, the inner had become slow and not less able, and
///   the cut is taken back.
/// - Times in which nothing at all finishes, as when a garbage collector runs, are left out.
/// - Failures ([`Outcome::Ignore`]) count for neither throughput nor latency; when suddenly many calls fail at once,
///   the limit goes down for a while. Many an [`Outcome::Overload`] lowers it as well.
///   [`Outcome::Cancelled`] counts for nothing.
///
/// It supposes that the inner is this leveler's alone. Where several processes share one, each sees throughput
/// follow its own limit, at the cost of the others, and all grow: use [`LatencyTarget`](super::LatencyTarget).
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
    /// The first instant that was told. Inside, time is in seconds since then.
    origin: Option<Instant>,
    trials: Trials,
}

/// Less than most services sustain. The limit doubles from here until calls take longer.
const INITIAL: f64 = 4.0;

impl Default for Bdp {
    fn default() -> Self {
        Self::new()
    }
}

impl Bdp {
    /// Returns an algorithm that starts with a limit of 4 and keeps it at 1 or above.
    #[must_use]
    pub fn new() -> Self {
        Self::within(Bounds { min: 1.0, max: f64::from(u32::MAX), initial: INITIAL })
    }

    /// Sets what the limit does not go below. By default, and for 0, that is 1.
    #[must_use]
    pub fn min(self, min: usize) -> Self {
        Self::within(Bounds { min: whole(min), ..self.bounds() })
    }

    /// Sets what the limit does not go above. There is no such bound by default.
    #[must_use]
    pub fn max(self, max: usize) -> Self {
        Self::within(Bounds { max: whole(max), ..self.bounds() })
    }

    /// Sets the limit to start with, 4 by default. A good guess saves the second or so that finding it takes.
    #[must_use]
    pub fn initial(self, initial: usize) -> Self {
        Self::within(Bounds { initial: whole(initial), ..self.bounds() })
    }

    fn within(bounds: Bounds) -> Self {
        Self { origin: None, trials: Trials::new(bounds) }
    }

    fn bounds(&self) -> Bounds {
        self.trials.search.bounds
    }

    /// Returns the seconds since the first instant that was told.
    fn seconds(&mut self, at: Instant) -> f64 {
        let origin = *self.origin.get_or_insert(at);
        at.saturating_duration_since(origin).as_secs_f64()
    }
}

impl Algorithm for Bdp {
    fn limit(&self) -> f64 {
        self.trials.limit()
    }

    fn on_sample(&mut self, sample: &Sample) {
        let now = self.seconds(sample.finished);
        self.trials.on_sample(now, sample);
    }

    fn on_tick(&mut self, now: Instant, load: &Load) {
        let now = self.seconds(now);
        self.trials.on_tick(now, load);
    }
}
