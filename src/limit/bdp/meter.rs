//! What is measured while one limit holds.

use super::calls::Spread;

/// Throughput at a limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interval {
    pub(super) limit: f64,
    /// Successes a second.
    pub(super) rate: f64,
    /// How many that were.
    pub(super) count: f64,
}

impl Interval {
    /// Mean time of a call by Little's law, in seconds. The mean of the calls that have finished would be too
    /// small: in a short time only the short ones do.
    pub(super) fn latency(&self) -> f64 {
        self.limit / self.rate
    }

    /// How throughput follows the limit from one interval to another, as d ln rate / d ln limit: 1 below the knee, 0
    /// where more calls only wait for each other, less than that where they hold each other up. And the
    /// standard error of that.
    pub(super) fn elasticity(&self, other: &Self, variation: f64) -> (f64, f64) {
        let span = (other.limit / self.limit).ln();
        let noise = (variation * (1.0 / self.count + 1.0 / other.count)).sqrt();
        ((other.rate / self.rate).ln() / span, noise / span.abs())
    }
}

/// Measures an [`Interval`], and what else is to be known about that time. All times are seconds on one clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meter {
    pub(super) limit: f64,
    /// When the limit was set.
    pub(super) since: f64,
    /// What finishes before was dispatched under another limit.
    from: f64,
    /// Time in which nothing could finish, and when that was over.
    stalled: f64,
    resumed: f64,
    pub(super) successes: f64,
    samples: f64,
    bound: f64,
    /// Failures that took no time to speak of.
    pub(super) failed: f64,
    pub(super) overloaded: f64,
    /// The most that were in flight.
    pub(super) peak: f64,
    /// How long calls took.
    pub(super) times: Spread,
}

impl Meter {
    /// Begins to measure `warm_up` seconds from `now`.
    pub(super) fn new(limit: f64, now: f64, warm_up: f64) -> Self {
        Self {
            limit,
            since: now,
            from: now + warm_up,
            stalled: 0.0,
            resumed: now,
            successes: 0.0,
            samples: 0.0,
            bound: 0.0,
            failed: 0.0,
            overloaded: 0.0,
            peak: 0.0,
            times: Spread::default(),
        }
    }

    pub(super) fn is_warm(&self, now: f64) -> bool {
        now >= self.from.max(self.resumed)
    }

    pub(super) fn add(&mut self, now: f64, success: bool, bound: bool) {
        if self.is_warm(now) {
            self.samples += 1.0;
            self.bound += f64::from(u8::from(bound));
            self.successes += f64::from(u8::from(success));
        }
    }

    /// Leaves out the time between two instants: nothing could finish, and not for want of work.
    pub(super) fn skip(&mut self, from: f64, to: f64) {
        let from = from.max(self.resumed);
        self.resumed = self.resumed.max(to);
        self.stalled += (to - from.max(self.from)).max(0.0);
    }

    /// What has been measured so far.
    pub(super) fn interval(&self, now: f64) -> Interval {
        let time = (now.max(self.resumed) - self.from - self.stalled).max(1e-9);
        // No success at all is less than one.
        Interval {
            limit: self.limit,
            rate: self.successes.max(0.5) / time,
            count: self.successes.max(1.0),
        }
    }

    /// Whether the limit was in the way all the time, so that the rate is what the inner can do.
    pub(super) fn is_bound(&self) -> bool {
        self.samples > 0.0 && self.bound >= BOUND_SHARE * self.samples
    }

    /// Whether it was in the way now and then at least.
    pub(super) fn is_touched(&self) -> bool {
        self.bound > TOUCHED_SHARE * self.samples
    }
}

/// A little less than all: between two dispatches there may be nothing to dispatch for a moment.
const BOUND_SHARE: f64 = 0.9;
/// More than an odd burst.
const TOUCHED_SHARE: f64 = 0.05;
