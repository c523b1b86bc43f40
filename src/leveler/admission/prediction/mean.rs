use std::time::Duration;

use crate::{
    rng::{is_one_in, seed},
    sync::figure::{AtomicU64, Ordering::Relaxed},
};

/// A moving mean in a single word: nanoseconds as the bits of an `f32`, and the number of samples.
///
/// Each sample moves the mean by a fiftieth of the difference, and by more at first, so the mean
/// covers some 50 calls. If two threads record at once, a sample may be lost.
#[derive(Debug, Default)]
pub(super) struct Mean(AtomicU64);

/// The number of samples from which every new sample weighs a fiftieth. A larger number follows
/// changes more slowly.
pub(super) const MEMORY: u32 = 50;

/// The mean in nanoseconds below which calls are sampled. As many calls of this length as the mean
/// covers then take some milliseconds in one slot.
const SHORT: f32 = 10_000.0;

/// The mean of short calls covers as many times [`MEMORY`] calls. A larger number spares little
/// more, and follows changes more slowly.
const SAMPLED_OF: u64 = 8;

impl Mean {
    pub(super) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Returns the mean in nanoseconds, and the number of samples.
    #[inline]
    pub(super) fn load(&self) -> (f32, u32) {
        let word = self.0.load(Relaxed);
        (f32::from_bits((word >> 32) as u32), word as u32)
    }

    #[inline]
    pub(super) fn store(&self, nanos: f32, samples: u32) {
        self.0.store(u64::from(nanos.to_bits()) << 32 | u64::from(samples), Relaxed);
    }

    #[inline]
    pub(super) fn record(&self, nanos: f32) {
        let (known, samples) = self.load();
        let samples = samples.saturating_add(1);
        self.store(known + (nanos - known) / samples.min(MEMORY) as f32, samples);
    }

    /// Records a call, or leaves it out. Of very short calls, all threads would write this word
    /// every few hundred nanoseconds, so one call in [`SAMPLED_OF`] is recorded, drawn at random.
    #[inline]
    pub(super) fn sample(&self, nanos: f32) {
        let (known, samples) = self.load();
        let is_sampled = samples >= MEMORY && known < SHORT;
        if !is_sampled || is_one_in(SAMPLED_OF, seed()) {
            self.record(nanos);
        }
    }

    pub(super) fn get(&self) -> Option<Duration> {
        let (nanos, samples) = self.load();
        (samples > 0).then(|| Duration::from_nanos(nanos as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn of_short_calls_a_part_is_recorded_and_long_calls_are_noticed() {
        let mean = Mean::default();
        (0..8000).for_each(|_| mean.sample(1000.0));
        let (known, samples) = mean.load();
        assert!((known - 1000.0).abs() < 1.0);
        assert!((500..2000).contains(&samples), "{samples}");
        (0..1000).for_each(|_| mean.sample(1e6));
        let known = mean.get().expect("recorded");
        assert!(known.abs_diff(MS) < MS / 100, "{known:?}");
    }

    #[test]
    fn the_mean_follows_what_is_measured() {
        let mean = Mean::default();
        (1..=9).for_each(|ms| mean.record(ms as f32 * 1e6));
        let known = mean.get().expect("nine samples");
        assert!(known.abs_diff(MS * 5) < MS / 100, "at first a plain mean: {known:?}");
        (0..200).for_each(|_| mean.record(50e6));
        let known = mean.get().expect("more");
        assert!(known.abs_diff(MS * 50) < MS, "{known:?}");
    }
}
