use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use futures::task::AtomicWaker;
use tokio::{runtime, sync::mpsc, task, time::Instant};

use super::{
    Failure, Job,
    backlog::Backlog,
    contain,
    controller::Controller,
    drain,
    idle::Idle,
    lock,
    places::{Counts, Places, WhenFull},
    waiters::Waiters,
};
use crate::{
    builder::{Abandon, Execution, Overflow},
    error::{Reason, Rejected},
    limit::{Algorithm, Sample},
    queue::LaneId,
    stats::{Counters, DrainRate, Recorder, Stats},
};

/// What was set when the leveler was built and does not change.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) name: Arc<str>,
    pub(crate) capacity: usize,
    pub(crate) limit: usize,
    pub(crate) max_wait: Option<Duration>,
    pub(crate) overflow: Overflow,
    pub(crate) abandon: Abandon,
    pub(crate) execution: Execution,
    pub(crate) runtime: Option<runtime::Handle>,
}

pub(crate) struct Core {
    pub(crate) settings: Settings,
    pub(crate) places: Places,
    pub(crate) counters: Counters,
    pub(crate) wait: Recorder,
    pub(crate) service_time: Recorder,
    pub(crate) rate: DrainRate,
    pub(crate) idle: Idle,
    pub(crate) waiters: Waiters,
    backlog: Mutex<Backlog>,
    /// Wakes the drain task.
    pub(super) signal: AtomicWaker,
    /// Inner services that may be ready again.
    pub(super) woken: Mutex<Vec<LaneId>>,
    pub(super) drain: AtomicU8,
    /// In nanoseconds; `NO_MAX_WAIT` for none.
    max_wait: AtomicU64,
    controller: Controller,
    /// Whether "the queue is full" has been said and not yet taken back.
    overflowing: AtomicBool,
    /// Whether the deadline of a drain has passed: nobody waits any more.
    pub(super) dismissed: AtomicBool,
    /// Whether the runtime in the settings has been found dead.
    runtime_ended: AtomicBool,
}

/// States of the drain task.
pub(super) const ABSENT: u8 = 0;
const ALIVE: u8 = 1;

const NO_MAX_WAIT: u64 = u64::MAX;

/// A longer wait says no more than "not soon", and the rate it is computed from will have changed.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

impl Core {
    pub(super) fn new(
        settings: Settings,
        algorithm: Option<Box<dyn Algorithm>>,
        receiver: mpsc::Receiver<Arc<dyn Job>>,
    ) -> Self {
        Self {
            places: Places::new(settings.capacity, settings.limit),
            counters: Counters::default(),
            wait: Recorder::new(),
            service_time: Recorder::new(),
            rate: DrainRate::new(Instant::now()),
            idle: Idle::default(),
            waiters: Waiters::default(),
            backlog: Mutex::new(Backlog::new(receiver)),
            signal: AtomicWaker::new(),
            woken: Mutex::default(),
            drain: AtomicU8::new(ABSENT),
            max_wait: AtomicU64::new(to_nanos(settings.max_wait)),
            controller: Controller::new(algorithm),
            overflowing: AtomicBool::new(false),
            dismissed: AtomicBool::new(false),
            runtime_ended: AtomicBool::new(false),
            settings,
        }
    }

    /// Makes sure that there is a drain task, or says why there can't be one.
    pub(crate) fn ensure_drained(self: &Arc<Self>) -> Result<(), Reason> {
        if self.is_drained() {
            return Ok(());
        }
        let current = || runtime::Handle::try_current().ok();
        let candidates = [self.settings.runtime.clone(), current()];
        for (index, runtime) in candidates.into_iter().enumerate() {
            let Some(runtime) = runtime else { continue };
            if self.drain.compare_exchange(ABSENT, ALIVE, SeqCst, SeqCst).is_err() {
                return Ok(());
            }
            tracing::debug!(name = %self.settings.name, "drain task started");
            // On a runtime that has shut down the task is dropped at once, which sets ABSENT.
            runtime.spawn(drain::run(Arc::clone(self)));
            if self.is_drained() {
                return Ok(());
            }
            if index == 0 {
                self.runtime_ended.store(true, SeqCst);
            }
        }
        Err(Reason::NoRuntime)
    }

    pub(super) fn is_drained(&self) -> bool {
        self.drain.load(SeqCst) == ALIVE
    }

    pub(crate) fn wake(&self) {
        self.signal.wake();
    }

    /// What happens to a newcomer when no place is free.
    pub(crate) fn when_full(&self) -> WhenFull {
        match self.settings.overflow {
            Overflow::EvictOldest => WhenFull::EvictOldest,
            Overflow::Reject | Overflow::Wait => WhenFull::Refuse,
        }
    }

    pub(crate) fn max_wait(&self) -> Option<Duration> {
        let nanos = self.max_wait.load(SeqCst);
        (nanos != NO_MAX_WAIT).then(|| Duration::from_nanos(nanos))
    }

    pub(crate) fn set_max_wait(&self, max_wait: Option<Duration>) {
        self.max_wait.store(to_nanos(max_wait), SeqCst);
    }

    /// A call was made on an inner service.
    pub(crate) fn on_dispatched(&self, wait: Duration) {
        self.wait.record(wait);
        tracing::trace!(wait = wait.as_secs_f64(), "request dispatched");
    }

    /// A call has ended and its slot is free.
    pub(crate) fn on_released(&self, after: Counts) {
        if after.waiting() > 0 {
            self.wake();
        }
        self.on_place_free(after);
    }

    /// A place is free.
    pub(crate) fn on_place_free(&self, after: Counts) {
        if self.settings.overflow == Overflow::Wait {
            self.waiters.wake_one();
            self.wake();
        }
        if after.held() <= self.places.reserved() {
            self.idle.notify();
        }
    }

    /// A request that was admitted has ended before its future was made.
    pub(crate) fn on_failure(&self, failure: &Failure, slot: bool) {
        match failure {
            Failure::Panicked(_) => self.counters.panicked.add(),
            Failure::Unready(_) | Failure::Dead(_) => self.counters.failed.add(),
        };
        if slot {
            self.on_released(self.places.release_running());
        } else {
            self.release_waiting();
        }
    }

    /// Gives back the place of a request that was never dispatched.
    pub(crate) fn release_waiting(&self) {
        self.on_place_free(self.places.release_waiting());
    }

    /// Puts an end to the reservation of a service that goes away.
    pub(crate) fn release_reserved(&self) {
        self.places.end_reservation();
        self.release_waiting();
    }

    /// A request is about to be queued.
    pub(crate) fn on_queued(&self, now: Instant) {
        if self.places.counts().waiting() == 1 {
            self.rate.begin(now, self.counters.ended());
        }
    }

    pub(crate) fn measure_rate(&self, now: Instant) {
        self.rate.look(now, || self.counters.ended());
    }

    /// Turns a newcomer away. On the path of every refusal: no lock, no channel.
    pub(crate) fn refuse(&self, reason: Reason, now: Instant) -> Rejected {
        self.counters.refused.add(reason);
        self.measure_rate(now);
        let rejected = self.rejected(reason, Duration::ZERO);
        let Rejected { queued, limit, .. } = rejected;
        tracing::debug!(name = %self.settings.name, %reason, queued, limit, "request refused");
        let full = reason == Reason::Full;
        if full && !self.overflowing.load(SeqCst) && !self.overflowing.swap(true, SeqCst) {
            tracing::info!(name = %self.settings.name, queued, limit, "queue is full");
        }
        rejected
    }

    /// The answer for a request that is refused or removed now.
    pub(crate) fn rejected(&self, reason: Reason, waited: Duration) -> Rejected {
        let queued = self.queued();
        let retry_after = match reason {
            Reason::Closed | Reason::NoRuntime => None,
            _ => self.rate.time_for(queued.max(1)).map(|time| time.min(MAX_RETRY_AFTER)),
        };
        Rejected { reason, retry_after, waited, queued, limit: self.places.limit() }
    }

    pub(crate) fn queued(&self) -> usize {
        self.places.counts().waiting().saturating_sub(self.places.reserved())
    }

    /// Feeds a finished call to the algorithm, and takes over its limit.
    pub(crate) fn on_sample(&self, sample: &Sample) {
        self.controller.on_sample(sample, |limit| self.apply_limit(limit));
    }

    /// Sets the limit by hand; an algorithm has no more say after it.
    pub(crate) fn set_limit(&self, limit: usize) {
        self.controller.dismiss();
        self.apply_limit(limit);
    }

    /// Whether the limit was found by an algorithm, and not set by hand since.
    pub(crate) fn is_adaptive(&self) -> bool {
        self.controller.is_adaptive()
    }

    pub(crate) fn set_capacity(&self, capacity: usize) {
        self.places.set_capacity(capacity);
        self.on_bounds_changed();
    }

    fn apply_limit(&self, limit: usize) {
        let before = self.places.limit();
        if before != limit {
            self.places.set_limit(limit);
            tracing::trace!(name = %self.settings.name, before, limit, "limit changed");
            self.on_bounds_changed();
        }
    }

    fn on_bounds_changed(&self) {
        self.wake();
        self.waiters.wake_all();
    }

    pub(crate) fn pause(&self) {
        if self.places.pause() {
            tracing::info!(name = %self.settings.name, "paused");
        }
    }

    pub(crate) fn resume(&self) {
        if self.places.resume() {
            tracing::info!(name = %self.settings.name, "resumed");
            self.wake();
        }
    }

    /// Admits nobody from now on, and lets those admitted finish.
    pub(crate) fn close(&self) {
        if self.places.close() {
            tracing::info!(name = %self.settings.name, "closed");
        }
        self.resume();
        self.waiters.wake_all();
        self.wake();
    }

    /// Answers everybody who waits. Returns how many that were.
    pub(crate) fn answer_all(&self, reason: Reason) -> usize {
        let mut answered = 0;
        loop {
            // One at a time, so that the answering is done without the lock.
            let next = self.backlog().pop_oldest();
            let Some(job) = next else { return answered };
            answered += usize::from(contain(|| job.remove(reason)).unwrap_or(false));
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let now = Instant::now();
        let oldest = self.backlog().oldest_admitted();
        let Self { places, counters, wait, service_time, rate, .. } = self;
        let Counters {
            admitted,
            succeeded,
            failed,
            overloaded,
            cancelled,
            panicked,
            refused,
            removed,
        } = counters;
        Stats {
            queued: self.queued(),
            in_flight: places.counts().in_flight(),
            limit: places.limit(),
            capacity: places.capacity(),
            oldest_wait: oldest.map(|admitted| now.saturating_duration_since(admitted)),
            admitted: admitted.get(),
            succeeded: succeeded.get(),
            failed: failed.get(),
            overloaded: overloaded.get(),
            cancelled: cancelled.get(),
            panicked: panicked.get(),
            refused: refused.snapshot(),
            removed: removed.snapshot(),
            bypassing: 0,
            drain_rate: rate.per_second(),
            wait: wait.snapshot(),
            service_time: service_time.snapshot(),
        }
    }

    /// Removes all who wait, and whom the drain task is about to put back.
    pub(crate) fn dismiss(&self) {
        self.dismissed.store(true, SeqCst);
        self.answer_all(Reason::Closed);
        self.wake();
    }

    /// Whether there is a runtime for a call made right now. First by the look that costs least: a handle of
    /// the runtime is a reference count that all its threads share.
    pub(crate) fn can_spawn(&self) -> bool {
        self.given_runtime().is_some()
            || task::try_id().is_some()
            || runtime::Handle::try_current().is_ok()
    }

    /// Runs a call made right now as a task, on the runtime that was set or on the caller's; not before
    /// [`can_spawn`](Self::can_spawn) has said yes.
    pub(crate) fn spawn(&self, call: impl Future<Output = ()> + Send + 'static) {
        drop(match self.given_runtime() {
            Some(runtime) => runtime.spawn(call),
            None => tokio::spawn(call),
        });
    }

    fn given_runtime(&self) -> Option<&runtime::Handle> {
        let given = self.settings.runtime.as_ref();
        given.filter(|_| !self.runtime_ended.load(SeqCst))
    }

    pub(super) fn backlog(&self) -> MutexGuard<'_, Backlog> {
        lock(&self.backlog)
    }

    /// Says that the burst is over, once nothing waits any more.
    pub(super) fn on_queue_empty(&self) {
        if self.overflowing.load(SeqCst) && self.overflowing.swap(false, SeqCst) {
            tracing::info!(name = %self.settings.name, "queue is empty again");
        }
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("settings", &self.settings)
            .field("places", &self.places)
            .finish_non_exhaustive()
    }
}

/// `Duration::MAX` and the like mean no limit that anybody could tell from none.
fn to_nanos(max_wait: Option<Duration>) -> u64 {
    max_wait.map_or(NO_MAX_WAIT, |wait| u64::try_from(wait.as_nanos()).unwrap_or(NO_MAX_WAIT))
}
