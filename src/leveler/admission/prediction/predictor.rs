use std::time::Duration;

use tokio::time::Instant;

use super::{budget_times::BudgetTimes, service_times::ServiceTimes};
use crate::{
    class::Priority,
    leveler::{admission::occupancy::QueueSize, budget::Budget},
    retry_after::Estimate,
    stats::DrainRate,
};

/// Predicts how long requests take, from requests that have ended.
#[derive(Debug)]
pub(crate) struct Predictor {
    pub(crate) service_times: ServiceTimes,
    budget_times: BudgetTimes,
    pub(crate) drain_rate: DrainRate,
}

/// The prediction for a request with a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prediction {
    InTime,
    TooLate,
    /// Too late, but the request may run to test the prediction.
    Probe,
}

impl Predictor {
    pub(crate) fn new(origin: Instant) -> Self {
        Self {
            service_times: ServiceTimes::new(),
            budget_times: BudgetTimes::new(origin),
            drain_rate: DrainRate::new(origin),
        }
    }

    /// Records the service time of a returned call. `held` is the time for which the call had its
    /// slot, if that is longer.
    pub(crate) fn record(
        &self,
        priority: Priority,
        budget: Budget,
        time: Duration,
        held: Option<Duration>,
    ) {
        let nanos = nanos(time);
        self.service_times.record(priority, nanos, held.map(self::nanos));
        self.budget_times.record(budget, nanos);
    }

    /// Records a call dropped before the end (a censored observation).
    ///
    /// If the age exceeds the mean, the call counts as age + mean, the expected total for
    /// exponential times. Without this, callers who give up would make a slow inner look fast.
    pub(crate) fn record_censored(&self, priority: Priority, budget: Budget, age: Duration) {
        if let Some(mean) = self.service_times.mean().filter(|mean| *mean < age) {
            self.record(priority, budget, age + mean, None);
        }
    }

    /// Takes note of the end of a call after which nothing is in flight.
    pub(crate) fn on_idle(&self, budget: Budget, now: Instant) {
        self.budget_times.on_idle(budget, now);
    }

    /// Returns the time until the end of all `waiting` requests, or of one call. The estimate rests
    /// on the recent drain rate, or else on the limit and the mean time per slot.
    pub(crate) fn time_for(&self, waiting: QueueSize, limit: f64) -> Estimate {
        if let Some(rate) = self.drain_rate.per_second() {
            return Estimate::by_rate(rate, waiting.requests.max(1));
        }
        let by_limit = |nanos| Estimate::by_limit(nanos, waiting.weight.max(1), limit);
        self.service_times.slot_nanos().map_or(Estimate::Unknown, by_limit)
    }

    /// Predicts whether a request dispatched after `wait` seconds is ready in the time `left`. If
    /// nothing is in flight, the request is in time: the means are outdated then, and fade.
    pub(crate) fn predict(
        &self,
        budget: Budget,
        wait: f32,
        left: Duration,
        is_idle: bool,
        now: Instant,
    ) -> Prediction {
        if is_idle {
            self.budget_times.fade(now);
            return Prediction::InTime;
        }
        match self.budget_times.predicted(budget) {
            Some(service) if wait + service > left.as_secs_f32() => {
                let may_probe = self.budget_times.may_probe(budget, service, now);
                if may_probe { Prediction::Probe } else { Prediction::TooLate }
            }
            _ => Prediction::InTime,
        }
    }

    /// Returns whether a call is predicted to take longer than `left`, even without waiting.
    pub(crate) fn takes_longer(&self, budget: Budget, left: Duration) -> bool {
        self.budget_times.predicted(budget) > Some(left.as_secs_f32())
    }
}

fn nanos(time: Duration) -> f32 {
    time.as_secs() as f32 * 1e9 + time.subsec_nanos() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn what_is_foreseen_needs_samples_and_fades_while_nothing_runs() {
        let start = Instant::now();
        let predictor = Predictor::new(start);
        let budget = Budget::of(MS * 200);
        let predicted = || predictor.budget_times.predicted(budget).map(Duration::from_secs_f32);
        let record = || predictor.record(Priority::Normal, budget, MS * 100, None);
        (0..7).for_each(|_| record());
        assert_eq!(predicted(), None);
        record();
        predictor.on_idle(budget, start);
        assert!(predicted().is_some_and(|time| time.abs_diff(MS * 100) < MS));
        predictor.budget_times.fade(start + MS * 300);
        assert!(predicted().is_some_and(|time| time.abs_diff(MS * 100 / 8) < MS));
        let kept = predictor.service_times.mean().map(|time| time.as_millis());
        assert_eq!(kept, Some(100), "what paces and measures does not fade");
    }
}
