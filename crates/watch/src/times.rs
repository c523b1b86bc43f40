//! Times in little memory: coarse buckets for each second of the last minutes, fine buckets for the
//! last seconds.

use std::{collections::BTreeMap, time::Duration};

use tower_load_leveling::stats::Histogram;

use crate::scale::bucket_of;

/// A time in microseconds, in four bytes: up to 71 minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Micros(u32);

impl From<Duration> for Micros {
    fn from(time: Duration) -> Self {
        Self(u32::try_from(time.as_micros()).unwrap_or(u32::MAX))
    }
}

impl Micros {
    pub(crate) fn as_millis(self) -> f64 {
        f64::from(self.0) / 1e3
    }
}

/// The times of a second, for the page to draw.
#[derive(Debug)]
pub(crate) struct Times {
    pub(crate) p50: Option<Micros>,
    pub(crate) p99: Option<Micros>,
    /// For each used bucket its number, and its count in seven bits a byte, the lowest first. A
    /// second of a busy leveler uses some ten buckets: a tenth of the memory of an array.
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
        let quantile = |q| times.quantile(q).map(Micros::from);
        Self { p50: quantile(0.5), p99: quantile(0.99), packed: packed.into() }
    }

    /// Returns the used buckets, and the number of times in each.
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

/// The times of a second in the buckets of [`Histogram`]: for quantiles of several seconds.
#[derive(Debug)]
pub(crate) struct Fine(Box<[(Micros, u32)]>);

impl Fine {
    pub(crate) fn of(times: &Histogram) -> Self {
        let small = |count| u32::try_from(count).unwrap_or(u32::MAX);
        Self(times.buckets().map(|(end, count)| (end.into(), small(count))).collect())
    }
}

/// The times of several seconds.
pub(crate) struct Merged(BTreeMap<Micros, u64>);

impl Merged {
    pub(crate) fn of<'a>(parts: impl Iterator<Item = &'a Fine>) -> Self {
        let mut merged = BTreeMap::new();
        for (end, count) in parts.flat_map(|part| &*part.0) {
            *merged.entry(*end).or_default() += u64::from(*count);
        }
        Self(merged)
    }

    /// Returns the time that a share `q` of all does not exceed, as [`Histogram::quantile`] does.
    pub(crate) fn quantile(&self, q: f64) -> Option<Micros> {
        let count: u64 = self.0.values().sum();
        let rank = ((q * count as f64).ceil() as u64).max(1);
        let mut seen = 0;
        let reached = self.0.iter().find(|(_, in_bucket)| {
            seen += **in_bucket;
            seen >= rank
        });
        reached.map(|(end, _)| *end)
    }
}

/// Returns the wait limit for a wait that exceeds the limit by rounding alone. The end of a bucket
/// may lie above the limit by a sixteenth, the width of the bucket.
pub(crate) fn within(wait: Option<Micros>, max_wait: Option<Micros>) -> Option<Micros> {
    let (wait, Some(max_wait)) = (wait?, max_wait) else { return wait };
    let is_rounding = wait > max_wait && f64::from(wait.0) * 16.0 / 17.0 <= f64::from(max_wait.0);
    Some(if is_rounding { max_wait } else { wait })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u32) -> Micros {
        Micros(1000 * millis)
    }

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
        let parts =
            [Fine([(ms(1), 50), (ms(2), 10)].into()), Fine([(ms(1), 39), (ms(90), 1)].into())];
        let merged = Merged::of(parts.iter());
        assert_eq!(merged.quantile(0.5), Some(ms(1)));
        assert_eq!(merged.quantile(0.99), Some(ms(2)));
        assert_eq!(merged.quantile(1.0), Some(ms(90)));
        assert_eq!(Merged::of([].into_iter()).quantile(0.5), None);
    }

    #[test]
    fn a_wait_is_not_told_above_the_limit_for_the_width_of_a_bucket() {
        let told = |wait| within(Some(ms(wait)), Some(ms(250)));
        assert_eq!(told(254), Some(ms(250)));
        assert_eq!((told(249), told(300)), (Some(ms(249)), Some(ms(300))));
        assert_eq!(within(Some(ms(1)), None), Some(ms(1)));
    }
}
