//! The longest queue of a group.

use std::{cell::Cell, collections::BinaryHeap};

use super::item::QueueId;

/// A lazy max-heap of queues by weight.
///
/// A queue is listed with an upper bound of its weight, so changes below the bound cost nothing. A
/// bound that is too high is corrected at the top.
#[derive(Debug, Default)]
pub(super) struct LongestQueue {
    heap: BinaryHeap<(u64, QueueId)>,
}

impl LongestQueue {
    /// Lists a queue with a new, higher bound.
    pub(super) fn push(&mut self, weight: u64, id: QueueId) {
        self.heap.push((weight, id));
    }

    /// Returns the weight and the id of the longest queue. `queues` is the number of queues, and
    /// `queue` looks up the bound and the weight of a queue.
    pub(super) fn first<'a>(
        &mut self,
        queues: usize,
        queue: impl Fn(QueueId) -> Option<(&'a Cell<u64>, u64)>,
    ) -> Option<(u64, QueueId)> {
        // Many entries are older bounds of queues that have grown since.
        if self.heap.len() > 4 * queues + MAX_STALE {
            self.heap
                .retain(|(listing, id)| queue(*id).is_some_and(|known| known.0.get() == *listing));
        }
        loop {
            let (listing, id) = *self.heap.peek()?;
            let known = queue(id).filter(|(listed, _)| listed.get() == listing);
            match known {
                Some((_, weight)) if weight == listing => return Some((weight, id)),
                Some((listed, weight)) => {
                    listed.set(weight);
                    self.heap.pop();
                    if weight > 0 {
                        self.heap.push((weight, id));
                    }
                }
                None => drop(self.heap.pop()),
            }
        }
    }
}

/// The number of stale entries that may stay in the heap, beyond four for each queue.
const MAX_STALE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_is_found_whatever_went_up_and_down_before() {
        // The listings, and the weights.
        let cells = |listed: [u64; 4]| listed.map(Cell::new);
        let (listed, mut weights) = (cells([5, 3, 9, 3]), [1, 3, 0, 3]);
        let mut lengths = LongestQueue::default();
        for (id, listed) in [(0, 2), (0, 5), (1, 3), (2, 9), (3, 3)] {
            lengths.push(listed, QueueId::new(id));
        }
        let mut first = |weights: [u64; 4]| {
            lengths.first(4, |id| Some((&listed[id.index()], weights[id.index()])))
        };
        assert_eq!(first(weights), Some((3, QueueId::new(3))));
        assert_eq!(first(weights), Some((3, QueueId::new(3))), "a look changes nothing");
        weights[3] = 0;
        assert_eq!(first(weights), Some((3, QueueId::new(1))));
    }
}
