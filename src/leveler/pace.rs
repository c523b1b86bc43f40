//! The pace of dispatches.

use std::time::Duration;

use tokio::time::Instant;

use crate::settings::Rate;

/// The rate of dispatches, if any, and the burst after a time of unused rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pacing {
    pub(crate) rate: Option<Rate>,
    pub(crate) burst: u32,
}

impl Pacing {
    /// No rate: the pace of a limit below 1 alone.
    #[cfg(test)]
    const NONE: Self = Self { rate: None, burst: 1 };

    /// Returns the time between two dispatches, in nanoseconds. With a fraction, for rates such as
    /// 3 per second.
    fn interval(&self) -> Option<f64> {
        self.rate.map(|rate| rate.per.as_nanos() as f64 / f64::from(rate.requests))
    }
}

/// The possible rates, in the words of an error.
pub(crate) const POSSIBLE_RATES: &str = "1 or more requests per 1 ns to 100 years";

/// Returns whether dispatches can keep the rate.
pub(crate) fn is_possible(rate: Rate) -> bool {
    let century = Duration::from_secs(100 * 365 * 24 * 3600);
    rate.requests > 0 && !rate.per.is_zero() && rate.per <= century
}

/// The lateness to make up for, in nanoseconds. Timers of tokio are no finer than a millisecond,
/// and late rather than early. Otherwise a rate of 10 000 a second would come out at 1000.
const MAX_LATENESS: f64 = 2e6;

/// The generic cell rate algorithm (ITU-T I.371, virtual scheduling), and the spacing of limits
/// below 1.
///
/// `due` is the time of the next request if all came exactly in time. A burst of *n* lets a request
/// go *n* − 1 intervals earlier. Each dispatch moves `due` on by one interval, from `due` or from
/// `MAX_LATENESS` before now, whichever is later.
#[derive(Debug)]
pub(crate) struct Pace {
    pacing: Pacing,
    origin: Instant,
    /// The time of the next request at an even pace, in nanoseconds after `origin`.
    due: f64,
    /// The time of the last dispatch, and the factor for the next spacing of a limit below 1.
    last: Option<(Instant, f64)>,
}

impl Pace {
    pub(crate) fn new(pacing: Pacing, origin: Instant) -> Self {
        Self { pacing, origin, due: 0.0, last: None }
    }

    /// Goes on at another rate, or at none, from `now`.
    pub(crate) fn set(&mut self, pacing: Pacing, now: Instant) {
        self.pacing = pacing;
        self.due = self.nanos(now);
    }

    /// Returns the time of the next dispatch, if not now. `gap` is the present spacing of a limit
    /// below 1.
    pub(crate) fn wait_until(&self, now: Instant, gap: Option<Duration>) -> Option<Instant> {
        if self.pacing.rate.is_none() && gap.is_none() {
            return None;
        }
        let early = |interval: f64| interval * f64::from(self.pacing.burst.saturating_sub(1));
        let by_rate = self.pacing.interval().map_or(0.0, |interval| self.due - early(interval));
        let by_limit = gap
            .zip(self.last)
            .map_or(0.0, |(gap, (last, spread))| self.nanos(last) + gap.as_nanos() as f64 * spread);
        let at = by_rate.max(by_limit).ceil();
        if at <= self.nanos(now) {
            return None;
        }
        // Beyond the range of the clock, a time is as good as never.
        let never = Duration::from_secs(100 * 365 * 24 * 3600);
        let after = Duration::try_from_secs_f64(at / 1e9).unwrap_or(never).min(never);
        let at = self.origin.checked_add(after)?;
        // Rounding may yield a time just before now.
        (at > now).then_some(at)
    }

    /// Takes note of a dispatch. `spread` is the factor for the next spacing of a limit below 1.
    /// The factors differ, or many clients of a backend would fall into step.
    pub(crate) fn on_dispatched(&mut self, now: Instant, spread: f64) {
        self.last = Some((now, spread));
        if let Some(interval) = self.pacing.interval() {
            self.due = self.due.max(self.nanos(now) - MAX_LATENESS) + interval;
        }
    }

    fn nanos(&self, now: Instant) -> f64 {
        now.saturating_duration_since(self.origin).as_nanos() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn per_second(requests: u32, burst: u32) -> Pacing {
        Pacing { rate: Some(Rate::new(requests, Duration::from_secs(1))), burst }
    }

    /// Returns the number of dispatches within a second after `idle` milliseconds of nothing, and
    /// the most at once. Looks each millisecond, as a timer would.
    fn in_a_second(pacing: Pacing, idle: u64) -> (usize, usize) {
        let start = Instant::now();
        let mut pace = Pace::new(pacing, start);
        pace.on_dispatched(start, 1.0);
        let (mut all, mut most) = (0, 0);
        for ms in idle..idle + 1000 {
            let now = start + Duration::from_millis(ms);
            let before = all;
            while pace.wait_until(now, None).is_none() {
                pace.on_dispatched(now, 1.0);
                all += 1;
            }
            most = most.max(all - before);
        }
        (all, most)
    }

    #[test]
    fn a_rate_is_kept_far_above_and_far_below_the_resolution_of_timers() {
        for (requests, most) in [(10, 1), (300, 1), (1000, 2), (7000, 8), (50_000, 51)] {
            let (all, at_once) = in_a_second(per_second(requests, 1), 1);
            let error = all as f64 - f64::from(requests);
            assert!(error.abs() <= f64::from(requests) / 500.0 + 1.0, "{all} of {requests}");
            assert!(at_once <= most, "{at_once} at once, at {requests} a second");
        }
    }

    #[test]
    fn a_rate_that_was_not_used_is_not_made_up_for_but_by_the_burst() {
        let (_, at_once) = in_a_second(per_second(100, 1), 10_000);
        assert_eq!(at_once, 1);
        let (all, at_once) = in_a_second(per_second(100, 5), 10_000);
        assert_eq!(at_once, 5);
        assert!((100..=105).contains(&all), "{all}");
    }

    #[test]
    fn a_gap_holds_the_next_one_back() {
        let start = Instant::now();
        let mut pace = Pace::new(Pacing::NONE, start);
        let gap = Some(Duration::from_millis(80));
        assert_eq!(pace.wait_until(start, gap), None);
        pace.on_dispatched(start, 0.75);
        let due = start + Duration::from_millis(60);
        assert_eq!(pace.wait_until(start, gap), Some(due));
        assert_eq!(pace.wait_until(due, gap), None);
        assert_eq!(pace.wait_until(start, None), None, "the limit has risen");
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        let rate = |requests, per| is_possible(Rate::new(requests, per));
        assert!(!rate(0, Duration::from_secs(1)));
        assert!(!rate(1, Duration::ZERO));
        assert!(!rate(1, Duration::MAX));
        assert!(rate(u32::MAX, Duration::from_nanos(1)));
    }
}
