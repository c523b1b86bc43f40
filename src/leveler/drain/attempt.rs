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
            task_call::UnpolledWork,
        },
        panics::contain,
    },
    queue::Charge,
};

/// The result of an attempt.
#[derive(Debug)]
pub(super) enum Tried {
    /// The request was dispatched, with this result.
    Made(Dispatched),
    /// The request was removed as too late, and its caller answered.
    Removed,
    /// The request waits on, since too few slots are free.
    NoSlot,
    /// The request waits on, since it would miss its deadline. The drain task needs to look.
    Foreseen,
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

/// Calls the inner of a request, unless it is too late or has to wait on. `at_once` as for
/// [`Job::dispatch`](crate::leveler::link::job::Job::dispatch).
#[inline(always)]
pub(super) fn attempt(
    core: &Core,
    entry: &Queued,
    charge: &mut Charge,
    now: Instant,
    by: By,
    at_once: Option<&mut Option<UnpolledWork>>,
) -> Tried {
    let waited = now.saturating_duration_since(entry.admitted);
    let reason = match entry.item.at_turn(waited) {
        AtTurn::Late(reason) => Some(reason),
        AtTurn::ToPredict(like, left) if would_be_late(core, like, left, now) => {
            if by == By::EndedCall {
                return Tried::Foreseen;
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
        return Tried::NoSlot;
    }
    let dispatch = || entry.item.dispatch(now, waited, charge.id, &mut charge.right, at_once);
    Tried::Made(contain(dispatch).unwrap_or(Dispatched::Ended))
}

/// Returns whether a request with so much time left would miss its deadline if it were called now.
fn would_be_late(core: &Core, like: Likeness, left: Duration, now: Instant) -> bool {
    matches!(core.admission.predict(like, left, now), Prediction::TooLate { .. })
}
