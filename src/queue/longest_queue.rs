//! The longest queue of a group.

use std::cmp::Reverse;

use super::{item::QueueId, queue_heap::QueueHeap};

/// The queues by [length].
///
/// The length in the heap is an upper bound, so a queue that gets shorter costs nothing. A bound
/// above the length is corrected at the top.
#[derive(Debug, Default)]
pub(super) struct LongestQueue(QueueHeap<Key>);

/// The length, and the id: of queues of the same length, the first is the same after any history.
type Key = Reverse<(u64, QueueId)>;

/// Returns the length of a queue: the slots of its requests, divided by the weight of the flow. In
/// units of 2⁻²⁰ slots, to tell apart the lengths of flows with great weights.
#[inline]
fn length(weight: u64, share: u16) -> u64 {
    let slots = weight << 20;
    if share <= 1 { slots } else { slots / u64::from(share) }
}

/// The share of queues to correct one by one, before all are corrected: one in 8. A correction of
/// one queue takes about as long as eight queues in a correction of all.
const MANY: usize = 8;

impl LongestQueue {
    /// Records the weight of a queue that has become longer, and the weight `share` of its flow.
    #[inline(always)]
    pub(super) fn raise(&mut self, id: QueueId, weight: u64, share: u16) {
        let length = length(weight, share);
        if self.0.key(id).is_none_or(|Reverse((bound, _))| bound < length) {
            self.0.set(id, Reverse((length, id)));
        }
    }

    /// Removes a queue.
    pub(super) fn remove(&mut self, id: QueueId) {
        self.0.remove(id);
    }

    /// Returns the longest queue. `queue` looks up the weight of a queue, and the weight of its
    /// flow.
    pub(super) fn first(
        &mut self,
        queue: impl Fn(QueueId) -> Option<(u64, u16)>,
    ) -> Option<QueueId> {
        let key_of = |id| {
            let (weight, share) = queue(id).filter(|(weight, _)| *weight > 0)?;
            Some(Reverse((length(weight, share), id)))
        };
        // Many bounds above the length cost less to correct all at once.
        for _ in 0..self.0.len().div_ceil(MANY) {
            let id = self.0.first()?;
            match key_of(id) {
                Some(key) if self.0.key(id) == Some(key) => return Some(id),
                Some(key) => self.0.set(id, key),
                None => self.0.remove(id),
            }
        }
        self.0.set_all(key_of);
        self.0.first()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(lengths: &mut LongestQueue, queues: [(u64, u16); 4]) -> Option<usize> {
        lengths.first(|id| queues.get(id.index()).copied()).map(QueueId::index)
    }

    fn listed(queues: [(u64, u16); 4]) -> LongestQueue {
        let mut lengths = LongestQueue::default();
        for (id, (weight, share)) in queues.into_iter().enumerate() {
            lengths.raise(QueueId::new(id), weight, share);
        }
        lengths
    }

    #[test]
    fn the_longest_is_found_whatever_went_up_and_down_before() {
        let mut lengths = listed([(5, 1), (3, 1), (9, 1), (2, 1)]);
        let mut queues = [(1, 1), (3, 1), (0, 1), (2, 1)];
        assert_eq!(first(&mut lengths, queues), Some(1));
        assert_eq!(first(&mut lengths, queues), Some(1), "a look changes nothing");
        (queues[1].0, queues[2].0) = (0, 4);
        lengths.raise(QueueId::new(2), 4, 1);
        assert_eq!(first(&mut lengths, queues), Some(2));
        lengths.remove(QueueId::new(2));
        assert_eq!(first(&mut lengths, queues), Some(3));
        assert_eq!(first(&mut lengths, [(0, 1); 4]), None);
    }

    #[test]
    fn the_longest_has_the_most_for_its_weight() {
        let mut queues = [(4, 2), (3, 1), (9, 1000), (1, 1)];
        let mut lengths = listed(queues);
        assert_eq!(first(&mut lengths, queues), Some(1));
        queues[0].0 = 7;
        lengths.raise(QueueId::new(0), 7, 2);
        assert_eq!(first(&mut lengths, queues), Some(0));
    }
}
