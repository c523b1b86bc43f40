//! The entries of a queue, and the names of queues and inner services.

use tokio::time::Instant;

use crate::class::Rank;

/// Names the inner service of a request.
pub(crate) type InnerId = usize;

/// Names a queue of a priority level. The id of a removed queue is used again.
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

/// The reason to pass over a parked request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Hold {
    /// The inner is unready.
    Inner(InnerId),
    /// The flow, named by its hash, runs as much as it may.
    Flow(u64),
}

/// A waiting request. The queue asks whether a request has ended; nobody reports the end.
pub(crate) trait QueueItem {
    /// Returns whether the request has stopped waiting: ended, or in the hands of the drain task.
    fn is_gone(&self) -> bool;

    /// Returns whether the request has left for good and cannot be put back. The default suits
    /// items never put back.
    fn has_left(&self) -> bool {
        self.is_gone()
    }

    /// The number of slots asked for by the request, if possibly more than the cost in the rank:
    /// the limit may have risen since the request came.
    fn asked(&self) -> u32 {
        0
    }

    /// Returns when the request is late.
    fn late(&self) -> Option<Instant>;
}

/// A request in the queue.
#[derive(Debug)]
pub(crate) struct Entry<T> {
    /// The position in the order of arrival.
    pub(crate) seq: u64,
    pub(crate) inner: InnerId,
    pub(crate) rank: Rank,
    pub(crate) admitted: Instant,
    pub(crate) item: T,
}

impl<T> Entry<T> {
    /// The number of slots for the request.
    pub(crate) fn weight(&self) -> u64 {
        u64::from(self.rank.cost)
    }
}

impl<T: QueueItem> Entry<T> {
    /// The most slots for the request.
    pub(super) fn most_slots(&self) -> u32 {
        self.rank.cost.max(self.item.asked())
    }
}
