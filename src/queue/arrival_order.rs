//! The requests while all have the same rank and no inner is unready.

use std::{collections::VecDeque, mem};

use super::{
    item::{Entry, QueueItem},
    request_deque::KEPT_CAPACITY,
    rules::Rules,
};
use crate::class::Rank;

/// The requests in the order of arrival, while the order of dispatch is the same.
///
/// Levels, flows and parked requests cost more than the rest of the queue. They decide nothing
/// while all requests have the same rank, the oldest is always next, and no inner is unready. The
/// order of arrival then holds all requests, and the levels of the
/// [`FairQueue`](super::fair_queue::FairQueue) hold none. The first different request ends the
/// order of arrival: the entries move to a level, in one step. The order of arrival begins again
/// once nothing waits.
#[derive(Debug)]
pub(super) struct ArrivalOrder<T> {
    entries: VecDeque<Entry<T>>,
    /// Set if the rules allow no other order for requests of the same rank.
    is_allowed: bool,
    is_on: bool,
}

impl<T: QueueItem> ArrivalOrder<T> {
    pub(super) fn new(rules: &Rules) -> Self {
        let is_allowed = rules.is_plain();
        Self { entries: VecDeque::new(), is_allowed, is_on: is_allowed }
    }

    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.is_on
    }

    /// Returns whether a request of this rank goes by the order of arrival.
    #[inline]
    pub(super) fn takes(&self, rank: Rank) -> bool {
        self.is_on && rank == Rank::default()
    }

    /// The number of entries, tombstones included.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    #[inline(always)]
    pub(super) fn push(&mut self, entry: Entry<T>) {
        // With room for sure, the entry is made in place.
        if self.entries.len() < self.entries.capacity() {
            self.entries.push_back(entry);
        } else {
            self.push_and_grow(entry);
        }
    }

    #[cold]
    fn push_and_grow(&mut self, entry: Entry<T>) {
        self.entries.push_back(entry);
    }

    /// Puts back a popped request as the next.
    pub(super) fn put_back(&mut self, entry: Entry<T>) {
        self.entries.push_front(entry);
    }

    /// Takes the oldest live request.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<Entry<T>> {
        self.pop_if(|_| true)
    }

    /// Takes the oldest live request, if `is_mine` returns true for the request. While the order of
    /// arrival is off, it is empty, and nothing is taken.
    #[inline]
    pub(super) fn pop_if(&mut self, is_mine: impl FnOnce(&T) -> bool) -> Option<Entry<T>> {
        while self.entries.front().is_some_and(|entry| entry.item.is_gone()) {
            self.pop_front();
        }
        if !is_mine(&self.entries.front()?.item) {
            return None;
        }
        self.pop_front()
    }

    /// Takes the oldest entry. With the last entry, frees the memory of a burst: nobody may look at
    /// an empty queue again.
    #[inline]
    fn pop_front(&mut self) -> Option<Entry<T>> {
        // First: the entry then moves only once.
        if self.entries.len() == 1 {
            self.entries.shrink_to(KEPT_CAPACITY);
        }
        self.entries.pop_front()
    }

    /// The oldest live request.
    pub(super) fn oldest(&self) -> Option<&Entry<T>> {
        self.entries.iter().find(|entry| !entry.item.is_gone())
    }

    /// Drops the tombstones.
    pub(super) fn purge(&mut self) {
        // Mostly the oldest have gone. Dropping the front moves no other entries.
        while self.entries.front().is_some_and(|entry| entry.item.is_gone()) {
            self.entries.pop_front();
        }
        self.entries.retain(|entry| !entry.item.is_gone());
        self.entries.shrink_to(KEPT_CAPACITY);
    }

    /// Begins, if the rules allow. Nothing waits.
    pub(super) fn begin(&mut self) {
        self.is_on = self.is_allowed;
    }

    /// Ends, and returns the entries, all of the default rank.
    pub(super) fn end(&mut self) -> VecDeque<Entry<T>> {
        self.is_on = false;
        mem::take(&mut self.entries)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::queue::testing::Item;

    #[test]
    fn the_memory_of_a_burst_is_freed() {
        let mut order = ArrivalOrder::new(&Rules::default());
        let (now, rank) = (Instant::now(), Rank::default());
        for id in 0..100_000 {
            let item = Item::new(id);
            order.push(Entry { seq: id.into(), inner: 1, rank, admitted: now, item });
        }
        for _ in 0..100_000 {
            assert!(order.pop().is_some());
        }
        assert!(order.entries.capacity() <= 2 * KEPT_CAPACITY);
    }
}
