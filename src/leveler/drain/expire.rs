use tokio::time::Instant;

use super::BATCH;
use crate::{
    error::Reason,
    leveler::{core::Core, panics::contain},
};

/// Removes the requests past the wait limit or deadline, up to a batch. Returns whether more may be
/// late. `now` is read anew for each.
pub(super) fn expire(core: &Core, now: &mut Instant) -> bool {
    for _ in 0..BATCH {
        let late = {
            let mut backlog = core.link.backlog();
            if backlog.queue.next_late().is_none() {
                return false;
            }
            *now = Instant::now();
            backlog.queue.pop_late(*now)
        };
        let Some(job) = late else { return false };
        let reason = job.late().map_or(Reason::MaxWait, |late| late.reason);
        let is_removed = contain(|| job.remove(reason.into()));
        if is_removed == Some(false) && !job.has_left() {
            // Just taken up for a dispatch, perhaps to be put back.
            core.link.backlog().queue.register_late(&job);
        }
    }
    true
}
