use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{Reasons, stripe::Striped};
use crate::error::Reason;

/// The running totals. Each is an independent counter, so relaxed ordering is enough.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) admitted: Counter,
    pub(crate) succeeded: Counter,
    pub(crate) failed: Counter,
    pub(crate) overloaded: Counter,
    pub(crate) cancelled: Counter,
    pub(crate) panicked: Counter,
    pub(crate) refused: ByReason,
    pub(crate) removed: ByReason,
}

impl Counters {
    /// Admitted requests that have ended otherwise than by removal.
    pub(crate) fn ended(&self) -> u64 {
        let Self { admitted: _, succeeded, failed, overloaded: _, cancelled, panicked, .. } = self;
        succeeded.get() + failed.get() + cancelled.get() + panicked.get()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counter(Striped<AtomicU64>);

impl Counter {
    /// Counts one; returns how many this thread and those it shares a stripe with had counted before.
    pub(crate) fn add(&self) -> u64 {
        self.0.mine().fetch_add(1, Relaxed)
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.all().map(|count| count.load(Relaxed)).sum()
    }
}

#[derive(Debug, Default)]
pub(crate) struct ByReason([Counter; Reason::ALL.len()]);

impl ByReason {
    pub(crate) fn add(&self, reason: Reason) {
        // `Reason::ALL` lists the variants in the order of their discriminants.
        if let Some(counter) = self.0.get(reason as usize) {
            counter.add();
        }
    }

    pub(crate) fn total(&self) -> u64 {
        self.0.iter().map(Counter::get).sum()
    }

    pub(crate) fn snapshot(&self) -> Reasons {
        let [full, evicted, max_wait, deadline, would_miss_deadline, delay, closed, no_runtime] =
            self.0.each_ref().map(Counter::get);
        Reasons {
            full,
            evicted,
            max_wait,
            deadline,
            would_miss_deadline,
            delay,
            closed,
            no_runtime,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_count() {
        for reason in Reason::ALL {
            let counts = ByReason::default();
            counts.add(reason);
            assert_eq!(counts.snapshot().get(reason), 1, "{reason:?}");
            assert_eq!(counts.snapshot().total(), 1, "{reason:?}");
        }
    }
}
