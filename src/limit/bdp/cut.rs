use super::{interval::Interval, statistics::Mean};

/// A large cut of the limit as an experiment: throughput follows, or does not follow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// The interval before the cut.
    pub(super) before: Interval,
    /// The service time that led to the cut.
    pub(super) service: Mean,
    /// Set for the first cut in a row. Only a search without a target makes more.
    pub(super) first: bool,
    /// Set for a look below a start, as the start may have been too much.
    pub(super) below_start: bool,
}

/// The elasticity from which throughput counts as having followed.
const FOLLOWED: f64 = 0.5;
/// The elasticity from which a cut went too far, although throughput did not follow the cut all the
/// way.
const PARTLY: f64 = 0.15;

impl Cut {
    /// Returns whether throughput has fallen with the limit: the calls were not only waiting.
    pub(super) fn is_followed(&self, interval: &Interval, variation: f64) -> bool {
        let (elasticity, error) = interval.elasticity(&self.before, variation);
        elasticity - 0.5 * error > FOLLOWED
    }

    /// Returns whether the result is clear before the end of the interval: a sequential test.
    /// Undoing the cut takes one standard error, and keeping the cut two, since undoing a cut in
    /// vain costs little.
    pub(super) fn is_decided(&self, interval: &Interval, variation: f64) -> bool {
        let (elasticity, error) = interval.elasticity(&self.before, variation);
        elasticity - FOLLOWED > error || FOLLOWED - elasticity > 2.0 * error
    }

    /// Returns the baseline of a startup that goes on, since throughput followed the first cut.
    pub(super) fn baseline(&self, interval: &Interval) -> Mean {
        let now = interval.mean_latency();
        if !self.below_start {
            return now;
        }
        let mut base = self.service;
        base.add(now.value, now.count);
        base
    }

    /// Returns the service time found by a cut without a target, or `None` if throughput has not
    /// fallen: then the knee is lower still.
    pub(super) fn found(&self, interval: &Interval, variation: f64) -> Option<Mean> {
        let now = interval.mean_latency();
        if !self.below_start {
            return self.is_followed(interval, variation).then_some(now);
        }
        // The knee is in between, where calls take as long as before the cut, or longer.
        let value = self.service.value.max(now.value);
        let count = self.service.count + now.count;
        self.went_too_far(interval, variation).then_some(Mean { value, count })
    }

    /// Returns the next cut in a row, from an interval with no less throughput.
    pub(super) fn lower(&self, interval: Interval) -> Self {
        if !self.below_start {
            return Self { before: interval, first: false, ..*self };
        }
        // Small steps down add up: the best throughput so far stays the measure.
        let before = Interval { rate: self.before.rate.max(interval.rate), ..interval };
        Self { before, service: interval.mean_latency(), first: false, ..*self }
    }

    /// Returns whether throughput followed a cut at least a part of the way.
    fn went_too_far(&self, interval: &Interval, variation: f64) -> bool {
        let (elasticity, error) = interval.elasticity(&self.before, variation);
        elasticity > PARTLY + 0.5 * error
    }

    /// Returns the service time after a cut without a fall of throughput.
    pub(super) fn service(&self, interval: &Interval, variation: f64) -> Mean {
        let now = interval.mean_latency();
        if self.went_too_far(interval, variation) {
            // If throughput grows evenly up to the knee and not at all beyond, the time of a call
            // at the knee is the same as below the knee.
            return Mean { value: self.service.value.max(now.value), ..self.service };
        }
        let mut service = self.service;
        service.add(now.value, now.count);
        service
    }
}
