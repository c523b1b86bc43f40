use std::time::Duration;

use tokio::time::Instant;

use super::prediction::histories::Likeness;
use crate::{
    class::{Class, Rank},
    flow_key::FlowKey,
    leveler::{budget::Budget, kind::Kind},
};

/// A request on arrival, before the decision to admit or refuse.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    /// The rank of the request. Its cost is the number of places to take: at most the limit at
    /// arrival.
    pub(crate) rank: Rank,
    /// The hash of the flow from the class, before the leveler's secret was applied.
    pub(crate) flow: u64,
    /// The cost given to the request. Counts again at dispatch, since the limit may rise.
    pub(crate) asked: u32,
    /// The time from arrival to deadline.
    pub(crate) left: Option<Duration>,
    /// The same, as a kind and a fraction.
    pub(crate) budget: Budget,
    /// The kind, once known.
    pub(crate) kind: Kind,
    /// Set if the request is admitted against a prediction, to test the prediction.
    pub(crate) is_probe: bool,
    /// The class's choice of whether to keep the slot until the end of the response body, if any.
    pub(crate) holds_body: Option<bool>,
    /// The time of the arrival, once read from the clock.
    now: Option<Instant>,
}

impl Arrival {
    #[inline(always)]
    pub(crate) fn new(class: &Class, limit: usize, key: &FlowKey) -> Self {
        // The clock is read only if needed: reading costs a quarter of a refusal.
        let now = class.deadline.map(|_| Instant::now());
        Self::seen(now, class, limit, key)
    }

    #[cfg(test)]
    pub(crate) fn at(now: Instant, class: &Class, limit: usize) -> Self {
        Self::seen(Some(now), class, limit, &FlowKey::of(0))
    }

    #[inline(always)]
    fn seen(now: Option<Instant>, class: &Class, limit: usize, key: &FlowKey) -> Self {
        let left = class.deadline.zip(now).map(|(at, now)| at.saturating_duration_since(now));
        let asked = class.rank.cost;
        // A request heavier than the limit could never run. The cast is exact: a limit is below
        // 2^29.
        let rank = Rank {
            cost: asked.clamp(1, limit as u32),
            flow: key.map(class.rank.flow),
            ..class.rank
        };
        let budget = left.map_or(Budget::NONE, Budget::of);
        let (flow, holds_body) = (class.rank.flow, class.holds_body);
        Self { rank, flow, asked, left, budget, kind: Kind::NONE, is_probe: false, holds_body, now }
    }

    /// Returns the facts for a prediction.
    #[inline]
    pub(crate) fn like(&self) -> Likeness {
        Likeness { kind: self.kind, priority: self.rank.priority, budget: self.budget }
    }

    /// Returns the time of the arrival, the same at every call.
    #[inline]
    pub(crate) fn now(&mut self) -> Instant {
        *self.now.get_or_insert_with(Instant::now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_heavier_than_the_limit_asks_for_no_more_than_that() {
        let cost = |cost| Arrival::new(&Class::new().cost(cost), 4, &FlowKey::of(0)).rank.cost;
        assert_eq!(cost(100), 4, "so it runs, alone");
        assert_eq!([3, 0].map(cost), [3, 1]);
    }
}
