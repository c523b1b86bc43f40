use std::time::Duration;

use crate::sync::figure::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// The service times of like requests, as quantiles moved by each sample.
///
/// If two threads record at once, a sample may be lost.
#[derive(Debug)]
pub(super) struct History {
    /// The typical time in nanoseconds, as the bits of an `f32`; and the number of samples.
    typical: AtomicU64,
    /// The low and the high time in nanoseconds, as the bits of two `f32`.
    bounds: AtomicU64,
    /// The time of the last probe, in microseconds after the origin of the predictor, plus 1.
    probed: AtomicU64,
    /// 1 while requests without a kind are refused until the running calls have ended.
    congested: AtomicU32,
}

/// The known times of like requests.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    /// The time within which some five of a hundred calls end.
    pub(super) low: Duration,
    /// The time within which [`TYPICAL`] of all calls end.
    pub(super) typical: Duration,
    /// The time exceeded by some one call in a thousand.
    pub(super) high: Duration,
    /// The time exceeded by hardly any call. See [`MARGIN`].
    pub(super) sure: Duration,
}

/// The number of samples from which a history refuses requests.
const MIN_SAMPLES: u32 = 8;

/// The number of samples from which a sample moves the typical time least. A larger number follows
/// changes more slowly.
const MEMORY: u32 = 50;

/// The share of calls that end within the typical time: 1 − 1/e. The typical time of exponential
/// times is therefore the mean.
const TYPICAL: f32 = 0.632;

/// The factor by which a sample above the low time raises the low time. A sample below replaces the
/// low time. One quick call in thirty therefore keeps the low time below 4.3 (1.05³⁰) quick calls.
const RISE: f32 = 1.05;

/// The factor by which a sample below the high time lowers the high time. A sample above replaces
/// the high time. The high time is therefore nearly the longest of some thousand calls. A factor
/// closer to 1 keeps the high time higher.
const FALL: f32 = 0.9998;

/// The part of the way from the typical time to the high time by which the sure time lies above the
/// high time. A call not done in its time costs the inner all of that time: at the high time of
/// exponential times 0.4 % of the inner's work, and at the sure time a tenth of that. Times that
/// differ little leave no margin. A larger number refuses earlier from a queue that may yet drain.
const MARGIN: f32 = 0.5;

/// The most of the inner's time for probes, as a share.
const PROBE_PART: f64 = 0.0005;

/// The least time between two probes, in seconds.
const PROBE_INTERVAL: f64 = 1.0;

/// The time between two probes in a congestion, in seconds. A quick probe ends the congestion: a
/// longer interval refuses more quick calls until then, and a shorter one prolongs a true
/// congestion.
const CONGESTION_PROBE_INTERVAL: f64 = 0.1;

impl History {
    pub(super) fn new() -> Self {
        Self {
            typical: AtomicU64::new(0),
            bounds: AtomicU64::new(0),
            probed: AtomicU64::new(0),
            congested: AtomicU32::new(0),
        }
    }

    fn load(&self) -> (f32, u32) {
        let word = self.typical.load(Relaxed);
        (f32::from_bits((word >> 32) as u32), word as u32)
    }

    fn store(&self, typical: f32, samples: u32) {
        self.typical.store(u64::from(typical.to_bits()) << 32 | u64::from(samples), Relaxed);
    }

    fn bounds(&self) -> (f32, f32) {
        let word = self.bounds.load(Relaxed);
        (f32::from_bits((word >> 32) as u32), f32::from_bits(word as u32))
    }

    fn store_bounds(&self, low: f32, high: f32) {
        self.bounds.store(u64::from(low.to_bits()) << 32 | u64::from(high.to_bits()), Relaxed);
    }

    pub(super) fn record(&self, nanos: f32) {
        let nanos = nanos.max(1.0);
        let (typical, samples) = self.load();
        if samples == 0 {
            self.store_bounds(nanos, nanos);
            self.store(nanos, 1);
            return;
        }
        let (low, high) = self.bounds();
        self.store_bounds(nanos.min(low * RISE), nanos.max(high * FALL));
        let step = 2.5 / (samples + 4).min(MEMORY) as f32;
        let by = if nanos > typical { TYPICAL * step } else { (TYPICAL - 1.0) * step };
        self.store(typical * (1.0 + by), samples.saturating_add(1));
    }

    /// Returns the time exceeded by hardly any call, in nanoseconds. The cheapest of all looks.
    #[inline]
    pub(super) fn sure(&self) -> f32 {
        let ((typical, _), (_, high)) = (self.load(), self.bounds());
        sure(typical, high)
    }

    /// Returns whether requests without a kind have been refused until now.
    #[inline]
    pub(super) fn was_congested(&self) -> bool {
        self.congested.load(Relaxed) != 0
    }

    /// Returns the known times, from enough samples.
    pub(super) fn known(&self) -> Option<Known> {
        let (typical, samples) = self.load();
        if samples < MIN_SAMPLES {
            return None;
        }
        let (low, high) = self.bounds();
        let [low, typical, high, sure] = [low, typical, high, sure(typical, high)]
            .map(|nanos| Duration::from_nanos(nanos as u64));
        Some(Known { low, typical, high, sure })
    }

    /// Returns whether the inner is congested by calls without a kind. `begins` starts the
    /// congestion, and `ends` ends it. In between the running calls end, and the next requests find
    /// an inner without a queue of its own.
    pub(super) fn is_congested(&self, begins: bool, ends: bool) -> bool {
        let was = self.was_congested();
        let is = (was || begins) && !ends;
        if is != was {
            self.congested.store(u32::from(is), Relaxed);
            if was {
                self.loosen();
            }
        }
        is
    }

    /// Lets the next samples weigh more.
    fn loosen(&self) {
        let (typical, samples) = self.load();
        self.store(typical, samples.min(MIN_SAMPLES));
    }

    /// Returns whether a request may run against the prediction of a service time `predicted`.
    /// `now` is in microseconds, plus 1. Afterwards the next samples weigh more.
    pub(super) fn may_probe(&self, predicted: Duration, limit: f64, now: u64) -> bool {
        let apart = predicted.as_secs_f64() / (PROBE_PART * limit);
        self.may_probe_after(apart.max(PROBE_INTERVAL), now)
    }

    /// Returns whether a request may run against a congestion. See [`may_probe`](Self::may_probe).
    pub(super) fn may_probe_congestion(&self, now: u64) -> bool {
        self.may_probe_after(CONGESTION_PROBE_INTERVAL, now)
    }

    /// Returns whether the last probe began `seconds` ago or earlier. If so, notes a probe at
    /// `now`.
    fn may_probe_after(&self, seconds: f64, now: u64) -> bool {
        let last = self.probed.load(Relaxed);
        let is_due = last == 0 || now.saturating_sub(last) >= (seconds * 1e6) as u64;
        let may = is_due && self.probed.compare_exchange(last, now, Relaxed, Relaxed).is_ok();
        if may {
            self.loosen();
        }
        may
    }
}

/// Returns the time exceeded by hardly any call, and never less than the typical time.
#[inline]
fn sure(typical: f32, high: f32) -> f32 {
    // Not `f32::max`, which looks for values that are no numbers.
    let high = if high > typical { high } else { typical };
    high + MARGIN * (high - typical)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn known(history: &History) -> Known {
        history.known().expect("enough samples")
    }

    #[test]
    fn the_low_time_falls_at_once_and_rises_slowly() {
        let history = History::new();
        (0..100).for_each(|_| history.record(3e9));
        assert_eq!(known(&history).low.as_secs_f32().round(), 3.0);
        history.record(2e6);
        assert!(known(&history).low <= MS * 2);
        (0..60).for_each(|_| history.record(3e9));
        assert!(known(&history).low < MS * 50, "a burst of slow calls: {:?}", known(&history));
        (0..200).for_each(|_| history.record(3e9));
        assert!(known(&history).low > MS * 2900);
    }

    #[test]
    fn the_high_time_is_nearly_the_longest_of_many() {
        let history = History::new();
        (0..100).for_each(|_| history.record(20e6));
        assert_eq!(known(&history).high, MS * 20);
        assert!(known(&history).sure < MS * 21, "equal times need no margin");
        history.record(100e6);
        (0..500).for_each(|_| history.record(20e6));
        assert!(known(&history).high > MS * 90, "{:?}", known(&history));
        (0..20_000).for_each(|_| history.record(20e6));
        assert_eq!(known(&history).high, MS * 20);
    }

    #[test]
    fn a_congestion_lasts_until_it_has_ended() {
        let history = History::new();
        let steps = [(false, false), (true, false), (false, false), (false, true), (false, false)];
        let is = steps.map(|(begins, ends)| history.is_congested(begins, ends));
        assert_eq!(is, [false, true, true, false, false]);
    }

    #[test]
    fn the_typical_time_of_exponential_times_is_about_the_mean() {
        let history = History::new();
        for nth in 1..10_000_u64 {
            let uniform = crate::rng::mix(nth) as f64 / u64::MAX as f64;
            history.record((-uniform.ln() * 20e6) as f32);
        }
        let Known { low, typical, high, sure } = known(&history);
        assert!(high > typical * 4 && sure >= (high * 3 - typical) / 2 - MS, "{high:?} {sure:?}");
        assert!((12..32).contains(&typical.as_millis()), "{typical:?}");
        assert!(low < MS * 4, "{low:?}");
    }

    #[test]
    fn probes_take_a_small_part_of_the_inner_and_come_once_a_second_at_most() {
        let history = History::new();
        let probes = |predicted, limit| {
            let history = History::new();
            let due = |at: &u64| history.may_probe(predicted, limit, at * 10_000 + 1);
            (0..100_000).filter(due).count()
        };
        assert_eq!(probes(MS, 64.0), 1000, "in 1000 seconds");
        assert_eq!(probes(MS * 3200, 64.0), 10, "each 100 s");
        assert!(history.known().is_none());
    }
}
