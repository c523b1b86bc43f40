use std::{iter::Sum, ops::Add};

/// A number of requests, and the weight: the sum of the costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct QueueSize {
    pub(crate) requests: u64,
    pub(crate) weight: u64,
}

impl QueueSize {
    /// Returns a part of this weight, with a number of requests by the mean cost of all.
    pub(super) fn part(self, weight: u64) -> Self {
        Self { requests: (self.requests * weight).div_ceil(self.weight.max(1)), weight }
    }
}

impl Add for QueueSize {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let (requests, weight) = (self.requests + other.requests, self.weight + other.weight);
        Self { requests, weight }
    }
}

impl Sum for QueueSize {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}
