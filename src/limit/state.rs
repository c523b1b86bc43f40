use std::time::Duration;

/// What an algorithm has learned of the inner service: to be kept across a restart.
///
/// [`Handle::limit_state`](crate::Handle::limit_state) returns it, and
/// [`Bdp::resume`](super::Bdp::resume) starts from it. With the feature `serde` it can be written
/// to a file.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct LimitState {
    /// The limit believed to be right, in calls at once.
    pub limit: f64,
    /// The throughput of the inner with that limit in the way, in calls a second.
    pub throughput: f64,
    /// The mean time of a call that does not wait in the inner.
    pub service_time: Duration,
}

impl LimitState {
    /// Returns a state to start from, from figures that you have measured.
    #[must_use]
    pub fn new(limit: f64, throughput: f64, service_time: Duration) -> Self {
        Self { limit, throughput, service_time }
    }

    /// Returns whether an inner can have been like that.
    pub(super) fn is_possible(&self) -> bool {
        let positive = |figure: f64| figure.is_finite() && figure > 0.0;
        positive(self.limit) && positive(self.throughput) && !self.service_time.is_zero()
    }
}
