#[cfg(feature = "metrics")]
use std::sync::Weak;
use std::{fmt, future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use tokio::time::sleep;

use crate::{
    config::{flow_limit_error, is_flow_limit},
    error::{BuildError, Reason},
    future::Changed,
    leveler::{
        front::Leveler,
        pace::{POSSIBLE_RATES, Pacing, is_possible},
        panics::contain,
        reload, snapshot,
        timer::Timer,
    },
    limit::LimitState,
    settings::{Rate, Settings},
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
    /// Calls still running: not ended by the deadline, and possibly never. A server waiting for all
    /// connections waits for these calls too, and needs a hard stop if the number is above 0.
    pub in_flight: usize,
}

impl Handle {
    pub(crate) fn new(leveler: Arc<Leveler>) -> Self {
        Self { leveler }
    }

    /// Returns whether both are handles of the same leveler.
    #[cfg(any(feature = "metrics", feature = "prometheus"))]
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.leveler, &other.leveler)
    }

    /// Returns a weak reference to the leveler.
    #[cfg(feature = "metrics")]
    pub(crate) fn downgrade(&self) -> Weak<Leveler> {
        Arc::downgrade(&self.leveler)
    }

    /// Returns a snapshot of the leveler's state and counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        snapshot::stats(&self.leveler.core)
    }

    /// Returns the name of this leveler, as set with [`Builder::name`](crate::Builder::name).
    #[must_use]
    pub fn name(&self) -> &str {
        &self.leveler.core.settings.name
    }

    /// Returns how long new requests may wait, as set with
    /// [`Builder::max_wait`](crate::Builder::max_wait) or [`set_max_wait`](Self::set_max_wait).
    #[must_use]
    pub fn max_wait(&self) -> Option<Duration> {
        self.leveler.core.admission.max_wait.get().get()
    }

    /// Returns the settings in force: those of the builder, with every later change through a
    /// handle.
    ///
    /// A limit [set by hand](Self::set_limit) over an algorithm reads as this limit. So does the
    /// last limit of an algorithm that has panicked. An algorithm from outside of this crate reads
    /// as `custom`. Given to [`Builder::settings`](crate::Builder::settings), the settings make
    /// another leveler like this one, except that `custom` is refused.
    #[must_use]
    pub fn settings(&self) -> Settings {
        reload::settings(&self.leveler.core)
    }

    /// Applies settings to the running leveler, as after a change of a file. All are checked first.
    ///
    /// With immediate effect, each as by the method of the same name: `capacity`, `max_wait`,
    /// `bypass_limit`, `flow_limit`, `rate`, `rate_burst` and `concurrency`. A limit in numbers is
    /// [set](Self::set_limit). The algorithm of the builder, with the same parameters, gets the
    /// limit [back](Self::resume_adaptive); another algorithm needs a new layer.
    ///
    /// Returns the names of the changed settings that need a new layer, such as `order`, and does
    /// not change these settings. `custom` matches any algorithm of another crate.
    ///
    /// # Errors
    ///
    /// As from [`Builder::build`](crate::Builder::build); then nothing changes.
    ///
    /// ```
    /// # use tower_load_leveling::{LoadLevelLayer, Order, settings::Settings};
    /// # let layer = LoadLevelLayer::new(1024, 64);
    /// let mut settings = layer.handle().settings();
    /// settings.concurrency = Some(32.into());
    /// settings.order = Order::Lifo;
    /// assert_eq!(layer.handle().apply(&settings)?, ["order"]);
    /// assert_eq!(layer.handle().limit(), 32);
    /// # Ok::<(), tower_load_leveling::error::BuildError>(())
    /// ```
    pub fn apply(&self, settings: &Settings) -> Result<Vec<&'static str>, BuildError> {
        reload::apply(&self.leveler.core, settings)
    }

    /// Returns whether the leveler does anything: false if [switched
    /// off](crate::Builder::enabled). Then `pause`, `apply` and the setters change nothing.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        !self.leveler.core.settings.is_switched_off()
    }

    /// Returns whether dispatch is [paused](Self::pause).
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.leveler.core.counts().is_paused()
    }

    /// Returns whether an algorithm finds the limit.
    #[must_use]
    pub fn is_adaptive(&self) -> bool {
        self.leveler.core.limiter.is_adaptive()
    }

    /// Returns the limit: how many calls may run at once. Cheap: a load of one atomic.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.leveler.core.admission.limit()
    }

    /// Returns how many requests of cost 1 would find a free place now: capacity + limit, less the
    /// requests admitted and not finished. 0 after [`close`](Self::close). Cheap: from atomics.
    ///
    /// For workers that pull work only when there is room. If another call takes the place between
    /// this look and a call, the call is refused.
    ///
    /// ```
    /// # use tower_load_leveling::LoadLevelLayer;
    /// # let layer = LoadLevelLayer::new(2, 1);
    /// # let handle = layer.handle();
    /// # let pull_and_call = |_many: usize| ();
    /// # let worker = async move {
    /// loop {
    ///     // Made before the look, so that no change after the look is missed.
    ///     let changed = handle.changed();
    ///     match handle.room() {
    ///         0 => changed.await,
    ///         room => pull_and_call(room),
    ///     }
    /// #   break;
    /// }
    /// # };
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(worker);
    /// ```
    #[must_use]
    pub fn room(&self) -> usize {
        self.leveler.core.admission.room()
    }

    /// Returns a future that resolves when [`room`](Self::room) or [`limit`](Self::limit) may have
    /// grown since this call, or when the leveler was closed. The future may also resolve without a
    /// change.
    ///
    /// Every change after this call counts, whether the future has been polled or not. While no
    /// such future exists, calls pay only for a look at a counter.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    #[must_use = "futures do nothing unless polled"]
    pub fn changed(&self) -> Changed<'_> {
        Changed::new(self.leveler.core.admission.listeners.watchers.room_changed())
    }

    /// Sets the limit, with immediate effect. A lower limit is reached as running calls finish;
    /// after raising the limit, as many requests as now fit are dispatched. An
    /// [adaptive](crate::Builder::adaptive) limit stays at the value set with this method.
    ///
    /// A limit above 536 869 887 (2²⁹ − 1025) counts as 536 869 887.
    ///
    /// # Errors
    ///
    /// If `limit` is 0; then nothing changes. To stop dispatch, use [`pause`](Self::pause).
    pub fn set_limit(&self, limit: usize) -> Result<(), BuildError> {
        if limit == 0 {
            let allowed = "1 or more (to stop dispatch, use `Handle::pause`)";
            return Err(BuildError::new("set_limit", limit, allowed));
        }
        if self.is_enabled() {
            self.leveler.core.set_limit(limit);
        }
        Ok(())
    }

    /// Returns the state learned by the algorithm of an adaptive limit: keep the state across a
    /// restart, and give it to [`Bdp::resume`](crate::limit::Bdp::resume).
    ///
    /// `None` with a fixed limit, with an algorithm that keeps no state, and before anything is
    /// known.
    #[must_use]
    pub fn limit_state(&self) -> Option<LimitState> {
        self.leveler.core.limiter.state()
    }

    /// Returns control of the limit to the algorithm of
    /// [`Builder::adaptive`](crate::Builder::adaptive), after [`set_limit`](Self::set_limit). The
    /// algorithm [goes on](crate::limit::Algorithm::resume_from) from the present limit.
    ///
    /// Returns whether the limit is adaptive now: false if the limit was fixed from the start, or
    /// if the algorithm has panicked.
    #[allow(clippy::must_use_candidate, reason = "the call is the point, the answer is news")]
    pub fn resume_adaptive(&self) -> bool {
        self.leveler.core.resume_adaptive()
    }

    /// Sets the rate of dispatches, as [`Builder::rate`](crate::Builder::rate) does, with immediate
    /// effect. The burst of [`Builder::rate_burst`](crate::Builder::rate_burst) stays. `None` ends
    /// the pace.
    ///
    /// # Errors
    ///
    /// If the rate is 0 requests, or per 0 s, or per more than a century; then nothing changes.
    pub fn set_rate(&self, rate: Option<(u32, Duration)>) -> Result<(), BuildError> {
        let rate = rate.map(|(requests, per)| Rate::new(requests, per));
        if let Some(rate) = rate.filter(|rate| !is_possible(*rate)) {
            return Err(BuildError::new("set_rate", rate, POSSIBLE_RATES));
        }
        if self.is_enabled() {
            self.leveler.core.set_pacing(|pacing| Pacing { rate, ..pacing });
        }
        Ok(())
    }

    /// Sets how many requests of [`Class::bypass`](crate::Class::bypass) may run at once, with
    /// immediate effect on new requests.
    pub fn set_bypass_limit(&self, limit: usize) {
        if self.is_enabled() {
            self.leveler.core.admission.set_bypass_limit(limit);
        }
    }

    /// Sets how much each flow may run at once, as
    /// [`Builder::flow_limit`](crate::Builder::flow_limit) does; `None` is no limit for flows.
    ///
    /// A lower limit takes effect as calls of the flow finish. Calls dispatched while there was no
    /// limit are not counted: a flow may run as many more.
    ///
    /// # Errors
    ///
    /// [`BuildError`] if `limit` is 0 or above 536 869 887 (2²⁹ − 1025); then nothing changes.
    pub fn set_flow_limit(&self, limit: impl Into<Option<usize>>) -> Result<(), BuildError> {
        let limit = limit.into();
        if let Some(limit) = limit.filter(|limit| !is_flow_limit(*limit)) {
            return Err(flow_limit_error("set_flow_limit", limit));
        }
        if self.is_enabled() {
            self.leveler.core.set_flow_limit(limit);
        }
        Ok(())
    }

    /// Sets the capacity, with immediate effect. If the capacity is lowered, waiting requests stay,
    /// and new requests are admitted only when there is room again. Under
    /// [`Overflow::EvictOldest`](crate::Overflow::EvictOldest) the oldest requests are evicted.
    pub fn set_capacity(&self, capacity: usize) {
        if self.is_enabled() {
            self.leveler.core.admission.set_capacity(capacity);
        }
    }

    /// Sets how long new requests may wait. Requests already waiting keep the previous wait limit.
    /// With zero, a request is rejected at once unless dispatched directly.
    pub fn set_max_wait(&self, max_wait: Option<Duration>) {
        if self.is_enabled() {
            self.leveler.core.admission.max_wait.set(max_wait);
        }
    }

    /// Stops dispatch. Requests are still admitted while there are places; `max_wait` and deadlines
    /// keep running. Ignored after [`close`](Self::close).
    pub fn pause(&self) {
        if self.is_enabled() {
            self.leveler.core.pause();
        }
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
            contain(|| tracing::info!(name = %core.settings.name, "closed"));
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
        let (finished, removed) = (counters.over(), counters.all_removed().total());
        self.close();
        let (mut idle, mut deadline) = (pin!(self.idle()), Timer::new(sleep(deadline)));
        let ended = poll_fn(|cx| match idle.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending => deadline.poll(cx).map(|()| false),
        });
        if !ended.await {
            core.dismiss();
        }
        DrainReport {
            finished: counters.over().saturating_sub(finished),
            removed: counters.all_removed().total().saturating_sub(removed),
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
        core.admission.listeners.watchers.idle(|| core.admission.unfinished() == 0).await;
    }

    /// Removes all waiting requests with [`Reason::Closed`], and returns their number. The leveler
    /// stays open. Requests of callers that call again meanwhile are not removed.
    ///
    /// A request in the middle of its dispatch is not removed or counted, even if the request goes
    /// back to the queue because its inner is not ready. (Only the inner's `poll_ready` decides
    /// which, and may itself have called this method: nobody can wait for the decision.)
    #[allow(clippy::must_use_candidate, reason = "the removal is the point, the count is news")]
    pub fn abort_queued(&self) -> usize {
        self.leveler.core.link.remove_all(Reason::Closed)
    }
}

/// The name, and the line of [`Stats`].
impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stats = self.stats();
        f.debug_struct("Handle")
            .field("name", &self.name())
            .field("stats", &format_args!("{stats}"))
            .finish()
    }
}
