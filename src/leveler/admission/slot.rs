//! The right to run.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::{Admission, Granted, bound::Slots, unserved::Unserved, word::Counts};
use crate::class::Priority;

/// The right of a call to run: as many slots and places as the request costs.
///
/// `Drop` gives both back, and notifies the listeners. A slot with a count of zero belongs to the
/// bypass budget.
#[derive(Debug)]
pub(crate) struct Slot<G: Granted> {
    /// `None` once converted.
    granted: Option<G>,
    slots: Slots,
    /// Cleared once the slot was given back or handed over. Atomic to make a call `Sync`; two
    /// threads never use the same slot at once.
    is_live: AtomicBool,
}

impl<G: Granted> Slot<G> {
    #[inline]
    pub(super) fn new(granted: G, slots: Slots) -> Self {
        Self { granted: Some(granted), slots, is_live: AtomicBool::new(true) }
    }

    /// Takes a slot from the bypass budget; `None` if used up.
    pub(super) fn bypass(granted: G) -> Option<Self> {
        granted.admission().bypass.begin().then(|| Self::new(granted, Slots::default()))
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

    /// Returns how many slots all requests had taken just after this one was taken.
    #[inline]
    pub(crate) fn in_flight(&self) -> usize {
        self.slots.in_flight as usize
    }

    /// Returns the access to the admission.
    #[inline]
    pub(crate) fn granted(&self) -> Option<&G> {
        self.granted.as_ref()
    }

    /// Returns whether the slot was neither given back nor handed over.
    #[inline]
    pub(crate) fn is_live(&self) -> bool {
        self.is_live.load(Relaxed)
    }

    /// Keeps the slot, with other access to the same admission.
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

    /// Hands the slot over to a new owner. The former owner has nothing left to give back.
    pub(crate) fn hand_over(&self) -> Self
    where
        G: Clone,
    {
        let is_live = AtomicBool::new(self.end());
        Self { granted: self.granted.clone(), slots: self.slots, is_live }
    }

    /// Gives the slots back, but not the places. Returns the access to the admission.
    pub(super) fn into_granted(mut self) -> Option<G> {
        let granted = self.granted.take();
        if let Some(granted) = granted.as_ref().filter(|_| self.is_live()) {
            granted.admission().bound.return_slots(self.slots.taken);
        }
        granted
    }

    /// Gives the slots and places back. Dropping the result notifies the listeners.
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
            Some(admission.bound.release_running(self.slots.taken))
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

    /// Ends the ownership. Returns whether the slot was live.
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

/// A freed slot. Dropping this notifies the listeners.
#[derive(Debug)]
pub(crate) struct Released<'a> {
    admission: &'a Admission,
    after: Option<Counts>,
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
            self.admission.listeners.on_slot_free(after, reserved);
        }
    }
}
