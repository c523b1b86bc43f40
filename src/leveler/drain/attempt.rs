//! An attempt to dispatch a request, by the drain task or by the task of an ended call.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    error::Reason,
    leveler::{
        admission::prediction::{histories::Likeness, predictor::Prediction},
        core::Core,
        link::{
            backlog::Queued,
            job::{AtTurn, Dispatched},
            task_call::ToRun,
        },
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
    let waited = now.saturating_duration_since(entry.admitted);
    let reason = match entry.item.at_turn(waited) {
        AtTurn::Late(reason) => Some(reason),
        AtTurn::ToPredict(like, left) if would_be_late(core, like, left, now) => {
            if by == By::EndedCall {
                return Tried::Foreseen(entry);
            }
            Some(Reason::WouldMissDeadline)
        }
        AtTurn::InTime | AtTurn::ToPredict(..) => None,
    };
    if let Some(reason) = reason {
        contain(|| entry.item.remove(reason.into()));
        return Tried::Removed;
    }
    if !core.admission.may_dispatch(entry.item.cost()) {
        return Tried::NoSlot(entry);
    }
    let Entry { seq, inner, rank, admitted, item } = entry;
    let again = |item| Entry { seq, inner, rank, admitted, item };
    match contain(|| item.dispatch(now, waited, charge.id, &mut charge.right)) {
        Some(Dispatched::Started(to_run)) => Tried::Called(to_run),
        Some(Dispatched::Panicked) => Tried::Panicked,
        Some(Dispatched::Unready(item)) => Tried::Unready(again(item)),
        Some(Dispatched::NoSlot(item)) => Tried::NoSlot(again(item)),
        Some(Dispatched::Ended) | None => Tried::Ended,
    }
}

/// Returns whether a request with so much time left would miss its deadline if it were called now.
fn would_be_late(core: &Core, like: Likeness, left: Duration, now: Instant) -> bool {
    matches!(core.admission.predict(like, left, now), Prediction::TooLate { .. })
}
