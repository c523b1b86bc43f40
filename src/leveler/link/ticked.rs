use std::time::Duration;

use tokio::time::Instant;

use crate::sync::figure::{AtomicU64, Ordering::Relaxed};

/// The time of the last tick for the limit algorithm, as seen from outside of the drain task.
#[derive(Debug)]
pub(crate) struct Ticked {
    origin: Instant,
    /// In nanoseconds after `origin`, or `OFF`.
    at: AtomicU64,
}

/// The ticker is off.
const OFF: u64 = u64::MAX;

/// A tick this long ago is overdue: ten times the interval between ticks.
const OVERDUE: Duration = Duration::from_millis(100);

impl Ticked {
    pub(super) fn new() -> Self {
        Self { origin: Instant::now(), at: AtomicU64::new(OFF) }
    }

    /// Takes note of a tick, or of the end of all ticks.
    pub(crate) fn set(&self, now: Option<Instant>) {
        let at = now.map_or(OFF, |now| self.nanos(now));
        // Mostly the ticker is off, and others read on the same cache line.
        if self.at.load(Relaxed) != at {
            self.at.store(at, Relaxed);
        }
    }

    /// Returns whether the ticker is on and has not ticked for long. Its runtime may not be driven.
    #[inline]
    pub(crate) fn is_overdue(&self, now: Instant) -> bool {
        let at = self.at.load(Relaxed);
        at != OFF && self.nanos(now) > at.saturating_add(OVERDUE.as_nanos() as u64)
    }

    fn nanos(&self, now: Instant) -> u64 {
        // The cast is exact for five centuries.
        now.saturating_duration_since(self.origin).as_nanos() as u64
    }
}
