use std::{sync::Arc, time::Duration};

use tokio::{runtime::Handle, time::Instant};

use crate::{
    class::Rank,
    error::Reason,
    leveler::{
        admission::prediction::histories::Likeness,
        link::task_call::{TaskCall, UnpolledWork},
        runtime::RuntimeId,
    },
    queue::{ChargeId, FlowRight, InnerId, QueueItem},
};

/// A request in the queue, with the types of request and inner erased.
///
/// Queue and caller share the request. Exactly one of [`dispatch`](Self::dispatch),
/// [`remove`](Self::remove) and the caller (by closing the reply channel) ends it, and takes all of
/// the user's out: the last reference, perhaps a tombstone, has nothing of the user's to drop.
pub(crate) trait Job: Send + Sync {
    fn rank(&self) -> Rank;
    /// Returns the number of slots asked for.
    fn cost(&self) -> usize;
    /// Returns the end of the allowed wait, with the reason for a removal at the end.
    fn late(&self) -> Option<Late>;
    /// Returns how long the request has waited.
    fn waited(&self, now: Instant) -> Duration;
    /// Returns the state of the request at its turn, after it has waited for `waited`.
    fn at_turn(&self, waited: Duration) -> AtTurn;
    /// Returns whether the request waits, is nested, and nothing bounds the wait.
    fn must_not_wait(&self) -> bool;
    /// Returns the runtime of the caller, where the call runs.
    fn home(&self) -> RuntimeId;
    /// Returns whether the request no longer waits: ended, or taken up by the drain task.
    fn is_gone(&self) -> bool;
    /// Returns whether the request has gone for good: removed or cancelled.
    fn has_left(&self) -> bool;
    /// Calls the inner at `now`, after the request has waited for `waited`. The charge stays open
    /// until the call ends. The right to run in the flow is taken with the slots. If no slots are
    /// taken, the right is left, whatever happens. `at_once` is given if the calling task polls
    /// the call at once: it gets the work, which otherwise goes to where the caller finds it.
    fn dispatch(
        &self,
        now: Instant,
        waited: Duration,
        charge: Option<ChargeId>,
        right: &mut Option<FlowRight>,
        at_once: Option<&mut Option<UnpolledWork>>,
    ) -> Dispatched;
    /// Returns the call for a task to run, after [`dispatch`](Self::dispatch) has asked for a task.
    fn into_task(self: Arc<Self>) -> Arc<dyn TaskCall>;
    /// Answers `Rejected`. Returns whether the request was still waiting.
    fn remove(&self, why: Removal) -> bool;
    /// Answers `Rejected` with `Nested`, if the request waits, and an outer call still runs.
    /// Returns whether the request was removed.
    fn refuse_nested(&self) -> bool;
}

/// A request on its way into the queue.
pub(crate) struct Newcomer {
    pub(crate) job: Arc<dyn Job>,
    pub(crate) inner: InnerId,
    pub(crate) rank: Rank,
    pub(crate) admitted: Instant,
    pub(crate) late: Option<Late>,
    /// Set if no request of the priority waited before.
    pub(crate) is_first: bool,
}

/// The instant at which a request is late, and the reason: wait limit or deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Late {
    pub(crate) at: Instant,
    pub(crate) reason: Reason,
}

/// The state of a request at its turn.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AtTurn {
    InTime,
    /// The time to wait is over.
    Late(Reason),
    /// In time, with so much time left until the deadline. A prediction is to say whether that is
    /// enough. A probe was admitted against a prediction, and is not predicted again.
    ToPredict(Likeness, Duration),
}

/// The reason for taking a request out of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Removal {
    pub(crate) reason: Reason,
    /// Set if the request's own flow had used up its share.
    pub(crate) over_share: bool,
}

impl From<Reason> for Removal {
    fn from(reason: Reason) -> Self {
        Self { reason, over_share: false }
    }
}

/// The result of an attempt to dispatch.
#[derive(Debug)]
pub(crate) enum Dispatched {
    /// The inner was called, and the call runs in its caller, or the caller has gone.
    Called,
    /// The inner was called under `Execution::Spawn`, and the call is for a task on the runtime.
    /// `None` means the runtime of the calling thread. A task that polls at once has the work.
    ToRun(Option<Handle>),
    /// The request had gone, or has been answered. Mostly the inner was not called.
    Ended,
    /// The inner was called, and panicked.
    Panicked,
    /// The request waits on, since the inner is not ready.
    Unready,
    /// The request waits on, since no slot is free.
    NoSlot,
}

impl QueueItem for Arc<dyn Job> {
    fn is_gone(&self) -> bool {
        (**self).is_gone()
    }

    fn has_left(&self) -> bool {
        (**self).has_left()
    }

    fn asked(&self) -> u32 {
        // The cast is exact: a class has no greater cost.
        (**self).cost() as u32
    }

    fn late(&self) -> Option<Instant> {
        (**self).late().map(|late| late.at)
    }
}
