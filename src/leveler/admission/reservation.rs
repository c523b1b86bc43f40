//! Places that `poll_ready` takes for the call that follows, under `Overflow::Wait`.

use std::sync::atomic::Ordering::SeqCst;

use crate::leveler::{
    Core,
    places::{Admitted, Denied, Places, WhenFull},
    word::{Counts, DISPATCHING, IN_FLIGHT, PAUSED},
};

/// What a ready service holds under `Overflow::Wait`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reserved {
    Place,
    /// The leveler was closed: there is no place to hold.
    Nothing,
}

impl Places {
    #[inline]
    pub(crate) fn reserved(&self) -> usize {
        self.reserved.load(SeqCst) as usize
    }

    /// Admitted and not finished: what is held, less what is only reserved.
    pub(crate) fn unfinished(&self) -> usize {
        let reserved = self.reserved();
        self.counts().held().saturating_sub(reserved)
    }

    /// Uses the place of a reservation; `Err` when the leveler has been closed since (the place is then
    /// still held, and the caller's to release).
    pub(crate) fn admit_reserved(&self, direct: bool) -> Result<Admitted, Denied> {
        self.reserved.fetch_sub(1, SeqCst);
        let mut word = self.word.0.load(SeqCst);
        loop {
            let counts = Counts(word);
            if counts.is_closed() {
                return Err(Denied::Closed);
            }
            // The place itself is the one waiting place that may be there.
            let alone = counts.held() == counts.in_flight() + 1;
            let flags = counts.0 & (PAUSED | DISPATCHING) == 0;
            if !(direct && alone && flags && counts.in_flight() < self.limit()) {
                return Ok(Admitted::Queued);
            }
            match self.word.0.compare_exchange_weak(word, word + IN_FLIGHT, SeqCst, SeqCst) {
                Ok(_) => return Ok(self.recheck(1, counts.in_flight() + 1)),
                Err(now) => word = now,
            }
        }
    }

    /// Reserves a place for a service that reports itself ready. `true` when it did; also when closed,
    /// without a place: the call that follows is to learn that by its refusal.
    pub(crate) fn reserve(&self) -> Option<Reserved> {
        match self.admit(1, false, |_| WhenFull::Refuse) {
            Ok(_) => {
                self.reserved.fetch_add(1, SeqCst);
                Some(Reserved::Place)
            }
            Err(Denied::Closed) => Some(Reserved::Nothing),
            Err(Denied::Full) => None,
        }
    }

    /// Ends a reservation that was not used. The place is still to be released.
    pub(crate) fn end_reservation(&self) {
        self.reserved.fetch_sub(1, SeqCst);
    }
}

/// What `poll_ready` has reserved, for one call: given back if that does not use it.
pub(crate) struct Reservation<'a> {
    pub(crate) core: &'a Core,
    pub(crate) reserved: Option<Reserved>,
}

impl Reservation<'_> {
    /// Whether there is a place, which is the caller's now.
    #[inline]
    pub(crate) fn use_up(&mut self) -> bool {
        self.reserved.take_if(|reserved| *reserved == Reserved::Place).is_some()
    }
}

impl Drop for Reservation<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.use_up() {
            self.core.release_reserved();
        }
    }
}
