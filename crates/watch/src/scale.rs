//! The scale of times on the page: two buckets for each doubling.

use std::time::Duration;

/// The number of buckets of the scale.
pub(crate) const BUCKETS: usize = 40;

/// The end of the first bucket, in milliseconds: 1/16 ms. A shorter time is no wait to a person.
const FIRST: f64 = 0.0625;

/// Returns the longest time of a bucket, in milliseconds. The last bucket begins at half a minute,
/// and has all longer times too.
pub(crate) fn end_of(bucket: usize) -> f64 {
    FIRST * (bucket as f64 / 2.0).exp2()
}

/// Returns the bucket of a time.
pub(crate) fn bucket_of(time: Duration) -> usize {
    let millis = time.as_secs_f64() * 1e3;
    if millis <= FIRST {
        return 0;
    }
    // The cast saturates.
    let bucket = (2.0 * (millis / FIRST).log2()).ceil() as usize;
    bucket.min(BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_is_in_the_bucket_that_ends_next() {
        assert_eq!(bucket_of(Duration::ZERO), 0);
        assert_eq!(bucket_of(Duration::MAX), BUCKETS - 1);
        for micros in [1, 62, 63, 88, 89, 1_000, 250_000, 4_000_000, 32_000_000] {
            let (millis, bucket) = (micros as f64 / 1e3, bucket_of(Duration::from_micros(micros)));
            assert!(millis <= end_of(bucket), "{millis} ms");
            assert!(bucket == 0 || millis > end_of(bucket - 1), "{millis} ms");
        }
    }
}
