//! The oldest request, remembered between two looks.

use tokio::time::Instant;

use super::{fair_queue::FairQueue, item::QueueItem};

/// The oldest live request of a [`FairQueue`], for those who ask how long it has waited.
///
/// A request stays the oldest until it has gone: all others came later. So the queue is searched
/// only then: by the drain task at the end of its turn, or by a reader that comes before it. A
/// request that was in hand and is put back may be older, so the memory is dropped then.
#[derive(Debug)]
pub(super) struct Oldest<T> {
    known: Option<(T, Instant)>,
    /// Counts the turns of the drain task since the last search.
    turns: u8,
}

/// A busy drain task searches in one turn of 16: a search looks at the front of every flow, and a
/// turn may be as short as a single dispatch.
const TURNS: u8 = 16;

/// The tombstones, beyond a number of entries, that a search of the drain task drops first: a
/// sixteenth of all entries. With less, a request would be looked at more than 16 times for each
/// tombstone; with more, a search would pass over more of them. A reader only passes over them.
const TOMBSTONES: usize = 16;
/// The number of tombstones that may stay. A search passes over so many in a few microseconds, and
/// a queue that keeps them keeps its place among others that are equal.
const KEPT_TOMBSTONES: usize = 1024;

impl<T: QueueItem + Clone> Oldest<T> {
    pub(super) fn new() -> Self {
        Self { known: None, turns: 0 }
    }

    pub(super) fn forget(&mut self) {
        self.known = None;
    }

    /// Returns the admission time of the oldest of `live` requests.
    pub(super) fn get(&mut self, queue: &mut FairQueue<T>, live: usize) -> Option<Instant> {
        self.known.take_if(|(item, _)| item.is_gone());
        if self.known.is_none() && live > 0 {
            self.known = queue.oldest().map(|entry| (entry.item.clone(), entry.admitted));
            self.turns = 0;
        }
        self.known.as_ref().map(|(_, admitted)| *admitted)
    }

    /// Keeps the memory fresh at the end of a turn. `is_busy` says whether the turn has dispatched.
    pub(super) fn look(&mut self, queue: &mut FairQueue<T>, live: usize, is_busy: bool) {
        self.turns = self.turns.wrapping_add(1);
        if live == 0 {
            self.forget();
        } else if !is_busy || self.turns >= TURNS {
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

    /// So many requests of a hundred flows, a millisecond apart.
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
        let (mut queue, items) = full(start, 1000);
        let mut oldest = Oldest::new();
        for first in [0, 1, 7, 100, 550, 999] {
            items[..first].iter().for_each(|item| item.gone.set(true));
            let expected = start + Duration::from_millis(first as u64);
            assert_eq!(oldest.get(&mut queue, 1000 - first), Some(expected));
        }
        items[999].gone.set(true);
        assert_eq!(oldest.get(&mut queue, 0), None);
    }

    #[test]
    fn a_search_of_the_drain_task_leaves_no_tombstones_for_the_next() {
        let (mut queue, items) = full(Instant::now(), 4000);
        items.iter().step_by(2).for_each(|item| item.gone.set(true));
        Oldest::new().get(&mut queue, 2000);
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
