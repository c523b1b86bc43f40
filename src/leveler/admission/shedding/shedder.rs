use std::time::Duration;

use tokio::time::Instant;

use super::{arrivals::Arrivals, cutoff::OPEN};
use crate::{
    class::{NO_FLOW, Priority},
    flow_key::FlowKey,
    leveler::admission::{arrival::Arrival, flow_limit::FlowLimit, occupancy::Occupancy},
    rng::{mix, seed},
    sync::figure::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
};

/// The length of a window, as in DAGOR. A longer window reacts later, a shorter window to noise.
pub(crate) const WINDOW: Duration = Duration::from_secs(1);

/// The divisor of the limit for a cut-off priority: a fourth of the limit may still wait. The
/// guaranteed share then always finds a request.
const KEPT_PART: usize = 4;

/// Decides whether to refuse a newcomer for its priority.
#[derive(Debug)]
pub(crate) struct Shedder {
    /// Set once a request of another priority than the default has come. Until then nothing is
    /// counted.
    has_priorities: AtomicBool,
    pub(super) arrivals: Arrivals,
    /// The first shed level to be refused.
    cutoff: AtomicU32,
    /// The instant up to which the cutoff holds, in microseconds after `origin`. The drain task
    /// would lift the cutoff, but does not run while nothing happens.
    until: AtomicU64,
    /// The secret part of the choice of cohorts.
    cohort_key: FlowKey,
    /// Hours since 1970, as of the last window. Cohorts change by the hour, the same in all
    /// services with one secret.
    hour: AtomicU64,
    /// The time since 1970 at `origin`.
    since_1970: Duration,
    origin: Instant,
}

impl Shedder {
    /// `hour` is the hour since 1970, if not to be taken from the clock.
    pub(crate) fn new(origin: Instant, cohort_key: FlowKey, hour: Option<u64>) -> Self {
        let since_1970 = match hour {
            Some(hour) => Duration::from_secs(hour.saturating_mul(3600)),
            // A date. Durations are measured by tokio's clock (law 13).
            None => std::time::UNIX_EPOCH.elapsed().unwrap_or_default(),
        };
        Self {
            has_priorities: AtomicBool::new(false),
            arrivals: Arrivals::new(),
            cutoff: AtomicU32::new(OPEN),
            until: AtomicU64::new(0),
            cohort_key,
            hour: AtomicU64::new(since_1970.as_secs() / 3600),
            since_1970,
            origin,
        }
    }

    /// Counts an arrival. Returns whether the priority lets the request in.
    #[inline]
    pub(crate) fn admits(
        &self,
        arrival: &mut Arrival,
        limit: usize,
        occupancy: &Occupancy,
        flow_limit: &FlowLimit,
        is_slot_free: impl FnOnce() -> bool,
    ) -> bool {
        let is_default = arrival.rank.priority == Priority::default();
        if is_default && !self.has_priorities.load(Relaxed) {
            return true;
        }
        self.admits_by_priority(arrival, limit, occupancy, flow_limit, is_slot_free)
    }

    fn admits_by_priority(
        &self,
        arrival: &mut Arrival,
        limit: usize,
        occupancy: &Occupancy,
        flow_limit: &FlowLimit,
        is_slot_free: impl FnOnce() -> bool,
    ) -> bool {
        if !self.has_priorities.load(Relaxed) {
            self.has_priorities.store(true, Relaxed);
        }
        let rank = arrival.rank;
        if flow_limit.is_full(rank) {
            // The request will wait for calls of its own flow, and not for a slot. Such requests
            // are no part of the overload.
            return true;
        }
        // The hash shared by all processes.
        let agreed = arrival.flow;
        let cohort = if agreed == NO_FLOW {
            // Requests without a flow are spread over all cohorts: no flow needs fairness.
            mix(seed())
        } else {
            mix(self.cohort_key.map(agreed) ^ mix(self.hour.load(Relaxed)))
        };
        let level = self.arrivals.count(rank, cohort);
        let cutoff = self.cutoff.load(Relaxed);
        cutoff == OPEN || {
            let is_over = || occupancy.eligible() == 0 && is_slot_free();
            self.admits_below(cutoff, level, arrival, limit, occupancy, is_over)
        }
    }

    /// Returns whether a cutoff lets in a request at the shed level `level`.
    #[cold]
    fn admits_below(
        &self,
        cutoff: u32,
        level: u32,
        arrival: &mut Arrival,
        limit: usize,
        occupancy: &Occupancy,
        is_over: impl FnOnce() -> bool,
    ) -> bool {
        if is_over() {
            // The overload is over. The drain task would notice at the end of the window.
            self.cutoff.store(OPEN, Relaxed);
            return true;
        }
        let rank = arrival.rank;
        level < cutoff
            || self.arrivals.is_light(rank)
            || occupancy.eligible_weight(rank.priority) < limit.div_ceil(KEPT_PART) as u64
            || self.micros(arrival.now()) > self.until.load(Relaxed)
    }

    pub(crate) fn has_priorities(&self) -> bool {
        self.has_priorities.load(Relaxed)
    }

    /// Returns whether a newcomer that found a free slot has lifted the cutoff.
    pub(super) fn is_open(&self) -> bool {
        self.cutoff.load(Relaxed) == OPEN
    }

    /// Makes `level` the first shed level to be refused, for two windows at most.
    pub(super) fn set_cutoff(&self, level: u32, now: Instant) {
        self.cutoff.store(level, Relaxed);
        self.until.store(self.micros(now + 2 * WINDOW), Relaxed);
        let since_1970 = self.since_1970 + now.saturating_duration_since(self.origin);
        self.hour.store(since_1970.as_secs() / 3600, Relaxed);
    }

    fn micros(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.origin);
        since.as_secs() * 1_000_000 + u64::from(since.subsec_micros())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::cutoff::COHORTS, *};
    use crate::leveler::admission::flow_weights::FlowPlace;
    use crate::{
        class::Class,
        queue::{LevelSummary, PassedOver},
    };

    #[test]
    fn a_priority_that_is_cut_off_keeps_a_little_waiting() {
        let start = Instant::now();
        let shedder = Shedder::new(start, FlowKey::of(0), None);
        shedder.set_cutoff(0, start);
        let occupancy = Occupancy::new(1000);
        let low = Class::new().priority(Priority::Low);
        let admits = |limit: usize, now: Instant| {
            let mut arrival = Arrival::at(now, &low, limit);
            shedder.admits(&mut arrival, limit, &occupancy, &FlowLimit::new(None), || false)
        };
        assert!(admits(4, start));
        occupancy.on_queued(low.rank);
        assert!(!admits(4, start));
        assert!(admits(5, start));
        assert!(admits(4, start + 3 * WINDOW), "nobody was there to lift the cutoff");
    }

    #[test]
    fn a_newcomer_that_finds_nothing_waiting_and_a_free_slot_lifts_the_cutoff() {
        let start = Instant::now();
        let shedder = Shedder::new(start, FlowKey::of(0), None);
        shedder.set_cutoff(0, start);
        let occupancy = Occupancy::new(1000);
        let low = Class::new().priority(Priority::Low);
        let admits = |is_slot_free: bool| {
            let mut arrival = Arrival::at(start, &low, 4);
            shedder.admits(&mut arrival, 4, &occupancy, &FlowLimit::new(None), || is_slot_free)
        };
        occupancy.on_queued(low.rank);
        assert!(!admits(true), "a request waits");
        occupancy.on_gone(low.rank, FlowPlace::NONE);
        assert!(admits(true));
        occupancy.on_queued(low.rank);
        assert!(admits(false), "and the next, which finds the first still waiting");
    }

    #[test]
    fn a_flow_at_its_limit_is_no_part_of_the_overload() {
        let start = Instant::now();
        let shedder = Shedder::new(start, FlowKey::of(0), None);
        let (occupancy, flow_limit) = (Occupancy::new(1000), FlowLimit::new(Some(4)));
        let low = |flow: &str| Class::new().priority(Priority::Low).flow(flow);
        let admits = |flow| {
            let mut arrival = Arrival::at(start, &low(flow), 4);
            shedder.admits(&mut arrival, 4, &occupancy, &flow_limit, || false)
        };
        assert!(admits("full"));
        flow_limit.on_changed(Arrival::at(start, &low("full"), 4).rank.flow, true);
        shedder.arrivals.take();
        shedder.set_cutoff(0, start);
        occupancy.on_queued(low("other").rank);
        assert!(admits("full") && !admits("other"));
        assert_eq!(shedder.arrivals.take().iter().sum::<u32>(), 1, "the other one");
    }

    #[test]
    fn held_requests_neither_keep_the_cutoff_nor_take_the_room_of_others() {
        let start = Instant::now();
        let shedder = Shedder::new(start, FlowKey::of(0), None);
        let (occupancy, flow_limit) = (Occupancy::new(1000), FlowLimit::new(Some(4)));
        let low = |flow: &str| Class::new().priority(Priority::Low).flow(flow);
        let admits = |is_slot_free: bool| {
            let mut arrival = Arrival::at(start, &low("other"), 4);
            shedder.admits(&mut arrival, 4, &occupancy, &flow_limit, || is_slot_free)
        };
        shedder.set_cutoff(0, start);
        occupancy.on_queued(low("full").rank);
        assert!(!admits(false));
        let mut summaries = [LevelSummary::default(); Priority::ALL.len()];
        let passed_over = PassedOver { requests: 1, weight: 1 };
        summaries[Priority::Low.index()] = LevelSummary { passed_over, ..LevelSummary::default() };
        occupancy.publish(summaries, &occupancy.departed());
        assert!(admits(false), "nothing of the priority waits for a slot");
        assert!(!shedder.is_open());
        assert!(admits(true) && shedder.is_open());
    }

    #[test]
    fn flows_chosen_by_the_cohort_of_the_hour_are_cut_off_like_all_others() {
        let start = Instant::now();
        let shedder = Shedder::new(start, FlowKey::random(), None);
        // The first tenth of the cohorts is served.
        shedder.set_cutoff(Priority::Low as u32 * COHORTS + COHORTS / 10, start);
        let (occupancy, no_limit) = (Occupancy::new(1000), FlowLimit::new(None));
        let low = |flow| Class::new().priority(Priority::Low).flow(flow);
        occupancy.on_queued(low(0).rank);
        let hour = shedder.hour.load(Relaxed);
        let chosen = |class: &Class| mix(class.rank.flow ^ mix(hour)) % u64::from(COHORTS) == 0;
        let served = |classes: Vec<Class>| {
            let count = classes.len() as f64;
            let served = classes.iter().filter(|class| {
                let mut arrival = Arrival::at(start, class, 1);
                shedder.admits(&mut arrival, 1, &occupancy, &no_limit, || false)
            });
            served.count() as f64 / count
        };
        let honest = served((0..2000_u32).map(low).collect());
        let attackers = served((0..).map(low).filter(chosen).take(2000).collect());
        assert!((honest - attackers).abs() < 0.05, "{honest} and {attackers}");
    }
}
