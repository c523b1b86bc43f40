use crate::error::Reason;

/// The reason for turning a newcomer away, finer than [`Reason`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No place is free, and nobody gives way.
    NoPlace,
    /// Under lasting overload there is no room for its priority.
    CutOff,
    /// The budget of requests that bypass the queue is used up.
    Bypass,
    /// It would miss its deadline. If it would even without waiting (`by_itself`), retrying is
    /// pointless.
    WouldMiss {
        by_itself: bool,
    },
    Late,
    Closed,
    NoRuntime,
}

impl Refusal {
    pub(crate) fn reason(self) -> Reason {
        match self {
            Self::NoPlace | Self::CutOff | Self::Bypass => Reason::Full,
            Self::WouldMiss { .. } => Reason::WouldMissDeadline,
            Self::Late => Reason::Deadline,
            Self::Closed => Reason::Closed,
            Self::NoRuntime => Reason::NoRuntime,
        }
    }
}
