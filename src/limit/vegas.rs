use super::{
    algorithm::Algorithm,
    bounds::{Bounds, whole},
    sample::{Outcome, Sample},
};
use crate::rng::mix;

/// Keeps a few calls waiting inside of the inner, judged by the shortest service time.
///
/// The `VegasLimit` of Netflix' [concurrency-limits], after TCP Vegas, with the same constants. As
/// in Netflix' default, there is no window: each call moves the limit. The shortest service time
/// *base* and the *time* of the call give the number of calls that seem to wait in the inner:
/// `limit × (1 − base / time)`, rounded up. With *s* for the decimal logarithm of the limit,
/// rounded down and at least 1:
///
/// | seem to wait | the limit |
/// | --- | --- |
/// | up to s | grows by 6 s |
/// | below 3 s | grows by s |
/// | up to 6 s | stays |
/// | more | shrinks by s |
///
/// The limit stays if less than half was in use, and shrinks by *s* with each
/// [`Outcome::Overload`]. The time of an overload is not measured: a fast refusal would become the
/// shortest service time. (The authors do measure it.) [`Outcome::Ignore`] and
/// [`Outcome::Cancelled`] change nothing. After 15 to 30 × limit calls *base* is forgotten, and the
/// next call sets *base* anew.
///
/// **Use it** if all calls take the same time within a few percent, and a short queue in the inner
/// is the sign of overload: packets, cache look-ups, one fixed query.
///
/// **Do not use it** if service times differ, as most do. If calls take 1 ms or 100 ms, nearly
/// every call seems to wait, and the limit ends near 6 however many calls the inner could run. Nor
/// under a lasting overload, since *base* is then learned from calls that waited.
///
/// ```
/// use tower_load_leveling::{LoadLevelLayer, limit::Vegas};
///
/// let layer = LoadLevelLayer::builder()
///     .capacity(1024)
///     .adaptive(Vegas::new().initial(50).max(500))
///     .build()?;
/// # drop(layer);
/// # Ok::<(), tower_load_leveling::error::BuildError>(())
/// ```
///
/// [concurrency-limits]: https://github.com/Netflix/concurrency-limits
#[derive(Clone, Debug)]
pub struct Vegas {
    limit: f64,
    pub(crate) bounds: Bounds,
    /// The shortest service time, in seconds.
    base: Option<f64>,
    /// The number of calls since the base was forgotten.
    calls: f64,
    /// The number of calls after which the base is forgotten, as a multiple of the limit.
    memory: f64,
    /// The seed of the random numbers, and the state of the sequence.
    pub(crate) seed: u64,
    random: u64,
}

// Of Netflix' `VegasLimit`: `threshold`, `alpha` and `beta`, in units of Netflix' `LOG10`, and
// `probeMultiplier`.
const THRESHOLD: f64 = 1.0;
const ALPHA: f64 = 3.0;
const BETA: f64 = 6.0;
const PROBE_MULTIPLIER: f64 = 30.0;

impl Vegas {
    /// Returns the algorithm with its authors' constants.
    #[must_use]
    pub fn new() -> Self {
        let bounds = Bounds { min: 1.0, max: 1000.0, initial: 20.0 };
        let new = Self {
            limit: bounds.start(),
            bounds,
            base: None,
            calls: 0.0,
            memory: 0.0,
            seed: 0,
            random: 0,
        };
        new.seed(0)
    }

    /// Sets the lowest limit, in calls at once.
    ///
    /// Zero counts as 1. A minimum above the maximum prevails. Default is 1.
    #[must_use]
    pub fn min(self, min: usize) -> Self {
        let bounds = Bounds { min: whole(min), ..self.bounds };
        self.within(bounds)
    }

    /// Sets the highest limit: the most calls you would ever want at once.
    ///
    /// Zero counts as 1. Default is 1000.
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

    /// Sets the seed of the random numbers. The number of calls after which the shortest time is
    /// forgotten is random. Give levelers in front of one inner different seeds, so that not all
    /// forget together.
    ///
    /// Default is 0.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self.random = seed;
        self.memory = self.next_memory();
        self
    }

    pub(crate) fn within(self, bounds: Bounds) -> Self {
        Self { limit: bounds.start(), bounds, ..self }
    }

    /// Draws a memory from 15 to 30, with the next number of a SplitMix64 sequence.
    fn next_memory(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let fraction = (mix(self.random) >> 11) as f64 / (1_u64 << 53) as f64;
        PROBE_MULTIPLIER * (0.5 + 0.5 * fraction)
    }

    /// Takes note of a service time. Returns the base to judge `time` by, or `None` if `time` has
    /// become the base.
    fn base(&mut self, time: f64) -> Option<f64> {
        self.calls += 1.0;
        if self.calls >= self.memory * self.limit {
            self.calls = 0.0;
            self.memory = self.next_memory();
            self.base = None;
        }
        let base = self.base.filter(|base| *base <= time);
        self.base = base.or(Some(time));
        base
    }
}

impl Default for Vegas {
    fn default() -> Self {
        Self::new()
    }
}

impl Algorithm for Vegas {
    fn limit(&self) -> f64 {
        self.limit
    }

    fn resume_from(&mut self, limit: usize) {
        self.limit = self.bounds.clamp(limit as f64);
    }

    fn on_sample(&mut self, sample: &Sample) {
        let step = step(self.limit);
        let change = match sample.outcome {
            Outcome::Ignore | Outcome::Cancelled => return,
            Outcome::Overload => -step,
            Outcome::Success => {
                // With a paused clock a call may take no time at all.
                let time = sample.service_time().as_secs_f64().max(1e-9);
                let Some(base) = self.base(time) else { return };
                if 2.0 * (sample.in_flight_at_dispatch as f64) < self.limit {
                    return;
                }
                let waiting = (self.limit * (1.0 - base / time)).ceil();
                if waiting <= THRESHOLD * step {
                    BETA * step
                } else if waiting < ALPHA * step {
                    step
                } else if waiting <= BETA * step {
                    return;
                } else {
                    -step
                }
            }
        };
        self.limit = self.bounds.clamp(self.limit + change);
    }
}

/// Returns the decimal logarithm of a limit, rounded down, and at least 1.
fn step(limit: f64) -> f64 {
    f64::from((limit as u64).max(1).ilog10().max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::testing::{ms, sample};

    /// Returns `limit` with a base of 100 ms.
    fn ready(limit: Vegas) -> Vegas {
        let mut limit = limit;
        limit.on_sample(&sample(ms(100), 1000, Outcome::Success));
        limit
    }

    fn after(mut limit: Vegas, time: u64, in_flight: usize, outcome: Outcome) -> f64 {
        limit.on_sample(&sample(ms(time), in_flight, outcome));
        limit.limit()
    }

    #[test]
    fn first_call_is_the_base_and_moves_nothing() {
        assert_eq!(ready(Vegas::new()).limit(), 20.0);
    }

    #[test]
    fn the_more_seem_to_wait_the_less_it_grows() {
        let limit = ready(Vegas::new());
        for (time, expected) in [
            (100, 26.0), // nobody waits
            (105, 26.0), // 0.95, so 1
            (106, 21.0), // 1.1, so 2
            (112, 20.0), // 2.1, so 3
            (142, 20.0), // 5.9, so 6
            (143, 19.0), // 6.01, so 7
            (9999, 19.0),
            (90, 20.0), // a new base
        ] {
            assert_eq!(after(limit.clone(), time, 20, Outcome::Success), expected, "{time} ms");
        }
    }

    #[test]
    fn steps_are_larger_for_large_limits() {
        let limit = ready(Vegas::new().initial(100));
        assert_eq!(after(limit.clone(), 100, 100, Outcome::Success), 112.0);
        assert_eq!(after(limit, 200, 100, Outcome::Success), 98.0);
        for (limit, expected) in [(0.0, 1.0), (9.9, 1.0), (99.0, 1.0), (100.0, 2.0), (1000.0, 3.0)]
        {
            assert_eq!(step(limit), expected, "{limit}");
        }
    }

    #[test]
    fn less_than_half_in_use_says_nothing() {
        assert_eq!(after(ready(Vegas::new()), 100, 9, Outcome::Success), 20.0);
        assert_eq!(after(ready(Vegas::new()), 100, 10, Outcome::Success), 26.0);
    }

    #[test]
    fn overload_shrinks_it_and_is_no_measure_of_speed() {
        let mut limit = ready(Vegas::new());
        assert_eq!(after(limit.clone(), 1, 1, Outcome::Overload), 19.0);
        limit.on_sample(&sample(ms(1), 1, Outcome::Overload));
        assert_eq!(limit.base, Some(0.1));
    }

    #[test]
    fn calls_that_say_nothing_change_nothing() {
        for outcome in [Outcome::Ignore, Outcome::Cancelled] {
            assert_eq!(after(ready(Vegas::new()), 1, 20, outcome), 20.0);
            assert_eq!(after(ready(Vegas::new()), 9999, 20, outcome), 20.0);
        }
    }

    #[test]
    fn it_stays_within_its_bounds() {
        let mut limit = ready(Vegas::new().min(10).max(30));
        for (time, bound) in [(100, 30.0), (5000, 10.0)] {
            for _ in 0..100 {
                limit.on_sample(&sample(ms(time), 30, Outcome::Success));
            }
            assert_eq!(limit.limit(), bound);
        }
    }

    /// Returns the numbers of calls after which the base was forgotten.
    fn memories(limit: Vegas) -> Vec<u32> {
        let (mut limit, mut memories, mut calls) = (limit.min(20).max(20), Vec::new(), 0);
        limit.on_sample(&sample(ms(100), 1, Outcome::Success));
        while memories.len() < 20 {
            limit.on_sample(&sample(ms(200), 1, Outcome::Success));
            calls += 1;
            if limit.base == Some(0.2) {
                memories.push(std::mem::take(&mut calls));
                limit.base = Some(0.1);
            }
        }
        memories
    }

    #[test]
    fn base_is_forgotten_after_fifteen_to_thirty_calls_per_slot() {
        let first = memories(Vegas::new());
        assert!(first.iter().all(|calls| (299..=600).contains(calls)), "{first:?}");
        assert!(first.iter().any(|calls| *calls < 400) && first.iter().any(|calls| *calls > 500));
        assert_eq!(first, memories(Vegas::new()), "the same each time");
        assert_ne!(first, memories(Vegas::new().seed(1)), "another for another seed");
    }
}
