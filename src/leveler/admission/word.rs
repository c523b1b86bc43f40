//! The word for admission decisions.
//!
//! ```text
//!  bit 63     62    61          60 ………… 30     29 ………… 0
//!      CLOSED PAUSED DISPATCHING   held           in flight
//! ```

use crate::sync::fault::{Fault, is_planted};

pub(super) const IN_FLIGHT: u64 = 1;
pub(super) const HELD: u64 = 1 << 30;
pub(super) const FIELD: u64 = HELD - 1;
pub(super) const DISPATCHING: u64 = 1 << 61;
pub(super) const PAUSED: u64 = 1 << 62;
pub(super) const CLOSED: u64 = 1 << 63;

/// The counts and flags at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts(pub(super) u64);

impl Counts {
    /// Places held: queued, reserved and in flight.
    #[inline]
    pub(crate) fn held(self) -> usize {
        ((self.0 / HELD) & FIELD) as usize
    }

    /// Slots taken.
    #[inline]
    pub(crate) fn in_flight(self) -> usize {
        (self.0 & FIELD) as usize
    }

    /// Places held without a slot: queued or reserved.
    #[inline]
    pub(crate) fn waiting(self) -> usize {
        self.held().saturating_sub(self.in_flight())
    }

    #[inline]
    pub(crate) fn is_closed(self) -> bool {
        self.0 & CLOSED != 0
    }

    #[inline]
    pub(crate) fn is_paused(self) -> bool {
        self.0 & PAUSED != 0
    }

    /// Returns whether a request of this cost may run without waiting, if the caller already holds
    /// `own` places.
    pub(super) fn may_run_directly(self, limit: usize, cost: usize, own: usize) -> bool {
        let stops = if is_planted(Fault::Overtaken) { PAUSED } else { PAUSED | DISPATCHING };
        self.0 & stops == 0
            && self.held() == self.in_flight() + own
            && self.in_flight() + cost <= limit
    }
}
