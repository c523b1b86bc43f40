use std::{fmt, sync::Arc, time::Duration};

use crate::{error::Reason, leveler::Leveler, stats::Stats};

/// Watches and steers a leveler; made by [`LoadLevelLayer::handle`](crate::LoadLevelLayer::handle).
///
/// Clones steer the same leveler. A handle keeps it alive, as a layer and a service do.
#[derive(Clone)]
pub struct Handle {
    leveler: Arc<Leveler>,
}

/// What happened from the call of [`Handle::drain`] to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainReport {
    /// Requests that came to their own end: a response, an error, a panic, or given up by their caller.
    pub finished: u64,
    /// Requests that were removed from the queue: at the deadline, or before it for a reason of their own.
    pub removed: u64,
    /// Calls that still run: they have not ended by the deadline, and may never do. A server that waits for its
    /// connections waits for them, so above 0 it needs a hard stop.
    pub in_flight: usize,
}

impl Handle {
    pub(crate) fn new(leveler: Arc<Leveler>) -> Self {
        Self { leveler }
    }

    /// Returns a snapshot of what the leveler is doing and has done.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.leveler.core.stats()
    }

    /// Sets the limit, now. A lower one takes effect as running calls finish; a higher one dispatches as
    /// many as now fit. An [adaptive](crate::Builder::adaptive) limit stays what it is set to here.
    ///
    /// 0 is ignored with a `warn` event: to stop dispatch, [`pause`](Self::pause).
    pub fn set_limit(&self, limit: usize) {
        let core = &self.leveler.core;
        if limit == 0 {
            let name = &*core.settings.name;
            tracing::warn!(%name, "limit of 0 ignored, use `pause` to stop dispatch");
            return;
        }
        core.set_limit(limit);
    }

    /// Sets the capacity, now. With a lower one those who wait stay, and nobody is admitted until there is
    /// room again; under [`Overflow::EvictOldest`](crate::Overflow::EvictOldest) the oldest are evicted.
    pub fn set_capacity(&self, capacity: usize) {
        self.leveler.core.set_capacity(capacity);
    }

    /// Sets how long newcomers may wait; those who already wait keep the limit that they came with. Zero
    /// means that they are late at once unless they can be dispatched directly.
    pub fn set_max_wait(&self, max_wait: Option<Duration>) {
        self.leveler.core.set_max_wait(max_wait);
    }

    /// Stops dispatch. Requests are still admitted, as long as there are places; their `max_wait` and
    /// deadlines go on. Ignored once closed.
    pub fn pause(&self) {
        self.leveler.core.pause();
    }

    /// Goes on after [`pause`](Self::pause).
    pub fn resume(&self) {
        self.leveler.core.resume();
    }

    /// Refuses newcomers from now on, with [`Reason::Closed`], and lets those admitted finish. Lifts a
    /// pause. There is no way back.
    pub fn close(&self) {
        let core = &self.leveler.core;
        if core.close() {
            tracing::info!(name = %core.settings.name, "closed");
        }
    }

    /// Returns whether the leveler has been closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.leveler.core.places.counts().is_closed()
    }

    /// Closes, and waits until all admitted requests have finished; at the `deadline` (from now) removes
    /// those that still wait, with [`Reason::Closed`], and leaves those that run alone: see
    /// [`DrainReport::in_flight`].
    ///
    /// # Cancel safety
    ///
    /// Dropped before its end it leaves the leveler closed and removes nothing.
    pub async fn drain(&self, deadline: Duration) -> DrainReport {
        let core = &self.leveler.core;
        let counters = &core.counters;
        let (finished, removed) = (counters.ended(), counters.removed.total());
        self.close();
        if tokio::time::timeout(deadline, self.idle()).await.is_err() {
            core.remove_all();
        }
        DrainReport {
            finished: counters.ended().saturating_sub(finished),
            removed: counters.removed.total().saturating_sub(removed),
            in_flight: core.in_flight(),
        }
    }

    /// Waits until nothing waits and nothing runs.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again.
    pub async fn idle(&self) {
        let core = &self.leveler.core;
        core.idle.wait_until(|| core.places.unfinished() == 0).await;
    }

    /// Removes all requests that wait, with [`Reason::Closed`]; returns how many that were. The leveler
    /// stays open.
    #[allow(clippy::must_use_candidate, reason = "the removal is the point, the count is news")]
    pub fn abort_queued(&self) -> usize {
        self.leveler.core.answer_all(Reason::Closed)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { leveler } = self;
        f.debug_struct("Handle").field("leveler", &leveler.core).finish()
    }
}
