use std::time::Duration;

use tokio::time::Instant;

use super::{
    histories::{Histories, Likeness},
    history::{History, Known},
    service_times::ServiceTimes,
};
use crate::{
    class::NO_KIND,
    leveler::{admission::queue_size::QueueSize, budget::Budget, kind::Kind},
    retry_after::Estimate,
    stats::DrainRate,
};

/// Predicts the service times of requests from ended requests.
#[derive(Debug)]
pub(crate) struct Predictor {
    pub(crate) service_times: ServiceTimes,
    histories: Histories,
    origin: Instant,
    pub(crate) drain_rate: DrainRate,
}

/// The prediction for a request with a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prediction {
    InTime,
    /// Refused. `by_itself` is set if no wait is to blame.
    TooLate {
        by_itself: bool,
    },
    /// Too late, but the request may run to test the prediction.
    Probe,
}

/// The load at the time of a prediction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Set if another request waits, or no slot is free.
    pub(crate) others_wait: bool,
    /// Set if the request has just arrived. Otherwise the request is at its turn.
    pub(crate) is_newcomer: bool,
    pub(crate) in_flight: usize,
    pub(crate) limit: f64,
    pub(crate) now: Instant,
}

impl Predictor {
    pub(crate) fn new(origin: Instant) -> Self {
        Self {
            service_times: ServiceTimes::new(),
            histories: Histories::new(),
            origin,
            drain_rate: DrainRate::new(origin),
        }
    }

    /// Records the service time of a returned call. `held` is the time for which the call had its
    /// slot, if longer.
    #[inline]
    pub(crate) fn record(&self, like: Likeness, time: Duration, held: Option<Duration>) {
        let nanos = nanos(time);
        self.service_times.record(like.priority, nanos, held.map(self::nanos));
        if let Some(history) = self.histories.of(like) {
            history.record(nanos);
        }
    }

    /// Records a call dropped before the end (a censored observation).
    ///
    /// If the age exceeds the mean, the call counts as age + mean, the expected total for
    /// exponential times. Otherwise callers who give up would make a slow inner look fast.
    pub(crate) fn record_censored(&self, like: Likeness, age: Duration) {
        if let Some(mean) = self.service_times.mean().filter(|mean| *mean < age) {
            self.record(like, age + mean, None);
        }
    }

    /// Returns the time until the end of all `waiting` requests, or of one call. The estimate rests
    /// on the recent drain rate, or else on the limit and the mean time per slot.
    pub(crate) fn time_for(&self, waiting: QueueSize, limit: f64) -> Estimate {
        if let Some(rate) = self.drain_rate.per_second() {
            return Estimate::by_rate(rate, waiting.requests.max(1));
        }
        self.time_for_flow(waiting, limit)
    }

    /// Returns the time of [`time_for`](Self::time_for), for `waiting` requests of cost 1, in
    /// nanoseconds. Zero if unknown, and possibly not finite.
    #[inline]
    pub(crate) fn nanos_for(&self, waiting: u32, limit: f64) -> f32 {
        let waiting = waiting as f32;
        match self.drain_rate.per_second() {
            Some(rate) => waiting / rate as f32 * 1e9,
            None => self.service_times.slot_nanos().unwrap_or(0.0) * waiting / limit as f32,
        }
    }

    /// Returns the time until the end of all `waiting` requests of a flow, with `limit` slots at
    /// most. The drain rate covers all flows, and says nothing about a single flow.
    pub(crate) fn time_for_flow(&self, waiting: QueueSize, limit: f64) -> Estimate {
        let by_limit = |nanos| Estimate::by_limit(nanos, waiting.weight.max(1), limit);
        self.service_times.slot_nanos().map_or(Estimate::Unknown, by_limit)
    }

    /// Returns the kind with the hash `hash`.
    #[inline]
    pub(crate) fn kind(&self, hash: u64) -> Kind {
        if hash == NO_KIND { Kind::NONE } else { self.histories.kind(hash) }
    }

    /// Returns whether even a slow call of like requests, begun after `wait` nanoseconds, surely
    /// ends within `left`, so that no more is to be looked at.
    #[inline]
    pub(crate) fn surely_ends(&self, like: Likeness, wait: f32, left: Duration) -> bool {
        let history = self.histories.of(like);
        let time = history.map_or(0.0, History::sure);
        is_surely_below(wait + time, left) && history.is_none_or(|known| !known.was_congested())
    }

    /// Predicts whether a request dispatched after `wait` is ready in the time `left`.
    ///
    /// Two causes lead to a refusal. If the queue in front is too long, any request would be late.
    /// If the request takes too long by itself, as learned from like requests, a probe runs against
    /// the prediction now and then.
    ///
    /// The queue is too long if even a very slow request would be late behind it, unless the wait
    /// is less than half of `left`: one very slow call must not refuse others for long.
    ///
    /// While nobody else waits and a slot is free, a kind is refused by its low time alone.
    /// Requests without a kind are mixed, and are refused then only while they congest the inner.
    /// While others wait, the typical time counts.
    ///
    /// `wait` is zero while nobody waits, and at a request's turn.
    pub(crate) fn predict(
        &self,
        like: Likeness,
        wait: Duration,
        left: Duration,
        at: Load,
    ) -> Prediction {
        let by_wait = Prediction::TooLate { by_itself: false };
        if wait > left {
            return by_wait;
        }
        let Some(history) = self.histories.of(like) else { return Prediction::InTime };
        // Mostly even a slow call is in time. A congestion may have to be ended.
        let is_short = is_surely_below(history.sure(), left - wait);
        if is_short && (at.others_wait || !history.was_congested()) {
            return Prediction::InTime;
        }
        let Some(known) = history.known() else { return Prediction::InTime };
        if wait > left / 2 && wait + known.sure > left {
            return by_wait;
        }
        let micros = || at.now.saturating_duration_since(self.origin).as_micros() as u64 + 1;
        let may_probe = |time| history.may_probe(time, at.limit, micros());
        let is_probe = if at.others_wait {
            let time = in_company(known, like.budget);
            if wait + time <= left {
                return Prediction::InTime;
            }
            may_probe(time)
        } else if like.kind != Kind::NONE || !at.is_newcomer {
            if wait + known.low <= left {
                return Prediction::InTime;
            }
            may_probe(known.low)
        } else {
            if !is_congested(history, known, like.budget, left, at) || known.high <= left {
                if known.low > left && at.in_flight > 0 {
                    // As good as a probe.
                    may_probe(known.low);
                }
                return Prediction::InTime;
            }
            history.may_probe_congestion(micros())
        };
        match is_probe {
            true => Prediction::Probe,
            false => Prediction::TooLate { by_itself: known.low > left },
        }
    }
}

/// Returns the relevant time while others wait: the typical time, at most half of the budget. A
/// time learned earlier must not refuse for ever a request with a little wait.
fn in_company(known: Known, budget: Budget) -> Duration {
    let Known { low, typical, .. } = known;
    match budget.time() {
        Some(whole) if typical >= whole => low,
        Some(whole) => typical.min(whole / 2).max(low),
        None => typical.max(low),
    }
}

/// Returns whether a limit far too high lets calls without a kind wait inside of the inner.
///
/// A congestion begins when typically late and never quick calls take more than an eighth of the
/// slots, and more than 8. The congestion ends when few still run. In between a request has to have
/// time for a slow call. Otherwise an inner with a queue full of late calls would not recover. A
/// quick call ends a congestion too: the calls are mixed, and the slow calls say nothing about the
/// rest.
fn is_congested(history: &History, known: Known, budget: Budget, left: Duration, at: Load) -> bool {
    let in_flight = at.in_flight as f64;
    let is_mixed = budget.time().is_none_or(|whole| known.low <= whole / 2);
    let begins = in_flight > (at.limit / 8.0).max(8.0) && !is_mixed && known.typical > left;
    history.is_congested(begins, is_mixed || in_flight <= at.limit / 64.0)
}

/// Returns whether a time in nanoseconds is shorter than `left`. Rounded: nearly equal times are
/// left to an exact look.
#[inline]
fn is_surely_below(time: f32, left: Duration) -> bool {
    time * (1.0 + 4.0 * f32::EPSILON) < nanos(left)
}

#[inline]
fn nanos(time: Duration) -> f32 {
    time.as_secs() as f32 * 1e9 + time.subsec_nanos() as f32
}
