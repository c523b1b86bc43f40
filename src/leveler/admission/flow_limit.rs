use super::{bound::Slots, full_flows::FullFlows};
use crate::{
    class::{NO_FLOW, Rank},
    leveler::link::inbox::Inbox,
    queue::FlowRight,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};

/// The limit on the running calls of each flow, as seen without the queue.
///
/// The queue counts the slots of each flow, and the drain task alone dispatches requests with a
/// flow. The right to run in a flow belongs to the slots of a call. When the slots are given back,
/// the right is left here for the drain task, which returns the right to the queue.
#[derive(Debug)]
pub(crate) struct FlowLimit {
    /// In slots, or `NONE`.
    limit: AtomicUsize,
    /// The rights of ended calls.
    pub(crate) ended: Inbox<Vec<FlowRight>>,
    /// The full flows, as of the last turn of the drain task.
    full: FullFlows,
}

const NONE: usize = usize::MAX;

impl FlowLimit {
    pub(super) fn new(limit: Option<usize>) -> Self {
        Self {
            limit: AtomicUsize::new(limit.unwrap_or(NONE)),
            ended: Inbox::default(),
            full: FullFlows::new(),
        }
    }

    /// Returns the limit, if any.
    #[inline]
    pub(crate) fn get(&self) -> Option<usize> {
        let limit = self.limit.load(SeqCst);
        (limit != NONE).then_some(limit)
    }

    /// Sets the limit. The queue is told by the caller.
    pub(crate) fn set(&self, limit: Option<usize>) {
        self.limit.store(limit.unwrap_or(NONE), SeqCst);
    }

    /// Returns whether a request is subject to the limit, and has to be dispatched by the drain
    /// task.
    #[inline]
    pub(crate) fn concerns(&self, rank: Rank) -> bool {
        rank.flow != NO_FLOW && self.get().is_some()
    }

    /// Leaves the right of slots about to be given back.
    #[inline]
    pub(super) fn give_back(&self, slots: Slots) {
        if let Some(right) = slots.right {
            self.leave(right);
        }
    }

    #[cold]
    fn leave(&self, right: FlowRight) {
        self.ended.put(|ended| ended.push(right));
    }

    /// Records a flow as full from now on, or no longer full.
    pub(crate) fn on_changed(&self, flow: u64, is_full: bool) {
        if is_full { self.full.insert(flow) } else { self.full.remove(flow) }
    }

    /// Returns whether a flow is at its limit, as of the last turn of the drain task.
    #[inline]
    pub(crate) fn is_full(&self, rank: Rank) -> bool {
        self.concerns(rank) && self.full.contains(rank.flow)
    }
}
