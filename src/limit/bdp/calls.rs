//! What single calls tell: how long they take, how unequal they are, and when there was a standstill.

/// Count, mean and variance of some times, in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spread {
    pub(super) count: f64,
    sum: f64,
    squares: f64,
}

impl Spread {
    pub(super) fn add(&mut self, time: f64) {
        self.count += 1.0;
        self.sum += time;
        self.squares += time * time;
    }

    pub(super) fn mean(&self) -> f64 {
        self.sum / self.count.max(1.0)
    }

    /// Squared coefficient of variation.
    fn variation(&self) -> f64 {
        let mean = self.mean();
        (self.squares / self.count / (mean * mean) - 1.0).max(0.0)
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Calls {
    /// Mean latency lately.
    pub(super) latency: f64,
    variation: f64,
    p95: f64,
    seen: f64,
    /// When the last one finished.
    last: f64,
    /// Those dispatched before ran through a standstill.
    stood_still: f64,
    /// Those dispatched while half of the limit or less was in use.
    pub(super) quiet: Mean,
}

/// A mean of many, where later ones slowly take the place of earlier ones.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mean {
    pub(super) value: f64,
    pub(super) count: f64,
}

impl Mean {
    pub(super) fn add(&mut self, value: f64, count: f64) {
        self.count += count;
        self.value += (value - self.value) * count / self.count;
    }
}

/// Exponential service times have 1. Less is not believed: a queue in the inner makes calls look alike.
const MIN_VARIATION: f64 = 1.0;
/// So that an interval ends some day.
const MAX_VARIATION: f64 = 8.0;
/// A silence of so many times what calls usually take is a standstill, as of a garbage collector. With exponential
/// times a single call alone is silent for so long once in 1 800.
const STANDSTILL_GAP: f64 = 2.5;
/// Before so many calls, nothing is usual.
const MIN_CALLS: f64 = 50.0;
/// The 95th percentile goes up by this share with a call above it, and down by a nineteenth of that with one
/// below, so that it stands still where one of twenty is above.
const QUANTILE_STEP: f64 = 0.0475;
const QUIET_MEMORY: f64 = 400.0;

impl Calls {
    /// After a first call that took so long.
    pub(super) fn new(now: f64, took: f64) -> Self {
        Self {
            latency: took,
            variation: 1.0,
            // Moved by factors, so never 0.
            p95: 2.0 * took.max(1e-6),
            seen: 0.0,
            last: now,
            stood_still: 0.0,
            quiet: Mean::default(),
        }
    }

    /// Takes note of the end of a call. Returns since when nothing had finished, if that was a standstill.
    pub(super) fn add(&mut self, now: f64, took: f64) -> Option<f64> {
        self.seen += 1.0;
        let step = if took > self.p95 { QUANTILE_STEP } else { -QUANTILE_STEP / 19.0 };
        self.p95 *= 1.0 + step;
        let last = std::mem::replace(&mut self.last, now);
        let stood_still = self.seen > MIN_CALLS && now - last > self.longest_gap();
        if stood_still {
            self.stood_still = now;
        }
        stood_still.then_some(last)
    }

    pub(super) fn add_quiet(&mut self, took: f64) {
        self.quiet.count = self.quiet.count.min(QUIET_MEMORY);
        self.quiet.add(took, 1.0);
    }

    /// Takes over how unequal the calls of an interval were.
    pub(super) fn learn_variation(&mut self, times: &Spread) {
        if times.count > 8.0 {
            self.variation += 0.2 * (times.variation().min(50.0) - self.variation);
        }
    }

    pub(super) fn variation(&self) -> f64 {
        self.variation.clamp(MIN_VARIATION, MAX_VARIATION)
    }

    /// Whether a call that ended now and took so long was not held up by a standstill.
    pub(super) fn is_sound(&self, now: f64, took: f64) -> bool {
        now - took >= self.stood_still
    }

    /// Whether a failure was so quick that nothing was tried.
    pub(super) fn is_quick(&self, took: f64) -> bool {
        took < 0.2 * self.p95
    }

    /// Whether nothing finishes any more, though something runs.
    pub(super) fn stands_still(&self, now: f64) -> bool {
        now - self.last > self.longest_gap()
    }

    fn longest_gap(&self) -> f64 {
        STANDSTILL_GAP * self.p95.max(self.latency)
    }
}
