use crate::{
    class::Priority,
    error::Reason,
    stats::{Count, Counters},
};

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
            Self::Removed(reason) => counters.add_removed(priority, reason),
            Self::Failed => counters.add(priority, Count::Failed),
            Self::Panicked => counters.add(priority, Count::Panicked),
        }
    }
}
