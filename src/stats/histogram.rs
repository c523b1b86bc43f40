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
        self.buckets.mine()[bucket_of(time)].fetch_add(1, Relaxed);
    }

    pub(crate) fn snapshot(&self) -> Histogram {
        let mut buckets = vec![0; BUCKETS];
        for stripe in self.buckets.all() {
            for (sum, count) in buckets.iter_mut().zip(stripe.iter()) {
                *sum += count.load(Relaxed);
            }
        }
        Histogram { buckets }
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
}

impl Histogram {
    /// Adds `count` times of zero.
    pub(crate) fn with_zeros(mut self, count: u64) -> Self {
        self.buckets[0] += count;
        self
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
    let bucket = bucket as u64;
    if bucket < SUB {
        return Duration::from_micros(bucket);
    }
    let exponent = bucket / SUB - 1;
    let start = SUB + bucket % SUB;
    Duration::from_micros(((start + 1) << exponent) - 1)
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
    fn a_time_beyond_the_last_bucket_is_counted_in_it() {
        let recorder = Recorder::new();
        recorder.record(Duration::MAX);
        assert_eq!(recorder.snapshot().count(), 1);
    }
}
