//! What is tried next, and what is concluded from it.

use super::{
    Bdp,
    calls::{Calls, Mean},
    meter::{Interval, Meter},
    model::HEADROOM,
};
use crate::limit::sample::{Outcome, Sample};

/// Why the limit is what it is just now.
#[derive(Clone, Copy, Debug)]
pub(super) enum Phase {
    /// Doubles the limit until calls take clearly longer than before. `extended`: it looks twice before it ends.
    Startup { base: Mean, below: Option<Interval>, extended: bool },
    /// Tries a quarter more than the limit,
    ProbeUp,
    /// and the limit itself, in turn.
    Cruise { above: Interval },
    /// Tries much less than the limit: if throughput does not follow, it was far too high.
    ProbeDown,
    /// Nothing is known, or calls take far longer than they should: measures before it cuts the limit.
    Verify,
    /// Tries a cut. `first`: of those at the start, when there is no target yet.
    Backoff { before: Interval, first: bool },
}

// How many successes end an interval, for service times whose squared coefficient of variation is 1. The relative error
// of a rate from n calls is 1/√n.
const STARTUP_SAMPLES: f64 = 20.0;
const PROBE_UP_SAMPLES: f64 = 128.0;
const CRUISE_SAMPLES: f64 = 256.0;
const PROBE_DOWN_SAMPLES: f64 = 128.0;
const VERIFY_SAMPLES: f64 = 24.0;
const BACKOFF_SAMPLES: f64 = 48.0;
/// From fewer nothing is concluded at all.
pub(super) const MIN_SAMPLES: f64 = 16.0;

/// In seconds: no single odd latency makes it blind for longer.
const MAX_WARM_UP: f64 = 30.0;

/// How much more is tried, as a factor, and how much less to check.
const PROBE_UP_GAIN: f64 = 1.25;
const PROBE_DOWN_GAIN: f64 = 0.6;

/// The first check comes after so many tries, each further one after twice as many.
pub(super) const PROBE_DOWN_AFTER: u32 = 2;
const MAX_PROBE_DOWN_AFTER: u32 = 48;

/// Calls that take up to so many times as long count as not longer.
pub(super) const SAME_LATENCY: f64 = 1.3;

/// Standard errors by which throughput must be too high to be taken for room, at the end of an interval and, since one
/// looks many times, in the middle.
const ROOM_ERRORS: f64 = 2.0;
const EARLY_ROOM_ERRORS: f64 = 4.0;

/// A baseline that is known well.
const SERVICE_WEIGHT: f64 = 1000.0;

impl Phase {
    pub(super) fn startup() -> Self {
        Self::startup_from(Mean::default())
    }

    pub(super) fn startup_from(base: Mean) -> Self {
        Self::Startup { base, below: None, extended: false }
    }
}

impl Bdp {
    /// How many successes the interval is to have.
    pub(super) fn needed(&self) -> f64 {
        let limit = self.meter.limit;
        let count = match self.phase {
            Phase::Startup { extended, .. } => {
                (STARTUP_SAMPLES + 2.0 * limit) * if extended { 2.0 } else { 1.0 }
            }
            Phase::ProbeUp => PROBE_UP_SAMPLES,
            Phase::Cruise { .. } => CRUISE_SAMPLES,
            Phase::ProbeDown => PROBE_DOWN_SAMPLES,
            Phase::Verify => VERIFY_SAMPLES,
            Phase::Backoff { .. } => BACKOFF_SAMPLES,
        };
        (count * self.variation()).max(1.2 * limit)
    }

    pub(super) fn variation(&self) -> f64 {
        self.calls.as_ref().map_or(1.0, Calls::variation)
    }

    /// Tries a limit, and measures once the calls of the one before are through: after so many latencies.
    pub(super) fn try_limit(&mut self, now: f64, phase: Phase, limit: f64, warm_up: f64) {
        let mut wait = 0.0;
        if let Some(calls) = &mut self.calls {
            calls.learn_variation(&self.meter.times);
            wait = (warm_up * calls.latency).min(MAX_WARM_UP);
        }
        self.phase = phase;
        self.meter = Meter::new(self.bounds.clamp(limit.round()), now, wait);
    }

    /// Goes on with the limit as it is.
    pub(super) fn carry_on(&mut self, now: f64, warm_up: f64) {
        let above = (PROBE_UP_GAIN * self.limit).round().max(self.limit.round() + 1.0);
        self.try_limit(now, Phase::ProbeUp, above, warm_up);
    }

    pub(super) fn set_limit(&mut self, limit: f64) {
        self.limit = self.bounds.clamp(limit);
    }

    pub(super) fn set_latency(&mut self, latency: f64) {
        if let Some(calls) = &mut self.calls {
            calls.latency = latency;
        }
    }

    /// Mean latency of a call that does not wait in the inner, as far as that is known.
    pub(super) fn base(&self) -> Mean {
        if self.model.has_target() {
            return Mean { value: self.model.service(), count: SERVICE_WEIGHT };
        }
        let quiet = self.calls.map_or_else(Mean::default, |calls| calls.quiet);
        if quiet.count > 2.0 * MIN_SAMPLES { quiet } else { Mean::default() }
    }

    /// Concludes from the interval that ends now, and begins the next.
    pub(super) fn end_interval(&mut self, now: f64) {
        if self.is_failing() {
            if let Phase::Startup { base, below: Some(below), .. } = self.phase {
                return self.end_startup(now, base, below);
            }
            let limit = 0.6 * self.limit.min(self.meter.peak.max(1.0));
            self.set_limit(limit);
            return self.try_limit(now, Phase::startup_from(self.base()), self.limit, 0.0);
        }
        if !self.meter.is_bound() {
            return self.hold(now);
        }
        let interval = self.meter.interval(now);
        if let Some(calls) = &mut self.calls {
            calls.latency = 0.5 * (calls.latency + interval.latency());
        }
        match self.phase {
            Phase::Startup { base, below, extended } => {
                self.startup(now, interval, base, below, extended)
            }
            Phase::ProbeUp if self.has_room(&interval, ROOM_ERRORS) => self.try_room(now),
            Phase::ProbeUp => {
                self.learn_rate(&interval);
                let at = self.limit.round().min(interval.limit - 1.0);
                self.try_limit(now, Phase::Cruise { above: interval }, at, 1.0);
            }
            Phase::Cruise { above } => self.cruise(now, interval, above),
            Phase::ProbeDown => self.probe_down(now, interval),
            Phase::Verify => self.verify(now, interval),
            Phase::Backoff { before, first } => self.backoff(now, interval, before, first),
        }
    }

    /// Whether suddenly many calls fail at once, or the inner says that it is too much.
    fn is_failing(&mut self) -> bool {
        let Meter { failed, overloaded, successes, .. } = self.meter;
        let all = failed + overloaded + successes;
        if all < MIN_SAMPLES {
            return false;
        }
        let share = failed / all;
        let sudden = share > self.usual_failures + 0.3;
        self.usual_failures += 0.1 * (share - self.usual_failures);
        let tolerated = if self.meter.is_bound() { 0.5 } else { 0.1 };
        sudden || overloaded > tolerated * all
    }

    /// The limit was not in the way all the time, so that nothing is known of what the inner can do.
    fn hold(&mut self, now: f64) {
        // A check would only make a queue where there is none.
        self.tries = 0;
        let times = self.meter.times;
        let base = self.base();
        let may_take = if self.model.has_target() {
            self.model.target
        } else if base.count > 0.0 {
            SAME_LATENCY * base.value
        } else {
            f64::INFINITY
        };
        if times.count > 0.5 * MIN_SAMPLES && self.meter.is_touched() && times.mean() < may_take {
            self.set_limit((1.25 * self.limit).max(self.limit + 1.0));
        }
        match self.phase {
            _ if self.model.has_target() => self.carry_on(now, 0.0),
            // So much is not asked for.
            Phase::Startup { base, below: Some(below), .. } => {
                self.end_startup(now, base, below);
            }
            Phase::Verify => self.try_limit(now, Phase::Verify, self.limit, 0.0),
            _ => self.try_limit(now, Phase::startup_from(base), self.limit, 0.0),
        }
    }

    fn learn_rate(&mut self, interval: &Interval) {
        self.model.learn_rate(interval, self.variation());
        // No more than this at once, whatever one interval says.
        let limit = self.model.limit().clamp(0.67 * self.limit, 1.5 * self.limit);
        self.set_limit(limit);
    }

    fn cruise(&mut self, now: f64, at: Interval, above: Interval) {
        self.learn_rate(&at);
        if above.limit > at.limit {
            self.model.learn_target(&at, &above, self.variation());
        }
        if self.limit < 0.75 * self.usual_limit {
            // A large cut by small steps.
            self.usual_limit = self.limit;
            return self.try_limit(now, Phase::Verify, at.limit, 0.0);
        }
        self.usual_limit += 0.1 * (self.limit - self.usual_limit);
        self.tries += 1;
        if self.tries >= self.probe_down_after {
            self.tries = 0;
            self.probe_down_after = (2 * self.probe_down_after).min(MAX_PROBE_DOWN_AFTER);
            return self.begin_probe_down(now, 1.0);
        }
        self.carry_on(now, 1.0);
    }

    fn begin_probe_down(&mut self, now: f64, warm_up: f64) {
        let much_less = self.bounds.clamp((PROBE_DOWN_GAIN * self.limit).round());
        if much_less < self.limit {
            self.try_limit(now, Phase::ProbeDown, much_less, warm_up);
        } else {
            self.carry_on(now, warm_up);
        }
    }

    fn probe_down(&mut self, now: f64, interval: Interval) {
        let now_at =
            Interval { limit: self.limit, rate: self.model.rate, count: 5.0 * PROBE_DOWN_SAMPLES };
        let (elasticity, error) = interval.elasticity(&now_at, self.variation());
        // Where the knee would be if throughput grew evenly up to it and not at all beyond.
        let knee = interval.limit * self.model.rate / interval.rate;
        let fits = HEADROOM * knee;
        let ratio = fits / self.limit;
        if elasticity + error < 0.3 && ratio < 0.95 {
            self.model.target *= ratio;
            self.set_limit(fits);
            self.usual_limit = self.limit;
            self.probe_down_after = PROBE_DOWN_AFTER;
            return self.begin_probe_down(now, 0.6);
        }
        if elasticity - error > 0.5 && ratio > 1.1 {
            self.model.target *= ratio.min(1.25).sqrt();
        }
        self.carry_on(now, 1.0);
    }

    /// Whether the inner does clearly more with a little more than it could until now, and calls do not take longer
    /// for that.
    fn has_room(&self, interval: &Interval, errors: f64) -> bool {
        self.model.surprise(interval, self.variation()) > errors
            && interval.rate > 1.1 * self.model.rate
            && interval.latency() < 0.95 * self.model.target
    }

    fn try_room(&mut self, now: f64) {
        self.try_limit(now, Phase::startup_from(self.base()), 2.0 * self.meter.limit, 1.0);
    }

    /// Does not wait for the end of an interval when there is obviously room.
    pub(super) fn look_for_room(&mut self, now: f64) {
        let enough =
            self.meter.successes >= MIN_SAMPLES * self.variation() && self.meter.is_bound();
        if matches!(self.phase, Phase::ProbeUp)
            && enough
            && self.has_room(&self.meter.interval(now), EARLY_ROOM_ERRORS)
        {
            self.try_room(now);
        }
    }

    /// Listens to a call, for an alarm that does not wait for the end of an interval either.
    pub(super) fn listen(&mut self, now: f64, took: f64, sample: &Sample) {
        let limit = self.meter.limit;
        let n = sample.in_flight_at_dispatch as f64;
        // Those of a higher limit before are still among those in flight otherwise.
        let telling = 0.75 * limit <= n && n <= limit && now - took >= self.meter.since;
        if !matches!(self.phase, Phase::ProbeUp | Phase::Cruise { .. }) || !telling {
            return;
        }
        let expected = self.model.target * (limit / self.limit).max(1.0);
        let mut times = took / expected;
        if sample.outcome == Outcome::Overload {
            times = times.max(2.0);
        }
        if self.alarm.hear(times, self.variation()) {
            self.try_limit(now, Phase::Verify, limit, 0.0);
        }
    }
}
