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
    /// The first queue to evict from, if any has entries.
    pub(crate) longest: LongestFlow,
    /// The weight that the queue has at least without tombstones.
    pub(crate) surely_longest: u64,
}

/// The longest flow of a level.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LongestFlow {
    /// The weight of its queue, tombstones included.
    pub(crate) weight: u64,
    /// The weight of the flow.
    pub(crate) share: u16,
    /// Whether the flow is held: it runs as much as it may.
    pub(crate) is_held: bool,
}

impl Default for LongestFlow {
    fn default() -> Self {
        Self { weight: 0, share: 1, is_held: false }
    }
}

impl LongestFlow {
    /// Returns whether the flow is longer than another, each for its weight.
    pub(super) fn is_longer_than(&self, other: &Self) -> bool {
        self.weight * u64::from(other.share) > other.weight * u64::from(self.share)
    }
}

/// By priority: the weight that has been cancelled or removed so far. With zeros nobody looks for
/// tombstones.
pub(crate) type Gone = [u64; LEVELS];
