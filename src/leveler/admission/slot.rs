//! The right to run.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::{Admission, Granted, places::Slots, unserved::Unserved, word::Counts};
use crate::class::Priority;

/// The right of one call to run: as many slots as the request costs, and as many places.
///
/// Gives both back in `Drop`, and tells those who wait for them. A slot without a count is one of
/// the budget of requests that bypass the queue.
#[derive(Debug)]
pub(crate) struct Slot<G: Granted> {
    /// `None` once the slot has become another right.
    granted: Option<G>,
    slots: Slots,
    /// Cleared once the slot was given back or handed over. Atomic, so that a call is `Sync`; no
    /// two threads ever use one slot at once.
    is_live: AtomicBool,
}

impl<G: Granted> Slot<G> {
    #[inline]
    pub(super) fn new(granted: G, slots: Slots) -> Self {
        Self { granted: Some(granted), slots, is_live: AtomicBool::new(true) }
    }

    /// Takes a slot from the budget of requests that bypass the queue.
    pub(super) fn bypass(granted: G) -> Option<Self> {
        granted.admission().bypass.begin().then(|| Self::new(granted, Slots::default()))
    }

    /// Returns whether this is a slot of the bypass budget.
    #[inline]
    pub(crate) fn is_bypass(&self) -> bool {
        self.slots.taken == 0
    }

    /// Returns how many slots this is.
    #[inline]
    pub(crate) fn taken(&self) -> usize {
        self.slots.taken as usize
    }

    /// Returns how many slots were taken in all when this was, itself included.
    #[inline]
    pub(crate) fn in_flight(&self) -> usize {
        self.slots.in_flight as usize
    }

    /// Returns what leads to the admission.
    #[inline]
    pub(crate) fn granted(&self) -> Option<&G> {
        self.granted.as_ref()
    }

    /// Returns whether the slot was neither given back nor handed over.
    #[inline]
    pub(crate) fn is_live(&self) -> bool {
        self.is_live.load(Relaxed)
    }

    /// Goes on as the same slot, by another way to the same admission.
    #[inline]
    pub(crate) fn map<H: Granted>(mut self, to: impl FnOnce(G) -> H) -> Slot<H> {
        let (slots, is_live) = (self.slots, AtomicBool::new(self.is_live()));
        Slot { granted: self.granted.take().map(to), slots, is_live }
    }

    /// Goes on as the same slot, with a longer-lived way to the same admission.
    #[inline]
    pub(crate) fn move_to<H: Granted>(mut self, granted: H) -> Slot<H> {
        let (slots, is_live) = (self.slots, AtomicBool::new(self.is_live()));
        self.granted = None;
        Slot { granted: Some(granted), slots, is_live }
    }

    /// Hands the slot over to a new owner. This owner has nothing to give back any more.
    pub(crate) fn hand_over(&self) -> Self
    where
        G: Clone,
    {
        let is_live = AtomicBool::new(self.end());
        Self { granted: self.granted.clone(), slots: self.slots, is_live }
    }

    /// Gives the slots back, but not the places. Returns what leads to the admission.
    pub(super) fn into_granted(mut self) -> Option<G> {
        let granted = self.granted.take();
        if let Some(granted) = granted.as_ref().filter(|_| self.is_live()) {
            granted.admission().places.return_slots(self.slots.taken);
        }
        granted
    }

    /// Gives the slots and places back. Those who wait for them are told when the result is
    /// dropped.
    #[inline]
    pub(crate) fn release(&self) -> Option<Released<'_>> {
        if !self.end() {
            return None;
        }
        let granted = self.granted.as_ref()?;
        let admission = granted.admission();
        let after = if self.is_bypass() {
            admission.bypass.end();
            None
        } else {
            Some(admission.places.release_running(self.slots.taken))
        };
        Some(Released { admission, after })
    }

    /// Gives back after an end without a response: the request is counted as admitted, and as
    /// ended.
    pub(crate) fn fail(self, how: Unserved, priority: Priority) {
        if self.is_bypass() {
            return;
        }
        if let Some(granted) = &self.granted {
            let counters = &granted.admission().counters;
            counters.queued.add(priority);
            match how {
                Unserved::Panicked => counters.panicked.add(),
                _ => counters.failed.add(),
            };
        }
    }

    /// Ends the ownership. Returns whether there was one.
    #[inline]
    fn end(&self) -> bool {
        let was_live = self.is_live();
        self.is_live.store(false, Relaxed);
        was_live
    }
}

impl<G: Granted> Drop for Slot<G> {
    #[inline]
    fn drop(&mut self) {
        drop(self.release());
    }
}

/// A slot that is free again. Dropping this tells those who wait.
#[derive(Debug)]
pub(crate) struct Released<'a> {
    admission: &'a Admission,
    after: Option<Counts>,
}

impl Released<'_> {
    /// Returns the counts after it; none for a slot of the bypass budget.
    #[inline]
    pub(crate) fn after(&self) -> Option<Counts> {
        self.after
    }
}

impl Drop for Released<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(after) = self.after {
            let reserved = self.admission.places.reserved();
            self.admission.listeners.on_slot_free(after, reserved);
        }
    }
}
