mod window;

use std::time::Duration;

use tokio::time::Instant;

use self::window::Window;
use super::{
    algorithm::Algorithm,
    bounds::{Bounds, whole},
    sample::{Outcome, Sample},
    view::View,
};

/// Keeps the mean service time near a target, with a fair share for each of many levelers in front
/// of one inner.
///
/// Of all measurements of a leveler, only the service time is the same for every leveler of an
/// inner. If an algorithm judges by its own throughput, taking more always pays: the gain is the
/// loss of other levelers. `LatencyTarget` therefore compares the mean service time with a number
/// from you, and looks at nothing else.
///
/// After each `max(limit, 4 × √limit)` successes, with *mean* for their mean service time:
///
/// ```text
/// wish  = target × (0.8 + 0.2 / √limit)
/// limit = limit × (1 + (wish − mean) / (4 × target)), at least half of it
/// ```
///
/// The limit grows only if calls reached the limit since the last time and no call was
/// [`Outcome::Overload`]. A leveler with a lower limit wishes for longer calls, and all levelers
/// see the same mean. Levelers with less therefore grow, and levelers with more shrink, until all
/// have the same. With limits of up to 16, a joining leveler is half way there after some 110
/// service times. Above 16 the time grows with the root of the limit.
///
/// | limit of each | ¼ | 1 | 4 | 16 | 100 |
/// | --- | --- | --- | --- | --- | --- |
/// | mean ÷ target | 1.2 | 1 | 0.9 | 0.85 | 0.82 |
///
/// An [`Outcome::Overload`] takes 0.3 of the limit away at once, but at most once in a mean service
/// time. After an overload, and after a cut by more than a quarter, calls already running are not
/// counted: their times belong to the limit before. Limits are fractional. If the limit is below 1,
/// one call runs at a time, and dispatches are spaced, so levelers may outnumber servers.
/// [`Outcome::Ignore`] and [`Outcome::Cancelled`] change nothing.
///
/// In a simulation (medians of ten seeds) with a target of 1.5 × the mean of an inner at rest,
/// twice as many requests as the inner can serve, and exponential service times: the limits of 8
/// levelers, one joining every 5 s, in front of 64 servers add up to 1.35 × 64, and Jain's index of
/// the limits is 0.98. With 64 levelers in front of 16 servers, calls take 1.6 times as long as at
/// rest, at 0.96 of the servers' capacity.
///
/// **Use it** if several levelers share an inner, and for one leveler if you have a service-level
/// objective for the calls. Set the target to one and a half times the mean of the inner at rest.
/// More makes calls wait in the inner, and nothing goes faster.
///
/// **Do not use it** if you cannot say how long calls should take, or if the answer changes. Below
/// 1.3 times the mean at rest the limit stays too low. If the inner gets slower than the target for
/// good, the limit falls to its minimum. Do not use it either if callers drop calls before the
/// target has passed, since dropped calls are not seen.
///
/// ```
/// use std::time::Duration;
/// use tower_load_leveling::{LoadLevelLayer, limit::LatencyTarget};
///
/// let layer = LoadLevelLayer::builder()
///     .capacity(1024)
///     .adaptive(LatencyTarget::new(Duration::from_millis(30)).max(64))
///     .build()?;
/// # drop(layer);
/// # Ok::<(), tower_load_leveling::error::BuildError>(())
/// ```
#[derive(Clone, Debug)]
pub struct LatencyTarget {
    limit: f64,
    pub(crate) bounds: Bounds,
    pub(crate) target: Duration,
    window: Window,
    /// The mean service time of the last window. The target, before the first.
    mean: Duration,
    /// The time of the last deep cut of the limit.
    cut: Option<Instant>,
}

// How the wish depends on the limit. With 0.8 alone nothing would make shares even. The more calls
// end, the better the mean is known: the relative error goes with 1 / √limit. The wish therefore
// has to differ by as much. With 0.2, chance leaves 0.98 of Jain's index after a minute of 20 ms
// calls, and the mean at a limit of ¼ is still near the target.
const WISH_LEVEL: f64 = 0.8;
const WISH_SLOPE: f64 = 0.2;

/// The share of the difference to the wish made up for at once. The mean is a window late: with
/// more than a quarter the limit would ring, and with 1 for ever. With less, the limit takes longer
/// to come to rest.
const GAIN: f64 = 0.25;

/// The least of the limit left by a window, as a factor. Even the worst window says only that the
/// limit is too high, and not by how much.
const MIN_FACTOR: f64 = 0.5;

/// The factor below which a change of the limit is a deep cut: calls already running are not
/// counted from then on. Otherwise a pool that loses most of its servers would be cut again and
/// again for the same backlog.
const DEEP_CUT: f64 = 0.75;

/// The share of the limit left by an overload: as in CUBIC, RFC 9438.
const BACKOFF: f64 = 0.7;

/// The lowest minimum. With less, calls would be too rare for a leveler to follow its inner.
pub(crate) const LOWEST_MIN: f64 = 0.01;

impl LatencyTarget {
    /// Returns the algorithm with a target for the mean service time: from dispatch to the end of
    /// the call, without the wait in the leveler's own queue.
    ///
    /// Size the target by the mean of the inner at rest, times one and a half. Zero counts as a
    /// nanosecond, and keeps the limit at its minimum.
    #[must_use]
    pub fn new(target: Duration) -> Self {
        // Twenty levelers to a server are many. A limit of 2 to start with crowds nobody, and is
        // reached.
        let bounds = Bounds { min: 0.05, max: 1000.0, initial: 2.0 };
        let target = target.max(Duration::from_nanos(1));
        let window = Window::default();
        Self { limit: bounds.start(), bounds, target, window, mean: target, cut: None }
    }

    /// Sets the lowest limit, possibly a fraction: the number of servers behind all levelers,
    /// divided by the highest number of levelers.
    ///
    /// Less than 0.01, or NaN, counts as 0.01. A minimum above the maximum prevails. Default is
    /// 0.05, for 20 levelers to a server.
    #[must_use]
    pub fn min(self, min: f64) -> Self {
        let bounds = Bounds { min: min.max(LOWEST_MIN), ..self.bounds };
        self.within(bounds)
    }

    /// Sets the highest limit: the most calls you would ever want at once from one leveler.
    ///
    /// Zero counts as 1. Default is 1000.
    #[must_use]
    pub fn max(self, max: usize) -> Self {
        let bounds = Bounds { max: whole(max), ..self.bounds };
        self.within(bounds)
    }

    /// Sets the limit to start with: the calls that a leveler may add to an already crowded inner.
    /// A value outside of the bounds counts as the nearest bound.
    ///
    /// Default is 2.
    #[must_use]
    pub fn initial(self, initial: usize) -> Self {
        let bounds = Bounds { initial: whole(initial), ..self.bounds };
        self.within(bounds)
    }

    pub(crate) fn within(self, bounds: Bounds) -> Self {
        Self { limit: bounds.start(), bounds, ..self }
    }

    fn on_success(&mut self, sample: &Sample) {
        if self.ran_before_the_cut(sample) {
            return;
        }
        let Some(mean) = self.window.add(sample, self.limit) else { return };
        let window = std::mem::take(&mut self.window);
        self.mean = mean;
        let wish = WISH_LEVEL + WISH_SLOPE / self.limit.sqrt();
        let change = 1.0 + GAIN * (wish - mean.as_secs_f64() / self.target.as_secs_f64());
        if change < DEEP_CUT {
            self.cut(change.max(MIN_FACTOR), sample.finished);
        } else if change < 1.0 || window.may_grow() {
            self.limit = self.bounds.clamp(self.limit * change);
        }
    }

    fn on_overload(&mut self, sample: &Sample) {
        self.window.overloaded = true;
        let since = |cut| sample.finished.saturating_duration_since(cut);
        let told = self.cut.is_some_and(|cut| since(cut) < self.mean);
        if !told && !self.ran_before_the_cut(sample) {
            self.cut(BACKOFF, sample.finished);
            // The counts so far belong to the limit before.
            self.window = Window::after_overload();
        }
    }

    fn cut(&mut self, change: f64, now: Instant) {
        self.limit = self.bounds.clamp(self.limit * change);
        self.cut = Some(now);
    }

    /// Returns whether a call was dispatched before the last cut, and tells of the limit before.
    fn ran_before_the_cut(&self, sample: &Sample) -> bool {
        self.cut.is_some_and(|cut| sample.dispatched < cut)
    }
}

impl Algorithm for LatencyTarget {
    fn limit(&self) -> f64 {
        self.limit
    }

    fn resume_from(&mut self, limit: usize) {
        self.limit = self.bounds.clamp(limit as f64);
    }

    fn on_sample(&mut self, sample: &Sample) {
        match sample.outcome {
            Outcome::Success => self.on_success(sample),
            // A refusal says nothing about service times.
            Outcome::Overload => self.on_overload(sample),
            Outcome::Ignore | Outcome::Cancelled => {}
        }
    }

    fn view(&self) -> View {
        View::new().target(self.target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::testing::{Clock, ms};

    const TARGET: Duration = Duration::from_millis(100);

    /// Returns an algorithm with this limit.
    fn at(limit: f64) -> LatencyTarget {
        LatencyTarget { limit, ..LatencyTarget::new(TARGET) }
    }

    /// Lets calls of length `time` end until a window ends, or `most` calls have. All are
    /// dispatched after the last cut.
    fn calls(target: &mut LatencyTarget, time: Duration, most: u32) {
        let clock = target.cut.map_or_else(Clock::new, Clock::at);
        for _ in 0..most {
            target.on_sample(&clock.sample(time, 1, Outcome::Success));
            if target.window.calls == 0 {
                return;
            }
        }
    }

    fn after(mut target: LatencyTarget, time: Duration) -> f64 {
        calls(&mut target, time, 10_000);
        target.limit()
    }

    #[test]
    fn limit_stays_where_calls_take_as_long_as_is_wished() {
        for (limit, millis) in [(0.25, 120), (1.0, 100), (4.0, 90), (16.0, 85), (100.0, 82)] {
            let after = after(at(limit), ms(millis));
            assert!((after / limit - 1.0).abs() < 1e-9, "{limit} became {after}");
        }
    }

    #[test]
    fn those_who_have_less_grow_while_those_who_have_more_shrink() {
        for limit in [0.05, 0.5, 2.0, 3.9] {
            assert!(after(at(limit), ms(90)) > limit, "{limit}");
        }
        for limit in [4.1, 10.0, 500.0] {
            assert!(after(at(limit), ms(90)) < limit, "{limit}");
        }
    }

    #[test]
    fn it_makes_up_for_a_quarter_of_the_difference_and_no_more_than_halves() {
        assert!((after(at(1.0), ms(0)) - 1.25).abs() < 1e-9);
        assert!((after(at(1.0), ms(200)) - 0.75).abs() < 1e-9);
        assert!((after(at(1.0), ms(300)) - 0.5).abs() < 1e-9);
        assert!((after(at(1.0), ms(90_000)) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn low_limits_are_thought_about_after_few_calls_and_high_ones_not_before_those_in_flight() {
        for (limit, enough) in [(0.05, 1), (0.25, 2), (1.0, 4), (4.0, 8), (16.0, 16), (200.0, 200)]
        {
            let mut target = at(limit);
            calls(&mut target, ms(1), enough - 1);
            assert_eq!(target.limit(), limit);
            calls(&mut target, ms(1), 1);
            assert!(target.limit() > limit, "{limit} after {enough}");
        }
    }

    #[test]
    fn it_does_not_grow_if_the_limit_was_not_reached() {
        let (mut target, clock) = (at(4.0), Clock::new());
        for time in [1, 500] {
            for _ in 0..8 {
                let mut sample = clock.sample(ms(time), 1, Outcome::Success);
                sample.limit_reached = false;
                target.on_sample(&sample);
            }
            assert_eq!(target.limit() < 4.0, time == 500, "calls of {time} ms");
        }
    }

    #[test]
    fn overload_cuts_once_in_a_service_time() {
        let (mut target, mut clock) = (at(10.0), Clock::new());
        for (pass, expected) in [(0, 7.0), (99, 7.0), (1, 4.9), (1, 4.9)] {
            clock.pass(ms(pass));
            target.on_sample(&clock.sample(ms(0), 1, Outcome::Overload));
            assert!((target.limit() - expected).abs() < 1e-9, "{} for {expected}", target.limit());
        }
    }

    #[test]
    fn overload_of_calls_that_ran_before_the_cut_does_not_cut_again() {
        let (mut target, mut clock) = (at(10.0), Clock::new());
        target.on_sample(&clock.sample(ms(500), 1, Outcome::Overload));
        for _ in 0..10 {
            clock.pass(ms(49));
            target.on_sample(&clock.sample(ms(3000), 1, Outcome::Overload));
        }
        assert_eq!(target.limit(), 7.0);
        clock.pass(ms(10));
        target.on_sample(&clock.sample(ms(3000), 1, Outcome::Overload));
        assert_eq!(target.limit(), 7.0 * BACKOFF);
    }

    #[test]
    fn calls_that_ran_before_a_deep_cut_are_not_counted_after_it() {
        let (mut target, mut clock) = (at(1.0), Clock::new());
        for _ in 0..4 {
            target.on_sample(&clock.sample(ms(900), 1, Outcome::Success));
        }
        assert_eq!(target.limit(), 0.5);
        clock.pass(ms(899));
        target.on_sample(&clock.sample(ms(900), 1, Outcome::Success));
        assert_eq!(target.window.calls, 0);
        clock.pass(ms(1));
        target.on_sample(&clock.sample(ms(900), 1, Outcome::Success));
        assert_eq!(target.window.calls, 1);
    }

    #[test]
    fn an_inner_that_fails_fast_does_not_look_fast() {
        let (mut target, clock) = (at(10.0), Clock::new());
        target.on_sample(&clock.sample(ms(0), 1, Outcome::Overload));
        assert_eq!(
            after(target.clone(), ms(10)),
            7.0,
            "nor does the limit grow in the same window"
        );
        for _ in 0..1000 {
            target.on_sample(&clock.sample(ms(0), 1, Outcome::Overload));
        }
        assert_eq!(target.limit(), 7.0);
    }

    #[test]
    fn calls_that_say_nothing_change_nothing() {
        let (mut target, clock) = (at(10.0), Clock::new());
        for outcome in [Outcome::Ignore, Outcome::Cancelled] {
            for _ in 0..100 {
                target.on_sample(&clock.sample(ms(9999), 1, outcome));
            }
        }
        assert_eq!(target.limit(), 10.0);
        assert_eq!(target.window.calls, 0);
    }

    #[test]
    fn it_stays_within_its_bounds() {
        let mut target = LatencyTarget::new(TARGET).min(0.5).max(8);
        for (time, bound) in [(ms(10), 8.0), (ms(9999), 0.5)] {
            for _ in 0..1000 {
                calls(&mut target, time, 100);
            }
            assert_eq!(target.limit(), bound);
        }
    }

    #[test]
    fn settings_that_make_no_sense_are_taken_for_the_nearest_that_do() {
        for min in [0.0, -1.0, f64::NAN] {
            let mut target = LatencyTarget::new(Duration::ZERO).min(min);
            for _ in 0..100 {
                calls(&mut target, ms(1), 100);
            }
            assert_eq!(target.limit(), LOWEST_MIN);
        }
        assert_eq!(LatencyTarget::new(TARGET).initial(0).limit(), 1.0);
        assert_eq!(LatencyTarget::new(TARGET).max(0).limit(), 1.0);
        let century = Duration::from_secs(100 * 365 * 24 * 3600);
        let longest = after(LatencyTarget::new(Duration::MAX), century);
        assert!(longest > 2.0 && longest.is_finite(), "{longest}");
    }
}
