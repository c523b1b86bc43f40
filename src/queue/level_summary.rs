//! The state of a level, as seen from outside.

use std::ops::{AddAssign, SubAssign};

use super::guaranteed_share::LEVELS;

/// The state of a level, the basis for the admission of newcomers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LevelSummary {
    /// The weights of the active flows together.
    pub(crate) shares: u64,
    /// The requests that wait for something other than a slot.
    pub(crate) passed_over: PassedOver,
    /// The first queue to evict from, if any has entries.
    pub(crate) longest: LongestFlow,
    /// The lower bound of the queue's weight, without tombstones.
    pub(crate) surely_longest: u64,
}

/// The states of all levels.
pub(crate) type Summaries = [LevelSummary; LEVELS];

/// The waiting requests that the queue passes over: those of unready inners, and of flows at their
/// limit. With the tombstones among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PassedOver {
    pub(crate) requests: u64,
    /// The sum of the costs.
    pub(crate) weight: u64,
}

impl AddAssign for PassedOver {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.weight += other.weight;
    }
}

impl SubAssign for PassedOver {
    fn sub_assign(&mut self, other: Self) {
        self.requests -= other.requests;
        self.weight -= other.weight;
    }
}

/// The longest flow of a level.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LongestFlow {
    /// The weight of the queue, tombstones included.
    pub(crate) weight: u64,
    /// The weight of the flow.
    pub(crate) share: u16,
    /// Set if the flow is held, at its limit.
    pub(crate) is_held: bool,
}

impl Default for LongestFlow {
    fn default() -> Self {
        Self { weight: 0, share: 1, is_held: false }
    }
}

impl LongestFlow {
    /// Returns whether the flow is longer than the other flow, in proportion to the weights.
    pub(super) fn is_longer_than(&self, other: &Self) -> bool {
        self.weight * u64::from(other.share) > other.weight * u64::from(self.share)
    }
}

/// The weight cancelled or removed so far, by priority. With zeros nobody looks for tombstones.
pub(crate) type Gone = [u64; LEVELS];
