use crate::{
    error::Reason,
    leveler::{admission::overrun::Overrun, core::Core, link::job::Removal, panics::contain},
    options::Overflow,
    queue::Victim,
};

/// Removes requests in favour of requests admitted over the bound.
pub(super) fn evict(core: &Core) {
    let admission = &core.admission;
    let evicts_oldest = core.settings.overflow == Overflow::EvictOldest;
    let mut overrun = Overrun::take(admission);
    let is_over = || admission.counts().held() > admission.total();
    while is_over() && (evicts_oldest || !overrun.is_settled()) {
        let gone = admission.occupancy.departed().gone;
        let mut backlog = core.link.backlog();
        let victim = if evicts_oldest {
            backlog.pop_oldest(&gone).map(|job| (job, Reason::Evicted.into()))
        } else {
            backlog.queue.evict(&gone).map(|victim| {
                let Victim { entry, reason, over_share } = victim;
                // In shared queues a short flow may be the victim beside a long flow.
                let over_share = over_share && admission.is_over_share(entry.rank);
                (entry.item, Removal { reason, over_share })
            })
        };
        drop(backlog);
        let Some((job, why)) = victim else {
            // The newly admitted requests are not sent yet. The overrun goes on.
            return;
        };
        overrun.on_evicted(job.rank().cost as usize);
        contain(|| job.remove(why));
    }
    overrun.forgive();
}
