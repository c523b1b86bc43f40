use super::{
    calls::Calls,
    interval::Interval,
    meter::{MIN_SAMPLES, Meter},
    model::{HEADROOM, Model},
    phase::{PROBE_DOWN_SAMPLES, Phase, Trial},
    schedule::Schedule,
    statistics::Mean,
};
use crate::limit::bounds::Bounds;

/// Knows the inner, and decides which limit to try next.
///
/// Each method `after_…` learns from an interval and returns the next [`Trial`].
#[derive(Clone, Debug)]
pub(super) struct Search {
    pub(super) bounds: Bounds,
    /// The limit believed to be right.
    pub(super) limit: f64,
    /// A slow mean of `limit`. If small steps lead far below, `Verify` has a look.
    usual_limit: f64,
    pub(super) model: Model,
    pub(super) calls: Calls,
    schedule: Schedule,
}

/// The highest initial limit that is raised at once. From a higher start the search looks downward
/// first: too much costs more than too little.
const MAX_STARTUP_INITIAL: f64 = 8.0;

/// The limit that `ProbeUp` tries, as a multiple of the believed one.
const PROBE_UP_GAIN: f64 = 1.25;
/// The same for `ProbeDown`.
const PROBE_DOWN_GAIN: f64 = 0.6;

/// The slowdown, as a factor, up to which calls count as not slower.
const NO_SLOWDOWN: f64 = 1.3;
/// The slowdown that ends a startup, with two standard errors on top.
const CLEAR_SLOWDOWN: f64 = 1.6;
/// The fewest calls that end a startup at once. With fewer, the interval goes on for twice as many.
const STARTUP_END_SAMPLES: f64 = 100.0;
/// From this many calls a baseline is known to 6 %, which makes a `ProbeDown` less urgent.
const SURE_BASE_SAMPLES: f64 = 300.0;
/// The weight of a baseline from the model, in calls. High, since the model is known well.
const MODEL_BASE_SAMPLES: f64 = 1000.0;

/// The surprise of throughput, in standard errors, that counts as room at the end of an interval.
const ROOM_ERRORS: f64 = 2.0;
/// The same in the middle of an interval. Higher, since each call is a chance to be wrong.
const EARLY_ROOM_ERRORS: f64 = 4.0;

impl Search {
    pub(super) fn new(bounds: Bounds) -> Self {
        let limit = bounds.start();
        Self {
            bounds,
            limit,
            usual_limit: limit,
            model: Model::default(),
            calls: Calls::default(),
            schedule: Schedule::default(),
        }
    }

    /// Returns the trial to begin with, when nothing is known.
    pub(super) fn first_trial(&self) -> Trial {
        let high = self.limit > MAX_STARTUP_INITIAL;
        let phase = if high { Phase::Verify } else { Phase::startup(Mean::default()) };
        Trial { phase, limit: self.limit, warm_up: 0.0 }
    }

    /// Returns the expected mean latency at `limit`, in seconds.
    pub(super) fn expected_latency(&self, limit: f64) -> f64 {
        self.model.target * (limit / self.limit).max(1.0)
    }

    /// Returns whether an interval is too short to conclude: startup seems to end, and looks twice.
    pub(super) fn is_too_short(&self, phase: &Phase, interval: &Interval) -> bool {
        let Phase::Startup { base, extended: false, .. } = phase else { return false };
        self.startup_ends(base, interval)
            && interval.count < STARTUP_END_SAMPLES * self.calls.variation()
    }

    /// Concludes from an interval with the limit in the way all the time.
    pub(super) fn conclude(&mut self, phase: Phase, interval: Interval) -> Trial {
        match phase {
            Phase::Startup { base, below, .. } => self.after_startup(interval, base, below),
            Phase::ProbeUp => self.after_probe_up(interval),
            Phase::Cruise { above } => self.after_cruise(interval, above),
            Phase::ProbeDown => self.after_probe_down(interval),
            Phase::Verify => self.after_verify(interval),
            Phase::Backoff { before, first } => self.after_backoff(interval, before, first),
        }
    }

    /// Concludes from an interval with too many failures: takes less than was in flight at most.
    pub(super) fn after_failures(&mut self, phase: Phase, peak: f64) -> Trial {
        if let Phase::Startup { base, below: Some(below), .. } = phase {
            return self.end_startup(base, below);
        }
        let limit = 0.6 * self.limit.min(peak.max(1.0));
        self.set_limit(limit);
        Trial { phase: Phase::startup(self.base()), limit: self.limit, warm_up: 0.0 }
    }

    /// Concludes from an interval in which the limit was not always in the way, which does not show
    /// the inner's capacity. Holds the limit, or lets it grow a little.
    pub(super) fn after_slack(&mut self, phase: Phase, meter: &Meter) -> Trial {
        // A `ProbeDown` would only make a queue where there is none.
        self.schedule.postpone();
        let times = meter.times;
        let base = self.base();
        let may_take = if self.model.has_target() {
            self.model.target
        } else if base.count > 0.0 {
            NO_SLOWDOWN * base.value
        } else {
            f64::INFINITY
        };
        if times.count > 0.5 * MIN_SAMPLES && meter.is_touched() && times.mean() < may_take {
            self.set_limit((1.25 * self.limit).max(self.limit + 1.0));
        }
        match phase {
            _ if self.model.has_target() => self.next_probe_up(0.0),
            // Demand ends here, and so does startup.
            Phase::Startup { base, below: Some(below), .. } => self.end_startup(base, below),
            Phase::Verify => Trial { phase: Phase::Verify, limit: self.limit, warm_up: 0.0 },
            _ => Trial { phase: Phase::startup(base), limit: self.limit, warm_up: 0.0 },
        }
    }

    /// Returns a startup if an interval shows clear room already before its end.
    pub(super) fn after_glance(&self, interval: &Interval) -> Option<Trial> {
        self.has_room(interval, EARLY_ROOM_ERRORS).then(|| self.startup_above(interval.limit))
    }

    fn after_startup(
        &mut self,
        interval: Interval,
        mut base: Mean,
        below: Option<Interval>,
    ) -> Trial {
        let variation = self.calls.variation();
        let ends = self.startup_ends(&base, &interval);
        let (ratio, error) = slowdown(&base, &interval, variation);
        if base.count == 0.0 || ratio < NO_SLOWDOWN + error {
            base.add(interval.latency(), interval.count);
        }
        if !ends {
            self.limit = interval.limit;
            let phase = Phase::Startup { base, below: Some(interval), extended: false };
            return Trial { phase, limit: 2.0 * interval.limit, warm_up: 1.0 };
        }
        if self.model.has_target() {
            // The rate from before is known better, unless the rate at the top is clearly higher.
            if interval.rate > 1.15 * self.model.rate {
                self.model.set_rate(interval.rate, interval.count);
            }
            return self.adopt_model();
        }
        let Some(below) = below else {
            // The limit has not risen at all: calls take longer than when there were few.
            self.model.set_target(HEADROOM * base.value);
            self.model.set_rate(interval.rate, interval.count);
            return self.after_verify(interval);
        };
        let (elasticity, error) = below.elasticity(&interval, variation);
        let mut target = base.value;
        let mut rate = Mean { value: interval.rate, count: interval.count };
        if elasticity - 0.5 * error > 0.1 {
            // Throughput still grew: calls get slower from early on, and the gain is worth that.
            target = target.max(below.latency());
        } else {
            rate.add(below.rate, below.count);
        }
        self.model.set_target(HEADROOM * target);
        self.model.set_rate(rate.value, rate.count);
        let trial = self.adopt_findings();
        if base.count > SURE_BASE_SAMPLES {
            self.schedule = Schedule::after_sure_startup();
        }
        trial
    }

    fn after_probe_up(&mut self, interval: Interval) -> Trial {
        if self.has_room(&interval, ROOM_ERRORS) {
            return self.startup_above(interval.limit);
        }
        self.learn_rate(&interval);
        let limit = self.limit.round().min(interval.limit - 1.0);
        Trial { phase: Phase::Cruise { above: interval }, limit, warm_up: 1.0 }
    }

    fn after_cruise(&mut self, interval: Interval, above: Interval) -> Trial {
        self.learn_rate(&interval);
        if above.limit > interval.limit {
            self.model.learn_target(&interval, &above, self.calls.variation());
        }
        if self.limit < 0.75 * self.usual_limit {
            // A large cut by small steps.
            self.usual_limit = self.limit;
            return Trial { phase: Phase::Verify, limit: interval.limit, warm_up: 0.0 };
        }
        self.usual_limit += 0.1 * (self.limit - self.usual_limit);
        if self.schedule.is_due() { self.next_probe_down(1.0) } else { self.next_probe_up(1.0) }
    }

    fn after_probe_down(&mut self, interval: Interval) -> Trial {
        let count = 5.0 * PROBE_DOWN_SAMPLES;
        let believed = Interval { limit: self.limit, rate: self.model.rate, count };
        let (elasticity, error) = interval.elasticity(&believed, self.calls.variation());
        // The knee, if throughput grows evenly up to the knee and not at all beyond.
        let knee = interval.limit * self.model.rate / interval.rate;
        let fits = HEADROOM * knee;
        let ratio = fits / self.limit;
        if elasticity + error < 0.3 && ratio < 0.95 {
            self.model.target *= ratio;
            self.set_limit(fits);
            self.usual_limit = self.limit;
            self.schedule = Schedule::default();
            return self.next_probe_down(0.6);
        }
        if elasticity - error > 0.5 && ratio > 1.1 {
            self.model.target *= ratio.min(1.25).sqrt();
        }
        self.next_probe_up(1.0)
    }

    fn after_verify(&mut self, interval: Interval) -> Trial {
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
                return self.adopt_findings();
            }
            return self.next_probe_up(0.0);
        }
        if self.model.has_target() {
            self.calls.latency = interval.latency();
        }
        Trial { phase: Phase::Backoff { before: interval, first: true }, limit: cut, warm_up }
    }

    fn after_backoff(&mut self, interval: Interval, before: Interval, first: bool) -> Trial {
        let (elasticity, error) = interval.elasticity(&before, self.calls.variation());
        let followed = elasticity - 0.5 * error > 0.5;
        let base = Mean { value: interval.latency(), count: interval.count };
        if self.model.has_target() {
            if followed {
                // The inner had become slow and not less able: fewer calls only mean less work
                // done. There may be room above as well.
                self.model.set_target(HEADROOM * interval.latency());
                self.model.set_rate(before.rate, before.count);
                self.schedule = Schedule::default();
                self.set_limit(before.limit);
                self.usual_limit = self.limit;
                let phase = Phase::startup(self.base());
                Trial { phase, limit: before.limit, warm_up: 1.0 }
            } else {
                self.model.set_target(self.model.target);
                self.model.set_rate(interval.rate.max(before.rate), interval.count);
                self.adopt_findings()
            }
        } else if followed && first {
            // Even the start was not too much.
            let phase = Phase::Startup { base, below: Some(before), extended: false };
            Trial { phase, limit: 2.0 * before.limit, warm_up: 1.0 }
        } else if followed || interval.limit <= self.bounds.min {
            self.model.set_target(HEADROOM * interval.latency());
            self.model.set_rate(before.rate, before.count);
            self.adopt_findings()
        } else {
            let phase = Phase::Backoff { before: interval, first: false };
            Trial { phase, limit: interval.limit / 2.0, warm_up: 0.6 }
        }
    }

    /// Ends a startup at the last limit that was still in order.
    fn end_startup(&mut self, base: Mean, below: Interval) -> Trial {
        if !self.model.has_target() {
            self.model.set_target(HEADROOM * base.value);
            self.model.set_rate(below.rate, below.count);
        }
        self.adopt_findings()
    }

    /// Takes over a new finding, which a `ProbeDown` checks soon.
    fn adopt_findings(&mut self) -> Trial {
        self.schedule = Schedule::default();
        self.adopt_model()
    }

    /// Takes over the limit and the latency of the model.
    fn adopt_model(&mut self) -> Trial {
        self.set_limit(self.model.limit());
        self.usual_limit = self.limit;
        self.calls.latency = self.model.target;
        self.next_probe_up(1.2)
    }

    fn next_probe_up(&self, warm_up: f64) -> Trial {
        let limit = (PROBE_UP_GAIN * self.limit).round().max(self.limit.round() + 1.0);
        Trial { phase: Phase::ProbeUp, limit, warm_up }
    }

    fn next_probe_down(&self, warm_up: f64) -> Trial {
        let limit = self.bounds.clamp((PROBE_DOWN_GAIN * self.limit).round());
        if limit < self.limit {
            Trial { phase: Phase::ProbeDown, limit, warm_up }
        } else {
            self.next_probe_up(warm_up)
        }
    }

    fn startup_above(&self, limit: f64) -> Trial {
        Trial { phase: Phase::startup(self.base()), limit: 2.0 * limit, warm_up: 1.0 }
    }

    /// Returns whether startup is at the top: calls take clearly longer than the baseline, or the
    /// limit is at its maximum.
    fn startup_ends(&self, base: &Mean, interval: &Interval) -> bool {
        let (ratio, error) = slowdown(base, interval, self.calls.variation());
        let highest = interval.limit >= self.bounds.max;
        highest || base.count > 0.0 && ratio > CLEAR_SLOWDOWN + 2.0 * error
    }

    /// Returns whether throughput is clearly higher than known, and calls do not take longer for
    /// that.
    fn has_room(&self, interval: &Interval, errors: f64) -> bool {
        self.model.surprise(interval, self.calls.variation()) > errors
            && interval.rate > 1.1 * self.model.rate
            && interval.latency() < 0.95 * self.model.target
    }

    /// Returns the mean latency of a call that does not wait in the inner, as far as known.
    fn base(&self) -> Mean {
        if self.model.has_target() {
            return Mean { value: self.model.service(), count: MODEL_BASE_SAMPLES };
        }
        let quiet = self.calls.quiet;
        if quiet.count > 2.0 * MIN_SAMPLES { quiet } else { Mean::default() }
    }

    fn learn_rate(&mut self, interval: &Interval) {
        self.model.learn_rate(interval, self.calls.variation());
        // One interval moves the limit by no more than this, whatever the rate.
        let limit = self.model.limit().clamp(0.67 * self.limit, 1.5 * self.limit);
        self.set_limit(limit);
    }

    fn set_limit(&mut self, limit: f64) {
        self.limit = self.bounds.clamp(limit);
    }
}

/// Returns the latency of an interval as a multiple of the baseline, and the standard error. Means
/// nothing if the baseline is empty.
fn slowdown(base: &Mean, interval: &Interval, variation: f64) -> (f64, f64) {
    let error = (variation * (1.0 / base.count.max(1.0) + 1.0 / interval.count)).sqrt();
    (interval.latency() / base.value, error)
}
