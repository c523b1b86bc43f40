//! One queue of a priority level.

use std::cell::Cell;

use super::{charge::Estimate, item::QueueItem, requests::Requests};

/// A queue that takes turns with the others of its level: its requests, its virtual time, and its
/// mean service time.
#[derive(Debug)]
pub(super) struct FlowQueue<T> {
    pub(super) requests: Requests<T>,
    pub(super) kind: QueueKind,
    /// Tells the queue from earlier queues with the same [`QueueId`](super::item::QueueId).
    pub(super) generation: u32,
    /// Whether the flow of a dedicated queue is proven; see [`FlowTable`](super::flow_table).
    pub(super) is_proven: bool,
    /// The virtual time: nanoseconds of the inner's time that the queue has been charged.
    pub(super) virtual_time: u64,
    pub(super) estimate: Estimate,
    /// Whether the queue takes turns, as the heap of its group knows.
    pub(super) is_active: bool,
    /// The number of the queue's current key in the heap; keys with other numbers are stale.
    pub(super) key_seq: u64,
    /// The weight that the queue is listed with among the longest.
    pub(super) listed: Cell<u64>,
    /// The slots that the requests would take, as the level has counted them.
    pub(super) weight: u64,
    /// The number of entries, as the level has counted them.
    pub(super) len: usize,
}

/// The flows that a queue is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QueueKind {
    /// One flow, named by its hash.
    Dedicated(u64),
    /// Every flow that was dealt this card by shuffle sharding.
    Shared(u8),
}

impl<T: QueueItem> FlowQueue<T> {
    pub(super) fn new(kind: QueueKind, generation: u32, is_proven: bool) -> Self {
        Self {
            requests: Requests::new(),
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
        }
    }
}

impl QueueKind {
    #[inline]
    pub(super) fn is_shared(self) -> bool {
        matches!(self, Self::Shared(_))
    }
}
