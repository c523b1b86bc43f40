//! From nothing, or from an alarm, to a target: doubles the limit or cuts it, and sees what comes of it.

use super::{
    Bdp,
    calls::Mean,
    meter::Interval,
    model::HEADROOM,
    phase::{PROBE_DOWN_AFTER, Phase, SAME_LATENCY},
};

/// From fewer it looks twice before a rise ends.
const STARTUP_END_SAMPLES: f64 = 100.0;

/// A rise ends when calls take so many times as long, with two standard errors on top.
const LONGER_LATENCY: f64 = 1.6;

/// From so many calls a baseline is known to 6 %, which makes a check less urgent.
const SURE_BASE_SAMPLES: f64 = 300.0;

impl Bdp {
    pub(super) fn startup(
        &mut self,
        now: f64,
        interval: Interval,
        mut base: Mean,
        below: Option<Interval>,
        extended: bool,
    ) {
        let variation = self.variation();
        let latency = interval.latency();
        let error = (variation * (1.0 / base.count.max(1.0) + 1.0 / interval.count)).sqrt();
        let longer = latency / base.value;
        let ends = base.count > 0.0 && longer > LONGER_LATENCY + 2.0 * error;
        let highest = interval.limit >= self.bounds.max;
        if (ends || highest) && !extended && interval.count < STARTUP_END_SAMPLES * variation {
            // It goes on with the same interval.
            self.phase = Phase::Startup { base, below, extended: true };
            return;
        }
        if base.count == 0.0 || longer < SAME_LATENCY + error {
            base.add(latency, interval.count);
        }
        if !ends && !highest {
            self.limit = interval.limit;
            let phase = Phase::Startup { base, below: Some(interval), extended: false };
            return self.try_limit(now, phase, 2.0 * interval.limit, 1.0);
        }
        if self.model.has_target() {
            // The rate before is known better than the one up here, unless that is clearly higher.
            if interval.rate > 1.15 * self.model.rate {
                self.model.set_rate(interval.rate, interval.count);
            }
            return self.adopt_model(now);
        }
        let Some(below) = below else {
            // It has not risen at all: calls take longer than when there were few.
            self.model.set_target(HEADROOM * base.value);
            self.model.set_rate(interval.rate, interval.count);
            return self.verify(now, interval);
        };
        let (elasticity, error) = below.elasticity(&interval, variation);
        let mut target = base.value;
        let mut rate = Mean { value: interval.rate, count: interval.count };
        if elasticity - 0.5 * error > 0.1 {
            // Throughput still grew: calls get slower from early on, and it is worth it.
            target = target.max(below.latency());
        } else {
            rate.add(below.rate, below.count);
        }
        self.model.set_target(HEADROOM * target);
        self.model.set_rate(rate.value, rate.count);
        self.begin_anew(now);
        if base.count > SURE_BASE_SAMPLES {
            self.probe_down_after = 4 * PROBE_DOWN_AFTER;
        }
    }

    /// Takes for the top what was still in order.
    pub(super) fn end_startup(&mut self, now: f64, base: Mean, below: Interval) {
        if !self.model.has_target() {
            self.model.set_target(HEADROOM * base.value);
            self.model.set_rate(below.rate, below.count);
        }
        self.begin_anew(now);
    }

    /// Takes over what has just been found out.
    pub(super) fn begin_anew(&mut self, now: f64) {
        self.tries = 0;
        self.probe_down_after = PROBE_DOWN_AFTER;
        self.adopt_model(now);
    }

    pub(super) fn adopt_model(&mut self, now: f64) {
        self.set_limit(self.model.limit());
        self.usual_limit = self.limit;
        self.set_latency(self.model.target);
        self.carry_on(now, 1.2);
    }

    pub(super) fn verify(&mut self, now: f64, interval: Interval) {
        let target = self.model.target;
        let (fits, warm_up) = if self.model.has_target() {
            let fits = (interval.rate * target).max(0.2 * interval.limit);
            // The slots that are taken away come free one by one.
            (fits, (1.0 - fits.max(1.0) / interval.limit).max(0.1))
        } else {
            (interval.limit / 2.0, 1.0)
        };
        let cut = self.bounds.clamp(fits.round());
        if self.model.has_target() && fits > 0.8 * interval.limit || cut >= interval.limit {
            self.model.set_rate(interval.rate, interval.count);
            if !self.model.has_target() {
                self.model.set_target(HEADROOM * interval.latency());
                return self.begin_anew(now);
            }
            return self.carry_on(now, 0.0);
        }
        if self.model.has_target() {
            self.set_latency(interval.latency());
        }
        self.try_limit(now, Phase::Backoff { before: interval, first: true }, cut, warm_up);
    }

    pub(super) fn backoff(&mut self, now: f64, interval: Interval, before: Interval, first: bool) {
        let (elasticity, error) = interval.elasticity(&before, self.variation());
        let followed = elasticity - 0.5 * error > 0.5;
        let base = Mean { value: interval.latency(), count: interval.count };
        if self.model.has_target() {
            if followed {
                // It had become slow and not less able: fewer calls only mean that less is done. There may be
                // room above as well.
                self.model.set_target(HEADROOM * interval.latency());
                self.model.set_rate(before.rate, before.count);
                self.tries = 0;
                self.probe_down_after = PROBE_DOWN_AFTER;
                self.set_limit(before.limit);
                self.usual_limit = self.limit;
                self.try_limit(now, Phase::startup_from(self.base()), before.limit, 1.0);
            } else {
                self.model.set_target(self.model.target);
                self.model.set_rate(interval.rate.max(before.rate), interval.count);
                self.begin_anew(now);
            }
        } else if followed && first {
            // Even the start was not too much.
            let phase = Phase::Startup { base, below: Some(before), extended: false };
            self.try_limit(now, phase, 2.0 * before.limit, 1.0);
        } else if followed || interval.limit <= self.bounds.min {
            self.model.set_target(HEADROOM * interval.latency());
            self.model.set_rate(before.rate, before.count);
            self.begin_anew(now);
        } else {
            let half = interval.limit / 2.0;
            self.try_limit(now, Phase::Backoff { before: interval, first: false }, half, 0.6);
        }
    }
}
