use std::time::Duration;

use tokio::time::Instant;

use super::{
    algorithm::Algorithm,
    bounds::{Bounds, whole},
    sample::{Outcome, Sample},
};

/// Shrinks the limit when calls take longer than in the last ten minutes.
///
/// The `Gradient2Limit` of Netflix' [concurrency-limits] inside of its `WindowedLimit`, with the
/// same constants. A window is a second. If ten or more calls have ended in a window, the algorithm
/// compares their mean service time *short* with *long*, a running mean of 600 windows:
///
/// ```text
/// gradient = 1.5 × long / short, at least 0.5 and at most 1
/// limit    = 0.8 × limit + 0.2 × (gradient × limit + 4)
/// ```
///
/// The limit grows by 0.8 a second while calls take less than 1.5 times *long*. The limit stays if
/// less than half was in use. After a bad time *long* falls faster: by a twentieth a second while
/// it is above 2 × *short*. Calls shorter than 100 µs are not measured. [`Outcome::Ignore`] and
/// [`Outcome::Cancelled`] change nothing.
///
/// One thing differs from Netflix' code. In Netflix' code a refused call counts like any other, and
/// a fast failing inner looks fast. Here an [`Outcome::Overload`] does not measure speed, and a
/// window with an overload gets the lowest gradient, 0.5.
///
/// **Use it** if you come from Netflix' library and want the same behaviour, for one client of an
/// inner with overloads of minutes, not longer.
///
/// **Do not use it** if an overload may last. The mean *long* is learned under load as well. Under
/// steady overload the limit and the service time therefore drag each other up, until the maximum.
/// Set a maximum that you can live with. Do not use this algorithm for several levelers in front of
/// one inner either: late levelers learn from a crowded inner, and take more than their share. Nor
/// if load comes in steps: with 0.8 a second the way up is long.
///
/// ```
/// use tower_load_leveling::{LoadLevelLayer, limit::Gradient};
///
/// let layer = LoadLevelLayer::builder()
///     .capacity(1024)
///     .adaptive(Gradient::new().min(4).initial(16).max(64))
///     .build()?;
/// # drop(layer);
/// # Ok::<(), tower_load_leveling::error::BuildError>(())
/// ```
///
/// [concurrency-limits]: https://github.com/Netflix/concurrency-limits
#[derive(Clone, Debug)]
pub struct Gradient {
    limit: f64,
    pub(crate) bounds: Bounds,
    window: Window,
    /// The end of this window, or `None` before the first call.
    ends: Option<Instant>,
    long: Long,
}

// Defaults of `WindowedLimit`. In Netflix' code a window lasts twice the shortest call, between a
// minimum and a maximum that are both one second.
const WINDOW: Duration = Duration::from_secs(1);
const MIN_SAMPLES: u32 = 10;
const MIN_SERVICE_TIME: Duration = Duration::from_micros(100);

// Defaults of `Gradient2Limit`: `rttTolerance`, `smoothing` and `queueSize`. The last three are
// literals in the code.
const TOLERANCE: f64 = 1.5;
const SMOOTHING: f64 = 0.2;
const HEADROOM: f64 = 4.0;
const MIN_GRADIENT: f64 = 0.5;
const DRIFT_RATIO: f64 = 2.0;
const DRIFT_DECAY: f64 = 0.95;

impl Gradient {
    /// Returns the algorithm with its authors' constants.
    #[must_use]
    pub fn new() -> Self {
        let bounds = Bounds { min: 20.0, max: 200.0, initial: 20.0 };
        let (window, long) = Default::default();
        Self { limit: bounds.start(), bounds, window, ends: None, long }
    }

    /// Sets the lowest limit, in calls at once. The limit does not sink below 8 by itself: at 8 the
    /// headroom makes up for the lowest gradient.
    ///
    /// Zero counts as 1. A minimum above the maximum prevails. Default is 20.
    #[must_use]
    pub fn min(self, min: usize) -> Self {
        let bounds = Bounds { min: whole(min), ..self.bounds };
        self.within(bounds)
    }

    /// Sets the highest limit. A lasting overload leads to the maximum: size the maximum by the
    /// number of calls that the inner can survive.
    ///
    /// Zero counts as 1. Default is 200.
    #[must_use]
    pub fn max(self, max: usize) -> Self {
        let bounds = Bounds { max: whole(max), ..self.bounds };
        self.within(bounds)
    }

    /// Sets the limit to start with: the number of calls that the inner is known to sustain. A
    /// value outside of the bounds counts as the nearest bound.
    ///
    /// Default is 20.
    #[must_use]
    pub fn initial(self, initial: usize) -> Self {
        let bounds = Bounds { initial: whole(initial), ..self.bounds };
        self.within(bounds)
    }

    pub(crate) fn within(self, bounds: Bounds) -> Self {
        Self { limit: bounds.start(), bounds, ..self }
    }

    fn on_window(&mut self, window: &Window) {
        let mut gradient = MIN_GRADIENT;
        if let Some(short) = window.mean() {
            let long = self.long.add(short);
            if long > DRIFT_RATIO * short {
                self.long.mean *= DRIFT_DECAY;
            }
            if !window.overloaded {
                gradient = (TOLERANCE * long / short).clamp(MIN_GRADIENT, 1.0);
            }
        }
        if (window.most_in_flight as f64) < self.limit / 2.0 {
            return;
        }
        let wanted = self.limit * gradient + HEADROOM;
        self.limit = self.bounds.clamp(self.limit + SMOOTHING * (wanted - self.limit));
    }
}

impl Default for Gradient {
    fn default() -> Self {
        Self::new()
    }
}

impl Algorithm for Gradient {
    fn limit(&self) -> f64 {
        self.limit
    }

    fn resume_from(&mut self, limit: usize) {
        self.limit = self.bounds.clamp(limit as f64);
    }

    fn on_sample(&mut self, sample: &Sample) {
        if !self.window.add(sample) {
            return;
        }
        // The first call makes a window alone, with too few calls to conclude from.
        if self.ends.is_none_or(|ends| sample.finished > ends) {
            self.ends = sample.finished.checked_add(WINDOW);
            let window = std::mem::take(&mut self.window);
            if window.ended >= MIN_SAMPLES {
                self.on_window(&window);
            }
        }
    }
}

/// The calls ended within a second.
#[derive(Clone, Debug, Default)]
struct Window {
    ended: u32,
    measured: u32,
    /// The sum of the measured service times, in seconds.
    total: f64,
    most_in_flight: usize,
    overloaded: bool,
}

impl Window {
    /// Adds a call. Returns whether the call counts.
    fn add(&mut self, sample: &Sample) -> bool {
        let time = sample.service_time();
        match sample.outcome {
            Outcome::Success if time >= MIN_SERVICE_TIME => {
                self.measured += 1;
                self.total += time.as_secs_f64();
            }
            Outcome::Overload => self.overloaded = true,
            Outcome::Success | Outcome::Ignore | Outcome::Cancelled => return false,
        }
        self.ended += 1;
        self.most_in_flight = self.most_in_flight.max(sample.in_flight_at_dispatch);
        true
    }

    fn mean(&self) -> Option<f64> {
        (self.measured > 0).then(|| self.total / f64::from(self.measured))
    }
}

/// A running mean: plain over the first ten values, exponential from then on.
#[derive(Clone, Debug, Default)]
struct Long {
    mean: f64,
    count: u32,
}

impl Long {
    /// `longWindow` of Netflix' `Gradient2Limit`.
    const WINDOWS: f64 = 600.0;
    /// The number of values in the warm-up of Netflix' `ExpAvgMeasurement`.
    const WARM_UP: u32 = 10;

    fn add(&mut self, value: f64) -> f64 {
        self.count = Self::WARM_UP.min(self.count) + 1;
        let weight = if self.count > Self::WARM_UP {
            2.0 / (Self::WINDOWS + 1.0)
        } else {
            1.0 / f64::from(self.count)
        };
        self.mean += weight * (value - self.mean);
        self.mean
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::testing::{Clock, ms};

    /// Lets 20 calls of length `time` end in each second, with the limit used up.
    fn seconds(limit: &mut Gradient, clock: &mut Clock, seconds: u32, time: Duration) {
        play(limit, clock, seconds, time, Outcome::Success, 200);
    }

    fn play(
        limit: &mut Gradient,
        clock: &mut Clock,
        seconds: u32,
        time: Duration,
        outcome: Outcome,
        in_flight: usize,
    ) {
        for _ in 0..20 * seconds {
            clock.pass(ms(50));
            limit.on_sample(&clock.sample(time, in_flight, outcome));
        }
    }

    #[test]
    fn limit_grows_by_four_fifths_a_second_while_all_is_as_usual() {
        let (mut limit, mut clock) = (Gradient::new(), Clock::new());
        seconds(&mut limit, &mut clock, 101, ms(20));
        let windows = 100.0 * 20.0 / 21.0; // each ends with the first call that is past a second
        let grown = (limit.limit() - 20.0) / 0.8;
        assert!((grown - windows).abs() < 2.0, "{grown} of {windows}");
    }

    #[test]
    fn twice_the_usual_time_shrinks_it_and_one_and_a_half_does_not() {
        let (mut limit, mut clock) = (Gradient::new().initial(100), Clock::new());
        seconds(&mut limit, &mut clock, 20, ms(20));
        let usual = limit.limit();
        seconds(&mut limit, &mut clock, 5, ms(29));
        let slower = limit.limit();
        assert!(slower > usual, "{slower} of {usual}");
        seconds(&mut limit, &mut clock, 5, ms(40));
        assert!(limit.limit() < slower - 5.0, "{} of {slower}", limit.limit());
    }

    #[test]
    fn it_stays_within_its_bounds() {
        let (mut limit, mut clock) = (Gradient::new().min(10).max(25), Clock::new());
        seconds(&mut limit, &mut clock, 20, ms(1));
        assert_eq!(limit.limit(), 25.0);
        seconds(&mut limit, &mut clock, 40, ms(1000));
        assert_eq!(limit.limit(), 10.0);
    }

    #[test]
    fn less_than_half_in_use_says_nothing() {
        let (mut limit, mut clock) = (Gradient::new(), Clock::new());
        play(&mut limit, &mut clock, 20, ms(20), Outcome::Success, 9);
        assert_eq!(limit.limit(), 20.0);
        play(&mut limit, &mut clock, 3, ms(20), Outcome::Success, 10);
        assert!(limit.limit() > 20.0);
    }

    #[test]
    fn fewer_than_ten_calls_a_second_say_nothing() {
        let (mut limit, mut clock) = (Gradient::new(), Clock::new());
        for _ in 0..100 {
            clock.pass(ms(150));
            limit.on_sample(&clock.sample(ms(20), 20, Outcome::Success));
        }
        assert_eq!(limit.limit(), 20.0);
    }

    #[test]
    fn calls_too_short_to_measure_or_that_say_nothing_change_nothing() {
        let (mut limit, mut clock) = (Gradient::new(), Clock::new());
        for (time, outcome) in [
            (Duration::from_micros(99), Outcome::Success),
            (ms(20), Outcome::Ignore),
            (ms(20), Outcome::Cancelled),
        ] {
            play(&mut limit, &mut clock, 5, time, outcome, 20);
            assert_eq!(limit.limit(), 20.0, "{outcome:?}");
        }
    }

    #[test]
    fn an_inner_that_fails_fast_does_not_look_fast() {
        let (mut limit, mut clock) = (Gradient::new().initial(100).min(1), Clock::new());
        seconds(&mut limit, &mut clock, 20, ms(20));
        play(&mut limit, &mut clock, 60, Duration::ZERO, Outcome::Overload, 200);
        assert!(limit.limit() < 9.0, "{}", limit.limit());
    }

    #[test]
    fn what_is_usual_comes_down_after_a_bad_time() {
        let (mut limit, mut clock) = (Gradient::new(), Clock::new());
        seconds(&mut limit, &mut clock, 20, ms(1000));
        seconds(&mut limit, &mut clock, 100, ms(100));
        let long = limit.long.mean;
        assert!((0.1..0.25).contains(&long), "{long} s");
    }
}
