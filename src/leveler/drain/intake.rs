use std::collections::BTreeSet;

use crate::{
    leveler::{core::Core, link::drained::Drained},
    options::Execution,
};

/// The findings of an intake.
#[derive(Debug)]
pub(super) struct Found {
    /// Set if no request comes any more.
    pub(super) is_closed: bool,
    /// Set if any request may be late.
    pub(super) has_late: bool,
    /// The number of requests handed on since the last intake.
    pub(super) handed_on: u32,
}

/// Takes in the measured times of finished calls, the wake-ups of inner services, and the nested
/// calls that must not wait.
#[inline(always)]
pub(super) fn take(core: &Core, drained: &mut Drained) -> Found {
    let link = &core.link;
    // Before the look at the queue.
    let is_closed = link.is_orphaned();
    // Mostly there is nothing to look for, and callers use the lock of the queue. Without tasks no
    // request is handed on. A caller that has put a request in, and has not marked the queue yet,
    // does so before it wakes this task. If nobody wakes this task, the end of the turn finds the
    // request and its limit.
    let is_marked = link.take_mark() || drained.has_late;
    let is_plain = link.woken.is_empty() && link.settlements.is_empty();
    if is_plain && !is_marked && core.settings.execution == Execution::Caller {
        return Found { is_closed, has_late: false, handed_on: 0 };
    }
    take_all(core, drained, is_closed)
}

fn take_all(core: &Core, drained: &mut Drained, is_closed: bool) -> Found {
    let link = &core.link;
    let Drained { settlements, nested, .. } = drained;
    let mut woken = BTreeSet::new();
    link.woken.swap(&mut woken);
    link.settlements.swap(settlements);
    let mut backlog = link.backlog();
    settlements.drain(..).for_each(|(charge, time)| backlog.queue.settle(charge, time));
    woken.into_iter().for_each(|inner| backlog.queue.wake(inner));
    let has_late = backlog.queue.next_late().is_some();
    let handed_on = backlog.take_handed_on();
    backlog.take_nested(nested);
    Found { is_closed, has_late, handed_on }
}

/// Returns the rights of ended calls, to run in a flow, to the queue. After evictions: until then a
/// held flow gives way.
#[inline]
pub(super) fn take_rights(core: &Core) {
    if !core.admission.flow_limit.ended.is_empty() {
        take_ended_rights(core);
    }
}

fn take_ended_rights(core: &Core) {
    let mut rights = Vec::new();
    core.admission.flow_limit.ended.swap(&mut rights);
    let mut backlog = core.link.backlog();
    rights.into_iter().for_each(|right| backlog.queue.give_back(right));
}
