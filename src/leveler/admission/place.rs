//! The right to wait.

use std::{cell::Cell, thread};

use tokio::time::Instant;

use super::{
    Admission, Grantor, bound::Slots, flow_weights::FlowPlace, slot::Slot, unserved::Unserved,
    word::Counts,
};
use crate::{
    class::{Priority, Rank},
    error::Reason,
    queue::FlowRight,
    stats::Count,
};

/// The right of an admitted request to wait: as many places as the request costs.
///
/// ```text
/// Unqueued ──▶ Queued ──▶ Running ──▶ Slot        enqueue, take_slot, into_slot
///     └──────────┴──────────┴──▶ given back       by one of the methods that end it, or in Drop
/// ```
///
/// Each change of stage updates the counts of the queue. Once queued, an end without a call also
/// updates the counters, even in `Drop`, so the books balance (law 12).
#[derive(Debug)]
pub(crate) struct Place<G: Grantor> {
    /// `None` once given back or converted.
    grantor: Option<G>,
    rank: Rank,
    stage: Cell<Stage>,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// Not in the queue, and not counted as admitted.
    Unqueued,
    /// With the place in the table of flows.
    Queued(FlowPlace),
    /// Being dispatched, with slots.
    Running(Slots),
}

/// The number of cancelled requests of a priority after which the drain task is woken to drop
/// tombstones. A smaller number costs time, a larger number memory.
const SWEEP: u64 = 1024;

/// The number of cancelled requests of a priority, counted by one thread, with every wait measured.
/// After that, one in [`MEASURED_OF`] is measured, for all: reading the clock takes a twentieth of
/// the time to queue and cancel a request.
const ALL_MEASURED: u64 = 64;
const MEASURED_OF: u64 = 16;

#[cold]
fn record_cancelled(admission: &Admission, priority: Priority, admitted: Instant, before: u64) {
    let weight = if before < ALL_MEASURED { 1 } else { MEASURED_OF };
    let waited = Instant::now().saturating_duration_since(admitted);
    admission.removed_wait.record_many(priority, waited, weight);
}

impl<G: Grantor> Place<G> {
    pub(super) fn waiting(grantor: Option<G>, rank: Rank) -> Self {
        Self { grantor, rank, stage: Cell::new(Stage::Unqueued) }
    }

    /// Converts a slot back to a place: gives the slots back, and keeps the places. The request
    /// waits.
    pub(crate) fn instead_of(slot: Slot<G>, rank: Rank) -> Self {
        Self::waiting(slot.into_grantor(), rank)
    }

    /// Keeps the place, with other access to the same admission.
    #[inline(always)]
    pub(crate) fn map<H: Grantor>(mut self, to: impl FnOnce(G) -> H) -> Place<H> {
        let grantor = self.grantor.take().map(to);
        Place { grantor, rank: self.rank, stage: Cell::new(self.stage.get()) }
    }

    /// Returns the access to the admission; `None` only after the end.
    pub(crate) fn grantor(&self) -> Option<&G> {
        self.grantor.as_ref()
    }

    /// Counts the request as admitted and queued. Returns whether no other request of the priority
    /// waits.
    #[inline(always)]
    pub(crate) fn enqueue(&self, now: Instant) -> bool {
        let Some(grantor) = &self.grantor else { return false };
        let (admission, rank) = (grantor.admission(), self.rank);
        admission.counters.add(rank.priority, Count::Queued);
        let (is_first, place) = admission.occupancy.on_queued(rank);
        self.stage.set(Stage::Queued(place));
        if is_first && admission.occupancy.is_alone(rank.priority) {
            admission.predictor.drain_rate.begin(now);
        }
        is_first
    }

    /// Takes slots for the cost `asked`, and adjusts the places to as many. The slots take over the
    /// right to run in the flow. Returns false if too few slots are free, or dispatch is paused.
    /// For the drain task and for tasks that hand on.
    #[inline]
    pub(crate) fn take_slot(&self, asked: usize, right: &mut Option<FlowRight>) -> bool {
        let Some(grantor) = &self.grantor else { return false };
        let admission = grantor.admission();
        let Some(mut slots) = admission.bound.take_slots(self.rank.cost as usize, asked) else {
            return false;
        };
        slots.right = right.take();
        if let Stage::Queued(place) = self.stage.replace(Stage::Running(slots)) {
            admission.occupancy.on_dispatched(self.rank, place);
        }
        true
    }

    /// Becomes the right to run, with other access to the same admission. `None` if no slots were
    /// taken.
    #[inline(always)]
    pub(crate) fn into_slot<H: Grantor>(mut self, to: impl FnOnce(G) -> H) -> Option<Slot<H>> {
        match self.stage.get() {
            Stage::Running(slots) => Some(Slot::new(to(self.grantor.take()?), slots)),
            Stage::Unqueued | Stage::Queued(_) => None,
        }
    }

    /// Gives the place back after the caller has gone. The request waited since `admitted`.
    #[inline(always)]
    pub(crate) fn cancel(mut self, admitted: Instant) {
        let Some(grantor) = self.grantor.take() else { return };
        let admission = grantor.admission();
        let priority = self.rank.priority;
        let before = admission.counters.add(priority, Count::Cancelled);
        admission.counters.add(priority, Count::GivenUp);
        if before < ALL_MEASURED || before % MEASURED_OF == 0 {
            record_cancelled(admission, priority, admitted, before);
        }
        let after = self.release(admission);
        // Wake the drain task if the request may have held up others for want of slots, if a sweep
        // is due, or if the drain task may be waiting for the end.
        let may_go = after.waiting() > 0 && admission.may_dispatch(1);
        if may_go || before % SWEEP == SWEEP - 1 || after.is_closed() {
            admission.listeners.drain.wake();
        }
    }

    /// Gives the place back after an end without a response. Returns the access to the admission.
    #[inline]
    pub(crate) fn end(mut self, how: Unserved) -> Option<G> {
        let grantor = self.grantor.take()?;
        self.give_back(&grantor, how);
        Some(grantor)
    }

    /// Counts the end, then gives back: anyone woken by the free place must find the books
    /// balanced.
    fn give_back(&self, grantor: &G, how: Unserved) {
        let admission = grantor.admission();
        if !matches!(self.stage.get(), Stage::Unqueued) {
            how.count(&admission.counters, self.rank.priority);
            if let Unserved::Removed(_) = how {
                admission.on_rejected(self.rank.flow);
            }
        }
        self.release(admission);
    }

    /// Gives back, and notifies the listeners. Returns the counts afterwards.
    #[inline(always)]
    fn release(&self, admission: &Admission) -> Counts {
        let (listeners, places) = (&admission.listeners, &admission.bound);
        match self.stage.get() {
            Stage::Running(slots) => {
                admission.flow_limit.give_back(slots);
                let after = places.release_running(slots.taken);
                listeners.on_slot_free(after, places.reserved(), false);
                return after;
            }
            Stage::Queued(place) => admission.occupancy.on_gone(self.rank, place),
            Stage::Unqueued => {}
        }
        let after = places.release_waiting(self.rank.cost);
        listeners.on_place_free(after, places.reserved());
        after
    }

    /// Gives back a place that nothing else has ended. If a panic unwinds or slots are taken, the
    /// request counts as panicked. Otherwise neither the queue nor the caller has the request any
    /// more, and the request counts as removed.
    #[cold]
    fn lose(grantor: G, rank: Rank, stage: Stage) {
        let panicked = thread::panicking() || matches!(stage, Stage::Running(_));
        let removed = Unserved::Removed(Reason::Closed);
        let how = if panicked { Unserved::Panicked } else { removed };
        // Made anew: a place whose address goes to a cold function would be kept in memory.
        drop(Self { grantor: Some(grantor), rank, stage: Cell::new(stage) }.end(how));
    }
}

impl<G: Grantor> Drop for Place<G> {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(grantor) = self.grantor.take() {
            Self::lose(grantor, self.rank, self.stage.get());
        }
    }
}
