use std::{fmt, sync::OnceLock, time::Duration};

use super::{
    counters::PRIORITIES,
    stripe::{Stripe, Striped},
};
use crate::{
    class::Priority,
    sync::figure::{AtomicU64, Ordering::Relaxed},
};

/// The number of sub-buckets per power of two, as a power of two: 16. A bucket is at most 1/16 of
/// its value wide.
const PRECISION: u32 = 4;
const SUB: u64 = 1 << PRECISION;
/// The first `SUB` buckets are one microsecond wide. The next 32 doublings reach 19 hours.
const BUCKETS: usize = (SUB as usize) * 33;

/// A histogram recorded while calls run.
///
/// No histogram crate is used: every call records times, from many threads, so recording has to be
/// one relaxed addition. `hdrhistogram` records through `&mut self`. The layout is that of
/// `hdrhistogram`: linear buckets within powers of two.
#[derive(Default)]
pub(crate) struct Recorder(Striped<Buckets>);

impl Recorder {
    #[inline]
    pub(crate) fn record(&self, time: Duration) {
        let mine = Stripe::mine();
        self.0.of(mine).add(mine, time, 1);
    }

    pub(crate) fn snapshot(&self) -> Histogram {
        self.0.all().fold(Histogram::default(), Buckets::add_to)
    }
}

/// A histogram for each priority, recorded while calls run.
#[derive(Default)]
pub(crate) struct PriorityRecorder(Striped<[Buckets; PRIORITIES]>);

impl PriorityRecorder {
    #[inline]
    pub(crate) fn record(&self, priority: Priority, time: Duration) {
        self.record_many(priority, time, 1);
    }

    /// Records the same time `count` times.
    #[inline]
    pub(crate) fn record_many(&self, priority: Priority, time: Duration, count: u64) {
        let mine = Stripe::mine();
        self.0.of(mine)[priority.index()].add(mine, time, count);
    }

    pub(crate) fn snapshot(&self, priority: Priority) -> Histogram {
        let stripes = self.0.all().map(|stripe| &stripe[priority.index()]);
        stripes.fold(Histogram::default(), Buckets::add_to)
    }
}

/// The buckets of one stripe: 4.1 KiB, allocated when the first time is recorded. Most levelers use
/// one priority, and never remove a request.
#[derive(Default)]
struct Buckets(OnceLock<Box<[AtomicU64; BUCKETS]>>);

impl Buckets {
    #[inline]
    fn add(&self, mine: Stripe, time: Duration, count: u64) {
        let buckets = self.0.get().map_or_else(|| self.make(), |buckets| &**buckets);
        mine.add(&buckets[bucket_of(time)], count);
    }

    #[cold]
    fn make(&self) -> &[AtomicU64; BUCKETS] {
        self.0.get_or_init(|| Box::new([const { AtomicU64::new(0) }; BUCKETS]))
    }

    fn add_to(mut sum: Histogram, Self(buckets): &Self) -> Histogram {
        let Some(buckets) = buckets.get() else { return sum };
        sum.buckets.resize(BUCKETS, 0);
        for (sum, count) in sum.buckets.iter_mut().zip(buckets.iter()) {
            *sum += count.load(Relaxed);
        }
        sum
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.snapshot(), f)
    }
}

impl fmt::Debug for PriorityRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(Priority::EACH.map(|priority| self.snapshot(priority))).finish()
    }
}

/// The distribution of a time, as a snapshot from [`Stats`](crate::stats::Stats).
///
/// Buckets are at most 1/16 (6.25 %) of their value wide, and at least a microsecond.
#[derive(Clone, Default)]
pub struct Histogram {
    /// The counts. Empty if nothing was recorded but zeros.
    buckets: Vec<u64>,
    /// Times known to be exactly zero, beside the times in `buckets`.
    zeros: u64,
}

impl Histogram {
    /// Adds `count` times of zero.
    pub(crate) fn with_zeros(mut self, count: u64) -> Self {
        self.zeros += count;
        self
    }

    /// Adds the times of another histogram.
    pub(crate) fn plus(mut self, other: &Self) -> Self {
        self.buckets.resize(self.buckets.len().max(other.buckets.len()), 0);
        for (sum, count) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum += count;
        }
        self.with_zeros(other.zeros)
    }

    /// Returns the number of times known to be exactly zero.
    pub(super) fn zeros(&self) -> u64 {
        self.zeros
    }

    /// Returns the times recorded after `earlier`, an earlier snapshot of the same histogram.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let before = earlier.buckets.iter().copied().chain(std::iter::repeat(0));
        let pairs = self.buckets.iter().zip(before);
        let buckets = pairs.map(|(now, before)| now.saturating_sub(before)).collect();
        Self { buckets, zeros: self.zeros.saturating_sub(earlier.zeros) }
    }

    /// Returns the non-empty buckets, the shortest first: the longest time of each, and the number
    /// of times.
    ///
    /// Times are counted in whole microseconds, rounded down.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        let all = self.counts().enumerate();
        all.filter(|(_, count)| *count > 0).map(|(bucket, count)| (end_of(bucket), count))
    }

    /// Returns the counts of the buckets, zeros included, up to the last recorded bucket.
    fn counts(&self) -> impl Iterator<Item = u64> {
        let (first, others) = self.buckets.split_first().unwrap_or((&0, &[]));
        std::iter::once(first + self.zeros).chain(others.iter().copied())
    }

    /// Returns the middle of each bucket with its number of times. Times known to be zero come
    /// separately.
    #[cfg(feature = "metrics")]
    pub(crate) fn middles(&self) -> impl Iterator<Item = (Duration, u64)> {
        let all = self.buckets.iter().enumerate();
        let others = all.map(|(bucket, count)| {
            (Duration::from_nanos(twice_the_middle(bucket).saturating_mul(500)), *count)
        });
        let zeros = (Duration::ZERO, self.zeros);
        std::iter::once(zeros).chain(others).filter(|(_, count)| *count > 0)
    }

    /// Returns how many of the recorded times are at most `time`. Times in the same bucket as
    /// `time` count, so up to 6.25 % longer ones are included.
    #[must_use]
    pub fn count_at_most(&self, time: Duration) -> u64 {
        self.counts().take(bucket_of(time) + 1).sum()
    }

    /// Returns the sum of the recorded times, each taken as the middle of its bucket: within 3.2 %,
    /// or 0.5 µs for each time below 16 µs. A time above 19 hours counts as 19 hours. The wait of a
    /// call that did not wait is exactly zero.
    #[must_use]
    pub fn sum(&self) -> Duration {
        let all = self.buckets.iter().enumerate();
        let twice = |bucket: usize| u128::from(twice_the_middle(bucket));
        let sum: u128 = all.map(|(bucket, count)| twice(bucket) * u128::from(*count)).sum();
        let nanos = sum.saturating_mul(500);
        let seconds = u64::try_from(nanos / 1_000_000_000).unwrap_or(u64::MAX);
        Duration::new(seconds, (nanos % 1_000_000_000) as u32)
    }

    /// Returns the number of recorded times.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts().sum()
    }

    /// Returns the time not exceeded by a share `q` of all recorded times: `quantile(0.99)` is the
    /// 99th percentile, rounded up to the end of the bucket.
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
        let reaches = |in_bucket: u64| {
            seen += in_bucket;
            seen >= rank
        };
        self.counts().position(reaches).map(end_of)
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

/// Returns the middle of a bucket, in half microseconds. The bucket reaches from its start to just
/// below the next.
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
        let recorder = Recorder::default();
        (1..=100).for_each(|ms| recorder.record(Duration::from_millis(ms)));
        let times = recorder.snapshot();
        let p99 = times.quantile(0.99).expect("a hundred were recorded").as_secs_f64();
        assert!((0.099..0.099 * 1.0625).contains(&p99), "{p99}");
        assert!(times.quantile(0.0) < times.quantile(0.5));
        assert_eq!(Recorder::default().snapshot().quantile(0.5), None);
        assert_eq!(times.quantile(f64::NAN), None);
    }

    #[test]
    fn the_sum_is_within_the_width_of_the_buckets() {
        for micros in [0, 1, 15, 16, 17, 31, 33, 999, 1_000_000, 60_000_001, 3_600_000_000] {
            let recorder = Recorder::default();
            let time = Duration::from_micros(micros);
            (0..10).for_each(|_| recorder.record(time));
            let (sum, real) = (recorder.snapshot().sum().as_secs_f64(), 10.0 * time.as_secs_f64());
            assert!(
                (sum - real).abs() <= (0.032 * real).max(10.0 * 0.5e-6) + 1e-9,
                "{micros}: {sum}"
            );
        }
        assert_eq!(Recorder::default().snapshot().with_zeros(5).sum(), Duration::ZERO);
        let beyond = Recorder::default();
        let mine = Stripe::mine();
        beyond.0.of(mine).add(mine, Duration::MAX, u64::MAX);
        assert!(beyond.snapshot().sum() > Duration::from_secs(u64::MAX / 2), "no overflow");
    }

    #[test]
    fn buckets_and_counts_say_the_same() {
        let recorder = Recorder::default();
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
        let recorder = Recorder::default();
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
        let recorder = Recorder::default();
        recorder.record(Duration::MAX);
        assert_eq!(recorder.snapshot().count(), 1);
    }
}
