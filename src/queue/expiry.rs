//! Until when each request may wait.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BinaryHeap, VecDeque},
};

use tokio::time::Instant;

use super::item::QueueItem;

/// The requests that may not wait for ever, by the instant at which they are late.
///
/// With one `max_wait` for all, requests are late in the order in which they came, so most of them sit in
/// a plain queue; only those that are late earlier than one before them need the heap. Requests that have
/// left the line by another way leave a tombstone, dropped when its time comes or by [`purge`](Self::purge).
#[derive(Debug)]
pub(crate) struct Expiry<T> {
    ordered: VecDeque<Late<T>>,
    others: BinaryHeap<Reverse<Late<T>>>,
}

#[derive(Debug)]
struct Late<T> {
    at: Instant,
    item: T,
}

const PURGE_ABOVE: usize = 1024;

impl<T: QueueItem> Expiry<T> {
    pub(crate) fn new() -> Self {
        Self { ordered: VecDeque::new(), others: BinaryHeap::new() }
    }

    pub(crate) fn push(&mut self, at: Instant, item: T) {
        let late = Late { at, item };
        if self.ordered.back().is_none_or(|last| last.at <= at) {
            self.ordered.push_back(late);
        } else {
            self.others.push(Reverse(late));
        }
    }

    /// Returns when the next request is late.
    pub(crate) fn next(&mut self) -> Option<Instant> {
        while self.ordered.front().is_some_and(|late| late.item.is_gone()) {
            self.ordered.pop_front();
        }
        while self.others.peek().is_some_and(|late| late.0.item.is_gone()) {
            self.others.pop();
        }
        let ordered = self.ordered.front().map(|late| late.at);
        let others = self.others.peek().map(|late| late.0.at);
        ordered.into_iter().chain(others).min()
    }

    /// Takes a request that is late: an instant that is exactly `now` has passed.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<T> {
        let at = self.next().filter(|at| *at <= now)?;
        if self.ordered.front().is_some_and(|late| late.at == at) {
            self.ordered.pop_front().map(|late| late.item)
        } else {
            self.others.pop().map(|late| late.0.item)
        }
    }

    /// Drops the tombstones of those that have gone, once they outnumber the `live` ones.
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
    fn those_that_have_gone_are_forgotten() {
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
