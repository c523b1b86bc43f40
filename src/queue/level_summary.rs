//! The state of a level, as others see it.

use super::guaranteed_share::LEVELS;

/// The state of a level, by which the admission of newcomers is decided.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LevelSummary {
    /// The number of active queues.
    pub(crate) active: usize,
    /// The weights of the active flows together.
    pub(crate) shares: u64,
    /// The weight of the held flows with dedicated queues, tombstones included.
    pub(crate) held: u64,
    /// The weight of the first queue to evict from, tombstones included.
    pub(crate) longest: u64,
    /// The weight that the queue has at least without tombstones.
    pub(crate) surely_longest: u64,
    /// The weight of the flow of that queue.
    pub(crate) longest_share: u16,
}

/// By priority: the weight that has been cancelled or removed so far. With zeros nobody looks for
/// tombstones.
pub(crate) type Gone = [u64; LEVELS];
