use super::{histogram::Histogram, reason_counts::ReasonCounts};

/// The numbers of [`Stats`](crate::Stats) for one [`Priority`](crate::Priority). Summed over all
/// priorities, the numbers equal the numbers of `Stats`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PriorityStats {
    /// Requests admitted and not yet dispatched.
    pub queued: usize,
    /// Requests admitted since the leveler was built.
    pub admitted: u64,
    /// Calls that succeeded, as in [`Stats::succeeded`](crate::Stats::succeeded).
    pub succeeded: u64,
    /// Calls that failed, as in [`Stats::failed`](crate::Stats::failed).
    pub failed: u64,
    /// Failed calls with an outcome of overload; a part of `failed`.
    pub overloaded: u64,
    /// Requests dropped by the caller, as in [`Stats::cancelled`](crate::Stats::cancelled).
    pub cancelled: u64,
    /// Calls that panicked.
    pub panicked: u64,
    /// Calls refused on arrival and never admitted, by reason.
    pub refused: ReasonCounts,
    /// Requests removed from the queue before dispatch, by reason.
    pub removed: ReasonCounts,
    /// Time from admission to dispatch, of all dispatched requests.
    pub wait: Histogram,
    /// Time from admission to removal, of all requests removed or given up while waiting, as in
    /// [`Stats::removed_wait`](crate::Stats::removed_wait).
    pub removed_wait: Histogram,
}

impl PriorityStats {
    /// Returns the number of arrivals: requests admitted or refused.
    #[must_use]
    pub fn arrived(&self) -> u64 {
        self.admitted + self.refused.total()
    }

    /// Returns the changes since an earlier snapshot. `queued` stays as now.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        let count = |of: fn(&Self) -> u64| of(self).saturating_sub(of(earlier));
        Self {
            queued: self.queued,
            admitted: count(|stats| stats.admitted),
            succeeded: count(|stats| stats.succeeded),
            failed: count(|stats| stats.failed),
            overloaded: count(|stats| stats.overloaded),
            cancelled: count(|stats| stats.cancelled),
            panicked: count(|stats| stats.panicked),
            refused: self.refused.minus(earlier.refused),
            removed: self.removed.minus(earlier.removed),
            wait: self.wait.since(&earlier.wait),
            removed_wait: self.removed_wait.since(&earlier.removed_wait),
        }
    }
}
