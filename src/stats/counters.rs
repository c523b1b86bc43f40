use super::{reason_counts::ReasonCounts, stripe::Striped};
use crate::{
    class::Priority,
    error::Reason,
    sync::figure::{AtomicU64, Ordering::Relaxed},
};

/// The running totals. Each counter is independent, so relaxed ordering is enough.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Requests admitted and dispatched in one step. The wait is zero, and recorded by this count
    /// alone.
    pub(crate) direct: ByPriority,
    /// Requests admitted in any other way.
    pub(crate) queued: ByPriority,
    pub(crate) succeeded: ByPriority,
    pub(crate) failed: ByPriority,
    pub(crate) overloaded: ByPriority,
    pub(crate) cancelled: ByPriority,
    /// The part of the cancelled requests that never ran. Counted after `cancelled`.
    pub(crate) given_up: ByPriority,
    pub(crate) panicked: ByPriority,
    pub(crate) refused: ByReason,
    pub(crate) removed: ByReason,
}

impl Counters {
    /// Returns the number of ended calls: of requests that have ended, but neither by removal nor
    /// by their callers while they waited.
    pub(crate) fn ended(&self) -> u64 {
        let given_up = self.given_up.get();
        self.over().saturating_sub(given_up)
    }

    /// Returns the number of admitted requests that are over, except by removal.
    pub(crate) fn over(&self) -> u64 {
        let Self { succeeded, failed, cancelled, panicked, .. } = self;
        succeeded.get() + failed.get() + cancelled.get() + panicked.get()
    }
}

/// A count for each priority.
#[derive(Debug, Default)]
pub(crate) struct ByPriority(Striped<[AtomicU64; PRIORITIES]>);

impl ByPriority {
    /// Adds 1. Returns the previous count of the priority in this thread's stripe.
    #[inline]
    pub(crate) fn add(&self, priority: Priority) -> u64 {
        self.0.mine()[priority.index()].fetch_add(1, Relaxed)
    }

    pub(crate) fn of(&self, priority: Priority) -> u64 {
        self.0.all().map(|counts| counts[priority.index()].load(Relaxed)).sum()
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.all().flatten().map(|count| count.load(Relaxed)).sum()
    }
}

/// A count for each priority and reason.
#[derive(Debug, Default)]
pub(crate) struct ByReason(Striped<[[AtomicU64; Reason::ALL.len()]; PRIORITIES]>);

impl ByReason {
    /// Adds 1. Returns the previous count of the priority and reason in this thread's stripe.
    #[inline]
    pub(crate) fn add(&self, priority: Priority, reason: Reason) -> u64 {
        // `Reason::ALL` lists the variants in the order of their discriminants.
        self.0.mine()[priority.index()][reason as usize].fetch_add(1, Relaxed)
    }

    pub(crate) fn total(&self) -> u64 {
        self.snapshot().total()
    }

    pub(crate) fn snapshot(&self) -> ReasonCounts {
        let each = Priority::ALL.iter().map(|priority| self.of(*priority));
        each.fold(ReasonCounts::default(), ReasonCounts::plus)
    }

    pub(crate) fn of(&self, priority: Priority) -> ReasonCounts {
        let count = |reason: usize| {
            let stripes = self.0.all();
            stripes.map(|counts| counts[priority.index()][reason].load(Relaxed)).sum()
        };
        ReasonCounts::from_counts(std::array::from_fn(count))
    }
}

pub(super) const PRIORITIES: usize = Priority::ALL.len();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_priority_and_reason_has_its_own_count() {
        for (priority, reason) in
            Priority::EACH.into_iter().flat_map(|p| Reason::EACH.map(|reason| (p, reason)))
        {
            let counts = ByReason::default();
            counts.add(priority, reason);
            assert_eq!(counts.of(priority).get(reason), 1, "{priority:?} {reason:?}");
            assert_eq!(counts.snapshot().get(reason), 1, "{priority:?} {reason:?}");
            assert_eq!(counts.total(), 1, "{priority:?} {reason:?}");
        }
    }
}
