use super::{
    calls::Calls,
    ceiling::Ceiling,
    cut::Cut,
    interval::Interval,
    limits::Limits,
    meter::{BOUND_SHARE, MIN_SAMPLES, Meter},
    model::{HEADROOM, Model},
    phase::{PROBE_DOWN_SAMPLES, Phase, Trial},
    schedule::Schedule,
    startup::{NO_SLOWDOWN, Startup},
    statistics::Mean,
};
use crate::limit::{bounds::Bounds, state::LimitState};

/// Knows the inner, and decides which limit to try next.
///
/// Each method `after_…` learns from an interval and returns the next [`Trial`].
#[derive(Clone, Debug)]
pub(super) struct Search {
    pub(super) limits: Limits,
    pub(super) model: Model,
    pub(super) calls: Calls,
    schedule: Schedule,
    /// The last `Cruise`, unless the limit has been found anew since.
    cruised: Option<Interval>,
}

/// A service time from fewer calls is checked at once.
const UNSURE_SAMPLES: f64 = 12.0;
/// The limit at which too many calls fail, as a multiple of the usual limit.
const TOO_FAR: f64 = 1.5;
/// The share of the limit of a startup below which the finding is tried as a cut.
const LARGE_CUT: f64 = 0.85;

/// The surprise of a higher throughput with a lower limit, in standard errors.
const STALE_ERRORS: f64 = 3.0;
/// The surprise of throughput, in standard errors, that counts as room at the end of an interval.
const ROOM_ERRORS: f64 = 2.0;
/// The same in the middle of an interval. Higher, since each call is a chance to be wrong.
const EARLY_ROOM_ERRORS: f64 = 4.0;

impl Search {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            limits: Limits::new(bounds),
            model: Model::default(),
            calls: Calls::default(),
            schedule: Schedule::default(),
            cruised: None,
        }
    }

    /// Returns a search with the state from before a restart.
    pub(super) fn resume(bounds: Bounds, state: &LimitState) -> Self {
        let mut search = Self::new(bounds);
        search.limits.set(state.limit);
        search.limits.settle();
        search.model = Model::resume(state);
        search.calls.latency = search.model.target;
        search
    }

    /// Returns whether an interval is too short to conclude: startup seems to end, and looks twice.
    pub(super) fn is_too_short(&self, phase: &Phase, interval: &Interval) -> bool {
        let Phase::Startup(startup) = phase else { return false };
        startup.is_unsure(interval, self.calls.variation()) && self.startup_ends(startup, interval)
    }

    /// Returns whether a startup can go on at once.
    pub(super) fn rises_quickly(&self, startup: &Startup, interval: &Interval) -> bool {
        !self.limits.is_highest(interval.limit) && startup.rises_quickly(interval)
    }

    /// Returns the interval at a lower limit, if throughput has collapsed since.
    pub(super) fn collapsed_from(
        &self,
        phase: &Phase,
        interval: &Interval,
        variation: f64,
    ) -> Option<Interval> {
        let lower = match phase {
            Phase::Startup(startup) => startup.below.or(self.cruised),
            Phase::ProbeUp | Phase::Cruise { .. } => self.cruised,
            Phase::ProbeDown | Phase::Verify | Phase::Backoff(_) => None,
        };
        lower.filter(|lower| Ceiling::is_broken(lower, interval, variation))
    }

    /// Concludes from a collapse: remembers the limit, and goes back to the lower limit.
    pub(super) fn after_collapse(
        &mut self,
        phase: &Phase,
        interval: &Interval,
        lower: &Interval,
    ) -> Trial {
        self.limits.ceiling.set(lower.limit, interval.limit);
        if self.model.rate < lower.rate {
            self.model.set_rate(lower.rate, lower.count);
        }
        if !self.model.has_target() {
            let base = match phase {
                Phase::Startup(startup) if startup.base.count > 0.0 => startup.base,
                _ => lower.mean_latency(),
            };
            self.model.set_service(base);
            self.schedule = Schedule::default();
        }
        self.limits.set(self.limits.believed().max(self.model.limit()).min(lower.limit));
        // The excess calls have to end, at the collapsed rate.
        let drain = (1.0 - self.limits.believed() / interval.limit) * interval.latency();
        self.calls.latency = self.model.target;
        self.limits.cruise(drain / self.model.target + 1.0)
    }

    /// Concludes from an interval with the limit in the way all the time.
    pub(super) fn conclude(&mut self, phase: Phase, interval: Interval) -> Trial {
        match phase {
            Phase::Startup(startup) => self.after_startup(interval, startup),
            Phase::ProbeUp => self.after_probe_up(interval),
            Phase::Cruise { above } => self.after_cruise(interval, above),
            Phase::ProbeDown => self.after_probe_down(interval),
            Phase::Verify => self.after_verify(interval),
            Phase::Backoff(cut) => self.after_backoff(interval, cut),
        }
    }

    /// Concludes from an interval with too many failures: takes less than was in flight at most.
    pub(super) fn after_failures(&mut self, phase: Phase, meter: &Meter) -> Trial {
        let good = self.limits.good();
        if meter.limit > TOO_FAR * good && meter.peak > BOUND_SHARE * meter.limit {
            self.limits.ceiling.set(good, meter.limit);
        }
        if let Phase::Startup(Startup { base, below: Some(below), .. }) = phase {
            return self.end_startup(base, below);
        }
        let limit = 0.6 * self.limits.believed().min(meter.peak.max(1.0));
        self.limits.set(limit);
        self.limits.again(Phase::startup(self.base()))
    }

    /// Concludes from an interval with the limit only at times in the way, which does not show the
    /// inner's capacity. Holds the limit, or lets the limit grow a little.
    pub(super) fn after_slack(&mut self, phase: Phase, meter: &Meter) -> Trial {
        // A `ProbeDown` would only make a queue out of nothing.
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
            self.limits.set((1.25 * self.limits.believed()).max(self.limits.believed() + 1.0));
        }
        match phase {
            _ if self.model.has_target() => self.limits.probe_up(0.0),
            // Demand ends here. Startup goes on if demand comes back.
            Phase::Startup(startup) => {
                self.limits.set(self.limits.believed().max(meter.limit));
                self.limits.again(Phase::Startup(Startup { extended: false, ..startup }))
            }
            Phase::Verify => self.limits.again(Phase::Verify),
            _ => self.limits.again(Phase::startup(base)),
        }
    }

    /// Returns a startup if an interval shows clear room already before the end.
    pub(super) fn after_glance(&self, interval: &Interval) -> Option<Trial> {
        self.has_room(interval, EARLY_ROOM_ERRORS)
            .then(|| self.limits.startup_above(self.base(), *interval))
    }

    fn after_startup(&mut self, interval: Interval, mut startup: Startup) -> Trial {
        let variation = self.calls.variation();
        let ends = self.startup_ends(&startup, &interval);
        startup.learn(&interval, variation);
        if !ends {
            self.limits.set(interval.limit);
            let limit = self.limits.double(interval.limit);
            return Trial { phase: Phase::Startup(startup.above(interval)), limit, warm_up: 0.0 };
        }
        if self.model.has_target() {
            // The rate from before is known better, unless the rate at the top is clearly higher.
            let rate = startup.rate(&interval);
            if rate.value > 1.15 * self.model.rate {
                self.model.set_rate(rate.value, rate.count);
            }
            return self.adopt_model();
        }
        self.finish_startup(interval, startup)
    }

    /// Ends the first startup: takes over the findings, with an experiment before a large cut.
    pub(super) fn finish_startup(&mut self, interval: Interval, startup: Startup) -> Trial {
        let (service, rate) = startup.findings(&interval, self.calls.variation());
        self.model.set(service, rate.value, rate.count);
        if startup.below.is_none() {
            // The limit has not risen at all: calls take longer than with few calls.
            return self.after_verify(interval);
        }
        if self.model.limit() < LARGE_CUT * interval.limit {
            return self.try_cut(interval, self.model.limit());
        }
        let trial = self.adopt_findings();
        if startup.has_sure_base() {
            self.schedule = Schedule::after_sure_startup();
        }
        trial
    }

    fn after_probe_up(&mut self, interval: Interval) -> Trial {
        if self.has_room(&interval, ROOM_ERRORS) {
            return self.limits.startup_above(self.base(), interval);
        }
        self.learn_rate(&interval);
        let limit = self.limits.believed().round().min(interval.limit - 1.0);
        Trial { phase: Phase::Cruise { above: Some(interval) }, limit, warm_up: 1.0 }
    }

    fn after_cruise(&mut self, interval: Interval, above: Option<Interval>) -> Trial {
        self.limits.ceiling.count_try();
        self.cruised = Some(interval);
        self.learn_rate(&interval);
        if let Some(above) = above.filter(|above| above.limit > interval.limit) {
            if self.model.is_starved(&interval, &above, self.calls.variation()) {
                return self.after_starvation(&interval, &above);
            }
            self.model.learn_target(&interval, &above, self.calls.variation());
        }
        if self.limits.has_crept_down() {
            return Trial { phase: Phase::Verify, limit: interval.limit, warm_up: 0.0 };
        }
        if self.schedule.is_due() { self.limits.probe_down(1.0) } else { self.limits.probe_up(1.0) }
    }

    fn after_starvation(&mut self, at: &Interval, above: &Interval) -> Trial {
        self.model.set(at.mean_latency(), self.model.rate.max(at.rate), at.count);
        self.schedule = Schedule::default();
        self.limits.set(above.limit);
        self.limits.settle();
        Trial { phase: Phase::startup(self.base()), limit: 2.0 * above.limit, warm_up: 1.0 }
    }

    fn after_probe_down(&mut self, interval: Interval) -> Trial {
        if self.model.surprise(&interval, self.calls.variation()) > STALE_ERRORS {
            // A lower limit gives more throughput: the model is outdated.
            self.model.set_rate(interval.rate, interval.count);
            if interval.latency() < self.model.service().value {
                self.model.set_service(interval.mean_latency());
            }
            self.limits.set(interval.limit);
            return self.limits.startup_above(self.base(), interval);
        }
        let count = 5.0 * PROBE_DOWN_SAMPLES;
        let believed = Interval { limit: self.limits.believed(), rate: self.model.rate, count };
        let (elasticity, error) = interval.elasticity(&believed, self.calls.variation());
        // The knee, if throughput grows evenly up to the knee and not at all beyond.
        let knee = interval.limit * self.model.rate / interval.rate;
        let fits = HEADROOM * knee;
        let ratio = fits / self.limits.believed();
        if elasticity + error < 0.3 && ratio < 0.95 {
            self.model.target *= ratio;
            self.limits.set(fits);
            self.limits.settle();
            self.schedule = Schedule::default();
            return self.limits.probe_down(0.6);
        }
        if elasticity - error > 0.5 && ratio > 1.1 {
            self.model.target *= ratio.min(1.25).sqrt();
        }
        self.limits.probe_up(1.0)
    }

    fn after_verify(&mut self, interval: Interval) -> Trial {
        if !self.model.has_target() {
            let limit = interval.limit / 2.0;
            if self.limits.whole(limit) < interval.limit {
                let cut =
                    Cut { before: interval, service: self.base(), first: true, below_start: false };
                return Trial { phase: Phase::Backoff(cut), limit, warm_up: 1.0 };
            }
            self.model.set(interval.mean_latency(), interval.rate, interval.count);
            return self.adopt_findings();
        }
        let fits = interval.rate * self.model.target;
        if fits > 0.8 * interval.limit || self.limits.whole(fits) >= interval.limit {
            self.model.set_rate(interval.rate, interval.count);
            return self.limits.probe_up(0.0);
        }
        self.try_cut(interval, fits)
    }

    fn after_backoff(&mut self, interval: Interval, cut: Cut) -> Trial {
        let variation = self.calls.variation();
        let followed = cut.is_followed(&interval, variation);
        let before = cut.before;
        if self.model.has_target() {
            if followed {
                // The inner had become slow and not less able: fewer calls only mean less
                // throughput. A higher limit may give more as well.
                self.model.set(interval.mean_latency(), before.rate, before.count);
                self.schedule = Schedule::default();
                self.limits.set(before.limit);
                self.limits.settle();
                let phase = Phase::startup(self.base());
                return Trial { phase, limit: before.limit, warm_up: 1.0 };
            }
            if Ceiling::is_broken(&interval, &before, variation) {
                self.limits.ceiling.set(interval.limit, before.limit);
            }
            self.model.set(
                cut.service(&interval, variation),
                interval.rate.max(before.rate),
                interval.count,
            );
            let trial = self.adopt_findings();
            // The time of calls with few running may never have been measured.
            let unsure = cut.service.count < UNSURE_SAMPLES;
            return if unsure { self.limits.probe_down(0.6) } else { trial };
        }
        if followed && cut.first {
            // Even the start was not too much.
            return self.limits.startup_above(cut.baseline(&interval), before);
        }
        let is_lowest = interval.limit <= self.limits.min();
        let found = cut.found(&interval, variation);
        if let Some(service) = found.or(is_lowest.then(|| interval.mean_latency())) {
            self.model.set(service, before.rate, before.count);
            return self.adopt_findings();
        }
        let phase = Phase::Backoff(cut.lower(interval));
        Trial { phase, limit: interval.limit / 2.0, warm_up: 0.6 }
    }

    /// Tries a cut to `limit`, or to a fifth if higher.
    fn try_cut(&mut self, before: Interval, limit: f64) -> Trial {
        self.calls.latency = before.latency();
        let limit = limit.max(0.2 * before.limit);
        // The slots taken away come free one by one.
        let warm_up = (1.0 - limit.max(1.0) / before.limit).max(0.1);
        let cut = Cut { before, service: self.base(), first: true, below_start: false };
        Trial { phase: Phase::Backoff(cut), limit, warm_up }
    }

    /// Ends a startup at the last good limit.
    fn end_startup(&mut self, base: Mean, below: Interval) -> Trial {
        if !self.model.has_target() {
            self.model.set(base, below.rate, below.count);
        }
        self.adopt_findings()
    }

    /// Takes over a new finding. A `ProbeDown` soon checks the finding.
    fn adopt_findings(&mut self) -> Trial {
        self.schedule = Schedule::default();
        self.cruised = None;
        self.adopt_model()
    }

    /// Takes over the limit and the latency of the model.
    fn adopt_model(&mut self) -> Trial {
        self.limits.set(self.model.limit());
        self.limits.settle();
        self.calls.latency = self.model.target;
        self.limits.probe_up(1.2)
    }

    /// Returns whether startup is at the top, or the limit at its maximum.
    fn startup_ends(&self, startup: &Startup, interval: &Interval) -> bool {
        self.limits.is_highest(interval.limit)
            || startup.is_at_the_top(interval, self.calls.variation())
    }

    fn has_room(&self, interval: &Interval, errors: f64) -> bool {
        !self.limits.is_highest(interval.limit)
            && self.model.has_room(interval, errors, self.calls.variation())
    }

    /// Returns the mean latency of a call without a wait in the inner, as far as known.
    fn base(&self) -> Mean {
        if self.model.has_target() {
            return self.model.service();
        }
        let quiet = self.calls.quiet;
        if quiet.count > 2.0 * MIN_SAMPLES { quiet } else { Mean::default() }
    }

    fn learn_rate(&mut self, interval: &Interval) {
        self.model.learn_rate(interval, self.calls.variation());
        // The most that one interval moves the limit, whatever the rate.
        let limit =
            self.model.limit().clamp(0.67 * self.limits.believed(), 1.5 * self.limits.believed());
        self.limits.set(limit);
    }
}
