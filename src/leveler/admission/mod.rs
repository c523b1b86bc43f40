//! Admission: may a request come in, and may it run at once?
//!
//! [`admit`](admit::admit) asks in this order: would the request miss its deadline
//! ([`prediction`])? Is its priority shed ([`shedding`])? Is a place free ([`bound`])? If not, can
//! a request in the queue give way ([`occupancy`])?
//!
//! The answer is a right. A [`Place`](place::Place) is the right to wait, and a
//! [`Slot`](slot::Slot) the right to run. A [`Reservation`](reservation::Reservation) is a place
//! held by a service for the next call. `Drop` gives a right back, and notifies the [`Listeners`].

pub(crate) mod admit;
pub(crate) mod arrival;
pub(crate) mod bound;
pub(crate) mod bypass;
mod flow_length;
pub(crate) mod flow_limit;
mod flow_weights;
mod full_flows;
pub(crate) mod listeners;
pub(crate) mod occupancy;
pub(crate) mod on_turn;
pub(crate) mod overrun;
pub(crate) mod place;
pub(crate) mod prediction;
pub(crate) mod queue_size;
pub(crate) mod refusal;
pub(crate) mod reservation;
pub(crate) mod shedding;
pub(crate) mod slot;
mod turn;
pub(crate) mod unserved;
pub(crate) mod waiter;
pub(crate) mod waitlist;
pub(crate) mod watched_flows;
pub(crate) mod word;

use std::time::Duration;

use tokio::time::Instant;

use self::{
    arrival::Arrival,
    bound::{Bound, StoredLimit},
    bypass::Bypass,
    flow_limit::FlowLimit,
    listeners::Listeners,
    occupancy::Occupancy,
    prediction::{
        histories::Likeness,
        predictor::{Load, Prediction, Predictor},
    },
    shedding::shedder::Shedder,
    turn::Turn,
    watched_flows::WatchedFlows,
    word::Counts,
};
use super::{max_wait::MaxWait, settings::Given};
use crate::{
    class::Class,
    class::Rank,
    flow_key::FlowKey,
    options::{Order, Overflow},
    stats::{Counters, PriorityRecorder},
    sync::{
        CachePadded,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

/// The part of the time from arrival to deadline that counts as no wait: a sixteenth.
const HARDLY: u32 = 16;

/// The state behind admission: places, slots, predictions and counters.
#[derive(Debug)]
pub(crate) struct Admission {
    bound: Bound,
    turn: CachePadded<Turn>,
    pub(crate) occupancy: Occupancy,
    pub(crate) shedder: Shedder,
    /// The secret function applied to flows before a table sees them.
    pub(crate) flow_key: FlowKey,
    /// Written by every end of a call. The neighbours are read by every admission.
    pub(crate) predictor: CachePadded<Predictor>,
    pub(crate) listeners: Listeners,
    pub(crate) counters: Counters,
    /// The waits of the requests removed, or given up while waiting.
    pub(crate) removed_wait: PriorityRecorder,
    /// The busiest flows, if watched.
    pub(crate) flows: Option<Box<WatchedFlows>>,
    bypass: Bypass,
    /// The limit on the running calls of each flow.
    pub(crate) flow_limit: FlowLimit,
    overflow: Overflow,
    order: Order,
    /// Set if a rate of dispatches is set. Only the drain task dispatches then.
    has_rate: AtomicBool,
    /// The wait limit of newcomers.
    pub(crate) max_wait: MaxWait,
}

impl Admission {
    pub(super) fn new(settings: &Given) -> Self {
        let now = Instant::now();
        let cohort_key = settings.cohort_key.unwrap_or_else(FlowKey::random);
        Self {
            bound: Bound::new(settings.capacity, settings.limit),
            turn: CachePadded::default(),
            occupancy: Occupancy::new(settings.capacity),
            flow_key: settings.flow_key.unwrap_or_else(FlowKey::random),
            shedder: Shedder::new(now, cohort_key, settings.hour),
            predictor: CachePadded::new(Predictor::new(now)),
            listeners: Listeners::new(settings.overflow),
            counters: Counters::default(),
            removed_wait: PriorityRecorder::default(),
            flows: WatchedFlows::new(settings.watch_flows),
            bypass: Bypass::new(settings.bypass_limit),
            flow_limit: FlowLimit::new(settings.line.flow_limit),
            overflow: settings.overflow,
            order: settings.line.order,
            has_rate: AtomicBool::new(settings.pacing.rate.is_some()),
            max_wait: MaxWait::new(settings.max_wait),
        }
    }

    #[inline]
    pub(crate) fn counts(&self) -> Counts {
        self.bound.counts()
    }

    /// Returns whether the flow of a request has used up its share: of the queue, or of the slots
    /// for a flow.
    pub(crate) fn is_over_share(&self, rank: Rank) -> bool {
        self.occupancy.is_over_share(rank) || self.flow_limit.is_full(rank)
    }

    pub(crate) fn capacity(&self) -> usize {
        self.bound.capacity()
    }

    #[inline]
    pub(crate) fn limit(&self) -> usize {
        self.bound.limit()
    }

    /// Returns the exact limit, possibly below 1.
    #[inline]
    pub(crate) fn exact_limit(&self) -> f64 {
        self.bound.exact_limit()
    }

    /// Returns the number of places.
    pub(crate) fn total(&self) -> usize {
        self.bound.total()
    }

    /// Returns how many requests of cost 1 would find a free place now.
    pub(crate) fn room(&self) -> usize {
        let counts = self.counts();
        let free = self.total().saturating_sub(counts.held());
        if counts.is_closed() { 0 } else { free }
    }

    /// Returns the number of places reserved by ready services, for later calls.
    pub(crate) fn reserved(&self) -> usize {
        self.bound.reserved()
    }

    /// Returns the number of running requests, regardless of cost.
    pub(crate) fn running(&self) -> usize {
        self.bound.running()
    }

    /// Returns how many requests may bypass the queue at once.
    pub(crate) fn bypass_limit(&self) -> usize {
        self.bypass.limit()
    }

    /// Returns the number of requests on the budget of [`Class::bypass`](crate::Class::bypass).
    pub(crate) fn bypassing(&self) -> usize {
        self.bypass.running()
    }

    /// Returns the cost of the requests admitted and not finished.
    pub(crate) fn unfinished(&self) -> usize {
        self.bound.unfinished()
    }

    /// Returns whether a rate of dispatches is set.
    #[inline]
    pub(crate) fn has_rate(&self) -> bool {
        self.has_rate.load(SeqCst)
    }

    /// Takes note whether a rate of dispatches is set.
    pub(crate) fn set_has_rate(&self, has_rate: bool) {
        self.has_rate.store(has_rate, SeqCst);
    }

    /// Sets how many requests may bypass the queue at once.
    pub(crate) fn set_bypass_limit(&self, limit: usize) {
        self.bypass.set_limit(limit);
    }

    /// Returns whether dispatches are spaced. Only the drain task can space dispatches.
    #[inline]
    pub(crate) fn is_paced(&self) -> bool {
        self.has_rate() || self.exact_limit() < 1.0
    }

    /// Returns whether a request of cost `cost` may be dispatched now.
    pub(crate) fn may_dispatch(&self, cost: usize) -> bool {
        self.bound.may_dispatch(cost)
    }

    /// Returns whether a newcomer of cost `cost` may be dispatched now, together with everything
    /// that waits for a slot. A free slot alone is not enough: a request in front may need more.
    pub(crate) fn may_dispatch_with_all(&self, cost: usize) -> bool {
        self.may_dispatch(cost.saturating_add(self.occupancy.eligible_total()))
    }

    /// Returns whether the drain task has work to do for a newcomer like the waiting requests.
    #[inline]
    pub(crate) fn needs_drain(&self) -> bool {
        self.bound.needs_drain()
    }

    /// Returns whether requests were admitted over the bound.
    #[inline]
    pub(crate) fn is_over_bound(&self) -> bool {
        self.counts().held() > self.total()
    }

    /// Sets the capacity.
    pub(crate) fn set_capacity(&self, capacity: usize) {
        self.bound.set_capacity(capacity);
        self.listeners.on_bounds_changed();
    }

    /// Stores a limit, and tells nobody.
    #[must_use = "the listeners are to learn of it"]
    pub(crate) fn store_limit(&self, limit: f64) -> StoredLimit {
        self.bound.set_limit(limit)
    }

    /// Stores the limit asked for by an algorithm, if different. Mostly it is the same.
    #[inline]
    pub(crate) fn store_asked_limit(&self, limit: f64) -> Option<StoredLimit> {
        let is_same = self.bound.exact_limit().to_bits() == limit.to_bits();
        if is_same { None } else { Some(self.store_limit(limit)) }
    }

    /// Notifies the listeners of a new limit.
    pub(crate) fn on_limit_stored(&self, stored: &StoredLimit) {
        if stored.before != stored.after {
            self.listeners.on_bounds_changed();
        } else if stored.is_spaced() {
            self.listeners.drain.wake();
        }
    }

    /// Pauses dispatch. Returns false if paused or closed already.
    pub(crate) fn pause(&self) -> bool {
        self.bound.pause()
    }

    /// Resumes dispatch. Returns false if not paused.
    pub(crate) fn resume(&self) -> bool {
        let resumed = self.bound.resume();
        if resumed {
            self.listeners.drain.wake();
        }
        resumed
    }

    /// Refuses newcomers from now on. Returns false if closed already.
    pub(crate) fn close(&self) -> bool {
        let closed = self.bound.close();
        self.listeners.on_bounds_changed();
        closed
    }

    /// Returns the arrival of a request of the class.
    #[inline(always)]
    pub(crate) fn arrival(&self, class: &Class) -> Arrival {
        let mut arrival = Arrival::new(class, self.limit(), &self.flow_key);
        arrival.kind = self.predictor.kind(class.kind);
        arrival
    }

    /// Counts a request of a flow, if flows are watched.
    #[inline(always)]
    pub(crate) fn on_asked(&self, arrival: &Arrival) {
        if let Some(flows) = &self.flows {
            flows.on_asked(arrival);
        }
    }

    /// Counts a refused or removed request of a flow, if flows are watched.
    #[inline(always)]
    pub(crate) fn on_rejected(&self, flow: u64) {
        if let Some(flows) = &self.flows {
            flows.on_rejected(flow);
        }
    }

    /// Predicts whether a request at its turn will be ready in the time `left`. If nothing runs,
    /// the request is in time (law 11).
    pub(crate) fn predict(&self, like: Likeness, left: Duration, now: Instant) -> Prediction {
        if self.predictor.surely_ends(like, 0.0, left) {
            return Prediction::InTime;
        }
        let in_flight = self.counts().in_flight();
        let whole = like.budget.time();
        // A request that has hardly waited was judged at its arrival, and no more is known now.
        if in_flight == 0 || whole.is_some_and(|whole| left > whole - whole / HARDLY) {
            return Prediction::InTime;
        }
        // The request itself still counts as waiting.
        let others_wait = self.occupancy.eligible() > 1;
        let limit = self.exact_limit();
        let load = Load { others_wait, is_newcomer: false, in_flight, limit, now };
        // The time waited counts like the wait predicted for a newcomer, but only without
        // overtaking: the requests behind have waited less, and use the slot better.
        let is_overtaken = self.order != Order::Fifo || !others_wait;
        let whole = whole.filter(|whole| !is_overtaken && *whole > left);
        let waited = whole.map_or(Duration::ZERO, |whole| whole - left);
        self.predictor.predict(like, waited, waited + left, load)
    }
}

/// Access to the admission that granted a right.
pub(crate) trait Grantor {
    fn admission(&self) -> &Admission;
}

impl Grantor for &Admission {
    #[inline]
    fn admission(&self) -> &Admission {
        self
    }
}
