//! The word that admission is decided by.
//!
//! ```text
//!  bit 63     62    61          60 ………… 30     29 ………… 0
//!      CLOSED PAUSED DISPATCHING   held           in flight
//! ```

pub(crate) const IN_FLIGHT: u64 = 1;
pub(crate) const HELD: u64 = 1 << 30;
pub(crate) const FIELD: u64 = HELD - 1;
pub(crate) const DISPATCHING: u64 = 1 << 61;
pub(crate) const PAUSED: u64 = 1 << 62;
pub(crate) const CLOSED: u64 = 1 << 63;

/// The counts at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts(pub(crate) u64);

impl Counts {
    #[inline]
    pub(crate) fn held(self) -> usize {
        ((self.0 / HELD) & FIELD) as usize
    }

    #[inline]
    pub(crate) fn in_flight(self) -> usize {
        (self.0 & FIELD) as usize
    }

    /// Held without a slot: queued or reserved.
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

    pub(crate) fn may_go_direct(self, limit: usize, cost: usize) -> bool {
        self.0 & (PAUSED | DISPATCHING) == 0
            && self.held() == self.in_flight()
            && self.in_flight() + cost <= limit
    }
}
