//! Admission: who may come in, and who may run at once.
//!
//! One atomic [`word`](super::word) holds both counts and the three flags that admission depends on, so that
//! every decision is one compare-exchange and none is a look followed by an act.
//!
//! Invariants, with *waiting* = held − in flight. A request of cost *c* takes *c* places and *c* slots, so
//! the counts are sums of costs.
//!
//! 1. A place is held from admission until the request is answered, cancelled, or its work has ended.
//! 2. A slot (in flight) is only ever taken together with a place, or for a place already held.
//! 3. A *direct* admission takes place and slot in one step, and only when nothing waits, nothing that
//!    was taken from the queue is still on its way to the inner (`DISPATCHING`), and nothing is paused.
//!    So as long as something waits, the drain task alone takes slots.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst};

use crate::leveler::word::{CLOSED, Counts, DISPATCHING, FIELD, HELD, IN_FLIGHT, PAUSED};

/// The largest capacity, and the largest limit: both together, and one channel's worth more, fit in the
/// 30 bits that each count has.
pub(crate) const MAX: usize = (1 << 29) - 1025;

/// How far those let in for whom others have to go may pass the bound: what fits in the channel and has not been read.
pub(crate) const CHANNEL: usize = 1024;

/// What to do with a newcomer when no place is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhenFull {
    Refuse,
    /// Let it in all the same, if somebody waits who can give way to it.
    Evict,
}

/// A place taken, or as many as the request costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admitted {
    /// With a slot: to be dispatched at once.
    Direct(Slots),
    /// Without: to wait in the queue.
    Queued,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    Full,
    Closed,
}

/// The slots of a request that may run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slots {
    pub(crate) taken: u32,
    /// Slots taken by all, these included.
    pub(crate) in_flight: u32,
}

impl Slots {
    /// Both fit: they are parts of the word.
    fn new(taken: usize, in_flight: usize) -> Self {
        Self { taken: taken as u32, in_flight: in_flight as u32 }
    }

    #[inline]
    pub(crate) fn is_none(self) -> bool {
        self.taken == 0
    }
}

#[derive(Debug)]
pub(crate) struct Places {
    pub(crate) word: CachePadded<AtomicU64>,
    capacity: AtomicU32,
    limit: AtomicU32,
    /// Places held by `Overflow::Wait` services that are ready and not yet called. Raised after the
    /// place is taken and lowered before it is given up or used, so that `unfinished` errs upwards.
    pub(crate) reserved: AtomicU32,
    /// What was let in beyond the bound, for whom others have to go, since the drain task last looked.
    over: AtomicUsize,
}

/// Keeps what all threads write away from what they only read. 128 bytes, since processors fetch lines of
/// 64 in pairs.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct CachePadded<T>(pub(crate) T);

impl Places {
    pub(crate) fn new(capacity: usize, limit: usize) -> Self {
        Self {
            word: CachePadded(AtomicU64::new(0)),
            capacity: AtomicU32::new(capacity as u32),
            limit: AtomicU32::new(limit as u32),
            reserved: AtomicU32::new(0),
            over: AtomicUsize::new(0),
        }
    }

    #[inline]
    pub(crate) fn counts(&self) -> Counts {
        Counts(self.word.0.load(SeqCst))
    }

    #[inline]
    pub(crate) fn capacity(&self) -> usize {
        self.capacity.load(SeqCst) as usize
    }

    #[inline]
    pub(crate) fn limit(&self) -> usize {
        self.limit.load(SeqCst) as usize
    }

    pub(crate) fn set_capacity(&self, capacity: usize) {
        self.capacity.store(capacity.min(MAX) as u32, SeqCst);
    }

    pub(crate) fn set_limit(&self, limit: usize) {
        self.limit.store(limit.clamp(1, MAX) as u32, SeqCst);
    }

    #[inline]
    pub(crate) fn total(&self) -> usize {
        self.capacity() + self.limit()
    }

    /// What a request of this cost takes: no more than the limit, or it could never run.
    #[inline]
    pub(crate) fn weight(&self, cost: u32) -> u32 {
        // The limit fits: it is no more than `MAX`.
        cost.clamp(1, self.limit() as u32)
    }

    /// Takes so many places, and as many slots with them when `direct` is wanted and the request need not
    /// wait. `when_full` is asked when so many places are missing.
    pub(crate) fn admit(
        &self,
        cost: usize,
        direct: bool,
        when_full: impl Fn(usize) -> WhenFull,
    ) -> Result<Admitted, Denied> {
        let (held, slots) = (cost as u64 * HELD, cost as u64 * IN_FLIGHT);
        let mut word = self.word.0.load(SeqCst);
        loop {
            let counts = Counts(word);
            if counts.is_closed() {
                return Err(Denied::Closed);
            }
            let total = self.total();
            let at_once = direct && counts.may_go_direct(self.limit(), cost);
            let after = counts.held() + cost;
            let add = if at_once {
                held + slots
            } else if after <= total
                || counts.waiting() > 0
                    && after <= total + CHANNEL
                    && when_full(after - total) == WhenFull::Evict
            {
                held
            } else {
                return Err(Denied::Full);
            };
            match self.word.0.compare_exchange_weak(word, word + add, SeqCst, SeqCst) {
                Ok(_) if at_once => return Ok(self.recheck(cost, counts.in_flight() + cost)),
                Ok(_) => {
                    if after > total {
                        self.over.fetch_add(cost, SeqCst);
                    }
                    return Ok(Admitted::Queued);
                }
                Err(now) => word = now,
            }
        }
    }

    /// How much is to make room for those let in beyond the bound, since this was last asked.
    pub(crate) fn take_over(&self) -> usize {
        if self.over.load(SeqCst) == 0 { 0 } else { self.over.swap(0, SeqCst) }
    }

    /// So much still has to make room: nobody was there to do it yet.
    pub(crate) fn return_over(&self, over: usize) {
        self.over.fetch_add(over, SeqCst);
    }

    /// A limit lowered between the look at it and the taking of the slot must hold all the same: the
    /// newcomer keeps its place and waits. If the lowered limit is not seen here, the slot was taken
    /// before it was set.
    #[inline]
    pub(crate) fn recheck(&self, taken: usize, in_flight: usize) -> Admitted {
        if in_flight > self.limit() {
            self.return_slots(taken as u32);
            return Admitted::Queued;
        }
        Admitted::Direct(Slots::new(taken, in_flight))
    }

    /// Takes slots for a request that has `held` places, and as many places as slots: it may have more, when
    /// the limit was lowered below its cost, or fewer, when it was raised since. For the drain task only, which
    /// keeps direct admissions away until `end_dispatching`.
    pub(crate) fn take_slots(&self, held: usize, cost: usize) -> Option<Slots> {
        let mut word = self.word.0.load(SeqCst);
        loop {
            let counts = Counts(word);
            let limit = self.limit();
            // No more places than can be counted, which only half a billion would be.
            let taken = cost.min(limit).min(held + FIELD as usize - counts.held());
            let in_flight = counts.in_flight() + taken;
            if counts.is_paused() || in_flight > limit {
                return None;
            }
            let (had, has) = (held as u64 * HELD, taken as u64 * HELD);
            let next = (word - had + has + taken as u64 * IN_FLIGHT) | DISPATCHING;
            match self.word.0.compare_exchange_weak(word, next, SeqCst, SeqCst) {
                Ok(_) if in_flight > self.limit() => {
                    self.word.0.fetch_add(had.wrapping_sub(has), SeqCst);
                    self.return_slots(taken as u32);
                    return None;
                }
                Ok(_) => return Some(Slots::new(taken, in_flight)),
                Err(now) => word = now,
            }
        }
    }

    /// Whether a request of this cost may be dispatched now.
    pub(crate) fn may_dispatch(&self, cost: usize) -> bool {
        let (counts, limit) = (self.counts(), self.limit());
        !counts.is_paused() && counts.in_flight() + cost.min(limit) <= limit
    }

    pub(crate) fn end_dispatching(&self) {
        self.word.0.fetch_and(!DISPATCHING, SeqCst);
    }

    /// Gives slots back and keeps the places.
    #[inline]
    pub(crate) fn return_slots(&self, taken: u32) {
        self.word.0.fetch_sub(u64::from(taken) * IN_FLIGHT, SeqCst);
    }

    /// Gives so many slots and places back; returns the counts after it.
    #[inline]
    pub(crate) fn release_running(&self, taken: u32) -> Counts {
        let add = u64::from(taken) * (HELD + IN_FLIGHT);
        Counts(self.word.0.fetch_sub(add, SeqCst).wrapping_sub(add))
    }

    /// Gives back the places of a request that had no slot; returns the counts after it.
    pub(crate) fn release_waiting(&self, held: usize) -> Counts {
        let add = held as u64 * HELD;
        Counts(self.word.0.fetch_sub(add, SeqCst).wrapping_sub(add))
    }

    /// Returns whether this call closed it.
    pub(crate) fn close(&self) -> bool {
        self.word.0.fetch_or(CLOSED, SeqCst) & CLOSED == 0
    }

    /// Pauses, unless closed: what was admitted must be able to finish.
    pub(crate) fn pause(&self) -> bool {
        let pause = |word: u64| (word & (CLOSED | PAUSED) == 0).then_some(word | PAUSED);
        self.word.0.fetch_update(SeqCst, SeqCst, pause).is_ok()
    }

    pub(crate) fn resume(&self) -> bool {
        self.word.0.fetch_and(!PAUSED, SeqCst) & PAUSED != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leveler::word::FIELD;

    fn direct(taken: usize, in_flight: usize) -> Admitted {
        Admitted::Direct(Slots::new(taken, in_flight))
    }

    #[test]
    fn a_heavy_request_takes_as_many_places_and_slots_as_it_costs() {
        let places = Places::new(3, 4);
        let admit = |cost| places.admit(cost, true, |_| WhenFull::Refuse);
        assert_eq!(admit(3), Ok(direct(3, 3)));
        assert_eq!(admit(2), Ok(Admitted::Queued), "one slot is not enough");
        assert_eq!(admit(3), Err(Denied::Full), "two places are not");
        assert!(!places.may_dispatch(2));
        places.release_running(3);
        assert_eq!(places.take_slots(2, 2), Some(Slots { taken: 2, in_flight: 2 }));
        assert_eq!(places.weight(100), 4, "heavier than the limit it runs alone");
        assert_eq!(places.weight(0), 1);
    }

    #[test]
    fn a_limit_lowered_below_a_cost_does_not_hold_it_up() {
        let places = Places::new(4, 4);
        assert_eq!(places.admit(3, false, |_| WhenFull::Refuse), Ok(Admitted::Queued));
        places.set_limit(2);
        assert_eq!(places.take_slots(3, 3), Some(Slots { taken: 2, in_flight: 2 }));
        assert_eq!(places.counts().waiting(), 0);
        assert_eq!(places.release_running(2).held(), 0);
    }

    #[test]
    fn the_largest_counts_fit() {
        let places = Places::new(MAX, MAX);
        assert!(((MAX * 2 + CHANNEL) as u64) < FIELD);
        assert_eq!(places.total(), 2 * MAX);
    }

    #[test]
    fn a_direct_admission_needs_an_empty_queue_and_a_free_slot() {
        let places = Places::new(2, 1);
        let admit = || places.admit(1, true, |_| WhenFull::Refuse);
        assert_eq!(admit(), Ok(direct(1, 1)));
        assert_eq!(admit(), Ok(Admitted::Queued));
        places.release_running(1);
        assert_eq!(
            admit(),
            Ok(Admitted::Queued),
            "one waits, so the newcomer must not overtake it"
        );
        assert_eq!(admit(), Ok(Admitted::Queued));
        assert_eq!(admit(), Err(Denied::Full));
    }

    #[test]
    fn nobody_overtakes_a_request_that_is_being_dispatched() {
        let places = Places::new(4, 4);
        assert_eq!(places.admit(1, false, |_| WhenFull::Refuse), Ok(Admitted::Queued));
        assert_eq!(places.take_slots(1, 1), Some(Slots { taken: 1, in_flight: 1 }));
        assert_eq!(places.admit(1, true, |_| WhenFull::Refuse), Ok(Admitted::Queued));
        places.release_waiting(1);
        places.end_dispatching();
        assert_eq!(places.admit(1, true, |_| WhenFull::Refuse), Ok(direct(1, 2)));
    }

    #[test]
    fn eviction_passes_the_bound_by_one_channel_at_most() {
        let places = Places::new(1, 1);
        let admit = || places.admit(1, true, |_| WhenFull::Evict);
        let admitted = std::iter::from_fn(|| admit().ok()).count();
        assert_eq!(admitted, 2 + CHANNEL);
    }

    #[test]
    fn with_nobody_waiting_there_is_nobody_to_evict() {
        let places = Places::new(0, 1);
        assert_eq!(places.admit(1, true, |_| WhenFull::Evict), Ok(direct(1, 1)));
        assert_eq!(places.admit(1, true, |_| WhenFull::Evict), Err(Denied::Full));
    }

    #[test]
    fn a_closed_leveler_cannot_be_paused() {
        let places = Places::new(1, 1);
        assert!(places.close());
        assert!(!places.pause());
        assert!(!places.close(), "only the first call closes");
    }
}
