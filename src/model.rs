//! The leveler in virtual time, to try settings on recorded or invented traffic (feature `model`).
//!
//! The feature is off by default, and the module may change in any minor release.

mod waiting;

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    time::Duration,
};

use tokio::time::Instant;

use self::waiting::{Waiter, Waiting};
use crate::{
    class::{Class, NO_FLOW, Priority, Rank},
    error::Reason,
    limit::{Algorithm, Load, Outcome, Sample},
    options::Order,
    queue::{Charge, ChargeId, Entry, FlowRight},
    sync::figure::AtomicBool,
};

/// The queue, the limit and the expiry of a leveler, without a clock, a runtime or a lock.
///
/// The caller brings the time and the inner service. Report each arrival of a request by
/// [`arrive`](Self::arrive), each end of a call by [`finish`](Self::finish), and the time by
/// [`tick`](Self::tick). After each of the three, take the consequences from the model: first the
/// removed requests, by [`remove`](Self::remove) until `None`, and then the started ones, by
/// [`start`](Self::start) until `None`.
///
/// ```
/// use std::time::Duration;
/// use tokio::time::Instant;
/// use tower_load_leveling::{Class, error::Reason, limit::{Fixed, Outcome}, model::Model};
///
/// let ms = Duration::from_millis;
/// let begin = Instant::now();
/// let mut model = Model::new(1, Fixed::new(1)).max_wait(ms(20));
///
/// // Would a limit of 1 and a capacity of 1 have held for three requests at once?
/// let answers = [1, 2, 3].map(|id| model.arrive(id, &Class::new(), begin));
/// assert_eq!(answers, [Ok(()), Ok(()), Err(Reason::Full)]);
/// assert_eq!(model.start(begin), Some(1));
/// assert_eq!(model.start(begin), None, "the limit is reached");
///
/// // The first call takes 30 ms, so the second request waits too long.
/// assert_eq!(model.remove(begin + ms(20)), Some((2, Reason::MaxWait)));
/// model.finish(1, begin + ms(30), Outcome::Success);
/// assert_eq!((model.queued(), model.in_flight()), (0, 0));
/// ```
///
/// # What it does not model
///
/// The model admits, orders, evicts, expires and dispatches as the layer does. The model leaves
/// out:
///
/// - early refusals: for a deadline that would be missed, and for a low priority under lasting
///   overload;
/// - [`Overflow`](crate::Overflow) other than `Reject`, [`rate`](crate::Builder::rate),
///   [`controlled_delay`](crate::Builder::controlled_delay), and pausing and closing;
/// - the [bypass](Class::bypass): a bypassing request waits like any request of
///   [`Priority::Critical`];
/// - unready inner services, and callers who leave while waiting;
/// - chance: below a limit of 1 the layer spaces dispatches with some jitter;
/// - the delays of threads and timers. The layer also tries a heavy request more often before the
///   slots are free, and each try shifts the shares of flows a little.
pub struct Model {
    capacity: usize,
    algorithm: Box<dyn Algorithm>,
    max_wait: Option<Duration>,
    flow_limit: Option<usize>,
    waiting: Waiting,
    /// Calls without a wait, until `start` returns their ids.
    direct: VecDeque<u64>,
    running: HashMap<u64, Running>,
    /// The slots of all running calls.
    taken: usize,
    /// The mean service time in seconds, and the mean of each priority.
    service: Option<f64>,
    services: [Option<f64>; Priority::ALL.len()],
    /// The earliest time for the next call while the limit is below 1.
    due: Option<Instant>,
}

struct Running {
    /// The facts known at the start. `finish` adds the rest.
    sample: Sample,
    priority: Priority,
    slots: usize,
    charge: Option<ChargeId>,
    right: Option<FlowRight>,
}

/// The weight of the newest call in a mean service time: a fiftieth, as in the layer. More follows
/// a change faster and is noisier.
const MEMORY: f64 = 0.02;

/// The interval of the layer's ticks. A tick may start a spaced call late by up to an interval; the
/// next call makes up for as much.
const TICK: Duration = Duration::from_millis(10);

impl Model {
    /// Returns the model of a leveler with this [capacity](crate::Builder::capacity) and limit.
    ///
    /// For a constant limit, use [`Fixed`](crate::limit::Fixed).
    #[must_use]
    pub fn new(capacity: usize, limit: impl Algorithm) -> Self {
        Self {
            capacity,
            algorithm: Box::new(limit),
            max_wait: None,
            flow_limit: None,
            waiting: Waiting::new(Order::default()),
            direct: VecDeque::new(),
            running: HashMap::new(),
            taken: 0,
            service: None,
            services: Default::default(),
            due: None,
        }
    }

    /// Sets the [order](crate::Builder::order), before anything arrives. Default is
    /// [`Order::Fifo`].
    #[must_use]
    pub fn order(mut self, order: Order) -> Self {
        self.waiting = Waiting::new(order);
        self.waiting.set_flow_limit(self.flow_limit);
        self
    }

    /// Sets the longest [wait](crate::Builder::max_wait) of later arrivals. Default is none.
    #[must_use]
    pub fn max_wait(mut self, max_wait: Duration) -> Self {
        self.max_wait = Some(max_wait);
        self
    }

    /// Sets the [limit of each flow](crate::Builder::flow_limit), before anything arrives. Default
    /// is none. 0 counts as 1.
    #[must_use]
    pub fn flow_limit(mut self, limit: usize) -> Self {
        self.flow_limit = Some(limit.max(1));
        self.waiting.set_flow_limit(self.flow_limit);
        self
    }

    /// Sets the initial mean service time. Default is the service time of the first call.
    ///
    /// The mean sets the charges of flows, the threshold of [`Order::AdaptiveLifo`], and the
    /// spacing of dispatches below a limit of 1.
    #[must_use]
    pub fn service_time(mut self, mean: Duration) -> Self {
        self.service = Some(mean.as_secs_f64());
        self
    }

    /// Admits a request, or refuses it.
    ///
    /// The `id` must differ from the ids of all waiting and running requests. If nothing waits and
    /// the limit allows, the call runs from now on. Otherwise the request waits. Either way
    /// [`start`](Self::start) or [`remove`](Self::remove) will return the `id`.
    ///
    /// # Errors
    ///
    /// [`Reason::Deadline`] if its deadline has passed, and [`Reason::Full`] if no place is free
    /// and no other request gives way.
    pub fn arrive(&mut self, id: u64, class: &Class, now: Instant) -> Result<(), Reason> {
        if class.deadline.is_some_and(|at| at <= now) {
            return Err(Reason::Deadline);
        }
        // At most the limit, or the request could never run.
        let weight = self.slots().min(class.rank.cost as usize);
        let rank = Rank { cost: weight as u32, ..class.rank };
        let missing = (self.waiting.places() + self.taken + weight)
            .saturating_sub(self.capacity.saturating_add(self.slots()));
        if missing > 0 && !self.waiting.gives_way_to(rank, missing) {
            return Err(Reason::Full);
        }
        let deadline = class.deadline.map(|at| (at, Reason::Deadline));
        let max_wait =
            self.max_wait.and_then(|wait| Some((now.checked_add(wait)?, Reason::MaxWait)));
        // The deadline wins a tie, as in the layer.
        let late = deadline.into_iter().chain(max_wait).min_by_key(|(at, _)| *at);
        let asked = class.rank.cost as usize;
        let may_be_direct =
            self.limit() >= 1.0 && (self.flow_limit.is_none() || rank.flow == NO_FLOW);
        if may_be_direct && self.queued() == 0 && self.taken + weight <= self.slots() {
            // As in the layer, a direct call is never queued, and charges no flow.
            self.run(id, rank.priority, weight, now, Duration::ZERO, &Charge::default());
            self.direct.push_back(id);
            return Ok(());
        }
        self.waiting.push(Waiter { id, rank, asked, late, gone: AtomicBool::new(false) }, now);
        let places = self.waiting.places();
        while places - self.waiting.places() < missing.min(weight) && self.waiting.evict() {}
        Ok(())
    }

    /// Takes the id of a removed request, and the reason: late, or evicted by a newcomer.
    pub fn remove(&mut self, now: Instant) -> Option<(u64, Reason)> {
        self.waiting.take_removed(now)
    }

    /// Starts the next request if the limit allows.
    pub fn start(&mut self, now: Instant) -> Option<u64> {
        if let Some(id) = self.direct.pop_front() {
            return Some(id);
        }
        let (taken, all) = (self.taken, self.slots());
        if taken >= all || self.limit() < 1.0 && self.due.is_some_and(|due| now < due) {
            self.waiting.tidy();
            return None;
        }
        let times =
            self.services.map(|mean| Duration::try_from_secs_f64(mean.or(self.service)?).ok());
        let fits = |waiter: &Waiter| taken + waiter.asked.min(all) <= all;
        let Some((entry, charge)) = self.waiting.pop(now, &times, fits) else {
            self.waiting.tidy();
            return None;
        };
        let Entry { item, admitted, .. } = entry;
        let wait = now.saturating_duration_since(admitted);
        self.run(item.id, item.rank.priority, item.asked.min(all), now, wait, &charge);
        Some(item.id)
    }

    /// Ends a running call with an outcome. Without a running call of this `id` nothing happens.
    pub fn finish(&mut self, id: u64, now: Instant, outcome: Outcome) {
        let Some(ended) = self.running.remove(&id) else { return };
        let Running { sample, priority, slots, charge, right } = ended;
        right.into_iter().for_each(|right| self.waiting.give_back(right));
        let was_full = self.taken >= self.slots();
        self.taken -= slots;
        let sample = Sample {
            finished: now,
            in_flight: self.taken,
            limit_reached: sample.limit_reached || self.queued() > 0 && was_full,
            outcome,
            ..sample
        };
        let time = sample.service_time();
        if let Some(charge) = charge {
            self.waiting.settle(charge, time);
        }
        self.algorithm.on_sample(&sample);
        for mean in [&mut self.service, &mut self.services[priority.index()]] {
            let known = mean.unwrap_or(time.as_secs_f64());
            *mean = Some(known + MEMORY * (time.as_secs_f64() - known));
        }
    }

    /// Tells the limit algorithm the time. The layer ticks every 10 ms while calls run or wait.
    pub fn tick(&mut self, now: Instant) {
        let queued = match self.flow_limit {
            None => self.queued(),
            Some(_) => self.waiting.eligible(),
        };
        self.algorithm.on_tick(now, &Load::new(self.in_flight(), queued));
        self.waiting.purge();
    }

    /// Returns the number of waiting requests.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.waiting.queued()
    }

    /// Returns the number of running calls.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.running.len()
    }

    /// Returns the exact limit of the algorithm. The slots are the whole part, and at least 1.
    #[must_use]
    pub fn limit(&self) -> f64 {
        self.algorithm.limit()
    }

    fn slots(&self) -> usize {
        (self.limit() as usize).clamp(1, u32::MAX as usize)
    }

    fn run(
        &mut self,
        id: u64,
        priority: Priority,
        slots: usize,
        now: Instant,
        wait: Duration,
        charge: &Charge,
    ) {
        self.taken += slots;
        let sample = Sample {
            wait,
            in_flight_at_dispatch: self.taken,
            limit_reached: self.taken >= self.slots(),
            ..Sample::new(now, now, Outcome::Success)
        };
        self.running.insert(
            id,
            Running { sample, priority, slots, charge: charge.id, right: charge.right },
        );
        // Little's law: below a limit of 1, the mean service time divided by the limit is the
        // interval between dispatches.
        let earliest = now.checked_sub(TICK).unwrap_or(now);
        let from = self.due.unwrap_or(earliest).max(earliest);
        let gap = self.service.map(|mean| Duration::try_from_secs_f64(mean / self.limit()));
        self.due = from.checked_add(gap.and_then(Result::ok).unwrap_or_default());
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Model");
        debug.field("queued", &self.queued()).field("in_flight", &self.in_flight());
        debug.field("limit", &self.limit()).finish_non_exhaustive()
    }
}
