//! The sums over the queues of a level.

use super::flow_queue::FlowQueue;

/// The nonempty queues of a level.
#[derive(Debug, Default)]
pub(super) struct InUse {
    pub(super) queues: usize,
    /// The weights of their flows together.
    pub(super) shares: u64,
    /// The number of entries, tombstones included.
    pub(super) len: usize,
}

impl InUse {
    /// Records that a queue of the weight `share` had `before` entries, and has `len`.
    #[inline]
    pub(super) fn update(&mut self, before: usize, len: usize, share: u16) {
        self.len = self.len + len - before;
        match (before > 0, len > 0) {
            (false, true) => {
                self.queues += 1;
                self.shares += u64::from(share);
            }
            (true, false) => {
                self.queues -= 1;
                self.shares -= u64::from(share);
            }
            _ => {}
        }
    }

    /// Records a new weight of a flow, until now `before`.
    pub(super) fn reweigh<T>(&mut self, queue: &FlowQueue<T>, before: u16) {
        if queue.len > 0 {
            self.shares = self.shares - u64::from(before) + u64::from(queue.share);
        }
    }
}
