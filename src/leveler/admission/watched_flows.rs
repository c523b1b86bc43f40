//! The busiest flows: the choice of the calls to count, and the list.

use std::cell::Cell;

use super::arrival::Arrival;
use crate::{
    class::NO_FLOW,
    rng::{mix, seed},
    stats::{FlowId, FlowStats, SpaceSaving},
    sync::Mutex,
};

/// The busiest flows, if [`Builder::watch_flows`](crate::Builder::watch_flows) is set.
///
/// One call in eight is counted, for eight: the rest only decrement a number of their thread. The
/// gaps between counted calls are drawn at random, so no flow hides in the rhythm of other flows.
/// The list is behind a lock, and no call waits for the lock: if a call finds the list locked, it
/// is not counted.
#[derive(Debug)]
pub(crate) struct WatchedFlows(Mutex<SpaceSaving>);

/// The mean number of calls to a counted call. Fewer cost more, more say less about rare flows.
const OF: u64 = 8;

impl WatchedFlows {
    /// Returns a list of `flows` flows. None for 0.
    pub(super) fn new(flows: usize) -> Option<Box<Self>> {
        (flows > 0).then(|| Box::new(Self(Mutex::new(SpaceSaving::new(flows)))))
    }

    /// Counts an arriving request.
    #[inline(never)]
    pub(super) fn on_asked(&self, arrival: &Arrival) {
        if arrival.flow != NO_FLOW && is_counted() {
            let id = || FlowId::salted(arrival.flow);
            self.0.try_with(|list| list.ask(arrival.rank.flow, OF, id));
        }
    }

    /// Counts a refused or removed request.
    #[cold]
    pub(super) fn on_rejected(&self, flow: u64) {
        if flow != NO_FLOW && is_counted() {
            self.0.try_with(|list| list.reject(flow, OF));
        }
    }

    /// Returns the flows on the list, the busiest first.
    pub(crate) fn snapshot(&self) -> Vec<FlowStats> {
        self.0.with(|list| list.flows())
    }
}

/// Returns true for one call in [`OF`].
#[inline]
fn is_counted() -> bool {
    thread_local! {
        static TO_SKIP: Cell<u64> = const { Cell::new(0) };
    }
    // An ending thread has no locals any more. Its requests do not matter.
    let counted = TO_SKIP.try_with(|to_skip| match to_skip.get() {
        0 => {
            // From 0 to 14, with a mean of 7.
            to_skip.set(mix(seed()) % (2 * OF - 1));
            true
        }
        left => {
            to_skip.set(left - 1);
            false
        }
    });
    counted.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_call_in_eight_is_counted_in_no_rhythm() {
        let counted: Vec<_> = (0..80_000).filter(|_| is_counted()).collect();
        assert!((9_500..10_500).contains(&counted.len()), "{}", counted.len());
        for rhythm in 2..=16 {
            let mut hits = vec![0; rhythm];
            counted.iter().for_each(|call| hits[call % rhythm] += 1);
            let fair = counted.len() / rhythm;
            assert!(hits.iter().all(|hits| (fair / 2..2 * fair).contains(hits)), "{hits:?}");
        }
    }
}
