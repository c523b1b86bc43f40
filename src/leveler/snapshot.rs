//! A look at everything at once.

use std::sync::atomic::Ordering::SeqCst;

use tokio::time::Instant;

use crate::leveler::Core;
use crate::{
    class::Priority,
    stats::{Counters, PriorityStats, Stats},
};

impl Core {
    pub(crate) fn stats(&self) -> Stats {
        let now = Instant::now();
        let oldest = self.backlog().oldest_admitted();
        let Self { places, counters, wait, service_time, rate, .. } = self;
        let Counters {
            direct,
            queued,
            succeeded,
            failed,
            overloaded,
            cancelled,
            panicked,
            refused,
            cut_off,
            removed,
        } = counters;
        let direct_calls = direct.get();
        Stats {
            queued: self.queued(),
            in_flight: self.in_flight(),
            limit: places.limit(),
            capacity: places.capacity(),
            oldest_wait: oldest.map(|admitted| now.saturating_duration_since(admitted)),
            admitted: direct_calls + queued.get(),
            succeeded: succeeded.get(),
            failed: failed.get(),
            overloaded: overloaded.get(),
            cancelled: cancelled.get(),
            panicked: panicked.get(),
            refused: refused.snapshot(),
            removed: removed.snapshot(),
            bypassing: self.bypassing.load(SeqCst),
            slots_taken: places.counts().in_flight(),
            drain_rate: rate.per_second(),
            wait: wait.snapshot().with_zeros(direct_calls),
            service_time: service_time.snapshot(),
            priorities: Priority::ALL.map(|priority| PriorityStats {
                queued: self.door.waiting_of(priority),
                admitted: direct.of(priority) + queued.of(priority),
                refused: refused.of(priority),
                cut_off: cut_off.of(priority),
                removed: removed.of(priority),
            }),
        }
    }
}
