//! Times as they are kept: coarse and small for each second of the last minutes, fine for the last
//! seconds.

use std::{collections::BTreeMap, time::Duration};

use tower_load_leveling::stats::Histogram;

use crate::scale::bucket_of;

/// The times of a second, for the page to draw.
#[derive(Debug)]
pub(crate) struct Times {
    pub(crate) p50: Option<Duration>,
    pub(crate) p99: Option<Duration>,
    /// For each bucket with times in it: the bucket, and the count in seven bits a byte, the lowest
    /// first. A second of a busy leveler has some ten buckets, so this takes a tenth of an array.
    packed: Box<[u8]>,
}

impl Times {
    pub(crate) fn of(times: &Histogram) -> Self {
        let mut counts = BTreeMap::<usize, u64>::new();
        for (end, count) in times.buckets() {
            *counts.entry(bucket_of(end)).or_default() += count;
        }
        let mut packed = Vec::new();
        for (bucket, count) in counts {
            pack(&mut packed, bucket, count);
        }
        Self { p50: times.quantile(0.5), p99: times.quantile(0.99), packed: packed.into() }
    }

    /// Returns the buckets with times in them, and the number of times.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = (usize, u64)> {
        let mut bytes = self.packed.iter().copied();
        std::iter::from_fn(move || {
            let bucket = bytes.next()?;
            let (mut count, mut shift) = (0, 0);
            for byte in bytes.by_ref() {
                count |= u64::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            Some((usize::from(bucket), count))
        })
    }
}

fn pack(packed: &mut Vec<u8>, bucket: usize, mut count: u64) {
    packed.push(bucket as u8);
    while count >= 0x80 {
        packed.push(count as u8 | 0x80);
        count >>= 7;
    }
    packed.push(count as u8);
}

/// The times of a second as they were counted, in microseconds up to 71 minutes: for quantiles of
/// several seconds.
#[derive(Debug)]
pub(crate) struct Fine(Box<[(u32, u32)]>);

impl Fine {
    pub(crate) fn of(times: &Histogram) -> Self {
        let small = |count: u128| u32::try_from(count).unwrap_or(u32::MAX);
        let buckets = times.buckets();
        Self(buckets.map(|(end, count)| (small(end.as_micros()), small(count.into()))).collect())
    }
}

/// The times of several seconds.
pub(crate) struct Merged(BTreeMap<u32, u64>);

impl Merged {
    pub(crate) fn of<'a>(parts: impl Iterator<Item = &'a Fine>) -> Self {
        let mut merged = BTreeMap::new();
        for (end, count) in parts.flat_map(|part| &*part.0) {
            *merged.entry(*end).or_default() += u64::from(*count);
        }
        Self(merged)
    }

    /// Returns the time that a share `q` of all does not exceed, as [`Histogram::quantile`] does.
    pub(crate) fn quantile(&self, q: f64) -> Option<Duration> {
        let count: u64 = self.0.values().sum();
        let rank = ((q * count as f64).ceil() as u64).max(1);
        let mut seen = 0;
        let reached = self.0.iter().find(|(_, in_bucket)| {
            seen += **in_bucket;
            seen >= rank
        });
        reached.map(|(end, _)| Duration::from_micros((*end).into()))
    }
}

/// Returns the wait as it is told beside the wait limit: the end of a bucket may lie above the
/// limit by the bucket's width, a sixteenth, though no wait in it does.
pub(crate) fn within(wait: Option<Duration>, max_wait: Option<Duration>) -> Option<Duration> {
    let (wait, Some(max_wait)) = (wait?, max_wait) else { return wait };
    let is_rounding = wait > max_wait && wait.mul_f64(16.0 / 17.0) <= max_wait;
    Some(if is_rounding { max_wait } else { wait })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn what_is_packed_comes_out_again() {
        let counts = [(0, 1), (3, 127), (4, 128), (39, u64::MAX)];
        let mut packed = Vec::new();
        for (bucket, count) in counts {
            pack(&mut packed, bucket, count);
        }
        let times = Times { p50: None, p99: None, packed: packed.into() };
        assert_eq!(times.buckets().collect::<Vec<_>>(), counts);
    }

    #[test]
    fn quantiles_of_parts_are_those_of_the_whole() {
        let parts = [Fine([(1000, 50), (2000, 10)].into()), Fine([(1000, 39), (90_000, 1)].into())];
        let merged = Merged::of(parts.iter());
        assert_eq!(merged.quantile(0.5), Some(MS));
        assert_eq!(merged.quantile(0.99), Some(2 * MS));
        assert_eq!(merged.quantile(1.0), Some(90 * MS));
        assert_eq!(Merged::of([].into_iter()).quantile(0.5), None);
    }

    #[test]
    fn a_wait_is_not_told_above_the_limit_for_the_width_of_a_bucket() {
        let told = |ms| within(Some(ms * MS), Some(250 * MS));
        assert_eq!(
            (told(254), told(249), told(300)),
            (Some(250 * MS), Some(249 * MS), Some(300 * MS))
        );
        assert_eq!(within(Some(MS), None), Some(MS));
    }
}
