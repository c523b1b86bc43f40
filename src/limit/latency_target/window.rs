use std::time::Duration;

use crate::limit::sample::Sample;

/// The calls in a window as a multiple of the root of the limit. Low and high shares then get even
/// in the same time. Each call moves the limit by `GAIN / window × WISH_SLOPE / (2 √limit)` of its
/// distance, and `limit` calls end in a service time: with 4, shares get even in 160 service times.
const WINDOW_FACTOR: f64 = 4.0;

/// The calls since the last conclusion.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    pub(super) calls: u32,
    total: Duration,
    limit_reached: bool,
    pub(super) overloaded: bool,
}

impl Window {
    /// Returns an empty window without growth, since the inner has just reported overload.
    pub(super) fn after_overload() -> Self {
        Self { overloaded: true, ..Self::default() }
    }

    /// Adds a success. If the window has enough calls for `limit`, returns the mean service time.
    pub(super) fn add(&mut self, sample: &Sample, limit: f64) -> Option<Duration> {
        self.calls = self.calls.saturating_add(1);
        self.total = self.total.saturating_add(sample.service_time());
        self.limit_reached |= sample.limit_reached;
        // At least as many as are in flight, or calls from before the last change would count.
        let enough = limit.max(WINDOW_FACTOR * limit.sqrt());
        (f64::from(self.calls) >= enough).then(|| self.total / self.calls)
    }

    pub(super) fn may_grow(&self) -> bool {
        self.limit_reached && !self.overloaded
    }
}
