//! The oldest request, remembered between two looks.

use tokio::time::Instant;

use super::{fair_queue::FairQueue, item::QueueItem};

/// The oldest live request of a [`FairQueue`], to report the longest wait.
///
/// A request stays the oldest until it has gone: all other requests came later. Only then the drain
/// task searches the queue, at the end of its turn. A reader before the search searches a short
/// queue itself. For a long queue the reader gets the time of the previous oldest request, and the
/// drain task searches in its next turn, however busy. If a request in hand is put back, it may be
/// older than the known request, so the memory is dropped.
#[derive(Debug)]
pub(super) struct Oldest<T> {
    known: Option<(T, Instant)>,
    /// A time no later than the admission of the oldest request: from the last search, or from the
    /// first request of an empty queue. `None` if nothing has come since the queue was empty.
    since: Option<Instant>,
    /// Set if a reader has found no request known.
    is_wanted: bool,
    /// Counts the turns of the drain task since the last search.
    turns: u8,
}

/// The number of entries, tombstones included, up to which a reader searches. The search then takes
/// less time than the rest of a look at the stats. With more, looks would be long, under the lock
/// of dispatch.
const SHORT: usize = 256;

/// A busy drain task searches in one turn of 16: a search looks at the front of every flow, and a
/// turn may be as short as a single dispatch.
const TURNS: u8 = 16;

/// The share of tombstones above which a search of the drain task first drops them: a sixteenth of
/// all entries. With less, each dropped tombstone would cost looks at more than 16 requests; with
/// more, a search would pass over more tombstones. A reader only passes over tombstones.
const TOMBSTONES: usize = 16;
/// The number of tombstones to keep. A search passes over them in a few microseconds, and a queue
/// with its tombstones keeps its place among equal queues.
const KEPT_TOMBSTONES: usize = 1024;

impl<T: QueueItem + Clone> Oldest<T> {
    pub(super) fn new() -> Self {
        Self { known: None, since: None, is_wanted: false, turns: 0 }
    }

    /// Takes note of a new request.
    #[inline]
    pub(super) fn on_push(&mut self, admitted: Instant) {
        if self.since.is_none() {
            self.since = Some(admitted);
        }
    }

    /// Takes note of a request put back, possibly older than all other requests.
    pub(super) fn on_back(&mut self, admitted: Instant) {
        self.known = None;
        self.since = Some(self.since.map_or(admitted, |since| since.min(admitted)));
    }

    /// Returns the admission time of the oldest of `live` requests, as of this instant or of the
    /// last turn of the drain task. In the second case also returns true: the drain task needs a
    /// turn.
    pub(super) fn read(&mut self, queue: &FairQueue<T>, live: usize) -> (Option<Instant>, bool) {
        let is_lost = self.known.as_ref().is_none_or(|(item, _)| item.is_gone());
        if is_lost && live > 0 && queue.len() > SHORT {
            self.is_wanted = true;
            return (self.since, true);
        }
        (self.get(queue, live), false)
    }

    /// Returns the admission time of the oldest of `live` requests. Searches if the last answer has
    /// gone.
    fn get(&mut self, queue: &FairQueue<T>, live: usize) -> Option<Instant> {
        self.known.take_if(|(item, _)| item.is_gone());
        if self.known.is_none() && live > 0 {
            self.known = queue.oldest().map(|entry| (entry.item.clone(), entry.admitted));
            self.since = self.known.as_ref().map_or(self.since, |(_, admitted)| Some(*admitted));
            self.turns = 0;
        }
        self.known.as_ref().map(|(_, admitted)| *admitted)
    }

    /// Keeps the memory fresh at the end of a turn. `is_busy` says whether the turn has dispatched.
    pub(super) fn look(&mut self, queue: &mut FairQueue<T>, live: usize, is_busy: bool) {
        self.turns = self.turns.wrapping_add(1);
        if live == 0 {
            (self.known, self.since) = (None, None);
        } else if !is_busy || self.turns >= TURNS || self.is_wanted {
            self.is_wanted = false;
            let is_lost = self.known.as_ref().is_none_or(|(item, _)| item.is_gone());
            let entries = queue.len();
            let tombstones = entries.saturating_sub(live);
            if is_lost && tombstones > entries / TOMBSTONES + KEPT_TOMBSTONES {
                queue.sweep();
            }
            self.get(queue, live);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        class::Rank,
        queue::{Rules, testing::Item},
    };

    /// `count` requests of a hundred flows, a millisecond apart.
    fn full(start: Instant, count: u32) -> (FairQueue<Item>, Vec<Item>) {
        let mut queue = FairQueue::new(Rules::default());
        let items: Vec<_> = (0..count).map(Item::new).collect();
        for item in &items {
            let rank = Rank { flow: u64::from(item.id % 100) + 1, ..Rank::default() };
            queue.push(1, rank, start + Duration::from_millis(item.id.into()), item.clone());
        }
        (queue, items)
    }

    #[test]
    fn the_oldest_is_the_first_that_has_not_gone() {
        let start = Instant::now();
        let (queue, items) = full(start, 200);
        let mut oldest = Oldest::new();
        for first in [0, 1, 7, 100, 150, 199] {
            items[..first].iter().for_each(|item| item.gone.set(true));
            let expected = start + Duration::from_millis(first as u64);
            assert_eq!(oldest.read(&queue, 200 - first), (Some(expected), false));
        }
        items[199].gone.set(true);
        assert_eq!(oldest.read(&queue, 0), (None, false));
    }

    #[test]
    fn a_reader_of_a_long_queue_searches_nothing_and_is_a_turn_late_at_most() {
        let start = Instant::now();
        let at = |ms| Some(start + Duration::from_millis(ms));
        let (mut queue, items) = full(start, 10_000);
        let mut oldest = Oldest::new();
        oldest.on_push(start);
        // Before the first look, half have gone.
        items[..5_000].iter().for_each(|item| item.gone.set(true));
        let before = Item::looks();
        assert_eq!(oldest.read(&queue, 5_000), (at(0), true));
        assert_eq!(Item::looks(), before, "at no request");
        oldest.look(&mut queue, 5_000, true);
        assert_eq!(oldest.read(&queue, 5_000), (at(5_000), false), "now it is known");
        items[5_000].gone.set(true);
        let before = Item::looks();
        assert_eq!(oldest.read(&queue, 4_999), (at(5_000), true), "as of the last turn");
        assert!(Item::looks() - before <= 1, "at the one that was the oldest");
        // An older request comes back.
        oldest.look(&mut queue, 4_999, true);
        oldest.on_back(start + Duration::from_millis(7));
        assert_eq!(oldest.read(&queue, 5_000), (at(7), true));
        oldest.look(&mut queue, 0, true);
        assert_eq!(oldest.read(&queue, 0), (None, false));
    }

    #[test]
    fn a_search_of_the_drain_task_leaves_no_tombstones_for_the_next() {
        let (mut queue, items) = full(Instant::now(), 4000);
        items.iter().step_by(2).for_each(|item| item.gone.set(true));
        Oldest::new().get(&queue, 2000);
        assert_eq!(queue.len(), 4000, "a reader drops nothing");
        Oldest::new().look(&mut queue, 2000, false);
        assert_eq!(queue.len(), 2000);
    }

    #[test]
    fn a_busy_turn_searches_now_and_then_and_an_idle_one_always() {
        let (mut queue, items) = full(Instant::now(), 1000);
        let mut oldest = Oldest::new();
        oldest.look(&mut queue, 1000, false);
        assert!(oldest.known.is_some());
        items[0].gone.set(true);
        (1..TURNS).for_each(|_| oldest.look(&mut queue, 999, true));
        assert!(oldest.known.as_ref().is_some_and(|(item, _)| item.id == 0), "not yet");
        oldest.look(&mut queue, 999, true);
        assert!(oldest.known.as_ref().is_some_and(|(item, _)| item.id == 1));
        oldest.look(&mut queue, 0, true);
        assert!(oldest.known.is_none(), "nothing is kept of a queue that is empty");
    }
}
