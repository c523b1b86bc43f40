//! The right to wait.

use std::{cell::Cell, thread};

use tokio::time::Instant;

use super::{Admission, Granted, places::Slots, slot::Slot, unserved::Unserved, word::Counts};
use crate::{class::Rank, error::Reason};

/// The right of an admitted request to wait: as many places as it costs.
///
/// ```text
/// Admitted ──▶ Queued ──▶ Running ──▶ Slot        enqueue, take_slot, into_slot
///     └──────────┴──────────┴──▶ given back       by one of the methods that end it, or in Drop
/// ```
///
/// All methods that change its stage keep the counts of what waits true. What ends an admitted
/// request without a call counts it too, so the books balance (law 12) whoever drops this.
#[derive(Debug)]
pub(crate) struct Place<G: Granted> {
    /// `None` once the place was given back, or has become another right.
    granted: Option<G>,
    rank: Rank,
    stage: Cell<Stage>,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// Not in the queue, and not counted as admitted.
    Admitted,
    Queued,
    /// At its turn, with slots.
    Running(Slots),
}

/// The drain task is woken once for so many cancelled requests, to look whether there are
/// tombstones to drop. More often costs time, more rarely memory.
const SWEEP: u64 = 1024;

impl<G: Granted> Place<G> {
    pub(super) fn waiting(granted: Option<G>, rank: Rank) -> Self {
        Self { granted, rank, stage: Cell::new(Stage::Admitted) }
    }

    /// Takes the place of a slot: gives the slots back, and keeps the places. The request waits after
    /// all.
    pub(crate) fn instead_of(slot: Slot<G>, rank: Rank) -> Self {
        Self::waiting(slot.into_granted(), rank)
    }

    /// Goes on as the same place, by another way to the same admission.
    #[inline]
    pub(crate) fn map<H: Granted>(mut self, to: impl FnOnce(G) -> H) -> Place<H> {
        let granted = self.granted.take().map(to);
        Place { granted, rank: self.rank, stage: Cell::new(self.stage.get()) }
    }

    /// Returns what leads to the admission; `None` only after the end.
    pub(crate) fn granted(&self) -> Option<&G> {
        self.granted.as_ref()
    }

    /// Counts the request as admitted and queued.
    #[inline]
    pub(crate) fn enqueue(&self, now: Instant) {
        let Some(granted) = &self.granted else { return };
        let (admission, rank) = (granted.admission(), self.rank);
        admission.counters.queued.add(rank.priority);
        admission.occupancy.on_queued(rank);
        self.stage.set(Stage::Queued);
        if admission.counts().waiting() == rank.cost as usize {
            let ended = admission.counters.ended();
            admission.predictor.drain_rate.begin(now, ended);
        }
    }

    /// Takes slots for the cost `asked`, in place of the places held. Returns whether it got them.
    /// For the drain task alone.
    #[inline]
    pub(crate) fn take_slot(&self, asked: usize) -> bool {
        let Some(granted) = &self.granted else { return false };
        let admission = granted.admission();
        let Some(slots) = admission.places.take_slots(self.rank.cost as usize, asked) else {
            return false;
        };
        if let Stage::Queued = self.stage.replace(Stage::Running(slots)) {
            admission.occupancy.on_dequeued(self.rank);
        }
        true
    }

    /// Becomes the right to run, if slots were taken.
    #[inline]
    pub(crate) fn into_slot(mut self) -> Option<Slot<G>> {
        match self.stage.get() {
            Stage::Running(slots) => Some(Slot::new(self.granted.take()?, slots)),
            Stage::Admitted | Stage::Queued => None,
        }
    }

    /// Gives back for a caller that has gone.
    #[inline]
    pub(crate) fn cancel(mut self) {
        let Some(granted) = self.granted.take() else { return };
        let admission = granted.admission();
        let before = admission.counters.cancelled.add();
        let after = self.release(admission);
        // The request may have held up others, for want of slots; and the drain task may have been
        // waiting for it to end.
        let may_go = after.waiting() > 0 && admission.may_dispatch(1);
        if may_go || before % SWEEP == SWEEP - 1 || after.is_closed() {
            admission.listeners.drain.wake();
        }
    }

    /// Gives back after an end without a response. Returns what led to the admission.
    #[inline]
    pub(crate) fn end(mut self, how: Unserved) -> Option<G> {
        let granted = self.granted.take()?;
        self.give_back(&granted, how);
        Some(granted)
    }

    /// Counts the end, then gives back: whoever the free place wakes must find the books balanced.
    fn give_back(&self, granted: &G, how: Unserved) {
        let admission = granted.admission();
        if !matches!(self.stage.get(), Stage::Admitted) {
            how.count(&admission.counters, self.rank.priority);
        }
        self.release(admission);
    }

    /// Gives back, and tells those who wait. Returns the counts after it.
    #[inline(always)]
    fn release(&self, admission: &Admission) -> Counts {
        let (listeners, places) = (&admission.listeners, &admission.places);
        match self.stage.get() {
            Stage::Running(slots) => {
                let after = places.release_running(slots.taken);
                listeners.on_slot_free(after, places.reserved());
                return after;
            }
            Stage::Queued => admission.occupancy.on_dequeued(self.rank),
            Stage::Admitted => {}
        }
        let after = places.release_waiting(self.rank.cost);
        listeners.on_place_free(after, places.reserved());
        after
    }

    /// Gives back what nothing else has ended. A panic that unwinds through the dispatch counts as
    /// one. A request that nobody has any more, not even its caller, counts as removed.
    #[cold]
    fn lose(&self, granted: &G) {
        let panicked = thread::panicking() || matches!(self.stage.get(), Stage::Running(_));
        let removed = Unserved::Removed(Reason::Closed);
        self.give_back(granted, if panicked { Unserved::Panicked } else { removed });
    }
}

impl<G: Granted> Drop for Place<G> {
    #[inline]
    fn drop(&mut self) {
        if let Some(granted) = self.granted.take() {
            self.lose(&granted);
        }
    }
}
