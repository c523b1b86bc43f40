use super::{waitlist::Waitlist, word::Counts};
use crate::{
    leveler::{idle::Idle, link::wakeup::Wakeup},
    options::Overflow,
};

/// Everybody who waits for a place or a slot to come free.
#[derive(Debug)]
pub(crate) struct Listeners {
    pub(crate) drain: Wakeup,
    pub(crate) waitlist: Waitlist,
    pub(crate) idle: Idle,
    overflow: Overflow,
}

impl Listeners {
    pub(super) fn new(overflow: Overflow) -> Self {
        let (drain, waitlist, idle) = (Wakeup::default(), Waitlist::default(), Idle::default());
        Self { drain, waitlist, idle, overflow }
    }

    /// Says that slots are free, and the places with them.
    #[inline]
    pub(super) fn on_slot_free(&self, after: Counts, reserved: usize) {
        if after.waiting() > 0 {
            self.drain.wake();
        }
        self.on_place_free(after, reserved);
    }

    /// Says that a place is free.
    #[inline]
    pub(super) fn on_place_free(&self, after: Counts, reserved: usize) {
        if self.overflow == Overflow::Wait {
            self.waitlist.wake_one();
            self.drain.wake();
        }
        if after.held() <= reserved {
            self.idle.notify();
        }
    }

    /// Says that capacity, limit or pace have changed.
    pub(super) fn on_bounds_changed(&self) {
        self.drain.wake();
        self.waitlist.wake_all();
    }
}
