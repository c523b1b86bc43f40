//! The order in which requests leave the queue.

use std::collections::VecDeque;

use tokio::time::Instant;

use super::{Entry, LaneId, Waiting, lanes::Lanes};

/// The ordered backlog: oldest first, but for those whose inner service is not ready.
///
/// Every operation is O(1), or O(log n) in the number of unready inner services. Requests that have gone
/// leave an empty shell, which is dropped when it comes to the front or by [`purge`](Self::purge).
#[derive(Debug)]
pub(crate) struct Line<T> {
    main: VecDeque<Entry<T>>,
    lanes: Lanes<T>,
    next_seq: u64,
}

/// Above this the memory of an emptied line is given back.
const KEEP: usize = 1024;

impl<T: Waiting> Line<T> {
    pub(crate) fn new() -> Self {
        Self { main: VecDeque::new(), lanes: Lanes::new(), next_seq: 0 }
    }

    pub(crate) fn push(&mut self, lane: LaneId, admitted: Instant, item: T) {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.main.push_back(Entry { seq, lane, admitted, item });
    }

    /// Takes the entry whose turn it is: the oldest whose inner is not known to be unready.
    pub(crate) fn pop(&mut self) -> Option<Entry<T>> {
        loop {
            // What is in a lane is older than all in the main line.
            let entry = self.lanes.pop_ready().or_else(|| self.pop_main())?;
            if !entry.item.is_gone() {
                return Some(entry);
            }
        }
    }

    fn pop_main(&mut self) -> Option<Entry<T>> {
        loop {
            let Some(entry) = self.main.pop_front() else {
                self.main.shrink_to(KEEP);
                return None;
            };
            if !self.lanes.contains(entry.lane) {
                return Some(entry);
            }
            if !entry.item.is_gone() {
                self.lanes.join(entry);
            }
        }
    }

    /// Puts back an entry that was taken, since its inner is not ready. It, and those behind it that
    /// are for the same inner, are passed over until [`wake`](Self::wake).
    pub(crate) fn stall(&mut self, entry: Entry<T>) {
        self.lanes.stall(entry);
    }

    /// Puts back an entry that was taken and could not be dispatched after all.
    pub(crate) fn put_back(&mut self, entry: Entry<T>) {
        if self.lanes.contains(entry.lane) {
            self.lanes.put_back(entry);
        } else {
            self.main.push_front(entry);
        }
    }

    /// Takes note that this inner may be ready again.
    pub(crate) fn wake(&mut self, lane: LaneId) {
        self.lanes.wake(lane);
    }

    /// Takes the oldest entry, ready or not.
    pub(crate) fn pop_oldest(&mut self) -> Option<Entry<T>> {
        loop {
            let entry = self.lanes.pop_oldest().or_else(|| self.main.pop_front())?;
            if !entry.item.is_gone() {
                return Some(entry);
            }
        }
    }

    /// When the oldest entry was admitted.
    pub(crate) fn oldest_admitted(&mut self) -> Option<Instant> {
        while self.lanes.oldest().is_some_and(|entry| entry.item.is_gone()) {
            self.lanes.pop_oldest();
        }
        while self.main.front().is_some_and(|entry| entry.item.is_gone()) {
            self.main.pop_front();
        }
        self.lanes.oldest().or_else(|| self.main.front()).map(|entry| entry.admitted)
    }

    /// Drops the shells of those that have gone, once they outnumber the `live` ones.
    pub(crate) fn purge(&mut self, live: usize) {
        if self.main.len() > 2 * live + KEEP {
            self.main.retain(|entry| !entry.item.is_gone());
            self.main.shrink_to(2 * live + KEEP);
        }
        if !self.lanes.is_empty() && self.lanes.len() > 2 * live + KEEP {
            self.lanes.purge();
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.main.len() + self.lanes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::testing::Item;

    const A: LaneId = 1;
    const B: LaneId = 2;

    fn line_of(lanes: &[LaneId]) -> (Line<Item>, Vec<Item>) {
        let mut line = Line::new();
        let now = Instant::now();
        let items: Vec<_> = (0..lanes.len() as u32).map(Item::new).collect();
        for (item, lane) in items.iter().zip(lanes) {
            line.push(*lane, now, item.clone());
        }
        (line, items)
    }

    fn drain(line: &mut Line<Item>) -> Vec<u32> {
        std::iter::from_fn(|| line.pop()).map(|entry| entry.item.id).collect()
    }

    #[test]
    fn leaves_in_order_of_arrival_and_skips_the_gone() {
        let (mut line, items) = line_of(&[A, B, A, B]);
        items[1].gone.set(true);
        assert_eq!(drain(&mut line), [0, 2, 3]);
    }

    #[test]
    fn an_unready_inner_is_passed_over_and_keeps_its_order() {
        let (mut line, _) = line_of(&[A, B, A, B, A]);
        let head = line.pop().expect("five wait");
        line.stall(head);
        assert_eq!(line.pop().map(|e| e.item.id), Some(1));
        assert_eq!(line.pop().map(|e| e.item.id), Some(3), "2 is for the unready inner");
        line.wake(A);
        assert_eq!(drain(&mut line), [0, 2, 4]);
        assert!(line.lanes.is_empty(), "an emptied lane is dropped");
    }

    #[test]
    fn a_woken_inner_goes_before_younger_requests_of_others() {
        let (mut line, _) = line_of(&[A, B, B]);
        let head = line.pop().expect("three wait");
        line.stall(head);
        line.wake(A);
        assert_eq!(drain(&mut line), [0, 1, 2]);
    }

    #[test]
    fn a_lane_in_which_all_have_gone_holds_up_nobody() {
        let (mut line, items) = line_of(&[A, A]);
        let head = line.pop().expect("two wait");
        line.stall(head);
        items[0].gone.set(true);
        assert_eq!(drain(&mut line), [1], "the inner is to be asked anew");
    }

    #[test]
    fn an_entry_put_back_is_next_again() {
        let (mut line, _) = line_of(&[A, A]);
        let head = line.pop().expect("two wait");
        line.put_back(head);
        assert_eq!(drain(&mut line), [0, 1]);
    }

    #[test]
    fn the_oldest_may_be_one_whose_inner_is_unready() {
        let (mut line, _) = line_of(&[A, B]);
        let head = line.pop().expect("two wait");
        line.stall(head);
        assert_eq!(line.pop_oldest().map(|e| e.item.id), Some(0));
        assert_eq!(line.pop_oldest().map(|e| e.item.id), Some(1));
    }

    #[test]
    fn shells_of_the_gone_are_dropped_when_they_outnumber_the_rest() {
        let (mut line, items) = line_of(&vec![A; 5000]);
        items.iter().skip(10).for_each(|item| item.gone.set(true));
        line.purge(10);
        assert_eq!(line.len(), 10);
        assert!(line.main.capacity() < 2048, "its memory is given back too");
    }
}
