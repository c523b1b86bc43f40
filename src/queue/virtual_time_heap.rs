//! The queues of a group, by virtual time.

use std::cmp::Ordering;

use super::{item::QueueId, longest_queue::LongestQueue, queue_heap::QueueHeap};

/// The key of a queue in the heap. At the same virtual time, the older key is first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// The virtual time of the queue, in nanoseconds of the inner's time.
    pub(super) virtual_time: u64,
    /// The number of the key: the older, the lower.
    pub(super) seq: u64,
}

impl Key {
    /// The fields as one number: a comparison without a branch.
    #[inline]
    fn number(self) -> u128 {
        u128::from(self.virtual_time) << 64 | u128::from(self.seq)
    }
}

impl Ord for Key {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        self.number().cmp(&other.number())
    }
}

impl PartialOrd for Key {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }

    #[inline]
    fn lt(&self, other: &Self) -> bool {
        self.number() < other.number()
    }

    #[inline]
    fn le(&self, other: &Self) -> bool {
        self.number() <= other.number()
    }
}

/// The active queues, by virtual time (start-time fair queueing). A queue is active while it has an
/// eligible request.
///
/// The virtual time of a queue is the sum of all charges, in nanoseconds of the inner's time, each
/// divided by the weight of the flow.
#[derive(Debug, Default)]
pub(super) struct VirtualTimeHeap {
    heap: QueueHeap<Key>,
    /// The number of active queues.
    active: usize,
    /// The weights of the active flows together.
    shares: u64,
    /// The highest virtual time of a queue when served.
    virtual_clock: u64,
    /// The virtual time of the group as a whole.
    pub(super) virtual_time: u64,
    /// The weight of all queues together.
    pub(super) weight: u64,
    pub(super) longest: LongestQueue,
}

impl VirtualTimeHeap {
    /// The next queue.
    #[inline]
    pub(super) fn first(&self) -> Option<QueueId> {
        self.heap.first()
    }

    /// The number of active queues.
    pub(super) fn active(&self) -> usize {
        self.active
    }

    /// The weights of the active flows together.
    pub(super) fn shares(&self) -> u64 {
        self.shares
    }

    /// The virtual clock: the virtual time of the queue served last, the lowest at the time. A
    /// queue that becomes active again starts no earlier, so idle time cannot be saved up
    /// (start-time fair queueing).
    pub(super) fn virtual_clock(&self) -> u64 {
        self.virtual_clock
    }

    /// Sets the virtual clock, for the service of a queue at `virtual_time`.
    pub(super) fn advance(&mut self, virtual_time: u64) {
        self.virtual_clock = self.virtual_clock.max(virtual_time);
    }

    /// Counts a queue of the weight `share` that becomes active. If the queue is the first, the
    /// group becomes active too, and starts no earlier than the virtual clock of the groups: no
    /// group can save up idle time.
    pub(super) fn activate(&mut self, virtual_clock: u64, share: u16) {
        if self.active == 0 {
            self.virtual_time = self.virtual_time.max(virtual_clock);
        }
        self.active += 1;
        self.shares += u64::from(share);
    }

    /// Counts a queue of the weight `share` that becomes inactive, and removes its key.
    pub(super) fn deactivate(&mut self, id: QueueId, share: u16) {
        self.active -= 1;
        self.shares -= u64::from(share);
        self.heap.remove(id);
    }

    /// Records a new weight of an active queue.
    pub(super) fn reweigh(&mut self, before: u16, share: u16) {
        self.shares = self.shares - u64::from(before) + u64::from(share);
    }

    /// Sets the key of the next queue, no lower than before.
    #[inline]
    pub(super) fn set_first(&mut self, key: Key) {
        self.heap.raise_first(key);
    }

    /// Sets the key of an active queue.
    pub(super) fn set(&mut self, id: QueueId, key: Key) {
        self.heap.set(id, key);
    }
}
