use std::time::Duration;

/// A look into an algorithm while it works: for a page, a log or a metric.
///
/// [`Algorithm::view`](super::Algorithm::view) returns it, and
/// [`Stats::limit_view`](crate::Stats::limit_view) shows it beside the limit. Everything is
/// optional: an algorithm shows what it has.
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
    /// The mean service time that the algorithm aims at; `None` without one, and until one is
    /// found.
    pub target: Option<Duration>,
    /// The throughput of the inner with the limit in the way, in calls a second; `None` if the
    /// algorithm measures none, and until one is measured.
    pub rate: Option<f64>,
}

impl View {
    /// Returns a view that shows nothing.
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
