use crate::class::Rank;

/// The length of a flow: what it has waiting, and the weight by which it is due a share.
#[derive(Clone, Copy, Debug)]
pub(super) struct FlowLength {
    /// The sum of the costs.
    pub(super) weight: u64,
    /// The weight of the flow.
    pub(super) share: u64,
}

impl FlowLength {
    /// The bits of the share in a word. Weights fit beside them, since all places together number
    /// less than 2^32.
    const SHARE: u32 = 16;

    /// Returns the length of the newcomer's flow, of which `own` waits, with the newcomer.
    pub(super) fn with_newcomer(rank: Rank, own: u64) -> Self {
        Self { weight: own + u64::from(rank.cost), share: rank.share.into() }
    }

    /// Returns the word for a flow: 0 if nothing of it waits.
    pub(super) fn word(weight: u64, share: u16) -> u64 {
        if weight == 0 { 0 } else { weight << Self::SHARE | u64::from(share) }
    }

    pub(super) fn of(word: u64) -> Self {
        Self { weight: word >> Self::SHARE, share: word % (1 << Self::SHARE) }
    }

    /// Returns whether a flow is shorter than another, each for its share.
    pub(super) fn is_below(self, other: Self) -> bool {
        self.weight * other.share < other.weight * self.share
    }
}
