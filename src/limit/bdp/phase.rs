//! What is tried next, and what is concluded from it.

use super::{
    Bdp,
    calls::{Calls, Mean},
    meter::{Interval, Meter},
    model::HEADROOM,
};
use crate::limit::{Outcome, Sample};

/// Why the limit is what it is just now.
#[derive(Clone, Copy, Debug)]
pub(super) enum Phase {
    /// Doubles the limit until calls take clearly longer than before. `again`: it looks twice before it ends.
    Rise { base: Mean, below: Option<Interval>, again: bool },
    /// Tries a quarter more than the limit,
    Above,
    /// and the limit itself, in turn.
    At { above: Interval },
    /// Tries much less than the limit: if throughput does not follow, it was far too high.
    Check,
    /// Nothing is known, or calls take far longer than they should: measures before it cuts the limit.
    Doubt,
    /// Tries a cut. `first`: of those at the start, when there is no target yet.
    Cut { before: Interval, first: bool },
}

// How many successes end an interval, for service times whose squared coefficient of variation is 1. The relative error
// of a rate from n calls is 1/√n.
const RISE: f64 = 20.0;
const ABOVE: f64 = 128.0;
const AT: f64 = 256.0;
const CHECK: f64 = 128.0;
const DOUBT: f64 = 24.0;
const CUT: f64 = 48.0;
/// From fewer nothing is concluded at all.
pub(super) const FEW: f64 = 16.0;

/// In seconds: no single odd latency makes it blind for longer.
const LONGEST_WAIT: f64 = 30.0;

/// How much more is tried, as a factor, and how much less to check.
const MORE: f64 = 1.25;
const MUCH_LESS: f64 = 0.6;

/// The first check comes after so many tries, each further one after twice as many.
pub(super) const CHECK_AFTER: u32 = 2;
const MAX_CHECK_AFTER: u32 = 48;

/// Calls that take up to so many times as long count as not longer.
pub(super) const NOT_LONGER: f64 = 1.3;

/// Standard errors by which throughput must be too high to be taken for room, at the end of an interval and, since one
/// looks many times, in the middle.
const ROOM: f64 = 2.0;
const ROOM_EARLY: f64 = 4.0;

/// A baseline that is known well.
const WELL_KNOWN: f64 = 1000.0;

impl Phase {
    pub(super) fn rise() -> Self {
        Self::rise_from(Mean::default())
    }

    pub(super) fn rise_from(base: Mean) -> Self {
        Self::Rise { base, below: None, again: false }
    }
}

impl Bdp {
    /// How many successes the interval is to have.
    pub(super) fn needed(&self) -> f64 {
        let limit = self.meter.limit;
        let count = match self.phase {
            Phase::Rise { again, .. } => (RISE + 2.0 * limit) * if again { 2.0 } else { 1.0 },
            Phase::Above => ABOVE,
            Phase::At { .. } => AT,
            Phase::Check => CHECK,
            Phase::Doubt => DOUBT,
            Phase::Cut { .. } => CUT,
        };
        (count * self.variation()).max(1.2 * limit)
    }

    pub(super) fn variation(&self) -> f64 {
        self.calls.as_ref().map_or(1.0, Calls::variation)
    }

    /// Tries a limit, and measures once the calls of the one before are through: after so many latencies.
    pub(super) fn try_limit(&mut self, now: f64, phase: Phase, limit: f64, settle: f64) {
        let mut wait = 0.0;
        if let Some(calls) = &mut self.calls {
            calls.learn_variation(&self.meter.times);
            wait = (settle * calls.latency).min(LONGEST_WAIT);
        }
        self.phase = phase;
        self.meter = Meter::new(self.bounds.clamp(limit.round()), now, wait);
    }

    /// Goes on with the limit as it is.
    pub(super) fn carry_on(&mut self, now: f64, settle: f64) {
        let above = (MORE * self.limit).round().max(self.limit.round() + 1.0);
        self.try_limit(now, Phase::Above, above, settle);
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
            return Mean { value: self.model.service(), count: WELL_KNOWN };
        }
        let quiet = self.calls.map_or_else(Mean::default, |calls| calls.quiet);
        if quiet.count > 2.0 * FEW { quiet } else { Mean::default() }
    }

    /// Concludes from the interval that ends now, and begins the next.
    pub(super) fn end_interval(&mut self, now: f64) {
        if self.is_failing() {
            if let Phase::Rise { base, below: Some(below), .. } = self.phase {
                return self.rise_no_further(now, base, below);
            }
            let limit = 0.6 * self.limit.min(self.meter.peak.max(1.0));
            self.set_limit(limit);
            return self.try_limit(now, Phase::rise_from(self.base()), self.limit, 0.0);
        }
        if !self.meter.is_bound() {
            return self.hold(now);
        }
        let interval = self.meter.interval(now);
        if let Some(calls) = &mut self.calls {
            calls.latency = 0.5 * (calls.latency + interval.latency());
        }
        match self.phase {
            Phase::Rise { base, below, again } => self.rise(now, interval, base, below, again),
            Phase::Above if self.has_room(&interval, ROOM) => self.try_room(now),
            Phase::Above => {
                self.learn_rate(&interval);
                let at = self.limit.round().min(interval.limit - 1.0);
                self.try_limit(now, Phase::At { above: interval }, at, 1.0);
            }
            Phase::At { above } => self.learn(now, interval, above),
            Phase::Check => self.check(now, interval),
            Phase::Doubt => self.doubt(now, interval),
            Phase::Cut { before, first } => self.cut(now, interval, before, first),
        }
    }

    /// Whether suddenly many calls fail at once, or the inner says that it is too much.
    fn is_failing(&mut self) -> bool {
        let Meter { failed, overloaded, successes, .. } = self.meter;
        let all = failed + overloaded + successes;
        if all < FEW {
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
            NOT_LONGER * base.value
        } else {
            f64::INFINITY
        };
        if times.count > 0.5 * FEW && self.meter.is_touched() && times.mean() < may_take {
            self.set_limit((1.25 * self.limit).max(self.limit + 1.0));
        }
        match self.phase {
            _ if self.model.has_target() => self.carry_on(now, 0.0),
            // So much is not asked for.
            Phase::Rise { base, below: Some(below), .. } => {
                self.rise_no_further(now, base, below);
            }
            Phase::Doubt => self.try_limit(now, Phase::Doubt, self.limit, 0.0),
            _ => self.try_limit(now, Phase::rise_from(base), self.limit, 0.0),
        }
    }

    fn learn_rate(&mut self, interval: &Interval) {
        self.model.learn_rate(interval, self.variation());
        // No more than this at once, whatever one interval says.
        let limit = self.model.limit().clamp(0.67 * self.limit, 1.5 * self.limit);
        self.set_limit(limit);
    }

    fn learn(&mut self, now: f64, at: Interval, above: Interval) {
        self.learn_rate(&at);
        if above.limit > at.limit {
            self.model.learn_target(&at, &above, self.variation());
        }
        if self.limit < 0.75 * self.usual {
            // A large cut by small steps.
            self.usual = self.limit;
            return self.try_limit(now, Phase::Doubt, at.limit, 0.0);
        }
        self.usual += 0.1 * (self.limit - self.usual);
        self.tries += 1;
        if self.tries >= self.check_after {
            self.tries = 0;
            self.check_after = (2 * self.check_after).min(MAX_CHECK_AFTER);
            return self.begin_check(now, 1.0);
        }
        self.carry_on(now, 1.0);
    }

    fn begin_check(&mut self, now: f64, settle: f64) {
        let much_less = self.bounds.clamp((MUCH_LESS * self.limit).round());
        if much_less < self.limit {
            self.try_limit(now, Phase::Check, much_less, settle);
        } else {
            self.carry_on(now, settle);
        }
    }

    fn check(&mut self, now: f64, interval: Interval) {
        let now_at = Interval { limit: self.limit, rate: self.model.rate, count: 5.0 * CHECK };
        let (elasticity, error) = interval.elasticity(&now_at, self.variation());
        // Where the knee would be if throughput grew evenly up to it and not at all beyond.
        let knee = interval.limit * self.model.rate / interval.rate;
        let fits = HEADROOM * knee;
        let ratio = fits / self.limit;
        if elasticity + error < 0.3 && ratio < 0.95 {
            self.model.target *= ratio;
            self.set_limit(fits);
            self.usual = self.limit;
            self.check_after = CHECK_AFTER;
            return self.begin_check(now, 0.6);
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
        self.try_limit(now, Phase::rise_from(self.base()), 2.0 * self.meter.limit, 1.0);
    }

    /// Does not wait for the end of an interval when there is obviously room.
    pub(super) fn look_for_room(&mut self, now: f64) {
        let enough = self.meter.successes >= FEW * self.variation() && self.meter.is_bound();
        if matches!(self.phase, Phase::Above)
            && enough
            && self.has_room(&self.meter.interval(now), ROOM_EARLY)
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
        if !matches!(self.phase, Phase::Above | Phase::At { .. }) || !telling {
            return;
        }
        let expected = self.model.target * (limit / self.limit).max(1.0);
        let mut times = took / expected;
        if sample.outcome == Outcome::Overload {
            times = times.max(2.0);
        }
        if self.alarm.hear(times, self.variation()) {
            self.try_limit(now, Phase::Doubt, limit, 0.0);
        }
    }
}
