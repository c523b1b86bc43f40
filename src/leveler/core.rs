use std::{fmt, sync::Arc, time::Duration};

use tokio::{runtime::Handle, time::Instant};

use super::{
    admission::{
        Admission, Grantor, admit::drain_time, bound::StoredLimit, refusal::Refusal,
        shedding::shedder::WINDOW, word::Counts,
    },
    husks::Husks,
    inline_polling::{FirstPoll, InlinePolling},
    limiter::Limiter,
    link::Link,
    max_wait::After,
    metrics::Metrics,
    nesting::LevelerId,
    pace::Pacing,
    panics::contain,
    runtime::Runtime,
    settings::Given,
};
use crate::{
    class::Rank,
    error::{Reason, Rejected},
    limit::{Algorithm, Load, Sample},
    queue::{ChargeId, InnerId},
    retry_after::RetryAfter,
    rng::seed,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

/// The state shared by the leveler, the drain task and every request.
pub(crate) struct Core {
    pub(crate) settings: Given,
    /// The pace in force. The drain task has a copy.
    pacing: Mutex<Pacing>,
    pub(crate) admission: Admission,
    pub(crate) limiter: Limiter,
    pub(crate) link: Link,
    pub(crate) metrics: Metrics,
    pub(crate) runtime: Runtime,
    pub(crate) inline_polling: InlinePolling,
    pub(crate) husks: Husks,
    /// Set once a streak of refusals was reported.
    streak_told: AtomicBool,
}

/// The number of refusals by a full queue for each look at the drain rate, which needs the clock.
/// While requests wait, the drain task looks as well. Without a queue and with few refusals, the
/// rate stays unknown, and `retry_after` follows from limit and service time. Other refusals do not
/// show that the inner is busy.
const LOOK: u64 = 64;

impl Core {
    pub(super) fn new(settings: Given, algorithm: Option<Box<dyn Algorithm>>) -> Self {
        Self {
            admission: Admission::new(&settings),
            limiter: Limiter::new(Arc::clone(&settings.name), algorithm),
            link: Link::new(settings.line),
            metrics: Metrics::new(),
            runtime: Runtime::new(settings.runtime.clone()),
            pacing: Mutex::new(settings.pacing),
            inline_polling: InlinePolling::new(),
            husks: Husks::default(),
            streak_told: AtomicBool::new(false),
            settings,
        }
    }

    /// Returns the name of the leveler among nested calls.
    #[inline]
    pub(crate) fn id(&self) -> LevelerId {
        LevelerId::of(self)
    }

    #[inline]
    pub(crate) fn counts(&self) -> Counts {
        self.admission.counts()
    }

    /// Returns whether no streak of refusals was told before.
    pub(crate) fn is_first_streak(&self) -> bool {
        !self.streak_told.swap(true, Relaxed)
    }

    pub(crate) fn wake(&self) {
        self.admission.listeners.drain.wake();
    }

    /// Takes note of a call to an inner service.
    #[inline(always)]
    pub(crate) fn on_dispatched(&self, wait: After) {
        if self.limiter.wants_ticks() {
            self.wake();
        }
        let seconds = || wait.get().unwrap_or_default().as_secs_f64();
        tracing::trace!(name = %self.settings.name, wait = seconds(), "request dispatched");
    }

    /// Takes note of the real time of a charged call.
    pub(crate) fn settle(&self, charge: ChargeId, time: Duration) {
        self.link.settlements.put(|settlements| settlements.push((charge, time)));
    }

    /// Corrects the charge of a call whose task chooses the next call, before it does.
    pub(crate) fn settle_at_once(&self, charge: ChargeId, time: Duration) {
        self.link.backlog().queue.settle(charge, time);
    }

    /// Lets the drain task poll an inner again: the inner may be ready, or was polled without a
    /// waker.
    pub(crate) fn ask_again(&self, inner: InnerId) {
        self.link.woken.put(|inners| {
            inners.insert(inner);
        });
        self.wake();
    }

    pub(crate) fn measure_rate(&self, now: Instant) {
        let Admission { predictor, counters, .. } = &self.admission;
        predictor.drain_rate.look(now, || counters.ended());
    }

    /// Feeds a finished call to the algorithm, and applies the new limit.
    #[inline]
    pub(crate) fn on_sample(&self, sample: &Sample) {
        let store = |limit| self.admission.store_asked_limit(limit);
        let stored = self.limiter.tell(|algorithm| algorithm.on_sample(sample), store);
        self.on_limit_stored(stored);
    }

    /// Feeds the time to the algorithm, and applies the new limit.
    pub(crate) fn on_tick(&self, now: Instant) {
        // Held flows wait for their own calls, and not for the limit.
        let load = Load::new(self.admission.running(), self.admission.occupancy.eligible());
        let store = |limit| self.admission.store_asked_limit(limit);
        let stored = self.limiter.tell(|algorithm| algorithm.on_tick(now, &load), store);
        self.on_limit_stored(stored);
    }

    /// Returns whether any request runs or waits. If not, the drain task may sleep, and the next
    /// dispatch wakes the task.
    pub(crate) fn needs_ticks(&self) -> bool {
        let in_flight = || self.counts().in_flight() > 0;
        self.limiter.needs_ticks(|| in_flight() || self.admission.occupancy.queued() > 0)
    }

    /// Returns whether the ticks of an algorithm have ceased, or have yet to begin. Then a standby
    /// has to check whether the drain task runs.
    #[inline]
    pub(crate) fn lacks_ticks(&self, first: FirstPoll, now: Instant) -> bool {
        // Only for measured calls: a check on every call would be too dear.
        first == FirstPoll::Measured
            && (self.limiter.wants_ticks() || self.link.ticked.is_overdue(now))
    }

    /// Returns the runtime of the drain task, for user code to run in if the calling thread has no
    /// runtime.
    pub(crate) fn runtime_outside(&self) -> Option<Handle> {
        // In a model one thread plays all, and would be inside of the runtime.
        let is_inside = cfg!(shuttle) || Handle::try_current().is_ok();
        if is_inside { None } else { self.link.seat.host() }
    }

    /// Sets the limit by hand, and removes the algorithm.
    pub(crate) fn set_limit(&self, limit: usize) {
        self.limiter.freeze();
        self.on_limit_stored(Some(self.admission.store_limit(limit as f64)));
    }

    /// Returns control of the limit to the algorithm. Returns whether the limiter has an algorithm.
    pub(crate) fn resume_adaptive(&self) -> bool {
        let store = |limit| self.admission.store_asked_limit(limit);
        let (resumed, stored) = self.limiter.thaw(self.admission.limit(), store);
        self.on_limit_stored(stored);
        self.wake();
        resumed
    }

    /// Sets how many slots each flow may run with.
    pub(crate) fn set_flow_limit(&self, limit: Option<usize>) {
        let mut backlog = self.link.backlog();
        // Under the lock: of two setters at once, the same is the last for both.
        self.admission.flow_limit.set(limit);
        backlog.queue.set_flow_limit(limit);
        drop(backlog);
        self.wake();
    }

    /// Takes note that a request left the queue without a call. A request that asked for several
    /// slots may have held its flow back.
    #[inline]
    pub(crate) fn on_left(&self, rank: Rank, asked: u32) {
        if asked > 1 && self.admission.flow_limit.concerns(rank) {
            self.link.backlog().queue.on_left(rank.flow);
        }
    }

    /// Returns the pace of dispatches in force.
    pub(crate) fn pacing(&self) -> Pacing {
        self.pacing.with(|pacing| *pacing)
    }

    /// Changes the pace of dispatches. `change` returns the pace from now on.
    pub(crate) fn set_pacing(&self, change: impl FnOnce(Pacing) -> Pacing) {
        self.pacing.with(|pacing| {
            *pacing = change(*pacing);
            // Under the lock: of two setters at once, the same is the last for both.
            self.admission.set_has_rate(pacing.rate.is_some());
        });
        self.link.pacing_changed.put(|changed| *changed = true);
        self.wake();
    }

    /// Wakes the parties concerned by a new limit. Never under the lock of the algorithm, since a
    /// waker may run its task on the spot.
    #[inline]
    fn on_limit_stored(&self, stored: Option<StoredLimit>) {
        if let Some(stored) = stored.filter(StoredLimit::is_new) {
            self.on_new_limit(stored);
        }
    }

    #[cold]
    fn on_new_limit(&self, stored: StoredLimit) {
        self.admission.on_limit_stored(&stored);
        let StoredLimit { before, after, .. } = stored;
        if before != after {
            let name = &*self.settings.name;
            contain(|| tracing::trace!(%name, before, limit = after, "limit changed"));
        }
    }

    pub(crate) fn pause(&self) {
        if self.admission.pause() {
            contain(|| tracing::info!(name = %self.settings.name, "paused"));
        }
    }

    pub(crate) fn resume(&self) {
        if self.admission.resume() {
            contain(|| tracing::info!(name = %self.settings.name, "resumed"));
        }
    }

    /// Refuses newcomers from now on, and lets admitted requests finish. Returns false if closed
    /// already.
    pub(crate) fn close(&self) -> bool {
        let closed = self.admission.close();
        self.resume();
        closed
    }

    /// Removes all waiting requests, and lets the drain task remove requests in hand.
    pub(crate) fn dismiss(&self) {
        self.link.dismiss();
        self.wake();
    }

    /// Turns a newcomer away. On the path of every refusal: no lock, no channel.
    pub(crate) fn refuse(&self, why: Refusal, rank: Rank) -> Rejected {
        let reason = why.reason();
        let before = self.admission.counters.add_refused(rank.priority, reason);
        self.admission.on_rejected(rank.flow);
        if before % LOOK == 0 && reason == Reason::Full {
            self.measure_rate(Instant::now());
        }
        let mut rejected = self.rejected(reason, Duration::ZERO, rank);
        match why {
            Refusal::MaxWait { waited } => rejected.waited = waited,
            Refusal::Full => {
                rejected.over_share = self.admission.is_over_share(rank);
            }
            Refusal::CutOff => {
                // Not before the cutoff moves again, however short the queue.
                let soon = WINDOW.as_secs_f32();
                rejected.retry_after = rejected.retry_after.no_sooner_than(soon);
            }
            Refusal::WouldMiss { by_itself: true } => rejected.retry_after = RetryAfter::NEVER,
            _ => {}
        }
        let Rejected { queued, limit, .. } = rejected;
        let name = &*self.settings.name;
        tracing::debug!(%name, reason = reason.as_str(), queued, limit, "request refused");
        let refusing = &self.metrics.refusing;
        if !refusing.is_on() && reason.is_of_load() && refusing.begin() {
            // The drain task looks whether the refusals are more than a burst.
            self.wake();
        }
        rejected
    }

    /// Returns the answer for a request refused or removed now.
    #[inline]
    pub(crate) fn rejected(&self, reason: Reason, waited: Duration, rank: Rank) -> Rejected {
        let all = self.admission.occupancy.all();
        let limit = self.admission.limit();
        let retry_after = match reason {
            Reason::Closed | Reason::NoRuntime => RetryAfter::NEVER,
            _ => RetryAfter::new(drain_time(&self.admission, all, rank), seed()),
        };
        let queued = all.requests as usize;
        Rejected { retry_after, waited, queued, limit, ..Rejected::new(reason) }
    }
}

impl Grantor for Arc<Core> {
    fn admission(&self) -> &Admission {
        &self.admission
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("settings", &self.settings)
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}
