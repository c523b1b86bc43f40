//! An attempt to dispatch a request, by the drain task or by the task of a call that has ended.

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
    /// The inner was called. Under `Execution::Spawn` its future is to be run.
    Called(Option<ToRun>),
    /// The inner was called, and panicked.
    Panicked,
    /// The request was removed, as it was too late, and its caller answered.
    Removed,
    /// The request had gone, or was answered without a call.
    Ended,
    /// The request waits on, since its inner is not ready.
    Unready(Queued),
    /// The request waits on, since too few slots are free.
    NoSlot(Queued),
}

/// Calls the inner of a request, unless it is too late or has to wait on.
#[inline(always)]
pub(super) fn attempt(core: &Core, entry: Queued, charge: &mut Charge, now: Instant) -> Tried {
    if let Some(reason) = too_late(core, &entry, now) {
        contain(|| entry.item.remove(reason.into()));
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

/// Returns the reason not to dispatch a request at its turn, if any.
fn too_late(core: &Core, entry: &Queued, now: Instant) -> Option<Reason> {
    let job = &entry.item;
    if let Some(late) = job.late().filter(|late| late.at <= now) {
        return Some(late.reason);
    }
    let left = job.deadline()?.saturating_duration_since(now);
    let prediction = core.admission.predict(job.predicted_by()?, left, now);
    matches!(prediction, Prediction::TooLate { .. }).then_some(Reason::WouldMissDeadline)
}
