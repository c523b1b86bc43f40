//! The right to run.

use std::mem;

use super::{Admission, Grantor, bound::Slots, unserved::Unserved, word::Counts};
use crate::{
    class::Priority,
    stats::Count,
    sync::figure::{AtomicBool, Ordering::Relaxed},
};

/// The right of a call to run: as many slots and places as the request costs.
///
/// `Drop` gives both back, and notifies the listeners. A slot with a count of zero belongs to the
/// bypass budget.
#[derive(Debug)]
pub(crate) struct Slot<G: Grantor> {
    /// `None` once converted.
    grantor: Option<G>,
    slots: Slots,
    /// Cleared once the slot was given back or handed over. Atomic to make a call `Sync`; two
    /// threads never use the same slot at once.
    is_live: AtomicBool,
}

impl<G: Grantor> Slot<G> {
    #[inline]
    pub(super) fn new(grantor: G, slots: Slots) -> Self {
        Self { grantor: Some(grantor), slots, is_live: AtomicBool::new(true) }
    }

    /// Takes a slot from the bypass budget; `None` if used up.
    pub(super) fn bypass(grantor: G) -> Option<Self> {
        grantor.admission().bypass.begin().then(|| Self::new(grantor, Slots::default()))
    }

    /// Returns whether the slot belongs to the bypass budget.
    #[inline]
    pub(crate) fn is_bypass(&self) -> bool {
        self.slots.taken == 0
    }

    /// Returns the number of slots.
    #[inline]
    pub(crate) fn taken(&self) -> usize {
        self.slots.taken as usize
    }

    /// Returns how many slots all requests had taken just after this slot was taken.
    #[inline]
    pub(crate) fn in_flight(&self) -> usize {
        self.slots.in_flight as usize
    }

    /// Returns the access to the admission.
    #[inline]
    pub(crate) fn grantor(&self) -> Option<&G> {
        self.grantor.as_ref()
    }

    /// Returns whether the slot was neither given back nor handed over.
    #[inline]
    pub(crate) fn is_live(&self) -> bool {
        self.is_live.load(Relaxed)
    }

    /// Goes on as the same slot, with a longer-lived way to the same admission.
    #[inline]
    pub(crate) fn move_to<H: Grantor>(mut self, grantor: H) -> Slot<H> {
        let (slots, is_live) = (self.slots, AtomicBool::new(self.is_live()));
        self.grantor = None;
        mem::forget(self);
        Slot { grantor: Some(grantor), slots, is_live }
    }

    /// Hands the slot over to a new owner. The former owner has nothing left to give back.
    pub(crate) fn hand_over(&self) -> Self
    where
        G: Clone,
    {
        let is_live = AtomicBool::new(self.end());
        Self { grantor: self.grantor.clone(), slots: self.slots, is_live }
    }

    /// Gives the slots back, but not the places. Returns the access to the admission.
    pub(super) fn into_grantor(mut self) -> Option<G> {
        let grantor = self.grantor.take();
        if let Some(grantor) = grantor.as_ref().filter(|_| self.is_live()) {
            let admission = grantor.admission();
            admission.flow_limit.give_back(self.slots);
            admission.bound.return_slots(self.slots.taken);
        }
        grantor
    }

    /// Gives the slots and places back. Dropping the result notifies the listeners. If `hands_on`,
    /// the caller uses the slots, and the drain task is not woken for them.
    #[inline]
    pub(crate) fn release(&self, hands_on: bool) -> Option<Released<'_>> {
        if !self.end() {
            return None;
        }
        let grantor = self.grantor.as_ref()?;
        let admission = grantor.admission();
        let after = if self.is_bypass() {
            admission.bypass.end();
            None
        } else {
            // First, for the drain task, which is woken later.
            admission.flow_limit.give_back(self.slots);
            Some(admission.bound.release_running(self.slots.taken))
        };
        Some(Released { admission, after, hands_on })
    }

    /// Gives back after an end without a response: the request is counted as admitted, and as
    /// ended.
    pub(crate) fn fail(self, how: Unserved, priority: Priority) {
        if self.is_bypass() {
            return;
        }
        if let Some(grantor) = &self.grantor {
            let counters = &grantor.admission().counters;
            counters.add(priority, Count::Queued);
            let panicked = matches!(how, Unserved::Panicked);
            counters.add(priority, if panicked { Count::Panicked } else { Count::Failed });
        }
    }

    /// Ends the ownership. Returns whether the slot was live.
    #[inline]
    fn end(&self) -> bool {
        let was_live = self.is_live();
        self.is_live.store(false, Relaxed);
        was_live
    }
}

impl<G: Grantor> Drop for Slot<G> {
    #[inline]
    fn drop(&mut self) {
        drop(self.release(false));
    }
}

/// A freed slot. Notifies the listeners in `Drop`.
#[derive(Debug)]
pub(crate) struct Released<'a> {
    admission: &'a Admission,
    after: Option<Counts>,
    hands_on: bool,
}

impl Released<'_> {
    /// Returns the counts afterwards; `None` for the bypass budget.
    #[inline]
    pub(crate) fn after(&self) -> Option<Counts> {
        self.after
    }
}

impl Drop for Released<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(after) = self.after {
            let reserved = self.admission.bound.reserved();
            self.admission.listeners.on_slot_free(after, reserved, self.hands_on);
        }
    }
}
