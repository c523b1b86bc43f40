use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{runtime, sync::mpsc, time::Instant};

use crate::leveler::{
    Failure, Job,
    backlog::Backlog,
    contain,
    idle::Idle,
    inbox::Inbox,
    inline_poll::InlinePolling,
    limiter::{Limiter, whole_limit},
    lock,
    occupancy::Occupancy,
    pace::Rate,
    places::{Places, Slots},
    prediction::Estimates,
    waitlist::Waitlist,
    wakeup::Wakeup,
    word::Counts,
};
use crate::{
    class::Rank,
    error::Reason,
    limit::Algorithm,
    options::{Abandon, Execution, Overflow},
    queue::{ChargeId, InnerId, Rules},
    stats::{Counters, DrainRate, Recorder},
};

/// What was set when the leveler was built and does not change.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) name: Arc<str>,
    pub(crate) capacity: usize,
    /// Below 1 it is honoured by spacing.
    pub(crate) limit: f64,
    pub(crate) line: Rules,
    pub(crate) rate: Option<Rate>,
    pub(crate) max_wait: Option<Duration>,
    pub(crate) bypass_limit: usize,
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
    pub(crate) estimates: Estimates,
    pub(crate) inline_polling: InlinePolling,
    pub(crate) door: Occupancy,
    pub(crate) idle: Idle,
    pub(crate) waiters: Waitlist,
    backlog: Mutex<Backlog>,
    /// Wakes the drain task.
    pub(crate) signal: Wakeup,
    /// Inner services that may be ready again.
    pub(crate) woken: Inbox<BTreeSet<InnerId>>,
    pub(crate) drain: AtomicU8,
    /// Charges that have turned out to be so much.
    pub(crate) settlements: Inbox<Vec<(ChargeId, Duration)>>,
    /// What those in flight take beyond one slot each.
    surplus: AtomicUsize,
    pub(crate) bypassing: AtomicUsize,
    /// In nanoseconds; `NO_MAX_WAIT` for none.
    max_wait: AtomicU64,
    pub(crate) controller: Limiter,
    /// Whether an algorithm gets no ticks, since nothing runs or waits: who is dispatched then wakes the drain
    /// task for them. Never with a fixed limit.
    pub(crate) wants_ticks: AtomicBool,
    /// The limit as it was asked for, as the bits of an `f64`.
    pub(crate) limit: AtomicU64,
    /// Whether "the queue is full" has been said and not yet taken back.
    pub(crate) overflowing: AtomicBool,
    /// Whether the deadline of a drain has passed: nobody waits any more.
    pub(crate) dismissed: AtomicBool,
    /// Whether the runtime in the settings has been found dead.
    pub(crate) runtime_ended: AtomicBool,
}

/// States of the drain task.
pub(crate) const ABSENT: u8 = 0;
pub(crate) const ALIVE: u8 = 1;

const NO_MAX_WAIT: u64 = u64::MAX;

impl Core {
    pub(crate) fn new(
        settings: Settings,
        algorithm: Option<Box<dyn Algorithm>>,
        receiver: mpsc::Receiver<Arc<dyn Job>>,
    ) -> Self {
        let now = Instant::now();
        Self {
            places: Places::new(settings.capacity, whole_limit(settings.limit)),
            counters: Counters::default(),
            wait: Recorder::new(),
            service_time: Recorder::new(),
            rate: DrainRate::new(now),
            estimates: Estimates::new(now),
            inline_polling: InlinePolling::new(),
            door: Occupancy::new(now),
            idle: Idle::default(),
            waiters: Waitlist::default(),
            backlog: Mutex::new(Backlog::new(receiver, settings.line)),
            signal: Wakeup::default(),
            woken: Inbox::default(),
            drain: AtomicU8::new(ABSENT),
            settlements: Inbox::default(),
            surplus: AtomicUsize::new(0),
            bypassing: AtomicUsize::new(0),
            max_wait: AtomicU64::new(to_nanos(settings.max_wait)),
            wants_ticks: AtomicBool::new(algorithm.is_some()),
            controller: Limiter::new(algorithm),
            limit: AtomicU64::new(settings.limit.to_bits()),
            overflowing: AtomicBool::new(false),
            dismissed: AtomicBool::new(false),
            runtime_ended: AtomicBool::new(false),
            settings,
        }
    }

    pub(crate) fn wake(&self) {
        self.signal.wake();
    }

    #[inline]
    pub(crate) fn max_wait(&self) -> Option<Duration> {
        let nanos = self.max_wait.load(SeqCst);
        (nanos != NO_MAX_WAIT).then(|| Duration::from_nanos(nanos))
    }

    pub(crate) fn set_max_wait(&self, max_wait: Option<Duration>) {
        self.max_wait.store(to_nanos(max_wait), SeqCst);
    }

    /// A call was made on an inner service.
    #[inline]
    pub(crate) fn on_dispatched(&self, wait: Duration) {
        if self.wants_ticks.load(SeqCst) {
            self.wake();
        }
        tracing::trace!(wait = wait.as_secs_f64(), "request dispatched");
    }

    /// A call has ended and its slot is free.
    #[inline]
    pub(crate) fn on_released(&self, after: Counts) {
        if after.waiting() > 0 {
            self.wake();
        }
        self.on_place_free(after);
    }

    /// A place is free.
    #[inline]
    pub(crate) fn on_place_free(&self, after: Counts) {
        if self.settings.overflow == Overflow::Wait {
            self.waiters.wake_one();
            self.wake();
        }
        if after.held() <= self.places.reserved() {
            self.idle.notify();
        }
    }

    /// A request that was admitted has ended before its future was made, with so many places and, perhaps,
    /// slots.
    pub(crate) fn on_failure(&self, failure: &Failure, held: usize, slots: Option<Slots>) {
        match failure {
            Failure::Panicked(_) => self.counters.panicked.add(),
            Failure::Error(_) => self.counters.failed.add(),
        };
        match slots {
            Some(slots) => self.on_released(self.places.release_running(slots.taken)),
            None => self.release_waiting(held),
        }
    }

    /// Gives back the places of a request that was never dispatched.
    pub(crate) fn release_waiting(&self, held: usize) {
        self.on_place_free(self.places.release_waiting(held));
    }

    /// Puts an end to the reservation of a service that goes away.
    pub(crate) fn release_reserved(&self) {
        self.places.end_reservation();
        self.release_waiting(1);
    }

    /// A request is about to be queued.
    #[inline]
    pub(crate) fn on_queued(&self, rank: Rank, now: Instant) {
        self.door.on_queued(rank);
        if self.places.counts().waiting() == rank.cost as usize {
            self.rate.begin(now, self.counters.ended());
        }
    }

    /// Slots are taken for a call, or given back.
    #[inline]
    pub(crate) fn count_surplus(&self, taken: u32, is_taken: bool) {
        if taken > 1 {
            let taken = taken as usize;
            let add = if is_taken { taken - 1 } else { 1_usize.wrapping_sub(taken) };
            self.surplus.fetch_add(add, SeqCst);
        }
    }

    /// Takes one of the budget of those that go past the queue.
    pub(crate) fn begin_bypass(&self) -> bool {
        let next = |now: usize| (now < self.settings.bypass_limit).then_some(now + 1);
        self.bypassing.fetch_update(SeqCst, SeqCst, next).is_ok()
    }

    pub(crate) fn end_bypass(&self) {
        self.bypassing.fetch_sub(1, SeqCst);
    }

    /// A call that was charged has taken so long.
    pub(crate) fn settle(&self, bill: ChargeId, time: Duration) {
        self.settlements.put(|settlements| settlements.push((bill, time)));
    }

    pub(crate) fn measure_rate(&self, now: Instant) {
        self.rate.look(now, || self.counters.ended());
    }

    /// How many wait.
    pub(crate) fn queued(&self) -> usize {
        self.door.waiting()
    }

    /// How many run, whatever they cost.
    pub(crate) fn in_flight(&self) -> usize {
        let taken = self.places.counts().in_flight();
        taken.saturating_sub(self.surplus.load(SeqCst))
    }

    /// An inner may be ready, or was polled without leaving our waker with it: the drain task has to ask.
    pub(crate) fn ask_again(&self, lane: InnerId) {
        self.woken.put(|lanes| {
            lanes.insert(lane);
        });
        self.wake();
    }

    pub(crate) fn set_capacity(&self, capacity: usize) {
        self.places.set_capacity(capacity);
        self.on_bounds_changed();
    }

    pub(crate) fn on_bounds_changed(&self) {
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

    /// Admits nobody from now on, and lets those admitted finish. `false` if it was closed already.
    pub(crate) fn close(&self) -> bool {
        let closed = self.places.close();
        self.resume();
        self.waiters.wake_all();
        self.wake();
        closed
    }

    /// Answers everybody who waits. Returns how many that were.
    pub(crate) fn answer_all(&self, reason: Reason) -> usize {
        let mut answered = 0;
        loop {
            // One at a time, so that the answering is done without the lock.
            let next = self.backlog().pop_oldest();
            let Some(job) = next else { return answered };
            answered += usize::from(contain(|| job.remove(reason.into())).unwrap_or(false));
        }
    }

    /// Removes all who wait, and whom the drain task is about to put back.
    pub(crate) fn remove_all(&self) {
        self.dismissed.store(true, SeqCst);
        self.answer_all(Reason::Closed);
        self.wake();
    }

    pub(crate) fn backlog(&self) -> MutexGuard<'_, Backlog> {
        lock(&self.backlog)
    }

    /// Says that the burst is over, once nothing waits any more.
    pub(crate) fn on_queue_empty(&self) {
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
