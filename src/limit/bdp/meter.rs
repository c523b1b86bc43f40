use super::{
    interval::Interval,
    statistics::{Longer, Spread},
};

/// Measures an [`Interval`], and counts other events of the same time. All times are seconds on one
/// clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meter {
    pub(super) limit: f64,
    /// The time at which the limit was set.
    pub(super) since: f64,
    /// The end of the warm-up. Earlier ends are of calls dispatched under another limit.
    from: f64,
    /// Set once measuring has begun: with the end of a call, so that a batch of simultaneous ends
    /// is counted whole or not at all.
    begun: bool,
    /// Time in which nothing could finish, in seconds.
    stalled: f64,
    /// The end of the last standstill.
    resumed: f64,
    pub(super) successes: f64,
    /// Successes and overloads after the warm-up.
    samples: f64,
    /// Samples of calls with the limit in the way.
    bound: f64,
    /// Failures within next to no time.
    pub(super) failed: f64,
    pub(super) overloaded: f64,
    /// The most calls in flight.
    pub(super) peak: f64,
    /// The service times of calls.
    pub(super) times: Spread,
    /// Calls dispatched during a startup, compared with the baseline.
    pub(super) longer: Longer,
}

/// The fewest calls to conclude anything from: the relative error of a rate from 16 is a quarter.
pub(super) const MIN_SAMPLES: f64 = 16.0;

/// The least share of samples with the limit in the way for the rate to be the inner's capacity. A
/// little less than 1, since between two dispatches the queue may be empty for a moment.
pub(super) const BOUND_SHARE: f64 = 0.9;
/// The share of samples with the limit in the way that is no more than an odd burst.
const TOUCHED_SHARE: f64 = 0.05;

impl Meter {
    /// Begins to measure `warm_up` seconds from `now`.
    pub(super) fn new(limit: f64, now: f64, warm_up: f64) -> Self {
        Self {
            limit,
            since: now,
            from: now + warm_up,
            begun: warm_up == 0.0,
            stalled: 0.0,
            resumed: now,
            successes: 0.0,
            samples: 0.0,
            bound: 0.0,
            failed: 0.0,
            overloaded: 0.0,
            peak: 0.0,
            times: Spread::default(),
            longer: Longer::default(),
        }
    }

    /// Returns whether the warm-up is over, and the last standstill too.
    pub(super) fn is_warm(&self, now: f64) -> bool {
        now >= self.from.max(self.resumed)
    }

    /// Returns for how long the interval has been measured, in seconds.
    pub(super) fn measured(&self, now: f64) -> f64 {
        now - self.from.max(self.resumed)
    }

    /// Returns whether a call has ended since the warm-up.
    pub(super) fn has_samples(&self) -> bool {
        self.samples > 0.0
    }

    /// Counts an ended call. `bound` is set if the limit was in the way.
    pub(super) fn add(&mut self, now: f64, success: bool, bound: bool) {
        if self.is_warm(now) && !self.begun {
            self.begun = true;
            self.from = now;
            self.stalled = 0.0;
        }
        if self.is_warm(now) && now > self.from {
            self.samples += 1.0;
            self.bound += f64::from(u8::from(bound));
            self.successes += f64::from(u8::from(success));
        }
    }

    /// Leaves out the time between two instants, because nothing could finish although the inner
    /// had work.
    pub(super) fn skip(&mut self, from: f64, to: f64) {
        let from = from.max(self.resumed);
        self.resumed = self.resumed.max(to);
        self.stalled += (to - from.max(self.from)).max(0.0);
    }

    /// Returns the throughput so far.
    pub(super) fn interval(&self, now: f64) -> Interval {
        let time = (now.max(self.resumed) - self.from - self.stalled).max(1e-9);
        // No success counts as half of one: the logarithm of a rate is taken.
        Interval {
            limit: self.limit,
            rate: self.successes.max(0.5) / time,
            count: self.successes.max(1.0),
        }
    }

    /// Returns the throughput so far with the mean number of running calls in place of a limit not
    /// in the way (Little's law).
    pub(super) fn below_limit(&self, now: f64) -> Interval {
        let Interval { rate, .. } = self.interval(now);
        Interval { limit: rate * self.times.mean(), rate, count: self.times.count }
    }

    /// Returns whether the limit was in the way all the time. The rate is then the inner's
    /// capacity.
    pub(super) fn is_bound(&self) -> bool {
        self.samples > 0.0 && self.bound >= BOUND_SHARE * self.samples
    }

    /// Returns whether the limit was in the way at least now and then.
    pub(super) fn is_touched(&self) -> bool {
        self.bound > TOUCHED_SHARE * self.samples
    }
}
