//! Nested calls that must not wait (law 1).

use std::{sync::Arc, task::Context};

use super::dispatch::Stop;
use crate::leveler::{
    core::Core,
    link::{drained::Drained, job::Job},
    panics::contain,
};

/// Refuses the nested calls that would wait on without a bound, after a dispatch.
///
/// A nested call found enough free slots at its admission. Meanwhile the slots, or the room in the
/// flow, may have gone to other requests, the limit may have been lowered, dispatch may have been
/// paused, and the inner may have become unready. The calls of the present turn came before the
/// dispatch. Later calls have woken the drain task.
#[inline]
pub(super) fn refuse(core: &Core, drained: &mut Drained, stop: Stop, cx: &mut Context<'_>) {
    if !drained.nested.is_empty() {
        refuse_some(core, drained, stop, cx);
    }
}

#[cold]
fn refuse_some(core: &Core, drained: &mut Drained, stop: Stop, cx: &mut Context<'_>) {
    let refused = match stop {
        Stop::NoSlot | Stop::NoRequest => drained.nested.take_if(|_, _| true),
        // The others get a slot in time, or are looked at in the next turn.
        Stop::Paced(_) | Stop::Interrupted => {
            let queue = &mut core.link.backlog().queue;
            drained.nested.take_if(|inner, job| !queue.may_go(inner, job.rank()))
        }
    };
    let refuse = |job: Arc<dyn Job>| contain(|| job.refuse_nested()).unwrap_or(true);
    // Not `any`: each is refused.
    let count = refused.into_iter().map(refuse).filter(|is_refused| *is_refused).count();
    if count > 0 && core.counts().waiting() > 0 && core.admission.may_dispatch(1) {
        // Lighter requests may have waited behind a refused request.
        cx.waker().wake_by_ref();
    }
}
