use tokio::time::Instant;

use super::{admission::Admission, core::Core};
use crate::{
    class::Priority,
    stats::{Counters, Histogram, PriorityStats, Recorder, Stats},
};

/// Takes a snapshot of everything.
pub(crate) fn stats(core: &Core) -> Stats {
    let now = Instant::now();
    let Admission { occupancy, counters, predictor, removed_wait, .. } = &core.admission;
    let oldest = core.link.backlog().oldest_admitted(occupancy.queued());
    let counts = core.counts();
    let (waiting_for_place, since) = core.admission.listeners.waitlist.longest_wait();
    let place_wait = core.metrics.place_wait.get().map(Recorder::snapshot);
    let Counters {
        direct,
        queued,
        succeeded,
        failed,
        overloaded,
        cancelled,
        panicked,
        refused,
        removed,
    } = counters;
    let direct_calls = direct.get();
    Stats {
        queued: occupancy.queued(),
        in_flight: core.admission.running(),
        limit: core.admission.limit(),
        capacity: core.admission.capacity(),
        oldest_wait: oldest.map(|admitted| now.saturating_duration_since(admitted)),
        admitted: direct_calls + queued.get(),
        succeeded: succeeded.get(),
        failed: failed.get(),
        overloaded: overloaded.get(),
        cancelled: cancelled.get(),
        panicked: panicked.get(),
        refused: refused.snapshot(),
        removed: removed.snapshot(),
        bypassing: core.admission.bypassing(),
        slots_taken: counts.in_flight(),
        paused: counts.is_paused(),
        closed: counts.is_closed(),
        drain_rate: predictor.drain_rate.per_second(),
        wait: core.metrics.wait.snapshot().with_zeros(direct_calls),
        removed_wait: removed_wait.snapshot(),
        waiting_for_place,
        reserved: core.admission.reserved(),
        longest_wait_for_place: since.map(|since| now.saturating_duration_since(since)),
        wait_for_place: place_wait.unwrap_or_else(Histogram::empty),
        service_time: core.metrics.service_time.snapshot(),
        period: now.saturating_duration_since(core.metrics.built),
        taken: now,
        priorities: Priority::EACH.map(|priority| PriorityStats {
            queued: occupancy.queued_of(priority),
            admitted: direct.of(priority) + queued.of(priority),
            refused: refused.of(priority),
            removed: removed.of(priority),
        }),
    }
}
