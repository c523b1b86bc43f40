use std::time::Duration;

use tokio::time::Instant;

use crate::sync::figure::{AtomicU64, Ordering::Relaxed};

/// The rate at which calls end, measured over windows while a queue existed.
///
/// Ending a call costs nothing here. The drain task, or a caller being refused, already has the
/// time and the count of ended calls, and [`look`](Self::look)s now and then. Each window is at
/// least `MIN_WINDOW` long and has at least `MIN_ENDS` ends. The rate is a moving average of
/// windows with weight ½, and follows a change within about two windows. If two threads race at the
/// end of the same window, the window loses some precision at worst.
#[derive(Debug)]
pub(crate) struct DrainRate {
    origin: Instant,
    /// The start of the window, in microseconds after `origin`.
    began: AtomicU64,
    /// The count of ended calls at the start of the window, or [`UNCOUNTED`].
    ended: AtomicU64,
    /// Ends per second, as the bits of an `f64`; 0 until measured.
    rate: AtomicU64,
}

/// The shortest window. Long enough to average over a few calls, short enough to have a rate soon
/// after a burst begins.
const MIN_WINDOW: Duration = Duration::from_millis(100);
/// The fewest ends in a window.
const MIN_ENDS: u64 = 8;
/// The shortest life of a queue for a window to begin. A shorter queue costs no count of the ended
/// calls, which is a sum of some eighty counters.
const MIN_AGE: Duration = Duration::from_millis(1);
const UNCOUNTED: u64 = u64::MAX;
/// The longest window. After this long without a look no queue existed, and the window says nothing
/// about the inner's rate.
const MAX_WINDOW: Duration = Duration::from_secs(10);

impl DrainRate {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            origin: now,
            began: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            rate: AtomicU64::new(0),
        }
    }

    /// Takes note that a queue forms. A new window starts at the first look at least [`MIN_AGE`]
    /// later. Earlier ends must not count.
    #[inline]
    pub(crate) fn begin(&self, now: Instant) {
        self.began.store(self.micros(now), Relaxed);
        self.ended.store(UNCOUNTED, Relaxed);
    }

    fn begin_window(&self, now: Instant, ended: u64) {
        self.began.store(self.micros(now), Relaxed);
        self.ended.store(ended, Relaxed);
    }

    /// Updates the rate if the window has ended. Only then calls `ended` for the count of ended
    /// calls.
    pub(crate) fn look(&self, now: Instant, ended: impl FnOnce() -> u64) {
        let (began, micros) = (self.began.load(Relaxed), self.micros(now));
        let window = Duration::from_micros(micros.saturating_sub(began));
        let before = self.ended.load(Relaxed);
        if before == UNCOUNTED {
            if window >= MIN_AGE {
                self.begin_window(now, ended());
            }
            return;
        }
        if window < MIN_WINDOW {
            return;
        }
        let ended = ended();
        let count = ended.saturating_sub(before);
        if window > MAX_WINDOW {
            self.begin_window(now, ended);
        } else if count >= MIN_ENDS
            && self.began.compare_exchange(began, micros, Relaxed, Relaxed).is_ok()
        {
            self.ended.store(ended, Relaxed);
            let measured = count as f64 / window.as_secs_f64();
            let rate = self.per_second().map_or(measured, |known| (known + measured) / 2.0);
            self.rate.store(rate.to_bits(), Relaxed);
        }
    }

    pub(crate) fn per_second(&self) -> Option<f64> {
        let rate = f64::from_bits(self.rate.load(Relaxed));
        (rate > 0.0).then_some(rate)
    }

    fn micros(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.origin);
        since.as_secs() * 1_000_000 + u64::from(since.subsec_micros())
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
        rate.look(at(60_000), || 1000);
        assert_eq!(rate.per_second(), None, "nobody knows how much of that time there was work");
        rate.begin(at(61_000));
        (1..=20).for_each(|nth| rate.look(at(61_000 + 10 * nth), || 5000 + nth));
        let measured = rate.per_second().expect("two windows have passed");
        assert!((99.0..=101.0).contains(&measured), "{measured}");
    }
}
