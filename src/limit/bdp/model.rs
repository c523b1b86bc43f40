//! What is known of the inner: what it can do, and how long calls may take there.

use super::interval::Interval;

/// The limit is the product of the two.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Model {
    /// Successes a second when the limit is in the way.
    pub(super) rate: f64,
    /// From how many calls that is known.
    known: f64,
    last_surprise: f64,
    /// Mean latency to be had, in seconds; 0 as long as nothing is known.
    pub(super) target: f64,
    gain: f64,
    last_push: f64,
}

/// How much longer than alone calls may take: a few waiting in the inner keep it busy, and show at once when it has
/// got faster.
pub(super) const HEADROOM: f64 = 1.2;
/// The elasticity to be had, slightly above 0: at the knee, and on this side of it.
const SET_POINT: f64 = 0.055;
/// How many calls the rate remembers.
const RATE_MEMORY: f64 = 640.0;
/// So many standard errors are no chance any more,
const SURPRISE_ERRORS: f64 = 3.5;
/// nor are so many twice in a row to the same side.
const REPEATED_SURPRISE_ERRORS: f64 = 1.6;
const INITIAL_GAIN: f64 = 0.5;
const MAX_GAIN: f64 = 0.6;
const MIN_GAIN: f64 = 0.12;

impl Model {
    pub(super) fn has_target(&self) -> bool {
        self.target > 0.0
    }

    pub(super) fn limit(&self) -> f64 {
        self.rate * self.target
    }

    /// Mean latency of a call that does not wait in the inner.
    pub(super) fn service(&self) -> f64 {
        self.target / HEADROOM
    }

    /// Begins anew with a rate that was just found.
    pub(super) fn set_rate(&mut self, rate: f64, known: f64) {
        self.rate = rate;
        self.known = known;
    }

    /// Begins anew with a target that was just found.
    pub(super) fn set_target(&mut self, target: f64) {
        self.target = target;
        self.gain = INITIAL_GAIN;
        self.last_push = 0.0;
    }

    /// By how many standard errors an interval is above what was to be expected.
    pub(super) fn surprise(&self, interval: &Interval, variation: f64) -> f64 {
        (interval.rate / self.rate).ln() / (variation / interval.count).sqrt()
    }

    pub(super) fn learn_rate(&mut self, interval: &Interval, variation: f64) {
        let surprise = self.surprise(interval, variation);
        let (now, before) = (surprise.abs(), self.last_surprise.abs());
        let again =
            now.min(before) > REPEATED_SURPRISE_ERRORS && surprise * self.last_surprise > 0.0;
        if now > SURPRISE_ERRORS || again {
            // Something has changed: what was before says little.
            self.known = 0.4 * interval.count;
        }
        self.last_surprise = surprise;
        self.known = (self.known + interval.count).min(RATE_MEMORY * variation);
        self.rate += (interval.rate - self.rate) * (interval.count / self.known).min(1.0);
    }

    /// Moves the target to where throughput follows the limit as little as is wanted.
    pub(super) fn learn_target(&mut self, at: &Interval, above: &Interval, variation: f64) {
        let (elasticity, _) = at.elasticity(above, variation);
        let span = (above.limit / at.limit).ln();
        let push = (elasticity.clamp(-1.5, 1.5) - SET_POINT) * span;
        // Where calls do not take as long as they may, the limit grows by itself.
        let binds = (at.latency() * above.latency()).sqrt() > 0.8 * self.target;
        if push < 0.0 || binds {
            self.target *= (self.gain * push).clamp(-0.2, 0.2).exp();
        }
        // Faster as long as it goes one way, slower when it goes to and fro.
        let factor = if push * self.last_push > 0.0 { 1.25 } else { 0.6 };
        self.gain = (factor * self.gain).clamp(MIN_GAIN, MAX_GAIN);
        self.last_push = push;
    }
}
