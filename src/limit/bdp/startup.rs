use super::{
    calls::MAX_VARIATION,
    cut::Cut,
    interval::Interval,
    statistics::{Longer, Mean},
};

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
/// The gain worth more calls, as a factor of throughput.
const STILL_GROWS: f64 = 1.15;
/// The fewest calls that show a flat start.
const FLAT_SAMPLES: f64 = 16.0;
/// The least share of calls longer than the baseline in a flat start. With one server and
/// exponential times, nine of ten calls take longer after a doubling, and with servers enough one
/// of three.
const FLAT_SHARE: f64 = 0.7;
/// The elasticity of a flat start, with a standard error on top.
const FLAT: f64 = 0.5;
/// The least squared coefficient of variation for the standard error.
const MIN_SEEN_VARIATION: f64 = 0.1;
/// The knee, as a multiple of the lowest limit tried, below which a start may have been too much.
const TOO_MUCH: f64 = 1.25;

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

    /// Returns whether calls crowd the inner although the limit is not in the way: calls take
    /// clearly longer, and throughput is no higher than with fewer. A loop of callers, each
    /// waiting for an answer before the next request, may never reach the limit.
    pub(super) fn is_crowded(&self, seen: &Interval, variation: f64) -> bool {
        let grows =
            |below: Interval| seen.limit <= below.limit || seen.rate >= STILL_GROWS * below.rate;
        seen.count >= END_SAMPLES * variation
            && self.is_at_the_top(seen, variation)
            && !self.below.is_some_and(grows)
    }

    /// Returns whether the interval has too few calls to end the startup with certainty.
    pub(super) fn is_unsure(&self, interval: &Interval, variation: f64) -> bool {
        !self.extended && interval.count < END_SAMPLES * variation
    }

    /// Returns whether the baseline is known well.
    pub(super) fn has_sure_base(&self) -> bool {
        self.base.count > SURE_BASE_SAMPLES
    }

    /// Returns whether a call takes longer than the baseline.
    pub(super) fn is_longer(&self, took: f64) -> bool {
        took > QUICK_SLOWDOWN * self.base.value
    }

    /// Returns whether a doubling changed nothing but the time of calls: nearly all calls take
    /// longer, and throughput stays.
    ///
    /// Seen from fewer calls than [`is_at_the_top`](Self::is_at_the_top) takes, since the standard
    /// error is of the times seen. In front of too few servers all calls take about as long. Below
    /// the knee the times are as unequal as the calls.
    pub(super) fn is_flat(&self, interval: &Interval, longer: &Longer, seen: f64) -> bool {
        let Some(below) = &self.below else { return false };
        let variation = seen.clamp(MIN_SEEN_VARIATION, MAX_VARIATION);
        let (elasticity, error) = below.elasticity(interval, variation);
        longer.are_most(FLAT_SAMPLES, FLAT_SHARE) && elasticity + error < FLAT
    }

    /// Returns a cut below the lowest limit tried, if even the lowest may have been too much: the
    /// baseline may be the time of calls in a queue.
    pub(super) fn cut_below(&self, lowest: f64, interval: Interval) -> Option<Cut> {
        let best = self.below.filter(|below| below.rate > interval.rate).unwrap_or(interval);
        let knee = best.rate * self.base.value;
        let cut = Cut { before: best, service: self.base, first: true, below_start: true };
        (knee < TOO_MUCH * lowest).then_some(cut)
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

#[cfg(test)]
mod tests {
    use super::{super::statistics::Spread, *};

    /// Returns the verdict of a startup after a doubling from 4, with the time of usual calls and
    /// of one call of ten, and the rates at 4 and at 8.
    fn is_flat(usual: f64, one_of_ten: f64, below: f64, rate: f64) -> bool {
        let below = Interval { limit: 4.0, rate: below, count: 8.0 };
        let startup = Startup::from(below.mean_latency()).above(below);
        let (mut longer, mut times) = (Longer::default(), Spread::default());
        for call in 0..30 {
            let took = if call % 10 == 9 { one_of_ten } else { usual };
            longer.add(startup.is_longer(took));
            times.add(took);
        }
        let interval = Interval { limit: 8.0, rate, count: 30.0 };
        startup.is_flat(&interval, &longer, times.variation())
    }

    #[test]
    fn a_start_is_flat_if_nearly_all_calls_take_longer_for_nothing() {
        assert!(is_flat(1.6, 1.6, 5.0, 5.0), "one server");
        assert!(!is_flat(0.8, 0.8, 5.0, 10.0), "servers enough");
        assert!(!is_flat(1.6, 1.6, 5.0, 8.0), "slower calls, and more throughput");
        // Long calls hold up the others, by chance.
        assert!(!is_flat(0.005, 0.2, 400.0, 380.0), "unequal calls");
    }
}
