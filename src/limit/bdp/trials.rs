use super::{
    alarm::Alarm,
    calls::MAX_VARIATION,
    failures::Failures,
    interval::Interval,
    meter::{MIN_SAMPLES, Meter},
    phase::{Phase, Trial},
    search::Search,
};
use crate::limit::{
    bounds::Bounds,
    sample::{Load, Outcome, Sample},
    state::LimitState,
};

/// Tries limits, one after the other.
///
/// Counts calls while a limit is tried, decides when the interval ends, asks the [`Search`] for a
/// conclusion, and begins the returned [`Trial`]. All times are seconds on one clock.
#[derive(Clone, Debug)]
pub(super) struct Trials {
    pub(super) phase: Phase,
    /// The counts of the current trial.
    meter: Meter,
    alarm: Alarm,
    failures: Failures,
    pub(super) search: Search,
    /// The last tick with a call in flight.
    last_busy_tick: Option<f64>,
}

/// The longest warm-up, in seconds. A single odd latency makes the search blind for no longer.
const MAX_WARM_UP: f64 = 60.0;
/// The fewest calls that double the limit of a startup.
const QUICK_SAMPLES: f64 = 8.0;
/// The longest standstill, in seconds. A longer one is not a pause but a state.
const MAX_STANDSTILL: f64 = 8.0;
/// The time without a busy tick, in seconds, after which the leveler was idle. A busy one ticks a
/// hundred times as often.
const IDLE_GAP: f64 = 1.0;

impl Trials {
    pub(super) fn new(bounds: Bounds) -> Self {
        let search = Search::new(bounds);
        Self::of(search.limits.first_trial(), search)
    }

    /// Returns trials with the state from before a restart. The throughput is measured before
    /// anything else.
    pub(super) fn resume(bounds: Bounds, state: &LimitState) -> Self {
        let search = Search::resume(bounds, state);
        let limit = search.limits.believed();
        Self::of(Trial { phase: Phase::Verify, limit, warm_up: 0.0 }, search)
    }

    fn of(first: Trial, search: Search) -> Self {
        let Trial { phase, limit, warm_up } = first;
        Self {
            phase,
            meter: Meter::new(limit, 0.0, warm_up),
            alarm: Alarm::default(),
            failures: Failures::default(),
            search,
            last_busy_tick: None,
        }
    }

    /// Returns the limit of the current trial.
    pub(super) fn limit(&self) -> f64 {
        self.meter.limit
    }

    pub(super) fn on_sample(&mut self, now: f64, sample: &Sample) {
        let took = sample.service_time().as_secs_f64();
        if sample.outcome != Outcome::Cancelled {
            self.meter.peak = self.meter.peak.max(sample.in_flight_at_dispatch as f64);
        }
        let calls = &mut self.search.calls;
        match sample.outcome {
            Outcome::Success => {}
            Outcome::Overload => self.meter.overloaded += 1.0,
            Outcome::Ignore => {
                self.meter.failed += f64::from(u8::from(calls.is_quick(took)));
                return;
            }
            Outcome::Cancelled => return,
        }
        if let Some(since) = calls.add(now, took, sample.in_flight + 1) {
            // The calls held up by the standstill end all at once, and say nothing either.
            self.meter.skip(since, now + calls.latency);
        }
        if sample.in_flight_at_dispatch as f64 <= 0.5 * self.meter.limit && !sample.limit_reached {
            calls.add_quiet(took);
        }
        self.meter.add(now, sample.outcome == Outcome::Success, sample.limit_reached);
        if calls.is_sound(now, took) {
            if self.meter.is_warm(now) {
                self.meter.times.add(took);
                self.compare(now, took);
            }
            self.listen(now, took, sample);
        }
        let variation = self.search.calls.variation();
        let needed = self.phase.samples_needed(self.meter.limit, variation);
        if self.meter.successes >= needed || self.rises_quickly(now) || self.is_decided(now) {
            self.end_interval(now);
        } else {
            self.look_for_room(now);
        }
    }

    /// Compares a call of a startup with the baseline.
    fn compare(&mut self, now: f64, took: f64) {
        if let Phase::Startup(startup) = &self.phase {
            if now - took >= self.meter.since {
                self.meter.longer.add(startup.is_longer(took));
            }
        }
    }

    /// Ends an interval with too few ended calls, unless nothing could finish.
    pub(super) fn on_tick(&mut self, now: f64, load: &Load) {
        if load.in_flight > 0 {
            let before = self.last_busy_tick.replace(now);
            if before.is_some_and(|before| now - before > IDLE_GAP) {
                // The leveler was idle meanwhile: the counts are out of date.
                self.meter = Meter::new(self.meter.limit, now, 0.0);
            }
        }
        let calls = &self.search.calls;
        // Quick failures are a sign of life, too.
        let stands_still = calls.stands_still(now, load.in_flight) && self.meter.failed == 0.0;
        let pauses =
            stands_still && (load.in_flight == 0 || now - self.meter.since < MAX_STANDSTILL);
        if pauses || !self.meter.is_warm(now) {
            return;
        }
        let age = self.meter.measured(now);
        let binds = if self.meter.has_samples() { self.meter.is_bound() } else { load.queued > 0 };
        let late = if binds {
            let Meter { successes, overloaded, .. } = self.meter;
            let enough = successes >= 12.0 || overloaded >= MIN_SAMPLES;
            enough && age > (100.0 * calls.latency).max(1.0)
        } else {
            age > (6.0 * calls.latency).max(1.0)
        };
        if late {
            self.end_interval(now);
        }
    }

    fn end_interval(&mut self, now: f64) {
        if let Some(trial) = self.conclude(now) {
            self.start(now, trial);
        }
    }

    /// Returns the next trial, or `None` if the interval goes on.
    fn conclude(&mut self, now: f64) -> Option<Trial> {
        if self.failures.are_too_many(&self.meter) {
            return Some(self.search.after_failures(self.phase, &self.meter));
        }
        if !self.meter.is_bound() {
            return Some(self.after_slack(now));
        }
        let interval = self.meter.interval(now);
        if let Some(lower) = self.collapsed_from(&interval) {
            return Some(self.search.after_collapse(&self.phase, &interval, &lower));
        }
        self.search.calls.learn_latency(interval.latency());
        if let Some(trial) = self.below_start(&interval) {
            return Some(trial);
        }
        if self.search.is_too_short(&self.phase, &interval) {
            if let Phase::Startup(startup) = &mut self.phase {
                startup.extended = true;
            }
            return None;
        }
        Some(self.search.conclude(self.phase, interval))
    }

    /// Concludes from an interval with the limit only at times in the way.
    fn after_slack(&mut self, now: f64) -> Trial {
        let seen = self.meter.below_limit(now);
        let variation = self.search.calls.variation().max(self.meter.times.variation());
        match self.phase {
            Phase::Startup(startup)
                if !self.search.model.has_target() && startup.is_crowded(&seen, variation) =>
            {
                self.search.finish_startup(seen, startup)
            }
            phase => self.search.after_slack(phase, &self.meter),
        }
    }

    /// Begins a trial. Measuring starts when the calls dispatched before have ended.
    fn start(&mut self, now: f64, trial: Trial) {
        let calls = &mut self.search.calls;
        calls.learn_variation(&self.meter.times);
        let warm_up = (trial.warm_up * calls.latency).min(MAX_WARM_UP);
        self.phase = trial.phase;
        self.meter = Meter::new(self.search.limits.try_next(trial.limit), now, warm_up);
    }

    /// Returns the interval before a collapse of throughput, if any.
    fn collapsed_from(&self, interval: &Interval) -> Option<Interval> {
        // The calls of this interval may be less alike than the calls before.
        let variation = self.meter.times.variation().min(MAX_VARIATION);
        let variation = variation.max(self.search.calls.variation());
        self.search.collapsed_from(&self.phase, interval, variation)
    }

    /// Returns a look below the start, if even the start seems to have been too much.
    fn below_start(&self, interval: &Interval) -> Option<Trial> {
        let Phase::Startup(startup) = &self.phase else { return None };
        let seen = self.meter.times.variation();
        let is_flat = startup.is_flat(interval, &self.meter.longer, seen);
        let asks = is_flat && !self.search.model.has_target();
        if asks { self.search.limits.below_start(startup, interval) } else { None }
    }

    /// Returns whether the conclusion is clear before the end of an interval: about a cut, or about
    /// a collapse of throughput, or about a start that was too much.
    fn is_decided(&self, now: f64) -> bool {
        if self.meter.successes < MIN_SAMPLES || !self.meter.is_bound() {
            return false;
        }
        let interval = self.meter.interval(now);
        match &self.phase {
            Phase::Backoff(cut) => cut.is_decided(&interval, self.search.calls.variation()),
            _ => {
                let collapsed = self.is_full(now) && self.collapsed_from(&interval).is_some();
                collapsed || self.below_start(&interval).is_some()
            }
        }
    }

    /// Returns whether an interval is long enough to see a collapse from its middle. Calls of equal
    /// length, as behind a network, end in waves, and a part of a wave looks like a collapse. A cut
    /// is judged without this check: waiting would double the time to follow a backend that loses
    /// servers.
    fn is_full(&self, now: f64) -> bool {
        let latency = self.search.calls.latency;
        self.meter.successes >= self.meter.limit
            || now - self.meter.since >= 2.0 * latency && self.meter.measured(now) >= latency
    }

    /// Returns whether a startup can go on before the end of an interval: calls take no longer.
    fn rises_quickly(&self, now: f64) -> bool {
        let Phase::Startup(startup) = &self.phase else { return false };
        // One call for each slot: together with the calls dispatched under half of the limit, this
        // is the throughput of one latency, however equal calls are.
        self.meter.successes >= self.meter.limit.max(QUICK_SAMPLES)
            && self.meter.is_bound()
            && self.search.rises_quickly(startup, &self.meter.interval(now))
    }

    /// Begins a startup before the end of an interval if the room is obvious.
    fn look_for_room(&mut self, now: f64) {
        let enough = MIN_SAMPLES * self.search.calls.variation();
        let tells = self.meter.successes >= enough && self.meter.is_bound();
        if !tells || !matches!(self.phase, Phase::ProbeUp) {
            return;
        }
        if let Some(trial) = self.search.after_glance(&self.meter.interval(now)) {
            self.start(now, trial);
        }
    }

    /// Listens to a call, for an alarm before the end of an interval.
    fn listen(&mut self, now: f64, took: f64, sample: &Sample) {
        let limit = self.meter.limit;
        let in_flight = sample.in_flight_at_dispatch as f64;
        // More were in flight under an earlier, higher limit, and those calls are still running.
        let in_range = 0.75 * limit <= in_flight && in_flight <= limit;
        let telling = in_range && now - took >= self.meter.since;
        if !matches!(self.phase, Phase::ProbeUp | Phase::Cruise { .. }) || !telling {
            return;
        }
        let mut times =
            took / self.search.model.expected_latency(limit / self.search.limits.believed());
        if sample.outcome == Outcome::Overload {
            times = times.max(2.0);
        }
        if self.alarm.hear(times, self.search.calls.variation()) {
            self.start(now, Trial { phase: Phase::Verify, limit, warm_up: 0.0 });
        }
    }
}
