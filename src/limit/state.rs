use std::time::Duration;

/// The state learned by an algorithm about the inner service: keep the state across a restart.
///
/// [`Handle::limit_state`](crate::Handle::limit_state) returns a state, and
/// [`Bdp::resume`](super::Bdp::resume) starts from a state. With the feature `serde`, a state can
/// be written to a file.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct LimitState {
    /// The limit believed to be right, in calls at once.
    pub limit: f64,
    /// The throughput of the inner under this limit, in calls a second.
    pub throughput: f64,
    /// The mean time of a call without a wait in the inner.
    pub service_time: Duration,
}

impl LimitState {
    /// Returns a state to start from, with measured figures.
    #[must_use]
    pub fn new(limit: f64, throughput: f64, service_time: Duration) -> Self {
        Self { limit, throughput, service_time }
    }

    /// Returns whether the state of an inner can have these figures.
    pub(super) fn is_possible(&self) -> bool {
        let positive = |figure: f64| figure.is_finite() && figure > 0.0;
        positive(self.limit) && positive(self.throughput) && !self.service_time.is_zero()
    }
}
