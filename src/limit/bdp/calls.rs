use super::statistics::{Mean, Spread};

/// Statistics of single calls: how long calls take, how unequal calls are, and the last standstill.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Calls {
    /// The mean latency lately, in seconds; 0 before the first call.
    pub(super) latency: f64,
    /// The squared coefficient of variation of the service times.
    variation: f64,
    /// The 95th percentile of the service times, in seconds.
    p95: f64,
    /// The longest service time lately, in seconds.
    longest: f64,
    /// The number of calls from which `variation` is known.
    varied: f64,
    /// The number of ended calls.
    seen: f64,
    /// The end of the last call.
    last: f64,
    /// The end of the last standstill. Calls dispatched before the end ran during the standstill.
    stood_still: f64,
    /// The mean latency of calls dispatched with at most half of the limit in use.
    pub(super) quiet: Mean,
}

/// The least believed variation, the variation of exponential times. A queue in the inner makes
/// calls look alike.
const MIN_VARIATION: f64 = 1.0;
/// The highest believed variation. Without a bound an interval might never end.
pub(super) const MAX_VARIATION: f64 = 8.0;
/// The silence that counts as a standstill (a garbage collector, say), as a multiple of the usual
/// service time. With exponential times, a call running alone is silent for as long once in 1 800.
const STANDSTILL_GAP: f64 = 2.5;
/// The fewest calls from which a usual time is known.
const MIN_CALLS: f64 = 50.0;
/// The share by which each call above the 95th percentile raises the percentile. Each call below
/// lowers the percentile by a nineteenth as much. The percentile rests where one call of twenty is
/// above.
const QUANTILE_STEP: f64 = 0.0475;
/// The number of running calls below which all may be long calls. With 80 % of the work in long
/// calls, eight of eight are long a sixth of the time.
const FEW_RUNNING: usize = 8;
/// The silence that counts as a standstill while few calls run, as a multiple of the longest call
/// lately.
const LONG_GAP: f64 = 1.5;
/// The share of the longest call left after the next call: half after 350 calls.
const LONGEST_DECAY: f64 = 0.998;
/// The weight, in calls, of the assumption that calls vary like exponential times.
const PRIOR_SAMPLES: f64 = 16.0;
/// The least weight of an interval with calls more unequal than believed.
const MORE_UNEQUAL: f64 = 0.2;
/// The same for less unequal. Lower: an interval without a heavy call says little.
const LESS_UNEQUAL: f64 = 0.05;
/// The number of calls in the memory of the mean of quiet calls.
const QUIET_MEMORY: f64 = 400.0;

impl Calls {
    /// Returns the statistics at the end of the first call.
    fn first(now: f64, took: f64) -> Self {
        Self {
            latency: took,
            variation: 1.0,
            // Moved by factors, so never 0.
            p95: 2.0 * took.max(1e-6),
            last: now,
            longest: took,
            ..Self::default()
        }
    }

    /// Adds a call with its end at `now`. If the call ends a standstill, returns the end of the
    /// call before.
    pub(super) fn add(&mut self, now: f64, took: f64, running: usize) -> Option<f64> {
        if self.seen == 0.0 {
            *self = Self::first(now, took);
        }
        self.seen += 1.0;
        let step = if took > self.p95 { QUANTILE_STEP } else { -QUANTILE_STEP / 19.0 };
        self.p95 *= 1.0 + step;
        let last = std::mem::replace(&mut self.last, now);
        let stood_still = self.seen > MIN_CALLS && now - last > self.longest_gap(running);
        if stood_still {
            self.stood_still = now;
        }
        if self.is_sound(now, took) {
            self.longest = (LONGEST_DECAY * self.longest).max(took);
        }
        stood_still.then_some(last)
    }

    /// Adds a call dispatched with at most half of the limit in use.
    pub(super) fn add_quiet(&mut self, took: f64) {
        self.quiet.count = self.quiet.count.min(QUIET_MEMORY);
        self.quiet.add(took, 1.0);
    }

    /// Moves the mean latency halfway to the latency of an interval.
    pub(super) fn learn_latency(&mut self, latency: f64) {
        self.latency = 0.5 * (self.latency + latency);
    }

    /// Learns from the times of an interval how unequal calls are.
    pub(super) fn learn_variation(&mut self, times: &Spread) {
        if times.count > 8.0 {
            self.varied += times.count;
            let now = times.variation().min(50.0);
            let least = if now > self.variation { MORE_UNEQUAL } else { LESS_UNEQUAL };
            let weight = (times.count / self.varied.max(PRIOR_SAMPLES + times.count)).max(least);
            self.variation += weight * (now - self.variation);
        }
    }

    /// Returns the squared coefficient of variation, between 1 and 8.
    pub(super) fn variation(&self) -> f64 {
        self.variation.clamp(MIN_VARIATION, MAX_VARIATION)
    }

    /// Returns whether no standstill held up a call that ended at `now` after `took`.
    pub(super) fn is_sound(&self, now: f64, took: f64) -> bool {
        now - took >= self.stood_still
    }

    /// Returns whether a failure was too quick for any work to have been tried.
    pub(super) fn is_quick(&self, took: f64) -> bool {
        self.seen == 0.0 || took < 0.2 * self.p95
    }

    /// Returns whether nothing finishes any more.
    pub(super) fn stands_still(&self, now: f64, running: usize) -> bool {
        self.seen > 0.0 && now - self.last > self.longest_gap(running)
    }

    fn longest_gap(&self, running: usize) -> f64 {
        let usual = STANDSTILL_GAP * self.p95.max(self.latency);
        // If few calls run, all may be long calls.
        if running < FEW_RUNNING { usual.max(LONG_GAP * self.longest) } else { usual }
    }
}
