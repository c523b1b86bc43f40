//! A snapshot of a leveler: the waiting and running requests, and the counts since it was built.
//!
//! [`Handle::stats`](crate::Handle::stats) takes a [`Stats`].

mod counters;
mod flow_stats;
mod histogram;
mod priority_stats;
mod rate;
mod reason_counts;
mod space_saving;
mod stripe;
mod verdict;

use std::{fmt, time::Duration};

use tokio::time::Instant;

use self::verdict::Signs;
pub(crate) use self::{
    counters::{Count, Counters},
    histogram::{PriorityRecorder, Recorder},
    rate::DrainRate,
    space_saving::SpaceSaving,
};
pub use self::{
    flow_stats::{FlowId, FlowStats},
    histogram::Histogram,
    priority_stats::PriorityStats,
    reason_counts::ReasonCounts,
    verdict::{State, Verdict},
};
use crate::{class::Priority, error::Reason, limit::View};

/// A snapshot of a leveler's state and counters, from [`Handle::stats`](crate::Handle::stats).
///
/// A snapshot is taken while calls go on: each count is right, but counts may be an instant apart.
/// At rest the books balance: `admitted` is the sum of `succeeded`, `failed`, `cancelled`,
/// `panicked`, `removed.total()`, `queued` and `in_flight`. `Display` prints the counts and the
/// bounds in one line for a log.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// Requests admitted and not yet dispatched. While the leveler is paused or
    /// [paced](crate::Builder::rate), free slots are waiting room, so the number may exceed the
    /// capacity by up to the limit.
    pub queued: usize,
    /// Requests dispatched and not finished.
    pub in_flight: usize,
    /// The number of requests allowed in flight. A request counts as its
    /// [cost](crate::Class::cost).
    pub limit: usize,
    /// The number of requests that may wait, in addition to the limit. A request counts as its
    /// [cost](crate::Class::cost).
    pub capacity: usize,
    /// The time since admission of the oldest waiting request; `None` if no request waits. If a
    /// request has just left a long queue from the head, the time may be one turn of the drain task
    /// late.
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
    /// with a slot.
    pub cancelled: u64,
    /// Calls that panicked.
    pub panicked: u64,
    /// Calls refused on arrival and never admitted, by reason.
    pub refused: ReasonCounts,
    /// Requests removed from the queue before dispatch, by reason.
    pub removed: ReasonCounts,
    /// Running requests of [`Class::bypass`](crate::Class::bypass). No other number in the stats
    /// counts bypassing requests.
    pub bypassing: usize,
    /// Slots of the limit in use: the sum of the [costs](crate::Class::cost) of the requests in
    /// flight.
    pub slots_taken: usize,
    /// Calls ended per second, as recently measured while calls ran; `None` until measured.
    pub drain_rate: Option<f64>,
    /// Time from admission to dispatch, of all dispatched requests.
    pub wait: Histogram,
    /// Time from admission to removal, of all requests removed or given up while waiting. `wait`
    /// knows only the survivors: if every request waits 50 ms and is then removed, only this
    /// histogram shows the 50 ms. Of very many requests given up, one in 16 is measured and counts
    /// for 16.
    pub removed_wait: Histogram,
    /// Services waiting for a place in `poll_ready`, under
    /// [`Overflow::Wait`](crate::Overflow::Wait). Such services are not admitted, hold no place,
    /// and are in no other number. A clone that was polled and then forgotten counts until it is
    /// dropped.
    pub waiting_for_place: usize,
    /// Places reserved by services in `poll_ready`, under
    /// [`Overflow::Wait`](crate::Overflow::Wait), and not used yet. A reserved place is taken,
    /// though no request waits or runs in it.
    pub reserved: usize,
    /// The time since the longest waiting service began to wait for a place; `None` if none waits.
    pub longest_wait_for_place: Option<Duration>,
    /// Time in `poll_ready` until a place was free, or until the
    /// [`max_wait`](crate::Builder::max_wait) was over, of all services that had to wait for a
    /// place.
    pub wait_for_place: Histogram,
    /// Time from dispatch to finish, of all calls that returned.
    pub service_time: Histogram,
    /// A look into the algorithm of the limit; `None` while the limit is fixed.
    pub limit_view: Option<View>,
    /// The busiest flows, the busiest first: as many as
    /// [`Builder::watch_flows`](crate::Builder::watch_flows) says, none by default. The list
    /// includes every flow that asked for more than 1/n of all requests, with room for n flows.
    /// Requests without a flow are left out.
    pub flows: Vec<FlowStats>,
    /// Set while dispatch is [paused](crate::Handle::pause).
    pub paused: bool,
    /// Set once the leveler is [closed](crate::Handle::close).
    pub closed: bool,
    /// The time covered by the counters: since the leveler was built, or between the two snapshots
    /// of [`since`](Self::since).
    pub period: Duration,
    pub(crate) taken: Instant,
    pub(crate) priorities: [PriorityStats; Priority::ALL.len()],
}

impl Stats {
    /// Returns the numbers of one priority.
    #[must_use]
    pub fn priority(&self, priority: Priority) -> &PriorityStats {
        &self.priorities[priority.index()]
    }

    /// Returns the number of arrivals: requests admitted or refused.
    #[must_use]
    pub fn arrived(&self) -> u64 {
        self.admitted + self.refused.total()
    }

    /// Returns the changes since an earlier snapshot of the same leveler: counters and histograms
    /// as differences, all else as now.
    ///
    /// A total since the start says nothing about now.
    ///
    /// ```
    /// # use tower_load_leveling::LoadLevelLayer;
    /// # let handle = LoadLevelLayer::new(16, 4).handle();
    /// let before = handle.stats();
    /// // … some time later …
    /// let recently = handle.stats().since(&before);
    /// let per_second = recently.succeeded as f64 / recently.period.as_secs_f64();
    /// # let _ = per_second;
    /// ```
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let count = |of: fn(&Self) -> u64| of(self).saturating_sub(of(earlier));
        let priorities = |priority: Priority| {
            let (now, before) = (self.priority(priority), earlier.priority(priority));
            now.since(before)
        };
        Self {
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
            wait_for_place: self.wait_for_place.since(&earlier.wait_for_place),
            service_time: self.service_time.since(&earlier.service_time),
            period: self.taken.saturating_duration_since(earlier.taken),
            flows: FlowStats::since(&self.flows, &earlier.flows),
            priorities: Priority::EACH.map(priorities),
            ..*self
        }
    }

    /// Returns the counts of the period as a state, with the sentence and the numbers behind the
    /// state. See [`Verdict`].
    ///
    /// Judge a period of some seconds: `now.since(&ten_seconds_ago).verdict()`. The verdict of a
    /// snapshot without `since` covers the whole life of the leveler.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let finished = self.succeeded + self.failed + self.panicked;
        let dispatched = self.wait.count();
        let numbers = Verdict {
            state: State::Idle,
            period: self.period,
            asked: self.arrived(),
            done: finished,
            turned_away: self.refused.total() + self.removed.total(),
            main_reason: self.main_reason(),
            queued: self.queued,
            oldest_wait: self.oldest_wait,
            slots_taken: self.slots_taken,
            limit: self.limit,
            signs: Signs {
                reasons: self.refused.plus(self.removed),
                closed: self.closed,
                paused: self.paused,
                in_flight: self.in_flight,
                waiting_for_place: self.waiting_for_place,
                dispatched,
                leveled: dispatched.saturating_sub(self.wait.zeros()) + self.wait_for_place.count(),
            },
        };
        numbers.with_state()
    }

    /// Returns the largest reason for which requests were turned away.
    pub(crate) fn main_reason(&self) -> Option<Reason> {
        self.refused.plus(self.removed).largest()
    }
}

/// One line of `key=value` pairs for a log: the current state, the counts of the balance, the
/// waits, and the reasons of rejections.
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
        write!(f, "cancelled={cancelled} panicked={panicked} removed={removed}")?;
        if let Some(wait) = self.wait.quantile(0.99) {
            write!(f, " wait_p99={:.1}ms", 1e3 * wait.as_secs_f64())?;
        }
        if let Some(wait) = self.oldest_wait {
            write!(f, " oldest_wait={:.1}ms", 1e3 * wait.as_secs_f64())?;
        }
        if let Some(rate) = self.drain_rate {
            write!(f, " drain_rate={rate:.1}")?;
        }
        if let Some(reason) = self.main_reason() {
            write!(f, " main_reason={}", reason.as_str())?;
        }
        let states = [(self.paused, "paused"), (self.closed, "closed")];
        states.iter().filter(|(is_so, _)| *is_so).try_for_each(|(_, word)| write!(f, " {word}"))
    }
}
