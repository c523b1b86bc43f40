use super::{interval::Interval, statistics::Mean};

/// The rise from a low limit: doubles the limit until calls take clearly longer than before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Startup {
    /// The mean latency while calls took no longer. Empty before the first interval.
    pub(super) base: Mean,
    /// The interval at half of this limit, unless this limit is the first.
    pub(super) below: Option<Interval>,
    /// Set if the interval goes on for twice as many calls, to be sure before startup ends.
    pub(super) extended: bool,
}

/// The slowdown, as a factor, up to which startup goes on after one call for each slot.
const QUICK_SLOWDOWN: f64 = 1.15;
/// The slowdown up to which calls count as not slower.
pub(super) const NO_SLOWDOWN: f64 = 1.3;
/// The slowdown that ends a startup, with two standard errors on top.
const CLEAR_SLOWDOWN: f64 = 1.6;
/// The fewest calls to end a startup at once. With fewer, the interval goes on for twice as many.
const END_SAMPLES: f64 = 100.0;
/// The number of calls from which a baseline is known to 6 %. A `ProbeDown` is then less urgent.
const SURE_BASE_SAMPLES: f64 = 300.0;
/// The elasticity from which throughput counts as still growing at the end of a startup.
const STILL_GREW: f64 = 0.1;

impl Startup {
    /// Returns a startup from a baseline, possibly empty.
    pub(super) fn from(base: Mean) -> Self {
        Self { base, below: None, extended: false }
    }

    /// Returns a startup continued from an interval.
    pub(super) fn above(self, below: Interval) -> Self {
        Self { below: Some(below), extended: false, ..self }
    }

    /// Returns whether calls take no longer than at half of the limit. Then startup can go on
    /// before the end of the interval.
    pub(super) fn rises_quickly(&self, interval: &Interval) -> bool {
        !self.extended
            && (self.base.count == 0.0 || interval.latency() < QUICK_SLOWDOWN * self.base.value)
    }

    /// Returns whether calls take clearly longer than the baseline.
    pub(super) fn is_at_the_top(&self, interval: &Interval, variation: f64) -> bool {
        let (ratio, error) = self.slowdown(interval, variation);
        self.base.count > 0.0 && ratio > CLEAR_SLOWDOWN * (2.0 * error).exp()
    }

    /// Returns whether the interval has too few calls to end the startup with certainty.
    pub(super) fn is_unsure(&self, interval: &Interval, variation: f64) -> bool {
        !self.extended && interval.count < END_SAMPLES * variation
    }

    /// Returns whether the baseline is known well.
    pub(super) fn has_sure_base(&self) -> bool {
        self.base.count > SURE_BASE_SAMPLES
    }

    /// Adds an interval to the baseline, unless calls took longer.
    pub(super) fn learn(&mut self, interval: &Interval, variation: f64) {
        let (ratio, error) = self.slowdown(interval, variation);
        if self.base.count == 0.0 || ratio < NO_SLOWDOWN * (0.5 * error).exp() {
            self.base.add(interval.latency(), interval.count);
        }
    }

    /// Returns the throughput at the end of a startup, together with the throughput of the interval
    /// below.
    pub(super) fn rate(&self, top: &Interval) -> Mean {
        let mut rate = Mean { value: top.rate, count: top.count };
        if let Some(below) = &self.below {
            rate.add(below.rate, below.count);
        }
        rate
    }

    /// Returns the service time and the throughput of an inner otherwise unknown.
    pub(super) fn findings(&self, top: &Interval, variation: f64) -> (Mean, Mean) {
        let Some(below) = &self.below else { return (self.base, self.rate(top)) };
        let (elasticity, error) = below.elasticity(top, variation);
        if elasticity - 0.5 * error > STILL_GREW {
            // Calls get slower from early on, and the gain is worth the slowdown.
            let value = self.base.value.max(below.latency());
            return (Mean { value, ..self.base }, Mean { value: top.rate, count: top.count });
        }
        (self.base, self.rate(top))
    }

    /// Returns the latency of an interval as a multiple of the baseline, and the standard error.
    /// Means nothing if the baseline is empty.
    fn slowdown(&self, interval: &Interval, variation: f64) -> (f64, f64) {
        let known = 1.0 / self.base.count.max(1.0);
        let error = (variation * (known + 1.0 / interval.count)).sqrt();
        (interval.latency() / self.base.value, error)
    }
}
