use std::{fmt, sync::Arc, time::Duration};

use crate::{
    error::Reason,
    leveler::{front::Leveler, snapshot},
    stats::Stats,
};

/// Observes and controls a leveler. Made by
/// [`LoadLevelLayer::handle`](crate::LoadLevelLayer::handle).
///
/// Clones control the same leveler. A handle keeps the leveler alive, as a layer and a service do.
#[derive(Clone)]
pub struct Handle {
    leveler: Arc<Leveler>,
}

/// The report of [`Handle::drain`], from the call to the end of the drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainReport {
    /// Requests finished: with a response, an error or a panic, or given up by the caller.
    pub finished: u64,
    /// Requests removed from the queue: at the deadline of the drain, or earlier for another
    /// reason.
    pub removed: u64,
    /// Calls still running: they had not ended by the deadline, and may never end. A server waiting
    /// for all connections waits for these calls too, and needs a hard stop if the number is above
    /// 0.
    pub in_flight: usize,
}

impl Handle {
    pub(crate) fn new(leveler: Arc<Leveler>) -> Self {
        Self { leveler }
    }

    /// Returns a snapshot of the leveler's state and counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        snapshot::stats(&self.leveler.core)
    }

    /// Sets the limit, with immediate effect. A lower limit is reached as running calls finish;
    /// after raising the limit, as many requests as now fit are dispatched. An
    /// [adaptive](crate::Builder::adaptive) limit stays at the value set with this method.
    ///
    /// A limit of 0 is ignored with a `warn` event. To stop dispatch, use [`pause`](Self::pause).
    pub fn set_limit(&self, limit: usize) {
        let core = &self.leveler.core;
        if limit == 0 {
            let name = &*core.settings.name;
            tracing::warn!(%name, "limit of 0 ignored, use `pause` to stop dispatch");
            return;
        }
        core.set_limit(limit);
    }

    /// Sets the capacity, with immediate effect. After lowering the capacity, waiting requests
    /// stay, and no request is admitted until there is room again. Under
    /// [`Overflow::EvictOldest`](crate::Overflow::EvictOldest) the oldest requests are evicted.
    pub fn set_capacity(&self, capacity: usize) {
        self.leveler.core.admission.set_capacity(capacity);
    }

    /// Sets how long new requests may wait. Requests already waiting keep the previous wait limit.
    /// With zero, a request is rejected at once unless dispatched directly.
    pub fn set_max_wait(&self, max_wait: Option<Duration>) {
        self.leveler.core.admission.max_wait.set(max_wait);
    }

    /// Stops dispatch. Requests are still admitted while there are places; `max_wait` and deadlines
    /// keep running. Ignored after [`close`](Self::close).
    pub fn pause(&self) {
        self.leveler.core.pause();
    }

    /// Resumes dispatch after [`pause`](Self::pause).
    pub fn resume(&self) {
        self.leveler.core.resume();
    }

    /// Refuses new requests with [`Reason::Closed`], and lets admitted requests finish. Ends a
    /// pause. A closed leveler cannot be reopened.
    pub fn close(&self) {
        let core = &self.leveler.core;
        if core.close() {
            tracing::info!(name = %core.settings.name, "closed");
        }
    }

    /// Returns whether the leveler has been closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.leveler.core.counts().is_closed()
    }

    /// Closes the leveler and waits until all admitted requests have finished, at most for
    /// `deadline`. At the deadline, removes the requests still waiting, with [`Reason::Closed`],
    /// and leaves running calls alone: see [`DrainReport::in_flight`].
    ///
    /// # Cancel safety
    ///
    /// If dropped before the end, the leveler stays closed and no request is removed.
    pub async fn drain(&self, deadline: Duration) -> DrainReport {
        let core = &self.leveler.core;
        let counters = &core.admission.counters;
        let (finished, removed) = (counters.ended(), counters.removed.total());
        self.close();
        if tokio::time::timeout(deadline, self.idle()).await.is_err() {
            core.dismiss();
        }
        DrainReport {
            finished: counters.ended().saturating_sub(finished),
            removed: counters.removed.total().saturating_sub(removed),
            in_flight: core.admission.running(),
        }
    }

    /// Waits until no request waits and no call runs.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: may be dropped and called again.
    pub async fn idle(&self) {
        let core = &self.leveler.core;
        core.admission.listeners.idle.wait_until(|| core.admission.unfinished() == 0).await;
    }

    /// Removes all waiting requests with [`Reason::Closed`], and returns their number. The leveler
    /// stays open.
    #[allow(clippy::must_use_candidate, reason = "the removal is the point, the count is news")]
    pub fn abort_queued(&self) -> usize {
        self.leveler.core.link.remove_all(Reason::Closed)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { leveler } = self;
        f.debug_struct("Handle").field("leveler", &leveler.core).finish()
    }
}
