//! What waits in a queue, and what names it.

use tokio::time::Instant;

use crate::class::Rank;

/// Names the inner service that a request is for.
pub(crate) type InnerId = usize;

/// Names a queue of a priority level; given to another queue when the first is removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct QueueId(u32);

impl QueueId {
    #[inline]
    pub(super) fn new(index: usize) -> Self {
        Self(index as u32)
    }

    #[inline]
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A request that waits. The queue is not told when it ends, and asks.
pub(crate) trait QueueItem {
    /// Returns whether the request does not wait now: it has ended, or whoever popped it has it in
    /// hand.
    fn is_gone(&self) -> bool;

    /// Returns whether the request has left for good and cannot be put back. The default is right
    /// for items that are never put back.
    fn has_left(&self) -> bool {
        self.is_gone()
    }

    /// Returns when the request is late.
    fn late(&self) -> Option<Instant>;
}

/// One request in the line.
#[derive(Debug)]
pub(crate) struct Entry<T> {
    /// Position in the order of arrival; given by the line.
    pub(crate) seq: u64,
    pub(crate) inner: InnerId,
    pub(crate) rank: Rank,
    pub(crate) admitted: Instant,
    pub(crate) item: T,
}

impl<T> Entry<T> {
    /// Slots that it takes.
    pub(crate) fn weight(&self) -> u64 {
        u64::from(self.rank.cost)
    }
}
