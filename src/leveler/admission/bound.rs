//! Places and slots: how many may come in, and how many may run at once.
//!
//! One atomic [`word`](super::word) holds both counts and the three flags of admission. A single
//! compare-exchange decides each change of the word. The limit is beside the word, so a taker of a
//! slot looks at the limit again.
//!
//! Invariants, with *waiting* = held − in flight. A request of cost *c* takes *c* places and *c*
//! slots, so the counts are sums of costs.
//!
//! 1. A place is held from admission until the request is answered or cancelled, or until the
//!    work has ended.
//! 2. A slot (in flight) is only ever taken together with a place, or for a place already held.
//! 3. A *direct* admission takes place and slot in one step, and only when nothing waits, nothing
//!    from the queue is on the way to the inner (`DISPATCHING`), and nothing is paused. While
//!    something waits, only the drain task and the tasks that hand on take slots.
//!
//! The guards [`Place`](super::place::Place) and [`Slot`](super::slot::Slot) wrap the numbers in
//! this file, and give back in `Drop`.

use super::word::{CLOSED, Counts, DISPATCHING, FIELD, HELD, IN_FLIGHT, PAUSED};
use crate::{
    queue::FlowRight,
    sync::{
        CachePadded,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst},
        fault::{Fault, is_planted},
    },
};

/// The largest capacity, and the largest limit. The sum of both and of
/// [`MAX_OVERRUN`](crate::leveler::link::backlog::MAX_OVERRUN) fits in the 30 bits of each count.
pub(crate) const MAX_COUNT: usize = (1 << 29) - 1025;

/// The result of an admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Places and slots: the request runs now.
    Slots(Slots),
    /// Places alone: the request waits in the queue.
    Places,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    Full,
    Closed,
}

/// The slots of a request about to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slots {
    pub(super) taken: u32,
    /// Slots taken by all requests, with `taken` included.
    pub(super) in_flight: u32,
    /// The right to run in the flow, if flows are limited.
    pub(super) right: Option<FlowRight>,
}

impl Slots {
    /// The casts are exact: both counts are parts of the word.
    fn new(taken: usize, in_flight: usize) -> Self {
        Self { taken: taken as u32, in_flight: in_flight as u32, right: None }
    }
}

#[derive(Debug)]
pub(super) struct Bound {
    word: CachePadded<AtomicU64>,
    capacity: AtomicU32,
    limit: AtomicU32,
    /// The limit as asked for, as the bits of an `f64`. `limit` is the whole part, at least 1.
    exact_limit: AtomicU64,
    /// Slots taken beyond the first of each request in flight.
    surplus: AtomicUsize,
    /// Places held by ready `Overflow::Wait` services before their call. Raised after the place is
    /// taken, and lowered before the place is given back or used, so `unfinished` errs upwards.
    reserved: AtomicU32,
    /// Cost admitted over the bound since the drain task last looked. The drain task evicts as
    /// much.
    overrun: AtomicUsize,
}

/// A limit just set, and the limit before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoredLimit {
    /// The number of slots before.
    pub(crate) before: usize,
    /// The number of slots now.
    pub(crate) after: usize,
    /// Both limits as asked for.
    exactly: (f64, f64),
}

impl StoredLimit {
    /// Returns whether anything has changed for anybody.
    #[inline]
    pub(crate) fn is_new(&self) -> bool {
        self.before != self.after || self.is_spaced()
    }

    /// Returns whether the spacing of dispatches has changed.
    #[inline]
    pub(super) fn is_spaced(&self) -> bool {
        let (before, now) = self.exactly;
        before != now && before.min(now) < 1.0
    }
}

impl Bound {
    pub(super) fn new(capacity: usize, limit: f64) -> Self {
        Self {
            word: CachePadded::new(AtomicU64::new(0)),
            capacity: AtomicU32::new(capacity as u32),
            limit: AtomicU32::new(whole_limit(limit) as u32),
            exact_limit: AtomicU64::new(limit.to_bits()),
            surplus: AtomicUsize::new(0),
            reserved: AtomicU32::new(0),
            overrun: AtomicUsize::new(0),
        }
    }

    #[inline]
    pub(super) fn counts(&self) -> Counts {
        Counts(self.word.load(SeqCst))
    }

    #[inline]
    pub(super) fn capacity(&self) -> usize {
        self.capacity.load(SeqCst) as usize
    }

    #[inline]
    pub(super) fn limit(&self) -> usize {
        self.limit.load(SeqCst) as usize
    }

    #[inline]
    pub(super) fn exact_limit(&self) -> f64 {
        f64::from_bits(self.exact_limit.load(SeqCst))
    }

    pub(super) fn set_capacity(&self, capacity: usize) {
        self.capacity.store(capacity.min(MAX_COUNT) as u32, SeqCst);
    }

    /// Sets the limit.
    pub(super) fn set_limit(&self, limit: f64) -> StoredLimit {
        let after = whole_limit(limit);
        // Swapped, not compared: with two setters at once, each reports its own change.
        let exactly = f64::from_bits(self.exact_limit.swap(limit.to_bits(), SeqCst));
        let before = self.limit.swap(after as u32, SeqCst) as usize;
        StoredLimit { before, after, exactly: (exactly, limit) }
    }

    /// Returns the number of places.
    #[inline]
    pub(super) fn total(&self) -> usize {
        self.capacity() + self.limit()
    }

    /// Returns the number of running requests, regardless of cost.
    pub(super) fn running(&self) -> usize {
        self.counts().in_flight().saturating_sub(self.surplus.load(SeqCst))
    }

    /// Takes `cost` places, and as many slots if `direct` is set and the request need not wait.
    /// Exceeds the bound by at most `allowance`, and only while an evictable request waits. Callers
    /// pass at most [`MAX_OVERRUN`](crate::leveler::link::backlog::MAX_OVERRUN).
    pub(super) fn take(
        &self,
        cost: usize,
        direct: bool,
        allowance: usize,
    ) -> Result<Taken, Denied> {
        let (held, slots) = (cost as u64 * HELD, cost as u64 * IN_FLIGHT);
        let mut word = self.word.load(SeqCst);
        loop {
            let counts = Counts(word);
            if counts.is_closed() {
                return Err(Denied::Closed);
            }
            let total = self.total();
            let at_once = direct && counts.may_run_directly(self.limit(), cost, 0);
            let after = counts.held() + cost;
            let fits = after <= total || counts.waiting() > 0 && after - total <= allowance;
            let add = match (at_once, fits) {
                (true, _) => held + slots,
                (false, true) => held,
                (false, false) => return Err(Denied::Full),
            };
            if is_planted(Fault::TakenInTwoSteps) {
                self.word.store(word, SeqCst);
            }
            match self.word.compare_exchange_weak(word, word + add, SeqCst, SeqCst) {
                Ok(_) if at_once => return Ok(self.recheck(cost, counts.in_flight() + cost)),
                Ok(_) => {
                    if after > total {
                        self.overrun.fetch_add(cost, SeqCst);
                    }
                    return Ok(Taken::Places);
                }
                Err(now) => word = now,
            }
        }
    }

    /// Reserves a place for a ready service.
    pub(super) fn reserve(&self) -> Result<(), Denied> {
        self.take(1, false, 0)?;
        self.reserved.fetch_add(1, SeqCst);
        Ok(())
    }

    /// Ends a reservation; the place stays held.
    pub(super) fn end_reservation(&self) {
        if !is_planted(Fault::ReservationStays) {
            self.reserved.fetch_sub(1, SeqCst);
        }
    }

    /// Takes a slot for a reserved place, if the request need not wait. The reservation ends in any
    /// case. `Err` if the leveler has been closed since; the place stays held.
    pub(super) fn use_reservation(&self, direct: bool) -> Result<Taken, Denied> {
        self.end_reservation();
        let mut word = self.word.load(SeqCst);
        loop {
            let counts = Counts(word);
            if counts.is_closed() {
                return Err(Denied::Closed);
            }
            if !(direct && counts.may_run_directly(self.limit(), 1, 1)) {
                return Ok(Taken::Places);
            }
            match self.word.compare_exchange_weak(word, word + IN_FLIGHT, SeqCst, SeqCst) {
                Ok(_) => return Ok(self.recheck(1, counts.in_flight() + 1)),
                Err(now) => word = now,
            }
        }
    }

    #[inline]
    pub(super) fn reserved(&self) -> usize {
        self.reserved.load(SeqCst) as usize
    }

    /// Returns the cost of the requests admitted and not finished: the held places without
    /// reservations.
    pub(super) fn unfinished(&self) -> usize {
        let reserved = self.reserved();
        self.counts().held().saturating_sub(reserved)
    }

    /// Takes over the cost admitted over the bound since the last call.
    pub(super) fn take_overrun(&self) -> usize {
        if self.overrun.load(SeqCst) == 0 { 0 } else { self.overrun.swap(0, SeqCst) }
    }

    pub(super) fn add_overrun(&self, cost: usize) {
        self.overrun.fetch_add(cost, SeqCst);
    }

    /// Enforces a limit lowered between the check and the taking of the slot: the newcomer keeps
    /// the place and waits. If this load does not see the lowered limit, the slot was taken before
    /// the limit was set.
    #[inline]
    fn recheck(&self, taken: usize, in_flight: usize) -> Taken {
        if in_flight > self.limit() && !is_planted(Fault::LimitSeenOnce) {
            self.word.fetch_sub(taken as u64 * IN_FLIGHT, SeqCst);
            return Taken::Places;
        }
        self.add_surplus(taken as u32);
        Taken::Slots(Slots::new(taken, in_flight))
    }

    /// Takes slots for a request with `held` places, and changes the places to as many: more than
    /// `held` if the limit was raised since, fewer if the limit was lowered below the cost. For the
    /// holder of the turn alone. Keeps direct admissions away until `end_dispatching`.
    pub(super) fn take_slots(&self, held: usize, cost: usize) -> Option<Slots> {
        let mut word = self.word.load(SeqCst);
        loop {
            let counts = Counts(word);
            let limit = self.limit();
            // The field of held places must not overflow. Only more than half a billion places
            // would.
            let taken = cost.min(limit).min(held + FIELD as usize - counts.held());
            let in_flight = counts.in_flight() + taken;
            if counts.is_paused() || in_flight > limit {
                return None;
            }
            let (had, has) = (held as u64 * HELD, taken as u64 * HELD);
            let next = (word - had + has + taken as u64 * IN_FLIGHT) | DISPATCHING;
            match self.word.compare_exchange_weak(word, next, SeqCst, SeqCst) {
                Ok(_) if in_flight > self.limit() && !is_planted(Fault::LimitSeenOnce) => {
                    let slots = taken as u64 * IN_FLIGHT;
                    self.word.fetch_add(had.wrapping_sub(has).wrapping_sub(slots), SeqCst);
                    return None;
                }
                Ok(_) => {
                    self.add_surplus(taken as u32);
                    return Some(Slots::new(taken, in_flight));
                }
                Err(now) => word = now,
            }
        }
    }

    /// Returns whether the drain task has work to do for a newcomer like the waiting requests: to
    /// dispatch, to evict, or to remove.
    #[inline]
    pub(super) fn needs_drain(&self) -> bool {
        let (counts, limit) = (self.counts(), self.limit());
        let may_go = counts.in_flight() < limit && !counts.is_paused();
        may_go || counts.is_closed() || counts.held() > limit + self.capacity()
    }

    /// Returns whether a request of cost `cost` may be dispatched now.
    pub(super) fn may_dispatch(&self, cost: usize) -> bool {
        let (counts, limit) = (self.counts(), self.limit());
        !counts.is_paused() && counts.in_flight() + cost.min(limit) <= limit
    }

    /// Lets direct admissions through again: no queued request is on the way to the inner. For the
    /// holder of the turn alone.
    #[inline]
    pub(super) fn end_dispatching(&self) {
        if self.word.load(SeqCst) & DISPATCHING != 0 {
            self.word.fetch_and(!DISPATCHING, SeqCst);
        }
    }

    /// Gives slots back and keeps the places.
    #[inline]
    pub(super) fn return_slots(&self, taken: u32) {
        self.sub_surplus(taken);
        self.word.fetch_sub(u64::from(taken) * IN_FLIGHT, SeqCst);
    }

    /// Gives slots and as many places back. Returns the counts afterwards.
    #[inline]
    pub(super) fn release_running(&self, taken: u32) -> Counts {
        self.sub_surplus(taken);
        let add = u64::from(taken) * (HELD + IN_FLIGHT);
        Counts(self.word.fetch_sub(add, SeqCst).wrapping_sub(add))
    }

    /// Gives back the places of a request without slots. Returns the counts afterwards.
    pub(super) fn release_waiting(&self, held: u32) -> Counts {
        let add = u64::from(held) * HELD;
        Counts(self.word.fetch_sub(add, SeqCst).wrapping_sub(add))
    }

    #[inline]
    fn add_surplus(&self, taken: u32) {
        if taken > 1 {
            self.surplus.fetch_add(taken as usize - 1, SeqCst);
        }
    }

    #[inline]
    fn sub_surplus(&self, taken: u32) {
        if taken > 1 {
            self.surplus.fetch_sub(taken as usize - 1, SeqCst);
        }
    }

    /// Closes. Returns false if closed already.
    pub(super) fn close(&self) -> bool {
        self.word.fetch_or(CLOSED, SeqCst) & CLOSED == 0
    }

    /// Pauses, unless closed: admitted requests must be able to finish.
    pub(super) fn pause(&self) -> bool {
        let pause = |word: u64| (word & (CLOSED | PAUSED) == 0).then_some(word | PAUSED);
        self.word.fetch_update(SeqCst, SeqCst, pause).is_ok()
    }

    pub(super) fn resume(&self) -> bool {
        self.word.fetch_and(!PAUSED, SeqCst) & PAUSED != 0
    }
}

/// Returns the number of slots for a limit: the whole part, from 1 to [`MAX_COUNT`].
pub(super) fn whole_limit(limit: f64) -> usize {
    // `as` cuts a float to the range of the integer; NaN becomes 0.
    (limit as usize).clamp(1, MAX_COUNT)
}

#[cfg(all(test, shuttle))]
mod models;
#[cfg(test)]
mod tests;
