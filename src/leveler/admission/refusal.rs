use std::time::Duration;

use crate::error::Reason;

/// The reason for turning a newcomer away, finer than [`Reason`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No place is free, and nobody gives way.
    Full,
    /// Lasting overload leaves no room for the priority.
    CutOff,
    /// The budget of bypassing requests is used up.
    Bypass,
    /// The request would miss its deadline. If even without waiting (`by_itself`), retrying is
    /// pointless.
    WouldMiss {
        by_itself: bool,
    },
    Late,
    /// The service waited for a place up to the wait limit.
    MaxWait {
        waited: Duration,
    },
    Closed,
    NoRuntime,
    /// The call is nested, and nothing bounds its wait.
    Nested,
}

impl Refusal {
    #[inline]
    pub(crate) fn reason(self) -> Reason {
        match self {
            Self::Full => Reason::Full,
            Self::CutOff => Reason::CutOff,
            Self::Bypass => Reason::Bypass,
            Self::WouldMiss { .. } => Reason::WouldMissDeadline,
            Self::Late => Reason::Deadline,
            Self::MaxWait { .. } => Reason::MaxWait,
            Self::Closed => Reason::Closed,
            Self::NoRuntime => Reason::NoRuntime,
            Self::Nested => Reason::Nested,
        }
    }
}
