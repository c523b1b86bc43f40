//! An attempt to dispatch a request, by the drain task or by the task of an ended call.

use tokio::time::Instant;

use crate::{
    error::Reason,
    leveler::{
        admission::prediction::predictor::Prediction,
        core::Core,
        link::{backlog::Queued, job::Dispatched, task_call::ToRun},
        panics::contain,
    },
    queue::{Charge, Entry},
};

/// The result of an attempt.
pub(super) enum Tried {
    /// The inner was called. Under `Execution::Spawn` the future waits for a task.
    Called(Option<ToRun>),
    /// The inner was called, and panicked.
    Panicked,
    /// The request was removed as too late, and its caller answered.
    Removed,
    /// The request had gone, or was answered without a call.
    Ended,
    /// The request waits on, since its inner is not ready.
    Unready(Queued),
    /// The request waits on, since too few slots are free.
    NoSlot(Queued),
    /// The request waits on, since it would miss its deadline. The drain task needs to look.
    Foreseen(Queued),
}

/// The maker of an attempt.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    DrainTask,
    /// The task of an ended call. Calls that end at the same time count as running until their
    /// tasks are polled, so the prediction is too long: the drain task looks at the requests to
    /// skip.
    EndedCall,
}

/// Calls the inner of a request, unless it is too late or has to wait on.
#[inline(always)]
pub(super) fn attempt(
    core: &Core,
    entry: Queued,
    charge: &mut Charge,
    now: Instant,
    by: By,
) -> Tried {
    if let Some(reason) = is_late(&entry, now) {
        contain(|| entry.item.remove(reason.into()));
        return Tried::Removed;
    }
    if would_be_late(core, &entry, now) {
        if by == By::EndedCall {
            return Tried::Foreseen(entry);
        }
        contain(|| entry.item.remove(Reason::WouldMissDeadline.into()));
        return Tried::Removed;
    }
    if !core.admission.may_dispatch(entry.item.cost()) {
        return Tried::NoSlot(entry);
    }
    let Entry { seq, inner, rank, admitted, item } = entry;
    let again = |item| Entry { seq, inner, rank, admitted, item };
    match contain(|| item.dispatch(now, charge.id, &mut charge.right)) {
        Some(Dispatched::Started(to_run)) => Tried::Called(to_run),
        Some(Dispatched::Panicked) => Tried::Panicked,
        Some(Dispatched::Unready(item)) => Tried::Unready(again(item)),
        Some(Dispatched::NoSlot(item)) => Tried::NoSlot(again(item)),
        Some(Dispatched::Ended) | None => Tried::Ended,
    }
}

/// Returns the reason, if the time of a request is over.
fn is_late(entry: &Queued, now: Instant) -> Option<Reason> {
    entry.item.late().filter(|late| late.at <= now).map(|late| late.reason)
}

/// Returns whether a request would miss its deadline if it were called now.
fn would_be_late(core: &Core, entry: &Queued, now: Instant) -> bool {
    let job = &entry.item;
    let Some((deadline, like)) = job.deadline().zip(job.predicted_by()) else { return false };
    let left = deadline.saturating_duration_since(now);
    matches!(core.admission.predict(like, left, now), Prediction::TooLate { .. })
}
