use std::time::Duration;

use super::{
    algorithm::Algorithm,
    bounds::{Bounds, whole},
    sample::{Outcome, Sample},
};

/// Adds a slot for each call that goes well, and takes a tenth of the limit away for each overload.
///
/// The additive increase and multiplicative decrease of Netflix' [concurrency-limits], with the
/// same constants. A call that ends in [`Outcome::Overload`], or takes longer than a timeout,
/// shrinks the limit to nine tenths, rounded down. Every other success adds 1, if at least half of
/// the limit was in use at dispatch. [`Outcome::Ignore`] and [`Outcome::Cancelled`] change nothing.
///
/// **Use it** if the inner reports overload in time: by answers classified as `Overload`, such as
/// 429, 503 or `RESOURCE_EXHAUSTED`, from a quota or a short queue of the inner.
///
/// **Do not use it** if the inner lets calls wait instead. The limit then grows until calls take as
/// long as the timeout, far beyond the inner's capacity. With the default constants the limit ends
/// at the maximum, or calls take 5 s.
///
/// ```
/// use std::time::Duration;
/// use tower_load_leveling::{LoadLevelLayer, limit::Aimd};
///
/// let layer = LoadLevelLayer::builder()
///     .capacity(1024)
///     .adaptive(Aimd::new().min(1).max(500).timeout(Duration::from_secs(1)))
///     .build()?;
/// # drop(layer);
/// # Ok::<(), tower_load_leveling::error::BuildError>(())
/// ```
///
/// [concurrency-limits]: https://github.com/Netflix/concurrency-limits
#[derive(Clone, Debug)]
pub struct Aimd {
    limit: f64,
    pub(crate) bounds: Bounds,
    pub(crate) timeout: Duration,
}

/// The share of the limit left by an overload: `backoffRatio` of Netflix' `AIMDLimit`, also the
/// source of the defaults.
const BACKOFF: f64 = 0.9;

impl Aimd {
    /// Returns the algorithm with its authors' constants.
    #[must_use]
    pub fn new() -> Self {
        let bounds = Bounds { min: 20.0, max: 200.0, initial: 20.0 };
        Self { limit: bounds.start(), bounds, timeout: Duration::from_secs(5) }
    }

    /// Sets the lowest limit, in calls at once: as many as even a struggling inner can take.
    ///
    /// Zero counts as 1. A minimum above the maximum prevails. Default is 20.
    #[must_use]
    pub fn min(self, min: usize) -> Self {
        let bounds = Bounds { min: whole(min), ..self.bounds };
        self.within(bounds)
    }

    /// Sets the highest limit: the most calls you would ever want at once.
    ///
    /// Zero counts as 1. Default is 200.
    #[must_use]
    pub fn max(self, max: usize) -> Self {
        let bounds = Bounds { max: whole(max), ..self.bounds };
        self.within(bounds)
    }

    /// Sets the limit to start with: a guess from below, since growing is fast. A value outside of
    /// the bounds counts as the nearest bound.
    ///
    /// Default is 20.
    #[must_use]
    pub fn initial(self, initial: usize) -> Self {
        let bounds = Bounds { initial: whole(initial), ..self.bounds };
        self.within(bounds)
    }

    /// Sets the duration from which a call counts as an overload. Size the timeout by the slowest
    /// call of a healthy inner.
    ///
    /// Default is 5 s.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    pub(crate) fn within(self, bounds: Bounds) -> Self {
        Self { limit: bounds.start(), bounds, ..self }
    }
}

impl Default for Aimd {
    fn default() -> Self {
        Self::new()
    }
}

impl Algorithm for Aimd {
    fn limit(&self) -> f64 {
        self.limit
    }

    fn resume_from(&mut self, limit: usize) {
        self.limit = self.bounds.clamp(limit as f64);
    }

    fn on_sample(&mut self, sample: &Sample) {
        let overloaded = match sample.outcome {
            Outcome::Success => sample.service_time() > self.timeout,
            Outcome::Overload => true,
            Outcome::Ignore | Outcome::Cancelled => return,
        };
        if overloaded {
            self.limit = self.bounds.clamp((self.limit * BACKOFF).floor());
        } else if 2.0 * sample.in_flight_at_dispatch as f64 >= self.limit {
            self.limit = self.bounds.clamp(self.limit + 1.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::testing::sample;

    const FAST: Duration = Duration::from_millis(1);

    fn after(mut limit: Aimd, samples: &[Sample]) -> f64 {
        for sample in samples {
            limit.on_sample(sample);
        }
        limit.limit()
    }

    #[test]
    fn success_adds_one_if_half_of_the_limit_was_in_use() {
        assert_eq!(after(Aimd::new(), &[sample(FAST, 10, Outcome::Success)]), 21.0);
        assert_eq!(after(Aimd::new(), &[sample(FAST, 9, Outcome::Success)]), 20.0);
        assert_eq!(after(Aimd::new().max(20), &[sample(FAST, 20, Outcome::Success)]), 20.0);
    }

    #[test]
    fn overload_takes_a_tenth_rounded_down() {
        let limit = Aimd::new().initial(105);
        assert_eq!(after(limit.clone(), &[sample(FAST, 1, Outcome::Overload)]), 94.0);
        assert_eq!(after(Aimd::new(), &[sample(FAST, 1, Outcome::Overload)]), 20.0);
        let many = vec![sample(FAST, 1, Outcome::Overload); 100];
        assert_eq!(after(limit.min(0), &many), 1.0, "zero is taken for one");
    }

    #[test]
    fn slow_success_is_an_overload() {
        let limit = Aimd::new().initial(100);
        let (in_time, late) = (Duration::from_secs(5), Duration::from_millis(5001));
        assert_eq!(after(limit.clone(), &[sample(in_time, 100, Outcome::Success)]), 101.0);
        assert_eq!(after(limit.clone(), &[sample(late, 100, Outcome::Success)]), 90.0);
        let limit = limit.timeout(Duration::from_secs(6));
        assert_eq!(after(limit, &[sample(late, 100, Outcome::Success)]), 101.0);
    }

    #[test]
    fn calls_that_say_nothing_change_nothing() {
        let slow = Duration::from_secs(60);
        for outcome in [Outcome::Ignore, Outcome::Cancelled] {
            assert_eq!(after(Aimd::new().initial(100), &[sample(slow, 100, outcome)]), 100.0);
        }
    }

    #[test]
    fn settings_may_come_in_any_order() {
        assert_eq!(Aimd::new().initial(300).max(500).limit(), 300.0);
        assert_eq!(Aimd::new().max(500).initial(300).limit(), 300.0);
        assert_eq!(Aimd::new().initial(3).min(1).limit(), 3.0);
    }
}
