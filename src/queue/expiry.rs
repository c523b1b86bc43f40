//! The instants at which requests become late.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BinaryHeap, VecDeque},
};

use tokio::time::Instant;

use super::item::QueueItem;

/// The requests with a bounded wait, by the instant at which each becomes late.
///
/// With the same `max_wait` for all, requests become late in the order of arrival, and a plain
/// queue holds most of the entries. The heap holds each request that becomes late before an earlier
/// request. A dispatched or cancelled request leaves a tombstone, dropped at the front or by
/// [`purge`](Self::purge).
#[derive(Debug)]
pub(crate) struct Expiry<T> {
    /// In the order of arrival, which is the order of the instants as well.
    ordered: VecDeque<Late<T>>,
    /// The entries that would break the order of the plain queue.
    others: BinaryHeap<Reverse<Late<T>>>,
    /// The number of entries ever taken out, with wrapping.
    taken: u32,
}

#[derive(Debug)]
struct Late<T> {
    at: Instant,
    item: T,
}

/// The number of tombstones below which a purge, linear in the entries, is not worth the time.
const PURGE_ABOVE: usize = 1024;

impl<T: QueueItem> Expiry<T> {
    pub(crate) fn new() -> Self {
        Self { ordered: VecDeque::new(), others: BinaryHeap::new(), taken: 0 }
    }

    /// Adds a request, late from the instant `at` on.
    #[inline]
    pub(crate) fn push(&mut self, at: Instant, item: T) {
        let late = Late { at, item };
        if self.ordered.back().is_none_or(|last| last.at <= at) {
            self.ordered.push_back(late);
        } else {
            self.others.push(Reverse(late));
        }
    }

    /// Returns the number of entries taken out so far, with wrapping. A request in hand may be
    /// among them: a search for late requests takes the request for gone.
    #[inline]
    pub(crate) fn taken(&self) -> u32 {
        self.taken
    }

    /// Returns when the next request is late.
    pub(crate) fn next(&mut self) -> Option<Instant> {
        while self.ordered.front().is_some_and(|late| late.item.is_gone()) {
            self.ordered.pop_front();
            self.taken = self.taken.wrapping_add(1);
        }
        while self.others.peek().is_some_and(|late| late.0.item.is_gone()) {
            self.others.pop();
            self.taken = self.taken.wrapping_add(1);
        }
        let ordered = self.ordered.front().map(|late| late.at);
        let others = self.others.peek().map(|late| late.0.at);
        ordered.into_iter().chain(others).min()
    }

    /// Takes a late request. An instant of exactly `now` has passed.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<T> {
        let at = self.next().filter(|at| *at <= now)?;
        self.taken = self.taken.wrapping_add(1);
        if self.ordered.front().is_some_and(|late| late.at == at) {
            self.ordered.pop_front().map(|late| late.item)
        } else {
            self.others.pop().map(|late| late.0.item)
        }
    }

    /// Drops the tombstones, if the entries are more than twice the `live` requests.
    pub(crate) fn purge(&mut self, live: usize, is_tombstone: impl Fn(&T) -> bool) {
        if self.ordered.len() + self.others.len() > 2 * live + PURGE_ABOVE {
            self.ordered.retain(|late| !is_tombstone(&late.item));
            self.ordered.shrink_to(2 * live + PURGE_ABOVE);
            self.others.retain(|late| !is_tombstone(&late.0.item));
            self.others.shrink_to(2 * live + PURGE_ABOVE);
        }
    }
}

impl<T> Ord for Late<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at.cmp(&other.at)
    }
}

impl<T> PartialOrd for Late<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Late<T> {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl<T> Eq for Late<T> {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::queue::testing::Item;

    #[test]
    fn late_requests_leave_by_their_own_time_whatever_their_order_of_arrival() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut expiry = Expiry::new();
        for (id, ms) in [(0, 30), (1, 10), (2, 40), (3, 20)] {
            expiry.push(at(ms), Item::new(id));
        }
        assert_eq!(expiry.next(), Some(at(10)));
        assert!(expiry.pop(at(9)).is_none());
        let late = std::iter::from_fn(|| expiry.pop(at(30))).map(|item| item.id);
        assert_eq!(late.collect::<Vec<_>>(), [1, 3, 0], "exactly now has passed");
        assert_eq!(expiry.next(), Some(at(40)));
    }

    #[test]
    fn tombstones_are_dropped() {
        let now = Instant::now();
        let mut expiry = Expiry::new();
        let items: Vec<_> = (0..3000).map(Item::new).collect();
        items.iter().for_each(|item| expiry.push(now, item.clone()));
        items.iter().for_each(|item| item.gone.set(true));
        expiry.purge(0, Item::is_gone);
        assert_eq!(expiry.ordered.len(), 0);
        assert_eq!(expiry.next(), None);
    }
}
