//! The queues of a group, by virtual time.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, binary_heap::PeekMut},
};

use super::{item::QueueId, longest_queue::LongestQueue};

/// The position of a queue in the heap. Keys compare field by field: at the same virtual time, the
/// older key is first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// The virtual time of the queue, in nanoseconds of the inner's time.
    pub(super) virtual_time: u64,
    /// The number of the key: the older, the lower.
    pub(super) seq: u64,
    pub(super) queue: QueueId,
}

/// The result of comparing a key with its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyState {
    /// The key is true.
    Current,
    /// The queue has been charged since. The new position is inside.
    Outdated(Key),
    /// The queue is gone or inactive, or has a newer key.
    Stale,
}

/// A lazy min-heap of active queues, by virtual time (start-time fair queueing). A queue is active
/// while it has an eligible request.
///
/// The virtual time of a queue is the sum of all charges, in nanoseconds of the inner's time, each
/// divided by the weight of the flow. An outdated key stays in the heap until it reaches the top.
/// At the top a stale key is dropped, and the key of a queue with a higher virtual time is
/// corrected in place. If a virtual time falls, the queue gets a second key. The top is therefore
/// always true.
#[derive(Debug, Default)]
pub(super) struct VirtualTimeHeap {
    heap: BinaryHeap<Reverse<Key>>,
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

/// The number of stale keys to keep in the heap, beyond one for each queue.
const MAX_STALE: usize = 64;

impl VirtualTimeHeap {
    /// The next queue.
    pub(super) fn first(&self) -> Option<QueueId> {
        self.heap.peek().map(|key| key.0.queue)
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

    /// Counts a queue of the weight `share` that becomes inactive.
    pub(super) fn deactivate(&mut self, share: u16) {
        self.active -= 1;
        self.shares -= u64::from(share);
    }

    /// Records a new weight of an active queue.
    pub(super) fn reweigh(&mut self, before: u16, share: u16) {
        self.shares = self.shares - u64::from(before) + u64::from(share);
    }

    /// Adds a key of an active queue.
    pub(super) fn push(&mut self, key: Key) {
        self.heap.push(Reverse(key));
    }

    /// Replaces the first key.
    pub(super) fn replace_first(&mut self, key: Key) {
        if let Some(mut top) = self.heap.peek_mut() {
            top.0 = key;
        }
    }

    /// Corrects the top, and drops stale keys if there are many.
    pub(super) fn tidy(&mut self, mut state_of: impl FnMut(&Key) -> KeyState) {
        while let Some(mut top) = self.heap.peek_mut() {
            match state_of(&top.0) {
                KeyState::Current => break,
                KeyState::Outdated(key) => top.0 = key,
                KeyState::Stale => drop(PeekMut::pop(top)),
            }
        }
        if self.heap.len() > 2 * self.active + MAX_STALE {
            self.heap.retain(|key| !matches!(state_of(&key.0), KeyState::Stale));
        }
    }
}
