use super::{
    reason_counts::ReasonCounts,
    stripe::{Stripe, Striped},
};
use crate::{
    class::Priority,
    error::Reason,
    sync::figure::{AtomicU64, Ordering::Relaxed},
};

/// The running totals. Each counter is independent, so relaxed ordering is enough.
#[derive(Debug, Default)]
pub(crate) struct Counters(Striped<Counts>);

/// A kind of requests, counted by priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    /// Requests admitted and dispatched in one step. The wait is zero, and recorded by this count
    /// alone.
    Direct,
    /// Requests admitted in any other way.
    Queued,
    Succeeded,
    Failed,
    Overloaded,
    Cancelled,
    /// The part of the cancelled requests that never ran. Counted after `Cancelled`.
    GivenUp,
    Panicked,
}

/// The counts of a stripe, for each priority. 128 bytes apart, since processors prefetch cache
/// lines of 64 bytes in pairs. The kinds of a priority fill a line.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Counts {
    of: [[AtomicU64; KINDS]; PRIORITIES],
    refused: ByReason,
    removed: ByReason,
}

/// A count for each priority and reason.
type ByReason = [[AtomicU64; Reason::ALL.len()]; PRIORITIES];

const KINDS: usize = Count::Panicked as usize + 1;

impl Counters {
    /// Adds 1. Returns the previous count in this thread's stripe.
    #[inline]
    pub(crate) fn add(&self, priority: Priority, count: Count) -> u64 {
        let mine = Stripe::mine();
        mine.add(&self.0.of(mine).of[priority.index()][count as usize], 1)
    }

    /// Adds 1 to the refused requests. Returns the previous count in this thread's stripe.
    #[inline]
    pub(crate) fn add_refused(&self, priority: Priority, reason: Reason) -> u64 {
        let mine = Stripe::mine();
        // `Reason::ALL` lists the variants in the order of their discriminants.
        mine.add(&self.0.of(mine).refused[priority.index()][reason as usize], 1)
    }

    /// Adds 1 to the removed requests. Returns the previous count in this thread's stripe.
    #[inline]
    pub(crate) fn add_removed(&self, priority: Priority, reason: Reason) -> u64 {
        let mine = Stripe::mine();
        mine.add(&self.0.of(mine).removed[priority.index()][reason as usize], 1)
    }

    /// Returns the counts of a priority.
    pub(crate) fn of(&self, priority: Priority) -> Sums {
        Sums(sum(self.0.all().map(|counts| &counts.of[priority.index()])))
    }

    /// Returns the count of all priorities.
    pub(crate) fn get(&self, count: Count) -> u64 {
        let stripes = self.0.all().flat_map(|counts| &counts.of);
        stripes.map(|counts| counts[count as usize].load(Relaxed)).sum()
    }

    /// Returns the refused requests of a priority.
    pub(crate) fn refused(&self, priority: Priority) -> ReasonCounts {
        self.by_reason(priority, |counts| &counts.refused)
    }

    /// Returns the removed requests of a priority.
    pub(crate) fn removed(&self, priority: Priority) -> ReasonCounts {
        self.by_reason(priority, |counts| &counts.removed)
    }

    /// Returns the refused requests of all priorities.
    pub(crate) fn all_refused(&self) -> ReasonCounts {
        total(|priority| self.refused(priority))
    }

    /// Returns the removed requests of all priorities.
    pub(crate) fn all_removed(&self) -> ReasonCounts {
        total(|priority| self.removed(priority))
    }

    /// Returns the number of ended calls: of requests that have ended, but neither by removal nor
    /// by their callers while they waited.
    pub(crate) fn ended(&self) -> u64 {
        let given_up = self.get(Count::GivenUp);
        self.over().saturating_sub(given_up)
    }

    /// Returns the number of admitted requests that are over, except by removal.
    pub(crate) fn over(&self) -> u64 {
        let ends = [Count::Succeeded, Count::Failed, Count::Cancelled, Count::Panicked];
        ends.map(|count| self.get(count)).iter().sum()
    }

    fn by_reason(&self, priority: Priority, of: fn(&Counts) -> &ByReason) -> ReasonCounts {
        let stripes = self.0.all().map(|counts| &of(counts)[priority.index()]);
        ReasonCounts::from_counts(sum(stripes))
    }
}

/// The counts of a priority.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sums([u64; KINDS]);

impl Sums {
    pub(crate) fn get(self, count: Count) -> u64 {
        self.0[count as usize]
    }
}

/// Returns the sum of the same counts of several stripes.
fn sum<'a, const N: usize>(stripes: impl Iterator<Item = &'a [AtomicU64; N]>) -> [u64; N] {
    stripes.fold([0; N], |mut sums, counts| {
        sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count.load(Relaxed));
        sums
    })
}

fn total(of: impl Fn(Priority) -> ReasonCounts) -> ReasonCounts {
    Priority::EACH.map(of).into_iter().fold(ReasonCounts::default(), ReasonCounts::plus)
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
            let counters = Counters::default();
            counters.add_refused(priority, reason);
            assert_eq!(counters.refused(priority).get(reason), 1, "{priority:?} {reason:?}");
            assert_eq!(counters.all_refused().get(reason), 1, "{priority:?} {reason:?}");
            assert_eq!(counters.all_refused().total(), 1, "{priority:?} {reason:?}");
            assert_eq!(counters.all_removed().total(), 0, "{priority:?} {reason:?}");
        }
    }
}
