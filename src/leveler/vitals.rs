use std::time::Duration;

use tokio::time::Instant;

use crate::stats::ReasonCounts;

/// The counts of a leveler as of an instant: requests asked for, and ended. The basis of the events
/// about overload and stalls.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vitals {
    pub(crate) now: Instant,
    /// Requests that have arrived.
    pub(crate) asked: u64,
    /// Admitted requests that have ended in any way but removal.
    pub(crate) ended: u64,
    /// Requests refused or removed under load.
    pub(crate) rejected: ReasonCounts,
    pub(crate) queued: usize,
    /// Services that wait for a place.
    pub(crate) waiting_for_place: usize,
    /// Set if no slot is free, and dispatch is not paused.
    pub(crate) is_all_taken: bool,
    /// The longest time to the next end of a call with a healthy inner, as far as known.
    pub(crate) patience: Duration,
}

/// The time without any end of a call after which a leveler counts as stalled, as in
/// [`State::Stalled`](crate::stats::State::Stalled).
pub(crate) const STALL: Duration = Duration::from_secs(5);

impl Vitals {
    /// Returns the counts since an earlier instant.
    pub(crate) fn since(&self, earlier: &Self) -> Period {
        Period {
            length: self.now.saturating_duration_since(earlier.now),
            asked: self.asked.saturating_sub(earlier.asked),
            done: self.ended.saturating_sub(earlier.ended),
            rejected: self.rejected.minus(earlier.rejected),
        }
    }
}

/// The counts between two instants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Period {
    pub(crate) length: Duration,
    pub(crate) asked: u64,
    pub(crate) done: u64,
    pub(crate) rejected: ReasonCounts,
}

impl Period {
    /// Returns whether more than 1 % of the requests were turned away, as in
    /// [`State::Overloaded`](crate::stats::State::Overloaded).
    pub(crate) fn is_overloaded(&self) -> bool {
        self.rejected.total().saturating_mul(100) > self.asked
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use crate::error::Reason;

    /// Returns the vitals of a leveler waiting for its inner, after `seconds`.
    pub(crate) fn at(origin: Instant, seconds: f64, asked: u64, full: u64) -> Vitals {
        let mut rejected = [0; Reason::ALL.len()];
        rejected[Reason::Full as usize] = full;
        Vitals {
            now: origin + Duration::from_secs_f64(seconds),
            asked,
            ended: 0,
            rejected: ReasonCounts::from_counts(rejected),
            queued: 1,
            waiting_for_place: 0,
            is_all_taken: true,
            patience: STALL,
        }
    }
}
