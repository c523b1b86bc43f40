//! The facts about a waiting request.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    class::Rank,
    error::Reason,
    leveler::{
        admission::{arrival::Arrival, prediction::histories::Likeness},
        budget::Budget,
        kind::Kind,
        link::job::{AtTurn, Late},
        max_wait::After,
    },
};

/// The facts about a request at admission.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) rank: Rank,
    /// The cost given to the request. Counts again at dispatch, since the limit may rise.
    pub(super) asked: u32,
    pub(super) admitted: Instant,
    max_wait: After,
    deadline: After,
    pub(super) budget: Budget,
    pub(super) kind: Kind,
    is_probe: bool,
    pub(super) holds_body: Option<bool>,
}

impl Terms {
    #[inline]
    pub(super) fn new(arrival: &mut Arrival, max_wait: After) -> Self {
        let Arrival { rank, asked, left, budget, kind, is_probe, holds_body, .. } = *arrival;
        let deadline = After::new(left);
        let admitted = arrival.now();
        Self { rank, asked, admitted, max_wait, deadline, budget, kind, is_probe, holds_body }
    }

    /// Returns the earlier of the two limits, and the deadline if both are equal.
    #[inline]
    pub(super) fn late(&self) -> Option<Late> {
        let (after, reason) = self.late_after()?;
        after.of(self.admitted).map(|at| Late { at, reason })
    }

    /// Returns the earlier of the two limits as the time after admission.
    #[inline]
    fn late_after(&self) -> Option<(After, Reason)> {
        if self.deadline.is_never() && self.max_wait.is_never() {
            return None;
        }
        Some(match self.deadline <= self.max_wait {
            true => (self.deadline, Reason::Deadline),
            false => (self.max_wait, Reason::MaxWait),
        })
    }

    /// Returns the state of the request at its turn, after it has waited for `waited`. A time of
    /// exactly now has passed.
    #[inline]
    pub(super) fn at_turn(&self, waited: Duration) -> AtTurn {
        let Some((after, reason)) = self.late_after() else { return AtTurn::InTime };
        let waited = After::new(Some(waited));
        if waited >= after {
            return AtTurn::Late(reason);
        }
        let Self { rank: Rank { priority, .. }, kind, budget, is_probe, .. } = *self;
        match self.deadline.later_than(waited) {
            Some(left) if !is_probe => AtTurn::ToPredict(Likeness { kind, priority, budget }, left),
            _ => AtTurn::InTime,
        }
    }
}
