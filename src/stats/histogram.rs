use std::{fmt, time::Duration};

use super::stripe::Striped;
use crate::sync::figure::{AtomicU64, Ordering::Relaxed};

/// The number of sub-buckets per power of two, as a power of two: 16. A bucket is at most 1/16 of
/// its value wide.
const PRECISION: u32 = 4;
const SUB: u64 = 1 << PRECISION;
/// The first `SUB` buckets are one microsecond wide. The next 32 doublings reach 19 hours.
const BUCKETS: usize = (SUB as usize) * 33;

/// A histogram recorded while calls run.
///
/// No histogram crate is used: recording is on the path of every call, from many threads, and has
/// to be one relaxed addition; `hdrhistogram` records through `&mut self`. The layout is the one
/// known from `hdrhistogram`: linear buckets within powers of two.
pub(crate) struct Recorder {
    buckets: Striped<Box<[AtomicU64; BUCKETS]>>,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        Self { buckets: Striped::new(|| Box::new([const { AtomicU64::new(0) }; BUCKETS])) }
    }

    #[inline]
    pub(crate) fn record(&self, time: Duration) {
        self.record_many(time, 1);
    }

    /// Records the same time `count` times.
    #[inline]
    pub(crate) fn record_many(&self, time: Duration, count: u64) {
        self.buckets.mine()[bucket_of(time)].fetch_add(count, Relaxed);
    }

    pub(crate) fn snapshot(&self) -> Histogram {
        let [first, others @ ..] = self.buckets.each_ref();
        let mut buckets: Vec<_> = first.iter().map(|count| count.load(Relaxed)).collect();
        for stripe in others {
            for (sum, count) in buckets.iter_mut().zip(stripe.iter()) {
                *sum += count.load(Relaxed);
            }
        }
        Histogram { buckets, zeros: 0 }
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.snapshot(), f)
    }
}

/// The distribution of a time, as a snapshot from [`Stats`](crate::stats::Stats).
///
/// Buckets are at most 1/16 (6.25 %) of their value wide, and at least a microsecond.
#[derive(Clone)]
pub struct Histogram {
    buckets: Vec<u64>,
    /// The part of the first bucket that is known to be exactly zero.
    zeros: u64,
}

impl Histogram {
    /// Returns a histogram of nothing.
    pub(crate) fn empty() -> Self {
        Self { buckets: vec![0; BUCKETS], zeros: 0 }
    }

    /// Adds `count` times of zero.
    pub(crate) fn with_zeros(mut self, count: u64) -> Self {
        self.buckets[0] += count;
        self.zeros += count;
        self
    }

    /// Returns the number of times that are known to be exactly zero.
    pub(super) fn zeros(&self) -> u64 {
        self.zeros
    }

    /// Returns the times recorded after `earlier`, an earlier snapshot of the same histogram.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let pairs = self.buckets.iter().zip(&earlier.buckets);
        let buckets = pairs.map(|(now, before)| now.saturating_sub(*before)).collect();
        Self { buckets, zeros: self.zeros.saturating_sub(earlier.zeros) }
    }

    /// Returns the buckets with times in them, the shortest first: the longest time of each, and
    /// the number of times.
    ///
    /// Times are counted in whole microseconds, rounded down.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        let all = self.buckets.iter().enumerate();
        all.filter(|(_, count)| **count > 0).map(|(bucket, count)| (end_of(bucket), *count))
    }

    /// Returns the middle of each bucket with times in it, and the number of times. Times that are
    /// known to be zero come by themselves.
    #[cfg(feature = "metrics")]
    pub(crate) fn middles(&self) -> impl Iterator<Item = (Duration, u64)> {
        let all = self.buckets.iter().enumerate();
        let others = all.map(|(bucket, count)| {
            let zeros = if bucket == 0 { self.zeros } else { 0 };
            let middle = Duration::from_nanos(twice_the_middle(bucket).saturating_mul(500));
            (middle, count - zeros)
        });
        let zeros = (Duration::ZERO, self.zeros);
        std::iter::once(zeros).chain(others).filter(|(_, count)| *count > 0)
    }

    /// Returns how many of the recorded times are at most `time`. Times in the same bucket as
    /// `time` count, so up to 6.25 % longer ones are included.
    #[must_use]
    pub fn count_at_most(&self, time: Duration) -> u64 {
        self.buckets[..=bucket_of(time)].iter().sum()
    }

    /// Returns the sum of the recorded times, each taken as the middle of its bucket: within 3.2 %,
    /// or 0.5 µs for each time below 16 µs. A time above 19 hours counts as 19 hours. The wait of a
    /// call that did not wait is exactly zero.
    #[must_use]
    pub fn sum(&self) -> Duration {
        let all = self.buckets.iter().enumerate();
        let twice = |bucket: usize| u128::from(twice_the_middle(bucket));
        let sum: u128 = all.map(|(bucket, count)| twice(bucket) * u128::from(*count)).sum();
        let nanos = sum.saturating_sub(self.zeros.into()).saturating_mul(500);
        let seconds = u64::try_from(nanos / 1_000_000_000).unwrap_or(u64::MAX);
        Duration::new(seconds, (nanos % 1_000_000_000) as u32)
    }

    /// Returns the number of recorded times.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Returns the time that a share `q` of all recorded times does not exceed: `quantile(0.99)` is
    /// the 99th percentile, rounded up to the end of its bucket.
    ///
    /// `q` is clamped to 0…1. Returns `None` if nothing was recorded or `q` is not a number.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 || q.is_nan() {
            return None;
        }
        let rank = ((q.clamp(0.0, 1.0) * count as f64).ceil() as u64).max(1);
        let mut seen = 0;
        let reaches = |in_bucket: &u64| {
            seen += in_bucket;
            seen >= rank
        };
        self.buckets.iter().position(reaches).map(end_of)
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Histogram")
            .field("count", &self.count())
            .field("p50", &self.quantile(0.5))
            .field("p99", &self.quantile(0.99))
            .field("max", &self.quantile(1.0))
            .finish()
    }
}

#[inline]
fn bucket_of(time: Duration) -> usize {
    let seconds = time.as_secs().saturating_mul(1_000_000);
    let micros = seconds.saturating_add(u64::from(time.subsec_micros()));
    if micros < SUB {
        return micros as usize;
    }
    let exponent = micros.ilog2() - PRECISION;
    let bucket = SUB * u64::from(exponent) + (micros >> exponent);
    usize::try_from(bucket).unwrap_or(usize::MAX).min(BUCKETS - 1)
}

/// Returns the longest time in a bucket.
fn end_of(bucket: usize) -> Duration {
    Duration::from_micros(micros_of(bucket))
}

/// Returns the middle of a bucket, in half microseconds. It reaches from its start to just below
/// the next.
fn twice_the_middle(bucket: usize) -> u64 {
    let start = bucket.checked_sub(1).map_or(0, |before| micros_of(before) + 1);
    start + micros_of(bucket) + 1
}

/// Returns the longest time in a bucket, in microseconds.
fn micros_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < SUB {
        return bucket;
    }
    let exponent = bucket / SUB - 1;
    let start = SUB + bucket % SUB;
    ((start + 1) << exponent) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_is_in_the_bucket_that_says_so() {
        for exponent in 0..36 {
            for offset in [0, 1, 7, 1_000_003] {
                let time = Duration::from_micros((1u64 << exponent) + offset);
                let end = end_of(bucket_of(time));
                assert!(end >= time, "{time:?} ends at {end:?}");
                let width = (end - time).as_secs_f64();
                assert!(width <= time.as_secs_f64() / 16.0, "{time:?} ends at {end:?}");
            }
        }
    }

    #[test]
    fn buckets_rise_without_gaps() {
        for bucket in 1..BUCKETS {
            let first = end_of(bucket - 1) + Duration::from_micros(1);
            assert_eq!(bucket_of(first), bucket);
        }
    }

    #[test]
    fn quantiles_are_those_of_what_was_recorded() {
        let recorder = Recorder::new();
        (1..=100).for_each(|ms| recorder.record(Duration::from_millis(ms)));
        let times = recorder.snapshot();
        let p99 = times.quantile(0.99).expect("a hundred were recorded").as_secs_f64();
        assert!((0.099..0.099 * 1.0625).contains(&p99), "{p99}");
        assert!(times.quantile(0.0) < times.quantile(0.5));
        assert_eq!(Recorder::new().snapshot().quantile(0.5), None);
        assert_eq!(times.quantile(f64::NAN), None);
    }

    #[test]
    fn the_sum_is_within_the_width_of_the_buckets() {
        for micros in [0, 1, 15, 16, 17, 31, 33, 999, 1_000_000, 60_000_001, 3_600_000_000] {
            let recorder = Recorder::new();
            let time = Duration::from_micros(micros);
            (0..10).for_each(|_| recorder.record(time));
            let (sum, real) = (recorder.snapshot().sum().as_secs_f64(), 10.0 * time.as_secs_f64());
            assert!(
                (sum - real).abs() <= (0.032 * real).max(10.0 * 0.5e-6) + 1e-9,
                "{micros}: {sum}"
            );
        }
        assert_eq!(Recorder::new().snapshot().with_zeros(5).sum(), Duration::ZERO);
        let beyond = Recorder::new();
        beyond.record_many(Duration::MAX, u64::MAX);
        assert!(beyond.snapshot().sum() > Duration::from_secs(u64::MAX / 2), "no overflow");
    }

    #[test]
    fn buckets_and_counts_say_the_same() {
        let recorder = Recorder::new();
        (1..=100).for_each(|ms| recorder.record(Duration::from_millis(ms)));
        let times = recorder.snapshot();
        assert_eq!(times.buckets().map(|(_, count)| count).sum::<u64>(), times.count());
        assert!(times.buckets().is_sorted_by(|a, b| a.0 < b.0));
        let mut seen = 0;
        for (end, count) in times.buckets() {
            seen += count;
            assert_eq!(times.count_at_most(end), seen);
        }
        for ms in [1, 10, 50, 100] {
            let at_most = times.count_at_most(Duration::from_millis(ms));
            assert!((ms..=ms + ms / 16 + 1).contains(&at_most), "{at_most} within {ms} ms");
        }
        assert_eq!(times.count_at_most(Duration::ZERO), 0);
        assert_eq!(times.count_at_most(Duration::MAX), 100);
    }

    #[test]
    fn the_difference_of_two_snapshots_is_what_came_between() {
        let recorder = Recorder::new();
        recorder.record(Duration::from_millis(1));
        let earlier = recorder.snapshot().with_zeros(3);
        recorder.record(Duration::from_secs(1));
        let since = recorder.snapshot().with_zeros(4).since(&earlier);
        assert_eq!((since.count(), since.count_at_most(Duration::ZERO)), (2, 1));
        let sum = since.sum().as_secs_f64();
        assert!((sum - 1.0).abs() < 0.032, "{sum}");
    }

    #[test]
    fn a_time_beyond_the_last_bucket_is_counted_in_it() {
        let recorder = Recorder::new();
        recorder.record(Duration::MAX);
        assert_eq!(recorder.snapshot().count(), 1);
    }
}
