use std::time::Duration;

use crate::limit::sample::Sample;

/// Calls in a window by the root of the limit, so that shares get even in the same time whatever they are. Each
/// call moves the limit by `GAIN / window × WISH_SLOPE / (2 √limit)` of its distance, and `limit` calls end in a
/// service time: 160 service times with this one.
const WINDOW_FACTOR: f64 = 4.0;

/// The calls since the limit was last thought about.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    pub(super) calls: u32,
    total: Duration,
    limit_reached: bool,
    pub(super) overloaded: bool,
}

impl Window {
    /// Returns an empty window that forbids growth, since the inner has just said that it has too much to do.
    pub(super) fn after_overload() -> Self {
        Self { overloaded: true, ..Self::default() }
    }

    /// Returns the mean when there are enough for it, at such a limit.
    pub(super) fn add(&mut self, sample: &Sample, limit: f64) -> Option<Duration> {
        self.calls = self.calls.saturating_add(1);
        self.total = self.total.saturating_add(sample.service_time());
        self.limit_reached |= sample.limit_reached;
        // Not less than are in flight, or it would judge by calls from before the last change.
        let enough = limit.max(WINDOW_FACTOR * limit.sqrt());
        (f64::from(self.calls) >= enough).then(|| self.total / self.calls)
    }

    pub(super) fn may_grow(&self) -> bool {
        self.limit_reached && !self.overloaded
    }
}
