use crate::{class::Rank, queue::LongestFlow};

/// The length of a flow: the waiting requests, and the weight for the share.
#[derive(Clone, Copy, Debug)]
pub(super) struct FlowLength {
    /// The sum of the costs.
    pub(super) weight: u64,
    /// The weight of the flow.
    pub(super) share: u64,
    /// Set if the flow is held, at its limit.
    pub(super) is_held: bool,
}

impl FlowLength {
    /// The bits of the share in a word, with the uppermost for `is_held`. Weights fit into the
    /// other bits, since all places together number less than 2^32.
    const SHARE: u32 = 16;
    const HELD: u64 = 1 << 15;

    /// Returns the length of the newcomer's flow, with `own` waiting before the newcomer.
    pub(super) fn with_newcomer(rank: Rank, own: u64) -> Self {
        Self { weight: own + u64::from(rank.cost), share: rank.share.into(), is_held: false }
    }

    /// Returns the word for a flow: 0 if the flow has nothing waiting.
    pub(super) fn word(weight: u64, flow: LongestFlow) -> u64 {
        let held = if flow.is_held { Self::HELD } else { 0 };
        if weight == 0 { 0 } else { weight << Self::SHARE | u64::from(flow.share) | held }
    }

    pub(super) fn of(word: u64) -> Self {
        let (share, is_held) = (word % Self::HELD, word & Self::HELD != 0);
        Self { weight: word >> Self::SHARE, share, is_held }
    }

    /// Returns whether a flow is shorter than the other, in proportion to the shares.
    pub(super) fn is_below(self, other: Self) -> bool {
        self.weight * other.share < other.weight * self.share
    }
}
