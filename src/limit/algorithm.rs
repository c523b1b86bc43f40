use tokio::time::Instant;

use super::sample::{Load, Sample};

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
