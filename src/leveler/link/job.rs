use std::sync::Arc;

use tokio::time::Instant;

use crate::{
    class::Rank,
    error::Reason,
    leveler::budget::Budget,
    queue::{ChargeId, InnerId, QueueItem},
};

/// A request in the queue, whatever its type and that of its inner.
///
/// The queue and the caller share it. It ends by exactly one of [`dispatch`](Self::dispatch),
/// [`remove`](Self::remove), or its caller, who closes the reply channel.
pub(crate) trait Job: Send + Sync {
    fn inner_id(&self) -> InnerId;
    fn rank(&self) -> Rank;
    /// Returns how many slots the request asks for.
    fn cost(&self) -> usize;
    fn admitted(&self) -> Instant;
    /// Returns until when the request may wait, and what to say then.
    fn late(&self) -> Option<Late>;
    /// Returns until when the request is of use to its caller.
    fn deadline(&self) -> Option<Instant>;
    /// Returns by what to predict whether the request will be late. A probe, which was let in
    /// against a prediction, is not predicted again.
    fn predicted_by(&self) -> Budget;
    /// Returns whether the request does not wait: it has ended, or the drain task has taken it up.
    fn is_gone(&self) -> bool;
    /// Returns whether the request can't come back: it was removed or cancelled.
    fn has_left(&self) -> bool;
    /// Calls the inner, on the drain task. The charge stays open until the call ends.
    fn dispatch(self: Arc<Self>, now: Instant, charge: Option<ChargeId>) -> Dispatched;
    /// Answers `Rejected`. Returns whether the request was still waiting.
    fn remove(&self, why: Removal) -> bool;
}

/// The instant at which a request is late, and by which of its two limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Late {
    pub(crate) at: Instant,
    pub(crate) reason: Reason,
}

/// The reason for taking a request out of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Removal {
    pub(crate) reason: Reason,
    /// Whether its own flow had used up its share.
    pub(crate) over_share: bool,
}

impl From<Reason> for Removal {
    fn from(reason: Reason) -> Self {
        Self { reason, over_share: false }
    }
}

/// The result of an attempt to dispatch.
pub(crate) enum Dispatched {
    /// The call runs.
    Started,
    /// The request had gone, or has been answered, and was not called.
    Ended,
    /// The inner was called, and panicked.
    Panicked,
    /// The request waits on, since its inner is not ready.
    Unready(Arc<dyn Job>),
    /// The request waits on, since no slot is free.
    NoSlot(Arc<dyn Job>),
}

impl QueueItem for Arc<dyn Job> {
    fn is_gone(&self) -> bool {
        (**self).is_gone()
    }

    fn has_left(&self) -> bool {
        (**self).has_left()
    }

    fn late(&self) -> Option<Instant> {
        (**self).late().map(|late| late.at)
    }
}
