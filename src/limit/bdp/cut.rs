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

    /// Returns the service time after a cut without a fall of throughput.
    pub(super) fn service(&self, interval: &Interval, variation: f64) -> Mean {
        let (elasticity, error) = interval.elasticity(&self.before, variation);
        let now = interval.mean_latency();
        if elasticity > PARTLY + 0.5 * error {
            // If throughput grows evenly up to the knee and not at all beyond, the time of a call
            // at the knee is the same as below the knee.
            return Mean { value: self.service.value.max(now.value), ..self.service };
        }
        let mut service = self.service;
        service.add(now.value, now.count);
        service
    }
}
