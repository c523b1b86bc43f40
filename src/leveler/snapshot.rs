use tokio::time::Instant;

use super::{admission::Admission, core::Core};
use crate::{
    class::Priority,
    stats::{Count, Histogram, PriorityStats, ReasonCounts, Stats},
};

/// Takes a snapshot of everything.
pub(crate) fn stats(core: &Core) -> Stats {
    let now = Instant::now();
    let Admission { occupancy, predictor, flows, .. } = &core.admission;
    let (oldest, is_stale) = core.link.backlog().oldest_admitted(occupancy.queued());
    if is_stale {
        // The drain task looks for the oldest request.
        core.wake();
    }
    let counts = core.counts();
    let (waiting_for_place, since) = core.admission.listeners.waitlist.longest_wait();
    let priorities = Priority::EACH.map(|priority| of_priority(core, priority));
    // Summed here, so that the totals equal the sum of the parts at each instant.
    let count = |of: fn(&PriorityStats) -> u64| priorities.iter().map(of).sum();
    let reasons = |of: fn(&PriorityStats) -> ReasonCounts| {
        priorities.iter().map(of).fold(ReasonCounts::default(), ReasonCounts::plus)
    };
    let times = |of: fn(&PriorityStats) -> &Histogram| {
        priorities.iter().map(of).fold(Histogram::default(), Histogram::plus)
    };
    Stats {
        queued: priorities.iter().map(|level| level.queued).sum(),
        in_flight: core.admission.running(),
        limit: core.admission.limit(),
        capacity: core.admission.capacity(),
        oldest_wait: oldest.map(|admitted| now.saturating_duration_since(admitted)),
        admitted: count(|level| level.admitted),
        succeeded: count(|level| level.succeeded),
        failed: count(|level| level.failed),
        overloaded: count(|level| level.overloaded),
        cancelled: count(|level| level.cancelled),
        panicked: count(|level| level.panicked),
        refused: reasons(|level| level.refused),
        removed: reasons(|level| level.removed),
        bypassing: core.admission.bypassing(),
        slots_taken: counts.in_flight(),
        paused: counts.is_paused(),
        closed: counts.is_closed(),
        drain_rate: predictor.drain_rate.per_second(),
        wait: times(|level| &level.wait),
        removed_wait: times(|level| &level.removed_wait),
        waiting_for_place,
        reserved: core.admission.reserved(),
        longest_wait_for_place: since.map(|since| now.saturating_duration_since(since)),
        wait_for_place: core.metrics.place_wait.snapshot(),
        service_time: core.metrics.service_time.snapshot(),
        limit_view: core.limiter.view(),
        flows: flows.as_ref().map(|flows| flows.snapshot()).unwrap_or_default(),
        period: now.saturating_duration_since(core.metrics.built),
        taken: now,
        priorities,
    }
}

fn of_priority(core: &Core, priority: Priority) -> PriorityStats {
    let Admission { occupancy, counters, removed_wait, .. } = &core.admission;
    let counts = counters.of(priority);
    let direct = counts.get(Count::Direct);
    PriorityStats {
        queued: occupancy.queued_of(priority),
        admitted: direct + counts.get(Count::Queued),
        succeeded: counts.get(Count::Succeeded),
        failed: counts.get(Count::Failed),
        overloaded: counts.get(Count::Overloaded),
        cancelled: counts.get(Count::Cancelled),
        panicked: counts.get(Count::Panicked),
        refused: counters.refused(priority),
        removed: counters.removed(priority),
        wait: core.metrics.wait.snapshot(priority).with_zeros(direct),
        removed_wait: removed_wait.snapshot(priority),
    }
}
