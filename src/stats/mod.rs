//! A snapshot of a leveler: what waits and runs, and the counts since it was built.
//!
//! [`Handle::stats`](crate::Handle::stats) takes a [`Stats`].

mod counters;
mod histogram;
mod rate;
mod reason_counts;
mod stripe;

use std::{fmt, time::Duration};

pub(crate) use self::{counters::Counters, histogram::Recorder, rate::DrainRate};
pub use self::{histogram::Histogram, reason_counts::ReasonCounts};

use crate::class::Priority;

/// A snapshot of a leveler's state and counters, from [`Handle::stats`](crate::Handle::stats).
///
/// A snapshot is taken while calls go on: each count is right, but counts may be an instant apart.
/// At rest the books balance: `admitted` is the sum of `succeeded`, `failed`, `cancelled`,
/// `panicked`, `removed.total()`, `queued` and `in_flight`. `Display` prints these and the bounds
/// in one line for a log.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// Requests admitted and not yet dispatched. While the leveler is paused or
    /// [paced](crate::Builder::rate), free slots are waiting room, so the number may exceed the
    /// capacity by up to the limit.
    pub queued: usize,
    /// Requests dispatched and not finished.
    pub in_flight: usize,
    /// The number of requests that may be in flight. A request counts as its
    /// [cost](crate::Class::cost).
    pub limit: usize,
    /// The number of requests that may wait beyond those that the limit lets run. A request counts
    /// as its [cost](crate::Class::cost).
    pub capacity: usize,
    /// The time that the oldest waiting request has waited; `None` if no request waits.
    pub oldest_wait: Option<Duration>,
    /// Requests admitted since the leveler was built.
    pub admitted: u64,
    /// Calls that succeeded: the outcome was [`Success`](crate::limit::Outcome::Success), or the
    /// outcome was [`Ignore`](crate::limit::Outcome::Ignore) and the result was `Ok`.
    pub succeeded: u64,
    /// Calls that failed: the outcome was [`Overload`](crate::limit::Outcome::Overload), or the
    /// outcome was [`Ignore`](crate::limit::Outcome::Ignore) and the result was `Err`. Includes
    /// calls answered with a [`ServiceError`](crate::error::ServiceError).
    pub failed: u64,
    /// Failed calls with the outcome [`Overload`](crate::limit::Outcome::Overload); a part of
    /// `failed`.
    pub overloaded: u64,
    /// Requests dropped by the caller: while waiting, while running, or half way through a response
    /// that keeps its slot.
    pub cancelled: u64,
    /// Calls that panicked.
    pub panicked: u64,
    /// Calls refused on arrival and never admitted, by reason.
    pub refused: ReasonCounts,
    /// Requests removed from the queue before dispatch, by reason.
    pub removed: ReasonCounts,
    /// Running requests of [`Class::bypass`](crate::Class::bypass). No other number in the stats
    /// counts them.
    pub bypassing: usize,
    /// Slots of the limit in use: the sum of the [costs](crate::Class::cost) of the requests in
    /// flight.
    pub slots_taken: usize,
    /// Calls that end per second, as recently measured while there was work; `None` until measured.
    pub drain_rate: Option<f64>,
    /// Time from admission to dispatch, of all dispatched requests.
    pub wait: Histogram,
    /// Time from dispatch to finish, of all calls that returned.
    pub service_time: Histogram,
    pub(crate) priorities: [PriorityStats; Priority::ALL.len()],
}

impl Stats {
    /// Returns the counts of one priority.
    #[must_use]
    pub fn priority(&self, priority: Priority) -> PriorityStats {
        self.priorities[priority.index()]
    }
}

/// One line of `key=value` pairs for a log: the current state, and the counts that balance.
impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            queued,
            in_flight,
            limit,
            capacity,
            admitted,
            succeeded,
            failed,
            cancelled,
            panicked,
            ..
        } = self;
        let (refused, removed) = (self.refused.total(), self.removed.total());
        write!(f, "queued={queued} in_flight={in_flight} limit={limit} capacity={capacity} ")?;
        write!(f, "admitted={admitted} refused={refused} succeeded={succeeded} failed={failed} ")?;
        write!(f, "cancelled={cancelled} panicked={panicked} removed={removed}")
    }
}

/// The counts of [`Stats`] for one [`Priority`]. Summed over all priorities, the counts equal those
/// of `Stats`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PriorityStats {
    /// Requests admitted and not yet dispatched.
    pub queued: usize,
    /// Requests admitted since the leveler was built.
    pub admitted: u64,
    /// Calls refused on arrival and never admitted, by reason.
    pub refused: ReasonCounts,
    /// Requests removed from the queue before dispatch, by reason.
    pub removed: ReasonCounts,
}
