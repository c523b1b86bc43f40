use super::{waitlist::Waitlist, word::Counts};
use crate::{
    leveler::{link::wakeup::Wakeup, watchers::Watchers},
    options::Overflow,
    sync::CachePadded,
};

/// The parties waiting for a free place or slot.
#[derive(Debug)]
pub(crate) struct Listeners {
    pub(crate) drain: CachePadded<Wakeup>,
    pub(crate) waitlist: Waitlist,
    pub(crate) watchers: Watchers,
    overflow: Overflow,
}

impl Listeners {
    pub(super) fn new(overflow: Overflow) -> Self {
        let (drain, waitlist) = (CachePadded::default(), Waitlist::default());
        Self { drain, waitlist, watchers: Watchers::default(), overflow }
    }

    /// Notifies the listeners of free slots, and of the places with them. If the slots `are_taken`,
    /// the caller uses them, and the drain task is not woken.
    #[inline]
    pub(super) fn on_slot_free(&self, after: Counts, reserved: usize, are_taken: bool) {
        if after.waiting() > 0 && !are_taken {
            self.drain.wake();
        }
        self.on_place_free(after, reserved);
    }

    /// Notifies the listeners of a free place.
    #[inline]
    pub(super) fn on_place_free(&self, after: Counts, reserved: usize) {
        if self.overflow == Overflow::Wait {
            self.waitlist.wake_one();
            self.drain.wake();
        }
        self.watchers.on_place_free(after.held() <= reserved);
    }

    /// Notifies the listeners of a change of capacity or limit, or of the close.
    pub(super) fn on_bounds_changed(&self) {
        self.drain.wake();
        self.waitlist.wake_all();
        self.watchers.on_place_free(false);
    }
}
