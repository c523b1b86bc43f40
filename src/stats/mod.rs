//! What the leveler counts, and the snapshot of it that users get.

mod counters;
mod histogram;
mod rate;
mod stripe;

use std::{fmt, time::Duration};

pub use self::histogram::Histogram;
pub(crate) use self::{counters::Counters, histogram::Recorder, rate::DrainRate};

use crate::{class::Priority, error::Reason};

/// A snapshot of what a leveler is doing and has done, from [`Handle::stats`](crate::Handle::stats).
///
/// Taken while calls go on, the counts are each right but may be an instant apart. At rest the books
/// balance: `admitted` is the sum of `succeeded`, `failed`, `cancelled`, `panicked`, `removed.total()`,
/// `queued` and `in_flight`. `Display` says these in one line for a log, with the numbers that bound them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// Requests admitted and not yet dispatched. While paused or [paced](crate::Builder::rate) free slots are
    /// waiting room, so this may be above the capacity by as many as the limit.
    pub queued: usize,
    /// Requests dispatched and not finished.
    pub in_flight: usize,
    /// How many may be in flight; a request counts as its [cost](crate::Class::cost).
    pub limit: usize,
    /// How many may wait beyond those that the limit lets run; a request counts as its cost.
    pub capacity: usize,
    /// How long the oldest request that still waits has been waiting; `None` when nothing waits.
    pub oldest_wait: Option<Duration>,
    /// Requests that got a place, since the leveler was built.
    pub admitted: u64,
    /// Calls that ended well: the outcome was [`Success`](crate::limit::Outcome::Success), or was to be
    /// ignored and the result was `Ok`.
    pub succeeded: u64,
    /// Calls that did not: the outcome was [`Overload`](crate::limit::Outcome::Overload), or was to be
    /// ignored and the result was `Err`; and those answered with a
    /// [`ServiceError`](crate::error::ServiceError).
    pub failed: u64,
    /// Of those that failed, the ones whose outcome was overload.
    pub overloaded: u64,
    /// Requests dropped by their caller: waiting, running, or half way through a response that keeps its
    /// slot.
    pub cancelled: u64,
    /// Calls that panicked.
    pub panicked: u64,
    /// Calls turned away at the door, never admitted, by reason.
    pub refused: Reasons,
    /// Requests taken out of the queue before their turn, by reason.
    pub removed: Reasons,
    /// Requests of [`Class::bypass`](crate::Class::bypass) that run now; they are counted by nothing else.
    pub bypassing: usize,
    /// Slots of the limit that are taken: `in_flight`, each with its [cost](crate::Class::cost).
    pub slots_taken: usize,
    /// Calls that end per second, as lately measured while there was work; `None` until measured.
    pub drain_rate: Option<f64>,
    /// Time from admission to dispatch, of all requests dispatched.
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

/// One line of `key=value`, for a log: what goes on, and the counts that balance.
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

/// What [`Stats`] counts for one [`Priority`]: over all priorities the counts add up to those of `Stats`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PriorityStats {
    /// Requests admitted and not yet dispatched.
    pub queued: usize,
    /// Requests that got a place, since the leveler was built.
    pub admitted: u64,
    /// Calls turned away at the door, never admitted, by reason.
    pub refused: Reasons,
    /// Of those refused as [`Full`](Reason::Full), the ones for which there would have been a place: under lasting
    /// overload the lower priorities are cut off.
    pub cut_off: u64,
    /// Requests taken out of the queue before their turn, by reason.
    pub removed: Reasons,
}

/// A count for every [`Reason`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reasons {
    /// [`Reason::Full`].
    pub full: u64,
    /// [`Reason::Evicted`].
    pub evicted: u64,
    /// [`Reason::MaxWait`].
    pub max_wait: u64,
    /// [`Reason::Deadline`].
    pub deadline: u64,
    /// [`Reason::WouldMissDeadline`].
    pub would_miss_deadline: u64,
    /// [`Reason::Delay`].
    pub delay: u64,
    /// [`Reason::Closed`].
    pub closed: u64,
    /// [`Reason::NoRuntime`].
    pub no_runtime: u64,
}

impl Reasons {
    /// Returns the sum over all reasons.
    #[must_use]
    pub fn total(&self) -> u64 {
        Reason::ALL.iter().map(|reason| self.get(*reason)).sum()
    }

    /// From a count for each of [`Reason::ALL`].
    pub(crate) fn from_counts(counts: [u64; Reason::ALL.len()]) -> Self {
        let [full, evicted, max_wait, deadline, would_miss_deadline, delay, closed, no_runtime] =
            counts;
        Self { full, evicted, max_wait, deadline, would_miss_deadline, delay, closed, no_runtime }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self::from_counts(Reason::ALL.map(|reason| self.get(reason) + other.get(reason)))
    }

    /// Returns the count for one reason.
    #[must_use]
    pub fn get(&self, reason: Reason) -> u64 {
        match reason {
            Reason::Full => self.full,
            Reason::Evicted => self.evicted,
            Reason::MaxWait => self.max_wait,
            Reason::Deadline => self.deadline,
            Reason::WouldMissDeadline => self.would_miss_deadline,
            Reason::Delay => self.delay,
            Reason::Closed => self.closed,
            Reason::NoRuntime => self.no_runtime,
        }
    }
}
