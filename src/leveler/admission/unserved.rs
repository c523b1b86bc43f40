use crate::{class::Priority, error::Reason, stats::Counters};

/// An end of an admitted request whose call was not made, or returned no future.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unserved {
    Removed(Reason),
    Failed,
    Panicked,
}

impl Unserved {
    pub(super) fn count(self, counters: &Counters, priority: Priority) -> u64 {
        match self {
            Self::Removed(reason) => counters.removed.add(priority, reason),
            Self::Failed => counters.failed.add(priority),
            Self::Panicked => counters.panicked.add(priority),
        }
    }
}
