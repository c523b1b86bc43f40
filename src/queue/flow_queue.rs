//! A queue of a priority level.

use std::cell::Cell;

use super::{charge::Estimate, item::QueueItem, request_deque::RequestDeque};

/// A queue of a priority level: the requests, the virtual time, and the mean service time.
#[derive(Debug)]
pub(super) struct FlowQueue<T> {
    pub(super) requests: RequestDeque<T>,
    pub(super) kind: QueueKind,
    /// Tells the queue from earlier queues with the same [`QueueId`](super::item::QueueId).
    pub(super) generation: u32,
    /// Whether the flow of a dedicated queue is proven; see [`FlowTable`](super::flow_table).
    pub(super) is_proven: bool,
    /// The virtual time: all charges to the queue, in nanoseconds of the inner's time.
    pub(super) virtual_time: u64,
    pub(super) estimate: Estimate,
    /// Whether the heap counts the queue as active: as having an eligible request.
    pub(super) is_active: bool,
    /// The number of the queue's current key in the heap; keys with other numbers are stale.
    pub(super) key_seq: u64,
    /// The upper bound of the weight in the [`LongestQueue`](super::longest_queue::LongestQueue).
    pub(super) listed: Cell<u64>,
    /// The slots that the requests would take, as last counted by the level.
    pub(super) weight: u64,
    /// The number of entries, as last counted by the level.
    pub(super) len: usize,
    /// The weight of the level that had been cancelled or removed when the tombstones of this queue
    /// were last dropped for it. At most as much of this queue has gone since.
    pub(super) purged_at: u64,
}

/// The flows of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QueueKind {
    /// A single flow, named by its hash.
    Dedicated(u64),
    /// Every flow with the card in its hand (shuffle sharding).
    Shared(u8),
}

impl<T: QueueItem> FlowQueue<T> {
    pub(super) fn new(kind: QueueKind, generation: u32, is_proven: bool) -> Self {
        Self {
            requests: RequestDeque::new(),
            kind,
            generation,
            is_proven,
            virtual_time: 0,
            estimate: Estimate::default(),
            is_active: false,
            key_seq: 0,
            listed: Cell::new(0),
            weight: 0,
            len: 0,
            purged_at: 0,
        }
    }
}

impl QueueKind {
    #[inline]
    pub(super) fn is_shared(self) -> bool {
        matches!(self, Self::Shared(_))
    }
}
