use tokio::time::Instant;

use super::{
    sample::{Load, Sample},
    state::LimitState,
    view::View,
};

/// Decides how many calls may run at once.
///
/// A plain struct without a clock, a lock or an `await`. The layer calls
/// [`on_sample`](Self::on_sample) for each finished call and [`on_tick`](Self::on_tick) now and
/// then while the leveler is busy. The calls never overlap, and the layer reads
/// [`limit`](Self::limit) after each. Rejected requests make no sample, since the inner service
/// never saw them. Nor do requests that [bypass the queue](crate::Class::bypass).
///
/// Both methods run under a lock of the leveler, so they must not call the handle's
/// [`set_limit`](crate::Handle::set_limit). A panic in an implementation freezes the limit at its
/// last value, and has no other effect.
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
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no algorithm that finds a limit",
    label = "not an algorithm",
    note = "for a limit that finds itself write `.adaptive_concurrency()`, or choose an algorithm: \
            `.adaptive(limit::LatencyTarget::new(target))`",
    note = "for a fixed limit write a number: `.concurrency(64)`"
)]
pub trait Algorithm: Send + 'static {
    /// Returns the current limit.
    ///
    /// The layer uses the whole part. If the limit is below 1, one call runs at a time, and the
    /// layer spaces dispatches by the mean service time divided by the limit. The average number of
    /// calls in flight is then the limit.
    fn limit(&self) -> f64;

    /// Takes note of a finished call.
    fn on_sample(&mut self, sample: &Sample);

    /// Takes note of the time: about every 10 ms while calls run or wait, also if no call finishes.
    /// An idle leveler does not tick.
    ///
    /// Does nothing by default.
    fn on_tick(&mut self, now: Instant, load: &Load) {
        let _ = (now, load);
    }

    /// Goes on from a limit set by hand, when
    /// [`Handle::resume_adaptive`](crate::Handle::resume_adaptive) returns control to the
    /// algorithm.
    ///
    /// Does nothing by default: the algorithm then goes on from its own limit. The algorithms of
    /// this crate take the given limit over, within their bounds.
    fn resume_from(&mut self, limit: usize) {
        let _ = limit;
    }

    /// Returns the state learned by the algorithm, for
    /// [`Handle::limit_state`](crate::Handle::limit_state).
    ///
    /// `None` by default, and while nothing is known.
    fn state(&self) -> Option<LimitState> {
        None
    }

    /// Returns a look into the algorithm, for [`Stats::limit_view`](crate::Stats::limit_view).
    ///
    /// Shows nothing by default.
    fn view(&self) -> View {
        View::new()
    }
}
