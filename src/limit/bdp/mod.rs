//! The limit as the product of what the inner can do and how long calls may take there.

mod alarm;
mod calls;
mod meter;
mod model;
mod phase;
mod search;
#[cfg(test)]
mod tests;

use tokio::time::Instant;

use self::{alarm::Alarm, calls::Calls, meter::Meter, model::Model, phase::Phase};
use super::{
    algorithm::Algorithm,
    bounds::{Bounds, whole},
    sample::{Load, Outcome, Sample},
};

/// Finds the limit, and follows it, when nothing is known of the inner service: the one to start with.
///
/// The limit is a *bandwidth-delay product*: what the inner can do, in calls a second, times how long a call may
/// take there. The first is measured again and again while the limit is in the way, and moves the limit within a
/// few hundred calls of a change. The second is learned slowly, from trying a little more and a little less and
/// looking whether throughput follows. The page [limits.md](https://github.com/tower-load-leveling/tower-load-leveling/blob/main/docs/limits.md) has the law,
/// why it works, what it cannot know, and what came out in simulations.
///
/// - As long as the limit is not in the way nothing is learned from that, and the limit stays; it grows a little if
///   it is in the way now and then and calls take no longer for that.
/// - A limit that is far too low or too high at the start is found out within some hundred calls.
/// - Each large cut is an experiment: if throughput follows it, the inner had become slow and not less able, and
///   the cut is taken back.
/// - Times in which nothing at all finishes, as when a garbage collector runs, are left out.
/// - Failures ([`Outcome::Ignore`]) count for neither throughput nor latency; when suddenly many calls fail at once,
///   the limit goes down for a while. Many an [`Outcome::Overload`] lowers it as well.
///   [`Outcome::Cancelled`] counts for nothing.
///
/// It supposes that the inner is this leveler's alone. Where several processes share one, each sees throughput
/// follow its own limit, at the cost of the others, and all grow: use [`LatencyTarget`](super::LatencyTarget).
///
/// A sample costs some tens of nanoseconds and no allocation.
///
/// ```
/// use tower_load_leveling::{LoadLevelLayer, limit::Bdp};
///
/// let layer = LoadLevelLayer::builder().capacity(1024).adaptive(Bdp::new().max(500)).build()?;
/// # drop(layer);
/// # Ok::<(), tower_load_leveling::error::BuildError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Bdp {
    bounds: Bounds,
    /// The first instant there was. Within, time is seconds since.
    origin: Option<Instant>,
    phase: Phase,
    /// Of the limit that is tried now.
    meter: Meter,
    /// When there was a tick with something running, lately.
    last_busy_tick: Option<f64>,
    /// The limit that is believed to be right.
    limit: f64,
    /// Where it was lately.
    usual_limit: f64,
    model: Model,
    calls: Option<Calls>,
    alarm: Alarm,
    /// How often the limit has been tried since it was last looked at from far below, and after how many times
    /// that is due again.
    tries: u32,
    probe_down_after: u32,
    /// The share of calls that fail at once, usually.
    usual_failures: f64,
}

/// A few: less than most services sustain. It doubles until calls take longer.
const INITIAL: f64 = 4.0;
/// From here on it is looked downward first: what is too much costs more than what is too little.
const HIGH_INITIAL: f64 = 8.0;

impl Default for Bdp {
    fn default() -> Self {
        Self::new()
    }
}

impl Bdp {
    /// Returns an algorithm that starts with a limit of 4 and keeps it at 1 or above.
    #[must_use]
    pub fn new() -> Self {
        let bounds = Bounds { min: 1.0, max: f64::from(u32::MAX), initial: INITIAL };
        Self {
            bounds,
            origin: None,
            phase: Phase::Verify,
            meter: Meter::new(INITIAL, 0.0, 0.0),
            last_busy_tick: None,
            limit: INITIAL,
            usual_limit: INITIAL,
            model: Model::default(),
            calls: None,
            alarm: Alarm::default(),
            tries: 0,
            probe_down_after: phase::PROBE_DOWN_AFTER,
            usual_failures: 0.0,
        }
        .restart()
    }

    /// Sets what the limit does not go below. By default, and for 0, that is 1.
    #[must_use]
    pub fn min(mut self, min: usize) -> Self {
        self.bounds.min = whole(min);
        self.restart()
    }

    /// Sets what the limit does not go above. There is no such bound by default.
    #[must_use]
    pub fn max(mut self, max: usize) -> Self {
        self.bounds.max = whole(max);
        self.restart()
    }

    /// Sets the limit to start with, 4 by default. A good guess saves the second or so that finding it takes.
    #[must_use]
    pub fn initial(mut self, initial: usize) -> Self {
        self.bounds.initial = whole(initial);
        self.restart()
    }

    fn restart(mut self) -> Self {
        self.limit = self.bounds.start();
        self.usual_limit = self.limit;
        self.meter = Meter::new(self.limit, 0.0, 0.0);
        self.phase = if self.limit > HIGH_INITIAL { Phase::Verify } else { Phase::startup() };
        self
    }

    /// Seconds since the first instant there was.
    fn seconds(&mut self, at: Instant) -> f64 {
        let origin = *self.origin.get_or_insert(at);
        at.saturating_duration_since(origin).as_secs_f64()
    }
}

impl Algorithm for Bdp {
    fn limit(&self) -> f64 {
        self.meter.limit
    }

    fn on_sample(&mut self, sample: &Sample) {
        let now = self.seconds(sample.finished);
        let took = sample.service_time().as_secs_f64();
        if sample.outcome != Outcome::Cancelled {
            self.meter.peak = self.meter.peak.max(sample.in_flight_at_dispatch as f64);
        }
        match sample.outcome {
            Outcome::Success => {}
            Outcome::Overload => self.meter.overloaded += 1.0,
            Outcome::Ignore => {
                let quick = self.calls.as_ref().is_none_or(|calls| calls.is_quick(took));
                self.meter.failed += f64::from(u8::from(quick));
                return;
            }
            Outcome::Cancelled => return,
        }
        let calls = self.calls.get_or_insert_with(|| Calls::new(now, took));
        if let Some(since) = calls.add(now, took) {
            // What was held up comes all at once, and says nothing either.
            self.meter.skip(since, now + calls.latency);
        }
        if sample.in_flight_at_dispatch as f64 <= 0.5 * self.meter.limit && !sample.limit_reached {
            calls.add_quiet(took);
        }
        self.meter.add(now, sample.outcome == Outcome::Success, sample.limit_reached);
        if calls.is_sound(now, took) {
            if self.meter.is_warm(now) {
                self.meter.times.add(took);
            }
            self.listen(now, took, sample);
        }
        if self.meter.successes >= self.needed() {
            self.end_interval(now);
        } else {
            self.look_for_room(now);
        }
    }

    fn on_tick(&mut self, now: Instant, load: &Load) {
        let now = self.seconds(now);
        if load.in_flight > 0 {
            let before = self.last_busy_tick.replace(now);
            if before.is_some_and(|before| now - before > IDLE_GAP) {
                // Nobody asked for anything meanwhile: what had been measured is of another time.
                self.meter = Meter::new(self.meter.limit, now, 0.0);
            }
        }
        let (latency, stands_still) = match &self.calls {
            // Quick failures are a sign of life, too.
            Some(calls) => (calls.latency, calls.stands_still(now) && self.meter.failed == 0.0),
            None => (0.0, false),
        };
        let age = now - self.meter.since;
        let pauses = stands_still && (load.in_flight == 0 || age < MAX_STANDSTILL);
        if pauses || !self.meter.is_warm(now) {
            return;
        }
        let Meter { successes, overloaded, .. } = self.meter;
        let late = if !self.meter.is_bound() {
            age > (6.0 * latency).clamp(1.0, 4.0)
        } else {
            let enough = successes >= 12.0 || overloaded >= phase::MIN_SAMPLES;
            enough && age > (100.0 * latency).clamp(1.0, 30.0)
        };
        if late {
            self.end_interval(now);
        }
    }
}

/// In seconds; what lasts longer is not a pause but a state.
const MAX_STANDSTILL: f64 = 8.0;
/// In seconds; a leveler that is busy ticks a hundred times as often.
const IDLE_GAP: f64 = 1.0;
