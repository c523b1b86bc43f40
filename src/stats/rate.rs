use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;

/// How often calls end, measured over windows in which there was work.
///
/// Each window is at least `WINDOW` long and has at least `ENOUGH` ends in it; the rate is a moving
/// average of windows with weight ½, so it follows a change within about two of them. A race between
/// two threads at the end of a window costs at most one window's precision.
#[derive(Debug)]
pub(crate) struct DrainRate {
    origin: Instant,
    /// When the window began, in microseconds after `origin`.
    began: AtomicU64,
    ended: AtomicU64,
    /// Ends per second, as the bits of an `f64`; 0 until measured.
    rate: AtomicU64,
}

/// Long enough to average over a few calls, short enough to be known soon after a burst begins.
const WINDOW: Duration = Duration::from_millis(100);
const ENOUGH: u64 = 8;

impl DrainRate {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            origin: now,
            began: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            rate: AtomicU64::new(0),
        }
    }

    /// Work begins after a time without any, which must not count.
    pub(crate) fn begin(&self, now: Instant) {
        self.began.store(self.micros(now), Relaxed);
        self.ended.store(0, Relaxed);
    }

    /// A call has ended.
    pub(crate) fn on_end(&self, now: Instant) {
        let ended = self.ended.fetch_add(1, Relaxed) + 1;
        let (began, now) = (self.began.load(Relaxed), self.micros(now));
        let window = now.saturating_sub(began);
        if ended < ENOUGH || u128::from(window) < WINDOW.as_micros() {
            return;
        }
        if self.began.compare_exchange(began, now, Relaxed, Relaxed).is_ok() {
            let ended = self.ended.swap(0, Relaxed);
            let measured = ended as f64 / (window as f64 / 1e6);
            let rate = self.per_second().map_or(measured, |known| (known + measured) / 2.0);
            self.rate.store(rate.to_bits(), Relaxed);
        }
    }

    pub(crate) fn per_second(&self) -> Option<f64> {
        let rate = f64::from_bits(self.rate.load(Relaxed));
        (rate > 0.0).then_some(rate)
    }

    /// How long `calls` calls take to end, at the rate measured.
    pub(crate) fn time_for(&self, calls: usize) -> Option<Duration> {
        self.per_second().and_then(|rate| Duration::try_from_secs_f64(calls as f64 / rate).ok())
    }

    fn micros(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.origin).as_micros()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_only_while_there_is_work() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let rate = DrainRate::new(start);
        assert_eq!(rate.per_second(), None);
        rate.begin(at(60_000));
        (1..=20).for_each(|i| rate.on_end(at(60_000 + 10 * i)));
        let measured = rate.per_second().expect("two windows have passed");
        assert!((99.0..=101.0).contains(&measured), "{measured}");
        let time = rate.time_for(50).expect("the rate is known");
        assert!((0.49..0.51).contains(&time.as_secs_f64()), "{time:?}");
    }
}
