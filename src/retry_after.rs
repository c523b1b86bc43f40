//! The time after which to retry. Computed on demand: every refusal has a time, and few callers
//! read it.

use std::{fmt, time::Duration};

use crate::rng::mix;

/// An estimated duration, kept as the inputs of the computation.
#[derive(Clone, Copy)]
pub(crate) enum Estimate {
    Unknown,
    Seconds(f32),
    /// A time given by the user, returned unchanged.
    Exact {
        seconds: u32,
        nanos: u32,
    },
    /// The time for `calls` calls at a rate.
    ByRate {
        per_second: f32,
        calls: u32,
    },
    /// The time for `weight` slots of calls taking `nanos` each, `limit` at once.
    ByLimit {
        nanos: f32,
        weight: u32,
        limit: f32,
    },
}

impl Estimate {
    pub(crate) fn by_rate(per_second: f64, calls: u64) -> Self {
        Self::ByRate { per_second: per_second as f32, calls: clamp(calls) }
    }

    pub(crate) fn by_limit(nanos: f32, weight: u64, limit: f64) -> Self {
        Self::ByLimit { nanos, weight: clamp(weight), limit: limit as f32 }
    }

    /// Returns the longer of two estimates, as far as known.
    pub(crate) fn longer(self, other: Self) -> Self {
        if self.seconds() < other.seconds() { other } else { self }
    }

    /// Returns the estimate in seconds. `None` also if an algorithm asks for an unbounded limit.
    pub(crate) fn seconds(self) -> Option<f32> {
        let seconds = match self {
            Self::Unknown => return None,
            Self::Seconds(seconds) => seconds,
            Self::Exact { seconds, nanos } => seconds as f32 + nanos as f32 * 1e-9,
            Self::ByRate { per_second, calls } => calls as f32 / per_second,
            Self::ByLimit { nanos, weight, limit } => weight as f32 * nanos / limit * 1e-9,
        };
        (seconds.is_finite() && seconds >= 0.0).then_some(seconds)
    }
}

fn clamp(many: u64) -> u32 {
    u32::try_from(many).unwrap_or(u32::MAX)
}

/// A time after which to retry, spread at random unless exact; or never.
#[derive(Clone, Copy)]
pub(crate) struct RetryAfter {
    after: Estimate,
    seed: u32,
}

/// In seconds. A longer time only says "not soon", and the rate will have changed by then.
const MAX_RETRY_AFTER: f32 = 60.0;

/// The spread either way, as a share of the time. Keeps callers rejected together from returning
/// together.
const SPREAD: f32 = 0.2;

impl RetryAfter {
    pub(crate) const NEVER: Self = Self { after: Estimate::Unknown, seed: 0 };

    pub(crate) fn new(after: Estimate, seed: u64) -> Self {
        // The upper half counts threads, the lower half draws: use both.
        Self { after, seed: (seed ^ seed >> 32) as u32 }
    }

    /// Returns a time without spread or cap. Whole seconds above `u32::MAX` (136 years) are cut.
    pub(crate) fn exactly(after: Duration) -> Self {
        let (seconds, nanos) = (clamp(after.as_secs()), after.subsec_nanos());
        Self { after: Estimate::Exact { seconds, nanos }, seed: 0 }
    }

    pub(crate) fn no_sooner_than(self, least: f32) -> Self {
        let seconds = self.after.seconds().map_or(least, |seconds| seconds.max(least));
        Self { after: Estimate::Seconds(seconds), ..self }
    }

    pub(crate) fn get(self) -> Option<Duration> {
        if let Estimate::Exact { seconds, nanos } = self.after {
            return Some(Duration::new(seconds.into(), nanos));
        }
        let seconds = self.after.seconds()?;
        let random = mix(u64::from(self.seed)) as f32 / u64::MAX as f32;
        let spread = seconds.min(MAX_RETRY_AFTER) * (1.0 - SPREAD + 2.0 * SPREAD * random);
        Duration::try_from_secs_f32(spread.min(MAX_RETRY_AFTER)).ok()
    }
}

impl fmt::Debug for RetryAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_spread_and_capped() {
        let after = |seconds, seed| RetryAfter::new(Estimate::Seconds(seconds), seed).get();
        let all = (0..1000).map(|seed| after(10.0, seed).expect("known"));
        let (least, most) = all.fold((f64::MAX, 0.0_f64), |(least, most), after| {
            (least.min(after.as_secs_f64()), most.max(after.as_secs_f64()))
        });
        assert!(
            (8.0..8.1).contains(&least) && (11.9..=12.001).contains(&most),
            "{least} to {most}"
        );
        let long = after(1e9, 3).expect("known");
        assert!(long <= Duration::from_secs(60), "{long:?}");
    }

    #[test]
    fn never_is_never_but_for_what_has_a_least() {
        assert_eq!(RetryAfter::NEVER.get(), None);
        assert!(RetryAfter::NEVER.no_sooner_than(1.0).get().is_some());
    }

    #[test]
    fn what_is_known_is_either_a_rate_or_a_time() {
        let close = |estimate: Estimate, seconds: f32| {
            estimate.seconds().is_some_and(|found| (found - seconds).abs() < seconds / 1e5)
        };
        assert!(close(Estimate::by_rate(50.0, 10), 0.2));
        assert!(close(Estimate::by_limit(20e6, 10, 4.0), 0.05));
        assert!(close(Estimate::by_limit(20e6, 10, 0.5), 0.4));
        assert_eq!(Estimate::by_limit(20e6, 10, 0.0).seconds(), None);
        assert_eq!(Estimate::Unknown.seconds(), None);
    }
}
