//! Admission: may a request come in, and may it run at once?
//!
//! [`admit`](admit::admit) asks in this order: would the request miss its deadline
//! ([`prediction`])? Is its priority shed ([`shedding`])? Is there a place for it ([`places`])? If
//! not, can a request in the queue give way ([`occupancy`])?
//!
//! The answer is a right. A [`Place`](place::Place) is the right to wait, a [`Slot`](slot::Slot)
//! the right to run, a [`Reservation`](reservation::Reservation) a place that a service holds for
//! its next call. Each gives itself back in `Drop`, and tells the [`Listeners`].

pub(crate) mod admit;
pub(crate) mod arrival;
pub(crate) mod bypass;
pub(crate) mod listeners;
pub(crate) mod occupancy;
pub(crate) mod overrun;
pub(crate) mod place;
pub(crate) mod places;
pub(crate) mod prediction;
pub(crate) mod refusal;
pub(crate) mod reservation;
pub(crate) mod shedding;
pub(crate) mod slot;
pub(crate) mod unserved;
pub(crate) mod waiter;
pub(crate) mod waitlist;
pub(crate) mod word;

use std::time::Duration;

use tokio::time::Instant;

use self::{
    bypass::Bypass,
    listeners::Listeners,
    occupancy::Occupancy,
    places::Places,
    prediction::predictor::{Prediction, Predictor},
    shedding::shedder::Shedder,
    word::Counts,
};
use super::{budget::Budget, settings::Settings, wait_limit::MaxWait};
use crate::{
    options::{Order, Overflow},
    stats::Counters,
};

/// Knows who may come in, and counts who did.
#[derive(Debug)]
pub(crate) struct Admission {
    places: Places,
    pub(crate) occupancy: Occupancy,
    pub(crate) shedder: Shedder,
    pub(crate) predictor: Predictor,
    pub(crate) listeners: Listeners,
    pub(crate) counters: Counters,
    bypass: Bypass,
    overflow: Overflow,
    order: Order,
    /// Whether a rate of dispatches was set: then the drain task alone dispatches.
    has_rate: bool,
    /// How long newcomers may wait.
    pub(crate) max_wait: MaxWait,
}

impl Admission {
    pub(super) fn new(settings: &Settings) -> Self {
        let now = Instant::now();
        Self {
            places: Places::new(settings.capacity, settings.limit),
            occupancy: Occupancy::new(),
            shedder: Shedder::new(now),
            predictor: Predictor::new(now),
            listeners: Listeners::new(settings.overflow),
            counters: Counters::default(),
            bypass: Bypass::new(settings.bypass_limit),
            overflow: settings.overflow,
            order: settings.line.order,
            has_rate: settings.rate.is_some(),
            max_wait: MaxWait::new(settings.max_wait),
        }
    }

    #[inline]
    pub(crate) fn counts(&self) -> Counts {
        self.places.counts()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.places.capacity()
    }

    #[inline]
    pub(crate) fn limit(&self) -> usize {
        self.places.limit()
    }

    /// Returns the limit as it was asked for, which may be below 1.
    #[inline]
    pub(crate) fn exact_limit(&self) -> f64 {
        self.places.exact_limit()
    }

    /// Returns how many places there are.
    pub(crate) fn total(&self) -> usize {
        self.places.total()
    }

    /// Returns how many requests run, whatever they cost.
    pub(crate) fn running(&self) -> usize {
        self.places.running()
    }

    /// Returns how many requests use the budget of [`Class::bypass`](crate::Class::bypass).
    pub(crate) fn bypassing(&self) -> usize {
        self.bypass.running()
    }

    /// Returns the cost of the requests admitted and not finished.
    pub(crate) fn unfinished(&self) -> usize {
        self.places.unfinished()
    }

    /// Returns whether dispatches are spaced, which only the drain task can do.
    #[inline]
    pub(crate) fn is_paced(&self) -> bool {
        self.has_rate || self.exact_limit() < 1.0
    }

    /// Returns whether a request of this cost may be dispatched now.
    pub(crate) fn may_dispatch(&self, cost: usize) -> bool {
        self.places.may_dispatch(cost)
    }

    /// Lets direct admissions through again: nothing from the queue is on its way to the inner.
    pub(crate) fn end_dispatching(&self) {
        self.places.end_dispatching();
    }

    /// Sets the capacity.
    pub(crate) fn set_capacity(&self, capacity: usize) {
        self.places.set_capacity(capacity);
        self.listeners.on_bounds_changed();
    }

    /// Sets the limit. Returns the number of slots before and after, if that has changed.
    pub(crate) fn set_limit(&self, limit: f64) -> Option<(usize, usize)> {
        let before = self.places.limit();
        let exactly = self.places.set_limit(limit);
        if exactly != limit && exactly.min(limit) < 1.0 {
            // Dispatches are spaced otherwise now.
            self.listeners.drain.wake();
        }
        let after = self.places.limit();
        if before == after {
            return None;
        }
        self.listeners.on_bounds_changed();
        Some((before, after))
    }

    /// Stops dispatch. Returns whether this call did.
    pub(crate) fn pause(&self) -> bool {
        self.places.pause()
    }

    /// Lets dispatch go on. Returns whether this call did.
    pub(crate) fn resume(&self) -> bool {
        let resumed = self.places.resume();
        if resumed {
            self.listeners.drain.wake();
        }
        resumed
    }

    /// Admits nobody from now on. Returns whether this call closed.
    pub(crate) fn close(&self) -> bool {
        let closed = self.places.close();
        self.listeners.on_bounds_changed();
        closed
    }

    /// Predicts whether a request at its turn will be ready in the time `left`.
    pub(crate) fn predict(&self, budget: Budget, left: Duration, now: Instant) -> Prediction {
        let is_idle = self.counts().in_flight() == 0;
        self.predictor.predict(budget, 0.0, left, is_idle, now)
    }
}

/// Leads to the admission that a right came from, and goes back to.
pub(crate) trait Granted {
    fn admission(&self) -> &Admission;
}

impl Granted for &Admission {
    #[inline]
    fn admission(&self) -> &Admission {
        self
    }
}
