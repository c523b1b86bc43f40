use std::time::Duration;

/// A look into an algorithm while it works: for a page, a log or a metric.
///
/// Returned by [`Algorithm::view`](super::Algorithm::view), and shown by
/// [`Stats::limit_view`](crate::Stats::limit_view) beside the limit. Every figure is optional: an
/// algorithm shows only what it knows.
///
/// ```
/// use std::time::Duration;
/// use tower_load_leveling::limit::{Algorithm, LatencyTarget, View};
///
/// let target = Duration::from_millis(30);
/// assert_eq!(LatencyTarget::new(target).view(), View::new().target(target));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct View {
    /// The present step of the algorithm, in a word: one of a few. Empty for an algorithm without
    /// steps. Of [`Bdp`](super::Bdp): `startup`, `probe_up`, `cruise`, `probe_down`, `verify` or
    /// `backoff`.
    pub phase: &'static str,
    /// The algorithm's target for the mean service time; `None` without a target, and until a
    /// target is found.
    pub target: Option<Duration>,
    /// The throughput of the inner under the limit, in calls a second; `None` if the algorithm
    /// measures no throughput, and until the first measurement.
    pub rate: Option<f64>,
}

impl View {
    /// Returns an empty view.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the present step. Choose among a few fixed words: each becomes a series of a metric.
    #[must_use]
    pub fn phase(self, phase: &'static str) -> Self {
        Self { phase, ..self }
    }

    /// Sets the mean service time aimed at.
    #[must_use]
    pub fn target(self, target: Duration) -> Self {
        Self { target: Some(target), ..self }
    }

    /// Sets the throughput of the inner, in calls a second.
    #[must_use]
    pub fn rate(self, rate: f64) -> Self {
        Self { rate: Some(rate), ..self }
    }
}
