use tokio::time::Instant;

use crate::leveler::{core::Core, panics::contain};

/// Answers the waiting requests of a dead inner. No request takes a slot, or waits for its turn.
#[inline]
pub(super) fn bury(core: &Core) {
    if core.link.has_dead() {
        bury_dead(core);
    }
}

#[cold]
fn bury_dead(core: &Core) {
    for job in core.link.take_dead() {
        // The dispatch finds the inner dead, and answers `ServiceError`.
        let now = Instant::now();
        let waited = job.waited(now);
        contain(|| job.dispatch(now, waited, None, &mut None, None));
    }
}
