//! The longest queue of a group.

use std::{
    cell::Cell,
    collections::{BinaryHeap, binary_heap::PeekMut},
};

use super::item::QueueId;

/// A lazy max-heap of queues by [length].
///
/// A queue is listed with an upper bound of its weight, so changes below the bound cost nothing. A
/// bound above the weight is corrected at the top.
#[derive(Debug, Default)]
pub(super) struct LongestQueue {
    heap: BinaryHeap<(u64, QueueId)>,
}

/// The parts of a queue that decide its length.
#[derive(Debug)]
pub(super) struct Listed<'a> {
    /// The upper bound of the weight in the listing.
    pub(super) listed: &'a Cell<u64>,
    pub(super) weight: u64,
    /// The weight of the flow.
    pub(super) share: u16,
}

/// Returns the length of a queue: the slots of its requests, divided by the weight of the flow. In
/// units of 2⁻²⁰ slots, to tell apart the lengths of flows with great weights.
fn length(weight: u64, share: u16) -> u64 {
    let slots = weight << 20;
    if share <= 1 { slots } else { slots / u64::from(share) }
}

impl LongestQueue {
    /// Lists a queue with a new bound of its weight.
    pub(super) fn push(&mut self, weight: u64, share: u16, id: QueueId) {
        self.heap.push((length(weight, share), id));
    }

    /// Returns the weight and the id of the longest queue. `queues` is the number of queues, and
    /// `queue` looks a queue up.
    pub(super) fn first<'a>(
        &mut self,
        queues: usize,
        queue: impl Fn(QueueId) -> Option<Listed<'a>>,
    ) -> Option<(u64, QueueId)> {
        let is_current =
            |known: &Listed<'_>, listing| length(known.listed.get(), known.share) == listing;
        // Many entries are older bounds of grown queues.
        if self.heap.len() > 4 * queues + MAX_STALE {
            self.heap.retain(|(listing, id)| {
                queue(*id).is_some_and(|known| is_current(&known, *listing))
            });
        }
        loop {
            let mut top = self.heap.peek_mut()?;
            let (listing, id) = *top;
            let Some(known) = queue(id).filter(|known| is_current(known, listing)) else {
                PeekMut::pop(top);
                continue;
            };
            let Listed { listed, weight, share } = known;
            if weight == listed.get() {
                return Some((weight, id));
            }
            listed.set(weight);
            if weight > 0 {
                // In place: mostly the queue stays near the top.
                top.0 = length(weight, share);
            } else {
                PeekMut::pop(top);
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
            lengths.push(listed, 1, QueueId::new(id));
        }
        let mut first = |weights: [u64; 4]| {
            lengths.first(4, |id| {
                let (listed, weight) = (&listed[id.index()], weights[id.index()]);
                Some(Listed { listed, weight, share: 1 })
            })
        };
        assert_eq!(first(weights), Some((3, QueueId::new(3))));
        assert_eq!(first(weights), Some((3, QueueId::new(3))), "a look changes nothing");
        weights[3] = 0;
        assert_eq!(first(weights), Some((3, QueueId::new(1))));
    }

    #[test]
    fn the_longest_has_the_most_for_its_weight() {
        let (listed, weights, shares) = ([4, 3, 9].map(Cell::new), [4, 3, 9], [2, 1, 1000]);
        let mut lengths = LongestQueue::default();
        (0..3).for_each(|id| lengths.push(weights[id], shares[id], QueueId::new(id)));
        let longest = lengths.first(3, |id| {
            let (listed, id) = (&listed[id.index()], id.index());
            Some(Listed { listed, weight: weights[id], share: shares[id] })
        });
        assert_eq!(longest, Some((3, QueueId::new(1))));
    }
}
