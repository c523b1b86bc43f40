use std::time::Duration;

use super::{interval::Interval, statistics::Mean};
use crate::limit::{state::LimitState, view::View};

/// The known throughput of the inner, and the allowed latency of calls. The limit is the product.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Model {
    /// Successes a second while the limit is in the way.
    pub(super) rate: f64,
    /// The number of calls behind the rate.
    known: f64,
    /// The surprise of the last interval, in standard errors.
    last_surprise: f64,
    /// The target of the mean latency, in seconds; 0 as long as nothing is known.
    pub(super) target: f64,
    /// The number of calls behind the target.
    sure: f64,
    /// The share of a push by which the target moves.
    gain: f64,
    /// The mean elasticity of the last tries, by the inverse of their variance.
    followed: Mean,
    /// The last push on the target, as a difference of logarithms.
    last_push: f64,
}

/// The target as a multiple of the latency without waiting. A few waiting calls in the inner keep
/// the inner busy, and show at once if the inner has become faster.
pub(super) const HEADROOM: f64 = 1.2;
/// The elasticity at which the target rests. Slightly above 0: at the knee, and just below.
const SET_POINT: f64 = 0.06;
/// The number of calls in the memory of the rate, for a variation of 1.
const RATE_MEMORY: f64 = 640.0;
/// The surprise, in standard errors, that does not count as chance.
const SURPRISE_ERRORS: f64 = 3.5;
/// The same for two surprises in a row to the same side.
const REPEATED_SURPRISE_ERRORS: f64 = 1.6;

/// The number of calls from which a resumed figure counts as known.
const RESUMED: f64 = 32.0;
/// The latency of starved calls, as a multiple of the target.
const STARVED: f64 = 1.3;
/// The weight of a try in the mean elasticity after the next try.
const FOLLOWED_DECAY: f64 = 0.7;
/// The mean elasticity, less 1.5 standard errors, from which the limit counts as far too low:
/// throughput follows the limit closely.
const FOLLOWED: f64 = 0.4;
/// The most calls behind a target.
const MAX_SURE: f64 = 1000.0;
/// The gain after a target was found. The gain grows while pushes go one way, and shrinks
/// otherwise, between the two bounds.
const INITIAL_GAIN: f64 = 0.5;
const MAX_GAIN: f64 = 0.6;
const MIN_GAIN: f64 = 0.12;

impl Model {
    /// Returns the model from before a restart, with little trust.
    pub(super) fn resume(state: &LimitState) -> Self {
        let mut model = Self::default();
        model.set_rate(state.throughput, RESUMED);
        model.set_service(Mean { value: state.service_time.as_secs_f64(), count: RESUMED });
        model
    }

    /// Returns the known state, once there is a target.
    pub(super) fn state(&self, limit: f64) -> Option<LimitState> {
        let service_time = Duration::try_from_secs_f64(self.service().value).unwrap_or_default();
        let state = LimitState { limit, throughput: self.rate, service_time };
        self.has_target().then_some(state)
    }

    /// Returns the throughput and the target, as far as known, for observers.
    pub(super) fn view(&self) -> View {
        let target = Duration::try_from_secs_f64(self.target).ok();
        let known = |figure: f64| (figure > 0.0).then_some(figure);
        View {
            target: target.filter(|target| !target.is_zero()),
            rate: known(self.rate),
            ..View::new()
        }
    }

    pub(super) fn has_target(&self) -> bool {
        self.target > 0.0
    }

    pub(super) fn limit(&self) -> f64 {
        self.rate * self.target
    }

    /// Returns the mean latency of a call without a wait in the inner.
    pub(super) fn service(&self) -> Mean {
        Mean { value: self.target / HEADROOM, count: self.sure }
    }

    /// Replaces the rate by a new finding from `known` calls.
    pub(super) fn set_rate(&mut self, rate: f64, known: f64) {
        self.rate = rate;
        self.known = known;
    }

    /// Replaces the service time, and the rate by a finding from `known` calls.
    pub(super) fn set(&mut self, service: Mean, rate: f64, known: f64) {
        self.set_service(service);
        self.set_rate(rate, known);
    }

    /// Replaces the target by a new finding.
    pub(super) fn set_service(&mut self, service: Mean) {
        self.target = HEADROOM * service.value;
        self.sure = service.count;
        self.gain = INITIAL_GAIN;
        self.followed = Mean::default();
        self.last_push = 0.0;
    }

    /// Returns by how many standard errors the rate of an interval is above the known rate.
    pub(super) fn surprise(&self, interval: &Interval, variation: f64) -> f64 {
        (interval.rate / self.rate).ln() / (variation / interval.count).sqrt()
    }

    /// Returns the expected mean latency at a multiple of the limit, in seconds.
    pub(super) fn expected_latency(&self, multiple: f64) -> f64 {
        self.target * multiple.max(1.0)
    }

    /// Returns whether throughput is clearly higher than known, without longer calls.
    pub(super) fn has_room(&self, interval: &Interval, errors: f64, variation: f64) -> bool {
        self.surprise(interval, variation) > errors
            && interval.rate > 1.1 * self.rate
            && interval.latency() < 0.95 * self.target
    }

    /// Returns whether throughput clearly follows the limit: over some tries, or in a single try
    /// while calls take longer than the target. Then the target is below the natural time of calls.
    pub(super) fn is_starved(&mut self, at: &Interval, above: &Interval, variation: f64) -> bool {
        let (elasticity, error) = at.elasticity(above, variation);
        self.followed.count *= FOLLOWED_DECAY;
        self.followed.add(elasticity, error.powi(-2));
        if self.followed.value - 1.5 / self.followed.count.sqrt() > FOLLOWED {
            return true;
        }
        elasticity - 1.5 * error > 0.5 && at.latency() > STARVED * self.target
    }

    pub(super) fn learn_rate(&mut self, interval: &Interval, variation: f64) {
        let surprise = self.surprise(interval, variation);
        let (now, before) = (surprise.abs(), self.last_surprise.abs());
        let again =
            now.min(before) > REPEATED_SURPRISE_ERRORS && surprise * self.last_surprise > 0.0;
        if now > SURPRISE_ERRORS || again {
            // Something has changed: earlier calls say little.
            self.known = 0.4 * interval.count;
        }
        self.last_surprise = surprise;
        self.known = (self.known + interval.count).min(RATE_MEMORY * variation);
        self.rate += (interval.rate - self.rate) * (interval.count / self.known).min(1.0);
    }

    /// Moves the target towards the point at which throughput follows the limit by [`SET_POINT`].
    pub(super) fn learn_target(&mut self, at: &Interval, above: &Interval, variation: f64) {
        let (elasticity, _) = at.elasticity(above, variation);
        let span = (above.limit / at.limit).ln();
        let push = (elasticity.clamp(-1.5, 1.5) - SET_POINT) * span;
        // If calls take less than the target, the limit grows without a push.
        let binds = (at.latency() * above.latency()).sqrt() > 0.8 * self.target;
        if push < 0.0 || binds {
            self.target *= (self.gain * push).clamp(-0.2, 0.2).exp();
        }
        // Faster as long as pushes go one way, slower if pushes go to and fro.
        let factor = if push * self.last_push > 0.0 { 1.25 } else { 0.6 };
        self.gain = (factor * self.gain).clamp(MIN_GAIN, MAX_GAIN);
        self.last_push = push;
        self.sure = (self.sure + at.count + above.count).min(MAX_SURE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throughput_that_follows_in_three_tries_shows_that_the_limit_is_too_low() {
        let state = LimitState::new(4.0, 40.0, Duration::from_secs_f64(0.1 / HEADROOM));
        let mut model = Model::resume(&state);
        // As far as 384 calls show: calls take the right time.
        let at = Interval { limit: 4.0, rate: 40.0, count: 256.0 };
        let above = Interval { limit: 5.0, rate: 50.0, count: 128.0 };
        let starved = [(); 3].map(|()| model.is_starved(&at, &above, 1.0));
        assert!(!starved[0] && starved[2], "{starved:?}");
        // At the knee of a pool nothing follows.
        let mut model = Model::resume(&state);
        let above = Interval { rate: 41.0, ..above };
        assert!(!(0..100).any(|_| model.is_starved(&at, &above, 1.0)));
    }
}
