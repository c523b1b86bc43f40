use super::{
    cutoff::{COHORTS, Cut, SHED_LEVELS},
    demand::FlowDemand,
};
use crate::{
    class::Rank,
    sync::figure::{AtomicU32, Ordering::Relaxed},
};

/// The arrivals of the current window by shed level, and the demand of each flow.
#[derive(Debug)]
pub(super) struct Arrivals {
    counts: [AtomicU32; SHED_LEVELS],
    demand: FlowDemand,
}

impl Arrivals {
    pub(super) fn new() -> Self {
        Self { counts: [const { AtomicU32::new(0) }; SHED_LEVELS], demand: FlowDemand::new() }
    }

    /// Counts a request. Returns the shed level; level 0 is the last to be refused.
    #[inline]
    pub(super) fn count(&self, rank: Rank, cohort: u64) -> u32 {
        let level = rank.priority.index() as u32 * COHORTS + (cohort % u64::from(COHORTS)) as u32;
        if let Some(count) = self.counts.get(level as usize) {
            count.fetch_add(1, Relaxed);
        }
        self.demand.count(rank);
        level
    }

    /// Returns whether the flow has asked for at most a fair share.
    pub(super) fn is_light(&self, rank: Rank) -> bool {
        self.demand.is_light(rank)
    }

    /// Takes the counts of the ending window.
    pub(super) fn take(&self) -> [u32; SHED_LEVELS] {
        self.counts.each_ref().map(|count| count.swap(0, Relaxed))
    }

    /// Finds the flows of little demand under the new cutoff. `remembered` is the weight of all
    /// windows in the counts of demand.
    pub(super) fn on_window(&self, cut: Option<Cut>, remembered: f64) {
        self.demand.on_window(cut, remembered);
    }
}
