use super::statistics::Mean;

/// The throughput of one interval: the time in which one limit was tried.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interval {
    pub(super) limit: f64,
    /// Successes a second.
    pub(super) rate: f64,
    /// The number of successes.
    pub(super) count: f64,
}

impl Interval {
    /// Returns the mean time of a call by Little's law, in seconds. The mean of the finished calls
    /// would be too small: in a short time only short calls finish.
    pub(super) fn latency(&self) -> f64 {
        self.limit / self.rate
    }

    /// Returns the mean latency, with the number of calls behind the mean.
    pub(super) fn mean_latency(&self) -> Mean {
        Mean { value: self.latency(), count: self.count }
    }

    /// Returns how throughput follows the limit from `self` to `other`, as d ln rate / d ln limit,
    /// and the standard error. The elasticity is 1 below the knee, 0 where more calls only wait for
    /// each other, and negative where more calls mean less work.
    pub(super) fn elasticity(&self, other: &Self, variation: f64) -> (f64, f64) {
        let span = (other.limit / self.limit).ln();
        let noise = (variation * (1.0 / self.count + 1.0 / other.count)).sqrt();
        ((other.rate / self.rate).ln() / span, noise / span.abs())
    }
}
